//! Garbage: what a collection takes, and what it has taken.
//!
//! Owns the terms of [`Storage::collect`](super::Storage::collect); when a server collects is the builder's to say.

use std::time::Duration;

/// How exact the time of the last use is: a use is noted if the last note is older than this, since a note costs a commit.
pub(super) const RENEW: Duration = Duration::from_secs(10 * 60);

/// What a collection takes. By default blobs that no manifest of their repository names and that nobody pushed, mounted or
/// asked for in the last two hours, as Harbor has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GcPolicy {
    /// How long content is safe after it was last pushed, mounted, or found by a client that asked for it. It has to be longer
    /// than a push may take from its first blob to its manifest; only where nobody pushes may it be zero.
    pub grace: Duration,
    /// Whether manifests go, too, that no tag leads to: neither directly, nor through an index, nor as a referrer of one that
    /// a tag leads to. Whoever asks for images by digest wants this off, as it is in distribution and Harbor by default.
    pub untagged: bool,
    /// What is kept for a time only, tagged or not.
    pub evictions: Vec<Eviction>,
    /// Whether nothing is taken and only the report made.
    pub dry_run: bool,
}

/// Repositories whose content is kept for so long after its last use, tagged or not: what can be had elsewhere.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Eviction {
    /// A repository, with all whose names begin with it and a slash.
    pub prefix: String,
    /// How long a manifest may go without being asked for.
    pub unused: Duration,
}

impl Eviction {
    /// Evicts what is below `prefix` and was not asked for in the last `unused`.
    #[must_use]
    pub fn new(prefix: impl Into<String>, unused: Duration) -> Self {
        Self { prefix: prefix.into(), unused }
    }

    /// Whether a repository is below the prefix.
    #[must_use]
    pub fn covers(&self, repository: &str) -> bool {
        let rest = repository.strip_prefix(&self.prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Default for GcPolicy {
    fn default() -> Self {
        let grace = Duration::from_secs(2 * 60 * 60);
        Self { grace, untagged: false, evictions: Vec::new(), dry_run: false }
    }
}

impl GcPolicy {
    /// Sets how long content is safe after its last use.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets whether manifests go that no tag leads to.
    #[must_use]
    pub fn with_untagged(mut self, untagged: bool) -> Self {
        self.untagged = untagged;
        self
    }

    /// Adds repositories whose content is kept for a time only.
    #[must_use]
    pub fn with_eviction(mut self, eviction: Eviction) -> Self {
        self.evictions.push(eviction);
        self
    }

    /// Sets whether nothing is taken and only the report made.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Returns how old the note of the last use of garbage is at least, where something is safe for `time` after it:
    /// the note may be a little older than the use.
    #[must_use]
    pub fn age(time: Duration) -> Duration {
        time.saturating_add(RENEW.min(time))
    }
}

/// What a collection has taken, or would take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct GcReport {
    /// Manifests.
    pub manifests: u64,
    /// Blobs that were taken from a repository. Another one may have them still.
    pub unlinked: u64,
    /// Blobs that no repository has any more, with those that a crash had left.
    pub blobs: u64,
    /// The bytes of these.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_never_noted_too_late() {
        assert_eq!(GcPolicy::age(Duration::ZERO), Duration::ZERO);
        assert_eq!(GcPolicy::age(Duration::from_secs(5)), Duration::from_secs(10));
        assert_eq!(GcPolicy::age(Duration::from_secs(7200)), Duration::from_secs(7800));
        assert_eq!(GcPolicy::age(Duration::MAX), Duration::MAX);
        let eviction = Eviction::new("docker.io/library", Duration::ZERO);
        assert!(eviction.covers("docker.io/library") && eviction.covers("docker.io/library/alpine"));
        assert!(!eviction.covers("docker.io/library-of-mine") && !eviction.covers("docker.io"));
    }
}
