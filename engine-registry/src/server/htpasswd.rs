//! Users of an htpasswd file, who may do everything; nobody else may do anything.
//!
//! Owns basic authentication (RFC 7617) against bcrypt hashes, as `htpasswd -B` writes them. A hash takes tens of
//! milliseconds of a CPU by design, so a password that was right is remembered, as a keyed hash together with the line it was
//! right for: a changed file forgets it. A user who does not exist takes as long as one who does. Invariant: no password is
//! kept, logged or shown.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::digest::{Digest, DigestAlgorithm, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::access::{Access, Authorizer, Decision};

const CHALLENGE: &str = "Basic realm=\"registry\", charset=\"UTF-8\"";
/// Longest `Authorization` that is looked at.
const MAX_HEADER: usize = 4096;
/// Right passwords that are remembered.
const MAX_KNOWN: usize = 4096;
const MAX_FILE: u64 = 16 << 20;

/// Authorizes the users of an htpasswd file. The file is read again when it changes.
pub struct Htpasswd {
    path: PathBuf,
    current: Mutex<Current>,
    known: Mutex<HashSet<Digest>>,
    /// What makes a remembered hash useless to others.
    key: [u8; 32],
    /// Hashing may take all CPUs but one.
    hashing: Semaphore,
}

#[derive(Debug)]
struct Current {
    seen: Option<(u64, i64, i64, u64)>,
    users: Arc<Users>,
}

/// Names and bcrypt hashes.
#[derive(Debug, Default)]
struct Users(Vec<(String, String)>);

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads the file. Blocks on it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it cannot be read, or a line has no bcrypt hash.
    ///
    /// # Panics
    /// If the kernel gives no random bytes, which Linux does not do after boot (getrandom(2)).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let seen = state(&path);
        let users = Arc::new(Users::read(&path)?);
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the kernel has random bytes");
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            path,
            current: Mutex::new(Current { seen, users }),
            known: Mutex::default(),
            key,
            hashing: Semaphore::new(cpus.saturating_sub(1).max(1)),
        })
    }

    /// Returns the users, read anew if the file has changed.
    fn users(&self) -> Arc<Users> {
        let mut current = lock(&self.current);
        let now = state(&self.path);
        if now != current.seen {
            match Users::read(&self.path) {
                Ok(users) => current.users = Arc::new(users),
                // Better the users of before than none, or half of them.
                Err(error) => tracing::warn!(error = %error.report(), "users not read"),
            }
            current.seen = now;
        }
        Arc::clone(&current.users)
    }

    async fn is_right(&self, name: &str, password: Zeroizing<Vec<u8>>) -> bool {
        let users = self.users();
        let found = users.0.iter().find(|(user, _)| user == name);
        // Whoever does not exist is compared with somebody else.
        let Some((_, hash)) = found.or(users.0.first()) else { return false };
        let remembered = self.keyed(name, hash, &password);
        if found.is_some() && lock(&self.known).contains(&remembered) {
            return true;
        }
        let Ok(_turn) = self.hashing.acquire().await else { return false };
        let hash = hash.clone();
        let check = move || bcrypt::verify(&*password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false) && found.is_some();
        if right {
            let mut known = lock(&self.known);
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(remembered);
        }
        right
    }

    fn keyed(&self, name: &str, hash: &str, password: &[u8]) -> Digest {
        let mut hasher = DigestHasher::new(DigestAlgorithm::Sha256);
        for part in [&self.key[..], name.as_bytes(), hash.as_bytes(), password] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finish()
    }
}

#[async_trait]
impl Authorizer for Htpasswd {
    async fn authorize(&self, request: &Parts, _: &[Access]) -> Result<Decision> {
        let right = match credentials(request) {
            Some((name, password)) => self.is_right(&name, password).await,
            None => false,
        };
        Ok(if right { Decision::Allowed } else { Decision::Unauthenticated(CHALLENGE.to_owned()) })
    }
}

/// Returns the name and the password of a request.
fn credentials(request: &Parts) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let header = request.headers.get(AUTHORIZATION).filter(|header| header.len() <= MAX_HEADER)?;
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
    Some((name, Zeroizing::new(decoded[colon + 1..].to_vec())))
}

impl Users {
    fn read(path: &Path) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidArgument, "read htpasswd file")
                .with("path", path.display())
                .with_message(why)
        };
        let failed = |error| Error::from_io("read htpasswd file", error).with("path", path.display());
        let size = fs::metadata(path).map_err(failed)?.len();
        if size > MAX_FILE {
            return Err(wrong(format!("it has {size} bytes, more than {MAX_FILE}")));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut users = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = line.split_once(':').filter(|(name, _)| !name.is_empty());
            let bcrypt = |hash: &str| ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
            match entry {
                Some((name, hash)) if hash.len() == 60 && bcrypt(hash) => {
                    users.push((name.to_owned(), hash.to_owned()));
                }
                _ => {
                    return Err(wrong(format!("line {} has no user with a bcrypt hash", number + 1))
                        .with_hint("make it with htpasswd -B"));
                }
            }
        }
        Ok(Self(users))
    }
}

/// What changes when the file is replaced or written to.
fn state(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuCLZ5Q5XTL2aNq2TEf6jU9CwCqzIAb3K";

    fn read(text: &str) -> Result<Users> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        fs::write(&path, text).unwrap();
        Users::read(&path)
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
        fs::write(&path, format!("alice:{HASH}\n")).unwrap();
        assert!(!format!("{:?}", Htpasswd::open(&path).unwrap()).contains("$2y$"));
    }
}
