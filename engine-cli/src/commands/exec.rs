//! `exec`.

use std::path::PathBuf;

use clap::Args;
use engine_core::engine::ExecOptions;
use engine_core::io::{AttachOptions, TerminalSize};
use engine_core::{Container, ExecId, ExecSpec, ExitStatus, Name};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::env;
use crate::session::signals::Signals;
use crate::session::{self, Control, Wanted, terminal};
use engine_api::DetachKeys;

/// `exec`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// Leave the command running in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a terminal, and the command running
    #[arg(long, value_name = "KEYS", default_value = DetachKeys::DEFAULT)]
    detach_keys: String,
    /// Environment variable; without a value, this shell's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Every capability the container may have
    #[arg(long)]
    privileged: bool,
    /// Keep a snapshot of the root file system before it begins; without a name, one after the exec's id. The container is
    /// paused while what it wrote is copied
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true)]
    snapshot: Option<Option<Name>>,
    /// Keep none, though the container was created with --snapshot-execs
    #[arg(long, conflicts_with = "snapshot")]
    no_snapshot: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The container, then the command and its arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_names = ["CONTAINER", "COMMAND"])]
    container_and_command: Vec<String>,
}

/// Runs `exec`.
pub(crate) async fn exec(context: &Context, args: &ExecArgs) -> Result<u8> {
    let (name, command) = args
        .container_and_command
        .split_first()
        .ok_or_else(|| Failure::usage("exec needs a container and a command"))?;
    let wanted =
        Wanted { stdin: args.interactive && !args.detach, stdout: true, stderr: true, tty: args.tty };
    let keys = DetachKeys::parse(&args.detach_keys)?;
    let mut spec =
        ExecSpec::new(command.iter().cloned()).with_env(env::variables(&args.env_file, &args.env)?);
    spec.privileged = args.privileged;
    spec.user.clone_from(&args.user);
    spec.working_dir.clone_from(&args.workdir);
    if args.tty {
        spec.terminal = Some(terminal::size().unwrap_or_default());
    }
    let container = context.engine().await?.container(name).await?;
    if args.detach {
        container.exec(&spec, args.options(AttachOptions::default())).await?;
        return Ok(0);
    }
    let signals = Signals::new()?;
    let process = container.exec(&spec, args.options(wanted.check()?.options())).await?;
    let control = ExecControl { container: &container, id: process.id };
    Ok(session::run(process.streams, wanted, keys, signals, &control).await?.code())
}

impl ExecArgs {
    fn options(&self, io: AttachOptions) -> ExecOptions {
        let options = ExecOptions::from(io);
        match &self.snapshot {
            Some(name) => options.with_snapshot(name.clone()),
            None if self.no_snapshot => options.without_snapshot(),
            None => options,
        }
    }
}

/// A session with a process started by `exec`.
struct ExecControl<'a> {
    container: &'a Container,
    id: ExecId,
}

#[async_trait::async_trait]
impl Control for ExecControl<'_> {
    async fn wait(&self) -> engine_core::Result<ExitStatus> {
        self.container.exec_wait(&self.id).await
    }

    async fn resize(&self, size: TerminalSize) -> engine_core::Result<()> {
        self.container.exec_resize(&self.id, size).await
    }

    async fn detached(&self) -> engine_core::Result<()> {
        self.container.exec_detached(&self.id).await
    }

    /// A signal that would end this command ends the process too, so that an interrupted `exec` leaves none behind.
    async fn signal(&self, number: i32) -> bool {
        if let Err(error) = self.container.exec_signal(&self.id, number).await {
            tracing::debug!(%error, number, "a signal was not forwarded");
        }
        true
    }
}
