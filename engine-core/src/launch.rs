//! The launch specification: everything a runtime needs to start one container.
//!
//! The facade makes it from a [`ContainerSpec`](crate::ContainerSpec) and an image's configuration (policy);
//! a runtime performs it (mechanism). It is an OCI runtime spec plus what that spec leaves to engines: the
//! root file system as [`Mount`]s, the user as text (only the runtime sees the root file system's
//! `/etc/passwd`), logs, standard input and lifetime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::events::{Event, Journal};
use crate::health::HealthSpec;
use crate::id::ExecId;
use crate::io::TerminalSize;
use crate::mount::Mount;
use crate::network::names::ResolverConfig;
use crate::restart::RestartPolicy;
use crate::secret::{SecretFile, SecretVariable};

/// Everything a runtime needs to start one container.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LaunchSpec {
    /// The OCI runtime spec: process, namespaces, resources, devices, paths, and the kernel's file systems
    /// as mounts. Its `root` and its seccomp section are unused unless set by a caller's patch; `process.user`
    /// is filled in by the runtime from [`user`](Self::user).
    pub oci: Spec,
    /// The root file system, from the image store. The first mount has the target `/`.
    pub rootfs: Vec<Mount>,
    /// Volumes, binds and tmpfs, sorted so that parents come first.
    pub mounts: Vec<Mount>,
    /// The user as the image or the caller wrote it: empty, `name`, `uid`, `name:group`, `uid:gid`.
    pub user: String,
    /// More groups, by name or number.
    pub group_add: Vec<String>,
    /// The system call filter.
    pub seccomp: SeccompPolicy,
    /// Small files that the engine puts into the container, such as `/etc/hosts`.
    pub files: Vec<InjectedFile>,
    /// Files of secrets: on a memory file system, read-only to the container, kept nowhere else.
    pub secret_files: Vec<SecretFile>,
    /// Variables beside those of `oci`, which they replace. They are the container's and its execs' alone: the runtime keeps
    /// them nowhere and shows them to nobody.
    pub secret_env: Vec<SecretVariable>,
    /// A terminal of this size instead of three streams.
    pub terminal: Option<TerminalSize>,
    /// Keeps standard input open for clients that attach.
    pub open_stdin: bool,
    /// Closes standard input when the input of the first client that attached to it ends.
    pub stdin_once: bool,
    /// Where the output goes besides attached clients.
    pub log: LogOptions,
    /// What goes with each entry of the log.
    pub log_attributes: BTreeMap<String, String>,
    /// Runs a small init as process 1 that forwards signals and reaps orphans.
    pub init: bool,
    /// What ends with the host program.
    pub lifetime: Lifetime,
    /// What follows the end of its process. Log, network namespace, limits, volumes and the writable layer go on.
    pub restart: RestartPolicy,
    /// Where the runtime tells what happens to the container.
    pub events: Option<LifeEvents>,
    /// How to look whether it is healthy.
    pub health: Option<HealthSpec>,
    /// Answers names inside the container's own network namespace, at [`names::ADDRESS`](crate::network::names::ADDRESS) and
    /// [`names::PORT`](crate::network::names::PORT), over UDP and TCP, as this says until
    /// [`Runtime::set_resolver`](crate::Runtime::set_resolver) says otherwise.
    pub resolver: Option<ResolverConfig>,
    /// The image's architecture in Go's words (`amd64`, `386`), which decides what system call tables a filter allows; the
    /// host's without it.
    pub architecture: Option<String>,
}

impl LaunchSpec {
    /// Creates a launch specification with defaults for all that `oci` and `rootfs` do not say.
    #[must_use]
    pub fn new(oci: Spec, rootfs: Vec<Mount>) -> Self {
        Self {
            oci,
            rootfs,
            mounts: Vec::new(),
            user: String::new(),
            group_add: Vec::new(),
            seccomp: SeccompPolicy::Default,
            files: Vec::new(),
            secret_files: Vec::new(),
            secret_env: Vec::new(),
            terminal: None,
            open_stdin: false,
            stdin_once: false,
            log: LogOptions::default(),
            log_attributes: BTreeMap::new(),
            init: false,
            lifetime: Lifetime::Detached,
            restart: RestartPolicy::No,
            events: None,
            health: None,
            resolver: None,
            architecture: None,
        }
    }
}

/// What a runtime tells of a container's life: see the contract of [`Runtime`](crate::Runtime).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LifeEvents {
    /// Where. Its directory can be opened by a helper process.
    pub journal: Journal,
    /// The attributes of each of the container's events.
    pub attributes: BTreeMap<String, String>,
    /// What happens before each start.
    pub at_start: Vec<Event>,
    /// What happens after each end.
    pub at_end: Vec<Event>,
}

impl LifeEvents {
    /// Creates a description of events of nothing but the container itself.
    #[must_use]
    pub fn new(journal: Journal, attributes: BTreeMap<String, String>) -> Self {
        Self { journal, attributes, at_start: Vec::new(), at_end: Vec::new() }
    }
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SeccompPolicy {
    /// The engine's default profile.
    #[default]
    Default,
    /// All of them.
    Unconfined,
    /// Those of a profile in Docker's JSON format.
    Profile(Arc<str>),
}

/// A small file the engine provides inside the container, on a memory file system of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InjectedFile {
    /// The absolute path inside the container.
    pub path: PathBuf,
    /// The content.
    pub content: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
}

/// Where a container's output is kept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LogOptions {
    /// The driver.
    pub driver: LogDriver,
    /// The size in bytes at which the file is rotated.
    pub max_size: u64,
    /// How many files are kept.
    pub max_file: u32,
    /// Whether files are compressed with gzip once they are rotated.
    pub compress: bool,
    /// What happens when output comes faster than it can be kept.
    pub mode: LogMode,
    /// How many bytes may wait to be written in non-blocking mode; at least half a mebibyte may.
    pub max_buffer_size: u64,
    /// Labels whose values go with each entry.
    pub labels: Vec<String>,
    /// Environment variables whose values go with each entry.
    pub env: Vec<String>,
    /// A regular expression: the values of labels with a matching key go with each entry.
    pub labels_regex: Option<String>,
    /// A regular expression: the values of environment variables with a matching name go with each entry.
    pub env_regex: Option<String>,
    /// A text that goes with each entry, in which `{{.ID}}`, `{{.FullID}}`, `{{.Name}}`, `{{.ImageName}}`,
    /// `{{.ImageID}}` and `{{.ImageFullID}}` are replaced.
    pub tag: Option<String>,
}

impl Default for LogOptions {
    /// Three files of 10 MiB: bounded, unlike Docker's default. The container waits while its output is written.
    fn default() -> Self {
        Self {
            driver: LogDriver::JsonFile,
            max_size: 10 << 20,
            max_file: 3,
            compress: false,
            mode: LogMode::Blocking,
            max_buffer_size: 1 << 20,
            labels: Vec::new(),
            env: Vec::new(),
            labels_regex: None,
            env_regex: None,
            tag: None,
        }
    }
}

impl LogOptions {
    /// Returns options that keep nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { driver: LogDriver::None, ..Self::default() }
    }

    /// Returns the defaults of the driver `local`: five files of 20 MiB, compressed once they are rotated.
    #[must_use]
    pub fn local() -> Self {
        Self { driver: LogDriver::Local, max_size: 20 << 20, max_file: 5, compress: true, ..Self::default() }
    }
}

/// How output is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogDriver {
    /// One JSON object a line, as Docker's driver of this name.
    #[default]
    JsonFile,
    /// In files only the engine reads. Here these are the same as those of [`JsonFile`](Self::JsonFile).
    Local,
    /// Not at all.
    None,
}

/// What happens when output comes faster than it can be kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogMode {
    /// The container waits.
    #[default]
    Blocking,
    /// Output is dropped from the log.
    NonBlocking,
}

/// What a container's life hangs on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Lifetime {
    /// It outlives the program that started it.
    #[default]
    Detached,
    /// It ends with the program that started it, however that ends.
    Scoped,
}

/// A process to run in a running container.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ExecSpec {
    /// The id that the process gets, one that was never used before; a random one without it.
    pub id: Option<ExecId>,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// Environment variables that replace or join the container's.
    pub env: Vec<String>,
    /// The working directory; the container's own without it.
    pub working_dir: Option<String>,
    /// The user, as in [`LaunchSpec::user`]; the container's own without it.
    pub user: Option<String>,
    /// A terminal of this size instead of three streams.
    pub terminal: Option<TerminalSize>,
    /// Gives the process every capability of the container's bounding set, as Docker's `--privileged`.
    pub privileged: bool,
}

impl ExecSpec {
    /// Creates a spec that runs `args`.
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Chooses the id.
    #[must_use]
    pub fn with_id(mut self, id: ExecId) -> Self {
        self.id = Some(id);
        self
    }

    /// Adds environment variables, `NAME=value`.
    #[must_use]
    pub fn with_env(mut self, env: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.env.extend(env.into_iter().map(Into::into));
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn with_working_dir(mut self, dir: impl Into<String>) -> Self {
        self.working_dir = Some(dir.into());
        self
    }

    /// Asks for a terminal.
    #[must_use]
    pub fn with_terminal(mut self, size: TerminalSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Asks for the container's whole bounding set of capabilities.
    #[must_use]
    pub fn with_privileged(mut self, privileged: bool) -> Self {
        self.privileged = privileged;
        self
    }
}
