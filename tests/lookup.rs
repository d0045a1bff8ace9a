//! Look-ups over the whole built-in knowledge base: misspelt, out of order, revoked, former.

mod support;

use std::collections::BTreeMap;

use support::Numbers;
use ttpmap::index::ObjectRef;
use ttpmap::kb::State;
use ttpmap::lookup::{fold, is_clear, lookup};
use ttpmap::{Index, Kind};

fn ids(query: &str) -> Vec<String> {
    lookup(&Index::embedded(), query).iter().map(|a| a.object.id().to_string()).collect()
}

/// One edit at a letter: insertion, deletion, substitution, or transposition of two neighbouring letters.
fn edit(text: &mut Vec<char>, numbers: &mut Numbers) {
    let places: Vec<usize> = (0..text.len()).filter(|i| text[*i].is_alphabetic()).collect();
    let at = places[numbers.below(places.len())];
    let letter = char::from(b'a' + numbers.below(26) as u8);
    match numbers.below(4) {
        0 => text.insert(at, letter),
        1 => {
            text.remove(at);
        }
        2 => text[at] = letter,
        _ => {
            let pairs: Vec<usize> = places.iter().copied().filter(|i| text.get(i + 1).is_some_and(|c| c.is_alphabetic())).collect();
            if let Some(at) = pairs.get(numbers.below(pairs.len().max(1))) {
                text.swap(*at, at + 1);
            }
        }
    }
}

/// `name` with so many random edits; never the name itself as a look-up folds it.
fn misspelt(name: &str, edits: usize, numbers: &mut Numbers) -> String {
    loop {
        let mut text: Vec<char> = name.chars().collect();
        for _ in 0..edits {
            edit(&mut text, numbers);
        }
        let text: String = text.into_iter().collect();
        if fold(&text) != fold(name) {
            return text;
        }
    }
}

/// Names and aliases of eight letters or more, in force, with the objects that bear each.
fn names<D: AsRef<[u8]>>(index: &Index<D>) -> BTreeMap<String, Vec<ttpmap::AttackId>> {
    const KINDS: [Kind; 6] = [Kind::Tactic, Kind::Technique, Kind::Group, Kind::Software, Kind::Campaign, Kind::Mitigation];
    let mut bearers: BTreeMap<String, (String, Vec<ttpmap::AttackId>)> = BTreeMap::new();
    let all_names = |o: ObjectRef<'_, D>| std::iter::once(o.name()).chain(o.aliases()).map(str::to_owned).collect::<Vec<_>>();
    for object in index.objects().filter(|o| o.state() == State::Active) {
        for name in all_names(object) {
            bearers.entry(fold(&name)).or_insert_with(|| (name, Vec::new())).1.push(object.id());
        }
    }
    let wanted = |(name, ids): &(String, Vec<ttpmap::AttackId>)| {
        name.chars().filter(|c| c.is_alphabetic()).count() >= 8 && ids.iter().any(|id| KINDS.contains(&id.kind()))
    };
    bearers.into_values().filter(wanted).collect()
}

fn share_at_rank_one(edits: usize, seed: u64) -> (f64, usize) {
    let index = Index::embedded();
    let mut numbers = Numbers(seed);
    let names = names(&index);
    let mut missed = Vec::new();
    for (name, bearers) in &names {
        let query = misspelt(name, edits, &mut numbers);
        let first = lookup(&index, &query).first().map(|a| a.object.id());
        if !first.is_some_and(|id| bearers.contains(&id)) {
            missed.push(format!("{query} ({name}): {}", first.map_or_else(|| "nothing".to_owned(), |id| id.to_string())));
        }
    }
    let share = 1.0 - missed.len() as f64 / names.len() as f64;
    eprintln!("{edits} edits, seed {seed}: {:.2} % of {} names at rank 1; missed: {missed:#?}", share * 100.0, names.len());
    (share, names.len())
}

#[test]
fn names_with_one_edit_are_first() {
    for seed in [1, 2, 3] {
        let (share, names) = share_at_rank_one(1, seed);
        assert!(names > 1000 && share >= 0.97, "{share}");
    }
}

#[test]
fn names_with_two_edits_are_first() {
    for seed in [1, 2, 3] {
        let (share, names) = share_at_rank_one(2, seed);
        assert!(names > 1000 && share >= 0.92, "{share}");
    }
}

#[test]
fn whatever_is_meant_comes_first() {
    for (query, expected) in [
        ("latral movment", "TA0008"),
        ("pasword spraying", "T1110.003"),
        ("fancy baer", "G0007"),
        ("T1086", "T1059.001"),
        ("t1059/001", "T1059.001"),
        ("t1059.1", "T1059.001"),
        ("mimikats", "S0002"),
        ("salt typhon", "G1045"),
        // any order, and not all words
        ("spraying password", "T1110.003"),
        ("memory lsass", "T1003.001"),
        ("movement lateral", "TA0008"),
        ("attachment spearphishing", "T1566.001"),
        ("bear fancy", "G0007"),
        ("protocol desktop remote", "T1021.001"),
        // punctuation and case are nothing
        ("  Adversary-in-the-Middle!", "T1557"),
        ("COBALT strike", "S0154"),
        ("DET0103", "DET0103"),
    ] {
        let found = ids(query);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{query}: {found:?}");
    }
}

#[test]
fn a_former_tactic_name_answers_with_all_that_took_its_place() {
    let found = ids("defense evasion");
    assert_eq!(found[..2], ["TA0005", "TA0112"], "{found:?}");
    assert!(!is_clear(&lookup(&Index::embedded(), "defense evasion")), "both are shown");
}

#[test]
fn every_revoked_id_leads_to_its_successor_in_force() {
    let index = Index::embedded();
    let mut followed = 0;
    for old in index.objects().filter(|o| o.state() == State::Revoked) {
        let answers = lookup(&index, &old.id().to_string());
        let [answer] = &answers[..] else { panic!("{}: {} answers", old.id(), answers.len()) };
        match index.current(old.id()) {
            Some(successor) => {
                assert_eq!(answer.object.id(), successor.id());
                assert_eq!(answer.redirected_from, Some(old.id()));
                assert_eq!(successor.state(), State::Active, "{} leads to {}", old.id(), successor.id());
                followed += 1;
            }
            None => assert_eq!(answer.object.id(), old.id()),
        }
    }
    assert!(followed > 100, "{followed}");
}

#[test]
fn every_name_in_force_answers_with_its_object_first() {
    let index = Index::embedded();
    for object in index.objects().filter(|o| o.state() == State::Active && o.id().kind() != Kind::Analytic) {
        let answers = lookup(&index, object.name());
        let first = answers.first().unwrap_or_else(|| panic!("{} {}", object.id(), object.name()));
        let same = |o: ObjectRef<'_, _>| {
            std::iter::once(o.name()).chain(o.aliases()).chain(o.former_names()).any(|n| fold(n) == fold(object.name()))
        };
        assert!(same(first.object), "{} {}: {}", object.id(), object.name(), first.object.id());
        assert!(first.score >= 0.99);
    }
}

#[test]
fn nothing_near_is_nothing() {
    for query in ["", " ", "...", "zxqvjk", "T9999", "quarterly revenue forecast", "\u{202e}\u{0}", "日本語"] {
        assert!(ids(query).is_empty(), "{query}: {:?}", ids(query));
    }
}

proptest::proptest! {
    #[test]
    fn any_query_is_answered_in_order(query in "\\PC{0,80}") {
        let index = Index::embedded();
        let answers = lookup(&index, &query);
        let scores: Vec<f32> = answers.iter().map(|a| a.score).collect();
        proptest::prop_assert!(scores.is_sorted_by(|a, b| a >= b));
        proptest::prop_assert!(scores.iter().all(|s| (0.0..=1.0).contains(s)));
        proptest::prop_assert!(answers.iter().all(|a| a.object.state() != State::Revoked || index.current(a.object.id()).is_none()));
    }
}
