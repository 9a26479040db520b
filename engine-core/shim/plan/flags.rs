//! Flag bits and kinds inside the records.

/// Bits of [`super::tag::CONFIG`].
pub mod option {
    /// Standard streams are a pseudo-terminal.
    pub const TTY: u32 = 1;
    /// Standard input is a pipe kept by the shim; otherwise it is `/dev/null`.
    pub const STDIN: u32 = 1 << 1;
    /// The first attached client that ends its input closes the container's.
    pub const STDIN_ONCE: u32 = 1 << 2;
    /// `PR_SET_NO_NEW_PRIVS`.
    pub const NO_NEW_PRIVS: u32 = 1 << 4;
    /// The root mount becomes read-only last.
    pub const READONLY_ROOT: u32 = 1 << 5;
    /// Process 1 is the shim's child, which reaps and forwards signals to the payload.
    pub const INIT: u32 = 1 << 6;
    /// Make the working directory if it is missing.
    pub const CREATE_CWD: u32 = 1 << 7;
    /// The shim tells its pid and gets the directories of the container once it was put into a cgroup.
    pub const PLACED: u32 = 1 << 8;
}

/// Bits of [`super::tag::CGROUP`].
pub mod cgroup {
    /// The container's processes join it.
    pub const JOIN: u32 = 1;
    /// It is a cgroup v2 directory: joined by `CLONE_INTO_CGROUP`.
    pub const UNIFIED: u32 = 1 << 1;
    /// Removed when the container ends.
    pub const REMOVE: u32 = 1 << 2;
    /// A cgroup v1 freezer: thawed before the container is killed, or the signal would wait.
    pub const FREEZER: u32 = 1 << 3;
}

/// Kinds of [`super::tag::MOUNT`].
pub mod mount {
    /// A fresh filesystem by `fsopen`.
    pub const FILESYSTEM: u32 = 1;
    /// A clone of a host path by `open_tree`.
    pub const BIND: u32 = 2;
    /// A clone of an entry of the private tmpfs ([`super::PRIVATE_FILES`]); `source` names it.
    pub const FILE: u32 = 3;
    /// The pseudo-terminal of the container, onto `/dev/console`.
    pub const CONSOLE: u32 = 4;

    /// Make it inside the container's namespaces (proc, sysfs, mqueue, cgroup).
    pub const IN_CONTAINER: u32 = 1;
    /// Bind the whole tree.
    pub const RECURSIVE: u32 = 1 << 1;
    /// Apply the attributes to the whole tree.
    pub const RECURSIVE_ATTRIBUTES: u32 = 1 << 2;
    /// No component of the target may be a symbolic link (SECURITY A2, A4).
    pub const REAL_TARGET: u32 = 1 << 3;
    /// A kernel that does not know this filesystem is no failure.
    pub const OPTIONAL: u32 = 1 << 4;
    /// The container's devpts: pseudo-terminals are opened on this mount.
    pub const DEVPTS: u32 = 1 << 5;
    /// Make the mount read-only once its entries are made.
    pub const SEAL: u32 = 1 << 7;
    /// Copy what the root has at the target into the new filesystem; with [`SEAL`], that comes after it.
    pub const COPY_UP: u32 = 1 << 8;
    /// Map the mount's owners through the container's user namespace.
    pub const IDMAP: u32 = 1 << 6;
}

/// When an [`super::tag::EVENT`] happens.
pub mod event {
    /// Before the container's process runs.
    pub const AT_START: u32 = 1;
    /// After it has ended.
    pub const AT_END: u32 = 2;
}

/// Kinds of [`super::tag::RESTART`].
pub mod restart {
    /// What ended stays ended.
    pub const NEVER: u32 = 0;
    /// Whatever the end was.
    pub const ALWAYS: u32 = 1;
    /// After an exit code that is not 0.
    pub const ON_FAILURE: u32 = 2;
}

/// Kinds and actions of [`super::tag::HEALTH`].
pub mod health {
    /// Runs the command of [`super::super::tag::HEALTH_PLAN`].
    pub const COMMAND: u32 = 1;
    /// Connects.
    pub const TCP: u32 = 2;
    /// Connects, sends the request, and reads the status.
    pub const HTTP: u32 = 3;

    /// Leaves an unhealthy container alone.
    pub const NOTHING: u32 = 0;
    /// Kills it; the restart policy applies.
    pub const KILL: u32 = 1;
    /// Stops it, and runs the plan again.
    pub const RESTART: u32 = 2;
    /// Stops it for good.
    pub const STOP: u32 = 3;
}

/// The `mount` of an [`super::tag::ENTRY`] that belongs to the private tmpfs instead of a mount of the list.
pub const PRIVATE_FILES: u32 = u32::MAX;

/// `umask` of [`super::tag::USER`] that leaves 0022.
pub const DEFAULT_UMASK: u32 = u32::MAX;
