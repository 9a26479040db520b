//! Which sysctls a container may set, and with what values.
//!
//! Only those that belong to a namespace of the container, and only when it has that namespace to itself: a sysctl never
//! reaches the host (SECURITY B6). The shim writes them.
//! Invariant: a name that passes is a plain path beneath /proc/sys, a value that passes is one line of printable ASCII.

use crate::error::{Error, ErrorKind, Result};

/// Namespaces that a container has to itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Private {
    /// Its own network namespace, shared with nobody.
    pub network: bool,
    /// Its own IPC namespace.
    pub ipc: bool,
    /// Its own UTS namespace.
    pub uts: bool,
}

impl Private {
    /// The container shares nothing.
    #[must_use]
    pub const fn all() -> Self {
        Self { network: true, ipc: true, uts: true }
    }

    /// Says whether the network namespace is its own.
    #[must_use]
    pub const fn with_network(mut self, own: bool) -> Self {
        self.network = own;
        self
    }

    /// Says whether the IPC namespace is its own.
    #[must_use]
    pub const fn with_ipc(mut self, own: bool) -> Self {
        self.ipc = own;
        self
    }

    /// Says whether the UTS namespace is its own.
    #[must_use]
    pub const fn with_uts(mut self, own: bool) -> Self {
        self.uts = own;
        self
    }
}

/// Sysctls of the IPC namespace (namespaces(7)); `fs.mqueue.*` comes on top.
const IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
];

/// The sysctls of a container with a network namespace of its own: ping and ports below 1024 need no capability then.
pub const NETWORK_DEFAULTS: [(&str, &str); 2] =
    [("net.ipv4.ping_group_range", "0 2147483647"), ("net.ipv4.ip_unprivileged_port_start", "0")];

/// Longest name and longest value taken.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 1024;

/// Checks one sysctl and returns its path beneath `/proc/sys`.
///
/// The name may be written with dots or with slashes, as sysctl(8) takes it: the first separator decides.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a malformed name or value; [`ErrorKind::PermissionDenied`] for one that is not namespaced, or whose namespace is
/// shared.
pub fn check(name: &str, value: &str, private: Private) -> Result<String> {
    let path = path_of(name)?;
    if value.is_empty() || value.len() > MAX_VALUE {
        return Err(invalid(name, format!("the value is empty or longer than {MAX_VALUE} bytes")));
    }
    if let Some(byte) = value.bytes().find(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(invalid(name, format!("byte {byte:#04x} in the value")));
    }
    let dotted = path.replace('/', ".");
    let (own, namespace) = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        (private.ipc, "IPC")
    } else if dotted.starts_with("net.") {
        (private.network, "network")
    } else if dotted == "kernel.domainname" {
        (private.uts, "UTS")
    } else if dotted == "kernel.hostname" {
        return Err(denied(name, "set the host name of the container instead"));
    } else {
        return Err(denied(name, "it does not belong to a container but to the host"));
    };
    if own {
        Ok(path)
    } else {
        Err(denied(name, &format!("the container has no {namespace} namespace of its own")))
    }
}

/// `net.ipv4.conf.eth0/1.x` → `net/ipv4/conf/eth0.1/x`; `net/ipv4/conf/eth0.1/x` stays.
fn path_of(name: &str) -> Result<String> {
    if name.len() > MAX_NAME {
        return Err(invalid("", format!("name longer than {MAX_NAME} bytes")));
    }
    let allowed = |c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' | '/' | '@' | ':');
    if let Some(found) = name.chars().find(|c| !allowed(*c)) {
        return Err(invalid(name, format!("{found:?} in the name")));
    }
    let path: String = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || !path.contains('/') {
        return Err(invalid(name, "not a name of a sysctl".to_owned()));
    }
    Ok(path)
}

fn invalid(name: &str, message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "check sysctl").with("sysctl", name).with_message(message)
}

fn denied(name: &str, message: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, "check sysctl").with("sysctl", name).with_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_namespaced_sysctls_pass_when_the_namespace_is_private() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
            ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
            ("kernel.msgmax", "kernel/msgmax"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            assert_eq!(check(name, "1", Private::all()).unwrap(), path);
            assert_eq!(check(name, "1", Private::default()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        for (name, value) in NETWORK_DEFAULTS {
            check(name, value, Private::all()).unwrap();
        }
    }

    #[test]
    fn b6_host_sysctls_never_pass() {
        // 200 names: all that a kernel has outside the namespaces, found on the running one, and hand-made ones.
        let mut names: Vec<String> =
            ["kernel.core_pattern", "kernel.hostname", "vm.swappiness", "fs.file-max"]
                .into_iter()
                .chain([
                    "kernel.modprobe",
                    "kernel.msgmax_",
                    "kernel.sem.x",
                    "kernel.shmmax2",
                    "fs.mqueue",
                    "abi.vsyscall32",
                ])
                .chain([
                    "dev.tty.ldisc_autoload",
                    "user.max_user_namespaces",
                    "crypto.fips_enabled",
                    "debug.exception-trace",
                ])
                .map(str::to_owned)
                .collect();
        for top in ["kernel", "vm", "fs", "dev", "user", "abi", "debug"] {
            collect(&format!("/proc/sys/{top}"), top, &mut names, 3);
        }
        names.retain(|name| !IPC.contains(&name.as_str()) && !name.starts_with("fs.mqueue."));
        names.retain(|name| name != "kernel.domainname");
        assert!(names.len() >= 200, "{}", names.len());
        for name in &names {
            assert!(check(name, "1", Private::all()).is_err(), "{name}");
        }
    }

    #[test]
    fn b6_names_and_values_cannot_smuggle_anything() {
        for name in [
            "",
            "net",
            "net.",
            ".net.x",
            "net..x",
            "net/../kernel/core_pattern",
            "net.ipv4./../x",
            "../kernel/x",
            "net.ipv4.x y",
            "net.ipv4.x\n",
            "net.ipv4.x=1",
            "net.ipv4.x\0",
            "net/./x",
            "/net/x",
            "net.ipv4.ä",
            "net//x",
        ] {
            assert_eq!(
                check(name, "1", Private::all()).unwrap_err().kind(),
                ErrorKind::InvalidArgument,
                "{name:?}"
            );
        }
        // With the separators swapped, `..` would come from `//`, and `/.` from `./`.
        assert!(check("net.//.kernel.core_pattern", "1", Private::all()).is_err());
        for value in ["", "1\n2", "1\0", "ä", "1\r", "\u{7f}", &"1".repeat(1025)] {
            assert!(check("net.core.somaxconn", value, Private::all()).is_err(), "{value:?}");
        }
        assert!(check("net.ipv4.tcp_rmem", "4096\t131072 6291456", Private::all()).is_ok());
        assert!(check(&format!("net.{}", "x".repeat(300)), "1", Private::all()).is_err());
    }

    fn collect(dir: &str, prefix: &str, names: &mut Vec<String>, depth: u32) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{dir}/{name}");
            let dotted = format!("{prefix}.{}", name.replace('.', "/"));
            if !entry.file_type().unwrap().is_dir() {
                names.push(dotted);
            } else if depth > 0 {
                collect(&path, &dotted, names, depth - 1);
            }
        }
    }
}
