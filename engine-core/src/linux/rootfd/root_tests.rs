use super::*;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

/// A root and, beside it, a sentinel directory that nothing may change.
struct Tree {
    dir: tempfile::TempDir,
    root: RootFd,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("sentinel")).unwrap();
        std::fs::write(dir.path().join("sentinel/secret"), "secret").unwrap();
        let root = RootFd::open(dir.path().join("root")).unwrap();
        Self { dir, root }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn assert_sentinel(&self) {
        let names: Vec<_> = std::fs::read_dir(self.dir.path().join("sentinel")).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2);
        assert_eq!(std::fs::read(self.dir.path().join("sentinel/secret")).unwrap(), b"secret");
    }
}

const MODE: Mode = Mode::from_raw_mode(0o755);

#[test]
fn reads_and_links_stay_inside() {
    let tree = Tree::new();
    std::fs::write(tree.at("file"), "inside").unwrap();
    symlink("/file", tree.at("absolute")).unwrap();
    symlink("../../../file", tree.at("up")).unwrap();
    symlink(tree.dir.path().join("sentinel/secret"), tree.at("out")).unwrap();
    assert_eq!(tree.root.read("absolute", 10).unwrap(), b"inside");
    assert_eq!(tree.root.read("/../up", 10).unwrap(), b"inside");
    assert_eq!(tree.root.read("out", 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(tree.root.read("file", 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(tree.root.readlink("up").unwrap(), Path::new("../../../file"));
    assert!(tree.root.readlink("file").is_err());
    assert!(!tree.root.exists("nothing").unwrap());
    tree.root.unlink("up", false).unwrap();
    assert!(!tree.root.exists("up").unwrap());
}

#[test]
fn mkdir_all_keeps_what_exists() {
    let tree = Tree::new();
    tree.root.mkdir_all("a", Mode::from_raw_mode(0o700)).unwrap();
    tree.root.mkdir_all("/a/b/../b/./c/", MODE).unwrap();
    assert_eq!(tree.at("a").metadata().unwrap().mode() & 0o7777, 0o700);
    assert!(tree.at("a/b/c").is_dir());
    std::fs::write(tree.at("file"), "").unwrap();
    assert_eq!(tree.root.mkdir_all("file/x", MODE).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    assert_eq!(tree.root.create_file("a", MODE, MODE).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    tree.root.create_file("etc/hosts", MODE, Mode::from_raw_mode(0o644)).unwrap();
    assert!(tree.at("etc/hosts").is_file());
}

/// A directory and a file are made at each of many targets, every component of which is a link of some kind.
#[test]
fn a1_targets_behind_links_stay_inside() {
    let tree = Tree::new();
    let outside = tree.dir.path().join("sentinel");
    let outside = outside.to_str().unwrap();
    let mut variants = 0;
    for (n, target) in [
        outside,
        "../sentinel",
        "../../../../../../../..",
        "/../../sentinel",
        "dangling/in/side",
        "/dangling/absolute",
        "../../dangling",
        "/proc/self/root",
        "/proc/1/cwd",
        ".",
        "/",
        "chain0",
        "/chain0",
    ]
    .into_iter()
    .enumerate()
    {
        for (m, place) in
            ["x", "x/y", "x/y/z", "../x", "/x/../x/y", "./x//y/", "x/../../x/y", "x/y/../../../x"]
                .into_iter()
                .enumerate()
        {
            let base = format!("v{n}-{m}");
            let dir = tree.at(&base);
            std::fs::create_dir(&dir).unwrap();
            symlink(target, dir.join("x")).unwrap();
            symlink("chain1", dir.join("chain0")).unwrap();
            symlink(outside, dir.join("chain1")).unwrap();
            for file in [false, true] {
                let path = format!("{base}/{place}");
                let result = if file {
                    tree.root.create_file(format!("{path}/leaf"), MODE, MODE)
                } else {
                    tree.root.mkdir_all(&path, MODE)
                };
                // Either it fails, or what it made is inside: the kernel knows the path of a descriptor.
                if let Ok(fd) = result {
                    let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
                    assert!(real.starts_with(tree.at("")), "{path}: {}", real.display());
                }
                variants += 1;
            }
        }
    }
    assert!(variants >= 200, "{variants}");
    tree.assert_sentinel();
}

#[test]
fn a1_loops_and_magic_links_end_in_an_error() {
    let tree = Tree::new();
    symlink("loop", tree.at("loop")).unwrap();
    let error = tree.root.mkdir_all("loop/x", MODE).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    // With the host's own root, procfs is really there.
    let host = RootFd::open("/").unwrap();
    assert!(host.handle("/proc/self/root/etc").is_err());
    assert!(host.mkdir_all("/proc/self/cwd", MODE).is_err());
    assert!(host.handle("/proc/self/fd/0").is_err());
}

/// One thread swaps a directory for a link to the outside while another makes files behind it.
#[test]
fn a5_swapped_links_never_lead_out() {
    let tree = Tree::new();
    std::fs::create_dir(tree.at("swap")).unwrap();
    symlink(tree.dir.path().join("sentinel"), tree.at("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let fd = std::fs::File::open(tree.at("")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(&fd, "swap", &fd, "link", rustix::fs::RenameFlags::EXCHANGE)
                    .unwrap();
            }
        });
        for n in 0..10_000 {
            let name = format!("swap/dir{}/file{}", n % 7, n % 100);
            let _ = tree.root.create_file(&name, MODE, MODE);
            let _ = tree.root.read("swap/secret", 100).map(|bytes| assert!(bytes.is_empty()));
            let _ = tree.root.mkdir_all(format!("swap/sub{}", n % 50), MODE);
        }
        stop.store(true, Ordering::Relaxed);
    });
    tree.assert_sentinel();
}

#[test]
fn a10_only_regular_files_are_opened() {
    let tree = Tree::new();
    rustix::fs::mknodat(&tree.root, "fifo", FileType::Fifo, MODE, 0).unwrap();
    symlink("/dev/zero", tree.at("link")).unwrap();
    std::fs::create_dir(tree.at("dir")).unwrap();
    for name in ["fifo", "dir"] {
        assert_eq!(tree.root.read(name, 10).unwrap_err().kind(), io::ErrorKind::InvalidData, "{name}");
    }
    assert_eq!(tree.root.read("link", 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    let host = RootFd::open("/").unwrap();
    assert_eq!(host.read("dev/zero", 10).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
