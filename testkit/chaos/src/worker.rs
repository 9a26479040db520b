//! The program that is killed: random operations through the facade, in lanes.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use engine_core::{
    ContainerSpec, Engine, ErrorKind, ExecSpec, Name, Reference,
    container_spec::NetworkMode,
    engine::{
        CommitOptions, ContainerInfo, CopyOptions, ForkOptions, LoadOptions, PullOptions, RemoveOptions,
        SaveOptions,
    },
    io::AttachOptions,
    network::{EndpointOptions, NetworkOptions, PortMapping},
    state::ContainerStatus,
    volume_driver::VolumeOptions,
};

use crate::{
    IMAGES, LANES, PORT, WorkerArgs,
    journal::{Line, Operation, Outcome, say},
    random::Random,
};

/// A container of this many makes a lane prefer to remove some.
const MANY: usize = 5;

/// Works until it is killed.
pub(crate) fn run(args: &WorkerArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let engine = open(args).await?;
        say("ready")?;
        let mut random = Random::new(args.seed);
        let mut lanes = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let lane = Lane {
                lane,
                engine: engine.clone(),
                registry: args.registry.clone(),
                scratch: args.root.parent().context("the root is a directory")?.to_owned(),
                random: Random::new(random.next()),
            };
            lanes.spawn(lane.work());
        }
        match lanes.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            other => bail!("a lane ended: {other:?}"),
        }
    })
}

/// Opens the engine as worker and supervisor both do.
pub(crate) async fn open(args: &WorkerArgs) -> Result<Engine> {
    let engine = Engine::builder(&args.root)
        .run_root(&args.run_root)
        .registry(engine_registry::OciRegistry::new())
        .network(engine_net::LocalNetworks::new(&args.root, &args.run_root))
        .default_network(engine_net::DEFAULT_NETWORK.parse()?)
        .open()
        .await
        .context("open the engine")?;
    Ok(engine)
}

/// Returns pid and start time of a process, which no other process shares since boot. See proc_pid_stat(5).
pub(crate) fn identity(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let started = rest.split_whitespace().nth(19).unwrap_or("gone");
    format!("{pid}@{started}")
}

struct Lane {
    lane: usize,
    engine: Engine,
    registry: String,
    /// A directory beside the engine's.
    scratch: PathBuf,
    random: Random,
}

impl Lane {
    async fn work(mut self) -> Result<()> {
        loop {
            self.step().await?;
        }
    }

    fn image_name(&self, number: u64) -> String {
        format!("{}/lane{}/image{number}:latest", self.registry, self.lane)
    }

    async fn step(&mut self) -> Result<()> {
        let prefix = format!("lane{}-", self.lane);
        let all = self.engine.containers().await?;
        let own: Vec<_> = all.into_iter().filter(|c| c.name.as_str().starts_with(&prefix)).collect();
        let tag_prefix = format!("localhost/lane{}/", self.lane);
        let pulled_prefix = format!("{}/lane{}/", self.registry, self.lane);
        let images = self.engine.images().await?;
        let names: Vec<String> = images.into_iter().map(|image| image.reference.to_string()).collect();
        let pulled: Vec<_> = names.iter().filter(|name| name.starts_with(&pulled_prefix)).cloned().collect();
        let tags: Vec<_> = names.iter().filter(|name| name.starts_with(&tag_prefix)).cloned().collect();
        let number = self.random.below(IMAGES as u64);
        let choice = self.random.below(128);
        if choice >= 118 {
            return self.network(choice).await;
        }
        if choice >= 110 {
            return self.move_one(&own).await;
        }
        if choice >= 100 {
            return self.volume(choice).await;
        }
        let any = |random: &mut Random, length: usize| random.below(length as u64) as usize;
        if pulled.is_empty() || choice < 8 {
            return self.pull(self.image_name(number)).await;
        }
        let image = pulled[any(&mut self.random, pulled.len())].clone();
        if choice < 14 {
            return self.tag(&image, &format!("{tag_prefix}tag{number}:latest")).await;
        }
        if choice < 18 && !tags.is_empty() {
            let tag = tags[any(&mut self.random, tags.len())].clone();
            return self.remove_image(tag).await;
        }
        if choice < 21 {
            return self.remove_image(image).await;
        }
        if own.is_empty() || (choice < 45 && own.len() < MANY) {
            let name = format!("{prefix}{:x}", self.random.next());
            return self.create(&image, name).await;
        }
        if choice < 50 {
            return self.reload(image).await;
        }
        let container = &own[any(&mut self.random, own.len())];
        let name = container.name.to_string();
        let running = container.state.status == ContainerStatus::Running;
        match (running, choice % 11) {
            (_, 0) => self.remove(name).await,
            (_, 8) => self.copy_in(name).await,
            (_, 9) => self.commit(name, format!("{tag_prefix}commit{number}:latest")).await,
            (_, 10) if own.len() < MANY => {
                let wished = format!("{prefix}{:x}", self.random.next());
                self.fork(&name, wished).await
            }
            (true, 1 | 2) => self.exec(name).await,
            (true, 3) => self.freeze(name).await,
            (true, 4 | 5) => self.stop(name).await,
            (false, 1..=5) => self.start(name).await,
            _ if own.len() >= MANY => self.remove(name).await,
            (false, _) => self.run(name).await,
            (true, _) => self.exec(name).await,
        }
    }

    /// Says what begins, does it, says how it ended. What an operation of another lane may cause is a failure to go on after.
    async fn journaled<F>(&self, operation: Operation, subject: String, work: F) -> Result<()>
    where
        F: Future<Output = engine_core::Result<String>>,
    {
        let mut line = Line { lane: self.lane, operation, subject, result: None };
        line.say()?;
        line.result = Some(match work.await {
            Ok(note) => Outcome::Done(note),
            Err(error) => {
                let text = chain(&error);
                if !matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::AlreadyExists
                ) {
                    bail!("{operation:?} {}: {text}", line.subject);
                }
                Outcome::Failed(text)
            }
        });
        line.say()
    }

    async fn pull(&self, name: String) -> Result<()> {
        let reference: Reference = name.parse()?;
        let work = async {
            self.engine.pull(&reference, PullOptions::default()).await?;
            Ok(String::new())
        };
        self.journaled(Operation::Pull, name, work).await
    }

    async fn tag(&self, image: &str, name: &str) -> Result<()> {
        let reference: Reference = name.parse()?;
        let work = async { self.engine.tag(image, &reference).await.map(|()| String::new()) };
        self.journaled(Operation::Tag, name.to_owned(), work).await
    }

    async fn remove_image(&self, name: String) -> Result<()> {
        let work = async { self.engine.remove_image(&name, true).await.map(|_| String::new()) };
        self.journaled(Operation::RemoveImage, name.clone(), work).await
    }

    async fn create(&mut self, image: &str, name: String) -> Result<()> {
        let script = "trap 'exit 0' TERM; while :; do sleep 100 & wait; done";
        let wished: Name = name.parse()?;
        let mut networks = Vec::new();
        match self.random.below(4) {
            0 => {}
            1 => networks.push(engine_net::DEFAULT_NETWORK.parse()?),
            _ => networks.push(self.network_name()?),
        }
        let mut spec = ContainerSpec::command(["sh", "-c", script]).with_name(wished);
        let mode = networks.iter().map(|network| (network.clone(), EndpointOptions::default())).collect();
        spec.network = if networks.is_empty() { NetworkMode::None } else { NetworkMode::Networks(mode) };
        if !networks.is_empty() && self.random.below(2) == 0 {
            spec.ports.push(PortMapping::new(80).with_host_port(PORT + u16::try_from(self.lane)?));
        }
        let work = async {
            self.engine.create(image, spec).await?;
            Ok(networks.iter().map(Name::to_string).collect::<Vec<_>>().join(","))
        };
        self.journaled(Operation::Create, name, work).await
    }

    async fn start(&self, name: String) -> Result<()> {
        let work = async {
            let container = self.engine.container(&name).await?;
            container.start().await?;
            let pid = container.inspect().await?.state.pid;
            Ok(pid.map_or_else(|| "none".to_owned(), identity))
        };
        self.journaled(Operation::Start, name.clone(), work).await
    }

    /// Start, kill, wait: ends as `Exited`.
    async fn run(&self, name: String) -> Result<()> {
        let work = async {
            let container = self.engine.container(&name).await?;
            container.start().await?;
            container.kill(9).await?;
            container.wait().await?;
            Ok(String::new())
        };
        self.journaled(Operation::Run, name.clone(), work).await
    }

    async fn exec(&self, name: String) -> Result<()> {
        let work = async {
            let container = self.engine.container(&name).await?;
            let process = container.exec(&ExecSpec::new(["true"]), AttachOptions::default()).await?;
            let status = container.exec_wait(&process.id).await?;
            Ok(format!("{status:?}").replace(' ', ""))
        };
        self.journaled(Operation::Exec, name.clone(), work).await
    }

    async fn commit(&self, container: String, image: String) -> Result<()> {
        let options = CommitOptions::default().with_name(image.parse()?);
        let work =
            async { self.engine.container(&container).await?.commit(&options).await.map(|_| String::new()) };
        self.journaled(Operation::Commit, image.clone(), work).await
    }

    async fn fork(&self, container: &str, name: String) -> Result<()> {
        let options = ForkOptions::default().with_name(Some(name.parse()?));
        let work =
            async { self.engine.container(container).await?.fork(options).await.map(|_| String::new()) };
        self.journaled(Operation::Fork, name, work).await
    }

    async fn copy_in(&mut self, name: String) -> Result<()> {
        let path = format!("/copied-{:x}", self.random.next());
        let host = self.scratch.join(format!("file-{}", self.lane));
        std::fs::write(&host, "copied\n")?;
        let work = async {
            let container = self.engine.container(&name).await?;
            container.copy_from_host(&host, &path, CopyOptions::default()).await?;
            Ok(path)
        };
        self.journaled(Operation::CopyIn, name.clone(), work).await
    }

    async fn reload(&self, image: String) -> Result<()> {
        let path = self.scratch.join(format!("archive-{}", self.lane));
        let work = async {
            let file = tokio::fs::File::create(&path)
                .await
                .map_err(|error| engine_core::Error::from_io("create archive", error))?;
            self.engine.save(&[&image], file, SaveOptions::default()).await?;
            self.engine.load(path.clone(), LoadOptions::default()).await.map(|_| String::new())
        };
        self.journaled(Operation::Reload, image.clone(), work).await
    }

    async fn freeze(&self, name: String) -> Result<()> {
        let work = async {
            let container = self.engine.container(&name).await?;
            container.pause().await?;
            container.resume().await.map(|()| String::new())
        };
        self.journaled(Operation::Freeze, name.clone(), work).await
    }

    /// Creates one of the lane's few volumes, or removes it.
    async fn volume(&mut self, choice: u64) -> Result<()> {
        let name = format!("lane{}-volume{}", self.lane, self.random.below(3));
        let wished: Name = name.parse()?;
        if choice < 106 {
            let options = VolumeOptions::default();
            let work = async { self.engine.create_volume(&wished, &options).await.map(|_| String::new()) };
            return self.journaled(Operation::CreateVolume, name, work).await;
        }
        let work = async { self.engine.remove_volume(&wished).await.map(|()| String::new()) };
        self.journaled(Operation::RemoveVolume, name, work).await
    }

    /// The name of one of the lane's few networks.
    fn network_name(&mut self) -> Result<Name> {
        Ok(format!("lane{}-network{}", self.lane, self.random.below(3)).parse()?)
    }

    /// Creates one of the lane's networks, or removes it.
    async fn network(&mut self, choice: u64) -> Result<()> {
        let wished = self.network_name()?;
        let name = wished.to_string();
        if choice < 124 {
            let mut options = NetworkOptions::default();
            // Each of them has its driver.
            options.driver = Some(if name.ends_with('2') { "macvlan" } else { "bridge" }.to_owned());
            let work = async { self.engine.create_network(&wished, &options).await.map(|_| String::new()) };
            return self.journaled(Operation::CreateNetwork, name, work).await;
        }
        let work = async { self.engine.remove_network(&name).await.map(|()| String::new()) };
        self.journaled(Operation::RemoveNetwork, name.clone(), work).await
    }

    /// Puts a container on another network, or takes it off one.
    async fn move_one(&mut self, own: &[ContainerInfo]) -> Result<()> {
        let movable = |info: &&ContainerInfo| matches!(info.spec.network, NetworkMode::Networks(_));
        let movable: Vec<_> = own.iter().filter(movable).collect();
        let Some(info) = movable.get(self.random.below(movable.len() as u64) as usize) else { return Ok(()) };
        let (name, network) = (info.name.to_string(), self.network_name()?.to_string());
        let is_on = info.networks.iter().any(|used| used.name.as_str() == network);
        let operation = if is_on { Operation::Disconnect } else { Operation::Connect };
        let work = async {
            let container = self.engine.container(&name).await?;
            match is_on {
                true => container.disconnect(&network, false).await?,
                false => container.connect(&network, EndpointOptions::default()).await?,
            }
            Ok(network)
        };
        self.journaled(operation, name.clone(), work).await
    }

    async fn stop(&self, name: String) -> Result<()> {
        let patience = Duration::from_millis(if self.lane.is_multiple_of(2) { 0 } else { 5000 });
        let work =
            async { self.engine.container(&name).await?.stop(Some(patience)).await.map(|()| String::new()) };
        self.journaled(Operation::Stop, name.clone(), work).await
    }

    async fn remove(&self, name: String) -> Result<()> {
        let options = RemoveOptions::default().with_force(true).with_volumes(true);
        let work =
            async { self.engine.container(&name).await?.remove(options).await.map(|()| String::new()) };
        self.journaled(Operation::Remove, name.clone(), work).await
    }
}

/// An error with all its causes in one line.
fn chain(error: &engine_core::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
