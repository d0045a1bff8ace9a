//! A MISP event (core format, as MISP exports and PyMISP reads it): an attribute for each sentence that describes
//! techniques, and galaxy tags as MISP's own galaxies spell them.

use serde_json::{Value, json};

use super::handoff::{HandOff, line};
use super::stix::uuid_of;
use super::{Rendered, Source};
use crate::index::Index;
use crate::kb::id::Kind;
use crate::rank::{Evidence, Found, Mapping};
use crate::text::Document;

/// A sentence with the techniques, groups and so on that it speaks of.
struct Sentence<'m> {
    text: String,
    of: Vec<(&'m Found, &'m Evidence)>,
}

/// The tag of an object, such as `misp-galaxy:mitre-attack-pattern="PowerShell - T1059.001"`; None where MISP has no
/// galaxy for its kind (campaigns).
pub fn tag<D: AsRef<[u8]>>(index: &Index<D>, found: &Found) -> Option<String> {
    let galaxy = match found.id.kind() {
        Kind::Technique => "mitre-attack-pattern",
        Kind::Group => "mitre-intrusion-set",
        Kind::Software if index.get(found.id)?.short_name() == "tool" => "mitre-tool",
        Kind::Software => "mitre-malware",
        _ => return None,
    };
    // A tag has no way to write a quotation mark.
    Some(format!("misp-galaxy:{galaxy}=\"{} - {}\"", line(&found.name.replace('"', "'"), 200), found.id))
}

/// The event of one document. Never published, for the own organisation only: what becomes of it is the analyst's choice.
///
/// # Panics
/// Never: the event is strings and numbers.
pub fn event<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, hand_off: &HandOff) -> Rendered {
    let lists = [&mapping.techniques, &mapping.groups, &mapping.software, &mapping.campaigns];
    let found: Vec<&Found> = lists.into_iter().flat_map(|list| hand_off.named(list)).collect();
    let tags = |of: &[&Found]| {
        let mut names: Vec<String> = Vec::new();
        for tag in of.iter().filter_map(|f| tag(index, f)) {
            if !names.contains(&tag) {
                names.push(tag);
            }
        }
        names.iter().map(|name| json!({"name": name})).collect::<Vec<Value>>()
    };
    let title = hand_off.title(source);
    let info = if title.is_empty() { "Narrative mapped to ATT&CK".to_owned() } else { title };
    let timestamp = hand_off.stamp.seconds().to_string();
    let mut attributes = Vec::new();
    for sentence in sentences(document, &found, hand_off) {
        let mut parts: Vec<String> = Vec::new();
        for (f, e) in &sentence.of {
            let part = format!("{} {} ({}, {:.0} %, line {})", f.id, f.name, e.status, e.confidence * 100.0, e.line);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        let of: Vec<&Found> = sentence.of.iter().map(|(f, _)| *f).collect();
        attributes.push(json!({
            "type": "text", "category": "External analysis", "to_ids": false, "distribution": "5",
            "timestamp": timestamp, "value": sentence.text, "comment": parts.join("; "), "Tag": tags(&of),
        }));
    }
    for campaign in hand_off.named(&mapping.campaigns) {
        attributes.push(json!({
            "type": "campaign-name", "category": "Attribution", "to_ids": false, "distribution": "5",
            "timestamp": timestamp, "value": line(&campaign.name, 200), "comment": campaign.id.to_string(), "Tag": [],
        }));
    }
    let mut event = json!({
        "info": info, "date": hand_off.stamp.date(), "timestamp": timestamp, "published": false,
        "analysis": "0", "threat_level_id": "4", "distribution": "0",
        "Tag": tags(&found), "Attribute": [],
    });
    // The origin counts, even where nothing is found: two empty texts are two events.
    let seed = [source.source.as_str(), &source.id.to_string(), document.text(), index.domain().attack_name(), index.version()];
    let uuid = uuid_of(&["misp event", &uuid_of(&seed).to_string(), &event.to_string(), &json!(attributes).to_string()]).to_string();
    for attribute in &mut attributes {
        let own = uuid_of(&["misp attribute", &uuid, &attribute.to_string()]).to_string();
        attribute["uuid"] = own.into();
    }
    event["uuid"] = uuid.into();
    event["Attribute"] = attributes.into();
    let text = serde_json::to_string_pretty(&json!({ "Event": event })).expect("strings and numbers serialise");
    Rendered { text, ..Rendered::default() }
}

/// The sentences of the evidence in the text's order; MISP takes each value once, so equal ones are one.
fn sentences<'m>(document: &Document, found: &[&'m Found], hand_off: &HandOff) -> Vec<Sentence<'m>> {
    let mut pieces: Vec<(&Found, &Evidence)> = found.iter().flat_map(|f| hand_off.evidence(f).map(move |e| (*f, e))).collect();
    pieces.sort_by_key(|(f, e)| (e.segment, f.id.kind(), f.id, e.span));
    let mut out: Vec<Sentence<'m>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (f, e) in pieces {
        let text = hand_off.sentence(document, e);
        if text.is_empty() {
            continue;
        }
        let place = *places.entry(text.clone()).or_insert(out.len());
        if place == out.len() {
            out.push(Sentence { text, of: Vec::new() });
        }
        out[place].of.push((f, e));
    }
    out
}
