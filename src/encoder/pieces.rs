//! Text into pieces of words, as BERT reads them: lower-cased, accents off, punctuation apart, and each word cut into
//! the longest pieces of the vocabulary (WordPiece: Schuster and Nakajima 2012; Devlin et al. 2018). The crates that do
//! this bring some eighty others along; what BERT needs of them is here.

use rustc_hash::FxHashMap;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Words of more characters are one unknown piece, as in BERT's own code.
const MAX_WORD: usize = 100;

/// A vocabulary of pieces.
pub(super) struct Pieces {
    numbers: FxHashMap<Box<str>, u16>,
    unknown: u16,
    pub(super) first: u16,
    pub(super) last: u16,
}

/// What is done with a character before words are cut.
enum Class {
    Space,
    Nothing,
    Alone,
    Letter,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Class::Letter,
        '\t' | '\n' | '\r' | ' ' => Class::Space,
        '!'..='/' | ':'..='@' | '['..='`' | '{'..='~' => Class::Alone,
        '\0' | '\u{fffd}' => Class::Nothing,
        _ if c.is_ascii() => Class::Nothing,
        _ if c.general_category() == GeneralCategory::NonspacingMark => Class::Nothing,
        _ => match c.general_category_group() {
            GeneralCategoryGroup::Other => Class::Nothing,
            GeneralCategoryGroup::Punctuation => Class::Alone,
            GeneralCategoryGroup::Separator => Class::Space,
            _ if is_ideograph(c) => Class::Alone,
            _ => Class::Letter,
        },
    }
}

/// Ideographs stand alone (the ranges of BERT's own code).
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c), 0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

impl Pieces {
    /// A vocabulary, a piece a line; the line's number is the piece's. None where one that BERT needs is missing, or one
    /// stands twice.
    pub(super) fn new(lines: &str) -> Option<Pieces> {
        let numbers: FxHashMap<Box<str>, u16> =
            lines.lines().enumerate().map(|(i, piece)| Some((Box::from(piece), u16::try_from(i).ok()?))).collect::<Option<_>>()?;
        if numbers.len() != lines.lines().count() {
            // A piece that stands twice has a number beyond the count of pieces, and there is no row of weights for it.
            return None;
        }
        let of = |piece: &str| numbers.get(piece).copied();
        Some(Pieces { unknown: of("[UNK]")?, first: of("[CLS]")?, last: of("[SEP]")?, numbers })
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Appends the pieces of a text, at most so many.
    pub(super) fn cut(&self, text: &str, most: usize, out: &mut Vec<u16>) {
        let end = out.len() + most;
        let mut word = String::new();
        for c in text.nfd() {
            if out.len() >= end {
                break;
            }
            match class(c) {
                Class::Letter => word.extend(c.to_lowercase()),
                Class::Nothing => {}
                Class::Space => self.word(&mut word, out),
                Class::Alone => {
                    self.word(&mut word, out);
                    word.push(c);
                    self.word(&mut word, out);
                }
            }
        }
        self.word(&mut word, out);
        out.truncate(end);
    }

    /// Appends one word's pieces, the longest that fits first, and empties it.
    fn word(&self, word: &mut String, out: &mut Vec<u16>) {
        if word.is_empty() {
            return;
        }
        let before = out.len();
        let mut at = 0;
        let mut key = String::new();
        if word.chars().count() > MAX_WORD {
            out.push(self.unknown);
            word.clear();
            return;
        }
        while at < word.len() {
            let mut end = word.len();
            let found = loop {
                key.clear();
                if at > 0 {
                    key.push_str("##");
                }
                key.push_str(&word[at..end]);
                if let Some(number) = self.numbers.get(key.as_str()) {
                    break Some(*number);
                }
                match word[at..end].char_indices().next_back() {
                    Some((0, _)) | None => break None,
                    Some((last, _)) => end = at + last,
                }
            };
            match found {
                Some(number) => out.push(number),
                // A word with an unknown piece is unknown as a whole.
                None => {
                    out.truncate(before);
                    out.push(self.unknown);
                    break;
                }
            }
            at = end;
        }
        word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n.\n-\n'\nthe\ndump\n##ed\n##ing\ncafe\nls\n##ass\n東\n1\n##0\na\n##b";

    fn cut(text: &str) -> Vec<&'static str> {
        let pieces = Pieces::new(VOCABULARY).unwrap();
        let mut out = Vec::new();
        pieces.cut(text, 60, &mut out);
        let lines: Vec<&str> = VOCABULARY.lines().collect();
        out.into_iter().map(|p| lines[usize::from(p)]).collect()
    }

    #[test]
    fn words_are_cut_as_bert_does() {
        assert_eq!(cut("The LSASS-dumping"), ["the", "ls", "##ass", "-", "dump", "##ing"]);
        assert_eq!(cut("Caf\u{e9} cafe\u{301}."), ["cafe", "cafe", "."]);
        assert_eq!(cut("the東100"), ["the", "東", "1", "##0", "##0"]);
        assert_eq!(cut("dumps the"), ["[UNK]", "the"]);
        assert_eq!(cut("the\u{200b}\u{7}\tdump\u{a0}a"), ["the", "dump", "a"]);
        assert_eq!(cut(&format!("a{} the", "b".repeat(100))), ["[UNK]", "the"]);
        assert!(cut("").is_empty());
        assert!(Pieces::new("a\nb").is_none());
        assert!(Pieces::new(&format!("{VOCABULARY}\nthe")).is_none());
    }

    #[test]
    fn no_more_than_asked_for() {
        let pieces = Pieces::new(VOCABULARY).unwrap();
        let mut out = vec![7];
        pieces.cut(&"the dumping ".repeat(50), 5, &mut out);
        assert_eq!(out.len(), 6);
    }

    proptest! {
        #[test]
        fn any_text_is_cut(text in any::<String>()) {
            let pieces = Pieces::new(VOCABULARY).unwrap();
            let mut out = Vec::new();
            pieces.cut(&text, 40, &mut out);
            prop_assert!(out.len() <= 40 && out.iter().all(|p| usize::from(*p) < pieces.len()));
        }
    }
}
