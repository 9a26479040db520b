//! What happened to content: events, for whoever wants to hear of them.
//!
//! Owns the events and the contract of a listener; `webhooks` sends them over http. Invariant: no listener delays or fails a
//! request.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;

use super::names::{RepositoryName, Tag};

/// What was done.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EventAction {
    /// A manifest or a blob was sent.
    Push,
    /// A blob was taken over from another repository.
    Mount,
    /// A manifest or a blob was read. A part of one counts, a `HEAD` does not.
    Pull,
    /// A tag, a manifest or a blob was removed.
    Delete,
}

impl EventAction {
    /// Returns the name that distribution's notifications have for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Mount => "mount",
            Self::Pull => "pull",
            Self::Delete => "delete",
        }
    }
}

/// Something that a client did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistryEvent {
    /// Names this event: 32 random hex digits.
    pub id: String,
    /// When it was.
    pub time: SystemTime,
    /// What was done.
    pub action: EventAction,
    /// Where.
    pub repository: RepositoryName,
    /// To which content. None where a tag was removed.
    pub digest: Option<Digest>,
    /// The content's type and size, as far as they are known: nothing of what was removed.
    pub descriptor: Option<Descriptor>,
    /// Whether it is about a manifest, and not a blob.
    pub is_manifest: bool,
    /// The tag that the request named.
    pub tag: Option<Tag>,
    /// Where a mounted blob came from, if the request named it.
    pub from: Option<RepositoryName>,
    /// Who asked for it.
    pub request: EventRequest,
}

/// The request that an event is about.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EventRequest {
    /// The client's address, where it is known.
    pub address: Option<String>,
    /// The registry's name, as the request had it.
    pub host: Option<String>,
    /// The method.
    pub method: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The user, if the registry asks who it is.
    pub user: Option<String>,
}

/// Hears of events.
///
/// # Contract
/// - [`event`](Self::event) returns at once: requests wait for it. What takes time is put in a queue with an end.
/// - Every event of an acknowledged request is told once, in no particular order between requests.
#[async_trait]
pub trait EventListener: fmt::Debug + Send + Sync + 'static {
    /// Whether events of this kind are wanted: others are not made.
    fn wants(&self, action: EventAction) -> bool;

    /// Takes an event.
    fn event(&self, event: &RegistryEvent);

    /// Brings on its way what is waiting, for `limit` at most. The server has ended; no event comes after this.
    async fn finish(&self, limit: Duration);
}
