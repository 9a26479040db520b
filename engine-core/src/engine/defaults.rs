//! The one place that picks implementations.

use std::path::Path;
use std::sync::Arc;

use crate::cgroups::CgroupOptions;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::image_store::ImageStore;
use crate::runtime::Runtime;
use crate::volume_driver::VolumeDriver;

/// The embedded implementations.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) images: Arc<dyn ImageStore>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) volumes: Arc<dyn VolumeDriver>,
}

/// Opens the embedded implementations over `root`.
#[cfg(feature = "linux")]
pub(super) async fn open(
    root: &Path,
    run_root: &Path,
    database: &Arc<Database>,
    cgroups: CgroupOptions,
    max_bytes: u64,
) -> Result<Defaults> {
    use crate::linux::image_store::LocalImageStoreOptions;
    use crate::linux::{LinuxRuntime, LocalImageStore, LocalVolumes};
    let (store_root, store_database) = (root.to_owned(), Arc::clone(database));
    let images = super::blocking(move || {
        let options = LocalImageStoreOptions::default().with_max_bytes(max_bytes);
        LocalImageStore::open(&store_root, store_database, options)
    });
    let (images, runtime, volumes) =
        tokio::try_join!(images, LinuxRuntime::open_with(root, run_root, cgroups), LocalVolumes::open(root))?;
    Ok(Defaults { images: Arc::new(images), runtime: Arc::new(runtime), volumes: Arc::new(volumes) })
}

/// Without the feature `linux` there are no defaults.
#[cfg(not(feature = "linux"))]
pub(super) async fn open(
    root: &Path,
    _: &Path,
    _: &Arc<Database>,
    _: CgroupOptions,
    _: u64,
) -> Result<Defaults> {
    Err(Error::new(crate::error::ErrorKind::Unsupported, "open engine")
        .with("root", root.display())
        .with_message("this program was built without engine-core's feature \"linux\"")
        .with_hint("give the builder an image store, a runtime and a volume driver"))
}

/// Fails with what is missing, if this host cannot run the embedded implementations.
#[cfg(feature = "linux")]
pub(super) fn check_host(root: &Path) -> Result<()> {
    crate::linux::check_host(root)
}

#[cfg(not(feature = "linux"))]
pub(super) fn check_host(_: &Path) -> Result<()> {
    Ok(())
}

/// Makes a directory that only its owner can enter (SECURITY B9), if it is not there.
pub(super) fn make_private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |e: std::io::Error| Error::from_io("make directory", e).with("path", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}
