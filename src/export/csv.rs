//! Comma-separated values (RFC 4180, UTF-8, a line feed behind each row) that are safe to open in a spreadsheet.
//!
//! One row for each technique and piece of evidence, so that a pivot table or a data frame gets at everything. Cells
//! that a spreadsheet would take for a formula get an apostrophe in front, after OWASP's "CSV injection".

use super::handoff::{HandOff, line};
use super::{Rendered, Source};
use crate::index::Index;
use crate::rank::Mapping;
use crate::text::Document;

/// The header of `map`.
pub const COLUMNS: [&str; 19] = [
    "source",
    "id",
    "technique_id",
    "technique",
    "tactics",
    "status",
    "confidence",
    "evidence_status",
    "evidence_confidence",
    "line",
    "start",
    "end",
    "found_by",
    "matched",
    "sentence",
    "redirected_from",
    "url",
    "attack_domain",
    "attack_version",
];
/// Characters of a name or ID that come from outside.
const CELL_CHARS: usize = 400;

/// A row, with its line end. Every cell is made safe by [`cell`] first.
///
/// # Panics
/// Never: a row in memory can be written.
pub fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(cells.into_iter().map(|c| cell(c.as_ref()))).expect("memory can be written");
    String::from_utf8(writer.into_inner().expect("memory can be written")).expect("text stays text")
}

/// The text of a cell: one line, and with an apostrophe in front where a spreadsheet would see a formula (`=`, `+`,
/// `-`, `@` and their full-width forms, blanks before them or not).
pub fn cell(text: &str) -> String {
    let text = line(text, CELL_CHARS + 8);
    if text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) { format!("'{text}") } else { text }
}

/// The rows of one document, without a header; nothing where nothing is handed on.
pub fn rows<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, hand_off: &HandOff) -> Rendered {
    let id = source.id.as_str().map_or_else(|| source.id.to_string(), str::to_owned);
    let digits = |p: f32| format!("{p:.3}");
    let mut text = String::new();
    for found in hand_off.techniques(mapping) {
        for evidence in hand_off.evidence(found) {
            text += &row([
                source.source.as_str(),
                &id,
                &found.id.to_string(),
                &found.name,
                &found.tactics.join(" "),
                found.status.name(),
                &digits(found.confidence),
                evidence.status.name(),
                &digits(evidence.confidence),
                &evidence.line.to_string(),
                &evidence.span.start.to_string(),
                &evidence.span.end.to_string(),
                evidence.by.name(),
                &hand_off.matched(document, evidence),
                &hand_off.sentence(document, evidence),
                &found.redirected_from.map(|id| id.to_string()).unwrap_or_default(),
                &found.id.url(),
                index.domain().attack_name(),
                index.version(),
            ]);
        }
    }
    Rendered { text, ..Rendered::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, expected) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1+2", "'-1+2"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'=1"),
            ("\r\n=1", "'=1"),
            ("\u{202e}\u{feff} =1", "'=1"),
            ("＝1", "'＝1"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
        assert_eq!(row(["a", "say \"hi\", twice", "", "=1"]), "a,\"say \"\"hi\"\", twice\",,'=1\n");
    }
}
