//! The streams of simulated processes: what they write goes to a log and to whoever attached.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::sync::watch;

use super::super::lock;
use super::pipe::{Pipe, PipeReader, PipeWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Reader, Stdio};
use crate::logs::{LogEntry, LogQuery, LogSource, LogStream};

/// The longest piece of a line in one entry: Docker's.
const MAX_ENTRY: usize = 16 << 10;

/// The log of a container, which outlives its runs.
#[derive(Debug)]
pub(super) struct Log {
    entries: Mutex<Entries>,
    changed: watch::Sender<()>,
    /// What goes with each entry.
    attributes: Arc<BTreeMap<String, String>>,
}

#[derive(Debug, Default)]
struct Entries {
    list: Vec<LogEntry>,
    partial: [BytesMut; 2],
    running: bool,
}

fn index(source: LogSource) -> usize {
    match source {
        LogSource::Stdout => 0,
        LogSource::Stderr => 1,
    }
}

impl Log {
    pub(super) fn new(attributes: BTreeMap<String, String>) -> Self {
        Self { entries: Mutex::default(), changed: watch::channel(()).0, attributes: Arc::new(attributes) }
    }

    fn entry(&self, source: LogSource, message: Bytes) -> LogEntry {
        LogEntry::new(SystemTime::now(), source, message).with_attributes(Arc::clone(&self.attributes))
    }

    /// Says whether more may come. At the end, lines without a newline become entries.
    pub(super) fn set_running(&self, running: bool) {
        lock(&self.entries).running = running;
        if !running {
            self.end_lines();
        }
        self.changed.send_replace(());
    }

    /// Makes entries of lines without a newline: the process that wrote them has ended.
    pub(super) fn end_lines(&self) {
        let mut entries = lock(&self.entries);
        for source in [LogSource::Stdout, LogSource::Stderr] {
            let rest = entries.partial[index(source)].split().freeze();
            if !rest.is_empty() {
                entries.list.push(self.entry(source, rest));
            }
        }
        drop(entries);
        self.changed.send_replace(());
    }

    fn write(&self, source: LogSource, bytes: &[u8]) {
        let mut entries = lock(&self.entries);
        entries.partial[index(source)].extend_from_slice(bytes);
        loop {
            let partial = &mut entries.partial[index(source)];
            let line = partial.iter().take(MAX_ENTRY).position(|byte| *byte == b'\n').map(|at| at + 1);
            let Some(end) = line.or_else(|| (partial.len() >= MAX_ENTRY).then_some(MAX_ENTRY)) else { break };
            let piece = partial.split_to(end).freeze();
            entries.list.push(self.entry(source, piece));
        }
        drop(entries);
        self.changed.send_replace(());
    }

    /// Reads what `query` asks for.
    pub(super) fn read(self: Arc<Self>, query: &LogQuery) -> LogStream {
        let (log, query) = (self, query.clone());
        let first = {
            let entries = lock(&log.entries);
            let lines = entries.list.len();
            query.tail.map_or(0, |tail| lines.saturating_sub(tail))
        };
        let mut changes = log.changed.subscribe();
        let until = query.until;
        let next = async move |at: &mut usize| loop {
            changes.mark_unchanged();
            let (entry, running) = {
                let entries = lock(&log.entries);
                (entries.list.get(*at).cloned(), entries.running)
            };
            match entry {
                Some(entry) if until.is_some_and(|until| entry.time > until) => return None,
                Some(entry) => {
                    *at += 1;
                    if query.since.is_none_or(|since| entry.time >= since) {
                        return Some(entry);
                    }
                }
                None if query.follow && running => {
                    let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
                    match left {
                        None => changes.changed().await.ok()?,
                        Some(left) => tokio::time::timeout(left, changes.changed()).await.ok()?.ok()?,
                    }
                }
                None => return None,
            }
        };
        stream::unfold((first, next), async |(mut at, mut next)| {
            let entry = next(&mut at).await?;
            Some((Ok(entry), (at, next)))
        })
        .boxed()
    }
}

/// The output of a container's process.
#[derive(Debug)]
pub(super) struct Hub {
    log: Option<Arc<Log>>,
    clients: Mutex<Vec<Client>>,
}

#[derive(Debug)]
struct Client {
    source: LogSource,
    pipe: Pipe,
    blocking: bool,
}

impl Hub {
    pub(super) fn new(log: Option<Arc<Log>>) -> Self {
        Self { log, clients: Mutex::default() }
    }

    /// Connects one stream of a client.
    pub(super) fn attach(&self, source: LogSource, to: Stdio, blocking: bool) -> Option<Reader> {
        if matches!(to, Stdio::Null) {
            return None;
        }
        let pipe = Pipe::default();
        lock(&self.clients).push(Client { source, pipe: pipe.clone(), blocking });
        match to {
            Stdio::Fd(fd) => {
                let (mut from, mut to) = (PipeReader(pipe), file(fd));
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.flush().await;
                });
                None
            }
            _ => Some(Box::pin(PipeReader(pipe))),
        }
    }

    /// Hands `bytes` to the log and every client at once, then waits for the slow ones that asked for it.
    async fn write(&self, source: LogSource, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_ENTRY) {
            if let Some(log) = &self.log {
                log.write(source, piece);
            }
            let piece = Bytes::copy_from_slice(piece);
            let mut slow = Vec::new();
            lock(&self.clients).retain(|client| {
                if client.source != source {
                    return true;
                }
                if !client.blocking && !client.pipe.fits(piece.len()) {
                    client.pipe.close();
                    return false;
                }
                if client.blocking {
                    slow.push(client.pipe.clone());
                }
                client.pipe.push(piece.clone())
            });
            for pipe in slow {
                pipe.ready().await;
            }
        }
    }

    /// Ends all clients' streams.
    pub(super) fn close(&self) {
        lock(&self.clients).drain(..).for_each(|client| client.pipe.close());
    }
}

/// Where a simulated process writes.
#[derive(Clone, Debug)]
pub struct Output(Target);

#[derive(Clone, Debug)]
enum Target {
    Null,
    Hub { hub: Arc<Hub>, source: LogSource, terminal: bool },
    Pipe(Arc<ClosingPipe>),
    File(Arc<tokio::sync::Mutex<tokio::fs::File>>),
}

/// A pipe that ends when the last writer goes.
#[derive(Debug)]
struct ClosingPipe(Pipe);

impl Drop for ClosingPipe {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Output {
    /// The output of a container's process. A terminal has one stream.
    pub(super) fn of_container(hub: &Arc<Hub>, source: LogSource, terminal: bool) -> Self {
        let source = if terminal { LogSource::Stdout } else { source };
        Self(Target::Hub { hub: Arc::clone(hub), source, terminal })
    }

    /// The output of an exec, straight to the caller.
    pub(super) fn of_exec(to: Stdio) -> (Self, Option<Reader>) {
        match to {
            Stdio::Null => (Self(Target::Null), None),
            Stdio::Fd(fd) => (Self(Target::File(Arc::new(tokio::sync::Mutex::new(file(fd))))), None),
            Stdio::Piped => {
                let pipe = Pipe::default();
                let reader: Reader = Box::pin(PipeReader(pipe.clone()));
                (Self(Target::Pipe(Arc::new(ClosingPipe(pipe)))), Some(reader))
            }
        }
    }

    /// Writes all of `bytes`, and waits while the reader is slow.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if nobody reads any more, where a real process would get SIGPIPE.
    pub async fn write(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let bytes = bytes.as_ref();
        let gone = || Error::new(ErrorKind::Unavailable, "write output").with_message("nobody reads it");
        match &self.0 {
            Target::Null => {}
            Target::Hub { hub, source, terminal: false } => hub.write(*source, bytes).await,
            // A terminal begins a new line with a carriage return (ONLCR, termios(3)).
            Target::Hub { hub, source, terminal: true } => hub.write(*source, &with_returns(bytes)).await,
            Target::Pipe(pipe) => {
                for piece in bytes.chunks(MAX_ENTRY) {
                    if !pipe.0.push(Bytes::copy_from_slice(piece)) {
                        return Err(gone());
                    }
                    pipe.0.ready().await;
                }
            }
            Target::File(file) => {
                let mut file = file.lock().await;
                file.write_all(bytes).await.map_err(|e| gone().with_source(e))?;
                file.flush().await.map_err(|e| gone().with_source(e))?;
            }
        }
        Ok(())
    }
}

fn with_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// Feeds `pipe` from the caller's side of standard input. Returns the caller's end, if it is a pipe.
pub(super) fn feed(pipe: &Pipe, from: Stdio, closes: bool) -> Option<PipeWriter> {
    let mut writer = PipeWriter { pipe: pipe.clone(), closes };
    match from {
        Stdio::Null => {
            // Nobody will ever write through this end.
            writer.closes = false;
            None
        }
        Stdio::Piped => Some(writer),
        Stdio::Fd(fd) => {
            let mut chunks = read_on_a_thread(fd);
            tokio::spawn(async move {
                while let Some(chunk) = chunks.recv().await {
                    if writer.write_all(&chunk).await.is_err() {
                        break;
                    }
                }
            });
            None
        }
    }
}

/// Reads a descriptor that may never end on a thread of its own: tokio waits for its blocking threads, not for this.
fn read_on_a_thread(fd: OwnedFd) -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    use std::io::Read as _;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let (mut file, mut buffer) = (std::fs::File::from(fd), vec![0; MAX_ENTRY]);
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn file(fd: OwnedFd) -> tokio::fs::File {
    tokio::fs::File::from_std(fd.into())
}

/// Where a simulated process reads. Clones read the same stream.
#[derive(Clone, Debug)]
pub struct Input(pub(super) Pipe);

impl Input {
    /// An input at its end.
    pub(super) fn empty() -> Self {
        let pipe = Pipe::default();
        pipe.close();
        Self(pipe)
    }

    /// Reads some bytes; none are the end.
    pub async fn read(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; MAX_ENTRY];
        let count = AsyncReadExt::read(self, &mut bytes).await.unwrap_or(0);
        bytes.truncate(count);
        bytes
    }
}

impl tokio::io::AsyncRead for Input {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.0.poll_read(cx, buffer).map(Ok)
    }
}
