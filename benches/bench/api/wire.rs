//! Just enough HTTP over a unix socket: the same for every daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Wire(BufReader<UnixStream>);

impl Wire {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self(BufReader::with_capacity(256 << 10, stream)))
    }

    fn send(&mut self, method: &str, path: &str, more: &str, document: &str) -> Result<()> {
        let length = document.len();
        let kind = if document.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\n{more}{kind}Content-Length: {length}\r\n\r\n{document}"
        );
        Ok(self.0.get_mut().write_all(request.as_bytes())?)
    }

    /// Reads a head; returns the status, the length and whether the body is chunked.
    fn head(&mut self) -> Result<(u16, usize, bool)> {
        let (mut status, mut length, mut chunked) = (0, 0, false);
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the connection was closed");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, length, chunked));
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap_or_default().parse()?;
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            } else if let Some(value) = line.strip_prefix("transfer-encoding:") {
                chunked = value.contains("chunked");
            }
        }
    }

    /// Asks, and returns the status and the body.
    pub(super) fn ask(&mut self, method: &str, path: &str, document: &str) -> Result<(u16, Vec<u8>)> {
        self.send(method, path, "", document)?;
        let (status, length, chunked) = self.head()?;
        let mut body = vec![0; length];
        if !chunked {
            self.0.read_exact(&mut body)?;
            return Ok((status, body));
        }
        loop {
            let mut size = String::new();
            self.0.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16)?;
            let begin = body.len();
            body.resize(begin + size + 2, 0);
            self.0.read_exact(&mut body[begin..])?;
            body.truncate(begin + size);
            if size == 0 {
                return Ok((status, body));
            }
        }
    }

    /// Asks for what has to succeed.
    pub(super) fn done(&mut self, method: &str, path: &str, document: &str) -> Result<Vec<u8>> {
        let (status, body) = self.ask(method, path, document)?;
        ensure!(status < 400, "{method} {path}: {status} {}", String::from_utf8_lossy(&body).trim());
        Ok(body)
    }

    /// Takes the connection over, and waits until that is so.
    pub(super) fn hijack(mut self, path: &str) -> Result<Self> {
        self.send("POST", path, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "")?;
        let (status, ..) = self.head()?;
        ensure!(status == 101, "{path}: {status}");
        Ok(self)
    }

    /// Reads to the end; returns how many bytes that were.
    pub(super) fn drain(mut self) -> Result<usize> {
        let (mut piece, mut all) = (vec![0; 256 << 10], 0);
        loop {
            match self.0.read(&mut piece)? {
                0 => return Ok(all),
                read => all += read,
            }
        }
    }
}
