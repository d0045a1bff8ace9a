//! Evidence joined into a [`Mapping`]: one entry for each technique, with its evidence, status and confidence.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::OnceLock;

use crate::encoder::{self, EncoderModel};
use crate::index::{Index, ObjectRef};
use crate::kb::id::{AttackId, Kind};
use crate::kb::{RelationKind, State};
use crate::matching::phrases::Origin;
use crate::matching::{Finder, Finders, Scratch, Sighting};
use crate::model::{self, Candidate, Judgement, Model, Profile};
use crate::profile::{Defenses, Groups, SimilarGroups, defenses, not_recorded};
use crate::status::Status;
use crate::text::{Document, Segment, Span};

/// The name of the JSON schema in which a mapping is written, a contract: docs/json.md.
pub const SCHEMA: &str = "ttpmap/1";
/// Threshold used where the knowledge base has no model that brings its own.
pub const DEFAULT_MIN_CONFIDENCE: f32 = 0.5;
/// Characters of a segment that a piece of evidence quotes.
pub const MAX_EVIDENCE_CHARS: usize = 400;
/// Documents of more segments, or of more bytes, are mapped in parts: what is kept of each sentence may be a hundred times
/// as large as the sentence.
pub const MAX_PART_SEGMENTS: usize = 50_000;
/// See [`MAX_PART_SEGMENTS`].
pub const MAX_PART_BYTES: usize = 4 << 20;
/// A part takes along what is left where that is less: in a text of a sentence or two another measure holds.
const LEAST_PART: usize = 100;

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evidence {
    /// Where it stands: the segment, or the words in it that carry it.
    pub span: Span,
    /// The line it begins on, from 1.
    pub line: usize,
    /// What the text says of it.
    pub status: Status,
    /// 0..1: how sure it is that the segment describes this.
    pub confidence: f32,
    /// Who found it.
    pub by: Finder,
    /// The words, phrase or rule that carried it.
    pub why: Vec<String>,
    /// The segment it stands in.
    pub segment: Span,
    /// A tactic that the segment or its section names and the technique belongs to.
    pub tactic: Option<AttackId>,
    /// What was second in the segment, and how sure; for [`Options::explain`].
    pub second: Option<(AttackId, f32)>,
    /// The recorded procedure of the technique that is most like the segment, where the knowledge base has prose; for
    /// [`Options::explain`].
    pub procedure: Option<Procedure>,
}

/// A procedure that ATT&CK records.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Procedure {
    /// The group, software or campaign.
    pub actor: AttackId,
    /// ATT&CK's text.
    pub text: String,
    /// The name of the source that ATT&CK cites; may be empty.
    pub source: String,
}

/// A technique, tactic, group, software or campaign that a text speaks of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// Its ID, in force.
    pub id: AttackId,
    /// Its name.
    pub name: String,
    /// A technique's tactics, by short name, in matrix order.
    pub tactics: Vec<String>,
    /// The tactics that the text itself fixes, by short name; a part of `tactics`, empty where it fixes none.
    pub fixed_tactics: Vec<String>,
    /// 0..1, of its best evidence.
    pub confidence: f32,
    /// The status of its best evidence.
    pub status: Status,
    /// The revoked ID that the text names.
    pub redirected_from: Option<AttackId>,
    /// By place.
    pub evidence: Vec<Evidence>,
}

/// A technique that ATT&CK records for something the text names, and that the text itself does not describe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Implied {
    /// Its ID.
    pub id: AttackId,
    /// Its name.
    pub name: String,
    /// Its tactics, by short name.
    pub tactics: Vec<String>,
    /// The groups, software and campaigns that it is recorded for, sorted.
    pub through: Vec<AttackId>,
}

/// What a text describes.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Mapping {
    /// Best first; ties by ID. Of every status.
    pub techniques: Vec<Found>,
    /// Tactics that the text names.
    pub tactics: Vec<Found>,
    /// Groups it names.
    pub groups: Vec<Found>,
    /// Software it names.
    pub software: Vec<Found>,
    /// Campaigns it names.
    pub campaigns: Vec<Found>,
    /// With [`Options::implied`]; by ID.
    pub implied: Vec<Implied>,
    /// With [`Options::similar_groups`].
    pub similar_groups: Option<SimilarGroups>,
    /// With [`Options::defenses`].
    pub defenses: Option<Defenses>,
}

impl Mapping {
    /// The techniques that the text says were used.
    pub fn asserted(&self) -> impl Iterator<Item = &Found> {
        self.techniques.iter().filter(|t| t.status == Status::Asserted)
    }

    /// Whether nothing at all was found.
    pub fn is_empty(&self) -> bool {
        [&self.techniques, &self.tactics, &self.groups, &self.software, &self.campaigns].into_iter().all(Vec::is_empty)
    }
}

/// What is wanted of a mapping.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Evidence below is left out; the knowledge base's own threshold where none is given. At 0 every candidate
    /// of a segment is listed, ten or more where the model has them; so are those of segments without any behaviour, which the
    /// model is else not asked about.
    pub min_confidence: Option<f32>,
    /// Which of the knowledge base's thresholds, where none is given.
    pub profile: Profile,
    /// Only techniques with evidence of these; all where empty.
    pub statuses: Vec<Status>,
    /// Only techniques of these tactics (short name or ID); all where empty.
    pub tactics: Vec<AttackId>,
    /// Only techniques for one of these platforms, compared without case; all where empty.
    pub platforms: Vec<String>,
    /// At most so many techniques.
    pub top: Option<usize>,
    /// Also list what is recorded for the groups, software and campaigns named.
    pub implied: bool,
    /// Say what carried each piece of evidence with its weight, and what was second.
    pub explain: bool,
    /// Also rank so many groups by their recorded techniques; see [`crate::profile`].
    pub similar_groups: Option<usize>,
    /// Also list what ATT&CK records against the techniques found.
    pub defenses: bool,
}

/// Maps documents with one knowledge base. Cheap to share between threads.
pub struct Mapper<'a, D> {
    index: &'a Index<D>,
    finders: Finders<'a, D>,
    model: Option<Model<'a>>,
    /// What the whole knowledge base tells for profiles, read from its relations when first asked for.
    groups: OnceLock<Groups>,
    not_recorded: OnceLock<Vec<Kind>>,
}

/// What one thread keeps between documents.
#[derive(Default)]
pub struct Workspace(Scratch);

/// A document as the finders and the model saw it.
struct Scene<'s> {
    document: &'s Document,
    sightings: &'s [Sighting],
    judgement: Option<&'s Judgement>,
}

/// Evidence on its way to an object.
struct Piece {
    object: u16,
    evidence: Evidence,
    redirected_from: Option<AttackId>,
}

impl<'a, D: AsRef<[u8]>> Mapper<'a, D> {
    /// Makes a mapper. Costs some hundred microseconds: the artifact automaton is unpacked.
    pub fn new(index: &'a Index<D>) -> Mapper<'a, D> {
        Mapper {
            index,
            finders: Finders::new(index),
            model: Model::of_index(index),
            groups: OnceLock::new(),
            not_recorded: OnceLock::new(),
        }
    }

    /// The same with an encoder beside the knowledge base's linear models. They were trained together; with a knowledge
    /// base of another release the encoder speaks of the techniques that both know.
    ///
    /// # Errors
    /// Where the model file is damaged.
    pub fn with_encoder(index: &'a Index<D>, encoder: &'a EncoderModel) -> Result<Mapper<'a, D>, encoder::Error> {
        let mut mapper = Mapper::new(index);
        match mapper.model.as_mut().map(|model| model.join(encoder, index)) {
            Some(false) => Err(encoder::Error::Parts),
            _ => Ok(mapper),
        }
    }

    /// The knowledge base.
    pub fn index(&self) -> &'a Index<D> {
        self.index
    }

    /// The threshold that is used where none is given.
    pub fn default_min_confidence(&self, profile: Profile) -> f32 {
        self.model.as_ref().map_or(DEFAULT_MIN_CONFIDENCE, |model| model.threshold(profile))
    }

    /// Maps one document.
    pub fn map(&self, document: &Document, options: &Options) -> Mapping {
        self.map_with(&mut Workspace::default(), document, options)
    }

    /// Maps one document with a workspace that was used before: faster for many small ones, with the same result.
    pub fn map_with(&self, workspace: &mut Workspace, document: &Document, options: &Options) -> Mapping {
        let min = options.min_confidence.unwrap_or_else(|| self.default_min_confidence(options.profile));
        let mut pieces = Vec::new();
        for range in parts(document.segments()) {
            self.read_part(&mut workspace.0, document, range, min, options, &mut pieces);
        }
        self.join(pieces, options)
    }

    /// What a part of a document says, by itself: a heading before it is not seen.
    fn read_part(
        &self,
        scratch: &mut Scratch,
        document: &Document,
        part: Range<usize>,
        min: f32,
        options: &Options,
        pieces: &mut Vec<Piece>,
    ) {
        let first = part.start as u32;
        let placed = |s: &Segment| Segment { heading: s.heading.and_then(|h| h.checked_sub(first)), ..*s };
        let segments = document.segments()[part].iter().map(placed);
        let sightings: Vec<Sighting> = segments.map(|segment| self.finders.read(document.text(), segment, scratch)).collect();
        let section_tactics = self.section_tactics(&sightings);
        let mut judgement =
            self.model.as_ref().map(|model| model.judge(&self.finders, document, &sightings, min, options.profile, options.explain));
        let candidates = match &mut judgement {
            Some(judgement) => std::mem::take(&mut judgement.candidates),
            None => sightings.iter().map(|s| self.without_model(s)).collect(),
        };
        let scene = Scene { document, sightings: &sightings, judgement: judgement.as_ref() };
        for (i, candidates) in candidates.into_iter().enumerate() {
            self.techniques(&scene, i, candidates, &section_tactics[i], min, options.explain, pieces);
            self.named(&scene, i, min, pieces);
        }
    }

    /// Candidates by phrases and artifacts alone, each as good as the phrase or rule is by itself.
    fn without_model(&self, sighting: &Sighting) -> Vec<Candidate> {
        let mut best: BTreeMap<u16, Candidate> = BTreeMap::new();
        for candidate in crate::model::plain_candidates(self.index, &self.finders.phrases, &self.finders.artifacts, sighting) {
            match best.get(&candidate.object) {
                Some(there) if there.confidence >= candidate.confidence => {}
                _ => {
                    best.insert(candidate.object, candidate);
                }
            }
        }
        best.into_values().collect()
    }

    /// For each segment the tactics that it, or the heading above it, names.
    fn section_tactics(&self, sightings: &[Sighting]) -> Vec<BTreeSet<AttackId>> {
        let named = |s: &Sighting| -> BTreeSet<AttackId> {
            let phrases = s.phrases.iter().filter_map(|h| self.index.at(h.object)).map(ObjectRef::id);
            let ids = s.ids.iter().map(|(id, _)| *id);
            phrases.chain(ids).filter(|id| id.kind() == Kind::Tactic).collect()
        };
        let own: Vec<BTreeSet<AttackId>> = sightings.iter().map(named).collect();
        sightings
            .iter()
            .enumerate()
            .map(|(i, sighting)| {
                let above = sighting.segment.heading.and_then(|h| own.get(h as usize)).into_iter().flatten();
                own[i].iter().chain(above).copied().collect()
            })
            .collect()
    }

    /// The status of what a segment says at a span, and how likely it is asserted.
    fn status(&self, scene: &Scene<'_>, place: usize, span: Span) -> (Status, f32) {
        match (&self.model, scene.judgement) {
            (Some(model), Some(judgement)) => model.status(judgement, scene.document, scene.sightings, place, span),
            _ => (model::cue_of(scene.document, scene.sightings, place, span).unwrap_or(Status::Asserted), 1.0),
        }
    }

    /// The recorded procedure that shares most with a segment: stems in common, each worth the less the more of the
    /// technique's procedures have it.
    fn nearest_procedure(&self, object: ObjectRef<'_, D>, scene: &Scene<'_>, sighting: &Sighting) -> Option<Procedure> {
        if !self.index.has_prose() {
            return None;
        }
        let mut tokenizer = crate::text::token::Tokenizer::default();
        let mut stems = |text: &str, span: Span| -> BTreeSet<u64> {
            let mut words = Vec::new();
            tokenizer.words(text, span, &mut words);
            crate::matching::phrases::content(&words).iter().map(|w| w.stem).collect()
        };
        let segment = stems(scene.document.text(), sighting.segment.span);
        let recorded: Vec<_> = object.incoming().filter(|r| r.kind == RelationKind::Uses && !r.text().is_empty()).collect();
        let texts: Vec<BTreeSet<u64>> = recorded.iter().map(|r| stems(r.text(), Span::new(0, r.text().len()))).collect();
        let mut counts: BTreeMap<u64, f32> = BTreeMap::new();
        for stem in texts.iter().flatten() {
            *counts.entry(*stem).or_default() += 1.0;
        }
        let shared = |text: &BTreeSet<u64>| {
            let worth: f32 = text.intersection(&segment).map(|s| (1.0 + texts.len() as f32 / counts[s]).ln()).sum();
            worth / (8.0 + text.len() as f32).sqrt()
        };
        let best = texts.iter().map(shared).enumerate().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let (place, worth) = best?;
        (worth > 0.0).then(|| Procedure {
            actor: recorded[place].source.id(),
            text: recorded[place].text().to_owned(),
            source: recorded[place].reference().to_owned(),
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn techniques(
        &self,
        scene: &Scene<'_>,
        place: usize,
        candidates: Vec<Candidate>,
        tactics: &BTreeSet<AttackId>,
        min: f32,
        explain: bool,
        pieces: &mut Vec<Piece>,
    ) {
        let sighting = &scene.sightings[place];
        let piece = |candidate: Candidate, by: Option<AttackId>| {
            // The status can only take from it.
            if candidate.confidence < min {
                return None;
            }
            let object = self.index.at(candidate.object)?;
            let belongs = |t: &AttackId| object.tactics().any(|o| o.id() == *t);
            let (status, asserted) = self.status(scene, place, candidate.focus);
            let confidence = match (status, candidate.by) {
                (Status::Asserted, Finder::Phrase | Finder::Artifact | Finder::Model) => {
                    model::confidence(candidate.confidence, asserted, scene.sightings.len() <= model::ALONE_SEGMENTS)
                }
                _ => candidate.confidence,
            };
            if confidence < min {
                return None;
            }
            let evidence = Evidence {
                span: candidate.span,
                line: scene.document.line(candidate.span.start),
                status,
                confidence,
                by: candidate.by,
                why: candidate.why,
                segment: sighting.segment.span,
                tactic: tactics.iter().copied().find(belongs),
                second: candidate.second,
                procedure: if explain { self.nearest_procedure(object, scene, sighting) } else { None },
            };
            Some(Piece { object: candidate.object, evidence, redirected_from: by })
        };
        for candidate in candidates {
            pieces.extend(piece(candidate, None));
        }
        for (id, span) in &sighting.ids {
            if id.kind() == Kind::Technique
                && let Some(object) = self.index.current(*id)
            {
                let candidate = Candidate::certain(object.place(), *span, id.to_string());
                pieces.extend(piece(candidate, (object.id() != *id).then_some(*id)));
            }
        }
    }

    /// Tactics, groups, software and campaigns that a segment names.
    fn named(&self, scene: &Scene<'_>, place: usize, min: f32, pieces: &mut Vec<Piece>) {
        let (document, sighting) = (scene.document, &scene.sightings[place]);
        let mut put = |object: u16, span: Span, by: Finder, confidence: f32, why: String, redirected_from| {
            if confidence < min {
                return;
            }
            let (status, _) = self.status(scene, place, span);
            let evidence = Evidence {
                span,
                line: document.line(span.start),
                status,
                confidence,
                by,
                why: vec![why],
                segment: sighting.segment.span,
                tactic: None,
                second: None,
                procedure: None,
            };
            pieces.push(Piece { object, evidence, redirected_from });
        };
        for hit in &sighting.phrases {
            let Some(object) = self.index.at(hit.object) else { continue };
            let kind = object.id().kind();
            // "Execution", "discovery", "impact" are words first: as tactics they are named by heading or beside
            // the word tactic.
            let named = match kind {
                Kind::Tactic => !hit.generic || hit.quality >= 1.0 && named_as_tactic(document.text(), sighting, hit.span),
                Kind::Group | Kind::Software | Kind::Campaign => true,
                _ => false,
            };
            if named {
                let origin = if hit.origin == Origin::Former { 0.9 } else { 1.0 };
                put(
                    hit.object,
                    hit.span,
                    Finder::Phrase,
                    hit.precision * hit.quality * origin,
                    self.finders.phrases.text(hit.phrase).to_owned(),
                    None,
                );
            }
        }
        for (id, span) in &sighting.ids {
            if id.kind() != Kind::Technique
                && let Some(object) = self.index.current(*id)
            {
                put(object.place(), *span, Finder::Id, 0.99, id.to_string(), (object.id() != *id).then_some(*id));
            }
        }
    }

    fn join(&self, pieces: Vec<Piece>, options: &Options) -> Mapping {
        let mut by_object: BTreeMap<u16, Vec<Piece>> = BTreeMap::new();
        for piece in pieces {
            by_object.entry(piece.object).or_default().push(piece);
        }
        let mut mapping = Mapping::default();
        for (place, pieces) in by_object {
            let Some(object) = self.index.at(place).filter(|o| o.state() != State::Revoked) else { continue };
            let found = found(object, pieces);
            match object.id().kind() {
                Kind::Technique if wanted(object, &found, options) => mapping.techniques.push(found),
                Kind::Tactic => mapping.tactics.push(found),
                Kind::Group => mapping.groups.push(found),
                Kind::Software => mapping.software.push(found),
                Kind::Campaign => mapping.campaigns.push(found),
                _ => {}
            }
        }
        if options.implied {
            mapping.implied = self.implied(&mapping);
        }
        for list in [&mut mapping.techniques, &mut mapping.tactics, &mut mapping.groups, &mut mapping.software, &mut mapping.campaigns] {
            list.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.id.cmp(&b.id)));
        }
        if let Some(top) = options.top {
            mapping.techniques.truncate(top);
        }
        self.profile(&mut mapping, options);
        mapping
    }

    /// What is asked for about the techniques that are listed: those that the text asserts, unless statuses are chosen.
    fn profile(&self, mapping: &mut Mapping, options: &Options) {
        let meant = |f: &&Found| !options.statuses.is_empty() || f.status == Status::Asserted;
        let found: Vec<&Found> = mapping.techniques.iter().filter(meant).collect();
        let similar = options.similar_groups.map(|most| self.groups.get_or_init(|| Groups::of(self.index)).similar(&found, most));
        let missing = || self.not_recorded.get_or_init(|| not_recorded(self.index));
        let defenses = options.defenses.then(|| defenses(self.index, &found, missing()));
        (mapping.similar_groups, mapping.defenses) = (similar, defenses);
    }

    fn implied(&self, mapping: &Mapping) -> Vec<Implied> {
        let described: BTreeSet<AttackId> = mapping.techniques.iter().map(|t| t.id).collect();
        let mut through: BTreeMap<AttackId, BTreeSet<AttackId>> = BTreeMap::new();
        for found in mapping.groups.iter().chain(&mapping.software).chain(&mapping.campaigns) {
            let Some(object) = self.index.get(found.id) else { continue };
            for relation in object.outgoing().filter(|r| r.kind == RelationKind::Uses) {
                let id = relation.target.id();
                if id.kind() == Kind::Technique && relation.target.state() == State::Active && !described.contains(&id) {
                    through.entry(id).or_default().insert(found.id);
                }
            }
        }
        let implied = through.into_iter().filter_map(|(id, through)| {
            let object = self.index.get(id)?;
            let tactics = object.tactics().map(|t| t.short_name().to_owned()).collect();
            Some(Implied { id, name: object.name().to_owned(), tactics, through: through.into_iter().collect() })
        });
        implied.collect()
    }
}

/// The parts that a document is mapped in: one, but for very long documents. There is always one.
fn parts(segments: &[Segment]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut from = 0;
    loop {
        let begin = segments.get(from).map_or(0, |s| s.span.start);
        let within = segments[from..].partition_point(|s| s.span.end <= begin + MAX_PART_BYTES);
        let end = from + within.clamp(1, MAX_PART_SEGMENTS).min(segments.len() - from);
        if segments.len() - end < LEAST_PART {
            out.push(from..segments.len());
            return out;
        }
        out.push(from..end);
        from = end;
    }
}

/// A one-word tactic stands as a heading of its own, or with the word tactic, stage or phase in its segment.
fn named_as_tactic(text: &str, sighting: &Sighting, span: Span) -> bool {
    let segment = sighting.segment.span.of(text);
    let alone = segment.trim_matches(|c: char| !c.is_alphanumeric()).len() <= span.len() + 2;
    let lower = segment.to_lowercase();
    alone
        || ["tactic", "stage", "phase", "kill chain", "att&ck"].iter().any(|w| lower.contains(w))
            && span.of(text).starts_with(char::is_uppercase)
}

fn found<D: AsRef<[u8]>>(object: ObjectRef<'_, D>, mut pieces: Vec<Piece>) -> Found {
    // One piece for each place: of several finders the surest speaks, and the others' reasons are kept.
    pieces.sort_by(|a, b| {
        let key = |p: &Piece| (p.evidence.segment, p.evidence.by != Finder::Id);
        key(a).cmp(&key(b)).then(b.evidence.confidence.total_cmp(&a.evidence.confidence)).then(a.evidence.span.cmp(&b.evidence.span))
    });
    let redirected_from = pieces.iter().find_map(|p| p.redirected_from);
    let merges = object.id().kind() == Kind::Technique;
    let mut evidence: Vec<Evidence> = Vec::new();
    for piece in pieces {
        match evidence.last_mut() {
            Some(last) if merges && last.segment == piece.evidence.segment => {
                for why in piece.evidence.why {
                    if !last.why.contains(&why) {
                        last.why.push(why);
                    }
                }
            }
            Some(last) if last.span == piece.evidence.span => {}
            _ => evidence.push(piece.evidence),
        }
    }
    let best = evidence.iter().map(|e| e.status).min().unwrap_or(Status::Asserted);
    let confidence = evidence.iter().filter(|e| e.status == best).map(|e| e.confidence).fold(0.0, f32::max);
    let tactics: Vec<ObjectRef<'_, D>> = object.tactics().collect();
    let fixed: BTreeSet<AttackId> = evidence.iter().filter(|e| e.status == best).filter_map(|e| e.tactic).collect();
    let names =
        |keep: &dyn Fn(&AttackId) -> bool| tactics.iter().filter(|t| keep(&t.id())).map(|t| t.short_name().to_owned()).collect::<Vec<_>>();
    Found {
        id: object.id(),
        name: object.name().to_owned(),
        tactics: names(&|_| true),
        fixed_tactics: names(&|t| fixed.contains(t)),
        confidence,
        status: best,
        redirected_from,
        evidence,
    }
}

fn wanted<D: AsRef<[u8]>>(object: ObjectRef<'_, D>, found: &Found, options: &Options) -> bool {
    let status = options.statuses.is_empty() || options.statuses.contains(&found.status);
    let tactic = options.tactics.is_empty() || object.tactics().any(|t| options.tactics.contains(&t.id()));
    let platform =
        options.platforms.is_empty() || object.platforms().any(|p| options.platforms.iter().any(|wanted| wanted.eq_ignore_ascii_case(p)));
    status && tactic && platform
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::SegmentKind;

    #[test]
    fn parts_are_bounded_and_none_is_a_sentence_or_two() {
        let segments = |count: usize, bytes: usize| {
            let span = |i: usize| Span::new(i * (bytes + 1), i * (bytes + 1) + bytes);
            (0..count).map(|i| Segment { span: span(i), kind: SegmentKind::Sentence, heading: None }).collect::<Vec<_>>()
        };
        for (count, bytes, ends) in [
            (0, 10, vec![0]),
            (3, 10, vec![3]),
            (MAX_PART_SEGMENTS, 2, vec![MAX_PART_SEGMENTS]),
            (MAX_PART_SEGMENTS + 50, 2, vec![MAX_PART_SEGMENTS + 50]),
            (MAX_PART_SEGMENTS + 200, 2, vec![MAX_PART_SEGMENTS, MAX_PART_SEGMENTS + 200]),
            (3000, 3999, vec![1048, 2096, 3000]),
        ] {
            let parts = parts(&segments(count, bytes));
            assert_eq!(parts.iter().map(|p| p.end).collect::<Vec<_>>(), ends, "{count} of {bytes}");
            assert!(parts[0].start == 0 && parts.windows(2).all(|two| two[0].end == two[1].start), "{parts:?}");
        }
    }

    /// What is said in a part of a long text is said with places in the whole.
    #[test]
    fn a_long_text_is_mapped_to_its_end() {
        let filler = "It rained.\n\n".repeat(MAX_PART_SEGMENTS + 500);
        let text = format!("The actor used T1490.\n\n{filler}# Impact\n\nThe actor used T1486.\n");
        let index = Index::embedded();
        let mapping = Mapper::new(&index).map(&Document::new(text.as_str()), &Options::default());
        let ids: Vec<(String, &str)> =
            mapping.techniques.iter().flat_map(|t| t.evidence.iter().map(|e| (t.id.to_string(), e.span.of(&text)))).collect();
        for id in ["T1490", "T1486"] {
            assert!(ids.contains(&(id.to_owned(), id)), "{ids:?}");
        }
        assert_eq!(mapping.tactics[0].evidence[0].span.of(&text), "Impact");
    }
}
