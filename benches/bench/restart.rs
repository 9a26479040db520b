//! From the death of a container's process to its next run, by restart policy.
//!
//! The payload adds a line to a file of a bind mount as soon as it runs. The clock starts when its process is killed, and
//! stops when this program sees the second line: the same way for every engine, a shell's start included.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// What a container runs whose directory `/out` is bound from the host.
pub(crate) const COMMAND: [&str; 4] = ["/bin/busybox", "sh", "-c", "echo >> /out/log; exec /pause"];
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the directory to bind, empty.
pub(crate) fn directory(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("log"), "")?;
    Ok(())
}

/// Waits until the payload has run `times` times.
pub(crate) fn wait(dir: &Path, times: u64) -> Result<()> {
    let start = Instant::now();
    while fs::metadata(dir.join("log"))?.len() < times {
        ensure!(start.elapsed() < PATIENCE, "it did not run again");
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

/// Kills the container's process, the first that it has, and returns the nanoseconds until it runs again.
pub(crate) fn kill(dir: &Path, pid: &str) -> Result<u128> {
    wait(dir, 1)?;
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().context("a process id")?)
        .context("a process id")?;
    let start = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    wait(dir, 2)?;
    Ok(start.elapsed().as_nanos())
}
