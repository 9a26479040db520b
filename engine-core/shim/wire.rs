//! The messages on the shim's sockets, and the numbers of the steps that can fail.
//!
//! engine-core compiles this file too (by `#[path]`). Every message is one SEQPACKET datagram of a fixed size, with
//! descriptors beside it by `SCM_RIGHTS`; it holds numbers only, so there is nothing to parse.

use core::net::{IpAddr, SocketAddr};

/// Bytes of a [`Request`].
pub const REQUEST: usize = 24;
/// Bytes of a [`Reply`].
pub const REPLY: usize = 48;
/// Most descriptors beside one message.
pub const MAX_FDS: usize = 4;

/// Bytes of an encoded target.
pub const TARGET: usize = 20;

/// Encodes where clients of a socket are led.
#[cfg_attr(shim, expect(dead_code, reason = "the library's side"))]
pub fn encode_target(target: SocketAddr) -> [u8; TARGET] {
    let mut bytes = [0; TARGET];
    bytes[..2].copy_from_slice(&target.port().to_le_bytes());
    match target.ip() {
        IpAddr::V4(ip) => {
            bytes[2] = 4;
            bytes[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[2] = 6;
            bytes[4..].copy_from_slice(&ip.octets());
        }
    }
    bytes
}

/// Decodes where clients of a socket are led.
#[cfg_attr(not(shim), allow(dead_code, reason = "the shim's side"))]
pub fn decode_target(bytes: &[u8]) -> Option<SocketAddr> {
    let (head, ip) = bytes.split_first_chunk::<4>()?;
    let ip = match head[2] {
        4 => IpAddr::from(*ip.first_chunk::<4>()?),
        6 => IpAddr::from(*ip.first_chunk::<16>()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_le_bytes([head[0], head[1]])))
}

/// What a client asks for.
pub mod op {
    /// First message on the control socket; descriptors: state directory, run directory, and the directory of the
    /// engine's events, unless it has none.
    pub const SETUP: u32 = 1;
    /// Let the created process execute.
    pub const START: u32 = 2;
    /// Send signal `a` to the first process, or to an exec when sent on its connection.
    pub const SIGNAL: u32 = 3;
    /// Answer once the container has exited.
    pub const WAIT: u32 = 4;
    /// Join the streams; descriptors in the order stdin, stdout, stderr as `flags` tell.
    pub const ATTACH: u32 = 5;
    /// Terminal size: `a` rows, `b` columns.
    pub const RESIZE: u32 = 6;
    /// Close the container's standard input.
    pub const CLOSE_STDIN: u32 = 7;
    /// Run another process; descriptors: plan, then those of `flags`.
    pub const EXEC: u32 = 8;
    /// Answer with what is running.
    pub const STATE: u32 = 9;
    /// On the control socket, without an answer: the container outlives this connection.
    pub const KEEP: u32 = 10;
    /// Answer with the descriptor of the launch plan.
    pub const PLAN: u32 = 11;
    /// Another restart policy: `a` its kind, `b` most restarts after failures.
    pub const RESTART: u32 = 12;
    /// Hold the descriptor that comes along as long as the container is there, in place of the one held under the key
    /// `a`; without one, let go of that. A second one is an epoll descriptor that tells of clients: then sockets with a
    /// [target](super::encode_target) for each lie in the first one's queue.
    pub const HOLD: u32 = 13;
}

/// Bits of `flags` in a request.
pub mod flag {
    /// A descriptor for standard input comes along.
    pub const STDIN: u32 = 1;
    /// A descriptor for standard output comes along.
    pub const STDOUT: u32 = 1 << 1;
    /// A descriptor for standard error comes along.
    pub const STDERR: u32 = 1 << 2;
    /// The container waits for this client instead of cutting it when it is slow.
    pub const BLOCKING: u32 = 1 << 3;
    /// Give the exec a pseudo-terminal; its master comes back with the reply.
    pub const TTY: u32 = 1 << 4;
    /// The signal is to end the container: it is not run again after its next end.
    pub const STOP: u32 = 1 << 5;
}

/// What the shim answers.
pub mod reply {
    /// The container is set up and waits: `a` the pid of its first process, `b` that process's start time.
    pub const CREATED: u32 = 1;
    /// Done. For EXEC, `a` is the pid.
    pub const OK: u32 = 2;
    /// `step`, `index` and `errno` tell what failed.
    pub const FAILED: u32 = 3;
    /// The process ended: `a` exit code, `b` signal, `c` is 1 after an out-of-memory kill, `d` the time in ns.
    pub const EXITED: u32 = 4;
    /// Answer to STATE: `a` status, `b` pid.
    pub const STATE: u32 = 5;
    /// The shim waits to be placed, before anything else: `a` is its own pid.
    pub const HERE: u32 = 6;
}

/// A request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// One of [`op`].
    pub op: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// First operand.
    pub a: i64,
    /// Second operand.
    pub b: i64,
}

impl Request {
    /// Encodes the request.
    #[cfg_attr(shim, expect(dead_code, reason = "the library's side"))]
    pub fn encode(&self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[..4].copy_from_slice(&self.op.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.a.to_le_bytes());
        bytes[16..].copy_from_slice(&self.b.to_le_bytes());
        bytes
    }

    /// Decodes a request; `None` unless it has exactly the right size.
    #[cfg_attr(not(shim), allow(dead_code, reason = "the shim's side"))]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == REQUEST).then_some(())?;
        Some(Request {
            op: u32_at(bytes, 0)?,
            flags: u32_at(bytes, 4)?,
            a: i64_at(bytes, 8)?,
            b: i64_at(bytes, 16)?,
        })
    }
}

/// A reply.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// One of [`reply`].
    pub kind: u32,
    /// One of [`step`], when something failed.
    pub step: u32,
    /// Which mount, path, … of that step.
    pub index: u32,
    /// The kernel's error number.
    pub errno: i32,
    /// First value.
    pub a: i64,
    /// Second value.
    pub b: i64,
    /// Third value.
    pub c: i64,
    /// Fourth value.
    pub d: i64,
}

impl Reply {
    /// Encodes the reply.
    #[cfg_attr(not(shim), allow(dead_code, reason = "the shim's side"))]
    pub fn encode(&self) -> [u8; REPLY] {
        let mut bytes = [0; REPLY];
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.step.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.errno.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.a.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.b.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.c.to_le_bytes());
        bytes[40..].copy_from_slice(&self.d.to_le_bytes());
        bytes
    }

    /// Decodes a reply; `None` unless it has exactly the right size.
    #[cfg_attr(shim, allow(dead_code, reason = "the library's side"))]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == REPLY).then_some(())?;
        Some(Reply {
            kind: u32_at(bytes, 0)?,
            step: u32_at(bytes, 4)?,
            index: u32_at(bytes, 8)?,
            errno: u32_at(bytes, 12)? as i32,
            a: i64_at(bytes, 16)?,
            b: i64_at(bytes, 24)?,
            c: i64_at(bytes, 32)?,
            d: i64_at(bytes, 40)?,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Steps that can fail; `index` counts within the step's own records.
pub mod step {
    /// Reading or checking the plan.
    pub const PLAN: u32 = 1;
    /// Receiving the directories of the container.
    pub const SETUP: u32 = 2;
    /// Preparing mount `index` (its source or its filesystem).
    pub const MOUNT_SOURCE: u32 = 3;
    /// Filling a tmpfs: entry `index`.
    pub const ENTRY: u32 = 4;
    /// Opening the pseudo-terminal.
    pub const TTY: u32 = 5;
    /// Opening cgroup `index`.
    pub const CGROUP_OPEN: u32 = 6;
    /// Opening the namespace of join record `index`.
    pub const JOIN_OPEN: u32 = 7;
    /// Making the namespaces and the process.
    pub const CLONE: u32 = 8;
    /// Writing the id maps.
    pub const ID_MAP: u32 = 9;
    /// Joining cgroup `index`.
    pub const CGROUP_JOIN: u32 = 10;
    /// Joining the namespace of join record `index`.
    pub const JOIN: u32 = 11;
    /// Making the cgroup namespace.
    pub const CGROUP_NAMESPACE: u32 = 12;
    /// Making the mount namespace private.
    pub const PROPAGATION: u32 = 13;
    /// Finding or creating the target of mount `index`.
    pub const MOUNT_TARGET: u32 = 14;
    /// Attaching mount `index`.
    pub const MOUNT_ATTACH: u32 = 15;
    /// Masking path `index`.
    pub const MASK: u32 = 16;
    /// Making path `index` read-only.
    pub const READONLY: u32 = 17;
    /// Writing sysctl `index`.
    pub const SYSCTL: u32 = 18;
    /// Creating the working directory.
    pub const CREATE_CWD: u32 = 19;
    /// Making the root read-only.
    pub const READONLY_ROOT: u32 = 20;
    /// Changing the root.
    pub const PIVOT: u32 = 21;
    /// Setting the host or domain name.
    pub const HOSTNAME: u32 = 22;
    /// Setting the standard streams.
    pub const STDIO: u32 = 23;
    /// Setting resource limit `index`.
    pub const RLIMIT: u32 = 24;
    /// Writing oom_score_adj.
    pub const OOM_SCORE_ADJ: u32 = 25;
    /// Setting the LSM label.
    pub const LSM: u32 = 26;
    /// Entering the working directory.
    pub const CWD: u32 = 27;
    /// Setting user and groups.
    pub const USER: u32 = 28;
    /// Setting the capability sets.
    pub const CAPABILITIES: u32 = 29;
    /// Setting no_new_privs.
    pub const NO_NEW_PRIVS: u32 = 30;
    /// Loading the seccomp filter.
    pub const SECCOMP: u32 = 31;
    /// Executing the program.
    pub const EXECVE: u32 = 32;
    /// Serving the shim's socket.
    pub const SOCKET: u32 = 33;
    /// Writing the state file.
    pub const STATE: u32 = 34;
    /// Entering the namespaces of a running container.
    pub const ENTER: u32 = 35;
    /// Asked for something the container's state does not allow.
    pub const REQUEST: u32 = 36;
    /// Opening procfs for our own use.
    pub const PROCFS: u32 = 37;
    /// Making the time namespace, or setting its offsets.
    pub const TIME_NAMESPACE: u32 = 41;
    /// Setting I/O priority, scheduler, memory policy, personality or CPUs, by `index`.
    pub const SCHEDULING: u32 = 42;

    /// Probing: a connection, an answer, the start of the command.
    pub const PROBE: u32 = 38;
    /// A probe took too long.
    pub const PROBE_TIMEOUT: u32 = 39;

    /// Bringing up the loopback interface.
    pub const LOOPBACK: u32 = 40;

    /// Making the sockets on which names are answered.
    pub const NAMES: u32 = 43;

    /// A child tells its parent that it is ready; no failure.
    #[cfg_attr(not(shim), allow(dead_code, reason = "between the shim's own processes"))]
    pub const READY: u32 = 1000;
}
