//! Mail (RFC 5322, MIME): the subject, the body, and on request what is attached.

use mail_parser::{Message, MessageParser, MimeHeaders, PartType};

use super::{Error, Hints, Kind, MAX_ATTACHMENTS, MAX_PARTS_NESTING, Options, Part, html, read_nested};
use crate::text::Document;

/// A mail's text and its HTML say the same, unless one is only a pointer to the other: shorter by this factor.
const STUB: usize = 3;

/// Parts of one mail, those of mails in it counted.
const MAX_PARTS: usize = 10_000;

/// Reads a mail.
///
/// # Errors
/// Where it is none, or has no text and no attachments are wanted.
pub(super) fn read(bytes: &[u8], options: &Options, depth: usize) -> Result<Vec<Part>, Error> {
    let parts = bytes.split(|b| *b == b'\n').filter(|l| l.len() >= 13 && l[..13].eq_ignore_ascii_case(b"content-type:")).count();
    if parts > MAX_PARTS {
        return Err(Error::Bound(format!("a mail of more than {MAX_PARTS} parts")));
    }
    let message = MessageParser::default()
        .parse(bytes)
        .filter(|m| !m.headers().is_empty())
        .ok_or_else(|| Error::Damaged { kind: Kind::Eml, what: "it has no mail headers".to_owned() })?;
    let day = message.date().and_then(|d| super::date::day_of_seconds(d.to_timestamp()));
    let mut parts = vec![Part { name: None, id: None, record: None, document: body(&message).map(|d| d.dated(day)) }];
    if options.attachments {
        attachments(&message, options, depth, &mut parts);
    }
    // Nothing but an error is no answer.
    if parts.len() == 1 {
        let only = parts.pop().expect("it has one");
        return only.document.map(|document| vec![Part::of(document)]);
    }
    Ok(parts)
}

/// The subject as a heading, then the body: plain text where there is some, HTML otherwise.
fn body(message: &Message<'_>) -> Result<Document, Error> {
    let subject = message.subject().map(|s| s.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|s| !s.is_empty());
    let mut plain = String::new();
    let mut flowed = false;
    let mut pages = Vec::new();
    for part in message.text_bodies() {
        match &part.body {
            PartType::Text(text) => {
                flowed |= part.content_type().and_then(|c| c.attribute("format")).is_some_and(|f| f.eq_ignore_ascii_case("flowed"));
                plain.push_str(text);
                plain.push('\n');
            }
            PartType::Html(page) => pages.push(page.as_ref()),
            _ => {}
        }
    }
    if pages.is_empty() {
        pages.extend(message.html_bodies().filter_map(|p| if let PartType::Html(page) = &p.body { Some(page.as_ref()) } else { None }));
    }
    let html: Vec<Document> = pages.iter().filter_map(|page| html::read_fragment(page).ok()).collect();
    let html_length: usize = html.iter().map(|d| d.text().trim().len()).sum();
    if plain.trim().is_empty() && html_length == 0 {
        return Err(Error::Empty(Kind::Eml));
    }
    if plain.trim().is_empty() || plain.trim().len() * STUB < html_length {
        return Ok(Document::after_heading(subject, html));
    }
    let plain = plain.replace("\r\n", "\n");
    let text = if flowed { unflowed(&plain) } else { plain };
    let text = text.trim_start_matches('\n').to_owned();
    Ok(Document::after_heading(subject, vec![Document::new(super::clean::plain(text))]))
}

/// RFC 3676: a line that ends with a space goes on in the next; the signature mark `-- ` doesn't.
fn unflowed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(line);
        if !line.ends_with(' ') || line == "-- " {
            out.push('\n');
        }
    }
    out
}

fn attachments(message: &Message<'_>, options: &Options, depth: usize, parts: &mut Vec<Part>) {
    for (i, attachment) in message.attachments().enumerate() {
        let name = attachment.attachment_name().map_or_else(|| format!("attachment-{}", i + 1), str::to_owned);
        let part = |document| Part { name: Some(name.clone()), id: None, record: None, document };
        if i >= MAX_ATTACHMENTS {
            parts.push(part(Err(Error::Bound(format!("more than {MAX_ATTACHMENTS} attachments")))));
            return;
        }
        if depth >= MAX_PARTS_NESTING {
            parts.push(part(Err(Error::Bound(format!("mails are nested more than {MAX_PARTS_NESTING} deep")))));
            return;
        }
        let content_type = attachment.content_type().map(|c| format!("{}/{}", c.ctype(), c.subtype().unwrap_or_default()));
        let is_mail = matches!(attachment.body, PartType::Message(_));
        let hints = Hints {
            name: Some(&name),
            content_type: content_type.as_deref().filter(|c| !is_mail && Kind::of_content_type(c) != Some(Kind::Eml)),
            kind: is_mail.then_some(Kind::Eml),
        };
        let bytes = match &attachment.body {
            PartType::Message(inner) => inner.raw_message().to_vec(),
            _ => attachment.contents().to_vec(),
        };
        match read_nested(bytes, hints, options, depth + 1) {
            Err(error) => parts.push(part(Err(error))),
            Ok(inner) => parts.extend(
                inner.into_iter().map(|p| Part { name: Some(p.name.map_or_else(|| name.clone(), |inner| format!("{name}/{inner}"))), ..p }),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(headers: &str, body: &str) -> Vec<u8> {
        format!("From: a@example.com\r\nSubject: =?utf-8?q?Intrusion_at_caf=C3=A9?=\r\nMIME-Version: 1.0\r\n{headers}\r\n\r\n{body}")
            .into_bytes()
    }

    fn texts(bytes: &[u8], attachments: bool) -> Vec<(Option<String>, String)> {
        let options = Options { attachments, ..Options::default() };
        let parts = read(bytes, &options, 0).unwrap();
        parts.into_iter().map(|p| (p.name, p.document.map_or_else(|e| format!("error: {e}"), |d| d.text().to_owned()))).collect()
    }

    #[test]
    fn bodies_are_read_in_the_form_that_says_more() {
        let alternative = |plain: &str, html: &str| {
            mail(
                "Content-Type: multipart/alternative; boundary=x",
                &format!("--x\r\nContent-Type: text/plain\r\n\r\n{plain}\r\n--x\r\nContent-Type: text/html\r\n\r\n{html}\r\n--x--\r\n"),
            )
        };
        let long = "They dumped LSASS memory with Mimikatz and left. ".repeat(5);
        for (bytes, expected) in [
            (mail("Content-Type: text/plain; format=flowed", "One line \r\ngoes on.\r\n\r\n-- \r\nme"), "One line goes on.\n\n-- \nme\n"),
            (mail("Content-Type: text/plain; charset=utf-8", "\r\nIntrusion at café\r\n\r\nText."), "Text.\n"),
            (mail("Content-Type: text/html", "<p>A <b>page</b>.</p><ul><li>x</ul>"), "A page.\n\n- x\n"),
            (alternative("Text.", "<p>Page.</p>"), "Text.\n"),
            (alternative("See the page.", &format!("<p>{long}</p>")), &format!("{}\n", long.trim())),
            (mail("Content-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=utf-8", "Y2Fmw6kuCg=="), "café.\n"),
        ] {
            assert_eq!(texts(&bytes, false)[0].1, format!("Intrusion at café\n\n{expected}"));
        }
    }

    #[test]
    fn attachments_are_documents_of_their_own_where_they_are_wanted() {
        let part = |kind: &str, name: &str, body: &str| {
            format!("--x\r\nContent-Type: {kind}\r\nContent-Disposition: attachment; filename={name}\r\n\r\n{body}\r\n")
        };
        let inner = String::from_utf8(mail("Content-Type: text/plain", "Inner.")).unwrap();
        let body = format!(
            "--x\r\nContent-Type: text/plain\r\n\r\nHello.\r\n{}{}{}--x--\r\n",
            part("text/plain", "notes.md", "# Notes\r\n\r\nT1490."),
            part("image/png", "a.png", "\u{89}PNG not really"),
            part("message/rfc822", "inner.eml", &inner)
        );
        let bytes = mail("Content-Type: multipart/mixed; boundary=x", &body);
        assert_eq!(texts(&bytes, false).len(), 1);
        let all = texts(&bytes, true);
        let names: Vec<Option<&str>> = all.iter().map(|(n, _)| n.as_deref()).collect();
        assert_eq!(names, [None, Some("notes.md"), Some("a.png"), Some("inner.eml")], "{all:?}");
        assert!(all[1].1.contains("T1490") && all[3].1.contains("Inner."), "{all:?}");
    }

    #[test]
    fn mails_in_mails_end_somewhere() {
        let mut bytes = mail("Content-Type: text/plain", "Innermost.");
        for _ in 0..40 {
            bytes = mail("Content-Type: message/rfc822", &String::from_utf8(bytes).unwrap());
        }
        let _ = read(&bytes, &Options { attachments: true, ..Options::default() }, 0);
        assert!(matches!(read(b"\r\n\r\n", &Options::default(), 0), Err(Error::Damaged { .. } | Error::Empty(_))));
    }
}
