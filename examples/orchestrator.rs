//! Keeps N replicas of a service running: health checks, rolling updates, and whatever dies is started again.
//!
//! The same code works on an engine in this process and on a daemon's (`ENGINE_HOST`), and goes on after either has been away:
//!
//! ```text
//! cargo run -p engine-examples --example orchestrator -- busybox:latest 3 sh -c 'touch /up; exec sleep 1000'
//! ENGINE_HOST=unix:///run/engine-cli/docker.sock cargo run -p engine-examples --example orchestrator -- …
//! ```
//!
//! What is wanted changes by lines on standard input: `scale N`, `image NAME`, `down` (which ends it). It ends with its input
//! too, and leaves the replicas running; started again it finds them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use engine_api::client::{ConnectOptions, RemoteEngine};
use engine_core::container_spec::NetworkMode;
use engine_core::engine::{Ensured, PullOptions, RemoveOptions};
use engine_core::events::{EventFilters, EventQuery, EventStream, ObjectKind};
use engine_core::health::HealthProbe;
use engine_core::{Container, ContainerInfo, ContainerSpec, Engine, HealthCheck, HealthStatus};
use engine_registry::OciRegistry;
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;

const SERVICE: &str = "orchestrator.service";
const NAME: &str = "web";
/// How long a replica may take until it is healthy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wanted.
#[derive(Clone, Debug)]
struct Service {
    image: String,
    replicas: usize,
    command: Vec<String>,
}

impl Service {
    fn replica(&self, number: usize) -> Result<ContainerSpec> {
        let mut health =
            HealthCheck::new(HealthProbe::Command(vec!["test".into(), "-e".into(), "/up".into()]));
        health.interval = Some(Duration::from_millis(500));
        let mut spec = ContainerSpec::command(self.command.iter().cloned())
            .with_name(format!("{NAME}-{number}").parse()?)
            .with_label(SERVICE, NAME)
            .with_network(NetworkMode::None)
            .with_health(health);
        // A command that is no init hears no SIGTERM.
        spec.init = true;
        Ok(spec)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let image = args.next().context("name an image")?;
    let replicas = args.next().context("say how many replicas there shall be")?.parse()?;
    let (want, wanted) = watch::channel(Service { image, replicas, command: args.collect() });
    tokio::select! {
        done = keep(wanted) => done,
        done = listen(want) => done,
    }
}

/// The engine: a daemon's, or one in this process. From here on nothing asks which.
async fn engine() -> Result<Engine> {
    if let Ok(host) = std::env::var("ENGINE_HOST") {
        return Ok(RemoteEngine::connect(&host.parse()?, ConnectOptions::default()).await?.into());
    }
    let root = std::env::var_os("ENGINE_ROOT").unwrap_or_else(|| "/var/lib/engine-examples".into());
    Ok(Engine::builder(root).registry(OciRegistry::new()).open().await?)
}

/// Brings about what is wanted for as long as anybody wants it. Whatever fails, be it that the engine is away or that an image
/// does not work, is tried again: the replicas that are up stay so meanwhile.
async fn keep(mut wanted: watch::Receiver<Service>) -> Result<()> {
    while let Err(error) = keep_on(&mut wanted).await {
        println!("trying again: {error:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn keep_on(wanted: &mut watch::Receiver<Service>) -> Result<()> {
    let engine = engine().await?;
    loop {
        // First the cursor, then the list: what happens while the state is brought about is seen after it.
        let cursor = engine.event_cursor().await?;
        let service = wanted.borrow_and_update().clone();
        reconcile(&engine, &service).await?;
        println!("{} replicas of {} are up", service.replicas, service.image);
        if service.replicas == 0 {
            return Ok(());
        }
        let mut ours = EventFilters::default().with_object(ObjectKind::Container);
        ours.labels.insert((SERVICE.to_owned(), Some(NAME.to_owned())));
        let changes = engine.events(EventQuery::default().with_after(cursor).with_filters(ours)).await?;
        tokio::select! {
            changed = wanted.changed() => changed?,
            died = until_one_is_down(changes) => died?,
        }
    }
}

/// Makes the replicas what they shall be, one after the other, so that the others serve meanwhile.
async fn reconcile(engine: &Engine, service: &Service) -> Result<()> {
    if service.replicas > 0 {
        engine.ensure_image(&service.image.parse()?, PullOptions::default()).await?;
    }
    for number in 1..=service.replicas {
        let (container, did) = engine.ensure_container(&service.image, service.replica(number)?).await?;
        let info = container.inspect().await?;
        if is_sick(&info) {
            container.stop(None).await?;
        }
        if did != Ensured::Unchanged || !info.state.status.is_running() || is_sick(&info) {
            container.start().await?;
            println!("{}: {}", info.name, if did == Ensured::Replaced { "replaced" } else { "started" });
        }
        until_healthy(&container).await?;
    }
    for info in engine.containers().await? {
        let number = info.name.as_str().strip_prefix(NAME).and_then(|rest| rest.strip_prefix('-'));
        let surplus = number.and_then(|n| n.parse().ok()).is_none_or(|n: usize| n > service.replicas);
        if surplus && info.spec.labels.get(SERVICE).is_some_and(|name| name == NAME) {
            let container = engine.container(info.id.as_str()).await?;
            container.stop(None).await?;
            container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await?;
            println!("{}: removed", info.name);
        }
    }
    Ok(())
}

fn is_sick(info: &ContainerInfo) -> bool {
    info.state.health.as_ref().is_some_and(|health| health.status == HealthStatus::Unhealthy)
}

async fn until_healthy(container: &Container) -> Result<()> {
    let healthy = async {
        loop {
            let state = container.inspect().await?.state;
            match state.health.map(|health| health.status) {
                Some(HealthStatus::Starting) if state.status.is_running() => {}
                Some(HealthStatus::Healthy) | None => return Ok(()),
                _ => bail!("container {} does not become healthy", container.id().short()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, healthy).await.context("it takes too long to become healthy")?
}

/// Follows what happens to the replicas until one of them is not as it shall be.
async fn until_one_is_down(mut changes: EventStream) -> Result<()> {
    while let Some(event) = changes.next().await {
        let event = event?;
        if ["die", "destroy", "health_status: unhealthy"].contains(&event.action.as_str()) {
            return Ok(());
        }
    }
    bail!("the events have ended")
}

/// Takes wishes from standard input.
async fn listen(want: watch::Sender<Service>) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("scale", number) => {
                let replicas = number.trim().parse().context("scale takes a number")?;
                want.send_modify(|service| service.replicas = replicas);
            }
            ("image", image) => want.send_modify(|service| image.trim().clone_into(&mut service.image)),
            ("down", _) => {
                want.send_modify(|service| service.replicas = 0);
                // The other side ends when nothing is left.
                return std::future::pending().await;
            }
            _ => println!("say \"scale N\", \"image NAME\" or \"down\""),
        }
    }
    Ok(())
}
