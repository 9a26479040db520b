//! What all measurements share: a fresh file system, the payload's root file system, running this program and the floor.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use engine_benches::{payload_pause, payload_true};
use engine_testkit::image::{Compression, Format, Image, ImageBuilder, LayerBuilder};

/// How often what takes long is repeated.
pub(crate) const BEST_OF: usize = 5;

/// The place of all measurements; undone when dropped.
#[derive(Debug)]
pub(crate) struct Host {
    dir: PathBuf,
    loop_file: Option<tempfile::TempDir>,
}

impl Host {
    /// Makes a fresh ext4 in a loop file (a worn disk measures the disk), or takes `dir`.
    pub(crate) fn prepare(dir: Option<&Path>) -> Result<Self> {
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "engine-bench makes containers: run it as root"
        );
        let host = match dir {
            Some(dir) => Self { dir: dir.to_path_buf(), loop_file: None },
            None => {
                let temp = tempfile::Builder::new().prefix("engine-bench-").tempdir()?;
                let (file, point) = (temp.path().join("disk"), temp.path().join("mnt"));
                fs::File::create(&file)?.set_len(24 << 30)?;
                fs::create_dir(&point)?;
                run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&file))?;
                run(Command::new("mount").args(["-o", "loop,noatime,discard"]).args([&file, &point]))?;
                Self { dir: point, loop_file: Some(temp) }
            }
        };
        host.make_lower()?;
        Ok(host)
    }

    /// The unpacked root file system of the payload image.
    fn make_lower(&self) -> Result<()> {
        let lower = self.dir.join("lower");
        for part in ["proc", "dev", "sys", "etc", "tmp", "bin"] {
            fs::create_dir_all(lower.join(part))?;
        }
        for name in ["hosts", "hostname", "resolv.conf"] {
            fs::write(lower.join("etc").join(name), "")?;
        }
        for (name, program) in [("true", payload_true()), ("pause", payload_pause())] {
            fs::write(lower.join(name), program)?;
            fs::set_permissions(lower.join(name), fs::Permissions::from_mode(0o755))?;
        }
        fs::copy("/bin/busybox", lower.join("bin/busybox"))
            .context("busybox is not installed: run .ci/setup")?;
        if !lower.join("bin/true").exists() {
            symlink("busybox", lower.join("bin/true"))?;
        }
        Ok(())
    }

    /// The same root file system as an image.
    pub(crate) fn image(format: Format) -> Result<Image> {
        let busybox = fs::read("/bin/busybox").context("busybox is not installed: run .ci/setup")?;
        let mut layer = LayerBuilder::new();
        for dir in ["proc", "dev", "sys", "etc", "tmp", "bin"] {
            layer = layer.dir(dir, 0o755);
        }
        for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            layer = layer.file(name, 0o644, b"");
        }
        let layer = layer
            .file("true", 0o755, &payload_true())
            .file("pause", 0o755, &payload_pause())
            .file("bin/busybox", 0o755, &busybox)
            .symlink("bin/true", "busybox");
        let builder = ImageBuilder::new().layer(layer).format(format).compression(Compression::None);
        Ok(builder.config("StopSignal", "SIGKILL".into()).command(&["/true"]).build())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs the floor program; returns one duration a round.
    pub(crate) fn floor(&self, rounds: usize, more: &[&str]) -> Result<Vec<u64>> {
        numbers(&output(self.floor_command(rounds, more, "floor")?)?)
    }

    /// Runs the floor in `processes` processes at once and returns how long all took together.
    pub(crate) fn floor_parallel(&self, rounds: usize, processes: usize) -> Result<Vec<u64>> {
        let started = Instant::now();
        let handles: Vec<_> = (0..processes)
            .map(|number| {
                let share = rounds / processes + usize::from(number < rounds % processes);
                let command = self.floor_command(share, &[], &format!("floor-{number}"));
                thread::spawn(move || output(command?))
            })
            .collect();
        for handle in handles {
            handle.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(vec![started.elapsed().as_nanos() as u64])
    }

    fn floor_command(&self, rounds: usize, more: &[&str], work: &str) -> Result<Command> {
        let mut command = Command::new(sibling("engine-floor")?);
        command.arg("--rounds").arg(rounds.to_string());
        command.arg("--lower").arg(self.dir.join("lower")).arg("--work").arg(self.dir.join(work)).args(more);
        Ok(command)
    }

    pub(crate) fn ours(&self, what: &str, rounds: usize, argument: Option<&str>) -> Result<Vec<u64>> {
        numbers(&self.ours_text(what, rounds, argument)?)
    }

    /// Runs a measurement of the engine in a process of its own.
    pub(crate) fn ours_text(&self, what: &str, rounds: usize, argument: Option<&str>) -> Result<String> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ours", what, &rounds.to_string()]).arg(self.dir.join("engine")).args(argument);
        output(command)
    }

    pub(crate) fn peer(&self, name: &str, what: &str, rounds: usize) -> Result<Vec<u64>> {
        numbers(&self.peer_text(name, what, rounds)?)
    }

    /// Runs a measurement of a peer in a process of its own.
    pub(crate) fn peer_text(&self, name: &str, what: &str, rounds: usize) -> Result<String> {
        let program = std::env::current_exe()?;
        let mut command = if name == "crun" && Path::new("/sys/fs/cgroup/unified").exists() {
            // crun refuses a hybrid hierarchy whose unified part has controllers: it gets a mount namespace without that part.
            let mut command = Command::new("unshare");
            command
                .args(["-m", "sh", "-c", "umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\""])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(["peer", name, what, &rounds.to_string()]).arg(&self.dir);
        output(command)
    }

    /// One line about this machine.
    pub(crate) fn describe(&self) -> String {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model =
            cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let kernel = read("/proc/sys/kernel/osrelease");
        let cgroups =
            if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1 or hybrid" };
        format!("{cores} × {model}, Linux {}, cgroups {cgroups}, fresh ext4 in a loop file.", kernel.trim())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.loop_file.is_some() {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

/// Returns the path of a program built beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.is_file(), "{} is not built: use cargo build --workspace --bins", path.display());
    Ok(path)
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{}: {}", command.get_program().display(), last_line(&output.stderr));
    }
    Ok(())
}

pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{}", last_line(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line =
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("failed").trim().replace('|', "/");
    line.chars().take(200).collect()
}

fn numbers(text: &str) -> Result<Vec<u64>> {
    text.lines().map(|line| line.trim().parse().with_context(|| format!("{line:?} is no duration"))).collect()
}

/// The shortest of [`BEST_OF`] times, in milliseconds.
pub(crate) fn best(mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    best_after(|_| Ok(()), |round, ()| work(round))
}

/// As [`best`], where what `prepare` does is not measured.
pub(crate) fn best_after<T>(
    mut prepare: impl FnMut(usize) -> Result<T>,
    mut work: impl FnMut(usize, &T) -> Result<()>,
) -> Result<f64> {
    let mut best = f64::INFINITY;
    for round in 0..BEST_OF {
        let prepared = prepare(round)?;
        let start = Instant::now();
        work(round, &prepared)?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}
