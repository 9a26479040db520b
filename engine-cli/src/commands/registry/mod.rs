//! `registry`: a registry of one's own. One file for each subcommand.

mod gc;
mod serve;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Result;
use crate::options::Later;

/// `engine-cli registry …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Remove what no tag and no manifest leads to, also while servers run
    Gc(Later<gc::GcArgs>),
    /// Serve a registry until interrupted
    Serve(Box<Later<serve::ServeArgs>>),
}

/// Runs a command of `registry`.
pub(crate) async fn run(context: &Context, command: RegistryCommand) -> Result<u8> {
    match command {
        RegistryCommand::Gc(args) => gc::gc(context, &args).await,
        RegistryCommand::Serve(args) => serve::serve(context, &args).await,
    }
}
