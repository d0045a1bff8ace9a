//! An ATT&CK Navigator layer, format 4.5, of what a text asserts.
//!
//! Written so that both the Navigator and mitreattack-python take all of it: whole scores from 0 to 100, one
//! entry for each (technique, tactic) that exists, no null, no key that either doesn't know.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Source;
use crate::index::Index;
use crate::rank::{Evidence, Found, Mapping};
use crate::status::Status;
use crate::text::Document;

const NAVIGATOR_VERSION: &str = "5.1.0";
const LAYER_VERSION: &str = "4.5";
/// Pale to strong: scores are confidences in percent.
const GRADIENT: [&str; 2] = ["#fff3d6", "#d9480f"];
/// The surest techniques of each tactic on top.
const BY_SCORE: u8 = 3;
/// Pieces of evidence quoted in a comment, and characters of each.
const COMMENT_PIECES: usize = 5;
const COMMENT_CHARS: usize = 240;

#[derive(Serialize)]
struct Layer {
    name: String,
    versions: Versions,
    domain: &'static str,
    description: String,
    sorting: u8,
    layout: Layout,
    #[serde(rename = "hideDisabled")]
    hide_disabled: bool,
    techniques: Vec<Entry>,
    gradient: Gradient,
    #[serde(rename = "legendItems")]
    legend_items: Vec<LegendItem>,
    metadata: Vec<Metadata>,
    #[serde(rename = "showTacticRowBackground")]
    show_tactic_row_background: bool,
    #[serde(rename = "selectTechniquesAcrossTactics")]
    select_techniques_across_tactics: bool,
    #[serde(rename = "selectSubtechniquesWithParent")]
    select_subtechniques_with_parent: bool,
}

#[derive(Serialize)]
struct Versions {
    attack: String,
    navigator: &'static str,
    layer: &'static str,
}

#[derive(Serialize)]
struct Layout {
    layout: &'static str,
    #[serde(rename = "showID")]
    show_id: bool,
    #[serde(rename = "showName")]
    show_name: bool,
    #[serde(rename = "aggregateFunction")]
    aggregate_function: &'static str,
    #[serde(rename = "expandedSubtechniques")]
    expanded_subtechniques: &'static str,
}

#[derive(Serialize)]
struct Entry {
    #[serde(rename = "techniqueID")]
    technique_id: String,
    tactic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u8>,
    comment: String,
    enabled: bool,
    metadata: Vec<Metadata>,
    #[serde(rename = "showSubtechniques")]
    show_subtechniques: bool,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct LegendItem {
    label: String,
    color: String,
}

#[derive(Serialize)]
struct Gradient {
    colors: Vec<&'static str>,
    #[serde(rename = "minValue")]
    min_value: u8,
    #[serde(rename = "maxValue")]
    max_value: u8,
}

/// The layer of one document's mapping. Techniques whose status is not asked for are left out; asserted ones are
/// meant where `statuses` is empty.
///
/// # Panics
/// Never: the layer is strings and whole numbers.
pub fn layer<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, statuses: &[Status]) -> String {
    let wanted = |f: &&Found| if statuses.is_empty() { f.status == Status::Asserted } else { statuses.contains(&f.status) };
    let found: Vec<&Found> = mapping.techniques.iter().filter(wanted).collect();
    let title = source.title.clone().unwrap_or_else(|| source.source.clone());
    let mut techniques: Vec<Entry> = found.iter().flat_map(|f| entries(document, f, statuses)).collect();
    // A sub-technique shows only where its parent is open: an entry without a score opens it.
    let ids: BTreeSet<String> = techniques.iter().map(|t| t.technique_id.clone()).collect();
    let mut opened = BTreeSet::new();
    for f in found.iter().filter(|f| f.id.is_subtechnique()) {
        let parent = f.id.parent().to_string();
        for tactic in tactics(f) {
            if ids.contains(&parent) {
                for entry in techniques.iter_mut().filter(|t| t.technique_id == parent && t.tactic == *tactic) {
                    entry.show_subtechniques = true;
                }
            }
            let there = techniques.iter().any(|t| t.technique_id == parent && t.tactic == *tactic);
            let exists = index.get(f.id.parent()).is_some_and(|p| p.tactics().any(|t| t.short_name() == tactic));
            if exists && !there && opened.insert((parent.clone(), tactic.clone())) {
                techniques.push(Entry {
                    technique_id: parent.clone(),
                    tactic: tactic.clone(),
                    score: None,
                    comment: String::new(),
                    enabled: true,
                    metadata: Vec::new(),
                    show_subtechniques: true,
                });
            }
        }
    }
    techniques.sort_by(|a, b| (&a.technique_id, &a.tactic).cmp(&(&b.technique_id, &b.tactic)));
    let named = |list: &[Found]| list.iter().map(|f| format!("{} {}", f.id, f.name)).collect::<Vec<_>>().join(", ");
    let mut metadata = vec![meta("source", &source.source), meta("written by", concat!("ttpmap ", env!("CARGO_PKG_VERSION")))];
    for (name, list) in [("groups", &mapping.groups), ("software", &mapping.software), ("campaigns", &mapping.campaigns)] {
        if !list.is_empty() {
            metadata.push(meta(name, &named(list)));
        }
    }
    let layer = Layer {
        name: clean(&title, 200),
        versions: Versions { attack: major(index.version()), navigator: NAVIGATOR_VERSION, layer: LAYER_VERSION },
        domain: index.domain().attack_name(),
        description: format!(
            "{} techniques in {}, mapped by ttpmap to ATT&CK {}. Score: confidence in percent.",
            found.len(),
            clean(&source.source, 200),
            index.version()
        ),
        sorting: BY_SCORE,
        layout: Layout {
            layout: "side",
            show_id: true,
            show_name: true,
            aggregate_function: "average",
            expanded_subtechniques: "annotated",
        },
        hide_disabled: false,
        techniques,
        gradient: Gradient { colors: GRADIENT.to_vec(), min_value: 0, max_value: 100 },
        legend_items: vec![
            LegendItem { label: "low confidence".into(), color: GRADIENT[0].into() },
            LegendItem { label: "high confidence".into(), color: GRADIENT[1].into() },
        ],
        metadata,
        show_tactic_row_background: false,
        select_techniques_across_tactics: false,
        select_subtechniques_with_parent: false,
    };
    serde_json::to_string_pretty(&layer).expect("strings and whole numbers serialise")
}

/// The Navigator takes a release by its major number.
fn major(version: &str) -> String {
    version.split('.').next().unwrap_or(version).to_owned()
}

fn tactics(found: &Found) -> &[String] {
    if found.fixed_tactics.is_empty() { &found.tactics } else { &found.fixed_tactics }
}

fn entries(document: &Document, found: &Found, statuses: &[Status]) -> Vec<Entry> {
    let wanted = |e: &&Evidence| if statuses.is_empty() { e.status == Status::Asserted } else { statuses.contains(&e.status) };
    let pieces: Vec<&Evidence> = found.evidence.iter().filter(wanted).collect();
    let quote = |e: &&Evidence| format!("line {}: {}", e.line, clean(e.segment.of(document.text()), COMMENT_CHARS));
    let mut comment: Vec<String> = pieces.iter().take(COMMENT_PIECES).map(quote).collect();
    if pieces.len() > COMMENT_PIECES {
        comment.push(format!("and {} more", pieces.len() - COMMENT_PIECES));
    }
    let mut metadata = vec![
        meta("status", found.status.name()),
        meta("evidence", &pieces.len().to_string()),
        meta("lines", &pieces.iter().map(|e| e.line.to_string()).collect::<Vec<_>>().join(", ")),
    ];
    if let Some(old) = found.redirected_from {
        metadata.push(meta("redirected from", &old.to_string()));
    }
    let score = (found.confidence * 100.0).round().clamp(0.0, 100.0) as u8;
    let entry = |tactic: &String| Entry {
        technique_id: found.id.to_string(),
        tactic: tactic.clone(),
        score: Some(score),
        comment: comment.join("\n"),
        enabled: true,
        metadata: metadata.iter().map(|m| meta(&m.name, &m.value)).collect(),
        show_subtechniques: false,
    };
    tactics(found).iter().map(entry).collect()
}

fn meta(name: &str, value: &str) -> Metadata {
    Metadata { name: name.to_owned(), value: clean(value, 400) }
}

/// One line of at most so many characters, without control characters.
fn clean(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most).collect();
    format!("{}…", cut.trim_end())
}
