//! A container's network namespace, and what happens in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use engine_core::linux::netlink::{Route, in_namespace};
use engine_core::network::NetworkInfo;
use engine_core::runtime::Sandbox;
use engine_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::records::EndpointRecord;
use super::{links, sysctl};
use crate::nft::Nft;

/// Where a network namespace was, and which it was: the path may have become another's.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// Opens the namespace of a sandbox.
    pub(super) fn of(sandbox: &Sandbox) -> Result<(Self, Namespace)> {
        let path = sandbox
            .network_namespace
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("/proc/{}/ns/net", sandbox.pid)));
        let fail = |error| {
            Error::from_io("open network namespace", error)
                .with("container", sandbox.id.short())
                .with("path", path.display())
        };
        let file = File::open(&path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        let place = Self { path: path.clone(), device: metadata.dev(), inode: metadata.ino() };
        let own = std::fs::metadata("/proc/thread-self/ns/net").map_err(fail)?;
        if (own.dev(), own.ino()) == (place.device, place.inode) {
            return Err(Error::new(ErrorKind::InvalidArgument, "attach to network")
                .with("container", sandbox.id.short())
                .with_message("the container has the host's network and cannot be on another"));
        }
        Ok((place, Namespace(file)))
    }

    /// Opens the namespace again, if it is still there.
    pub(super) fn reopen(&self) -> Option<Namespace> {
        let file = File::open(&self.path).ok()?;
        let metadata = file.metadata().ok()?;
        ((metadata.dev(), metadata.ino()) == (self.device, self.inode)).then_some(Namespace(file))
    }
}

/// An open network namespace.
#[derive(Debug)]
pub(super) struct Namespace(File);

impl Namespace {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn nft(&self) -> Result<Nft> {
        Nft::open_in(self.as_fd())
    }

    pub(super) fn route(&self) -> Result<Route> {
        Route::open_in(self.as_fd())
    }

    /// Brings the container's interface up, with its addresses and, if it is to have them, the default routes.
    pub(super) fn configure(
        &self,
        route: &mut Route,
        network: &NetworkInfo,
        record: &EndpointRecord,
        leads_out: bool,
    ) -> Result<()> {
        in_namespace(self.as_fd(), || Ok(sysctl::prepare_sandbox(&record.endpoint.interface, network)))
            .map_err(|error: io::Error| Error::from_io("enter network namespace", error))??;
        links::configure(route, network, record, leads_out)
    }
}
