//! From layers to manifests and indexes.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::{Blob, LayerBuilder, digest, host_architecture};
use crate::tools::find;

pub(crate) const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// Zstandard, by the `zstd` program.
    Zstd,
}

/// Whose media types an image carries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// OCI image specification 1.
    #[default]
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

impl Format {
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Compression::Gzip) => OCI_GZIP,
            (Self::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

/// An image: one manifest, or an index of several images.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest or index that a tag points to.
    pub manifest: Blob,
    /// The config; none for an index.
    pub config: Option<Blob>,
    /// The layers as they are transferred, lowest first; none for an index.
    pub layers: Vec<Blob>,
    /// Digests of the uncompressed layers.
    pub diff_ids: Vec<String>,
    /// The images of an index.
    pub images: Vec<Self>,
    platform: Value,
}

impl Image {
    /// Makes an index of images that were built for different platforms.
    pub fn index(images: Vec<Self>, format: Format) -> Self {
        let entry = |image: &Self| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = image.platform.clone();
            descriptor
        };
        let document = json!({
            "schemaVersion": 2,
            "mediaType": format.index(),
            "manifests": images.iter().map(entry).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(format.index(), document.to_string().into_bytes());
        Self {
            manifest,
            config: None,
            layers: Vec::new(),
            diff_ids: Vec::new(),
            images,
            platform: Value::Null,
        }
    }

    /// Returns the digest a tag of this image points to.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Returns the configs and layers it consists of, each once.
    pub fn blobs(&self) -> Vec<&Blob> {
        let mut seen = BTreeSet::new();
        let mut blobs = Vec::new();
        let inner = self.images.iter().flat_map(Self::blobs);
        for blob in self.layers.iter().chain(&self.config).chain(inner) {
            if seen.insert(blob.digest.clone()) {
                blobs.push(blob);
            }
        }
        blobs
    }

    /// Returns what is to be put under `manifests/`, in order: `(digest or tag, document)`.
    pub fn manifests(&self, tag: &str) -> Vec<(String, &Blob)> {
        let mut list: Vec<_> = self.images.iter().map(|i| (i.manifest.digest.clone(), &i.manifest)).collect();
        list.push((tag.to_owned(), &self.manifest));
        list
    }
}

/// Builds an image of one platform.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until build"]
pub struct ImageBuilder {
    layers: Vec<Source>,
    compression: Compression,
    format: Format,
    platform: Value,
    config: Value,
}

#[derive(Clone, Debug)]
enum Source {
    Tar(Vec<u8>),
    Ready { diff_id: String, blob: Blob },
}

impl ImageBuilder {
    /// Starts an OCI image for this machine's platform, layers to be compressed by gzip.
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            compression: Compression::default(),
            format: Format::default(),
            platform: json!({ "os": "linux", "architecture": host_architecture() }),
            config: json!({ "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] }),
        }
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: LayerBuilder) -> Self {
        self.layers.push(Source::Tar(layer.build()));
        self
    }

    /// Adds a layer whose tar archive exists already.
    pub fn tar_layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(Source::Tar(tar));
        self
    }

    /// Adds a layer that is compressed already, or wrong on purpose.
    pub fn raw_layer(mut self, diff_id: String, blob: Blob) -> Self {
        self.layers.push(Source::Ready { diff_id, blob });
        self
    }

    /// Sets how layers are compressed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets whose media types it carries.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets the platform.
    pub fn platform(mut self, os: &str, architecture: &str, variant: Option<&str>) -> Self {
        self.platform = json!({ "os": os, "architecture": architecture });
        if let Some(variant) = variant {
            self.platform["variant"] = variant.into();
        }
        self
    }

    /// Sets `Cmd`.
    pub fn command(self, command: &[&str]) -> Self {
        self.config("Cmd", json!(command))
    }

    /// Sets any key of the config's `config` object, `Entrypoint` or `User` for example.
    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Makes the image.
    ///
    /// # Panics
    /// When zstd is asked for and not installed.
    pub fn build(self) -> Image {
        let media_type = self.format.layer(self.compression);
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for source in self.layers {
            match source {
                Source::Tar(tar) => {
                    diff_ids.push(digest(&tar));
                    layers.push(Blob::new(media_type, compress(tar, self.compression)));
                }
                Source::Ready { diff_id, blob } => {
                    diff_ids.push(diff_id);
                    layers.push(blob);
                }
            }
        }
        // buildah takes nothing from its cache over a base whose history has no times.
        let created = "2024-01-01T00:00:00Z";
        let line = json!({ "created": created, "created_by": "engine-testkit" });
        let history = vec![line; diff_ids.len()];
        let mut config = self.platform.clone();
        config["created"] = created.into();
        config["config"] = self.config;
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        config["history"] = history.into();
        let config = Blob::new(self.format.config(), config.to_string().into_bytes());
        let document = json!({
            "schemaVersion": 2,
            "mediaType": self.format.manifest(),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(self.format.manifest(), document.to_string().into_bytes());
        Image {
            manifest,
            config: Some(config),
            layers,
            diff_ids,
            images: Vec::new(),
            platform: self.platform,
        }
    }
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn compress(tar: Vec<u8>, compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar,
        Compression::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::new(3));
            gzip.write_all(&tar).expect("compress");
            gzip.finish().expect("compress")
        }
        Compression::Zstd => {
            let zstd = find("zstd").expect("zstd is not installed: run .ci/setup");
            let mut child = Command::new(zstd)
                .args(["-q", "-3", "-c"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("spawn zstd");
            let mut stdin = child.stdin.take().expect("a pipe");
            let feeder = thread::spawn(move || stdin.write_all(&tar));
            let output = child.wait_with_output().expect("wait for zstd");
            feeder.join().expect("join").expect("feed zstd");
            assert!(output.status.success(), "zstd failed");
            output.stdout
        }
    }
}
