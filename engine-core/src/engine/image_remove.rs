//! Removing images: one by one as Docker's `rmi`, and all that nothing needs.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Action, ObjectKind};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::state::ContainerStatus;

use super::LocalEngine;
use super::events::{of_image, of_prune};
use super::image::RemovedImage;
use super::records::Record;

/// Which images a prune removes. By default those without a name that no container uses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ImagePruneOptions {
    /// Also images that have names.
    pub all: bool,
    /// Only images made before this time, as their configuration says; one that says nothing is old.
    pub until: Option<SystemTime>,
    /// Only images with all of these labels; an empty value stands for any.
    pub labels: BTreeMap<String, Option<String>>,
    /// No image with one of these labels.
    pub without_labels: BTreeMap<String, Option<String>>,
}

impl ImagePruneOptions {
    /// Sets whether images with names are removed too.
    #[must_use]
    pub fn with_all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }
}

/// What a prune of images removed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrunedImages {
    /// The names removed; images without one are not among them.
    pub untagged: Vec<Reference>,
    /// The content removed.
    pub deleted: Vec<Digest>,
    /// The bytes freed.
    pub bytes: u64,
}

impl LocalEngine {
    pub(super) async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage> {
        let conflict = |why: String, hint: &'static str| {
            Error::new(ErrorKind::Conflict, "remove image")
                .with("image", name)
                .with_message(why)
                .with_hint(hint)
        };
        let names = self.image_names().await?;
        let target = self.find_image(name).await?;
        let of_target: Vec<Reference> =
            names.into_iter().filter(|(_, t)| t.digest == target.digest).map(|(n, _)| n).collect();
        let by_name: Vec<Reference> = match name.parse::<Reference>() {
            Ok(wish) if of_target.contains(&wish) => vec![wish],
            // repo@digest means the names of that repository.
            Ok(wish) if wish.digest() == Some(&target.digest) => {
                let same = |known: &&Reference| {
                    known.registry() == wish.registry() && known.repository() == wish.repository()
                };
                of_target.iter().filter(same).cloned().collect()
            }
            _ => Vec::new(),
        };
        let doomed = match (by_name.is_empty(), of_target.len()) {
            (false, _) => &by_name,
            (true, 2..) if !force => {
                return Err(conflict(
                    "it has several names".to_owned(),
                    "remove each name, or force the removal of all",
                ));
            }
            (true, _) => &of_target,
        };
        let mut keep = false;
        if doomed.len() == of_target.len() {
            let users = self.users_of(&target).await?;
            if let Some(user) = users.first().filter(|_| !force) {
                return Err(conflict(
                    format!("container {} uses it", user.id.short()),
                    "remove the container first, or force the removal of the name",
                ));
            }
            if let Some(user) = self.first_running(&users).await? {
                if by_name.is_empty() {
                    return Err(conflict(
                        format!("running container {} uses it", user.id.short()),
                        "stop the container first, or remove the image's names",
                    ));
                }
                keep = true;
            }
        }
        let mut removed = RemovedImage::default();
        // Before the names go: a crash in between must not leave a running container's image without any.
        if keep {
            self.inner.images.set_name(&Reference::dangling(target.digest.clone()), &target).await?;
        }
        let id = self.id_of(&target).await;
        for reference in doomed {
            if self.untag_image(&id, reference).await? && !reference.is_dangling() {
                removed.untagged.push(reference.clone());
            }
        }
        if !keep && doomed.len() == of_target.len() {
            self.forget_dangling(&target).await?;
        }
        removed.deleted = self.collect_image(&id).await?.blobs;
        Ok(removed)
    }

    pub(super) async fn prune_images(&self, options: &ImagePruneOptions) -> Result<PrunedImages> {
        let mut pruned = PrunedImages::default();
        let (mut spared, mut ids) = (HashSet::new(), HashSet::new());
        let records = self.inner.records.all().await?;
        let in_use: HashSet<&Digest> = records.iter().flat_map(|record| record.manifests()).collect();
        for (name, target) in self.image_names().await? {
            if !(options.all || name.is_dangling()) || spared.contains(&target.digest) {
                continue;
            }
            let doomed = match self.closure(&target).await {
                Ok(closure) => !in_use.iter().any(|manifest| closure.has_manifest(manifest)),
                // What cannot be read is nobody's, unless a container says so itself.
                Err(_) => !in_use.contains(&target.digest),
            };
            if !doomed || !self.is_pruned(&target, options).await {
                spared.insert(target.digest);
                continue;
            }
            let id = self.id_of(&target).await;
            let untagged = self.untag_image(&id, &name).await?;
            ids.insert(id);
            if untagged && !name.is_dangling() {
                pruned.untagged.push(name);
            }
        }
        let report = self.inner.images.collect_garbage().await?;
        for id in report.blobs.iter().filter(|blob| ids.contains(*blob)) {
            self.emit(of_image(Action::Delete, id, id)).await;
        }
        self.emit(of_prune(ObjectKind::Image, report.bytes)).await;
        (pruned.deleted, pruned.bytes) = (report.blobs, report.bytes);
        Ok(pruned)
    }

    pub(super) async fn collect_garbage(&self) -> Result<u64> {
        Ok(self.inner.images.collect_garbage().await?.bytes)
    }

    /// Returns whether the filters of a prune let `target` go.
    async fn is_pruned(&self, target: &Descriptor, options: &ImagePruneOptions) -> bool {
        let image = self.load_image(target, &Platform::host(), &[]).await;
        let (labels, created) = match &image {
            Ok(image) => (image.config.config.labels.clone(), image.config.created.as_str()),
            Err(_) => (BTreeMap::new(), ""),
        };
        let has = |(key, value): (&String, &Option<String>)| match (labels.get(key), value) {
            (Some(known), Some(value)) => known == value,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let old = options
            .until
            .is_none_or(|until| crate::time::parse_rfc3339(created).is_none_or(|created| created < until));
        old && options.labels.iter().all(has) && !options.without_labels.iter().any(has)
    }

    /// Returns the containers that use an image `target` leads to.
    async fn users_of(&self, target: &Descriptor) -> Result<Vec<Record>> {
        let closure = self.closure(target).await.ok();
        let mut users = self.inner.records.all().await?;
        users.retain(|record| {
            record.manifests().any(|manifest| {
                *manifest == target.digest
                    || closure.as_ref().is_some_and(|closure| closure.has_manifest(manifest))
            })
        });
        Ok(users)
    }

    async fn first_running<'a>(&self, users: &'a [Record]) -> Result<Option<&'a Record>> {
        for user in users {
            let state = self.state_of(user).await?;
            if !matches!(state.status, ContainerStatus::Created | ContainerStatus::Exited) {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}
