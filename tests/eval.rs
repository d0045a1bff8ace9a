//! `ttpmap eval`: counts worked out by hand, files that are wrong, and agreement with score.py.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Keys that score.py and `ttpmap eval` both write.
const COMMON: [&str; 18] = [
    "docs",
    "sentences",
    "sent_exact",
    "sent_parent",
    "doc_exact",
    "doc_parent",
    "doc_exact_mean_f1",
    "doc_parent_mean_f1",
    "recall@1_exact",
    "recall@1_parent",
    "recall@3_exact",
    "recall@3_parent",
    "recall@5_exact",
    "recall@5_parent",
    "status_pairs",
    "status_accuracy",
    "status_not_asserted_recall",
    "ece_top1_parent",
];

struct Env {
    home: TempDir,
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Env {
    fn new() -> Env {
        Env { home: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    /// A command that sees nothing of the user's own settings and knowledge bases.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TTPMAP_")) {
            command.env_remove(name);
        }
        for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TTPMAP_DATA_DIR"] {
            command.env(name, self.home.path());
        }
        command.env("TTPMAP_OFFLINE", "1").env("TTPMAP_PROFILE", "fast");
        command
    }

    fn eval_with_input(&self, args: &[&str], input: &str) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_ttpmap"));
        command.arg("eval").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn eval(&self, args: &[&str]) -> Run {
        self.eval_with_input(args, "")
    }

    #[track_caller]
    fn figures(&self, args: &[&str]) -> Value {
        let run = self.eval(&[args, &["--format", "json"]].concat());
        assert_eq!((run.code, &*run.stderr), (Some(0), ""));
        serde_json::from_str(&run.stdout).unwrap()
    }
}

/// A report of paragraphs; those with labels are its sentences.
fn report(paragraphs: &[(&str, Option<Value>)]) -> String {
    let (mut text, mut gold) = (String::new(), Vec::new());
    for (paragraph, labels) in paragraphs {
        let start = text.len();
        text.push_str(paragraph);
        if let Some(labels) = labels {
            let mut sentence = json!({"start": start, "end": text.len()});
            sentence.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
            gold.push(sentence);
        }
        text.push_str("\n\n");
    }
    format!("{}\n", json!({"id": "made-up", "text": text, "gold": gold}))
}

/// Two reports whose techniques stand in them as IDs: found for certain, whatever else the knowledge base can do, and said so
/// plainly that there is no doubt of the statuses.
fn two_reports() -> String {
    let first = report(&[
        // Before the first sentence: counts for the report, and for no sentence. It is longer in bytes than in letters.
        ("Übung: the attackers sent the victims a malicious file (T1566) in March 2024, which they opened.", None),
        (
            "The attackers executed malicious scripts on the server (T1059.001) and downloaded a second payload (T1105).",
            Some(json!({"labels": ["T1059.001", "T1003"]})),
        ),
        ("The malware decrypted its payload (T1027) and executed it in memory.", Some(json!({"labels": [], "ignore": ["T1027"]}))),
        ("The attackers then executed further scripts on the server (T1059.003).", Some(json!({"labels": ["T1059.001"]}))),
    ]);
    let second = report(&[
        // Was revoked, and its successor is T1059.001.
        (
            "The malware executed a malicious script on the server (T1086), which downloaded the payload.",
            Some(json!({"labels": ["T1059.001"]})),
        ),
        ("There is no evidence that the attackers dumped credentials (T1003.001).", Some(json!({"other": [["T1003.001", "negated"]]}))),
        ("The malware then modified the values of a key in order to persist (T1112).", Some(json!({"other": [["T1112", "hypothetical"]]}))),
    ]);
    format!("{first}\n{second}")
}

/// High enough that nothing but a literal ID passes.
const SURE: [&str; 2] = ["--min-confidence", "0.985"];

#[test]
fn counts_are_those_worked_out_by_hand() {
    let env = Env::new();
    let file = env.write("two.jsonl", &two_reports());
    let figures = env.figures(&[&[&*file][..], &SURE].concat());
    let row = |p: f64, r: f64, f1: f64, labels: u64, found: u64, right: u64| json!({"p": p, "r": r, "f1": f1, "labels": labels, "found": found, "right": right});
    let wanted = json!({
        "docs": 2, "sentences": 6, "labelled_sentences": 3,
        "sent_exact": row(0.4, 0.5, 0.4444, 4, 5, 2),
        "sent_parent": row(0.6, 0.75, 0.6667, 4, 5, 3),
        "doc_exact": row(0.3333, 0.6667, 0.4444, 3, 6, 2),
        "doc_parent": row(0.4, 0.6667, 0.5, 3, 5, 2),
        // (1/3 + 2/3) / 2
        "doc_exact_mean_f1": 0.5,
        "recall@1_exact": 0.5,
        "recall@1_parent": 0.75,
        "status_pairs": 5, "status_accuracy": 0.8, "status_not_asserted": 2, "status_not_asserted_recall": 0.5,
        // Three times 0.99 and right.
        "ece_top1_parent": 0.01,
        // Five times 0.99, two right.
        "ece_mappings": 0.59,
        "confusions": [{"gold": "T1003", "said": "T1105", "count": 1}, {"gold": "T1059.001", "said": "T1059.003", "count": 1}],
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&figures[key], value, "{key}");
    }
    let worst: Vec<(&str, f64)> =
        figures["techniques"].as_array().unwrap().iter().map(|t| (t["id"].as_str().unwrap(), t["f1"].as_f64().unwrap())).collect();
    assert_eq!(worst, [("T1003", 0.0), ("T1059.003", 0.0), ("T1105", 0.0), ("T1112", 0.0), ("T1059.001", 0.8)]);
    let last = figures["reliability_mappings"].as_array().unwrap().last().unwrap();
    assert_eq!(*last, json!({"from": 0.9, "to": 1.0, "count": 5, "confidence": 0.99, "right": 0.4}));
}

#[test]
fn the_table_says_the_same_in_three_digits_and_top_shortens_the_lists() {
    let env = Env::new();
    let file = env.write("two.jsonl", &two_reports());
    let run = env.eval(&[&[&*file, "--top", "2"][..], &SURE].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let words = |start: &str| run.stdout.lines().find(|l| l.starts_with(start)).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(words("sentence, exact").as_deref(), Some("sentence, exact 0.400 0.500 0.444 4 5 2"), "{}", run.stdout);
    assert_eq!(words("report, exact").as_deref(), Some("report, exact 0.333 0.667 0.444 0.500 3 6 2"));
    assert!(run.stdout.contains("status 0.800 right of 5 pairs; 0.500 of 2 that are not asserted"), "{}", run.stdout);
    assert!(run.stdout.contains("lowest F1 first, 2 of 5") && run.stdout.contains("\nT1059.003") && !run.stdout.contains("\nT1105"));
}

#[test]
fn techniques_that_were_not_looked_for_are_left_out() {
    let env = Env::new();
    let file = env.write("two.jsonl", &two_reports());
    let figures = env.figures(&[&[&*file, "--only", "T1059.001,T1105"][..], &SURE].concat());
    // T1059.003 and T1112 are no more wrong, T1003 is not missed.
    assert_eq!(figures["sent_exact"], json!({"p": 0.6667, "r": 0.6667, "f1": 0.6667, "labels": 3, "found": 3, "right": 2}));
    assert_eq!(figures["status_pairs"], 5);
}

#[test]
fn standard_input_several_files_and_any_number_of_threads_give_the_same_figures() {
    let env = Env::new();
    let text = two_reports();
    let file = env.write("two.jsonl", &text);
    let one = env.figures(&[&file, "--jobs", "1"]);
    let many = env.figures(&[&file, &file, "--jobs", "4"]);
    assert_eq!(many, json!([one, one]));
    let run = env.eval_with_input(&["-", "--format", "json"], &text);
    let mut piped: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(piped["source"], "standard input");
    piped["source"] = one["source"].clone();
    assert_eq!(piped, one);
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let env = Env::new();
    let good = report(&[("They used T1105.", Some(json!({"labels": ["T1105"]})))]);
    let sentence = |more: Value| report(&[("They used T1105.", Some(more))]);
    let cases = [
        ("{".to_owned(), "not a labelled report: EOF"),
        ("[]".to_owned(), "not a labelled report"),
        (json!({"text": "x"}).to_string(), "missing field `gold`"),
        (json!({"gold": []}).to_string(), "missing field `text`"),
        (json!({"text": "é", "gold": [{"start": 0, "end": 1}]}).to_string(), "sentence 0..1 is not in the text, or cuts a character"),
        (json!({"text": "x", "gold": [{"start": 1, "end": 0}]}).to_string(), "sentence 1..0 is not in the text"),
        (json!({"text": "x", "gold": [{"start": 0, "end": 9}]}).to_string(), "sentence 0..9 is not in the text"),
        (json!({"text": "xy", "gold": [{"start": 1, "end": 2}, {"start": 0, "end": 1}]}).to_string(), "sentence 0..1 stands after 1..2"),
        (sentence(json!({"labels": ["T11"]})), "T11"),
        (sentence(json!({"labels": ["G0007"]})), "G0007 is a group, and labels are techniques"),
        (sentence(json!({"other": [["T1105", "perhaps"]]})), "`perhaps` is not a status"),
        ("\u{1f}\u{8b}".to_owned(), "not a labelled report"),
    ];
    for (bad, what) in cases {
        let file = env.write("bad.jsonl", &format!("{good}\n{bad}\n"));
        let run = env.eval(&[&file]);
        assert_eq!((run.code, &*run.stdout), (Some(2), ""), "{bad}");
        let place = format!("ttpmap: {file}, line 3: ");
        assert!(run.stderr.starts_with(&place) && run.stderr.contains(what), "{bad}: {}", run.stderr);
    }
    std::fs::write(env.path("packed.xz"), b"\xfd7zXZ\0\0").unwrap();
    let run = env.eval(&[&env.path("packed.xz").display().to_string()]);
    assert!(run.code == Some(2) && run.stderr.contains("packed.xz, line 1: it is compressed"), "{}", run.stderr);
}

#[test]
fn a_file_without_a_report_is_an_error() {
    let env = Env::new();
    for text in ["", "\n \n"] {
        let file = env.write("empty.jsonl", text);
        let run = env.eval(&[&file]);
        assert_eq!((run.code, &*run.stdout), (Some(2), ""));
        assert!(run.stderr.contains("empty.jsonl: no labelled report in it"), "{}", run.stderr);
    }
    let run = env.eval(&["nowhere.jsonl"]);
    assert!(run.code == Some(2) && run.stderr.contains("nowhere.jsonl: "), "{}", run.stderr);
    // Nothing to find and nothing found is a measurement.
    let file = env.write("blank.jsonl", "{\"text\": \"\", \"gold\": []}\n");
    assert_eq!(env.figures(&[&file])["sent_exact"]["f1"], 0.0);
}

#[test]
fn score_py_gives_the_same_figures() {
    let shared = std::env::var_os("TTPMAP_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let (set, score) = (shared.join("eval/many-vendors-dev.jsonl.xz"), shared.join("eval/score.py"));
    let env = Env::new();
    let (plain, packed, out) = (env.path("slice.jsonl"), env.path("slice.jsonl.xz"), env.path("out.json"));
    let cut = "import lzma, sys
lines = lzma.open(sys.argv[1], 'rb').readlines()[:10]
open(sys.argv[2], 'wb').writelines(lines)
lzma.open(sys.argv[3], 'wb').writelines(lines)";
    let ready = env.command("python3").args(["-c", cut]).args([&set, &plain, &packed]).output();
    if !score.is_file() || !ready.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: there is no {} or no python3 with lzma", set.display());
        return;
    }
    let run =
        env.command("python3").arg(&score).args(["--bin", env!("CARGO_BIN_EXE_ttpmap"), "--json"]).args([&out, &packed]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let theirs: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let ours = env.figures(&[&plain.display().to_string()]);
    assert!(ours["sent_exact"]["right"].as_u64() > Some(0) && ours["docs"] == 10);
    for key in COMMON {
        match &theirs[0][key] {
            Value::Object(row) => row.iter().for_each(|(figure, value)| assert_eq!(&ours[key][figure], value, "{key} {figure}")),
            value => assert_eq!(&ours[key], value, "{key}"),
        }
    }
}
