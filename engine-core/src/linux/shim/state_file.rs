//! The shim's state file, and whether the processes it names still are who they were.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use crate::error::{Error, ErrorKind, Result};
use crate::health::HealthStatus;

use super::failure::Failure;

/// Largest state file: the shim's buffer.
const MAX_STATE: u64 = 4096;

/// A process by id and start time, which together never name another one (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ProcessRef {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl ProcessRef {
    /// Whether that process exists and is no zombie.
    pub(crate) fn is_alive(self) -> bool {
        self.pid != 0 && start_time(self.pid).is_some_and(|start| start == self.start)
    }
}

/// Field 22 of a living process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = &stat[stat.iter().rposition(|&byte| byte == b')')? + 2..];
    let text = std::str::from_utf8(after).ok()?;
    let mut fields = text.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// What the shim last said it was doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum StateStatus {
    #[default]
    Created,
    Running,
    /// Ended, and to be run again.
    Restarting,
    Exited,
}

/// The content of a state file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShimState {
    pub(crate) status: StateStatus,
    pub(crate) boot_id: String,
    /// Path in the hierarchies; empty without one.
    pub(crate) cgroup: String,
    /// Whether output is kept.
    pub(crate) log: bool,
    pub(crate) shim: ProcessRef,
    pub(crate) init: ProcessRef,
    /// Nanoseconds since 1970, 0 for never.
    pub(crate) started: u64,
    pub(crate) finished: u64,
    /// Code, and whether the kernel killed for want of memory.
    pub(crate) exit: Option<(u8, bool)>,
    /// Why the program could not be executed.
    pub(crate) failure: Option<Failure>,
    /// How often it was run again.
    pub(crate) restarts: u32,
    /// Whether somebody asked it to end.
    pub(crate) stopped: bool,
    /// Of a container with a health check: where it is, and failures in a row.
    pub(crate) health: Option<(HealthStatus, u32)>,
}

impl ShimState {
    /// Reads the state file in `directory`; `None` if there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("state");
        let failed = |error| Error::from_io("read container state", error).with("path", path.display());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_STATE => return Err(corrupt(&path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| corrupt(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut state = Self::default();
        let mut version = None;
        for line in text.lines() {
            let (key, value) = line.split_once(' ')?;
            let numbers = || -> Option<Vec<u64>> { value.split(' ').map(|word| word.parse().ok()).collect() };
            match key {
                "version" => version = Some(value),
                "cgroup" => state.cgroup = value.to_owned(),
                "log" => state.log = value == "1",
                "boot_id" => state.boot_id = value.to_owned(),
                "status" => {
                    state.status = match value {
                        "created" => StateStatus::Created,
                        "running" => StateStatus::Running,
                        "restarting" => StateStatus::Restarting,
                        "exited" => StateStatus::Exited,
                        _ => return None,
                    }
                }
                "shim" => state.shim = process(&numbers()?)?,
                "init" => state.init = process(&numbers()?)?,
                "started" => state.started = value.parse().ok()?,
                "restarts" => state.restarts = value.parse().ok()?,
                "health" => match numbers()?[..] {
                    [status, streak] => state.health = Some((health(status)?, u32::try_from(streak).ok()?)),
                    _ => return None,
                },
                "stopped" => state.stopped = value == "1",
                "finished" => state.finished = value.parse().ok()?,
                "exit" => match numbers()?[..] {
                    [code, _signal, oom] => state.exit = Some((u8::try_from(code).ok()?, oom != 0)),
                    _ => return None,
                },
                "error" => match numbers()?[..] {
                    [step, index, errno] => {
                        let (step, index) = (u32::try_from(step).ok()?, u32::try_from(index).ok()?);
                        state.failure = Some(Failure { step, index, errno: i32::try_from(errno).ok()? });
                    }
                    _ => return None,
                },
                // Later versions may say more.
                _ => {}
            }
        }
        (version == Some("1")).then_some(state)
    }

    /// Whether the container's process may still run.
    pub(crate) fn is_alive(&self) -> bool {
        self.status != StateStatus::Exited && self.shim_is_alive()
    }

    /// Whether the shim that wrote this still is there.
    pub(crate) fn shim_is_alive(&self) -> bool {
        self.boot_id == boot_id() && self.shim.is_alive()
    }
}

fn process(numbers: &[u64]) -> Option<ProcessRef> {
    match *numbers {
        [pid, start] => Some(ProcessRef { pid: u32::try_from(pid).ok()?, start }),
        _ => None,
    }
}

fn health(status: u64) -> Option<HealthStatus> {
    // The shim's numbers, see `shim/policy.rs`.
    [HealthStatus::Starting, HealthStatus::Healthy, HealthStatus::Unhealthy]
        .get(usize::try_from(status).ok()?)
        .copied()
}

fn corrupt(path: &Path) -> Error {
    Error::new(ErrorKind::Corrupt, "read container state")
        .with("path", path.display())
        .with_message("the file is not one that a shim wrote")
}

/// The id of this boot.
pub(crate) fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "version 1\nboot_id b\nid c\nstatus exited\nshim 7 70\ninit 8 80\ncreated 1\nstarted 2\n\
                          finished 3\nrestarts 4\nstopped 1\nhealth 2 6\nexit 137 9 1\nerror 32 0 2\nfuture thing\n";

    #[test]
    fn state_files_read_back() {
        let state = ShimState::parse(SAMPLE).unwrap();
        assert_eq!((state.status, state.exit), (StateStatus::Exited, Some((137, true))));
        assert_eq!((state.shim.pid, state.init.start, state.finished), (7, 80, 3));
        assert_eq!((state.restarts, state.stopped), (4, true));
        assert_eq!(state.health, Some((HealthStatus::Unhealthy, 6)));
        assert_eq!(state.failure, Some(Failure { step: 32, index: 0, errno: 2 }));
    }

    #[test]
    fn damaged_state_files_are_refused() {
        for (from, to) in [
            ("version 1", "version 2"),
            ("exited", "asleep"),
            ("exit 137", "exit 1370"),
            ("70", "x"),
            ("health 2", "health 3"),
            ("restarts 4", "restarts x"),
        ] {
            assert!(ShimState::parse(&SAMPLE.replace(from, to)).is_none(), "{to}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let own = ProcessRef { pid: std::process::id(), start: start_time(std::process::id()).unwrap() };
        assert!(own.is_alive());
        assert!(!ProcessRef { start: own.start + 1, ..own }.is_alive());
    }
}
