//! Mounts: `Binds`, `Mounts`, `Tmpfs`, `VolumesFrom`, and the anonymous volumes of `Volumes`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine_core::container_spec::MountSpec;
use engine_core::mount::{Mount, MountKind, MountOptions, Propagation, covered};
use engine_core::volume_driver::VolumeOptions;
use engine_core::{ContainerSpec, Engine, Name};

use crate::models::{
    self, ContainerCreateBody, HostConfig, MountBindOptionsPropagationEnum as BindPropagation,
    MountTmpfsOptions, MountType,
};
use crate::notation;
use crate::server::error::{ApiError, Result};

use super::{bad, text};

pub(super) async fn apply(
    spec: &mut ContainerSpec,
    engine: &Engine,
    body: &ContainerCreateBody,
    host: &HostConfig,
) -> Result<()> {
    for bind in host.binds.iter().flatten() {
        spec.mounts.push(notation::volume(bind)?);
    }
    for (index, mount) in host.mounts.iter().flatten().enumerate() {
        spec.mounts.push(read(mount).map_err(|error| match error {
            Wrong::Field(field, why) => bad(&format!("HostConfig.Mounts[{index}].{field}"), why),
            Wrong::Error(error) => error,
        })?);
    }
    // In an order that is always the same.
    let tmpfs: BTreeMap<_, _> = host.tmpfs.iter().flatten().collect();
    for (target, options) in tmpfs {
        spec.mounts.push(notation::tmpfs_at(target, options)?);
    }
    for from in host.volumes_from.iter().flatten() {
        spec.volumes_from.push(notation::volumes_from(from)?);
    }
    anonymous(spec, engine, body).await
}

/// Adds anonymous volumes where nothing else is mounted.
async fn anonymous(spec: &mut ContainerSpec, engine: &Engine, body: &ContainerCreateBody) -> Result<()> {
    let mut wanted = body.volumes.clone().unwrap_or_default();
    wanted.sort_unstable();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut taken: Vec<PathBuf> = spec.mounts.iter().map(|mount| covered(mount.target())).collect();
    for from in &spec.volumes_from {
        // One that is not there is told of at the creation.
        if let Ok(container) = engine.container(&from.container).await {
            let mounts = container.inspect().await?.spec.mounts;
            taken.extend(mounts.iter().map(|mount| covered(mount.target())));
        }
    }
    for target in wanted {
        let place = covered(Path::new(&target));
        if !taken.contains(&place) {
            spec.mounts.push(MountSpec::volume(None, target));
            taken.push(place);
        }
    }
    Ok(())
}

/// What is wrong with a mount: one of its fields, or what somebody else says.
enum Wrong {
    Field(&'static str, String),
    Error(ApiError),
}

impl From<engine_core::Error> for Wrong {
    fn from(error: engine_core::Error) -> Self {
        Self::Error(error.into())
    }
}

fn wrong<T>(field: &'static str, why: impl Into<String>) -> std::result::Result<T, Wrong> {
    Err(Wrong::Field(field, why.into()))
}

/// Reads one of `Mounts`.
fn read(mount: &models::Mount) -> std::result::Result<MountSpec, Wrong> {
    let Some(target) = text(mount.target.as_ref()) else {
        return wrong("Target", "field Target must not be empty");
    };
    if !target.starts_with('/') {
        return wrong("Target", format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    let source = text(mount.source.as_ref());
    let read_only = mount.read_only.unwrap_or(false);
    refuse_others(mount)?;
    match mount.typ {
        Some(MountType::BIND) => match source {
            Some(source) => bind(mount, &source, target, read_only),
            None => wrong("Source", "field Source must not be empty"),
        },
        Some(MountType::VOLUME) => {
            let own = mount.volume_options.clone().unwrap_or_default();
            let driver = own.driver_config.unwrap_or_default();
            if let Some(name) = text(driver.name.as_ref()) {
                notation::volume_driver(&name)
                    .map_err(|why| Wrong::Field("VolumeOptions.DriverConfig.Name", why))?;
            }
            let mut options = MountOptions::default();
            options.read_only = read_only;
            let mut create = VolumeOptions::default();
            create.labels = own.labels.unwrap_or_default().into_iter().collect();
            create.driver_options = driver.options.unwrap_or_default().into_iter().collect();
            Ok(MountSpec::Volume {
                name: source.map(|name| name.parse::<Name>()).transpose()?,
                target: target.into(),
                options,
                no_copy: own.no_copy.unwrap_or(false),
                subpath: text(own.subpath.as_ref()).map(Into::into),
                create,
            })
        }
        Some(MountType::TMPFS) => match source {
            Some(_) => wrong("Source", "field Source must not be specified"),
            None => tmpfs(mount.tmpfs_options.as_ref(), &target, read_only),
        },
        Some(MountType::IMAGE) => match source {
            Some(image) => {
                let subpath = mount.image_options.as_ref().and_then(|own| text(own.subpath.as_ref()));
                Ok(MountSpec::Image { image, target: target.into(), subpath: subpath.map(Into::into) })
            }
            None => wrong("Source", "field Source must not be empty"),
        },
        Some(other) => wrong("Type", format!("mounts of type {other} are not supported")),
        None => wrong("Type", "mount type unknown: \"\""),
    }
}

/// Docker's rule: options of another type are no mere surplus.
fn refuse_others(mount: &models::Mount) -> std::result::Result<(), Wrong> {
    let is = |kind: MountType| mount.typ == Some(kind);
    let fields = [
        ("BindOptions", mount.bind_options.is_some() && !is(MountType::BIND)),
        ("VolumeOptions", mount.volume_options.is_some() && !is(MountType::VOLUME)),
        ("TmpfsOptions", mount.tmpfs_options.is_some() && !is(MountType::TMPFS)),
        ("ImageOptions", mount.image_options.is_some() && !is(MountType::IMAGE)),
    ];
    match fields.iter().find(|(_, is_wrong)| *is_wrong) {
        Some((field, _)) => wrong(field, format!("field {field} must not be specified")),
        None => Ok(()),
    }
}

fn bind(
    mount: &models::Mount,
    source: &str,
    target: String,
    read_only: bool,
) -> std::result::Result<MountSpec, Wrong> {
    if !source.starts_with('/') {
        return wrong("Source", format!("invalid mount path: '{source}' mount path must be absolute"));
    }
    let own = mount.bind_options.clone().unwrap_or_default();
    let shallow = own.read_only_non_recursive.unwrap_or(false);
    if (shallow || own.read_only_force_recursive == Some(true)) && !read_only {
        return wrong("BindOptions", "it is about read-only mounts: ReadOnly is not set");
    }
    let mut bind = Mount::bind(source, target);
    bind.kind = MountKind::Bind { source: source.into(), recursive: !own.non_recursive.unwrap_or(false) };
    bind.options.read_only = read_only;
    bind.options.recursive_read_only = read_only && !shallow;
    bind.options.create_source = own.create_mountpoint.unwrap_or(false);
    bind.options.propagation = match own.propagation {
        Some(BindPropagation::PRIVATE) => Propagation::Private,
        Some(BindPropagation::SHARED) => Propagation::Shared,
        Some(BindPropagation::RSHARED) => Propagation::Rshared,
        Some(BindPropagation::SLAVE) => Propagation::Slave,
        Some(BindPropagation::RSLAVE) => Propagation::Rslave,
        _ => Propagation::Rprivate,
    };
    Ok(MountSpec::Mount(bind))
}

fn tmpfs(
    own: Option<&MountTmpfsOptions>,
    target: &str,
    read_only: bool,
) -> std::result::Result<MountSpec, Wrong> {
    let own = own.cloned().unwrap_or_default();
    // Each is a flag, or a key and its value.
    let options: Vec<String> = own.options.iter().flatten().map(|option| option.join("=")).collect();
    let mut spec = notation::tmpfs_at(target, &options.join(","))?;
    if let MountSpec::Mount(mount) = &mut spec {
        mount.options.read_only |= read_only;
        if let MountKind::Tmpfs { size, mode, .. } = &mut mount.kind {
            match own.size_bytes.map(u64::try_from) {
                Some(Ok(bytes)) if bytes > 0 => *size = Some(bytes),
                Some(Err(_)) => return wrong("TmpfsOptions.SizeBytes", "it is negative"),
                _ => {}
            }
            if let Some(wanted) = own.mode.filter(|mode| *mode != 0) {
                match u32::try_from(wanted).ok().filter(|mode| *mode <= 0o7777) {
                    Some(wanted) => *mode = wanted,
                    None => return wrong("TmpfsOptions.Mode", format!("{wanted:#o} is no mode of a file")),
                }
            }
        }
    }
    Ok(spec)
}
