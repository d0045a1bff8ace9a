//! The files of a folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ignore::WalkBuilder;
use ignore::overrides::{Override, OverrideBuilder};

use ttpmap::ingest;

/// Folders are followed so deep.
const MAX_DEPTH: usize = 64;
/// Files of this name say, as `.gitignore` does for git, what is passed over.
const IGNORE_FILE: &str = ".ttpmapignore";

/// What stands in a folder.
#[derive(Debug, PartialEq)]
pub(in crate::cli) enum Entry {
    /// A file that is read, or at least meant to be.
    File(PathBuf),
    /// What can't be looked into.
    Failed {
        /// Its path.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// The files of a folder and of those below it, sorted by path: those that a glob picks, or without one that picks, those of
/// a kind that is read. Hidden files, what a `.ttpmapignore` names and links to folders are passed over; `.gitignore` says
/// nothing here, for whoever keeps reports out of a repository means to read them all the same.
///
/// # Errors
/// Where a glob is none. What can't be looked into is an entry.
pub(in crate::cli) fn walk(folder: &Path, globs: &[String]) -> anyhow::Result<Vec<Entry>> {
    let mut overrides = OverrideBuilder::new(folder);
    for glob in globs {
        overrides.add(glob).with_context(|| format!("--glob {glob}"))?;
    }
    let overrides = overrides.build().context("--glob")?;
    let mut builder = WalkBuilder::new(folder);
    builder
        .standard_filters(false)
        .hidden(true)
        .follow_links(false)
        .max_depth(Some(MAX_DEPTH + 1))
        .add_custom_ignore_filename(IGNORE_FILE)
        .overrides(overrides.clone())
        .sort_by_file_name(Ord::cmp);
    let mut out = Vec::new();
    for entry in builder.build() {
        match entry {
            Err(error) => out.push(failed(folder, &error)),
            Ok(entry) => {
                if let Some(error) = entry.error() {
                    out.push(failed(entry.path(), error));
                }
                let is_folder = entry.file_type().is_some_and(|t| t.is_dir());
                if is_folder && entry.depth() > MAX_DEPTH {
                    let why = format!("folders are nested more than {MAX_DEPTH} deep");
                    out.push(Entry::Failed { path: entry.into_path(), why });
                } else if !is_folder && !entry.path().is_dir() && is_wanted(entry.path(), &overrides) {
                    out.push(Entry::File(entry.into_path()));
                }
            }
        }
    }
    Ok(out)
}

/// Without a glob that picks, JSON is not read: much of it is no narrative.
fn is_wanted(path: &Path, overrides: &Override) -> bool {
    if overrides.num_whitelists() > 0 {
        return overrides.matched(path, false).is_whitelist();
    }
    let kind = ingest::Kind::of_name(&path.to_string_lossy());
    kind.is_some_and(|kind| kind != ingest::Kind::Json)
}

fn failed(near: &Path, error: &ignore::Error) -> Entry {
    let (mut error, mut path) = (error, near);
    loop {
        match error {
            ignore::Error::WithPath { path: own, err } => (error, path) = (err, own),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => error = err,
            ignore::Error::Partial(all) if !all.is_empty() => error = &all[0],
            // The walker says again what and where; why is at the bottom.
            ignore::Error::Io(e) => {
                let why = std::iter::successors(Some(e as &dyn std::error::Error), |e| e.source()).last().map(ToString::to_string);
                return Entry::Failed { path: path.to_owned(), why: why.unwrap_or_default() };
            }
            _ => return Entry::Failed { path: path.to_owned(), why: error.to_string() },
        }
    }
}
