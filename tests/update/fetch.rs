//! The download itself, as the library has it.

use std::time::Duration;

use crate::server::{Reply, Server};
use ttpmap::source::fetch::{Address, Answer, Client, Error, Event, Options, Request};

fn client(retries: u32) -> Client {
    Client::new(Options { retries, back_off: Duration::from_millis(1), ..Options::default() }).unwrap()
}

fn get(server: &Server, most: u64) -> Result<Answer, Error> {
    let url: Address = server.url("/file").parse()?;
    client(0).fetch(Request { url: &url, etag: None, most }, &mut |_| {})
}

#[test]
fn a_file_over_the_bound_is_refused_however_it_comes() {
    let zeros = || vec![b'0'; 8 << 20];
    let cases =
        [Reply::ok(zeros()), Reply::ok(zeros()).without_length(), Reply::ok(zeros()).gzip(), Reply::ok(zeros()).gzip().without_length()];
    for reply in cases {
        let server = Server::start(move |_| reply.clone());
        assert!(matches!(get(&server, 1 << 20), Err(Error::TooLarge { most: 1_048_576, .. })));
        assert!(matches!(get(&server, 8 << 20), Ok(Answer::File { bytes, .. }) if bytes.len() == 8 << 20));
        assert!(matches!(get(&server, (8 << 20) - 1), Err(Error::TooLarge { .. })));
    }
}

#[test]
fn what_happens_is_told_in_order() {
    let server = Server::start(|r| match r.earlier {
        0 => Reply::new(503, "").header("Retry-After", "1"),
        1 => Reply::ok("twelve bytes").cut(5),
        _ => Reply::ok("twelve bytes"),
    });
    let url: Address = server.url("/file").parse().unwrap();
    let mut told = Vec::new();
    let answer = client(2).fetch(Request { url: &url, etag: None, most: 100 }, &mut |event| {
        told.push(match event {
            Event::Started(total) => format!("started {total:?}"),
            Event::Received(bytes) => format!("received {bytes}"),
            Event::Retrying { wait, .. } => format!("retrying after {wait:?}"),
        });
    });
    assert_eq!(answer.unwrap(), Answer::File { bytes: b"twelve bytes".to_vec(), etag: None });
    let expected = ["retrying after 1s", "started Some(12)", "received 5", "retrying after 2ms", "started Some(12)", "received 12"];
    assert_eq!(told, expected);
}

#[test]
fn an_address_shows_no_password_and_leads_to_its_neighbours() {
    let address: Address = "https://me:secret@example.com/a/index.json".parse().unwrap();
    assert_eq!(address.to_string(), "https://example.com/a/index.json");
    assert!(!format!("{address:?}").contains("secret"));
    assert_eq!(address.file_name(), "index.json");
    assert_eq!(address.join("b/c.json").unwrap().to_string(), "https://example.com/a/b/c.json");
    assert_eq!(address.join("http://example.org/c.json").unwrap().to_string(), "http://example.org/c.json");
    for wrong in ["", "x", "file:///etc/passwd", "javascript:1", "http://"] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
    assert!(address.join("file:///etc/passwd").is_err());
}
