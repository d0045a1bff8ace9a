//! `ttpmap layer upgrade`: files to another release of ATT&CK.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::super::settings::Settings;
use super::super::{Outcome, replace};
use super::args::{KindName, ScoreRule, UpgradeArgs};
use super::{AtHand, read, upgrade_to};
use ttpmap::Domain;
use ttpmap::layer::tags::FileKind;
use ttpmap::layer::upgrade::{Outcome as Became, Pick, Record, Report};
use ttpmap::layer::{self};
use ttpmap::text::shown::printable;

/// Lines told of one outcome; the rest is counted.
const TOLD: usize = 40;
/// Folders are followed so deep.
const MAX_DEPTH: usize = 64;
/// Numbers tried for a backup beside others.
const MAX_BACKUPS: usize = 10_000;

const OUTCOMES: [Became; 4] = [Became::Kept, Became::Moved, Became::Merged, Became::CouldNot];

/// How many had each outcome.
fn in_words(counts: [usize; 4]) -> String {
    let parts: Vec<String> = OUTCOMES.iter().zip(counts).map(|(o, n)| format!("{n} {}", o.name())).collect();
    parts.join(", ")
}

/// A file brought to a release.
struct Done {
    text: Vec<u8>,
    /// Whether it is as it was.
    unchanged: bool,
    report: Report,
    release: String,
}

pub(super) fn run(args: &UpgradeArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let files = files(args)?;
    if files.len() > 1 && !args.in_place && !args.dry_run {
        bail!("{} files: replace them with --in-place, or see what would become of them with --dry-run", files.len());
    }
    if args.in_place && files.iter().any(|f| f == "-") {
        bail!("--in-place: standard input has no place");
    }
    refuse_own_input(settings, &files, "upgrade")?;
    let at_hand = AtHand::new(settings, args.to.as_deref());
    let (mut failed, mut lost) = (false, false);
    let mut total = [0; 4];
    let mut reports = Vec::new();
    let mut told = String::new();
    for name in &files {
        let done = read(name, settings).and_then(|bytes| one(name, bytes, args, settings, &at_hand));
        let done = match done {
            Ok(done) => done,
            // Of several files one that can't be read does not end the others.
            Err(e) if files.len() > 1 => {
                failed = true;
                anstream::eprintln!("ttpmap: {e:#}");
                continue;
            }
            Err(e) => return Err(e),
        };
        lost |= done.report.count(Became::CouldNot) > 0;
        let counts = OUTCOMES.map(|o| done.report.count(o));
        total.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        // Of many files those speak in which something happened.
        let quiet = files.len() > 1 && counts[1..] == [0; 3] && done.report.notes.is_empty();
        let text = if quiet { String::new() } else { tell(name, &done) };
        if args.dry_run {
            told += &text;
        } else {
            text.lines().for_each(|line| settings.say(line));
        }
        reports.push(report_json(name, &done));
        if args.dry_run {
            continue;
        }
        if args.in_place {
            if !done.unchanged {
                let backup = keep(Path::new(name))?;
                replace(Path::new(name), &done.text).with_context(|| format!("writing {name}"))?;
                settings.say(&format!("{name}: replaced; as it was: {}", backup.display()));
            }
        } else {
            settings.write(&done.text)?;
        }
    }
    if files.len() > 1 {
        let sum = format!("{} files: {}", files.len(), in_words(total));
        if args.dry_run {
            told += &(sum + "\n");
        } else {
            settings.say(&sum);
        }
    }
    if let Some(path) = &args.report {
        let all = if files.len() == 1 { reports.pop().unwrap_or(Value::Null) } else { Value::Array(reports) };
        replace(path, format!("{all:#}\n").as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.dry_run {
        settings.write(told.as_bytes())?;
    }
    Ok(match (failed, lost) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Unmet,
        (false, false) => Outcome::Done,
    })
}

/// An output that is an input would be overwritten without a backup.
pub(super) fn refuse_own_input(settings: &Settings, files: &[String], what: &str) -> anyhow::Result<()> {
    let Some(output) = settings.output.as_deref().and_then(|o| o.canonicalize().ok()) else { return Ok(()) };
    if let Some(same) = files.iter().find(|f| Path::new(f).canonicalize().is_ok_and(|p| p == output)) {
        bail!("{same}: is the file to {what} itself; --in-place replaces it, and keeps a copy");
    }
    Ok(())
}

/// The files named, and those of folders, by name.
fn files(args: &UpgradeArgs) -> anyhow::Result<Vec<String>> {
    let mut out = Vec::new();
    for name in &args.files {
        let path = Path::new(name);
        if path.is_dir() {
            let before = out.len();
            walk(path, 0, args.kind, &mut out)?;
            if out.len() == before {
                bail!("{name}: no file in it that is upgraded (.json, .yml, .csv, .txt; --kind chooses)");
            }
        } else {
            out.push(name.clone());
        }
    }
    Ok(out)
}

fn walk(folder: &Path, depth: usize, kind: KindName, out: &mut Vec<String>) -> anyhow::Result<()> {
    let wanted: &[&str] = match kind {
        KindName::Auto => &["json", "yml", "yaml", "csv", "tsv", "txt"],
        KindName::Layer => &["json"],
        KindName::Ids => &["txt", "md", "list"],
        KindName::Csv => &["csv", "tsv"],
        KindName::Sigma => &["yml", "yaml"],
    };
    if depth > MAX_DEPTH {
        bail!("{}: folders are nested more than {MAX_DEPTH} deep", folder.display());
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.with_context(|| folder.display().to_string())?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().with_context(|| path.display().to_string())?.is_dir() {
            walk(&path, depth + 1, kind, out)?;
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| wanted.contains(&e.to_ascii_lowercase().as_str()))
            && path.is_file()
        {
            out.push(path.display().to_string());
        }
    }
    Ok(())
}

fn one(name: &str, bytes: Vec<u8>, args: &UpgradeArgs, settings: &Settings, at_hand: &AtHand<'_>) -> anyhow::Result<Done> {
    let (text, encoding) = Encoding::read(&bytes);
    let kind = match args.kind {
        KindName::Auto => FileKind::of(name, &text),
        KindName::Layer => FileKind::Layer,
        KindName::Ids => FileKind::Ids,
        KindName::Csv => FileKind::Csv,
        KindName::Sigma => FileKind::Sigma,
    };
    if kind == FileKind::Layer {
        return layers(name, &bytes, args, settings, at_hand);
    }
    let index = at_hand.of(settings.domain.unwrap_or(Domain::Enterprise))?;
    let upgrade = upgrade_to(index);
    let (new, report) = match kind {
        FileKind::Sigma => upgrade.sigma(&text),
        FileKind::Csv => upgrade
            .columns(&text, args.column.as_deref(), args.tactic_column.as_deref())
            .map_err(anyhow::Error::msg)
            .with_context(|| name.to_owned())?,
        _ => upgrade.list(&text),
    };
    let release = index.version().to_owned();
    Ok(Done { unchanged: new == text, text: encoding.write(&new), report, release })
}

fn layers(name: &str, bytes: &[u8], args: &UpgradeArgs, settings: &Settings, at_hand: &AtHand<'_>) -> anyhow::Result<Done> {
    let file = layer::parse(bytes).with_context(|| name.to_owned())?;
    let pick = match args.merge {
        ScoreRule::Max => Pick::Max,
        ScoreRule::Min => Pick::Min,
        ScoreRule::Sum => Pick::Sum,
        ScoreRule::Mean => Pick::Mean,
    };
    let (mut out, mut all) = (Vec::new(), Report::default());
    let mut release = String::new();
    for one in &file.layers {
        let domain = one.attack_domain().or_else(|| settings.domain.filter(|_| one.domain.is_empty()));
        let domain = domain.or_else(|| one.domain.is_empty().then_some(Domain::Enterprise)).with_context(|| {
            format!("{name}: `{}` is no domain: write enterprise-attack, mobile-attack or ics-attack into it", printable(&one.domain))
        })?;
        let index = at_hand.of(domain)?;
        let (mut upgraded, report) = upgrade_to(index).layer(one, pick);
        all.records.extend(report.records);
        all.notes.extend(report.notes);
        let (portable, changes) = upgraded.portable();
        if args.portable {
            upgraded = portable;
            all.notes.extend(changes);
        } else if !changes.is_empty() {
            all.notes.push("mitreattack-python would not take the layer as it is: --portable makes it so, `layer lint` says why".into());
        }
        release = index.version().to_owned();
        out.push(upgraded);
    }
    let unchanged = out == file.layers;
    Ok(Done { text: layer::write(&out, file.array).into_bytes(), unchanged, report: all, release })
}

/// How a text's bytes were read, so that they are written likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    /// Any other: a byte a character, which is enough where only ASCII changes.
    Bytes,
}

impl Encoding {
    /// A byte order mark stays in the text.
    fn read(bytes: &[u8]) -> (String, Encoding) {
        let utf16 = |unit: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|c| unit([c[0], c[1]])).collect();
            String::from_utf16(&units).ok().filter(|_| bytes.len().is_multiple_of(2))
        };
        let marked = match bytes {
            [0xff, 0xfe, ..] => utf16(u16::from_le_bytes).map(|t| (t, Encoding::Utf16Le)),
            [0xfe, 0xff, ..] => utf16(u16::from_be_bytes).map(|t| (t, Encoding::Utf16Be)),
            _ => None,
        };
        marked.unwrap_or_else(|| match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), Encoding::Utf8),
            Err(_) => (bytes.iter().map(|b| char::from(*b)).collect(), Encoding::Bytes),
        })
    }

    fn write(self, text: &str) -> Vec<u8> {
        match self {
            Encoding::Utf8 => text.as_bytes().to_vec(),
            Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Encoding::Bytes => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
        }
    }
}

/// Keeps a copy beside a file, under a name that no file has yet, and gives it.
pub(super) fn keep(path: &Path) -> anyhow::Result<PathBuf> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    for number in 0..MAX_BACKUPS {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 0 { ".bak".to_owned() } else { format!(".bak{number}") });
        let backup = PathBuf::from(name);
        match File::options().write(true).create_new(true).open(&backup) {
            Ok(mut file) => {
                file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(|| format!("writing {}", backup.display()))?;
                return Ok(backup);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("writing {}", backup.display())),
        }
    }
    bail!("{}: {MAX_BACKUPS} copies of it lie beside it already", path.display())
}

/// What became of a file's entries, in lines.
fn tell(name: &str, done: &Done) -> String {
    let report = &done.report;
    let mut out = String::new();
    let entries = if report.records.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", report.records.len()) };
    let _ = writeln!(out, "{name}: {entries} to ATT&CK {}: {}", done.release, in_words(OUTCOMES.map(|o| report.count(o))));
    for outcome in [Became::Moved, Became::Merged, Became::CouldNot] {
        let lines = lines(report.records.iter().filter(|r| r.outcome == outcome));
        for line in lines.iter().take(TOLD) {
            let _ = writeln!(out, "  {:<15} {line}", outcome.name());
        }
        if lines.len() > TOLD {
            let _ = writeln!(out, "  {:<15} and {} more (--report FILE has all)", outcome.name(), lines.len() - TOLD);
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "  {:<15} {}", "note", printable(note));
    }
    out
}

/// A line for each record; those in which only the tactic moved, and alike, become one.
fn lines<'r>(records: impl Iterator<Item = &'r Record>) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&Record>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        let same_id = !record.to.is_empty() && record.outcome == Became::Moved && record.to.iter().all(|t| t.id == record.from.id);
        let key = match (&record.from.tactic, same_id) {
            (Some(tactic), true) => {
                let to: Vec<&str> = record.to.iter().filter_map(|t| t.tactic.as_deref()).collect();
                format!("{} -> {}", printable(tactic), to.join(", "))
            }
            _ => {
                let to: Vec<String> = record.to.iter().map(ToString::to_string).collect();
                let arrow = if to.is_empty() { String::new() } else { format!(" -> {}", to.join(", ")) };
                let why = if record.why.is_empty() { String::new() } else { format!(": {}", record.why) };
                printable(&format!("{}{arrow}{why}", record.from))
            }
        };
        match places.get(&key) {
            Some(place) => groups[*place].1.push(record),
            None => {
                places.insert(key.clone(), groups.len());
                groups.push((key, vec![record]));
            }
        }
    }
    let line = |(key, members): (String, Vec<&Record>)| match members.len() {
        1 if members[0].from.tactic.is_some() && !key.starts_with(&members[0].from.id) => format!("{} {key}", members[0].from.id),
        1 => key,
        n => format!("{n} entries: {key}"),
    };
    groups.into_iter().map(line).collect()
}

fn report_json(name: &str, done: &Done) -> Value {
    let spot = |s: &layer::upgrade::Spot| json!({"id": s.id, "tactic": s.tactic});
    let record = |r: &Record| {
        json!({
            "from": spot(&r.from), "to": r.to.iter().map(spot).collect::<Vec<_>>(), "outcome": r.outcome.name(), "why": r.why,
        })
    };
    let count = |outcome| done.report.count(outcome);
    json!({
        "file": name, "to": done.release, "entries": done.report.records.len(), "kept": count(Became::Kept),
        "moved": count(Became::Moved), "merged": count(Became::Merged), "could_not_move": count(Became::CouldNot),
        "records": done.report.records.iter().map(record).collect::<Vec<_>>(), "notes": done.report.notes,
    })
}
