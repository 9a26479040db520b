//! The launch plan: the flat, length-checked format in which the library tells the shim what to do.
//!
//! This file owns the record tags, the flag bits and the decoder. engine-core compiles it too (by `#[path]`) and
//! encodes with the same constants, so the two sides cannot drift. It decides nothing and calls nothing.
//!
//! Layout, little endian: a 16-byte header (magic, version, kind, total length, record count), then records of
//! `tag: u16, zero: u16, length: u32` and `length` bytes of body padded to 8. Text is a `u32` length that counts
//! its terminating NUL, then the bytes.
//!
//! Invariant: after [`Plan::parse`] succeeded, walking the records cannot fail or read outside the plan, and every
//! text is NUL-terminated with no NUL inside. A plan is never larger than [`MAX_PLAN`] (SECURITY A8).

use core::ffi::CStr;

/// First four bytes of a plan: `CPLN`.
pub const MAGIC: u32 = 0x4e4c_5043;
/// Version of the format: the library and the shim it embeds always agree, so a mismatch is an error.
pub const VERSION: u16 = 1;
/// Plan of a whole container.
pub const KIND_LAUNCH: u16 = 1;
/// Plan of one more process in a running container.
pub const KIND_EXEC: u16 = 2;
/// Largest plan accepted, in bytes.
pub const MAX_PLAN: usize = 1 << 20;
/// Most mounts in one plan: the shim holds one descriptor for each.
pub const MAX_MOUNTS: usize = 256;
/// Most joined cgroup directories: one per hierarchy, v1 or v2.
pub const MAX_CGROUPS: usize = 24;
/// Bytes of the header.
pub const HEADER: usize = 16;

/// Record tags.
pub mod tag {
    /// `clone_flags: u64, options: u32`.
    pub const CONFIG: u16 = 1;
    /// `text`: the container's id.
    pub const ID: u16 = 2;
    /// `text`: the boot this plan was made in.
    pub const BOOT_ID: u16 = 3;
    /// `clone_flag: u32, text path`: a namespace to join instead of making one.
    pub const JOIN: u16 = 4;
    /// `text`: the lines for `uid_map`.
    pub const UID_MAP: u16 = 5;
    /// `text`: the lines for `gid_map`.
    pub const GID_MAP: u16 = 6;
    /// `flags: u32, text directory`.
    pub const CGROUP: u16 = 7;
    /// `text`: the container's cgroup, for the state file.
    pub const CGROUP_PATH: u16 = 17;
    /// `text path, text key`: a file of counters; a non-zero `key` line means an out-of-memory kill.
    pub const OOM_COUNTER: u16 = 8;
    /// `kind: u32, flags: u32, attributes: u64, propagation: u64, fstype, source, target, subpath, count: u32,
    /// (key, value)*`.
    pub const MOUNT: u16 = 9;
    /// `mount: u32, mode: u32, uid: u32, gid: u32, device: u64, text path, bytes`.
    pub const ENTRY: u16 = 10;
    /// `text path`.
    pub const MASK: u16 = 11;
    /// `text path`.
    pub const READONLY: u16 = 12;
    /// `text path below /proc, text value`.
    pub const SYSCTL: u16 = 13;
    /// `text`.
    pub const HOSTNAME: u16 = 14;
    /// `text`.
    pub const DOMAINNAME: u16 = 15;
    /// `text path below /proc, text value`: the LSM label the next execve takes.
    pub const LSM_EXEC: u16 = 16;
    /// `uid: u32, gid: u32`: root of the container's user namespace, as the host numbers it.
    pub const OWNER: u16 = 18;
    /// `text`: the lines for `timens_offsets` of a time namespace (time_namespaces(7)).
    pub const TIME_OFFSETS: u16 = 19;
    /// `resource: u32, zero: u32, soft: u64, hard: u64`.
    pub const RLIMIT: u16 = 20;
    /// `value: i32`.
    pub const OOM_SCORE_ADJ: u16 = 21;
    /// `uid: u32, gid: u32, umask: u32, count: u32, groups: [u32]`.
    pub const USER: u16 = 22;
    /// `bounding, effective, permitted, inheritable, ambient: u64`.
    pub const CAPABILITIES: u16 = 23;
    /// `flags: u32, zero: u32, sock_filter[]`.
    pub const SECCOMP: u16 = 24;
    /// `count: u32, text*`.
    pub const ARGV: u16 = 25;
    /// `count: u32, text*`.
    pub const ENV: u16 = 26;
    /// `text`.
    pub const CWD: u16 = 27;
    /// `rows: u32, columns: u32`.
    pub const TTY_SIZE: u16 = 28;
    /// `priority: u32` as ioprio_set(2) takes it.
    pub const IO_PRIORITY: u16 = 50;
    /// `zero: u32, zero: u32, struct sched_attr` as sched_setattr(2) takes it.
    pub const SCHEDULER: u16 = 51;
    /// `mode: u32, zero: u32, node mask` as set_mempolicy(2) takes it.
    pub const MEMORY_POLICY: u16 = 52;
    /// `persona: u32`, see personality(2).
    pub const PERSONALITY: u16 = 53;
    /// `when: u32, zero: u32, cpu mask` of execs: before (0) and after (1) they joined the container's cgroup.
    pub const EXEC_AFFINITY: u16 = 54;
    /// `max_size: u64, ring_size: u64, max_files: u32, text name, text attributes`.
    pub const LOG: u16 = 30;
    /// `kind: u32, max_retries: u32, shortest_ms: u32, longest_ms: u32, steady_ms: u32`.
    pub const RESTART: u16 = 31;
    /// `kind, action: u32, interval, timeout, start period, start interval: u64 (ms), retries, stop_signal: u32,
    /// stop_timeout: u64`.
    pub const HEALTH: u16 = 32;
    /// The plan of an exec: the command of a health check.
    pub const HEALTH_PLAN: u16 = 33;
    /// `length: u32, struct sockaddr, request`: what a health check connects to, and says.
    pub const HEALTH_TARGET: u16 = 34;
    /// `text`: the attributes of the container's events, as the inside of a JSON object that is not empty.
    pub const EVENT_ACTOR: u16 = 40;
    /// `when: u32, text line`: another event, whose time and end are still to come.
    pub const EVENT: u16 = 41;
    /// `text id, text command`: of an exec, as its events have them; the command as the inside of a JSON string.
    pub const EXEC_EVENT: u16 = 42;
}

/// Bits of [`tag::CONFIG`].
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
}

/// Bits of [`tag::CGROUP`].
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

/// Kinds of [`tag::RESTART`].
pub mod restart {
    /// What ended stays ended.
    pub const NEVER: u32 = 0;
    /// Whatever the end was.
    pub const ALWAYS: u32 = 1;
    /// After an exit code that is not 0.
    pub const ON_FAILURE: u32 = 2;
}

/// Kinds and actions of [`tag::HEALTH`].
pub mod health {
    /// Runs the command of [`super::tag::HEALTH_PLAN`].
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

/// Kinds of [`tag::MOUNT`].
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
    /// Map the mount's owners through the container's user namespace.
    pub const IDMAP: u32 = 1 << 6;
}

/// When an [`tag::EVENT`] happens.
pub mod event {
    /// Before the container's process runs.
    pub const AT_START: u32 = 1;
    /// After it has ended.
    pub const AT_END: u32 = 2;
}

/// The `mount` of an [`tag::ENTRY`] that belongs to the private tmpfs instead of a mount of the list.
pub const PRIVATE_FILES: u32 = u32::MAX;
/// `umask` of [`tag::USER`] that leaves 0022.
pub const DEFAULT_UMASK: u32 = u32::MAX;

/// Why bytes are not a plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Shorter than a header, or larger than [`MAX_PLAN`].
    Size,
    /// Not the magic, version or kind expected, or the lengths in the header do not fit the bytes.
    Header,
    /// A record reaches beyond the plan, or has bits set where zero is required.
    Record,
    /// The body of a record with this tag is too short, too long, or holds a text that is no text.
    Body(u16),
    /// A tag this version does not know.
    Tag(u16),
    /// More mounts or cgroups than the shim holds.
    TooMany(u16),
    /// A record that must be there (or be there once) is not.
    Count(u16),
}

/// A cursor over the body of one record.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        Some(head)
    }

    /// Reads a `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Reads a `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Reads a text.
    pub fn text(&mut self) -> Option<&'a CStr> {
        let length = self.u32()? as usize;
        CStr::from_bytes_with_nul(self.take(length)?).ok()
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.bytes)
    }

    fn done(&self) -> Option<()> {
        self.bytes.is_empty().then_some(())
    }
}

/// One record: its tag and its body.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// One of [`tag`].
    pub tag: u16,
    /// The body, unpadded.
    pub body: Reader<'a>,
}

/// A filesystem to mount.
#[derive(Clone, Copy, Debug)]
pub struct MountStep<'a> {
    /// One of the kinds of [`mount`].
    pub kind: u32,
    /// Flags of [`mount`].
    pub flags: u32,
    /// `MOUNT_ATTR_*` to set.
    pub attributes: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves what the clone has.
    pub propagation: u64,
    /// Filesystem type of a fresh mount.
    pub fstype: &'a CStr,
    /// Source: a host path, an entry's name or a label.
    pub source: &'a CStr,
    /// Where, inside the root. `/` is the root itself and comes first.
    pub target: &'a CStr,
    /// The part of the source that is shown, resolved beneath it; empty for all of it.
    pub subpath: &'a CStr,
    options: Reader<'a>,
    count: u32,
}

impl<'a> MountStep<'a> {
    /// The options in order; an empty value is a bare flag.
    pub fn options(&self) -> impl Iterator<Item = (&'a CStr, &'a CStr)> + use<'a> {
        let mut reader = self.options;
        (0..self.count).map_while(move |_| Some((reader.text()?, reader.text()?)))
    }
}

/// A file, directory, link or node on a tmpfs of ours.
#[derive(Clone, Copy, Debug)]
pub struct EntryStep<'a> {
    /// Index of the mount it lies on, or [`PRIVATE_FILES`].
    pub mount: u32,
    /// File type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a node, in the kernel's encoding for `mknod`.
    pub device: u64,
    /// Path below the mount's root.
    pub path: &'a CStr,
    /// Content of a file; target of a link, with its NUL.
    pub data: &'a [u8],
}

/// How output is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogStep<'a> {
    /// Size at which a file is rotated; 0 for never.
    pub max_size: u64,
    /// Bytes that may wait to be written; 0 makes the container wait.
    pub ring_size: u64,
    /// How many files are kept.
    pub max_files: u32,
    /// Name of the newest.
    pub name: &'a CStr,
    /// Attributes of each record, as the inside of a JSON object.
    pub attributes: &'a CStr,
}

/// User and groups of a process.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// File mode creation mask, or [`DEFAULT_UMASK`].
    pub umask: u32,
    /// Supplementary groups, 4 bytes each.
    pub groups: &'a [u8],
}

/// Capability sets as bit masks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// When the plan is run again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restart {
    /// One of the kinds of [`restart`].
    pub kind: u32,
    /// Most restarts after failures; 0 is no limit.
    pub max_retries: u32,
    /// The second restart in a row waits this long; each next one twice as long.
    pub shortest_ms: u32,
    /// No restart waits longer.
    pub longest_ms: u32,
    /// A run this long begins a new row.
    pub steady_ms: u32,
}

impl Restart {
    /// What ended stays ended.
    pub const NEVER: Self =
        Restart { kind: restart::NEVER, max_retries: 0, shortest_ms: 0, longest_ms: 0, steady_ms: 0 };
}

/// A health check. All zero bytes are none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// One of the kinds of [`health`].
    pub kind: u32,
    /// One of the actions of [`health`].
    pub action: u32,
    /// Between the end of a probe and the next.
    pub interval_ms: u64,
    /// For one probe.
    pub timeout_ms: u64,
    /// After the start, in which failures do not count.
    pub start_period_ms: u64,
    /// Between probes in that time.
    pub start_interval_ms: u64,
    /// Failures in a row until it is unhealthy.
    pub retries: u32,
    /// Asks the container to stop.
    pub stop_signal: u32,
    /// Until it is killed after that.
    pub stop_timeout_ms: u64,
}

/// Texts in a row: arguments, environment.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    reader: Reader<'a>,
    /// How many.
    pub count: u32,
}

impl<'a> Texts<'a> {
    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| reader.text())
    }
}

impl<'a> Record<'a> {
    /// Reads a body that is one text.
    pub fn text(&self) -> Option<&'a CStr> {
        let mut body = self.body;
        let text = body.text()?;
        body.done()?;
        Some(text)
    }

    /// Reads a body that is two texts.
    pub fn pair(&self) -> Option<(&'a CStr, &'a CStr)> {
        let mut body = self.body;
        let pair = (body.text()?, body.text()?);
        body.done()?;
        Some(pair)
    }

    /// Reads a body that is a number and a text.
    pub fn number_and_text(&self) -> Option<(u32, &'a CStr)> {
        let mut body = self.body;
        let pair = (body.u32()?, body.text()?);
        body.done()?;
        Some(pair)
    }

    /// Reads a [`tag::CONFIG`] body: clone flags and options.
    pub fn config(&self) -> Option<(u64, u32)> {
        let mut body = self.body;
        let config = (body.u64()?, body.u32()?);
        body.done()?;
        Some(config)
    }

    /// Reads a [`tag::MOUNT`] body.
    pub fn mount(&self) -> Option<MountStep<'a>> {
        let mut body = self.body;
        let step = MountStep {
            kind: body.u32()?,
            flags: body.u32()?,
            attributes: body.u64()?,
            propagation: body.u64()?,
            fstype: body.text()?,
            source: body.text()?,
            target: body.text()?,
            subpath: body.text()?,
            count: body.u32()?,
            options: body,
        };
        for _ in 0..step.count {
            body.text()?;
            body.text()?;
        }
        body.done()?;
        Some(step)
    }

    /// Reads an [`tag::ENTRY`] body.
    pub fn entry(&self) -> Option<EntryStep<'a>> {
        let mut body = self.body;
        Some(EntryStep {
            mount: body.u32()?,
            mode: body.u32()?,
            uid: body.u32()?,
            gid: body.u32()?,
            device: body.u64()?,
            path: body.text()?,
            data: body.rest(),
        })
    }

    /// Reads an [`tag::RLIMIT`] body: resource, soft and hard limit.
    pub fn rlimit(&self) -> Option<(u32, u64, u64)> {
        let mut body = self.body;
        let resource = body.u32()?;
        body.u32()?;
        let limit = (resource, body.u64()?, body.u64()?);
        body.done()?;
        Some(limit)
    }

    /// Reads a body of one `u32`.
    pub fn number(&self) -> Option<u32> {
        let mut body = self.body;
        let number = body.u32()?;
        body.done()?;
        Some(number)
    }

    /// Reads a [`tag::USER`] body.
    pub fn user(&self) -> Option<User<'a>> {
        let mut body = self.body;
        let (uid, gid, umask, count) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let groups = body.rest();
        // The kernel's NGROUPS_MAX, setgroups(2).
        (count <= 65_536 && groups.len() == count as usize * 4).then_some(User { uid, gid, umask, groups })
    }

    /// Reads a [`tag::CAPABILITIES`] body.
    pub fn capabilities(&self) -> Option<Capabilities> {
        let mut body = self.body;
        let sets = Capabilities {
            bounding: body.u64()?,
            effective: body.u64()?,
            permitted: body.u64()?,
            inheritable: body.u64()?,
            ambient: body.u64()?,
        };
        body.done()?;
        Some(sets)
    }

    /// Reads a [`tag::SECCOMP`] body: filter flags and the BPF program.
    pub fn seccomp(&self) -> Option<(u32, &'a [u8])> {
        let mut body = self.body;
        let flags = body.u32()?;
        body.u32()?;
        let program = body.rest();
        // BPF_MAXINSNS is 4,096 instructions of 8 bytes.
        (!program.is_empty() && program.len().is_multiple_of(8) && program.len() <= 4096 * 8)
            .then_some((flags, program))
    }

    /// Reads an [`tag::ARGV`] or [`tag::ENV`] body.
    pub fn texts(&self) -> Option<Texts<'a>> {
        let mut body = self.body;
        let texts = Texts { count: body.u32()?, reader: body };
        for _ in 0..texts.count {
            body.text()?;
        }
        body.done()?;
        Some(texts)
    }

    /// Reads a body of two `u32`: rows and columns of a [`tag::TTY_SIZE`], ids of an [`tag::OWNER`].
    pub fn two_numbers(&self) -> Option<(u32, u32)> {
        let mut body = self.body;
        let numbers = (body.u32()?, body.u32()?);
        body.done()?;
        Some(numbers)
    }

    /// Reads a body of a `u32` and what the kernel takes as it is: 1 to 1,024 words of 8 bytes.
    pub fn number_and_words(&self) -> Option<(u32, &'a [u8])> {
        let mut body = self.body;
        let number = body.u32()?;
        body.u32()?;
        let words = body.rest();
        (!words.is_empty() && words.len().is_multiple_of(8) && words.len() <= 8192).then_some((number, words))
    }

    /// Reads a [`tag::LOG`] body.
    pub fn log(&self) -> Option<LogStep<'a>> {
        let mut body = self.body;
        let log = LogStep {
            max_size: body.u64()?,
            ring_size: body.u64()?,
            max_files: body.u32()?,
            name: body.text()?,
            attributes: body.text()?,
        };
        body.done()?;
        Some(log)
    }

    /// Reads a [`tag::RESTART`] body.
    pub fn restart(&self) -> Option<Restart> {
        let mut body = self.body;
        let rule = Restart {
            kind: body.u32()?,
            max_retries: body.u32()?,
            shortest_ms: body.u32()?,
            longest_ms: body.u32()?,
            steady_ms: body.u32()?,
        };
        body.done()?;
        (rule.kind <= restart::ON_FAILURE).then_some(rule)
    }

    /// Reads a [`tag::HEALTH`] body.
    pub fn health(&self) -> Option<Health> {
        let mut body = self.body;
        let check = Health {
            kind: body.u32()?,
            action: body.u32()?,
            interval_ms: body.u64()?,
            timeout_ms: body.u64()?,
            start_period_ms: body.u64()?,
            start_interval_ms: body.u64()?,
            retries: body.u32()?,
            stop_signal: body.u32()?,
            stop_timeout_ms: body.u64()?,
        };
        body.done()?;
        let times = check.interval_ms.min(check.start_interval_ms).min(check.timeout_ms);
        let longest = check.interval_ms.max(check.start_interval_ms).max(check.timeout_ms);
        let longest = longest.max(check.start_period_ms).max(check.stop_timeout_ms);
        let known = (health::COMMAND..=health::HTTP).contains(&check.kind) && check.action <= health::STOP;
        // So that sums of times never overflow.
        (known && times > 0 && longest < 1 << 62 && (1..=64).contains(&check.stop_signal)).then_some(check)
    }

    /// Reads a [`tag::HEALTH_TARGET`] body: the socket address, and the request.
    pub fn target(&self) -> Option<(&'a [u8], &'a [u8])> {
        let mut body = self.body;
        let length = body.u32()? as usize;
        let address = body.take(length)?;
        // At least a family, at most a struct sockaddr_storage.
        (2..=128).contains(&length).then_some((address, body.rest()))
    }

    /// Returns the body as it is.
    pub fn bytes(&self) -> &'a [u8] {
        self.body.bytes
    }

    /// Checks the body against its tag. `None` when the body is malformed.
    fn check(&self) -> Result<(), Malformed> {
        let sound = match self.tag {
            tag::CONFIG => self.config().is_some(),
            tag::ID | tag::BOOT_ID | tag::UID_MAP | tag::GID_MAP | tag::MASK | tag::READONLY => {
                self.text().is_some()
            }
            tag::HOSTNAME | tag::DOMAINNAME | tag::CWD | tag::CGROUP_PATH | tag::TIME_OFFSETS => {
                self.text().is_some()
            }
            tag::EVENT_ACTOR => self.text().is_some_and(|text| !text.is_empty()),
            tag::JOIN | tag::CGROUP | tag::EVENT => self.number_and_text().is_some(),
            tag::OOM_COUNTER | tag::SYSCTL | tag::LSM_EXEC | tag::EXEC_EVENT => self.pair().is_some(),
            tag::MOUNT => self.mount().is_some(),
            tag::ENTRY => self.entry().is_some(),
            tag::RLIMIT => self.rlimit().is_some(),
            tag::OOM_SCORE_ADJ | tag::IO_PRIORITY | tag::PERSONALITY => self.number().is_some(),
            // SCHED_ATTR_SIZE_VER0, see sched_setattr(2).
            tag::SCHEDULER => self.number_and_words().is_some_and(|(_, words)| words.len() == 48),
            tag::MEMORY_POLICY | tag::EXEC_AFFINITY => self.number_and_words().is_some(),
            tag::USER => self.user().is_some(),
            tag::CAPABILITIES => self.capabilities().is_some(),
            tag::SECCOMP => self.seccomp().is_some(),
            tag::ARGV => self.texts().is_some_and(|texts| texts.count > 0),
            tag::ENV => self.texts().is_some(),
            tag::TTY_SIZE | tag::OWNER => self.two_numbers().is_some(),
            tag::LOG => self.log().is_some(),
            tag::RESTART => self.restart().is_some(),
            tag::HEALTH => self.health().is_some(),
            tag::HEALTH_PLAN => Plan::parse(self.body.bytes, KIND_EXEC).is_ok(),
            tag::HEALTH_TARGET => self.target().is_some(),
            other => return Err(Malformed::Tag(other)),
        };
        if sound { Ok(()) } else { Err(Malformed::Body(self.tag)) }
    }
}

/// A checked plan.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    records: &'a [u8],
}

impl<'a> Plan<'a> {
    /// A plan without records.
    #[cfg_attr(not(shim), allow(dead_code, reason = "the shim's side"))]
    pub const fn empty() -> Self {
        Plan { records: &[] }
    }

    /// Checks `bytes` as a plan of `kind`, whole and exact.
    pub fn parse(bytes: &'a [u8], kind: u16) -> Result<Self, Malformed> {
        if bytes.len() < HEADER || bytes.len() > MAX_PLAN {
            return Err(Malformed::Size);
        }
        let (header, records) = bytes.split_at(HEADER);
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if word(0) != MAGIC || half(4) != VERSION || half(6) != kind || word(8) as usize != bytes.len() {
            return Err(Malformed::Header);
        }
        let plan = Plan { records };
        let (mut walk, mut count, mut mounts, mut cgroups) = (records, 0, 0, 0);
        let (mut configs, mut argv) = (0, 0);
        while !walk.is_empty() {
            let record = next(&mut walk).ok_or(Malformed::Record)?;
            if kind == KIND_EXEC && record.tag == tag::HEALTH_PLAN {
                // A plan inside a plan, and no deeper.
                return Err(Malformed::Tag(record.tag));
            }
            record.check()?;
            count += 1;
            match record.tag {
                tag::MOUNT => mounts += 1,
                tag::CGROUP => cgroups += 1,
                tag::CONFIG => configs += 1,
                tag::ARGV => argv += 1,
                _ => {}
            }
        }
        if count != word(12) {
            return Err(Malformed::Header);
        }
        if mounts > MAX_MOUNTS {
            return Err(Malformed::TooMany(tag::MOUNT));
        }
        if cgroups > MAX_CGROUPS {
            return Err(Malformed::TooMany(tag::CGROUP));
        }
        if configs != 1 {
            return Err(Malformed::Count(tag::CONFIG));
        }
        if argv != 1 {
            return Err(Malformed::Count(tag::ARGV));
        }
        Ok(plan)
    }

    /// The records in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut walk = self.records;
        core::iter::from_fn(move || next(&mut walk))
    }

    /// The records with `tag`, in order.
    pub fn all(&self, tag: u16) -> impl Iterator<Item = Record<'a>> + use<'a> {
        self.records().filter(move |record| record.tag == tag)
    }

    /// The first record with `tag`.
    pub fn first(&self, tag: u16) -> Option<Record<'a>> {
        self.all(tag).next()
    }

    /// The clone flags and options.
    pub fn config(&self) -> (u64, u32) {
        self.first(tag::CONFIG).and_then(|record| record.config()).unwrap_or((0, 0))
    }

    /// The mounts in order.
    pub fn mounts(&self) -> impl Iterator<Item = MountStep<'a>> + use<'a> {
        self.all(tag::MOUNT).filter_map(|record| record.mount())
    }
}

fn next<'a>(walk: &mut &'a [u8]) -> Option<Record<'a>> {
    let head = walk.get(..8)?;
    let tag = u16::from_le_bytes([head[0], head[1]]);
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if head[2] != 0 || head[3] != 0 || length > MAX_PLAN {
        return None;
    }
    let body = walk.get(8..8 + length)?;
    *walk = walk.get(8 + length.next_multiple_of(8)..)?;
    Some(Record { tag, body: Reader { bytes: body } })
}
