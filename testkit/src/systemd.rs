//! A real systemd, as a user's, in a control group of its own that is delegated to it.
//!
//! It needs root, cgroup v2 alone and the program `systemd`, and runs no unit but its targets (and a message bus, if asked
//! to). With it goes all that runs in it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where cgroup v2 is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// For an emulated processor on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `systemd --user`.
#[derive(Debug)]
pub struct Systemd {
    child: Child,
    runtime_dir: PathBuf,
    group: PathBuf,
    _dir: tempfile::TempDir,
}

impl Systemd {
    /// Starts one, to be asked by its own socket.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(false)
    }

    /// Starts one that runs a message bus and can be asked on that. Needs `dbus-daemon`.
    #[must_use]
    pub fn on_a_bus() -> Self {
        Self::begin(true)
    }

    fn begin(with_bus: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("systemd-").tempdir().expect("make directory");
        let (units, runtime_dir) = (dir.path().join("units"), dir.path().join("runtime"));
        fs::create_dir(&units).expect("make directory");
        fs::create_dir(&runtime_dir).expect("make directory");
        for target in ["basic", "sockets", "timers", "paths", "shutdown", "exit", "default"] {
            write(&units, &format!("{target}.target"), "[Unit]\nDefaultDependencies=no\n");
        }
        if with_bus {
            add_bus(dir.path(), &units);
        }
        // What sd_booted(3) looks at: systemd runs as a user's only where one runs as the system's.
        fs::create_dir_all("/run/systemd/system").expect("make directory");
        let name = format!("test_systemd_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let group = Path::new(CGROUPS).join(name);
        fs::create_dir(&group).expect("make cgroup");
        let script = format!("echo 0 > {}/cgroup.procs && exec systemd --user", group.display());
        let child = Command::new("/bin/sh")
            .args(["-c", &script])
            .env("XDG_RUNTIME_DIR", &runtime_dir)
            .env("SYSTEMD_UNIT_PATH", &units)
            .env("SYSTEMD_LOG_TARGET", "console")
            .env("SYSTEMD_LOG_LEVEL", "err")
            .stdin(Stdio::null())
            .spawn()
            .expect("start systemd");
        let systemd = Self { child, runtime_dir, group, _dir: dir };
        // Sockets listen before it serves; so whoever connects waits.
        let socket = systemd.runtime_dir.join(if with_bus { "bus" } else { "systemd/private" });
        wait_for("systemd listens", || UnixStream::connect(&socket).is_ok());
        systemd
    }

    /// Returns its `XDG_RUNTIME_DIR`: in it are `systemd/private` and, with a bus, `bus`.
    #[must_use]
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// Returns the names of the scopes that it knows.
    #[must_use]
    pub fn scopes(&self) -> Vec<String> {
        let units = fs::read_dir(self.runtime_dir.join("systemd/transient")).into_iter().flatten().flatten();
        let names = units.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".scope")).collect()
    }

    /// Returns the control groups of scopes in the slice with this path.
    #[must_use]
    pub fn groups(&self, slice: &str) -> Vec<PathBuf> {
        let groups = fs::read_dir(self.group.join(slice)).into_iter().flatten().flatten();
        let paths = groups.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "scope")).collect()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // What it runs (the bus) goes with its group.
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        let _ = self.child.wait();
        let end = Instant::now() + PATIENCE;
        while !remove(&self.group) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("write");
}

/// Units of a message bus, to which systemd connects once they run.
fn add_bus(dir: &Path, units: &Path) {
    // As session buses have it: without a rule, nobody receives anything.
    let policy = "<allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/>";
    let config = format!(
        "<busconfig><listen>systemd:</listen><policy context='default'>{policy}</policy></busconfig>"
    );
    write(dir, "bus.conf", &config);
    let unit = "[Unit]\nDefaultDependencies=no\n";
    write(units, "dbus.socket", &format!("{unit}[Socket]\nListenStream=%t/bus\n"));
    let program = format!("dbus-daemon --nofork --nopidfile --config-file={}/bus.conf", dir.display());
    write(units, "dbus.service", &format!("{unit}Requires=dbus.socket\n[Service]\nExecStart={program}\n"));
    write(units, "default.target", &format!("{unit}Wants=dbus.service\nAfter=dbus.service\n"));
}

/// Whether the group and all beneath it are gone.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: it does not");
        std::thread::sleep(Duration::from_millis(5));
    }
}
