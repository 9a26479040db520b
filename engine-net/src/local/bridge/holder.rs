//! Who has a port of the host: the process whose socket is bound to it (proc(5)).

use std::fs;
use std::path::Path;

use engine_core::network::{PortMapping, Protocol};

/// Describes the process that listens on the port, if it can be found.
pub(super) fn of(mapping: &PortMapping) -> Option<String> {
    let tables: &[&str] = match mapping.protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        text.lines().skip(1).find_map(|line| inode_at(line, mapping.host_port).map(str::to_owned))
    })?;
    let wanted = format!("socket:[{inode}]");
    let all =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A child of this program that has not executed its own yet has this one's sockets, too.
    for pid in std::iter::once(std::process::id()).chain(all) {
        let process = Path::new("/proc").join(pid.to_string());
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        let holds = |entry: fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.to_str() == Some(&wanted))
        };
        if descriptors.flatten().any(holds) {
            let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim_end()));
        }
    }
    None
}

/// The inode of the socket that a line describes, if it is bound to `port` and has no other end.
fn inode_at(line: &str, port: u16) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let remote = fields.next()?;
    let bound = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    let free = remote.ends_with(":0000");
    (bound == port && free).then(|| fields.nth(6))?
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = of(&PortMapping::new(80).with_host_port(port)).unwrap();
        assert!(found.starts_with(&format!("process {} (", std::process::id())), "{found}");
    }
}
