//! What an engine tells is the same on both sides of the wire.

use std::collections::BTreeMap;
use std::fmt::Debug;

use engine_core::container_spec::NetworkMode;
use engine_core::engine::{
    ImagePruneOptions, LoadEvent, LoadOptions, LoadSource, PruneOptions, PullEvent, PullOptions,
    RemoveOptions, SaveOptions,
};
use engine_core::secret::{SecretData, SecretOptions};
use engine_core::volume_driver::VolumeOptions;
use engine_core::{Container, ContainerSpec, ContainerStatus, ErrorKind, RestartPolicy};
use futures_util::StreamExt as _;

use super::{IMAGE, Pair, publish};

#[track_caller]
fn same<T: Debug>(near: T, far: T) {
    assert_eq!(format!("{near:?}"), format!("{far:?}"));
}

#[tokio::test]
async fn a_container_lives_and_goes() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    let mut spec = ContainerSpec::command(["sh", "-c", "sleep 1000"]).with_name("web".parse().unwrap());
    spec.labels.insert("tier".to_owned(), "front".to_owned());
    spec.network = NetworkMode::None;
    let container = far.create(IMAGE, spec).await.unwrap();
    let twin = near.container("web").await.unwrap();
    assert_eq!(container.id(), twin.id());
    let both = async |container: &Container, twin: &Container| {
        same(twin.inspect().await.unwrap(), container.inspect().await.unwrap());
    };
    both(&container, &twin).await;
    container.start().await.unwrap();
    assert_eq!(twin.inspect().await.unwrap().state.status, ContainerStatus::Running);
    both(&container, &twin).await;
    container.pause().await.unwrap();
    assert_eq!(twin.inspect().await.unwrap().state.status, ContainerStatus::Paused);
    container.resume().await.unwrap();
    container.rename(&"site".parse().unwrap()).await.unwrap();
    container.update_restart_policy(RestartPolicy::OnFailure { max_retries: 2 }).await.unwrap();
    same(near.containers().await.unwrap(), far.containers().await.unwrap());
    same(
        near.container_image(container.id()).await.unwrap(),
        far.container_image(container.id()).await.unwrap(),
    );
    let waiting = tokio::spawn({
        let container = container.clone();
        async move { container.wait().await }
    });
    container.kill(9).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().code, 137);
    both(&container, &twin).await;
    let usage = (near.disk_usage().await.unwrap(), far.disk_usage().await.unwrap());
    same(usage.0, usage.1);
    let pruned = far.prune_containers(&PruneOptions::default()).await.unwrap();
    assert_eq!(pruned.removed, [container.id().clone()]);
    assert_eq!(twin.inspect().await.unwrap_err().kind(), ErrorKind::NotFound);
    container.remove(RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn images_come_and_go() {
    let Pair { near, far, registry, server: _server, .. } = Pair::new().await;
    publish(&registry, "b", "registry.example/other:2");
    let mut pull = far.pull(&"registry.example/other:2".parse().unwrap(), PullOptions::default());
    let mut events = Vec::new();
    while let Some(event) = pull.next().await {
        events.push(event);
    }
    let image = pull.await.unwrap();
    assert!(matches!(events.last(), Some(PullEvent::Done { unchanged: false, .. })), "{events:?}");
    same(near.image("registry.example/other:2").await.unwrap(), image);
    far.tag(IMAGE, &"registry.example/app:two".parse().unwrap()).await.unwrap();
    same(near.images().await.unwrap(), far.images().await.unwrap());
    same(near.image_usage().await.unwrap(), far.image_usage().await.unwrap());
    let history = far.image_history(IMAGE, &engine_core::Platform::host()).await;
    same(near.image_history(IMAGE, &engine_core::Platform::host()).await.unwrap(), history.unwrap());
    same(near.image_platforms(IMAGE).await.unwrap(), far.image_platforms(IMAGE).await.unwrap());

    // An archive is the same bytes, wherever it is made, and loads from here.
    let dir = tempfile::tempdir().unwrap();
    let save = async |engine: &engine_core::Engine, name: &str| {
        let path = dir.path().join(name);
        let file = tokio::fs::File::create(&path).await.unwrap();
        engine.save(&[IMAGE], file, SaveOptions::default()).await.unwrap();
        path
    };
    let archive = save(&far, "far.tar").await;
    assert!(std::fs::read(&archive).unwrap() == std::fs::read(save(&near, "near.tar").await).unwrap());
    far.remove_image(IMAGE, true).await.unwrap();
    far.remove_image("registry.example/app:two", true).await.unwrap();
    let mut load = far.load(archive.as_path(), LoadOptions::default());
    let mut loaded = false;
    while let Some(event) = load.next().await {
        loaded |= matches!(event, LoadEvent::Loaded(_));
    }
    assert!(loaded);
    assert_eq!(load.await.unwrap()[0].names[0].to_string(), IMAGE);
    // One that breaks off here is no shorter archive there.
    let broken = futures_util::stream::iter([
        Ok(std::fs::read(&archive).unwrap()[..600].to_vec().into()),
        Err(engine_core::Error::new(ErrorKind::Corrupt, "read mine").with_message("it tore")),
    ]);
    let error = far.load(LoadSource::stream(broken), LoadOptions::default()).await.unwrap_err();
    assert_eq!(error.report(), "load image \"-\": read mine: it tore");
    far.remove_image("registry.example/other:2", false).await.unwrap();
    let pruned = far.prune_images(&ImagePruneOptions::default().with_all(true)).await.unwrap();
    assert_eq!(pruned.untagged.len(), 1, "{pruned:?}");
    assert!(near.images().await.unwrap().is_empty());
}

#[tokio::test]
async fn volumes_networks_and_secrets_are_kept() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    let name = |text: &str| text.parse().unwrap();
    let mut options = VolumeOptions::default();
    options.labels.insert("a".to_owned(), "b".to_owned());
    let made = far.create_volume(&name("data"), &options).await.unwrap();
    same(near.volume(&name("data")).await.unwrap(), made);
    same(near.volumes().await.unwrap(), far.volumes().await.unwrap());
    assert_eq!(far.rename_volume(&name("data"), &name("old")).await.unwrap().name, name("old"));
    assert_eq!(far.volume_users().await.unwrap(), BTreeMap::new());

    far.create_network(&name("lan"), &engine_core::network::NetworkOptions::default()).await.unwrap();
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    spec.network = NetworkMode::Networks(vec![(name("lan"), Default::default())]);
    let container = far.create(IMAGE, spec).await.unwrap();
    {
        container.start().await.unwrap();
        let network = far.network("lan").await.unwrap();
        assert_eq!(network.endpoints.len(), 1);
        same(near.network("lan").await.unwrap(), network);
        same(
            near.container(container.id().as_str()).await.unwrap().inspect().await.unwrap(),
            container.inspect().await.unwrap(),
        );
        container.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    }
    same(near.networks().await.unwrap(), far.networks().await.unwrap());
    for name in ["none", "host", "lan"] {
        assert_eq!(
            near.is_predefined(&name.parse().unwrap()),
            far.is_predefined(&name.parse().unwrap()),
            "{name}"
        );
    }
    assert_eq!(near.default_network(), far.default_network());
    far.remove_network("lan").await.unwrap();

    let content = SecretData::new(vec![0, 255, 10, 7]);
    let secret = far.create_secret(&name("key"), content.clone(), SecretOptions::default()).await.unwrap();
    assert_eq!(far.reveal_secret(&secret.id).await.unwrap(), content);
    same(near.secrets().await.unwrap(), far.secrets().await.unwrap());
    far.remove_secret(&secret.id).await.unwrap();
    same(near.info().await.unwrap(), far.info().await.unwrap());
    same(near.diagnose().await.unwrap(), far.diagnose().await.unwrap());
}

#[tokio::test]
async fn what_removes_itself_has_told_how_it_ended() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    for code in [0, 5] {
        let spec = ContainerSpec::command(["sh", "-c", &format!("exit {code}")]).with_auto_remove(true);
        let container = far.create(IMAGE, spec).await.unwrap();
        container.start().await.unwrap();
        // Somebody else looks first.
        while !near.containers().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(container.wait().await.unwrap().code, code);
    }
}

#[tokio::test]
async fn a_scoped_container_goes_with_its_client() {
    let Pair { near, far, server, .. } = Pair::new().await;
    let gone = async || {
        let gone = async {
            while !near.containers().await.unwrap().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, gone).await.expect("it goes");
    };
    let spec = || ContainerSpec::command(["sleep", "1000"]);
    let scoped = far.create_scoped(IMAGE, spec()).await.unwrap();
    scoped.start().await.unwrap();
    assert!(scoped.inspect().await.unwrap().scoped);
    scoped.close().await.unwrap();
    assert!(near.containers().await.unwrap().is_empty());
    let scoped = far.create_scoped(IMAGE, spec()).await.unwrap();
    scoped.start().await.unwrap();
    drop(scoped);
    gone().await;
    // The client's program dies: nothing says goodbye.
    let client = tokio::task::spawn_blocking({
        let host = server.docker_host();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let scoped = runtime.block_on(async {
                let scoped = super::connect(&host).await.create_scoped(IMAGE, spec()).await.unwrap();
                scoped.start().await.unwrap();
                scoped
            });
            runtime.shutdown_background();
            std::mem::forget(scoped);
        }
    });
    client.await.unwrap();
    gone().await;
}

#[tokio::test]
async fn directories_and_artifacts_lie_here() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let options = || {
        let mut options = SaveOptions::default();
        options.format = engine_core::engine::ArchiveFormat::Oci;
        options
    };
    near.save_layout(&[IMAGE], path("near"), options()).await.unwrap();
    far.save_layout(&[IMAGE], path("far"), options()).await.unwrap();
    let diff =
        std::process::Command::new("diff").arg("-r").args([path("near"), path("far")]).output().unwrap();
    assert!(diff.status.success(), "{diff:?}");
    for wrong in [&[IMAGE][..], &["nobody"]] {
        let near = near.save_layout(wrong, path("far"), options()).await.unwrap_err();
        let far = far.save_layout(wrong, path("far"), options()).await.unwrap_err();
        assert_eq!(near.report(), far.report());
    }
    assert!(path("far").join("index.json").exists());
    far.remove_image(IMAGE, true).await.unwrap();
    let loaded = far.load(path("far").as_path(), LoadOptions::default()).await.unwrap();
    assert_eq!(loaded[0].names[0].to_string(), IMAGE);

    let files: Vec<_> = [("one.txt", 5), ("empty", 0), ("two.bin", 300_000)]
        .into_iter()
        .map(|(name, size)| {
            std::fs::write(path(name), vec![b'a'; size]).unwrap();
            engine_core::engine::ArtifactFile::new(path(name)).with_media_type("text/x-test")
        })
        .collect();
    let options = engine_core::engine::ArtifactOptions::default().with_artifact_type("application/x-test");
    let made =
        far.create_artifact(&"registry.example/bits:1".parse().unwrap(), &files, &options).await.unwrap();
    same(
        near.create_artifact(&"registry.example/bits:2".parse().unwrap(), &files, &options).await.unwrap(),
        made,
    );
    let mut sizes = Vec::new();
    for file in far.artifact_files("registry.example/bits:1").await.unwrap() {
        let pieces: Vec<_> = file.content.collect().await;
        sizes
            .push((file.title.unwrap(), pieces.into_iter().map(|piece| piece.unwrap().len()).sum::<usize>()));
    }
    assert_eq!(sizes, [("one.txt".to_owned(), 5), ("empty".to_owned(), 0), ("two.bin".to_owned(), 300_000)]);
    let missing = [engine_core::engine::ArtifactFile::new(path("missing"))];
    let name = "registry.example/bits:3".parse().unwrap();
    let errors = (
        near.create_artifact(&name, &missing, &options).await.unwrap_err(),
        far.create_artifact(&name, &missing, &options).await.unwrap_err(),
    );
    assert_eq!(errors.0.report(), errors.1.report());
}
