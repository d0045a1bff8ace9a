//! Navigator layers: the rules of layer format 4.5 as the Navigator and mitreattack-python read it. The latter is
//! asked itself by tests/navigator_check.py, which CI runs.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::root;
use ttpmap::export::{Source, navigator};
use ttpmap::rank::Options;
use ttpmap::status::Status;
use ttpmap::{AttackId, Document, Index, Mapper};

/// The keys of each object of a layer that both readers know.
const LAYER: [&str; 23] = [
    "name",
    "versions",
    "domain",
    "description",
    "filters",
    "sorting",
    "layout",
    "hideDisabled",
    "techniques",
    "gradient",
    "legendItems",
    "showTacticRowBackground",
    "tacticRowBackground",
    "selectTechniquesAcrossTactics",
    "selectSubtechniquesWithParent",
    "selectVisibleTechniques",
    "metadata",
    "links",
    "attack",
    "navigator",
    "layer",
    "label",
    "color",
];
const TECHNIQUE: [&str; 9] = ["techniqueID", "tactic", "comment", "enabled", "score", "color", "metadata", "links", "showSubtechniques"];

fn layer_of(text: &str, statuses: &[Status]) -> Value {
    let index = Index::embedded();
    let document = Document::new(text);
    let mapping = Mapper::new(&index).map(&document, &Options { statuses: statuses.to_vec(), ..Options::default() });
    let source = Source { id: "in.txt".into(), source: "in.txt".into(), title: None, record: None };
    navigator::layer(&index, &source, &document, &mapping, statuses).to_value()
}

fn example() -> String {
    std::fs::read_to_string(root().join("examples/northwind-orchards.txt")).unwrap()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_nothing_null(value: &Value, path: &str) {
    match value {
        Value::Null => panic!("null at {path}"),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| assert_nothing_null(v, &format!("{path}/{i}"))),
        Value::Object(map) => map.iter().for_each(|(k, v)| assert_nothing_null(v, &format!("{path}/{k}"))),
        _ => {}
    }
}

fn is_color(value: &Value) -> bool {
    value.as_str().is_some_and(|c| c.len() == 7 && c.starts_with('#') && c[1..].bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What holds for every layer.
fn assert_valid(layer: &Value) {
    let index = Index::embedded();
    assert_nothing_null(layer, "");
    assert!(keys(layer).iter().all(|k| LAYER[..18].contains(k)), "{:?}", keys(layer));
    assert!(!layer["name"].as_str().unwrap().is_empty());
    assert_eq!(layer["domain"], index.domain().attack_name());
    let versions = &layer["versions"];
    let major = index.version().split('.').next().unwrap();
    assert_eq!((versions["attack"].as_str(), versions["layer"].as_str()), (Some(major), Some("4.5")));
    assert!(versions["navigator"].as_str().unwrap().starts_with("5."));
    assert!(matches!(layer["sorting"].as_u64(), Some(0..=3)));
    let gradient = &layer["gradient"];
    assert_eq!((gradient["minValue"].as_u64(), gradient["maxValue"].as_u64()), (Some(0), Some(100)));
    let colors = gradient["colors"].as_array().unwrap();
    assert!((2..=3).contains(&colors.len()) && colors.iter().all(is_color));
    for item in layer["legendItems"].as_array().unwrap() {
        assert!(keys(item) == BTreeSet::from(["label", "color"]) && is_color(&item["color"]));
    }
    let mut entries = BTreeSet::new();
    for entry in layer["techniques"].as_array().unwrap() {
        assert!(keys(entry).iter().all(|k| TECHNIQUE.contains(k)), "{:?}", keys(entry));
        let id: AttackId = entry["techniqueID"].as_str().unwrap().parse().unwrap();
        let tactic = entry["tactic"].as_str().unwrap();
        let object = index.get(id).unwrap_or_else(|| panic!("{id} is not in ATT&CK"));
        assert_eq!(object.state(), ttpmap::kb::State::Active, "{id}");
        assert!(object.tactics().any(|t| t.short_name() == tactic), "{id} is not in {tactic}");
        assert!(entries.insert((id, tactic)), "{id} twice in {tactic}");
        if let Some(score) = entry.get("score") {
            assert!(score.as_u64().is_some_and(|s| s <= 100), "{score}");
            assert!(entry["comment"].as_str().is_some_and(|c| c.starts_with("line ")));
        }
    }
    for meta in
        std::iter::once(layer).chain(layer["techniques"].as_array().unwrap()).flat_map(|o| o["metadata"].as_array().into_iter().flatten())
    {
        assert!(keys(meta) == BTreeSet::from(["name", "value"]) && meta["name"].is_string() && meta["value"].is_string());
    }
}

fn scored(layer: &Value) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in layer["techniques"].as_array().unwrap().iter().filter(|e| e.get("score").is_some()) {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        out.entry(text("techniqueID")).or_default().push(text("tactic"));
    }
    out
}

#[test]
fn layers_keep_the_rules() {
    assert_valid(&layer_of(&example(), &[]));
    assert_valid(&layer_of(&example(), &Status::ALL));
    assert_valid(&layer_of("", &[]));
    assert_valid(&layer_of("T1078 \u{1b}[31m\u{0}\u{202e} \"quoted\" <b>", &[]));
}

#[test]
fn a_technique_of_several_tactics_has_an_entry_for_each_unless_the_text_fixes_one() {
    let index = Index::embedded();
    let technique = index.get("T1053.005".parse().unwrap()).unwrap();
    let all: Vec<&str> = technique.tactics().map(ttpmap::index::ObjectRef::short_name).collect();
    assert!(all.len() > 1, "{all:?}");
    let free = scored(&layer_of("The actor used T1053.005.", &[]));
    let mut expected: Vec<String> = all.iter().map(|t| (*t).to_owned()).collect();
    expected.sort();
    assert_eq!(free["T1053.005"], expected);
    let fixed = scored(&layer_of("# Privilege Escalation\n\nThe actor used T1053.005.\n", &[]));
    assert_eq!(fixed["T1053.005"], ["privilege-escalation"]);
}

#[test]
fn only_what_is_asserted_goes_in_unless_more_is_asked_for() {
    let text = "They deleted the shadow copies (T1490). We found no evidence of password spraying (T1110.003).";
    let ids = |statuses: &[Status]| scored(&layer_of(text, statuses)).into_keys().collect::<Vec<_>>();
    assert!(ids(&[]).contains(&"T1490".to_owned()) && !ids(&[]).contains(&"T1110.003".to_owned()));
    assert!(ids(&[Status::Negated]).contains(&"T1110.003".to_owned()) && !ids(&[Status::Negated]).contains(&"T1490".to_owned()));
}

#[test]
fn a_sub_technique_opens_its_parent() {
    let layer = layer_of("The actor used T1003.001.", &[]);
    let parent = layer["techniques"].as_array().unwrap().iter().find(|e| e["techniqueID"] == "T1003").expect("the parent is there");
    assert!(parent.get("score").is_none() && parent["showSubtechniques"] == true, "{parent}");
}
