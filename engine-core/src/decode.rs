//! Compressed and plain archives as one readable stream: gzip, zstd, bzip2 and xz.
//!
//! The compression is told from the first bytes, as other engines do: registries hold layers whose media type
//! is wrong, and the diff ID decides what the content is anyway. Layers are never compressed by bzip2 or xz.
//!
//! Invariant: what a source makes the decoder hold is bounded by the largest window, and [`Bounded`] has what comes out bounded by
//! what goes in (SECURITY C4).

use std::fmt;
use std::io::{self, BufRead, Read};

use crate::descriptor::media_type::Compression;
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Above this, ruzstd refuses to use a decoder a second time.
const REUSABLE_WINDOW: u64 = 100 << 20;
/// The largest window of an archive that somebody hands us.
pub(crate) const MAX_WINDOW: u64 = 128 << 20;
/// How many times larger than it came an archive may become; looked at from 256 MiB on.
pub(crate) const MAX_RATIO: u64 = 1000;
pub(crate) const RATIO_FROM: u64 = 256 << 20;
/// What the decoder of xz holds besides its window, in KiB.
const XZ_OVERHEAD: u32 = 256;

/// A decompressing reader.
pub(crate) enum Decoder<R: Read> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<ZstdReader<R>>),
    Bzip2(Box<MultiBzDecoder<R>>),
    Xz(Box<XzReader<R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first buffer of `source`, which must hold at least four bytes if there are that many.
    pub(crate) fn new(mut source: R, max_window: u64) -> io::Result<Self> {
        let start = source.fill_buf()?;
        Ok(match start {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Self::Zstd(Box::new(ZstdReader::new(source, max_window)))
            }
            [b'B', b'Z', b'h', ..] => Self::Bzip2(Box::new(MultiBzDecoder::new(source))),
            [0xfd, b'7', b'z', b'X', ..] => {
                let kib = u32::try_from(max_window / 1024).unwrap_or(u32::MAX - 1);
                Self::Xz(Box::new(XzReader::new_mem_limit(source, true, kib.saturating_add(XZ_OVERHEAD))))
            }
            _ => Self::Plain(source),
        })
    }

    /// How the source is compressed, in the words for layers; `None` if no layer is.
    pub(crate) fn compression(&self) -> Option<Compression> {
        match self {
            Self::Plain(_) => Some(Compression::None),
            Self::Gzip(_) => Some(Compression::Gzip),
            Self::Zstd(_) => Some(Compression::Zstd),
            Self::Bzip2(_) | Self::Xz(_) => None,
        }
    }

    /// The reader beneath.
    pub(crate) fn source(&mut self) -> &mut R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(reader) => &mut reader.source,
            Self::Bzip2(decoder) => decoder.get_mut(),
            Self::Xz(reader) => reader.inner_mut(),
        }
    }

    pub(crate) fn into_inner(self) -> R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(reader) => reader.source,
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::Xz(reader) => reader.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
            Self::Zstd(reader) => reader.read(buf),
            // The data is what is invalid here.
            Self::Bzip2(decoder) => decoder.read(buf).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => io::Error::new(io::ErrorKind::InvalidData, error),
                _ => error,
            }),
            Self::Xz(reader) => reader.read(buf),
        }
    }
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
            Self::Bzip2(_) => "Bzip2",
            Self::Xz(_) => "Xz",
        })
    }
}

/// A decoder whose output ends in an error where it grows beyond all reason.
pub(crate) struct Bounded<R: BufRead> {
    decoder: Decoder<Counted<R>>,
    total: u64,
}

/// Counts the bytes that are taken.
pub(crate) struct Counted<R> {
    source: R,
    taken: u64,
}

impl<R: BufRead> Bounded<R> {
    /// As [`Decoder::new`], with the largest window of an archive.
    pub(crate) fn new(source: R) -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new(Counted { source, taken: 0 }, MAX_WINDOW)?, total: 0 })
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buf)?;
        self.total += count as u64;
        if self.total > RATIO_FROM && self.total / MAX_RATIO > self.decoder.source().taken {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("the archive grows more than {MAX_RATIO} times"),
            ));
        }
        Ok(count)
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        self.taken += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.taken += count as u64;
    }
}

/// A sequence of zstd frames (RFC 8878), skippable ones among them.
pub(crate) struct ZstdReader<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
    max_window: u64,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(source: R, max_window: u64) -> Self {
        Self { source, decoder: FrameDecoder::new(), in_frame: false, max_window }
    }

    /// Begins the next frame; `false` at the end of the source.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            let mut header = [0; 18];
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.source.read_exact(&mut header[..4])?;
            let magic = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            if magic & 0xffff_fff0 == 0x184d_2a50 {
                let mut size = [0; 4];
                self.source.read_exact(&mut size)?;
                let size = u64::from(u32::from_le_bytes(size));
                if io::copy(&mut (&mut self.source).take(size), &mut io::sink())? != size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            if magic != 0xfd2f_b528 {
                return Err(corrupt("data behind the last zstd frame"));
            }
            let length = self.read_header(&mut header)?;
            let window = window_size(&header[..length]);
            if window > self.max_window {
                return Err(io::Error::new(
                    io::ErrorKind::OutOfMemory,
                    format!(
                        "the zstd frame asks for a window of {window} bytes, {} are allowed",
                        self.max_window
                    ),
                ));
            }
            // The decoder reserves the window of a frame that is not its first, up to a limit of its own.
            if window > REUSABLE_WINDOW {
                self.decoder = FrameDecoder::new();
            }
            self.decoder.init(&mut header[..length].chain(&mut self.source)).map_err(zstd_error)?;
            return Ok(true);
        }
    }

    /// Reads the rest of the frame header (RFC 8878, 3.1.1.1) behind the magic; returns the length with it.
    fn read_header(&mut self, header: &mut [u8; 18]) -> io::Result<usize> {
        self.source.read_exact(&mut header[4..5])?;
        let descriptor = header[4];
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = match descriptor >> 6 {
            0 => usize::from(single),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let length = 5 + usize::from(!single) + dictionary + content;
        self.source.read_exact(&mut header[5..length])?;
        Ok(length)
    }
}

fn window_size(header: &[u8]) -> u64 {
    let descriptor = header[4];
    if descriptor & 0x20 == 0 {
        let (exponent, mantissa) = (u64::from(header[5] >> 3), u64::from(header[5] & 7));
        let base = 1u64 << (10 + exponent);
        return base + base / 8 * mantissa;
    }
    // A single segment needs a window as large as its content.
    let start = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let field = &header[start..];
    let mut word = [0; 8];
    word[..field.len()].copy_from_slice(field);
    u64::from_le_bytes(word).saturating_add(if field.len() == 2 { 256 } else { 0 })
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() < buf.len() && !self.decoder.is_finished() {
                let missing = buf.len() - self.decoder.can_collect();
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(missing))
                    .map_err(zstd_error)?;
            }
            let count = self.decoder.read(buf)?;
            if count > 0 {
                return Ok(count);
            }
            if self.decoder.get_checksum_from_data().is_some_and(|sum| {
                self.decoder.get_calculated_checksum().is_some_and(|calculated| calculated != sum)
            }) {
                return Err(corrupt("checksum of a zstd frame does not match"));
            }
            self.in_frame = false;
        }
    }
}

fn zstd_error(error: impl fmt::Display) -> io::Error {
    corrupt(&error.to_string())
}

fn corrupt(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}
