//! `pull` and `push`.

use std::io::{self, IsTerminal};

use clap::Args;
use engine_core::engine::{Image, PullOptions, PushOptions};
use engine_core::{Engine, Platform, Reference};
use futures_util::StreamExt;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::hello;
use crate::output;
use crate::output::progress::{Progress, Target};

/// `pull`'s flags.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// Platform of the image, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: Reference,
}

/// `push`'s flags.
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: Reference,
}

/// Runs `pull`.
pub(crate) async fn pull(context: &Context, args: &PullArgs) -> Result<u8> {
    let engine = context.engine().await?;
    if hello::is_name(&args.image.familiar()) {
        hello::import(&engine).await?;
        output::line(&args.image)?;
        return Ok(0);
    }
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    fetch(&engine, &args.image, platform, args.quiet, false).await?;
    output::line(&args.image)?;
    Ok(0)
}

/// Pulls an image and shows how it gets on: on standard error if the output is not what the user asked for.
pub(crate) async fn fetch(
    engine: &Engine,
    reference: &Reference,
    platform: Platform,
    quiet: bool,
    aside: bool,
) -> Result<Image> {
    let terminal = if aside { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    let target = match (quiet, aside) {
        (true, _) => Target::Nowhere,
        (false, true) => Target::Stderr,
        (false, false) => Target::Stdout,
    };
    let mut progress = Progress::new(target, terminal);
    progress.line(&format!("{}: Pulling from {}", reference.tag_or_digest(), reference.repository()))?;
    let mut operation = engine.pull(reference, PullOptions::default().with_platform(platform));
    while let Some(event) = operation.next().await {
        progress.pulled(reference, &event)?;
    }
    progress.clear();
    Ok(operation.await?)
}

/// Runs `push`.
pub(crate) async fn push(context: &Context, args: &PushArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let target = if args.quiet { Target::Nowhere } else { Target::Stdout };
    let mut progress = Progress::new(target, io::stdout().is_terminal());
    progress.line(&format!("The push refers to repository [{}]", args.image.familiar_name()))?;
    let mut operation = engine.push(&args.image, PushOptions::default());
    while let Some(event) = operation.next().await {
        progress.pushed(&args.image, &event)?;
    }
    progress.clear();
    operation.await.map_err(Failure::from)?;
    if args.quiet {
        output::line(&args.image)?;
    }
    Ok(0)
}
