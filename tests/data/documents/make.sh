#!/usr/bin/env bash
# Makes the documents of this folder from narrative.md with the programs that people make such documents with. Debian:
#   apt-get install pandoc libreoffice-writer-nogui hyphen-en-us chromium texlive-latex-recommended texlive-fonts-recommended qpdf s-nail poppler-utils
# The results are committed: the tests need none of these programs. Run it after a change of narrative.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1762000000 FORCE_SOURCE_DATE=1

# Plain text as a person would send it: wrapped, with blank lines.
pandoc narrative.md -t plain --columns=100 -o narrative.txt

# A web page with all that stands around an article.
pandoc narrative.md -t html5 -o "$work/body.html"
python3 make.py page "$work/body.html" > narrative.html

# Word processor: DOCX through LibreOffice Writer, with a running header and footer, and its PDF export.
pandoc narrative.md -t odt -o "$work/narrative.odt"
python3 make.py writer "$work/narrative.odt" "$work/headed.odt"
(cd "$work" && soffice --headless --convert-to docx:"MS Word 2007 XML" headed.odt > /dev/null && soffice --headless --convert-to pdf headed.odt > /dev/null)
cp "$work/headed.docx" narrative.docx
cp "$work/headed.pdf" narrative-writer.pdf

# LaTeX: one column and two, with headers, footers and hyphenation.
for layout in onecolumn twocolumn; do
  pandoc narrative.md -t latex --columns=100 -o "$work/body.tex"
  python3 make.py latex "$layout" "$work/body.tex" > "$work/$layout.tex"
  (cd "$work" && pdflatex -interaction=batchmode "$layout.tex" > /dev/null && pdflatex -interaction=batchmode "$layout.tex" > /dev/null)
  cp "$work/$layout.pdf" "narrative-latex-$layout.pdf"
done

# Printed from a browser, with the browser's own header and footer.
cp narrative.html "$work/print.html"
chromium --headless --no-sandbox --disable-gpu --print-to-pdf="$work/chromium.pdf" "file://$work/print.html" 2> /dev/null
cp "$work/chromium.pdf" narrative-chromium.pdf

# Mail, as s-nail sends it: the text, and the DOCX attached.
cat > "$work/mta" <<'EOF'
#!/bin/sh
cat > "$0.eml"
EOF
chmod +x "$work/mta"
s-nail -n -S mta="$work/mta" -S ttycharset=utf-8 -S sendcharsets=utf-8 -S from=response@example.com -S hostname=example.com \
  -S message-id-disable -s "Intrusion at Tamarisk Logistics" -a narrative.docx board@example.com < narrative.txt
for _ in 1 2 3 4 5; do [ -s "$work/mta.eml" ] || sleep 1; done
cp "$work/mta.eml" narrative.eml

# What is refused: a page without text, and one that needs a password.
python3 make.py scan > narrative-scan.pdf
qpdf --encrypt orchard owner 256 -- narrative-scan.pdf narrative-encrypted.pdf
