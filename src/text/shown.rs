//! Text from elsewhere, as it may be shown to people: nothing in it steers a terminal, and it fits.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters that a reader can't see and that may steer how text is shown: controls, direction marks and overrides
/// (Unicode's Bidi_Control), zero-width characters, tags and interlinear marks.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// White space folded, control characters gone.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if !is_unseen(c) {
            out.push(c);
        }
    }
    out
}

/// The beginning of a text in so many columns.
pub fn fit(text: &str, columns: usize) -> String {
    if UnicodeWidthStr::width(text) <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let mut out: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used < columns
        })
        .collect();
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The end of a text in so many columns.
pub(crate) fn fit_end(text: &str, columns: usize) -> String {
    if UnicodeWidthStr::width(text) <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let kept: Vec<char> = text
        .chars()
        .rev()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used < columns
        })
        .collect();
    let mut out = if columns > 0 { String::from("…") } else { String::new() };
    out.extend(kept.into_iter().rev());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{7}\r\n\tc\u{202e}"), "a[31mb c");
    }

    #[test]
    fn a_text_is_cut_at_its_end_or_its_beginning() {
        assert_eq!((fit("abcdef", 6), fit("abcdef", 4), fit("ab", 0)), ("abcdef".into(), "abc…".into(), String::new()));
        assert_eq!((fit_end("abcdef", 4), fit_end("abcdef", 0)), ("…def".into(), String::new()));
        // A wide character takes two columns.
        assert_eq!(fit("日本語", 4), "日…");
    }
}
