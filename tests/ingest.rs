//! Documents of every kind: the text a person would read, the same answers from each, and hostile ones refused.
//! The documents of tests/data/documents are made by its make.sh from one narrative.

#![cfg(all(feature = "pdf", feature = "docx"))]

mod support;

use std::collections::BTreeMap;
use std::io::Write;

use proptest::prelude::*;
use support::root;
use ttpmap::ingest::{Error, Hints, Kind, Options, Part, read};
use ttpmap::text::SegmentKind;
use ttpmap::{Document, Index, Mapper};

fn bytes(name: &str) -> Vec<u8> {
    let path = root().join("tests/data/documents").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn parts(bytes: Vec<u8>, name: &str) -> Result<Vec<Part>, Error> {
    read(bytes, Hints { name: Some(name), ..Hints::default() }, &Options::default())
}

fn document(name: &str) -> Document {
    let mut all = parts(bytes(name), name).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(all.len(), 1, "{name}");
    all.pop().unwrap().document.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The documents, with the segments of each kind that they have in common with the narrative.
const DOCUMENTS: [&str; 9] = [
    "narrative.txt",
    "narrative.md",
    "narrative.html",
    "narrative.docx",
    "narrative.eml",
    "narrative-writer.pdf",
    "narrative-chromium.pdf",
    "narrative-latex-onecolumn.pdf",
    "narrative-latex-twocolumn.pdf",
];

/// Words as a reader sees them: markup, quotes, dashes and list marks are none.
fn words(text: &str) -> Vec<String> {
    let text = text.replace(['“', '”', '"'], "").replace('’', "'");
    let trimmed = text.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned());
    // The number of a list item is its mark.
    trimmed.filter(|w| !(w.is_empty() || w.len() == 1 && w.as_bytes()[0].is_ascii_digit())).collect()
}

/// Length of the longest common subsequence, in order.
fn in_common(a: &[String], b: &[String]) -> usize {
    let mut lengths = vec![0_usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = lengths[j + 1];
            lengths[j + 1] = if x == y { diagonal + 1 } else { above.max(lengths[j]) };
            diagonal = above;
        }
    }
    lengths[b.len()]
}

#[test]
fn the_comparison_notices_what_is_wrong() {
    let a = words("one two three four");
    assert_eq!(in_common(&a, &words("one two three four")), 4);
    assert_eq!(in_common(&a, &words("one three two four")), 3);
    assert_eq!(in_common(&a, &words("four")), 1);
    assert_eq!(in_common(&a, &[]), 0);
}

/// 98 of 100 words of the narrative, in order, and hardly a word that isn't its own.
#[test]
fn every_document_gives_the_text_that_a_person_would_read() {
    let expected = words(&String::from_utf8(bytes("narrative.md")).unwrap());
    let mut wrong = Vec::new();
    for name in DOCUMENTS {
        let found = words(document(name).text());
        let common = in_common(&expected, &found);
        let (kept, own) = (common as f64 / expected.len() as f64, common as f64 / found.len() as f64);
        eprintln!("{name}: {:.1} % of the narrative's words, {:.1} % of its own", kept * 100.0, own * 100.0);
        if kept < 0.98 || own < 0.98 {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_of_what_stands_around_is_left() {
    for (name, absent) in [
        ("narrative.html", &["cookies", "Related", "Subscribe", "Disclaimer", "over DNS", "Products", "Share this"][..]),
        ("narrative-writer.pdf", &["Confidential", "incident report 7"]),
        ("narrative.docx", &["Confidential", "incident report 7"]),
        ("narrative-latex-onecolumn.pdf", &["Confidential"]),
        ("narrative-latex-twocolumn.pdf", &["Confidential"]),
        ("narrative-chromium.pdf", &["file://"]),
    ] {
        let text = document(name).text().to_owned();
        for part in absent {
            assert!(!text.contains(part), "{name} holds {part:?}:\n{text}");
        }
        assert_eq!(text.matches("Intrusion at Tamarisk Logistics").count(), 1, "{name}");
        for line in text.lines() {
            assert!(line.parse::<u32>().is_err(), "{name}: page number {line}");
        }
    }
}

#[test]
fn hyphens_at_line_ends_are_joined_and_others_stay() {
    for name in DOCUMENTS {
        let text = document(name).text().replace('\n', " ");
        for whole in
            ["BloodHound", "password-protected", "customs-form.docm", "multi-factor", "hxxps://cdn.tamarisk-parts[.]example/update"]
        {
            assert!(text.contains(whole), "{name} has no {whole}");
        }
    }
}

#[test]
fn structure_is_known() {
    for name in DOCUMENTS.into_iter().filter(|n| *n != "narrative.txt" && *n != "narrative.eml") {
        let document = document(name);
        let of = |kind: SegmentKind| -> Vec<&str> {
            document.segments().iter().filter(|s| s.kind == kind).map(|s| s.span.of(document.text())).collect()
        };
        let headings: Vec<&str> = of(SegmentKind::Heading).into_iter().map(|h| h.trim_start_matches(['#', ' '])).collect();
        let expected = [
            "Intrusion at Tamarisk Logistics",
            "Summary",
            "How they came in",
            "What they did inside",
            "Table of hosts",
            "Impact",
            "What did not happen",
            "What we advise",
            "Indicators",
        ];
        assert_eq!(headings, expected, "{name}");
        assert!(of(SegmentKind::Item).len() >= 8, "{name}: {:?}", of(SegmentKind::Item));
        let rows = of(SegmentKind::Row);
        assert!(rows.iter().any(|r| r.contains("DC01 | domain controller | ntds.dit copied, logs cleared")), "{name}: {rows:?}");
        let code = of(SegmentKind::Code).join("\n");
        assert!(code.contains("vssadmin delete shadows /all /quiet") && code.contains("net stop MSSQLSERVER"), "{name}: {code}");
    }
}

#[test]
fn every_byte_has_its_page_or_paragraph() {
    let pdf = document("narrative-latex-twocolumn.pdf");
    let at = |part: &str| pdf.origin(pdf.text().find(part).unwrap_or_else(|| panic!("{part}"))).page;
    assert_eq!((at("Prepared by"), at("Block macros")), (Some(1), Some(2)));
    let docx = document("narrative.docx");
    let paragraphs: Vec<u32> = docx.segments().iter().filter_map(|s| docx.origin(s.span.start).paragraph).collect();
    assert_eq!(paragraphs.len(), docx.segments().len());
    assert!(paragraphs.is_sorted() && paragraphs[0] == 1);
    assert_eq!(pdf.title(), Some("Intrusion at Tamarisk Logistics"));
    assert_eq!(document("narrative.eml").title(), Some("Intrusion at Tamarisk Logistics"));
}

/// What a document tells by its structure, as a block of code, another kind of document lacks: so little above the threshold a
/// technique may pass in one and not in another.
const NEAR: f32 = 0.05;

#[test]
fn every_document_gives_the_same_techniques_and_statuses() {
    let index = Index::embedded();
    let mapper = Mapper::new(&index);
    let answers = |name: &str| -> BTreeMap<String, (String, f32)> {
        let mapping = mapper.map(&document(name), &Default::default());
        mapping.techniques.iter().map(|t| (t.id.to_string(), (t.status.to_string(), t.confidence))).collect()
    };
    let sure = mapper.default_min_confidence(Default::default()) + NEAR;
    let expected = answers("narrative.md");
    assert!(expected.values().filter(|(_, confidence)| *confidence >= sure).count() >= 15, "{expected:?}");
    let mut wrong = Vec::new();
    for name in DOCUMENTS {
        let found = answers(name);
        let only = |a: &BTreeMap<String, (String, f32)>, b: &BTreeMap<String, (String, f32)>| -> Vec<String> {
            let differs =
                |id: &String, status: &String, confidence: f32| b.get(id).map_or(confidence >= sure, |(other, _)| other != status);
            let of = a.iter().filter(|(id, (status, confidence))| differs(id, status, *confidence));
            of.map(|(id, (status, confidence))| format!("{id} {status} {confidence}")).collect()
        };
        let (lacks, has) = (only(&expected, &found), only(&found, &expected));
        if !lacks.is_empty() || !has.is_empty() {
            wrong.push(format!("{name}: lacks {lacks:?}, has {has:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packed_documents_are_read_as_they_are() {
    for name in ["narrative.txt", "narrative.docx", "narrative-writer.pdf"] {
        let plain = document(name);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&bytes(name)).unwrap();
        let packed = gzip.finish().unwrap();
        let read = parts(packed, &format!("{name}.gz")).unwrap().pop().unwrap().document.unwrap();
        assert_eq!((read.text(), read.segments()), (plain.text(), plain.segments()));
    }
}

#[test]
fn attachments_of_a_real_mail_are_documents() {
    let options = Options { attachments: true, ..Options::default() };
    let all = read(bytes("narrative.eml"), Hints::default(), &options).unwrap();
    assert_eq!(all.iter().map(|p| p.name.as_deref()).collect::<Vec<_>>(), [None, Some("narrative.docx")]);
    assert_eq!(all[1].document.as_ref().unwrap().text(), document("narrative.docx").text());
}

fn error(bytes: Vec<u8>, name: &str) -> String {
    match parts(bytes, name) {
        Ok(all) => match all.into_iter().find_map(|p| p.document.err()) {
            Some(error) => error.to_string(),
            None => "none".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

/// A PDF of one page with this content, and more objects from number 5 on.
fn pdf(content: &str, resources: &str, more: &str) -> Vec<u8> {
    format!(
        "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1>>\nendobj\n\
         3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<<{resources}>>>>\nendobj\n\
         4 0 obj\n<</Length {}>>\nstream\n{content}\nendstream\nendobj\n{more}\ntrailer\n<</Root 1 0 R>>\n%%EOF\n",
        content.len()
    )
    .into_bytes()
}

#[test]
fn hostile_documents_are_refused_with_a_word_on_why() {
    let font = "/Font<</F 5 0 R>>";
    let helvetica = "5 0 obj\n<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>\nendobj\n";
    let shown = pdf("BT /F 12 Tf 50 700 Td (They ran whoami.) Tj ET", font, helvetica);
    assert_eq!(parts(shown, "a.pdf").unwrap()[0].document.as_ref().unwrap().text(), "They ran whoami.\n");
    let form = |number: usize, calls: usize| {
        let content = format!("/X{} Do ", number + 1).repeat(calls);
        format!(
            "{number} 0 obj\n<</Type/XObject/Subtype/Form/BBox[0 0 1 1]/Resources<</XObject<</X{} {} 0 R>>>>/Length {}>>\nstream\n{content}\nendstream\nendobj\n",
            number + 1,
            number + 1,
            content.len()
        )
    };
    // A form that draws itself, and forms that draw each other ten times over.
    let own = "6 0 obj\n<</Type/XObject/Subtype/Form/BBox[0 0 1 1]/Resources<</XObject<</X 6 0 R>>>>/Length 5>>\nstream\n/X Do\nendstream\nendobj\n";
    let looped = pdf("/X Do", "/XObject<</X 6 0 R>>", own);
    let laughs = pdf("/X6 Do", "/XObject<</X6 6 0 R>>", &(6..22).map(|n| form(n, 10)).collect::<String>());
    let page_loop = String::from_utf8(pdf("", "", "")).unwrap().replace("/Kids[3 0 R]", "/Kids[2 0 R 2 0 R]").into_bytes();
    let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    deflated.write_all(&vec![b' '; 80 << 20]).unwrap();
    let deflated = deflated.finish().unwrap();
    let mut bomb = format!("%PDF-1.4\n1 0 obj\n<</Filter/FlateDecode/Length {}>>\nstream\n", deflated.len()).into_bytes();
    bomb.extend(&deflated);
    bomb.extend(b"\nendstream\nendobj\n");
    let mut gzip_bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip_bomb.write_all(&vec![b' '; 80 << 20]).unwrap();
    let half = |name: &str| {
        let mut all = bytes(name);
        all.truncate(all.len() / 2);
        all
    };
    for (what, bytes, name, part) in [
        ("a form in itself", looped, "a.pdf", "no text on its page"),
        ("forms in forms", laughs, "a.pdf", "million drawing steps"),
        ("a page tree in itself", page_loop, "a.pdf", "damaged PDF"),
        ("a bomb in a PDF", bomb, "a.pdf", "decompression bomb"),
        ("a bomb", gzip_bomb.finish().unwrap(), "a.txt.gz", "decompression bomb"),
        ("a scanned PDF", bytes("narrative-scan.pdf"), "a.pdf", "run OCR first"),
        ("an encrypted PDF", bytes("narrative-encrypted.pdf"), "a.pdf", "encrypted PDF: save a copy without a password"),
        ("half a DOCX", half("narrative.docx"), "a.docx", "damaged DOCX"),
        ("half a PDF header", b"%PDF-1.".to_vec(), "a.pdf", "damaged PDF"),
        ("an empty PDF", Vec::new(), "a.pdf", "empty: no PDF in it"),
        ("an empty DOCX", Vec::new(), "a.docx", "empty: no DOCX in it"),
        ("an empty page", Vec::new(), "a.html", "empty: no HTML in it"),
        ("an empty mail", Vec::new(), "a.eml", "empty: no mail in it"),
        ("half of JSON", b"{\"text\": \"a".to_vec(), "a.json", "damaged JSON"),
        ("an image", b"\x89PNG\r\n\x1a\n".to_vec(), "a.png", "run OCR first"),
        ("a program", b"\x7fELF\x02\x01\x01\0\0".to_vec(), "a", "not text"),
        ("a name that lies", b"no".to_vec(), "a.pdf", "no PDF header"),
    ] {
        let error = error(bytes, name);
        assert!(error.contains(part), "{what}: {error}");
    }
}

/// Whatever is left of a document, it is read or refused.
#[test]
fn truncated_documents_end_in_a_text_or_an_error() {
    for name in DOCUMENTS.into_iter().chain(["narrative-scan.pdf", "narrative-encrypted.pdf"]) {
        let whole = bytes(name);
        for twelfth in 1..12 {
            let _ = parts(whole[..whole.len() * twelfth / 12].to_vec(), name);
        }
    }
}

#[test]
fn pages_of_ten_thousand_nested_tags_and_long_lines_are_read() {
    let deep = "<div><ul><li><table><tr><td><b>".repeat(10_000) + "They ran whoami.";
    assert!(parts(deep.into_bytes(), "a.html").unwrap()[0].document.as_ref().unwrap().text().contains("whoami"));
    let brackets = "[".repeat(200_000);
    assert!(error(brackets.into_bytes(), "a.json").contains("damaged JSON"));
    let mail = format!("From: a@example.com\nMIME-Version: 1.0\n{}\n", "Content-Type: multipart/mixed; boundary=a\n\n--a\n".repeat(10_000));
    let _ = parts(mail.into_bytes(), "a.eml");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Bytes of a document changed: a text or an error, no panic, and spans that lie in the text.
    #[test]
    fn damaged_documents_are_read_or_refused(
        which in 0..DOCUMENTS.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let name = DOCUMENTS[which];
        let mut damaged = bytes(name);
        for (place, value) in changes {
            let at = place.index(damaged.len());
            damaged[at] = value;
        }
        if let Ok(all) = parts(damaged, name) {
            for document in all.into_iter().filter_map(|p| p.document.ok()) {
                assert_rejoins(&document);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..300), which in 0..8_usize) {
        let _ = read(noise, Hints { kind: Some(Kind::ALL[which]), ..Hints::default() }, &Options::default());
    }

    /// Pages of any tags in any order.
    #[test]
    fn segments_of_pages_rejoin_to_the_text(
        pieces in proptest::collection::vec(prop::sample::select(vec![
            "<p>", "</p>", "<div class=nav>", "</div>", "<ul>", "<li>", "</ul>", "<table>", "<tr>", "<td>", "<th>", "</table>", "<pre>",
            "</pre>", "<br>", "<h2>", "</h2>", "<b>", "</b>", " They ran whoami. ", "\n", "x\u{a0}y", "&amp;", "<script>", "</script>", "\u{ad}",
        ]), 0..60)
    ) {
        if let Ok(all) = parts(pieces.concat().into_bytes(), "a.html") {
            assert_rejoins(all[0].document.as_ref().unwrap());
        }
    }
}

/// In order, on character boundaries, nothing but white space between them.
fn assert_rejoins(document: &Document) {
    let text = document.text();
    let mut end = 0;
    for segment in document.segments() {
        assert!(segment.span.start >= end && segment.span.end > segment.span.start, "{segment:?} after {end}");
        assert!(text.get(end..segment.span.start).is_some_and(|between| between.trim().is_empty()), "before {segment:?}");
        assert!(text.get(segment.span.start..segment.span.end).is_some());
        end = segment.span.end;
    }
    assert!(text[end..].trim().is_empty());
}

#[test]
fn segments_of_every_document_rejoin_to_its_text() {
    for name in DOCUMENTS {
        assert_rejoins(&document(name));
    }
}
