//! Names, aliases and the lexicon's phrases, found in one pass over the words of a segment however many
//! phrases there are.
//!
//! A phrase is the sequence of its stems without stop words. Each is filed under its rarest stem (its anchor). A
//! word of the text that is the anchor of some phrases makes the finder look around it for the rest. So a phrase
//! tolerates inflection (stems), hyphens (words joined or split), a swapped pair, a word between, one missing word
//! where it has four or more (but the anchor, without which the rest is mostly another phrase), and misspelling (a
//! long word one edit away from a stem of the vocabulary).

use rustc_hash::{FxHashMap, FxHashSet};
use zerocopy::byteorder::little_endian::{U16, U32};

use crate::index::Index;
use crate::index::format::{List, PhraseRecord, StemRecord, Str, fnv1a, tag};
use crate::index::part;
use crate::text::Span;
use crate::text::token::{CAPITAL, PIECE, PLACEHOLDER, STOP, Tokenizer, Word};

/// Where a phrase comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Origin {
    Name = 0,
    Alias = 1,
    Former = 2,
    Lexicon = 3,
}

impl Origin {
    fn from_u8(value: u8) -> Origin {
        match value {
            0 => Origin::Name,
            1 => Origin::Alias,
            2 => Origin::Former,
            _ => Origin::Lexicon,
        }
    }
}

/// The phrase is a common word or two: it needs support from elsewhere.
pub(crate) const GENERIC: u8 = 1;
/// The phrase is a proper name: it is matched word by word, in order, without tolerance.
pub(crate) const PROPER: u8 = 2;

/// A phrase that is to be searched for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Phrase {
    pub(crate) text: String,
    pub(crate) object: u16,
    pub(crate) origin: Origin,
    pub(crate) near: Vec<String>,
    pub(crate) flags: u8,
    pub(crate) precision: f32,
}

/// A phrase that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    /// Place of the phrase.
    pub(crate) phrase: u32,
    pub(crate) object: u16,
    pub(crate) origin: Origin,
    pub(crate) generic: bool,
    pub(crate) proper: bool,
    pub(crate) span: Span,
    /// 1 for the phrase as written; less for each liberty taken.
    pub(crate) quality: f32,
    pub(crate) precision: f32,
    /// Content words in the phrase.
    pub(crate) words: usize,
}

/// The words of a phrase that count: no stop words, placeholders or pieces of camel case.
pub(crate) fn content(words: &[Word]) -> Vec<Word> {
    words.iter().filter(|w| !w.is(STOP) && !w.is(PLACEHOLDER) && !w.is(PIECE)).copied().collect()
}

/// The tables of the finder as the index holds them.
pub(crate) struct Tables {
    pub(crate) stems: Vec<StemRecord>,
    pub(crate) stem_texts: Vec<String>,
    pub(crate) phrases: Vec<(Phrase, List, List)>,
    pub(crate) tokens: Vec<U16>,
    pub(crate) anchors: Vec<U32>,
    pub(crate) anchor_lists: Vec<U16>,
}

/// Files phrases under their anchors. A phrase without a content word is left out, and so is one over the
/// number of phrases or stems that the index can hold (65 535 each).
pub(crate) fn tables(phrases: Vec<Phrase>, tokenizer: &mut Tokenizer) -> Tables {
    let mut vocabulary: FxHashMap<String, u32> = FxHashMap::default();
    let mut cut: Vec<(Phrase, Vec<String>, Vec<String>)> = Vec::new();
    let mut seen = FxHashSet::default();
    for phrase in phrases {
        for variant in hyphen_variants(&phrase.text) {
            let stems = stems_of(&variant, tokenizer);
            let near: Vec<String> = phrase.near.iter().flat_map(|n| stems_of(n, tokenizer)).collect();
            let too_long = stems.len() > usize::from(u8::MAX) || near.len() > usize::from(u8::MAX);
            if stems.is_empty()
                || too_long
                || cut.len() >= usize::from(u16::MAX)
                || !seen.insert((phrase.object, stems.clone(), near.clone()))
            {
                continue;
            }
            for stem in &stems {
                *vocabulary.entry(stem.clone()).or_default() += 1;
            }
            for stem in &near {
                vocabulary.entry(stem.clone()).or_default();
            }
            cut.push((phrase.clone(), stems, near));
        }
    }
    let mut texts: Vec<String> = vocabulary.keys().cloned().collect();
    texts.sort_by(|a, b| stem_order(a).cmp(&stem_order(b)));
    texts.truncate(usize::from(u16::MAX));
    let ids: FxHashMap<&str, u16> = texts.iter().enumerate().map(|(i, t)| (t.as_str(), i as u16)).collect();
    let mut stems: Vec<StemRecord> =
        texts.iter().enumerate().map(|(i, t)| StemRecord { hash: fnv1a(&[t.as_bytes()]).into(), id: U16::new(i as u16) }).collect();
    stems.sort_by_key(|s| s.hash.get());
    let mut out =
        Tables { stems, stem_texts: Vec::new(), phrases: Vec::new(), tokens: Vec::new(), anchors: Vec::new(), anchor_lists: Vec::new() };
    let mut filed: Vec<Vec<u16>> = vec![Vec::new(); texts.len()];
    for (phrase, stems, near) in cut {
        let id = out.phrases.len() as u16;
        let put = |list: &[String], tokens: &mut Vec<U16>| {
            let start = tokens.len();
            tokens.extend(list.iter().filter_map(|s| ids.get(s.as_str())).map(|i| U16::new(*i)));
            List { start: U32::new(start as u32), count: U32::new((tokens.len() - start) as u32) }
        };
        let stem_list = put(&stems, &mut out.tokens);
        let near_list = put(&near, &mut out.tokens);
        let anchor = stems.iter().min_by_key(|s| (vocabulary[*s], std::cmp::Reverse(s.len()), s.as_str()));
        if let Some(at) = anchor.and_then(|stem| ids.get(stem.as_str())) {
            filed[usize::from(*at)].push(id);
        }
        out.phrases.push((phrase, stem_list, near_list));
    }
    for list in filed {
        out.anchors.push(U32::new(out.anchor_lists.len() as u32));
        out.anchor_lists.extend(list.into_iter().map(U16::new));
    }
    out.anchors.push(U32::new(out.anchor_lists.len() as u32));
    out.stem_texts = texts;
    out
}

/// Phrases with at least this many content words may miss one.
const MISSING_FROM: usize = 4;

fn stem_order(stem: &str) -> (u8, usize, &str) {
    (stem.bytes().next().unwrap_or(0), stem.len(), stem)
}

/// The text itself and, for each hyphen in it, the words it joins as one.
fn hyphen_variants(text: &str) -> Vec<String> {
    let mut variants = vec![text.to_owned()];
    let joins: Vec<usize> = text
        .char_indices()
        .filter(|(i, c)| *c == '-' && text[..*i].ends_with(char::is_alphabetic) && text[i + 1..].starts_with(char::is_alphabetic))
        .map(|(i, _)| i)
        .collect();
    if let [at] = joins[..] {
        variants.push(format!("{}{}", &text[..at], &text[at + 1..]));
    }
    variants
}

fn stems_of(text: &str, tokenizer: &mut Tokenizer) -> Vec<String> {
    let mut words = Vec::new();
    tokenizer.words(text, Span::new(0, text.len()), &mut words);
    content(&words).iter().map(|w| tokenizer.stem(&w.span().of(text).to_lowercase())).collect()
}

/// The finder over an open index.
pub(crate) struct Phrases<'a, D> {
    index: &'a Index<D>,
    stems: &'a [StemRecord],
    /// The stems, in their order: read out once, for they are compared often.
    texts: Vec<&'a str>,
    /// The beginnings of the longer stems, one bit for each that hashes to its place.
    beginnings: Vec<u64>,
    phrases: &'a [PhraseRecord],
    tokens: &'a [U16],
    anchors: &'a [U32],
    lists: &'a [U16],
}

/// What one thread keeps between segments.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Misspelt words that were looked up: hash of the form to stem id.
    corrected: FxHashMap<u64, Option<u16>>,
    ids: Vec<(Option<u16>, bool)>,
    joined: String,
}

/// Bytes that the stem of a word of [`LONG`] bytes has in common with it, for endings are what stemming changes: `oper` of
/// operating. A stem of three letters (use, of usefulness) is lost; no phrase has one that two words join to.
const BEGINNING: usize = 4;
const LONG: usize = 9;
/// Bits of the table of beginnings.
const BEGINNINGS: usize = 1 << 16;

/// Where a word's beginning stands in the table; None for a shorter word.
fn beginning(word: &[u8]) -> Option<(usize, u64)> {
    let hash = fnv1a(&[word.get(..BEGINNING)?]) as usize % BEGINNINGS;
    Some((hash / 64, 1 << (hash % 64)))
}

impl<'a, D: AsRef<[u8]>> Phrases<'a, D> {
    pub(crate) fn new(index: &'a Index<D>) -> Phrases<'a, D> {
        let texts: Vec<&str> = index.section::<Str>(tag::STEM_TEXTS).iter().map(|s| index.string(*s)).collect();
        let mut beginnings = vec![0; BEGINNINGS / 64];
        for (word, bit) in texts.iter().filter_map(|text| beginning(text.as_bytes())) {
            beginnings[word] |= bit;
        }
        Phrases {
            index,
            stems: index.section(tag::STEMS),
            texts,
            beginnings,
            phrases: index.section(tag::PHRASES),
            tokens: index.section(tag::PHRASE_TOKENS),
            anchors: index.section(tag::ANCHORS),
            lists: index.section(tag::ANCHOR_LISTS),
        }
    }

    /// The phrase as it was written.
    pub(crate) fn text(&self, phrase: u32) -> &'a str {
        self.phrases.get(phrase as usize).map(|p| self.index.string(p.text)).unwrap_or_default()
    }

    /// Every phrase, as it is filed.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a str, &'a PhraseRecord, Origin)> {
        self.phrases.iter().map(|p| (self.index.string(p.text), p, Origin::from_u8(p.origin)))
    }

    fn stem_id(&self, hash: u64) -> Option<u16> {
        let at = self.stems.binary_search_by_key(&hash, |s| s.hash.get()).ok()?;
        Some(self.stems[at].id.get())
    }

    /// Whether the vocabulary may have the stem of a lower-case word. Stemming a word costs more than all else that is done
    /// for it, and two words are seldom one that a phrase has.
    fn may_be_stemmed(&self, word: &str) -> bool {
        word.len() < LONG || beginning(word.as_bytes()).is_none_or(|(word, bit)| self.beginnings[word] & bit != 0)
    }

    /// The stem of the vocabulary one edit away from a long word that is not in it.
    fn corrected(&self, word: &Word, text: &str, tokenizer: &Tokenizer) -> Option<u16> {
        let surface = word.span().of(text);
        if surface.len() < 7 || !surface.bytes().all(|b| b.is_ascii_alphabetic()) {
            return None;
        }
        let stem = tokenizer.stem(&surface.to_ascii_lowercase());
        let first = stem.bytes().next()?;
        let order = |text: &&str| (text.bytes().next().unwrap_or(0), text.len());
        let from = self.texts.partition_point(|t| order(t) < (first, stem.len().saturating_sub(1).max(6)));
        let to = self.texts.partition_point(|t| order(t) <= (first, stem.len() + 1));
        (from..to).find(|i| one_edit(self.texts[*i].as_bytes(), stem.as_bytes())).map(|i| i as u16)
    }

    /// The phrases in one segment: `words` are its words, `text` what their spans point into.
    pub(crate) fn find(&self, text: &str, words: &[Word], tokenizer: &mut Tokenizer, scratch: &mut Scratch) -> Vec<Hit> {
        let words = content(words);
        scratch.ids.clear();
        for word in &words {
            let id = match self.stem_id(word.stem) {
                Some(id) => (Some(id), false),
                None => {
                    if scratch.corrected.len() > 20_000 {
                        scratch.corrected.clear();
                    }
                    let found = scratch.corrected.get(&word.form).copied();
                    let found = found.unwrap_or_else(|| {
                        let found = self.corrected(word, text, tokenizer);
                        scratch.corrected.insert(word.form, found);
                        found
                    });
                    (found, found.is_some())
                }
            };
            scratch.ids.push(id);
        }
        let mut hits = Vec::new();
        for at in 0..words.len() {
            if let Some(id) = scratch.ids[at].0 {
                self.around(at, id, &words, &scratch.ids, text, &mut hits);
            }
            // "spear phishing" for a phrase that says "spearphishing".
            if at + 1 < words.len() && words[at + 1].start - words[at].end == 1 {
                let (first, second) = (words[at].span().of(text), words[at + 1].span().of(text));
                if first.len() + second.len() <= 40 {
                    let joined = &mut scratch.joined;
                    joined.clear();
                    joined.extend([first, second].into_iter().flat_map(str::chars).flat_map(char::to_lowercase));
                    let id = self.may_be_stemmed(joined).then(|| self.stem_id(tokenizer.stem_hash(joined))).flatten();
                    if let Some(id) = id {
                        self.joined(at, id, &words, &scratch.ids, text, &mut hits);
                    }
                }
            }
        }
        keep_best(hits)
    }

    fn filed_under(&self, id: u16) -> &'a [U16] {
        let at = usize::from(id);
        let (Some(from), Some(to)) = (self.anchors.get(at), self.anchors.get(at + 1)) else { return &[] };
        self.lists.get(from.get() as usize..to.get() as usize).unwrap_or_default()
    }

    /// A word pair that is one stem: as if the text had the joined word.
    fn joined(&self, at: usize, id: u16, words: &[Word], ids: &[(Option<u16>, bool)], text: &str, hits: &mut Vec<Hit>) {
        let mut joined_words = words.to_vec();
        joined_words[at].end = words[at + 1].end;
        joined_words.remove(at + 1);
        let mut joined_ids = ids.to_vec();
        joined_ids[at] = (Some(id), false);
        joined_ids.remove(at + 1);
        let from = hits.len();
        self.around(at, id, &joined_words, &joined_ids, text, hits);
        // A proper name is written in its own way; the rest may be joined.
        let mut kept = hits.split_off(from);
        kept.retain(|h| !h.proper);
        hits.append(&mut kept);
    }

    fn around(&self, at: usize, id: u16, words: &[Word], ids: &[(Option<u16>, bool)], text: &str, hits: &mut Vec<Hit>) {
        for phrase in self.filed_under(id) {
            let place = u32::from(phrase.get());
            let Some(record) = self.phrases.get(place as usize) else { continue };
            let stems = part(self.tokens, record.stems());
            let Some(found) = fit(at, stems, ids) else { continue };
            let near = part(self.tokens, record.near());
            if !near.is_empty() && !near.iter().any(|n| ids.iter().any(|(i, _)| *i == Some(n.get()))) {
                continue;
            }
            let span = Span::new(words[found.first].start as usize, words[found.last].end as usize);
            let proper = record.flags & PROPER != 0;
            if proper && !self.is_name(span, text, &words[found.first], record, found.exact) {
                continue;
            }
            hits.push(Hit {
                phrase: place,
                object: record.object.get(),
                origin: Origin::from_u8(record.origin),
                generic: record.flags & GENERIC != 0,
                proper,
                span,
                quality: found.quality,
                precision: record.precision(),
                words: stems.len(),
            });
        }
    }

    /// Whether a span is a proper name as it is written: the same letters and digits, and capitals where a
    /// lower-case word would be an ordinary one.
    fn is_name(&self, span: Span, text: &str, first: &Word, record: &PhraseRecord, exact: bool) -> bool {
        let name = self.index.string(record.text);
        let surface = span.of(text);
        let letters = |s: &str| s.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
        if !exact || letters(surface) != letters(name) {
            return false;
        }
        let capital = name.chars().any(char::is_uppercase);
        let short = name.chars().filter(|c| c.is_alphanumeric()).count() <= 4;
        if record.flags & GENERIC != 0 || short {
            // An ordinary word is a name only as the name is written, and where its context makes it one.
            return surface == name && (record.flags & GENERIC == 0 || named_in_context(text, span));
        }
        !capital || first.is(CAPITAL) || surface == name || !name.contains(' ') && name.len() >= 6
    }
}

/// Words beside an ordinary word that make a program or group of it.
const NAMING: [&str; 30] = [
    "malware",
    "backdoor",
    "trojan",
    "rat",
    "ransomware",
    "tool",
    "utility",
    "command",
    "group",
    "gang",
    "actor",
    "actors",
    "campaign",
    "loader",
    "implant",
    "framework",
    "stealer",
    "botnet",
    "worm",
    "wiper",
    "operators",
    "operator",
    "called",
    "named",
    "dubbed",
    "known",
    "family",
    "exe",
    "affiliates",
    "apt",
];

fn named_in_context(text: &str, span: Span) -> bool {
    let clean = |w: &str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let before: Vec<String> = text[..span.start].split_whitespace().rev().take(2).map(clean).collect();
    let tail = &text[span.end..];
    let after: Vec<String> = tail.split(|c: char| c.is_whitespace() || c == '.').filter(|w| !w.is_empty()).take(1).map(clean).collect();
    before.iter().chain(&after).any(|w| NAMING.contains(&w.as_str()))
}

/// Whether two words are one insertion, deletion, substitution or swap of neighbours apart.
fn one_edit(a: &[u8], b: &[u8]) -> bool {
    let same_start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same_start..], &b[same_start..]);
    match a.len().cmp(&b.len()) {
        std::cmp::Ordering::Less => b.len() == a.len() + 1 && a == &b[1..],
        std::cmp::Ordering::Greater => a.len() == b.len() + 1 && b == &a[1..],
        std::cmp::Ordering::Equal => {
            !a.is_empty() && (a[1..] == b[1..] || (a.len() > 1 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..]))
        }
    }
}

struct Fit {
    first: usize,
    last: usize,
    quality: f32,
    /// In order, nothing between, missing or corrected.
    exact: bool,
}

/// Looks for the stems of a phrase around the word at `at`.
fn fit(at: usize, stems: &[U16], ids: &[(Option<u16>, bool)]) -> Option<Fit> {
    let n = stems.len();
    if n == 1 {
        // A single word is taken as it is: a corrected one could be any word.
        return (!ids[at].1).then_some(Fit { first: at, last: at, quality: 1.0, exact: true });
    }
    let reach = n + 1;
    let from = at.saturating_sub(reach);
    let to = (at + reach + 1).min(ids.len());
    let mut places: [usize; 16] = [usize::MAX; 16];
    if n > places.len() {
        return None;
    }
    let (mut missing, may_miss) = (0, usize::from(n >= MISSING_FROM));
    for (i, stem) in stems.iter().enumerate() {
        // The nearest place that no earlier stem of the phrase has taken.
        let place = (from..to).filter(|p| ids[*p].0 == Some(stem.get()) && !places[..i].contains(p)).min_by_key(|p| p.abs_diff(at));
        match place {
            Some(place) => places[i] = place,
            None if missing == may_miss => return None,
            None => missing += 1,
        }
    }
    let found: Vec<usize> = places[..n].iter().copied().filter(|p| *p != usize::MAX).collect();
    let (first, last) = (*found.iter().min()?, *found.iter().max()?);
    let between = (last - first + 1).checked_sub(found.len())?;
    if between > 1 + usize::from(n >= MISSING_FROM) {
        return None;
    }
    let swaps = found.windows(2).filter(|w| w[0] > w[1]).count();
    if swaps > 1 {
        return None;
    }
    let corrected = found.iter().filter(|p| ids[**p].1).count();
    if corrected > 1 {
        return None;
    }
    let quality = 1.0 - 0.2 * missing as f32 - 0.08 * between as f32 - 0.08 * swaps as f32 - 0.1 * corrected as f32;
    Some(Fit { first, last, quality, exact: missing + between + swaps + corrected == 0 })
}

/// Of hits inside one another the longer stays, and of several for one object at one place the best.
fn keep_best(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by(|a, b| {
        (a.span.start, std::cmp::Reverse(a.span.end), a.object)
            .cmp(&(b.span.start, std::cmp::Reverse(b.span.end), b.object))
            .then(b.quality.total_cmp(&a.quality))
            .then(a.origin.cmp(&b.origin))
            .then(a.phrase.cmp(&b.phrase))
    });
    hits.dedup_by(|b, a| a.object == b.object && a.span == b.span);
    let covered: Vec<bool> = hits
        .iter()
        .map(|h| {
            hits.iter().any(|o| {
                o.span != h.span && o.span.contains(h.span) && o.words > h.words && o.quality >= h.quality - 0.15 && (o.proper || !h.proper)
            })
        })
        .collect();
    let mut kept = covered.iter();
    hits.retain(|_| !kept.next().copied().unwrap_or(false));
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_word_begins_as_its_stem_does() {
        let tokenizer = Tokenizer::default();
        for word in ["operation", "operating", "elevation", "emulation", "isolation", "usability", "escalations", "spearphishing"] {
            assert!(word.len() >= LONG);
            assert_eq!(beginning(word.as_bytes()), beginning(tokenizer.stem(word).as_bytes()), "{word}");
        }
        assert_eq!(beginning(b"use"), None);
    }

    #[test]
    fn two_words_are_found_where_the_phrase_has_one() {
        let index = Index::embedded();
        let (phrases, mut tokenizer) = (Phrases::new(&index), Tokenizer::default());
        let mut found = |text: &str| {
            let mut words = Vec::new();
            tokenizer.words(text, Span::new(0, text.len()), &mut words);
            let hits = phrases.find(text, &words, &mut tokenizer, &mut Scratch::default());
            hits.iter().map(|hit| (phrases.text(hit.phrase).to_owned(), hit.span.of(text).to_owned())).collect::<Vec<_>>()
        };
        let joined = found("They sent a key logger to the bank.");
        assert!(joined.iter().any(|(phrase, text)| phrase.eq_ignore_ascii_case("keylogger") && text == "key logger"), "{joined:?}");
    }
}
