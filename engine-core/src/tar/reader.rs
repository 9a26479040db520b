//! From a stream of bytes to entries: joins headers with their extensions and hands out file data.
//!
//! Owns the order of blocks and the precedence of extension headers. Leaves field syntax to `header`,
//! `pax` and `sparse`. Reads each byte once and keeps no more than one header (at most 1 MiB) in memory.

use std::io::BufRead;

use super::{
    Entry, EntryKind, TarError, Timestamp,
    header::{self, BLOCK, Header},
    pax::{self, PaxRecords},
    show,
    sparse::{self, LineMap, MAX_SEGMENTS},
};

/// What an archive may make us hold or do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TarLimits {
    /// Bytes of one extended header.
    pub(crate) pax_header: u64,
    /// Bytes of a path or link target (PATH_MAX).
    pub(crate) path: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes of the archive, with the holes of its files as if they were written out: sooner or later, somebody does that.
    pub(crate) bytes: u64,
    /// Whether what fills the last block may be missing. Who writes with Go and does not close what it writes (`docker build -f`)
    /// leaves it out.
    pub(crate) open_end: bool,
}

impl Default for TarLimits {
    fn default() -> Self {
        Self { pax_header: 1 << 20, path: 4096, entries: 10_000_000, bytes: u64::MAX, open_end: false }
    }
}

/// Reads an archive entry by entry.
#[derive(Debug)]
pub(crate) struct ArchiveReader<R> {
    source: R,
    limits: TarLimits,
    offset: u64,
    entries: u64,
    /// Bytes of holes so far.
    holes: u64,
    /// Data bytes of the current entry not handed out yet, and the padding behind them.
    remaining: u64,
    padding: u64,
    ended: bool,
}

/// Extension headers waiting for the entry they belong to.
#[derive(Default)]
struct Extensions {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R: BufRead> ArchiveReader<R> {
    pub(crate) fn new(source: R, limits: TarLimits) -> Self {
        Self { source, limits, offset: 0, entries: 0, holes: 0, remaining: 0, padding: 0, ended: false }
    }

    /// Reads the next entry into `entry`; `false` at the end, which is checked to be the end of the source.
    pub(crate) fn next_entry(&mut self, entry: &mut Entry) -> Result<bool, TarError> {
        self.skip_data()?;
        let mut extensions = Extensions::default();
        let mut block = [0; BLOCK];
        loop {
            // Headers may come without end, too.
            self.check_bytes(0)?;
            if self.ended || !self.read_block(&mut block)? {
                self.ended = true;
                return if extensions.is_empty() {
                    Ok(false)
                } else {
                    Err(self.malformed("the archive ends after an extension header"))
                };
            }
            if block.iter().all(|byte| *byte == 0) {
                self.ended = true;
                self.expect_only_zeros()?;
                continue;
            }
            let header = Header::parse(&block).map_err(|e| self.malformed(e))?;
            match header.typeflag {
                b'x' => {
                    if extensions.pax.is_some() {
                        return Err(self.malformed("two PAX headers for one entry"));
                    }
                    let data = self.read_extension(header.size, self.limits.pax_header, "PAX header")?;
                    extensions.pax = Some(pax::parse(&data).map_err(|e| self.malformed(e))?);
                }
                b'g' => {
                    if !extensions.is_empty() {
                        return Err(self.malformed("global PAX header between an extension and its entry"));
                    }
                    let data = self.read_extension(header.size, self.limits.pax_header, "PAX header")?;
                    pax::check_global(&data).map_err(|e| self.malformed(e))?;
                }
                b'L' => self.read_long(header.size, &mut extensions.long_name)?,
                b'K' => self.read_long(header.size, &mut extensions.long_link)?,
                _ => {
                    self.entries += 1;
                    if self.entries > self.limits.entries {
                        return Err(TarError::Limit(format!("more than {} entries", self.limits.entries)));
                    }
                    self.fill_entry(&header, extensions, entry)?;
                    if entry.sparse.is_some() {
                        self.holes = self.holes.saturating_add(entry.size.saturating_sub(self.remaining));
                    }
                    // Before anything of it is written.
                    self.check_bytes(self.remaining)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The next stored bytes of the current entry, as many as are at hand; empty at their end.
    /// For a sparse file these are its segments, one after the other.
    pub(crate) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let offset = self.offset;
        let buffer = self.source.fill_buf()?;
        if buffer.is_empty() {
            return Err(truncated(offset));
        }
        Ok(&buffer[..buffer.len().min(limit)])
    }

    /// Marks `count` bytes of what [`data`](Self::data) returned as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.offset += count as u64;
        self.remaining -= count as u64;
    }

    /// Where in the archive the data of the current entry begins, until some of it is read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Passes over the current entry's data without reading it. That it is there must be known from elsewhere.
    pub(crate) fn seek_over(&mut self) -> Result<(), TarError>
    where
        R: std::io::Seek,
    {
        let rest = std::mem::take(&mut self.remaining) + std::mem::take(&mut self.padding);
        let step = i64::try_from(rest).map_err(|_| self.malformed("size out of range"))?;
        self.source.seek_relative(step)?;
        self.offset += rest;
        Ok(())
    }

    /// The source, wherever reading stopped.
    pub(crate) fn into_inner(self) -> R {
        self.source
    }

    fn fill_entry(
        &mut self,
        header: &Header<'_>,
        extensions: Extensions,
        entry: &mut Entry,
    ) -> Result<(), TarError> {
        let extended = !extensions.is_empty();
        let Extensions { pax, long_name, long_link } = extensions;
        let pax = pax.unwrap_or_default();
        let fail = |reason: String| TarError::Malformed { offset: self.offset, reason };
        let sparse = pax.sparse.finish().map_err(fail)?;

        // The name. Two extensions that both claim to know it are read differently by different readers.
        let sparse_name = sparse.as_ref().and_then(|file| file.name.clone());
        if long_name.is_some() && (pax.path.is_some() || sparse_name.is_some()) {
            return Err(fail("GNU long name and PAX path for one entry".into()));
        }
        if long_link.is_some() && pax.link.is_some() {
            return Err(fail("GNU long link and PAX linkpath for one entry".into()));
        }
        match sparse_name.or(pax.path).or(long_name) {
            Some(path) => entry.path = path,
            None => header.path_into(&mut entry.path),
        }
        if entry.path.is_empty() {
            return Err(fail("entry without a name".into()));
        }
        let slash = entry.path.ends_with(b"/");
        entry.kind = match header.typeflag {
            // BSD's V7 habit: a directory is a file whose name ends in a slash.
            0 if slash && !extended => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' if slash => {
                return Err(fail(format!("file {} has a name like a directory's", show(&entry.path))));
            }
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(fail(format!("unknown entry type {:?}", char::from(other)))),
        };
        entry.link.clear();
        if matches!(entry.kind, EntryKind::HardLink | EntryKind::Symlink) {
            match pax.link.or(long_link) {
                Some(link) => entry.link = link,
                None => entry.link.extend_from_slice(header.link()),
            }
            if entry.link.is_empty() {
                return Err(fail(format!("link {} without a target", show(&entry.path))));
            }
        }
        for name in [&entry.path, &entry.link] {
            if name.len() as u64 > self.limits.path {
                return Err(TarError::Limit(format!("a path of {} bytes", name.len())));
            }
        }

        // PAX size wins over the header's, which cannot express every size (POSIX pax, "size").
        let stored = pax.size.unwrap_or(header.size);
        if entry.kind != EntryKind::File && (stored != 0 || header.size != 0) {
            return Err(fail(format!("{} is no file but has data", show(&entry.path))));
        }
        if stored > i64::MAX as u64 {
            return Err(fail("size out of range".into()));
        }
        entry.mode = header.mode().map_err(fail)?;
        entry.uid = pax.uid.map_or_else(|| header.uid(), Ok).map_err(fail)?;
        entry.gid = pax.gid.map_or_else(|| header.gid(), Ok).map_err(fail)?;
        entry.mtime = match pax.mtime {
            Some(time) => time,
            None => Timestamp { seconds: header.mtime().map_err(fail)?, nanoseconds: 0 },
        };
        entry.device = match entry.kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => header.device().map_err(fail)?,
            _ => (0, 0),
        };
        entry.xattrs = pax.xattrs;
        entry.sparse = None;
        entry.size = stored;
        self.remaining = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;

        match (header.typeflag, sparse) {
            (b'S', Some(_)) => Err(self.malformed("GNU and PAX sparse headers for one entry")),
            (b'S', None) if pax.size.is_some() => Err(self.malformed("GNU sparse entry with a PAX size")),
            (b'S', None) => self.read_gnu_sparse(header, entry),
            (_, Some(_)) if entry.kind != EntryKind::File => {
                Err(self.malformed("sparse records on what is no file"))
            }
            (_, Some(file)) => {
                let map = match file.map {
                    Some(map) => map,
                    None => self.read_line_map()?,
                };
                sparse::check(&map, file.real_size, self.remaining).map_err(|e| self.malformed(e))?;
                entry.size = file.real_size;
                entry.sparse = Some(map);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    fn read_gnu_sparse(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<(), TarError> {
        let mut map = Vec::new();
        let (mut more, real_size) = header.gnu_sparse(&mut map).map_err(|e| self.malformed(e))?;
        let mut block = [0; BLOCK];
        while more {
            if !self.read_block(&mut block)? {
                return Err(truncated(self.offset));
            }
            more = header::gnu_sparse_extension(&block, &mut map).map_err(|e| self.malformed(e))?;
            if map.len() > MAX_SEGMENTS {
                return Err(TarError::Limit("too many segments in a sparse file".into()));
            }
        }
        sparse::check(&map, real_size, self.remaining).map_err(|e| self.malformed(e))?;
        entry.size = real_size;
        entry.sparse = Some(map);
        Ok(())
    }

    fn read_line_map(&mut self) -> Result<Vec<super::Segment>, TarError> {
        let mut map = LineMap::default();
        let mut block = [0; BLOCK];
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(self.malformed("sparse map longer than its entry"));
            }
            if !self.read_block(&mut block)? {
                return Err(truncated(self.offset));
            }
            self.remaining -= BLOCK as u64;
            if let Some(map) = map.push_block(&block).map_err(|e| self.malformed(e))? {
                return Ok(map);
            }
        }
    }

    fn read_long(&mut self, size: u64, slot: &mut Option<Vec<u8>>) -> Result<(), TarError> {
        if slot.is_some() {
            return Err(self.malformed("two GNU long names for one entry"));
        }
        // One byte more: GNU tar stores the terminating NUL.
        let mut name = self.read_extension(size, self.limits.path + 1, "GNU long name")?;
        let end = header::until_nul(&name).len();
        if end == 0 || name[end..].iter().any(|byte| *byte != 0) {
            return Err(self.malformed("GNU long name is empty or goes on behind a NUL"));
        }
        name.truncate(end);
        *slot = Some(name);
        Ok(())
    }

    fn read_extension(&mut self, size: u64, limit: u64, what: &str) -> Result<Vec<u8>, TarError> {
        if size > limit {
            return Err(TarError::Limit(format!("a {what} of {size} bytes")));
        }
        let size = usize::try_from(size).map_err(|_| TarError::Limit(format!("a {what} of {size} bytes")))?;
        let mut data = vec![0; size.next_multiple_of(BLOCK)];
        if self.read_full(&mut data)? != data.len() {
            return Err(truncated(self.offset));
        }
        // Some readers take names up to the NUL, wherever the size says they end.
        if data[size..].iter().any(|byte| *byte != 0) {
            return Err(self.malformed(format!("data behind the end of a {what}")));
        }
        data.truncate(size);
        Ok(data)
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        while self.remaining > 0 {
            let count = self.data()?.len();
            self.consume(count);
        }
        self.remaining = std::mem::take(&mut self.padding);
        while self.remaining > 0 {
            if self.limits.open_end && self.source.fill_buf()?.is_empty() {
                self.remaining = 0;
                break;
            }
            let count = self.data()?.len();
            self.consume(count);
        }
        Ok(())
    }

    /// `false` at the end of the source; a partial block is an error.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        match self.read_full(block)? {
            BLOCK => Ok(true),
            0 => Ok(false),
            _ => Err(truncated(self.offset)),
        }
    }

    fn read_full(&mut self, out: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < out.len() {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let count = buffer.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&buffer[..count]);
            self.source.consume(count);
            filled += count;
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Whatever follows the end must be padding: an archive hidden behind the end is seen by some readers.
    fn expect_only_zeros(&mut self) -> Result<(), TarError> {
        loop {
            let buffer = self.source.fill_buf()?;
            let count = buffer.len();
            if count == 0 {
                return Ok(());
            }
            if buffer.iter().any(|byte| *byte != 0) {
                return Err(self.malformed("data after the end of the archive"));
            }
            self.source.consume(count);
            self.offset += count as u64;
            self.check_bytes(0)?;
        }
    }

    /// Looks whether the archive may have `more` bytes than were read.
    fn check_bytes(&self, more: u64) -> Result<(), TarError> {
        let bytes = self.offset.saturating_add(more).saturating_add(self.holes);
        if bytes > self.limits.bytes { Err(TarError::TooLarge(self.limits.bytes)) } else { Ok(()) }
    }

    fn malformed(&self, reason: impl Into<String>) -> TarError {
        TarError::Malformed { offset: self.offset, reason: reason.into() }
    }
}

fn truncated(offset: u64) -> TarError {
    TarError::Malformed { offset, reason: "the archive is cut short".into() }
}
