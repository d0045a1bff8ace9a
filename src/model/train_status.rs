//! Training of the status model: a linear model over the words, then trees over what it says here and around.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::corpus::StatusSentence;
use super::linear::{Example, Linear, LinearRef, Recipe};
use super::stack::{LINEAR_STATUS_WIDTH, STATUS_WIDTH, StatusViews};
use super::train::{FirstStageBytes, Ground, Read, Trainer};
use super::trees::{self, Trees, TreesRef};
use super::{Given, View, carriers_of, cue_of, features, likeliest_other, status_of, status_views, told_at};
use crate::matching::Scratch;
use crate::status::Status;
use crate::text::Span;

/// What the model says of a segment as a whole, and of classes with a place of their own in it: how likely it is
/// asserted, and the likeliest other status.
pub(super) struct SegmentStatus {
    pub(super) whole: (f32, Status),
    pub(super) own: BTreeMap<u16, (f32, Status)>,
}

impl SegmentStatus {
    pub(super) fn of(&self, class: u16) -> (f32, Status) {
        *self.own.get(&class).unwrap_or(&self.whole)
    }
}

/// A behaviour with its status.
#[derive(Clone, Copy)]
pub(super) struct Case {
    place: usize,
    focus: Span,
    status: Status,
    weight: f32,
}

/// A text with behaviours in it.
struct Item<'r> {
    read: &'r Read,
    fold: usize,
    cases: Vec<Case>,
}

/// The trained status model.
pub(super) struct Statuses {
    pub(super) trees: Vec<u8>,
    /// Of every segment of every report, by models that did not see it.
    pub(super) judged: Vec<Vec<SegmentStatus>>,
}

impl<D: AsRef<[u8]> + Sync> Trainer<'_, D> {
    /// Where a segment speaks of a class: its artifact, its phrase, the words that carry it, or all of the segment.
    fn focus(&self, ranker: &LinearRef<'_>, read: &Read, place: usize, class: u16) -> Span {
        let sighting = &read.sightings[place];
        let is = |object: u16| self.class_of.get(&object) == Some(&class);
        let artifact = sighting.artifact_of(is).map(|hit| hit.span);
        let named = artifact.or_else(|| sighting.phrase_of(is).map(|hit| hit.span));
        named.or_else(|| told_at(&read.document, sighting, || carriers_of(ranker, sighting, class))).unwrap_or(sighting.segment.span)
    }

    fn cases(&self, read: &Read, ranker: &LinearRef<'_>) -> Vec<Case> {
        let mut cases = Vec::new();
        for (place, labels) in read.labels.iter().enumerate() {
            let mut seen: Vec<(Span, Status)> = Vec::new();
            for (class, status) in labels {
                let focus = self.focus(ranker, read, place, *class);
                if !seen.contains(&(focus, *status)) {
                    seen.push((focus, *status));
                    cases.push(Case { place, focus, status: *status, weight: 1.0 });
                }
            }
        }
        cases
    }

    /// A sentence of the status file as a text of its own.
    pub(super) fn read_status_sentence(&self, sentence: &StatusSentence, scratch: &mut Scratch) -> (Read, Span) {
        let (document, shift) = sentence.document();
        let focus = Span::new(sentence.focus.start + shift, sentence.focus.end + shift);
        let sightings = self.finders.read_all(&document, scratch);
        let labels = vec![Vec::new(); sightings.len()];
        (Read { document, sightings, labels, report: 0, fold: 0 }, focus)
    }

    /// Every sentence of the status files as a text of its own.
    pub(super) fn status_sentences(&self, sentences: &[StatusSentence]) -> Vec<(Read, Case)> {
        let mut scratch = Scratch::default();
        let one = |sentence: &StatusSentence| {
            let (read, focus) = self.read_status_sentence(sentence, &mut scratch);
            let place = read.document.segment_at(focus.start)?;
            Some((read, Case { place, focus, status: sentence.status, weight: 1.0 }))
        };
        sentences.iter().filter_map(one).collect()
    }

    /// Everything with a status to learn from, in folds.
    fn items<'r>(
        &self,
        reads: &'r [Read],
        narratives: &'r [Read],
        sentences: &'r [(Read, Case)],
        stages: &[FirstStageBytes],
    ) -> Vec<Item<'r>> {
        let folds = self.options.folds;
        let of = |read: &'r Read, fold: usize| Item { read, fold, cases: self.cases(read, &stages[fold].open().ranker) };
        let mut items: Vec<Item<'_>> = reads.par_iter().map(|read| of(read, read.fold)).collect();
        items.par_extend(narratives.par_iter().enumerate().map(|(i, read)| of(read, i % folds)));
        // Neighbours in a file may be one sentence, or the same scene told otherwise.
        items.extend(sentences.iter().enumerate().map(|(i, (read, case))| Item { read, fold: i / 8 % folds, cases: vec![*case] }));
        items
    }

    /// The linear models: for each fold one that did not see it, and last one of all.
    pub(super) fn status_models(
        &self,
        reads: &[Read],
        narratives: &[Read],
        sentences: &[(Read, Case)],
        stages: &[FirstStageBytes],
    ) -> Vec<Vec<u8>> {
        let items = self.items(reads, narratives, sentences, stages);
        (0..=self.options.folds).into_par_iter().map(|without| self.linear_status(&items, without)).collect()
    }

    /// Grows the trees on what the linear models say, and judges every report.
    pub(super) fn statuses(&self, ground: &Ground<'_>, views: &[Vec<View>]) -> Statuses {
        let Ground { reads, narratives, sentences, stages, status_models: linears, .. } = *ground;
        let heard = views.iter().flatten().any(|v| v.heard.is_some());
        let width = if heard { STATUS_WIDTH } else { LINEAR_STATUS_WIDTH };
        let items = self.items(reads, narratives, sentences, stages);
        let whole_stage = &stages[self.options.folds];
        // The reports are the first of the items, and have views.
        let beside: Vec<Vec<View>> = items[reads.len()..]
            .par_iter()
            .map(|item| whole_stage.open().views(&item.read.document, &item.read.sightings, Given::default()))
            .collect();
        let rows: Vec<Vec<[f32; STATUS_WIDTH]>> = items
            .par_iter()
            .zip(views.par_iter().chain(&beside))
            .map(|(item, views)| {
                let linear = LinearRef::open(&linears[item.fold]).expect("just written");
                let read = item.read;
                let context = status_views(&linear, &read.document, &read.sightings, views);
                item.cases.iter().map(|case| row(&linear, &context, read, views, case.place, case.focus).0).collect()
            })
            .collect();
        let recipe = trees::Recipe { trees: 120, depth: 4, rate: 0.06, lambda: 4.0, min_weight: 4.0 };
        let grow = |without: usize| {
            let (mut flat, mut answers, mut weights) = (Vec::new(), Vec::new(), Vec::new());
            for (item, rows) in items.iter().zip(&rows).filter(|(i, _)| i.fold != without) {
                for (case, row) in item.cases.iter().zip(rows) {
                    flat.extend_from_slice(&row[..width]);
                    answers.push(case.status == Status::Asserted);
                    weights.push(case.weight);
                }
            }
            Trees::grow(&flat, width, &answers, &weights, recipe).to_bytes()
        };
        let mut grown = self.for_each_fold(reads, grow);
        let judged = reads
            .par_iter()
            .zip(views)
            .map(|(read, views)| {
                let linear = LinearRef::open(&linears[read.fold]).expect("just written");
                let trees = TreesRef::open(&grown[read.fold]).expect("just written");
                let ranker = stages[read.fold].open().ranker;
                let context = status_views(&linear, &read.document, &read.sightings, views);
                let judge = |place: usize, focus: Span| {
                    let (row, p) = row(&linear, &context, read, views, place, focus);
                    (trees.probability(&row), likeliest_other(&p, views[place].heard.as_ref()))
                };
                (0..read.sightings.len())
                    .map(|place| {
                        let sighting = &read.sightings[place];
                        let objects = sighting.phrases.iter().map(|h| h.object).chain(sighting.artifacts.iter().map(|h| h.object));
                        let named = objects.filter_map(|object| self.class_of.get(&object).copied());
                        let labelled = read.labels[place].iter().map(|l| l.0);
                        let classes: BTreeSet<u16> = named.chain(labelled).chain(views[place].likely(self.none())).collect();
                        let focuses = classes.into_iter().map(|class| (class, self.focus(&ranker, read, place, class)));
                        let apart = focuses.filter(|(_, focus)| *focus != sighting.segment.span);
                        let own = apart.map(|(class, focus)| (class, judge(place, focus))).collect();
                        SegmentStatus { whole: judge(place, sighting.segment.span), own }
                    })
                    .collect()
            })
            .collect();
        Statuses { trees: grown.pop().unwrap_or_default(), judged }
    }

    fn linear_status(&self, items: &[Item<'_>], without: usize) -> Vec<u8> {
        let mut examples = Vec::new();
        for item in items.iter().filter(|i| i.fold != without) {
            for case in &item.cases {
                let read = item.read;
                let cue = cue_of(&read.document, &read.sightings, case.place, case.focus);
                let features = features::status(&read.document, &read.sightings, case.place, case.focus, cue);
                let weight = if case.status == Status::Asserted { case.weight } else { case.weight * 1.5 };
                examples.push(Example { features, target: vec![(case.status as u32, 1.0)], weight });
            }
        }
        let recipe = Recipe { classes: Status::ALL.len(), passes: 8, rate: 0.2, min_examples: 2, keep: self.options.keep / 8, spread: 0.5 };
        Linear::train(&examples, recipe).to_bytes()
    }
}

fn row(
    linear: &LinearRef<'_>,
    context: &StatusViews,
    read: &Read,
    views: &[View],
    place: usize,
    focus: Span,
) -> ([f32; STATUS_WIDTH], [f32; 6]) {
    let (p, cue) = status_of(linear, &read.document, &read.sightings, place, focus);
    (context.row(&read.sightings, views, place, p, cue), p)
}
