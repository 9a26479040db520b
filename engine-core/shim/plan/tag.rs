//! Record tags, each with the body that belongs to it.

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
/// `max_size: u64, ring_size: u64, max_files: u32, compress: u32, text name, text attributes`.
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
/// `port: u32`: names are answered on this port of 127.0.0.11, as the file `resolver` in the run directory says.
pub const RESOLVER: u16 = 35;
/// `text`: the attributes of the container's events, as the inside of a JSON object that is not empty.
pub const EVENT_ACTOR: u16 = 40;
/// `when: u32, text line`: another event, whose time and end are still to come.
pub const EVENT: u16 = 41;
/// `text id, text command`: of an exec, as its events have them; the command as the inside of a JSON string.
pub const EXEC_EVENT: u16 = 42;
