//! The engine of Linux over the wire: files, changes and archives.

use engine_core::ContainerSpec;
use engine_core::engine::{CommitOptions, ImportOptions};
use engine_core::files::UnpackFiles;
use engine_core::io::AttachOptions;
use engine_testkit::require;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let far = super::connect(&host.server.docker_host()).await;
    let script = "mkdir /a; echo hello > /a/b; touch /a/$(printf 'x\\377y'); sleep 1000";
    let container = far.create("busybox", ContainerSpec::command(["sh", "-c", script])).await.unwrap();
    container.start().await.unwrap();
    let twin = host.engine.container(container.id().as_str()).await.unwrap();
    while twin.changes().await.unwrap().len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // A name that is no text is among them.
    assert_eq!(container.changes().await.unwrap(), twin.changes().await.unwrap());
    assert_eq!(container.stat_path("/a/b").await.unwrap(), twin.stat_path("/a/b").await.unwrap());
    let (stat, archive) = container.copy_out("/a/b").await.unwrap();
    assert_eq!((stat.name.as_str(), stat.size), ("b", 6));
    let archive: Vec<bytes::Bytes> = archive.try_collect().await.unwrap();
    let archive = futures_util::stream::iter(archive.into_iter().map(Ok)).boxed();
    container.copy_in("/tmp", archive, &UnpackFiles::default()).await.unwrap();
    let exec = engine_core::ExecSpec::new(["cat", "/tmp/b"]);
    let mut process = container.exec(&exec, AttachOptions::piped(false)).await.unwrap();
    let mut text = String::new();
    process.streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello\n");
    assert!(!container.processes().await.unwrap().is_empty());
    let stats = container.stats_stream(std::time::Duration::from_millis(20)).await.unwrap();
    assert_eq!(stats.take(2).try_collect::<Vec<_>>().await.unwrap().len(), 2);

    let mut commit = CommitOptions::default();
    commit.name = Some("kept:1".parse().unwrap());
    container.commit(&commit).await.unwrap();
    let whole = container.export().await.unwrap();
    let flat = "flat:1".parse().unwrap();
    far.import_stream(Some(&flat), whole, ImportOptions::default()).await.unwrap();
    assert_eq!(far.images().await.unwrap().len(), 3);
    container.stop(Some(std::time::Duration::ZERO)).await.unwrap();
    drop((far, twin, container, process));
    host.finish().await;
}
