//! Mapping: laws that hold for every text, whatever the knowledge base makes of it.

mod support;

use proptest::prelude::*;
use support::{Numbers, TestEnv, root};
use ttpmap::kb::State;
use ttpmap::rank::{Found, Mapping, Options, Workspace};
use ttpmap::{Document, Index, Kind, Mapper};

/// Pieces that texts are put together from, so that finders, cues and segmentation have work.
const PIECES: [&str; 22] = [
    "They dumped LSASS memory with Mimikatz",
    "moved laterally over RDP",
    "vssadmin delete shadows /all /quiet",
    "no evidence of password spraying",
    "could use spearphishing attachments",
    "T1059.001",
    "T1086",
    "TA0008",
    "hxxps://evil[.]example[.]com/a.exe",
    "# Initial Access",
    "\n\n",
    "\n- ",
    "\n| a | b |\n",
    "```\n",
    ". ",
    "Fancy Bear",
    "e.g.",
    "Пароль — 密码",
    "e\u{301}\u{200d}👩‍💻",
    "\u{202e}\u{feff}",
    "reg add HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Run /v x",
    "\r\n",
];

fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
        1 => proptest::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
    ];
    proptest::collection::vec((piece, proptest::sample::select(vec!["", " ", ", "])), 0..14)
        .prop_map(|parts| parts.into_iter().map(|(a, b)| a + b).collect())
}

fn lists(mapping: &Mapping) -> [&[Found]; 5] {
    [&mapping.techniques, &mapping.tactics, &mapping.groups, &mapping.software, &mapping.campaigns]
}

/// What holds for every mapping of every text.
fn assert_lawful<D: AsRef<[u8]>>(index: &Index<D>, document: &Document, mapping: &Mapping) {
    let text = document.text();
    let kinds = [Kind::Technique, Kind::Tactic, Kind::Group, Kind::Software, Kind::Campaign];
    for (list, kind) in lists(mapping).into_iter().zip(kinds) {
        assert!(
            list.is_sorted_by(|a, b| a.confidence > b.confidence || a.confidence == b.confidence && a.id < b.id),
            "best first, ties by ID"
        );
        for found in list {
            assert_eq!(found.id.kind(), kind);
            let object = index.get(found.id).expect("it is of this knowledge base");
            assert_ne!(object.state(), State::Revoked);
            assert_eq!(found.name, object.name());
            assert!((0.0..=1.0).contains(&found.confidence));
            assert!(found.fixed_tactics.iter().all(|t| found.tactics.contains(t)));
            assert!(!found.evidence.is_empty(), "{}: nothing without evidence", found.id);
            assert!(found.evidence.iter().any(|e| e.status == found.status));
            for e in &found.evidence {
                assert!((0.0..=1.0).contains(&e.confidence));
                for span in [e.span, e.segment] {
                    assert!(span.start < span.end && text.get(span.start..span.end).is_some(), "{span:?} of {} bytes", text.len());
                }
                assert_eq!(e.line, text[..e.span.start].matches('\n').count() + 1);
            }
        }
    }
}

#[test]
fn every_segment_lies_in_the_text_and_nothing_between_them_is_lost() {
    let document = Document::new(std::fs::read_to_string(root().join("examples/northwind-orchards.txt")).unwrap());
    let mut end = 0;
    for segment in document.segments() {
        assert!(document.text()[end..segment.span.start].trim().is_empty());
        end = segment.span.end;
    }
    assert!(document.text()[end..].trim().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mapping_is_lawful(text in texts(), implied in any::<bool>(), min in proptest::option::of(0.0_f32..=1.0)) {
        let index = Index::embedded();
        let mapper = Mapper::new(&index);
        let document = Document::new(text);
        let options = Options { min_confidence: min, implied, ..Options::default() };
        let mapping = mapper.map(&document, &options);
        assert_lawful(&index, &document, &mapping);
        prop_assert!(implied || mapping.implied.is_empty());
        for implied in &mapping.implied {
            prop_assert!(mapping.techniques.iter().all(|t| t.id != implied.id), "implied is what the text does not describe");
        }
        prop_assert_eq!(&mapping, &mapper.map(&document, &options), "the same text, the same mapping");
    }

    #[test]
    fn segments_rejoin_to_the_text(text in texts()) {
        let document = Document::new(text);
        let mut end = 0;
        for segment in document.segments() {
            prop_assert!(segment.span.start >= end && segment.span.end > segment.span.start);
            prop_assert!(document.text()[end..segment.span.start].trim().is_empty());
            prop_assert!(segment.heading.is_none_or(|h| (h as usize) < document.segments().len()));
            end = segment.span.end;
        }
        prop_assert!(document.text()[end..].trim().is_empty());
    }

    #[test]
    fn a_used_workspace_changes_nothing(texts in proptest::collection::vec(texts(), 1..4)) {
        let index = Index::embedded();
        let mapper = Mapper::new(&index);
        let mut workspace = Workspace::default();
        for text in texts {
            let document = Document::new(text);
            let fresh = mapper.map(&document, &Options::default());
            prop_assert_eq!(mapper.map_with(&mut workspace, &document, &Options::default()), fresh);
        }
    }

    #[test]
    fn a_lower_threshold_takes_nothing_away(text in texts(), low in 0.05_f32..0.5, more in 0.0_f32..0.5) {
        let index = Index::embedded();
        let mapper = Mapper::new(&index);
        let document = Document::new(text);
        let at = |min| mapper.map(&document, &Options { min_confidence: Some(min), ..Options::default() });
        let (many, few) = (at(low), at(low + more));
        // Where a sub-technique passes, its parent may give way to it.
        for technique in &few.techniques {
            prop_assert!(many.techniques.iter().any(|t| t.id.parent() == technique.id.parent()), "{}", technique.id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Through the program itself, on many records.
    #[test]
    fn threads_change_no_byte(texts in proptest::collection::vec(texts(), 1..40)) {
        let env = TestEnv::new();
        let lines: String = texts.iter().map(|t| serde_json::json!({ "text": t }).to_string() + "\n").collect();
        std::fs::write(env.work().join("in.jsonl"), lines).unwrap();
        for format in ["jsonl", "json", "table", "navigator"] {
            let run = |jobs: &str| env.ttpmap().args(["map", "in.jsonl", "--format", format, "--jobs", jobs]).output().unwrap();
            let (one, two) = (run("1"), run("2"));
            prop_assert!(matches!(one.status.code(), Some(0 | 1)), "{:?}", one);
            prop_assert_eq!(one.status.code(), two.status.code());
            prop_assert!(one.stdout == two.stdout, "{}", format);
        }
    }
}

#[test]
fn texts_of_odd_sizes_and_shapes_are_mapped_in_time() {
    let index = Index::embedded();
    let mapper = Mapper::new(&index);
    for text in [
        "a".repeat(1 << 20),
        "(".repeat(100_000),
        "T1059.".repeat(20_000),
        "They dumped LSASS memory ".repeat(4_000),
        "\u{301}".repeat(50_000),
        "| ".repeat(50_000),
        "#".repeat(50_000),
        "\n".repeat(200_000),
        "a-b/c_d.".repeat(20_000),
        "vssadmin ".repeat(20_000),
    ] {
        let document = Document::new(text);
        assert_lawful(&index, &document, &mapper.map(&document, &Options::default()));
    }
}

/// Bytes of the built-in knowledge base damaged after it was opened: answers may be missing, nothing panics.
#[test]
fn a_damaged_knowledge_base_maps_without_panic() {
    let whole = std::fs::read(root().join("data/enterprise.ttpkb")).unwrap();
    let sections = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
    let text = std::fs::read_to_string(root().join("examples/northwind-orchards.txt")).unwrap();
    let document = Document::new(text);
    let mut numbers = Numbers(5);
    for section in 0..sections {
        let entry = 64 + 24 * section;
        let (start, length) = (number(entry + 8), number(entry + 16));
        for round in 0..6 {
            let mut bytes = whole.clone();
            for _ in 0..if round < 3 { 1 } else { 200 } {
                if length > 0 {
                    let at = start + numbers.below(length);
                    let end = (at + 1 + numbers.below(16)).min(start + length);
                    bytes[at..end].fill([0xff, 0, numbers.below(256) as u8][numbers.below(3)]);
                }
            }
            let index = Index::new(bytes).expect("header and table are whole");
            let mapper = Mapper::new(&index);
            let _ = mapper.map(&document, &Options { implied: true, min_confidence: Some(0.0), ..Options::default() });
            let _ = ttpmap::lookup::lookup(&index, "pasword spraying");
        }
    }
}
