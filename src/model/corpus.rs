//! What the model learns from: labelled reports, labelled sentences, sentences with their status.

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
    /// Labelled by the guide: the ranker, the second stage and the threshold learn from these.
    pub reports: Vec<LabelledReport>,
    /// Labelled narratives of ttpmap's own.
    pub narratives: Vec<LabelledReport>,
    /// Collections of reports under conventions of their own: the second gate learns from these what is behaviour and what
    /// is not, and the second stage, with little weight, what the first says of such reports.
    pub others: Vec<Vec<LabelledReport>>,
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

    /// Adds ttpmap's own training text: `training/*.txt`, `training/narratives/*.txt` and `status/*.tsv` (but
    /// `heldout.tsv`) below a folder.
    ///
    /// # Errors
    /// The first file or line that is wrong.
    pub fn add_own(&mut self, folder: &Path) -> Result<(), Error> {
        for path in files(&folder.join("training"), "txt")? {
            self.own_sentences(&path)?;
        }
        for path in files(&folder.join("training").join("narratives"), "txt")? {
            self.own_narratives(&path)?;
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

    /// `=== title`, then a sentence a line, with its labels behind a tab.
    fn own_narratives(&mut self, path: &Path) -> Result<(), Error> {
        let style = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        let mut report: Option<LabelledReport> = None;
        for (i, line) in text_of(path)?.lines().enumerate() {
            let bad = |what: String| Error::Line { path: path.to_owned(), line: i + 1, what };
            if let Some(title) = line.strip_prefix("=== ") {
                self.narratives.extend(report.take());
                let id = format!("{style}: {title}");
                report = Some(LabelledReport { id, vendor: style.clone(), text: String::new(), sentences: Vec::new() });
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
            let report = report.as_mut().ok_or_else(|| bad("a sentence before the first title".into()))?;
            let (text, given) = line.split_once('\t').unwrap_or((line, ""));
            let mut labels = Vec::new();
            for label in given.split(',').map(str::trim).filter(|l| !l.is_empty()) {
                let (id, status) = label.split_once(':').unwrap_or((label, "asserted"));
                labels.push((id.parse().map_err(|e| bad(format!("{e}")))?, status.parse().map_err(|e| bad(format!("{e}")))?));
            }
            let text = text.trim();
            if !report.text.is_empty() {
                report.text.push_str("\n\n");
            }
            let start = report.text.len();
            report.text.push_str(text);
            report.sentences.push(LabelledSentence { span: Span::new(start, report.text.len()), labels });
        }
        self.narratives.extend(report);
        Ok(())
    }
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
