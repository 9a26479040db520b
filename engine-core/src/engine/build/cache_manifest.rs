//! How steps are written down for builds elsewhere: which key made which layer.
//!
//! A cache is a manifest whose layers are those of the steps, with a configuration of a type of our own; so registries keep it as any
//! image. An image says the same of its own layers in an annotation. Both are anybody's (SECURITY D1): they are read strictly, and what
//! they say is no more than where to look.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::engine::import::to_json;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{ImageManifest, MAX_LAYERS};

use super::cache::Layer;

/// The type of the configuration of a cache.
pub(super) const CACHE_CONFIG: &str = "application/vnd.engine.build-cache.config.v1+json";
/// The annotation of an image that says which steps made its layers.
pub(super) const INLINE: &str = "engine.build-cache.v1";
/// The version of both.
const VERSION: u32 = 1;

/// A step that was carried out, or found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct MadeStep {
    pub(super) key: Digest,
    pub(super) layer: Option<Layer>,
}

/// What steps made, by their keys.
pub(super) type Steps = HashMap<Digest, Option<Layer>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    steps: Vec<Written>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    key: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    diff_id: Option<Digest>,
}

/// A cache as it is written.
pub(super) struct CacheManifest {
    pub(super) config: (Descriptor, Vec<u8>),
    pub(super) manifest: (Descriptor, Vec<u8>),
    pub(super) layers: Vec<Descriptor>,
    /// How many steps it has.
    pub(super) steps: usize,
}

impl CacheManifest {
    /// Writes `steps` down, in an order that does not tell how they ran. Those that have no place in one manifest are left out.
    pub(super) fn of(steps: &[MadeStep]) -> Result<Self> {
        let by_key: BTreeMap<&Digest, &MadeStep> = steps.iter().map(|step| (&step.key, step)).collect();
        let mut known = BTreeSet::new();
        let (mut layers, mut written) = (Vec::new(), Vec::new());
        for (key, step) in by_key {
            if let Some((blob, _)) = &step.layer
                && !known.contains(&blob.digest)
            {
                if layers.len() == MAX_LAYERS {
                    continue;
                }
                known.insert(blob.digest.clone());
                layers.push(Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size));
            }
            let (layer, diff_id) = step.layer.as_ref().map(|(blob, id)| (&blob.digest, id)).unzip();
            written.push(Written { key: key.clone(), layer: layer.cloned(), diff_id: diff_id.cloned() });
        }
        let count = written.len();
        let config = to_json(&Document { version: VERSION, steps: written })?;
        let config = (Descriptor::of(CACHE_CONFIG, &config), config);
        // Registries want a layer at least.
        let empty = Descriptor::of(media_type::OCI_EMPTY, b"{}");
        let listed = if layers.is_empty() { std::slice::from_ref(&empty) } else { &layers[..] };
        let manifest = to_json(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config.0,
            "layers": listed,
        }))?;
        let manifest = (Descriptor::of(media_type::OCI_MANIFEST, &manifest), manifest);
        Ok(Self { config, manifest, layers: listed.to_vec(), steps: count })
    }
}

/// Reads the configuration of the cache `manifest`.
pub(super) fn read(config: &[u8], manifest: &ImageManifest) -> Result<Steps> {
    let document: Document =
        serde_json::from_slice(config).map_err(|e| corrupt("it is none").with_source(e))?;
    if document.version != VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "read build cache")
            .with_message(format!("it is of version {}, and only {VERSION} is known", document.version)));
    }
    let layers: HashMap<&Digest, &Descriptor> =
        manifest.layers.iter().map(|one| (&one.digest, one)).collect();
    let step = |written: Written| {
        let layer = match (written.layer, written.diff_id) {
            (None, None) => None,
            (Some(layer), Some(diff_id)) => {
                let blob = layers.get(&layer).filter(|blob| is_usable(blob));
                let blob = blob.ok_or_else(|| corrupt(&format!("{layer} is no layer of it")))?;
                Some(((*blob).clone(), diff_id))
            }
            _ => return Err(corrupt("a step has a layer in part")),
        };
        Ok((written.key, layer))
    };
    document.steps.into_iter().map(step).collect()
}

/// Returns what an image's annotation says of `steps`: for each the number of its layer. None of them is a step of another image.
pub(super) fn inline(steps: &[MadeStep], layers: &[Layer]) -> Result<String> {
    let places: BTreeMap<&Digest, Option<usize>> = steps
        .iter()
        .filter_map(|step| match &step.layer {
            None => Some((&step.key, None)),
            Some((blob, _)) => {
                let place = layers.iter().position(|(known, _)| known.digest == blob.digest)?;
                Some((&step.key, Some(place)))
            }
        })
        .collect();
    let text = to_json(&json!({ "version": VERSION, "steps": places.into_iter().collect::<Vec<_>>() }))?;
    String::from_utf8(text).map_err(|e| corrupt("it is no text").with_source(e))
}

/// Reads the annotation of an image with these layers.
pub(super) fn read_inline(text: &str, manifest: &ImageManifest, diff_ids: &[Digest]) -> Result<Steps> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inline {
        version: u32,
        steps: Vec<(Digest, Option<usize>)>,
    }
    let document: Inline = serde_json::from_str(text).map_err(|e| corrupt("it is none").with_source(e))?;
    if document.version != VERSION || manifest.layers.len() != diff_ids.len() {
        return Err(corrupt("it is of another version, or of another image"));
    }
    let step = |(key, place): (Digest, Option<usize>)| {
        let Some(place) = place else { return Ok((key, None)) };
        let blob = manifest.layers.get(place).filter(|blob| is_usable(blob));
        let layer = blob.cloned().zip(diff_ids.get(place).cloned());
        Ok((key, Some(layer.ok_or_else(|| corrupt(&format!("there is no layer {place}")))?)))
    };
    document.steps.into_iter().map(step).collect()
}

fn is_usable(blob: &Descriptor) -> bool {
    media_type::is_layer(&blob.media_type) && !media_type::is_foreign(&blob.media_type)
}

pub(super) fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "read build cache").with_message(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn layer(content: &str) -> Layer {
        let blob = Descriptor::of(media_type::OCI_LAYER_GZIP, content.as_bytes());
        (blob, Digest::sha256(format!("diff of {content}").as_bytes()))
    }

    fn step(key: &str, layer: Option<Layer>) -> MadeStep {
        MadeStep { key: Digest::sha256(key.as_bytes()), layer }
    }

    fn parsed(cache: &CacheManifest) -> ImageManifest {
        match Manifest::parse(&cache.manifest.1, media_type::OCI_MANIFEST).unwrap() {
            Manifest::Image(image) => image,
            Manifest::Index(_) => panic!("an index"),
        }
    }

    #[test]
    fn what_is_written_is_read_and_in_one_order() {
        let steps = [step("a", Some(layer("x"))), step("b", None), step("c", Some(layer("x")))];
        let cache = CacheManifest::of(&steps).unwrap();
        assert_eq!((cache.steps, cache.layers.len()), (3, 1));
        let read = read(&cache.config.1, &parsed(&cache)).unwrap();
        assert_eq!(read, steps.iter().map(|one| (one.key.clone(), one.layer.clone())).collect::<Steps>());
        let turned: Vec<_> = steps.iter().rev().cloned().collect();
        assert_eq!(CacheManifest::of(&turned).unwrap().manifest, cache.manifest);
        // More than one manifest may have.
        let many: Vec<_> = (0..600).map(|n| step(&n.to_string(), Some(layer(&n.to_string())))).collect();
        assert_eq!(CacheManifest::of(&many).unwrap().steps, MAX_LAYERS);
        assert!(
            super::read(b"{\"version\":1,\"steps\":[]}", &parsed(&CacheManifest::of(&[]).unwrap())).is_ok()
        );
    }

    #[test]
    fn an_image_says_it_of_its_own_layers() {
        let layers = [layer("base"), layer("x")];
        let steps = [step("a", Some(layer("x"))), step("b", None), step("c", Some(layer("elsewhere")))];
        let text = inline(&steps, &layers).unwrap();
        let known: Vec<_> = layers.iter().map(|layer| step("", Some(layer.clone()))).collect();
        let mut manifest = parsed(&CacheManifest::of(&known).unwrap());
        manifest.layers = layers.iter().map(|(blob, _)| blob.clone()).collect();
        let diff_ids: Vec<_> = layers.iter().map(|(_, id)| id.clone()).collect();
        let read = read_inline(&text, &manifest, &diff_ids).unwrap();
        assert_eq!(
            read,
            steps[..2].iter().map(|one| (one.key.clone(), one.layer.clone())).collect::<Steps>()
        );
        assert!(read_inline(&text.replace(",1]", ",2]"), &manifest, &diff_ids).is_err());
        assert!(read_inline(&text, &manifest, &diff_ids[..1]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cache = CacheManifest::of(&[step("a", Some(layer("x")))]).unwrap();
        let manifest = parsed(&cache);
        let text = String::from_utf8(cache.config.1).unwrap();
        let other = layer("y").0.digest.to_string();
        for wrong in [
            "{}".to_owned(),
            "[]".to_owned(),
            text.replace("\"version\":1", "\"version\":2"),
            text.replace(&layer("x").0.digest.to_string(), &other),
            text.replace("diffId", "diffID"),
            text.replace("sha256:", "sha256:zz"),
        ] {
            assert!(read(wrong.as_bytes(), &manifest).is_err(), "{wrong}");
        }
        let mut foreign = manifest;
        foreign.layers[0].media_type = media_type::DOCKER_LAYER_FOREIGN.to_owned();
        assert!(read(text.as_bytes(), &foreign).is_err());
    }
}
