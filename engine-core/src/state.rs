//! The states a container and its processes can be in, and how they end.

use std::fmt;
use std::time::SystemTime;

use crate::health::Health;
use serde::{Deserialize, Serialize};

/// What a container is doing, in Docker's words.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ContainerStatus {
    /// Recorded, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and will be started again by its restart policy.
    Restarting,
    /// Its process ended.
    Exited,
    /// It failed to be removed or repaired.
    Dead,
}

impl ContainerStatus {
    /// Returns Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Returns whether a process of the container exists.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl fmt::Display for ContainerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExitStatus {
    /// The exit code, or 128 + n if signal n ended the process.
    pub code: u8,
    /// Whether the kernel ended a process of the container because its memory limit was reached.
    pub oom_killed: bool,
}

impl ExitStatus {
    /// Creates a status with `code`.
    #[must_use]
    pub fn new(code: u8) -> Self {
        Self { code, oom_killed: false }
    }

    /// Marks the out-of-memory kill.
    #[must_use]
    pub fn with_oom_killed(mut self, oom_killed: bool) -> Self {
        self.oom_killed = oom_killed;
        self
    }

    /// Returns whether the process ended with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)
    }
}

/// The running state of a container, as its runtime knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RuntimeState {
    /// What it is doing. A sandbox that was created and not started is `Created`.
    pub status: ContainerStatus,
    /// The host's process id of the container's init, while one exists.
    pub pid: Option<u32>,
    /// When the process started.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub finished_at: Option<SystemTime>,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// How often its restart policy has run it again since it was started.
    pub restart_count: u32,
    /// Whether somebody asked it to end, so that no restart policy applies.
    pub stopped: bool,
    /// Whether its end was seen by nobody: what watched over it was killed, or the machine went down. The runtime has told
    /// no events of such an end.
    pub lost: bool,
    /// Its health, if it has a check. After its end, what was found last.
    pub health: Option<Health>,
}

impl RuntimeState {
    /// Creates a state with only a status.
    #[must_use]
    pub fn new(status: ContainerStatus) -> Self {
        Self {
            status,
            pid: None,
            started_at: None,
            finished_at: None,
            exit: None,
            restart_count: 0,
            stopped: false,
            lost: false,
            health: None,
        }
    }
}
