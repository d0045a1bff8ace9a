//! The mapping for a reader at a terminal.
//!
//! Text from a narrative is data: control characters never reach the terminal.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::Source;
use crate::index::Index;
use crate::rank::{Evidence, Found, Mapping};
use crate::status::Status;
use crate::text::shown::{fit, fit_end, printable};
use crate::text::{Document, Span};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const MARK: Style = AnsiColor::Yellow.on_default().bold();
const ID: Style = AnsiColor::Cyan.on_default().bold();

/// How a table is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Columns of the terminal; at least 40 are used.
    pub width: usize,
    /// Pieces of evidence shown for a technique; all with explanations.
    pub evidence: usize,
    /// Show what carried each piece, and what was second.
    pub explain: bool,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout { width: 100, evidence: 1, explain: false }
    }
}

/// The table, with ANSI styles; [`anstream`] takes them out where they are not wanted.
pub fn table<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, layout: Layout) -> String {
    let mut out = String::new();
    let asserted: Vec<&Found> = mapping.asserted().collect();
    let others: Vec<&Found> = mapping.techniques.iter().filter(|t| t.status != Status::Asserted).collect();
    let (title, name) = match source.title.as_deref() {
        Some(title) => (title, format!("{}, ", printable(&source.source))),
        None => (source.source.as_str(), String::new()),
    };
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "{BOLD}{}{BOLD:#}  {DIM}{name}{}, ATT&CK {} {}{DIM:#}",
        printable(title),
        count(asserted.len(), "technique"),
        index.domain(),
        index.version()
    );
    if asserted.is_empty() {
        let _ = writeln!(out, "\nNo technique that the text says was used.");
    } else {
        let _ = writeln!(out, "\n{DIM}{:<11}{:<42}{:<26}{:>4}{DIM:#}", "ID", "TECHNIQUE", "TACTIC", "CONF");
    }
    for found in asserted {
        technique(&mut out, document, found, layout, Style::new());
    }
    if !others.is_empty() {
        let _ = writeln!(out, "\n{DIM}Spoken of, but not as done:{DIM:#}");
        for found in others {
            technique(&mut out, document, found, layout, DIM);
        }
    }
    let lists = [
        ("Tactics named", &mapping.tactics),
        ("Groups", &mapping.groups),
        ("Software", &mapping.software),
        ("Campaigns", &mapping.campaigns),
    ];
    for (heading, list) in lists {
        if !list.is_empty() {
            let _ = writeln!(out, "\n{BOLD}{heading}{BOLD:#}");
        }
        for found in list {
            named(&mut out, document, found, layout);
        }
    }
    if !mapping.implied.is_empty() {
        let _ = writeln!(out, "\n{BOLD}Recorded by ATT&CK for what is named{BOLD:#} {DIM}(the text itself does not describe these){DIM:#}");
        for implied in &mapping.implied {
            let through: Vec<String> = implied.through.iter().map(ToString::to_string).collect();
            let _ = writeln!(out, "  {ID}{:<11}{ID:#}{:<42}{DIM}through {}{DIM:#}", implied.id, fit(&implied.name, 41), through.join(", "));
        }
    }
    super::profiles::table(&mut out, mapping, layout.width);
    out
}

fn technique(out: &mut String, document: &Document, found: &Found, layout: Layout, style: Style) {
    let tactics = if found.fixed_tactics.is_empty() { &found.tactics } else { &found.fixed_tactics };
    let tactic = match &tactics[..] {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    };
    let status = if found.status == Status::Asserted { String::new() } else { format!("  {}", found.status) };
    let old = found.redirected_from.map(|id| format!("  (was {id})")).unwrap_or_default();
    let _ = writeln!(
        out,
        "{ID}{:<11}{ID:#}{style}{}{}{:>3} %{status}{old}{style:#}",
        found.id,
        pad(&found.name, 42),
        pad(&tactic, 25),
        (found.confidence * 100.0).round()
    );
    let mut pieces: Vec<&Evidence> = found.evidence.iter().filter(|e| e.status == found.status).collect();
    pieces.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.span.cmp(&b.span)));
    let shown = if layout.explain { pieces.len() } else { layout.evidence.min(pieces.len()) };
    for piece in &pieces[..shown] {
        evidence(out, document, piece, layout, pieces.len() - shown);
    }
}

fn named(out: &mut String, document: &Document, found: &Found, layout: Layout) {
    let status = if found.status == Status::Asserted { String::new() } else { format!("  {}", found.status) };
    let old = found.redirected_from.map(|id| format!("  (was {id})")).unwrap_or_default();
    let _ = writeln!(out, "{ID}{:<11}{ID:#}{}{DIM}{status}{old}{DIM:#}", found.id, printable(&found.name));
    if let Some(first) = found.evidence.first() {
        evidence(out, document, first, layout, found.evidence.len() - 1);
    }
}

/// A line of evidence with the matched part marked.
fn evidence(out: &mut String, document: &Document, piece: &Evidence, layout: Layout, more: usize) {
    let page = document.origin(piece.span.start).page.map(|page| format!("page {page}, ")).unwrap_or_default();
    let label = format!("{page}line {}", piece.line);
    let tail = if more > 0 { format!("  (+{more} more)") } else { String::new() };
    let room = layout.width.max(40).saturating_sub(11 + label.len() + 2 + tail.len());
    let (before, marked, after) = window(document.text(), piece.segment, piece.span, room);
    let mark = if piece.span == piece.segment { Style::new() } else { MARK };
    let _ = writeln!(out, "{:11}{DIM}{label}{DIM:#}  {before}{mark}{marked}{mark:#}{after}{DIM}{tail}{DIM:#}", "");
    if layout.explain {
        let why = piece.why.iter().map(|w| printable(w)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "{:11}{DIM}by {}: {why}{DIM:#}", "", piece.by.name());
        if let Some((id, confidence)) = piece.second {
            let _ = writeln!(out, "{:11}{DIM}second: {id} ({:.0} %){DIM:#}", "", confidence * 100.0);
        }
        if let Some(procedure) = &piece.procedure {
            let source = if procedure.source.is_empty() { String::new() } else { format!(" [{}]", printable(&procedure.source)) };
            let text = fit(&printable(&procedure.text), layout.width.max(40) * 2);
            let _ = writeln!(out, "{:11}{DIM}like {}: {text}{source}{DIM:#}", "", procedure.actor);
        }
    }
}

/// The part of a segment around a span that fits into so many columns, as text before, in and after it.
fn window(text: &str, segment: Span, span: Span, room: usize) -> (String, String, String) {
    let span = if segment.contains(span) { span } else { segment };
    let before = printable(Span::new(segment.start, span.start).of(text));
    let marked = printable(span.of(text));
    let after = printable(Span::new(span.end, segment.end).of(text));
    let width = |s: &str| UnicodeWidthStr::width(s);
    if width(&before) + width(&marked) + width(&after) <= room {
        return (before, marked, after);
    }
    let marked = fit(&marked, room);
    let left = room.saturating_sub(width(&marked));
    let for_before = if width(&after) < left / 2 { left - width(&after) } else { left / 2 };
    let before = fit_end(&before, for_before);
    let after = fit(&after, left.saturating_sub(width(&before)));
    (before, marked, after)
}

fn pad(text: &str, columns: usize) -> String {
    let cut = fit(&printable(text), columns.saturating_sub(1));
    let width = UnicodeWidthStr::width(&*cut);
    format!("{cut}{}", " ".repeat(columns.saturating_sub(width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_fits_and_keeps_the_marked_part() {
        let text = "x".repeat(200) + " MARK " + &"y".repeat(200);
        let at = text.find("MARK").unwrap();
        let (before, marked, after) = window(&text, Span::new(0, text.len()), Span::new(at, at + 4), 60);
        assert_eq!(marked, "MARK");
        assert!(UnicodeWidthStr::width(&*format!("{before}{marked}{after}")) <= 60);
    }
}
