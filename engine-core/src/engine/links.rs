//! Links on the default network, which has no names: a container that is linked to others gets their addresses at its start,
//! and is told when they get others. On networks with names, a link is a name that one container's resolver knows.
//!
//! Invariant: a container's record knows who is linked to it before that one's record is there; an id too much does no harm.

use crate::container_spec::{ContainerSpec, NetworkMode};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::image_config::ProcessDefaults;
use crate::network::names::ResolverAlias;
use crate::network::{Endpoint, EndpointOptions, Link};

use super::LocalEngine;
use super::endpoints::MAX_SHARING;
use super::launch::Linked;
use super::network_use::{exposed_ports, networks_in};
use super::records::Record;

impl LocalEngine {
    /// The links of a container on the default network.
    fn default_links<'a>(&self, spec: &'a ContainerSpec) -> &'a [Link] {
        match (&spec.network, self.default_network()) {
            (NetworkMode::Networks(list), Some(default)) => {
                list.iter().find(|(name, _)| name == default).map_or(&[], |(_, options)| &options.links)
            }
            _ => &[],
        }
    }

    /// Makes the links of a new container on the default network links to ids, which stay with a rename.
    pub(super) async fn resolve_links(&self, spec: &mut ContainerSpec) -> Result<()> {
        let Some(default) = self.default_network().cloned() else { return Ok(()) };
        let NetworkMode::Networks(list) = &mut spec.network else { return Ok(()) };
        let of_default = list.iter_mut().filter(|(name, _)| *name == default);
        for link in of_default.flat_map(|(_, options)| &mut options.links) {
            link.container = self.linked_record(link).await?.id.to_string();
        }
        Ok(())
    }

    /// The container that a link of a new container means: the one whose network it is.
    async fn linked_record(&self, link: &Link) -> Result<Record> {
        let wrong = |kind| Error::new(kind, "link container").with("container", &link.container);
        let mut text = link.container.clone();
        for _ in 0..MAX_SHARING {
            let found = self.inner.records.find(&text).map_err(|error| match error.kind() {
                ErrorKind::NotFound => wrong(ErrorKind::NotFound)
                    .with_message(format!("could not get container for {text}: no such container")),
                _ => error,
            })?;
            match &found.data.spec.network {
                NetworkMode::Container(other) => text.clone_from(other),
                NetworkMode::Host => {
                    return Err(wrong(ErrorKind::InvalidArgument)
                        .with_message("conflicting options: host type networking can't be used with links"));
                }
                _ => return Ok(found),
            }
        }
        Err(wrong(ErrorKind::InvalidArgument).with_message("its network is another's, and so on without end"))
    }

    /// Lets those that a container is linked to know it.
    pub(super) async fn register_links(&self, record: &Record) -> Result<()> {
        for link in self.default_links(&record.data.spec) {
            let id = record.id.clone();
            let known = self.change_linked(link, move |other| {
                if !other.data.linked_by.contains(&id) {
                    other.data.linked_by.push(id);
                }
            });
            known.await?;
        }
        Ok(())
    }

    /// Takes that back when the container is removed.
    pub(super) async fn forget_links(&self, record: &Record) -> Result<()> {
        for link in self.default_links(&record.data.spec) {
            let id = record.id.clone();
            self.change_linked(link, move |other| other.data.linked_by.retain(|known| *known != id)).await?;
        }
        Ok(())
    }

    async fn change_linked(
        &self,
        link: &Link,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<()> {
        let id = link.container.parse()?;
        let change = |record: &mut Record| {
            change(record);
            Ok(((), None))
        };
        match self.inner.records.revise(&id, change).await {
            // A link to what has gone is none.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            changed => changed,
        }
    }

    /// Looks up those that a container which starts is linked to on the default network.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if one does not run, or is not on that network.
    pub(super) async fn linked(&self, record: &Record) -> Result<Vec<Linked>> {
        let mut all = Vec::new();
        for link in self.default_links(&record.data.spec) {
            let Some(other) = self.inner.records.by_id(&link.container.parse()?)? else { continue };
            let fail = |why: String| {
                Error::new(ErrorKind::Conflict, "start container")
                    .with("container", record.id.short())
                    .with_message(why)
            };
            let (name, alias) = (&other.name, &link.alias);
            if !self.state_of(&other).await?.status.is_running() {
                let why =
                    format!("Cannot link to a non running container: /{name} AS /{}/{alias}", record.name);
                return Err(fail(why).with_hint(format!("start {name} first")));
            }
            let used = self.network_use(&other).await?.into_iter();
            let mut endpoints = used.filter(|used| used.is_default).filter_map(|used| used.endpoint);
            let endpoint = endpoints.next().ok_or_else(|| {
                fail(format!("Cannot link to /{name}, as it does not belong to the default network"))
            })?;
            all.push(linked_to(&other, link, &endpoint));
        }
        Ok(all)
    }

    /// Tells those that are linked to a container its new address on the default network.
    pub(super) async fn tell_linked(&self, record: &Record, endpoint: &Endpoint) -> Result<()> {
        if record.data.linked_by.is_empty() || self.default_network() != Some(&endpoint.network) {
            return Ok(());
        }
        for id in &record.data.linked_by {
            let Some(parent) = self.inner.records.by_id(id)? else { continue };
            if !self.has_sandbox(id).await? {
                continue;
            }
            let links = self.default_links(&parent.data.spec).iter();
            for link in links.filter(|link| link.container == record.id.as_str()) {
                let linked = linked_to(record, link, endpoint);
                self.replace_link_lines(&parent, &linked).await?;
            }
        }
        Ok(())
    }

    /// Says by their names whom a container is linked to on the default network, for showing.
    pub(super) async fn named_links(&self, network: &Name, options: &mut EndpointOptions) -> Result<()> {
        if self.has_names(network) {
            return Ok(());
        }
        let mut named = Vec::new();
        for link in std::mem::take(&mut options.links) {
            if let Some(other) = self.inner.records.by_id(&link.container.parse()?)? {
                named.push(Link::new(other.name.to_string(), link.alias));
            }
        }
        options.links = named;
        Ok(())
    }
}

/// The names that a container's links are for its resolver.
pub(super) fn aliases(
    spec: &ContainerSpec,
    default: Option<&Name>,
    has_names: impl Fn(&Name) -> bool,
) -> Vec<ResolverAlias> {
    let mut aliases = Vec::new();
    for (network, options) in networks_in(spec, default).into_iter().filter(|(name, _)| has_names(name)) {
        for Link { container, alias } in options.links {
            // An id is known to the others by its beginning.
            let is_id = container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
            let target = if is_id { &container[..12] } else { &container };
            aliases.push(ResolverAlias::new(network.clone(), alias, target));
        }
    }
    aliases
}

fn linked_to(other: &Record, link: &Link, endpoint: &Endpoint) -> Linked {
    let spec = &other.data.spec;
    let hostname = spec.hostname.clone().unwrap_or_else(|| other.id.short().to_owned());
    Linked {
        alias: link.alias.clone(),
        names: [hostname, other.name.to_string()],
        addresses: endpoint.addresses.clone(),
        ports: exposed_ports(spec, &other.data.defaults),
        env: environment(spec, &other.data.defaults),
    }
}

/// What the caller and the image say of a container's environment.
fn environment(spec: &ContainerSpec, image: &ProcessDefaults) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    for variable in image.env.iter().chain(&spec.env) {
        let name = variable.split('=').next().unwrap_or_default();
        env.retain(|known| known.split('=').next() != Some(name));
        if variable.contains('=') {
            env.push(variable.clone());
        }
    }
    env
}
