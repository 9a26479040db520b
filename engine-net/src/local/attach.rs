//! Containers on networks: endpoints are made and removed, with all that belongs to them.
//!
//! Invariant: an endpoint's record is there before anything else of it, and is removed last; a step that fails undoes the
//! others.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;

use engine_core::linux::netlink::Route;
use engine_core::network::{Attachment, Endpoint, EndpointOptions, NetworkInfo};
use engine_core::runtime::Sandbox;
use engine_core::{ContainerId, Error, ErrorKind, Name, Result};
use rustix::fs::FlockOperation;

use super::bridge::reserve::{self, Reach};
use super::driver::Driver;
use super::networks::Networks;
use super::place::{Namespace, Place};
use super::records::{EndpointRecord, Way};
use super::{addresses, flows, links, obstacles, resolver};

/// A connection that is not forgotten ends by itself once its client pauses: no reason to fail.
pub(super) fn warned(forgotten: Result<()>) {
    if let Err(error) = forgotten {
        tracing::warn!(%error, "connections to published ports of UDP may lead to who had them before");
    }
}

fn is_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

impl Networks {
    pub(super) fn attach(
        &self,
        name: &Name,
        sandbox: &Sandbox,
        wanted: &EndpointOptions,
    ) -> Result<Attachment> {
        let fail = |kind| {
            Error::new(kind, "attach to network").with("network", name).with("container", sandbox.id.short())
        };
        let network = self.records.network(name)?.ok_or_else(|| {
            fail(ErrorKind::NotFound)
                .with_message("there is no such network")
                .with_hint("make it first: network create")
        })?;
        let driver = Driver::of(&network)?;
        let (place, namespace) = Place::of(sandbox)?;
        let mut inside = namespace.route()?;
        let interface = match &wanted.interface {
            Some(interface) => {
                engine_core::linux::netlink::check_link_name(interface)?;
                interface.clone()
            }
            None => links::free_name(&mut inside)?,
        };
        // Containers that others reach without the host have no ports of it, as with Docker.
        let reserved = match &driver {
            Driver::Bridge(options) => {
                let reach = Reach::of(&network);
                let reserve = |mapping| reserve::reserve(mapping, options.host_binding, reach);
                wanted.ports.iter().map(reserve).collect::<Result<Vec<_>>>()?
            }
            Driver::Vlan(_) => Vec::new(),
        };
        let ports = reserved.iter().map(|one| one.mapping.clone()).collect();
        let (lock, on) = self.with_interface(&network, &driver)?;
        let mut route = Route::open()?;
        let make = |network: &NetworkInfo, taken: &BTreeSet<IpAddr>| {
            let mut endpoint = Endpoint::new(sandbox.id.clone(), name.clone(), wanted.clone());
            endpoint.addresses = addresses::choose(network, wanted, taken)?;
            endpoint.mac = driver.hardware_address(&mut route, &endpoint, wanted)?;
            let way = driver.way(network);
            if way == Way::Routers {
                endpoint.gateways = gateways(network, &endpoint);
            }
            (endpoint.interface, endpoint.ports) = (interface, ports);
            Ok(EndpointRecord { endpoint, place: place.clone(), way })
        };
        let (network, record) = self.records.add_endpoint(name, &sandbox.id, make)?;
        let made = self.connect(&network, &driver, on, &record, &namespace, &mut inside);
        drop(lock);
        let made = match made {
            // Somebody flushed the rules.
            Ok(false) => self.lock(FlockOperation::LockExclusive).and_then(|_lock| self.synchronize()),
            made => made.map(drop),
        };
        let made = made.map(|()| warned(self.forget_before(&record.endpoint)));
        if let Err(mut error) = made {
            if let Err(later) = self.detach(name, &sandbox.id) {
                error.suppress(later);
            }
            return Err(error);
        }
        let mut attachment = Attachment::new(record.endpoint);
        let addresses = attachment.endpoint.addresses.clone();
        attachment.reserved = reserved.into_iter().flat_map(|one| one.into_kept(&addresses)).collect();
        attachment.names = driver.has_names().then(|| self.zone_file(&network));
        Ok(attachment)
    }

    /// Makes the kernel forget where packets to the endpoint's ports led before.
    fn forget_before(&self, endpoint: &Endpoint) -> Result<()> {
        if !flows::has_any(endpoint) {
            return Ok(());
        }
        let networks = self.records.networks()?;
        let subnets: Vec<_> =
            networks.iter().flat_map(|network| &network.options.subnets).map(|one| one.subnet).collect();
        flows::forget_before(endpoint, &subnets)
    }

    /// Finds the network's interface of the host, or makes it and the rules that know it. Returns it with the shared lock.
    fn with_interface(&self, network: &NetworkInfo, driver: &Driver) -> Result<(File, u32)> {
        let find = || driver.find(&mut Route::open()?, &self.owner, network);
        let lock = self.lock(FlockOperation::LockShared)?;
        if let Some(index) = find()? {
            return Ok((lock, index));
        }
        drop(lock);
        let lock = self.lock(FlockOperation::LockExclusive)?;
        let index = match find()? {
            Some(index) => index,
            None => {
                // A killed program then leaves rules without an interface, and never one that no rule knows.
                self.synchronize_for(Some(network))?;
                let index = driver.make(&mut Route::open()?, &self.owner, network)?;
                if let Driver::Bridge(options) = driver {
                    obstacles::warn(&options.bridge);
                }
                index
            }
        };
        // Nobody comes between: the lock is changed, not taken anew. Where the kernel does let somebody (flock(2)), the
        // network can be gone, and then its record is, too.
        rustix::fs::flock(&lock, FlockOperation::LockShared)
            .map_err(|error| Error::from_io("lock networks", error.into()))?;
        Ok((lock, index))
    }

    /// Makes everything of an endpoint on the host's interface `on`. Returns whether the rules are complete.
    fn connect(
        &self,
        network: &NetworkInfo,
        driver: &Driver,
        on: u32,
        record: &EndpointRecord,
        namespace: &Namespace,
        inside: &mut Route,
    ) -> Result<bool> {
        driver.connect(&mut Route::open()?, &self.owner, on, &record.endpoint, namespace)?;
        namespace.configure(inside, network, record, self.has_default_route(&record.endpoint)?)?;
        if driver.has_names() {
            resolver::redirect(namespace)?;
            self.write_zone(&network.name)?;
        }
        match self.rules.publish(&record.endpoint) {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the endpoint is the one of its container that packets leave by: the first of the highest priority that has a
    /// way out.
    fn has_default_route(&self, endpoint: &Endpoint) -> Result<bool> {
        let others = self.records.of_container(&endpoint.container)?;
        let best = others
            .iter()
            .filter(|record| record.leads_out())
            .map(|record| &record.endpoint)
            // Of equal ones the first: the last maximum, seen from behind.
            .rev()
            .max_by_key(|other| other.options.gateway_priority);
        Ok(best.is_some_and(|best| best.id == endpoint.id))
    }

    pub(super) fn detach(&self, name: &Name, id: &ContainerId) -> Result<()> {
        let Some(record) = self.records.endpoint(name, id)? else { return Ok(()) };
        let endpoint = &record.endpoint;
        let lock = self.lock(FlockOperation::LockShared)?;
        let withdrawn = self.rules.withdraw(endpoint);
        self.disconnect(&record)?;
        self.records.remove_endpoint(name, id)?;
        drop(lock);
        self.write_zone(name)?;
        match withdrawn {
            Err(error) if is_missing(&error) => {
                // An attach that failed half-way, or somebody flushed the rules.
                let _lock = self.lock(FlockOperation::LockExclusive)?;
                self.synchronize()?;
            }
            withdrawn => withdrawn?,
        }
        warned(flows::forget_of(endpoint));
        // It is off this network, whatever is wrong with another: somebody inside may have taken that one down.
        if let Err(error) = self.pass_default_route(&record) {
            let container = record.endpoint.container.short();
            tracing::warn!(%error, container, "no other network of the container leads out");
        }
        Ok(())
    }

    /// Removes the endpoint's interface.
    pub(super) fn disconnect(&self, record: &EndpointRecord) -> Result<()> {
        // A network with an endpoint is there.
        match self.records.bare_network(&record.endpoint.network)? {
            Some(network) => Driver::of(&network)?.disconnect(&self.owner, record),
            None => Ok(()),
        }
    }

    /// Gives the default route to another endpoint of the container, when the one that had it is gone.
    fn pass_default_route(&self, gone: &EndpointRecord) -> Result<()> {
        if !gone.leads_out() {
            return Ok(());
        }
        let others = self.records.of_container(&gone.endpoint.container)?;
        for record in others {
            if self.has_default_route(&record.endpoint)?
                && let Some(namespace) = record.place.reopen()
            {
                return links::set_default_route(&mut namespace.route()?, &record);
            }
        }
        Ok(())
    }

    pub(super) fn rename(&self, name: &Name, id: &ContainerId, names: &[String]) -> Result<()> {
        self.records.change_endpoint(name, id, |endpoint| endpoint.options.names = names.to_vec())?;
        self.write_zone(name)
    }
}

/// The routers of an endpoint: those of its addresses' subnets, unless the network has no way out.
fn gateways(network: &NetworkInfo, endpoint: &Endpoint) -> Vec<IpAddr> {
    if network.options.internal {
        return Vec::new();
    }
    let subnet_of = |ip: &IpAddr| network.options.subnets.iter().find(|one| one.subnet.contains(*ip));
    endpoint.addresses.iter().filter_map(|ip| subnet_of(ip)?.gateway).collect()
}
