//! `ps`.

use clap::Args;
use engine_api::listing::{ContainerFilters, mount_sources, network_names};
use engine_api::{command_text, image_size, status_text};
use engine_core::ContainerInfo;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Result;
use crate::options::filter::Filter;
use crate::options::list::ListArgs;
use crate::output::table::Listing;
use crate::output::{human, ports};

/// `ps`'s flags.
#[derive(Args, Debug)]
#[command(mut_arg("filter", |arg| arg.help("Show only those that match: id, name, label, status, health, ancestor, exited, before, since, volume, network, publish, expose")))]
pub(crate) struct PsArgs {
    /// Show all containers, not only those running
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    list: ListArgs,
    /// Show the last created, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = -1, hide_default_value = true, allow_hyphen_values = true)]
    last: i64,
    /// Show the latest created, running or not
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Show what each has written, and with its image
    #[arg(short, long)]
    size: bool,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("LabelMap", ""),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Platform", "PLATFORM"),
    ],
    quiet: "ID",
};

const LISTING_WITH_SIZE: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..LISTING
};

/// Runs `ps`.
pub(crate) async fn ps(context: &Context, args: &PsArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let wishes = args.list.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
    let pairs: Vec<_> = wishes.iter().map(|filter| (filter.key, filter.value)).collect();
    let filters = ContainerFilters::read(&engine, &pairs).await?;
    let mut list = engine.containers().await?;
    let last = if args.latest { 1 } else { args.last };
    let everything = args.all || last >= 0 || filters.names_a_status();
    list.retain(|info| everything || info.state.status.is_running());
    list.retain(|info| filters.matches(info));
    if let Ok(last) = usize::try_from(last) {
        list.truncate(last);
    }
    let mut rows: Vec<Value> = list.iter().map(|info| row(info, args.no_trunc)).collect();
    let wanted = args.size || args.list.format.as_ref().is_some_and(|format| format.contains(".Size"));
    for (row, info) in rows.iter_mut().zip(&list).filter(|_| wanted) {
        let written = engine.container_usage(&info.id).await?;
        let whole = human::size(written + image_size(&engine, info).await);
        row["Size"] = format!("{} (virtual {whole})", human::size(written)).into();
    }
    let listing = if args.size { LISTING_WITH_SIZE } else { LISTING };
    args.list.print(&listing, &rows)?;
    Ok(0)
}

/// Returns a container's fields. What must be measured is not.
pub(crate) fn row(info: &ContainerInfo, full: bool) -> Value {
    let command = command_text(&info.command);
    let command = match command.char_indices().nth(19) {
        Some((at, _)) if !full && command.chars().count() > 20 => format!("{}…", &command[..at]),
        _ => command,
    };
    let labels: Vec<String> = info.spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mounts = mount_sources(info);
    json!({
        "ID": if full { info.id.as_str() } else { info.id.short() },
        "Image": info.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": human::listed(info.created_at),
        "RunningFor": human::ago(info.created_at),
        "Ports": ports::column(&engine_api::port_summaries(info)),
        "State": info.state.status.as_str(),
        "Status": status_text(&info.state),
        "Size": "0B",
        "Names": info.name.as_str(),
        "Labels": labels.join(","),
        "LabelMap": info.spec.labels,
        "Mounts": mounts.join(","),
        "LocalVolumes": info.spec.mounts.iter().filter(|m| m.volume_name().is_some()).count().to_string(),
        "Networks": network_names(info),
    })
}
