//! `ttpmap kb`: where knowledge bases come from, and which is used.

use std::fmt::Write;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;

use super::args::{KbBuildArgs, KbCommand, LexiconReportArgs, Part};
use super::settings::Settings;
use super::{Outcome, open_index};
use ttpmap::curated::Curated;
use ttpmap::encoder::About;
use ttpmap::index::build::{self, Prose};
use ttpmap::kb::{History, KnowledgeBase, State, facts};
use ttpmap::model::adapt::adapt;
use ttpmap::model::corpus::Corpus;
use ttpmap::model::lexicon_report::{self, Entry};
use ttpmap::model::train;
use ttpmap::source::store::Store;
use ttpmap::source::{self, releases};
use ttpmap::{Domain, Index, Kind, model, stix};

pub(crate) fn run(command: KbCommand, settings: &Settings) -> anyhow::Result<Outcome> {
    let domain = settings.domain.unwrap_or(Domain::Enterprise);
    match command {
        KbCommand::Info { verify, format } => info(settings, verify, &format),
        KbCommand::List { format } => list(settings, &format),
        KbCommand::Build(args) => build_file(&args, settings),
        KbCommand::Answers { lessons } => answers(&lessons, settings),
        KbCommand::LexiconReport(args) => report_lexicon(&args, settings),
        KbCommand::Use { version } => {
            let store = Store::of_user()?;
            let lock = store.lock()?;
            if version == "embedded" {
                store.use_embedded(&lock, domain)?;
                settings.say(&format!("{domain}: using the built-in knowledge base"));
            } else {
                let used = store.use_version(&lock, domain, &version)?;
                settings.say(&format!("{domain}: using ATT&CK {}", used.version));
            }
            Ok(Outcome::Done)
        }
        KbCommand::Remove { version } => {
            let store = Store::of_user()?;
            let removed = store.remove(&store.lock()?, domain, &version)?;
            let now = if removed.current { "; using the built-in knowledge base where there is one" } else { "" };
            settings.say(&format!("removed {domain} ATT&CK {}{now}", removed.version));
            Ok(Outcome::Done)
        }
    }
}

fn info(settings: &Settings, verify: bool, format: &str) -> anyhow::Result<Outcome> {
    let index = open_index(settings)?;
    if verify {
        index.verify()?;
    }
    let provenance = index.provenance().context("the knowledge base has no provenance: run `ttpmap update`")?;
    let count = |kind: Kind| index.of_kind(kind).filter(|o| o.state() == State::Active).count();
    let subtechniques = index.of_kind(Kind::Technique).filter(|o| o.state() == State::Active && o.id().is_subtechnique()).count();
    let relations = index.relations().count();
    let model = model::describe(&index);
    match format {
        "json" => {
            let counts: serde_json::Map<String, serde_json::Value> =
                Kind::ALL.iter().map(|k| (k.name().to_owned(), json!(count(*k)))).collect();
            let value = json!({
                "domain": provenance.domain.attack_name(),
                "attack_version": provenance.version,
                "relations_version": provenance.relations_version,
                "source_sha256": provenance.source_digest,
                "facts_sha256": provenance.facts_digest,
                "built_by": format!("ttpmap {}", provenance.tool_version),
                "date": provenance.date,
                "notice": provenance.notice,
                "prose": index.has_prose(),
                "counts": counts,
                "subtechniques": subtechniques,
                "relations": relations,
                "model": model,
                "verified": verify,
            });
            settings.write(format!("{}\n", serde_json::to_string_pretty(&value)?).as_bytes())?;
        }
        "table" => {
            let mut out = String::new();
            let mut line = |label: &str, value: &str| {
                if !value.is_empty() {
                    let _ = writeln!(out, "{label:<22}{value}");
                }
            };
            line("domain", provenance.domain.attack_name());
            line("techniques, tactics", &format!("as of ATT&CK {}", provenance.version));
            line("relations", &format!("as of ATT&CK {}", provenance.relations_version));
            line("source SHA-256", &provenance.source_digest);
            line("fact table SHA-256", &provenance.facts_digest);
            line("built by", &format!("ttpmap {}", provenance.tool_version));
            line("date", &provenance.date);
            line("prose", if index.has_prose() { "descriptions and procedures" } else { "none: facts only (`ttpmap update` brings it)" });
            for kind in Kind::ALL {
                let extra = if kind == Kind::Technique { format!(" ({subtechniques} of them sub-techniques)") } else { String::new() };
                line(plural(kind), &format!("{}{extra}", count(kind)));
            }
            line("relations", &relations.to_string());
            line("model", &model);
            line("notice", &provenance.notice);
            if verify {
                line("verified", "every byte and record");
            }
            settings.write(out.as_bytes())?;
        }
        other => bail!("`{other}` is not a format: choose table, json"),
    }
    Ok(Outcome::Done)
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Tactic => "tactics",
        Kind::Technique => "techniques",
        Kind::Group => "groups",
        Kind::Software => "software",
        Kind::Campaign => "campaigns",
        Kind::Mitigation => "mitigations",
        Kind::DataComponent => "data components",
        Kind::DetectionStrategy => "detection strategies",
        _ => "analytics",
    }
}

fn list(settings: &Settings, format: &str) -> anyhow::Result<Outcome> {
    let store = Store::of_user()?;
    let installed = store.list()?;
    let embedded = Index::embedded();
    let embedded_used = store.current(embedded.domain()).is_none();
    match format {
        "json" => {
            let mut all =
                vec![json!({"domain": embedded.domain().name(), "version": embedded.version(), "current": embedded_used, "path": null})];
            all.extend(
                installed.iter().map(|i| json!({"domain": i.domain.name(), "version": i.version, "current": i.current, "path": i.path})),
            );
            settings.write(format!("{}\n", serde_json::to_string_pretty(&all)?).as_bytes())?;
        }
        "table" => {
            let mut out = String::new();
            let mark = |current: bool| if current { "*" } else { " " };
            let _ = writeln!(out, "{} {:<12}{:<8}built in", mark(embedded_used), embedded.domain().name(), embedded.version());
            for i in &installed {
                let _ = writeln!(out, "{} {:<12}{:<8}{}", mark(i.current), i.domain.name(), i.version, i.path.display());
            }
            settings.write(out.as_bytes())?;
        }
        other => bail!("`{other}` is not a format: choose table, json"),
    }
    Ok(Outcome::Done)
}

/// The release that a file name tells: `enterprise-attack-18.1.json`.
pub(crate) fn version_in_name(path: &Path) -> Option<String> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".json")?;
    let version = stem.rsplit('-').next()?;
    let fits = version.contains('.') && version.chars().all(|c| c.is_ascii_digit() || c == '.');
    fits.then(|| version.to_owned())
}

/// Reads a bundle, and tells on standard error what had to be skipped.
pub(crate) fn read_bundle(bytes: &[u8], name: &str, version: Option<&str>, settings: &Settings) -> anyhow::Result<KnowledgeBase> {
    let (kb, report) = stix::read(bytes, version).with_context(|| name.to_owned())?;
    for skipped in report.skipped.iter().take(10) {
        settings.say(&format!("{name}: skipped {}: {}", skipped.object, skipped.reason));
    }
    if report.skipped.len() > 10 {
        settings.say(&format!("{name}: skipped {} objects in all", report.skipped.len()));
    }
    Ok(kb)
}

fn build_file(args: &KbBuildArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let name = args.bundle.display().to_string();
    let bytes = read_bytes(&args.bundle)?;
    let digest = source::digest(&bytes);
    let known = releases::version_of(&digest).map(|(_, version)| version.to_owned());
    let version = args.attack_version.clone().or(known).or_else(|| version_in_name(&args.bundle));
    let mut kb = read_bundle(&bytes, &name, version.as_deref(), settings)?;
    drop(bytes);
    if let Some(path) = &args.facts {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        facts::overlay(&mut kb, &bytes).with_context(|| path.display().to_string())?;
    }
    kb.provenance.date.clone_from(&args.date);
    if let Some(folder) = args.train.as_deref().filter(|_| args.encoder_lessons) {
        let curated = args.curated.as_deref().map(Curated::read).transpose()?.unwrap_or_default().moved_to(&kb).0;
        let (index, corpus, options) = lessons(args, folder, &kb, &curated)?;
        settings.write(model::lessons::lessons(&index, &kb, &corpus, &options).as_bytes())?;
        return Ok(Outcome::Done);
    }
    let prose = if args.facts_only { Prose::Drop } else { Prose::Keep };
    settings.write(&build_index(kb, Some(args), prose, settings)?)?;
    Ok(Outcome::Done)
}

/// From a bundle's content to the bytes of an index: what `kb build` and `update` share. Lexicon, rules and model are
/// those of the built-in knowledge base, unless `own` names others.
pub(crate) fn build_index(mut kb: KnowledgeBase, own: Option<&KbBuildArgs>, prose: Prose, settings: &Settings) -> anyhow::Result<Vec<u8>> {
    let (curated, dropped) = match own.and_then(|args| args.curated.as_deref()) {
        Some(folder) => Curated::read(folder)?,
        None => inherit(&mut kb),
    }
    .moved_to(&kb);
    if dropped > 0 {
        settings.say(&format!(
            "{dropped} entries of the lexicon and rules are for techniques that ATT&CK {} doesn't have",
            kb.provenance.version
        ));
    }
    if let Some((args, folder)) = own.and_then(|args| Some((args, args.train.as_deref()?))) {
        let model = train(args, folder, &kb, &curated, settings)?;
        return Ok(build::build(&kb, &curated, &model, prose)?);
    }
    let mut labelled = Corpus::default();
    for path in own.map(|args| &*args.labelled).unwrap_or_default() {
        labelled.add_jsonl(path, |c| &mut c.reports, 1.0)?;
    }
    let index = Index::new(build::build(&kb, &curated, model::bytes(&Index::embedded()), prose)?)?;
    let adapted = adapt(&index, &kb, &labelled);
    if adapted == model::bytes(&index) {
        return Ok(index.into_inner());
    }
    Ok(build::build(&kb, &curated, &adapted, prose)?)
}

fn answers(lessons: &Path, settings: &Settings) -> anyhow::Result<Outcome> {
    let model = super::open_encoder(settings)?.context("there is no encoder to ask")?;
    let text = std::fs::read_to_string(lessons).with_context(|| lessons.display().to_string())?;
    settings.write(model::lessons::answers(&model, &text).with_context(|| lessons.display().to_string())?.as_bytes())?;
    Ok(Outcome::Done)
}

/// Tab-separated: technique, phrase or pattern, sentences it fires in, right, right but for the sub-technique, and the
/// share of the last; worst first.
fn report_lexicon(args: &LexiconReportArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let mut corpus = Corpus::default();
    for path in &args.reports {
        corpus.add_jsonl(path, |c| &mut c.reports, 1.0)?;
    }
    let index = open_index(settings)?;
    let lines = match &args.curated {
        Some(folder) => lexicon_report::report(&lexicon_report::with_curated(&index, &Curated::read(folder)?)?, &corpus.reports),
        None => lexicon_report::report(&index, &corpus.reports),
    };
    let mut out = String::from("technique\tphrase\tfires\tright\tfamily right\tprecision\n");
    for line in lines.iter().filter(|l| args.rules || l.entry == Entry::Phrase) {
        let precision = line.precision().map_or_else(|| "-".to_owned(), |p| format!("{p:.2}"));
        let _ = writeln!(out, "{}\t{}\t{}\t{}\t{}\t{precision}", line.technique, line.text, line.fires, line.right, line.family_right);
    }
    settings.write(out.as_bytes())?;
    Ok(Outcome::Done)
}

/// What there is to learn from, and the bare index to learn it with.
fn lessons(
    args: &KbBuildArgs,
    folder: &Path,
    kb: &KnowledgeBase,
    curated: &Curated,
) -> anyhow::Result<(Index<Vec<u8>>, Corpus, train::Options)> {
    let without = |part: Part| args.without.contains(&part);
    let mut corpus = Corpus::default();
    corpus.add_own(folder)?;
    if without(Part::Sentences) {
        corpus.snippets.clear();
    }
    if without(Part::Narratives) {
        corpus.narratives.clear();
    }
    for path in &args.train_reports {
        corpus.add_jsonl(path, |c| &mut c.reports, 1.0)?;
    }
    for path in &args.train_others {
        let name = path.file_stem().unwrap_or_default();
        corpus.add_relabelled(path, &folder.join("labels").join(name).with_extension("tsv"))?;
    }
    for path in args.train_texts.iter().filter(|_| !without(Part::Texts)) {
        corpus.add_jsonl(path, |c| &mut c.narratives, 0.5)?;
    }
    for path in &args.encoder_scores {
        corpus.answers.get_or_insert_default().add(path)?;
    }
    let options = train::Options {
        procedures: !without(Part::Procedures),
        phrases: !without(Part::Phrases),
        trees: !without(Part::Trees),
        ..train::Options::default()
    };
    Ok((Index::new(build::build(kb, curated, &[], Prose::Drop)?)?, corpus, options))
}

/// Trains a model from scratch, and tells its figures on publishers that it did not learn from.
fn train(args: &KbBuildArgs, folder: &Path, kb: &KnowledgeBase, curated: &Curated, settings: &Settings) -> anyhow::Result<Vec<u8>> {
    let (bare, corpus, options) = lessons(args, folder, kb, curated)?;
    let (models, figures) = train::train(&bare, kb, &corpus, &options, &|line| settings.say(line));
    settings.say(&format!("on publishers not learned from: {figures}"));
    if let (Some(weights), Some(to)) = (&args.encoder, &args.model_out) {
        let joined = models.joined.context("the answers of --encoder-scores are about none of the reports")?;
        let bytes = std::fs::read(weights).with_context(|| weights.display().to_string())?;
        let about = About { attack_version: kb.provenance.version.clone(), date: args.date.clone(), ..About::default() };
        let file = ttpmap::encoder::build(&bytes, &joined, &about).with_context(|| weights.display().to_string())?;
        super::replace(to, &file).with_context(|| to.display().to_string())?;
    }
    Ok(models.linear)
}

/// What a knowledge base takes over from the built-in one: lexicon, rules and former names.
fn inherit(kb: &mut KnowledgeBase) -> Curated {
    let embedded = Index::embedded();
    if embedded.domain() == kb.provenance.domain {
        kb.remember(&History::of_index(&embedded));
    }
    Curated::of_index(&embedded)
}

/// Reads a bundle's file, or standard input for `-`, within the bound.
pub(crate) fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_within(path, stix::MAX_BUNDLE_BYTES, "ATT&CK bundle")
}

/// Reads a file, or standard input for `-`; one of more than `most` bytes is refused, being no `what`.
pub(crate) fn read_within(path: &Path, most: u64, what: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| path.display().to_string())?)
    };
    reader.by_ref().take(most + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > most {
        bail!("{}: larger than {} MiB, which no {what} is", path.display(), most >> 20);
    }
    Ok(bytes)
}
