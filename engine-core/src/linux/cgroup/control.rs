//! Freezing, killing and what the kernel tells about distress.
//!
//! The calls block, for as long as the processes take: call them on a thread that may.
//! On a hybrid host the unified hierarchy is used where the kernel allows it: unlike v1's freezer, it lets a frozen
//! process be killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cgroups_rs::freezer::{FreezerController, FreezerState};
use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroup, files};
use crate::error::{Error, ErrorKind, Result};
use crate::stats::Pressure;

/// A process in an uninterruptible call (a hung disk) can be neither frozen nor killed.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Freezes all processes and returns when they stand still.
    ///
    /// # Errors
    /// [`ErrorKind::DeadlineExceeded`] after five seconds; they run again then.
    pub fn freeze(&self) -> Result<()> {
        let freezer = self.freezer()?;
        freezer.set(true)?;
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        while !freezer.is_frozen()? {
            if Instant::now() >= deadline {
                freezer.set(false)?;
                return Err(Error::new(ErrorKind::DeadlineExceeded, "freeze cgroup")
                    .with("path", freezer.dir.display())
                    .with_message("a process could not be stopped"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
            if !freezer.unified {
                // v1's freezer may miss a process that was being forked: asking again completes it.
                freezer.set(true)?;
            }
        }
        Ok(())
    }

    /// Lets frozen processes run again. Those that run already are fine.
    ///
    /// # Errors
    /// As write(2).
    pub fn thaw(&self) -> Result<()> {
        self.freezer()?.set(false)
    }

    /// Whether all processes stand still.
    ///
    /// # Errors
    /// As read(2).
    pub fn is_frozen(&self) -> Result<bool> {
        self.freezer()?.is_frozen()
    }

    fn freezer(&self) -> Result<Freezer<'_>> {
        let unified = self.unified_dir().filter(|dir| dir.join("cgroup.freeze").exists());
        let v1 = || self.with("freezer").map(|group| group.dir.as_path());
        match (unified, v1()) {
            (Some(dir), _) => Ok(Freezer { dir, unified: true }),
            (None, Some(dir)) if dir.exists() => Ok(Freezer { dir, unified: false }),
            _ => Err(Error::new(ErrorKind::NotFound, "freeze cgroup")
                .with_message("no such cgroup, or no freezer")),
        }
    }

    /// Kills every process, in groups beneath too, frozen or not, and returns when none is left but zombies. A group
    /// that is gone is fine.
    ///
    /// # Errors
    /// [`ErrorKind::DeadlineExceeded`] after five seconds.
    pub fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        if let Some(dir) = self.unified_dir() {
            // Kernels before 5.14 lack it, and the loop does it.
            let _ = files::try_write(dir, "cgroup.kill", "1");
        }
        let mut pause = Duration::from_micros(100);
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            for pid in left.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
                // One that is gone by now has ended as it should.
                let _ = kill_process(pid, Signal::KILL);
            }
            // A process frozen by v1 dies only when it thaws.
            let _ = self.thaw();
            if let Some(group) = self.with("freezer") {
                let _ = files::try_write(&group.dir, "freezer.state", "THAWED");
            }
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::DeadlineExceeded, "kill cgroup")
                    .with("processes", format!("{left:?}"))
                    .with_message("a process does not end"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// The processes in the group and beneath it, as this process numbers them.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for group in &self.groups {
            collect(&group.dir, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// How many processes the kernel killed here because memory ran out.
    ///
    /// # Errors
    /// As read(2).
    pub fn oom_kills(&self) -> Result<u64> {
        let Some((file, dir)) = self.oom_file() else { return Ok(0) };
        Ok(files::read(&dir, file)?.and_then(|text| files::keyed(&text, "oom_kill")).unwrap_or(0))
    }

    /// The file with the line `oom_kill <number>`, for whoever reads it when the container has ended.
    #[must_use]
    pub fn oom_counter(&self) -> Option<PathBuf> {
        self.oom_file().map(|(file, dir)| dir.join(file))
    }

    fn oom_file(&self) -> Option<(&'static str, PathBuf)> {
        let group = self.with("memory")?;
        Some((if group.mount.unified { "memory.events" } else { "memory.oom_control" }, group.dir.clone()))
    }

    /// How long tasks waited for `cpu`, `memory` or `io`; `None` where the kernel does not tell.
    ///
    /// # Errors
    /// As read(2).
    pub fn pressure(&self, resource: &str) -> Result<Option<Pressure>> {
        let known = ["cpu", "memory", "io"].contains(&resource);
        let Some(dir) = self.unified_dir().filter(|_| known) else { return Ok(None) };
        match files::read(dir, &format!("{resource}.pressure")) {
            Ok(text) => Ok(text.map(|text| pressure(&text))),
            // The kernel was started with psi=0.
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let field =
            |key: &str| line.split(' ').find_map(|field| field.strip_prefix(key)?.parse::<f64>().ok());
        let avg10 = field("avg10=").unwrap_or(0.0);
        let total = Duration::from_micros(field("total=").unwrap_or(0.0) as u64);
        if line.starts_with("some ") {
            (pressure.some_avg10, pressure.some_total) = (avg10, total);
        } else if line.starts_with("full ") {
            (pressure.full_avg10, pressure.full_total) = (avg10, total);
        }
    }
    pressure
}

fn collect(dir: &Path, pids: &mut Vec<u32>) {
    if let Ok(Some(text)) = files::read(dir, "cgroup.procs") {
        // 0 is a process outside of our pid namespace: not ours to kill.
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        for child in files::children(dir) {
            collect(&child, pids);
        }
    }
}

struct Freezer<'a> {
    dir: &'a Path,
    unified: bool,
}

impl Freezer<'_> {
    fn set(&self, frozen: bool) -> Result<()> {
        let freezer = FreezerController::new(self.dir.to_owned(), self.unified);
        let result = if frozen { freezer.freeze() } else { freezer.thaw() };
        result.map_err(|error| files::foreign(self.dir, error))
    }

    fn is_frozen(&self) -> Result<bool> {
        if self.unified {
            // cgroup.freeze only tells what was asked for; cgroup.events what is.
            let events = files::read(self.dir, "cgroup.events")?.unwrap_or_default();
            return Ok(files::keyed(&events, "frozen") == Some(1));
        }
        let state = FreezerController::new(self.dir.to_owned(), false).state();
        Ok(matches!(state.map_err(|error| files::foreign(self.dir, error))?, FreezerState::Frozen))
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text =
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.25 avg60=0 avg300=0 total=7";
        let read = pressure(text);
        assert_eq!((read.some_avg10, read.full_avg10), (1.5, 0.25));
        assert_eq!((read.some_total, read.full_total), (Duration::from_secs(2), Duration::from_micros(7)));
        assert_eq!(pressure("garbage"), Pressure::default());
    }
}
