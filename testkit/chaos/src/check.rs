//! Opening the engine after a kill and comparing it with the model.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use engine_core::{
    Engine, ErrorKind,
    engine::{ContainerInfo, RemoveOptions},
    events::{Cursor, EventQuery},
    state::ContainerStatus,
};
use engine_testkit::LeakCheck;
use futures_util::StreamExt as _;
use tokio::sync::Mutex;

use crate::{
    WorkerArgs,
    journal::{Line, Operation},
    model::{Known, Model},
    places,
    worker::{identity, open},
};

/// Compares the engine, and the machine, with what must be true.
#[derive(Debug)]
pub(crate) struct Checker {
    args: WorkerArgs,
    base: LeakCheck,
    told: Mutex<Told>,
}

/// What the engine's events have told so far.
#[derive(Debug, Default)]
struct Told {
    cursor: Option<Cursor>,
    /// Action, and the object's id or name.
    events: BTreeSet<(String, String)>,
}

impl Checker {
    pub(crate) fn new(args: &WorkerArgs, base: LeakCheck) -> Self {
        Self { args: args.clone(), base, told: Mutex::default() }
    }

    /// Opens the engine, compares, takes over what was under way into the model, and looks for leaks.
    pub(crate) async fn check(&self, model: &mut Model, lines: &[Line]) -> Result<()> {
        let engine = open(&self.args).await?;
        let containers = Self::settled(&engine).await?;
        self.images(&engine, model).await?;
        let networks = places::networks(&engine, model).await?;
        places::containers(&containers, model)?;
        Self::containers(&containers, model)?;
        places::kernel(&engine, &containers, model).await?;
        Self::volumes(&engine, model).await?;
        Self::files(&engine, model).await?;
        self.events(&engine, lines).await?;
        model.settle();
        drop(engine);
        // `places` has looked at rules and files of networks that are there.
        let mut leaks = self.base.clone().keep("table inet engine-");
        for network in networks {
            leaks = leaks.keep(&network);
        }
        for container in &containers {
            leaks = leaks.keep(container.id.as_str());
            // The container's own processes show nothing but their cgroup and namespaces; init is known by its pid.
            if let Some(pid) = container.state.pid {
                leaks = leaks.keep(&format!("{pid} "));
            }
        }
        if let Err(left) = leaks.settle() {
            bail!("left behind with {} containers:\n{left}", containers.len());
        }
        Ok(())
    }

    /// What was copied into a container that is still there is there.
    async fn files(engine: &Engine, model: &Model) -> Result<()> {
        for (name, path) in model.files.iter().filter(|(name, _)| model.containers.contains_key(name)) {
            let container = engine.container(name).await?;
            let end = Instant::now() + Duration::from_secs(10);
            loop {
                match container.stat_path(path).await {
                    // A start that was cut short is on its way out.
                    Err(error) if error.kind() == ErrorKind::Conflict && Instant::now() < end => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    found => {
                        found.with_context(|| format!("{path} was copied into {name}"))?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Every acknowledged change was told.
    async fn events(&self, engine: &Engine, lines: &[Line]) -> Result<()> {
        let mut told = self.told.lock().await;
        let query = EventQuery::default().with_until(SystemTime::now());
        let query = match told.cursor {
            Some(cursor) => query.with_after(cursor),
            None => query.with_since(SystemTime::UNIX_EPOCH),
        };
        let mut events = engine.events(query).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            told.cursor = Some(event.cursor());
            let action = event.action.word().as_str().to_owned();
            told.events.extend(event.attributes.get("name").map(|name| (action.clone(), name.clone())));
            told.events.insert((action, event.id));
        }
        for line in lines.iter().filter(|line| line.is_acknowledged()) {
            let action = match line.operation {
                Operation::Create | Operation::CreateVolume | Operation::CreateNetwork => "create",
                Operation::Start | Operation::Run => "start",
                Operation::Remove | Operation::RemoveNetwork => "destroy",
                Operation::Pull => "pull",
                Operation::Tag => "tag",
                _ => continue,
            };
            let event = (action.to_owned(), line.subject.clone());
            ensure!(
                told.events.contains(&event),
                "no event tells of {action} {}, but of {:?}",
                line.subject,
                told.events.iter().filter(|(known, _)| known == action).collect::<Vec<_>>()
            );
        }
        Ok(())
    }

    async fn volumes(engine: &Engine, model: &mut Model) -> Result<()> {
        let found: BTreeSet<String> =
            engine.volumes().await?.into_iter().map(|volume| volume.name.to_string()).collect();
        for name in model.volumes.difference(&found) {
            let may_be_gone = model.open(name) == Some(Operation::RemoveVolume);
            ensure!(may_be_gone, "volume {name} was acknowledged and is gone");
        }
        for name in found.difference(&model.volumes) {
            let may_be_there = model.open(name) == Some(Operation::CreateVolume);
            ensure!(may_be_there, "volume {name} was never acknowledged");
        }
        model.volumes = found;
        Ok(())
    }

    /// Lists the containers once no process of one that is said to run is gone: what a killed worker asked to end may be ending.
    async fn settled(engine: &Engine) -> Result<Vec<ContainerInfo>> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let containers = engine.containers().await?;
            // Paused by a worker that was killed before it resumed it.
            if let Some(paused) = containers.iter().find(|c| c.state.status == ContainerStatus::Paused) {
                engine.container(paused.id.as_str()).await?.resume().await?;
                continue;
            }
            let mut running = containers.iter().filter(|c| c.state.status == ContainerStatus::Running);
            let wrong = running.find(|c| c.state.pid.is_none_or(|pid| identity(pid).ends_with("gone")));
            let Some(wrong) = wrong else { return Ok(containers) };
            ensure!(
                Instant::now() < end,
                "{} is said to run and has no process: {:?}",
                wrong.name,
                wrong.state
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn images(&self, engine: &Engine, model: &mut Model) -> Result<()> {
        let found: BTreeSet<String> = engine
            .images()
            .await?
            .into_iter()
            .filter(|image| !image.dangling)
            .map(|image| image.reference.to_string())
            .collect();
        for name in model.images.keys() {
            let may_be_gone = model.open(name) == Some(Operation::RemoveImage);
            ensure!(found.contains(name) || may_be_gone, "image {name} was acknowledged and is gone");
        }
        for name in &found {
            let may_be_there = matches!(
                model.open(name),
                Some(Operation::Pull | Operation::Tag | Operation::Commit | Operation::Reload)
            );
            ensure!(model.images.contains_key(name) || may_be_there, "image {name} was never acknowledged");
            // Everything it consists of must be there.
            engine.image(name).await.with_context(|| format!("image {name} is not whole"))?;
        }
        model.images = found.into_iter().map(|name| (name, ())).collect();
        Ok(())
    }

    fn containers(found: &[ContainerInfo], model: &mut Model) -> Result<()> {
        for (name, known) in &model.containers {
            let open = model.open(name);
            let Some(container) = found.iter().find(|container| container.name.as_str() == name) else {
                ensure!(
                    open == Some(Operation::Remove),
                    "container {name} ({known:?}) is gone, under way: {open:?}"
                );
                continue;
            };
            let status = container.state.status;
            match known {
                Known::Created => {
                    let may_have_run =
                        matches!(open, Some(Operation::Start | Operation::Run | Operation::Remove));
                    ensure!(
                        status == ContainerStatus::Created || may_have_run,
                        "{name} was created and is {status:?}"
                    );
                }
                Known::Running(process) => {
                    let may_have_ended =
                        matches!(open, Some(Operation::Stop | Operation::Remove | Operation::Run));
                    if status == ContainerStatus::Running {
                        let now = container.state.pid.map(identity).unwrap_or_default();
                        // What was asked to end may end between the two looks.
                        let same = &now == process
                            || open == Some(Operation::Run)
                            || (may_have_ended && now.ends_with("gone"));
                        ensure!(same, "{name} ran as {process} and now runs as {now}");
                    } else {
                        ensure!(
                            may_have_ended,
                            "{name} ran and is {:?}, under way: {open:?}",
                            container.state
                        );
                    }
                }
                Known::Unsure => {}
                Known::Exited => {
                    let may_run = matches!(open, Some(Operation::Start | Operation::Run | Operation::Remove));
                    ensure!(
                        status == ContainerStatus::Exited || may_run,
                        "{name} had exited and is {status:?}"
                    );
                }
            }
        }
        for container in found {
            let name = container.name.as_str();
            let may_be_there = matches!(model.open(name), Some(Operation::Create | Operation::Fork));
            ensure!(
                model.containers.contains_key(name) || may_be_there,
                "container {name} was never acknowledged"
            );
        }
        let before = std::mem::take(&mut model.containers);
        for container in found {
            let name = container.name.as_str();
            // Nobody was told how these ended, and they may still be on their way.
            let unsure = matches!(
                model.open(name),
                Some(Operation::Start | Operation::Stop | Operation::Run | Operation::Remove)
            ) || before.get(name) == Some(&Known::Unsure);
            let known = match container.state.status {
                _ if unsure => Known::Unsure,
                ContainerStatus::Running => {
                    let pid = container
                        .state
                        .pid
                        .with_context(|| format!("{} runs without a pid", container.name))?;
                    let process = identity(pid);
                    ensure!(
                        !process.ends_with("gone"),
                        "{} runs as {pid}, which does not exist",
                        container.name
                    );
                    Known::Running(process)
                }
                ContainerStatus::Created => Known::Created,
                _ => Known::Exited,
            };
            model.containers.insert(container.name.to_string(), known);
        }
        Ok(())
    }

    /// Removes all containers and images through the facade.
    pub(crate) async fn remove_everything(&self) -> Result<()> {
        let engine = open(&self.args).await?;
        for container in engine.containers().await? {
            let handle = engine.container(container.id.as_str()).await?;
            handle.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await?;
        }
        for image in engine.images().await? {
            engine.remove_image(&image.reference.to_string(), true).await?;
        }
        for volume in engine.volumes().await? {
            engine.remove_volume(&volume.name).await?;
        }
        places::remove(&engine).await?;
        engine.collect_garbage().await?;
        Ok(())
    }

    /// Compares the machine with how it was at the very beginning, and looks that the store is empty.
    pub(crate) fn check_base(&self) -> Result<()> {
        places::check_base()?;
        if let Err(left) = self.base.settle() {
            bail!("left behind:\n{left}");
        }
        for dir in ["images/blobs/sha256", "images/layers", "images/ingest", "containers"] {
            let path = self.args.root.join(dir);
            let left: Vec<_> =
                std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
            ensure!(left.is_empty(), "{} still holds {left:?}", path.display());
        }
        Ok(())
    }
}
