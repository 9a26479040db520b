//! Names of other containers, answered inside the container's network at 127.0.0.11.
//!
//! The sockets are made inside the container's network namespace by this process itself, which is of one thread and comes
//! back at once; those that ask others are of the host's. What the zones do not have is asked of the servers of the
//! configuration. `message`, `zone`, `config` and `answer` decide, `desk` reads files, `udp` and `tcp` carry messages.
//! Invariant: all memory is here, bounded, and untouched while nobody asks. Nothing waits for anybody but in the loop's poll,
//! and whatever is waited for has an end in time (SECURITY E11).

mod answer;
mod config;
mod desk;
mod message;
mod tcp;
mod udp;
mod zone;

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use self::desk::Desk;
use self::tcp::Connections;
use self::udp::Forwards;
use crate::plan::tag;
use crate::serve::{Shim, Token};
use crate::sys::{self, Fd, Kind, POLLIN};
use crate::{Failure, fail, state, wire::step};

/// Longest question that is passed on: more than any resolver asks (RFC 9715, 3.1).
const MAX_QUERY: usize = 1232;
/// How long somebody else may take for an answer, in milliseconds: as Docker.
const PATIENCE: u64 = 4000;
/// How long no connection is taken after one could not be, in milliseconds.
const PAUSE: u64 = 100;
/// Datagrams and connections taken in a row, before others have their turn.
const IN_A_ROW: usize = 32;

/// What a descriptor of the resolver is.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Datagrams,
    Connections,
    /// A question that was passed on.
    Forward(usize),
    Client(usize),
    /// What is asked for a client.
    Upstream(usize),
}

/// Most descriptors to wait for.
pub(crate) const SOURCES: usize = 2 + udp::FORWARDS + 2 * tcp::CONNECTIONS;

/// The resolver. All zero bytes are none.
pub(crate) struct Names {
    on: bool,
    datagrams: Fd,
    listen: Fd,
    /// Until when no connection is taken, on the monotonic clock; 0 for no such time.
    paused_until: u64,
    desk: Desk,
    forwards: Forwards,
    connections: Connections,
}

impl Names {
    /// Takes two sockets.
    fn open(&mut self, datagrams: Fd, listen: Fd, run_dir: Fd) {
        (self.on, self.datagrams, self.listen) = (true, datagrams, listen);
        self.desk.open(run_dir);
    }

    /// Ends all of it: the sockets would keep the namespace.
    pub(crate) fn close(&mut self) {
        if self.on {
            self.forwards.close();
            self.connections.close();
            sys::close(self.datagrams);
            sys::close(self.listen);
            self.on = false;
        }
    }

    /// What to wait for as the `at`th thing.
    fn source(&self, at: usize) -> Option<(Fd, i16, Source)> {
        const FIRST_CLIENT: usize = 2 + udp::FORWARDS;
        const FIRST_UPSTREAM: usize = FIRST_CLIENT + tcp::CONNECTIONS;
        match at {
            0 => Some((self.datagrams, POLLIN, Source::Datagrams)),
            1 => (self.paused_until == 0).then_some((self.listen, POLLIN, Source::Connections)),
            ..FIRST_CLIENT => {
                let at = at - 2;
                self.forwards.watched(at).map(|fd| (fd, POLLIN, Source::Forward(at)))
            }
            ..FIRST_UPSTREAM => {
                let at = at - FIRST_CLIENT;
                self.connections.client(at).map(|(fd, events)| (fd, events, Source::Client(at)))
            }
            _ => {
                let at = at - FIRST_UPSTREAM;
                self.connections.upstream(at).map(|(fd, events)| (fd, events, Source::Upstream(at)))
            }
        }
    }

    /// How many sources there can be now.
    fn sources(&self) -> usize {
        match self.on {
            false => 0,
            true if self.forwards.is_idle() && self.connections.is_idle() => 2,
            true => SOURCES,
        }
    }

    /// One of the sources is ready.
    pub(crate) fn on_ready(&mut self, source: Source) {
        if !self.on {
            return;
        }
        match source {
            Source::Datagrams => self.forwards.on_datagrams(&mut self.desk, self.datagrams),
            Source::Connections => {
                if self.connections.accept(self.listen).is_err() {
                    self.paused_until = sys::monotonic() + PAUSE;
                }
            }
            Source::Forward(at) => self.forwards.on_answer(at, &mut self.desk, self.datagrams),
            Source::Client(at) => self.connections.on_client(at, &mut self.desk),
            Source::Upstream(at) => self.connections.on_upstream(at, &mut self.desk),
        }
    }

    /// What comes first, in monotonic milliseconds.
    pub(crate) fn due(&self) -> Option<u64> {
        let pause = Some(self.paused_until).filter(|at| *at != 0);
        if self.on {
            pause.into_iter().chain(self.forwards.due()).chain(self.connections.due()).min()
        } else {
            None
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn on_time(&mut self, now: u64) {
        if !self.on {
            return;
        }
        if self.paused_until <= now {
            self.paused_until = 0;
        }
        self.forwards.on_time(now, &mut self.desk, self.datagrams);
        self.connections.on_time(now, &mut self.desk);
    }
}

impl Shim {
    /// Makes the sockets, before the program runs. They stay from one run to the next, as the namespace does.
    pub(crate) fn open_names(&mut self) -> Result<(), Failure> {
        let Some(port) = self.plan.first(tag::RESOLVER).and_then(|record| record.number()) else {
            return Ok(());
        };
        if self.names.on {
            return Ok(());
        }
        let wrong = fail(step::NAMES, 0);
        let mut path = [0; 32];
        let path = state::proc_path(self.init_pid, b"ns/net", &mut path).ok_or(wrong(sys::EINVAL))?;
        let theirs = sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0).map_err(wrong)?;
        let own = sys::openat(sys::AT_FDCWD, c"/proc/self/ns/net", sys::O_RDONLY, 0);
        let address = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), port as u16)).into();
        let made = own.and_then(|own| {
            let made = sys::setns(theirs, sys::CLONE_NEWNET).and_then(|()| {
                let datagrams = sys::bound_socket(&address, Kind::Datagram)?;
                let listen =
                    sys::bound_socket(&address, Kind::Stream).inspect_err(|_| sys::close(datagrams))?;
                Ok((datagrams, listen))
            });
            // Back, or nothing: what is opened next is to be of our own network.
            let back = sys::setns(own, sys::CLONE_NEWNET);
            sys::close(own);
            back.and(made)
        });
        sys::close(theirs);
        let (datagrams, listen) = made.map_err(wrong)?;
        self.names.open(datagrams, listen, self.run_dir);
        Ok(())
    }

    /// What of the resolver to wait for.
    pub(crate) fn watch_names(&mut self) {
        for at in 0..self.names.sources() {
            if let Some((fd, events, source)) = self.names.source(at) {
                self.watch(fd, events, Token::Names(source));
            }
        }
    }
}
