//! The part of STIX that ATT&CK is written in: bundle bytes in, [`KnowledgeBase`] out.
//!
//! Reads STIX 2.0 and 2.1 alike: the object properties used here are the same in both (ATT&CK's own
//! extensions start with `x_mitre_`), only the bundle's `spec_version` moved. An object that can't be read
//! is skipped and named in the [`Report`]; only a file that is no bundle at all is an error.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::kb::id::{AttackId, Kind};
use crate::kb::{Domain, KnowledgeBase, Object, Provenance, Relation, RelationKind, State};

/// Bundles over this many bytes are refused; ATT&CK 18.1's largest has 45 MB.
pub const MAX_BUNDLE_BYTES: u64 = 512 << 20;

/// Why a file gives no knowledge base. Offsets are in bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The JSON ends before the bundle does.
    #[error("the file is cut short at byte {offset}: download it again")]
    Truncated {
        /// Where the file ends.
        offset: usize,
    },
    /// The bytes are not JSON.
    #[error("not JSON at byte {offset}: expected an ATT&CK STIX bundle")]
    Syntax {
        /// Where reading failed.
        offset: usize,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// JSON, but no STIX bundle.
    #[error("JSON, but not a STIX bundle (byte {offset}): {what}")]
    NotABundle {
        /// Where reading failed.
        offset: usize,
        /// What is missing.
        what: String,
    },
    /// A bundle, but not of ATT&CK.
    #[error("a STIX bundle, but not ATT&CK's: {0}")]
    NotAttack(String),
}

/// An object that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its STIX ID, or its place in the bundle where it has none.
    pub object: String,
    /// The field that is wrong and how.
    pub reason: String,
}

/// What reading a bundle came upon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects in the bundle.
    pub objects: usize,
    /// Objects that should have been read and could not be.
    pub skipped: Vec<Skipped>,
    /// Objects without an ID of their kind, as old releases have them (data components before ATT&CK 18,
    /// mitigations that were numbered as techniques): how many, by STIX type.
    pub without_id: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    objects: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default)]
    source_name: Cow<'a, str>,
    #[serde(borrow)]
    external_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Phase<'a> {
    #[serde(borrow)]
    kill_chain_name: Cow<'a, str>,
    #[serde(borrow)]
    phase_name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct LogSource<'a> {
    #[serde(borrow)]
    x_mitre_data_component_ref: Option<Cow<'a, str>>,
}

/// Every property that is read of any object.
#[derive(Deserialize)]
struct Stix<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    external_references: Vec<Reference<'a>>,
    #[serde(borrow, default)]
    kill_chain_phases: Vec<Phase<'a>>,
    #[serde(borrow, default)]
    aliases: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    x_mitre_aliases: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    x_mitre_platforms: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    x_mitre_shortname: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x_mitre_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tactic_refs: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    x_mitre_analytic_refs: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    x_mitre_log_source_references: Vec<LogSource<'a>>,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    x_mitre_deprecated: bool,
    #[serde(borrow)]
    relationship_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source_ref: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target_ref: Option<Cow<'a, str>>,
    #[serde(borrow)]
    definition: Option<Definition<'a>>,
}

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(borrow)]
    statement: Option<Cow<'a, str>>,
}

/// Only what names an object, for one that can't be read.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

/// What a STIX type holds for us.
fn kind_of(stix_type: &str) -> Option<Kind> {
    Some(match stix_type {
        "x-mitre-tactic" => Kind::Tactic,
        "attack-pattern" => Kind::Technique,
        "intrusion-set" => Kind::Group,
        "malware" | "tool" => Kind::Software,
        "campaign" => Kind::Campaign,
        "course-of-action" => Kind::Mitigation,
        "x-mitre-data-component" => Kind::DataComponent,
        "x-mitre-detection-strategy" => Kind::DetectionStrategy,
        "x-mitre-analytic" => Kind::Analytic,
        _ => return None,
    })
}

fn is_read(stix_type: &str) -> bool {
    kind_of(stix_type).is_some() || matches!(stix_type, "relationship" | "x-mitre-matrix" | "x-mitre-collection" | "marking-definition")
}

/// Reads a bundle.
///
/// `version` is the ATT&CK release where the caller knows it (from a digest table or a file name); STIX 2.1
/// bundles name theirs in an `x-mitre-collection` object, which then counts. The knowledge base comes back
/// settled ([`KnowledgeBase::settle`]), with an empty build date.
///
/// Cost: one pass for the syntax, one for the objects; about twice the file's size in memory.
///
/// # Errors
/// Where the bytes are no JSON, cut short, no STIX bundle, or hold no ATT&CK matrix.
pub fn read(bytes: &[u8], version: Option<&str>) -> Result<(KnowledgeBase, Report), Error> {
    let bundle: Bundle<'_> = serde_json::from_slice(bytes).map_err(|e| json_error(bytes, e))?;
    if bundle.kind != "bundle" {
        let what = format!("its type is `{}`, not `bundle`", bundle.kind.chars().take(40).collect::<String>());
        return Err(Error::NotABundle { offset: 0, what });
    }
    let raw = bundle.objects.ok_or_else(|| Error::NotABundle { offset: 0, what: "it has no `objects`".into() })?;
    let mut reader = Reader { report: Report { objects: raw.len(), ..Report::default() }, ..Reader::default() };
    for (place, text) in raw.iter().enumerate() {
        reader.object(place, text.get());
    }
    reader.finish(bytes, version)
}

/// Turns the parser's line and column into a byte offset, and sorts the error.
fn json_error(bytes: &[u8], source: serde_json::Error) -> Error {
    let line_start = bytes.split_inclusive(|b| *b == b'\n').take(source.line().saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    let offset = (line_start + source.column()).min(bytes.len());
    match source.classify() {
        serde_json::error::Category::Eof => Error::Truncated { offset: bytes.len() },
        serde_json::error::Category::Data => Error::NotABundle { offset, what: source.to_string() },
        _ => Error::Syntax { offset, source },
    }
}

#[derive(Default)]
struct Reader<'a> {
    report: Report,
    objects: BTreeMap<AttackId, Object>,
    by_stix_id: HashMap<Cow<'a, str>, AttackId>,
    relationships: Vec<Stix<'a>>,
    matrices: Vec<(String, Vec<Cow<'a, str>>)>,
    /// Tactic short names of each technique, resolved when all tactics are known.
    phases: Vec<(AttackId, Cow<'a, str>)>,
    /// Relations that an object states itself, by STIX ID of the target.
    contained: Vec<(AttackId, Cow<'a, str>)>,
    collection_version: Option<String>,
    notice: String,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        self.report.skipped.push(Skipped { object: object.into(), reason: reason.into() });
    }

    fn object(&mut self, place: usize, text: &'a str) {
        let named: Named<'a> = serde_json::from_str(text).unwrap_or(Named { kind: None, id: None });
        let name = named.id.clone().map_or_else(|| format!("object {place}"), Cow::into_owned);
        match named.kind.as_deref() {
            None => return self.skip(name, "type: missing"),
            Some(kind) if !is_read(kind) => return,
            Some(_) => {}
        }
        match serde_json::from_str::<Stix<'a>>(text) {
            Ok(object) => self.accept(object),
            Err(e) => {
                // serde_json says what was wrong but not where; the field is found by reading them singly.
                let reason = wrong_field(text).unwrap_or_else(|| e.to_string());
                self.skip(name, reason);
            }
        }
    }

    fn accept(&mut self, object: Stix<'a>) {
        match &*object.kind {
            "relationship" => self.relationships.push(object),
            "x-mitre-matrix" => {
                if !object.x_mitre_deprecated && !object.revoked {
                    let id = object.external_references.iter().find_map(|r| r.external_id.as_deref());
                    self.matrices.push((id.unwrap_or_default().to_owned(), object.tactic_refs));
                }
            }
            "x-mitre-collection" => self.collection_version = object.x_mitre_version.map(Cow::into_owned),
            "marking-definition" => {
                if let Some(statement) = object.definition.and_then(|d| d.statement) {
                    self.notice = statement.into_owned();
                }
            }
            _ => self.attack_object(object),
        }
    }

    fn attack_object(&mut self, stix: Stix<'a>) {
        let Some(kind) = kind_of(&stix.kind) else { return };
        let own = stix.external_references.iter().filter(|r| r.source_name.starts_with("mitre"));
        let given = own.filter_map(|r| r.external_id.as_deref()).next();
        let id = given.and_then(|text| text.parse::<AttackId>().ok()).filter(|id| id.kind() == kind);
        let Some(id) = id else {
            // Old releases number some kinds otherwise or not at all; that is no damage.
            let expected = match kind {
                Kind::DataComponent => given.is_none(),
                Kind::Mitigation => given.is_some_and(|g| g.starts_with('T')),
                _ => false,
            };
            if expected {
                *self.report.without_id.entry(stix.kind.into_owned()).or_default() += 1;
            } else {
                let said = given.map_or("missing".to_owned(), |g| format!("`{}`", g.chars().take(40).collect::<String>()));
                self.skip(stix.id, format!("external_references: the ID of a {} is {said}", kind.name()));
            }
            return;
        };
        let Some(name) = stix.name.as_deref().map(str::trim).filter(|n| !n.is_empty()) else {
            return self.skip(stix.id, "name: missing");
        };
        let mut object = Object::new(id, name);
        let listed = if stix.aliases.is_empty() { &stix.x_mitre_aliases } else { &stix.aliases };
        for alias in listed.iter().map(|a| a.trim()) {
            if !alias.is_empty() && alias != name && !object.aliases.iter().any(|a| a == alias) {
                object.aliases.push(alias.to_owned());
            }
        }
        object.platforms = stix.x_mitre_platforms.iter().map(|p| p.trim().to_owned()).collect();
        object.short_name = match kind {
            Kind::Software => stix.kind.clone().into_owned(),
            _ => stix.x_mitre_shortname.map(Cow::into_owned).unwrap_or_default(),
        };
        object.description = stix.description.map(|d| plain(&d)).unwrap_or_default();
        object.state = match (stix.revoked, stix.x_mitre_deprecated) {
            (true, _) => State::Revoked,
            (false, true) => State::Deprecated,
            (false, false) => State::Active,
        };
        object.stix_uuid = stix.id.rsplit_once("--").and_then(|(_, uuid)| uuid.parse().ok());
        self.phases
            .extend(stix.kill_chain_phases.into_iter().filter(|p| p.kill_chain_name.starts_with("mitre")).map(|p| (id, p.phase_name)));
        self.contained.extend(stix.x_mitre_analytic_refs.into_iter().map(|r| (id, r)));
        self.contained.extend(stix.x_mitre_log_source_references.into_iter().filter_map(|s| s.x_mitre_data_component_ref).map(|r| (id, r)));
        self.by_stix_id.insert(stix.id, id);
        // Two objects may claim one ID where one of them is no longer in force; the one in force stays.
        match self.objects.get(&id) {
            Some(there) if there.state == State::Active || object.state != State::Active => {}
            _ => {
                self.objects.insert(id, object);
            }
        }
    }

    fn finish(mut self, bytes: &[u8], version: Option<&str>) -> Result<(KnowledgeBase, Report), Error> {
        let domain = self.matrices.iter().find_map(|(id, _)| id.parse::<Domain>().ok());
        let Some(domain) = domain else {
            return Err(Error::NotAttack("it has no matrix of the enterprise, mobile or ics domain".into()));
        };
        let mut tactics: Vec<AttackId> = Vec::new();
        for (_, refs) in &self.matrices {
            for reference in refs {
                if let Some(id) = self.by_stix_id.get(reference)
                    && !tactics.contains(id)
                {
                    tactics.push(*id);
                }
            }
        }
        self.place_techniques(&tactics);
        let mut relations = self.relations();
        for (source, reference) in std::mem::take(&mut self.contained) {
            if let Some(target) = self.by_stix_id.get(&reference) {
                relations.push(Relation {
                    source,
                    kind: RelationKind::Contains,
                    target: *target,
                    text: String::new(),
                    reference: String::new(),
                });
            }
        }
        let version = self.collection_version.as_deref().or(version).unwrap_or("unknown").to_owned();
        let provenance = Provenance {
            domain,
            relations_version: version.clone(),
            version,
            source_digest: crate::source::hex(&Sha256::digest(bytes)),
            facts_digest: String::new(),
            notice: std::mem::take(&mut self.notice),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            date: String::new(),
        };
        let mut kb = KnowledgeBase { provenance, tactics, objects: self.objects, relations };
        kb.settle();
        Ok((kb, self.report))
    }

    fn place_techniques(&mut self, tactics: &[AttackId]) {
        let by_short_name: HashMap<String, AttackId> =
            tactics.iter().filter_map(|id| self.objects.get(id).map(|o| (o.short_name.clone(), *id))).collect();
        for (technique, phase) in std::mem::take(&mut self.phases) {
            match (by_short_name.get(&*phase), self.objects.get_mut(&technique)) {
                (Some(tactic), Some(object)) if !object.tactics.contains(tactic) => object.tactics.push(*tactic),
                (None, Some(object)) if object.state == State::Active => {
                    let phase: String = phase.chars().take(40).collect();
                    self.skip(technique.to_string(), format!("kill_chain_phases: no tactic `{phase}` in the matrix"));
                }
                _ => {}
            }
        }
        for object in self.objects.values_mut() {
            object.tactics.sort_by_key(|t| tactics.iter().position(|o| o == t));
        }
    }

    fn relations(&mut self) -> Vec<Relation> {
        let mut relations = Vec::with_capacity(self.relationships.len());
        for stix in std::mem::take(&mut self.relationships) {
            let kind = match stix.relationship_type.as_deref() {
                Some("uses") => RelationKind::Uses,
                Some("mitigates") => RelationKind::Mitigates,
                Some("detects") => RelationKind::Detects,
                Some("attributed-to") => RelationKind::AttributedTo,
                Some("revoked-by") => {
                    self.revoke(&stix);
                    continue;
                }
                Some(_) => continue,
                None => {
                    self.skip(stix.id, "relationship_type: missing");
                    continue;
                }
            };
            if stix.revoked || stix.x_mitre_deprecated {
                continue;
            }
            let (Some(source), Some(target)) = (&stix.source_ref, &stix.target_ref) else {
                let field = if stix.source_ref.is_none() { "source_ref" } else { "target_ref" };
                self.skip(stix.id, format!("{field}: missing"));
                continue;
            };
            // An end that was left out for a reason of its own takes its relations along.
            let (Some(source), Some(target)) = (self.by_stix_id.get(source), self.by_stix_id.get(target)) else { continue };
            let cited = stix.external_references.first().map(|r| r.source_name.clone().into_owned());
            relations.push(Relation {
                source: *source,
                kind,
                target: *target,
                text: stix.description.as_deref().map(plain).unwrap_or_default(),
                reference: cited.unwrap_or_default(),
            });
        }
        relations
    }

    fn revoke(&mut self, stix: &Stix<'a>) {
        let end = |r: &Option<Cow<'a, str>>| r.as_ref().and_then(|r| self.by_stix_id.get(r)).copied();
        if let (Some(old), Some(new)) = (end(&stix.source_ref), end(&stix.target_ref))
            && let Some(object) = self.objects.get_mut(&old)
            && object.state == State::Revoked
        {
            object.successor = Some(new);
        }
    }
}

/// Names the first property of an object that can't be read, by putting each alone into an empty one.
fn wrong_field(text: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    for required in ["id", "type"] {
        if !object.contains_key(required) {
            return Some(format!("{required}: missing"));
        }
    }
    for (name, value) in object {
        let alone = serde_json::json!({"type": "", "id": "", name.as_str(): value}).to_string();
        if let Err(e) = serde_json::from_str::<Stix<'_>>(&alone) {
            let what = e.to_string();
            let what = what.split(" at line").next().unwrap_or_default();
            return Some(format!("{name}: {what}"));
        }
    }
    None
}

/// ATT&CK's Markdown as plain text: `(Citation: ...)` out, links as their text, tags and back-ticks out,
/// white space folded.
pub(crate) fn plain(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut rest = markdown;
    while let Some(at) = rest.find(['(', '[', '<', '`']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if let Some(after) = rest.strip_prefix("(Citation:") {
            after.find(')').map(|end| (String::new(), "(Citation:".len() + end + 1))
        } else if rest.starts_with('[') {
            link(rest)
        } else if rest.starts_with('<') {
            tag(rest).map(|length| (String::new(), length))
        } else if rest.starts_with('`') {
            Some((String::new(), 1))
        } else {
            None
        };
        match taken {
            Some((text, length)) => {
                out.push_str(&text);
                rest = &rest[length..];
            }
            None => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn link(text: &str) -> Option<(String, usize)> {
    let close = text.find(']')?;
    let target = text[close + 1..].strip_prefix('(')?;
    let end = target.find(')')?;
    target.starts_with("http").then(|| (text[1..close].to_owned(), close + 2 + end + 1))
}

fn tag(text: &str) -> Option<usize> {
    let end = text.find('>')?;
    let name = text[1..end].trim_matches('/').trim();
    matches!(name, "code" | "br" | "p" | "b" | "i" | "li" | "ul" | "h1" | "h2" | "h3").then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_plain() {
        let text = "[Net](https://attack.mitre.org/software/S0039) can run <code>net use</code>.(Citation: A (B) [x] <3";
        assert_eq!(
            plain(text),
            "Net can run net use.[x] <3".replace(".[", ". [").replace(". [x]", ".(Citation: A (B) [x]").replace("(Citation: A (B)", "")
        );
        assert_eq!(plain("a  b\n`c`"), "a b c");
    }

    #[test]
    fn files_that_are_no_bundle_say_where() {
        let cases: [(&str, &str); 6] = [
            ("", "cut short at byte 0"),
            ("{\"type\": \"bundle\", \"objects\": [{\"type\":", "cut short at byte 39"),
            ("<html>", "not JSON at byte 1"),
            ("[1]", "not a STIX bundle"),
            ("{\"type\": \"layer\"}", "its type is `layer`"),
            ("{\"type\": \"bundle\", \"objects\": []}", "not ATT&CK's"),
        ];
        for (text, expected) in cases {
            let error = read(text.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
