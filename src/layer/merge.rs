//! Several layers as one, and two layers side by side.
//!
//! Both want layers of one release of ATT&CK: bring them there with [`super::upgrade`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::make::{counted, graded, open_parents};
use super::upgrade::Pick;
use super::{Entry, Layer, LegendItem, Metadata};
use crate::index::{Index, ObjectRef};
use crate::kb::State;
use crate::kb::id::AttackId;
use crate::text::shown::{fit, printable};

/// How the scores of a technique become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By the scores themselves.
    Score(Pick),
    /// In how many layers it is annotated.
    Count,
}

/// Which techniques a merged layer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Those that any of the layers annotates: the union.
    #[default]
    Any,
    /// Those that all annotate: the intersection.
    All,
}

/// What a layer annotates, by technique and tactic; an entry for all tactics of a technique stands in each. Of entries
/// for the same the last counts, as in the Navigator.
pub fn annotated<D: AsRef<[u8]>>(layer: &Layer, index: &Index<D>) -> BTreeMap<(AttackId, String), Entry> {
    let mut out = BTreeMap::new();
    for entry in &layer.techniques {
        let Some(technique) = entry.id().and_then(|id| index.get(id)).filter(|t| t.state() == State::Active) else { continue };
        for tactic in technique.tactics().map(ObjectRef::short_name) {
            if entry.tactic.as_ref().is_none_or(|t| t == tactic) {
                let key = (technique.id(), tactic.to_owned());
                if entry.is_annotated() {
                    out.insert(key, entry.clone());
                } else {
                    out.remove(&key);
                }
            }
        }
    }
    out
}

/// The layers as one. The result does not depend on their order, but for its name. Comments, metadata and links are
/// joined; a colour stays where all that have one agree.
pub fn merge<D: AsRef<[u8]>>(layers: &[Layer], index: &Index<D>, how: How, keep: Keep, name: &str) -> Layer {
    let all: Vec<_> = layers.iter().map(|l| annotated(l, index)).collect();
    let keys: BTreeSet<&(AttackId, String)> = all.iter().flat_map(BTreeMap::keys).collect();
    let mut out = Layer::new(name, index.domain(), index.version());
    for key in keys {
        let entries: Vec<&Entry> = all.iter().filter_map(|l| l.get(key)).collect();
        if keep == Keep::All && entries.len() < layers.len() {
            continue;
        }
        let mut entry = Entry { enabled: Some(true), show_subtechniques: Some(false), ..Entry::new(key.0, Some(&key.1)) };
        entry.score = match how {
            How::Count => Some(entries.len() as f64),
            How::Score(pick) => pick.of(entries.iter().filter_map(|e| e.score)),
        };
        let colors: BTreeSet<&String> = entries.iter().filter_map(|e| e.color.as_ref()).filter(|c| !c.is_empty()).collect();
        if let (1, false) = (colors.len(), how == How::Count) {
            entry.color = colors.first().map(|c| (*c).clone());
        }
        let comments: BTreeSet<&String> = entries.iter().filter_map(|e| e.comment.as_ref()).filter(|c| !c.is_empty()).collect();
        if !comments.is_empty() {
            entry.comment = Some(comments.into_iter().cloned().collect::<Vec<_>>().join("\n"));
        }
        entry.metadata = in_order(entries.iter().flat_map(|e| &e.metadata));
        entry.links = in_order(entries.iter().flat_map(|e| &e.links));
        out.techniques.push(entry);
    }
    let most = out.techniques.iter().filter_map(|t| t.score).fold(0.0, f64::max);
    let bound = layers.iter().filter_map(|l| l.gradient.as_ref()).map(|g| g.max).fold(most, f64::max);
    match how {
        How::Count => counted(&mut out, layers.len()),
        How::Score(Pick::Sum) => graded(&mut out, most.ceil(), ["low sum", "high sum"]),
        How::Score(_) => graded(&mut out, bound.ceil(), ["low score", "high score"]),
    }
    let mut names: Vec<&str> = layers.iter().map(|l| &*l.name).collect();
    names.sort_unstable();
    out.metadata.push(Metadata::pair("merged", names.join(", ")));
    out.metadata.push(Metadata::pair("written by", concat!("ttpmap ", env!("CARGO_PKG_VERSION"))));
    open_parents(&mut out, index);
    out
}

/// Each once, in an order that does not depend on that of the layers.
fn in_order<'t, T: Clone + std::fmt::Debug + 't>(all: impl Iterator<Item = &'t T>) -> Vec<T> {
    all.map(|one| (format!("{one:?}"), one)).collect::<BTreeMap<_, _>>().into_values().cloned().collect()
}

/// Where a technique is annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// In the first layer only.
    OnlyA,
    /// In both.
    Both,
    /// In the second layer only.
    OnlyB,
}

impl Side {
    /// Every side, in the order of a table.
    pub const ALL: [Side; 3] = [Side::OnlyA, Side::Both, Side::OnlyB];

    /// Its name, as `--only` takes it and JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Side::OnlyA => "a",
            Side::Both => "both",
            Side::OnlyB => "b",
        }
    }

    /// Told apart with any kind of colour vision (after Okabe and Ito).
    const fn color(self) -> &'static str {
        match self {
            Side::OnlyA => "#e69f00",
            Side::Both => "#009e73",
            Side::OnlyB => "#56b4e9",
        }
    }
}

/// How layers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Compare {
    /// Sub-techniques count as their parents.
    pub parents: bool,
    /// A lower score, or none, counts as not annotated.
    pub min_score: Option<f64>,
}

/// A technique of either layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The technique.
    pub id: AttackId,
    /// Where it is.
    pub side: Side,
    /// Its tactics in either layer, by short name, in matrix order.
    pub tactics: Vec<String>,
    /// Its highest score in the first layer and in the second.
    pub scores: [Option<f64>; 2],
    /// Its comments there.
    pub comments: [String; 2],
}

/// Two layers side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// The names of the layers.
    pub names: [String; 2],
    /// By side, then ID.
    pub rows: Vec<Row>,
}

#[derive(Default)]
struct Half {
    tactics: BTreeSet<String>,
    scores: Vec<f64>,
    comments: Vec<String>,
}

fn half<D: AsRef<[u8]>>(layer: &Layer, index: &Index<D>, compare: Compare) -> BTreeMap<AttackId, Half> {
    let mut out: BTreeMap<AttackId, Half> = BTreeMap::new();
    for ((id, tactic), entry) in annotated(layer, index) {
        if compare.min_score.is_some_and(|min| entry.score.is_none_or(|s| s < min)) {
            continue;
        }
        let half = out.entry(if compare.parents { id.parent() } else { id }).or_default();
        half.tactics.insert(tactic);
        half.scores.extend(entry.score);
        if let Some(comment) = entry.comment.filter(|c| !c.is_empty() && !half.comments.contains(c)) {
            half.comments.push(comment);
        }
    }
    out
}

/// Compares by technique, whatever tactics it is annotated in.
pub fn diff<D: AsRef<[u8]>>(a: &Layer, b: &Layer, index: &Index<D>, compare: Compare) -> Diff {
    let (left, right) = (half(a, index, compare), half(b, index, compare));
    let ids: BTreeSet<AttackId> = left.keys().chain(right.keys()).copied().collect();
    let mut rows = Vec::new();
    for id in ids {
        let halves = [left.get(&id), right.get(&id)];
        let side = match halves {
            [Some(_), Some(_)] => Side::Both,
            [Some(_), None] => Side::OnlyA,
            _ => Side::OnlyB,
        };
        let own = index.get(id).into_iter().flat_map(ObjectRef::tactics).map(ObjectRef::short_name);
        let tactics = own.filter(|t| halves.iter().flatten().any(|h| h.tactics.contains(*t))).map(str::to_owned).collect();
        let scores = halves.map(|h| h.and_then(|h| Pick::Max.of(h.scores.iter().copied())));
        let comments = halves.map(|h| h.map(|h| h.comments.join("\n")).unwrap_or_default());
        rows.push(Row { id, side, tactics, scores, comments });
    }
    rows.sort_by_key(|r| (r.side, r.id));
    Diff { names: [a.name.clone(), b.name.clone()], rows }
}

impl Diff {
    /// The rows of some sides; all where none is given.
    pub fn rows(&self, sides: &[Side]) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |r| sides.is_empty() || sides.contains(&r.side))
    }

    /// What a side means: `only in mine`.
    pub fn label(&self, side: Side) -> String {
        let name = |i: usize| printable(&fit(&self.names[i], 60));
        match side {
            Side::OnlyA => format!("only in {}", name(0)),
            Side::Both => "in both".to_owned(),
            Side::OnlyB => format!("only in {}", name(1)),
        }
    }

    /// The comparison as a layer: a colour for each side, the scores as metadata.
    pub fn layer<D: AsRef<[u8]>>(&self, index: &Index<D>, sides: &[Side], name: Option<&str>) -> Layer {
        let title = name.map_or_else(|| format!("{} and {}", self.names[0], self.names[1]), str::to_owned);
        let mut out = Layer::new(title, index.domain(), index.version());
        for row in self.rows(sides) {
            let mut comment = vec![self.label(row.side)];
            let mut metadata = Vec::new();
            for side in [0, 1] {
                if !row.comments[side].is_empty() {
                    comment.push(format!("{}: {}", self.names[side], row.comments[side]));
                }
                if let Some(score) = row.scores[side] {
                    metadata.push(Metadata::pair(format!("score in {}", self.names[side]), shown(score)));
                }
            }
            for tactic in &row.tactics {
                out.techniques.push(Entry {
                    color: Some(row.side.color().into()),
                    comment: Some(comment.join("\n")),
                    enabled: Some(true),
                    metadata: metadata.clone(),
                    show_subtechniques: Some(false),
                    ..Entry::new(row.id, Some(tactic))
                });
            }
        }
        let shown = Side::ALL.into_iter().filter(|s| sides.is_empty() || sides.contains(s));
        out.legend = shown.map(|s| LegendItem { label: self.label(s), color: s.color().into() }).collect();
        out.metadata.push(Metadata::pair("written by", concat!("ttpmap ", env!("CARGO_PKG_VERSION"))));
        open_parents(&mut out, index);
        out
    }

    /// The comparison for a reader at a terminal of so many columns, with ANSI styles.
    pub fn table<D: AsRef<[u8]>>(&self, index: &Index<D>, sides: &[Side], width: usize) -> String {
        const BOLD: Style = Style::new().bold();
        const DIM: Style = Style::new().dimmed();
        const ID: Style = AnsiColor::Cyan.on_default().bold();
        let name = |row: &Row| printable(&index.get(row.id).map(ObjectRef::full_name).unwrap_or_default());
        let scores = |row: &Row| match row.scores {
            [Some(a), Some(b)] => format!("{} | {}", shown(a), shown(b)),
            [one, other] => one.or(other).map(shown).unwrap_or_default(),
        };
        let widest = |text: &dyn Fn(&Row) -> String| self.rows(sides).map(|r| text(r).width()).max().unwrap_or(0);
        let for_scores = widest(&scores).min(16);
        // The ID takes 11, gaps 4; what is left is for the name, then for tactics.
        let room = width.max(40).saturating_sub(15 + for_scores);
        let for_name = widest(&name).min(room.saturating_sub(12)).max(12);
        let mut out = String::new();
        for side in Side::ALL.into_iter().filter(|s| sides.is_empty() || sides.contains(s)) {
            let rows: Vec<&Row> = self.rows(&[side]).collect();
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}{BOLD}{}{BOLD:#}  {DIM}{}{DIM:#}", self.label(side), rows.len());
            for row in rows {
                let (name, tactics) = (fit(&name(row), for_name), fit(&row.tactics.join(", "), room.saturating_sub(for_name)));
                let name = format!("{name}{}", " ".repeat(for_name.saturating_sub(name.width())));
                let scores = fit(&scores(row), for_scores);
                let _ = writeln!(out, "{ID}{:<11}{ID:#}{name}  {scores:>for_scores$}  {DIM}{tactics}{DIM:#}", row.id);
            }
        }
        out
    }

    /// The comparison as JSON: the names, and for each technique where it is.
    pub fn json<D: AsRef<[u8]>>(&self, index: &Index<D>, sides: &[Side]) -> serde_json::Value {
        let rows = self.rows(sides).map(|r| {
            serde_json::json!({
                "id": r.id.to_string(), "name": index.get(r.id).map(ObjectRef::full_name), "in": r.side.name(),
                "tactics": r.tactics, "scores": r.scores, "comments": r.comments,
            })
        });
        serde_json::json!({"a": self.names[0], "b": self.names[1], "techniques": rows.collect::<Vec<_>>()})
    }
}

/// A score without needless digits.
pub(crate) fn shown(score: f64) -> String {
    if score.fract() == 0.0 { format!("{score:.0}") } else { format!("{score:.2}").trim_end_matches('0').to_owned() }
}
