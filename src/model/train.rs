//! Training: everything there is to learn from, into the bytes of a model.
//!
//! The second stage must learn from what the first says of reports that the first has not seen. So the reports are
//! split by publisher into folds; for each fold a first stage is trained on the others and asked about it. The
//! figures that this gives are those of publishers never seen, and are printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rayon::prelude::*;
use zerocopy::byteorder::little_endian::{F32, U32, U64};

use super::corpus::{Corpus, LabelledReport, LabelledSentence, Snippet};
use super::lessons::Answers;
use super::linear::{Example, Linear, LinearRef, MAX_CLASSES, Recipe};
use super::stack::{self, ClassFacts, Facts, LINEAR_WIDTH, Pairs, WIDTH};
use super::train_status::{Case, SegmentStatus};
use super::trees::{self, Trees, TreesRef};
use super::{ALONE_SEGMENTS, FirstStage, Given, LEAST, View, families, features, phrase_key};
use crate::index::Index;
use crate::index::format::Writer;
use crate::kb::id::{AttackId, Kind};
use crate::kb::{KnowledgeBase, RelationKind, State};
use crate::matching::{Finders, Scratch, Sighting};
use crate::status::Status;
use crate::text::Document;

/// What is learned from; each part can be left out to see what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Folds that the reports are split into, by publisher; at least 2.
    pub folds: usize,
    /// ATT&CK's procedures and descriptions.
    pub procedures: bool,
    /// Phrases and artifact rules in the second stage.
    pub phrases: bool,
    /// Boosted trees; without them the ranker's probability times the gate's.
    pub trees: bool,
    /// Weights kept of the ranker, and of each smaller model a part.
    pub keep: usize,
    /// Share of the sentences without a label that the ranker's "none" learns from.
    pub none_share: f32,
}

impl Default for Options {
    fn default() -> Options {
        Options { folds: 5, procedures: true, phrases: true, trees: true, keep: 320_000, none_share: 0.6 }
    }
}

/// Figures of publishers that were not learned from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Micro F1 over (sentence, technique), asserted ones, and the threshold where it is best.
    pub sentence_exact: f32,
    /// Its precision.
    pub precision: f32,
    /// Its recall.
    pub recall: f32,
    /// The same with techniques rolled up to parents.
    pub sentence_parents: f32,
    /// Micro F1 over (report, parent technique).
    pub report_parents: f32,
    /// Share of labels that the single sentence's best, best five hold.
    pub recall_at: [f32; 2],
    /// Share of (sentence, parent) pairs whose status is right.
    pub status: f32,
    /// Of those not asserted, the share that is not called asserted.
    pub not_asserted: f32,
    /// Expected calibration error of mappings in reports, ten bins.
    pub calibration: f32,
    /// Expected calibration error of the best technique of single labelled sentences (parents).
    pub calibration_alone: f32,
    /// The threshold.
    pub threshold: f32,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sentence exact F1 {:.3} (P {:.3} R {:.3}) parents {:.3}; report parents {:.3}; R@1 {:.3} R@5 {:.3}; status {:.3}, not asserted {:.3}; ECE {:.3}, alone {:.3}; threshold {:.2}",
            self.sentence_exact,
            self.precision,
            self.recall,
            self.sentence_parents,
            self.report_parents,
            self.recall_at[0],
            self.recall_at[1],
            self.status,
            self.not_asserted,
            self.calibration,
            self.calibration_alone,
            self.threshold
        )
    }
}

/// The place in the index of the technique in force for an ID: itself or its successor.
pub(crate) fn place_of<D: AsRef<[u8]>>(index: &Index<D>, id: AttackId) -> Option<u16> {
    index.current(id).filter(|o| o.state() == State::Active).map(crate::index::ObjectRef::place)
}

/// The classes that a segment may describe, with their probabilities.
type Judged = Vec<(u16, f32)>;

/// Labels of each segment, by class.
type Labels = Vec<Vec<(u16, Status)>>;

/// A report, read.
pub(super) struct Read {
    pub(super) document: Document,
    pub(super) sightings: Vec<Sighting>,
    pub(super) labels: Labels,
    /// Its place among those that were read with it.
    pub(super) report: usize,
    pub(super) fold: usize,
}

/// Publishers under which several collections of the same reports stand are one.
fn publisher(vendor: &str) -> &str {
    let name = vendor.strip_prefix("tic-").unwrap_or(vendor);
    if name.starts_with("paloalto") || name.starts_with("unit42") { "paloalto" } else { name }
}

/// A fold for each publisher: the largest first, each into the fold with the fewest reports.
pub(super) fn folds(reports: &[LabelledReport], count: usize) -> Vec<usize> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for report in reports {
        *sizes.entry(publisher(&report.vendor)).or_default() += 1;
    }
    let mut order: Vec<(&str, usize)> = sizes.into_iter().collect();
    order.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    let mut loads = vec![0; count];
    let mut fold_of = BTreeMap::new();
    for (name, n) in order {
        let least = (0..count).min_by_key(|f| (loads[*f], *f)).unwrap_or(0);
        loads[least] += n;
        fold_of.insert(name, least);
    }
    reports.iter().map(|r| fold_of[publisher(&r.vendor)]).collect()
}

pub(super) struct Trainer<'a, D> {
    pub(super) index: &'a Index<D>,
    pub(super) finders: Finders<'a, D>,
    pub(super) ids: Vec<AttackId>,
    pub(super) class_of: BTreeMap<u16, u16>,
    pub(super) families: Vec<u16>,
    pub(super) options: Options,
}

/// The models of one first stage, as bytes.
struct Trained {
    ranker: Vec<u8>,
    gate: Vec<u8>,
}

/// Trains a model for the techniques of `index`. `kb` has the prose; `say` is told of progress and figures.
///
/// Cost: about a minute on two cores with 600 reports; some 2 GB.
pub fn train<D: AsRef<[u8]> + Sync>(
    index: &Index<D>,
    kb: &KnowledgeBase,
    corpus: &Corpus,
    options: &Options,
    say: &(dyn Fn(&str) + Sync),
) -> (Models, Figures) {
    Trainer::new(index, options).run(kb, corpus, say)
}

impl<'a, D: AsRef<[u8]> + Sync> Trainer<'a, D> {
    pub(super) fn new(index: &'a Index<D>, options: &Options) -> Trainer<'a, D> {
        let active = index.of_kind(Kind::Technique).filter(|o| o.state() == State::Active);
        let ids: Vec<AttackId> = active.map(crate::index::ObjectRef::id).take(MAX_CLASSES - 1).collect();
        let class_of = ids.iter().enumerate().filter_map(|(c, id)| Some((index.get(*id)?.place(), c as u16))).collect();
        Trainer { index, finders: Finders::new(index), families: families(&ids), ids, class_of, options: options.clone() }
    }

    pub(super) fn none(&self) -> u16 {
        self.ids.len() as u16
    }

    pub(super) fn class(&self, id: AttackId) -> Option<u16> {
        self.class_of.get(&place_of(self.index, id)?).copied()
    }

    fn read(&self, place: usize, report: &LabelledReport, fold: usize) -> Read {
        let document = Document::new(report.text.clone());
        let sightings = self.finders.read_all(&document, &mut Scratch::default());
        let labels = self.labels(&sightings, &report.sentences);
        Read { document, sightings, labels, report: place, fold }
    }

    /// The labels of a report's segments, from those of its sentences.
    fn labels(&self, sightings: &[Sighting], sentences: &[LabelledSentence]) -> Labels {
        let mut labels = vec![Vec::new(); sightings.len()];
        for sentence in sentences.iter().filter(|s| !s.labels.is_empty()) {
            let classes: Vec<(u16, Status)> = sentence.labels.iter().filter_map(|(id, s)| Some((self.class(*id)?, *s))).collect();
            let mut first = true;
            for (i, sighting) in sightings.iter().enumerate() {
                // A sentence that is cut in two here gives its labels to the piece that it begins with, as the
                // measure counts them, and to the rest as well: who knows which piece says it.
                if sentence.span.contains(sighting.segment.span) || (first && sighting.segment.span.overlaps(sentence.span)) {
                    labels[i].extend(classes.iter().copied());
                    first = false;
                }
            }
        }
        for list in &mut labels {
            list.sort_unstable();
            list.dedup_by_key(|l| l.0);
        }
        labels
    }

    pub(super) fn read_all(&self, reports: &[LabelledReport], folds: &[usize]) -> Vec<Read> {
        reports.par_iter().zip(folds).enumerate().map(|(i, (r, f))| self.read(i, r, *f)).collect()
    }

    /// A single text as an example for the ranker.
    pub(super) fn text_example(&self, text: &str, labels: &[AttackId], weight: f32, scratch: &mut Scratch) -> Option<Example> {
        let classes: BTreeSet<u16> = labels.iter().filter_map(|id| self.class(*id)).collect();
        if classes.is_empty() {
            return None;
        }
        let document = Document::new(text.to_owned());
        let sightings = self.finders.read_all(&document, scratch);
        let mut features = Vec::new();
        for sighting in &sightings {
            features.extend(features::ranker(&sighting.words, &sighting.masked, sighting.segment.span));
        }
        features.sort_by_key(|f| f.0);
        features.dedup_by(|b, a| {
            let same = a.0 == b.0;
            if same {
                a.1 += b.1 * 0.5;
            }
            same
        });
        Some(Example { features, target: shares(classes.into_iter()), weight })
    }

    /// ATT&CK's own text: procedures, and descriptions sentence by sentence.
    pub(super) fn procedures(&self, kb: &KnowledgeBase) -> Vec<Snippet> {
        let mut out = Vec::new();
        for relation in kb.relations.iter().filter(|r| r.kind == RelationKind::Uses && r.target.kind() == Kind::Technique) {
            if !relation.text.is_empty() {
                out.push(Snippet { text: relation.text.clone(), labels: vec![relation.target], weight: 0.7 });
            }
        }
        for object in kb.of_kind(Kind::Technique).filter(|o| o.state == State::Active && !o.description.is_empty()) {
            let document = Document::new(object.description.clone());
            let parent = object.id.is_subtechnique().then(|| kb.objects.get(&object.id.parent())).flatten();
            let name = parent.map_or_else(|| object.name.clone(), |p| format!("{} {}", p.name, object.name));
            out.push(Snippet { text: name, labels: vec![object.id], weight: 1.0 });
            for segment in document.segments() {
                out.push(Snippet { text: segment.span.of(document.text()).to_owned(), labels: vec![object.id], weight: 0.5 });
            }
        }
        out
    }

    pub(super) fn report_examples<'r>(&self, reads: impl Iterator<Item = &'r Read>, weight: f32, none_share: f32) -> Vec<Example> {
        let none = self.none();
        let mut out = Vec::new();
        let mut left = 0.0;
        for read in reads {
            for (sighting, labels) in read.sightings.iter().zip(&read.labels) {
                if labels.is_empty() {
                    // An even share, without chance in it.
                    left += none_share;
                    if left < 1.0 {
                        continue;
                    }
                    left -= 1.0;
                }
                let features = features::ranker(&sighting.words, &sighting.masked, sighting.segment.span);
                if features.is_empty() {
                    continue;
                }
                let target = if labels.is_empty() { vec![(u32::from(none), 1.0)] } else { shares(labels.iter().map(|l| l.0)) };
                out.push(Example { features, target, weight });
            }
        }
        out
    }

    /// Reports with the labels that tell what in them is behaviour.
    fn gate_examples<'r>(&self, reads: impl Iterator<Item = (&'r Read, &'r Labels)>) -> Vec<Example> {
        let mut out = Vec::new();
        for (read, labels) in reads {
            for (i, labels) in labels.iter().enumerate() {
                let features = features::gate(&read.document, &read.sightings, i);
                out.push(Example { features, target: vec![(u32::from(!labels.is_empty()), 1.0)], weight: 1.0 });
            }
        }
        out
    }

    fn rank_recipe(&self) -> Recipe {
        Recipe { classes: self.ids.len() + 1, passes: 12, rate: 0.6, min_examples: 2, keep: self.options.keep, spread: 0.65 }
    }

    fn gate_recipe(&self) -> Recipe {
        Recipe { classes: 2, passes: 5, rate: 0.15, min_examples: 3, keep: self.options.keep / 20, spread: 0.65 }
    }

    /// Trains the parts of the first stage that learn from reports.
    fn first_stage<'r, I: Iterator<Item = &'r Read> + Clone>(&self, reads: I, fixed: &Fixed) -> Trained {
        let mut examples = fixed.ranker.clone();
        examples.extend(self.report_examples(reads.clone(), 1.0, self.options.none_share));
        let ranker = Linear::train(&examples, self.rank_recipe()).to_bytes();
        drop(examples);
        let mut examples = self.gate_examples(reads.map(Read::labelled));
        examples.extend(fixed.gate.iter().cloned());
        let gate = Linear::train(&examples, self.gate_recipe()).to_bytes();
        Trained { ranker, gate }
    }

    fn run(&self, kb: &KnowledgeBase, corpus: &Corpus, say: &(dyn Fn(&str) + Sync)) -> (Models, Figures) {
        let fold_of = folds(&corpus.reports, self.options.folds);
        let mut reads = self.read_all(&corpus.reports, &fold_of);
        let narratives = self.read_all(&corpus.narratives, &vec![usize::MAX; corpus.narratives.len()]);
        let precisions = self.learn_phrases(&mut reads);
        let others: Vec<Collection> = corpus.others.iter().map(|reports| self.collection(reports, &reads)).collect();
        say(&format!(
            "read {} reports, {} segments, {} narratives",
            reads.len(),
            reads.iter().map(|r| r.sightings.len()).sum::<usize>(),
            narratives.len()
        ));

        let procedures = if self.options.procedures { self.procedures(kb) } else { Vec::new() };
        let all: Vec<&Snippet> = procedures.iter().chain(&corpus.snippets).collect();
        let texts: Vec<Example> = all
            .par_iter()
            .map_init(Scratch::default, |scratch, s| self.text_example(&s.text, &s.labels, s.weight, scratch))
            .flatten()
            .collect();
        let mut ranker = texts;
        ranker.extend(self.report_examples(narratives.iter(), 1.0, 1.0));
        say(&format!("{} texts beside the reports", ranker.len()));
        let gate_source = || narratives.iter().map(Read::labelled);
        let fixed = Fixed { gate: self.gate_examples(gate_source()), ranker };
        let (other_gates, trained) = rayon::join(
            || {
                let gate = |fold: usize| {
                    let others = others.iter().flat_map(|c| c.reads(&reads)).filter(|(read, _)| read.fold != fold);
                    let examples = self.gate_examples(others.chain(gate_source()));
                    Linear::train(&examples, self.gate_recipe()).to_bytes()
                };
                (0..=self.options.folds).into_par_iter().map(gate).collect::<Vec<_>>()
            },
            || {
                // One fold more than there are: the last leaves nothing out and is the one that is kept.
                (0..=self.options.folds)
                    .into_par_iter()
                    .map(|fold| {
                        let trained = self.first_stage(reads.iter().filter(|r| r.fold != fold), &fixed);
                        say(&format!("first stage {} of {} done", fold + 1, self.options.folds + 1));
                        trained
                    })
                    .collect::<Vec<Trained>>()
            },
        );
        let stages: Vec<FirstStageBytes> = trained
            .into_iter()
            .zip(other_gates)
            .map(|(Trained { ranker, gate }, other_gate)| FirstStageBytes { ranker, gate, other_gate })
            .collect();
        let views: Vec<Vec<View>> =
            reads.par_iter().map(|read| stages[read.fold].open().views(&read.document, &read.sightings, Given::default())).collect();
        if !self.options.phrases {
            for sighting in reads.iter_mut().flat_map(|r| &mut r.sightings) {
                sighting.phrases.retain(|h| h.proper);
                sighting.artifacts.clear();
            }
        }
        let facts = self.facts(&reads, &views);
        let whole = facts.last().expect("there is one list of facts more than folds");
        let sentences = self.status_sentences(&corpus.statuses);
        let status_models = self.status_models(&reads, &narratives, &sentences, &stages);
        let beside = Ground {
            reads: &[],
            narratives: &narratives,
            status_models: &status_models,
            others: &others,
            stages: &stages,
            facts: &facts,
            sentences: &sentences,
        };
        let linear = self.second(&Ground { reads: &reads, ..beside }, &views, None, say);
        let joined = corpus.answers.as_ref().and_then(|answers| {
            // What no encoder was asked about says nothing of encoders.
            let (reads, views): (Vec<Read>, Vec<Vec<View>>) = reads
                .into_iter()
                .zip(views)
                .filter(|(read, _)| answers.has(read.report))
                .map(|(read, mut views)| {
                    for (segment, view) in views.iter_mut().enumerate() {
                        view.heard = answers.in_context(read.report, segment, &|id| self.class(id));
                    }
                    (read, views)
                })
                .unzip();
            if reads.is_empty() {
                return None;
            }
            say(&format!("with the encoder, which was asked about {} reports:", reads.len()));
            let second = self.second(&Ground { reads: &reads, ..beside }, &views, Some(answers), say);
            say(&format!("with the encoder, on publishers not learned from: {}", second.figures));
            Some(second.to_bytes())
        });
        let Second { stacked, alone, statuses, numbers, figures } = linear;
        let last = stages.last().expect("there is one stage more than folds");

        let mut writer = Writer::default();
        writer.put(*b"CLSS", &self.ids.iter().map(|id| U32::new(id.key())).collect::<Vec<_>>());
        writer.put(*b"RELI", &whole.classes.iter().map(|f| F32::new(f.reliability)).collect::<Vec<_>>());
        writer.put(*b"FREQ", &whole.classes.iter().map(|f| F32::new(f.frequency)).collect::<Vec<_>>());
        let together: Vec<(u16, u16, f32)> = whole.pairs.counted().collect();
        writer.put(*b"PAIO", &together.iter().map(|p| U32::new(p.0.into())).collect::<Vec<_>>());
        writer.put(*b"PAIC", &together.iter().map(|p| U32::new(p.1.into())).collect::<Vec<_>>());
        writer.put(*b"PAIN", &together.iter().map(|p| U32::new(p.2 as u32)).collect::<Vec<_>>());
        writer.put(*b"NUMB", &numbers.map(F32::new));
        writer.put(*b"RANK", &last.ranker);
        writer.put(*b"GATE", &last.gate);
        writer.put(*b"OGAT", &last.other_gate);
        writer.put(*b"STAT", status_models.last().expect("there is one more than folds"));
        writer.put(*b"STTR", &statuses.trees);
        writer.put(*b"STAK", &stacked);
        writer.put(*b"ALON", &alone);
        let former = crate::kb::former_ids(self.index);
        let pairs = || former.iter().flat_map(|(new, old)| old.iter().map(|old| (*old, *new)));
        writer.put(*b"OLDS", &pairs().map(|(old, _)| U32::new(old.key())).collect::<Vec<_>>());
        writer.put(*b"NEWS", &pairs().map(|(_, new)| U32::new(new.key())).collect::<Vec<_>>());
        writer.put(*b"PHRK", &precisions.keys().map(|k| U64::new(*k)).collect::<Vec<_>>());
        writer.put(*b"PHRP", &precisions.values().map(|p| F32::new(*p)).collect::<Vec<_>>());
        (Models { linear: writer.finish(), joined }, figures)
    }

    /// The second stage and the statuses, with what the encoder says where there is that.
    fn second(&self, ground: &Ground<'_>, views: &[Vec<View>], heard: Option<&Answers>, say: &(dyn Fn(&str) + Sync)) -> Second {
        let (mut grown, judged) = self.second_stage(ground, views, heard.is_some(), say);
        let (alone, alone_judged) = self.alone(ground.reads, ground.stages, ground.facts, heard);
        let statuses = self.statuses(ground, views);
        // Reports of collections stand behind those that figures are of. Where there are no others, figures are of these.
        let first = ground.others.iter().flat_map(|c| c.labels.keys()).copied().min();
        let before = ground.reads.partition_point(|read| first.is_none_or(|first| read.report < first));
        let measured = if before == 0 { ground.reads.len() } else { before };
        let alone_measured: Vec<Alone> = alone_judged.into_iter().filter(|case| case.place < measured).collect();
        say(&format!("figures of {measured} reports:"));
        let (numbers, figures) =
            self.figures(&ground.reads[..measured], &judged[..measured], &alone_measured, &statuses.judged[..measured], say);
        for collection in ground.others {
            say(&self.measure_collection(collection, ground.reads, &judged, figures.threshold));
        }
        Second { stacked: grown.pop().unwrap_or_default(), alone, statuses, numbers, figures }
    }

    /// How often each phrase is right. In each report the phrases get what the other folds say; the result is what
    /// all of them say.
    fn learn_phrases(&self, reads: &mut [Read]) -> BTreeMap<u64, f32> {
        let mut counts: BTreeMap<u32, Vec<(f32, f32)>> = BTreeMap::new();
        for read in reads.iter() {
            for (sighting, labels) in read.sightings.iter().zip(&read.labels) {
                for hit in &sighting.phrases {
                    let Some(class) = self.class_of.get(&hit.object) else { continue };
                    let family = self.families[usize::from(*class)];
                    let right = if labels.iter().any(|l| l.0 == *class) {
                        1.0
                    } else if labels.iter().any(|l| self.families[usize::from(l.0)] == family) {
                        0.4
                    } else {
                        0.0
                    };
                    let slot = &mut counts.entry(hit.phrase).or_insert_with(|| vec![(0.0, 0.0); self.options.folds])[read.fold];
                    slot.0 += right;
                    slot.1 += 1.0;
                }
            }
        }
        let estimate = |prior: f32, folds: &[(f32, f32)], without: usize| {
            let sum = folds.iter().enumerate().filter(|(f, _)| *f != without).fold((0.0, 0.0), |s, (_, c)| (s.0 + c.0, s.1 + c.1));
            (sum.0 + 4.0 * prior) / (sum.1 + 4.0)
        };
        for read in reads.iter_mut() {
            let fold = read.fold;
            for hit in read.sightings.iter_mut().flat_map(|s| &mut s.phrases) {
                if let Some(folds) = counts.get(&hit.phrase) {
                    hit.precision = estimate(hit.precision, folds, fold);
                }
            }
        }
        let mut out = BTreeMap::new();
        for (place, (text, record, _)) in self.finders.phrases.all().enumerate() {
            if let (Some(folds), Some(object)) = (counts.get(&(place as u32)), self.index.at(record.object.get())) {
                out.insert(phrase_key(object.id(), text), estimate(record.precision(), folds, usize::MAX));
            }
        }
        out
    }

    /// The labels of a collection under a convention of its own.
    fn collection(&self, reports: &BTreeMap<usize, Vec<LabelledSentence>>, reads: &[Read]) -> Collection {
        let labels: BTreeMap<usize, Labels> =
            reports.iter().map(|(report, sentences)| (*report, self.labels(&reads[*report].sightings, sentences))).collect();
        let classes: BTreeSet<u16> = labels.values().flatten().flatten().map(|l| l.0).collect();
        let parents_only = !classes.iter().any(|c| self.ids[usize::from(*c)].is_subtechnique());
        Collection { labels, classes, parents_only }
    }

    /// Which candidates of a segment a collection's labels tell of, and whether they are right: places in `candidates`. Where
    /// its annotators looked for some techniques only, nothing is known of the others; where they gave parents, the
    /// first of each family stands for it.
    fn told(&self, collection: &Collection, labels: &[(u16, Status)], candidates: impl Iterator<Item = u16>) -> Vec<(usize, bool)> {
        let family = |class: u16| self.families[usize::from(class)];
        let mut families = BTreeSet::new();
        let one = |(i, class): (usize, u16)| {
            if collection.parents_only {
                families.insert(family(class)).then(|| (i, labels.iter().any(|l| family(l.0) == family(class))))
            } else {
                collection.classes.contains(&class).then(|| (i, labels.iter().any(|l| l.0 == class)))
            }
        };
        candidates.enumerate().filter_map(one).collect()
    }

    /// How a collection's reports fare by its own labels, whatever their status.
    fn measure_collection(&self, collection: &Collection, reads: &[Read], judged: &[Vec<Judged>], threshold: f32) -> String {
        let family = |class: u16| self.families[usize::from(class)];
        let (mut reports, mut taken, mut right, mut all) = (0, 0, 0, 0);
        let (mut found, mut gold) = (BTreeSet::new(), BTreeSet::new());
        for (read, judged) in reads.iter().zip(judged) {
            let report = read.report;
            let Some(labels) = collection.labels.get(&report) else { continue };
            reports += 1;
            for (labels, judged) in labels.iter().zip(judged) {
                all += labels.len();
                gold.extend(labels.iter().map(|l| (report, family(l.0))));
                for (i, is_right) in self.told(collection, labels, judged.iter().map(|(class, _)| *class)) {
                    let (class, p) = judged[i];
                    if p >= threshold {
                        taken += 1;
                        right += usize::from(is_right);
                        found.insert((report, family(class)));
                    }
                }
            }
        }
        let f1 = |right: usize, found: usize, gold: usize| 2.0 * right as f32 / (found + gold).max(1) as f32;
        format!(
            "on {reports} reports by labels of another convention: sentence F1 {:.3}, report parents {:.3}",
            f1(right, taken, all),
            f1(found.intersection(&gold).count(), found.len(), gold.len())
        )
    }

    /// What is known of each class: for each fold what the others say, and last what all say.
    fn facts(&self, reads: &[Read], views: &[Vec<View>]) -> Vec<Facts> {
        let folds = self.options.folds;
        // right, first, labelled: by class and fold
        let mut counts = vec![vec![(0.0_f32, 0.0_f32, 0.0_f32); folds]; self.ids.len()];
        let mut pairs: BTreeMap<(u16, u16), Vec<f32>> = BTreeMap::new();
        for (read, views) in reads.iter().zip(views) {
            for (view, labels) in views.iter().zip(&read.labels) {
                for (class, _) in labels {
                    counts[usize::from(*class)][read.fold].2 += 1.0;
                    for (other, _) in labels.iter().filter(|l| l.0 != *class) {
                        pairs.entry((*class, *other)).or_insert_with(|| vec![0.0; folds])[read.fold] += 1.0;
                    }
                }
                if let Some((class, _)) = view.top.first().filter(|(c, _)| *c != self.none()) {
                    let slot = &mut counts[usize::from(*class)][read.fold];
                    slot.1 += 1.0;
                    slot.0 += f32::from(u8::from(labels.iter().any(|l| l.0 == *class)));
                }
            }
        }
        (0..=folds)
            .map(|without| {
                let kept = |fold: &usize| *fold != without;
                let sums = counts.iter().map(|by_fold| {
                    let others = (0..folds).filter(kept).map(|fold| by_fold[fold]);
                    others.fold((0.0, 0.0, 0.0), |s, c| (s.0 + c.0, s.1 + c.1, s.2 + c.2))
                });
                let sums: Vec<(f32, f32, f32)> = sums.collect();
                let classes = sums.iter().enumerate().map(|(class, (right, first, labelled))| ClassFacts {
                    reliability: (right + 3.0 * 0.4) / (first + 3.0),
                    frequency: (1.0 + labelled).ln(),
                    family: self.families[class],
                    is_sub: self.ids[class].is_subtechnique(),
                });
                let pair = |((one, other), by_fold): (&(u16, u16), &Vec<f32>)| {
                    (*one, *other, (0..folds).filter(kept).map(|fold| by_fold[fold]).sum::<f32>())
                };
                // What was seen once says little, and there is much of it.
                let counted = pairs.iter().map(pair).filter(|(_, _, count)| *count >= 2.0);
                Facts { classes: classes.collect(), pairs: Pairs::new(sums.iter().map(|s| s.2).collect(), counted) }
            })
            .collect()
    }

    /// What `grow` makes of all but a fold, for each fold that a report is in (the others stay empty), and last of all.
    pub(super) fn for_each_fold(&self, reads: &[Read], grow: impl Fn(usize) -> Vec<u8>) -> Vec<Vec<u8>> {
        let wanted = |fold: usize| fold == self.options.folds || reads.iter().any(|read| read.fold == fold);
        (0..=self.options.folds).map(|fold| if wanted(fold) { grow(fold) } else { Vec::new() }).collect()
    }

    /// Grows the trees, and judges every report by trees that were grown on the other folds.
    fn second_stage(
        &self,
        ground: &Ground<'_>,
        views: &[Vec<View>],
        heard: bool,
        say: &(dyn Fn(&str) + Sync),
    ) -> (Vec<Vec<u8>>, Vec<Vec<Judged>>) {
        let Ground { reads, facts, others, .. } = *ground;
        let width = if heard { WIDTH } else { LINEAR_WIDTH };
        let class_of = |object: u16| self.class_of.get(&object).copied();
        let rows: Vec<Vec<stack::Rows>> = reads
            .par_iter()
            .zip(views)
            .map(|(read, views)| stack::rows(&read.sightings, views, &facts[read.fold], &class_of, LEAST, false).collect())
            .collect();
        let recipe = trees::Recipe { trees: 220, depth: 5, rate: 0.06, lambda: 4.0, min_weight: 4.0 };
        let grow = |without: usize| {
            let (mut flat, mut answers) = (Vec::new(), Vec::new());
            for (read, rows) in reads.iter().zip(&rows).filter(|(r, _)| r.fold != without) {
                for (labels, rows) in read.labels.iter().zip(rows) {
                    for (class, row) in rows {
                        flat.extend_from_slice(&row[..width]);
                        answers.push(labels.iter().any(|l| l.0 == *class));
                    }
                }
            }
            let mut weights = vec![1.0; answers.len()];
            for collection in others {
                let weight = if collection.parents_only { OTHERS_WEIGHT / 2.0 } else { OTHERS_WEIGHT };
                for (read, rows) in reads.iter().zip(&rows).filter(|(r, _)| r.fold != without) {
                    for (labels, rows) in collection.labels.get(&read.report).into_iter().flatten().zip(rows) {
                        for (i, right) in self.told(collection, labels, rows.iter().map(|(class, _)| *class)) {
                            flat.extend_from_slice(&rows[i].1[..width]);
                            answers.push(right);
                            weights.push(weight);
                        }
                    }
                }
            }
            Trees::grow(&flat, width, &answers, &weights, recipe).to_bytes()
        };
        let grown = self.for_each_fold(reads, grow);
        say("second stage grown");
        let judged = reads
            .par_iter()
            .zip(&rows)
            .zip(views)
            .map(|((read, rows), views)| {
                let trees = TreesRef::open(&grown[read.fold]).expect("just written");
                rows.iter()
                    .zip(views)
                    .map(|(rows, view)| {
                        let p = |class: u16, row: &[f32; WIDTH]| {
                            if self.options.trees {
                                trees.probability(row)
                            } else {
                                view.gate * view.top.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p)
                                    / (1.0 - view.none).max(0.05)
                            }
                        };
                        rows.iter().map(|(class, row)| (*class, p(*class, row))).collect()
                    })
                    .collect()
            })
            .collect();
        (grown, judged)
    }

    /// The trees for single sentences: which of the candidates is right where something is described at all.
    fn alone(&self, reads: &[Read], stages: &[FirstStageBytes], facts: &[Facts], heard: Option<&Answers>) -> (Vec<u8>, Vec<Alone>) {
        let width = if heard.is_some() { WIDTH } else { LINEAR_WIDTH };
        let class_of = |object: u16| self.class_of.get(&object).copied();
        let phrases = self.options.phrases;
        let cases: Vec<(usize, Vec<u16>, stack::Rows)> = reads
            .par_iter()
            .enumerate()
            .map_init(Scratch::default, |scratch, (place, read)| {
                let stage = stages[read.fold].open();
                let mut cases = Vec::new();
                for (segment, (sighting, labels)) in read.sightings.iter().zip(&read.labels).enumerate() {
                    let asserted: Vec<u16> = labels.iter().filter(|l| l.1 == Status::Asserted).map(|l| l.0).collect();
                    if asserted.is_empty() {
                        continue;
                    }
                    let document = Document::new(sighting.segment.span.of(read.document.text()).to_owned());
                    let mut sightings = self.finders.read_all(&document, scratch);
                    if sightings.len() > ALONE_SEGMENTS || sightings.is_empty() {
                        continue;
                    }
                    for hit in sightings.iter_mut().flat_map(|s| &mut s.phrases) {
                        if let Some(old) = sighting.phrases.iter().find(|o| o.phrase == hit.phrase) {
                            hit.precision = old.precision;
                        }
                    }
                    if !phrases {
                        sightings.iter_mut().for_each(|s| {
                            s.phrases.retain(|h| h.proper);
                            s.artifacts.clear();
                        });
                    }
                    let mut views = stage.views(&document, &sightings, Given::default());
                    if let Some(heard) = heard {
                        views[0].heard = heard.by_itself(read.report, segment, &|id| self.class(id));
                    }
                    let rows = stack::rows(&sightings, &views, &facts[read.fold], &class_of, 0.0, true).next().expect("it has a sentence");
                    cases.push((place, asserted, rows));
                }
                cases
            })
            .flatten()
            .collect();
        let recipe = trees::Recipe { trees: 160, depth: 4, rate: 0.07, lambda: 4.0, min_weight: 4.0 };
        let grow = |without: usize| {
            let (mut flat, mut answers) = (Vec::new(), Vec::new());
            for (_, labels, rows) in cases.iter().filter(|c| reads[c.0].fold != without) {
                for (class, row) in rows {
                    flat.extend_from_slice(&row[..width]);
                    answers.push(labels.contains(class));
                }
            }
            Trees::grow(&flat, width, &answers, &vec![1.0; answers.len()], recipe).to_bytes()
        };
        let grown = self.for_each_fold(reads, grow);
        let judged = cases
            .iter()
            .map(|(place, labels, rows)| {
                let trees = TreesRef::open(&grown[reads[*place].fold]).expect("just written");
                let mut ranked: Vec<(u16, f32)> = rows.iter().map(|(class, row)| (*class, trees.score(row))).collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                Alone { place: *place, labels: labels.clone(), ranked }
            })
            .collect();
        (grown.last().cloned().unwrap_or_default(), judged)
    }

    /// Chooses thresholds and measures.
    fn figures(
        &self,
        reads: &[Read],
        judged: &[Vec<Judged>],
        alone: &[Alone],
        statuses: &[Vec<SegmentStatus>],
        say: &(dyn Fn(&str) + Sync),
    ) -> ([f32; 6], Figures) {
        // The trees' probability of being asserted is taken as it is: limits from 0.40 to 0.60 are alike in F1.
        let asserted = 0.5;
        let pairs = self.pairs(reads, judged, statuses, asserted);
        let all = (10..70).map(|step| self.measure(reads, &pairs, step as f32 / 100.0));
        let mut figures = all.fold(Figures::default(), |best, f| if f.sentence_exact > best.sentence_exact { f } else { best });
        let curve: Vec<Figures> = (5..95).map(|s| self.measure(reads, &pairs, s as f32 / 100.0)).collect();
        let precise = curve.iter().find(|f| f.precision >= 0.70).map_or(0.6, |f| f.threshold);
        let thorough = curve.iter().rev().find(|f| f.recall >= 0.60 || f.threshold <= 0.10).map_or(0.15, |f| f.threshold);
        for f in curve.iter().filter(|f| [precise, figures.threshold, thorough].contains(&f.threshold)) {
            say(&format!("threshold {:.2}: precision {:.3}, recall {:.3}, F1 {:.3}", f.threshold, f.precision, f.recall, f.sentence_exact));
        }
        self.measure_status(reads, statuses, asserted, &mut figures);
        let fit = self.fit_alone(alone);
        self.measure_alone(alone, fit, &mut figures);
        figures.calibration = calibration(&pairs);
        ([precise, figures.threshold, thorough, asserted, fit.0, fit.1], figures)
    }

    /// Every (report, segment, class) with its confidence as the mapper gives it, where it is taken as asserted.
    fn pairs(&self, reads: &[Read], judged: &[Vec<Judged>], statuses: &[Vec<SegmentStatus>], limit: f32) -> Vec<Pair> {
        let mut out = Vec::new();
        for (r, read) in reads.iter().enumerate() {
            for (s, labels) in read.labels.iter().enumerate() {
                for (class, p) in &judged[r][s] {
                    let (asserted, _) = statuses[r][s].of(*class);
                    if asserted >= limit {
                        let right = labels.iter().any(|l| l.0 == *class && l.1 == Status::Asserted);
                        out.push(Pair { report: r, segment: s, class: *class, confidence: super::confidence(*p, asserted, false), right });
                    }
                }
            }
        }
        out
    }

    fn measure(&self, reads: &[Read], pairs: &[Pair], threshold: f32) -> Figures {
        let family = |class: u16| self.families[usize::from(class)];
        let taken: Vec<&Pair> = self.without_parents(pairs.iter().filter(|p| p.confidence >= threshold).collect());
        let asserted = |labels: &[(u16, Status)]| labels.iter().filter(|l| l.1 == Status::Asserted).map(|l| l.0).collect::<BTreeSet<u16>>();
        let (mut gold_exact, mut gold_parents) = (0, 0);
        let mut gold_reports: BTreeSet<(usize, u16)> = BTreeSet::new();
        for (r, read) in reads.iter().enumerate() {
            for labels in &read.labels {
                let classes = asserted(labels);
                gold_exact += classes.len();
                let parents: BTreeSet<u16> = classes.into_iter().map(family).collect();
                gold_parents += parents.len();
                gold_reports.extend(parents.into_iter().map(|p| (r, p)));
            }
        }
        let right = taken.iter().filter(|p| p.right).count();
        let parents: BTreeSet<(usize, usize, u16)> = taken.iter().map(|p| (p.report, p.segment, family(p.class))).collect();
        let right_parents =
            parents.iter().filter(|(r, s, f)| reads[*r].labels[*s].iter().any(|l| l.1 == Status::Asserted && family(l.0) == *f)).count();
        let reports: BTreeSet<(usize, u16)> = taken.iter().map(|p| (p.report, family(p.class))).collect();
        let right_reports = reports.intersection(&gold_reports).count();
        let f1 = |right: usize, found: usize, gold: usize| 2.0 * right as f32 / (found + gold).max(1) as f32;
        Figures {
            sentence_exact: f1(right, taken.len(), gold_exact),
            precision: right as f32 / taken.len().max(1) as f32,
            recall: right as f32 / gold_exact.max(1) as f32,
            sentence_parents: f1(right_parents, parents.len(), gold_parents),
            report_parents: f1(right_reports, reports.len(), gold_reports.len()),
            threshold,
            ..Figures::default()
        }
    }

    /// Leaves out a technique where one of its sub-techniques is surer of the same segment.
    fn without_parents<'p>(&self, pairs: Vec<&'p Pair>) -> Vec<&'p Pair> {
        let mut best_sub: BTreeMap<(usize, usize, u16), f32> = BTreeMap::new();
        for p in pairs.iter().filter(|p| self.ids[usize::from(p.class)].is_subtechnique()) {
            let slot = best_sub.entry((p.report, p.segment, self.families[usize::from(p.class)])).or_default();
            *slot = slot.max(p.confidence);
        }
        let surer =
            |p: &Pair| best_sub.get(&(p.report, p.segment, self.families[usize::from(p.class)])).is_some_and(|c| *c >= p.confidence);
        pairs.into_iter().filter(|p| self.ids[usize::from(p.class)].is_subtechnique() || !surer(p)).collect()
    }

    fn measure_status(&self, reads: &[Read], statuses: &[Vec<SegmentStatus>], limit: f32, figures: &mut Figures) {
        let (mut all, mut right, mut others, mut told) = (0_u32, 0_u32, 0_u32, 0_u32);
        for (read, statuses) in reads.iter().zip(statuses) {
            for (labels, judged) in read.labels.iter().zip(statuses) {
                for (class, status) in labels {
                    let (asserted, other) = judged.of(*class);
                    let said = if asserted >= limit { Status::Asserted } else { other };
                    all += 1;
                    right += u32::from(said == *status);
                    others += u32::from(*status != Status::Asserted);
                    told += u32::from(*status != Status::Asserted && said != Status::Asserted);
                }
            }
        }
        figures.status = right as f32 / all.max(1) as f32;
        figures.not_asserted = told as f32 / others.max(1) as f32;
    }

    /// How the log-odds of the best candidate of single sentences tell how often its family is right.
    fn fit_alone(&self, alone: &[Alone]) -> (f32, f32) {
        let family = |class: u16| self.families[usize::from(class)];
        let best = alone.iter().filter_map(|case| Some((case, case.ranked.first()?)));
        let cases: Vec<(f32, bool)> =
            best.map(|(case, (class, score))| (*score, case.labels.iter().any(|l| family(*l) == family(*class)))).collect();
        trees::fit(&cases)
    }

    fn measure_alone(&self, alone: &[Alone], (stretch, shift): (f32, f32), figures: &mut Figures) {
        let mut bins = [(0.0_f32, 0.0_f32); 10];
        let (mut gold, mut hits) = (0_usize, [0_usize; 2]);
        let family = |class: u16| self.families[usize::from(class)];
        for case in alone {
            gold += case.labels.len();
            for (slot, k) in hits.iter_mut().zip([1, 5]) {
                *slot += case.ranked.iter().take(k).filter(|r| case.labels.contains(&r.0)).count();
            }
            if let Some((class, score)) = case.ranked.first() {
                let p = 1.0 / (1.0 + (-(stretch * score + shift)).exp());
                let bin = &mut bins[((p * 10.0) as usize).min(9)];
                bin.0 += p;
                bin.1 += f32::from(u8::from(case.labels.iter().any(|l| family(*l) == family(*class))));
            }
        }
        figures.recall_at = hits.map(|h| h as f32 / gold.max(1) as f32);
        figures.calibration_alone = bins.iter().map(|b| (b.0 - b.1).abs()).sum::<f32>() / alone.len().max(1) as f32;
    }
}

fn calibration(pairs: &[Pair]) -> f32 {
    let mut bins = [(0.0_f32, 0.0_f32); 10];
    let counted: Vec<&Pair> = pairs.iter().filter(|p| p.confidence >= 0.1).collect();
    for p in &counted {
        let bin = &mut bins[((p.confidence * 10.0) as usize).min(9)];
        bin.0 += p.confidence;
        bin.1 += f32::from(u8::from(p.right));
    }
    bins.iter().map(|b| (b.0 - b.1).abs()).sum::<f32>() / counted.len().max(1) as f32
}

/// Equal shares that sum to 1.
fn shares(classes: impl Iterator<Item = u16>) -> Vec<(u32, f32)> {
    let classes: BTreeSet<u16> = classes.collect();
    let share = 1.0 / classes.len().max(1) as f32;
    classes.into_iter().map(|c| (u32::from(c), share)).collect()
}

/// What [`train`] gives.
pub struct Models {
    /// The model of a knowledge base.
    pub linear: Vec<u8>,
    /// The second stage that joins an encoder to it, where the encoder's answers were given.
    pub joined: Option<Vec<u8>>,
}

/// What the second stage learns from.
pub(super) struct Ground<'r> {
    pub(super) reads: &'r [Read],
    pub(super) narratives: &'r [Read],
    others: &'r [Collection],
    pub(super) stages: &'r [FirstStageBytes],
    facts: &'r [Facts],
    pub(super) sentences: &'r [(Read, Case)],
    /// The linear status models, of every fold and of all.
    pub(super) status_models: &'r [Vec<u8>],
}

/// What it learned.
struct Second {
    stacked: Vec<u8>,
    alone: Vec<u8>,
    statuses: super::train_status::Statuses,
    numbers: [f32; 6],
    figures: Figures,
}

impl Second {
    /// As a section of a model file.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.put(*b"NUMB", &self.numbers.map(F32::new));
        writer.put(*b"STTR", &self.statuses.trees);
        writer.put(*b"STAK", &self.stacked);
        writer.put(*b"ALON", &self.alone);
        writer.finish()
    }
}

/// Examples that are in every fold's training.
struct Fixed {
    ranker: Vec<Example>,
    gate: Vec<Example>,
}

pub(super) struct FirstStageBytes {
    ranker: Vec<u8>,
    gate: Vec<u8>,
    other_gate: Vec<u8>,
}

impl Read {
    fn labelled(&self) -> (&Read, &Labels) {
        (self, &self.labels)
    }
}

impl FirstStageBytes {
    pub(super) fn open(&self) -> FirstStage<'_> {
        let linear = |bytes| LinearRef::open(bytes).expect("just written");
        FirstStage { ranker: linear(&self.ranker), gate: linear(&self.gate), other_gate: linear(&self.other_gate) }
    }
}

/// What annotators with a convention of their own said of some of the reports.
struct Collection {
    /// By report.
    labels: BTreeMap<usize, Labels>,
    /// What is labelled anywhere in it.
    classes: BTreeSet<u16>,
    /// No sub-technique is.
    parents_only: bool,
}

impl Collection {
    /// Its reports with its labels.
    fn reads<'r>(&'r self, reads: &'r [Read]) -> impl Iterator<Item = (&'r Read, &'r Labels)> {
        reads.iter().filter_map(|read| Some((read, self.labels.get(&read.report)?)))
    }
}

/// How much a row of such a collection counts in the second stage beside one by the guide. 4 serves its own labels hardly better,
/// and the guide's a little worse (docs/accuracy.md).
const OTHERS_WEIGHT: f32 = 2.0;

struct Alone {
    /// Its report's place among those that were judged with it.
    place: usize,
    labels: Vec<u16>,
    /// Classes with their log-odds, best first.
    ranked: Vec<(u16, f32)>,
}

struct Pair {
    report: usize,
    segment: usize,
    class: u16,
    confidence: f32,
    right: bool,
}
