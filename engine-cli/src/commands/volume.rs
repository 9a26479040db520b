//! `volume ls`, `create`, `rm`, `inspect`.

use clap::{Args, Subcommand};
use engine_core::Name;
use engine_core::volume_driver::VolumeOptions;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::options::env;
use crate::output;
use crate::output::table::Listing;

use super::inspect;

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
    /// Show volumes as JSON
    Inspect(inspect::OneKindArgs),
}

/// `volume ls`'s flags.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

/// `volume create`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
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

const LISTING: Listing<'_> = Listing {
    columns: "{{.Driver}}\t{{.Name}}",
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Labels", "LABELS"),
        ("LabelMap", ""),
        ("Mountpoint", "MOUNTPOINT"),
        ("Scope", "SCOPE"),
    ],
    quiet: "Name",
};

/// Runs a command of volumes.
pub(crate) async fn run(context: &Context, command: VolumeCommand) -> Result<u8> {
    match command {
        VolumeCommand::Ls(args) => {
            let volumes = context.engine().await?.volumes().await?;
            let rows: Vec<Value> = volumes
                .iter()
                .map(|volume| {
                    let labels: Vec<String> = volume.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    json!({
                        "Driver": volume.driver,
                        "Name": volume.name.as_str(),
                        "Labels": labels.join(","),
                        "LabelMap": volume.labels,
                        "Mountpoint": volume.mountpoint.as_ref().map(|m| m.display().to_string()),
                        "Scope": "local",
                    })
                })
                .collect();
            output::print(&LISTING.show(&rows, args.format.as_deref(), args.quiet)?)?;
            Ok(0)
        }
        VolumeCommand::Create(args) => {
            let mut options = VolumeOptions::default();
            options.labels = env::labels(&[], &args.label)?;
            options.driver_options = env::labels(&[], &args.options)?;
            let name = args.name.unwrap_or_else(Name::random_hex);
            let volume = context.engine().await?.create_volume(&name, &options).await?;
            output::line(volume.name)?;
            Ok(0)
        }
        VolumeCommand::Rm(args) => {
            let engine = context.engine().await?;
            let known = engine.volumes().await?;
            let mut several = Several::default();
            for name in &args.names {
                let removed = async {
                    if !args.force && !known.iter().any(|volume| volume.name == *name) {
                        return Err(Failure::usage(format!(
                            "no such volume: {name} (\"volume ls\" lists them)"
                        )));
                    }
                    engine.remove_volume(name).await?;
                    output::line(name)
                };
                several.note(removed.await);
            }
            several.finish()
        }
        VolumeCommand::Inspect(args) => inspect::inspect(context, &args.of(inspect::Kind::Volume)).await,
    }
}
