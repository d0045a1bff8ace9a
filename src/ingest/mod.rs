//! Foreign bytes as [`Document`]s: one entry, [`read`], and a reader for each kind behind it.
//!
//! ```text
//! bytes + hints -> inflated (gzip, zstd) -> kind (by content, then by name) -> reader -> Document
//! ```
//!
//! Every reader keeps to bounds that stand here, counts its work and not its time, and gives an [`Error`] that says
//! what is wrong and what to do. What docs/reading.md tells users is decided here.

mod clean;
mod compressed;
mod date;
#[cfg(feature = "docx")]
mod docx;
mod encoding;
mod html;
mod json;
mod mail;
#[cfg(feature = "pdf")]
mod pdf;
mod sniff;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::text::{Document, MAX_TEXT_BYTES};
pub use compressed::{Counted, unpacked};
pub use date::day;
pub use json::{record, take};

/// What compressed parts of one input may inflate to, all together.
pub const MAX_INFLATED_BYTES: u64 = 256 << 20;
/// How many times its compressed size a part may inflate to, once it is over a mebibyte.
pub const MAX_INFLATION: u64 = 200;
/// Pages of a PDF.
pub const MAX_PAGES: usize = 5_000;
/// Elements open at a time in HTML and XML; deeper ones are read as if they were siblings (HTML) or refused (XML).
pub const MAX_NESTING: usize = 512;
/// Mails within mails, and compressed files within compressed files.
pub const MAX_PARTS_NESTING: usize = 4;
/// Attachments of one mail.
pub const MAX_ATTACHMENTS: usize = 1_000;

/// A kind of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Plain text.
    Text,
    /// Markdown.
    Markdown,
    /// A web page, or HTML of another source.
    Html,
    /// A PDF.
    Pdf,
    /// A Word document (Office Open XML).
    Docx,
    /// A mail (RFC 5322, MIME).
    Eml,
    /// One JSON object with a text in it, or an array of them.
    Json,
    /// One JSON object a line.
    Jsonl,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] = [Kind::Text, Kind::Markdown, Kind::Html, Kind::Pdf, Kind::Docx, Kind::Eml, Kind::Json, Kind::Jsonl];

    /// Its name, as `--input` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Markdown => "markdown",
            Kind::Html => "html",
            Kind::Pdf => "pdf",
            Kind::Docx => "docx",
            Kind::Eml => "eml",
            Kind::Json => "json",
            Kind::Jsonl => "jsonl",
        }
    }

    /// The kind that a file name asks for, a `.gz` or `.zst` at its end left out; none where its extension is of no kind.
    pub fn of_name(name: &str) -> Option<Kind> {
        let lower = name.to_ascii_lowercase();
        let lower = [".gz", ".zst"].iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
        match Path::new(lower).extension()?.to_str()? {
            "txt" | "text" | "log" | "rst" | "adoc" => Some(Kind::Text),
            "md" | "markdown" => Some(Kind::Markdown),
            "html" | "htm" | "xhtml" => Some(Kind::Html),
            "pdf" => Some(Kind::Pdf),
            "docx" | "docm" => Some(Kind::Docx),
            "eml" => Some(Kind::Eml),
            "json" => Some(Kind::Json),
            "jsonl" | "ndjson" => Some(Kind::Jsonl),
            _ => None,
        }
    }

    /// The kind that a media type (RFC 9110, parameters allowed) names.
    pub fn of_content_type(content_type: &str) -> Option<Kind> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "text/plain" => Some(Kind::Text),
            "text/markdown" => Some(Kind::Markdown),
            "text/html" | "application/xhtml+xml" => Some(Kind::Html),
            "application/pdf" => Some(Kind::Pdf),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Some(Kind::Docx),
            "message/rfc822" => Some(Kind::Eml),
            "application/json" => Some(Kind::Json),
            "application/jsonl" | "application/x-ndjson" => Some(Kind::Jsonl),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Text => "text",
            Kind::Markdown => "Markdown",
            Kind::Html => "HTML",
            Kind::Pdf => "PDF",
            Kind::Docx => "DOCX",
            Kind::Eml => "mail",
            Kind::Json => "JSON",
            Kind::Jsonl => "JSON Lines",
        })
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Kind, ()> {
        Kind::ALL.into_iter().find(|k| k.name() == text).ok_or(())
    }
}

/// Why an input gives no text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It can't be read.
    #[error("reading it")]
    Read(#[source] std::io::Error),
    /// Over [`MAX_TEXT_BYTES`], as it is or inflated.
    #[error("larger than {} MiB, the most that one document may have", MAX_TEXT_BYTES >> 20)]
    TooLarge,
    /// It has bytes that no text has.
    #[error("not text: {0}")]
    NotText(&'static str),
    /// A file of a kind that is not read.
    #[error("{what} is not read: {cure}")]
    Unsupported {
        /// The kind, with its article.
        what: &'static str,
        /// What to do instead.
        cure: &'static str,
    },
    /// This build leaves the kind out.
    #[error("this ttpmap was built without {kind} (Cargo feature `{name}`)", kind = .0, name = .0.name())]
    NotBuiltIn(Kind),
    /// There is nothing in it.
    #[error("empty: no {0} in it")]
    Empty(Kind),
    /// It is not what it says it is, or only a part of that.
    #[error("damaged {kind}: {what}")]
    Damaged {
        /// What it should be.
        kind: Kind,
        /// What is wrong with it.
        what: String,
    },
    /// It can't be read without a password.
    #[error("encrypted {0}: save a copy without a password first")]
    Encrypted(Kind),
    /// Pages, but no text on them.
    #[error("no text on its {pages}, only images or drawings: ttpmap recognises no text in images (run OCR first, e.g. ocrmypdf)")]
    NoText {
        /// How many pages, with the word.
        pages: String,
    },
    /// Over a bound of this module.
    #[error("too much in one input: {0}")]
    Bound(String),
    /// A JSON input without the text that is asked for.
    #[error("{0}")]
    Field(String),
}

/// What is known of bytes before they are read. What they are is told by their content first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// File name, or the path of a URL.
    pub name: Option<&'a str>,
    /// Media type, as HTTP and MIME give it, with its charset.
    pub content_type: Option<&'a str>,
    /// What it is to be read as, whatever it looks like.
    pub kind: Option<Kind>,
}

/// What is wanted of an input.
#[derive(Debug, Clone)]
pub struct Options {
    /// Mails: the attachments too, each as a document of its own.
    pub attachments: bool,
    /// JSON and JSON Lines: where the text stands, see [`take`].
    pub text_field: String,
    /// JSON and JSON Lines: where the ID stands.
    pub id_field: String,
    /// JSON and JSON Lines: where the date stands. It is looked at and not taken.
    pub date_field: String,
}

impl Default for Options {
    fn default() -> Options {
        let field = str::to_owned;
        Options { attachments: false, text_field: field("text"), id_field: field("id"), date_field: field("date") }
    }
}

/// A document of an input, or why there is none.
#[derive(Debug)]
pub struct Part {
    /// The name of an attachment; none for the input itself.
    pub name: Option<String>,
    /// JSON: the record's own ID, or its place from 1 where there are several.
    pub id: Option<Value>,
    /// JSON: the fields that were not read.
    pub record: Option<Map<String, Value>>,
    /// The document.
    pub document: Result<Document, Error>,
}

impl Part {
    fn of(document: Document) -> Part {
        Part { name: None, id: None, record: None, document: Ok(document) }
    }
}

/// Reads one input: one part, or more for JSON with several records and for mails with their attachments.
///
/// # Errors
/// Where nothing can be read at all. A bad record or attachment is an error in its part.
pub fn read(bytes: Vec<u8>, hints: Hints<'_>, options: &Options) -> Result<Vec<Part>, Error> {
    read_nested(bytes, hints, options, 0)
}

/// Bytes as text in whatever encoding, as [`read`] tells it, and nothing cleaned: for files that are no narratives.
///
/// # Errors
/// Where the bytes are binary.
pub fn decode(bytes: Vec<u8>) -> Result<String, Error> {
    encoding::decode(bytes, None)
}

fn read_nested(bytes: Vec<u8>, hints: Hints<'_>, options: &Options, depth: usize) -> Result<Vec<Part>, Error> {
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Error::TooLarge);
    }
    if let Some(inner) = compressed::inflate(&bytes)? {
        if depth >= MAX_PARTS_NESTING {
            return Err(Error::Bound(format!("compressed more than {MAX_PARTS_NESTING} times over")));
        }
        drop(bytes);
        // The media type was the packed file's.
        return read_nested(inner, Hints { content_type: None, ..hints }, options, depth + 1);
    }
    let kind = sniff::kind(&bytes, &hints)?;
    if bytes.is_empty() && !matches!(kind, Kind::Text | Kind::Markdown | Kind::Jsonl) {
        return Err(Error::Empty(kind));
    }
    let charset = hints.content_type.and_then(encoding::charset);
    let document = match kind {
        Kind::Text => Document::new(clean::plain(encoding::decode(bytes, charset.as_deref())?)),
        Kind::Markdown => Document::markdown(clean::plain(encoding::decode(bytes, charset.as_deref())?)),
        Kind::Html => html::read(&encoding::decode_html(bytes, charset.as_deref())?)?,
        Kind::Pdf => apart(kind, || read_pdf(bytes))?,
        Kind::Docx => apart(kind, || read_docx(&bytes))?,
        Kind::Eml => return apart(kind, || mail::read(&bytes, options, depth)),
        Kind::Json => return json::read(encoding::decode(bytes, charset.as_deref())?.as_bytes(), options),
        Kind::Jsonl => return json::read_lines(encoding::decode(bytes, charset.as_deref())?.as_bytes(), options),
    };
    Ok(vec![Part::of(document)])
}

/// The name of the threads that foreign parsers run in.
pub const PARSER_THREAD: &str = "ttpmap-parser";
/// Their stack: parsers recurse, within bounds of their own.
const PARSER_STACK: usize = 16 << 20;

/// Runs a foreign parser where its panic is an error like any other.
fn apart<T: Send>(kind: Kind, read: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name(PARSER_THREAD.to_owned()).stack_size(PARSER_STACK);
        let thread = builder.spawn_scoped(scope, read).map_err(Error::Read)?;
        thread.join().unwrap_or_else(|_| Err(Error::Damaged { kind, what: "its parser gave up on it".to_owned() }))
    })
}

#[cfg(feature = "pdf")]
fn read_pdf(bytes: Vec<u8>) -> Result<Document, Error> {
    pdf::read(bytes)
}

#[cfg(not(feature = "pdf"))]
fn read_pdf(_: Vec<u8>) -> Result<Document, Error> {
    Err(Error::NotBuiltIn(Kind::Pdf))
}

#[cfg(feature = "docx")]
fn read_docx(bytes: &[u8]) -> Result<Document, Error> {
    docx::read(bytes)
}

#[cfg(not(feature = "docx"))]
fn read_docx(_: &[u8]) -> Result<Document, Error> {
    Err(Error::NotBuiltIn(Kind::Docx))
}

/// Reads one input to its end, within the bound.
///
/// # Errors
/// Where reading fails or there is more than the bound.
pub fn read_bounded(reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::Read)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES { Err(Error::TooLarge) } else { Ok(bytes) }
}

/// Reads one file within the bound. Anything but a regular file (a FIFO, a device) is refused.
///
/// # Errors
/// As [`read_bounded`].
pub fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let meta = std::fs::metadata(path).map_err(Error::Read)?;
    if !meta.is_file() {
        return Err(Error::Read(std::io::Error::other("not a regular file")));
    }
    if meta.len() > MAX_TEXT_BYTES {
        return Err(Error::TooLarge);
    }
    let file = std::fs::File::open(path).map_err(Error::Read)?;
    read_bounded(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_bound_is_refused() {
        assert!(matches!(read_bounded(std::io::repeat(b'a')), Err(Error::TooLarge)));
        assert!(matches!(read(vec![b'a'; MAX_TEXT_BYTES as usize + 1], Hints::default(), &Options::default()), Err(Error::TooLarge)));
    }

    #[test]
    fn names_and_media_types_name_kinds() {
        for (name, kind) in [
            ("a.txt", Some(Kind::Text)),
            ("dir.pdf/a.HTML", Some(Kind::Html)),
            ("a.jsonl.gz", Some(Kind::Jsonl)),
            ("a.docx.zst", Some(Kind::Docx)),
            ("README", None),
            ("a.xyz", None),
        ] {
            assert_eq!(Kind::of_name(name), kind, "{name}");
        }
        assert_eq!(Kind::of_content_type("Text/HTML; charset=utf-8"), Some(Kind::Html));
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
    }
}
