//! Relays: what comes to a kept socket is passed on to an address, where no rule of the kernel could lead it there.
//!
//! IPv6 clients of a container that has IPv4 alone, for one; and clients at ::1, which the kernel translates nowhere. It is a
//! process of its own, a copy of the shim without rights, made when the first client comes and gone when there was none for
//! a while: a container whose sockets nobody uses costs nothing, and a flood reaches neither the container's log nor its end.
//!
//! This file owns the process and its loop, `links` connections, `sessions` datagrams.
//! Invariant: the sockets stay in the queue that the shim holds. The relay reads copies, and may end at any time.

mod links;
mod sessions;

use links::Links;
use sessions::Sessions;

use crate::process::PR_SET_PDEATHSIG;
use crate::sys::{self, Address, EPOLLIN, Event, Fd};
use crate::wire;

/// Most sockets of one relay.
const LISTENERS: usize = 8192;
/// After how long without clients it ends, in milliseconds.
const IDLE: i32 = 30_000;
/// SOCK_STREAM
const STREAM: i32 = 1;

const RLIMIT_NOFILE: u32 = 7;
const PR_SET_NO_NEW_PRIVS: usize = 38;

/// What an event is of: the upper half of its token.
const NEW: u64 = 0;
const LINK: u64 = 1;
const SESSION: u64 = 2;

fn token(kind: u64, at: usize) -> u64 {
    kind << 32 | at as u64
}

/// A socket that clients come to. All zero bytes are none.
#[derive(Clone, Copy)]
struct Listener {
    fd: Fd,
    connections: bool,
    target: Address,
}

/// Everything a relay knows. All zero bytes are one without sockets.
struct Relay {
    /// What it waits for, and within that the sockets that clients come to.
    epoll: Fd,
    sockets: Fd,
    listeners: [Listener; LISTENERS],
    count: usize,
    links: Links,
    sessions: Sessions,
}

/// Starts the relay of the sockets in the queue of `held`, which `sockets` (an epoll descriptor) tells apart by their number.
pub(crate) fn start(held: Fd, sockets: Fd, end: &mut Fd) -> sys::Result<i32> {
    let parent = sys::getpid();
    let pid = sys::fork(sys::CLONE_PIDFD, end, -1)?;
    if pid == 0 {
        let _ = run(held, sockets, parent);
        sys::exit(1)
    }
    Ok(pid)
}

fn run(held: Fd, sockets: Fd, parent: i32) -> sys::Result<()> {
    sys::prctl(PR_SET_PDEATHSIG, sys::SIGKILL as usize, 0)?;
    if sys::getppid() != parent {
        return Ok(());
    }
    // Nothing else of the shim's is held: the end of its connections and of the container's pipes must be seen.
    let (held, sockets) = (sys::dup_high(held)?, sys::dup_high(sockets)?);
    sys::dup3(held, 0, sys::O_CLOEXEC)?;
    sys::dup3(sockets, 1, sys::O_CLOEXEC)?;
    sys::close_range(2, 0)?;
    let most = sys::hard_limit(RLIMIT_NOFILE);
    let _ = sys::setrlimit(RLIMIT_NOFILE, most, most);
    sys::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    sys::capset(0, 0, 0)?;
    let words = sys::words(size_of::<Relay>() / size_of::<usize>() + 1)?;
    // SAFETY: at least as many zero bytes as a relay has, which are one, page aligned, and nothing else refers to them.
    let relay = unsafe { &mut *words.as_mut_ptr().cast::<Relay>() };
    relay.epoll = sys::epoll()?;
    relay.sockets = 1;
    relay.take(0)?;
    sys::epoll_add(relay.epoll, relay.sockets, EPOLLIN, token(NEW, 0))?;
    relay.links.limit(most, relay.count);
    relay.serve()
}

impl Relay {
    /// Copies the sockets out of the queue: messages with a target for each descriptor, before all others.
    fn take(&mut self, held: Fd) -> sys::Result<()> {
        sys::peek_on(held)?;
        loop {
            let mut targets = [0; wire::TARGET * sys::MAX_RIGHTS];
            let mut fds = [-1; sys::MAX_RIGHTS];
            let length = match sys::peek(held, &mut targets, &mut fds) {
                // The library has closed its end.
                Ok(0) | Err(sys::EAGAIN) => return Ok(()),
                Ok(length) => length,
                Err(errno) => return Err(errno),
            };
            let mut targets = targets[..length].chunks_exact(wire::TARGET).filter_map(wire::decode_target);
            for fd in fds.into_iter().filter(|fd| *fd >= 0) {
                match (targets.next(), self.listeners.get_mut(self.count)) {
                    (Some(target), Some(listener)) => {
                        let connections = sys::socket_kind(fd)? == STREAM;
                        if !connections {
                            sys::tell_local(fd);
                        }
                        *listener = Listener { fd, connections, target: Address::from(target) };
                        self.count += 1;
                    }
                    // Only held.
                    _ => sys::close(fd),
                }
            }
        }
    }

    fn serve(&mut self) -> sys::Result<()> {
        let mut events = [Event { events: 0, token: 0 }; 64];
        loop {
            let idle = self.links.is_empty() && self.sessions.is_empty();
            let patience = match () {
                () if self.links.is_behind() => 0,
                () if idle => IDLE,
                () => self.sessions.patience(),
            };
            let count = match sys::epoll_wait(self.epoll, &mut events, patience) {
                Ok(0) if idle => return Ok(()),
                Ok(count) => count,
                Err(sys::EINTR) => 0,
                Err(errno) => return Err(errno),
            };
            for event in &events[..count] {
                let at = event.token as u32 as usize;
                match event.token >> 32 {
                    LINK => self.links.pass(at),
                    SESSION => self.sessions.on_answer(at, &self.listeners),
                    _ => self.on_clients()?,
                }
            }
            self.links.catch_up();
            self.sessions.expire(sys::monotonic());
        }
    }

    /// Somebody comes to a socket.
    fn on_clients(&mut self) -> sys::Result<()> {
        let mut events = [Event { events: 0, token: 0 }; 16];
        let count = sys::epoll_wait(self.sockets, &mut events, 0)?;
        for event in &events[..count] {
            let at = event.token as usize;
            match self.listeners[..self.count].get(at) {
                Some(listener) if listener.connections => self.links.accept(self.epoll, listener),
                Some(_) => self.sessions.on_datagrams(self.epoll, at, &self.listeners),
                None => return Err(sys::EINVAL),
            }
        }
        Ok(())
    }
}
