//! The operations, one blocking function each.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use engine_core::linux::netlink::Route;
use engine_core::network::names::Zone;
use engine_core::network::{Attachment, Endpoint, EndpointOptions, MacAddress, NetworkInfo, NetworkOptions};
use engine_core::runtime::Sandbox;
use engine_core::{ContainerId, Error, ErrorKind, Name, Result};
use rustix::fs::FlockOperation;

use super::options::BridgeOptions;
use super::place::{Namespace, Place};
use super::records::{EndpointRecord, Records};
use super::reserve::Reach;
use super::rules::{Bridge, Rules};
use super::watch::Watch;
use super::{DEFAULT_NETWORK, addresses, links, reserve, resolver};

#[derive(Debug)]
pub(super) struct Driver {
    /// Names the engine in the kernel.
    owner: String,
    records: Records,
    rules: Rules,
    /// Taken shared by what adds to the kernel or takes from it, alone by what makes it all anew.
    lock: PathBuf,
    /// Where the files with names are.
    zones: PathBuf,
    watch: OnceLock<Option<Watch>>,
    /// There were no records before.
    fresh: bool,
}

/// Name of the file that is locked. It is there once networks were used since the machine's start.
const LOCK: &str = "networks.lock";

/// Whether there can be something of the networks' in the kernel.
pub(super) fn was_used(run_root: &Path) -> bool {
    run_root.join(LOCK).exists()
}

fn lock(path: &Path, how: FlockOperation) -> Result<File> {
    let fail = |error| Error::from_io("lock networks", error).with("path", path.display());
    let file = File::options().create(true).append(true).open(path).map_err(fail)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, how)).map_err(|error| fail(error.into()))?;
    Ok(file)
}

fn is_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

impl Driver {
    pub(super) fn open(root: &Path, run_root: &Path) -> Result<Self> {
        let zones = run_root.join("networks");
        for dir in [root, run_root, &zones] {
            std::fs::create_dir_all(dir)
                .map_err(|error| Error::from_io("make directory", error).with("path", dir.display()))?;
        }
        let owner = engine_core::linux::owner_id(root);
        let mut driver = Self {
            records: Records::open(&root.join("networks.db"))?,
            rules: Rules::new(&owner),
            lock: run_root.join(LOCK),
            zones,
            watch: OnceLock::new(),
            fresh: false,
            owner,
        };
        let default: Name = DEFAULT_NETWORK.parse()?;
        if driver.records.network(&default)?.is_none() {
            driver.fresh = true;
            match driver.add(&default, NetworkOptions::default()) {
                // Another program was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => drop(made?),
            }
        }
        Ok(driver)
    }

    fn lock(&self, how: FlockOperation) -> Result<File> {
        lock(&self.lock, how)
    }

    /// Writes the record of a new network. It gets its bridge with its first endpoint.
    fn add(&self, name: &Name, mut options: NetworkOptions) -> Result<NetworkInfo> {
        let fail = |kind| Error::new(kind, "create network").with("network", name);
        if let Some(driver) = options.driver.as_deref().filter(|driver| *driver != "bridge") {
            return Err(fail(ErrorKind::Unsupported)
                .with("driver", driver)
                .with_message("there is no such network driver")
                .with_hint("the driver is bridge; host and none are modes of a container"));
        }
        if let Some(ipam) = options.ipam_driver.as_deref().filter(|ipam| *ipam != "default") {
            return Err(fail(ErrorKind::Unsupported)
                .with("driver", ipam)
                .with_message("there is no such driver for addresses"));
        }
        options.driver = Some("bridge".to_owned());
        let mut info = NetworkInfo::new(name.clone(), options);
        if name.as_str() == DEFAULT_NETWORK {
            let bridge = BridgeOptions::of(&info.id, name, &info.options)?.bridge;
            BridgeOptions::mark_default(&mut info.options, &bridge);
        }
        let routes = addresses::host_routes(&mut Route::open()?)?;
        self.records.add_network(name, |others| {
            let taken: Vec<_> =
                others.iter().flat_map(|other| &other.options.subnets).map(|one| one.subnet).collect();
            addresses::complete(name, &mut info.options, &taken, &routes)?;
            let bridge = BridgeOptions::of(&info.id, name, &info.options)?.bridge;
            for other in others {
                if BridgeOptions::of(&other.id, &other.name, &other.options)?.bridge == bridge {
                    return Err(fail(ErrorKind::Conflict)
                        .with("interface", &bridge)
                        .with_message(format!("network {} has the bridge of this name", other.name)));
                }
            }
            Ok(info)
        })
    }

    pub(super) fn create(&self, name: &Name, options: NetworkOptions) -> Result<NetworkInfo> {
        self.add(name, options).map(|network| self.with_names(network))
    }

    pub(super) fn inspect(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        Ok(self.records.network(name)?.map(|network| self.with_names(network)))
    }

    pub(super) fn list(&self) -> Result<Vec<NetworkInfo>> {
        Ok(self.records.networks()?.into_iter().map(|network| self.with_names(network)).collect())
    }

    /// Says where the names of a network are.
    fn with_names(&self, mut network: NetworkInfo) -> NetworkInfo {
        network.names = (network.name.as_str() != DEFAULT_NETWORK).then(|| self.zone_file(&network));
        network
    }

    pub(super) fn remove(&self, name: &Name) -> Result<()> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let Some(network) = self.records.remove_network(name)? else { return Ok(()) };
        let options = BridgeOptions::of(&network.id, name, &network.options)?;
        let mut route = Route::open()?;
        let removed = links::remove_named(&mut route, &self.owner, &options.bridge);
        let _ = std::fs::remove_file(self.zone_file(&network));
        self.synchronize()?;
        removed
    }

    /// What the rules are to be, by the records.
    fn wanted_rules(&self) -> Result<(Vec<Bridge>, Vec<Endpoint>)> {
        let there: BTreeSet<String> =
            links::owned(&mut Route::open()?, &self.owner)?.into_iter().map(|(_, what)| what).collect();
        let mut bridges = Vec::new();
        for network in self.records.networks()?.into_iter().filter(|network| there.contains(&network.id)) {
            let options = BridgeOptions::of(&network.id, &network.name, &network.options)?;
            bridges.push(Bridge { options, internal: network.options.internal });
        }
        let endpoints = self.records.endpoints()?.into_iter().map(|record| record.endpoint).collect();
        Ok((bridges, endpoints))
    }

    /// Makes the table of rules anew from the records. To be called with the lock alone.
    fn synchronize(&self) -> Result<()> {
        let (bridges, endpoints) = self.wanted_rules()?;
        if bridges.is_empty() {
            // Nothing is left that it would be for.
            return self.rules.remove();
        }
        self.rules.replace(&bridges, &endpoints)
    }

    /// Makes the rules anew if they are not what they are to be. Returns whether they were not.
    pub(super) fn verify(&self) -> Result<bool> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let (bridges, endpoints) = self.wanted_rules()?;
        if bridges.is_empty() || self.rules.are_of(&bridges, &endpoints)? {
            return Ok(false);
        }
        self.rules.replace(&bridges, &endpoints)?;
        Ok(true)
    }

    /// Watches over the rules from now on, as long as this value lives.
    pub(super) fn watch(self: &Arc<Self>) {
        self.watch.get_or_init(|| {
            Watch::begin(Arc::downgrade(self), self.rules.table())
                .inspect_err(|error| tracing::warn!(%error, "the rules of networks are not watched"))
                .ok()
        });
    }

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
        let options = BridgeOptions::of(&network.id, name, &network.options)?;
        let (place, namespace) = Place::of(sandbox)?;
        let mut inside = namespace.route()?;
        let interface = match &wanted.interface {
            Some(interface) => {
                engine_core::linux::netlink::check_link_name(interface)?;
                interface.clone()
            }
            None => links::free_name(&mut inside)?,
        };
        let reach = Reach::of(&network);
        let reserve = |mapping| reserve::reserve(mapping, options.host_binding, reach);
        let reserved = wanted.ports.iter().map(reserve).collect::<Result<Vec<_>>>()?;
        let ports = reserved.iter().map(|one| one.mapping.clone()).collect();
        let (lock, bridge) = self.with_bridge(&network, &options)?;
        let make = |network: &NetworkInfo, taken: &BTreeSet<IpAddr>| {
            let mut endpoint = Endpoint::new(sandbox.id.clone(), name.clone(), wanted.clone());
            endpoint.addresses = addresses::choose(network, wanted, taken)?;
            endpoint.mac = Some(wanted.mac.unwrap_or_else(|| hardware_address(&endpoint)));
            endpoint.gateways = gateways(network, &endpoint);
            (endpoint.interface, endpoint.ports) = (interface, ports);
            Ok(EndpointRecord { endpoint, place: place.clone() })
        };
        let (network, record) = self.records.add_endpoint(name, &sandbox.id, make)?;
        let endpoint = record.endpoint;
        let made = self.connect(&network, &options, bridge, &endpoint, &namespace, &mut inside);
        drop(lock);
        let made = match made {
            // Somebody flushed the rules.
            Ok(false) => self.lock(FlockOperation::LockExclusive).and_then(|_lock| self.synchronize()),
            made => made.map(drop),
        };
        if let Err(mut error) = made {
            if let Err(later) = self.detach(name, &sandbox.id) {
                error.suppress(later);
            }
            return Err(error);
        }
        let mut attachment = Attachment::new(endpoint);
        let addresses = attachment.endpoint.addresses.clone();
        attachment.reserved = reserved.into_iter().flat_map(|one| one.into_kept(&addresses)).collect();
        attachment.names = (!options.default).then(|| self.zone_file(&network));
        Ok(attachment)
    }

    /// Finds the network's bridge, or makes it and the rules that know it. Returns it with the shared lock.
    fn with_bridge(&self, network: &NetworkInfo, options: &BridgeOptions) -> Result<(File, u32)> {
        let find = || links::bridge(&mut Route::open()?, &self.owner, network, options);
        let lock = self.lock(FlockOperation::LockShared)?;
        if let Some(index) = find()? {
            return Ok((lock, index));
        }
        drop(lock);
        let lock = self.lock(FlockOperation::LockExclusive)?;
        let index = match find()? {
            Some(index) => index,
            None => {
                let index = links::make_bridge(&mut Route::open()?, &self.owner, network, options)?;
                self.synchronize()?;
                index
            }
        };
        // Nobody comes between: the lock is changed, not taken anew. Where the kernel does let somebody (flock(2)), the
        // network can be gone, and then its record is, too.
        rustix::fs::flock(&lock, FlockOperation::LockShared)
            .map_err(|error| Error::from_io("lock networks", error.into()))?;
        Ok((lock, index))
    }

    /// Makes everything of an endpoint. Returns whether the rules are complete.
    fn connect(
        &self,
        network: &NetworkInfo,
        options: &BridgeOptions,
        bridge: u32,
        endpoint: &Endpoint,
        namespace: &Namespace,
        inside: &mut Route,
    ) -> Result<bool> {
        links::make_pair(&mut Route::open()?, &self.owner, bridge, endpoint, options, namespace.as_fd())?;
        namespace.configure(inside, network, endpoint, self.has_default_route(endpoint)?)?;
        if !options.default {
            resolver::redirect(namespace)?;
            self.write_zone(&network.name)?;
        }
        match self.rules.publish(endpoint) {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The file with the network's names.
    fn zone_file(&self, network: &NetworkInfo) -> PathBuf {
        self.zones.join(&network.id)
    }

    /// Writes the names of the network as the records have them now. The default network has none, as with Docker.
    fn write_zone(&self, name: &Name) -> Result<()> {
        // One at a time, from reading to writing: the last one written has everything.
        let _lock = lock(&self.zones.join("lock"), FlockOperation::LockExclusive)?;
        let Some(network) = self.records.network(name)? else { return Ok(()) };
        let mut zone = Zone::new();
        network.endpoints.iter().for_each(|endpoint| zone.add_endpoint(endpoint));
        zone.write(&self.zone_file(&network))
    }

    /// Whether the endpoint is the one of its container that packets leave by: the first of the highest priority that has a
    /// way out.
    fn has_default_route(&self, endpoint: &Endpoint) -> Result<bool> {
        let others = self.records.of_container(&endpoint.container)?;
        let best = others
            .iter()
            .map(|record| &record.endpoint)
            .filter(|other| !other.gateways.is_empty())
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
        // A namespace that is gone takes both ends with it, without anybody waiting for that.
        if record.place.reopen().is_some() {
            links::remove_named(&mut Route::open()?, &self.owner, &links::host_end(endpoint))?;
        }
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
        self.pass_default_route(&record)
    }

    /// Gives the default route to another endpoint of the container, when the one that had it is gone.
    fn pass_default_route(&self, gone: &EndpointRecord) -> Result<()> {
        if gone.endpoint.gateways.is_empty() {
            return Ok(());
        }
        let others = self.records.of_container(&gone.endpoint.container)?;
        for record in others {
            if self.has_default_route(&record.endpoint)?
                && let Some(namespace) = record.place.reopen()
            {
                return links::set_default_route(&mut namespace.route()?, &record.endpoint);
            }
        }
        Ok(())
    }

    pub(super) fn rename(&self, name: &Name, id: &ContainerId, names: &[String]) -> Result<()> {
        self.records.change_endpoint(name, id, |endpoint| endpoint.options.names = names.to_vec())?;
        self.write_zone(name)
    }

    /// Removes endpoints, and what is in the kernel without a record if there were none before.
    pub(super) fn sweep(&self, gone: &[Endpoint]) -> Result<()> {
        let strangers = if self.fresh { self.strangers()? } else { Vec::new() };
        if gone.is_empty() && strangers.is_empty() {
            if self.is_used()? && !self.rules.are_there()? {
                self.verify()?;
            }
            return Ok(());
        }
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut route = Route::open()?;
        for endpoint in gone {
            let there = self.records.endpoint(&endpoint.network, &endpoint.container)?;
            if there.is_some_and(|record| record.endpoint.id == endpoint.id) {
                links::remove_named(&mut route, &self.owner, &links::host_end(endpoint))?;
                self.records.remove_endpoint(&endpoint.network, &endpoint.container)?;
            }
        }
        for index in strangers {
            links::remove(&mut route, index)?;
        }
        for name in gone.iter().map(|endpoint| &endpoint.network).collect::<BTreeSet<_>>() {
            self.write_zone(name)?;
        }
        self.synchronize()
    }

    /// Whether there are endpoints.
    pub(super) fn is_used(&self) -> Result<bool> {
        self.records.has_endpoints()
    }

    /// Interfaces of this engine that no record knows.
    fn strangers(&self) -> Result<Vec<u32>> {
        let mut known: BTreeSet<String> =
            self.records.networks()?.into_iter().map(|network| network.id).collect();
        known.extend(self.records.endpoints()?.into_iter().map(|record| record.endpoint.id));
        let owned = links::owned(&mut Route::open()?, &self.owner)?;
        Ok(owned.into_iter().filter(|(_, what)| !known.contains(what)).map(|(index, _)| index).collect())
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

/// A locally administered hardware address from the IPv4 address, as Docker's, so that a reused address keeps it; else from
/// the endpoint's id.
fn hardware_address(endpoint: &Endpoint) -> MacAddress {
    let v4 = endpoint.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(v4.octets()),
        IpAddr::V6(_) => None,
    });
    match v4 {
        Some([a, b, c, d]) => MacAddress([0x02, 0x42, a, b, c, d]),
        None => links::local_address(&endpoint.id),
    }
}
