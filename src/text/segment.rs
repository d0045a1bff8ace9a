//! A text into sentences, headings, list items, table rows and code lines.
//!
//! Blocks first: blank lines, headings, list markers, table rows and code fences end a block; wrapped lines
//! join one. Then sentences inside a block: a full stop, question or exclamation mark followed by white space
//! ends one, unless the field's own habits speak against it (abbreviations, "e.g.", initials, version
//! numbers, file names and defanged indicators never have white space behind their stops).

use super::{Block, Segment, SegmentKind, Span};

/// A sentence longer than this is cut at the next white space: no text may make one segment of itself.
const MAX_SEGMENT_BYTES: usize = 4000;

/// The segments of a text whose blocks are known: nothing is guessed from lines.
pub(crate) fn segments_of_blocks(text: &str, blocks: &[Block]) -> Vec<Segment> {
    let mut out = Segmenter { text, segments: Vec::new(), heading: None };
    for block in blocks {
        let span = trim(text, block.span);
        match block.kind {
            SegmentKind::Heading | SegmentKind::Row | SegmentKind::Code => out.cut(span, block.kind),
            kind => out.sentences(span, kind),
        }
    }
    out.segments
}

/// Markdown by lines, as plain text, with what only Markdown has: front matter is code, a quote is prose, a line under
/// a line of words makes that a heading.
pub(crate) fn markdown_segments(text: &str) -> Vec<Segment> {
    lines_into_segments(text, true)
}

pub(crate) fn segments(text: &str) -> Vec<Segment> {
    lines_into_segments(text, false)
}

fn lines_into_segments(text: &str, markdown: bool) -> Vec<Segment> {
    let mut out = Segmenter { text, segments: Vec::new(), heading: None };
    let front_matter = if markdown { front_matter(text) } else { 0 };
    let mut block: Option<(Span, SegmentKind)> = None;
    let mut fenced = false;
    let mut start = 0;
    let width = usual_width(text);
    for line in text.split_inclusive('\n') {
        let span = Span::new(start, start + line.len());
        start += line.len();
        let trimmed = line.trim();
        if span.start < front_matter {
            out.push(trim(text, span), SegmentKind::Code);
        } else if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            out.flush(block.take());
            out.push(trim(text, span), SegmentKind::Code);
            fenced = !fenced;
        } else if trimmed.is_empty() {
            out.flush(block.take());
        } else if fenced {
            out.push(trim(text, span), SegmentKind::Code);
        } else {
            let kind = match line_kind(line) {
                SegmentKind::Code if markdown && trimmed.starts_with("> ") => SegmentKind::Sentence,
                kind => kind,
            };
            if let Some((b, SegmentKind::Sentence)) = block
                && markdown
                && underline(trimmed)
                && !b.of(text).trim().contains('\n')
            {
                block = None;
                out.cut(trim(text, Span::new(b.start, span.end)), SegmentKind::Heading);
                continue;
            }
            let joins = block.is_some_and(|(b, k)| continues(text, b, k, line, kind, width));
            match (&mut block, joins) {
                (Some((b, _)), true) => b.end = span.end,
                _ => {
                    out.flush(block.take());
                    block = Some((span, kind));
                }
            }
        }
    }
    out.flush(block.take());
    out.segments
}

/// Where the front matter of a Markdown file ends; 0 where it has none.
fn front_matter(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else { return 0 };
    let offset = text.len() - rest.len();
    rest.find("\n---").map_or(0, |at| offset + at + rest[at + 1..].find('\n').map_or(rest.len() - at, |line| line + 2))
}

/// A line of `=` or `-` alone.
fn underline(trimmed: &str) -> bool {
    trimmed.len() >= 3 && (trimmed.bytes().all(|b| b == b'=') || trimmed.bytes().all(|b| b == b'-'))
}

/// The length in characters that the longer lines of a wrapped text share: a line far shorter than this one
/// was ended on purpose.
fn usual_width(text: &str) -> usize {
    let mut lengths: Vec<usize> = text.lines().take(2000).map(|l| l.trim_end().chars().count()).filter(|n| *n > 0).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() * 3 / 4).copied().unwrap_or(0)
}

/// What a line looks like by itself.
fn line_kind(line: &str) -> SegmentKind {
    let trimmed = line.trim();
    if trimmed.matches('|').count() >= 2 || trimmed.matches('\t').count() >= 2 || aligned_cells(trimmed) {
        SegmentKind::Row
    } else if heading_marker(trimmed) {
        SegmentKind::Heading
    } else if item_marker(trimmed).is_some() {
        SegmentKind::Item
    } else if code_like(trimmed) {
        SegmentKind::Code
    } else {
        SegmentKind::Sentence
    }
}

/// Cells held apart by spaces: two gaps of three and more, or one of four, after a list marker. Behind a stop it is a habit of
/// typing.
fn aligned_cells(trimmed: &str) -> bool {
    let rest = item_marker(trimmed).map_or(trimmed, |marker| trimmed[marker..].trim_start());
    let (mut narrow, mut wide, mut at) = (0, 0, 0);
    while let Some(found) = rest[at..].find("   ") {
        let gap = rest[at + found..].len() - rest[at + found..].trim_start_matches(' ').len();
        if !rest[..at + found].ends_with(['.', '!', '?', ':', ';', ',']) {
            narrow += 1;
            wide += usize::from(gap > 3);
        }
        at += found + gap;
    }
    narrow >= 2 || wide >= 1
}

fn heading_marker(trimmed: &str) -> bool {
    let hashes = trimmed.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&hashes) && trimmed[hashes..].starts_with(' ')
        || (trimmed.starts_with("**") && trimmed.ends_with("**") && trimmed.len() > 4 && trimmed.len() < 100)
}

/// Length in bytes of a list marker with its white space.
pub(crate) fn item_marker(trimmed: &str) -> Option<usize> {
    for bullet in ["- ", "* ", "+ ", "• ", "◦ ", "‣ ", "– ", "· ", "▪ ", "● "] {
        if trimmed.starts_with(bullet) {
            return Some(bullet.len());
        }
    }
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let after = &trimmed[digits..];
    ((1..=2).contains(&digits) && (after.starts_with(". ") || after.starts_with(") "))).then_some(digits + 2)
}

/// A prompt, or a line with hardly a word of prose.
fn code_like(trimmed: &str) -> bool {
    let prompt = ["$ ", "> ", "# ", "PS C:", "C:\\>", "PS>"].iter().any(|p| trimmed.starts_with(p));
    prompt && !trimmed.ends_with('.')
}

/// Whether a line goes on with the block above it.
fn continues(text: &str, block: Span, kind: SegmentKind, line: &str, line_kind: SegmentKind, width: usize) -> bool {
    if line_kind != SegmentKind::Sentence || matches!(kind, SegmentKind::Heading | SegmentKind::Row | SegmentKind::Code) {
        return false;
    }
    // A time may begin a wrapped line too, but not behind another.
    let line_start = line.trim_start();
    if time_stamp(line_start) && (line_start.starts_with(['[', '(']) || time_stamp(block.of(text).trim_start())) {
        return false;
    }
    let above = block.of(text).trim_end();
    if kind == SegmentKind::Sentence && title(above, width) {
        return false;
    }
    let last_line = above.rsplit('\n').next().unwrap_or(above);
    let ended = above.ends_with(['.', '!', '?', ':', '"', '”']);
    let full = last_line.chars().count() * 10 >= width.min(120) * 7 && width <= 140;
    let lower = line.trim_start().starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit() || matches!(c, '(' | '"'));
    if ended { full && last_line.len() > 40 && width <= 140 } else { lower || (full && last_line.len() > 40) }
}

/// A line of its own that a wrapped text would not have ended there: few words, far from the edge, and none that asks for
/// another behind it.
fn title(above: &str, width: usize) -> bool {
    let words: Vec<&str> = above.split_whitespace().collect();
    let last = words.last().map_or("", |w| w);
    let begins = above.trim_start().starts_with(char::is_uppercase);
    let open = last.ends_with([',', ';', '-', '–', '—', '/', '&']) || last.len() < 4 && !last.contains(char::is_uppercase);
    !above.trim().contains('\n') && (1..=4).contains(&words.len()) && begins && !open && above.trim().chars().count() * 2 < width
}

/// How a message of a chat or an entry of a log begins: `[10:11]`, `10:11:05`, `2024-03-01 10:11Z`.
fn time_stamp(line: &str) -> bool {
    let line = line.strip_prefix(['[', '(']).unwrap_or(line);
    let is_date = |word: &str| word.len() >= 8 && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/' | b'.'));
    let clock = line.split_once([' ', 'T']).filter(|(date, _)| is_date(date)).map_or(line, |(_, clock)| clock);
    let Some((hour, rest)) = clock.split_once(':') else { return false };
    let two = |text: &str| text.get(..2).is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let Some(mut behind) = two(rest).then(|| &rest[2..]) else { return false };
    if let Some(seconds) = behind.strip_prefix(':').filter(|s| two(s)) {
        behind = &seconds[2..];
    }
    two(hour) && hour.len() == 2 && behind.starts_with([' ', '\t', ']', ')', 'Z', ','])
}

struct Segmenter<'a> {
    text: &'a str,
    segments: Vec<Segment>,
    heading: Option<u32>,
}

impl Segmenter<'_> {
    fn push(&mut self, span: Span, kind: SegmentKind) {
        if span.is_empty() {
            return;
        }
        let heading = self.heading;
        if kind == SegmentKind::Heading {
            self.heading = Some(self.segments.len() as u32);
        }
        self.segments.push(Segment { span, kind, heading });
    }

    fn flush(&mut self, block: Option<(Span, SegmentKind)>) {
        let Some((span, kind)) = block else { return };
        let span = trim(self.text, span);
        match kind {
            SegmentKind::Heading | SegmentKind::Row | SegmentKind::Code => self.cut(span, kind),
            _ if kind == SegmentKind::Sentence && looks_like_heading(span.of(self.text)) => {
                self.push(span, SegmentKind::Heading);
            }
            _ => self.sentences(span, kind),
        }
    }

    fn sentences(&mut self, block: Span, kind: SegmentKind) {
        let text = self.text;
        let bytes = text.as_bytes();
        let mut start = block.start;
        let mut at = block.start;
        while at < block.end {
            if matches!(bytes[at], b'.' | b'!' | b'?') {
                let mut end = at + 1;
                // Closing quotes, brackets and footnote marks belong to the sentence they close.
                while let Some(c) = text[end..block.end].chars().next() {
                    if matches!(c, '.' | '!' | '?' | '"' | '\'' | ')' | ']' | '”' | '’' | '*') {
                        end += c.len_utf8();
                    } else {
                        break;
                    }
                }
                end += notes_marks(&text[end..block.end]);
                if ends_sentence(text, start, at, end, block.end) {
                    self.cut(trim(text, Span::new(start, end)), kind);
                    start = end;
                }
                at = end;
            } else if bytes[at] >= 0xe3 && text.get(at..block.end).is_some_and(|rest| rest.starts_with(['。', '！', '？'])) {
                // Full-width stops need no space behind them.
                at += 3;
                self.cut(trim(text, Span::new(start, at)), kind);
                start = at;
            } else {
                at += 1;
            }
        }
        self.cut(trim(text, Span::new(start, block.end)), kind);
    }

    /// Pushes a segment, in pieces where it is too long for one.
    fn cut(&mut self, span: Span, kind: SegmentKind) {
        let mut rest = span;
        while rest.len() > MAX_SEGMENT_BYTES {
            let mut limit = rest.start + MAX_SEGMENT_BYTES;
            while !self.text.is_char_boundary(limit) {
                limit -= 1;
            }
            let space = self.text[rest.start..limit].rfind(char::is_whitespace).filter(|at| *at > 0);
            let end = space.map_or(limit, |at| rest.start + at);
            self.push(trim(self.text, Span::new(rest.start, end)), kind);
            rest = trim(self.text, Span::new(end, rest.end));
        }
        self.push(rest, kind);
    }
}

/// Short, without a stop at its end, beginning with a capital or digit, and mostly capitals at word starts or
/// few words: a title line.
fn looks_like_heading(text: &str) -> bool {
    if text.len() > 90 || text.contains('\n') || text.ends_with(['.', ',', ';', '!', ')']) {
        return false;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(first) = words.first().and_then(|w| w.chars().next()) else { return false };
    if words.len() > 12 || !(first.is_uppercase() || first.is_ascii_digit()) {
        return false;
    }
    let long: Vec<&&str> = words.iter().filter(|w| w.chars().count() > 3).collect();
    let capital = long.iter().filter(|w| w.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit())).count();
    words.len() <= 5 || capital * 10 >= long.len() * 7
}

/// Length of the marks of notes behind a stop: `[3]`, `[4, 5]`, raised digits.
fn notes_marks(text: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        let raised = rest.len() - rest.trim_start_matches(['¹', '²', '³', '⁰', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹']).len();
        let bracketed = rest.strip_prefix('[').and_then(|inner| inner.find(']').map(|end| (inner, end))).filter(|(inner, end)| {
            let mark = &inner[..*end];
            mark.starts_with(|c: char| c.is_ascii_digit()) && mark.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b' ' | b'-'))
        });
        match (raised, bracketed) {
            (1.., _) => length += raised,
            (_, Some((_, end))) => length += end + 2,
            _ => return length,
        }
    }
}

/// Abbreviations before a number only.
const NUMBERED: [&str; 9] = ["sec", "tab", "ref", "refs", "eq", "ch", "pp", "p", "app"];

const ABBREVIATIONS: [&str; 38] = [
    "e.g", "i.e", "etc", "vs", "cf", "fig", "figs", "no", "nos", "vol", "dr", "mr", "mrs", "ms", "prof", "inc", "ltd", "corp", "co", "st",
    "jr", "sr", "approx", "dept", "est", "al", "ver", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov",
];

fn ends_sentence(text: &str, start: usize, stop: usize, end: usize, limit: usize) -> bool {
    let mut after = text[end..limit].chars();
    match after.next() {
        None => return true,
        Some(c) if !c.is_whitespace() => return false,
        Some(_) => {}
    }
    let Some(next) = text[end..limit].chars().find(|c| !c.is_whitespace()) else { return true };
    if next.is_lowercase() || begins_option(text[end..limit].trim_start()) {
        return false;
    }
    if text.as_bytes()[stop] != b'.' {
        return true;
    }
    let before = &text[start..stop];
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or(before);
    let single = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    let initials = word.len() >= 3 && word.split('.').all(|p| p.chars().count() == 1 && p.chars().all(char::is_alphabetic));
    let abbreviated = ABBREVIATIONS.iter().any(|a| word.eq_ignore_ascii_case(a));
    let abbreviated = abbreviated || (next.is_ascii_digit() && NUMBERED.iter().any(|a| word.eq_ignore_ascii_case(a)));
    // A number at the very start is a list number, not a sentence.
    let number = !word.is_empty() && word.len() == before.trim_start().len() && word.bytes().all(|b| b.is_ascii_digit());
    !(single || initials || abbreviated || number)
}

/// `-Name` or `/add`: the stop before it is an argument of the same command line.
fn begins_option(text: &str) -> bool {
    text.strip_prefix(['-', '/']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

fn trim(text: &str, span: Span) -> Span {
    let piece = span.of(text);
    let start = span.start + (piece.len() - piece.trim_start().len());
    Span::new(start, start + piece.trim().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str) -> Vec<&str> {
        segments(text).iter().map(|s| s.span.of(text)).collect()
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
        let cases: [(&str, &[&str]); 9] = [
            ("One came. Two went.", &["One came.", "Two went."]),
            ("It ran cmd.exe, e.g. Whoami. Then it left.", &["It ran cmd.exe, e.g. Whoami.", "Then it left."]),
            ("See Fig. 2 for v1.2.3 of evil[.]example. Next.", &["See Fig. 2 for v1.2.3 of evil[.]example.", "Next."]),
            ("It was the U.S. Government. Really!", &["It was the U.S. Government.", "Really!"]),
            ("# Title\nBody here goes on.\n- item one\n- item two", &["# Title", "Body here goes on.", "- item one", "- item two"]),
            ("He said \"stop.\" They did.", &["He said \"stop.\"", "They did."]),
            ("```\nwhoami /all\n```\nText.", &["```", "whoami /all", "```", "Text."]),
            ("1. First thing. 2. Second", &["1. First thing.", "2. Second"]),
            ("They ran net user x Pass1! /add and left. /etc was next.", &["They ran net user x Pass1! /add and left. /etc was next."]),
        ];
        for (text, expected) in cases {
            assert_eq!(cut(text), expected, "{text}");
        }
    }

    #[test]
    fn messages_and_titles_are_not_wrapped_lines() {
        let chat = "[10:11] ana: it was injected into\n[10:12] ben: which process\n[10:13] ana: explorer, and\nthen it slept";
        let messages = ["[10:11] ana: it was injected into", "[10:12] ben: which process", "[10:13] ana: explorer, and\nthen it slept"];
        assert_eq!(cut(chat), messages);
        let log = "2024-03-01 10:11:05 service installed\n2024-03-01 10:12 service started\n10:13 - stopped";
        assert_eq!(cut(log).len(), 3);
        let body = "comsvcs.dll was used to dump the memory of lsass, and the file was deleted.";
        assert_eq!(cut(&format!("Credential access\n{body}")), ["Credential access", body]);
        // A ratio and a date are no time stamps, and a line that asks for more is no title.
        assert_eq!(cut("The first of them had come to the server at\n10:11 and the last one at noon of the same day.").len(), 1);
        assert_eq!(cut("It fell from ten to one, or\n10:1 in all, by the end of that year of theirs.").len(), 1);
        assert_eq!(cut("They then used the\nwrapped tool to move on to the servers of the firm that they had come for.").len(), 1);
    }

    #[test]
    fn wrapped_lines_are_one_sentence() {
        let text = "The intruders waited for three weeks before they\nmoved on to the file servers of the company and\ntook what they wanted.\n\nThen they left.";
        assert_eq!(cut(text).len(), 2);
    }

    proptest! {
        #[test]
        fn segments_rejoin_to_the_text(text in "[a-zA-Z0-9 .!?\\n\"'|#*\u{e9}\u{4e2d}-]{0,400}") {
            let mut at = 0;
            for s in segments(&text) {
                prop_assert!(s.span.start >= at && s.span.end > s.span.start);
                prop_assert!(text[at..s.span.start].trim().is_empty());
                at = s.span.end;
            }
            prop_assert!(text[at..].trim().is_empty());
        }

        #[test]
        fn any_text_is_cut_on_character_boundaries(text in any::<String>()) {
            for s in segments(&text) {
                prop_assert!(text.get(s.span.range()).is_some());
            }
        }
    }
}
