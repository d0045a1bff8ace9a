//! The knowledge base in memory, as it is built: ATT&CK's objects and how they relate.
//!
//! [`KnowledgeBase`] is what [`crate::stix`] reads a bundle into and what [`crate::index`] writes to
//! disk. Programs that only ask questions open an [`crate::Index`] and never hold one of these.

pub mod facts;
pub mod id;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use id::{AttackId, Kind};

/// One of ATT&CK's technology domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Domain {
    /// Windows, Linux, macOS, cloud, network devices, ...
    Enterprise = 0,
    /// Android and iOS
    Mobile = 1,
    /// Industrial control systems
    Ics = 2,
}

impl Domain {
    /// Every domain.
    pub const ALL: [Domain; 3] = [Domain::Enterprise, Domain::Mobile, Domain::Ics];

    /// The short name, as `--domain` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Domain::Enterprise => "enterprise",
            Domain::Mobile => "mobile",
            Domain::Ics => "ics",
        }
    }

    /// ATT&CK's own identifier, as matrices and Navigator layers write it.
    pub const fn attack_name(self) -> &'static str {
        match self {
            Domain::Enterprise => "enterprise-attack",
            Domain::Mobile => "mobile-attack",
            Domain::Ics => "ics-attack",
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a domain: enterprise, mobile or ics")]
pub struct ParseDomainError(String);

impl FromStr for Domain {
    type Err = ParseDomainError;

    fn from_str(text: &str) -> Result<Domain, ParseDomainError> {
        Domain::ALL
            .into_iter()
            .find(|d| text == d.name() || text == d.attack_name())
            .ok_or_else(|| ParseDomainError(text.chars().take(40).collect()))
    }
}

/// Whether ATT&CK still stands behind an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// In force.
    Active = 0,
    /// Kept for the record, without a successor.
    Deprecated = 1,
    /// Replaced by [`Object::successor`].
    Revoked = 2,
}

impl State {
    pub(crate) fn from_u8(value: u8) -> Option<State> {
        [State::Active, State::Deprecated, State::Revoked].into_iter().find(|s| *s as u8 == value)
    }

    /// The word for it in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Deprecated => "deprecated",
            State::Revoked => "revoked",
        }
    }
}

/// One object of ATT&CK, of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its ID.
    pub id: AttackId,
    /// Its name; for a sub-technique its own part only ("LSASS Memory").
    pub name: String,
    /// Other names in use, without `name` itself, in the bundle's order.
    pub aliases: Vec<String>,
    /// Names that earlier releases gave it, or that what it took over once had.
    pub former_names: Vec<String>,
    /// A tactic's short name ("initial-access"), or a software's type ("malware", "tool"); empty for all else.
    pub short_name: String,
    /// A technique's tactics in matrix order; empty for all else.
    pub tactics: Vec<AttackId>,
    /// Platforms, in the bundle's order.
    pub platforms: Vec<String>,
    /// Plain text, citations and link targets taken out; empty where the knowledge base holds no prose.
    pub description: String,
    /// Whether it is in force.
    pub state: State,
    /// The final successor of a revoked object, where the bundle has it.
    pub successor: Option<AttackId>,
    /// The UUID of its STIX ID; None where only a fact table speaks of it.
    pub stix_uuid: Option<uuid::Uuid>,
}

impl Object {
    /// An active object with nothing but an ID and a name.
    pub fn new(id: AttackId, name: impl Into<String>) -> Object {
        Object {
            id,
            name: name.into(),
            aliases: Vec::new(),
            former_names: Vec::new(),
            short_name: String::new(),
            tactics: Vec::new(),
            platforms: Vec::new(),
            description: String::new(),
            state: State::Active,
            successor: None,
            stix_uuid: None,
        }
    }

    /// Whether hand-offs point at it by its STIX ID, which is therefore kept where prose is not.
    pub(crate) fn is_pointed_at(&self) -> bool {
        matches!(self.id.kind(), Kind::Technique | Kind::Group | Kind::Software | Kind::Campaign)
    }
}

/// How the source of a relation stands to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RelationKind {
    /// group, software or campaign -> technique; group or campaign -> software
    Uses = 0,
    /// mitigation -> technique
    Mitigates = 1,
    /// detection strategy (or data component, before ATT&CK 18) -> technique
    Detects = 2,
    /// campaign -> group
    AttributedTo = 3,
    /// detection strategy -> analytic; analytic -> data component
    Contains = 4,
}

impl RelationKind {
    pub(crate) fn from_u8(value: u8) -> Option<RelationKind> {
        use RelationKind::{AttributedTo, Contains, Detects, Mitigates, Uses};
        [Uses, Mitigates, Detects, AttributedTo, Contains].into_iter().find(|k| *k as u8 == value)
    }
}

/// One relation. The order is by source, kind and target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// Who uses, mitigates, detects, ...
    pub source: AttackId,
    /// How.
    pub kind: RelationKind,
    /// What.
    pub target: AttackId,
    /// The procedure text; empty where the knowledge base holds no prose.
    pub text: String,
    /// Name of the first source that the bundle cites for it; may be empty.
    pub reference: String,
}

/// Where a knowledge base comes from: what `kb info` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Its domain.
    pub domain: Domain,
    /// ATT&CK version of the techniques and tactics, such as `19.2`; `unknown` where nothing told it.
    pub version: String,
    /// ATT&CK version of the relations; differs from `version` where newer facts were laid over a bundle.
    pub relations_version: String,
    /// SHA-256 of the bundle, in hex.
    pub source_digest: String,
    /// SHA-256 of the fact table laid over it, in hex; empty where there was none.
    pub facts_digest: String,
    /// The copyright statement that came with the data.
    pub notice: String,
    /// Version of ttpmap that built it.
    pub tool_version: String,
    /// The date given to the build, `YYYY-MM-DD`.
    pub date: String,
}

/// ATT&CK of one domain and release.
#[derive(Debug, Clone, PartialEq)]
pub struct KnowledgeBase {
    /// Where it comes from.
    pub provenance: Provenance,
    /// The tactics in matrix order.
    pub tactics: Vec<AttackId>,
    /// Every object by ID.
    pub objects: BTreeMap<AttackId, Object>,
    /// Every relation, sorted, each (source, kind, target) once.
    pub relations: Vec<Relation>,
}

impl KnowledgeBase {
    /// The object in force for an ID: itself, or the end of its chain of successors. None where the ID is
    /// unknown, or revoked without a known successor. A chain that runs in a circle ends where it closes.
    pub fn current(&self, id: AttackId) -> Option<&Object> {
        let mut object = self.objects.get(&id)?;
        let mut seen = BTreeSet::new();
        while object.state == State::Revoked && seen.insert(object.id) {
            object = self.objects.get(&object.successor?)?;
        }
        (object.state != State::Revoked).then_some(object)
    }

    /// Points every revoked object at the end of its chain, moves the ends of relations to the objects in
    /// force, drops relations that lead nowhere, sorts and removes repetitions (the first with a text stays).
    pub fn settle(&mut self) {
        let ends: BTreeMap<AttackId, Option<AttackId>> =
            self.objects.values().filter(|o| o.state == State::Revoked).map(|o| (o.id, self.current(o.id).map(|end| end.id))).collect();
        for (id, end) in &ends {
            if let Some(object) = self.objects.get_mut(id) {
                object.successor = *end;
            }
        }
        let objects = &self.objects;
        let moved = |id: AttackId| match ends.get(&id) {
            Some(end) => *end,
            None => objects.contains_key(&id).then_some(id),
        };
        self.relations.retain_mut(|r| match (moved(r.source), moved(r.target)) {
            (Some(source), Some(target)) => {
                (r.source, r.target) = (source, target);
                source != target
            }
            _ => false,
        });
        self.relations.sort_by(|a, b| {
            (a.source, a.kind, a.target, a.text.is_empty())
                .cmp(&(b.source, b.kind, b.target, b.text.is_empty()))
                .then_with(|| (&a.text, &a.reference).cmp(&(&b.text, &b.reference)))
        });
        self.relations.dedup_by(|b, a| (a.source, a.kind, a.target) == (b.source, b.kind, b.target));
    }

    /// Adds what an earlier release knew and this one doesn't say: the former names of tactics.
    ///
    /// A tactic that kept its ID and changed its name gets the old name. A tactic that the earlier release
    /// didn't have gets the old name of a renamed tactic from which its techniques came, so that whoever
    /// asks for the old name finds every tactic that took its place.
    pub fn remember(&mut self, earlier: &History) {
        for (id, names) in &earlier.names {
            if let Some(object) = self.objects.get_mut(id) {
                for name in names {
                    if *name != object.name && !object.former_names.contains(name) {
                        object.former_names.push(name.clone());
                    }
                }
            }
        }
        let mut inherited = Vec::new();
        for tactic in self.tactics.iter().filter(|t| !earlier.names.contains_key(t)) {
            for (technique, tactics) in &earlier.technique_tactics {
                if self.current(*technique).is_some_and(|t| t.tactics.contains(tactic)) {
                    for from in tactics {
                        let renamed = self.objects.get(from).map(|t| t.former_names.clone()).unwrap_or_default();
                        inherited.extend(renamed.into_iter().map(|name| (*tactic, name)));
                    }
                }
            }
        }
        for (tactic, name) in inherited {
            if let Some(object) = self.objects.get_mut(&tactic)
                && !object.former_names.contains(&name)
            {
                object.former_names.push(name);
            }
        }
    }

    /// Takes out every text that ATT&CK wrote and leaves the facts. Of the STIX IDs stay those that hand-offs point at:
    /// of techniques, groups, software and campaigns.
    pub fn without_prose(mut self) -> KnowledgeBase {
        for object in self.objects.values_mut() {
            object.description.clear();
            if !object.is_pointed_at() {
                object.stix_uuid = None;
            }
        }
        for relation in &mut self.relations {
            relation.text.clear();
            relation.reference.clear();
        }
        self
    }

    /// The objects of one kind, in the order of their IDs.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.values().filter(move |o| o.id.kind() == kind)
    }
}

/// The revoked techniques of an index by what succeeded them, both sorted: the way back into older releases.
pub fn former_ids<D: AsRef<[u8]>>(index: &crate::Index<D>) -> BTreeMap<AttackId, Vec<AttackId>> {
    let mut out: BTreeMap<AttackId, Vec<AttackId>> = BTreeMap::new();
    for object in index.of_kind(Kind::Technique).filter(|o| o.state() == State::Revoked) {
        if let Some(successor) = object.successor() {
            out.entry(successor).or_default().push(object.id());
        }
    }
    out
}

/// What a newer knowledge base takes over from an older one; see [`KnowledgeBase::remember`].
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Tactics, with every name they have had.
    pub names: BTreeMap<AttackId, Vec<String>>,
    /// Techniques and sub-techniques, with the tactics they were in.
    pub technique_tactics: BTreeMap<AttackId, Vec<AttackId>>,
}

impl History {
    /// What `kb` has to pass on.
    pub fn of(kb: &KnowledgeBase) -> History {
        let names = |o: &Object| std::iter::once(o.name.clone()).chain(o.former_names.clone()).collect();
        History {
            names: kb.of_kind(Kind::Tactic).map(|o| (o.id, names(o))).collect(),
            technique_tactics: kb.of_kind(Kind::Technique).map(|o| (o.id, o.tactics.clone())).collect(),
        }
    }

    /// What a built knowledge base has to pass on.
    pub fn of_index<D: AsRef<[u8]>>(index: &crate::Index<D>) -> History {
        let mut history = History::default();
        for object in index.of_kind(Kind::Tactic) {
            let names = std::iter::once(object.name()).chain(object.former_names()).map(str::to_owned);
            history.names.insert(object.id(), names.collect());
        }
        for object in index.of_kind(Kind::Technique) {
            history.technique_tactics.insert(object.id(), object.tactics().map(crate::index::ObjectRef::id).collect());
        }
        history
    }
}
