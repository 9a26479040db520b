//! `GET /system/df`: what images, containers and volumes take on disk.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use engine_core::engine::{BuildCacheEntry, ContainerUsage, DiskUsage, ImagesUsage, VolumeUsage};
use serde_json::{Map, Value, json};

use crate::documents::{container_summary, volume_inspect};
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::reply;
use crate::server::routes::images::Listed;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/system/df", get(df))
}

/// Which things are shown.
struct Shown {
    containers: bool,
    images: bool,
    volumes: bool,
    builds: bool,
}

impl Shown {
    fn of(params: &Params, version: ApiVersion) -> Result<Self> {
        if version < ApiVersion::v1(42) || !params.has("type") {
            return Ok(Self { containers: true, images: true, volumes: true, builds: true });
        }
        let mut shown = Self { containers: false, images: false, volumes: false, builds: false };
        for kind in params.all("type") {
            match kind {
                "container" => shown.containers = true,
                "image" => shown.images = true,
                "volume" => shown.volumes = true,
                "build-cache" => shown.builds = true,
                _ => return Err(ApiError::bad_request(format!("unknown object type: {kind}"))),
            }
        }
        Ok(shown)
    }
}

/// Sums, and the single things where they are wanted.
struct Sums {
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
    items: Vec<Value>,
}

async fn df(State(api): State<Arc<Api>>, version: ApiVersion, params: Params) -> Result<Response> {
    let shown = Shown::of(&params, version)?;
    // Clients that say whether they want the single things know the newer documents.
    let verbose = match params.text("verbose").filter(|_| version >= ApiVersion::v1(52)) {
        None => None,
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Some(true),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Some(false),
        Some(other) => {
            return Err(ApiError::bad_request(format!("invalid value for verbose: {other}")));
        }
    };
    let mut document = Map::new();
    let mut add = |old: &str, new: &str, sums: Sums| {
        if version >= ApiVersion::v1(52) {
            let mut usage = json!({
                "ActiveCount": sums.active,
                "TotalCount": sums.total,
                "TotalSize": sums.size,
                "Reclaimable": sums.reclaimable,
            });
            if verbose == Some(true) {
                usage["Items"] = sums.items.clone().into();
            }
            document.insert(new.to_owned(), usage);
        }
        if verbose.is_none() {
            document.insert(old.to_owned(), sums.items.into());
        }
    };
    let (mut layers, mut cached) = (None, 0);
    if shown.images {
        let sums = images(&api, &api.engine.image_usage().await?).await?;
        layers = Some(sums.size);
        add("Images", "ImageUsage", sums);
    }
    if shown.containers || shown.volumes {
        let usage = api.engine.disk_usage().await?;
        if shown.containers {
            add("Containers", "ContainerUsage", containers(&usage));
        }
        if shown.volumes {
            add("Volumes", "VolumeUsage", volumes(&usage));
        }
    }
    if shown.builds {
        let sums = builds(&api.engine.build_cache().await?);
        cached = sums.size;
        add("BuildCache", "BuildCacheUsage", sums);
    }
    if let Some(layers) = layers.filter(|_| verbose.is_none()) {
        document.insert("LayersSize".to_owned(), layers.into());
    }
    if version < ApiVersion::v1(42) {
        document.insert("BuilderSize".to_owned(), cached.into());
    }
    Ok(reply::json(&document))
}

async fn images(api: &Api, usage: &ImagesUsage) -> Result<Sums> {
    let list = Listed::of(api.engine.images().await?);
    let known =
        |listed: &Listed| usage.images.iter().find(|known| known.target.digest == listed.image.target.digest);
    Ok(Sums {
        total: list.len(),
        active: usage.images.iter().filter(|image| image.containers > 0).count(),
        size: usage.total,
        reclaimable: usage.reclaimable,
        items: list
            .iter()
            .map(|listed| {
                let usage = known(listed);
                listed.document(usage, Some(usage.map_or(0, |usage| usage.containers)))
            })
            .collect(),
    })
}

fn containers(usage: &DiskUsage) -> Sums {
    let all = &usage.containers;
    let runs = |one: &&ContainerUsage| one.info.state.status.is_running();
    let written = |list: &mut dyn Iterator<Item = &ContainerUsage>| list.map(|one| one.written).sum::<u64>();
    Sums {
        total: all.len(),
        active: all.iter().filter(runs).count(),
        size: written(&mut all.iter()),
        reclaimable: written(&mut all.iter().filter(|one| !runs(one))),
        items: all
            .iter()
            .map(|one| {
                let mut document = serde_json::to_value(container_summary(&one.info)).unwrap_or_default();
                document["SizeRw"] = one.written.into();
                document
            })
            .collect(),
    }
}

fn volumes(usage: &DiskUsage) -> Sums {
    let all = &usage.volumes;
    let content = |list: &mut dyn Iterator<Item = &VolumeUsage>| list.filter_map(|one| one.size).sum::<u64>();
    Sums {
        total: all.len(),
        active: all.iter().filter(|one| one.containers > 0).count(),
        size: content(&mut all.iter()),
        reclaimable: content(&mut all.iter().filter(|one| one.containers == 0)),
        items: all
            .iter()
            .map(|one| {
                let document = volume_inspect(&one.volume, Some((one.size, one.containers)));
                serde_json::to_value(document).unwrap_or_default()
            })
            .collect(),
    }
}

fn builds(all: &[BuildCacheEntry]) -> Sums {
    let size = |list: &mut dyn Iterator<Item = &BuildCacheEntry>| list.map(|one| one.size).sum::<u64>();
    Sums {
        total: all.len(),
        active: 0,
        size: size(&mut all.iter()),
        reclaimable: size(&mut all.iter().filter(|one| !one.shared)),
        items: all
            .iter()
            .map(|one| {
                json!({
                    "ID": one.id.hex(),
                    "Type": "regular",
                    "Description": one.description,
                    "InUse": false,
                    "Shared": one.shared,
                    "Size": one.size,
                    "CreatedAt": one.created_at.map(engine_core::time::rfc3339),
                    "LastUsedAt": null,
                    "UsageCount": 0,
                })
            })
            .collect(),
    }
}
