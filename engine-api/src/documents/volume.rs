//! A volume as `docker volume inspect` shows it.

use bollard_stubs::models::{Volume as Document, VolumeScopeEnum, VolumeUsageData};
use engine_core::volume_driver::Volume;

use super::dates::date;

/// Returns the answer of `GET /volumes/{name}`. `usage` is its size, where that is known, and how many containers use it.
#[must_use]
pub fn volume_inspect(volume: &Volume, usage: Option<(Option<u64>, usize)>) -> Document {
    // -1 is Docker's "not available".
    let usage_data = usage.map(|(size, users)| VolumeUsageData {
        size: size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1),
        ref_count: i64::try_from(users).unwrap_or(-1),
    });
    Document {
        name: volume.name.to_string(),
        driver: volume.driver.clone(),
        mountpoint: volume.mountpoint.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        created_at: date(volume.created_at),
        labels: volume.labels.clone().into_iter().collect(),
        options: volume.driver_options.clone().into_iter().collect(),
        scope: Some(VolumeScopeEnum::LOCAL),
        usage_data,
        ..Document::default()
    }
}
