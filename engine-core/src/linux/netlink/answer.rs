//! What the kernel sends back: datagrams taken apart, and acknowledgements read.

use std::fmt;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NetlinkBuffer, NetlinkHeader, NlasIterator, Parseable as _,
};

use crate::error::{Error, ErrorKind};

// Attributes of an acknowledgement, see enum nlmsgerr_attrs in linux/netlink.h.
const TEXT: u16 = 1;
const MISSING_ATTRIBUTE: u16 = 5;
/// Length of a message's header.
const HEADER: usize = 16;
/// Length of an error number.
const NUMBER: usize = 4;

/// Why the kernel did not do what a message asked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// The error number, see errno(3).
    pub errno: i32,
    /// The kernel's words, where it has some.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{text}: {}", io::Error::from_raw_os_error(self.errno)),
            None => io::Error::from_raw_os_error(self.errno).fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Reads an acknowledgement: a message of type `NLMSG_ERROR`. `Ok` if what was asked is done.
    ///
    /// # Errors
    /// The refusal; `EBADMSG` for what is no acknowledgement.
    pub fn of_acknowledgement(header: &NetlinkHeader, payload: &[u8]) -> Result<(), Self> {
        // struct nlmsgerr: the number, then the header of the message it is about, then that message unless it is left out.
        let about = payload.get(NUMBER..).and_then(|rest| NetlinkBuffer::new_checked(rest).ok());
        let skipped = match (header.flags & NLM_F_CAPPED, about) {
            (0, Some(message)) => NUMBER + (message.length() as usize).next_multiple_of(4),
            _ => NUMBER + HEADER,
        };
        Self::read(header, payload, skipped)
    }

    /// Reads the end of a dump: a message of type `NLMSG_DONE`.
    pub(super) fn of_end(header: &NetlinkHeader, payload: &[u8]) -> Result<(), Self> {
        // Kernels may end a dump without a number.
        if payload.is_empty() { Ok(()) } else { Self::read(header, payload, NUMBER) }
    }

    fn read(header: &NetlinkHeader, payload: &[u8], skipped: usize) -> Result<(), Self> {
        let number = payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        let errno = match number {
            Some(0) => return Ok(()),
            Some(negative) => negative.saturating_neg(),
            None => rustix::io::Errno::BADMSG.raw_os_error(),
        };
        let attributes = if header.flags & NLM_F_ACK_TLVS == 0 { None } else { payload.get(skipped..) };
        let (mut text, mut missing) = (None, None);
        for attribute in NlasIterator::new(attributes.unwrap_or_default()).flatten() {
            let value = attribute.value();
            match attribute.kind() {
                TEXT => text = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()),
                MISSING_ATTRIBUTE => missing = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)),
                _ => {}
            }
        }
        let text = text.or_else(|| missing.map(|kind| format!("attribute {kind} is missing")));
        Err(Self { errno, text })
    }

    /// The error of an operation that the kernel refused, of the kind its number stands for among interfaces and routes.
    /// As the error of `operation`, with the kernel's words.
    #[must_use]
    pub fn error(self, operation: &'static str) -> Error {
        use rustix::io::Errno;
        let cause = io::Error::from_raw_os_error(self.errno);
        let error = Error::from_io(operation, cause);
        let error = match Errno::from_raw_os_error(self.errno) {
            Errno::NODEV | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NXIO => {
                error.with_kind(ErrorKind::NotFound)
            }
            Errno::ADDRINUSE | Errno::BUSY => error.with_kind(ErrorKind::Conflict),
            Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PFNOSUPPORT => {
                error.with_kind(ErrorKind::Unsupported)
            }
            Errno::RANGE | Errno::NOTUNIQ => error.with_kind(ErrorKind::InvalidArgument),
            Errno::NOBUFS => error.with_kind(ErrorKind::ResourceExhausted),
            _ => error,
        };
        match self.text {
            Some(text) => error.with_message(format!("the kernel refuses: {text}")),
            None => error,
        }
    }
}

/// One message of a datagram.
pub(super) struct Message<'a> {
    pub(super) header: NetlinkHeader,
    pub(super) payload: &'a [u8],
}

/// Takes a datagram apart. What is cut short is the last.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = rest;
        rest = &[];
        let wrong = |error| Some(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        let message = match NetlinkBuffer::new_checked(whole) {
            Ok(message) => message,
            Err(error) => return wrong(error),
        };
        let header = match NetlinkHeader::parse(&message) {
            Ok(header) => header,
            Err(error) => return wrong(error),
        };
        let length = header.length as usize;
        rest = whole.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message { header, payload: &whole[HEADER..length] }))
    })
}
