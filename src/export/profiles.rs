//! Similar groups and defenses as parts of the table, the Markdown page and the JSON record.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::markdown::escape;
use crate::kb::id::{AttackId, Kind};
use crate::profile::{Defense, Defenses, OVERLAP_WARNING, Shared, SimilarGroups};
use crate::rank::Mapping;
use crate::text::shown::{fit, printable};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const ID: Style = AnsiColor::Cyan.on_default().bold();
/// Lines of each list of defenses for a reader; JSON has all.
const LISTED: usize = 20;

fn three(number: f32) -> f64 {
    (f64::from(number) * 1000.0).round() / 1000.0
}

fn ids(list: &[AttackId]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn kind_words(kind: Kind) -> String {
    let words = kind.name().replace("-", " ");
    match words.strip_suffix("y") {
        Some(stem) => format!("{stem}ies"),
        None => format!("{words}s"),
    }
}

/// "T1003.001", or "T1003.001 (T1003.003)" where another of the family is recorded.
fn shared(s: &Shared) -> String {
    if s.is_same() { s.id.to_string() } else { format!("{} (there {})", s.id, ids(&s.recorded).join(", ")) }
}

/// The JSON of similar groups.
pub(crate) fn similar_json(similar: &SimilarGroups) -> Value {
    let groups = similar.groups.iter().map(|g| {
        let shared = g.shared.iter().map(|s| json!({"id": s.id.to_string(), "name": s.name, "recorded": ids(&s.recorded)}));
        json!({
            "id": g.id.to_string(), "name": g.name, "score": three(g.score), "coverage": three(g.coverage),
            "recorded": g.recorded, "shared": shared.collect::<Vec<_>>(),
        })
    });
    json!({
        "warning": OVERLAP_WARNING, "compared": similar.compared, "techniques": similar.techniques,
        "groups": groups.collect::<Vec<_>>(),
    })
}

/// The JSON of defenses.
pub(crate) fn defenses_json(d: &Defenses) -> Value {
    let list = |list: &[Defense]| {
        list.iter().map(|d| json!({"id": d.id.to_string(), "name": d.name, "techniques": ids(&d.techniques)})).collect::<Vec<_>>()
    };
    json!({
        "relations_version": d.relations_version,
        "techniques": d.techniques.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
        "mitigations": list(&d.mitigations),
        "detection_strategies": list(&d.detection_strategies),
        "data_components": list(&d.data_components),
        "without_mitigation": ids(&d.without_mitigation),
        "without_detection": ids(&d.without_detection),
        "not_recorded": d.not_recorded.iter().map(|k| k.name()).collect::<Vec<_>>(),
    })
}

/// Why there is no similar group, where there is none.
fn no_groups(similar: &SimilarGroups) -> &'static str {
    match (similar.compared, similar.techniques) {
        (0, _) => "This knowledge base records no techniques of any group.",
        (_, 0) => "No technique to compare.",
        _ => "No group is recorded with any of them.",
    }
}

/// What the lists of defenses lack, in sentences.
fn gaps(d: &Defenses) -> Vec<String> {
    let mut out: Vec<String> =
        d.not_recorded.iter().map(|k| format!("This knowledge base relates no {} to any technique.", kind_words(*k))).collect();
    let mut gap = |what: &str, list: &[AttackId]| {
        if !list.is_empty() {
            out.push(format!("No {what} recorded by ATT&CK {} for {}.", d.relations_version, ids(list).join(", ")));
        }
    };
    if !d.not_recorded.contains(&Kind::Mitigation) {
        gap("mitigation", &d.without_mitigation);
    }
    if !d.not_recorded.contains(&Kind::DetectionStrategy) || !d.not_recorded.contains(&Kind::DataComponent) {
        gap("detection", &d.without_detection);
    }
    out
}

fn lists(d: &Defenses) -> [(&'static str, &[Defense]); 3] {
    [("Mitigations", &d.mitigations), ("Detection strategies", &d.detection_strategies), ("Data components", &d.data_components)]
}

/// Lines of words, each as wide as there is room.
fn paragraph(out: &mut String, text: &str, indent: usize, width: usize, style: Style) {
    let mut line = String::new();
    let mut put = |line: &str| {
        let _ = writeln!(out, "{:indent$}{style}{line}{style:#}", "");
    };
    for word in text.split(' ') {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > width {
            put(&line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    put(&line);
}

/// The sections of the table; nothing where they were not asked for.
pub(crate) fn table(out: &mut String, mapping: &Mapping, width: usize) {
    let width = width.max(60);
    if let Some(similar) = &mapping.similar_groups {
        let _ = writeln!(out, "\n{BOLD}Groups with similar techniques{BOLD:#}");
        paragraph(out, OVERLAP_WARNING, 0, width, DIM);
        if similar.groups.is_empty() {
            let _ = writeln!(out, "{}", no_groups(similar));
        }
        for g in &similar.groups {
            let _ = writeln!(
                out,
                "{ID}{:<11}{ID:#}{:<42}{:>4.2}  {DIM}covers {:.0} %; {} recorded{DIM:#}",
                g.id,
                fit(&printable(&g.name), 41),
                g.score,
                g.coverage * 100.0,
                count(g.recorded, "technique")
            );
            let (same, near): (Vec<&Shared>, Vec<&Shared>) = g.shared.iter().partition(|s| s.is_same());
            for (label, list) in [("the same", same), ("in the family", near)] {
                if !list.is_empty() {
                    let names: Vec<String> = list.iter().map(|s| shared(s)).collect();
                    paragraph(out, &format!("{label}: {}", names.join(", ")), 11, width, DIM);
                }
            }
        }
    }
    if let Some(d) = &mapping.defenses {
        for (heading, list) in lists(d) {
            if list.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n{BOLD}{heading}{BOLD:#} {DIM}for the {} found{DIM:#}", count(d.techniques.len(), "technique"));
            for defense in list.iter().take(LISTED) {
                let of = ids(&defense.techniques).join(", ");
                let name = fit(&printable(&defense.name), 49);
                let _ = write!(out, "{ID}{:<11}{ID:#}{name:<50}{DIM}{:>2}{DIM:#}", defense.id, defense.techniques.len());
                if 65 + of.len() <= width {
                    let _ = writeln!(out, "{DIM}  {of}{DIM:#}");
                } else {
                    out.push('\n');
                    paragraph(out, &of, 11, width, DIM);
                }
            }
            if list.len() > LISTED {
                let _ = writeln!(out, "{:11}{DIM}and {} more (json and markdown have all){DIM:#}", "", list.len() - LISTED);
            }
        }
        if d.techniques.is_empty() {
            let _ = writeln!(out, "\n{BOLD}Defenses{BOLD:#}\nNo technique to look up.");
        }
        let gaps = gaps(d);
        if !gaps.is_empty() && !d.techniques.is_empty() {
            let _ = writeln!(out, "\n{BOLD}Gaps in the knowledge base{BOLD:#}");
            for gap in gaps {
                paragraph(out, &gap, 0, width, Style::new());
            }
        }
    }
}

/// The sections of the Markdown page.
pub(crate) fn markdown(out: &mut String, mapping: &Mapping) {
    let link = |id: AttackId| format!("[{id}]({})", id.url());
    if let Some(similar) = &mapping.similar_groups {
        let _ = writeln!(out, "\n### Groups with similar techniques\n\n**{OVERLAP_WARNING}**\n");
        if similar.groups.is_empty() {
            let _ = writeln!(out, "{}", no_groups(similar));
        } else {
            let _ = writeln!(out, "| ID | Group | Score | Covers | Recorded | Shared |\n| --- | --- | ---: | ---: | ---: | --- |");
        }
        for g in &similar.groups {
            let names: Vec<String> = g.shared.iter().map(shared).collect();
            let _ = writeln!(
                out,
                "| {} | {} | {:.2} | {:.0} % | {} | {} |",
                link(g.id),
                escape(&g.name),
                g.score,
                g.coverage * 100.0,
                g.recorded,
                names.join(", ")
            );
        }
    }
    if let Some(d) = &mapping.defenses {
        for (heading, list) in lists(d) {
            if list.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n### {heading}\n\n| ID | Name | Techniques | Which |\n| --- | --- | ---: | --- |");
            for defense in list {
                let of = ids(&defense.techniques).join(", ");
                let _ = writeln!(out, "| {} | {} | {} | {of} |", link(defense.id), escape(&defense.name), defense.techniques.len());
            }
        }
        if d.techniques.is_empty() {
            let _ = writeln!(out, "\n### Defenses\n\nNo technique to look up.");
        }
        let gaps = gaps(d);
        if !gaps.is_empty() && !d.techniques.is_empty() {
            let _ = writeln!(out, "\n### Gaps in the knowledge base\n");
            for gap in gaps {
                let _ = writeln!(out, "- {gap}");
            }
        }
    }
}
