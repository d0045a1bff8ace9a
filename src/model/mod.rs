//! The text model: which techniques a segment may describe, and how sure each is.
//!
//! Three stages, each small enough to read (docs/accuracy.md has what each is worth):
//!
//! 1. Linear models over words ([`linear`], [`features`]): a ranker (softmax over all techniques and "none"), two gates
//!    (behaviour or not), and one for the status.
//! 2. A row of numbers for each (segment, technique) that is possible ([`stack`]): scores, ranks, what phrases and
//!    artifact rules found, what the segments around say.
//! 3. Boosted trees ([`trees`]) that turn the row into a probability.
//!
//! The model lies in the index as one section. It names techniques by ID, so a knowledge base of another release
//! takes it over along ATT&CK's redirects.

pub mod adapt;
pub mod corpus;
mod features;
pub mod lessons;
pub mod lexicon_report;
mod linear;
#[cfg(test)]
pub(crate) use linear::Random;
mod stack;
#[cfg(test)]
mod status_tests;
pub mod train;
mod train_status;
#[cfg(test)]
mod train_tests;
mod trees;

use zerocopy::byteorder::little_endian::{F32, U32, U64};

use crate::encoder::input::{context, plain};
use crate::encoder::{Asked, Encoder, EncoderModel};
use crate::index::Index;
use crate::index::format::{fnv1a, tag};
use crate::kb::State;
use crate::kb::id::{AttackId, Kind};
use crate::matching::artifacts::Artifacts;
use crate::matching::phrases::Phrases;
use crate::matching::{Finder, Finders, Sighting};
use crate::status::{self, Status};
use crate::text::{Document, Span};
use linear::{LinearRef, softmax};
use stack::{ClassFacts, Facts, Heard, Pairs, StatusViews};
use trees::TreesRef;

/// A technique that a segment may describe.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    /// Its place in the index.
    pub(crate) object: u16,
    /// What the evidence covers.
    pub(crate) span: Span,
    /// The words in it that name the behaviour: what the status is decided for.
    pub(crate) focus: Span,
    pub(crate) confidence: f32,
    pub(crate) by: Finder,
    pub(crate) why: Vec<String>,
    pub(crate) second: Option<(AttackId, f32)>,
}

impl Candidate {
    /// A technique that is named by its ID.
    pub(crate) fn certain(object: u16, span: Span, why: String) -> Candidate {
        Candidate { object, span, focus: span, confidence: 0.99, by: Finder::Id, why: vec![why], second: None }
    }
}

/// What phrases and artifacts alone say of a segment.
pub(crate) fn plain_candidates<D: AsRef<[u8]>>(
    index: &Index<D>,
    phrases: &Phrases<'_, D>,
    artifacts: &Artifacts<'_, D>,
    sighting: &Sighting,
) -> Vec<Candidate> {
    let is_technique = |place: u16| index.at(place).is_some_and(|o| o.id().kind() == Kind::Technique && o.state() == State::Active);
    let mut out = Vec::new();
    for hit in sighting.phrases.iter().filter(|h| is_technique(h.object)) {
        out.push(Candidate {
            object: hit.object,
            span: hit.span,
            focus: hit.span,
            confidence: hit.precision * hit.quality,
            by: Finder::Phrase,
            why: vec![phrases.text(hit.phrase).to_owned()],
            second: None,
        });
    }
    for hit in sighting.artifacts.iter().filter(|h| is_technique(h.object)) {
        let (pattern, reason) = artifacts.rule(hit.rule);
        out.push(Candidate {
            object: hit.object,
            span: hit.span,
            focus: hit.span,
            confidence: hit.precision,
            by: Finder::Artifact,
            why: vec![format!("{reason} ({pattern})")],
            second: None,
        });
    }
    out
}

/// Classes of a segment that are kept, best first.
const TOP: usize = 12;
/// The ranker's probability from which a class is a candidate by that alone.
const LEAST: f32 = 0.01;
/// Documents of at most so many segments are read as texts that someone chose: a sentence or two.
pub const ALONE_SEGMENTS: usize = 2;

/// A chosen text of fewer words, or one that the ranker gives to "none" with more than this, describes only what
/// phrases and artifact rules name in it.
const ALONE_WORDS: usize = 3;
const ALONE_NONE: f32 = 0.5;
/// The sentences that the status is learned from are asserted in three of ten cases, what people ask about in more than
/// half of them: so many times likelier, as a logarithm.
const ALONE_PRIOR: f32 = 1.0;

/// The gate from which the encoder reads a segment. At 0.05 an ordinary report takes a quarter longer and is read no better
/// (docs/accuracy.md).
const READ_GATE: f32 = 0.09;

/// The gate below which a segment of a report without phrases and artifacts is not ranked. Of half of all segments it says
/// less; what they describe is one label in fifty, none of which comes near a threshold.
const RANK_GATE: f32 = 0.03;

/// Whether phrases, other than names of actors and software, or artifact rules found something in a segment.
fn hit(sighting: &Sighting) -> bool {
    sighting.phrases.iter().any(|h| !h.proper) || !sighting.artifacts.is_empty()
}

/// Whether the encoder reads a segment of a report in every profile that has it read.
fn worth_reading(sighting: &Sighting, gate: f32) -> bool {
    gate >= READ_GATE || hit(sighting)
}

/// Whether a phrase that is no ordinary word, or an artifact, names a technique in a segment.
fn named(sighting: &Sighting, object: u16) -> bool {
    let phrase = sighting.phrases.iter().any(|h| h.object == object && !h.generic && h.precision * h.quality >= 0.4);
    phrase || sighting.artifacts.iter().any(|h| h.object == object)
}

/// What the first stage says of a segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The ranker's best classes, "none" among them where it is one; best first.
    top: Vec<(u16, f32)>,
    none: f32,
    /// The probability that the segment describes behaviour at all.
    gate: f32,
    /// The same by labels of other conventions.
    other_gate: f32,
    /// How undecided the ranker is, in nats.
    entropy: f32,
    /// How many features it knows.
    norm: f32,
    /// The gate said so little that the ranker was not asked.
    unranked: bool,
    /// What the encoder says, where it read the segment.
    heard: Option<Heard>,
}

impl View {
    /// The classes that may be told, by the ranker or the encoder.
    fn likely(&self, none: u16) -> impl Iterator<Item = u16> + '_ {
        let heard = self.heard.iter().flat_map(|heard| &heard.top);
        self.top.iter().chain(heard).filter(move |(class, p)| *class != none && *p >= LEAST).map(|(class, _)| *class)
    }

    /// What each model by itself says of a class, for explanations.
    fn voices(&self, class: u16) -> String {
        let linear = self.top.iter().find(|(c, _)| *c == class).map_or(0.0, |(_, p)| *p);
        match &self.heard {
            Some(heard) => format!(
                "words alone say {linear:.2} (behaviour {:.2}), the encoder {:.2} (behaviour {:.2})",
                self.gate,
                heard.p_of(class),
                heard.behaviour
            ),
            None => format!("words alone say {linear:.2} (behaviour {:.2})", self.gate),
        }
    }
}

/// The linear models of the first stage.
#[derive(Clone, Copy)]
struct FirstStage<'a> {
    ranker: LinearRef<'a>,
    gate: LinearRef<'a>,
    other_gate: LinearRef<'a>,
}

/// The best classes of a score list, as probabilities, best first, ties by class; and the entropy of all, in nats.
fn best(scores: &mut [f32], most: usize) -> (Vec<(u16, f32)>, f32) {
    let entropy = softmax(scores);
    const SOME: usize = 16;
    // The best of so many at a time: as many of these as are asked for are no worse than the last that will be kept.
    let tops: Vec<f32> = scores.chunks(SOME).map(|some| some.iter().copied().fold(0.0, f32::max)).collect();
    let mut least = 1e-6_f32;
    if (1..=tops.len()).contains(&most) {
        let kept = *tops.clone().select_nth_unstable_by(most - 1, |a, b| b.total_cmp(a)).1;
        least = least.max(kept.next_down());
    }
    let mut all: Vec<(u16, f32)> = Vec::with_capacity(most + 1);
    for (chunk, some) in scores.chunks(SOME).enumerate() {
        if tops[chunk] <= least {
            continue;
        }
        for (i, p) in some.iter().enumerate() {
            if *p > least {
                let place = all.partition_point(|(_, q)| q >= p);
                all.insert(place, ((chunk * SOME + i) as u16, *p));
                if all.len() > most {
                    all.pop();
                    least = all[most - 1].1;
                }
            }
        }
    }
    (all, entropy)
}

impl FirstStage<'_> {
    fn view(&self, document: &Document, sightings: &[Sighting], place: usize, given: Given<'_>, scores: &mut Vec<f32>) -> View {
        let sighting = &sightings[place];
        let none = self.ranker.classes - 1;
        let shape = features::gate(document, sightings, place);
        let yes = |model: &LinearRef<'_>, scores: &mut Vec<f32>| {
            model.scores(&model.vector(&shape), scores);
            softmax(scores);
            scores.get(1).copied().unwrap_or(0.0)
        };
        let mut view = View { gate: yes(&self.gate, scores), ..View::default() };
        if !given.all && view.gate < RANK_GATE && sightings.len() > ALONE_SEGMENTS && !hit(sighting) {
            return View { none: 1.0, top: vec![(none as u16, 1.0)], unranked: true, ..view };
        }
        view.other_gate = yes(&self.other_gate, scores);
        let vector = self.ranker.vector(&features::ranker(&sighting.words, &sighting.masked, sighting.segment.span));
        self.ranker.scores(&vector, scores);
        given.absent.iter().for_each(|c| scores[usize::from(*c)] = f32::NEG_INFINITY);
        (view.top, view.entropy) = best(scores, TOP);
        view.none = scores[none];
        view.norm = (vector.len() as f32 + 1.0).ln();
        view
    }

    /// What the first stage says of every segment.
    fn views(&self, document: &Document, sightings: &[Sighting], given: Given<'_>) -> Vec<View> {
        let mut scores = Vec::new();
        (0..sightings.len()).map(|i| self.view(document, sightings, i, given, &mut scores)).collect()
    }
}

/// What is asked of the first stage.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    /// Classes that are absent from the release are never said.
    absent: &'a [u16],
    /// Rank segments too that describe nothing by the gate.
    all: bool,
}

/// How much is read, and named points on the curve of precision and recall. Without an encoder all but [`Profile::Fast`]
/// read what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// The linear models only; the threshold as [`Profile::Balanced`].
    Fast,
    /// Few false alarms.
    Precise,
    /// The best F1 on reports of publishers that were not learned from. The encoder reads what may be behaviour.
    #[default]
    Balanced,
    /// Few misses. The encoder reads everything.
    Thorough,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 4] = [Profile::Fast, Profile::Precise, Profile::Balanced, Profile::Thorough];

    /// Its name, as `--profile` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Fast => "fast",
            Profile::Precise => "precise",
            Profile::Balanced => "balanced",
            Profile::Thorough => "thorough",
        }
    }
}

/// What words must bring a technique, as a logarithm of odds, to show its place in a sentence; and the share of it that one clause
/// must have.
const CARRIED: f32 = 0.5;
const CLAUSE_SHARE: f32 = 0.6;

/// Where a sentence of several clauses speaks of a class that no phrase and no artifact names: the word or pair that carries most
/// of it, where one clause has most of what the ranker's words bring. None where there is one clause, whose `carriers` are not asked
/// for, or where all of them tell of it.
fn told_at<C: AsRef<[Carrier]>>(document: &Document, sighting: &Sighting, carriers: impl FnOnce() -> C) -> Option<Span> {
    let segment = sighting.segment.span;
    let starts = status::clause_starts(segment.of(document.text()));
    if starts.len() < 2 {
        return None;
    }
    let carriers = carriers();
    let carriers = carriers.as_ref();
    let clause = |carrier: &Carrier| starts.partition_point(|start| segment.start + start <= carrier.span.start) - 1;
    let mut sums = vec![0.0_f32; starts.len()];
    carriers.iter().for_each(|carrier| sums[clause(carrier)] += carrier.share());
    let most = sums.iter().copied().fold(0.0, f32::max);
    if most < CARRIED || most < CLAUSE_SHARE * sums.iter().sum::<f32>() {
        return None;
    }
    let inside = carriers.iter().filter(|carrier| sums[clause(carrier)] >= most);
    inside.max_by(|a, b| a.share().total_cmp(&b.share()).then(b.span.start.cmp(&a.span.start))).map(|carrier| carrier.span)
}

/// A word or pair of a segment that speaks for a class, at one of its places.
struct Carrier {
    feature: u64,
    span: Span,
    /// What the feature adds to the class's score, at all its places together.
    weight: f32,
    places: usize,
}

impl Carrier {
    /// What this place brings.
    fn share(&self) -> f32 {
        self.weight / self.places as f32
    }
}

/// The words and pairs of a segment that speak for a class, in the order of their places.
fn carriers_of(ranker: &LinearRef<'_>, sighting: &Sighting, class: u16) -> Vec<Carrier> {
    let (words, masked, within) = (&sighting.words, &sighting.masked, sighting.segment.span);
    let weights = ranker.contributions(&features::ranker(words, masked, within), usize::from(class));
    let spans = features::ranker_spans(words, masked, within);
    let carrier = |(feature, span): &(u64, Span)| {
        let (_, weight) = weights.iter().find(|(f, w)| f == feature && *w > 0.0)?;
        let places = spans.iter().filter(|(f, _)| f == feature).count();
        Some(Carrier { feature: *feature, span: *span, weight: *weight, places })
    };
    spans.iter().filter_map(carrier).collect()
}

/// The words and pairs that speak most for a class, as they are shown, with what each adds to its score.
fn shown_carriers(document: &Document, carriers: &[Carrier]) -> Vec<(String, f32)> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for carrier in carriers.iter().filter(|carrier| carrier.weight > 0.02) {
        if !seen.contains(&carrier.feature) {
            seen.push(carrier.feature);
            let words = carrier.span.of(document.text()).split_whitespace().collect::<Vec<_>>();
            out.push((words.join(" "), carrier.weight));
        }
    }
    out.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    out
}

/// What the linear status model says of a behaviour at `focus`, and what the cue rules say.
fn status_of(linear: &LinearRef<'_>, document: &Document, sightings: &[Sighting], place: usize, focus: Span) -> ([f32; 6], Option<Status>) {
    let cue = cue_of(document, sightings, place, focus);
    let features = features::status(document, sightings, place, focus, cue);
    let mut scores = Vec::new();
    linear.scores(&linear.vector(&features), &mut scores);
    softmax(&mut scores);
    let mut out = [0.0; 6];
    for (to, from) in out.iter_mut().zip(&scores) {
        *to = *from;
    }
    (out, cue)
}

/// The same of every segment as a whole that may describe behaviour.
fn status_views(linear: &LinearRef<'_>, document: &Document, sightings: &[Sighting], views: &[View]) -> StatusViews {
    let of = |i: usize| (views[i].gate >= stack::STATUS_GATE).then(|| status_of(linear, document, sightings, i, sightings[i].segment.span));
    StatusViews::new(sightings, (0..sightings.len()).map(of).collect())
}

/// The likeliest status but `asserted`: by the linear model, and by the encoder where it read the segment.
fn likeliest_other(p: &[f32; 6], heard: Option<&Heard>) -> Status {
    let both: [f32; 6] = std::array::from_fn(|i| p[i] + heard.map_or(0.0, |h| h.statuses[i]));
    let others = Status::ALL.iter().zip(&both).skip(1);
    others.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0))).map_or(Status::Generic, |(s, _)| *s)
}

/// What the model makes of a document.
pub(crate) struct Judgement {
    /// The candidates of every segment, best first.
    pub(crate) candidates: Vec<Vec<Candidate>>,
    views: Vec<View>,
    statuses: StatusViews,
}

/// The stages behind the first: from rows to what is right, and in what status.
#[derive(Clone, Copy)]
struct Second<'a> {
    status_trees: TreesRef<'a>,
    stacked: TreesRef<'a>,
    alone: TreesRef<'a>,
    /// Of the profiles, in their order.
    thresholds: [f32; 3],
    /// Below this probability of `asserted` another status is taken.
    asserted: f32,
    /// Stretch and shift of the log-odds in chosen texts, under which the best candidate's confidence is how often its
    /// family is right.
    alone_fit: (f32, f32),
}

impl<'a> Second<'a> {
    fn open(bytes: &'a [u8], parts: &Index<&'a [u8]>) -> Option<Second<'a>> {
        let trees = |tag| TreesRef::open(parts.range(tag).and_then(|r| bytes.get(r))?);
        let numbers: &[F32] = parts.section(*b"NUMB");
        let [precise, balanced, thorough, asserted, stretch, shift] = numbers else { return None };
        Some(Second {
            status_trees: trees(*b"STTR")?,
            stacked: trees(*b"STAK")?,
            alone: trees(*b"ALON")?,
            thresholds: [precise.get(), balanced.get(), thorough.get()],
            asserted: asserted.get(),
            alone_fit: (stretch.get(), shift.get()),
        })
    }
}

/// An encoder beside the linear models.
struct Joined<'a> {
    encoder: &'a Encoder,
    second: Second<'a>,
    /// This knowledge base's class of each technique that the encoder knows.
    classes: Vec<Option<u16>>,
}

/// The model of an open index.
pub(crate) struct Model<'a> {
    first: FirstStage<'a>,
    status: LinearRef<'a>,
    second: Second<'a>,
    joined: Option<Joined<'a>>,
    ids: Vec<AttackId>,
    facts: Facts,
    /// Place in the index of each class; None where the release doesn't have it.
    objects: Vec<Option<u16>>,
    classes: std::collections::BTreeMap<u16, u16>,
    /// Classes that the release doesn't have.
    absent: Vec<u16>,
}

/// Key of a phrase under which its learned precision is kept.
pub(crate) fn phrase_key(technique: AttackId, text: &str) -> u64 {
    fnv1a(&[&technique.key().to_le_bytes(), text.as_bytes()])
}

/// The learned precision of phrases, from a model's bytes.
pub(crate) fn phrase_precisions(model: &[u8]) -> std::collections::BTreeMap<u64, f32> {
    let Ok(index) = Index::new(model) else { return Default::default() };
    let (keys, values): (&[U64], &[F32]) = (index.section(*b"PHRK"), index.section(*b"PHRP"));
    keys.iter().zip(values).map(|(k, v)| (k.get(), v.get())).collect()
}

/// Number of each class's family, by order of first class.
fn families(ids: &[AttackId]) -> Vec<u16> {
    let mut seen: Vec<AttackId> = Vec::new();
    ids.iter()
        .map(|id| {
            let parent = id.parent();
            let at = seen.iter().position(|s| *s == parent).unwrap_or_else(|| {
                seen.push(parent);
                seen.len() - 1
            });
            at as u16
        })
        .collect()
}

impl<'a> Model<'a> {
    /// The model of an index; None where it has none or its section is damaged.
    pub(crate) fn of_index<D: AsRef<[u8]>>(index: &'a Index<D>) -> Option<Model<'a>> {
        let bytes = index.raw(tag::MODEL);
        let parts = Index::new(bytes).ok()?;
        let section = |tag: [u8; 4]| parts.range(tag).and_then(|r| bytes.get(r));
        let linear = |tag| LinearRef::open(section(tag)?);
        let keys: &[U32] = parts.section(*b"CLSS");
        let ids = keys.iter().map(|k| AttackId::from_key(k.get())).collect::<Option<Vec<_>>>()?;
        let (reliability, frequency): (&[F32], &[F32]) = (parts.section(*b"RELI"), parts.section(*b"FREQ"));
        if reliability.len() != ids.len() || frequency.len() != ids.len() {
            return None;
        }
        let facts = families(&ids)
            .into_iter()
            .zip(&ids)
            .enumerate()
            .map(|(i, (family, id))| ClassFacts {
                reliability: reliability[i].get(),
                frequency: frequency[i].get(),
                family,
                is_sub: id.is_subtechnique(),
            })
            .collect::<Vec<_>>();
        let [ones, others, counts]: [&[U32]; 3] = [*b"PAIO", *b"PAIC", *b"PAIN"].map(|tag| parts.section(tag));
        let class = |c: &U32| u16::try_from(c.get()).ok().filter(|c| usize::from(*c) < ids.len());
        let counted: Vec<(u16, u16, f32)> = ones
            .iter()
            .zip(others)
            .zip(counts)
            .filter_map(|((one, other), count)| Some((class(one)?, class(other)?, count.get() as f32)))
            .collect();
        let labelled = frequency.iter().map(|f| (f.get().exp() - 1.0).round()).collect();
        let facts = Facts { classes: facts, pairs: Pairs::new(labelled, counted.into_iter()) };
        let (olds, news): (&[U32], &[U32]) = (parts.section(*b"OLDS"), parts.section(*b"NEWS"));
        // An older release has the technique under the number that it was revoked from.
        let back = |id: &AttackId| {
            let old = olds.iter().zip(news).filter(|(_, new)| new.get() == id.key()).map(|(old, _)| old.get());
            old.filter_map(AttackId::from_key).find_map(|old| train::place_of(index, old))
        };
        let objects: Vec<Option<u16>> = ids.iter().map(|id| train::place_of(index, *id).or_else(|| back(id))).collect();
        // Two classes may have become one technique; the first stands for it where phrases ask.
        let mut classes = std::collections::BTreeMap::new();
        for (class, object) in objects.iter().enumerate() {
            if let Some(object) = object {
                classes.entry(*object).or_insert(class as u16);
            }
        }
        let first = FirstStage { ranker: linear(*b"RANK")?, gate: linear(*b"GATE")?, other_gate: linear(*b"OGAT")? };
        (first.ranker.classes == ids.len() + 1).then_some(Model {
            first,
            status: linear(*b"STAT")?,
            second: Second::open(bytes, &parts)?,
            joined: None,
            facts,
            absent: (0..).zip(&objects).filter(|(_, o)| o.is_none()).map(|(class, _)| class).collect(),
            objects,
            classes,
            ids,
        })
    }

    /// Lets an encoder have its say. Its techniques are this model's of the same ID, else, along redirects, of the same
    /// place in the index; one that neither has stays the linear models'. False where the file's second stage is damaged.
    pub(crate) fn join<D: AsRef<[u8]>>(&mut self, model: &'a EncoderModel, index: &Index<D>) -> bool {
        let bytes = model.joined();
        let Some(second) = Index::new(bytes).ok().and_then(|parts| Second::open(bytes, &parts)) else { return false };
        let class = |id: &AttackId| {
            let same = self.ids.iter().position(|i| i == id).map(|class| class as u16);
            same.or_else(|| self.classes.get(&train::place_of(index, *id)?).copied())
        };
        let classes: Vec<Option<u16>> = model.encoder().labels.iter().map(class).collect();
        if classes.iter().flatten().count() * 2 < classes.len() {
            // A knowledge base of another domain, whose techniques it has not learned.
            return true;
        }
        self.joined = Some(Joined { encoder: model.encoder(), second, classes });
        true
    }

    /// The encoder, where there is one and the profile wants it.
    fn joined(&self, profile: Profile) -> Option<&Joined<'a>> {
        self.joined.as_ref().filter(|_| profile != Profile::Fast)
    }

    /// The threshold of a profile.
    pub(crate) fn threshold(&self, profile: Profile) -> f32 {
        let second = self.joined(profile).map_or(&self.second, |joined| &joined.second);
        second.thresholds[match profile {
            Profile::Precise => 0,
            Profile::Fast | Profile::Balanced => 1,
            Profile::Thorough => 2,
        }]
    }

    /// Has the encoder read what the profile wants it to.
    fn listen(&self, joined: &Joined<'_>, profile: Profile, document: &Document, sightings: &[Sighting], views: &mut [View]) {
        let wanted = |place: &usize| {
            let few = sightings.len() <= ALONE_SEGMENTS;
            profile == Profile::Thorough || few || worth_reading(&sightings[*place], views[*place].gate)
        };
        let places: Vec<usize> = (0..sightings.len()).filter(wanted).collect();
        let asked: Vec<Asked> = places.iter().map(|place| Asked { own: *place, context: context(sightings, *place) }).collect();
        for (place, said) in places.into_iter().zip(joined.encoder.read(&asked, |place| plain(document, &sightings[place]))) {
            let known = said.techniques.iter().zip(&joined.classes).filter_map(|(p, class)| Some(((*class)?, *p)));
            let none = said.techniques.last().copied().unwrap_or_default();
            views[place].heard = Some(Heard::new(known, none, said.behaviour, said.statuses));
        }
    }

    /// The candidates of every segment of at least a confidence, best first. At 0 the ten best and more of each.
    pub(crate) fn judge<D: AsRef<[u8]>>(
        &self,
        finders: &Finders<'_, D>,
        document: &Document,
        sightings: &[Sighting],
        min: f32,
        profile: Profile,
        explain: bool,
    ) -> Judgement {
        let all = min <= 0.0;
        let alone = sightings.len() <= ALONE_SEGMENTS;
        let mut views = self.first.views(document, sightings, Given { absent: &self.absent, all: false });
        let joined = self.joined(profile);
        if let Some(joined) = joined {
            self.listen(joined, profile, document, sightings, &mut views);
        }
        let class_of = |object: u16| self.classes.get(&object).copied();
        let least = if all { 0.0 } else { LEAST };
        let rows = stack::rows(sightings, &views, &self.facts, &class_of, least, alone);
        // Where every candidate is asked for, segments that were not ranked have some too; what is said of the others stays.
        let ranked = if all && views.iter().any(|v| v.unranked) {
            let mut ranked = self.first.views(document, sightings, Given { absent: &self.absent, all });
            ranked.iter_mut().zip(&views).for_each(|(to, from)| to.heard.clone_from(&from.heard));
            ranked
        } else {
            Vec::new()
        };
        let mut rest = stack::rows(sightings, &ranked, &self.facts, &class_of, least, alone);
        let rows = rows.enumerate().zip(&views).map(|((place, rows), view)| match (rest.next(), ranked.get(place)) {
            (Some(rest), Some(ranked)) if view.unranked => (rest, ranked),
            _ => (rows, view),
        });
        let mut out = Vec::with_capacity(sightings.len());
        for (sighting, (rows, view)) in sightings.iter().zip(rows) {
            let second = joined.filter(|_| view.heard.is_some()).map_or(&self.second, |joined| &joined.second);
            let (trees, fit) = if alone { (&second.alone, second.alone_fit) } else { (&second.stacked, (1.0, 0.0)) };
            let mut scored: Vec<(u16, u16, f32)> = rows
                .iter()
                .filter_map(|(class, row)| Some((self.objects[usize::from(*class)]?, *class, trees.calibrated(row, fit))))
                .collect();
            scored.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
            scored.dedup_by_key(|s| s.0);
            if !all {
                self.back_off(&mut scored);
            }
            let doubtful = alone && !all && (view.none > ALONE_NONE || sighting.words.len() < ALONE_WORDS);
            let list = scored.iter().filter(|s| s.2 >= min && (!doubtful || named(sighting, s.0))).map(|(object, class, confidence)| {
                let second = scored.iter().find(|s| s.0 != *object).and_then(|s| Some((finders.index.at(s.0)?.id(), s.2)));
                let mut candidate =
                    self.candidate(finders, document, sighting, *object, *class, *confidence, second.filter(|_| explain), explain);
                if explain {
                    candidate.why.push(view.voices(*class));
                }
                candidate
            });
            out.push(list.collect());
        }
        let statuses = status_views(&self.status, document, sightings, &views);
        Judgement { candidates: out, views, statuses }
    }

    /// Of a technique and its sub-techniques in one segment the surer say it: the technique goes where a
    /// sub-technique is as sure as it. Where the text doesn't decide between sub-techniques, the technique is surer
    /// than each of them.
    fn back_off(&self, scored: &mut Vec<(u16, u16, f32)>) {
        let facts = |class: u16| self.facts.classes[usize::from(class)];
        let surer = |s: &(u16, u16, f32), all: &[(u16, u16, f32)]| {
            all.iter().any(|o| facts(o.1).is_sub && facts(o.1).family == facts(s.1).family && o.2 >= s.2)
        };
        let all = scored.clone();
        scored.retain(|s| facts(s.1).is_sub || !surer(s, &all));
    }

    #[allow(clippy::too_many_arguments)]
    fn candidate<D: AsRef<[u8]>>(
        &self,
        finders: &Finders<'_, D>,
        document: &Document,
        sighting: &Sighting,
        object: u16,
        class: u16,
        confidence: f32,
        second: Option<(AttackId, f32)>,
        explain: bool,
    ) -> Candidate {
        let segment = sighting.segment.span;
        let mut candidate = Candidate { object, span: segment, focus: segment, confidence, by: Finder::Model, why: Vec::new(), second };
        if let Some(hit) = sighting.phrase_of(|o| o == object) {
            candidate.focus = hit.span;
            candidate.span = hit.span;
            candidate.by = Finder::Phrase;
            candidate.why.push(finders.phrases.text(hit.phrase).to_owned());
        }
        if let Some(hit) = sighting.artifact_of(|o| o == object) {
            let (pattern, reason) = finders.artifacts.rule(hit.rule);
            candidate.focus = hit.span;
            candidate.span = hit.span;
            candidate.by = Finder::Artifact;
            candidate.why.push(format!("{reason} ({pattern})"));
        }
        let carriers = carriers_of(&self.first.ranker, sighting, class);
        if candidate.by == Finder::Model {
            candidate.focus = told_at(document, sighting, || &carriers).unwrap_or(segment);
        }
        let words = shown_carriers(document, &carriers);
        let shown = if explain { 8 } else { 3 };
        // A word that is the phrase itself says nothing new where weights aren't shown.
        let new = |text: &str| explain || !candidate.why.iter().any(|why| why.eq_ignore_ascii_case(text));
        let words: Vec<_> = words.into_iter().filter(|(text, _)| new(text)).take(shown).collect();
        candidate.why.extend(words.into_iter().map(|(text, weight)| if explain { format!("{text} {weight:+.2}") } else { text }));
        candidate
    }

    /// The status of a behaviour at `focus` of a segment, and how likely it is that it is asserted.
    pub(crate) fn status(
        &self,
        judgement: &Judgement,
        document: &Document,
        sightings: &[Sighting],
        place: usize,
        focus: Span,
    ) -> (Status, f32) {
        if let Some(verdict) = verdict_of(document, sightings, place, focus) {
            return (verdict, f32::from(u8::from(verdict == Status::Asserted)));
        }
        let known = judgement.statuses.segments[place].filter(|_| focus == sightings[place].segment.span);
        let (p, cue) = known.unwrap_or_else(|| status_of(&self.status, document, sightings, place, focus));
        let alone = sightings.len() <= ALONE_SEGMENTS;
        let heard = judgement.views[place].heard.as_ref();
        // Single sentences taught the trees without the encoder.
        let second = self.joined.as_ref().filter(|_| !alone && heard.is_some()).map_or(&self.second, |joined| &joined.second);
        let asserted = second.status_trees.probability(&judgement.statuses.row(sightings, &judgement.views, place, p, cue));
        let other = likeliest_other(&p, heard);
        // The trees learn from reports, where the sentences around say much, and little is not asserted. Where one
        // sentence is all there is, words and encoder have a say of their own, and the odds are those of all together.
        let odds = |p: f32, rest: f32| (p.max(1e-4) / rest.max(1e-4)).ln();
        let of = |p: &[f32; 6]| odds(p[Status::Asserted as usize], p[other as usize]);
        let said = if alone {
            // The encoder learned from reports as well, most of whose behaviours are asserted: it needs no prior.
            let voices = of(&p) + odds(asserted, 1.0 - asserted) + 2.0 * ALONE_PRIOR;
            voices + heard.map_or(0.0, |h| of(&h.statuses)) >= 0.0
        } else {
            asserted >= second.asserted
        };
        (if said { Status::Asserted } else { other }, asserted)
    }
}

/// The confidence of an asserted mapping: that the segment describes the technique, and that it asserts it.
///
/// A text of a sentence or two was chosen by someone because of what it describes: there the trees' probability is
/// taken as it is, that the technique is right given that one is described.
pub(crate) fn confidence(described: f32, asserted: f32, alone: bool) -> f32 {
    if alone { described } else { described * asserted }
}

/// What a list of findings says behind a behaviour at `focus`, or anywhere where that is all of a segment.
fn verdict_of(document: &Document, sightings: &[Sighting], place: usize, focus: Span) -> Option<Status> {
    let segment = sightings[place].segment.span;
    let end = if focus == segment { segment.start } else { focus.end };
    status::verdict(segment.of(document.text()), end.checked_sub(segment.start)?)
}

/// What the cue rules say of a behaviour at `focus`.
pub(crate) fn cue_of(document: &Document, sightings: &[Sighting], place: usize, focus: Span) -> Option<Status> {
    if let Some(verdict) = verdict_of(document, sightings, place, focus) {
        return (verdict != Status::Asserted).then_some(verdict);
    }
    let segment = sightings[place].segment;
    let advice = segment.heading.and_then(|h| sightings.get(h as usize)).is_some_and(|heading| heading.heads_advice);
    let inside = Span::new(focus.start.clamp(segment.span.start, segment.span.end), focus.end.clamp(segment.span.start, segment.span.end));
    let text = segment.span.of(document.text());
    status::by_cues(text, inside.start - segment.span.start, inside.end - segment.span.start, advice)
}

/// One line about the model of an index, for `kb info`.
pub fn describe<D: AsRef<[u8]>>(index: &Index<D>) -> String {
    match Model::of_index(index) {
        Some(model) => format!(
            "linear, {} techniques, {} weights; threshold {:.2}",
            model.facts.classes.len(),
            model.first.ranker.len(),
            model.threshold(Profile::Balanced)
        ),
        None => String::from("none"),
    }
}

/// The bytes of an index's model, to be taken over into another.
pub fn bytes<D: AsRef<[u8]>>(index: &Index<D>) -> &[u8] {
    index.raw(tag::MODEL)
}
