//! The container's standard streams: from its pipes or terminal to the log and to attached clients, and back.
//!
//! Of each output stream there is one current chunk. It goes to the log once, when it is read; each client has an
//! offset into it. The next chunk is read when every blocking client has taken the current one, so such a client
//! misses nothing; a client that is not blocking and full is cut.

use core::ffi::CStr;

use crate::jsonlog::{self, MAX_LINE};
use crate::plan::{Plan, tag};
use crate::sys::{self, Fd};

const CHUNK: usize = 16 * 1024;
const STDIN_CHUNK: usize = 4096;

/// One output stream.
pub(crate) struct Output {
    /// Read end of the pipe, or the terminal's master; -1 once ended.
    pub(crate) source: Fd,
    chunk: [u8; CHUNK],
    /// Bytes of the current chunk.
    pub(crate) length: usize,
    line: [u8; MAX_LINE],
    line_length: usize,
}

impl Output {
    /// The current chunk from `offset`.
    pub(crate) fn rest(&self, offset: usize) -> &[u8] {
        self.chunk.get(offset..self.length).unwrap_or(&[])
    }

    /// Reads the next chunk and logs it. `Ok(false)` when there is nothing now; an error ends the stream.
    pub(crate) fn fill(&mut self, name: &str, log: &mut Log) -> sys::Result<bool> {
        match sys::read(self.source, &mut self.chunk) {
            Err(sys::EAGAIN | sys::EINTR) => Ok(false),
            // A terminal whose other side is closed reads as EIO.
            Ok(0) | Err(_) => Err(sys::EIO),
            Ok(count) => {
                self.length = count;
                if log.is_on() {
                    self.log_chunk(name, log);
                }
                Ok(true)
            }
        }
    }

    fn log_chunk(&mut self, name: &str, log: &mut Log) {
        let now = sys::now();
        let mut rest = &self.chunk[..self.length];
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
            let ended = rest[end - 1] == b'\n';
            if self.line_length == 0 && ended {
                log.record(&rest[..end], name, now);
                rest = &rest[end..];
                continue;
            }
            let count = end.min(MAX_LINE - self.line_length);
            self.line[self.line_length..self.line_length + count].copy_from_slice(&rest[..count]);
            self.line_length += count;
            if (ended && count == end) || self.line_length == MAX_LINE {
                log.record(&self.line[..self.line_length], name, now);
                self.line_length = 0;
            }
            rest = &rest[count..];
        }
        log.flush();
    }

    /// Ends the stream: logs the unfinished line.
    pub(crate) fn end(&mut self, name: &str, log: &mut Log) {
        if self.line_length > 0 && log.is_on() {
            log.record(&self.line[..self.line_length], name, sys::now());
            log.flush();
            self.line_length = 0;
        }
    }
}

/// The container's standard input.
pub(crate) struct Input {
    /// Write end of the pipe, or the terminal's master; -1 once closed.
    pub(crate) sink: Fd,
    buffer: [u8; STDIN_CHUNK],
    start: usize,
    end: usize,
    /// Close the sink once the buffer is empty.
    pub(crate) closing: bool,
}

impl Input {
    /// Forgets what the last run did not take.
    pub(crate) fn reset(&mut self) {
        (self.sink, self.start, self.end, self.closing) = (-1, 0, 0, false);
    }

    pub(crate) fn pending(&self) -> bool {
        self.start < self.end
    }

    /// Takes bytes from a client. `Ok(false)` when it has none now; an error when it ended.
    pub(crate) fn take(&mut self, from: Fd) -> sys::Result<bool> {
        match sys::read(from, &mut self.buffer) {
            Err(sys::EAGAIN | sys::EINTR) => Ok(false),
            Ok(0) | Err(_) => Err(sys::EIO),
            Ok(count) => {
                (self.start, self.end) = (0, count);
                self.push();
                Ok(true)
            }
        }
    }

    /// Gives the container what it takes now.
    pub(crate) fn push(&mut self) {
        while self.pending() && self.sink >= 0 {
            match sys::write(self.sink, &self.buffer[self.start..self.end]) {
                Ok(count) => self.start += count,
                Err(sys::EINTR) => {}
                Err(sys::EAGAIN) => return,
                Err(_) => self.start = self.end,
            }
        }
    }
}

/// The json-file log.
pub(crate) struct Log {
    directory: Fd,
    name: Option<&'static CStr>,
    max_size: u64,
    max_files: u32,
    file: Fd,
    size: u64,
    buffer: [u8; 4096],
    buffered: usize,
}

impl Log {
    /// Takes the plan's log settings; the file is made with the first record.
    pub(crate) fn configure(&mut self, plan: &Plan<'static>, directory: Fd) {
        self.directory = directory;
        self.file = -1;
        if let Some((max_size, max_files, name)) = plan.first(tag::LOG).and_then(|record| record.log()) {
            (self.max_size, self.max_files, self.name) = (max_size, max_files.clamp(1, 1000), Some(name));
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.name.is_some()
    }

    fn record(&mut self, line: &[u8], stream: &str, now: u64) {
        let mut length = 0;
        jsonlog::encode(line, stream, now, &mut |bytes| length += bytes.len() as u64);
        if self.file < 0 && !self.open() {
            return;
        }
        if self.max_size > 0 && self.size > 0 && self.size + length > self.max_size {
            self.flush();
            self.rotate();
        }
        self.size += length;
        jsonlog::encode(line, stream, now, &mut |bytes| self.put(bytes));
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > self.buffer.len() - self.buffered {
            self.flush();
        }
        if bytes.len() > self.buffer.len() {
            let _ = sys::write_all(self.file, bytes);
        } else {
            self.buffer[self.buffered..self.buffered + bytes.len()].copy_from_slice(bytes);
            self.buffered += bytes.len();
        }
    }

    fn flush(&mut self) {
        // A full disk loses log lines, never the container.
        let _ = sys::write_all(self.file, &self.buffer[..self.buffered]);
        self.buffered = 0;
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

    /// `name.1` becomes `name.2` and so on, `name` becomes `name.1`; the oldest goes.
    fn rotate(&mut self) {
        let Some(name) = self.name else { return };
        let (mut from, mut to) = ([0; 300], [0; 300]);
        if self.max_files == 1 {
            let _ = sys::unlinkat(self.directory, name, 0);
        }
        for number in (1..self.max_files).rev() {
            let from = if number == 1 { Some(name) } else { numbered(name, number - 1, &mut from) };
            if let (Some(from), Some(to)) = (from, numbered(name, number, &mut to)) {
                let _ = sys::renameat(self.directory, from, to);
            }
        }
        sys::close(self.file);
        self.file = -1;
        self.open();
    }
}

fn numbered<'a>(name: &CStr, number: u32, text: &'a mut [u8; 300]) -> Option<&'a CStr> {
    let mut digits = [0; 12];
    let digits = crate::process::decimal(number as i32, &mut digits);
    let mut length = 0;
    for piece in [name.to_bytes(), b".", digits, b"\0"] {
        text.get_mut(length..length + piece.len())?.copy_from_slice(piece);
        length += piece.len();
    }
    CStr::from_bytes_with_nul(text.get(..length)?).ok()
}
