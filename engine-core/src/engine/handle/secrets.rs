//! Secrets of an engine.

use crate::engine::Engine;
use crate::error::Result;
use crate::id::{Name, SecretId};
use crate::secret::{Secret, SecretData, SecretOptions};

impl Engine {
    /// Creates a secret. Once this returns, it survives a power loss.
    ///
    /// ```no_run
    /// # async fn example(engine: engine_core::Engine) -> engine_core::Result<()> {
    /// use engine_core::secret::{SecretData, SecretOptions, SecretUse};
    /// use engine_core::ContainerSpec;
    ///
    /// let password = SecretData::new(*b"correct horse");
    /// engine.create_secret(&"db-password".parse()?, password, SecretOptions::default()).await?;
    /// // It is /run/secrets/db-password there.
    /// let spec = ContainerSpec::command(["server"]).with_secret(SecretUse::file("db-password"));
    /// engine.create("app", spec).await?.start().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is one of this name and `options` do not replace
    /// it; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for empty content, or for
    /// [`MAX_SIZE`](crate::secret::MAX_SIZE) bytes and more.
    pub async fn create_secret(
        &self,
        name: &Name,
        content: SecretData,
        options: SecretOptions,
    ) -> Result<Secret> {
        self.backend.create_secret(name, content, options).await
    }

    /// Returns all secrets, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn secrets(&self) -> Result<Vec<Secret>> {
        self.backend.secrets().await
    }

    /// Finds a secret by its name, its id, or the beginning of its id.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if several ids
    /// begin so.
    pub async fn secret(&self, text: &str) -> Result<Secret> {
        self.backend.secret(text).await
    }

    /// Returns a secret's content.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it was removed and no container holds it.
    pub async fn reveal_secret(&self, id: &SecretId) -> Result<SecretData> {
        self.backend.reveal_secret(id).await
    }

    /// Removes a secret. Containers that were created with it keep its content until they are removed. Removing one
    /// that is gone is `Ok`.
    ///
    /// # Errors
    /// What the database or the file system says.
    pub async fn remove_secret(&self, id: &SecretId) -> Result<()> {
        self.backend.remove_secret(id).await
    }
}
