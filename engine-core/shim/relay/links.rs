//! Connections that are passed on: each is two sockets with a pipe for each way, through which the kernel moves the bytes.

use super::{LINK, Listener, token};
use crate::sys::{self, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Fd};

/// Most connections at once.
const LINKS: usize = 2048;
/// Descriptors that are for something else than connections.
const RESERVE: u64 = 1024;
/// Descriptors of one.
const EACH: u64 = 6;
/// How often one may move bytes before it is the others' turn.
const ROUNDS: usize = 16;
/// How many bytes are moved at once: what a pipe holds.
const PIECE: usize = 64 * 1024;

pub(super) struct Links {
    all: [Link; LINKS],
    used: usize,
    most: usize,
    behind: usize,
}

struct Link {
    used: bool,
    /// It had more to do when its turn ended.
    behind: bool,
    /// The client, and where it is led.
    ends: [Fd; 2],
    /// From each of them to the other.
    ways: [Way; 2],
}

/// One direction.
struct Way {
    pipe: (Fd, Fd),
    /// Bytes in the pipe.
    held: usize,
    /// Nothing more comes, and whether that was passed on.
    ended: bool,
    told: bool,
}

impl Way {
    fn new() -> sys::Result<Self> {
        Ok(Way { pipe: sys::pipe()?, held: 0, ended: false, told: false })
    }

    /// Moves what there is; returns whether anything changed.
    fn pass(&mut self, from: Fd, to: Fd) -> sys::Result<bool> {
        let mut moved = false;
        if !self.ended {
            match sys::splice(from, self.pipe.1, PIECE) {
                Ok(0) => (self.ended, moved) = (true, true),
                Ok(count) => (self.held, moved) = (self.held + count, true),
                Err(sys::EAGAIN | sys::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.held > 0 {
            match sys::splice(self.pipe.0, to, self.held) {
                Ok(count) => (self.held, moved) = (self.held.saturating_sub(count), true),
                Err(sys::EAGAIN | sys::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.ended && self.held == 0 && !self.told {
            sys::end_writing(to);
            self.told = true;
        }
        Ok(moved)
    }

    fn close(&self) {
        sys::close(self.pipe.0);
        sys::close(self.pipe.1);
    }
}

impl Link {
    /// Leads a client to the target.
    fn new(client: Fd, listener: &Listener) -> sys::Result<Self> {
        let target = sys::connected_socket(&listener.target, sys::Kind::Stream)?;
        let ways = Way::new().and_then(|way| match Way::new() {
            Ok(back) => Ok([way, back]),
            Err(errno) => {
                way.close();
                Err(errno)
            }
        });
        match ways {
            Ok(ways) => Ok(Link { used: true, behind: false, ends: [client, target], ways }),
            Err(errno) => {
                sys::close(target);
                Err(errno)
            }
        }
    }

    fn pass(&mut self) -> sys::Result<bool> {
        let ([client, target], [there, back]) = (self.ends, &mut self.ways);
        for _ in 0..ROUNDS {
            // Both, whatever the first one did.
            let moved = [there.pass(client, target)?, back.pass(target, client)?];
            if moved == [false; 2] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_ended(&self) -> bool {
        self.ways.iter().all(|way| way.told)
    }

    /// Closes everything; after a failure the client is to know of it.
    fn close(&mut self, failed: bool) {
        let end = if failed { sys::reset } else { sys::close };
        self.ends.into_iter().for_each(end);
        self.ways.iter().for_each(Way::close);
        (self.used, self.behind) = (false, false);
    }
}

impl Links {
    /// Has no more connections than so many descriptors allow.
    pub(super) fn limit(&mut self, descriptors: u64, others: usize) {
        let free = descriptors.saturating_sub(RESERVE + others as u64);
        self.most = (free / EACH).clamp(1, LINKS as u64) as usize;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether some have more to do at once.
    pub(super) fn is_behind(&self) -> bool {
        self.behind > 0
    }

    /// Takes a client. One too many is turned away, instead of waiting for nobody knows how long.
    pub(super) fn accept(&mut self, epoll: Fd, listener: &Listener) {
        let client = match sys::accept(listener.fd) {
            Ok(client) => client,
            Err(sys::EAGAIN | sys::EINTR | sys::ECONNABORTED) => return,
            // Nobody has descriptors: it comes again, but not at once.
            Err(_) => {
                let _ = sys::poll(&mut [], 10);
                return;
            }
        };
        let free = if self.used < self.most { self.all.iter().position(|link| !link.used) } else { None };
        let link = free.ok_or(sys::EBUSY).and_then(|at| Ok((at, Link::new(client, listener)?)));
        let Ok((at, link)) = link else { return sys::reset(client) };
        self.all[at] = link;
        self.used += 1;
        for fd in self.all[at].ends {
            sys::set_interactive(fd);
            if sys::epoll_add(epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, token(LINK, at)).is_err()
            {
                return self.close(at, true);
            }
        }
    }

    /// Moves what there is on one of them.
    pub(super) fn pass(&mut self, at: usize) {
        let Some(link) = self.all.get_mut(at).filter(|link| link.used) else { return };
        if link.behind {
            link.behind = false;
            self.behind -= 1;
        }
        match link.pass() {
            Err(_) => self.close(at, true),
            Ok(_) if link.has_ended() => self.close(at, false),
            Ok(true) => {
                link.behind = true;
                self.behind += 1;
            }
            Ok(false) => {}
        }
    }

    /// Goes on with those that have more to do.
    pub(super) fn catch_up(&mut self) {
        for at in 0..if self.behind > 0 { LINKS } else { 0 } {
            if self.all[at].behind {
                self.pass(at);
            }
        }
    }

    fn close(&mut self, at: usize, failed: bool) {
        self.all[at].close(failed);
        self.used -= 1;
    }
}
