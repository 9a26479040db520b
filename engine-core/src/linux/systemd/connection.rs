//! A conversation with systemd: connecting, saying who we are, calls and their answers.
//!
//! Owns the socket and the deadline, which is one for the whole conversation. The peer is systemd itself on a socket of its
//! own, or the message bus with systemd on it. Signals are read for one thing, which jobs have ended.
//! Source: D-Bus Specification, "Authentication Protocol"; sd-bus(3).

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::wire::{Call, ERROR, FIXED, METHOD_RETURN, Malformed, Message, SIGNAL, Writer};
use crate::error::{Error, ErrorKind, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const BUS: &str = "org.freedesktop.DBus";
/// Lines of the authentication have some fifty bytes.
const MAX_LINE: usize = 512;
/// Ends of jobs that were told while something else was waited for: those of others, mostly.
const MAX_JOBS: usize = 256;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// systemd refused: the name of its error, and its words.
    Refused { name: String, text: String },
    /// The conversation broke.
    Broken(Error),
}

impl Failure {
    /// Makes an error about `operation` of it.
    pub(super) fn into_error(self, operation: &'static str) -> Error {
        let (name, text) = match self {
            Self::Broken(error) => return error,
            Self::Refused { name, text } => (name, text),
        };
        let kind = match name.rsplit('.').next().unwrap_or_default() {
            "UnitExists" => ErrorKind::AlreadyExists,
            "NoSuchUnit" | "NoSuchProcess" => ErrorKind::NotFound,
            "AccessDenied" | "InteractiveAuthorizationRequired" => ErrorKind::PermissionDenied,
            "InvalidArgs" => ErrorKind::InvalidArgument,
            "NoReply" | "ServiceUnknown" | "NameHasNoOwner" | "Disconnected" => ErrorKind::Unavailable,
            "PropertyReadOnly" | "UnknownMethod" | "UnknownProperty" => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        };
        Error::new(kind, operation).with("refusal", name).with_message(printable(&text))
    }
}

/// Words of a peer's, as they can be shown.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// How a job ended: its object path, and systemd's word for it.
#[derive(Debug)]
struct Ended {
    job: String,
    result: String,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
    ended: VecDeque<Ended>,
}

fn broken(error: io::Error) -> Failure {
    Failure::Broken(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::new(ErrorKind::DeadlineExceeded, "ask systemd").with_message("it does not answer")
        }
        io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::Unavailable, "ask systemd")
            .with_message("it closed the connection")
            .with_source(error),
        _ => Error::from_io("ask systemd", error),
    })
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        let error = Error::new(ErrorKind::Corrupt, "ask systemd");
        Self::Broken(error.with_message("what it sent is no message of D-Bus that answers ours"))
    }
}

impl Connection {
    /// Connects to the socket at `path`: to systemd, or to the bus if it is one. All that follows has to be over in time.
    ///
    /// # Errors
    /// With the I/O error as it is, so that another address can be tried where nobody listens at this one.
    pub(super) fn open(path: &Path, is_bus: bool, patience: Duration) -> Result<Self, (bool, Failure)> {
        let connect = || -> io::Result<UnixStream> {
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // connect(2) waits while the peer's queue is full, for as long as a send may.
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket.into())
        };
        let stream = connect().map_err(|error| {
            let nobody = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            (nobody, broken(error))
        })?;
        let deadline = Instant::now() + patience;
        let mut connection = Self { stream, deadline, serial: 0, ended: VecDeque::new() };
        connection.begin(is_bus).map_err(|failure| (false, failure))?;
        Ok(connection)
    }

    fn begin(&mut self, is_bus: bool) -> Result<(), Failure> {
        // The user's number in decimal digits, and those in hexadecimal.
        let user = hex::encode(rustix::process::geteuid().as_raw().to_string());
        // All at once, and nothing after it before there is an answer: what systemd reads together with BEGIN, it looks at
        // when something else comes, which may be never.
        self.write(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let answer = self.line()?;
        if !answer.starts_with("OK ") {
            let error = Error::new(ErrorKind::PermissionDenied, "ask systemd");
            return Err(Failure::Broken(
                error.with_message(format!("it does not take this user: {}", printable(&answer))),
            ));
        }
        if is_bus {
            let to_bus = |member, signature, body| Call {
                destination: BUS,
                path: "/org/freedesktop/DBus",
                interface: BUS,
                member,
                signature,
                body,
            };
            self.call(&to_bus("Hello", "", Writer::default()))?;
            let mut rule = Writer::default();
            rule.text(&format!(
                "type='signal',sender='{SYSTEMD}',interface='{SYSTEMD}.Manager',member='JobRemoved'"
            ));
            self.call(&to_bus("AddMatch", "s", rule))?;
            // Without it, systemd tells the bus of no job.
            self.manager("Subscribe", "", Writer::default())?;
        }
        Ok(())
    }

    /// Calls a method of the manager, which is all of systemd that we talk to.
    pub(super) fn manager(
        &mut self,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> Result<Message, Failure> {
        let interface = match member {
            "Get" => "org.freedesktop.DBus.Properties",
            _ => "org.freedesktop.systemd1.Manager",
        };
        let path = "/org/freedesktop/systemd1";
        self.call(&Call { destination: SYSTEMD, path, interface, member, signature, body })
    }

    /// Waits until `job` has ended; returns systemd's word for how: `done`, `failed`, `canceled`, `timeout`, …
    pub(super) fn wait(&mut self, job: &str) -> Result<String, Failure> {
        loop {
            if let Some(at) = self.ended.iter().position(|ended| ended.job == job) {
                return Ok(self.ended.swap_remove_back(at).map(|ended| ended.result).unwrap_or_default());
            }
            let message = self.receive()?;
            self.note(&message);
        }
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Message, Failure> {
        self.serial += 1;
        let serial = self.serial;
        self.write(&call.encode(serial))?;
        loop {
            let message = self.receive()?;
            match message.kind {
                METHOD_RETURN if message.reply_to == Some(serial) => return Ok(message),
                ERROR if message.reply_to == Some(serial) => {
                    let text = message.texts().map(|[text]| text.to_owned()).unwrap_or_default();
                    return Err(Failure::Refused { name: printable(&message.error), text });
                }
                _ => self.note(&message),
            }
        }
    }

    /// Remembers the end of a job. Those of earlier connections' and of others' are told too.
    fn note(&mut self, message: &Message) {
        if message.kind != SIGNAL || message.member != "JobRemoved" {
            return;
        }
        if let Ok([job, _unit, result]) = message.texts() {
            if self.ended.len() >= MAX_JOBS {
                self.ended.pop_front();
            }
            self.ended.push_back(Ended { job: job.to_owned(), result: printable(result) });
        }
    }

    fn left(&self) -> Result<Duration, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Zero would be "for ever".
        if left.is_zero() { Err(broken(io::ErrorKind::TimedOut.into())) } else { Ok(left) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let left = self.left()?;
        self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write_all(bytes)).map_err(broken)
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let left = self.left()?;
            self.stream.set_read_timeout(Some(left)).map_err(broken)?;
            match self.stream.read(bytes) {
                Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// A line of the authentication, without its end. Byte by byte: what follows it is none of ours.
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        while line.len() < MAX_LINE {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
            if let Some(line) = line.strip_suffix(b"\r\n") {
                return String::from_utf8(line.to_vec()).map_err(|_| Malformed.into());
            }
        }
        Err(Malformed.into())
    }

    fn receive(&mut self) -> Result<Message, Failure> {
        let mut fixed = [0; FIXED];
        self.read(&mut fixed)?;
        let mut bytes = vec![0; Message::length(&fixed)?];
        bytes[..FIXED].copy_from_slice(&fixed);
        self.read(&mut bytes[FIXED..])?;
        Ok(Message::parse(bytes)?)
    }
}
