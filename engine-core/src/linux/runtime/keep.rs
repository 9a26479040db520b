//! Descriptors that outlive this program: the shim holds them.
//!
//! All that belong to a key lie in the queue of one socket, and the shim holds that one. So it needs no memory for their
//! number, and lets go of all by closing one. Those that clients are relayed from come first, each with its target beside it
//! in the message, and an epoll descriptor that tells them apart by their number tells the shim of clients.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use sha2::{Digest as _, Sha256};

use super::Inner;
use super::container::not_running;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::shim::wire::{self, Request, op, reply};
use crate::linux::shim::{Failure, Names};
use crate::runtime::{Kept, MAX_KEPT};

const OPERATION: &str = "keep descriptors";
/// SCM_MAX_FD of unix(7).
const MAX_IN_MESSAGE: usize = 253;

impl Inner {
    pub(super) async fn keep(&self, id: &ContainerId, key: &str, kept: Vec<Kept>) -> Result<()> {
        let failed = |error| Error::from_io(OPERATION, error).with("container", id).with("key", key);
        let packed = if kept.is_empty() { Vec::new() } else { pack(&kept).map_err(failed)? };
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
                if packed.is_empty() { Ok(()) } else { Err(not_running(OPERATION, id)) }
            }
        }
    }
}

/// The number that the shim knows a key by.
fn number(key: &str) -> i64 {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// Puts descriptors into the queue of a socket. Behind it comes what tells of clients, if any are to be relayed.
fn pack(kept: &[Kept]) -> io::Result<Vec<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (from, into) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let relayed: Vec<_> = kept.iter().filter_map(|one| Some((one.descriptor.as_fd(), one.relay?))).collect();
    let others: Vec<_> =
        kept.iter().filter(|one| one.relay.is_none()).map(|one| one.descriptor.as_fd()).collect();
    let mut packed = vec![from];
    for some in relayed.chunks(MAX_IN_MESSAGE) {
        let targets: Vec<u8> = some.iter().flat_map(|(_, target)| wire::encode_target(*target)).collect();
        send(&into, &targets, &some.iter().map(|(descriptor, _)| *descriptor).collect::<Vec<_>>())?;
    }
    for some in others.chunks(MAX_IN_MESSAGE) {
        send(&into, &[0], some)?;
    }
    if !relayed.is_empty() {
        packed.push(watch(relayed.iter().map(|(descriptor, _)| *descriptor))?);
    }
    Ok(packed)
}

fn send(into: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_IN_MESSAGE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match rustix::net::sendmsg(into, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
        // A full queue, or more than this user may have on the way (RLIMIT_NOFILE).
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::TOOMANYREFS) => {
            Err(rustix::io::Errno::NFILE.into())
        }
        sent => Ok(sent.map(drop)?),
    }
}

/// An epoll descriptor that tells of clients of these sockets, by their number.
fn watch<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<OwnedFd> {
    let watched = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, socket) in (0..).zip(sockets) {
        rustix::io::ioctl_fionbio(socket, true)?;
        epoll::add(&watched, socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
    }
    Ok(watched)
}
