//! Which images an archive holds: read from `index.json`, else from `manifest.json`, and both must agree.
//!
//! Sources: OCI image-spec, image-layout.md; the Docker image specification 1.2 for `manifest.json`. Invariant: what comes
//! out is one reading of the archive; names that two entries claim for different images are refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image_config::ImageConfig;
use crate::manifest::{ImageManifest, MAX_CONFIG_SIZE, MAX_LAYERS, MAX_MANIFEST_SIZE, Manifest};
use crate::reference::Reference;

use super::super::closure::{MAX_DEPTH, MAX_DOCUMENTS, too_many};
use super::super::import::to_json;
use super::members::corrupt;
use super::source::{Archive, Member, missing};

/// The annotation of a layout's index with the whole name (containerd, Docker), and with the tag (OCI).
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What `oci-layout` may say.
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// One image of an archive.
#[derive(Debug)]
pub(crate) struct Planned {
    /// What its names will point at.
    pub(crate) target: Descriptor,
    /// Its names.
    pub(crate) names: Vec<Reference>,
}

/// What an archive holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The images.
    pub(crate) images: Vec<Planned>,
    /// Documents that are not in the archive as such: manifests made for images that came without.
    made: BTreeMap<Digest, Bytes>,
    /// Where layers lie that are not under their digest.
    places: BTreeMap<Digest, String>,
}

/// An entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Contents {
    /// Reads what tells of the images.
    pub(crate) async fn read(archive: &Archive) -> Result<Self> {
        let saved: Option<Vec<Saved>> = match archive.read("manifest.json", MAX_MANIFEST_SIZE).await? {
            Some(bytes) => Some(json("manifest.json", &bytes)?),
            None => None,
        };
        let index = match archive.read("oci-layout", 4096).await? {
            Some(bytes) => {
                check_layout(&bytes)?;
                Some(
                    archive
                        .read("index.json", MAX_MANIFEST_SIZE)
                        .await?
                        .ok_or_else(|| missing("index.json"))?,
                )
            }
            None => None,
        };
        let mut contents = match (&index, &saved) {
            (Some(index), _) => Self::of_layout(index)?,
            (None, Some(saved)) => Self::of_saved(archive, saved).await?,
            (None, None) => {
                return Err(corrupt("it has neither \"oci-layout\" nor \"manifest.json\"")
                    .with_hint("give an archive of \"save\", an OCI archive or an OCI layout; \"import\" takes root file systems"));
            }
        };
        if let (Some(_), Some(saved)) = (&index, &saved) {
            contents.agree_with(archive, saved).await?;
        }
        let mut owners: BTreeMap<&Reference, &Digest> = BTreeMap::new();
        for image in &contents.images {
            for name in &image.names {
                if owners
                    .insert(name, &image.target.digest)
                    .is_some_and(|other| *other != image.target.digest)
                {
                    return Err(corrupt(format!("two images are called {name}")));
                }
            }
        }
        Ok(contents)
    }

    fn of_layout(index: &[u8]) -> Result<Self> {
        let Manifest::Index(index) = Manifest::parse(index, media_type::OCI_INDEX)? else {
            return Err(corrupt("its index.json is no index"));
        };
        if index.manifests.len() > MAX_DOCUMENTS {
            return Err(corrupt(format!("its index.json has more than {MAX_DOCUMENTS} entries")));
        }
        let mut images: Vec<Planned> = Vec::new();
        for mut entry in index.manifests {
            let annotations = std::mem::take(&mut entry.annotations);
            let whole = annotations.get(IMAGE_NAME);
            // "1.0" is a tag of nothing; "busybox:1.0" and "example.org/app" are names.
            let short = annotations.get(REF_NAME).filter(|name| name.contains([':', '/']));
            let name = whole.or(short).map(|name| parse_name(name)).transpose()?;
            match images.iter_mut().find(|image| image.target.digest == entry.digest) {
                Some(image)
                    if image.target.media_type != entry.media_type || image.target.size != entry.size =>
                {
                    return Err(corrupt(format!("its index.json says two things about {}", entry.digest)));
                }
                Some(image) => image.names.extend(name),
                None => images.push(Planned { target: entry, names: name.into_iter().collect() }),
            }
        }
        Ok(Self { images, made: BTreeMap::new(), places: BTreeMap::new() })
    }

    /// Makes manifests for images that came without one: the same each time, as the layers lie in the archive.
    async fn of_saved(archive: &Archive, saved: &[Saved]) -> Result<Self> {
        let mut contents = Self { images: Vec::new(), made: BTreeMap::new(), places: BTreeMap::new() };
        if saved.len() > MAX_DOCUMENTS {
            return Err(corrupt(format!("its manifest.json has more than {MAX_DOCUMENTS} entries")));
        }
        for entry in saved {
            let config_bytes = config_of(archive, entry).await?;
            let config = Descriptor::of(media_type::OCI_CONFIG, &config_bytes);
            let diff_ids = ImageConfig::parse(&config_bytes)?.rootfs.diff_ids;
            let paths = entry.layers.as_deref().unwrap_or_default();
            if paths.len() != diff_ids.len() || paths.len() > MAX_LAYERS {
                return Err(corrupt(format!(
                    "its manifest.json names {} layers of {}, whose configuration has {}",
                    paths.len(),
                    entry.config,
                    diff_ids.len()
                )));
            }
            let mut layers = Vec::with_capacity(paths.len());
            for (path, diff_id) in paths.iter().zip(&diff_ids) {
                let member = archive.find(path).await?.ok_or_else(|| missing(path))?;
                let layer = describe(&member, diff_id).await?;
                contents.places.insert(layer.digest.clone(), path.clone());
                layers.push(layer);
            }
            let manifest_bytes = to_json(&serde_json::json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": config,
                "layers": layers,
            }))?;
            let target = Descriptor::of(media_type::OCI_MANIFEST, &manifest_bytes);
            contents.places.insert(config.digest.clone(), entry.config.clone());
            contents.made.insert(target.digest.clone(), manifest_bytes.into());
            let names = entry.names()?;
            match contents.images.iter_mut().find(|image| image.target.digest == target.digest) {
                Some(image) => image.names.extend(names),
                None => contents.images.push(Planned { target, names }),
            }
        }
        Ok(contents)
    }

    /// Takes the names of `manifest.json` too, each of which must mean an image that the index has.
    async fn agree_with(&mut self, archive: &Archive, saved: &[Saved]) -> Result<()> {
        let mut configs: Vec<Vec<Digest>> = Vec::new();
        for image in &self.images {
            let documents = self.documents(archive, &image.target).await?;
            configs.push(documents.images.into_iter().map(|(_, image)| image.config.digest).collect());
        }
        for entry in saved {
            let config = Digest::sha256(&config_of(archive, entry).await?);
            let names = entry.names()?;
            let owners: Vec<usize> =
                (0..configs.len()).filter(|image| configs[*image].contains(&config)).collect();
            if owners.is_empty() {
                return Err(corrupt(format!(
                    "its manifest.json has an image {config} that its index.json lacks"
                )));
            }
            for name in names {
                let known = self.images.iter().position(|image| image.names.contains(&name));
                match (known, owners.as_slice()) {
                    (Some(known), owners) if owners.contains(&known) => {}
                    (None, [only]) => self.images[*only].names.push(name),
                    // Which of several the name means is not said.
                    (None, _) => {}
                    (Some(_), _) => {
                        return Err(corrupt(format!(
                            "its manifest.json and index.json disagree about {name}"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds a blob in the archive.
    pub(crate) async fn find(&self, archive: &Archive, digest: &Digest) -> Result<Option<Member>> {
        match self.places.get(digest) {
            Some(path) => archive.find(path).await,
            None => archive.find(&blob_path(digest)).await,
        }
    }

    /// Reads a small blob whole and checks it; `None` if the archive lacks it.
    pub(crate) async fn document(
        &self,
        archive: &Archive,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Option<Bytes>> {
        let bytes = match self.made.get(&blob.digest) {
            Some(bytes) => bytes.clone(),
            None => {
                let path = self.places.get(&blob.digest).cloned().unwrap_or_else(|| blob_path(&blob.digest));
                match archive.read(&path, limit).await? {
                    Some(bytes) => bytes,
                    None => return Ok(None),
                }
            }
        };
        if bytes.len() as u64 != blob.size || blob.digest.rehash(&bytes) != blob.digest {
            return Err(corrupt(format!(
                "the content of its blob {} has another digest or size",
                blob.digest
            )));
        }
        Ok(Some(bytes))
    }

    /// Walks from `target` over the documents in the archive.
    pub(crate) async fn documents(&self, archive: &Archive, target: &Descriptor) -> Result<Documents> {
        let mut found = Documents::default();
        let mut pending = vec![(target.clone(), 0_usize)];
        let mut seen = std::collections::HashSet::new();
        while let Some((descriptor, depth)) = pending.pop() {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            if seen.len() > MAX_DOCUMENTS || depth > MAX_DEPTH {
                return Err(too_many(target));
            }
            let Some(bytes) = self.document(archive, &descriptor, MAX_MANIFEST_SIZE).await? else {
                if depth == 0 {
                    return Err(missing(&blob_path(&descriptor.digest)));
                }
                continue;
            };
            match Manifest::parse(&bytes, &descriptor.media_type)? {
                Manifest::Image(image) => found.images.push((descriptor.clone(), image)),
                Manifest::Index(index) => {
                    pending.extend(index.manifests.into_iter().rev().map(|child| (child, depth + 1)));
                }
            }
            found.all.push((descriptor, bytes));
        }
        // Parents were found first.
        found.all.reverse();
        Ok(found)
    }
}

/// The documents that a target leads to, as far as an archive has them.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// Indexes and manifests, children before parents.
    pub(crate) all: Vec<(Descriptor, Bytes)>,
    /// The manifests among them.
    pub(crate) images: Vec<(Descriptor, ImageManifest)>,
}

impl Saved {
    fn names(&self) -> Result<Vec<Reference>> {
        self.repo_tags.iter().flatten().map(|name| parse_name(name)).collect()
    }
}

/// Reads a configuration, whose name may say which digest it has.
async fn config_of(archive: &Archive, entry: &Saved) -> Result<Bytes> {
    let bytes = archive.read(&entry.config, MAX_CONFIG_SIZE).await?.ok_or_else(|| missing(&entry.config))?;
    let stem = entry.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    match format!("sha256:{stem}").parse::<Digest>() {
        Ok(digest) if digest != Digest::sha256(&bytes) => {
            Err(corrupt(format!("the content of its {:?} has another digest", entry.config)))
        }
        _ => Ok(bytes),
    }
}

/// Describes a layer that nothing but its place is known of.
async fn describe(member: &Member, diff_id: &Digest) -> Result<Descriptor> {
    let media_type = match member.start(4).await?[..] {
        [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media_type::OCI_LAYER_ZSTD,
        // Whether that is true is seen when it is taken in.
        _ => return Ok(Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), member.size)),
    };
    Ok(Descriptor::new(media_type, member.digest().await?, member.size))
}

fn check_layout(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = json("oci-layout", bytes)?;
    if layout.image_layout_version.split('.').next() != Some("1") {
        return Err(Error::new(ErrorKind::Unsupported, "read archive")
            .with_message(format!("its layout has version {:?}", layout.image_layout_version)));
    }
    Ok(())
}

fn json<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| corrupt(format!("its {name} is malformed")).with_source(e))
}

fn parse_name(text: &str) -> Result<Reference> {
    match text.parse::<Reference>() {
        Ok(name) if name.is_dangling() || name.tag().is_none() => {
            Err(corrupt(format!("it calls an image {text:?}, which is no name with a tag")))
        }
        Ok(name) => Ok(name),
        Err(error) => {
            Err(corrupt(format!("it calls an image {text:?}, which is no name")).with_source(error))
        }
    }
}

/// Returns where a blob lies in a layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
