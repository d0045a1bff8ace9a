//! Where knowledge bases come from and where they are kept.
//!
//! [`fetch`] downloads, and is the only place of the library that uses the network; [`reach`] says from where; [`store`] is the folder of
//! installed ones; [`releases`] reads the index of releases and tells official files by their digest.

pub mod fetch;
pub mod reach;
pub mod releases;
pub mod store;

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of some bytes, in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}
