//! What many documents have in common: how many assert each technique, from when to when, and where it is said best.
//!
//! Documents become [`Digest`]s on any thread; a [`Summary`] takes these in the order of the documents and keeps of each
//! technique counts and a few quotes, so that its size does not grow with theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value, json};

use crate::export::handoff::{HandOff, line};
use crate::export::{Source, csv, markdown};
use crate::index::{Index, ObjectRef};
use crate::kb::id::{AttackId, Kind};
use crate::layer::make::{self, Annotation, Maker, Scoring};
use crate::layer::upgrade::Upgrade;
use crate::layer::{Layer, Metadata};
use crate::rank::Mapping;
use crate::text::Document;
use crate::text::shown::{fit, printable};

/// The name of the JSON's schema.
pub const SCHEMA: &str = "ttpmap-summary/1";
/// Quotes kept of a technique, each of another document.
pub const QUOTES: usize = 3;
/// Failures that are listed; all are counted.
pub const FAILURES: usize = 100;
/// Characters of a name or reason that are kept.
const NAME_CHARS: usize = 400;

/// The header of the csv form.
pub const COLUMNS: [&str; 16] = [
    "technique_id",
    "technique",
    "tactics",
    "documents",
    "mentions",
    "first",
    "last",
    "confidence",
    "source",
    "id",
    "line",
    "page",
    "sentence",
    "url",
    "attack_domain",
    "attack_version",
];

/// A sentence that describes a technique.
#[derive(Debug, Clone, PartialEq)]
struct Quote {
    confidence: f32,
    /// The document's number, from 0.
    document: usize,
    id: Value,
    source: String,
    date: Option<String>,
    line: usize,
    page: Option<u32>,
    paragraph: Option<u32>,
    text: String,
}

impl Quote {
    /// Where it stands, for a reader.
    fn place(&self) -> String {
        let name = printable(&self.source);
        let id = match &self.id {
            Value::String(id) if *id == self.source => String::new(),
            Value::String(id) => format!(" {}", printable(id)),
            id => format!(" {id}"),
        };
        let page = self.page.map(|p| format!(", page {p}")).unwrap_or_default();
        format!("{name}{id}{page}, line {}", self.line)
    }
}

/// What a summary needs of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    date: Option<String>,
    techniques: Vec<(AttackId, usize, Quote)>,
    /// Groups, software and campaigns.
    named: Vec<AttackId>,
}

impl Digest {
    /// Of what is handed on of a document.
    pub fn new(source: &Source, document: &Document, mapping: &Mapping, hand_off: &HandOff) -> Digest {
        let date = document.date().map(str::to_owned);
        let techniques = hand_off.techniques(mapping).filter_map(|found| {
            let mentions = hand_off.evidence(found).count();
            let surest =
                |a: &&crate::rank::Evidence, b: &&crate::rank::Evidence| a.confidence.total_cmp(&b.confidence).then(b.span.cmp(&a.span));
            let best = hand_off.evidence(found).max_by(surest)?;
            let origin = document.origin(best.span.start);
            let quote = Quote {
                confidence: best.confidence,
                document: 0,
                id: kept(&source.id),
                source: line(&source.source, NAME_CHARS),
                date: date.clone(),
                line: best.line,
                page: origin.page,
                paragraph: origin.paragraph,
                text: hand_off.sentence(document, best),
            };
            Some((found.id, mentions, quote))
        });
        let techniques = techniques.collect();
        let lists = [&mapping.groups, &mapping.software, &mapping.campaigns];
        let named = lists.into_iter().flat_map(|list| hand_off.named(list).map(|f| f.id)).collect();
        Digest { date, techniques, named }
    }
}

/// What is kept of an ID: a number as it is, all else as a line of text.
fn kept(id: &Value) -> Value {
    match id {
        Value::String(id) => Value::String(line(id, NAME_CHARS)),
        Value::Number(id) => Value::Number(id.clone()),
        id => Value::String(line(&id.to_string(), NAME_CHARS)),
    }
}

/// From when to when, as days.
#[derive(Debug, Clone, Default, PartialEq)]
struct Range {
    first: Option<String>,
    last: Option<String>,
}

impl Range {
    fn add(&mut self, date: Option<&String>) {
        let Some(date) = date else { return };
        if self.first.as_ref().is_none_or(|first| date < first) {
            self.first = Some(date.clone());
        }
        if self.last.as_ref().is_none_or(|last| date > last) {
            self.last = Some(date.clone());
        }
    }
}

/// What is known of one technique.
#[derive(Debug, Clone, Default, PartialEq)]
struct Tally {
    documents: usize,
    mentions: usize,
    range: Range,
    /// Surest first, then in the documents' order.
    quotes: Vec<Quote>,
}

/// An input that could not be read.
#[derive(Debug, Clone, PartialEq)]
struct Failure {
    id: Value,
    source: String,
    error: String,
}

/// A summary of documents.
pub struct Summary<'a, D> {
    index: &'a Index<D>,
    documents: usize,
    with_techniques: usize,
    dated: usize,
    range: Range,
    techniques: BTreeMap<AttackId, Tally>,
    tactics: BTreeMap<AttackId, usize>,
    named: BTreeMap<AttackId, usize>,
    failed: usize,
    failures: Vec<Failure>,
}

impl<'a, D: AsRef<[u8]>> Summary<'a, D> {
    /// Of no document.
    pub fn new(index: &'a Index<D>) -> Summary<'a, D> {
        Summary {
            index,
            documents: 0,
            with_techniques: 0,
            dated: 0,
            range: Range::default(),
            techniques: BTreeMap::new(),
            tactics: BTreeMap::new(),
            named: BTreeMap::new(),
            failed: 0,
            failures: Vec::new(),
        }
    }

    /// Adds the next document.
    pub fn add(&mut self, digest: Digest) {
        let number = self.documents;
        self.documents += 1;
        self.with_techniques += usize::from(!digest.techniques.is_empty());
        self.dated += usize::from(digest.date.is_some());
        self.range.add(digest.date.as_ref());
        let mut tactics = BTreeSet::new();
        for (id, mentions, quote) in digest.techniques {
            tactics.extend(self.index.get(id).into_iter().flat_map(ObjectRef::tactics).map(ObjectRef::id));
            let tally = self.techniques.entry(id).or_default();
            tally.documents += 1;
            tally.mentions += mentions;
            tally.range.add(digest.date.as_ref());
            // Those there are of documents before this one, and go first where they are as sure.
            let place = tally.quotes.partition_point(|q| q.confidence >= quote.confidence);
            if place < QUOTES {
                tally.quotes.insert(place, Quote { document: number, ..quote });
                tally.quotes.truncate(QUOTES);
            }
        }
        for tactic in tactics {
            *self.tactics.entry(tactic).or_default() += 1;
        }
        for id in digest.named {
            *self.named.entry(id).or_default() += 1;
        }
    }

    /// Adds the next document, which could not be read.
    pub fn add_failure(&mut self, source: &Source, error: &str) {
        self.documents += 1;
        self.failed += 1;
        if self.failures.len() < FAILURES {
            self.failures.push(Failure { id: kept(&source.id), source: line(&source.source, NAME_CHARS), error: line(error, NAME_CHARS) });
        }
    }

    /// Whether no document asserts a technique.
    pub fn is_empty(&self) -> bool {
        self.techniques.is_empty()
    }

    fn without_techniques(&self) -> usize {
        self.documents - self.failed - self.with_techniques
    }

    /// Techniques, those of most documents first, then of most mentions, then by ID.
    fn ranked(&self) -> Vec<(ObjectRef<'a, D>, &Tally)> {
        let mut all: Vec<_> = self.techniques.iter().filter_map(|(id, tally)| Some((self.index.get(*id)?, tally))).collect();
        all.sort_by_key(|(o, t)| (std::cmp::Reverse((t.documents, t.mentions)), o.id()));
        all
    }

    fn ranked_names(&self, kind: Kind) -> Vec<(ObjectRef<'a, D>, usize)> {
        let of = self.named.iter().filter(|(id, _)| id.kind() == kind);
        let mut all: Vec<_> = of.filter_map(|(id, count)| Some((self.index.get(*id)?, *count))).collect();
        all.sort_by_key(|(o, count)| (std::cmp::Reverse(*count), o.id()));
        all
    }

    /// Tactics with the number of documents that assert one of their techniques, in matrix order.
    fn by_tactic(&self) -> Vec<(ObjectRef<'a, D>, usize)> {
        self.index.tactics().filter_map(|t| Some((t, *self.tactics.get(&t.id())?))).collect()
    }

    /// JSON, schema [`SCHEMA`], indented.
    ///
    /// # Panics
    /// Never: every key is a string and every number finite.
    pub fn json(&self) -> String {
        let three = |p: f32| json!((f64::from(p) * 1000.0).round() / 1000.0);
        let quote = |q: &Quote| {
            let mut out = Map::new();
            out.insert("source".into(), q.source.clone().into());
            out.insert("id".into(), q.id.clone());
            let places =
                [("page", q.page.map(Value::from)), ("paragraph", q.paragraph.map(Value::from)), ("date", q.date.clone().map(Value::from))];
            out.insert("line".into(), q.line.into());
            out.extend(places.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
            out.insert("confidence".into(), three(q.confidence));
            out.insert("text".into(), q.text.clone().into());
            Value::Object(out)
        };
        let technique = |(o, t): &(ObjectRef<'a, D>, &Tally)| {
            json!({
                "id": o.id().to_string(),
                "name": o.name(),
                "tactics": o.tactics().map(ObjectRef::short_name).collect::<Vec<_>>(),
                "documents": t.documents,
                "mentions": t.mentions,
                "first": t.range.first,
                "last": t.range.last,
                "confidence": three(t.quotes.first().map_or(0.0, |q| q.confidence)),
                "evidence": t.quotes.iter().map(quote).collect::<Vec<_>>(),
            })
        };
        let counted = |list: Vec<(ObjectRef<'a, D>, usize)>| {
            let one = |(o, count): &(ObjectRef<'a, D>, usize)| json!({"id": o.id().to_string(), "name": o.name(), "documents": count});
            list.iter().map(one).collect::<Vec<_>>()
        };
        let failure = |f: &Failure| json!({"source": f.source, "id": f.id, "error": f.error});
        let value = json!({
            "schema": SCHEMA,
            "attack": {"domain": self.index.domain().attack_name(), "version": self.index.version()},
            "documents": {
                "total": self.documents,
                "with_techniques": self.with_techniques,
                "without_techniques": self.without_techniques(),
                "failed": self.failed,
                "dated": self.dated,
                "first": self.range.first,
                "last": self.range.last,
            },
            "techniques": self.ranked().iter().map(technique).collect::<Vec<_>>(),
            "tactics": counted(self.by_tactic()),
            "groups": counted(self.ranked_names(Kind::Group)),
            "software": counted(self.ranked_names(Kind::Software)),
            "campaigns": counted(self.ranked_names(Kind::Campaign)),
            "failures": self.failures.iter().map(failure).collect::<Vec<_>>(),
        });
        serde_json::to_string_pretty(&value).expect("strings and finite numbers serialise") + "\n"
    }

    /// Comma-separated values, safe in a spreadsheet: a row for each technique, with its surest evidence.
    pub fn csv(&self) -> String {
        let mut out = csv::row(COLUMNS);
        for (o, t) in self.ranked() {
            let Some(best) = t.quotes.first() else { continue };
            out += &csv::row([
                o.id().to_string(),
                o.name().to_owned(),
                o.tactics().map(ObjectRef::short_name).collect::<Vec<_>>().join(" "),
                t.documents.to_string(),
                t.mentions.to_string(),
                t.range.first.clone().unwrap_or_default(),
                t.range.last.clone().unwrap_or_default(),
                format!("{:.3}", best.confidence),
                best.source.clone(),
                best.id.as_str().map_or_else(|| best.id.to_string(), str::to_owned),
                best.line.to_string(),
                best.page.map(|p| p.to_string()).unwrap_or_default(),
                best.text.clone(),
                o.id().url(),
                self.index.domain().attack_name().to_owned(),
                self.index.version().to_owned(),
            ]);
        }
        out
    }

    /// What was read, in words.
    fn counts(&self) -> String {
        let documents = |n: usize| format!("{n} document{}", if n == 1 { "" } else { "s" });
        let mut out = documents(self.documents);
        let _ = write!(out, ": {} with techniques, {} without", self.with_techniques, self.without_techniques());
        if self.failed > 0 {
            let _ = write!(out, ", {} not read", self.failed);
        }
        if let (Some(first), Some(last)) = (&self.range.first, &self.range.last) {
            let _ = write!(out, "; {} dated, {first} to {last}", self.dated);
        }
        out
    }

    /// For reading in a terminal, with ANSI styles.
    pub fn table(&self, width: usize) -> String {
        let bold = Style::new().bold();
        let dim = Style::new().dimmed();
        let cyan = AnsiColor::Cyan.on_default().bold();
        let width = width.max(60);
        let mut out = String::new();
        let _ = writeln!(out, "{bold}{}{bold:#}  {dim}ATT&CK {} {}{dim:#}", self.counts(), self.index.domain(), self.index.version());
        let ranked = self.ranked();
        if ranked.is_empty() {
            let _ = writeln!(out, "\nNo technique that a text says was used.");
        } else {
            let _ = writeln!(out, "\n{dim}{:<11}{:<42}{:>9} {:>9}  {:<12}LAST{dim:#}", "ID", "TECHNIQUE", "DOCUMENTS", "MENTIONS", "FIRST");
        }
        for (o, t) in &ranked {
            let name = fit(&printable(o.name()), 41);
            let pad = " ".repeat(42_usize.saturating_sub(unicode_width::UnicodeWidthStr::width(&*name)));
            let day = |d: &Option<String>| d.clone().unwrap_or_default();
            let row = format!("{name}{pad}{:>9} {:>9}  {:<12}{}", t.documents, t.mentions, day(&t.range.first), day(&t.range.last));
            let _ = writeln!(out, "{cyan}{:<11}{cyan:#}{}", o.id(), row.trim_end());
            if let Some(best) = t.quotes.first() {
                let place = fit(&best.place(), width / 2);
                let room = width.saturating_sub(11 + 2 + unicode_width::UnicodeWidthStr::width(&*place));
                let _ = writeln!(out, "{:11}{dim}{place}{dim:#}  {}", "", fit(&printable(&best.text), room));
            }
        }
        let mut list = |heading: &str, all: Vec<(ObjectRef<'a, D>, usize)>| {
            if !all.is_empty() {
                let _ = writeln!(out, "\n{bold}{heading}{bold:#}");
            }
            for (o, count) in all {
                let _ = writeln!(out, "{cyan}{:<11}{cyan:#}{:<42}{count:>9}", o.id(), fit(&printable(o.name()), 41));
            }
        };
        list("Tactics", self.by_tactic());
        list("Groups", self.ranked_names(Kind::Group));
        list("Software", self.ranked_names(Kind::Software));
        list("Campaigns", self.ranked_names(Kind::Campaign));
        if self.failed > 0 {
            let _ = writeln!(out, "\n{bold}Not read{bold:#}");
            for f in &self.failures {
                let _ = writeln!(out, "{}", fit(&printable(&format!("{}: {}", f.source, f.error)), width));
            }
            if self.failed > self.failures.len() {
                let _ = writeln!(out, "and {} more", self.failed - self.failures.len());
            }
        }
        out
    }

    /// Markdown to paste into a ticket.
    pub fn markdown(&self) -> String {
        let mut out = String::from("## ATT&CK techniques\n\n");
        let version = concat!("ttpmap ", env!("CARGO_PKG_VERSION"));
        let by = format!("By ATT&CK {} {}, mapped by {version}.", self.index.domain(), markdown::escape(self.index.version()));
        let _ = writeln!(out, "{}. {by}", self.counts());
        let link = |id: AttackId| format!("[{id}]({})", id.url());
        let ranked = self.ranked();
        if !ranked.is_empty() {
            out += "\n| ID | Technique | Tactics | Documents | Mentions | First | Last |\n| --- | --- | --- | ---: | ---: | --- | --- |\n";
        }
        for (o, t) in &ranked {
            let tactics = o.tactics().map(|t| markdown::escape(t.short_name())).collect::<Vec<_>>().join(", ");
            let day = |d: &Option<String>| d.clone().unwrap_or_default();
            let (first, last) = (day(&t.range.first), day(&t.range.last));
            let name = markdown::escape(&o.full_name());
            let _ = writeln!(out, "| {} | {name} | {tactics} | {} | {} | {first} | {last} |", link(o.id()), t.documents, t.mentions);
        }
        if !ranked.is_empty() {
            out += "\n### Evidence\n\n";
        }
        for (o, t) in &ranked {
            let _ = writeln!(out, "- **{} {}**", o.id(), markdown::escape(&o.full_name()));
            for q in &t.quotes {
                let _ = writeln!(out, "  - {}: {}", markdown::code(&q.place(), false), markdown::code(&q.text, false));
            }
        }
        let lists = [("Groups", Kind::Group), ("Software", Kind::Software), ("Campaigns", Kind::Campaign)];
        let lists: Vec<_> =
            lists.into_iter().map(|(name, kind)| (name, self.ranked_names(kind))).filter(|(_, all)| !all.is_empty()).collect();
        if !lists.is_empty() {
            out += "\n### Named\n\n";
        }
        for (name, all) in lists {
            let items = all.iter().map(|(o, n)| format!("{} {} ({n})", link(o.id()), markdown::escape(o.name()))).collect::<Vec<_>>();
            let _ = writeln!(out, "- {name}: {}", items.join(", "));
        }
        if self.failed > 0 {
            out += "\n### Not read\n\n";
            for f in &self.failures {
                let _ = writeln!(out, "- {}: {}", markdown::code(&f.source, false), markdown::code(&f.error, false));
            }
            if self.failed > self.failures.len() {
                let _ = writeln!(out, "- and {} more", self.failed - self.failures.len());
            }
        }
        out
    }

    /// One Navigator layer: the score of a technique is in how many documents it is asserted.
    pub fn layer(&self) -> Layer {
        let upgrade = Upgrade::new(self.index, &Index::embedded());
        let mut maker = Maker::new(&upgrade);
        for (id, tally) in &self.techniques {
            for quote in &tally.quotes {
                let comment = format!("{}: {}", quote.place(), quote.text);
                // Of the release in use it is; nothing can be wrong with it.
                let _ = maker.add(&Annotation { score: Some(tally.documents as f64), comment, ..Annotation::new(*id) }, "documents");
            }
        }
        let mut layer = maker.layer(&format!("{} documents", self.documents), Scoring::Given);
        make::counted(&mut layer, self.documents);
        layer.description = Some(format!("{}. Score: in how many documents a technique is asserted.", self.counts()));
        for entry in &mut layer.techniques {
            let Some(tally) = entry.id().filter(|_| entry.score.is_some()).and_then(|id| self.techniques.get(&id)) else { continue };
            entry.metadata.push(Metadata::pair("mentions", tally.mentions.to_string()));
            for (name, date) in [("first", &tally.range.first), ("last", &tally.range.last)] {
                entry.metadata.extend(date.as_ref().map(|d| Metadata::pair(name, d.as_str())));
            }
        }
        layer
    }
}
