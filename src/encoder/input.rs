//! What the encoder reads of a segment: its own text, and what stands before it.
//!
//! The training sentences (`kb build --encoder-lessons`) are made by the same functions, so that both sides see one text.

use crate::matching::Sighting;
use crate::text::token::{PART, PLACEHOLDER, placeholder};
use crate::text::{Document, Span};

/// Words for things that are no words. Names of files, paths and registry keys say what is done and stay.
const THINGS: [&str; 6] = ["url", "cve", "hash", "email", "ip", "domain"];
/// What stands for the name of an actor or of malware: the encoder is to learn what is done and not who does it.
const ACTOR: &str = "it";
/// Bytes of a segment that are read. No sentence of the labelled reports has words behind it within the encoder's
/// tokens.
const MAX_TEXT: usize = 600;
/// Bytes of a segment that are looked at for these.
const MAX_RAW: usize = 16 << 10;

/// What the encoder reads of a segment: its text, names of actors and malware and things that are no words replaced, white
/// space single.
pub(crate) fn plain(document: &Document, sighting: &Sighting) -> String {
    let text = document.text();
    let span = sighting.segment.span;
    // However long a segment is, what is read of it has to stay cheap.
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
    cut(&out).to_owned()
}

/// At most [`MAX_TEXT`] bytes, whole words where there are any.
fn cut(text: &str) -> &str {
    if text.len() <= MAX_TEXT {
        return text;
    }
    let end = (0..=MAX_TEXT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let piece = &text[..end];
    piece.rfind(' ').map_or(piece, |space| &piece[..space])
}

/// What stands before a segment: the heading above it, and the segment before it where that is another.
pub(crate) fn context(sightings: &[Sighting], place: usize) -> [Option<usize>; 2] {
    let heading = sightings[place].segment.heading.map(|h| h as usize).filter(|h| *h < sightings.len());
    [heading, place.checked_sub(1).filter(|before| Some(*before) != heading)]
}
