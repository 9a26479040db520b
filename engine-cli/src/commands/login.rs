//! `login` and `logout`.

use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, Result};

/// `login`'s flags.
#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password or token; --password-stdin keeps it out of the process list
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// The registry
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    server: String,
}

/// `logout`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    server: String,
}

/// Runs `login`.
pub(crate) async fn login(_: &Context, _: &LoginArgs) -> Result<u8> {
    Err(Failure::usage("not yet"))
}

/// Runs `logout`.
pub(crate) async fn logout(_: &Context, _: &LogoutArgs) -> Result<u8> {
    Err(Failure::usage("not yet"))
}
