//! What the Navigator would refuse, hide or drop of a layer, and what mitreattack-python 6.3 would refuse or alter:
//! said beforehand, with the place in the file, the reason and the cure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::place::{Lines, places};
use super::portable::is_color;
use super::upgrade::{Pick, Report, Upgrade, clip};
use super::{Entry, File, Layer, is_number, major};
use crate::kb::id::AttackId;

/// What becomes of the value found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The Navigator does not open the layer, or only after a warning.
    NavigatorRefuses,
    /// The Navigator opens it and does not show this.
    NavigatorHides,
    /// The Navigator opens it without this.
    NavigatorDrops,
    /// mitreattack-python does not load the layer.
    LibraryRefuses,
    /// mitreattack-python loads it without this.
    LibraryDrops,
    /// mitreattack-python loads something else.
    LibraryAlters,
}

impl Effect {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Effect::NavigatorRefuses => "the Navigator refuses it",
            Effect::NavigatorHides => "the Navigator hides it",
            Effect::NavigatorDrops => "the Navigator drops it",
            Effect::LibraryRefuses => "mitreattack-python refuses the layer",
            Effect::LibraryDrops => "mitreattack-python drops it",
            Effect::LibraryAlters => "mitreattack-python alters it",
        }
    }
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where in the JSON: `techniques[3].score`.
    pub path: String,
    /// The line in the file, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What becomes of it; several readers may each do something.
    pub effects: Vec<Effect>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub cure: String,
}

/// Fields of a layer, with the type of each.
const LAYER_FIELDS: [(&str, Type); 18] = [
    ("name", Type::Text),
    ("versions", Type::Object),
    ("domain", Type::Text),
    ("description", Type::Text),
    ("filters", Type::Object),
    ("sorting", Type::Whole),
    ("layout", Type::Object),
    ("hideDisabled", Type::Bool),
    ("techniques", Type::Array),
    ("gradient", Type::Object),
    ("legendItems", Type::Array),
    ("showTacticRowBackground", Type::Bool),
    ("tacticRowBackground", Type::Text),
    ("selectTechniquesAcrossTactics", Type::Bool),
    ("selectSubtechniquesWithParent", Type::Bool),
    ("selectVisibleTechniques", Type::Bool),
    ("metadata", Type::Array),
    ("links", Type::Array),
];
const ENTRY_FIELDS: [(&str, Type); 10] = [
    ("techniqueID", Type::Text),
    ("tactic", Type::Text),
    ("score", Type::Number),
    ("color", Type::Text),
    ("comment", Type::Text),
    ("enabled", Type::Bool),
    ("metadata", Type::Array),
    ("links", Type::Array),
    ("showSubtechniques", Type::Bool),
    // Of mitreattack-python's own.
    ("aggregateScore", Type::Whole),
];
const LAYOUT_FIELDS: [(&str, Type); 7] = [
    ("layout", Type::Text),
    ("showID", Type::Bool),
    ("showName", Type::Bool),
    ("showAggregateScores", Type::Bool),
    ("countUnscored", Type::Bool),
    ("aggregateFunction", Type::Text),
    ("expandedSubtechniques", Type::Text),
];
const FORMATS_RAISED: [&str; 6] = ["3.0", "4.0", "4.1", "4.2", "4.3", "4.4"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Text,
    Bool,
    Number,
    Whole,
    Array,
    Object,
}

impl Type {
    fn fits(self, value: &Value) -> bool {
        match self {
            Type::Text => value.is_string(),
            Type::Bool => value.is_boolean(),
            Type::Number => value.is_number(),
            Type::Whole => value.is_i64() || value.is_u64(),
            Type::Array => value.is_array(),
            Type::Object => value.is_object(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Type::Text => "a string",
            Type::Bool => "true or false",
            Type::Number => "a number",
            Type::Whole => "a whole number",
            Type::Array => "an array",
            Type::Object => "an object",
        }
    }
}

/// Checks a file's layers. What IDs and tactics are there is asked of the release that `upgrade` leads to.
///
/// Findings come in the order of the file. Cost: a pass over the text and its values.
///
/// # Errors
/// Where the text is no JSON; [`super::parse`] has read it before.
pub fn lint<D: AsRef<[u8]>>(file: &File, bytes: &[u8], upgrade: &Upgrade<'_, D>) -> Result<Vec<Finding>, serde_json::Error> {
    let value: Value = serde_json::from_str(&file.text)?;
    let (places, twice) = places(&file.text);
    let mut lint = Lint { upgrade, places, findings: Vec::new() };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        lint.find("", &[Effect::LibraryRefuses], "the file begins with a UTF-8 byte order mark".into(), FIX);
    }
    for (path, offset) in twice {
        let reason = format!("`{path}` stands twice: the last counts");
        lint.find_at(path, offset, &[Effect::NavigatorDrops, Effect::LibraryDrops], reason, "keep one of them");
    }
    match &value {
        Value::Array(layers) => {
            let cure = "write each layer to a file of its own where Python reads them";
            lint.find("", &[Effect::LibraryRefuses], "the file is an array of layers".into(), cure);
            layers.iter().enumerate().for_each(|(i, layer)| lint.layer(layer, &format!("[{i}]")));
        }
        other => lint.layer(other, ""),
    }
    let mut findings = lint.findings;
    findings.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
    let mut lines = Lines::new(&file.text);
    let placed = findings.into_iter().map(|(offset, mut finding)| {
        (finding.line, finding.column) = lines.line_column(offset);
        finding
    });
    Ok(placed.collect())
}

/// Mends what can be mended: brings the layer to the release that `upgrade` leads to, with its redirects, tactics and
/// duplicates, and makes it [`Layer::portable`]. Gives what became of each entry, and a line for every other change.
pub fn fix<D: AsRef<[u8]>>(layer: &Layer, upgrade: &Upgrade<'_, D>) -> (Layer, Report, Vec<String>) {
    let (moved, report) = upgrade.layer(layer, Pick::Max);
    let (out, mut changes) = moved.portable();
    changes.extend(report.notes.iter().cloned());
    (out, report, changes)
}

const FIX: &str = "`ttpmap layer lint --fix`";
const UPGRADE: &str = "`ttpmap layer upgrade`";

struct Lint<'u, 'a, D> {
    upgrade: &'u Upgrade<'a, D>,
    places: BTreeMap<String, usize>,
    findings: Vec<(usize, Finding)>,
}

impl<D: AsRef<[u8]>> Lint<'_, '_, D> {
    /// A finding at a path, or, where nothing stands there, at what should hold it.
    fn find(&mut self, path: &str, effects: &[Effect], reason: String, cure: &str) {
        let mut at = path;
        let offset = loop {
            match self.places.get(at) {
                Some(offset) => break *offset,
                None if at.is_empty() => break 0,
                None => at = at.rfind(['.', '[']).map_or("", |end| &at[..end]),
            }
        };
        self.find_at(path.to_owned(), offset, effects, reason, cure);
    }

    fn find_at(&mut self, path: String, offset: usize, effects: &[Effect], reason: String, cure: &str) {
        // Line and column are counted for all of them at the end, in one pass.
        self.findings.push((offset, Finding { path, line: 1, column: 1, effects: effects.to_vec(), reason, cure: cure.to_owned() }));
    }

    /// Finds unknown fields, nulls and values of another type. Gives the fields that are as they should be.
    fn fields<'v>(&mut self, map: &'v Map<String, Value>, path: &str, known: &[(&str, Type)]) -> BTreeMap<&'v str, &'v Value> {
        let mut good = BTreeMap::new();
        for (key, value) in map {
            let at = join(path, key);
            let Some((_, kind)) = known.iter().find(|(name, _)| name == key) else {
                // The library passes unknown fields of a layout over, and refuses all others.
                let effect = if path.ends_with("layout") { Effect::LibraryDrops } else { Effect::LibraryRefuses };
                self.find(&at, &[effect], format!("no field `{}` is known here", clip(key)), FIX);
                continue;
            };
            if value.is_null() {
                self.find(&at, &[Effect::LibraryRefuses], format!("`{key}` is null"), "leave the field out (`ttpmap layer lint --fix`)");
            } else if kind.fits(value) {
                good.insert(key.as_str(), value);
            } else {
                let reason = format!("`{key}` is {}, not {}", what(value), kind.name());
                self.find(&at, &[Effect::NavigatorDrops, Effect::LibraryRefuses], reason, FIX);
            }
        }
        good
    }

    fn layer(&mut self, value: &Value, path: &str) {
        let Some(map) = value.as_object() else { return };
        // Version 3 had one field for the versions; it is told of below.
        let known: Map<String, Value> = map.iter().filter(|(key, _)| *key != "version").map(|(k, v)| (k.clone(), v.clone())).collect();
        let fields = self.fields(&known, path, &LAYER_FIELDS);
        if !map.contains_key("name") {
            self.find(&join(path, "name"), &[Effect::NavigatorRefuses, Effect::LibraryRefuses], "the layer has no name".into(), FIX);
        }
        self.domain(&fields, map, path);
        self.versions(&fields, map, path);
        if let Some(sorting) = fields.get("sorting").filter(|s| s.as_u64().is_none_or(|s| s > 3)) {
            let reason = format!("`sorting` is {sorting}; it is 0, 1, 2 or 3");
            self.find(&join(path, "sorting"), &[Effect::NavigatorDrops, Effect::LibraryRefuses], reason, FIX);
        }
        self.filters(&fields, path);
        self.layout(&fields, path);
        self.gradient(&fields, path);
        for (i, item) in fields.get("legendItems").and_then(|v| v.as_array()).into_iter().flatten().enumerate() {
            let at = format!("{}[{i}]", join(path, "legendItems"));
            let good = ["label", "color"].iter().all(|key| item.get(key).is_some_and(Value::is_string));
            if !good {
                let reason = "an item of the legend is a label and a colour, both strings".into();
                self.find(&at, &[Effect::NavigatorDrops, Effect::LibraryDrops], reason, "write {\"label\": ..., \"color\": ...}");
            }
        }
        self.metadata(&fields, path);
        self.links(&fields, path, true);
        let mut seen = BTreeMap::new();
        for (i, entry) in fields.get("techniques").and_then(|v| v.as_array()).into_iter().flatten().enumerate() {
            let at = format!("{}[{i}]", join(path, "techniques"));
            match entry.as_object() {
                Some(entry) => self.entry(entry, &at, i, &mut seen),
                None => {
                    let reason = format!("an element of `techniques` is {}, not an object", what(entry));
                    self.find(&at, &[Effect::NavigatorDrops, Effect::LibraryRefuses], reason, FIX);
                }
            }
        }
    }

    fn domain(&mut self, fields: &BTreeMap<&str, &Value>, map: &Map<String, Value>, path: &str) {
        let at = join(path, "domain");
        let Some(domain) = fields.get("domain").and_then(|d| d.as_str()) else {
            if !map.contains_key("domain") {
                let effects = [Effect::NavigatorRefuses, Effect::LibraryRefuses];
                self.find(&at, &effects, "the layer has no domain".into(), "add \"domain\": \"enterprise-attack\"");
            }
            return;
        };
        match super::domain_of(domain) {
            None => {
                let reason = format!("`{}` is no domain: enterprise-attack, mobile-attack, ics-attack", clip(domain));
                self.find(&at, &[Effect::NavigatorRefuses, Effect::LibraryRefuses], reason, "write the layer's domain");
            }
            Some(known) if known.attack_name() != domain => {
                let reason = format!("`{}` is a form of old layers; today it is {}", clip(domain), known.attack_name());
                let effects: &[Effect] = if domain.starts_with("mitre-") {
                    &[Effect::NavigatorRefuses]
                } else {
                    &[Effect::NavigatorRefuses, Effect::LibraryRefuses]
                };
                self.find(&at, effects, reason, FIX);
            }
            Some(_) => {}
        }
    }

    fn versions(&mut self, fields: &BTreeMap<&str, &Value>, map: &Map<String, Value>, path: &str) {
        let release = self.upgrade.index().version();
        let at = join(path, "versions");
        let Some(versions) = fields.get("versions").and_then(|v| v.as_object()) else {
            if map.contains_key("version") {
                let at = join(path, "version");
                self.find(
                    &at,
                    &[Effect::NavigatorRefuses, Effect::LibraryAlters],
                    "a layer of format 3: `version` is now `versions`".into(),
                    UPGRADE,
                );
            } else if !map.contains_key("versions") {
                let reason = "the layer does not say which release of ATT&CK it is of".into();
                self.find(&at, &[Effect::NavigatorRefuses], reason, UPGRADE);
            }
            return;
        };
        let text = |key: &str| versions.get(key).and_then(Value::as_str);
        for key in ["attack", "navigator", "layer"] {
            if versions.get(key).is_some_and(|v| !v.is_string()) {
                let reason = format!("`{key}` is {}, not a string", what(&versions[key]));
                self.find(&join(&at, key), &[Effect::LibraryRefuses], reason, FIX);
            }
        }
        if !["layer", "navigator"].iter().all(|key| versions.contains_key(*key)) {
            self.find(&at, &[Effect::LibraryDrops], "`versions` lacks `layer` or `navigator`".into(), FIX);
        }
        if text("navigator").is_some_and(|v| !v.starts_with("5.")) {
            self.find(
                &join(&at, "navigator"),
                &[Effect::LibraryAlters],
                "the Navigator is at 5.x; other versions are rewritten".into(),
                FIX,
            );
        }
        match text("layer") {
            Some(v) if FORMATS_RAISED.contains(&v) => {
                let mut effects = vec![Effect::LibraryAlters];
                if !v.starts_with("4.") {
                    effects.insert(0, Effect::NavigatorRefuses);
                }
                self.find(&join(&at, "layer"), &effects, format!("a layer of format {v}: today it is {}", super::LAYER_VERSION), FIX);
            }
            Some(v) if major(v) != major(super::LAYER_VERSION) => {
                let reason = format!("no layer format `{}` is known", clip(v));
                self.find(&join(&at, "layer"), &[Effect::NavigatorRefuses], reason, FIX);
            }
            _ => {}
        }
        let target = major(release);
        let stated = text("attack").map(|v| v.trim().trim_start_matches(['v', 'V']));
        let cure = format!("`ttpmap layer upgrade --to {release}`");
        match (stated, stated.map(major).filter(|v| is_number(v)).map(|v| v.parse::<u32>().unwrap_or(u32::MAX))) {
            (None, _) if versions.get("attack").is_none_or(Value::is_null) => {
                self.find(
                    &join(&at, "attack"),
                    &[Effect::NavigatorRefuses],
                    "the layer does not say which release of ATT&CK it is of".into(),
                    &cure,
                );
            }
            (Some(stated), None) => {
                let reason = format!("`{}` is no release of ATT&CK", clip(stated));
                self.find(&join(&at, "attack"), &[Effect::NavigatorRefuses], reason, &cure);
            }
            (Some(stated), Some(number)) if target.parse::<u32>().is_ok_and(|t| number < t) => {
                let reason =
                    format!("the layer is of ATT&CK {}: a Navigator of {target} starts its upgrade without the annotations", clip(stated));
                self.find(&join(&at, "attack"), &[Effect::NavigatorHides], reason, &cure);
            }
            _ => {}
        }
    }

    fn filters(&mut self, fields: &BTreeMap<&str, &Value>, path: &str) {
        let Some(filters) = fields.get("filters").and_then(|v| v.as_object()) else { return };
        let at = join(path, "filters");
        for key in filters.keys().filter(|key| *key != "platforms") {
            self.find(&join(&at, key), &[Effect::LibraryDrops], format!("no field `{}` is known here", clip(key)), UPGRADE);
        }
        let at = join(&at, "platforms");
        let Some(platforms) = filters.get("platforms").and_then(Value::as_array) else {
            return self.find(&at, &[Effect::LibraryDrops], "`filters` has no array of platforms".into(), FIX);
        };
        if platforms.is_empty() {
            self.find(&at, &[Effect::LibraryRefuses], "`platforms` is empty".into(), "leave `filters` out (`ttpmap layer lint --fix`)");
        }
        let index = self.upgrade.index();
        let known = self.upgrade.known_platforms();
        for (i, platform) in platforms.iter().enumerate() {
            let one = format!("{at}[{i}]");
            match platform.as_str() {
                None => self.find(&one, &[Effect::NavigatorDrops], format!("a platform is {}, not a string", what(platform)), FIX),
                Some(name) if !known.contains(name) => {
                    let reason = format!(
                        "ATT&CK {} has no platform `{}`: techniques of platforms not listed are hidden",
                        index.version(),
                        clip(name)
                    );
                    self.find(&one, &[Effect::NavigatorHides], reason, UPGRADE);
                }
                Some(_) => {}
            }
        }
    }

    fn layout(&mut self, fields: &BTreeMap<&str, &Value>, path: &str) {
        let Some(layout) = fields.get("layout").and_then(|v| v.as_object()) else { return };
        let at = join(path, "layout");
        let good = self.fields(layout, &at, &LAYOUT_FIELDS);
        for (key, known) in [
            ("layout", &["side", "flat", "mini"][..]),
            ("aggregateFunction", &["average", "min", "max", "sum"]),
            ("expandedSubtechniques", &["none", "all", "annotated"]),
        ] {
            if let Some(text) = good.get(key).and_then(|v| v.as_str()).filter(|text| !known.contains(text)) {
                let reason = format!("`{key}` is `{}`, not {}", clip(text), known.join(", "));
                self.find(&join(&at, key), &[Effect::NavigatorDrops, Effect::LibraryRefuses], reason, FIX);
            }
        }
    }

    fn gradient(&mut self, fields: &BTreeMap<&str, &Value>, path: &str) {
        let Some(gradient) = fields.get("gradient").and_then(|v| v.as_object()) else { return };
        let at = join(path, "gradient");
        let lacking: Vec<&str> = ["colors", "minValue", "maxValue"].into_iter().filter(|key| !gradient.contains_key(*key)).collect();
        if !lacking.is_empty() {
            let reason = format!("the gradient lacks {}", lacking.join(", "));
            return self.find(&at, &[Effect::NavigatorDrops, Effect::LibraryDrops], reason, FIX);
        }
        for key in ["minValue", "maxValue"] {
            if !Type::Whole.fits(&gradient[key]) {
                let reason = format!("`{key}` is {}, not a whole number", what(&gradient[key]));
                self.find(&join(&at, key), &[Effect::LibraryRefuses], reason, FIX);
            }
        }
        let at_colors = join(&at, "colors");
        let colors: Vec<&str> = gradient["colors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if colors.len() < 2 {
            self.find(&at_colors, &[Effect::NavigatorDrops, Effect::LibraryRefuses], "a gradient has two colours or more".into(), FIX);
        }
        for (i, color) in colors.iter().enumerate().filter(|(_, c)| !is_color(c)) {
            let reason = format!("`{}` is no colour such as #ffcc00", clip(color));
            self.find(&format!("{at_colors}[{i}]"), &[Effect::NavigatorDrops, Effect::LibraryRefuses], reason, FIX);
        }
        let bounds = (gradient["minValue"].as_f64(), gradient["maxValue"].as_f64());
        if let (Some(min), Some(max)) = bounds
            && colors.len() >= 2
        {
            if min > max {
                let reason = format!("the gradient runs from {min} down to {max}");
                self.find(&at, &[Effect::LibraryRefuses], reason, FIX);
            } else if max - min < (colors.len() - 1) as f64 {
                let reason = format!("the gradient from {min} to {max} has no room for {} colours on whole scores", colors.len());
                self.find(&at, &[Effect::LibraryRefuses], reason, FIX);
            }
        }
    }

    fn metadata(&mut self, fields: &BTreeMap<&str, &Value>, path: &str) {
        for (i, meta) in fields.get("metadata").and_then(|v| v.as_array()).into_iter().flatten().enumerate() {
            let at = format!("{}[{i}]", join(path, "metadata"));
            let (name, value) = (meta.get("name"), meta.get("value"));
            if meta.get("divider").is_some() {
                self.find(&at, &[Effect::LibraryDrops], "a divider between metadata".into(), FIX);
            } else if name.is_none() || value.is_none() {
                let effects = [Effect::NavigatorDrops, Effect::LibraryDrops];
                self.find(&at, &effects, "metadata is a name and a value".into(), FIX);
            } else if value.is_some_and(Value::is_boolean) {
                self.find(&join(&at, "value"), &[Effect::NavigatorDrops, Effect::LibraryAlters], "the value is no string".into(), FIX);
            } else if !name.is_some_and(Value::is_string) || !value.is_some_and(Value::is_string) {
                self.find(&at, &[Effect::NavigatorDrops, Effect::LibraryRefuses], "name and value are strings".into(), FIX);
            }
        }
    }

    fn links(&mut self, fields: &BTreeMap<&str, &Value>, path: &str, of_layer: bool) {
        let list = fields.get("links").and_then(|v| v.as_array());
        if of_layer && list.is_some_and(|l| !l.is_empty()) {
            self.find(&join(path, "links"), &[Effect::LibraryDrops], "links of the layer".into(), FIX);
        }
        for (i, link) in list.into_iter().flatten().enumerate() {
            let is_link = ["label", "url"].iter().all(|key| link.get(key).is_some_and(Value::is_string));
            if !is_link && link.get("divider") != Some(&Value::Bool(true)) {
                let at = format!("{}[{i}]", join(path, "links"));
                self.find(&at, &[Effect::NavigatorDrops, Effect::LibraryRefuses], "a link is a label and a url, both strings".into(), FIX);
            }
        }
    }

    fn entry(&mut self, map: &Map<String, Value>, path: &str, place: usize, seen: &mut BTreeMap<(AttackId, Option<String>), usize>) {
        let fields = self.fields(map, path, &ENTRY_FIELDS);
        let text = |key: &str| fields.get(key).and_then(|v| v.as_str());
        if let Some(score) = fields.get("score").and_then(|s| s.as_f64()).filter(|s| s.fract() != 0.0) {
            let reason = format!("the score {score} becomes {}", score.trunc());
            self.find(&join(path, "score"), &[Effect::LibraryAlters], reason, FIX);
        }
        if let Some(color) = text("color").filter(|c| !c.is_empty() && !is_color(c)) {
            let reason = format!("`{}` is no colour such as #ffcc00", clip(color));
            self.find(&join(path, "color"), &[Effect::NavigatorDrops], reason, FIX);
        }
        self.metadata(&fields, path);
        self.links(&fields, path, false);
        let at = join(path, "techniqueID");
        let Some(written) = text("techniqueID") else {
            if !map.contains_key("techniqueID") {
                let effects = [Effect::NavigatorDrops, Effect::LibraryDrops];
                self.find(&at, &effects, "the entry names no technique".into(), FIX);
            }
            return;
        };
        let entry = Entry { technique_id: written.to_owned(), ..Entry::default() };
        let Some(id) = entry.id() else {
            let reason = format!("`{}` is no technique ID", clip(written));
            let effects: &[Effect] =
                if written.starts_with('T') { &[Effect::NavigatorHides] } else { &[Effect::NavigatorHides, Effect::LibraryRefuses] };
            return self.find(&at, effects, reason, FIX);
        };
        if id.to_string() != written {
            let reason = format!("`{}` is written {id}", clip(written));
            let effects: &[Effect] =
                if written.starts_with('T') { &[Effect::NavigatorHides] } else { &[Effect::NavigatorHides, Effect::LibraryRefuses] };
            self.find(&at, effects, reason, FIX);
        }
        // What stands twice in the file, whatever became of it since.
        let key = (id, text("tactic").map(crate::lookup::fold));
        if let Some(before) = seen.insert(key, place) {
            let list = path.rfind('[').map_or(path, |end| &path[..end]);
            let reason = format!("{path} is for the same technique and tactic, and the last one shows");
            self.find(&format!("{list}[{before}]"), &[Effect::NavigatorHides], reason, "join them (`ttpmap layer lint --fix`)");
        }
        let current = match self.upgrade.id(id) {
            Err(reason) => return self.find(&at, &[Effect::NavigatorHides], reason, "take it out, or choose another technique"),
            Ok((current, why)) => {
                if current != id {
                    self.find(&at, &[Effect::NavigatorHides], format!("{id} is {why}"), UPGRADE);
                }
                current
            }
        };
        if let Some(name) = text("tactic") {
            let at = join(path, "tactic");
            match self.upgrade.place(current, name) {
                Err(reason) => self.find(&at, &[Effect::NavigatorHides], reason, "name a tactic that the technique is in, or none for all"),
                Ok((tactics, why)) => {
                    let short: Vec<&str> = tactics.iter().map(|t| self.upgrade.short_name(*t)).collect();
                    if !why.is_empty() {
                        self.find(&at, &[Effect::NavigatorHides], why, UPGRADE);
                    } else if !short.contains(&name) {
                        let reason = format!("`{}` is written {}", clip(name), short.join(", "));
                        self.find(&at, &[Effect::NavigatorHides], reason, FIX);
                    }
                }
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn what(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the string `{}`", clip(s)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
