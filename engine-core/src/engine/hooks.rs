//! Hooks: closures of the program that decide what is admitted, and see what happens.
//!
//! They run inside the operation they are asked about, in the order they were given, before anything is made; the first
//! refusal fails it. A program's hooks bind that program only: others over the same root have their own.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use crate::container_spec::{ContainerSpec, MountSpec, NetworkMode};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, EventQuery};
use crate::id::Name;
use crate::image_config::{ImageConfig, ProcessDefaults};
use crate::network::PortMapping;

use super::LocalEngine;
use super::network_use::{port_network, published_ports};

/// Why a hook refuses: a lowercase fragment for people, as in `"only images of registry.example may run"`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    /// Creates a refusal.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Refusal {
    fn from(reason: T) -> Self {
        Self::new(reason)
    }
}

/// What a hook says.
pub type Admission = std::result::Result<(), Refusal>;

/// An image that is about to come into the store, or a container is about to be made of.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ImageRequest<'a> {
    /// What it was asked for by.
    pub name: &'a str,
    /// Its manifest.
    pub manifest: &'a Digest,
    /// Its configuration; `None` for an artifact, which is no image.
    pub config: Option<&'a ImageConfig>,
    /// The container that is to be made of it; `None` for a pull.
    pub spec: Option<&'a ContainerSpec>,
}

/// Something that is about to be mounted into a container: asked when the container is created, and at each start.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MountRequest<'a> {
    /// The container's name, if it has one yet.
    pub name: Option<&'a Name>,
    /// What is mounted.
    pub mount: &'a MountSpec,
    /// The container as it was asked for.
    pub spec: &'a ContainerSpec,
}

/// A port that is about to be published: asked when the container is created, and at each start.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PortRequest<'a> {
    /// The container's name, if it has one yet.
    pub name: Option<&'a Name>,
    /// The network.
    pub network: &'a Name,
    /// The port.
    pub port: &'a PortMapping,
    /// The container as it was asked for.
    pub spec: &'a ContainerSpec,
}

type ImageHook = Arc<dyn Fn(&ImageRequest<'_>) -> Admission + Send + Sync>;
type MountHook = Arc<dyn Fn(&MountRequest<'_>) -> Admission + Send + Sync>;
type PortHook = Arc<dyn Fn(&PortRequest<'_>) -> Admission + Send + Sync>;
type EventHook = Arc<dyn Fn(&Event) + Send + Sync>;

/// The hooks of an engine.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) images: Vec<ImageHook>,
    pub(super) mounts: Vec<MountHook>,
    pub(super) ports: Vec<PortHook>,
    pub(super) events: Vec<EventHook>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("images", &self.images.len())
            .field("mounts", &self.mounts.len())
            .field("ports", &self.ports.len())
            .field("events", &self.events.len())
            .finish()
    }
}

impl Hooks {
    /// Asks whether an image may come in.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] with the reason.
    pub(super) fn admit_image(&self, request: &ImageRequest<'_>) -> Result<()> {
        for hook in &self.images {
            hook(request).map_err(|refusal| refused("admit image", &refusal).with("image", request.name))?;
        }
        Ok(())
    }

    /// Asks whether all that a container mounts and publishes may be.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] with the reason.
    pub(super) fn admit_container(
        &self,
        name: Option<&Name>,
        spec: &ContainerSpec,
        image: &ProcessDefaults,
    ) -> Result<()> {
        for mount in &spec.mounts {
            for hook in &self.mounts {
                hook(&MountRequest { name, mount, spec }).map_err(|refusal| {
                    let target = match mount {
                        MountSpec::Mount(mount) => &mount.target,
                        MountSpec::Volume { target, .. } | MountSpec::Image { target, .. } => target,
                    };
                    refused("admit mount", &refusal).with("target", target.display())
                })?;
            }
        }
        if self.ports.is_empty() {
            return Ok(());
        }
        let NetworkMode::Networks(networks) = &spec.network else { return Ok(()) };
        let own =
            networks.iter().flat_map(|(network, options)| options.ports.iter().map(move |p| (network, p)));
        let published = published_ports(spec, image);
        let leading = port_network(spec).into_iter();
        for (network, port) in
            own.chain(leading.flat_map(|network| published.iter().map(move |p| (network, p))))
        {
            for hook in &self.ports {
                hook(&PortRequest { name, network, port, spec }).map_err(|refusal| {
                    let text = format!("{}:{}/{}", port.host_port, port.container_port, port.protocol);
                    refused("admit port", &refusal).with("port", text)
                })?;
            }
        }
        Ok(())
    }
}

fn refused(operation: &'static str, refusal: &Refusal) -> Error {
    Error::new(ErrorKind::PermissionDenied, operation)
        .with_message(refusal.reason().to_owned())
        .with_hint("a hook of this program decides so")
}

/// Calls the hooks that see events, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower(JoinHandle<()>);

impl Follower {
    pub(super) async fn begin(engine: &LocalEngine) -> Result<Option<Self>> {
        let hooks = engine.inner.hooks.events.clone();
        if hooks.is_empty() {
            return Ok(None);
        }
        let journal = engine.inner.outbox.journal().clone();
        let mut events = journal.read(EventQuery::default()).await?;
        Ok(Some(Self(tokio::spawn(async move {
            loop {
                match events.next().await {
                    Some(Ok(event)) => hooks.iter().for_each(|hook| hook(&event)),
                    Some(Err(error)) => tracing::warn!(%error, "event hooks missed events"),
                    None => match journal.read(EventQuery::default()).await {
                        Ok(again) => events = again,
                        Err(error) => {
                            tracing::warn!(%error, "event hooks are not called any more");
                            return;
                        }
                    },
                }
            }
        }))))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}
