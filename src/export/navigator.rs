//! An ATT&CK Navigator layer, format 4.5, of what a text asserts.
//!
//! Written so that both the Navigator and mitreattack-python take all of it: whole scores from 0 to 100, one
//! entry for each (technique, tactic) that exists, no null, no key that either doesn't know.

use super::Source;
use crate::index::Index;
use crate::layer::{Entry, Layer, Metadata, make};
use crate::rank::{Evidence, Found, Mapping};
use crate::status::Status;
use crate::text::Document;

/// Pieces of evidence quoted in a comment, and characters of each.
const COMMENT_PIECES: usize = 5;
const COMMENT_CHARS: usize = 240;

/// The layer of one document's mapping. Techniques whose status is not asked for are left out; asserted ones are
/// meant where `statuses` is empty.
pub fn layer<D: AsRef<[u8]>>(index: &Index<D>, source: &Source, document: &Document, mapping: &Mapping, statuses: &[Status]) -> Layer {
    let wanted = |f: &&Found| if statuses.is_empty() { f.status == Status::Asserted } else { statuses.contains(&f.status) };
    let found: Vec<&Found> = mapping.techniques.iter().filter(wanted).collect();
    let title = source.title.clone().unwrap_or_else(|| source.source.clone());
    let mut layer = Layer::new(clean(&title, 200), index.domain(), index.version());
    layer.description = Some(format!(
        "{} techniques in {}, mapped by ttpmap to ATT&CK {}. Score: confidence in percent.",
        found.len(),
        clean(&source.source, 200),
        index.version()
    ));
    make::graded(&mut layer, 100.0, ["low confidence", "high confidence"]);
    layer.techniques = found.iter().flat_map(|f| entries(document, f, statuses)).collect();
    make::open_parents(&mut layer, index);
    let named = |list: &[Found]| list.iter().map(|f| format!("{} {}", f.id, f.name)).collect::<Vec<_>>().join(", ");
    layer.metadata = vec![meta("source", &source.source), meta("written by", concat!("ttpmap ", env!("CARGO_PKG_VERSION")))];
    for (name, list) in [("groups", &mapping.groups), ("software", &mapping.software), ("campaigns", &mapping.campaigns)] {
        if !list.is_empty() {
            layer.metadata.push(meta(name, &named(list)));
        }
    }
    layer
}

fn tactics(found: &Found) -> &[String] {
    if found.fixed_tactics.is_empty() { &found.tactics } else { &found.fixed_tactics }
}

fn entries(document: &Document, found: &Found, statuses: &[Status]) -> Vec<Entry> {
    let wanted = |e: &&Evidence| if statuses.is_empty() { e.status == Status::Asserted } else { statuses.contains(&e.status) };
    let pieces: Vec<&Evidence> = found.evidence.iter().filter(wanted).collect();
    let quote = |e: &&Evidence| format!("line {}: {}", e.line, clean(e.segment.of(document.text()), COMMENT_CHARS));
    let mut comment: Vec<String> = pieces.iter().take(COMMENT_PIECES).map(quote).collect();
    if pieces.len() > COMMENT_PIECES {
        comment.push(format!("and {} more", pieces.len() - COMMENT_PIECES));
    }
    let mut metadata = vec![
        meta("status", found.status.name()),
        meta("evidence", &pieces.len().to_string()),
        meta("lines", &pieces.iter().map(|e| e.line.to_string()).collect::<Vec<_>>().join(", ")),
    ];
    if let Some(old) = found.redirected_from {
        metadata.push(meta("redirected from", &old.to_string()));
    }
    let score = f64::from((found.confidence * 100.0).round().clamp(0.0, 100.0));
    let entry = |tactic: &String| Entry {
        score: Some(score),
        comment: Some(comment.join("\n")),
        enabled: Some(true),
        metadata: metadata.clone(),
        show_subtechniques: Some(false),
        ..Entry::new(found.id, Some(tactic))
    };
    tactics(found).iter().map(entry).collect()
}

fn meta(name: &str, value: &str) -> Metadata {
    Metadata::pair(name, clean(value, 400))
}

/// One line of at most so many characters, without control characters.
fn clean(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most).collect();
    format!("{}…", cut.trim_end())
}
