//! What there is: the engine's networks, made, listed and removed.
//!
//! Invariant: a network's record is there before anything of it is in the kernel, and goes after the last of that is gone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine_core::linux::netlink::Route;
use engine_core::network::names::Zone;
use engine_core::network::{NetworkInfo, NetworkOptions};
use engine_core::{Error, ErrorKind, Name, Result};
use rustix::fs::FlockOperation;

use super::bridge::rules::Rules;
use super::driver::Driver;
use super::records::Records;
use super::watch::Watch;
use super::{AddressPool, DEFAULT_NETWORK, addresses, links};

/// The networks over one root, one blocking function for each operation.
#[derive(Debug)]
pub(super) struct Networks {
    /// Names the engine in the kernel.
    pub(super) owner: String,
    pub(super) records: Records,
    pub(super) rules: Rules,
    /// Taken shared by what adds to the kernel or takes from it, alone by what makes it all anew.
    lock: PathBuf,
    /// Where the files with names are.
    zones: PathBuf,
    pools: Vec<AddressPool>,
    pub(super) watch: OnceLock<Option<Watch>>,
    /// There were no records before.
    pub(super) fresh: bool,
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

impl Networks {
    pub(super) fn open(root: &Path, run_root: &Path, pools: Vec<AddressPool>) -> Result<Self> {
        let zones = run_root.join("networks");
        for dir in [root, run_root, &zones] {
            std::fs::create_dir_all(dir)
                .map_err(|error| Error::from_io("make directory", error).with("path", dir.display()))?;
        }
        let owner = engine_core::linux::owner_id(root);
        let mut networks = Self {
            records: Records::open(&root.join("networks.db"))?,
            rules: Rules::new(&owner),
            lock: run_root.join(LOCK),
            zones,
            pools,
            watch: OnceLock::new(),
            fresh: false,
            owner,
        };
        let default: Name = DEFAULT_NETWORK.parse()?;
        if networks.records.network(&default)?.is_none() {
            networks.fresh = true;
            match networks.add(&default, NetworkOptions::default()) {
                // Another program was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => drop(made?),
            }
        }
        Ok(networks)
    }

    pub(super) fn lock(&self, how: FlockOperation) -> Result<File> {
        lock(&self.lock, how)
    }

    /// Writes the record of a new network. It gets its interface on the host with its first endpoint.
    fn add(&self, name: &Name, options: NetworkOptions) -> Result<NetworkInfo> {
        let fail = |kind| Error::new(kind, "create network").with("network", name);
        if let Some(ipam) = options.ipam_driver.as_deref().filter(|ipam| *ipam != "default") {
            return Err(fail(ErrorKind::Unsupported)
                .with("driver", ipam)
                .with_message("there is no such driver for addresses"));
        }
        let mut info = NetworkInfo::new(name.clone(), options);
        let mut route = Route::open()?;
        Driver::complete(&mut info, &mut route)?;
        let routes = addresses::host_routes(&mut route)?;
        self.records.add_network(name, |others| {
            let taken: Vec<_> =
                others.iter().flat_map(|other| &other.options.subnets).map(|one| one.subnet).collect();
            let has_router = Driver::of(&info)?.has_router(&info);
            addresses::complete(name, &mut info.options, &taken, &routes, &self.pools, has_router)?;
            // Once more, since subnets mean more than was said before.
            let driver = Driver::of(&info)?;
            for other in others {
                if let Some((interface, why)) = driver.conflict(other, &Driver::of(other)?) {
                    return Err(fail(ErrorKind::Conflict).with("interface", interface).with_message(why));
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
        // Nobody is put on it meanwhile.
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let Some(network) = self.records.unused_network(name)? else { return Ok(()) };
        if let Some(interface) = Driver::of(&network)?.own_interface() {
            let mut route = Route::open()?;
            links::remove_unfinished(&mut route, &network)?;
            match self.also_on(&network, interface)? {
                Some(other) => links::pass_on(&mut route, &self.owner, interface, &other.id)?,
                None => links::remove_named(&mut route, &self.owner, interface)?,
            }
        }
        let zone = self.zone_file(&network);
        // One that was being written has the other name.
        for file in [zone.with_extension("new"), zone] {
            let _ = std::fs::remove_file(file);
        }
        self.synchronize()?;
        self.records.remove_network(name)
    }

    /// Another network that has this interface of the engine's, too.
    fn also_on(&self, network: &NetworkInfo, interface: &str) -> Result<Option<NetworkInfo>> {
        for other in self.records.networks()? {
            if other.id != network.id && Driver::of(&other)?.own_interface() == Some(interface) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// The file with the network's names.
    pub(super) fn zone_file(&self, network: &NetworkInfo) -> PathBuf {
        self.zones.join(&network.id)
    }

    /// Writes the names of the network as the records have them now. The default network has none, as with Docker.
    pub(super) fn write_zone(&self, name: &Name) -> Result<()> {
        // One at a time, from reading to writing: the last one written has everything.
        let _lock = lock(&self.zones.join("lock"), FlockOperation::LockExclusive)?;
        let Some(network) = self.records.network(name)? else { return Ok(()) };
        let mut zone = Zone::new();
        network.endpoints.iter().for_each(|endpoint| zone.add_endpoint(endpoint));
        zone.write(&self.zone_file(&network))
    }
}
