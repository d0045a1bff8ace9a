//! The matrix of a release with a layer's annotations on it: what the terminal and the SVG draw.

use std::collections::BTreeMap;

use super::{Entry, Gradient, Layer, portable};
use crate::index::{Index, ObjectRef};
use crate::kb::State;
use crate::kb::id::{AttackId, Kind};

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// A technique or sub-technique in a tactic.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its ID.
    pub id: AttackId,
    /// Its name; for a sub-technique its own part only.
    pub name: String,
    /// The score of its annotation.
    pub score: Option<f64>,
    /// The colour that the annotation or its score gives it.
    pub color: Option<Rgb>,
    /// Whether it is not greyed out.
    pub enabled: bool,
    /// Whether the layer says something of it.
    pub annotated: bool,
    /// The comment of its annotation; may be empty.
    pub comment: String,
}

/// A tactic with its techniques, each followed by its sub-techniques.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The tactic.
    pub id: AttackId,
    /// Its name.
    pub name: String,
    /// Its techniques, sorted as the layer says.
    pub cells: Vec<Cell>,
}

/// A layer on the matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// In matrix order.
    pub columns: Vec<Column>,
    /// Annotations that have no place in it, as the layer has them.
    pub without_place: Vec<String>,
}

impl Matrix {
    /// The annotations that have no place, the first of them and how many more; None where all have one.
    pub fn missing(&self) -> Option<String> {
        const NAMED: usize = 40;
        let more = self.without_place.len().saturating_sub(NAMED);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named: Vec<String> = self.without_place.iter().take(NAMED).map(super::upgrade::clip).collect();
        (!named.is_empty()).then(|| named.join(", ") + &tail)
    }
}

/// Which techniques are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Show {
    /// Those that the layer annotates, and what is above them.
    #[default]
    Annotated,
    /// All of the matrix, but for what the layer hides.
    All,
}

/// The gradient that the Navigator uses where a layer has none.
fn default_gradient() -> Gradient {
    Gradient { colors: ["#ff6666", "#ffe766", "#8ec843"].map(str::to_owned).to_vec(), min: 0.0, max: 100.0 }
}

/// The gradient of a layer, or the Navigator's own.
pub fn gradient(layer: &Layer) -> Gradient {
    layer.gradient.clone().filter(|g| g.colors.len() >= 2).unwrap_or_else(default_gradient)
}

/// A colour of hex digits; None for anything else.
pub fn rgb(color: &str) -> Option<Rgb> {
    let opaque = portable::opaque(color);
    let hex = opaque.strip_prefix('#').filter(|h| h.len() == 6 && h.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    Some([part(0)?, part(2)?, part(4)?])
}

/// The colour that a gradient gives a score.
pub fn color_of(gradient: &Gradient, score: f64) -> Option<Rgb> {
    let colors: Vec<Rgb> = gradient.colors.iter().filter_map(|c| rgb(c)).collect();
    let (first, last) = (*colors.first()?, *colors.last()?);
    let span = gradient.max - gradient.min;
    if span <= 0.0 || !span.is_finite() {
        return Some(if score <= gradient.min { first } else { last });
    }
    let at = ((score - gradient.min) / span).clamp(0.0, 1.0) * (colors.len() - 1) as f64;
    let (low, part) = ((at.floor() as usize).min(colors.len() - 1), at.fract());
    let high = (low + 1).min(colors.len() - 1);
    let mix = |i: usize| (f64::from(colors[low][i]) * (1.0 - part) + f64::from(colors[high][i]) * part).round() as u8;
    Some([mix(0), mix(1), mix(2)])
}

/// Whether text on a colour is better black than white (relative luminance after WCAG 2).
pub fn wants_black(color: Rgb) -> bool {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
    // Equal contrast with black and white.
    luminance > 0.179
}

/// Lays a layer on the matrix. As in the Navigator the last of several entries for one place counts.
pub fn matrix<D: AsRef<[u8]>>(layer: &Layer, index: &Index<D>, show: Show) -> Matrix {
    let gradient = gradient(layer);
    let mut by_place: BTreeMap<(AttackId, &str), &Entry> = BTreeMap::new();
    let mut without_place = Vec::new();
    for entry in &layer.techniques {
        let technique = entry.id().and_then(|id| index.get(id)).filter(|t| t.state() == State::Active);
        let mut placed = false;
        if let Some(technique) = technique {
            for tactic in technique.tactics().map(ObjectRef::short_name) {
                if entry.tactic.as_ref().is_none_or(|t| t == tactic) {
                    by_place.insert((technique.id(), tactic), entry);
                    placed = true;
                }
            }
        }
        if !placed && (entry.is_annotated() || !entry.is_enabled()) {
            without_place.push(entry.technique_id.clone());
        }
    }
    let shown_platform = |t: ObjectRef<'_, D>| {
        let wanted = layer.platforms.as_ref();
        wanted.is_none_or(|w| t.platforms().count() == 0 || t.platforms().any(|p| w.iter().any(|q| q == p)))
    };
    let techniques: Vec<ObjectRef<'_, D>> =
        index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active && shown_platform(*t)).collect();
    let mut columns = Vec::new();
    for tactic in index.tactics() {
        let short = tactic.short_name();
        let cell = |t: ObjectRef<'_, D>| {
            let entry = by_place.get(&(t.id(), short)).copied();
            let own = entry.and_then(|e| e.color.as_deref()).and_then(rgb);
            let score = entry.filter(|e| e.is_enabled()).and_then(|e| e.score);
            Cell {
                id: t.id(),
                name: t.name().to_owned(),
                score,
                color: own.or_else(|| score.and_then(|s| color_of(&gradient, s))).filter(|_| entry.is_some_and(Entry::is_enabled)),
                enabled: entry.is_none_or(Entry::is_enabled),
                annotated: entry.is_some_and(Entry::is_annotated),
                comment: entry.and_then(|e| e.comment.clone()).unwrap_or_default(),
            }
        };
        let here = techniques.iter().filter(|t| t.tactics().any(|x| x.id() == tactic.id()));
        let mut groups: BTreeMap<AttackId, Vec<Cell>> = BTreeMap::new();
        for technique in here {
            groups.entry(technique.id().parent()).or_default().push(cell(*technique));
        }
        let hides = |c: &Cell| !c.enabled && layer.hide_disabled == Some(true);
        let mut groups: Vec<Vec<Cell>> = groups
            .into_values()
            .filter_map(|group| {
                let any = group.iter().any(|c| c.annotated);
                let kept = |c: &Cell| !hides(c) && (show == Show::All || c.annotated || any && !c.id.is_subtechnique());
                let group: Vec<Cell> = group.into_iter().filter(kept).collect();
                (!group.is_empty()).then_some(group)
            })
            .collect();
        sort(&mut groups, layer.sorting.unwrap_or(0));
        let cells: Vec<Cell> = groups.into_iter().flatten().collect();
        if show == Show::All || !cells.is_empty() {
            columns.push(Column { id: tactic.id(), name: tactic.name().to_owned(), cells });
        }
    }
    Matrix { columns, without_place }
}

fn sort(groups: &mut [Vec<Cell>], sorting: u8) {
    let best = |group: &[Cell]| group.iter().filter_map(|c| c.score).fold(f64::NEG_INFINITY, f64::max);
    match sorting {
        1 => groups.sort_by(|a, b| b[0].name.cmp(&a[0].name)),
        2 => groups.sort_by(|a, b| best(a).total_cmp(&best(b)).then_with(|| a[0].name.cmp(&b[0].name))),
        3 => groups.sort_by(|a, b| best(b).total_cmp(&best(a)).then_with(|| a[0].name.cmp(&b[0].name))),
        _ => groups.sort_by(|a, b| a[0].name.cmp(&b[0].name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_coloured_along_the_gradient() {
        let gradient = Gradient { colors: vec!["#000000".into(), "#0000ff".into(), "#ff00ff80".into()], min: 0.0, max: 100.0 };
        for (score, expected) in [(-5.0, [0, 0, 0]), (25.0, [0, 0, 128]), (50.0, [0, 0, 255]), (75.0, [128, 0, 255]), (1e9, [255, 0, 255])]
        {
            assert_eq!(color_of(&gradient, score), Some(expected), "{score}");
        }
        assert_eq!(rgb("#fa0"), Some([255, 170, 0]));
        assert_eq!(rgb("red"), None);
        assert!(wants_black([255, 255, 0]) && !wants_black([0, 0, 160]));
    }
}
