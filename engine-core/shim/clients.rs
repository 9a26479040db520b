//! Clients of the shim: requests and attached streams.
//!
//! A client is one connection: the control socket of the program that created the container, or one accepted on the
//! path socket from root or from the user the shim runs as (SECURITY B8). An exec (`execs`) belongs to the connection
//! that asked for it; when that closes, the process goes on.

use crate::plan::option;
use crate::serve::{Phase, Shim};
use crate::sys::{self, Fd};
use crate::wire::{MAX_FDS, REQUEST, Reply, Request, flag, op, reply, step};
use crate::{Failure, fail};

pub(crate) const MAX_CLIENTS: usize = 128;
const NAMES: [&str; 2] = ["stdout", "stderr"];

/// One connection. All zero bytes are a free one.
pub(crate) struct Client {
    used: bool,
    pub(crate) socket: Fd,
    /// Wants to know of the exit.
    pub(crate) waiting: bool,
    /// Asked for the start and has no answer yet.
    pub(crate) starting: bool,
    blocking: bool,
    /// The client's input, or -1.
    pub(crate) stdin: Fd,
    /// The client's outputs, or -1.
    pub(crate) outputs: [Fd; 2],
    /// Whether there is something of the current chunk it has not taken.
    pub(crate) behind: [bool; 2],
    taken: [usize; 2],
}

impl Client {
    pub(crate) fn is_open(&self) -> bool {
        self.used
    }

    pub(crate) fn open(&mut self, socket: Fd) {
        *self = Client {
            used: true,
            socket,
            waiting: false,
            starting: false,
            blocking: false,
            stdin: -1,
            outputs: [-1; 2],
            behind: [false; 2],
            taken: [0; 2],
        };
    }

    /// The connection is over; streams go on until their own end.
    fn hang_up(&mut self) {
        sys::close(self.socket);
        self.socket = -1;
        (self.waiting, self.starting) = (false, false);
        self.free_if_over();
    }

    fn free_if_over(&mut self) {
        self.used = self.socket >= 0 || self.stdin >= 0 || self.outputs[0] >= 0 || self.outputs[1] >= 0;
    }

    /// Lets go of the streams, to be attached anew.
    fn detach(&mut self) {
        sys::close(self.stdin);
        self.stdin = -1;
        self.end_output(0);
        self.end_output(1);
    }

    fn end_output(&mut self, stream: usize) {
        let fd = self.outputs[stream];
        self.outputs[stream] = -1;
        self.behind[stream] = false;
        sys::close(fd);
        self.free_if_over();
    }

    pub(crate) fn send(&self, answer: &Reply) {
        if self.used && self.socket >= 0 {
            let _ = sys::send(self.socket, &answer.encode(), -1);
        }
    }

    pub(crate) fn refuse(&self, failure: &Failure) {
        let Failure { step, index, errno } = *failure;
        self.send(&Reply { kind: reply::FAILED, step, index, errno, ..Reply::default() });
    }

    /// Offers what is left of the current chunk.
    fn offer(&mut self, stream: usize, bytes: &[u8]) {
        let fd = self.outputs[stream];
        match sys::write(fd, bytes) {
            Ok(count) if count == bytes.len() => self.behind[stream] = false,
            Ok(count) if self.blocking => {
                self.taken[stream] += count;
                self.behind[stream] = true;
            }
            Err(sys::EAGAIN | sys::EINTR) if self.blocking => self.behind[stream] = true,
            // Slow and not waited for, or gone.
            _ => self.end_output(stream),
        }
    }
}

impl Shim {
    /// Whether another client can be served; until then it waits in the socket's queue.
    pub(crate) fn has_room(&self) -> bool {
        self.clients.iter().skip(1).any(|client| !client.used)
    }

    /// Tells all clients that this was all, before what of the end takes time.
    pub(crate) fn hang_up(&mut self) {
        for client in self.clients.iter_mut().filter(|client| client.used) {
            client.hang_up();
        }
    }

    /// Takes a connection from someone who may.
    pub(crate) fn accept(&mut self, listen: Fd) {
        let Ok(socket) = sys::accept(listen) else { return };
        let allowed = sys::peer_uid(socket).is_ok_and(|uid| uid == 0 || uid == sys::geteuid());
        match self.clients.iter_mut().skip(1).find(|client| !client.used) {
            Some(client) if allowed => client.open(socket),
            _ => sys::close(socket),
        }
    }

    pub(crate) fn on_request(&mut self, at: usize) {
        if !self.clients[at].used || self.clients[at].socket < 0 {
            return;
        }
        let mut bytes = [0; REQUEST];
        let mut fds = [-1; MAX_FDS];
        let socket = self.clients[at].socket;
        let count = match sys::receive(socket, &mut bytes, &mut fds) {
            Ok(count) if count > 0 => count,
            Err(sys::EAGAIN | sys::EINTR) => return,
            _ => return self.forget(at),
        };
        let done = match Request::decode(&bytes[..count]) {
            Some(request) => self.answer(at, &request, &mut fds),
            None => Err(fail(step::REQUEST, 0)(sys::EINVAL)),
        };
        for fd in fds {
            sys::close(fd);
        }
        if let Err(failure) = done {
            self.clients[at].refuse(&failure);
        }
    }

    /// The connection is over.
    fn forget(&mut self, at: usize) {
        for exec in self.execs.iter_mut().filter(|exec| exec.is_of(at)) {
            exec.leave();
        }
        self.clients[at].hang_up();
        if at == 0 {
            self.on_control_closed();
        }
    }

    /// Does what is asked. Descriptors it keeps are taken out of `fds`.
    fn answer(&mut self, at: usize, request: &Request, fds: &mut [Fd; MAX_FDS]) -> Result<(), Failure> {
        let wrong = fail(step::REQUEST, request.op as usize);
        let ok = Reply { kind: reply::OK, ..Reply::default() };
        match request.op {
            op::START => {
                self.clients[at].starting = true;
                self.start().inspect_err(|_| self.clients[at].starting = false)?;
                return Ok(());
            }
            op::WAIT => {
                match self.exited() {
                    Some(answer) => self.clients[at].send(&answer),
                    None => self.clients[at].waiting = true,
                }
                return Ok(());
            }
            op::STATE => {
                self.clients[at].send(&self.describe());
                return Ok(());
            }
            op::KEEP => {
                self.kept |= at == 0;
                return Ok(());
            }
            op::PLAN => {
                let _ = sys::send(self.clients[at].socket, &ok.encode(), self.plan_fd);
                return Ok(());
            }
            op::SIGNAL => {
                let signal = request.a as i32;
                match self.execs.iter().find(|exec| exec.is_of(at)) {
                    Some(exec) => sys::pidfd_signal(exec.pidfd, signal).map_err(wrong)?,
                    None => {
                        let alive = self.started_ns > 0 && self.exit.is_none();
                        if request.flags & flag::STOP != 0 {
                            self.stop(signal).map_err(wrong)?;
                        } else {
                            self.signal(signal).map_err(wrong)?;
                        }
                        if alive {
                            self.events.kill(signal);
                        }
                    }
                }
            }
            op::RESIZE => {
                if self.options & option::TTY == 0 {
                    return Err(wrong(sys::EINVAL));
                }
                sys::set_window(self.outputs[0].source, request.a as u16, request.b as u16).map_err(wrong)?;
            }
            op::RESTART => self.change_policy(request.a as u32, request.b as u32)?,
            op::CLOSE_STDIN => self.close_stdin(),
            op::ATTACH => self.attach(at, request.flags, fds).map_err(wrong)?,
            op::EXEC => return self.exec(at, request.flags, fds),
            op::HOLD => self.hold_for(request.a, fds).map_err(wrong)?,
            _ => return Err(wrong(sys::EINVAL)),
        }
        self.clients[at].send(&ok);
        Ok(())
    }

    fn attach(&mut self, at: usize, flags: u32, fds: &mut [Fd; MAX_FDS]) -> sys::Result<()> {
        if matches!(self.phase, Phase::Restarting | Phase::Exited) {
            return Err(sys::ESRCH);
        }
        self.clients[at].detach();
        self.clients[at].blocking = flags & flag::BLOCKING != 0;
        let mut given = fds.iter_mut();
        for (bit, stream) in [(flag::STDIN, None), (flag::STDOUT, Some(0)), (flag::STDERR, Some(1))] {
            if flags & bit == 0 {
                continue;
            }
            let fd = given.next().filter(|fd| **fd >= 0).ok_or(sys::EINVAL)?;
            let ours = sys::own_nonblocking(*fd)?;
            match stream {
                None => self.clients[at].stdin = ours,
                Some(stream) => self.clients[at].outputs[stream] = ours,
            }
            if ours == *fd {
                *fd = -1;
            }
        }
        Ok(())
    }

    /// Holds what came along, or lets go of what was held.
    fn hold_for(&mut self, key: i64, fds: &mut [Fd; MAX_FDS]) -> sys::Result<()> {
        let [fd, clients, ..] = fds;
        if *fd >= 0 && self.phase == Phase::Exited {
            return Err(sys::ESRCH);
        }
        self.keeps.hold(key, *fd, *clients)?;
        (*fd, *clients) = (-1, -1);
        Ok(())
    }

    /// Whether the next chunk of `stream` has to wait for a client.
    pub(crate) fn held_back(&self, stream: usize) -> bool {
        self.clients.iter().any(|client| client.used && client.behind[stream])
    }

    /// The container wrote something.
    pub(crate) fn on_output(&mut self, stream: usize) {
        match self.outputs[stream].fill(NAMES[stream], &mut self.log) {
            Ok(true) => self.share(stream),
            Ok(false) => {}
            Err(_) => self.end_output(stream),
        }
    }

    fn share(&mut self, stream: usize) {
        for client in self.clients.iter_mut().filter(|client| client.used && client.outputs[stream] >= 0) {
            client.taken[stream] = 0;
            client.offer(stream, self.outputs[stream].rest(0));
        }
    }

    /// A client that was behind has room again.
    pub(crate) fn on_room(&mut self, at: usize, stream: usize) {
        let client = &mut self.clients[at];
        if !client.used {
            return;
        }
        if client.behind[stream] {
            client.offer(stream, self.outputs[stream].rest(client.taken[stream]));
        } else {
            client.end_output(stream);
        }
        if self.exit.is_some() {
            self.drain();
        }
    }

    pub(crate) fn end_output(&mut self, stream: usize) {
        let output = &mut self.outputs[stream];
        output.end(NAMES[stream], &mut self.log);
        if self.options & option::TTY != 0 {
            self.input.sink = -1;
        }
        sys::close(output.source);
        output.source = -1;
        for client in self.clients.iter_mut().filter(|client| client.used) {
            client.end_output(stream);
        }
    }

    /// After the exit: takes all that was written, as far as blocking clients let us, then ends the streams.
    pub(crate) fn drain(&mut self) {
        for stream in 0..2 {
            while self.outputs[stream].source >= 0 && !self.held_back(stream) {
                match self.outputs[stream].fill(NAMES[stream], &mut self.log) {
                    Ok(true) => self.share(stream),
                    // Whoever still holds the pipe is not of this container any more.
                    Ok(false) | Err(_) => self.end_output(stream),
                }
            }
        }
    }

    /// Whether all that the container wrote has been taken.
    pub(crate) fn outputs_ended(&self) -> bool {
        self.outputs.iter().all(|output| output.source < 0)
    }

    /// After the exit: what clients would still say is not for another run.
    pub(crate) fn end_input(&mut self) {
        self.input.reset();
        for client in self.clients.iter_mut().filter(|client| client.used && client.stdin >= 0) {
            sys::close(client.stdin);
            client.stdin = -1;
            client.free_if_over();
        }
    }

    pub(crate) fn on_sink(&mut self) {
        self.input.push();
        if self.input.closing && !self.input.pending() {
            self.close_stdin();
        }
    }

    /// An attached client typed something, or its input ended.
    pub(crate) fn on_stdin(&mut self, at: usize) {
        let fd = self.clients[at].stdin;
        if !self.clients[at].used || fd < 0 || self.input.pending() || self.input.sink < 0 {
            return;
        }
        if self.input.take(fd).is_err() {
            sys::close(fd);
            self.clients[at].stdin = -1;
            self.clients[at].free_if_over();
            if self.options & option::STDIN_ONCE != 0 {
                self.close_stdin();
            }
        }
    }

    fn close_stdin(&mut self) {
        if self.input.pending() {
            self.input.closing = true;
        } else if self.options & option::TTY == 0 {
            sys::close(self.input.sink);
            self.input.sink = -1;
        }
    }
}
