//! What a repository has, as the one object that a change of it replaces.
//!
//! Owns the document and what can be said of it without asking anybody. Invariant: the key of an object whose entry goes is
//! noted among the [dropped](State::dropped) ones, so that for the grace time everybody sees that it may be in use still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::server::garbage::{GcPolicy, GcReport, RENEW};
use crate::server::names::{RepositoryName, Tag, Target};
use crate::server::quota::Quota;
use crate::server::storage::NewManifest;

/// The format of this document, and of an upload's.
pub(super) const VERSION: u32 = 1;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time that was so long ago.
pub(super) fn before(time: Duration) -> u64 {
    now().saturating_sub(time.as_secs())
}

/// A repository.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct State {
    pub(super) version: u32,
    /// Random for each change: whoever lost sight of an answer finds out whether its change is there.
    pub(super) change: String,
    pub(super) blobs: BTreeMap<Digest, Blob>,
    pub(super) manifests: BTreeMap<Digest, Manifest>,
    pub(super) tags: BTreeMap<String, Digest>,
    /// Objects that had an entry, until they may go.
    pub(super) dropped: Vec<Dropped>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Blob {
    pub(super) key: String,
    pub(super) size: u64,
    /// The time of the last use.
    pub(super) used: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Manifest {
    pub(super) key: String,
    pub(super) media_type: String,
    pub(super) size: u64,
    pub(super) used: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) blobs: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) manifests: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) referrer: Option<(Digest, Descriptor)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Dropped {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) at: u64,
}

impl Manifest {
    pub(super) fn new(manifest: &NewManifest, key: String) -> Self {
        Self {
            key,
            media_type: manifest.descriptor.media_type.clone(),
            size: manifest.descriptor.size,
            used: now(),
            blobs: manifest.blobs.clone(),
            manifests: manifest.manifests.clone(),
            referrer: manifest.referrer.clone(),
        }
    }

    pub(super) fn descriptor(&self, digest: &Digest) -> Descriptor {
        Descriptor::new(self.media_type.clone(), digest.clone(), self.size)
    }
}

/// Whether a use is to be noted, since the last note is old.
pub(super) fn is_stale(used: u64) -> bool {
    used <= before(RENEW)
}

impl State {
    pub(super) fn parse(bytes: &[u8], repository: &RepositoryName) -> Result<Self> {
        let wrong = |kind| Error::new(kind, "read repository").with("repository", repository);
        // A newer document may be anything but this.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|e| wrong(ErrorKind::Corrupt).with_source(e))?;
        if version.version > VERSION {
            return Err(wrong(ErrorKind::Unsupported).with_message("a newer program has been here"));
        }
        serde_json::from_slice(bytes).map_err(|e| wrong(ErrorKind::Corrupt).with_source(e))
    }

    /// Finds a manifest by tag or digest.
    pub(super) fn find(&self, target: &Target) -> Option<(&Digest, &Manifest)> {
        match target {
            Target::Digest(digest) => self.manifests.get_key_value(digest),
            Target::Tag(tag) => self.manifests.get_key_value(self.tags.get(tag.as_str())?),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let blobs: u64 = self.blobs.values().map(|blob| blob.size).sum();
        blobs + self.manifest_bytes()
    }

    pub(super) fn manifest_bytes(&self) -> u64 {
        self.manifests.values().map(|manifest| manifest.size).sum()
    }

    /// Gives it a blob, or notes the use of the one it has. Returns whether the blob is the object `key`.
    pub(super) fn link(&mut self, digest: &Digest, key: &str, size: u64, quota: &Quota) -> Result<bool> {
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.used = now();
            return Ok(blob.key == key);
        }
        Quota { total: None, ..*quota }.check(self.bytes() + size, 0)?;
        self.blobs.insert(digest.clone(), Blob { key: key.to_owned(), size, used: now() });
        Ok(true)
    }

    pub(super) fn drop_blob(&mut self, digest: &Digest) -> bool {
        let Some(blob) = self.blobs.remove(digest) else { return false };
        self.dropped.push(Dropped { key: blob.key, size: blob.size, at: now() });
        true
    }

    /// Drops a manifest with its tags.
    pub(super) fn drop_manifest(&mut self, digest: &Digest) -> bool {
        let Some(manifest) = self.manifests.remove(digest) else { return false };
        self.tags.retain(|_, target| target != digest);
        self.dropped.push(Dropped { key: manifest.key, size: manifest.size, at: now() });
        true
    }

    /// Tells what of the things that a manifest names is not there.
    pub(super) fn missing(&self, manifest: &NewManifest) -> Vec<Digest> {
        let blobs = manifest.blobs.iter().filter(|digest| !self.blobs.contains_key(digest));
        let manifests = manifest.manifests.iter().filter(|digest| !self.manifests.contains_key(digest));
        blobs.chain(manifests).cloned().collect()
    }

    /// Points a tag at a manifest. Whoever has just asked for the tag will ask for the one it led to.
    pub(super) fn set_tag(&mut self, tag: &Tag, digest: &Digest) {
        let old = self.tags.insert(tag.as_str().to_owned(), digest.clone());
        self.renew(old.as_ref().filter(|old| *old != digest));
    }

    pub(super) fn drop_tag(&mut self, tag: &Tag) -> bool {
        let Some(old) = self.tags.remove(tag.as_str()) else { return false };
        self.renew(Some(&old));
        true
    }

    fn renew(&mut self, manifest: Option<&Digest>) {
        if let Some(manifest) = manifest.and_then(|digest| self.manifests.get_mut(digest)) {
            manifest.used = now();
        }
    }

    /// Whether nothing is left, nor anything that may be in use.
    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.manifests.is_empty() && self.dropped.is_empty()
    }

    /// Drops garbage, and forgets what was dropped long enough ago. Returns whether anything changed.
    pub(super) fn collect(&mut self, name: &str, policy: &GcPolicy, report: &mut GcReport) -> bool {
        let (old, gone) = (before(GcPolicy::age(policy.grace)), before(policy.grace));
        let mut doomed = BTreeSet::new();
        for eviction in policy.evictions.iter().filter(|eviction| eviction.covers(name)) {
            let unused = before(GcPolicy::age(eviction.unused));
            let evicted = self.manifests.iter().filter(|(_, manifest)| manifest.used <= unused);
            doomed.extend(evicted.map(|(digest, _)| digest.clone()));
        }
        for digest in &doomed {
            self.drop_manifest(digest);
        }
        if policy.untagged {
            let untagged = self.untagged(old);
            for digest in &untagged {
                self.drop_manifest(digest);
            }
            doomed.extend(untagged);
        }
        let named: BTreeSet<&Digest> = self.manifests.values().flat_map(|manifest| &manifest.blobs).collect();
        let loose = self.blobs.iter().filter(|(digest, blob)| blob.used <= old && !named.contains(digest));
        let loose: Vec<Digest> = loose.map(|(digest, _)| digest.clone()).collect();
        for digest in &loose {
            self.drop_blob(digest);
        }
        let noted = self.dropped.len();
        self.dropped.retain(|dropped| dropped.at > gone);
        report.manifests += doomed.len() as u64;
        report.unlinked += loose.len() as u64;
        !doomed.is_empty() || !loose.is_empty() || self.dropped.len() < noted
    }

    /// Finds manifests that neither a tag nor one that was used after `old` leads to.
    fn untagged(&self, old: u64) -> BTreeSet<Digest> {
        let mut about: BTreeMap<&Digest, Vec<&Digest>> = BTreeMap::new();
        for (digest, manifest) in &self.manifests {
            if let Some((subject, _)) = &manifest.referrer {
                about.entry(subject).or_default().push(digest);
            }
        }
        let young = self.manifests.iter().filter(|(_, manifest)| manifest.used > old);
        let mut wanted: Vec<&Digest> = young.map(|(digest, _)| digest).chain(self.tags.values()).collect();
        let mut reached = BTreeSet::new();
        while let Some(digest) = wanted.pop() {
            let Some(manifest) = self.manifests.get(digest) else { continue };
            if reached.insert(digest) {
                wanted.extend(&manifest.manifests);
                wanted.extend(about.get(digest).into_iter().flatten());
            }
        }
        self.manifests.keys().filter(|digest| !reached.contains(digest)).cloned().collect()
    }

    /// Names all objects that may be in use.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let blobs = self.blobs.values().map(|blob| &blob.key);
        let manifests = self.manifests.values().map(|manifest| &manifest.key);
        blobs.chain(manifests).chain(self.dropped.iter().map(|dropped| &dropped.key)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_noted_for_the_grace_time() {
        let (digest, mut state) = (Digest::sha256(b"x"), State::default());
        assert!(state.link(&digest, "blobs/1", 1, &Quota::default()).unwrap());
        assert!(!state.link(&digest, "blobs/2", 1, &Quota::default()).unwrap(), "it is there");
        assert!(state.drop_blob(&digest) && !state.drop_blob(&digest));
        assert_eq!(state.keys().collect::<Vec<_>>(), ["blobs/1"]);
        let mut report = GcReport::default();
        assert!(!state.collect("a", &GcPolicy::default(), &mut report));
        assert!(!state.is_empty(), "somebody may be reading it");
        let at_once = GcPolicy::default().with_grace(Duration::ZERO);
        assert!(state.collect("a", &at_once, &mut report) && state.is_empty());
        assert_eq!(report, GcReport::default(), "it had been taken before");
    }

    #[test]
    fn what_a_newer_program_wrote_is_refused() {
        let name = "a".parse().unwrap();
        let kind = |text: &str| State::parse(text.as_bytes(), &name).unwrap_err().kind();
        assert_eq!(kind("{\"version\":2,\"else\":true}"), ErrorKind::Unsupported);
        assert_eq!(kind("{\"version\":1}"), ErrorKind::Corrupt);
        assert_eq!(kind("x"), ErrorKind::Corrupt);
        let bytes = serde_json::to_vec(&State { version: VERSION, ..State::default() }).unwrap();
        assert!(State::parse(&bytes, &name).is_ok());
    }
}
