//! Rules of a program: which images may run, what may be mounted, and a line for everything that happens.
//!
//! `cargo run -p engine-examples --example hooks -- IMAGE` (as root).

use engine_core::container_spec::MountSpec;
use engine_core::engine::{PullOptions, RemoveOptions};
use engine_core::mount::MountKind;
use engine_core::{ContainerSpec, Engine, ErrorKind, Mount, Reference};
use engine_registry::OciRegistry;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let image: Reference = std::env::args().nth(1).unwrap_or_else(|| "busybox:latest".to_owned()).parse()?;
    let root = std::env::var_os("ENGINE_ROOT").unwrap_or_else(|| "/var/lib/engine-examples".into());
    let allowed = image.registry().to_owned();
    let engine = Engine::builder(root)
        .registry(OciRegistry::new())
        .admit_image(move |request| match request.name.parse::<Reference>() {
            Ok(name) if name.registry() == allowed => Ok(()),
            _ => Err(format!("only images of {allowed} may run").into()),
        })
        .admit_mount(|request| match request.mount {
            MountSpec::Mount(Mount { kind: MountKind::Bind { source, .. }, .. })
                if !source.starts_with("/srv") =>
            {
                Err("only /srv may be shared with containers".into())
            }
            _ => Ok(()),
        })
        .on_event(|event| println!("{} {}", event.object, event.action))
        .open()
        .await?;
    engine.pull(&image, PullOptions::default()).await?;

    let spec = ContainerSpec::command(["true"]).with_mount(Mount::bind("/etc", "/host-etc"));
    let refused = engine.create(&image.to_string(), spec).await.err();
    anyhow::ensure!(refused.as_ref().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied));
    println!("refused: {}", refused.map(|error| error.report()).unwrap_or_default());

    let container = engine.create(&image.to_string(), ContainerSpec::command(["true"])).await?;
    println!("exited with {}", container.run().await?);
    container.remove(RemoveOptions::default()).await?;
    Ok(())
}
