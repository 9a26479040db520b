//! Containers of an engine.

use crate::container_spec::ContainerSpec;
use crate::engine::{
    Container, ContainerInfo, Engine, Image, PruneOptions, Pruned, ScopedContainer, Started,
};
use crate::error::Result;
use crate::id::ContainerId;

impl Engine {
    /// Creates a container of `image` (a reference or an id of an image in the store) and does not start it.
    ///
    /// It is *detached*: it outlives this program. The returned handle is one of many that may exist.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the image is not in the store;
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name is taken;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a wish that cannot be granted.
    pub async fn create(&self, image: &str, spec: ContainerSpec) -> Result<Container> {
        let id = self.backend.create_container(image, spec).await?;
        Ok(Container::new(self.clone(), id))
    }

    /// Creates a container that ends with this program: when the returned handle is dropped, or when the
    /// program dies by any cause, its processes are killed and it is removed.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_scoped(&self, image: &str, spec: ContainerSpec) -> Result<ScopedContainer> {
        let id = self.backend.create_scoped_container(image, spec).await?;
        Ok(ScopedContainer::new(Container::new(self.clone(), id)))
    }

    /// Finds a container by name, id, or the beginning of an id.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if several ids
    /// begin so.
    pub async fn container(&self, name: &str) -> Result<Container> {
        let id = self.backend.find_container(name).await?;
        Ok(Container::new(self.clone(), id))
    }

    /// Returns all containers, newest first, running or not.
    ///
    /// # Errors
    /// What the records or the runtime say.
    pub async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        self.backend.containers().await
    }

    /// Removes all containers that are not running. Their anonymous volumes stay, as after `rm`.
    ///
    /// # Errors
    /// What the records or the runtime say. What was removed before a failure is gone.
    pub async fn prune_containers(&self, options: &PruneOptions) -> Result<Pruned<ContainerId>> {
        self.backend.prune_containers(options).await
    }

    /// Starts all containers whose restart policy asks for it and that do not run: those of the policy `always`, those
    /// of `unless-stopped` that nobody stopped, and those of `on-failure` that failed or that a boot has taken down.
    /// Containers that were never started stay so. One whose namespaces another shares is started before that other.
    ///
    /// # Errors
    /// What the records or the runtime say; a container that cannot be started is told in the list.
    pub async fn start_all(&self) -> Result<Vec<Started>> {
        self.backend.start_all().await
    }

    /// Returns the image that a container was made from, whether or not a name leads to it still.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such container; what the image store says.
    pub async fn container_image(&self, id: &ContainerId) -> Result<Image> {
        self.backend.container_image(id).await
    }

    /// Returns how many bytes a container has written to its root file system.
    ///
    /// # Errors
    /// What the image store says.
    pub async fn container_usage(&self, id: &ContainerId) -> Result<u64> {
        self.backend.container_usage(id).await
    }
}
