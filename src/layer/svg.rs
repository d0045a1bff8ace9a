//! A layer as a picture (SVG 1.1): the matrix, with legend. No script, no style sheet, no font of its own; every text is
//! broken so that it fits its cell in any of the common sans-serif fonts.

use std::fmt::Write;

use super::matrix::{Cell, Column, Matrix, Rgb, Show, color_of, gradient, matrix, rgb, wants_black};
use super::merge::shown;
use super::{Entry, Layer};
use crate::index::Index;
use crate::text::shown::printable;

/// In pixels.
const COLUMN: f64 = 156.0;
const GAP: f64 = 8.0;
const MARGIN: f64 = 20.0;
const INDENT: f64 = 12.0;
const PAD: f64 = 6.0;
const NAME_SIZE: f64 = 10.5;
const SMALL_SIZE: f64 = 8.5;
const LINE: f64 = 12.5;
/// Lines that a name may take.
const NAME_LINES: usize = 4;
const FONTS: &str = "Arial, Helvetica, 'Liberation Sans', 'DejaVu Sans', sans-serif";
const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";

/// The layer as an SVG document.
pub fn svg<D: AsRef<[u8]>>(layer: &Layer, index: &Index<D>, show: Show) -> String {
    let matrix = matrix(layer, index, show);
    let count = matrix.columns.len().max(1) as f64;
    let width = (count * (COLUMN + GAP) - GAP).max(3.0 * COLUMN) + 2.0 * MARGIN;
    let mut body = String::new();
    let mut y = head(&mut body, layer, index, &matrix, width);
    y = legend(&mut body, layer, y, width);
    let top = y + 10.0;
    let mut bottom = top;
    for (i, column) in matrix.columns.iter().enumerate() {
        let x = MARGIN + i as f64 * (COLUMN + GAP);
        bottom = bottom.max(draw_column(&mut body, column, show, x, top));
    }
    if matrix.columns.is_empty() {
        text(&mut body, MARGIN, top + 14.0, NAME_SIZE, FAINT, "", "The layer annotates no technique of this release.");
        bottom = top + 20.0;
    }
    if let Some(missing) = matrix.missing() {
        let line = format!("Not in ATT&CK {} as annotated: {missing}", index.version());
        for line in broken(&line, width - 2.0 * MARGIN, SMALL_SIZE, 6) {
            bottom += LINE + 2.0;
            text(&mut body, MARGIN, bottom, SMALL_SIZE, FAINT, "", &line);
        }
    }
    let height = bottom + MARGIN;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONTS}\" role=\"img\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n",
        escaped(&printable(&layer.name))
    )
}

fn head<D: AsRef<[u8]>>(out: &mut String, layer: &Layer, index: &Index<D>, matrix: &Matrix, width: f64) -> f64 {
    let room = width - 2.0 * MARGIN;
    let mut y = MARGIN + 14.0;
    for line in broken(&printable(&layer.name), room, 19.5, 2) {
        text(out, MARGIN, y, 18.0, INK, " font-weight=\"bold\"", &line);
        y += 22.0;
    }
    let mut ids: Vec<_> = matrix.columns.iter().flat_map(|c| &c.cells).filter(|c| c.annotated).map(|c| c.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let line = format!("{} techniques, ATT&CK {} {}", ids.len(), index.domain(), index.version());
    text(out, MARGIN, y - 3.0, 11.0, FAINT, "", &line);
    if let Some(description) = layer.description.as_deref().map(printable).filter(|d| !d.trim().is_empty()) {
        for line in broken(&description, room, 11.0, 2) {
            y += 15.0;
            text(out, MARGIN, y - 3.0, 11.0, FAINT, "", &line);
        }
    }
    y + 6.0
}

/// The gradient and what colours mean, in as many rows as it takes. Gives where it ends.
fn legend(out: &mut String, layer: &Layer, y: f64, width: f64) -> f64 {
    let (mut x, mut row) = (MARGIN, y);
    let scored = layer.techniques.iter().any(|t| t.score.is_some() && t.is_enabled());
    let mut drawn = false;
    if scored {
        let gradient = gradient(layer);
        let low = shown(gradient.min);
        text(out, x, row + 11.0, 10.0, INK, "", &low);
        x += estimate(&low, 10.0) + 6.0;
        // Steps instead of a gradient element: every renderer draws rectangles.
        for step in 0..24 {
            let score = gradient.min + (gradient.max - gradient.min) * f64::from(step) / 23.0;
            let fill = color_of(&gradient, score).map_or_else(|| "#ffffff".into(), hex);
            let _ =
                writeln!(out, "<rect x=\"{:.1}\" y=\"{row:.1}\" width=\"5.7\" height=\"14\" fill=\"{fill}\"/>", x + f64::from(step) * 5.0);
        }
        x += 124.0;
        let high = shown(gradient.max);
        text(out, x + 2.0, row + 11.0, 10.0, INK, "", &high);
        x += estimate(&high, 10.0) + 24.0;
        drawn = true;
    }
    for item in &layer.legend {
        let label = broken(&printable(&item.label), 400.0, 10.0, 1).into_iter().next().unwrap_or_default();
        let needed = 20.0 + estimate(&label, 10.0) + 20.0;
        if x > MARGIN && x + needed > width - MARGIN {
            (x, row) = (MARGIN, row + 20.0);
        }
        let fill = rgb(&item.color).map_or_else(|| "#ffffff".into(), hex);
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{row:.1}\" width=\"14\" height=\"14\" rx=\"2\" fill=\"{fill}\" stroke=\"#9aa5b1\" stroke-width=\"0.5\"/>"
        );
        text(out, x + 20.0, row + 11.0, 10.0, INK, "", &label);
        x += needed;
        drawn = true;
    }
    if drawn { row + 20.0 } else { y }
}

/// Gives where the column ends.
fn draw_column(out: &mut String, column: &Column, show: Show, x: f64, top: f64) -> f64 {
    let annotated = column.cells.iter().filter(|c| c.annotated).count();
    let counted = match show {
        Show::Annotated => format!("{annotated} annotated"),
        Show::All => format!("{annotated} of {}", column.cells.len()),
    };
    // Bold letters are wider by about a twelfth.
    let names = broken(&column.name, COLUMN - 2.0 * PAD, 13.0, 2);
    let _ = writeln!(out, "<g><title>{} {}</title>", column.id, escaped(&column.name));
    let _ = writeln!(out, "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{COLUMN:.1}\" height=\"46\" rx=\"3\" fill=\"#323f4b\"/>");
    let mut y = top + if names.len() > 1 { 15.0 } else { 19.0 };
    for line in &names {
        text(out, x + PAD, y, 12.0, "#ffffff", " font-weight=\"bold\"", line);
        y += 13.5;
    }
    text(out, x + PAD, top + 41.0, SMALL_SIZE, "#cbd2d9", "", &counted);
    out.push_str("</g>\n");
    let mut y = top + 46.0 + 4.0;
    for cell in &column.cells {
        y += draw_cell(out, cell, x, y) + 3.0;
    }
    y
}

/// Gives the height of the cell.
fn draw_cell(out: &mut String, cell: &Cell, x: f64, y: f64) -> f64 {
    let indent = if cell.id.is_subtechnique() { INDENT } else { 0.0 };
    let width = COLUMN - indent;
    let lines = broken(&cell.name, width - 2.0 * PAD, NAME_SIZE, NAME_LINES);
    let height = 15.0 + LINE * lines.len() as f64 + 3.0;
    let fill = match (cell.color, cell.enabled) {
        (Some(color), _) => hex(color),
        (None, true) => "#ffffff".to_owned(),
        (None, false) => "#eef0f2".to_owned(),
    };
    let ink = match cell.color {
        Some(color) if !wants_black(color) => "#ffffff",
        Some(_) => "#000000",
        None if cell.annotated => INK,
        None => FAINT,
    };
    let mut about = format!("{} {}", cell.id, cell.name);
    if let Some(score) = cell.score {
        let _ = write!(about, "\nscore {}", shown(score));
    }
    if !cell.comment.is_empty() {
        let _ = write!(about, "\n{}", cell.comment);
    }
    let _ = writeln!(out, "<g><title>{}</title>", escaped(&about));
    let x = x + indent;
    let stroke = if cell.annotated { "#7b8794" } else { "#cbd2d9" };
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"0.75\"/>"
    );
    text(out, x + PAD, y + 11.5, SMALL_SIZE, ink, "", &cell.id.to_string());
    if let Some(score) = cell.score {
        text(out, x + width - PAD, y + 11.5, SMALL_SIZE, ink, " text-anchor=\"end\" font-weight=\"bold\"", &shown(score));
    }
    for (i, line) in lines.iter().enumerate() {
        text(out, x + PAD, y + 23.5 + LINE * i as f64, NAME_SIZE, ink, "", line);
    }
    out.push_str("</g>\n");
    height
}

fn text(out: &mut String, x: f64, y: f64, size: f64, fill: &str, more: &str, content: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\"{more}>{}</text>", escaped(content));
}

fn hex(color: Rgb) -> String {
    format!("#{:02x}{:02x}{:02x}", color[0], color[1], color[2])
}

/// Text as XML takes it: marked-up characters escaped, those that XML 1.0 forbids left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {}
            c => out.push(c),
        }
    }
    out
}

/// How wide a text gets at most, in pixels: the widths of the widest of the common fonts (DejaVu Sans), rounded up by
/// class. In the others text is narrower, so that it fits as well.
fn estimate(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | 'J' | '\'' | '|' => 0.30,
        ' ' | '.' | ',' | ':' | ';' | '/' | '-' | 'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '!' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 1.0,
        'A'..='Z' | '&' => 0.79,
        c if c.is_ascii() => 0.65,
        _ => 1.05,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// A text in lines that fit into a width, at most so many; what is left over is cut, with a sign.
fn broken(text: &str, width: f64, size: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        loop {
            let joined = if line.is_empty() { word.clone() } else { format!("{line} {word}") };
            if estimate(&joined, size) <= width {
                line = joined;
                break;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
                continue;
            }
            // A word that is longer than a line is broken where it must be.
            let fits = (1..=word.chars().count())
                .take_while(|n| estimate(&word.chars().take(*n).collect::<String>(), size) <= width)
                .count()
                .max(1);
            lines.push(word.chars().take(fits).collect());
            word = word.chars().skip(fits).collect();
            if word.is_empty() {
                break;
            }
        }
        if lines.len() > most {
            break;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while !last.is_empty() && estimate(last, size) + 1.05 * size > width {
                last.pop();
            }
            *last = last.trim_end().to_owned() + "…";
        }
    }
    lines
}

/// Whether a layer has anything to draw.
pub fn is_empty(layer: &Layer) -> bool {
    !layer.techniques.iter().any(Entry::is_annotated)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lines_fit_and_lose_nothing(text in "[a-zA-Z ]{0,60}|[W ]{0,40}", width in 60.0..300.0_f64) {
            let lines = broken(&text, width, 10.0, 100);
            proptest::prop_assert!(lines.iter().all(|l| estimate(l, 10.0) <= width), "{:?}", lines);
            let letters = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            proptest::prop_assert_eq!(letters(&lines.concat()), letters(&text));
            proptest::prop_assert!(broken(&text, width, 10.0, 2).iter().all(|l| estimate(l, 10.0) <= width));
        }
    }
}
