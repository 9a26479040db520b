//! What differs between the drivers of networks: which interfaces they make, and how packets leave.
//!
//! This module says which driver a network has and asks that one; `bridge` and `vlan` are the drivers. Records, addresses,
//! names and the order of things are the same for all.

use engine_core::linux::netlink::Route;
use engine_core::network::{Endpoint, EndpointOptions, MacAddress, NetworkInfo};
use engine_core::{Error, ErrorKind, Result};

use super::bridge::BridgeOptions;
use super::place::Namespace;
use super::records::{EndpointRecord, Way};
use super::vlan::VlanOptions;
use super::{DEFAULT_NETWORK, bridge, links, vlan};

/// A network's driver, with the network's options.
#[derive(Clone, Debug)]
pub(super) enum Driver {
    Bridge(BridgeOptions),
    /// macvlan or ipvlan.
    Vlan(VlanOptions),
}

impl Driver {
    /// Reads the options of a network.
    pub(super) fn of(network: &NetworkInfo) -> Result<Self> {
        let (name, options) = (&network.name, &network.options);
        match options.driver.as_deref().unwrap_or("bridge") {
            "bridge" => BridgeOptions::of(&network.id, name, options).map(Self::Bridge),
            kind @ ("macvlan" | "ipvlan") => {
                VlanOptions::of(kind, &network.id, name, options).map(Self::Vlan)
            }
            driver => Err(Error::new(ErrorKind::Unsupported, "create network")
                .with("network", name)
                .with("driver", driver)
                .with_message("there is no such network driver")
                .with_hint(
                    "the drivers are bridge, macvlan and ipvlan; host and none are modes of a container",
                )),
        }
    }

    /// Checks a new network, and writes into its options what follows from them.
    pub(super) fn complete(network: &mut NetworkInfo, route: &mut Route) -> Result<()> {
        match Self::of(network)? {
            Self::Bridge(options) => {
                network.options.driver = Some("bridge".to_owned());
                if network.name.as_str() == DEFAULT_NETWORK {
                    BridgeOptions::mark_default(&mut network.options, &options.bridge);
                }
                Ok(())
            }
            Self::Vlan(options) => {
                vlan::check(route, network, &options)?;
                // Nobody else is on an interface that is made for the network.
                network.options.internal |= options.parent_is_own;
                Ok(())
            }
        }
    }

    /// Whether the network's subnets have a router's address.
    pub(super) fn has_router(&self, network: &NetworkInfo) -> bool {
        match self {
            // An internal bridge is the host's place on the network.
            Self::Bridge(_) => true,
            Self::Vlan(options) => !network.options.internal && options.way() == Way::Routers,
        }
    }

    /// What a network of this driver cannot have beside the network `other`: an interface, and why.
    pub(super) fn conflict(&self, other: &NetworkInfo, driver: &Self) -> Option<(String, String)> {
        match (self, driver) {
            (Self::Bridge(own), Self::Bridge(others)) if own.bridge == others.bridge => {
                Some((own.bridge.clone(), format!("network {} has the bridge of this name", other.name)))
            }
            (Self::Vlan(own), Self::Vlan(others)) if own.parent == others.parent => {
                Some((own.parent.clone(), own.conflict(&other.name, others)?))
            }
            _ => None,
        }
    }

    /// The interface of the host that is made for the network where it is not there, and removed with it.
    pub(super) fn own_interface(&self) -> Option<&str> {
        match self {
            Self::Bridge(options) => Some(&options.bridge),
            Self::Vlan(options) => options.can_make_parent().then_some(&options.parent),
        }
    }

    /// Finds the interface of the host that endpoints are made on. `None` if it has to be made.
    pub(super) fn find(&self, route: &mut Route, owner: &str, network: &NetworkInfo) -> Result<Option<u32>> {
        match self {
            Self::Bridge(options) => bridge::links::find(route, owner, network, options),
            Self::Vlan(options) => vlan::links::find(route, owner, network, options),
        }
    }

    /// Makes that interface.
    pub(super) fn make(&self, route: &mut Route, owner: &str, network: &NetworkInfo) -> Result<u32> {
        match self {
            Self::Bridge(options) => bridge::links::make(route, owner, network, options),
            Self::Vlan(options) => vlan::links::make(route, owner, network, options),
        }
    }

    /// Whether containers find each other by name. The default network has no names, as with Docker.
    pub(super) fn has_names(&self) -> bool {
        !matches!(self, Self::Bridge(BridgeOptions { default: true, .. }))
    }

    /// How packets leave for elsewhere.
    pub(super) fn way(&self, network: &NetworkInfo) -> Way {
        match self {
            Self::Vlan(options) if !network.options.internal => options.way(),
            _ => Way::Routers,
        }
    }

    /// The hardware address of a new endpoint, if it has one of its own.
    ///
    /// # Errors
    /// `InvalidArgument` if one is asked for that cannot be had.
    pub(super) fn hardware_address(
        &self,
        route: &mut Route,
        endpoint: &Endpoint,
        wanted: &EndpointOptions,
    ) -> Result<Option<MacAddress>> {
        match self {
            Self::Vlan(options) if options.shares_hardware_address() => {
                vlan::links::shared_address(route, options, wanted)
            }
            _ => Ok(Some(wanted.mac.unwrap_or_else(|| links::hardware_address(endpoint)))),
        }
    }

    /// Makes the endpoint's interface in the container, where it is not up yet, on the interface `on` of the host.
    pub(super) fn connect(
        &self,
        route: &mut Route,
        owner: &str,
        on: u32,
        endpoint: &Endpoint,
        namespace: &Namespace,
    ) -> Result<()> {
        match self {
            Self::Bridge(options) => {
                bridge::links::make_pair(route, owner, on, endpoint, options, namespace.as_fd())
            }
            Self::Vlan(options) => {
                vlan::links::make_interface(route, owner, on, endpoint, options, namespace)
            }
        }
        .map_err(|error| {
            error.with("network", &endpoint.network).with("container", endpoint.container.short())
        })
    }

    /// Removes the endpoint's interface, if it is there; in a container that has ended, the kernel does.
    pub(super) fn disconnect(&self, owner: &str, record: &EndpointRecord) -> Result<()> {
        let (endpoint, namespace) = (&record.endpoint, record.place.reopen());
        match (self, namespace) {
            (Self::Bridge(_), Some(_)) => {
                let name = bridge::links::host_end(endpoint);
                links::remove_named(&mut Route::open()?, owner, &name)
            }
            (Self::Bridge(_), None) => bridge::links::cut_off(&mut Route::open()?, owner, endpoint),
            (Self::Vlan(_), Some(namespace)) => {
                vlan::links::remove_interface(&mut namespace.route()?, owner, endpoint)
            }
            (Self::Vlan(_), None) => Ok(()),
        }
    }
}
