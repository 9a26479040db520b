//! How much of the machine, and of its time, clients may take (SECURITY E7).

use std::time::Duration;

/// Limits of an [`ApiServer`](super::ApiServer).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of a listener at once, also those that `attach` and `exec` have taken over; more wait until one ends. 4,096 by
    /// default.
    pub connections: usize,
    /// How long the head of a request, or a TLS handshake, may take, and a connection be idle. 60 seconds by default: clients
    /// keep connections for their next request.
    pub head: Duration,
    /// How long a document that is sent may take. 30 seconds by default. Archives and standard input have no limit.
    pub body: Duration,
    /// How large a document may be that is sent. 4 MiB by default.
    pub document: usize,
    /// How long requests may go on when the server is to stop. 10 seconds by default.
    pub drain: Duration,
    /// How long a client may take nothing of the answer to an operation that others may have to wait for (`build`, `pull`, `push`,
    /// `load`), or of the end of a session of the engine's own protocol, before it is cut off. 5 minutes by default. What merely
    /// follows something, as a log, has no limit.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(60),
            body: Duration::from_secs(30),
            document: 4 << 20,
            drain: Duration::from_secs(10),
            unread: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// Sets how many connections of a listener there may be at once.
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

    /// Sets how long a document may take that is sent.
    #[must_use]
    pub fn with_body(mut self, body: Duration) -> Self {
        self.body = body;
        self
    }

    /// Sets how large a document may be that is sent.
    #[must_use]
    pub fn with_document(mut self, bytes: usize) -> Self {
        self.document = bytes;
        self
    }

    /// Sets how long requests may go on when the server is to stop.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how long a client may take nothing of an answer that others may have to wait for.
    #[must_use]
    pub fn with_unread(mut self, unread: Duration) -> Self {
        self.unread = unread;
        self
    }
}
