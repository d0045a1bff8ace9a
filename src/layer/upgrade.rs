//! Layers, brought to another release of ATT&CK: nothing that moved is lost, and every entry is accounted for.
//!
//! What became of a technique is told by the release that the layer goes to: revoked techniques point at the end of
//! their chain of successors, tactics know the names they had. For the way back to an older release the newest
//! knowledge base at hand tells what its IDs and tactics were. The rules, in the order in which they are tried:
//!
//! 1. A technique in force stays; a revoked one becomes its successor; one that is deprecated, unknown, or newer than
//!    the release and not to be told from others there can't move.
//! 2. A tactic that the technique is in stays. A tactic that was renamed or split becomes the one of its heirs that the
//!    technique is in. A technique that left the tactic altogether is annotated in the tactics that it is in now.
//! 3. Entries that end in one place are merged: see [`Pick`].
//! 4. What can't move stays where it is, disabled, with the reason as its comment.
//! 5. A technique under which an entry comes to stand as a sub-technique is opened where the layer keeps them closed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Layer, Metadata, Versions, major};
use crate::index::{Index, ObjectRef};
use crate::kb::id::{AttackId, Kind};
use crate::kb::{State, former_ids};
use crate::lookup::fold;

/// Which score entries have that end in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pick {
    /// The highest.
    #[default]
    Max,
    /// The lowest.
    Min,
    /// All together.
    Sum,
    /// The mean, of those that have one.
    Mean,
}

impl Pick {
    /// One score of several; None of none. The order of the scores does not matter.
    pub fn of(self, scores: impl IntoIterator<Item = f64>) -> Option<f64> {
        let mut scores: Vec<f64> = scores.into_iter().collect();
        scores.sort_by(f64::total_cmp);
        let (first, last) = (*scores.first()?, *scores.last()?);
        let sum: f64 = scores.iter().sum();
        Some(match self {
            Pick::Max => last,
            Pick::Min => first,
            Pick::Sum => sum,
            Pick::Mean => sum / scores.len() as f64,
        })
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is where it was.
    Kept,
    /// It has another ID or tactic.
    Moved,
    /// It was joined to one that was there already.
    Merged,
    /// It can't move, and was disabled.
    CouldNot,
}

impl Outcome {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Kept => "kept",
            Outcome::Moved => "moved",
            Outcome::Merged => "merged",
            Outcome::CouldNot => "could not move",
        }
    }
}

/// Where an annotation is: a technique, and a tactic by its short name or all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The technique's ID; for what a file has, as the file has it.
    pub id: String,
    /// The tactic's short name.
    pub tactic: Option<String>,
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tactic {
            Some(tactic) => write!(f, "{} ({tactic})", self.id),
            None => f.write_str(&self.id),
        }
    }
}

/// What became of one entry, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it was.
    pub from: Spot,
    /// Where it is; empty where it could not move.
    pub to: Vec<Spot>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why; empty for one that was kept.
    pub why: String,
}

/// What became of everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// For each entry one record, in the order of the input.
    pub records: Vec<Record>,
    /// What else has to be known.
    pub notes: Vec<String>,
}

impl Report {
    /// How many entries had this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.records.iter().filter(|r| r.outcome == outcome).count()
    }
}

/// The names of tactics, folded, with the tactics that bear them now and those that bore them.
type Names = BTreeMap<String, (BTreeSet<AttackId>, BTreeSet<AttackId>)>;

/// The way to one release of ATT&CK.
#[derive(Debug)]
pub struct Upgrade<'a, D> {
    index: &'a Index<D>,
    tactics: Names,
    /// Techniques that only newer releases have, with what they were before.
    newer: BTreeMap<AttackId, Vec<AttackId>>,
    newer_names: BTreeMap<AttackId, String>,
}

impl<'a, D: AsRef<[u8]>> Upgrade<'a, D> {
    /// The way to the release of `index`. `newest` tells what IDs and tactics were that the release doesn't have yet;
    /// it may be the same, or of another domain, and then tells nothing.
    pub fn new<E: AsRef<[u8]>>(index: &'a Index<D>, newest: &Index<E>) -> Upgrade<'a, D> {
        let mut tactics: Names = BTreeMap::new();
        for tactic in index.of_kind(Kind::Tactic).filter(|t| t.state() == State::Active) {
            for name in [tactic.short_name(), tactic.name(), &tactic.id().to_string()] {
                tactics.entry(fold(name)).or_default().0.insert(tactic.id());
            }
            for name in tactic.former_names() {
                tactics.entry(fold(name)).or_default().1.insert(tactic.id());
            }
        }
        let (mut newer, mut newer_names) = (BTreeMap::new(), BTreeMap::new());
        if newest.domain() == index.domain() {
            for tactic in newest.of_kind(Kind::Tactic).filter(|t| t.state() == State::Active) {
                let were: BTreeSet<AttackId> = match index.get(tactic.id()) {
                    Some(same) => BTreeSet::from([same.id()]),
                    None => tactic.former_names().filter_map(|n| tactics.get(&fold(n))).flat_map(|t| t.0.clone()).collect(),
                };
                let names = [tactic.short_name(), tactic.name()].into_iter().chain(tactic.former_names());
                for name in names.map(fold).chain([fold(&tactic.id().to_string())]) {
                    tactics.entry(name).or_default().1.extend(&were);
                }
            }
            newer = former_ids(newest);
            newer.retain(|id, _| index.get(*id).is_none());
            for technique in newest.of_kind(Kind::Technique).filter(|t| index.get(t.id()).is_none()) {
                newer_names.insert(technique.id(), technique.name().to_owned());
            }
        }
        Upgrade { index, tactics, newer, newer_names }
    }

    /// The release that it leads to.
    pub fn index(&self) -> &'a Index<D> {
        self.index
    }

    /// What became of an ID of any kind: the one in force, and why it is another.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn id(&self, id: AttackId) -> Result<(AttackId, String), String> {
        let version = self.index.version();
        let Some(object) = self.index.get(id) else { return self.before(id) };
        match object.state() {
            State::Active => Ok((id, String::new())),
            State::Deprecated => Err(format!("{id} is deprecated in ATT&CK {version}, without a successor")),
            State::Revoked => match object.successor().and_then(|s| self.index.get(s)) {
                Some(successor) if successor.state() == State::Active => Ok((successor.id(), self.revoked(object, successor))),
                Some(successor) => {
                    Err(format!("{id} is revoked in ATT&CK {version} by {}, which is {}", successor.id(), successor.state().name()))
                }
                None => Err(format!("{id} is revoked in ATT&CK {version}, without a successor")),
            },
        }
    }

    /// Why a technique became another; where others took over its sub-techniques, they are named.
    fn revoked(&self, old: ObjectRef<'_, D>, new: ObjectRef<'_, D>) -> String {
        let mut why = format!("revoked by {} {}", new.id(), new.full_name());
        if old.id().kind() == Kind::Technique && !old.id().is_subtechnique() {
            let parts = self.index.of_kind(Kind::Technique).filter(|t| t.id().is_subtechnique() && t.id().parent() == old.id());
            let heirs: BTreeSet<AttackId> =
                parts.filter_map(ObjectRef::successor).map(AttackId::parent).filter(|h| *h != new.id()).collect();
            if !heirs.is_empty() {
                let heirs: Vec<String> = heirs.iter().map(ToString::to_string).collect();
                why += &format!("; it was split: sub-techniques of it went to {}", heirs.join(", "));
            }
        }
        why
    }

    /// What an ID was that the release doesn't have.
    fn before(&self, id: AttackId) -> Result<(AttackId, String), String> {
        let version = self.index.version();
        let in_force = |old: &&AttackId| self.index.get(**old).is_some_and(|o| o.state() == State::Active);
        let were: Vec<AttackId> = self.newer.get(&id).into_iter().flatten().filter(in_force).copied().collect();
        let same_name = |old: &&AttackId| self.index.get(**old).map(ObjectRef::name) == self.newer_names.get(&id).map(String::as_str);
        match (&were[..], were.iter().find(same_name)) {
            ([one], _) => Ok((*one, format!("newer than ATT&CK {version}, where it is {one}"))),
            (_, Some(one)) => Ok((*one, format!("newer than ATT&CK {version}, where {one} has its name"))),
            ([], None) if self.newer_names.contains_key(&id) => Err(format!("{id} is newer than ATT&CK {version}")),
            ([], None) => Err(format!("{id} is not in ATT&CK {version} {}", self.index.domain())),
            (several, None) => {
                let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(format!("{id} is newer than ATT&CK {version}, where it was {}", several.join(" or ")))
            }
        }
    }

    /// The tactics that a name, short name or ID means, those that bear it now and those that bore it or took over from
    /// it; None for what never was a tactic. `defense_evasion`, `Defense Evasion` and `TA0005` are read alike.
    pub fn tactics(&self, name: &str) -> Option<(Vec<AttackId>, Vec<AttackId>)> {
        let (now, before) = self.tactics.get(&fold(name))?;
        let mut heirs = before.clone();
        // A tactic that kept its ID may have given some of its techniques to a new one: both remember the name.
        for tactic in now.iter().filter_map(|t| self.index.get(*t)) {
            heirs.extend(tactic.former_names().filter_map(|n| self.tactics.get(&fold(n))).flat_map(|t| &t.1));
        }
        Some((now.iter().copied().collect(), heirs.difference(now).copied().collect()))
    }

    /// A tactic's short name.
    pub fn short_name(&self, tactic: AttackId) -> &'a str {
        self.index.get(tactic).map(ObjectRef::short_name).unwrap_or_default()
    }

    /// The tactics in which an annotation of a technique in force belongs that was in `tactic`, in matrix order, and why
    /// they are others.
    ///
    /// # Errors
    /// Where there is no such tactic, or the technique is in none.
    pub fn place(&self, technique: AttackId, tactic: &str) -> Result<(Vec<AttackId>, String), String> {
        let version = self.index.version();
        let own: Vec<AttackId> = self.index.get(technique).into_iter().flat_map(ObjectRef::tactics).map(ObjectRef::id).collect();
        let (now, heirs) = self.tactics(tactic).ok_or_else(|| format!("ATT&CK {version} has no tactic `{}`", clip(tactic)))?;
        let among = |wanted: &[AttackId]| own.iter().copied().filter(|t| wanted.contains(t)).collect::<Vec<_>>();
        let names = |list: &[AttackId]| list.iter().map(|t| self.short_name(*t)).collect::<Vec<_>>().join(", ");
        let (stayed, inherited) = (among(&now), among(&heirs));
        if !stayed.is_empty() {
            return Ok((stayed, String::new()));
        }
        if !inherited.is_empty() {
            let why = format!("{} became {} for {technique}", clip(tactic), names(&inherited));
            return Ok((inherited, why));
        }
        if own.is_empty() {
            return Err(format!("{technique} is in no tactic of ATT&CK {version}"));
        }
        let why = format!("{technique} is not in {}, but in {}", clip(tactic), names(&own));
        Ok((own, why))
    }

    /// Brings a layer to the release. What it holds beside techniques stays, but for the versions, which become those
    /// of this release, and platforms that the release doesn't have, which leave the filter.
    ///
    /// Twice is as once: an upgraded layer comes back as it is.
    pub fn layer(&self, layer: &Layer, pick: Pick) -> (Layer, Report) {
        let mut report = Report::default();
        let mut out = Layer { techniques: Vec::new(), ..layer.clone() };
        let plans: Vec<Plan> = layer.techniques.iter().map(|e| self.plan(e)).collect();
        // The first entry of a place is the one that was there before, if there is one.
        let mut owners: BTreeMap<&Spot, Vec<usize>> = BTreeMap::new();
        for kept in [true, false] {
            for (i, plan) in plans.iter().enumerate().filter(|(_, p)| p.is_kept == kept) {
                for spot in plan.to.iter().flatten() {
                    owners.entry(spot).or_default().push(i);
                }
            }
        }
        for (i, (entry, plan)) in layer.techniques.iter().zip(&plans).enumerate() {
            let from = Spot { id: entry.technique_id.clone(), tactic: entry.tactic.clone() };
            let spots = match &plan.to {
                Ok(spots) => spots,
                Err(reason) => {
                    let mut kept = Entry { enabled: Some(false), ..entry.clone() };
                    kept.note(&format!("ttpmap: could not move: {reason}"));
                    out.techniques.push(kept);
                    report.records.push(Record { from, to: Vec::new(), outcome: Outcome::CouldNot, why: reason.clone() });
                    continue;
                }
            };
            let mut owns = false;
            for spot in spots {
                let members = &owners[spot];
                if members[0] == i {
                    owns = true;
                    let joined: Vec<&Entry> = members.iter().map(|m| &layer.techniques[*m]).collect();
                    out.techniques.push(join(spot, &joined, pick));
                }
            }
            let outcome = match (owns, plan.is_kept) {
                (false, _) => Outcome::Merged,
                (true, true) => Outcome::Kept,
                (true, false) => Outcome::Moved,
            };
            let mut why = plan.why.clone();
            if outcome == Outcome::Merged {
                let with = &layer.techniques[owners[&spots[0]][0]];
                let with = Spot { id: with.technique_id.clone(), tactic: with.tactic.clone() };
                why = [why, if with == from { format!("an entry for {with} is there already") } else { format!("joined to {with}") }]
                    .into_iter()
                    .filter(|w| !w.is_empty())
                    .collect::<Vec<_>>()
                    .join("; ");
            }
            report.records.push(Record { from, to: spots.clone(), outcome, why });
        }
        for value in &layer.unreadable {
            let from = Spot { id: clip(value.to_string()), tactic: None };
            report.records.push(Record { from, to: Vec::new(), outcome: Outcome::CouldNot, why: "it is no object".into() });
        }
        open_new_parents(&mut out, &mut report);
        self.frame(layer, &mut out, &mut report);
        (out, report)
    }

    fn plan(&self, entry: &Entry) -> Plan {
        let Some(id) = entry.id() else {
            let reason = match entry.technique_id.trim() {
                "" => "it names no technique".to_owned(),
                other => format!("`{}` is no technique ID", clip(other)),
            };
            return Plan { to: Err(reason), is_kept: false, why: String::new() };
        };
        let placed = self.id(id).and_then(|(current, mut why)| {
            let Some(tactic) = &entry.tactic else { return Ok((current, vec![None], why)) };
            let (tactics, moved) = self.place(current, tactic)?;
            if !moved.is_empty() {
                why = [why, moved].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join("; ");
            }
            Ok((current, tactics.into_iter().map(|t| Some(self.short_name(t).to_owned())).collect(), why))
        });
        match placed {
            Err(reason) => Plan { to: Err(reason), is_kept: false, why: String::new() },
            Ok((current, tactics, why)) => {
                let to: Vec<Spot> = tactics.into_iter().map(|tactic| Spot { id: current.to_string(), tactic }).collect();
                // Another way to write the same is no move.
                let is_kept = current == id && why.is_empty();
                Plan { to: Ok(to), is_kept, why }
            }
        }
    }

    /// What stands around the techniques.
    fn frame(&self, layer: &Layer, out: &mut Layer, report: &mut Report) {
        let version = self.index.version();
        let target = major(version);
        out.domain = self.index.domain().attack_name().to_owned();
        if layer.attack_major() != Some(target) {
            let from = layer.versions.attack.as_deref().map_or("an unstated version".to_owned(), clip);
            out.metadata.push(Metadata::pair("upgraded", format!("from ATT&CK {from} to {version}")));
        }
        let unchanged = out.versions.clone();
        out.versions = Versions {
            attack: Some(target.to_owned()),
            navigator: unchanged.navigator.filter(|v| v.starts_with("5.")).or(Some(super::NAVIGATOR_VERSION.into())),
            layer: Some(super::LAYER_VERSION.into()),
        };
        // Format 3 told whether a technique is of PRE-ATT&CK; format 4 has no place for it.
        if let Some(filters) = out.other.get_mut("filters").and_then(serde_json::Value::as_object_mut)
            && filters.remove("stages").is_some()
        {
            report.notes.push("filters.stages: left out, the format has it no more".into());
            if filters.is_empty() {
                out.other.remove("filters");
            }
        }
        self.platforms(out, report);
    }

    /// The platforms in use, by name.
    pub fn known_platforms(&self) -> BTreeSet<&'a str> {
        let index: &'a Index<D> = self.index;
        index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active).flat_map(ObjectRef::platforms).collect()
    }

    /// Takes platforms that the release doesn't have out of the filter. So that nothing disappears with them, those of
    /// the annotated techniques that would be hidden come into their place.
    fn platforms(&self, out: &mut Layer, report: &mut Report) {
        let version = self.index.version();
        let known = self.known_platforms();
        let Some(platforms) = &mut out.platforms else { return };
        let gone: Vec<String> = platforms.extract_if(.., |p| !known.contains(p.as_str())).collect();
        let annotated: Vec<ObjectRef<'_, D>> = out
            .techniques
            .iter()
            .filter(|e| e.is_annotated())
            .filter_map(|e| self.index.get(e.id()?))
            .filter(|t| t.platforms().count() > 0)
            .collect();
        let shows = |t: &ObjectRef<'_, D>, platforms: &[String]| t.platforms().any(|p| platforms.iter().any(|q| q == p));
        let mut added: Vec<String> = Vec::new();
        if !gone.is_empty() && !platforms.is_empty() {
            for technique in &annotated {
                if !shows(technique, platforms) {
                    let more: Vec<String> = technique.platforms().map(str::to_owned).collect();
                    added.extend(more.iter().cloned());
                    platforms.extend(more);
                }
            }
        }
        if !gone.is_empty() {
            let instead =
                if added.is_empty() { String::new() } else { format!("; {} came in, so that what is annotated shows", added.join(", ")) };
            report.notes.push(format!("filters.platforms: ATT&CK {version} has no {}: left out of the filter{instead}", gone.join(", ")));
        }
        let hidden = annotated.iter().filter(|t| !platforms.is_empty() && !shows(t, platforms)).count();
        if hidden > 0 {
            report.notes.push(format!("filters.platforms: hides {hidden} annotated entries in ATT&CK {version}"));
        }
        if platforms.is_empty() {
            out.platforms = None;
        }
    }
}

/// Opens the techniques under which entries came to stand as sub-techniques that did not before: closed, they would
/// hide them.
fn open_new_parents(out: &mut Layer, report: &mut Report) {
    let expanded = out.layout.as_ref().and_then(|l| l.expanded_subtechniques.as_deref());
    if matches!(expanded, Some("all" | "annotated")) {
        return;
    }
    let mut wanted: BTreeSet<Spot> = BTreeSet::new();
    for record in report.records.iter().filter(|r| matches!(r.outcome, Outcome::Moved | Outcome::Merged)) {
        let old = record.from.id.trim().parse::<AttackId>().ok();
        for spot in &record.to {
            let new = spot.id.parse::<AttackId>().ok().filter(|id| id.is_subtechnique());
            if let (Some(old), Some(new)) = (old, new)
                && !(old.is_subtechnique() && old.parent() == new.parent())
            {
                wanted.insert(Spot { id: new.parent().to_string(), tactic: spot.tactic.clone() });
            }
        }
    }
    let mut opened = Vec::new();
    for spot in wanted {
        let mut there = out.techniques.iter_mut().filter(|e| e.technique_id == spot.id && (e.tactic == spot.tactic || e.tactic.is_none()));
        match there.next() {
            Some(entry) if entry.show_subtechniques == Some(true) => continue,
            Some(entry) => entry.show_subtechniques = Some(true),
            None => out.techniques.push(Entry {
                technique_id: spot.id.clone(),
                tactic: spot.tactic.clone(),
                enabled: Some(true),
                show_subtechniques: Some(true),
                ..Entry::default()
            }),
        }
        opened.push(spot.to_string());
    }
    if !opened.is_empty() {
        report.notes.push(format!("opened, so that what moved under it shows: {}", opened.join(", ")));
    }
}

/// Where an entry goes.
struct Plan {
    to: Result<Vec<Spot>, String>,
    is_kept: bool,
    why: String,
}

/// One entry of all that end in a spot, the first of which gives what can't be joined.
fn join(spot: &Spot, entries: &[&Entry], pick: Pick) -> Entry {
    let mut out = entries[0].clone();
    out.technique_id.clone_from(&spot.id);
    out.tactic.clone_from(&spot.tactic);
    let enabled = entries.iter().any(|e| e.is_enabled());
    if enabled != out.is_enabled() {
        out.enabled = Some(enabled);
    }
    let counting: Vec<&&Entry> = entries.iter().filter(|e| e.is_enabled() == enabled).collect();
    out.score = pick.of(counting.iter().filter_map(|e| e.score));
    let strongest = counting.iter().filter(|e| e.color.is_some()).max_by(|a, b| {
        let score = |e: &Entry| e.score.unwrap_or(f64::NEG_INFINITY);
        // Of equals the first.
        score(a).total_cmp(&score(b)).then(std::cmp::Ordering::Greater)
    });
    out.color = strongest.and_then(|e| e.color.clone());
    if entries.iter().any(|e| e.show_subtechniques == Some(true)) {
        out.show_subtechniques = Some(true);
    }
    if entries.len() > 1 {
        out.comment = joined_lines(entries.iter().filter_map(|e| e.comment.as_deref())).or(out.comment);
        out.metadata = once(entries.iter().flat_map(|e| &e.metadata));
        out.links = once(entries.iter().flat_map(|e| &e.links));
    }
    for entry in &entries[1..] {
        for (key, value) in &entry.other {
            out.other.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let other_ids = entries.iter().filter_map(|e| e.id()).filter(|old| old.to_string() != spot.id).map(|old| old.to_string());
    let mut seen = BTreeSet::new();
    let was: Vec<String> = other_ids.filter(|id| seen.insert(id.clone())).collect();
    if !was.is_empty() {
        out.metadata.push(Metadata::pair("moved from", was.join(", ")));
        out.metadata = once(out.metadata.iter());
    }
    out
}

/// The lines of all comments, each once, in order; None where there is none.
fn joined_lines<'c>(comments: impl Iterator<Item = &'c str>) -> Option<String> {
    let mut seen = BTreeSet::new();
    let lines: Vec<&str> = comments.flat_map(str::lines).filter(|line| seen.insert(*line)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Each once, in order.
fn once<'t, T: Clone + std::fmt::Debug + 't>(all: impl Iterator<Item = &'t T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    all.filter(|one| seen.insert(format!("{one:?}"))).cloned().collect()
}

/// Foreign text in a message: one line, not too long.
pub(crate) fn clip(text: impl AsRef<str>) -> String {
    crate::text::shown::fit(&crate::text::shown::printable(text.as_ref()), 60)
}
