//! The folder of installed knowledge bases.
//!
//! ```text
//! <folder>/enterprise/19.2.ttpkb    one file for each installed release
//! <folder>/enterprise/19.2.origin   where it was downloaded from (JSON), where that place gave an ETag
//! <folder>/enterprise/current       its name ("19.2"), for the one in use
//! <folder>/lock                     held while something is changed
//! ```
//!
//! Every change writes a temporary file in the same folder, syncs it to disk and renames it over the old one:
//! killed at any moment, or on a full disk, the previous state still serves. What a killed process left behind is
//! removed by the next one that takes the lock.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::kb::Domain;

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No folder for a user's data is known.
    #[error("no data folder: set TTPMAP_DATA_DIR or HOME")]
    NoFolder,
    /// A file of it can't be read or written.
    #[error("{doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Another process is changing it.
    #[error("another ttpmap is changing {0}; try again when it is done")]
    Locked(PathBuf),
    /// There is no such knowledge base.
    #[error("no {domain} knowledge base {version} is installed; `ttpmap kb list` shows what is")]
    Missing {
        /// Domain asked for.
        domain: Domain,
        /// Version asked for.
        version: String,
    },
    /// The name can't be a version.
    #[error("`{0}` is not a version, such as 18.1")]
    Version(String),
    /// The bytes to install are no knowledge base.
    #[error("the built knowledge base doesn't open")]
    Index(#[from] crate::index::Error),
}

/// Name of the encoder's model file, wherever it lies.
pub const MODEL_FILE: &str = "encoder.ttpmodel";

/// The folder of installed knowledge bases.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The right to change the store; given up when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// An installed knowledge base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its domain.
    pub domain: Domain,
    /// Its version: the file's name.
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is the one in use for its domain.
    pub current: bool,
}

/// Where an installed knowledge base was downloaded from, so that the next download can ask for what is new only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address, without a user's name and password.
    pub url: String,
    /// The ETag that came with it.
    pub etag: String,
    /// SHA-256 of the bundle: tells whether the knowledge base is still the one built from it.
    pub sha256: String,
}

/// What the names of temporary files begin with.
const TEMPORARY: &str = ".new-";

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}

/// Whether the text can be a version: digits, letters, dots and hyphens only, for it becomes a file name.
pub fn is_version(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

/// # Errors
/// Where the text can't be a version; the error is safe to print, whatever the text is.
pub fn checked(version: &str) -> Result<&str, Error> {
    if is_version(version) { Ok(version) } else { Err(Error::Version(version.chars().take(40).flat_map(char::escape_debug).collect())) }
}

impl Store {
    /// The store in a folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Store {
        Store { folder: folder.into() }
    }

    /// The user's store: `$TTPMAP_DATA_DIR`, or `ttpmap` in the data folder of the platform (XDG on Unix).
    ///
    /// # Errors
    /// Where neither is known.
    pub fn of_user() -> Result<Store, Error> {
        use etcetera::BaseStrategy;
        if let Some(folder) = std::env::var_os("TTPMAP_DATA_DIR").filter(|f| !f.is_empty()) {
            return Ok(Store::new(folder));
        }
        let strategy = etcetera::choose_base_strategy().map_err(|_| Error::NoFolder)?;
        Ok(Store::new(strategy.data_dir().join("ttpmap")))
    }

    /// Where the store is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn domain_folder(&self, domain: Domain) -> PathBuf {
        self.folder.join(domain.name())
    }

    fn path(&self, domain: Domain, version: &str) -> PathBuf {
        self.domain_folder(domain).join(format!("{version}.ttpkb"))
    }

    /// Where the encoder's model file is, if it is installed.
    pub fn model_path(&self) -> PathBuf {
        self.folder.join("models").join(MODEL_FILE)
    }

    /// Installs a model file. It was checked.
    ///
    /// # Errors
    /// Where it can't be written; then the one before stays.
    pub fn install_model(&self, _lock: &Lock, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.model_path();
        Store::replace(&path, bytes)?;
        Ok(path)
    }

    fn origin_path(&self, domain: Domain, version: &str) -> PathBuf {
        self.domain_folder(domain).join(format!("{version}.origin"))
    }

    /// Takes the lock, and removes what killed processes left half-written.
    ///
    /// # Errors
    /// At once, [`Error::Locked`], where another process holds it; or where the folder can't be made.
    pub fn lock(&self) -> Result<Lock, Error> {
        fs::create_dir_all(&self.folder).map_err(failed("making folder", &self.folder))?;
        let path = self.folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("opening", &path))?;
        match file.try_lock() {
            Ok(()) => {
                self.remove_temporaries();
                Ok(Lock { _file: file })
            }
            Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(self.folder.clone())),
            Err(fs::TryLockError::Error(source)) => Err(Error::File { doing: "locking", path, source }),
        }
    }

    /// Under the lock nobody else writes, so that every temporary file is a dead one. One that can't be removed
    /// does no harm.
    fn remove_temporaries(&self) {
        let folders = Domain::ALL.into_iter().map(|domain| self.domain_folder(domain)).chain([self.folder.join("models")]);
        for folder in folders {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Replaces a file as a whole: temporary file beside it, sync, rename, sync of the folder.
    fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed("making folder", folder))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary files are private otherwise. A store may be shared; the umask says how far.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder).map_err(failed("writing into", folder))?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed("writing", path))?;
        file.persist(path).map_err(|e| Error::File { doing: "replacing", path: path.to_owned(), source: e.error })?;
        if let Ok(folder) = File::open(folder) {
            // Not every file system lets a folder be synced; the rename is done either way.
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Installs a built index under its version and makes it the one in use. The lock shows that no other process
    /// does the same.
    ///
    /// # Errors
    /// Where the bytes don't verify, or a file can't be written; then the one in use before stays.
    pub fn install(&self, _lock: &Lock, bytes: &[u8]) -> Result<Installed, Error> {
        let index = Index::new(bytes)?;
        index.verify()?;
        let (domain, version) = (index.domain(), checked(index.version())?.to_owned());
        let path = self.path(domain, &version);
        Store::replace(&path, bytes)?;
        Store::replace(&self.domain_folder(domain).join("current"), version.as_bytes())?;
        Ok(Installed { domain, version, path, current: true })
    }

    fn current_version(&self, domain: Domain) -> Option<String> {
        let text = fs::read_to_string(self.domain_folder(domain).join("current")).ok()?;
        checked(text.trim()).ok().map(str::to_owned)
    }

    /// The knowledge base in use for a domain; None where none is installed, which is no error.
    pub fn current(&self, domain: Domain) -> Option<Installed> {
        let version = self.current_version(domain)?;
        let path = self.path(domain, &version);
        path.is_file().then_some(Installed { domain, version, path, current: true })
    }

    /// Every installed knowledge base, by domain and version.
    ///
    /// # Errors
    /// Where a folder that exists can't be read.
    pub fn list(&self) -> Result<Vec<Installed>, Error> {
        let mut all = Vec::new();
        for domain in Domain::ALL {
            let folder = self.domain_folder(domain);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed("reading", &folder)(e)),
            };
            let current = self.current_version(domain);
            for entry in entries {
                let path = entry.map_err(failed("reading", &folder))?.path();
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if let Some(version) = name.strip_suffix(".ttpkb").filter(|v| checked(v).is_ok()) {
                    let current = current.as_deref() == Some(version);
                    all.push(Installed { domain, version: version.to_owned(), path: path.clone(), current });
                }
            }
        }
        let number = |v: &str| v.split('.').map(|p| p.parse::<u32>().unwrap_or(u32::MAX)).collect::<Vec<_>>();
        all.sort_by(|a, b| (a.domain, number(&a.version), &a.version).cmp(&(b.domain, number(&b.version), &b.version)));
        Ok(all)
    }

    fn find(&self, domain: Domain, version: &str) -> Result<Installed, Error> {
        let path = self.path(domain, checked(version)?);
        if path.is_file() {
            let current = self.current_version(domain).as_deref() == Some(version);
            Ok(Installed { domain, version: version.to_owned(), path, current })
        } else {
            Err(Error::Missing { domain, version: version.to_owned() })
        }
    }

    /// Keeps where an installed knowledge base was downloaded from; None takes back what was kept.
    ///
    /// # Errors
    /// Where it can't be written. The knowledge base serves all the same.
    pub fn keep_origin(&self, _lock: &Lock, installed: &Installed, origin: Option<&Origin>) -> Result<(), Error> {
        let path = self.origin_path(installed.domain, &installed.version);
        match origin {
            Some(origin) => {
                let text = serde_json::to_vec_pretty(origin).map_err(|e| failed("writing", &path)(e.into()))?;
                Store::replace(&path, &text)
            }
            None => remove_if_there(&path),
        }
    }

    /// Where an installed knowledge base was downloaded from. None where that isn't known, where the knowledge base
    /// is damaged or built from something else since, or where another version of ttpmap built it: then there is
    /// reason to download it again.
    pub fn origin(&self, installed: &Installed) -> Option<Origin> {
        let text = fs::read(self.origin_path(installed.domain, &installed.version)).ok()?;
        let origin: Origin = serde_json::from_slice(&text).ok()?;
        let index = Index::open(&installed.path).ok()?;
        let provenance = index.provenance()?;
        let same = provenance.source_digest == origin.sha256 && provenance.domain == installed.domain;
        let of_today = provenance.tool_version == env!("CARGO_PKG_VERSION");
        (same && of_today && index.verify().is_ok()).then_some(origin)
    }

    /// Makes an installed knowledge base the one in use.
    ///
    /// # Errors
    /// Where it isn't installed, or the choice can't be written.
    pub fn use_version(&self, _lock: &Lock, domain: Domain, version: &str) -> Result<Installed, Error> {
        let found = self.find(domain, version)?;
        Store::replace(&self.domain_folder(domain).join("current"), version.as_bytes())?;
        Ok(Installed { current: true, ..found })
    }

    /// Goes back to the built-in knowledge base for a domain; what is installed stays.
    ///
    /// # Errors
    /// Where the choice can't be taken back.
    pub fn use_embedded(&self, _lock: &Lock, domain: Domain) -> Result<(), Error> {
        remove_if_there(&self.domain_folder(domain).join("current"))
    }

    /// Removes an installed knowledge base. Where it is the one in use, the choice goes first, so that no moment
    /// has a choice without its file.
    ///
    /// # Errors
    /// Where it isn't installed, or can't be removed.
    pub fn remove(&self, lock: &Lock, domain: Domain, version: &str) -> Result<Installed, Error> {
        let found = self.find(domain, version)?;
        if found.current {
            self.use_embedded(lock, domain)?;
        }
        self.keep_origin(lock, &found, None)?;
        fs::remove_file(&found.path).map_err(failed("removing", &found.path))?;
        Ok(found)
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("removing", path)(e)),
        _ => Ok(()),
    }
}
