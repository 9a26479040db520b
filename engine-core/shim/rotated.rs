//! The files of a log that are full: their names, and their compression.
//!
//! A child compresses, one file at a time, so that nobody waits for it. It is given two descriptors and writes; every name is
//! given and taken here, by the one process that also rotates, so no two renames race.
//! Invariant: a full file keeps its name until all of its compressed form has one beside it.

use core::ffi::CStr;

use crate::gzip::{self, Encoder};
use crate::process::{PR_SET_PDEATHSIG, decimal};
use crate::sys::{self, Fd};

/// What follows the name of a full file.
const PLAIN: &[u8] = b"";
const COMPRESSED: &[u8] = b".gz";
/// What follows the log's name in that of the file being written.
const UNFINISHED: &[u8] = b".gz.new";

/// The full files. All zero bytes are those of a log that is off.
pub(crate) struct Rotated {
    directory: Fd,
    name: Option<&'static CStr>,
    /// How many files are kept, with the one that is written.
    max_files: u32,
    compress: bool,
    /// The child that compresses, or 0.
    child: i32,
    end: Fd,
    /// The number that the file it compresses has by now.
    number: u32,
}

impl Rotated {
    pub(crate) fn configure(&mut self, directory: Fd, name: &'static CStr, max_files: u32, compress: bool) {
        (self.directory, self.name, self.max_files) = (directory, Some(name), max_files.clamp(1, 1000));
        self.compress = compress && self.max_files > 1;
    }

    /// The directory has another descriptor in this process.
    pub(crate) fn moved(&mut self, directory: Fd) {
        self.directory = directory;
    }

    /// What becomes readable when a compression ends; -1 while there is none.
    pub(crate) fn end(&self) -> Fd {
        if self.child > 0 { self.end } else { -1 }
    }

    /// Before the first record: cleans up what a shim that was killed left, and goes on where it was.
    pub(crate) fn begin(&mut self) {
        if !self.compress || self.child > 0 {
            return;
        }
        self.unlink(0, UNFINISHED);
        for number in 1..self.max_files {
            if let Some(compressed) = self.open(number, COMPRESSED) {
                sys::close(compressed);
                self.unlink(number, PLAIN);
            }
        }
        self.compress_next();
    }

    /// `name.1` becomes `name.2` and so on, `name` becomes `name.1`; the oldest goes.
    pub(crate) fn rotate(&mut self) {
        let oldest = self.max_files - 1;
        if oldest == 0 || self.compress {
            self.unlink(oldest, PLAIN);
        }
        if self.compress {
            self.unlink(oldest, COMPRESSED);
            if self.child > 0 {
                self.number += 1;
                if self.number > oldest {
                    self.stop();
                }
            }
        }
        for number in (1..=oldest).rev() {
            self.rename(number - 1, PLAIN, number, PLAIN);
            if self.compress && number > 1 {
                self.rename(number - 1, COMPRESSED, number, COMPRESSED);
            }
        }
        self.compress_next();
    }

    pub(crate) fn knows(&self, pid: i32) -> bool {
        pid == self.child
    }

    /// A compression ended.
    pub(crate) fn on_end(&mut self) {
        let Some((_, status)) = sys::wait(self.child, false) else { return };
        self.forget();
        if status != 0 {
            // A full disk, most likely: the next rotation tries again.
            self.unlink(0, UNFINISHED);
            return;
        }
        if self.rename(0, UNFINISHED, self.number, COMPRESSED) {
            self.unlink(self.number, PLAIN);
            self.compress_next();
        }
    }

    /// Gives a compression up: its file stays as it is.
    pub(crate) fn stop(&mut self) {
        if self.child > 0 {
            let _ = sys::kill(self.child, sys::SIGKILL);
            let _ = sys::wait(self.child, true);
            self.forget();
            self.unlink(0, UNFINISHED);
        }
    }

    fn forget(&mut self) {
        sys::close(self.end);
        self.child = 0;
    }

    /// Compresses the newest full file that is not, which is the one that will be there longest.
    fn compress_next(&mut self) {
        if !self.compress || self.child > 0 {
            return;
        }
        let Some((number, source)) =
            (1..self.max_files).find_map(|number| Some((number, self.open(number, PLAIN)?)))
        else {
            return;
        };
        let mut path = [0; 300];
        let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_TRUNC | sys::O_NOFOLLOW;
        let target = self
            .path(0, UNFINISHED, &mut path)
            .map_or(Err(sys::ENAMETOOLONG), |path| sys::openat(self.directory, path, flags, 0o600));
        if let Ok(target) = target {
            match sys::fork(sys::CLONE_PIDFD, &mut self.end, -1) {
                Ok(0) => compress(source, target),
                Ok(child) => (self.child, self.number) = (child, number),
                Err(_) => self.unlink(0, UNFINISHED),
            }
            sys::close(target);
        }
        sys::close(source);
    }

    fn open(&self, number: u32, form: &[u8]) -> Option<Fd> {
        let mut path = [0; 300];
        let path = self.path(number, form, &mut path)?;
        sys::openat(self.directory, path, sys::O_RDONLY | sys::O_NOFOLLOW, 0).ok()
    }

    fn unlink(&self, number: u32, form: &[u8]) {
        let mut path = [0; 300];
        if let Some(path) = self.path(number, form, &mut path) {
            let _ = sys::unlinkat(self.directory, path, 0);
        }
    }

    fn rename(&self, from: u32, from_form: &[u8], to: u32, to_form: &[u8]) -> bool {
        let (mut from_path, mut to_path) = ([0; 300], [0; 300]);
        match (self.path(from, from_form, &mut from_path), self.path(to, to_form, &mut to_path)) {
            (Some(from), Some(to)) => sys::renameat(self.directory, from, to).is_ok(),
            _ => false,
        }
    }

    /// The name of a file; 0 is the one that is written.
    fn path<'a>(&self, number: u32, form: &[u8], text: &'a mut [u8; 300]) -> Option<&'a CStr> {
        let mut digits = [0; 12];
        let number: [&[u8]; 2] =
            if number == 0 { [b""; 2] } else { [b".", decimal(number as i32, &mut digits)] };
        let mut length = 0;
        for piece in [self.name?.to_bytes(), number[0], number[1], form, b"\0"] {
            text.get_mut(length..length + piece.len())?.copy_from_slice(piece);
            length += piece.len();
        }
        CStr::from_bytes_with_nul(text.get(..length)?).ok()
    }
}

/// The child: compresses `source` into `target`.
fn compress(source: Fd, target: Fd) -> ! {
    // With whoever writes the log: nobody else cleans up.
    let alone = sys::prctl(PR_SET_PDEATHSIG, sys::SIGKILL as usize, 0).and_then(|_| {
        // Nothing else of the shim's is held: the end of its connections and of the container's pipes must be seen.
        let (source, target) = (sys::dup_high(source)?, sys::dup_high(target)?);
        sys::dup3(source, 0, sys::O_CLOEXEC)?;
        sys::dup3(target, 1, sys::O_CLOEXEC)?;
        sys::close_range(2, 0)
    });
    let whole = alone.and_then(|()| {
        let stat = sys::fstat(0)?;
        // Nobody writes to a full file, and who shortens one ends this process, no other.
        let input = if stat.size > 0 { sys::map(0, stat.size as usize)? } else { &[] };
        let words = sys::words(size_of::<Encoder>() / size_of::<usize>() + 1)?;
        // SAFETY: at least as many zero bytes as an encoder has, which are one, page aligned, and nothing else refers to them.
        let encoder = unsafe { &mut *words.as_mut_ptr().cast::<Encoder>() };
        Ok(encoder.encode(input, &gzip::extra(stat.ino), &mut |bytes| sys::write_all(1, bytes).is_ok()))
    });
    sys::exit(if whole == Ok(true) { 0 } else { 1 })
}
