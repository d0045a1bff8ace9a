//! Layers out of foreign bytes: UTF-8 or UTF-16, one or an array, versions 3.0 to 4.5, well-formed or nearly.

use serde_json::{Map, Value};

use super::{Entry, Gradient, Layer, Layout, LegendItem, Link, Metadata, Versions};
use crate::ingest;
use crate::text::MAX_TEXT_BYTES;

/// Layers that a file may hold.
pub const MAX_LAYERS: usize = 10_000;

/// Why bytes are no layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They are no text.
    #[error("not a layer")]
    NotText(#[source] ingest::Error),
    /// They are no JSON; the source says where.
    #[error("not a layer: not JSON")]
    NotJson(#[source] serde_json::Error),
    /// They are other JSON.
    #[error("not a layer: {0}; a layer is an object with `name`, `domain` and `techniques`")]
    Shape(String),
}

/// The layers of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// In the file's order.
    pub layers: Vec<Layer>,
    /// Whether they stand in an array.
    pub array: bool,
    /// The file's text, as it was read.
    pub text: String,
}

/// Reads the layers of a file. Up to 64 MiB; UTF-8, with a byte order mark or not, or UTF-16. A field of a type that
/// it can't have is kept in [`Layer::other`] and means nothing; null is as an absent field.
///
/// # Errors
/// Where the bytes are no JSON, or no object and no array of objects, or have nothing of a layer.
pub fn parse(bytes: &[u8]) -> Result<File, Error> {
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Error::NotText(ingest::Error::TooLarge));
    }
    let text = decode(bytes)?;
    let value: Value = serde_json::from_str(&text).map_err(Error::NotJson)?;
    let (values, array) = match value {
        Value::Array(values) => (values, true),
        other => (vec![other], false),
    };
    if values.is_empty() || values.len() > MAX_LAYERS {
        return Err(Error::Shape(format!("an array of {}, from 1 to {MAX_LAYERS} are read", values.len())));
    }
    let mut layers = Vec::with_capacity(values.len());
    for (place, value) in values.into_iter().enumerate() {
        let at = || if array { format!("element {place} is ") } else { "it is ".to_owned() };
        let Value::Object(map) = value else { return Err(Error::Shape(at() + "no object")) };
        if !["techniques", "domain", "versions", "version"].iter().any(|key| map.contains_key(*key)) {
            return Err(Error::Shape(at() + "an object with nothing of one"));
        }
        layers.push(layer(map));
    }
    Ok(File { layers, array, text })
}

/// UTF-16 without a byte order mark is told by its zero bytes: a layer begins with ASCII, whatever its comments are in.
fn decode(bytes: &[u8]) -> Result<String, Error> {
    let marked = match bytes {
        [0, first, ..] if *first != 0 => Some([&[0xfe, 0xff], bytes].concat()),
        [first, 0, ..] if *first != 0 => Some([&[0xff, 0xfe], bytes].concat()),
        _ => None,
    };
    ingest::decode(marked.unwrap_or_else(|| bytes.to_vec())).map_err(Error::NotText)
}

/// Takes a value out of a map where `read` accepts it; leaves it otherwise. Null is taken for nothing.
fn take<T>(map: &mut Map<String, Value>, key: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
    let value = map.get(key)?;
    if value.is_null() {
        map.remove(key);
        return None;
    }
    let read = read(value);
    if read.is_some() {
        map.remove(key);
    }
    read
}

fn string(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    take(map, key, |v| v.as_str().map(str::to_owned))
}

fn boolean(map: &mut Map<String, Value>, key: &str) -> Option<bool> {
    take(map, key, Value::as_bool)
}

/// A number, or a string that is one, as spreadsheets make them.
fn numeric(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str().and_then(|s| s.trim().parse().ok()));
    number.filter(|n| n.is_finite())
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
}

/// A string, or a number: some write `"attack": 15`.
fn version(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    take(map, key, |v| match v {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    })
}

fn layer(mut map: Map<String, Value>) -> Layer {
    let m = &mut map;
    let mut out = Layer {
        name: take(m, "name", |v| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned)).unwrap_or_default(),
        domain: take(m, "domain", |v| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned)).unwrap_or_default(),
        description: string(m, "description"),
        sorting: take(m, "sorting", |v| v.as_u64().filter(|n| *n <= 3).map(|n| n as u8)),
        hide_disabled: boolean(m, "hideDisabled"),
        show_tactic_row_background: boolean(m, "showTacticRowBackground"),
        tactic_row_background: string(m, "tacticRowBackground"),
        select_techniques_across_tactics: boolean(m, "selectTechniquesAcrossTactics"),
        select_subtechniques_with_parent: boolean(m, "selectSubtechniquesWithParent"),
        select_visible_techniques: boolean(m, "selectVisibleTechniques"),
        ..Layer::default()
    };
    if let Some(Value::Object(versions)) = m.get_mut("versions") {
        out.versions =
            Versions { attack: version(versions, "attack"), navigator: version(versions, "navigator"), layer: version(versions, "layer") };
        drop_empty(m, "versions");
    }
    // Version 3 has one field for it.
    if out.versions.layer.is_none() {
        out.versions.layer = version(m, "version");
    }
    if let Some(Value::Object(filters)) = m.get_mut("filters") {
        out.platforms = take(filters, "platforms", strings);
        drop_empty(m, "filters");
    }
    if let Some(Value::Object(mut fields)) = take(m, "layout", |v| v.is_object().then(|| v.clone())) {
        out.layout = Some(Layout {
            layout: string(&mut fields, "layout"),
            show_id: boolean(&mut fields, "showID"),
            show_name: boolean(&mut fields, "showName"),
            show_aggregate_scores: boolean(&mut fields, "showAggregateScores"),
            count_unscored: boolean(&mut fields, "countUnscored"),
            aggregate_function: string(&mut fields, "aggregateFunction"),
            expanded_subtechniques: string(&mut fields, "expandedSubtechniques"),
            other: fields,
        });
    }
    if let Some(Value::Array(techniques)) = take(m, "techniques", |v| v.is_array().then(|| v.clone())) {
        for value in techniques {
            match value {
                Value::Object(map) => out.techniques.push(entry(map)),
                other => out.unreadable.push(other),
            }
        }
    }
    out.gradient = take(m, "gradient", |v| {
        let fields = v.as_object().filter(|f| f.len() == 3)?;
        let bound = |key: &str| fields.get(key).and_then(numeric);
        Some(Gradient { colors: strings(fields.get("colors")?)?, min: bound("minValue")?, max: bound("maxValue")? })
    });
    out.legend = take(m, "legendItems", |v| v.as_array()?.iter().map(legend_item).collect::<Option<Vec<_>>>()).unwrap_or_default();
    out.metadata = metadata(m);
    out.links = links(m);
    out.other = map;
    out
}

fn drop_empty(map: &mut Map<String, Value>, key: &str) {
    if map.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
        map.remove(key);
    }
}

fn entry(mut map: Map<String, Value>) -> Entry {
    let m = &mut map;
    Entry {
        technique_id: take(m, "techniqueID", |v| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned)).unwrap_or_default(),
        tactic: take(m, "tactic", |v| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned)),
        score: take(m, "score", numeric),
        color: string(m, "color"),
        comment: string(m, "comment"),
        enabled: boolean(m, "enabled"),
        metadata: metadata(m),
        links: links(m),
        show_subtechniques: boolean(m, "showSubtechniques"),
        other: map,
    }
}

fn legend_item(value: &Value) -> Option<LegendItem> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    value.as_object().filter(|o| o.len() == 2)?;
    Some(LegendItem { label: text("label")?, color: text("color")? })
}

fn pair(value: &Value, keys: [&str; 2]) -> Option<(String, String)> {
    let object = value.as_object().filter(|o| o.len() == 2)?;
    Some((object.get(keys[0])?.as_str()?.to_owned(), object.get(keys[1])?.as_str()?.to_owned()))
}

fn is_divider(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.len() == 1 && o.get("divider") == Some(&Value::Bool(true)))
}

fn metadata(map: &mut Map<String, Value>) -> Vec<Metadata> {
    let one = |v: &Value| match pair(v, ["name", "value"]) {
        Some((name, value)) => Metadata::Pair { name, value },
        None if is_divider(v) => Metadata::Divider,
        None => Metadata::Other(v.clone()),
    };
    take(map, "metadata", |v| Some(v.as_array()?.iter().map(one).collect())).unwrap_or_default()
}

fn links(map: &mut Map<String, Value>) -> Vec<Link> {
    let one = |v: &Value| match pair(v, ["label", "url"]) {
        Some((label, url)) => Link::To { label, url },
        None if is_divider(v) => Link::Divider,
        None => Link::Other(v.clone()),
    };
    take(map, "links", |v| Some(v.as_array()?.iter().map(one).collect())).unwrap_or_default()
}
