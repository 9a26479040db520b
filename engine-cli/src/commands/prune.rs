//! `container prune`, `network prune`, `volume prune`, `builder prune`, `system prune`: the question, the filters, the sum.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use engine_api::notation::parse_size;
use engine_core::engine::{ImagePruneOptions, LabelFilter, PruneBuildCache, PruneOptions};

use super::build;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::filter::Filter;
use crate::output::{self, human};

/// What every prune takes.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Remove only what matches: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// `volume prune`'s flags.
#[derive(Args, Debug)]
pub(crate) struct VolumePruneArgs {
    /// Remove named volumes too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    rest: PruneArgs,
}

/// `builder prune`'s flags.
#[derive(Args, Debug)]
pub(crate) struct BuilderPruneArgs {
    /// Remove all of it, which is done anyway
    #[arg(short, long)]
    all: bool,
    /// Remove only what matches: until=TIME, id=ID
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Keep the newest steps, as many as take no more than this
    #[arg(long = "keep-storage", visible_alias = "max-used-space", value_name = "BYTES", value_parser = parse_size)]
    keep: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Commands of the builder.
#[derive(Subcommand, Debug)]
pub(crate) enum BuilderCommand {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Remove the cache of builds
    Prune(BuilderPruneArgs),
}

/// `system prune`'s flags.
#[derive(Args, Debug)]
pub(crate) struct SystemPruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove anonymous volumes too
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    rest: PruneArgs,
}

impl PruneArgs {
    /// Reads the filters. `all` is one of volumes, `until` one of everything else, as in Docker.
    fn options(&self, of_volumes: bool) -> Result<PruneOptions> {
        let mut options = PruneOptions::default();
        for text in &self.filter {
            let filter = Filter::parse(text)?;
            let Filter { key, value, .. } = filter;
            options = match key {
                "label" => options.with_label(LabelFilter::parse(value, true)),
                "label!" => options.with_label(LabelFilter::parse(value, false)),
                "until" if !of_volumes => options.with_until(human::parse_time(value)?),
                "all" if of_volumes => options.with_all(filter.flag()?),
                _ if of_volumes => return Err(filter.wrong("the keys are label, label! and all")),
                _ => return Err(filter.wrong("the keys are until, label and label!")),
            };
        }
        Ok(options)
    }

    fn confirmed(&self, warning: &str) -> Result<bool> {
        confirmed(self.force, warning)
    }
}

/// Asks whether to go on. Whoever cannot or does not say `y` is taken for a no.
fn confirmed(force: bool, warning: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    output::print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if !std::io::stdin().is_terminal() {
        // The reader of a pipe's output gets the next line as one of its own.
        output::print("\n")?;
    }
    Ok(read.is_ok() && answer.trim().eq_ignore_ascii_case("y"))
}

/// Runs `container prune`.
pub(crate) async fn containers(context: &Context, args: &PruneArgs) -> Result<u8> {
    let options = args.options(false)?;
    if !args.confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let pruned = context.engine().await?.prune_containers(&options).await?;
    list("Deleted Containers:", &pruned.removed)?;
    total(pruned.bytes)
}

/// Runs `network prune`.
pub(crate) async fn networks(context: &Context, args: &PruneArgs) -> Result<u8> {
    let options = args.options(false)?;
    let warning = "WARNING! This will remove all custom networks not used by at least one container.";
    if !args.confirmed(warning)? {
        return Ok(0);
    }
    let pruned = context.engine().await?.prune_networks(&options).await?;
    list("Deleted Networks:", &pruned.removed)?;
    Ok(0)
}

/// Runs `volume prune`.
pub(crate) async fn volumes(context: &Context, args: &VolumePruneArgs) -> Result<u8> {
    let mut options = args.rest.options(true)?;
    options.all |= args.all;
    let which = if options.all { "all" } else { "anonymous" };
    let warning =
        format!("WARNING! This will remove {which} local volumes not used by at least one container.");
    if !args.rest.confirmed(&warning)? {
        return Ok(0);
    }
    let pruned = context.engine().await?.prune_volumes(&options).await?;
    list("Deleted Volumes:", &pruned.removed)?;
    total(pruned.bytes)
}

/// Runs `system prune`.
pub(crate) async fn system(context: &Context, args: &SystemPruneArgs) -> Result<u8> {
    let options = args.rest.options(false)?;
    if args.volumes && options.until.is_some() {
        return Err(Failure::usage(
            "the filter \"until\" does not go with --volumes: volumes have no such filter",
        ));
    }
    let mut warning = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        warning.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    warning.push_str(match args.all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    });
    warning.push_str("  - all build cache\n");
    if !args.rest.confirmed(&warning)? {
        return Ok(0);
    }
    let engine = context.engine().await?;
    // Containers first: what only they used goes with them.
    let containers = engine.prune_containers(&options).await?;
    list("Deleted Containers:", &containers.removed)?;
    let networks = engine.prune_networks(&options).await?;
    list("Deleted Networks:", &networks.removed)?;
    let mut bytes = containers.bytes;
    if args.volumes {
        let volumes = engine.prune_volumes(&options).await?;
        list("Deleted Volumes:", &volumes.removed)?;
        bytes += volumes.bytes;
    }
    let images = engine.prune_images(&of_images(&options, args.all)).await?;
    if !images.untagged.is_empty() || !images.deleted.is_empty() {
        output::line("Deleted Images:")?;
        images.untagged.iter().try_for_each(|name| output::line(format!("untagged: {}", name.familiar())))?;
        images.deleted.iter().try_for_each(|digest| output::line(format!("deleted: {digest}")))?;
        output::print("\n")?;
    }
    bytes += images.bytes;
    // Steps have no labels.
    if options.labels.is_empty() {
        let cache = options.until.into_iter().fold(PruneBuildCache::default(), PruneBuildCache::with_until);
        bytes += engine.prune_build_cache(&cache).await?.bytes;
    }
    total(bytes)
}

/// Runs `builder prune`.
pub(crate) async fn builder(context: &Context, args: &BuilderPruneArgs) -> Result<u8> {
    let mut options = PruneBuildCache::default();
    options.keep = args.keep;
    for text in &args.filter {
        let filter = Filter::parse(text)?;
        match filter.key {
            "until" => options.until = Some(human::parse_time(filter.value)?),
            "id" => options.ids.push(filter.value.to_owned()),
            _ => return Err(filter.wrong("the keys are until and id")),
        }
    }
    if !confirmed(args.force, "WARNING! This will remove all build cache.")? {
        return Ok(0);
    }
    let engine = context.engine().await?;
    let pruned = engine.prune_build_cache(&options).await?;
    let removed: Vec<&str> = pruned.removed.iter().map(|id| id.hex()).collect();
    list("Deleted build cache objects:", &removed)?;
    total(pruned.bytes)
}

fn of_images(options: &PruneOptions, all: bool) -> ImagePruneOptions {
    let mut images = ImagePruneOptions::default().with_all(all);
    images.until = options.until;
    for label in &options.labels {
        let side = if label.present { &mut images.labels } else { &mut images.without_labels };
        side.insert(label.key.clone(), label.value.clone());
    }
    images
}

fn list<T: std::fmt::Display>(heading: &str, removed: &[T]) -> Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    output::line(heading)?;
    removed.iter().try_for_each(output::line)?;
    output::print("\n")
}

fn total(bytes: u64) -> Result<u8> {
    output::line(format!("Total reclaimed space: {}", human::size(bytes)))?;
    Ok(0)
}
