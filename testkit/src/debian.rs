//! A real root filesystem: Debian's smallest, made by debootstrap once and kept in the cache directory.
//!
//! Invariant: a file in the cache is complete, for it appears by a rename, and one process makes it at a time.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

use crate::tools::{cache_dir, command};

const SUITE: &str = "bookworm";

/// Returns the path of an uncompressed tar of Debian `minbase`, made on the first call of all (about a minute).
///
/// # Panics
/// When debootstrap fails.
pub fn rootfs_tar() -> PathBuf {
    cached(&format!("debian-{SUITE}-minbase.tar"), |file| {
        let dir = tempfile::tempdir_in(cache_dir()).expect("temporary directory");
        let root = dir.path().join("rootfs");
        command("debootstrap", ["--variant=minbase".as_ref(), SUITE.as_ref(), root.as_os_str()]);
        for waste in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            let _ = fs::remove_dir_all(root.join(waste));
        }
        // debootstrap leaves /dev with device nodes; they stay: real layers have them too.
        command(
            "tar",
            ["--numeric-owner", "--sort=name", "--xattrs", "--xattrs-include=*", "--one-file-system", "-cf"]
                .map(PathBuf::from)
                .into_iter()
                .chain([file.to_path_buf(), "-C".into(), root, ".".into()]),
        );
    })
}

/// Returns the path of [`rootfs_tar`] compressed by gzip at its usual level.
///
/// # Panics
/// As [`rootfs_tar`].
pub fn rootfs_tar_gz() -> PathBuf {
    let tar = rootfs_tar();
    cached(&format!("debian-{SUITE}-minbase.tar.gz"), |file| {
        let mut from = BufReader::with_capacity(1 << 20, File::open(&tar).expect("open the tar"));
        let to = BufWriter::with_capacity(1 << 20, File::create(file).expect("create the gzip file"));
        let mut gzip = GzEncoder::new(to, Compression::new(6));
        std::io::copy(&mut from, &mut gzip).expect("compress");
        gzip.finish().expect("finish the gzip file");
    })
}

/// Returns `name` in the cache directory, calling `make` with a path to fill when it is not there yet.
fn cached(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let done = cache_dir().join(name);
    if done.is_file() {
        return done;
    }
    let lock = File::create(cache_dir().join(format!("{name}.lock"))).expect("create the lock file");
    lock.lock().expect("lock the cache entry");
    if !done.is_file() {
        let half = cache_dir().join(format!("{name}.new"));
        make(&half);
        fs::rename(&half, &done).expect("rename the cache entry");
    }
    done
}
