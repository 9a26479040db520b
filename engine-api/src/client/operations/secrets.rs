//! Secrets.

use async_trait::async_trait;
use engine_core::Result;
use engine_core::engine::SecretOperations;
use engine_core::id::{Name, SecretId};
use engine_core::secret::{Secret, SecretData, SecretOptions};

use super::super::RemoteEngine;
use crate::wire::secret::WireSecret;

#[async_trait]
impl SecretOperations for RemoteEngine {
    async fn create_secret(
        &self,
        name: &Name,
        content: SecretData,
        options: SecretOptions,
    ) -> Result<Secret> {
        self.call("create_secret", (name, WireSecret(content), options)).await
    }

    async fn secrets(&self) -> Result<Vec<Secret>> {
        self.call("secrets", ()).await
    }

    async fn secret(&self, text: &str) -> Result<Secret> {
        self.call("secret", (text,)).await
    }

    async fn reveal_secret(&self, id: &SecretId) -> Result<SecretData> {
        let content: WireSecret = self.call("reveal_secret", (id,)).await?;
        Ok(content.0)
    }

    async fn remove_secret(&self, id: &SecretId) -> Result<()> {
        self.call("remove_secret", (id,)).await
    }
}
