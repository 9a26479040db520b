//! Users of an htpasswd file, who may do everything; nobody else may do anything.
//!
//! Owns the file, as `htpasswd -B` writes it; `passwords` compares.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use axum::http::request::Parts;
use engine_core::error::{Error, ErrorKind, Result};

use super::access::{Access, Authorizer, Decision};
use super::basic::{CHALLENGE, Credentials};
use super::names::RepositoryName;
use super::passwords::{Passwords, Verdict, is_bcrypt, usual};
use super::record::Caller;
use super::watched::Watched;

/// Authorizes the users of an htpasswd file. The file is read again when it changes.
pub struct Htpasswd {
    users: Watched<Users>,
    passwords: Passwords,
}

/// Names and bcrypt hashes.
#[derive(Debug, Default)]
struct Users(Vec<(String, String)>);

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.users.path()).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads the file. Blocks on it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a line has no bcrypt hash; else what the file system says.
    ///
    /// # Panics
    /// If the kernel gives no random bytes, which Linux does not do after boot (getrandom(2)).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { users: Watched::open(path.into(), Users::read)?, passwords: Passwords::new() })
    }
}

#[async_trait]
impl Authorizer for Htpasswd {
    async fn authorize(&self, request: &Parts, _: &[Access]) -> Result<Decision> {
        let verdict = match Credentials::of(&request.headers) {
            Credentials::Basic(name, password) => {
                let users = self.users.current();
                let found = users.0.iter().find(|(user, _)| *user == name).map(|(_, hash)| hash.as_str());
                let other = usual(users.0.iter().map(|(_, hash)| hash.as_str()));
                let verdict = self.passwords.check(request, &name, found, other, password).await;
                if matches!(verdict, Verdict::Right) {
                    Caller::note(request, &name);
                }
                verdict
            }
            _ => Verdict::Wrong,
        };
        Ok(match verdict {
            Verdict::Right => Decision::Allowed,
            Verdict::Wrong => Decision::Unauthenticated(CHALLENGE.to_owned()),
            Verdict::TooMany(wait) => Decision::TooMany(wait),
        })
    }

    async fn visible(&self, _: &Parts, repositories: Vec<RepositoryName>) -> Result<Vec<RepositoryName>> {
        Ok(repositories)
    }
}

impl Users {
    fn read(path: &Path, text: &str) -> Result<Self> {
        let mut users = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':').filter(|(name, _)| !name.is_empty()) {
                Some((name, hash)) if is_bcrypt(hash) => users.push((name.to_owned(), hash.to_owned())),
                _ => {
                    return Err(Error::new(ErrorKind::InvalidArgument, "read htpasswd file")
                        .with("path", path.display())
                        .with_message(format!("line {} has no user with a bcrypt hash", number + 1))
                        .with_hint("make it with htpasswd -B"));
                }
            }
        }
        Ok(Self(users))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuCLZ5Q5XTL2aNq2TEf6jU9CwCqzIAb3K";

    fn read(text: &str) -> Result<Users> {
        Users::read(Path::new("htpasswd"), text)
    }

    #[test]
    fn lines_are_users_with_bcrypt_hashes() {
        let users = read(&format!("# us\n\nalice:{HASH}\n  bob:{HASH}\n")).unwrap();
        assert_eq!(users.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
        for bad in ["alice", "alice:secret", ":$2y$", "alice:$apr1$x$y", &format!("alice:{HASH}x")] {
            let error = read(&format!("ok:{HASH}\n{bad}")).unwrap_err();
            assert!(error.report().contains("line 2") && !error.report().contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn d6_debug_output_has_no_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        std::fs::write(&path, format!("alice:{HASH}\n")).unwrap();
        assert!(!format!("{:?}", Htpasswd::open(&path).unwrap()).contains("$2y$"));
    }
}
