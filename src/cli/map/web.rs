//! Web addresses as inputs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use super::super::args::MapArgs;
use super::super::settings::Settings;
use ttpmap::source::fetch::{self, Address, Client, Error, Event};
use ttpmap::source::reach::Reach;
use ttpmap::text::MAX_TEXT_BYTES;

/// A page may take so many times the time that may pass without a byte.
const LONGEST: u32 = 10;

/// A document that was fetched.
pub(super) struct Page {
    pub(super) bytes: Vec<u8>,
    /// The last part of its path.
    pub(super) file_name: String,
    pub(super) content_type: Option<String>,
}

/// Fetches pages; connects to nothing before the first.
pub(super) struct Web {
    client: Option<Client>,
    reach: Reach,
    timeout: Duration,
    authority: Option<PathBuf>,
    quiet: bool,
}

/// Whether an input is a web address rather than a file.
pub(super) fn is_address(name: &str) -> bool {
    let begins = |scheme: &str| name.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://")
}

/// What an address goes by in answers: as it was given, but never with a password.
pub(super) fn shown(name: &str) -> String {
    match name.parse::<Address>() {
        Ok(address) if name.contains('@') => address.to_string(),
        _ => name.to_owned(),
    }
}

impl Web {
    pub(super) fn new(args: &MapArgs, settings: &Settings) -> anyhow::Result<Web> {
        if let Some(name) = args.inputs.iter().find(|name| is_address(name)).filter(|_| settings.offline) {
            bail!("--offline: {} is a web address; save the page elsewhere and name the file", shown(name));
        }
        Ok(Web {
            client: None,
            reach: if args.allow_private { Reach::Anywhere } else { Reach::Public },
            timeout: Duration::from_secs(args.timeout),
            authority: args.ca_file.clone(),
            quiet: settings.quiet,
        })
    }

    /// Fetches a page.
    pub(super) fn get(&mut self, name: &str) -> anyhow::Result<Page> {
        let address: Address = name.parse()?;
        if self.client.is_none() {
            let authority =
                self.authority.as_deref().map(|path| std::fs::read(path).with_context(|| path.display().to_string())).transpose()?;
            let options = fetch::Options {
                timeout: self.timeout,
                retries: 1,
                authority,
                reach: self.reach,
                longest: Some(self.timeout * LONGEST),
                ..fetch::Options::default()
            };
            let client = Client::new(options);
            self.client = Some(client.with_context(|| self.authority.as_ref().map_or("https".to_owned(), |p| p.display().to_string()))?);
        }
        let client = self.client.as_ref().expect("it was made above");
        let quiet = self.quiet;
        let mut watch = |event: Event<'_>| {
            if let Event::Retrying { error, wait } = event
                && !quiet
            {
                let error = ttpmap::text::shown::printable(&described(error));
                anstream::eprintln!("ttpmap: {}: {error}; trying again in {} s", shown(name), wait.as_secs_f32());
            }
        };
        let page = client.page(&address, MAX_TEXT_BYTES, &mut watch).map_err(|e| anyhow::anyhow!("{}", described(&e)))?;
        if page.url != address && !quiet {
            anstream::eprintln!("ttpmap: {}: read from {}", shown(name), ttpmap::text::shown::printable(&page.url.to_string()));
        }
        Ok(Page { bytes: page.bytes, file_name: page.url.file_name().to_owned(), content_type: page.content_type })
    }
}

/// Why a page did not come and what to do; without the address, which stands before it.
fn described(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match error {
        Error::Connect { .. } => format!("no connection: {cause}"),
        Error::Unresolved { .. } => cause,
        Error::NotPublic { .. } => format!("{cause}, and not fetched: --allow-private fetches it all the same"),
        Error::Untrusted { .. } => {
            format!("its certificate is not trusted ({cause}); if your network has an authority of its own, name it with --ca-file")
        }
        Error::Redirect { .. } => format!("redirected {cause}"),
        Error::Status { status: status @ (401 | 403 | 407), .. } => {
            format!("the server answers {status}: it wants a sign-in, or keeps programs out; save the page in a browser and name the file")
        }
        Error::Status { status: status @ (404 | 410), .. } => format!("the server answers {status}: there is no such page"),
        Error::Status { status: 429, .. } => "the server answers 429: it is asked too often; try again later".to_owned(),
        Error::Status { status, .. } => format!("the server answers {status}"),
        Error::Silent { seconds, .. } => format!("nothing came for {seconds} s (--timeout waits longer)"),
        Error::Slow { seconds, .. } => format!("not there after {seconds} s (--timeout waits longer)"),
        Error::Cut { received, .. } => format!("it broke off after {received} bytes: {cause}"),
        Error::TooLarge { most, .. } => format!("larger than {} MiB, the most that one document may have", most >> 20),
        Error::Encoding { .. } => format!("it can't be unpacked: {cause}"),
        other if cause.is_empty() => other.to_string(),
        other => format!("{other}: {cause}"),
    }
}
