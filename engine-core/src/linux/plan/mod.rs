//! Launch plans: what the library hands the shim instead of JSON.
//!
//! This module owns the typed plan and its encoding; the format and its decoder are the shim's (`shim/plan`),
//! compiled here as well, so that tags cannot drift and tests reach the code that runs as root.
//! Invariant: whatever [`LaunchPlan::encode`] returns, [`format::Plan::parse`] accepts.

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;

use crate::error::{Error, ErrorKind, Result};

#[allow(dead_code, unreachable_pub, reason = "the shim's side of the format; tests use it here")]
#[path = "../../../shim/plan/mod.rs"]
pub(crate) mod format;
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the shim's file; a reader of logs and tests use it here"
)]
#[path = "../../../shim/gzip.rs"]
pub(crate) mod gzip;
#[cfg(test)]
mod gzip_tests;
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the shim's file; tests use it here"
)]
#[path = "../../../shim/jsonlog.rs"]
pub(crate) mod jsonlog;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;

use format::{Capabilities, Restart, tag};

/// A container, as prepared steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaunchPlan {
    pub(crate) id: String,
    /// The image's, for the words of a failure.
    pub(crate) architecture: String,
    pub(crate) boot_id: String,
    /// `CLONE_NEW*` of the namespaces to make.
    pub(crate) namespaces: u64,
    /// `CLONE_NEW*` and path of the namespaces to join.
    pub(crate) joins: Vec<(u32, String)>,
    pub(crate) uid_map: Option<String>,
    pub(crate) gid_map: Option<String>,
    /// Root of the user namespace, as the host numbers it.
    pub(crate) owner: Option<(u32, u32)>,
    /// Lines for `timens_offsets`.
    pub(crate) time_offsets: Option<String>,
    pub(crate) cgroups: Vec<CgroupStep>,
    /// Path in the hierarchies, for the state file.
    pub(crate) cgroup_path: String,
    /// Files of counters with the key that counts out-of-memory kills.
    pub(crate) oom_counters: Vec<(Vec<u8>, String)>,
    /// The root file system first.
    pub(crate) mounts: Vec<MountStep>,
    pub(crate) entries: Vec<EntryStep>,
    pub(crate) masked: Vec<String>,
    pub(crate) read_only: Vec<String>,
    /// Paths below /proc, and values.
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) log: Option<LogStep>,
    /// When the plan is run again.
    pub(crate) restart: Option<Restart>,
    pub(crate) health: Option<HealthPlan>,
    /// The port on which names are answered.
    pub(crate) resolver: Option<u16>,
    /// Attributes of the container's events.
    pub(crate) event_actor: Option<String>,
    /// When (of [`format::event`]) and what else happens.
    pub(crate) events: Vec<(u32, String)>,
    pub(crate) process: ProcessPlan,
}

/// A health check.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthPlan {
    pub(crate) rule: format::Health,
    /// The encoded plan of an exec; empty without a command.
    pub(crate) command: Vec<u8>,
    /// A socket address as the kernel has it, and what to say to it.
    pub(crate) target: Option<(Vec<u8>, Vec<u8>)>,
}

/// How output is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogStep {
    /// Size at which a file is rotated; 0 for never.
    pub(crate) max_size: u64,
    /// Bytes that may wait to be written; 0 makes the container wait.
    pub(crate) ring_size: u64,
    pub(crate) max_files: u32,
    /// Rotated files are compressed.
    pub(crate) compress: bool,
    pub(crate) name: String,
    /// Attributes of each record, as the inside of a JSON object.
    pub(crate) attributes: String,
}

/// A cgroup directory of the container.
#[derive(Clone, Debug, Default)]
pub(crate) struct CgroupStep {
    /// Bits of [`format::cgroup`].
    pub(crate) flags: u32,
    pub(crate) path: Vec<u8>,
}

/// A file system to mount.
#[derive(Clone, Debug, Default)]
pub(crate) struct MountStep {
    /// A kind of [`format::mount`].
    pub(crate) kind: u32,
    /// Flags of [`format::mount`].
    pub(crate) flags: u32,
    pub(crate) attributes: u64,
    pub(crate) propagation: u64,
    pub(crate) fstype: String,
    pub(crate) source: Vec<u8>,
    pub(crate) target: Vec<u8>,
    /// The part of the source that is shown; empty for all of it.
    pub(crate) subpath: Vec<u8>,
    /// Options; an empty value makes a flag.
    pub(crate) options: Vec<(String, Vec<u8>)>,
}

/// Something to make on a tmpfs of ours. What is in a file may be a secret, and is not shown.
#[derive(Clone, Default)]
pub(crate) struct EntryStep {
    /// Index of the mount, or [`format::PRIVATE_FILES`].
    pub(crate) mount: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) device: u64,
    pub(crate) path: String,
    /// Content of a file; target of a link, with its NUL.
    pub(crate) data: Vec<u8>,
}

impl fmt::Debug for EntryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryStep").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The environment of a process, `NAME=value`. It may have secrets, and is not shown.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Environment(pub(crate) Vec<Vec<u8>>);

impl Environment {
    /// Sets `variable`, which replaces one of the same name.
    pub(crate) fn set(&mut self, variable: Vec<u8>) {
        self.unset(variable.split(|&byte| byte == b'=').next().unwrap_or_default());
        self.0.push(variable);
    }

    /// Removes a variable.
    pub(crate) fn unset(&mut self, name: &[u8]) {
        self.0.retain(|known| known.split(|&byte| byte == b'=').next() != Some(name));
    }

    /// Whether there is a variable of this name.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|known| known.split(|&byte| byte == b'=').next() == Some(name))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// A process, of a container or of an exec.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessPlan {
    /// Bits of [`format::option`].
    pub(crate) options: u32,
    /// Resource, soft and hard limit.
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) oom_score_adj: Option<i32>,
    /// Path below /proc and text of the LSM label.
    pub(crate) lsm: Option<(String, String)>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: Option<u32>,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Capabilities,
    /// Filter flags and BPF instructions.
    pub(crate) seccomp: Option<(u32, Vec<u8>)>,
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) env: Environment,
    pub(crate) cwd: String,
    /// Rows and columns.
    pub(crate) terminal: Option<(u16, u16)>,
    /// Of an exec: its id, and its command as the inside of a JSON string.
    pub(crate) event: Option<(String, String)>,
    pub(crate) io_priority: Option<u32>,
    /// A struct sched_attr.
    pub(crate) scheduler: Option<Vec<u8>>,
    /// Mode and node mask.
    pub(crate) memory_policy: Option<(u32, Vec<u8>)>,
    pub(crate) personality: Option<u32>,
    /// When (see [`tag::EXEC_AFFINITY`]) and CPU mask.
    pub(crate) exec_affinity: Vec<(u32, Vec<u8>)>,
}

impl LaunchPlan {
    /// Encodes the plan.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a NUL inside a text or a plan beyond [`format::MAX_PLAN`].
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Encoder::new(format::KIND_LAUNCH);
        self.process.encode(&mut out, self.namespaces)?;
        out.text(tag::ID, &self.id)?;
        out.text(tag::BOOT_ID, &self.boot_id)?;
        for (kind, path) in &self.joins {
            out.record(tag::JOIN, |body| body.u32(*kind).text(path))?;
        }
        for (tag, map) in [(tag::UID_MAP, &self.uid_map), (tag::GID_MAP, &self.gid_map)] {
            if let Some(map) = map {
                out.text(tag, map)?;
            }
        }
        if let Some((uid, gid)) = self.owner {
            out.record(tag::OWNER, |body| body.u32(uid).u32(gid))?;
        }
        if let Some(offsets) = &self.time_offsets {
            out.text(tag::TIME_OFFSETS, offsets)?;
        }
        out.text(tag::CGROUP_PATH, &self.cgroup_path)?;
        for cgroup in &self.cgroups {
            out.record(tag::CGROUP, |body| body.u32(cgroup.flags).text(&cgroup.path))?;
        }
        for (path, key) in &self.oom_counters {
            out.record(tag::OOM_COUNTER, |body| body.text(path).text(key))?;
        }
        for mount in &self.mounts {
            out.record(tag::MOUNT, |body| mount.encode(body))?;
        }
        for entry in &self.entries {
            out.record(tag::ENTRY, |body| entry.encode(body))?;
        }
        for (tag, paths) in [(tag::MASK, &self.masked), (tag::READONLY, &self.read_only)] {
            for path in paths {
                out.text(tag, path)?;
            }
        }
        for (path, value) in &self.sysctls {
            out.record(tag::SYSCTL, |body| body.text(path).text(value))?;
        }
        for (tag, name) in [(tag::HOSTNAME, &self.hostname), (tag::DOMAINNAME, &self.domainname)] {
            if let Some(name) = name {
                out.text(tag, name)?;
            }
        }
        if let Some(log) = &self.log {
            out.record(tag::LOG, |body| {
                body.u64(log.max_size)
                    .u64(log.ring_size)
                    .u32(log.max_files)
                    .u32(log.compress.into())
                    .text(&log.name)
                    .text(&log.attributes)
            })?;
        }
        if let Some(rule) = self.restart {
            out.record(tag::RESTART, |body| {
                body.u32(rule.kind).u32(rule.max_retries);
                body.u32(rule.shortest_ms).u32(rule.longest_ms).u32(rule.steady_ms)
            })?;
        }
        if let Some(port) = self.resolver {
            out.record(tag::RESOLVER, |body| body.u32(port.into()))?;
        }
        if let Some(attributes) = &self.event_actor {
            out.text(tag::EVENT_ACTOR, attributes)?;
        }
        for (when, line) in &self.events {
            out.record(tag::EVENT, |body| body.u32(*when).text(line))?;
        }
        if let Some(health) = &self.health {
            health.encode(&mut out)?;
        }
        out.finish()
    }
}

impl HealthPlan {
    fn encode(&self, out: &mut Encoder) -> Result<()> {
        let rule = self.rule;
        out.record(tag::HEALTH, |body| {
            body.u32(rule.kind).u32(rule.action).u64(rule.interval_ms).u64(rule.timeout_ms);
            body.u64(rule.start_period_ms).u64(rule.start_interval_ms);
            body.u32(rule.retries).u32(rule.stop_signal).u64(rule.stop_timeout_ms)
        })?;
        if !self.command.is_empty() {
            out.record(tag::HEALTH_PLAN, |body| body.bytes(&self.command))?;
        }
        if let Some((address, request)) = &self.target {
            out.record(tag::HEALTH_TARGET, |body| body.count(address.len()).bytes(address).bytes(request))?;
        }
        Ok(())
    }
}

impl ProcessPlan {
    /// Encodes the plan of an exec.
    ///
    /// # Errors
    /// As [`LaunchPlan::encode`].
    pub(crate) fn encode_exec(&self) -> Result<Vec<u8>> {
        let mut out = Encoder::new(format::KIND_EXEC);
        self.encode(&mut out, 0)?;
        if let Some((id, command)) = &self.event {
            out.record(tag::EXEC_EVENT, |body| body.text(id).text(command))?;
        }
        out.finish()
    }

    /// Reads the process of an encoded launch plan from its memory file.
    pub(crate) fn read(plan: OwnedFd) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let mut bytes = Vec::new();
        // From the start, wherever the shared offset of this open file is.
        let limit = format::MAX_PLAN as u64 + 1;
        let mut file = File::from(plan);
        file.rewind()?;
        file.take(limit).read_to_end(&mut bytes)?;
        let plan = format::Plan::parse(&bytes, format::KIND_LAUNCH).map_err(|_| invalid())?;
        let mut process = Self { options: plan.config().1, cwd: "/".to_owned(), ..Self::default() };
        let text = |text: &CStr| text.to_string_lossy().into_owned();
        let texts = |record: &format::Record<'_>| -> Vec<Vec<u8>> {
            record
                .texts()
                .into_iter()
                .flat_map(|texts| texts.iter().map(|text| text.to_bytes().to_vec()))
                .collect()
        };
        for record in plan.records() {
            match record.tag {
                tag::RLIMIT => process.rlimits.extend(record.rlimit()),
                tag::OOM_SCORE_ADJ => process.oom_score_adj = record.number().map(u32::cast_signed),
                tag::LSM_EXEC => process.lsm = record.pair().map(|(path, label)| (text(path), text(label))),
                tag::CAPABILITIES => process.capabilities = record.capabilities().unwrap_or_default(),
                tag::SECCOMP => {
                    process.seccomp = record.seccomp().map(|(flags, program)| (flags, program.to_vec()))
                }
                tag::ARGV => process.argv = texts(&record),
                tag::ENV => process.env = Environment(texts(&record)),
                tag::IO_PRIORITY => process.io_priority = record.number(),
                tag::PERSONALITY => process.personality = record.number(),
                tag::SCHEDULER => {
                    process.scheduler = record.number_and_words().map(|(_, words)| words.to_vec());
                }
                tag::MEMORY_POLICY => {
                    process.memory_policy =
                        record.number_and_words().map(|(mode, nodes)| (mode, nodes.to_vec()));
                }
                tag::EXEC_AFFINITY => process
                    .exec_affinity
                    .extend(record.number_and_words().map(|(when, mask)| (when, mask.to_vec()))),
                tag::CWD => process.cwd = record.text().map(text).unwrap_or_default(),
                tag::USER => {
                    let user = record.user().ok_or_else(invalid)?;
                    (process.uid, process.gid) = (user.uid, user.gid);
                    process.umask = Some(user.umask).filter(|umask| *umask != format::DEFAULT_UMASK);
                    let (groups, _) = user.groups.as_chunks();
                    process.groups = groups.iter().map(|group| u32::from_le_bytes(*group)).collect();
                }
                _ => {}
            }
        }
        Ok(process)
    }

    fn encode(&self, out: &mut Encoder, namespaces: u64) -> Result<()> {
        out.record(tag::CONFIG, |body| body.u64(namespaces).u32(self.options))?;
        for &(resource, soft, hard) in &self.rlimits {
            out.record(tag::RLIMIT, |body| body.u32(resource).u32(0).u64(soft).u64(hard))?;
        }
        if let Some(score) = self.oom_score_adj {
            out.record(tag::OOM_SCORE_ADJ, |body| body.u32(score.cast_unsigned()))?;
        }
        if let Some((path, label)) = &self.lsm {
            out.record(tag::LSM_EXEC, |body| body.text(path).text(label))?;
        }
        out.record(tag::USER, |body| {
            let umask = self.umask.unwrap_or(format::DEFAULT_UMASK);
            body.u32(self.uid).u32(self.gid).u32(umask).count(self.groups.len());
            self.groups.iter().fold(body, |body, group| body.u32(*group))
        })?;
        let sets = self.capabilities;
        out.record(tag::CAPABILITIES, |body| {
            body.u64(sets.bounding)
                .u64(sets.effective)
                .u64(sets.permitted)
                .u64(sets.inheritable)
                .u64(sets.ambient)
        })?;
        if let Some((flags, program)) = &self.seccomp {
            out.record(tag::SECCOMP, |body| body.u32(*flags).u32(0).bytes(program))?;
        }
        for (tag, texts) in [(tag::ARGV, &self.argv), (tag::ENV, &self.env.0)] {
            out.record(tag, |body| texts.iter().fold(body.count(texts.len()), |body, text| body.text(text)))?;
        }
        out.text(tag::CWD, &self.cwd)?;
        for (tag, number) in [(tag::IO_PRIORITY, self.io_priority), (tag::PERSONALITY, self.personality)] {
            if let Some(number) = number {
                out.record(tag, |body| body.u32(number))?;
            }
        }
        if let Some(attributes) = &self.scheduler {
            out.record(tag::SCHEDULER, |body| body.u32(0).u32(0).bytes(attributes))?;
        }
        let masks = self.exec_affinity.iter().map(|mask| (tag::EXEC_AFFINITY, mask));
        for (tag, (number, words)) in
            masks.chain(self.memory_policy.iter().map(|policy| (tag::MEMORY_POLICY, policy)))
        {
            out.record(tag, |body| body.u32(*number).u32(0).bytes(words))?;
        }
        if let Some((rows, columns)) = self.terminal {
            out.record(tag::TTY_SIZE, |body| body.u32(rows.into()).u32(columns.into()))?;
        }
        Ok(())
    }
}

impl MountStep {
    fn encode<'a>(&self, body: &'a mut Body) -> &'a mut Body {
        body.u32(self.kind).u32(self.flags).u64(self.attributes).u64(self.propagation);
        body.text(&self.fstype)
            .text(&self.source)
            .text(&self.target)
            .text(&self.subpath)
            .count(self.options.len());
        self.options.iter().fold(body, |body, (key, value)| body.text(key).text(value))
    }
}

impl EntryStep {
    fn encode<'a>(&self, body: &'a mut Body) -> &'a mut Body {
        body.u32(self.mount).u32(self.mode).u32(self.uid).u32(self.gid).u64(self.device);
        body.text(&self.path).bytes(&self.data)
    }
}

/// Bytes being put together. A text that cannot be one is remembered and fails the record.
struct Body {
    bytes: Vec<u8>,
    unsound: Option<String>,
}

impl Body {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A length. What does not fit is beyond [`format::MAX_PLAN`] as well, which `finish` refuses.
    fn count(&mut self, value: usize) -> &mut Self {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX))
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        if text.contains(&0) {
            self.unsound.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
        }
        self.count(text.len() + 1).bytes(text).bytes(&[0])
    }
}

struct Encoder {
    body: Body,
    records: u32,
}

impl Encoder {
    fn new(kind: u16) -> Self {
        let mut bytes = Vec::with_capacity(8192);
        bytes.extend_from_slice(&format::MAGIC.to_le_bytes());
        bytes.extend_from_slice(&format::VERSION.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { body: Body { bytes, unsound: None }, records: 0 }
    }

    fn text(&mut self, tag: u16, text: impl AsRef<[u8]>) -> Result<()> {
        self.record(tag, |body| body.text(text))
    }

    fn record(&mut self, tag: u16, fill: impl for<'a> FnOnce(&'a mut Body) -> &'a mut Body) -> Result<()> {
        let start = self.body.bytes.len();
        self.body.bytes.extend_from_slice(&tag.to_le_bytes());
        self.body.bytes.extend_from_slice(&[0; 6]);
        fill(&mut self.body);
        if let Some(text) = self.body.unsound.take() {
            return Err(Error::new(ErrorKind::InvalidArgument, "prepare container")
                .with("text", text.replace('\0', "\\0"))
                .with_message("a NUL byte cannot be part of a path, an argument or a variable"));
        }
        let length = self.body.bytes.len() - start - 8;
        let padded = self.body.bytes.len().next_multiple_of(8);
        self.body.bytes.resize(padded, 0);
        self.body.bytes[start + 4..start + 8]
            .copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        self.records += 1;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        let mut bytes = self.body.bytes;
        if bytes.len() > format::MAX_PLAN {
            return Err(Error::new(ErrorKind::InvalidArgument, "prepare container").with_message(format!(
                "arguments, environment, mounts and files add up to {} bytes; the limit is {}",
                bytes.len(),
                format::MAX_PLAN
            )));
        }
        let length = u32::try_from(bytes.len()).expect("at most MAX_PLAN");
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        Ok(bytes)
    }
}
