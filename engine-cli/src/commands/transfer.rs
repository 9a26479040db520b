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
    /// Pull every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Pull every platform of the image
    #[arg(long)]
    all_platforms: bool,
    /// Platform of the image, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

/// `push`'s flags.
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// Push every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Push this platform of the image alone, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

/// Returns the repository that `--all-tags` is about.
fn repository(name: &str) -> Result<Reference> {
    if name.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        return Err(Failure::usage("a tag can't be used with --all-tags/-a"));
    }
    Ok(name.parse()?)
}

/// Runs `pull`.
pub(crate) async fn pull(context: &Context, args: &PullArgs) -> Result<u8> {
    let mut options = PullOptions::default().with_all_platforms(args.all_platforms);
    if let Some(platform) = &args.platform {
        options = options.with_platform(platform.clone());
    }
    if args.all_tags {
        let repository = repository(&args.image)?;
        let engine = context.engine().await?;
        for tag in engine.remote_tags(&repository).await? {
            fetch_with(context, &engine, &repository.with_tag(&tag)?, options.clone(), args.quiet, false)
                .await?;
        }
        output::line(format!("{}/{}", repository.registry(), repository.repository()))?;
        return Ok(0);
    }
    let image: Reference = args.image.parse()?;
    let engine = context.engine().await?;
    if hello::is_name(&image.familiar()) {
        hello::import(&engine).await?;
        output::line(&image)?;
        return Ok(0);
    }
    fetch_with(context, &engine, &image, options, args.quiet, false).await?;
    output::line(&image)?;
    Ok(0)
}

/// Pulls an image and shows how it gets on: on standard error if the output is not what the user asked for.
pub(crate) async fn fetch(
    context: &Context,
    engine: &Engine,
    reference: &Reference,
    platform: Platform,
    quiet: bool,
    aside: bool,
) -> Result<Image> {
    fetch_with(context, engine, reference, PullOptions::default().with_platform(platform), quiet, aside).await
}

async fn fetch_with(
    context: &Context,
    engine: &Engine,
    reference: &Reference,
    mut options: PullOptions,
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
    if let Some(credentials) = context.credentials(reference.registry()).await? {
        options = options.with_credentials(credentials);
    }
    let mut operation = engine.pull(reference, options);
    while let Some(event) = operation.next().await {
        progress.pulled(reference, &event)?;
    }
    progress.clear();
    Ok(operation.await?)
}

/// Runs `push`.
pub(crate) async fn push(context: &Context, args: &PushArgs) -> Result<u8> {
    let wish = if args.all_tags { repository(&args.image)? } else { args.image.parse()? };
    let engine = context.engine().await?;
    let images: Vec<Reference> = match args.all_tags {
        false => vec![wish.clone()],
        true => {
            let same = |name: &Reference| {
                name.registry() == wish.registry()
                    && name.repository() == wish.repository()
                    && name.digest().is_none()
            };
            engine.images().await?.into_iter().map(|image| image.reference).filter(same).collect()
        }
    };
    if images.is_empty() {
        return Err(Failure::usage(format!(
            "there is no image of {} (\"images\" lists those there are)",
            wish.familiar_name()
        )));
    }
    let target = if args.quiet { Target::Nowhere } else { Target::Stdout };
    let mut progress = Progress::new(target, io::stdout().is_terminal());
    progress.line(&format!("The push refers to repository [{}]", wish.familiar_name()))?;
    let mut options = PushOptions::default();
    options.platform.clone_from(&args.platform);
    if let Some(credentials) = context.credentials(wish.registry()).await? {
        options = options.with_credentials(credentials);
    }
    for image in &images {
        let mut operation = engine.push(image, options.clone());
        while let Some(event) = operation.next().await {
            progress.pushed(image, &event)?;
        }
        progress.clear();
        operation.await.map_err(Failure::from)?;
        if args.quiet {
            output::line(image)?;
        }
    }
    Ok(0)
}
