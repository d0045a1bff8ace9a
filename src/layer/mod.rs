//! ATT&CK Navigator layers: read, made, merged, compared, brought to another release of ATT&CK, checked and drawn.
//!
//! [`Layer`] holds every field of layer format 4.5. It reads versions 3.0 to 4.5 in any encoding that tools write,
//! and keeps what it does not know ([`Layer::other`]), so that passing a layer on loses nothing. [`Layer::portable`]
//! gives one that both the Navigator and mitreattack-python take whole; every layer that ttpmap makes is that.
//!
//! ```
//! use ttpmap::layer::{self, Layer};
//!
//! let text = r#"{"name": "mine", "domain": "enterprise-attack", "techniques": [{"techniqueID": "T1059", "score": 80}]}"#;
//! let layers = layer::parse(text.as_bytes())?.layers;
//! assert_eq!(layers[0].techniques[0].score, Some(80.0));
//! # Ok::<(), layer::Error>(())
//! ```

pub mod lint;
pub mod make;
pub mod matrix;
pub mod merge;
mod place;
mod portable;
mod read;
pub mod show;
pub mod svg;
pub mod tags;
pub mod upgrade;

use serde_json::{Map, Number, Value, json};

use crate::kb::Domain;
use crate::kb::id::AttackId;

pub use read::{Error, File, MAX_LAYERS, parse};

/// The layer format that is written.
pub const LAYER_VERSION: &str = "4.5";
/// The Navigator that it is written for.
pub const NAVIGATOR_VERSION: &str = "5.1.0";

/// A Navigator layer. Absent fields are `None` or empty, and are not written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    /// Its name; empty where the file gives none.
    pub name: String,
    /// What it was written for.
    pub versions: Versions,
    /// As the file has it; [`Layer::attack_domain`] reads it. Empty where the file gives none.
    pub domain: String,
    /// Free text.
    pub description: Option<String>,
    /// `filters.platforms`: only techniques of these show.
    pub platforms: Option<Vec<String>>,
    /// 0 name ascending, 1 descending, 2 score ascending, 3 descending.
    pub sorting: Option<u8>,
    /// How the matrix is laid out.
    pub layout: Option<Layout>,
    /// Whether disabled techniques are hidden rather than greyed.
    pub hide_disabled: Option<bool>,
    /// The annotations.
    pub techniques: Vec<Entry>,
    /// How scores become colours.
    pub gradient: Option<Gradient>,
    /// What colours mean.
    pub legend: Vec<LegendItem>,
    /// Whether the row of tactics has a background.
    pub show_tactic_row_background: Option<bool>,
    /// Its colour.
    pub tactic_row_background: Option<String>,
    /// What a click selects.
    pub select_techniques_across_tactics: Option<bool>,
    /// What a click selects.
    pub select_subtechniques_with_parent: Option<bool>,
    /// What a click selects.
    pub select_visible_techniques: Option<bool>,
    /// Names and values.
    pub metadata: Vec<Metadata>,
    /// Links of the layer.
    pub links: Vec<Link>,
    /// Fields that are unknown, or of a type that they can't have, as the file has them.
    pub other: Map<String, Value>,
    /// Elements of `techniques` that are no objects.
    pub unreadable: Vec<Value>,
}

/// What a layer was written for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// The ATT&CK release, such as `19` or `19.2`; some tools write `latest`.
    pub attack: Option<String>,
    /// The Navigator.
    pub navigator: Option<String>,
    /// The layer format.
    pub layer: Option<String>,
}

/// An annotation of a technique, in one of its tactics or all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// As the file has it; [`Entry::id`] reads it.
    pub technique_id: String,
    /// A tactic's short name; None means every tactic of the technique.
    pub tactic: Option<String>,
    /// None: unscored.
    pub score: Option<f64>,
    /// A colour, which goes before the gradient's.
    pub color: Option<String>,
    /// Free text.
    pub comment: Option<String>,
    /// None means true.
    pub enabled: Option<bool>,
    /// Names and values.
    pub metadata: Vec<Metadata>,
    /// Links.
    pub links: Vec<Link>,
    /// Whether its sub-techniques are shown.
    pub show_subtechniques: Option<bool>,
    /// Fields that are unknown, or of a type that they can't have.
    pub other: Map<String, Value>,
}

/// How the matrix is laid out. Fields as the format has them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layout {
    /// side, flat or mini
    pub layout: Option<String>,
    /// Whether IDs are shown.
    pub show_id: Option<bool>,
    /// Whether names are shown.
    pub show_name: Option<bool>,
    /// Whether techniques show a score made of those of their sub-techniques.
    pub show_aggregate_scores: Option<bool>,
    /// Whether unscored sub-techniques count for it.
    pub count_unscored: Option<bool>,
    /// average, min, max or sum
    pub aggregate_function: Option<String>,
    /// none, all or annotated
    pub expanded_subtechniques: Option<String>,
    /// Fields that are unknown, or of a type that they can't have.
    pub other: Map<String, Value>,
}

/// How scores become colours.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// Two or more, from the lowest score to the highest.
    pub colors: Vec<String>,
    /// The score of the first colour.
    pub min: f64,
    /// The score of the last colour.
    pub max: f64,
}

/// What a colour means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegendItem {
    /// The meaning.
    pub label: String,
    /// The colour.
    pub color: String,
}

/// A name and a value, or a line between such.
#[derive(Debug, Clone, PartialEq)]
pub enum Metadata {
    /// A name and a value.
    Pair {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// A line.
    Divider,
    /// Anything else, as the file has it.
    Other(Value),
}

/// A link, or a line between links.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// A link.
    To {
        /// What it says.
        label: String,
        /// Where it leads.
        url: String,
    },
    /// A line.
    Divider,
    /// Anything else, as the file has it.
    Other(Value),
}

impl Metadata {
    /// A name and a value.
    pub fn pair(name: impl Into<String>, value: impl Into<String>) -> Metadata {
        Metadata::Pair { name: name.into(), value: value.into() }
    }
}

impl Layer {
    /// An empty layer of a release, as ttpmap makes them: scores from 0 to 100, sub-techniques opened where annotated.
    /// `version` may be full (`19.2`): the Navigator takes the major number.
    pub fn new(name: impl Into<String>, domain: Domain, version: &str) -> Layer {
        Layer {
            name: name.into(),
            versions: Versions {
                attack: Some(major(version).to_owned()),
                navigator: Some(NAVIGATOR_VERSION.into()),
                layer: Some(LAYER_VERSION.into()),
            },
            domain: domain.attack_name().into(),
            layout: Some(Layout {
                layout: Some("side".into()),
                show_id: Some(true),
                show_name: Some(true),
                aggregate_function: Some("average".into()),
                expanded_subtechniques: Some("annotated".into()),
                ..Layout::default()
            }),
            hide_disabled: Some(false),
            show_tactic_row_background: Some(false),
            select_techniques_across_tactics: Some(false),
            select_subtechniques_with_parent: Some(false),
            ..Layer::default()
        }
    }

    /// The domain, in any of the forms that tools write; None where it is another or missing.
    pub fn attack_domain(&self) -> Option<Domain> {
        domain_of(&self.domain)
    }

    /// The major number of the ATT&CK release that the layer says it is of.
    pub fn attack_major(&self) -> Option<&str> {
        self.versions.attack.as_deref().map(|v| v.trim().trim_start_matches(['v', 'V'])).map(major).filter(|v| is_number(v))
    }

    /// The layer as JSON, every field that it holds and nothing else.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        if !self.name.is_empty() {
            out.insert("name".into(), json!(self.name));
        }
        let mut versions = Map::new();
        put(&mut versions, "attack", self.versions.attack.as_deref());
        put(&mut versions, "navigator", self.versions.navigator.as_deref());
        put(&mut versions, "layer", self.versions.layer.as_deref());
        if !versions.is_empty() {
            out.insert("versions".into(), Value::Object(versions));
        }
        if !self.domain.is_empty() {
            out.insert("domain".into(), json!(self.domain));
        }
        put(&mut out, "description", self.description.as_deref());
        if let Some(platforms) = &self.platforms {
            out.insert("filters".into(), json!({ "platforms": platforms }));
        }
        put(&mut out, "sorting", self.sorting);
        if let Some(layout) = &self.layout {
            out.insert("layout".into(), layout.to_value());
        }
        put(&mut out, "hideDisabled", self.hide_disabled);
        let mut techniques: Vec<Value> = self.techniques.iter().map(Entry::to_value).collect();
        techniques.extend(self.unreadable.iter().cloned());
        if !self.other.contains_key("techniques") {
            out.insert("techniques".into(), Value::Array(techniques));
        }
        if let Some(gradient) = &self.gradient {
            let bounds = (number(gradient.min), number(gradient.max));
            out.insert("gradient".into(), json!({"colors": gradient.colors, "minValue": bounds.0, "maxValue": bounds.1}));
        }
        if !self.legend.is_empty() {
            let items = self.legend.iter().map(|i| json!({"label": i.label, "color": i.color}));
            out.insert("legendItems".into(), Value::Array(items.collect()));
        }
        put_annotations(&mut out, &self.metadata, &self.links);
        put(&mut out, "showTacticRowBackground", self.show_tactic_row_background);
        put(&mut out, "tacticRowBackground", self.tactic_row_background.as_deref());
        put(&mut out, "selectTechniquesAcrossTactics", self.select_techniques_across_tactics);
        put(&mut out, "selectSubtechniquesWithParent", self.select_subtechniques_with_parent);
        put(&mut out, "selectVisibleTechniques", self.select_visible_techniques);
        put_other(&mut out, &self.other);
        Value::Object(out)
    }

    /// The layer as indented JSON, without a line end.
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }
}

impl Entry {
    /// An annotation of a technique in a tactic.
    pub fn new(id: AttackId, tactic: Option<&str>) -> Entry {
        Entry { technique_id: id.to_string(), tactic: tactic.map(str::to_owned), ..Entry::default() }
    }

    /// The technique, in any form of its ID that people write; None for anything else.
    pub fn id(&self) -> Option<AttackId> {
        self.technique_id.trim().parse::<AttackId>().ok().filter(|id| id.kind() == crate::Kind::Technique)
    }

    /// Whether the technique is not greyed out.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// Whether the entry says something of its technique. One that is disabled doesn't, nor one that only opens its
    /// sub-techniques; one that has nothing but its ID does: some tools mark techniques so.
    pub fn is_annotated(&self) -> bool {
        let says = self.score.is_some()
            || self.color.as_ref().is_some_and(|c| !c.is_empty())
            || self.comment.as_ref().is_some_and(|c| !c.is_empty())
            || !self.metadata.is_empty()
            || !self.links.is_empty();
        self.is_enabled() && (says || self.show_subtechniques != Some(true))
    }

    fn to_value(&self) -> Value {
        let mut out = Map::new();
        if !self.technique_id.is_empty() {
            out.insert("techniqueID".into(), json!(self.technique_id));
        }
        put(&mut out, "tactic", self.tactic.as_deref());
        put(&mut out, "score", self.score.map(number));
        put(&mut out, "color", self.color.as_deref());
        put(&mut out, "comment", self.comment.as_deref());
        put(&mut out, "enabled", self.enabled);
        put_annotations(&mut out, &self.metadata, &self.links);
        put(&mut out, "showSubtechniques", self.show_subtechniques);
        put_other(&mut out, &self.other);
        Value::Object(out)
    }

    /// Adds a line to the comment, once.
    pub fn note(&mut self, line: &str) {
        let comment = self.comment.get_or_insert_default();
        if !comment.lines().any(|l| l == line) {
            if !comment.is_empty() {
                comment.push('\n');
            }
            comment.push_str(line);
        }
    }
}

impl Layout {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "layout", self.layout.as_deref());
        put(&mut out, "aggregateFunction", self.aggregate_function.as_deref());
        put(&mut out, "showID", self.show_id);
        put(&mut out, "showName", self.show_name);
        put(&mut out, "showAggregateScores", self.show_aggregate_scores);
        put(&mut out, "countUnscored", self.count_unscored);
        put(&mut out, "expandedSubtechniques", self.expanded_subtechniques.as_deref());
        put_other(&mut out, &self.other);
        Value::Object(out)
    }
}

/// The layers as a file: one object, or an array where there are several or `array` says so. Ends with a line end.
pub fn write(layers: &[Layer], array: bool) -> String {
    match layers {
        [one] if !array => one.to_json() + "\n",
        _ => format!("{:#}\n", Value::Array(layers.iter().map(Layer::to_value).collect())),
    }
}

/// The first number of a release: `19` of `19.2`.
pub fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn domain_of(text: &str) -> Option<Domain> {
    let text = text.trim().to_ascii_lowercase();
    // Layers of version 3 say `mitre-enterprise`.
    let short = text.strip_prefix("mitre-").unwrap_or(&text);
    short.parse().ok()
}

/// A number without a fraction as one that is whole: some readers take nothing else.
fn number(value: f64) -> Value {
    // Whole numbers up to here are exact in both.
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { Number::from_f64(value).map_or(json!(0), Value::Number) }
}

fn put<T: Into<Value>>(out: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        out.insert(key.to_owned(), value.into());
    }
}

fn put_annotations(out: &mut Map<String, Value>, metadata: &[Metadata], links: &[Link]) {
    let meta = |m: &Metadata| match m {
        Metadata::Pair { name, value } => json!({"name": name, "value": value}),
        Metadata::Divider => json!({"divider": true}),
        Metadata::Other(value) => value.clone(),
    };
    let link = |l: &Link| match l {
        Link::To { label, url } => json!({"label": label, "url": url}),
        Link::Divider => json!({"divider": true}),
        Link::Other(value) => value.clone(),
    };
    if !metadata.is_empty() {
        out.insert("metadata".into(), Value::Array(metadata.iter().map(meta).collect()));
    }
    if !links.is_empty() {
        out.insert("links".into(), Value::Array(links.iter().map(link).collect()));
    }
}

/// What isn't known goes behind, and into a known object where it stood in one.
fn put_other(out: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (key, value) in other {
        match (out.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => {
                for (key, value) in more {
                    there.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            (Some(_), _) => {}
            (None, _) => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
}
