//! `ttpmap layer`: Navigator layers made, merged, compared, upgraded, checked and drawn.

pub(crate) mod args;
mod lint;
mod operand;
mod upgrade;

use std::cell::OnceCell;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, bail};

use super::settings::Settings;
use super::{Knowledge, Outcome, map, open_domain, open_index};
use args::{DiffArgs, KeepRule, LayerCommand, MergeArgs, MergeRule, NewArgs, Others, ShowArgs};
use operand::{Making, Operands};
use ttpmap::ingest;
use ttpmap::layer::make::{self, Scoring};
use ttpmap::layer::matrix::Show;
use ttpmap::layer::merge::{self, Compare, How, Keep, Side};
use ttpmap::layer::upgrade::{Pick, Upgrade};
use ttpmap::layer::{self, Layer, show, svg};
use ttpmap::source::store::Store;
use ttpmap::text::MAX_TEXT_BYTES;
use ttpmap::{Domain, Index};

pub(crate) fn run(command: LayerCommand, settings: &Settings) -> anyhow::Result<Outcome> {
    match command {
        LayerCommand::New(args) => new(&args, settings),
        LayerCommand::Merge(args) => merged(&args, settings),
        LayerCommand::Diff(args) => diff(&args, settings),
        LayerCommand::Upgrade(args) => upgrade::run(&args, settings),
        LayerCommand::Lint(args) => lint::run(&args, settings),
        LayerCommand::Show(args) => shown(&args, settings),
    }
}

/// The bytes of a file or, for `-`, of standard input, within the bound of a document.
fn read(name: &str, settings: &Settings) -> anyhow::Result<Vec<u8>> {
    if name == "-" {
        if io::stdin().is_terminal() {
            settings.say("reading from the terminal; end it with Ctrl-D");
        }
        let mut bytes = Vec::new();
        io::stdin().lock().take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).context("reading standard input")?;
        if bytes.len() as u64 > MAX_TEXT_BYTES {
            bail!("-: {}", ingest::Error::TooLarge);
        }
        return Ok(bytes);
    }
    ingest::read_file(Path::new(name)).with_context(|| name.to_owned())
}

/// The knowledge bases at hand, each opened once.
struct AtHand<'s> {
    settings: &'s Settings,
    to: Option<String>,
    opened: [OnceCell<Knowledge>; 3],
}

impl<'s> AtHand<'s> {
    /// Of the release `to`, or of those in use.
    fn new(settings: &'s Settings, to: Option<&str>) -> AtHand<'s> {
        AtHand { settings, to: to.map(str::to_owned), opened: [const { OnceCell::new() }; 3] }
    }

    /// The knowledge base of a domain.
    fn of(&self, domain: Domain) -> anyhow::Result<&Knowledge> {
        let cell = &self.opened[domain as usize];
        if cell.get().is_none() {
            let _ = cell.set(open_release(self.settings, domain, self.to.as_deref())?);
        }
        Ok(cell.get().expect("it was set"))
    }
}

/// Whether a release is meant: `19` means any of its releases, `19.2` one.
fn is_release(version: &str, wanted: &str) -> bool {
    version == wanted || !wanted.contains('.') && layer::major(version) == wanted
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|n| n.parse().unwrap_or(0)).collect()
}

/// The knowledge base of a domain and, where it is named, a release.
fn open_release(settings: &Settings, domain: Domain, to: Option<&str>) -> anyhow::Result<Knowledge> {
    let wanted = to.map(|t| t.trim().trim_start_matches(['v', 'V']));
    if let Some(path) = &settings.kb {
        let index = open_index(settings)?;
        if index.domain() != domain {
            bail!("{}: of the {} domain, and {domain} is needed; name another with --kb", path.display(), index.domain());
        }
        if let Some(wanted) = wanted.filter(|w| !is_release(index.version(), w)) {
            bail!("{}: ATT&CK {}, not {wanted}; leave out --kb or --to", path.display(), index.version());
        }
        return Ok(index);
    }
    let Some(wanted) = wanted else {
        return open_domain(settings, domain);
    };
    match find_release(domain, wanted)? {
        Some(index) => Ok(index),
        None => {
            let at_hand = releases(domain)
                .iter()
                .map(|(version, path)| format!("{version}{}", if path.is_none() { " (built in)" } else { "" }))
                .collect::<Vec<_>>();
            let at_hand = if at_hand.is_empty() { "none".to_owned() } else { at_hand.join(", ") };
            let which = if wanted.contains('.') { format!(" --attack-version {wanted}") } else { String::new() };
            bail!(
                "ATT&CK {domain} {wanted} is not at hand (there is {at_hand}): run `ttpmap update --domain {domain}{which}`, \
                 or name a file of `ttpmap kb build` with --kb"
            )
        }
    }
}

/// The releases of a domain at hand, the newest first, with the file of each; None for the built-in one.
fn releases(domain: Domain) -> Vec<(String, Option<std::path::PathBuf>)> {
    let mut out = Vec::new();
    let embedded = Index::embedded();
    if embedded.domain() == domain {
        out.push((embedded.version().to_owned(), None));
    }
    let installed = Store::of_user().ok().and_then(|store| store.list().ok()).unwrap_or_default();
    out.extend(installed.into_iter().filter(|i| i.domain == domain).map(|i| (i.version, Some(i.path))));
    out.sort_by(|a, b| numbers(&b.0).cmp(&numbers(&a.0)).then(a.1.cmp(&b.1)));
    out
}

fn find_release(domain: Domain, wanted: &str) -> anyhow::Result<Option<Knowledge>> {
    let Some((_, path)) = releases(domain).into_iter().find(|(version, _)| is_release(version, wanted)) else { return Ok(None) };
    match path {
        None => Ok(Some(Index::embedded())),
        Some(path) => Index::open(&path).map(Some).with_context(|| path.display().to_string()),
    }
}

/// The knowledge base to read a layer with: that of its own release where it is at hand, or else the one in use.
fn release_of(layer: &Layer, settings: &Settings) -> anyhow::Result<Knowledge> {
    let domain = layer.attack_domain().or(settings.domain).unwrap_or(Domain::Enterprise);
    if settings.kb.is_none()
        && let Some(stated) = layer.attack_major()
        && let Some(index) = find_release(domain, stated)?
    {
        return Ok(index);
    }
    open_release(settings, domain, None)
}

/// What knows more than the release that is worked with: the built-in knowledge base.
fn upgrade_to<D: AsRef<[u8]>>(index: &Index<D>) -> Upgrade<'_, D> {
    Upgrade::new(index, &Index::embedded())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
    Navigator,
    Svg,
}

/// The format of an answer: the flag, or what the output's name says, or `otherwise`.
fn format(flag: Option<&str>, settings: &Settings, known: &[(&str, Format)], otherwise: Format) -> anyhow::Result<Format> {
    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if let Some(name) = flag {
        return known
            .iter()
            .find(|(k, _)| *k == name)
            .map(|(_, f)| *f)
            .with_context(|| format!("`{name}` is not a format: choose {}", names()));
    }
    let extension = settings.output.as_deref().and_then(Path::extension).and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let of_name = match extension.as_deref() {
        Some("svg") => Some(Format::Svg),
        Some("json") => Some(Format::Navigator),
        Some("txt") => Some(Format::Table),
        _ => None,
    };
    Ok(of_name.filter(|f| known.iter().any(|(_, k)| k == f)).unwrap_or(otherwise))
}

const MADE: [(&str, Format); 3] = [("navigator", Format::Navigator), ("svg", Format::Svg), ("table", Format::Table)];

fn width(given: Option<u16>) -> usize {
    given.map(usize::from).or_else(|| terminal_size::terminal_size().map(|(w, _)| usize::from(w.0))).unwrap_or(100)
}

fn true_color() -> bool {
    std::env::var("COLORTERM").is_ok_and(|v| v.contains("truecolor") || v.contains("24bit"))
}

/// Writes a layer that was made. Exit code 1 where it annotates nothing.
fn hand_out<D: AsRef<[u8]>>(
    mut layer: Layer,
    index: &Index<D>,
    others: &Others,
    format: Format,
    settings: &Settings,
) -> anyhow::Result<Outcome> {
    let outcome = if svg::is_empty(&layer) { Outcome::Unmet } else { Outcome::Done };
    if others.dim_others || others.hide_others {
        make::disable_others(&mut layer, index, others.hide_others);
    }
    let (layer, changes) = layer.portable();
    for change in changes {
        settings.say(&change);
    }
    match format {
        Format::Svg => settings.write(svg::svg(&layer, index, Show::Annotated).as_bytes())?,
        Format::Table => {
            let options = show::Options { width: width(None), true_color: true_color(), show: Show::Annotated };
            settings.write_styled(&show::show(&layer, index, options))?;
        }
        _ => settings.write(layer::write(&[layer], false).as_bytes())?,
    }
    Ok(outcome)
}

fn new(args: &NewArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let format = format(args.format.as_deref(), settings, &MADE, Format::Navigator)?;
    let index = open_index(settings)?;
    let upgrade = upgrade_to(&index);
    let tactics = args.tactic.iter().map(|t| map::tactic(&index, t)).collect::<anyhow::Result<Vec<_>>>()?;
    let platforms = map::platforms(&index, &args.platform)?;
    let mut new = Making::new(&upgrade, settings);
    if args.what.is_empty() && args.narratives.is_empty() {
        if tactics.is_empty() && platforms.is_empty() {
            new.what(&["-".to_owned()])?;
        } else {
            new.whole_matrix();
        }
    }
    new.what(&args.what)?;
    new.narratives(&args.narratives)?;
    let failed = new.failed;
    let scoring = match args.score {
        Some(score) if !score.is_finite() => bail!("--score: `{score}` is no number"),
        Some(score) => Scoring::Fixed(score),
        None if new.counts() => Scoring::Sources,
        None => Scoring::Given,
    };
    let name = args.name.clone().unwrap_or_else(|| new.title());
    let mut layer = new.layer(&name, scoring);
    operand::filter(&mut layer, &index, &tactics, &platforms);
    make::open_parents(&mut layer, &index);
    layer.description.clone_from(&args.description);
    let outcome = hand_out(layer, &index, &args.others, format, settings)?;
    Ok(if failed { Outcome::Failed } else { outcome })
}

fn merged(args: &MergeArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let format = format(args.format.as_deref(), settings, &MADE, Format::Navigator)?;
    let operands = Operands::new(settings);
    let (index, layers) = operands.read(&args.layers)?;
    let how = match args.how {
        MergeRule::Max => How::Score(Pick::Max),
        MergeRule::Min => How::Score(Pick::Min),
        MergeRule::Sum => How::Score(Pick::Sum),
        MergeRule::Mean => How::Score(Pick::Mean),
        MergeRule::Count => How::Count,
    };
    let keep = if args.keep == KeepRule::All { Keep::All } else { Keep::Any };
    let sign = if keep == Keep::All { " and " } else { " or " };
    let name =
        args.name.clone().unwrap_or_else(|| layers.iter().map(|l| &*l.name).collect::<Vec<_>>().join(sign).chars().take(200).collect());
    let layer = merge::merge(&layers, &index, how, keep, &name);
    hand_out(layer, &index, &args.others, format, settings)
}

fn diff(args: &DiffArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let known = [("table", Format::Table), ("json", Format::Json), ("navigator", Format::Navigator), ("svg", Format::Svg)];
    let terminal = settings.output.is_none() && io::stdout().is_terminal();
    let format = format(args.format.as_deref(), settings, &known, if terminal { Format::Table } else { Format::Navigator })?;
    let side =
        |name: &String| Side::ALL.into_iter().find(|s| s.name() == name).with_context(|| format!("--only: `{name}` is none of a, both, b"));
    let sides = args.only.iter().map(side).collect::<anyhow::Result<Vec<Side>>>()?;
    let operands = Operands::new(settings);
    let (index, layers) = operands.read(&[args.a.clone(), args.b.clone()])?;
    let [a, b] = &layers[..] else {
        bail!("two layers are compared, and here are {}: a file of several is for `layer merge`", layers.len())
    };
    let diff = merge::diff(a, b, &index, Compare { parents: args.parents, min_score: args.min_score });
    let outcome = if diff.rows(&sides).next().is_some() { Outcome::Done } else { Outcome::Unmet };
    match format {
        Format::Table => settings.write_styled(&diff.table(&index, &sides, width(None)))?,
        Format::Json => settings.write(format!("{:#}\n", diff.json(&index, &sides)).as_bytes())?,
        Format::Navigator | Format::Svg => {
            hand_out(diff.layer(&index, &sides, args.name.as_deref()), &index, &args.others, format, settings)?;
        }
    }
    Ok(outcome)
}

fn shown(args: &ShowArgs, settings: &Settings) -> anyhow::Result<Outcome> {
    let format = format(args.format.as_deref(), settings, &[("table", Format::Table), ("svg", Format::Svg)], Format::Table)?;
    let operands = Operands::new(settings).of_own_release();
    let (index, layers) = operands.read(std::slice::from_ref(&args.layer))?;
    let show = if args.all { Show::All } else { Show::Annotated };
    match format {
        Format::Svg => {
            let [layer] = &layers[..] else { bail!("svg is a picture of one layer, and the file holds {}", layers.len()) };
            settings.write(svg::svg(layer, &index, show).as_bytes())?;
        }
        _ => {
            let options = show::Options { width: width(args.width), true_color: true_color(), show };
            let all: Vec<String> = layers.iter().map(|l| show::show(l, &index, options)).collect();
            settings.write_styled(&all.join("\n"))?;
        }
    }
    Ok(Outcome::Done)
}
