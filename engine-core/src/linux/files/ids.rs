//! Whose files are whose, seen from outside a container's user namespace.
//!
//! In a running container's mounts, root's files are those of the host's id that root is mapped to. Archives have the ids
//! that its processes see: this module translates, and lets a thread make files as the container's root, which is the only
//! one a new file can belong to there. On disk, and in what is mounted for a container that does not run, nothing is shifted.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::CapabilitiesSecureBits;

/// What an id that is mapped nowhere is shown as, see user_namespaces(7).
const NOBODY: u32 = 65_534;

/// The id maps of a user namespace other than ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::linux) struct Ids {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Ids {
    /// Reads the maps of a process; `None` if it is in our own user namespace.
    pub(in crate::linux) fn of_process(pid: u32) -> io::Result<Option<Self>> {
        let namespace = |of: &str| File::open(format!("/proc/{of}/ns/user")).and_then(|file| file.metadata());
        let (theirs, own) = (namespace(&pid.to_string())?, namespace("self")?);
        if (theirs.dev(), theirs.ino()) == (own.dev(), own.ino()) {
            return Ok(None);
        }
        let read = |name: &str| parse(&std::fs::read_to_string(format!("/proc/{pid}/{name}"))?);
        Ok(Some(Self { uids: read("uid_map")?, gids: read("gid_map")? }))
    }

    /// Returns an owner as the container's processes see it.
    pub(in crate::linux) fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let find = |ranges: &[Range], id: u32| {
            translate(ranges, id, |range| (range.outside, range.inside)).unwrap_or(NOBODY)
        };
        (find(&self.uids, uid), find(&self.gids, gid))
    }

    /// Returns an owner that the container names as the host does; `None` for one that it has not.
    pub(in crate::linux) fn outside(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        let find = |ranges: &[Range], id: u32| translate(ranges, id, |range| (range.inside, range.outside));
        Some((find(&self.uids, uid)?, find(&self.gids, gid)?))
    }

    /// Makes this thread's new files the container's root's. The thread keeps its rights, and must end with its work.
    pub(in crate::linux) fn own_new_files(&self) -> io::Result<()> {
        let (uid, gid) = self
            .outside((0, 0))
            .ok_or_else(|| io::Error::other("the container's user namespace has no root"))?;
        let kept = rustix::thread::capabilities_secure_bits()? | CapabilitiesSecureBits::NO_SETUID_FIXUP;
        rustix::thread::set_capabilities_secure_bits(kept)?;
        // The change makes this whole program as dumpable as fs.suid_dumpable says, which is not ours to change.
        let dumpable = rustix::process::dumpable_behavior()?;
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
        rustix::process::set_dumpable_behavior(dumpable)?;
        if file_ids() != (uid, gid) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }
}

/// Returns the ids that new files of this thread get.
pub(in crate::linux) fn file_ids() -> (u32, u32) {
    // An impossible id changes nothing, and the current one is returned, see setfsuid(2).
    (setfsuid(Uid::from_raw(u32::MAX)).as_raw(), setfsgid(Gid::from_raw(u32::MAX)).as_raw())
}

fn translate(ranges: &[Range], id: u32, direction: impl Fn(&Range) -> (u32, u32)) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let (from, to) = direction(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.count)?;
        to.checked_add(offset)
    })
}

fn parse(text: &str) -> io::Result<Vec<Range>> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some(Range { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
    };
    text.lines().map(|text| line(text).ok_or_else(|| io::ErrorKind::InvalidData.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_both_ways() {
        let ids = Ids {
            uids: parse("         0     100000       1000\n      1000     300000         10\n").unwrap(),
            gids: parse("0 200000 5").unwrap(),
        };
        assert_eq!(ids.inside((100_007, 200_004)), (7, 4));
        assert_eq!(ids.inside((300_009, 0)), (1009, NOBODY));
        assert_eq!(ids.outside((1009, 4)), Some((300_009, 200_004)));
        for wrong in [(1010, 0), (0, 5)] {
            assert_eq!(ids.outside(wrong), None);
        }
        assert!(parse("0 1").is_err() && parse("0 1 x").is_err());
        assert_eq!(Ids::of_process(std::process::id()).unwrap(), None);
    }
}
