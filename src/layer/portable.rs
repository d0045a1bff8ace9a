//! What both the Navigator and mitreattack-python 6.3 take whole.

use serde_json::Value;

use super::{Entry, LAYER_VERSION, Layer, Layout, Link, Metadata, NAVIGATOR_VERSION, is_number};

/// Fields of a technique that mitreattack-python knows beside those of [`Entry`].
const KNOWN_OF_ENTRY: [&str; 1] = ["aggregateScore"];
/// What mitreattack-python takes for an absent value, whatever field it stands in.
const UNSET: &str = "(x)";

impl Layer {
    /// The layer as both readers take it whole, and a line for everything that had to be changed for it: unknown
    /// fields go, fractions are rounded (scores from 0 to 1 become percents), lines between metadata go, links of the
    /// layer and entries that are no techniques become metadata, colours lose their transparency. What ATT&CK says of
    /// IDs and tactics is [`super::upgrade`]'s.
    pub fn portable(&self) -> (Layer, Vec<String>) {
        let mut out = self.clone();
        let mut changes = Vec::new();
        if out.name.trim().is_empty() {
            out.name = "layer".into();
            changes.push("name: `layer` stands for the missing one".into());
        }
        if let Some(domain) = out.attack_domain() {
            out.domain = domain.attack_name().into();
        }
        out.versions.attack = self.attack_major().map(str::to_owned);
        if !out.versions.navigator.as_deref().is_some_and(|v| v.starts_with("5.")) {
            out.versions.navigator = Some(NAVIGATOR_VERSION.into());
        }
        out.versions.layer = Some(LAYER_VERSION.into());
        for key in out.other.keys() {
            changes.push(format!("{key}: left out, the readers don't know it or not this value"));
        }
        out.other.clear();
        out.description = out.description.filter(|d| !d.is_empty() && d != UNSET);
        out.platforms = out.platforms.filter(|p| !p.is_empty());
        out.sorting = out.sorting.filter(|s| *s != 0);
        out.tactic_row_background = out.tactic_row_background.filter(|c| !c.is_empty() && c != UNSET);
        out.layout = out.layout.map(|layout| portable_layout(layout, &mut changes));
        for value in std::mem::take(&mut out.unreadable) {
            changes.push("techniques: an element that is no object became metadata".into());
            out.metadata.push(Metadata::pair("entry that is no technique", value.to_string()));
        }
        for link in std::mem::take(&mut out.links) {
            if let Link::To { label, url } = link {
                changes.push(format!("links: `{label}` became metadata"));
                out.metadata.push(Metadata::Pair { name: label, value: url });
            }
        }
        scores(&mut out, &mut changes);
        let mut techniques = Vec::with_capacity(out.techniques.len());
        for entry in std::mem::take(&mut out.techniques) {
            match entry.id() {
                Some(id) => techniques.push(portable_entry(Entry { technique_id: id.to_string(), ..entry }, &mut changes)),
                None => {
                    changes.push(format!("techniques: the entry `{}`, which is no technique, became metadata", entry.technique_id));
                    out.metadata.push(Metadata::pair("entry that is no technique", entry.to_value().to_string()));
                }
            }
        }
        out.techniques = techniques;
        out.metadata = portable_metadata(out.metadata, &mut changes, "metadata");
        out.legend.iter_mut().for_each(|item| item.color = opaque(&item.color));
        (out, changes)
    }
}

fn portable_layout(layout: Layout, changes: &mut Vec<String>) -> Layout {
    let one_of = |value: Option<String>, known: &[&str]| value.map(|v| v.to_lowercase()).filter(|v| known.contains(&v.as_str()));
    for key in layout.other.keys() {
        changes.push(format!("layout.{key}: left out"));
    }
    let kind = one_of(layout.layout, &["side", "flat", "mini"]);
    Layout {
        layout: kind,
        aggregate_function: one_of(layout.aggregate_function, &["average", "min", "max", "sum"]).or(Some("average".into())),
        expanded_subtechniques: one_of(layout.expanded_subtechniques, &["none", "all", "annotated"]),
        other: serde_json::Map::new(),
        ..layout
    }
}

/// Whole scores, and a gradient that has room for them and for its colours.
fn scores(layer: &mut Layer, changes: &mut Vec<String>) {
    let all = || layer.techniques.iter().filter_map(|t| t.score);
    let fractions = all().any(|s| s.fract() != 0.0);
    let unit = all().all(|s| (0.0..=1.0).contains(&s)) && layer.gradient.as_ref().is_none_or(|g| g.min >= 0.0 && g.max <= 1.0);
    let narrow = layer.gradient.as_ref().is_some_and(|g| g.min.fract() != 0.0 || g.max.fract() != 0.0 || g.max - g.min < 2.0);
    // Shares stay tellable apart as percents.
    let scale = if unit && (fractions || narrow && all().next().is_some()) { 100.0 } else { 1.0 };
    if scale > 1.0 {
        changes.push("score: from 0 to 1, became percents".into());
    } else if fractions {
        changes.push("score: fractions were rounded".into());
    }
    for score in layer.techniques.iter_mut().filter_map(|t| t.score.as_mut()) {
        *score = (*score * scale).round();
    }
    let Some(gradient) = &mut layer.gradient else { return };
    let before = gradient.clone();
    let (min, max) = ((gradient.min * scale).floor(), (gradient.max * scale).ceil());
    (gradient.min, gradient.max) = (min.min(max), min.max(max));
    gradient.colors = gradient.colors.iter().map(|c| opaque(c)).filter(|c| c.starts_with('#')).collect();
    if gradient.colors.len() < 2 {
        gradient.colors = super::make::GRADIENT.map(str::to_owned).to_vec();
    }
    // mitreattack-python lays a colour on every whole score: each pair of colours wants two.
    let needed = 2.0 * (gradient.colors.len() - 1) as f64;
    if gradient.max - gradient.min < needed {
        gradient.max = gradient.min + needed;
    }
    if scale == 1.0 && (before.min, before.max) != (gradient.min, gradient.max) {
        changes.push("gradient: its bounds became whole numbers, the lower first, with room for the colours".into());
    }
}

fn portable_entry(mut entry: Entry, changes: &mut Vec<String>) -> Entry {
    let keep = |value: Option<String>| value.filter(|v| v != UNSET);
    entry.tactic = keep(entry.tactic);
    entry.comment = keep(entry.comment);
    let at = entry.technique_id.clone();
    entry.color = keep(entry.color).filter(|c| {
        let is = c.is_empty() || is_color(c);
        if !is {
            changes.push(format!("{at}.color: left out, it is no colour"));
        }
        is
    });
    entry.color = entry.color.map(|c| opaque(&c));
    entry.other.retain(|key, value| {
        let known = KNOWN_OF_ENTRY.contains(&key.as_str()) && value.is_i64();
        if !known {
            changes.push(format!("{at}.{key}: left out, the readers don't know it or not this value"));
        }
        known
    });
    entry.metadata = portable_metadata(entry.metadata, changes, &at);
    entry.links.retain(|l| {
        let known = !matches!(l, Link::Other(_));
        if !known {
            changes.push(format!("{at}.links: one without label and url was left out"));
        }
        known
    });
    entry
}

fn portable_metadata(metadata: Vec<Metadata>, changes: &mut Vec<String>, at: &str) -> Vec<Metadata> {
    let mut out = Vec::with_capacity(metadata.len());
    for one in metadata {
        match one {
            Metadata::Pair { .. } => out.push(one),
            Metadata::Divider => changes.push(format!("{at}: a divider was left out")),
            Metadata::Other(value) => {
                let text = |v: Option<&Value>| v.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                match (text(value.get("name")), text(value.get("value"))) {
                    (Some(name), Some(value)) => {
                        changes.push(format!("{at}: metadata `{name}` became text"));
                        out.push(Metadata::Pair { name, value });
                    }
                    _ => {
                        changes.push(format!("{at}: metadata without name and value was put under `other`"));
                        out.push(Metadata::pair("other", value.to_string()));
                    }
                }
            }
        }
    }
    out
}

/// Whether a text is a colour that readers know: hex digits, or a name, which is for them to know.
pub(crate) fn is_color(color: &str) -> bool {
    let is_hex = opaque(color).strip_prefix('#').is_some_and(|h| h.len() == 6 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    is_hex || color.len() >= 3 && color.bytes().all(|b| b.is_ascii_alphabetic())
}

/// `#rrggbb` of `#rgb`, `#rrggbbaa` or either without its mark; anything else as it is.
pub(crate) fn opaque(color: &str) -> String {
    let text = color.trim();
    let hex = text.strip_prefix('#').unwrap_or(text);
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) || is_number(hex) && !text.starts_with('#') && hex.len() < 6 {
        return color.to_owned();
    }
    match hex.len() {
        3 | 4 => format!("#{}", hex.chars().take(3).flat_map(|c| [c, c]).collect::<String>()),
        6 | 8 => format!("#{}", &hex[..6]),
        _ => color.to_owned(),
    }
}
