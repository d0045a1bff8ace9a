//! Reading ATT&CK's JSON: a hand-made bundle in STIX 2.0 and 2.1, files that are none, and every real bundle at hand.

mod support;

use proptest::prelude::*;
use support::{TestEnv, bundles, mini_bundle, unxz};
use ttpmap::kb::{RelationKind, State};
use ttpmap::stix::{Error, Report, read};
use ttpmap::{AttackId, Domain, Kind, KnowledgeBase};

fn mini() -> (KnowledgeBase, Report) {
    read(mini_bundle().as_bytes(), Some("1.0")).expect("the mini bundle is one")
}

/// The mini bundle as STIX 2.1 writes it: `spec_version` on every object, none on the bundle, and a collection
/// object that names the release.
fn mini_21() -> String {
    let mut bundle: serde_json::Value = serde_json::from_str(&mini_bundle()).unwrap();
    bundle.as_object_mut().unwrap().remove("spec_version");
    let objects = bundle["objects"].as_array_mut().unwrap();
    objects.push(serde_json::json!({
        "type": "x-mitre-collection", "id": "x-mitre-collection--00000000-0000-4000-8000-000000000081",
        "name": "Garden ATT&CK", "x_mitre_version": "2.1",
    }));
    for object in objects {
        object["spec_version"] = "2.1".into();
        object["created"] = "2026-01-01T00:00:00.000Z".into();
    }
    bundle.to_string()
}

fn id(text: &str) -> AttackId {
    text.parse().unwrap()
}

fn ids(list: &[AttackId]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn every_kind_is_read() {
    let (kb, _) = mini();
    let all: Vec<String> = kb.objects.keys().map(ToString::to_string).collect();
    let expected = [
        "TA9001",
        "TA9002",
        "TA9003",
        "T9001",
        "T9001.001",
        "T9002",
        "T9003",
        "T9004",
        "T9005",
        "G9001",
        "S9001",
        "S9002",
        "C9001",
        "M9001",
        "DC9001",
        "DET9001",
        "AN9001",
    ];
    assert_eq!(all, expected);
    assert_eq!(kb.provenance.domain, Domain::Enterprise);
    assert_eq!((&*kb.provenance.version, &*kb.provenance.notice), ("1.0", "Made by hand for tests."));
    assert_eq!(ids(&kb.tactics), ["TA9002", "TA9001", "TA9003"], "in the matrix's order");
}

#[test]
fn properties_are_read_and_prose_is_plain() {
    let (kb, _) = mini();
    let tunnel = &kb.objects[&id("T9001")];
    assert_eq!(ids(&tunnel.tactics), ["TA9002", "TA9001"], "in matrix order, of ATT&CK's own kill chain");
    assert_eq!(tunnel.platforms, ["Lawn", "Flower Bed"]);
    assert_eq!(tunnel.description, "A tunnel under the lawn, such as mole --dig.");
    assert_eq!(kb.objects[&id("G9001")].aliases, ["Night Mole", "Group Nine"]);
    assert_eq!(kb.objects[&id("S9001")].aliases, ["Chewy"]);
    let types = ["S9001", "S9002"].map(|s| kb.objects[&id(s)].short_name.clone());
    assert_eq!(types, ["malware", "tool"]);
    assert_eq!(kb.objects[&id("TA9002")].short_name, "getting-in");
}

#[test]
fn a_chain_of_revocations_is_followed_to_its_end() {
    let (kb, _) = mini();
    for old in ["T9003", "T9004"] {
        let object = &kb.objects[&id(old)];
        assert_eq!(object.state, State::Revoked);
        assert_eq!(object.successor, Some(id("T9001.001")), "{old}");
        assert_eq!(kb.current(id(old)).map(|o| o.id), Some(id("T9001.001")));
    }
    let moved = kb.relations.iter().find(|r| r.source == id("G9001") && r.target.kind() == Kind::Technique).unwrap();
    assert_eq!((moved.target, &*moved.text, &*moved.reference), (id("T9001.001"), "Velvet Digger lifted turf.", "Mole Weekly"));
    assert_eq!(kb.objects[&id("T9005")].state, State::Deprecated);
    assert_eq!(kb.current(id("T9005")).map(|o| o.id), Some(id("T9005")), "deprecated, and nothing else in its place");
}

#[test]
fn revocations_in_a_circle_end() {
    let circle = mini_bundle().replace(
        r#""target_ref": "attack-pattern--00000000-0000-4000-8000-000000000022"
    },
    {
      "type": "relationship",
      "id": "relationship--00000000-0000-4000-8000-000000000070""#,
        r#""target_ref": "attack-pattern--00000000-0000-4000-8000-000000000024"
    },
    {
      "type": "relationship",
      "id": "relationship--00000000-0000-4000-8000-000000000070""#,
    );
    assert_ne!(circle, mini_bundle());
    let (kb, _) = read(circle.as_bytes(), None).unwrap();
    assert_eq!(kb.current(id("T9003")), None);
    assert!(!kb.relations.iter().any(|r| r.target == id("T9003")));
}

#[test]
fn relations_of_every_kind_are_read() {
    let (kb, _) = mini();
    let all: Vec<(String, RelationKind, String)> =
        kb.relations.iter().map(|r| (r.source.to_string(), r.kind, r.target.to_string())).collect();
    let expected = [
        ("G9001", RelationKind::Uses, "T9001.001"),
        ("G9001", RelationKind::Uses, "S9001"),
        ("S9001", RelationKind::Uses, "T9002"),
        ("C9001", RelationKind::Uses, "S9002"),
        ("C9001", RelationKind::AttributedTo, "G9001"),
        ("M9001", RelationKind::Mitigates, "T9001.001"),
        ("DET9001", RelationKind::Detects, "T9001"),
        ("DET9001", RelationKind::Contains, "AN9001"),
        ("AN9001", RelationKind::Contains, "DC9001"),
    ];
    assert_eq!(all, expected.map(|(s, k, t)| (s.to_owned(), k, t.to_owned())), "deprecated ones left out");
}

#[test]
fn what_is_skipped_is_counted_and_named_with_its_field() {
    let (_, report) = mini();
    let skipped: Vec<(&str, &str)> = report.skipped.iter().map(|s| (&s.object[s.object.len() - 2..], &*s.reason)).collect();
    assert_eq!(
        skipped,
        [
            ("27", "name: missing"),
            ("28", "x_mitre_platforms: invalid type: string \"Lawn\", expected a sequence"),
            ("70", "target_ref: missing"),
        ]
    );
    assert!(report.skipped[0].object.starts_with("attack-pattern--"));
    assert_eq!(report.without_id["x-mitre-data-component"], 1, "as old releases have them: no damage");
    assert_eq!(report.objects, mini_bundle().matches("\n      \"type\":").count());
}

#[test]
fn a_technique_in_an_unknown_tactic_is_named() {
    let text = mini_bundle().replace("\"phase_name\": \"harvest-spoiling\"", "\"phase_name\": \"weeding\"");
    let (kb, report) = read(text.as_bytes(), None).unwrap();
    assert!(kb.objects[&id("T9002")].tactics.is_empty());
    assert!(report.skipped.iter().any(|s| s.object == "T9002" && s.reason.contains("`weeding`")), "{report:?}");
}

#[test]
fn stix_2_1_reads_as_2_0_and_names_its_release() {
    let (mut old, _) = mini();
    let (new, report) = read(mini_21().as_bytes(), Some("1.0")).unwrap();
    assert_eq!(new.provenance.version, "2.1", "the collection's version counts, not the caller's");
    assert_eq!(report.skipped.len(), 3);
    old.provenance = new.provenance.clone();
    assert_eq!(old, new);
}

#[test]
fn files_that_are_no_bundle_are_told_apart_with_their_offset() {
    let whole = mini_bundle();
    let cut = &whole[..whole.len() / 2];
    let offset = |text: &str| match read(text.as_bytes(), None).unwrap_err() {
        Error::Truncated { offset } => ("cut", offset),
        Error::Syntax { offset, .. } => ("syntax", offset),
        Error::NotABundle { offset, .. } => ("other", offset),
        Error::NotAttack(_) => ("foreign bundle", 0),
        e => panic!("{e}"),
    };
    assert_eq!(offset(cut), ("cut", cut.len()));
    assert_eq!(offset(""), ("cut", 0));
    assert_eq!(offset("<!DOCTYPE html>\n<html>"), ("syntax", 1));
    assert_eq!(offset("{\"type\": \"bundle\",\n \"objects\": [}"), ("syntax", 33));
    assert_eq!(offset("[]").0, "other");
    assert_eq!(offset("{\"type\": \"bundle\"}").0, "other");
    assert_eq!(offset("{\"name\": \"a layer\", \"techniques\": []}").0, "other");
    assert_eq!(offset("{\"type\": \"bundle\", \"objects\": [{\"type\": \"indicator\", \"id\": \"indicator--1\"}]}").0, "foreign bundle");
}

#[test]
fn the_command_line_names_path_and_offset() {
    let env = TestEnv::new();
    let whole = mini_bundle();
    let half = whole.len() / 2;
    for (name, bytes, expected) in [
        ("cut.json", &whole.as_bytes()[..half], format!("cut short at byte {half}")),
        ("empty.json", b"".as_slice(), "cut short at byte 0".into()),
        ("page.json", b"<html>404</html>".as_slice(), "not JSON at byte 1".into()),
        ("layer.json", br#"{"name": "x", "domain": "enterprise-attack"}"#.as_slice(), "not a STIX bundle (byte".into()),
        ("binary.json", b"\x89PNG\r\n\x1a\n\0".as_slice(), "not JSON at byte 1".into()),
        ("other.json", br#"{"type": "bundle", "objects": []}"#.as_slice(), "a STIX bundle, but not ATT&CK's".into()),
    ] {
        std::fs::write(env.work().join(name), bytes).unwrap();
        let output = env.ttpmap().args(["kb", "build", name, "-o", "out.ttpkb"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.starts_with(&format!("ttpmap: {name}: ")) && stderr.contains(&expected), "{name}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{name}: {stderr}");
        assert!(!env.work().join("out.ttpkb").exists(), "{name}");
    }
}

#[test]
fn every_real_bundle_is_read_without_damage() {
    for path in bundles() {
        let Some(bytes) = unxz(&path) else { return };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (kb, report) = read(&bytes, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(name.starts_with(kb.provenance.domain.attack_name()), "{name}");
        assert!(report.skipped.is_empty(), "{name}: {:?}", report.skipped);
        for kind in [Kind::Tactic, Kind::Technique, Kind::Group, Kind::Software, Kind::Mitigation] {
            assert!(kb.of_kind(kind).any(|o| o.state == State::Active), "{name}: no {}", kind.name());
        }
        assert_eq!(kb.tactics.len(), kb.of_kind(Kind::Tactic).filter(|t| t.state == State::Active).count(), "{name}");
        for technique in kb.of_kind(Kind::Technique).filter(|t| t.state == State::Active) {
            assert!(!technique.tactics.is_empty(), "{name}: {}", technique.id);
            assert!(kb.objects.contains_key(&technique.id.parent()), "{name}: {}", technique.id);
        }
        let revoked: Vec<_> = kb.objects.values().filter(|o| o.state == State::Revoked).collect();
        assert!(revoked.iter().all(|o| o.successor.is_none_or(|s| kb.objects[&s].state != State::Revoked)), "{name}");
        // A mobile technique was revoked without a word of what took its place; all others have a successor.
        let lost = revoked.iter().filter(|o| o.id.kind() == Kind::Technique && o.successor.is_none()).count();
        assert!(lost <= 1, "{name}: {lost} revoked techniques without a successor");
        let live = |id: AttackId| kb.objects.get(&id).is_some_and(|o| o.state != State::Revoked);
        assert!(kb.relations.len() > 500 && kb.relations.iter().all(|r| live(r.source) && live(r.target)), "{name}");
        eprintln!("{name}: {} objects, {} relations", kb.objects.len(), kb.relations.len());
    }
}

proptest! {
    #[test]
    fn a_bundle_with_any_byte_changed_is_read_or_refused(at in 0_usize..100_000, byte in any::<u8>()) {
        let mut bytes = mini_bundle().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok((kb, report)) = read(&bytes, None) {
            prop_assert!(kb.objects.len() + report.skipped.len() >= 10);
        }
    }

    #[test]
    fn a_bundle_cut_anywhere_tells_its_length(cut in 0_usize..100_000) {
        let whole = mini_bundle();
        let cut = cut % (whole.trim_end().len() - 1);
        let told = matches!(read(&whole.as_bytes()[..cut], None), Err(Error::Truncated { offset }) if offset == cut);
        prop_assert!(told);
    }
}
