//! Identifiers and names: parsed once, so that later code can trust their characters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A container's id: 64 lowercase hex digits, as Docker's.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(Box<str>);

impl ContainerId {
    /// Creates a random id.
    ///
    /// # Panics
    /// If the kernel gives no random bytes, which Linux does not do after boot (getrandom(2)).
    #[must_use]
    pub fn random() -> Self {
        Self(random_hex().into())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first twelve digits, as Docker lists a container.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// Returns 32 random bytes as hex.
fn random_hex() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    hex::encode(bytes)
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() == 64 && text.bytes().all(is_hex) {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidArgument, "parse container id")
            .with("id", text)
            .with_message("an id is 64 lowercase hex digits"))
    }
}

/// The name of a container, volume, network or secret: `[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Box<str>);

impl Name {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Creates the random name of an anonymous volume: 64 hex digits.
    #[must_use]
    pub fn random_hex() -> Self {
        Self(random_hex().into())
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = text.as_bytes();
        let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        let rest = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b));
        if first && rest && (2..=255).contains(&bytes.len()) {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidArgument, "parse name").with("name", text).with_message(
            "a name has 2 to 255 of the characters a-z, A-Z, 0-9, '_', '.', '-' and begins with a letter or digit",
        ))
    }
}

/// The id of a secret: 25 lowercase hex digits, as Podman's.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId(Box<str>);

impl SecretId {
    const LENGTH: usize = 25;

    /// Creates a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_hex()[..Self::LENGTH].into())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() == Self::LENGTH && text.bytes().all(is_hex) {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidArgument, "parse secret id")
            .with("id", text)
            .with_message("an id is 25 lowercase hex digits"))
    }
}

/// The id of a process started by `exec`: 64 lowercase hex digits.
pub type ExecId = ContainerId;

/// The id of a frozen state of a root file system: 64 lowercase hex digits.
pub type SnapshotId = ContainerId;

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.into()
            }
        }
    };
}

text_type!(ContainerId);
text_type!(Name);
text_type!(SecretId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let id = ContainerId::random();
        assert_eq!(id.as_str().parse::<ContainerId>().unwrap(), id);
        assert_ne!(id, ContainerId::random());
    }

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for text in ["", "a", ".a", "-a", "a/b", "..", "a b", "é1", "a\0b", &"x".repeat(256)] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        for text in ["ab", "0a", "a_.-", &"x".repeat(255)] {
            assert!(text.parse::<Name>().is_ok(), "{text:?}");
        }
    }
}
