//! Events: what an end-point tells of what it did.

use std::time::SystemTime;

use axum::http::header::{HOST, USER_AGENT};
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;

use super::Call;
use crate::server::access::Peer;
use crate::server::events::{EventAction, EventRequest, RegistryEvent};
use crate::server::names::{RepositoryName, Target, UploadId};
use crate::server::record::Caller;

impl Call<'_> {
    fn tell(&self, event: &RegistryEvent) {
        for listener in self.api.listeners.iter().filter(|one| one.wants(event.action)) {
            listener.event(event);
        }
        self.api.metrics.event();
    }

    fn is_wanted(&self, action: EventAction) -> bool {
        self.api.listeners.iter().any(|one| one.wants(action))
    }

    fn event(&self, action: EventAction, repository: &RepositoryName) -> RegistryEvent {
        RegistryEvent {
            // As random as an upload's id.
            id: UploadId::random().to_string(),
            time: SystemTime::now(),
            action,
            repository: repository.clone(),
            digest: None,
            descriptor: None,
            is_manifest: false,
            tag: None,
            from: None,
            request: EventRequest {
                address: self.parts.extensions.get::<Peer>().map(|peer| peer.0.to_string()),
                host: self.header(HOST).or(self.parts.uri.host()).map(str::to_owned),
                method: self.parts.method.to_string(),
                user_agent: self.header(USER_AGENT).map(str::to_owned),
                user: Caller::of(self.parts).map(str::to_owned),
            },
        }
    }

    /// Tells what was done with a manifest; of one that was removed, there is no descriptor.
    pub(super) fn tell_manifest(
        &self,
        action: EventAction,
        repository: &RepositoryName,
        target: &Target,
        descriptor: Option<&Descriptor>,
    ) {
        if !self.is_wanted(action) {
            return;
        }
        let mut event = self.event(action, repository);
        event.is_manifest = true;
        event.digest = descriptor.map(|found| found.digest.clone());
        event.descriptor = descriptor.cloned();
        match target {
            Target::Tag(tag) => event.tag = Some(tag.clone()),
            Target::Digest(digest) => event.digest = Some(digest.clone()),
        }
        self.tell(&event);
    }

    /// Tells what was done with a blob.
    pub(super) async fn tell_blob(
        &self,
        action: EventAction,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) {
        if !self.is_wanted(action) {
            return;
        }
        let mut event = self.event(action, repository);
        event.digest = Some(digest.clone());
        event.from = from.cloned();
        if action != EventAction::Delete
            && let Ok(Some(size)) = self.api.storage.blob_size(repository, digest).await
        {
            event.descriptor = Some(Descriptor::new("application/octet-stream", digest.clone(), size));
        }
        self.tell(&event);
    }
}
