//! Reading a container's log: the files its shim writes, oldest first, while it goes on writing.
//!
//! `log_files` owns the files and which follows which. New lines are announced by inotify, not looked for.
//! Invariant: a line is handed out once it ends with a newline; what a killed shim left unfinished is left out.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::log_files::LogFiles;
use super::{Inner, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::shim::{ShimState, StateStatus};
use crate::logs::{LogEntry, LogQuery, LogSource, LogStream};

/// Longest line: a full piece of output, each byte escaped by six, and what goes around it.
const MAX_LINE: u64 = 128 * 1024;
/// Entries read ahead of a slow reader.
const AHEAD: usize = 64;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: &'a str,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: &'a str,
}

impl Inner {
    pub(super) async fn logs(self: &Arc<Self>, id: &ContainerId, query: &LogQuery) -> Result<LogStream> {
        let dir = self.dirs(id).state;
        if !self.state_file("read log", id)?.log {
            return Err(Error::new(ErrorKind::Unsupported, "read log")
                .with("container", id)
                .with_message("this container's output is not kept")
                .with_hint("create it with the log driver json-file"));
        }
        let (query, known) = (query.clone(), dir.clone());
        let watch = if query.follow { Some(watch(&dir)?) } else { None };
        // A shim that is killed announces nothing.
        let shim = if query.follow { self.shim_end(id)? } else { None };
        let (sender, receiver) = mpsc::channel(AHEAD);
        // After the watch was set: what is written from here on is announced.
        let mut reader = blocking(move || Reader::open(&known, query)).await?;
        let inner = Arc::clone(self);
        let id = id.clone();
        tokio::spawn(async move {
            let mut tail = reader.query.tail.map(|_| VecDeque::new());
            loop {
                let ended = watch.is_none() || inner.is_over(&id);
                let step = blocking(move || {
                    let lines = reader.lines();
                    lines.map(|lines| (reader, lines))
                });
                let (back, lines) = match step.await {
                    Ok(read) => read,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                };
                reader = back;
                let more = !lines.is_empty();
                for entry in lines {
                    if let (Some(tail), Some(keep)) = (&mut tail, reader.query.tail) {
                        tail.push_back(entry);
                        if tail.len() > keep {
                            tail.pop_front();
                        }
                    } else if sender.send(Ok(entry)).await.is_err() {
                        return;
                    }
                }
                if more {
                    continue;
                }
                for entry in tail.take().into_iter().flatten() {
                    if sender.send(Ok(entry)).await.is_err() {
                        return;
                    }
                }
                match &watch {
                    Some(watch) if !ended && !reader.is_past() => {
                        tokio::select! {
                            () = changed(watch) => {}
                            () = end_of(shim.as_ref()) => {}
                            () = passed(reader.query.until) => return,
                            () = sender.closed() => return,
                        }
                    }
                    _ => return,
                }
            }
        });
        Ok(Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|entry| (entry, receiver))
        })))
    }

    /// The shim as a descriptor that becomes readable when it ends; `None` if it has.
    fn shim_end(&self, id: &ContainerId) -> Result<Option<AsyncFd<OwnedFd>>> {
        let state = self.state_file("follow log", id)?;
        let Some(pid) = i32::try_from(state.shim.pid).ok().and_then(rustix::process::Pid::from_raw) else {
            return Ok(None);
        };
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(fd) if state.shim_is_alive() => {
                #[allow(deprecated, reason = "as in watch")]
                let fd = AsyncFd::with_interest(fd, tokio::io::Interest::READABLE);
                fd.map(Some).map_err(|error| Error::from_io("follow log", error))
            }
            _ => Ok(None),
        }
    }

    /// Whether nothing will be written any more. Said before the last look at the file, never after it.
    fn is_over(&self, id: &ContainerId) -> bool {
        match ShimState::read(&self.dirs(id).state) {
            Ok(Some(state)) => state.status == StateStatus::Exited || !state.shim_is_alive(),
            _ => true,
        }
    }
}

/// Watches a container's directory: lines written, files renamed, the state replaced.
fn watch(dir: &Path) -> Result<AsyncFd<OwnedFd>> {
    let failed = |error: io::Error| Error::from_io("follow log", error).with("path", dir.display());
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(|error| failed(error.into()))?;
    let events =
        inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&fd, dir, events).map_err(|error| failed(error.into()))?;
    #[allow(
        deprecated,
        reason = "an owned descriptor stays open as long as its AsyncFd, and `register` is unsafe"
    )]
    AsyncFd::new(fd).map_err(failed)
}

/// Waits until something changed, and takes all that is announced.
async fn changed(watch: &AsyncFd<OwnedFd>) {
    let mut events = [0; 4096];
    if let Ok(mut ready) = watch.readable().await {
        while let Ok(Ok(count)) = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut events)?)) {
            if count == 0 {
                break;
            }
        }
    }
}

/// Waits for the end of a process; for ever if it is not known.
async fn end_of(process: Option<&AsyncFd<OwnedFd>>) {
    match process {
        Some(process) => drop(process.readable().await),
        None => std::future::pending().await,
    }
}

fn failed(error: io::Error) -> Error {
    Error::from_io("read log", error)
}

/// Waits until `time` has passed; for ever without one.
async fn passed(time: Option<SystemTime>) {
    match time {
        Some(time) => tokio::time::sleep(time.duration_since(SystemTime::now()).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

/// Reads one file after the other.
struct Reader {
    files: LogFiles,
    query: LogQuery,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
    past: bool,
    /// The attributes of the last entry, mostly those of the next.
    attributes: Arc<BTreeMap<String, String>>,
}

impl Reader {
    fn open(dir: &Path, query: LogQuery) -> Result<Self> {
        let files = LogFiles::open(dir)?;
        Ok(Self { files, query, begun: Vec::new(), past: false, attributes: Arc::default() })
    }

    /// At the end of a file: whether there may be more to read, in it or in the next.
    fn next(&mut self) -> Result<bool> {
        let next = self.files.next()?;
        if next.is_other() {
            self.begun.clear();
        }
        Ok(next.is_more())
    }

    fn is_past(&self) -> bool {
        self.past
    }

    /// The next entries, some of all there are; none when there are no more now.
    fn lines(&mut self) -> Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        while entries.len() < 256 && !self.past {
            let Some(file) = self.files.bytes() else {
                if self.next()? {
                    continue;
                }
                break;
            };
            let left = MAX_LINE - self.begun.len() as u64;
            let count = io::Read::take(file, left).read_until(b'\n', &mut self.begun).map_err(failed)?;
            if self.begun.last() == Some(&b'\n') {
                // A line that is none was torn by a crash; what follows is good again.
                let entry = entry(&self.begun, &mut self.attributes);
                self.begun.clear();
                let Some(entry) = entry else { continue };
                if self.query.until.is_some_and(|until| entry.time > until) {
                    self.past = true;
                } else if self.query.since.is_none_or(|since| entry.time >= since) {
                    entries.push(entry);
                }
            } else if self.begun.len() as u64 >= MAX_LINE {
                return Err(Error::new(ErrorKind::Corrupt, "read log").with_message("a line is too long"));
            } else if count == 0 && !self.next()? {
                break;
            }
        }
        Ok(entries)
    }
}

fn entry(line: &[u8], attributes: &mut Arc<BTreeMap<String, String>>) -> Option<LogEntry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let stream = match line.stream {
        "stdout" => LogSource::Stdout,
        "stderr" => LogSource::Stderr,
        _ => return None,
    };
    if line.attrs != **attributes {
        *attributes = Arc::new(line.attrs);
    }
    let entry = LogEntry::new(time(line.time)?, stream, line.log.into_owned().into());
    Some(entry.with_attributes(Arc::clone(attributes)))
}

/// Reads an RFC 3339 time in UTC, as the shim writes it.
fn time(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number = |range: std::ops::Range<usize>| whole.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || year < 1970 || day == 0 || fraction.len() > 9 {
        return None;
    }
    // Days from civil, in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
    let nanoseconds: u64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        let at = |seconds, nanoseconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        assert_eq!(time("2023-11-14T22:13:20.12Z"), Some(at(1_700_000_000, 120_000_000)));
        assert_eq!(time("2000-02-29T00:00:00Z"), Some(at(951_782_400, 0)));
        assert_eq!(time("2025-12-31T23:59:59.999999999Z"), Some(at(1_767_225_599, 999_999_999)));
        assert_eq!(time("yesterday"), None);
    }
}
