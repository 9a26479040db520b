//! The driver options `type`, `device` and `o`, as Docker's `local` driver and mount(8) have them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::mount::{Mount, MountKind, MountOptions};

/// What a volume is.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A directory of ours.
    Directory,
    /// A fresh tmpfs in each container.
    Tmpfs { size: Option<u64>, mode: u32, uid: u32, gid: u32, flags: Flags },
    /// A directory of the host's.
    Bind { source: PathBuf, recursive: bool, flags: Flags },
    /// A file system of a device or of another machine, mounted anew in each container.
    Filesystem { kind: String, source: String, options: Vec<(String, String)>, flags: Flags },
}

/// File systems that show the kernel of whoever mounts them, or that containers get by other means. As a volume, one
/// would be a hole that `o=` does not show.
const NEVER: [&str; 13] = [
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "mqueue",
    "proc",
    "securityfs",
    "sysfs",
    "tracefs",
];
/// The longest value that fsconfig(2) takes.
const MAX_VALUE: usize = 255;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Flags {
    read_only: bool,
    nosuid: bool,
    nodev: bool,
    noexec: bool,
}

impl Kind {
    /// Reads and checks a volume's driver options.
    pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        if let Some(unknown) = options.keys().find(|key| !matches!(key.as_str(), "type" | "device" | "o")) {
            return Err(wrong("option", unknown, "the driver \"local\" knows type, device and o"));
        }
        if options.is_empty() {
            return Ok(Self::Directory);
        }
        let value = |key| options.get(key).map(String::as_str).unwrap_or_default();
        let device = value("device");
        let words: Vec<&str> = value("o").split(',').filter(|word| !word.is_empty()).collect();
        match value("type") {
            "tmpfs" => tmpfs(&words),
            "none" | "bind" => bind(device, &words),
            "" if words.iter().any(|word| matches!(*word, "bind" | "rbind")) => bind(device, &words),
            "" => Err(wrong("option", "type", "it is missing beside device and o")),
            other => filesystem(other, device, &words),
        }
    }

    /// Describes the mount at `target` of a volume with the directory `data`.
    ///
    /// May ask the host's resolver for the address of another machine.
    pub(super) fn mount(self, data: &Path, target: &Path) -> Result<Mount> {
        let (kind, flags) = match self {
            // Devices in a volume are of no use to honest containers (SECURITY C5).
            Self::Directory => {
                let flags = Flags { nodev: true, ..Flags::default() };
                (MountKind::Bind { source: data.to_owned(), recursive: false }, flags)
            }
            Self::Tmpfs { size, mode, uid, gid, flags } => (MountKind::Tmpfs { size, mode, uid, gid }, flags),
            Self::Bind { source, recursive, flags } => (MountKind::Bind { source, recursive }, flags),
            Self::Filesystem { kind, source, mut options, flags } => {
                for (key, value) in options.iter_mut().filter(|(key, _)| key == "addr") {
                    *value = address(value).map_err(|e| e.with("option", format!("{key}={value}")))?;
                }
                (MountKind::Filesystem { kind, source, options }, flags)
            }
        };
        let mut mount = Mount::bind("", target);
        mount.kind = kind;
        mount.options = MountOptions {
            read_only: flags.read_only,
            nosuid: flags.nosuid,
            nodev: flags.nodev,
            noexec: flags.noexec,
            ..MountOptions::default()
        };
        Ok(mount)
    }
}

impl Flags {
    /// Takes a flag of mount(8); returns whether it is one.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "nosuid" => self.nosuid = true,
            "suid" => self.nosuid = false,
            "nodev" => self.nodev = true,
            "dev" => self.nodev = false,
            "noexec" => self.noexec = true,
            "exec" => self.noexec = false,
            _ => return false,
        }
        true
    }
}

fn tmpfs(words: &[&str]) -> Result<Kind> {
    // Docker's defaults for a container's tmpfs, but for noexec, which a volume does not have there.
    let mut flags = Flags { nosuid: true, nodev: true, ..Flags::default() };
    let (mut size, mut mode, mut uid, mut gid) = (None, 0o1777, 0, 0);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let bad = || wrong("o", word, "it is no option of a tmpfs");
        match key {
            "size" => size = Some(bytes(value).ok_or_else(bad)?),
            "mode" => mode = u32::from_str_radix(value, 8).ok().filter(|m| *m <= 0o7777).ok_or_else(bad)?,
            "uid" => uid = value.parse().map_err(|_| bad())?,
            "gid" => gid = value.parse().map_err(|_| bad())?,
            _ if flags.take(word) => {}
            _ => return Err(bad()),
        }
    }
    Ok(Kind::Tmpfs { size, mode, uid, gid, flags })
}

fn bind(device: &str, words: &[&str]) -> Result<Kind> {
    let source = Path::new(device);
    let plain = source.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !source.is_absolute() || !plain || device.contains('\0') {
        return Err(wrong("device", device, "it must be an absolute path without \"..\""));
    }
    let (mut bound, mut recursive, mut flags) = (false, false, Flags::default());
    for word in words {
        match *word {
            "bind" => bound = true,
            "rbind" => (bound, recursive) = (true, true),
            _ if flags.take(word) => {}
            _ => return Err(wrong("o", word, "it is no option of a bind mount")),
        }
    }
    if !bound {
        return Err(wrong("option", "o", "type none needs o=bind"));
    }
    Ok(Kind::Bind { source: source.to_owned(), recursive, flags })
}

fn filesystem(kind: &str, device: &str, words: &[&str]) -> Result<Kind> {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if kind.len() > 64 || !kind.bytes().all(name) {
        return Err(wrong("type", kind, "it is no type of file system"));
    }
    if NEVER.contains(&kind) {
        return Err(wrong("type", kind, "a file system that shows the kernel is no volume"));
    }
    if device.is_empty() {
        return Err(wrong("option", "device", "it is missing"));
    }
    let too_long = |text: &str| text.len() > MAX_VALUE || text.contains('\0');
    if too_long(device) {
        return Err(wrong("device", device, "it is longer than the kernel takes"));
    }
    let (mut options, mut flags) = (Vec::new(), Flags::default());
    for word in words {
        if flags.take(word) || matches!(*word, "defaults" | "relatime") {
            continue;
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() || too_long(key) || too_long(value) || (value.is_empty() && word.contains('=')) {
            return Err(wrong("o", word, "it is no option of a file system"));
        }
        options.push((key.to_owned(), value.to_owned()));
    }
    let remote = matches!(kind, "nfs" | "nfs4" | "cifs" | "smb3");
    if remote && kind.starts_with("nfs") {
        if !device.contains(":/") {
            return Err(wrong("device", device, "for NFS it is \":/path\" or \"host:/path\""));
        }
        if !options.iter().any(|(key, _)| key == "addr") {
            let host = device.split(":/").next().unwrap_or_default();
            if host.is_empty() {
                return Err(wrong("option", "o", "for NFS, o=addr=ADDRESS is missing"));
            }
            options.push(("addr".to_owned(), host.trim_matches(['[', ']']).to_owned()));
        }
    } else if remote && !device.starts_with("//") {
        return Err(wrong("device", device, "for CIFS it is \"//host/share\""));
    }
    Ok(Kind::Filesystem { kind: kind.to_owned(), source: device.to_owned(), options, flags })
}

/// The kernel wants a number where people write a name, and resolves nothing itself.
fn address(text: &str) -> Result<String> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let fail = |why: &str| {
        Error::new(ErrorKind::InvalidArgument, "mount volume").with_message(format!("the address {why}"))
    };
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(text, 0));
    match found.map(|mut all| all.next()) {
        Ok(Some(address)) => Ok(address.ip().to_string()),
        Ok(None) => Err(fail("has no number")),
        Err(error) => Err(fail("cannot be resolved").with_source(error)),
    }
}

/// Reads `100`, `64k`, `1m`, `2g`, as tmpfs(5) does.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn wrong(key: &'static str, value: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "read volume options").with(key, value).with_message(why)
}
