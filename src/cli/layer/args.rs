//! The arguments of `ttpmap layer`: doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum LayerCommand {
    /// Make a layer of IDs, groups, software, tactics, platforms, mapped narratives
    New(Box<NewArgs>),
    /// Join layers into one: union or intersection, by score or count
    Merge(Box<MergeArgs>),
    /// Compare two layers: what is only in A, in both, only in B
    Diff(Box<DiffArgs>),
    /// Bring layers, lists, CSV and Sigma rules to another ATT&CK release
    Upgrade(Box<UpgradeArgs>),
    /// Say what the Navigator or mitreattack-python would refuse, hide, drop or alter
    Lint(Box<LintArgs>),
    /// Draw a layer in the terminal or as SVG
    Show(Box<ShowArgs>),
}

/// What is done with all that a layer does not annotate.
#[derive(Debug, Args)]
pub(crate) struct Others {
    /// Grey out every technique that the layer does not annotate
    #[arg(long, conflicts_with = "hide_others")]
    pub(crate) dim_others: bool,
    /// Hide every technique that the layer does not annotate
    #[arg(long)]
    pub(crate) hide_others: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ttpmap layer new T1059.001 T1003 --name mine -o layer.json
  ttpmap layer new T1059.001 80 \"seen twice\"
  ttpmap layer new \"Salt Typhoon\" Mimikatz -o overlap.json
  ttpmap layer new coverage.csv --dim-others -o coverage.json
  ttpmap layer new --tactic discovery --platform Windows -o discovery.json
  ttpmap layer new --narratives reports/ -o trend.json
  ttpmap map report.txt --format json | ttpmap layer new - -o report.json")]
pub(crate) struct NewArgs {
    /// IDs, each with a score and a comment if you like; names of groups, software, campaigns, mitigations, data components; files with such lists, CSV or JSON of `map`; - for standard input
    #[arg(value_name = "WHAT")]
    pub(crate) what: Vec<String>,
    /// Map these files and folders of narratives: the score of a technique is in how many it is asserted
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) narratives: Vec<PathBuf>,
    /// Only techniques of these tactics; all of them where nothing else is named
    #[arg(long, value_name = "TACTIC", value_delimiter = ',')]
    pub(crate) tactic: Vec<String>,
    /// Only techniques for these platforms; all of them where nothing else is named
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// This score for every technique
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) score: Option<f64>,
    /// The layer's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The layer's description
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    #[command(flatten)]
    pub(crate) others: Others,
    /// navigator, svg or table
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScoreRule {
    /// The highest score
    Max,
    /// The lowest
    Min,
    /// All together
    Sum,
    /// The mean of those that have one
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MergeRule {
    /// The highest score
    Max,
    /// The lowest
    Min,
    /// All together
    Sum,
    /// The mean of those that have one
    Mean,
    /// In how many layers the technique is annotated
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeepRule {
    /// Techniques that any of the layers annotates
    Any,
    /// Techniques that all of them annotate
    All,
}

#[derive(Debug, Args)]
#[command(after_help = "A LAYER is a layer file, the JSON of `map`, a list of IDs, a narrative, a folder of narratives, or the name of
a group, software or campaign. Layers of other ATT&CK releases are brought to the one in use first.

Examples:
  ttpmap layer merge a.json b.json c.json --how count -o heat.json
  ttpmap layer merge \"Salt Typhoon\" APT41 --keep all -o common.json")]
pub(crate) struct MergeArgs {
    /// Layers, or what stands for one
    #[arg(value_name = "LAYER", required = true)]
    pub(crate) layers: Vec<String>,
    /// How scores become one
    #[arg(long, value_name = "RULE", default_value = "max")]
    pub(crate) how: MergeRule,
    /// Which techniques: any (union) or all (intersection)
    #[arg(long, value_name = "WHICH", default_value = "any")]
    pub(crate) keep: KeepRule,
    /// The layer's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) others: Others,
    /// navigator, svg or table
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A and B are layer files, JSON of `map`, lists of IDs, narratives, folders of narratives, or names of groups, software
or campaigns. Layers of other ATT&CK releases are brought to the one in use first.
Exit code 1: nothing to show.

Examples:
  ttpmap layer diff report.txt my-detections.json --only a
  ttpmap layer diff \"Salt Typhoon\" my-detections.json --format table
  ttpmap layer diff before.json after.json -o diff.json"
)]
pub(crate) struct DiffArgs {
    /// A layer, or what stands for one
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The layer to compare it with
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// Show only these: a (only in A), both, b (only in B)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Count sub-techniques as their parents
    #[arg(long)]
    pub(crate) parents: bool,
    /// What scores less, or not at all, counts as not annotated
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) min_score: Option<f64>,
    /// The layer's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) others: Others,
    /// table, json, navigator or svg; table on a terminal, navigator otherwise
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// By name and content
    Auto,
    /// A Navigator layer
    Layer,
    /// IDs in any text
    Ids,
    /// Columns with a heading
    Csv,
    /// Sigma rules: the attack. tags
    Sigma,
}

#[derive(Debug, Args)]
#[command(after_help = "The release is the built-in one, an installed one (`ttpmap kb list`) or that of --kb.
Exit code 1: something could not move; it is kept, disabled where the format can, and told.

Examples:
  ttpmap layer upgrade old.json --to 19 -o new.json
  ttpmap layer upgrade coverage.csv --column technique -o new.csv
  ttpmap layer upgrade rules/ --kind sigma --in-place
  ttpmap layer upgrade old.json --dry-run")]
pub(crate) struct UpgradeArgs {
    /// Files; folders with --in-place; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<String>,
    /// The release, such as 19.2 or 19; the knowledge base in use where not given
    #[arg(long, value_name = "X.Y")]
    pub(crate) to: Option<String>,
    /// What the files are
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) kind: KindName,
    /// Which score entries get that end in one place
    #[arg(long, value_name = "RULE", default_value = "max")]
    pub(crate) merge: ScoreRule,
    /// CSV: the column of techniques, by its heading
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// CSV: the column of tactics, by its heading
    #[arg(long, value_name = "NAME")]
    pub(crate) tactic_column: Option<String>,
    /// Replace the files, each kept beside as .bak
    #[arg(long, conflicts_with_all = ["output", "dry_run"])]
    pub(crate) in_place: bool,
    /// Print what would become of every entry, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write what became of every entry to this file (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Leave out what mitreattack-python would refuse, such as fields that nobody knows
    #[arg(long)]
    pub(crate) portable: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 1: there are findings; with --fix, some remain.

Examples:
  ttpmap layer lint layer.json
  ttpmap layer lint layers/*.json --format json
  ttpmap layer lint layer.json --fix -o fixed.json")]
pub(crate) struct LintArgs {
    /// Layer files; - for standard input
    #[arg(value_name = "LAYER", required = true)]
    pub(crate) files: Vec<String>,
    /// Mend what can be mended, and write the layer
    #[arg(long)]
    pub(crate) fix: bool,
    /// With --fix: replace the files, each kept beside as .bak
    #[arg(long, requires = "fix", conflicts_with = "output")]
    pub(crate) in_place: bool,
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table", conflicts_with = "fix")]
    pub(crate) format: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ttpmap layer show layer.json
  ttpmap layer show layer.json --all -o matrix.svg
  ttpmap layer new APT29 | ttpmap layer show -")]
pub(crate) struct ShowArgs {
    /// A layer file, or what stands for a layer; - for standard input
    #[arg(value_name = "LAYER")]
    pub(crate) layer: String,
    /// The whole matrix, not only what the layer annotates
    #[arg(long)]
    pub(crate) all: bool,
    /// Columns to draw in; those of the terminal where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(30..=1000))]
    pub(crate) width: Option<u16>,
    /// table or svg
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}
