//! A [`KnowledgeBase`] and what ttpmap brings to it, as the bytes of an index file.
//!
//! Everything that opening would otherwise compute is computed here: folded names, the phrase tables, the
//! artifact automaton. The same input gives the same bytes on any machine and any number of cores.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use zerocopy::byteorder::little_endian::{F32, U16, U32, U64};

use super::format::{
    List, NONE, NameRecord, ObjectRecord, PhraseRecord, RelationRecord, RelationText, RuleRecord, SequenceRecord, StixRecord, Str, Writer,
    tag,
};
use crate::curated::Curated;
use crate::kb::id::{AttackId, Kind};
use crate::kb::{KnowledgeBase, Object, State};
use crate::lookup::{NameKind, fold, letters};
use crate::matching::artifacts;
use crate::matching::phrases::{self, GENERIC, Origin, PROPER, Phrase, content};
use crate::text::Span;
use crate::text::token::{CAPITAL, Tokenizer};

/// How an index is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prose {
    /// With descriptions and procedure texts.
    Keep,
    /// Facts only.
    Drop,
}

/// The knowledge base has more than an index can hold.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {count}, more than the {most} that an index holds")]
pub struct TooLarge {
    what: &'static str,
    count: usize,
    most: usize,
}

/// Writes an index. `model` is the text model as [`crate::model`] serialises it; empty for none.
///
/// `prose` is needed in `kb` even where it is dropped: it tells which names are ordinary words.
///
/// # Errors
/// Where there are more than 65 535 objects (ATT&CK has some 5 000).
pub fn build(kb: &KnowledgeBase, curated: &Curated, model: &[u8], prose: Prose) -> Result<Vec<u8>, TooLarge> {
    let objects: Vec<&Object> = kb.objects.values().collect();
    if objects.len() >= usize::from(u16::MAX) {
        return Err(TooLarge { what: "objects", count: objects.len(), most: usize::from(u16::MAX) });
    }
    let places: BTreeMap<AttackId, u16> = objects.iter().enumerate().map(|(i, o)| (o.id, i as u16)).collect();
    let mut out = Builder { strings: Strings::default(), writer: Writer::default(), places };
    out.meta(kb);
    out.objects(kb, curated, &objects, prose);
    out.relations(kb, prose);
    out.names(&objects, curated);
    let mut list = phrase_list(kb, curated, &out.places);
    let learned = crate::model::phrase_precisions(model);
    for phrase in &mut list {
        let key = crate::model::phrase_key(objects[usize::from(phrase.object)].id, &phrase.text);
        phrase.precision = learned.get(&key).copied().unwrap_or(phrase.precision);
    }
    out.phrases(list);
    out.rules(curated);
    out.writer.put(tag::MODEL, model);
    let strings = std::mem::take(&mut out.strings.heap);
    out.writer.put(tag::STRINGS, strings.as_bytes());
    Ok(out.writer.finish())
}

/// The string heap; a text that occurs twice is stored once.
#[derive(Default)]
struct Strings {
    heap: String,
    known: FxHashMap<String, Str>,
}

impl Strings {
    fn put(&mut self, text: &str) -> Str {
        if text.is_empty() {
            return Str { start: U32::new(0), length: U32::new(0) };
        }
        if let Some(s) = self.known.get(text) {
            return *s;
        }
        let s = Str { start: U32::new(self.heap.len() as u32), length: U32::new(text.len() as u32) };
        self.heap.push_str(text);
        self.known.insert(text.to_owned(), s);
        s
    }
}

struct Builder {
    strings: Strings,
    writer: Writer,
    places: BTreeMap<AttackId, u16>,
}

fn list(start: usize, end: usize) -> List {
    List { start: U32::new(start as u32), count: U32::new((end - start) as u32) }
}

impl Builder {
    fn meta(&mut self, kb: &KnowledgeBase) {
        let p = &kb.provenance;
        let fields =
            [&*p.version, &p.relations_version, &p.source_digest, &p.facts_digest, &p.notice, &p.tool_version, &p.date, p.domain.name()];
        let meta = fields.map(|f| self.strings.put(f));
        self.writer.put(tag::META, &meta);
        let tactics: Vec<U32> = kb.tactics.iter().map(|t| U32::new(t.key())).collect();
        self.writer.put(tag::TACTICS, &tactics);
    }

    fn objects(&mut self, kb: &KnowledgeBase, curated: &Curated, objects: &[&Object], prose: Prose) {
        let mut string_lists: Vec<Str> = Vec::new();
        let mut keys: Vec<U32> = Vec::new();
        let mut records = Vec::with_capacity(objects.len());
        for object in objects {
            let mut put_all = |texts: &[String], strings: &mut Strings| {
                let start = string_lists.len();
                string_lists.extend(texts.iter().map(|t| strings.put(t)));
                list(start, string_lists.len())
            };
            let key_start = keys.len();
            keys.extend(object.tactics.iter().map(|t| U32::new(t.key())));
            let gloss = curated.lexicon.get(&object.id).map_or("", |e| &*e.gloss);
            // ATT&CK's analytics are described by their queries' words, which nobody looks up: 1 MB of them.
            let keeps_prose = prose == Prose::Keep;
            records.push(ObjectRecord {
                key: U32::new(object.id.key()),
                successor: U32::new(object.successor.filter(|s| kb.objects.contains_key(s)).map_or(NONE, AttackId::key)),
                name: self.strings.put(&object.name),
                short_name: self.strings.put(&object.short_name),
                description: self.strings.put(if keeps_prose { &object.description } else { "" }),
                gloss: self.strings.put(gloss),
                aliases: put_all(&object.aliases, &mut self.strings),
                former_names: put_all(&object.former_names, &mut self.strings),
                platforms: put_all(&object.platforms, &mut self.strings),
                tactics: list(key_start, keys.len()),
                state: object.state as u8,
            });
        }
        self.writer.put(tag::OBJECTS, &records);
        self.writer.put(tag::STRING_LISTS, &string_lists);
        self.writer.put(tag::KEYS, &keys);
        let ids = objects.iter().filter(|o| prose == Prose::Keep || o.is_pointed_at());
        let ids = ids.filter_map(|o| Some(StixRecord { object: U16::new(self.places[&o.id]), uuid: *o.stix_uuid?.as_bytes() }));
        self.writer.put(tag::STIX_IDS, &ids.collect::<Vec<_>>());
    }

    fn relations(&mut self, kb: &KnowledgeBase, prose: Prose) {
        let mut records = Vec::with_capacity(kb.relations.len());
        let mut texts = Vec::new();
        for relation in &kb.relations {
            let (Some(source), Some(target)) = (self.places.get(&relation.source), self.places.get(&relation.target)) else { continue };
            records.push(RelationRecord { source: U16::new(*source), target: U16::new(*target), kind: relation.kind as u8 });
            if prose == Prose::Keep {
                texts.push(RelationText { text: self.strings.put(&relation.text), reference: self.strings.put(&relation.reference) });
            }
        }
        let mut by_target: Vec<U32> = (0..records.len()).map(|i| U32::new(i as u32)).collect();
        by_target.sort_by_key(|i| (records[i.get() as usize].target.get(), i.get()));
        self.writer.put(tag::RELATIONS, &records);
        self.writer.put(tag::RELATIONS_BY_TARGET, &by_target);
        self.writer.put(tag::RELATION_TEXTS, &texts);
    }

    fn names(&mut self, objects: &[&Object], curated: &Curated) {
        let mut names: Vec<(String, u16, NameKind)> = Vec::new();
        for object in objects {
            let place = self.places[&object.id];
            let mut put = |text: &str, kind| {
                let folded = fold(text);
                if !folded.is_empty() {
                    names.push((folded, place, kind));
                }
            };
            put(&object.name, NameKind::Name);
            if object.id.is_subtechnique()
                && let Some(parent) = objects.iter().find(|o| o.id == object.id.parent())
            {
                put(&format!("{} {}", parent.name, object.name), NameKind::Alias);
            }
            for alias in &object.aliases {
                put(alias, NameKind::Alias);
            }
            for name in &object.former_names {
                put(name, NameKind::Former);
            }
            for phrase in curated.lexicon.get(&object.id).map(|e| &*e.phrases).unwrap_or_default() {
                put(&phrase.text, NameKind::Phrase);
            }
        }
        names.sort();
        names.dedup_by(|b, a| (&a.0, a.1) == (&b.0, b.1));
        let records: Vec<NameRecord> = names
            .iter()
            .map(|(text, object, kind)| NameRecord {
                folded: self.strings.put(text),
                letters: U64::new(letters(text)),
                object: U16::new(*object),
                kind: *kind as u8,
                length: text.chars().count().min(255) as u8,
            })
            .collect();
        self.writer.put(tag::NAMES, &records);
    }

    fn phrases(&mut self, list: Vec<Phrase>) {
        let tables = phrases::tables(list, &mut Tokenizer::default());
        let texts: Vec<Str> = tables.stem_texts.iter().map(|t| self.strings.put(t)).collect();
        let records: Vec<PhraseRecord> = tables
            .phrases
            .iter()
            .map(|(phrase, stems, near)| PhraseRecord {
                text: self.strings.put(&phrase.text),
                stems_start: stems.start,
                stems_count: stems.count.get() as u8,
                near_count: near.count.get() as u8,
                precision: (phrase.precision * 255.0).round() as u8,
                object: U16::new(phrase.object),
                origin: phrase.origin as u8,
                flags: phrase.flags,
            })
            .collect();
        self.writer.put(tag::STEMS, &tables.stems);
        self.writer.put(tag::STEM_TEXTS, &texts);
        self.writer.put(tag::PHRASES, &records);
        self.writer.put(tag::PHRASE_TOKENS, &tables.tokens);
        self.writer.put(tag::ANCHORS, &tables.anchors);
        self.writer.put(tag::ANCHOR_LISTS, &tables.anchor_lists);
    }

    fn rules(&mut self, curated: &Curated) {
        let mut prefixes: Vec<Vec<u8>> = Vec::new();
        let mut numbers: BTreeMap<Vec<u8>, u16> = BTreeMap::new();
        let (mut records, mut sequences, mut literals) = (Vec::new(), Vec::new(), Vec::new());
        for rule in &curated.rules {
            let object = rule.technique.parse().ok().and_then(|id| self.places.get(&id)).copied();
            let (Some(object), Ok(expanded)) = (object, artifacts::parse(&rule.pattern)) else { continue };
            let place = records.len() as u16;
            records.push(RuleRecord {
                reason: self.strings.put(&rule.reason),
                pattern: self.strings.put(&rule.pattern),
                object: U16::new(object),
                precision: F32::new(0.85),
            });
            for sequence in expanded {
                let prefix = artifacts::prefix(&sequence[0]).to_vec();
                let number = *numbers.entry(prefix.clone()).or_insert_with(|| {
                    prefixes.push(prefix);
                    (prefixes.len() - 1) as u16
                });
                let start = literals.len();
                literals.extend(sequence.iter().map(|literal| self.strings.put(literal)));
                let members = list(start, literals.len());
                sequences.push(SequenceRecord { literals: members, prefix: U16::new(number), rule: U16::new(place) });
            }
        }
        self.writer.put(tag::RULES, &records);
        self.writer.put(tag::SEQUENCES, &sequences);
        self.writer.put(tag::LITERALS, &literals);
        self.writer.put(tag::AUTOMATON, &artifacts::automaton(&prefixes));
    }
}

/// Every phrase to search for, with what it is worth before anything is learned from labelled reports.
fn phrase_list(kb: &KnowledgeBase, curated: &Curated, places: &BTreeMap<AttackId, u16>) -> Vec<Phrase> {
    let prose = ProseStatistics::of(kb);
    let mut list = Vec::new();
    for object in kb.objects.values() {
        let Some(target) = kb.current(object.id).filter(|o| o.state == State::Active) else { continue };
        let place = places[&target.id];
        let mut put = |text: &str, origin, flags, precision| {
            list.push(Phrase { text: text.to_owned(), object: place, origin, near: Vec::new(), flags, precision });
        };
        match object.id.kind() {
            Kind::Technique if object.state == State::Deprecated => {}
            Kind::Technique => {
                let origin = if object.state == State::Active { Origin::Name } else { Origin::Former };
                let generic = prose.is_generic_name(&object.name, target.id);
                put(&object.name, origin, if generic { GENERIC } else { 0 }, if generic { 0.3 } else { 0.75 });
            }
            Kind::Tactic => {
                let generic = if object.name.contains(' ') { 0 } else { GENERIC };
                put(&object.name, Origin::Name, generic, 0.9);
                for name in &object.former_names {
                    put(name, Origin::Former, if name.contains(' ') { 0 } else { GENERIC }, 0.9);
                }
            }
            Kind::Group | Kind::Software | Kind::Campaign => {
                for (i, name) in std::iter::once(&object.name).chain(&object.aliases).enumerate() {
                    let origin = if i == 0 { Origin::Name } else { Origin::Alias };
                    let generic = if prose.is_ordinary_word(name, object.short_name == "tool") { GENERIC } else { 0 };
                    put(name, origin, PROPER | generic, 0.9);
                }
            }
            _ => {}
        }
    }
    for (id, entry) in &curated.lexicon {
        let Some(place) = places.get(id) else { continue };
        for phrase in &entry.phrases {
            list.push(Phrase {
                text: phrase.text.clone(),
                object: *place,
                origin: Origin::Lexicon,
                near: phrase.near.clone(),
                flags: 0,
                precision: 0.7,
            });
        }
    }
    list
}

/// How words are used in the knowledge base's own prose.
struct ProseStatistics {
    /// Texts that hold a stem, and of those the ones about each technique family.
    texts: FxHashMap<u64, (u32, FxHashMap<AttackId, u32>)>,
    /// Times that a form occurs in lower case.
    lower: FxHashMap<u64, u32>,
}

impl ProseStatistics {
    fn of(kb: &KnowledgeBase) -> ProseStatistics {
        let mut out = ProseStatistics { texts: FxHashMap::default(), lower: FxHashMap::default() };
        let mut tokenizer = Tokenizer::default();
        let techniques = kb.objects.values().filter(|o| o.id.kind() == Kind::Technique && o.state == State::Active);
        let described = techniques.map(|o| (o.id, &*o.description));
        let used = kb.relations.iter().filter(|r| r.target.kind() == Kind::Technique && r.source.kind() != Kind::DetectionStrategy);
        let mut words = Vec::new();
        for (id, text) in described.chain(used.map(|r| (r.target, &*r.text))) {
            words.clear();
            tokenizer.words(text, Span::new(0, text.len()), &mut words);
            for word in words.iter().filter(|w| !w.is(CAPITAL)) {
                *out.lower.entry(word.form).or_default() += 1;
            }
            let mut stems: Vec<u64> = content(&words).iter().map(|w| w.stem).collect();
            stems.sort_unstable();
            stems.dedup();
            for stem in stems {
                let (all, of) = out.texts.entry(stem).or_default();
                *all += 1;
                *of.entry(id.parent()).or_default() += 1;
            }
        }
        out
    }

    /// A one-word technique name that mostly stands in texts about other techniques, or hardly anywhere.
    fn is_generic_name(&self, name: &str, id: AttackId) -> bool {
        let mut words = Vec::new();
        let mut tokenizer = Tokenizer::default();
        tokenizer.words(name, Span::new(0, name.len()), &mut words);
        let [word] = content(&words)[..] else { return false };
        match self.texts.get(&word.stem) {
            Some((all, of)) => *all < 3 || of.get(&id.parent()).copied().unwrap_or(0) * 10 < *all * 6,
            None => true,
        }
    }

    /// A name that is an ordinary word too: of three letters at most, or one that the prose has in lower case and bends as words
    /// are bent ("pages", "routed"). Where it is not bent, a name that is written as no word is (`certutil`, `PsExec`) is a name
    /// there too, and so is a tool's that stands there often (`systeminfo`).
    fn is_ordinary_word(&self, name: &str, tool: bool) -> bool {
        let lower = name.to_lowercase();
        if lower.contains(|c: char| !c.is_alphanumeric()) {
            return false;
        }
        let times = |form: &str| self.lower.get(&super::format::fnv1a(&[form.as_bytes()])).copied().unwrap_or(0);
        let stem = lower.strip_suffix('e').unwrap_or(&lower);
        let last = lower.chars().next_back().map(String::from).unwrap_or_default();
        let bent = [("s", &*lower), ("es", &lower), ("ed", stem), ("ing", stem), ("er", stem)];
        let bent = bent.iter().any(|(end, start)| times(&format!("{start}{end}")) > 0)
            || ["ed", "ing"].iter().any(|end| times(&format!("{lower}{last}{end}")) > 0);
        let mixed = name.contains(char::is_lowercase) && name.chars().skip(1).any(|c| c.is_uppercase() || c.is_ascii_digit());
        let own = mixed || !name.contains(char::is_uppercase);
        name.chars().count() <= 3 || times(&lower) >= 2 && (bent || !(own || tool && times(&lower) >= 10))
    }
}
