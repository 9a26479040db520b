//! Snapshots of execs, with faults where the parts could fail.

use engine_core::engine::{ExecOptions, ExecSnapshot};
use engine_core::{Container, Name};

use super::*;

async fn running(engine: &Engine, image: &str, spec: ContainerSpec) -> Container {
    let container = engine.create(image, spec.with_command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    container
}

fn named(text: &str) -> ExecOptions {
    ExecOptions::default().with_snapshot(Some(text.parse().unwrap()))
}

async fn names(container: &Container) -> Vec<String> {
    container.snapshots().await.unwrap().into_iter().map(|s| s.name.to_string()).collect()
}

#[tokio::test]
async fn the_spec_says_and_the_exec_may_differ() {
    let (parts, engine, image) = with_image().await;
    let plain = running(&engine, &image, ContainerSpec::default()).await;
    let always = running(&engine, &image, ContainerSpec::default().with_snapshot_execs(true)).await;
    let command = ExecSpec::new(["true"]);
    for (container, options, kept) in [
        (&plain, ExecOptions::default(), false),
        (&plain, ExecOptions::default().with_snapshot(None), true),
        (&always, ExecOptions::default(), true),
        (&always, ExecOptions::default().without_snapshot(), false),
    ] {
        let wish = options.snapshot.clone();
        let exec = container.exec(&command, options).await.unwrap();
        assert_eq!(exec.snapshot.is_some(), kept, "{wish:?}");
        let Some(snapshot) = exec.snapshot else { continue };
        assert_eq!(snapshot.name.as_str(), format!("exec-{}", exec.id.short()));
        assert_eq!(container.snapshots().await.unwrap(), [snapshot]);
    }
    assert_eq!(ExecOptions::from(AttachOptions::piped(true)).snapshot, ExecSnapshot::AsContainer);
    for container in [&plain, &always] {
        container.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    }
    assert_eq!(parts.images.snapshot_list().await.unwrap(), []);
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn whatever_fails_leaves_no_snapshot_and_no_pause() {
    let (parts, engine, image) = with_image().await;
    let container = running(&engine, &image, ContainerSpec::default()).await;
    let command = ExecSpec::new(["true"]);
    for place in ["runtime.exec", "image_store.freeze_rootfs", "image_store.snapshot_list", "runtime.pause"] {
        parts.faults.fail_nth(place, 1, ErrorKind::Other);
        let error = container.exec(&command, named("mine")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{place}");
        parts.faults.clear();
        assert_eq!(names(&container).await, [""; 0], "{place}");
        assert_eq!(parts.images.snapshot_list().await.unwrap(), [], "{place}");
        let status = container.inspect().await.unwrap().state.status;
        assert_eq!(status, ContainerStatus::Running, "{place}");
    }
    container.exec(&command, named("mine")).await.unwrap();
    assert_eq!(container.exec(&command, named("mine")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    for wrong in ["", "a", "-x", "a/b", "../up", "a b"] {
        assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
    }
    assert_eq!(names(&container).await, ["mine"]);
}

/// What a caller no longer waits for is whole: a snapshot and its exec, or neither.
#[tokio::test]
async fn a_dropped_exec_is_carried_to_its_end() {
    let (parts, engine, image) = with_image().await;
    let container = running(&engine, &image, ContainerSpec::default()).await;
    parts.faults.delay("image_store.freeze_rootfs", Duration::from_millis(200));
    let command = ExecSpec::new(["true"]);
    let exec = container.exec(&command, named("mine"));
    assert!(tokio::time::timeout(Duration::from_millis(50), exec).await.is_err());
    // Whoever comes next has its turn after it.
    container.exec(&command, named("next")).await.unwrap();
    assert_eq!(names(&container).await, ["mine", "next"]);
}

#[tokio::test]
async fn a_name_is_found_that_is_free() {
    let (_parts, engine, image) = with_image().await;
    let container = running(&engine, &image, ContainerSpec::default()).await;
    for _ in 0..2 {
        container.snapshot(None).await.unwrap();
    }
    container.remove_snapshot(&"snapshot-1".parse().unwrap()).await.unwrap();
    assert_eq!(container.snapshot(None).await.unwrap().name.as_str(), "snapshot-3");
    assert_eq!(names(&container).await, ["snapshot-2", "snapshot-3"]);
}
