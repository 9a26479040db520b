//! Where clients come from.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use engine_core::{Error, ErrorKind, Result};
use rustix::fs::{Gid, Mode};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::tls::MutualTls;

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Unix { listener: UnixListener, _own: Option<OwnSocket> },
    Tcp { listener: TcpListener, tls: Acceptor },
}

/// A socket that was made here: its path, and the inode that tells it from one that replaced it.
#[derive(Debug)]
pub(super) struct OwnSocket {
    path: PathBuf,
    inode: (u64, u64),
}

#[derive(Clone)]
pub(super) struct Acceptor(pub(super) tokio_rustls::TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// A connection as it was accepted.
#[derive(Debug)]
pub(super) enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, Acceptor),
}

impl Listener {
    /// Makes a unix socket at `path`, with these permissions and this group. A socket there that nobody serves any more is
    /// replaced; with the listener, the socket goes.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if somebody serves there, or something else lies there; if it cannot be made.
    pub fn unix(path: impl AsRef<Path>, mode: u32, group: Option<u32>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error| Error::from_io("listen", error).with("socket", path.display());
        if let Ok(found) = fs::symlink_metadata(path) {
            require_deserted(path, found.file_type().is_socket())?;
            fs::remove_file(path).map_err(failed)?;
        }
        // Made under a name that nobody knows, so that nobody connects before its permissions hold.
        let unready = path.with_extension(format!("{}.unready", std::process::id()));
        let made = (|| {
            let listener = net::UnixListener::bind(&unready)?;
            fs::set_permissions(&unready, fs::Permissions::from_mode(0o000))?;
            if let Some(group) = group {
                rustix::fs::chown(&unready, None, Some(Gid::from_raw(group)))?;
            }
            rustix::fs::chmod(&unready, Mode::from_raw_mode(mode))?;
            fs::rename(&unready, path)?;
            Ok(listener)
        })();
        let listener = made.map_err(|error: io::Error| {
            // It may not even be there.
            let _ = fs::remove_file(&unready);
            failed(error)
        })?;
        let inode = inode(path).map_err(failed)?;
        Self::of_unix(listener, Some(OwnSocket { path: path.to_owned(), inode }))
    }

    /// Takes a unix socket that listens already, as systemd hands them to the services that it activates (sd_listen_fds(3)).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is another kind of socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidArgument, "take over socket").with_message(why.to_owned())
        };
        let address = rustix::net::getsockname(&fd)
            .map_err(|error| Error::from_io("take over socket", error.into()))?;
        if address.address_family() != rustix::net::AddressFamily::UNIX {
            return Err(wrong("it is no unix socket: TCP needs certificates, see Listener::tcp"));
        }
        if !rustix::net::sockopt::socket_acceptconn(&fd).unwrap_or(false) {
            return Err(wrong("it does not listen"));
        }
        Self::of_unix(net::UnixListener::from(fd), None)
    }

    fn of_unix(listener: net::UnixListener, own: Option<OwnSocket>) -> Result<Self> {
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener))
            .map_err(|error| Error::from_io("listen", error))?;
        Ok(Self(Kind::Unix { listener, _own: own }))
    }

    /// Serves TCP, to clients with a certificate alone: who reaches the API has the host.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a file of `tls` cannot be used.
    pub fn tcp(listener: TcpListener, tls: &MutualTls) -> Result<Self> {
        Ok(Self(Kind::Tcp { listener, tls: Acceptor(tls.acceptor()?) }))
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.0 {
            Kind::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
            Kind::Tcp { listener, tls } => Ok(Accepted::Tcp(listener.accept().await?.0, tls.clone())),
        }
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            // Whoever listens here next replaces one that is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Returns whether nobody listens at the socket, if that can be told.
fn is_deserted(path: &Path) -> Option<bool> {
    match net::UnixStream::connect(path) {
        Ok(_) => Some(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(true),
        Err(_) => None,
    }
}

fn require_deserted(path: &Path, socket: bool) -> Result<()> {
    let taken = |why: &'static str, hint: &'static str| {
        Error::new(ErrorKind::AlreadyExists, "listen")
            .with("socket", path.display())
            .with_message(why)
            .with_hint(hint)
    };
    if !socket {
        return Err(taken("something that is no socket lies there", "remove it, or give another path"));
    }
    match is_deserted(path) {
        Some(true) => Ok(()),
        _ => Err(taken("somebody serves there", "stop that server, or give another path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_goes_with_its_listener_unless_it_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let first = Listener::unix(&path, 0o600, None).unwrap();
        assert_eq!(Listener::unix(&path, 0o600, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
        let second = Listener::unix(&path, 0o660, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(first);
        assert!(path.exists(), "the second one's is gone");
        drop(second);
        assert!(!path.exists());
        // Nobody serves at one that is left.
        drop(net::UnixListener::bind(&path).unwrap());
        drop(Listener::unix(&path, 0o600, None).unwrap());
        fs::write(&path, "a file").unwrap();
        assert!(Listener::unix(&path, 0o600, None).unwrap_err().report().contains("no socket"));
    }
}
