//! Training of the status model: a linear model over the words, then trees over what it says here and around.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::corpus::StatusSentence;
use super::linear::{Example, Linear, LinearRef, Recipe};
use super::stack::{LINEAR_STATUS_WIDTH, STATUS_WIDTH, StatusViews};
use super::train::{FirstStageBytes, Read, Trainer};
use super::trees::{self, Trees, TreesRef};
use super::{View, cue_of, features, likeliest_other, status_of, status_views};
use crate::matching::{Scratch, Sighting};
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
struct Case {
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
    views: Vec<View>,
}

/// The trained status model.
pub(super) struct Statuses {
    pub(super) linear: Vec<u8>,
    pub(super) trees: Vec<u8>,
    /// Of every segment of every report, by models that did not see it.
    pub(super) judged: Vec<Vec<SegmentStatus>>,
}

impl<D: AsRef<[u8]> + Sync> Trainer<'_, D> {
    /// Where a segment speaks of a class: its artifact, its phrase, or all of it.
    fn focus(&self, sighting: &Sighting, class: u16) -> Span {
        let is = |object: u16| self.class_of.get(&object) == Some(&class);
        let artifact = sighting.artifacts.iter().find(|h| is(h.object)).map(|h| h.span);
        let phrases = sighting.phrases.iter().filter(|h| is(h.object));
        let phrase = phrases.max_by(|a, b| (a.precision * a.quality).total_cmp(&(b.precision * b.quality))).map(|h| h.span);
        artifact.or(phrase).unwrap_or(sighting.segment.span)
    }

    fn cases(&self, read: &Read) -> Vec<Case> {
        let mut cases = Vec::new();
        for (place, labels) in read.labels.iter().enumerate() {
            let mut seen: Vec<(Span, Status)> = Vec::new();
            for (class, status) in labels {
                let focus = self.focus(&read.sightings[place], *class);
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
        (Read { document, sightings, labels, fold: 0 }, focus)
    }

    /// Trains on reports, narratives and single sentences; every one of them is in a fold.
    pub(super) fn statuses(
        &self,
        reads: &[Read],
        views: &[Vec<View>],
        narratives: &[Read],
        sentences: &[StatusSentence],
        stages: &[FirstStageBytes],
    ) -> Statuses {
        let folds = self.options.folds;
        let heard = views.iter().flatten().any(|v| v.heard.is_some());
        let width = if heard { STATUS_WIDTH } else { LINEAR_STATUS_WIDTH };
        let mut scratch = Scratch::default();
        let (single, cases): (Vec<Read>, Vec<Case>) = sentences
            .iter()
            .filter_map(|sentence| {
                let (read, focus) = self.read_status_sentence(sentence, &mut scratch);
                let place = read.document.segment_at(focus.start)?;
                Some((read, Case { place, focus, status: sentence.status, weight: 1.0 }))
            })
            .unzip();
        let whole_stage = &stages[folds];
        let look = |read: &Read| whole_stage.open().views(&read.document, &read.sightings, &[]);
        let mut items: Vec<Item<'_>> = reads
            .iter()
            .zip(views)
            .map(|(read, views)| Item { read, fold: read.fold, cases: self.cases(read), views: views.clone() })
            .collect();
        items.extend(narratives.iter().enumerate().map(|(i, read)| Item {
            read,
            fold: i % folds,
            cases: self.cases(read),
            views: look(read),
        }));
        // Neighbours in a file may be one sentence, or the same scene told otherwise.
        items.extend(single.iter().zip(cases).enumerate().map(|(i, (read, case))| Item {
            views: look(read),
            read,
            fold: i / 8 % folds,
            cases: vec![case],
        }));
        let linears: Vec<Vec<u8>> = (0..=folds).into_par_iter().map(|without| self.linear_status(&items, without)).collect();
        let rows: Vec<Vec<[f32; STATUS_WIDTH]>> = items
            .par_iter()
            .map(|item| {
                let linear = LinearRef::open(&linears[item.fold]).expect("just written");
                let read = item.read;
                let context = status_views(&linear, &read.document, &read.sightings, &item.views);
                item.cases.iter().map(|case| row(&linear, &context, read, &item.views, case.place, case.focus).0).collect()
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
        let mut grown: Vec<Vec<u8>> = (0..=folds).map(grow).collect();
        let judged = reads
            .par_iter()
            .zip(views)
            .map(|(read, views)| {
                let linear = LinearRef::open(&linears[read.fold]).expect("just written");
                let trees = TreesRef::open(&grown[read.fold]).expect("just written");
                let context = status_views(&linear, &read.document, &read.sightings, views);
                let judge = |place: usize, focus: Span| {
                    let (row, p) = row(&linear, &context, read, views, place, focus);
                    (trees.probability(&row), likeliest_other(&p, views[place].heard.as_ref()))
                };
                (0..read.sightings.len())
                    .map(|place| {
                        let sighting = &read.sightings[place];
                        let objects = sighting.phrases.iter().map(|h| h.object).chain(sighting.artifacts.iter().map(|h| h.object));
                        let classes = objects.filter_map(|object| self.class_of.get(&object).copied());
                        let own = classes.map(|class| (class, judge(place, self.focus(sighting, class)))).collect();
                        SegmentStatus { whole: judge(place, sighting.segment.span), own }
                    })
                    .collect()
            })
            .collect();
        Statuses { linear: linears[folds].clone(), trees: grown.pop().unwrap_or_default(), judged }
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
