//! The digests that ATT&CK's releases are published under, carried as data.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::kb::Domain;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_releases_are_found_both_ways() {
        let digest = digests(Domain::Enterprise, "18.1");
        assert!(!digest.is_empty() && digest.iter().all(|d| d.len() == 64));
        assert_eq!(version_of(digest[0]), Some((Domain::Enterprise, "18.1")));
        assert_eq!(version_of("00"), None);
        assert!(digests(Domain::Mobile, "99.9").is_empty());
    }
}
