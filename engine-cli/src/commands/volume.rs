//! `volume ls`, `create`, `rm`, `inspect`, `prune`.

use clap::{Args, Subcommand};
use engine_api::notation;
use engine_core::engine::LabelFilter;
use engine_core::volume_driver::{ANONYMOUS_LABEL, Volume, VolumeOptions};
use engine_core::{ErrorKind, Name};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::options::env;
use crate::options::filter::Filter;
use crate::options::list::ListArgs;
use crate::output;
use crate::output::table::Listing;

use super::{files, inspect, prune};

/// `engine-cli volume …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Create a volume
    Create(CreateArgs),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Give a volume that no container uses another name
    Rename(RenameArgs),
    /// Remove volumes that no container uses
    Prune(prune::VolumePruneArgs),
    /// Show volumes as JSON
    Inspect(inspect::OneKindArgs),
    /// Write a volume's content as a tar archive
    Export(files::ExportVolumeArgs),
    /// Unpack a tar archive into a volume
    Import(files::ImportVolumeArgs),
}

/// `volume ls`'s flags.
#[derive(Args, Debug)]
#[command(mut_arg("filter", |arg| arg.help("Show only those that match: dangling, driver, label, name")))]
pub(crate) struct LsArgs {
    #[command(flatten)]
    list: ListArgs,
}

/// `volume create`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Driver: local
    #[arg(short, long, value_name = "DRIVER", default_value = "local", hide_default_value = true)]
    driver: String,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver: type, device, o
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// The name; a random one without it
    name: Option<Name>,
}

/// `volume rm`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Say nothing about volumes that are gone
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<Name>,
}

/// `volume rename`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct RenameArgs {
    /// The volume
    #[arg(value_name = "VOLUME")]
    name: Name,
    /// Its new name
    #[arg(value_name = "NEW-NAME")]
    new: Name,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.Driver}}\t{{.Name}}",
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Labels", "LABELS"),
        ("LabelMap", ""),
        ("Mountpoint", "MOUNTPOINT"),
        ("Scope", "SCOPE"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
    ],
    quiet: "Name",
};

/// Returns a volume's fields. What must be measured is not, as in Docker.
pub(crate) fn row(volume: &Volume) -> Value {
    let labels: Vec<String> = volume.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "Driver": volume.driver,
        "Name": volume.name.as_str(),
        "Labels": labels.join(","),
        "LabelMap": volume.labels,
        "Mountpoint": volume.mountpoint.as_ref().map(|m| m.display().to_string()).unwrap_or_default(),
        "Scope": "local",
        "Links": "N/A",
        "Size": "N/A",
        "Status": "N/A",
        "Availability": "N/A",
        "Group": "N/A",
    })
}

/// Runs a command of volumes.
pub(crate) async fn run(context: &Context, command: VolumeCommand) -> Result<u8> {
    match command {
        VolumeCommand::Ls(args) => ls(context, &args).await,
        VolumeCommand::Create(args) => {
            notation::volume_driver(&args.driver).map_err(Failure::usage)?;
            let mut options = VolumeOptions::default();
            options.labels = env::labels(&[], &args.label)?;
            options.driver_options = env::labels(&[], &args.options)?;
            let name = args.name.unwrap_or_else(|| {
                options.labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
                Name::random_hex()
            });
            let volume = context.engine().await?.create_volume(&name, &options).await?;
            output::line(volume.name)?;
            Ok(0)
        }
        VolumeCommand::Rm(args) => {
            let engine = context.engine().await?;
            let mut several = Several::default();
            for name in &args.names {
                let removed = async {
                    match engine.volume(name).await {
                        Err(error) if error.kind() == ErrorKind::NotFound && !args.force => {
                            return Err(no_such(name));
                        }
                        // Another failure is the removal's to report: a damaged volume can be removed.
                        _ => engine.remove_volume(name).await?,
                    }
                    output::line(name)
                };
                several.note(removed.await);
            }
            several.finish()
        }
        VolumeCommand::Rename(args) => {
            context.engine().await?.rename_volume(&args.name, &args.new).await?;
            Ok(0)
        }
        VolumeCommand::Prune(args) => prune::volumes(context, &args).await,
        VolumeCommand::Export(args) => files::export_volume(context, &args).await,
        VolumeCommand::Import(args) => files::import_volume(context, &args).await,
        VolumeCommand::Inspect(args) => inspect::inspect(context, &args.of(inspect::Kind::Volume)).await,
    }
}

fn no_such(name: &Name) -> Failure {
    Failure::usage(format!("no such volume: {name} (\"volume ls\" lists them)"))
}

async fn ls(context: &Context, args: &LsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.list.filter)?;
    let engine = context.engine().await?;
    // Only this question needs the containers.
    let users = match filters.dangling {
        Some(_) => engine.volume_users().await?,
        None => Default::default(),
    };
    let volumes = engine.volumes().await?;
    let rows: Vec<Value> = volumes
        .iter()
        .filter(|volume| filters.matches(volume))
        .filter(|volume| filters.dangling.is_none_or(|wish| wish != users.contains_key(&volume.name)))
        .map(row)
        .collect();
    args.list.print(&LISTING, &rows)?;
    Ok(0)
}

/// What `--filter` asks for. Values of one key are alternatives, except labels; keys must all match.
#[derive(Debug, Default)]
struct Filters {
    dangling: Option<bool>,
    drivers: Vec<String>,
    names: Vec<String>,
    labels: Vec<LabelFilter>,
}

impl Filters {
    fn parse(texts: &[String]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let filter = Filter::parse(text)?;
            let Filter { key, value, .. } = filter;
            match key {
                "dangling" => filters.dangling = Some(filter.flag()?),
                "driver" => filters.drivers.push(value.to_owned()),
                "name" => filters.names.push(value.to_owned()),
                "label" => filters.labels.push(LabelFilter::parse(value, true)),
                "label!" => filters.labels.push(LabelFilter::parse(value, false)),
                _ => return Err(filter.wrong("the keys are dangling, driver, label and name")),
            }
        }
        Ok(filters)
    }

    fn matches(&self, volume: &Volume) -> bool {
        (self.drivers.is_empty() || self.drivers.contains(&volume.driver))
            && (self.names.is_empty()
                || self.names.iter().any(|part| volume.name.as_str().contains(part.as_str())))
            && self.labels.iter().all(|label| label.matches(|key| volume.labels.get(key)))
    }
}
