//! `container fork` and `container snapshot`.

use clap::{Args, Subcommand};
use engine_core::engine::ForkOptions;
use engine_core::{ExecId, Name};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Result, Several};
use crate::output::table::Listing;
use crate::output::{self, human};

use super::files;

/// `container fork`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ForkArgs {
    /// Name of the new container
    #[arg(long)]
    name: Option<Name>,
    /// Name or id of the container to fork
    container: String,
}

/// `engine-cli container snapshot …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Keep the state of a container's root file system
    Create(CreateArgs),
    /// List the snapshots of a container
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show what changed since a snapshot
    Diff(OneArgs),
    /// Take a stopped container's root file system back to a snapshot
    Restore(OneArgs),
    /// Remove snapshots
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// `container snapshot create`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Name or id
    container: String,
    /// The snapshot's name; a number behind "snapshot-" without it
    snapshot: Option<Name>,
}

/// `container snapshot ls`'s flags.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
    /// Name or id
    container: String,
}

/// A snapshot of a container.
#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// Name or id
    container: String,
    /// The snapshot's name
    snapshot: Name,
}

/// `container snapshot rm`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Name or id
    container: String,
    /// Names of snapshots
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<Name>,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.Name}}\t{{.ID}}\t{{.CreatedSince}}",
    headings: &[
        ("Name", "SNAPSHOT"),
        ("ID", "SNAPSHOT ID"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Exec", "EXEC"),
    ],
    quiet: "Name",
};

/// Runs `container fork`.
pub(crate) async fn fork(context: &Context, args: &ForkArgs) -> Result<u8> {
    let source = context.engine().await?.container(&args.container).await?;
    output::line(source.fork(ForkOptions::default().with_name(args.name.clone())).await?.id())?;
    Ok(0)
}

/// Runs `container snapshot …`.
pub(crate) async fn snapshot(context: &Context, command: &SnapshotCommand) -> Result<u8> {
    let engine = context.engine().await?;
    match command {
        SnapshotCommand::Create(args) => {
            let made = engine.container(&args.container).await?.snapshot(args.snapshot.clone()).await?;
            output::line(made.name)?;
        }
        SnapshotCommand::Ls(args) => {
            let list = engine.container(&args.container).await?.snapshots().await?;
            let rows: Vec<Value> = list
                .iter()
                .map(|snapshot| {
                    json!({
                        "Name": snapshot.name.as_str(),
                        "ID": snapshot.id.short(),
                        "CreatedAt": human::listed(snapshot.created_at),
                        "CreatedSince": human::ago(snapshot.created_at),
                        "Exec": snapshot.exec.as_ref().map(ExecId::short).unwrap_or_default(),
                    })
                })
                .collect();
            output::print(&LISTING.show(&rows, args.format.as_deref(), args.quiet)?)?;
        }
        SnapshotCommand::Diff(args) => {
            files::changes(&engine.container(&args.container).await?.changes_since(&args.snapshot).await?)?;
        }
        SnapshotCommand::Restore(args) => {
            engine.container(&args.container).await?.restore(&args.snapshot).await?;
            output::line(&args.snapshot)?;
        }
        SnapshotCommand::Rm(args) => {
            let container = engine.container(&args.container).await?;
            let mut several = Several::default();
            for name in &args.snapshots {
                let removed = async {
                    container.remove_snapshot(name).await?;
                    output::line(name)
                };
                several.note(removed.await);
            }
            return several.finish();
        }
    }
    Ok(0)
}
