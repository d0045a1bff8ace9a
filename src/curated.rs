//! What ttpmap brings to a knowledge base itself: the lexicon (glosses and phrases) and the artifact rules.
//!
//! They are read from TOML files when the shipped knowledge base is made, and taken over from there, moved along
//! ATT&CK's redirects, into every knowledge base that is built later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::index::format::{RuleRecord, tag};
use crate::index::{Index, part};
use crate::kb::KnowledgeBase;
use crate::kb::id::AttackId;
use crate::matching::artifacts;
use crate::matching::phrases::{Origin, Phrases};

/// A phrase of the lexicon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexiconPhrase {
    /// As analysts write it.
    pub text: String,
    /// Words of which one must stand in the same sentence; none where the phrase stands for itself.
    pub near: Vec<String>,
}

/// What the lexicon says of one technique.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// One line that says what it is.
    pub gloss: String,
    /// Phrases that stand for it.
    pub phrases: Vec<LexiconPhrase>,
}

/// An artifact rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The technique it shows.
    pub technique: String,
    /// The pattern; for its language see `matching::artifacts`.
    pub pattern: String,
    /// Why it shows the technique, for a reader.
    pub reason: String,
    /// A text that it fires on.
    #[serde(default)]
    pub fires: String,
    /// A text that looks alike and that it doesn't fire on.
    #[serde(default)]
    pub near_miss: String,
}

/// Lexicon and rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curated {
    /// By technique.
    pub lexicon: BTreeMap<AttackId, Entry>,
    /// In the order of the files.
    pub rules: Vec<Rule>,
    /// What the techniques were before they were renumbered, where that is known.
    pub former: BTreeMap<AttackId, Vec<AttackId>>,
}

/// Why a curated file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or folder can't be read.
    #[error("reading {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not the TOML that is expected.
    #[error("{path}: not a lexicon or rule file")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An entry is wrong.
    #[error("{path}: `{entry}`: {what}")]
    Entry {
        /// Which file.
        path: PathBuf,
        /// Which entry.
        entry: String,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlEntry {
    gloss: String,
    phrases: Vec<TomlPhrase>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TomlPhrase {
    Text(String),
    Near { text: String, near: Vec<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlRules {
    rule: Vec<Rule>,
}

/// Files of a folder with an extension, by name.
pub(crate) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| e == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(crate) fn text_of(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

impl Curated {
    /// Reads `lexicon/*.toml` and `rules/*.toml` below a folder.
    ///
    /// # Errors
    /// The first file, entry or pattern that is wrong, by name.
    pub fn read(folder: &Path) -> Result<Curated, Error> {
        let mut curated = Curated::default();
        for path in files(&folder.join("lexicon"), "toml")? {
            let toml = |source| Error::Toml { path: path.clone(), source: Box::new(source) };
            let entries: BTreeMap<String, TomlEntry> = toml::from_str(&text_of(&path)?).map_err(toml)?;
            for (key, entry) in entries {
                let bad = |what: &str| Error::Entry { path: path.clone(), entry: key.clone(), what: what.to_owned() };
                let id: AttackId = key.parse().map_err(|_| bad("not a technique ID"))?;
                let phrases = entry.phrases.into_iter().map(|p| match p {
                    TomlPhrase::Text(text) => LexiconPhrase { text, near: Vec::new() },
                    TomlPhrase::Near { text, near } => LexiconPhrase { text, near },
                });
                let entry = Entry { gloss: entry.gloss, phrases: phrases.collect() };
                if curated.lexicon.insert(id, entry).is_some() {
                    return Err(bad("is in the lexicon twice"));
                }
            }
        }
        for path in files(&folder.join("rules"), "toml")? {
            let toml = |source| Error::Toml { path: path.clone(), source: Box::new(source) };
            let rules: TomlRules = toml::from_str(&text_of(&path)?).map_err(toml)?;
            for rule in rules.rule {
                let bad = |what: String| Error::Entry { path: path.clone(), entry: rule.pattern.clone(), what };
                rule.technique.parse::<AttackId>().map_err(|e| bad(e.to_string()))?;
                artifacts::parse(&rule.pattern).map_err(bad)?;
                curated.rules.push(rule);
            }
        }
        Ok(curated)
    }

    /// What an index carries, to be taken over into another. The texts that rules are tested on stay behind.
    pub fn of_index<D: AsRef<[u8]>>(index: &Index<D>) -> Curated {
        let mut curated = Curated { former: crate::kb::former_ids(index), ..Curated::default() };
        for object in index.objects().filter(|o| !o.gloss().is_empty()) {
            curated.lexicon.entry(object.id()).or_default().gloss = object.gloss().to_owned();
        }
        let texts: &[crate::index::format::Str] = index.section(tag::STEM_TEXTS);
        let tokens: &[zerocopy::byteorder::little_endian::U16] = index.section(tag::PHRASE_TOKENS);
        for (text, record, origin) in Phrases::new(index).all().filter(|(_, _, origin)| *origin == Origin::Lexicon) {
            debug_assert_eq!(origin, Origin::Lexicon);
            let Some(object) = index.at(record.object.get()) else { continue };
            let near = part(tokens, record.near()).iter().filter_map(|t| texts.get(usize::from(t.get())));
            let phrase = LexiconPhrase { text: text.to_owned(), near: near.map(|s| index.string(*s).to_owned()).collect() };
            let phrases = &mut curated.lexicon.entry(object.id()).or_default().phrases;
            if !phrases.contains(&phrase) {
                phrases.push(phrase);
            }
        }
        for rule in index.section::<RuleRecord>(tag::RULES) {
            if let Some(object) = index.at(rule.object.get()) {
                curated.rules.push(Rule {
                    technique: object.id().to_string(),
                    pattern: index.string(rule.pattern).to_owned(),
                    reason: index.string(rule.reason).to_owned(),
                    fires: String::new(),
                    near_miss: String::new(),
                });
            }
        }
        curated
    }

    /// Moves every entry to the technique in force in `kb`: the same, its successor, or in an older release the one
    /// that it succeeded. What `kb` doesn't know is dropped and counted.
    pub fn moved_to(mut self, kb: &KnowledgeBase) -> (Curated, usize) {
        let mut dropped = 0;
        let former = std::mem::take(&mut self.former);
        let back = |id: AttackId| former.get(&id)?.iter().find_map(|old| kb.current(*old));
        let find = |id: AttackId| kb.current(id).or_else(|| back(id));
        let mut lexicon: BTreeMap<AttackId, Entry> = BTreeMap::new();
        for (id, entry) in std::mem::take(&mut self.lexicon) {
            match find(id) {
                Some(object) => {
                    let there = lexicon.entry(object.id).or_default();
                    if there.gloss.is_empty() || object.id == id {
                        there.gloss = entry.gloss;
                    }
                    there.phrases.extend(entry.phrases);
                }
                None => dropped += 1,
            }
        }
        self.lexicon = lexicon;
        self.rules.retain_mut(|rule| {
            let current = rule.technique.parse().ok().and_then(find);
            if let Some(object) = current {
                rule.technique = object.id.to_string();
            } else {
                dropped += 1;
            }
            current.is_some()
        });
        (self, dropped)
    }
}
