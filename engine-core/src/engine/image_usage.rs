//! How much disk images use: each alone, together, and what a prune would free.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::platform::Platform;
use crate::reference::Reference;

use super::LocalEngine;

/// The disk space of all images.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImagesUsage {
    /// The images, one for each content a name points at, largest first.
    pub images: Vec<ImageUsage>,
    /// All content of the store, in bytes: blobs and unpacked layers.
    pub total: u64,
    /// What of it no container's image needs, in bytes.
    pub reclaimable: u64,
}

/// The disk space of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageUsage {
    /// Its names; none if it is dangling.
    pub names: Vec<Reference>,
    /// What they point at.
    pub target: Descriptor,
    /// Its id, if content for this host's platform is here.
    pub id: Option<Digest>,
    /// When it was made, RFC 3339, as its configuration says.
    pub created: String,
    /// Blobs and unpacked layers, in bytes.
    pub size: u64,
    /// What of it other images use as well.
    pub shared: u64,
    /// What of it no other image uses: `size` less `shared`.
    pub unique: u64,
    /// How many containers, running or not, use it.
    pub containers: usize,
}

/// A piece of content: blobs and layers may have the same digest and are different files.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Object {
    Blob(Digest),
    Layer(Digest),
}

impl LocalEngine {
    pub(super) async fn image_usage(&self) -> Result<ImagesUsage> {
        let _lease = self.inner.images.lease().await?;
        let usage = self.inner.images.usage().await?;
        let records = self.inner.records.all().await?;
        let size_of = |object: &Object| match object {
            Object::Blob(digest) => usage.blobs.get(digest).copied().unwrap_or(0),
            Object::Layer(digest) => usage.layers.get(digest).copied().unwrap_or(0),
        };
        let mut by_target: BTreeMap<Digest, (Descriptor, Vec<Reference>)> = BTreeMap::new();
        for (name, target) in self.image_names().await? {
            let entry = by_target.entry(target.digest.clone()).or_insert_with(|| (target, Vec::new()));
            entry.1.extend((!name.is_dangling()).then_some(name));
        }
        let mut contents = Vec::new();
        let mut users: HashMap<Object, usize> = HashMap::new();
        let mut needed: HashSet<Object> = HashSet::new();
        for (target, names) in by_target.into_values() {
            let mut objects = HashSet::from([Object::Blob(target.digest.clone())]);
            let mut containers = 0;
            match self.closure(&target).await {
                Ok(closure) => {
                    containers =
                        records.iter().filter(|r| r.manifests().any(|m| closure.has_manifest(m))).count();
                    objects.extend(closure.documents.iter().map(|(d, _)| Object::Blob(d.digest.clone())));
                    objects.extend(closure.blobs().iter().map(|b| Object::Blob(b.digest.clone())));
                    for (_, image) in &closure.images {
                        let diff_ids = self.diff_ids_of(image).await.unwrap_or_default();
                        objects.extend(diff_ids.into_iter().map(Object::Layer));
                    }
                }
                // A damaged image takes space all the same, and is no reason not to measure the others.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
            for object in &objects {
                *users.entry(object.clone()).or_default() += 1;
            }
            if containers > 0 {
                needed.extend(objects.iter().cloned());
            }
            contents.push((target, names, objects, containers));
        }
        // A container whose image lost its name still needs its layers.
        needed.extend(records.iter().flat_map(|r| r.layers().cloned().map(Object::Layer)));
        let mut images = Vec::with_capacity(contents.len());
        for (target, names, objects, containers) in contents {
            let image = self.load_image(&target, &Platform::host(), &[]).await.ok();
            let size = objects.iter().map(size_of).sum();
            let shared = objects.iter().filter(|o| users.get(o).is_some_and(|n| *n > 1)).map(size_of).sum();
            images.push(ImageUsage {
                names,
                target,
                id: image.as_ref().map(|image| image.id().clone()),
                created: image.map(|image| image.config.created).unwrap_or_default(),
                size,
                shared,
                unique: size - shared,
                containers,
            });
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        let total = usage.blobs.values().sum::<u64>() + usage.layers.values().sum::<u64>();
        let kept: u64 = needed.iter().map(size_of).sum();
        Ok(ImagesUsage { images, total, reclaimable: total.saturating_sub(kept) })
    }
}
