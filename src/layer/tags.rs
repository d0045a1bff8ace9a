//! Techniques and tactics in files that are no layers: plain lists, columns, Sigma rules. Only the IDs and the tactics
//! change; every other byte stays.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::upgrade::{Outcome, Record, Report, Spot, Upgrade, clip};
use crate::kb::id::{AttackId, Kind, scan};
use crate::lookup::fold;

/// Headings of a column of techniques, folded.
pub const TECHNIQUE_COLUMNS: &[&str] = &[
    "technique",
    "techniques",
    "techniqueid",
    "technique id",
    "technique ids",
    "attack id",
    "attackid",
    "att ck id",
    "att ck",
    "attack",
    "attack technique",
    "attack technique id",
    "mitre",
    "mitre id",
    "mitre technique",
    "mitre technique id",
    "mitre attack",
    "mitre attack id",
    "mitre att ck",
    "mitre att ck id",
    "ttp",
    "ttps",
    "tid",
];
/// Headings of a column of tactics, folded.
pub const TACTIC_COLUMNS: &[&str] =
    &["tactic", "tactics", "tactic id", "tactic ids", "tacticid", "attack tactic", "mitre tactic", "mitre tactics", "kill chain phase"];

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A Navigator layer.
    Layer,
    /// IDs in any text.
    Ids,
    /// Columns separated by comma, semicolon or tab, with a heading.
    Csv,
    /// Sigma rules (YAML).
    Sigma,
}

impl FileKind {
    /// What a file is by its name, or else by its text.
    pub fn of(name: &str, text: &str) -> FileKind {
        let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
        match extension.as_str() {
            "json" => FileKind::Layer,
            "csv" | "tsv" => FileKind::Csv,
            "yml" | "yaml" => FileKind::Sigma,
            "txt" | "md" | "list" => FileKind::Ids,
            _ if text.trim_start().starts_with(['{', '[']) => FileKind::Layer,
            _ if text.lines().any(|l| l.trim_end() == "tags:") => FileKind::Sigma,
            _ if delimiter(text).is_some() => FileKind::Csv,
            _ => FileKind::Ids,
        }
    }
}

/// Columns of a text, each cell as the range of its bytes.
#[derive(Debug)]
pub struct Separated<'t> {
    text: &'t str,
    /// The cells of each row, quotes and all.
    pub rows: Vec<Vec<Range<usize>>>,
}

impl<'t> Separated<'t> {
    /// What a cell says, its quotes taken off.
    pub fn cell(&self, cell: &Range<usize>) -> Cow<'t, str> {
        let raw = &self.text[cell.clone()];
        match raw.trim().strip_prefix('"').and_then(|r| r.strip_suffix('"')) {
            Some(quoted) if quoted.contains("\"\"") => Cow::Owned(quoted.replace("\"\"", "\"")),
            Some(quoted) => Cow::Borrowed(quoted),
            None => Cow::Borrowed(raw),
        }
    }

    /// The line that a row begins on, from 1.
    pub fn line(&self, row: &[Range<usize>]) -> usize {
        let start = row.first().map_or(0, |c| c.start);
        self.text[..start].bytes().filter(|b| *b == b'\n').count() + 1
    }
}

/// Cuts a text into rows and cells (RFC 4180; any line end, quoted cells may hold some).
pub fn separated(text: &str, delimiter: char) -> Separated<'_> {
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    let (mut start, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if quoted || text[start..at].trim().is_empty() => quoted = !quoted,
            // A doubled quote ends and begins: it comes back here with text before it.
            '"' if text[..at].ends_with('"') => quoted = true,
            _ if quoted => {}
            '\n' => {
                let end = if text[start..at].ends_with('\r') { at - 1 } else { at };
                row.push(start..end);
                rows.push(std::mem::take(&mut row));
                start = at + 1;
            }
            _ if c == delimiter => {
                row.push(start..at);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if start < text.len() || !row.is_empty() {
        row.push(start..text.len());
        rows.push(row);
    }
    Separated { text, rows }
}

/// The delimiter by which the first line has a heading of techniques or tactics.
fn delimiter(text: &str) -> Option<char> {
    let first = text.lines().next()?;
    [',', ';', '\t'].into_iter().find(|d| {
        let table = separated(first, *d);
        table.rows.first().is_some_and(|row| row.len() > 1 && row.iter().any(|c| TECHNIQUE_COLUMNS.contains(&&*fold(&table.cell(c)))))
    })
}

/// A piece of a text to be written anew.
struct Edit {
    range: Range<usize>,
    text: String,
}

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|e| (e.range.start, e.range.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        // Two neighbours of a list that go take the comma between them once.
        out.push_str(&text[at..edit.range.start.max(at)]);
        out.push_str(&edit.text);
        at = edit.range.end.max(at);
    }
    out + &text[at..]
}

/// The IDs in a text that can move, with the ranges of their bytes: techniques, groups, software and the like, in any
/// case. An ID ends where a word ends.
fn ids_in(text: &str, range: Range<usize>) -> Vec<(Range<usize>, AttackId)> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let begins = bytes[at].is_ascii_alphabetic() && (at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_'));
        let found = begins.then(|| scan(&bytes[at..range.end])).flatten();
        match found {
            Some((id, length)) if !bytes.get(at + length).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') => {
                out.push((at..at + length, id));
                at += length;
            }
            _ => at += 1,
        }
    }
    out
}

/// An ID in the manner of another: its case, and what separates a sub-technique.
fn written_as(id: AttackId, old: &str) -> String {
    let mut text = id.to_string();
    let separator = old.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).trim_end_matches(|c: char| c.is_ascii_digit());
    if !separator.is_empty() && separator.len() <= 3 {
        text = text.replace('.', separator);
    }
    if old.starts_with(|c: char| c.is_ascii_lowercase()) { text.to_lowercase() } else { text }
}

fn spot(text: &str) -> Spot {
    Spot { id: text.to_owned(), tactic: None }
}

/// What became of one tag.
fn record(from: &str, to: Vec<String>, outcome: Outcome, why: String) -> Record {
    Record { from: spot(from), to: to.iter().map(|t| spot(t)).collect(), outcome, why }
}

impl<D: AsRef<[u8]>> Upgrade<'_, D> {
    /// Every ID in a text, brought to the release. A line that becomes the same as one before it (and was not before) is
    /// left out: the two were merged. What can't move stays; in a list, a line that begins with it is commented out, with
    /// the reason. Lines that begin with `#` stay as they are.
    pub fn list(&self, text: &str) -> (String, Report) {
        let mut report = Report::default();
        let mut out = String::with_capacity(text.len());
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let before: BTreeSet<&str> = text.lines().map(str::trim).collect();
        for line in text.split_inclusive('\n') {
            if line.trim_start().starts_with('#') {
                out.push_str(line);
                continue;
            }
            let mut edits = Vec::new();
            let first_record = report.records.len();
            let mut failed: Option<String> = None;
            for (range, id) in ids_in(line, 0..line.len()) {
                let old = &line[range.clone()];
                match self.id(id) {
                    Ok((new, why)) if new == id => report.records.push(record(old, vec![old.to_owned()], Outcome::Kept, why)),
                    Ok((new, why)) => {
                        let written = written_as(new, old);
                        report.records.push(record(old, vec![written.clone()], Outcome::Moved, why));
                        edits.push(Edit { range, text: written });
                    }
                    Err(reason) => {
                        let begins = line[..range.start].trim().is_empty();
                        report.records.push(record(old, Vec::new(), Outcome::CouldNot, reason.clone()));
                        if begins {
                            failed = Some(reason);
                        }
                    }
                }
            }
            let moved = !edits.is_empty();
            let new = apply(line, edits);
            let (content, end) = new.split_at(new.trim_end_matches(['\n', '\r']).len());
            if let Some(reason) = failed {
                out.push_str(&format!("# {content}  # ttpmap: {reason}{end}"));
            } else if moved && (before.contains(content.trim()) || seen.contains(content.trim())) {
                for record in &mut report.records[first_record..] {
                    if record.outcome == Outcome::Moved {
                        record.outcome = Outcome::Merged;
                    }
                }
            } else {
                if moved {
                    seen.insert(content.trim().to_owned());
                }
                out.push_str(&new);
            }
        }
        (out, report)
    }

    /// The techniques and tactics in columns. Columns are named, or else told by their headings
    /// ([`TECHNIQUE_COLUMNS`], [`TACTIC_COLUMNS`]); a cell may hold several. A tactic moves with the techniques of its
    /// row. Rows stay, every one: two that have become the same are for their owner to judge, and are told.
    ///
    /// # Errors
    /// Where there is no such column.
    pub fn columns(&self, text: &str, technique: Option<&str>, tactic: Option<&str>) -> Result<(String, Report), String> {
        let first = text.lines().next().unwrap_or_default();
        let delimiter = delimiter(text).unwrap_or_else(|| {
            let most = |d: &char| first.matches(*d).count();
            [',', ';', '\t'].into_iter().rev().max_by_key(most).unwrap_or(',')
        });
        let table = separated(text, delimiter);
        let Some(heading) = table.rows.first() else { return Ok((text.to_owned(), Report::default())) };
        let names: Vec<String> = heading.iter().map(|c| fold(&table.cell(c))).collect();
        let find = |wanted: Option<&str>, known: &[&str]| match wanted {
            Some(name) => names.iter().position(|n| *n == fold(name)).map(Some).ok_or_else(|| {
                format!(
                    "no column `{}`: there are {}",
                    clip(name),
                    heading.iter().map(|c| clip(table.cell(c))).collect::<Vec<_>>().join(", ")
                )
            }),
            None => Ok(names.iter().position(|n| known.contains(&n.as_str()))),
        };
        let (technique, tactic) = (find(technique, TECHNIQUE_COLUMNS)?, find(tactic, TACTIC_COLUMNS)?);
        if technique.is_none() && tactic.is_none() {
            return Err(format!("no column of techniques or tactics among {}: name it with --column", names.join(", ")));
        }
        let mut report = Report::default();
        let mut edits = Vec::new();
        let mut rows: BTreeSet<String> = BTreeSet::new();
        for row in &table.rows[1..] {
            let first_edit = edits.len();
            let mut current = Vec::new();
            if let Some(cell) = technique.and_then(|c| row.get(c)) {
                for (range, id) in ids_in(text, cell.clone()) {
                    let old = &text[range.clone()];
                    match self.id(id) {
                        Ok((new, why)) => {
                            current.push(new);
                            let written = if new == id { old.to_owned() } else { written_as(new, old) };
                            let outcome = if new == id { Outcome::Kept } else { Outcome::Moved };
                            report.records.push(record(old, vec![written.clone()], outcome, why));
                            if new != id {
                                edits.push(Edit { range, text: written });
                            }
                        }
                        Err(why) => report.records.push(record(old, Vec::new(), Outcome::CouldNot, why)),
                    }
                }
            }
            if let Some(cell) = tactic.and_then(|c| row.get(c)) {
                self.tactic_cell(text, (cell.clone(), delimiter), &current, &mut edits, &mut report);
            }
            let start = row.first().map_or(0, |c| c.start);
            let end = row.last().map_or(start, |c| c.end);
            let shifted =
                edits[first_edit..].iter().map(|e| Edit { range: e.range.start - start..e.range.end - start, text: e.text.clone() });
            let new = apply(&text[start..end], shifted.collect());
            let moved = edits.len() > first_edit;
            if !rows.insert(new.clone()) && moved {
                report.notes.push(format!("line {}: is now the same as a row before it", table.line(row)));
            }
        }
        Ok((apply(text, edits), report))
    }

    /// The tactics of a cell, one or several with separators between.
    fn tactic_cell(
        &self,
        text: &str,
        (cell, delimiter): (Range<usize>, char),
        techniques: &[AttackId],
        edits: &mut Vec<Edit>,
        report: &mut Report,
    ) {
        let raw = &text[cell.clone()];
        let mut at = cell.start;
        for piece in raw.split_inclusive([',', ';', '|', '/']) {
            let range = at..at + piece.len();
            at = range.end;
            let is_edge = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '[' | ']' | ',' | ';' | '|' | '/');
            let word = piece.trim_matches(is_edge);
            if word.is_empty() {
                continue;
            }
            let start = range.start + (piece.len() - piece.trim_start_matches(is_edge).len());
            let (outcome, to, why) = self.tactic(word, techniques);
            let written: Vec<String> = to.iter().map(|t| self.tactic_as(*t, word)).collect();
            if outcome == Outcome::Moved {
                // A cell of several goes on as it began; another must not come to hold the delimiter.
                let own = if delimiter == ';' { ", " } else { "; " };
                let between = raw.chars().find(|c| matches!(c, ',' | ';' | '|')).map_or(own.to_owned(), |c| format!("{c} "));
                edits.push(Edit { range: start..start + word.len(), text: written.join(&between) });
            }
            report.records.push(record(word, written, outcome, why));
        }
    }

    /// What becomes of a tactic that stands beside techniques: it stays if it is one still, otherwise it becomes the
    /// heirs that the techniques are in, or the tactics that they are in, or its only heir.
    fn tactic(&self, name: &str, techniques: &[AttackId]) -> (Outcome, Vec<AttackId>, String) {
        let Some((now, heirs)) = self.tactics(name) else {
            return (Outcome::CouldNot, Vec::new(), format!("ATT&CK {} has no tactic `{}`", self.index().version(), clip(name)));
        };
        let among = |wanted: &dyn Fn(AttackId) -> bool| -> Vec<AttackId> {
            let own = |t: &AttackId| {
                let object = self.index().get(*t);
                object.into_iter().flat_map(crate::index::ObjectRef::tactics).map(crate::index::ObjectRef::id).collect::<Vec<_>>()
            };
            let all: BTreeSet<AttackId> = techniques.iter().flat_map(own).filter(|t| wanted(*t)).collect();
            self.index().tactics().map(crate::index::ObjectRef::id).filter(|t| all.contains(t)).collect()
        };
        let names = |list: &[AttackId]| list.iter().map(|t| self.short_name(*t)).collect::<Vec<_>>().join(" and ");
        // An ID outlives the tactic's name: TA0005 beside a technique that went to an heir means the heir.
        let by_id = name.parse::<AttackId>().is_ok();
        if !now.is_empty() && (!by_id || techniques.is_empty() || !among(&|t| now.contains(&t)).is_empty()) {
            return (Outcome::Kept, now, String::new());
        }
        let inherited = among(&|t| heirs.contains(&t));
        if !inherited.is_empty() {
            let why = format!("the techniques beside it are in {}", names(&inherited));
            return (Outcome::Moved, inherited, why);
        }
        if !now.is_empty() {
            return (Outcome::Kept, now, String::new());
        }
        if let [only] = heirs[..] {
            return (Outcome::Moved, heirs, format!("it is {} now", self.short_name(only)));
        }
        let own = among(&|_| true);
        if !own.is_empty() {
            let why = format!("the techniques beside it left it, and are in {}", names(&own));
            return (Outcome::Moved, own, why);
        }
        (Outcome::CouldNot, Vec::new(), format!("it became {}, and no technique beside it tells which", names(&heirs)))
    }

    /// A tactic in the manner of a name: its ID, its name, or its short name with the separator in use.
    fn tactic_as(&self, tactic: AttackId, like: &str) -> String {
        let short = self.short_name(tactic);
        let title = || self.index().get(tactic).map(|t| t.name().to_owned()).unwrap_or_default();
        if like.parse::<AttackId>().is_ok_and(|id| id.kind() == Kind::Tactic) {
            return written_as(tactic, like);
        }
        let begins_large = like.starts_with(|c: char| c.is_ascii_uppercase());
        if like.contains('_') {
            let snake = short.replace('-', "_");
            return if begins_large { title().replace(' ', "_") } else { snake };
        }
        if begins_large {
            return title();
        }
        if like.contains(' ') { short.replace('-', " ") } else { short.to_owned() }
    }

    /// The `attack.` tags of Sigma rules. A tag that becomes one that is there already goes, and its line with it; one
    /// that becomes several gets a line for each. What can't move stays as it is.
    pub fn sigma(&self, text: &str) -> (String, Report) {
        let mut report = Report::default();
        let mut edits = Vec::new();
        for block in tag_blocks(text) {
            self.tag_block(text, &block, &mut edits, &mut report);
        }
        (apply(text, edits), report)
    }

    fn tag_block(&self, text: &str, block: &[Tag], edits: &mut Vec<Edit>, report: &mut Report) {
        let tag_name = |tag: &Tag| &text[tag.value.clone()];
        let id_of = |tag: &Tag| tag_name(tag).parse::<AttackId>().ok();
        let current: Vec<AttackId> = block
            .iter()
            .filter_map(id_of)
            .filter(|id| id.kind() == Kind::Technique)
            .filter_map(|id| self.id(id).ok())
            .map(|(id, _)| id)
            .collect();
        // What each tag becomes, in its own manner.
        let plans: Vec<(Outcome, Vec<String>, String)> = block
            .iter()
            .map(|tag| {
                let name = tag_name(tag);
                match id_of(tag) {
                    Some(id) if id.kind() != Kind::Tactic => match self.id(id) {
                        Ok((new, why)) if new == id => (Outcome::Kept, vec![name.to_owned()], why),
                        Ok((new, why)) => (Outcome::Moved, vec![written_as(new, name)], why),
                        Err(why) => (Outcome::CouldNot, Vec::new(), why),
                    },
                    _ => {
                        let (outcome, to, why) = self.tactic(name, &current);
                        let written = to.iter().map(|t| self.tactic_as(*t, name)).collect();
                        (outcome, if outcome == Outcome::Kept { vec![name.to_owned()] } else { written }, why)
                    }
                }
            })
            .collect();
        let same = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        let mut there: BTreeSet<String> = plans.iter().filter(|p| p.0 == Outcome::Kept).flat_map(|p| &p.1).map(|name| same(name)).collect();
        for (tag, (mut outcome, to, why)) in block.iter().zip(plans) {
            let from = format!("attack.{}", tag_name(tag));
            if outcome == Outcome::Moved {
                let fresh: Vec<&String> = to.iter().filter(|name| there.insert(same(name))).collect();
                match fresh.split_first() {
                    None => {
                        outcome = Outcome::Merged;
                        edits.push(Edit { range: tag.item.clone(), text: String::new() });
                    }
                    Some((first, more)) => {
                        edits.push(Edit { range: tag.value.clone(), text: (*first).clone() });
                        for name in more {
                            let copy = text[tag.again.clone()].to_owned();
                            let value = tag.value.start - tag.again.start..tag.value.end - tag.again.start;
                            let new = apply(&copy, vec![Edit { range: value, text: (*name).clone() }]);
                            edits.push(Edit { range: tag.again.end..tag.again.end, text: tag.glue.clone() + &new });
                        }
                    }
                }
            }
            report.records.push(record(&from, to.iter().map(|t| format!("attack.{t}")).collect(), outcome, why));
        }
    }
}

/// A tag of a rule.
struct Tag {
    /// What follows `attack.`.
    value: Range<usize>,
    /// What goes when the tag goes: its line, or its part of a list between brackets.
    item: Range<usize>,
    /// What is repeated for another tag, and what goes between the two.
    again: Range<usize>,
    glue: String,
}

/// The `attack.` tags of every `tags:` of a YAML text, rule by rule. Read by lines, which is enough for tags: a block
/// list or a list between brackets. Text blocks (`|`, `>`) are passed over.
fn tag_blocks(text: &str) -> Vec<Vec<Tag>> {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        lines.push((at, line));
        at += line.len();
    }
    let mut out = Vec::new();
    let mut block_text: Option<usize> = None;
    let mut i = 0;
    while i < lines.len() {
        let (start, line) = lines[i];
        i += 1;
        let content = line.trim_end();
        let indent = content.len() - content.trim_start().len();
        if let Some(outer) = block_text {
            if content.trim().is_empty() || indent > outer {
                continue;
            }
            block_text = None;
        }
        let body = content.trim_start();
        if body.starts_with('#') {
            continue;
        }
        // `- tags:` begins an element of a list of rules.
        let key = body.strip_prefix("- ").unwrap_or(body).trim_start();
        if opens_text(content) {
            block_text = Some(content.len() - key.len());
            continue;
        }
        let Some(rest) = key.strip_prefix("tags:") else { continue };
        let column = content.len() - key.len();
        let rest_at = start + content.len() - rest.len();
        let value = rest.trim_start();
        if value.starts_with('[') {
            out.push(bracket_tags(text, rest_at + (rest.len() - value.len())));
        } else if value.is_empty() || value.starts_with('#') {
            let mut tags = Vec::new();
            while i < lines.len() {
                let (start, line) = lines[i];
                let content = line.trim_end();
                let body = content.trim_start();
                if body.is_empty() || body.starts_with('#') {
                    i += 1;
                    continue;
                }
                let is_item = body.starts_with("- ") && content.len() - body.len() >= column;
                if !is_item {
                    break;
                }
                tags.extend(line_tag(text, start, line));
                i += 1;
            }
            out.push(tags);
        }
    }
    out.retain(|tags| !tags.is_empty());
    out
}

/// Whether a line's value is a text block: `key: |`, `key: >-`, `- |2`.
fn opens_text(line: &str) -> bool {
    let without_comment = line.split(" #").next().unwrap_or(line).trim_end();
    let last = without_comment.rsplit([' ', '\t']).next().unwrap_or_default();
    last.starts_with(['|', '>'])
        && last[1..].chars().all(|c| matches!(c, '+' | '-') || c.is_ascii_digit())
        && without_comment.len() > last.len()
}

/// The range of what follows `attack.` in a scalar, plain or quoted.
fn attack_value(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    const PREFIX: &str = "attack.";
    let raw = &text[range.clone()];
    let inner = raw.trim_start_matches(['"', '\'']);
    let start = range.start + (raw.len() - inner.len());
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let length = inner.find(|c: char| !is_word(c)).unwrap_or(inner.len());
    let word = &inner[..length];
    let prefixed = word.get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX)) && word.len() > PREFIX.len();
    prefixed.then(|| start + PREFIX.len()..start + length)
}

fn line_tag(text: &str, start: usize, line: &str) -> Option<Tag> {
    let content = line.trim_end_matches(['\n', '\r']);
    let dash = content.find("- ")?;
    let after = &content[dash + 2..];
    let at = start + dash + 2 + (after.len() - after.trim_start().len());
    let value = attack_value(text, at..start + content.len())?;
    let ends = &line[content.len()..];
    let glue = if ends.is_empty() { "\n".to_owned() } else { ends.to_owned() };
    Some(Tag { value, item: start..start + line.len(), again: start..start + content.len(), glue })
}

/// Tags between brackets, on one line or several.
fn bracket_tags(text: &str, open: usize) -> Vec<Tag> {
    let Some(close) = text[open..].find(']').map(|i| open + i) else { return Vec::new() };
    let mut pieces = Vec::new();
    let mut at = open + 1;
    for piece in text[open + 1..close].split(',') {
        pieces.push(at..at + piece.len());
        at += piece.len() + 1;
    }
    let mut tags = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let raw = &text[piece.clone()];
        let again = piece.start + (raw.len() - raw.trim_start().len())..piece.end - (raw.len() - raw.trim_end().len());
        let Some(value) = (!again.is_empty()).then(|| attack_value(text, again.clone())).flatten() else { continue };
        // With the comma before it; the first one with the comma behind.
        let item = if i > 0 { piece.start - 1..piece.end } else { piece.start..(piece.end + 1).min(close) };
        tags.push(Tag { value, item, again, glue: ", ".to_owned() });
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_their_quotes_and_line_ends() {
        let text = "a,\"b, \"\"c\"\"\n\",d\r\n,x\n";
        let table = separated(text, ',');
        let cells: Vec<Vec<Cow<'_, str>>> = table.rows.iter().map(|r| r.iter().map(|c| table.cell(c)).collect()).collect();
        assert_eq!(cells, [vec!["a", "b, \"c\"\n", "d"], vec!["", "x"]]);
        assert_eq!(table.line(&table.rows[1]), 3);
    }

    #[test]
    fn a_text_block_has_no_tags() {
        let text = "description: |\n  tags:\n    - attack.t1059\ntags:\n  - attack.t1003 # why\n  - cve.2021-1\n";
        let blocks = tag_blocks(text);
        assert_eq!(blocks.len(), 1);
        assert_eq!(&text[blocks[0][0].value.clone()], "t1003");
        assert_eq!(blocks[0].len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_cut_into_cells_and_tags(text in "(tags:|- attack\\.|t1059|[\"',;\\[\\]\n\r |>#é-]){0,30}") {
            let table = separated(&text, ',');
            let _: Vec<_> = table.rows.iter().flatten().map(|c| table.cell(c)).collect();
            let _ = tag_blocks(&text);
            let _ = ids_in(&text, 0..text.len());
        }
    }
}
