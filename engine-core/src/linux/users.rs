//! Users and groups of an image: what `USER` and `--group-add` mean in its own /etc/passwd and /etc/group.
//!
//! No name service is asked and no helper run; the files are read through [`RootFd`], so that links in the image lead
//! nowhere else. Setting the ids is left to the shim.
//! Invariant: nobody becomes root who did not ask for it. A number is always an id, an unknown name is an error, and so
//! is an entry whose ids are malformed (SECURITY A10, B2, B3). See passwd(5) and group(5).

use std::io;

use super::rootfd::RootFd;
use crate::error::{Error, ErrorKind, Result};

/// Largest id: one more would be negative where an `int` holds it, and `u32::MAX` means "do not change" (setreuid(2)).
pub const MAX_ID: u32 = i32::MAX as u32;

const MAX_BYTES: u64 = 1 << 20;
const MAX_LINES: usize = 65_536;
/// `NGROUPS_MAX`: what setgroups(2) takes.
const MAX_GROUPS: usize = 65_536;

/// Who a process is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups for setgroups(2): the primary one first, then those of the image, then the added ones.
    pub groups: Vec<u32>,
    /// Home directory; `/` where the image names none.
    pub home: String,
    /// Name, where /etc/passwd has one.
    pub name: Option<String>,
}

/// Resolves `user` (empty for root, `name`, `uid`, `name:group`, `uid:gid` and mixtures) and the added groups in the
/// root filesystem `root`.
///
/// As Docker does it: with a group given, the image's supplementary groups are left out; a missing file is an empty one.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a malformed or too large id and for a name that does not exist;
/// [`ErrorKind::Corrupt`] for a file that is no regular file, too long, or has a malformed entry for that name.
pub fn resolve(root: &RootFd, user: &str, group_add: &[String]) -> Result<ResolvedUser> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    if user_part.is_empty() && !user.is_empty() {
        return Err(bad_user(user).with_message("no user before the `:`"));
    }
    let passwd = read(root, "etc/passwd")?;
    let wanted = if user_part.is_empty() { Wanted::Id(0) } else { Wanted::parse(user_part, user)? };
    let entry = find_user(&passwd, &wanted, user)?;
    let uid = match (&wanted, &entry) {
        (Wanted::Id(id), _) => *id,
        (Wanted::Name(_), Some(entry)) => entry.uid,
        (Wanted::Name(name), None) => {
            return Err(bad_user(user)
                .with_message(format!("the image's /etc/passwd has no user {name:?}"))
                .with_hint("a number needs no entry"));
        }
    };
    let name = entry.as_ref().map(|entry| entry.name.clone());
    let needs_groups = group_part.is_some() || name.is_some() || !group_add.is_empty();
    let groups_file = if needs_groups { read(root, "etc/group")? } else { Vec::new() };
    let mut groups = Vec::new();
    let gid = match group_part {
        Some(group) => find_group(&groups_file, group, user)?,
        None => {
            if let Some(name) = &name {
                groups = groups_of(&groups_file, name);
            }
            entry.as_ref().map_or(0, |entry| entry.gid)
        }
    };
    groups.insert(0, gid);
    for group in group_add {
        groups.push(find_group(&groups_file, group, group)?);
    }
    let mut seen = std::collections::HashSet::new();
    groups.retain(|group| seen.insert(*group));
    if groups.len() > MAX_GROUPS {
        return Err(bad_user(user).with_message(format!("in more than {MAX_GROUPS} groups")));
    }
    let home =
        entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(ResolvedUser { uid, gid, groups, home, name })
}

/// What is looked for: a string of digits is never a name.
enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str, whole: &str) -> Result<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        parse_id(text.as_bytes()).map(Self::Id).ok_or_else(|| {
            bad_user(whole).with_message(format!("{text} is not an id: the largest is {MAX_ID}"))
        })
    }
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// The first entry that fits. Malformed lines of others are passed over; one of the wanted *name* is an error, since
/// guessing its id could make root of it.
fn find_user(passwd: &[u8], wanted: &Wanted<'_>, whole: &str) -> Result<Option<User>> {
    for line in lines(passwd) {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let name = fields[0];
        let id = |at: usize| fields.get(at).and_then(|field| parse_id(field));
        match wanted {
            Wanted::Name(text) if name == text.as_bytes() => {
                let (Some(uid), Some(gid)) = (id(2), id(3)) else {
                    return Err(Error::new(ErrorKind::Corrupt, "resolve user")
                        .with("user", whole)
                        .with_message(format!("malformed entry of {text:?} in the image's /etc/passwd")));
                };
                return Ok(Some(User { name: (*text).to_owned(), uid, gid, home: text_of(fields.get(5)) }));
            }
            Wanted::Id(wanted) if id(2) == Some(*wanted) => {
                if let Some(gid) = id(3) {
                    let (name, home) = (text_of(Some(&name)), text_of(fields.get(5)));
                    return Ok(Some(User { name, uid: *wanted, gid, home }));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The id of the group `text`, a name or a number. A number needs no entry.
fn find_group(file: &[u8], text: &str, whole: &str) -> Result<u32> {
    let name = match Wanted::parse(text, whole)? {
        Wanted::Id(id) => return Ok(id),
        Wanted::Name(name) => name,
    };
    for line in lines(file) {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next() == Some(name.as_bytes()) {
            return fields.nth(1).and_then(parse_id).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "resolve group")
                    .with("group", name)
                    .with_message("malformed entry in the image's /etc/group")
            });
        }
    }
    Err(Error::new(ErrorKind::InvalidArgument, "resolve group")
        .with("group", name)
        .with_message("the image's /etc/group has no such group")
        .with_hint("a number needs no entry"))
}

/// The groups that list `name` as a member.
fn groups_of(file: &[u8], name: &str) -> Vec<u32> {
    let member = |line: &&[u8]| {
        let list = line.split(|byte| *byte == b':').nth(3).unwrap_or_default();
        list.split(|byte| *byte == b',').any(|member| member == name.as_bytes())
    };
    let id = |line: &[u8]| parse_id(line.split(|byte| *byte == b':').nth(2)?);
    lines(file).filter(member).filter_map(id).collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = file.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty() && line[0] != b'#')
}

fn parse_id(field: &[u8]) -> Option<u32> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok().filter(|id| *id <= MAX_ID)
}

fn text_of(field: Option<&&[u8]>) -> String {
    field.map(|field| String::from_utf8_lossy(field).into_owned()).unwrap_or_default()
}

/// The file, empty where it is missing.
fn read(root: &RootFd, path: &'static str) -> Result<Vec<u8>> {
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => ErrorKind::Corrupt,
            // A link to itself, or one of procfs.
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => ErrorKind::Corrupt,
            _ => Error::from_io("read", io::Error::from(error.kind())).kind(),
        };
        Error::new(kind, "read user database of the image").with("path", path).with_source(error)
    };
    match root.read(path, MAX_BYTES) {
        Ok(bytes) if bytes.iter().filter(|byte| **byte == b'\n').count() > MAX_LINES => {
            Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_LINES} lines"))))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(failed(error)),
    }
}

fn bad_user(user: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "resolve user").with("user", user)
}

#[cfg(test)]
#[path = "users_tests.rs"]
mod tests;
