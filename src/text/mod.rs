//! A narrative as text, and where things stand in it.

pub mod ingest;
pub(crate) mod segment;
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

/// What a segment is, as far as plain text and Markdown show it.
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
}

impl Document {
    /// Cuts a text into segments. Linear in the text's length.
    pub fn new(text: impl Into<String>) -> Document {
        let text = text.into();
        let segments = segment::segments(&text);
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        Document { text, segments, lines }
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
