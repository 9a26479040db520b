//! Content for tests: small archives, compressed layers and images, made without any part of an engine.

use bytes::Bytes;
use serde_json::json;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;

/// An image in memory: its blobs and what names them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SampleImage {
    /// The manifest's descriptor.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Bytes,
    /// The configuration's descriptor.
    pub config: Descriptor,
    /// The configuration's bytes.
    pub config_bytes: Bytes,
    /// The layers, lowest first.
    pub layers: Vec<SampleLayer>,
}

/// A layer in memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SampleLayer {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its diff ID.
    pub diff_id: Digest,
    /// Its bytes, compressed if its media type says so.
    pub bytes: Bytes,
}

impl SampleImage {
    /// Creates an image of two plain layers, which `seed` makes different from others.
    #[must_use]
    pub fn new(seed: &str) -> Self {
        let layers = vec![
            SampleLayer::plain(&tar(&[("etc/", b""), ("etc/base", seed.as_bytes())])),
            SampleLayer::plain(&tar(&[("top", seed.as_bytes())])),
        ];
        Self::of(layers)
    }

    /// Creates an image of `layers`.
    #[must_use]
    pub fn of(layers: Vec<SampleLayer>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config_bytes = bytes_of(&json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }));
        let config = Descriptor::of(media_type::OCI_CONFIG, &config_bytes);
        let layer_descriptors: Vec<&Descriptor> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest_bytes = bytes_of(&json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config, "layers": layer_descriptors,
        }));
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, &manifest_bytes);
        Self { manifest, manifest_bytes, config, config_bytes, layers }
    }

    /// Returns the diff IDs, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }
}

impl SampleLayer {
    /// Creates an uncompressed layer of a tar archive.
    #[must_use]
    pub fn plain(tar: &[u8]) -> Self {
        Self {
            descriptor: Descriptor::of(media_type::OCI_LAYER, tar),
            diff_id: Digest::sha256(tar),
            bytes: Bytes::copy_from_slice(tar),
        }
    }

    /// Creates a gzip layer of a tar archive.
    #[must_use]
    pub fn gzip(tar: &[u8]) -> Self {
        let bytes = gzip(tar);
        Self {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes),
            diff_id: Digest::sha256(tar),
            bytes: bytes.into(),
        }
    }
}

fn bytes_of(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

/// Makes a ustar archive of files and, for names that end in `/`, directories. See pax(1).
///
/// # Panics
/// If a name has more than 99 bytes.
#[must_use]
pub fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in entries {
        let directory = name.ends_with('/');
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        assert!(name.len() < 100, "the name {name:?} is too long for a plain header");
        put(0, name);
        put(100, if directory { "0000755\0" } else { "0000644\0" });
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "14711162000\0");
        put(148, "        ");
        put(156, if directory { "5" } else { "0" });
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Wraps `data` as gzip without compressing it: stored blocks. Source: RFC 1951 (3.2.4) and RFC 1952.
#[must_use]
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = data.chunks(0xffff).peekable();
    if data.is_empty() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(data).to_le_bytes());
    let length = u32::try_from(data.len() as u64 & u64::from(u32::MAX)).unwrap_or(0);
    out.extend_from_slice(&length.to_le_bytes());
    out
}

/// The checksum of RFC 1952, section 8, bit by bit.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string_is_known() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[cfg(feature = "linux")]
    #[test]
    fn gzip_is_read_by_another_decoder() {
        use std::io::Read as _;
        for length in [0_usize, 1, 70_000] {
            let data = vec![7; length];
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&gzip(&data)[..]).read_to_end(&mut back).unwrap();
            assert_eq!(back, data);
        }
    }
}
