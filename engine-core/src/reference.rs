//! Image references in Docker's notation, normalised once.
//!
//! `alpine` means `docker.io/library/alpine:latest`. The grammar is the distribution project's. It is read by hand:
//! the `oci-spec` crate has it as a regular expression, whose compilation takes longer than starting a container.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};

/// The registry that a name without a host belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The registry of images that have no name; no host can be called so.
const DANGLING: &str = "dangling.invalid";
const BUILD_STEPS: &str = "build.invalid";

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

    /// Returns the name an image keeps when it has lost its last one: of no registry (RFC 2606), by digest.
    #[must_use]
    pub fn dangling(digest: Digest) -> Self {
        Self {
            registry: DANGLING.to_owned(),
            repository: "image".to_owned(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// Returns the name that a build's step is kept by: of no registry (RFC 2606), by its key.
    #[must_use]
    pub(crate) fn build_step(key: Digest) -> Self {
        Self { registry: BUILD_STEPS.to_owned(), repository: "step".to_owned(), tag: None, digest: Some(key) }
    }

    /// Returns whether it is the name of a build's step.
    #[must_use]
    pub(crate) fn is_build_step(&self) -> bool {
        self.registry == BUILD_STEPS
    }

    /// Returns whether this is no name that anybody gave: see [`dangling`](Self::dangling).
    #[must_use]
    pub fn is_dangling(&self) -> bool {
        self.registry == DANGLING
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
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse::<Digest>();
                let malformed = |_| wrong("invalid reference format: the digest is malformed".to_owned());
                (rest, Some(digest.map_err(malformed)?))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("invalid reference format: the tag is malformed".to_owned()));
        }
        let (registry, repository) = match name.split_once('/') {
            // What has a dot or a port, or is localhost, is a host; as is what no repository can be.
            Some((first, rest))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.contains(char::is_uppercase) =>
            {
                (first, rest.to_owned())
            }
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        let repository = match registry {
            DEFAULT_REGISTRY if !repository.contains('/') => format!("library/{repository}"),
            _ => repository,
        };
        if !is_registry(registry) {
            return Err(wrong("invalid reference format: the registry is malformed".to_owned()));
        }
        if !repository.split('/').all(is_path_component) {
            let lower =
                if repository.contains(char::is_uppercase) { "must be lowercase" } else { "is malformed" };
            return Err(wrong(format!("invalid reference format: the repository name {lower}")));
        }
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(wrong(format!("the name has more than {MAX_NAME} characters")));
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            // Without a tag the latest is meant, unless a digest says what is.
            tag: tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned())),
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

/// Longest name: registry, slash and repository.
const MAX_NAME: usize = 255;

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// A host name, an IPv4 address, or an IPv6 address in brackets; then a port, maybe.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) => {
                let good = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                if !good {
                    return false;
                }
                match (rest, rest.strip_prefix(':')) {
                    ("", _) => return true,
                    (_, Some(port)) => ("ipv6", Some(port)),
                    _ => return false,
                }
            }
            None => return false,
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    // Between two words there is one separator.
    ends && bytes.split(|b| word(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
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

    #[test]
    fn hosts_may_have_upper_case_and_be_ipv6_as_docker_has_them() {
        assert_eq!(canonical("Host/a"), "Host/a:latest");
        assert_eq!(canonical("[::1]:5000/a"), "[::1]:5000/a:latest");
        for text in ["[::1]a", "[::1/a", "[]:1/a", "[::1]:x/a"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    /// The same parts as `oci-spec` finds with its regular expression, or neither accepts it.
    fn same_as_oci_spec(text: &str) {
        let theirs = text.parse::<oci_spec::distribution::Reference>();
        let ours = text.parse::<Reference>();
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(
                    ours.registry(),
                    theirs.registry().replace("index.docker.io", "docker.io"),
                    "{text:?}"
                );
                assert_eq!(ours.repository(), theirs.repository(), "{text:?}");
                assert_eq!(ours.tag(), theirs.tag(), "{text:?}");
            }
            (Err(_), Err(_)) => {}
            // It takes any registry's name.
            (Err(_), Ok(theirs)) if !is_registry(theirs.registry()) => {}
            _ => panic!("{text:?}: {ours:?}, {theirs:?}"),
        }
    }

    #[test]
    fn reads_as_oci_spec_does() {
        for text in [
            "a",
            "a:b",
            "a/b",
            "a.b/c",
            "a.b:1/c:d",
            "localhost/x",
            "localhost",
            "a__b",
            "a___b",
            "a..b",
            "a-_b",
            "a---b",
            "a-",
            "-a",
            "a.b/",
            "/a",
            "a:",
            "a:-x",
            "a:x-",
            "Host",
            "a/B",
            "a.b:x/c",
            "1.2.3.4/a",
            "a_b/c",
            "a_b.c/d",
            "x.y-/z",
            "docker.io/a",
            "a b",
        ] {
            same_as_oci_spec(text);
        }
    }

    proptest::proptest! {
        #[test]
        fn reads_as_oci_spec_does_whatever_comes(text in "[a-c0-1._:/-]{1,12}") {
            same_as_oci_spec(&text);
        }
    }
}
