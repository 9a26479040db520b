//! A container that outlives the program that started it.
//!
//! The first run starts a container and ends. A later one finds it again, reads all it wrote meanwhile, waits for its
//! end and removes it. `cargo run -p engine-examples --example detached -- IMAGE` (as root), twice.

use std::io::Write;

use engine_core::engine::{PullOptions, RemoveOptions};
use engine_core::logs::LogQuery;
use engine_core::{Container, ContainerSpec, Engine, ErrorKind, Reference};
use engine_registry::OciRegistry;
use futures_util::TryStreamExt;

const NAME: &str = "detached-example";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let image: Reference = std::env::args().nth(1).unwrap_or_else(|| "busybox:latest".to_owned()).parse()?;
    let root = std::env::var_os("ENGINE_ROOT").unwrap_or_else(|| "/var/lib/engine-examples".into());
    let engine = Engine::builder(root).registry(OciRegistry::new()).open().await?;
    match engine.container(NAME).await {
        Ok(container) => finish(&container).await,
        Err(error) if error.kind() == ErrorKind::NotFound => begin(&engine, &image).await,
        Err(error) => Err(error.into()),
    }
}

/// Starts the container. Nothing of this program stays behind for it.
async fn begin(engine: &Engine, image: &Reference) -> anyhow::Result<()> {
    engine.pull(image, PullOptions::default()).await?;
    let script = "for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done; exit 42";
    let spec = ContainerSpec::command(["sh", "-c", script]).with_name(NAME.parse()?);
    let container = engine.create(&image.to_string(), spec).await?;
    container.start().await?;
    println!("started {}; run this again to see what became of it", container.id().short());
    Ok(())
}

/// Reads the whole log, also what was written while no program of ours ran.
async fn finish(container: &Container) -> anyhow::Result<()> {
    let mut log = container.logs(&LogQuery::follow()).await?;
    while let Some(entry) = log.try_next().await? {
        std::io::stdout().write_all(&entry.message)?;
    }
    let exit = container.wait().await?;
    container.remove(RemoveOptions::default()).await?;
    println!("exited with {exit}");
    Ok(())
}
