//! The second stage: what is known of a (segment, technique) pair as a row of numbers.

use std::collections::BTreeMap;

use super::View;
use crate::matching::Sighting;
use crate::matching::phrases::Origin;
use crate::text::SegmentKind;
use crate::text::token::{NUMBER, PIECE, PLACEHOLDER};

/// Numbers in a row.
pub(crate) const WIDTH: usize = 44;

/// What is known of a class beside the text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClassFacts {
    /// How often it was right where it was first, on reports that the ranker had not seen; 0..1.
    pub(crate) reliability: f32,
    /// ln(1 + sentences labelled with it).
    pub(crate) frequency: f32,
    /// Number of its family (a technique and its sub-techniques).
    pub(crate) family: u16,
    pub(crate) is_sub: bool,
}

/// What phrases and rules say of a class in a segment.
#[derive(Debug, Clone, Copy, Default)]
struct Hits {
    phrase: f32,
    words: f32,
    name: f32,
    generic: f32,
    artifact: f32,
}

fn hits(sighting: &Sighting, class_of: &dyn Fn(u16) -> Option<u16>) -> BTreeMap<u16, Hits> {
    let mut out: BTreeMap<u16, Hits> = BTreeMap::new();
    for hit in &sighting.phrases {
        let Some(class) = class_of(hit.object) else { continue };
        let h = out.entry(class).or_default();
        h.phrase = h.phrase.max(hit.precision * hit.quality);
        h.words = h.words.max(hit.words as f32 * hit.quality);
        if hit.origin != Origin::Lexicon {
            h.name = h.name.max(hit.quality);
        }
        if hit.generic {
            h.generic = 1.0;
        }
    }
    for hit in &sighting.artifacts {
        if let Some(class) = class_of(hit.object) {
            let h = out.entry(class).or_default();
            h.artifact = h.artifact.max(hit.precision);
        }
    }
    out
}

/// The candidates of every segment with their rows.
///
/// `least` is the ranker's probability from which a class is a candidate by that alone; classes with a phrase or
/// an artifact always are. With `alone` nothing of the other segments is told.
pub(crate) fn rows(
    sightings: &[Sighting],
    views: &[View],
    facts: &[ClassFacts],
    class_of: &dyn Fn(u16) -> Option<u16>,
    least: f32,
    alone: bool,
) -> Vec<Vec<(u16, [f32; WIDTH])>> {
    let none = facts.len() as u16;
    // What the whole document says of each class: the best two segments, so that a segment can leave itself out.
    let mut document: BTreeMap<u16, [(f32, usize); 2]> = BTreeMap::new();
    let mut family_document: BTreeMap<u16, [(f32, usize); 2]> = BTreeMap::new();
    for (i, view) in views.iter().enumerate() {
        for (class, p) in view.top.iter().filter(|(c, _)| *c != none) {
            let weighted = p * view.gate;
            keep_two(document.entry(*class).or_insert([(0.0, usize::MAX); 2]), weighted, i);
            keep_two(family_document.entry(facts[usize::from(*class)].family).or_insert([(0.0, usize::MAX); 2]), weighted, i);
        }
    }
    let elsewhere = |best: Option<&[(f32, usize); 2]>, i: usize| best.map_or(0.0, |b| if b[0].1 == i { b[1].0 } else { b[0].0 });
    let mean_gate = views.iter().map(|v| v.gate).sum::<f32>() / views.len().max(1) as f32;
    let gate = |i: Option<usize>| i.and_then(|i| views.get(i)).map_or(mean_gate, |v| v.gate);
    let mut out = Vec::with_capacity(views.len());
    for (i, (view, sighting)) in views.iter().zip(sightings).enumerate() {
        let hits = hits(sighting, class_of);
        let mut classes: Vec<u16> = view.top.iter().filter(|(c, p)| *c != none && *p >= least).map(|(c, _)| *c).collect();
        classes.extend(hits.keys().copied().filter(|c| !view.top.iter().any(|(t, p)| t == c && *p >= least)));
        let best_phrase = hits.values().map(|h| h.phrase.max(h.artifact)).fold(0.0, f32::max);
        let heading_hits = sighting.segment.heading.map(|h| h as usize).filter(|_| !alone).and_then(|h| views.get(h));
        let words = sighting.words.iter().filter(|w| !w.is(PIECE)).count() as f32;
        let things = sighting.words.iter().filter(|w| w.is(PLACEHOLDER)).count() as f32;
        let numbers = sighting.words.iter().filter(|w| w.is(NUMBER)).count() as f32;
        let first = view.top.iter().find(|(c, _)| *c != none).map_or(0.0, |(_, p)| *p);
        let mut rows = Vec::with_capacity(classes.len());
        for class in classes {
            let f = facts[usize::from(class)];
            let own = hits.get(&class).copied().unwrap_or_default();
            let family = |c: &u16| *c != class && *c != none && facts[usize::from(*c)].family == f.family;
            let p_of = |view: &View| view.top.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p);
            let side_of = |view: &View| view.side.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p);
            let p = p_of(view);
            let rank = view.top.iter().filter(|(c, _)| *c != none).position(|(c, _)| *c == class).unwrap_or(15) as f32;
            let other = view.top.iter().filter(|(c, _)| *c != class && *c != none).map(|(_, p)| *p).fold(0.0, f32::max);
            let kin = view.top.iter().filter(|(c, _)| family(c)).map(|(_, p)| *p);
            let (kin_max, kin_sum) = kin.fold((0.0_f32, 0.0_f32), |(m, s), p| (m.max(p), s + p));
            let kin_hit = hits.iter().filter(|(c, _)| family(c)).map(|(_, h)| h.phrase.max(h.artifact)).fold(0.0, f32::max);
            let at = |j: Option<usize>| if alone { 0.0 } else { j.and_then(|j| views.get(j)).map_or(0.0, p_of) };
            let context = |x: f32| if alone { 0.0 } else { x };
            let log = |p: f32| (p + 1e-4).ln();
            rows.push((
                class,
                [
                    log(p),
                    rank,
                    log(p) - log(other),
                    view.none,
                    view.gate,
                    context(gate(i.checked_sub(1))),
                    context(gate(Some(i + 1))),
                    context(mean_gate),
                    own.phrase,
                    own.words,
                    own.name,
                    own.generic,
                    own.artifact,
                    kin_hit,
                    best_phrase,
                    kin_max,
                    kin_sum,
                    f32::from(u8::from(f.is_sub)),
                    f.reliability,
                    f.frequency,
                    at(i.checked_sub(1)),
                    at(Some(i + 1)),
                    context(elsewhere(document.get(&class), i)),
                    context(elsewhere(family_document.get(&f.family), i)),
                    words,
                    things,
                    numbers,
                    sighting.masked.len() as f32,
                    f32::from(u8::from(sighting.segment.kind == SegmentKind::Heading)),
                    f32::from(u8::from(sighting.segment.kind == SegmentKind::Item)),
                    f32::from(u8::from(matches!(sighting.segment.kind, SegmentKind::Row | SegmentKind::Code))),
                    context(i as f32 / views.len().max(1) as f32),
                    context((views.len() as f32).ln()),
                    heading_hits.map_or(0.0, p_of),
                    context(heading_hits.map_or(mean_gate, |v| v.gate)),
                    log(side_of(view)),
                    view.side_none,
                    first,
                    view.entropy,
                    hits.len() as f32,
                    sighting.artifacts.len() as f32,
                    view.norm,
                    view.clause.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p),
                    view.other_gate,
                ],
            ));
        }
        out.push(rows);
    }
    out
}

fn keep_two(best: &mut [(f32, usize); 2], p: f32, place: usize) {
    if p > best[0].0 {
        best[1] = best[0];
        best[0] = (p, place);
    } else if p > best[1].0 {
        best[1] = (p, place);
    }
}
