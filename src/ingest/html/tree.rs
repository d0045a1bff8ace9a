//! A page as an array of nodes in the order of the page.

use std::convert::Infallible;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

use crate::ingest::{Error, MAX_NESTING};

/// Elements and pieces of text of one page.
pub(super) const MAX_NODES: usize = 2_000_000;

/// An element or a piece of text.
#[derive(Debug)]
pub(super) struct Node {
    /// The element's name; `?` for one that ttpmap doesn't know, empty for text.
    pub(super) name: &'static str,
    pub(super) parent: u32,
    /// One past the last node in it.
    pub(super) end: u32,
    pub(super) text: Option<Box<str>>,
    /// `class`, `id`, `role` and `itemprop`, lower-cased, where the element has one.
    pub(super) class: Option<Box<str>>,
    pub(super) role: Role,
    pub(super) hidden: bool,
    /// `start` of a numbered list.
    pub(super) start: Option<usize>,
}

/// What `role` or `itemprop` says of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    None,
    /// The main part, or the body of the article.
    Main,
    /// Navigation, banner, search, dialogue and the like.
    Apart,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) title: Option<String>,
    /// The day of publication that the page gives, `YYYY-MM-DD`.
    pub(super) date: Option<String>,
    /// Rows of tables that hold data, by node.
    data_rows: Vec<bool>,
}

impl Tree {
    /// Whether an element is a row of a table that holds data, and not one that a page is laid out with.
    pub(super) fn is_data_row(&self, at: u32) -> bool {
        self.data_rows[at as usize]
    }
}

const VOID: [&str; 14] = ["br", "img", "hr", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr", "param"];

/// The names that are told apart.
const KNOWN: [&str; 92] = [
    "html",
    "head",
    "title",
    "body",
    "main",
    "article",
    "section",
    "nav",
    "aside",
    "header",
    "footer",
    "address",
    "div",
    "p",
    "pre",
    "listing",
    "xmp",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hgroup",
    "ul",
    "ol",
    "menu",
    "dir",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "td",
    "th",
    "figure",
    "figcaption",
    "details",
    "summary",
    "form",
    "fieldset",
    "legend",
    "a",
    "span",
    "b",
    "i",
    "em",
    "strong",
    "code",
    "kbd",
    "samp",
    "sup",
    "sub",
    "small",
    "mark",
    "time",
    "label",
    "button",
    "select",
    "option",
    "textarea",
    "script",
    "style",
    "noscript",
    "template",
    "iframe",
    "object",
    "svg",
    "math",
    "canvas",
    "audio",
    "video",
    "picture",
    "center",
    "dialog",
    "search",
    "br",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "noembed",
    "noframes",
    "frameset",
    "datalist",
];

/// An element that begins on a line of its own.
pub(super) fn is_block(name: &str) -> bool {
    matches!(
        name,
        "html"
            | "body"
            | "main"
            | "article"
            | "section"
            | "nav"
            | "aside"
            | "header"
            | "footer"
            | "address"
            | "div"
            | "p"
            | "pre"
            | "listing"
            | "xmp"
            | "blockquote"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "hgroup"
            | "ul"
            | "ol"
            | "menu"
            | "dir"
            | "li"
            | "dl"
            | "dt"
            | "dd"
            | "table"
            | "caption"
            | "thead"
            | "tbody"
            | "tfoot"
            | "tr"
            | "td"
            | "th"
            | "figure"
            | "figcaption"
            | "details"
            | "summary"
            | "form"
            | "fieldset"
            | "legend"
            | "hr"
            | "center"
            | "dialog"
            | "search"
    )
}

/// Parses a page.
///
/// # Errors
/// Where it has more than [`MAX_NODES`].
pub(super) fn parse(html: &str) -> Result<Tree, Error> {
    let mut builder = Builder { nodes: vec![element("html", 0)], open: vec![0], title: None, date: None, tag: Tag::default() };
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<Infallible> {
        // What comes after the bound is not kept.
        if builder.nodes.len() <= MAX_NODES {
            builder.event(&event);
        }
        None
    });
    emitter.naively_switch_states(true);
    let Ok(()) = Tokenizer::new_with_emitter(html, emitter).finish();
    if builder.nodes.len() > MAX_NODES {
        return Err(Error::Bound(format!("more than {MAX_NODES} elements of HTML")));
    }
    while !builder.open.is_empty() {
        builder.pop();
    }
    let data_rows = data_rows(&builder.nodes);
    let title = builder.title.map(|t| t.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|t| !t.is_empty());
    Ok(Tree { nodes: builder.nodes, title, date: builder.date, data_rows })
}

fn known(name: &[u8]) -> &'static str {
    KNOWN.iter().chain(&VOID).find(|k| k.as_bytes() == name).copied().unwrap_or("?")
}

fn element(name: &'static str, parent: u32) -> Node {
    Node { name, parent, end: 0, text: None, class: None, role: Role::None, hidden: false, start: None }
}

/// A start tag that is being read, with those of its attributes that matter.
#[derive(Default)]
struct Tag {
    name: &'static str,
    attribute: Option<usize>,
    values: [Option<String>; ATTRIBUTES.len()],
}

const ATTRIBUTES: [&str; 11] =
    ["class", "id", "role", "itemprop", "style", "hidden", "aria-hidden", "start", "property", "name", "content"];
/// What a `meta` element with the day of publication is called, in lower case.
const DATES: [&str; 9] = [
    "article:published_time",
    "og:article:published_time",
    "datepublished",
    "date",
    "dc.date",
    "dc.date.issued",
    "dcterms.issued",
    "pubdate",
    "parsely-pub-date",
];
/// Attribute values are kept up to so many bytes.
const MAX_VALUE: usize = 1_000;

impl Tag {
    fn attribute(&mut self, name: &[u8]) {
        let place = ATTRIBUTES.iter().position(|a| a.as_bytes() == name);
        // Of two with one name the first counts.
        self.attribute = place.filter(|p| self.values[*p].is_none());
        if let Some(place) = self.attribute {
            self.values[place] = Some(String::new());
        }
    }

    fn value(&mut self, value: &[u8]) {
        if let Some(Some(kept)) = self.attribute.map(|p| &mut self.values[p]) {
            kept.push_str(&String::from_utf8_lossy(&value[..value.len().min(MAX_VALUE)]).to_ascii_lowercase());
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values[ATTRIBUTES.iter().position(|a| *a == name)?].as_deref()
    }
}

struct Builder {
    nodes: Vec<Node>,
    open: Vec<u32>,
    title: Option<String>,
    date: Option<String>,
    tag: Tag,
}

impl Builder {
    fn event(&mut self, event: &CallbackEvent<'_>) {
        match event {
            CallbackEvent::OpenStartTag { name } => self.tag = Tag { name: known(name), ..Tag::default() },
            CallbackEvent::AttributeName { name } => self.tag.attribute(name),
            CallbackEvent::AttributeValue { value } => self.tag.value(value),
            CallbackEvent::CloseStartTag { self_closing } => {
                let tag = std::mem::take(&mut self.tag);
                self.start(&tag, *self_closing);
            }
            CallbackEvent::EndTag { name } => self.end(known(name)),
            CallbackEvent::String { value } => self.text(value),
            _ => {}
        }
    }

    fn top(&self) -> u32 {
        self.open.last().copied().unwrap_or(0)
    }

    fn name(&self, depth: usize) -> &'static str {
        self.nodes[self.open[depth] as usize].name
    }

    fn pop(&mut self) {
        if let Some(last) = self.open.pop() {
            self.nodes[last as usize].end = self.nodes.len() as u32;
        }
    }

    fn start(&mut self, tag: &Tag, self_closing: bool) {
        let name = tag.name;
        if name == "meta" && self.date.is_none() {
            let is_date = ["property", "name", "itemprop"].iter().filter_map(|k| tag.get(k)).any(|v| DATES.contains(&v));
            self.date = tag.get("content").filter(|_| is_date).and_then(crate::ingest::day);
        }
        self.imply_ends(name);
        let mut node = element(name, self.top());
        let class: String = ["class", "id"].iter().filter_map(|k| tag.get(k)).collect::<Vec<_>>().join(" ");
        node.class = (!class.is_empty()).then(|| class.into());
        node.role = match (tag.get("role"), tag.get("itemprop")) {
            (Some("main"), _) | (_, Some("articlebody")) => Role::Main,
            (
                Some("navigation" | "banner" | "contentinfo" | "search" | "dialog" | "alertdialog" | "complementary" | "menu" | "menubar"),
                _,
            ) => Role::Apart,
            _ => Role::None,
        };
        let style: String = tag.get("style").unwrap_or_default().split_whitespace().collect();
        node.hidden = tag.get("hidden").is_some_and(|v| v != "until-found")
            || tag.get("aria-hidden") == Some("true")
            || style.contains("display:none")
            || style.contains("visibility:hidden");
        node.start = tag.get("start").filter(|_| name == "ol").and_then(|v| v.parse().ok());
        let place = self.nodes.len() as u32;
        node.end = place + 1;
        self.nodes.push(node);
        // Outside of HTML's own elements (in drawings and formulas) an element may close itself.
        let closed = VOID.contains(&name) || (self_closing && matches!(name, "?" | "svg" | "math"));
        if !closed && self.open.len() < MAX_NESTING {
            self.open.push(place);
        }
    }

    /// The end tags that a start tag implies.
    fn imply_ends(&mut self, name: &str) {
        let (closes, up_to): (&[&str], &[&str]) = match name {
            "li" => (&["li"], &["ul", "ol", "menu", "dir"]),
            "dt" | "dd" => (&["dt", "dd"], &["dl"]),
            "option" => (&["option"], &["select", "datalist"]),
            "td" | "th" => (&["td", "th"], &["tr", "table"]),
            "tr" => (&["tr"], &["table"]),
            "thead" | "tbody" | "tfoot" => (&["thead", "tbody", "tfoot", "caption"], &["table"]),
            "body" => (&["head"], &["html"]),
            _ if is_block(name) => (&["p"], &["td", "th", "li", "div", "button", "object", "table", "caption", "section", "article"]),
            _ => return,
        };
        for depth in (1..self.open.len()).rev() {
            let there = self.name(depth);
            if closes.contains(&there) {
                self.open_to(depth);
                return;
            }
            if up_to.contains(&there) {
                return;
            }
        }
    }

    /// Closes everything from a depth on.
    fn open_to(&mut self, depth: usize) {
        while self.open.len() > depth {
            self.pop();
        }
    }

    fn end(&mut self, name: &'static str) {
        if name == "br" || name == "?" {
            return;
        }
        let of_table = matches!(name, "table" | "thead" | "tbody" | "tfoot" | "tr" | "td" | "th" | "caption" | "html" | "body");
        for depth in (1..self.open.len()).rev() {
            let there = self.name(depth);
            if there == name {
                self.open_to(depth);
                return;
            }
            // What stands in a cell ends in it.
            if matches!(there, "td" | "th" | "caption") && !of_table {
                return;
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        let parent = self.top();
        let name = self.nodes[parent as usize].name;
        if matches!(name, "script" | "style" | "noscript" | "iframe" | "textarea" | "template" | "noembed" | "noframes") {
            return;
        }
        let text = String::from_utf8_lossy(text);
        if name == "title" {
            if self.title.is_none() && !self.open.iter().any(|o| self.nodes[*o as usize].name == "svg") {
                self.title = Some(text.into_owned());
            }
            return;
        }
        let end = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { text: Some(text.into()), end, ..element("", parent) });
    }
}

/// A table holds data where it has a heading cell, or two rows and more with two cells and more, all of them short; one
/// with a table in it lays out a page.
fn data_rows(nodes: &[Node]) -> Vec<bool> {
    #[derive(Default, Clone)]
    struct Facts {
        heading: bool,
        nested: bool,
        rows: usize,
        wide_rows: usize,
        longest: usize,
    }
    let mut tables: Vec<Facts> = vec![Facts::default(); nodes.len()];
    let mut table_of: Vec<u32> = vec![u32::MAX; nodes.len()];
    let mut cells: Vec<usize> = vec![0; nodes.len()];
    let mut row_of: Vec<u32> = vec![u32::MAX; nodes.len()];
    let mut length: Vec<usize> = nodes.iter().map(|n| n.text.as_ref().map_or(0, |t| t.trim().len())).collect();
    for (i, node) in nodes.iter().enumerate().skip(1) {
        let parent = node.parent as usize;
        table_of[i] = if nodes[parent].name == "table" { parent as u32 } else { table_of[parent] };
        row_of[i] = if nodes[parent].name == "tr" { parent as u32 } else { row_of[parent] };
        if nodes[parent].name == "table" {
            row_of[i] = u32::MAX;
        }
        let table = table_of[i] as usize;
        match node.name {
            "table" if table < nodes.len() => tables[table].nested = true,
            "td" | "th" if table < nodes.len() => {
                tables[table].heading |= node.name == "th";
                if let Some(count) = cells.get_mut(row_of[i] as usize) {
                    *count += 1;
                }
            }
            _ => {}
        }
    }
    for i in (1..nodes.len()).rev() {
        let parent = nodes[i].parent as usize;
        length[parent] += length[i];
        let Some(table) = tables.get_mut(table_of[i] as usize) else { continue };
        match nodes[i].name {
            "td" | "th" => table.longest = table.longest.max(length[i]),
            "tr" => {
                table.rows += 1;
                table.wide_rows += usize::from(cells[i] >= 2);
            }
            _ => {}
        }
    }
    let is_data = |facts: &Facts| {
        let short = facts.longest <= 600;
        !facts.nested && (facts.heading || (facts.wide_rows >= 2 && facts.wide_rows * 2 >= facts.rows && short))
    };
    let row = |i: usize| nodes[i].name == "tr" && tables.get(table_of[i] as usize).is_some_and(is_data);
    (0..nodes.len()).map(row).collect()
}
