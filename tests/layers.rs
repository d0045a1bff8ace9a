//! Navigator layers: layers of other tools are read, checked and upgraded as told; nothing is lost between releases;
//! reading what was written gives the same.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use support::{bundles, root, unxz};
use ttpmap::curated::Curated;
use ttpmap::index::ObjectRef;
use ttpmap::index::build::{Prose, build};
use ttpmap::kb::State;
use ttpmap::layer::lint::{Effect, Finding, fix, lint};
use ttpmap::layer::make::{self, annotations};
use ttpmap::layer::matrix::Show;
use ttpmap::layer::merge::{Compare, How, Keep, Side, diff, merge};
use ttpmap::layer::tags::FileKind;
use ttpmap::layer::upgrade::{Outcome, Pick, Report, Upgrade};
use ttpmap::layer::{self, Entry, Gradient, Layer, LegendItem, Link, Metadata, Versions, svg};
use ttpmap::{AttackId, Domain, Index, Kind, stix};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/data/layers").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn layers(name: &str) -> Vec<Layer> {
    layer::parse(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}")).layers
}

fn counts(report: &Report) -> [usize; 4] {
    [Outcome::Kept, Outcome::Moved, Outcome::Merged, Outcome::CouldNot].map(|o| report.count(o))
}

fn findings(bytes: &[u8], upgrade: &Upgrade<'_, impl AsRef<[u8]>>) -> Vec<Finding> {
    lint(&layer::parse(bytes).unwrap(), bytes, upgrade).unwrap()
}

/// File, then for each of its layers: entries kept, moved, merged, not movable.
const FIXTURES: [(&str, &[[usize; 4]]); 10] = [
    ("array.json", &[[0, 1, 0, 0], [1, 0, 0, 0]]),
    ("coverage.json", &[[1, 1, 0, 2]]),
    ("generated-utf16.json", &[[1, 2, 0, 0]]),
    ("hand-edited.json", &[[3, 0, 2, 5]]),
    ("latest.json", &[[2, 0, 1, 0]]),
    ("navigator-4.json", &[[3, 5, 3, 0]]),
    ("navigator-5.json", &[[2, 0, 0, 0]]),
    ("no-versions.json", &[[2, 1, 1, 0]]),
    ("shares.json", &[[3, 0, 0, 0]]),
    ("version-3.json", &[[1, 2, 0, 0]]),
];

#[test]
fn layers_of_other_tools_are_upgraded_and_accounted_for() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    for (name, expected) in FIXTURES {
        let read = layers(name);
        assert_eq!(read.len(), expected.len(), "{name}");
        for (one, expected) in read.iter().zip(expected) {
            let (upgraded, report) = upgrade.layer(one, Pick::Max);
            assert_eq!(counts(&report), *expected, "{name}: {report:#?}");
            assert_eq!(report.records.len(), one.techniques.len() + one.unreadable.len(), "{name}");
            assert_eq!(upgraded.attack_major(), Some(layer::major(index.version())), "{name}");
            let again = upgrade.layer(&upgraded, Pick::Max);
            assert_eq!(again.0, upgraded, "{name}: twice is as once");
            assert_eq!(again.1.count(Outcome::Moved) + again.1.count(Outcome::Merged), 0, "{name}");
        }
    }
    let files = std::fs::read_dir(root().join("tests/data/layers")).unwrap().count();
    assert_eq!(files, FIXTURES.len(), "every fixture is tested");
}

#[test]
fn what_is_mended_is_portable_and_keeps_what_could_not_move() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    for (name, expected) in FIXTURES {
        for (one, expected) in layers(name).iter().zip(expected) {
            let (mended, _, _) = fix(one, &upgrade);
            let text = layer::write(std::slice::from_ref(&mended), false);
            let left = findings(text.as_bytes(), &upgrade);
            assert!(left.iter().all(|f| f.effects == [Effect::NavigatorHides]), "{name}: {left:#?}");
            // Entries that are no techniques at all went into the metadata.
            assert!(left.len() <= expected[3], "{name}: {left:#?}");
            assert_eq!(fix(&mended, &upgrade).0, mended, "{name}: twice is as once");
            assert_eq!(mended.portable().1, Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn what_became_a_sub_technique_is_not_hidden_under_a_closed_parent() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    let entry = Entry { score: Some(3.0), ..Entry::new("T1656".parse().unwrap(), Some("defense-evasion")) };
    let mut layer = Layer { techniques: vec![entry], layout: None, ..Layer::new("closed", Domain::Enterprise, "15.1") };
    let (upgraded, report) = upgrade.layer(&layer, Pick::Max);
    let ids: Vec<&str> = upgraded.techniques.iter().map(|e| &*e.technique_id).collect();
    assert_eq!(ids, ["T1684.001", "T1684"]);
    assert_eq!(upgraded.techniques[1].show_subtechniques, Some(true));
    assert!(report.notes.iter().any(|n| n.contains("T1684 (stealth)")), "{:?}", report.notes);
    layer.layout = Layer::new("", Domain::Enterprise, "15.1").layout;
    assert_eq!(upgrade.layer(&layer, Pick::Max).0.techniques.len(), 1, "annotated ones are opened anyway");
}

#[test]
fn a_platform_that_is_gone_takes_nothing_with_it() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    let technique =
        index.of_kind(Kind::Technique).find(|t| t.state() == State::Active && t.platforms().eq(["ESXi"])).expect("there is one");
    let entry = Entry { score: Some(3.0), ..Entry::new(technique.id(), None) };
    let filter = |names: [&str; 2]| Some(names.map(str::to_owned).to_vec());
    let layer =
        Layer { techniques: vec![entry], platforms: filter(["Windows", "No Such Platform"]), ..Layer::new("f", Domain::Enterprise, "19") };
    let (upgraded, report) = upgrade.layer(&layer, Pick::Max);
    assert_eq!(upgraded.platforms, filter(["Windows", "ESXi"]));
    assert!(report.notes[0].contains("has no No Such Platform") && report.notes[0].contains("ESXi came in"), "{:?}", report.notes);
    // A filter that is whole is the user's own.
    let layer = Layer { platforms: filter(["Windows", "Linux"]), ..layer };
    let (upgraded, report) = upgrade.layer(&layer, Pick::Max);
    assert_eq!(upgraded.platforms, layer.platforms);
    assert!(report.notes[0].contains("hides 1 annotated"), "{:?}", report.notes);
}

#[test]
fn a_fields_value_is_read_whatever_tool_wrote_it() {
    let one = |name: &str| layers(name).remove(0);
    let utf16 = one("generated-utf16.json");
    assert_eq!(utf16.techniques[0].comment.as_deref(), Some("zwölf Gruppen"));
    assert_eq!(utf16.attack_major(), Some("17"));
    // Most of it in a script whose characters have no zero byte, and no byte order mark.
    let comment = "横展開".repeat(500);
    let text = serde_json::json!({"domain": "enterprise-attack", "techniques": [{"techniqueID": "T1021", "comment": comment}]}).to_string();
    for units in [u16::to_le_bytes, u16::to_be_bytes] {
        let read = layer::parse(&text.encode_utf16().flat_map(units).collect::<Vec<u8>>()).unwrap();
        assert_eq!(read.layers[0].techniques[0].comment.as_deref(), Some(&*comment));
    }
    let v3 = one("version-3.json");
    assert_eq!((v3.versions.layer.as_deref(), v3.attack_domain()), (Some("3.0"), Some(Domain::Enterprise)));
    let hand = one("hand-edited.json");
    assert_eq!(hand.techniques[0].id(), "T1059.001".parse().ok());
    assert_eq!((hand.techniques[0].score, hand.techniques[2].score), (Some(80.0), None));
    assert_eq!((hand.other.get("mood"), hand.unreadable.len()), (Some(&json!("hopeful")), 1));
    assert_eq!(hand.techniques[3].other.get("enabled"), Some(&json!("yes")));
    assert_eq!(one("latest.json").attack_major(), None);
    let navigator = one("navigator-5.json");
    assert_eq!(navigator.techniques[0].metadata[1], Metadata::Divider);
    assert_eq!(navigator.links.len(), 1);
    for bytes in [&b""[..], b"{", b"[]", b"[1]", b"{}", b"{\"a\": 1}", b"\xff\xfe{", b"null", b"\0\0\0"] {
        assert!(layer::parse(bytes).is_err(), "{bytes:?}");
    }
}

/// Where the findings are, and what readers would do.
#[test]
fn findings_name_place_and_effect() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    use Effect::{LibraryAlters, LibraryDrops, LibraryRefuses, NavigatorDrops, NavigatorHides, NavigatorRefuses};
    let expected: [(&str, &str, usize, usize, &[Effect]); 22] = [
        ("array.json", "", 1, 1, &[LibraryRefuses]),
        ("array.json", "[0].techniques[0].techniqueID", 6, 36, &[NavigatorHides]),
        ("coverage.json", "techniques[0].score", 13, 16, &[LibraryAlters]),
        ("coverage.json", "techniques[0].metadata[2]", 16, 98, &[LibraryDrops]),
        ("coverage.json", "versions.layer", 3, 63, &[LibraryAlters]),
        ("hand-edited.json", "", 1, 1, &[LibraryRefuses]),
        ("hand-edited.json", "domain", 4, 13, &[NavigatorRefuses, LibraryRefuses]),
        ("hand-edited.json", "techniques[0]", 7, 5, &[NavigatorHides]),
        ("hand-edited.json", "techniques[0].techniqueID", 7, 21, &[NavigatorHides, LibraryRefuses]),
        ("hand-edited.json", "techniques[0].score", 7, 66, &[NavigatorDrops, LibraryRefuses]),
        ("hand-edited.json", "techniques[2].score", 9, 66, &[LibraryRefuses]),
        ("hand-edited.json", "techniques[5].techniqueID", 12, 21, &[NavigatorHides]),
        ("hand-edited.json", "techniques[8].techniqueID", 15, 5, &[NavigatorDrops, LibraryDrops]),
        ("hand-edited.json", "gradient", 18, 15, &[LibraryRefuses]),
        ("hand-edited.json", "mood", 19, 11, &[LibraryRefuses]),
        ("latest.json", "versions.attack", 3, 26, &[NavigatorRefuses]),
        ("navigator-4.json", "filters.platforms[1]", 6, 40, &[NavigatorHides]),
        ("navigator-5.json", "customDataURL", 60, 22, &[LibraryRefuses]),
        ("navigator-5.json", "links", 54, 14, &[LibraryDrops]),
        ("no-versions.json", "versions", 1, 1, &[NavigatorRefuses]),
        ("shares.json", "gradient", 10, 15, &[LibraryRefuses]),
        ("version-3.json", "version", 3, 14, &[NavigatorRefuses, LibraryAlters]),
    ];
    for (name, path, line, column, effects) in expected {
        let found = findings(&fixture(name), &upgrade);
        let at = found.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("{name}: nothing at `{path}`: {found:#?}"));
        assert_eq!((at.line, at.column, &at.effects[..]), (line, column, effects), "{name} {path}");
        assert!(!at.reason.is_empty() && !at.cure.is_empty());
    }
}

#[test]
fn a_made_layer_has_no_findings() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    let (listed, bad) = annotations("T1059.001 80 \"a comment\"\nT1562.006\nG0007 # no score\nTA0040 5\n");
    assert_eq!((listed.len(), bad.len()), (4, 0));
    let mut maker = make::Maker::new(&upgrade);
    for annotation in &listed {
        maker.add(annotation, "list").unwrap();
    }
    let mut made = maker.layer("made", make::Scoring::Given);
    assert_eq!(made.portable(), (made.clone(), Vec::new()));
    let text = made.to_json();
    assert_eq!(findings(text.as_bytes(), &upgrade), []);
    make::disable_others(&mut made, &index, false);
    assert_eq!(findings(made.to_json().as_bytes(), &upgrade), []);
    // Every technique of the release in each of its tactics, once.
    let all: usize = index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active).map(|t| t.tactics().count()).sum();
    assert_eq!(made.techniques.len(), all);
    let hidden_parents = made.techniques.iter().filter(|e| e.enabled == Some(false)).filter_map(Entry::id).collect::<BTreeSet<_>>();
    assert!(!hidden_parents.contains(&"T1059".parse().unwrap()), "a parent of an annotated one stays");
}

#[test]
fn lists_are_read_in_every_form() {
    let read = |text: &str| annotations(text).0.iter().map(|a| (a.id.to_string(), a.score, a.comment.clone())).collect::<Vec<_>>();
    let one = |id: &str, score: Option<f64>, comment: &str| (id.to_owned(), score, comment.to_owned());
    assert_eq!(read("T1059.001 80 \"a, b\""), [one("T1059.001", Some(80.0), "a, b")]);
    assert_eq!(read("t1059, T1003 ; T1486: 5"), [one("T1059", None, ""), one("T1003", None, ""), one("T1486", Some(5.0), "")]);
    assert_eq!(read("# none\n\nT1486 shadow copies gone\n"), [one("T1486", None, "shadow copies gone")]);
    let csv = "Name;Technique ID;Score;Comment\nx;T1059.001;80;\"said \"\"yes\"\"\"\ny;T1003;;\n";
    assert_eq!(read(csv), [one("T1059.001", Some(80.0), "said \"yes\""), one("T1003", None, "")]);
    assert_eq!(read("technique\ttactic\tscore\nT1078\tpersistence\t3\n"), [one("T1078", Some(3.0), "")]);
    let (read, bad) = annotations("T1059\nnonsense\nT1003\n");
    assert_eq!((read.len(), bad[0].line), (2, 2));
    assert!(annotations("technique,score\nT1059,many\n").1[0].what.contains("`many` is no number"));
}

// Upgrades between real releases.

/// The index of a release of the shared folder.
fn release(version: &str) -> Option<Index<Vec<u8>>> {
    let name = format!("enterprise-attack-{version}.json.xz");
    let path = bundles().into_iter().find(|p| p.ends_with(&name))?;
    let (kb, _) = stix::read(&unxz(&path)?, Some(version)).expect("a bundle");
    Some(Index::new(build(&kb, &Curated::default(), &[], Prose::Drop).expect("it fits")).expect("it opens"))
}

/// A layer with every technique of a release in each of its tactics, and without one; scores tell the entries apart.
fn whole_matrix<D: AsRef<[u8]>>(index: &Index<D>) -> Layer {
    let mut layer = Layer::new("all", index.domain(), index.version());
    for technique in index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active) {
        for tactic in technique.tactics() {
            layer.techniques.push(Entry::new(technique.id(), Some(tactic.short_name())));
        }
    }
    for (i, entry) in layer.techniques.iter_mut().enumerate() {
        entry.score = Some(i as f64);
        entry.comment = Some(format!("entry {i}"));
    }
    layer
}

/// Every entry is accounted for, and what is said of it is true.
fn assert_accounted<D: AsRef<[u8]>, E: AsRef<[u8]>>(from: &Index<D>, to: &Index<E>) -> Report {
    let layer = whole_matrix(from);
    let upgrade = Upgrade::new(to, &Index::embedded());
    let (upgraded, report) = upgrade.layer(&layer, Pick::Max);
    let total = layer.techniques.len();
    assert!(total > 700);
    assert_eq!(report.records.len(), total);
    assert_eq!(counts(&report).iter().sum::<usize>(), total);
    let kept = report.count(Outcome::Kept);
    let disabled = upgraded.techniques.iter().filter(|e| e.enabled == Some(false)).count();
    assert_eq!(disabled, report.count(Outcome::CouldNot));
    // Every entry's comment is somewhere, and with it the entry.
    let comments: BTreeSet<&str> = upgraded.techniques.iter().flat_map(|e| e.comment.iter().flat_map(|c| c.lines())).collect();
    for i in 0..total {
        assert!(comments.contains(&*format!("entry {i}")), "entry {i} is lost");
    }
    let is_in = |id: AttackId, tactic: &str| {
        to.get(id).is_some_and(|t| t.state() == State::Active && t.tactics().any(|t| t.short_name() == tactic))
    };
    let mut places = BTreeSet::new();
    for entry in &upgraded.techniques {
        let (id, tactic) = (entry.id().unwrap(), entry.tactic.as_deref().unwrap());
        assert!(places.insert((id, tactic)), "{id} twice in {tactic}");
        assert_eq!(entry.is_enabled(), is_in(id, tactic), "{id} in {tactic}");
    }
    for (record, entry) in report.records.iter().zip(&layer.techniques) {
        let (id, tactic) = (entry.id().unwrap(), entry.tactic.as_deref().unwrap());
        let stays = is_in(id, tactic);
        assert_eq!(record.outcome == Outcome::Kept, stays, "{record:?}");
        for spot in &record.to {
            assert!(is_in(spot.id.parse().unwrap(), spot.tactic.as_deref().unwrap()), "{record:?}");
        }
        match record.outcome {
            Outcome::CouldNot => {
                assert!(record.to.is_empty() && !record.why.is_empty(), "{record:?}");
                assert!(to.current(id).is_none_or(|t| t.state() != State::Active), "{record:?} could move");
            }
            Outcome::Kept => {}
            Outcome::Moved | Outcome::Merged => {
                assert!(!record.to.is_empty() && !record.why.is_empty(), "{record:?}");
                if let Some(current) = to.current(id) {
                    assert!(record.to.iter().all(|s| s.id == current.id().to_string()), "{record:?}");
                }
            }
        }
    }
    // The highest score of all that ended in a place, by the report's own word.
    let mut highest: BTreeMap<(String, Option<String>), f64> = BTreeMap::new();
    for (record, entry) in report.records.iter().zip(&layer.techniques) {
        for spot in &record.to {
            let slot = highest.entry((spot.id.clone(), spot.tactic.clone())).or_insert(0.0);
            *slot = slot.max(entry.score.unwrap());
        }
    }
    for entry in upgraded.techniques.iter().filter(|e| e.is_enabled()) {
        assert_eq!(entry.score, highest.get(&(entry.technique_id.clone(), entry.tactic.clone())).copied(), "{}", entry.technique_id);
    }
    assert!(kept > 0);
    assert_eq!(upgrade.layer(&upgraded, Pick::Max).0, upgraded, "twice is as once");
    report
}

#[test]
fn the_whole_matrix_of_15_1_goes_to_every_later_release() {
    let (Some(old), Some(v17), Some(v18)) = (release("15.1"), release("17.1"), release("18.1")) else { return };
    let embedded = Index::embedded();
    for report in [assert_accounted(&old, &v17), assert_accounted(&old, &v18)] {
        assert_eq!(report.count(Outcome::CouldNot), 0, "nothing was deprecated between them");
    }
    let report = assert_accounted(&old, &embedded);
    let became = |id: &str, tactic: &str| {
        let record = report.records.iter().find(|r| r.from.id == id && r.from.tactic.as_deref() == Some(tactic)).unwrap();
        let to: Vec<String> = record.to.iter().map(|s| format!("{} {}", s.id, s.tactic.as_deref().unwrap())).collect();
        (record.outcome.name(), to.join(", "))
    };
    // By the facts of release 19.
    let evasion = "defense-evasion";
    assert_eq!(became("T1055", evasion), ("moved", "T1055 stealth".into()));
    assert_eq!(became("T1112", evasion), ("moved", "T1112 defense-impairment".into()));
    assert_eq!(became("T1562.002", evasion), ("moved", "T1685.001 defense-impairment".into()));
    assert_eq!(became("T1562.006", evasion).1, "T1685 defense-impairment");
    assert_eq!(became("T1548", evasion), ("merged", "T1548 privilege-escalation".into()));
    assert_eq!(became("T1059", "execution"), ("kept", "T1059 execution".into()));
    // The way back is accounted for as well.
    let back = assert_accounted(&embedded, &v18);
    let stealth = back.records.iter().find(|r| r.from.id == "T1055" && r.from.tactic.as_deref() == Some("stealth")).unwrap();
    assert_eq!((stealth.outcome, stealth.to[0].tactic.as_deref()), (Outcome::Moved, Some(evasion)));
    let tools = back.records.iter().find(|r| r.from.id == "T1685").unwrap();
    assert_eq!(tools.to[0].id, "T1562.001", "of three, the one that bears its name");
}

#[test]
fn without_a_tactic_every_technique_of_15_1_is_accounted_for_too() {
    let Some(old) = release("15.1") else { return };
    let embedded = Index::embedded();
    let mut layer = Layer::new("all", Domain::Enterprise, "15.1");
    let all: Vec<ObjectRef<'_, _>> = old.of_kind(Kind::Technique).collect();
    layer.techniques = all.iter().map(|t| Entry { comment: Some(t.id().to_string()), ..Entry::new(t.id(), None) }).collect();
    let upgrade = Upgrade::new(&embedded, &embedded);
    let (upgraded, report) = upgrade.layer(&layer, Pick::Max);
    assert_eq!(counts(&report).iter().sum::<usize>(), all.len());
    let comments: String = upgraded.techniques.iter().filter_map(|e| e.comment.clone()).collect::<Vec<_>>().join("\n");
    for technique in &all {
        assert!(comments.lines().any(|l| l == technique.id().to_string()), "{} is lost", technique.id());
        let reachable = embedded.current(technique.id()).is_some_and(|t| t.state() == State::Active);
        let record = report.records.iter().find(|r| r.from.id == technique.id().to_string()).unwrap();
        assert_eq!(record.outcome != Outcome::CouldNot, reachable, "{record:?}");
    }
    // The tactics of the older release are all known by name.
    for tactic in old.tactics() {
        let (now, heirs) = upgrade.tactics(tactic.short_name()).unwrap_or_else(|| panic!("{} is unknown", tactic.short_name()));
        assert!(!now.is_empty() || !heirs.is_empty(), "{}", tactic.short_name());
    }
}

// Lists, columns, Sigma rules.

const RULE: &str = "title: Sensor stopped  # attack.t1562.001 is not a tag here
description: |
    tags:
        - attack.t1562.001
tags:
    - attack.defense_evasion
    - attack.t1562.001   # the sensor
    - 'attack.t1562.006'
    - attack.g0007
    - cve.2024.1111
    - detection.emerging-threats
detection:
    selection:
        CommandLine: attack.t1562.001
";

#[test]
fn only_the_tags_of_a_sigma_rule_change() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    let (out, report) = upgrade.sigma(RULE);
    let expected = RULE
        .replace("    - attack.defense_evasion\n", "    - attack.defense_impairment\n")
        .replace("    - attack.t1562.001   # the sensor\n", "    - attack.t1685   # the sensor\n")
        .replace("    - 'attack.t1562.006'\n", "");
    assert_eq!(out, expected);
    assert_eq!(counts(&report), [1, 2, 1, 0]);
    assert_eq!(upgrade.sigma(&out).0, out, "twice is as once");
    for (rule, expected) in [
        // The rule's own separator and case; line ends; lists between brackets; several rules in one file.
        ("tags:\r\n- attack.defense-evasion\r\n- attack.t1055\r\n", "tags:\r\n- attack.stealth\r\n- attack.t1055\r\n"),
        ("tags: [attack.defense-evasion, attack.T1562.002 ] # x\n", "tags: [attack.defense-impairment, attack.T1685.001 ] # x\n"),
        ("tags: [attack.t1562.001, attack.t1685]\n", "tags: [ attack.t1685]\n"),
        (
            "tags:\n  - attack.defense-evasion\n  - attack.t1055\n  - attack.t1562\n",
            "tags:\n  - attack.stealth\n  - attack.defense-impairment\n  - attack.t1055\n  - attack.t1685\n",
        ),
        (
            "tags:\n  - attack.defense_evasion\n  - attack.t1055\n---\ntags:\n  - attack.defense_evasion\n  - attack.t1112\n",
            "tags:\n  - attack.stealth\n  - attack.t1055\n---\ntags:\n  - attack.defense_impairment\n  - attack.t1112\n",
        ),
        // The technique left: it is in its other tactic already.
        (
            "tags:\n  - attack.defense_evasion\n  - attack.privilege_escalation\n  - attack.t1548.002\n",
            "tags:\n  - attack.privilege_escalation\n  - attack.t1548.002\n",
        ),
        ("tags:\n  - attack.execution\n  - attack.t1059.001\n", "tags:\n  - attack.execution\n  - attack.t1059.001\n"),
        // No end of line at the end.
        ("tags:\n- attack.t1562.002", "tags:\n- attack.t1685.001"),
    ] {
        assert_eq!(upgrade.sigma(rule).0, expected, "{rule}");
    }
    // Nothing tells which of two it became.
    let (out, report) = upgrade.sigma("tags:\n  - attack.defense_evasion\n");
    assert_eq!((out.as_str(), counts(&report)), ("tags:\n  - attack.defense_evasion\n", [0, 0, 0, 1]));
    assert!(report.records[0].why.contains("stealth and defense-impairment"), "{:?}", report.records);
}

#[test]
fn columns_move_cell_by_cell() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    let csv = "\u{feff}rule,Technique,Tactic,note\r\n1,T1562.001,Defense Evasion,\"T1562.001, said\"\r\n2,\"T1055; t1562.002\",defense-evasion,x\r\n3,T1175,TA0005,\r\n4,T1562,TA0005,y\r\n";
    let (out, report) = upgrade.columns(csv, None, None).unwrap();
    let expected = "\u{feff}rule,Technique,Tactic,note\r\n1,T1685,Defense Impairment,\"T1562.001, said\"\r\n2,\"T1055; t1685.001\",stealth; defense-impairment,x\r\n3,T1175,TA0005,\r\n4,T1685,TA0112,y\r\n";
    assert_eq!(out, expected);
    let split = upgrade.columns("technique;tactic\n\"T1055;T1562.002\";defense-evasion\n", None, None).unwrap().0;
    assert_eq!(split, "technique;tactic\n\"T1055;T1685.001\";stealth, defense-impairment\n", "the delimiter stays one");
    assert_eq!(report.count(Outcome::CouldNot), 1);
    assert_eq!(upgrade.columns(&out, None, None).unwrap().0, out, "twice is as once");
    let named = upgrade.columns("a;b\nx;T1562.002\n", Some("b"), None).unwrap().0;
    assert_eq!(named, "a;b\nx;T1685.001\n");
    assert!(upgrade.columns("a,b\n1,2\n", None, None).unwrap_err().contains("--column"));
    assert!(upgrade.columns("a,b\n1,2\n", Some("c"), None).unwrap_err().contains("no column `c`: there are a, b"));
}

#[test]
fn lists_move_line_by_line() {
    let index = Index::embedded();
    let upgrade = Upgrade::new(&index, &index);
    let text = "# T1562.001 stays in a remark\nT1562.001\nT1562.006\nT1059.001\nT1175 gone\nt1562.002 small\nsee T1562/004 and S0002\n";
    let (out, report) = upgrade.list(text);
    let expected = "# T1562.001 stays in a remark\nT1685\nT1059.001\n# T1175 gone  # ttpmap: T1175 is deprecated in ATT&CK VERSION, without a successor\nt1685.001 small\nsee T1686 and S0002\n";
    assert_eq!(out, expected.replace("VERSION", index.version()));
    assert_eq!(counts(&report), [2, 3, 1, 1]);
    assert_eq!(upgrade.list(&out).0, out, "twice is as once");
}

#[test]
fn a_files_kind_is_told() {
    for (name, text, expected) in [
        ("a.json", "", FileKind::Layer),
        ("a.YML", "", FileKind::Sigma),
        ("-", "\n [{}]", FileKind::Layer),
        ("-", "title: x\ntags:\n", FileKind::Sigma),
        ("-", "technique,score\n", FileKind::Csv),
        ("-", "T1059\n", FileKind::Ids),
    ] {
        assert_eq!(FileKind::of(name, text), expected, "{name} {text:?}");
    }
}

// Laws.

fn any_id() -> impl Strategy<Value = String> {
    let index = Index::embedded();
    // In force, revoked and deprecated alike, and some that are none.
    let mut ids: Vec<String> = index.of_kind(Kind::Technique).map(|t| t.id().to_string()).collect();
    ids.extend(["T9999", "t1059.001", "T1003/001", "nonsense", ""].map(str::to_owned));
    // A few, often, so that they meet.
    let few = ["T1562", "T1562.001", "T1562.006", "T1685", "T1574.001", "T1574.002", "T1548.002"].map(str::to_owned).to_vec();
    prop_oneof![prop::sample::select(ids), prop::sample::select(few)]
}

fn any_tactic() -> impl Strategy<Value = Option<String>> {
    let known = ["defense-evasion", "stealth", "defense-impairment", "persistence", "Privilege Escalation", "credential_access", "evasion"];
    prop::option::of(prop::sample::select(known.map(str::to_owned).to_vec()))
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,12}", "\\PC{0,8}", Just("(x)".to_owned()), Just("a\n\"b\"".to_owned())]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![Just(json!(true)), Just(json!({"deep": [1, "two"]})), any_text().prop_map(Value::from), any::<i64>().prop_map(Value::from)]
}

fn any_other() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    prop::collection::btree_map("x[a-z]{1,5}", any_value(), 0..3).prop_map(|m| m.into_iter().collect())
}

fn any_score() -> impl Strategy<Value = Option<f64>> {
    prop::option::of(prop_oneof![(-50_i32..500).prop_map(f64::from), (0_i32..10_000).prop_map(|n| f64::from(n) / 100.0)])
}

fn any_metadata() -> impl Strategy<Value = Vec<Metadata>> {
    let one = prop_oneof![
        (any_text(), any_text()).prop_map(|(name, value)| Metadata::Pair { name, value }),
        Just(Metadata::Divider),
        Just(Metadata::Other(json!({"name": "flag", "value": true}))),
    ];
    prop::collection::vec(one, 0..3)
}

fn any_links() -> impl Strategy<Value = Vec<Link>> {
    let one = prop_oneof![
        (any_text(), any_text()).prop_map(|(label, url)| Link::To { label, url }),
        Just(Link::Divider),
        Just(Link::Other(json!(3))),
    ];
    prop::collection::vec(one, 0..3)
}

prop_compose! {
    fn any_entry()(
        technique_id in any_id(), tactic in any_tactic(), score in any_score(),
        color in prop::option::of(prop::sample::select(vec!["", "#ff0000", "#abc", "#11223344", "red", "no colour"])),
        comment in prop::option::of(any_text()), enabled in prop::option::of(any::<bool>()),
        metadata in any_metadata(), links in any_links(), show_subtechniques in prop::option::of(any::<bool>()), other in any_other(),
    ) -> Entry {
        Entry { technique_id, tactic, score, color: color.map(str::to_owned), comment, enabled, metadata, links, show_subtechniques, other }
    }
}

prop_compose! {
    fn any_layer()(
        name in any_text(), attack in prop::option::of(prop::sample::select(vec!["15", "19", "19.2", "latest", ""])),
        description in prop::option::of(any_text()), sorting in prop::option::of(0_u8..4),
        platforms in prop::option::of(prop::sample::subsequence(vec!["Windows", "Linux", "Azure AD", "IaaS"], 0..4)),
        techniques in prop::collection::vec(any_entry(), 0..12),
        bounds in prop::option::of((-3_i32..200, -3_i32..200)), colors in prop::sample::subsequence(vec!["#ffffff", "#f00", "#00ff00ff", "red"], 0..4),
        legend in prop::collection::vec((any_text(), Just("#ff0000")), 0..2), metadata in any_metadata(), links in any_links(), other in any_other(),
        flag in prop::option::of(any::<bool>()), unreadable in prop::collection::vec(prop_oneof![Just(json!(1)), Just(json!("T1059"))], 0..2),
    ) -> Layer {
        Layer {
            name,
            versions: Versions { attack: attack.map(str::to_owned), navigator: attack.map(|_| "4.9".to_owned()), layer: Some("4.4".into()) },
            domain: "enterprise-attack".into(),
            description,
            sorting,
            platforms: platforms.map(|p| p.into_iter().map(str::to_owned).collect()),
            techniques,
            gradient: bounds.map(|(a, b)| Gradient { colors: colors.iter().map(|c| (*c).to_owned()).collect(), min: f64::from(a) / 2.0, max: f64::from(b) }),
            legend: legend.into_iter().map(|(label, color)| LegendItem { label, color: color.into() }).collect(),
            metadata,
            links,
            hide_disabled: flag,
            select_visible_techniques: flag,
            other,
            unreadable,
            ..Layer::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn reading_what_was_written_gives_the_same(layers in prop::collection::vec(any_layer(), 1..3), array: bool) {
        let text = layer::write(&layers, array);
        let file = layer::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&file.layers, &layers);
        prop_assert_eq!(file.array, array || layers.len() > 1);
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        prop_assert_eq!(layer::parse(&utf16).unwrap().layers, layers);
    }

    #[test]
    fn a_portable_layer_stays_one_and_is_not_found_fault_with(layer in any_layer()) {
        let index = Index::embedded();
        let upgrade = Upgrade::new(&index, &index);
        let (portable, _) = layer.portable();
        prop_assert_eq!(portable.portable(), (portable.clone(), Vec::new()));
        let text = portable.to_json();
        prop_assert_eq!(&layer::parse(text.as_bytes()).unwrap().layers[0], &portable);
        let library = [Effect::LibraryRefuses, Effect::LibraryDrops, Effect::LibraryAlters, Effect::NavigatorDrops];
        let found = findings(text.as_bytes(), &upgrade);
        prop_assert!(!found.iter().any(|f| f.effects.iter().any(|e| library.contains(e))), "{:#?}\n{}", found, text);
    }

    #[test]
    fn an_upgrade_accounts_for_every_entry_and_twice_is_as_once(layer in any_layer(), pick in prop::sample::select(vec![Pick::Max, Pick::Min, Pick::Sum, Pick::Mean])) {
        let index = Index::embedded();
        let upgrade = Upgrade::new(&index, &index);
        let (once, report) = upgrade.layer(&layer, pick);
        prop_assert_eq!(report.records.len(), layer.techniques.len() + layer.unreadable.len());
        prop_assert_eq!(counts(&report).iter().sum::<usize>(), report.records.len());
        for (record, entry) in report.records.iter().zip(&layer.techniques) {
            for line in entry.comment.iter().flat_map(|c| c.lines()) {
                let places = once.techniques.iter().filter(|e| record.to.is_empty() || record.to.iter().any(|s| s.id == e.technique_id && s.tactic == e.tactic));
                prop_assert!(places.flat_map(|e| e.comment.iter().flat_map(|c| c.lines())).any(|l| l == line), "{:?} is lost", line);
            }
        }
        prop_assert_eq!(upgrade.layer(&once, pick).0, once);
    }

    #[test]
    fn merging_does_not_depend_on_the_order(a in any_layer(), b in any_layer(), c in any_layer(), all: bool) {
        let index = Index::embedded();
        let upgrade = Upgrade::new(&index, &index);
        let [a, b, c] = [a, b, c].map(|l| upgrade.layer(&l, Pick::Max).0);
        let keep = if all { Keep::All } else { Keep::Any };
        for how in [How::Score(Pick::Max), How::Score(Pick::Min), How::Score(Pick::Sum), How::Score(Pick::Mean), How::Count] {
            let one = merge(&[a.clone(), b.clone(), c.clone()], &index, how, keep, "m");
            let other = merge(&[c.clone(), a.clone(), b.clone()], &index, how, keep, "m");
            prop_assert_eq!(&one.portable().0, &other.portable().0);
        }
        // A layer merged with itself annotates what it did; the union holds both, the intersection is in each.
        let ids = |l: &Layer| l.techniques.iter().filter(|e| e.is_annotated()).map(|e| (e.technique_id.clone(), e.tactic.clone())).collect::<BTreeSet<_>>();
        let both = ids(&merge(&[a.clone(), b.clone()], &index, How::Count, Keep::All, "m"));
        let any = ids(&merge(&[a.clone(), b.clone()], &index, How::Count, Keep::Any, "m"));
        let own = |l: &Layer| ids(&merge(std::slice::from_ref(l), &index, How::Score(Pick::Max), Keep::Any, "m"));
        prop_assert_eq!(&own(&a) & &own(&b), both);
        prop_assert_eq!(&own(&a) | &own(&b), any);
    }

    #[test]
    fn a_comparison_turned_round_is_the_same(a in any_layer(), b in any_layer(), parents: bool) {
        let index = Index::embedded();
        let upgrade = Upgrade::new(&index, &index);
        let [a, b] = [a, b].map(|l| upgrade.layer(&l, Pick::Max).0);
        let compare = Compare { parents, min_score: None };
        let (one, other) = (diff(&a, &b, &index, compare), diff(&b, &a, &index, compare));
        let ids = |d: &ttpmap::layer::merge::Diff, side: Side| d.rows(&[side]).map(|r| r.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&one, Side::OnlyA), ids(&other, Side::OnlyB));
        prop_assert_eq!(ids(&one, Side::Both), ids(&other, Side::Both));
        prop_assert_eq!(diff(&a, &a, &index, compare).rows(&[Side::OnlyA, Side::OnlyB]).count(), 0);
        let table = one.table(&index, &[], 60);
        prop_assert!(one.rows.iter().all(|r| table.contains(&r.id.to_string())));
    }

    #[test]
    fn a_picture_is_xml_and_shows_every_annotated_technique(layer in any_layer(), all: bool) {
        let index = Index::embedded();
        let layer = Layer { hide_disabled: None, platforms: None, ..layer };
        let picture = svg::svg(&layer, &index, if all { Show::All } else { Show::Annotated });
        assert_well_formed(&picture);
        for ((id, _), _) in ttpmap::layer::merge::annotated(&layer, &index) {
            let place = format!(">{id}</text>");
            prop_assert!(picture.contains(&place), "{}", id);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[\\[{\"a-z:,0-9}\\]]{0,40}") {
        let _ = layer::parse(&bytes);
        let _ = layer::parse(text.as_bytes());
    }

    #[test]
    fn text_around_tags_stays(before in "[a-z: #\\n-]{0,30}", after in "[a-z: #\\n-]{0,30}") {
        let index = Index::embedded();
        let upgrade = Upgrade::new(&index, &index);
        prop_assume!(!before.contains("tags:") && !after.contains("tags:") && !before.contains('|'));
        let rule = format!("{before}\ntags:\n  - attack.t1562.002\nlevel: high\n{after}");
        prop_assert_eq!(upgrade.sigma(&rule).0, rule.replace("t1562.002", "t1685.001"));
    }
}

/// Elements are closed in order, and text holds nothing that XML forbids.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").expect("a declaration");
    let mut rest = body.trim_start();
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>') && text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{text:?}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|e| entity.starts_with(e)), "{text:?}");
        }
        let end = rest[start..].find('>').expect("a tag ends") + start;
        let tag = &rest[start + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?}");
}
