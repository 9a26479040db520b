//! Layers: tar archives written entry by entry, hostile ones too.

use std::io::Write as _;

use tar::{EntryType, Header};

/// Builds the tar archive of one layer. Paths are relative and taken as given: `..` and the like are written as they stand.
#[derive(Clone, Debug, Default)]
pub struct LayerBuilder {
    data: Vec<u8>,
    owner: (u64, u64),
    mtime: u64,
}

impl LayerBuilder {
    /// Starts an empty layer; entries belong to root and were modified at 2024-01-01.
    #[must_use]
    pub fn new() -> Self {
        Self { data: Vec::new(), owner: (0, 0), mtime: 1_704_067_200 }
    }

    /// Sets the owner of all entries that follow.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Sets the modification time of all entries that follow.
    #[must_use]
    pub fn mtime(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, &format!("{path}/"), mode, "", &[], (0, 0))
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, mode, "", content, (0, 0))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, target, &[], (0, 0))
    }

    /// Adds another name of an entry written before.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o755, target, &[], (0, 0))
    }

    /// Adds a character device.
    #[must_use]
    pub fn char_device(self, path: &str, mode: u32, major: u32, minor: u32) -> Self {
        self.entry(EntryType::Char, path, mode, "", &[], (major, minor))
    }

    /// Adds a FIFO.
    #[must_use]
    pub fn fifo(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Fifo, path, mode, "", &[], (0, 0))
    }

    /// Deletes what lower layers have at `path`.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let name = match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&name, 0o000, &[])
    }

    /// Hides everything lower layers have in `dir`.
    #[must_use]
    pub fn opaque(self, dir: &str) -> Self {
        self.file(&format!("{dir}/.wh..wh..opq"), 0o000, &[])
    }

    /// Writes PAX records that hold for the next entry, as `("SCHILY.xattr.user.x", b"1")` or `("mtime", b"1.5")`.
    #[must_use]
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            // "LENGTH KEY=VALUE\n", where LENGTH counts itself.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length = length.to_string().len() + rest;
            }
            let _ = write!(body, "{length} {key}=");
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self = self.entry(EntryType::XHeader, "PaxHeaders/next", 0o644, "", &body, (0, 0));
        self
    }

    /// Appends bytes as they are: for archives no builder would write.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.data.extend_from_slice(bytes);
        self
    }

    /// Adds any entry; a path or link target longer than 100 bytes is written GNU's way.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        target: &str,
        content: &[u8],
        (major, minor): (u32, u32),
    ) -> Self {
        for (long, flag) in [(path, EntryType::GNULongName), (target, EntryType::GNULongLink)] {
            if long.len() > 100 {
                let mut header = Header::new_gnu();
                header.as_gnu_mut().expect("a GNU header").name[..13].copy_from_slice(b"././@LongLink");
                header.set_entry_type(flag);
                header.set_mode(0o644);
                header.set_size(long.len() as u64 + 1);
                header.set_cksum();
                self.data.extend_from_slice(header.as_bytes());
                self.append_padded(&[long.as_bytes(), b"\0"].concat());
            }
        }
        let mut header = Header::new_gnu();
        {
            let fields = header.as_gnu_mut().expect("a GNU header");
            let (name, link) =
                (&path.as_bytes()[..path.len().min(100)], &target.as_bytes()[..target.len().min(100)]);
            fields.name[..name.len()].copy_from_slice(name);
            fields.linkname[..link.len()].copy_from_slice(link);
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.mtime);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(major).expect("a GNU header has devices");
            header.set_device_minor(minor).expect("a GNU header has devices");
        }
        header.set_cksum();
        self.data.extend_from_slice(header.as_bytes());
        self.append_padded(content);
        self
    }

    fn append_padded(&mut self, content: &[u8]) {
        self.data.extend_from_slice(content);
        self.data.resize(self.data.len().next_multiple_of(512), 0);
    }

    /// Returns the archive with its two empty blocks at the end.
    pub fn build(mut self) -> Vec<u8> {
        self.data.resize(self.data.len() + 1024, 0);
        self.data
    }
}
