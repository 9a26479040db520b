//! Hostile archives (SECURITY C1, C2, C4, C5): whatever they hold, nothing outside of the directory changes.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use engine_testkit::{Sentinel, require};

use super::{CopyRules, UnpackOptions, Whiteouts};
use crate::error::{Error, ErrorKind};
use crate::tar::TarLimits;
use crate::tar::build::{Archive, Block};

/// Unpacks on a thread with its own umask, as the pipeline does.
pub(super) fn unpack_into(
    root: &Path,
    bytes: &[u8],
    whiteouts: Whiteouts,
) -> Result<super::UnpackSummary, Error> {
    unpack_with(root, bytes, UnpackOptions { whiteouts, tar: TarLimits::default(), copy: None })
}

fn unpack_with(root: &Path, bytes: &[u8], options: UnpackOptions) -> Result<super::UnpackSummary, Error> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            rustix::process::umask(rustix::fs::Mode::empty());
            let fd = OwnedFd::from(fs::File::open(root).unwrap());
            let scratch = fd.try_clone().unwrap();
            super::unpack(bytes, fd, &scratch, options).map(|(summary, _)| summary).map_err(Error::from)
        });
        worker.join().expect("the parser never panics")
    })
}

/// A directory to unpack into with a sentinel beside it.
struct Arena {
    _dir: tempfile::TempDir,
    outside: PathBuf,
    root: PathBuf,
    sentinel: Sentinel,
}

impl Arena {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let root = dir.path().join("a/b/root");
        fs::create_dir(&outside).unwrap();
        fs::create_dir_all(&root).unwrap();
        Sentinel::plant(&outside);
        let sentinel = Sentinel::record(&outside);
        Self { outside, root, sentinel, _dir: dir }
    }

    fn assert_untouched(&self, what: &str) {
        let differences = self.sentinel.differences(&Sentinel::record(&self.outside));
        assert!(differences.is_empty(), "{what}: {differences:?}");
        let beside: Vec<_> = fs::read_dir(self.root.parent().unwrap()).unwrap().collect();
        assert_eq!(beside.len(), 1, "{what}: something was made beside the root");
        assert_eq!(fs::read_dir(self.root.ancestors().nth(2).unwrap()).unwrap().count(), 1, "{what}");
    }

    fn clear(&self) {
        let fd = OwnedFd::from(fs::File::open(&self.root).unwrap());
        crate::linux::image_store::remove::remove_content(&fd).unwrap();
    }
}

/// Every way to name something that is not beneath the root, crossed with every kind of entry.
fn corpus(outside: &Path) -> Vec<(String, Vec<u8>)> {
    let absolute = outside.to_str().unwrap();
    let up = "../".repeat(20);
    let names = [
        "../escape".to_owned(),
        "../../outside/escape".to_owned(),
        format!("{up}{}", &absolute[1..]),
        format!("{absolute}/escape"),
        format!("/{absolute}//escape"),
        "d/../../escape".to_owned(),
        "d/..".to_owned(),
        "..".to_owned(),
        "./..".to_owned(),
        "/..".to_owned(),
        ".".to_owned(),
        "/".to_owned(),
        "//".to_owned(),
        "d/./../../../outside/file".to_owned(),
        format!("{}x", "a/".repeat(60)),
        format!("{}x", "a/../".repeat(400)),
        "x".repeat(300),
        "\x01\x7f\n\r".to_owned(),
        "link/escape".to_owned(),
        "link/sub/escape".to_owned(),
        "chain/escape".to_owned(),
        "loop/escape".to_owned(),
        "rel/escape".to_owned(),
        "file/escape".to_owned(),
        "proc/self/root/escape".to_owned(),
        "link".to_owned(),
        ".wh..".to_owned(),
        ".wh...".to_owned(),
        ".wh.".to_owned(),
        "link/.wh.file".to_owned(),
        "link/.wh..wh..opq".to_owned(),
        ".wh.link".to_owned(),
        "d/.wh.../escape".to_owned(),
    ];
    let prepare = || {
        let mut a = Archive::new();
        a.dir("d", 0o755).file("file", b"x").symlink("link", absolute).symlink("chain", "link");
        a.symlink("loop", "loop").symlink("rel", &format!("{up}{}", &absolute[1..])).symlink("proc", "/proc");
        a
    };
    let mut cases = Vec::new();
    for name in &names {
        for kind in *b"012345670\0S" {
            let mut a = prepare();
            let mut block = Block::ustar(b"", kind, 0);
            block.mode(0o6777).link(absolute.as_bytes()).device(1, 3);
            if name.len() <= 100 {
                block.put(0, name.as_bytes());
            } else {
                a.long(b'L', name.as_bytes());
            }
            a.block(&block);
            cases.push((format!("{name:.60} as {}", char::from(kind.max(b'0'))), a.end()));
        }
    }
    let deep = format!("{}x", "a/".repeat(2000));
    cases.push(("2000 directories".to_owned(), prepare().long(b'L', deep.as_bytes()).file("x", b"").end()));
    // Links whose targets lead out, then something through them.
    for target in names.iter().chain([&absolute.to_owned(), &up]) {
        for first in [b'1', b'2'] {
            for second in *b"0125" {
                let mut a = prepare();
                let mut link = Block::ustar(b"evil", first, 0);
                link.link(target.as_bytes());
                if target.len() > 100 {
                    a.long(b'K', target.as_bytes());
                }
                a.block(&link);
                let mut through = Block::ustar(b"evil/file", second, 0);
                through.mode(0o777).owner(4242, 4242).link(b"evil");
                a.block(&through).block(Block::ustar(b"evil", b'5', 0).mode(0o4777).owner(4242, 4242));
                cases.push((
                    format!("{}-link to {target:.60} then {}", char::from(first), char::from(second)),
                    a.end(),
                ));
            }
        }
    }
    // A directory that becomes a link between two entries in it; a file that does; a link over a link.
    for target in [absolute, "/", "..", &up, "d", "."] {
        cases.push((
            format!("directory becomes link {target}"),
            prepare()
                .dir("s", 0o755)
                .file("s/a", b"1")
                .symlink("s", target)
                .file("s/file", b"2")
                .dir("s", 0o777)
                .end(),
        ));
        cases.push((
            format!("file becomes link {target}"),
            prepare().file("s", b"1").symlink("s", target).file("s", b"2").end(),
        ));
        cases.push((
            format!("whiteout becomes link {target}"),
            prepare().file(".wh.s", b"").symlink("s", target).file("s/file", b"2").end(),
        ));
        cases.push((
            format!("hard link to link {target}"),
            prepare().symlink("s", target).hard_link("h", "s").file("h/file", b"2").file("h", b"3").end(),
        ));
        cases.push((
            format!("xattr through link {target}"),
            prepare()
                .symlink("s", target)
                .pax(&[(b"SCHILY.xattr.user.evil", b"1")])
                .symlink("s", target)
                .end(),
        ));
        cases.push((
            format!("PAX times on link {target}"),
            prepare().pax(&[(b"mtime", b"1.5"), (b"uid", b"77")]).symlink("s", target).end(),
        ));
    }
    cases
}

#[test]
fn c1_hostile_archives_change_nothing_outside() {
    require!(root);
    let arena = Arena::new();
    let cases = corpus(&arena.outside);
    assert!(cases.len() >= 300, "{}", cases.len());
    let (mut accepted, mut refused) = (0, 0);
    for whiteouts in [Whiteouts::Overlay, Whiteouts::ApplyOnly, Whiteouts::Ignore] {
        for (what, bytes) in &cases {
            match unpack_into(&arena.root, bytes, whiteouts) {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::ResourceExhausted),
                        "{what}: {error:?}"
                    );
                    refused += 1;
                }
            }
            arena.assert_untouched(what);
            if whiteouts == Whiteouts::Overlay {
                arena.clear();
            }
        }
    }
    println!("{} archives: {accepted} accepted, {refused} refused", cases.len());
    assert!(accepted > 100 && refused > 100);
}

/// Copies into the directory `in`, as into a container.
fn copy_into(root: &Path, bytes: &[u8], keep_kinds: bool) -> Result<(), Error> {
    let copy = Some(CopyRules { prefix: b"in".to_vec(), keep_kinds, ..CopyRules::default() });
    let options = UnpackOptions { whiteouts: Whiteouts::Plain, tar: TarLimits::default(), copy };
    unpack_with(root, bytes, options).map(drop)
}

#[test]
fn c1_hostile_archives_copied_in_change_nothing_outside() {
    require!(root);
    let arena = Arena::new();
    let (mut accepted, mut refused) = (0, 0);
    for keep_kinds in [true, false] {
        for (what, bytes) in corpus(&arena.outside) {
            fs::create_dir_all(arena.root.join("in")).unwrap();
            match copy_into(&arena.root, &bytes, keep_kinds) {
                Ok(()) => accepted += 1,
                Err(error) => {
                    let kinds = [ErrorKind::Corrupt, ErrorKind::ResourceExhausted, ErrorKind::Conflict];
                    assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
                    refused += 1;
                }
            }
            arena.assert_untouched(&what);
            arena.clear();
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 100 && refused > 100);
}

#[test]
fn c5_a_copy_makes_no_device_and_takes_no_attribute_of_overlayfs() {
    require!(root);
    let arena = Arena::new();
    fs::create_dir(arena.root.join("in")).unwrap();
    let overlay = Archive::new().pax(&[(b"SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("d", 0o755).end();
    for bytes in [
        Archive::new().device("null", b'3', 1, 3).end(),
        Archive::new().device("disk", b'4', 8, 0).end(),
        Archive::new().device("gone", b'3', 0, 0).end(),
        overlay,
    ] {
        assert_eq!(copy_into(&arena.root, &bytes, true).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    // What means something in a layer is a name like any other here.
    copy_into(&arena.root, &Archive::new().file(".wh.x", b"1").file(".wh..wh..opq", b"2").end(), true)
        .unwrap();
    assert_eq!(fs::read(arena.root.join("in/.wh.x")).unwrap(), b"1");
    assert_eq!(fs::read(arena.root.join("in/.wh..wh..opq")).unwrap(), b"2");
}

#[test]
fn c3_a_copy_of_a_malformed_archive_is_refused() {
    require!(root);
    let arena = Arena::new();
    fs::create_dir(arena.root.join("in")).unwrap();
    let mut cut = Archive::new().file("f", &[1; 2000]).end();
    cut.truncate(1000);
    let ambiguous = Archive::new().pax(&[(b"path", b"a")]).long(b'L', b"b").file("c", b"").end();
    let hidden = [Archive::new().end(), Archive::new().file("hidden", b"").end()].concat();
    for bytes in [cut, ambiguous, hidden] {
        assert_eq!(copy_into(&arena.root, &bytes, true).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn c1_names_inside_are_resolved_as_after_chroot() {
    require!(root);
    let arena = Arena::new();
    let mut a = Archive::new();
    a.dir("usr/bin", 0o755).symlink("bin", "usr/bin").symlink("abs", "/usr").symlink("up", "../../../usr");
    a.file("bin/one", b"1")
        .file("abs/two", b"2")
        .file("up/three", b"3")
        .file("/four", b"4")
        .hard_link("five", "bin/one");
    a.symlink("dangling", "made/here").file("dangling/six", b"6");
    let summary = unpack_into(&arena.root, &a.end(), Whiteouts::Overlay).unwrap();
    let read = |path: &str| fs::read_to_string(arena.root.join(path)).unwrap();
    let all = ["usr/bin/one", "usr/two", "usr/three", "four", "five", "made/here/six"].map(read);
    assert_eq!(all, ["1", "2", "3", "4", "1", "6"]);
    assert_eq!(summary.implied, [b"made".to_vec(), b"made/here".to_vec(), b"usr".to_vec()]);
    arena.assert_untouched("sound archive");
}

#[test]
fn c2_a_swapping_thread_gains_nothing() {
    require!(root);
    let arena = Arena::new();
    let mut a = Archive::new();
    a.dir("d", 0o755).dir("d/e", 0o755);
    for n in 0..10 {
        a.file(&format!("d/e/{n}"), b"payload")
            .file(&format!("d/file{n}"), b"x")
            .hard_link(&format!("d/e/h{n}"), "d/file0");
        a.block(Block::ustar(format!("d/e/dir{n}").as_bytes(), b'5', 0).mode(0o777).owner(4242, 4242));
    }
    let bytes = a.end();
    let stop = AtomicBool::new(false);
    let mut outcomes = [0_u32; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (d, e) = (arena.root.join("d"), arena.root.join("d/e"));
            while !stop.load(Ordering::Relaxed) {
                for victim in [&d, &e] {
                    let aside = arena.root.join("aside");
                    if fs::rename(victim, &aside).is_ok() {
                        let _ = std::os::unix::fs::symlink(&arena.outside, victim);
                        std::thread::yield_now();
                        let _ = fs::remove_file(victim);
                        let _ = fs::rename(&aside, victim);
                    }
                }
            }
        });
        for _ in 0..1000 {
            let outcome = unpack_into(&arena.root, &bytes, Whiteouts::Overlay);
            outcomes[usize::from(outcome.is_ok())] += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("1000 extractions: {} failed, {} succeeded", outcomes[0], outcomes[1]);
    arena.assert_untouched("swap");
}

#[test]
fn c5_what_only_overlayfs_may_have_is_refused() {
    require!(root);
    let arena = Arena::new();
    let xattr = |name: &str| {
        let key = format!("SCHILY.xattr.{name}");
        Archive::new().pax(&[(key.as_bytes(), b"y")]).dir("d", 0o755).end()
    };
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "user.overlay.opaque",
        "trusted.overlay.overlay.x",
    ] {
        let error = unpack_into(&arena.root, &xattr(name), Whiteouts::Overlay).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        arena.clear();
    }
    // Labels of another machine's security modules are left out, others kept.
    for (name, kept) in
        [("security.selinux", false), ("security.ima", false), ("user.x", true), ("trusted.x", true)]
    {
        unpack_into(&arena.root, &xattr(name), Whiteouts::Overlay).unwrap();
        let got = rustix::fs::lgetxattr(arena.root.join("d"), name, &mut [0_u8; 16][..]);
        assert_eq!(got.is_ok(), kept, "{name}");
        arena.clear();
    }
    let smuggled = [
        Archive::new().device("w", b'3', 0, 0).end(),
        Archive::new().file(".wh.w", b"").hard_link("other", "w").end(),
        Archive::new().dir(".wh.w", 0o755).end(),
        Archive::new().file(".wh.w/file", b"").end(),
        Archive::new().dir("d", 0o755).file("d/.wh..wh.plnk", b"").end(),
        Archive::new().symlink(".wh.w", "x").end(),
        Archive::new().hard_link(".wh.w", "x").end(),
        Archive::new().file("a", b"").hard_link("b", ".").end(),
        Archive::new().dir("a", 0o755).hard_link("b", "a").end(),
    ];
    for (index, bytes) in smuggled.iter().enumerate() {
        let error = unpack_into(&arena.root, bytes, Whiteouts::Overlay).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{index}");
        arena.clear();
    }
    let mut aufs = Archive::new();
    aufs.dir(".wh..wh.plnk", 0o755).file(".wh..wh.aufs", b"").file("kept", b"");
    aufs.file(".wh..wh.plnk/1.2", b"").hard_link("kept2", "kept");
    unpack_into(&arena.root, &aufs.end(), Whiteouts::Overlay).unwrap();
    assert_eq!(fs::read_dir(&arena.root).unwrap().count(), 2, "the files of aufs are left out");
}
