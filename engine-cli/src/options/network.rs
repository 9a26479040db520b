//! Networks: `--network`, `--publish`, `--ip`, `--dns`, `--add-host` and their like.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Args;
use engine_api::notation;
use engine_core::container_spec::{ContainerSpec, NetworkMode};
use engine_core::network::{EndpointOptions, Link, MacAddress};
use engine_net::DEFAULT_NETWORK;

use crate::failure::{Failure, Result};

/// A container's networks, ports and names.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Network: none, host, container:NAME or a network; or name=NETWORK,alias=,ip=,ip6=,mac-address=,driver-opt=,gw-priority=
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Publish a port or a range of ports
    #[arg(short, long, value_name = "[IP:][PORT:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Hardware address, as 92:d0:c6:0a:29:33
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<MacAddress>,
    /// Another name of the container on its first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Another container, under a name that this one alone knows
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<Link>,
    /// Not supported: said so, since Docker has it
    #[arg(long, value_name = "ADDRESS", hide = true)]
    link_local_ip: Vec<String>,
    /// Another line of /etc/hosts; the address host-gateway is the host's
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
}

impl NetworkArgs {
    /// Writes the wishes into `spec`.
    pub(crate) fn apply(&self, spec: &mut ContainerSpec) -> Result<()> {
        refuse_addresses(&self.link_local_ip)?;
        spec.network = self.mode()?;
        for text in &self.publish {
            spec.ports.extend(engine_net::parse_port(text)?);
        }
        spec.publish_all_ports = self.publish_all;
        for text in &self.expose {
            spec.exposed_ports.extend(notation::exposed_ports(text)?);
        }
        spec.extra_hosts =
            self.add_host.iter().map(|text| notation::extra_host(text)).collect::<Result<_, _>>()?;
        spec.dns = self.dns.iter().map(|text| notation::name_server(text)).collect::<Result<_, _>>()?;
        spec.dns_search.clone_from(&self.dns_search);
        spec.dns_options.clone_from(&self.dns_option);
        if matches!(spec.network, NetworkMode::Container(_)) {
            notation::check_shared_network(spec)?;
        }
        Ok(())
    }

    /// Returns what of these flags means nothing, in Docker's words.
    pub(crate) fn warning(&self, spec: &ContainerSpec) -> Option<&'static str> {
        let publishes = self.publish_all || !self.publish.is_empty();
        (spec.network == NetworkMode::Host && publishes)
            .then_some("Published ports are discarded when using host network mode")
    }

    /// Reads all of `--network`. The flags about one network are about the first, as in Docker.
    fn mode(&self) -> Result<NetworkMode> {
        let mut wishes: Vec<(String, EndpointOptions)> = Vec::new();
        for text in &self.network {
            let (name, options) = endpoint(text)?;
            if wishes.iter().any(|(known, _)| *known == name) {
                return Err(Failure::usage(format!("network {name:?} is specified multiple times")));
            }
            wishes.push((name, options));
        }
        let asks = self.ip.is_some()
            || self.ip6.is_some()
            || self.mac_address.is_some()
            || !self.network_alias.is_empty()
            || !self.link.is_empty();
        if wishes.is_empty() {
            if !asks {
                return Ok(NetworkMode::Default);
            }
            wishes.push(("default".to_owned(), EndpointOptions::default()));
        }
        if let Some(mode) = plain_mode(&wishes[0].0) {
            if wishes.len() > 1 {
                return Err(mixed());
            }
            if wishes[0].1 != EndpointOptions::default() || asks {
                return Err(Failure::usage(format!(
                    "conflicting options: a container in the network mode {} has no addresses, aliases and links of its own",
                    wishes[0].0
                )));
            }
            return Ok(mode);
        }
        self.complete(&mut wishes[0].1)?;
        if let [(name, options)] = &wishes[..]
            && name == "default"
            && *options == EndpointOptions::default()
        {
            return Ok(NetworkMode::Default);
        }
        let mut networks = Vec::new();
        for (name, options) in wishes {
            if plain_mode(&name).is_some() {
                return Err(mixed());
            }
            let name = if name == "default" { DEFAULT_NETWORK } else { &name };
            networks.push((name.parse()?, options));
        }
        Ok(NetworkMode::Networks(networks))
    }

    /// Writes the flags about one network into its options.
    fn complete(&self, options: &mut EndpointOptions) -> Result<()> {
        let twice = |flag: &str, what: &str| {
            Err(Failure::usage(format!(
                "conflicting options: cannot specify both --{flag} and per-network {what}"
            )))
        };
        if !self.network_alias.is_empty() {
            if !options.aliases.is_empty() {
                return twice("network-alias", "alias");
            }
            options.aliases.clone_from(&self.network_alias);
        }
        options.links.clone_from(&self.link);
        if self.ip.is_some() {
            if options.ipv4.is_some() {
                return twice("ip", "IPv4 address");
            }
            options.ipv4 = self.ip;
        }
        if self.ip6.is_some() {
            if options.ipv6.is_some() {
                return twice("ip6", "IPv6 address");
            }
            options.ipv6 = self.ip6;
        }
        if self.mac_address.is_some() {
            if options.mac.is_some() {
                return twice("mac-address", "MAC address");
            }
            options.mac = self.mac_address;
        }
        Ok(())
    }
}

fn mixed() -> Failure {
    Failure::usage("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
}

fn plain_mode(name: &str) -> Option<NetworkMode> {
    match name {
        "none" => Some(NetworkMode::None),
        "host" => Some(NetworkMode::Host),
        _ => name.strip_prefix("container:").map(|other| NetworkMode::Container(other.to_owned())),
    }
}

/// Reads one `--network`: a name, or keys and values.
fn endpoint(text: &str) -> Result<(String, EndpointOptions)> {
    let wrong = |why: &str| Failure::usage(format!("invalid network {text:?}: {why}"));
    if text.is_empty() {
        return Err(wrong("give a name"));
    }
    if !text.contains('=') {
        return Ok((text.to_owned(), EndpointOptions::default()));
    }
    let mut options = EndpointOptions::default();
    let mut name = None;
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("give KEY=VALUE,..."))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = Some(value.to_owned()),
            "alias" => options.aliases.push(value.to_owned()),
            "ip" => {
                options.ipv4 = Some(value.parse().map_err(|_| wrong("ip is no IPv4 address"))?);
            }
            "ip6" => {
                options.ipv6 = Some(value.parse().map_err(|_| wrong("ip6 is no IPv6 address"))?);
            }
            "mac-address" => options.mac = Some(value.parse()?),
            "driver-opt" => driver_option(&mut options, value)?,
            "gw-priority" => {
                options.gateway_priority =
                    value.parse().map_err(|_| wrong("gw-priority is no whole number"))?;
            }
            "link-local-ip" => refuse_addresses(&[value.to_owned()])?,
            _ => {
                return Err(wrong("the keys are name, alias, ip, ip6, mac-address, driver-opt, gw-priority"));
            }
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| wrong("name= is missing"))?;
    Ok((name, options))
}

/// Reads `KEY=VALUE` for the driver of a network.
pub(crate) fn driver_option(options: &mut EndpointOptions, text: &str) -> Result<()> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::usage(format!("invalid driver option {text:?}: give KEY=VALUE")))?;
    options.driver_options.insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// Says what is not supported of Docker's flags.
pub(crate) fn refuse_addresses(addresses: &[String]) -> Result<()> {
    match addresses.first() {
        Some(address) => {
            Err(Failure::usage(format!("cannot give {address}: link-local addresses are not supported")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use engine_core::network::Protocol;

    use super::*;

    fn args(words: &[&str]) -> NetworkArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: NetworkArgs,
        }
        let words = ["run"].iter().chain(words);
        <Line as clap::Parser>::try_parse_from(words).map(|line| line.args).unwrap()
    }

    fn spec(words: &[&str]) -> Result<ContainerSpec> {
        let mut spec = ContainerSpec::default();
        args(words).apply(&mut spec).map(|()| spec)
    }

    fn networks(words: &[&str]) -> Vec<(String, EndpointOptions)> {
        match spec(words).unwrap().network {
            NetworkMode::Networks(list) => {
                list.into_iter().map(|(name, options)| (name.to_string(), options)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn networks_by_name_and_by_keys() {
        assert_eq!(spec(&[]).unwrap(), ContainerSpec::default());
        assert_eq!(spec(&["--network", "default"]).unwrap().network, NetworkMode::Default);
        assert_eq!(spec(&["--network", "none"]).unwrap().network, NetworkMode::None);
        assert_eq!(
            spec(&["--net", "container:ab"]).unwrap().network,
            NetworkMode::Container("ab".to_owned())
        );
        let two = networks(&[
            "--network",
            "name=lan,alias=a,alias=b,ip=10.1.0.5,ip6=fd00::5,mac-address=02:42:0a:01:00:05,driver-opt=k=v=w,gw-priority=-3",
            "--network",
            "more",
        ]);
        let options = &two[0].1;
        assert_eq!((two[0].0.as_str(), two[1].0.as_str()), ("lan", "more"));
        assert_eq!(options.aliases, ["a", "b"]);
        assert_eq!(options.ipv4, Some("10.1.0.5".parse().unwrap()));
        assert_eq!(options.mac.unwrap().to_string(), "02:42:0a:01:00:05");
        assert_eq!(options.driver_options["k"], "v=w");
        assert_eq!(options.gateway_priority, -3);
        assert_eq!(two[1].1, EndpointOptions::default());
    }

    #[test]
    fn flags_about_one_network_are_about_the_first() {
        let list =
            networks(&["--network", "lan", "--network", "more", "--ip", "10.1.0.5", "--network-alias", "db"]);
        assert_eq!(list[0].1.aliases, ["db"]);
        assert_eq!(list[1].1, EndpointOptions::default());
        let list = networks(&["--network", "lan", "--link", "db:data", "--link", "web"]);
        let links = list[0].1.links.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(links, ["db:data", "web:web"]);
        assert_eq!(networks(&["--link", "db"])[0].0, DEFAULT_NETWORK);
        let list = networks(&["--mac-address", "02:42:0a:01:00:05"]);
        assert_eq!(list[0].0, DEFAULT_NETWORK);
        assert!(list[0].1.mac.is_some());
    }

    #[test]
    fn ports_are_published_and_exposed() {
        let spec = spec(&["-p", "8080-8081:80-81", "-P", "--expose", "53-54/udp", "--expose", "9"]).unwrap();
        assert_eq!(spec.ports.len(), 2);
        assert!(spec.publish_all_ports);
        assert_eq!(spec.exposed_ports, [(53, Protocol::Udp), (54, Protocol::Udp), (9, Protocol::Tcp)]);
        let host = args(&["--network", "host", "-p", "80:80"]);
        let mut on_host = ContainerSpec::default();
        host.apply(&mut on_host).unwrap();
        assert!(host.warning(&on_host).unwrap().contains("discarded"));
        assert_eq!(args(&["-p", "80:80"]).warning(&ContainerSpec::default()), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (words, part) in [
            (&["--network", ""][..], "give a name"),
            (&["--network", "alias=a"], "name= is missing"),
            (&["--network", "name=a1,bogus=1"], "the keys are"),
            (&["--network", "name=a1,ip=fd00::1"], "no IPv4 address"),
            (&["--network", "name=a1,gw-priority=x"], "whole number"),
            (&["--network", "name=a1,driver-opt=x"], "KEY=VALUE"),
            (&["--network", "lan", "--network", "lan"], "specified multiple times"),
            (&["--network", "none", "--network", "lan"], "cannot attach both user-defined"),
            (&["--network", "lan", "--network", "host"], "cannot attach both user-defined"),
            (&["--network", "host", "--ip", "10.0.0.1"], "no addresses"),
            (
                &["--network", "name=lan,alias=a", "--network-alias", "b"],
                "--network-alias and per-network alias",
            ),
            (
                &["--network", "container:ab", "-p", "80"],
                "port publishing and the container type network mode",
            ),
            (&["--network", "container:ab", "--dns", "1.1.1.1"], "dns and the network mode"),
            (&["--expose", "80:80"], "invalid range format for --expose"),
            (&["--network", "host", "--link", "db"], "has no addresses, aliases and links"),
            (&["--link-local-ip", "169.254.1.1"], "link-local addresses are not supported"),
            (&["-p", "x"], "is not a number"),
            (&["--add-host", "a"], "NAME:ADDRESS"),
            (&["--dns", "x"], "invalid name server"),
        ] {
            let failure = spec(words).unwrap_err().to_string();

            assert!(failure.contains(part), "{words:?}: {failure}");
        }
    }
}
