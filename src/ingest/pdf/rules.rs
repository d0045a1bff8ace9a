//! Lines drawn on a page: the grids of tables, and dots that are the bullets of lists.

use super::{PageText, Run, TableText};

/// Lines of one page; a page with more is a drawing, and its lines are not looked at.
const MAX_RULES: usize = 3_000;
/// Shorter ones belong to drawings and underlines.
const MIN_LENGTH: f64 = 6.0;
/// Lines so near to each other are the two edges of one, or of neighbouring cells.
const NEAR: f64 = 4.0;
/// A line of a grid runs along this part of it at least.
const MIN_COVER: f64 = 0.3;
/// A grid whose cells have more text than this on average frames a page and is no table.
const MAX_CELL: usize = 500;

/// A drawn line along an axis, or the extent of a dot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Where it stands on the other axis.
    at: f64,
    from: f64,
    to: f64,
}

/// What is drawn on a page, in its coordinates.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    upright: Vec<Rule>,
    level: Vec<Rule>,
    /// Small filled shapes: left, right, bottom.
    dots: Vec<(f64, f64, f64)>,
    /// The path that is being built, subpath by subpath.
    path: Vec<Vec<(f64, f64)>>,
}

impl Drawn {
    pub(super) fn move_to(&mut self, point: (f64, f64)) {
        if self.path.len() < MAX_RULES {
            self.path.push(vec![point]);
        }
    }

    pub(super) fn line_to(&mut self, point: (f64, f64)) {
        if let Some(subpath) = self.path.last_mut().filter(|s| s.len() < MAX_RULES) {
            subpath.push(point);
        }
    }

    /// Back to where the subpath began.
    pub(super) fn close(&mut self) {
        if let Some(first) = self.path.last().and_then(|s| s.first()).copied() {
            self.line_to(first);
        }
    }

    /// Ends the path, shown or not.
    pub(super) fn paint(&mut self, shown: bool, filled: bool) {
        let path = std::mem::take(&mut self.path);
        if !shown {
            return;
        }
        for subpath in path {
            if filled {
                self.dot(&subpath);
            }
            for pair in subpath.windows(2) {
                self.segment(pair[0], pair[1]);
            }
        }
    }

    fn dot(&mut self, points: &[(f64, f64)]) {
        let extent = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let ((x0, x1), (y0, y1)) = (extent(|p| p.0), extent(|p| p.1));
        let (width, height) = (x1 - x0, y1 - y0);
        if (1.5..8.0).contains(&width) && (width - height).abs() < 0.25 * width && self.dots.len() < MAX_RULES {
            self.dots.push((x0, x1, y1));
        }
    }

    fn segment(&mut self, a: (f64, f64), b: (f64, f64)) {
        let (width, height) = ((a.0 - b.0).abs(), (a.1 - b.1).abs());
        let (rules, at, from, to) = match () {
            () if width < 0.5 && height >= MIN_LENGTH => (&mut self.upright, a.0, a.1, b.1),
            () if height < 0.5 && width >= MIN_LENGTH => (&mut self.level, a.1, a.0, b.0),
            () => return,
        };
        // One more than is looked at says that there are too many.
        if rules.len() <= MAX_RULES {
            rules.push(Rule { at, from: from.min(to), to: from.max(to) });
        }
    }
}

/// Takes the text of tables out of a page and puts the tables in its place; dots before text become bullets.
pub(super) fn apply(drawn: Drawn, page: &mut PageText) {
    for (x0, x1, bottom) in drawn.dots {
        // A bullet's middle stands at half the height of small letters.
        let beside = page.runs.iter().find(|r| {
            let gap = r.x0 - x1;
            (0.0..2.5 * r.size).contains(&gap) && (0.0..0.55 * r.size).contains(&(r.y - bottom)) && x1 - x0 < 0.7 * r.size
        });
        if let Some(run) = beside
            && !run.text.starts_with('•')
        {
            let bullet = Run { x0, x1, text: "•".to_owned(), ..run.clone() };
            page.runs.push(bullet);
        }
    }
    if drawn.upright.len() > MAX_RULES || drawn.level.len() > MAX_RULES {
        return;
    }
    for grid in grids(merged(drawn.upright), merged(drawn.level)) {
        grid.fill(page);
    }
}

/// Lines that lie on each other made one.
fn merged(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.from.total_cmp(&b.from)));
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let near =
            out.iter_mut().rev().take_while(|r| rule.at - r.at < NEAR).find(|r| rule.from <= r.to + NEAR && r.from <= rule.to + NEAR);
        match near {
            Some(there) => (there.from, there.to) = (there.from.min(rule.from), there.to.max(rule.to)),
            None => out.push(rule),
        }
    }
    out
}

struct Grid {
    columns: Vec<f64>,
    rows: Vec<f64>,
}

/// Lines that meet each other, as grids of two columns and two rows at least.
fn grids(upright: Vec<Rule>, level: Vec<Rule>) -> Vec<Grid> {
    let n = upright.len();
    let mut group: Vec<usize> = (0..n + level.len()).collect();
    fn root(group: &mut [usize], mut at: usize) -> usize {
        while group[at] != at {
            group[at] = group[group[at]];
            at = group[at];
        }
        at
    }
    for (i, v) in upright.iter().enumerate() {
        for (j, h) in level.iter().enumerate() {
            let meets = |rule: &Rule, at: f64| (rule.from - NEAR..=rule.to + NEAR).contains(&at);
            if meets(v, h.at) && meets(h, v.at) {
                let (a, b) = (root(&mut group, i), root(&mut group, n + j));
                group[b.max(a)] = a.min(b);
            }
        }
    }
    let mut roots: Vec<usize> = (0..group.len()).map(|i| root(&mut group, i)).collect();
    let of = |rules: &[Rule], roots: &[usize], which: usize| -> Vec<Rule> {
        rules.iter().zip(roots).filter(|(_, r)| **r == which).map(|(rule, _)| *rule).collect()
    };
    let level_roots = roots.split_off(n);
    let mut all: Vec<usize> = roots.clone();
    all.sort_unstable();
    all.dedup();
    let grid = |which: usize| {
        let (v, h) = (of(&upright, &roots, which), of(&level, &level_roots, which));
        let extent = |rules: &[Rule]| rules.iter().fold((f64::MAX, f64::MIN), |(lo, hi), r| (lo.min(r.from), hi.max(r.to)));
        let ((top, bottom), (left, right)) = (extent(&v), extent(&h));
        let grid = Grid { columns: places(&v, bottom - top), rows: places(&h, right - left) };
        (grid.columns.len() >= 3 && grid.rows.len() >= 3).then_some(grid)
    };
    all.into_iter().filter_map(grid).collect()
}

/// Where the lines of a grid stand that run along enough of it.
fn places(rules: &[Rule], extent: f64) -> Vec<f64> {
    let mut out: Vec<(f64, f64)> = Vec::new();
    for rule in rules {
        match out.last_mut() {
            Some((at, cover)) if rule.at - *at < NEAR => *cover += rule.to - rule.from,
            _ => out.push((rule.at, rule.to - rule.from)),
        }
    }
    out.into_iter().filter(|(_, cover)| *cover >= MIN_COVER * extent).map(|(at, _)| at).collect()
}

impl Grid {
    fn fill(&self, page: &mut PageText) {
        let (top, bottom) = (self.rows[0], self.rows[self.rows.len() - 1]);
        let (left, right) = (self.columns[0], self.columns[self.columns.len() - 1]);
        let inside = |r: &Run| {
            let (x, y) = ((r.x0 + r.x1) / 2.0, r.y - 0.3 * r.size);
            x > left && x < right && y > top && y < bottom && r.table.is_none()
        };
        let letters: usize = page.runs.iter().filter(|r| inside(r)).map(|r| r.text.len()).sum();
        let cells = (self.rows.len() - 1) * (self.columns.len() - 1);
        if letters == 0 || letters > MAX_CELL * cells {
            return;
        }
        let mut table: Vec<Vec<Vec<Run>>> = vec![vec![Vec::new(); self.columns.len() - 1]; self.rows.len() - 1];
        let mut kept = Vec::with_capacity(page.runs.len());
        for run in page.runs.drain(..) {
            if inside(&run) {
                let row = self.rows.partition_point(|y| *y < run.y - 0.3 * run.size) - 1;
                let column = self.columns.partition_point(|x| *x < (run.x0 + run.x1) / 2.0) - 1;
                table[row][column].push(run);
            } else {
                kept.push(run);
            }
        }
        page.runs = kept;
        let size = 10.0;
        page.runs.push(Run {
            x0: left,
            x1: right,
            y: top + size,
            size,
            bold: false,
            mono: false,
            text: String::new(),
            table: Some(TableText { cells: table }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(x: f64, y: f64, text: &str) -> Run {
        Run { x0: x, x1: x + 40.0, y, size: 10.0, bold: false, mono: false, text: text.to_owned(), table: None }
    }

    #[test]
    fn boxes_beside_each_other_are_a_grid() {
        let mut drawn = Drawn::default();
        for row in 0..3 {
            for column in 0..2 {
                let (x, y) = (100.0 + 80.0 * f64::from(column), 100.0 + 30.0 * f64::from(row));
                drawn.move_to((x, y));
                for corner in [(x + 78.0, y), (x + 78.0, y + 28.0), (x, y + 28.0)] {
                    drawn.line_to(corner);
                }
                drawn.close();
                drawn.paint(true, false);
            }
        }
        let mut page = PageText {
            height: 800.0,
            runs: vec![run(110.0, 115.0, "a"), run(190.0, 115.0, "b"), run(190.0, 175.0, "c"), run(110.0, 300.0, "text")],
        };
        apply(drawn, &mut page);
        assert_eq!(page.runs.len(), 2);
        let cells = &page.runs[1].table.as_ref().unwrap().cells;
        assert_eq!((cells.len(), cells[0].len()), (3, 2));
        assert_eq!((cells[0][1][0].text.as_str(), cells[2][1][0].text.as_str()), ("b", "c"));
    }

    #[test]
    fn dots_before_text_are_bullets() {
        let mut drawn = Drawn::default();
        drawn.move_to((90.0, 110.0));
        for corner in [(94.0, 110.0), (94.0, 114.0), (90.0, 114.0)] {
            drawn.line_to(corner);
        }
        drawn.paint(true, true);
        let mut page = PageText { height: 800.0, runs: vec![run(100.0, 116.0, "item")] };
        apply(drawn, &mut page);
        assert_eq!(page.runs[1].text, "•");
    }
}
