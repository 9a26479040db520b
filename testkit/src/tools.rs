//! Finding and calling programs, directories shared between tests.

use std::{
    env,
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the full path of a program in `PATH` or a system directory that root's `PATH` may lack.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| PathBuf::from(name));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a program to its end and returns its standard output.
///
/// # Panics
/// When it cannot be started or fails; the message holds the command line and its standard error.
pub fn command<I, S>(program: &str, args: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let path = find(program).unwrap_or_else(|| panic!("{program} is not installed: run .ci/setup"));
    let mut command = Command::new(path);
    command.args(args);
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    if !output.status.success() {
        panic!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the workspace's top directory.
pub fn workspace_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Returns the directory whose content outlives a test run: `$ENGINE_TEST_CACHE`, else `engine-test-cache` in
/// the target directory.
pub fn cache_dir() -> PathBuf {
    let dir = env::var_os("ENGINE_TEST_CACHE").map_or_else(
        || {
            let target =
                env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_dir().join("target"), PathBuf::from);
            target.join("engine-test-cache")
        },
        PathBuf::from,
    );
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    dir
}

/// Returns a TCP port of 127.0.0.1 that nobody listened on a moment ago.
///
/// # Panics
/// When the kernel has none left.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind 127.0.0.1:0");
    listener.local_addr().expect("local address").port()
}
