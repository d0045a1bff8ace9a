//! `ttpmap layer lint`: what readers of layers would not take as it is written.

use std::fmt::Write;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::super::settings::Settings;
use super::super::{Knowledge, Outcome, replace};
use super::args::LintArgs;
use super::upgrade::{keep, refuse_own_input};
use super::{read, release_of, upgrade_to};
use ttpmap::layer::lint::{Finding, fix, lint};
use ttpmap::layer::upgrade::Outcome as Became;
use ttpmap::layer::{self, File};
use ttpmap::text::shown::printable;

const PLACE: Style = Style::new().bold();
const EFFECT: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

pub(super) fn run(args: &LintArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let is_json = match args.format.as_str() {
        "json" => true,
        "table" => false,
        other => bail!("`{other}` is not a format: choose table, json"),
    };
    if args.fix && args.files.len() > 1 && !args.in_place {
        bail!("--fix with {} files: replace them with --in-place", args.files.len());
    }
    if args.in_place && args.files.iter().any(|f| f == "-") {
        bail!("--in-place: standard input has no place");
    }
    if args.fix {
        refuse_own_input(settings, &args.files, "mend")?;
    }
    let (mut failed, mut found) = (false, false);
    let (mut table, mut list) = (String::new(), Vec::new());
    for name in &args.files {
        let checked = read(name, settings).and_then(|bytes| one(name, &bytes, args, settings));
        match checked {
            Ok((findings, index)) => {
                found |= !findings.is_empty();
                if args.fix {
                    let mut left = String::new();
                    findings.iter().for_each(|f| line(&mut left, name, f));
                    anstream::eprint!("{left}");
                } else if is_json {
                    list.extend(findings.iter().map(|f| finding_json(name, f)));
                } else {
                    findings.iter().for_each(|f| line(&mut table, name, f));
                }
                let count = match findings.len() {
                    0 => "nothing to say against it".to_owned(),
                    1 => "1 finding".to_owned(),
                    n => format!("{n} findings"),
                };
                let left = if args.fix { ", mended" } else { "" };
                settings.say(&format!("{name}{left}: {count}; checked with ATT&CK {} {}", index.domain(), index.version()));
            }
            Err(e) => {
                failed = true;
                anstream::eprintln!("ttpmap: {e:#}");
            }
        }
    }
    if is_json {
        settings.write(format!("{:#}\n", Value::Array(list)).as_bytes())?;
    } else if !args.fix {
        settings.write_styled(&table)?;
    }
    Ok(match (failed, found) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Unmet,
        (false, false) => Outcome::Done,
    })
}

/// What is found in a file; with --fix, what is still found after it was mended and written.
fn one(name: &str, bytes: &[u8], args: &LintArgs, settings: &Settings) -> anyhow::Result<(Vec<Finding>, Knowledge)> {
    let file = layer::parse(bytes).with_context(|| name.to_owned())?;
    let index = release_of(&file.layers[0], settings)?;
    let upgrade = upgrade_to(&index);
    let findings = lint(&file, bytes, &upgrade).with_context(|| name.to_owned())?;
    if !args.fix {
        drop(upgrade);
        return Ok((findings, index));
    }
    let mut mended = Vec::new();
    for one in &file.layers {
        if let Some(domain) = one.attack_domain().filter(|d| *d != index.domain()) {
            bail!("{name}: holds layers of several domains ({domain}, {}): mend each in a file of its own", index.domain());
        }
        let (layer, report, changes) = fix(one, &upgrade);
        for record in report.records.iter().filter(|r| r.outcome != Became::Kept) {
            let to: Vec<String> = record.to.iter().map(ToString::to_string).collect();
            let arrow = if to.is_empty() { "disabled".to_owned() } else { to.join(", ") };
            settings.say(&printable(&format!("{name}: {} -> {arrow}: {}", record.from, record.why)));
        }
        let mut last = "";
        for change in &changes {
            if change != last {
                settings.say(&printable(&format!("{name}: {change}")));
            }
            last = change;
        }
        mended.push(layer);
    }
    let text = layer::write(&mended, file.array);
    let File { layers, .. } = &file;
    if args.in_place {
        if mended != *layers || !findings.is_empty() {
            let backup = keep(Path::new(name))?;
            replace(Path::new(name), text.as_bytes()).with_context(|| format!("writing {name}"))?;
            settings.say(&format!("{name}: replaced; as it was: {}", backup.display()));
        }
    } else {
        settings.write(text.as_bytes())?;
    }
    let again = layer::parse(text.as_bytes()).with_context(|| name.to_owned())?;
    let findings = lint(&again, text.as_bytes(), &upgrade).with_context(|| name.to_owned())?;
    drop(upgrade);
    Ok((findings, index))
}

fn line(out: &mut String, name: &str, finding: &Finding) {
    let effects: Vec<&str> = finding.effects.iter().map(|e| e.name()).collect();
    let path = if finding.path.is_empty() { String::new() } else { format!(" {}:", printable(&finding.path)) };
    let _ = writeln!(out, "{PLACE}{name}:{}:{}:{PLACE:#}{path} {}", finding.line, finding.column, printable(&finding.reason));
    let _ = writeln!(out, "    {EFFECT}{}{EFFECT:#}; {DIM}cure:{DIM:#} {}", effects.join("; "), finding.cure);
}

fn finding_json(name: &str, finding: &Finding) -> Value {
    let effects: Vec<&str> = finding.effects.iter().map(|e| e.name()).collect();
    json!({
        "file": name, "line": finding.line, "column": finding.column, "path": finding.path, "effects": effects,
        "reason": finding.reason, "cure": finding.cure,
    })
}
