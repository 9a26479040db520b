//! The floor: what starting a container costs when nothing but the kernel is involved.
//!
//! Makes the same namespaces (pid, mnt, uts, ipc, net, cgroup), overlay and other mounts, device nodes and cgroups as the engine's shim
//! does for a container that asks for nothing, runs a payload, reaps it and removes what it made. No seccomp filter, no capabilities, no
//! log, no record: whatever an engine takes beyond this is its own. Prints one duration in nanoseconds a line.

#[expect(
    unsafe_code,
    reason = "clone3 has no safe wrapper; the only module of this program with unsafe code"
)]
mod sys;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use rustix::{
    fs::{Mode, mknodat},
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount,
        unmount,
    },
};

/// Starts, reaps and removes minimal containers; prints nanoseconds.
#[derive(Debug, Parser)]
struct Options {
    /// How often.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// The lower directory of the root file system: holds the payload.
    #[arg(long)]
    lower: PathBuf,
    /// Where upper directories are made.
    #[arg(long)]
    work: PathBuf,
    /// The payload, as a path in the container.
    #[arg(long, default_value = "/true")]
    program: String,
    /// Without a network namespace.
    #[arg(long)]
    no_net: bool,
    /// Without cgroups and their namespace.
    #[arg(long)]
    no_cgroup: bool,
    /// Without a container: only spawns and reaps the payload (the floor of exec).
    #[arg(long)]
    spawn: bool,
}

const MASKED: [&str; 13] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/fs/selinux",
];
const READONLY: [&str; 6] =
    ["proc/asound", "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn main() -> Result<()> {
    let options = Options::parse();
    let hierarchies = if options.no_cgroup { Vec::new() } else { hierarchies() };
    fs::create_dir_all(&options.work)?;
    let mut out = io::stdout().lock();
    for round in 0..options.rounds {
        let start = Instant::now();
        if options.spawn {
            let program = options.lower.join(options.program.trim_start_matches('/'));
            Command::new(program).status()?;
        } else {
            container(&options, &hierarchies, round)?;
        }
        writeln!(out, "{}", start.elapsed().as_nanos())?;
    }
    Ok(())
}

/// A cgroup hierarchy: where it is mounted, its type and the options that mount it again.
struct Hierarchy {
    point: PathBuf,
    kind: String,
    data: String,
}

fn hierarchies() -> Vec<Hierarchy> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut all = Vec::new();
    for fields in table.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
        if fields.len() > 3 && matches!(fields[2], "cgroup" | "cgroup2") {
            let own =
                |option: &&str| !matches!(*option, "rw" | "ro" | "relatime" | "nosuid" | "nodev" | "noexec");
            let data = fields[3].split(',').filter(own).collect::<Vec<_>>().join(",");
            all.push(Hierarchy { point: fields[1].into(), kind: fields[2].into(), data });
        }
    }
    all
}

fn container(options: &Options, hierarchies: &[Hierarchy], round: usize) -> Result<()> {
    let name = format!("engine-floor-{}-{round}", std::process::id());
    let dir = options.work.join(&name);
    fs::create_dir(&dir)?;
    for part in ["upper", "work", "root"] {
        fs::create_dir(dir.join(part))?;
    }
    let groups: Vec<_> = hierarchies.iter().map(|hierarchy| hierarchy.point.join(&name)).collect();
    for group in &groups {
        fs::create_dir(group).with_context(|| format!("mkdir {}", group.display()))?;
        if group.starts_with("/sys/fs/cgroup/cpuset") {
            // cpuset(7): a v1 cpuset takes no process before it has processors and memory nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let parent = fs::read(group.with_file_name(file))?;
                fs::write(group.join(file), parent)?;
            }
        }
    }
    let child = sys::clone_namespaces(!options.no_net, || {
        let Err(error) = child(options, hierarchies, &groups, &dir);
        let _ = writeln!(io::stderr(), "floor: {error:#}");
    })?;
    let code = sys::wait(child)?;
    for group in &groups {
        fs::remove_dir(group)?;
    }
    fs::remove_dir_all(&dir)?;
    anyhow::ensure!(code == 0, "the payload ended with {code}");
    Ok(())
}

enum Never {}

fn child(options: &Options, hierarchies: &[Hierarchy], groups: &[PathBuf], dir: &Path) -> Result<Never> {
    for group in groups {
        fs::write(group.join("cgroup.procs"), "0").context("join a cgroup")?;
    }
    if !groups.is_empty() {
        sys::unshare_cgroup()?;
    }
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let readonly = plain | MountFlags::RDONLY;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = dir.join("root");
    let overlay = format!(
        "lowerdir={},upperdir={},workdir={}",
        options.lower.display(),
        dir.join("upper").display(),
        dir.join("work").display()
    );
    let data = |text: &str| std::ffi::CString::new(text).context("a NUL in mount options");
    mount("overlay", &root, "overlay", MountFlags::empty(), &*data(&overlay)?).context("overlay")?;
    std::env::set_current_dir(&root)?;
    mount("proc", "proc", "proc", plain, None)?;
    mount("tmpfs", "dev", "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, &*data("mode=755,size=65536k")?)?;
    for part in ["dev/pts", "dev/shm", "dev/mqueue"] {
        fs::create_dir(part)?;
    }
    let pts = data("newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount("devpts", "dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, &*pts)?;
    mount("shm", "dev/shm", "tmpfs", plain, &*data("mode=1777,size=65536k")?)?;
    mount("mqueue", "dev/mqueue", "mqueue", plain, None)?;
    // Without a network namespace of its own, a process may still mount sysfs here: it is root.
    mount("sysfs", "sys", "sysfs", readonly, None)?;
    if !hierarchies.is_empty() {
        if hierarchies.iter().any(|hierarchy| hierarchy.point == Path::new("/sys/fs/cgroup")) {
            mount("cgroup", "sys/fs/cgroup", "cgroup2", readonly, None)?;
        } else {
            mount("tmpfs", "sys/fs/cgroup", "tmpfs", plain, &*data("mode=755")?)?;
            for hierarchy in hierarchies {
                let point = Path::new("sys/fs/cgroup").join(hierarchy.point.file_name().context("a name")?);
                fs::create_dir(&point)?;
                mount("cgroup", &point, hierarchy.kind.as_str(), readonly, &*data(&hierarchy.data)?)?;
            }
            mount_remount("sys/fs/cgroup", readonly, "")?;
        }
    }
    for (name, major, minor) in DEVICES {
        let path = Path::new("dev").join(name);
        let kind = rustix::fs::FileType::CharacterDevice;
        mknodat(rustix::fs::CWD, &path, kind, Mode::from_raw_mode(0o666), rustix::fs::makedev(major, minor))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ] {
        symlink(target, Path::new("dev").join(name))?;
    }
    etc_files()?;
    for path in MASKED {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => mount("tmpfs", path, "tmpfs", readonly, None)?,
            Ok(_) => mount_bind("dev/null", path)?,
            Err(_) => {}
        }
    }
    for path in READONLY.iter().filter(|path| Path::new(path).exists()) {
        mount_bind(*path, *path)?;
        mount_remount(*path, readonly | MountFlags::BIND, "")?;
    }
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    rustix::system::sethostname(b"floor")?;
    Err(sys::exec(&options.program).into())
}

/// hosts, hostname and resolv.conf: one tmpfs, three binds.
fn etc_files() -> Result<()> {
    mount("tmpfs", "dev/shm", "tmpfs", MountFlags::NOSUID, None)?;
    for name in ["hosts", "hostname", "resolv.conf"] {
        let (source, target) = (Path::new("dev/shm").join(name), Path::new("etc").join(name));
        fs::write(&source, "127.0.0.1 localhost\n")?;
        if !target.exists() {
            fs::write(&target, "")?;
        }
        mount_bind(&source, &target)?;
    }
    unmount("dev/shm", UnmountFlags::DETACH)?;
    Ok(())
}
