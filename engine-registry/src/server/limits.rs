//! How much of the machine, and of its time, clients may take (SECURITY E7).

use std::time::Duration;

/// Limits of a [`RegistryServer`](super::RegistryServer).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; more wait until one ends. 1,024 by default. Each holds 1 MiB of memory at most, and one of HTTP/2
    /// with 16 requests at once 16 MiB.
    pub connections: usize,
    /// How long the head of a request, or a TLS handshake, may take, and a connection be idle. 10 seconds by default.
    pub head: Duration,
    /// How long a body that is sent or received may pause. 60 seconds by default.
    pub idle: Duration,
    /// How long requests may go on when the server is to stop. 5 minutes by default.
    pub drain: Duration,
    /// How long an upload without a new byte is kept. A day by default.
    pub upload_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(5 * 60),
            upload_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Limits {
    /// Sets how many connections there may be at once.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long the head of a request or a handshake may take, and a connection be idle.
    #[must_use]
    pub fn with_head(mut self, head: Duration) -> Self {
        self.head = head;
        self
    }

    /// Sets how long a body may pause.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets how long requests may go on when the server is to stop.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how long an upload without a new byte is kept.
    #[must_use]
    pub fn with_upload_age(mut self, age: Duration) -> Self {
        self.upload_age = age;
        self
    }
}
