//! The container's log: records in a file that is rotated. `rotated` owns the full ones.
//!
//! In blocking mode the shim writes the file itself. In non-blocking mode a child of the shim does: records go to it through
//! a socket whose buffer is all that waits in between; what does not fit is dropped, and the container never waits.
//! Invariant: a file holds whole records, and none larger than its limit but one that is so alone.

use core::ffi::CStr;

use crate::jsonlog::{self, MAX_BODY, MAX_TAIL, Tail};
use crate::plan::{Plan, tag};
use crate::rotated::Rotated;
use crate::sys::{self, Fd, POLLIN, PollFd};

/// Room for one record of the largest kind, and for many of the usual.
const BUFFER: usize = 2 * (MAX_BODY + MAX_TAIL).next_multiple_of(4096);
/// When a message to the child that writes is large enough: small ones need no large pieces of memory.
const MESSAGE: usize = 16 << 10;
/// What a socket's buffer is at least: one message and what the kernel needs for it.
const LEAST_RING: u64 = 2 * BUFFER as u64;

/// The log. All zero bytes are one that is off.
pub(crate) struct Log {
    directory: Fd,
    name: Option<&'static CStr>,
    attributes: &'static [u8],
    max_size: u64,
    rotated: Rotated,
    /// Bytes that may wait in non-blocking mode; 0 in blocking mode.
    ring_size: u64,
    /// The socket to the child that writes, or -1.
    ring: Fd,
    writer: i32,
    file: Fd,
    size: u64,
    tail: Tail,
    buffer: [u8; BUFFER],
    buffered: usize,
}

impl Log {
    /// Makes the fields right whose zero bytes are no value.
    ///
    /// # Safety
    /// `at` is zeroed, aligned, lives for ever, and nothing else refers to it.
    pub(crate) unsafe fn init(at: *mut Log) {
        // SAFETY: the caller answers for `at`.
        unsafe {
            (&raw mut (*at).attributes).write(&[]);
            (&raw mut (*at).ring).write(-1);
            (&raw mut (*at).file).write(-1);
        }
    }

    /// Takes the plan's log settings; the file is made with the first record.
    pub(crate) fn configure(&mut self, plan: &Plan<'static>, directory: Fd) {
        self.directory = directory;
        if let Some(log) = plan.first(tag::LOG).and_then(|record| record.log()) {
            (self.max_size, self.name) = (log.max_size, Some(log.name));
            self.rotated.configure(directory, log.name, log.max_files, log.compress);
            (self.ring_size, self.attributes) = (log.ring_size, log.attributes.to_bytes());
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.name.is_some()
    }

    /// Begins records of `stream` at this moment. [`flush`](Self::flush) ends them.
    pub(crate) fn begin(&mut self, stream: &str) {
        self.tail.set(stream, self.attributes, sys::now());
    }

    /// Adds a record.
    pub(crate) fn record(&mut self, line: &[u8]) {
        if self.ring_size > 0 && self.ring < 0 {
            self.start_writer();
        }
        if self.ring < 0 && self.file < 0 && !self.begin_writing() {
            return;
        }
        if BUFFER - self.buffered < 6 * line.len() + MAX_TAIL + 64 {
            self.flush();
        }
        let start = self.buffered;
        let length = jsonlog::encode(line, &self.tail, &mut self.buffer[start..]);
        if self.ring < 0 {
            if self.is_full(length as u64) {
                self.flush();
                self.rotate();
                self.buffer.copy_within(start..start + length, 0);
            }
            self.size += length as u64;
        }
        self.buffered += length;
        if self.ring >= 0 && self.buffered >= MESSAGE {
            self.flush();
        }
    }

    fn is_full(&self, more: u64) -> bool {
        self.max_size > 0 && self.size > 0 && self.size + more > self.max_size
    }

    /// Hands the records on.
    pub(crate) fn flush(&mut self) {
        let records = &self.buffer[..self.buffered];
        if records.is_empty() {
            return;
        }
        if self.ring >= 0 {
            // A full buffer loses them, never the container's time.
            let _ = sys::send(self.ring, records, -1);
        } else {
            // A full disk loses them, never the container.
            let _ = sys::write_all(self.file, records);
        }
        self.buffered = 0;
    }

    /// What becomes readable when something is to be done for the full files; -1 while there is nothing.
    pub(crate) fn compressed(&self) -> Fd {
        self.rotated.end()
    }

    /// Does it.
    pub(crate) fn on_compressed(&mut self) {
        self.rotated.on_end();
    }

    /// Whether `pid` is a child that writes or compresses.
    pub(crate) fn knows(&self, pid: i32) -> bool {
        (self.ring >= 0 && pid == self.writer) || self.rotated.knows(pid)
    }

    /// Waits until all that was handed on is in the file; not for what is only made smaller.
    pub(crate) fn finish(&mut self) {
        self.rotated.stop();
        if self.ring >= 0 {
            sys::close(self.ring);
            self.ring = -1;
            let _ = sys::wait(self.writer, true);
        }
    }

    /// Starts the child that writes.
    fn start_writer(&mut self) {
        let Ok((ours, theirs)) = sys::socketpair() else {
            self.ring_size = 0;
            return;
        };
        let _ = sys::set_send_buffer(ours, self.ring_size.clamp(LEAST_RING, 1 << 30));
        let mut none = -1;
        match sys::fork(0, &mut none, -1) {
            Ok(0) => self.write_for_ever(theirs),
            Ok(pid) => (self.ring, self.writer) = (ours, pid),
            // Then the shim writes itself.
            Err(_) => {
                sys::close(ours);
                self.ring_size = 0;
            }
        }
        sys::close(theirs);
    }

    /// Writes what comes through `socket` until its other end is closed.
    fn write_for_ever(&mut self, socket: Fd) -> ! {
        // Nothing else of the shim's is held: the end of its connections and of the container's pipes must be seen.
        let kept = sys::dup_high(self.directory).and_then(|directory| {
            sys::dup3(directory, 0, sys::O_CLOEXEC)?;
            sys::dup3(socket, 1, sys::O_CLOEXEC)
        });
        if kept.is_err() || sys::close_range(2, 0).is_err() {
            sys::exit(1);
        }
        (self.directory, self.ring, self.file, self.buffered) = (0, -1, -1, 0);
        self.rotated.moved(0);
        loop {
            let mut polled =
                [(1, 0), (self.rotated.end(), 0)].map(|(fd, ready)| PollFd { fd, events: POLLIN, ready });
            if polled[1].fd >= 0 && sys::poll(&mut polled, -1).is_ok() && polled[1].ready != 0 {
                self.rotated.on_end();
                continue;
            }
            let count = match sys::read(1, &mut self.buffer) {
                Ok(count) if count > 0 => count,
                Err(sys::EINTR) => continue,
                _ => {
                    self.rotated.stop();
                    sys::exit(0)
                }
            };
            self.write_records(count);
        }
    }

    /// Writes the records in the buffer, as many at once as one file takes.
    fn write_records(&mut self, count: usize) {
        if self.file < 0 && !self.begin_writing() {
            return;
        }
        let (mut start, mut end) = (0, 0);
        while let Some(length) = jsonlog::newline(&self.buffer[end..count]).map(|at| at + 1) {
            let before = self.size + (end - start) as u64;
            if self.max_size > 0 && before > 0 && before + length as u64 > self.max_size {
                let _ = sys::write_all(self.file, &self.buffer[start..end]);
                start = end;
                self.rotate();
            }
            end += length;
        }
        let _ = sys::write_all(self.file, &self.buffer[start..end]);
        self.size += (end - start) as u64;
    }

    fn begin_writing(&mut self) -> bool {
        self.rotated.begin();
        self.open()
    }

    fn open(&mut self) -> bool {
        let Some(name) = self.name else { return false };
        let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_APPEND | sys::O_NOFOLLOW;
        match sys::openat(self.directory, name, flags, 0o600) {
            Ok(fd) => {
                self.file = fd;
                self.size = sys::fstat(fd).map_or(0, |stat| stat.size);
                true
            }
            Err(_) => false,
        }
    }

    fn rotate(&mut self) {
        self.rotated.rotate();
        sys::close(self.file);
        self.file = -1;
        self.open();
    }
}
