//! ATT&CK's releases: the public index that lists them, and the digests that they are published under, carried
//! as data.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::store::is_version;
use crate::kb::Domain;

/// An index larger than this is refused; the public one has some 50 KB.
pub const MAX_INDEX_BYTES: u64 = 16 << 20;

/// Why an index of releases can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is no index.
    #[error("not an index of ATT&CK releases")]
    NotAnIndex(#[source] serde_json::Error),
    /// It has nothing of the domain.
    #[error("the index lists no {0} releases")]
    NoDomain(Domain),
    /// It has other releases.
    #[error("the index has no {domain} ATT&CK `{version}`; it has {}", .known.join(", "))]
    NoVersion {
        /// The domain asked for.
        domain: Domain,
        /// The version asked for.
        version: String,
        /// What there is, newest first.
        known: Vec<String>,
    },
}

/// A release as the index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its version, such as `18.1`.
    pub version: String,
    /// Where its bundle is; may be relative to the index.
    pub url: String,
}

/// The releases of each domain, newest first.
#[derive(Debug, Clone)]
pub struct Releases(BTreeMap<Domain, Vec<Release>>);

#[derive(Deserialize)]
struct Listing {
    collections: Vec<Collection>,
}

#[derive(Deserialize)]
struct Collection {
    #[serde(default)]
    name: String,
    #[serde(default)]
    versions: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    version: Option<String>,
    url: Option<String>,
}

impl Releases {
    /// Reads the index. Entries without an address or a usable version are left out, and so are collections of
    /// no known domain.
    ///
    /// # Errors
    /// Where the bytes are no index.
    pub fn read(bytes: &[u8]) -> Result<Releases, Error> {
        let listing: Listing = serde_json::from_slice(bytes).map_err(Error::NotAnIndex)?;
        let mut domains: BTreeMap<Domain, Vec<Release>> = BTreeMap::new();
        for collection in listing.collections {
            let Some(domain) = domain_of(&collection) else { continue };
            let usable = |l: Listed| Some(Release { version: l.version.filter(|v| is_version(v))?, url: l.url? });
            domains.entry(domain).or_default().extend(collection.versions.into_iter().filter_map(usable));
        }
        Ok(Releases(domains))
    }

    /// One release of a domain; the newest where no version is asked for.
    ///
    /// # Errors
    /// Where the index doesn't have it.
    pub fn find(&self, domain: Domain, version: Option<&str>) -> Result<&Release, Error> {
        let all = self.0.get(&domain).map(Vec::as_slice).unwrap_or_default();
        let newest = all.first().ok_or(Error::NoDomain(domain))?;
        let Some(version) = version else { return Ok(newest) };
        all.iter().find(|r| r.version == version).ok_or_else(|| Error::NoVersion {
            domain,
            version: version.chars().take(40).flat_map(char::escape_debug).collect(),
            known: all.iter().map(|r| r.version.clone()).collect(),
        })
    }
}

/// Collections are told by the folder of their bundles, else by their names ("Enterprise ATT&CK").
fn domain_of(collection: &Collection) -> Option<Domain> {
    let in_folder = |d: &Domain| {
        let folder = format!("{}/", d.attack_name());
        collection.versions.iter().any(|l| l.url.as_ref().is_some_and(|url| url.contains(&folder)))
    };
    let named = || collection.name.split_whitespace().find_map(|word| word.to_ascii_lowercase().parse().ok());
    Domain::ALL.into_iter().find(in_folder).or_else(named)
}

/// spec ("stix2.1") -> domain ("enterprise") -> version -> SHA-256
type Table = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let all: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(include_str!("../../data/releases.json")).expect("the shipped table is JSON, as a test checks");
    let spec = |(name, value): (String, serde_json::Value)| Some((name, serde_json::from_value(value).ok()?));
    all.into_iter().filter_map(spec).collect()
});

/// The version of the official file with this SHA-256 (lower-case hex), and its domain.
pub fn version_of(digest: &str) -> Option<(Domain, &'static str)> {
    TABLE.values().flat_map(BTreeMap::iter).find_map(|(domain, versions)| {
        let (version, _) = versions.iter().find(|(_, d)| *d == digest)?;
        Some((domain.parse().ok()?, version.as_str()))
    })
}

/// The SHA-256 of every official file of one release, whatever its STIX version.
pub fn digests(domain: Domain, version: &str) -> Vec<&'static str> {
    TABLE.values().filter_map(|domains| domains.get(domain.name())?.get(version)).map(String::as_str).collect()
}

/// What the table says to a file that claims to be a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the published file.
    Published,
    /// The table doesn't know the release: it is newer than this ttpmap.
    Unknown,
    /// It is not the published file; these are the digests of what was published.
    Differs(Vec<&'static str>),
}

/// Compares a file's SHA-256 (lower-case hex) with those published for a release.
pub fn judge(digest: &str, domain: Domain, version: &str) -> Verdict {
    let published = digests(domain, version);
    match published.contains(&digest) {
        true => Verdict::Published,
        false if published.is_empty() => Verdict::Unknown,
        false => Verdict::Differs(published),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = r#"{"collections": [
        {"name": "Mobile ATT&CK", "versions": [{"version": "2.0", "url": "two.json"}]},
        {"name": "x", "versions": [
            {"version": "12.0", "url": "https://example.com/enterprise-attack/enterprise-attack-12.0.json"},
            {"version": "../up", "url": "https://example.com/enterprise-attack/up.json"},
            {"version": "11.0"},
            {"version": "9.0", "url": "https://example.com/enterprise-attack/enterprise-attack-9.0.json"}]},
        {"name": "Something else", "versions": [{"version": "99.0", "url": "https://example.com/else.json"}]}]}"#;

    #[test]
    fn the_index_gives_the_newest_or_the_one_asked_for() {
        let releases = Releases::read(INDEX.as_bytes()).unwrap();
        let find = |domain, version| releases.find(domain, version).map(|r| r.version.clone()).map_err(|e| e.to_string());
        assert_eq!(find(Domain::Enterprise, None).unwrap(), "12.0");
        assert_eq!(find(Domain::Enterprise, Some("9.0")).unwrap(), "9.0");
        assert_eq!(releases.find(Domain::Mobile, None).unwrap().url, "two.json");
        let error = find(Domain::Enterprise, Some("8.0")).unwrap_err();
        assert_eq!(error, "the index has no enterprise ATT&CK `8.0`; it has 12.0, 9.0");
        assert_eq!(find(Domain::Ics, None).unwrap_err(), "the index lists no ics releases");
        assert!(Releases::read(b"{\"type\": \"bundle\"}").is_err());
    }

    #[test]
    fn a_file_is_judged_by_its_release() {
        let published = digests(Domain::Ics, "18.1");
        assert_eq!(judge(published[0], Domain::Ics, "18.1"), Verdict::Published);
        assert_eq!(judge(published[0], Domain::Ics, "99.9"), Verdict::Unknown);
        assert_eq!(judge("00", Domain::Ics, "18.1"), Verdict::Differs(published.clone()));
        assert!(matches!(judge(published[0], Domain::Mobile, "18.1"), Verdict::Differs(_)));
    }

    #[test]
    fn known_releases_are_found_both_ways() {
        let digest = digests(Domain::Enterprise, "18.1");
        assert!(!digest.is_empty() && digest.iter().all(|d| d.len() == 64));
        assert_eq!(version_of(digest[0]), Some((Domain::Enterprise, "18.1")));
        assert_eq!(version_of("00"), None);
        assert!(digests(Domain::Mobile, "99.9").is_empty());
    }
}
