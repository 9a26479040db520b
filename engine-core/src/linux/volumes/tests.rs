//! What the conformance suite does not know of: disk, crashes, options.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::mount::MountKind;

fn options(list: &[(&str, &str)]) -> VolumeOptions {
    let driver_options = list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    VolumeOptions { driver_options, ..VolumeOptions::default() }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[tokio::test]
async fn b9_only_the_owner_enters() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("volumes")).unwrap();
    fs::set_permissions(root.path().join("volumes"), fs::Permissions::from_mode(0o755)).unwrap();
    let volumes = LocalVolumes::open(root.path()).await.unwrap();
    volumes.create(&name("data"), &VolumeOptions::default()).await.unwrap();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
    for dir in ["volumes", "volumes/.new", "volumes/.trash", "volumes/data"] {
        assert_eq!(mode(dir), 0o700, "{dir}");
    }
    assert_eq!(mode("volumes/data/_data"), 0o755);
    assert_eq!(mode("volumes/data/volume.json"), 0o600);
    assert_eq!(mode("volumes/.lock"), 0o600);
}

#[tokio::test]
async fn leftovers_are_swept_and_hide_nothing() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::open(root.path()).await.unwrap();
    volumes.create(&name("data"), &VolumeOptions::default()).await.unwrap();
    for left in [".new/1", ".trash/2/_data/deep"] {
        fs::create_dir_all(root.path().join("volumes").join(left)).unwrap();
    }
    fs::create_dir(root.path().join("volumes/broken")).unwrap();
    fs::write(root.path().join("volumes/broken/volume.json"), "{").unwrap();
    let again = LocalVolumes::open(root.path()).await.unwrap();
    for dir in [".new", ".trash"] {
        assert_eq!(fs::read_dir(root.path().join("volumes").join(dir)).unwrap().count(), 0);
    }
    assert_eq!(again.list().await.unwrap().len(), 1);
    assert_eq!(again.inspect(&name("broken")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    again.remove(&name("broken")).await.unwrap();
    assert_eq!(again.inspect(&name("broken")).await.unwrap(), None);
}

#[tokio::test]
async fn a_sweep_spares_what_another_program_writes() {
    let root = tempfile::tempdir().unwrap();
    let _volumes = LocalVolumes::open(root.path()).await.unwrap();
    let busy = fs::File::open(root.path().join("volumes/.lock")).unwrap();
    rustix::fs::flock(&busy, rustix::fs::FlockOperation::LockShared).unwrap();
    fs::create_dir(root.path().join("volumes/.new/theirs")).unwrap();
    LocalVolumes::open(root.path()).await.unwrap();
    assert!(root.path().join("volumes/.new/theirs").exists());
}

#[tokio::test]
async fn options_become_mounts() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::open(root.path()).await.unwrap();
    let target = Path::new("/data");

    let plain = volumes.create(&name("plain"), &VolumeOptions::default()).await.unwrap();
    let mount = volumes.mount(&name("plain"), target).await.unwrap();
    let MountKind::Bind { source, recursive: false } = mount.kind else { panic!("{mount:?}") };
    assert_eq!(Some(source), plain.mountpoint);
    assert!(mount.options.nodev && !mount.options.read_only);

    let tmpfs =
        options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=64m,mode=700,uid=1000,noexec")]);
    volumes.create(&name("tmp"), &tmpfs).await.unwrap();
    let mount = volumes.mount(&name("tmp"), target).await.unwrap();
    assert_eq!(mount.kind, MountKind::Tmpfs { size: Some(64 << 20), mode: 0o700, uid: 1000, gid: 0 });
    assert!(mount.options.noexec && mount.options.nodev);

    let bind = options(&[("type", "none"), ("device", "/srv"), ("o", "bind,ro")]);
    let volume = volumes.create(&name("bind"), &bind).await.unwrap();
    assert_eq!(volume.mountpoint.as_deref(), Some(Path::new("/srv")));
    let mount = volumes.mount(&name("bind"), target).await.unwrap();
    assert_eq!(mount.kind, MountKind::Bind { source: "/srv".into(), recursive: false });
    assert!(mount.options.read_only);

    let nfs = options(&[("type", "nfs"), ("device", ":/export"), ("o", "addr=10.0.0.1,rw")]);
    let volume = volumes.create(&name("nfs"), &nfs).await.unwrap();
    assert_eq!(volume.mountpoint, None);
    let mount = volumes.mount(&name("nfs"), target).await.unwrap();
    let MountKind::Filesystem { kind, source, options: set } = mount.kind else { panic!("{mount:?}") };
    assert_eq!((&*kind, &*source), ("nfs", ":/export"));
    assert_eq!(set, [("addr".to_owned(), "10.0.0.1".to_owned())]);
    // A host in the source is an address too, and a name becomes a number.
    let nfs = options(&[("type", "nfs4"), ("device", "localhost:/x"), ("o", "nfsvers=4,soft,ro,nosuid")]);
    volumes.create(&name("nfs4"), &nfs).await.unwrap();
    let mount = volumes.mount(&name("nfs4"), target).await.unwrap();
    assert!(mount.options.read_only && mount.options.nosuid);
    let MountKind::Filesystem { options: set, .. } = mount.kind else { panic!("no file system") };
    assert_eq!(set[..2], [("nfsvers".to_owned(), "4".to_owned()), ("soft".to_owned(), String::new())]);
    let address: std::net::IpAddr = set[2].1.parse().unwrap();
    assert!(set[2].0 == "addr" && address.is_loopback());
    let ext4 = options(&[("type", "ext4"), ("device", "/dev/vdb1"), ("o", "noexec,data=journal")]);
    volumes.create(&name("ext4"), &ext4).await.unwrap();
    assert!(volumes.mount(&name("ext4"), target).await.unwrap().options.noexec);
    volumes.remove(&name("nfs4")).await.unwrap();
    volumes.remove(&name("ext4")).await.unwrap();
    assert_eq!(volumes.list().await.unwrap().len(), 4);
}

#[tokio::test]
async fn wrong_options_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::open(root.path()).await.unwrap();
    for wrong in [
        &[("size", "1g")][..],
        &[("o", "size=1g")],
        &[("type", "none"), ("device", "/srv")],
        &[("type", "none"), ("o", "bind")],
        &[("type", "none"), ("device", "srv"), ("o", "bind")],
        &[("type", "none"), ("device", "/srv/../etc"), ("o", "bind")],
        &[("type", "none"), ("device", "/srv"), ("o", "bind,loop")],
        &[("type", "tmpfs"), ("o", "size=much")],
        &[("type", "tmpfs"), ("o", "mode=99")],
        &[("type", "tmpfs"), ("o", "size=99999999999g")],
        &[("type", "nfs")],
        &[("type", "nfs"), ("device", "/export"), ("o", "addr=10.0.0.1")],
        &[("type", "nfs"), ("device", ":/export")],
        &[("type", "cifs"), ("device", "host/share")],
        &[("type", "ext4")],
        &[("type", "ext4"), ("device", "/dev/sda"), ("o", "data=")],
        &[("type", "proc"), ("device", "proc")],
        &[("type", "../x"), ("device", "x")],
    ] {
        let error = volumes.create(&name("wrong"), &options(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong:?}: {error:?}");
    }
    assert!(volumes.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn removing_a_volume_spares_what_it_was_bound_to() {
    let (root, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(host.path().join("kept"), "x").unwrap();
    let volumes = LocalVolumes::open(root.path()).await.unwrap();
    let device = host.path().to_str().unwrap();
    let bind = options(&[("type", "none"), ("device", device), ("o", "bind")]);
    volumes.create(&name("bind"), &bind).await.unwrap();
    let plain = volumes.create(&name("plain"), &VolumeOptions::default()).await.unwrap();
    std::os::unix::fs::symlink(host.path(), plain.mountpoint.unwrap().join("link")).unwrap();
    for volume in ["bind", "plain"] {
        volumes.remove(&name(volume)).await.unwrap();
    }
    assert!(host.path().join("kept").exists());
}
