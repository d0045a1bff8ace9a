//! Bytes as text: which encoding, and its decoding (encoding_rs and chardetng, the ones of a web browser).

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::Error;

/// Bytes that are looked at to tell UTF-16 and binary data from text.
const PROBE: usize = 4096;
/// A text is UTF-8 with a few bytes broken where it has so many whole characters for each broken one.
const WHOLE_FOR_BROKEN: usize = 5;

/// The charset of a media type.
pub(super) fn charset(content_type: &str) -> Option<String> {
    let parameter = |p: &str| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    };
    content_type.split(';').skip(1).find_map(parameter)
}

/// Bytes as text. In this order: a byte order mark, which is dropped; valid UTF-8; UTF-16 by its zero bytes; the charset
/// given; UTF-8 with a few broken bytes; what the bytes look like (Windows-1252 and its kin).
///
/// # Errors
/// Where the bytes are binary.
pub(super) fn decode(bytes: Vec<u8>, charset: Option<&str>) -> Result<String, Error> {
    if let Some((encoding, mark)) = Encoding::for_bom(&bytes) {
        return Ok(encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned());
    }
    if let Some(encoding) = utf16(&bytes) {
        return Ok(encoding.decode_without_bom_handling(&bytes).0.into_owned());
    }
    if bytes.contains(&0) {
        return Err(Error::NotText("it holds zero bytes"));
    }
    let probe = &bytes[..bytes.len().min(PROBE)];
    let control = probe.iter().filter(|b| **b < 0x20 && !matches!(**b, b'\t' | b'\n' | b'\r' | 0x0c | 0x08 | 0x1b)).count();
    if control * 10 > probe.len() {
        return Err(Error::NotText("it holds control characters throughout"));
    }
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(e) => e.into_bytes(),
    };
    let named = charset.and_then(|label| Encoding::for_label(label.as_bytes())).filter(|e| *e != UTF_8);
    let encoding = named.unwrap_or_else(|| if nearly_utf8(&bytes) { UTF_8 } else { detect(&bytes) });
    Ok(encoding.decode_without_bom_handling(&bytes).0.into_owned())
}

/// The same for HTML, which may name its charset itself within its first KiB.
pub(super) fn decode_html(bytes: Vec<u8>, charset: Option<&str>) -> Result<String, Error> {
    let own = if charset.is_some() { None } else { meta_charset(&bytes) };
    decode(bytes, charset.or(own.as_deref()))
}

fn meta_charset(bytes: &[u8]) -> Option<String> {
    let head = bytes[..bytes.len().min(1024)].to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head);
    let after = &head[head.find("charset=")? + "charset=".len()..];
    let label: String =
        after.trim_start_matches(['"', '\'']).chars().take_while(|c| c.is_ascii_alphanumeric() || "-_:".contains(*c)).collect();
    (!label.is_empty()).then_some(label)
}

/// UTF-16 of a text that is mostly Latin: every other byte of its beginning is zero, hardly any of the rest.
fn utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let probe = &bytes[..bytes.len().min(PROBE)];
    if probe.len() < 4 || bytes.len() % 2 == 1 {
        return None;
    }
    let zeros = |from: usize| probe.iter().skip(from).step_by(2).filter(|b| **b == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), probe.len() / 2);
    match () {
        () if odd * 10 >= half * 7 && even * 50 <= half => Some(UTF_16LE),
        () if even * 10 >= half * 7 && odd * 50 <= half => Some(UTF_16BE),
        () => None,
    }
}

fn nearly_utf8(bytes: &[u8]) -> bool {
    let (mut whole, mut broken) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    whole >= broken * WHOLE_FOR_BROKEN
}

fn detect(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Deny)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let wide = |text: &str, big: bool| -> Vec<u8> {
            text.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
        };
        let text = "The café’s server was “encrypted”.";
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (b"plain".to_vec(), "plain"),
            (Vec::new(), ""),
            (b"\xef\xbb\xbfmark".to_vec(), "mark"),
            (b"\xff\xfea\0b\0".to_vec(), "ab"),
            (b"\xfe\xff\0a\0b".to_vec(), "ab"),
            (wide(text, false), text),
            (wide(text, true), text),
            (b"caf\xe9 \x93quoted\x94".to_vec(), "café “quoted”"),
            ("naïve café résumé señor über façade".bytes().chain(*b" \xff").collect(), "naïve café résumé señor über façade \u{fffd}"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(bytes, None).unwrap(), expected);
        }
        assert_eq!(decode(b"\xcf\xf0\xe8\xe2\xe5\xf2".to_vec(), Some("windows-1251")).unwrap(), "Привет");
        for binary in [&b"MZ\0\x01"[..], b"\x01\x02\x03\x04text"] {
            assert!(matches!(decode(binary.to_vec(), None), Err(Error::NotText(_))));
        }
    }

    #[test]
    fn charsets_are_read_where_they_are_named() {
        assert_eq!(charset("text/plain; format=flowed; Charset=\"utf-8\"").as_deref(), Some("utf-8"));
        assert_eq!(charset("text/plain"), None);
        let page = b"<html><head><meta charset='windows-1251'></head><p>\xcf\xf0\xe8\xe2\xe5\xf2".to_vec();
        assert!(decode_html(page, None).unwrap().ends_with("Привет"));
    }
}
