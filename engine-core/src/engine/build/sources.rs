//! What comes from elsewhere. It is asked for once in a build, however many steps and platforms want it: all of them get the same.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::digest::Digest;
use crate::error::Result;

use super::git::Resolved;
use super::provenance::Material;
use super::url::UrlFile;

/// A file by its URL, name and checksum.
type WantedFile = (String, Option<String>, Option<Digest>);

/// What comes from elsewhere in a build.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Where references lead, by repository and reference.
    pub(super) references: Asked<(String, Option<String>), Resolved>,
    pub(super) files: Asked<WantedFile, UrlFile>,
    used: Mutex<BTreeSet<Material>>,
}

impl Sources {
    /// Takes down what was used.
    pub(super) fn used(&self, material: Material) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(material);
    }

    /// All that was used so far.
    pub(super) fn materials(&self) -> BTreeSet<Material> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers by what was asked. There are few of them.
#[derive(Debug)]
pub(super) struct Asked<K, V>(Mutex<Vec<(K, Arc<OnceCell<V>>)>>);

impl<K, V> Default for Asked<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, V: Clone> Asked<K, V> {
    /// Returns the answer for `key`. Who comes first asks, and the others wait for it; a failure is no answer.
    pub(super) async fn once(&self, key: K, ask: impl Future<Output = Result<V>>) -> Result<V> {
        let cell = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match all.iter().find(|(known, _)| *known == key) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    let cell = Arc::default();
                    all.push((key, Arc::clone(&cell)));
                    cell
                }
            }
        };
        cell.get_or_try_init(|| ask).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[tokio::test]
    async fn all_get_the_first_answer_and_a_failure_is_none() {
        let asked = Asked::default();
        let fails = async { Err(Error::new(ErrorKind::Unavailable, "ask")) };
        assert!(asked.once("a", fails).await.is_err());
        let (one, two) = tokio::join!(asked.once("a", async { Ok(1) }), asked.once("a", async { Ok(2) }));
        assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
        assert_eq!(asked.once("b", async { Ok(3) }).await.unwrap(), 3);
    }
}
