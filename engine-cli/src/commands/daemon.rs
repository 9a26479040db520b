//! `daemon`: the engine for clients of Docker's API.

use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use engine_api::server::{ApiServer, Listener, ServerInfo};
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output;

/// `daemon`'s flags.
#[derive(Args, Debug)]
pub(crate) struct DaemonArgs {
    /// Where to listen: unix:///PATH
    #[arg(
        short = 'H',
        long = "host",
        value_name = "HOST",
        default_value = "unix:///run/engine-cli/docker.sock"
    )]
    hosts: Vec<String>,
}

/// Runs `daemon`.
pub(crate) async fn daemon(context: &Context, args: &DaemonArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let info = ServerInfo::default().with_version(env!("CARGO_PKG_VERSION")).with_platform("engine-cli");
    let server = ApiServer::new(engine.clone()).with_info(info);
    let mut listeners = Vec::new();
    for host in &args.hosts {
        listeners.push(Listener::unix(unix_path(host)?, 0o660, None)?);
    }
    let hear =
        |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    for started in engine.start_all().await? {
        if let Err(error) = started.result {
            tracing::warn!(container = %started.container.id(), error = %error.report(), "not started");
        }
    }
    output::line(format!("Serving {}", args.hosts.join(", ")))?;
    let (stop, stopped) = watch::channel(false);
    let serving = listeners.into_iter().map(|listener| {
        let (server, mut stopped) = (server.clone(), stopped.clone());
        async move {
            server
                .serve_until(listener, async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                })
                .await
        }
    });
    let mut serving = pin!(try_join_all(serving));
    tokio::select! {
        done = &mut serving => return done.map(|_| 0).map_err(Into::into),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.send_replace(true);
    serving.await?;
    Ok(0)
}

fn unix_path(host: &str) -> Result<PathBuf> {
    let path = host.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from)
        .ok_or_else(|| Failure::usage(format!("invalid --host {host:?}: give unix:///PATH")))
}
