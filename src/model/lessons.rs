//! What the encoder learns from, as text: the same reports, sentences and procedures as the linear models, read the same
//! way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, Error, LabelledReport};
use super::stack::Heard;
use super::train::{Options, Read, Trainer, folds};
use crate::encoder::input::{context, plain};
use crate::encoder::{Asked, EncoderModel};
use crate::index::Index;
use crate::kb::KnowledgeBase;
use crate::kb::id::AttackId;
use crate::matching::{Scratch, Sighting};
use crate::text::Document;

/// One text that the encoder reads.
#[derive(Serialize)]
struct Lesson<'l> {
    /// `reports`, `narratives`, `written`, `texts`, `status`.
    set: &'l str,
    /// Place of its report in the set, and its place in the report.
    report: usize,
    segment: usize,
    /// Which of the folds it is in; reports of one publisher are in one.
    fold: usize,
    text: String,
    /// The heading above it and the segment before it; empty where there are none.
    heading: String,
    before: String,
    /// What it describes, with the status of each.
    labels: Vec<(String, &'static str)>,
    weight: f32,
}

/// Every lesson as JSON Lines: {"set", "report", "segment", "fold", "text", "heading", "before", "labels", "weight"}. A text that
/// is of no report is in fold 0; one of the status sentences has its status under the empty ID.
pub fn lessons<D: AsRef<[u8]> + Sync>(index: &Index<D>, kb: &KnowledgeBase, corpus: &Corpus, options: &Options) -> String {
    let trainer = Trainer::new(index, options);
    let mut out = String::new();
    let mut put = |lesson: &Lesson<'_>| {
        let _ = writeln!(out, "{}", serde_json::to_string(lesson).expect("plain data"));
    };
    let mut reports = |set: &str, reports: &[LabelledReport], folds: &[usize]| {
        for lesson in trainer.read_all(reports, folds).iter().flat_map(|read| trainer.of_read(set, read)) {
            put(&lesson);
        }
    };
    reports("reports", &corpus.reports, &folds(&corpus.reports, options.folds));
    reports("narratives", &corpus.narratives, &vec![0; corpus.narratives.len()]);
    reports("written", &corpus.written, &vec![0; corpus.written.len()]);
    let procedures = if options.procedures { trainer.procedures(kb) } else { Vec::new() };
    let texts: Vec<_> = procedures.iter().chain(&corpus.snippets).collect();
    let read = |(i, snippet): (usize, &&super::corpus::Snippet)| {
        let document = Document::new(snippet.text.clone());
        let sightings = trainer.finders.read_all(&document, &mut Scratch::default());
        let text: Vec<String> = sightings.iter().map(|sighting| plain(&document, sighting)).collect();
        let labels = snippet.labels.iter().filter_map(|id| Some((trainer.ids[usize::from(trainer.class(*id)?)].to_string(), "asserted")));
        Lesson {
            set: "texts",
            report: i,
            segment: 0,
            fold: 0,
            text: text.join(" "),
            heading: String::new(),
            before: String::new(),
            labels: labels.collect(),
            weight: snippet.weight,
        }
    };
    for lesson in texts.par_iter().enumerate().map(read).collect::<Vec<_>>() {
        put(&lesson);
    }
    let mut scratch = Scratch::default();
    for (i, sentence) in corpus.statuses.iter().enumerate() {
        let (read, focus) = trainer.read_status_sentence(sentence, &mut scratch);
        let Some(place) = read.document.segment_at(focus.start) else { continue };
        let [text, heading, before] = texts_of(&read.document, &read.sightings, place);
        let labels = vec![(String::new(), sentence.status.name())];
        put(&Lesson { set: "status", report: i, segment: 0, fold: 0, text, heading, before, labels, weight: 1.0 });
    }
    out
}

/// A segment, the heading above it and the segment before it, as the encoder reads them.
fn texts_of(document: &Document, sightings: &[Sighting], place: usize) -> [String; 3] {
    let [heading, before] = context(sightings, place).map(|place| place.map_or_else(String::new, |p| plain(document, &sightings[p])));
    [plain(document, &sightings[place]), heading, before]
}

/// What the encoder by itself says of lessons, a line each: {"none", "behaviour", "status", "top"}, probabilities with
/// seven digits. To compare it with what PyTorch says.
///
/// # Errors
/// Where a line is no lesson.
pub fn answers(model: &EncoderModel, lessons: &str) -> Result<String, serde_json::Error> {
    #[derive(Deserialize)]
    struct Line {
        text: String,
        heading: String,
        before: String,
    }
    let lines = lessons.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>()?;
    // A text that is another's context too is one text.
    let texts: BTreeSet<&str> = lines.iter().flat_map(|l| [&l.text, &l.heading, &l.before]).map(String::as_str).collect();
    let texts: Vec<&str> = texts.into_iter().collect();
    let place = |text: &str| texts.binary_search(&text).expect("all are there");
    let heard = |text: &str| (!text.is_empty()).then(|| place(text));
    let asked: Vec<Asked> =
        lines.iter().map(|line| Asked { own: place(&line.text), context: [heard(&line.heading), heard(&line.before)] }).collect();
    let text = |place: usize| texts[place].to_owned();
    let round = |p: f32| (f64::from(p) * 1e7).round() / 1e7;
    let mut out = String::new();
    for said in model.encoder().read(&asked, text) {
        let none = said.techniques.last().copied().unwrap_or_default();
        let mut top: Vec<(String, f64)> =
            model.encoder().labels.iter().zip(&said.techniques).map(|(id, p)| (id.to_string(), round(*p))).collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1));
        top.truncate(16);
        let status: Vec<f64> = said.statuses.iter().map(|p| round(*p)).collect();
        let line = serde_json::json!({"top": top, "none": round(none), "behaviour": round(said.behaviour), "status": status});
        let _ = writeln!(out, "{line}");
    }
    Ok(out)
}

/// What an encoder says of one text, in JSON.
#[derive(Deserialize)]
struct JsonAnswer {
    top: Vec<(String, f32)>,
    none: f32,
    behaviour: f32,
    status: [f32; 6],
}

#[derive(Deserialize)]
struct JsonLine {
    set: String,
    report: usize,
    segment: usize,
    own: JsonAnswer,
    context: JsonAnswer,
}

/// The same, its techniques told.
#[derive(Debug, Clone)]
struct Answer {
    top: Vec<(AttackId, f32)>,
    none: f32,
    behaviour: f32,
    statuses: [f32; 6],
}

/// What encoders said of the segments of reports that they had not seen: by report and segment, by itself and in its
/// context.
#[derive(Debug, Clone, Default)]
pub struct Answers(BTreeMap<(usize, usize), [Answer; 2]>);

impl Answers {
    /// Adds what `tools/encoder/train.py --scores` wrote.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn add(&mut self, path: &Path) -> Result<(), Error> {
        for (i, line) in crate::curated::text_of(path)?.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let bad = |what: String| Error::Line { path: path.to_owned(), line: i + 1, what };
            let line: JsonLine = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            if line.set != "reports" {
                return Err(bad(format!("`{}` is no set that encoders are asked about: answers of another build?", line.set)));
            }
            let told = |answer: JsonAnswer| {
                let top = answer.top.into_iter().map(|(id, p)| Ok((id.parse().map_err(|e| bad(format!("{e}")))?, p)));
                let top = top.collect::<Result<_, Error>>()?;
                Ok::<_, Error>(Answer { top, none: answer.none, behaviour: answer.behaviour, statuses: answer.status })
            };
            self.0.insert((line.report, line.segment), [told(line.own)?, told(line.context)?]);
        }
        Ok(())
    }

    /// Whether an encoder was asked about a report.
    pub(super) fn has(&self, report: usize) -> bool {
        self.0.range((report, 0)..=(report, usize::MAX)).next().is_some()
    }

    pub(super) fn by_itself(&self, report: usize, segment: usize, class: &dyn Fn(AttackId) -> Option<u16>) -> Option<Heard> {
        self.0.get(&(report, segment)).map(|a| a[0].heard(class))
    }

    pub(super) fn in_context(&self, report: usize, segment: usize, class: &dyn Fn(AttackId) -> Option<u16>) -> Option<Heard> {
        self.0.get(&(report, segment)).map(|a| a[1].heard(class))
    }
}

impl Answer {
    fn heard(&self, class: &dyn Fn(AttackId) -> Option<u16>) -> Heard {
        let said = self.top.iter().filter_map(|(id, p)| Some((class(*id)?, *p)));
        Heard::new(said, self.none, self.behaviour, self.statuses)
    }
}

impl<D: AsRef<[u8]> + Sync> Trainer<'_, D> {
    fn of_read<'l>(&self, set: &'l str, read: &Read) -> Vec<Lesson<'l>> {
        let lesson = |(segment, labels): (usize, &Vec<(u16, crate::status::Status)>)| {
            let [text, heading, before] = texts_of(&read.document, &read.sightings, segment);
            let labels = labels.iter().map(|(class, status)| (self.ids[usize::from(*class)].to_string(), status.name())).collect();
            Lesson { set, report: read.report, segment, fold: read.fold, text, heading, before, labels, weight: 1.0 }
        };
        read.labels.iter().enumerate().map(lesson).collect()
    }
}
