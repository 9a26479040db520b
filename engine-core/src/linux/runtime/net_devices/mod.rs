//! Network interfaces of the host that a container gets (`linux.netDevices` of the runtime specification).
//!
//! This module decides what may move and when; `device` does it with one interface. They move once the container's
//! namespaces are there and before its program runs. From then on they are the namespace's: runs by restart policy find
//! them in it, since it is held, and at its end the kernel takes physical ones back to the host's namespace and destroys
//! virtual ones (network_namespaces(7)). The specification forbids us to move them out of a container that ran.
//! Invariant: until the program runs, a failure gives all of them back as they were.

mod device;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use oci_spec::runtime::Linux;

use device::Device;

use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::netlink::{Route, check_link_name};
use crate::linux::plan::LaunchPlan;

use super::container::not_running;
use super::translate::NEWNET;
use super::{Inner, blocking};

const OPERATION: &str = "move network interface";

/// One interface, and its name in the container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wish {
    host: String,
    inside: String,
}

impl Wish {
    /// Whether the kernel is to put a number into the name.
    fn is_template(&self) -> bool {
        self.inside.contains('%')
    }

    fn error(&self, kind: ErrorKind) -> Error {
        let error = Error::new(kind, OPERATION).with("interface", &self.host);
        if self.inside == self.host { error } else { error.with("name in the container", &self.inside) }
    }

    /// The failure of a step, told as one of the start.
    fn failed(&self, error: Error) -> Error {
        let kind = match error.kind() {
            // Of the interface, not of a container.
            ErrorKind::NotFound => ErrorKind::InvalidArgument,
            ErrorKind::AlreadyExists => ErrorKind::Conflict,
            kind => kind,
        };
        let hint = (error.kind() == ErrorKind::NotFound).then_some(
            "an interface that a container has is not the host's until the container has ended, and a virtual one ends with it",
        );
        let error = self.error(kind).with_source(error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// What the specification asks for, in an order that is always the same.
pub(super) fn wishes(linux: Option<&Linux>, plan: &LaunchPlan) -> Result<Vec<Wish>> {
    let Some(devices) = linux.and_then(|linux| linux.net_devices().as_ref()) else { return Ok(Vec::new()) };
    let mut wishes: Vec<Wish> = devices
        .iter()
        .map(|(host, device)| Wish {
            host: host.clone(),
            inside: device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone()),
        })
        .collect();
    wishes.sort_by(|a, b| a.host.cmp(&b.host));
    for (at, wish) in wishes.iter().enumerate() {
        for name in [&wish.host, &wish.inside] {
            check_link_name(name).map_err(|error| wish.failed(error))?;
        }
        if wish.is_template() && (wish.inside.matches('%').count() > 1 || !wish.inside.contains("%d")) {
            return Err(wish
                .error(ErrorKind::InvalidArgument)
                .with_message("the only pattern in a name is one %d"));
        }
        if !wish.is_template() && wishes[..at].iter().any(|other| other.inside == wish.inside) {
            return Err(wish
                .error(ErrorKind::InvalidArgument)
                .with_message("two interfaces would have the same name in the container"));
        }
    }
    let network = u32::try_from(NEWNET).is_ok_and(|kind| plan.joins.iter().any(|(of, _)| *of == kind));
    if plan.namespaces & NEWNET == 0
        && !network
        && let Some(wish) = wishes.first()
    {
        return Err(no_namespace(wish));
    }
    Ok(wishes)
}

fn no_namespace(wish: &Wish) -> Error {
    wish.error(ErrorKind::InvalidArgument)
        .with_message("the container is in the host's network namespace")
        .with_hint("give it a network namespace of its own")
}

/// Checks that the interfaces are there, before anything is made for the container.
pub(super) fn check(wishes: &[Wish]) -> Result<()> {
    if wishes.is_empty() {
        return Ok(());
    }
    let mut host = Route::open()?;
    wishes.iter().try_for_each(|wish| host.link(&wish.host).map(drop).map_err(|error| wish.failed(error)))
}

/// Interfaces that were moved into a container whose program does not run yet.
#[derive(Debug)]
pub(super) struct Moved {
    /// The namespace they came from.
    home: File,
    host: Route,
    /// Holds the container's namespace, even when its processes are gone.
    inside: Route,
    devices: Vec<Device>,
}

impl Moved {
    /// Moves interfaces out of the calling thread's namespace.
    pub(super) fn into(namespace: &File, wishes: &[Wish]) -> Result<Self> {
        let failed = |error| Error::from_io(OPERATION, error);
        let home = File::open("/proc/thread-self/ns/net").map_err(failed)?;
        let (ours, theirs) = (home.metadata().map_err(failed)?, namespace.metadata().map_err(failed)?);
        if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
            && let Some(wish) = wishes.first()
        {
            return Err(no_namespace(wish));
        }
        let (host, inside) = (Route::open()?, Route::open_in(namespace.as_fd())?);
        let mut moved = Self { home, host, inside, devices: Vec::new() };
        for wish in wishes {
            if let Err(error) = moved.add(namespace, wish) {
                let mut error = wish.failed(error);
                if let Err(later) = moved.give_back() {
                    error.suppress(later);
                }
                return Err(error);
            }
        }
        Ok(moved)
    }

    fn add(&mut self, namespace: &File, wish: &Wish) -> Result<()> {
        let device = Device::read(&mut self.host, &wish.host)?;
        if !wish.is_template() && self.inside.link(&wish.inside).is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, "rename interface")
                .with("interface", &wish.inside)
                .with_message("the container has an interface of this name"));
        }
        let way = (self.home.as_fd(), namespace.as_fd());
        let device = device.enter(&mut self.host, &mut self.inside, way, &wish.inside)?;
        // From here on it is given back, whatever fails.
        self.devices.push(device);
        let device = &self.devices[self.devices.len() - 1];
        device.set_up(&mut self.inside)
    }

    /// Gives the interfaces back: with their names, addresses and state.
    pub(super) fn give_back(mut self) -> Result<()> {
        let mut result = Ok(());
        for device in self.devices.iter().rev() {
            if let Err(later) = device.leave(&mut self.inside, &mut self.host, self.home.as_fd()) {
                match &mut result {
                    Ok(()) => result = Err(later),
                    Err(first) => first.suppress(later),
                }
            }
        }
        result
    }
}

impl Inner {
    /// Moves interfaces of the host into the container whose first process is `pid` and waits.
    pub(in crate::linux::runtime) async fn move_net_devices(
        self: &Arc<Self>,
        id: &ContainerId,
        pid: u32,
        wishes: Vec<Wish>,
    ) -> Result<Moved> {
        let (inner, id) = (Arc::clone(self), id.clone());
        blocking(move || {
            let failed = |error| Error::from_io(OPERATION, error);
            let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(failed)?;
            // The namespace of that process, and not of another that has got its number meanwhile.
            if !inner.state_file(OPERATION, &id)?.is_alive() {
                return Err(not_running(OPERATION, &id));
            }
            Moved::into(&namespace, &wishes)
        })
        .await
    }

    /// Gives interfaces back that were moved into a container, unless its program ran after all: another instance may have
    /// started it.
    pub(in crate::linux::runtime) async fn give_net_devices_back(
        &self,
        id: &ContainerId,
        moved: Option<Moved>,
    ) -> Result<()> {
        let Some(moved) = moved else { return Ok(()) };
        let ran = self
            .state_file(OPERATION, id)
            .is_ok_and(|state| state.started > 0 && (state.failure.is_none() || state.restarts > 0));
        if ran { Ok(()) } else { blocking(move || moved.give_back()).await }
    }
}
