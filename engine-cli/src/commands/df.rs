//! `system df`: what images, containers and volumes take on disk.

use clap::Args;
use engine_core::engine::{BuildCacheEntry, DiskUsage, ImagesUsage};
use engine_core::state::ContainerStatus;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Result;
use crate::output::table::Listing;
use crate::output::{self, human};

use super::{ps, volume};

/// `system df`'s flags.
#[derive(Args, Debug)]
pub(crate) struct DfArgs {
    /// Show each image, container and volume
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    quiet: "Type",
};

/// Runs `system df`.
pub(crate) async fn df(context: &Context, args: &DfArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let (images, usage) = (engine.image_usage().await?, engine.disk_usage().await?);
    let cache = engine.build_cache().await?;
    if args.verbose {
        return output::print(&verbose(&images, &usage, &cache)?).map(|()| 0);
    }
    output::print(&LISTING.show(&summary(&images, &usage, &cache), args.format.as_deref(), false)?)?;
    Ok(0)
}

fn summary(images: &ImagesUsage, usage: &DiskUsage, cache: &[BuildCacheEntry]) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, size: u64, free: u64| {
        // Docker shows a share only where there is something.
        let share = free.checked_mul(100).and_then(|n| n.checked_div(size));
        let free = human::size(free);
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": human::size(size),
            "Reclaimable": share.map_or_else(|| free.clone(), |share| format!("{free} ({share}%)")),
        })
    };
    let used = images.images.iter().filter(|image| image.containers > 0).count();
    let runs = |status: ContainerStatus| status.is_running() || status == ContainerStatus::Restarting;
    let running = usage.containers.iter().filter(|container| runs(container.info.state.status));
    let written: u64 = usage.containers.iter().map(|container| container.written).sum();
    let idle = written - running.clone().map(|container| container.written).sum::<u64>();
    let volumes = &usage.volumes;
    let content = |free: bool| -> u64 {
        volumes.iter().filter(|v| !free || v.containers == 0).filter_map(|v| v.size).sum()
    };
    let steps = |of: &mut dyn Iterator<Item = &BuildCacheEntry>| of.map(|step| step.size).sum();
    let mounted = volumes.iter().filter(|volume| volume.containers > 0).count();
    vec![
        row("Images", images.images.len(), used, images.total, images.reclaimable),
        row("Containers", usage.containers.len(), running.count(), written, idle),
        row("Local Volumes", volumes.len(), mounted, content(false), content(true)),
        row(
            "Build Cache",
            cache.len(),
            0,
            steps(&mut cache.iter()),
            steps(&mut cache.iter().filter(|step| !step.shared)),
        ),
    ]
}

fn verbose(all: &ImagesUsage, usage: &DiskUsage, cache: &[BuildCacheEntry]) -> Result<String> {
    let mut text = String::new();
    let mut table = |title: &str, listing: &Listing<'_>, rows: &[Value]| -> Result<()> {
        text.push_str(title);
        text.push_str("\n\n");
        text.push_str(&listing.show(rows, None, false)?);
        text.push('\n');
        Ok(())
    };
    let mut images = Vec::new();
    for one in &all.images {
        let names =
            one.names.iter().map(|name| (name.familiar_name(), name.tag().unwrap_or("<none>").to_owned()));
        let mut names: Vec<(String, String)> = names.collect();
        if names.is_empty() {
            names.push(("<none>".to_owned(), "<none>".to_owned()));
        }
        for (repository, tag) in names {
            let created = engine_core::time::parse_rfc3339(&one.created);
            images.push(json!({
                "Repository": repository,
                "Tag": tag,
                "ID": &one.id.as_ref().unwrap_or(&one.target.digest).hex()[..12],
                "CreatedSince": created.map_or_else(|| "N/A".to_owned(), human::ago),
                "Size": human::size(one.size),
                "SharedSize": human::size(one.shared),
                "UniqueSize": human::size(one.unique),
                "Containers": one.containers.to_string(),
            }));
        }
    }
    table("Images space usage:", &IMAGES, &images)?;
    let containers: Vec<Value> = usage
        .containers
        .iter()
        .map(|one| {
            let mut row = ps::row(&one.info, false);
            row["Size"] = human::size(one.written).into();
            row
        })
        .collect();
    table("Containers space usage:", &CONTAINERS, &containers)?;
    let volumes: Vec<Value> = usage
        .volumes
        .iter()
        .map(|one| {
            let mut row = volume::row(&one.volume);
            row["Links"] = one.containers.to_string().into();
            row["Size"] = one.size.map_or_else(|| "N/A".to_owned(), human::size).into();
            row
        })
        .collect();
    table("Local Volumes space usage:", &VOLUMES, &volumes)?;
    let size = cache.iter().map(|step| step.size).sum();
    let steps: Vec<Value> = cache
        .iter()
        .map(|step| {
            json!({
                "ID": &step.id.hex()[..12],
                "CacheType": "regular",
                "Size": human::size(step.size),
                "CreatedSince": step.created_at.map_or_else(|| "N/A".to_owned(), human::ago),
                "Shared": step.shared.to_string(),
            })
        })
        .collect();
    table(&format!("Build cache usage: {}", human::size(size)), &STEPS, &steps)?;
    Ok(text)
}

const IMAGES: Listing<'_> = Listing {
    columns: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    quiet: "ID",
};

const CONTAINERS: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    quiet: "ID",
};

const VOLUMES: Listing<'_> = Listing {
    columns: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    headings: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    quiet: "Name",
};

const STEPS: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.Shared}}",
    headings: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("Shared", "SHARED"),
    ],
    quiet: "ID",
};
