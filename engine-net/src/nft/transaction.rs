//! A transaction: messages between a begin and an end, which the kernel takes all or none of.

use std::io;
use std::os::fd::BorrowedFd;

use engine_core::linux::netlink::{Protocol, Refusal, Socket};
use engine_core::{Error, ErrorKind, Result};
use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, Parseable as _};

use super::attributes::Attributes;
use super::object::Family;

/// What a message asks for beside what it says.
pub(super) mod flag {
    use netlink_packet_core as core;
    pub(crate) const CREATE: u16 = core::NLM_F_CREATE;
    pub(crate) const EXCL: u16 = core::NLM_F_EXCL;
    pub(crate) const APPEND: u16 = core::NLM_F_APPEND;
}

const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
pub(super) const NEW_RULE: u8 = 6;
/// Length of a message's header.
const HEADER: usize = 16;

/// Changes that are made together.
#[derive(Debug)]
pub(crate) struct Transaction {
    bytes: Vec<u8>,
    count: u32,
    sets: u32,
    rules: usize,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut transaction = Self { bytes: Vec::with_capacity(1024), count: 0, sets: 0, rules: 0 };
        transaction.message(BEGIN, 0, 0, SUBSYSTEM, &[]);
        transaction
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count <= 1
    }

    pub(super) fn add(&mut self, kind: u8, flags: u16, family: Family, attributes: &Attributes) {
        self.rules += usize::from(kind == NEW_RULE);
        self.message(SUBSYSTEM << 8 | u16::from(kind), flags, family as u8, 0, attributes.as_bytes());
    }

    /// How many rules it makes.
    pub(crate) fn rules(&self) -> usize {
        self.rules
    }

    /// Number of a set within the transaction.
    pub(super) fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        let length = HEADER + 4 + body.len();
        let flags = flags | netlink_packet_core::NLM_F_REQUEST;
        self.bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        // struct nfgenmsg: family, version 0, and a number in network byte order.
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body);
        self.count += 1;
    }

    /// Ends it. Returns the bytes and the number of the message whose acknowledgement comes last.
    fn finish(mut self) -> (Vec<u8>, u32) {
        let last = self.count - 1;
        // The last one is answered in any case, and what is wrong with those before it comes before.
        let mut at = 0;
        for _ in 0..last {
            let length = self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            at += length as usize;
        }
        if let Some(flags) = self.bytes[at + 6..].first_chunk_mut() {
            *flags = (u16::from_ne_bytes(*flags) | netlink_packet_core::NLM_F_ACK).to_ne_bytes();
        }
        self.message(END, 0, 0, SUBSYSTEM, &[]);
        (self.bytes, last)
    }
}

/// A conversation with the kernel about the rules of one network namespace.
#[derive(Debug)]
pub(crate) struct Nft(Socket);

impl Nft {
    /// Opens one about the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self> {
        Self::new(Socket::open(Protocol::Netfilter))
    }

    /// Opens one about another network namespace.
    pub(crate) fn open_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        Self::new(Socket::open_in(namespace, Protocol::Netfilter))
    }

    fn new(socket: io::Result<Socket>) -> Result<Self> {
        socket.map(Self).map_err(|error| {
            let error = Error::from_io("open netfilter socket", error);
            match error.kind() {
                ErrorKind::PermissionDenied => error.with_hint("CAP_NET_ADMIN is needed"),
                _ => error.with_hint("networks need a kernel with nf_tables (CONFIG_NF_TABLES)"),
            }
        })
    }

    /// Lists: the attributes of each message of the answer. A list that changed while it was read is `None`.
    pub(super) fn list(
        &mut self,
        kind: u8,
        family: Family,
        attributes: &Attributes,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let message = SUBSYSTEM << 8 | u16::from(kind);
        let found = self.dump(message, family as u8, attributes)?;
        // Behind struct nfgenmsg.
        let body = |message: Vec<u8>| message.get(4..).map(<[u8]>::to_vec);
        Ok(found.map(|found| found.into_iter().filter_map(body).collect()))
    }

    /// Asks for one thing: the attributes of the answer, `None` if it is not there.
    pub(super) fn get(
        &mut self,
        kind: u8,
        family: Family,
        attributes: &Attributes,
    ) -> Result<Option<Vec<u8>>> {
        self.ask(SUBSYSTEM << 8 | u16::from(kind), 0, family as u8, attributes)?;
        let failed = |error| Error::from_io("list packet filter", error);
        let datagram = self.0.receive().map_err(failed)?;
        let broken = || failed(io::Error::from(io::ErrorKind::InvalidData));
        let buffer = NetlinkBuffer::new_checked(datagram).map_err(|_| broken())?;
        let header = NetlinkHeader::parse(&buffer).map_err(|_| broken())?;
        let payload = datagram.get(HEADER..header.length as usize).ok_or_else(broken)?;
        if header.message_type != NLMSG_ERROR {
            return Ok(payload.get(4..).map(<[u8]>::to_vec));
        }
        match Refusal::of_acknowledgement(&header, payload).map_err(|no| no.error("list packet filter")) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            answer => answer.map(|()| None),
        }
    }

    /// Sends one message that is no part of a transaction.
    pub(super) fn ask(&self, message: u16, flags: u16, family: u8, attributes: &Attributes) -> Result<()> {
        let mut asked = Transaction { bytes: Vec::new(), count: 1, sets: 0, rules: 0 };
        asked.message(message, flags, family, 0, attributes.as_bytes());
        self.0.send(&asked.bytes).map_err(|error| Error::from_io("list packet filter", error))
    }

    /// Asks for a change that is no part of a transaction.
    pub(crate) fn request(&mut self, message: u16, family: u8, attributes: &Attributes) -> Result<()> {
        self.ask(message, netlink_packet_core::NLM_F_ACK, family, attributes)?;
        let failed = |error| Error::from_io("change packet filter", error);
        let datagram = self.0.receive().map_err(failed)?;
        let broken = || failed(io::Error::from(io::ErrorKind::InvalidData));
        let buffer = NetlinkBuffer::new_checked(datagram).map_err(|_| broken())?;
        let header = NetlinkHeader::parse(&buffer).map_err(|_| broken())?;
        let payload = datagram.get(HEADER..header.length as usize).ok_or_else(broken)?;
        Refusal::of_acknowledgement(&header, payload).map_err(|no| no.error("change packet filter"))
    }

    /// Lists anything of netfilter's: the messages of the answer with their struct nfgenmsg; `None` if it changed meanwhile.
    pub(super) fn dump(
        &mut self,
        message: u16,
        family: u8,
        attributes: &Attributes,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let mut found = Vec::new();
        let whole = self.dump_each(message, family, attributes, |message| found.push(message.to_vec()))?;
        Ok(whole.then_some(found))
    }

    /// Lists anything of netfilter's, one message at a time. Returns whether it stayed the same meanwhile.
    pub(crate) fn dump_each(
        &mut self,
        message: u16,
        family: u8,
        attributes: &Attributes,
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool> {
        let failed = |error| Error::from_io("list packet filter", error);
        self.ask(message, netlink_packet_core::NLM_F_DUMP, family, attributes)?;
        let mut whole = true;
        loop {
            let mut datagram = self.0.receive().map_err(failed)?;
            while datagram.len() >= HEADER {
                let broken = || failed(io::Error::from(io::ErrorKind::InvalidData));
                let buffer = NetlinkBuffer::new_checked(datagram).map_err(|_| broken())?;
                let header = NetlinkHeader::parse(&buffer).map_err(|_| broken())?;
                let payload = datagram.get(HEADER..header.length as usize).ok_or_else(broken)?;
                whole &= header.flags & netlink_packet_core::NLM_F_DUMP_INTR == 0;
                match header.message_type {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => {
                        let refusal = Refusal::of_acknowledgement(&header, payload);
                        return refusal
                            .map(|()| whole)
                            .map_err(|refusal| refusal.error("list packet filter"));
                    }
                    _ => each(payload),
                }
                datagram = datagram.get((header.length as usize).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// Makes the changes, all or none.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Result<()> {
        if transaction.is_empty() {
            return Ok(());
        }
        let (bytes, last) = transaction.finish();
        let failed = |error| Error::from_io("change packet filter", error);
        self.0.send(&bytes).map_err(failed)?;
        let mut first = None;
        loop {
            let mut datagram = self.0.receive().map_err(failed)?;
            while datagram.len() >= HEADER {
                let broken = || failed(io::Error::from(io::ErrorKind::InvalidData));
                let buffer = NetlinkBuffer::new_checked(datagram).map_err(|_| broken())?;
                let header = NetlinkHeader::parse(&buffer).map_err(|_| broken())?;
                let length = (header.length as usize).next_multiple_of(4).min(datagram.len());
                if header.message_type == NLMSG_ERROR {
                    let payload = &datagram[HEADER..header.length as usize];
                    if let Err(refusal) = Refusal::of_acknowledgement(&header, payload) {
                        first.get_or_insert(refusal);
                    }
                    // Number 0 is the begin: then nothing of it was looked at.
                    if header.sequence_number == last || header.sequence_number == 0 {
                        return first.map_or(Ok(()), |refusal| Err(refused(refusal)));
                    }
                }
                datagram = &datagram[length..];
            }
        }
    }
}

fn refused(refusal: Refusal) -> Error {
    refusal
        .error("change packet filter")
        .with_hint("networks need a kernel with nf_tables: nat, masquerading, conntrack, fib")
}
