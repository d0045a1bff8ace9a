//! `ttpmap map`: inputs in order, mapped on all cores in batches, written in order.

mod inputs;
mod output;
mod progress;
mod resume;
mod walk;
mod web;

use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::{Context, bail};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::args::MapArgs;
use super::settings::Settings;
use super::{Outcome, mapper, open_encoder, open_index};
use inputs::{Fetched, Inputs, Reading, Work};
use output::{Output, Shape, source_of};
use progress::Progress;
use resume::{Journal, State};
use ttpmap::encoder::EncoderModel;
use ttpmap::export::assembly::{Assembly, render, render_error};
use ttpmap::export::handoff::{HandOff, Stamp};
use ttpmap::export::{Format, Rendered, Source, table};
use ttpmap::index::ObjectRef;
use ttpmap::ingest::{self, Part, record};
use ttpmap::rank::{Options, Workspace};
use ttpmap::status::Status;
use ttpmap::summary::{Digest, Summary};
use ttpmap::text::shown::printable;
use ttpmap::{AttackId, Document, Index, Kind, Mapper, Mapping};
pub(super) use walk::{Entry, walk};

/// A narrative mapped and made ready to be written.
struct Done {
    produced: Produced,
    /// Why the input could not be read.
    error: Option<String>,
    found: bool,
    failed_on: Vec<AttackId>,
}

enum Produced {
    /// An answer by itself.
    Rendered(Rendered),
    /// What a summary needs of it.
    Digest(Box<Digest>),
    /// An input of a summary that could not be read.
    Failure(Box<(Source, String)>),
}

struct Job<'a, D> {
    index: &'a Index<D>,
    mapper: Mapper<'a, D>,
    options: Options,
    format: Format,
    summary: bool,
    hand_off: HandOff,
    /// The digest of the encoder's model file.
    encoder: Option<String>,
    fail_on: Vec<AttackId>,
    width: usize,
    reading: Reading,
}

pub(crate) fn run(args: &MapArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let index = open_index(settings)?;
    let format = format(args, settings)?;
    let encoder = open_encoder(settings)?;
    let job = job(args, settings, &index, encoder.as_ref(), format)?;
    let mut inputs = Inputs::new(args, job.reading.clone(), settings)?;
    let threads = args.jobs.or(settings.config.jobs).unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;

    if io::stdin().is_terminal() && args.inputs == ["-"] {
        settings.say("reading a narrative from the terminal; end it with Ctrl-D (or name a file: ttpmap map report.txt)");
    }
    if let Some(path) = &args.text_out {
        inputs.text_out(path)?;
    } else if args.resume.is_none() {
        inputs.fetch_only();
    }
    if format == Format::Svg && inputs.is_many() {
        bail!("svg is a picture of one narrative: name one file, or make a layer of several (`ttpmap layer new --narratives`)");
    }
    let mut assembly = Assembly::new(&index, format, inputs.is_many());
    let (bytes, count) = (inputs.bytes(), inputs.count());
    let (mut out, mut tally) = match &args.resume {
        Some(path) => {
            let output = resumable(args, settings, format)?;
            let head = assembly.head();
            let (mut journal, state) = Journal::open(path, output, answers_depend_on(args, settings, &job))?;
            let tally = state.tally.clone();
            let resumed = resumed(&state);
            inputs.leave_out(state)?;
            journal.begin(&head)?;
            resumed.iter().for_each(|line| settings.say(line));
            (Output::resumed(journal, assembly, format), tally)
        }
        None => {
            let shape = if args.summary { Shape::Summary(Box::new(Summary::new(&index))) } else { Shape::Each(Box::new(assembly)) };
            (Output::open(settings, shape, format, job.width)?, resume::Tally::default())
        }
    };
    let mut progress = Progress::new(settings, out.streams(), bytes, count);
    // What an earlier run did is done.
    progress.fail(tally.failed);
    progress
        .add(count.zip(inputs.count()).map_or(0, |(all, left)| all - left), bytes.zip(inputs.bytes()).map_or(0, |(all, left)| all - left));
    loop {
        let batch = progress.beside(|| inputs.batch(pool.current_num_threads()));
        if batch.is_empty() {
            break;
        }
        let bar = &progress;
        let map = |workspace: &mut Workspace, (work, weight): (Work, u64)| {
            let done = job.map(workspace, work);
            bar.add(1, weight);
            done
        };
        let done: Vec<Vec<Done>> = pool.install(|| batch.into_par_iter().map_init(Workspace::default, map).collect());
        for one in done.into_iter().flatten() {
            if let Some(error) = &one.error {
                tally.failed += 1;
                progress.fail(1);
                progress.beside(|| anstream::eprintln!("ttpmap: {}", printable(error)));
            }
            tally.found |= one.found;
            tally.meet(&one.failed_on);
            out.item(one)?;
        }
        out.step(|journal| journal.step(inputs.take_finished(), inputs.position(), &tally))?;
    }
    // An input may end without anything being left to map.
    out.step(|journal| match inputs.take_finished() {
        none if none.is_empty() => Ok(()),
        finished => journal.step(finished, None, &tally),
    })?;
    drop(progress);
    out.finish(settings)?;
    if tally.failed > 0 {
        return Ok(Outcome::Failed);
    }
    if !tally.met.is_empty() {
        settings.say(&format!("asserted, and named by --fail-on: {}", tally.met.join(", ")));
        return Ok(Outcome::Unmet);
    }
    Ok(if tally.found { Outcome::Done } else { Outcome::Unmet })
}

/// What is wanted, checked.
fn job<'a, D: AsRef<[u8]>>(
    args: &MapArgs,
    settings: &Settings,
    index: &'a Index<D>,
    encoder: Option<&'a EncoderModel>,
    format: Format,
) -> anyhow::Result<Job<'a, D>> {
    let options = Options {
        min_confidence: args.min_confidence.or(settings.config.min_confidence),
        profile: settings.profile,
        statuses: args.status.iter().map(|s| s.parse()).collect::<Result<Vec<Status>, _>>()?,
        tactics: args.tactic.iter().map(|t| tactic(index, t)).collect::<anyhow::Result<Vec<_>>>()?,
        platforms: platforms(index, &args.platform)?,
        top: args.top,
        implied: args.implied,
        explain: args.explain,
        similar_groups: args.similar_groups,
        defenses: args.defend,
    };
    if args.summary {
        let asked = [
            (args.implied, "--implied"),
            (args.explain, "--explain"),
            (args.similar_groups.is_some(), "--similar-groups"),
            (args.defend, "--defend"),
        ];
        if let Some((_, option)) = asked.iter().find(|(asked, _)| *asked) {
            bail!("{option} is about one narrative, and --summary about all: leave one of them out");
        }
    }
    let hand_off = hand_off(args, format, index, &options.statuses, settings)?;
    let fail_on = args.fail_on.iter().map(|id| id.parse()).collect::<Result<Vec<AttackId>, _>>()?;
    let width = terminal_size::terminal_size().map_or(100, |(w, _)| usize::from(w.0)).clamp(60, 160);
    let reading = Reading {
        kind: args.input.given(),
        options: ingest::Options {
            attachments: args.attachments,
            text_field: args.text_field.clone(),
            id_field: args.id_field.clone(),
            date_field: args.date_field.clone(),
        },
    };
    let mapper = mapper(index, encoder)?;
    let encoder = encoder.map(EncoderModel::digest);
    Ok(Job { index, mapper, options, encoder, format, summary: args.summary, hand_off, fail_on, width, reading })
}

/// The output of a run that may be taken up again.
fn resumable<'s>(args: &MapArgs, settings: &'s Settings, format: Format) -> anyhow::Result<&'s Path> {
    if args.summary {
        bail!("--resume adds to an output as it goes, and --summary writes one at the end: leave one of them out");
    }
    if args.inputs.iter().any(|input| input == "-") {
        bail!("--resume can't tell whether standard input is the same again: name a file");
    }
    let Some(output) = settings.output.as_deref().filter(|p| *p != Path::new("-")) else {
        bail!("--resume needs -o FILE: what standard output was given can't be taken back");
    };
    if ![Format::Jsonl, Format::Csv].contains(&format) {
        bail!("--resume goes with --format jsonl, csv, not with {}: that is whole only at its end", format.name());
    }
    Ok(output)
}

/// A word on what an earlier run did.
fn resumed(state: &State) -> Option<String> {
    if state.inputs == 0 && state.at.is_none() {
        return None;
    }
    let at = state.at.as_ref().map(|at| format!(", and {} lines of {}", at.line, at.seen.name)).unwrap_or_default();
    let inputs = if state.inputs == 1 { "1 input is".to_owned() } else { format!("{} inputs are", state.inputs) };
    Some(printable(&format!("going on: {inputs} done{at}")))
}

/// All that answers depend on beside the inputs' content, by the name that a user gives it.
fn answers_depend_on<D: AsRef<[u8]>>(args: &MapArgs, settings: &Settings, job: &Job<'_, D>) -> Map<String, Value> {
    let options = &job.options;
    let names = |ids: &[AttackId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = json!({
        "ttpmap": env!("CARGO_PKG_VERSION"),
        "ATT&CK": format!("{} {}", job.index.domain(), job.index.version()),
        "the knowledge base": job.index.digest(),
        "the encoder": job.encoder,
        "-o": settings.output.as_ref().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone()).display().to_string()),
        "the inputs": args.inputs,
        "--glob": args.glob,
        "--format": job.format.name(),
        "--input": job.reading.kind.map(ingest::Kind::name),
        "--text-field": args.text_field,
        "--id-field": args.id_field,
        "--min-confidence": options.min_confidence.map(|p| p.to_string()),
        "--profile": options.profile.name(),
        "--status": options.statuses.iter().map(|s| s.name()).collect::<Vec<_>>(),
        "--tactic": names(&options.tactics),
        "--platform": options.platforms,
        "--top": options.top,
        "--explain": options.explain,
        "--implied": options.implied,
        "--similar-groups": options.similar_groups,
        "--defend": options.defenses,
        "--defanged": job.hand_off.defanged,
        "--fail-on": names(&job.fail_on),
        "--attachments": args.attachments,
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

/// The formats of a summary.
const OF_SUMMARY: [Format; 5] = [Format::Table, Format::Json, Format::Csv, Format::Markdown, Format::Navigator];

/// The format that is asked for, one that a summary has where one is wanted.
fn format(args: &MapArgs, settings: &Settings) -> anyhow::Result<Format> {
    let format = format_asked(args, settings)?;
    if args.summary && !OF_SUMMARY.contains(&format) {
        bail!("--summary goes with --format {}, not with {}", OF_SUMMARY.map(Format::name).join(", "), format.name());
    }
    Ok(format)
}

fn format_asked(args: &MapArgs, settings: &Settings) -> anyhow::Result<Format> {
    let known = || Format::ALL.map(Format::name).join(", ");
    if let Some(name) = args.format.as_ref() {
        return name.parse().map_err(|e| anyhow::anyhow!("{e}: choose {}", known()));
    }
    if let Some(found) = settings.output.as_deref().and_then(Format::of_path) {
        return Ok(found);
    }
    if let Some(name) = settings.config.format.as_ref() {
        return name.parse().map_err(|e| anyhow::anyhow!("{e}: choose {}", known()));
    }
    let terminal = settings.output.is_none() && io::stdout().is_terminal();
    Ok(if terminal { Format::Table } else { Format::Json })
}

/// What the hand-offs need; refuses options that the format has no place for.
fn hand_off<D: AsRef<[u8]>>(
    args: &MapArgs,
    format: Format,
    index: &Index<D>,
    statuses: &[Status],
    settings: &Settings,
) -> anyhow::Result<HandOff> {
    use Format::{Csv, Json, Jsonl, Markdown, Misp, Sarif, Stix, Table};
    let refuse = |option: &str, takes: &[Format]| {
        let names: Vec<&str> = takes.iter().map(|f| f.name()).collect();
        bail!("{option} goes with --format {}, not with {}", names.join(", "), format.name())
    };
    let asked = [(args.similar_groups.is_some(), "--similar-groups"), (args.defend, "--defend")].into_iter().find(|(asked, _)| *asked);
    if let Some((_, option)) = asked.filter(|_| ![Table, Json, Jsonl, Markdown].contains(&format)) {
        refuse(option, &[Table, Json, Jsonl, Markdown])?;
    }
    if args.defanged && ![Csv, Markdown, Stix, Misp, Sarif].contains(&format) {
        refuse("--defanged", &[Csv, Markdown, Stix, Misp, Sarif])?;
    }
    if args.date.is_some() && ![Stix, Misp].contains(&format) {
        refuse("--date", &[Stix, Misp])?;
    }
    let given = args.date.as_ref().map(|d| d.parse::<Stamp>()).transpose().context("--date")?;
    let recorded = || index.provenance().and_then(|p| p.date.parse::<Stamp>().ok());
    let stamp = given.or_else(recorded).unwrap_or_else(|| {
        if [Stix, Misp].contains(&format) {
            settings.say("the knowledge base has no date: 1970-01-01 is written; --date gives another");
        }
        Stamp::EPOCH
    });
    Ok(HandOff { statuses: statuses.to_vec(), defanged: args.defanged, stamp })
}

pub(super) fn tactic<D: AsRef<[u8]>>(index: &Index<D>, text: &str) -> anyhow::Result<AttackId> {
    let by_name = || index.tactics().find(|t| t.short_name().eq_ignore_ascii_case(text) || t.name().eq_ignore_ascii_case(text));
    let by_id = text.parse().ok().and_then(|id| index.current(id)).filter(|o| o.id().kind() == Kind::Tactic);
    by_id.or_else(by_name).map(ObjectRef::id).with_context(|| {
        let known: Vec<&str> = index.tactics().map(ObjectRef::short_name).collect();
        format!("`{text}` is no tactic of ATT&CK {}: {}", index.version(), known.join(", "))
    })
}

pub(super) fn platforms<D: AsRef<[u8]>>(index: &Index<D>, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let known: std::collections::BTreeSet<&str> = index.of_kind(Kind::Technique).flat_map(ObjectRef::platforms).collect();
    for platform in wanted {
        if !known.iter().any(|k| k.eq_ignore_ascii_case(platform)) {
            bail!("`{platform}` is no platform: {}", known.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
    Ok(wanted.to_vec())
}

impl<D: AsRef<[u8]> + Sync> Job<'_, D> {
    fn map(&self, workspace: &mut Workspace, work: Work) -> Vec<Done> {
        let (name, parts) = match work {
            Work::File { name, path } => {
                let parts = self.reading.read(ingest::read_file(&path), &name, None);
                (name, parts)
            }
            Work::Bytes { name, fetched } => {
                let Fetched { bytes, file_name, content_type } = fetched;
                let parts = self.reading.read(bytes, &file_name, content_type.as_deref());
                (name, parts)
            }
            Work::Parts { name, parts } => (name, Ok(parts)),
            Work::Line { name, number, line: Ok(line) } => {
                let part = record(&line, number, &self.reading.options);
                // The text is out of it; the line may be as large again.
                drop(line);
                return vec![self.map_one(workspace, &source_of_part(&name, &part), part.document.map_err(unread))];
            }
            Work::Line { name, number, line: Err(error) } => {
                let source = Source { id: Value::from(number), ..source_of(&name) };
                return vec![self.map_one(workspace, &source, Err(format!("line {number}: {error}")))];
            }
            Work::Failed { name, error } => return vec![self.map_one(workspace, &source_of(&name), Err(error))],
        };
        match parts {
            Err(e) => vec![self.map_one(workspace, &source_of(&name), Err(unread(e)))],
            Ok(parts) => {
                let one = |part: Part| self.map_one(workspace, &source_of_part(&name, &part), part.document.map_err(unread));
                parts.into_iter().map(one).collect()
            }
        }
    }

    fn map_one(&self, workspace: &mut Workspace, source: &Source, document: Result<Document, String>) -> Done {
        match document {
            Err(error) => {
                let produced = if self.summary {
                    Produced::Failure(Box::new((source.clone(), error.clone())))
                } else {
                    Produced::Rendered(render_error(self.format, source, &error))
                };
                let id = source.id.as_str().filter(|id| *id != source.source).map(|id| format!(" ({id})")).unwrap_or_default();
                Done { produced, error: Some(format!("{}{id}: {error}", source.source)), found: false, failed_on: Vec::new() }
            }
            Ok(document) => {
                let mapping = self.mapper.map_with(workspace, &document, &self.options);
                let failed_on = self.met(&mapping);
                Done { produced: self.produce(source, &document, &mapping), error: None, found: !mapping.is_empty(), failed_on }
            }
        }
    }

    fn met(&self, mapping: &Mapping) -> Vec<AttackId> {
        let asserted: Vec<AttackId> = mapping.asserted().map(|t| t.id).collect();
        self.fail_on.iter().copied().filter(|id| asserted.iter().any(|a| a == id || a.parent() == *id)).collect()
    }

    fn produce(&self, source: &Source, document: &Document, mapping: &Mapping) -> Produced {
        if self.summary {
            return Produced::Digest(Box::new(Digest::new(source, document, mapping, &self.hand_off)));
        }
        let layout = table::Layout { width: self.width, explain: self.options.explain, ..table::Layout::default() };
        Produced::Rendered(render(self.format, self.index, (source, document, mapping), &self.hand_off, layout))
    }
}

/// Why an input could not be read, in a line.
pub(super) fn unread(error: ingest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// What a part of an input is called: the ID of a JSON record, the name of an attachment behind that of its mail.
fn source_of_part(name: &str, part: &Part) -> Source {
    let id = match (&part.id, &part.name) {
        (Some(id), _) => id.clone(),
        (None, Some(inner)) => Value::String(format!("{name}/{inner}")),
        (None, None) => Value::String(name.to_owned()),
    };
    let title = part.document.as_ref().ok().and_then(Document::title).map(str::to_owned);
    Source { id, source: name.to_owned(), title, record: part.record.clone() }
}
