//! SARIF 2.1.0 (OASIS Standard with errata 01), for tools that show findings beside the text they are in: a rule for
//! each technique, a result for each piece of evidence.
//!
//! | status | level | kind |
//! | --- | --- | --- |
//! | asserted | error | fail |
//! | prevented | warning | fail |
//! | hypothetical | note | fail |
//! | negated, defensive, generic | none | informational |
//!
//! Lines count from 1, columns from 1 in UTF-16 code units (`columnKind`), byte offsets from 0 in the text that was read.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::handoff::HandOff;
use super::stix::uuid_of;
use super::{Rendered, Source};
use crate::index::{Index, ObjectRef};
use crate::kb::id::AttackId;
use crate::rank::Mapping;
use crate::status::Status;
use crate::text::Document;

/// Characters that stand for themselves in a path of a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where an input is, as a reference that SARIF takes: relative to where ttpmap ran, unless the path is absolute. A
/// record of a JSONL file has its ID behind a `#`; standard input is `stdin`.
fn uri(source: &Source) -> String {
    let name = if std::path::MAIN_SEPARATOR == '\\' { source.source.replace('\\', "/") } else { source.source.clone() };
    let path = if name == "-" { "stdin".to_owned() } else { utf8_percent_encode(&name, PATH).to_string() };
    let drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes().get(2) == Some(&b'/');
    let base = match (name.starts_with('/'), drive) {
        (true, _) => format!("file://{path}"),
        (_, true) => format!("file:///{}", path.replacen("%3A", ":", 1)),
        _ => path,
    };
    let id = source.id.as_str().map_or_else(|| source.id.to_string(), str::to_owned);
    if id == source.source || id == "null" { base } else { format!("{base}#{}", utf8_percent_encode(&id, PATH)) }
}

fn level(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Asserted => ("error", "fail"),
        Status::Prevented => ("warning", "fail"),
        Status::Hypothetical => ("note", "fail"),
        _ => ("none", "informational"),
    }
}

/// Line and column of some bytes of a text, in one pass over it.
fn positions(text: &str, mut offsets: Vec<usize>) -> BTreeMap<usize, (usize, usize)> {
    offsets.sort_unstable();
    offsets.dedup();
    let mut wanted = offsets.into_iter().peekable();
    let (mut line, mut column) = (1, 1);
    let mut out = BTreeMap::new();
    for (at, c) in text.char_indices().chain([(text.len(), '\0')]) {
        while wanted.next_if(|w| *w <= at).map(|w| out.insert(w, (line, column))).is_some() {}
        if wanted.peek().is_none() {
            break;
        }
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += c.len_utf16();
        }
    }
    out
}

/// The results of one document, separated by commas, with the techniques they are of; see [`super::assembly`].
///
/// # Panics
/// Never: results are strings and numbers.
pub fn results<D: AsRef<[u8]>>(_: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, hand_off: &HandOff) -> Rendered {
    let mut pieces: Vec<_> = hand_off.techniques(mapping).flat_map(|f| hand_off.evidence(f).map(move |e| (f, e))).collect();
    pieces.sort_by_key(|(f, e)| (e.span, f.id));
    let places = positions(document.text(), pieces.iter().flat_map(|(_, e)| [e.span.start, e.span.end]).collect());
    let uri = uri(source);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut texts = Vec::with_capacity(pieces.len());
    for (found, evidence) in &pieces {
        let sentence = hand_off.sentence(document, evidence);
        let (level, kind) = level(evidence.status);
        let ((line, column), (end_line, end_column)) = (places[&evidence.span.start], places[&evidence.span.end]);
        // The same sentence elsewhere in the text is another finding; moved to another line it is the same.
        let key = format!("{} {sentence}", found.id);
        let count = seen.entry(key.clone()).or_insert(0);
        *count += 1;
        let fingerprint = uuid_of(&["sarif", &uri, &key, &count.to_string()]).simple().to_string();
        let result = json!({
            "ruleId": found.id.to_string(),
            "level": level,
            "kind": kind,
            "rank": (f64::from(evidence.confidence) * 1000.0).round() / 10.0,
            "message": {"text": format!("{} {} ({}): {sentence}", found.id, found.name, evidence.status)},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": uri},
                "region": {
                    "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column,
                    "byteOffset": evidence.span.start, "byteLength": evidence.span.len(),
                },
            }}],
            "partialFingerprints": {"ttpmapEvidence/v1": fingerprint},
            "properties": {"status": evidence.status.name(), "by": evidence.by.name(), "tactics": found.tactics},
        });
        texts.push(indented(&result, 8));
    }
    Rendered { text: texts.join(",\n"), refs: pieces.iter().map(|(f, _)| f.id).collect(), id: None }
}

/// The rule of a technique.
pub(crate) fn rule<D: AsRef<[u8]>>(index: &Index<D>, id: AttackId) -> Option<Value> {
    let object = index.get(id)?;
    let words = [object.description(), object.gloss()].into_iter().find(|t| !t.is_empty());
    let tactics: Vec<&str> = object.tactics().map(ObjectRef::short_name).collect();
    let among = if tactics.is_empty() { String::new() } else { format!(" Tactics: {}.", tactics.join(", ")) };
    let help = format!("{} {}.{among} {}", id, object.full_name(), id.url());
    let mut out = json!({
        "id": id.to_string(),
        "name": object.full_name(),
        "shortDescription": {"text": format!("{id} {}", object.full_name())},
        "helpUri": id.url(),
        "help": {"text": words.map_or_else(|| help.clone(), |w| format!("{w}\n\n{help}"))},
        "properties": {"tags": tactics},
    });
    if let Some(words) = words {
        out["fullDescription"] = json!({"text": words});
    }
    Some(out)
}

pub(crate) fn indented(value: &Value, by: usize) -> String {
    let text = serde_json::to_string_pretty(value).expect("strings and numbers serialise");
    let pad = " ".repeat(by);
    text.lines().map(|l| format!("{pad}{l}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_in_utf16() {
        let text = "a𝕏b\r\nçd";
        let at = |what: &str| text.find(what).unwrap();
        let places = positions(text, vec![at("b"), at("d"), text.len(), 0]);
        assert_eq!(places[&0], (1, 1));
        assert_eq!(places[&at("b")], (1, 4), "outside the BMP a character is two units");
        assert_eq!(places[&at("d")], (2, 2));
        assert_eq!(places[&text.len()], (2, 3));
    }

    #[test]
    fn inputs_are_uris() {
        let source = |name: &str, id: Value| Source { id, source: name.to_owned(), title: None, record: None };
        for (name, id, expected) in [
            ("a b/ü#1.txt", json!("a b/ü#1.txt"), "a%20b/%C3%BC%231.txt"),
            ("/srv/a.txt", json!("/srv/a.txt"), "file:///srv/a.txt"),
            ("-", json!("-"), "stdin"),
            ("t.jsonl", json!("INC 7"), "t.jsonl#INC%207"),
            ("t.jsonl", json!(7), "t.jsonl#7"),
        ] {
            assert_eq!(uri(&source(name, id)), expected);
        }
    }
}
