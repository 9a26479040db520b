//! Datagrams that are passed on: each client has a socket of its own towards the target, by which answers find back to it.

use super::{Listener, SESSION, token};
use crate::sys::{self, Address, EPOLLIN, Fd, Local};

/// Most clients at once: beyond them, the one that was silent for longest is forgotten.
const SESSIONS: usize = 512;
/// After how long a silent one is forgotten, in milliseconds: as Docker's proxy does.
const SILENCE: u64 = 90_000;
/// How many datagrams are taken before it is the others' turn.
const AT_ONCE: usize = 32;
/// Longest datagram.
const LONGEST: usize = 65_536;

pub(super) struct Sessions {
    all: [Session; SESSIONS],
    used: usize,
    bytes: [u8; LONGEST],
}

struct Session {
    used: bool,
    /// Which socket it came to, who it is, and which of our addresses it knows.
    listener: usize,
    client: Address,
    local: Local,
    /// The socket towards the target.
    fd: Fd,
    last: u64,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How long until it is time to look for silent ones, in milliseconds; below zero without any.
    pub(super) fn patience(&self) -> i32 {
        if self.used == 0 { -1 } else { 10_000 }
    }

    /// Clients send something.
    pub(super) fn on_datagrams(&mut self, epoll: Fd, listener: usize, listeners: &[Listener]) {
        let Listener { fd, target, .. } = listeners[listener];
        for _ in 0..AT_ONCE {
            let (length, client, local) = match sys::receive_at(fd, &mut self.bytes) {
                Ok(received) => received,
                // An answer that did not arrive is told here.
                Err(errno) if errno != sys::EAGAIN => continue,
                Err(_) => return,
            };
            let known = self
                .all
                .iter()
                .position(|session| session.used && session.listener == listener && session.client == client);
            let Some(at) = known.or_else(|| self.begin(epoll, &target)) else { continue };
            let session = &mut self.all[at];
            (session.listener, session.client, session.local) = (listener, client, local);
            session.last = sys::monotonic();
            let _ = sys::write(session.fd, &self.bytes[..length]);
        }
    }

    /// Makes room for another client, with a socket towards the target.
    fn begin(&mut self, epoll: Fd, target: &Address) -> Option<usize> {
        let silent = |at: &usize| (self.all[*at].used, self.all[*at].last);
        let at = (0..SESSIONS).min_by_key(silent)?;
        self.end(at);
        let fd = sys::connected_socket(target, sys::Kind::Datagram).ok()?;
        if sys::epoll_add(epoll, fd, EPOLLIN, token(SESSION, at)).is_err() {
            sys::close(fd);
            return None;
        }
        (self.all[at].used, self.all[at].fd) = (true, fd);
        self.used += 1;
        Some(at)
    }

    /// The target answers.
    pub(super) fn on_answer(&mut self, at: usize, listeners: &[Listener]) {
        let Some(session) = self.all.get_mut(at).filter(|session| session.used) else { return };
        for _ in 0..AT_ONCE {
            match sys::read(session.fd, &mut self.bytes) {
                Ok(length) => {
                    session.last = sys::monotonic();
                    let from = listeners[session.listener].fd;
                    let _ = sys::send_at(from, &self.bytes[..length], &session.client, &session.local);
                }
                Err(sys::EAGAIN) => return,
                // Nobody listens there now. Somebody may yet.
                Err(_) => {}
            }
        }
    }

    /// Forgets those that were silent for long.
    pub(super) fn expire(&mut self, now: u64) {
        for at in 0..if self.used > 0 { SESSIONS } else { 0 } {
            if self.all[at].used && now.saturating_sub(self.all[at].last) > SILENCE {
                self.end(at);
            }
        }
    }

    fn end(&mut self, at: usize) {
        let session = &mut self.all[at];
        if session.used {
            session.used = false;
            sys::close(session.fd);
            self.used -= 1;
        }
    }
}
