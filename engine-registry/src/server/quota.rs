//! How much there is, and how much there may be.
//!
//! Owns the terms; a storage keeps them, since only it can count and add in one step.

use engine_core::error::{Error, ErrorKind, Result};

use super::names::RepositoryName;

/// What a repository, or a whole registry, has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of blobs and manifests. A repository counts every blob that it has; the registry counts a blob once, and until
    /// it is collected.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Manifests.
    pub manifests: u64,
    /// Repositories: of a registry.
    pub repositories: u64,
}

/// How many bytes there may be after something was added. By default any number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Quota {
    /// In the repository.
    pub repository: Option<u64>,
    /// In the whole registry.
    pub total: Option<u64>,
}

impl Quota {
    /// Sets how many bytes the repository may have.
    #[must_use]
    pub fn with_repository(mut self, bytes: Option<u64>) -> Self {
        self.repository = bytes;
        self
    }

    /// Sets how many bytes the registry may have.
    #[must_use]
    pub fn with_total(mut self, bytes: Option<u64>) -> Self {
        self.total = bytes;
        self
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.repository.is_some() || self.total.is_some()
    }

    /// Checks what a repository and the registry would have.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if that is more than they may.
    pub fn check(&self, repository: u64, total: u64) -> Result<()> {
        for (of, limit, bytes) in
            [("the repository", self.repository, repository), ("the registry", self.total, total)]
        {
            if let Some(limit) = limit.filter(|limit| bytes > *limit) {
                return Err(Error::new(ErrorKind::Conflict, "check quota")
                    .with_message(format!("{of} may have {limit} bytes, and would have {bytes}")));
            }
        }
        Ok(())
    }
}

/// Which repositories may have how many bytes, and the registry. By default any number.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Quotas {
    /// Patterns of names, where `*` stands for any characters, and what each repository may have whose name matches. The
    /// first that matches counts; without one, there is no limit.
    pub repositories: Vec<(String, u64)>,
    /// What all may have together.
    pub total: Option<u64>,
}

impl Quotas {
    /// Adds a limit for each repository whose name matches, and none before.
    #[must_use]
    pub fn with_repositories(mut self, pattern: impl Into<String>, bytes: u64) -> Self {
        self.repositories.push((pattern.into(), bytes));
        self
    }

    /// Sets how many bytes the registry may have.
    #[must_use]
    pub fn with_total(mut self, bytes: u64) -> Self {
        self.total = Some(bytes);
        self
    }

    /// Returns what counts for a repository.
    #[must_use]
    pub fn of(&self, repository: &RepositoryName) -> Quota {
        let own = self.repositories.iter().find(|(pattern, _)| matches(pattern, repository.as_str()));
        Quota { repository: own.map(|(_, bytes)| *bytes), total: self.total }
    }
}

/// Whether a pattern's pieces between its stars come in the text in order, the first and the last at its ends.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let quotas = Quotas::default()
            .with_repositories("team/app", 1)
            .with_repositories("team/*", 2)
            .with_repositories("*/cache-*-x", 3)
            .with_total(9);
        let of = |name: &str| quotas.of(&name.parse().unwrap()).repository;
        for (name, bytes) in [
            ("team/app", Some(1)),
            ("team/app/more", Some(2)),
            ("team/a", Some(2)),
            ("team", None),
            ("teams/a", None),
            ("a/cache-1-x", Some(3)),
            ("a/b/cache-1-2-x", Some(3)),
            ("a/cache-x", None),
            ("a/cache-1-xy", None),
        ] {
            assert_eq!(of(name), bytes, "{name}");
        }
        assert_eq!(quotas.of(&"a".parse().unwrap()).total, Some(9));
        assert_eq!(
            Quotas::default().with_repositories("*", 7).of(&"a/b".parse().unwrap()).repository,
            Some(7)
        );
    }

    #[test]
    fn what_is_over_is_refused() {
        let quota = Quota { repository: Some(10), total: Some(20) };
        assert!(quota.check(10, 20).is_ok());
        assert_eq!(quota.check(11, 0).unwrap_err().kind(), ErrorKind::Conflict);
        assert!(quota.check(0, 21).unwrap_err().to_string().contains("the registry"));
        assert!(Quota::default().check(u64::MAX, u64::MAX).is_ok());
    }
}
