//! The text model: candidates for a segment, and how sure each is.

use crate::index::Index;
use crate::kb::State;
use crate::kb::id::{AttackId, Kind};
use crate::matching::artifacts::Artifacts;
use crate::matching::phrases::Phrases;
use crate::matching::{Finder, Scratch, Sighting};
use crate::status::{self, Status};
use crate::text::{Document, Span};

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

/// The model of an open index.
pub(crate) struct Model<'a> {
    _bytes: &'a [u8],
}

impl<'a> Model<'a> {
    pub(crate) fn of_index<D: AsRef<[u8]>>(_index: &'a Index<D>) -> Option<Model<'a>> {
        None
    }

    pub(crate) fn threshold(&self) -> f32 {
        0.5
    }

    pub(crate) fn judge<D: AsRef<[u8]>>(
        &self,
        _index: &Index<D>,
        _document: &Document,
        sightings: &[Sighting],
        _scratch: &mut Scratch,
        _all: bool,
        _explain: bool,
    ) -> Vec<Vec<Candidate>> {
        sightings.iter().map(|_| Vec::new()).collect()
    }

    pub(crate) fn status(&self, document: &Document, sighting: &Sighting, start: usize, end: usize, heading: &str) -> Status {
        status::by_cues(sighting.segment.span.of(document.text()), start, end, heading).unwrap_or(Status::Asserted)
    }
}

/// One line about the model of an index, for `kb info`.
pub fn describe<D: AsRef<[u8]>>(index: &Index<D>) -> String {
    match Model::of_index(index) {
        Some(_) => String::from("linear"),
        None => String::from("none"),
    }
}
