//! The names of the distribution specification, checked once when parsed.
//!
//! Owns the grammar of repositories, tags and upload ids. Invariant: none of these types holds a text that could mean
//! anything else in a path, a query or a header (SECURITY E8).

use std::fmt;
use std::str::FromStr;

use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind};

/// Longest name of a repository, as most clients have it.
const MAX_REPOSITORY: usize = 255;

/// The name of a repository: path components of lowercase words, such as `team/app`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() <= MAX_REPOSITORY && text.split('/').all(is_component) {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidArgument, "parse repository name").with("name", text).with_message(
            "a repository has components of lowercase words with '.', '_', '__' or dashes in between, \
             and 255 characters at most",
        ))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(word) && bytes.last().is_some_and(word);
    // Between two words there is one separator.
    ends && bytes.split(word).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(Box<str>);

impl Tag {
    /// Returns the tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidArgument, "parse tag").with("tag", text).with_message(
            "a tag has 1 to 128 letters, digits, '_', '.' and '-', and begins with neither '.' nor '-'",
        ))
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// By a tag, which may move.
    Tag(Tag),
    /// By its digest.
    Digest(Digest),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The id of an upload: 32 random hex digits, which nobody guesses.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// Creates a random id.
    ///
    /// # Panics
    /// If the kernel gives no random bytes, which Linux does not do after boot (getrandom(2)).
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).expect("the kernel has random bytes");
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UploadId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(hex) {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidArgument, "parse upload id")
            .with("id", text)
            .with_message("an id has 32 lowercase hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e8_repositories_follow_the_grammar() {
        let longest = "a".repeat(255);
        for good in ["a", "0", "a/b/c", "a.b", "a_b", "a__b", "a---b", "blobs/uploads", "a-b_c.d/e", &longest]
        {
            assert_eq!(good.parse::<RepositoryName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a/../b", "..", ".", "_a", "a_", "a___b", "a._b", "-a",
            "a-", "a b", "a\0b", "a%2fb", "ä", "a\nb", "a:b", "a@b", "a\\b", &long,
        ] {
            assert_eq!(
                bad.parse::<RepositoryName>().unwrap_err().kind(),
                ErrorKind::InvalidArgument,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn e8_tags_and_upload_ids_follow_theirs() {
        let longest = "x".repeat(128);
        for good in ["latest", "1.0", "_x", "A-b.c_d", &longest] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", ".x", "-x", "a/b", "..", "a b", "a:b", "ä", &long] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
        }
        let id = UploadId::random();
        assert_eq!(id.as_str().parse::<UploadId>().unwrap(), id);
        for bad in ["", "x", "../../etc/passwd", &"F".repeat(32), &"a".repeat(33)] {
            assert!(bad.parse::<UploadId>().is_err(), "{bad:?}");
        }
    }
}
