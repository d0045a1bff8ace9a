//! gzip and zstd, inflated within bounds.

use std::io::Read;

use super::{Error, MAX_INFLATION, MAX_TEXT_BYTES};

/// Up to this size what a part inflates to isn't set against its compressed size: a page of blanks packs well.
const RATIO_GRACE: u64 = 1 << 20;

/// The content of a gzip (all members) or zstd stream; none where the bytes are neither.
///
/// # Errors
/// Where it is cut off or damaged, or inflates to more than the bounds.
pub(super) fn inflate(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let damaged = |what: &str| Error::Damaged { kind: super::Kind::Text, what: format!("the {what} stream is cut off or broken") };
    match bytes {
        [0x1f, 0x8b, 8, ..] => read(flate2::bufread::MultiGzDecoder::new(bytes), bytes.len(), || damaged("gzip")).map(Some),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder =
                ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, MAX_TEXT_BYTES).map_err(|_| damaged("zstd"))?;
            read(decoder, bytes.len(), || damaged("zstd")).map(Some)
        }
        _ => Ok(None),
    }
}

/// Reads a decoder to its end, in steps, so that a bomb is noticed before it is in memory.
pub(super) fn read(mut decoder: impl Read, compressed: usize, damaged: impl Fn() -> Error) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let count = match decoder.read(&mut buffer) {
            Ok(0) => return Ok(out),
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(damaged()),
        };
        out.extend_from_slice(&buffer[..count]);
        within(out.len() as u64, compressed as u64)?;
        if out.len() as u64 > MAX_TEXT_BYTES {
            return Err(Error::TooLarge);
        }
    }
}

/// Whether a part may have inflated so far.
///
/// # Errors
/// Where it is a bomb.
pub(super) fn within(inflated: u64, compressed: u64) -> Result<(), Error> {
    if inflated > RATIO_GRACE && inflated > compressed.saturating_mul(MAX_INFLATION) {
        return Err(Error::Bound(format!("it inflates to more than {MAX_INFLATION} times its size (a decompression bomb?)")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_inflated_and_bombs_are_not() {
        assert_eq!(inflate(b"text").unwrap(), None);
        let text = b"They dumped LSASS memory.".repeat(100);
        let packed = gzip(&text);
        assert_eq!(inflate(&packed).unwrap().unwrap(), text);
        let twice: Vec<u8> = packed.iter().chain(&packed).copied().collect();
        assert_eq!(inflate(&twice).unwrap().unwrap().len(), text.len() * 2, "all members");
        let zstd = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
        assert_eq!(inflate(&zstd).unwrap().unwrap(), text);
        for bytes in [&packed, &zstd] {
            assert!(matches!(inflate(&bytes[..bytes.len() - 10]), Err(Error::Damaged { .. })));
        }
        assert!(matches!(inflate(&gzip(&vec![0; 8 << 20])), Err(Error::Bound(_))));
    }
}
