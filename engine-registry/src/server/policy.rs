//! What the registry does for nobody, whoever asks.

/// What a registry allows at all. By default everything.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Policy {
    /// Whether nothing may be added, replaced or removed.
    pub read_only: bool,
    /// Whether nothing may be removed: neither tags nor manifests nor blobs.
    pub keep: bool,
}

impl Policy {
    /// Refuses every change.
    #[must_use]
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Refuses to remove anything. A tag may still be moved.
    #[must_use]
    pub fn with_keep(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }
}
