//! Which engine a command works on: the one in this process, or one elsewhere.
//!
//! Owns the order, which is Docker's: `--host`, `--context`, `DOCKER_HOST`, `DOCKER_CONTEXT`, then what `context use` chose.

use std::path::PathBuf;

use clap::Args;
use engine_api::client::{ClientTls, ConnectOptions, Host, RemoteEngine};
use engine_core::{Engine, ErrorKind};

use crate::context::docker_dir;
use crate::contexts::{Contexts, DEFAULT};
use crate::failure::{Failure, Result};

/// The flags that say where the engine is. They stand before the command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct HostArgs {
    /// Work on the engine of the daemon at this address: unix://PATH, tcp://HOST:PORT or ssh://USER@HOST
    #[arg(short = 'H', long, value_name = "HOST", conflicts_with = "context")]
    host: Option<String>,
    /// Work on the engine of this context; default is the one in this process
    #[arg(short, long, value_name = "NAME")]
    context: Option<String>,
    /// Use TLS, which --tlsverify and the files below do as well
    #[arg(long)]
    tls: bool,
    /// Use TLS and verify the daemon
    #[arg(long)]
    tlsverify: bool,
    /// Certificate authorities of the daemon
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Certificate of this client
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
}

/// An engine elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) host: Host,
    pub(crate) options: ConnectOptions,
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var_os(name).filter(|value| !value.is_empty()).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        // Without it, the command would work on another engine than is meant.
        Some(Err(value)) => Err(Failure::usage(format!("{name} is no text: {value:?}"))),
    }
}

impl HostArgs {
    /// Whether the command line says where the engine is.
    pub(crate) fn is_given(&self) -> bool {
        self.host.is_some() || self.context.as_ref().is_some_and(|name| name != DEFAULT)
    }

    /// Returns the engine elsewhere that is meant, if one is.
    pub(crate) fn remote(&self) -> Result<Option<Remote>> {
        if let Some(host) = self.host()? {
            return self.at(&host).map(Some);
        }
        if self.names_certificates() || self.tls || self.tlsverify {
            return Err(Failure::usage(
                "--tls, --tlsverify and the files of certificates belong to --host or DOCKER_HOST: a context has its own",
            ));
        }
        let name = self.context_name()?;
        if name == DEFAULT {
            return Ok(None);
        }
        let contexts = Contexts::required()?;
        let context = contexts.require(&name)?;
        if context.host().is_empty() {
            return Err(Failure::usage(format!("context {name:?} names no host")));
        }
        let tls = contexts.tls(&name);
        let host = parse(context.host())?;
        let mut options = ConnectOptions::default();
        if let (Host::Tcp { .. }, Some(missing)) = (&host, contexts.missing_certificate(&name, &[])) {
            return Err(Failure::usage(format!(
                "context {name:?} has certificates, but no {missing} (\"context update\" takes it by --docker {missing}=FILE)"
            )));
        }
        if tls.join("cert.pem").exists() {
            options = options.with_tls(ClientTls::in_directory(&tls));
        }
        Ok(Some(Remote { host, options }))
    }

    /// Returns the host that is given, which counts before contexts.
    fn host(&self) -> Result<Option<String>> {
        match (&self.host, &self.context) {
            (Some(host), _) => Ok(Some(host.clone())),
            (None, None) => variable("DOCKER_HOST"),
            (None, Some(_)) => Ok(None),
        }
    }

    fn names_certificates(&self) -> bool {
        [&self.tlscacert, &self.tlscert, &self.tlskey].iter().any(|file| file.is_some())
    }

    /// Returns the name of the context that counts; where a host is given, that is the default one, as with Docker.
    pub(crate) fn context_name(&self) -> Result<String> {
        if self.host()?.is_some() {
            return Ok(DEFAULT.to_owned());
        }
        match self.context.clone().map_or_else(|| variable("DOCKER_CONTEXT"), |name| Ok(Some(name)))? {
            Some(name) => Ok(name),
            None => Contexts::of_user().map_or_else(|| Ok(DEFAULT.to_owned()), |contexts| contexts.current()),
        }
    }

    fn at(&self, host: &str) -> Result<Remote> {
        let host = parse(host)?;
        let named = self.names_certificates();
        let wanted = self.tls || self.tlsverify || named || variable("DOCKER_TLS_VERIFY")?.is_some();
        let mut options = ConnectOptions::default();
        if wanted && matches!(host, Host::Tcp { .. }) {
            // A path need be no text.
            let given = std::env::var_os("DOCKER_CERT_PATH").filter(|dir| !dir.is_empty()).map(PathBuf::from);
            let dir = given.or_else(docker_dir).unwrap_or_default();
            let file = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| dir.join(name));
            options = options.with_tls(ClientTls::new(
                file(&self.tlscert, "cert.pem"),
                file(&self.tlskey, "key.pem"),
                file(&self.tlscacert, "ca.pem"),
            ));
        }
        Ok(Remote { host, options })
    }
}

impl Remote {
    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<Engine> {
        match RemoteEngine::connect(&self.host, self.options.clone()).await {
            // As with a DOCKER_HOST that is meant for Docker's command line.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Err(error.with_hint("--context default works on the engine in this process").into())
            }
            connected => Ok(Engine::from(connected?)),
        }
    }
}

fn parse(text: &str) -> Result<Host> {
    Ok(text.parse::<Host>()?)
}
