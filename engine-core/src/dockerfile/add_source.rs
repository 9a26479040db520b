//! What a source of `ADD` is: a path, a file behind a URL, or a repository of git.
//!
//! BuildKit's rules: what could be a path is one, and a URL of HTTP is a repository's if its path ends with `.git`.

use super::git_source::{GitSource, is_http};
use crate::error::Result;

/// A source of `ADD`, after expansion.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AddSource<'a> {
    /// A path or wildcards in the context.
    Path(&'a str),
    /// A file behind a URL.
    Url(&'a str),
    /// A repository.
    Git(GitSource),
}

impl<'a> AddSource<'a> {
    /// Tells what `source` is.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a repository whose fragment and query say something that cannot be.
    pub fn of(source: &'a str) -> Result<Self> {
        match GitSource::parse(source)? {
            Some(git) => Ok(Self::Git(git)),
            None if is_http(source) => Ok(Self::Url(source)),
            None => Ok(Self::Path(source)),
        }
    }

    /// Returns the name that a file behind a URL gets: the last part of its path, decoded.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        let Self::Url(url) = self else { return None };
        let path = url.split_once("://")?.1.split(['?', '#']).next()?;
        let (_, path) = path.split_once('/')?;
        let decoded = percent_decoded(path);
        let name = decoded.trim_end_matches('/').rsplit('/').next()?;
        let good = !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
        good.then(|| name.to_owned())
    }
}

/// Decodes `%2e` and the like; what is no UTF-8 then stays as it is.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|two| *first == b'%' && two.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|two| std::str::from_utf8(two).ok());
        let byte = code.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Returns a URL without a user and a password.
pub(crate) fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_paths_and_urls() {
        for (source, expected) in [
            ("a/b", AddSource::Path("a/b")),
            ("github.com/a/b", AddSource::Path("github.com/a/b")),
            ("a.git", AddSource::Path("a.git")),
            ("a#b", AddSource::Path("a#b")),
            ("ftp://x/y", AddSource::Path("ftp://x/y")),
            ("https://x/y", AddSource::Url("https://x/y")),
            ("http://x/y.git.tar", AddSource::Url("http://x/y.git.tar")),
            ("HTTPS://x/y", AddSource::Url("HTTPS://x/y")),
            ("c:\\x", AddSource::Path("c:\\x")),
            ("a@b", AddSource::Path("a@b")),
        ] {
            assert_eq!(AddSource::of(source).unwrap(), expected, "{source}");
        }
        assert!(matches!(AddSource::of("https://x/y.git#v1").unwrap(), AddSource::Git(_)));
        for (url, name) in [
            ("https://x/y/z.tar?a=b#c", Some("z.tar")),
            ("https://x/y/", Some("y")),
            ("https://x/a%20b%2Fc%zz%+1", Some("c%zz%+1")),
            ("https://x/%2e%2E", None),
            ("https://x/a%0ab", None),
            ("https://x/", None),
            ("https://x", None),
        ] {
            assert_eq!(AddSource::of(url).unwrap().file_name().as_deref(), name, "{url}");
        }
    }
}
