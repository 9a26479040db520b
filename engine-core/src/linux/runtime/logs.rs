//! Reading a container's log: the files its shim writes, oldest first, while it goes on writing.
//!
//! A reader holds the file it reads by descriptor, so a rotation takes nothing from it; when its file has ended and is no
//! longer the newest, it goes on with the next one. New lines are announced by inotify, not looked for.
//! Invariant: a line is handed out once it ends with a newline; what a killed shim left unfinished is left out.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::{Inner, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::shim::{ShimState, StateStatus};
use crate::logs::{LogEntry, LogQuery, LogSource, LogStream};

/// Name of the log in a container's directory. Rotated ones have a number behind it.
pub(super) const FILE: &str = "container-json.log";
/// Longest line: a full piece of output, each byte escaped by six, and what goes around it.
const MAX_LINE: u64 = 128 * 1024;
/// Entries read ahead of a slow reader.
const AHEAD: usize = 64;
/// How often a list of files is made anew when rotations come in between.
const TRIES: usize = 100;

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
    dir: PathBuf,
    query: LogQuery,
    file: Option<BufReader<File>>,
    inode: u64,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
    /// Whether another file is the newest now, so that ours has an end.
    closed: bool,
    past: bool,
    /// The attributes of the last entry, mostly those of the next.
    attributes: Arc<BTreeMap<String, String>>,
}

impl Reader {
    fn open(dir: &Path, query: LogQuery) -> Result<Self> {
        let mut reader = Self {
            dir: dir.to_owned(),
            query,
            file: None,
            inode: 0,
            begun: Vec::new(),
            closed: false,
            past: false,
            attributes: Arc::default(),
        };
        reader.oldest()?;
        Ok(reader)
    }

    /// The files there are, by number and inode, oldest first. Made twice: a rotation in between would show one file
    /// under two numbers, or none.
    fn list(&self) -> Result<Vec<(u32, u64)>> {
        let mut earlier = None;
        for _ in 0..TRIES {
            let list = self.list_once().map_err(failed)?;
            if earlier.as_ref() == Some(&list) {
                return Ok(list);
            }
            earlier = Some(list);
        }
        Ok(earlier.unwrap_or_default())
    }

    fn list_once(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(FILE)) else { continue };
            let number = if rest.is_empty() { Some(0) } else { rest[1..].parse().ok() };
            match entry.metadata() {
                Ok(metadata) => list.extend(number.map(|number| (number, metadata.ino()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        list.sort_unstable_by(|a, b| b.cmp(a));
        Ok(list)
    }

    /// Goes on with the file that `choose` picks among those there are; `false` if it picks none.
    fn take(&mut self, choose: impl Fn(&[(u32, u64)]) -> Option<(u32, u64)>) -> Result<bool> {
        for _ in 0..TRIES {
            let Some((number, inode)) = choose(&self.list()?) else { return Ok(false) };
            let name = if number == 0 { FILE.to_owned() } else { format!("{FILE}.{number}") };
            let file = match File::open(self.dir.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            // A rotation since the listing puts another file there.
            if file.metadata().map_err(failed)?.ino() == inode {
                (self.file, self.inode, self.closed) = (Some(BufReader::new(file)), inode, false);
                self.begun.clear();
                return Ok(true);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "read log")
            .with_message("its files are rotated faster than they can be opened")
            .with_hint("give the log a larger max-size"))
    }

    fn oldest(&mut self) -> Result<bool> {
        self.take(|list| list.first().copied())
    }

    /// At the end of a file: whether there may be more to read, in it or in the next.
    fn next(&mut self) -> Result<bool> {
        if self.file.is_none() {
            return self.oldest();
        }
        let own = self.inode;
        if fs::metadata(self.dir.join(FILE)).is_ok_and(|newest| newest.ino() == own) {
            return Ok(false);
        }
        if self.list()?.last().is_none_or(|(_, inode)| *inode == own) {
            return Ok(false);
        }
        if !self.closed {
            // Lines may have come between our last read and the rotation.
            self.closed = true;
            return Ok(true);
        }
        self.take(|list| match list.iter().position(|(_, inode)| *inode == own) {
            Some(at) => list.get(at + 1).copied(),
            // Ours was removed: everything kept is newer.
            None => list.first().copied(),
        })
    }

    fn is_past(&self) -> bool {
        self.past
    }

    /// The next entries, some of all there are; none when there are no more now.
    fn lines(&mut self) -> Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        while entries.len() < 256 && !self.past {
            let Some(file) = &mut self.file else {
                if self.next()? {
                    continue;
                }
                break;
            };
            let left = MAX_LINE - self.begun.len() as u64;
            let count =
                io::Read::take(&mut *file, left).read_until(b'\n', &mut self.begun).map_err(failed)?;
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
