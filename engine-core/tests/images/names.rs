//! Names: what loses its last one, what a removal and a prune take, what the disk says.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine_core::engine::{ImagePruneOptions, ImportOptions, PullOptions, RemoveOptions};
use engine_core::image_changes;
use engine_core::image_config::ProcessDefaults;
use engine_core::testing::content::{SampleImage, SampleLayer, tar};
use engine_core::{ContainerSpec, ErrorKind, Platform};
use engine_testkit::require;

use crate::support::{World, reference};

/// Returns the names as people see them, `<none>` for dangling.
async fn names(world: &World) -> Vec<String> {
    let list = world.engine.images().await.unwrap();
    let shown = |image: &engine_core::engine::ImageSummary| match image.dangling {
        true => "<none>".to_owned(),
        false => image.reference.familiar(),
    };
    list.iter().map(shown).collect()
}

#[tokio::test]
async fn an_image_that_loses_its_name_to_another_is_dangling_until_pruned() {
    require!(root);
    let world = World::new().await;
    let old = world.import("localhost/a:1", "old").await;
    assert_eq!(world.import("localhost/a:1", "old").await, old, "the same image again changes nothing");
    assert_eq!(names(&world).await, ["localhost/a:1"]);
    let new = world.import("localhost/a:1", "new").await;
    assert_eq!(names(&world).await, ["<none>", "localhost/a:1"]);
    let found = world.engine.image(&old).await.unwrap();
    assert!(found.names.is_empty() && found.id().to_string() == old);
    // A name ends it, and losing that begins it again.
    world.engine.tag(&old, &reference("localhost/b:1")).await.unwrap();
    assert_eq!(names(&world).await, ["localhost/a:1", "localhost/b:1"]);
    world.engine.tag(&new, &reference("localhost/b:1")).await.unwrap();
    assert_eq!(names(&world).await, ["<none>", "localhost/a:1", "localhost/b:1"]);
    let pruned = world.engine.prune_images(&ImagePruneOptions::default()).await.unwrap();
    assert!(pruned.bytes > 0 && pruned.untagged.is_empty() && !pruned.deleted.is_empty(), "{pruned:?}");
    assert_eq!(names(&world).await, ["localhost/a:1", "localhost/b:1"]);
    assert_eq!(world.engine.image(&old).await.unwrap_err().kind(), ErrorKind::NotFound);
    let again = world.engine.prune_images(&ImagePruneOptions::default()).await.unwrap();
    assert_eq!(again.bytes, 0, "a prune is idempotent");
    let error = world.engine.tag(&new, &reference("dangling.invalid/image:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn prune_all_spares_what_containers_use_and_obeys_filters() {
    require!(root);
    let world = World::new().await;
    for (name, label, year) in [("one", "a", 2020_u64), ("two", "b", 2024)] {
        let mut config = ProcessDefaults::default();
        image_changes::apply(&mut config, &[format!("LABEL kind={label}"), "CMD true".to_owned()]).unwrap();
        let mut options = ImportOptions::default().with_config(config);
        options.created = Some(SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 365 * 24 * 3600));
        let archive = Bytes::from(tar(&[(name, b"x")]));
        world.engine.import(&reference(&format!("localhost/{name}:1")), archive, options).await.unwrap();
    }
    let all = || ImagePruneOptions::default().with_all(true);
    let (mut old, mut kind, mut not_kind) = (all(), all(), all());
    old.until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(45 * 365 * 24 * 3600));
    kind.labels.insert("kind".to_owned(), Some("c".to_owned()));
    not_kind.without_labels.insert("kind".to_owned(), None);
    for nothing in [&old, &kind, &not_kind, &ImagePruneOptions::default()] {
        let pruned = world.engine.prune_images(nothing).await.unwrap();
        assert!(pruned.untagged.is_empty(), "{nothing:?}: {pruned:?}");
    }
    let container = world.engine.create("localhost/two:1", ContainerSpec::default()).await.unwrap();
    kind.labels.insert("kind".to_owned(), Some("a".to_owned()));
    let pruned = world.engine.prune_images(&kind).await.unwrap();
    assert_eq!(pruned.untagged, [reference("localhost/one:1")]);
    assert!(world.engine.prune_images(&all()).await.unwrap().untagged.is_empty(), "a container uses it");
    container.remove(RemoveOptions::default()).await.unwrap();
    assert_eq!(world.engine.prune_images(&all()).await.unwrap().untagged, [reference("localhost/two:1")]);
    world.assert_empty("all is pruned").await;
}

#[tokio::test]
async fn a_removal_untags_or_deletes_as_docker_does() {
    require!(root);
    let world = World::new().await;
    let id = world.import("localhost/a:1", "x").await;
    let digest = world.engine.image(&id).await.unwrap().target.digest;
    for name in ["localhost/a:2", "localhost/b:1"] {
        world.engine.tag(&id, &reference(name)).await.unwrap();
    }
    let error = world.engine.remove_image(&id, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    // One name of several: the content stays.
    let removed = world.engine.remove_image("localhost/b:1", false).await.unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    // A repository's names by digest.
    let removed = world.engine.remove_image(&format!("localhost/a@{digest}"), false).await.unwrap();
    assert_eq!(removed.untagged.len(), 2);
    assert!(removed.deleted.contains(&digest));
    world.assert_empty("the last name is gone").await;
    assert_eq!(world.engine.remove_image(&id, true).await.unwrap_err().kind(), ErrorKind::NotFound);

    let id = world.import("localhost/a:1", "x").await;
    let spec = ContainerSpec::command(["sleep", "1000"]);
    let container = world.engine.create("localhost/a:1", spec).await.unwrap();
    container.start().await.unwrap();
    for name in [&id[..], &id[7..19], "localhost/a:1"] {
        let error = world.engine.remove_image(name, false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{name}");
    }
    let error = world.engine.remove_image(&id, true).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.report().contains("running"), "{error:?}");
    // By name and with force, a running container's image loses its name and no more.
    let removed = world.engine.remove_image("localhost/a:1", true).await.unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert_eq!(names(&world).await, ["<none>"]);
    container.kill(9).await.unwrap();
    container.wait().await.unwrap();
    let removed = world.engine.remove_image(&id[7..19], true).await.unwrap();
    assert!(removed.deleted.is_empty(), "the container keeps its files: {removed:?}");
    assert!(names(&world).await.is_empty());
    let kept = world.engine.container_image(container.id()).await.unwrap();
    assert_eq!(kept.id().to_string(), id, "no name leads to it, but the container does");
    container.remove(RemoveOptions::default()).await.unwrap();
    let gone = world.engine.container_image(container.id()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    world.engine.collect_garbage().await.unwrap();
    world.assert_empty("nothing needs it").await;
}

#[tokio::test]
async fn usage_tells_shared_from_unique() {
    require!(root);
    let world = World::new().await;
    let base = SampleLayer::plain(&tar(&[("base", &[1; 4000])]));
    let of = |seed: &str| {
        SampleImage::of(vec![base.clone(), SampleLayer::plain(&tar(&[("top", seed.as_bytes())]))])
    };
    for (name, seed) in [("registry.example/a:1", "a"), ("registry.example/b:1", "bb")] {
        let name = world.publish(&of(seed), name);
        world.engine.pull(&name, PullOptions::default()).await.unwrap();
    }
    let usage = world.engine.image_usage().await.unwrap();
    let shared = base.descriptor.size + 4000;
    assert_eq!(usage.images.len(), 2);
    for image in &usage.images {
        assert_eq!((image.shared, image.size - image.unique, image.containers), (shared, shared, 0));
        assert!(image.unique > 0 && image.names.len() == 1 && image.id.is_some());
    }
    let unique: u64 = usage.images.iter().map(|image| image.unique).sum();
    assert_eq!((usage.total, usage.reclaimable), (shared + unique, shared + unique));
    let container =
        world.engine.create("registry.example/a:1", ContainerSpec::command(["true"])).await.unwrap();
    let usage = world.engine.image_usage().await.unwrap();
    let other = usage.images.iter().find(|image| image.containers == 0).unwrap();
    assert_eq!(usage.reclaimable, other.unique, "what only the other image needs");
    container.remove(RemoveOptions::default()).await.unwrap();
}

#[tokio::test]
async fn history_pairs_steps_with_layers() {
    require!(root);
    let world = World::new().await;
    let image = SampleImage::new("h");
    let name = world.publish(&image, "registry.example/h:1");
    world.engine.pull(&name, PullOptions::default()).await.unwrap();
    let history = world.engine.image_history(&name.to_string(), &Platform::host()).await.unwrap();
    // This configuration has no history: each layer is a step, the newest first.
    let layers: Vec<_> = history.iter().map(|entry| entry.layer.clone().unwrap()).collect();
    assert_eq!(layers, image.diff_ids().into_iter().rev().collect::<Vec<_>>());
    assert_eq!(history[0].names, [name]);
    assert!(history[0].id.is_some() && history[1].id.is_none());
    let error = world.engine.image_history("nosuch", &Platform::host()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_import_without_a_name_is_found_by_its_id() {
    require!(root);
    let world = World::new().await;
    let archive = Bytes::from(tar(&[("file", b"x")]));
    let pieces = Box::pin(futures_util::stream::iter([Ok(archive)]));
    let image = world.engine.import_stream(None, pieces, ImportOptions::default()).await.unwrap();
    assert_eq!(names(&world).await, ["<none>"]);
    assert_eq!(world.engine.image(&image.id().to_string()).await.unwrap().target, image.target);
}
