//! The container's standard streams: from its pipes or terminal to the log and to attached clients, and back.
//!
//! Of each output stream there is one current chunk. It goes to the log once, when it is read; each client has an
//! offset into it. The next chunk is read when every blocking client has taken the current one, so such a client
//! misses nothing; a client that is not blocking and full is cut.

use crate::jsonlog::{self, MAX_LINE};
use crate::log::Log;
use crate::sys::{self, Fd};

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;
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
        log.begin(name);
        let mut rest = &self.chunk[..self.length];
        while !rest.is_empty() {
            // A longer line goes on in another record.
            let most = rest.len().min(MAX_LINE - self.line_length);
            let end = jsonlog::newline(&rest[..most]).map_or(most, |at| at + 1);
            let whole = rest[end - 1] == b'\n' || self.line_length + end == MAX_LINE;
            if self.line_length == 0 && whole {
                log.record(&rest[..end]);
            } else {
                self.line[self.line_length..self.line_length + end].copy_from_slice(&rest[..end]);
                self.line_length += end;
                if whole {
                    log.record(&self.line[..self.line_length]);
                    self.line_length = 0;
                }
            }
            rest = &rest[end..];
        }
        log.flush();
    }

    /// Ends the stream: logs the unfinished line.
    pub(crate) fn end(&mut self, name: &str, log: &mut Log) {
        if self.line_length > 0 && log.is_on() {
            log.begin(name);
            log.record(&self.line[..self.line_length]);
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
