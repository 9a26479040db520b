//! Names of images, and what becomes of an image that loses its last one.
//!
//! An image that another one replaces under its only name is kept as *dangling*, as Docker does, until it is removed or
//! pruned. Invariant: an image that has a name is not shown as dangling, even after a crash between the two steps.

use crate::descriptor::Descriptor;
use crate::error::{Error, ErrorKind, Result};
use crate::reference::Reference;

use super::LocalEngine;

impl LocalEngine {
    /// Returns all names of images in order, dangling ones as well: not those of a build's steps, which are nobody's images.
    pub(super) async fn all_names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let mut names = self.inner.images.names().await?;
        names.retain(|(name, _)| !name.is_build_step());
        Ok(names)
    }

    /// Returns all names in order; dangling ones only of images that have no other.
    pub(super) async fn image_names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let mut names = self.all_names().await?;
        let named: std::collections::HashSet<_> = names
            .iter()
            .filter(|(name, _)| !name.is_dangling())
            .map(|(_, target)| target.digest.clone())
            .collect();
        names.retain(|(name, target)| !name.is_dangling() || !named.contains(&target.digest));
        Ok(names)
    }

    /// Points `name` at `target`. What it pointed at before stays, without a name if that was its last.
    pub(super) async fn set_image_name(&self, name: &Reference, target: &Descriptor) -> Result<()> {
        if name.is_dangling() || name.is_build_step() {
            return Err(Error::new(ErrorKind::InvalidArgument, "name image")
                .with("name", name)
                .with_message("names of this registry are given to images without a name only"));
        }
        let store = &self.inner.images;
        let old = store.resolve_name(name).await?.filter(|old| old.digest != target.digest);
        if let Some(old) = old {
            let names = self.all_names().await?;
            if !names.iter().any(|(other, known)| known.digest == old.digest && other != name) {
                store.set_name(&Reference::dangling(old.digest.clone()), &old).await?;
            }
        }
        store.set_name(name, target).await?;
        self.forget_dangling(target).await
    }

    /// Keeps `target` without a name, unless it has one.
    pub(super) async fn keep_dangling(&self, target: &Descriptor) -> Result<()> {
        let names = self.all_names().await?;
        if names.iter().any(|(_, known)| known.digest == target.digest) {
            return Ok(());
        }
        self.inner.images.set_name(&Reference::dangling(target.digest.clone()), target).await
    }

    /// Ends the dangling state of `target`.
    pub(super) async fn forget_dangling(&self, target: &Descriptor) -> Result<()> {
        let dangling = Reference::dangling(target.digest.clone());
        if self.inner.images.resolve_name(&dangling).await?.is_some() {
            self.inner.images.remove_name(&dangling).await?;
        }
        Ok(())
    }
}
