//! Content digests: an algorithm and a lowercase hex hash, checked once when parsed.
//!
//! Source: OCI image-spec, descriptor.md, "Digests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, ErrorKind};

/// A hash algorithm of the image specification.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// SHA-256, which everybody uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl DigestAlgorithm {
    /// Returns the name used before the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A content digest such as `sha256:e3b0…`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: DigestAlgorithm,
    hex: Box<str>,
}

impl Digest {
    /// Hashes `bytes` with SHA-256.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(DigestAlgorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Hashes `bytes` with this digest's algorithm.
    #[must_use]
    pub fn rehash(&self, bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Returns the hash as lowercase hex.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first twelve hex digits, as Docker shows an image id.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidArgument, "parse digest").with("digest", text).with_message(why)
        };
        let (name, hex) = text.split_once(':').ok_or_else(|| wrong("no colon between algorithm and hash"))?;
        let algorithm = match name {
            "sha256" => DigestAlgorithm::Sha256,
            "sha512" => DigestAlgorithm::Sha512,
            _ => return Err(wrong("the algorithm is neither sha256 nor sha512")),
        };
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(is_hex) {
            return Err(wrong("the hash is not lowercase hex of the algorithm's length"));
        }
        Ok(Self { algorithm, hex: hex.into() })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Computes a digest over bytes that arrive in pieces.
#[derive(Clone, Debug)]
pub struct DigestHasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl DigestHasher {
    /// Creates a hasher for `algorithm`.
    #[must_use]
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        Self(match algorithm {
            DigestAlgorithm::Sha256 => State::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        })
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(state) => (DigestAlgorithm::Sha256, hex::encode(state.finalize())),
            State::Sha512(state) => (DigestAlgorithm::Sha512, hex::encode(state.finalize())),
        };
        Digest { algorithm, hex: hex.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_input_has_the_known_digest() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn malformed_digests_are_refused() {
        let hex = "e".repeat(64);
        for text in ["", "sha256", "sha256:", "md5:00", &format!("sha256:{}", hex.to_uppercase()), &hex] {
            assert_eq!(text.parse::<Digest>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
        assert!(format!("sha256:{}/", &hex[..63]).parse::<Digest>().is_err());
    }
}
