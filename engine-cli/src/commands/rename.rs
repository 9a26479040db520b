//! `rename`.

use clap::Args;
use engine_core::Name;

use crate::context::Context;
use crate::failure::Result;

/// `rename`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct RenameArgs {
    /// Name or id
    container: String,
    /// The new name
    name: Name,
}

/// Runs `rename`.
pub(crate) async fn rename(context: &Context, args: &RenameArgs) -> Result<u8> {
    context.engine().await?.container(&args.container).await?.rename(&args.name).await?;
    Ok(0)
}
