//! DOCX (ECMA-376 Office Open XML): the paragraphs, lists and tables of the main document, then its notes.
//!
//! Not read: headers and footers, comments, deleted text, hidden text, what only a drawing shows.

use std::collections::BTreeMap;
use std::io::Cursor;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use super::clean::Writer;
use super::{Error, Kind, MAX_INFLATED_BYTES, MAX_NESTING, compressed};
use crate::text::{Document, Origin, SegmentKind};

/// Files in the archive; a report has some dozens.
const MAX_ENTRIES: usize = 20_000;
/// Styles are based on styles.
const MAX_STYLE_CHAIN: usize = 20;

fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged { kind: Kind::Docx, what: what.into() }
}

/// Reads a document.
///
/// # Errors
/// Where the archive or its XML is damaged, encrypted or over a bound, or has no text.
pub(super) fn read(bytes: &[u8]) -> Result<Document, Error> {
    if bytes.windows(4).filter(|w| w == b"PK\x01\x02").take(MAX_ENTRIES + 1).count() > MAX_ENTRIES {
        return Err(Error::Bound(format!("more than {MAX_ENTRIES} files in the archive")));
    }
    let archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged(format!("the zip archive can't be opened, or is cut off ({e})")))?;
    let mut package = Package { archive, inflated: 0, size: bytes.len() };
    let main = package.main_part()?;
    let folder = main.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let body = package.part(&main)?.ok_or_else(|| damaged(format!("there is no {main} in it")))?;
    let mut reading = Reading { styles: Styles::default(), out: Writer::new(), counters: BTreeMap::new(), paragraph: 0 };
    if let Some(xml) = package.part(&format!("{folder}styles.xml"))? {
        reading.styles.read_styles(&xml)?;
    }
    if let Some(xml) = package.part(&format!("{folder}numbering.xml"))? {
        reading.styles.read_numbering(&xml)?;
    }
    reading.body(&body, true)?;
    for notes in ["footnotes.xml", "endnotes.xml"] {
        if let Some(xml) = package.part(&format!("{folder}{notes}"))? {
            reading.body(&xml, false)?;
        }
    }
    let properties = match package.part("docProps/core.xml")? {
        Some(xml) => CoreProperties::read(&xml)?,
        None => CoreProperties::default(),
    };
    Ok(reading.out.finish(properties.title, Kind::Docx)?.dated(properties.saved))
}

struct Package<'b> {
    archive: ZipArchive<Cursor<&'b [u8]>>,
    inflated: u64,
    size: usize,
}

impl Package<'_> {
    /// A part as text; none where there is no such part.
    fn part(&mut self, name: &str) -> Result<Option<String>, Error> {
        let file = match self.archive.by_name(name) {
            Ok(file) => file,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(zip::result::ZipError::UnsupportedArchive(what)) if what.contains("assword") => return Err(Error::Encrypted(Kind::Docx)),
            Err(e) => return Err(damaged(format!("{name}: {e}"))),
        };
        let compressed = file.compressed_size().min(self.size as u64) as usize;
        let bytes = compressed::read(file, compressed, || damaged(format!("{name} is cut off or broken")))?;
        self.inflated += bytes.len() as u64;
        if self.inflated > MAX_INFLATED_BYTES {
            return Err(Error::Bound(format!("its parts inflate to more than {} MiB", MAX_INFLATED_BYTES >> 20)));
        }
        super::encoding::decode(bytes, None).map(Some).map_err(|_| damaged(format!("{name} is no text")))
    }

    /// The name of the main document, as the package's relationships give it.
    fn main_part(&mut self) -> Result<String, Error> {
        let mut found = None;
        if let Some(xml) = self.part("_rels/.rels")? {
            elements(&xml, |step| {
                if let Step::Open(element) = step
                    && element.local_name().as_ref() == "Relationship"
                    && attribute(element, "Type").is_some_and(|t| t.ends_with("/officeDocument"))
                {
                    found = attribute(element, "Target");
                }
                Ok(())
            })?;
        }
        let name = found.map_or_else(|| "word/document.xml".to_owned(), |t| t.trim_start_matches('/').to_owned());
        if self.archive.index_for_name("EncryptedPackage").is_some() {
            return Err(Error::Encrypted(Kind::Docx));
        }
        Ok(name)
    }
}

/// What is met in XML: an element's begin and end, text between.
enum Step<'s, 'x> {
    Open(&'s BytesStart<'x>),
    Text(&'s str),
    Close(&'s str),
}

/// Walks through XML. Namespace prefixes are for the caller to look at or not.
fn elements(xml: &str, mut on: impl FnMut(Step<'_, '_>) -> Result<(), Error>) -> Result<(), Error> {
    let broken = |e: &dyn std::fmt::Display| damaged(format!("its XML is broken or cut off ({e})"));
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut depth = 0;
    loop {
        match reader.read_event().map_err(|e| broken(&e))? {
            Event::Start(element) => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Err(Error::Bound(format!("elements are nested more than {MAX_NESTING} deep")));
                }
                on(Step::Open(&element))?;
            }
            Event::End(element) => {
                depth -= 1;
                on(Step::Close(element.local_name().as_ref()))?;
            }
            Event::Text(text) => on(Step::Text(&text.xml10_content()))?,
            Event::CData(text) => on(Step::Text(&text.into_inner()))?,
            Event::GeneralRef(reference) => {
                let named = match &*reference.xml10_content() {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => reference.resolve_char_ref().ok().flatten(),
                };
                // Entities of a document type are not expanded.
                if let Some(c) = named {
                    on(Step::Text(c.encode_utf8(&mut [0; 4])))?;
                }
            }
            Event::Eof if depth > 0 => return Err(damaged("its XML is cut off")),
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// An attribute by its local name.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == name)?;
    quick_xml::escape::unescape(&found.value).ok().map(std::borrow::Cow::into_owned)
}

/// `w:val` that switches something on or off; on where it is absent.
fn is_on(element: &BytesStart<'_>) -> bool {
    !matches!(attribute(element, "val").as_deref(), Some("0" | "false" | "off" | "none"))
}

/// What a document says of itself.
#[derive(Default)]
struct CoreProperties {
    title: Option<String>,
    /// The day on which it was saved last: what it was made from may be old.
    saved: Option<String>,
}

impl CoreProperties {
    fn read(xml: &str) -> Result<CoreProperties, Error> {
        let (mut title, mut saved) = (String::new(), String::new());
        let mut inside = String::new();
        elements(xml, |step| {
            match step {
                Step::Open(e) => e.name().as_ref().clone_into(&mut inside),
                Step::Text(text) if inside == "dc:title" => title.push_str(text),
                Step::Text(text) if inside == "dcterms:modified" => saved.push_str(text),
                Step::Close(_) => inside.clear(),
                Step::Text(_) => {}
            }
            Ok(())
        })?;
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(CoreProperties { title: (!title.is_empty()).then_some(title), saved: super::day(&saved) })
    }
}

#[derive(Default, Clone)]
struct Style {
    name: String,
    based_on: Option<String>,
    outline: bool,
    list: Option<(String, usize)>,
}

#[derive(Default)]
struct Styles {
    styles: BTreeMap<String, Style>,
    /// Format of a list level: by numId, through abstractNumId and level.
    abstracts: BTreeMap<String, String>,
    formats: BTreeMap<(String, usize), String>,
}

/// What a paragraph is by its properties.
#[derive(Default, Clone)]
struct Properties {
    style: Option<String>,
    outline: Option<bool>,
    /// numId and level.
    list: Option<(String, usize)>,
    level: Option<usize>,
}

impl Styles {
    fn read_styles(&mut self, xml: &str) -> Result<(), Error> {
        let mut id = String::new();
        elements(xml, |step| {
            let Step::Open(element) = step else { return Ok(()) };
            let val = || attribute(element, "val");
            if element.local_name().as_ref() == "style" {
                id = attribute(element, "styleId").unwrap_or_default();
                self.styles.insert(id.clone(), Style::default());
                return Ok(());
            }
            let Some(style) = self.styles.get_mut(&id) else { return Ok(()) };
            match element.local_name().as_ref() {
                "name" => style.name = val().unwrap_or_default().to_lowercase(),
                "basedOn" => style.based_on = val(),
                "outlineLvl" => style.outline = val().and_then(|v| v.parse::<u8>().ok()).is_some_and(|level| level < 9),
                "numId" => style.list = val().map(|v| (v, style.list.as_ref().map_or(0, |l| l.1))),
                "ilvl" => {
                    let id = style.list.take().map_or(String::new(), |list| list.0);
                    style.list = Some((id, val().and_then(|v| v.parse().ok()).unwrap_or(0)));
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn read_numbering(&mut self, xml: &str) -> Result<(), Error> {
        let (mut abstract_id, mut num, mut level) = (String::new(), String::new(), 0_usize);
        elements(xml, |step| {
            let Step::Open(element) = step else { return Ok(()) };
            let val = || attribute(element, "val").unwrap_or_default();
            match element.local_name().as_ref() {
                "abstractNum" => abstract_id = attribute(element, "abstractNumId").unwrap_or_default(),
                "lvl" => level = attribute(element, "ilvl").and_then(|v| v.parse().ok()).unwrap_or(0),
                "numFmt" => {
                    self.formats.insert((abstract_id.clone(), level), val());
                }
                "num" => num = attribute(element, "numId").unwrap_or_default(),
                "abstractNumId" => {
                    self.abstracts.insert(num.clone(), val());
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn chain<'s>(&'s self, id: Option<&'s String>) -> impl Iterator<Item = &'s Style> {
        let first = id.and_then(|id| self.styles.get(id));
        std::iter::successors(first, |style| self.styles.get(style.based_on.as_ref()?)).take(MAX_STYLE_CHAIN)
    }

    fn kind(&self, p: &Properties) -> SegmentKind {
        for style in self.chain(p.style.as_ref()) {
            let name = style.name.as_str();
            if name.starts_with("heading") || name == "title" || name == "subtitle" || style.outline {
                return SegmentKind::Heading;
            }
            if name.contains("caption") {
                return SegmentKind::Caption;
            }
            if ["preformatted", "code", "source", "macro", "plain text"].iter().any(|n| name.contains(n)) {
                return SegmentKind::Code;
            }
        }
        if p.outline == Some(true) {
            return SegmentKind::Heading;
        }
        if self.list(p).is_some() { SegmentKind::Item } else { SegmentKind::Sentence }
    }

    /// The list a paragraph is an item of, and its level. `numId` 0 takes it out of its style's list.
    fn list(&self, p: &Properties) -> Option<(String, usize)> {
        let own = p.list.clone().or_else(|| self.chain(p.style.as_ref()).find_map(|s| s.list.clone()));
        let (id, level) = own.filter(|(id, _)| id != "0" && !id.is_empty())?;
        Some((id, p.level.unwrap_or(level).min(8)))
    }
}

/// A paragraph that is being read.
#[derive(Default)]
struct Paragraph {
    text: String,
    properties: Properties,
    number: u32,
}

#[derive(Default)]
struct Row {
    cells: Vec<Vec<Paragraph>>,
}

struct Reading {
    styles: Styles,
    out: Writer,
    /// Last number of each list and level.
    counters: BTreeMap<(String, usize), usize>,
    paragraph: u32,
}

/// Where the walk through a body is.
#[derive(Default)]
struct Walk {
    /// Paragraphs within paragraphs: text boxes.
    open: Vec<Paragraph>,
    /// Rows within rows: tables in cells.
    rows: Vec<Row>,
    /// Elements passed over with all in them.
    skipped: usize,
    /// In `w:t`.
    text: bool,
    /// In the properties of a paragraph, or of a run.
    run_properties: bool,
    hidden: bool,
}

impl Reading {
    fn body(&mut self, xml: &str, counted: bool) -> Result<(), Error> {
        let mut walk = Walk::default();
        elements(xml, |step| {
            match step {
                Step::Open(element) => self.open(&mut walk, element, counted),
                Step::Text(text) => {
                    if walk.text
                        && walk.skipped == 0
                        && !walk.hidden
                        && let Some(paragraph) = walk.open.last_mut()
                    {
                        paragraph.text.push_str(text);
                    }
                }
                Step::Close(name) => self.close(&mut walk, name),
            }
            Ok(())
        })?;
        self.out.close();
        Ok(())
    }

    fn open(&mut self, walk: &mut Walk, element: &BytesStart<'_>, counted: bool) {
        let name = element.local_name();
        let name = name.as_ref();
        // Deleted and moved text, the second form of a drawing, the text of fields and of separators between notes.
        let passed_over = matches!(name, "del" | "moveFrom" | "Fallback" | "instrText" | "delText" | "rubyPr" | "rt")
            || (matches!(name, "footnote" | "endnote") && attribute(element, "type").is_some_and(|t| t != "normal"));
        if walk.skipped > 0 || passed_over {
            walk.skipped += 1;
            return;
        }
        match name {
            "p" => {
                self.paragraph += u32::from(counted);
                walk.open.push(Paragraph { number: self.paragraph * u32::from(counted), ..Paragraph::default() });
            }
            "tr" => walk.rows.push(Row::default()),
            "tc" => {
                if let Some(row) = walk.rows.last_mut() {
                    row.cells.push(Vec::new());
                }
            }
            "t" => walk.text = true,
            "r" => walk.hidden = false,
            "rPr" => walk.run_properties = true,
            "vanish" if walk.run_properties => walk.hidden = is_on(element),
            _ => {}
        }
        let Some(paragraph) = walk.open.last_mut() else { return };
        let val = || attribute(element, "val");
        match name {
            "tab" if !walk.run_properties => paragraph.text.push('\t'),
            "br" | "cr" => paragraph.text.push('\n'),
            "noBreakHyphen" => paragraph.text.push('-'),
            "pStyle" => paragraph.properties.style = val(),
            "outlineLvl" => paragraph.properties.outline = val().and_then(|v| v.parse::<u8>().ok()).map(|level| level < 9),
            "ilvl" => paragraph.properties.level = val().and_then(|v| v.parse().ok()),
            "numId" => paragraph.properties.list = val().map(|id| (id, 0)),
            _ => {}
        }
    }

    fn close(&mut self, walk: &mut Walk, name: &str) {
        if walk.skipped > 0 {
            walk.skipped -= 1;
            return;
        }
        match name {
            "t" => walk.text = false,
            "rPr" => {
                walk.run_properties = false;
                // A paragraph mark may be hidden; its text isn't.
                walk.hidden &= walk.open.is_empty() || name == "rPr";
            }
            "pPr" | "r" => walk.hidden = false,
            "p" => {
                let Some(paragraph) = walk.open.pop() else { return };
                match walk.rows.last_mut().and_then(|row| row.cells.last_mut()) {
                    Some(cell) => cell.push(paragraph),
                    None => self.write(paragraph),
                }
            }
            "tr" => {
                let Some(row) = walk.rows.pop() else { return };
                match walk.rows.last_mut().and_then(|outer| outer.cells.last_mut()) {
                    // A table in a cell is read as the cell's text.
                    Some(cell) => cell.extend(row.cells.into_iter().flatten()),
                    None => self.write_row(row),
                }
            }
            _ => {}
        }
    }

    fn write_row(&mut self, row: Row) {
        // A row of one cell is a box around paragraphs.
        if row.cells.len() < 2 {
            for paragraph in row.cells.into_iter().flatten() {
                self.write(paragraph);
            }
            return;
        }
        self.out.open(SegmentKind::Row);
        for (i, cell) in row.cells.iter().enumerate() {
            if i > 0 {
                self.out.push(" | ");
            }
            for (j, paragraph) in cell.iter().enumerate() {
                if i == 0 || j == 0 {
                    self.origin(paragraph);
                }
                if j > 0 {
                    self.out.push(" ");
                }
                self.out.push(&paragraph.text);
            }
        }
        self.out.close();
    }

    fn origin(&mut self, paragraph: &Paragraph) {
        self.out.origin(Origin { page: None, paragraph: (paragraph.number > 0).then_some(paragraph.number) });
    }

    fn write(&mut self, paragraph: Paragraph) {
        if paragraph.text.trim().is_empty() {
            return;
        }
        let kind = self.styles.kind(&paragraph.properties);
        let lines: Vec<&str> = paragraph.text.split('\n').collect();
        if kind == SegmentKind::Code {
            for line in lines {
                self.out.open(kind);
                self.origin(&paragraph);
                self.out.push(line);
            }
            self.out.close();
            return;
        }
        self.out.open(kind);
        self.origin(&paragraph);
        if kind == SegmentKind::Item
            && let Some(list) = self.styles.list(&paragraph.properties)
        {
            let marker = self.marker(list);
            self.out.push_marker(&marker);
        }
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                self.out.line_break();
            }
            self.out.push(line);
        }
        self.out.close();
    }

    fn marker(&mut self, (id, level): (String, usize)) -> String {
        let of = self.styles.abstracts.get(&id);
        let format = of.and_then(|a| self.styles.formats.get(&(a.clone(), level))).map_or("bullet", String::as_str);
        let indent = "  ".repeat(level);
        match format {
            "none" => indent,
            "bullet" => format!("{indent}- "),
            _ => {
                self.counters.retain(|(list, deeper), _| *list != id || *deeper <= level);
                let number = self.counters.entry((id, level)).or_insert(0);
                *number += 1;
                format!("{indent}{number}. ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn package(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in parts {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn text(body: &str) -> String {
        let styles = r#"<w:styles xmlns:w="w"><w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style><w:style w:styleId="Own"><w:name w:val="My"/><w:basedOn w:val="H1"/></w:style></w:styles>"#;
        let numbering = r#"<w:numbering xmlns:w="w"><w:abstractNum w:abstractNumId="5"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl></w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="5"/></w:num></w:numbering>"#;
        let document = format!(r#"<w:document xmlns:w="w"><w:body>{body}</w:body></w:document>"#);
        let bytes = package(&[("word/document.xml", &document), ("word/styles.xml", styles), ("word/numbering.xml", numbering)]);
        read(&bytes).map_or_else(|e| format!("error: {e}"), |d| d.text().to_owned())
    }

    fn p(properties: &str, text: &str) -> String {
        format!("<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>")
    }

    #[test]
    fn paragraphs_lists_and_tables_are_read() {
        let list = |n: &str| format!(r#"<w:numPr><w:ilvl w:val="0"/><w:numId w:val="{n}"/></w:numPr>"#);
        for (body, expected) in [
            (p(r#"<w:pStyle w:val="Own"/>"#, "Head") + &p("", "a &amp; b&#33;"), "Head\n\na & b!\n"),
            (p(&list("1"), "one") + &p(&list("1"), "two") + &p(&list("7"), "dot"), "1. one\n2. two\n- dot\n"),
            (format!("<w:tbl><w:tr><w:tc>{}</w:tc><w:tc>{}{}</w:tc></w:tr></w:tbl>", p("", "a"), p("", "b"), p("", "c")), "a | b c\n"),
            (format!("<w:tbl><w:tr><w:tc>{}</w:tc></w:tr></w:tbl>", p("", "boxed")), "boxed\n"),
            ("<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t><w:noBreakHyphen/><w:softHyphen/><w:t>c</w:t></w:r></w:p>".into(), "a\nb-c\n"),
            ("<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins></w:p>".into(), "new\n"),
            ("<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>seen</w:t></w:r></w:p>".into(), "seen\n"),
            (String::new(), "error: empty: no DOCX in it"),
            ("<w:p>".into(), "error: damaged DOCX: its XML is broken or cut off"),
            ("<w:x>".repeat(600), "error: too much in one input: elements are nested more than 512 deep"),
        ] {
            let found = text(&body);
            assert!(found == expected || (expected.starts_with("error") && found.starts_with(expected)), "{body}\n{found}");
        }
    }

    #[test]
    fn places_are_paragraphs() {
        let body = p("", "One.") + "<w:p/>" + &p("", "Three.");
        let bytes = package(&[("word/document.xml", &format!(r#"<w:document xmlns:w="w">{body}</w:document>"#))]);
        let document = read(&bytes).unwrap();
        let at = document.text().find("Three").unwrap();
        assert_eq!((document.origin(0).paragraph, document.origin(at).paragraph), (Some(1), Some(3)));
    }

    #[test]
    fn bombs_and_fragments_are_refused() {
        let bomb = package(&[("word/document.xml", &" ".repeat(30 << 20))]);
        assert!(matches!(read(&bomb), Err(Error::Bound(_))));
        let whole = package(&[("word/document.xml", "<w:document/>")]);
        assert!(matches!(read(&whole[..whole.len() / 2]), Err(Error::Damaged { .. })));
        assert!(matches!(read(&package(&[("other.xml", "")])), Err(Error::Damaged { .. })));
    }
}
