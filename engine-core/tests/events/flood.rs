//! Many containers that write as fast as they can: rotation holds, nothing inside the bound is lost, memory is bounded.
//!
//! Six containers for three seconds with the other tests; 200 for a minute on demand:
//! `ENGINE_TEST_FLOOD=200 cargo nextest run -p engine-core --all-features --test events --no-capture a_flood`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine_core::engine::RemoveOptions;
use engine_core::launch::LogMode;
use engine_core::logs::LogQuery;
use engine_core::{Container, ContainerSpec, signal};
use engine_testkit::require;
use futures_util::StreamExt as _;

use crate::support::World;

const MAX_SIZE: u64 = 256 << 10;
const MAX_FILE: u32 = 3;
/// A shim's code, buffers and stack, whatever the container writes.
const MAX_SHIM_KIB: u64 = 2048;

/// The numbers in a container's log files, oldest first, which must follow each other; and how many files there are.
fn kept(dir: &Path) -> (Vec<u64>, usize) {
    let name = |number: u32| {
        dir.join(if number == 0 {
            "container-json.log".to_owned()
        } else {
            format!("container-json.log.{number}")
        })
    };
    let files: Vec<PathBuf> = (0..MAX_FILE + 2).rev().map(name).filter(|path| path.exists()).collect();
    let mut numbers = Vec::new();
    for file in &files {
        let size = fs::metadata(file).unwrap().len();
        assert!(size <= MAX_SIZE, "{}: {size} bytes", file.display());
        for line in BufReader::new(fs::File::open(file).unwrap()).lines() {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            // What a killed program left of its last line is not whole.
            if let Some(number) = line["log"].as_str().unwrap().strip_suffix('\n') {
                numbers.push(number.parse().unwrap());
            }
        }
    }
    assert!(files.len() <= MAX_FILE as usize, "{files:?}");
    (numbers, files.len())
}

fn assert_without_gap(numbers: &[u64], whose: &str) {
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        panic!("{whose}: {} follows {}", pair[1], pair[0]);
    }
}

fn shim_peak_kib(dir: &Path) -> u64 {
    let state = fs::read_to_string(dir.join("state")).unwrap();
    let shim = state.lines().find_map(|line| line.strip_prefix("shim ")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", shim.split(' ').next().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn flood(containers: usize, time: Duration) {
    let (world, engine) = World::new().await;
    let start = Instant::now();
    let mut running: Vec<(Container, PathBuf)> = Vec::new();
    for _ in 0..containers {
        let mut spec = ContainerSpec::command(["seq", "1", "4000000000"]);
        (spec.log.max_size, spec.log.max_file) = (MAX_SIZE, MAX_FILE);
        let container = engine.create("busybox", spec).await.unwrap();
        container.start().await.unwrap();
        let dir = world.dir.path().join("root/containers").join(container.id().as_str());
        running.push((container, dir));
    }
    // One reader goes along as far as it can; it may be overtaken, and goes on with what is kept.
    let followed = running[0].0.clone();
    let follower = tokio::spawn(async move {
        let mut log = followed.logs(&LogQuery::follow()).await.unwrap();
        let (mut last, mut count) = (0_u64, 0_u64);
        while let Some(entry) = log.next().await {
            let entry = entry.unwrap();
            let text = std::str::from_utf8(&entry.message).unwrap();
            let Some(Ok(number)) = text.strip_suffix('\n').map(str::parse::<u64>) else { continue };
            assert!(number > last, "{number} follows {last}");
            (last, count) = (number, count + 1);
        }
        count
    });
    tokio::time::sleep(time.saturating_sub(start.elapsed())).await;
    let peak = running.iter().map(|(_, dir)| shim_peak_kib(dir)).max().unwrap();
    assert!(peak <= MAX_SHIM_KIB, "a shim took {peak} KiB");
    for (container, _) in &running {
        container.kill(signal::SIGKILL).await.unwrap();
    }
    let (mut lines, mut slowest) = (0, u64::MAX);
    for (container, dir) in &running {
        container.wait().await.unwrap();
        let (numbers, files) = kept(dir);
        assert_without_gap(&numbers, container.id().short());
        let last = *numbers.last().unwrap();
        // More was written than is kept: then the bound is used.
        assert!(last < 40_000 || files == MAX_FILE as usize, "{last} lines in {files} files");
        (lines, slowest) = (lines + last, slowest.min(last));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{containers} containers, {seconds:.1} s: {lines} lines ({:.0} / s), the slowest {slowest}; shims at most {peak} KiB",
        lines as f64 / seconds
    );
    assert!(follower.await.unwrap() > 0);
    for (container, _) in running {
        container.remove(RemoveOptions::default()).await.unwrap();
    }
    world.finish(engine).await;
}

#[tokio::test]
async fn a_flood_of_output_is_kept_within_its_bound() {
    require!(root, overlayfs);
    let (containers, seconds) = match std::env::var("ENGINE_TEST_FLOOD") {
        Ok(containers) => (containers.parse().expect("ENGINE_TEST_FLOOD is a number of containers"), 60),
        Err(_) => (6, 3),
    };
    flood(containers, Duration::from_secs(seconds)).await;
}

#[tokio::test]
async fn every_line_of_a_program_that_ends_is_kept_and_read() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let mut spec = ContainerSpec::command(["seq", "1", "200000"]);
    (spec.log.max_size, spec.log.max_file) = (1 << 20, 100);
    let container = engine.create("busybox", spec).await.unwrap();
    container.start().await.unwrap();
    // Followed while it is written and rotated.
    let mut log = container.logs(&LogQuery::follow()).await.unwrap();
    let mut next = 1_u64;
    while let Some(entry) = log.next().await {
        assert_eq!(entry.unwrap().message, format!("{next}\n").as_bytes());
        next += 1;
    }
    assert_eq!(next, 200_001);
    let again: Vec<_> = container.logs(&LogQuery::default().with_tail(2)).await.unwrap().collect().await;
    assert_eq!(again.len(), 2);
    drop(log);
    container.remove(RemoveOptions::default()).await.unwrap();
    drop(container);
    world.finish(engine).await;
}

#[tokio::test]
async fn in_non_blocking_mode_whole_lines_are_kept_in_order() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let mut spec = ContainerSpec::command(["seq", "1", "300000"]);
    (spec.log.max_size, spec.log.max_file, spec.log.mode) = (MAX_SIZE, MAX_FILE, LogMode::NonBlocking);
    let container = engine.create("busybox", spec).await.unwrap();
    container.run().await.unwrap();
    let (numbers, files) = kept(&world.dir.path().join("root/containers").join(container.id().as_str()));
    assert!(numbers.is_sorted() && !numbers.is_empty(), "{:?}", numbers.first());
    assert!(files <= MAX_FILE as usize);
    container.remove(RemoveOptions::default()).await.unwrap();
    drop(container);
    // What is written slowly is all there.
    let mut spec = ContainerSpec::command(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.01; done"]);
    spec.log.mode = LogMode::NonBlocking;
    let container = engine.create("busybox", spec).await.unwrap();
    container.run().await.unwrap();
    let log: Vec<_> =
        container.logs(&LogQuery::default()).await.unwrap().map(|e| e.unwrap().message).collect().await;
    assert_eq!(log, ["1\n", "2\n", "3\n"]);
    container.remove(RemoveOptions::default()).await.unwrap();
    drop(container);
    world.finish(engine).await;
}
