//! A model taken over into another knowledge base, and taught what is new there.
//!
//! What was learned from labelled reports can't be learned again where the reports are not. So the model of the
//! built-in knowledge base is carried over; techniques that it has never seen are learned from the new release's
//! own text, with everything else held still; and a user's labelled sentences are learned on top, by all.

use std::collections::BTreeSet;

use rayon::prelude::*;
use zerocopy::byteorder::little_endian::{F32, U32};

use super::corpus::{Corpus, Snippet};
use super::linear::{Example, Lesson, Linear, LinearRef, MAX_CLASSES};
use super::train::{Options, Trainer};
use super::{Model, families};
use crate::index::Index;
use crate::index::format::{Writer, tag};
use crate::kb::id::AttackId;
use crate::kb::{KnowledgeBase, State};
use crate::matching::{Finders, Scratch};

/// Texts of each known technique that are shown beside those of new ones, so that these learn what they are not.
const REPLAYED: usize = 4;

/// The model in `index` (an index that was built with the model to be taken over), with every technique in force
/// that it doesn't know yet, taught from `kb`'s prose and the user's `labelled` reports and texts. The bytes come
/// back as they are where there is nothing to learn.
///
/// Cost: some seconds where there are new techniques, one or two without.
pub fn adapt<D: AsRef<[u8]> + Sync>(index: &Index<D>, kb: &KnowledgeBase, labelled: &Corpus) -> Vec<u8> {
    let bytes = index.raw(tag::MODEL);
    let (Some(model), Ok(parts)) = (Model::of_index(index), Index::new(bytes)) else { return bytes.to_vec() };
    let known: Vec<AttackId> = parts.section::<U32>(*b"CLSS").iter().filter_map(|k| AttackId::from_key(k.get())).collect();
    let has_text: BTreeSet<AttackId> = kb
        .objects
        .values()
        .filter(|o| o.state == State::Active && !o.description.is_empty())
        .map(|o| o.id)
        .chain(kb.relations.iter().filter(|r| !r.text.is_empty()).map(|r| r.target))
        .collect();
    let room = MAX_CLASSES - 1 - known.len().min(MAX_CLASSES - 1);
    let new: Vec<AttackId> = index
        .of_kind(crate::Kind::Technique)
        .filter(|o| o.state() == State::Active && !model.classes.contains_key(&o.place()) && has_text.contains(&o.id()))
        .map(crate::index::ObjectRef::id)
        .take(room)
        .collect();
    let nothing_labelled = labelled.reports.is_empty() && labelled.snippets.is_empty();
    if new.is_empty() && nothing_labelled {
        return bytes.to_vec();
    }
    let ids: Vec<AttackId> = known.iter().chain(&new).copied().collect();
    let mut class_of = model.classes.clone();
    for (i, id) in new.iter().enumerate() {
        if let Some(object) = index.get(*id) {
            class_of.insert(object.place(), (known.len() + i) as u16);
        }
    }
    let trainer = Trainer { index, finders: Finders::new(index), families: families(&ids), ids, class_of, options: Options::default() };
    let section = |tag: [u8; 4]| parts.range(tag).and_then(|r| bytes.get(r)).unwrap_or_default();
    let mut ranker = section(*b"RANK").to_vec();
    if !new.is_empty() {
        let examples = trainer.new_examples(kb, known.len() as u32);
        let lesson = Lesson { added: new.len(), only_added: true, passes: 8, rate: 0.5 };
        ranker = teach(&ranker, &examples, lesson);
    }
    if !nothing_labelled {
        let lesson = Lesson { added: 0, only_added: false, passes: 6, rate: 0.4 };
        ranker = teach(&ranker, &trainer.labelled_examples(labelled), lesson);
    }
    let extended = |tag: [u8; 4], value: f32| {
        let mut list: Vec<F32> = parts.section::<F32>(tag).to_vec();
        list.resize(trainer.ids.len(), F32::new(value));
        list
    };
    let mut writer = Writer::default();
    writer.put(*b"CLSS", &trainer.ids.iter().map(|id| U32::new(id.key())).collect::<Vec<_>>());
    writer.put(*b"RELI", &extended(*b"RELI", 0.4));
    writer.put(*b"FREQ", &extended(*b"FREQ", 0.0));
    writer.put(*b"RANK", &ranker);
    for tag in [*b"GATE", *b"OGAT", *b"STAT", *b"STTR", *b"STAK", *b"ALON"] {
        writer.put(tag, section(tag));
    }
    for tag in [*b"NUMB", *b"OLDS", *b"NEWS", *b"PHRP", *b"PAIO", *b"PAIC", *b"PAIN"] {
        writer.put(tag, parts.section::<F32>(tag));
    }
    writer.put(*b"PHRK", parts.section::<zerocopy::byteorder::little_endian::U64>(*b"PHRK"));
    writer.finish()
}

fn teach(bytes: &[u8], examples: &[Example], lesson: Lesson) -> Vec<u8> {
    match LinearRef::open(bytes) {
        Some(base) => Linear::taught(&base, examples, lesson).to_bytes(),
        None => bytes.to_vec(),
    }
}

impl<D: AsRef<[u8]> + Sync> Trainer<'_, D> {
    /// All texts of classes from `first_new` on, and some of every other class.
    fn new_examples(&self, kb: &KnowledgeBase, first_new: u32) -> Vec<Example> {
        let mut shown = vec![0_usize; self.ids.len()];
        let mut texts = self.procedures(kb);
        texts.retain(|text| {
            text.labels.iter().filter_map(|id| self.class(*id)).any(|class| {
                let count = &mut shown[usize::from(class)];
                *count += 1;
                u32::from(class) >= first_new || *count <= REPLAYED
            })
        });
        let example = |scratch: &mut Scratch, s: &Snippet| self.text_example(&s.text, &s.labels, s.weight, scratch);
        texts.par_iter().map_init(Scratch::default, example).flatten().collect()
    }

    /// A user's reports, sentences without a label too, and texts.
    fn labelled_examples(&self, labelled: &Corpus) -> Vec<Example> {
        let reads = self.read_all(&labelled.reports, &vec![0; labelled.reports.len()]);
        let mut examples = self.report_examples(reads.iter(), 1.0, 1.0);
        let mut scratch = Scratch::default();
        examples.extend(labelled.snippets.iter().filter_map(|s| self.text_example(&s.text, &s.labels, s.weight, &mut scratch)));
        examples
    }
}
