//! Full files of a log are compressed, and nothing is lost or read twice, whoever is killed when.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_core::engine::RemoveOptions;
use engine_core::launch::LogMode;
use engine_core::logs::LogQuery;
use engine_core::{Container, ContainerSpec, Engine, signal};
use engine_testkit::require;
use futures_util::StreamExt as _;

use crate::support::World;

const FILE: &str = "container-json.log";

async fn create(engine: &Engine, script: &str, max_size: u64, max_file: u32) -> Container {
    let mut spec = ContainerSpec::command(["sh", "-c", script]);
    (spec.log.max_size, spec.log.max_file, spec.log.compress) = (max_size, max_file, true);
    engine.create("busybox", spec).await.unwrap()
}

fn dir(world: &World, container: &Container) -> PathBuf {
    world.dir.path().join("root/containers").join(container.id().as_str())
}

/// The log's files but for the one that is written, by what follows its name.
fn full(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_prefix(&format!("{FILE}.")).map(str::to_owned)).collect();
    names.sort();
    names
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

async fn numbers(container: &Container, query: &LogQuery) -> Vec<u64> {
    let log = container.logs(query).await.unwrap();
    log.map(|entry| {
        String::from_utf8(entry.unwrap().message.to_vec()).unwrap().trim_end().parse::<u64>().unwrap()
    })
    .collect()
    .await
}

fn shim(dir: &Path) -> i32 {
    let state = fs::read_to_string(dir.join("state")).unwrap();
    let line = state.lines().find_map(|line| line.strip_prefix("shim ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

/// How many processes the shim `pid` has that are its like: those that write or compress.
fn helpers(pid: i32) -> usize {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter(|child| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "engine-shim")
        })
        .count()
}

async fn follow_a_flood(mode: LogMode) {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let mut spec = ContainerSpec::command(["seq", "1", "60000"]);
    (spec.log.max_size, spec.log.max_file, spec.log.compress) = (96 << 10, 200, true);
    (spec.log.mode, spec.log.max_buffer_size) = (mode, 64 << 20);
    let container = engine.create("busybox", spec).await.unwrap();
    container.start().await.unwrap();
    let followed = numbers(&container, &LogQuery::follow()).await;
    let expected: Vec<u64> = (1..=60_000).collect();
    assert!(followed == expected, "{} of {}", followed.len(), expected.len());
    assert_eq!(numbers(&container, &LogQuery::default()).await, expected);
    // The end of the container does not wait for what is only made smaller, and leaves nothing half.
    let names = full(&dir(&world, &container));
    assert!(names.iter().all(|name| !name.ends_with(".new")), "{names:?}");
    container.remove(RemoveOptions::default()).await.unwrap();
    drop(container);
    world.finish(engine).await;
}

#[tokio::test]
async fn a_flood_is_followed_while_it_is_compressed() {
    follow_a_flood(LogMode::Blocking).await;
}

#[tokio::test]
async fn a_flood_in_a_ring_is_followed_while_it_is_compressed() {
    follow_a_flood(LogMode::NonBlocking).await;
}

#[tokio::test]
async fn full_files_become_small_ones_and_the_oldest_go() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    // Nobody but the shim compresses.
    let container = create(&engine, "seq 1 30000; sleep 600", 256 << 10, 4).await;
    container.start().await.unwrap();
    let dir = dir(&world, &container);
    until("all is compressed", || full(&dir) == ["1.gz", "2.gz", "3.gz"]).await;
    for name in full(&dir) {
        let size = fs::metadata(dir.join(format!("{FILE}.{name}"))).unwrap().len();
        assert!(size < (256 << 10) / 4, "{name}: {size} bytes");
    }
    let kept = numbers(&container, &LogQuery::default()).await;
    assert!(kept.len() > 5000 && kept.last() == Some(&30_000), "{} kept", kept.len());
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(numbers(&container, &LogQuery::default().with_tail(2)).await, [29_999, 30_000]);
    container.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    assert!(!dir.exists());
    drop(container);
    world.finish(engine).await;
}

#[tokio::test]
async fn a_killed_shim_leaves_no_half_file_and_no_helper() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let container = create(&engine, "seq 1 400000; sleep 600", 8 << 20, 50).await;
    container.start().await.unwrap();
    let state = dir(&world, &container);
    // Amid a compression, or in the moment after one.
    until("a file is full", || !full(&state).is_empty()).await;
    let pid = shim(&state);
    until("it is being compressed", || {
        helpers(pid) > 0 || full(&state).iter().any(|name| name.ends_with(".gz"))
    })
    .await;
    // As a dead program's: what was under way ends with it.
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
    until("the shim is gone", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    drop(container);
    let next = world.open().await;
    let container = next.containers().await.unwrap().remove(0).id;
    let container = next.container(container.as_str()).await.unwrap();
    let before = numbers(&container, &LogQuery::default()).await;
    assert!(before.iter().copied().eq(1..=before.len() as u64), "{} lines", before.len());
    // Both forms of one, and half of another, as a kill at the worst moment leaves them.
    fs::write(state.join(format!("{FILE}.gz.new")), "half").unwrap();
    container.start().await.unwrap();
    until("what was left is compressed", || {
        let names = full(&state);
        names.len() > 1 && names.iter().all(|name| name.ends_with(".gz"))
    })
    .await;
    until("the second run has written", || fs::metadata(state.join(FILE)).is_ok_and(|file| file.len() > 0))
        .await;
    let after = numbers(&container, &LogQuery::default()).await;
    assert!(after.starts_with(&before), "{} and {}", before.len(), after.len());
    container.kill(signal::SIGKILL).await.unwrap();
    container.wait().await.unwrap();
    container.remove(RemoveOptions::default()).await.unwrap();
    drop((container, next));
    world.finish(engine).await;
}

#[tokio::test]
async fn a_file_in_both_forms_is_read_once_and_then_is_one() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let container = create(&engine, "seq 1 20000", 128 << 10, 30).await;
    container.run().await.unwrap();
    let expected: Vec<u64> = (1..=20_000).collect();
    let state = dir(&world, &container);
    // What the shim had not compressed by its end, and a file that it had, back in its plain form.
    let plain = full(&state).into_iter().find(|name| !name.ends_with(".gz"));
    if let Some(compressed) = full(&state).into_iter().find(|name| name.ends_with(".gz")) {
        let path = state.join(format!("{FILE}.{compressed}"));
        let mut text = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(fs::File::open(&path).unwrap());
        std::io::Read::read_to_end(&mut decoder, &mut text).unwrap();
        fs::write(path.with_extension(""), text).unwrap();
    } else {
        let name = plain.expect("full files");
        let mut out = fs::File::create(state.join(format!("{FILE}.{name}.gz"))).unwrap();
        let input = fs::read(state.join(format!("{FILE}.{name}"))).unwrap();
        let mut encoder = flate2::read::GzEncoder::new(&*input, flate2::Compression::fast());
        std::io::copy(&mut encoder, &mut out).unwrap();
    }
    fs::write(state.join(format!("{FILE}.gz.new")), "half").unwrap();
    assert_eq!(numbers(&container, &LogQuery::default()).await, expected);
    let twice: Vec<u64> = expected.iter().chain(&expected).copied().collect();
    container.run().await.unwrap();
    assert_eq!(numbers(&container, &LogQuery::default()).await, twice);
    let names = full(&state);
    let both = |name: &String| names.contains(&format!("{name}.gz"));
    assert!(!names.iter().any(both) && !names.contains(&"gz.new".to_owned()), "{names:?}");
    container.remove(RemoveOptions::default()).await.unwrap();
    drop(container);
    world.finish(engine).await;
}
