//! The repositories' states: read when they changed, changed by compare-and-swap.
//!
//! Owns the loop around a change and what is remembered of states. Nothing remembered is believed: a read asks whether it is
//! still so, and a change holds only where nobody was faster. In one program, changes of a repository wait for each other,
//! instead of racing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use engine_core::error::{Error, ErrorKind, Result};
use futures_core::Stream;
use futures_util::TryStreamExt as _;
use object_store::UpdateVersion;

use super::bucket::{Bucket, Listed, Read};
use super::state::{State, VERSION};
use crate::server::names::{RepositoryName, UploadId};
use crate::server::storage::{Page, PageRequest};

const DIRECTORY: &str = "repositories";
/// Sorts before every character of a name, so that keys have the order of names.
const SUFFIX: &str = "!state";
/// How often a change is tried, with waits in between: only other servers' changes of the same repository are in its way.
const TRIES: u32 = 40;
/// Bytes of states that are remembered, as they are stored.
const MAX_REMEMBERED: usize = 64 << 20;
/// Repositories that are remembered.
const MAX_SLOTS: usize = 10_000;
/// States that are read at the same time when all are.
const AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct Repositories {
    bucket: Arc<Bucket>,
    slots: Mutex<HashMap<RepositoryName, Arc<Slot>>>,
    /// The bytes of all states that are remembered.
    size: AtomicUsize,
}

/// A repository, as far as this program knows.
#[derive(Debug, Default)]
struct Slot {
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

/// A state and its version. An object without bytes is a repository that was removed: it has a version and no state.
#[derive(Clone, Debug, Default)]
struct Known {
    version: Option<UpdateVersion>,
    state: Option<Arc<State>>,
    size: usize,
}

impl Slot {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a change comes to.
pub(super) enum Step<T> {
    Changed(T),
    Unchanged(T),
    /// There is nothing left in it.
    Removed(T),
}

fn key(name: &RepositoryName) -> String {
    format!("{DIRECTORY}/{name}{SUFFIX}")
}

fn name_of(key: &str) -> Option<RepositoryName> {
    key.strip_prefix(DIRECTORY)?.strip_prefix('/')?.strip_suffix(SUFFIX)?.parse().ok()
}

impl Repositories {
    pub(super) fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket, slots: Mutex::default(), size: AtomicUsize::new(0) }
    }

    fn slot(&self, name: &RepositoryName) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        if slots.len() >= MAX_SLOTS || self.size.load(Ordering::Relaxed) >= MAX_REMEMBERED {
            let mut count = slots.len();
            slots.retain(|_, slot| {
                let is_full =
                    count > MAX_SLOTS / 4 * 3 || self.size.load(Ordering::Relaxed) > MAX_REMEMBERED / 4 * 3;
                // Whoever has one is about to use it, perhaps to wait for its turn.
                let goes = is_full && Arc::strong_count(slot) == 1;
                if goes {
                    count -= 1;
                    self.size.fetch_sub(slot.known().size, Ordering::Relaxed);
                }
                !goes
            });
        }
        Arc::clone(slots.entry(name.clone()).or_default())
    }

    fn remember(&self, slot: &Slot, known: Known) {
        let mut place = slot.known();
        self.size.fetch_add(known.size, Ordering::Relaxed);
        self.size.fetch_sub(place.size, Ordering::Relaxed);
        *place = known;
    }

    /// Returns a repository as it is now, or `None` if there is none.
    pub(super) async fn read(&self, name: &RepositoryName) -> Result<Option<Arc<State>>> {
        let slot = self.slot(name);
        Ok(self.refresh(name, &slot).await?.state)
    }

    async fn refresh(&self, name: &RepositoryName, slot: &Slot) -> Result<Known> {
        let known = slot.known().clone();
        let known = match self.bucket.read("read repository", &key(name), known.version.as_ref()).await? {
            Read::Same => return Ok(known),
            Read::Absent => Known::default(),
            Read::Found(bytes, version) => {
                let state = if bytes.is_empty() { None } else { Some(Arc::new(State::parse(&bytes, name)?)) };
                Known { version: Some(version), state, size: bytes.len() }
            }
        };
        self.remember(slot, known.clone());
        Ok(known)
    }

    /// Changes a repository, which is an empty one if it is not there. `work` may run several times, each time on a state that
    /// it has not changed yet; what it says at last is about the state that is there.
    pub(super) async fn change<T>(
        &self,
        name: &RepositoryName,
        operation: &'static str,
        work: impl Fn(&mut State) -> Result<Step<T>>,
    ) -> Result<T> {
        let slot = self.slot(name);
        let _turn = slot.turn.lock().await;
        let mut known = slot.known().clone();
        let mut is_fresh = false;
        for attempt in 0..TRIES {
            let mut state = known.state.as_deref().cloned().unwrap_or_default();
            let (value, is_left) = match work(&mut state) {
                Ok(Step::Changed(value)) => (value, true),
                Ok(Step::Removed(value)) => (value, false),
                Ok(Step::Unchanged(value)) if is_fresh => return Ok(value),
                Err(error) if is_fresh => return Err(error),
                // That may be about a state of the past.
                Ok(Step::Unchanged(_)) | Err(_) => {
                    known = self.refresh(name, &slot).await?;
                    is_fresh = true;
                    continue;
                }
            };
            state.version = VERSION;
            state.change = UploadId::random().to_string();
            let bytes = match is_left {
                true => serde_json::to_vec(&state).map(Bytes::from).map_err(|error| {
                    Error::new(ErrorKind::Other, operation).with("repository", name).with_source(error)
                })?,
                false => Bytes::new(),
            };
            let size = bytes.len();
            let swapped = self.bucket.swap(operation, &key(name), bytes, known.version.as_ref()).await?;
            if let Some(version) = swapped {
                let state = (size > 0).then(|| Arc::new(state));
                self.remember(&slot, Known { version: Some(version), state, size });
                return Ok(value);
            }
            if is_fresh {
                super::pause(attempt).await;
            }
            known = self.refresh(name, &slot).await?;
            is_fresh = true;
            if known.state.as_ref().is_some_and(|found| found.change == state.change) {
                // It was swapped, and the answer got lost before the service was asked again.
                return Ok(value);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, operation)
            .with("repository", name)
            .with_message("too many others are changing it"))
    }

    /// Returns all repositories, each as it is when it is its turn, in any order.
    pub(super) fn each(
        &self,
        operation: &'static str,
    ) -> impl Stream<Item = Result<(RepositoryName, Arc<State>)>> + Send + '_ {
        let found = self.bucket.list(operation, DIRECTORY, None);
        let states = found.map_ok(async |listed: Listed| {
            let Some(name) = name_of(&listed.key).filter(|_| listed.size > 0) else { return Ok(None) };
            let slot = self.slot(&name);
            let known = slot.known().clone();
            let tag = known.version.as_ref().and_then(|version| version.e_tag.as_ref());
            let is_known = tag.is_some() && tag == listed.e_tag.as_ref();
            let known = if is_known { known } else { self.refresh(&name, &slot).await? };
            Ok(known.state.map(|state| (name, state)))
        });
        states.try_buffer_unordered(AT_ONCE).try_filter_map(async |found| Ok(found))
    }

    /// Returns the names of all repositories that are there.
    pub(super) async fn names(&self, operation: &'static str) -> Result<Vec<RepositoryName>> {
        let found = self.bucket.list(operation, DIRECTORY, None);
        let names = found.try_filter_map(async |listed| Ok(name_of(&listed.key).filter(|_| listed.size > 0)));
        names.try_collect().await
    }

    /// Lists names, which costs what the page has.
    pub(super) async fn page(&self, wanted: &PageRequest) -> Result<Page<RepositoryName>> {
        let mut page = Page { entries: Vec::new(), more: false };
        if wanted.limit == 0 {
            return Ok(page);
        }
        // What follows a text that is no name has to be looked for.
        let after = wanted.after.as_deref().and_then(|after| after.parse().ok()).map(|name| key(&name));
        let mut found = self.bucket.list("list repositories", DIRECTORY, after.as_deref());
        while let Some(listed) = found.try_next().await? {
            let name = name_of(&listed.key).filter(|_| listed.size > 0);
            let Some(name) =
                name.filter(|name| wanted.after.as_deref().is_none_or(|after| name.as_str() > after))
            else {
                continue;
            };
            if page.entries.len() == wanted.limit {
                page.more = true;
                break;
            }
            page.entries.push(name);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_names() {
        let names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "aa", "b"];
        let names: Vec<RepositoryName> = names.map(|name| name.parse().unwrap()).to_vec();
        let mut sorted = names.clone();
        sorted.sort_by_key(key);
        assert_eq!(sorted, names);
        assert!(names.iter().all(|name| name_of(&key(name)).as_ref() == Some(name)));
        assert!(name_of("repositories/A!state").is_none() && name_of("repositories/a").is_none());
    }
}
