//! Whether a password is a user's.
//!
//! Owns the comparison with bcrypt hashes. A hash takes tens of milliseconds of a CPU by design, so a password that was right is
//! remembered, as a keyed hash together with the bcrypt hash it was right for: a changed one forgets it. A user who does not
//! exist takes as long as one who does. Invariant: no password is kept, logged or shown.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::request::Parts;
use engine_core::digest::{Digest, DigestAlgorithm, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::access::Peer;
use super::attempts::Attempts;

/// Right passwords that are remembered.
const MAX_KNOWN: usize = 4096;
/// How much work a new hash is: 2^10 rounds, some 50 ms.
const COST: u32 = 10;
/// What bcrypt looks at.
const MAX_PASSWORD: usize = 72;

pub(super) struct Passwords {
    known: Mutex<HashSet<Digest>>,
    /// What makes a remembered hash useless to others.
    key: [u8; 32],
    /// Hashing may take all CPUs but one.
    hashing: Semaphore,
    attempts: Attempts,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    TooMany(Duration),
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the kernel has random bytes");
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            known: Mutex::default(),
            key,
            hashing: Semaphore::new(cpus.saturating_sub(1).max(1)),
            attempts: Attempts::default(),
        }
    }

    /// Compares a password with the hash of the user `name`. `other` is the hash of somebody else, which one who does not exist
    /// is compared with.
    pub(super) async fn check(
        &self,
        request: &Parts,
        name: &str,
        hash: Option<&str>,
        other: Option<&str>,
        password: Zeroizing<Vec<u8>>,
    ) -> Verdict {
        let exists = hash.is_some();
        let Some(hash) = hash.or(other) else { return Verdict::Wrong };
        let remembered = self.keyed(name, hash, &password);
        if exists && self.known().contains(&remembered) {
            return Verdict::Right;
        }
        let from = request.extensions.get::<Peer>().map(|peer| peer.0.ip());
        if let Some(Err(wait)) = from.map(|from| self.attempts.begin(from, name)) {
            return Verdict::TooMany(wait);
        }
        let Ok(_turn) = self.hashing.acquire().await else { return Verdict::Wrong };
        let hash = hash.to_owned();
        let check = move || bcrypt::verify(&*password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false) && exists;
        if !right {
            return Verdict::Wrong;
        }
        if let Some(from) = from {
            self.attempts.succeeded(from, name);
        }
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(remembered);
        Verdict::Right
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether `text` is a bcrypt hash.
pub(super) fn is_bcrypt(text: &str) -> bool {
    text.len() == 60 && ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix))
}

/// Returns the hash that somebody who does not exist is compared with: one that takes as long as most.
pub(super) fn usual<'a>(hashes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut of_cost: BTreeMap<Option<&str>, (usize, &str)> = BTreeMap::new();
    for hash in hashes {
        of_cost.entry(hash.get(4..6)).or_insert((0, hash)).0 += 1;
    }
    // Of two that are as many, the one that takes longer.
    of_cost.into_values().max_by_key(|(count, _)| *count).map(|(_, hash)| hash)
}

/// Returns the bcrypt hash of a password, as an htpasswd or a rules file has it. Takes tens of milliseconds of a CPU.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if the password is empty, or longer than the 72 bytes that bcrypt looks at.
pub fn hash_password(password: &str) -> Result<String> {
    let wrong = |why: &str| Error::new(ErrorKind::InvalidArgument, "hash password").with_message(why);
    if password.is_empty() {
        return Err(wrong("the password is empty"));
    }
    if password.len() > MAX_PASSWORD || password.contains('\0') {
        return Err(wrong("a password has 72 bytes at most, and no NUL"));
    }
    bcrypt::hash(password, COST).map_err(|error| wrong("it cannot be hashed").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d5_nobody_takes_as_long_as_most() {
        let of = |costs: &[&str]| {
            let hashes: Vec<String> = costs.iter().map(|cost| format!("$2y${cost}$x")).collect();
            usual(hashes.iter().map(String::as_str)).map(str::to_owned)
        };
        assert_eq!(of(&["05", "10", "10"]).unwrap(), "$2y$10$x");
        assert_eq!(of(&["05", "05", "10"]).unwrap(), "$2y$05$x");
        assert_eq!(of(&["10", "05"]).unwrap(), "$2y$10$x");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_hash_is_of_a_whole_password() {
        let hash = hash_password("hush").unwrap();
        assert!(is_bcrypt(&hash) && bcrypt::verify("hush", &hash).unwrap());
        for bad in ["", &"x".repeat(73), "a\0b"] {
            assert_eq!(hash_password(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
