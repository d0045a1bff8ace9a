//! How good a mapping is: measured on reports whose every sentence was labelled.
//!
//! Two runs, as a user would make them: whole reports with the threshold in use, for precision, recall, F1 and the
//! statuses; and each labelled sentence alone with no threshold, for what stands first and for the calibration.
//! Evidence counts for the sentence that its start lies in. Every ID, given or found, is moved to its successor.
//!
//! ```
//! use ttpmap::{Index, Mapper};
//! use ttpmap::eval::{Evaluator, Options, read_jsonl};
//!
//! let lines = r#"{"text": "The attackers ran scripts (T1059.001).", "gold": [{"start": 0, "end": 38, "labels": ["T1059.001"]}]}"#;
//! let reports = read_jsonl(lines.as_bytes(), "lines").collect::<Result<Vec<_>, _>>()?;
//! let index = Index::embedded();
//! let mut evaluator = Evaluator::new(Mapper::new(&index), Options::default());
//! evaluator.add(&reports);
//! assert_eq!(evaluator.report().sentence.exact.recall(), 1.0);
//! # Ok::<(), ttpmap::eval::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read};

use rayon::prelude::*;
use serde::Deserialize;

use crate::index::{Index, ObjectRef};
use crate::kb::id::{AttackId, Kind};
use crate::model::Profile;
use crate::model::corpus::LabelledReport;
use crate::rank::{self, Mapper, Mapping, Workspace};
use crate::status::Status;
use crate::text::{Document, MAX_TEXT_BYTES, Span};

/// How many of the best techniques of a sentence are looked at for [`Report::recall`].
pub const DEPTHS: [usize; 3] = [1, 3, 5];
/// Bins of equal width in a [`Calibration`].
pub const BINS: usize = 10;
/// The longest line that is read: escapes may double a text.
const MAX_LINE_BYTES: u64 = 2 * MAX_TEXT_BYTES;

type Ids = BTreeSet<AttackId>;

/// A sentence with what it describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Where it stands in the report's text.
    pub span: Span,
    /// The techniques that it says were used; empty for most sentences.
    pub labels: Vec<AttackId>,
    /// Techniques that are neither right nor wrong here.
    pub ignore: Vec<AttackId>,
    /// Techniques that it speaks of otherwise.
    pub other: Vec<(AttackId, Status)>,
}

/// A report whose sentences were labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Its text.
    pub text: String,
    /// Its sentences, by where they begin.
    pub sentences: Vec<Sentence>,
}

impl From<&LabelledReport> for Labelled {
    fn from(report: &LabelledReport) -> Labelled {
        let sentence = |s: &crate::model::corpus::LabelledSentence| {
            let labels = s.labels.iter().filter(|(_, status)| *status == Status::Asserted).map(|(id, _)| *id).collect();
            let other = s.labels.iter().filter(|(_, status)| *status != Status::Asserted).copied().collect();
            Sentence { span: s.span, labels, ignore: Vec::new(), other }
        };
        let mut sentences: Vec<Sentence> = report.sentences.iter().map(sentence).collect();
        sentences.sort_by_key(|s| s.span.start);
        Labelled { text: report.text.clone(), sentences }
    }
}

/// Why a file can't be measured on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It can't be read on.
    #[error("{name}, line {line}: reading it failed")]
    Read {
        /// The file's name.
        name: String,
        /// Which line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{name}, line {line}: {what}")]
    Line {
        /// The file's name.
        name: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize)]
struct JsonReport {
    text: String,
    gold: Vec<JsonSentence>,
}

#[derive(Deserialize)]
struct JsonSentence {
    start: usize,
    end: usize,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default)]
    other: Vec<(String, String)>,
}

/// Reads labelled reports, one a line: `{"text", "gold": [{"start", "end", "labels", "ignore", "other"}]}`. Blank lines are
/// passed over, and nothing comes after the first error. `name` is what errors call the file.
pub fn read_jsonl<R: BufRead>(reader: R, name: &str) -> impl Iterator<Item = Result<Labelled, Error>> + use<R> {
    Lines { reader, name: name.to_owned(), line: 0, over: false }
}

struct Lines<R> {
    reader: R,
    name: String,
    line: usize,
    over: bool,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Labelled, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        while !self.over {
            self.line += 1;
            bytes.clear();
            let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
            let report = match read {
                Ok(0) => return None,
                Ok(_) if bytes.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(read) if read as u64 == MAX_LINE_BYTES && !bytes.ends_with(b"\n") => {
                    Err(self.bad(format!("longer than {} MiB", MAX_LINE_BYTES >> 20)))
                }
                Ok(_) => labelled(&bytes).map_err(|what| self.bad(what)),
                Err(source) => Err(Error::Read { name: self.name.clone(), line: self.line, source }),
            };
            self.over = report.is_err();
            return Some(report);
        }
        None
    }
}

impl<R> Lines<R> {
    fn bad(&self, what: String) -> Error {
        Error::Line { name: self.name.clone(), line: self.line, what }
    }
}

fn labelled(line: &[u8]) -> Result<Labelled, String> {
    if line.starts_with(b"\xfd7zXZ") || line.starts_with(b"\x1f\x8b") {
        return Err("it is compressed; decompress it first, or pipe it in and name - as the file".to_owned());
    }
    let json: JsonReport = serde_json::from_slice(line).map_err(|e| format!("not a labelled report: {e}"))?;
    if json.text.len() as u64 > MAX_TEXT_BYTES {
        return Err(format!("the text is over {} MiB", MAX_TEXT_BYTES >> 20));
    }
    let mut sentences: Vec<Sentence> = Vec::with_capacity(json.gold.len());
    for gold in json.gold {
        let (start, end) = (gold.start, gold.end);
        if json.text.get(start..end).is_none() {
            return Err(format!("sentence {start}..{end} is not in the text, or cuts a character: UTF-8 byte offsets are wanted"));
        }
        if let Some(before) = sentences.last().filter(|s| s.span.start > start) {
            return Err(format!("sentence {start}..{end} stands after {}..{}: sort them", before.span.start, before.span.end));
        }
        let ids = |list: &[String]| list.iter().map(|id| technique(id)).collect::<Result<Vec<_>, _>>();
        let status = |(id, status): &(String, String)| Ok((technique(id)?, status.parse().map_err(|e| format!("{e}"))?));
        sentences.push(Sentence {
            span: Span::new(start, end),
            labels: ids(&gold.labels)?,
            ignore: ids(&gold.ignore)?,
            other: gold.other.iter().map(status).collect::<Result<_, String>>()?,
        });
    }
    Ok(Labelled { text: json.text, sentences })
}

fn technique(text: &str) -> Result<AttackId, String> {
    let id: AttackId = text.parse().map_err(|e| format!("{e}"))?;
    if id.kind() == Kind::Technique { Ok(id) } else { Err(format!("{id} is a {}, and labels are techniques", id.kind().name())) }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// The threshold for whole reports; the knowledge base's own where none is given.
    pub min_confidence: Option<f32>,
    /// Which of the knowledge base's thresholds, where none is given.
    pub profile: Profile,
    /// The techniques that the annotators looked for, all where empty. Others, given or found, don't count; the statuses
    /// and the calibration are of all.
    pub only: Vec<AttackId>,
}

/// A figure for techniques as they are, and one with every sub-technique taken for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByLevel<T> {
    /// Technique and sub-technique must match.
    pub exact: T,
    /// Parents must match.
    pub parent: T,
}

impl<T: Copy> ByLevel<T> {
    fn get(&self, level: Level) -> T {
        match level {
            Level::Exact => self.exact,
            Level::Parent => self.parent,
        }
    }
}

impl<T> ByLevel<T> {
    fn of(&mut self, level: Level) -> &mut T {
        match level {
            Level::Exact => &mut self.exact,
            Level::Parent => &mut self.parent,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Exact,
    Parent,
}

impl Level {
    const ALL: [Level; 2] = [Level::Exact, Level::Parent];

    fn up(self, id: AttackId) -> AttackId {
        match self {
            Level::Exact => id,
            Level::Parent => id.parent(),
        }
    }
}

/// Right ones, wrong ones and missed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Found and given.
    pub right: u64,
    /// Found and not given.
    pub wrong: u64,
    /// Given and not found.
    pub missed: u64,
}

impl Counts {
    /// Those that annotators gave.
    pub fn labels(self) -> u64 {
        self.right + self.missed
    }

    /// Those that the mapper found.
    pub fn found(self) -> u64 {
        self.right + self.wrong
    }

    /// Share of right ones among those found; 0 where nothing was.
    pub fn precision(self) -> f64 {
        share(self.right, self.found())
    }

    /// Share of those given that were found; 0 where nothing was given.
    pub fn recall(self) -> f64 {
        share(self.right, self.labels())
    }

    /// The harmonic mean of both; 0 where both are.
    pub fn f1(self) -> f64 {
        let (p, r) = (self.precision(), self.recall());
        if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 }
    }

    /// `found` must be without what is to be ignored.
    fn of(gold: &Ids, found: &Ids) -> Counts {
        let right = gold.intersection(found).count() as u64;
        Counts { right, wrong: found.len() as u64 - right, missed: gold.len() as u64 - right }
    }

    fn add(&mut self, other: Counts) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A figure as it is published: four digits.
pub fn four_digits(figure: f64) -> f64 {
    // By way of the decimal digits: multiplying and rounding takes some halves the other way.
    format!("{figure:.4}").parse().unwrap_or(figure)
}

/// A mean, as it grows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    /// The sum of what came in.
    pub sum: f64,
    /// How many came in.
    pub count: u64,
}

impl Mean {
    /// The mean; 0 of nothing.
    pub fn value(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

/// Labels of single sentences that stand among the best there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recall {
    /// The labels.
    pub labels: u64,
    /// How many of them are among the best so many: one number for each of [`DEPTHS`].
    pub hits: [u64; DEPTHS.len()],
}

impl Recall {
    /// The shares, for each of [`DEPTHS`].
    pub fn shares(self) -> [f64; DEPTHS.len()] {
        self.hits.map(|hits| share(hits, self.labels))
    }
}

/// The statuses of (sentence, parent technique) pairs that annotators gave one, as far as the mapper speaks of the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statuses {
    /// The pairs.
    pub pairs: u64,
    /// Those whose status is right.
    pub right: u64,
    /// Those that are not asserted.
    pub not_asserted: u64,
    /// Those of them that the mapper does not call asserted.
    pub kept_apart: u64,
}

impl Statuses {
    /// Share of pairs whose status is right.
    pub fn accuracy(self) -> f64 {
        share(self.right, self.pairs)
    }

    /// Share of the not asserted ones that are not called asserted.
    pub fn not_asserted_recall(self) -> f64 {
        share(self.kept_apart, self.not_asserted)
    }
}

/// One bin of a [`Calibration`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bin {
    /// How many fell into it.
    pub count: u64,
    /// The sum of their confidences.
    pub confidence: f64,
    /// How many of them are right.
    pub right: u64,
}

/// Confidences against how often they are right.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Calibration {
    /// From 0 up, each a tenth wide; 1 is in the last.
    pub bins: [Bin; BINS],
}

impl Calibration {
    /// The expected calibration error: what confidence and share of right ones differ by, averaged over all.
    pub fn error(&self) -> f64 {
        let count: u64 = self.bins.iter().map(|b| b.count).sum();
        let apart: f64 = self.bins.iter().map(|b| (b.confidence - b.right as f64).abs()).sum();
        apart / count.max(1) as f64
    }

    fn put(&mut self, confidence: f64, right: bool) {
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.confidence += confidence;
        bin.right += u64::from(right);
    }

    fn add(&mut self, other: &Calibration) {
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            bin.count += more.count;
            bin.confidence += more.confidence;
            bin.right += more.right;
        }
    }
}

/// A confidence as the formats write it: with three digits.
fn written(confidence: f32) -> f64 {
    (f64::from(confidence) * 1000.0).round() / 1000.0
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Reports that were read.
    pub reports: u64,
    /// Their sentences.
    pub sentences: u64,
    /// Sentences with a label.
    pub labelled: u64,
    /// Over pairs of sentence and technique.
    pub sentence: ByLevel<Counts>,
    /// Over pairs of report and technique.
    pub report: ByLevel<Counts>,
    /// Each report's own F1, of reports with a label: "per-document F1" in papers.
    pub mean_f1: ByLevel<Mean>,
    /// Labels of labelled sentences among the best techniques for that sentence alone.
    pub recall: ByLevel<Recall>,
    /// Statuses.
    pub statuses: Statuses,
    /// Of the best technique of each labelled sentence alone, which is right if its parent is.
    pub best: Calibration,
    /// Of every asserted technique of a sentence over the threshold, which is right if it is exactly.
    pub mappings: Calibration,
    /// `sentence.exact`, technique by technique.
    pub techniques: BTreeMap<AttackId, Counts>,
    /// A technique that a sentence was given and that was missed, and a wrong one found in that sentence: how often.
    pub confusions: BTreeMap<(AttackId, AttackId), u64>,
}

impl Report {
    /// The techniques, lowest F1 first; where it is the same, most mistakes first, then by ID.
    pub fn worst_techniques(&self) -> Vec<(AttackId, Counts)> {
        let mut all: Vec<(AttackId, Counts)> = self.techniques.iter().map(|(id, counts)| (*id, *counts)).collect();
        let mistakes = |c: Counts| c.wrong + c.missed;
        all.sort_by(|(a, x), (b, y)| x.f1().total_cmp(&y.f1()).then(mistakes(*y).cmp(&mistakes(*x))).then(a.cmp(b)));
        all
    }

    /// The confusions, most frequent first, then by ID: what was given, what was said instead, how often.
    pub fn worst_confusions(&self) -> Vec<(AttackId, AttackId, u64)> {
        let mut all: Vec<_> = self.confusions.iter().map(|((gold, said), count)| (*gold, *said, *count)).collect();
        all.sort_by_key(|(gold, said, count)| (std::cmp::Reverse(*count), *gold, *said));
        all
    }

    fn add(&mut self, other: &Report) {
        self.reports += other.reports;
        self.sentences += other.sentences;
        self.labelled += other.labelled;
        for level in Level::ALL {
            self.sentence.of(level).add(other.sentence.get(level));
            self.report.of(level).add(other.report.get(level));
            let (mean, more) = (self.mean_f1.of(level), other.mean_f1.get(level));
            mean.sum += more.sum;
            mean.count += more.count;
            let (recall, more) = (self.recall.of(level), other.recall.get(level));
            recall.labels += more.labels;
            recall.hits.iter_mut().zip(more.hits).for_each(|(hits, more)| *hits += more);
        }
        self.statuses.pairs += other.statuses.pairs;
        self.statuses.right += other.statuses.right;
        self.statuses.not_asserted += other.statuses.not_asserted;
        self.statuses.kept_apart += other.statuses.kept_apart;
        self.best.add(&other.best);
        self.mappings.add(&other.mappings);
        for (id, counts) in &other.techniques {
            self.techniques.entry(*id).or_default().add(*counts);
        }
        for (pair, count) in &other.confusions {
            *self.confusions.entry(*pair).or_default() += count;
        }
    }
}

/// What a mapper found, sentence by sentence.
struct Heard {
    /// Asserted, by the sentence's place, with the confidence.
    asserted: Vec<BTreeMap<AttackId, f64>>,
    /// The status of each parent technique that is spoken of.
    statuses: Vec<BTreeMap<AttackId, Status>>,
    /// Asserted anywhere in the report.
    anywhere: Ids,
}

impl Heard {
    fn new(mapping: &Mapping, sentences: &[Sentence]) -> Heard {
        let mut asserted: Vec<BTreeMap<AttackId, f64>> = vec![BTreeMap::new(); sentences.len()];
        let mut statuses: Vec<BTreeMap<AttackId, Status>> = vec![BTreeMap::new(); sentences.len()];
        for found in &mapping.techniques {
            for evidence in &found.evidence {
                // What stands before the first sentence is of none.
                let Some(place) = sentences.partition_point(|s| s.span.start <= evidence.span.start).checked_sub(1) else { continue };
                // Asserted once, it stays so; of other statuses the last speaks.
                let said = statuses[place].entry(found.id.parent()).or_insert(evidence.status);
                if *said != Status::Asserted {
                    *said = evidence.status;
                }
                if evidence.status == Status::Asserted {
                    let best = asserted[place].entry(found.id).or_default();
                    *best = best.max(written(evidence.confidence));
                }
            }
        }
        Heard { asserted, statuses, anywhere: mapping.asserted().map(|t| t.id).collect() }
    }
}

/// Measures a knowledge base, some reports at a time. On all cores, with the same figures on any number.
pub struct Evaluator<'a, D> {
    index: &'a Index<D>,
    mapper: Mapper<'a, D>,
    options: Options,
    only: ByLevel<Ids>,
    report: Report,
}

impl<'a, D: AsRef<[u8]> + Sync> Evaluator<'a, D> {
    /// Begins with nothing measured.
    pub fn new(mapper: Mapper<'a, D>, options: Options) -> Evaluator<'a, D> {
        let mut evaluator = Evaluator { index: mapper.index(), mapper, options, only: ByLevel::default(), report: Report::default() };
        for level in Level::ALL {
            let ids = evaluator.options.only.iter().map(|id| level.up(evaluator.current(*id))).collect();
            *evaluator.only.of(level) = ids;
        }
        evaluator
    }

    /// The threshold in use for whole reports.
    pub fn min_confidence(&self) -> f32 {
        self.options.min_confidence.unwrap_or_else(|| self.mapper.default_min_confidence(self.options.profile))
    }

    /// The figures of everything added so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Measures some more reports.
    pub fn add(&mut self, reports: &[Labelled]) {
        let each: Vec<Report> = reports.par_iter().map_init(Workspace::default, |w, labelled| self.measure(w, labelled)).collect();
        for one in &each {
            self.report.add(one);
        }
    }

    /// The ID in force; an unknown one stays what it is.
    fn current(&self, id: AttackId) -> AttackId {
        self.index.current(id).map_or(id, ObjectRef::id)
    }

    /// IDs in force, of a level, as far as they count.
    fn counted(&self, level: Level, ids: impl IntoIterator<Item = AttackId>) -> Ids {
        let only = match level {
            Level::Exact => &self.only.exact,
            Level::Parent => &self.only.parent,
        };
        ids.into_iter().map(|id| level.up(self.current(id))).filter(|id| only.is_empty() || only.contains(id)).collect()
    }

    fn measure(&self, workspace: &mut Workspace, labelled: &Labelled) -> Report {
        let sentences = &labelled.sentences;
        let with_label = sentences.iter().filter(|s| !s.labels.is_empty());
        let mut report =
            Report { reports: 1, sentences: sentences.len() as u64, labelled: with_label.clone().count() as u64, ..Report::default() };
        let options =
            rank::Options { min_confidence: self.options.min_confidence, profile: self.options.profile, ..rank::Options::default() };
        let mapping = self.mapper.map_with(workspace, &Document::new(labelled.text.clone()), &options);
        let heard = Heard::new(&mapping, sentences);
        for level in Level::ALL {
            self.whole(level, sentences, &heard, &mut report);
        }
        for (sentence, said) in sentences.iter().zip(&heard.statuses) {
            self.statuses(sentence, said, &mut report.statuses);
        }
        let everything = rank::Options { min_confidence: Some(0.0), ..rank::Options::default() };
        for sentence in with_label {
            let mapping = self.mapper.map_with(workspace, &Document::new(sentence.span.of(&labelled.text)), &everything);
            self.alone(sentence, &mapping, &mut report);
        }
        report
    }

    /// What was found in the whole report.
    fn whole(&self, level: Level, sentences: &[Sentence], heard: &Heard, report: &mut Report) {
        let (mut gold_all, mut ignored_all) = (Ids::new(), Ids::new());
        for (sentence, asserted) in sentences.iter().zip(&heard.asserted) {
            let gold = self.counted(level, sentence.labels.iter().copied());
            let ignored = self.counted(level, sentence.ignore.iter().copied());
            let mut found = self.counted(level, asserted.keys().copied());
            found.retain(|id| gold.contains(id) || !ignored.contains(id));
            report.sentence.of(level).add(Counts::of(&gold, &found));
            if level == Level::Exact {
                details(&gold, &found, report);
                for (id, confidence) in asserted.iter().filter(|(id, _)| found.contains(id)) {
                    report.mappings.put(*confidence, gold.contains(id));
                }
            }
            gold_all.extend(gold);
            ignored_all.extend(ignored);
        }
        let mut found = self.counted(level, heard.anywhere.iter().copied());
        found.retain(|id| gold_all.contains(id) || !ignored_all.contains(id));
        let counts = Counts::of(&gold_all, &found);
        report.report.of(level).add(counts);
        if !gold_all.is_empty() {
            *report.mean_f1.of(level) = Mean { sum: four_digits(counts.f1()), count: 1 };
        }
    }

    fn statuses(&self, sentence: &Sentence, said: &BTreeMap<AttackId, Status>, statuses: &mut Statuses) {
        let parent = |id: AttackId| self.current(id).parent();
        let mut given: BTreeMap<AttackId, Status> = sentence.other.iter().map(|(id, status)| (parent(*id), *status)).collect();
        given.extend(sentence.labels.iter().map(|id| (parent(*id), Status::Asserted)));
        for (id, status) in given {
            let Some(said) = said.get(&id) else { continue };
            statuses.pairs += 1;
            statuses.right += u64::from(*said == status);
            if status != Status::Asserted {
                statuses.not_asserted += 1;
                statuses.kept_apart += u64::from(*said != Status::Asserted);
            }
        }
    }

    /// What was found in a labelled sentence that stands alone, with no threshold.
    fn alone(&self, sentence: &Sentence, mapping: &Mapping, report: &mut Report) {
        for level in Level::ALL {
            let gold: Ids = sentence.labels.iter().map(|id| level.up(self.current(*id))).collect();
            let mut order: Vec<AttackId> = Vec::new();
            for found in &mapping.techniques {
                let id = self.counted(level, [found.id]).pop_first();
                order.extend(id.filter(|id| !order.contains(id)));
            }
            let recall = report.recall.of(level);
            recall.labels += gold.len() as u64;
            for (hits, depth) in recall.hits.iter_mut().zip(DEPTHS) {
                *hits += order.iter().take(depth).filter(|id| gold.contains(id)).count() as u64;
            }
        }
        if let Some(best) = mapping.techniques.first() {
            let parent = self.current(best.id).parent();
            let right = sentence.labels.iter().any(|id| self.current(*id).parent() == parent);
            report.best.put(written(best.confidence), right);
        }
    }
}

/// Technique by technique, and what was said instead.
fn details(gold: &Ids, found: &Ids, report: &mut Report) {
    for id in gold.union(found) {
        let counts = report.techniques.entry(*id).or_default();
        match (gold.contains(id), found.contains(id)) {
            (true, true) => counts.right += 1,
            (true, false) => counts.missed += 1,
            _ => counts.wrong += 1,
        }
    }
    for missed in gold.difference(found) {
        for wrong in found.difference(gold) {
            *report.confusions.entry((*missed, *wrong)).or_default() += 1;
        }
    }
}
