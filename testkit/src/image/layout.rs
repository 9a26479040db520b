//! Images on disk: OCI layouts, as a directory or a tar, and the archives of `docker save`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Blob, Image, LayerBuilder};
use crate::tools::command;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Image {
    /// Writes an OCI layout directory whose index names this image `tag`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_layout(&self, dir: &Path, tag: &str) {
        for (path, data) in self.layout_files(tag) {
            let file = dir.join(path);
            fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
            fs::write(&file, data).unwrap_or_else(|error| panic!("write {}: {error}", file.display()));
        }
    }

    /// Writes the same as one tar file, an `oci-archive`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_layout_tar(&self, path: &Path, tag: &str) {
        let mut tar = LayerBuilder::new().dir("blobs", 0o755).dir("blobs/sha256", 0o755);
        for (name, data) in self.layout_files(tag) {
            tar = tar.file(&name, 0o644, &data);
        }
        fs::write(path, tar.build()).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// Unpacks this image by umoci into `dir` and returns the root file system's path: the second opinion on ours.
    ///
    /// # Panics
    /// When umoci is missing or fails.
    pub fn unpack_by_umoci(&self, dir: &Path) -> PathBuf {
        let (layout, bundle) = (dir.join("layout"), dir.join("bundle"));
        self.write_layout(&layout, "latest");
        let image = format!("{}:latest", layout.display());
        command("umoci", ["unpack".as_ref(), "--image".as_ref(), image.as_ref(), bundle.as_os_str()]);
        bundle.join("rootfs")
    }

    fn layout_files(&self, tag: &str) -> Vec<(String, Vec<u8>)> {
        let mut descriptor = self.manifest.descriptor();
        descriptor["annotations"] = json!({ REF_NAME: tag });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor],
        });
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
        ];
        let documents = self.manifests(tag).into_iter().map(|(_, document)| document);
        for blob in self.blobs().into_iter().chain(documents) {
            files.push((blob_path(blob), blob.data.to_vec()));
        }
        files
    }

    /// Writes what `docker save` writes (the older form: `manifest.json` and one directory for each layer). Layers must be
    /// [`Compression::None`](super::Compression::None) for other readers' sake.
    ///
    /// # Panics
    /// When it cannot be written or the image is an index.
    pub fn write_docker_archive(&self, path: &Path, names: &[&str]) {
        let config = self.config.as_ref().expect("an index cannot be saved as a docker archive");
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let config_name = format!("{}.json", hex(&config.digest));
        let mut tar = LayerBuilder::new().file(&config_name, 0o644, &config.data);
        let mut layers = Vec::new();
        for (layer, diff_id) in self.layers.iter().zip(&self.diff_ids) {
            let name = format!("{}/layer.tar", hex(diff_id));
            if !layers.contains(&name) {
                tar = tar.dir(&hex(diff_id), 0o755).file(&name, 0o644, &layer.data);
            }
            layers.push(name);
        }
        let manifest = json!([{ "Config": config_name, "RepoTags": names, "Layers": layers }]);
        let tar = tar.file("manifest.json", 0o644, manifest.to_string().as_bytes());
        let write = || {
            use std::io::Write as _;
            File::create(path)?.write_all(&tar.build())
        };
        write().unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

fn blob_path(blob: &Blob) -> String {
    format!("blobs/{}", blob.digest.replace(':', "/"))
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::{Sentinel, command};

    fn inspect(arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&command("skopeo", arguments)).expect("JSON")
    }

    #[test]
    fn skopeo_reads_what_we_write() {
        crate::require!("skopeo", "busybox", "zstd");
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        busybox_layers(40).write_layout(&dir.path().join("forty"), "1");
        let forty = inspect(&["inspect", &format!("oci:{}:1", path("forty"))]);
        assert_eq!(forty["Layers"].as_array().expect("layers").len(), 40);
        busybox_zstd().write_layout_tar(&dir.path().join("zstd.tar"), "1");
        let zstd = inspect(&["inspect", &format!("oci-archive:{}:1", path("zstd.tar"))]);
        assert_eq!(zstd["Layers"].as_array().expect("layers").len(), 2);
        busybox_multi_platform().write_layout(&dir.path().join("multi"), "1");
        let arm = format!("oci:{}:1", path("multi"));
        let arm = inspect(&["--override-arch=arm64", "--override-variant=v8", "inspect", &arm]);
        assert_eq!(arm["Architecture"], "arm64");
        let saved = ImageBuilder::new()
            .layer(busybox_layer())
            .compression(Compression::None)
            .format(Format::Docker)
            .build();
        saved.write_docker_archive(&dir.path().join("saved.tar"), &["localhost/busybox:latest"]);
        let saved = inspect(&["inspect", &format!("docker-archive:{}", path("saved.tar"))]);
        assert_eq!(saved["Layers"].as_array().expect("layers").len(), 1);
    }

    #[test]
    fn umoci_unpacks_forty_layers_as_promised() {
        crate::require!(root, "umoci");
        let dir = tempfile::tempdir().expect("temporary directory");
        let rootfs = busybox_layers(40).unpack_by_umoci(dir.path());
        let tree = Sentinel::record(&rootfs);
        let left: Vec<_> = tree
            .entries()
            .keys()
            .filter(|p| p.starts_with("layers/") && p.components().count() == 2)
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(std::fs::read_to_string(rootfs.join("top")).expect("read"), "39\n");
    }

    #[test]
    fn pax_records_count_their_own_length() {
        let tar =
            LayerBuilder::new().pax(&[("SCHILY.xattr.user.x", b"12345")]).file("f", 0o644, b"x").build();
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut entries = archive.entries().expect("entries");
        let mut entry = entries.next().expect("one entry").expect("a good entry");
        let records = entry.pax_extensions().expect("extensions").expect("some");
        let records: Vec<_> = records.map(|r| r.expect("a good record").value_bytes().to_vec()).collect();
        assert_eq!(records, [b"12345"]);
    }
}
