//! What is to be there, made only where it is not: the calls of programs that bring about a wanted state again and again.
//!
//! Invariant: what was made by these calls carries the hash of what was asked for as a label, and that alone decides whether it
//! is still what is asked for. So one program finds what another has made, and nothing is compared that an engine completes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::container_spec::ContainerSpec;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::network::{NetworkInfo, NetworkOptions};
use crate::platform::Platform;
use crate::reference::Reference;

use super::container::RemoveOptions;
use super::image::Image;
use super::pull::PullOptions;
use super::{Container, Engine};

/// The label that holds the hash of what was asked for.
pub const SPEC_HASH_LABEL: &str = "engine.spec-hash";

/// How often another program may come between.
const TRIES: usize = 5;

/// What an `ensure_` call found or did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ensured {
    /// It was there already, as asked for.
    Unchanged,
    /// It was not there.
    Created,
    /// It was there, made for something else.
    Replaced,
}

impl Engine {
    /// Returns an image of the store, pulled if it is not there.
    ///
    /// # Errors
    /// As [`pull`](Self::pull).
    pub async fn ensure_image(
        &self,
        reference: &Reference,
        options: PullOptions,
    ) -> Result<(Image, Ensured)> {
        match self.image_for(&reference.familiar(), &options.platform).await {
            Ok(image) => Ok((image, Ensured::Unchanged)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok((self.pull(reference, options).await?, Ensured::Created))
            }
            Err(error) => Err(error),
        }
    }

    /// Sees to it that there is a container of the name that `spec` gives, made of this image, as it is in the store now, by
    /// this spec. One of that name that was made otherwise is stopped, removed with what it wrote, and made anew. It is not
    /// started: [`start`](Container::start) does nothing to one that runs.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a spec without a name; as [`create`](Self::create) and
    /// [`remove`](Container::remove).
    pub async fn ensure_container(&self, image: &str, spec: ContainerSpec) -> Result<(Container, Ensured)> {
        let Some(name) = spec.name.clone() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "ensure container")
                .with("image", image)
                .with_message("its spec gives it no name to find it by"));
        };
        let platform = spec.platform.clone().unwrap_or_else(Platform::host);
        let id = self.image_for(image, &platform).await?.id().clone();
        let hash = hash_of(&ContainerSpec::default(), &spec, &id.to_string())?;
        let mut spec = spec;
        spec.labels.insert(SPEC_HASH_LABEL.to_owned(), hash.clone());
        let mut did = Ensured::Created;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.named(&name).await? {
                Some((container, found)) if found.as_ref() == Some(&hash) => {
                    // Another program may have been the one to make it.
                    let did = if did == Ensured::Created { Ensured::Unchanged } else { did };
                    return Ok((container, did));
                }
                Some((other, _)) => {
                    gone_is_fine(other.stop(None).await)?;
                    other.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await?;
                    did = Ensured::Replaced;
                }
                None => {}
            }
            match self.create(image, spec.clone()).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES => {}
                made => return Ok((made?, did)),
            }
        }
    }

    /// Sees to it that there is a network of this name, made with these options. One of that name that was made otherwise is
    /// made anew, if no container is on it.
    ///
    /// # Errors
    /// As [`create_network`](Self::create_network) and [`remove_network`](Self::remove_network).
    pub async fn ensure_network(
        &self,
        name: &Name,
        options: NetworkOptions,
    ) -> Result<(NetworkInfo, Ensured)> {
        let hash = hash_of(&NetworkOptions::default(), &options, name.as_str())?;
        let mut options = options;
        options.labels.insert(SPEC_HASH_LABEL.to_owned(), hash.clone());
        let mut did = Ensured::Created;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.network(name.as_str()).await {
                Ok(found) if found.options.labels.get(SPEC_HASH_LABEL) == Some(&hash) => {
                    let did = if did == Ensured::Created { Ensured::Unchanged } else { did };
                    return Ok((found, did));
                }
                Ok(found) => {
                    gone_is_fine(self.remove_network(&found.id).await)?;
                    did = Ensured::Replaced;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            match self.create_network(name, &options).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES => {}
                made => return Ok((made?, did)),
            }
        }
    }

    /// The container of exactly this name, and the hash it was made with.
    async fn named(&self, name: &Name) -> Result<Option<(Container, Option<String>)>> {
        let found = async {
            let container = self.container(name.as_str()).await?;
            Ok((container.inspect().await?, container))
        };
        match found.await {
            Ok((info, container)) if info.name == *name => {
                Ok(Some((container, info.spec.labels.get(SPEC_HASH_LABEL).cloned())))
            }
            // Its id begins like that.
            Ok(_) => Ok(None),
            Err(error) if Error::kind(&error) == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The hash of what differs from the default, so that a field which a later version adds changes nothing, and of `of`.
fn hash_of<T: Serialize>(default: &T, wanted: &T, of: &str) -> Result<String> {
    let value = |of: &T| {
        serde_json::to_value(of).map_err(|error| Error::new(ErrorKind::Other, "hash spec").with_source(error))
    };
    let (default, mut wanted) = (value(default)?, value(wanted)?);
    if let (Value::Object(wanted), Value::Object(default)) = (&mut wanted, &default) {
        wanted.retain(|key, value| default.get(key) != Some(value));
    }
    Ok(Digest::sha256(format!("{}\n{of}", sorted(wanted)).as_bytes()).hex().to_owned())
}

/// The same with the keys of all maps in order, whichever order the build of serde_json keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields: BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}
