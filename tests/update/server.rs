//! A server on the loopback interface that answers as a test tells it to, also wrongly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What is asked for, as it stands in the first line.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    /// How many requests for the same target came before.
    pub(crate) earlier: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// How the body goes out.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Whole,
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    /// In four pieces with a pause between them.
    Slow(Duration),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    length: bool,
    manner: Manner,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, headers: Vec::new(), body: body.into(), length: true, manner: Manner::Whole }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200, body)
    }

    pub(crate) fn redirect(to: &str) -> Reply {
        Reply::new(302, "").header("Location", to)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn gzip(mut self) -> Reply {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&self.body).unwrap();
        self.body = encoder.finish().unwrap();
        self.header("Content-Encoding", "gzip")
    }

    /// Without a Content-Length: the end of the connection is the end of the file.
    pub(crate) fn without_length(self) -> Reply {
        Reply { length: false, ..self }
    }

    /// Damages the body itself; the length is that of what is left.
    pub(crate) fn shortened(mut self, by: usize) -> Reply {
        self.body.truncate(self.body.len() - by);
        self
    }

    pub(crate) fn cut(self, after: usize) -> Reply {
        Reply { manner: Manner::Cut(after), ..self }
    }

    pub(crate) fn stalled(self, after: usize) -> Reply {
        Reply { manner: Manner::Stall(after), ..self }
    }

    pub(crate) fn slow(self, pause: Duration) -> Reply {
        Reply { manner: Manner::Slow(pause), ..self }
    }
}

type Answerer = dyn Fn(&Request) -> Reply + Send + Sync;

struct State {
    answer: Box<Answerer>,
    requests: Mutex<Vec<Request>>,
    over: AtomicBool,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// Serves until it is dropped.
pub(crate) struct Server {
    address: String,
    scheme: &'static str,
    state: Arc<State>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::bind(None, answer)
    }

    pub(crate) fn start_tls(config: rustls::ServerConfig, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::bind(Some(Arc::new(config)), answer)
    }

    fn bind(tls: Option<Arc<rustls::ServerConfig>>, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State { answer: Box::new(answer), requests: Mutex::default(), over: AtomicBool::new(false), tls });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A peer that hangs up is part of the game.
                thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        Server { address, scheme, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Waits until a target has been asked for; a minute is long on any machine.
    pub(crate) fn wait_for(&self, target: &str) {
        let begin = Instant::now();
        while !self.requests().iter().any(|r| r.target == target) {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody asked for {target}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(state: &State, stream: TcpStream) -> std::io::Result<()> {
    match &state.tls {
        None => answer(state, &mut BufReader::new(&stream), &mut &stream)?,
        Some(config) => {
            let connection = rustls::ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
            let mut tls = BufReader::new(rustls::StreamOwned::new(connection, &stream));
            let request = read(state, &mut tls)?;
            let mut tls = tls.into_inner();
            write(state, &request, &mut tls)?;
            tls.conn.send_close_notify();
            tls.flush()?;
        }
    }
    stream.shutdown(Shutdown::Both)
}

fn answer(state: &State, from: &mut impl BufRead, to: &mut impl Write) -> std::io::Result<()> {
    let request = read(state, from)?;
    write(state, &request, to)
}

fn read(state: &State, from: &mut impl BufRead) -> std::io::Result<Request> {
    let mut lines = from.take(64 << 10).lines();
    let mut next = || lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
    let first = next()?;
    let mut headers = Vec::new();
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut requests = state.requests.lock().unwrap();
    let earlier = requests.iter().filter(|r| r.target == target).count();
    let request = Request { target, headers, earlier };
    requests.push(request.clone());
    Ok(request)
}

fn write(state: &State, request: &Request, to: &mut impl Write) -> std::io::Result<()> {
    let reply = (state.answer)(request);
    let mut head = format!("HTTP/1.1 {} Told by the test\r\nConnection: close\r\n", reply.status);
    if reply.length && reply.status != 304 {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    to.write_all(head.as_bytes())?;
    to.write_all(b"\r\n")?;
    let body = &*reply.body;
    match reply.manner {
        Manner::Whole => to.write_all(body)?,
        Manner::Cut(after) => to.write_all(&body[..after])?,
        Manner::Stall(after) => {
            to.write_all(&body[..after])?;
            to.flush()?;
            while !state.over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Manner::Slow(pause) => {
            for piece in body.chunks(body.len().div_ceil(4)) {
                to.write_all(piece)?;
                to.flush()?;
                thread::sleep(pause);
            }
        }
    }
    to.flush()
}
