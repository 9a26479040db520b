//! What a container gets of those it is linked to on the default network: lines of `/etc/hosts` and environment variables.
//!
//! Pure: who they are and where is looked up by `engine/links.rs`.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::network::Protocol;

/// A running container that one which starts is linked to.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Linked {
    pub(in crate::engine) alias: String,
    /// Its own names: host name and name.
    pub(in crate::engine) names: [String; 2],
    pub(in crate::engine) addresses: Vec<IpAddr>,
    /// The ports it exposes.
    pub(in crate::engine) ports: Vec<(u16, Protocol)>,
    /// Its environment, without what every container has.
    pub(in crate::engine) env: Vec<String>,
}

impl Linked {
    /// Its lines of `/etc/hosts`, as Docker writes them: alias, host name, and the name if it is another one.
    pub(in crate::engine) fn host_lines(&self) -> String {
        let [hostname, name] = &self.names;
        let mut names = format!("{} {hostname}", self.alias);
        if *name != self.alias {
            let _ = write!(names, " {name}");
        }
        let mut text = String::new();
        for address in &self.addresses {
            let _ = writeln!(text, "{address}\t{names}");
        }
        text
    }

    /// Whether a line of `/etc/hosts` is one of [`host_lines`](Self::host_lines), with whatever address and names.
    pub(in crate::engine) fn is_line_of(alias: &str, line: &str) -> bool {
        // A line of the user's own for the alias has no second name.
        let names = line.split_once('\t').and_then(|(_, names)| names.strip_prefix(alias));
        names.is_some_and(|rest| rest.starts_with(' '))
    }

    /// The variables by which the container `parent` finds it.
    pub(super) fn variables(&self, parent: &str) -> Vec<String> {
        let prefix = self.alias.to_ascii_uppercase().replace('-', "_");
        let mut env = Vec::new();
        let mut ports = self.ports.clone();
        ports.sort_unstable();
        ports.dedup();
        if let Some(address) = self.addresses.first() {
            let host = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            let url = |(port, protocol): &(u16, Protocol)| format!("{protocol}://{host}:{port}");
            env.extend(ports.first().map(|first| format!("{prefix}_PORT={}", url(first))));
            for one in &ports {
                let (port, protocol) = one;
                let name = format!("{prefix}_PORT_{port}_{}", protocol.as_str().to_ascii_uppercase());
                env.extend([
                    format!("{name}={}", url(one)),
                    format!("{name}_ADDR={address}"),
                    format!("{name}_PORT={port}"),
                    format!("{name}_PROTO={protocol}"),
                ]);
            }
        }
        env.push(format!("{prefix}_NAME=/{parent}/{}", self.alias));
        // What an image sets for itself says nothing about the container.
        let own = |variable: &&String| !["HOME=", "PATH="].iter().any(|name| variable.starts_with(name));
        env.extend(self.env.iter().filter(own).map(|variable| format!("{prefix}_ENV_{variable}")));
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_as_docker_tells_them() {
        let linked = Linked {
            alias: "my-db".into(),
            names: ["0123456789ab".into(), "data".into()],
            addresses: vec!["172.17.0.2".parse().unwrap()],
            ports: vec![(5432, Protocol::Tcp), (53, Protocol::Udp), (53, Protocol::Tcp), (53, Protocol::Udp)],
            env: vec!["PATH=/bin".into(), "HOME=/".into(), "PASSWORD=a=b".into()],
        };
        assert_eq!(linked.host_lines(), "172.17.0.2\tmy-db 0123456789ab data\n");
        let env = linked.variables("web");
        assert_eq!(env[0], "MY_DB_PORT=tcp://172.17.0.2:53");
        for variable in [
            "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
            "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_PASSWORD=a=b",
        ] {
            assert!(env.iter().any(|known| known == variable), "{variable} is not in {env:?}");
        }
        assert_eq!(env.len(), 1 + 3 * 4 + 2);
        let same = Linked { alias: "data".into(), ..linked };
        assert_eq!(same.host_lines(), "172.17.0.2\tdata 0123456789ab\n");
    }

    #[test]
    fn lines_of_links_are_told_from_others() {
        assert!(Linked::is_line_of("db", "172.17.0.9\tdb 0123456789ab data"));
        for line in ["172.17.0.9\tdb", "172.17.0.9\tdb2 x", "db x", "10.0.0.1\tother db"] {
            assert!(!Linked::is_line_of("db", line), "{line}");
        }
    }
}
