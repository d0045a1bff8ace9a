//! gzip and zstd, inflated within bounds.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Error, MAX_INFLATION, MAX_TEXT_BYTES};

/// Up to this size what a part inflates to isn't set against its compressed size: a page of blanks packs well.
const RATIO_GRACE: u64 = 1 << 20;
/// Bytes that tell how something is packed.
const MAGIC: usize = 4;

/// How something is packed.
#[derive(Clone, Copy)]
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    fn of(bytes: &[u8]) -> Option<Packing> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
            _ => None,
        }
    }

    fn damaged(self) -> Error {
        let name = match self {
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        };
        Error::Damaged { kind: super::Kind::Text, what: format!("the {name} stream is cut off or broken") }
    }
}

/// The content of a gzip (all members) or zstd (all frames) stream; none where the bytes are neither.
///
/// # Errors
/// Where it is cut off or damaged, or inflates to more than the bounds.
pub(super) fn inflate(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let Some(packing) = Packing::of(bytes) else { return Ok(None) };
    let damaged = || packing.damaged();
    match packing {
        Packing::Gzip => read(MultiGzDecoder::new(bytes), bytes.len(), damaged).map(Some),
        Packing::Zstd => read(Frames::new(bytes), bytes.len(), damaged).map(Some),
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
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
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

/// A stream as it is, or inflated where it is gzip or zstd, of any length and in bounded memory (at most a zstd window of
/// [`MAX_TEXT_BYTES`]).
///
/// # Errors
/// Where it can't be read. Reading what comes back fails with an [`Error`] inside where the stream is damaged, cut off, or
/// inflates to more than [`MAX_INFLATION`] times what was read of it.
pub fn unpacked(mut stream: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut head = Vec::new();
    (&mut stream).take(MAGIC as u64).read_to_end(&mut head)?;
    let packing = Packing::of(&head);
    let stream = Cursor::new(head).chain(stream);
    let Some(packing) = packing else { return Ok(Box::new(BufReader::with_capacity(1 << 16, stream))) };
    let packed = Arc::new(AtomicU64::new(0));
    let stream = BufReader::with_capacity(1 << 16, Counted::new(stream, Arc::clone(&packed)));
    let decoder: Box<dyn Read + Send> = match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(stream)),
        Packing::Zstd => Box::new(Frames::new(stream)),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, Inflated { decoder, packing, packed, inflated: 0 })))
}

/// Counts the bytes that are read.
pub struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// Counts into `count`, on top of what it holds.
    pub fn new(inner: R, count: Arc<AtomicU64>) -> Counted<R> {
        Counted { inner, count }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What comes out of a decoder, within the bound.
struct Inflated {
    decoder: Box<dyn Read + Send>,
    packing: Packing,
    packed: Arc<AtomicU64>,
    inflated: u64,
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            _ => io::Error::other(self.packing.damaged()),
        })?;
        self.inflated += count as u64;
        within(self.inflated, self.packed.load(Ordering::Relaxed)).map_err(io::Error::other)?;
        Ok(count)
    }
}

/// The frames of a zstd stream one after the other; the decoder knows only one.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Frames<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_TEXT_BYTES);
        Frames { source, decoder, open: false }
    }

    /// Goes to the next frame with content; false at the end of the stream.
    fn next(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                if !self.next()? {
                    return Ok(0);
                }
                self.open = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1)).map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.open = false;
        }
    }
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

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn what_is_packed_is_inflated_and_bombs_are_not() {
        assert_eq!(inflate(b"text").unwrap(), None);
        let text = b"They dumped LSASS memory.".repeat(100);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let zstd_of = |parts: &[&[u8]]| parts.concat();
        for packed in [gzip(&text), zstd(&text)] {
            assert_eq!(inflate(&packed).unwrap().unwrap(), text);
            assert!(matches!(inflate(&packed[..packed.len() - 10]), Err(Error::Damaged { .. })));
            let twice = [&packed[..], &packed].concat();
            assert_eq!(inflate(&twice).unwrap().unwrap().len(), text.len() * 2, "all members and frames");
        }
        let between = zstd_of(&[&zstd(&text), &skipped, &zstd(&text)]);
        assert_eq!(inflate(&between).unwrap().unwrap().len(), text.len() * 2, "what is to be skipped is");
        assert!(matches!(inflate(&zstd_of(&[&zstd(&text), &skipped[..9]])), Err(Error::Damaged { .. })));
        assert!(matches!(inflate(&zstd_of(&[&zstd(&text), b"more"])), Err(Error::Damaged { .. })));
        assert!(matches!(inflate(&gzip(&vec![0; 8 << 20])), Err(Error::Bound(_))));
    }

    #[test]
    fn streams_are_unpacked_as_they_come() {
        // Numbers, which don't pack too well; more than one document may have.
        let mut text = Vec::new();
        for i in 0_u64..400_000 {
            writeln!(text, "{}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
        }
        for packed in [text.clone(), gzip(&text), zstd(&text), Vec::new(), b"a".to_vec()] {
            let expected = if packed.len() > 1 { &text[..] } else { &packed[..] };
            let mut out = Vec::new();
            unpacked(Cursor::new(packed.clone())).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == expected);
        }
        for (bytes, part) in [(gzip(&text)[..100_000].to_vec(), "cut off"), (gzip(&vec![0; 8 << 20]), "bomb")] {
            let error = unpacked(Cursor::new(bytes)).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
