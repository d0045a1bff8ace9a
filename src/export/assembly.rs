//! Mappings of many documents as one file: what stands before, between and behind them.
//!
//! A document is rendered by itself, on any thread ([`render`]); an [`Assembly`] puts the pieces together in order. It
//! keeps no document, only which objects of ATT&CK were pointed at (and 16 bytes for each STIX report), so memory hardly
//! grows with the input.

use std::collections::{BTreeSet, HashSet};

use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::handoff::HandOff;
use super::{Format, Rendered, Source, csv, json as records, markdown, misp, navigator, sarif, stix, table};
use crate::index::Index;
use crate::kb::id::AttackId;
use crate::layer::matrix::Show;
use crate::layer::svg;
use crate::rank::Mapping;
use crate::text::Document;

/// Errors that a SARIF file lists; more are counted.
const NOTIFICATIONS: usize = 1000;

/// A mapping in one of the formats. `layout` is for tables alone.
pub fn render<D: AsRef<[u8]>>(
    format: Format,
    index: &Index<D>,
    (source, document, mapping): (&Source, &Document, &Mapping),
    hand_off: &HandOff,
    layout: table::Layout,
) -> Rendered {
    let plain = |text: String| Rendered { text, ..Rendered::default() };
    match format {
        Format::Table => plain(table::table(index, source, document, mapping, layout)),
        Format::Json => plain(records::pretty(index, source, document, mapping)),
        Format::Jsonl => plain(records::line(index, source, document, mapping)),
        Format::Navigator => plain(navigator::layer(index, source, document, mapping, &hand_off.statuses).to_json()),
        Format::Svg => {
            let layer = navigator::layer(index, source, document, mapping, &hand_off.statuses);
            plain(svg::svg(&layer, index, Show::Annotated))
        }
        Format::Csv => csv::rows(index, source, document, mapping, hand_off),
        Format::Markdown => markdown::page(index, source, document, mapping, hand_off),
        Format::Stix => stix::objects(index, source, document, mapping, hand_off),
        Format::Misp => misp::event(index, source, document, mapping, hand_off),
        Format::Sarif => sarif::results(index, source, document, mapping, hand_off),
    }
}

/// What stands in the place of a document that could not be read; empty where a format has no place for it.
pub fn render_error(format: Format, source: &Source, error: &str) -> Rendered {
    match format {
        Format::Json | Format::Jsonl => Rendered { text: records::error_line(source, error), ..Rendered::default() },
        _ => Rendered::default(),
    }
}

/// Pieces on their way into one file. First [`head`](Assembly::head), then each [`item`](Assembly::item), then
/// [`tail`](Assembly::tail): what they return is the file.
pub struct Assembly<'a, D> {
    index: &'a Index<D>,
    format: Format,
    /// Whether more than one document is expected: some formats then make a list.
    many: bool,
    items: usize,
    refs: BTreeSet<AttackId>,
    /// The documents' own IDs, where they have one: each goes in once.
    ids: HashSet<Uuid>,
    digest: Sha256,
    errors: Vec<String>,
    more_errors: usize,
}

impl<'a, D: AsRef<[u8]>> Assembly<'a, D> {
    /// Begins a file.
    pub fn new(index: &'a Index<D>, format: Format, many: bool) -> Assembly<'a, D> {
        Assembly {
            index,
            format,
            many,
            items: 0,
            refs: BTreeSet::new(),
            ids: HashSet::new(),
            digest: Sha256::new(),
            errors: Vec::new(),
            more_errors: 0,
        }
    }

    /// What the file begins with.
    pub fn head(&mut self) -> String {
        match self.format {
            Format::Json | Format::Navigator if self.many => "[\n".to_owned(),
            Format::Misp if self.many => "{\"response\": [\n".to_owned(),
            Format::Csv => csv::row(csv::COLUMNS),
            Format::Stix => {
                self.items = 1;
                format!("{{\n  \"type\": \"bundle\",\n  \"objects\": [\n{}", stix::pretty(&stix::identity()))
            }
            Format::Sarif => {
                let schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
                format!("{{\n  \"$schema\": \"{schema}\",\n  \"version\": \"2.1.0\",\n  \"runs\": [\n    {{\n      \"results\": [\n")
            }
            _ => String::new(),
        }
    }

    /// A document's piece, with what separates it from the one before; `error` is that of one that could not be read.
    pub fn item(&mut self, rendered: &Rendered, error: Option<&str>) -> String {
        if let Some(error) = error {
            if self.errors.len() < NOTIFICATIONS { self.errors.push(error.to_owned()) } else { self.more_errors += 1 }
        }
        let mut pieces = Vec::new();
        if let Some(id) = &rendered.id {
            let uuid = id.rsplit_once("--").and_then(|(_, uuid)| uuid.parse().ok()).unwrap_or_default();
            if !self.ids.insert(uuid) {
                return String::new();
            }
            self.digest.update(id);
        }
        for id in &rendered.refs {
            if self.refs.insert(*id) && self.format == Format::Stix {
                pieces.extend(stix::stub(self.index, *id).map(|o| stix::pretty(&o)));
            }
        }
        if !rendered.text.is_empty() {
            pieces.push(rendered.text.clone());
        }
        if pieces.is_empty() {
            return String::new();
        }
        let listed = matches!(self.format, Format::Stix | Format::Sarif)
            || self.many && matches!(self.format, Format::Json | Format::Navigator | Format::Misp);
        let mut out = match self.format {
            _ if self.items == 0 => String::new(),
            Format::Table | Format::Markdown => "\n".to_owned(),
            _ if listed => ",\n".to_owned(),
            _ => String::new(),
        };
        self.items += 1;
        out += &pieces.join(",\n");
        if !listed && !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }

    /// What the file ends with.
    pub fn tail(&mut self) -> String {
        match self.format {
            Format::Json | Format::Navigator if self.many => "\n]\n".to_owned(),
            Format::Misp if self.many => "\n]}\n".to_owned(),
            Format::Stix => {
                let digest = crate::source::hex(&std::mem::take(&mut self.digest).finalize());
                format!("\n  ],\n  \"id\": \"bundle--{}\"\n}}\n", stix::uuid_of(&["bundle", &digest]))
            }
            Format::Sarif => self.sarif_tail(),
            _ => String::new(),
        }
    }

    fn sarif_tail(&self) -> String {
        let rules: Vec<_> = self.refs.iter().filter_map(|id| sarif::rule(self.index, *id)).collect();
        let notification = |text: &String| json!({"level": "error", "message": {"text": super::handoff::line(text, 1000)}});
        let mut notifications: Vec<_> = self.errors.iter().map(notification).collect();
        if self.more_errors > 0 {
            notifications.push(notification(&format!("and {} more inputs that could not be read", self.more_errors)));
        }
        let tool = json!({"driver": {
            "name": "ttpmap",
            "version": env!("CARGO_PKG_VERSION"),
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        }});
        let attack = json!({"attack": {"domain": self.index.domain().attack_name(), "version": self.index.version()}});
        let invocation = json!([{"executionSuccessful": notifications.is_empty(), "toolExecutionNotifications": notifications}]);
        let fields = [
            ("tool", tool),
            ("columnKind", json!("utf16CodeUnits")),
            ("newlineSequences", json!(["\r\n", "\n"])),
            ("invocations", invocation),
            ("properties", attack),
        ];
        let fields: Vec<String> =
            fields.iter().map(|(key, value)| format!("      \"{key}\": {}", sarif::indented(value, 6).trim_start())).collect();
        let end = if self.items > 0 { "\n" } else { "" };
        format!("{end}      ],\n{}\n    }}\n  ]\n}}\n", fields.join(",\n"))
    }
}
