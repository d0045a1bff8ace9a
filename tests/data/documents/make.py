"""Steps of make.sh that need more than a command line: what stands around the narrative in each kind of document.

usage: make.py page BODY.html | writer IN.odt OUT.odt | latex LAYOUT BODY.tex | scan
Answers go to standard output, but for `writer`.
"""

import re
import sys
import zipfile
import zlib

TITLE = "Intrusion at Tamarisk Logistics"


def page(body):
    """A page of a site: menus, cookie notice, share buttons, related articles, newsletter, footer."""
    html = open(body, encoding="utf-8").read()
    menu = "".join(f'<li><a href="/{n}">{n.title()}</a>' for n in ("home", "products", "services", "research", "about us", "contact"))
    related = "".join(
        f'<li><a href="/{i}">{t}</a><span>5 min read</span>'
        for i, t in enumerate(["Ten ransomware trends for next year", "Why phishing still works", "How to dump credentials from memory"])
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{TITLE} | Quillon Security</title>
<style>
@media print {{ nav, aside, .skip-link, .cookie-consent, .share, .related, footer, header.site {{ display: none }} }}
body {{ font-family: "Liberation Serif", serif; hyphens: auto; text-align: justify; max-width: 46em }}
td, th {{ border: 1px solid #999; padding: 4px }}
</style>
<script>window.dataLayer = ["<p>They exfiltrated data over DNS.</p>"];</script></head>
<body class="post-template has-sidebar">
<a class="skip-link" href="#content">Skip to content</a>
<div class="cookie-consent" role="dialog"><p>We and our partners use cookies to measure traffic, to show you advertisements and to log
your keystrokes of consent. By clicking accept you agree.</p><button>Accept all</button><a href="/privacy">Privacy policy</a></div>
<header class="site"><a href="/">Quillon Security</a><nav><ul class="menu">{menu}</ul></nav></header>
<div class="layout"><div class="column-main"><article class="post">
<div class="share"><span>Share this</span><a href="#">Mail</a><a href="#">Print</a></div>
{html}
</article>
<div class="related"><h3>Related articles</h3><ul>{related}</ul></div>
</div>
<aside class="sidebar"><h3>Newsletter</h3><p>Subscribe to learn how attackers brute force passwords and steal cookies.</p>
<form><input type="email" placeholder="Your address"><button>Subscribe</button></form></aside></div>
<footer><p>© Quillon Security. Disclaimer: web shells, keyloggers and ransomware are mentioned for information only.</p>
<ul>{menu}</ul></footer>
</body></html>
"""


def writer(source, target):
    """Adds a running header and footer, hyphenation and justified lines to an ODT."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in archive.infolist():
            data = archive.read(entry)
            if entry.filename == "styles.xml":
                text = data.decode("utf-8")
                margins = '<style:header-footer-properties fo:min-height="1cm" fo:margin-bottom="0.4cm" fo:margin-top="0.4cm"/>'
                both = f"<style:header-style>{margins}</style:header-style><style:footer-style>{margins}</style:footer-style>"
                text = re.sub(r"<style:header-style\s*/>\s*<style:footer-style\s*/>", both, text)
                running = (
                    f"<style:header><text:p>{TITLE} – Confidential</text:p></style:header>"
                    "<style:footer><text:p>Quillon Security, incident report 7, page "
                    "<text:page-number>1</text:page-number></text:p></style:footer>"
                )
                text = re.sub(r"(<style:master-page [^>]*?)\s*/>", rf"\1>{running}</style:master-page>", text)
                text = re.sub(r'fo:hyphenate="false"', 'fo:hyphenate="true"', text)
                data = text.encode("utf-8")
            out.writestr(entry, data)


def latex(layout, body):
    """The narrative as an article with running heads."""
    text = open(body, encoding="utf-8").read()
    text = re.sub(r"\\(tightlist|endhead)|\\def\\labelenumi\{.*?\}\n", "", text)
    # Neither long tables nor long commands fit into two columns as they are.
    narrow = lambda m: r"\noindent\begin{tabularx}{\linewidth}{@{}" + "l" + r">{\raggedright\arraybackslash}X" * (len(m.group(1)) - 1) + "@{}}"
    text = re.sub(r"\\begin\{longtable\}\[\]\{@\{\}(l+)@\{\}\}", narrow, text).replace(r"\end{longtable}", r"\end{tabularx}")
    text = text.replace("{verbatim}", "{lstlisting}")
    width = "a4paper,10pt,twocolumn" if layout == "twocolumn" else "a4paper,11pt"
    return (
        rf"""\documentclass[{width}]{{article}}
\usepackage[T1]{{fontenc}}\usepackage{{lmodern}}\usepackage[utf8]{{inputenc}}\usepackage{{fancyhdr}}\usepackage{{hyperref}}
\usepackage{{tabularx}}\usepackage{{booktabs}}\usepackage{{listings}}
\lstset{{basicstyle=\ttfamily\footnotesize,breaklines,columns=fullflexible,keepspaces,upquote}}
\usepackage{{textcomp}}
\pagestyle{{fancy}}\fancyhf{{}}\lhead{{{TITLE}}}\rhead{{Confidential}}\cfoot{{\thepage}}\setcounter{{secnumdepth}}{{0}}
\hypersetup{{pdftitle={{{TITLE}}}}}
\begin{{document}}\thispagestyle{{fancy}}
"""
        + text
        + "\n\\end{document}\n"
    )


def scan():
    """A page with an image of lines and no text."""
    width, height = 200, 280
    image = bytes(0 if y % 14 < 4 and 20 < x < 180 and (x * 7 + y) % 11 else 255 for y in range(height) for x in range(width))
    packed = zlib.compress(image, 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /XObject << /Im0 5 0 R >> >> >>",
        b"<< /Length 31 >>\nstream\nq 595 0 0 842 0 0 cm /Im0 Do Q\nendstream",
        b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream"
        % (width, height, len(packed), packed),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % p for p in places)
    return out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "writer":
        writer(*arguments)
    elif command == "scan":
        sys.stdout.buffer.write(scan())
    else:
        sys.stdout.write({"page": page, "latex": latex}[command](*arguments))
