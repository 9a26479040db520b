//! Image references in Docker's notation, normalised once.
//!
//! `alpine` means `docker.io/library/alpine:latest`. The grammar is the distribution project's, as the
//! `oci-spec` crate parses it; this type adds the familiar (short) form and the parts callers ask for.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference as Parsed;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};

/// The registry that a name without a host belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// A normalised image reference: registry, repository, and a tag, a digest or both.
#[derive(Clone, Eq, Hash, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Returns the registry's host, with a port if one was given: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository within the registry: `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag. A reference with neither tag nor digest has the tag `latest`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if the reference pins one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns what a registry is asked for: the digest if there is one, else the tag.
    #[must_use]
    pub fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }

    /// Returns the same repository with `tag` and no digest.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        format!("{}/{}:{tag}", self.registry, self.repository).parse()
    }

    /// Returns the same repository, pinned to `digest`, with no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the repository in the form people write: `alpine`, `user/app`, `localhost:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry == DEFAULT_REGISTRY {
            self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
        } else {
            format!("{}/{}", self.registry, self.repository)
        }
    }

    /// Returns the whole reference in the form people write: `alpine:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(format!("{}/{}", self.registry, self.repository)))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidArgument, "parse image reference")
                .with("reference", without_userinfo(text))
                .with_message(why)
        };
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            // Docker reserves bare 64-digit hex for ids.
            return Err(wrong("64 hex digits are an image id, not a name".to_owned()));
        }
        let parsed: Parsed = text.parse().map_err(|e| wrong(format!("invalid reference format: {e}")))?;
        let digest = parsed.digest().map(str::parse).transpose()?;
        let registry = match parsed.registry() {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository: parsed.repository().to_owned(),
            // The parser adds "latest" only where there is no digest either; keep that rule visible here.
            tag: parsed.tag().map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned())),
            digest,
        })
    }
}

/// Cuts what could be a password out of a malformed reference: `user:secret@host/name` (SECURITY D6).
fn without_userinfo(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) if !rest.starts_with("sha256:") && !rest.starts_with("sha512:") => {
            format!("...@{rest}")
        }
        _ => text.to_owned(),
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_docker_hub() {
        assert_eq!(canonical("alpine"), "docker.io/library/alpine:latest");
        assert_eq!(canonical("user/app:1"), "docker.io/user/app:1");
        assert_eq!(canonical("localhost/hello"), "localhost/hello:latest");
        assert_eq!(canonical("localhost:5000/a/b/c:x"), "localhost:5000/a/b/c:x");
        assert_eq!(canonical("index.docker.io/library/a"), "docker.io/library/a:latest");
    }

    #[test]
    fn digests_are_kept_and_add_no_tag() {
        let digest = Digest::sha256(b"");
        let reference: Reference = format!("alpine@{digest}").parse().unwrap();
        assert_eq!((reference.tag(), reference.digest()), (None, Some(&digest)));
        assert_eq!(reference.familiar(), format!("alpine@{digest}"));
        assert_eq!(canonical(&reference.to_string()), reference.to_string());
    }

    #[test]
    fn familiar_form_drops_what_docker_drops() {
        for text in ["alpine:latest", "user/app:1", "localhost:5000/a:b", "quay.io/x/y:z"] {
            assert_eq!(text.parse::<Reference>().unwrap().familiar(), text);
        }
    }

    #[test]
    fn d6_a_password_in_a_reference_is_not_repeated() {
        for text in
            ["user:canary@host/name", "https://user:canary@host/name:tag", "user:canary@host:5000/x@y"]
        {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(!format!("{error:?} {}", error.report()).contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        for text in ["", "UPPER", "a b", "a:", "a@sha256:1", "a:b:c", "-a", "a//b", &"f".repeat(64), "a:b\n"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
