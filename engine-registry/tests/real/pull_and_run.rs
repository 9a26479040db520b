//! The main job against a real registry: pull an image, run it, look at what it says.

use std::fs;

use engine_core::container_spec::NetworkMode;
use engine_core::engine::{LayerProgress, PullEvent, PullOptions, PushOptions, RemoveOptions};
use engine_core::logs::LogQuery;
use engine_core::{ContainerSpec, Engine, ErrorKind, Reference};
use engine_testkit::{LeakCheck, Registry, RegistryMode, image, require};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;

use crate::client_of;

/// An engine on directories of its own, and the check that nothing of it stays.
struct Bench {
    engine: Engine,
    leaks: LeakCheck,
    dir: TempDir,
}

impl Bench {
    async fn new(registry: &Registry, mode: RegistryMode) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-pull-").tempdir().unwrap();
        let (root, run_root) = (dir.path().join("root"), dir.path().join("run"));
        let leaks = LeakCheck::begin(&root, &run_root);
        let engine = Engine::builder(&root)
            .run_root(&run_root)
            .registry(client_of(registry, mode))
            .open()
            .await
            .unwrap();
        Self { engine, leaks, dir }
    }

    async fn finish(self) {
        drop(self.engine);
        self.leaks.finish_async().await;
        drop(self.dir);
    }

    /// Runs a command to its end and returns its exit code and output.
    async fn run(&self, image: &Reference, command: &[&str]) -> (u8, String) {
        let spec = ContainerSpec::command(command.iter().copied()).with_network(NetworkMode::None);
        let container = self.engine.create(&image.to_string(), spec).await.unwrap();
        let status = container.run().await.unwrap();
        let entries: Vec<_> =
            container.logs(&LogQuery::default()).await.unwrap().try_collect().await.unwrap();
        let text: Vec<u8> = entries.iter().flat_map(|entry| entry.message.to_vec()).collect();
        container.remove(RemoveOptions::default()).await.unwrap();
        (status.code, String::from_utf8(text).unwrap())
    }
}

/// A repository, and what makes the image in it.
type Published = (&'static str, fn() -> image::Image);

/// Starts a registry with these images in it, off the test's own thread.
async fn registry_with(mode: RegistryMode, images: Vec<Published>) -> (Registry, Vec<Reference>) {
    tokio::task::spawn_blocking(move || {
        let registry = Registry::start(mode);
        let references =
            images.iter().map(|(name, make)| registry.push(&make(), name, "1").parse().unwrap()).collect();
        (registry, references)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_every_kind_are_pulled_and_run() {
    require!(root, overlayfs, "docker-registry", "zstd");
    let mode = RegistryMode::Plain;
    let (registry, images) = registry_with(
        mode,
        vec![
            ("library/plain", image::busybox),
            ("layers/forty", || image::busybox_layers(40)),
            ("compressed/zstd", image::busybox_zstd),
            ("many/platforms", image::busybox_multi_platform),
            ("docker/schema2", image::busybox_docker),
        ],
    )
    .await;
    let bench = Bench::new(&registry, mode).await;
    for reference in &images {
        bench.engine.pull(reference, PullOptions::default()).await.unwrap();
        assert_eq!(
            bench.run(reference, &["/bin/sh", "-c", "echo hello; exit 7"]).await,
            (7, "hello\n".to_owned()),
            "{reference}"
        );
    }
    let listed = bench.engine.images().await.unwrap();
    assert_eq!(listed.len(), images.len());
    for reference in &images {
        bench.engine.remove_image(&reference.to_string(), false).await.unwrap();
    }
    assert!(bench.engine.images().await.unwrap().is_empty());
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debian_is_pulled_with_a_password_over_tls_and_run() {
    require!(root, overlayfs, "docker-registry", "debootstrap", "htpasswd");
    let mode = RegistryMode::TlsPassword;
    let (registry, images) = registry_with(mode, vec![("os/debian", image::debian)]).await;
    let bench = Bench::new(&registry, mode).await;
    let image = bench.engine.pull(&images[0], PullOptions::default()).await.unwrap();
    assert_eq!(image.names, images);
    let (code, output) =
        bench.run(&images[0], &["sh", "-c", ". /etc/os-release; echo $ID; id -un; dpkg -l | wc -l"]).await;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((code, lines[0], lines[1]), (0, "debian", "root"), "{output}");
    assert!(lines[2].parse::<u32>().unwrap() > 50, "{output}");
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_transfers_nothing_and_a_push_makes_the_same_image() {
    require!(root, overlayfs, "docker-registry");
    let mode = RegistryMode::Plain;
    let (registry, images) = registry_with(mode, vec![("library/plain", || image::busybox_layers(3))]).await;
    let bench = Bench::new(&registry, mode).await;
    let first = bench.engine.pull(&images[0], PullOptions::default()).await.unwrap();
    let mut again = bench.engine.pull(&images[0], PullOptions::default());
    let mut exists = 0;
    while let Some(event) = again.next().await {
        match event {
            PullEvent::Layer { progress: LayerProgress::Transferring { .. }, layer } => {
                panic!("{layer:?} came again")
            }
            PullEvent::Layer { progress: LayerProgress::Exists, .. } => exists += 1,
            PullEvent::Done { unchanged, .. } => assert!(unchanged),
            _ => {}
        }
    }
    again.await.unwrap();
    assert_eq!(exists, first.contents.layers.len());

    let copy: Reference = format!("{}/copy/of:2", registry.host()).parse().unwrap();
    bench.engine.tag(&images[0].to_string(), &copy).await.unwrap();
    let pushed = bench.engine.push(&copy, PushOptions::default()).await.unwrap();
    assert_eq!(pushed.digest, first.target.digest);
    bench.engine.remove_image(&images[0].to_string(), false).await.unwrap();
    bench.engine.remove_image(&copy.to_string(), false).await.unwrap();
    let back = bench.engine.pull(&copy, PullOptions::default()).await.unwrap();
    assert_eq!(
        (back.target.digest, back.config.rootfs.diff_ids),
        (first.target.digest, first.config.rootfs.diff_ids)
    );
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_one_wrong_bit_in_a_blob_is_told_and_leaves_nothing() {
    require!(root, overlayfs, "docker-registry");
    let mode = RegistryMode::Plain;
    let (registry, images) = registry_with(mode, vec![("library/plain", image::busybox)]).await;
    let layer = image::busybox().blobs().iter().max_by_key(|blob| blob.data.len()).unwrap().digest.clone();
    let hex = layer.strip_prefix("sha256:").unwrap();
    let path = registry.storage().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let bench = Bench::new(&registry, mode).await;
    let error = bench.engine.pull(&images[0], PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.report().contains(&images[0].to_string()), "{error:?}");
    bench.engine.collect_garbage().await.unwrap();
    assert!(bench.engine.images().await.unwrap().is_empty());

    // The same engine, the content repaired: as if nothing had been.
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    bench.engine.pull(&images[0], PullOptions::default()).await.unwrap();
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pulled_says_why() {
    require!(root, overlayfs, "docker-registry", "htpasswd");
    let mode = RegistryMode::Password;
    let (registry, images) = registry_with(mode, vec![("library/plain", image::busybox)]).await;
    let bench = Bench::new(&registry, mode).await;
    let missing = images[0].with_tag("nosuch").unwrap();
    let error = bench.engine.pull(&missing, PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let other = PullOptions::default().with_platform("linux/s390x".parse().unwrap());
    // A single manifest has no platform to choose from; the container would not run, but the pull is right.
    assert!(bench.engine.pull(&images[0], other).await.is_ok());

    let stranger = Engine::builder(bench.dir.path().join("root"))
        .run_root(bench.dir.path().join("run"))
        .registry(client_of(&registry, RegistryMode::Plain))
        .open()
        .await
        .unwrap();
    let error = stranger.pull(&images[0], PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("log in")), "{error:?}");

    let nobody: Reference = format!("127.0.0.1:{}/a/b:c", engine_testkit::free_port()).parse().unwrap();
    let error = stranger.pull(&nobody, PullOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.is_retryable());
    drop(stranger);
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_leaves_nothing_that_stays() {
    require!(root, overlayfs, "docker-registry");
    let mode = RegistryMode::Plain;
    let (registry, images) = registry_with(mode, vec![("layers/many", || image::busybox_layers(12))]).await;
    let bench = Bench::new(&registry, mode).await;
    for events in 1..12 {
        let mut pull = bench.engine.pull(&images[0], PullOptions::default());
        for _ in 0..events * 2 {
            pull.next().await;
        }
        drop(pull);
    }
    bench.engine.collect_garbage().await.unwrap();
    bench.engine.pull(&images[0], PullOptions::default()).await.unwrap();
    assert_eq!(bench.run(&images[0], &["/bin/true"]).await.0, 0);
    bench.finish().await;
}
