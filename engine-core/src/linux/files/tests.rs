//! Trees of every kind of file through an archive and back.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use engine_testkit::{Sentinel, require};

use super::*;

/// A tree with all that an archive can hold, and directories deeper than are kept open.
fn plant(root: &Path) {
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    fs::hard_link(root.join("file"), root.join("sub/hard")).unwrap();
    symlink("../file", root.join("sub/soft")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::write(root.join("setuid"), "x").unwrap();
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(root.join("sub"), Some(1234), Some(4321)).unwrap();
    let deep = (0..150).fold(root.to_path_buf(), |path, n| path.join(format!("level{n}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
    fs::write(root.join("name".repeat(50)), "long").unwrap();
    let holes = fs::File::create(root.join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", 10 << 20).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    rustix::fs::lsetxattr(root.join("file"), "user.note", b"\0=\n", rustix::fs::XattrFlags::empty()).unwrap();
}

#[tokio::test]
async fn a_tree_survives_an_archive() {
    require!(root);
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    plant(&from);
    let tree = stat_host(&from, false).await.unwrap();
    assert!(tree.stat.is_dir() && tree.name == "from");
    let archive = pack_host(&tree, "copy", None).await.unwrap();
    unpack_host(&to, archive, &UnpackFiles::default(), true).await.unwrap();
    assert_eq!(Sentinel::record(&from).entries(), Sentinel::record(&to.join("copy")).entries());
    assert!(fs::metadata(to.join("copy/holes")).unwrap().blocks() < 1000, "holes stay holes");
}

#[tokio::test]
async fn what_comes_out_of_a_container_gives_no_rights() {
    require!(root);
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    plant(&from);
    let tree = stat_host(&from, false).await.unwrap();
    unpack_host(&to, pack_host(&tree, "copy", None).await.unwrap(), &UnpackFiles::default(), false)
        .await
        .unwrap();
    let metadata = fs::metadata(to.join("copy/setuid")).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(to.join("copy/sub")).unwrap().uid(), rustix::process::geteuid().as_raw());
}

#[tokio::test]
async fn dropping_either_end_ends_the_work() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("big"), vec![7; 32 << 20]).unwrap();
    let tree = stat_host(&dir.path().join("big"), false).await.unwrap();
    let stream = pack_host(&tree, "big", None).await.unwrap();
    drop(stream);
    let pending: ByteStream = Box::pin(futures_util::stream::pending());
    let options = UnpackFiles::default();
    let unpack = unpack_host(dir.path(), pending, &options, false);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), unpack).await.is_err());
    let threads = || {
        let names = fs::read_dir("/proc/self/task").unwrap().flatten();
        names
            .filter(|task| {
                fs::read_to_string(task.path().join("comm"))
                    .is_ok_and(|name| name.starts_with("container-file"))
            })
            .count()
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Other tests of this program may have such threads, too, and end.
    while threads() > 0 && std::time::Instant::now() < end {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(threads(), 0);
}

#[tokio::test]
async fn a_failing_source_is_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Error::new(ErrorKind::Unavailable, "test");
    let archive: ByteStream = Box::pin(futures_util::stream::iter([Err(error)]));
    let outcome = unpack_host(dir.path(), archive, &UnpackFiles::default(), false).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_file_that_changes_on_the_way_is_no_longer_the_one_that_was_listed() {
    use crate::files::PackedSource;
    use futures_util::TryStreamExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "before").unwrap();
    let files = host_files(dir.path().to_owned());
    let list = files.list(Path::new("/file"), &ListFiles::default().with_digests()).await.unwrap();
    let pack = async || {
        let mut file = PackedFile::new(PackedSource::Tree("/file".into()), "file", 0o644);
        file.digest.clone_from(&list.entries[0].digest);
        files.pack_files(vec![file]).await?.try_collect::<Vec<_>>().await
    };
    pack().await.unwrap();
    // Neither another content of the same size, nor less of it.
    for after in ["behind", "be"] {
        fs::write(&path, after).unwrap();
        let error = pack().await.unwrap_err();
        assert!(error.report().contains("/file: it changed while it was copied"), "{error}");
    }
}
