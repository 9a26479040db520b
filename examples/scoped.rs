//! A container that ends with the program that started it, even when that is killed by SIGKILL.
//!
//! Run without arguments, this program starts itself as a victim, kills that, and watches the victim's container go:
//! `cargo run -p engine-examples --example scoped -- IMAGE` (as root).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine_core::engine::PullOptions;
use engine_core::{ContainerSpec, Engine, Reference};
use engine_registry::OciRegistry;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let image = args.first().map_or("busybox:latest", String::as_str);
    let root = std::env::var_os("ENGINE_ROOT").unwrap_or_else(|| "/var/lib/engine-examples".into());
    let engine = Engine::builder(root).registry(OciRegistry::new()).open().await?;
    if args.get(1).is_some_and(|mode| mode == "victim") {
        return victim(&engine, image).await;
    }
    engine.pull(&image.parse::<Reference>()?, PullOptions::default()).await?;

    let mut victim =
        Command::new(std::env::current_exe()?).args([image, "victim"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(victim.stdout.take().expect("its output was piped")).lines();
    let pid = lines.next().ok_or_else(|| anyhow::anyhow!("the victim said nothing"))??;
    let process = Path::new("/proc").join(&pid);
    println!("the container's process is {pid}, alive: {}", process.exists());

    let killed = Instant::now();
    victim.kill()?;
    victim.wait()?;
    while process.exists() {
        anyhow::ensure!(killed.elapsed() < Duration::from_secs(10), "process {pid} survived");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "the program was killed by SIGKILL, and {} ms later its container was gone",
        killed.elapsed().as_millis()
    );
    // The record goes as soon as any engine over this root looks.
    anyhow::ensure!(engine.containers().await?.is_empty(), "a container is left");
    Ok(())
}

/// Starts a container for its own lifetime, tells its process id, and never ends by itself.
async fn victim(engine: &Engine, image: &str) -> anyhow::Result<()> {
    let container = engine.create_scoped(image, ContainerSpec::command(["sleep", "1000"])).await?;
    container.start().await?;
    let state = container.inspect().await?.state;
    println!("{}", state.pid.ok_or_else(|| anyhow::anyhow!("it does not run"))?);
    container.wait().await?;
    Ok(())
}
