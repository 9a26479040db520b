//! [`Route`]: requests, batches and dumps over one socket.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkDeserializable as _, NetlinkHeader,
};

use super::answer::{self, Refusal};
use super::describe::describe;
use super::packet::RouteNetlinkMessage;
use super::socket::{Protocol, Socket};
use super::sys;
use crate::error::{Error, ErrorKind, Result};

/// How often a list is read again that changed meanwhile.
pub(super) const DUMP_TRIES: usize = 32;
/// The most messages in a batch: their acknowledgements have to fit into the socket's buffer.
const LARGEST_BATCH: usize = 256;

/// A conversation with the kernel about the interfaces, addresses and routes of one network namespace.
///
/// It blocks, and has one thing going on at a time.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
    /// Number of the last message sent.
    sequence: u32,
}

/// The first message of a batch that the kernel refused.
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchFailure {
    /// Its place in the batch.
    pub index: usize,
    /// How many messages of the batch the kernel has done, before and after this one.
    pub done: usize,
    /// What was wrong.
    pub error: Error,
}

impl fmt::Display for BatchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of a batch: {}", self.index, self.error)
    }
}

impl std::error::Error for BatchFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<BatchFailure> for Error {
    fn from(failure: BatchFailure) -> Self {
        failure.error
    }
}

impl AsFd for Route {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::from_io(operation, error)
}

/// The error of what was to be done with `message`.
fn refused(message: &RouteNetlinkMessage, flags: u16, refusal: Refusal) -> Error {
    let (operation, subject) = describe(message, flags);
    let error = refusal.error(operation);
    match subject {
        Some((key, value)) => error.with(key, value),
        None => error,
    }
}

impl Route {
    /// Opens a conversation about the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        Self::new(Socket::open(Protocol::Route))
    }

    /// Opens a conversation about another network namespace.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`in_namespace`](super::in_namespace).
    pub fn open_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        Self::new(Socket::open_in(namespace, Protocol::Route))
    }

    fn new(socket: io::Result<Socket>) -> Result<Self> {
        let strict = socket.and_then(|socket| {
            // Without it, the kernel takes what it does not know in a dump's filter for no filter.
            sys::switch_on(socket.as_fd(), sys::NETLINK_GET_STRICT_CHK)?;
            Ok(socket)
        });
        Ok(Self { socket: strict.map_err(failed("open netlink socket"))?, sequence: 0 })
    }

    /// A conversation over a socket of a test.
    #[cfg(test)]
    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, sequence: 0 }
    }

    /// Makes one change. `flags` are those of [`flag`](super::flag).
    ///
    /// # Errors
    /// What the kernel refuses, with its words where it has some: [`NotFound`](ErrorKind::NotFound) for an interface,
    /// address or route that is not there, [`AlreadyExists`](ErrorKind::AlreadyExists) for one that is,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), [`PermissionDenied`](ErrorKind::PermissionDenied),
    /// [`Unsupported`](ErrorKind::Unsupported), [`Conflict`](ErrorKind::Conflict).
    pub fn request(&mut self, message: &RouteNetlinkMessage, flags: u16) -> Result<()> {
        let number = self.send(std::iter::once((message, flags | NLM_F_ACK)))?;
        let (operation, _) = describe(message, flags);
        let answers = self.acknowledgements(number, 1, |_| ()).map_err(failed(operation))?;
        answers.into_iter().try_for_each(|answer| answer.map_err(|refusal| refused(message, flags, refusal)))
    }

    /// Makes several changes with one system call, in order. Each has flags of its own.
    ///
    /// The kernel tries each of them whatever became of those before it: an error means that one was refused, not that
    /// nothing was done.
    ///
    /// # Errors
    /// As [`request`](Self::request), for the first that was refused.
    pub fn batch(&mut self, messages: &[(RouteNetlinkMessage, u16)]) -> Result<(), BatchFailure> {
        const OPERATION: &str = "configure network";
        let whole = |error| BatchFailure { index: 0, done: 0, error };
        if messages.len() > LARGEST_BATCH {
            let error = Error::new(ErrorKind::InvalidArgument, OPERATION);
            return Err(whole(error.with("messages", messages.len()).with_message("too many for one batch")));
        }
        if messages.is_empty() {
            return Ok(());
        }
        let number =
            self.send(messages.iter().map(|(message, flags)| (message, flags | NLM_F_ACK))).map_err(whole)?;
        let answers = self
            .acknowledgements(number, messages.len(), |_| ())
            .map_err(failed(OPERATION))
            .map_err(whole)?;
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        for (index, (answer, (message, flags))) in answers.into_iter().zip(messages).enumerate() {
            if let Err(refusal) = answer {
                return Err(BatchFailure { index, done, error: refused(message, *flags, refusal) });
            }
        }
        Ok(())
    }

    /// Asks for one thing, such as an interface by its index or name, and returns it.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn get(&mut self, message: &RouteNetlinkMessage) -> Result<RouteNetlinkMessage> {
        let number = self.send(std::iter::once((message, NLM_F_ACK)))?;
        let (operation, _) = describe(message, 0);
        let mut found = Vec::new();
        let answers = self
            .acknowledgements(number, 1, |answer| found.push(decode(answer)))
            .map_err(failed(operation))?;
        for answer in answers {
            answer.map_err(|refusal| refused(message, 0, refusal))?;
        }
        match found.into_iter().next() {
            Some(found) => found.map_err(failed(operation)),
            None => {
                Err(Error::new(ErrorKind::Corrupt, operation).with_message("the kernel's answer is empty"))
            }
        }
    }

    /// Lists what the message asks for, as far as its header and attributes filter it. A list that changed while it was
    /// read is read again, so what is returned was all there at one time.
    ///
    /// # Errors
    /// As [`request`](Self::request): [`InvalidArgument`](ErrorKind::InvalidArgument) for a filter that the kernel does not
    /// know. [`Unavailable`](ErrorKind::Unavailable) if the list never stays the same.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let (operation, _) = describe(message, 0);
        for _ in 0..DUMP_TRIES {
            let number = self.send(std::iter::once((message, NLM_F_DUMP)))?;
            match self.parts(number).map_err(failed(operation))? {
                Listed::Refused(refusal) => return Err(refused(message, 0, refusal)),
                Listed::Whole(found) => return Ok(found),
                Listed::Interrupted => {}
            }
        }
        Err(Error::new(ErrorKind::Unavailable, operation)
            .with_message("it changes faster than it can be read"))
    }

    /// Sends messages in one datagram and returns the number of the first; the others follow.
    fn send<'a>(
        &mut self,
        messages: impl IntoIterator<Item = (&'a RouteNetlinkMessage, u16)>,
    ) -> Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut header = NetlinkHeader::default();
        for (message, flags) in messages {
            self.sequence = self.sequence.wrapping_add(1);
            header.sequence_number = self.sequence;
            header.flags = flags | NLM_F_REQUEST;
            header.message_type = netlink_packet_core::NetlinkSerializable::message_type(message);
            let (begin, length) = (bytes.len(), header.buffer_len() + message.buffer_len());
            header.length = u32::try_from(length)
                .map_err(|_| Error::new(ErrorKind::InvalidArgument, "send netlink message"))?;
            bytes.resize(begin + length.next_multiple_of(4), 0);
            header.emit(&mut bytes[begin..]);
            message.emit(&mut bytes[begin + header.buffer_len()..begin + length]);
        }
        self.socket.send(&bytes).map_err(failed("send netlink message"))?;
        Ok(first)
    }

    /// Reads until `count` messages, numbered from `first`, are acknowledged. What comes beside acknowledgements goes to
    /// `other`.
    fn acknowledgements(
        &mut self,
        first: u32,
        count: usize,
        mut other: impl FnMut(&answer::Message<'_>),
    ) -> io::Result<Vec<Result<(), Refusal>>> {
        let mut answers: Vec<Option<Result<(), Refusal>>> = vec![None; count];
        while answers.iter().any(Option::is_none) {
            for message in answer::messages(self.socket.receive()?) {
                let message = message?;
                // What is left of a call that failed has another number.
                let index = message.header.sequence_number.wrapping_sub(first) as usize;
                let Some(answer) = answers.get_mut(index) else { continue };
                if message.header.message_type == NLMSG_ERROR {
                    *answer = Some(Refusal::of_acknowledgement(&message.header, message.payload));
                } else {
                    other(&message);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Reads a list to its end, whatever is wrong with its parts: the kernel begins no other before.
    fn parts(&mut self, number: u32) -> io::Result<Listed> {
        let (mut found, mut wrong, mut interrupted) = (Vec::new(), None, false);
        let ended = 'end: loop {
            for message in answer::messages(self.socket.receive()?) {
                let message = message?;
                if message.header.sequence_number != number {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.header.message_type {
                    NLMSG_DONE => break 'end Refusal::of_end(&message.header, message.payload),
                    NLMSG_ERROR => break 'end Refusal::of_acknowledgement(&message.header, message.payload),
                    _ => match decode(&message) {
                        Ok(part) => found.push(part),
                        Err(error) => wrong = wrong.or(Some(error)),
                    },
                }
            }
        };
        Ok(match (ended, wrong) {
            (Err(refusal), _) if refusal.errno == rustix::io::Errno::INTR.raw_os_error() => {
                Listed::Interrupted
            }
            (Err(refusal), _) => Listed::Refused(refusal),
            (Ok(()), _) if interrupted => Listed::Interrupted,
            (Ok(()), Some(error)) => return Err(error),
            (Ok(()), None) => Listed::Whole(found),
        })
    }
}

/// How reading a list ended.
enum Listed {
    Whole(Vec<RouteNetlinkMessage>),
    Interrupted,
    Refused(Refusal),
}

fn decode(message: &answer::Message<'_>) -> io::Result<RouteNetlinkMessage> {
    RouteNetlinkMessage::deserialize(&message.header, message.payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
