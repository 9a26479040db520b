//! Snapshots that execs keep: what is in them, when there is none, and several at once.

use std::time::{Duration, SystemTime};

use engine_core::engine::{Exec, ExecOptions, Snapshot};
use engine_core::events::EventQuery;
use engine_core::io::AttachOptions;
use engine_core::{Container, ContainerSpec, Engine, ErrorKind, ExecId, ExecSpec, Name};
use engine_testkit::require;
use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;

use super::branches::{content, lines, name};
use super::files::World;

async fn running(world: &World, spec: ContainerSpec) -> Container {
    let container = world.create(spec.with_command(["sleep", "1000"])).await;
    container.start().await.unwrap();
    container
}

/// Runs `script` to its end.
async fn exec(container: &Container, script: &str, options: ExecOptions) -> Exec {
    let exec = container.exec(&ExecSpec::new(["sh", "-ec", script]), options).await.unwrap();
    let status = container.exec_wait(&exec.id).await.unwrap();
    assert!(status.success(), "{script}: {status:?}");
    exec
}

async fn names(container: &Container) -> Vec<Name> {
    container.snapshots().await.unwrap().into_iter().map(|snapshot| snapshot.name).collect()
}

/// What the container's journal says of snapshots and execs: action, snapshot, exec.
async fn told(engine: &Engine) -> Vec<(String, String, String)> {
    let query = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
    let events = engine.events(query).await.unwrap().map(Result::unwrap);
    let of = |event: engine_core::Event| {
        let attribute = |key| event.attributes.get(key).cloned().unwrap_or_default();
        (event.action.to_string(), attribute("snapshot"), attribute("execID"))
    };
    let all: Vec<_> = events.map(of).collect().await;
    all.into_iter()
        .filter(|(action, ..)| action.starts_with("snapshot") || action.starts_with("exec_create"))
        .collect()
}

#[tokio::test]
async fn an_exec_keeps_what_it_found() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let container = running(&world, ContainerSpec::default()).await;
    exec(&container, "echo 1 > /f; echo 1 > /gone; mkdir /dir", ExecOptions::default()).await;
    let before = ExecOptions::default().with_snapshot(Some(name("before")));
    let one = exec(&container, "echo 22 > /f; rm /gone; echo new > /dir/new; chmod 700 /root", before).await;
    let taken = one.snapshot.unwrap();
    assert_eq!((&taken.name, taken.exec.as_ref()), (&name("before"), Some(&one.id)));
    let changed = ["C /dir", "A /dir/new", "C /f", "D /gone", "C /root"];
    assert_eq!(lines(&container.changes_since(&taken.name).await.unwrap()), changed);
    // Another is named after its exec, whose id may be chosen.
    let id = ExecId::random();
    let spec = ExecSpec::new(["sh", "-c", "cat /f; echo 333 > /f"]).with_id(id.clone());
    let options = ExecOptions::from(AttachOptions::piped(false)).with_snapshot(None);
    let mut two = container.exec(&spec, options).await.unwrap();
    let mut out = String::new();
    two.streams.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    container.exec_wait(&id).await.unwrap();
    assert_eq!((two.id, &*out), (id.clone(), "22\n"));
    let second = two.snapshot.unwrap();
    assert_eq!(second.name.as_str(), format!("exec-{}", id.short()));
    assert_eq!(lines(&container.changes_since(&second.name).await.unwrap()), ["C /f"]);
    // Without the wish there is none; and another program knows those that are.
    assert_eq!(exec(&container, "true", ExecOptions::default()).await.snapshot, None);
    let root = world.dir.path().join("root");
    let other = Engine::builder(&root).run_root(world.dir.path().join("run")).open().await.unwrap();
    let container = other.container(container.id().as_str()).await.unwrap();
    assert_eq!(container.snapshots().await.unwrap(), [taken.clone(), second.clone()]);
    let snapshots =
        |taken: &Snapshot, exec: &ExecId| ("snapshot".to_owned(), taken.name.to_string(), exec.to_string());
    let events = told(&other).await;
    assert!(
        events.contains(&snapshots(&taken, &one.id)) && events.contains(&snapshots(&second, &id)),
        "{events:?}"
    );
    let before = events.iter().position(|event| *event == snapshots(&second, &id));
    let begun =
        events.iter().position(|(action, _, exec)| action.starts_with("exec_create") && exec == id.as_str());
    assert!(before.is_some() && before < begun, "{events:?}");
    // Back to what each found.
    container.stop(Some(Duration::ZERO)).await.unwrap();
    for (snapshot, f, gone) in [(&second, "22\n", None), (&taken, "1\n", Some("1\n"))] {
        container.restore(&snapshot.name).await.unwrap();
        assert_eq!(content(&container, "/f").await.as_deref(), Some(f));
        assert_eq!(content(&container, "/gone").await.as_deref(), gone);
    }
    world.remove(&container).await;
    assert_eq!(std::fs::read_dir(root.join("images/frozen")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_exec_that_cannot_begin_keeps_nothing() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let container = running(&world, ContainerSpec::default()).await;
    exec(&container, "echo 1 > /f", ExecOptions::default()).await;
    let wish = |text: &str| ExecOptions::default().with_snapshot(Some(name(text)));
    let refused = async |spec: ExecSpec, kind: ErrorKind| {
        let error = container.exec(&spec, wish("mine")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert_eq!(names(&container).await, []);
    };
    refused(ExecSpec::new(["no-such-command"]), ErrorKind::CommandNotFound).await;
    refused(ExecSpec::new(["/root"]), ErrorKind::CommandNotExecutable).await;
    refused(ExecSpec::new(["true"]).with_user("nobody-knows"), ErrorKind::InvalidArgument).await;
    refused(ExecSpec::default(), ErrorKind::InvalidArgument).await;
    container.pause().await.unwrap();
    refused(ExecSpec::new(["true"]), ErrorKind::Conflict).await;
    container.resume().await.unwrap();
    // Nothing of them is on disk, and the name is free.
    let frozen = world.dir.path().join("root/images/frozen");
    assert_eq!(std::fs::read_dir(&frozen).unwrap().count(), 0);
    exec(&container, "echo 2 > /f", wish("mine")).await;
    // A name that is taken stops the command from running.
    let spec = ExecSpec::new(["sh", "-c", "echo 3 > /f"]);
    let taken = container.exec(&spec, wish("mine")).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{}", taken.report());
    assert_eq!(content(&container, "/f").await.as_deref(), Some("2\n"));
    assert_eq!(names(&container).await, [name("mine")]);
    // One that fails by itself did begin: what it found is kept.
    let spec = ExecSpec::new(["sh", "-c", "echo 4 > /f; exit 7"]);
    let failed = container.exec(&spec, wish("failed")).await.unwrap();
    assert_eq!(container.exec_wait(&failed.id).await.unwrap().code, 7);
    assert_eq!(lines(&container.changes_since(&name("failed")).await.unwrap()), ["C /f"]);
    container.stop(Some(Duration::ZERO)).await.unwrap();
    let stopped = container.exec(&ExecSpec::new(["true"]), wish("late")).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Conflict);
    assert_eq!(names(&container).await, [name("mine"), name("failed")]);
    world.remove(&container).await;
    assert_eq!(std::fs::read_dir(frozen).unwrap().count(), 0);
}

/// What a pause holds still is each other's business: none ends another's, and none fails for it.
#[tokio::test]
async fn many_at_once_each_keep_one() {
    require!(root, overlayfs);
    let world = World::new().await;
    let container = running(&world, ContainerSpec::default().with_snapshot_execs(true)).await;
    let root = world.dir.path().join("root");
    let other = Engine::builder(&root).run_root(world.dir.path().join("run")).open().await.unwrap();
    let same = other.container(container.id().as_str()).await.unwrap();
    assert!(same.inspect().await.unwrap().spec.snapshot_execs, "it is kept with the container");
    let one = async |number: usize| {
        let container = if number.is_multiple_of(2) { &container } else { &same };
        let script = format!("dd if=/dev/zero of=/f{number} bs=1M count=2 2>/dev/null");
        exec(container, &script, ExecOptions::default()).await.snapshot.unwrap()
    };
    let plain = async { exec(&container, "true", ExecOptions::default().without_snapshot()).await.snapshot };
    let (taken, none, by_hand) = tokio::join!(
        futures_util::future::join_all((0..6).map(one)),
        plain,
        container.snapshot(Some(name("by-hand")))
    );
    assert_eq!(none, None);
    let mut expected: Vec<Name> = taken.iter().map(|snapshot| snapshot.name.clone()).collect();
    expected.push(by_hand.unwrap().name);
    expected.sort();
    let mut found = names(&same).await;
    found.sort();
    assert_eq!(found, expected);
    for (number, snapshot) in taken.iter().enumerate() {
        let changes = lines(&container.changes_since(&snapshot.name).await.unwrap());
        let own = format!("/f{number}");
        assert!(changes.iter().any(|line| line.ends_with(&own)), "{changes:?}");
    }
    let state = container.inspect().await.unwrap().state.status;
    assert_eq!(state, engine_core::ContainerStatus::Running, "nobody left it paused");
    world.remove(&container).await;
}
