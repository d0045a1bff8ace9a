//! The command line. Behaviour is data: each file of tests/cli is one behaviour, a sequence of runs in one folder.
//! What a file may say is in [`Behaviour`]; what data can't say (pipes, documents) stands below.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;
use support::{TestEnv, root, shared};

/// A file of tests/cli. In file names, arguments and environment `{root}` stands for the project, `{data}` and
/// `{config}` for the folders of the same names, `{shared}` for the folder of shared inputs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Behaviour {
    /// What is right, in a sentence.
    why: String,
    /// A file of the shared folder without which this is skipped.
    needs: Option<String>,
    /// Files to make first, relative to the working folder.
    #[serde(default)]
    files: BTreeMap<String, String>,
    run: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    /// The exit code.
    status: i32,
    #[serde(default)]
    stdout: Expected,
    #[serde(default)]
    stderr: Expected,
    /// Files that are there afterwards.
    #[serde(default)]
    wrote: BTreeMap<String, Expected>,
    /// Files that are not.
    #[serde(default)]
    missing: Vec<String>,
}

/// What is expected of a text. The JSON tables are of pointers (RFC 6901) to values; `*` in a pointer stands for
/// every element, and the values found are then compared as an array. JSON Lines are read as an array, unless there
/// is one line only.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Expected {
    equals: Option<String>,
    #[serde(default)]
    contains: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    lines: Option<usize>,
    /// What stands at the pointer.
    #[serde(default)]
    json: BTreeMap<String, toml::Value>,
    /// Values that are among those at the pointer.
    #[serde(default)]
    has: BTreeMap<String, Vec<toml::Value>>,
    /// Values that are not.
    #[serde(default)]
    hasnt: BTreeMap<String, Vec<toml::Value>>,
}

fn json_of(value: &toml::Value) -> Value {
    serde_json::to_value(value).expect("TOML without dates is JSON")
}

/// Every value that a pointer with `*` leads to.
fn at<'a>(value: &'a Value, pointer: &str) -> Vec<&'a Value> {
    let Some(rest) = pointer.strip_prefix('/') else { return vec![value] };
    let (step, rest) = rest.split_once('/').map_or((rest, String::new()), |(step, rest)| (step, format!("/{rest}")));
    let next: Vec<&Value> = match (step, value) {
        ("*", Value::Array(list)) => list.iter().collect(),
        ("*", Value::Object(map)) => map.values().collect(),
        (step, Value::Array(list)) => step.parse::<usize>().ok().and_then(|i| list.get(i)).into_iter().collect(),
        (step, Value::Object(map)) => map.get(step).into_iter().collect(),
        _ => Vec::new(),
    };
    next.into_iter().flat_map(|v| at(v, &rest)).collect()
}

impl Expected {
    fn check(&self, what: &str, text: &str) -> Result<(), String> {
        let fail = |problem: String| Err(format!("{what} {problem}; it is:\n{}", text.chars().take(2000).collect::<String>()));
        if let Some(equals) = self.equals.as_ref().filter(|e| *e != text) {
            return fail(format!("should be {equals:?}"));
        }
        if let Some(part) = self.contains.iter().find(|part| !text.contains(part.as_str())) {
            return fail(format!("lacks {part:?}"));
        }
        if let Some(part) = self.lacks.iter().find(|part| text.contains(part.as_str())) {
            return fail(format!("holds {part:?}"));
        }
        if let Some(lines) = self.lines.filter(|n| *n != text.lines().count()) {
            return fail(format!("should have {lines} lines"));
        }
        if self.json.is_empty() && self.has.is_empty() && self.hasnt.is_empty() {
            return Ok(());
        }
        let lines = || text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().map(Value::Array);
        let Ok(value) = serde_json::from_str::<Value>(text).or_else(|_| lines()) else { return fail("is not JSON".into()) };
        for (pointer, expected) in &self.json {
            let found = at(&value, pointer);
            let found = match (pointer.contains('*'), &found[..]) {
                (true, all) => Value::Array(all.iter().map(|v| (*v).clone()).collect()),
                (false, [one]) => (*one).clone(),
                (false, _) => return fail(format!("has nothing at {pointer}")),
            };
            if found != json_of(expected) {
                return fail(format!("has {found} at {pointer}, not {expected}"));
            }
        }
        for (pointer, values) in &self.has {
            if let Some(lacking) = values.iter().find(|v| !at(&value, pointer).contains(&&json_of(v))) {
                return fail(format!("has no {lacking} at {pointer}"));
            }
        }
        for (pointer, values) in &self.hasnt {
            if let Some(there) = values.iter().find(|v| at(&value, pointer).contains(&&json_of(v))) {
                return fail(format!("has {there} at {pointer}"));
            }
        }
        Ok(())
    }
}

/// Runs one behaviour; Ok(false) where it is skipped.
fn behave(behaviour: &Behaviour) -> Result<bool, String> {
    let mut shared_folder = String::new();
    if let Some(name) = &behaviour.needs {
        let Some(path) = shared(name) else { return Ok(false) };
        let path = path.canonicalize().map_err(|e| e.to_string())?;
        shared_folder = path.to_string_lossy().trim_end_matches(name.as_str()).trim_end_matches('/').to_owned();
    }
    let env = TestEnv::new();
    let fill = |text: &str| {
        text.replace("{root}", &root().to_string_lossy())
            .replace("{data}", &env.data().to_string_lossy())
            .replace("{config}", &env.config().to_string_lossy())
            .replace("{shared}", &shared_folder)
    };
    for (name, content) in &behaviour.files {
        let path = env.work().join(fill(name));
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).map_err(|e| e.to_string())?;
        std::fs::write(path, content).map_err(|e| e.to_string())?;
    }
    for (number, run) in behaviour.run.iter().enumerate() {
        one_run(&env, run, &fill).map_err(|problem| format!("run {number}, {:?}: {problem}", run.args))?;
    }
    Ok(true)
}

fn one_run(env: &TestEnv, run: &Run, fill: &dyn Fn(&str) -> String) -> Result<(), String> {
    let mut command = env.ttpmap();
    command.args(run.args.iter().map(|a| fill(a))).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(run.env.iter().map(|(k, v)| (k, fill(v))));
    if run.stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    if let Some(text) = &run.stdin {
        // A program that has seen enough closes its end; that is for the exit code to judge.
        let _ = child.stdin.take().expect("it is piped").write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = |bytes: Vec<u8>, what: &str| String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"));
    let (stdout, stderr) = (text(output.stdout, "stdout")?, text(output.stderr, "stderr")?);
    if output.status.code() != Some(run.status) {
        return Err(format!("exit code {:?}, not {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status.code(), run.status));
    }
    run.stdout.check("stdout", &stdout)?;
    run.stderr.check("stderr", &stderr)?;
    for (name, expected) in &run.wrote {
        let content = std::fs::read(env.work().join(fill(name))).map_err(|e| format!("{name}: {e}"))?;
        expected.check(name, &String::from_utf8_lossy(&content))?;
    }
    match run.missing.iter().find(|name| env.work().join(fill(name)).exists()) {
        Some(name) => Err(format!("{name} is there")),
        None => Ok(()),
    }
}

#[test]
fn every_behaviour_is_as_written() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/cli")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let (mut wrong, mut skipped) = (Vec::new(), 0);
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let behaviour: Behaviour =
            toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        match behave(&behaviour) {
            Ok(ran) => skipped += usize::from(!ran),
            Err(problem) => wrong.push(format!("{name} ({}): {problem}", behaviour.why)),
        }
    }
    eprintln!("{} behaviours, {skipped} skipped", files.len());
    assert!(files.len() >= 40);
    assert!(wrong.is_empty(), "{} of {} behaviours are wrong:\n\n{}", wrong.len(), files.len(), wrong.join("\n\n"));
}

#[test]
fn a_wrong_expectation_is_noticed() {
    let behaviour = |expected: &str| -> Behaviour {
        toml::from_str(&format!("why = \"\"\n[[run]]\nargs = [\"lookup\", \"T1059\", \"--format\", \"json\"]\nstatus = 0\n{expected}"))
            .unwrap()
    };
    assert_eq!(behave(&behaviour("stdout.json = { \"/0/id\" = \"T1059\" }")), Ok(true));
    for wrong in [
        "stdout.json = { \"/0/id\" = \"T1058\" }",
        "stdout.json = { \"/7/id\" = \"T1059\" }",
        "stdout.has = { \"/*/id\" = [\"T1\"] }",
        "stdout.hasnt = { \"/*/id\" = [\"T1059\"] }",
        "stdout.contains = [\"no such text\"]",
        "stdout.lacks = [\"T1059\"]",
        "stderr.equals = \"said something\"",
        "stdout.lines = 1",
        "missing = [\".\"]",
        "wrote = { \"a\" = {} }",
    ] {
        assert!(behave(&behaviour(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn a_reader_who_has_enough_ends_it_quietly() {
    let env = TestEnv::new();
    let record = format!("{{\"id\": 1, \"text\": \"{}\"}}\n", "They dumped LSASS memory with Mimikatz. ".repeat(20));
    std::fs::write(env.work().join("many.jsonl"), record.repeat(3000)).unwrap();
    for format in ["jsonl", "json", "table", "csv", "markdown", "stix", "misp", "sarif"] {
        let mut child =
            env.ttpmap().args(["map", "many.jsonl", "--format", format]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{format}");
    }
}

#[test]
fn an_endless_line_is_refused_within_a_bound() {
    let env = TestEnv::new();
    let mut child = env.ttpmap().args(["map", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let block = [b'a'; 1 << 16];
        // Sixteen times the bound, unless the program closes its end first, as it should.
        (0..16 * 1024).map_while(|_| stdin.write_all(&block).ok()).count()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("larger than 64 MiB"));
    assert!(writer.join().unwrap() < 2 * 1024, "it read on");
}

#[test]
#[cfg(unix)]
fn an_output_that_is_no_file_is_written_into() {
    let env = TestEnv::new();
    let pipe = env.work().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = env.ttpmap().args(["lookup", "T1059", "-o", "pipe"]).spawn().unwrap();
    let mut text = String::new();
    std::fs::File::open(&pipe).unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text.contains("T1059"), "{text}");
    assert!(!pipe.metadata().unwrap().is_file(), "the pipe is still one");
}

#[test]
#[cfg(unix)]
fn an_output_behind_a_link_is_replaced_where_it_is() {
    let env = TestEnv::new();
    let work = env.work();
    std::fs::write(work.join("real.txt"), "old").unwrap();
    std::os::unix::fs::symlink("real.txt", work.join("link.txt")).unwrap();
    assert!(env.ttpmap().args(["lookup", "T1059", "-o", "link.txt"]).status().unwrap().success());
    assert!(std::fs::read_to_string(work.join("real.txt")).unwrap().contains("T1059"));
    assert!(work.join("link.txt").is_symlink());
}

/// A block of a Markdown file that shows a command and what it prints: where it stands, the command's standard input
/// and arguments, and the lines shown. The first line is `$ ttpmap ...` or `$ printf '...' | ttpmap ...`.
struct Quote {
    output: std::ops::Range<usize>,
    stdin: String,
    args: Vec<String>,
}

fn quotes(markdown: &str) -> Vec<Quote> {
    let mut out = Vec::new();
    let mut start = 0;
    for (i, block) in markdown.split("```").enumerate() {
        let inside = start..start + block.len();
        start = inside.end + 3;
        let Some((command, _)) = block.strip_prefix('\n').and_then(|b| b.split_once('\n')).filter(|_| i % 2 == 1) else { continue };
        let Some(command) = command.strip_prefix("$ ") else { continue };
        let (stdin, command) = match command.strip_prefix("printf '").and_then(|c| c.split_once("' | ")) {
            Some((stdin, command)) => (stdin, command),
            None => ("", command),
        };
        let args = command.strip_prefix("ttpmap ").unwrap_or_else(|| panic!("`{command}` can't be checked"));
        out.push(Quote {
            output: inside.start
                + block.find("$ ").unwrap_or_default()
                + block[block.find("$ ").unwrap_or_default()..].find('\n').unwrap_or_default()
                + 1..inside.end,
            stdin: stdin.to_owned(),
            args: args.split_whitespace().map(str::to_owned).collect(),
        });
    }
    out
}

/// A line without what changes with every training: confidences, and how many more pieces there are.
fn loosely(line: &str) -> String {
    let number = |w: &str| w.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse::<f32>().is_ok();
    let words: Vec<&str> = line.split_whitespace().filter(|w| *w != "%" && !number(w) && *w != "more)").collect();
    words.join(" ").split("\"confidence\":").map(|p| p.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')).collect()
}

/// Documents quote output as it is; a last line `[...]` stands for the rest. With TTPMAP_BLESS=1 they are rewritten.
#[test]
fn documents_quote_what_is_printed() {
    if !root().join("models/encoder.ttpmodel").is_file() {
        eprintln!("skipped: the documents quote what is printed with models/encoder.ttpmodel");
        return;
    }
    let env = TestEnv::new();
    let bless = std::env::var_os("TTPMAP_BLESS").is_some();
    let mut checked = 0;
    for name in
        ["README.md", "docs/lookup.md", "docs/json.md", "docs/formats.md", "docs/index-format.md", "docs/layers.md", "docs/reading.md"]
    {
        let path = root().join(name);
        let mut markdown = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        for quote in quotes(&markdown.clone()).into_iter().rev() {
            let mut command = env.ttpmap();
            command.args(&quote.args).current_dir(root()).env("TTPMAP_FORMAT", "table").env_remove("TTPMAP_PROFILE");
            // No end of it is a terminal, whose width would count.
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(quote.stdin.as_bytes()).unwrap();
            let printed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            let shown = markdown[quote.output.clone()].to_owned();
            let kept: Vec<&str> = shown.lines().take_while(|l| *l != "[...]").collect();
            if bless {
                let cut = shown.lines().any(|l| l == "[...]");
                let lines: Vec<&str> = printed.lines().take(if cut { kept.len().max(3) } else { usize::MAX }).collect();
                markdown.replace_range(quote.output, &(lines.join("\n") + if cut { "\n[...]\n" } else { "\n" }));
            } else {
                let lines: Vec<String> = printed.lines().map(loosely).collect();
                if let Some(line) = kept.iter().find(|l| !lines.contains(&loosely(l))) {
                    panic!("{name} quotes {:?}, which does not print\n{line}\nbut\n{printed}\n(TTPMAP_BLESS=1 rewrites it)", quote.args);
                }
            }
            checked += 1;
        }
        if bless {
            std::fs::write(&path, markdown).unwrap();
        }
    }
    assert!(checked >= 4, "{checked}");
}

/// Every option that help shows for `map` and `lookup` stands in the README or the documents, and no other does.
#[test]
fn the_readme_names_options_that_exist() {
    let env = TestEnv::new();
    let help = |command: &str| String::from_utf8(env.ttpmap().args([command, "--help"]).output().unwrap().stdout).unwrap();
    let all: String = ["map", "lookup", "update", "kb"].map(help).concat()
        + &{
            let build = env.ttpmap().args(["kb", "build", "--help"]).output().unwrap();
            String::from_utf8(build.stdout).unwrap()
        }
        + &["new", "merge", "diff", "upgrade", "lint", "show"]
            .map(|c| {
                let layer = env.ttpmap().args(["layer", c, "--help"]).output().unwrap();
                String::from_utf8(layer.stdout).unwrap()
            })
            .concat();
    for name in ["README.md", "docs/lookup.md", "docs/json.md", "docs/formats.md", "docs/layers.md", "docs/reading.md"] {
        let markdown = std::fs::read_to_string(root().join(name)).unwrap();
        for word in markdown.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|w| w.starts_with("--") && w.len() > 3) {
            let cargo = ["--release", "--locked", "--path", "--bin", "--no-default-features"];
            assert!(all.contains(word) || cargo.contains(&word), "{name} names {word}, which no help does");
        }
    }
}

#[test]
fn the_help_of_every_command_is_complete() {
    let env = TestEnv::new();
    for command in [
        vec!["map"],
        vec!["lookup"],
        vec!["update"],
        vec!["kb"],
        vec!["kb", "info"],
        vec!["kb", "build"],
        vec!["layer", "upgrade"],
        vec!["layer", "diff"],
        vec!["man"],
    ] {
        let output = env.ttpmap().args(&command).arg("--help").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Usage: ttpmap"), "{command:?}");
        for option in ["--domain", "--kb", "--offline", "--quiet", "--color", "--config", "--output"] {
            assert!(text.contains(option), "{command:?} lacks {option}");
        }
        let first = text.lines().next().unwrap_or_default();
        assert!(!first.is_empty() && first.chars().count() < 80, "{command:?}: {first}");
    }
}
