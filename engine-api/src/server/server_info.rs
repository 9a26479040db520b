//! What a server tells of itself.

/// What `version` and `info` show of the program that serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The program's version.
    pub version: String,
    /// The program's name, as `version` shows the platform's.
    pub platform: String,
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), platform: "engine-api".to_owned() }
    }
}

impl ServerInfo {
    /// Sets the program's version.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the program's name.
    #[must_use]
    pub fn with_platform(mut self, platform: impl Into<String>) -> Self {
        self.platform = platform.into();
        self
    }
}
