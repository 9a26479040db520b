//! Watching the packet filter: when somebody else takes rules of ours away, they come back (SECURITY E10).
//!
//! The kernel tells every change of rules to who listens, and who made it. Only what takes something of our table away is
//! looked into, so neither others' changes nor our own cost anything.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Weak;

use engine_core::{Error, Result};
use netlink_packet_core::NlasIterator;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::networks::Networks;

/// NFNLGRP_NFTABLES, as a bit.
const GROUP: u32 = 1 << 6;
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u8 = 10;
/// Messages that tell that something went: NFT_MSG_DELTABLE, and of chain, rule, set and element.
const GONE: [u8; 5] = [2, 5, 8, 11, 14];
/// NFT_MSG_NEWGEN, the end of a transaction, and its attribute for who made it.
const END: u8 = 15;
const MAKER: u16 = 2;
const HEADER: usize = 16 + 4;

/// A watch that ends with this value.
#[derive(Debug)]
pub(super) struct Watch {
    _end: OwnedFd,
}

impl Watch {
    /// Begins to watch over the table of `networks`, in the network namespace of the calling thread.
    pub(super) fn begin(networks: Weak<Networks>, table: &str) -> Result<Self> {
        let fail = |error: io::Error| Error::from_io("watch packet filter", error);
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::NETFILTER),
        )
        .map_err(|error| fail(error.into()))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUP)).map_err(|error| fail(error.into()))?;
        let (ended, end) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| fail(error.into()))?;
        let mut watcher = Watcher { networks, table: table.as_bytes().to_vec(), socket, ended, lost: false };
        std::thread::Builder::new()
            .name("network-rules".into())
            .spawn(move || watcher.run())
            .map_err(fail)?;
        Ok(Self { _end: end })
    }
}

struct Watcher {
    networks: Weak<Networks>,
    table: Vec<u8>,
    socket: OwnedFd,
    ended: OwnedFd,
    /// The transaction that is being told took something of ours away.
    lost: bool,
}

impl Watcher {
    fn run(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut ready =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.ended, PollFlags::empty())];
            if poll(&mut ready, None).is_err() {
                continue;
            }
            if !ready[1].revents().is_empty() {
                return;
            }
            let check = match rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => self.is_for_us(&buffer[..length]),
                // Something was not told.
                Err(rustix::io::Errno::NOBUFS) => true,
                Err(_) => false,
            };
            if check && !self.check() {
                return;
            }
        }
    }

    /// Whether a transaction of somebody else's, which took something of ours away, is told to its end.
    fn is_for_us(&mut self, mut datagram: &[u8]) -> bool {
        let mut check = false;
        while let Some(header) = datagram.first_chunk::<HEADER>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let Some(message) = datagram.get(HEADER..length) else { break };
            // The type: subsystem and message, in the host's order.
            let [message_type, subsystem] = u16::from_ne_bytes([header[4], header[5]]).to_le_bytes();
            if subsystem == SUBSYSTEM && GONE.contains(&message_type) {
                self.lost |= message.windows(self.table.len()).any(|part| part == self.table);
            }
            if subsystem == SUBSYSTEM && message_type == END {
                check |= std::mem::take(&mut self.lost) && maker(message) != Some(std::process::id());
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        check
    }

    /// Puts right what is wrong. Returns whether anybody still wants it.
    fn check(&self) -> bool {
        let Some(networks) = self.networks.upgrade() else { return false };
        match networks.verify() {
            Ok(true) => tracing::warn!("somebody removed rules of the engine's networks: they are back"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "checking the rules of networks failed"),
        }
        true
    }
}

/// The process that made the transaction which this message ends.
fn maker(message: &[u8]) -> Option<u32> {
    let attributes = NlasIterator::new(message);
    let mut found = attributes.flatten().filter(|attribute| attribute.kind() == MAKER);
    let value = found.next()?;
    value.value().first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
