//! Literal ATT&CK IDs in a text, in the official form and in the odd ones that people write.

use crate::kb::id::{AttackId, scan};
use crate::text::Span;

/// The IDs in `text`, in order, with the bytes they take. An ID stands between characters that are neither
/// letters nor digits nor an underscore; inside a URL it is read as well (`/techniques/T1059/001`).
pub(crate) fn find(text: &str) -> Vec<(AttackId, Span)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at + 5 <= bytes.len() {
        // Every prefix begins with one of these letters; upper case only, for "t1059" is rarely meant.
        if !matches!(bytes[at], b'T' | b'G' | b'S' | b'C' | b'M' | b'D' | b'A') || (at > 0 && is_word(text, at)) {
            at += 1;
            continue;
        }
        match scan(&bytes[at..]) {
            Some((id, length)) if !text[at + length..].starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
                found.push((id, Span::new(at, at + length)));
                at += length;
            }
            _ => at += 1,
        }
    }
    found
}

/// Whether the character before `at` belongs to a word.
fn is_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_found_in_prose() {
        let cases = [
            ("seen T1059.001 and (T1566).", vec!["T1059.001", "T1566"]),
            ("https://attack.mitre.org/techniques/T1059/001/", vec!["T1059.001"]),
            ("T1059-001, TA0008; G0007 uses S0002", vec!["T1059.001", "TA0008", "G0007", "S0002"]),
            ("XT1059 T10591 T1059a AT1059 sha T_1059", vec![]),
            ("Ünïcode T1003.001é T1003", vec!["T1003"]),
        ];
        for (text, expected) in cases {
            let found: Vec<String> = find(text).into_iter().map(|(id, _)| id.to_string()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_spans_are_the_ids(text in "[TGSCM0-9./ \u{e9}a-]{0,60}") {
            for (id, span) in find(&text) {
                prop_assert_eq!(span.of(&text).parse::<AttackId>().unwrap(), id);
            }
        }
    }
}
