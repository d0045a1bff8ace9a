//! The binary's side: arguments, settings, inputs and outputs. The library does the work.

mod args;
mod eval;
mod kb;
mod layer;
mod lookup;
mod map;
mod settings;
mod update;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};

use args::{Cli, Color, Command};
use settings::Settings;
use ttpmap::encoder::{EncoderModel, MAX_BYTES as MAX_MODEL_BYTES};
use ttpmap::model::Profile;
use ttpmap::rank::Mapper;
use ttpmap::source::store::{MODEL_FILE, Store};
use ttpmap::{Domain, Index};

/// An open knowledge base: the built-in one, or one read from a file.
pub(crate) type Knowledge = Index<Cow<'static, [u8]>>;

/// What a command comes to: done, or ran without finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1: nothing found, or `--fail-on` met.
    Unmet,
    /// Exit code 2: the rest was done, and the failures were reported.
    Failed,
}

pub(crate) fn main() -> ExitCode {
    // A foreign parser that gives up is an error with the input's name; its own words would only stand beside it.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(ttpmap::ingest::PARSER_THREAD) {
            usual(panic);
        }
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Unmet) => ExitCode::from(1),
        Ok(Outcome::Failed) => ExitCode::from(2),
        Err(e) if is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            anstream::eprintln!("ttpmap: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// Whoever read our output has had enough; that is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|c| c.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let settings = Settings::resolve(&cli.shared)?;
    match settings.color {
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
        Color::Auto => {}
    }
    match cli.command {
        Command::Map(args) => map::run(&args, &settings),
        Command::Lookup(args) => lookup::run(&args, &settings),
        Command::Eval(args) => eval::run(&args, &settings),
        Command::Layer(command) => layer::run(command, &settings),
        Command::Update(args) => update::run(&args, &settings),
        Command::Kb(command) => kb::run(command, &settings),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ttpmap", &mut script);
            settings.write(&script)?;
            Ok(Outcome::Done)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            settings.write(&page)?;
            Ok(Outcome::Done)
        }
    }
}

/// The index in use: `--kb`, else the installed one of the domain, else the built-in one.
pub(crate) fn open_index(settings: &Settings) -> anyhow::Result<Knowledge> {
    if let Some(path) = &settings.kb {
        return Index::open(path).with_context(|| path.display().to_string());
    }
    open_domain(settings, settings.domain.unwrap_or_else(|| Index::embedded().domain()))
}

/// The index in use for a domain: the installed one, else the built-in one.
pub(crate) fn open_domain(settings: &Settings, domain: Domain) -> anyhow::Result<Knowledge> {
    let embedded = Index::embedded();
    let installed = Store::of_user().ok().and_then(|store| store.current(domain));
    if let Some(installed) = installed {
        match Index::open(&installed.path) {
            Ok(index) => return Ok(index),
            // The built-in one still serves; a word on it, for the answers may differ.
            Err(e) if domain == embedded.domain() => {
                let e = anyhow::Error::from(e);
                settings.say(&format!("{}: {e:#}; using the built-in ATT&CK {}", installed.path.display(), embedded.version()));
            }
            Err(e) => return Err(e).with_context(|| installed.path.display().to_string()),
        }
    }
    if domain != embedded.domain() {
        bail!("no {domain} knowledge base is installed: run `ttpmap update --domain {domain}`");
    }
    Ok(embedded)
}

/// Where a model file lies that nobody named: in the user's store, in `models` beside the program as the release archive
/// has it, or in the project that the program was built in.
fn model_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Ok(store) = Store::of_user() {
        places.push(store.model_path());
    }
    let program = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    if let Some(folder) = program.as_deref().and_then(Path::parent) {
        places.push(folder.join("models").join(MODEL_FILE));
        let project = folder.parent().filter(|target| target.file_name().is_some_and(|name| name == "target")).and_then(Path::parent);
        places.extend(project.map(|project| project.join("models").join(MODEL_FILE)));
    }
    places
}

/// The encoder for a profile: `--model`, else one that is installed. Where there is none, a word on it.
pub(crate) fn open_encoder(settings: &Settings) -> anyhow::Result<Option<EncoderModel>> {
    if settings.profile == Profile::Fast {
        return Ok(None);
    }
    let open = |path: &Path| -> anyhow::Result<EncoderModel> {
        // In one piece where the size is known: a vector that grows copies sixteen megabytes several times.
        let file = std::fs::File::open(path)?;
        let mut bytes = Vec::with_capacity(file.metadata().map_or(0, |m| m.len().min(MAX_MODEL_BYTES)) as usize);
        io::Read::read_to_end(&mut io::Read::take(file, MAX_MODEL_BYTES), &mut bytes)?;
        Ok(EncoderModel::open(bytes)?)
    };
    if let Some(path) = &settings.model {
        return open(path).map(Some).with_context(|| format!("{}, the encoder's model (--profile fast reads without it)", path.display()));
    }
    for path in model_places().iter().filter(|path| path.is_file()) {
        match open(path) {
            Ok(model) => return Ok(Some(model)),
            Err(e) => settings.say(&format!("{}: {e:#}; not used", path.display())),
        }
    }
    settings.say(
        "no encoder is installed: reading with the linear models only (`ttpmap update --models` fetches it; --profile fast asks for none)",
    );
    Ok(None)
}

/// A mapper with the encoder, where there is one.
pub(crate) fn mapper<'a, D: AsRef<[u8]>>(index: &'a Index<D>, encoder: Option<&'a EncoderModel>) -> anyhow::Result<Mapper<'a, D>> {
    Ok(match encoder {
        Some(encoder) => Mapper::with_encoder(index, encoder)?,
        None => Mapper::new(index),
    })
}

impl Settings {
    /// A line on standard error, unless `--quiet`.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            anstream::eprintln!("ttpmap: {line}");
        }
    }

    /// Writes the whole answer: to `--output`, replacing the file as a whole, or to standard output.
    pub(crate) fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        match self.output.as_deref().filter(|p| *p != Path::new("-")) {
            // A device or a pipe is written into; putting a file in its place would do away with it.
            Some(path) if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) => {
                std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
            }
            Some(path) => replace(path, bytes).with_context(|| format!("writing {}", path.display()))?,
            None => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
            }
        }
        Ok(())
    }

    /// The same for text with styles, which go where they are wanted only.
    pub(crate) fn write_styled(&self, text: &str) -> anyhow::Result<()> {
        let styled = self.output.is_none()
            && match self.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            };
        if styled { self.write(text.as_bytes()) } else { self.write(anstream::adapter::strip_str(text).to_string().as_bytes()) }
    }
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = Replacement::new(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// A file that is written beside another and takes its place when it is whole. A link is followed.
pub(crate) struct Replacement {
    file: io::BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

impl Replacement {
    pub(crate) fn new(path: &Path) -> io::Result<Replacement> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = answer_file(&mut tempfile::Builder::new()).tempfile_in(folder)?;
        Ok(Replacement { file: io::BufWriter::with_capacity(1 << 16, file), path })
    }

    /// The file that is replaced.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path).map_err(|e| e.error)?;
        Ok(())
    }
}

/// Temporary files are private; an answer is as any file that the user makes, the umask taken off.
fn answer_file<'a, 'b>(builder: &'a mut tempfile::Builder<'b, 'b>) -> &'a tempfile::Builder<'b, 'b> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.prefix(".ttpmap-")
}
