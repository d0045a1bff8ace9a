//! Layers out of lists, groups, software, tactics, platforms and mapped narratives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::tags::{Separated, separated};
use super::upgrade::{Upgrade, clip};
use super::{Entry, Gradient, Layer, LegendItem, Metadata};
use crate::index::{Index, ObjectRef};
use crate::kb::id::{AttackId, Kind, scan};
use crate::kb::{RelationKind, State};

/// Pale to strong.
pub const GRADIENT: [&str; 2] = ["#fff3d6", "#d9480f"];
/// The score of an annotation that has none: it would not show otherwise.
pub const FULL_SCORE: f64 = 100.0;
/// Of a comment, in characters.
const COMMENT_CHARS: usize = 1000;
/// Comments kept for a technique; a tooltip has no room for more.
const COMMENTS: usize = 50;

/// A line of a list: what is to be annotated, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// A technique, or what stands for several: a tactic, group, software, ...
    pub id: AttackId,
    /// A tactic in any of its forms.
    pub tactic: Option<String>,
    /// The score.
    pub score: Option<f64>,
    /// The comment; may be empty.
    pub comment: String,
    /// A colour.
    pub color: Option<String>,
}

impl Annotation {
    /// An annotation of nothing but an ID.
    pub fn new(id: AttackId) -> Annotation {
        Annotation { id, tactic: None, score: None, comment: String::new(), color: None }
    }
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads a list: `T1059.001`, `T1059.001 80`, `T1059.001 80 "a comment"`, several IDs a line, or separated columns with
/// a heading (technique, tactic, score, comment, color; by comma, semicolon or tab). Empty lines and those that begin
/// with `#` are passed over; a line that can't be read does not end it.
pub fn annotations(text: &str) -> (Vec<Annotation>, Vec<BadLine>) {
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')).unwrap_or_default();
    for delimiter in [',', ';', '\t'] {
        let table = separated(first, delimiter);
        if let Some(heading) = table.rows.first().and_then(|row| Heading::of(&table, row)) {
            return columns(&separated(text, delimiter), &heading);
        }
    }
    let (mut out, mut bad) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match line_annotations(line) {
            Ok(list) => out.extend(list),
            Err(what) => bad.push(BadLine { line: number + 1, what }),
        }
    }
    (out, bad)
}

/// The annotations of one line of a list.
///
/// # Errors
/// Where it does not begin with an ID, saying so.
pub fn line_annotations(line: &str) -> Result<Vec<Annotation>, String> {
    let is_gap = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|');
    let mut rest = line.trim_matches(is_gap);
    let mut out: Vec<Annotation> = Vec::new();
    loop {
        let found = scan(rest.as_bytes()).filter(|(_, length)| rest[*length..].chars().next().is_none_or(|c| is_gap(c) || c == ':'));
        let Some((id, length)) = found else { break };
        out.push(Annotation::new(id));
        rest = rest[length..].trim_start_matches(|c| is_gap(c) || c == ':');
    }
    let Some(last) = out.last_mut() else { return Err(format!("`{}` does not begin with an ATT&CK ID", clip(line))) };
    let (word, after) = rest.split_once(is_gap).unwrap_or((rest, ""));
    if let Ok(score) = word.parse::<f64>()
        && score.is_finite()
    {
        last.score = Some(score);
        rest = after.trim_start_matches(is_gap);
    }
    let comment = rest.trim();
    let comment = comment.strip_prefix('"').and_then(|c| c.strip_suffix('"')).unwrap_or(comment);
    last.comment = comment.chars().take(COMMENT_CHARS).collect();
    Ok(out)
}

/// Which column holds what.
struct Heading {
    id: usize,
    tactic: Option<usize>,
    score: Option<usize>,
    comment: Option<usize>,
    color: Option<usize>,
}

impl Heading {
    fn of(table: &Separated<'_>, row: &[std::ops::Range<usize>]) -> Option<Heading> {
        let names: Vec<String> = row.iter().map(|cell| crate::lookup::fold(&table.cell(cell))).collect();
        let find = |known: &[&str]| names.iter().position(|n| known.contains(&n.as_str()));
        Some(Heading {
            id: find(super::tags::TECHNIQUE_COLUMNS).or_else(|| find(&["id"]))?,
            tactic: find(super::tags::TACTIC_COLUMNS),
            score: find(&["score", "confidence", "value", "count"]),
            comment: find(&["comment", "comments", "note", "notes", "description"]),
            color: find(&["color", "colour"]),
        })
    }
}

fn columns(table: &Separated<'_>, heading: &Heading) -> (Vec<Annotation>, Vec<BadLine>) {
    let (mut out, mut bad) = (Vec::new(), Vec::new());
    for row in &table.rows[1..] {
        let cell =
            |column: Option<usize>| column.and_then(|c| row.get(c)).map(|c| table.cell(c).trim().to_owned()).filter(|c| !c.is_empty());
        let line = table.line(row);
        if row.iter().all(|c| table.cell(c).trim().is_empty()) {
            continue;
        }
        let ids = line_annotations(&cell(Some(heading.id)).unwrap_or_default());
        let score = cell(heading.score).map(|s| s.parse::<f64>().ok().filter(|s| s.is_finite()).ok_or(s)).transpose();
        match (ids, score) {
            (Err(what), _) => bad.push(BadLine { line, what }),
            (_, Err(text)) => bad.push(BadLine { line, what: format!("the score `{}` is no number", clip(text)) }),
            (Ok(ids), Ok(score)) => out.extend(ids.into_iter().map(|a| Annotation {
                score,
                tactic: cell(heading.tactic),
                comment: cell(heading.comment).unwrap_or_default(),
                color: cell(heading.color).map(|c| super::portable::opaque(&c)).filter(|c| c.starts_with('#')),
                ..a
            })),
        }
    }
    (out, bad)
}

/// The techniques that ATT&CK records for an object: those that a group, software or campaign uses, a mitigation
/// mitigates, a data component, detection strategy or analytic detects, a tactic holds; a technique stands for itself.
/// By ID, with what ATT&CK says of the relation, empty where the knowledge base has no prose.
pub fn techniques_of<D: AsRef<[u8]>>(object: ObjectRef<'_, D>, index: &Index<D>) -> BTreeMap<AttackId, String> {
    let mut out = BTreeMap::new();
    let mut take = |from: ObjectRef<'_, D>, kind: RelationKind| {
        for relation in from.outgoing().filter(|r| r.kind == kind) {
            if relation.target.id().kind() == Kind::Technique && relation.target.state() == State::Active {
                out.entry(relation.target.id()).or_insert_with(|| relation.text().to_owned());
            }
        }
    };
    match object.id().kind() {
        Kind::Technique => {
            out.insert(object.id(), String::new());
        }
        Kind::Tactic => {
            let members = index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active);
            out.extend(members.filter(|t| t.tactics().any(|x| x.id() == object.id())).map(|t| (t.id(), String::new())));
        }
        Kind::Group | Kind::Software | Kind::Campaign => take(object, RelationKind::Uses),
        Kind::Mitigation => take(object, RelationKind::Mitigates),
        Kind::DetectionStrategy => take(object, RelationKind::Detects),
        Kind::Analytic => {
            object.incoming().filter(|r| r.kind == RelationKind::Contains).for_each(|r| take(r.source, RelationKind::Detects));
        }
        Kind::DataComponent => {
            take(object, RelationKind::Detects);
            for analytic in object.incoming().filter(|r| r.kind == RelationKind::Contains).map(|r| r.source) {
                for strategy in analytic.incoming().filter(|r| r.kind == RelationKind::Contains).map(|r| r.source) {
                    take(strategy, RelationKind::Detects);
                }
            }
        }
    }
    out
}

/// What is said of one technique in one tactic.
#[derive(Debug, Clone, Default)]
struct Draft {
    scores: Vec<f64>,
    sources: BTreeSet<String>,
    comments: Vec<String>,
    /// Comments beyond [`COMMENTS`], which are only counted.
    more: usize,
    color: Option<String>,
}

/// How the score of a technique comes about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scoring {
    /// This one for all.
    Fixed(f64),
    /// The highest given; [`FULL_SCORE`] where none is given.
    Given,
    /// From how many sources it comes.
    Sources,
}

/// Collects annotations from several sources into one layer.
#[derive(Debug)]
pub struct Maker<'u, 'a, D> {
    upgrade: &'u Upgrade<'a, D>,
    drafts: BTreeMap<(AttackId, Option<String>), Draft>,
    sources: BTreeSet<String>,
}

impl<'u, 'a, D: AsRef<[u8]>> Maker<'u, 'a, D> {
    /// A maker of layers of the release that `upgrade` leads to.
    pub fn new(upgrade: &'u Upgrade<'a, D>) -> Maker<'u, 'a, D> {
        Maker { upgrade, drafts: BTreeMap::new(), sources: BTreeSet::new() }
    }

    /// Adds an annotation, from a source that is counted once for each technique. An ID that stands for several
    /// techniques adds them all. Gives what became of a revoked ID.
    ///
    /// # Errors
    /// Where the release has no such ID, tactic, or nothing for it.
    pub fn add(&mut self, annotation: &Annotation, source: &str) -> Result<String, String> {
        let index = self.upgrade.index();
        let (id, why) = self.upgrade.id(annotation.id)?;
        let object = index.get(id).ok_or_else(|| format!("{id} is not in ATT&CK {}", index.version()))?;
        let own = techniques_of(object, index);
        if own.is_empty() {
            return Err(format!("ATT&CK {} records no technique for {id} {}", index.version(), object.name()));
        }
        self.sources.insert(source.to_owned());
        let fixed = (id.kind() == Kind::Tactic).then(|| object.short_name().to_owned());
        for (technique, prose) in own {
            let tactics: Vec<Option<String>> = match (&annotation.tactic, &fixed) {
                (Some(tactic), _) => {
                    let (placed, _) = self.upgrade.place(technique, tactic)?;
                    placed.into_iter().map(|t| Some(self.upgrade.short_name(t).to_owned())).collect()
                }
                (None, Some(tactic)) => vec![Some(tactic.clone())],
                (None, None) => vec![None],
            };
            for tactic in tactics {
                let draft = self.drafts.entry((technique, tactic)).or_default();
                draft.sources.insert(source.to_owned());
                draft.scores.extend(annotation.score);
                if draft.color.is_none() {
                    draft.color.clone_from(&annotation.color);
                }
                let mut comment = annotation.comment.clone();
                if technique != annotation.id && id.kind() != Kind::Tactic {
                    let named =
                        if id.kind() == Kind::Technique { format!("was {}", annotation.id) } else { format!("{id} {}", object.name()) };
                    let said: Vec<&str> = [&*comment, &*prose].into_iter().filter(|s| !s.is_empty()).collect();
                    comment = if said.is_empty() { named } else { format!("{named}: {}", said.join(" ")) };
                }
                let comment: String = comment.chars().take(COMMENT_CHARS).collect();
                if draft.comments.len() >= COMMENTS {
                    draft.more += usize::from(!comment.is_empty());
                } else if !comment.is_empty() && !draft.comments.contains(&comment) {
                    draft.comments.push(comment);
                }
            }
        }
        Ok(why)
    }

    /// How many sources were added.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// The layer: an entry for each technique and tactic, parents opened.
    pub fn layer(&self, name: &str, scoring: Scoring) -> Layer {
        let index = self.upgrade.index();
        let mut layer = Layer::new(name, index.domain(), index.version());
        // What is said of all tactics of a technique goes to each.
        let mut spread: BTreeMap<(AttackId, String), Draft> = BTreeMap::new();
        for ((id, tactic), draft) in &self.drafts {
            let own = index.get(*id).into_iter().flat_map(ObjectRef::tactics).map(ObjectRef::short_name);
            for tactic in own.filter(|t| tactic.as_ref().is_none_or(|wanted| wanted == t)) {
                let joined = spread.entry((*id, tactic.to_owned())).or_default();
                joined.scores.extend(&draft.scores);
                joined.sources.extend(draft.sources.iter().cloned());
                joined.comments.extend(draft.comments.iter().filter(|c| !joined.comments.contains(c)).cloned().collect::<Vec<_>>());
                joined.more += draft.more;
                joined.color = joined.color.take().or_else(|| draft.color.clone());
            }
        }
        for ((id, tactic), draft) in spread {
            let score = match scoring {
                Scoring::Fixed(score) => score,
                Scoring::Given => super::upgrade::Pick::Max.of(draft.scores).unwrap_or(FULL_SCORE),
                Scoring::Sources => draft.sources.len() as f64,
            };
            let mut entry = Entry { score: Some(score), color: draft.color, ..Entry::new(id, Some(&tactic)) };
            entry.enabled = Some(true);
            if !draft.comments.is_empty() {
                let more = if draft.more > 0 { format!("\nand {} more", draft.more) } else { String::new() };
                entry.comment = Some(draft.comments.join("\n") + &more);
            }
            entry.show_subtechniques = Some(false);
            layer.techniques.push(entry);
        }
        let most = layer.techniques.iter().filter_map(|t| t.score).fold(0.0, f64::max);
        match scoring {
            Scoring::Sources => counted(&mut layer, self.sources.len()),
            _ => graded(&mut layer, if most > 100.0 { most.ceil() } else { 100.0 }, ["low score", "high score"]),
        }
        layer.metadata.push(Metadata::pair("written by", concat!("ttpmap ", env!("CARGO_PKG_VERSION"))));
        open_parents(&mut layer, index);
        layer
    }
}

/// Gives a layer the gradient from 0 to `max`, its legend, and the strongest techniques on top.
pub(crate) fn graded(layer: &mut Layer, max: f64, labels: [&str; 2]) {
    layer.gradient = Some(Gradient { colors: GRADIENT.map(str::to_owned).to_vec(), min: 0.0, max: max.max(2.0) });
    layer.legend = labels.iter().zip(GRADIENT).map(|(label, color)| LegendItem { label: (*label).into(), color: color.into() }).collect();
    layer.sorting = Some(3);
}

/// The same for scores that count.
pub(crate) fn counted(layer: &mut Layer, of: usize) {
    graded(layer, of as f64, ["in none", &format!("in all {of}")]);
}

/// A sub-technique shows only where its parent is open: an entry without a score opens it. Entries are sorted by ID and
/// tactic.
pub fn open_parents<D: AsRef<[u8]>>(layer: &mut Layer, index: &Index<D>) {
    let mut there: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
    for (i, entry) in layer.techniques.iter().enumerate() {
        there.insert((entry.technique_id.clone(), entry.tactic.clone()), i);
    }
    let wanted: Vec<(AttackId, String)> = layer
        .techniques
        .iter()
        .filter(|e| e.is_enabled())
        .filter_map(|e| Some((e.id().filter(|id| id.is_subtechnique())?.parent(), e.tactic.clone()?)))
        .collect();
    for (parent, tactic) in wanted {
        let key = (parent.to_string(), Some(tactic.clone()));
        if let Some(i) = there.get(&key) {
            layer.techniques[*i].show_subtechniques = Some(true);
            continue;
        }
        if index.get(parent).is_some_and(|p| p.tactics().any(|t| t.short_name() == tactic)) {
            there.insert(key, layer.techniques.len());
            let opener = Entry { enabled: Some(true), show_subtechniques: Some(true), ..Entry::new(parent, Some(&tactic)) };
            layer.techniques.push(opener);
        }
    }
    layer.techniques.sort_by(|a, b| (&a.technique_id, &a.tactic).cmp(&(&b.technique_id, &b.tactic)));
}

/// Disables every technique of the release that the layer does not annotate, so that it is greyed out, or hidden where
/// `hide` says so. Parents of annotated sub-techniques stay.
pub fn disable_others<D: AsRef<[u8]>>(layer: &mut Layer, index: &Index<D>, hide: bool) {
    let mut stays: BTreeSet<(AttackId, String)> = BTreeSet::new();
    for entry in layer.techniques.iter().filter(|e| e.is_enabled()) {
        let Some(id) = entry.id() else { continue };
        for tactic in index.get(id).into_iter().flat_map(ObjectRef::tactics).map(|t| t.short_name().to_owned()) {
            if entry.tactic.as_ref().is_none_or(|t| *t == tactic) {
                stays.insert((id.parent(), tactic.clone()));
                stays.insert((id, tactic));
            }
        }
    }
    let there: BTreeSet<(String, Option<String>)> = layer.techniques.iter().map(|e| (e.technique_id.clone(), e.tactic.clone())).collect();
    for technique in index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active) {
        for tactic in technique.tactics().map(ObjectRef::short_name) {
            let known = there.contains(&(technique.id().to_string(), Some(tactic.to_owned())));
            if !known && !stays.contains(&(technique.id(), tactic.to_owned())) {
                layer.techniques.push(Entry { enabled: Some(false), ..Entry::new(technique.id(), Some(tactic)) });
            }
        }
    }
    layer.techniques.sort_by(|a, b| (&a.technique_id, &a.tactic).cmp(&(&b.technique_id, &b.tactic)));
    layer.hide_disabled = Some(hide);
}

/// A record that `map --format json` wrote: what it is of, and its asserted techniques with their confidence in percent.
/// None for any other JSON.
pub fn of_mapping(record: &Value) -> Option<(String, Vec<Annotation>)> {
    if record.get("schema")?.as_str()? != crate::rank::SCHEMA {
        return None;
    }
    let source = record.get("title").or_else(|| record.get("source")).and_then(Value::as_str).unwrap_or("-");
    let id = record.get("id").filter(|id| id.as_str() != Some(source)).map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    let name = id.map_or_else(|| source.to_owned(), |id| format!("{source} {id}"));
    let mut out = Vec::new();
    for technique in record.get("techniques").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| technique.get(key).and_then(Value::as_str);
        let Some(id) = text("id").and_then(|id| id.parse().ok()).filter(|_| text("status") == Some("asserted")) else { continue };
        let evidence = technique.get("evidence").and_then(Value::as_array).into_iter().flatten();
        let pieces = evidence.filter(|e| e.get("status").and_then(Value::as_str) == Some("asserted")).take(3).filter_map(|e| {
            let said = crate::text::shown::printable(e.get("text")?.as_str()?);
            Some(format!("line {}: {said}", e.get("line").and_then(Value::as_u64).unwrap_or(0)))
        });
        out.push(Annotation {
            score: technique.get("confidence").and_then(Value::as_f64).map(|c| (c * 100.0).round()),
            comment: pieces.collect::<Vec<_>>().join("\n"),
            ..Annotation::new(id)
        });
    }
    Some((name, out))
}
