//! Pulls an image, runs a container of it, shows its output as it comes, and ends with its exit code.
//!
//! `cargo run -p engine-examples --example pull_and_run -- busybox:latest echo hello` (as root)

use std::io::Write;

use engine_core::engine::{PullOptions, RemoveOptions};
use engine_core::logs::LogQuery;
use engine_core::{ContainerSpec, Engine, Reference};
use engine_registry::OciRegistry;
use futures_util::TryStreamExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let image: Reference = args.next().unwrap_or_else(|| "busybox:latest".to_owned()).parse()?;
    let root = std::env::var_os("ENGINE_ROOT").unwrap_or_else(|| "/var/lib/engine-examples".into());

    let engine = Engine::builder(root).registry(OciRegistry::new()).open().await?;
    engine.pull(&image, PullOptions::default()).await?;

    let container = engine.create(&image.to_string(), ContainerSpec::command(args)).await?;
    container.start().await?;
    let mut output = container.logs(&LogQuery::follow()).await?;
    while let Some(entry) = output.try_next().await? {
        std::io::stdout().write_all(&entry.message)?;
    }

    let exit = container.wait().await?;
    container.remove(RemoveOptions::default()).await?;
    println!("exited with {exit}");
    Ok(())
}
