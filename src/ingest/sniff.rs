//! What bytes are: by their content where it says so, else by media type and name.

use super::{Error, Hints, Kind};

/// PDF readers look for the header in so many bytes.
const PDF_HEADER_WITHIN: usize = 1024;

/// The kind to read bytes as.
///
/// # Errors
/// Where they are of a kind that is not read.
pub(super) fn kind(bytes: &[u8], hints: &Hints<'_>) -> Result<Kind, Error> {
    if let Some(kind) = hints.kind {
        return Ok(kind);
    }
    if let Some(kind) = binary(bytes)? {
        return Ok(kind);
    }
    let told = hints.name.and_then(Kind::of_name);
    let declared = hints.content_type.and_then(Kind::of_content_type);
    // "text/plain" is what servers and mail programs say where they don't know.
    let told = declared.filter(|k| *k != Kind::Text).or(told).or(declared);
    let kind = match told {
        Some(kind @ (Kind::Json | Kind::Jsonl | Kind::Markdown)) => kind,
        _ if is_html(bytes) => Kind::Html,
        _ if is_mail(bytes) => Kind::Eml,
        Some(kind) => kind,
        None => Kind::Text,
    };
    match kind {
        Kind::Pdf if !bytes.is_empty() => Err(Error::Damaged { kind, what: "it has no PDF header".to_owned() }),
        Kind::Docx if !bytes.is_empty() => Err(Error::Damaged { kind, what: "it is no zip archive".to_owned() }),
        kind => Ok(kind),
    }
}

/// Kinds told by the magic numbers at their beginning.
fn binary(bytes: &[u8]) -> Result<Option<Kind>, Error> {
    let unsupported = |what, cure| Err(Error::Unsupported { what, cure });
    let head = &bytes[..bytes.len().min(PDF_HEADER_WITHIN)];
    if head.windows(5).any(|w| w == b"%PDF-") && !is_html(bytes) && (head.starts_with(b"%PDF-") || std::str::from_utf8(head).is_err()) {
        return Ok(Some(Kind::Pdf));
    }
    match bytes {
        [b'P', b'K', 3, 4, ..] => {
            // Names stand beside the first files and in the directory at the end.
            let (first, last) = (&bytes[..bytes.len().min(1 << 16)], &bytes[bytes.len().saturating_sub(1 << 20)..]);
            let holds = |name: &[u8]| [first, last].iter().any(|part| part.windows(name.len()).any(|w| w == name));
            if holds(b"xl/workbook.xml") || holds(b"ppt/presentation.xml") || holds(b"mimetypeapplication/vnd.oasis") {
                return unsupported("this office format", "save it as DOCX or PDF");
            }
            // Also what is damaged: the reader says in which way.
            if holds(b"word/") || holds(b"[Content_Types].xml") {
                return Ok(Some(Kind::Docx));
            }
            unsupported("a zip archive", "unpack it and name the files")
        }
        [b'P', b'K', 5, 6, ..] => unsupported("an empty zip archive", "it holds nothing"),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => unsupported("an old Office or Outlook file (.doc, .msg)", "save it as DOCX, PDF or EML"),
        [b'{', b'\\', b'r', b't', b'f', ..] => unsupported("RTF", "save it as DOCX or PDF"),
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] | [b'G', b'I', b'F', b'8', ..] => {
            unsupported("an image", "ttpmap recognises no text in images (run OCR first)")
        }
        [b'7', b'z', 0xbc, 0xaf, ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] | [b'B', b'Z', b'h', ..] | [b'R', b'a', b'r', b'!', ..] => {
            unsupported("this archive format", "unpack it (gzip and zstd are read as they are)")
        }
        _ => Ok(None),
    }
}

/// Begins as HTML does, after white space, comments and an XML declaration.
fn is_html(bytes: &[u8]) -> bool {
    // UTF-16 and the like are told by their name.
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let mut rest = head.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = if rest.starts_with("<!--") {
            "-->"
        } else if rest.starts_with("<?xml") {
            "?>"
        } else {
            break;
        };
        match rest.find(end) {
            Some(at) => rest = rest[at + end.len()..].trim_start(),
            None => return false,
        }
    }
    let lower = rest.get(..rest.len().min(15)).unwrap_or(rest).to_ascii_lowercase();
    ["<!doctype html", "<html", "<head>", "<body"].iter().any(|tag| lower.starts_with(tag))
}

/// Begins with a header block that only a mail has: a Message-ID or MIME-Version, and who it is from. A ticket that
/// quotes From, Subject and Date is none.
fn is_mail(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64 << 10)]);
    let mut lines = head.lines().peekable();
    // mbox files and mail stores put a line before the headers.
    lines.next_if(|l| l.starts_with("From "));
    let (mut from, mut mime, mut count) = (false, false, 0);
    for line in lines {
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) && count > 0 {
            continue;
        }
        let Some((name, _)) = line.split_once(':') else { return false };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return false;
        }
        count += 1;
        from |= name.eq_ignore_ascii_case("from");
        mime |= name.eq_ignore_ascii_case("message-id") || name.eq_ignore_ascii_case("mime-version");
    }
    from && mime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_says_what_it_is_before_the_name_does() {
        type Case = (&'static [u8], Option<&'static str>, Option<&'static str>, Kind);
        let cases: [Case; 13] = [
            (b"They ran whoami.", None, None, Kind::Text),
            (b"%PDF-1.7\n", Some("a.txt"), None, Kind::Pdf),
            (b"\n<!-- saved --> <!DOCTYPE HTML><p>a", Some("a.txt"), None, Kind::Html),
            (b"<?xml version='1.0'?><html>", None, None, Kind::Html),
            (b"a", Some("a.html"), None, Kind::Html),
            (b"a", Some("a.txt"), Some("text/html; charset=utf-8"), Kind::Html),
            (b"a", Some("a.md"), Some("text/plain"), Kind::Markdown),
            (b"<html>", Some("a.md"), None, Kind::Markdown),
            (b"From: a@example.com\nMIME-Version: 1.0\nSubject: b\n c\n\nbody", None, None, Kind::Eml),
            (b"From: a@example.com\nSubject: b\n\nbody", Some("a.txt"), None, Kind::Text),
            (b"From: a@example.com\nSubject: b\n\nbody", Some("a.eml"), None, Kind::Eml),
            (b"{}", Some("a.json"), None, Kind::Json),
            (b"PK\x03\x04....word/document.xml", Some("a.zip"), None, Kind::Docx),
        ];
        for (bytes, name, content_type, expected) in cases {
            let found = kind(bytes, &Hints { name, content_type, kind: None }).unwrap();
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(kind(b"%PDF-1.7", &Hints { kind: Some(Kind::Text), ..Hints::default() }).unwrap(), Kind::Text);
    }

    #[test]
    fn what_is_not_read_is_named_with_a_cure() {
        for (bytes, part) in [
            (&b"PK\x03\x04....xl/workbook.xml"[..], "save it as DOCX"),
            (b"PK\x03\x04....a.txt", "unpack it"),
            (b"\xd0\xcf\x11\xe0", "old Office"),
            (b"{\\rtf1", "RTF"),
            (b"\x89PNG\r\n", "images"),
        ] {
            let error = kind(bytes, &Hints::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(matches!(kind(b"no", &Hints { name: Some("a.pdf"), ..Hints::default() }), Err(Error::Damaged { .. })));
    }
}
