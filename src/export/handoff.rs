//! What the hand-offs have in common: what goes into them, how they quote a text, and where their dates come from.
//!
//! csv, markdown, stix, misp and sarif leave the analyst's hands: they hold what the text asserts and nothing else,
//! unless [`HandOff::statuses`] says otherwise, and text of a report is one line of bounded length in them.

use std::str::FromStr;

use super::Source;
use crate::rank::{Evidence, Found, Mapping};
use crate::status::Status;
use crate::text::shown::is_unseen;
use crate::text::{Document, Span};

/// Characters of a sentence that are quoted.
const QUOTE_CHARS: usize = 400;
/// Characters of a title.
const TITLE_CHARS: usize = 200;

/// How mappings are handed on.
#[derive(Debug, Clone, PartialEq)]
pub struct HandOff {
    /// Techniques and evidence of these statuses; asserted ones where empty.
    pub statuses: Vec<Status>,
    /// Write web addresses, host names, IP addresses and mail addresses in quotes so that nothing makes links of them.
    pub defanged: bool,
    /// The one point in time that is written, wherever a format wants one.
    pub stamp: Stamp,
}

impl HandOff {
    fn wants(&self, status: Status) -> bool {
        if self.statuses.is_empty() { status == Status::Asserted } else { self.statuses.contains(&status) }
    }

    /// The techniques that are handed on, in the mapping's order.
    pub fn techniques<'m>(&self, mapping: &'m Mapping) -> impl Iterator<Item = &'m Found> {
        self.named(&mapping.techniques)
    }

    /// Of a list of groups, software or campaigns those that are handed on.
    pub fn named<'m>(&self, list: &'m [Found]) -> impl Iterator<Item = &'m Found> {
        list.iter().filter(|f| self.wants(f.status))
    }

    /// How many techniques of each status are not handed on, in words; empty where all are.
    pub fn left_out(&self, mapping: &Mapping) -> String {
        let count = |status: Status| mapping.techniques.iter().filter(|f| f.status == status).count();
        let left = Status::ALL.into_iter().filter(|status| !self.wants(*status)).map(|status| (status, count(status)));
        left.filter(|(_, count)| *count > 0).map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ")
    }

    /// The evidence that is handed on with a technique, by place; never empty for one that is itself.
    pub fn evidence<'m>(&self, found: &'m Found) -> impl Iterator<Item = &'m Evidence> {
        found.evidence.iter().filter(|e| self.wants(e.status))
    }

    /// The sentence of a piece of evidence as one line of at most 400 characters, cut around the words that carry it.
    pub fn sentence(&self, document: &Document, evidence: &Evidence) -> String {
        self.quote(around(document.text(), evidence.segment, evidence.span, QUOTE_CHARS))
    }

    /// The words that carry a piece of evidence, as one line of at most 400 characters.
    pub fn matched(&self, document: &Document, evidence: &Evidence) -> String {
        self.quote(around(document.text(), evidence.span, evidence.span, QUOTE_CHARS))
    }

    /// What a document is called: its title, else its name; one line, empty for standard input.
    pub fn title(&self, source: &Source) -> String {
        match &source.title {
            Some(title) => self.quote(line(title, TITLE_CHARS)),
            None if source.source == "-" => String::new(),
            // A file name stays one; an address is one however it got here.
            None if source.source.contains("://") => self.quote(line(&source.source, TITLE_CHARS)),
            None => line(&source.source, TITLE_CHARS),
        }
    }

    fn quote(&self, text: String) -> String {
        if self.defanged { defang(&text) } else { text }
    }
}

/// A point in time that a user or a knowledge base gave: no output depends on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(jiff::Timestamp);

impl Stamp {
    /// 1970-01-01: what is written where no date is known, and older than any object of ATT&CK.
    pub const EPOCH: Stamp = Stamp(jiff::Timestamp::UNIX_EPOCH);

    /// The day, `YYYY-MM-DD`.
    pub fn date(self) -> String {
        self.0.strftime("%Y-%m-%d").to_string()
    }

    /// RFC 3339 in UTC with milliseconds, as STIX wants it.
    pub fn rfc3339(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.as_second()
    }
}

/// The text is no date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no date: write YYYY-MM-DD or a time such as 2026-01-31T12:00:00Z, from 1970 to 9998")]
pub struct ParseStampError(String);

impl FromStr for Stamp {
    type Err = ParseStampError;

    fn from_str(text: &str) -> Result<Stamp, ParseStampError> {
        let midnight = || jiff::tz::TimeZone::UTC.to_timestamp(text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0)).ok();
        let day = (text.len() == 10).then(midnight).flatten();
        let time = day.or_else(|| text.parse().ok());
        // Four digits for the year, and nothing before what is written where there is no date.
        let fits = |t: &jiff::Timestamp| (0..253_370_764_800).contains(&t.as_second());
        time.filter(fits).map(Stamp).ok_or_else(|| ParseStampError(line(text, 40)))
    }
}

/// One line of at most so many characters: white space folded, unseen characters gone.
pub fn line(text: &str, most: usize) -> String {
    let (mut out, mut count) = (String::new(), 0);
    for c in text.chars() {
        let c = if c.is_whitespace() { ' ' } else { c };
        if is_unseen(c) || c == ' ' && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if count == most {
            out.truncate(out.trim_end().len());
            out.push('…');
            return out;
        }
        out.push(c);
        count += 1;
    }
    out.truncate(out.trim_end().len());
    out
}

/// A segment as a line of about so many characters, with its span in it. Costs as much as is kept, however long the
/// segment.
fn around(text: &str, segment: Span, span: Span, most: usize) -> String {
    let span = if segment.contains(span) { span } else { segment };
    let whole = segment.of(text);
    if whole.len() <= 4 * most {
        let all = line(whole, usize::MAX);
        if all.chars().count() <= most {
            return all;
        }
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at += 1;
        }
        at
    };
    // No character has more than four bytes; white space that folds away is not made up for.
    let marked = line(Span::new(span.start, boundary(span.end.min(span.start + 4 * most))).of(text), most);
    let room = most.saturating_sub(marked.chars().count());
    let after_end = boundary(segment.end.min(span.end + 4 * room));
    let before_start = boundary(segment.start.max(span.start.saturating_sub(4 * room)));
    let gap = |at: usize| text[..at].ends_with(char::is_whitespace) || text[at..].starts_with(char::is_whitespace);
    let before = line(Span::new(before_start, span.start).of(text), usize::MAX);
    let after = line(Span::new(span.end, after_end).of(text), usize::MAX);
    let (before_length, after_length) = (before.chars().count(), after.chars().count());
    let for_before = if after_length < room / 2 { room - after_length } else { room / 2 };
    let skipped = before_length.saturating_sub(for_before);
    let kept: String = before.chars().skip(skipped).collect();
    let mut out = String::new();
    if skipped > 0 || before_start > segment.start {
        out.push('…');
    }
    out.push_str(kept.trim_start());
    if !kept.is_empty() && gap(span.start) {
        out.push(' ');
    }
    out.push_str(&marked);
    if !marked.ends_with('…') && !after.is_empty() {
        if gap(span.end) && !out.ends_with(' ') {
            out.push(' ');
        }
        let rest = line(&after, room.saturating_sub(kept.chars().count()));
        out.push_str(&rest);
        if after_end < segment.end && !rest.ends_with('…') {
            out.push('…');
        }
    }
    out
}

/// File name endings that are no top-level domains: what bears one is left as it is.
const FILE_ENDINGS: &str = "7z apk asp aspx bat bin cfg cmd conf config cpl csv dat db dit dll dmg dmp doc docm docx elf evtx exe gif \
     gz hta htm html img ini iso jar jpeg jpg js jse json jsp jspx key lnk log msi msp ocx pdf pem php png ppt pptm pptx ps1 psm1 rar \
     reg rtf scr sql sqlite svg sys tar tmp txt vbe vbs war wsf xls xlsb xlsm xlsx xml yaml yml";

/// Web addresses, host names, IP addresses and mail addresses as analysts write them so that nothing links to them:
/// `hxxps://files[.]example[.]com/a.exe`, `10[.]0[.]0[.]7`, `name[@]example[.]com`. What is written so already stays.
pub fn defang(text: &str) -> String {
    let inside = |c: char| !c.is_whitespace() && !"\"'`<>()[]{}|,;“”‘’«»=*".contains(c);
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find(inside) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        let core = word.trim_end_matches(['.', ':', '!', '?']);
        defang_word(core, &mut out);
        out.push_str(&word[core.len()..]);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn defang_word(word: &str, out: &mut String) {
    if let Some((scheme, rest)) = word.split_once("://") {
        let before = |c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c);
        let kept = scheme.rsplit(before).next().map_or(0, |name| scheme.len() - name.len());
        out.push_str(&scheme[..kept]);
        let (scheme, separator) = match scheme[kept..].to_ascii_lowercase().as_str() {
            "http" => ("hxxp", "://"),
            "https" => ("hxxps", "://"),
            "ftp" => ("fxp", "://"),
            "" | "hxxp" | "hxxps" | "fxp" => (&scheme[kept..], "://"),
            _ => (&scheme[kept..], "[://]"),
        };
        out.push_str(scheme);
        out.push_str(separator);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        out.push_str(&rest[..end].replace('.', "[.]").replace('@', "[@]"));
        // An address inside an address, as redirectors have them.
        if rest[end..].contains("://") {
            defang_word(&rest[end..], out);
        } else {
            out.push_str(&rest[end..]);
        }
        return;
    }
    let (local, host) = word.rsplit_once('@').map_or((None, word), |(local, host)| (Some(local), host));
    let end = host.find([':', '/', '?', '#', '\\']).unwrap_or(host.len());
    if is_host(&host[..end], local.is_some()) {
        if let Some(local) = local {
            out.push_str(local);
            out.push_str("[@]");
        }
        out.push_str(&host[..end].replace('.', "[.]"));
        out.push_str(&host[end..]);
    } else {
        out.push_str(word);
    }
}

/// Whether a word is a host name or an IPv4 address. Behind an @ any ending will do.
fn is_host(word: &str, of_mail: bool) -> bool {
    let labels: Vec<&str> = word.split('.').collect();
    let [.., last] = &labels[..] else { return false };
    if labels.len() < 2 || labels.iter().any(|l| l.is_empty() || l.contains(|c: char| !c.is_alphanumeric() && c != '-' && c != '_')) {
        return false;
    }
    let address = labels.len() == 4 && labels.iter().all(|l| l.parse::<u8>().is_ok());
    let name = last.chars().count() >= 2 && !last.contains(|c: char| c.is_ascii_digit() || c == '_') || last.starts_with("xn--");
    let file = FILE_ENDINGS.split_ascii_whitespace().any(|e| last.eq_ignore_ascii_case(e));
    address || name && (of_mail || !file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_defanged_and_file_names_are_not() {
        for (text, expected) in [
            ("é://", "é://"),
            ("from https://files.example.com/a.exe?x=1.2, then", "from hxxps://files[.]example[.]com/a.exe?x=1.2, then"),
            ("HTTP://EXAMPLE.com.", "hxxp://EXAMPLE[.]com."),
            ("to cdn.orchard.example.com over", "to cdn[.]orchard[.]example[.]com over"),
            ("(10.0.0.7:443)", "(10[.]0[.]0[.]7:443)"),
            ("mail mallory@example.com now", "mail mallory[@]example[.]com now"),
            ("ldap://user@host.example.net/x", "ldap[://]user[@]host[.]example[.]net/x"),
            ("https://a.example/?u=http://b.example/c", "hxxps://a[.]example/?u=hxxp://b[.]example/c"),
            ("bücher.example", "bücher[.]example"),
            ("delivery.zip", "delivery[.]zip"),
            ("copied ntds.dit with cmd.exe", "copied ntds.dit with cmd.exe"),
            ("LockBit 3.0, e.g. version 1.2.3", "LockBit 3.0, e.g. version 1.2.3"),
            ("hxxps://files[.]example[.]com", "hxxps://files[.]example[.]com"),
            ("", ""),
        ] {
            assert_eq!(defang(text), expected);
        }
    }

    #[test]
    fn dates_are_read_and_others_refused() {
        let stamp: Stamp = "2026-02-28".parse().unwrap();
        assert_eq!(
            (stamp.date(), stamp.rfc3339(), stamp.seconds()),
            ("2026-02-28".into(), "2026-02-28T00:00:00.000Z".into(), 1_772_236_800)
        );
        assert_eq!("2026-02-28T12:30:00+02:00".parse::<Stamp>().unwrap().rfc3339(), "2026-02-28T10:30:00.000Z");
        for wrong in ["", "today", "2026-02-30", "1969-12-31", "2026-2-1", "20260201", "9999-12-31", "2026-02-28T12:30:00"] {
            assert!(wrong.parse::<Stamp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_long_sentence_is_cut_around_what_carries_it() {
        let text = format!("{} dumped LSASS memory{}", "x".repeat(5000), " é".repeat(5000));
        let at = text.find("dumped").unwrap();
        let quote = around(&text, Span::new(0, text.len()), Span::new(at, at + 19), 100);
        assert!(quote.contains("x dumped LSASS memory é é") && quote.starts_with('…') && quote.ends_with('…'), "{quote}");
        assert!(quote.chars().count() <= 104, "{quote}");
    }

    proptest! {
        #[test]
        fn quotes_are_lines_without_unseen_characters(text in ".{0,60}", a in 0_usize..60, b in 0_usize..60, most in 1_usize..50) {
            let mut places: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
            places.sort_unstable();
            let (a, b) = (places[a % places.len()], places[b % places.len()]);
            let quote = around(&text, Span::new(0, text.len()), Span::new(a.min(b), a.max(b)), most);
            prop_assert!(!quote.chars().any(is_unseen) && !quote.contains("  "));
            prop_assert!(quote.chars().count() <= most + 4);
            prop_assert_eq!(defang(&defang(&quote)), defang(&quote));
        }
    }
}
