//! What a source of `ADD` is: a path, a file behind a URL, or a repository of git.
//!
//! BuildKit's rules: what could be a path is one, and a URL of HTTP is a repository's if its path ends with `.git`.

/// A source of `ADD`, after expansion.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AddSource<'a> {
    /// A path or wildcards in the context.
    Path(&'a str),
    /// A file behind a URL.
    Url(&'a str),
    /// A repository.
    Git(GitSource<'a>),
}

/// A repository of git: `https://host/repo.git#ref:directory`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GitSource<'a> {
    /// Where it is.
    pub remote: &'a str,
    /// A branch, a tag or a commit; the default branch without one.
    pub reference: Option<&'a str>,
    /// A directory in there; its root without one.
    pub directory: Option<&'a str>,
}

impl<'a> AddSource<'a> {
    /// Tells what `source` is.
    #[must_use]
    pub fn of(source: &'a str) -> Self {
        let (remote, fragment) = match source.split_once('#') {
            Some((remote, fragment)) => (remote, Some(fragment)),
            None => (source, None),
        };
        let starts =
            |prefix: &str| remote.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        let http = starts("http://") || starts("https://");
        let path = remote.split('?').next().unwrap_or(remote);
        let git = starts("git://")
            || starts("ssh://")
            || (http && path.ends_with(".git"))
            || (!remote.contains("://") && is_scp(remote));
        if !git {
            return if http { Self::Url(source) } else { Self::Path(source) };
        }
        let (reference, directory) = match fragment.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((reference, directory)) => (Some(reference), Some(directory)),
            None => (None, None),
        };
        let filled = |text: &&str| !text.is_empty();
        Self::Git(GitSource {
            remote,
            reference: reference.filter(filled),
            directory: directory.filter(filled),
        })
    }

    /// Returns the name that a file behind a URL gets: the last part of its path.
    #[must_use]
    pub fn file_name(&self) -> Option<&'a str> {
        let Self::Url(url) = self else { return None };
        let path = url.split_once("://")?.1.split(['?', '#']).next()?;
        let (_, path) = path.split_once('/')?;
        path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())
    }
}

/// `user@host:path`, as ssh(1) and git(1) have it.
fn is_scp(text: &str) -> bool {
    let Some((front, path)) = text.split_once(':') else { return false };
    let Some((user, host)) = front.split_once('@') else { return false };
    let clean =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    clean(user) && clean(host) && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_paths_urls_and_repositories() {
        let git = |remote, reference, directory| AddSource::Git(GitSource { remote, reference, directory });
        for (source, expected) in [
            ("a/b", AddSource::Path("a/b")),
            ("github.com/a/b", AddSource::Path("github.com/a/b")),
            ("a.git", AddSource::Path("a.git")),
            ("a#b", AddSource::Path("a#b")),
            ("ftp://x/y", AddSource::Path("ftp://x/y")),
            ("https://x/y", AddSource::Url("https://x/y")),
            ("http://x/y.git.tar", AddSource::Url("http://x/y.git.tar")),
            ("HTTPS://x/y", AddSource::Url("HTTPS://x/y")),
            ("https://x/y.git", git("https://x/y.git", None, None)),
            ("https://x/y.git#v1:docs", git("https://x/y.git", Some("v1"), Some("docs"))),
            ("https://x/y.git#:docs", git("https://x/y.git", None, Some("docs"))),
            ("git://x/y#main", git("git://x/y", Some("main"), None)),
            ("ssh://git@x:22/y", git("ssh://git@x:22/y", None, None)),
            ("git@x.y:a/b.git#c", git("git@x.y:a/b.git", Some("c"), None)),
            ("c:\\x", AddSource::Path("c:\\x")),
            ("a@b", AddSource::Path("a@b")),
        ] {
            assert_eq!(AddSource::of(source), expected, "{source}");
        }
        for (url, name) in [
            ("https://x/y/z.tar?a=b#c", Some("z.tar")),
            ("https://x/y/", Some("y")),
            ("https://x/", None),
            ("https://x", None),
        ] {
            assert_eq!(AddSource::of(url).file_name(), name, "{url}");
        }
    }
}
