//! The second stage: what is known of a (segment, technique) pair as a row of numbers.

use std::collections::BTreeMap;

use super::{View, worth_reading};
use crate::matching::Sighting;
use crate::matching::phrases::Origin;
use crate::status::Status;
use crate::text::SegmentKind;
use crate::text::token::{NUMBER, PIECE, PLACEHOLDER};

/// Numbers in a row without what the encoder says; and with it.
pub(crate) const LINEAR_WIDTH: usize = 44;
pub(crate) const WIDTH: usize = LINEAR_WIDTH + ENCODER_WIDTH;
const ENCODER_WIDTH: usize = 20;

/// The candidates of one segment, each with its row.
pub(crate) type Rows = Vec<(u16, [f32; WIDTH])>;

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

/// What is known of the classes beside the text.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) classes: Vec<ClassFacts>,
    pub(crate) pairs: Pairs,
}

/// Which techniques are told in one sentence: of each class the others that were labelled beside it, with in how many
/// segments. Pairs that were seen once are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs {
    /// Where the others of each class begin in `others`, and where the last's end.
    starts: Vec<u32>,
    others: Vec<(u16, f32)>,
    /// Sentences that are labelled with each class, and all labels.
    labelled: Vec<f32>,
    sum: f32,
}

/// A class counts as labelled so often beside every other as its share of all labels is of this number.
const PAIR_PRIOR: f32 = 4.0;
/// The likeliest classes of a segment, so many, are asked which others go with them.
const PAIR_VOICES: usize = 5;

impl Pairs {
    /// `counted` are pairs (one class, another, how often), sorted, each in both orders.
    pub(crate) fn new(labelled: Vec<f32>, counted: impl Iterator<Item = (u16, u16, f32)>) -> Pairs {
        let mut pairs = Pairs { starts: vec![0], others: Vec::new(), sum: labelled.iter().sum(), labelled };
        for (one, other, count) in counted {
            pairs.starts.resize(usize::from(one) + 1, pairs.others.len() as u32);
            pairs.others.push((other, count));
        }
        pairs.starts.resize(pairs.labelled.len() + 1, pairs.others.len() as u32);
        pairs
    }

    /// All pairs, as [`Pairs::new`] takes them.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (u16, u16, f32)> + '_ {
        (0..)
            .zip(self.starts.windows(2))
            .flat_map(|(one, ends)| self.others[ends[0] as usize..ends[1] as usize].iter().map(move |(other, count)| (one, *other, *count)))
    }

    /// What the likeliest classes of a segment, each with its probability, say of the others.
    fn beside(&self, said: impl Iterator<Item = (u16, f32)>) -> Beside<'_> {
        let mut beside = Beside { pairs: self, voices: Vec::with_capacity(PAIR_VOICES), told: Vec::new() };
        for (class, p) in said.take(PAIR_VOICES) {
            let weight = p / (self.labelled[usize::from(class)] + PAIR_PRIOR);
            beside.voices.push((class, p, weight));
            let [from, to] = [0, 1].map(|i| self.starts[usize::from(class) + i] as usize);
            beside.told.extend(self.others[from..to].iter().map(|(other, count)| (*other, count * weight)));
        }
        beside
    }
}

struct Beside<'a> {
    pairs: &'a Pairs,
    /// Class, its probability, and the weight of its counts.
    voices: Vec<(u16, f32, f32)>,
    told: Vec<(u16, f32)>,
}

impl Beside<'_> {
    /// How likely a class is to be told beside the others of the segment, as a logarithm; and how much likelier than
    /// anywhere.
    fn of(&self, class: u16) -> [f32; 2] {
        let share = (self.pairs.labelled[usize::from(class)] + 0.1) / (self.pairs.sum + 1.0);
        let (mut all, mut given) = (1e-3, 1e-3 * share);
        for (_, p, weight) in self.voices.iter().filter(|v| v.0 != class) {
            all += p;
            given += weight * PAIR_PRIOR * share;
        }
        given += self.told.iter().filter(|t| t.0 == class).map(|t| t.1).sum::<f32>();
        let given = given / all;
        [(given + 1e-5).ln(), (given / share).ln()]
    }
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

/// The candidates of every segment with their rows, made one segment at a time: a row is large.
///
/// `least` is the ranker's probability from which a class is a candidate by that alone; classes with a phrase or
/// an artifact always are. With `alone` nothing of the other segments is told.
pub(crate) fn rows<'a>(
    sightings: &'a [Sighting],
    views: &'a [View],
    facts: &'a Facts,
    class_of: &'a dyn Fn(u16) -> Option<u16>,
    least: f32,
    alone: bool,
) -> impl Iterator<Item = Rows> + 'a {
    let Facts { classes: facts, pairs } = facts;
    let none = facts.len() as u16;
    let mut document = Elsewhere::default();
    let mut heard_document = Elsewhere::default();
    for (i, (view, sighting)) in views.iter().zip(sightings).enumerate().filter(|_| !alone) {
        for (class, p) in view.top.iter().filter(|(c, _)| *c != none) {
            document.add(facts, *class, p * view.gate, i);
        }
        // Only what every profile with an encoder reads, so that all of them are told the same.
        for (class, p) in view.heard.iter().filter(|_| worth_reading(sighting, view.gate)).flat_map(|h| &h.top) {
            heard_document.add(facts, *class, *p, i);
        }
    }
    let mean_gate = views.iter().map(|v| v.gate).sum::<f32>() / views.len().max(1) as f32;
    let gate = move |i: Option<usize>| i.and_then(|i| views.get(i)).map_or(mean_gate, |v| v.gate);
    views.iter().zip(sightings).enumerate().map(move |(i, (view, sighting))| {
        let hits = hits(sighting, class_of);
        let mut classes: Vec<u16> = view.top.iter().filter(|(c, p)| *c != none && *p >= least).map(|(c, _)| *c).collect();
        classes.extend(hits.keys().copied().filter(|c| !view.top.iter().any(|(t, p)| t == c && *p >= least)));
        let likely = view.heard.iter().flat_map(|h| &h.top).filter(|(_, p)| *p >= least.max(HEARD_LEAST));
        for (class, _) in likely {
            if !classes.contains(class) {
                classes.push(*class);
            }
        }
        let best_phrase = hits.values().map(|h| h.phrase.max(h.artifact)).fold(0.0, f32::max);
        let heading_hits = sighting.segment.heading.map(|h| h as usize).filter(|_| !alone).and_then(|h| views.get(h));
        let words = sighting.words.iter().filter(|w| !w.is(PIECE)).count() as f32;
        let things = sighting.words.iter().filter(|w| w.is(PLACEHOLDER)).count() as f32;
        let numbers = sighting.words.iter().filter(|w| w.is(NUMBER)).count() as f32;
        let beside = pairs.beside(view.top.iter().copied().filter(|(c, _)| *c != none));
        let heard = view.heard.as_ref().map(|heard| (heard, pairs.beside(heard.top.iter().copied())));
        let first = view.top.iter().find(|(c, _)| *c != none).map_or(0.0, |(_, p)| *p);
        let mut rows = Vec::with_capacity(classes.len());
        for class in classes {
            let f = facts[usize::from(class)];
            let own = hits.get(&class).copied().unwrap_or_default();
            let family = |c: &u16| *c != class && *c != none && facts[usize::from(*c)].family == f.family;
            let p_of = |view: &View| view.top.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p);
            let p = p_of(view);
            let rank = view.top.iter().filter(|(c, _)| *c != none).position(|(c, _)| *c == class).unwrap_or(15) as f32;
            let other = view.top.iter().filter(|(c, _)| *c != class && *c != none).map(|(_, p)| *p).fold(0.0, f32::max);
            let kin = view.top.iter().filter(|(c, _)| family(c)).map(|(_, p)| *p);
            let (kin_max, kin_sum) = kin.fold((0.0_f32, 0.0_f32), |(m, s), p| (m.max(p), s + p));
            let kin_hit = hits.iter().filter(|(c, _)| family(c)).map(|(_, h)| h.phrase.max(h.artifact)).fold(0.0, f32::max);
            let at = |j: Option<usize>| if alone { 0.0 } else { j.and_then(|j| views.get(j)).map_or(0.0, p_of) };
            let context = |x: f32| if alone { 0.0 } else { x };
            let log = |p: f32| (p + 1e-4).ln();
            let said = match &heard {
                Some((heard, beside)) => {
                    let own = if worth_reading(sighting, view.gate) { heard.p_of(class) } else { 0.0 };
                    let elsewhere = heard_document.of(class, f.family, i, own);
                    let around = |j: Option<usize>| if alone { None } else { j.and_then(|j| views.get(j)?.heard.as_ref()) };
                    let around = [around(i.checked_sub(1)), around(Some(i + 1)), around(sighting.segment.heading.map(|h| h as usize))];
                    heard.row(class, &|c| family(&c), around, elsewhere, beside)
                }
                None => NOT_HEARD,
            };
            let mut row = [0.0; WIDTH];
            row[LINEAR_WIDTH..].copy_from_slice(&said);
            let [with, lift] = beside.of(class);
            let elsewhere = document.of(class, f.family, i, p * view.gate);
            let linear: [f32; LINEAR_WIDTH] = [
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
                elsewhere[0],
                elsewhere[1],
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
                first,
                view.entropy,
                hits.len() as f32,
                sighting.artifacts.len() as f32,
                view.norm,
                view.other_gate,
                with,
                lift,
                elsewhere[2],
            ];
            row[..LINEAR_WIDTH].copy_from_slice(&linear);
            rows.push((class, row));
        }
        rows
    })
}

/// The encoder's probability from which a technique is a candidate by that alone, where the ranker's is lower still.
const HEARD_LEAST: f32 = 0.005;

/// What the encoder says of a segment, of this knowledge base's classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// The likeliest classes, best first; "none" is not among them.
    pub(crate) top: Vec<(u16, f32)>,
    pub(crate) none: f32,
    pub(crate) behaviour: f32,
    pub(crate) statuses: [f32; 6],
}

/// The part of a row that is the encoder's, where it did not read the segment.
const NOT_HEARD: [f32; ENCODER_WIDTH] =
    [-9.0, 16.0, -9.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -11.0, 0.0, 1.0, 0.0, 0.0];

/// Classes of what the encoder says that are kept.
const HEARD_TOP: usize = 12;

impl Heard {
    /// From what the encoder says of each technique, as classes of the knowledge base: where two have become one, the
    /// likelier counts.
    pub(crate) fn new(said: impl Iterator<Item = (u16, f32)>, none: f32, behaviour: f32, statuses: [f32; 6]) -> Heard {
        let mut top: Vec<(u16, f32)> = said.filter(|(_, p)| *p >= 1e-4).collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut seen = Vec::with_capacity(HEARD_TOP);
        top.retain(|(class, _)| {
            let new = !seen.contains(class) && seen.len() < HEARD_TOP;
            if new {
                seen.push(*class);
            }
            new
        });
        Heard { top, none, behaviour, statuses }
    }

    pub(crate) fn p_of(&self, class: u16) -> f32 {
        self.top.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p)
    }

    /// `around` are the segment before, the one behind and the heading, where they were read.
    fn row(
        &self,
        class: u16,
        family: &dyn Fn(u16) -> bool,
        around: [Option<&Heard>; 3],
        elsewhere: [f32; 3],
        beside: &Beside<'_>,
    ) -> [f32; ENCODER_WIDTH] {
        let log = |p: f32| (p + 1e-4).ln();
        let p = self.p_of(class);
        let rank = self.top.iter().position(|(c, _)| *c == class).unwrap_or(15) as f32;
        let other = self.top.iter().filter(|(c, _)| *c != class).map(|(_, p)| *p).fold(0.0, f32::max);
        let kin = self.top.iter().filter(|(c, _)| family(*c)).map(|(_, p)| *p);
        let (kin_max, kin_sum) = kin.fold((0.0_f32, 0.0_f32), |(m, s), p| (m.max(p), s + p));
        let there = |h: Option<&Heard>| h.map_or(0.0, |h| h.p_of(class));
        let behaves = |h: Option<&Heard>| h.map_or(0.0, |h| h.behaviour);
        let [with, lift] = beside.of(class);
        // 1 where one technique is said, a quarter where four are alike.
        let described = (1.0 - self.none).max(1e-3);
        let single = self.top.iter().map(|(_, p)| (p / described).powi(2)).sum::<f32>();
        [
            log(p),
            rank,
            log(p) - log(other),
            self.none,
            self.behaviour,
            kin_max,
            kin_sum,
            self.statuses[0],
            there(around[0]),
            there(around[1]),
            there(around[2]),
            elsewhere[0],
            behaves(around[0]),
            behaves(around[1]),
            p / described,
            with,
            lift,
            single,
            elsewhere[1],
            elsewhere[2],
        ]
    }
}

/// What a whole document says of each class: of it and of its family the best two segments, so that a segment can leave
/// itself out, and of the class the sum. Empty until something is said.
#[derive(Default)]
struct Elsewhere {
    classes: Vec<Best>,
    families: Vec<Best>,
    sums: Vec<f32>,
}

/// Two segments' probabilities and places, the larger first.
#[derive(Clone, Copy, Default)]
struct Best([(f32, u32); 2]);

impl Best {
    /// A segment counts once, with the most that it says.
    fn add(&mut self, p: f32, place: u32) {
        let [first, second] = &mut self.0;
        if p > first.0 {
            if first.1 != place {
                *second = *first;
            }
            *first = (p, place);
        } else if p > second.0 && first.1 != place {
            *second = (p, place);
        }
    }

    /// The most that is said but in `place`.
    fn but(&self, place: u32) -> f32 {
        self.0[usize::from(self.0[0].1 == place)].0
    }
}

impl Elsewhere {
    fn add(&mut self, facts: &[ClassFacts], class: u16, p: f32, place: usize) {
        // A family has no more than all classes, so there are no more families.
        for list in [&mut self.classes, &mut self.families] {
            list.resize(facts.len(), Best::default());
        }
        self.sums.resize(facts.len(), 0.0);
        self.classes[usize::from(class)].add(p, place as u32);
        self.families[usize::from(facts[usize::from(class)].family)].add(p, place as u32);
        self.sums[usize::from(class)] += p;
    }

    /// What the segments but `place`, which says `own`, say most of the class and of its family, and the logarithm of
    /// their sum for the class.
    fn of(&self, class: u16, family: u16, place: usize, own: f32) -> [f32; 3] {
        let but = |list: &[Best], at: u16| list.get(usize::from(at)).map_or(0.0, |best| best.but(place as u32));
        let sum = self.sums.get(usize::from(class)).map_or(0.0, |sum| (sum - own).max(0.0));
        [but(&self.classes, class), but(&self.families, family), (1.0 + sum).ln()]
    }
}

/// Numbers in a row about the status of a behaviour, without what the encoder says and with it.
pub(crate) const LINEAR_STATUS_WIDTH: usize = 32;
pub(crate) const STATUS_WIDTH: usize = LINEAR_STATUS_WIDTH + 10;

/// What the linear status model says of the segments of a document that may describe behaviour: of each the
/// probabilities of every status and what the cue rules say, and the mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusViews {
    pub(crate) segments: Vec<Option<([f32; 6], Option<Status>)>>,
    mean: [f32; 6],
    /// Share of segments that name a group, malware or campaign.
    names: f32,
}

/// Segments whose gate says less are not asked for their status.
pub(crate) const STATUS_GATE: f32 = 0.15;

impl StatusViews {
    pub(crate) fn new(sightings: &[Sighting], segments: Vec<Option<([f32; 6], Option<Status>)>>) -> StatusViews {
        // A text with nothing in it is taken for one that asserts.
        let mut sum = [2.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        for (p, _) in segments.iter().flatten() {
            for (s, p) in sum.iter_mut().zip(p) {
                *s += p;
            }
        }
        let total: f32 = sum.iter().sum();
        let named = sightings.iter().filter(|s| !s.masked.is_empty()).count() as f32;
        StatusViews { mean: sum.map(|s| s / total), names: named / sightings.len().max(1) as f32, segments }
    }

    /// The row of a behaviour in one segment: `own` is what the linear model says of it, `cue` what the rules do.
    pub(crate) fn row(
        &self,
        sightings: &[Sighting],
        views: &[View],
        place: usize,
        own: [f32; 6],
        cue: Option<Status>,
    ) -> [f32; STATUS_WIDTH] {
        let sighting = &sightings[place];
        let whole = self.segments.get(place).copied().flatten().map_or(own, |(p, _)| p);
        let at = |i: Option<usize>| i.and_then(|i| self.segments.get(i).copied().flatten()).map_or(self.mean, |(p, _)| p);
        let (before, after) = (at(place.checked_sub(1)), at(Some(place + 1)));
        let heading = sighting.segment.heading.map_or(self.mean, |h| at(Some(h as usize)));
        let is = |status: Status| f32::from(u8::from(cue == Some(status)));
        let view = views.get(place);
        let words = sighting.words.iter().filter(|w| !w.is(PIECE)).count() as f32;
        let log = |p: f32| (p + 1e-4).ln();
        let linear: [f32; LINEAR_STATUS_WIDTH] = [
            log(own[0]),
            own[1],
            own[2],
            own[3],
            own[4],
            own[5],
            whole[0],
            whole[5],
            self.mean[0],
            self.mean[3],
            self.mean[4],
            self.mean[5],
            before[0],
            before[5],
            after[0],
            after[5],
            heading[0],
            is(Status::Prevented),
            is(Status::Negated),
            is(Status::Hypothetical),
            is(Status::Defensive),
            is(Status::Generic),
            view.map_or(0.5, |v| v.gate),
            view.map_or(0.5, |v| v.other_gate),
            view.map_or(0.5, |v| v.none),
            words,
            sighting.masked.len() as f32,
            self.names,
            place as f32 / sightings.len().max(1) as f32,
            (sightings.len() as f32).ln(),
            f32::from(u8::from(sighting.segment.kind == SegmentKind::Heading)),
            sighting.artifacts.len() as f32,
        ];
        let mut row = [0.0; STATUS_WIDTH];
        row[..LINEAR_STATUS_WIDTH].copy_from_slice(&linear);
        if let Some(heard) = view.and_then(|v| v.heard.as_ref()) {
            let around = |i: Option<usize>| i.and_then(|i| views.get(i)?.heard.as_ref()).map_or(0.0, |h| h.statuses[0]);
            let [asserted, rest @ ..] = heard.statuses;
            let said = [log(asserted), rest[0], rest[1], rest[2], rest[3], rest[4], heard.behaviour, heard.none];
            row[LINEAR_STATUS_WIDTH..STATUS_WIDTH - 2].copy_from_slice(&said);
            row[STATUS_WIDTH - 2..].copy_from_slice(&[around(place.checked_sub(1)), around(Some(place + 1))]);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Pairs {
        // Classes 0 and 1 mostly go together, 2 goes with neither, 3 was never labelled.
        Pairs::new(vec![10.0, 12.0, 50.0, 0.0], [(0, 1, 9.0), (1, 0, 9.0)].into_iter())
    }

    #[test]
    fn pairs_come_back_as_they_were_counted() {
        assert_eq!(pairs().counted().collect::<Vec<_>>(), [(0, 1, 9.0), (1, 0, 9.0)]);
        assert_eq!(Pairs::default().counted().count(), 0);
    }

    #[test]
    fn what_goes_with_the_others_of_a_segment_is_likelier() {
        let pairs = pairs();
        let beside = pairs.beside([(0, 0.6), (2, 0.1)].into_iter());
        let [alike, lift] = beside.of(1);
        assert!(lift > 0.5 && alike > -1.0, "{alike} {lift}");
        // It has itself and one that it doesn't go with beside it.
        assert!(beside.of(0)[1] < 0.0 && beside.of(2)[1] < 0.0);
        assert!(beside.of(3).iter().all(|x| x.is_finite()));
        // Nothing beside it: as likely as anywhere.
        assert!(pairs.beside([(1, 0.9)].into_iter()).of(1)[1].abs() < 1e-3);
    }

    #[test]
    fn a_segment_does_not_count_itself_among_the_others() {
        // Classes 0 and 1 are one family.
        let facts = [0, 0, 1].map(|family| ClassFacts { family, ..ClassFacts::default() });
        let mut document = Elsewhere::default();
        assert_eq!(document.of(0, 0, 0, 0.0), [0.0; 3]);
        for (class, p, place) in [(0, 0.8, 0), (1, 0.7, 0), (0, 0.5, 1), (2, 0.4, 1)] {
            document.add(&facts, class, p, place);
        }
        assert_eq!(document.of(0, 0, 0, 0.8)[..2], [0.5, 0.5]);
        assert_eq!(document.of(1, 0, 0, 0.7)[..2], [0.0, 0.5]);
        assert_eq!(document.of(0, 0, 1, 0.5)[..2], [0.8, 0.8]);
        assert_eq!(document.of(2, 1, 1, 0.4), [0.0, 0.0, 0.0]);
        assert!((document.of(0, 0, 2, 0.0)[2] - 2.3_f32.ln()).abs() < 1e-6);
    }
}
