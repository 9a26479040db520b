//! The one place that every request passes: may it be done at all, and may this client do it?
//!
//! Policy and authorization meet here and nowhere else (SECURITY D5): what a route does is an [`Operation`], and an
//! operation says what it needs.

use std::sync::Arc;

use axum::http::request::Parts;

use super::access::{Access, Action, Authorizer, Decision, Scope};
use super::cache::Cache;
use super::error::{ApiError, Code};
use super::names::RepositoryName;
use super::policy::Policy;

/// What a request is about to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation<'a> {
    /// See whether there is a registry that knows the client.
    Check,
    /// List the repositories.
    Catalog,
    /// Read from a repository.
    Pull(&'a RepositoryName),
    /// Take a blob from this repository, or from whichever has it, into one that may be pushed to.
    MountFrom(Option<&'a RepositoryName>),
    /// Add to a repository.
    Push(&'a RepositoryName),
    /// Remove a tag, a manifest or a blob.
    Delete(&'a RepositoryName),
}

impl Operation<'_> {
    fn access(self) -> Vec<Access> {
        let of = |name: &RepositoryName, action| Access { scope: Scope::Repository(name.clone()), action };
        match self {
            Self::Check => Vec::new(),
            Self::Catalog => vec![Access { scope: Scope::Catalog, action: Action::Pull }],
            Self::MountFrom(None) => vec![Access { scope: Scope::Registry, action: Action::Pull }],
            Self::Pull(name) | Self::MountFrom(Some(name)) => vec![of(name, Action::Pull)],
            Self::Push(name) => vec![of(name, Action::Pull), of(name, Action::Push)],
            Self::Delete(name) => vec![of(name, Action::Delete)],
        }
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) policy: Policy,
    pub(super) authorizer: Arc<dyn Authorizer>,
    pub(super) cache: Option<Arc<Cache>>,
}

impl Gate {
    /// Lets an operation pass, or says why not. Who may not know of the registry's rules does not learn them.
    pub(super) async fn admit(&self, request: &Parts, operation: Operation<'_>) -> Result<(), ApiError> {
        match self.authorizer.authorize(request, &operation.access()).await? {
            Decision::Allowed => {}
            Decision::Unauthenticated(challenge) => return Err(ApiError::unauthenticated(&challenge)),
            Decision::Denied => return Err(ApiError::new(Code::Denied, "access is denied")),
            Decision::TooMany(wait) => return Err(ApiError::too_many(wait)),
        }
        let changes = matches!(operation, Operation::Push(_) | Operation::Delete(_));
        if self.policy.read_only && changes {
            return Err(ApiError::new(Code::Unsupported, "the registry is read-only"));
        }
        if let Operation::Push(name) = operation
            && let Some(upstream) = self.cache.as_ref().and_then(|cache| cache.upstream_of(name))
        {
            return Err(ApiError::new(
                Code::Unsupported,
                format!("the repository is a copy from {upstream}"),
            ));
        }
        if self.policy.keep && matches!(operation, Operation::Delete(_)) {
            return Err(ApiError::new(Code::Unsupported, "the registry does not delete"));
        }
        Ok(())
    }
    /// Returns those of `repositories` that the client may know of.
    pub(super) async fn visible(
        &self,
        request: &Parts,
        repositories: Vec<RepositoryName>,
    ) -> Result<Vec<RepositoryName>, ApiError> {
        Ok(self.authorizer.visible(request, repositories).await?)
    }
}
