//! A container whose shim was killed: its end is told by whoever looks next, once.

use std::time::{Duration, SystemTime};

use engine_core::container_spec::MountSpec;
use engine_core::engine::RemoveOptions;
use engine_core::events::EventQuery;
use engine_core::volume_driver::VolumeOptions;
use engine_core::{Container, ContainerSpec, Engine, Event};
use engine_testkit::require;
use futures_util::StreamExt as _;

use crate::support::{World, all, next, words};

async fn create(engine: &Engine, auto_remove: bool) -> Container {
    let data = "data".parse().unwrap();
    engine.create_volume(&data, &VolumeOptions::default()).await.unwrap();
    let mut spec = ContainerSpec::command(["sleep", "600"]);
    spec.auto_remove = auto_remove;
    spec.mounts.push(MountSpec::volume(Some(data), "/data"));
    engine.create("busybox", spec).await.unwrap()
}

/// Kills the shim, and waits until it and the container are gone.
async fn kill_shim(world: &World, container: &Container) {
    let state = world.dir.path().join("root/containers").join(container.id().as_str()).join("state");
    let state = std::fs::read_to_string(state).unwrap();
    let pid = |key: &str| -> i32 {
        let line = state.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let status = std::process::Command::new("kill").args(["-KILL", &pid("shim ").to_string()]).status();
    assert!(status.unwrap().success());
    for pid in [pid("shim "), pid("init ")] {
        let mut waited = 0;
        // A zombie is gone.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
            waited += 1;
            assert!(waited < 6000, "process {pid} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The events so far as a reader finds them who looks at nothing.
async fn written(world: &World) -> Vec<Event> {
    let journal = engine_core::events::Journal::open(&world.dir.path().join("root/events")).unwrap();
    let query = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
    journal.read(query).await.unwrap().map(Result::unwrap).collect().await
}

#[tokio::test]
async fn an_end_that_nothing_told_is_told_once() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let container = create(&engine, false).await;
    container.start().await.unwrap();
    let mut events = engine.events(EventQuery::default()).await.unwrap();
    let before = written(&world).await.len();
    kill_shim(&world, &container).await;
    assert_eq!(written(&world).await.len(), before, "nobody has looked");
    // Two programs look, several times.
    let other = world.open().await;
    let (a, b) = tokio::join!(engine.containers(), other.containers());
    assert_eq!((a.unwrap().len(), b.unwrap().len()), (1, 1));
    let end = container.wait().await.unwrap();
    container.inspect().await.unwrap();
    let told = all(&other).await;
    assert_eq!(words(&told[before..]), ["container die", "volume unmount"]);
    assert_eq!(told[before].attributes["exitCode"], end.code.to_string());
    assert_eq!(told[before].attributes["image"], "busybox");
    let lasted: u64 = told[before].attributes["execDuration"].parse().unwrap();
    let started = container.inspect().await.unwrap().state.started_at.unwrap();
    assert!(lasted <= started.elapsed().unwrap().as_secs(), "{lasted} s, since {started:?}");
    // Whoever followed has it too.
    assert_eq!(next(&mut events).await.time, told[before].time);
    assert_eq!(next(&mut events).await.id, "data");
    // The next run has an end of its own, and its removal comes after it.
    container.start().await.unwrap();
    kill_shim(&world, &container).await;
    container.remove(RemoveOptions::default()).await.unwrap();
    let again = ["volume mount", "container start", "container die", "volume unmount", "container destroy"];
    assert_eq!(words(&written(&world).await[before + 2..]), again);
    engine.remove_volume(&"data".parse().unwrap()).await.unwrap();
    drop((container, other, events));
    world.finish(engine).await;
}

#[tokio::test]
async fn the_next_program_that_asks_for_events_has_it() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let container = create(&engine, false).await;
    let removed = create(&engine, true).await;
    for container in [&container, &removed] {
        container.start().await.unwrap();
        kill_shim(&world, container).await;
    }
    let before = written(&world).await.len();
    drop((container, removed, engine));
    // The open removes the one that was to remove itself; the question finds the other.
    let next = world.open().await;
    // It tells now, which is after what this one asked for.
    all(&next).await;
    let mut told = words(&all(&next).await[before..]);
    assert_eq!(told[..3], ["container die", "volume unmount", "container destroy"]);
    assert_eq!(told.split_off(3), ["container die", "volume unmount"]);
    let left = next.containers().await.unwrap().remove(0).id;
    next.container(left.as_str()).await.unwrap().remove(RemoveOptions::default()).await.unwrap();
    next.remove_volume(&"data".parse().unwrap()).await.unwrap();
    world.finish(next).await;
}
