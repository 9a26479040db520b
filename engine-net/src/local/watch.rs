//! Watching the packet filter: when somebody else takes rules of ours away, they come back (SECURITY E10).
//!
//! The kernel tells every change of rules to who listens, and who made it. Only what takes something of ours away is looked
//! into, and what changes the chains of others that our packets have to pass: the rest of others' changes costs nothing, nor
//! do our own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Weak;

use engine_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::bridge::rules;
use super::networks::Networks;
use crate::nft::find;

/// NFNLGRP_NFTABLES, as a bit.
const GROUP: u32 = 1 << 6;
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u8 = 10;
/// Messages that tell that something went: NFT_MSG_DELTABLE, and of chain, rule, set and element.
const GONE: [u8; 5] = [2, 5, 8, 11, 14];
/// Messages about chains and about rules, NFT_MSG_NEWCHAIN and so on, and their attribute for the name of the chain.
const OF_CHAINS: [u8; 2] = [3, 5];
const OF_RULES: [u8; 2] = [6, 8];
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
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
        let mut watcher =
            Watcher { networks, table: table.as_bytes().to_vec(), socket, ended, done: Done::default() };
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
    /// What the transaction that is being told did.
    done: Done,
}

/// What somebody did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Done {
    /// Something of ours was taken away.
    lost: bool,
    /// Chains that our packets pass have changed.
    beside: bool,
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
            let done = match rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => self.told(&buffer[..length]),
                // Something was not told.
                Err(rustix::io::Errno::NOBUFS) => Done { lost: true, beside: true },
                Err(_) => Done::default(),
            };
            if done != Done::default() && !self.check(done) {
                return;
            }
        }
    }

    /// What transactions of somebody else did that are told to their end.
    fn told(&mut self, mut datagram: &[u8]) -> Done {
        let mut told = Done::default();
        while let Some(header) = datagram.first_chunk::<HEADER>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let Some(message) = datagram.get(HEADER..length) else { break };
            // The type: subsystem and message, in the host's order.
            let [message_type, subsystem] = u16::from_ne_bytes([header[4], header[5]]).to_le_bytes();
            if subsystem == SUBSYSTEM {
                if GONE.contains(&message_type) {
                    self.done.lost |= message.windows(self.table.len()).any(|part| part == self.table);
                }
                self.done.beside |= chain(message_type, message).is_some_and(rules::concerns);
                if message_type == END {
                    let done = std::mem::take(&mut self.done);
                    if !maker(message).is_some_and(is_own) {
                        told.lost |= done.lost;
                        told.beside |= done.beside;
                    }
                }
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        told
    }

    /// Puts right what is wrong. Returns whether anybody still wants it.
    fn check(&self, done: Done) -> bool {
        let Some(networks) = self.networks.upgrade() else { return false };
        if done.lost {
            match networks.verify() {
                Ok(true) => tracing::warn!("somebody removed rules of the engine's networks: they are back"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "checking the rules of networks failed"),
            }
        } else if let Err(error) = networks.verify_beside() {
            tracing::warn!(%error, "checking the rules beside Docker's failed");
        }
        true
    }
}

/// The chain that a message is about.
fn chain(message_type: u8, message: &[u8]) -> Option<&str> {
    let kind = match message_type {
        kind if OF_CHAINS.contains(&kind) => CHAIN_NAME,
        kind if OF_RULES.contains(&kind) => RULE_CHAIN,
        _ => return None,
    };
    let value = find(message, kind)?;
    std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
}

/// Whether a thread is one of this program's. It does no harm not to know: then the rules are looked at.
fn is_own(thread: u32) -> bool {
    Path::new("/proc/self/task").join(thread.to_string()).exists()
}

/// The thread that made the transaction which this message ends.
fn maker(message: &[u8]) -> Option<u32> {
    find(message, MAKER)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
