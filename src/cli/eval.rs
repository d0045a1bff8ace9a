//! `ttpmap eval`: how good the mapping is, on labelled reports.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::args::EvalArgs;
use super::settings::Settings;
use super::{Outcome, mapper, open_encoder, open_index};
use ttpmap::encoder::EncoderModel;
use ttpmap::eval::{BINS, ByLevel, Calibration, Counts, DEPTHS, Evaluator, Options, Report, four_digits, read_jsonl};
use ttpmap::index::ObjectRef;
use ttpmap::text::shown::{fit, printable};
use ttpmap::{AttackId, Index};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const ID: Style = AnsiColor::Cyan.on_default().bold();
/// Rows of a table's lists where `--top` says nothing.
const ROWS: usize = 20;
/// Text measured at a time.
const BATCH_BYTES: usize = 16 << 20;
/// Reports measured at a time.
const BATCH_REPORTS: usize = 256;

/// The figures of one file, and with what they were measured.
struct Measured {
    name: String,
    min_confidence: f32,
    report: Report,
}

pub(crate) fn run(args: &EvalArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let json = match args.format.as_str() {
        "table" => false,
        "json" => true,
        other => bail!("`{}` is not a format: choose table or json", printable(other)),
    };
    if args.files.iter().filter(|f| *f == Path::new("-")).count() > 1 {
        bail!("- is named twice, and standard input can be read once");
    }
    let index = open_index(settings)?;
    let options = options(args, settings)?;
    let encoder = open_encoder(settings)?;
    let threads = args.jobs.or(settings.config.jobs).unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;
    let mut all = Vec::new();
    for file in &args.files {
        all.push(measure(&pool, &index, encoder.as_ref(), &options, file)?);
    }
    if json {
        let mut rows: Vec<Value> = all.iter().map(|m| figures(&index, m, args.top.unwrap_or(usize::MAX))).collect();
        let value = if rows.len() == 1 { rows.remove(0) } else { Value::Array(rows) };
        settings.write(format!("{}\n", serde_json::to_string_pretty(&value)?).as_bytes())?;
    } else {
        let tables: Vec<String> = all.iter().map(|m| table(&index, m, args.top.unwrap_or(ROWS))).collect();
        settings.write_styled(&tables.join("\n"))?;
    }
    Ok(Outcome::Done)
}

fn options(args: &EvalArgs, settings: &Settings) -> anyhow::Result<Options> {
    let profile = settings.profile;
    let only = args.only.iter().map(|id| id.trim().parse()).collect::<Result<Vec<AttackId>, _>>().context("--only")?;
    Ok(Options { min_confidence: args.min_confidence.or(settings.config.min_confidence), profile, only })
}

fn measure<D: AsRef<[u8]> + Sync>(
    pool: &rayon::ThreadPool,
    index: &Index<D>,
    encoder: Option<&EncoderModel>,
    options: &Options,
    file: &Path,
) -> anyhow::Result<Measured> {
    let (name, reader): (String, Box<dyn BufRead>) = if file == Path::new("-") {
        ("standard input".to_owned(), Box::new(io::stdin().lock()))
    } else {
        let name = file.display().to_string();
        let reader = BufReader::with_capacity(1 << 16, File::open(file).with_context(|| name.clone())?);
        (name, Box::new(reader))
    };
    let mut evaluator = Evaluator::new(mapper(index, encoder)?, options.clone());
    let mut reports = read_jsonl(reader, &name);
    loop {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_REPORTS && bytes < BATCH_BYTES {
            let Some(report) = reports.next().transpose()? else { break };
            bytes += report.text.len();
            batch.push(report);
        }
        if batch.is_empty() {
            break;
        }
        pool.install(|| evaluator.add(&batch));
    }
    if evaluator.report().reports == 0 {
        bail!("{name}: no labelled report in it; one JSON object a line is wanted, with `text` and `gold`");
    }
    Ok(Measured { min_confidence: evaluator.min_confidence(), report: evaluator.report().clone(), name })
}

fn name_of<D: AsRef<[u8]>>(index: &Index<D>, id: AttackId) -> String {
    index.get(id).map(ObjectRef::full_name).unwrap_or_default()
}

fn row(counts: Counts) -> Value {
    let [p, r, f1] = [counts.precision(), counts.recall(), counts.f1()].map(four_digits);
    json!({"p": p, "r": r, "f1": f1, "labels": counts.labels(), "found": counts.found(), "right": counts.right})
}

fn bins(calibration: &Calibration) -> Value {
    let bin = |(i, b): (usize, &ttpmap::eval::Bin)| {
        let count = b.count.max(1) as f64;
        let [from, to] = [i, i + 1].map(|edge| edge as f64 / BINS as f64);
        json!({"from": from, "to": to, "count": b.count, "confidence": four_digits(b.confidence / count),
            "right": four_digits(b.right as f64 / count)})
    };
    calibration.bins.iter().enumerate().map(bin).collect()
}

fn figures<D: AsRef<[u8]>>(index: &Index<D>, measured: &Measured, top: usize) -> Value {
    let report = &measured.report;
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    put("schema", json!(ttpmap::rank::SCHEMA));
    put("source", json!(measured.name));
    put("attack", json!({"domain": index.domain().attack_name(), "version": index.version()}));
    put("min_confidence", json!(four_digits(f64::from(measured.min_confidence))));
    put("docs", json!(report.reports));
    put("sentences", json!(report.sentences));
    put("labelled_sentences", json!(report.labelled));
    put("sent_exact", row(report.sentence.exact));
    put("sent_parent", row(report.sentence.parent));
    put("doc_exact", row(report.report.exact));
    put("doc_parent", row(report.report.parent));
    put("doc_exact_mean_f1", json!(four_digits(report.mean_f1.exact.value())));
    put("doc_parent_mean_f1", json!(four_digits(report.mean_f1.parent.value())));
    let ByLevel { exact, parent } = report.recall;
    for ((depth, exact), parent) in DEPTHS.into_iter().zip(exact.shares()).zip(parent.shares()) {
        put(&format!("recall@{depth}_exact"), json!(four_digits(exact)));
        put(&format!("recall@{depth}_parent"), json!(four_digits(parent)));
    }
    // Where nobody gave a status but "asserted", there is none to be right about.
    if report.statuses.not_asserted > 0 {
        put("status_pairs", json!(report.statuses.pairs));
        put("status_accuracy", json!(four_digits(report.statuses.accuracy())));
        put("status_not_asserted", json!(report.statuses.not_asserted));
        put("status_not_asserted_recall", json!(four_digits(report.statuses.not_asserted_recall())));
    }
    put("ece_top1_parent", json!(four_digits(report.best.error())));
    put("reliability_top1_parent", bins(&report.best));
    put("ece_mappings", json!(four_digits(report.mappings.error())));
    put("reliability_mappings", bins(&report.mappings));
    let technique = |(id, counts): (AttackId, Counts)| {
        let mut row = row(counts);
        row["id"] = json!(id.to_string());
        row["name"] = json!(name_of(index, id));
        row
    };
    put("techniques", report.worst_techniques().into_iter().take(top).map(technique).collect());
    let confusion =
        |(gold, said, count): (AttackId, AttackId, u64)| json!({"gold": gold.to_string(), "said": said.to_string(), "count": count});
    put("confusions", report.worst_confusions().into_iter().take(top).map(confusion).collect());
    Value::Object(map)
}

/// Three digits of the four that are published, so that every format says the same.
fn three(figure: f64) -> String {
    format!("{:.3}", four_digits(figure))
}

fn table<D: AsRef<[u8]>>(index: &Index<D>, measured: &Measured, top: usize) -> String {
    let report = &measured.report;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{BOLD}{}{BOLD:#}  {DIM}{} reports, {} sentences, {} with a label; ATT&CK {} {}, threshold {}{DIM:#}",
        printable(&measured.name),
        report.reports,
        report.sentences,
        report.labelled,
        index.domain(),
        index.version(),
        three(f64::from(measured.min_confidence))
    );
    quality(&mut out, report);
    ranks(&mut out, report);
    calibration(&mut out, report);
    techniques(&mut out, index, report, top);
    confusions(&mut out, index, report, top);
    out
}

fn quality(out: &mut String, report: &Report) {
    let heads = ["P", "R", "F1", "MEAN F1", "LABELS", "FOUND", "RIGHT"];
    let [p, r, f1, mean, labels, found, right] = heads;
    let _ = writeln!(out, "\n{DIM}{:<18}{p:>7}{r:>7}{f1:>7}{mean:>9}{labels:>8}{found:>8}{right:>8}{DIM:#}", "");
    let rows = [
        ("sentence, exact", report.sentence.exact, None),
        ("sentence, parents", report.sentence.parent, None),
        ("report, exact", report.report.exact, Some(report.mean_f1.exact)),
        ("report, parents", report.report.parent, Some(report.mean_f1.parent)),
    ];
    for (name, counts, mean) in rows {
        let [p, r, f1] = [counts.precision(), counts.recall(), counts.f1()].map(three);
        let mean = mean.map(|m| three(m.value())).unwrap_or_default();
        let (labels, found, right) = (counts.labels(), counts.found(), counts.right);
        let _ = writeln!(out, "{name:<18}{p:>7}{r:>7}{f1:>7}{mean:>9}{labels:>8}{found:>8}{right:>8}");
    }
}

fn ranks(out: &mut String, report: &Report) {
    let heads: String = DEPTHS.iter().map(|depth| format!("{:>7}", format!("@{depth}"))).collect();
    let _ = writeln!(out, "\n{DIM}{:<18}{heads}   labels of single sentences among the best{DIM:#}", "");
    for (name, recall) in [("recall, exact", report.recall.exact), ("recall, parents", report.recall.parent)] {
        let shares: String = recall.shares().iter().map(|s| format!("{:>7}", three(*s))).collect();
        let _ = writeln!(out, "{name:<18}{shares}");
    }
    let statuses = report.statuses;
    if statuses.not_asserted > 0 {
        let _ = writeln!(
            out,
            "\nstatus {} right of {} pairs; {} of {} that are not asserted are kept apart",
            three(statuses.accuracy()),
            statuses.pairs,
            three(statuses.not_asserted_recall()),
            statuses.not_asserted
        );
    }
}

fn calibration(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "\ncalibration error {} (best technique of each labelled sentence alone, by parent), {} (mappings in reports, exact)",
        three(report.best.error()),
        three(report.mappings.error())
    );
    let (count, said, right) = ("COUNT", "SAID", "RIGHT");
    let _ = writeln!(out, "{DIM}{:<18}{count:>7}{said:>7}{right:>7}{:>5}{count:>7}{said:>7}{right:>7}{DIM:#}", "CONFIDENCE", "");
    for (i, (best, mapping)) in report.best.bins.iter().zip(&report.mappings.bins).enumerate() {
        let side = |bin: &ttpmap::eval::Bin| {
            let of = |sum: f64| if bin.count == 0 { "-".to_owned() } else { three(sum / bin.count as f64) };
            format!("{:>7}{:>7}{:>7}", bin.count, of(bin.confidence), of(bin.right as f64))
        };
        let [from, to] = [i, i + 1].map(|edge| edge as f64 / BINS as f64);
        let _ = writeln!(out, "{:<18}{}{:>5}{}", format!("{from:.1} to {to:.1}"), side(best), "", side(mapping));
    }
}

fn techniques<D: AsRef<[u8]>>(out: &mut String, index: &Index<D>, report: &Report, top: usize) {
    let all = report.worst_techniques();
    if all.is_empty() || top == 0 {
        return;
    }
    let shown = top.min(all.len());
    let _ = writeln!(out, "\n{BOLD}Techniques{BOLD:#} {DIM}by sentence, lowest F1 first, {shown} of {}{DIM:#}", all.len());
    let [labels, found, right, p, r, f1] = ["LABELS", "FOUND", "RIGHT", "P", "R", "F1"];
    let _ = writeln!(out, "{DIM}{:<11}{:<46}{labels:>7}{found:>7}{right:>7}{p:>7}{r:>7}{f1:>7}{DIM:#}", "ID", "TECHNIQUE");
    for (id, counts) in all.into_iter().take(top) {
        let [p, r, f1] = [counts.precision(), counts.recall(), counts.f1()].map(three);
        let name = fit(&printable(&name_of(index, id)), 45);
        let (labels, found, right) = (counts.labels(), counts.found(), counts.right);
        let _ = writeln!(out, "{ID}{id:<11}{ID:#}{name:<46}{labels:>7}{found:>7}{right:>7}{p:>7}{r:>7}{f1:>7}");
    }
}

fn confusions<D: AsRef<[u8]>>(out: &mut String, index: &Index<D>, report: &Report, top: usize) {
    let all = report.worst_confusions();
    if all.is_empty() || top == 0 {
        return;
    }
    let shown = top.min(all.len());
    let _ = writeln!(out, "\n{BOLD}Confusions{BOLD:#} {DIM}missed, and found instead in that sentence, {shown} of {}{DIM:#}", all.len());
    for (gold, said, count) in all.into_iter().take(top) {
        let [missed, instead] = [gold, said].map(|id| fit(&printable(&name_of(index, id)), 40));
        let _ = writeln!(out, "{count:>5}  {ID}{gold:<10}{ID:#} {missed:<41} {ID}{said:<10}{ID:#} {instead}");
    }
}
