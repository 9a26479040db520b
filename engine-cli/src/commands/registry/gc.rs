//! `registry gc`: a collection by hand, also beside servers that run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use engine_registry::server::{FileStorage, GcPolicy, Limits, Storage};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output;
use crate::output::human::{parse_duration, size};

/// `registry gc`'s flags.
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Directory of the registry's content [default: ROOT/registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Bucket of the registry's content, as `registry serve` has it
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    storage: Option<String>,
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove manifests, too, that no tag leads to
    #[arg(long)]
    untagged: bool,
    /// Spare what was pushed, mounted or asked for in this time; it has to be longer than a push takes
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = parse_duration)]
    grace: Duration,
}

/// Runs `registry gc`.
pub(crate) async fn gc(context: &Context, args: &GcArgs) -> Result<u8> {
    let data = args.data.clone().unwrap_or_else(|| context.root().join("registry"));
    let storage: Box<dyn Storage> = match &args.storage {
        Some(url) => Box::new(super::bucket(url).await?),
        // Opening it would make one.
        None if !data.join("registry.db").exists() => {
            return Err(Failure::usage(format!("there is no registry in {}", data.display())));
        }
        None => Box::new(FileStorage::open(&data)?),
    };
    let policy =
        GcPolicy::default().with_grace(args.grace).with_untagged(args.untagged).with_dry_run(args.dry_run);
    let uploads = match args.dry_run {
        true => 0,
        false => storage.sweep_uploads(Limits::default().upload_age).await?,
    };
    let report = storage.collect(&policy).await?;
    let verb = if args.dry_run { "Would remove" } else { "Removed" };
    output::line(format!(
        "{verb} {} manifests, {} blobs from repositories, {} abandoned uploads",
        report.manifests, report.unlinked, uploads
    ))?;
    output::line(format!(
        "{} {} in {} files",
        if args.dry_run { "Would free" } else { "Freed" },
        size(report.bytes),
        report.blobs
    ))?;
    Ok(0)
}
