//! What stands for a layer on the command line: a file, a list, the JSON of `map`, narratives, a name.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rayon::prelude::*;
use serde_json::Value;

use super::super::settings::Settings;
use super::super::{Knowledge, map, mapper, open_encoder};
use super::{open_release, read, release_of, upgrade_to};
use ttpmap::index::ObjectRef;
use ttpmap::ingest::{self, Hints};
use ttpmap::kb::State;
use ttpmap::layer::make::{Annotation, Maker, Scoring, annotations, line_annotations, of_mapping};
use ttpmap::layer::upgrade::{Outcome as Became, Pick, Upgrade};
use ttpmap::layer::{self, Layer};
use ttpmap::lookup::{fold, is_clear, lookup};
use ttpmap::rank::{Found, Options, Workspace};
use ttpmap::text::shown::printable;
use ttpmap::{AttackId, Document, Index, Kind, Mapper};

/// A layer being made out of what the command line names.
pub(super) struct Making<'u, 'a, 's, D> {
    upgrade: &'u Upgrade<'a, D>,
    settings: &'s Settings,
    maker: Maker<'u, 'a, D>,
    /// What the sources are, for a title.
    titles: Vec<String>,
    /// Sources that are things, records or narratives, and not lists.
    things: usize,
    narratives: bool,
    /// Whether a line could not be read.
    pub(super) failed: bool,
}

impl<'u, 'a, 's, D: AsRef<[u8]> + Sync> Making<'u, 'a, 's, D> {
    pub(super) fn new(upgrade: &'u Upgrade<'a, D>, settings: &'s Settings) -> Making<'u, 'a, 's, D> {
        Making { upgrade, settings, maker: Maker::new(upgrade), titles: Vec::new(), things: 0, narratives: false, failed: false }
    }

    /// Whether scores count sources.
    pub(super) fn counts(&self) -> bool {
        self.narratives || self.things > 1
    }

    pub(super) fn title(&self) -> String {
        match &self.titles[..] {
            [] => "techniques".to_owned(),
            some if some.len() <= 4 => some.join(", "),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        }
    }

    pub(super) fn layer(&self, name: &str, scoring: Scoring) -> Layer {
        self.maker.layer(name, scoring)
    }

    fn add(&mut self, annotation: &Annotation, source: &str) -> Result<(), String> {
        let why = self.maker.add(annotation, source)?;
        if !why.is_empty() {
            self.settings.say(&format!("{}: {why}", annotation.id));
        }
        Ok(())
    }

    /// Every technique in force; a filter leaves what is wanted.
    pub(super) fn whole_matrix(&mut self) {
        let index = self.upgrade.index();
        let all: Vec<AttackId> = index.of_kind(Kind::Technique).filter(|t| t.state() == State::Active).map(ObjectRef::id).collect();
        for id in all {
            let _ = self.maker.add(&Annotation::new(id), "matrix");
        }
        self.titles.push(format!("ATT&CK {}", index.version()));
    }

    /// Words of the command line: IDs with score and comment, files, names.
    pub(super) fn what(&mut self, words: &[String]) -> anyhow::Result<()> {
        let is_file = |word: &str| word == "-" || Path::new(word).exists();
        let mut at = 0;
        while at < words.len() {
            let word = &words[at];
            at += 1;
            if is_file(word) {
                self.file(word)?;
                continue;
            }
            let Ok(mut listed) = line_annotations(word) else {
                self.name(word)?;
                continue;
            };
            // An ID, a score and a comment may be words of their own.
            if let Some(last) = listed.last_mut()
                && last.score.is_none()
                && let Some(score) = words.get(at).filter(|w| !is_file(w)).and_then(|w| w.parse::<f64>().ok()).filter(|s| s.is_finite())
            {
                last.score = Some(score);
                at += 1;
                if let Some(comment) = words.get(at).filter(|w| !is_file(w) && line_annotations(w).is_err()) {
                    last.comment.clone_from(comment);
                    at += 1;
                }
            }
            for annotation in listed {
                let is_thing = annotation.id.kind() != Kind::Technique;
                let source = if is_thing { annotation.id.to_string() } else { "list".to_owned() };
                self.add(&annotation, &source).map_err(anyhow::Error::msg)?;
                self.things += usize::from(is_thing);
                let object = self.upgrade.index().get(annotation.id).filter(|_| is_thing);
                self.titles.push(object.map_or_else(|| annotation.id.to_string(), |o| o.name().to_owned()));
            }
        }
        Ok(())
    }

    fn name(&mut self, word: &str) -> anyhow::Result<()> {
        let object = named(self.upgrade.index(), word, self.settings)?;
        let source = format!("{} {}", object.id(), object.name());
        self.add(&Annotation::new(object.id()), &source).map_err(anyhow::Error::msg)?;
        self.things += 1;
        self.titles.push(object.name().to_owned());
        Ok(())
    }

    fn file(&mut self, name: &str) -> anyhow::Result<()> {
        if Path::new(name).is_dir() {
            bail!("{name}: a folder of narratives is mapped with --narratives {name}");
        }
        let bytes = read(name, self.settings)?;
        self.list(name, bytes)
    }

    /// A list, or the JSON of `map`.
    fn list(&mut self, name: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let title = if name == "-" { "standard input".to_owned() } else { stem(name) };
        if let Some(records) = mapping_records(&bytes) {
            for (source, listed) in records {
                for annotation in listed {
                    if let Err(reason) = self.add(&annotation, &source) {
                        self.settings.say(&format!("{name}: {reason}"));
                    }
                }
                self.things += 1;
                self.titles.push(source);
            }
            return Ok(());
        }
        if layer::parse(&bytes).is_ok() {
            bail!("{name}: this is a layer already; `ttpmap layer merge` joins layers");
        }
        let text = ingest::decode(bytes).with_context(|| name.to_owned())?;
        let (listed, bad) = annotations(&text);
        for problem in &bad {
            self.failed = true;
            anstream::eprintln!("ttpmap: {name}: {problem}");
        }
        if listed.is_empty() && !bad.is_empty() {
            bail!("{name}: no line begins with an ATT&CK ID (a narrative is mapped with --narratives)");
        }
        for annotation in &listed {
            if let Err(reason) = self.add(annotation, name) {
                self.failed = true;
                anstream::eprintln!("ttpmap: {name}: {reason}");
            }
        }
        self.titles.push(title);
        Ok(())
    }

    /// Maps narratives on all cores; every one is a source.
    pub(super) fn narratives(&mut self, paths: &[PathBuf]) -> anyhow::Result<()> {
        let mut files: Vec<PathBuf> = Vec::new();
        for path in paths {
            let before = files.len();
            if path.is_dir() {
                for entry in map::walk(path, &[])? {
                    match entry {
                        map::Entry::File(path) => files.push(path),
                        map::Entry::Failed { path, why } => {
                            self.failed = true;
                            anstream::eprintln!("ttpmap: {}: {why}", printable(&path.display().to_string()));
                        }
                    }
                }
                files.retain(|path| ingest::Kind::of_name(&path.to_string_lossy()) != Some(ingest::Kind::Jsonl));
                if files.len() == before {
                    bail!("{}: no file in it that is read (.txt, .md, .html, .pdf, .docx, .eml and the like)", path.display());
                }
            } else {
                std::fs::metadata(path).with_context(|| path.display().to_string())?;
                files.push(path.clone());
            }
            self.titles.push(path.display().to_string());
        }
        let encoder = open_encoder(self.settings)?;
        let mapper = mapper(self.upgrade.index(), encoder.as_ref())?;
        let options = Options { min_confidence: self.settings.config.min_confidence, profile: self.settings.profile, ..Options::default() };
        let mapped: Vec<(String, Result<Vec<Annotation>, String>)> = files
            .into_par_iter()
            .map_init(Workspace::default, |workspace, path| {
                let name = path.display().to_string();
                let listed = ingest::read_file(&path).and_then(|bytes| asserted(&mapper, workspace, bytes, &name, &options));
                (name, listed.map_err(map::unread))
            })
            .collect();
        for (name, result) in mapped {
            match result {
                Ok(listed) => {
                    for annotation in listed {
                        let comment = format!("{name}: {}", annotation.comment);
                        let _ = self.maker.add(&Annotation { comment, score: None, ..annotation }, &name);
                    }
                }
                Err(error) => {
                    self.failed = true;
                    anstream::eprintln!("ttpmap: {name}: {error}");
                }
            }
            self.narratives = true;
        }
        Ok(())
    }
}

/// The asserted techniques of a narrative, each with its first piece of evidence; of every narrative, where there are
/// several in it.
fn asserted<D: AsRef<[u8]>>(
    mapper: &Mapper<'_, D>,
    workspace: &mut Workspace,
    bytes: Vec<u8>,
    name: &str,
    options: &Options,
) -> Result<Vec<Annotation>, ingest::Error> {
    let hints = Hints { name: (name != "-").then_some(name), ..Hints::default() };
    let mut out = Vec::new();
    for part in ingest::read(bytes, hints, &ingest::Options::default())? {
        let document = part.document?;
        let mapping = mapper.map_with(workspace, &document, options);
        out.extend(mapping.asserted().map(|found| annotation(&document, found)));
    }
    Ok(out)
}

fn annotation(document: &Document, found: &Found) -> Annotation {
    let first = found.evidence.iter().find(|e| e.status == found.status);
    let said = first.map(|e| format!("line {}: {}", e.line, printable(e.segment.of(document.text()))));
    let comment = said.unwrap_or_default().chars().take(240).collect();
    Annotation { score: Some(f64::from((found.confidence * 100.0).round())), comment, ..Annotation::new(found.id) }
}

/// The records that `map` wrote, as JSON or JSON Lines; None for anything else.
fn mapping_records(bytes: &[u8]) -> Option<Vec<(String, Vec<Annotation>)>> {
    let values: Vec<Value> = match serde_json::from_slice(bytes) {
        Ok(Value::Array(values)) => values,
        Ok(value) => vec![value],
        Err(_) => {
            let lines = std::str::from_utf8(bytes).ok()?.lines().filter(|l| !l.trim().is_empty());
            lines.map(|l| serde_json::from_str(l).ok()).collect::<Option<_>>()?
        }
    };
    // A record of an input that could not be read holds nothing, and is no reason to read none.
    let read = values.iter().filter(|v| v.get("error").is_none()).map(of_mapping).collect::<Option<Vec<_>>>()?;
    (!read.is_empty()).then_some(read)
}

/// What a name means; one that is near to nothing, or to several, is an error that says to what.
fn named<'a, D: AsRef<[u8]>>(index: &'a Index<D>, word: &str, settings: &Settings) -> anyhow::Result<ObjectRef<'a, D>> {
    let answers = lookup(index, word);
    let list = || answers.iter().take(4).map(|a| format!("{} {}", a.object.id(), a.object.full_name())).collect::<Vec<_>>().join(", ");
    let Some(first) = answers.first() else {
        bail!("`{}` is no file, no ATT&CK ID, and near no name in ATT&CK {}", printable(word), index.version());
    };
    if first.score < 0.8 || !is_clear(&answers) {
        bail!("`{}` is not clear: {}? Name its ID", printable(word), list());
    }
    if first.matched != fold(word) || first.redirected_from.is_some() {
        settings.say(&format!("`{}` is read as {} {}", printable(word), first.object.id(), first.object.full_name()));
    }
    Ok(first.object)
}

fn stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| name.to_owned(), |s| s.to_string_lossy().into_owned())
}

/// Leaves the entries of some tactics and platforms; all where none is named.
pub(super) fn filter<D: AsRef<[u8]>>(layer: &mut Layer, index: &Index<D>, tactics: &[AttackId], platforms: &[String]) {
    if tactics.is_empty() && platforms.is_empty() {
        return;
    }
    layer.techniques.retain(|entry| {
        let Some(technique) = entry.id().and_then(|id| index.get(id)) else { return false };
        let in_tactic = |t: &AttackId| index.get(*t).map(ObjectRef::short_name) == entry.tactic.as_deref();
        let on = |p: &String| technique.platforms().any(|q| q.eq_ignore_ascii_case(p));
        // Openers are made anew for what is left.
        entry.score.is_some() && (tactics.is_empty() || tactics.iter().any(in_tactic)) && (platforms.is_empty() || platforms.iter().any(on))
    });
}

/// Reads layers, and what stands for one, in one release.
pub(super) struct Operands<'s> {
    settings: &'s Settings,
    own_release: bool,
}

impl<'s> Operands<'s> {
    /// In the release in use.
    pub(super) fn new(settings: &'s Settings) -> Operands<'s> {
        Operands { settings, own_release: false }
    }

    /// In the release of the first layer, where it is at hand.
    pub(super) fn of_own_release(self) -> Operands<'s> {
        Operands { own_release: true, ..self }
    }

    pub(super) fn read(&self, words: &[String]) -> anyhow::Result<(Knowledge, Vec<Layer>)> {
        let mut read_layers: Vec<(String, Option<Vec<Layer>>, Vec<u8>)> = Vec::new();
        for word in words {
            let is_file = word == "-" || Path::new(word).is_file();
            if !is_file {
                if !Path::new(word).exists() && looks_like_a_file(word) {
                    bail!("{word}: there is no such file");
                }
                read_layers.push((word.clone(), None, Vec::new()));
                continue;
            }
            let bytes = read(word, self.settings)?;
            match layer::parse(&bytes) {
                Ok(file) => {
                    let layers = file.layers.into_iter().map(|l| self.titled(l, word)).collect();
                    read_layers.push((word.clone(), Some(layers), Vec::new()));
                }
                // Anything else may be a list or a narrative, but not what was meant as JSON.
                Err(e) if mapping_records(&bytes).is_none() && bytes.trim_ascii_start().starts_with(b"{") => {
                    return Err(e).with_context(|| word.clone());
                }
                Err(_) => read_layers.push((word.clone(), None, bytes)),
            }
        }
        let first = read_layers.iter().filter_map(|(_, layers, _)| layers.as_ref()?.first()).next();
        let domain = first.and_then(Layer::attack_domain).or(self.settings.domain);
        let index = match first {
            Some(layer) if self.own_release => release_of(layer, self.settings)?,
            _ => match domain {
                Some(domain) => open_release(self.settings, domain, None)?,
                None => super::open_index(self.settings)?,
            },
        };
        let upgrade = upgrade_to(&index);
        let mut out = Vec::new();
        for (word, layers, bytes) in read_layers {
            match layers {
                Some(layers) => {
                    for layer in layers {
                        out.push(self.brought(layer, &word, &upgrade)?);
                    }
                }
                None => out.push(self.made(&word, bytes, &upgrade)?),
            }
        }
        drop(upgrade);
        Ok((index, out))
    }

    fn titled(&self, mut layer: Layer, word: &str) -> Layer {
        if layer.name.trim().is_empty() {
            layer.name = stem(word);
        }
        layer
    }

    /// The layer in the release, and a word on what moved.
    fn brought<D: AsRef<[u8]>>(&self, layer: Layer, word: &str, upgrade: &Upgrade<'_, D>) -> anyhow::Result<Layer> {
        let index = upgrade.index();
        if let Some(domain) = layer.attack_domain().filter(|d| *d != index.domain()) {
            bail!("{word}: a layer of the {domain} domain, beside one of {}", index.domain());
        }
        let (brought, report) = upgrade.layer(&layer, Pick::Max);
        let moved = report.count(Became::Moved) + report.count(Became::Merged);
        let lost = report.count(Became::CouldNot);
        if moved + lost > 0 {
            let which = layer.attack_major().map_or_else(|| "an unstated release".to_owned(), |v| format!("ATT&CK {v}"));
            self.settings.say(&format!(
                "{word}: of {which}, read in ATT&CK {}: {moved} entries moved, {lost} are not in it (`ttpmap layer upgrade --dry-run` tells which)",
                index.version()
            ));
        }
        Ok(brought)
    }

    /// A layer of what is no layer: records of `map`, a list, narratives, a name.
    fn made<D: AsRef<[u8]> + Sync>(&self, word: &str, bytes: Vec<u8>, upgrade: &Upgrade<'_, D>) -> anyhow::Result<Layer> {
        let mut new = Making::new(upgrade, self.settings);
        let path = Path::new(word);
        let is_list = || {
            ingest::decode(bytes.clone()).is_ok_and(|text| {
                let (listed, bad) = annotations(&text);
                bytes.is_empty() || mapping_records(&bytes).is_some() || !(listed.is_empty() || bad.len() > listed.len())
            })
        };
        let is_narrative = path.is_dir() || !is_list();
        if is_narrative && !path.is_dir() {
            let encoder = open_encoder(self.settings)?;
            let mapper = mapper(upgrade.index(), encoder.as_ref())?;
            let options =
                Options { min_confidence: self.settings.config.min_confidence, profile: self.settings.profile, ..Options::default() };
            let listed = asserted(&mapper, &mut Workspace::default(), bytes, word, &options).with_context(|| word.to_owned())?;
            for annotation in &listed {
                let _ = new.maker.add(annotation, word);
            }
            new.titles.push(if word == "-" { "standard input".to_owned() } else { stem(word) });
        } else if is_narrative {
            new.narratives(&[path.to_owned()])?;
            new.titles = vec![stem(word)];
        } else if word == "-" {
            new.list(word, bytes)?;
        } else {
            new.what(&[word.to_owned()])?;
        }
        if new.failed {
            bail!("{word}: see above");
        }
        let scoring = if new.counts() { Scoring::Sources } else { Scoring::Given };
        Ok(new.layer(&new.title(), scoring))
    }
}

/// Whether a word that is no file was meant as one: no name in ATT&CK ends so.
fn looks_like_a_file(word: &str) -> bool {
    let extension = Path::new(word).extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    word.contains('/') || matches!(extension.as_deref(), Some("json" | "txt" | "csv" | "jsonl" | "md"))
}
