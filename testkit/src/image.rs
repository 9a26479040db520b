//! Images made without any engine: layers, manifests, indexes, layouts.
//!
//! Owns the bytes of test images and where they are written to; pushing them is [`Registry::push`](crate::Registry::push).
//! `image::layer` makes layers, `image::build` composes them, `image::layout` writes them as an OCI layout or a
//! `docker save` archive. Everything is deterministic: same calls, same digests.

mod build;
mod layer;
mod layout;

use std::{path::PathBuf, sync::Arc};

use serde_json::json;
use sha2::{Digest as _, Sha256};

pub use build::{Compression, Format, Image, ImageBuilder};
pub use layer::LayerBuilder;

use crate::tools::find;

/// Bytes with their digest and media type: a layer, a config, a manifest or an index.
#[derive(Clone, Debug)]
pub struct Blob {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The media type a descriptor of it carries.
    pub media_type: String,
    /// The bytes.
    pub data: Arc<Vec<u8>>,
}

impl Blob {
    /// Makes a blob, computing its digest.
    pub fn new(media_type: &str, data: Vec<u8>) -> Self {
        Self { digest: digest(&data), media_type: media_type.to_owned(), data: Arc::new(data) }
    }

    /// Returns the JSON of a descriptor of it.
    pub fn descriptor(&self) -> serde_json::Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.data.len() })
    }
}

/// Returns `sha256:…` of some bytes.
pub fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(data)))
}

/// Returns a layer with busybox, its usual applets, `/etc/passwd` and the usual empty directories.
///
/// # Panics
/// When busybox is not installed.
pub fn busybox_layer() -> LayerBuilder {
    let busybox = find("busybox").expect("busybox is not installed: run .ci/setup");
    let binary = std::fs::read(busybox).expect("read busybox");
    let mut layer = LayerBuilder::new();
    for dir in ["bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var"] {
        layer = layer.dir(dir, 0o755);
    }
    layer = layer.dir("tmp", 0o1777).file("bin/busybox", 0o755, &binary);
    for applet in [
        "[",
        "adduser",
        "ash",
        "awk",
        "cat",
        "chmod",
        "chown",
        "cp",
        "cut",
        "date",
        "dd",
        "df",
        "echo",
        "env",
        "expr",
        "false",
        "find",
        "getty",
        "grep",
        "head",
        "hostname",
        "id",
        "ip",
        "kill",
        "ln",
        "ls",
        "md5sum",
        "mkdir",
        "mkfifo",
        "mknod",
        "mount",
        "mv",
        "nc",
        "nslookup",
        "ping",
        "printf",
        "ps",
        "pwd",
        "readlink",
        "reboot",
        "rm",
        "rmdir",
        "sed",
        "seq",
        "sh",
        "sha256sum",
        "sleep",
        "sort",
        "stat",
        "stty",
        "su",
        "sync",
        "tail",
        "tar",
        "tee",
        "test",
        "top",
        "touch",
        "tr",
        "true",
        "tty",
        "umount",
        "uname",
        "uniq",
        "unshare",
        "vi",
        "wc",
        "wget",
        "which",
        "whoami",
        "xargs",
        "yes",
    ] {
        layer = layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    layer
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\nworker:x:1000:1000::/home:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\ndaemon:x:1:\nwheel:x:10:root,worker\nnogroup:x:65534:\nworker:x:1000:\n")
}

/// Returns a one-layer image of busybox, gzip, OCI media types, `CMD ["sh"]`.
pub fn busybox() -> Image {
    ImageBuilder::new().layer(busybox_layer()).command(&["sh"]).build()
}

/// Returns a busybox image of `layers` layers; layer *n* makes `/layers/n`, replaces `/top` and deletes `/layers/n-2`, so that
/// the top of 40 layers sees exactly two files in `/layers` and `/top` holds `n`.
pub fn busybox_layers(layers: usize) -> Image {
    let mut builder = ImageBuilder::new().layer(busybox_layer()).command(&["sh"]);
    for number in 1..layers {
        let mut layer = LayerBuilder::new()
            .dir("layers", 0o755)
            .file(&format!("layers/{number}"), 0o644, format!("{number}\n").as_bytes())
            .file("top", 0o644, format!("{number}\n").as_bytes());
        if number > 2 {
            layer = layer.whiteout(&format!("layers/{}", number - 2));
        }
        builder = builder.layer(layer);
    }
    builder.build()
}

/// Returns a busybox image whose layers are compressed by zstd.
pub fn busybox_zstd() -> Image {
    let marker = LayerBuilder::new().file("zstd", 0o644, b"zstd\n");
    ImageBuilder::new()
        .layer(busybox_layer())
        .layer(marker)
        .compression(Compression::Zstd)
        .command(&["sh"])
        .build()
}

/// Returns a busybox image with Docker's media types (manifest schema 2).
pub fn busybox_docker() -> Image {
    ImageBuilder::new().layer(busybox_layer()).format(Format::Docker).command(&["sh"]).build()
}

/// Returns an index of busybox for this machine's platform and of a marker file for four others, `/platform` telling which.
pub fn busybox_multi_platform() -> Image {
    let one = |architecture: &str, variant: Option<&str>, base: LayerBuilder| {
        let name = variant.map_or(architecture.to_owned(), |variant| format!("{architecture}/{variant}"));
        let layer = base.file("platform", 0o644, format!("linux/{name}\n").as_bytes());
        ImageBuilder::new()
            .layer(layer)
            .platform("linux", architecture, variant)
            .command(&["cat", "/platform"])
            .build()
    };
    let host = host_architecture();
    let mut images = vec![one("s390x", None, LayerBuilder::new())];
    for (architecture, variant) in
        [("amd64", None), ("arm64", Some("v8")), ("arm", Some("v7")), ("arm", Some("v6"))]
    {
        let base = if architecture == host { busybox_layer() } else { LayerBuilder::new() };
        images.push(one(architecture, variant, base));
    }
    Image::index(images, Format::Oci)
}

/// Returns an image of Debian's smallest root filesystem in one gzip layer; see [`debian`](crate::debian).
pub fn debian() -> Image {
    let read = |path: PathBuf| std::fs::read(path).expect("read the root filesystem's tar");
    let (tar, gzip) = (read(crate::debian::rootfs_tar()), read(crate::debian::rootfs_tar_gz()));
    ImageBuilder::new().raw_layer(digest(&tar), Blob::new(build::OCI_GZIP, gzip)).command(&["bash"]).build()
}

/// Returns this machine's architecture in OCI's (Go's) words.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
