//! JSON, schema `ttpmap/1`: a contract. Fields may be added within `/1`, never renamed or removed.

use serde::Serialize;
use serde_json::Value;

use super::Source;
use crate::index::Index;
use crate::rank::{Evidence, Found, Implied, Mapping, SCHEMA};
use crate::text::Document;

#[derive(Serialize)]
struct Record<'a> {
    schema: &'static str,
    id: &'a Value,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    attack: Attack<'a>,
    techniques: Vec<Technique<'a>>,
    tactics: Vec<Technique<'a>>,
    groups: Vec<Technique<'a>>,
    software: Vec<Technique<'a>>,
    campaigns: Vec<Technique<'a>>,
    implied: Vec<ImpliedTechnique<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    similar_groups: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    defenses: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a serde_json::Map<String, Value>>,
}

#[derive(Serialize)]
struct Attack<'a> {
    domain: &'static str,
    version: &'a str,
}

#[derive(Serialize)]
struct Technique<'a> {
    id: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tactics: Option<&'a [String]>,
    confidence: Rounded,
    status: &'static str,
    redirected_from: Option<String>,
    evidence: Vec<Piece<'a>>,
}

#[derive(Serialize)]
struct Piece<'a> {
    start: usize,
    end: usize,
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paragraph: Option<u32>,
    text: &'a str,
    status: &'static str,
    confidence: Rounded,
    by: &'static str,
    why: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tactic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<Second>,
    #[serde(skip_serializing_if = "Option::is_none")]
    procedure: Option<RecordedProcedure<'a>>,
}

#[derive(Serialize)]
struct RecordedProcedure<'a> {
    actor: String,
    text: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
struct Second {
    id: String,
    confidence: Rounded,
}

#[derive(Serialize)]
struct ImpliedTechnique<'a> {
    id: String,
    name: &'a str,
    tactics: &'a [String],
    through: Vec<String>,
}

/// A confidence with three digits: more would pretend.
struct Rounded(f32);

impl Serialize for Rounded {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((f64::from(self.0) * 1000.0).round() / 1000.0)
    }
}

/// The record of one document, as a line of JSON without its line end.
///
/// # Panics
/// Never: every key is a string and every number finite.
pub fn line<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping) -> String {
    serde_json::to_string(&record(index, source, document, mapping)).expect("strings and finite numbers serialise")
}

/// The same, indented.
///
/// # Panics
/// Never, as [`line`].
pub fn pretty<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping) -> String {
    serde_json::to_string_pretty(&record(index, source, document, mapping)).expect("strings and finite numbers serialise")
}

/// The record that stands in the place of an input that could not be read.
///
/// # Panics
/// Never.
pub fn error_line(source: &Source, error: &str) -> String {
    let mut object = serde_json::Map::new();
    object.insert("schema".into(), SCHEMA.into());
    object.insert("id".into(), source.id.clone());
    object.insert("source".into(), source.source.clone().into());
    object.insert("error".into(), error.into());
    Value::Object(object).to_string()
}

fn record<'a, D: AsRef<[u8]>>(index: &'a Index<D>, source: &'a Source, document: &'a Document, mapping: &'a Mapping) -> Record<'a> {
    let list = |found: &'a [Found], with_tactics: bool| found.iter().map(|f| technique(document, f, with_tactics)).collect();
    Record {
        schema: SCHEMA,
        id: &source.id,
        source: &source.source,
        title: source.title.as_deref(),
        attack: Attack { domain: index.domain().attack_name(), version: index.version() },
        techniques: list(&mapping.techniques, true),
        tactics: list(&mapping.tactics, false),
        groups: list(&mapping.groups, false),
        software: list(&mapping.software, false),
        campaigns: list(&mapping.campaigns, false),
        implied: mapping.implied.iter().map(implied).collect(),
        similar_groups: mapping.similar_groups.as_ref().map(super::profiles::similar_json),
        defenses: mapping.defenses.as_ref().map(super::profiles::defenses_json),
        record: source.record.as_ref(),
    }
}

fn technique<'a>(document: &'a Document, found: &'a Found, with_tactics: bool) -> Technique<'a> {
    Technique {
        id: found.id.to_string(),
        name: &found.name,
        tactics: with_tactics.then_some(&*found.tactics),
        confidence: Rounded(found.confidence),
        status: found.status.name(),
        redirected_from: found.redirected_from.map(|id| id.to_string()),
        evidence: found.evidence.iter().map(|e| piece(document, e)).collect(),
    }
}

fn piece<'a>(document: &'a Document, evidence: &'a Evidence) -> Piece<'a> {
    let origin = document.origin(evidence.span.start);
    Piece {
        start: evidence.span.start,
        end: evidence.span.end,
        line: evidence.line,
        page: origin.page,
        paragraph: origin.paragraph,
        text: evidence.span.of(document.text()),
        status: evidence.status.name(),
        confidence: Rounded(evidence.confidence),
        by: evidence.by.name(),
        why: &evidence.why,
        tactic: evidence.tactic.map(|id| id.to_string()),
        second: evidence.second.map(|(id, confidence)| Second { id: id.to_string(), confidence: Rounded(confidence) }),
        procedure: evidence.procedure.as_ref().map(|p| RecordedProcedure { actor: p.actor.to_string(), text: &p.text, source: &p.source }),
    }
}

fn implied(implied: &Implied) -> ImpliedTechnique<'_> {
    ImpliedTechnique {
        id: implied.id.to_string(),
        name: &implied.name,
        tactics: &implied.tactics,
        through: implied.through.iter().map(ToString::to_string).collect(),
    }
}
