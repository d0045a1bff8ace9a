//! The drawing instructions of a page, as far as they place text (ISO 32000-1, 9.4).

use std::rc::Rc;
use std::sync::Arc;

use hayro_font::hayro_cmap::BfString;
use hayro_font::{CMapResolverFn, Font, FontCache, FontData, FontGlyph, FontQuery, FontResolverFn};
use hayro_syntax::content::TypedIter;
use hayro_syntax::content::ops::TypedInstruction;
use hayro_syntax::object::{Array, Dict, Name, Number, Object, Stream};
use hayro_syntax::page::{Page, Resources};
use rustc_hash::FxHashMap;

use super::rules::{self, Drawn};
use super::{PageText, Run, guard};
use crate::ingest::Error;

/// Operators of all pages together: some thousand pages of dense text and drawings.
const MAX_OPERATORS: u64 = 20_000_000;
/// What a stream counts beside the operators in it.
const STREAM_STEPS: u64 = 200;
/// Decoded content of all pages together, forms counted each time they are drawn.
const MAX_CONTENT: u64 = 128 << 20;
/// Characters of all pages together.
const MAX_GLYPHS: u64 = 32 << 20;
/// Forms within forms.
const MAX_FORMS: usize = 16;
/// Saved graphics states, and open marked content.
const MAX_STATES: usize = 512;

/// A gap wider than this, in ems, is a space.
const SPACE: f64 = 0.17;
/// A gap wider than this, or a step back, ends a run.
const BREAK: f64 = 1.0;
const STEP_BACK: f64 = -0.5;
/// The same where text was placed anew, as it is in cells side by side.
const BREAK_PLACED: f64 = 0.45;

/// What was done so far.
#[derive(Default)]
pub(super) struct Budget {
    operators: u64,
    content: u64,
    /// Characters shown.
    pub(super) glyphs: u64,
    /// Those of them that no one can name.
    pub(super) unknown: u64,
}

impl Budget {
    fn operator(&mut self) -> Result<(), Error> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(Error::Bound(format!("the PDF's pages take more than {} million drawing steps", MAX_OPERATORS / 1_000_000)));
        }
        Ok(())
    }

    fn decode(&mut self, stream: &Stream<'_>) -> Result<Vec<u8>, Error> {
        let out = guard::decode(stream, MAX_CONTENT - self.content)?;
        // Fetching and unpacking costs as much as some hundred steps, an empty form's too.
        self.content += out.len() as u64;
        self.operators += STREAM_STEPS;
        self.operator()?;
        Ok(out)
    }
}

/// The text of a page, in reading direction.
pub(super) fn page<'a>(page: &'a Page<'a>, fonts: &FontCache<'a>, budget: &mut Budget) -> Result<PageText, Error> {
    let mut contents = Vec::new();
    if let Some(stream) = page.raw().get::<Stream<'_>>(&b"Contents"[..]) {
        contents.extend(budget.decode(&stream)?);
    } else if let Some(streams) = page.raw().get::<Array<'_>>(&b"Contents"[..]) {
        for stream in streams.iter::<Stream<'_>>() {
            contents.extend(budget.decode(&stream)?);
            contents.push(b' ');
        }
    }
    let (width, height) = page.render_dimensions();
    let (width, height) = (f64::from(width), f64::from(height));
    let mut reading = Reading {
        fonts,
        budget,
        state: State { ctm: Matrix(page.initial_transform(true).as_coeffs()), ..State::default() },
        saved: Vec::new(),
        marked: Vec::new(),
        text_matrix: Matrix::IDENTITY,
        line_matrix: Matrix::IDENTITY,
        run: None,
        runs: Default::default(),
        placed: false,
        drawn: Drawn::default(),
    };
    reading.content(&contents, page.resources(), 0)?;
    reading.end_run();
    let (mut runs, drawn) = (reading.runs, reading.drawn);
    // A page in landscape may be drawn sideways: what most of its text does is its reading direction.
    let letters = |runs: &[Run]| runs.iter().map(|r| r.text.len()).sum::<usize>();
    let most = (0..4).max_by_key(|q| (letters(&runs[*q]), 4 - q)).unwrap_or(0);
    let (width, height) = if most % 2 == 1 { (height, width) } else { (width, height) };
    let runs: Vec<Run> = std::mem::take(&mut runs[most]).into_iter().filter(|r| is_on_page(r, width, height)).collect();
    let mut text = PageText { height, runs };
    if most == 0 {
        rules::apply(drawn, &mut text);
    }
    Ok(text)
}

fn is_on_page(run: &Run, width: f64, height: f64) -> bool {
    run.x1 > -1.0 && run.x0 < width + 1.0 && run.y > -1.0 && run.y < height + run.size && run.x0.is_finite() && run.y.is_finite()
}

/// A string of a dictionary: UTF-16 or UTF-8 by its mark, else PDFDocEncoding, read as Latin-1.
pub(super) fn text_string(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, rest @ ..] => {
            let units: Vec<u16> = rest.as_chunks::<2>().0.iter().map(|c| u16::from_be_bytes(*c)).collect();
            String::from_utf16_lossy(&units)
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Matrix([f64; 6]);

impl Matrix {
    const IDENTITY: Matrix = Matrix([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    /// First this, then the other.
    fn then(self, other: Matrix) -> Matrix {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.0, other.0);
        Matrix([a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + l])
    }

    fn translate(x: f64, y: f64) -> Matrix {
        Matrix([1.0, 0.0, 0.0, 1.0, x, y])
    }
}

struct LoadedFont<'a> {
    font: Font<'a>,
    bold: bool,
    mono: bool,
    /// What one of the font's units is in ems: 1 but for Type 3 fonts, whose units are their own.
    em: f64,
    is_type3: bool,
    /// What a character code shows and its width in thousandths of an em.
    codes: std::cell::RefCell<FxHashMap<u32, (Rc<str>, f64)>>,
}

#[derive(Clone)]
struct State<'a> {
    ctm: Matrix,
    font: Option<Rc<LoadedFont<'a>>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    scale: f64,
    leading: f64,
    rise: f64,
}

impl Default for State<'_> {
    fn default() -> Self {
        State { ctm: Matrix::IDENTITY, font: None, size: 0.0, char_space: 0.0, word_space: 0.0, scale: 1.0, leading: 0.0, rise: 0.0 }
    }
}

/// Marked content that is open.
enum Marked {
    /// Nothing that matters here.
    Other,
    /// A header, footer or page number, as the producer says.
    Pagination,
    /// What the characters in it stand for; none once it was written.
    Actual(Option<String>),
}

struct Reading<'a, 'r> {
    fonts: &'r FontCache<'a>,
    budget: &'r mut Budget,
    state: State<'a>,
    saved: Vec<State<'a>>,
    marked: Vec<Marked>,
    text_matrix: Matrix,
    line_matrix: Matrix,
    /// The run being written, and its direction.
    run: Option<(usize, Run)>,
    /// By direction, in quarter turns.
    runs: [Vec<Run>; 4],
    /// Text was placed anew since the last character.
    placed: bool,
    drawn: Drawn,
}

/// Fonts by name, of one resource dictionary.
type Named<'a> = FxHashMap<Vec<u8>, Option<Rc<LoadedFont<'a>>>>;

impl<'a> Reading<'a, '_> {
    fn content(&mut self, contents: &[u8], resources: &Resources<'a>, depth: usize) -> Result<(), Error> {
        let mut named: Named<'a> = FxHashMap::default();
        let saved_before = self.saved.len();
        let marked_before = self.marked.len();
        let mut operations = TypedIter::new(contents);
        while let Some(operation) = operations.next() {
            self.budget.operator()?;
            self.step(&operation, resources, &mut named, depth, saved_before)?;
        }
        // What a form leaves open ends with it.
        if self.saved.len() > saved_before {
            self.saved.truncate(saved_before + 1);
            self.state = self.saved.pop().expect("it has one more");
        }
        self.marked.truncate(marked_before);
        Ok(())
    }

    fn step(
        &mut self,
        operation: &TypedInstruction<'_, '_>,
        resources: &Resources<'a>,
        named: &mut Named<'a>,
        depth: usize,
        saved_before: usize,
    ) -> Result<(), Error> {
        use TypedInstruction as Op;
        let n = Number::as_f64;
        match operation {
            Op::SaveState(_) if self.saved.len() < MAX_STATES + saved_before => self.saved.push(self.state.clone()),
            Op::RestoreState(_) if self.saved.len() > saved_before => self.state = self.saved.pop().expect("it has more"),
            Op::Transform(m) => {
                let matrix = Matrix([n(&m.0), n(&m.1), n(&m.2), n(&m.3), n(&m.4), n(&m.5)]);
                self.state.ctm = matrix.then(self.state.ctm);
            }
            Op::MoveTo(p) => self.drawn.move_to(self.point(n(&p.0), n(&p.1))),
            Op::LineTo(p) => self.drawn.line_to(self.point(n(&p.0), n(&p.1))),
            Op::CubicTo(p) => self.drawn.line_to(self.point(n(&p.4), n(&p.5))),
            Op::CubicStartTo(p) => self.drawn.line_to(self.point(n(&p.2), n(&p.3))),
            Op::CubicEndTo(p) => self.drawn.line_to(self.point(n(&p.2), n(&p.3))),
            Op::ClosePath(_) => self.drawn.close(),
            Op::RectPath(p) => {
                let (x, y, width, height) = (n(&p.0), n(&p.1), n(&p.2), n(&p.3));
                self.drawn.move_to(self.point(x, y));
                for (x, y) in [(x + width, y), (x + width, y + height), (x, y + height)] {
                    self.drawn.line_to(self.point(x, y));
                }
                self.drawn.close();
            }
            Op::StrokePath(_) => self.drawn.paint(true, false),
            Op::CloseAndStrokePath(_) => {
                self.drawn.close();
                self.drawn.paint(true, false);
            }
            Op::FillPathNonZero(_)
            | Op::FillPathNonZeroCompatibility(_)
            | Op::FillPathEvenOdd(_)
            | Op::FillAndStrokeNonZero(_)
            | Op::FillAndStrokeEvenOdd(_)
            | Op::CloseFillAndStrokeNonZero(_)
            | Op::CloseFillAndStrokeEvenOdd(_) => self.drawn.paint(true, true),
            Op::EndPath(_) => self.drawn.paint(false, false),
            Op::XObject(name) => self.form(name.0, resources, depth)?,
            Op::BeginText(_) => {
                self.text_matrix = Matrix::IDENTITY;
                self.line_matrix = Matrix::IDENTITY;
                self.placed = true;
            }
            Op::CharacterSpacing(v) => self.state.char_space = n(&v.0),
            Op::WordSpacing(v) => self.state.word_space = n(&v.0),
            Op::HorizontalScaling(v) => self.state.scale = n(&v.0) / 100.0,
            Op::TextLeading(v) => self.state.leading = n(&v.0),
            Op::TextRise(v) => self.state.rise = n(&v.0),
            Op::TextFont(font) => {
                let key: &[u8] = font.0;
                if !named.contains_key(key) {
                    let loaded = resources.get_font(font.0).and_then(|dict| load(&dict, self.fonts)).map(Rc::new);
                    named.insert(key.to_vec(), loaded);
                }
                self.state.font = named.get(key).cloned().flatten();
                self.state.size = n(&font.1);
            }
            Op::NextLine(v) => self.next_line(n(&v.0), n(&v.1)),
            Op::NextLineAndSetLeading(v) => {
                self.state.leading = -n(&v.1);
                self.next_line(n(&v.0), n(&v.1));
            }
            Op::NextLineUsingLeading(_) => self.next_line(0.0, -self.state.leading),
            Op::SetTextMatrix(m) => {
                self.line_matrix = Matrix([n(&m.0), n(&m.1), n(&m.2), n(&m.3), n(&m.4), n(&m.5)]);
                self.text_matrix = self.line_matrix;
                self.placed = true;
            }
            Op::ShowText(text) => self.show(text.0)?,
            Op::NextLineAndShowText(text) => {
                self.next_line(0.0, -self.state.leading);
                self.show(text.0)?;
            }
            Op::ShowTextWithParameters(text) => {
                self.state.word_space = n(&text.0);
                self.state.char_space = n(&text.1);
                self.next_line(0.0, -self.state.leading);
                self.show(text.2)?;
            }
            Op::ShowTexts(texts) => {
                for piece in texts.0.iter::<Object<'_>>() {
                    match piece {
                        Object::String(text) => self.show(&text)?,
                        Object::Number(shift) => {
                            let by = -n(&shift) / 1000.0 * self.state.size * self.state.scale;
                            self.text_matrix = Matrix::translate(by, 0.0).then(self.text_matrix);
                        }
                        _ => {}
                    }
                }
            }
            Op::BeginMarkedContent(_) if self.marked.len() < MAX_STATES => self.marked.push(Marked::Other),
            Op::BeginMarkedContentWithProperties(content) if self.marked.len() < MAX_STATES => {
                self.marked.push(marked(content.0, content.1, resources));
            }
            Op::EndMarkedContent(_) => {
                self.marked.pop();
            }
            _ => {}
        }
        Ok(())
    }

    fn form(&mut self, name: &Name<'_>, resources: &Resources<'a>, depth: usize) -> Result<(), Error> {
        let Some(stream) = resources.get_x_object(name) else { return Ok(()) };
        let dict = stream.dict();
        if dict.get::<Name<'_>>(&b"Subtype"[..]).as_deref() != Some(&b"Form"[..]) || depth >= MAX_FORMS {
            return Ok(());
        }
        let contents = self.budget.decode(&stream)?;
        let matrix = dict.get::<[f64; 6]>(&b"Matrix"[..]).map_or(Matrix::IDENTITY, Matrix);
        let before = self.state.clone();
        let (text_matrix, line_matrix) = (self.text_matrix, self.line_matrix);
        self.state.ctm = matrix.then(self.state.ctm);
        let own = dict.get::<Dict<'a>>(&b"Resources"[..]).map(Resources::new);
        self.content(&contents, own.as_ref().unwrap_or(resources), depth + 1)?;
        self.state = before;
        (self.text_matrix, self.line_matrix) = (text_matrix, line_matrix);
        Ok(())
    }

    /// A point of a path on the page.
    fn point(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.state.ctm.0;
        (a * x + c * y + e, b * x + d * y + f)
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.placed = true;
        self.line_matrix = Matrix::translate(x, y).then(self.line_matrix);
        self.text_matrix = self.line_matrix;
    }

    fn show(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(font) = self.state.font.clone() else { return Ok(()) };
        let mut at = 0;
        while at < bytes.len() {
            let (code, length) = font.font.read_code(bytes, at);
            at += length.max(1);
            self.budget.glyphs += 1;
            if self.budget.glyphs > MAX_GLYPHS {
                return Err(Error::Bound(format!("the PDF shows more than {} million characters", MAX_GLYPHS >> 20)));
            }
            let (text, width) = font.code(code);
            self.budget.unknown += u64::from(&*text == "\u{fffd}");
            let spaced = if length == 1 && code == 32 { self.state.word_space } else { 0.0 };
            let advance = (width / 1000.0 * self.state.size + self.state.char_space + spaced) * self.state.scale;
            let shown = width / 1000.0 * self.state.size * self.state.scale;
            self.glyph(&font, &text, shown);
            self.text_matrix = Matrix::translate(advance, 0.0).then(self.text_matrix);
        }
        Ok(())
    }

    /// One character of the width `shown`, in text space.
    fn glyph(&mut self, font: &LoadedFont<'a>, text: &str, shown: f64) {
        if self.marked.iter().any(|m| matches!(m, Marked::Pagination)) {
            return;
        }
        let text = match self.marked.iter_mut().rev().find_map(|m| if let Marked::Actual(text) = m { Some(text) } else { None }) {
            Some(actual) => actual.take().unwrap_or_default(),
            None => text.to_owned(),
        };
        let matrix = self.text_matrix.then(self.state.ctm).0;
        let [a, b, c, d, ..] = matrix;
        let at = |x: f64, y: f64| (a * x + c * y + matrix[4], b * x + d * y + matrix[5]);
        let size = (c.hypot(d) * self.state.size * font.em).abs();
        if !size.is_normal() || size > 2000.0 {
            return;
        }
        // The direction in quarter turns, clockwise as the page is seen; text askew is a watermark or a drawing.
        let direction = match (a.abs(), b.abs()) {
            (x, y) if x > y * 5.0 => {
                if a > 0.0 {
                    0
                } else {
                    2
                }
            }
            (x, y) if y > x * 5.0 => {
                if b > 0.0 {
                    1
                } else {
                    3
                }
            }
            _ => return,
        };
        let ((x0, y0), (x1, y1)) = (at(0.0, self.state.rise), at(shown, self.state.rise));
        let (x0, x1, y) = match direction {
            0 => (x0, x1, y0),
            1 => (y0, y1, -x0),
            2 => (-x0, -x1, -y0),
            _ => (-y0, -y1, x0),
        };
        let (x0, x1) = (x0.min(x1), x0.max(x1));
        self.place(direction, font, &text, (x0, x1, y), size);
    }

    fn place(&mut self, direction: usize, font: &LoadedFont<'a>, text: &str, (x0, x1, y): (f64, f64, f64), size: f64) {
        let blank = text.chars().all(char::is_whitespace);
        let limit = if std::mem::take(&mut self.placed) { BREAK_PLACED } else { BREAK };
        if let Some((turned, run)) = &mut self.run {
            let gap = x0 - run.x1;
            let fits = *turned == direction
                && (run.y - y).abs() < 0.1 * size
                && (run.size - size).abs() < 0.1 * size
                && run.bold == font.bold
                && run.mono == font.mono
                && (STEP_BACK * size..limit * size).contains(&gap);
            if fits {
                if blank {
                    if !text.is_empty() && !run.text.ends_with(' ') {
                        run.text.push(' ');
                    }
                    // The width of a blank counts: a space beside a space is none.
                } else {
                    if gap > SPACE * size && !run.text.ends_with(' ') {
                        run.text.push(' ');
                    }
                    run.text.push_str(text);
                }
                run.x1 = run.x1.max(x1);
                return;
            }
        }
        self.end_run();
        if !blank {
            let run = Run { x0, x1, y, size, bold: font.bold, mono: font.mono, text: text.to_owned(), table: None };
            self.run = Some((direction, run));
        }
    }

    fn end_run(&mut self) {
        if let Some((direction, run)) = self.run.take() {
            self.runs[direction].push(run);
        }
    }
}

impl LoadedFont<'_> {
    fn code(&self, code: u32) -> (Rc<str>, f64) {
        if let Some(known) = self.codes.borrow().get(&code) {
            return known.clone();
        }
        let glyph = self.font.glyph(self.font.map_code(code), code);
        let unicode = match &glyph {
            FontGlyph::Outline(glyph) => glyph.as_unicode(),
            FontGlyph::Type3(glyph) => glyph.as_unicode(),
        };
        let text: Rc<str> = match unicode {
            Some(BfString::Char(c)) => c.to_string().into(),
            Some(BfString::String(text)) => text.into(),
            // Bitmap fonts of TeX name no characters; these codes are its ligatures.
            None if self.is_type3 && (11..=15).contains(&code) => ["ff", "fi", "fl", "ffi", "ffl"][code as usize - 11].into(),
            // Control codes show nothing.
            None if code < 32 => "".into(),
            None => "\u{fffd}".into(),
        };
        let known = (text, self.font.code_advance(code).x);
        self.codes.borrow_mut().insert(code, known.clone());
        known
    }
}

fn load<'a>(dict: &Dict<'a>, fonts: &FontCache<'a>) -> Option<LoadedFont<'a>> {
    let resolve: FontResolverFn = Arc::new(|query: &FontQuery| -> Option<(FontData, u32)> {
        match query {
            FontQuery::Standard(font) => Some(font.get_font_data()),
            FontQuery::Fallback(query) => Some(query.pick_standard_font().get_font_data()),
        }
    });
    let cmaps: CMapResolverFn = Arc::new(|_| None);
    let font = fonts.font(dict, &resolve, &cmaps)?;
    let descendant = dict.get::<Array<'_>>(&b"DescendantFonts"[..]).and_then(|a| a.iter::<Dict<'_>>().next());
    let descriptor = dict.get::<Dict<'_>>(&b"FontDescriptor"[..]).or_else(|| descendant?.get::<Dict<'_>>(&b"FontDescriptor"[..]));
    let flags = descriptor.as_ref().and_then(|d| d.get::<i32>(&b"Flags"[..])).unwrap_or(0);
    let name = dict.get::<Name<'_>>(&b"BaseFont"[..]).map(|n| n.as_str().to_lowercase()).unwrap_or_default();
    let is_type3 = dict.get::<Name<'_>>(&b"Subtype"[..]).as_deref() == Some(&b"Type3"[..]);
    let named = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    Some(LoadedFont {
        font,
        em: if is_type3 { type3_em(dict) } else { 1.0 },
        is_type3,
        bold: named(&["bold", "black", "heavy", "semibold", "cmbx", "sfbx", "-bd", "demi"]) || flags & (1 << 18) != 0,
        mono: named(&["mono", "courier", "consol", "menlo", "cmtt", "sftt", "typewriter", "lmtt", "sourcecode"]) || flags & 1 != 0,
        codes: std::cell::RefCell::default(),
    })
}

/// The em of a Type 3 font: the height of its box, or twice the usual width of its characters.
fn type3_em(dict: &Dict<'_>) -> f64 {
    let matrix = dict.get::<[f64; 6]>(&b"FontMatrix"[..]).unwrap_or([0.001, 0.0, 0.0, 0.001, 0.0, 0.0]);
    let height = dict.get::<hayro_syntax::object::Rect>(&b"FontBBox"[..]).map_or(0.0, |b| (b.height() * matrix[3]).abs());
    let widths: Vec<f64> = dict
        .get::<Array<'_>>(&b"Widths"[..])
        .map(|all| all.iter::<Number>().take(256).map(|w| (w.as_f64() * matrix[0]).abs()).filter(|w| *w > 0.0).collect())
        .unwrap_or_default();
    let wide = widths.iter().sum::<f64>() * 2.0 / widths.len().max(1) as f64;
    // A box that is far from what the characters take is made up.
    let em = if wide > 0.0 && !(0.5..2.5).contains(&(height / wide)) { wide } else { height };
    if em.is_normal() { em } else { 1.0 }
}

fn marked(tag: &Name<'_>, properties: &Object<'_>, resources: &Resources<'_>) -> Marked {
    let named;
    let dict = match properties {
        Object::Dict(dict) => dict,
        Object::Name(name) => match resources.properties.get::<Dict<'_>>(name.as_ref() as &[u8]) {
            Some(dict) => {
                named = dict;
                &named
            }
            None => return Marked::Other,
        },
        _ => return Marked::Other,
    };
    if let Some(text) = dict.get::<hayro_syntax::object::String<'_>>(&b"ActualText"[..]) {
        return Marked::Actual(Some(text_string(text.as_bytes())));
    }
    let tag: &[u8] = tag;
    if tag == b"Artifact" && dict.get::<Name<'_>>(&b"Type"[..]).as_deref() == Some(&b"Pagination"[..]) {
        return Marked::Pagination;
    }
    Marked::Other
}
