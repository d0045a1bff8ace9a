//! A fact table: IDs, names, tactics and successors of a release, without prose or relations. Laid over an
//! older bundle it brings techniques and tactics up to date while the relations stay the bundle's.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::id::{AttackId, Kind};
use super::{Domain, History, KnowledgeBase, Object, State};

#[derive(Deserialize)]
struct Facts {
    domain: String,
    attack_version: String,
    #[serde(default)]
    notice: String,
    tactics: serde_json::Map<String, serde_json::Value>,
    techniques: BTreeMap<String, TechniqueFact>,
}

#[derive(Deserialize)]
struct TacticFact {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct TechniqueFact {
    name: String,
    #[serde(default)]
    tactics: Vec<String>,
    status: Option<String>,
    revoked_by: Option<String>,
}

/// The fact table can't be laid over the bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not a fact table.
    #[error("not a fact table (domain, attack_version, tactics, techniques)")]
    Shape(#[source] serde_json::Error),
    /// It is of another domain than the bundle.
    #[error("the fact table is of {facts}, the bundle of {bundle}")]
    Domain {
        /// The table's domain.
        facts: String,
        /// The bundle's.
        bundle: Domain,
    },
    /// An entry has a wrong field.
    #[error("entry `{entry}`: {what}")]
    Entry {
        /// The key of the entry.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Lays the table over `kb`: renames, adds, moves to other tactics, revokes and deprecates as it says.
/// Objects that the table doesn't speak of stay as they are. A technique that only the table has gets the
/// platforms of those it replaces.
///
/// # Errors
/// Where the bytes are no fact table, or of another domain, or an entry has a bad ID or an unknown tactic.
pub fn overlay(kb: &mut KnowledgeBase, bytes: &[u8]) -> Result<(), Error> {
    let facts: Facts = serde_json::from_slice(bytes).map_err(Error::Shape)?;
    if facts.domain != kb.provenance.domain.attack_name() {
        return Err(Error::Domain { facts: facts.domain, bundle: kb.provenance.domain });
    }
    let earlier = History::of(kb);
    let bad = |entry: &str, what: String| Error::Entry { entry: entry.to_owned(), what };

    let mut by_short_name = BTreeMap::new();
    let mut listed = Vec::new();
    for (short_name, value) in facts.tactics {
        let fact: TacticFact = serde_json::from_value(value).map_err(|e| bad(&short_name, e.to_string()))?;
        let id: AttackId = fact.id.parse().map_err(|e| bad(&short_name, format!("{e}")))?;
        let object = kb.objects.entry(id).or_insert_with(|| Object::new(id, ""));
        object.name = fact.name;
        object.short_name.clone_from(&short_name);
        by_short_name.insert(short_name, id);
        listed.push(id);
    }
    // The bundle's matrix gives the order; the table gives none. A tactic new in the table goes to the place
    // of the tactic that most of its techniques are in beside it, or were in before: right behind it.
    let parsed = facts
        .techniques
        .iter()
        .map(|(key, fact)| {
            let id: AttackId = key.parse().map_err(|e| bad(key, format!("{e}")))?;
            let tactics =
                fact.tactics.iter().map(|t| by_short_name.get(t).copied().ok_or_else(|| bad(key, format!("unknown tactic `{t}`"))));
            Ok((id, fact, tactics.collect::<Result<Vec<_>, Error>>()?))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for (id, fact, tactics) in &parsed {
        let object = kb.objects.entry(*id).or_insert_with(|| Object::new(*id, ""));
        object.name.clone_from(&fact.name);
        match fact.status.as_deref() {
            None => {
                object.state = State::Active;
                object.tactics.clone_from(tactics);
            }
            Some("deprecated") => object.state = State::Deprecated,
            Some("revoked") => {
                object.state = State::Revoked;
                let successor = fact.revoked_by.as_deref().map(str::parse::<AttackId>).transpose();
                object.successor = successor.map_err(|e| bad(&id.to_string(), e.to_string()))?;
            }
            Some(other) => return Err(bad(&id.to_string(), format!("unknown status `{other}`"))),
        }
    }
    place_new_tactics(kb, &listed, &earlier);
    inherit_platforms(kb);
    let order = kb.tactics.clone();
    let rank = |t: &AttackId| order.iter().position(|o| o == t);
    for object in kb.objects.values_mut() {
        object.tactics.sort_by_key(rank);
    }
    kb.settle();
    kb.remember(&earlier);
    kb.provenance.version = facts.attack_version;
    kb.provenance.facts_digest = crate::source::hex(&Sha256::digest(bytes));
    if !facts.notice.is_empty() {
        kb.provenance.notice = facts.notice;
    }
    Ok(())
}

fn place_new_tactics(kb: &mut KnowledgeBase, listed: &[AttackId], earlier: &History) {
    kb.tactics.retain(|t| listed.contains(t));
    for tactic in listed {
        if kb.tactics.contains(tactic) {
            continue;
        }
        let mut votes: BTreeMap<AttackId, usize> = BTreeMap::new();
        for (technique, before) in &earlier.technique_tactics {
            if kb.current(*technique).is_some_and(|t| t.tactics.contains(tactic)) {
                for from in before {
                    *votes.entry(*from).or_default() += 1;
                }
            }
        }
        let neighbour = votes.into_iter().max_by_key(|(id, n)| (*n, std::cmp::Reverse(*id))).map(|(id, _)| id);
        let place = neighbour.and_then(|n| kb.tactics.iter().position(|t| *t == n));
        kb.tactics.insert(place.map_or(kb.tactics.len(), |p| p + 1), *tactic);
    }
}

fn inherit_platforms(kb: &mut KnowledgeBase) {
    let mut given: BTreeMap<AttackId, Vec<String>> = BTreeMap::new();
    for old in kb.of_kind(Kind::Technique).filter(|o| o.state == State::Revoked) {
        if let Some(heir) = kb.current(old.id).filter(|heir| heir.platforms.is_empty()) {
            let platforms = given.entry(heir.id).or_default();
            platforms.extend(old.platforms.iter().filter(|p| !platforms.contains(p)).cloned().collect::<Vec<_>>());
        }
    }
    for (id, platforms) in given {
        if let Some(object) = kb.objects.get_mut(&id) {
            object.platforms = platforms;
        }
    }
}
