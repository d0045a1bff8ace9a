//! Finders of evidence. Each reads a segment and says what it points at, where, and why.

pub(crate) mod artifacts;
pub(crate) mod mentions;
pub(crate) mod phrases;
#[cfg(test)]
mod shipped_tests;

use serde::Serialize;

use crate::index::Index;
use crate::kb::id::{AttackId, Kind};
use crate::status;
use crate::text::token::{Tokenizer, Word};
use crate::text::{Document, Segment, SegmentKind, Span};

/// Which finder came upon a piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Finder {
    /// A literal ATT&CK ID.
    Id,
    /// A name, alias or phrase of the lexicon.
    Phrase,
    /// A command line, registry key, API name, path.
    Artifact,
    /// The text model.
    Model,
}

impl Finder {
    /// The word for it in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Finder::Id => "id",
            Finder::Phrase => "phrase",
            Finder::Artifact => "artifact",
            Finder::Model => "model",
        }
    }
}

/// Every finder but the model, over an open index.
pub(crate) struct Finders<'a, D> {
    pub(crate) index: &'a Index<D>,
    pub(crate) phrases: phrases::Phrases<'a, D>,
    pub(crate) artifacts: artifacts::Artifacts<'a, D>,
}

/// What one thread keeps between segments and documents.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) tokenizer: Tokenizer,
    phrases: phrases::Scratch,
}

/// What the finders saw in one segment.
pub(crate) struct Sighting {
    pub(crate) segment: Segment,
    pub(crate) words: Vec<Word>,
    pub(crate) ids: Vec<(AttackId, Span)>,
    pub(crate) phrases: Vec<phrases::Hit>,
    pub(crate) artifacts: Vec<artifacts::Hit>,
    /// Names of groups, software that is malware, and campaigns: the model doesn't see them.
    pub(crate) masked: Vec<Span>,
    /// A heading under which everything is the defender's.
    pub(crate) heads_advice: bool,
}

impl Sighting {
    /// The first artifact of an object that is asked for.
    pub(crate) fn artifact_of(&self, is: impl Fn(u16) -> bool) -> Option<&artifacts::Hit> {
        self.artifacts.iter().find(|hit| is(hit.object))
    }

    /// The surest phrase of an object that is asked for.
    pub(crate) fn phrase_of(&self, is: impl Fn(u16) -> bool) -> Option<&phrases::Hit> {
        let sure = |hit: &phrases::Hit| hit.precision * hit.quality;
        self.phrases.iter().filter(|hit| is(hit.object)).max_by(|a, b| sure(a).total_cmp(&sure(b)))
    }
}

impl<'a, D: AsRef<[u8]>> Finders<'a, D> {
    pub(crate) fn new(index: &'a Index<D>) -> Finders<'a, D> {
        Finders { index, phrases: phrases::Phrases::new(index), artifacts: artifacts::Artifacts::new(index) }
    }

    /// Reads one segment.
    pub(crate) fn read(&self, text: &str, segment: Segment, scratch: &mut Scratch) -> Sighting {
        // A word takes some six bytes.
        let mut words = Vec::with_capacity(segment.span.len() / 6 + 4);
        scratch.tokenizer.words(text, segment.span, &mut words);
        let piece = segment.span.of(text);
        let shift = |span: Span| Span::new(span.start + segment.span.start, span.end + segment.span.start);
        let ids = mentions::find(piece).into_iter().map(|(id, span)| (id, shift(span))).collect();
        let phrases = self.phrases.find(text, &words, &mut scratch.tokenizer, &mut scratch.phrases);
        let artifacts = self.artifacts.find(text, segment.span);
        let masked = phrases.iter().filter(|h| self.hides_from_model(h)).map(|h| h.span).collect();
        let heads_advice = segment.kind == SegmentKind::Heading && status::heads_advice(piece);
        Sighting { segment, words, ids, phrases, artifacts, masked, heads_advice }
    }

    /// Reads a whole document, segment by segment.
    pub(crate) fn read_all(&self, document: &Document, scratch: &mut Scratch) -> Vec<Sighting> {
        document.segments().iter().map(|segment| self.read(document.text(), *segment, scratch)).collect()
    }

    fn hides_from_model(&self, hit: &phrases::Hit) -> bool {
        let Some(object) = self.index.at(hit.object) else { return false };
        match object.id().kind() {
            Kind::Group | Kind::Campaign => true,
            // A tool's name tells what is done with it; malware's tells who does it.
            Kind::Software => object.short_name() != "tool",
            _ => false,
        }
    }
}
