//! Secrets.

use async_trait::async_trait;

use crate::engine::{LocalEngine, SecretOperations};
use crate::error::Result;
use crate::id::{Name, SecretId};
use crate::secret::{Secret, SecretData, SecretOptions};

#[async_trait]
impl SecretOperations for LocalEngine {
    async fn create_secret(
        &self,
        name: &Name,
        content: SecretData,
        options: SecretOptions,
    ) -> Result<Secret> {
        Self::create_secret(self, name, content, options).await
    }

    async fn secrets(&self) -> Result<Vec<Secret>> {
        Self::secrets(self).await
    }

    async fn secret(&self, text: &str) -> Result<Secret> {
        Self::secret(self, text).await
    }

    async fn reveal_secret(&self, id: &SecretId) -> Result<SecretData> {
        Self::reveal_secret(self, id).await
    }

    async fn remove_secret(&self, id: &SecretId) -> Result<()> {
        Self::remove_secret(self, id).await
    }
}
