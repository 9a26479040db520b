//! From a failed step to a sentence.

use std::io;

use crate::error::{Error, ErrorKind};
use crate::linux::plan::format::mount;
use crate::linux::plan::{LaunchPlan, ProcessPlan};

use super::wire::{Reply, step};

/// Which step of the shim failed, on which of its records, and the kernel's error number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) step: u32,
    pub(crate) index: u32,
    pub(crate) errno: i32,
}

impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        Self { step: reply.step, index: reply.index, errno: reply.errno }
    }
}

/// What the records of a plan are called: enough to name what failed, without keeping the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    program: String,
    /// Of the image, if known.
    architecture: String,
    cwd: String,
    mounts: Vec<Mounted>,
    entries: Vec<String>,
    cgroups: Vec<String>,
    joins: Vec<String>,
    masked: Vec<String>,
    read_only: Vec<String>,
    sysctls: Vec<String>,
}

/// What a mount is called.
#[derive(Clone, Debug, Default)]
struct Mounted {
    target: String,
    source: String,
    subpath: String,
    kind: String,
    /// Seen through id maps.
    mapped: bool,
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Names {
    /// Takes the names of a container's plan.
    pub(crate) fn of(plan: &LaunchPlan) -> Self {
        Self {
            mounts: plan
                .mounts
                .iter()
                .map(|step| Mounted {
                    target: lossy(&step.target),
                    source: lossy(&step.source),
                    subpath: lossy(&step.subpath),
                    kind: step.fstype.clone(),
                    mapped: step.flags & mount::IDMAP != 0,
                })
                .collect(),
            architecture: plan.architecture.clone(),
            entries: plan.entries.iter().map(|entry| entry.path.clone()).collect(),
            cgroups: plan.cgroups.iter().map(|cgroup| lossy(&cgroup.path)).collect(),
            joins: plan.joins.iter().map(|(_, path)| path.clone()).collect(),
            masked: plan.masked.clone(),
            read_only: plan.read_only.clone(),
            sysctls: plan.sysctls.iter().map(|(name, _)| name.clone()).collect(),
            ..Self::of_process(&plan.process)
        }
    }

    /// Takes the names of a process's plan.
    pub(crate) fn of_process(plan: &ProcessPlan) -> Self {
        Self {
            program: plan.argv.first().map(|program| lossy(program)).unwrap_or_default(),
            cwd: plan.cwd.clone(),
            ..Self::default()
        }
    }

    /// Says what failed.
    pub(crate) fn error(&self, operation: &'static str, failure: Failure) -> Error {
        let cause = io::Error::from_raw_os_error(failure.errno);
        let error = Error::from_io(operation, cause);
        let at = failure.index as usize;
        let named = |list: &[String], index: usize| list.get(index).cloned().unwrap_or_default();
        match failure.step {
            step::EXECVE => self.execve(operation, failure.errno),
            step::CWD => error
                .with_kind(ErrorKind::InvalidArgument)
                .with("working directory", &self.cwd)
                .with_message("the working directory cannot be entered"),
            step::CREATE_CWD => error
                .with("working directory", &self.cwd)
                .with_message("the working directory cannot be made"),
            step::MOUNT_SOURCE | step::MOUNT_TARGET | step::MOUNT_ATTACH => {
                let mount = self.mounts.get(at).cloned().unwrap_or_default();
                self.mount(error, failure, &mount)
            }
            step::ENTRY => error.with("entry", named(&self.entries, at)).with_message("cannot be made"),
            step::CGROUP_OPEN | step::CGROUP_JOIN => {
                error.with("cgroup", named(&self.cgroups, at)).with_message("the cgroup cannot be joined")
            }
            step::JOIN_OPEN | step::JOIN => {
                error.with("namespace", named(&self.joins, at)).with_message("the namespace cannot be joined")
            }
            step::MASK => {
                error.with("path", named(&self.masked, at)).with_message("the path cannot be masked")
            }
            step::READONLY => error
                .with("path", named(&self.read_only, at))
                .with_message("the path cannot be made read-only"),
            step::SYSCTL => error
                .with_kind(ErrorKind::InvalidArgument)
                .with("sysctl", named(&self.sysctls, at).trim_start_matches("sys/").replace('/', "."))
                .with_message("the kernel refuses the sysctl or its value"),
            // What the kernel says is all there is to say of a connection.
            step::PROBE => self.probe(operation, failure.errno),
            step::REQUEST => request(operation, failure.errno),
            step::PROBE_TIMEOUT => {
                Error::new(ErrorKind::DeadlineExceeded, operation).with_message(describe(failure.step))
            }
            other => error.with_message(describe(other)),
        }
    }

    fn execve(&self, operation: &'static str, errno: i32) -> Error {
        let cause = io::Error::from_raw_os_error(errno);
        let error = Error::from_io(operation, cause).with("command", &self.program);
        match rustix::io::Errno::from_raw_os_error(errno) {
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {
                let missing = if self.program.contains('/') {
                    "no such file in the container, or the interpreter it names is missing"
                } else {
                    "executable file not found in the container's PATH"
                };
                let error = error.with_kind(ErrorKind::CommandNotFound).with_message(missing);
                let host = crate::platform::Platform::host().architecture;
                if self.program.contains('/') && !["", host.as_str()].contains(&&*self.architecture) {
                    return error.with_hint(format!(
                        "the image is for {} and this machine is {host}: if its emulator is meant, register that with the \
                         flag F of binfmt_misc, so that containers find it",
                        self.architecture
                    ));
                }
                error
            }
            rustix::io::Errno::ACCESS => {
                error.with_kind(ErrorKind::CommandNotExecutable).with_message("permission denied")
            }
            rustix::io::Errno::NOEXEC => {
                let error = error
                    .with_kind(ErrorKind::CommandNotExecutable)
                    .with_message("not a program this machine can execute");
                let host = crate::platform::Platform::host().architecture;
                match self.architecture.as_str() {
                    "" => error.with_hint("is the image for this architecture, and does a script begin with #!?"),
                    image if image == host => error.with_hint("does the script begin with #!?"),
                    image => error.with_hint(format!(
                        "the image is for {image} and this machine is {host}: pull the image for linux/{host}, or \
                         register an emulator with binfmt_misc (such as qemu-user-static)"
                    )),
                }
            }
            _ => error.with_kind(ErrorKind::CommandNotExecutable).with_message("cannot be executed"),
        }
    }

    fn probe(&self, operation: &'static str, errno: i32) -> Error {
        let cause = io::Error::from_raw_os_error(errno);
        let message = match rustix::io::Errno::from_raw_os_error(errno) {
            rustix::io::Errno::INVAL => "the answer is not one of HTTP",
            _ => "the probe failed",
        };
        Error::from_io(operation, cause).with_message(message)
    }

    fn mount(&self, error: Error, failure: Failure, mount: &Mounted) -> Error {
        let mut error = error.with("mount", &mount.target).with("source", &mount.source);
        if !mount.subpath.is_empty() {
            error = error.with("subpath", &mount.subpath);
        }
        let errno = rustix::io::Errno::from_raw_os_error(failure.errno);
        match (failure.step, errno) {
            // What kernels answer that do not know layers by descriptor, and file systems without id maps.
            (step::MOUNT_SOURCE, rustix::io::Errno::INVAL | rustix::io::Errno::BADF | rustix::io::Errno::OPNOTSUPP)
                if mount.mapped =>
            {
                error
                    .with_kind(ErrorKind::Unsupported)
                    .with_message("the mount cannot be seen through the id maps of a user namespace")
                    .with_hint(
                        "the layers of an image need Linux 6.15, and their file system must allow id-mapped mounts \
                         (ext4, xfs, btrfs, tmpfs do); --userns=host needs neither",
                    )
            }
            (step::MOUNT_SOURCE, rustix::io::Errno::NOENT) => error
                .with_kind(ErrorKind::InvalidArgument)
                .with_message("the source of the mount does not exist"),
            (step::MOUNT_SOURCE, rustix::io::Errno::XDEV | rustix::io::Errno::LOOP)
                if !mount.subpath.is_empty() =>
            {
                error
                    .with_kind(ErrorKind::InvalidArgument)
                    .with_message("the subpath leads out of what is mounted")
            }
            (step::MOUNT_SOURCE, rustix::io::Errno::NODEV) if !mount.kind.is_empty() => error
                .with_kind(ErrorKind::Unsupported)
                .with("type", &mount.kind)
                .with_message("this kernel does not know the type of file system"),
            (step::MOUNT_SOURCE, rustix::io::Errno::INVAL) if !mount.kind.is_empty() => error
                .with_kind(ErrorKind::InvalidArgument)
                .with("type", &mount.kind)
                .with_message("the kernel refuses the options or the source of the file system"),
            (step::MOUNT_SOURCE, _) => error.with_message("the source of the mount cannot be prepared"),
            (
                step::MOUNT_TARGET,
                rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::NOTDIR,
            ) => error.with_kind(ErrorKind::InvalidArgument).with_message(
                "the mount's target in the image is a symbolic link or a file where it must not be",
            ),
            (step::MOUNT_TARGET, _) => error.with_message("the mount's target cannot be made"),
            (_, rustix::io::Errno::NOTDIR) => error
                .with_kind(ErrorKind::InvalidArgument)
                .with_message("a directory cannot be mounted over a file, nor a file over a directory"),
            _ => error.with_message("cannot be mounted"),
        }
    }
}

/// The container is in no state for what was asked.
fn request(operation: &'static str, errno: i32) -> Error {
    let message = match rustix::io::Errno::from_raw_os_error(errno) {
        rustix::io::Errno::SRCH => "the container is not running",
        rustix::io::Errno::BUSY => "it was started before",
        rustix::io::Errno::AGAIN => "too many processes were started in this container at once",
        _ => "the container cannot do this now",
    };
    Error::new(ErrorKind::Conflict, operation).with_message(message)
}

fn describe(step: u32) -> &'static str {
    match step {
        step::PLAN => "the shim refused the launch plan",
        step::SETUP => "the shim did not get the container's directories",
        step::TTY => "no terminal could be opened",
        step::CLONE => "no process could be made in new namespaces",
        step::ID_MAP => "the user namespace's id maps cannot be written",
        step::CGROUP_NAMESPACE => "no cgroup namespace could be made",
        step::PROPAGATION => "the mount namespace cannot be made private",
        step::READONLY_ROOT => "the root cannot be made read-only",
        step::PIVOT => "the root cannot be changed",
        step::HOSTNAME => "the host name cannot be set",
        step::STDIO => "the standard streams cannot be set up",
        step::RLIMIT => "a resource limit cannot be set",
        step::OOM_SCORE_ADJ => "the OOM score adjustment cannot be set",
        step::LSM => "the security label cannot be set",
        step::USER => "user and groups cannot be set",
        step::CAPABILITIES => "the capabilities cannot be set",
        step::NO_NEW_PRIVS => "no_new_privs cannot be set",
        step::SECCOMP => "the seccomp filter cannot be loaded",
        step::SOCKET => "the shim cannot serve its socket",
        step::STATE => "the state file cannot be written",
        step::ENTER => "the container's namespaces cannot be entered",
        step::PROBE_TIMEOUT => "the probe took too long and was ended",
        step::LOOPBACK => "the loopback interface cannot be brought up",
        step::NAMES => "the sockets on which names are answered cannot be made",
        step::PROCFS => "procfs cannot be mounted",
        step::TIME_NAMESPACE => "the time namespace or its offsets cannot be set",
        step::SCHEDULING => {
            "the kernel refuses the I/O priority, scheduler, memory policy, personality or CPUs of the process"
        }
        _ => "an unknown step failed",
    }
}
