//! `registry`: a registry of one's own. One file for each subcommand.

mod auth;
mod config;
mod gc;
mod serve;
mod users;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use engine_registry::server::ObjectStorage;

use crate::context::Context;
use crate::failure::Result;
use crate::options::Later;

/// `engine-cli registry …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Remove what no tag and no manifest leads to, also while servers run
    Gc(Later<gc::GcArgs>),
    /// Serve a registry until interrupted
    Serve(Box<Later<config::Configured<serve::ServeArgs>>>),
    /// Set up a private registry: a user, and a repository that is that user's
    Init(Later<users::InitArgs>),
    /// Commands of users of a private registry
    #[command(subcommand)]
    User(Later<users::UserCommand>),
}

/// Runs a command of `registry`.
pub(crate) async fn run(context: &Context, command: RegistryCommand) -> Result<u8> {
    match command {
        RegistryCommand::Gc(args) => gc::gc(context, &args).await,
        RegistryCommand::Serve(args) => serve::serve(context, &args).await,
        RegistryCommand::Init(args) => users::init(context, &args),
        RegistryCommand::User(command) => users::user(context, &command),
    }
}

/// Returns the file of users and rules of a registry, where no other was given.
fn rules_in(data: &Path) -> PathBuf {
    data.join("rules.toml")
}

/// Opens a bucket, with the credentials that the environment has for its service.
async fn bucket(url: &str) -> Result<ObjectStorage> {
    let text =
        |(key, value): (OsString, OsString)| Some((key.into_string().ok()?, value.into_string().ok()?));
    Ok(ObjectStorage::open(url, std::env::vars_os().filter_map(text)).await?)
}
