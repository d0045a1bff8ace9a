//! What a text is cut into: the table of tests/data/segmentation.toml.

use serde::Deserialize;
use ttpmap::Document;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    why: String,
    text: String,
    segments: Vec<String>,
    kinds: Option<Vec<String>>,
    #[serde(default)]
    markdown: bool,
}

#[test]
fn texts_are_cut_as_the_table_says() {
    let table: Table = toml::from_str(include_str!("data/segmentation.toml")).unwrap();
    let mut wrong = Vec::new();
    for case in &table.case {
        let document = if case.markdown { Document::markdown(&*case.text) } else { Document::new(&*case.text) };
        let found: Vec<&str> = document.segments().iter().map(|s| s.span.of(document.text())).collect();
        let kinds: Vec<String> = document.segments().iter().map(|s| format!("{:?}", s.kind).to_lowercase()).collect();
        if found != case.segments || case.kinds.as_ref().is_some_and(|k| *k != kinds) {
            wrong.push(format!("{}: {found:?} {kinds:?}", case.why));
        }
    }
    assert!(table.case.len() >= 25);
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), table.case.len(), wrong.join("\n"));
}
