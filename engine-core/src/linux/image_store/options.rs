//! What a caller may set on a [`LocalImageStore`](super::LocalImageStore).

use crate::limit::DEFAULT_MAX_BYTES;

/// Limits and choices of a store. Everything has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalImageStoreOptions {
    /// The most bytes a layer may have when it is uncompressed and the holes of its files are written out. Default:
    /// [`DEFAULT_MAX_BYTES`]. Of an engine's embedded store, [`EngineBuilder::max_bytes`](crate::EngineBuilder::max_bytes) decides.
    pub max_bytes: u64,
    /// How many times larger than its blob a layer may become. Looked at from 256 MiB on; gzip itself ends at
    /// about 1032. Default: 1000.
    pub max_ratio: u64,
    /// The most entries of a layer. Default: 10 million.
    pub max_entries: u64,
    /// The largest window a zstd layer may ask for, in bytes; at most 128 MiB, and twice as much memory is used.
    /// Default: 32 MiB, which all levels below 21 stay under.
    pub max_zstd_window: u64,
    /// Whether layers are shared through overlayfs. Default: [`LayerDriver::Auto`].
    pub driver: LayerDriver,
}

impl Default for LocalImageStoreOptions {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_BYTES,
            max_ratio: 1000,
            max_entries: 10_000_000,
            max_zstd_window: 32 << 20,
            driver: LayerDriver::Auto,
        }
    }
}

impl LocalImageStoreOptions {
    /// Sets the most bytes of an uncompressed layer.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many times larger than its blob a layer may become.
    #[must_use]
    pub fn with_max_ratio(mut self, ratio: u64) -> Self {
        self.max_ratio = ratio;
        self
    }

    /// Sets the most entries of a layer.
    #[must_use]
    pub fn with_max_entries(mut self, entries: u64) -> Self {
        self.max_entries = entries;
        self
    }

    /// Sets the largest zstd window, up to 128 MiB.
    #[must_use]
    pub fn with_max_zstd_window(mut self, bytes: u64) -> Self {
        self.max_zstd_window = bytes.min(128 << 20);
        self
    }

    /// Sets how root file systems are made.
    #[must_use]
    pub fn with_driver(mut self, driver: LayerDriver) -> Self {
        self.driver = driver;
        self
    }
}

/// How root file systems are made of layers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum LayerDriver {
    /// Overlayfs where a trial mount works, else copies.
    #[default]
    Auto,
    /// Overlayfs, or an error.
    Overlay,
    /// A full copy for each container.
    Copy,
}
