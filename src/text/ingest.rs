//! Foreign bytes as text: encodings, bounds.

use std::io::Read;
use std::path::Path;

use super::MAX_TEXT_BYTES;

/// Why an input gives no text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It can't be read.
    #[error("reading it")]
    Read(#[source] std::io::Error),
    /// Over [`MAX_TEXT_BYTES`].
    #[error("larger than {} MiB, the most that one document may have", MAX_TEXT_BYTES >> 20)]
    TooLarge,
    /// It has bytes that no text has.
    #[error("not text: {0}")]
    NotText(&'static str),
}

/// Reads one input to its end, within the bound.
///
/// # Errors
/// Where reading fails or there is more than the bound.
pub fn read_bounded(reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::Read)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES { Err(Error::TooLarge) } else { Ok(bytes) }
}

/// Reads one file within the bound. Anything but a regular file (a FIFO, a device) is refused.
///
/// # Errors
/// As [`read_bounded`].
pub fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let file = std::fs::metadata(path)
        .and_then(|meta| if meta.is_file() { std::fs::File::open(path) } else { Err(std::io::Error::other("not a regular file")) });
    read_bounded(file.map_err(Error::Read)?)
}

/// Bytes as text: UTF-8 or, by its byte order mark, UTF-16; a byte order mark is dropped. What is no UTF-8 is
/// read as Windows-1252, of which every byte is a character, unless it holds zero bytes: that is no text.
///
/// # Errors
/// Where the bytes are binary.
pub fn decode(bytes: Vec<u8>) -> Result<String, Error> {
    let utf16 = |rest: &[u8], pair: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.chunks_exact(2).map(|c| pair([c[0], c[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => return Ok(utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => return Ok(utf16(rest, u16::from_be_bytes)),
        _ => {}
    }
    let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => rest.to_vec(),
        None => bytes,
    };
    if bytes.contains(&0) {
        return Err(Error::NotText("it holds zero bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(e) => Ok(e.into_bytes().into_iter().map(windows_1252).collect()),
    }
}

/// The WHATWG index of Windows-1252 for the bytes where it differs from Latin-1.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•',
        '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let cases: [(&[u8], &str); 5] = [
            (b"plain", "plain"),
            (b"\xef\xbb\xbfmark", "mark"),
            (b"\xff\xfea\0b\0", "ab"),
            (b"\xfe\xff\0a\0b", "ab"),
            (b"caf\xe9 \x93quoted\x94", "café “quoted”"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(bytes.to_vec()).unwrap(), expected);
        }
        assert!(matches!(decode(b"MZ\0\x01".to_vec()), Err(Error::NotText(_))));
    }

    #[test]
    fn more_than_the_bound_is_refused() {
        assert!(matches!(read_bounded(std::io::repeat(b'a')), Err(Error::TooLarge)));
    }
}
