//! Copy-up: SECURITY A9 and C5, and what a crash leaves.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine_testkit::{Sentinel, require};
use rustix::fs::{CWD, FileType, Gid, Mode, Uid, XattrFlags};

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A driver with the empty volume `data`, and a root file system with something at `/srv`.
struct World {
    dir: tempfile::TempDir,
    volumes: LocalVolumes,
    data: PathBuf,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rootfs/srv")).unwrap();
        let volumes = LocalVolumes::open(dir.path()).await.unwrap();
        let volume = volumes.create(&name("data"), &VolumeOptions::default()).await.unwrap();
        Self { dir, volumes, data: volume.mountpoint.unwrap() }
    }

    fn image(&self, path: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(path)
    }

    fn rootfs(&self) -> [Mount; 1] {
        [Mount::bind(self.dir.path().join("rootfs"), "/")]
    }

    async fn fill(&self, path: &str) -> Result<bool> {
        self.volumes.fill(&name("data"), &self.rootfs(), Path::new(path)).await
    }

    fn mark(&self) -> PathBuf {
        self.data.parent().unwrap().join("filling")
    }
}

#[tokio::test]
async fn a9_everything_about_a_file_comes_along_except_what_no_volume_has() {
    require!(root);
    let world = World::new().await;
    let srv = world.image("srv");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    fs::create_dir_all(srv.join("dir/deep")).unwrap();
    fs::write(srv.join("dir/file"), "content").unwrap();
    rustix::fs::chown(srv.join("dir/file"), Some(Uid::from_raw(1000)), Some(Gid::from_raw(1001))).unwrap();
    fs::set_permissions(srv.join("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    rustix::fs::setxattr(srv.join("dir/file"), "user.note", b"x", XattrFlags::empty()).unwrap();
    fs::hard_link(srv.join("dir/file"), srv.join("dir/deep/again")).unwrap();
    fs::File::options().write(true).open(srv.join("dir/file")).unwrap().set_modified(time).unwrap();
    let holes = fs::File::create(srv.join("holes")).unwrap();
    holes.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", (64 << 20) - 3).unwrap();
    symlink("/etc/passwd", srv.join("link")).unwrap();
    for (node, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("whiteout", FileType::CharacterDevice, 0),
    ] {
        rustix::fs::mknodat(CWD, srv.join(node), kind, Mode::from_raw_mode(0o666), device).unwrap();
    }
    fs::set_permissions(srv.join("dir"), fs::Permissions::from_mode(0o2700)).unwrap();
    fs::File::open(srv.join("dir")).unwrap().set_modified(time).unwrap();
    rustix::fs::chown(&srv, Some(Uid::from_raw(70)), Some(Gid::from_raw(70))).unwrap();
    fs::set_permissions(&srv, fs::Permissions::from_mode(0o1770)).unwrap();

    assert!(world.fill("/srv").await.unwrap());
    let data = &world.data;
    let file = fs::symlink_metadata(data.join("dir/file")).unwrap();
    assert_eq!(fs::read(data.join("dir/file")).unwrap(), b"content");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()), (1000, 1001, 0o4751, 2));
    assert_eq!(file.modified().unwrap(), time);
    assert_eq!(file.ino(), fs::metadata(data.join("dir/deep/again")).unwrap().ino());
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(data.join("dir/file"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"x");
    let holes = fs::metadata(data.join("holes")).unwrap();
    assert_eq!((holes.len(), holes.blocks() * 512 < 1 << 20), (64 << 20, true), "holes stay holes");
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(fs::symlink_metadata(data.join("fifo")).unwrap().file_type().is_fifo());
    for device in ["null", "whiteout"] {
        assert!(fs::symlink_metadata(data.join(device)).is_err(), "{device} is not copied");
    }
    let dir = fs::metadata(data.join("dir")).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.modified().unwrap()), (0o2700, time));
    let root = fs::metadata(data).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (70, 70, 0o1770));
    assert!(!world.mark().exists());
    // Once is enough.
    assert!(!world.fill("/srv").await.unwrap());
}

#[tokio::test]
async fn a9_an_empty_directory_gives_its_owner_and_mode() {
    require!(root);
    let world = World::new().await;
    rustix::fs::chown(world.image("srv"), Some(Uid::from_raw(999)), Some(Gid::from_raw(998))).unwrap();
    fs::set_permissions(world.image("srv"), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(world.fill("/srv").await.unwrap());
    let root = fs::metadata(&world.data).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (999, 998, 0o750));
}

#[tokio::test]
async fn a9_a_path_of_the_image_leads_nowhere_but_into_the_image() {
    require!(root);
    let host = tempfile::tempdir().unwrap();
    let sentinel = Sentinel::plant(host.path());
    let up = format!("{}{}", "../".repeat(30), host.path().strip_prefix("/").unwrap().display());
    let world = World::new().await;
    fs::write(world.image("srv/inside"), "x").unwrap();
    for (link, target) in [
        ("absolute", host.path().to_str().unwrap()),
        ("dots", &*up),
        ("magic", "/proc/self/root"),
        ("cwd", "/proc/self/cwd"),
        ("chain", "absolute"),
        ("loop", "loop"),
        ("dangling", "nothing/there"),
    ] {
        symlink(target, world.image(link)).unwrap();
        assert!(!world.fill(&format!("/{link}")).await.unwrap(), "{link}");
        assert!(!world.fill(&format!("/{link}/bin")).await.unwrap(), "{link}");
    }
    symlink(host.path(), world.image("srv/out")).unwrap();
    symlink("/srv", world.image("good")).unwrap();
    // A link within the image counts, as it does for the mount.
    assert!(world.fill("/../good/.").await.unwrap());
    let names: Vec<_> = fs::read_dir(&world.data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::read_link(world.data.join("out")).unwrap(), host.path());
    sentinel.assert_unchanged();
}

#[tokio::test]
async fn a9_a_volume_with_content_is_never_touched() {
    require!(root);
    let world = World::new().await;
    fs::write(world.image("srv/file"), "of the image").unwrap();
    let before = {
        Sentinel::plant(&world.data);
        Sentinel::record(&world.data)
    };
    assert!(!world.fill("/srv").await.unwrap());
    before.assert_unchanged();
    // Nor one that is not the engine's.
    let host = tempfile::tempdir().unwrap();
    let options = [("type", "none"), ("device", host.path().to_str().unwrap()), ("o", "bind")];
    let options = VolumeOptions {
        driver_options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..VolumeOptions::default()
    };
    world.volumes.create(&name("bound"), &options).await.unwrap();
    let filled = world.volumes.fill(&name("bound"), &world.rootfs(), Path::new("/srv")).await;
    assert!(!filled.unwrap());
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_fill_that_was_cut_short_goes_on_with_the_same_image_only() {
    require!(root);
    let world = World::new().await;
    for file in ["a", "b", "sub/c"] {
        fs::create_dir_all(world.image("srv/sub")).unwrap();
        fs::write(world.image("srv").join(file), file).unwrap();
    }
    // As a crash leaves it: marked, one file there, another being written.
    assert!(world.fill("/srv").await.unwrap());
    let identity = files::identity(&world.rootfs(), Path::new("/srv"));
    fs::write(world.mark(), &identity).unwrap();
    fs::write(world.data.parent().unwrap().join("partial"), "half").unwrap();
    fs::remove_dir_all(world.data.join("sub")).unwrap();
    fs::remove_file(world.data.join("b")).unwrap();
    fs::write(world.data.join("a"), "changed by somebody").unwrap();

    assert!(!world.fill("/sub").await.unwrap(), "another source does not go on");
    assert!(world.mark().exists());
    assert!(world.fill("/srv").await.unwrap());
    assert!(!world.mark().exists() && !world.data.parent().unwrap().join("partial").exists());
    assert_eq!(fs::read_to_string(world.data.join("b")).unwrap(), "b");
    assert_eq!(fs::read_to_string(world.data.join("sub/c")).unwrap(), "sub/c");
    assert_eq!(fs::read_to_string(world.data.join("a")).unwrap(), "changed by somebody");
}

#[tokio::test]
async fn two_programs_fill_a_volume_once() {
    require!(root);
    let world = World::new().await;
    for n in 0..200 {
        fs::write(world.image(&format!("srv/{n}")), "x").unwrap();
    }
    let other = LocalVolumes::open(world.dir.path()).await.unwrap();
    let rootfs = world.rootfs();
    let data = name("data");
    let (one, two) = tokio::join!(world.fill("/srv"), other.fill(&data, &rootfs, Path::new("/srv")));
    assert!(one.unwrap() != two.unwrap(), "one filled it");
    assert_eq!(fs::read_dir(&world.data).unwrap().count(), 200);
}
