//! The files of a container's log: which there are, which follows which, and their bytes, plain or compressed.
//!
//! A file that is read is held by descriptor, so a rotation takes nothing from it, and its inode is nobody else's meanwhile.
//! When it has ended and is no longer the newest, the next one follows. Compressing makes another file of it, which tells
//! whose content it has. Invariant: no file is read twice, and none that is kept is left out.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{Error, ErrorKind, Result};
use crate::linux::plan::gzip;

/// Name of the log in a container's directory. Full ones have a number behind it, and `.gz` once they are compressed.
pub(super) const FILE: &str = "container-json.log";
const COMPRESSED: &str = ".gz";
/// How often a list of files is made anew when rotations come in between.
const TRIES: usize = 100;

/// The files of a log, and the one that is read.
pub(super) struct LogFiles {
    dir: PathBuf,
    current: Option<Current>,
}

struct Current {
    bytes: Box<dyn BufRead + Send>,
    inode: u64,
    compressed: bool,
    /// Whether another file is the newest now, so that this one has an end.
    closed: bool,
}

/// What comes after the end of a file.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Next {
    /// Nothing now.
    Nothing,
    /// Perhaps more of the same file.
    Same,
    /// Another file.
    Other,
}

impl Next {
    pub(super) fn is_more(self) -> bool {
        self != Self::Nothing
    }

    pub(super) fn is_other(self) -> bool {
        self == Self::Other
    }
}

/// One file, as a list shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Listed {
    number: u32,
    inode: u64,
    compressed: bool,
}

impl Listed {
    fn path(&self, dir: &Path) -> PathBuf {
        let number = if self.number == 0 { String::new() } else { format!(".{}", self.number) };
        dir.join(format!("{FILE}{number}{}", if self.compressed { COMPRESSED } else { "" }))
    }

    /// Opens it; `None` if it is gone or a rotation has put another file there.
    fn open(&self, dir: &Path) -> io::Result<Option<File>> {
        match File::open(self.path(dir)) {
            Ok(file) => Ok((file.metadata()?.ino() == self.inode).then_some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl LogFiles {
    /// Begins with the oldest file in `dir`, if there is one.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let mut files = Self { dir: dir.to_owned(), current: None };
        files.take()?;
        Ok(files)
    }

    /// The file that is read; `None` before there is one.
    pub(super) fn bytes(&mut self) -> Option<&mut (dyn BufRead + Send + 'static)> {
        self.current.as_mut().map(|current| &mut *current.bytes)
    }

    /// At the end of a file: goes on.
    pub(super) fn next(&mut self) -> Result<Next> {
        let Some(current) = &self.current else { return self.take() };
        let own = current.inode;
        if fs::metadata(self.dir.join(FILE)).is_ok_and(|newest| newest.ino() == own)
            || self.list()?.last().is_none_or(|newest| newest.inode == own)
        {
            return Ok(Next::Nothing);
        }
        match &mut self.current {
            // Lines may have come between our last read and the rotation.
            Some(current) if !current.closed => {
                current.closed = true;
                Ok(Next::Same)
            }
            _ => self.take(),
        }
    }

    /// Goes on with the file after the current one.
    fn take(&mut self) -> Result<Next> {
        for _ in 0..TRIES {
            let list = self.list()?;
            let next = match &self.current {
                None => list.first(),
                Some(current) => match self.place(current, &list).map_err(failed)? {
                    Place::At(at) => list.get(at + 1),
                    // Ours was removed: everything kept is newer.
                    Place::Gone => list.first(),
                    Place::Unclear => continue,
                },
            };
            let Some(next) = next else { return Ok(Next::Nothing) };
            if let Some(file) = next.open(&self.dir).map_err(failed)? {
                let bytes: Box<dyn BufRead + Send> = if next.compressed {
                    Box::new(BufReader::new(Undamaged(GzDecoder::new(file))))
                } else {
                    Box::new(BufReader::new(file))
                };
                let (inode, compressed) = (next.inode, next.compressed);
                self.current = Some(Current { bytes, inode, compressed, closed: false });
                return Ok(Next::Other);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "read log")
            .with_message("its files are rotated faster than they can be opened")
            .with_hint("give the log a larger max-size"))
    }

    fn place(&self, current: &Current, list: &[Listed]) -> io::Result<Place> {
        if let Some(at) = list.iter().position(|file| file.inode == current.inode) {
            return Ok(Place::At(at));
        }
        if current.compressed {
            return Ok(Place::Gone);
        }
        // Compressed meanwhile? The newest with our inode is ours: older ones had it before us.
        for (at, file) in list.iter().enumerate().rev().filter(|(_, file)| file.compressed) {
            let Some(file) = file.open(&self.dir)? else { return Ok(Place::Unclear) };
            let decoder = GzDecoder::new(file);
            if decoder.header().and_then(|header| header.extra()).and_then(gzip::origin)
                == Some(current.inode)
            {
                return Ok(Place::At(at));
            }
        }
        Ok(Place::Gone)
    }

    /// The files there are, oldest first. Made twice: a rotation in between would show one file under two numbers, or none.
    fn list(&self) -> Result<Vec<Listed>> {
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

    fn list_once(&self) -> io::Result<Vec<Listed>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some((number, compressed)) = entry.file_name().to_str().and_then(parse) else { continue };
            match entry.metadata() {
                Ok(metadata) => list.push(Listed { number, inode: metadata.ino(), compressed }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // For a moment, or after a crash, one is there in both forms.
        list.sort_unstable_by_key(|file| (std::cmp::Reverse(file.number), !file.compressed));
        list.dedup_by_key(|file| file.number);
        Ok(list)
    }
}

/// Where the current file is in a list.
enum Place {
    At(usize),
    Gone,
    /// The list is no longer true.
    Unclear,
}

/// Reads a file's name: its number, and whether it is compressed.
fn parse(name: &str) -> Option<(u32, bool)> {
    let rest = name.strip_prefix(FILE)?;
    if rest.is_empty() {
        return Some((0, false));
    }
    let rest = rest.strip_prefix('.')?;
    match rest.strip_suffix(COMPRESSED) {
        Some(number) => Some((number.parse().ok()?, true)),
        None => Some((rest.parse().ok()?, false)),
    }
}

/// A compressed file up to where a crash has damaged it.
struct Undamaged<R>(R);

impl<R: Read> Read for Undamaged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            // What the decoder says, not the disk.
            Err(error) if error.raw_os_error().is_none() && error.kind() != io::ErrorKind::Interrupted => {
                tracing::warn!(%error, "a compressed file of a log is damaged");
                Ok(0)
            }
            other => other,
        }
    }
}

pub(super) fn failed(error: io::Error) -> Error {
    Error::from_io("read log", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        fs::write(dir.join(name), text).unwrap();
    }

    /// Does what a shim does with the full file `number`.
    fn compress(dir: &Path, number: u32) {
        let plain = dir.join(format!("{FILE}.{number}"));
        let (mut encoder, mut out) = (Box::new(gzip::Encoder::new()), Vec::new());
        let extra = gzip::extra(fs::metadata(&plain).unwrap().ino());
        assert!(encoder.encode(&fs::read(&plain).unwrap(), &extra, &mut |bytes| {
            out.extend_from_slice(bytes);
            true
        }));
        fs::write(dir.join(format!("{FILE}.{number}.gz")), out).unwrap();
    }

    fn rotate(dir: &Path, number: u32, form: &str) {
        let from = if number == 0 { FILE.to_owned() } else { format!("{FILE}.{number}{form}") };
        fs::rename(dir.join(from), dir.join(format!("{FILE}.{}{form}", number + 1))).unwrap();
    }

    fn rest(files: &mut LogFiles) -> String {
        let mut text = String::new();
        loop {
            if let Some(bytes) = files.bytes() {
                bytes.read_to_string(&mut text).unwrap();
            }
            if !files.next().unwrap().is_more() {
                return text;
            }
        }
    }

    #[test]
    fn a_file_that_is_compressed_while_it_is_read_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, FILE, "one ");
        let mut files = LogFiles::open(dir).unwrap();
        assert_eq!(rest(&mut files), "one ");
        rotate(dir, 0, "");
        write(dir, FILE, "two ");
        compress(dir, 1);
        // Both forms are there, then one.
        assert_eq!(rest(&mut files), "two ");
        fs::remove_file(dir.join(format!("{FILE}.1"))).unwrap();
        rotate(dir, 1, ".gz");
        rotate(dir, 0, "");
        write(dir, FILE, "three ");
        compress(dir, 1);
        fs::remove_file(dir.join(format!("{FILE}.1"))).unwrap();
        assert_eq!(rest(&mut files), "three ");
        assert_eq!(rest(&mut LogFiles::open(dir).unwrap()), "one two three ");
        // Ours falls off the end: all that is kept is newer.
        for number in [2, 1] {
            fs::remove_file(dir.join(format!("{FILE}.{number}.gz"))).unwrap();
        }
        fs::remove_file(dir.join(FILE)).unwrap();
        write(dir, &format!("{FILE}.1"), "five ");
        compress(dir, 1);
        write(dir, FILE, "six ");
        assert_eq!(rest(&mut files), "five six ");
    }

    #[test]
    fn what_is_no_file_of_the_log_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for name in [".gz.new", ".x", ".1.gz.new", "1", ".gz", ".1.bz2"] {
            write(dir, &format!("{FILE}{name}"), "wrong");
        }
        assert_eq!(rest(&mut LogFiles::open(dir).unwrap()), "");
        write(dir, FILE, "right");
        assert_eq!(rest(&mut LogFiles::open(dir).unwrap()), "right");
    }

    #[test]
    fn a_damaged_file_ends_where_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let lines: String = (0..20_000).map(|line| format!("{}\n", line * 7919)).collect();
        write(dir, &format!("{FILE}.1"), &lines);
        compress(dir, 1);
        fs::remove_file(dir.join(format!("{FILE}.1"))).unwrap();
        write(dir, FILE, "newest");
        let path = dir.join(format!("{FILE}.1.gz"));
        let whole = fs::read(&path).unwrap();
        for length in [whole.len() / 2, 5, 0] {
            fs::write(&path, &whole[..length]).unwrap();
            let read = rest(&mut LogFiles::open(dir).unwrap());
            let kept = read.strip_suffix("newest").unwrap();
            assert!(
                lines.starts_with(kept) && (kept.is_empty() == (length < 10)),
                "{length}: {}",
                kept.len()
            );
        }
    }
}
