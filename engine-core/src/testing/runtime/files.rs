//! A container's file system.

use std::path::Path;

use futures_util::{TryStreamExt as _, stream};

use super::{Bench, FOREVER, assert_kind};
use crate::error::ErrorKind;
use crate::files::{ContainerFiles, FilesSpec, UnpackFiles};
use crate::id::ContainerId;
use crate::io::ByteStream;
use crate::testing::content::tar;

fn archive(entries: &[(&str, &[u8])]) -> ByteStream {
    let bytes = tar(entries);
    // In pieces, as from a network.
    let pieces: Vec<_> = bytes.chunks(700).map(|piece| Ok(piece.to_vec().into())).collect();
    Box::pin(stream::iter(pieces))
}

async fn packed(files: &dyn ContainerFiles, path: &str) -> Vec<u8> {
    let (_, stream) = files.pack(Path::new(path)).await.expect("pack");
    let collected = stream.try_fold(Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    collected.await.expect("read the archive")
}

fn holds(archive: &[u8], text: &[u8]) -> bool {
    archive.windows(text.len()).any(|window| window == text)
}

/// Promise: what is unpacked into a container that is not created yet, runs, or is seen by another instance, is there.
pub async fn files_go_in_and_come_out(bench: Bench<'_>) {
    let id = ContainerId::random();
    let mut launch = bench.harness.launch(&id, FOREVER).await;
    // Without a root section, nothing says that the root is read-only.
    launch.oci.set_root(None);
    let spec = FilesSpec::new(launch.rootfs.clone(), Vec::new());
    let files = bench.runtime.files(&id, &spec);
    let options = UnpackFiles::default();
    let first = archive(&[("copied/", b""), ("copied/one", b"first content")]);
    files.unpack(Path::new("/"), first, &options).await.expect("unpack before it exists");
    bench.runtime.create(&id, &launch).await.expect("create");
    bench.runtime.start(&id).await.expect("start");
    let second = archive(&[("two", b"second content")]);
    files.unpack(Path::new("/copied"), second, &options).await.expect("unpack while it runs");
    let other = bench.second.files(&id, &spec);
    let stat = other.stat(Path::new("/copied/one")).await.expect("stat");
    assert!(stat.is_file() && stat.size == 13 && stat.name == "one", "{stat:?}");
    assert!(other.stat(Path::new("/copied")).await.expect("stat").is_dir());
    let all = packed(&*other, "/copied").await;
    for text in [&b"copied/one"[..], b"first content", b"copied/two", b"second content"] {
        assert!(holds(&all, text), "{} is missing", String::from_utf8_lossy(text));
    }
    assert!(holds(&packed(&*other, "/copied/two").await, b"two\0"));
    assert!(holds(&packed(&*other, "/copied/.").await, b"./two\0"));
}

/// Promise: paths that lead to nothing are not found, only directories are unpacked into, and kinds are kept on demand.
pub async fn files_are_looked_up_safely(bench: Bench<'_>) {
    let id = ContainerId::random();
    let mut launch = bench.harness.launch(&id, FOREVER).await;
    // Without a root section, nothing says that the root is read-only.
    launch.oci.set_root(None);
    let files = bench.runtime.files(&id, &FilesSpec::new(launch.rootfs.clone(), Vec::new()));
    bench.runtime.create(&id, &launch).await.expect("create");
    let (root, options) = (Path::new("/"), UnpackFiles::default());
    files.unpack(root, archive(&[("d/", b""), ("f", b"1")]), &options).await.expect("unpack");
    assert_kind(files.stat(Path::new("/none")).await, &[ErrorKind::NotFound], "stat of nothing");
    assert_kind(files.pack(Path::new("/none")).await.map(drop), &[ErrorKind::NotFound], "pack of nothing");
    let into = async |path: &'static str, entries: &[(&str, &[u8])], options: &UnpackFiles| {
        files.unpack(Path::new(path), archive(entries), options).await
    };
    assert_kind(into("/none", &[], &options).await, &[ErrorKind::NotFound], "unpack into nothing");
    assert_kind(into("/f", &[], &options).await, &[ErrorKind::InvalidArgument], "unpack into a file");
    assert_kind(into("/", &[("../x", b"")], &options).await, &[ErrorKind::Corrupt], "unpack of a way out");
    let keep = options.clone().with_keep_kinds(true);
    assert_kind(into("/", &[("d", b"1")], &keep).await, &[ErrorKind::Conflict], "a file over a directory");
    assert_kind(into("/", &[("f/", b"")], &keep).await, &[ErrorKind::Conflict], "a directory over a file");
    into("/", &[("d", b"now a file")], &options).await.expect("replace");
    assert!(files.stat(Path::new("/d")).await.expect("stat").is_file());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar(&[("packed", b"x")])).expect("compress");
    // Clients send what they have, and one byte at a time if they like.
    let bytes = gzip.finish().expect("compress").into_iter().map(|byte| Ok(vec![byte].into()));
    files.unpack(root, Box::pin(stream::iter(bytes)), &options).await.expect("unpack a compressed archive");
    assert!(files.stat(Path::new("/packed")).await.expect("stat").is_file());
    let few = options.clone().with_max_bytes(4096);
    assert_kind(
        into("/", &[("large", &[0; 4096])], &few).await,
        &[ErrorKind::ResourceExhausted],
        "too large",
    );
    assert_kind(files.stat(Path::new("/large")).await, &[ErrorKind::NotFound], "stat of what was too large");
    into("/", &[("small", &[0; 1024])], &few).await.expect("unpack what is small enough");
    let torn: ByteStream = Box::pin(stream::iter([Ok(vec![1; 100].into())]));
    let outcome = files.unpack(root, torn, &options).await;
    assert_kind(outcome, &[ErrorKind::Corrupt], "unpack of no archive");
}
