//! What containers changed, images and forks made of it, snapshots.

use std::time::{Duration, SystemTime};

use engine_core::engine::{CommitOptions, ForkOptions};
use engine_core::files::{Change, UnpackFiles};
use engine_core::{Container, ContainerSpec, Engine, ErrorKind, Name};
use engine_testkit::image::LayerBuilder;
use engine_testkit::require;

use super::files::{World, collect, list, stream};

pub fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path.display())).collect()
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

async fn put(container: &Container, path: &str, content: &str) {
    let archive = LayerBuilder::new().file(path, 0o644, content.as_bytes()).build();
    container.copy_in("/", stream(archive), &UnpackFiles::default()).await.unwrap();
}

pub async fn content(container: &Container, path: &str) -> Option<String> {
    let (_, archive) = match container.copy_out(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        found => found.unwrap(),
    };
    Some(list(&collect(archive).await.unwrap()).remove(0).1)
}

const CHANGES: &str = "mkdir -p /new/sub; echo 1 > /new/sub/f; rm /etc/passwd; rm -r /home; mkdir /home; echo 2 > /home/x; \
    chmod 700 /root; rm -rf /var; echo file > /var; touch -d '2001-01-01 00:00:00' /tmp; ln -s x /link";

#[tokio::test]
async fn changes_are_told_as_docker_tells_them() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let image = LayerBuilder::new();
    let image = ["etc", "home", "home/user", "root", "var", "var/lib", "tmp"]
        .iter()
        .fold(image, |l, d| l.dir(d, 0o755));
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let image = image.dir("bin", 0o755).file("bin/busybox", 0o755, &busybox).file(
        "etc/passwd",
        0o644,
        b"root:x:0:0::/:/bin/sh\n",
    );
    let image = ["sh", "mkdir", "rm", "chmod", "touch", "ln", "cat"]
        .iter()
        .fold(image, |l, n| l.symlink(&format!("bin/{n}"), "busybox"));
    let options = engine_core::engine::ImportOptions::default();
    world.engine.import(&"base".parse().unwrap(), image.build().into(), options).await.unwrap();
    let container =
        world.engine.create("base", ContainerSpec::command(["sh", "-ec", CHANGES])).await.unwrap();
    assert_eq!(lines(&container.changes().await.unwrap()), Vec::<String>::new());
    assert!(container.run().await.unwrap().success());
    let expected = [
        "C /etc",
        "D /etc/passwd",
        "C /home",
        "D /home/user",
        "A /home/x",
        "A /link",
        "A /new",
        "A /new/sub",
        "A /new/sub/f",
        "C /root",
        "C /var",
    ];
    assert_eq!(lines(&container.changes().await.unwrap()), expected);
    // An image of it has the same tree, and a container of that has changed nothing.
    let commit = CommitOptions::default().with_name("made".parse().unwrap());
    container.commit(&commit).await.unwrap();
    let again = world.engine.create("made", ContainerSpec::command(["sh", "-c", "true"])).await.unwrap();
    assert_eq!(lines(&again.changes().await.unwrap()), Vec::<String>::new());
    // But for the mount points that a start makes.
    let tree = async |container: &Container| {
        let mut all = list(&collect(container.export().await.unwrap()).await.unwrap());
        all.retain(|(name, _)| !["./dev", "./proc", "./sys"].contains(&name.as_str()));
        all.retain(|(name, _)| {
            !["./etc/hosts", "./etc/hostname", "./etc/resolv.conf"].contains(&name.as_str())
        });
        all
    };
    assert!(tree(&container).await == tree(&again).await);
    for container in [container, again] {
        world.remove(&container).await;
    }
}

#[tokio::test]
async fn a_commit_has_its_changes_and_history_and_the_same_bytes_each_time() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let container = world.create(ContainerSpec::command(["sh", "-c", "echo 1 > /f; sleep 1000"])).await;
    container.start().await.unwrap();
    while content(&container, "/f").await.is_none_or(|text| text.is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut options = CommitOptions::default()
        .with_name("made:1".parse().unwrap())
        .with_change("CMD [\"cat\", \"/f\"]")
        .with_change("ENV A=1 B=2")
        .with_change("EXPOSE 80")
        .with_change("LABEL x=y");
    options.author = "me".to_owned();
    options.message = "why".to_owned();
    options.created = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let id = container.commit(&options).await.unwrap();
    assert_eq!(container.commit(&options).await.unwrap(), id);
    assert_eq!(container.inspect().await.unwrap().state.status, engine_core::ContainerStatus::Running);
    let base = world.engine.image("busybox").await.unwrap();
    let image = world.engine.image("made:1").await.unwrap();
    assert_eq!(image.id(), &id);
    assert_eq!(image.diff_ids().len(), base.diff_ids().len() + 1);
    let config = &image.config;
    assert_eq!((&*config.author, config.config.cmd.join(" ")), ("me", "cat /f".to_owned()));
    assert!(
        config.config.env.contains(&"B=2".to_owned()) && config.config.exposed_ports.contains_key("80/tcp")
    );
    let last = config.history.last().unwrap();
    assert_eq!((last.comment.as_deref(), last.author.as_deref()), (Some("why"), Some("me")));
    // It runs, and a commit of a container of it goes on top.
    let second = world
        .engine
        .create("made:1", ContainerSpec::command(["sh", "-c", "grep 1 /f && rm /f"]))
        .await
        .unwrap();
    assert!(second.run().await.unwrap().success());
    second.commit(&CommitOptions::default().with_name("made:2".parse().unwrap())).await.unwrap();
    let third =
        world.engine.create("made:2", ContainerSpec::command(["sh", "-c", "! test -e /f"])).await.unwrap();
    assert!(third.run().await.unwrap().success());
    for change in ["FROM x", "CMD", "EXPOSE no"] {
        let options = CommitOptions::default().with_change(change);
        assert_eq!(third.commit(&options).await.unwrap_err().kind(), ErrorKind::InvalidArgument, "{change}");
    }
    for container in [container, second, third] {
        world.remove(&container).await;
    }
}

#[tokio::test]
async fn forks_share_the_past_and_go_their_own_ways() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let first = world.after("echo past > /f; rm -f /etc/group").await;
    let second = first.fork(ForkOptions::default().with_name(Some(name("second")))).await.unwrap();
    let third = second.fork(ForkOptions::default()).await.unwrap();
    put(&first, "f", "one").await;
    put(&second, "f", "two").await;
    assert_eq!(content(&first, "/f").await.as_deref(), Some("one"));
    assert_eq!(content(&second, "/f").await.as_deref(), Some("two"));
    assert_eq!(content(&third, "/f").await.as_deref(), Some("past\n"));
    assert!(content(&third, "/etc/group").await.is_none());
    let error = first.fork(ForkOptions::default().with_name(Some(name("second")))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    // They outlive what they were made from, whatever is collected, and another program knows them.
    world.remove(&first).await;
    world.engine.collect_garbage().await.unwrap();
    let root = world.dir.path().join("root");
    let other = Engine::builder(&root).run_root(world.dir.path().join("run")).open().await.unwrap();
    let third = other.container(third.id().as_str()).await.unwrap();
    assert_eq!(content(&third, "/f").await.as_deref(), Some("past\n"));
    assert_eq!(lines(&third.changes().await.unwrap()), ["C /etc", "D /etc/group", "A /f"]);
    assert!(third.run().await.unwrap().success());
    world.remove(&second).await;
    world.remove(&third).await;
    assert_eq!(std::fs::read_dir(root.join("images/frozen")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_running_container_is_forked_and_goes_on() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let script = "rm /etc/group; rm -r /home; mkdir /home; n=0; while true; do n=$((n+1)); echo $n > /m; mv /m /n; done";
    let first = world.create(ContainerSpec::command(["sh", "-c", script])).await;
    first.start().await.unwrap();
    let number = async |container: &Container| {
        content(container, "/n").await.and_then(|n| n.trim().parse::<u64>().ok())
    };
    while number(&first).await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = first.fork(ForkOptions::default()).await.unwrap();
    let at = content(&second, "/n").await.unwrap();
    assert!(content(&second, "/etc/group").await.is_none());
    let before = number(&first).await;
    while number(&first).await.is_none() || number(&first).await == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(content(&second, "/n").await.unwrap(), at);
    world.remove(&first).await;
    world.remove(&second).await;
}

#[tokio::test]
async fn snapshots_are_compared_and_gone_back_to() {
    require!(root, overlayfs, "python3");
    let world = World::new().await;
    let container = world.create(ContainerSpec::command(["sleep", "1000"])).await;
    put(&container, "f", "1").await;
    container.snapshot(Some(name("one"))).await.unwrap();
    assert_eq!(container.snapshot(Some(name("one"))).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    put(&container, "f", "22").await;
    put(&container, "g", "22").await;
    assert_eq!(lines(&container.changes_since(&name("one")).await.unwrap()), ["C /f", "A /g"]);
    // While it runs, what was written is copied.
    container.start().await.unwrap();
    let two = container.snapshot(None).await.unwrap();
    assert_eq!(two.name, name("snapshot-2"));
    put(&container, "g", "333").await;
    assert_eq!(lines(&container.changes_since(&two.name).await.unwrap()), ["C /g"]);
    assert_eq!(container.restore(&name("one")).await.unwrap_err().kind(), ErrorKind::Conflict);
    container.stop(Some(Duration::ZERO)).await.unwrap();
    container.restore(&name("one")).await.unwrap();
    assert_eq!(content(&container, "/f").await.as_deref(), Some("1"));
    assert!(content(&container, "/g").await.is_none());
    assert_eq!(lines(&container.changes_since(&two.name).await.unwrap()), ["C /f", "D /g"]);
    container.restore(&two.name).await.unwrap();
    assert_eq!(content(&container, "/g").await.as_deref(), Some("22"));
    let names: Vec<Name> = container.snapshots().await.unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, [name("one"), name("snapshot-2")]);
    for missing in [name("none"), name("ONE")] {
        assert_eq!(container.changes_since(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(container.restore(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(container.remove_snapshot(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    container.remove_snapshot(&two.name).await.unwrap();
    assert_eq!(
        content(&container, "/g").await.as_deref(),
        Some("22"),
        "its container keeps what it stands on"
    );
    // A snapshot of what has not changed costs nothing, so the chain does not grow.
    for _ in 0..20 {
        container.snapshot(None).await.unwrap_or_else(|error| panic!("{}", error.report()));
        let last = container.snapshots().await.unwrap().pop().unwrap();
        container.remove_snapshot(&last.name).await.unwrap();
    }
    world.remove(&container).await;
    let frozen = world.dir.path().join("root/images/frozen");
    assert_eq!(std::fs::read_dir(frozen).unwrap().count(), 0);
}
