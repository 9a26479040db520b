//! The flags that `run` and `create` share, and the container they describe.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine_api::notation;
use engine_core::container_spec::{ContainerSpec, Terminal};
use engine_core::launch::LogOptions;
use engine_core::{Name, Platform, RestartPolicy};

use crate::failure::{Failure, Result};
use crate::session::terminal;

use super::health::HealthArgs;
use super::network::NetworkArgs;
use super::resources::ResourceArgs;
use super::security::SecurityArgs;
use super::{env, mounts, secrets};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Pull {
    /// Each time
    Always,
    /// If it is not in the store
    #[default]
    Missing,
    /// Never
    Never,
}

/// What a container is made of.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerArgs {
    /// Name of the container; a random one without it
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// File of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Annotation, passed to the OCI runtime spec
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Environment variable; without a value, this shell's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Another group, by name or number
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Host name
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// NIS domain name
    #[arg(long)]
    domainname: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Remove the container when it has ended
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep a snapshot of the root file system before every exec, see `exec --snapshot`
    #[arg(long)]
    snapshot_execs: bool,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Attach to stdin, stdout or stderr only
    #[arg(short, long, value_name = "STREAM", value_parser = ["stdin", "stdout", "stderr"], ignore_case = true)]
    pub(crate) attach: Vec<String>,
    /// Run a small init that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Platform of the image, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) pull: Pull,
    /// Show no progress of a pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Bind a directory or mount a volume
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount by keys: type=bind|volume|tmpfs|image,source=,target=,readonly
    #[arg(long, value_name = "KEY=VALUE,...")]
    mount: Vec<String>,
    /// Mount a memory file system
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount the volumes and binds of another container
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    volumes_from: Vec<String>,
    /// Driver of the volumes: local
    #[arg(long, value_name = "DRIVER", default_value = "local", hide_default_value = true)]
    volume_driver: String,
    /// Give it a secret: NAME[,type=mount|env,target=,uid=,gid=,mode=]
    #[arg(long, value_name = "SECRET[,KEY=VALUE...]")]
    secret: Vec<String>,
    /// Signal that asks it to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// How output is kept: json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// max-size=10m, max-file=3, labels=A,B, env=A,B, tag=TEXT, mode=non-blocking or max-buffer-size=1m
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// What follows its end: no, always, unless-stopped, on-failure or on-failure:RETRIES
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    health: HealthArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image, then the command and its arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 1.., value_names = ["IMAGE", "COMMAND"])]
    pub(crate) image_and_command: Vec<String>,
}

impl ContainerArgs {
    /// Returns the image.
    pub(crate) fn image(&self) -> &str {
        &self.image_and_command[0]
    }

    /// Returns the container these flags describe.
    pub(crate) fn spec(&self, detached: bool) -> Result<ContainerSpec> {
        let restart = self.restart.unwrap_or_default();
        if self.rm && restart.is_on() {
            return Err(Failure::usage("conflicting options: cannot specify both --restart and --rm"));
        }
        let mut spec = ContainerSpec::command(self.image_and_command.iter().skip(1).cloned());
        spec.name.clone_from(&self.name);
        spec.labels = env::labels(&self.label_file, &self.label)?;
        spec.annotations = env::labels(&[], &self.annotation)?;
        spec.env = env::variables(&self.env_file, &self.env)?;
        spec.working_dir.clone_from(&self.workdir);
        spec.user.clone_from(&self.user);
        spec.group_add.clone_from(&self.group_add);
        spec.hostname.clone_from(&self.hostname);
        spec.domainname.clone_from(&self.domainname);
        // An empty entrypoint removes the image's, as in Docker.
        spec.entrypoint =
            self.entrypoint.as_ref().map(|e| if e.is_empty() { Vec::new() } else { vec![e.clone()] });
        spec.auto_remove = self.rm;
        spec.snapshot_execs = self.snapshot_execs;
        spec.restart = restart;
        spec.platform.clone_from(&self.platform);
        spec.open_stdin = self.interactive;
        spec.stdin_once = self.interactive && !detached;
        if self.tty {
            let size = terminal::size().unwrap_or_default();
            spec.terminal = Some(Terminal { columns: size.columns, rows: size.rows });
        }
        spec.init = self.init;
        spec.read_only_rootfs = self.read_only;
        for text in &self.volume {
            spec.mounts.push(mounts::volume(text)?);
        }
        for text in &self.mount {
            spec.mounts.push(mounts::mount(text)?);
        }
        for text in &self.tmpfs {
            spec.mounts.push(notation::tmpfs(text)?);
        }
        for text in &self.volumes_from {
            spec.volumes_from.push(notation::volumes_from(text)?);
        }
        for text in &self.secret {
            spec.secrets.push(secrets::secret(text)?);
        }
        notation::volume_driver(&self.volume_driver).map_err(Failure::usage)?;
        if let Some(signal) = &self.stop_signal {
            engine_core::signal::parse(signal)?;
        }
        spec.stop_signal.clone_from(&self.stop_signal);
        spec.stop_timeout = self.stop_timeout;
        spec.log = self.log()?;
        self.resources.apply(&mut spec)?;
        self.health.apply(&mut spec)?;
        self.security.apply(&mut spec)?;
        self.network.apply(&mut spec)?;
        if let Some(warning) = self.network.warning(&spec) {
            eprintln!("WARNING: {warning}");
        }
        Ok(spec)
    }

    fn log(&self) -> Result<LogOptions> {
        Ok(notation::log_options(self.log_driver.as_deref(), &self.log_opt)?)
    }
}
