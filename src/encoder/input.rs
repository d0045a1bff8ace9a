//! What the encoder reads of a segment: its own text, and what stands before it.
//!
//! The same function makes the training sentences (`kb build --encoder-lessons`), so that both sides see one text.

use crate::matching::Sighting;
use crate::text::token::{PART, PLACEHOLDER, placeholder};
use crate::text::{Document, Span};

/// A segment as the encoder reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Input {
    /// The segment, names of actors and malware and things that are no words replaced.
    pub(crate) text: String,
    /// The heading above it and the segment before it; empty where there are none.
    pub(crate) context: String,
}

/// Words for things that are no words. Names of files, paths and registry keys say what is done and stay.
const THINGS: [&str; 6] = ["url", "cve", "hash", "email", "ip", "domain"];
/// What stands for the name of an actor or of malware: the encoder is to learn what is done and not who does it.
const ACTOR: &str = "it";
/// Bytes of a segment that are read. No sentence of the labelled reports has words behind it within the encoder's
/// tokens.
const MAX_TEXT: usize = 600;
/// Bytes of a segment that are looked at for these.
const MAX_RAW: usize = 16 << 10;
const MAX_HEADING: usize = 60;
const MAX_BEFORE: usize = 160;

/// A segment's text with its names and things replaced, white space single.
fn plain(document: &Document, sighting: &Sighting) -> String {
    let text = document.text();
    let span = sighting.segment.span;
    // A heading is read again for every segment below it: however long it is, that has to stay cheap.
    let end = (span.start..=span.end.min(span.start + MAX_RAW)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(span.start);
    let span = Span::new(span.start, end);
    let mut edits: Vec<(Span, &str)> = sighting.masked.iter().map(|m| (*m, ACTOR)).collect();
    let words = sighting.words.iter().take_while(|w| w.span().start < end);
    for word in words.filter(|w| w.is(PLACEHOLDER) && !w.is(PART)) {
        if let Some(name) = THINGS.iter().find(|name| placeholder(name) == word.stem) {
            edits.push((word.span(), name));
        }
    }
    edits.sort_by_key(|(s, _)| (s.start, std::cmp::Reverse(s.end)));
    let mut replaced = String::with_capacity(span.len() + 16);
    let mut at = span.start;
    for (edit, with) in edits {
        if edit.start >= at && edit.end <= span.end {
            replaced.push_str(&text[at..edit.start]);
            replaced.push_str(with);
            at = edit.end;
        }
    }
    replaced.push_str(text.get(at..span.end).unwrap_or_default());
    let mut out = String::with_capacity(replaced.len());
    // Rules, bullets and the marks of Markdown say nothing.
    let says = |word: &&str| word.chars().any(char::is_alphanumeric);
    for word in replaced.split_whitespace().filter(says).map(|word| word.trim_matches('*')) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > MAX_TEXT {
            break;
        }
    }
    cut(&out, MAX_TEXT).to_owned()
}

/// At most so many bytes, whole words where there are any.
fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let piece = &text[..end];
    piece.rfind(' ').map_or(piece, |space| &piece[..space])
}

/// What the encoder reads of one segment of a document.
pub(crate) fn input(document: &Document, sightings: &[Sighting], place: usize) -> Input {
    let sighting = &sightings[place];
    let heading = sighting.segment.heading.map(|h| h as usize);
    let before = place.checked_sub(1).filter(|b| Some(*b) != heading);
    let mut context = String::new();
    for (other, most) in [(heading, MAX_HEADING), (before, MAX_BEFORE)] {
        let Some(other) = other.and_then(|o| sightings.get(o)) else { continue };
        if !context.is_empty() {
            context.push_str(" . ");
        }
        context.push_str(cut(&plain(document, other), most));
    }
    Input { text: plain(document, sighting), context }
}
