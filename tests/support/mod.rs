//! What several suites need: where things are, and a folder in which nothing of the user's is seen.
#![allow(dead_code, reason = "each suite uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the folder of shared inputs, where there is one: `$TTPMAP_SHARED`, else `../shared` beside the
/// project. Says on standard error what is skipped otherwise.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TTPMAP_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no {name} in the shared folder (../shared, or TTPMAP_SHARED)");
    None
}

/// The bundles of the shared folder, compressed; empty where there are none.
pub(crate) fn bundles() -> Vec<PathBuf> {
    let Some(folder) = shared("attack") else { return Vec::new() };
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("and its entries").path())
        .filter(|path| path.to_string_lossy().ends_with(".json.xz"))
        .collect();
    all.sort();
    all
}

/// Decompresses a file with the `xz` program; None, with a word, where it isn't installed.
pub(crate) fn unxz(path: &Path) -> Option<Vec<u8>> {
    let output = Command::new("xz").arg("-dc").arg(path).stderr(Stdio::inherit()).output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "xz -dc {}", path.display());
            Some(output.stdout)
        }
        Err(e) => {
            eprintln!("skipped: {} needs the xz program ({e})", path.display());
            None
        }
    }
}

/// The hand-made bundle in STIX 2.0, as text.
pub(crate) fn mini_bundle() -> String {
    std::fs::read_to_string(root().join("tests/data/mini-bundle.json")).expect("it is part of the project")
}

/// A temporary folder that is a process's whole world: working folder, HOME, configuration and data.
pub(crate) struct TestEnv {
    folder: tempfile::TempDir,
}

impl TestEnv {
    pub(crate) fn new() -> TestEnv {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for name in ["home", "config", "data", "work"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder in it can be made");
        }
        TestEnv { folder }
    }

    /// The working folder.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Where configuration files are looked for (`ttpmap/config.toml` below it).
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Where knowledge bases are installed.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The program under test, with an environment that holds nothing but this folder.
    pub(crate) fn ttpmap(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ttpmap"));
        command
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("XDG_CONFIG_HOME", self.config())
            .env("XDG_DATA_HOME", self.folder.path().join("home"))
            .env("XDG_CACHE_HOME", self.folder.path().join("home"))
            .env("TTPMAP_DATA_DIR", self.data())
            // The encoder has tests of its own; what is tested elsewhere is alike with and without it.
            .env("TTPMAP_PROFILE", "fast")
            .stdin(Stdio::null());
        command
    }
}

/// Numbers that are the same on every run and machine (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
