//! The rules and the lexicon of `data/`, entry by entry, through the finders that read them.

use std::collections::BTreeMap;
use std::path::Path;

use super::artifacts::{Artifacts, Hit};
use super::phrases::Phrases;
use crate::curated::{Curated, Rule};
use crate::index::build::{Prose, build};
use crate::index::part;
use crate::kb::id::{AttackId, Kind};
use crate::kb::{Domain, KnowledgeBase, Object, Provenance, State};
use crate::text::Span;
use crate::{Document, Index};

fn shipped() -> Curated {
    Curated::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data")).expect("data/lexicon and data/rules")
}

fn in_force() -> Vec<AttackId> {
    let embedded = Index::embedded();
    embedded.of_kind(Kind::Technique).filter(|o| o.state() == State::Active).map(crate::index::ObjectRef::id).collect()
}

/// An index of techniques without names, so that nothing but the curated part is in it.
fn index_of(ids: &[AttackId], curated: &Curated) -> Index<Vec<u8>> {
    let text = String::new;
    let provenance = Provenance {
        domain: Domain::Enterprise,
        version: text(),
        relations_version: text(),
        source_digest: text(),
        facts_digest: text(),
        notice: text(),
        tool_version: text(),
        date: text(),
    };
    let objects = ids.iter().map(|id| (*id, Object::new(*id, id.to_string()))).collect();
    let kb = KnowledgeBase { provenance, tactics: Vec::new(), objects, relations: Vec::new() };
    Index::new(build(&kb, curated, &[], Prose::Drop).expect("fits")).expect("just built")
}

fn find<D: AsRef<[u8]>>(index: &Index<D>, text: &str) -> Vec<Hit> {
    let finder = Artifacts::new(index);
    Document::new(text).segments().iter().flat_map(|s| finder.find(text, s.span)).collect()
}

fn id_of(rule: &Rule) -> AttackId {
    rule.technique.parse().expect("Curated::read has checked it")
}

#[test]
fn every_rule_fires_on_its_text_and_not_on_its_near_miss() {
    let curated = shipped();
    assert!(curated.rules.len() >= 300, "{} rules", curated.rules.len());
    let mut wrong = Vec::new();
    for rule in &curated.rules {
        let alone = index_of(&[id_of(rule)], &Curated { rules: vec![rule.clone()], ..Curated::default() });
        for (text, expected) in [(&rule.fires, true), (&rule.near_miss, false)] {
            let fired = !find(&alone, text).is_empty();
            if text.is_empty() || fired != expected {
                wrong.push(format!("{} `{}`: {} `{text}`", rule.technique, rule.pattern, if fired { "fires on" } else { "silent on" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_is_heard_among_all_the_others() {
    let curated = shipped();
    let index = index_of(&in_force(), &curated);
    let mut wrong = Vec::new();
    for rule in &curated.rules {
        let hits = find(&index, &rule.fires);
        let technique = index.get(id_of(rule)).map(crate::index::ObjectRef::place);
        if !hits.iter().any(|h| Some(h.object) == technique) {
            wrong.push(format!("{} `{}`: {hits:?}", rule.technique, rule.pattern));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rules_name_techniques_in_force_and_no_pattern_twice() {
    let curated = shipped();
    let in_force = in_force();
    let mut seen: BTreeMap<String, &Rule> = BTreeMap::new();
    for rule in &curated.rules {
        assert!(in_force.contains(&id_of(rule)), "{} `{}` is not in force", rule.technique, rule.pattern);
        assert!(!rule.reason.is_empty(), "`{}` has no reason", rule.pattern);
        if let Some(earlier) = seen.insert(rule.pattern.to_ascii_lowercase(), rule) {
            panic!("`{}` stands under {} and {}", rule.pattern, earlier.technique, rule.technique);
        }
    }
}

#[test]
fn every_technique_has_a_gloss_of_one_line_and_phrases() {
    let curated = shipped();
    let in_force = in_force();
    let mut wrong = Vec::new();
    for id in &in_force {
        let Some(entry) = curated.lexicon.get(id) else {
            wrong.push(format!("{id}: not in the lexicon"));
            continue;
        };
        let words = entry.gloss.split_whitespace().count();
        if !(8..=30).contains(&words) || entry.gloss.contains('\n') {
            wrong.push(format!("{id}: a gloss of {words} words"));
        }
        if entry.phrases.is_empty() {
            wrong.push(format!("{id}: no phrase"));
        }
    }
    for id in curated.lexicon.keys().filter(|id| !in_force.contains(id)) {
        wrong.push(format!("{id}: not in force"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The finder sees a phrase as its stems: two techniques with the same ones can't both be right wherever it stands.
#[test]
fn no_phrase_stands_under_two_techniques_without_a_condition() {
    let index = index_of(&in_force(), &shipped());
    let tokens = index.section::<zerocopy::byteorder::little_endian::U16>(crate::index::format::tag::PHRASE_TOKENS);
    let mut seen: BTreeMap<Vec<u16>, (u16, &str)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let phrases = Phrases::new(&index);
    for (text, record, _) in phrases.all().filter(|(_, record, _)| part(tokens, record.near()).is_empty()) {
        let stems = part(tokens, record.stems()).iter().map(|t| t.get()).collect();
        let object = record.object.get();
        let id = |place: u16| index.at(place).map(|o| o.id().to_string()).unwrap_or_default();
        match seen.get(&stems) {
            Some((earlier, as_text)) if *earlier != object => {
                wrong.push(format!("`{as_text}` under {}, `{text}` under {}", id(*earlier), id(object)));
            }
            Some(_) => {}
            None => {
                seen.insert(stems, (object, text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A phrase that no text can hold would be dead weight.
#[test]
fn every_phrase_is_found_in_itself() {
    let curated = shipped();
    let index = index_of(&in_force(), &curated);
    let finder = Phrases::new(&index);
    let (mut tokenizer, mut scratch) = (crate::text::token::Tokenizer::default(), super::phrases::Scratch::default());
    let mut wrong = Vec::new();
    for (id, entry) in &curated.lexicon {
        let object = index.get(*id).map(crate::index::ObjectRef::place);
        for phrase in &entry.phrases {
            let text = format!("{} {}", phrase.text, phrase.near.first().map_or("", |n| n));
            let mut words = Vec::new();
            tokenizer.words(&text, Span::new(0, text.len()), &mut words);
            let hits = finder.find(&text, &words, &mut tokenizer, &mut scratch);
            if !hits.iter().any(|h| Some(h.object) == object) {
                let others: Vec<&str> = hits.iter().map(|h| finder.text(h.phrase)).collect();
                wrong.push(format!("{id}: `{}` {others:?}", phrase.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
