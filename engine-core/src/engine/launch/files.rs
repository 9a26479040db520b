//! The small files the engine gives a container: hosts, hostname, resolv.conf.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use crate::container_spec::{ContainerSpec, NetworkMode};
use crate::launch::InjectedFile;
use crate::mount::Mount;

/// Name servers for a container whose host has only its own loopback ones, as Docker's.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Returns the files, but for those that a mount of the user replaces.
pub(super) fn files(spec: &ContainerSpec, hostname: &str, mounts: &[Mount]) -> Vec<InjectedFile> {
    let host_network = spec.network == NetworkMode::Host;
    let own_hosts = std::fs::read_to_string("/etc/hosts").ok().filter(|_| host_network);
    let all = [
        ("/etc/hosts", hosts(spec, own_hosts)),
        ("/etc/hostname", format!("{hostname}\n")),
        (
            "/etc/resolv.conf",
            resolv_conf(spec, &std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        ),
    ];
    all.into_iter()
        .filter(|(path, _)| !mounts.iter().any(|mount| mount.target == Path::new(path)))
        .map(|(path, text)| InjectedFile { path: path.into(), content: text.into_bytes(), mode: 0o644 })
        .collect()
}

fn hosts(spec: &ContainerSpec, base: Option<String>) -> String {
    let mut text = base.unwrap_or_else(|| {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned()
    });
    for (name, address) in &spec.extra_hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

fn resolv_conf(spec: &ContainerSpec, host: &str) -> String {
    let of_host = |keyword: &str| -> Vec<String> {
        let lines = host.lines().filter_map(|line| line.trim().strip_prefix(keyword));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let keep_loopback = spec.network == NetworkMode::Host;
    let reachable = |server: &String| {
        keep_loopback || server.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
    };
    let pick = |wish: &[String], keyword| if wish.is_empty() { of_host(keyword) } else { wish.to_vec() };
    let mut servers = pick(&spec.dns, "nameserver");
    if spec.dns.is_empty() {
        servers.retain(reachable);
        if servers.is_empty() {
            servers = FALLBACK_SERVERS.map(str::to_owned).to_vec();
        }
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let search = pick(&spec.dns_search, "search");
    // A single dot means no search domain at all.
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let options = pick(&spec.dns_options, "options");
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_of_the_host_are_not_passed_on() {
        let spec = ContainerSpec::default();
        let host = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch a.example b.example\n";
        assert_eq!(resolv_conf(&spec, host), "nameserver 10.0.0.2\nsearch a.example b.example\n");
        assert!(resolv_conf(&spec, "nameserver 127.0.0.1").starts_with("nameserver 8.8.8.8\n"));
        let on_host = ContainerSpec::default().with_network(NetworkMode::Host);
        assert_eq!(resolv_conf(&on_host, "nameserver 127.0.0.1"), "nameserver 127.0.0.1\n");
    }

    #[test]
    fn wishes_replace_the_hosts_settings() {
        let spec =
            ContainerSpec { dns: vec!["1.1.1.1".into()], dns_search: vec![".".into()], ..Default::default() };
        assert_eq!(resolv_conf(&spec, "nameserver 10.0.0.2\nsearch x"), "nameserver 1.1.1.1\n");
        let spec =
            ContainerSpec { extra_hosts: vec![("db".into(), "10.1.2.3".into())], ..Default::default() };
        assert!(hosts(&spec, None).ends_with("10.1.2.3\tdb\n"));
    }
}
