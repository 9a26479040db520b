//! What of networks a container uses, as it was asked for and as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container_spec::{ContainerSpec, NetworkMode};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::image_config::ProcessDefaults;
use crate::network::{Endpoint, EndpointOptions, NetworkInfo, PortMapping, Protocol};

use super::LocalEngine;
use super::records::Record;

/// A network that a container is on, or will be when it runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerNetwork {
    /// The network's name.
    pub name: Name,
    /// What was asked for.
    pub options: EndpointOptions,
    /// The network, without its endpoints; `None` if there is no such network (any more).
    pub network: Option<NetworkInfo>,
    /// The container's place on it, while it runs.
    pub endpoint: Option<Endpoint>,
    /// Whether it is the default network of the engine, which has no names.
    pub is_default: bool,
}

impl LocalEngine {
    /// Returns the networks a container is to be on, in the order in which it is put on them.
    pub(super) fn networks_of(&self, record: &Record) -> Vec<(Name, EndpointOptions)> {
        networks_in(&record.data.spec, self.default_network())
    }

    /// Whether a container has a network namespace for networks, if none now.
    pub(super) fn has_networks(&self, record: &Record) -> bool {
        match &record.data.spec.network {
            NetworkMode::Networks(_) => true,
            NetworkMode::Default => self.default_network().is_some(),
            _ => false,
        }
    }

    /// As [`networks_of`](Self::networks_of), with what is known of each now.
    pub(super) async fn network_use(&self, record: &Record) -> Result<Vec<ContainerNetwork>> {
        let mut list = Vec::new();
        for (name, options) in self.networks_of(record) {
            let network = self.inner.network.inspect(&name).await?;
            list.push(self.used(record, name, options, network));
        }
        Ok(list)
    }

    /// As [`network_use`](Self::network_use), from all networks there are.
    pub(super) fn network_use_in(
        &self,
        record: &Record,
        all: &BTreeMap<Name, NetworkInfo>,
    ) -> Vec<ContainerNetwork> {
        let list = self.networks_of(record).into_iter();
        list.map(|(name, options)| {
            let network = all.get(&name).cloned();
            self.used(record, name, options, network)
        })
        .collect()
    }

    fn used(
        &self,
        record: &Record,
        name: Name,
        options: EndpointOptions,
        mut network: Option<NetworkInfo>,
    ) -> ContainerNetwork {
        let endpoints = network.as_mut().map(|network| std::mem::take(&mut network.endpoints));
        let mine = |endpoint: &Endpoint| endpoint.container == record.id;
        let endpoint = endpoints.into_iter().flatten().find(mine);
        let is_default = !self.has_names(&name);
        ContainerNetwork { name, options, network, endpoint, is_default }
    }

    /// What a container's endpoints are made with: the wishes, its names, and its ports where they belong.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a network that is not there; [`ErrorKind::InvalidArgument`] for what the default network
    /// has not.
    pub(super) async fn planned(&self, record: &Record) -> Result<Vec<(NetworkInfo, EndpointOptions)>> {
        let mut plan = Vec::new();
        for (name, mut options) in self.networks_of(record) {
            let network = self.network_named(&name).await?.ok_or_else(|| not_found(&name))?;
            self.check_endpoint(&network, &options)?;
            options.names = names_of(record);
            plan.push((NetworkInfo { endpoints: Vec::new(), ..network }, options));
        }
        let ports = published_ports(&record.data.spec, &record.data.defaults);
        let leads =
            first_of_highest(&plan, |(_, options)| options.gateway_priority, |(n, _)| !n.options.internal);
        if let Some(at) = leads {
            plan[at].1.ports.extend(ports);
        }
        Ok(plan)
    }

    /// Makes a new container's networks those of its record: by name, and the default one by its own.
    pub(super) async fn resolve_networks(&self, spec: &mut ContainerSpec) -> Result<()> {
        match (&mut spec.network, self.default_network()) {
            (mode @ NetworkMode::Default, Some(name)) => {
                *mode = NetworkMode::Networks(vec![(name.clone(), EndpointOptions::default())]);
            }
            (NetworkMode::Networks(list), _) => {
                for (name, _) in list.iter_mut() {
                    match self.find_network(name.as_str()).await {
                        Ok(found) => *name = found.name,
                        // Its start will say so, as in Docker: it may be made before.
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Refuses what only networks with names have.
    pub(super) fn check_endpoint(&self, network: &NetworkInfo, options: &EndpointOptions) -> Result<()> {
        let wrong = |why: &str| {
            Err(Error::new(ErrorKind::InvalidArgument, "connect container")
                .with("network", &network.name)
                .with_message(why)
                .with_hint("make a network of your own: network create NAME"))
        };
        if self.inner.default_network.as_ref() != Some(&network.name) {
            return Ok(());
        }
        if !options.aliases.is_empty() {
            return wrong("network-scoped alias is supported only for containers in user defined networks");
        }
        if options.addresses().next().is_some() {
            return wrong("user specified IP address is supported on user defined networks only");
        }
        Ok(())
    }

    /// Whether a network tells its containers each other's names.
    pub(super) fn has_names(&self, network: &Name) -> bool {
        self.inner.default_network.as_ref() != Some(network)
    }
}

/// The networks that `spec` asks for, in order.
pub(super) fn networks_in(spec: &ContainerSpec, default: Option<&Name>) -> Vec<(Name, EndpointOptions)> {
    match (&spec.network, default) {
        (NetworkMode::Networks(list), _) => list.clone(),
        (NetworkMode::Default, Some(name)) => vec![(name.clone(), EndpointOptions::default())],
        _ => Vec::new(),
    }
}

pub(super) fn not_found(name: impl std::fmt::Display) -> Error {
    let message = format!("network {name} not found");
    Error::new(ErrorKind::NotFound, "find network").with("network", name).with_message(message)
}

/// The names by which a container is found on its networks.
pub(super) fn names_of(record: &Record) -> Vec<String> {
    let mut names = vec![record.name.to_string(), record.id.short().to_owned()];
    names.extend(record.data.spec.hostname.clone().filter(|name| !names.contains(name)));
    names
}

/// The ports to publish: those asked for, and all that are exposed if that was asked for.
pub(super) fn published_ports(spec: &ContainerSpec, image: &ProcessDefaults) -> Vec<PortMapping> {
    let mut ports = spec.ports.clone();
    if spec.publish_all_ports {
        let of_image = image.exposed_ports.keys().filter_map(|text| exposed_port(text));
        for (number, protocol) in spec.exposed_ports.iter().copied().chain(of_image) {
            let is = |port: &PortMapping| (port.container_port, port.protocol) == (number, protocol);
            if !ports.iter().any(is) {
                ports.push(PortMapping::new(number).with_protocol(protocol));
            }
        }
    }
    ports
}

/// The ports that a container listens on, as far as it and its image say.
pub(super) fn exposed_ports(spec: &ContainerSpec, image: &ProcessDefaults) -> Vec<(u16, Protocol)> {
    let of_image = image.exposed_ports.keys().filter_map(|text| exposed_port(text));
    let published = spec.ports.iter().map(|port| (port.container_port, port.protocol));
    spec.exposed_ports.iter().copied().chain(of_image).chain(published).collect()
}

/// Reads a port as image configurations have it: `80`, `80/tcp`.
fn exposed_port(text: &str) -> Option<(u16, Protocol)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((number.parse().ok().filter(|number| *number > 0)?, protocol.parse().ok()?))
}

/// The network that the ports of `spec` would be published on, as far as it tells.
pub(super) fn port_network(spec: &ContainerSpec) -> Option<&Name> {
    let NetworkMode::Networks(list) = &spec.network else { return None };
    first_of_highest(list, |(_, options)| options.gateway_priority, |_| true).map(|at| &list[at].0)
}

/// The place of the first of those that have the highest priority, of the acceptable ones if there is any.
fn first_of_highest<T>(
    list: &[T],
    priority: impl Fn(&T) -> i32,
    accept: impl Fn(&T) -> bool,
) -> Option<usize> {
    let best = |all: bool| {
        let candidates = list.iter().enumerate().filter(|(_, one)| all || accept(one));
        // The last of equal ones is the greatest.
        candidates.rev().max_by_key(|(_, one)| priority(one)).map(|(at, _)| at)
    };
    best(false).or_else(|| best(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_go_where_packets_leave() {
        let options = |priority| EndpointOptions { gateway_priority: priority, ..Default::default() };
        let list = |priorities: &[i32]| {
            let names = ["aa", "bb", "cc"].iter().map(|name| name.parse::<Name>().unwrap());
            names.zip(priorities.iter().map(|priority| options(*priority))).collect::<Vec<_>>()
        };
        let spec = |priorities: &[i32]| ContainerSpec {
            network: NetworkMode::Networks(list(priorities)),
            ..Default::default()
        };
        assert_eq!(port_network(&spec(&[0, 0, 0])).unwrap().as_str(), "aa");
        assert_eq!(port_network(&spec(&[-1, 5, 5])).unwrap().as_str(), "bb");
        assert_eq!(port_network(&spec(&[])), None);
        let leads = |internal: &str| {
            first_of_highest(&list(&[2, 1, 0]), |(_, o)| o.gateway_priority, |(n, _)| n.as_str() != internal)
        };
        assert_eq!((leads("aa"), leads("bb")), (Some(1), Some(0)));
    }

    #[test]
    fn all_exposed_ports_are_published_once() {
        let mut image = ProcessDefaults::default();
        for text in ["80/tcp", "53/udp", "nonsense", "0/tcp", "443"] {
            image.exposed_ports.insert(text.to_owned(), crate::image_config::Empty {});
        }
        let spec = ContainerSpec {
            ports: vec![PortMapping::new(80).with_host_port(8080)],
            exposed_ports: vec![(53, Protocol::Udp), (9, Protocol::Sctp)],
            ..Default::default()
        };
        assert_eq!(published_ports(&spec, &image).len(), 1);
        let spec = ContainerSpec { publish_all_ports: true, ..spec };
        let ports: Vec<String> = published_ports(&spec, &image)
            .iter()
            .map(|port| format!("{}:{}/{}", port.host_port, port.container_port, port.protocol))
            .collect();
        assert_eq!(ports, ["8080:80/tcp", "0:53/udp", "0:9/sctp", "0:443/tcp"]);
    }
}
