//! Markdown to paste into a ticket: a table, and the evidence below it.
//!
//! Report text stands in code spans, the one place where neither CommonMark nor its extensions (tables, bare addresses,
//! mentions, HTML) see markup; names that ATT&CK gives are escaped.

use std::fmt::Write;

use super::handoff::{HandOff, line};
use super::{Rendered, Source, profiles};
use crate::index::Index;
use crate::rank::{Found, Mapping};
use crate::text::Document;

/// Pieces of evidence quoted for a technique.
const PIECES: usize = 5;
/// Lines named for a technique in the table.
const LINES: usize = 6;

/// The mapping of one document.
pub fn page<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, hand_off: &HandOff) -> Rendered {
    let mut out = String::new();
    let found: Vec<&Found> = hand_off.techniques(mapping).collect();
    let title = hand_off.title(source);
    let title = if title.is_empty() { title } else { format!(" in {}", code(&title, false)) };
    let _ = writeln!(out, "## ATT&CK techniques{title}\n");
    let count = match found.len() {
        0 => "No technique".to_owned(),
        1 => "1 technique".to_owned(),
        n => format!("{n} techniques"),
    };
    let kinds = if hand_off.statuses.is_empty() {
        "that the text says was used".to_owned()
    } else {
        format!("({})", hand_off.statuses.iter().map(|s| s.name()).collect::<Vec<_>>().join(", "))
    };
    let kinds = if found.len() > 1 { kinds.replace("was used", "were used") } else { kinds };
    let version = concat!("ttpmap ", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(out, "{count} {kinds}, by ATT&CK {} {}. Mapped by {version}.", index.domain(), escape(index.version()));
    let left = hand_off.left_out(mapping);
    if !left.is_empty() {
        let _ = writeln!(out, "Left out: {left}.");
    }
    if !found.is_empty() {
        let others = !hand_off.statuses.is_empty();
        let (head, rule) = if others { (" Status |", " --- |") } else { ("", "") };
        let _ = writeln!(out, "\n| ID | Technique | Tactics | Confidence |{head} Lines |\n| --- | --- | --- | ---: |{rule} --- |");
        for f in &found {
            let tactics = if f.fixed_tactics.is_empty() { &f.tactics } else { &f.fixed_tactics };
            let mut lines: Vec<usize> = hand_off.evidence(f).map(|e| e.line).collect();
            lines.dedup();
            let more = if lines.len() > LINES { ", …" } else { "" };
            let lines = lines.iter().take(LINES).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let status = if others { format!(" {} |", f.status) } else { String::new() };
            let old = f.redirected_from.map(|id| format!(" (was {id})")).unwrap_or_default();
            let _ = writeln!(
                out,
                "| {} | {}{old} | {} | {:.0} % |{status} {lines}{more} |",
                link(f),
                escape(&f.name),
                tactics.iter().map(|t| escape(t)).collect::<Vec<_>>().join(", "),
                f.confidence * 100.0
            );
        }
        let _ = writeln!(out, "\n### Evidence\n");
        for f in &found {
            let _ = writeln!(out, "- **{} {}**", f.id, escape(&f.name));
            let pieces: Vec<_> = hand_off.evidence(f).collect();
            for e in pieces.iter().take(PIECES) {
                let status = if e.status == f.status && !others { String::new() } else { format!(" ({})", e.status) };
                let _ = writeln!(out, "  - line {}{status}: {}", e.line, code(&hand_off.sentence(document, e), false));
            }
            if pieces.len() > PIECES {
                let _ = writeln!(out, "  - and {} more", pieces.len() - PIECES);
            }
        }
    }
    let lists = [("Groups", &mapping.groups), ("Software", &mapping.software), ("Campaigns", &mapping.campaigns)];
    let named: Vec<(&str, Vec<&Found>)> = lists.map(|(name, list)| (name, hand_off.named(list).collect())).into();
    if named.iter().any(|(_, list)| !list.is_empty()) {
        let _ = writeln!(out, "\n### Named\n");
    }
    for (heading, list) in named.iter().filter(|(_, list)| !list.is_empty()) {
        let items: Vec<String> = list.iter().map(|f| format!("{} {}", link(f), escape(&f.name))).collect();
        let _ = writeln!(out, "- {heading}: {}", items.join(", "));
    }
    if !mapping.implied.is_empty() {
        let _ = writeln!(out, "\n### Recorded by ATT&CK for what is named\n\nThe text itself does not describe these.\n");
        for implied in &mapping.implied {
            let through: Vec<String> = implied.through.iter().map(ToString::to_string).collect();
            let id = format!("[{}]({})", implied.id, implied.id.url());
            let _ = writeln!(out, "- {id} {}, through {}", escape(&implied.name), through.join(", "));
        }
    }
    profiles::markdown(&mut out, mapping);
    Rendered { text: out, ..Rendered::default() }
}

fn link(found: &Found) -> String {
    format!("[{}]({})", found.id, found.id.url())
}

/// A name in running text or in a table: one line, every character that could make markup escaped. What looks like an
/// address or a mention becomes a code span.
pub fn escape(text: &str) -> String {
    let text = line(text, 200);
    if text.contains("://") || text.contains('@') || text.to_ascii_lowercase().contains("www.") {
        return code(&text, true);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*_{}[]<>#|~&$^".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Several sentences of ATT&CK's or ttpmap's own, escaped word by word: an address becomes a code span by itself.
pub fn prose(text: &str) -> String {
    line(text, 4000).split(' ').map(escape).collect::<Vec<_>>().join(" ")
}

/// Text as a code span, which nothing inside can end; empty for nothing. In a table a bar is escaped, even there.
pub fn code(text: &str, in_table: bool) -> String {
    let text = line(text, usize::MAX);
    if text.is_empty() {
        return text;
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    let text = if in_table { text.replace('|', "\\|") } else { text };
    format!("{fence}{pad}{text}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_not_ended_from_within() {
        for (text, expected) in [
            ("plain", "`plain`"),
            ("a `b` c", "``a `b` c``"),
            ("```", "```` ``` ````"),
            ("](javascript:alert(1))\n<script>", "`](javascript:alert(1)) <script>`"),
            ("", ""),
        ] {
            assert_eq!(code(text, false), expected);
        }
        assert_eq!(code("a|b", true), "`a\\|b`");
        assert_eq!(escape("a|b_[c](d)<e>"), "a\\|b\\_\\[c\\](d)\\<e\\>");
        assert_eq!(escape("see https://example.com"), "`see https://example.com`");
    }
}
