//! What comes after a mapping: whose recorded techniques are like the report's ([`Groups::similar`]), and what ATT&CK
//! records against what was found ([`defenses`]).
//!
//! # Similar groups
//!
//! Each group is a document whose words are its techniques, and the report is the query; groups are ranked by BM25
//! (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond") with k1 = 1.2 and b = 0.5.
//! Before that every set of techniques is closed upwards: a sub-technique brings its parent, as ontology-based
//! similarity does it (Pesquita and others 2009, "Semantic Similarity in Biomedical Ontologies"). So a report's
//! T1059.001 counts in part for a group with T1059 or T1059.003: the parent is shared, and weighs less, as more groups
//! have it.
//!
//! ```text
//! weight(t)   = confidence(t) * ln(1 + N / (1 + groups that have t))          N groups in all
//! coverage(G) = sum of weight(t) over what report and G share / sum of weight(t) over the report
//! score(G)    = coverage(G) / (1 + 0.375 * |G| / mean |G|)                    0.375 = k1 b / (1 + k1 (1 - b))
//! ```
//!
//! The last line is BM25's normalisation for length with every term occurring once, scaled so that a score lies in
//! 0..1: a group with very many techniques covers much of any report. The constants were chosen on ATT&CK 18.1 by two
//! measurements that pull in opposite directions: the techniques of each campaign that is attributed to a group, and
//! eight random techniques of a group among six of others. Cosine and weighted Jaccard (simGIC) did worse in both.

use std::collections::{BTreeMap, BTreeSet};

use crate::index::{Index, ObjectRef};
use crate::kb::id::{AttackId, Kind};
use crate::kb::{RelationKind, State};
use crate::rank::Found;

/// BM25's saturation and length normalisation.
const K1: f32 = 1.2;
const B: f32 = 0.5;
/// Similar groups listed where no number is given.
pub const DEFAULT_SIMILAR_GROUPS: usize = 5;
/// Said with every list of similar groups.
pub const OVERLAP_WARNING: &str = "Overlap is no attribution: most techniques are used by many groups, and ATT&CK records \
     only what was published about each.";

/// A group whose recorded techniques are like a report's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SimilarGroup {
    /// Its ID.
    pub id: AttackId,
    /// Its name.
    pub name: String,
    /// 0..1; see the module.
    pub score: f32,
    /// 0..1: the part of the report's techniques, by weight, that is recorded for the group.
    pub coverage: f32,
    /// Techniques recorded for the group.
    pub recorded: usize,
    /// The report's techniques that count, by ID.
    pub shared: Vec<Shared>,
}

/// A technique of a report that a group has, or has one of the same family as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shared {
    /// The report's technique.
    pub id: AttackId,
    /// Its name.
    pub name: String,
    /// What is recorded for the group: the same technique alone, or else its parent, sub-techniques or siblings, by ID.
    pub recorded: Vec<AttackId>,
}

impl Shared {
    /// Whether the very technique is recorded.
    pub fn is_same(&self) -> bool {
        self.recorded == [self.id]
    }
}

/// The groups that were compared with a report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SimilarGroups {
    /// Groups with recorded techniques in the knowledge base; 0 where it has none, and nothing can be said.
    pub compared: usize,
    /// Techniques of the report that were compared.
    pub techniques: usize,
    /// Best first; ties by ID. Only groups that share something.
    pub groups: Vec<SimilarGroup>,
}

/// The techniques recorded for every group of a knowledge base. Costs a pass over its relations.
#[derive(Debug)]
pub struct Groups {
    groups: Vec<Profile>,
    /// Groups that have a technique, or a sub-technique of it.
    counts: BTreeMap<AttackId, usize>,
    mean: f32,
}

#[derive(Debug)]
struct Profile {
    id: AttackId,
    name: String,
    techniques: BTreeSet<AttackId>,
    closed: BTreeSet<AttackId>,
}

fn close(techniques: &BTreeSet<AttackId>) -> BTreeSet<AttackId> {
    techniques.iter().flat_map(|t| [*t, t.parent()]).collect()
}

impl Groups {
    /// Reads the groups in force and the techniques in force that they use.
    pub fn of<D: AsRef<[u8]>>(index: &Index<D>) -> Groups {
        let mut groups = Vec::new();
        let mut counts = BTreeMap::new();
        for group in index.of_kind(Kind::Group).filter(|g| g.state() == State::Active) {
            let used = group.outgoing().filter(|r| r.kind == RelationKind::Uses).map(|r| r.target);
            let techniques: BTreeSet<AttackId> =
                used.filter(|t| t.id().kind() == Kind::Technique && t.state() == State::Active).map(ObjectRef::id).collect();
            if techniques.is_empty() {
                continue;
            }
            let closed = close(&techniques);
            for technique in &closed {
                *counts.entry(*technique).or_insert(0) += 1;
            }
            groups.push(Profile { id: group.id(), name: group.name().to_owned(), techniques, closed });
        }
        let total: usize = groups.iter().map(|g| g.closed.len()).sum();
        let mean = total as f32 / groups.len().max(1) as f32;
        Groups { groups, counts, mean }
    }

    /// The `most` groups whose techniques are most like those of a report.
    pub fn similar(&self, report: &[&Found], most: usize) -> SimilarGroups {
        let mut weights: BTreeMap<AttackId, f32> = BTreeMap::new();
        for found in report {
            for id in [found.id, found.id.parent()] {
                let groups = self.counts.get(&id).copied().unwrap_or(0);
                let rarity = (1.0 + self.groups.len() as f32 / (1.0 + groups as f32)).ln();
                let weight = weights.entry(id).or_insert(0.0);
                *weight = weight.max(found.confidence * rarity);
            }
        }
        let all: f32 = weights.values().sum();
        let mut groups: Vec<SimilarGroup> = self
            .groups
            .iter()
            .filter_map(|g| {
                let common: f32 = weights.iter().filter(|(id, _)| g.closed.contains(id)).map(|(_, w)| w).sum();
                if all <= 0.0 || common <= 0.0 {
                    return None;
                }
                let length = g.closed.len() as f32 / self.mean;
                let mut shared: Vec<Shared> = report.iter().filter_map(|f| g.shared(f)).collect();
                shared.sort_by_key(|s| s.id);
                let coverage = common / all;
                let score = coverage / (1.0 + K1 * B / (1.0 + K1 * (1.0 - B)) * length);
                Some(SimilarGroup { id: g.id, name: g.name.clone(), score, coverage, recorded: g.techniques.len(), shared })
            })
            .collect();
        groups.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        groups.truncate(most);
        SimilarGroups { compared: self.groups.len(), techniques: report.len(), groups }
    }
}

impl Profile {
    fn shared(&self, found: &Found) -> Option<Shared> {
        let recorded: Vec<AttackId> = if self.techniques.contains(&found.id) {
            vec![found.id]
        } else {
            self.techniques.iter().copied().filter(|t| t.parent() == found.id.parent()).collect()
        };
        (!recorded.is_empty()).then(|| Shared { id: found.id, name: found.name.clone(), recorded })
    }
}

/// A mitigation, detection strategy or data component, with the found techniques that it is recorded for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defense {
    /// Its ID.
    pub id: AttackId,
    /// Its name.
    pub name: String,
    /// By ID.
    pub techniques: Vec<AttackId>,
}

/// What ATT&CK records against the techniques that were found. Lists begin with what covers most; ties by ID.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defenses {
    /// The release whose relations are used; another than that of the techniques where newer facts were laid over it.
    pub relations_version: String,
    /// The techniques that were looked at, by ID, with their names.
    pub techniques: Vec<(AttackId, String)>,
    /// Mitigations.
    pub mitigations: Vec<Defense>,
    /// Detection strategies.
    pub detection_strategies: Vec<Defense>,
    /// Data components: those that ATT&CK relates to a technique itself, or that the analytics of its detection
    /// strategies read.
    pub data_components: Vec<Defense>,
    /// Techniques for which no mitigation is recorded, by ID.
    pub without_mitigation: Vec<AttackId>,
    /// Techniques for which neither detection strategy nor data component is recorded, by ID.
    pub without_detection: Vec<AttackId>,
    /// Kinds of which this knowledge base relates none to any technique: their lists are empty for that reason.
    pub not_recorded: Vec<Kind>,
}

/// Looks up mitigations, detection strategies and data components of some techniques. What is recorded for a parent or
/// a sub-technique alone is not taken over: ATT&CK records each by itself. `not_recorded` is [`not_recorded`]'s answer,
/// which is the same for every report.
pub fn defenses<D: AsRef<[u8]>>(index: &Index<D>, found: &[&Found], not_recorded: &[Kind]) -> Defenses {
    let mut by_kind: BTreeMap<Kind, BTreeMap<AttackId, BTreeSet<AttackId>>> = BTreeMap::new();
    let mut techniques: Vec<(AttackId, String)> = found.iter().map(|f| (f.id, f.name.clone())).collect();
    techniques.sort();
    for (id, _) in &techniques {
        let Some(object) = index.get(*id) else { continue };
        let mut put = |o: ObjectRef<'_, D>| {
            if o.state() == State::Active {
                by_kind.entry(o.id().kind()).or_default().entry(o.id()).or_default().insert(*id);
            }
        };
        for relation in object.incoming() {
            match relation.kind {
                RelationKind::Mitigates => put(relation.source),
                RelationKind::Detects => {
                    put(relation.source);
                    let contained = |o: ObjectRef<'_, D>| {
                        o.outgoing().filter(|r| r.kind == RelationKind::Contains).map(|r| r.target.id()).collect::<Vec<_>>()
                    };
                    // Strategy -> analytic -> data component.
                    let analytics = contained(relation.source).into_iter().filter_map(|id| index.get(id));
                    for component in analytics.flat_map(contained).filter_map(|id| index.get(id)) {
                        if component.id().kind() == Kind::DataComponent {
                            put(component);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let covered = |kinds: &[Kind]| -> BTreeSet<AttackId> {
        kinds.iter().filter_map(|k| by_kind.get(k)).flat_map(BTreeMap::values).flatten().copied().collect()
    };
    let without = |covered: BTreeSet<AttackId>| techniques.iter().map(|(id, _)| *id).filter(|id| !covered.contains(id)).collect();
    let list = |kind: Kind| {
        let mut list: Vec<Defense> = by_kind
            .get(&kind)
            .into_iter()
            .flatten()
            .filter_map(|(id, of)| {
                Some(Defense { id: *id, name: index.get(*id)?.name().to_owned(), techniques: of.iter().copied().collect() })
            })
            .collect();
        list.sort_by(|a, b| b.techniques.len().cmp(&a.techniques.len()).then_with(|| a.id.cmp(&b.id)));
        list
    };
    Defenses {
        relations_version: index.provenance().map(|p| p.relations_version).unwrap_or_default(),
        mitigations: list(Kind::Mitigation),
        detection_strategies: list(Kind::DetectionStrategy),
        data_components: list(Kind::DataComponent),
        without_mitigation: without(covered(&[Kind::Mitigation])),
        without_detection: without(covered(&[Kind::DetectionStrategy, Kind::DataComponent])),
        not_recorded: not_recorded.to_vec(),
        techniques,
    }
}

/// Of mitigations, detection strategies and data components those that a knowledge base relates to no technique at all.
/// Costs a pass over its relations.
pub fn not_recorded<D: AsRef<[u8]>>(index: &Index<D>) -> Vec<Kind> {
    let mut seen = BTreeSet::new();
    let mut read_by_analytics = false;
    for relation in index.relations() {
        match relation.kind {
            RelationKind::Mitigates | RelationKind::Detects => drop(seen.insert(relation.source.id().kind())),
            RelationKind::Contains => read_by_analytics |= relation.target.id().kind() == Kind::DataComponent,
            _ => {}
        }
    }
    if read_by_analytics && seen.contains(&Kind::DetectionStrategy) {
        seen.insert(Kind::DataComponent);
    }
    [Kind::Mitigation, Kind::DetectionStrategy, Kind::DataComponent].into_iter().filter(|kind| !seen.contains(kind)).collect()
}
