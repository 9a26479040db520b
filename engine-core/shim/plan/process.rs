//! What a process is: user, capabilities, filter, limits, arguments.

use core::ffi::CStr;

use super::record::{Reader, Record};

/// User and groups of a process.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// File mode creation mask, or [`super::DEFAULT_UMASK`].
    pub umask: u32,
    /// Supplementary groups, 4 bytes each.
    pub groups: &'a [u8],
}

/// Capability sets as bit masks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// Texts in a row: arguments, environment.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    reader: Reader<'a>,
    /// How many.
    pub count: u32,
}

impl<'a> Texts<'a> {
    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| reader.text())
    }
}

impl<'a> Record<'a> {
    /// Reads a [`super::tag::USER`] body.
    pub fn user(&self) -> Option<User<'a>> {
        let mut body = self.body;
        let (uid, gid, umask, count) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let groups = body.rest();
        // The kernel's NGROUPS_MAX, setgroups(2).
        (count <= 65_536 && groups.len() == count as usize * 4).then_some(User { uid, gid, umask, groups })
    }

    /// Reads a [`super::tag::CAPABILITIES`] body.
    pub fn capabilities(&self) -> Option<Capabilities> {
        let mut body = self.body;
        let sets = Capabilities {
            bounding: body.u64()?,
            effective: body.u64()?,
            permitted: body.u64()?,
            inheritable: body.u64()?,
            ambient: body.u64()?,
        };
        body.done()?;
        Some(sets)
    }

    /// Reads a [`super::tag::SECCOMP`] body: filter flags and the BPF program.
    pub fn seccomp(&self) -> Option<(u32, &'a [u8])> {
        let mut body = self.body;
        let flags = body.u32()?;
        body.u32()?;
        let program = body.rest();
        // BPF_MAXINSNS is 4,096 instructions of 8 bytes.
        (!program.is_empty() && program.len().is_multiple_of(8) && program.len() <= 4096 * 8)
            .then_some((flags, program))
    }

    /// Reads an [`super::tag::RLIMIT`] body: resource, soft and hard limit.
    pub fn rlimit(&self) -> Option<(u32, u64, u64)> {
        let mut body = self.body;
        let resource = body.u32()?;
        body.u32()?;
        let limit = (resource, body.u64()?, body.u64()?);
        body.done()?;
        Some(limit)
    }

    /// Reads an [`super::tag::ARGV`] or [`super::tag::ENV`] body.
    pub fn texts(&self) -> Option<Texts<'a>> {
        let mut body = self.body;
        let texts = Texts { count: body.u32()?, reader: body };
        for _ in 0..texts.count {
            body.text()?;
        }
        body.done()?;
        Some(texts)
    }
}
