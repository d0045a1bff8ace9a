//! Where the answers go.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;

use super::super::Replacement;
use super::super::settings::Settings;
use super::resume::Journal;
use super::{Done, Produced};
use ttpmap::export::assembly::Assembly;
use ttpmap::export::{Format, Source};
use ttpmap::summary::Summary;

/// Answers on their way: to standard output as they come, into a file that takes its place at the end, or into one that a
/// killed run goes on with.
pub(super) struct Output<'a, D> {
    shape: Shape<'a, D>,
    format: Format,
    width: usize,
    target: Target,
}

/// How documents become one answer.
pub(super) enum Shape<'a, D> {
    /// One after the other.
    Each(Box<Assembly<'a, D>>),
    /// Taken together.
    Summary(Box<Summary<'a, D>>),
}

enum Target {
    Stdout(BufWriter<io::Stdout>),
    /// A table is styled as a whole.
    Held(Vec<u8>),
    /// A device or a pipe.
    Device(BufWriter<File>),
    Replaced(Box<Replacement>),
    Journal(Box<Journal>),
}

impl<'a, D: AsRef<[u8]>> Output<'a, D> {
    /// An output that leaves as it comes; a file is replaced when all is there.
    pub(super) fn open(settings: &Settings, shape: Shape<'a, D>, format: Format, width: usize) -> anyhow::Result<Output<'a, D>> {
        let file = settings.output.as_deref().filter(|p| *p != Path::new("-"));
        let target = match file {
            _ if format == Format::Table => Target::Held(Vec::new()),
            None => Target::Stdout(BufWriter::with_capacity(1 << 16, io::stdout())),
            Some(path) if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) => {
                let file = File::options().write(true).open(path).with_context(|| format!("writing {}", path.display()))?;
                Target::Device(BufWriter::with_capacity(1 << 16, file))
            }
            Some(path) => Target::Replaced(Box::new(Replacement::new(path).with_context(|| format!("writing {}", path.display()))?)),
        };
        let mut out = Output { shape, format, width, target };
        if let Shape::Each(assembly) = &mut out.shape {
            let head = assembly.head();
            out.put(&head)?;
        }
        Ok(out)
    }

    /// An output that is added to; its beginning is there.
    pub(super) fn resumed(journal: Journal, assembly: Assembly<'a, D>, format: Format) -> Output<'a, D> {
        Output { shape: Shape::Each(Box::new(assembly)), format, width: 0, target: Target::Journal(Box::new(journal)) }
    }

    /// Whether answers appear on standard output while more is mapped.
    pub(super) fn streams(&self) -> bool {
        matches!((&self.target, &self.shape), (Target::Stdout(_), Shape::Each(_)))
    }

    fn put(&mut self, text: &str) -> anyhow::Result<()> {
        let bytes = text.as_bytes();
        match &mut self.target {
            Target::Stdout(out) => out.write_all(bytes)?,
            Target::Held(held) => held.extend_from_slice(bytes),
            Target::Device(out) => out.write_all(bytes)?,
            Target::Replaced(out) => out.write_all(bytes).with_context(|| format!("writing {}", out.path().display()))?,
            Target::Journal(journal) => journal.write(bytes),
        }
        Ok(())
    }

    /// The next answer.
    pub(super) fn item(&mut self, done: Done) -> anyhow::Result<()> {
        match &mut self.shape {
            Shape::Summary(summary) => {
                match done.produced {
                    Produced::Digest(digest) => summary.add(*digest),
                    Produced::Failure(failure) => summary.add_failure(&failure.0, &failure.1),
                    Produced::Rendered(_) => {}
                }
                Ok(())
            }
            Shape::Each(assembly) => {
                let Produced::Rendered(rendered) = done.produced else { return Ok(()) };
                let text = assembly.item(&rendered, done.error.as_deref());
                self.put(&text)
            }
        }
    }

    /// The end of a batch.
    pub(super) fn step(&mut self, step: impl FnOnce(&mut Journal) -> anyhow::Result<()>) -> anyhow::Result<()> {
        match &mut self.target {
            Target::Journal(journal) => step(journal),
            Target::Stdout(out) => Ok(out.flush()?),
            _ => Ok(()),
        }
    }

    /// The end of all.
    pub(super) fn finish(mut self, settings: &Settings) -> anyhow::Result<()> {
        let tail = match &mut self.shape {
            Shape::Each(assembly) => assembly.tail(),
            Shape::Summary(summary) => match self.format {
                Format::Json => summary.json(),
                Format::Csv => summary.csv(),
                Format::Markdown => summary.markdown(),
                Format::Navigator => summary.layer().to_json(),
                _ => summary.table(self.width),
            },
        };
        self.put(&tail)?;
        match self.target {
            Target::Stdout(mut out) => out.flush()?,
            Target::Held(bytes) => settings.write_styled(&String::from_utf8_lossy(&bytes))?,
            Target::Device(mut out) => out.flush()?,
            Target::Replaced(out) => {
                let name = format!("writing {}", out.path().display());
                out.finish().context(name)?;
            }
            Target::Journal(_) => {}
        }
        Ok(())
    }
}

/// The source of an input that goes by its name.
pub(super) fn source_of(name: &str) -> Source {
    Source { id: name.into(), source: name.to_owned(), title: None, record: None }
}
