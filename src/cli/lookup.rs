//! `ttpmap lookup`: a card for one clear answer, a list where it is open.

use std::fmt::Write;
use std::io::{self, BufRead};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::args::LookupArgs;
use super::settings::Settings;
use super::{Outcome, open_index};
use ttpmap::export::{csv, markdown};
use ttpmap::index::ObjectRef;
use ttpmap::kb::{RelationKind, State};
use ttpmap::lookup::{Answer, is_clear, lookup};
use ttpmap::text::shown::{fit, printable};
use ttpmap::{Index, Kind};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const ID: Style = AnsiColor::Cyan.on_default().bold();
/// Names shown of a list on a card.
const LISTED: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
    Jsonl,
    Csv,
    Markdown,
}

pub(crate) fn run(args: &LookupArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let index = open_index(settings)?;
    let format = format(args, settings)?;
    let kinds = args
        .kind
        .iter()
        .map(|k| Kind::ALL.into_iter().find(|kind| kind.name() == k).with_context(|| format!("`{k}` is not a kind: {}", kind_names())))
        .collect::<anyhow::Result<Vec<Kind>>>()?;
    let queries = queries(&args.query)?;
    let mut out = if format == Format::Csv { csv::row(COLUMNS) } else { String::new() };
    let mut all_found = true;
    for query in &queries {
        let mut answers = lookup(&index, query);
        answers.retain(|a| kinds.is_empty() || kinds.contains(&a.object.id().kind()));
        answers.truncate(args.top);
        all_found &= !answers.is_empty();
        match format {
            Format::Table => table(&mut out, &index, query, &answers),
            Format::Json => {}
            Format::Csv => out.extend(answers.iter().map(|a| csv_row(query, a))),
            Format::Markdown => markdown_page(&mut out, &index, query, &answers),
            Format::Jsonl => {
                for answer in &answers {
                    let _ = writeln!(out, "{}", Value::Object(object_json(query, answer)));
                }
            }
        }
        if format == Format::Json {
            let list: Vec<Value> = answers.iter().map(|a| Value::Object(object_json(query, a))).collect();
            let _ = writeln!(out, "{}", serde_json::to_string_pretty(&list)?);
        }
        if answers.is_empty() {
            settings.say(&format!("nothing in ATT&CK {} is near `{}`{}", index.version(), printable(query), hint(&index, query)));
        }
    }
    settings.write_styled(&out)?;
    Ok(if all_found { Outcome::Done } else { Outcome::Unmet })
}

/// Flag, then the name of the output file, then the configuration file, whose format may be one of `map` alone.
fn format(args: &LookupArgs, settings: &Settings) -> anyhow::Result<Format> {
    use ttpmap::export::Format as MapFormat;
    let of_name = settings.output.as_deref().and_then(MapFormat::of_path).map(MapFormat::name);
    match args.format.as_deref().or(of_name) {
        Some("table") => Ok(Format::Table),
        Some("json") => Ok(Format::Json),
        Some("jsonl") => Ok(Format::Jsonl),
        Some("csv") => Ok(Format::Csv),
        Some("markdown") => Ok(Format::Markdown),
        Some(other) if MapFormat::ALL.iter().any(|f| f.name() == other) => {
            bail!("`{other}` is a format of `map` alone, not of `lookup`: choose table, json, jsonl, csv, markdown")
        }
        Some(other) => bail!("`{other}` is not a format: choose table, json, jsonl, csv, markdown"),
        None => Ok(match settings.config.format.as_deref() {
            Some("json") => Format::Json,
            Some("jsonl") => Format::Jsonl,
            Some("csv") => Format::Csv,
            Some("markdown") => Format::Markdown,
            _ => Format::Table,
        }),
    }
}

fn kind_names() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

/// The arguments as one query, or a query a line from standard input.
fn queries(words: &[String]) -> anyhow::Result<Vec<String>> {
    if words != ["-"] {
        return Ok(vec![words.join(" ")]);
    }
    let mut queries = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line.context("reading standard input")?;
        if !line.trim().is_empty() {
            queries.push(line);
        }
    }
    Ok(queries)
}

/// What to try where nothing is near.
fn hint<D: AsRef<[u8]>>(index: &Index<D>, query: &str) -> String {
    if query.parse::<ttpmap::AttackId>().is_ok() {
        return format!(" (no such ID in the {} domain; `--domain` chooses another, `ttpmap update` a newer release)", index.domain());
    }
    let query = query.trim().to_lowercase();
    if query.strip_prefix("ds").is_some_and(|number| number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit())) {
        return String::from(" (ATT&CK has no data sources any more: see data components, DC, and detection strategies, DET)");
    }
    let alike = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &query);
    let mut near: Vec<(f64, String)> = index
        .objects()
        .filter(|o| o.state() == State::Active && o.id().kind() != Kind::Analytic)
        .filter_map(|o| {
            // Of names that are equally near, its own.
            let names = o.aliases().chain(std::iter::once(o.name())).map(|name| (alike(name), name));
            names.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(score, name)| (score, format!("{name} ({})", o.id())))
        })
        .filter(|(score, _)| *score >= 0.78)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let names: Vec<String> = near.into_iter().take(3).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

fn table<D: AsRef<[u8]>>(out: &mut String, index: &Index<D>, query: &str, answers: &[Answer<'_, D>]) {
    if !out.is_empty() && !answers.is_empty() {
        out.push('\n');
    }
    if is_clear(answers) {
        card(out, index, &answers[0]);
        let others: Vec<String> = answers[1..].iter().take(3).map(|a| format!("{} {}", a.object.id(), a.object.full_name())).collect();
        if !others.is_empty() && answers[0].score < 1.0 {
            let _ = writeln!(out, "\n{DIM}also near `{}`: {}{DIM:#}", printable(query), others.join("; "));
        }
        return;
    }
    for answer in answers {
        let object = answer.object;
        let old = answer.redirected_from.map(|id| format!(" (was {id})")).unwrap_or_default();
        let also = if ttpmap::lookup::fold(object.name()) == answer.matched {
            String::new()
        } else {
            format!("  “{}”", printable(&answer.matched))
        };
        let _ = writeln!(
            out,
            "{ID}{:<11}{ID:#}{:<46}{DIM}{}{also}{old}{DIM:#}",
            object.id(),
            fit(&object.full_name(), 45),
            object.id().kind().name()
        );
    }
}

/// The columns of csv; an answer is a row.
const COLUMNS: [&str; 14] = [
    "query",
    "id",
    "name",
    "full_name",
    "kind",
    "matched",
    "score",
    "status",
    "redirected_from",
    "tactics",
    "platforms",
    "aliases",
    "url",
    "gloss",
];

fn csv_row<D: AsRef<[u8]>>(query: &str, answer: &Answer<'_, D>) -> String {
    let object = answer.object;
    let tactics: Vec<&str> = object.tactics().map(ObjectRef::short_name).collect();
    let (platforms, aliases) = (object.platforms().collect::<Vec<_>>(), object.aliases().collect::<Vec<_>>());
    csv::row([
        query,
        &object.id().to_string(),
        object.name(),
        &object.full_name(),
        object.id().kind().name(),
        &answer.matched,
        &format!("{:.3}", answer.score),
        object.state().name(),
        &answer.redirected_from.map(|id| id.to_string()).unwrap_or_default(),
        &tactics.join(" "),
        &platforms.join("; "),
        &aliases.join("; "),
        &object.id().url(),
        object.gloss(),
    ])
}

/// A list of fields for one clear answer, a table where it is open; as the terminal gets it.
fn markdown_page<D: AsRef<[u8]>>(out: &mut String, index: &Index<D>, query: &str, answers: &[Answer<'_, D>]) {
    if answers.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let link = |o: ObjectRef<'_, D>| format!("[{}]({})", o.id(), o.id().url());
    if is_clear(answers) {
        let object = answers[0].object;
        let state = if object.state() == State::Active { String::new() } else { format!(", {}", object.state().name()) };
        let _ = writeln!(out, "## {} {}\n", link(object), markdown::escape(&object.full_name()));
        let version = markdown::escape(index.version());
        let _ = writeln!(out, "{}{state}, ATT&CK {} {version}", object.id().kind().name().replace('-', " "), index.domain());
        if let Some(old) = answers[0].redirected_from {
            let _ = writeln!(out, "\n{old} was revoked; this is its successor.");
        }
        let description = if object.description().is_empty() { object.gloss() } else { object.description() };
        if !description.is_empty() {
            let _ = writeln!(out, "\n{}", markdown::prose(description));
        }
        let fields = fields(index, object);
        if !fields.is_empty() {
            out.push('\n');
        }
        for (label, value) in fields {
            let _ = writeln!(out, "- {label}: {}", markdown::prose(&value));
        }
        return;
    }
    let _ = writeln!(out, "## Near {}\n\n| ID | Name | Kind | Score |\n| --- | --- | --- | ---: |", markdown::code(query, false));
    for answer in answers {
        let object = answer.object;
        let old = answer.redirected_from.map(|id| format!(" (was {id})")).unwrap_or_default();
        let name = markdown::escape(&object.full_name());
        let _ = writeln!(out, "| {} | {name}{old} | {} | {:.2} |", link(object), object.id().kind().name(), answer.score);
    }
}

fn line(out: &mut String, label: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let width = terminal_size::terminal_size().map_or(100, |(w, _)| usize::from(w.0)).clamp(60, 140) - 15;
    let mut first = true;
    for row in wrap(value, width) {
        let _ = writeln!(out, "{DIM}{:<13}{DIM:#}  {row}", if first { label } else { "" });
        first = false;
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split_whitespace() {
        let row = rows.last_mut().expect("there is always a row");
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > width {
            rows.push(word.to_owned());
        } else {
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(word);
        }
    }
    rows
}

/// The names of the other ends of some relations, the first of them and how many more.
fn names<'a, D: AsRef<[u8]> + 'a>(objects: impl Iterator<Item = ObjectRef<'a, D>>) -> String {
    let mut all: Vec<ObjectRef<'a, D>> = objects.filter(|o| o.state() == State::Active).collect();
    all.sort_by_key(|o| o.id());
    all.dedup_by_key(|o| o.id());
    let shown: Vec<String> = all.iter().take(LISTED).map(|o| format!("{} {}", o.id(), o.name())).collect();
    let more = all.len().saturating_sub(LISTED);
    if more > 0 { format!("{}, and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// What a card says of an object, with what it says it under; only what there is.
fn fields<D: AsRef<[u8]>>(index: &Index<D>, object: ObjectRef<'_, D>) -> Vec<(&'static str, String)> {
    let id = object.id();
    let mut out: Vec<(&'static str, String)> = Vec::new();
    let mut put = |label: &'static str, value: &str| {
        if !value.is_empty() {
            out.push((label, value.to_owned()));
        }
    };
    put("tactics", &object.tactics().map(|t| format!("{} {}", t.id(), t.name())).collect::<Vec<_>>().join(", "));
    put("platforms", &object.platforms().collect::<Vec<_>>().join(", "));
    put("also known as", &object.aliases().collect::<Vec<_>>().join(", "));
    put("formerly", &object.former_names().collect::<Vec<_>>().join(", "));
    put("parent", &object.parent().map(|p| format!("{} {}", p.id(), p.name())).unwrap_or_default());
    match id.kind() {
        Kind::Technique => {
            put("subs", &names(object.subtechniques()));
            let by = |kind: RelationKind, source: Kind| {
                names(object.incoming().filter(move |r| r.kind == kind && r.source.id().kind() == source).map(|r| r.source))
            };
            put("groups", &by(RelationKind::Uses, Kind::Group));
            put("software", &by(RelationKind::Uses, Kind::Software));
            put("campaigns", &by(RelationKind::Uses, Kind::Campaign));
            put("mitigations", &by(RelationKind::Mitigates, Kind::Mitigation));
            put("detection", &by(RelationKind::Detects, Kind::DetectionStrategy));
            put("data", &by(RelationKind::Detects, Kind::DataComponent));
        }
        Kind::Tactic => {
            let members = index.of_kind(Kind::Technique).filter(|t| !t.id().is_subtechnique() && t.tactics().any(|x| x.id() == id));
            put("techniques", &names(members));
        }
        _ => {
            let to = |kind: Kind| names(object.outgoing().filter(move |r| r.target.id().kind() == kind).map(|r| r.target));
            let from = |kind: Kind| names(object.incoming().filter(move |r| r.source.id().kind() == kind).map(|r| r.source));
            put("techniques", &to(Kind::Technique));
            for kind in [Kind::Software, Kind::Group, Kind::Campaign, Kind::Analytic, Kind::DataComponent] {
                put(kind.name(), &to(kind));
            }
            for (kind, label) in [
                (Kind::Group, "used by"),
                (Kind::Campaign, "campaigns"),
                (Kind::DetectionStrategy, "part of"),
                (Kind::Analytic, "analytics"),
            ] {
                put(label, &from(kind));
            }
        }
    }
    out
}

fn card<D: AsRef<[u8]>>(out: &mut String, index: &Index<D>, answer: &Answer<'_, D>) {
    let object = answer.object;
    let id = object.id();
    let state = if object.state() == State::Active { String::new() } else { format!("  [{}]", object.state().name()) };
    let _ = writeln!(
        out,
        "{ID}{id}{ID:#}  {BOLD}{}{BOLD:#}  {DIM}{}, ATT&CK {}{state}{DIM:#}",
        object.full_name(),
        id.kind().name(),
        index.version()
    );
    if let Some(old) = answer.redirected_from {
        let name = index.get(old).map(ObjectRef::name).unwrap_or_default();
        let _ = writeln!(out, "{:<13}  {old} {name} was revoked; this is its successor", "");
    }
    let description = if object.description().is_empty() { object.gloss() } else { object.description() };
    let description = printable(&fit(description, 700));
    line(out, "", &description);
    for (label, value) in fields(index, object) {
        line(out, label, &value);
    }
    line(out, "link", &id.url());
}

fn object_json<D: AsRef<[u8]>>(query: &str, answer: &Answer<'_, D>) -> Map<String, Value> {
    let object = answer.object;
    let ids = |list: Vec<ObjectRef<'_, D>>| {
        let mut list: Vec<_> = list.into_iter().filter(|o| o.state() == State::Active).map(ObjectRef::id).collect();
        list.sort_unstable();
        list.dedup();
        list.into_iter().map(|id| id.to_string()).collect::<Vec<_>>()
    };
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    put("id", json!(object.id().to_string()));
    put("name", json!(object.name()));
    put("kind", json!(object.id().kind().name()));
    put("matched", json!(answer.matched));
    put("score", json!((f64::from(answer.score) * 1000.0).round() / 1000.0));
    put("redirected_from", json!(answer.redirected_from.map(|id| id.to_string())));
    put("query", json!(query));
    put("full_name", json!(object.full_name()));
    put("status", json!(object.state().name()));
    put("aliases", json!(object.aliases().collect::<Vec<_>>()));
    put("former_names", json!(object.former_names().collect::<Vec<_>>()));
    put("url", json!(object.id().url()));
    put("stix_id", json!(ttpmap::export::stix::reference_of_attack(object)));
    put("description", json!(object.description()));
    put("gloss", json!(object.gloss()));
    put("platforms", json!(object.platforms().collect::<Vec<_>>()));
    match object.id().kind() {
        Kind::Technique => {
            put("tactics", json!(object.tactics().map(ObjectRef::short_name).collect::<Vec<_>>()));
            put("parent", json!(object.parent().map(|p| p.id().to_string())));
            put("subtechniques", json!(ids(object.subtechniques().collect())));
            let by = |kind: RelationKind, source: Kind| {
                ids(object.incoming().filter(|r| r.kind == kind && r.source.id().kind() == source).map(|r| r.source).collect())
            };
            put("groups", json!(by(RelationKind::Uses, Kind::Group)));
            put("software", json!(by(RelationKind::Uses, Kind::Software)));
            put("campaigns", json!(by(RelationKind::Uses, Kind::Campaign)));
            put("mitigations", json!(by(RelationKind::Mitigates, Kind::Mitigation)));
            put("detection_strategies", json!(by(RelationKind::Detects, Kind::DetectionStrategy)));
        }
        Kind::Tactic => put("short_name", json!(object.short_name())),
        _ => {
            let to = |kind: Kind| ids(object.outgoing().filter(|r| r.target.id().kind() == kind).map(|r| r.target).collect());
            put("techniques", json!(to(Kind::Technique)));
            put("software", json!(to(Kind::Software)));
            put("groups", json!(to(Kind::Group)));
        }
    }
    map
}
