//! Downloads, within bounds: the only place of the library that uses the network.
//!
//! A download is held in memory until it is whole, so that one that is killed leaves nothing behind. Proxies come
//! from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
//!
//! gzip is undone here rather than by the client: progress counts bytes on the wire, which is what the server's
//! `Content-Length` is about, and the bound holds for what comes out.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

use super::reach::{Guard, Reach, Refused, Resolver, Unresolved};

use flate2::write::MultiGzDecoder;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url, redirect};

/// Redirects followed at most.
pub const MAX_REDIRECTS: usize = 5;

/// The longest wait between two attempts, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is accepted where a file is wanted, and where a page is.
const FILE: &str = "*/*";
const PAGE: &str = "text/html,application/xhtml+xml,application/pdf,text/plain;q=0.9,*/*;q=0.8";

/// Longer ETags are not kept.
const LONGEST_ETAG: usize = 1024;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An http or https address. Shown without a user's name and password, which may be in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads an address that stands in a file got from this one, and may be relative to it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn join(&self, text: &str) -> Result<Address, Error> {
        Address::checked(self.0.join(text).ok(), text)
    }

    /// The last part of the path; empty where it ends in a slash.
    pub fn file_name(&self) -> &str {
        self.0.path().rsplit('/').next().unwrap_or_default()
    }

    fn checked(url: Option<Url>, text: &str) -> Result<Address, Error> {
        let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let refused = || Error::Address(text.chars().take(200).flat_map(char::escape_debug).collect());
        url.filter(fits).map(Address).ok_or_else(refused)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        Address::checked(Url::parse(text).ok(), text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // These fail only for addresses that can't have them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address.
    #[error("`{0}` is not an http or https address")]
    Address(String),
    /// The extra certificate authority can't be read.
    #[error("no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----")]
    Authority,
    /// The client can't be set up.
    #[error("setting up the network client; where the system has no certificates, name some with --ca-file")]
    Client(#[source] Cause),
    /// No connection.
    #[error("connecting to {url}")]
    Connect {
        /// Where to.
        url: Address,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// The host's name leads to no address.
    #[error("{url}")]
    Unresolved {
        /// The address asked for.
        url: Address,
        /// Which name.
        #[source]
        source: Cause,
    },
    /// It is not public, or sends on to where is not.
    #[error("{url}: not fetched; --allow-private fetches it all the same")]
    NotPublic {
        /// The address asked for.
        url: Address,
        /// What is not public.
        #[source]
        source: Cause,
    },
    /// It took too long in all.
    #[error("{url}: not there after {seconds} s")]
    Slow {
        /// The address asked for.
        url: Address,
        /// How long was waited.
        seconds: u64,
    },
    /// The server's certificate isn't signed by anyone known here.
    #[error("{url}: its certificate is not trusted; if your network has an authority of its own, name it with --ca-file")]
    Untrusted {
        /// Whose certificate.
        url: Address,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// More redirects than are followed, or one from https to http.
    #[error("{url}: redirected")]
    Redirect {
        /// The address asked for.
        url: Address,
        /// To where, or how often.
        #[source]
        source: Cause,
    },
    /// An answer other than the file.
    #[error("{url} answers {status}")]
    Status {
        /// The address asked for.
        url: Address,
        /// The answer.
        status: u16,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// Nothing came for too long.
    #[error("{url}: nothing came for {seconds} s")]
    Silent {
        /// The address asked for.
        url: Address,
        /// How long that is.
        seconds: u64,
    },
    /// The connection ended before the file did.
    #[error("{url}: the download broke off after {received} bytes")]
    Cut {
        /// The address asked for.
        url: Address,
        /// Bytes that had come.
        received: u64,
        /// How it broke off.
        #[source]
        source: Cause,
    },
    /// The file, as sent or inflated, is over the bound.
    #[error("{url}: larger than {most} bytes, which no file of this kind is")]
    TooLarge {
        /// The address asked for.
        url: Address,
        /// The bound.
        most: u64,
    },
    /// The gzip data is damaged, or the encoding is one that wasn't asked for.
    #[error("{url}: can't be decoded")]
    Encoding {
        /// The address asked for.
        url: Address,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// A web page instead of the file.
    #[error("{url} answers with a web page, not with the file: check the address, and whether a proxy wants a sign-in")]
    Page {
        /// The address asked for.
        url: Address,
    },
}

impl Error {
    /// Whether another attempt may fare better.
    pub fn may_pass(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Silent { .. } | Error::Cut { .. } => true,
            Error::Status { status, .. } => {
                matches!(status, 408 | 429 | 500..600)
            }
            _ => false,
        }
    }
}

/// How to download.
#[derive(Debug, Clone)]
pub struct Options {
    /// An attempt is given up when nothing comes for so long, connecting included.
    pub timeout: Duration,
    /// Attempts after the first that failed for a reason that may pass.
    pub retries: u32,
    /// Wait before the second attempt; each further wait is twice as long, a minute at most.
    pub back_off: Duration,
    /// Certificates (PEM) to trust beside those of the system.
    pub authority: Option<Vec<u8>>,
    /// From where it may come.
    pub reach: Reach,
    /// An attempt is given up after so long, whatever comes.
    pub longest: Option<Duration>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(30),
            retries: 3,
            back_off: Duration::from_millis(500),
            authority: None,
            reach: Reach::Anywhere,
            longest: None,
        }
    }
}

/// What to download.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// From where.
    pub url: &'a Address,
    /// Answer [`Answer::Unchanged`] where the server's file still has this ETag.
    pub etag: Option<&'a str>,
    /// Bytes that are taken at most.
    pub most: u64,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The file is the one of [`Request::etag`].
    Unchanged,
    /// The file.
    File {
        /// Its bytes, inflated.
        bytes: Vec<u8>,
        /// Its ETag, where the server gave one.
        etag: Option<String>,
    },
}

/// A page, or another document of the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its bytes, inflated.
    pub bytes: Vec<u8>,
    /// What the server says that it is.
    pub content_type: Option<String>,
    /// Where it came from in the end.
    pub url: Address,
}

/// What an attempt brought.
struct Came {
    bytes: Vec<u8>,
    headers: HeaderMap,
    url: Url,
}

/// What happens meanwhile.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file begins to come, of so many bytes where the server says it.
    Started(Option<u64>),
    /// So many bytes of it have come in all.
    Received(u64),
    /// An attempt failed; the next one comes after a wait.
    Retrying {
        /// Why it failed.
        error: &'a Error,
        /// How long the wait is.
        wait: Duration,
    },
}

/// Downloads files one by one.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    /// None only while it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
    guard: Option<Guard>,
    options: Options,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name look-up that hangs would be waited for otherwise.
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// Sets up a client; connects to nothing.
    ///
    /// # Errors
    /// Where [`Options::authority`] holds no certificate, or the system has no certificates at all.
    pub fn new(options: Options) -> Result<Client, Error> {
        let guard = (options.reach == Reach::Public).then(Guard::new);
        let redirects = guard.clone();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("ttpmap/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.timeout)
            .read_timeout(options.timeout)
            .retry(reqwest::retry::never())
            .referer(false)
            .redirect(redirect::Policy::custom(move |attempt| follow(attempt, redirects.as_ref())));
        if let Some(guard) = &guard {
            http = http.dns_resolver(Resolver(Some(guard.clone())));
        }
        if let Some(pem) = &options.authority {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).ok().filter(|c| !c.is_empty()).ok_or(Error::Authority)?;
            http = http.tls_certs_merge(certificates);
        }
        let http = http.build().map_err(|e| Error::Client(innermost(&e)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Error::Client(e.into()))?;
        Ok(Client { http, runtime: Some(runtime), guard, options })
    }

    /// Downloads a file. `watch` hears what happens meanwhile.
    ///
    /// # Errors
    /// Of the last attempt, or the first that can't fare better when repeated.
    pub fn fetch(&self, request: Request<'_>, watch: &mut dyn FnMut(Event<'_>)) -> Result<Answer, Error> {
        match self.get(request, FILE, watch)? {
            None => Ok(Answer::Unchanged),
            Some(Came { bytes, headers, .. }) => {
                if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'<') {
                    return Err(Error::Page { url: request.url.clone() });
                }
                let etag = header(&headers, ETAG).filter(|etag| etag.len() <= LONGEST_ETAG).map(str::to_owned);
                Ok(Answer::File { bytes, etag })
            }
        }
    }

    /// Downloads a page for a reader, or whatever the address has instead, of at most so many bytes.
    ///
    /// # Errors
    /// As [`fetch`](Client::fetch).
    pub fn page(&self, url: &Address, most: u64, watch: &mut dyn FnMut(Event<'_>)) -> Result<Page, Error> {
        match self.get(Request { url, etag: None, most }, PAGE, watch)? {
            Some(Came { bytes, headers, url }) => {
                let content_type = header(&headers, CONTENT_TYPE).map(str::to_owned);
                Ok(Page { bytes, content_type, url: Address(url) })
            }
            None => unreachable!("that is an answer to an ETag, and none was sent"),
        }
    }

    fn get(&self, request: Request<'_>, wanted: &str, watch: &mut dyn FnMut(Event<'_>)) -> Result<Option<Came>, Error> {
        if let Some(guard) = &self.guard {
            guard.check(&request.url.0).map_err(|e| Error::NotPublic { url: request.url.clone(), source: e.into() })?;
        }
        let runtime = self.runtime.as_ref().expect("the runtime is there until the client is dropped");
        runtime.block_on(async {
            let mut failed = 0;
            loop {
                let error = match self.timely(request, wanted, watch).await {
                    Err(error) if error.may_pass() && failed < self.options.retries => error,
                    done => return done,
                };
                let wait = self.wait_after(&error, failed);
                watch(Event::Retrying { error: &error, wait });
                tokio::time::sleep(wait).await;
                failed += 1;
            }
        })
    }

    fn wait_after(&self, error: &Error, failed: u32) -> Duration {
        let own = self.options.back_off.saturating_mul(1 << failed.min(16));
        let asked = if let Error::Status { wait, .. } = error { wait.unwrap_or_default() } else { Duration::ZERO };
        own.max(asked).min(LONGEST_WAIT)
    }

    async fn timely(&self, request: Request<'_>, wanted: &str, watch: &mut dyn FnMut(Event<'_>)) -> Result<Option<Came>, Error> {
        let attempt = self.attempt(request, wanted, watch);
        match self.options.longest {
            None => attempt.await,
            Some(longest) => tokio::time::timeout(longest, attempt)
                .await
                .unwrap_or_else(|_| Err(Error::Slow { url: request.url.clone(), seconds: longest.as_secs() })),
        }
    }

    async fn attempt(&self, request: Request<'_>, wanted: &str, watch: &mut dyn FnMut(Event<'_>)) -> Result<Option<Came>, Error> {
        let url = || request.url.clone();
        let mut call = self.http.get(request.url.0.clone()).header(ACCEPT_ENCODING, "gzip").header(ACCEPT, wanted);
        if let Some(etag) = request.etag {
            call = call.header(IF_NONE_MATCH, etag);
        }
        let response = call.send().await.map_err(|e| self.not_sent(&e, url()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if request.etag.is_some() => return Ok(None),
            // The client leaves alone what it can't read as an address of its own.
            status if status.is_redirection() && response.headers().contains_key(LOCATION) => {
                let to = response.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned()).unwrap_or_default();
                let to: String = to.chars().take(200).flat_map(char::escape_debug).collect();
                return Err(Error::Redirect { url: url(), source: format!("to `{to}`, which is no http or https address").into() });
            }
            status => {
                let wait = header(response.headers(), RETRY_AFTER).and_then(|s| s.parse().ok()).map(Duration::from_secs);
                return Err(Error::Status { url: url(), status: status.as_u16(), wait });
            }
        }
        if wanted == FILE
            && header(response.headers(), CONTENT_TYPE).is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
        {
            return Err(Error::Page { url: url() });
        }
        let (headers, from) = (response.headers().clone(), response.url().clone());
        Ok(Some(Came { bytes: self.body(response, request, watch).await?, headers, url: from }))
    }

    async fn body(&self, mut response: Response, request: Request<'_>, watch: &mut dyn FnMut(Event<'_>)) -> Result<Vec<u8>, Error> {
        let (url, most) = (|| request.url.clone(), request.most);
        let encoding = header(response.headers(), CONTENT_ENCODING).unwrap_or_default().to_owned();
        let mut body = Body::new(&encoding, most).map_err(|e| Error::Encoding { url: url(), source: e.into() })?;
        let total = response.content_length();
        if total.is_some_and(|total| total > most) {
            return Err(Error::TooLarge { url: url(), most });
        }
        watch(Event::Started(total));
        let mut received = 0;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    received += chunk.len() as u64;
                    body.write_all(&chunk).map_err(|e| not_taken(e, url(), most))?;
                    watch(Event::Received(received));
                }
                Ok(None) => return body.finish().map_err(|e| not_taken(e, url(), most)),
                Err(e) if e.is_timeout() => return Err(Error::Silent { url: url(), seconds: self.options.timeout.as_secs() }),
                Err(e) => return Err(Error::Cut { url: url(), received, source: innermost(&e) }),
            }
        }
    }

    /// Sorts what kept a request from being answered.
    fn not_sent(&self, e: &reqwest::Error, url: Address) -> Error {
        let source = innermost(e);
        if inside::<Refused>(e) {
            Error::NotPublic { url, source }
        } else if inside::<Unresolved>(e) {
            Error::Unresolved { url, source }
        } else if e.is_timeout() {
            Error::Silent { url, seconds: self.options.timeout.as_secs() }
        } else if e.is_redirect() {
            Error::Redirect { url, source }
        } else if source.to_string().starts_with("invalid peer certificate") {
            // The error types of the TLS library are not the client's to promise; its words are tested.
            Error::Untrusted { url, source }
        } else {
            Error::Connect { url, source }
        }
    }
}

fn follow(attempt: redirect::Attempt<'_>, guard: Option<&Guard>) -> redirect::Action {
    let leaves_tls = attempt.previous().last().is_some_and(|from| from.scheme() == "https") && attempt.url().scheme() != "https";
    if leaves_tls {
        attempt.error("from https to http")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} times"))
    } else if !matches!(attempt.url().scheme(), "http" | "https") {
        let scheme: String = attempt.url().scheme().chars().take(40).collect();
        attempt.error(format!("to a `{scheme}:` address, which is not http or https"))
    } else if let Some(Err(refused)) = guard.map(|g| g.check(attempt.url())) {
        attempt.error(refused)
    } else {
        attempt.follow()
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether an error stands somewhere behind another.
fn inside<E: std::error::Error + 'static>(error: &reqwest::Error) -> bool {
    std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source()).any(<dyn std::error::Error>::is::<E>)
}

/// The error at the bottom: those above it say "error sending request" and the like, and name the address again.
fn innermost(error: &reqwest::Error) -> Cause {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().into()
}

fn not_taken(error: io::Error, url: Address, most: u64) -> Error {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Error::TooLarge { url, most },
        _ => Error::Encoding { url, source: error.into() },
    }
}

/// What has come, within the bound.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + more.len()) as u64 > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Body {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Body {
    fn new(encoding: &str, most: u64) -> Result<Body, String> {
        let bounded = Bounded { bytes: Vec::new(), most };
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Body::Plain(bounded)),
            "gzip" | "x-gzip" => Ok(Body::Gzip(Box::new(MultiGzDecoder::new(bounded)))),
            other => Err(format!("its encoding is `{}`, where gzip was asked for", other.chars().take(40).collect::<String>())),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Body::Plain(bounded) => bounded.write_all(bytes),
            Body::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Body::Plain(bounded) => Ok(bounded.bytes),
            Body::Gzip(decoder) => decoder.finish().map(|bounded| bounded.bytes),
        }
    }
}
