//! Where the daemon listens.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use engine_api::server::{Listener, MutualTls};
use listenfd::ListenFd;
use tokio::net::{TcpListener, lookup_host};

use super::DaemonArgs;
use crate::failure::{Failure, Result};

/// Permissions of a unix socket: who may write to it may do what root may.
const MODE: u32 = 0o660;

/// One `--host`.
#[derive(Debug)]
pub(super) enum Host {
    Unix {
        path: PathBuf,
        group: Option<u32>,
    },
    Tcp {
        address: String,
        tls: MutualTls,
    },
    /// Sockets of systemd.
    Inherited,
}

/// Reads the hosts of the flags, and what they need.
pub(super) fn parse(args: &DaemonArgs) -> Result<Vec<Host>> {
    let group = args.group.as_deref().filter(|name| !name.is_empty()).map(group_id).transpose()?;
    let one = |host: &String| {
        let wrong = |why: &str| Failure::usage(format!("invalid --host {host:?}: {why}"));
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Host::Unix { path: path.into(), group }),
            Some(("fd", _)) => Ok(Host::Inherited),
            Some(("tcp", address)) if address.contains(':') => {
                Ok(Host::Tcp { address: address.to_owned(), tls: tls(args).map_err(|why| wrong(&why))? })
            }
            _ => Err(wrong("give unix:///PATH, tcp://HOST:PORT or fd://")),
        }
    };
    args.hosts.iter().map(one).collect()
}

fn tls(args: &DaemonArgs) -> std::result::Result<MutualTls, String> {
    match (args.tlsverify, &args.tlscacert, &args.tlscert, &args.tlskey) {
        (true, Some(authorities), Some(certificate), Some(key)) => {
            Ok(MutualTls::new(certificate, key, authorities))
        }
        _ => Err("whoever reaches it would have this host: it takes --tlsverify, --tlscacert, --tlscert and --tlskey"
            .to_owned()),
    }
}

/// Finds a group by its name or number.
fn group_id(group: &str) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let line = groups.lines().find(|line| line.split(':').next() == Some(group));
    line.and_then(|line| line.split(':').nth(2)?.parse().ok())
        .ok_or_else(|| Failure::usage(format!("invalid --group {group:?}: there is no such group")))
}

impl Host {
    /// Opens the sockets.
    pub(super) async fn listen(self) -> Result<Vec<Listener>> {
        match self {
            Self::Unix { path, group } => {
                if let Some(dir) = path.parent() {
                    std::fs::create_dir_all(dir)
                        .map_err(|error| Failure::usage(format!("cannot make {}: {error}", dir.display())))?;
                }
                Ok(vec![Listener::unix(&path, MODE, group)?])
            }
            Self::Tcp { address, tls } => {
                let found = lookup_host(&address).await.map(Vec::from_iter);
                let found: Vec<SocketAddr> =
                    found.map_err(|error| Failure::usage(format!("cannot listen on {address}: {error}")))?;
                let listener = TcpListener::bind(&found[..])
                    .await
                    .map_err(|error| Failure::usage(format!("cannot listen on {address}: {error}")))?;
                Ok(vec![Listener::tcp(listener, &tls)?])
            }
            Self::Inherited => {
                let mut sockets = ListenFd::from_env();
                let mut listeners = Vec::new();
                for index in 0..sockets.len() {
                    let taken: Option<UnixListener> = sockets
                        .take_unix_listener(index)
                        .map_err(|error| Failure::usage(format!("socket {index} of systemd: {error}")))?;
                    listeners
                        .extend(taken.map(|socket| Listener::from_fd(OwnedFd::from(socket))).transpose()?);
                }
                if listeners.is_empty() {
                    return Err(Failure::usage(
                        "fd:// is for services that systemd activates, and it opened no socket",
                    ));
                }
                Ok(listeners)
            }
        }
    }
}
