//! Who may do what: the joint for authorization.
//!
//! Owns the question ([`Access`]) and the contract of who answers it ([`Authorizer`]). It is asked in one place, `gate`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::request::Parts;
use engine_core::error::Result;

use super::names::RepositoryName;

/// What a request wants to do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Read.
    Pull,
    /// Add or replace.
    Push,
    /// Remove.
    Delete,
}

impl Action {
    /// Returns the word that rules and tokens have for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// What a request wants to do it to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Scope {
    /// One repository.
    Repository(RepositoryName),
    /// The list of repositories, of which a client sees those that are [`visible`](Authorizer::visible) to it.
    Catalog,
    /// Every repository there is or will be.
    Registry,
}

/// One thing that a request needs to be allowed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Access {
    /// To what.
    pub scope: Scope,
    /// What.
    pub action: Action,
}

/// The answer to a request for access.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// Nobody knows who asks: the value of `WWW-Authenticate` says how to tell.
    Unauthenticated(String),
    /// Whoever asks is known and may not.
    Denied,
    /// There were too many wrong passwords: nothing is decided for this long.
    TooMany(Duration),
}

/// Whom a connection is from. [`RegistryServer::serve`](super::RegistryServer::serve) adds it to the extensions of each
/// request; a program that serves the router itself does so where wrong passwords are to be counted for each client. Behind a
/// proxy, it is the proxy's address, and all its clients are counted together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer(pub SocketAddr);

/// Decides who may do what.
///
/// # Contract
/// - No credential reaches a log, an error or `Debug` output.
/// - The answer takes as long for a user who does not exist as for one who does.
/// - The answer does not depend on which repositories there are, so that it tells nobody.
/// - Calls may run at the same time.
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Decides whether the sender of `request` may do all of `access`. Nothing is asked for by the endpoint `/v2/`,
    /// where clients check their credentials.
    ///
    /// # Errors
    /// What keeps it from deciding; the request fails with it.
    async fn authorize(&self, request: &Parts, access: &[Access]) -> Result<Decision>;

    /// Returns those of `repositories`, in their order, that the sender of `request` may pull from. It is asked about lists
    /// whose access was allowed.
    ///
    /// # Errors
    /// What keeps it from deciding; the request fails with it.
    async fn visible(
        &self,
        request: &Parts,
        repositories: Vec<RepositoryName>,
    ) -> Result<Vec<RepositoryName>>;
}

/// Lets everybody do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

#[async_trait]
impl Authorizer for Anyone {
    async fn authorize(&self, _: &Parts, _: &[Access]) -> Result<Decision> {
        Ok(Decision::Allowed)
    }

    async fn visible(&self, _: &Parts, repositories: Vec<RepositoryName>) -> Result<Vec<RepositoryName>> {
        Ok(repositories)
    }
}
