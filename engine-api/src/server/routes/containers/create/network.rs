//! Networks and names.

use std::collections::BTreeMap;

use engine_core::container_spec::{ContainerSpec, NetworkMode};
use engine_core::network::{EndpointOptions, Link};
use engine_core::{Engine, Name};

use crate::models::{EndpointSettings, HostConfig};
use crate::notation;
use crate::server::error::Result;

use super::{Wish, bad, ports, text};

pub(super) async fn apply(
    spec: &mut ContainerSpec,
    engine: &Engine,
    wish: &Wish,
    host: &HostConfig,
) -> Result<()> {
    spec.network = mode(engine, wish, host)?;
    for port in wish.body.exposed_ports.iter().flatten() {
        spec.exposed_ports
            .extend(notation::exposed_ports(port).map_err(|error| bad("ExposedPorts", error.report()))?);
    }
    spec.exposed_ports.sort_unstable();
    ports::apply(spec, engine, host).await?;
    spec.publish_all_ports = host.publish_all_ports.unwrap_or(false);
    for line in host.extra_hosts.iter().flatten() {
        spec.extra_hosts.push(notation::extra_host(line)?);
    }
    for server in host.dns.iter().flatten().filter(|server| !server.is_empty()) {
        spec.dns.push(notation::name_server(server)?);
    }
    spec.dns_search = host.dns_search.clone().unwrap_or_default();
    spec.dns_options = host.dns_options.clone().unwrap_or_default();
    if matches!(spec.network, NetworkMode::Container(_)) {
        if spec.hostname.is_some() {
            return Err(bad("Hostname", "conflicting options: hostname and the network mode"));
        }
        notation::check_shared_network(spec)?;
    }
    Ok(())
}

/// The mode names the first network; the endpoints say more of it, and name others.
fn mode(engine: &Engine, wish: &Wish, host: &HostConfig) -> Result<NetworkMode> {
    let named = text(host.network_mode.as_ref()).unwrap_or_else(|| "default".to_owned());
    let named = if wish.body.network_disabled == Some(true) { "none".to_owned() } else { named };
    let empty = Default::default();
    let networking = wish.body.networking_config.as_ref().unwrap_or(&empty);
    let mut endpoints: BTreeMap<&str, EndpointSettings> = BTreeMap::new();
    for (name, settings) in networking.endpoints_config.iter().flatten() {
        endpoints.insert(name, settings.clone());
    }
    if let Some(mode) = plain(&named) {
        endpoints.remove(named.as_str());
        // Clients send what they always do, which asks for nothing.
        let asks = |(name, settings): (&&str, &EndpointSettings)| {
            options(name, settings).is_ok_and(|options| options == EndpointOptions::default())
        };
        if !endpoints.iter().all(asks) || host.links.as_ref().is_some_and(|links| !links.is_empty()) {
            return Err(bad(
                "NetworkingConfig",
                format!(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({named})"
                ),
            ));
        }
        return Ok(mode);
    }
    let is_default = |name: &str| {
        matches!(name, "default" | "bridge")
            || engine.default_network().is_some_and(|own| own.as_str() == name)
    };
    let own = match is_default(&named) {
        true => endpoints.keys().copied().find(|name| is_default(name)),
        false => endpoints.keys().copied().find(|name| *name == named),
    };
    let own = own.and_then(|name| endpoints.remove(name)).unwrap_or_default();
    let mut first = options(&named, &own)?;
    if first.links.is_empty() {
        first.links = links(host.links.as_deref().unwrap_or_default())?;
    }
    if first.mac.is_none() {
        first.mac = wish.mac.as_deref().filter(|mac| !mac.is_empty()).map(str::parse).transpose()?;
    }
    if named == "default" && endpoints.is_empty() && first == EndpointOptions::default() {
        return Ok(NetworkMode::Default);
    }
    let mut networks = vec![(real_name(engine, &named)?, first)];
    for (name, settings) in &endpoints {
        if plain(name).is_some() {
            return Err(bad(
                "NetworkingConfig",
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        networks.push((real_name(engine, name)?, options(name, settings)?));
    }
    Ok(NetworkMode::Networks(networks))
}

fn plain(name: &str) -> Option<NetworkMode> {
    match name {
        "none" => Some(NetworkMode::None),
        "host" => Some(NetworkMode::Host),
        _ => name.strip_prefix("container:").map(|other| NetworkMode::Container(other.to_owned())),
    }
}

/// The name of a network; two names of Docker's stand for the engine's default one.
fn real_name(engine: &Engine, name: &str) -> Result<Name> {
    match (name, engine.default_network()) {
        ("default" | "bridge", Some(own)) => Ok(own.clone()),
        ("default", None) => Ok("bridge".parse()?),
        _ => name.parse().map_err(|error: engine_core::Error| bad("HostConfig.NetworkMode", error.report())),
    }
}

/// Reads a container's place on a network.
pub(in crate::server::routes) fn options(name: &str, settings: &EndpointSettings) -> Result<EndpointOptions> {
    let field = |what: &str| format!("NetworkingConfig.EndpointsConfig[{name}].{what}");
    let mut options = EndpointOptions::default();
    options.aliases = settings.aliases.clone().unwrap_or_default();
    options.links = links(settings.links.as_deref().unwrap_or_default())?;
    options.mac = text(settings.mac_address.as_ref()).map(|mac| mac.parse()).transpose()?;
    let asked = settings.ipam_config.clone().unwrap_or_default();
    options.ipv4 = match text(asked.ipv4_address.as_ref()) {
        Some(address) => Some(address.parse().map_err(|_| {
            bad(&field("IPAMConfig.IPv4Address"), format!("invalid IPv4 address: {address}"))
        })?),
        None => None,
    };
    options.ipv6 = match text(asked.ipv6_address.as_ref()) {
        Some(address) => Some(address.parse().map_err(|_| {
            bad(&field("IPAMConfig.IPv6Address"), format!("invalid IPv6 address: {address}"))
        })?),
        None => None,
    };
    if asked.link_local_ips.is_some_and(|list| !list.is_empty()) {
        return Err(bad(&field("IPAMConfig.LinkLocalIPs"), "link-local addresses are not supported"));
    }
    options.gateway_priority = i32::try_from(settings.gw_priority.unwrap_or(0))
        .map_err(|_| bad(&field("GwPriority"), "it does not fit in 32 bits"))?;
    options.driver_options = settings.driver_opts.clone().unwrap_or_default().into_iter().collect();
    Ok(options)
}

fn links(list: &[String]) -> Result<Vec<Link>> {
    Ok(list.iter().map(|link| link.parse()).collect::<engine_core::Result<_>>()?)
}
