//! Archives in and out: everything keeps its digest, whoever wrote the archive; another tool's second opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine_core::engine::{
    ArchiveFormat, ArtifactFile, ArtifactOptions, CopyImageOptions, LayerProgress, LoadEvent, LoadOptions,
    LoadSource, LoadedImage, PullOptions, PushEvent, PushOptions, SaveOptions,
};
use engine_core::linux::image_store::LocalImageStoreOptions;
use engine_core::registry_client::PushOutcome;
use engine_core::testing::content::{SampleImage, SampleLayer, tar};
use engine_core::{ContainerSpec, Engine, ErrorKind, Platform, RegistryClient as _, Result};
use engine_testkit::image::{self, Compression, Format, ImageBuilder, LayerBuilder};
use engine_testkit::{command, require};
use futures_util::{StreamExt as _, stream};

use crate::support::{World, reference};

/// Returns the blobs of a store with their content.
fn blobs(world: &World) -> BTreeMap<String, Vec<u8>> {
    let dir = world.dir.path().join("root/images/blobs/sha256");
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

async fn load(engine: &Engine, path: &Path) -> Result<Vec<LoadedImage>> {
    engine.load(path, LoadOptions::default()).await
}

async fn save(engine: &Engine, names: &[&str], path: &Path, options: SaveOptions) {
    let file = tokio::fs::File::create(path).await.unwrap();
    engine.save(names, file, options).await.unwrap();
}

#[tokio::test]
async fn what_is_saved_is_loaded_with_every_byte() {
    require!(root, "busybox", "zstd");
    let images = [
        ("plain", ImageBuilder::new().layer(image::busybox_layer()).compression(Compression::None).build()),
        ("gzip", image::busybox()),
        ("zstd", image::busybox_zstd()),
        ("docker", image::busybox_docker()),
        ("layers", image::busybox_layers(12)),
        ("platforms", image::busybox_multi_platform()),
    ];
    let from = World::new().await;
    let mut names = Vec::new();
    for (name, image) in &images {
        let layout = from.path(name);
        image.write_layout(&layout, &format!("registry.example/{name}:1"));
        let loaded = load(&from.engine, &layout).await.unwrap();
        assert_eq!(loaded.len(), 1, "{name}");
        assert_eq!(loaded[0].target.digest.to_string(), image.digest(), "{name}");
        names.push(format!("registry.example/{name}:1"));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let docker = from.path("docker.tar");
    save(&from.engine, &names, &docker, SaveOptions::default()).await;
    let oci = from.path("oci.tar");
    save(&from.engine, &names, &oci, SaveOptions::default().with_format(ArchiveFormat::Oci)).await;
    let layout = from.path("layout");
    from.engine.save_layout(&names, &layout, SaveOptions::default()).await.unwrap();
    let again = from.path("again.tar");
    save(&from.engine, &names, &again, SaveOptions::default()).await;
    assert!(std::fs::read(&docker).unwrap() == std::fs::read(&again).unwrap(), "the same bytes each time");
    for (compress, name) in [("gzip", "docker.tar.gz"), ("zstd", "docker.tar.zst")] {
        let out = command(compress, ["-qkf".as_ref(), docker.as_os_str()]);
        assert!(out.is_empty() && from.path(name).exists());
    }
    let listed = from.engine.images().await.unwrap();
    for archive in [&docker, &oci, &layout, &from.path("docker.tar.gz"), &from.path("docker.tar.zst")] {
        let to = World::new().await;
        let loaded = load(&to.engine, archive).await.unwrap();
        assert_eq!(loaded.len(), images.len(), "{archive:?}");
        assert!(blobs(&to) == blobs(&from), "{archive:?}");
        let names = |list: &[engine_core::engine::ImageSummary]| {
            list.iter()
                .map(|i| (i.reference.clone(), i.target.digest.clone(), i.id.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&to.engine.images().await.unwrap()), names(&listed), "{archive:?}");
        // What is for this host is unpacked, and what is not is when somebody wants it.
        to.engine.create("registry.example/layers:1", ContainerSpec::default()).await.unwrap();
        let mut other = ContainerSpec::default();
        other.platform = Some("linux/s390x".parse().unwrap());
        to.engine.create("registry.example/platforms:1", other).await.unwrap();
    }
    // From a pipe, in odd pieces.
    let to = World::new().await;
    let bytes = std::fs::read(from.path("docker.tar.gz")).unwrap();
    let pieces: Vec<_> = bytes.chunks(4001).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    let source = LoadSource::stream(stream::iter(pieces));
    to.engine.load(source, LoadOptions::default()).await.unwrap();
    assert!(blobs(&to) == blobs(&from));
    // And a second time, which changes nothing.
    load(&to.engine, &docker).await.unwrap();
    assert!(blobs(&to) == blobs(&from));
    assert_eq!(to.engine.images().await.unwrap().len(), images.len());
}

#[tokio::test]
async fn one_platform_is_removed_alone() {
    require!(root, "busybox");
    let world = World::new().await;
    let image = image::busybox_multi_platform();
    let name = "registry.example/multi:1";
    let layout = world.path("layout");
    image.write_layout(&layout, name);
    load(&world.engine, &layout).await.unwrap();
    let other: engine_core::Reference = "registry.example/multi:2".parse().unwrap();
    world.engine.tag(name, &other).await.unwrap();
    let (whole, here) = (blobs(&world), world.engine.image_platforms(name).await.unwrap());
    let s390x: Platform = "linux/s390x".parse().unwrap();
    let removed = world.engine.remove_image_platform(name, &s390x).await.unwrap();
    let doomed = here.iter().find(|known| known.platform == s390x).unwrap();
    assert!(removed.untagged.is_empty() && removed.deleted.contains(&doomed.manifest.digest), "{removed:?}");
    // Both names still lead to the index, which has all of the others and says what is missing.
    for name in [name, "registry.example/multi:2"] {
        let found = world.engine.image_platforms(name).await.unwrap();
        assert_eq!(found.len(), here.len());
        for (known, before) in found.iter().zip(&here) {
            assert_eq!(known.size, before.size.filter(|_| known.platform != s390x), "{}", known.platform);
        }
        assert_eq!(world.engine.image(name).await.unwrap().target.digest.to_string(), image.digest());
    }
    assert_eq!(blobs(&world).len(), whole.len() - removed.deleted.len());
    // Once more, a platform that the index has not, and an image of one platform.
    let single = world.import("registry.example/single:1", "single").await;
    for (name, platform, kind) in [
        (name, "linux/s390x", ErrorKind::NotFound),
        (name, "linux/riscv64", ErrorKind::NotFound),
        ("registry.example/none:1", "linux/s390x", ErrorKind::NotFound),
        (&*single, "linux/amd64", ErrorKind::InvalidArgument),
    ] {
        let error = world.engine.remove_image_platform(name, &platform.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name} {platform}: {}", error.report());
    }
    // One that a container uses stays until that has gone.
    let container = world.engine.create(name, ContainerSpec::command(["sh"])).await.unwrap();
    let host = Platform::host();
    let used = world.engine.remove_image_platform(name, &host).await.unwrap_err();
    assert_eq!(used.kind(), ErrorKind::Conflict, "{}", used.report());
    container.remove(engine_core::engine::RemoveOptions::default()).await.unwrap();
    world.engine.remove_image_platform(name, &host).await.unwrap();
    assert_eq!(world.engine.image(name).await.unwrap_err().kind(), ErrorKind::NotFound);
    let listed = world.engine.images().await.unwrap();
    assert!(listed.iter().any(|known| known.reference == other && known.id.is_none()), "{listed:?}");
    // It comes back as it was.
    world.engine.remove_image(&single, false).await.unwrap();
    load(&world.engine, &layout).await.unwrap();
    assert!(blobs(&world) == whole);
}

#[tokio::test]
async fn one_platform_is_saved_and_loaded_alone() {
    require!(root, "busybox");
    let world = World::new().await;
    let image = image::busybox_multi_platform();
    image.write_layout(&world.path("layout"), "registry.example/multi:1");
    let s390x: Platform = "linux/s390x".parse().unwrap();
    let options = LoadOptions::default().with_platform(s390x.clone());
    let loaded = world.engine.load(world.path("layout"), options).await.unwrap();
    assert_eq!(loaded[0].target.digest.to_string(), image.images[0].digest());
    let found = world.engine.image_platforms("registry.example/multi:1").await.unwrap();
    assert_eq!((found.len(), found[0].platform.clone()), (1, s390x.clone()));
    load(&world.engine, &world.path("layout")).await.unwrap();
    let platforms = world.engine.image_platforms("registry.example/multi:1").await.unwrap();
    assert!(platforms.len() == 5 && platforms.iter().all(|platform| platform.size.is_some()));
    let saved = world.path("one.tar");
    save(&world.engine, &["registry.example/multi:1"], &saved, SaveOptions::default().with_platform(s390x))
        .await;
    let to = World::new().await;
    let loaded = load(&to.engine, &saved).await.unwrap();
    assert_eq!(loaded[0].target.digest.to_string(), image.images[0].digest());
    let riscv: Platform = "linux/riscv64".parse().unwrap();
    let error =
        to.engine.load(&*saved, LoadOptions::default().with_platform(riscv.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let options = SaveOptions::default().with_platform(riscv);
    let error =
        world.engine.save(&["registry.example/multi:1"], tokio::io::sink(), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = world.engine.save(&["nosuch"], tokio::io::sink(), SaveOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = world
        .engine
        .save_layout(&["registry.example/multi:1"], world.dir.path(), SaveOptions::default())
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn docker_archives_without_manifests_get_the_same_one_each_time() {
    require!(root, "busybox");
    let image = ImageBuilder::new()
        .layer(image::busybox_layer())
        .layer(LayerBuilder::new().file("two", 0o644, b"2"))
        .compression(Compression::None)
        .format(Format::Docker)
        .command(&["sh"])
        .build();
    let mut targets = Vec::new();
    for _ in 0..2 {
        let world = World::new().await;
        let path = world.path("saved.tar");
        image.write_docker_archive(&path, &["localhost/saved:1", "localhost/saved:2"]);
        let loaded = load(&world.engine, &path).await.unwrap();
        assert_eq!(loaded[0].names, [reference("localhost/saved:1"), reference("localhost/saved:2")]);
        // The configuration is kept, and it is the image's id.
        assert_eq!(loaded[0].id.as_ref().unwrap().to_string(), image.config.as_ref().unwrap().digest);
        world.engine.create("localhost/saved:2", ContainerSpec::default()).await.unwrap();
        targets.push(loaded[0].target.clone());
    }
    assert_eq!(targets[0], targets[1]);
}

#[tokio::test]
async fn archives_of_skopeo_are_loaded_and_ours_are_read_by_it() {
    require!(root, "busybox", "skopeo");
    let source = image::busybox_layers(3);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    source.write_layout(&dir.path().join("source"), "registry.example/app:1");
    let from = format!("oci:{}:registry.example/app:1", path("source"));
    for (kind, name, suffix) in [
        ("docker-archive", "docker.tar", ":registry.example/app:1"),
        ("oci-archive", "oci.tar", ":registry.example/app:1"),
        ("oci", "layout", ":registry.example/app:1"),
        ("oci-archive", "tagged.tar", ":1"),
    ] {
        command("skopeo", ["copy", "-q", &from, &format!("{kind}:{}{suffix}", path(name))]);
        let world = World::new().await;
        let loaded = load(&world.engine, &dir.path().join(name)).await.unwrap();
        match suffix {
            ":1" => assert!(loaded[0].names.is_empty(), "a tag of nothing is no name"),
            _ => assert_eq!(loaded[0].names, [reference("registry.example/app:1")], "{kind}"),
        }
        let id = loaded[0].id.as_ref().unwrap().to_string();
        assert_eq!(id, source.config.as_ref().unwrap().digest, "{kind}");
        if kind != "docker-archive" {
            assert_eq!(loaded[0].target.digest.to_string(), source.digest(), "{kind}");
        }
        world.engine.create(&id, ContainerSpec::default()).await.unwrap();
    }
    let world = World::new().await;
    load(&world.engine, &dir.path().join("source")).await.unwrap();
    save(&world.engine, &["registry.example/app:1"], &dir.path().join("ours.tar"), SaveOptions::default())
        .await;
    let raw = |what: &str| command("skopeo", ["inspect", "--raw", what]);
    let manifest = String::from_utf8(source.manifest.data.to_vec()).unwrap();
    assert_eq!(raw(&format!("oci-archive:{}", path("ours.tar"))), manifest);
    let seen: serde_json::Value = serde_json::from_str(&command(
        "skopeo",
        ["inspect", &format!("docker-archive:{}:registry.example/app:1", path("ours.tar"))],
    ))
    .unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 3);
    // Its layers are the configuration's, uncompressed on the way: that reader checks their diff IDs.
    let copied = format!("oci:{}:1", path("copied"));
    command(
        "skopeo",
        ["copy", "-q", &format!("docker-archive:{}:registry.example/app:1", path("ours.tar")), &copied],
    );
    world
        .engine
        .save_layout(&["registry.example/app:1"], dir.path().join("ours"), SaveOptions::default())
        .await
        .unwrap();
    assert_eq!(raw(&format!("oci:{}:1", path("ours"))), manifest);
}

#[tokio::test]
async fn a_push_mounts_sends_indexes_whole_and_skips_what_is_foreign() {
    require!(root);
    let world = World::new().await;
    let (amd, arm) = (SampleImage::new("a"), SampleImage::new("b"));
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": engine_core::media_type::OCI_INDEX,
        "manifests": [
            { "mediaType": amd.manifest.media_type, "digest": amd.manifest.digest, "size": amd.manifest.size,
              "platform": { "os": "linux", "architecture": Platform::host().architecture } },
            { "mediaType": arm.manifest.media_type, "digest": arm.manifest.digest, "size": arm.manifest.size,
              "platform": { "os": "linux", "architecture": "s390x" } },
        ],
    });
    let name = world.publish(&amd, "registry.example/one:x");
    world.publish(&arm, "registry.example/one:x");
    let name = name.with_tag("1").unwrap();
    let bytes = index.to_string();
    let target = world.registry.add_manifest(&name, engine_core::media_type::OCI_INDEX, bytes.clone());
    let image = world.engine.pull(&name, PullOptions::default().with_all_platforms(true)).await.unwrap();
    assert_eq!(image.target.digest, target.digest);
    let copy = reference("registry.example/two:1");
    world.engine.tag(&name.to_string(), &copy).await.unwrap();
    let mut push = world.engine.push(&copy, PushOptions::default());
    let mut outcomes = Vec::new();
    while let Some(event) = push.next().await {
        if let PushEvent::Blob { outcome, .. } = event {
            outcomes.push(outcome);
        }
    }
    assert_eq!(push.await.unwrap().digest, target.digest);
    assert!(
        outcomes.len() >= 5 && outcomes.iter().all(|outcome| *outcome == PushOutcome::Mounted),
        "{outcomes:?}"
    );
    let (pushed, content) = world.registry.fetch_manifest(&copy).await.unwrap();
    assert_eq!((pushed.digest, &content[..]), (target.digest, bytes.as_bytes()));
    let three = reference("elsewhere.example/three:1");
    world.engine.tag(&name.to_string(), &three).await.unwrap();
    let options = PushOptions::default().with_platform("linux/s390x".parse().unwrap());
    assert_eq!(world.engine.push(&three, options).await.unwrap().digest, arm.manifest.digest);
    assert_eq!(world.registry.catalog("elsewhere.example").await.unwrap(), ["three"]);

    let layer = SampleLayer::plain(&tar(&[("f", b"foreign")]));
    let mut foreign = layer.clone();
    foreign.descriptor.media_type = engine_core::media_type::OCI_LAYER_NONDISTRIBUTABLE.to_owned();
    let image = SampleImage::of(vec![foreign.clone()]);
    let name = world.publish(&image, "registry.example/foreign:1");
    world.engine.pull(&name, PullOptions::default()).await.unwrap();
    let copy = reference("elsewhere.example/foreign:1");
    world.engine.tag(&name.to_string(), &copy).await.unwrap();
    let events: Vec<PushEvent> = world.engine.push(&copy, PushOptions::default()).collect().await;
    assert!(events.iter().any(|event| matches!(event, PushEvent::Skipped { .. })), "{events:?}");
    let fresh = World::new().await;
    let there = fresh.registry.clone();
    there.add_blob(&copy, &image.config.media_type, image.config_bytes.clone());
    there.add_manifest(&copy, &image.manifest.media_type, image.manifest_bytes.clone());
    let error = fresh.engine.pull(&copy, PullOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.report().contains("foreign"), "{error:?}");
}

#[tokio::test]
async fn artifacts_are_made_attached_pulled_and_listed() {
    require!(root);
    let world = World::new().await;
    let file = world.path("sbom.json");
    std::fs::write(&file, b"{\"packages\":[]}").unwrap();
    let files = || vec![ArtifactFile::new(&file).with_media_type("application/spdx+json")];
    let options = ArtifactOptions::default().with_artifact_type("application/vnd.example.sbom");
    let name = reference("registry.example/sbom:1");
    let made = world.engine.create_artifact(&name, &files(), &options).await.unwrap();
    world.engine.push(&name, PushOptions::default()).await.unwrap();
    let error = world.engine.create(&name.to_string(), ContainerSpec::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    world.engine.remove_image(&name.to_string(), false).await.unwrap();
    world.assert_empty("removed").await;
    // As any image, untouched.
    assert_eq!(world.engine.pull(&name, PullOptions::default()).await.unwrap().target.digest, made.digest);
    let mut content = world.engine.artifact_files(&name.to_string()).await.unwrap();
    assert_eq!(content.len(), 1);
    let one = content.remove(0);
    let pieces: Vec<_> = one.content.map(|piece| piece.unwrap()).collect().await;
    assert_eq!((one.title.as_deref(), pieces.concat()), (Some("sbom.json"), std::fs::read(&file).unwrap()));

    let subject = world.publish(&SampleImage::new("s"), "registry.example/app:1");
    let attached = world.engine.attach_artifact(&subject, files(), options.clone()).await.unwrap();
    let found = world.engine.referrers(&subject, None).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].digest, attached.digest);
    assert_eq!(found[0].artifact_type.as_deref(), Some("application/vnd.example.sbom"));
    assert!(world.engine.referrers(&subject, Some("application/other")).await.unwrap().is_empty());
    let error = world
        .engine
        .attach_artifact(&reference("registry.example/none:1"), files(), options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    world.engine.pull(&subject, PullOptions::default()).await.unwrap();
    let error = world.engine.artifact_files(&subject.to_string()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
}

#[tokio::test]
async fn an_image_is_copied_to_another_engine_and_what_that_has_stays_at_home() {
    require!(root, "busybox");
    let (from, to) = (World::new().await, World::new().await);
    let copy = async |image: &str, options| from.engine.copy_image(image, &to.engine, options).await;
    let (small, large) = (image::busybox_layers(3), image::busybox_layers(5));
    for (name, image) in [("small", &small), ("large", &large)] {
        image.write_layout(&from.path(name), &format!("registry.example/{name}:1"));
        load(&from.engine, &from.path(name)).await.unwrap();
    }
    let copied = copy("registry.example/small:1", CopyImageOptions::default()).await.unwrap();
    assert_eq!(copied.target.digest.to_string(), small.digest());
    assert_eq!(copied.names, [reference("registry.example/small:1")]);

    // Layers that both have do not travel.
    let mut operation =
        from.engine.copy_image("registry.example/large:1", &to.engine, CopyImageOptions::default());
    let mut travelled = BTreeSet::new();
    while let Some(event) = operation.next().await {
        if let LoadEvent::Layer { layer, progress: LayerProgress::Transferring { .. } } = event {
            travelled.insert(layer.digest);
        }
    }
    operation.await.unwrap();
    let of = |image: &image::Image| -> BTreeSet<String> {
        image.layers.iter().map(|layer| layer.digest.to_string()).collect()
    };
    let mut wanted: BTreeSet<String> = of(&large).difference(&of(&small)).cloned().collect();
    assert!(wanted.len() < large.layers.len());
    wanted.insert(large.config.as_ref().unwrap().digest.to_string());
    assert_eq!(travelled.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(blobs(&from), blobs(&to));
    // It can be used there: its layers are unpacked.
    to.engine.create("registry.example/large:1", ContainerSpec::default()).await.unwrap();

    let wish: Platform = "linux/riscv64".parse().unwrap();
    for (name, options) in [
        ("nosuch", CopyImageOptions::default()),
        ("registry.example/small:1", CopyImageOptions::default().with_platform(wish)),
    ] {
        let error = copy(name, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    // By its id, without a name or with a new one.
    let id = from.engine.image("registry.example/small:1").await.unwrap().id().to_string();
    assert!(copy(&id, CopyImageOptions::default()).await.unwrap().names.is_empty());
    let name = reference("other.example/renamed:2");
    copy(&id, CopyImageOptions::default().with_name(name.clone())).await.unwrap();
    assert_eq!(to.engine.image("other.example/renamed:2").await.unwrap().id().to_string(), id);
}

#[tokio::test]
async fn the_other_engines_hook_decides_about_copies() {
    let from = World::new().await;
    from.import("registry.example/one:1", "one").await;
    let to = World::built(LocalImageStoreOptions::default(), |builder| {
        builder.admit_image(|image| Err(format!("no {}", image.name).into()))
    });
    let to = to.await;
    let options = CopyImageOptions::default();
    let error = from.engine.copy_image("registry.example/one:1", &to.engine, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.report().contains("no registry.example/one:1"), "{}", error.report());
    assert!(to.content().is_empty(), "{:?}", to.content());
}
