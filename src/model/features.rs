//! What the linear models see of a segment: hashed words and pairs of words.
//!
//! A feature is a 64-bit hash; there is no table of words. What a feature was is told again from the text it
//! came from, which is all that an explanation needs.

use crate::matching::Sighting;
use crate::text::token::{CAPITAL, NUMBER, PART, PIECE, PLACEHOLDER, STOP, UPPER, Word, placeholder};
use crate::text::{Document, SegmentKind, Span};

/// A feature with its weight in the segment, before any weighting by the model.
pub(crate) type Feature = (u64, f32);

fn pair(first: u64, second: u64) -> u64 {
    // Order matters; the constants are those of splitmix64.
    let mut h = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ second.rotate_left(23);
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h ^ (h >> 27)
}

/// A feature of another kind than words: a name and a number.
fn named(name: &str, value: u64) -> u64 {
    pair(crate::index::format::fnv1a(&[b"#", name.as_bytes()]), value)
}

/// Sorts, sums and dampens counts: (1 + ln tf).
fn counted(mut hashes: Vec<u64>) -> Vec<Feature> {
    hashes.sort_unstable();
    let mut out: Vec<Feature> = Vec::with_capacity(hashes.len());
    for hash in hashes {
        match out.last_mut() {
            Some((last, count)) if *last == hash => *count += 1.0,
            _ => out.push((hash, 1.0)),
        }
    }
    for (_, count) in out.iter_mut().filter(|(_, count)| *count > 1.0) {
        *count = 1.0 + count.ln();
    }
    out
}

/// The words that the ranker reads: stop words out, names of actors and malware as one placeholder each.
fn ranked_words<'a>(words: &'a [Word], masked: &'a [Span], within: Span) -> impl Iterator<Item = (Word, u64)> + 'a {
    let name = placeholder("name");
    let mut last_mask: Option<Span> = None;
    words.iter().filter(move |w| within.contains(w.span())).filter_map(move |word| {
        if let Some(mask) = masked.iter().find(|m| m.overlaps(word.span())) {
            let again = last_mask == Some(*mask);
            last_mask = Some(*mask);
            return (!again).then_some((*word, name));
        }
        (!word.is(STOP)).then_some((*word, word.stem))
    })
}

/// Stems and pairs of neighbouring stems.
pub(crate) fn ranker(words: &[Word], masked: &[Span], within: Span) -> Vec<Feature> {
    let mut hashes = Vec::with_capacity(words.len() * 2);
    let mut before: Option<u64> = None;
    for (word, stem) in ranked_words(words, masked, within) {
        hashes.push(stem);
        if word.is(PIECE) || word.is(PART) {
            continue;
        }
        if let Some(before) = before {
            hashes.push(pair(before, stem));
        }
        before = Some(stem);
    }
    counted(hashes)
}

/// The words behind the ranker's features, for explanations: each feature with the bytes it covers.
pub(crate) fn ranker_spans(words: &[Word], masked: &[Span], within: Span) -> Vec<(u64, Span)> {
    let mut out = Vec::new();
    let mut before: Option<(u64, Span)> = None;
    for (word, stem) in ranked_words(words, masked, within) {
        out.push((stem, word.span()));
        if word.is(PIECE) || word.is(PART) {
            continue;
        }
        if let Some((hash, span)) = before {
            out.push((pair(hash, stem), Span::new(span.start, word.span().end)));
        }
        before = Some((stem, word.span()));
    }
    out
}

/// What tells behaviour from other talk: words as they are written, stop words too, pairs of them, and the
/// segment's shape.
pub(crate) fn gate(document: &Document, sightings: &[Sighting], place: usize) -> Vec<Feature> {
    let sighting = &sightings[place];
    let name = placeholder("name");
    let mut hashes = Vec::with_capacity(sighting.words.len() * 3 + 24);
    let mut before = named("start", 0);
    let (mut words, mut capitals, mut numbers, mut things) = (0_u64, 0_u64, 0_u64, 0_u64);
    for word in sighting.words.iter().filter(|w| !w.is(PIECE)) {
        let masked = sighting.masked.iter().any(|m| m.overlaps(word.span()));
        let form = if masked { name } else { word.form };
        hashes.push(form);
        if !word.is(PART) {
            hashes.push(pair(before, form));
            before = form;
            words += 1;
            capitals += u64::from(word.is(CAPITAL) || word.is(UPPER));
            numbers += u64::from(word.is(NUMBER));
            things += u64::from(word.is(PLACEHOLDER));
        }
        if !masked && word.stem != word.form {
            hashes.push(pair(1, word.stem));
        }
    }
    hashes.push(pair(before, named("end", 0)));
    let kind = sighting.segment.kind as u64;
    hashes.push(named("kind", kind));
    hashes.push(named("words", words.min(60) / 4));
    hashes.push(named("capitals", (capitals * 8).checked_div(words).unwrap_or(0)));
    hashes.push(named("numbers", numbers.min(4)));
    hashes.push(named("things", things.min(4)));
    hashes.push(named("names", sighting.masked.len().min(4) as u64));
    hashes.push(named("phrases", sighting.phrases.iter().filter(|h| !h.proper).count().min(4) as u64));
    hashes.push(named("artifacts", sighting.artifacts.len().min(3) as u64));
    let total = sightings.len().max(1);
    hashes.push(named("position", (place * 10 / total) as u64));
    hashes.push(named("early", place.min(6) as u64));
    let last = sighting.segment.span.of(document.text()).chars().next_back();
    hashes.push(named("last", last.map_or(0, |c| if c.is_alphanumeric() { 1 } else { u64::from(u32::from(c)) })));
    if let Some(heading) = sighting.segment.heading.and_then(|h| sightings.get(h as usize)) {
        hashes.extend(heading.words.iter().filter(|w| !w.is(STOP | PIECE)).map(|w| pair(named("heading", 0), w.stem)));
    }
    counted(hashes)
}

/// What tells the status of a behaviour at `focus`: the words around it as written, on their side of it, what
/// the cue rules say, the heading and the segment's kind.
pub(crate) fn status(
    document: &Document,
    sightings: &[Sighting],
    place: usize,
    focus: Span,
    cue: Option<crate::status::Status>,
) -> Vec<Feature> {
    let sighting = &sightings[place];
    let words: Vec<&Word> = sighting.words.iter().filter(|w| !w.is(PIECE) && !w.is(PART)).collect();
    // As many as a word makes, and those of the neighbours.
    let mut hashes = Vec::with_capacity(words.len() * 7 + 40);
    let whole = focus == sighting.segment.span;
    let (mut earlier, mut before) = (named("start", 1), named("start", 0));
    for (i, word) in words.iter().enumerate() {
        let masked = sighting.masked.iter().any(|m| m.overlaps(word.span()));
        let form = if masked { placeholder("name") } else { word.form };
        hashes.push(form);
        hashes.push(pair(before, form));
        hashes.push(pair(pair(earlier, before), form));
        if !masked && word.stem != word.form {
            hashes.push(named("stem", word.stem));
        }
        if i < 3 {
            hashes.push(named("first", pair(i as u64, form)));
        }
        if !whole {
            let side = if word.span().end <= focus.start { 1 } else { u64::from(word.span().start >= focus.end) * 2 };
            hashes.push(named("side", pair(side, form)));
            if side != 0 {
                hashes.push(named("side", pair(side, pair(before, form))));
            }
            let gap = focus.start.saturating_sub(word.span().end);
            if side == 1 && gap < 40 {
                hashes.push(named("near", form));
            }
        }
        (earlier, before) = (before, form);
    }
    let code = |c: Option<crate::status::Status>| c.map_or(9, |s| s as u64);
    for _ in 0..3 {
        hashes.push(named("cue", code(cue)));
    }
    hashes.push(named("kind", sighting.segment.kind as u64));
    hashes.push(named("names", sighting.masked.len().min(2) as u64));
    let things = sighting.words.iter().filter(|w| w.is(PLACEHOLDER)).count().min(3) as u64;
    hashes.push(named("things", things));
    let last = sighting.segment.span.of(document.text()).chars().next_back();
    hashes.push(named("last", last.map_or(0, |c| u64::from(u32::from(c)) * u64::from(!c.is_alphanumeric()))));
    if let Some(heading) = sighting.segment.heading.and_then(|h| sightings.get(h as usize)) {
        hashes.extend(heading.words.iter().filter(|w| !w.is(STOP | PIECE)).map(|w| named("heading", w.stem)));
    }
    // The sentence before speaks in the same voice.
    if place > 0 && sightings[place - 1].segment.kind == SegmentKind::Sentence {
        for word in sightings[place - 1].words.iter().filter(|w| w.is(STOP)) {
            hashes.push(named("before", word.form));
        }
    }
    counted(hashes)
}
