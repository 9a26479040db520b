//! SECURITY A10: /etc/passwd and /etc/group of an image or of a running container, in start and exec.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use engine_core::io::AttachOptions;
use engine_core::{ContainerId, ErrorKind, ExecSpec, Runtime as _};

use crate::support::Bench;

fn node(path: &Path, kind: rustix::fs::FileType, device: u64) {
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
}

/// 100 ms at best of three tries, on a processor that is not emulated.
fn assert_in_time(quickest: Duration, what: &str) {
    let limit = if std::env::var_os("ENGINE_GUEST").is_some() { 2000 } else { 100 };
    assert!(quickest <= Duration::from_millis(limit), "{what}: {quickest:?}");
}

#[tokio::test]
async fn a10_hostile_user_files_end_a_start_quickly_in_an_error() {
    let bench = Bench::new().await;
    type Make = fn(&Path);
    let cases: [(&str, &str, Make); 8] = [
        ("a FIFO", "passwd", |path| node(path, rustix::fs::FileType::Fifo, 0)),
        ("/dev/zero", "passwd", |path| {
            node(path, rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5));
        }),
        ("a socket", "group", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("a link to itself", "passwd", |path| symlink("passwd", path).unwrap()),
        ("a link to the host's", "passwd", |path| {
            symlink("../../../../../../../../../../../../../../etc/passwd", path).unwrap();
        }),
        ("a link of procfs", "group", |path| symlink("/proc/self/fd/0", path).unwrap()),
        ("2 GiB of nothing", "passwd", |path| fs::File::create(path).unwrap().set_len(2 << 30).unwrap()),
        ("a million members", "group", |path| {
            fs::write(path, format!("web:x:1000:{}\n", "m,".repeat(1_000_000))).unwrap();
        }),
    ];
    for (number, (what, file, make)) in cases.into_iter().enumerate() {
        let layer = bench.dir.path().join(format!("hostile-{number}"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        make(&layer.join("etc").join(file));
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let id = ContainerId::random();
            let mut spec = bench.spec(&id, &["true"]);
            spec.rootfs = bench.rootfs(&id, std::slice::from_ref(&layer));
            // A name of the host's, and a group for the other file.
            spec.user = "daemon:web".to_owned();
            let begin = Instant::now();
            let error = bench.runtime.create(&id, &spec).await.expect_err(what);
            quickest = quickest.min(begin.elapsed());
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::InvalidArgument), "{what}: {error}");
        }
        assert_in_time(quickest, what);
    }
}

#[tokio::test]
async fn a10_a_container_that_changes_its_user_files_delays_no_exec() {
    let bench = Bench::new().await;
    for change in [
        "mknod /etc/passwd p",
        "ln -s /dev/zero /etc/passwd",
        "ln -s /proc/1/root/etc/passwd /etc/passwd",
        "ln -s passwd /etc/passwd",
        "dd if=/dev/zero of=/etc/passwd bs=1 count=1 seek=2147483647",
    ] {
        let id = bench.start(&["sleep", "1000"], |spec| _ = spec.oci.set_root(None)).await;
        let script = format!("rm /etc/passwd; {change}");
        let changed = bench.exec(&id, &["sh", "-c", &script]).await;
        assert!(changed.status.success(), "{change}: {changed:?}");
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let begin = Instant::now();
            let exec = ExecSpec::new(["true"]).with_user("daemon");
            let error = bench.runtime.exec(&id, &exec, AttachOptions::default()).await.expect_err(change);
            quickest = quickest.min(begin.elapsed());
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::InvalidArgument), "{change}: {error}");
        }
        assert_in_time(quickest, change);
        bench.runtime.delete(&id).await.unwrap();
    }
}
