//! `ttpmap map` of web addresses, on servers of its own on the loopback interface: nothing here reaches further.

#[path = "update/authority.rs"]
mod authority;
#[path = "update/server.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod server;
mod support;

use std::fs;
use std::process::Output;
use std::time::Duration;

use authority::Authority;
use serde_json::Value;
use server::{Reply, Server};
use support::TestEnv;

const PAGE: &str = "<!DOCTYPE html><html><head><title>The case</title><meta property='article:published_time' content='2026-01-31T08:00:00Z'>\
    </head><body><nav>T1485 elsewhere</nav><article><h1>The case</h1><p>The actor used T1490 and deleted shadow copies with vssadmin.</p>\
    <p>They went on to encrypt files (T1486) on the servers.</p></article></body></html>";

/// Runs `ttpmap map` with what is given, and a system that trusts nobody.
fn run(env: &TestEnv, args: &[&str]) -> Output {
    fs::write(env.work().join("system.pem"), Authority::new().pem).unwrap();
    let mut command = env.ttpmap();
    command.env("SSL_CERT_FILE", env.work().join("system.pem"));
    command.arg("map").args(args).output().unwrap()
}

/// Runs it on a page of a server, `--allow-private`; gives code, first record, standard error.
fn map(server: &Server, path: &str, more: &[&str]) -> (i32, Value, String) {
    let env = TestEnv::new();
    let url = server.url(path);
    let output = run(&env, &[&[&*url, "--allow-private", "--format", "jsonl"], more].concat());
    let record = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), record, String::from_utf8(output.stderr).unwrap())
}

#[track_caller]
fn fails(server: &Server, path: &str, more: &[&str], words: &[&str]) {
    let (code, record, stderr) = map(server, path, more);
    assert_eq!(code, 2, "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    for word in [&server.url(path), words[0]].into_iter().chain(words.iter().copied().skip(1)) {
        assert!(last.contains(word), "`{word}` is missing: {stderr}");
    }
    assert_eq!(record["source"], server.url(path), "it has its place in the answer");
    assert!(record["error"].as_str().is_some_and(|e| e.contains(words[0])), "{record}");
}

#[test]
fn a_page_is_mapped_as_its_media_type_says() {
    let server = Server::start(|request| match request.target.as_str() {
        "/page" => Reply::ok(PAGE).header("Content-Type", "text/html; charset=utf-8"),
        "/packed" => Reply::ok(PAGE).header("Content-Type", "text/html").gzip(),
        "/many" => Reply::ok("[{\"text\": \"T1490\"}, {\"text\": \"T1486\"}]").header("Content-Type", "application/json"),
        "/umlaut" => Reply::ok(b"<p>Der T\xe4ter: T1490.".to_vec()).header("Content-Type", "text/html; charset=iso-8859-1"),
        "/notes.md" => Reply::ok("# Notes\n\nT1490.").header("Content-Type", "text/plain"),
        "/x.jsonl" => Reply::ok("{\"text\": \"T1490\"}\n").header("Content-Type", "application/octet-stream"),
        "/report" => Reply::ok(fs::read(support::root().join("tests/data/documents/narrative-chromium.pdf")).unwrap()),
        _ => Reply::new(404, "no"),
    });
    for path in ["/page", "/packed"] {
        let (code, record, stderr) = map(&server, path, &[]);
        assert_eq!((code, &*stderr), (0, ""));
        assert_eq!(
            (&record["source"], &record["id"], &record["title"]),
            (&server.url(path).into(), &server.url(path).into(), &"The case".into())
        );
        let ids: Vec<&str> = record["techniques"].as_array().unwrap().iter().filter_map(|t| t["id"].as_str()).collect();
        assert!(ids.contains(&"T1490") && ids.contains(&"T1486") && !ids.contains(&"T1485"), "{ids:?}");
    }
    assert!(server.requests()[0].header("Accept").unwrap().starts_with("text/html"));
    let env = TestEnv::new();
    run(&env, &[&server.url("/umlaut"), "--allow-private", "--text-out", "read.txt"]);
    assert_eq!(fs::read_to_string(env.work().join("read.txt")).unwrap(), "Der Täter: T1490.\n");
    for path in ["/notes.md", "/x.jsonl"] {
        let (code, record, _) = map(&server, path, &[]);
        assert_eq!((code, &record["techniques"][0]["id"]), (0, &"T1490".into()), "{path}");
    }
    for (path, many) in [("/page", false), ("/many", true)] {
        let output = run(&env, &[&server.url(path), "--allow-private", "--format", "json"]);
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap().is_array(), many, "{path}");
    }
    let (code, record, _) = map(&server, "/report", &[]);
    let page = &record["techniques"][0]["evidence"][0]["page"];
    assert!(code == 0 && (1..=2).contains(&page.as_u64().unwrap()), "{page}");
}

#[test]
fn every_failure_says_what_it_was() {
    let server = Server::start(|request| match request.target.as_str() {
        "/403" => Reply::new(403, "no"),
        "/500" => Reply::new(500, "no"),
        "/large" => Reply::ok(vec![b'a'; (64 << 20) + 1]),
        "/bomb" => Reply::ok(vec![b'a'; (64 << 20) + 1]).gzip(),
        "/image" => Reply::ok(b"\x89PNG\r\n\x1a\n".to_vec()).header("Content-Type", "image/png"),
        "/binary" => Reply::ok(b"\0\x01\x02\0\0\0\x03".to_vec()),
        "/silent" => Reply::ok("twelve bytes").stalled(3),
        "/slow" => Reply::ok("twelve bytes, and more").slow(Duration::from_millis(900)),
        "/cut" => Reply::ok("twelve bytes").cut(5),
        "/coded" => Reply::ok("x").header("Content-Encoding", "br"),
        "/loop" => Reply::redirect("/loop"),
        "/file" => Reply::redirect("file:///etc/passwd"),
        "/ftp" => Reply::redirect("ftp://example.com/a.txt"),
        _ => Reply::new(404, "no"),
    });
    fails(&server, "/403", &[], &["the server answers 403", "save the page in a browser"]);
    fails(&server, "/404", &[], &["the server answers 404: there is no such page"]);
    fails(&server, "/500", &[], &["the server answers 500"]);
    fails(&server, "/large", &[], &["larger than 64 MiB"]);
    fails(&server, "/bomb", &[], &["larger than 64 MiB"]);
    fails(&server, "/image", &[], &["an image is not read"]);
    fails(&server, "/binary", &[], &["not text"]);
    fails(&server, "/silent", &["--timeout", "1"], &["nothing came for 1 s (--timeout waits longer)"]);
    fails(&server, "/cut", &[], &["it broke off after 5 bytes"]);
    fails(&server, "/coded", &[], &["it can't be unpacked", "`br`"]);
    fails(&server, "/loop", &[], &["redirected more than 5 times"]);
    fails(&server, "/file", &[], &["redirected to `file:///etc/passwd`, which is no http or https address"]);
    fails(&server, "/ftp", &[], &["redirected to a `ftp:` address, which is not http or https"]);
    let (code, _, _) = map(&server, "/slow", &["--timeout", "2"]);
    assert_eq!(code, 1, "slow, but it comes");
}

#[test]
fn nobody_there_and_no_such_name() {
    let env = TestEnv::new();
    let address = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    let output = run(&env, &[&format!("http://{address}/"), "--allow-private"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("trying again") && stderr.contains("no connection: Connection refused"), "{stderr}");
    // Names under `invalid` lead nowhere (RFC 6761).
    for more in [&["--allow-private"][..], &[]] {
        let output = run(&env, &[&["http://name.invalid/"], more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr.contains("http://name.invalid/: ") && stderr.contains("name"), "{stderr}");
    }
}

#[test]
fn a_certificate_must_be_signed_by_someone_known() {
    let authority = Authority::new();
    let plain = Server::start(|_| Reply::ok("T1490 was seen."));
    let url = plain.url("/");
    let server = Server::start_tls(authority.server_config(), move |request| match request.target.as_str() {
        "/down" => Reply::redirect(&url),
        _ => Reply::ok("T1490 was seen."),
    });
    fails(&server, "/", &[], &["its certificate is not trusted", "--ca-file"]);
    let env = TestEnv::new();
    fs::write(env.work().join("authority.pem"), &authority.pem).unwrap();
    let output = run(&env, &[&server.url("/"), "--allow-private", "--ca-file", "authority.pem", "--format", "jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(&env, &[&server.url("/down"), "--allow-private", "--ca-file", "authority.pem"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("redirected from https to http"));
    assert!(plain.requests().is_empty());
}

#[test]
fn nothing_inside_is_asked_unless_it_is_allowed() {
    let env = TestEnv::new();
    let server = Server::start(|_| Reply::ok("T1490 was seen."));
    let port = server.address().rsplit(':').next().unwrap();
    for host in
        ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]"]
    {
        let url = format!("http://{host}:{port}/");
        let output = run(&env, &[&url]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(stderr.contains("no public address") && stderr.contains("--allow-private"), "{url}: {stderr}");
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
    let output = run(&env, &[&format!("http://localhost:{port}/"), "--allow-private"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_redirect_leads_nowhere_inside_either() {
    // A proxy stands for the public internet: its answers send on to addresses inside.
    let inside = Server::start(|_| Reply::ok("T1490 was seen."));
    let target = inside.url("/secret");
    let proxy = Server::start(move |request| match request.target.as_str() {
        "http://news.example.com/in" => Reply::redirect(&target),
        "http://news.example.com/on" => Reply::redirect("http://news.example.com/page"),
        "http://news.example.com/meta" => Reply::redirect("http://[::ffff:169.254.169.254]/latest/"),
        "http://news.example.com/page" => Reply::ok("T1490 was seen."),
        _ => Reply::new(404, "no"),
    });
    let env = TestEnv::new();
    let through = |url: &str, more: &[&str]| {
        let mut command = env.ttpmap();
        command.env("http_proxy", proxy.url("")).arg("map").args([url, "--format", "jsonl"]).args(more);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for path in ["in", "meta"] {
        let (code, _, stderr) = through(&format!("http://news.example.com/{path}"), &[]);
        assert!(code == 2 && stderr.contains("no public address, and not fetched"), "{stderr}");
    }
    assert!(inside.requests().is_empty());
    let (code, stdout, stderr) = through("http://news.example.com/on", &[]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stderr, "ttpmap: http://news.example.com/on: read from http://news.example.com/page\n");
    assert!(stdout.contains("\"source\":\"http://news.example.com/on\""), "{stdout}");
    // What is inside is not asked of the proxy.
    let before = proxy.requests().len();
    let (code, ..) = through("http://10.0.0.1/", &[]);
    assert_eq!((code, proxy.requests().len()), (2, before));
}

#[test]
fn passwords_are_sent_and_not_shown_and_others_are_mapped_beside_a_failure() {
    let env = TestEnv::new();
    let server = Server::start(|request| if request.target == "/" { Reply::ok("T1490 was seen.") } else { Reply::new(404, "no") });
    let with = |path: &str| format!("http://reader:hunter2@{}{path}", server.address());
    fs::write(env.work().join("own.txt"), "T1486 was seen.").unwrap();
    let output = run(&env, &[&with("/none"), &with("/"), "own.txt", "--allow-private", "--format", "jsonl"]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), stdout.lines().count()), (Some(2), 3));
    assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"), "{stdout}{stderr}");
    assert!(stdout.lines().nth(2).unwrap().contains("T1486"));
    assert!(server.requests().iter().all(|r| r.header("Authorization").is_some()));
}

#[test]
fn offline_refuses_web_addresses() {
    let env = TestEnv::new();
    let output = run(&env, &["--offline", "https://example.com/report"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--offline: https://example.com/report is a web address"));
}
