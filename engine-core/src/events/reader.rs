//! Reading the files of a journal, oldest first, while others append and rotate.
//!
//! A reader holds its file by descriptor, so a rotation takes nothing from it. Invariant: it goes on to the next file only
//! after it has read its own to the end *since* that one stopped being the newest, and checks by the header that nothing
//! is missing in between.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::directory::{Files, NEWEST, OLDER};
use super::event::{BEGINNING, Event, parse, time_at_end};
use crate::error::{Error, ErrorKind, Result};

/// Longest line that is read.
const MAX_LINE: u64 = 4 << 20;
/// Events handed out at once.
const BATCH: usize = 256;

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Now,
    /// With what is kept from this time on.
    Since(u64),
    /// After this time, without a gap.
    After(u64),
}

#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    inode: u64,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
    /// The last time seen: that before the first event wanted.
    last: u64,
    /// Whether a missing event is an error.
    strict: bool,
    /// Whether another file is the newest now, so that ours has an end.
    closed: bool,
}

fn failed(error: io::Error) -> Error {
    Error::from_io("read events", error)
}

pub(super) fn gap() -> Error {
    Error::new(ErrorKind::NotFound, "read events")
        .with_message("events were dropped before they were read")
        .with_hint("look at the objects anew, then follow the events from then on")
}

impl Reader {
    pub(super) fn open(files: &Files, start: Start) -> Result<Self> {
        let mut reader = Self {
            path: files.path.clone(),
            file: None,
            inode: 0,
            begun: Vec::new(),
            last: 0,
            strict: false,
            closed: false,
        };
        match start {
            Start::Now => {
                (reader.last, reader.strict) = (BEGINNING, true);
                if let Some((mut file, length, last)) = files.end().map_err(failed)? {
                    file.seek(SeekFrom::Start(length)).map_err(failed)?;
                    reader.hold(file)?;
                    reader.last = last;
                }
            }
            Start::Since(time) => reader.last = time.saturating_sub(1),
            Start::After(time) => (reader.last, reader.strict) = (time, true),
        }
        Ok(reader)
    }

    /// The next events, some of all there are; none when there are no more now.
    pub(super) fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < BATCH {
            let Some(file) = &mut self.file else {
                if self.begin()? {
                    continue;
                }
                break;
            };
            let left = MAX_LINE - self.begun.len() as u64;
            let read = io::Read::take(&mut *file, left).read_until(b'\n', &mut self.begun).map_err(failed)?;
            if self.begun.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.begun);
                events.extend(self.line(&line)?);
            } else if self.begun.len() as u64 >= MAX_LINE {
                return Err(Error::new(ErrorKind::Corrupt, "read events").with_message("a line is too long"));
            } else if read == 0 && !self.advance()? {
                break;
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Event>> {
        // A torn line has no time, and those before the wanted ones are not worth reading.
        let Some(time) = time_at_end(line) else { return Ok(None) };
        if line.starts_with(b"{\"version\":") {
            if self.strict && time > self.last {
                return Err(gap());
            }
            return Ok(None);
        }
        if time <= self.last {
            return Ok(None);
        }
        (self.last, self.strict) = (time, true);
        Ok(parse(line).map(|(event, _)| event))
    }

    /// Opens the oldest file. What is looked for may be in the newest alone, but its header cannot tell that there is
    /// nothing before without being read, and reading is quick.
    fn begin(&mut self) -> Result<bool> {
        for name in [OLDER, NEWEST] {
            match File::open(self.path.join(name)) {
                Ok(file) => return self.hold(file).map(|()| true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(false)
    }

    fn hold(&mut self, file: File) -> Result<()> {
        self.inode = file.metadata().map_err(failed)?.ino();
        self.file = Some(BufReader::new(file));
        self.begun.clear();
        self.closed = false;
        Ok(())
    }

    fn inode_of(&self, name: &str) -> Result<Option<u64>> {
        match fs::metadata(self.path.join(name)) {
            Ok(metadata) => Ok(Some(metadata.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// At the end of a file: whether there may be more to read.
    fn advance(&mut self) -> Result<bool> {
        // No newest file: somebody is between two steps of a rotation.
        let newest = self.inode_of(NEWEST)?;
        if newest.is_none_or(|inode| inode == self.inode) {
            return Ok(false);
        }
        if !self.closed {
            // Something may have been appended between our last read and the rotation.
            self.closed = true;
            return Ok(true);
        }
        let successor = if self.inode_of(OLDER)? == Some(self.inode) { NEWEST } else { OLDER };
        let file = match File::open(self.path.join(successor)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(failed(error)),
        };
        // Another rotation meanwhile would make it one too new.
        if successor == NEWEST && self.inode_of(OLDER)? != Some(self.inode) {
            return Ok(true);
        }
        self.hold(file).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Line;
    use super::super::{Action, ObjectKind};
    use super::*;

    fn line(n: usize) -> Line {
        Line::new(&Event::new(ObjectKind::Volume, Action::Create, n.to_string()), None)
    }

    fn ids(events: &[Event]) -> Vec<usize> {
        events.iter().map(|event| event.id.parse().unwrap()).collect()
    }

    fn all(reader: &mut Reader) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        loop {
            let events = reader.events()?;
            if events.is_empty() {
                return Ok(all);
            }
            all.extend(events);
        }
    }

    #[test]
    fn nothing_is_missed_or_seen_twice_over_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::with_limit(dir.path(), 4000).unwrap();
        files.append(&[line(0)]).unwrap();
        let mut live = Reader::open(&files, Start::Now).unwrap();
        let mut early = Reader::open(&Files::open(&dir.path().join("other")).unwrap(), Start::Now).unwrap();
        assert!(early.events().unwrap().is_empty());
        let mut seen = Vec::new();
        for n in 1..500 {
            files.append(&[line(n)]).unwrap();
            if n.is_multiple_of(7) {
                seen.extend(all(&mut live).unwrap());
            }
        }
        seen.extend(all(&mut live).unwrap());
        assert_eq!(ids(&seen), (1..500).collect::<Vec<_>>());
        // What is kept can be replayed, from any place in it.
        let kept = all(&mut Reader::open(&files, Start::Since(0)).unwrap()).unwrap();
        assert_eq!(ids(&kept).last(), Some(&499));
        let middle = kept[kept.len() / 2].cursor();
        let rest = all(&mut Reader::open(&files, Start::After(middle.0)).unwrap()).unwrap();
        assert_eq!(rest, kept[kept.len() / 2 + 1..]);
        let gone = all(&mut Reader::open(&files, Start::After(seen[0].cursor().0)).unwrap());
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_reader_that_was_overtaken_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::with_limit(dir.path(), 2000).unwrap();
        files.append(&[line(0)]).unwrap();
        let mut reader = Reader::open(&files, Start::Now).unwrap();
        for n in 1..200 {
            files.append(&[line(n)]).unwrap();
        }
        assert_eq!(all(&mut reader).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
