//! The article of a web page: its text without menus, cookie notices and lists of other articles.
//!
//! Three passes over one array of nodes in the order of the page: [`tree`] builds it from html5gum's tokens, with end
//! tags implied as browsers imply them; [`article`] marks what is no part of the article and chooses the element that
//! holds it; then the text is written, block by block. No pass recurses, and each is linear in the page's length.

mod article;
mod tree;

use crate::text::{Document, SegmentKind};

use super::clean::Writer;
use super::{Error, Kind};
use tree::{Node, Tree};

/// Reads a page.
///
/// # Errors
/// Where there is no text in it, or more elements than the bound.
pub(super) fn read(html: &str) -> Result<Document, Error> {
    let tree = tree::parse(html)?;
    let article = article::choose(&tree);
    write(&tree, &article)
}

/// Reads HTML that is no page of a site but all article, as in a mail: only what is never seen is left out.
pub(super) fn read_fragment(html: &str) -> Result<Document, Error> {
    let tree = tree::parse(html)?;
    write(&tree, &article::all(&tree))
}

fn write(tree: &Tree, article: &article::Article) -> Result<Document, Error> {
    let mut out =
        Page { out: Writer::new(), lists: Vec::new(), marker: None, rows: Vec::new(), pre: 0, heading: None, caption: 0, newlines: 0 };
    if let Some(title) = article.heading {
        out.write(tree, title, &article.dropped);
    }
    out.write(tree, article.root, &article.dropped);
    Ok(out.out.finish(tree.title.clone(), Kind::Html)?.dated(tree.date.clone()))
}

struct Page {
    out: Writer,
    /// Open lists: the number of the next item where they are numbered.
    lists: Vec<Option<usize>>,
    /// The marker of an item whose text hasn't begun.
    marker: Option<String>,
    /// Open rows of data tables: whether a cell was written.
    rows: Vec<bool>,
    pre: usize,
    heading: Option<u32>,
    caption: usize,
    /// Line breaks in a row.
    newlines: usize,
}

impl Page {
    /// Writes an element with all in it.
    fn write(&mut self, tree: &Tree, root: u32, dropped: &[bool]) {
        let mut open: Vec<u32> = Vec::new();
        let mut at = root;
        let end = tree.nodes[root as usize].end;
        while at < end {
            while let Some(last) = open.last().filter(|o| tree.nodes[**o as usize].end <= at) {
                let last = *last;
                open.pop();
                self.leave(tree, last);
            }
            let node = &tree.nodes[at as usize];
            if dropped[at as usize] {
                at = node.end.max(at + 1);
                continue;
            }
            match &node.text {
                Some(text) => self.text(text),
                None => {
                    self.enter(tree, at);
                    open.push(at);
                }
            }
            at += 1;
        }
        while let Some(last) = open.pop() {
            self.leave(tree, last);
        }
        self.out.close();
    }

    fn kind(&self) -> SegmentKind {
        match () {
            () if !self.rows.is_empty() => SegmentKind::Row,
            () if self.pre > 0 => SegmentKind::Code,
            () if self.heading.is_some() => SegmentKind::Heading,
            () if self.caption > 0 => SegmentKind::Caption,
            () if !self.lists.is_empty() => SegmentKind::Item,
            () => SegmentKind::Sentence,
        }
    }

    fn enter(&mut self, tree: &Tree, at: u32) {
        let node = &tree.nodes[at as usize];
        if !self.rows.is_empty() {
            self.enter_in_row(node);
            return;
        }
        match node.name {
            "br" => self.line_break(),
            "pre" | "listing" | "xmp" => {
                self.out.close();
                self.pre += 1;
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if self.heading.is_none() => {
                self.out.close();
                self.heading = Some(at);
            }
            "figcaption" | "caption" => {
                self.out.close();
                self.caption += 1;
            }
            "ul" | "menu" | "dir" => {
                self.out.close();
                self.lists.push(None);
            }
            "ol" => {
                self.out.close();
                self.lists.push(Some(node.start.unwrap_or(1)));
            }
            "li" => {
                self.out.close();
                let marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_owned(),
                };
                self.marker = Some(format!("{}{marker}", "  ".repeat(self.lists.len().saturating_sub(1).min(8))));
            }
            "tr" if tree.is_data_row(at) => {
                self.out.open(SegmentKind::Row);
                self.rows.push(false);
            }
            name if tree::is_block(name) => self.out.close(),
            _ => {}
        }
        self.newlines = if node.name == "br" { self.newlines } else { 0 };
    }

    /// All of a row stands on one line.
    fn enter_in_row(&mut self, node: &Node) {
        match node.name {
            "td" | "th" => {
                let cell = self.rows.last_mut().expect("in a row");
                if std::mem::replace(cell, true) {
                    self.out.push(" | ");
                }
            }
            name if name == "br" || tree::is_block(name) => self.out.push(" "),
            _ => {}
        }
    }

    fn leave(&mut self, tree: &Tree, at: u32) {
        let node = &tree.nodes[at as usize];
        if !self.rows.is_empty() {
            if node.name == "tr" && tree.is_data_row(at) {
                self.rows.pop();
                self.out.close();
            } else if tree::is_block(node.name) {
                self.out.push(" ");
            }
            return;
        }
        match node.name {
            "pre" | "listing" | "xmp" => self.pre = self.pre.saturating_sub(1),
            "figcaption" | "caption" => self.caption = self.caption.saturating_sub(1),
            "ul" | "menu" | "dir" | "ol" => {
                self.out.close();
                self.lists.pop();
            }
            "li" => {
                self.out.close();
                self.marker = None;
            }
            _ => {}
        }
        if self.heading == Some(at) {
            self.out.close();
            self.heading = None;
        } else if tree::is_block(node.name) {
            self.out.close();
        }
    }

    fn text(&mut self, text: &str) {
        if self.kind() == SegmentKind::Code {
            for (i, line) in text.split('\n').enumerate() {
                if i > 0 || self.out.at_start() {
                    self.out.open(SegmentKind::Code);
                }
                self.out.push(line.trim_end_matches('\r'));
            }
            return;
        }
        if text.trim().is_empty() {
            if !self.out.at_start() {
                self.out.push(" ");
            }
            return;
        }
        self.newlines = 0;
        if self.out.at_start() && self.rows.is_empty() {
            self.out.open(self.kind());
            if let Some(marker) = self.marker.take() {
                self.out.push_marker(&marker);
            }
        }
        self.out.push(text);
    }

    /// A line break ends a block where it looks as if it was meant to: after a stop, after a short line, or twice.
    fn line_break(&mut self) {
        if self.pre > 0 {
            self.out.open(SegmentKind::Code);
            return;
        }
        self.newlines += 1;
        let written = self.out.written().trim_end();
        let line = written.rsplit('\n').next().unwrap_or(written);
        if self.newlines > 1 || written.ends_with(['.', '!', '?', ':', ';']) || line.chars().count() < 60 {
            self.out.close();
        } else {
            self.out.line_break();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(html: &str) -> String {
        read(html).map_or_else(|e| format!("error: {e}"), |d| d.text().to_owned())
    }

    #[test]
    fn structure_is_written_as_it_reads() {
        for (html, expected) in [
            ("<p>One <b>bold</b>ly\n said.<p>Two &amp; three.", "One boldly said.\n\nTwo & three.\n"),
            ("<h2>Head</h2>text<ul><li>a<li>b<ol start=3><li>c</ol></ul>", "Head\n\ntext\n\n- a\n- b\n  3. c\n"),
            ("<pre>\nnet use\n  \\\\srv\\c$\n</pre>", "net use\n  \\\\srv\\c$\n"),
            ("<table><tr><th>A<th>B<tr><td>1<td><p>2</p><p>3</p></table>", "A | B\n1 | 2 3\n"),
            ("<table><tr><td><p>Hello there,</p><p>you.</p></td></tr></table>", "Hello there,\n\nyou.\n"),
            ("<p>a<script>var x = '<p>';</script><style>p{}</style> b<!-- c --></p>", "a b\n"),
            ("<p>seen<span hidden> hidden</span><i style='Display: none'> not</i></p>", "seen\n"),
            (
                "<p>A first line that is long enough to have been wrapped by some mail program<br>goes on here.</p>",
                "A first line that is long enough to have been wrapped by some mail program\ngoes on here.\n",
            ),
            ("<p>one:<br>two<br><br>three</p>", "one:\n\ntwo\n\nthree\n"),
            ("<svg><text>x</text></svg><p>y</p>", "y\n"),
            ("<title>T</title>", "error: empty: no HTML in it"),
            ("", "error: empty: no HTML in it"),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    #[test]
    fn kinds_are_those_of_the_elements() {
        let page = "<title> A\n title</title><h1>Head</h1><p>One. Two.</p><ul><li>Item</ul><pre>code</pre><table><tr><th>r<td>s</table>\
                    <figure><figcaption>Figure 1: a caption.</figcaption></figure>";
        let document = read(page).unwrap();
        use SegmentKind::{Caption, Code, Heading, Item, Row, Sentence};
        let kinds: Vec<SegmentKind> = document.segments().iter().map(|s| s.kind).collect();
        assert_eq!(kinds, [Heading, Sentence, Sentence, Item, Code, Row, Caption]);
        assert_eq!(document.title(), Some("A title"));
        assert_eq!(document.date(), None);
    }

    #[test]
    fn deep_and_broken_pages_are_read() {
        let deep = "<div>".repeat(10_000) + "<p>They ran whoami.</p>" + &"</div>".repeat(10_000);
        assert_eq!(text(&deep), "They ran whoami.\n");
        let lists = "<ul><li>".repeat(10_000) + "x";
        assert!(text(&lists).contains('x'));
        assert!(text("</p></div><p>a</td></b>b<td>c").starts_with('a'));
        assert!(matches!(read(&"<b>".repeat(tree::MAX_NODES + 1)), Err(Error::Bound(_))));
    }
}
