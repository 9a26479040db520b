//! Logs and events: how fast a container's output is kept and what that costs beside the container, and how fast events
//! are told and read.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, ensure};
use engine_core::{
    ContainerSpec, Engine, Event,
    container_spec::NetworkMode,
    engine::RemoveOptions,
    events::{Action, EventQuery, Journal, ObjectKind},
};
use futures_util::StreamExt as _;

use crate::{host::Host, peers};

/// How many lines a container writes: numbers with their newlines, as `seq` makes them.
const LINES: usize = 5_000_000;
/// How many events are appended.
const EVENTS: usize = 100_000;

/// The command that writes [`LINES`] lines.
pub(crate) fn command(lines: usize) -> Vec<String> {
    ["/bin/busybox", "seq", "1", &lines.to_string()].map(str::to_owned).into()
}

/// Prints the tables.
pub(crate) fn run(host: &Host) -> Result<()> {
    println!("### Output of one container, {LINES} short lines: from start to exit\n");
    println!("| | wall s | lines / s | CPU s of the monitor |\n| --- | ---: | ---: | ---: |");
    match host.ours_text("logs", LINES, None) {
        Ok(text) => row("engine (library), json-file rotated at 10 MiB", &text),
        Err(error) => println!("| engine | {error:#} | | |"),
    }
    match host.ours_text("logs-non-blocking", LINES, None) {
        Ok(text) => row("engine (library), non-blocking", &text),
        Err(error) => println!("| engine | {error:#} | | |"),
    }
    for name in ["podman", "docker"] {
        match host.peer_text(name, "logs", LINES) {
            Ok(text) => row(&peers::label(name), &text),
            Err(error) => println!("| {} | {error:#} | | |", peers::label(name)),
        }
    }
    println!("\n### Events\n\n| figure | value |\n| --- | ---: |");
    match host.ours_text("events", EVENTS, None) {
        Ok(text) => print!("{text}"),
        Err(error) => println!("| engine | {error:#} |"),
    }
    println!();
    Ok(())
}

fn row(name: &str, text: &str) {
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [wall, cpu] = numbers[..] else { return println!("| {name} | {text} | | |") };
    println!("| {name} | {wall:.2} | {:.0} | {cpu:.2} |", LINES as f64 / wall);
}

/// Writes so many lines in a container; prints seconds of wall time and of the shim's CPU time.
pub(crate) async fn logs(engine: &Engine, image: &str, lines: usize, blocking: bool) -> Result<()> {
    let mut spec = ContainerSpec::command(command(lines)).with_network(NetworkMode::None);
    if !blocking {
        spec.log.mode = engine_core::launch::LogMode::NonBlocking;
    }
    let container = engine.create(image, spec).await?;
    let cost = Cost::begin(&["engine-shim"]);
    let start = Instant::now();
    let status = container.run().await?;
    let wall = start.elapsed().as_secs_f64();
    println!("{wall} {}", cost.end());
    ensure!(status.code == 0, "the payload ended with {status:?}");
    Ok(container.remove(RemoveOptions::default()).await?)
}

/// Appends events, follows them meanwhile, and reads them again; prints rows of a table.
pub(crate) async fn events(dir: &Path, count: usize) -> Result<()> {
    let path = dir.with_file_name("engine-events");
    let journal = Journal::open(&path)?;
    let event = Event::new(ObjectKind::Container, Action::Start, "0".repeat(64))
        .with("image", "registry.example/app:1.0")
        .with("name", "a_name");
    let mut follower = journal.read(EventQuery::default()).await?;
    let seen = tokio::spawn(async move {
        for _ in 0..count {
            follower.next().await.transpose()?;
        }
        engine_core::Result::<Instant>::Ok(Instant::now())
    });
    let start = Instant::now();
    let (own, one) = (journal.clone(), event.clone());
    let appended = tokio::task::spawn_blocking(move || {
        for _ in 0..count {
            own.append(std::slice::from_ref(&one))?;
        }
        engine_core::Result::<Instant>::Ok(Instant::now())
    });
    let appended = appended.await??.duration_since(start).as_secs_f64();
    println!("| append, each alone, one follower | {:.1} µs |", appended * 1e6 / count as f64);
    match seen.await? {
        Ok(at) => println!(
            "| last of {count} seen by the follower after the first append | {:.2} s |",
            at.duration_since(start).as_secs_f64()
        ),
        Err(error) => println!("| follower | {error} |"),
    }
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let journal = Journal::open(&path);
                for _ in 0..count / 4 {
                    let _ = journal.as_ref().map(|journal| journal.append(std::slice::from_ref(&event)));
                }
            });
        }
    });
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("| appended by 4 journals at once | {rate:.0} / s |");
    let start = Instant::now();
    let query = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
    let read = journal.read(query).await?.count().await;
    println!("| read again | {:.0} / s |", read as f64 / start.elapsed().as_secs_f64());
    fs::remove_dir_all(&path)?;
    Ok(())
}

/// The CPU time of all processes of some names, as long as they live.
pub(crate) struct Cost {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<f64>,
}

impl Cost {
    /// Begins to look at the processes of these names.
    pub(crate) fn begin(names: &[&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, names) = (Arc::clone(&stop), names.to_vec());
        let thread = thread::spawn(move || {
            let before = ticks(&names);
            let mut last = HashMap::new();
            while !stopped.load(Ordering::Relaxed) {
                last.extend(ticks(&names));
                thread::sleep(Duration::from_millis(20));
            }
            last.extend(ticks(&names));
            let used: u64 =
                last.iter().map(|(process, ticks)| ticks - before.get(process).unwrap_or(&0)).sum();
            // USER_HZ is 100 everywhere (proc_pid_stat(5)).
            used as f64 / 100.0
        });
        Self { stop, thread }
    }

    /// Returns the seconds used.
    pub(crate) fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(f64::NAN)
    }
}

/// User and system time of the processes of these names, by process.
fn ticks(names: &[&str]) -> HashMap<PathBuf, u64> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if names.contains(&comm.trim()) {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let used = rest.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
            all.insert(entry.path(), used);
        }
    }
    all
}
