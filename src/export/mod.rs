//! A [`Mapping`](crate::Mapping) in the formats that people and programs take it in.

pub mod assembly;
pub mod csv;
pub mod handoff;
pub mod json;
pub mod markdown;
pub mod misp;
pub mod navigator;
pub(crate) mod profiles;
pub mod sarif;
pub mod stix;
pub mod table;

use std::str::FromStr;

/// A format of `map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// For reading in a terminal.
    Table,
    /// One JSON object, or an array of them.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// An ATT&CK Navigator layer.
    Navigator,
    /// The matrix as a picture.
    Svg,
    /// Comma-separated values, safe in a spreadsheet.
    Csv,
    /// For tickets and wikis.
    Markdown,
    /// A STIX 2.1 bundle.
    Stix,
    /// A MISP event.
    Misp,
    /// SARIF 2.1.0.
    Sarif,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 10] = [
        Format::Table,
        Format::Json,
        Format::Jsonl,
        Format::Navigator,
        Format::Svg,
        Format::Csv,
        Format::Markdown,
        Format::Stix,
        Format::Misp,
        Format::Sarif,
    ];

    /// Its name, as `--format` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Navigator => "navigator",
            Format::Svg => "svg",
            Format::Csv => "csv",
            Format::Markdown => "markdown",
            Format::Stix => "stix",
            Format::Misp => "misp",
            Format::Sarif => "sarif",
        }
    }

    /// The format that a file name asks for, where it does. Of the formats that are JSON the name may tell which:
    /// `case.stix.json`, `case.misp.json`, `case.sarif.json`.
    pub fn of_path(path: &std::path::Path) -> Option<Format> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        let before = path.file_stem().map(std::path::Path::new).and_then(|stem| stem.extension()?.to_str());
        match (before.map(str::to_ascii_lowercase).as_deref(), ending.as_str()) {
            (Some("stix" | "stix2" | "stix21"), "json") => return Some(Format::Stix),
            (Some("misp"), "json") => return Some(Format::Misp),
            (Some("sarif"), "json") => return Some(Format::Sarif),
            _ => {}
        }
        match ending.as_str() {
            "json" => Some(Format::Json),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "txt" => Some(Format::Table),
            "svg" => Some(Format::Svg),
            "csv" => Some(Format::Csv),
            "md" | "markdown" => Some(Format::Markdown),
            "stix" => Some(Format::Stix),
            "sarif" => Some(Format::Sarif),
            _ => None,
        }
    }
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format")]
pub struct ParseFormatError(String);

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Format, ParseFormatError> {
        Format::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| ParseFormatError(text.to_owned()))
    }
}

/// A document in one of the formats, on its way into a file; see [`assembly`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rendered {
    /// What is written of the document itself.
    pub text: String,
    /// Objects of ATT&CK that it points at, which the file has to hold once.
    pub refs: Vec<crate::AttackId>,
    /// Its ID in the file, where the format gives one.
    pub id: Option<String>,
}

/// What a mapping is of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Source {
    /// The record's ID in a JSONL input, as it was given; the file name otherwise.
    pub id: serde_json::Value,
    /// File name, or `-` for standard input.
    pub source: String,
    /// A title, where the input gives one.
    pub title: Option<String>,
    /// Fields of a JSONL record that ttpmap doesn't read.
    pub record: Option<serde_json::Map<String, serde_json::Value>>,
}
