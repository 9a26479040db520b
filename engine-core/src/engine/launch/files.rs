//! The small files the engine gives a container: hosts, hostname, resolv.conf.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::container_spec::{ContainerSpec, HOST_GATEWAY, NetworkMode};
use crate::error::Result;
use crate::launch::InjectedFile;
use crate::mount::Mount;
use crate::network::names;

use super::{Naming, invalid};

/// Name servers for a container whose host has only its own loopback ones, as Docker's.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// Where name servers listen.
const DNS: u16 = 53;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Returns the files, but for those that a mount of the user replaces, or that are [mounted](name_mounts).
pub(super) fn files(
    spec: &ContainerSpec,
    hostname: &str,
    mounts: &[Mount],
    naming: &Naming,
) -> Result<Vec<InjectedFile>> {
    let mut all = vec![("/etc/hostname", format!("{hostname}\n"))];
    if naming.files.is_none() {
        all.extend([(HOSTS, hosts(spec, naming)?), (RESOLV_CONF, resolv_conf(spec, naming))]);
    }
    let wanted = all.into_iter().filter(|(path, _)| !is_mounted(path, mounts));
    Ok(wanted
        .map(|(path, text)| InjectedFile { path: path.into(), content: text.into_bytes(), mode: 0o644 })
        .collect())
}

/// Returns the mounts of the files that change while the container runs, but for those that a mount of the user replaces.
pub(super) fn name_mounts(mounts: &[Mount], naming: &Naming) -> Vec<Mount> {
    let Some(files) = &naming.files else { return Vec::new() };
    [(&files.hosts, HOSTS), (&files.resolv_conf, RESOLV_CONF)]
        .into_iter()
        .filter(|(_, target)| !is_mounted(target, mounts))
        .map(|(source, target)| Mount::bind(source, target))
        .collect()
}

fn is_mounted(path: &str, mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| mount.target == Path::new(path))
}

/// Returns `/etc/hosts`, without lines of the container's own addresses.
///
/// # Errors
/// For a host's address that is not known.
pub(in crate::engine) fn hosts(spec: &ContainerSpec, naming: &Naming) -> Result<String> {
    let host_network = spec.network == NetworkMode::Host;
    let base = std::fs::read_to_string(HOSTS).ok().filter(|_| host_network);
    let mut text = base.unwrap_or_else(|| {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
            .to_owned()
    });
    for (name, address) in &spec.extra_hosts {
        if address != HOST_GATEWAY {
            let _ = writeln!(text, "{address}\t{name}");
            continue;
        }
        if naming.host_gateways.is_empty() {
            return Err(invalid("unable to derive the IP value for host-gateway")
                .with("host", name)
                .with_hint("it is the default network's gateway, and this engine has no default network"));
        }
        for address in &naming.host_gateways {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    text.extend(naming.links.iter().map(super::Linked::host_lines));
    Ok(text)
}

/// Returns `/etc/resolv.conf`.
pub(in crate::engine) fn resolv_conf(spec: &ContainerSpec, naming: &Naming) -> String {
    resolv_conf_of(spec, naming.embedded, &std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

/// Returns whom the resolver of a network with names asks, and whether it may ask for names of a single label: most likely
/// they are containers that have gone (SECURITY E11), so only where `ndots:0` says that such names are whole. The host's servers may be on its loopback interface.
pub(in crate::engine) fn upstreams(spec: &ContainerSpec) -> (Vec<SocketAddr>, bool) {
    upstreams_of(spec, &std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

fn upstreams_of(spec: &ContainerSpec, host: &str) -> (Vec<SocketAddr>, bool) {
    let parse = |servers: &[String]| -> Vec<SocketAddr> {
        let addresses = servers.iter().filter_map(|server| server.parse::<IpAddr>().ok());
        addresses.map(|address| SocketAddr::new(address, DNS)).collect()
    };
    let mut servers = parse(&spec.dns);
    if servers.is_empty() {
        servers = parse(&of_host(host, "nameserver"));
    }
    if servers.is_empty() {
        servers = parse(&FALLBACK_SERVERS.map(str::to_owned));
    }
    let options =
        if spec.dns_options.is_empty() { of_host(host, "options") } else { spec.dns_options.clone() };
    (servers, options.iter().any(|option| option == "ndots:0"))
}

/// The words of all lines of a resolv.conf(5) that begin with `keyword`.
fn of_host(host: &str, keyword: &str) -> Vec<String> {
    let lines = host.lines().filter_map(|line| line.trim().strip_prefix(keyword));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

fn resolv_conf_of(spec: &ContainerSpec, embedded: bool, host: &str) -> String {
    let keep_loopback = spec.network == NetworkMode::Host;
    let reachable = |server: &String| {
        keep_loopback || server.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
    };
    let pick =
        |wish: &[String], keyword| if wish.is_empty() { of_host(host, keyword) } else { wish.to_vec() };
    let mut servers = pick(&spec.dns, "nameserver");
    if embedded {
        // The resolver in the container's network asks the others.
        servers = vec![names::ADDRESS.to_string()];
    } else if spec.dns.is_empty() {
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
    let mut options = pick(&spec.dns_options, "options");
    if embedded && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
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
        assert_eq!(resolv_conf_of(&spec, false, host), "nameserver 10.0.0.2\nsearch a.example b.example\n");
        assert!(resolv_conf_of(&spec, false, "nameserver 127.0.0.1").starts_with("nameserver 8.8.8.8\n"));
        let on_host = ContainerSpec::default().with_network(NetworkMode::Host);
        assert_eq!(resolv_conf_of(&on_host, false, "nameserver 127.0.0.1"), "nameserver 127.0.0.1\n");
    }

    #[test]
    fn wishes_replace_the_hosts_settings() {
        let spec =
            ContainerSpec { dns: vec!["1.1.1.1".into()], dns_search: vec![".".into()], ..Default::default() };
        assert_eq!(resolv_conf_of(&spec, false, "nameserver 10.0.0.2\nsearch x"), "nameserver 1.1.1.1\n");
        let spec =
            ContainerSpec { extra_hosts: vec![("db".into(), "10.1.2.3".into())], ..Default::default() };
        assert!(hosts(&spec, &Naming::default()).unwrap().ends_with("10.1.2.3\tdb\n"));
    }

    #[test]
    fn the_resolver_of_a_network_stands_for_the_others() {
        let host = "nameserver 10.0.0.2\nsearch a.example\noptions edns0\n";
        let text = resolv_conf_of(&ContainerSpec::default(), true, host);
        assert_eq!(text, "nameserver 127.0.0.11\nsearch a.example\noptions edns0 ndots:0\n");
        let spec = ContainerSpec {
            dns: vec!["1.1.1.1".into()],
            dns_options: vec!["ndots:2".into()],
            ..Default::default()
        };
        let text = resolv_conf_of(&spec, true, "");
        assert_eq!(text, "nameserver 127.0.0.11\noptions ndots:2\n");
    }

    #[test]
    fn the_resolver_asks_who_was_named_or_the_hosts() {
        let show = |spec: &ContainerSpec, host: &str| {
            let (servers, single) = upstreams_of(spec, host);
            (servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), single)
        };
        let plain = ContainerSpec::default();
        let host = "nameserver 127.0.0.53\nnameserver fd00::1\noptions edns0 ndots:2\n";
        assert_eq!(show(&plain, host), ("127.0.0.53:53 [fd00::1]:53".to_owned(), false));
        assert_eq!(show(&plain, ""), ("8.8.8.8:53 8.8.4.4:53".to_owned(), false));
        let spec = ContainerSpec {
            dns: vec!["192.0.2.1".into()],
            dns_options: vec!["ndots:0".into()],
            ..Default::default()
        };
        assert_eq!(show(&spec, host), ("192.0.2.1:53".to_owned(), true));
    }

    #[test]
    fn the_host_has_its_address_of_the_default_network() {
        let spec =
            ContainerSpec { extra_hosts: vec![("up".into(), HOST_GATEWAY.to_owned())], ..Default::default() };
        assert!(hosts(&spec, &Naming::default()).is_err());
        let naming = Naming { host_gateways: vec!["10.9.0.1".parse().unwrap()], ..Naming::default() };
        assert!(hosts(&spec, &naming).unwrap().ends_with("10.9.0.1\tup\n"));
    }
}
