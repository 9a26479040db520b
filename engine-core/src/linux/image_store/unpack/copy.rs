//! What is different when an archive is copied into a tree that is in use, instead of unpacked as a layer.

use super::{UnpackError, tree};
use crate::linux::files::ids::Ids;
use crate::tar::{Entry, EntryKind};

/// How entries are changed before they are placed, and what they may replace.
#[derive(Clone, Debug, Default)]
pub(in crate::linux) struct CopyRules {
    /// The directory that everything goes to, as a path from the root of the tree.
    pub(in crate::linux) prefix: Vec<u8>,
    /// Refuses to replace a directory by something else, and the other way round.
    pub(in crate::linux) keep_kinds: bool,
    /// Whose everything becomes; the archive's owners without it.
    pub(in crate::linux) owner: Option<(u32, u32)>,
    /// The first component of names, and what it becomes.
    pub(in crate::linux) rename: Option<(Vec<u8>, Vec<u8>)>,
    /// How owners are translated.
    pub(in crate::linux) ids: Option<Ids>,
    /// Leaves out what gives rights: set-ID bits, file capabilities, `trusted` attributes.
    pub(in crate::linux) plain: bool,
}

impl CopyRules {
    /// Changes `entry`; `false` if there is nothing to do for it: the directory copied to keeps its attributes.
    pub(super) fn adapt(&self, entry: &mut Entry) -> Result<bool, UnpackError> {
        let path = self.place(&entry.path)?;
        let Some(path) = path else {
            return match entry.kind {
                EntryKind::Directory => Ok(false),
                _ => Err(UnpackError::refused(&entry.path, "it is no directory and has no name")),
            };
        };
        if entry.kind == EntryKind::HardLink {
            entry.link = self
                .place(&entry.link)?
                .ok_or_else(|| UnpackError::refused(&entry.path, "a hard link to the directory itself"))?;
        }
        entry.path = path;
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(ids) = &self.ids {
            (entry.uid, entry.gid) = ids.outside((entry.uid, entry.gid)).ok_or_else(|| {
                UnpackError::refused(&entry.path, "its owner is nobody in the container's user namespace")
            })?;
        }
        if self.plain {
            entry.mode &= 0o1777;
            entry
                .xattrs
                .retain(|xattr| xattr.name.starts_with(b"user.") || xattr.name.starts_with(b"system."));
        }
        Ok(true)
    }

    /// Where a name of the archive leads in the tree; `None` for the directory copied to.
    fn place(&self, name: &[u8]) -> Result<Option<Vec<u8>>, UnpackError> {
        let mut clean = Vec::new();
        tree::normalise(name, &mut clean)?;
        if let Some((from, to)) = &self.rename {
            let end = clean.iter().position(|byte| *byte == b'/').unwrap_or(clean.len());
            if from == b"." {
                clean = tree::join(to, &clean);
            } else if clean[..end] == from[..] {
                clean.splice(..end, to.iter().copied());
            }
        }
        let mut whole = Vec::new();
        tree::normalise(&clean, &mut whole)?;
        if whole.is_empty() {
            return Ok(None);
        }
        Ok(Some(tree::join(&self.prefix, &whole)))
    }
}
