//! Many inputs: folders, JSON Lines of any length, runs that are stopped and go on.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use support::{Numbers, TestEnv};

const SENTENCES: [&str; 6] = [
    "They dumped LSASS memory with Mimikatz.",
    "Shadow copies were deleted with vssadmin.",
    "No evidence of lateral movement was found.",
    "The macro started PowerShell, which downloaded a beacon.",
    "The weather was fine, and the meeting went on.",
    "A scheduled task ran it every hour.",
];

/// Records of a few sentences, some of them bad.
fn records(count: usize, seed: u64) -> String {
    let mut numbers = Numbers(seed);
    let mut out = String::new();
    for i in 0..count {
        let text: Vec<&str> = (0..1 + numbers.below(4)).map(|_| SENTENCES[numbers.below(SENTENCES.len())]).collect();
        match numbers.below(50) {
            0 => out.push_str("{\"text\": \n"),
            1 => out.push('\n'),
            _ => out += &format!("{{\"id\": \"r{i}\", \"text\": \"{}\", \"queue\": {}}}\n", text.join(" "), numbers.below(9)),
        }
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn map(env: &TestEnv, args: &[&str]) -> Output {
    env.ttpmap().arg("map").args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn records_keep_their_order_on_any_number_of_threads_packed_or_not() {
    let env = TestEnv::new();
    let text = records(3000, 1);
    for (name, bytes) in
        [("in.jsonl", text.clone().into_bytes()), ("gz.jsonl.gz", gzip(text.as_bytes())), ("zst.jsonl", zstd(text.as_bytes()))]
    {
        fs::write(env.work().join(name), bytes).unwrap();
    }
    let one = map(&env, &["in.jsonl", "--format", "jsonl", "--jobs", "1"]).stdout;
    assert_eq!(one, map(&env, &["in.jsonl", "--format", "jsonl", "--jobs", "7"]).stdout);
    for name in ["gz.jsonl.gz", "zst.jsonl"] {
        let packed = map(&env, &[name, "--format", "jsonl"]).stdout;
        let expected = String::from_utf8(one.clone()).unwrap().replace("\"source\":\"in.jsonl\"", &format!("\"source\":\"{name}\""));
        assert!(String::from_utf8(packed).unwrap() == expected, "{name}");
    }
    let mut command = env.ttpmap();
    command.args(["map", "-", "--input", "jsonl", "--format", "jsonl"]).stdin(fs::File::open(env.work().join("gz.jsonl.gz")).unwrap());
    let piped = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(piped == String::from_utf8(one).unwrap().replace("\"source\":\"in.jsonl\"", "\"source\":\"-\""));
}

#[test]
fn a_packed_stream_that_breaks_off_says_where_and_the_rest_goes_on() {
    let env = TestEnv::new();
    let packed = gzip(records(5000, 2).as_bytes());
    fs::write(env.work().join("cut.jsonl.gz"), &packed[..packed.len() / 2]).unwrap();
    fs::write(env.work().join("bomb.jsonl.gz"), gzip(&vec![b'\n'; 16 << 20])).unwrap();
    fs::write(env.work().join("own.txt"), "T1486 was seen.").unwrap();
    let output = map(&env, &["cut.jsonl.gz", "bomb.jsonl.gz", "own.txt", "--format", "jsonl"]);
    let lines: Vec<Value> = output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(lines.last().unwrap()["techniques"][0]["id"], "T1486");
    let errors: Vec<&str> = lines.iter().filter_map(|l| l["error"].as_str()).collect();
    assert!(errors.iter().any(|e| e.contains("the gzip stream is cut off or broken")), "{errors:?}");
    assert!(errors.iter().any(|e| e.contains("a decompression bomb?")), "{errors:?}");
}

#[cfg(unix)]
#[test]
fn what_a_folder_has_that_cant_be_read_is_told_and_the_rest_is_done() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let env = TestEnv::new();
    let folder = env.work().join("in");
    for name in ["a", "locked", "z"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("x.txt"), "T1490 was seen.").unwrap();
    }
    symlink("nowhere", folder.join("gone.txt")).unwrap();
    symlink("..", folder.join("a/loop")).unwrap();
    symlink("../z/x.txt", folder.join("a/y.txt")).unwrap();
    for fifo in ["pipe.txt", "pipe.jsonl"] {
        assert!(std::process::Command::new("mkfifo").arg(folder.join(fifo)).status().unwrap().success());
    }
    let mut deep = folder.join("deep");
    for _ in 0..70 {
        deep = deep.join("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::set_permissions(folder.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    // Whoever may read everything meets no lock.
    let locked = fs::read_dir(folder.join("locked")).is_err();
    let output = map(&env, &["in", "--format", "jsonl"]);
    fs::set_permissions(folder.join("locked"), fs::Permissions::from_mode(0o700)).unwrap();
    let lines: Vec<Value> = output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    let of = |has: bool| {
        lines.iter().filter(|l| l.get("error").is_some() == has).map(|l| l["source"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(output.status.code(), Some(2));
    let mut expected = vec!["in/a/x.txt", "in/a/y.txt", "in/z/x.txt"];
    if !locked {
        eprintln!("skipped: this user may read every folder");
        expected.insert(2, "in/locked/x.txt");
    }
    assert_eq!(of(false), expected);
    let failed = of(true);
    for name in ["in/gone.txt", "in/pipe.txt", "in/pipe.jsonl"] {
        assert!(failed.contains(&name.to_owned()), "{failed:?}");
    }
    assert_eq!(failed.contains(&"in/locked".to_owned()), locked);
    assert!(stderr(&output).contains("folders are nested more than 64 deep"), "{}", stderr(&output));
    assert!(stderr(&output).contains("in/pipe.txt: reading it: not a regular file"), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_name_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let env = TestEnv::new();
    fs::create_dir(env.work().join("in")).unwrap();
    fs::write(env.work().join("in").join(std::ffi::OsStr::from_bytes(b"caf\xe9.txt")), "T1490 was seen.").unwrap();
    let output = map(&env, &["in", "--format", "jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// A run in a folder of its own, over a folder and two streams.
struct Long {
    env: TestEnv,
}

impl Long {
    fn new() -> Long {
        let env = TestEnv::new();
        fs::create_dir(env.work().join("in")).unwrap();
        for i in 0..60 {
            fs::write(env.work().join(format!("in/{i:03}.txt")), records(3, i)).unwrap();
        }
        fs::write(env.work().join("in/m.jsonl"), records(6000, 3)).unwrap();
        fs::write(env.work().join("last.jsonl.gz"), gzip(records(4000, 4).as_bytes())).unwrap();
        Long { env }
    }

    fn args<'a>(&self, format: &'a str, output: &'a str) -> Vec<&'a str> {
        vec!["map", "in", "last.jsonl.gz", "--format", format, "-o", output, "--jobs", "2"]
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.env.work().join(name)).unwrap_or_default()
    }

    /// Runs to the end.
    fn whole(&self, format: &str) -> (Vec<u8>, Option<i32>) {
        let output = self.env.ttpmap().args(self.args(format, "whole")).output().unwrap();
        (self.read("whole"), output.status.code())
    }

    /// Runs until so many steps are recorded, and is killed then.
    fn killed_after(&self, steps: usize, format: &str) {
        let mut command = self.env.ttpmap();
        command.args(self.args(format, "out")).args(["--resume", "state"]).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        while self.read("state").iter().filter(|b| **b == b'\n').count() < steps + 1 {
            assert!(begin.elapsed() < Duration::from_secs(120), "it doesn't get there");
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn resumed(&self, format: &str, more: &[&str]) -> Output {
        self.env.ttpmap().args(self.args(format, "out")).args(["--resume", "state"]).args(more).output().unwrap()
    }
}

#[test]
fn a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been() {
    let long = Long::new();
    for format in ["jsonl", "csv"] {
        let (whole, code) = long.whole(format);
        assert!(whole.len() > 100_000);
        for name in ["out", "state"] {
            let _ = fs::remove_file(long.env.work().join(name));
        }
        for steps in [0, 1, 2, 4, 5] {
            long.killed_after(steps, format);
            assert!(whole.starts_with(&long.read("out")), "what is there is right, only not all");
            // As if it had been killed between an answer and its record, and in the middle of a record.
            if steps % 2 == 1 {
                let append = |name: &str, bytes: &[u8]| {
                    let path = long.env.work().join(name);
                    fs::File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
                };
                append("out", b"{\"schema\":\"ttpm");
                append("state", b"{\"done\":[{\"name\":\"in/0");
            }
        }
        let last = long.resumed(format, &[]);
        assert!(stderr(&last).contains("going on: "), "{}", stderr(&last));
        assert!(long.read("out") == whole, "{format}");
        assert_eq!(last.status.code(), code, "the exit code is that of all of it");
        let again = long.resumed(format, &[]);
        assert!(long.read("out") == whole && again.status.code() == code, "nothing is left to do");
    }
}

#[test]
fn what_is_not_the_same_run_is_not_resumed() {
    let long = Long::new();
    long.killed_after(2, "jsonl");
    let before = (long.read("out"), long.read("state"));
    let refused = |more: &[&str], words: &[&str]| {
        let output = long.resumed("jsonl", more);
        assert_eq!(output.status.code(), Some(2));
        for word in words {
            assert!(stderr(&output).contains(word), "`{word}` is missing: {}", stderr(&output));
        }
        assert!((long.read("out"), long.read("state")) == before, "nothing was touched");
    };
    refused(&["--profile", "precise"], &["--profile was \"fast\" and is \"precise\"", "remove it and the output to begin anew"]);
    refused(&["--text-field", "body", "--top", "3"], &["--text-field was", "--top was null and is 3"]);
    refused(&["more.txt"], &["more.txt"]);
    let mini = support::root().join("data/enterprise.ttpkb");
    let mut other = fs::read(mini).unwrap();
    other.push(0);
    fs::write(long.env.work().join("other.ttpkb"), other).unwrap();
    let with = long.resumed("jsonl", &["--kb", "other.ttpkb"]);
    assert_eq!(with.status.code(), Some(2), "{}", stderr(&with));
    // The output was changed, or is another.
    let out = long.env.work().join("out");
    fs::write(&out, &before.0[..before.0.len() / 2]).unwrap();
    assert!(stderr(&long.resumed("jsonl", &[])).contains("out is shorter than it was"));
    fs::write(&out, vec![b'x'; before.0.len()]).unwrap();
    assert!(stderr(&long.resumed("jsonl", &[])).contains("out doesn't end as it did"));
    fs::write(&out, &before.0).unwrap();
    // An input changed.
    let first = long.env.work().join("in/000.txt");
    let text = fs::read(&first).unwrap();
    fs::write(&first, "T1490").unwrap();
    refused(&[], &["in/000.txt: changed since it was mapped"]);
    fs::write(&first, text).unwrap();
    fs::write(long.env.work().join("state"), "my notes\n").unwrap();
    assert!(stderr(&long.resumed("jsonl", &[])).contains("state was not written by --resume"));
    assert_eq!(fs::read(long.env.work().join("state")).unwrap(), b"my notes\n");
    fs::remove_file(long.env.work().join("state")).unwrap();
    assert!(stderr(&long.resumed("jsonl", &[])).contains("out is there already, and state doesn't tell what is in it"));
}

#[test]
fn one_run_at_a_time_writes_an_output() {
    let env = TestEnv::new();
    fs::write(env.work().join("in.jsonl"), records(10, 5)).unwrap();
    let state = fs::File::create(env.work().join("state")).unwrap();
    state.lock().unwrap();
    let output = map(&env, &["in.jsonl", "-o", "out.jsonl", "--resume", "state"]);
    assert!(stderr(&output).contains("another ttpmap writes state"), "{}", stderr(&output));
}

fn summary(env: &TestEnv, args: &[&str]) -> Value {
    let output = map(env, &[args, &["--summary", "--format", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The counts of a summary are those of the answers one by one.
#[test]
fn a_summary_counts_what_the_answers_say() {
    let env = TestEnv::new();
    fs::write(env.work().join("in.jsonl"), records(2000, 6)).unwrap();
    let answers = map(&env, &["in.jsonl", "--format", "jsonl"]).stdout;
    let answers: Vec<Value> = answers.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    let all = summary(&env, &["in.jsonl"]);
    let asserted =
        |a: &Value| a["techniques"].as_array().map_or(Vec::new(), |t| t.iter().filter(|t| t["status"] == "asserted").cloned().collect());
    let failed = answers.iter().filter(|a| a.get("error").is_some()).count();
    let with = answers.iter().filter(|a| !asserted(a).is_empty()).count();
    let documents = &all["documents"];
    assert_eq!((&documents["total"], &documents["failed"]), (&answers.len().into(), &failed.into()));
    assert_eq!((&documents["with_techniques"], &documents["without_techniques"]), (&with.into(), &(answers.len() - with - failed).into()));
    let techniques = all["techniques"].as_array().unwrap();
    assert!(techniques.len() > 2);
    for technique in techniques {
        let of: Vec<Value> = answers.iter().flat_map(asserted).filter(|t| t["id"] == technique["id"]).collect();
        let pieces = |t: &Value| t["evidence"].as_array().unwrap().iter().filter(|e| e["status"] == "asserted").count();
        assert_eq!(technique["documents"], of.len());
        assert_eq!(technique["mentions"], of.iter().map(pieces).sum::<usize>());
        let best = of.iter().map(|t| t["confidence"].as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(technique["confidence"], best);
        assert!(technique["evidence"].as_array().unwrap().len() <= 3);
    }
    assert_eq!(all["failures"].as_array().unwrap().len(), failed.min(100));
    for format in ["json", "csv", "markdown", "navigator", "table"] {
        let on = |jobs: &str| map(&env, &["in.jsonl", "--summary", "--format", format, "--jobs", jobs]).stdout;
        assert!(on("1") == on("5"), "{format}");
    }
}

#[test]
fn dates_come_from_records_mails_and_documents() {
    let env = TestEnv::new();
    let write = |name: &str, text: &str| fs::write(env.work().join(name), text).unwrap();
    write(
        "in.jsonl",
        "{\"text\": \"T1490 was used.\", \"date\": \"2025-03-01\"}\n{\"text\": \"T1490 was used.\", \"seen\": {\"at\": 1769862600}, \"date\": \"x\"}\n",
    );
    write("a.eml", "From: a@example.com\nMIME-Version: 1.0\nDate: Sat, 31 Jan 2026 00:30:00 +0200\nSubject: x\n\nT1490 was used.\n");
    write("a.html", "<html><head><meta name=DATE content=2024-12-31></head><body><p>T1490 was used.</p></body></html>");
    write("plain.txt", "T1490 was used.");
    let range = |args: &[&str]| {
        let all = summary(&env, args);
        let text = |key: &str| all["techniques"][0][key].as_str().unwrap_or("none").to_owned();
        (all["documents"]["dated"].as_u64().unwrap(), text("first"), text("last"))
    };
    let is = |n: u64, first: &str, last: &str| (n, first.to_owned(), last.to_owned());
    assert_eq!(range(&["in.jsonl"]), is(1, "2025-03-01", "2025-03-01"));
    assert_eq!(range(&["in.jsonl", "--date-field", "seen.at"]), is(1, "2026-01-31", "2026-01-31"));
    assert_eq!(range(&["a.eml"]), is(1, "2026-01-30", "2026-01-30"));
    assert_eq!(range(&["a.html", "a.eml", "plain.txt"]), is(2, "2024-12-31", "2026-01-30"));
    assert_eq!(range(&["plain.txt"]), is(0, "none", "none"));
    for (name, dated) in [("narrative-writer.pdf", 1), ("narrative.docx", 1)] {
        let path = support::root().join("tests/data/documents").join(name);
        assert!(Path::new(&path).exists());
        assert_eq!(range(&[path.to_str().unwrap()]).0, dated, "{name}");
    }
}
