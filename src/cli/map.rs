//! `ttpmap map`: inputs in order, mapped on all cores in batches, written in order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rayon::prelude::*;
use serde_json::Value;

use super::args::{MapArgs, ProfileName};
use super::settings::Settings;
use super::{Outcome, open_index};
use ttpmap::export::assembly::{Assembly, render, render_error};
use ttpmap::export::handoff::{HandOff, Stamp};
use ttpmap::export::{Format, Rendered, Source, table};
use ttpmap::index::ObjectRef;
use ttpmap::ingest::{self, Hints, Part, take};
use ttpmap::model::Profile;
use ttpmap::rank::{Options, Workspace};
use ttpmap::status::Status;
use ttpmap::text::MAX_TEXT_BYTES;
use ttpmap::{AttackId, Document, Index, Kind, Mapper, Mapping};

/// Inputs mapped at a time: as many as this, or as much text as the other.
const BATCH_INPUTS: usize = 256;
const BATCH_BYTES: usize = 16 << 20;
/// Folders are followed so deep.
const MAX_DEPTH: usize = 64;

/// One narrative to map.
enum Work {
    /// A file, read when its turn comes.
    File(PathBuf),
    /// Standard input, or a file that was read for `--text-out`.
    Read { name: String, parts: Result<Vec<Part>, ingest::Error> },
    /// A record of a JSONL input.
    Record { source: Source, text: Result<String, String> },
}

/// A narrative mapped and written out.
struct Done {
    rendered: Rendered,
    /// Why the input could not be read.
    error: Option<String>,
    found: bool,
    failed_on: Vec<AttackId>,
}

struct Job<'a, D> {
    index: &'a Index<D>,
    mapper: Mapper<'a, D>,
    options: Options,
    format: Format,
    hand_off: HandOff,
    fail_on: Vec<AttackId>,
    width: usize,
    reading: Reading,
}

/// How inputs are read.
#[derive(Clone)]
struct Reading {
    kind: Option<ingest::Kind>,
    options: ingest::Options,
}

impl Reading {
    fn read(&self, name: &str, bytes: Result<Vec<u8>, ingest::Error>) -> Result<Vec<Part>, ingest::Error> {
        let name = (name != "-").then_some(name);
        ingest::read(bytes?, Hints { name, kind: self.kind, ..Hints::default() }, &self.options)
    }
}

pub(crate) fn run(args: &MapArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let index = open_index(settings)?;
    let format = format(args, settings)?;
    let statuses = args.status.iter().map(|s| s.parse()).collect::<Result<Vec<Status>, _>>()?;
    let options = Options {
        min_confidence: args.min_confidence.or(settings.config.min_confidence),
        profile: match args.profile {
            ProfileName::Precise => Profile::Precise,
            ProfileName::Balanced => Profile::Balanced,
            ProfileName::Thorough => Profile::Thorough,
        },
        statuses,
        tactics: args.tactic.iter().map(|t| tactic(&index, t)).collect::<anyhow::Result<Vec<_>>>()?,
        platforms: platforms(&index, &args.platform)?,
        top: args.top,
        implied: args.implied,
        explain: args.explain,
        similar_groups: args.similar_groups,
        defenses: args.defend,
    };
    let hand_off = hand_off(args, format, &index, &options.statuses, settings)?;
    let fail_on = args.fail_on.iter().map(|id| id.parse()).collect::<Result<Vec<AttackId>, _>>()?;
    let width = terminal_size::terminal_size().map_or(100, |(w, _)| usize::from(w.0)).clamp(60, 160);
    let reading = Reading {
        kind: args.input.given(),
        options: ingest::Options { attachments: args.attachments, text_field: args.text_field.clone(), id_field: args.id_field.clone() },
    };
    let mut inputs = Inputs::new(args, reading.clone())?;
    let job = Job { index: &index, mapper: Mapper::new(&index), options, format, hand_off, fail_on, width, reading };
    let threads = args.jobs.or(settings.config.jobs).unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;

    if io::stdin().is_terminal() && args.inputs == ["-"] {
        settings.say("reading a narrative from the terminal; end it with Ctrl-D (or name a file: ttpmap map report.txt)");
    }
    if let Some(path) = &args.text_out {
        inputs.text_out(path)?;
    }
    if format == Format::Svg && inputs.is_many() {
        bail!("svg is a picture of one narrative: name one file, or make a layer of several (`ttpmap layer new --narratives`)");
    }
    let mut out = Output::open(settings, Assembly::new(&index, format, inputs.is_many()), format)?;
    let (mut found, mut failed, mut met) = (false, 0_usize, Vec::<AttackId>::new());
    loop {
        let batch = inputs.batch()?;
        if batch.is_empty() {
            break;
        }
        let done: Vec<Vec<Done>> =
            pool.install(|| batch.into_par_iter().map_init(Workspace::default, |w, work| job.map(w, work)).collect());
        for one in done.into_iter().flatten() {
            if let Some(error) = &one.error {
                failed += 1;
                anstream::eprintln!("ttpmap: {}", table::printable(error));
            }
            found |= one.found;
            met.extend(&one.failed_on);
            out.item(&one)?;
        }
    }
    out.finish(settings)?;
    met.sort();
    met.dedup();
    if failed > 0 {
        return Ok(Outcome::Failed);
    }
    if !met.is_empty() {
        let ids: Vec<String> = met.iter().map(ToString::to_string).collect();
        settings.say(&format!("asserted, and named by --fail-on: {}", ids.join(", ")));
        return Ok(Outcome::Unmet);
    }
    Ok(if found { Outcome::Done } else { Outcome::Unmet })
}

fn format(args: &MapArgs, settings: &Settings) -> anyhow::Result<Format> {
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
            Work::File(path) => {
                let name = path.display().to_string();
                let parts = self.reading.read(&name, ingest::read_file(&path));
                (name, parts)
            }
            Work::Read { name, parts } => (name, parts),
            Work::Record { source, text } => return vec![self.map_one(workspace, &source, text.map(Document::new))],
        };
        let say = |e: ingest::Error| format!("{:#}", anyhow::Error::from(e));
        match parts {
            Err(e) => vec![self.map_one(workspace, &source_of(&name), Err(say(e)))],
            Ok(parts) => {
                let one = |part: Part| self.map_one(workspace, &source_of_part(&name, &part), part.document.map_err(say));
                parts.into_iter().map(one).collect()
            }
        }
    }

    fn map_one(&self, workspace: &mut Workspace, source: &Source, document: Result<Document, String>) -> Done {
        match document {
            Err(error) => {
                let rendered = render_error(self.format, source, &error);
                let id = source.id.as_str().filter(|id| *id != source.source).map(|id| format!(" ({id})")).unwrap_or_default();
                Done { rendered, error: Some(format!("{}{id}: {error}", source.source)), found: false, failed_on: Vec::new() }
            }
            Ok(document) => {
                let mapping = self.mapper.map_with(workspace, &document, &self.options);
                let failed_on = self.met(&mapping);
                Done { rendered: self.render(source, &document, &mapping), error: None, found: !mapping.is_empty(), failed_on }
            }
        }
    }

    fn met(&self, mapping: &Mapping) -> Vec<AttackId> {
        let asserted: Vec<AttackId> = mapping.asserted().map(|t| t.id).collect();
        self.fail_on.iter().copied().filter(|id| asserted.iter().any(|a| a == id || a.parent() == *id)).collect()
    }

    fn render(&self, source: &Source, document: &Document, mapping: &Mapping) -> Rendered {
        let layout = table::Layout { width: self.width, explain: self.options.explain, ..table::Layout::default() };
        render(self.format, self.index, (source, document, mapping), &self.hand_off, layout)
    }
}

fn source_of(name: &str) -> Source {
    Source { id: Value::String(name.to_owned()), source: name.to_owned(), title: None, record: None }
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

/// The inputs, one after the other.
struct Inputs {
    rest: std::vec::IntoIter<String>,
    reading: Reading,
    /// The only input, read already: see [`Inputs::text_out`].
    copied: Option<Work>,
    records: Option<Records>,
    many: bool,
}

/// A JSONL input that is being read.
struct Records {
    name: String,
    reader: Box<dyn BufRead>,
    line: usize,
}

impl Inputs {
    fn new(args: &MapArgs, reading: Reading) -> anyhow::Result<Inputs> {
        let mut all = Vec::new();
        let mut many = false;
        for name in &args.inputs {
            if name == "-" {
                all.push(name.clone());
                continue;
            }
            if name.starts_with("http://") || name.starts_with("https://") {
                bail!("{name}: web pages are not read yet; save the page as text and name the file");
            }
            let path = Path::new(name);
            let meta = std::fs::metadata(path).with_context(|| name.clone())?;
            if meta.is_dir() {
                many = true;
                let before = all.len();
                walk(path, 0, &mut all)?;
                if all.len() == before {
                    bail!("{name}: no file in it that is read (.txt, .md, .html, .pdf, .docx, .eml, .jsonl and the like)");
                }
            } else {
                all.push(name.clone());
            }
        }
        let records = |name: &String| matches!(reading.kind_of(name), Some(ingest::Kind::Json | ingest::Kind::Jsonl));
        let many = many || args.attachments || all.len() > 1 || all.iter().any(records);
        Ok(Inputs { rest: all.into_iter(), reading, copied: None, records: None, many })
    }

    fn is_many(&self) -> bool {
        self.many
    }

    /// Copies the text of the only input, as it will be read, to a file.
    fn text_out(&mut self, path: &Path) -> anyhow::Result<()> {
        let all: Vec<String> = self.rest.by_ref().collect();
        let [name] = &all[..] else { bail!("--text-out takes one input, here are {}", all.len()) };
        if self.many {
            bail!("--text-out takes one text, not a folder, JSON records or a mail with its attachments");
        }
        let bytes = if name == "-" { ingest::read_bounded(io::stdin().lock()) } else { ingest::read_file(Path::new(name)) };
        let parts = self.reading.read(name, bytes).with_context(|| name.clone())?;
        if let [Part { document: Ok(document), .. }] = &parts[..] {
            std::fs::write(path, document.text()).with_context(|| format!("writing {}", path.display()))?;
        }
        self.copied = Some(Work::Read { name: name.clone(), parts: Ok(parts) });
        Ok(())
    }

    fn batch(&mut self) -> anyhow::Result<Vec<Work>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_INPUTS && bytes < BATCH_BYTES {
            let Some(work) = self.next()? else { break };
            bytes += match &work {
                Work::File(path) => std::fs::metadata(path).map_or(0, |m| m.len() as usize),
                Work::Read { .. } => BATCH_BYTES,
                Work::Record { text, .. } => text.as_ref().map_or(0, String::len),
            };
            batch.push(work);
        }
        Ok(batch)
    }

    fn next(&mut self) -> anyhow::Result<Option<Work>> {
        if let Some(work) = self.copied.take() {
            return Ok(Some(work));
        }
        loop {
            if let Some(records) = &mut self.records {
                if let Some(work) = records.next(&self.reading.options)? {
                    return Ok(Some(work));
                }
                self.records = None;
            }
            let Some(name) = self.rest.next() else { return Ok(None) };
            // Packed ones are read as a whole.
            let streamed = self.reading.kind_of(&name) == Some(ingest::Kind::Jsonl) && !name.ends_with(".gz") && !name.ends_with(".zst");
            match (streamed, name.as_str()) {
                (true, "-") => {
                    self.records = Some(Records { name, reader: Box::new(BufReader::new(io::stdin())), line: 0 });
                }
                (true, _) => {
                    let file = File::open(&name).with_context(|| name.clone())?;
                    self.records = Some(Records { name, reader: Box::new(BufReader::with_capacity(1 << 16, file)), line: 0 });
                }
                (false, "-") => {
                    let parts = self.reading.read("-", ingest::read_bounded(io::stdin().lock()));
                    return Ok(Some(Work::Read { name, parts }));
                }
                (false, _) => return Ok(Some(Work::File(PathBuf::from(name)))),
            }
        }
    }
}

impl Reading {
    /// The kind that is given, or that a name asks for.
    pub(super) fn kind_of(&self, name: &str) -> Option<ingest::Kind> {
        self.kind.or_else(|| ingest::Kind::of_name(name))
    }
}

/// The files of a folder that are read as text, by name; hidden ones and links to folders are passed over.
pub(super) fn walk(folder: &Path, depth: usize, out: &mut Vec<String>) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: folders are nested more than {MAX_DEPTH} deep", folder.display());
    }
    let mut entries =
        std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(|| folder.display().to_string())?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind_of_entry = entry.file_type().with_context(|| path.display().to_string())?;
        if kind_of_entry.is_dir() {
            walk(&path, depth + 1, out)?;
        } else if path.is_file() && is_read(&path.display().to_string()) {
            out.push(path.display().to_string());
        }
    }
    Ok(())
}

/// Whether a file of a folder is read: JSON is not, for much of it is no narrative.
fn is_read(name: &str) -> bool {
    ingest::Kind::of_name(name).is_some_and(|kind| kind != ingest::Kind::Json)
}

impl Records {
    /// The next record; a bad line becomes a record with the error in its place. Blank lines are passed over.
    fn next(&mut self, options: &ingest::Options) -> anyhow::Result<Option<Work>> {
        loop {
            let mut line = Vec::new();
            let limit = MAX_TEXT_BYTES * 2;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line).with_context(|| self.name.clone())?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            let (number, name) = (self.line, self.name.clone());
            let error = |what: String| {
                let source = Source { id: Value::from(number), source: name, title: None, record: None };
                Ok(Some(Work::Record { source, text: Err(format!("line {number}: {what}")) }))
            };
            if read as u64 == limit && line.last() != Some(&b'\n') {
                self.skip_line()?;
                return error(format!("longer than {} MiB", limit >> 20));
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let mut object: Value = match serde_json::from_slice(&line) {
                Ok(object @ Value::Object(_)) => object,
                Ok(_) => return error("not a JSON object".to_owned()),
                Err(e) => return error(format!("not JSON: {e}")),
            };
            let id = take(&mut object, &options.id_field).unwrap_or_else(|| Value::from(self.line));
            let title = object.get("title").and_then(Value::as_str).map(str::to_owned);
            let text_field = &options.text_field;
            let text = match take(&mut object, text_field) {
                Some(Value::String(text)) if text.len() as u64 <= MAX_TEXT_BYTES => Ok(text),
                Some(Value::String(_)) => Err(format!("line {}: the text is over {} MiB", self.line, MAX_TEXT_BYTES >> 20)),
                Some(_) => Err(format!("line {}: `{text_field}` is not a string", self.line)),
                None => Err(format!("line {}: no field `{text_field}` (see --text-field)", self.line)),
            };
            let record = match object {
                Value::Object(rest) if !rest.is_empty() => Some(rest),
                _ => None,
            };
            return Ok(Some(Work::Record { source: Source { id, source: self.name.clone(), title, record }, text }));
        }
    }

    fn skip_line(&mut self) -> anyhow::Result<()> {
        loop {
            let buffer = self.reader.fill_buf().with_context(|| self.name.clone())?;
            if buffer.is_empty() {
                return Ok(());
            }
            let (used, ended) = match buffer.iter().position(|b| *b == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), false),
            };
            self.reader.consume(used);
            if ended {
                return Ok(());
            }
        }
    }
}

/// Where the answers go: standard output as they come, or a file that is replaced at the end.
struct Output<'a, D> {
    assembly: Assembly<'a, D>,
    styled: bool,
    target: Target,
}

enum Target {
    Stdout(io::BufWriter<io::Stdout>),
    Held(Vec<u8>),
}

impl<'a, D: AsRef<[u8]>> Output<'a, D> {
    fn open(settings: &Settings, assembly: Assembly<'a, D>, format: Format) -> anyhow::Result<Output<'a, D>> {
        // A table is styled as a whole; a file is replaced as a whole. All else leaves as it comes.
        let styled = format == Format::Table;
        let held = styled || settings.output.as_deref().is_some_and(|p| p != Path::new("-"));
        let target = if held { Target::Held(Vec::new()) } else { Target::Stdout(io::BufWriter::with_capacity(1 << 16, io::stdout())) };
        let mut out = Output { assembly, styled, target };
        let head = out.assembly.head();
        out.put(&head)?;
        Ok(out)
    }

    fn put(&mut self, text: &str) -> anyhow::Result<()> {
        match &mut self.target {
            Target::Stdout(out) => out.write_all(text.as_bytes())?,
            Target::Held(bytes) => bytes.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    }

    fn item(&mut self, done: &Done) -> anyhow::Result<()> {
        let text = self.assembly.item(&done.rendered, done.error.as_deref());
        self.put(&text)
    }

    fn finish(mut self, settings: &Settings) -> anyhow::Result<()> {
        let tail = self.assembly.tail();
        self.put(&tail)?;
        match self.target {
            Target::Stdout(mut out) => out.flush()?,
            Target::Held(bytes) if self.styled => settings.write_styled(&String::from_utf8_lossy(&bytes))?,
            Target::Held(bytes) => settings.write(&bytes)?,
        }
        Ok(())
    }
}
