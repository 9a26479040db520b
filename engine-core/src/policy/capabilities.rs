//! Capabilities: names and bits, the default set, Docker's add and drop rules, and the sets a process gets.
//!
//! Sets are computed here and put in force by the shim.
//! Invariant: inheritable and ambient sets are empty, and a process that is not root has no effective or permitted
//! capability, unless ambient ones are asked for by name (SECURITY B1). See capabilities(7).

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// Names without `CAP_`; the place in the list is the bit (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names of the default set: Docker's less `MKNOD`, `NET_RAW` and `AUDIT_WRITE`.
pub const DEFAULT_NAMES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A set of capabilities, as the kernel's bit mask.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits, `1 << CAP_CHOWN` the lowest.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of a container that asks for nothing.
    #[must_use]
    pub fn default_set() -> Self {
        DEFAULT_NAMES.iter().filter_map(|name| bit_of(name)).fold(Self::EMPTY, |set, bit| Self(set.0 | bit))
    }

    /// All capabilities that this process can give: those of the running kernel that its own bounding set has, which
    /// in a virtual machine or a container may be fewer.
    #[must_use]
    pub fn available() -> Self {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
        // Without procfs, CAP_CHECKPOINT_RESTORE is assumed: the last since Linux 5.9.
        let last = last.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(40).min(63);
        let kernel = u64::MAX >> (63 - last);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let own = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let own = own.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Self(own.unwrap_or(u64::MAX) & kernel)
    }

    /// Parses names, each with or without `CAP_`, in any case.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], naming the first that is no capability.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut set = Self::EMPTY;
        for name in names {
            set.0 |= bit_of(name.as_ref()).ok_or_else(|| unknown(name.as_ref()))?;
        }
        Ok(set)
    }

    /// Docker's rules for `--cap-add`, `--cap-drop` and `--privileged`, starting from `base`:
    /// - privileged is everything, whatever else is said;
    /// - adding `ALL` is everything without what is dropped by name;
    /// - dropping `ALL` leaves what is added;
    /// - else what is dropped goes first, then what is added comes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a name that is no capability, or one that is not [`available`](Self::available).
    pub fn resolve<S: AsRef<str>>(base: Self, add: &[S], drop: &[S], privileged: bool) -> Result<Self> {
        let available = Self::available();
        let (add_all, added) = split_all(add)?;
        let (drop_all, dropped) = split_all(drop)?;
        if let Some(name) = added.minus(available).names().next() {
            return Err(Error::new(ErrorKind::InvalidArgument, "resolve capabilities")
                .with("capability", name)
                .with_message("this kernel or the engine's own bounding set does not have it"));
        }
        Ok(if privileged {
            available
        } else if add_all {
            available.minus(dropped)
        } else if drop_all {
            added
        } else {
            base.intersection(available).minus(dropped).union(added)
        })
    }

    /// Whether `name` (with or without `CAP_`) is in the set.
    #[must_use]
    pub fn contains(self, name: &str) -> bool {
        bit_of(name).is_some_and(|bit| self.0 & bit != 0)
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, with `CAP_`, by bit. Bits without a name are left out.
    pub fn names(self) -> impl Iterator<Item = String> {
        let named = NAMES.iter().enumerate();
        named.filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| format!("CAP_{name}"))
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProcessCapabilities {
    /// What it and its children may ever have.
    pub bounding: CapabilitySet,
    /// What counts now.
    pub effective: CapabilitySet,
    /// What it may make effective.
    pub permitted: CapabilitySet,
    /// What passes through execve(2) by a file's inheritable set: always what `ambient` needs and no more.
    pub inheritable: CapabilitySet,
    /// What passes through execve(2) without being root.
    pub ambient: CapabilitySet,
}

impl ProcessCapabilities {
    /// The sets of a process of user `uid` in a container with the bounding set `bounding`.
    ///
    /// Root gets all of it, anybody else nothing (but the right to regain them through a set-user-ID program). `ambient` is
    /// empty unless asked for by name; it is cut to the bounding set.
    #[must_use]
    pub fn for_user(bounding: CapabilitySet, uid: u32, ambient: CapabilitySet) -> Self {
        let ambient = ambient.intersection(bounding);
        let held = if uid == 0 { bounding } else { ambient };
        Self { bounding, effective: held, permitted: held, inheritable: ambient, ambient }
    }
}

/// The bit of `name`, with or without `CAP_`, in any case.
fn bit_of(name: &str) -> Option<u64> {
    let short = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    };
    NAMES.iter().position(|known| known.eq_ignore_ascii_case(short)).map(|bit| 1 << bit)
}

/// Takes `ALL` out of a list of names.
fn split_all<S: AsRef<str>>(names: &[S]) -> Result<(bool, CapabilitySet)> {
    let mut all = false;
    let mut set = CapabilitySet::EMPTY;
    for name in names.iter().map(S::as_ref) {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set.0 |= bit_of(name).ok_or_else(|| unknown(name))?;
        }
    }
    Ok((all, set))
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "resolve capabilities")
        .with("capability", name)
        .with_message("no such capability")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(add: &[&str], drop: &[&str]) -> Vec<String> {
        let set = CapabilitySet::resolve(CapabilitySet::default_set(), add, drop, false).unwrap();
        set.names().collect()
    }

    #[test]
    fn names_and_bits_agree_with_the_kernel_header() {
        for (name, bit) in [
            ("CAP_CHOWN", 0),
            ("setpcap", 8),
            ("cap_net_raw", 13),
            ("SYS_ADMIN", 21),
            ("SYSLOG", 34),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(CapabilitySet::from_names([name]).unwrap().bits(), 1 << bit, "{name}");
        }
        assert!(CapabilitySet::from_names(["CAP_"]).is_err());
        assert!(CapabilitySet::from_names(["CAP_NÖ"]).is_err());
        assert_eq!(CapabilitySet::default_set().names().count(), 11);
        assert_eq!(CapabilitySet::default_set().bits(), 0x8004_05fb & !(1 << 13) & !(1 << 27) & !(1 << 29));
    }

    #[test]
    fn docker_rules_of_add_and_drop() {
        assert_eq!(resolve(&[], &["ALL"]), Vec::<String>::new());
        assert_eq!(resolve(&["NET_RAW"], &["all"]), ["CAP_NET_RAW"]);
        assert_eq!(resolve(&["kill"], &["KILL"]).len(), 11, "adding comes after dropping");
        assert!(!resolve(&[], &["KILL"]).contains(&"CAP_KILL".to_owned()));
        let all = resolve(&["ALL"], &["SYS_ADMIN"]);
        assert!(!all.contains(&"CAP_SYS_ADMIN".to_owned()) && all.contains(&"CAP_NET_ADMIN".to_owned()));
        assert_eq!(resolve(&["ALL"], &["ALL"]), CapabilitySet::available().names().collect::<Vec<_>>());
        let base = CapabilitySet::default_set();
        assert_eq!(CapabilitySet::resolve(base, &[], &["ALL"], true).unwrap(), CapabilitySet::available());
        assert!(CapabilitySet::resolve(base, &["NOPE"], &[], false).is_err());
    }

    #[test]
    fn b1_sets_by_user() {
        let set = CapabilitySet::default_set();
        let root = ProcessCapabilities::for_user(set, 0, CapabilitySet::EMPTY);
        assert_eq!((root.effective, root.permitted, root.bounding), (set, set, set));
        assert!(root.inheritable.is_empty() && root.ambient.is_empty());
        let user = ProcessCapabilities::for_user(set, 1000, CapabilitySet::EMPTY);
        assert!(user.effective.is_empty() && user.permitted.is_empty());
        assert!(user.inheritable.is_empty() && user.ambient.is_empty());
        assert_eq!(user.bounding, set);
        let asked = CapabilitySet::from_names(["KILL", "SYS_ADMIN"]).unwrap();
        let ambient = ProcessCapabilities::for_user(set, 1000, asked);
        assert_eq!(ambient.ambient.names().collect::<Vec<_>>(), ["CAP_KILL"]);
        assert_eq!(ambient.effective, ambient.ambient);
    }
}
