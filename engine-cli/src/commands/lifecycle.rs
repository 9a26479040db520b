//! `start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm`, `wait`.

use std::time::Duration;

use clap::Args;
use engine_core::Container;
use engine_core::engine::RemoveOptions;
use futures_util::future;

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::output;
use crate::session::signals::Signals;
use crate::session::{self, Wanted};
use engine_api::DetachKeys;

use super::run::ContainerControl;

/// Containers.
#[derive(Args, Debug)]
pub(crate) struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

/// `start`'s flags.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Attach to its output, and end with its exit code
    #[arg(short, long)]
    attach: bool,
    /// Attach to its input
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave a terminal, and the container running
    #[arg(long, value_name = "KEYS", default_value = DetachKeys::DEFAULT)]
    detach_keys: String,
    #[command(flatten)]
    containers: Names,
}

/// `stop`'s and `restart`'s flags.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Signal to send instead of the container's stop signal
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before SIGKILL; -1 waits without end
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    #[command(flatten)]
    containers: Names,
}

/// `kill`'s flags.
#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// Signal to send
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    #[command(flatten)]
    containers: Names,
}

/// `rm`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Kill running containers
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    containers: Names,
}

/// Runs `start`.
pub(crate) async fn start(context: &Context, args: &StartArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let names = &args.containers.names;
    if !args.attach && !args.interactive {
        let mut several = Several::default();
        for name in names {
            let started = async {
                engine.container(name).await?.start().await?;
                output::line(name)
            };
            several.note(started.await);
        }
        return several.finish();
    }
    let [name] = &names[..] else {
        return Err(Failure::usage("you cannot start and attach multiple containers at once"));
    };
    let container = engine.container(name).await?;
    let spec = container.inspect().await?.spec;
    let wanted = Wanted {
        stdin: args.interactive && spec.open_stdin,
        stdout: true,
        stderr: true,
        tty: spec.terminal.is_some(),
    }
    .check()?;
    let keys = DetachKeys::parse(&args.detach_keys)?;
    let signals = Signals::new()?;
    let streams = container.start_attached(wanted.options()).await?;
    let control = ContainerControl { container: &container, proxy: true };
    Ok(session::run(streams, wanted, keys, signals, &control).await?.code())
}

/// Does the same to several containers at once, and prints the name of each that succeeded.
async fn each<'a, F>(
    context: &Context,
    names: &'a [String],
    work: impl Fn(Container, &'a str) -> F,
) -> Result<u8>
where
    F: Future<Output = Result<()>>,
{
    let engine = context.engine().await?;
    let mut several = Several::default();
    let done =
        future::join_all(names.iter().map(async |name| work(engine.container(name).await?, name).await))
            .await;
    for (name, result) in names.iter().zip(done) {
        several.note(match result {
            Ok(()) => output::line(name),
            Err(failure) => Err(failure),
        });
    }
    several.finish()
}

impl StopArgs {
    fn timeout(&self) -> Option<Duration> {
        // -1 is Docker's "for ever"; a century is as long.
        self.time.map(|t| Duration::from_secs(u64::try_from(t).unwrap_or(100 * 365 * 86_400)))
    }

    fn number(&self) -> Result<Option<i32>> {
        Ok(self.signal.as_deref().map(engine_core::signal::parse).transpose()?)
    }

    async fn stop(&self, container: &Container) -> Result<()> {
        let timeout = self.timeout();
        match self.number()? {
            None => container.stop(timeout).await?,
            Some(signal) => container.stop_with(signal, timeout).await?,
        }
        Ok(())
    }
}

/// Runs `stop`.
pub(crate) async fn stop(context: &Context, args: &StopArgs) -> Result<u8> {
    each(context, &args.containers.names, async |container, _| args.stop(&container).await).await
}

/// Runs `restart`.
pub(crate) async fn restart(context: &Context, args: &StopArgs) -> Result<u8> {
    each(context, &args.containers.names, async |container, _| {
        Ok(container.restart(args.number()?, args.timeout()).await?)
    })
    .await
}

/// Runs `kill`.
pub(crate) async fn kill(context: &Context, args: &KillArgs) -> Result<u8> {
    let number = engine_core::signal::parse(&args.signal)?;
    each(context, &args.containers.names, async |container, _| Ok(container.kill(number).await?)).await
}

/// Runs `pause` or `unpause`.
pub(crate) async fn pause(context: &Context, args: &Names, pause: bool) -> Result<u8> {
    each(context, &args.names, async |container, _| {
        let done = if pause { container.pause().await } else { container.resume().await };
        done.map_err(Failure::from)
    })
    .await
}

/// Runs `rm`.
pub(crate) async fn rm(context: &Context, args: &RmArgs) -> Result<u8> {
    let options = RemoveOptions::default().with_force(args.force).with_volumes(args.volumes);
    let engine = context.engine().await?;
    let mut several = Several::default();
    for name in &args.containers.names {
        let removed = async {
            engine.container(name).await?.remove(options).await?;
            output::line(name)
        };
        several.note(removed.await);
    }
    several.finish()
}

/// Runs `wait`.
pub(crate) async fn wait(context: &Context, args: &Names) -> Result<u8> {
    let engine = context.engine().await?;
    let mut several = Several::default();
    for name in &args.names {
        let waited = async { output::line(engine.container(name).await?.wait().await?.code) };
        several.note(waited.await);
    }
    several.finish()
}
