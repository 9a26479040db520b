//! `attach`.

use clap::Args;
use engine_core::io::TerminalSize;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::session::signals::Signals;
use crate::session::{self, Wanted, terminal};
use engine_api::DetachKeys;

use super::run::ContainerControl;

/// `attach`'s flags.
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// Leave standard input alone
    #[arg(long)]
    no_stdin: bool,
    /// Forward signals to the container's process
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Keys that leave a terminal, and the container running
    #[arg(long, value_name = "KEYS", default_value = DetachKeys::DEFAULT)]
    detach_keys: String,
    /// Name or id
    container: String,
}

/// Runs `attach`.
pub(crate) async fn attach(context: &Context, args: &AttachArgs) -> Result<u8> {
    let keys = DetachKeys::parse(&args.detach_keys)?;
    let container = context.engine().await?.container(&args.container).await?;
    let spec = container.inspect().await?.spec;
    let wanted = Wanted {
        stdin: spec.open_stdin && !args.no_stdin,
        stdout: true,
        stderr: true,
        tty: spec.terminal.is_some(),
    }
    .check()?;
    let signals = Signals::new()?;
    let streams = container.attach(wanted.options()).await?;
    if wanted.tty
        && let Some(size) = terminal::size()
    {
        // A change of the size makes the program draw its screen again; the session sets the right one.
        let odd = TerminalSize { rows: size.rows.saturating_add(1), ..size };
        container.resize(odd).await.map_err(Failure::from)?;
    }
    let control = ContainerControl { container: &container, proxy: args.sig_proxy };
    Ok(session::run(streams, wanted, keys, signals, &control).await?.code())
}
