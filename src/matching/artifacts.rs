//! Command lines, registry keys, API names and paths, found in one automaton pass without backtracking.
//!
//! A rule's pattern is a sequence of literals with gaps of at most [`MAX_GAP`] bytes between them on one line.
//! All literals of all rules stand in one Aho-Corasick automaton, which is built with the index; a second,
//! linear step joins its matches into sequences.
//!
//! Pattern language: text is matched without regard to ASCII case; one blank stands for one or more; ` * ` is a
//! gap; `{a,b,}` are alternatives. Where a literal begins or ends with a letter, digit or underscore at an end
//! of the pattern, the neighbouring character must not be one.

use daachorse::DoubleArrayAhoCorasick;
use zerocopy::byteorder::little_endian::U16;

use crate::index::Index;
use crate::index::format::{RuleRecord, SequenceRecord, tag};
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

/// The automaton over literals, as bytes for the index.
pub(crate) fn automaton(literals: &[String]) -> Vec<u8> {
    match DoubleArrayAhoCorasick::<u32>::new(literals) {
        Ok(automaton) if !literals.is_empty() => automaton.serialize(),
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
    literals: &'a [U16],
    lengths: &'a [U16],
    /// Sequences that begin with each literal.
    beginning: Vec<Vec<u16>>,
}

impl<'a, D: AsRef<[u8]>> Artifacts<'a, D> {
    pub(crate) fn new(index: &'a Index<D>) -> Artifacts<'a, D> {
        let literals: &[U16] = index.section(tag::LITERALS);
        let lengths: &[U16] = index.section(tag::LITERAL_ENDS);
        let sequences: &[SequenceRecord] = index.section(tag::SEQUENCES);
        let mut beginning = vec![Vec::new(); lengths.len()];
        for (i, sequence) in sequences.iter().enumerate() {
            if let Some(list) = part(literals, sequence.literals).first().and_then(|l| beginning.get_mut(usize::from(l.get()))) {
                list.push(i as u16);
            }
        }
        let bytes = index.raw(tag::AUTOMATON);
        let automaton = (!bytes.is_empty()).then(|| DoubleArrayAhoCorasick::deserialize(bytes).ok()).flatten().map(|(a, _)| a);
        Artifacts { index, automaton, rules: index.section(tag::RULES), sequences, literals, lengths, beginning }
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
        let mut matches: Vec<(usize, usize, u16)> = Vec::new();
        for m in automaton.find_overlapping_iter(&folded.bytes) {
            let literal = m.value() as u16;
            let length = self.lengths.get(usize::from(literal)).map_or(0, |l| usize::from(l.get()));
            if let Some(start) = m.end().checked_sub(length) {
                matches.push((start, m.end(), literal));
            }
        }
        matches.sort_unstable();
        let mut hits = Vec::new();
        for (i, (start, end, literal)) in matches.iter().enumerate() {
            for sequence in self.beginning.get(usize::from(*literal)).map(Vec::as_slice).unwrap_or_default() {
                let sequence = &self.sequences[usize::from(*sequence)];
                let rest = part(self.literals, sequence.literals).get(1..).unwrap_or_default();
                if let Some(last) = follow(&folded.bytes, &matches[i..], *end, rest)
                    && bounded(&folded.bytes, *start, last)
                {
                    let rule = sequence.rule.get();
                    let (Some(record), Some(first), Some(final_)) =
                        (self.rules.get(usize::from(rule)), folded.offsets.get(*start), folded.offsets.get(last - 1))
                    else {
                        continue;
                    };
                    let span = Span::new(*first as usize, *final_ as usize + 1);
                    if text.get(span.range()).is_some() {
                        hits.push(Hit { rule, object: record.object.get(), span, precision: record.precision.get() });
                    }
                }
            }
        }
        hits.sort_by_key(|h| (h.span.start, std::cmp::Reverse(h.span.end), h.rule));
        let all = hits.clone();
        hits.retain(|h| !all.iter().any(|o| o.span != h.span && o.span.contains(h.span) && o.object == h.object));
        hits.dedup_by_key(|h| (h.span, h.object));
        hits
    }
}

/// Where the remaining literals end, each after the one before within a gap and on the same line.
fn follow(bytes: &[u8], matches: &[(usize, usize, u16)], mut end: usize, rest: &[U16]) -> Option<usize> {
    for wanted in rest {
        let next = matches.iter().find(|(s, _, l)| *l == wanted.get() && *s >= end && *s - end <= MAX_GAP)?;
        if bytes[end..next.0].contains(&b'\n') {
            return None;
        }
        end = next.1;
    }
    Some(end)
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
