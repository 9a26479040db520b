//! What the root is made of: mounts, and the entries of file systems of ours.

use core::ffi::CStr;

use super::record::{Reader, Record};

/// A filesystem to mount.
#[derive(Clone, Copy, Debug)]
pub struct MountStep<'a> {
    /// One of the kinds of [`super::mount`].
    pub kind: u32,
    /// Flags of [`super::mount`].
    pub flags: u32,
    /// `MOUNT_ATTR_*` to set.
    pub attributes: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves what the clone has.
    pub propagation: u64,
    /// Filesystem type of a fresh mount.
    pub fstype: &'a CStr,
    /// Source: a host path, an entry's name or a label.
    pub source: &'a CStr,
    /// Where, inside the root. `/` is the root itself and comes first.
    pub target: &'a CStr,
    /// The part of the source that is shown, resolved beneath it; empty for all of it.
    pub subpath: &'a CStr,
    options: Reader<'a>,
    count: u32,
}

impl<'a> MountStep<'a> {
    /// The options in order; an empty value is a bare flag.
    pub fn options(&self) -> impl Iterator<Item = (&'a CStr, &'a CStr)> + use<'a> {
        let mut reader = self.options;
        (0..self.count).map_while(move |_| Some((reader.text()?, reader.text()?)))
    }
}

/// A file, directory, link or node on a tmpfs of ours.
#[derive(Clone, Copy, Debug)]
pub struct EntryStep<'a> {
    /// Index of the mount it lies on, or [`super::PRIVATE_FILES`].
    pub mount: u32,
    /// File type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a node, in the kernel's encoding for `mknod`.
    pub device: u64,
    /// Path below the mount's root.
    pub path: &'a CStr,
    /// Content of a file; target of a link, with its NUL.
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a [`super::tag::MOUNT`] body.
    pub fn mount(&self) -> Option<MountStep<'a>> {
        let mut body = self.body;
        let step = MountStep {
            kind: body.u32()?,
            flags: body.u32()?,
            attributes: body.u64()?,
            propagation: body.u64()?,
            fstype: body.text()?,
            source: body.text()?,
            target: body.text()?,
            subpath: body.text()?,
            count: body.u32()?,
            options: body,
        };
        for _ in 0..step.count {
            body.text()?;
            body.text()?;
        }
        body.done()?;
        Some(step)
    }

    /// Reads an [`super::tag::ENTRY`] body.
    pub fn entry(&self) -> Option<EntryStep<'a>> {
        let mut body = self.body;
        Some(EntryStep {
            mount: body.u32()?,
            mode: body.u32()?,
            uid: body.u32()?,
            gid: body.u32()?,
            device: body.u64()?,
            path: body.text()?,
            data: body.rest(),
        })
    }
}
