//! A STIX 2.1 bundle (OASIS Standard of 2021-06-10): one report for each document, a note with the evidence for each
//! technique, and what they point at.
//!
//! Every ID is a UUID of version 5. That of an own object is made from the object's whole content, so the same result
//! has the same ID anywhere, and different results never share one. Objects of ATT&CK bear ATT&CK's own IDs where the
//! knowledge base has them, and one made from domain and ATT&CK ID elsewhere; they are stubs (name, ATT&CK ID, link) and
//! older than any object of ATT&CK, so that a platform that holds ATT&CK keeps its own version of them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::handoff::{HandOff, Stamp, line};
use super::{Rendered, Source};
use crate::index::{Index, ObjectRef};
use crate::kb::Domain;
use crate::kb::id::{AttackId, Kind};
use crate::rank::{Found, Mapping};
use crate::status::Status;
use crate::text::Document;

/// The namespace of ttpmap's own IDs; a random UUID that never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x4c1d_3a5e_92b7_4f0e_8d66_1b7f_a3c0_5e29);

/// A UUID of version 5 over parts, each of which keeps its borders.
pub(crate) fn uuid_of(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, serde_json::to_string(parts).expect("strings serialise").as_bytes())
}

/// Gives an object the ID that its content has; the properties that every object has come first.
fn identified(object: Value) -> Value {
    let Value::Object(mut content) = object else { return object };
    let kind = content.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut out = Map::new();
    out.insert("type".into(), kind.clone().into());
    out.insert("id".into(), Value::Null);
    for key in ["spec_version", "created_by_ref", "created", "modified"] {
        out.extend(content.shift_remove(key).map(|value| (key.to_owned(), value)));
    }
    content.shift_remove("type");
    out.extend(content);
    let id = uuid_of(&[&Value::Object(out.clone()).to_string()]);
    out["id"] = format!("{kind}--{id}").into();
    Value::Object(out)
}

fn id_of(object: &Value) -> &str {
    object["id"].as_str().unwrap_or_default()
}

/// ttpmap itself, who made the report and the notes. The same in every bundle.
pub(crate) fn identity() -> Value {
    let stamp = Stamp::EPOCH.rfc3339();
    identified(json!({
        "type": "identity", "spec_version": "2.1", "created": stamp, "modified": stamp,
        "name": "ttpmap", "identity_class": "system",
        "description": "Maps incident narratives to MITRE ATT&CK without a human's judgement.",
    }))
}

/// The STIX type of an ATT&CK object; None for what no hand-off points at.
fn type_of<D: AsRef<[u8]>>(object: ObjectRef<'_, D>) -> Option<&'static str> {
    Some(match object.id().kind() {
        Kind::Technique => "attack-pattern",
        Kind::Group => "intrusion-set",
        Kind::Software if object.short_name() == "tool" => "tool",
        Kind::Software => "malware",
        Kind::Campaign => "campaign",
        _ => return None,
    })
}

/// The STIX ID that stands for an ATT&CK object: ATT&CK's own, else one made from domain and ATT&CK ID.
pub(crate) fn reference<D: AsRef<[u8]>>(index: &Index<D>, id: AttackId) -> Option<String> {
    let object = index.get(id)?;
    let kind = type_of(object)?;
    let made = || format!("{kind}--{}", uuid_of(&[kind, index.domain().attack_name(), &id.to_string()]));
    Some(reference_of_attack(object).unwrap_or_else(made))
}

/// ATT&CK's own STIX ID of an object; None where the knowledge base doesn't have it.
pub fn reference_of_attack<D: AsRef<[u8]>>(object: ObjectRef<'_, D>) -> Option<String> {
    Some(format!("{}--{}", type_of(object)?, object.stix_uuid()?))
}

const fn kill_chain(domain: Domain) -> &'static str {
    match domain {
        Domain::Enterprise => "mitre-attack",
        Domain::Mobile => "mitre-mobile-attack",
        Domain::Ics => "mitre-ics-attack",
    }
}

/// The stub of an ATT&CK object.
pub(crate) fn stub<D: AsRef<[u8]>>(index: &Index<D>, id: AttackId) -> Option<Value> {
    let object = index.get(id)?;
    let stamp = Stamp::EPOCH.rfc3339();
    let mut out = json!({
        "type": type_of(object)?, "id": reference(index, id)?, "spec_version": "2.1", "created": stamp, "modified": stamp,
        "name": object.name(),
        "external_references": [{"source_name": "mitre-attack", "external_id": id.to_string(), "url": id.url()}],
    });
    let fields = out.as_object_mut()?;
    if object.stix_uuid().is_none() {
        fields.insert("created_by_ref".into(), id_of(&identity()).into());
    }
    let aliases: Vec<&str> = object.aliases().collect();
    match id.kind() {
        Kind::Technique => {
            let phase = |t: ObjectRef<'_, D>| json!({"kill_chain_name": kill_chain(index.domain()), "phase_name": t.short_name()});
            let phases: Vec<Value> = object.tactics().map(phase).collect();
            if !phases.is_empty() {
                fields.insert("kill_chain_phases".into(), phases.into());
            }
        }
        _ if !aliases.is_empty() => {
            fields.insert("aliases".into(), json!(aliases));
        }
        _ => {}
    }
    if fields["type"] == "malware" {
        fields.insert("is_family".into(), true.into());
    }
    Some(out)
}

fn percent(confidence: f32) -> u8 {
    (confidence * 100.0).round().clamp(0.0, 100.0) as u8
}

/// The objects of one document, separated by commas, with the ATT&CK objects that they point at; see [`super::assembly`].
pub fn objects<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, hand_off: &HandOff) -> Rendered {
    let author = identity();
    let (author, stamp) = (id_of(&author), hand_off.stamp.rfc3339());
    let common = |mut object: Value| {
        let fields = object.as_object_mut().expect("it is written as an object");
        fields.insert("spec_version".into(), "2.1".into());
        fields.insert("created_by_ref".into(), author.into());
        fields.insert("created".into(), stamp.clone().into());
        fields.insert("modified".into(), stamp.clone().into());
        object
    };
    let techniques: Vec<(&Found, String)> = hand_off.techniques(mapping).filter_map(|f| Some((f, reference(index, f.id)?))).collect();
    let named: Vec<(&Found, String)> = [&mapping.groups, &mapping.software, &mapping.campaigns]
        .into_iter()
        .flat_map(|list| hand_off.named(list))
        .filter_map(|f| Some((f, reference(index, f.id)?)))
        .collect();
    let mut own = Vec::new();
    let hash = crate::source::hex(&Sha256::digest(document.text()));
    for (found, stix) in &techniques {
        let lines: Vec<String> =
            hand_off.evidence(found).map(|e| format!("line {}: {}{}", e.line, spoken(e.status), hand_off.sentence(document, e))).collect();
        let old = found.redirected_from.map(|old| format!(" (the text says {old}, which ATT&CK replaced by it)")).unwrap_or_default();
        own.push(identified(common(json!({
            "type": "note",
            "abstract": format!("Evidence for {} {}{old}", found.id, found.name),
            "content": lines.join("\n"),
            "authors": [concat!("ttpmap ", env!("CARGO_PKG_VERSION"))],
            "object_refs": [stix],
            "labels": [found.status.name()],
            "confidence": percent(found.confidence),
            // Notes on two documents are two notes, however alike; so are relationships.
            "external_references": [origin(source, &hash)],
        }))));
    }
    own.extend(relationships(document, hand_off, &techniques, &named).map(|mut r| {
        r["external_references"] = json!([origin(source, &hash)]);
        identified(common(r))
    }));
    let mut refs: Vec<&str> = techniques.iter().chain(&named).map(|(_, stix)| stix.as_str()).collect();
    refs.extend(own.iter().map(id_of));
    if refs.is_empty() {
        refs.push(author);
    }
    let title = hand_off.title(source);
    let count = match techniques.len() {
        0 => "No technique".to_owned(),
        1 => "1 technique".to_owned(),
        n => format!("{n} techniques"),
    };
    let report = identified(common(json!({
        "type": "report",
        "name": if title.is_empty() { "Narrative from standard input".to_owned() } else { title },
        "description": format!("{count} found by ttpmap {} with ATT&CK {} {}.", env!("CARGO_PKG_VERSION"), index.domain(), index.version()),
        "report_types": ["threat-report"],
        "published": stamp,
        "object_refs": refs,
        "external_references": [origin(source, &hash)],
    })));
    let text = std::iter::once(&report).chain(&own).map(pretty).collect::<Vec<_>>().join(",\n");
    let refs = techniques.iter().chain(&named).map(|(f, _)| f.id).collect();
    Rendered { text, refs, id: Some(id_of(&report).to_owned()) }
}

fn spoken(status: Status) -> String {
    if status == Status::Asserted { String::new() } else { format!("({status}) ") }
}

/// What was read: its name, its ID where it has one of its own, and the digest of its text.
fn origin(source: &Source, hash: &str) -> Value {
    let mut out = json!({
        "source_name": "narrative",
        "description": line(&source.source, 400),
        "hashes": {"SHA-256": hash},
    });
    let id = source.id.as_str().map_or_else(|| source.id.to_string(), str::to_owned);
    if id != source.source && id != "null" {
        out["external_id"] = line(&id, 400).into();
    }
    out
}

/// Who or what is named in the same sentence as a technique: `related-to`, for more than that the text doesn't say
/// reliably. With the sentence as description.
fn relationships<'a>(
    document: &'a Document,
    hand_off: &'a HandOff,
    techniques: &'a [(&Found, String)],
    named: &'a [(&Found, String)],
) -> impl Iterator<Item = Value> + 'a {
    named.iter().flat_map(move |(actor, from)| {
        let segments: BTreeSet<_> = hand_off.evidence(actor).map(|e| e.segment).collect();
        techniques.iter().filter_map(move |(technique, to)| {
            let shared: Vec<_> = hand_off.evidence(technique).filter(|e| segments.contains(&e.segment)).collect();
            let first = shared.first()?;
            let surest = shared.iter().map(|e| e.confidence).fold(0.0, f32::max).min(actor.confidence);
            Some(json!({
                "type": "relationship", "relationship_type": "related-to", "source_ref": from, "target_ref": to,
                "description": format!("Named in the same sentence, line {}: {}", first.line, hand_off.sentence(document, first)),
                "confidence": percent(surest),
            }))
        })
    })
}

/// Indented as an element of the bundle's list.
pub(crate) fn pretty(object: &Value) -> String {
    let text = serde_json::to_string_pretty(object).expect("strings and numbers serialise");
    text.lines().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}
