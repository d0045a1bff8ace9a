//! What the model learns from: labelled reports, labelled sentences, sentences with their status.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::curated::{self, files, text_of};
use crate::kb::id::AttackId;
use crate::status::Status;
use crate::text::{Document, Span};

/// A sentence of a report with the techniques it describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledSentence {
    /// Where it stands in the report's text.
    pub span: Span,
    /// What it describes and how; empty for most sentences.
    pub labels: Vec<(AttackId, Status)>,
}

/// A report whose every sentence was labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledReport {
    /// Its name.
    pub id: String,
    /// Who published it: reports of one publisher never stand on both sides of a test.
    pub vendor: String,
    /// Its text.
    pub text: String,
    /// Its sentences in order.
    pub sentences: Vec<LabelledSentence>,
}

#[cfg(test)]
impl LabelledReport {
    /// A report of sentences, a line each, with the techniques that they assert (IDs with spaces between).
    pub(crate) fn of_sentences(id: &str, vendor: &str, sentences: &[(&str, &str)]) -> LabelledReport {
        let mut report = LabelledReport { id: id.into(), vendor: vendor.into(), text: String::new(), sentences: Vec::new() };
        for (techniques, text) in sentences {
            let start = report.text.len();
            report.text.push_str(text);
            let labels = techniques.split_whitespace().map(|t| (t.parse().expect("an ID"), Status::Asserted)).collect();
            report.sentences.push(LabelledSentence { span: Span::new(start, report.text.len()), labels });
            report.text.push('\n');
        }
        report
    }
}

/// A text that describes techniques as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Snippet {
    /// The text.
    pub text: String,
    /// What it describes.
    pub labels: Vec<AttackId>,
    /// How much it counts beside a labelled sentence of a report.
    pub weight: f32,
}

/// A sentence with the status of one behaviour in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSentence {
    /// The heading above it; may be empty.
    pub heading: String,
    /// The sentence.
    pub text: String,
    /// The words that name the behaviour.
    pub focus: Span,
    /// The status of that behaviour.
    pub status: Status,
}

impl StatusSentence {
    /// The sentence under its heading as a document, and where the sentence begins in it.
    pub(crate) fn document(&self) -> (Document, usize) {
        if self.heading.is_empty() {
            (Document::new(self.text.clone()), 0)
        } else {
            let head = format!("# {}\n\n", self.heading);
            (Document::new(format!("{head}{}", self.text)), head.len())
        }
    }
}

/// Everything there is to learn from beside ATT&CK's own text.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// Labelled by the guide: the ranker and the second stage learn from these; thresholds and figures are of those that stand
    /// before the first of `others`.
    pub reports: Vec<LabelledReport>,
    /// Labelled narratives of ttpmap's own.
    pub narratives: Vec<LabelledReport>,
    /// Labelled reports of ttpmap's own, for the encoder: they teach the linear models nothing new (docs/accuracy.md).
    pub written: Vec<LabelledReport>,
    /// Collections of annotators with conventions of their own: by the place of a report among `reports`, its sentences with
    /// their labels. The second gate learns from these what is behaviour and what is not, and the second stage, beside
    /// the labels by the guide, what is right.
    pub others: Vec<BTreeMap<usize, Vec<LabelledSentence>>>,
    /// Single texts.
    pub snippets: Vec<Snippet>,
    /// For the status model.
    pub statuses: Vec<StatusSentence>,
    /// What encoders say of the reports that did not see them.
    pub answers: Option<super::lessons::Answers>,
}

/// Why labelled data can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] curated::Error),
    /// A line is wrong.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize)]
struct JsonReport {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    vendor: String,
    text: String,
    #[serde(default)]
    gold: Vec<JsonSentence>,
    /// A single labelled text: no `gold`, labels for all of it.
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
struct JsonSentence {
    start: usize,
    end: usize,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    other: Vec<(String, String)>,
}

impl Corpus {
    /// Adds a JSONL file of labelled reports (`{"id", "vendor", "text", "gold": [{"start", "end", "labels",
    /// "other"}]}`) or labelled texts (`{"text", "labels"}`, which count `weight`). `into` chooses where reports go.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn add_jsonl(&mut self, path: &Path, into: fn(&mut Corpus) -> &mut Vec<LabelledReport>, weight: f32) -> Result<(), Error> {
        for (i, line) in text_of(path)?.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let bad = |what: String| Error::Line { path: path.to_owned(), line: i + 1, what };
            let json: JsonReport = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            let id = |text: &String| text.parse::<AttackId>().map_err(|e| bad(e.to_string()));
            if json.gold.is_empty() && !json.labels.is_empty() {
                // Commands are what artifact rules are about, and titles are no sentences.
                if !matches!(json.kind.as_str(), "command" | "title") {
                    let labels = json.labels.iter().map(id).collect::<Result<Vec<_>, _>>()?;
                    self.snippets.push(Snippet { text: json.text, labels, weight });
                }
                continue;
            }
            let mut sentences = Vec::new();
            for gold in json.gold {
                let span = Span::new(gold.start, gold.end);
                if json.text.get(span.start..span.end).is_none() {
                    return Err(bad(format!("sentence {}..{} is not in the text", gold.start, gold.end)));
                }
                let mut labels = gold.labels.iter().map(|l| Ok((id(l)?, Status::Asserted))).collect::<Result<Vec<_>, Error>>()?;
                for (technique, status) in &gold.other {
                    labels.push((id(technique)?, status.parse().map_err(|e| bad(format!("{e}")))?));
                }
                sentences.push(LabelledSentence { span, labels });
            }
            let name = json.id.as_str().map_or_else(|| json.id.to_string(), str::to_owned);
            into(self).push(LabelledReport { id: name, vendor: json.vendor, text: json.text, sentences });
        }
        Ok(())
    }

    /// Adds a collection that has labels of its annotators' convention and, in `labels`, ttpmap's own by the guide: a line
    /// `=== REPORT<TAB>PUBLISHER<TAB>SENTENCES` with how many it has, then `SENTENCE<TAB>LABELS` for each that has some. A
    /// sentence's number is its place in the collection's `gold`; labels are written as in narratives
    /// (`T1105, T1057:negated`).
    ///
    /// # Errors
    /// The first line that is wrong, and reports that only one of the two has, or with another number of sentences.
    pub fn add_relabelled(&mut self, path: &Path, labels: &Path) -> Result<(), Error> {
        let mut collection = Corpus::default();
        collection.add_jsonl(path, |c| &mut c.reports, 1.0)?;
        self.snippets.append(&mut collection.snippets);
        let mut own = read_labels_by_guide(labels)?;
        let mut others = BTreeMap::new();
        for (i, mut report) in collection.reports.into_iter().enumerate() {
            let bad = |what: String| Error::Line { path: path.to_owned(), line: i + 1, what };
            let Some(by_guide) = own.remove(&report.id) else {
                return Err(bad(format!("{} has no labels for report {}", labels.display(), report.id)));
            };
            if by_guide.sentences.len() != report.sentences.len() {
                let (here, there) = (report.sentences.len(), by_guide.sentences.len());
                return Err(bad(format!("report {} has {here} sentences, in {} {there}", report.id, labels.display())));
            }
            others.insert(self.reports.len(), report.sentences.clone());
            for (sentence, labels) in report.sentences.iter_mut().zip(by_guide.sentences) {
                sentence.labels = labels;
            }
            report.vendor = by_guide.vendor;
            self.reports.push(report);
        }
        if let Some((id, by_guide)) = own.into_iter().next() {
            let what = format!("{} has no report {id}", path.display());
            return Err(Error::Line { path: labels.to_owned(), line: by_guide.line, what });
        }
        self.others.push(others);
        Ok(())
    }

    /// Adds ttpmap's own training text: `training/*.txt`, `training/narratives/*.txt`, `training/reports/*.txt` and
    /// `status/*.tsv` (but `heldout.tsv`) below a folder.
    ///
    /// # Errors
    /// The first file or line that is wrong.
    pub fn add_own(&mut self, folder: &Path) -> Result<(), Error> {
        for path in files(&folder.join("training"), "txt")? {
            self.own_sentences(&path)?;
        }
        for path in files(&folder.join("training").join("narratives"), "txt")? {
            self.narratives.extend(own_reports(&path)?);
        }
        for path in files(&folder.join("training").join("reports"), "txt")? {
            self.written.extend(own_reports(&path)?);
        }
        for path in files(&folder.join("status"), "tsv")? {
            // What is kept apart to measure on is never learned from.
            if path.file_stem().is_some_and(|name| name != "heldout") {
                self.statuses.extend(read_statuses(&path)?);
            }
        }
        Ok(())
    }

    /// `## T1003.001` and then sentences, with further IDs in brackets at the end.
    fn own_sentences(&mut self, path: &Path) -> Result<(), Error> {
        let mut current: Option<AttackId> = None;
        for (i, line) in text_of(path)?.lines().enumerate() {
            let bad = |what: String| Error::Line { path: path.to_owned(), line: i + 1, what };
            let line = line.trim();
            if let Some(id) = line.strip_prefix("## ") {
                current = Some(id.parse().map_err(|e| bad(format!("{e}")))?);
            } else if !line.is_empty() {
                let mut labels = vec![current.ok_or_else(|| bad("a sentence before the first heading".into()))?];
                let mut text = line;
                if let Some((before, ids)) = line.strip_suffix(']').and_then(|l| l.rsplit_once(" [T")) {
                    for id in format!("T{ids}").split(',') {
                        labels.push(id.trim().parse().map_err(|e| bad(format!("{e}")))?);
                    }
                    text = before;
                }
                self.snippets.push(Snippet { text: text.to_owned(), labels, weight: 1.0 });
            }
        }
        Ok(())
    }
}

/// What a file of labels says of a report.
struct LabelsByGuide {
    /// Where in the file, from 1.
    line: usize,
    vendor: String,
    /// Of every sentence.
    sentences: Vec<Vec<(AttackId, Status)>>,
}

/// The labels by the guide of a collection's reports, by report.
fn read_labels_by_guide(path: &Path) -> Result<BTreeMap<String, LabelsByGuide>, Error> {
    let mut out: BTreeMap<String, LabelsByGuide> = BTreeMap::new();
    let mut current: Option<String> = None;
    for (i, line) in text_of(path)?.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let bad = |what: &str| Error::Line { path: path.to_owned(), line: i + 1, what: what.to_owned() };
        if let Some(head) = line.strip_prefix("=== ") {
            let mut fields = head.split('\t');
            let (Some(id), Some(vendor), Some(count), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
                return Err(bad("a report's name, its publisher and how many sentences it has are wanted, with tabs between"));
            };
            // Longer than any report: a wrong number must not ask for memory.
            let count =
                count.parse::<usize>().ok().filter(|n| *n < 1 << 20).ok_or_else(|| bad("the third field is no number of sentences"))?;
            let report = LabelsByGuide { line: i + 1, vendor: vendor.to_owned(), sentences: vec![Vec::new(); count] };
            if out.insert(id.to_owned(), report).is_some() {
                return Err(bad("this report was there before"));
            }
            current = Some(id.to_owned());
            continue;
        }
        let report = current.as_ref().and_then(|id| out.get_mut(id)).ok_or_else(|| bad("a sentence before the first report"))?;
        let (number, given) =
            line.split_once('\t').ok_or_else(|| bad("a sentence's number and its labels are wanted, with a tab between"))?;
        let number: usize = number.parse().map_err(|_| bad("the first field is no number of a sentence"))?;
        let slot = report.sentences.get_mut(number).ok_or_else(|| bad("the report has no such sentence"))?;
        if !slot.is_empty() {
            return Err(bad("this sentence was there before"));
        }
        *slot = read_labels(given).map_err(|what| bad(&what))?;
        if slot.is_empty() {
            return Err(bad("no labels behind the sentence's number"));
        }
    }
    Ok(out)
}

/// `=== title`, then a sentence a line, with its labels behind a tab.
fn own_reports(path: &Path) -> Result<Vec<LabelledReport>, Error> {
    let style = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
    let mut reports: Vec<LabelledReport> = Vec::new();
    for (i, line) in text_of(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |what: String| Error::Line { path: path.to_owned(), line: i + 1, what };
        if let Some(title) = line.strip_prefix("=== ") {
            let id = format!("{style}: {title}");
            reports.push(LabelledReport { id, vendor: style.clone(), text: String::new(), sentences: Vec::new() });
            continue;
        }
        let report = reports.last_mut().ok_or_else(|| bad("a sentence before the first title".into()))?;
        let (text, given) = line.split_once('\t').unwrap_or((line, ""));
        let labels = read_labels(given).map_err(bad)?;
        let text = text.trim();
        if !report.text.is_empty() {
            report.text.push_str("\n\n");
        }
        let start = report.text.len();
        report.text.push_str(text);
        report.sentences.push(LabelledSentence { span: Span::new(start, report.text.len()), labels });
    }
    Ok(reports)
}

/// `T1105, T1057:negated`: where no status is given, it is asserted.
fn read_labels(given: &str) -> Result<Vec<(AttackId, Status)>, String> {
    let mut labels = Vec::new();
    for label in given.split(',').map(str::trim).filter(|l| !l.is_empty()) {
        let (id, status) = label.split_once(':').unwrap_or((label, "asserted"));
        labels.push((id.parse().map_err(|e| format!("{e}"))?, status.parse().map_err(|e| format!("{e}"))?));
    }
    Ok(labels)
}

/// Reads sentences with their status: `status<TAB>heading<TAB>sentence`, the behaviour between `[[` and `]]`.
///
/// # Errors
/// The first line that is wrong.
pub fn read_statuses(path: &Path) -> Result<Vec<StatusSentence>, Error> {
    let mut out = Vec::new();
    for (i, line) in text_of(path)?.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let bad = |what: &str| Error::Line { path: path.to_owned(), line: i + 1, what: what.to_owned() };
        let mut fields = line.splitn(3, '\t');
        let (Some(status), Some(heading), Some(marked)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(bad("three fields with tabs between are wanted"));
        };
        let status = status.parse().map_err(|_| bad("the first field is no status"))?;
        let (before, rest) = marked.split_once("[[").ok_or_else(|| bad("no [["))?;
        let (inside, after) = rest.split_once("]]").ok_or_else(|| bad("no ]]"))?;
        let focus = Span::new(before.len(), before.len() + inside.len());
        out.push(StatusSentence { heading: heading.to_owned(), text: format!("{before}{inside}{after}"), focus, status });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECTION: &str = r#"{"id": "r1", "text": "It beacons. It sleeps.", "gold": [{"start": 0, "end": 11, "labels": ["T1071"]}, {"start": 12, "end": 22}]}"#;

    fn relabelled(labels: &str) -> Result<Corpus, Error> {
        let folder = tempfile::tempdir().unwrap();
        let (collection, file) = (folder.path().join("set.jsonl"), folder.path().join("set.tsv"));
        std::fs::write(&collection, COLLECTION).unwrap();
        std::fs::write(&file, labels).unwrap();
        let mut corpus = Corpus::default();
        corpus.add_relabelled(&collection, &file).map(|()| corpus)
    }

    #[test]
    fn a_collection_keeps_its_labels_beside_those_by_the_guide() {
        let corpus = relabelled("=== r1\texample\t2\n1\tT1678, T1071.001:negated\n").unwrap();
        let id = |text: &str| text.parse::<AttackId>().unwrap();
        let report = &corpus.reports[0];
        assert_eq!(report.vendor, "example");
        assert_eq!(report.sentences[0].labels, []);
        assert_eq!(report.sentences[1].labels, [(id("T1678"), Status::Asserted), (id("T1071.001"), Status::Negated)]);
        let others = &corpus.others[0][&0];
        assert_eq!(others[0].labels, [(id("T1071"), Status::Asserted)]);
        assert_eq!(others[1].labels, []);
    }

    #[test]
    fn own_text_is_read_and_labelled_with_techniques_in_force() {
        let mut corpus = Corpus::default();
        corpus.add_own(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data")).unwrap();
        let index = crate::Index::embedded();
        let in_force = |id: &AttackId| index.get(*id).is_some_and(|o| o.state() == crate::kb::State::Active);
        let mut sentences = std::collections::BTreeMap::new();
        for report in corpus.narratives.iter().chain(&corpus.written) {
            for sentence in &report.sentences {
                let text = sentence.span.of(&report.text);
                let foreign = sentence.labels.iter().find(|(id, _)| !in_force(id));
                assert!(foreign.is_none(), "{}: {foreign:?}: {text}", report.id);
                // A heading may stand in many of them.
                if text.len() > 40 {
                    assert_eq!(sentences.insert(text.to_owned(), &report.id), None, "{}: {text}", report.id);
                }
            }
        }
        assert!(sentences.len() > 10_000, "{}", sentences.len());
    }

    #[test]
    fn what_is_wrong_with_own_reports_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, told) in [
            ("A sentence.\n", "line 1: a sentence before the first title"),
            ("=== a\nIt ran.\tT9\n", "line 2: "),
            ("=== a\nIt ran.\tT1059:sometimes\n", "sometimes"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = own_reports(file.path()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        std::fs::write(file.path(), "=== a\nFirst.\n\nIt ran.\tT1059, T1105:negated\n=== b\n").unwrap();
        let reports = own_reports(file.path()).unwrap();
        assert_eq!((reports.len(), reports[0].text.as_str(), reports[0].sentences[1].labels.len()), (2, "First.\n\nIt ran.", 2));
    }

    #[test]
    fn what_is_wrong_with_labels_is_told() {
        for (labels, told) in [
            ("=== r2\texample\t2\n", "has no labels for report r1"),
            ("=== r1\texample\t2\n=== r2\texample\t2\n", "line 2: "),
            ("=== r1\texample\t3\n", "report r1 has 2 sentences, in "),
            ("=== r1\texample\t2\n2\tT1678\n", "line 2: the report has no such sentence"),
            ("=== r1\texample\n", "line 1: a report's name, its publisher and how many sentences"),
            ("=== r1\texample\tmany\n", "line 1: the third field is no number"),
            ("=== r1\texample\t2\n=== r1\texample\t2\n", "line 2: this report was there before"),
            ("0\tT1678\n", "a sentence before the first report"),
            ("=== r1\texample\t2\nx\tT1678\n", "line 2: the first field is no number"),
            ("=== r1\texample\t2\n0\t\n", "line 2: no labels"),
            ("=== r1\texample\t2\n0\tT1678\n0\tT1105\n", "line 3: this sentence was there before"),
            ("=== r1\texample\t2\n0\tT1678:perhaps\n", "perhaps"),
        ] {
            let error = relabelled(labels).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
