//! Command lines, registry keys, API names and paths, found in one automaton pass without backtracking.
//!
//! A rule's pattern is a sequence of literals with gaps of at most [`MAX_GAP`] bytes between them on one line.
//! The beginnings of all sequences stand in one Aho-Corasick automaton, which is built with the index; where one
//! matches, the rest of the sequence is looked for behind it, literal by literal, each at its first place.
//!
//! Pattern language: text is matched without regard to ASCII case; one blank stands for one or more; ` * ` is a
//! gap; `{a,b,}` are alternatives. Where a literal begins or ends with a letter, digit or underscore at an end
//! of the pattern, the neighbouring character must not be one.

use daachorse::DoubleArrayAhoCorasick;

use crate::index::Index;
use crate::index::format::{RuleRecord, SequenceRecord, Str, tag};
use crate::index::part;
use crate::text::Span;

/// Bytes that a gap may take.
pub(crate) const MAX_GAP: usize = 80;
/// Alternatives may make at most this many sequences of one pattern.
pub(crate) const MAX_EXPANSIONS: usize = 32;

/// A pattern as literals, one list for each combination of its alternatives.
///
/// # Errors
/// Says what is wrong: an open brace, too many alternatives, an empty literal.
pub(crate) fn parse(pattern: &str) -> Result<Vec<Vec<String>>, String> {
    let mut expanded = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map(|c| open + c).ok_or("`{` without `}`")?;
        let choices: Vec<&str> = rest[open + 1..close].split(',').collect();
        expanded = expanded.iter().flat_map(|head| choices.iter().map(move |choice| format!("{head}{}{choice}", &rest[..open]))).collect();
        if expanded.len() > MAX_EXPANSIONS {
            return Err(format!("more than {MAX_EXPANSIONS} combinations of alternatives"));
        }
        rest = &rest[close + 1..];
    }
    let mut sequences = Vec::new();
    for head in expanded {
        let text = format!("{head}{rest}").to_ascii_lowercase();
        let literals: Vec<String> = text.split(" * ").map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        if literals.iter().any(|l| l.len() < 2) {
            return Err("a literal of fewer than two characters".into());
        }
        if !sequences.contains(&literals) {
            sequences.push(literals);
        }
    }
    Ok(sequences)
}

/// The text as the automaton reads it: lower case, runs of blanks as one, and for each byte where it came from.
struct Folded {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

fn fold(text: &str, span: Span) -> Folded {
    let source = span.of(text).as_bytes();
    let mut folded = Folded { bytes: Vec::with_capacity(source.len()), offsets: Vec::with_capacity(source.len()) };
    for (i, b) in source.iter().enumerate() {
        let byte = if matches!(b, b' ' | b'\t' | b'\r') { b' ' } else { b.to_ascii_lowercase() };
        if byte == b' ' && folded.bytes.last() == Some(&b' ') {
            continue;
        }
        folded.bytes.push(byte);
        folded.offsets.push((span.start + i) as u32);
    }
    folded
}

/// Bytes of a sequence's first literal that the automaton knows: enough to make chance matches rare.
const PREFIX: usize = 7;

/// What the automaton looks for of a sequence that begins with this literal.
pub(crate) fn prefix(literal: &str) -> &[u8] {
    &literal.as_bytes()[..literal.len().min(PREFIX)]
}

/// The automaton over prefixes, as bytes for the index.
pub(crate) fn automaton(prefixes: &[Vec<u8>]) -> Vec<u8> {
    match DoubleArrayAhoCorasick::<u32>::new(prefixes) {
        Ok(automaton) if !prefixes.is_empty() => automaton.serialize(),
        _ => Vec::new(),
    }
}

/// A rule that fired.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    pub(crate) rule: u16,
    pub(crate) object: u16,
    pub(crate) span: Span,
    pub(crate) precision: f32,
}

/// The finder over an open index.
pub(crate) struct Artifacts<'a, D> {
    index: &'a Index<D>,
    automaton: Option<DoubleArrayAhoCorasick<u32>>,
    rules: &'a [RuleRecord],
    sequences: &'a [SequenceRecord],
    literals: &'a [Str],
    /// Sequences that begin with each prefix.
    beginning: Vec<Vec<u16>>,
}

impl<'a, D: AsRef<[u8]>> Artifacts<'a, D> {
    pub(crate) fn new(index: &'a Index<D>) -> Artifacts<'a, D> {
        let sequences: &[SequenceRecord] = index.section(tag::SEQUENCES);
        let prefixes = sequences.iter().map(|s| usize::from(s.prefix.get()) + 1).max().unwrap_or(0);
        let mut beginning = vec![Vec::new(); prefixes];
        for (i, sequence) in sequences.iter().enumerate() {
            beginning[usize::from(sequence.prefix.get())].push(i as u16);
        }
        let bytes = index.raw(tag::AUTOMATON);
        let automaton = (!bytes.is_empty()).then(|| DoubleArrayAhoCorasick::deserialize(bytes).ok()).flatten().map(|(a, _)| a);
        Artifacts { index, automaton, rules: index.section(tag::RULES), sequences, literals: index.section(tag::LITERALS), beginning }
    }

    /// Pattern and reason of a rule.
    pub(crate) fn rule(&self, rule: u16) -> (&'a str, &'a str) {
        let record = self.rules.get(usize::from(rule));
        record.map(|r| (self.index.string(r.pattern), self.index.string(r.reason))).unwrap_or_default()
    }

    /// The rules that fire in one span of a text, by place, each place and object once.
    pub(crate) fn find(&self, text: &str, span: Span) -> Vec<Hit> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let folded = fold(text, span);
        let mut hits = Vec::new();
        for found in automaton.find_overlapping_iter(&folded.bytes) {
            let sequences = self.beginning.get(found.value() as usize).map(Vec::as_slice).unwrap_or_default();
            for sequence in sequences.iter().filter_map(|s| self.sequences.get(usize::from(*s))) {
                let start = found.start();
                let Some(end) = self.follow(&folded.bytes, start, sequence).filter(|end| bounded(&folded.bytes, start, *end)) else {
                    continue;
                };
                let rule = sequence.rule.get();
                let (Some(record), Some(first), Some(last)) =
                    (self.rules.get(usize::from(rule)), folded.offsets.get(start), folded.offsets.get(end - 1))
                else {
                    continue;
                };
                let span = Span::new(*first as usize, *last as usize + 1);
                if text.get(span.range()).is_some() {
                    hits.push(Hit { rule, object: record.object.get(), span, precision: record.precision.get() });
                }
            }
        }
        hits.sort_by_key(|h| (h.span.start, std::cmp::Reverse(h.span.end), h.rule));
        let all = hits.clone();
        hits.retain(|h| !all.iter().any(|o| o.span != h.span && o.span.contains(h.span) && o.object == h.object));
        hits.dedup_by_key(|h| (h.span, h.object));
        hits
    }

    /// Where a sequence that begins at `start` ends: each literal after the one before, within a gap and on the same
    /// line.
    fn follow(&self, bytes: &[u8], start: usize, sequence: &SequenceRecord) -> Option<usize> {
        let mut end = start;
        for (i, literal) in part(self.literals, sequence.literals).iter().enumerate() {
            let literal = self.index.string(*literal).as_bytes();
            let most = if i == 0 { 0 } else { MAX_GAP };
            let reach = bytes.get(end..(end + most + literal.len()).min(bytes.len()))?;
            let line = reach.iter().position(|b| *b == b'\n').map_or(reach, |at| &reach[..at]);
            let at = line.windows(literal.len().max(1)).position(|w| w == literal)?;
            end += at + literal.len();
        }
        (end > start).then_some(end)
    }
}

/// Whether a match stands by itself at both ends.
fn bounded(bytes: &[u8], start: usize, end: usize) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let left = start == 0 || !word(bytes[start]) || !word(bytes[start - 1]);
    let right = end >= bytes.len() || !word(bytes[end - 1]) || !word(bytes[end]);
    left && right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_parsed_or_refused() {
        let cases: [(&str, Result<usize, &str>); 5] = [
            ("vssadmin{.exe,} delete shadows", Ok(2)),
            ("reg add * \\run", Ok(1)),
            ("a{b", Err("without")),
            ("x * y", Err("fewer than two")),
            ("{aa,bb,cc,dd}{aa,bb,cc,dd}{aa,bb,cc,dd}", Err("combinations")),
        ];
        for (pattern, expected) in cases {
            match (parse(pattern), expected) {
                (Ok(found), Ok(count)) => assert_eq!(found.len(), count, "{pattern}"),
                (Err(e), Err(part)) => assert!(e.contains(part), "{pattern}: {e}"),
                (found, _) => panic!("{pattern}: {found:?}"),
            }
        }
    }
}
