//! `login` and `logout`.

use clap::Args;
use engine_core::RegistryClient;
use engine_core::registry_client::Credentials;
use engine_registry::DockerConfig;

use crate::context::{Context, docker_config};
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::terminal;

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
pub(crate) async fn login(context: &Context, args: &LoginArgs) -> Result<u8> {
    let config = config()?;
    let server = registry_name(&args.server);
    let username = match &args.username {
        Some(username) => username.clone(),
        None if args.password_stdin => return Err(Failure::usage("--password-stdin needs --username")),
        None => ask("Username: ")?,
    };
    let password = match &args.password {
        Some(password) => {
            eprintln!("WARNING: a password on the command line is seen by others; --password-stdin is not");
            password.clone()
        }
        None if args.password_stdin => terminal::read_secret("").map_err(|e| unreadable(&e))?,
        None => terminal::read_secret("Password: ").map_err(|e| unreadable(&e))?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Failure::usage("a user name and a password are needed"));
    }
    let credentials = Credentials::Basic { username, password };
    match context.remote()? {
        Some(remote) => remote.connect().await?.check_credentials(&server, &credentials).await?,
        None => context.registry()?.check_credentials(&server, &credentials).await?,
    }
    config.store(&server, &credentials).await?;
    output::line("Login Succeeded")?;
    Ok(0)
}

/// Runs `logout`.
pub(crate) async fn logout(_: &Context, args: &LogoutArgs) -> Result<u8> {
    let (config, server) = (config()?, registry_name(&args.server));
    if config.credentials(&server).await?.is_none() {
        output::line(format!("Not logged in to {server}"))?;
        return Ok(0);
    }
    config.erase(&server).await?;
    output::line(format!("Removing login credentials for {server}"))?;
    Ok(0)
}

fn config() -> Result<DockerConfig> {
    docker_config().ok_or_else(|| {
        Failure::usage("there is no home directory to keep credentials in (set DOCKER_CONFIG to a directory)")
    })
}

/// People paste addresses.
fn registry_name(text: &str) -> String {
    let text = text.trim_start_matches("https://").trim_start_matches("http://");
    match text.split('/').next().unwrap_or(text) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn ask(prompt: &str) -> Result<String> {
    eprint!("{prompt}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|e| unreadable(&e))?;
    Ok(line.trim().to_owned())
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read standard input: {error}"))
}
