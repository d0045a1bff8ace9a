//! The arguments as clap reads them: doc comments are the help.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ttpmap::ingest::Kind;

use super::layer::args::LayerCommand;

/// Reads incident narratives and says which MITRE ATT&CK techniques they describe
///
/// ttpmap maps threat reports, advisories, tickets and news to ATT&CK, with the place in the text, the status
/// (done, prevented, only discussed, ...) and a confidence for each technique. It looks up anything in ATT&CK by ID,
/// name, alias or a misspelling of one, and writes ATT&CK Navigator layers, csv, STIX and more. It works offline on
/// the knowledge base built into it; `ttpmap update` fetches the current one.
#[derive(Debug, Parser)]
#[command(name = "ttpmap", version, propagate_version = true, help_expected = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done; 1 ran, but found nothing or met --fail-on; 2 usage or failure.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shared options")]
pub(crate) struct Shared {
    /// ATT&CK domain: enterprise, mobile or ics
    #[arg(long, global = true, env = "TTPMAP_DOMAIN", value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// Use this knowledge base file (.ttpkb)
    #[arg(long, global = true, env = "TTPMAP_KB", value_name = "FILE")]
    pub(crate) kb: Option<PathBuf>,
    /// Use this encoder (.ttpmodel) instead of the installed one
    #[arg(long, global = true, env = "TTPMAP_MODEL", value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// How much of narratives is read, and which threshold is taken where --min-confidence gives none; balanced where not given
    #[arg(long, global = true, env = "TTPMAP_PROFILE", value_name = "PROFILE")]
    pub(crate) profile: Option<ProfileName>,
    /// Never use the network
    #[arg(long, global = true, env = "TTPMAP_OFFLINE", value_parser = FalseyValueParser::new())]
    pub(crate) offline: bool,
    /// Say nothing on standard error but errors
    #[arg(long, short, global = true, env = "TTPMAP_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Colour the output
    #[arg(long, global = true, env = "TTPMAP_COLOR", value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub(crate) color: Color,
    /// Read defaults from this file (TOML); a ttpmap/config.toml in the configuration folder is read otherwise
    #[arg(long, global = true, env = "TTPMAP_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write the answer to this file instead of standard output
    #[arg(long, short, global = true, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Map narratives to ATT&CK techniques
    Map(Box<MapArgs>),
    /// Look up anything in ATT&CK by ID, name, alias or a misspelling
    Lookup(LookupArgs),
    /// Measure the mapping on labelled reports
    Eval(EvalArgs),
    /// Make Navigator layers and work on them
    #[command(subcommand)]
    Layer(LayerCommand),
    /// Download ATT&CK and rebuild the knowledge base
    Update(UpdateArgs),
    /// Show, build and choose knowledge bases
    #[command(subcommand)]
    Kb(KbCommand),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ttpmap map report.txt
  ttpmap map reports/ --format jsonl -o mapped.jsonl
  ttpmap map https://example.com/advisory.html --format navigator -o layer.json
  ttpmap map report.txt -o case.stix.json --date 2026-01-31
  ttpmap map report.txt --similar-groups --defend
  ttpmap map advisory.pdf --text-out advisory.txt
  ttpmap map phishing.eml --attachments --format jsonl
  ttpmap map tickets.jsonl --text-field body --id-field key --fail-on T1486
  ttpmap map tickets.jsonl.zst -o mapped.jsonl --resume mapped.state
  ttpmap map reports/ --glob '*.json' --summary

Read are plain text, Markdown, HTML, PDF, DOCX, mail (EML), JSON and JSON Lines, and gzip or zstd of any of these;
docs/reading.md tells what is cleaned and what is refused. No text is recognised in images (OCR).")]
pub(crate) struct MapArgs {
    /// Files, folders, web addresses (http, https) or - for standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    pub(crate) inputs: Vec<String>,
    /// table, json, jsonl, navigator, svg, csv, markdown, stix, misp or sarif; told from the name of -o FILE where it can be,
    /// otherwise table on a terminal and json into a pipe
    #[arg(long, short, env = "TTPMAP_FORMAT", value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// What the inputs are: auto, text, markdown, html, pdf, docx, eml, json or jsonl; by content, then by name, where auto
    #[arg(long, value_name = "KIND", default_value = "auto", hide_possible_values = true)]
    pub(crate) input: InputKind,
    /// JSON, JSONL: the field that holds the narrative, as a path (a.b.0.c) or JSON pointer (/a/b/0/c)
    #[arg(long, value_name = "PATH", default_value = "text")]
    pub(crate) text_field: String,
    /// JSON, JSONL: the field that holds the record's ID
    #[arg(long, value_name = "PATH", default_value = "id")]
    pub(crate) id_field: String,
    /// Leave out what is less sure than this (0 to 1); 0 lists every candidate of every sentence
    #[arg(long, env = "TTPMAP_MIN_CONFIDENCE", value_name = "P", value_parser = probability)]
    pub(crate) min_confidence: Option<f32>,
    /// Only techniques of these statuses, comma-separated: asserted, prevented, negated, hypothetical, defensive, generic
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) status: Vec<String>,
    /// Only techniques of these tactics, by ID, short name or name
    #[arg(long, value_name = "TACTIC", value_delimiter = ',')]
    pub(crate) tactic: Vec<String>,
    /// Only techniques for these platforms
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// At most so many techniques for each narrative
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) top: Option<usize>,
    /// Threads; all cores where not given. The output is the same with any number
    #[arg(long, short, value_name = "N", env = "TTPMAP_JOBS")]
    pub(crate) jobs: Option<usize>,
    /// Say what carried each mapping, with weights, and what was second
    #[arg(long)]
    pub(crate) explain: bool,
    /// Also list, apart, what ATT&CK records for the groups, software and campaigns named
    #[arg(long)]
    pub(crate) implied: bool,
    /// Also rank the groups whose recorded techniques are most like those found: N of them, 5 where not given. Overlap is
    /// no attribution
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5", value_parser = how_many)]
    pub(crate) similar_groups: Option<usize>,
    /// Also list mitigations, detection strategies and data components for what was found, the widest first
    #[arg(long)]
    pub(crate) defend: bool,
    /// csv, markdown, stix, misp and sarif: quote web addresses, host names and mail addresses so that nothing links to them
    #[arg(long)]
    pub(crate) defanged: bool,
    /// stix and misp: the date or time to write, YYYY-MM-DD or RFC 3339; that of the knowledge base where not given
    #[arg(long, value_name = "DATE")]
    pub(crate) date: Option<String>,
    /// Exit with 1 if one of these techniques (or a sub-technique) is asserted
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) fail_on: Vec<String>,
    /// Mails: map what is attached too, each attachment as an input of its own
    #[arg(long)]
    pub(crate) attachments: bool,
    /// Write the text that offsets point into to this file (one input only)
    #[arg(long, value_name = "FILE")]
    pub(crate) text_out: Option<PathBuf>,
    /// Of folders: only files that match, or with ! in front, that don't ('*.json', 'cases/**', '!drafts/'); may be repeated
    #[arg(long, value_name = "PATTERN", help_heading = "Many inputs")]
    pub(crate) glob: Vec<String>,
    /// One answer about all inputs: in how many documents each technique is, since when, and where it is said best; as
    /// table, json, csv, markdown or navigator
    #[arg(long, help_heading = "Many inputs")]
    pub(crate) summary: bool,
    /// JSON, JSONL: the field that holds the record's date, for --summary
    #[arg(long, value_name = "PATH", default_value = "date", help_heading = "Many inputs")]
    pub(crate) date_field: String,
    /// Keep in this file what is done, and go on there when run again after being stopped; with -o FILE, as jsonl or csv
    #[arg(long, value_name = "FILE", help_heading = "Many inputs")]
    pub(crate) resume: Option<PathBuf>,
    /// Fetch from addresses inside this network or machine too
    #[arg(long, help_heading = "Web addresses")]
    pub(crate) allow_private: bool,
    /// Seconds without a byte before a page is given up; ten times as many in all
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Web addresses")]
    pub(crate) timeout: u64,
    /// Trust this certificate authority too (PEM)
    #[arg(long, value_name = "FILE", env = "TTPMAP_CA_FILE", help_heading = "Web addresses")]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputKind {
    /// By content, then by name
    Auto,
    /// Plain text
    Text,
    /// Markdown
    Markdown,
    /// HTML: the article without menus and notices
    Html,
    /// PDF
    Pdf,
    /// Word (DOCX)
    Docx,
    /// A mail
    Eml,
    /// One JSON object, or an array of them
    Json,
    /// One JSON object a line
    Jsonl,
}

impl InputKind {
    /// The kind that is given; none for `auto`, which is no kind's name.
    pub(crate) fn given(self) -> Option<Kind> {
        self.to_possible_value()?.get_name().parse().ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProfileName {
    /// Without the encoder: for streams and small machines
    Fast,
    /// Few false alarms
    Precise,
    /// The best balance of both
    Balanced,
    /// Few misses; the encoder reads every sentence
    Thorough,
}

impl From<ProfileName> for ttpmap::model::Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Fast => Self::Fast,
            ProfileName::Precise => Self::Precise,
            ProfileName::Balanced => Self::Balanced,
            ProfileName::Thorough => Self::Thorough,
        }
    }
}

fn probability(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("a number from 0 to 1 is wanted".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a number from 1 is wanted".to_owned())
}

/// A number that need not be there: what follows is easily an input instead.
fn how_many(text: &str) -> Result<usize, String> {
    at_least_one(text).map_err(|_| "not a number from 1; inputs go before this option, or write `--similar-groups=5`".to_owned())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ttpmap lookup T1059.001
  ttpmap lookup pasword spraying
  ttpmap lookup fancy bear --format json")]
pub(crate) struct LookupArgs {
    /// An ID, a name, an alias, a phrase: spelt right or nearly; - reads one query a line from standard input
    #[arg(value_name = "QUERY", required = true)]
    pub(crate) query: Vec<String>,
    /// table, json, jsonl, csv or markdown; told from the name of -o FILE where it can be, otherwise table
    #[arg(long, short, env = "TTPMAP_FORMAT", value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only answers of this kind: technique, tactic, group, software, campaign, mitigation, data-component, detection-strategy, analytic
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// At most so many answers
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    pub(crate) top: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ttpmap eval labelled.jsonl
  ttpmap eval labelled.jsonl --profile precise --top 50
  xz -dc labelled.jsonl.xz | ttpmap eval - --format json")]
pub(crate) struct EvalArgs {
    /// Files of reports labelled sentence by sentence (JSONL, see docs/eval.md), each measured by itself; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// Leave out what is less sure than this (0 to 1) in whole reports
    #[arg(long, env = "TTPMAP_MIN_CONFIDENCE", value_name = "P", value_parser = probability)]
    pub(crate) min_confidence: Option<f32>,
    /// The annotators looked for these techniques only: leave others out, given and found
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// At most so many techniques and confusions, worst first; 20 in a table and all in JSON where not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) top: Option<usize>,
    /// Threads; all cores where not given. The output is the same with any number
    #[arg(long, short, value_name = "N", env = "TTPMAP_JOBS")]
    pub(crate) jobs: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ttpmap update
  ttpmap update --domain ics --attack-version 18.1
  ttpmap update --from enterprise-attack-18.1.json")]
pub(crate) struct UpdateArgs {
    /// This ATT&CK release instead of the newest, such as 18.1
    #[arg(long, value_name = "X.Y")]
    pub(crate) attack_version: Option<String>,
    /// Fetch the encoder that `map` reads with beside the built-in models (16 MB), instead of a bundle
    #[arg(long, conflicts_with_all = ["attack_version"])]
    pub(crate) models: bool,
    /// Download from here instead of the official place
    #[arg(long, value_name = "URL", conflicts_with = "from")]
    pub(crate) url: Option<String>,
    /// Read from a file instead of downloading it; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Trust this certificate authority too (PEM)
    #[arg(long, value_name = "FILE", env = "TTPMAP_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Take a file whose SHA-256 is not the published one
    #[arg(long)]
    pub(crate) accept_digest: bool,
    /// Seconds without a byte before an attempt is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// Attempts after the first that failed for a reason that may pass
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) retries: u32,
    /// The index of releases to read
    #[arg(
        long,
        value_name = "URL",
        hide = true,
        default_value = "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/index.json"
    )]
    pub(crate) index_url: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KbCommand {
    /// Tell where the knowledge base in use comes from and what it holds
    Info {
        /// Check every byte and record as well
        #[arg(long)]
        verify: bool,
        /// table or json
        #[arg(long, short, value_name = "FORMAT", default_value = "table")]
        format: String,
    },
    /// List the installed knowledge bases
    List {
        /// table or json
        #[arg(long, short, value_name = "FORMAT", default_value = "table")]
        format: String,
    },
    /// Build a knowledge base file from an ATT&CK bundle
    Build(Box<KbBuildArgs>),
    /// Use an installed release, or `embedded` for the built-in one
    Use {
        /// The release, such as 18.1, or `embedded`
        #[arg(id = "release")]
        version: String,
    },
    /// Tell for each phrase of the lexicon how often it fires in labelled reports, and how often it is right
    #[command(hide = true)]
    LexiconReport(LexiconReportArgs),
    /// Tell what the encoder by itself says of the lessons of `kb build --encoder-lessons` (JSONL)
    #[command(hide = true)]
    Answers {
        /// The lessons
        #[arg(value_name = "FILE")]
        lessons: PathBuf,
    },
    /// Remove an installed release
    Remove {
        /// The release, such as 18.1
        #[arg(id = "release")]
        version: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LexiconReportArgs {
    /// Reports labelled sentence by sentence (JSONL, see docs/accuracy.md)
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) reports: Vec<PathBuf>,
    /// Measure the lexicon and rules of this folder instead of those in the knowledge base
    #[arg(long, value_name = "FOLDER")]
    pub(crate) curated: Option<PathBuf>,
    /// Artifact rules too
    #[arg(long)]
    pub(crate) rules: bool,
}

/// A part of the model or of what it learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// ATT&CK's procedures and descriptions
    Procedures,
    /// ttpmap's training sentences
    Sentences,
    /// ttpmap's narratives
    Narratives,
    /// The labelled texts of --train-texts
    Texts,
    /// Phrases and artifact rules in the second stage
    Phrases,
    /// The boosted trees
    Trees,
}

#[derive(Debug, Args)]
pub(crate) struct KbBuildArgs {
    /// The ATT&CK STIX bundle; - for standard input
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// The release, where neither the bundle nor its digest nor its name tells
    #[arg(long, value_name = "X.Y")]
    pub(crate) attack_version: Option<String>,
    /// Lay this fact table of a newer release over the bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) facts: Option<PathBuf>,
    /// Take lexicon and rules from this folder instead of the built-in knowledge base
    #[arg(long, value_name = "FOLDER")]
    pub(crate) curated: Option<PathBuf>,
    /// Leave descriptions and procedure texts out
    #[arg(long)]
    pub(crate) facts_only: bool,
    /// Teach the model your own labelled sentences or reports (JSONL: {"text", "labels"}, or the format of `eval`)
    #[arg(long, value_name = "FILE", conflicts_with = "train")]
    pub(crate) labelled: Vec<PathBuf>,
    /// Train the model anew, on this folder's training text, instead of taking over the built-in one
    #[arg(long, value_name = "FOLDER", hide_short_help = true)]
    pub(crate) train: Option<PathBuf>,
    /// With --train: reports labelled sentence by sentence (JSONL, see docs/accuracy.md)
    #[arg(long, value_name = "FILE", requires = "train", hide_short_help = true)]
    pub(crate) train_reports: Vec<PathBuf>,
    /// With --train: reports labelled under another convention, whose labels by the guide are labels/NAME.tsv of that folder
    #[arg(long, value_name = "FILE", requires = "train", hide_short_help = true)]
    pub(crate) train_others: Vec<PathBuf>,
    /// With --train: labelled texts, which count half
    #[arg(long, value_name = "FILE", requires = "train", hide_short_help = true)]
    pub(crate) train_texts: Vec<PathBuf>,
    /// With --train: write what the encoder learns from (JSONL, see docs/accuracy.md) instead of a knowledge base
    #[arg(long, requires = "train", hide_short_help = true)]
    pub(crate) encoder_lessons: bool,
    /// With --train: what encoders say of reports that they have not seen (JSONL, written by tools/encoder)
    #[arg(long, value_name = "FILE", requires = "train", hide_short_help = true)]
    pub(crate) encoder_scores: Vec<PathBuf>,
    /// With --train: the encoder's weights (safetensors, written by tools/encoder)
    #[arg(long, value_name = "FILE", requires_all = ["encoder_scores", "model_out"], hide_short_help = true)]
    pub(crate) encoder: Option<PathBuf>,
    /// With --encoder: where its model file goes
    #[arg(long, value_name = "FILE", requires = "encoder", hide_short_help = true)]
    pub(crate) model_out: Option<PathBuf>,
    /// With --train: leave a part out, to see what it is worth
    #[arg(long, value_name = "PART", requires = "train", value_delimiter = ',', hide_short_help = true)]
    pub(crate) without: Vec<Part>,
    /// The date to record, YYYY-MM-DD
    #[arg(long, value_name = "DATE", default_value = "")]
    pub(crate) date: String,
}
