//! Hostile archives (SECURITY C1, C3, C4, C6, D1): refused with an error that says why, and nothing is left of them.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use engine_core::engine::{ImportOptions, LoadOptions, LoadSource, LoadedImage};
use engine_core::linux::image_store::LocalImageStoreOptions;
use engine_core::testing::content::{SampleImage, tar};
use engine_core::{Error, ErrorKind, Result, media_type};
use engine_testkit::image::{self, LayerBuilder};
use engine_testkit::{Sentinel, require};
use futures_util::stream;
use serde_json::{Value, json};

use crate::support::{World, reference};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An OCI archive under construction, right until a test makes it wrong.
struct Layout {
    members: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn of(image: &SampleImage) -> Self {
        let path = |digest: &engine_core::Digest| format!("blobs/sha256/{}", digest.hex());
        let mut members = vec![("oci-layout".to_owned(), LAYOUT.to_vec())];
        for layer in &image.layers {
            members.push((path(&layer.descriptor.digest), layer.bytes.to_vec()));
        }
        members.push((path(&image.config.digest), image.config_bytes.to_vec()));
        members.push((path(&image.manifest.digest), image.manifest_bytes.to_vec()));
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [{ "mediaType": image.manifest.media_type, "digest": image.manifest.digest,
                "size": image.manifest.size,
                "annotations": { "io.containerd.image.name": "registry.example/evil:1" } }],
        });
        members.push(("index.json".to_owned(), index.to_string().into_bytes()));
        Self { members }
    }

    fn with(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        match self.members.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = content,
            None => self.members.push((name.to_owned(), content)),
        }
        self
    }

    fn index(self, change: impl FnOnce(&mut Value)) -> Self {
        let (_, bytes) = self.members.iter().find(|(name, _)| name == "index.json").unwrap();
        let mut value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        self.with("index.json", value.to_string())
    }

    fn builder(&self) -> LayerBuilder {
        self.members.iter().fold(LayerBuilder::new(), |tar, (name, content)| tar.file(name, 0o644, content))
    }

    fn bytes(&self) -> Vec<u8> {
        self.builder().build()
    }
}

async fn load(world: &World, bytes: &[u8]) -> Result<Vec<LoadedImage>> {
    let path = world.path("archive.tar");
    std::fs::write(&path, bytes).unwrap();
    world.engine.load(path, LoadOptions::default()).await
}

/// Loads what must be refused, and looks that nothing is left.
async fn refused(world: &World, what: &str, bytes: &[u8], kinds: &[ErrorKind]) -> Error {
    match load(world, bytes).await {
        Ok(loaded) => panic!("{what} was accepted: {loaded:?}"),
        Err(error) => {
            assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            world.assert_empty(what).await;
            assert!(world.engine.images().await.unwrap().is_empty(), "{what}");
            error
        }
    }
}

const CORRUPT: &[ErrorKind] = &[ErrorKind::Corrupt];
const LIMIT: &[ErrorKind] = &[ErrorKind::ResourceExhausted, ErrorKind::Corrupt];

#[tokio::test]
async fn c1_members_and_links_that_lead_out_are_refused() {
    require!(root);
    let world = World::new().await;
    let secret = world.path("secret");
    std::fs::write(&secret, LAYOUT).unwrap();
    let layout = || Layout::of(&SampleImage::new("x"));
    let absolute = secret.display().to_string();
    for name in ["../up", "a/../../up", "../../../../etc/passwd", "a/.."] {
        refused(&world, name, &layout().builder().file(name, 0o644, b"x").build(), CORRUPT).await;
    }
    for target in [&absolute[..], "../../secret", "../../../../../../etc/passwd", "/etc/passwd"] {
        let bytes = layout().builder().symlink("a", target).build();
        refused(&world, &format!("link to {target}"), &bytes, CORRUPT).await;
    }
    let bytes = layout().builder().hard_link("a", "../secret").build();
    refused(&world, "hard link", &bytes, CORRUPT).await;
    // A link instead of a document, to itself, in a circle, and to nothing.
    for (what, tar) in [
        ("itself", LayerBuilder::new().symlink("oci-layout", "oci-layout")),
        ("a circle", LayerBuilder::new().symlink("oci-layout", "a").symlink("a", "oci-layout")),
        ("nothing", LayerBuilder::new().symlink("oci-layout", "nothing")),
        ("a pipe", layout().builder().fifo("pipe", 0o644)),
        ("a device", layout().builder().char_device("null", 0o666, 1, 3)),
    ] {
        refused(&world, what, &tar.build(), CORRUPT).await;
    }
    // A layout directory whose parts are links or pipes.
    let image = SampleImage::new("x");
    for part in ["oci-layout", "index.json", "blobs", "blobs/sha256"] {
        for kind in ["link", "pipe"] {
            let dir = tempfile::tempdir_in(world.dir.path()).unwrap();
            for (name, content) in &Layout::of(&image).members {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            let (path, aside) = (dir.path().join(part), world.path("aside"));
            std::fs::rename(&path, &aside).unwrap();
            match kind {
                "link" => std::os::unix::fs::symlink(&aside, &path).unwrap(),
                _ => drop(engine_testkit::command("mkfifo", [path.as_os_str()])),
            }
            let loaded = world.engine.load(dir.path(), LoadOptions::default());
            let error = tokio::time::timeout(Duration::from_secs(60), loaded).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{part} {kind}: {error:?}");
            let _ = std::fs::remove_dir_all(&aside).or_else(|_| std::fs::remove_file(&aside));
            world.assert_empty(part).await;
        }
    }
    // Links that stay inside are names of other members, as old tools write them.
    let member = layout().members.iter().find(|(name, _)| name == "index.json").unwrap().1.clone();
    let tar = layout()
        .members
        .iter()
        .filter(|(name, _)| name != "index.json")
        .fold(LayerBuilder::new(), |tar, (name, content)| tar.file(name, 0o644, content));
    load(&world, &tar.file("d/real", 0o644, &member).symlink("index.json", "./d/../d/real").build())
        .await
        .unwrap();
}

#[tokio::test]
async fn c1_layers_that_lead_out_of_the_root_touch_nothing_by_import_and_by_load() {
    require!(root);
    let world = World::new().await;
    let outside = world.path("outside");
    std::fs::create_dir(&outside).unwrap();
    Sentinel::plant(&outside);
    let sentinel = Sentinel::record(&outside);
    let (absolute, up) = (outside.display().to_string(), "../".repeat(24));
    let names: Vec<String> = [
        "../escape",
        "../../outside/escape",
        "d/../../escape",
        "..",
        "./..",
        "/..",
        "d/..",
        "link/escape",
        "link/sub/escape",
        "chain/escape",
        "loop/escape",
        "rel/escape",
        "proc/self/root/escape",
        "link",
        "link/.wh.file",
        "link/.wh..wh..opq",
        ".wh.link",
        ".wh..",
        ".wh...",
        ".wh.",
    ]
    .iter()
    .map(|name| (*name).to_owned())
    .chain([
        format!("{up}{}/escape", &absolute[1..]),
        format!("{absolute}/escape"),
        format!("/{absolute}//file"),
    ])
    .collect();
    let base = || {
        let tar = LayerBuilder::new().dir("d", 0o755).file("file", 0o644, b"x").symlink("link", &absolute);
        let tar = tar.symlink("chain", "link").symlink("loop", "loop").symlink("proc", "/proc");
        tar.symlink("rel", &format!("{up}{}", &absolute[1..]))
    };
    let mut count = 0;
    for name in &names {
        let archives = [
            base().file(name, 0o4777, b"evil"),
            base().dir(name, 0o777),
            base().symlink(name, &absolute),
            base().symlink(name, "/etc/passwd").file(name, 0o666, b"evil"),
            base().hard_link(name, "file"),
            base().hard_link("copy", name).file("copy", 0o666, b"evil"),
            base().hard_link(name, &format!("{absolute}/file")),
            base().fifo(name, 0o666),
            base().char_device(name, 0o666, 1, 3),
            base().dir(name, 0o700).file(&format!("{name}/file"), 0o666, b"evil"),
        ];
        for (kind, archive) in archives.into_iter().enumerate() {
            count += 1;
            let layer = archive.build();
            let imported = world
                .engine
                .import(&reference("localhost/evil:1"), layer.clone().into(), ImportOptions::default())
                .await;
            if count % 3 == 0 {
                let image = image::ImageBuilder::new().tar_layer(layer).build();
                image.write_layout_tar(&world.path("evil.tar"), "localhost/evil:2");
                let loaded = world.engine.load(world.path("evil.tar"), LoadOptions::default()).await;
                assert_eq!(loaded.is_ok(), imported.is_ok(), "{name} {kind}: {loaded:?} {imported:?}");
            }
            let differences = sentinel.differences(&Sentinel::record(&outside));
            assert!(differences.is_empty(), "{name} {kind}: {differences:?}");
        }
    }
    assert!(count >= 200);
    let mut options = engine_core::engine::ImagePruneOptions::default();
    options.all = true;
    world.engine.prune_images(&options).await.unwrap();
    world.assert_empty("pruned").await;
    assert!(sentinel.differences(&Sentinel::record(&outside)).is_empty());
}

#[tokio::test]
async fn c3_what_two_readers_would_read_in_two_ways_is_refused() {
    require!(root);
    let world = World::new().await;
    let (image, other) = (SampleImage::new("x"), SampleImage::new("y"));
    let layout = || Layout::of(&image);
    // Two members of one name, in every spelling.
    for name in ["index.json", "./index.json", "blobs//sha256/../index.json", ".//index.json"] {
        let bytes = layout().builder().file(name, 0o644, b"{}").build();
        refused(&world, name, &bytes, CORRUPT).await;
    }
    let bytes = layout().builder().symlink("index.json", "oci-layout").build();
    refused(&world, "a link and a file", &bytes, CORRUPT).await;
    // The same name for two images.
    let mut two = Layout::of(&other).members;
    two.retain(|(name, _)| name.starts_with("blobs/"));
    let both = || {
        let layout = two.iter().fold(layout(), |layout, (name, content)| layout.with(name, content.clone()));
        layout.index(|index| {
            let mut entry = index["manifests"][0].clone();
            entry["digest"] = json!(other.manifest.digest);
            entry["size"] = json!(other.manifest.size);
            index["manifests"].as_array_mut().unwrap().push(entry);
        })
    };
    refused(&world, "one name for two images", &both().bytes(), CORRUPT).await;
    // Two documents that disagree.
    let saved = |image: &SampleImage, name: &str| {
        let path = |digest: &engine_core::Digest| format!("blobs/sha256/{}", digest.hex());
        let layers: Vec<String> = image.layers.iter().map(|layer| path(&layer.descriptor.digest)).collect();
        json!([{ "Config": path(&image.config.digest), "RepoTags": [name], "Layers": layers }]).to_string()
    };
    let apart = both().index(|index| {
        index["manifests"][1]["annotations"] =
            json!({ "io.containerd.image.name": "registry.example/other:1" });
    });
    let bytes = apart.with("manifest.json", saved(&other, "registry.example/evil:1")).bytes();
    refused(&world, "the name means another image", &bytes, CORRUPT).await;
    let two = two.iter().fold(layout(), |layout, (name, content)| layout.with(name, content.clone()));
    let bytes = two.with("manifest.json", saved(&other, "registry.example/more:1")).bytes();
    refused(&world, "an image that the index lacks", &bytes, CORRUPT).await;
    let bytes = layout().with("manifest.json", saved(&image, "registry.example/more:1")).bytes();
    assert_eq!(load(&world, &bytes).await.unwrap()[0].names.len(), 2, "another name of the same image");
}

#[tokio::test]
async fn c4_documents_and_archives_have_limits() {
    require!(root);
    let world = World::new().await;
    let image = SampleImage::new("x");
    let layout = || Layout::of(&image);
    let huge = || vec![b' '; (4 << 20) + 1];
    for name in ["index.json", "manifest.json"] {
        refused(&world, name, &layout().with(name, huge()).bytes(), LIMIT).await;
    }
    refused(&world, "oci-layout", &layout().with("oci-layout", vec![b' '; 5000]).bytes(), LIMIT).await;
    let saved = json!([{ "Config": "c.json", "RepoTags": null, "Layers": [] }]).to_string();
    let config = vec![b' '; (8 << 20) + 1];
    let bytes =
        LayerBuilder::new().file("manifest.json", 0o644, saved.as_bytes()).file("c.json", 0o644, &config);
    refused(&world, "a huge configuration", &bytes.build(), LIMIT).await;
    // More members than anybody saves.
    let mut many = layout().builder();
    for n in 0..100_001 {
        many = many.file(&format!("m{n}"), 0o644, b"");
    }
    refused(&world, "many members", &many.build(), LIMIT).await;
    // An index of indexes that never ends, wide and deep.
    let mut nested = layout();
    let mut child = (image.manifest.media_type.clone(), image.manifest.digest.clone(), image.manifest.size);
    for _ in 0..8 {
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [{ "mediaType": child.0, "digest": child.1, "size": child.2 }] })
        .to_string();
        let digest = engine_core::Digest::sha256(index.as_bytes());
        child = (media_type::OCI_INDEX.to_owned(), digest.clone(), index.len() as u64);
        nested = nested.with(&format!("blobs/sha256/{}", digest.hex()), index);
    }
    let deep = nested.index(|index| {
        index["manifests"][0] = json!({ "mediaType": child.0, "digest": child.1, "size": child.2 });
    });
    refused(&world, "deep", &deep.bytes(), LIMIT).await;
    let wide = layout().index(|index| {
        let entry = index["manifests"][0].clone();
        index["manifests"] = json!(vec![entry; 1001]);
    });
    refused(&world, "wide", &wide.bytes(), LIMIT).await;
}

#[tokio::test]
async fn c4_bombs_end_at_a_limit_with_little_memory() {
    require!(root, "zstd");
    let limits = LocalImageStoreOptions::default().with_max_bytes(64 << 20);
    let world = World::with(limits).await;
    let dir = tempfile::tempdir().unwrap();
    let resident = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // 2 GiB of nothing, as an archive that is compressed, and as a member of one.
    let mut header = tar(&[("f", b"")]);
    header.truncate(512);
    header[124..136].copy_from_slice(b"20000000000\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let gzip = dir.path().join("bomb.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&gzip).unwrap(), flate2::Compression::fast());
    encoder.write_all(&header).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap();
    let zstd = dir.path().join("bomb.zst");
    let script = format!("gzip -dc {} | zstd -q -1 -o {}", gzip.display(), zstd.display());
    engine_testkit::command("sh", ["-c", &script]);
    let before = resident();
    for path in [&gzip, &zstd] {
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        let options = LoadOptions::default().with_max_bytes(128 << 20);
        let error = world.engine.load(&**path, options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        let source = LoadSource::stream(stream::iter([Ok(bytes.clone())]));
        let error = world.engine.load(source, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        let name = reference("localhost/bomb:1");
        let error = world.engine.import(&name, bytes, ImportOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        world.assert_empty("bomb").await;
    }
    let grown = resident() - before;
    assert!(grown < 64 << 10, "{grown} KiB");
    // What is cut or flipped in its compression is an error, and no hang.
    let good = Layout::of(&SampleImage::new("x")).bytes();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&good).unwrap();
    let good = encoder.finish().unwrap();
    for cut in [5, 20, good.len() / 2, good.len() - 4] {
        refused(&world, "cut gzip", &good[..cut], CORRUPT).await;
    }
    refused(&world, "xz", b"\xfd7zXZ\0 and so on", CORRUPT).await;
}

#[tokio::test]
async fn c5_layers_that_smuggle_overlay_attributes_are_refused_by_import_and_by_load() {
    require!(root);
    let world = World::new().await;
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"] {
        let record = format!("SCHILY.xattr.{name}");
        let layer = LayerBuilder::new().pax(&[(&record, b"y")]).dir("d", 0o755).build();
        let tag = reference("localhost/evil:1");
        let imported = world.engine.import(&tag, layer.clone().into(), ImportOptions::default()).await;
        assert_eq!(imported.unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
        image::ImageBuilder::new()
            .tar_layer(layer)
            .build()
            .write_layout_tar(&world.path("evil.tar"), "localhost/evil:2");
        let loaded = world.engine.load(world.path("evil.tar"), LoadOptions::default()).await;
        assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
        world.assert_empty(name).await;
    }
}

#[tokio::test]
async fn c6_one_flipped_bit_in_any_blob_is_found() {
    require!(root);
    let world = World::new().await;
    let layout = Layout::of(&SampleImage::new("x"));
    for index in 0..layout.members.len() {
        let (name, content) = &layout.members[index];
        if !name.starts_with("blobs/") {
            continue;
        }
        for at in [0, content.len() / 2, content.len() - 1] {
            let mut members = layout.members.clone();
            members[index].1[at] ^= 1;
            refused(&world, name, &Layout { members }.bytes(), CORRUPT).await;
        }
        // One more byte, one less, and none of it.
        for content in [[&content[..], b"x"].concat(), content[1..].to_vec(), Vec::new()] {
            let mut members = layout.members.clone();
            members[index].1 = content;
            refused(&world, name, &Layout { members }.bytes(), CORRUPT).await;
        }
        let mut members = layout.members.clone();
        members.remove(index);
        refused(&world, name, &Layout { members }.bytes(), CORRUPT).await;
    }
    // A docker archive whose names of files say another digest.
    let image = SampleImage::new("x");
    let saved =
        json!([{ "Config": format!("{}.json", "0".repeat(64)), "RepoTags": null, "Layers": ["a", "b"] }]);
    let docker = |layers: [&[u8]; 2], config: &str| {
        let saved = saved.to_string().replace(&"0".repeat(64), config);
        LayerBuilder::new()
            .file("manifest.json", 0o644, saved.as_bytes())
            .file(&format!("{config}.json"), 0o644, &image.config_bytes)
            .file("a", 0o644, layers[0])
            .file("b", 0o644, layers[1])
            .build()
    };
    let layers = [&image.layers[0].bytes[..], &image.layers[1].bytes[..]];
    refused(&world, "config", &docker(layers, &"0".repeat(64)), CORRUPT).await;
    refused(&world, "layers exchanged", &docker([layers[1], layers[0]], "c"), CORRUPT).await;
    load(&world, &docker(layers, image.config.digest.hex())).await.unwrap();
}

#[tokio::test]
async fn d1_documents_of_another_type_than_said_are_refused() {
    require!(root);
    let world = World::new().await;
    let image = SampleImage::new("x");
    let types = [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_INDEX,
    ];
    let mut accepted = 0;
    // What the index says the blob is, against what it says itself, with the fields of the one, the other or both.
    for said in types {
        for own in types {
            for fields in ["image", "index", "both", "none"] {
                let mut manifest = json!({ "schemaVersion": 2, "mediaType": own });
                if matches!(fields, "image" | "both") {
                    let whole: Value = serde_json::from_slice(&image.manifest_bytes).unwrap();
                    manifest["config"] = whole["config"].clone();
                    manifest["layers"] = whole["layers"].clone();
                }
                if matches!(fields, "index" | "both") {
                    manifest["manifests"] = json!([{ "mediaType": image.manifest.media_type,
                        "digest": image.manifest.digest, "size": image.manifest.size }]);
                }
                let bytes = manifest.to_string();
                let digest = engine_core::Digest::sha256(bytes.as_bytes());
                let layout = Layout::of(&image)
                    .with(&format!("blobs/sha256/{}", digest.hex()), bytes.clone())
                    .index(|index| {
                        index["manifests"][0]["mediaType"] = json!(said);
                        index["manifests"][0]["digest"] = json!(digest);
                        index["manifests"][0]["size"] = json!(bytes.len());
                    });
                let shape = if media_type::is_index(said) { "index" } else { "image" };
                if said == own && fields == shape {
                    load(&world, &layout.bytes()).await.unwrap();
                    accepted += 1;
                    world.engine.remove_image("registry.example/evil:1", false).await.unwrap();
                } else {
                    refused(&world, &format!("{own} as {said} with {fields}"), &layout.bytes(), CORRUPT)
                        .await;
                }
            }
        }
    }
    assert_eq!(accepted, 4);
    for (what, index) in [
        ("an index.json that is an image", image.manifest_bytes.to_vec()),
        ("no JSON", b"]".to_vec()),
        ("no list", br#"{"schemaVersion":2}"#.to_vec()),
        ("schema 1", br#"{"schemaVersion":1,"manifests":[]}"#.to_vec()),
    ] {
        let kinds = &[ErrorKind::Corrupt, ErrorKind::Unsupported];
        refused(&world, what, &Layout::of(&image).with("index.json", index).bytes(), kinds).await;
    }
    for layout in [&b"{}"[..], br#"{"imageLayoutVersion":"2.0.0"}"#, b"x"] {
        let kinds = &[ErrorKind::Corrupt, ErrorKind::Unsupported];
        refused(&world, "layout", &Layout::of(&image).with("oci-layout", layout).bytes(), kinds).await;
    }
    for name in ["UPPER", "a b", "dangling.invalid/x:1", "registry.example/x@sha256:0", "-"] {
        let layout = Layout::of(&image).index(|index| {
            index["manifests"][0]["annotations"]["io.containerd.image.name"] = json!(name);
        });
        refused(&world, name, &layout.bytes(), CORRUPT).await;
    }
}

#[tokio::test]
async fn a_load_or_import_cut_short_leaves_nothing() {
    require!(root);
    let world = World::new().await;
    let bytes = Layout::of(&SampleImage::new("x")).bytes();
    let end = bytes.len() - 1024;
    for cut in (0..end).step_by(700).chain([end - 1]) {
        refused(&world, &format!("{cut} bytes"), &bytes[..cut], CORRUPT).await;
        let source = LoadSource::stream(stream::iter([Ok(Bytes::copy_from_slice(&bytes[..cut]))]));
        world.engine.load(source, LoadOptions::default()).await.unwrap_err();
        world.assert_empty("cut pipe").await;
    }
    // A source that fails, and one that never ends while the caller goes away.
    let layer = tar(&[("file", &[7; 300_000])]);
    let broken = || Error::new(ErrorKind::Unavailable, "read pipe");
    for part in [Bytes::copy_from_slice(&bytes[..2000]), Bytes::copy_from_slice(&layer[..9000])] {
        let failing = || stream::iter([Ok(part.clone()), Err(broken())]);
        let loaded = world.engine.load(LoadSource::stream(failing()), LoadOptions::default()).await;
        assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Unavailable);
        let imported = world.engine.import_stream(None, Box::pin(failing()), ImportOptions::default()).await;
        assert_eq!(imported.unwrap_err().kind(), ErrorKind::Unavailable);
        world.assert_empty("a source that fails").await;
        use futures_util::StreamExt as _;
        let endless = || stream::iter([Ok(part.clone())]).chain(stream::pending());
        let load = world.engine.load(LoadSource::stream(endless()), LoadOptions::default());
        let import = world.engine.import_stream(None, Box::pin(endless()), ImportOptions::default());
        let wait = Duration::from_millis(100);
        assert!(tokio::time::timeout(wait, load).await.is_err());
        assert!(tokio::time::timeout(wait, import).await.is_err());
        world.assert_empty("dropped").await;
    }
    let none = world.path("none");
    for path in [Path::new("/dev/null"), &none, Path::new("/etc/hostname")] {
        let error = world.engine.load(path, LoadOptions::default()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{path:?}: {error:?}");
    }
    world.assert_empty("no archives").await;
}
