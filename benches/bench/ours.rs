//! This engine, through its facade; the command line for one row.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use engine_benches::Samples;
use engine_core::{
    ContainerSpec, Descriptor, Digest, Engine, ExecSpec, Mount, Reference, RestartPolicy,
    container_spec::NetworkMode,
    engine::{ImportOptions, PullOptions, RemoveOptions},
    io::AttachOptions,
};
use engine_testkit::{debian, image::Format};

use crate::{
    archives, files,
    host::{self, Host},
    peers::private_kib,
};

const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const IMAGE: &str = "localhost/engine-bench:latest";

/// Measures and prints: the body of the program's `ours` subcommand.
pub(crate) fn measure(what: &str, rounds: usize, dir: &Path, argument: Option<&str>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if what == "pull" {
            return pull(rounds, dir, argument.context("a reference")?).await;
        }
        if matches!(what, "save" | "load" | "push" | "push-again") {
            return archives::ours(what, rounds, dir, argument.context("an archive")?).await;
        }
        let engine = open(dir).await?;
        if engine.image(IMAGE).await.is_err() {
            let image = Host::image(Format::Oci)?;
            let reference: Reference = IMAGE.parse()?;
            let layer = image.layers[0].data.to_vec();
            engine.import(&reference, layer.into(), ImportOptions::default()).await?;
        }
        match what {
            "start" => start(&engine, rounds).await,
            "start-kept" => start_kept(&engine, rounds).await,
            "start-cli" => start_cli(dir, rounds),
            "restart" => restart(&engine, rounds, dir).await,
            "stop" => stop(&engine, rounds).await,
            "exec" => exec(&engine, rounds, "/true").await,
            "exec-busybox" => exec(&engine, rounds, argument.unwrap_or("/bin/true")).await,
            "parallel" => parallel(engine, rounds, 8).await,
            "many" => many(&engine, rounds).await,
            "fork-empty" | "fork-full" => files::fork(&engine, dir, rounds, what == "fork-full").await,
            "cp-in" | "cp-out" | "cp-in-running" | "commit" => files::copy(&engine, dir, what, rounds).await,
            "unpack" => unpack(dir, rounds).await,
            "logs" => crate::output::logs(&engine, IMAGE, rounds, true).await,
            "logs-non-blocking" => crate::output::logs(&engine, IMAGE, rounds, false).await,
            "build" => crate::build::ours(&engine, rounds, argument.context("a context")?).await,
            "events" => crate::output::events(dir, rounds).await,
            other => bail!("nothing is called {other}"),
        }
    })
}

async fn open(dir: &Path) -> Result<Engine> {
    Ok(Engine::builder(dir).open().await?)
}

pub(crate) fn spec(program: &str) -> ContainerSpec {
    ContainerSpec::command([program]).with_network(NetworkMode::None)
}

async fn start(engine: &Engine, rounds: usize) -> Result<()> {
    for _ in 0..rounds {
        let start = Instant::now();
        let container = engine.create_scoped(IMAGE, spec("/true")).await?;
        let status = container.run().await?;
        container.close().await?;
        println!("{}", start.elapsed().as_nanos());
        ensure!(status.code == 0, "the payload ended with {status:?}");
    }
    Ok(())
}

async fn start_kept(engine: &Engine, rounds: usize) -> Result<()> {
    for _ in 0..rounds {
        let start = Instant::now();
        let container = engine.create(IMAGE, spec("/true")).await?;
        container.run().await?;
        container.remove(RemoveOptions::default()).await?;
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

fn start_cli(dir: &Path, rounds: usize) -> Result<()> {
    let program = host::sibling("engine-cli").or_else(|_| host::sibling("engine"))?;
    for _ in 0..rounds {
        let start = Instant::now();
        let mut command = Command::new(&program);
        command.arg("--root").arg(dir).args(["run", "--rm", "--network", "none", IMAGE, "/true"]);
        host::run(&mut command)?;
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

async fn stop(engine: &Engine, rounds: usize) -> Result<()> {
    for _ in 0..rounds {
        let mut spec = spec("/pause");
        spec.stop_signal = Some("SIGKILL".to_owned());
        let container = engine.create(IMAGE, spec).await?;
        container.start().await?;
        let start = Instant::now();
        container.stop(None).await?;
        container.remove(RemoveOptions::default()).await?;
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

/// The first run again of a fresh container: the next ones wait, by Docker's back-off.
async fn restart(engine: &Engine, rounds: usize, dir: &Path) -> Result<()> {
    let out = dir.with_file_name("engine-restart");
    for _ in 0..rounds {
        crate::restart::directory(&out)?;
        let spec = ContainerSpec::command(crate::restart::COMMAND)
            .with_network(NetworkMode::None)
            .with_mount(Mount::bind(&out, "/out"))
            .with_restart(RestartPolicy::Always);
        let container = engine.create_scoped(IMAGE, spec).await?;
        container.start().await?;
        let pid = container.inspect().await?.state.pid.context("a running container has a pid")?;
        let (out, pid) = (out.clone(), pid.to_string());
        println!("{}", tokio::task::spawn_blocking(move || crate::restart::kill(&out, &pid)).await??);
        container.close().await?;
    }
    Ok(())
}

async fn exec(engine: &Engine, rounds: usize, program: &str) -> Result<()> {
    let container = engine.create_scoped(IMAGE, spec("/pause")).await?;
    container.start().await?;
    for _ in 0..rounds {
        let start = Instant::now();
        let process = container.exec(&ExecSpec::new(program.split(' ')), AttachOptions::default()).await?;
        container.exec_wait(&process.id).await?;
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(container.close().await?)
}

async fn parallel(engine: Engine, count: usize, at_once: usize) -> Result<()> {
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (engine, next) = (engine.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < count {
                let container = engine.create_scoped(IMAGE, spec("/true")).await?;
                container.run().await?;
                container.close().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}

/// Starts many, looks at the first, the last and the memory of the shims, and removes all.
async fn many(engine: &Engine, count: usize) -> Result<()> {
    let mut containers = Vec::with_capacity(count);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let container = engine.create_scoped(IMAGE, spec("/pause")).await?;
        let start = Instant::now();
        container.start().await?;
        times.push(start.elapsed().as_nanos() as u64);
        containers.push(container);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut private, mut payload, mut threads) = (0, 0, 0);
    for container in &containers {
        let pid = container.inspect().await?.state.pid.context("a running container has a pid")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let parent =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).context("a parent")?;
        let shim = Path::new("/proc").join(parent);
        private += private_kib(&shim);
        payload += private_kib(&Path::new("/proc").join(pid.to_string()));
        threads += fs::read_dir(shim.join("task"))?.count();
    }
    let share = (count / 20).clamp(1, 50);
    let first = Samples::new(times[..share].to_vec());
    let last = Samples::new(times[count - share..].to_vec());
    let count = count as u64;
    println!("| start of the first {share}, median | {:.2} ms |", first.median());
    println!("| start of the last {share}, median | {:.2} ms |", last.median());
    println!("| last ÷ first | {:.2} |", last.median() / first.median());
    println!("| private memory of each shim | {} KiB |", private / count);
    println!("| private memory of each payload | {} KiB |", payload / count);
    println!("| threads of each shim | {:.1} |", threads as f64 / count as f64);
    println!("| memory of the host program | {} KiB |", status("VmRSS")?);
    stats(&containers).await?;
    let start = Instant::now();
    for container in containers {
        container.close().await?;
    }
    println!("| kill and remove of each | {:.2} ms |", start.elapsed().as_secs_f64() * 1e3 / count as f64);
    Ok(())
}

/// Reads what each container uses, all at once, as a live table does.
async fn stats(containers: &[engine_core::ScopedContainer]) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let used = cpu_time()?;
        let reads: Vec<_> = containers
            .iter()
            .map(|container| {
                let container = engine_core::Container::clone(container);
                tokio::spawn(async move { container.stats().await })
            })
            .collect();
        for read in reads {
            ensure!(read.await??.pids >= 1, "a running container has a process");
        }
        times.push((start.elapsed(), cpu_time()?.saturating_sub(used)));
    }
    let (wall, cpu) = times.into_iter().min().unwrap_or_default();
    let each = wall.as_secs_f64() * 1e6 / containers.len() as f64;
    println!("| stats of all, at once | {:.0} ms ({each:.0} µs each) |", wall.as_secs_f64() * 1e3);
    println!("| CPU time of that | {:.0} ms |", cpu.as_secs_f64() * 1e3);
    Ok(())
}

/// CPU time of this process, from /proc/self/stat (proc_pid_stat(5)) in hundredths of a second.
fn cpu_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("a name in parentheses")?.1.split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Pulls into a fresh root each time; prints nanoseconds and peak memory above idle in KiB.
async fn pull(rounds: usize, dir: &Path, reference: &str) -> Result<()> {
    let reference: Reference = reference.parse()?;
    for round in 0..rounds {
        let root = dir.with_file_name(format!("engine-pull-{round}"));
        let engine = Engine::builder(&root).registry(engine_registry::OciRegistry::new()).open().await?;
        let peak = Peak::begin()?;
        engine.pull(&reference, PullOptions::default()).await?;
        peak.print()?;
        drop(engine);
        fs::remove_dir_all(&root).ok();
    }
    Ok(())
}

/// Unpacks the same layer from the page cache into a fresh store each time; prints as [`pull`] does.
async fn unpack(dir: &Path, rounds: usize) -> Result<()> {
    let gzip = bytes::Bytes::from(fs::read(debian::rootfs_tar_gz())?);
    let descriptor = Descriptor::of(OCI_GZIP, &gzip);
    let diff_id = Digest::sha256(&fs::read(debian::rootfs_tar())?);
    for round in 0..rounds {
        let root = dir.with_file_name(format!("engine-unpack-{round}"));
        let engine = open(&root).await?;
        let peak = Peak::begin()?;
        let store = engine.local().context("this engine is elsewhere")?.image_store();
        let mut ingest = store.ingest(&descriptor, Some(&diff_id)).await?;
        let mut rest = gzip.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(64 << 10));
            ingest.write(chunk).await?;
        }
        ingest.commit().await?;
        peak.print()?;
        drop(engine);
        fs::remove_dir_all(&root).ok();
    }
    Ok(())
}

/// The time and the memory of one operation of this process.
pub(crate) struct Peak {
    idle: u64,
    start: Instant,
}

impl Peak {
    /// Begins to measure.
    pub(crate) fn begin() -> Result<Self> {
        // proc_pid_clear_refs(5): 5 resets the peak.
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self { idle: status("VmRSS")?, start: Instant::now() })
    }

    /// Returns the peak of memory above idle in MiB.
    pub(crate) fn mib(&self) -> Result<f64> {
        Ok(status("VmHWM")?.saturating_sub(self.idle) as f64 / 1024.0)
    }

    /// Prints nanoseconds, and peak memory above idle in KiB.
    pub(crate) fn print(&self) -> Result<()> {
        let took = self.start.elapsed().as_nanos();
        println!("{took} {}", status("VmHWM")?.saturating_sub(self.idle));
        Ok(())
    }
}

/// Returns a size in KiB out of `/proc/self/status`.
fn status(key: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).context("no such line")
}
