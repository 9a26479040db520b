//! Events of the container's life, appended to the engine's journal also while no other program is alive.
//!
//! The steps of an append are those of the library (`src/events/directory.rs`): lock the directory, open the file, read the
//! last time, write whole lines, unlock. The lines are made of texts the library prepared: nothing here makes JSON of
//! anything but numbers. Invariant: an event that cannot be written is dropped; the container never waits for a disk that
//! is full.

use core::ffi::CStr;

use crate::plan::{Plan, event, tag};
use crate::sys::{self, Fd};

const NEWEST: &CStr = c"journal";
/// The size at which the file is rotated; the library has the same.
const MAX_FILE: u64 = 8 << 20;
const TIME: &[u8] = b"\"timeNano\":";
/// Key, digits, brace, newline.
const TAIL: usize = TIME.len() + 21;
/// The time before all events: always 19 digits.
const BEGINNING: u64 = 1_000_000_000_000_000_000;
/// Most pieces of one line.
const PIECES: usize = 20;

/// Where events go. The default is nowhere.
pub(crate) struct Events {
    directory: Fd,
    plan: Plan<'static>,
}

impl Events {
    pub(crate) const fn new() -> Self {
        Self { directory: -1, plan: Plan::empty() }
    }

    pub(crate) fn configure(&mut self, plan: &Plan<'static>, directory: Fd) {
        (self.plan, self.directory) = (*plan, directory);
    }

    /// The container's process runs.
    pub(crate) fn start(&self) {
        let Some(mut batch) = Batch::begin(self.directory) else { return };
        self.prepared(&mut batch, event::AT_START);
        self.line(&mut batch, &[b"start"], &[]);
        batch.end();
    }

    /// The container's process ended after so many seconds.
    pub(crate) fn end(&self, code: i32, oom: bool, seconds: u64) {
        let Some(mut batch) = Batch::begin(self.directory) else { return };
        if oom {
            self.line(&mut batch, &[b"oom"], &[]);
        }
        let (mut code_text, mut seconds_text) = ([0; 20], [0; 20]);
        let (code, seconds) = (digits(code as u64, &mut code_text), digits(seconds, &mut seconds_text));
        self.line(
            &mut batch,
            &[b"die"],
            &[b"\"execDuration\":\"", seconds, b"\",\"exitCode\":\"", code, b"\","],
        );
        self.prepared(&mut batch, event::AT_END);
        batch.end();
    }

    /// The container was sent a signal.
    pub(crate) fn kill(&self, signal: i32) {
        let mut text = [0; 20];
        self.container(&[b"kill"], &[b"\"signal\":\"", digits(signal as u64, &mut text), b"\","]);
    }

    /// Something happened to an exec: `id` as text, `extra` attributes with a comma behind each.
    pub(crate) fn exec(&self, action: &[&[u8]], id: &[u8], extra: &[&[u8]]) {
        let mut attributes: [&[u8]; 6] = [b"\"execID\":\"", id, b"\",", b"", b"", b""];
        if let Some(to) = attributes.get_mut(3..3 + extra.len()) {
            to.copy_from_slice(extra);
        }
        self.container(action, &attributes);
    }

    /// An exec's process ended.
    pub(crate) fn exec_die(&self, id: &[u8], code: i32) {
        let mut text = [0; 20];
        self.exec(&[b"exec_die"], id, &[b"\"exitCode\":\"", digits(code as u64, &mut text), b"\","]);
    }

    /// One event of the container: the pieces of its action, and attributes with a comma behind each. All are written
    /// as they are, so they hold no quotation marks, backslashes or control characters but where JSON wants them.
    pub(crate) fn container(&self, action: &[&[u8]], extra: &[&[u8]]) {
        if let Some(mut batch) = Batch::begin(self.directory) {
            self.line(&mut batch, action, extra);
            batch.end();
        }
    }

    fn line(&self, batch: &mut Batch, action: &[&[u8]], extra: &[&[u8]]) {
        let text = |tag| self.plan.first(tag).and_then(|record| record.text()).unwrap_or(c"").to_bytes();
        let id = text(tag::ID);
        let newer = Actor::open(self.directory, id);
        let actor = newer.as_ref().map_or_else(|| text(tag::EVENT_ACTOR), |actor| actor.0);
        let mut pieces: [&[u8]; PIECES] = [b""; PIECES];
        let mut count = 0;
        let head: &[&[u8]] = &[b"{\"Type\":\"container\",\"Action\":\""];
        let id: &[&[u8]] = &[b"\",\"Actor\":{\"ID\":\"", id, b"\",\"Attributes\":{"];
        for piece in [head, action, id, extra, &[actor, b"}},"]].into_iter().flatten() {
            if let Some(slot) = pieces.get_mut(count) {
                *slot = piece;
                count += 1;
            }
        }
        batch.line(&pieces[..count]);
        if let Some(actor) = newer {
            actor.close();
        }
    }

    /// Events of other objects that the library prepared.
    fn prepared(&self, batch: &mut Batch, when: u32) {
        let lines = self.plan.all(tag::EVENT).filter_map(|record| record.number_and_text());
        for (_, line) in lines.filter(|(at, _)| *at == when) {
            batch.line(&[line.to_bytes()]);
        }
    }
}

/// Attributes that replace those of the plan: the container was renamed.
struct Actor(&'static [u8]);

impl Actor {
    fn open(directory: Fd, id: &[u8]) -> Option<Self> {
        let mut path = [0; 80];
        let mut length = 0;
        for piece in [&b"actors/"[..], id, b"\0"] {
            path.get_mut(length..length + piece.len())?.copy_from_slice(piece);
            length += piece.len();
        }
        let path = CStr::from_bytes_with_nul(path.get(..length)?).ok()?;
        let fd = sys::openat(directory, path, sys::O_RDONLY | sys::O_NOFOLLOW, 0).ok()?;
        // Replaced by a rename and never written to again, so the mapping stays what it is.
        let size = sys::fstat(fd).map_or(0, |stat| stat.size as usize);
        let mapped = if size > 0 { sys::map(fd, size).ok() } else { None };
        sys::close(fd);
        mapped.map(Self)
    }

    fn close(self) {
        // SAFETY: nothing else borrows from the mapping, and this value ends here.
        unsafe { sys::unmap(self.0) };
    }
}

/// Appending, while the directory is locked.
struct Batch {
    directory: Fd,
    file: Fd,
    size: u64,
    last: u64,
}

impl Batch {
    fn begin(directory: Fd) -> Option<Self> {
        if directory < 0 || sys::flock(directory, true).is_err() {
            return None;
        }
        let mut batch = Self { directory, file: -1, size: 0, last: BEGINNING };
        if batch.open().is_err() {
            batch.end();
            return None;
        }
        Some(batch)
    }

    fn open(&mut self) -> sys::Result<()> {
        let flags = sys::O_RDWR | sys::O_CREAT | sys::O_APPEND | sys::O_NOFOLLOW;
        self.file = sys::openat(self.directory, NEWEST, flags, 0o600)?;
        self.size = sys::fstat(self.file)?.size;
        if self.size > 0 {
            let last = self.last_time();
            self.last = last.unwrap_or(BEGINNING);
            if self.size >= MAX_FILE {
                sys::renameat(self.directory, NEWEST, c"journal.1")?;
                sys::close(self.file);
                self.file = sys::openat(self.directory, NEWEST, flags, 0o600)?;
                self.size = 0;
            } else if last.is_none() {
                // A program was killed amid a line.
                self.size += sys::write(self.file, b"\n")? as u64;
            }
        }
        if self.size == 0 {
            self.write(&[b"{\"version\":1,"])?;
        }
        Ok(())
    }

    fn last_time(&self) -> Option<u64> {
        let mut tail = [0; TAIL];
        let at = self.size.checked_sub(TAIL as u64)?;
        if sys::pread(self.file, &mut tail, at) != Ok(TAIL) {
            return None;
        }
        let digits = tail.strip_prefix(TIME)?.strip_suffix(b"}\n")?;
        digits
            .iter()
            .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
    }

    /// Writes one line, whose time and end are added here.
    fn line(&mut self, pieces: &[&[u8]]) {
        self.last = sys::now().max(self.last + 1);
        let _ = self.write(pieces);
    }

    fn write(&mut self, pieces: &[&[u8]]) -> sys::Result<()> {
        let mut text = [0; 20];
        let mut all: [&[u8]; PIECES + 3] = [b""; PIECES + 3];
        let count = pieces.len().min(PIECES);
        all[..count].copy_from_slice(&pieces[..count]);
        (all[count], all[count + 1], all[count + 2]) = (TIME, digits(self.last, &mut text), b"}\n");
        let all = &all[..count + 3];
        let length: usize = all.iter().map(|piece| piece.len()).sum();
        match sys::writev(self.file, all) {
            Ok(written) if written == length => {
                self.size += length as u64;
                Ok(())
            }
            // Half a line of a full disk goes again.
            _ => {
                let _ = sys::ftruncate(self.file, self.size);
                Err(sys::EIO)
            }
        }
    }

    fn end(self) {
        sys::close(self.file);
        let _ = sys::flock(self.directory, false);
    }
}

fn digits(mut value: u64, text: &mut [u8; 20]) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &text[at..];
        }
    }
}
