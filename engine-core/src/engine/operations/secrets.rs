//! Secrets.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{Name, SecretId};
use crate::secret::{Secret, SecretData, SecretOptions};

/// Secrets.
#[async_trait]
pub trait SecretOperations: fmt::Debug + Send + Sync {
    /// See [`Engine::create_secret`](crate::engine::Engine::create_secret).
    async fn create_secret(&self, name: &Name, content: SecretData, options: SecretOptions)
    -> Result<Secret>;
    /// See [`Engine::secrets`](crate::engine::Engine::secrets).
    async fn secrets(&self) -> Result<Vec<Secret>>;
    /// See [`Engine::secret`](crate::engine::Engine::secret).
    async fn secret(&self, text: &str) -> Result<Secret>;
    /// See [`Engine::reveal_secret`](crate::engine::Engine::reveal_secret).
    async fn reveal_secret(&self, id: &SecretId) -> Result<SecretData>;
    /// See [`Engine::remove_secret`](crate::engine::Engine::remove_secret).
    async fn remove_secret(&self, id: &SecretId) -> Result<()>;
}
