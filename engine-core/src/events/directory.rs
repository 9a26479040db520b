//! A journal in a directory: appending, and rotation.
//!
//! The shim appends too, by the same steps (`shim/events.rs`): lock the directory, open the file, read the last time,
//! write whole lines, unlock. Invariant: a file begins with a header that has the time of the last event before it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::event::{BEGINNING, Line, TAIL, TIME, end, nanos, time_at_end};

/// The newest file.
pub(super) const NEWEST: &str = "journal";
/// The one before.
pub(super) const OLDER: &str = "journal.1";
/// The size at which a file is rotated; the shim has the same.
pub(super) const MAX_FILE: u64 = 8 << 20;
/// How far back a good line is looked for after a torn one.
const TORN: u64 = 1 << 20;

/// The files of a journal.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) path: PathBuf,
    /// The directory, whose lock orders all programs. Threads of this one share it, so they take turns first.
    lock: Mutex<File>,
    max_file: u64,
}

impl Files {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, MAX_FILE)
    }

    pub(super) fn with_limit(path: &Path, max_file: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { path: path.to_owned(), lock: Mutex::new(File::open(path)?), max_file })
    }

    /// Appends `lines`, in one write, and returns their times.
    pub(super) fn append(&self, lines: &[Line]) -> io::Result<Vec<u64>> {
        self.locked(|files| files.append_locked(lines))
    }

    /// Appends those of `lines` whose key is not there yet.
    pub(super) fn append_missing(&self, lines: &[(i64, Line)]) -> io::Result<()> {
        self.locked(|files| {
            let keys: Vec<i64> = lines.iter().map(|(key, _)| *key).collect();
            let missing = files.missing(&keys)?;
            let lines = lines.iter().filter(|(key, _)| missing.contains(key));
            let lines: Vec<Line> = lines.map(|(_, line)| line.clone()).collect();
            if lines.is_empty() { Ok(()) } else { files.append_locked(&lines).map(drop) }
        })
    }

    /// Those of `keys` that no line has. A key is mostly among the last lines, so these are looked at first.
    pub(super) fn missing(&self, keys: &[i64]) -> io::Result<Vec<i64>> {
        let mut missing = keys.to_vec();
        for (name, most) in [(NEWEST, 8 << 10), (NEWEST, u64::MAX), (OLDER, u64::MAX)] {
            if missing.is_empty() {
                break;
            }
            let file = match File::open(self.path.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let length = file.metadata()?.len();
            let start = length.saturating_sub(most);
            let mut bytes = vec![0; usize::try_from(length - start).unwrap_or_default()];
            file.read_exact_at(&mut bytes, start)?;
            let text = String::from_utf8_lossy(&bytes);
            missing.retain(|key| !text.contains(&format!("\"key\":\"{key:016x}\",{TIME}")));
        }
        Ok(missing)
    }

    /// The newest file, its length and its last time, while nobody writes.
    pub(super) fn end(&self) -> io::Result<Option<(File, u64, u64)>> {
        self.locked(|files| {
            let file = match File::open(files.path.join(NEWEST)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let length = file.metadata()?.len();
            let (last, _) = last_time(&file, length)?;
            Ok(Some((file, length, last)))
        })
    }

    fn locked<T>(&self, work: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.lock()?;
        let done = work(self);
        lock.unlock()?;
        done
    }

    fn append_locked(&self, lines: &[Line]) -> io::Result<Vec<u64>> {
        let path = self.path.join(NEWEST);
        let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let mut file = open()?;
        let mut length = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(512 * lines.len());
        let mut last = BEGINNING;
        if length > 0 {
            let (time, torn) = last_time(&file, length)?;
            last = time;
            if length >= self.max_file {
                fs::rename(&path, self.path.join(OLDER))?;
                file = open()?;
                length = 0;
            } else if torn {
                bytes.push(b'\n');
            }
        }
        if length == 0 {
            bytes.extend_from_slice(b"{\"version\":1,");
            end(last, &mut bytes);
        }
        let mut times = Vec::with_capacity(lines.len());
        for line in lines {
            last = nanos(SystemTime::now()).max(last + 1);
            line.finish(last, &mut bytes);
            times.push(last);
        }
        if let Err(error) = file.write_all(&bytes) {
            // Half a line of a full disk goes again.
            let _ = file.set_len(length);
            return Err(error);
        }
        Ok(times)
    }
}

/// The last time in a file of `length` bytes, and whether a killed program left the file's end torn.
fn last_time(file: &File, length: u64) -> io::Result<(u64, bool)> {
    let mut tail = [0; TAIL];
    if let Some(at) = length.checked_sub(TAIL as u64) {
        file.read_exact_at(&mut tail, at)?;
        if let Some(time) = time_at_end(&tail) {
            return Ok((time, false));
        }
    }
    let start = length.saturating_sub(TORN);
    let mut bytes = vec![0; usize::try_from(length - start).unwrap_or_default()];
    file.read_exact_at(&mut bytes, start)?;
    let good = bytes.split_inclusive(|&byte| byte == b'\n').rev().find_map(time_at_end);
    Ok((good.unwrap_or(BEGINNING), true))
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Event, ObjectKind};
    use super::*;

    fn line(id: &str, key: Option<i64>) -> Line {
        Line::new(&Event::new(ObjectKind::Volume, Action::Create, id), key)
    }

    fn text(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    #[test]
    fn times_only_grow_across_instances_and_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let a = Files::with_limit(&path, 2000).unwrap();
        let b = Files::with_limit(&path, 2000).unwrap();
        let mut last = 0;
        for n in 0..100 {
            for time in if n % 3 > 0 { &a } else { &b }.append(&[line("x", None), line("y", None)]).unwrap() {
                assert!(time > last);
                last = time;
            }
        }
        let (newest, older) = (text(&path, NEWEST), text(&path, OLDER));
        assert!(newest.len() < 2500 && older.len() < 2500, "{} {}", newest.len(), older.len());
        // The header continues the file before.
        let header = newest.lines().next().unwrap();
        let before = older.lines().last().unwrap();
        assert_eq!(
            time_at_end(format!("{header}\n").as_bytes()),
            time_at_end(format!("{before}\n").as_bytes())
        );
    }

    #[test]
    fn a_torn_line_is_closed_and_the_time_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let before = files.append(&[line("x", None)]).unwrap()[0];
        let mut file = OpenOptions::new().append(true).open(dir.path().join(NEWEST)).unwrap();
        file.write_all(b"{\"Type\":\"vol").unwrap();
        let after = files.append(&[line("y", None)]).unwrap()[0];
        assert!(after > before);
        let text = text(dir.path(), NEWEST);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[2]), (4, "{\"Type\":\"vol"));
    }

    #[test]
    fn a_key_is_appended_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let lines = [(7, line("x", Some(7))), (-9, line("y", Some(-9)))];
        files.append(&[lines[0].1.clone()]).unwrap();
        for _ in 0..200 {
            files.append(&[line("padding", None)]).unwrap();
        }
        assert_eq!(files.missing(&[7, -9]).unwrap(), [-9]);
        files.append_missing(&lines).unwrap();
        files.append_missing(&lines).unwrap();
        assert_eq!(text(dir.path(), NEWEST).matches("\"key\"").count(), 2);
    }
}
