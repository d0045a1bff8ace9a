//! A [`Mapping`](crate::Mapping) in the formats that people and programs take it in.

pub mod json;
pub mod navigator;
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
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 5] = [Format::Table, Format::Json, Format::Jsonl, Format::Navigator, Format::Svg];

    /// Its name, as `--format` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Navigator => "navigator",
            Format::Svg => "svg",
        }
    }

    /// The format that a file name asks for, where it does.
    pub fn of_path(path: &std::path::Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "txt" => Some(Format::Table),
            "svg" => Some(Format::Svg),
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
