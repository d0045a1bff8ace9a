//! The index file: what was built is what is answered, and bytes that were damaged give an error or an answer,
//! never a panic.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::{Numbers, TestEnv, bundles, mini_bundle, root, shared, unxz};
use ttpmap::curated::Curated;
use ttpmap::index::build::{Prose, build};
use ttpmap::index::{Error, ObjectRef};
use ttpmap::kb::{Provenance, State};
use ttpmap::lookup::lookup;
use ttpmap::{Document, Index, KnowledgeBase, Mapper, stix};

fn mini() -> KnowledgeBase {
    stix::read(mini_bundle().as_bytes(), Some("1.0")).expect("the mini bundle is one").0
}

fn bytes_of(kb: &KnowledgeBase, prose: Prose) -> Vec<u8> {
    build(kb, &Curated::default(), &[], prose).expect("it is small enough")
}

/// Reads everything back out of an index.
fn read_back<D: AsRef<[u8]>>(index: &Index<D>) -> KnowledgeBase {
    let strings = |list: &mut dyn Iterator<Item = &str>| list.map(str::to_owned).collect::<Vec<_>>();
    let object = |o: ObjectRef<'_, D>| {
        let mut out = ttpmap::kb::Object::new(o.id(), o.name());
        out.aliases = strings(&mut o.aliases());
        out.former_names = strings(&mut o.former_names());
        out.short_name = o.short_name().to_owned();
        out.tactics = o.tactics().map(ObjectRef::id).collect();
        out.platforms = strings(&mut o.platforms());
        out.description = o.description().to_owned();
        out.state = o.state();
        out.successor = o.successor();
        out.stix_uuid = o.stix_uuid();
        out
    };
    let relation = |r: ttpmap::index::RelationRef<'_, D>| ttpmap::kb::Relation {
        source: r.source.id(),
        kind: r.kind,
        target: r.target.id(),
        text: r.text().to_owned(),
        reference: r.reference().to_owned(),
    };
    KnowledgeBase {
        provenance: index.provenance().expect("it was written"),
        tactics: index.tactics().map(ObjectRef::id).collect(),
        objects: index.objects().map(|o| (o.id(), object(o))).collect(),
        relations: index.relations().map(relation).collect(),
    }
}

/// That an index holds just what the knowledge base does, and finds it from every side.
fn assert_holds(kb: &KnowledgeBase, bytes: &[u8]) {
    let index = Index::new(bytes).expect("what was built opens");
    index.verify().expect("and is whole");
    let back = read_back(&index);
    assert_eq!(back.provenance, kb.provenance);
    assert_eq!(back.tactics, kb.tactics);
    for (built, source) in back.objects.values().zip(kb.objects.values()) {
        assert_eq!(built, source);
    }
    assert_eq!(back.objects.len(), kb.objects.len());
    assert_eq!(back.relations.len(), kb.relations.len());
    for (built, source) in back.relations.iter().zip(&kb.relations) {
        assert_eq!(built, source);
    }
    let mut outgoing: BTreeMap<_, usize> = BTreeMap::new();
    let mut incoming: BTreeMap<_, usize> = BTreeMap::new();
    for relation in &kb.relations {
        *outgoing.entry(relation.source).or_default() += 1;
        *incoming.entry(relation.target).or_default() += 1;
    }
    for object in kb.objects.values() {
        let found = index.get(object.id).expect("every ID is found");
        assert_eq!(found.outgoing().count(), outgoing.get(&object.id).copied().unwrap_or(0), "{}", object.id);
        assert_eq!(found.incoming().count(), incoming.get(&object.id).copied().unwrap_or(0), "{}", object.id);
        assert_eq!(index.current(object.id).map(ObjectRef::id), kb.current(object.id).map(|o| o.id), "{}", object.id);
        assert!(found.subtechniques().all(|s| s.parent().map(ObjectRef::id) == Some(object.id)));
    }
}

#[test]
fn the_embedded_knowledge_base_is_whole() {
    let index = Index::embedded();
    index.verify().unwrap();
    assert!(!index.has_prose(), "ATT&CK's sentences stay with ATT&CK");
    assert!(index.objects().all(|o| o.description().is_empty()));
    assert!(index.objects().len() > 3000 && index.relations().count() > 20_000);
}

/// What data/lexicon and data/rules say is in the built-in knowledge base.
#[test]
fn the_embedded_knowledge_base_holds_the_lexicon_and_the_rules() {
    let index = Index::embedded();
    let written = Curated::read(&root().join("data")).unwrap();
    let built = Curated::of_index(&index);
    let cure = "data/enterprise.ttpkb is stale: run `make data`";
    let rules = |c: &Curated| {
        let current = |t: &str| t.parse().ok().and_then(|id| index.current(id)).map(ObjectRef::id);
        c.rules.iter().filter_map(|r| Some((current(&r.technique)?, r.pattern.clone(), r.reason.clone()))).collect::<BTreeSet<_>>()
    };
    let (written_rules, built_rules) = (rules(&written), rules(&built));
    let differ: Vec<_> = written_rules.symmetric_difference(&built_rules).take(5).collect();
    assert!(differ.is_empty(), "{cure}: {differ:?}");
    let (mut there, mut missing) = (0, Vec::new());
    for (id, entry) in &written.lexicon {
        let Some(object) = index.current(*id) else { continue };
        assert!(object.id() != *id || object.gloss() == entry.gloss, "{cure}: gloss of {id}");
        let phrases = built.lexicon.get(&object.id()).map(|e| &*e.phrases).unwrap_or_default();
        for phrase in &entry.phrases {
            if phrases.iter().any(|p| p.text == phrase.text) {
                there += 1;
            } else {
                missing.push(format!("{id} {}", phrase.text));
            }
        }
    }
    // Of phrases with the same stems one is kept.
    assert!(missing.len() * 50 < there, "{cure}: {} of {there} phrases, such as {:?}", missing.len(), &missing[..5]);
}

/// Where the bundle is there, the built-in knowledge base comes out of `make data` byte for byte.
#[test]
fn the_embedded_knowledge_base_is_not_stale() {
    let (Some(bundle), Some(facts)) = (shared("attack/enterprise-attack-18.1.json.xz"), shared("attack/enterprise-attack-19.2-facts.json"))
    else {
        return;
    };
    let Some(json) = unxz(&bundle) else { return };
    let env = TestEnv::new();
    std::fs::write(env.work().join("enterprise-attack-18.1.json"), json).unwrap();
    let date = Index::embedded().provenance().unwrap().date;
    let output = env
        .ttpmap()
        .args(["kb", "build", "enterprise-attack-18.1.json", "--facts-only", "--date", &date, "-o", "new.ttpkb", "--facts"])
        .arg(facts.canonicalize().unwrap())
        .arg("--curated")
        .arg(root().join("data"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (new, old) = (std::fs::read(env.work().join("new.ttpkb")).unwrap(), std::fs::read(root().join("data/enterprise.ttpkb")).unwrap());
    assert!(new == old, "data/enterprise.ttpkb is stale: run `make data DATE={date}`");
}

#[test]
fn what_was_built_is_what_is_answered() {
    let kb = mini();
    assert_holds(&kb, &bytes_of(&kb, Prose::Keep));
    assert_holds(&kb.clone().without_prose(), &bytes_of(&kb, Prose::Drop));
}

/// Slow: some seconds for each bundle.
#[test]
fn every_real_bundle_is_what_is_answered() {
    for path in bundles() {
        let Some(json) = unxz(&path) else { return };
        let (mut kb, _) = stix::read(&json, Some("1.0")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        drop(json);
        let bytes = bytes_of(&kb, Prose::Keep);
        // A successor that the bundle doesn't hold can't be answered with.
        let known: Vec<_> = kb.objects.keys().copied().collect();
        for object in kb.objects.values_mut() {
            object.successor = object.successor.filter(|s| known.contains(s));
        }
        assert_holds(&kb, &bytes);
        assert_eq!(bytes, bytes_of(&kb, Prose::Keep), "{}: same input, other bytes", path.display());
        eprintln!("{}: {} bytes", path.display(), bytes.len());
    }
}

#[test]
fn the_date_is_the_only_thing_that_time_can_change() {
    let mut kb = mini();
    let one = bytes_of(&kb, Prose::Keep);
    assert_eq!(one, bytes_of(&mini(), Prose::Keep));
    kb.provenance.date = "2026-11-25".into();
    let other = bytes_of(&kb, Prose::Keep);
    assert_ne!(one, other);
    assert_eq!(Index::new(other).unwrap().provenance(), Some(Provenance { date: "2026-11-25".into(), ..mini().provenance }));
}

#[test]
fn more_objects_than_fit_are_refused() {
    let mut kb = mini();
    let id = |kind, i: usize| ttpmap::AttackId::new(kind, (i % 10_000) as u16, 0).unwrap();
    for (n, kind) in ttpmap::Kind::ALL.into_iter().enumerate() {
        for i in 0..10_000 {
            let id = id(kind, i);
            kb.objects.insert(id, ttpmap::kb::Object::new(id, format!("{n} {i}")));
        }
    }
    let error = build(&kb, &Curated::default(), &[], Prose::Keep).unwrap_err().to_string();
    assert!(error.contains("objects: 9000") && error.contains("65535"), "{error}");
}

#[test]
fn every_truncation_says_so() {
    let bytes = bytes_of(&mini(), Prose::Keep);
    for cut in 0..bytes.len() {
        match Index::new(&bytes[..cut]) {
            Err(Error::Truncated { found, expected }) => assert!(found == cut as u64 && found < expected),
            Err(Error::Foreign) => assert_eq!(cut, 0, "nothing at all is anything"),
            other => panic!("{cut} bytes: {other:?}"),
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(Index::new(&longer), Err(Error::Damaged(_))));
}

#[test]
fn foreign_files_and_other_versions_say_the_cure() {
    let whole = bytes_of(&mini(), Prose::Keep);
    let mut newer = whole.clone();
    newer[8] += 1;
    let damaged = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let open = |bytes: &[u8]| Index::new(bytes).and_then(|i| i.verify()).unwrap_err().to_string();
    for (bytes, words) in [
        (
            b"PK\x03\x04 some archive that is long enough to be a header, or so it seems".to_vec(),
            ["not a ttpmap knowledge base", "ttpmap update"],
        ),
        (mini_bundle().into_bytes(), ["not a ttpmap knowledge base", "ttpmap kb build"]),
        (newer, ["this build reads", "run `ttpmap update`"]),
        (whole[..whole.len() - 1].to_vec(), ["cut short", "run `ttpmap update`"]),
        (damaged(60), ["damaged (header checksum)", "run `ttpmap update`"]),
        (damaged(whole.len() - 1), ["damaged (checksum)", "run `ttpmap update`"]),
    ] {
        let error = open(&bytes);
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
    // Sent as text: the line end in the magic is gone.
    let text = whole.iter().copied().filter(|b| *b != b'\r').collect::<Vec<u8>>();
    assert!(matches!(Index::new(text), Err(Error::Foreign)));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let env = TestEnv::new();
    let error = Index::open(&env.work().join("none.ttpkb")).unwrap_err().to_string();
    assert!(error.contains("none.ttpkb"), "{error}");
}

/// Asks an index whatever can be asked.
fn ask<D: AsRef<[u8]> + Sync>(index: &Index<D>) {
    let back = read_back_or_nothing(index);
    assert!(back <= 100_000);
    for query in ["T9003", "tunel boring", "night mole", "spade"] {
        for answer in lookup(index, query) {
            let _ = (answer.object.full_name(), answer.object.tactics().count(), answer.object.subtechniques().count());
        }
    }
    let mapper = Mapper::new(index);
    let document = Document::new("Velvet Digger lifted turf (T9003) with RootChewer in the Spring Offensive, boring a shallow tunnel.");
    let _ = mapper.map(&document, &ttpmap::rank::Options { implied: true, ..Default::default() });
}

fn read_back_or_nothing<D: AsRef<[u8]>>(index: &Index<D>) -> usize {
    let ends = |o: ObjectRef<'_, D>| o.outgoing().count() + o.incoming().count() + o.aliases().count() + o.platforms().count();
    if index.provenance().is_some() { read_back(index).objects.len() } else { index.objects().map(ends).sum() }
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_and_harms_nothing() {
    let whole = bytes_of(&mini(), Prose::Keep);
    let mut numbers = Numbers(7);
    for at in 0..whole.len() {
        // Header and section table in full, one in five of the rest.
        if at > 1000 && numbers.below(5) > 0 {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << numbers.below(8);
        let Ok(index) = Index::new(bytes) else { continue };
        assert!(index.verify().is_err(), "byte {at}: nobody noticed");
        ask(&index);
    }
}

#[test]
fn many_bytes_damaged_at_once_harm_nothing() {
    let whole = bytes_of(&mini(), Prose::Keep);
    let table = 64 + 24 * u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let mut numbers = Numbers(11);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        let start = table + numbers.below(whole.len() - table);
        let value = [0, 0xff, 0x7f, numbers.below(256) as u8][numbers.below(4)];
        let end = (start + 1 + numbers.below(64)).min(bytes.len());
        bytes[start..end].fill(value);
        if bytes == whole {
            continue;
        }
        let index = Index::new(bytes).expect("header and table are whole");
        assert!(index.verify().is_err());
        ask(&index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn build_open_get_equals_the_source(
        dropped in proptest::collection::btree_set(0_usize..17, 0..10),
        names in proptest::collection::vec("\\PC{1,30}", 17),
        aliases in proptest::collection::vec(proptest::collection::vec("\\PC{1,12}", 0..4), 17),
        states in proptest::collection::vec(0_u8..3, 17),
    ) {
        let mut kb = mini();
        let mut place = 0;
        kb.objects.retain(|_, _| {
            place += 1;
            !dropped.contains(&(place - 1))
        });
        for (i, object) in kb.objects.values_mut().enumerate() {
            object.name.clone_from(&names[i]);
            object.aliases.clone_from(&aliases[i]);
            object.state = [State::Active, State::Deprecated, State::Revoked][usize::from(states[i])];
        }
        let there: Vec<_> = kb.objects.keys().copied().collect();
        kb.tactics.retain(|t| there.contains(t));
        for object in kb.objects.values_mut() {
            object.tactics.retain(|t| there.contains(t));
        }
        kb.settle();
        for object in kb.objects.values_mut() {
            object.successor = object.successor.filter(|_| object.state == State::Revoked);
        }
        assert_holds(&kb, &bytes_of(&kb, Prose::Keep));
    }

    #[test]
    fn any_bytes_are_refused_or_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Index::new(&bytes).is_err());
        let mut framed = bytes_of(&mini(), Prose::Drop)[..64].to_vec();
        framed.extend(bytes);
        prop_assert!(Index::new(&framed).is_err());
    }
}
