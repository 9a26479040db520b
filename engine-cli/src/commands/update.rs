//! `update`.

use clap::Args;
use engine_core::{Resources, RestartPolicy};

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::options::resources::LimitArgs;
use crate::output;

/// `update`'s flags.
#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    /// What follows their end: no, always, unless-stopped, on-failure or on-failure:RETRIES
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

/// Runs `update`.
pub(crate) async fn update(context: &Context, args: &UpdateArgs) -> Result<u8> {
    let limits = args.limits.resources();
    let has_limits = limits != Resources::default();
    if args.restart.is_none() && !has_limits {
        return Err(Failure::usage("you must provide one or more flags when using this command"));
    }
    let engine = context.engine().await?;
    let mut several = Several::default();
    for name in &args.names {
        let updated = async {
            let container = engine.container(name).await?;
            if has_limits {
                container.update(&limits).await?;
            }
            if let Some(policy) = args.restart {
                container.update_restart_policy(policy).await?;
            }
            output::line(name)
        };
        several.note(updated.await);
    }
    several.finish()
}
