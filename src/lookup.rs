//! One box over everything: an ID, a name, an alias, a former name or a phrase, misspelt or out of order.
//!
//! Every name is folded when the index is built ([`fold`]). A query is folded likewise and compared with all of
//! them: whole, by optimal string alignment distance (Levenshtein with transpositions of neighbours), and word
//! by word in any order. The letters that occur in a name are kept as bits, so most names are put aside without
//! a comparison; the others are compared a column of the distance table at a time, in one machine word.
//! docs/lookup.md tells how scores come about.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::index::format::{NameRecord, tag};
use crate::index::{Index, ObjectRef};
use crate::kb::State;
use crate::kb::id::AttackId;

/// Names scoring less are not near enough to be shown.
pub const MIN_SCORE: f32 = 0.60;
/// At most this many answers are given.
pub const MAX_ANSWERS: usize = 20;
/// Queries are cut here: no name is nearly as long. In characters.
const MAX_QUERY: usize = 200;

/// What kind of name matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum NameKind {
    /// The object's name.
    Name = 0,
    /// Another name in use.
    Alias = 1,
    /// A name of an earlier release.
    Former = 2,
    /// A phrase of ttpmap's lexicon.
    Phrase = 3,
    /// The ID itself.
    Id = 4,
}

impl NameKind {
    fn from_u8(value: u8) -> NameKind {
        match value {
            0 => NameKind::Name,
            1 => NameKind::Alias,
            2 => NameKind::Former,
            4 => NameKind::Id,
            _ => NameKind::Phrase,
        }
    }

    /// What a match of this kind is worth beside one of the name itself.
    fn weight(self) -> f32 {
        match self {
            NameKind::Name | NameKind::Id => 1.0,
            NameKind::Alias => 0.995,
            NameKind::Former => 0.98,
            NameKind::Phrase => 0.93,
        }
    }
}

/// An answer to a look-up.
#[derive(Debug)]
pub struct Answer<'a, D> {
    /// The object in force.
    pub object: ObjectRef<'a, D>,
    /// The name that is near the query, folded; for an ID the ID as asked for.
    pub matched: String,
    /// What kind of name that is.
    pub kind: NameKind,
    /// 0..1; 1 for the very name.
    pub score: f32,
    /// The revoked ID through which the answer was reached.
    pub redirected_from: Option<AttackId>,
}

impl<D> Clone for Answer<'_, D> {
    fn clone(&self) -> Self {
        Answer { matched: self.matched.clone(), ..*self }
    }
}

/// Lower case, without accents, everything but letters and digits as one blank.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.ends_with(' ') && !out.is_empty() {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// One bit for each letter a-z and digit, one for all else.
pub(crate) fn letters(folded: &str) -> u64 {
    folded.chars().filter(|c| *c != ' ').fold(0, |bits, c| {
        bits | match c {
            'a'..='z' => 1 << (c as u32 - 'a' as u32),
            '0'..='9' => 1 << (26 + c as u32 - '0' as u32),
            _ => 1 << 36,
        }
    })
}

/// Edits that a query of so many characters may be away from a name.
fn edits(length: usize) -> usize {
    match length {
        0..=3 => 0,
        4..=6 => 1,
        7..=14 => 2,
        _ => 3,
    }
}

/// `T1003.1` as people type it for `T1003.001`.
fn short_subtechnique(query: &str) -> Option<AttackId> {
    let (technique, part) = query.split_once(['.', '/'])?;
    let part = part.parse::<u16>().ok().filter(|_| part.len() < 3 && part.bytes().all(|b| b.is_ascii_digit()))?;
    format!("{technique}.{part:03}").parse().ok()
}

/// Answers a query, best first; ties by ID. Empty where nothing is near.
///
/// Cost: about a millisecond for a query that is no ID.
pub fn lookup<'a, D: AsRef<[u8]>>(index: &'a Index<D>, query: &str) -> Vec<Answer<'a, D>> {
    let query: String = query.trim().chars().take(MAX_QUERY).collect();
    let id = query.parse::<AttackId>().ok().or_else(|| short_subtechnique(&query));
    if let Some(answer) = id.and_then(|id| by_id(index, id)) {
        return vec![answer];
    }
    let folded = fold(&query);
    if folded.is_empty() {
        return Vec::new();
    }
    let names: &[NameRecord] = index.section(tag::NAMES);
    let bits = letters(&folded);
    let whole = Pattern::new(&folded);
    let mut words: Vec<Pattern<'_>> = folded.split(' ').map(Pattern::new).collect();
    // Long words first: they tell soonest that a name can't be meant.
    words.sort_by_key(|w| std::cmp::Reverse(w.length));
    let mut best: Vec<Option<(f32, usize)>> = vec![None; index.records().len()];
    for (place, name) in names.iter().enumerate() {
        let kind = NameKind::from_u8(name.kind);
        let weight = kind.weight();
        let object = usize::from(name.object.get());
        let Some(slot) = best.get_mut(object) else { continue };
        let text = index.string(name.folded);
        // A phrase answers only as a whole or with all its words; half of it means something else.
        let score = whole_score(&whole, bits, text, name).max(words_score(&words, bits, text, name.letters.get(), kind)) * weight;
        if score >= MIN_SCORE && slot.is_none_or(|(s, _)| score > s) {
            *slot = Some((score, place));
        }
    }
    let mut answers: Vec<Answer<'a, D>> = Vec::new();
    for (score, place) in best.into_iter().flatten() {
        let name = &names[place];
        if let Some(object) = index.at(name.object.get())
            && let Some(answer) = in_force(index, object, score)
        {
            let (object, score, redirected_from) = answer;
            let kind = NameKind::from_u8(name.kind);
            let matched = index.string(name.folded).to_owned();
            answers.push(Answer { object, matched, kind, score, redirected_from });
        }
    }
    let order = |a: &Answer<'a, D>| (a.redirected_from.is_some(), a.kind, a.object.id());
    answers.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| order(a).cmp(&order(b))));
    let mut seen = Vec::new();
    answers.retain(|a| {
        let new = !seen.contains(&a.object.id());
        seen.push(a.object.id());
        new
    });
    // Some groups bear names that read as IDs (TA2541); another ID than that is no misspelling of it.
    if id.is_some() {
        answers.retain(|a| a.matched == folded);
    }
    // Far behind the best there is nothing that was meant.
    let top = answers.first().map_or(0.0, |a| a.score);
    answers.retain(|a| a.score >= top - 0.3);
    answers.truncate(MAX_ANSWERS);
    answers
}

/// Whether the first answer is the one that was meant: the very name of one object, or far ahead of the second.
pub fn is_clear<D: AsRef<[u8]>>(answers: &[Answer<'_, D>]) -> bool {
    match answers {
        [] => false,
        [_] => true,
        [first, second, ..] => {
            (first.score >= 0.9 && first.score - second.score >= 0.005 && second.score < 0.97 && first.score > 0.97)
                || first.score - second.score >= 0.06
        }
    }
}

fn by_id<D: AsRef<[u8]>>(index: &Index<D>, id: AttackId) -> Option<Answer<'_, D>> {
    let asked = index.get(id)?;
    let (object, score, redirected_from) = in_force(index, asked, 1.0)?;
    Some(Answer { object, matched: id.to_string(), kind: NameKind::Id, score, redirected_from })
}

/// The object that answers for one that matched: its successor where it was revoked. An object without a
/// successor answers for itself.
fn in_force<'a, D: AsRef<[u8]>>(
    index: &'a Index<D>,
    object: ObjectRef<'a, D>,
    score: f32,
) -> Option<(ObjectRef<'a, D>, f32, Option<AttackId>)> {
    match object.state() {
        State::Active => Some((object, score, None)),
        State::Deprecated => Some((object, score * 0.97, None)),
        State::Revoked => match object.successor().and_then(|id| index.get(id)) {
            Some(successor) => Some((successor, score * 0.985, Some(object.id()))),
            None => Some((object, score * 0.95, None)),
        },
    }
}

/// A text that is compared with many others.
struct Pattern<'q> {
    text: &'q str,
    /// In characters.
    length: usize,
    /// For each ASCII character the places where it stands; None for texts that are not ASCII, or too long for
    /// a machine word.
    places: Option<Box<[u64; 128]>>,
}

impl<'q> Pattern<'q> {
    fn new(text: &'q str) -> Pattern<'q> {
        let mut places = (text.is_ascii() && (1..=64).contains(&text.len())).then(|| Box::new([0; 128]));
        if let Some(places) = &mut places {
            for (i, byte) in text.bytes().enumerate() {
                places[usize::from(byte)] |= 1 << i;
            }
        }
        Pattern { text, length: text.chars().count(), places }
    }

    /// Optimal string alignment distance to another text.
    ///
    /// After Hyyrö 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit distances": the
    /// differences down a column of the table are two bits each, and a column takes a dozen operations.
    fn distance(&self, other: &str) -> usize {
        let Some(places) = self.places.as_ref().filter(|_| other.is_ascii()) else {
            return strsim::osa_distance(self.text, other);
        };
        let last = 1_u64 << (self.length - 1);
        let (mut up, mut down, mut diagonal, mut before) = (!0_u64, 0_u64, 0_u64, 0_u64);
        let mut distance = self.length;
        for byte in other.bytes() {
            let here = places[usize::from(byte)];
            let swapped = ((!diagonal & here) << 1) & before;
            diagonal = ((here & up).wrapping_add(up) ^ up) | here | down | swapped;
            let (right, left) = (down | !(diagonal | up), diagonal & up);
            distance = distance + usize::from(right & last != 0) - usize::from(left & last != 0);
            let (right, left) = ((right << 1) | 1, left << 1);
            up = left | !(diagonal | right);
            down = right & diagonal;
            before = here;
        }
        distance
    }
}

fn whole_score(query: &Pattern<'_>, bits: u64, name: &str, record: &NameRecord) -> f32 {
    if query.text == name {
        return 1.0;
    }
    let name_length = usize::from(record.length);
    let longer = query.length.max(name_length);
    let allowed = if query.length < 4 { 0 } else { edits(longer) };
    // Every edit adds or takes away at most two letters of the set.
    if allowed == 0 || name_length.abs_diff(query.length) > allowed || (bits ^ record.letters.get()).count_ones() as usize > 2 * allowed {
        return 0.0;
    }
    let distance = query.distance(name);
    if distance > allowed { 0.0 } else { 1.0 - 0.06 * distance as f32 - 0.4 * distance as f32 / longer as f32 }
}

/// What a word counts for among others.
fn importance(word: &str) -> f32 {
    word.chars().count().max(2) as f32
}

/// Scores the words of a query, longest first, against those of a name in any order; each may be a beginning or
/// misspelt.
fn words_score(query: &[Pattern<'_>], query_bits: u64, name: &str, bits: u64, kind: NameKind) -> f32 {
    if (query_bits & !bits).count_ones() > 3 {
        return 0.0;
    }
    let mut taken = [false; 16];
    let mut total = 0.0;
    let weight: f32 = query.iter().map(|w| importance(w.text)).sum();
    let mut rest = weight;
    for word in query {
        let mut best: (f32, usize) = (0.0, usize::MAX);
        for (i, other) in name.split(' ').enumerate().take(taken.len()) {
            let score = if taken[i] { 0.0 } else { word_score(word, other) };
            if score > best.0 {
                best = (score, i);
            }
        }
        rest -= importance(word.text);
        if best.1 < taken.len() {
            taken[best.1] = true;
            total += best.0 * importance(word.text);
        }
        if total + rest < 0.79 * weight {
            return 0.0;
        }
    }
    let covered = total / weight;
    if covered < 0.8 {
        return 0.0;
    }
    let (mut name_weight, mut name_covered) = (0.0, 0.0);
    for (i, other) in name.split(' ').enumerate() {
        name_weight += importance(other);
        if taken.get(i).copied().unwrap_or(false) {
            name_covered += importance(other);
        }
    }
    let share: f32 = name_covered / name_weight;
    if kind == NameKind::Phrase && share < 0.99 {
        return 0.0;
    }
    // All words of the query are there; what the name has beyond them costs.
    (covered - 0.02) * (0.62 + 0.37 * share)
}

fn word_score(query: &Pattern<'_>, word: &str) -> f32 {
    if query.text == word {
        return 1.0;
    }
    let (a, b) = (query.length, word.chars().count());
    if a >= 4 && word.starts_with(query.text) {
        return 0.88 + 0.1 * a as f32 / b as f32;
    }
    let allowed = edits(a);
    if allowed == 0 || a.abs_diff(b) > allowed {
        return 0.0;
    }
    let distance = query.distance(word);
    if distance > allowed { 0.0 } else { 1.0 - 0.05 * distance as f32 - 0.3 * distance as f32 / a.max(b) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_keeps_letters_and_digits() {
        assert_eq!(fold("  Adversary-in-the-Middle!! "), "adversary in the middle");
        assert_eq!(fold("Déjà Vu (2)"), "deja vu 2");
        assert_eq!(fold("...."), "");
    }

    proptest::proptest! {
        #[test]
        fn the_distance_is_the_textbook_one(a in "[abc ]{0,12}|[a-z]{1,70}|[a-é]{1,5}", b in "[abc ]{0,12}|[a-z]{0,70}|[a-é]{0,5}") {
            proptest::prop_assert_eq!(Pattern::new(&a).distance(&b), strsim::osa_distance(&a, &b));
        }
    }
}
