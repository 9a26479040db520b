//! A network as `docker network inspect` shows it, and a container's places on networks.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard_stubs::models::{
    EndpointIpamConfig, EndpointResource, EndpointSettings, Ipam, IpamConfig, NetworkInspect,
    NetworkSettings, PortBinding, PortMap, PortSummary, PortSummaryTypeEnum,
};
use engine_core::ContainerInfo;
use engine_core::engine::ContainerNetwork;
use engine_core::network::{Endpoint, EndpointOptions, NetworkInfo, PortMapping, Protocol};

use super::dates::date;

/// Returns the answer of `GET /networks/{id}`.
#[must_use]
pub fn network_inspect(info: &NetworkInfo) -> NetworkInspect {
    let options = &info.options;
    let config = options.subnets.iter().map(|one| IpamConfig {
        subnet: Some(one.subnet.to_string()),
        ip_range: one.ip_range.map(|range| range.to_string()),
        gateway: one.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: Some(&one.aux_addresses)
            .filter(|all| !all.is_empty())
            .map(|all| all.iter().map(|(name, address)| (name.clone(), address.to_string())).collect()),
    });
    NetworkInspect {
        name: Some(info.name.to_string()),
        id: Some(info.id.clone()),
        created: date(info.created_at),
        scope: Some("local".to_owned()),
        driver: Some(options.driver.clone().unwrap_or_default()),
        enable_ipv4: Some(options.ipv4),
        enable_ipv6: Some(options.ipv6),
        ipam: Some(Ipam {
            driver: Some(options.ipam_driver.clone().unwrap_or_else(|| "default".to_owned())),
            config: Some(config.collect()),
            options: Some(options.ipam_options.clone().into_iter().collect()),
        }),
        internal: Some(options.internal),
        attachable: Some(options.attachable),
        ingress: Some(false),
        config_only: Some(false),
        options: Some(options.driver_options.clone().into_iter().collect()),
        labels: Some(options.labels.clone().into_iter().collect()),
        containers: Some(
            info.endpoints.iter().map(|one| (one.container.to_string(), resource(info, one))).collect(),
        ),
        ..NetworkInspect::default()
    }
}

fn resource(network: &NetworkInfo, endpoint: &Endpoint) -> EndpointResource {
    let address = |v6: bool| {
        let found = endpoint.addresses.iter().find(|address| address.is_ipv6() == v6);
        let text = found.map(|address| format!("{address}/{}", prefix(Some(network), *address)));
        Some(text.unwrap_or_default())
    };
    EndpointResource {
        name: endpoint.options.names.first().cloned(),
        endpoint_id: Some(endpoint.id.clone()),
        mac_address: Some(endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default()),
        ipv4_address: address(false),
        ipv6_address: address(true),
    }
}

/// The length of the prefix of the subnet an address is of.
fn prefix(network: Option<&NetworkInfo>, address: IpAddr) -> u8 {
    let subnets = network.into_iter().flat_map(|network| &network.options.subnets);
    subnets.map(|one| one.subnet).find(|one| one.contains(address)).map_or(0, |subnet| subnet.prefix())
}

/// Returns what a container has of networks.
#[must_use]
pub fn network_settings(info: &ContainerInfo) -> NetworkSettings {
    let mut networks: HashMap<String, EndpointSettings> =
        info.networks.iter().map(|used| (used.name.to_string(), endpoint_settings(info, used))).collect();
    // Docker shows these modes as networks.
    let mode = match info.spec.network {
        engine_core::container_spec::NetworkMode::Host => Some("host"),
        engine_core::container_spec::NetworkMode::None => Some("none"),
        _ => None,
    };
    networks.extend(mode.map(|mode| (mode.to_owned(), EndpointSettings::default())));
    NetworkSettings {
        // Namespaces have no names here.
        sandbox_id: Some(String::new()),
        sandbox_key: Some(String::new()),
        ports: Some(port_map(info)),
        networks: Some(networks),
    }
}

/// Returns a container's place on one network.
#[must_use]
pub fn endpoint_settings(info: &ContainerInfo, used: &ContainerNetwork) -> EndpointSettings {
    let (endpoint, network) = (used.endpoint.as_ref(), used.network.as_ref());
    let options: &EndpointOptions = &used.options;
    let address =
        |v6: bool| endpoint.and_then(|one| one.addresses.iter().find(|address| address.is_ipv6() == v6));
    let gateway =
        |v6: bool| endpoint.and_then(|one| one.gateways.iter().find(|address| address.is_ipv6() == v6));
    let text = |address: Option<&IpAddr>| Some(address.map(ToString::to_string).unwrap_or_default());
    let length = |v6: bool| Some(address(v6).map_or(0, |address| prefix(network, *address)).into());
    let asked = options.addresses().next().is_some().then(|| EndpointIpamConfig {
        ipv4_address: options.ipv4.map(|address| address.to_string()),
        ipv6_address: options.ipv6.map(|address| address.to_string()),
        link_local_ips: None,
    });
    let mut names = vec![info.name.to_string()];
    names.extend(options.aliases.iter().cloned());
    names.push(info.id.short().to_owned());
    names.extend(info.spec.hostname.clone());
    names.dedup();
    EndpointSettings {
        ipam_config: asked,
        mac_address: Some(
            endpoint.and_then(|one| one.mac).or(options.mac).map(|mac| mac.to_string()).unwrap_or_default(),
        ),
        links: Some(options.links.iter().map(ToString::to_string).collect::<Vec<_>>())
            .filter(|links| !links.is_empty() && !used.is_default),
        aliases: Some(options.aliases.clone()).filter(|aliases| !aliases.is_empty()),
        driver_opts: Some(options.driver_options.clone().into_iter().collect::<HashMap<_, _>>())
            .filter(|options| !options.is_empty()),
        gw_priority: Some(options.gateway_priority.into()),
        network_id: Some(network.map(|network| network.id.clone()).unwrap_or_default()),
        endpoint_id: Some(endpoint.map(|endpoint| endpoint.id.clone()).unwrap_or_default()),
        gateway: text(gateway(false)),
        ip_address: text(address(false)),
        ip_prefix_len: length(false),
        ipv6_gateway: text(gateway(true)),
        global_ipv6_address: text(address(true)),
        global_ipv6_prefix_len: length(true),
        dns_names: Some(names),
    }
}

/// Returns a container's links on the default network, as `/CONTAINER:/PARENT/ALIAS`. Those on other networks are told with
/// the network.
#[must_use]
pub(crate) fn links(info: &ContainerInfo) -> Option<Vec<String>> {
    let of_default = info.networks.iter().filter(|used| used.is_default);
    let links = of_default
        .flat_map(|used| &used.options.links)
        .map(|link| format!("/{}:/{}/{}", link.container, info.name, link.alias));
    Some(links.collect()).filter(|links: &Vec<String>| !links.is_empty())
}

/// Returns a running container's ports: those that are published with where, and those it only exposes.
#[must_use]
pub fn port_map(info: &ContainerInfo) -> PortMap {
    let mut map: BTreeMap<String, Option<Vec<PortBinding>>> = BTreeMap::new();
    if info.state.status.is_running() && !info.networks.is_empty() {
        map.extend(
            exposed_ports(info).into_iter().map(|(port, protocol)| (format!("{port}/{protocol}"), None)),
        );
    }
    for port in published(info) {
        let bindings = map.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
        let all = bindings.get_or_insert_default();
        all.extend(host_addresses(port).into_iter().map(|address| PortBinding {
            host_ip: Some(address.to_string()),
            host_port: Some(port.host_port.to_string()),
        }));
    }
    map.into_iter().collect()
}

/// Returns a running container's ports as `GET /containers/json` has them, in the order in which they are shown.
#[must_use]
pub fn port_summaries(info: &ContainerInfo) -> Vec<PortSummary> {
    let mut list: Vec<(u16, Option<IpAddr>, u16, Protocol)> = Vec::new();
    if info.state.status.is_running() {
        for port in published(info) {
            list.extend(
                host_addresses(port)
                    .into_iter()
                    .map(|address| (port.container_port, Some(address), port.host_port, port.protocol)),
            );
        }
        if !info.networks.is_empty() {
            for (number, protocol) in exposed_ports(info) {
                if !list.iter().any(|port| (port.0, port.3) == (number, protocol)) {
                    list.push((number, None, 0, protocol));
                }
            }
        }
    }
    list.sort_unstable();
    list.into_iter()
        .map(|(private_port, address, public_port, protocol)| PortSummary {
            ip: address.map(|address| address.to_string()),
            private_port,
            public_port: address.map(|_| public_port),
            typ: Some(match protocol {
                Protocol::Tcp => PortSummaryTypeEnum::TCP,
                Protocol::Udp => PortSummaryTypeEnum::UDP,
                Protocol::Sctp => PortSummaryTypeEnum::SCTP,
            }),
        })
        .collect()
}

/// The ports as they are published.
fn published(info: &ContainerInfo) -> impl Iterator<Item = &PortMapping> {
    info.networks.iter().filter_map(|used| used.endpoint.as_ref()).flat_map(|endpoint| &endpoint.ports)
}

/// Returns the ports that the image or the user says it listens on, and those to be published.
#[must_use]
pub fn exposed_ports(info: &ContainerInfo) -> Vec<(u16, Protocol)> {
    let of_image = info.defaults.exposed_ports.keys().filter_map(|text| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Some((number.parse().ok()?, protocol.parse().ok()?))
    });
    let of_spec = info.spec.ports.iter().map(|port| (port.container_port, port.protocol));
    let mut all: Vec<_> = info.spec.exposed_ports.iter().copied().chain(of_image).chain(of_spec).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The host's addresses of a published port: all of both families are two.
fn host_addresses(port: &PortMapping) -> Vec<IpAddr> {
    match port.host_ip {
        Some(address) => vec![address],
        None => vec![IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::network::NetworkOptions;

    #[test]
    fn a_network_shows_who_is_on_it() {
        let subnet: engine_core::network::Subnet = "10.7.0.0/24".parse().unwrap();
        let options = NetworkOptions::default().with_subnet(subnet);
        let mut info = NetworkInfo::new("lan".parse().unwrap(), options);
        let mut options = EndpointOptions::default();
        options.names = vec!["web".to_owned()];
        let mut endpoint = Endpoint::new(engine_core::ContainerId::random(), info.name.clone(), options);
        endpoint.addresses = vec!["10.7.0.2".parse().unwrap()];
        info.endpoints.push(endpoint);
        let json = serde_json::to_value(network_inspect(&info)).unwrap();
        assert_eq!(json["IPAM"]["Config"][0]["Subnet"], "10.7.0.0/24");
        let container = &json["Containers"][info.endpoints[0].container.as_str()];
        assert_eq!((&container["Name"], &container["IPv4Address"]), (&"web".into(), &"10.7.0.2/24".into()));
        assert_eq!(container["IPv6Address"], "");
    }
}
