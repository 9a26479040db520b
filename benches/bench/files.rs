//! Files of containers: forks, copies, commits, with the peak of memory.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use engine_core::{
    Container, Engine,
    engine::{CommitOptions, CopyOptions, ForkOptions, RemoveOptions},
};

use crate::{
    host::Host,
    ours::{IMAGE, Peak, spec},
    table::Table,
};

/// What is written by a container that is forked.
const WRITTEN: u64 = 1 << 30;
/// What is copied and committed.
const COPIED: u64 = 256 << 20;

/// Prints the tables.
pub(crate) fn run(host: &Host, rounds: usize) -> Result<()> {
    let rounds = rounds.min(30);
    let mut table = Table::new("Fork of a stopped container, and removal of the fork", "nothing written");
    table.samples("nothing written", host.ours("fork-empty", rounds, None));
    table.samples("1 GiB written", host.ours("fork-full", rounds, None));
    table.print("nothing written");
    println!("### Copies and commits of {} MiB\n", COPIED >> 20);
    println!("| | min wall ms | MB/s | peak memory above idle MiB |\n| --- | ---: | ---: | ---: |");
    for what in ["cp-in", "cp-out", "cp-in-running", "commit"] {
        match host.ours_text(what, 3, None) {
            Ok(text) => print!("{text}"),
            Err(error) => println!("| {what} | {error:#} | | |"),
        }
    }
    println!();
    Ok(())
}

/// Writes a file that does not compress to nothing.
fn data(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        // Half noise, half zeros.
        for word in block[..1 << 19].chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

async fn remove(container: &Container) -> Result<()> {
    Ok(container.remove(RemoveOptions::default().with_force(true)).await?)
}

/// Prints nanoseconds of `rounds` forks.
pub(crate) async fn fork(engine: &Engine, dir: &Path, rounds: usize, full: bool) -> Result<()> {
    let source = engine.create(IMAGE, spec("/true")).await?;
    if full {
        let path = dir.join("fork-data");
        data(&path, WRITTEN)?;
        source.copy_from_host(&path, "/", CopyOptions::default()).await?;
        std::fs::remove_file(path)?;
    }
    for _ in 0..rounds {
        let start = Instant::now();
        let fork = source.fork(ForkOptions::default()).await?;
        remove(&fork).await?;
        println!("{}", start.elapsed().as_nanos());
    }
    remove(&source).await
}

/// Prints a row of the second table.
pub(crate) async fn copy(engine: &Engine, dir: &Path, what: &str, rounds: usize) -> Result<()> {
    let container = engine.create(IMAGE, spec("/pause")).await?;
    if what == "cp-in-running" {
        container.start().await?;
    }
    let (path, back) = (dir.join("copy-data"), dir.join("copy-back"));
    data(&path, COPIED)?;
    let options = CopyOptions::default();
    container.copy_from_host(&path, "/data", options).await?;
    let peak = Peak::begin()?;
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        match what {
            "cp-out" => drop(container.copy_to_host("/data", &back, options).await?),
            "commit" => drop(container.commit(&CommitOptions::default()).await?),
            _ => drop(container.copy_from_host(&path, "/data", options).await?),
        }
        best = best.min(start.elapsed());
    }
    let rate = COPIED as f64 / 1e6 / best.as_secs_f64();
    println!("| {what} | {:.0} | {rate:.0} | {:.0} |", best.as_secs_f64() * 1e3, peak.mib()?);
    remove(&container).await
}
