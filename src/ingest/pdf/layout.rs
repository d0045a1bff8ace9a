//! From runs of characters on pages to a text in reading order.
//!
//! 1. Rows: runs on one baseline, across the page. Rows that come again at the top or bottom of pages are running headers
//!    and footers, and go; so do page numbers.
//! 2. Columns: a strip without text down a stretch of rows, with prose on both sides, parts them; what lies above and
//!    below it is looked at in the same way.
//! 3. Lines: the rows of a column. Gaps part the cells of a table.
//! 4. Blocks: headings by size or weight, items by their marks, code by its font, rows by aligned cells; all else
//!    becomes paragraphs, lines and hyphenated words joined, over columns and pages too.

use std::collections::{BTreeMap, BTreeSet};

use super::{PageText, Run, TableText};
use crate::ingest::clean::{Writer, push_clean};
use crate::ingest::{Error, Kind};
use crate::text::segment::item_marker;
use crate::text::{Document, Origin, SegmentKind};

/// Rows at the top and at the bottom of a page that may be a running header or footer.
const MARGIN_ROWS: usize = 3;
/// A gap wider than this, in ems, may part cells; in a table half of the lines have one that is wider than the other.
const CELL_GAP: f64 = 0.75;
const WIDE_GAP: f64 = 1.2;
/// Columns beside each other have at least so many rows each.
const MIN_COLUMN_ROWS: usize = 4;
/// Columns within columns.
const MAX_DEPTH: usize = 6;
/// Letters above the text's usual size that make a heading.
const HEADING_SIZE: f64 = 1.12;

/// Runs on one baseline, left to right.
#[derive(Debug, Clone)]
struct Row {
    y: f64,
    runs: Vec<Run>,
}

/// A line of a column.
#[derive(Debug, Clone)]
struct Line {
    page: u32,
    y: f64,
    x0: f64,
    x1: f64,
    /// The edges of the column.
    left: f64,
    right: f64,
    size: f64,
    bold: bool,
    mono: bool,
    cells: Vec<Cell>,
    /// Which column, counted over all pages.
    column: usize,
    /// A table whose lines are drawn, instead of text.
    table: Option<TableText>,
}

#[derive(Debug, Clone)]
struct Cell {
    x0: f64,
    x1: f64,
    text: String,
}

impl Line {
    fn text(&self) -> String {
        self.cells.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

pub(super) fn document(pages: Vec<PageText>, title: Option<String>) -> Result<Document, Error> {
    let mut paged: Vec<(PageText, Vec<Row>)> = pages
        .into_iter()
        .map(|mut page| {
            let rows = rows(std::mem::take(&mut page.runs));
            (page, rows)
        })
        .collect();
    drop_running_rows(&mut paged);
    // Where other pages have columns, a page with little text in one of them has them too.
    let known: Vec<f64> = paged.iter().filter_map(|(_, rows)| gutter(rows, &[])).map(|g| g.x).collect();
    let mut lines = Vec::new();
    let mut column = 0;
    for (number, (_, rows)) in paged.into_iter().enumerate() {
        let runs: Vec<Run> = rows.into_iter().flat_map(|r| r.runs).collect();
        let mut columns = Vec::new();
        split(runs, 0, &known, &mut columns);
        for runs in columns {
            lines_of(runs, number as u32 + 1, column, &mut lines);
            column += 1;
        }
    }
    Blocks::new(&lines).write(&lines, title)
}

/// Runs by baseline. Raised and lowered marks belong to the line that they stand in.
fn rows(mut runs: Vec<Run>) -> Vec<Row> {
    runs.sort_by(|a, b| a.y.total_cmp(&b.y).then(a.x0.total_cmp(&b.x0)));
    let mut out: Vec<Row> = Vec::new();
    let mut tall = 0.0_f64;
    for run in runs {
        match out.last_mut() {
            // Against the largest run of the row, whose baseline it takes.
            Some(row) if (run.y - row.y).abs() < 0.45 * tall.max(run.size).min(4.0 * run.size) => {
                if run.size > tall * 1.05 {
                    row.y = run.y;
                    tall = run.size;
                }
                row.runs.push(run);
            }
            _ => {
                tall = run.size;
                out.push(Row { y: run.y, runs: vec![run] });
            }
        }
    }
    for row in &mut out {
        row.runs.sort_by(|a, b| a.x0.total_cmp(&b.x0));
        // Letters set twice to look bold.
        row.runs.dedup_by(|b, a| a.text == b.text && (a.x0 - b.x0).abs() < 0.2 * a.size);
    }
    out
}

fn row_text(row: &Row) -> String {
    row.runs.iter().map(|r| r.text.trim()).collect::<Vec<_>>().join(" ")
}

/// Takes out running headers and footers: rows at a page's edge whose text, numbers aside, comes again in the same place
/// on other pages; and page numbers, which stand alone or count on.
fn drop_running_rows(pages: &mut [(PageText, Vec<Row>)]) {
    let count = pages.len();
    // Which rows stand at the edge: from the top and from the bottom.
    let edges = |rows: &[Row]| -> Vec<usize> {
        let n = rows.len();
        (0..n.min(MARGIN_ROWS)).chain(n.saturating_sub(MARGIN_ROWS).max(n.min(MARGIN_ROWS))..n).collect()
    };
    let mut seen: BTreeMap<(String, i64), BTreeSet<usize>> = BTreeMap::new();
    for (number, (page, rows)) in pages.iter().enumerate() {
        for at in edges(rows) {
            seen.entry(key(&rows[at], page)).or_default().insert(number);
        }
    }
    let enough = |times: usize| times >= 2 && times * 4 >= count.min(12);
    let running: BTreeSet<(String, i64)> = seen
        .iter()
        .filter(|((text, place), _)| {
            // The same place to some points: neighbours in the grid count too.
            let times: BTreeSet<usize> = (-1..=1).filter_map(|d| seen.get(&(text.clone(), place + d))).flatten().copied().collect();
            enough(times.len())
        })
        .map(|(key, _)| key.clone())
        .collect();
    for (number, (page, rows)) in pages.iter_mut().enumerate() {
        let mut gone = BTreeSet::new();
        let n = rows.len();
        // From the edges inwards: what stands behind the first row that stays is text.
        for side in [true, false] {
            for step in 0..MARGIN_ROWS.min(n) {
                let at = if side { step } else { n - 1 - step };
                let row = &rows[at];
                let at_edge = row.y < page.height * 0.15 || row.y > page.height * 0.85;
                let is_running = running.contains(&key(row, page)) && at_edge;
                if is_running || (at_edge && is_page_number(&row_text(row), number + 1, count)) {
                    gone.insert(at);
                } else if !is_running {
                    break;
                }
            }
        }
        let mut at = 0;
        rows.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
    }
}

/// The text of a row without its numbers, and its place on the page in steps of a hundredth.
fn key(row: &Row, page: &PageText) -> (String, i64) {
    let mut text = String::new();
    for c in row_text(row).chars() {
        match c {
            '0'..='9' => {
                if !text.ends_with('#') {
                    text.push('#');
                }
            }
            c if c.is_whitespace() => {}
            c => text.push(c),
        }
    }
    (text, (row.y / page.height.max(1.0) * 100.0).round() as i64)
}

/// `7`, `- 7 -`, `Page 7`, `Page 7 of 12`, `7/12`, `vii`.
fn is_page_number(text: &str, page: usize, pages: usize) -> bool {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let number = |w: &str| w.parse::<usize>().is_ok_and(|n| n > 0 && n < 10_000);
    let roman = |w: &str| w.len() <= 5 && w.chars().all(|c| "ivxlc".contains(c));
    match words[..] {
        [n] => (n.parse::<usize>().is_ok_and(|n| n == page) || (number(n) && pages > 1) || roman(n)) && text.len() <= 10,
        ["Page" | "page" | "PAGE", n] => number(n) || roman(n),
        ["Page" | "page" | "PAGE", n, "of" | "OF", m] => number(n) && number(m),
        [n, "of", m] | [n, m] => number(n) && m.parse::<usize>().is_ok_and(|m| m == pages && pages > 1),
        _ => false,
    }
}

/// Parts runs into columns in reading order.
fn split(runs: Vec<Run>, depth: usize, known: &[f64], out: &mut Vec<Vec<Run>>) {
    if runs.is_empty() {
        return;
    }
    let rows = rows(runs);
    let found = if depth < MAX_DEPTH { gutter(&rows, known) } else { None };
    let Some(gutter) = found else {
        out.push(rows.into_iter().flat_map(|r| r.runs).collect());
        return;
    };
    let (mut above, mut left, mut right, mut below) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, row) in rows.into_iter().enumerate() {
        for run in row.runs {
            match () {
                () if i < gutter.rows.start => above.push(run),
                () if i >= gutter.rows.end => below.push(run),
                () if (run.x0 + run.x1) / 2.0 < gutter.x => left.push(run),
                () => right.push(run),
            }
        }
    }
    for part in [above, left, right, below] {
        split(part, depth + 1, known, out);
    }
}

struct Gutter {
    x: f64,
    rows: std::ops::Range<usize>,
}

/// What stands on one side of a strip, over some rows.
#[derive(Default, Clone)]
struct Side {
    rows: usize,
    words: usize,
    /// Widths of the rows' text.
    widths: Vec<f64>,
}

impl Side {
    fn add(&mut self, runs: &[&Run]) {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return };
        self.rows += 1;
        self.words += runs.iter().map(|r| r.text.split_whitespace().count() + 8 * usize::from(r.table.is_some())).sum::<usize>();
        self.widths.push(runs.iter().map(|r| r.x1).fold(last.x1, f64::max) - first.x0);
    }

    /// Whether it reads as prose: words enough, and most rows filled to the edge, as no column of a table is.
    fn is_prose(&self) -> bool {
        let widest = self.widths.iter().copied().fold(0.0, f64::max);
        let full = self.widths.iter().filter(|w| **w >= widest * 0.75).count();
        self.rows >= MIN_COLUMN_ROWS && self.words >= self.rows * 3 && full * 2 >= self.rows
    }

    fn width(&self) -> f64 {
        self.widths.iter().copied().fold(0.0, f64::max)
    }
}

/// The strip that parts the most rows.
fn gutter(rows: &[Row], known: &[f64]) -> Option<Gutter> {
    if rows.len() < MIN_COLUMN_ROWS {
        return None;
    }
    let (mut left, mut right) = (f64::MAX, f64::MIN);
    for run in rows.iter().flat_map(|r| &r.runs) {
        (left, right) = (left.min(run.x0), right.max(run.x1));
    }
    let width = right - left;
    let step = (width / 400.0).max(1.5);
    let mut best: Option<(usize, f64, f64, std::ops::Range<usize>)> = None;
    let mut x = left + width * 0.12;
    while x < right - width * 0.12 {
        let is_known = known.iter().any(|k| (k - x).abs() < 8.0);
        for (range, count) in stretches(rows, x, is_known) {
            match &mut best {
                // The middle of the strip: the same rows at the next place.
                Some((most, _, last, there)) if *most == count && *there == range && x - *last < step * 1.5 => *last = x,
                Some((most, ..)) if *most >= count => {}
                _ => best = Some((count, x, x, range)),
            }
        }
        x += step;
    }
    best.map(|(_, first, last, rows)| Gutter { x: (first + last) / 2.0, rows })
}

/// Stretches of rows that no text crosses at a place, with prose on both sides, and how many rows' sides they have.
fn stretches(rows: &[Row], x: f64, is_known: bool) -> Vec<(std::ops::Range<usize>, usize)> {
    let mut out = Vec::new();
    let (mut start, mut sides) = (0, [Side::default(), Side::default()]);
    let end_stretch = |range: std::ops::Range<usize>, sides: &[Side; 2], out: &mut Vec<_>| {
        let [left, right] = sides;
        let alike = left.width() < right.width() * 2.5 && right.width() < left.width() * 2.5;
        let several = left.rows >= 2 && right.rows >= 2;
        if (left.is_prose() && right.is_prose() && alike) || (is_known && several && (left.is_prose() || right.is_prose())) {
            out.push((range, left.rows + right.rows));
        }
    };
    for (i, row) in rows.iter().enumerate() {
        if row.runs.iter().any(|r| r.x0 < x && r.x1 > x) {
            end_stretch(start..i, &sides, &mut out);
            (start, sides) = (i + 1, [Side::default(), Side::default()]);
            continue;
        }
        let (left, right): (Vec<&Run>, Vec<&Run>) = row.runs.iter().partition(|r| r.x1 <= x);
        sides[0].add(&left);
        sides[1].add(&right);
    }
    end_stretch(start..rows.len(), &sides, &mut out);
    out
}

/// The lines of one column.
fn lines_of(runs: Vec<Run>, page: u32, column: usize, out: &mut Vec<Line>) {
    let (mut left, mut right) = (f64::MAX, f64::MIN);
    for run in &runs {
        (left, right) = (left.min(run.x0), right.max(run.x1));
    }
    for mut row in rows(runs) {
        let tables: Vec<Run> = row.runs.extract_if(.., |r| r.table.is_some()).collect();
        for run in tables {
            let line = Line {
                page,
                y: run.y,
                x0: run.x0,
                x1: run.x1,
                left,
                right,
                size: run.size,
                bold: false,
                mono: false,
                cells: Vec::new(),
                column,
                table: run.table,
            };
            out.push(line);
        }
        let letters = |is: &dyn Fn(&Run) -> bool| row.runs.iter().filter(|r| is(r)).map(|r| r.text.trim().chars().count()).sum::<usize>();
        let all = letters(&|_| true);
        if all == 0 {
            continue;
        }
        let size = row.runs.iter().max_by_key(|r| r.text.len()).map_or(0.0, |r| r.size);
        let mut cells: Vec<Cell> = Vec::new();
        for run in &row.runs {
            match cells.last_mut() {
                Some(cell) if run.x0 - cell.x1 < CELL_GAP * size || is_marker(&cell.text) => {
                    // A raised number is a note's mark: it is no part of the word.
                    let raised = run.size < 0.8 * size && run.y < row.y - 0.15 * size && !cell.text.ends_with(' ');
                    let gap = run.x0 - cell.x1 > 0.15 * size || raised;
                    if gap && !cell.text.ends_with(' ') && !run.text.starts_with(' ') {
                        cell.text.push(' ');
                    }
                    cell.text.push_str(&run.text);
                    cell.x1 = cell.x1.max(run.x1);
                }
                _ => cells.push(Cell { x0: run.x0, x1: run.x1, text: run.text.clone() }),
            }
        }
        for cell in &mut cells {
            cell.text = cell.text.trim().to_owned();
        }
        let (x0, x1) = (cells[0].x0, cells.iter().map(|c| c.x1).fold(f64::MIN, f64::max));
        let mostly = |part: usize| part * 10 >= all * 8;
        out.push(Line {
            page,
            y: row.y,
            x0,
            x1,
            left,
            right,
            size,
            bold: mostly(letters(&|r| r.bold)),
            mono: mostly(letters(&|r| r.mono)),
            cells,
            column,
            table: None,
        });
    }
}

/// A list mark by itself.
fn is_marker(text: &str) -> bool {
    let text = text.trim();
    bullet(text).is_some_and(|length| length == text.len()) || item_marker(&format!("{text} ")).is_some_and(|n| n == text.len() + 1)
}

/// Length of a bullet at the beginning, whatever font it is from.
fn bullet(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let is = matches!(
        first,
        '•' | '◦' | '‣' | '▪' | '●' | '○' | '■' | '□' | '⁃' | '∙' | '·' | '➢' | '\u{f0b7}' | '\u{f0a7}' | '\u{f0d8}' | '\u{f076}'
    );
    is.then_some(first.len_utf8())
}

struct Blocks {
    /// The size of most letters.
    body: f64,
    /// Distance of baselines within paragraphs, in sizes.
    leading: f64,
    /// Words of the document that are not cut by a line end, in lower case.
    words: BTreeSet<String>,
    out: Writer,
    /// The line before, in the open block.
    last: Option<Line>,
    kind: SegmentKind,
    /// Where an item's text begins.
    hanging: f64,
}

impl Blocks {
    fn new(lines: &[Line]) -> Blocks {
        let mut sizes: BTreeMap<i64, usize> = BTreeMap::new();
        for line in lines {
            *sizes.entry((line.size * 4.0).round() as i64).or_default() += line.cells.iter().map(|c| c.text.len()).sum::<usize>();
        }
        let body = sizes.iter().max_by_key(|(size, n)| (**n, **size)).map_or(10.0, |(size, _)| *size as f64 / 4.0);
        let mut leadings: Vec<f64> = lines
            .windows(2)
            .filter(|w| w[0].column == w[1].column && (w[0].size - body).abs() < 0.5 && (w[1].size - body).abs() < 0.5)
            .map(|w| (w[1].y - w[0].y) / body)
            .filter(|d| (0.8..2.5).contains(d))
            .collect();
        leadings.sort_by(f64::total_cmp);
        // Lines within paragraphs are the most and the closest.
        let leading = leadings.get(leadings.len() / 3).copied().unwrap_or(1.2);
        let mut words = BTreeSet::new();
        let in_tables = lines.iter().filter_map(|l| l.table.as_ref()).flat_map(|t| t.cells.iter().flatten().flatten()).map(|r| &r.text);
        for text in lines.iter().flat_map(|l| l.cells.iter().map(|c| &c.text)).chain(in_tables) {
            {
                let mut all: Vec<&str> = text.split_whitespace().collect();
                if all.last().is_some_and(|w| w.ends_with(['-', '\u{ad}', '\u{2010}'])) {
                    all.pop();
                }
                words.extend(all.into_iter().map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()));
            }
        }
        Blocks { body, leading, words, out: Writer::new(), last: None, kind: SegmentKind::Sentence, hanging: 0.0 }
    }

    fn write(mut self, lines: &[Line], title: Option<String>) -> Result<Document, Error> {
        let mut at = 0;
        while at < lines.len() {
            if let Some(table) = &lines[at].table {
                self.end();
                self.grid(&lines[at], table);
                at += 1;
                continue;
            }
            let table = table_at(lines, at);
            if table > 1 {
                self.end();
                self.table(&lines[at..at + table]);
                at += table;
                continue;
            }
            self.line(&lines[at], lines.get(at + 1));
            at += 1;
        }
        self.end();
        self.out.finish(title, Kind::Pdf)
    }

    fn end(&mut self) {
        self.out.close();
        self.last = None;
    }

    fn begin(&mut self, kind: SegmentKind, line: &Line) {
        self.out.open(kind);
        self.out.origin(Origin { page: Some(line.page), paragraph: None });
        self.kind = kind;
        self.last = None;
    }

    fn line(&mut self, line: &Line, next: Option<&Line>) {
        let text = line.text();
        let kind = self.kind_of(line, &text, next);
        match kind {
            // A long line of code is wrapped where it reaches the edge, and set in.
            SegmentKind::Code if self.wraps_code(line) => {
                let path = self.out.written().ends_with(['\\', '/']);
                self.out.push(if path { "" } else { " " });
                self.out.push(text.trim_start());
                self.last = self.last.take().map(|last| Line { y: line.y, x1: line.x1, ..last });
                return;
            }
            SegmentKind::Code => {
                self.begin(kind, line);
                self.out.push(&text);
            }
            SegmentKind::Heading => {
                let joins = self.kind == kind
                    && self.last.as_ref().is_some_and(|last| {
                        last.column == line.column
                            && (last.size - line.size).abs() < 0.3
                            && line.y - last.y < 1.6 * line.size
                            && last.bold == line.bold
                    });
                if joins { self.join(line, &text) } else { self.begin_with(kind, line, &text) }
            }
            SegmentKind::Item => {
                self.begin(kind, line);
                let marker = bullet(text.trim_start());
                let rest = marker.map_or(text.as_str(), |n| text.trim_start()[n..].trim_start());
                if marker.is_some() {
                    self.out.push_marker("• ");
                }
                self.out.push(rest);
                // Where the text stands is told by the next line; until then it may stand anywhere right of the mark.
                self.hanging = line.x0;
            }
            SegmentKind::Caption => self.begin_with(kind, line, &text),
            _ if self.continues(line, &text) => self.join(line, &text),
            _ => self.begin_with(SegmentKind::Sentence, line, &text),
        }
        self.last = Some(line.clone());
    }

    fn begin_with(&mut self, kind: SegmentKind, line: &Line, text: &str) {
        self.begin(kind, line);
        self.out.push(text);
    }

    fn kind_of(&self, line: &Line, text: &str, next: Option<&Line>) -> SegmentKind {
        let trimmed = text.trim();
        let marked = bullet(trimmed).is_some_and(|n| trimmed.len() > n && trimmed[n..].starts_with(' ')) || item_marker(trimmed).is_some();
        let short = trimmed.chars().count() < 160;
        if line.size > self.body * HEADING_SIZE && short {
            return SegmentKind::Heading;
        }
        if line.mono && self.body > 0.0 {
            return SegmentKind::Code;
        }
        if is_caption(trimmed) && self.stands_apart(line) {
            return SegmentKind::Caption;
        }
        let bold_alone = line.bold
            && line.size > self.body * 0.9
            && trimmed.chars().count() < 100
            && !trimmed.ends_with(['.', ',', ';'])
            && trimmed.chars().any(char::is_alphabetic)
            && (self.stands_apart(line) || self.kind == SegmentKind::Heading)
            && next.is_none_or(|n| !n.bold || n.column != line.column || n.y - line.y > 1.5 * line.size || n.text().len() < 60);
        // A numbered heading is no item.
        if bold_alone && bullet(trimmed).is_none() {
            return SegmentKind::Heading;
        }
        if marked && (self.stands_apart(line) || self.kind == SegmentKind::Item || self.ended()) {
            return SegmentKind::Item;
        }
        SegmentKind::Sentence
    }

    /// Whether a line is further from the one before than lines of a paragraph are, or the first of its column.
    fn stands_apart(&self, line: &Line) -> bool {
        match &self.last {
            None => true,
            Some(last) => last.column != line.column || line.y - last.y > (self.leading + 0.25) * line.size.max(last.size),
        }
    }

    /// Whether what was written could be the end of a block.
    fn ended(&self) -> bool {
        self.out.written().trim_end().ends_with(['.', '!', '?', ':', ';', '”', '"', ')'])
    }

    fn continues(&self, line: &Line, text: &str) -> bool {
        let Some(last) = &self.last else { return false };
        if matches!(self.kind, SegmentKind::Heading | SegmentKind::Code | SegmentKind::Row) {
            return false;
        }
        if (last.size - line.size).abs() > 0.08 * last.size.max(line.size) && (last.size - line.size).abs() > 0.6 {
            return false;
        }
        let ended = self.ended();
        let lower = text.trim_start().starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit() || c == '(');
        let hyphen = self.out.written().ends_with('-');
        if last.column != line.column || line.y < last.y {
            // The next column or page.
            return self.kind != SegmentKind::Caption && (hyphen || !ended) && (lower || !self.is_short(last));
        }
        if self.stands_apart(line) {
            return false;
        }
        match self.kind {
            // What goes on under an item's text is the item's; what begins at its mark or left of it is not.
            SegmentKind::Item => line.x0 > self.hanging + 0.3 * line.size || (!ended && lower),
            _ => {
                let indented = line.x0 > last.x0 + 0.8 * line.size && line.x0 < line.left + 4.0 * line.size;
                let starts_anew = ended && !lower && (indented || self.is_short(last));
                !starts_anew
            }
        }
    }

    fn wraps_code(&self, line: &Line) -> bool {
        self.kind == SegmentKind::Code
            && self.last.as_ref().is_some_and(|last| {
                last.mono
                    && last.column == line.column
                    && line.x0 > last.x0 + line.size
                    && last.x1 > line.left + 0.7 * (line.right - line.left)
            })
    }

    /// Whether a line ends well before the edge of its column.
    fn is_short(&self, line: &Line) -> bool {
        line.x1 < line.right - 0.15 * (line.right - line.left)
    }

    fn join(&mut self, line: &Line, text: &str) {
        let origin = Origin { page: Some(line.page), paragraph: None };
        let soft = self.last.as_ref().is_some_and(|l| l.text().ends_with('\u{ad}'));
        let next = text.trim_start();
        if soft {
            self.out.origin(origin);
        } else if self.out.written().ends_with('-') && next.starts_with(char::is_lowercase) && self.out.written().len() > 1 {
            if self.drops_hyphen(self.out.written(), next) {
                self.out.take_hyphen();
            }
            self.out.origin(origin);
        } else if self.out.written().ends_with('-') && next.starts_with(char::is_alphanumeric) {
            // T1059-|001: the mark is the word's own, unless the document has the word without it (Blood-|Hound).
            if self.is_whole_word(self.out.written(), next) {
                self.out.take_hyphen();
            }
            self.out.origin(origin);
        } else {
            self.out.push(" ");
            self.out.origin(origin);
        }
        self.out.push(next);
    }

    /// The parts of a word around a hyphen at a line's end, in lower case.
    fn parts(written: &str, next: &str) -> (String, String) {
        let before = written.trim_end_matches('-').rsplit(char::is_whitespace).next().unwrap_or_default();
        let after: String = next.chars().take_while(|c| c.is_alphanumeric()).collect();
        let clean = |text: &str| {
            let mut out = String::new();
            push_clean(text, false, &mut out);
            out.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
        };
        (clean(before), clean(&after))
    }

    /// Whether the document has a word whole elsewhere that a line's end parts here.
    fn is_whole_word(&self, written: &str, next: &str) -> bool {
        let (before, after) = Self::parts(written, next);
        let last = before.rsplit('-').next().unwrap_or(&before);
        self.words.contains(&format!("{before}{after}")) || self.words.contains(&format!("{last}{after}"))
    }

    /// Whether a hyphen at a line's end only parts a word: the document has the word whole, or it doesn't have its
    /// parts as words.
    fn drops_hyphen(&self, written: &str, next: &str) -> bool {
        if self.is_whole_word(written, next) {
            return true;
        }
        let (before, after) = Self::parts(written, next);
        if before.contains('-') || self.words.contains(&format!("{before}-{after}")) {
            return false;
        }
        !(self.words.contains(&before) && self.words.contains(&after) && before.len() > 2 && after.len() > 3)
    }

    /// The next line of a cell.
    fn wrap(&self, cell: &mut String, next: &str) {
        if cell.ends_with('-') && next.starts_with(char::is_alphanumeric) {
            if self.is_whole_word(cell, next) || (next.starts_with(char::is_lowercase) && self.drops_hyphen(cell, next)) {
                cell.pop();
            }
        } else if !cell.is_empty() {
            cell.push(' ');
        }
        cell.push_str(next);
    }

    /// A table whose lines are drawn.
    fn grid(&mut self, line: &Line, table: &TableText) {
        for cells in &table.cells {
            let mut row = vec![String::new(); cells.len()];
            for (text, runs) in row.iter_mut().zip(cells) {
                let mut lines = Vec::new();
                lines_of(runs.clone(), line.page, 0, &mut lines);
                for line in &lines {
                    self.wrap(text, &line.text());
                }
            }
            // A cell that goes over all columns is a row of one.
            if row.iter().filter(|cell| !cell.is_empty()).count() <= 1 {
                row.retain(|cell| !cell.is_empty());
            }
            if !row.is_empty() {
                self.begin(SegmentKind::Row, line);
                self.row(&mut row);
            }
        }
        self.kind = SegmentKind::Row;
    }

    /// Lines of a table as rows: a row for each line whose first column has text, or that stands apart from the one
    /// before where rows do; other lines go on with the cells above them.
    fn table(&mut self, lines: &[Line]) {
        let columns = columns(lines);
        let gaps: Vec<f64> = lines.windows(2).map(|w| w[1].y - w[0].y).collect();
        let tight = (self.leading + 0.2) * lines[0].size;
        let apart = |gap: f64| gap > tight;
        let begins_first = |line: &Line| line.cells.iter().any(|c| place(&columns, c) == 0);
        // Lines close to the one above that begin in the first column: rows, if there are many, and wrapped cells if not.
        let close: Vec<&Line> = lines.iter().skip(1).zip(&gaps).filter(|(_, g)| !apart(**g)).map(|(l, _)| l).collect();
        let full = close.iter().filter(|l| begins_first(l) && l.cells.len() > 1).count();
        let told_by_gaps = gaps.iter().filter(|g| apart(**g)).count() > full;
        let mut row: Vec<String> = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            let begins = i == 0 || apart(gaps[i - 1]) || (!told_by_gaps && begins_first(line));
            if begins {
                self.row(&mut row);
                self.begin(SegmentKind::Row, line);
            }
            row.resize(columns.len().max(row.len()), String::new());
            for cell in &line.cells {
                self.wrap(&mut row[place(&columns, cell)], &cell.text);
            }
        }
        self.row(&mut row);
        self.kind = SegmentKind::Row;
    }

    fn row(&mut self, cells: &mut Vec<String>) {
        if cells.is_empty() {
            return;
        }
        self.out.push(&std::mem::take(cells).join(" | "));
        self.out.close();
    }
}

/// `Figure 3: ...`, `Table 1. ...`.
fn is_caption(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let named = words.next().is_some_and(|w| matches!(w, "Figure" | "Fig." | "Table" | "Listing" | "Exhibit"));
    let number = words.next().unwrap_or_default();
    named
        && number.starts_with(|c: char| c.is_ascii_digit())
        && (number.ends_with([':', '.']) || matches!(words.next(), Some("–" | "—" | "|" | "-")))
}

/// How many lines from a place on are a table: two at least with several cells, aligned, and what is wrapped in them.
fn table_at(lines: &[Line], at: usize) -> usize {
    let first = &lines[at];
    if first.cells.len() < 2 {
        return 0;
    }
    let mut columns: Vec<f64> = first.cells.iter().map(|c| c.x0).collect();
    let mut length = 1;
    let mut with_cells = 1;
    let is_wide = |line: &Line| line.cells.windows(2).any(|w| w[1].x0 - w[0].x1 > WIDE_GAP * line.size);
    let mut wide = usize::from(is_wide(first));
    let tolerance = 0.6 * first.size;
    while let Some(line) = lines.get(at + length) {
        let before = &lines[at + length - 1];
        let gap = line.y - before.y;
        if line.cells.is_empty()
            || line.column != first.column
            || gap <= 0.0
            || gap > 3.2 * line.size
            || (line.size - first.size).abs() > 0.25 * first.size
        {
            break;
        }
        let aligned = line.cells.iter().filter(|c| columns.iter().any(|x| (x - c.x0).abs() < tolerance)).count();
        if line.cells.len() >= 2 {
            if aligned == 0 || (aligned == 1 && line.cells.len() > 2 && columns.len() > 2) {
                break;
            }
            with_cells += 1;
            wide += usize::from(is_wide(line));
            for cell in &line.cells {
                if !columns.iter().any(|x| (x - cell.x0).abs() < tolerance) {
                    columns.push(cell.x0);
                }
            }
        } else {
            // The wrapped text of one cell: in its column, and no wider.
            let cell = &line.cells[0];
            let in_column = columns.iter().position(|x| (x - cell.x0).abs() < tolerance);
            let next = columns.iter().copied().filter(|x| *x > cell.x0 + tolerance).fold(f64::MAX, f64::min);
            let wraps = in_column.is_some() && cell.x1 < next && gap < 1.6 * line.size && (in_column != Some(0) || next < f64::MAX);
            if !wraps {
                break;
            }
        }
        length += 1;
    }
    // One line with a gap, and a paragraph beneath it, is no table.
    if with_cells < 2 || wide * 2 < with_cells { 0 } else { length }
}

/// Where the columns of a table begin.
fn columns(lines: &[Line]) -> Vec<f64> {
    let mut starts: Vec<f64> = lines.iter().flat_map(|l| l.cells.iter().map(|c| c.x0)).collect();
    starts.sort_by(f64::total_cmp);
    let tolerance = 0.6 * lines[0].size;
    starts.dedup_by(|b, a| *b - *a < tolerance);
    // Cells that are centred or set to the right begin anywhere: a start inside of another line's cell is none.
    let crossed = |x: f64| lines.iter().flat_map(|l| &l.cells).filter(|c| c.x0 < x - tolerance && c.x1 > x + tolerance).count();
    let kept: Vec<f64> = starts.iter().copied().filter(|x| crossed(*x) * 4 <= lines.len()).collect();
    if kept.is_empty() { starts } else { kept }
}

/// The column of a cell: the last that begins before it does.
fn place(columns: &[f64], cell: &Cell) -> usize {
    columns.partition_point(|x| *x <= cell.x0 + 3.0).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(x: f64, y: f64, text: &str) -> Run {
        Run {
            x0: x,
            x1: x + text.chars().count() as f64 * 5.0,
            y,
            size: 10.0,
            bold: false,
            mono: false,
            text: text.to_owned(),
            table: None,
        }
    }

    fn page(runs: Vec<Run>) -> PageText {
        PageText { height: 800.0, runs }
    }

    fn read(pages: Vec<PageText>) -> Document {
        document(pages, None).unwrap()
    }

    #[test]
    fn columns_are_read_one_after_the_other() {
        let mut runs = vec![run(50.0, 90.0, "A heading over both of the columns of this page, right across the gutter of it")];
        for i in 0..8 {
            let y = 120.0 + 12.0 * f64::from(i);
            runs.push(run(50.0, y, &format!("left line number {i} goes on to the very edge")));
            runs.push(run(310.0, y, &format!("right line number {i} goes on to the very edge")));
        }
        let text = read(vec![page(runs)]).text().to_owned();
        assert!(text.find("left line number 7").unwrap() < text.find("right line number 0").unwrap(), "{text}");
        assert!(text.starts_with("A heading over"));
    }

    #[test]
    fn cells_are_rows() {
        let runs = vec![
            run(50.0, 100.0, "Host"),
            run(200.0, 100.0, "What was done"),
            run(50.0, 120.0, "fs1"),
            run(200.0, 120.0, "encrypted with a"),
            run(200.0, 132.0, "tool of their own"),
            run(50.0, 152.0, "dc1"),
            run(200.0, 152.0, "ntds.dit copied"),
        ];
        let document = read(vec![page(runs)]);
        assert_eq!(document.text(), "Host | What was done\nfs1 | encrypted with a tool of their own\ndc1 | ntds.dit copied\n");
        assert!(document.segments().iter().all(|s| s.kind == SegmentKind::Row));
    }

    #[test]
    fn running_rows_and_page_numbers_go() {
        let pages = (1..=4)
            .map(|n| {
                page(vec![
                    run(50.0, 30.0, &format!("Orchard report, part {n}")),
                    run(50.0, 400.0, &format!("Text of page {n} ends here.")),
                    run(300.0, 780.0, &n.to_string()),
                ])
            })
            .collect();
        assert_eq!(
            read(pages).text(),
            "Text of page 1 ends here.\n\nText of page 2 ends here.\n\nText of page 3 ends here.\n\nText of page 4 ends here.\n"
        );
    }

    #[test]
    fn words_parted_at_line_ends_are_whole_again_and_pages_known() {
        let long = "This line is long enough to reach the edge of its column infor-";
        let first = page(vec![
            run(50.0, 100.0, "They were after information, and spear-phishing came first to them"),
            run(50.0, 112.0, long),
            run(50.0, 124.0, "mation was sent by a message that was one of many in their spear-"),
            run(50.0, 136.0, "phishing campaign, which ran on over the end of this very page and"),
        ]);
        let second = page(vec![run(50.0, 100.0, "onto the second one.")]);
        let document = read(vec![first, second]);
        let text = document.text();
        assert!(text.contains("column information was sent") && text.contains("their spear-phishing campaign"), "{text}");
        assert!(text.contains("page and onto the second one."), "{text}");
        let at = |part: &str| document.origin(text.find(part).unwrap()).page;
        assert_eq!((at("They were"), at("onto")), (Some(1), Some(2)));
    }

    #[test]
    fn page_numbers_are_told_from_numbers() {
        for (text, expected) in [
            ("7", true),
            ("- 7 -", true),
            ("Page 7 of 12", true),
            ("vii", true),
            ("7 / 12", true),
            ("443", true),
            ("Port 443", false),
            ("12 servers", false),
        ] {
            assert_eq!(is_page_number(text, 7, 12), expected, "{text}");
        }
        assert!(!is_page_number("443", 1, 1));
    }
}
