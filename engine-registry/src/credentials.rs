//! Which credentials a registry gets.
//!
//! Owns the order of sources: those given by the program, then Docker's config.json. Invariant: credentials
//! are found by the registry's whole name (host and port) and never handed to another one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine_core::registry_client::Credentials;

use crate::docker_config::DockerConfig;
use crate::endpoint::registry_key;
use crate::fault::Fault;

/// Helpers are programs: not one run for each request.
const KEPT: Duration = Duration::from_secs(60);

/// Where credentials come from.
#[derive(Default)]
pub(crate) struct CredentialSource {
    given: HashMap<String, Credentials>,
    config: Option<DockerConfig>,
    found: Mutex<HashMap<String, (Instant, Option<Credentials>)>>,
    /// Where those come from that are found nowhere here.
    under: Option<Arc<CredentialSource>>,
}

impl CredentialSource {
    /// Returns a source that has these, and everything else from `under`.
    pub(crate) fn over(under: Arc<Self>, registry: &str, credentials: Credentials) -> Self {
        let mut source = Self { under: Some(under), ..Self::default() };
        source.give(registry, credentials);
        source
    }

    pub(crate) fn give(&mut self, registry: &str, credentials: Credentials) {
        self.given.insert(registry_key(registry), credentials);
    }

    pub(crate) fn set_config(&mut self, config: DockerConfig) {
        self.config = Some(config);
    }

    /// Returns the credentials for `registry`.
    pub(crate) async fn find(&self, registry: &str) -> Result<Option<Credentials>, Fault> {
        if let Some(given) = self.given.get(registry) {
            return Ok(Some(given.clone()));
        }
        if let Some(under) = &self.under {
            return Box::pin(under.find(registry)).await;
        }
        let Some(config) = &self.config else { return Ok(None) };
        if let Some((when, found)) = self.lock().get(registry)
            && when.elapsed() < KEPT
        {
            return Ok(found.clone());
        }
        let found = config.credentials(registry).await.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let fault = Fault::new(error.kind(), "the credentials for it cannot be read").source(error);
            match hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            }
        })?;
        self.lock().insert(registry.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }

    /// Makes the next [`find`](Self::find) look again: these were refused.
    pub(crate) fn forget(&self, registry: &str) {
        self.lock().remove(registry);
        if let Some(under) = self.under.as_ref().filter(|_| !self.given.contains_key(registry)) {
            under.forget(registry);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<Credentials>)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSource")
            .field("given", &self.given.keys())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
