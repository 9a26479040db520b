//! The files of an image as an archive.
//!
//! What is shown is a mount of its layers, so links and whiteouts are the kernel's; it goes when the archive does.

use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::files::ContainerFiles as _;
#[cfg(feature = "linux")]
use crate::files::UnpackFiles;
use crate::io::ByteStream;
use crate::platform::Platform;

#[cfg(feature = "linux")]
use super::Engine;
use super::LocalEngine;

/// An archive of nothing: its end alone.
const EMPTY: [u8; 1024] = [0; 1024];

impl LocalEngine {
    pub(super) async fn export_image(&self, name: &str, platform: &Platform) -> Result<ByteStream> {
        // Until the layers are held for the archive.
        let _lease = self.inner.images.lease().await?;
        let target = self.find_image(name).await?;
        let image = self.load_image(&target, platform, &[]).await?;
        if !image.contents.is_container_image() {
            return Err(Error::new(ErrorKind::InvalidArgument, "export image")
                .with("image", name)
                .with_message("it is an artifact, and has no file system"));
        }
        if image.diff_ids().is_empty() {
            return Ok(stream::once(async { Ok(Bytes::from_static(&EMPTY)) }).boxed());
        }
        self.unpack_missing(&image).await?;
        let view = self.view(&image.manifest.digest, image.diff_ids()).await?;
        let (_, archive) = view.pack(Path::new("/.")).await?;
        let held = archive.map(move |piece| {
            let _held = &view;
            piece
        });
        Ok(held.boxed())
    }
}

#[cfg(feature = "linux")]
impl Engine {
    /// Writes the files of an image, named as for [`image`](Self::image), into the directory `dir`, which is made if it is not
    /// there; what it has under other names stays. No link is followed out of it, and everything belongs to the user of this program.
    ///
    /// # Errors
    /// As [`export_image`](Self::export_image), and what the host's file system says; what is written by then stays.
    pub async fn export_image_to_host(
        &self,
        name: &str,
        platform: &Platform,
        dir: impl AsRef<Path>,
    ) -> Result<()> {
        let archive = self.export_image(name, platform).await?;
        let dir = dir.as_ref().to_owned();
        let made = dir.clone();
        super::blocking(move || {
            // What is no directory is told of below.
            if made.exists() {
                return Ok(());
            }
            std::fs::create_dir_all(&made)
                .map_err(|e| Error::from_io("export image", e).with("destination", made.display()))
        })
        .await?;
        let written = crate::linux::files::unpack_host(&dir, archive, &UnpackFiles::default(), false).await;
        written.map_err(|error| {
            let hint = format!("what was written before stays in {}", dir.display());
            error.with("destination", dir.display()).with_hint(hint)
        })
    }
}
