//! A look at a file before it is parsed: what its streams inflate to. The parser inflates whole streams, so bombs have to
//! be found first.

use std::io::Read;

use super::damaged;
use crate::ingest::{Error, MAX_INFLATED_BYTES, MAX_PAGES, compressed};
use crate::text::MAX_TEXT_BYTES;

/// The most that DEFLATE can inflate; LZW as PDF has it stays below.
pub(super) const MAX_DEFLATE: u64 = 1032;
/// Streams smaller than this are no danger whatever is in them.
const HARMLESS: usize = 1024;
/// A stream's dictionary is looked for so far before it.
const MAX_DICTIONARY: usize = 4096;

/// Counts what the streams of a file inflate to, those of images left out: they are never inflated.
///
/// # Errors
/// Where it is too much.
pub(super) fn check(bytes: &[u8]) -> Result<(), Error> {
    // The parser makes something of every page before it can be asked how many there are.
    let page = |at: usize| bytes.get(at + 5).is_none_or(|b| !b.is_ascii_alphanumeric());
    let named = std::iter::successors(find(bytes, 0, b"/Page"), |at| find(bytes, at + 5, b"/Page")).filter(|at| page(*at));
    if named.take(4 * MAX_PAGES + 1).count() > 4 * MAX_PAGES {
        return Err(Error::Bound(format!("more pages than {MAX_PAGES}")));
    }
    let mut total = 0_u64;
    let mut at = 0;
    let mut before = 0;
    while let Some(found) = find(bytes, at, b"stream") {
        at = found + 6;
        if bytes[..found].ends_with(b"end") {
            before = at;
            continue;
        }
        let start = match &bytes[at..] {
            [b'\r', b'\n', ..] => at + 2,
            [b'\n' | b'\r', ..] => at + 1,
            _ => continue,
        };
        let end = find(bytes, start, b"endstream").unwrap_or(bytes.len());
        let dictionary = &bytes[found.saturating_sub(MAX_DICTIONARY).max(before.min(found))..found];
        at = end;
        before = end;
        let holds = |name: &[u8]| dictionary.windows(name.len()).filter(|w| *w == name).count();
        let length = end - start;
        if length <= HARMLESS && holds(b"Decode") + holds(b"/Fl") <= 1 || holds(b"/Image") > 0 {
            continue;
        }
        let compressing = holds(b"FlateDecode") + holds(b"/Fl ") + holds(b"/Fl/") + holds(b"/Fl]") + holds(b"LZW") + holds(b"RunLength");
        if compressing > 1 {
            return Err(Error::Bound("a stream of the PDF is compressed several times over".to_owned()));
        }
        if holds(b"LZW") > 0 && length as u64 * MAX_DEFLATE > MAX_INFLATED_BYTES {
            return Err(Error::Bound("a stream of the PDF is packed with LZW and too long".to_owned()));
        }
        total += inflated(&bytes[start..end])?;
        if total > MAX_INFLATED_BYTES {
            return Err(Error::Bound(format!("the PDF's streams inflate to more than {} MiB", MAX_INFLATED_BYTES >> 20)));
        }
    }
    Ok(())
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let first = what[0];
    let mut at = from;
    while let Some(step) = bytes.get(at..)?.iter().position(|b| *b == first) {
        at += step;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Bytes that a stream inflates to; 0 where it isn't compressed so.
fn inflated(stream: &[u8]) -> Result<u64, Error> {
    let mut decoder = flate2::bufread::ZlibDecoder::new(stream);
    let mut buffer = [0_u8; 1 << 14];
    let mut total = 0_u64;
    // A broken stream is for the parser to judge.
    while let Ok(count @ 1..) = decoder.read(&mut buffer) {
        total += count as u64;
        compressed::within(total, stream.len() as u64)?;
        if total > MAX_TEXT_BYTES {
            return Err(Error::TooLarge);
        }
    }
    Ok(total)
}

/// The content of one stream, of which no more than `room` bytes may come.
///
/// # Errors
/// Where there is more.
pub(super) fn decode(stream: &hayro_syntax::object::Stream<'_>, room: u64) -> Result<Vec<u8>, Error> {
    use hayro_syntax::Filter;
    let full = || Error::Bound("the PDF's pages have more content than is read".to_owned());
    let filters = stream.filters();
    let raw = stream.raw_data();
    if filters[..] == [Filter::FlateDecode] && !stream.dict().contains_key(&b"DecodeParms"[..]) {
        let mut out = Vec::new();
        // What comes before a broken place is shown by every viewer.
        let _ = flate2::bufread::ZlibDecoder::new(&raw[..]).take(room + 1).read_to_end(&mut out);
        if out.len() as u64 > room {
            return Err(full());
        }
        if !out.is_empty() {
            return Ok(out);
        }
    }
    let compressing = filters.iter().filter(|f| matches!(f, Filter::FlateDecode | Filter::LzwDecode | Filter::RunLengthDecode)).count();
    let worst = (raw.len() as u64).saturating_mul(MAX_DEFLATE.saturating_pow(compressing as u32));
    if worst > MAX_INFLATED_BYTES {
        return Err(full());
    }
    let out = stream.decoded_data().map_err(|_| damaged("a content stream can't be decoded"))?;
    if out.len() as u64 > room { Err(full()) } else { Ok(out.into_owned()) }
}
