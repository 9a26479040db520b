//! Files of a container, and the states of them that are kept.

use std::path::Path;

use crate::digest::Digest;
use crate::engine::{CommitOptions, Container, ForkOptions, Snapshot};
use crate::error::Result;
use crate::files::{Change, PathStat, UnpackFiles};
use crate::id::Name;
use crate::io::ByteStream;
use crate::mount::Mount;

impl Container {
    /// Returns what is at `path` in the container, running or not. A link in the last component is described itself,
    /// unless a slash follows it.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if nothing is there.
    pub async fn stat_path(&self, path: impl AsRef<Path>) -> Result<PathStat> {
        self.engine.backend.stat_path(&self.id, path.as_ref()).await
    }

    /// Returns what is at `path` in the container, running or not, as a tar archive. Its first entry has the last
    /// component of the path as its name, and `.` where the path ends in `/.`.
    ///
    /// # Errors
    /// As [`stat_path`](Self::stat_path).
    pub async fn copy_out(&self, path: impl AsRef<Path>) -> Result<(PathStat, ByteStream)> {
        self.engine.backend.copy_out(&self.id, path.as_ref()).await
    }

    /// Unpacks a tar archive into the directory `path` of the container, running or not. The names in it are resolved
    /// in the container's root, and nothing outside of it is touched, whatever the archive holds and the container
    /// does.
    ///
    /// # Errors
    /// As [`ContainerFiles::unpack`](crate::files::ContainerFiles::unpack).
    pub async fn copy_in(
        &self,
        path: impl AsRef<Path>,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()> {
        self.engine.backend.copy_in(&self.id, path.as_ref(), archive, options).await
    }

    /// Returns the container's root file system as a tar archive, without what is mounted in it.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed. What fails later comes in the stream.
    pub async fn export(&self) -> Result<ByteStream> {
        self.engine.backend.export_container(&self.id).await
    }

    /// Returns what the container changed in its root file system since its image.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed.
    pub async fn changes(&self) -> Result<Vec<Change>> {
        self.engine.backend.changes(&self.id).await
    }

    /// Returns the mounts that make the container's root file system, as its image store describes them.
    ///
    /// # Errors
    /// What the image store says.
    pub async fn rootfs(&self) -> Result<Vec<Mount>> {
        self.engine.backend.rootfs(&self.id).await
    }

    /// Makes an image of the container's root file system and configuration, and returns its id. What is mounted in
    /// it, volumes among them, is left out. A running container is paused meanwhile.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a change that is no instruction, or a name with a
    /// digest; [`NotFound`](crate::ErrorKind::NotFound) if the container was removed.
    pub async fn commit(&self, options: &CommitOptions) -> Result<Digest> {
        self.engine.backend.commit_container(&self.id, options).await
    }

    /// Makes a second container whose root file system begins as this one's is now, with the same configuration. It is
    /// created, not started.
    ///
    /// What was written is shared, not copied, if this container does not run: the cost does not depend on it. A
    /// running one is paused while what it wrote is copied. Named volumes and binds are the same in both; anonymous
    /// volumes are new and empty.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name is taken;
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) if the root file system stands on too many frozen
    /// ones; [`Unsupported`](crate::ErrorKind::Unsupported) where the store cannot freeze.
    pub async fn fork(&self, options: ForkOptions) -> Result<Container> {
        let id = self.engine.backend.fork_container(&self.id, options).await?;
        Ok(Container::new(self.engine.clone(), id))
    }

    /// Keeps the state of the root file system, to compare with or go back to. Costs as [`fork`](Self::fork) does.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if the container has a snapshot of this name; as
    /// [`fork`](Self::fork).
    pub async fn snapshot(&self, name: Option<Name>) -> Result<Snapshot> {
        self.engine.backend.snapshot(&self.id, name).await
    }

    /// Returns the container's snapshots, oldest first.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if the container was removed.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.engine.backend.snapshots(&self.id).await
    }

    /// Returns what changed in the root file system since the snapshot `name`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such snapshot.
    pub async fn changes_since(&self, name: &Name) -> Result<Vec<Change>> {
        self.engine.backend.changes_since(&self.id, name).await
    }

    /// Takes the root file system back to the snapshot `name`. What was written since is gone; later snapshots stay.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the container runs; [`NotFound`](crate::ErrorKind::NotFound) if
    /// there is no such snapshot.
    pub async fn restore(&self, name: &Name) -> Result<()> {
        self.engine.backend.restore(&self.id, name).await
    }

    /// Removes the snapshot `name`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such snapshot.
    pub async fn remove_snapshot(&self, name: &Name) -> Result<()> {
        self.engine.backend.remove_snapshot(&self.id, name).await
    }
}
