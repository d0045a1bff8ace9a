//! Clean-up of extracted text, and the writer that all readers but those of plain text share: blocks in, a
//! [`Document`] out whose spans point into the cleaned text.
//!
//! What is cleaned is what a reader doesn't see: ligatures become their letters, odd spaces a space, soft hyphens and
//! characters without width go. Nothing is reworded; defanged indicators stay as they are.

use crate::text::{Block, Document, MAX_TEXT_BYTES, Origin, SegmentKind, Span};

use super::{Error, Kind};

/// What a character is written as: itself, other characters, or nothing.
enum Cleaned {
    Itself,
    As(&'static str),
    Gone,
}

fn cleaned(c: char) -> Cleaned {
    match c {
        '\u{fb00}' => Cleaned::As("ff"),
        '\u{fb01}' => Cleaned::As("fi"),
        '\u{fb02}' => Cleaned::As("fl"),
        '\u{fb03}' => Cleaned::As("ffi"),
        '\u{fb04}' => Cleaned::As("ffl"),
        '\u{fb05}' | '\u{fb06}' => Cleaned::As("st"),
        // Soft hyphen, characters without width, direction marks.
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            Cleaned::Gone
        }
        _ => Cleaned::Itself,
    }
}

/// Plain text as it came, but for ligatures, soft hyphens and characters without width, which hide words. Line ends and
/// spaces stay, so that lines are those of the file.
pub(super) fn plain(text: String) -> String {
    if text.is_ascii() || text.chars().all(|c| matches!(cleaned(c), Cleaned::Itself)) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match cleaned(c) {
            Cleaned::Itself => out.push(c),
            Cleaned::As(letters) => out.push_str(letters),
            Cleaned::Gone => {}
        }
    }
    out
}

/// A piece of extracted text, appended: cleaned as [`plain`], odd spaces and hyphens made ordinary, control characters
/// gone; outside of code white space is folded.
pub(super) fn push_clean(piece: &str, code: bool, out: &mut String) {
    for c in piece.chars() {
        match c {
            '\u{2010}' | '\u{2011}' => out.push('-'),
            // Bullets of symbol fonts.
            '\u{f0a7}' | '\u{f0b7}' | '\u{f076}' | '\u{f0d8}' => out.push('•'),
            '\t' | ' ' if code => out.push(c),
            c if c.is_whitespace() => {
                if code || !out.ends_with([' ', '\n']) {
                    out.push(' ');
                }
            }
            c if c.is_control() => {}
            c => match cleaned(c) {
                Cleaned::Itself => out.push(c),
                Cleaned::As(letters) => out.push_str(letters),
                Cleaned::Gone => {}
            },
        }
    }
}

/// Writes the text of a document, block by block.
pub(super) struct Writer {
    text: String,
    blocks: Vec<Block>,
    origins: Vec<(usize, Origin)>,
    /// Where the block being written begins.
    open: Option<(usize, SegmentKind)>,
    full: bool,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer { text: String::new(), blocks: Vec::new(), origins: Vec::new(), open: None, full: false }
    }

    /// What is written from here on came from there.
    #[cfg_attr(not(any(feature = "pdf", feature = "docx")), allow(dead_code))]
    pub(super) fn origin(&mut self, origin: Origin) {
        if self.origins.last().map(|(_, last)| *last) == Some(origin) {
            return;
        }
        match self.origins.last_mut() {
            Some((at, last)) if *at == self.text.len() => *last = origin,
            _ => self.origins.push((self.text.len(), origin)),
        }
    }

    /// Begins a block; one that is open is closed. Items, rows and code lines of the same kind follow on the next line,
    /// all else after a blank one.
    pub(super) fn open(&mut self, kind: SegmentKind) {
        self.close();
        if let Some(last) = self.blocks.last() {
            let together = last.kind == kind && matches!(kind, SegmentKind::Item | SegmentKind::Row | SegmentKind::Code);
            self.text.push_str(if together { "\n" } else { "\n\n" });
        }
        self.open = Some((self.text.len(), kind));
    }

    /// Appends to the open block; a paragraph is opened where none is.
    pub(super) fn push(&mut self, piece: &str) {
        if self.text.len() as u64 > MAX_TEXT_BYTES {
            self.full = true;
            return;
        }
        if self.open.is_none() {
            if piece.trim().is_empty() {
                return;
            }
            self.open(SegmentKind::Sentence);
        }
        let code = matches!(self.open, Some((_, SegmentKind::Code)));
        if !code && self.open.is_some_and(|(start, _)| start == self.text.len()) {
            push_clean(piece.trim_start(), code, &mut self.text);
        } else {
            push_clean(piece, code, &mut self.text);
        }
    }

    /// Appends a list marker as it is, with the spaces before it.
    pub(super) fn push_marker(&mut self, marker: &str) {
        self.text.push_str(marker);
    }

    /// Takes back a hyphen at the end of what was written.
    #[cfg(feature = "pdf")]
    pub(super) fn take_hyphen(&mut self) {
        if self.written().ends_with('-') {
            self.text.pop();
        }
    }

    /// A line break within a block.
    pub(super) fn line_break(&mut self) {
        if let Some((start, _)) = self.open
            && self.text.len() > start
        {
            self.text.truncate(self.text.trim_end_matches(' ').len().max(start));
            self.text.push('\n');
        }
    }

    /// Whether nothing was written to the open block, or none is open.
    pub(super) fn at_start(&self) -> bool {
        self.open.is_none_or(|(start, _)| self.text[start..].trim().is_empty())
    }

    /// What was written to the open block.
    pub(super) fn written(&self) -> &str {
        self.open.map_or("", |(start, _)| &self.text[start..])
    }

    /// Ends the open block; one without text is taken back.
    pub(super) fn close(&mut self) {
        let Some((start, kind)) = self.open.take() else { return };
        let end = start + self.text[start..].trim_end().len();
        if end == start {
            let before = self.blocks.last().map_or(0, |b| b.span.end);
            self.text.truncate(before);
            while self.origins.last().is_some_and(|(at, _)| *at > before) && self.origins.len() > 1 {
                let (_, origin) = self.origins.pop().expect("it has several");
                // The place may be asked for again by what follows.
                match self.origins.last_mut() {
                    Some((at, last)) if *at >= before => *last = origin,
                    _ => {
                        self.origins.push((before, origin));
                        break;
                    }
                }
            }
            return;
        }
        self.text.truncate(end);
        self.blocks.push(Block { span: Span::new(start, end), kind });
    }

    /// The document.
    ///
    /// # Errors
    /// Where there is no text, or more than a document may have.
    pub(super) fn finish(mut self, title: Option<String>, kind: Kind) -> Result<Document, Error> {
        self.close();
        if self.full || self.text.len() as u64 > MAX_TEXT_BYTES {
            return Err(Error::TooLarge);
        }
        if self.blocks.is_empty() {
            return Err(Error::Empty(kind));
        }
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        Ok(Document::from_blocks(self.text, &self.blocks, self.origins, title))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_keeps_what_is_seen() {
        for (text, expected) in [
            ("a\r\nb\u{a0}c", "a\r\nb\u{a0}c"),
            ("con\u{ad}\u{fb01}g\u{200b}ure", "configure"),
            ("hxxps://evil[.]example", "hxxps://evil[.]example"),
        ] {
            assert_eq!(plain(text.to_owned()), expected);
        }
    }

    fn block(out: &mut Writer, kind: SegmentKind, text: &str) {
        out.open(kind);
        out.push(text);
        out.close();
    }

    #[test]
    fn blocks_and_origins_are_where_the_text_is() {
        let mut out = Writer::new();
        let page = |n| Origin { page: Some(n), paragraph: None };
        out.origin(page(1));
        block(&mut out, SegmentKind::Heading, " A \u{2003} heading ");
        block(&mut out, SegmentKind::Sentence, "  ");
        block(&mut out, SegmentKind::Item, "- one");
        out.origin(page(2));
        block(&mut out, SegmentKind::Item, "- two\u{1b}");
        block(&mut out, SegmentKind::Code, "a  b");
        let document = out.finish(None, Kind::Html).unwrap();
        assert_eq!(document.text(), "A heading\n\n- one\n- two\n\na  b\n");
        let kinds: Vec<SegmentKind> = document.segments().iter().map(|s| s.kind).collect();
        assert_eq!(kinds, [SegmentKind::Heading, SegmentKind::Item, SegmentKind::Item, SegmentKind::Code]);
        assert_eq!(document.segments()[2].heading, Some(0));
        for (part, number) in [("A heading", 1), ("- one", 1), ("- two", 2), ("a  b", 2)] {
            assert_eq!(document.origin(document.text().find(part).unwrap()).page, Some(number), "{part}");
        }
    }

    #[test]
    fn nothing_written_is_an_error() {
        let mut out = Writer::new();
        block(&mut out, SegmentKind::Row, "\u{200b} \n");
        assert!(matches!(out.finish(None, Kind::Html), Err(Error::Empty(Kind::Html))));
    }
}
