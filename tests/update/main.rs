//! `ttpmap update` from end to end, on a server of its own on the loopback interface: nothing here reaches further.

mod authority;
mod fetch;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use authority::Authority;
use server::{Reply, Request, Server};
use tempfile::TempDir;
use ttpmap::source::releases;
use ttpmap::source::store::Store;
use ttpmap::{Domain, source};

const BUNDLE: &str = include_str!("../data/update-bundle.json");

/// The bundle as another release.
fn bundle(version: &str) -> String {
    let text = BUNDLE.replace("\"99.1\"", &format!("\"{version}\""));
    assert!(text.contains(&format!("\"{version}\"")));
    text
}

/// The bundle without the object that tells its release, as STIX 2.0 has it.
fn untold_bundle() -> String {
    BUNDLE.lines().filter(|l| !l.contains("x-mitre-collection")).collect::<Vec<_>>().join("\n")
}

/// An index of releases, newest first, with addresses relative to its own.
fn index(versions: &[&str]) -> String {
    let listed = versions.iter().map(|v| format!(r#"{{"version": "{v}", "url": "enterprise-attack/enterprise-attack-{v}.json"}}"#));
    let listed = listed.collect::<Vec<_>>().join(", ");
    format!(r#"{{"id": "1", "collections": [{{"name": "Enterprise ATT&CK", "versions": [{listed}]}}]}}"#)
}

fn path_of(version: &str) -> String {
    format!("/enterprise-attack/enterprise-attack-{version}.json")
}

/// Serves an index and the bundles it lists.
fn releases_of(versions: &'static [&'static str]) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| match versions.iter().find(|v| request.target.ends_with(&path_of(v))) {
        Some(version) => Reply::ok(bundle(version)),
        None if request.target.ends_with("/index.json") => Reply::ok(index(versions)),
        None => Reply::new(404, "nothing here"),
    }
}

/// Runs ttpmap in an environment of its own.
struct Env {
    home: TempDir,
    variables: Vec<(String, String)>,
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Run {
    /// Succeeded, with these words on standard error and nothing on standard output.
    #[track_caller]
    fn done(&self, words: &[&str]) -> &Run {
        assert_eq!((self.code, &*self.stdout), (Some(0), ""), "{}", self.stderr);
        self.says(words)
    }

    /// Failed, with these words in the last line on standard error.
    #[track_caller]
    fn failed(&self, words: &[&str]) -> &Run {
        assert_eq!((self.code, &*self.stdout), (Some(2), ""), "{}", self.stderr);
        let last = self.stderr.trim_end().lines().last().unwrap_or_default();
        for word in words {
            assert!(last.contains(word), "`{word}` is missing: {last}");
        }
        self
    }

    #[track_caller]
    fn says(&self, words: &[&str]) -> &Run {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing: {}", self.stderr);
        }
        self
    }
}

impl Env {
    fn new() -> Env {
        let env = Env { home: TempDir::new().unwrap(), variables: Vec::new() };
        // Whatever certificates the machine has: the tests' client knows one authority, which signs nothing.
        let authority = Authority::new();
        fs::write(env.path("system.pem"), authority.pem).unwrap();
        env
    }

    /// With the bundle's release 98.0 installed and in use.
    fn with_98() -> Env {
        let env = Env::new();
        env.run(&["update", "--from", &env.write("98.json", bundle("98.0"))]).done(&["now using ATT&CK 98.0"]);
        env.serves("98.0");
        env
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn prepare(&self, command: &mut Command) {
        command.env_clear().current_dir(self.home.path()).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("SSL_CERT_FILE", self.path("system.pem"));
        for (name, folder) in [("HOME", ""), ("XDG_DATA_HOME", "xdg-data"), ("XDG_CONFIG_HOME", "xdg-config"), ("TTPMAP_DATA_DIR", "data")]
        {
            command.env(name, self.path(folder));
        }
        command.envs(self.variables.iter().map(|(n, v)| (n, v)));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ttpmap"));
        self.prepare(&mut command);
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// Runs ttpmap behind a line of shell.
    #[cfg(unix)]
    fn run_behind(&self, shell: &str, args: &[&str]) -> Output {
        let mut command = Command::new("sh");
        self.prepare(&mut command);
        command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_ttpmap")]).args(args);
        command.output().unwrap()
    }

    /// `update` through the index of a server.
    fn update(&self, server: &Server, more: &[&str]) -> Run {
        self.run(&[&["update", "--index-url", &server.url("/index.json")], more].concat())
    }

    /// The installed releases, the one in use marked.
    fn installed(&self) -> Vec<String> {
        let list = self.run(&["kb", "list"]).stdout;
        let own = list.lines().filter(|l| l.ends_with(".ttpkb"));
        own.map(|l| l.split_whitespace().filter(|w| !w.contains('/')).collect::<Vec<_>>().join(" ")).collect()
    }

    /// The knowledge base in use is this one, whole, and answers.
    #[track_caller]
    fn serves(&self, version: &str) {
        let info = self.run(&["kb", "info", "--verify"]);
        assert!(info.stdout.contains(&format!("as of ATT&CK {version}\n")), "{}{}", info.stdout, info.stderr);
        let card = self.run(&["lookup", "T1193"]);
        assert_eq!(card.code, Some(0), "{}", card.stderr);
        assert!(card.stdout.contains("T1566.001") && card.stderr.is_empty(), "{}{}", card.stdout, card.stderr);
    }

    /// Every file of the store but its lock.
    fn files(&self) -> Vec<String> {
        let mut all = Vec::new();
        for folder in fs::read_dir(self.data()).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
            for file in fs::read_dir(folder.path()).unwrap().flatten() {
                all.push(format!("{}/{}", folder.file_name().display(), file.file_name().display()));
            }
        }
        all.sort();
        all
    }
}

#[test]
fn the_newest_release_of_the_index_is_installed_and_used() {
    let (env, server) = (Env::new(), Server::start(releases_of(&["99.1", "98.0"])));
    let run = env.update(&server, &[]);
    let digest = source::digest(BUNDLE.as_bytes());
    run.done(&["no digest is known here for enterprise ATT&CK 99.1", &digest, "name: invalid type", "enterprise: now using ATT&CK 99.1"]);
    assert_eq!(run.stderr.lines().last(), Some("ttpmap: enterprise: now using ATT&CK 99.1, with descriptions and procedures"));
    env.serves("99.1");
    let card = env.run(&["lookup", "T1566.001"]).stdout;
    assert!(card.contains("Made for tests"), "a downloaded knowledge base has prose: {card}");
    let asked: Vec<_> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(asked, ["/index.json", &path_of("99.1")]);
}

#[test]
fn a_release_asked_for_is_installed_beside_the_others() {
    let (env, server) = (Env::new(), Server::start(releases_of(&["99.1", "98.0"])));
    env.update(&server, &[]).done(&[]);
    env.update(&server, &["--attack-version", "98.0"]).done(&["now using ATT&CK 98.0"]);
    assert_eq!(env.installed(), ["* enterprise 98.0", "enterprise 99.1"]);
    env.serves("98.0");
    env.update(&server, &["--attack-version", "97.0"])
        .failed(&["/index.json: the index has no enterprise ATT&CK `97.0`; it has 99.1, 98.0"]);
    env.update(&server, &["--domain", "ics"]).failed(&["the index lists no ics releases"]);
    env.update(&server, &["--attack-version", "../x"]).failed(&["`../x` is not a version"]);
    assert_eq!(env.installed(), ["* enterprise 98.0", "enterprise 99.1"]);
}

#[test]
fn installed_releases_are_listed_chosen_and_removed() {
    let (env, server) = (Env::with_98(), Server::start(releases_of(&["99.1"])));
    env.update(&server, &[]).done(&[]);
    env.run(&["kb", "use", "98.0"]).done(&["enterprise: using ATT&CK 98.0"]);
    env.serves("98.0");
    env.run(&["kb", "remove", "98.0"]).done(&["removed enterprise ATT&CK 98.0"]);
    assert_eq!(env.installed(), ["enterprise 99.1"]);
    let list = env.run(&["kb", "list"]).stdout;
    assert!(list.starts_with("* enterprise") && list.lines().next().unwrap().ends_with("built in"), "{list}");
    env.run(&["kb", "use", "99.1"]).done(&[]);
    env.run(&["kb", "use", "98.0"]).failed(&["no enterprise knowledge base 98.0 is installed"]);
    env.run(&["kb", "use", "embedded"]).done(&["using the built-in knowledge base"]);
    assert_eq!(env.installed(), ["enterprise 99.1"]);
    env.run(&["kb", "remove", "99.1"]).done(&[]);
    assert_eq!(env.files(), Vec::<String>::new());
}

/// A store may be shared: what one user installs, others read.
#[cfg(unix)]
#[test]
fn installed_files_are_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let env = Env::new();
    let file = env.write("99.json", BUNDLE);
    assert!(env.run_behind("umask 027", &["update", "--from", &file]).status.success());
    for file in env.files() {
        let mode = fs::metadata(env.data().join(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{file}");
    }
}

#[test]
fn an_address_of_ones_own_serves_as_well() {
    let (env, server) = (Env::new(), Server::start(|_| Reply::ok(untold_bundle())));
    env.run(&["update", "--url", &server.url("/mirror/attack.json")]).failed(&["/mirror/attack.json: ", "--attack-version"]);
    env.run(&["update", "--url", &server.url("/mirror/enterprise-attack-97.2.json")]).done(&["now using ATT&CK 97.2"]);
    env.run(&["update", "--url", &server.url("/"), "--attack-version", "97.3"]).done(&["now using ATT&CK 97.3"]);
    env.run(&["update", "--url", "ftp://example.com/x.json"]).failed(&["`ftp://example.com/x.json` is not an http or https address"]);
    env.run(&["update", "--url", "x.json"]).failed(&["`x.json` is not an http or https address"]);
}

#[test]
fn a_name_and_password_in_an_address_are_sent_but_never_shown_or_kept() {
    let server = Server::start(|r| if r.target == "/x.json" { Reply::ok(BUNDLE).header("ETag", "\"1\"") } else { Reply::new(404, "") });
    let (env, host) = (Env::new(), server.address());
    env.run(&["update", "--url", &format!("http://reader:hunter2@{host}/x.json")]).done(&[]);
    assert!(server.requests()[0].header("Authorization").is_some_and(|a| a.starts_with("Basic ")));
    let origin = fs::read_to_string(env.data().join("enterprise/99.1.origin")).unwrap();
    let run = env.run(&["update", "--url", &format!("http://reader:hunter2@{host}/y.json")]);
    run.failed(&["/y.json answers 404"]);
    assert!(!origin.contains("hunter2") && !run.stderr.contains("hunter2"), "{origin}{}", run.stderr);
}

#[test]
fn a_file_needs_no_network() {
    let env = Env::new();
    let told = env.write("any-name.json", BUNDLE);
    env.run(&["update", "--offline", "--from", &told]).done(&["now using ATT&CK 99.1"]);
    let mut piped = env.command(&["update", "--from", "-"]);
    let run: Run = piped.stdin(fs::File::open(&told).unwrap()).output().unwrap().into();
    run.done(&["standard input: no digest is known", "now using ATT&CK 99.1"]);
    env.run(&["update", "--from", "missing.json"]).failed(&["missing.json: No such file"]);
    let quiet = env.run(&["update", "--quiet", "--from", &told]);
    assert_eq!((quiet.code, &*quiet.stderr), (Some(0), ""));
}

#[test]
fn the_release_of_a_file_is_told_by_content_then_flag_then_name() {
    let env = Env::new();
    let untold = env.write("attack.json", untold_bundle());
    env.run(&["update", "--from", &untold]).failed(&["attack.json: neither digest nor content nor name tells", "--attack-version"]);
    env.run(&["update", "--from", &untold, "--attack-version", "97.1"]).done(&["now using ATT&CK 97.1"]);
    let named = env.write("enterprise-attack-97.2.json", untold_bundle());
    env.run(&["update", "--from", &named]).done(&["now using ATT&CK 97.2"]);
    let told = env.write("enterprise-attack-97.4.json", BUNDLE);
    env.run(&["update", "--from", &told]).done(&["now using ATT&CK 99.1"]);
    env.run(&["update", "--from", &told, "--attack-version", "97.4"]).failed(&["97.4.json: it is ATT&CK 99.1, not 97.4"]);
    let evil = env.write("evil.json", bundle("../../evil"));
    env.run(&["update", "--from", &evil]).failed(&["evil.json: `../../evil` is not a version"]);
}

#[test]
fn an_index_that_names_the_wrong_release_is_not_believed() {
    let server = Server::start(|r| if r.target == "/index.json" { Reply::ok(index(&["99.2"])) } else { Reply::ok(BUNDLE) });
    let env = Env::with_98();
    env.update(&server, &[]).failed(&["99.2.json: it is ATT&CK 99.1, not 99.2"]);
    assert_eq!(env.installed(), ["* enterprise 98.0"]);
}

#[test]
fn offline_refuses_the_network() {
    let (mut env, server) = (Env::new(), Server::start(releases_of(&["99.1"])));
    env.update(&server, &["--offline"]).failed(&["--offline", "update --from FILE"]);
    env.variables = vec![("TTPMAP_OFFLINE".into(), "1".into())];
    env.update(&server, &[]).failed(&["--offline"]);
    assert!(server.requests().is_empty());
    env.variables = vec![("TTPMAP_OFFLINE".into(), "0".into())];
    env.update(&server, &[]).done(&[]);
}

#[test]
fn what_may_pass_is_tried_again_and_what_does_not_is_not() {
    let env = Env::with_98();
    let server = Server::start(|r| match (&*r.target, r.earlier) {
        ("/index.json", 0) => Reply::new(500, "oops"),
        ("/index.json", 1) => Reply::new(429, "slow down").header("Retry-After", "0"),
        ("/index.json", _) => Reply::ok(index(&["99.1"])),
        (_, 0) => Reply::ok(BUNDLE).cut(2000),
        (_, _) => Reply::ok(BUNDLE),
    });
    let run = env.update(&server, &["--retries", "2"]);
    run.done(&["answers 500; trying again in 0.5 s", "answers 429; trying again in 1 s", "broke off after", "now using ATT&CK 99.1"]);
    assert_eq!(server.requests().len(), 5);

    let server = Server::start(|_| Reply::new(404, "no"));
    env.update(&server, &[]).failed(&["/index.json answers 404"]);
    assert_eq!(server.requests().len(), 1);

    let server = Server::start(|_| Reply::new(503, "no"));
    env.update(&server, &["--retries", "1"]).failed(&["/index.json answers 503"]);
    assert_eq!(server.requests().len(), 2);
    env.serves("99.1");
}

#[test]
fn a_cut_or_stalled_download_changes_nothing() {
    let env = Env::with_98();
    let before = env.files();
    let cut = Server::start(|_| Reply::ok(BUNDLE).cut(3000));
    env.run(&["update", "--retries", "0", "--url", &cut.url("/x.json")]).failed(&["/x.json: the download broke off after 3000 bytes"]);
    let stalled = Server::start(|_| Reply::ok(BUNDLE).stalled(3000));
    let args = ["update", "--retries", "0", "--timeout", "1", "--url", &stalled.url("/x.json")];
    env.run(&args).failed(&["/x.json: nothing came for 1 s"]);
    // Cut where the server says no length: then the JSON itself tells.
    let short = Server::start(|_| Reply::ok(BUNDLE).without_length().cut(3000));
    env.run(&["update", "--url", &short.url("/x.json")]).failed(&["/x.json: the file is cut short at byte 3000"]);
    assert_eq!(env.files(), before);
    env.serves("98.0");
}

#[test]
fn nobody_at_the_address_is_said_after_the_retries() {
    let env = Env::new();
    let url = Server::start(|_| Reply::ok("")).url("/x.json");
    let run = env.run(&["update", "--retries", "1", "--url", &url]);
    run.failed(&["connecting to http://127.0.0.1:", "refused"]).says(&["trying again"]);
}

#[test]
fn gzip_is_asked_for_and_undone() {
    let (env, server) = (Env::new(), Server::start(|_| Reply::ok(BUNDLE).gzip()));
    env.run(&["update", "--url", &server.url("/x.json")]).done(&[&source::digest(BUNDLE.as_bytes())]);
    assert_eq!(server.requests()[0].header("Accept-Encoding"), Some("gzip"));
    env.serves("99.1");
}

#[test]
fn nothing_new_keeps_what_is_installed() {
    let env = Env::new();
    let server = Server::start(|r| match (&*r.target, r.header("If-None-Match")) {
        ("/index.json", _) => Reply::ok(index(&["99.1"])),
        (_, Some("\"tag-1\"")) => Reply::new(304, ""),
        (_, _) => Reply::ok(BUNDLE).header("ETag", "\"tag-1\""),
    });
    let downloads = || server.requests().iter().filter(|r| r.target != "/index.json" && r.header("If-None-Match").is_none()).count();
    env.update(&server, &[]).done(&["now using"]);
    let files = env.files();
    assert_eq!(files, ["enterprise/99.1.origin", "enterprise/99.1.ttpkb", "enterprise/current"]);
    env.update(&server, &[]).done(&["nothing new: enterprise ATT&CK 99.1 is installed and in use"]);
    assert_eq!((env.files(), downloads()), (files, 1));
    env.serves("99.1");

    // An update makes the newest the one in use, also where it was there already.
    env.run(&["kb", "use", "embedded"]).done(&[]);
    env.update(&server, &[]).done(&["nothing new"]);
    assert_eq!((env.installed(), downloads()), (vec!["* enterprise 99.1".to_owned()], 1));

    // Damaged: the server's "nothing new" would be no help.
    let path = env.data().join("enterprise/99.1.ttpkb");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    env.update(&server, &[]).done(&["now using"]);
    assert_eq!(downloads(), 2);
    env.serves("99.1");

    // From another place since: the same.
    let other = BUNDLE.replace("Teach people", "Train people");
    env.run(&["update", "--from", &env.write("other.json", other)]).done(&[]);
    env.update(&server, &[]).done(&["now using"]);
    assert_eq!(downloads(), 3);

    // Removed: the same.
    env.run(&["kb", "remove", "99.1"]).done(&[]);
    env.update(&server, &[]).done(&["now using"]);
    assert_eq!(downloads(), 4);
}

#[test]
fn a_file_other_than_the_published_one_is_refused_unless_accepted() {
    let env = Env::with_98();
    let server = Server::start(|_| Reply::ok(bundle("18.1")));
    let own = source::digest(bundle("18.1").as_bytes());
    let published = releases::digests(Domain::Enterprise, "18.1");
    let url = server.url("/enterprise-attack-18.1.json");
    env.run(&["update", "--url", &url]).failed(&[&[&*own, "--accept-digest"], &*published].concat());
    assert_eq!(env.installed(), ["* enterprise 98.0"]);
    env.run(&["update", "--url", &url, "--accept-digest"]).done(&[&[&*own], &*published].concat());
    assert_eq!(env.installed(), ["* enterprise 18.1", "enterprise 98.0"]);
    let file = env.write("x.json", bundle("17.1"));
    env.run(&["update", "--from", &file]).failed(&["x.json: not the published enterprise ATT&CK 17.1"]);
}

/// A bundle of the real size. It was written anew from the official one, so that its digest is not the published one.
#[test]
fn a_real_bundle_is_read_from_the_network_and_answers() {
    let shared = std::env::var_os("TTPMAP_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let packed = shared.join("attack/ics-attack-18.1.json.xz");
    let unpacked = Command::new("xz").arg("-dc").arg(&packed).output();
    let Some(bytes) = unpacked.ok().filter(|o| o.status.success()).map(|o| o.stdout) else {
        eprintln!("skipped: there is no {} to unpack", packed.display());
        return;
    };
    let (env, server) = (Env::new(), Server::start(move |_| Reply::ok(&*bytes).gzip()));
    let args = ["update", "--domain", "ics", "--url", &server.url("/ics-attack-18.1.json")];
    env.run(&args).failed(&["not the published ics ATT&CK 18.1"]);
    env.run(&[&args[..], &["--accept-digest"]].concat()).done(&["ics: now using ATT&CK 18.1"]);
    let card = env.run(&["lookup", "--domain", "ics", "TA0108"]);
    assert!(card.code == Some(0) && card.stdout.contains("Initial Access"), "{}{}", card.stdout, card.stderr);
}

#[test]
fn a_bundle_of_another_domain_is_refused_where_one_was_asked_for() {
    let (env, server) = (Env::with_98(), Server::start(releases_of(&["99.1"])));
    let ics = BUNDLE.replace("\"enterprise-attack\"", "\"ics-attack\"");
    let file = env.write("ics.json", &ics);
    env.run(&["update", "--domain", "ics", "--url", &server.url(&path_of("99.1"))])
        .failed(&["99.1.json: it is a bundle of the enterprise domain, not of ics"]);
    env.run(&["update", "--domain", "enterprise", "--from", &file])
        .failed(&["ics.json: it is a bundle of the ics domain, not of enterprise"]);
    let wrong = Server::start(move |r| if r.target == "/index.json" { Reply::ok(index(&["99.1"])) } else { Reply::ok(&*ics) });
    env.update(&wrong, &[]).failed(&["it is a bundle of the ics domain, not of enterprise"]);
    env.run(&["update", "--from", &file]).done(&["ics: now using ATT&CK 99.1"]);
    assert_eq!(env.installed(), ["* enterprise 98.0", "* ics 99.1"]);
}

#[test]
fn answers_that_are_no_bundle_are_named_for_what_they_are() {
    let env = Env::with_98();
    let cases = [
        (Reply::ok("<p>Sign in</p>").header("Content-Type", "text/html; charset=utf-8"), "answers with a web page"),
        (Reply::ok("  <!DOCTYPE html><title>Sign in</title>"), "answers with a web page"),
        (Reply::ok("hello"), "not JSON at byte"),
        (Reply::ok(""), "the file is cut short at byte 0"),
        (Reply::ok("{\"type\": \"layer\"}"), "not a STIX bundle"),
        (Reply::ok("{}").header("Content-Encoding", "br"), "its encoding is `br`"),
        (Reply::ok(BUNDLE).gzip().shortened(300), "can't be decoded"),
        (Reply::new(204, ""), "answers 204"),
        (Reply::new(304, ""), "answers 304"),
    ];
    for (reply, words) in cases {
        let server = Server::start(move |_| reply.clone());
        env.run(&["update", "--url", &server.url("/x.json")]).failed(&["/x.json", words]);
    }
    let server = Server::start(|_| Reply::ok("[]"));
    env.update(&server, &[]).failed(&["/index.json: not an index of ATT&CK releases"]);
    env.serves("98.0");
    assert_eq!(env.files(), ["enterprise/98.0.ttpkb", "enterprise/current"]);
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let (mut env, authority) = (Env::new(), Authority::new());
    let server = Server::start_tls(authority.server_config(), releases_of(&["99.1"]));
    let run = env.update(&server, &[]);
    run.failed(&["/index.json: its certificate is not trusted", "--ca-file"]);
    assert!(!run.stderr.contains("trying again"), "{}", run.stderr);
    let pem = env.write("authority.pem", &authority.pem);
    env.update(&server, &["--ca-file", &pem]).done(&["now using ATT&CK 99.1"]);
    env.variables = vec![("TTPMAP_CA_FILE".into(), pem)];
    env.update(&server, &[]).done(&["now using ATT&CK 99.1"]);
    env.variables.clear();
    env.update(&server, &["--ca-file", &env.write("other.pem", Authority::new().pem)]).failed(&["its certificate is not trusted"]);
    env.update(&server, &["--ca-file", &env.write("none.pem", "nothing")]).failed(&["none.pem: no certificate in PEM form"]);
    env.update(&server, &["--ca-file", "missing.pem"]).failed(&["missing.pem: No such file"]);
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let (mut env, proxy) = (Env::new(), Server::start(releases_of(&["99.1"])));
    env.variables = vec![("http_proxy".into(), proxy.url(""))];
    env.run(&["update", "--index-url", "http://attack.example.com/index.json"]).done(&["now using ATT&CK 99.1"]);
    assert_eq!(proxy.requests()[0].target, "http://attack.example.com/index.json");
}

#[test]
fn redirects_are_followed_five_times() {
    let server = Server::start(|r| match r.target.strip_prefix("/r/").and_then(|n| n.parse::<u32>().ok()) {
        Some(0) | None => Reply::ok(BUNDLE),
        Some(n) => Reply::redirect(&format!("/r/{}", n - 1)),
    });
    let env = Env::new();
    env.run(&["update", "--url", &server.url("/r/5")]).done(&["now using"]);
    env.run(&["update", "--url", &server.url("/r/6")]).failed(&["/r/6: redirected: more than 5 times"]);
    let (authority, plain) = (Authority::new(), server.url("/x.json"));
    let tls = Server::start_tls(authority.server_config(), move |_| Reply::redirect(&plain));
    let pem = env.write("authority.pem", &authority.pem);
    env.run(&["update", "--ca-file", &pem, "--url", &tls.url("/x.json")]).failed(&["redirected: from https to http"]);
}

#[test]
fn a_second_run_is_told_at_once_that_another_runs() {
    let (env, server) = (Env::with_98(), Server::start(releases_of(&["99.1"])));
    let lock = Store::new(env.data()).lock().unwrap();
    env.update(&server, &[]).failed(&["another ttpmap is changing"]);
    env.run(&["kb", "remove", "98.0"]).failed(&["another ttpmap is changing"]);
    assert!(server.requests().is_empty());
    env.serves("98.0");
    drop(lock);
    env.update(&server, &[]).done(&["now using ATT&CK 99.1"]);
}

#[test]
fn killed_while_downloading_the_previous_one_serves() {
    let env = Env::with_98();
    let before = env.files();
    let stalling = Server::start(|r| if r.target == "/index.json" { Reply::ok(index(&["99.1"])) } else { Reply::ok(BUNDLE).stalled(3000) });
    let mut child = env.command(&["update", "--index-url", &stalling.url("/index.json")]).stderr(Stdio::null()).spawn().unwrap();
    stalling.wait_for(&path_of("99.1"));
    env.update(&stalling, &[]).failed(&["another ttpmap is changing"]);
    env.serves("98.0");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(env.files(), before);
    env.serves("98.0");
    env.update(&Server::start(releases_of(&["99.1"])), &[]).done(&["now using ATT&CK 99.1"]);
    env.serves("99.1");
}

/// The limit on a file's size kills the process in the middle of a file, as a power cut would; where its signal is
/// ignored, writing fails as on a full disk.
#[cfg(unix)]
#[test]
fn killed_while_writing_the_previous_one_serves_and_the_next_run_cleans_up() {
    use std::os::unix::process::ExitStatusExt;
    let env = Env::with_98();
    let (before, file) = (env.files(), env.write("99.json", BUNDLE));
    let killed = env.run_behind("ulimit -c 0; ulimit -f 8", &["update", "--from", &file]);
    assert!(killed.status.signal().is_some(), "{killed:?}");
    let left = env.files();
    assert_eq!(left.iter().filter(|f| f.starts_with("enterprise/.new-")).count(), 1, "{left:?}");
    env.serves("98.0");
    assert_eq!(env.installed(), ["* enterprise 98.0"]);
    env.run(&["update", "--from", &file]).done(&["now using ATT&CK 99.1"]);
    env.serves("99.1");
    env.run(&["kb", "use", "98.0"]).done(&[]);
    env.run(&["kb", "remove", "99.1"]).done(&[]);
    assert_eq!(env.files(), before);
}

#[cfg(unix)]
#[test]
fn on_a_full_disk_the_previous_one_serves_and_nothing_is_left() {
    let env = Env::with_98();
    let (before, file) = (env.files(), env.write("99.json", BUNDLE));
    let full: Run = env.run_behind("trap '' XFSZ; ulimit -f 8", &["update", "--from", &file]).into();
    full.failed(&["writing", "99.1.ttpkb", "too large"]);
    assert_eq!(env.files(), before);
    env.serves("98.0");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let mut env = Env::new();
    let file = env.write("99.json", BUNDLE);
    env.variables = vec![("TTPMAP_DATA_DIR".into(), file.clone())];
    env.run(&["update", "--from", &file]).failed(&["making folder", "99.json"]);
}

#[test]
fn a_knowledge_base_that_goes_before_the_new_one_is_mentioned() {
    let mut env = Env::with_98();
    let kb = env.data().join("enterprise/98.0.ttpkb").display().to_string();
    let file = env.write("99.json", BUNDLE);
    env.variables = vec![("TTPMAP_KB".into(), kb)];
    env.run(&["update", "--from", &file]).done(&["98.0.ttpkb (enterprise ATT&CK 98.0), which goes before enterprise ATT&CK 99.1"]);
}

#[test]
fn the_page_for_users_names_every_option_and_no_other() {
    let page = include_str!("../../docs/update.md");
    let help = Env::new().run(&["update", "--help"]).stdout;
    let options = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words.filter(|w| w.len() > 2 && w.starts_with("--") && !w.starts_with("---")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (own, shared) = help.split_once("Shared options:").expect("shared options have a heading");
    let (own, shared, told) = (options(own), options(shared), options(page));
    assert!(own.len() > 5 && shared.len() > 3, "{help}");
    let general = ["--help", "--version"].map(str::to_owned);
    let missing: Vec<_> = own.iter().filter(|o| !told.contains(*o) && !general.contains(o)).collect();
    let wrong: Vec<_> = told.iter().filter(|o| !own.contains(*o) && !shared.contains(*o)).collect();
    assert_eq!((missing, wrong), (vec![], vec![]));
}

/// `script` gives a command a terminal.
#[cfg(target_os = "linux")]
#[test]
fn progress_is_shown_on_a_terminal_only() {
    let server = Server::start(|_| Reply::ok(BUNDLE).slow(Duration::from_millis(150)));
    let env = Env::new();
    let line = |more: &str| format!("{} update {more} --url {}", env!("CARGO_BIN_EXE_ttpmap"), server.url("/bundle.json"));
    let on_terminal = |more: &str| {
        let mut script = Command::new("script");
        env.prepare(&mut script);
        let output = script.env("TERM", "xterm").args(["-qec", &line(more), "/dev/null"]).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(seen) = on_terminal("") else {
        eprintln!("skipped: `script` is not there to give a terminal");
        return;
    };
    assert!(seen.contains("bundle.json [") && seen.contains(" left") && seen.contains("now using"), "{seen:?}");
    assert_eq!(on_terminal("--quiet").unwrap(), "");
    let plain = env.run(&["update", "--url", &server.url("/bundle.json")]);
    assert!(!plain.done(&["now using"]).stderr.contains(" left"), "{}", plain.stderr);
}

/// The encoder's model file of the project; None in a package without it, which is said.
fn encoder() -> Option<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/encoder.ttpmodel");
    let bytes = fs::read(path).ok();
    if bytes.is_none() {
        eprintln!("skipped: there is no {path}");
    }
    bytes
}

#[test]
fn the_encoder_is_fetched_checked_and_used() {
    let Some(model) = encoder() else { return };
    let bytes = model.clone();
    let server = Server::start(move |_| Reply::ok(bytes.clone()));
    let env = Env::new();
    env.run(&["update", "--models", "--url", &server.url("/encoder.ttpmodel")]).done(&["the encoder of ", "models/encoder.ttpmodel"]);
    assert_eq!(env.files(), ["models/encoder.ttpmodel"]);
    assert_eq!(fs::read(env.data().join("models/encoder.ttpmodel")).unwrap(), model);
    // What belongs to this ttpmap is not fetched again.
    env.run(&["update", "--models"]).done(&["nothing new: the encoder of "]);
    let text = env.write("report.txt", "They dumped LSASS memory with comsvcs.dll.\n\nThen they left.\n\nNobody saw it.\n");
    let run = env.run(&["map", &text, "--explain", "--format", "table"]);
    assert!(run.stdout.contains("T1003.001") && run.stdout.contains("the encoder "), "{}", run.stdout);
    assert_eq!(run.stderr, "");
}

#[test]
fn an_encoder_that_is_not_the_published_one_is_refused() {
    let Some(model) = encoder() else { return };
    let env = Env::new();
    let mut other = model.clone();
    *other.last_mut().unwrap() ^= 1;
    env.run(&["update", "--models", "--from", &env.write("other.ttpmodel", &other)])
        .failed(&["other.ttpmodel: this model file is damaged"]);
    env.run(&["update", "--models", "--from", &env.write("short.ttpmodel", &model[..5000])])
        .failed(&["short.ttpmodel: this model file is damaged"]);
    env.run(&["update", "--models", "--from", &env.write("foreign.ttpmodel", [7; 5000])]).failed(&["foreign.ttpmodel: not a ttpmap model"]);
    env.run(&["update", "--models", "--from", "missing.ttpmodel"]).failed(&["missing.ttpmodel: No such file"]);
    env.run(&["update", "--models", "--offline"]).failed(&["update --models --from FILE"]);
    let server = Server::start(|_| Reply::new(404, ""));
    env.run(&["update", "--models", "--url", &server.url("/x")]).failed(&["answers 404"]);
    assert_eq!(env.files(), Vec::<String>::new());
    env.run(&["update", "--models", "--from", &env.write("same.ttpmodel", &model)]).done(&[]);
}

#[cfg(unix)]
#[test]
fn without_an_encoder_the_linear_models_read_and_a_line_says_so() {
    let mut env = Env::new();
    // A copy that lies where nothing is beside it.
    let program = env.path("ttpmap");
    fs::copy(env!("CARGO_BIN_EXE_ttpmap"), &program).unwrap();
    let text = env.write("report.txt", "They dumped LSASS memory with comsvcs.dll.");
    let map = |env: &Env, more: &[&str]| -> Run {
        let mut command = Command::new(&program);
        env.prepare(&mut command);
        command.args([&["map", &text, "--format", "json"], more].concat()).output().unwrap().into()
    };
    let run = map(&env, &[]);
    assert!(run.stdout.contains("T1003.001"), "{}", run.stdout);
    assert!(run.stderr.contains("no encoder is installed") && run.stderr.lines().count() == 1, "{}", run.stderr);
    assert_eq!(map(&env, &["--profile", "fast"]).stderr, "");
    assert_eq!(map(&env, &["--quiet"]).stderr, "");
    // One that is damaged is named, and does not end the run; one that was asked for does.
    fs::create_dir_all(env.data().join("models")).unwrap();
    fs::write(env.data().join("models/encoder.ttpmodel"), "no model at all, and longer than the header of one would be").unwrap();
    let run = map(&env, &[]);
    assert!(run.stderr.contains("encoder.ttpmodel: ") && run.stderr.contains("not used") && run.code == Some(0), "{}", run.stderr);
    assert_eq!(map(&env, &["--model", "none.ttpmodel"]).code, Some(2));
    env.variables = vec![("TTPMAP_PROFILE".into(), "fast".into())];
    assert_eq!(map(&env, &[]).stderr, "");
}
