//! gzip, zstd and plain layers as one readable stream.
//!
//! The compression is told from the first bytes, as other engines do: registries hold layers whose media type
//! is wrong, and the diff ID decides what the content is anyway.

use std::fmt;
use std::io::{self, BufRead, Read};

use crate::descriptor::media_type::Compression;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Above this, ruzstd refuses to use a decoder a second time.
const REUSABLE_WINDOW: u64 = 100 << 20;

/// A decompressing reader.
pub(crate) enum Decoder<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<ZstdReader<R>>),
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
            [0xfd, b'7', b'z', b'X', ..] | [b'B', b'Z', b'h', ..] => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "it is compressed by xz or bzip2"));
            }
            _ => Self::Plain(source),
        })
    }

    /// How the source is compressed.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// The reader beneath.
    pub(crate) fn source(&mut self) -> &mut R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(reader) => &mut reader.source,
        }
    }

    pub(crate) fn into_inner(self) -> R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(reader) => reader.source,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
            Self::Zstd(reader) => reader.read(buf),
        }
    }
}

impl<R> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
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
