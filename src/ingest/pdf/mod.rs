//! PDF: the text as it stands on the pages.
//!
//! hayro-syntax reads the file and hayro-font its fonts; [`content`] runs the drawing instructions as far as they place
//! text and draw the lines of tables; [`rules`] finds those tables; [`layout`] turns what was placed into columns, lines, paragraphs, rows and headings. Work is bounded by counters:
//! pages, bytes and operators of content, depth of forms within forms, bytes inflated.

mod content;
mod guard;
mod layout;
mod rules;

use hayro_font::FontCache;
use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};

use super::{Error, Kind, MAX_PAGES};
use crate::text::Document;

/// What a page shows, in points from its top left corner.
struct PageText {
    height: f64,
    runs: Vec<Run>,
}

/// Characters that were placed beside each other in one font.
#[derive(Debug, Clone)]
struct Run {
    x0: f64,
    x1: f64,
    /// The baseline.
    y: f64,
    /// Font size.
    size: f64,
    bold: bool,
    /// All characters of the font are of one width.
    mono: bool,
    text: String,
    /// A whole table that stands here instead of text.
    table: Option<TableText>,
}

/// The text in the cells of a table whose lines are drawn, by row and column.
#[derive(Debug, Clone)]
struct TableText {
    cells: Vec<Vec<Vec<Run>>>,
}

/// Reads a document.
///
/// # Errors
/// Where it is damaged, encrypted or over a bound, or its pages show no text.
pub(super) fn read(bytes: Vec<u8>) -> Result<Document, Error> {
    guard::check(&bytes)?;
    let pdf = Pdf::new(bytes).map_err(|e| match e {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => Error::Encrypted(Kind::Pdf),
        LoadPdfError::Decryption(_) => damaged("its encryption is of an unknown kind"),
        LoadPdfError::Invalid => damaged("it has no readable pages, or is cut off"),
    })?;
    let pages = pdf.pages();
    if pages.len() > MAX_PAGES {
        return Err(Error::Bound(format!("{} pages, and {MAX_PAGES} are the most", pages.len())));
    }
    let fonts = FontCache::new();
    let mut budget = content::Budget::default();
    let mut texts = Vec::with_capacity(pages.len());
    for page in pages.iter() {
        texts.push(content::page(page, &fonts, &mut budget)?);
    }
    if budget.glyphs == 0 {
        let pages = match pages.len() {
            0 => return Err(damaged("it has no pages, or is cut off")),
            1 => "page".to_owned(),
            n => format!("{n} pages"),
        };
        return Err(Error::NoText { pages });
    }
    if budget.unknown * 2 > budget.glyphs {
        return Err(damaged("its fonts don't tell which characters they show (run OCR on it)"));
    }
    let title = pdf.metadata().title.as_ref().map(|t| content::text_string(t));
    let title = title.map(|t| t.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|t| !t.is_empty());
    // When it was made; the offset is left out, for it is often missing.
    let made = pdf.metadata().creation_date.as_ref().map(|d| format!("{:04}-{:02}-{:02}", d.year, d.month, d.day));
    Ok(layout::document(texts, title)?.dated(made.and_then(|d| super::day(&d))))
}

fn damaged(what: &str) -> Error {
    Error::Damaged { kind: Kind::Pdf, what: what.to_owned() }
}
