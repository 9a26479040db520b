//! Descriptors that outlive this program: the shim holds them.
//!
//! All that belong to a key lie in the queue of one socket, and the shim holds that one. So it needs no memory for their
//! number, and lets go of all by closing one.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use sha2::{Digest as _, Sha256};

use super::Inner;
use super::container::not_running;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::shim::wire::{Request, op, reply};
use crate::linux::shim::{Failure, Names};
use crate::runtime::MAX_KEPT;

const OPERATION: &str = "keep descriptors";
/// SCM_MAX_FD of unix(7).
const MAX_IN_MESSAGE: usize = 253;

impl Inner {
    pub(super) async fn keep(&self, id: &ContainerId, key: &str, descriptors: Vec<OwnedFd>) -> Result<()> {
        let failed = |error| Error::from_io(OPERATION, error).with("container", id).with("key", key);
        let packed = if descriptors.is_empty() { None } else { Some(pack(&descriptors).map_err(failed)?) };
        let request = Request { op: op::HOLD, a: number(key), ..Request::default() };
        let fds: Vec<BorrowedFd<'_>> = packed.iter().map(OwnedFd::as_fd).collect();
        let answer = match self.connect(id)? {
            Some(connection) => connection.call(&request, &fds).await.map_err(failed)?,
            None => None,
        };
        match answer {
            Some(answer) if answer.kind == reply::OK => Ok(()),
            Some(answer) if answer.errno == rustix::io::Errno::NOSPC.raw_os_error() => {
                Err(Error::new(ErrorKind::ResourceExhausted, OPERATION)
                    .with("container", id)
                    .with("key", key)
                    .with_message(format!("descriptors are kept under {MAX_KEPT} keys already")))
            }
            Some(answer) => {
                Err(Names::default().error(OPERATION, Failure::from(answer)).with("container", id))
            }
            None => {
                self.state_file(OPERATION, id)?;
                // What ended has let go of everything.
                if packed.is_none() { Ok(()) } else { Err(not_running(OPERATION, id)) }
            }
        }
    }
}

/// The number that the shim knows a key by.
fn number(key: &str) -> i64 {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// Puts descriptors into the queue of a socket.
fn pack(descriptors: &[OwnedFd]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (from, into) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(OwnedFd::as_fd).collect();
    for some in descriptors.chunks(MAX_IN_MESSAGE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_IN_MESSAGE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match rustix::net::sendmsg(&into, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL) {
            // A full queue, or more than this user may have on the way (RLIMIT_NOFILE).
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::TOOMANYREFS) => {
                return Err(rustix::io::Errno::NFILE.into());
            }
            sent => sent?,
        };
    }
    Ok(from)
}
