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
    /// A directory of another machine's.
    Remote { kind: String },
}

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
            kind @ ("nfs" | "nfs4" | "cifs") if !device.is_empty() => {
                Ok(Self::Remote { kind: kind.to_owned() })
            }
            "nfs" | "nfs4" | "cifs" => Err(wrong("option", "device", "it is missing")),
            other => Err(wrong("type", other, "it is none of tmpfs, none (with o=bind), nfs and cifs")
                .with_kind(ErrorKind::Unsupported)),
        }
    }

    /// Describes the mount at `target` of a volume with the directory `data`.
    pub(super) fn mount(self, data: &Path, target: &Path) -> Result<Mount> {
        let (kind, flags) = match self {
            // Devices in a volume are of no use to honest containers (SECURITY C5).
            Self::Directory => {
                let flags = Flags { nodev: true, ..Flags::default() };
                (MountKind::Bind { source: data.to_owned(), recursive: false }, flags)
            }
            Self::Tmpfs { size, mode, uid, gid, flags } => (MountKind::Tmpfs { size, mode, uid, gid }, flags),
            Self::Bind { source, recursive, flags } => (MountKind::Bind { source, recursive }, flags),
            Self::Remote { kind } => {
                return Err(Error::new(ErrorKind::Unsupported, "mount volume")
                    .with("type", kind)
                    .with_message("volumes of other machines cannot be mounted yet")
                    .with_hint("mount it on the host, and that directory into the container"));
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
