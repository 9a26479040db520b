//! `daemon`: the engine for clients of Docker's API.
//!
//! Everything that has to be right before a client comes is looked at first: `config` is the file of options, `hosts` are the places to
//! listen at. Stopping it touches no container.

mod config;
mod hosts;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use engine_api::server::{ApiServer, ContainerDefaults, Limits, ServerInfo};
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::context::{self, Context};
use crate::failure::{Failure, Result};
use crate::output;
use config::Config;

/// Where it listens if nobody says otherwise.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/engine-cli/docker.sock";
/// What it tells of itself if nobody asks for more or less.
const LOG_LEVEL: &str = "info";

/// `daemon`'s flags: `dockerd`'s, as far as they are here. What they need beside each other is checked in `hosts`, since it may stand in
/// the file.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DaemonArgs {
    /// Where to listen: unix:///PATH, tcp://HOST:PORT with certificates, or fd:// for the sockets that systemd opened
    /// [default: unix:///run/engine-cli/docker.sock]
    #[arg(short = 'H', long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// File of options (JSON), as dockerd's daemon.json
    #[arg(long, visible_alias = "config-file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Group of unix sockets, by name or number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Serve tcp:// to clients with a certificate of --tlscacert; nothing else is served there
    #[arg(long)]
    tlsverify: bool,
    /// File of authorities (PEM) whose clients are served
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// File of the server's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// File of the certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// File that gets the process id
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Seconds that requests may go on when the daemon is to stop [default: 15]
    #[arg(long, value_name = "SECONDS")]
    shutdown_timeout: Option<u64>,
    /// Serve figures for Prometheus at http://ADDRESS/metrics, to whoever reaches it
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_addr: Option<SocketAddr>,
    /// Only check the options
    #[arg(long)]
    validate: bool,
    /// What only the file has.
    #[arg(skip)]
    defaults: ContainerDefaults,
}

/// Runs `daemon`.
pub(crate) async fn daemon(context: &Context, args: &DaemonArgs) -> Result<u8> {
    let (mut context, mut args) = (context.clone(), args.clone());
    if let Some(path) = &args.config.clone() {
        Config::read(path)?.apply(path, &mut context, &mut args)?;
    }
    if args.hosts.is_empty() {
        args.hosts.push(DEFAULT_HOST.to_owned());
    }
    let hosts = hosts::parse(&args)?;
    if args.validate {
        output::line("configuration OK")?;
        return Ok(0);
    }
    context::trace(&context.global, Some(LOG_LEVEL));
    let engine = context.local_engine().await?;
    let info = ServerInfo::default().with_version(env!("CARGO_PKG_VERSION")).with_platform("engine-cli");
    let limits = Limits::default().with_drain(Duration::from_secs(args.shutdown_timeout.unwrap_or(15)));
    let server = ApiServer::new(engine.clone())
        .with_info(info)
        .with_limits(limits)
        .with_container_defaults(args.defaults.clone());
    let _pidfile = args.pidfile.as_deref().map(PidFile::create).transpose()?;
    let mut listeners = Vec::new();
    for host in hosts {
        listeners.extend(host.listen().await?);
    }
    let figures = args.metrics_addr.map(|address| {
        let failed = |error| Failure::usage(format!("--metrics-addr {address}: {error}"));
        TcpListener::bind(address).map_err(failed)
    });
    let figures = figures.transpose()?;
    let hear =
        |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    for started in engine.start_all().await? {
        if let Err(error) = started.result {
            tracing::warn!(container = %started.id, error = %error.report(), "not started");
        }
    }
    let (stop, stopped) = watch::channel(false);
    let serving = listeners.into_iter().map(|listener| {
        let (server, mut stopped) = (server.clone(), stopped.clone());
        async move {
            let stop = async move {
                // The sender lives as long as this.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            server.serve_until(listener, stop).await
        }
    });
    let served = figures.as_ref().and_then(|figures| figures.local_addr().ok());
    let figures = async {
        match figures {
            Some(figures) => {
                let mut stopped = stopped.clone();
                let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
                server.serve_metrics(figures, stop).await
            }
            None => Ok(()),
        }
    };
    let mut serving = pin!(async { tokio::try_join!(try_join_all(serving), figures).map(drop) });
    if let Some(address) = served {
        output::line(format!("Metrics at http://{address}/metrics"))?;
    }
    output::line(format!("Serving {}", args.hosts.join(", ")))?;
    notify("READY=1");
    tokio::select! {
        done = &mut serving => return Ok(done.map(|()| 0)?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    notify("STOPPING=1");
    tracing::info!("stopping; containers go on");
    stop.send_replace(true);
    tokio::select! {
        done = &mut serving => done.map(|()| 0).map_err(Into::into),
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
    }
}

/// Tells systemd how far the service is, if it wants to know (sd_notify(3)).
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(name)))),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd was not told");
    }
}

/// A file with the process id, which goes with this value.
#[derive(Debug)]
struct PidFile<'a>(&'a Path);

impl<'a> PidFile<'a> {
    fn create(path: &'a Path) -> Result<Self> {
        let failed = |why: String| Failure::usage(format!("--pidfile {}: {why}", path.display()));
        if let Ok(text) = fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(failed(format!("process {pid} is running: is the daemon there already?")));
        }
        fs::write(path, std::process::id().to_string()).map_err(|error| failed(error.to_string()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        // Whoever reads it later finds that the process is gone.
        let _ = fs::remove_file(self.0);
    }
}
