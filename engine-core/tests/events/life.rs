//! The life of containers, images and volumes, as events tell it.

use std::time::Duration;

use engine_core::container_spec::MountSpec;
use engine_core::engine::{PruneOptions, RemoveOptions};
use engine_core::events::{Action, EventFilters, EventQuery, ObjectKind};
use engine_core::io::AttachOptions;
use engine_core::volume_driver::VolumeOptions;
use engine_core::{ContainerSpec, Engine, ErrorKind, Event, ExecSpec, Resources, signal};
use engine_testkit::require;
use futures_util::StreamExt as _;

use crate::support::{World, all, in_memory, next, words};

/// A whole life, and the events it must make, in this order.
async fn tell_a_life(engine: &Engine) {
    let before = all(engine).await.last().unwrap().cursor();
    let data = "data".parse().unwrap();
    engine.create_volume(&data, &VolumeOptions::default()).await.unwrap();
    engine.create_volume(&data, &VolumeOptions::default()).await.unwrap();
    engine.tag("busybox", &"other:2".parse().unwrap()).await.unwrap();
    let mut spec = ContainerSpec::command(["sh", "-c", "sleep 600"])
        .with_name("one".parse().unwrap())
        .with_label("tier", "front \"row\"\n");
    spec.mounts.push(MountSpec::volume(Some(data.clone()), "/data"));
    let container = engine.create("busybox", spec).await.unwrap();
    container.start().await.unwrap();
    container.pause().await.unwrap();
    container.pause().await.unwrap();
    container.resume().await.unwrap();
    let mut limits = Resources::default();
    limits.pids_limit = Some(50);
    container.update(&limits).await.unwrap();
    let exec = container.exec(&ExecSpec::new(["true"]), AttachOptions::default()).await.unwrap();
    container.exec_wait(&exec.id).await.unwrap();
    drop(container.attach(AttachOptions::default()).await.unwrap());
    container.rename(&"two".parse().unwrap()).await.unwrap();
    container.processes().await.unwrap();
    container.detached().await.unwrap();
    container.exec_detached(&exec.id).await.unwrap();
    container.restart(Some(signal::SIGKILL), None).await.unwrap();
    container.stop(Some(Duration::from_millis(1))).await.unwrap();
    engine.prune_volumes(&PruneOptions::default()).await.unwrap();
    container.remove(RemoveOptions::default()).await.unwrap();
    engine.prune_containers(&PruneOptions::default()).await.unwrap();
    container.remove(RemoveOptions::default()).await.unwrap();
    engine.remove_image("other:2", false).await.unwrap();
    engine.remove_volume(&data).await.unwrap();
    engine.remove_volume(&data).await.unwrap();

    let told = EventQuery::default().with_after(before).with_until(std::time::SystemTime::now());
    let told: Vec<_> = engine.events(told).await.unwrap().map(Result::unwrap).collect().await;
    let expected = [
        "volume create",
        "image tag",
        "container create",
        "volume mount",
        "container start",
        "container pause",
        "container unpause",
        "container update",
        "container exec_create: true",
        "container exec_start: true",
        "container exec_die",
        "container attach",
        "container rename",
        "container top",
        "container detach",
        "container exec_detach",
        "container kill",
        "container die",
        "volume unmount",
        "container stop",
        "volume mount",
        "container start",
        "container restart",
        "container kill",
        "container kill",
        "container die",
        "volume unmount",
        "container stop",
        "volume prune",
        "container destroy",
        "container prune",
        "image untag",
        "volume destroy",
    ];
    assert_eq!(words(&told), expected);
    let renamed = told.iter().find(|event| event.action == Action::Rename).unwrap().time;
    assert!(told.iter().filter(|event| event.action == Action::Prune).all(|event| event.id.is_empty()));
    let of_container =
        |event: &&Event| event.object == ObjectKind::Container && event.action != Action::Prune;
    for event in told.iter().filter(of_container) {
        let name = if event.time < renamed { "one" } else { "two" };
        let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
        assert_eq!(event.id, container.id().as_str());
        assert_eq!((attribute("name"), attribute("image")), (name, "busybox"), "{event:?}");
        assert_eq!(attribute("tier"), "front \"row\"\n", "{event:?}");
    }
    let of = |action: Action| told.iter().find(|event| event.action == action).unwrap();
    assert_eq!(of(Action::Die).attributes["exitCode"], "137");
    let kills: Vec<i32> = told
        .iter()
        .filter(|event| event.action == Action::Kill)
        .map(|event| event.attributes["signal"].parse().unwrap())
        .collect();
    assert_eq!(kills, [signal::SIGKILL, signal::SIGTERM, signal::SIGKILL]);
    assert_eq!(of(Action::ExecDetach).attributes["execID"], exec.id.as_str());
    assert_eq!(of(Action::Prune).attributes["reclaimed"], "0");
    assert_eq!(of(Action::ExecDie).attributes["exitCode"], "0");
    assert_eq!(of(Action::ExecDie).attributes["execID"], exec.id.as_str());
    assert_eq!(of(Action::Mount).attributes["destination"], "/data");
    assert_eq!(of(Action::Unmount).attributes["container"], container.id().as_str());
    assert!(told.windows(2).all(|pair| pair[0].time < pair[1].time));
}

#[tokio::test]
async fn a_life_in_memory() {
    tell_a_life(&in_memory().await).await;
}

#[tokio::test]
async fn a_real_life() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    tell_a_life(&engine).await;
    world.finish(engine).await;
}

#[tokio::test]
async fn a_container_that_ends_while_nobody_looks_has_told_so() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let gate = world.dir.path().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let spec = ContainerSpec::command(["sh", "-c", "until [ -e /gate/go ]; do sleep 0.02; done; exit 7"])
        .with_mount(engine_core::Mount::bind(&gate, "/gate"));
    let container = engine.create("busybox", spec).await.unwrap();
    container.start().await.unwrap();
    let id = container.id().clone();
    let cursor = all(&engine).await.last().unwrap().cursor();
    drop((container, engine));
    std::fs::write(gate.join("go"), "").unwrap();
    // No engine is open: only the shim can tell.
    let journal = engine_core::events::Journal::open(&world.dir.path().join("root/events")).unwrap();
    let mut events = journal.read(EventQuery::default().with_after(cursor)).await.unwrap();
    let die = next(&mut events).await;
    assert_eq!((die.action, die.id.as_str()), (Action::Die, id.as_str()));
    assert_eq!(die.attributes["exitCode"], "7");
    let engine = world.open().await;
    let container = engine.container(id.as_str()).await.unwrap();
    container.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(next(&mut events).await.action, Action::Destroy);
    drop((events, journal, container));
    world.finish(engine).await;
}

#[tokio::test]
async fn two_engines_see_one_order() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let other = world.open().await;
    let filters = EventFilters::default().with_action(Action::Start).with_action(Action::Die);
    let query = EventQuery::default().with_filters(filters);
    let mut seen = [engine.events(query.clone()).await.unwrap(), other.events(query).await.unwrap()];
    let run = async |engine: &Engine| {
        for _ in 0..5 {
            let container = engine.create("busybox", ContainerSpec::command(["true"])).await.unwrap();
            container.run().await.unwrap();
            container.remove(RemoveOptions::default()).await.unwrap();
        }
    };
    tokio::join!(run(&engine), run(&other));
    let mut orders = [Vec::new(), Vec::new()];
    for (events, order) in seen.iter_mut().zip(&mut orders) {
        for _ in 0..20 {
            let event = next(events).await;
            order.push((event.time, event.id, event.action));
        }
    }
    assert_eq!(orders[0], orders[1]);
    drop((seen, other));
    world.finish(engine).await;
}

#[tokio::test]
async fn what_fails_is_no_event() {
    let engine = in_memory().await;
    let before = all(&engine).await.len();
    assert_eq!(
        engine.create("nope", ContainerSpec::default()).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(engine.tag("nope", &"a:1".parse().unwrap()).await.is_err());
    assert!(engine.remove_image("nope", true).await.is_err());
    let container = engine.create("busybox", ContainerSpec::command(["sh"])).await.unwrap();
    assert!(container.kill(signal::SIGKILL).await.is_err());
    assert!(container.pause().await.is_err());
    container.remove(RemoveOptions::default()).await.unwrap();
    let told = all(&engine).await;
    assert_eq!(words(&told[before..]), ["container create", "container destroy"]);
}

#[tokio::test]
async fn a_death_for_want_of_memory_is_told() {
    require!(root, overlayfs);
    let (world, engine) = World::new().await;
    let before = all(&engine).await.len();
    let spec = ContainerSpec::command(["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]);
    let container = engine.create("busybox", spec.with_memory_limit(16 << 20)).await.unwrap();
    assert!(container.run().await.unwrap().oom_killed);
    container.remove(RemoveOptions::default()).await.unwrap();
    let told = words(&all(&engine).await[before..]);
    let expected =
        ["container create", "container start", "container oom", "container die", "container destroy"];
    assert_eq!(told, expected);
    drop(container);
    world.finish(engine).await;
}
