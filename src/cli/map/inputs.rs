//! The inputs, one after the other, in batches of bounded size.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};

use super::super::args::MapArgs;
use super::super::settings::Settings;
use super::resume::{Position, Seen, State};
use super::walk::{Entry, walk};
use super::web::{self, Page, Web};
use ttpmap::ingest::{self, Counted, Hints, Part};
use ttpmap::text::MAX_TEXT_BYTES;

/// Inputs mapped at a time: as many as this, or as much text as the others say, one input more at most.
const BATCH_INPUTS: usize = 1024;
const BATCH_BYTES: u64 = 8 << 20;
const BATCH_BYTES_OF_A_THREAD: u64 = 1 << 20;
/// A line of JSON Lines may be so long: its text, escaped, and some more.
const MAX_LINE_BYTES: u64 = 2 * MAX_TEXT_BYTES;

/// How inputs are read.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) kind: Option<ingest::Kind>,
    pub(super) options: ingest::Options,
}

impl Reading {
    /// The kind that is given, or that a name asks for.
    fn kind_of(&self, name: &str) -> Option<ingest::Kind> {
        self.kind.or_else(|| ingest::Kind::of_name(name))
    }

    /// Reads bytes; what they are goes by a name, unless that is `-`.
    pub(super) fn read(
        &self,
        bytes: Result<Vec<u8>, ingest::Error>,
        name: &str,
        content_type: Option<&str>,
    ) -> Result<Vec<Part>, ingest::Error> {
        let name = (name != "-").then_some(name);
        ingest::read(bytes?, Hints { name, content_type, kind: self.kind }, &self.options)
    }
}

/// One narrative to map, or an input of several.
pub(super) enum Work {
    /// A file, read when its turn comes.
    File { name: String, path: PathBuf },
    /// What was read already: standard input, a page.
    Bytes { name: String, fetched: Fetched },
    /// What was read for `--text-out`.
    Parts { name: String, parts: Vec<Part> },
    /// A line of JSON Lines, by number from 1, or what is wrong with it.
    Line { name: Arc<str>, number: usize, line: Result<Vec<u8>, String> },
    /// An input that can't be had.
    Failed { name: String, error: String },
}

/// The bytes of an input, and what is known of them.
pub(super) struct Fetched {
    pub(super) bytes: Result<Vec<u8>, ingest::Error>,
    /// What they go by; `-` for none.
    pub(super) file_name: String,
    pub(super) content_type: Option<String>,
}

/// Works, each with the bytes that it takes a progress bar on.
pub(super) type Batch = Vec<(Work, u64)>;

#[derive(Debug)]
enum Input {
    Stdin,
    Web(String),
    /// One that a folder has may be anything, and is not opened unless it is a regular file.
    File {
        path: PathBuf,
        of_folder: bool,
    },
    Failed {
        path: PathBuf,
        error: String,
    },
}

impl Input {
    fn name(&self) -> String {
        match self {
            Input::Stdin => "-".to_owned(),
            Input::Web(name) => web::shown(name),
            Input::File { path, .. } | Input::Failed { path, .. } => path.display().to_string(),
        }
    }

    /// What tells that it is still the same: size and time of change of a file; nothing for what has none.
    fn seen(&self) -> Seen {
        match self {
            Input::File { path, .. } => Seen::of(self.name(), path.metadata().ok().as_ref()),
            _ => Seen::of(self.name(), None),
        }
    }
}

/// The inputs.
pub(super) struct Inputs {
    rest: VecDeque<Input>,
    reading: Reading,
    web: Web,
    /// The only input, read already: see [`Inputs::text_out`].
    copied: Option<Work>,
    records: Option<Records>,
    many: bool,
    /// Files and so on that were handed out to their end since [`Inputs::take_finished`].
    finished: Vec<Seen>,
    /// Where to begin in the first input.
    begin: Option<Position>,
}

impl Inputs {
    pub(super) fn new(args: &MapArgs, reading: Reading, settings: &Settings) -> anyhow::Result<Inputs> {
        let web = Web::new(args, settings)?;
        let mut rest = VecDeque::new();
        let (mut many, mut folders) = (false, false);
        // What this run writes, or an earlier one wrote, is none of its inputs.
        let own = [settings.output.as_deref(), args.resume.as_deref()];
        let own: Vec<PathBuf> = own.into_iter().flatten().filter_map(|p| p.canonicalize().ok()).collect();
        let is_own = |path: &Path| own.iter().any(|o| o.file_name() == path.file_name() && path.canonicalize().is_ok_and(|p| p == *o));
        for name in &args.inputs {
            if name == "-" {
                rest.push_back(Input::Stdin);
                continue;
            }
            if web::is_address(name) {
                rest.push_back(Input::Web(name.clone()));
                continue;
            }
            let path = Path::new(name);
            if !std::fs::metadata(path).with_context(|| name.clone())?.is_dir() {
                rest.push_back(Input::File { path: path.to_owned(), of_folder: false });
                continue;
            }
            (many, folders) = (true, true);
            let entries = walk(path, &args.glob)?;
            if entries.is_empty() && args.glob.is_empty() {
                bail!("{name}: no file in it that is read (.txt, .md, .html, .pdf, .docx, .eml, .jsonl and the like)");
            }
            if entries.is_empty() {
                bail!("{name}: no file in it that --glob picks and .ttpmapignore leaves");
            }
            rest.extend(entries.into_iter().filter_map(|entry| match entry {
                Entry::File(path) => (!is_own(&path)).then_some(Input::File { path, of_folder: true }),
                Entry::Failed { path, why } => Some(Input::Failed { path, error: why }),
            }));
        }
        if !args.glob.is_empty() && !folders {
            bail!("--glob picks files of folders, and no folder is named");
        }
        let records = |input: &Input| matches!(reading.kind_of(&input.name()), Some(ingest::Kind::Json | ingest::Kind::Jsonl));
        let many = many || args.attachments || rest.len() > 1 || rest.iter().any(records);
        Ok(Inputs { rest, reading, web, copied: None, records: None, many, finished: Vec::new(), begin: None })
    }

    /// Whether there may be several narratives.
    pub(super) fn is_many(&self) -> bool {
        self.many
    }

    /// How many inputs there are; none where some hold records, of which nobody knows how many.
    pub(super) fn count(&self) -> Option<usize> {
        let streams = self.rest.iter().any(|input| self.is_stream(&input.name()));
        (!streams).then_some(self.rest.len())
    }

    /// Bytes of all inputs, as files have them; none where some are no files.
    pub(super) fn bytes(&self) -> Option<u64> {
        let of = |input: &Input| match input {
            Input::File { path, .. } => Some(path.metadata().map_or(0, |m| m.len())),
            Input::Failed { .. } => Some(0),
            Input::Stdin | Input::Web(_) => None,
        };
        self.rest.iter().map(of).sum()
    }

    fn is_stream(&self, name: &str) -> bool {
        self.reading.kind_of(name) == Some(ingest::Kind::Jsonl)
    }

    /// Leaves out what an earlier run did.
    ///
    /// # Errors
    /// Where an input is not what it was then.
    pub(super) fn leave_out(&mut self, mut state: State) -> anyhow::Result<()> {
        let mut kept = VecDeque::new();
        for input in std::mem::take(&mut self.rest) {
            let now = input.seen();
            let same = |then: &Seen| {
                if *then != now {
                    bail!(
                        "{}: changed since it was mapped into the output; remove the output and the file of --resume to begin anew",
                        now.name
                    );
                }
                Ok(())
            };
            if let Some(then) = state.take_done(&now.name) {
                same(&then)?;
                continue;
            }
            if let Some(position) = state.at.take_if(|at| at.seen.name == now.name) {
                same(&position.seen)?;
                // It is the first of what is left, for inputs are done in order; files that are new come after it.
                kept.push_front(input);
                self.begin = Some(position);
                continue;
            }
            kept.push_back(input);
        }
        if let Some(position) = state.at {
            bail!("{}: it was being mapped and is not there now; it is needed to go on", position.seen.name);
        }
        self.rest = kept;
        Ok(())
    }

    /// What was handed out to its end since this was asked last.
    pub(super) fn take_finished(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.finished)
    }

    /// How far the input that holds records was handed out.
    pub(super) fn position(&self) -> Option<Position> {
        let records = self.records.as_ref()?;
        Some(Position { seen: records.seen.clone(), line: records.line, offset: records.offset })
    }

    /// Copies the text of the only input, as it will be read, to a file.
    pub(super) fn text_out(&mut self, path: &Path) -> anyhow::Result<()> {
        if self.rest.len() != 1 {
            bail!("--text-out takes one input, here are {}", self.rest.len());
        }
        if self.many {
            bail!("--text-out takes one text, not a folder, JSON records or a mail with its attachments");
        }
        let Some(input) = self.rest.pop_front() else { return Ok(()) };
        let name = input.name();
        let parts = self.parts(input).with_context(|| name.clone())?;
        if let [Part { document: Ok(document), .. }] = &parts[..] {
            std::fs::write(path, document.text()).with_context(|| format!("writing {}", path.display()))?;
        }
        self.copied = Some(Work::Parts { name, parts });
        Ok(())
    }

    /// Fetches the only input where it is a web address: whether there are several narratives at it, nobody knows before.
    pub(super) fn fetch_only(&mut self) {
        if self.many || !matches!(self.rest.front(), Some(Input::Web(_))) {
            return;
        }
        let Some(input) = self.rest.pop_front() else { return };
        let name = input.name();
        self.copied = Some(match self.parts(input) {
            Ok(parts) => {
                self.many = parts.len() > 1;
                Work::Parts { name, parts }
            }
            Err(e) => Work::Failed { name, error: format!("{e:#}") },
        });
    }

    /// Reads an input as a whole.
    fn parts(&mut self, input: Input) -> anyhow::Result<Vec<Part>> {
        let Fetched { bytes, file_name, content_type } = self.fetched(input)?;
        Ok(self.reading.read(bytes, &file_name, content_type.as_deref())?)
    }

    /// The bytes of an input.
    fn fetched(&mut self, input: Input) -> anyhow::Result<Fetched> {
        let name = input.name();
        Ok(match input {
            Input::Stdin => Fetched { bytes: ingest::read_bounded(io::stdin().lock()), file_name: name, content_type: None },
            Input::File { path, .. } => Fetched { bytes: ingest::read_file(&path), file_name: name, content_type: None },
            Input::Web(address) => {
                let Page { bytes, file_name, content_type } = self.web.get(&address)?;
                Fetched { bytes: Ok(bytes), file_name, content_type }
            }
            Input::Failed { error, .. } => bail!("{error}"),
        })
    }

    /// What is to be mapped next; nothing at the end.
    pub(super) fn batch(&mut self, threads: usize) -> Batch {
        let mut batch = Batch::new();
        let most = BATCH_BYTES.max(BATCH_BYTES_OF_A_THREAD * threads as u64);
        let mut bytes = 0;
        while batch.len() < BATCH_INPUTS && bytes < most {
            let Some((work, weight)) = self.next() else { break };
            bytes += match &work {
                Work::File { .. } => weight,
                Work::Bytes { .. } | Work::Parts { .. } => most,
                Work::Line { line, .. } => line.as_ref().map_or(0, |l| l.len() as u64),
                Work::Failed { .. } => 0,
            };
            batch.push((work, weight));
        }
        batch
    }

    fn next(&mut self) -> Option<(Work, u64)> {
        if let Some(work) = self.copied.take() {
            return Some((work, 0));
        }
        loop {
            if let Some(records) = &mut self.records {
                if let Some(next) = records.next() {
                    return Some(next);
                }
                self.finished.extend(self.records.take().map(|r| r.seen));
            }
            let input = self.rest.pop_front()?;
            let begin = self.begin.take();
            let (name, seen) = (input.name(), input.seen());
            let (work, size) = match input {
                Input::Stdin if self.is_stream(&name) => match Records::open(seen.clone(), io::stdin(), None) {
                    Ok(records) => {
                        self.records = Some(records);
                        continue;
                    }
                    Err(e) => (Work::Failed { name, error: e.to_string() }, 0),
                },
                Input::File { path, of_folder } if self.is_stream(&name) && (!of_folder || path.is_file()) => {
                    let size = seen.size;
                    match File::open(&path).and_then(|file| Records::open(seen.clone(), file, begin)) {
                        Ok(records) => {
                            self.records = Some(records);
                            continue;
                        }
                        Err(e) => (Work::Failed { name, error: e.to_string() }, size),
                    }
                }
                Input::File { path, .. } => (Work::File { name, path }, seen.size),
                input => match self.fetched(input) {
                    Ok(fetched) => (Work::Bytes { name, fetched }, 0),
                    Err(e) => (Work::Failed { name, error: format!("{e:#}") }, 0),
                },
            };
            self.finished.push(seen);
            return Some((work, size));
        }
    }
}

/// A JSONL input that is being read, packed or not.
struct Records {
    seen: Seen,
    name: Arc<str>,
    reader: Box<dyn BufRead + Send>,
    /// Bytes read of the input as it is, and how many of them are accounted for.
    read: Arc<AtomicU64>,
    weighed: u64,
    /// Lines handed out, and where the next begins in what the input holds, unpacked.
    line: usize,
    offset: u64,
    broken: bool,
}

impl Records {
    fn open(seen: Seen, input: impl Read + Send + 'static, begin: Option<Position>) -> io::Result<Records> {
        let read = Arc::new(AtomicU64::new(0));
        let mut reader = ingest::unpacked(Counted::new(input, Arc::clone(&read)))?;
        let (mut line, mut offset) = (0, 0);
        if let Some(begin) = begin {
            // Packed or not, what was done is read over.
            io::copy(&mut (&mut reader).take(begin.offset), &mut io::sink())?;
            (line, offset) = (begin.line, begin.offset);
        }
        Ok(Records { name: seen.name.as_str().into(), seen, reader, read, weighed: 0, line, offset, broken: false })
    }

    /// The next line that isn't blank, and how far reading it went on.
    fn next(&mut self) -> Option<(Work, u64)> {
        loop {
            if self.broken {
                return None;
            }
            let mut line = Vec::new();
            let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return None,
                Ok(read) => {
                    self.line += 1;
                    self.offset += read as u64;
                    if read as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
                        drop(line);
                        self.skip_line();
                        Err(format!("longer than {} MiB", MAX_LINE_BYTES >> 20))
                    } else {
                        if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
                            line.drain(..3);
                        }
                        if line.iter().all(u8::is_ascii_whitespace) {
                            continue;
                        }
                        Ok(line)
                    }
                }
                // Nothing after it can be read.
                Err(e) => {
                    self.line += 1;
                    self.broken = true;
                    Err(e.to_string())
                }
            };
            let read = self.read.load(Ordering::Relaxed);
            let weight = read - self.weighed;
            self.weighed = read;
            return Some((Work::Line { name: Arc::clone(&self.name), number: self.line, line }, weight));
        }
    }

    /// Goes to the end of a line without keeping it.
    fn skip_line(&mut self) {
        loop {
            let (used, ended) = match self.reader.fill_buf() {
                Ok(buffer) => match buffer.iter().position(|b| *b == b'\n') {
                    Some(at) => (at + 1, true),
                    None => (buffer.len(), buffer.is_empty()),
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            };
            self.reader.consume(used);
            self.offset += used as u64;
            if ended {
                return;
            }
        }
    }
}
