//! Pruning: what nobody uses is removed, as far as filters let it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result};
use crate::events::ObjectKind;
use crate::id::{ContainerId, Name};
use crate::state::ContainerStatus;

use super::events::of_prune;
use super::{LocalEngine, RemoveOptions};

/// What a prune may remove.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Removes what has a name as well: named volumes.
    pub all: bool,
    /// Removes only what was made before.
    pub until: Option<SystemTime>,
    /// Removes only what has all of these.
    pub labels: Vec<LabelFilter>,
}

/// A wish about labels: `key`, `key=value`, or that there is none such.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LabelFilter {
    /// The key.
    pub key: String,
    /// The value; any without it.
    pub value: Option<String>,
    /// Whether what has it is meant, or what does not.
    pub present: bool,
}

/// What a prune removed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pruned<T> {
    /// The things.
    pub removed: Vec<T>,
    /// The bytes freed.
    pub bytes: u64,
}

impl<T> Default for Pruned<T> {
    /// Nothing was.
    fn default() -> Self {
        Self { removed: Vec::new(), bytes: 0 }
    }
}

impl PruneOptions {
    /// Removes what has a name as well.
    #[must_use]
    pub fn with_all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// Removes only what was made before `time`.
    #[must_use]
    pub fn with_until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    /// Removes only what has this label, or has it not.
    #[must_use]
    pub fn with_label(mut self, label: LabelFilter) -> Self {
        self.labels.push(label);
        self
    }

    fn allow<'a>(&self, created_at: SystemTime, labels: impl Fn(&str) -> Option<&'a String>) -> bool {
        self.until.is_none_or(|until| created_at < until)
            && self.labels.iter().all(|filter| filter.matches(&labels))
    }
}

impl LabelFilter {
    /// Reads `key` or `key=value`.
    #[must_use]
    pub fn parse(text: &str, present: bool) -> Self {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Self { key: key.to_owned(), value, present }
    }

    /// Returns whether labels, looked up by key, are as wished.
    pub fn matches<'a>(&self, labels: impl Fn(&str) -> Option<&'a String>) -> bool {
        let found =
            labels(&self.key).is_some_and(|known| self.value.as_ref().is_none_or(|value| value == known));
        found == self.present
    }
}

impl LocalEngine {
    pub(super) async fn prune_containers(&self, options: &PruneOptions) -> Result<Pruned<ContainerId>> {
        let mut pruned = Pruned::default();
        for info in self.containers().await? {
            let idle = matches!(
                info.state.status,
                ContainerStatus::Created | ContainerStatus::Exited | ContainerStatus::Dead
            );
            let label = |key: &str| info.spec.labels.get(key).or_else(|| info.defaults.labels.get(key));
            if !idle || info.scoped || !options.allow(info.created_at, label) {
                continue;
            }
            let bytes = self.inner.images.rootfs_usage(&info.id).await?;
            let removed = match self.container(info.id.as_str()).await {
                Ok(container) => container.remove(RemoveOptions::default()).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => {
                    pruned.bytes += bytes;
                    pruned.removed.push(info.id);
                }
                // It was started or removed meanwhile.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.emit(of_prune(ObjectKind::Container, pruned.bytes)).await;
        Ok(pruned)
    }

    pub(super) async fn prune_volumes(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        let users = self.volume_users().await?;
        let mut pruned = Pruned::default();
        for volume in self.volumes().await? {
            let doomed = !users.contains_key(&volume.name)
                && (options.all || volume.is_anonymous())
                && options.allow(volume.created_at, |key| volume.labels.get(key));
            if !doomed {
                continue;
            }
            let bytes = match self.volume_usage(&volume.name).await {
                Ok(bytes) => bytes.unwrap_or(0),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match self.remove_volume(&volume.name).await {
                Ok(()) => {
                    pruned.bytes += bytes;
                    pruned.removed.push(volume.name);
                }
                // Somebody uses it since.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        self.emit(of_prune(ObjectKind::Volume, pruned.bytes)).await;
        Ok(pruned)
    }
}

impl LocalEngine {
    pub(super) async fn prune_networks(&self, options: &PruneOptions) -> Result<Pruned<Name>> {
        let mut pruned = Pruned::default();
        for info in self.networks().await? {
            let doomed = !self.is_predefined(&info.name)
                && info.endpoints.is_empty()
                && options.allow(info.created_at, |key| info.options.labels.get(key));
            if !doomed {
                continue;
            }
            match self.remove_network(&info.id).await {
                Ok(()) => pruned.removed.push(info.name),
                // A container is on it since, or somebody else has removed it.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(name) = self.default_network().filter(|_| *options == PruneOptions::default()) {
            match self.inner.network.remove(name).await {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => {}
            }
        }
        self.emit(of_prune(ObjectKind::Network, pruned.bytes)).await;
        Ok(pruned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn filters_must_all_match() {
        let labels: BTreeMap<String, String> = [("tier".to_owned(), "web".to_owned())].into();
        let allow = |options: &PruneOptions| options.allow(SystemTime::UNIX_EPOCH, |key| labels.get(key));
        let with =
            |text: &str, present| PruneOptions::default().with_label(LabelFilter::parse(text, present));
        assert!(allow(&PruneOptions::default()));
        assert!(
            allow(&with("tier", true)) && allow(&with("tier=web", true)) && allow(&with("tier=db", false))
        );
        assert!(
            !allow(&with("tier=db", true)) && !allow(&with("tier", false)) && !allow(&with("other", true))
        );
        assert!(!allow(&with("tier", true).with_label(LabelFilter::parse("other", true))));
        assert!(!allow(&PruneOptions::default().with_until(SystemTime::UNIX_EPOCH)));
        assert!(allow(&PruneOptions::default().with_until(SystemTime::UNIX_EPOCH + Duration::from_secs(1))));
    }
}
