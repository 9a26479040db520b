//! Real images: our root file system is what `skopeo copy` and `umoci unpack` make of the same image.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use engine_testkit::{Sentinel, command, require};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::tests::{gzip, open, put};
use super::{LayerDriver, LocalImageStoreOptions};
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::id::ContainerId;
use crate::image_store::ImageStore as _;
use crate::mount::{Mount, MountKind};
use crate::tar::build::{Archive, Block};

/// A layer as its uncompressed archive and its blob.
struct Layer {
    tar: Vec<u8>,
    blob: Vec<u8>,
}

impl Layer {
    fn new(tar: Vec<u8>) -> Self {
        let blob = gzip(&tar);
        Self { tar, blob }
    }
}

/// Writes an OCI layout, lets skopeo copy it and umoci unpack the copy; returns the root file system.
fn umoci(dir: &Path, layers: &[Layer]) -> PathBuf {
    let source = dir.join("source");
    let blobs = source.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let write = |media_type: &str, bytes: &[u8]| {
        let descriptor = Descriptor::of(media_type, bytes);
        fs::write(blobs.join(descriptor.digest.hex()), bytes).unwrap();
        serde_json::to_value(descriptor).unwrap()
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::sha256(&layer.tar).to_string()).collect();
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": write(media_type::OCI_CONFIG, config.to_string().as_bytes()),
        "layers": layers.iter().map(|l| write(media_type::OCI_LAYER_GZIP, &l.blob)).collect::<Vec<_>>() });
    let mut entry = write(media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
    entry["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(source.join("index.json"), index.to_string()).unwrap();
    fs::write(source.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let copy = dir.join("copy");
    let oci = |path: &Path| format!("oci:{}:latest", path.display());
    command("skopeo", ["--insecure-policy", "copy", "-q", &oci(&source), &oci(&copy)]);
    let bundle = dir.join("bundle");
    let image = format!("{}:latest", copy.display());
    command("umoci", ["unpack".as_ref(), "--image".as_ref(), image.as_ref(), bundle.as_os_str()]);
    bundle.join("rootfs")
}

/// Mounts what `prepare_rootfs` described, attached to nothing.
fn mount(mounts: &[Mount]) -> OwnedFd {
    let [Mount { kind: MountKind::Overlay { lower, upper: Some(upper) }, .. }] = mounts else {
        panic!("{mounts:?}")
    };
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let lower: Vec<_> = lower.iter().map(|path| path.to_str().unwrap()).collect();
    let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(&context, key, value).unwrap();
    // fsconfig(2) takes strings of at most 255 bytes, so one by one (Linux 6.5).
    lower.iter().for_each(|path| set("lowerdir+", path));
    set("upperdir", upper.upper.to_str().unwrap());
    set("workdir", upper.work.to_str().unwrap());
    rustix::mount::fsconfig_create(&context).unwrap();
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

async fn ours(root: &Path, layers: &[Layer], driver: LayerDriver) -> Sentinel {
    let store = open(root, LocalImageStoreOptions::default().with_driver(driver));
    let mut diff_ids = Vec::new();
    for layer in layers {
        let diff_id = Digest::sha256(&layer.tar);
        let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &layer.blob);
        put(&store, &descriptor, Some(&diff_id), &layer.blob).await.unwrap();
        diff_ids.push(diff_id);
    }
    let id = ContainerId::random();
    let mounts = store.prepare_rootfs(&id, &Digest::sha256(b"manifest"), &diff_ids).await.unwrap();
    let record = if let MountKind::Bind { source, .. } = &mounts[0].kind {
        Sentinel::record(source)
    } else {
        let mount = mount(&mounts);
        Sentinel::record(Path::new(&format!("/proc/self/fd/{}/", mount.as_raw_fd())))
    };
    store.remove_rootfs(&id).await.unwrap();
    record
}

fn assert_equal(expected: &Sentinel, actual: &Sentinel) {
    assert!(expected.entries().len() > 10);
    let differences = expected.differences(actual);
    assert!(
        differences.is_empty(),
        "{} differences, the first: {:#?}",
        differences.len(),
        &differences[..differences.len().min(30)]
    );
}

/// Every feature a layer can have, and a second layer that changes the first.
pub(super) fn crafted() -> Vec<Vec<u8>> {
    let mut a = Archive::new();
    let long = format!("{}/{}", "directory-with-a-long-name".repeat(4), "n".repeat(200));
    let dirs = "directory-with-a-long-name".repeat(4);
    a.dir("./", 0o755).dir("./d", 0o1777).dir("sg", 0o2755).file("sg/inherits-nothing", b"x");
    a.block(Block::ustar(b"owned", b'5', 0).mode(0o700).owner(1000, 2000));
    a.block(Block::ustar(b"owned/f", b'0', 3).mode(0o6755).owner(1001, 1002)).data(b"abc");
    a.block(Block::ustar(b"suid", b'0', 3).mode(0o4755)).data(b"abc");
    a.block(Block::ustar(b"big-id", b'0', 0).put(108, &[0x80, 0, 0, 0, 0x7f, 0, 0, 1]));
    a.block(
        Block::ustar(b"old", b'0', 0)
            .put(136, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    );
    a.hard_link("owned/link", "owned/f").hard_link("top-link", "./owned/f").symlink("abs", "/owned/f");
    a.symlink("dangling", "nowhere").symlink("dirlink", "owned").file("dirlink/through", b"link");
    a.block(Block::ustar(b"symlink-owned", b'2', 0).link(b"d").owner(5, 6));
    a.device("null", b'3', 1, 3).device("loop", b'4', 7, 200);
    a.block(Block::ustar(b"fifo", b'6', 0).mode(0o622).owner(3, 4));
    a.pax(&[(b"path", dirs.as_bytes())]).dir("x", 0o755).long(b'L', long.as_bytes()).file("x", b"long");
    // CAP_NET_RAW, effective and permitted (capabilities(7), vfs_cap_data version 2).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    a.pax(&[
        (b"SCHILY.xattr.security.capability", &capability),
        (b"SCHILY.xattr.user.note", b"binary\0and = text\n"),
        (b"mtime", b"1600000000.123456789"),
    ]);
    a.block(Block::ustar(b"ping", b'0', 4).mode(0o755).owner(7, 8)).data(b"ping");
    a.pax(&[(b"SCHILY.xattr.user.dir", b"1"), (b"mtime", b"-5.5")]).dir("xdir", 0o755).file("xdir/f", b"");
    a.pax(&[
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"sparse"),
        (b"GNU.sparse.realsize", b"10485760"),
    ]);
    let mut sparse = b"2\n1048576\n4\n10485756\n4\n".to_vec();
    sparse.resize(512, 0);
    sparse.extend_from_slice(b"holeends");
    a.file("GNUSparseFile.0/sparse", &sparse);
    a.dir("opaque", 0o755).file("opaque/hidden", b"1").dir("gone", 0o755).file("gone/with", b"1");
    a.dir("dir-to-file", 0o755)
        .file("dir-to-file/x", b"1")
        .file("file-to-dir", b"1")
        .dir("kept", 0o755)
        .file("kept/a", b"1");
    a.file("twice", b"first").file("twice", b"second").dir("back", 0o755).file("back/same-layer", b"1");

    let mut b = Archive::new();
    b.dir("./", 0o750).dir("opaque", 0o711).file("opaque/.wh..wh..opq", b"").file("opaque/shown", b"2");
    b.file(".wh.gone", b"").file(".wh.dir-to-file", b"").file("dir-to-file", b"2");
    b.file(".wh.file-to-dir", b"").dir("file-to-dir", 0o755).file("file-to-dir/x", b"2");
    b.dir("kept", 0o700).file("kept/b", b"2");
    // The whiteout hides the lower directory, not what this layer puts in its place, in either order.
    b.dir("back", 0o755).file("back/new", b"2").file("late", b"x");
    let c = Archive::new().file("c", b"3").symlink("abs", "changed").clone();
    vec![a.end(), b.end(), c.end()]
}

#[tokio::test]
async fn a_crafted_image_is_what_umoci_makes_of_it() {
    require!(root, overlayfs, "skopeo", "umoci");
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<Layer> = crafted().into_iter().map(Layer::new).collect();
    let expected = Sentinel::record(&umoci(dir.path(), &layers));
    assert_equal(&expected, &ours(&dir.path().join("overlay"), &layers, LayerDriver::Overlay).await);
    // A layer without an entry for the root adds a file there: a copy has the time of that.
    let copy = ours(&dir.path().join("copy-driver"), &layers, LayerDriver::Copy).await;
    let differences = expected.differences_except(&copy, |path, entry| {
        if path.as_os_str().is_empty() || path == Path::new(".") {
            entry.mtime = (0, 0);
        }
    });
    assert_eq!(differences, [""; 0]);
    let sparse =
        dir.path().join("overlay/images/layers").join(Digest::sha256(&layers[0].tar).hex()).join("fs/sparse");
    use std::os::unix::fs::MetadataExt as _;
    assert!(fs::metadata(sparse).unwrap().blocks() < 100, "holes are kept");
}

#[tokio::test]
async fn debian_is_what_umoci_makes_of_it() {
    require!(root, overlayfs, "skopeo", "umoci", "debootstrap");
    let dir = tempfile::tempdir().unwrap();
    let tar = fs::read(engine_testkit::debian::rootfs_tar()).unwrap();
    let layers = [Layer::new(tar)];
    let expected = Sentinel::record(&umoci(dir.path(), &layers));
    assert_equal(&expected, &ours(&dir.path().join("ours"), &layers, LayerDriver::Overlay).await);
}

#[tokio::test]
async fn directories_that_a_layer_does_not_describe_keep_their_attributes() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let mut low = Archive::new();
    low.dir("./", 0o711)
        .dir("tmp", 0o1777)
        .dir("a", 0o750)
        .dir("a/b", 0o2700)
        .dir("o", 0o700)
        .file("o/x", b"");
    low.block(Block::ustar(b"owned", b'5', 0).mode(0o700).owner(7, 8));
    let mut high = Archive::new();
    high.file("tmp/f", b"1")
        .file("a/b/f", b"1")
        .file("owned/new/f", b"1")
        .file("o/.wh..wh..opq", b"")
        .file("o/y", b"");
    let layers =
        [Layer::new(low.end()), Layer::new(high.end()), Layer::new(Archive::new().file("a/g", b"").end())];
    let record = ours(dir.path(), &layers, LayerDriver::Overlay).await;
    let of = |path: &str| {
        let entry = &record.entries()[Path::new(path)];
        (entry.mode, entry.uid, entry.gid)
    };
    assert_eq!(of("tmp"), (0o1777, 0, 0));
    assert_eq!((of("a"), of("a/b")), ((0o750, 0, 0), (0o2700, 0, 0)));
    assert_eq!((of("owned"), of("owned/new")), ((0o700, 7, 8), (0o755, 0, 0)));
    assert_eq!(of("o"), (0o755, 0, 0), "an opaque directory is a new one");
    assert!(!record.entries().contains_key(Path::new("o/x")));
    assert_eq!(record.entries()[Path::new("tmp")].mtime, (1_700_000_000, 0));
}

#[tokio::test]
async fn two_hundred_layers_mount() {
    require!(root, overlayfs);
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<Layer> = (0..200)
        .map(|n| {
            Layer::new(
                Archive::new().file(&format!("f{n}"), b"").file("last", n.to_string().as_bytes()).end(),
            )
        })
        .collect();
    let record = ours(dir.path(), &layers, LayerDriver::Overlay).await;
    assert_eq!(record.entries().len(), 202);
    let last = &record.entries()[Path::new("last")];
    assert_eq!((last.size, last.links), (3, 1));
}
