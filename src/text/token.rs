//! A segment into words: lower-cased, stemmed and hashed once, for every matcher alike.
//!
//! A word's stem is kept as a 64-bit hash; what it looked like is read back from the text by its span. Things
//! that are no words (URLs, addresses, hashes, CVE numbers, ...) become placeholders, so that a model learns
//! "a URL stands here" and not the URL.

use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Span;
use crate::index::format::fnv1a;

/// A word of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Hash of the stem, or of the placeholder.
    pub(crate) stem: u64,
    /// Hash of the lower-case form.
    pub(crate) form: u64,
    pub(crate) flags: u8,
}

/// A stop word.
pub(crate) const STOP: u8 = 1;
/// Begins with a capital.
pub(crate) const CAPITAL: u8 = 2;
/// A placeholder: no word of the language.
pub(crate) const PLACEHOLDER: u8 = 4;
/// A piece of the camel-case word before it; no matcher but the model reads these.
pub(crate) const PIECE: u8 = 8;
/// All capitals, two letters or more.
pub(crate) const UPPER: u8 = 16;
/// A number.
pub(crate) const NUMBER: u8 = 32;
/// Part of a file name, path or registry key, whose placeholder stands before it.
pub(crate) const PART: u8 = 64;

impl Word {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn span(&self) -> Span {
        Span::new(self.start as usize, self.end as usize)
    }
}

static STOP_WORDS: LazyLock<FxHashSet<u64>> =
    LazyLock::new(|| include_str!("../../data/stop-words.txt").lines().map(|w| fnv1a(&[w.as_bytes()])).collect());

/// The hash under which a placeholder is known.
pub(crate) fn placeholder(name: &str) -> u64 {
    fnv1a(&[b"<", name.as_bytes(), b">"])
}

/// Cuts and stems. Keeps the stems that it has seen, up to a bound; one for each thread.
pub(crate) struct Tokenizer {
    stemmer: Stemmer,
    stems: FxHashMap<u64, u64>,
    lower: String,
}

/// Stems kept before the table starts anew: some 2 MB.
const MAX_STEMS: usize = 60_000;

impl Default for Tokenizer {
    fn default() -> Tokenizer {
        Tokenizer { stemmer: Stemmer::create(Algorithm::English), stems: FxHashMap::default(), lower: String::new() }
    }
}

impl Tokenizer {
    /// The Snowball (Porter 2) stem of one lower-case word.
    pub(crate) fn stem(&self, lower: &str) -> String {
        self.stemmer.stem(lower).into_owned()
    }

    /// Hash of the stem of one lower-case word.
    pub(crate) fn stem_hash(&mut self, lower: &str) -> u64 {
        let form = fnv1a(&[lower.as_bytes()]);
        if let Some(stem) = self.stems.get(&form) {
            return *stem;
        }
        let stem = fnv1a(&[self.stemmer.stem(lower).as_bytes()]);
        if self.stems.len() >= MAX_STEMS {
            self.stems.clear();
        }
        self.stems.insert(form, stem);
        stem
    }

    /// The words of one span of a text, in order, appended to `out`.
    pub(crate) fn words(&mut self, text: &str, span: Span, out: &mut Vec<Word>) {
        let piece = span.of(text);
        let mut at = 0;
        for chunk in piece.split(char::is_whitespace) {
            if !chunk.is_empty() {
                self.chunk(chunk, span.start + at, out);
            }
            // Every white-space character that splits is followed by the next chunk.
            at += chunk.len();
            at += piece[at..].chars().next().map_or(0, char::len_utf8);
        }
    }

    /// One run of text without white space.
    fn chunk(&mut self, chunk: &str, start: usize, out: &mut Vec<Word>) {
        let inner = chunk.trim_matches(|c: char| {
            matches!(c, '(' | ')' | '"' | '\'' | ',' | ';' | ':' | '.' | '“' | '”' | '‘' | '’' | '<' | '>' | '`' | '*' | '!' | '?')
        });
        if inner.is_empty() {
            return;
        }
        let offset = start + (inner.as_ptr() as usize - chunk.as_ptr() as usize);
        if let Some(name) = special(inner) {
            let hash = placeholder(name);
            out.push(Word { start: offset as u32, end: (offset + inner.len()) as u32, stem: hash, form: hash, flags: PLACEHOLDER });
            // The parts of a file name or registry path say more than that it is one.
            if matches!(name, "file" | "registry" | "path") {
                self.parts(inner, offset, PART, out);
            }
            return;
        }
        self.parts(chunk, start, 0, out);
    }

    fn parts(&mut self, chunk: &str, start: usize, flags: u8, out: &mut Vec<Word>) {
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            let skipped = rest.find(char::is_alphanumeric).unwrap_or(rest.len());
            at += skipped;
            let rest = &chunk[at..];
            if rest.is_empty() {
                break;
            }
            let mut length = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            // An apostrophe inside a word: the possessive s is left out, the rest is one word (don't).
            if let Some(tail) = rest[length..].strip_prefix(['\'', '’']) {
                let letters = tail.find(|c: char| !c.is_alphanumeric()).unwrap_or(tail.len());
                let mark = rest.len() - length - tail.len();
                if letters > 0 && &tail[..letters] != "s" {
                    length += mark + letters;
                    self.word(&rest[..length], start + at, flags, out);
                } else {
                    self.word(&rest[..length], start + at, flags, out);
                    length += mark + letters;
                }
            } else {
                self.word(&rest[..length], start + at, flags, out);
            }
            at += length;
        }
    }

    fn word(&mut self, word: &str, start: usize, extra: u8, out: &mut Vec<Word>) {
        let mut lower = std::mem::take(&mut self.lower);
        lower.clear();
        if word.is_ascii() {
            lower.push_str(word);
            lower.make_ascii_lowercase();
        } else {
            lower.extend(word.chars().filter(|c| !matches!(c, '’' | '\u{ad}')).flat_map(char::to_lowercase));
        }
        let mut flags = extra;
        let form = fnv1a(&[lower.as_bytes()]);
        if STOP_WORDS.contains(&form) {
            flags |= STOP;
        }
        let first = word.chars().next().unwrap_or(' ');
        if first.is_uppercase() {
            flags |= CAPITAL;
            if word.len() > 1 && word.chars().all(|c| c.is_uppercase() || c.is_numeric()) {
                flags |= UPPER;
            }
        }
        let stem = if word.bytes().all(|b| b.is_ascii_digit()) {
            flags |= NUMBER;
            // Port numbers, event IDs and the like are words; longer numbers are just numbers.
            if word.len() <= 5 { form } else { placeholder("number") }
        } else {
            self.stem_hash(&lower)
        };
        self.lower = lower;
        out.push(Word { start: start as u32, end: (start + word.len()) as u32, stem, form, flags });
        if extra == 0 && word.is_ascii() {
            self.camel(word, start, out);
        }
    }

    /// The pieces of a camel-case name: CreateRemoteThread is also create, remote and thread.
    fn camel(&mut self, word: &str, start: usize, out: &mut Vec<Word>) {
        let bytes = word.as_bytes();
        let inner_capital = (1..bytes.len()).any(|i| bytes[i].is_ascii_uppercase() && bytes[i - 1].is_ascii_lowercase());
        if bytes.len() < 6 || !inner_capital {
            return;
        }
        let mut from = 0;
        for i in 1..=bytes.len() {
            let boundary = i == bytes.len()
                || (bytes[i].is_ascii_uppercase() && bytes[i - 1].is_ascii_lowercase())
                || (i + 1 < bytes.len()
                    && bytes[i].is_ascii_uppercase()
                    && bytes[i - 1].is_ascii_uppercase()
                    && bytes[i + 1].is_ascii_lowercase());
            if boundary {
                if i - from >= 2 {
                    self.word(&word[from..i], start + from, PIECE, out);
                }
                from = i;
            }
        }
    }
}

/// Extensions that make a dotted word a file name.
const EXTENSIONS: [&str; 40] = [
    "exe", "dll", "sys", "ps1", "psm1", "vbs", "vbe", "js", "jse", "wsf", "hta", "bat", "cmd", "lnk", "doc", "docx", "docm", "xls", "xlsx",
    "xlsm", "xlsb", "ppt", "pptx", "rtf", "pdf", "zip", "rar", "iso", "img", "msi", "jar", "py", "sh", "php", "aspx", "jsp", "txt", "tmp",
    "dat", "scr",
];

/// What a run of text without white space is, where it is no word.
fn special(chunk: &str) -> Option<&'static str> {
    let bytes = chunk.as_bytes();
    let lower_starts = |p: &str| bytes.len() >= p.len() && bytes[..p.len()].eq_ignore_ascii_case(p.as_bytes());
    if ["http", "hxxp", "ftp:", "www."].iter().any(|p| lower_starts(p))
        && (chunk.contains("://") || chunk.contains("www.") || chunk.contains("[:]//"))
    {
        return Some("url");
    }
    if ["HKEY_", "HKLM", "HKCU", "HKCR"].iter().any(|p| lower_starts(p)) {
        return Some("registry");
    }
    if lower_starts("CVE-") && bytes.len() >= 12 {
        return Some("cve");
    }
    if matches!(bytes.len(), 32 | 40 | 64) && bytes.iter().all(u8::is_ascii_hexdigit) {
        return Some("hash");
    }
    if chunk.contains('@') && chunk.contains('.') && bytes.first().is_some_and(u8::is_ascii_alphanumeric) {
        return Some("email");
    }
    if bytes[0].is_ascii_digit() && is_ip(chunk) {
        return Some("ip");
    }
    let brackets = bytes.iter().any(|b| matches!(b, b'[' | b'('));
    if brackets && (chunk.contains("[.]") || chunk.contains("(.)") || chunk.contains("[dot]")) {
        return Some("domain");
    }
    if let Some(dot) = chunk.rfind('.') {
        let extension = &chunk[dot + 1..];
        if dot > 0 && EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(extension)) {
            return Some("file");
        }
    }
    if chunk.contains(":\\")
        || chunk.starts_with("\\\\")
        || (chunk.starts_with('%') && chunk[1..].contains('%'))
        || (chunk.starts_with('/') && chunk.matches('/').count() >= 2)
    {
        return Some("path");
    }
    None
}

fn is_ip(chunk: &str) -> bool {
    let host = chunk.split([':', '/']).next().unwrap_or(chunk);
    let mut parts = 0;
    for part in host.split('.') {
        let digits = part.trim_matches(|c| matches!(c, '[' | ']' | '(' | ')'));
        if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        parts += 1;
    }
    parts == 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<Word> {
        let mut out = Vec::new();
        Tokenizer::default().words(text, Span::new(0, text.len()), &mut out);
        out
    }

    #[test]
    fn words_are_stemmed_and_things_are_placeholders() {
        let stem = |w: &str| fnv1a(&[w.as_bytes()]);
        let cases: [(&str, Vec<u64>); 7] = [
            ("Dumping credentials", vec![stem("dump"), stem("credenti")]),
            ("spear-phishing", vec![stem("spear"), stem("phish")]),
            ("hxxp://evil[.]example/a", vec![placeholder("url")]),
            ("10.0.0[.]1, CVE-2021-44228", vec![placeholder("ip"), placeholder("cve")]),
            ("the victim's", vec![stem("the"), stem("victim")]),
            ("evil[.]example", vec![placeholder("domain")]),
            ("someone@example.com", vec![placeholder("email")]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text).iter().map(|w| w.stem).collect::<Vec<_>>(), expected, "{text}");
        }
        let camel = words("CreateRemoteThread");
        assert_eq!(camel.iter().filter(|w| w.is(PIECE)).count(), 3);
    }

    #[test]
    fn stems_are_snowballs() {
        let tokenizer = Tokenizer::default();
        for (word, stem) in [("running", "run"), ("exfiltrated", "exfiltr"), ("beacons", "beacon"), ("persistence", "persist")] {
            assert_eq!(tokenizer.stem(word), stem);
        }
    }

    proptest! {
        #[test]
        fn spans_are_on_character_boundaries(text in any::<String>()) {
            for word in words(&text) {
                prop_assert!(text.get(word.span().range()).is_some());
            }
        }

        #[test]
        fn words_come_in_order(text in "[a-zA-Z'.\\[\\]@:/ \u{e9}-]{0,80}") {
            let found = words(&text);
            prop_assert!(found.iter().filter(|w| !w.is(PIECE)).is_sorted_by_key(|w| w.start));
        }
    }
}
