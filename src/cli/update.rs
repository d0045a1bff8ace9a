//! `ttpmap update`: a bundle from the network or a file, checked, built and made the one in use.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::UpdateArgs;
use super::kb;
use super::settings::Settings;
use super::{Outcome, open_index};
use ttpmap::encoder::{self, EncoderModel};
use ttpmap::index::build::Prose;
use ttpmap::kb::Provenance;
use ttpmap::source::fetch::{self, Address, Answer, Client, Event, Request};
use ttpmap::source::releases::{self, Releases, Verdict};
use ttpmap::source::store::{self, Installed, Lock, Origin, Store};
use ttpmap::{Domain, stix};

/// The standing text of [`Provenance::version`] where a bundle doesn't tell its own.
const UNTOLD: &str = "unknown";

pub(crate) fn run(args: &UpdateArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    if settings.offline && args.from.is_none() {
        bail!(
            "--offline: update uses the network; get the file elsewhere and run `ttpmap update{} --from FILE`",
            if args.models { " --models" } else { "" }
        );
    }
    if let Some(version) = &args.attack_version {
        store::checked(version)?;
    }
    let store = Store::of_user()?;
    let lock = store.lock()?;
    if args.models {
        return update_model(args, settings, &store, &lock);
    }
    let bundle = match &args.from {
        Some(path) => Bundle::of_file(path)?,
        None => match download(args, settings, &store)? {
            Obtained::Bundle(bundle) => bundle,
            Obtained::Nothing(kept) => return keep(&store, &lock, &kept, settings),
        },
    };
    let installed = install(bundle, args, settings, &store, &lock)?;
    settings.say(&format!("{}: now using ATT&CK {}, with descriptions and procedures", installed.domain, installed.version));
    warn_of_another(settings, &installed);
    Ok(Outcome::Done)
}

/// The encoder's model file, checked against the digest of the one that belongs to this ttpmap.
fn update_model(args: &UpdateArgs, settings: &Settings, store: &Store, lock: &Lock) -> anyhow::Result<Outcome> {
    let published = encoder::published();
    let (name, bytes) = match &args.from {
        Some(path) => (file_name(path), kb::read_within(path, encoder::MAX_BYTES, "model file")?),
        None => {
            let installed = std::fs::read(store.model_path()).ok().and_then(|bytes| EncoderModel::verify(bytes).ok());
            if let Some(model) = installed.filter(|m| m.digest() == published.sha256)
                && args.url.is_none()
            {
                settings.say(&format!("nothing new: the encoder of {} is installed", model.about().date));
                return Ok(Outcome::Done);
            }
            let address: Address = args.url.as_deref().unwrap_or(&published.url).parse()?;
            let request = Request { url: &address, etag: None, most: encoder::MAX_BYTES };
            let Answer::File { bytes, .. } = fetch(&client(args)?, request, "encoder", settings)? else {
                bail!("{address} answers that nothing is new, which wasn't asked");
            };
            (address.to_string(), bytes)
        }
    };
    let model = EncoderModel::verify(bytes.clone()).with_context(|| name.clone())?;
    let digest = model.digest();
    if digest != published.sha256 && !args.accept_digest {
        bail!(
            "{name}: not the encoder that belongs to this ttpmap: its digest is {digest}, that of the published one {}; \
             nothing was changed (--accept-digest takes it all the same)",
            published.sha256
        );
    }
    let path = store.install_model(lock, &bytes)?;
    let about = model.about();
    settings.say(&format!("the encoder of {}, ATT&CK {}, is now in {}", about.date, about.attack_version, path.display()));
    Ok(Outcome::Done)
}

/// The server's file is the one that is installed.
fn keep(store: &Store, lock: &Lock, kept: &Installed, settings: &Settings) -> anyhow::Result<Outcome> {
    store.use_version(lock, kept.domain, &kept.version)?;
    settings.say(&format!("nothing new: {} ATT&CK {} is installed and in use", kept.domain, kept.version));
    warn_of_another(settings, kept);
    Ok(Outcome::Done)
}

/// A named knowledge base goes before the installed ones; whoever has named one for good may not think of it.
fn warn_of_another(settings: &Settings, installed: &Installed) {
    if let Some(path) = &settings.kb {
        let other = open_index(settings).map(|index| format!(" ({} ATT&CK {})", index.domain(), index.version())).unwrap_or_default();
        settings.say(&format!(
            "but the settings name {}{other}, which goes before {} ATT&CK {}",
            path.display(),
            installed.domain,
            installed.version
        ));
    }
}

/// A file that was named, for messages.
fn file_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// A bundle, before anything that it says is believed.
struct Bundle {
    /// For messages.
    name: String,
    bytes: Vec<u8>,
    /// The version that the index lists it as.
    listed: Option<String>,
    /// The version in its file name.
    named: Option<String>,
    /// Address and ETag, where there is one.
    origin: Option<(String, String)>,
}

impl Bundle {
    fn of_file(path: &Path) -> anyhow::Result<Bundle> {
        Ok(Bundle { name: file_name(path), bytes: kb::read_bytes(path)?, listed: None, named: kb::version_in_name(path), origin: None })
    }

    /// The release: what the digest or the bundle itself says; it may not contradict what was asked for.
    /// A file's name is only a hint, for where there is nothing else.
    fn version(&self, provenance: &Provenance, args: &UpdateArgs) -> anyhow::Result<String> {
        let published = releases::version_of(&provenance.source_digest).filter(|(domain, _)| *domain == provenance.domain);
        let own = Some(&*provenance.version).filter(|v| *v != UNTOLD);
        let told = published.map(|(_, version)| version).or(own);
        let expected = self.listed.as_deref().or(args.attack_version.as_deref());
        if let (Some(told), Some(expected)) = (told, expected)
            && told != expected
        {
            bail!("{}: it is ATT&CK {}, not {expected}", self.name, store::checked(told)?);
        }
        match told.or(expected).or(self.named.as_deref()) {
            Some(version) => Ok(store::checked(version).with_context(|| self.name.clone())?.to_owned()),
            None => bail!("{}: neither digest nor content nor name tells its ATT&CK release: say it with --attack-version", self.name),
        }
    }

    fn check_domain(&self, provenance: &Provenance, args: &UpdateArgs, settings: &Settings) -> anyhow::Result<()> {
        // A file or address of the user's own may be of any domain, unless one was asked for.
        let own = args.from.is_some() || args.url.is_some();
        let asked = settings.domain.or((!own).then_some(Domain::Enterprise));
        match asked {
            Some(asked) if asked != provenance.domain => {
                bail!("{}: it is a bundle of the {} domain, not of {asked}", self.name, provenance.domain)
            }
            _ => Ok(()),
        }
    }
}

/// Reads, checks, builds and installs. Nothing on disk is touched before the index is built.
fn install(bundle: Bundle, args: &UpdateArgs, settings: &Settings, store: &Store, lock: &Lock) -> anyhow::Result<Installed> {
    let mut kb = kb::read_bundle(&bundle.bytes, &bundle.name, None, settings)?;
    bundle.check_domain(&kb.provenance, args, settings)?;
    let version = bundle.version(&kb.provenance, args)?;
    kb.provenance.version.clone_from(&version);
    kb.provenance.relations_version = version;
    check_digest(&bundle.name, &kb.provenance, args.accept_digest, settings)?;
    let sha256 = kb.provenance.source_digest.clone();
    let origin = bundle.origin.map(|(url, etag)| Origin { url, etag, sha256 });
    drop(bundle.bytes);
    let index = kb::build_index(kb, None, Prose::Keep, settings)?;
    let installed = store.install(lock, &index)?;
    store.keep_origin(lock, &installed, origin.as_ref())?;
    Ok(installed)
}

fn check_digest(name: &str, provenance: &Provenance, accept: bool, settings: &Settings) -> anyhow::Result<()> {
    let Provenance { domain, version, source_digest: digest, .. } = provenance;
    match releases::judge(digest, *domain, version) {
        Verdict::Published => {}
        Verdict::Unknown => {
            settings.say(&format!("{name}: no digest is known here for {domain} ATT&CK {version}; taken with SHA-256 {digest}"));
        }
        Verdict::Differs(published) if accept => {
            settings.say(&format!("{name}: taken with SHA-256 {digest}, where {} was published", published.join(" or ")));
        }
        Verdict::Differs(published) => bail!(
            "{name}: not the published {domain} ATT&CK {version}: its SHA-256 is {digest}, that of the published file is {}; \
             nothing was changed (--accept-digest takes it all the same)",
            published.join(" or ")
        ),
    }
    Ok(())
}

enum Obtained {
    Bundle(Bundle),
    /// What is installed is what the server has.
    Nothing(Installed),
}

fn client(args: &UpdateArgs) -> anyhow::Result<Client> {
    let authority = args.ca_file.as_deref().map(|path| std::fs::read(path).with_context(|| path.display().to_string())).transpose()?;
    let options = fetch::Options { timeout: Duration::from_secs(args.timeout), retries: args.retries, authority, ..Default::default() };
    Client::new(options).with_context(|| args.ca_file.as_ref().map_or("update".to_owned(), |p| p.display().to_string()))
}

/// The release wanted, from its own address or through the index.
fn download(args: &UpdateArgs, settings: &Settings, store: &Store) -> anyhow::Result<Obtained> {
    let client = client(args)?;
    let (address, listed) = match &args.url {
        Some(url) => (url.parse::<Address>()?, None),
        None => {
            let (address, version) = look_up(&client, args, settings)?;
            (address, Some(version))
        }
    };
    let kept = kept(store, settings.domain, &address, listed.as_deref().or(args.attack_version.as_deref()));
    let etag = kept.as_ref().map(|(_, origin)| &*origin.etag);
    let request = Request { url: &address, etag, most: stix::MAX_BUNDLE_BYTES };
    let name = match address.file_name() {
        "" => "bundle",
        name => name,
    };
    match (fetch(&client, request, name, settings)?, kept) {
        (Answer::Unchanged, Some((installed, _))) => Ok(Obtained::Nothing(installed)),
        (Answer::Unchanged, None) => bail!("{address} answers that nothing is new, which wasn't asked"),
        (Answer::File { bytes, etag }, _) => {
            let named = kb::version_in_name(Path::new(address.file_name()));
            let origin = etag.map(|etag| (address.to_string(), etag));
            Ok(Obtained::Bundle(Bundle { name: address.to_string(), bytes, listed, named, origin }))
        }
    }
}

/// Where the index says that the bundle is, and its version.
fn look_up(client: &Client, args: &UpdateArgs, settings: &Settings) -> anyhow::Result<(Address, String)> {
    let index: Address = args.index_url.parse()?;
    let request = Request { url: &index, etag: None, most: releases::MAX_INDEX_BYTES };
    let Answer::File { bytes, .. } = fetch(client, request, "index", settings)? else {
        bail!("{index} answers that nothing is new, which wasn't asked");
    };
    let find = || -> anyhow::Result<(Address, String)> {
        let releases = Releases::read(&bytes)?;
        let release = releases.find(settings.domain.unwrap_or(Domain::Enterprise), args.attack_version.as_deref())?;
        Ok((index.join(&release.url)?, release.version.clone()))
    };
    find().with_context(|| index.to_string())
}

/// What is installed from this address, whole, and built by this ttpmap: only then is the server's "nothing new" an
/// answer.
fn kept(store: &Store, domain: Option<Domain>, address: &Address, version: Option<&str>) -> Option<(Installed, Origin)> {
    let installed = store.list().ok()?;
    let fits = |i: &Installed| domain.is_none_or(|d| d == i.domain) && version.is_none_or(|v| v == i.version);
    installed.into_iter().rev().filter(fits).find_map(|installed| {
        let origin = store.origin(&installed).filter(|o| o.url == address.to_string())?;
        Some((installed, origin))
    })
}

fn fetch(client: &Client, request: Request<'_>, name: &str, settings: &Settings) -> anyhow::Result<Answer> {
    let mut bar: Option<ProgressBar> = None;
    let shown = !settings.quiet && std::io::stderr().is_terminal();
    let answer = client.fetch(request, &mut |event| match event {
        Event::Started(total) => bar = shown.then(|| progress_bar(total, name)),
        Event::Received(bytes) => {
            if let Some(bar) = &bar {
                bar.set_position(bytes);
            }
        }
        Event::Retrying { error, wait } => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
            let error = describe(error);
            settings.say(&format!("{error}; trying again in {} s", wait.as_secs_f32()));
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(answer?)
}

/// An error with its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn progress_bar(total: Option<u64>, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(total.unwrap_or_default());
    let style = match total {
        Some(_) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
        None => "{msg} {bytes} {bytes_per_sec}",
    };
    bar.set_style(ProgressStyle::with_template(style).expect("the template is right, as a test checks").progress_chars("=> "));
    bar.set_message(name.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_counts_with_and_without_a_total() {
        for total in [Some(100), None] {
            let bar = progress_bar(total, "bundle.json");
            bar.set_position(40);
            assert_eq!((bar.position(), bar.length().unwrap_or_default()), (40, total.unwrap_or_default()));
        }
    }
}
