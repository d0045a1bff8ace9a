//! `--resume`: what a long run has done, so that one that was killed goes on where it was.
//!
//! The file is JSON Lines. The first line says what the run is: knowledge base, settings, inputs, output. Then comes a line
//! for each batch, when its answers are on disk: which inputs are done, how far the one with records is, and how long the
//! output is. Answers are written and synced before the line that speaks of them, and a line counts when it is whole; so
//! what was killed in between is cut off the output and mapped again, and nothing is lost or there twice.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use ttpmap::AttackId;
use ttpmap::source;

/// The form of the file.
const FORM: u32 = 1;
/// So many bytes at the end of the output are remembered, to know it again.
const TAIL_BYTES: u64 = 4096;
/// The file of a run over millions of inputs is not larger.
const MAX_BYTES: u64 = 4 << 30;

/// An input as it was when its turn came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
}

impl Seen {
    /// Of a file; zeros for what is none, or is not there.
    pub(super) fn of(name: String, meta: Option<&Metadata>) -> Seen {
        let modified = meta.and_then(|m| m.modified().ok()).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        Seen { name, size: meta.map_or(0, Metadata::len), modified: modified.and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0) }
    }
}

/// How far an input with records is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    #[serde(flatten)]
    pub(super) seen: Seen,
    /// Lines that are done.
    pub(super) line: usize,
    /// Bytes that are done of what it holds, unpacked.
    pub(super) offset: u64,
}

/// What a run comes to so far; the exit code tells it in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) found: bool,
    pub(super) failed: usize,
    /// Techniques that `--fail-on` names and that are asserted, as IDs.
    pub(super) met: Vec<String>,
}

impl Tally {
    pub(super) fn meet(&mut self, ids: &[AttackId]) {
        for id in ids {
            let id = id.to_string();
            if let Err(place) = self.met.binary_search(&id) {
                self.met.insert(place, id);
            }
        }
    }
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    ttpmap_resume: u32,
    /// All that answers depend on, by the name that a user knows it by.
    settings: Map<String, Value>,
}

/// A line for a batch.
#[derive(Debug, Serialize, Deserialize)]
struct Step {
    done: Vec<Seen>,
    at: Option<Position>,
    /// Length of the output, and the digest of its end.
    length: u64,
    tail: String,
    #[serde(flatten)]
    tally: Tally,
}

/// What an earlier run did.
#[derive(Debug, Default)]
pub(super) struct State {
    done: BTreeMap<String, VecDeque<Seen>>,
    pub(super) at: Option<Position>,
    pub(super) tally: Tally,
    /// Inputs that are done.
    pub(super) inputs: usize,
}

impl State {
    /// An input of this name that is done, once for each time that it was.
    pub(super) fn take_done(&mut self, name: &str) -> Option<Seen> {
        self.done.get_mut(name)?.pop_front()
    }
}

/// The file of `--resume`, and the output that it speaks of.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Its first line, where it is new; how much of it holds otherwise.
    first: Option<Vec<u8>>,
    whole: u64,
    output: File,
    output_path: PathBuf,
    /// Length of the output, its end.
    length: u64,
    tail: Vec<u8>,
    /// Answers since the last step.
    pending: Vec<u8>,
}

impl Journal {
    /// Takes up a run, or begins one; `settings` are all that answers depend on. Changes nothing yet that is there.
    ///
    /// # Errors
    /// Where the files are of another run, or can't be read and written.
    pub(super) fn open(path: &Path, output: &Path, settings: Map<String, Value>) -> anyhow::Result<(Journal, State)> {
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            file.with_context(|| path.display().to_string())
        };
        if output.metadata().is_ok_and(|m| !m.is_file()) {
            bail!("--resume: {} is no regular file, and can't be cut back to where a run was", output.display());
        }
        let begun = path.metadata().is_ok_and(|m| m.len() > 0);
        if !begun && output.metadata().is_ok_and(|m| m.len() > 0) {
            bail!(
                "--resume: {} is there already, and {} doesn't tell what is in it: remove it, or name another output",
                output.display(),
                path.display()
            );
        }
        let mut file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("--resume: another ttpmap writes {}", path.display()),
            // Not every file system has locks.
            Err(TryLockError::Error(_)) => {}
        }
        let earlier = if begun { read(&mut file, path, &settings)? } else { None };
        let first = earlier.is_none().then(|| serde_json::to_vec(&Head { ttpmap_resume: FORM, settings })).transpose()?;
        let earlier = earlier.unwrap_or_default();
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            first,
            whole: earlier.whole,
            output: open(output)?,
            output_path: output.to_owned(),
            length: earlier.length,
            tail: Vec::new(),
            pending: Vec::new(),
        };
        journal.check_output(&earlier.tail)?;
        Ok((journal, earlier.state))
    }

    /// The output is long enough, and was so at this place.
    fn check_output(&mut self, tail: &str) -> anyhow::Result<()> {
        let name = || self.output_path.display().to_string();
        let wrong = |what: &str| {
            let path = self.path.display();
            anyhow::anyhow!("--resume: {} {what}: it is not the output that {path} tells of; remove both to begin anew", name())
        };
        if self.output.metadata().with_context(name)?.len() < self.length {
            return Err(wrong("is shorter than it was"));
        }
        let from = self.length.saturating_sub(TAIL_BYTES);
        let mut end = Vec::new();
        (&self.output).seek(SeekFrom::Start(from)).with_context(name)?;
        (&self.output).take(self.length - from).read_to_end(&mut end).with_context(name)?;
        if self.length > 0 && source::digest(&end) != tail {
            return Err(wrong("doesn't end as it did"));
        }
        self.tail = end;
        Ok(())
    }

    /// Cuts off both files what no whole step speaks of. A new output begins with `head`.
    pub(super) fn begin(&mut self, head: &str) -> anyhow::Result<()> {
        let cut = |mut file: &File, length: u64| file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
        cut(&self.file, self.whole).with_context(|| self.path.display().to_string())?;
        cut(&self.output, self.length).with_context(|| self.output_path.display().to_string())?;
        if let Some(mut line) = self.first.take() {
            line.push(b'\n');
            self.file.write_all(&line).and_then(|()| self.file.sync_data()).with_context(|| self.path.display().to_string())?;
        }
        if self.length == 0 {
            self.write(head.as_bytes());
        }
        Ok(())
    }

    /// Adds to the answers of this step.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Puts the answers of a step on disk, and then the word that they are there.
    pub(super) fn step(&mut self, done: Vec<Seen>, at: Option<Position>, tally: &Tally) -> anyhow::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let written = self.output.write_all(&pending).and_then(|()| self.output.sync_data());
        written.with_context(|| format!("writing {}", self.output_path.display()))?;
        self.length += pending.len() as u64;
        self.tail.extend_from_slice(&pending);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES as usize);
        self.tail.drain(..surplus);
        let step = Step { done, at, length: self.length, tail: source::digest(&self.tail), tally: tally.clone() };
        let mut line = serde_json::to_vec(&step)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

/// What is told of an earlier run.
#[derive(Default)]
struct Earlier {
    state: State,
    length: u64,
    tail: String,
    /// Up to here lines are whole.
    whole: u64,
}

/// Reads what a run did; nothing where not even the first line is whole.
fn read(file: &mut File, path: &Path, settings: &Map<String, Value>) -> anyhow::Result<Option<Earlier>> {
    let name = || path.display().to_string();
    if file.metadata().with_context(name)?.len() > MAX_BYTES {
        bail!("--resume: {} is larger than any file of --resume", path.display());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(name)?;
    let foreign = || anyhow::anyhow!("--resume: {} was not written by --resume of this version; name another file", path.display());
    // A line that was cut off when the run was killed is none.
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if whole == 0 {
        // The first line is written in one go: only its beginning can be here.
        return if bytes.starts_with(b"{\"ttpmap_resume\":") { Ok(None) } else { Err(foreign()) };
    }
    let mut lines = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let head: Head = lines.next().and_then(|line| serde_json::from_slice(line).ok()).ok_or_else(foreign)?;
    if head.ttpmap_resume != FORM {
        return Err(foreign());
    }
    let differs = |(key, now): (&String, &Value)| {
        let then = head.settings.get(key).unwrap_or(&Value::Null);
        (then != now).then(|| format!("{key} was {then} and is {now}"))
    };
    let differences: Vec<String> = settings.iter().filter_map(differs).collect();
    if !differences.is_empty() {
        bail!(
            "--resume: {} is of a run with other settings: {}; repeat it as it was, or remove it and the output to begin anew",
            path.display(),
            differences.join("; ")
        );
    }
    let mut earlier = Earlier { whole: whole as u64, ..Earlier::default() };
    for line in lines {
        let step: Step = serde_json::from_slice(line).map_err(|_| foreign())?;
        earlier.state.inputs += step.done.len();
        for seen in step.done {
            earlier.state.done.entry(seen.name.clone()).or_default().push_back(seen);
        }
        (earlier.state.at, earlier.state.tally) = (step.at, step.tally);
        (earlier.length, earlier.tail) = (step.length, step.tail);
    }
    Ok(Some(earlier))
}
