//! A narrative as text, and where things stand in it.

pub(crate) mod segment;
pub mod shown;
pub(crate) mod token;

use std::ops::Range;

/// Texts over this many bytes are refused (DESIGN: 64 MiB a document).
pub const MAX_TEXT_BYTES: u64 = 64 << 20;

/// A half-open range of bytes in the one text it came from, always on character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` to `end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The piece of `text` that the span covers; empty where the span is not of this text.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether both cover a byte in common.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether the other lies inside this one.
    pub fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether it covers nothing.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// What a segment is: as the format says (a heading of a web page, a row of a DOCX table), or as plain text and Markdown
/// show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentKind {
    /// A sentence of running text.
    Sentence,
    /// A heading or title line.
    Heading,
    /// A sentence in a list item.
    Item,
    /// A row of a table.
    Row,
    /// A line of code or of a command.
    Code,
    /// The caption of a figure or table.
    Caption,
}

/// Where a byte of an extracted text came from, as far as the format has such places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Origin {
    /// Page of a PDF, from 1.
    pub page: Option<u32>,
    /// Paragraph of a DOCX, from 1, those in tables and empty ones counted.
    pub paragraph: Option<u32>,
}

/// A part of a text that is one thing: a paragraph, a heading, a list item, a table row, a line of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) span: Span,
    pub(crate) kind: SegmentKind,
}

/// A sentence, heading, list item, table row or code line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it stands, white space around it left out.
    pub span: Span,
    /// What it is.
    pub kind: SegmentKind,
    /// Place of the heading above it among the document's segments.
    pub heading: Option<u32>,
}

/// A narrative, cut into segments.
#[derive(Debug, Clone)]
pub struct Document {
    text: String,
    segments: Vec<Segment>,
    lines: Vec<usize>,
    /// Where a new origin begins, by offset; what lies before the first has none.
    origins: Vec<(usize, Origin)>,
    title: Option<String>,
    date: Option<String>,
}

impl Document {
    /// Cuts a text into segments. Linear in the text's length.
    pub fn new(text: impl Into<String>) -> Document {
        let text = text.into();
        let segments = segment::segments(&text);
        Document::with_segments(text, segments)
    }

    /// The same for Markdown, whose quotes are prose and whose front matter is none.
    pub fn markdown(text: impl Into<String>) -> Document {
        let text = text.into();
        let segments = segment::markdown_segments(&text);
        Document::with_segments(text, segments)
    }

    /// A text whose blocks are known. They are in order and don't overlap; between them is white space only.
    pub(crate) fn from_blocks(text: String, blocks: &[Block], origins: Vec<(usize, Origin)>, title: Option<String>) -> Document {
        let segments = segment::segments_of_blocks(&text, blocks);
        Document { origins, title, ..Document::with_segments(text, segments) }
    }

    /// Documents one after the other under a heading, which is also the title; where they begin with it themselves it is
    /// not said twice.
    pub(crate) fn after_heading(heading: Option<String>, parts: Vec<Document>) -> Document {
        let begins = |h: &&String| parts.first().is_none_or(|p| !p.text.trim_start().starts_with(h.as_str()));
        let mut text = heading.as_ref().filter(begins).cloned().unwrap_or_default();
        let mut segments = Vec::new();
        if !text.is_empty() {
            segments.push(Segment { span: Span::new(0, text.len()), kind: SegmentKind::Heading, heading: None });
        }
        let first = (!segments.is_empty()).then_some(0);
        for part in parts {
            if !text.is_empty() {
                text.truncate(text.trim_end().len());
                text.push_str("\n\n");
            }
            let (offset, place) = (text.len(), segments.len() as u32);
            text.push_str(&part.text);
            segments.extend(part.segments.into_iter().map(|s| Segment {
                span: Span::new(s.span.start + offset, s.span.end + offset),
                heading: s.heading.map(|h| h + place).or(first),
                ..s
            }));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        Document::with_segments(text, segments).titled(heading)
    }

    fn with_segments(text: String, segments: Vec<Segment>) -> Document {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        Document { text, segments, lines, origins: Vec::new(), title: None, date: None }
    }

    /// The same document under a title.
    pub(crate) fn titled(mut self, title: Option<String>) -> Document {
        self.title = title;
        self
    }

    /// The same document of a day.
    pub(crate) fn dated(mut self, date: Option<String>) -> Document {
        self.date = date;
        self
    }

    /// Where a byte came from.
    pub fn origin(&self, offset: usize) -> Origin {
        let after = self.origins.partition_point(|(start, _)| *start <= offset);
        after.checked_sub(1).map_or_else(Origin::default, |at| self.origins[at].1)
    }

    /// The title that the input gives: of a web page, of a file's properties, the subject of a mail.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// The day that the input gives, `YYYY-MM-DD` in UTC: of a JSON record, of a mail, of publication in a web page, in
    /// the properties of a file.
    pub fn date(&self) -> Option<&str> {
        self.date.as_deref()
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its segments, in order; between them there is nothing but white space.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The line that holds a byte, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The place of the segment that holds a byte, or of the last one before it.
    pub fn segment_at(&self, offset: usize) -> Option<usize> {
        self.segments.partition_point(|s| s.span.start <= offset).checked_sub(1)
    }
}
