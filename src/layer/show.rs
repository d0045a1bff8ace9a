//! A layer in a terminal: the matrix, as many tactics side by side as there is room for.

use std::fmt::Write;

use anstyle::{Ansi256Color, Color, RgbColor, Style};
use unicode_width::UnicodeWidthStr;

use super::matrix::{Cell, Column, Matrix, Rgb, color_of, gradient, matrix, rgb, wants_black};
use super::merge::shown;
use super::{Layer, matrix::Show};
use crate::index::Index;
use crate::text::shown::{fit, printable};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
/// A column is not narrower, in columns of the terminal.
const NARROWEST: usize = 25;
/// Nor wider.
const WIDEST: usize = 40;

/// How a layer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Columns of the terminal; at least 30 are used.
    pub width: usize,
    /// Whether the terminal has colours beyond the 256.
    pub true_color: bool,
    /// Which techniques.
    pub show: Show,
}

/// The layer as text with ANSI styles.
pub fn show<D: AsRef<[u8]>>(layer: &Layer, index: &Index<D>, options: Options) -> String {
    let width = options.width.max(30);
    let matrix = matrix(layer, index, options.show);
    let mut out = String::new();
    head(&mut out, layer, index, &matrix, width);
    let together = ((width + 1) / (NARROWEST + 1)).clamp(1, matrix.columns.len().max(1));
    // Bands of about one size rather than a last one of a single column.
    let bands = matrix.columns.len().div_ceil(together).max(1);
    let together = matrix.columns.len().div_ceil(bands).max(1);
    let column = ((width + 1) / together - 1).min(WIDEST);
    for band in matrix.columns.chunks(together) {
        out.push('\n');
        self::band(&mut out, band, column, options.true_color);
    }
    legend(&mut out, layer, options.true_color, width);
    if let Some(places) = matrix.missing() {
        let text = format!(
            "Not in ATT&CK {} as annotated, so not shown: {} (`ttpmap layer lint` tells why, `ttpmap layer upgrade` moves what can move)",
            index.version(),
            places
        );
        let _ = writeln!(out);
        wrapped(&mut out, &text, width);
    }
    out
}

fn head<D: AsRef<[u8]>>(out: &mut String, layer: &Layer, index: &Index<D>, matrix: &Matrix, width: usize) {
    let mut ids: Vec<_> = matrix.columns.iter().flat_map(|c| &c.cells).filter(|c| c.annotated).map(|c| c.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let count = format!("{} technique{}, ATT&CK {} {}", ids.len(), if ids.len() == 1 { "" } else { "s" }, index.domain(), index.version());
    let name = printable(&layer.name);
    if UnicodeWidthStr::width(&*name) + 2 + count.len() <= width {
        let _ = writeln!(out, "{BOLD}{name}{BOLD:#}  {DIM}{count}{DIM:#}");
    } else {
        let _ = writeln!(out, "{BOLD}{}{BOLD:#}\n{DIM}{}{DIM:#}", fit(&name, width), fit(&count, width));
    }
}

fn band(out: &mut String, columns: &[Column], width: usize, true_color: bool) {
    let mut line = |parts: Vec<(Style, String)>| {
        let mut text = String::new();
        let last = parts.len().saturating_sub(1);
        for (i, (style, part)) in parts.into_iter().enumerate() {
            // Only a coloured cell needs its right end.
            let part = if i == last && style.get_bg_color().is_none() { part.trim_end().to_owned() } else { part };
            let gap = if i == last { "" } else { " " };
            let _ = write!(text, "{style}{part}{style:#}{gap}");
        }
        let _ = writeln!(out, "{text}");
    };
    line(columns.iter().map(|c| (BOLD, padded(&c.name, width))).collect());
    let rows = columns.iter().map(|c| c.cells.len()).max().unwrap_or(0);
    for row in 0..rows {
        let last = columns.iter().rposition(|c| c.cells.len() > row).unwrap_or(0);
        let empty = || (Style::new(), " ".repeat(width));
        line(columns[..=last].iter().map(|c| c.cells.get(row).map_or_else(empty, |cell| drawn(cell, width, true_color))).collect());
    }
}

/// A cell of just so many columns: the ID, the name, the score at the right.
fn drawn(cell: &Cell, width: usize, true_color: bool) -> (Style, String) {
    let id = cell.id.to_string();
    let label = match id.split_once('.') {
        Some((_, sub)) => format!("  .{sub} {}", cell.name),
        None => format!("{id} {}", cell.name),
    };
    let score = cell.score.map(|s| fit(&shown(s), 7)).unwrap_or_default();
    let room = if score.is_empty() { width } else { width - score.width() - 1 };
    let text = format!("{}{}{score}", padded(&label, room), if score.is_empty() { "" } else { " " });
    let style = match cell.color {
        Some(color) => on(color, true_color),
        None if cell.annotated => BOLD,
        None => DIM,
    };
    (style, text)
}

fn on(color: Rgb, true_color: bool) -> Style {
    let front = if wants_black(color) { Color::Ansi256(Ansi256Color(16)) } else { Color::Ansi256(Ansi256Color(231)) };
    let back = if true_color { Color::Rgb(RgbColor(color[0], color[1], color[2])) } else { Color::Ansi256(nearest(color)) };
    Style::new().fg_color(Some(front)).bg_color(Some(back))
}

/// The nearest colour of the cube of six levels a part that terminals have (16 to 231), or of its greys (232 to 255).
fn nearest(color: Rgb) -> Ansi256Color {
    const LEVELS: [i32; 6] = [0, 95, 135, 175, 215, 255];
    let level = |c: u8| (0..6).min_by_key(|i| (LEVELS[*i] - i32::from(c)).abs()).unwrap_or(0);
    let distance = |a: [i32; 3]| a.iter().zip(color).map(|(x, y)| (x - i32::from(y)).pow(2)).sum::<i32>();
    let cube = color.map(level);
    let grey = ((color.iter().map(|c| i32::from(*c)).sum::<i32>() / 3 - 8) / 10).clamp(0, 23);
    if distance([8 + 10 * grey; 3]) < distance(cube.map(|l| LEVELS[l])) {
        return Ansi256Color(232 + grey as u8);
    }
    Ansi256Color((16 + 36 * cube[0] + 6 * cube[1] + cube[2]) as u8)
}

fn legend(out: &mut String, layer: &Layer, true_color: bool, width: usize) {
    let swatch = |color: &str| rgb(color).map(|c| on(c, true_color));
    let mut parts: Vec<(String, usize)> = Vec::new();
    let scored = layer.techniques.iter().any(|t| t.score.is_some() && t.is_enabled());
    if scored {
        let gradient = gradient(layer);
        let mut bar = format!("{} ", shown(gradient.min));
        for step in 0..8 {
            let score = gradient.min + (gradient.max - gradient.min) * f64::from(step) / 7.0;
            let style = color_of(&gradient, score).map_or(Style::new(), |c| on(c, true_color));
            let _ = write!(bar, "{style} {style:#}");
        }
        let _ = write!(bar, " {}", shown(gradient.max));
        let columns = shown(gradient.min).len() + shown(gradient.max).len() + 10;
        parts.push((bar, columns));
    }
    for item in &layer.legend {
        let label = fit(&printable(&item.label), width.saturating_sub(5));
        let style = swatch(&item.color).unwrap_or_default();
        let columns = UnicodeWidthStr::width(&*label) + 3;
        parts.push((format!("{style}  {style:#} {label}"), columns));
    }
    if parts.is_empty() {
        return;
    }
    out.push('\n');
    let mut used = 0;
    for (part, columns) in parts {
        if used > 0 && used + 3 + columns > width {
            out.push('\n');
            used = 0;
        }
        let gap = if used > 0 { "   " } else { "" };
        let _ = write!(out, "{gap}{part}");
        used += gap.len() + columns;
    }
    out.push('\n');
}

fn wrapped(out: &mut String, text: &str, width: usize) {
    let mut used = 0;
    for word in text.split(' ') {
        let columns = UnicodeWidthStr::width(word);
        if used > 0 && used + 1 + columns > width {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += columns;
    }
    out.push('\n');
}

fn padded(text: &str, columns: usize) -> String {
    let cut = fit(text, columns);
    let width = UnicodeWidthStr::width(&*cut);
    format!("{cut}{}", " ".repeat(columns.saturating_sub(width)))
}
