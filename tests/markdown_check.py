"""Checks that Markdown of ttpmap links to nothing but ATT&CK's pages and holds no HTML, whoever renders it.

usage: markdown_check.py FILE.md...

Rendered by cmark-gfm, GitHub's own renderer, and by markdown-it with everything on that makes links.
"""

import html.parser
import sys

import cmarkgfm
from cmarkgfm.cmark import Options
from markdown_it import MarkdownIt

TAGS = set("h1 h2 h3 p a table thead tbody tr th td ul li strong code em".split())
PAGES = "https://attack.mitre.org/"


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.problems = []
        self.cells = 0
        self.columns = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in TAGS:
            self.problems.append(f"<{tag}>")
        if tag == "a" and not (attrs.get("href") or "").startswith(PAGES):
            self.problems.append(f"a link to {attrs.get('href')!r}")
        if set(attrs) - {"href", "align", "style"}:
            self.problems.append(f"<{tag}> with {sorted(attrs)}")
        if tag == "tr":
            self.cells = 0
        if tag in ("td", "th"):
            self.cells += 1
        if tag == "table":
            self.columns = None

    def handle_endtag(self, tag):
        if tag == "tr":
            if self.columns not in (None, self.cells):
                self.problems.append(f"a row of {self.cells} cells among those of {self.columns}")
            self.columns = self.cells

    def handle_comment(self, data):
        self.problems.append("a comment")


def problems(text):
    unsafe = Options.CMARK_OPT_UNSAFE
    renderers = {
        "cmark-gfm": lambda t: cmarkgfm.github_flavored_markdown_to_html(t, options=unsafe),
        "markdown-it": MarkdownIt("gfm-like", {"html": True, "linkify": True, "typographer": False}).render,
    }
    found = []
    for name, render in renderers.items():
        page = render(text)
        reader = Reader()
        reader.feed(page)
        reader.close()
        found += [f"{name}: {p}" for p in reader.problems]
        rows = sum(1 for line in text.splitlines() if line.startswith("| "))
        if page.count("<tr>") != rows - sum(1 for line in text.splitlines() if line.startswith("| ---")):
            found.append(f"{name}: {page.count('<tr>')} rows of tables from {rows} lines")
    return found


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = False
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        found = problems(text)
        failed |= bool(found)
        print(f"{path}: {len(text)} characters, {'no markup but ours' if not found else 'wrong'}")
        for line in found[:20]:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
