//! Laws of the formats that are handed on, and of what comes after a mapping. What other programs make of them is
//! checked by tests/*_check.py.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use proptest::prelude::*;
use serde_json::Value;
use support::{TestEnv, mini_bundle};
use ttpmap::export::assembly::{Assembly, render};
use ttpmap::export::handoff::{HandOff, Stamp};
use ttpmap::export::{Format, Source, csv, table};
use ttpmap::index::{Index, ObjectRef};
use ttpmap::kb::{RelationKind, State};
use ttpmap::profile::{Groups, defenses, not_recorded};
use ttpmap::rank::{Found, Options};
use ttpmap::{AttackId, Document, Finder, Kind, Mapper};

const HANDED_ON: [Format; 5] = [Format::Csv, Format::Markdown, Format::Stix, Format::Misp, Format::Sarif];

fn hand_off() -> HandOff {
    HandOff { statuses: Vec::new(), defanged: false, stamp: "2026-01-31".parse().unwrap() }
}

/// A whole file of some texts, each of a source of its own.
fn file(format: Format, texts: &[String]) -> String {
    let index = Index::embedded();
    let mapper = Mapper::new(&index);
    let mut assembly = Assembly::new(&index, format, texts.len() != 1);
    let mut out = assembly.head();
    for (i, text) in texts.iter().enumerate() {
        let source = Source { id: Value::from(i), source: text.clone(), title: Some(text.clone()), record: None };
        let document = Document::new(text.clone());
        let mapping = mapper.map(&document, &Options::default());
        out += &assembly.item(&render(format, &index, (&source, &document, &mapping), &hand_off(), table::Layout::default()), None);
    }
    out + &assembly.tail()
}

fn unseen(c: char) -> bool {
    c.is_control() && c != '\n' || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Every ID that a STIX object points at.
fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                match inner {
                    Value::String(id) if key.ends_with("_ref") => drop(out.insert(id.clone())),
                    Value::Array(ids) if key.ends_with("_refs") => out.extend(ids.iter().map(|id| id.as_str().unwrap().to_owned())),
                    _ => references(inner, out),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, out)),
        _ => {}
    }
}

fn check_stix(bundle: &Value) -> Result<(), String> {
    let objects = bundle["objects"].as_array().ok_or("no objects")?;
    let ids: BTreeSet<String> = objects.iter().map(|o| o["id"].as_str().unwrap_or_default().to_owned()).collect();
    let mut refs = BTreeSet::new();
    references(&bundle["objects"], &mut refs);
    if ids.len() != objects.len() {
        return Err("an ID twice".into());
    }
    match refs.difference(&ids).next() {
        Some(missing) => Err(format!("{missing} is not in the bundle")),
        None => Ok(()),
    }
}

fn check(format: Format, text: &str, documents: usize) -> Result<(), String> {
    if text.chars().any(unseen) {
        return Err("unseen characters".into());
    }
    let json = || serde_json::from_str::<Value>(text).map_err(|e| e.to_string());
    match format {
        Format::Csv => {
            let rows: Vec<&str> = text.lines().collect();
            let start = csv::row(csv::COLUMNS);
            if !text.starts_with(&start) || rows.iter().any(|r| r.starts_with(['=', '+', '-', '@'])) {
                return Err("no table, or a formula".into());
            }
        }
        Format::Markdown => {
            let pages = text.lines().filter(|l| l.starts_with("## ATT&CK techniques")).count();
            if pages != documents {
                return Err(format!("{pages} pages of {documents} documents"));
            }
        }
        Format::Stix => check_stix(&json()?)?,
        Format::Misp => {
            let value = json()?;
            let events = if documents == 1 { 1 } else { value["response"].as_array().ok_or("no response")?.len() };
            if events != documents {
                return Err(format!("{events} events of {documents} documents"));
            }
        }
        _ => {
            let run = &json()?["runs"][0];
            let ids = |list: &Value, key: &str| -> BTreeSet<String> {
                list.as_array().into_iter().flatten().map(|r| r[key].as_str().unwrap_or_default().to_owned()).collect()
            };
            if ids(&run["results"], "ruleId") != ids(&run["tool"]["driver"]["rules"], "id") {
                return Err("rules and results differ".into());
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_handed_on_is_whole_with_any_number_of_documents() {
    let some = [
        "They dumped LSASS memory with Mimikatz.",
        "Nothing happened.",
        "APT29 used T1059.001.",
        "They dumped LSASS memory with Mimikatz.",
    ];
    for count in 0..=some.len() {
        let texts: Vec<String> = some[..count].iter().map(|t| (*t).to_owned()).collect();
        for format in HANDED_ON {
            let text = file(format, &texts);
            check(format, &text, count).unwrap_or_else(|e| panic!("{} of {count}: {e}\n{text}", format.name()));
        }
    }
}

#[test]
fn a_check_here_can_fail() {
    let texts = vec!["APT29 used T1059.001.".to_owned()];
    let stix = file(Format::Stix, &texts);
    let report = stix.find("\"intrusion-set--").unwrap();
    assert!(
        check(Format::Stix, &(stix[..report].to_owned() + &stix[report..].replacen("intrusion-set--", "intrusion-set--0", 1)), 1).is_err()
    );
    assert!(check(Format::Sarif, &file(Format::Sarif, &texts).replace("\"ruleId\": \"T1059.001\"", "\"ruleId\": \"T1\""), 1).is_err());
    assert!(check(Format::Misp, &file(Format::Misp, &texts), 2).is_err());
    assert!(check(Format::Markdown, "", 1).is_err() && check(Format::Csv, "=1", 1).is_err());
    assert!(check(Format::Csv, &(csv::row(csv::COLUMNS) + "\u{202e}"), 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_text_breaks_out_of_a_format(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("They dumped LSASS memory with Mimikatz. "), Just("APT29 used T1059.001. "), Just("=cmd|' /C calc'!A0 "),
                Just("](javascript:alert(1)) "), Just("</script> "), Just("` `` ``` | \\ "), Just("\u{202e}\u{1b}[31m\u{0}\u{feff} "),
                Just("\u{1f600}\u{20000}e\u{301} "), Just("\"',;\t"), Just("\r\n"), Just("\n\n# x\n| a |\n"), Just("https://a.example/b "),
            ],
            0..12,
        ),
        other in ".{0,40}",
    ) {
        let texts = vec![pieces.concat(), other, pieces.iter().rev().copied().collect::<String>() + "T1486"];
        for format in HANDED_ON {
            let text = file(format, &texts);
            prop_assert!(check(format, &text, 3).is_ok(), "{}: {:?}\n{text}", format.name(), check(format, &text, 3));
        }
    }
}

/// The same input gives the same bytes on any number of threads, into a file or a pipe.
#[test]
fn formats_are_the_same_on_any_number_of_threads() {
    let env = TestEnv::new();
    let line = |i: usize| {
        let text =
            ["They dumped LSASS memory with Mimikatz.", "APT29 used T1059.001 and T1486.", "Nothing happened.", "rclone copy ran."][i % 4];
        serde_json::json!({"id": i, "text": format!("{text} Case {}.", i % 7)}).to_string() + "\n"
    };
    std::fs::write(env.work().join("many.jsonl"), (0..60).map(line).collect::<String>() + "not JSON\n").unwrap();
    // An SVG is of one narrative, and says so of several.
    for format in Format::ALL.into_iter().filter(|f| *f != Format::Svg) {
        let run = |jobs: &str| {
            let output = env.ttpmap().args(["map", "many.jsonl", "--jobs", jobs, "--format", format.name()]).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "the bad line counts");
            output.stdout
        };
        let one = run("1");
        assert!(one == run("3") && one == run("16"), "{}", format.name());
        env.ttpmap().args(["map", "many.jsonl", "--format", format.name(), "-o", "out"]).stderr(Stdio::null()).status().unwrap();
        let written = std::fs::read(env.work().join("out")).unwrap();
        assert!(written == one, "{}: into a file", format.name());
    }
}

/// ATT&CK's own STIX IDs are given on, by a knowledge base of facts alone too; what only a fact table knows gets one made of
/// its ATT&CK ID.
#[test]
fn attack_keeps_its_own_ids_where_they_are_known() {
    let env = TestEnv::new();
    let bundle = mini_bundle();
    std::fs::write(env.work().join("bundle.json"), &bundle).unwrap();
    let own: BTreeMap<String, String> = serde_json::from_str::<Value>(&bundle).unwrap()["objects"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|o| o["type"] != "relationship" && o["revoked"] != true)
        .filter_map(|o| Some((o["external_references"][0]["external_id"].as_str()?.to_owned(), o["id"].as_str()?.to_owned())))
        .collect();
    let stix = |options: &[&str], text: &str| {
        let build = env.ttpmap().args(["kb", "build", "bundle.json", "-o", "kb.ttpkb"]).args(options).output().unwrap();
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        std::fs::write(env.work().join("in.txt"), text).unwrap();
        let output = env.ttpmap().args(["map", "in.txt", "--kb", "kb.ttpkb", "--format", "stix", "--date", "2026-01-31"]).output().unwrap();
        let stix: Value = serde_json::from_slice(&output.stdout).unwrap();
        check_stix(&stix).unwrap();
        let id_of = |o: &Value| Some((o["external_references"][0]["external_id"].as_str()?.to_owned(), o["id"].as_str()?.to_owned()));
        stix["objects"].as_array().unwrap().iter().filter_map(id_of).collect::<BTreeMap<String, String>>()
    };
    let text: String = own.keys().map(|id| format!("They used {id}. ")).collect();
    for options in [&[][..], &["--facts-only"][..]] {
        let given = stix(options, &text);
        let compared = given.iter().filter_map(|(id, given)| Some((own.get(id)?, given)));
        assert!(compared.clone().count() >= 3, "{given:?}");
        compared.for_each(|(own, given)| assert_eq!(own, given));
    }
    std::fs::write(
        env.work().join("facts.json"),
        r#"{"domain": "enterprise-attack", "attack_version": "99.0", "source": "https://example.com", "notice": "none",
            "tactics": {"execution": {"id": "TA0002", "name": "Execution"}},
            "techniques": {"T9999": {"name": "Humming at the console", "tactics": ["execution"]}}}"#,
    )
    .unwrap();
    let given = stix(&["--facts", "facts.json"], "They used T9999.");
    // A UUID of version 5 says so in its third group.
    assert_eq!(given["T9999"].split('-').nth(5).map(|group| &group[..1]), Some("5"), "{given:?}");
}

fn found(index: &Index<impl AsRef<[u8]>>, ids: &[AttackId]) -> Vec<Found> {
    let text: String = ids.iter().map(|id| format!("They used {id}.\n")).collect();
    let mapping = Mapper::new(index).map(&Document::new(text), &Options::default());
    let wanted: BTreeSet<&AttackId> = ids.iter().collect();
    mapping.techniques.into_iter().filter(|f| wanted.contains(&f.id) && f.evidence.iter().any(|e| e.by == Finder::Id)).collect()
}

/// Whoever's very techniques a report has is among the first groups, however many others share them.
#[test]
fn a_group_is_like_itself() {
    let index = Index::embedded();
    let groups = Groups::of(&index);
    let (mut first, mut near, mut all) = (0, 0, 0);
    for group in index.of_kind(Kind::Group).filter(|g| g.state() == State::Active).step_by(5) {
        let ids: Vec<AttackId> = group
            .outgoing()
            .filter(|r| r.kind == RelationKind::Uses)
            .map(|r| r.target.id())
            .filter(|id| id.kind() == Kind::Technique)
            .collect();
        if ids.len() < 8 {
            continue;
        }
        let report = found(&index, &ids);
        let similar = groups.similar(&report.iter().collect::<Vec<_>>(), 5);
        assert!(similar.groups.is_sorted_by(|a, b| a.score > b.score || a.score == b.score && a.id < b.id));
        assert!(similar.groups.iter().all(|g| (0.0..=1.0).contains(&g.score) && g.score <= g.coverage && g.coverage <= 1.0001));
        assert!(similar.groups.iter().all(|g| !g.shared.is_empty() && g.shared.iter().all(|s| !s.recorded.is_empty())));
        all += 1;
        first += usize::from(similar.groups[0].id == group.id());
        near += usize::from(similar.groups.iter().any(|g| g.id == group.id()));
    }
    assert!(all >= 15 && first * 10 >= all * 9 && near == all, "{first} first and {near} near of {all}");
}

#[test]
fn a_sub_technique_counts_in_part_and_a_rare_technique_more() {
    let index = Index::embedded();
    let groups = Groups::of(&index);
    let score = |ids: &[&str], group: AttackId| {
        let ids: Vec<AttackId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let report = found(&index, &ids);
        let similar = groups.similar(&report.iter().collect::<Vec<_>>(), usize::MAX);
        similar.groups.iter().find(|g| g.id == group).map_or(0.0, |g| g.coverage)
    };
    // A group with a technique, and without a sub-technique of another family that some group has.
    let uses = |g: ObjectRef<'_, _>| -> BTreeSet<AttackId> {
        g.outgoing().filter(|r| r.kind == RelationKind::Uses).map(|r| r.target.id()).collect()
    };
    let group = index.get("G0016".parse().unwrap()).unwrap();
    let has = uses(group);
    let sub = has
        .iter()
        .find(|id| id.is_subtechnique() && index.get(id.parent()).unwrap().subtechniques().any(|s| !has.contains(&s.id())))
        .unwrap();
    let sibling = index.get(sub.parent()).unwrap().subtechniques().map(ObjectRef::id).find(|s| !has.contains(s)).unwrap();
    let (same, family) = (score(&[&sub.to_string()], group.id()), score(&[&sibling.to_string()], group.id()));
    assert!(same > 0.99 && family > 0.0 && family < same, "{sub} {same}, {sibling} {family}");
    let empty = groups.similar(&[], 5);
    assert!(empty.groups.is_empty() && empty.compared > 100);
}

/// The lists of defenses, counted again from the relations.
#[test]
fn defenses_are_what_is_recorded() {
    let index = Index::embedded();
    let ids: Vec<AttackId> = ["T1059.001", "T1486", "T1003.001", "T1566.001", "T1069.002"].iter().map(|id| id.parse().unwrap()).collect();
    let report = found(&index, &ids);
    let d = defenses(&index, &report.iter().collect::<Vec<_>>(), &not_recorded(&index));
    assert_eq!(d.techniques.len(), ids.len());
    let mut expected: BTreeMap<AttackId, BTreeSet<AttackId>> = BTreeMap::new();
    for r in index.relations().filter(|r| matches!(r.kind, RelationKind::Mitigates | RelationKind::Detects)) {
        if ids.contains(&r.target.id()) && r.source.state() == State::Active {
            expected.entry(r.source.id()).or_default().insert(r.target.id());
        }
    }
    for (list, kind) in [(&d.mitigations, Kind::Mitigation), (&d.detection_strategies, Kind::DetectionStrategy)] {
        let listed: BTreeMap<_, BTreeSet<_>> = list.iter().map(|m| (m.id, m.techniques.iter().copied().collect())).collect();
        let wanted: BTreeMap<_, _> = expected.clone().into_iter().filter(|(id, _)| id.kind() == kind).collect();
        assert_eq!(listed, wanted);
        assert!(list.is_sorted_by(|a, b| (b.techniques.len(), a.id) <= (a.techniques.len(), b.id)));
    }
    assert!(!d.data_components.is_empty() && d.not_recorded.is_empty());
    assert_eq!(d.without_mitigation, ["T1069.002".parse().unwrap()]);
}

/// A knowledge base without relations says so.
#[test]
fn what_a_knowledge_base_lacks_is_said() {
    let env = TestEnv::new();
    let mut bundle: Value = serde_json::from_str(&mini_bundle()).unwrap();
    bundle["objects"].as_array_mut().unwrap().retain(|o| o["type"] != "relationship");
    std::fs::write(env.work().join("bundle.json"), bundle.to_string()).unwrap();
    assert!(env.ttpmap().args(["kb", "build", "bundle.json", "-o", "kb.ttpkb"]).stderr(Stdio::null()).status().unwrap().success());
    std::fs::write(env.work().join("in.txt"), "They used T9002.").unwrap();
    for format in ["table", "markdown"] {
        let output = env
            .ttpmap()
            .args(["map", "in.txt", "--kb", "kb.ttpkb", "--similar-groups", "3", "--defend", "--format", format])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for expected in ["records no techniques of any group", "relates no mitigations to any technique", "relates no detection strategies"]
        {
            assert!(text.contains(expected), "{format} lacks {expected:?}:\n{text}");
        }
    }
}

#[test]
fn a_stamp_is_written_as_each_format_wants_it() {
    let stamp: Stamp = "2026-01-31T10:11:12Z".parse().unwrap();
    assert_eq!((stamp.date().as_str(), stamp.rfc3339().as_str()), ("2026-01-31", "2026-01-31T10:11:12.000Z"));
}
