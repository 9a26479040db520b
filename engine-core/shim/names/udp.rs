//! Questions by datagram, and those of them that are passed on.
//!
//! Each that is passed on has a socket of its own, connected to whom it asks, and a random number: an answer from elsewhere
//! or to something else is none (RFC 5452).

use super::answer::{self, Transport, Verdict};
use super::desk::Desk;
use super::message::{self, UDP_LIMIT, rcode};
use super::{IN_A_ROW, MAX_QUERY, PATIENCE};
use crate::sys::{self, Address, Fd, Kind};

/// Questions passed on at a time. One more is answered with a failure at once.
pub(super) const FORWARDS: usize = 64;
/// Longest datagram.
const MAX_DATAGRAM: usize = 65_536;

/// A question that somebody else was asked.
struct Forward {
    used: bool,
    socket: Fd,
    /// How many were asked before.
    at: usize,
    /// Until when its answer is waited for.
    until: u64,
    client: Address,
    /// The client's number for it.
    number: u16,
    length: usize,
}

/// All zero bytes are none.
pub(super) struct Forwards {
    count: usize,
    all: [Forward; FORWARDS],
    /// The questions, with our numbers. Apart from the rest, which is gone through at each turn of the loop.
    queries: [[u8; MAX_QUERY]; FORWARDS],
    query: [u8; UDP_LIMIT],
    out: [u8; MAX_DATAGRAM],
}

impl Forwards {
    pub(super) fn is_idle(&self) -> bool {
        self.count == 0
    }

    /// The socket to wait for, of the one at `at`.
    pub(super) fn watched(&self, at: usize) -> Option<Fd> {
        let forward = &self.all[at];
        forward.used.then_some(forward.socket)
    }

    pub(super) fn due(&self) -> Option<u64> {
        let all = if self.is_idle() { &[][..] } else { &self.all[..] };
        all.iter().filter(|forward| forward.used).map(|forward| forward.until).min()
    }

    pub(super) fn close(&mut self) {
        for at in 0..FORWARDS {
            self.free(at);
        }
    }

    /// There are questions.
    pub(super) fn on_datagrams(&mut self, desk: &mut Desk, datagrams: Fd) {
        for _ in 0..IN_A_ROW {
            let Ok((count, client)) = sys::receive_from(datagrams, &mut self.query) else { return };
            let query = &self.query[..count];
            let answer = match desk.decide(query, Transport::Udp, &mut self.out) {
                Verdict::Ignore => continue,
                Verdict::Answer(length) => Some(length),
                Verdict::Forward => match self.all.iter().position(|forward| !forward.used) {
                    Some(at) if count <= MAX_QUERY => {
                        self.pass_on(at, count, client, desk, datagrams);
                        None
                    }
                    _ => Some(answer::fail(query, rcode::SERVER_FAILURE, &mut self.out)),
                },
            };
            if let Some(length) = answer {
                // Who does not take its answer asks again.
                let _ = sys::send_to(datagrams, &self.out[..length], &client);
            }
        }
    }

    fn pass_on(&mut self, at: usize, length: usize, client: Address, desk: &mut Desk, datagrams: Fd) {
        let forward = &mut self.all[at];
        self.queries[at][..length].copy_from_slice(&self.query[..length]);
        forward.number = message::number(&self.query);
        message::set_number(&mut self.queries[at], sys::random() as u16);
        (forward.used, forward.socket, forward.at) = (true, -1, 0);
        (forward.client, forward.length) = (client, length);
        self.count += 1;
        self.ask(at, desk, datagrams);
    }

    /// Asks the one whose turn it is, or the next that can be asked; without any, says so.
    fn ask(&mut self, at: usize, desk: &mut Desk, datagrams: Fd) {
        let forward = &mut self.all[at];
        let query = &self.queries[at][..forward.length];
        while let Some(address) = desk.upstream(forward.at) {
            if let Ok(socket) = sys::connected_socket(&address, Kind::Datagram) {
                if sys::write(socket, query).is_ok() {
                    (forward.socket, forward.until) = (socket, sys::monotonic() + PATIENCE);
                    return;
                }
                sys::close(socket);
            }
            forward.at += 1;
        }
        let length = answer::fail(query, rcode::SERVER_FAILURE, &mut self.out);
        self.give(at, length, datagrams);
    }

    fn ask_next(&mut self, at: usize, desk: &mut Desk, datagrams: Fd) {
        let forward = &mut self.all[at];
        sys::close(forward.socket);
        (forward.socket, forward.at) = (-1, forward.at + 1);
        self.ask(at, desk, datagrams);
    }

    /// Somebody who was asked says something.
    pub(super) fn on_answer(&mut self, at: usize, desk: &mut Desk, datagrams: Fd) {
        let forward = &self.all[at];
        if !forward.used {
            return;
        }
        let length = match sys::read(forward.socket, &mut self.out) {
            Err(sys::EAGAIN | sys::EINTR) => return,
            // Nobody is there.
            Err(_) => return self.ask_next(at, desk, datagrams),
            Ok(length) => length,
        };
        let answer = &self.out[..length];
        if !message::is_answer(answer, &self.queries[at][..forward.length]) {
            return;
        }
        if message::failed(answer) && desk.upstream(forward.at + 1).is_some() {
            return self.ask_next(at, desk, datagrams);
        }
        self.give(at, length, datagrams);
    }

    /// Gives the client what is in `out`.
    fn give(&mut self, at: usize, length: usize, datagrams: Fd) {
        let forward = &self.all[at];
        message::set_number(&mut self.out, forward.number);
        let _ = sys::send_to(datagrams, &self.out[..length], &forward.client);
        self.free(at);
    }

    fn free(&mut self, at: usize) {
        let forward = &mut self.all[at];
        if forward.used {
            sys::close(forward.socket);
            forward.used = false;
            self.count -= 1;
        }
    }

    pub(super) fn on_time(&mut self, now: u64, desk: &mut Desk, datagrams: Fd) {
        for at in 0..if self.is_idle() { 0 } else { FORWARDS } {
            if self.all[at].used && self.all[at].until <= now {
                self.ask_next(at, desk, datagrams);
            }
        }
    }
}
