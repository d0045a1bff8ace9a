//! How often each phrase and artifact rule fires in labelled reports, and how often it is right.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::corpus::LabelledReport;
use super::train::place_of;
use crate::curated::Curated;
use crate::index::build::{Prose, TooLarge, build};
use crate::kb::id::{AttackId, Kind};
use crate::kb::{KnowledgeBase, Object, Provenance};
use crate::matching::phrases::Origin;
use crate::matching::{Finders, Scratch};
use crate::{Document, Index, index};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// Phrases of the lexicon.
    Phrase,
    /// Artifact rules.
    Rule,
}

/// The figures of one phrase or rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is.
    pub entry: Entry,
    /// The technique it stands for.
    pub technique: AttackId,
    /// The phrase, or the rule's pattern.
    pub text: String,
    /// Sentences in which it fires.
    pub fires: u32,
    /// Of these, the ones labelled with the technique.
    pub right: u32,
    /// Of these, the ones labelled with the technique, its parent, or another sub-technique of its parent.
    pub family_right: u32,
}

impl Line {
    /// Share of the sentences that are labelled with the technique's family; None where it never fires.
    pub fn precision(&self) -> Option<f64> {
        (self.fires > 0).then(|| f64::from(self.family_right) / f64::from(self.fires))
    }
}

/// An index of the techniques of `of` with the lexicon and rules of `curated`, as they would be found after a
/// rebuild: what an author measures a change with.
///
/// # Errors
/// Where `of` has more objects than an index holds.
pub fn with_curated<D: AsRef<[u8]>>(of: &Index<D>, curated: &Curated) -> Result<Index<Vec<u8>>, TooLarge> {
    let mut objects = BTreeMap::new();
    for object in of.objects().filter(|o| matches!(o.id().kind(), Kind::Technique | Kind::Tactic | Kind::Group | Kind::Software)) {
        let mut copy = Object::new(object.id(), object.name());
        copy.aliases = object.aliases().map(str::to_owned).collect();
        copy.short_name = object.short_name().to_owned();
        copy.state = object.state();
        copy.successor = object.successor();
        objects.insert(object.id(), copy);
    }
    let provenance = of.provenance().unwrap_or_else(|| Provenance {
        domain: of.domain(),
        version: of.version().to_owned(),
        relations_version: String::new(),
        source_digest: String::new(),
        facts_digest: String::new(),
        notice: String::new(),
        tool_version: String::new(),
        date: String::new(),
    });
    let kb = KnowledgeBase { provenance, tactics: Vec::new(), objects, relations: Vec::new() };
    let (curated, _) = curated.clone().moved_to(&kb);
    Ok(Index::new(build(&kb, &curated, &[], Prose::Drop)?).expect("an index that was just built"))
}

/// Counts over labelled reports: phrases of the lexicon, and artifact rules. Worst precision first, of equals the
/// more frequent first; what never fires comes last. A label counts whatever its status.
pub fn report<D: AsRef<[u8]> + Sync>(index: &Index<D>, reports: &[LabelledReport]) -> Vec<Line> {
    let finders = Finders::new(index);
    let mut lines: BTreeMap<(Entry, AttackId, String), Line> = BTreeMap::new();
    let blank = |entry, technique, text: &str| {
        let line = Line { entry, technique, text: text.to_owned(), fires: 0, right: 0, family_right: 0 };
        ((entry, technique, text.to_owned()), line)
    };
    let id_of = |place: u16| index.at(place).map(crate::index::ObjectRef::id).filter(|id| id.kind() == Kind::Technique);
    for (text, record, origin) in finders.phrases.all() {
        if let (Origin::Lexicon, Some(id)) = (origin, id_of(record.object.get())) {
            lines.extend([blank(Entry::Phrase, id, text)]);
        }
    }
    let rules = index.section::<index::format::RuleRecord>(index::format::tag::RULES);
    for rule in rules {
        lines.extend(id_of(rule.object.get()).map(|id| blank(Entry::Rule, id, index.string(rule.pattern))));
    }
    let counted: Vec<Vec<Fired>> = reports.par_iter().map_init(Scratch::default, |scratch, r| fired(&finders, r, scratch)).collect();
    for fired in counted.into_iter().flatten() {
        if let Some(line) = lines.get_mut(&(fired.entry, fired.technique, fired.text)) {
            line.fires += 1;
            line.right += u32::from(fired.right);
            line.family_right += u32::from(fired.family_right);
        }
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    lines.sort_by(|a, b| {
        let order = |l: &Line| l.precision().unwrap_or(f64::INFINITY);
        order(a).total_cmp(&order(b)).then(b.fires.cmp(&a.fires))
    });
    lines
}

/// An entry in one sentence.
struct Fired {
    entry: Entry,
    technique: AttackId,
    text: String,
    right: bool,
    family_right: bool,
}

fn fired<D: AsRef<[u8]>>(finders: &Finders<'_, D>, report: &LabelledReport, scratch: &mut Scratch) -> Vec<Fired> {
    let index = finders.index;
    let document = Document::new(report.text.clone());
    let mut seen = BTreeSet::new();
    for sighting in finders.read_all(&document, scratch) {
        let lexicon = sighting.phrases.iter().filter(|h| h.origin == Origin::Lexicon);
        let phrases = lexicon.map(|h| (Entry::Phrase, h.object, finders.phrases.text(h.phrase), h.span));
        let rules = sighting.artifacts.iter().map(|h| (Entry::Rule, h.object, finders.artifacts.rule(h.rule).0, h.span));
        for (entry, object, text, span) in phrases.chain(rules) {
            let sentence = report.sentences.iter().position(|s| s.span.overlaps(span));
            seen.extend(sentence.map(|s| (s, entry, object, text)));
        }
    }
    let mut out = Vec::new();
    for (sentence, entry, object, text) in seen {
        let Some(technique) = index.at(object).map(crate::index::ObjectRef::id) else { continue };
        let labels = report.sentences[sentence].labels.iter().filter_map(|(id, _)| index.at(place_of(index, *id)?));
        let labels: Vec<AttackId> = labels.map(crate::index::ObjectRef::id).collect();
        out.push(Fired {
            entry,
            technique,
            text: text.to_owned(),
            right: labels.contains(&technique),
            family_right: labels.iter().any(|l| l.parent() == technique.parent()),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curated::{self, LexiconPhrase, Rule};

    #[test]
    fn what_fires_is_counted_once_a_sentence_and_judged_by_its_labels() {
        let id = |text: &str| text.parse::<AttackId>().unwrap();
        let phrase = |text: &str| LexiconPhrase { text: text.into(), near: Vec::new() };
        let mut curated = Curated::default();
        let phrases = vec![phrase("walked the moon"), phrase("never written anywhere")];
        curated.lexicon.insert(id("T1003.001"), curated::Entry { gloss: "a gloss".into(), phrases });
        curated.rules.push(Rule {
            technique: "T1490".into(),
            pattern: "moonwalk /all".into(),
            reason: "made up".into(),
            fires: String::new(),
            near_miss: String::new(),
        });
        let parts = [
            ("T1003.001", "They walked the moon and walked the moon again."),
            ("T1003", "We walked the moon."),
            ("T1059", "He walked the moon with moonwalk /all there."),
        ];
        let report = LabelledReport::of_sentences("a", "b", &parts);
        let index = with_curated(&Index::embedded(), &curated).unwrap();
        let lines = report_of(&index, &report);
        let figures: Vec<_> = lines.iter().map(|l| (&*l.text, l.fires, l.right, l.family_right)).collect();
        assert_eq!(figures, [("moonwalk /all", 1, 0, 0), ("walked the moon", 3, 1, 2), ("never written anywhere", 0, 0, 0)]);
        assert_eq!(lines[2].precision(), None);
    }

    fn report_of(index: &Index<Vec<u8>>, labelled: &LabelledReport) -> Vec<Line> {
        report(index, std::slice::from_ref(labelled))
    }
}
