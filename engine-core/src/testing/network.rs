//! What a [`Network`] promises. Packets are left to the implementation's own tests.

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;

use super::{Subject, Suite, assert_kind, fresh_name, run_promises};
use crate::error::{ErrorKind, Result};
use crate::id::{ContainerId, Name};
use crate::network::{
    Endpoint, EndpointOptions, Network, NetworkOptions, PortMapping, Subnet, SubnetOptions,
};
use crate::runtime::Sandbox;

/// Where the suite gets what it needs.
#[async_trait]
pub trait NetworkHarness: Sync {
    /// Makes an implementation over fresh state.
    async fn network(&self) -> Subject<dyn Network>;

    /// Makes a sandbox to attach. A real network needs a real namespace, which the harness keeps until it goes.
    async fn sandbox(&self) -> Sandbox;

    /// Returns two subnets, in CIDR notation, that nothing on this host uses; neither contains the other.
    fn subnets(&self) -> [String; 2] {
        // Set aside for benchmarks (RFC 2544), so in nobody's use.
        ["198.18.77.0/24".to_owned(), "198.18.78.0/24".to_owned()]
    }

    /// Returns a port of this host that is free.
    fn free_port(&self) -> u16 {
        18_077
    }
}

/// Runs every promise, each on what `harness` makes anew.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn all(harness: &dyn NetworkHarness) {
    let mut suite = Suite::new("Network");
    let factory = || harness.network();
    run_promises!(suite, factory, |subject|
        created_network_is_found(&*subject.first);
        name_is_taken_once(&*subject.first);
        remove_is_idempotent(&*subject.first);
        overlapping_subnets_conflict(&*subject.first, harness);
        addresses_outside_are_refused(&*subject.first, harness);
        addresses_come_from_the_range(&*subject.first, harness);
        attached_container_is_listed(&*subject.first, harness);
        addresses_differ(&*subject.first, harness);
        attach_twice_is_refused(&*subject.first, harness);
        attach_to_nothing_is_not_found(&*subject.first, harness);
        detach_is_idempotent(&*subject.first, harness);
        network_in_use_stays(&*subject.first, harness);
        asked_address_is_given(&*subject.first, harness);
        ports_are_published_once(&*subject.first, harness);
        failed_attach_leaves_nothing(&*subject.first, harness);
        names_are_changed(&*subject.first, harness);
        sweep_removes_the_dead(&*subject.first, harness);
        sweep_spares_what_was_made_since(&*subject.first, harness);
        attaches_run_at_once(&*subject.first, harness);
        other_instances_see_networks(&*subject.first, &*subject.second);
    );
    suite.finish();
}

fn on(subnet: &str) -> NetworkOptions {
    let subnet: Subnet = subnet.parse().expect("a subnet");
    NetworkOptions::default().with_subnet(subnet)
}

fn published(host_port: u16) -> EndpointOptions {
    EndpointOptions::default().with_ports([PortMapping::new(80).with_host_port(host_port)])
}

/// Promise: a created network is found by name and listed.
pub async fn created_network_is_found(network: &dyn Network) {
    let name = fresh_name("net");
    assert_eq!(network.inspect(&name).await.expect("inspect before"), None);
    let made = network.create(&name, &NetworkOptions::default()).await.expect("create");
    assert_eq!(made.name, name);
    assert!(!made.id.is_empty() && made.endpoints.is_empty());
    assert_eq!(network.inspect(&name).await.expect("inspect"), Some(made.clone()));
    assert!(network.list().await.expect("list").contains(&made));
    network.remove(&name).await.expect("remove");
    assert_eq!(network.inspect(&name).await.expect("inspect after"), None);
}

/// Promise: a name belongs to one network.
pub async fn name_is_taken_once(network: &dyn Network) {
    let name = fresh_name("net");
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let again = network.create(&name, &NetworkOptions::default()).await;
    assert_kind(again, &[ErrorKind::AlreadyExists], "create again");
    network.remove(&name).await.expect("remove");
}

/// Promise: removing what is not there is no error.
pub async fn remove_is_idempotent(network: &dyn Network) {
    let name = fresh_name("net");
    network.remove(&name).await.expect("remove what never was");
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    network.remove(&name).await.expect("remove");
    network.remove(&name).await.expect("remove again");
}

/// Promise: two networks never share addresses.
pub async fn overlapping_subnets_conflict(network: &dyn Network, harness: &dyn NetworkHarness) {
    let [subnet, other] = harness.subnets();
    let (a, b, c) = (fresh_name("net"), fresh_name("net"), fresh_name("net"));
    network.create(&a, &on(&subnet)).await.expect("create");
    assert_kind(network.create(&b, &on(&subnet)).await, &[ErrorKind::Conflict], "create over it");
    assert_eq!(network.inspect(&b).await.expect("inspect"), None);
    network.create(&c, &on(&other)).await.expect("create beside it");
    for name in [a, c] {
        network.remove(&name).await.expect("remove");
    }
}

/// Promise: a gateway, range or auxiliary address of another subnet is refused, and nothing is made.
pub async fn addresses_outside_are_refused(network: &dyn Network, harness: &dyn NetworkHarness) {
    let [subnet, other] = harness.subnets().map(|text| text.parse::<Subnet>().expect("a subnet"));
    let outside = other.hosts().next().expect("an address");
    let plain = SubnetOptions::from(subnet);
    for wrong in [
        SubnetOptions { gateway: Some(outside), ..plain.clone() },
        SubnetOptions { ip_range: Some(other), ..plain.clone() },
        SubnetOptions { aux_addresses: [("router".to_owned(), outside)].into(), ..plain },
    ] {
        let name = fresh_name("net");
        let options = NetworkOptions::default().with_subnet(wrong);
        assert_kind(network.create(&name, &options).await, &[ErrorKind::InvalidArgument], "create");
        assert_eq!(network.inspect(&name).await.expect("inspect"), None);
    }
}

/// Promise: containers get addresses of the range, and never the gateway's or an auxiliary one.
pub async fn addresses_come_from_the_range(network: &dyn Network, harness: &dyn NetworkHarness) {
    let [subnet, _] = harness.subnets().map(|text| text.parse::<Subnet>().expect("a subnet"));
    let range = Subnet::around(subnet.base(), 30).expect("a range");
    let hosts: Vec<IpAddr> = range.hosts().collect();
    let mut wanted = SubnetOptions::from(subnet);
    (wanted.gateway, wanted.ip_range) = (hosts.first().copied(), Some(range));
    let name = fresh_name("net");
    network.create(&name, &NetworkOptions::default().with_subnet(wanted)).await.expect("create");
    let (first, second) = (harness.sandbox().await, harness.sandbox().await);
    let endpoint = attach(network, &name, &first, &EndpointOptions::default()).await.expect("attach");
    assert_eq!(endpoint.addresses, &hosts[1..]);
    assert_eq!(endpoint.gateways, &hosts[..1]);
    let full = attach(network, &name, &second, &EndpointOptions::default()).await;
    assert_kind(full, &[ErrorKind::ResourceExhausted], "attach to a full range");
    clean_up(network, &name, &[first.id]).await;
}

/// Promise: a network lists the containers on it, until they are detached.
pub async fn attached_container_is_listed(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, sandbox) = (fresh_name("net"), harness.sandbox().await);
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let endpoint = attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach");
    assert_eq!((&endpoint.container, &endpoint.network), (&sandbox.id, &name));
    assert!(!endpoint.addresses.is_empty(), "it has an address");
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert_eq!(info.endpoints, [endpoint]);
    network.detach(&name, &sandbox.id).await.expect("detach");
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert!(info.endpoints.is_empty(), "{info:?}");
    network.remove(&name).await.expect("remove");
}

/// Promise: each container of a network has addresses of its own.
pub async fn addresses_differ(network: &dyn Network, harness: &dyn NetworkHarness) {
    let name = fresh_name("net");
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let sandbox = harness.sandbox().await;
        let endpoint = attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach");
        for address in endpoint.addresses {
            assert!(!addresses.contains(&address), "{address} was given twice");
            addresses.push(address);
        }
        ids.push(sandbox.id);
    }
    clean_up(network, &name, &ids).await;
}

/// Promise: a sandbox is on a network once.
pub async fn attach_twice_is_refused(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, sandbox) = (fresh_name("net"), harness.sandbox().await);
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let first = attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach");
    let again = attach(network, &name, &sandbox, &EndpointOptions::default()).await;
    assert_kind(again, &[ErrorKind::AlreadyExists], "attach again");
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert_eq!(info.endpoints, [first], "the first endpoint is untouched");
    clean_up(network, &name, &[sandbox.id]).await;
}

/// Promise: there is no attaching to a network that does not exist.
pub async fn attach_to_nothing_is_not_found(network: &dyn Network, harness: &dyn NetworkHarness) {
    let sandbox = harness.sandbox().await;
    let result = attach(network, &fresh_name("no"), &sandbox, &EndpointOptions::default()).await;
    assert_kind(result, &[ErrorKind::NotFound], "attach");
}

/// Promise: detaching what is already gone is no error.
pub async fn detach_is_idempotent(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, sandbox) = (fresh_name("net"), harness.sandbox().await);
    network.detach(&name, &sandbox.id).await.expect("detach from nothing");
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach");
    network.detach(&name, &sandbox.id).await.expect("detach");
    network.detach(&name, &sandbox.id).await.expect("detach again");
    attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach after detach");
    clean_up(network, &name, &[sandbox.id]).await;
}

/// Promise: a network with containers on it is not removed.
pub async fn network_in_use_stays(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, sandbox) = (fresh_name("net"), harness.sandbox().await);
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach");
    assert_kind(network.remove(&name).await, &[ErrorKind::Conflict], "remove");
    assert!(network.inspect(&name).await.expect("inspect").is_some());
    clean_up(network, &name, &[sandbox.id]).await;
}

/// Promise: a container gets the address it asks for, unless another has it or it is of no subnet.
pub async fn asked_address_is_given(network: &dyn Network, harness: &dyn NetworkHarness) {
    let [subnet, other] = harness.subnets();
    let host = |subnet: &str, number: u8| -> Ipv4Addr {
        let (base, _) = subnet.rsplit_once('.').expect("an IPv4 subnet");
        format!("{base}.{number}").parse().expect("an address")
    };
    let name = fresh_name("net");
    network.create(&name, &on(&subnet)).await.expect("create");
    let asking = |ip| EndpointOptions::default().with_ipv4(ip);
    let (sandbox, rival) = (harness.sandbox().await, harness.sandbox().await);
    let wanted = host(&subnet, 77);
    let endpoint = attach(network, &name, &sandbox, &asking(wanted)).await.expect("attach");
    assert!(endpoint.addresses.contains(&wanted.into()), "{endpoint:?}");
    assert_kind(
        attach(network, &name, &rival, &asking(wanted)).await,
        &[ErrorKind::Conflict],
        "same address",
    );
    let outside = attach(network, &name, &rival, &asking(host(&other, 77))).await;
    assert_kind(outside, &[ErrorKind::InvalidArgument], "address of another subnet");
    clean_up(network, &name, &[sandbox.id]).await;
}

/// Promise: a port of the host is published for one container at a time; port 0 means any.
pub async fn ports_are_published_once(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, port) = (fresh_name("net"), harness.free_port());
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let (a, b) = (harness.sandbox().await, harness.sandbox().await);
    let endpoint = attach(network, &name, &a, &published(port)).await.expect("attach");
    assert_eq!(endpoint.ports.first().map(|mapping| mapping.host_port), Some(port));
    assert_kind(attach(network, &name, &b, &published(port)).await, &[ErrorKind::Conflict], "same port");
    network.detach(&name, &a.id).await.expect("detach");
    attach(network, &name, &b, &published(port)).await.expect("the port is free again");
    let any = attach(network, &name, &a, &published(0)).await.expect("any port");
    let given = any.ports.first().map_or(0, |mapping| mapping.host_port);
    assert!(given != 0 && given != port, "{any:?}");
    clean_up(network, &name, &[a.id, b.id]).await;
}

/// Promise: an attach that fails leaves no endpoint, address or port behind.
pub async fn failed_attach_leaves_nothing(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, port) = (fresh_name("net"), harness.free_port());
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let (a, b) = (harness.sandbox().await, harness.sandbox().await);
    let mut options = published(0);
    options.ports.extend(published(port).ports);
    attach(network, &name, &a, &published(port)).await.expect("attach");
    assert_kind(attach(network, &name, &b, &options).await, &[ErrorKind::Conflict], "taken second port");
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert_eq!(info.endpoints.len(), 1, "{info:?}");
    attach(network, &name, &b, &published(0)).await.expect("attach after a failure");
    clean_up(network, &name, &[a.id, b.id]).await;
}

/// Promise: a container's names on a network are changed while it is on it, and nothing else of it.
pub async fn names_are_changed(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, sandbox) = (fresh_name("net"), harness.sandbox().await);
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let names = ["after".to_owned()];
    let early = network.rename(&name, &sandbox.id, &names).await;
    assert_kind(early, &[ErrorKind::NotFound], "rename what is not on it");
    let mut options = EndpointOptions::default().with_aliases(["alias"]);
    options.names.push("before".to_owned());
    let mut endpoint = attach(network, &name, &sandbox, &options).await.expect("attach");
    network.rename(&name, &sandbox.id, &names).await.expect("rename");
    endpoint.options.names = names.to_vec();
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert_eq!(info.endpoints, [endpoint]);
    clean_up(network, &name, &[sandbox.id]).await;
}

/// Promise: `sweep` removes the endpoints that are named and keeps the others.
pub async fn sweep_removes_the_dead(network: &dyn Network, harness: &dyn NetworkHarness) {
    let name = fresh_name("net");
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let (alive, dead) = (harness.sandbox().await, harness.sandbox().await);
    let kept = attach(network, &name, &alive, &EndpointOptions::default()).await.expect("attach");
    let gone = attach(network, &name, &dead, &EndpointOptions::default()).await.expect("attach");
    network.sweep(&[]).await.expect("sweep nothing");
    network.sweep(std::slice::from_ref(&gone)).await.expect("sweep");
    network.sweep(&[gone]).await.expect("sweep again");
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert_eq!(info.endpoints, std::slice::from_ref(&kept));
    network.sweep(&[kept]).await.expect("sweep");
    network.remove(&name).await.expect("nothing is on it");
}

/// Promise: the endpoint of a container that was started again since is not the one that is swept.
pub async fn sweep_spares_what_was_made_since(network: &dyn Network, harness: &dyn NetworkHarness) {
    let (name, sandbox) = (fresh_name("net"), harness.sandbox().await);
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let old = attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach");
    network.detach(&name, &sandbox.id).await.expect("detach");
    let new = attach(network, &name, &sandbox, &EndpointOptions::default()).await.expect("attach again");
    network.sweep(&[old]).await.expect("sweep");
    let info = network.inspect(&name).await.expect("inspect").expect("it is there");
    assert_eq!(info.endpoints, [new]);
    clean_up(network, &name, &[sandbox.id]).await;
}

/// Promise: different sandboxes are attached at the same time, and get different addresses.
pub async fn attaches_run_at_once(network: &dyn Network, harness: &dyn NetworkHarness) {
    let name = fresh_name("net");
    network.create(&name, &NetworkOptions::default()).await.expect("create");
    let (a, b, c) = (harness.sandbox().await, harness.sandbox().await, harness.sandbox().await);
    let options = published(0);
    let (x, y, z) = tokio::join!(
        attach(network, &name, &a, &options),
        attach(network, &name, &b, &options),
        attach(network, &name, &c, &options),
    );
    let endpoints = [x.expect("first"), y.expect("second"), z.expect("third")];
    for (index, one) in endpoints.iter().enumerate() {
        for other in &endpoints[index + 1..] {
            assert!(!one.addresses.iter().any(|address| other.addresses.contains(address)), "{endpoints:?}");
            assert_ne!(one.ports, other.ports);
        }
    }
    clean_up(network, &name, &[a.id, b.id, c.id]).await;
}

/// Promise: what one instance acknowledged, another over the same state sees.
pub async fn other_instances_see_networks(first: &dyn Network, second: &dyn Network) {
    let name = fresh_name("net");
    let made = first.create(&name, &NetworkOptions::default()).await.expect("create");
    assert_eq!(second.inspect(&name).await.expect("inspect"), Some(made));
    second.remove(&name).await.expect("remove");
    assert_eq!(first.inspect(&name).await.expect("inspect"), None);
}

/// Attaches, and lets go of what would be kept for the endpoint while it is there.
async fn attach(
    network: &dyn Network,
    name: &Name,
    sandbox: &Sandbox,
    options: &EndpointOptions,
) -> Result<Endpoint> {
    network.attach(name, sandbox, options).await.map(|attachment| attachment.endpoint)
}

async fn clean_up(network: &dyn Network, name: &crate::id::Name, ids: &[ContainerId]) {
    for id in ids {
        network.detach(name, id).await.expect("detach");
    }
    network.remove(name).await.expect("remove");
}
