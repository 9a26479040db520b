//! Questions by connection (RFC 7766), one after the other on each; what is passed on is asked by connection, too.
//!
//! A client that says nothing, or does not take its answer, is cut off after a while, and at once when another comes and there
//! is no room.

use super::answer::{self, Transport, Verdict};
use super::desk::Desk;
use super::message::{self, rcode};
use super::{IN_A_ROW, MAX_QUERY, PATIENCE};
use crate::sys::{self, Fd, Kind, POLLIN, POLLOUT};

/// Connections at a time.
pub(super) const CONNECTIONS: usize = 16;
/// How long a client may say or take nothing, in milliseconds.
const IDLE: u64 = 10_000;
/// Before each message stands its length.
const PREFIX: usize = 2;

/// Where a connection is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Free,
    /// For a question.
    Reading,
    /// To somebody else.
    Connecting,
    /// For somebody else's answer.
    Asking,
    /// The client takes its answer.
    Writing,
}

struct Connection {
    state: State,
    client: Fd,
    /// Whom is asked, or -1.
    upstream: Fd,
    /// How many were asked before.
    at: usize,
    until: u64,
    /// When the client last did something.
    seen: u64,
    /// The client's number for its question.
    number: u16,
    /// How much of `input` there is, and how much of it is the question.
    read: usize,
    question: usize,
    input: [u8; PREFIX + MAX_QUERY],
    /// How much of `output` there is to write, and how much is written or, of somebody else's answer, read.
    length: usize,
    done: usize,
    output: [u8; PREFIX + u16::MAX as usize],
}

/// All zero bytes are none.
pub(super) struct Connections {
    count: usize,
    all: [Connection; CONNECTIONS],
}

impl Connections {
    pub(super) fn is_idle(&self) -> bool {
        self.count == 0
    }

    /// The client's socket, and what to wait for. While somebody else is asked, only its end is.
    pub(super) fn client(&self, at: usize) -> Option<(Fd, i16)> {
        let connection = &self.all[at];
        let events = match connection.state {
            State::Free => return None,
            State::Reading => POLLIN,
            State::Connecting | State::Asking => 0,
            State::Writing => POLLOUT,
        };
        Some((connection.client, events))
    }

    /// The socket to somebody else, and what to wait for.
    pub(super) fn upstream(&self, at: usize) -> Option<(Fd, i16)> {
        let connection = &self.all[at];
        match connection.state {
            State::Connecting => Some((connection.upstream, POLLOUT)),
            State::Asking => Some((connection.upstream, POLLIN)),
            _ => None,
        }
    }

    pub(super) fn due(&self) -> Option<u64> {
        let all = if self.is_idle() { &[][..] } else { &self.all[..] };
        all.iter().filter(|one| one.state != State::Free).map(|one| one.until).min()
    }

    pub(super) fn close(&mut self) {
        for at in 0..CONNECTIONS {
            self.free(at);
        }
    }

    fn free(&mut self, at: usize) {
        let connection = &mut self.all[at];
        if connection.state != State::Free {
            sys::close(connection.client);
            sys::close(connection.upstream);
            connection.state = State::Free;
            self.count -= 1;
        }
    }

    /// Takes connections. An error is one of ours, such as too many open files.
    pub(super) fn accept(&mut self, listen: Fd) -> sys::Result<()> {
        for _ in 0..IN_A_ROW {
            let client = match sys::accept(listen) {
                Err(sys::EAGAIN) => return Ok(()),
                Err(sys::EINTR | sys::ECONNABORTED) => continue,
                client => client?,
            };
            let at = self.place();
            self.free(at);
            let connection = &mut self.all[at];
            let now = sys::monotonic();
            (connection.state, connection.client, connection.upstream) = (State::Reading, client, -1);
            (connection.seen, connection.until, connection.read) = (now, now + IDLE, 0);
            self.count += 1;
        }
        Ok(())
    }

    /// Where the next connection goes: a free place, or that of who has been silent the longest.
    fn place(&self) -> usize {
        let order = |one: &Connection| match one.state {
            State::Free => (0, 0),
            State::Reading => (1, one.seen),
            _ => (2, one.seen),
        };
        (0..CONNECTIONS).min_by_key(|at| order(&self.all[*at])).unwrap_or(0)
    }

    /// The client said something, takes something, or is gone.
    pub(super) fn on_client(&mut self, at: usize, desk: &mut Desk) {
        let connection = &mut self.all[at];
        let going_on = match connection.state {
            State::Free => return,
            State::Reading => connection.read_some().map(|()| connection.answer_all(desk)),
            State::Writing => {
                connection.write_some().map(|whole| if whole { connection.answer_all(desk) } else { true })
            }
            // It was only to be told when it is gone.
            State::Connecting | State::Asking => Ok(false),
        };
        if going_on != Ok(true) {
            self.free(at);
        }
    }

    /// Somebody else can be asked, or answers.
    pub(super) fn on_upstream(&mut self, at: usize, desk: &mut Desk) {
        let connection = &mut self.all[at];
        let done = match connection.state {
            State::Connecting => connection.send_question(),
            State::Asking => connection.take_answer(desk),
            _ => return,
        };
        let going_on = match done {
            Ok(true) => connection.finish(desk),
            Ok(false) | Err(sys::EAGAIN | sys::EINTR) => true,
            Err(_) => connection.ask_next(desk),
        };
        if !going_on {
            self.free(at);
        }
    }

    pub(super) fn on_time(&mut self, now: u64, desk: &mut Desk) {
        for at in 0..if self.is_idle() { 0 } else { CONNECTIONS } {
            let connection = &mut self.all[at];
            let going_on = match connection.state {
                State::Free => continue,
                _ if connection.until > now => continue,
                State::Connecting | State::Asking => connection.ask_next(desk),
                State::Reading | State::Writing => false,
            };
            if !going_on {
                self.free(at);
            }
        }
    }
}

impl Connection {
    fn touch(&mut self) {
        self.seen = sys::monotonic();
        self.until = self.seen + IDLE;
    }

    /// Reads what the client says. Its end is an error.
    fn read_some(&mut self) -> sys::Result<()> {
        match sys::read(self.client, &mut self.input[self.read..]) {
            Ok(0) => Err(sys::EIO),
            Ok(count) => {
                self.read += count;
                self.touch();
                Ok(())
            }
            Err(sys::EAGAIN | sys::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Answers what questions there are whole, until something has to be waited for. Returns whether the connection goes on.
    fn answer_all(&mut self, desk: &mut Desk) -> bool {
        loop {
            self.state = State::Reading;
            if self.read < PREFIX {
                return true;
            }
            let length = usize::from(u16::from_be_bytes([self.input[0], self.input[1]]));
            if length > MAX_QUERY {
                return false;
            }
            self.question = PREFIX + length;
            if self.read < self.question {
                return true;
            }
            let (query, out) = (&self.input[PREFIX..self.question], &mut self.output[PREFIX..]);
            match desk.decide(query, Transport::Tcp, out) {
                Verdict::Ignore => return false,
                Verdict::Answer(length) => match self.begin_answer(length) {
                    Ok(true) => {}
                    Ok(false) => return true,
                    Err(_) => return false,
                },
                Verdict::Forward => {
                    self.number = message::number(query);
                    message::set_number(&mut self.input[PREFIX..], sys::random() as u16);
                    self.at = 0;
                    // Whatever is answered at once, the loop of who called goes on with.
                    if !self.ask(desk) {
                        return false;
                    }
                    if self.state != State::Reading {
                        return true;
                    }
                }
            }
        }
    }

    /// Asks the one whose turn it is, or the next that can be asked; without any, says so. Returns whether the connection
    /// goes on. Its state is [`State::Reading`] once all is written.
    fn ask(&mut self, desk: &mut Desk) -> bool {
        while let Some(address) = desk.upstream(self.at) {
            if let Ok(socket) = sys::connected_socket(&address, Kind::Stream) {
                (self.state, self.upstream) = (State::Connecting, socket);
                self.until = sys::monotonic() + PATIENCE;
                return true;
            }
            self.at += 1;
        }
        let query = &self.input[PREFIX..self.question];
        let length = answer::fail(query, rcode::SERVER_FAILURE, &mut self.output[PREFIX..]);
        message::set_number(&mut self.output[PREFIX..], self.number);
        self.begin_answer(length).is_ok()
    }

    /// Asks the next one, and goes on with other questions if there is none.
    fn ask_next(&mut self, desk: &mut Desk) -> bool {
        self.hang_up();
        self.at += 1;
        self.ask(desk) && (self.state != State::Reading || self.answer_all(desk))
    }

    fn hang_up(&mut self) {
        sys::close(self.upstream);
        self.upstream = -1;
    }

    /// The connection to somebody else stands, or not.
    fn send_question(&mut self) -> sys::Result<bool> {
        sys::socket_error(self.upstream)?;
        // It fits into the buffer of a fresh socket.
        if sys::write(self.upstream, &self.input[..self.question])? != self.question {
            return Err(sys::EIO);
        }
        (self.state, self.done) = (State::Asking, 0);
        Ok(false)
    }

    /// Takes a part of somebody else's answer. Returns whether it is whole, and one to be given.
    fn take_answer(&mut self, desk: &mut Desk) -> sys::Result<bool> {
        let wanted = match self.done {
            ..PREFIX => PREFIX,
            _ => PREFIX + usize::from(u16::from_be_bytes([self.output[0], self.output[1]])),
        };
        match sys::read(self.upstream, &mut self.output[self.done..wanted])? {
            0 => return Err(sys::EIO),
            count => self.done += count,
        }
        if self.done < wanted || wanted == PREFIX {
            return Ok(false);
        }
        let answer = &self.output[PREFIX..wanted];
        let is_answer = message::is_answer(answer, &self.input[PREFIX..self.question]);
        if !is_answer || message::failed(answer) && desk.upstream(self.at + 1).is_some() {
            return Err(sys::EIO);
        }
        self.length = wanted;
        Ok(true)
    }

    /// Gives the client somebody else's answer, and goes on with other questions.
    fn finish(&mut self, desk: &mut Desk) -> bool {
        self.hang_up();
        message::set_number(&mut self.output[PREFIX..], self.number);
        match self.begin_answer(self.length - PREFIX) {
            Ok(whole) => !whole || self.answer_all(desk),
            Err(_) => false,
        }
    }

    /// Begins to write the answer of `length` bytes that is in `output`.
    fn begin_answer(&mut self, length: usize) -> sys::Result<bool> {
        self.output[..PREFIX].copy_from_slice(&(length as u16).to_be_bytes());
        (self.length, self.done, self.state) = (PREFIX + length, 0, State::Writing);
        self.touch();
        self.write_some()
    }

    /// Writes what the client takes. Once that was all, its question is done with.
    fn write_some(&mut self) -> sys::Result<bool> {
        match sys::write(self.client, &self.output[self.done..self.length]) {
            Ok(count) => {
                self.done += count;
                self.touch();
            }
            Err(sys::EAGAIN | sys::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if self.done < self.length {
            return Ok(false);
        }
        self.input.copy_within(self.question..self.read, 0);
        self.read -= self.question;
        self.state = State::Reading;
        Ok(true)
    }
}
