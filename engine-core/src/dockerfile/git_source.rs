//! Repositories of git as sources and contexts: `https://host/repo.git#ref:directory`, `https://host/repo.git?branch=…`.
//!
//! BuildKit's notation. What of it becomes an argument of git(1) is checked here: nothing begins with a `-`, and no name of a reference
//! is a pattern, a range or two references (SECURITY E3).

use crate::error::{Error, ErrorKind, Result};

/// A repository of git.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct GitSource {
    /// Where it is, without what follows.
    pub remote: String,
    /// A branch, a tag, a commit or a reference's whole name; the default branch without one.
    pub reference: Option<String>,
    /// A directory in there; its root without one.
    pub directory: Option<String>,
    /// The commit that the reference must lead to, or how its id begins.
    pub commit: Option<String>,
    /// Whether the directory `.git` comes along, if that is said.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules come along, if that is said.
    pub submodules: Option<bool>,
}

impl GitSource {
    /// Reads a source; `None` if it is no repository.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for one whose fragment and query say something that cannot be.
    pub fn parse(source: &str) -> Result<Option<Self>> {
        let (front, fragment) = match source.split_once('#') {
            Some((front, fragment)) => (front, Some(fragment)),
            None => (source, None),
        };
        let (remote, query) = match front.split_once('?') {
            Some((remote, query)) if front.contains("://") => (remote, Some(query)),
            _ => (front, None),
        };
        let git = starts(remote, "git://")
            || starts(remote, "ssh://")
            || (is_http(remote) && remote.ends_with(".git"))
            || (!remote.contains("://") && is_scp(remote));
        if !git {
            return Ok(None);
        }
        let mut git = Self { remote: remote.to_owned(), ..Self::default() };
        let read = git.read(fragment, query).and_then(|()| git.check());
        read.map(|()| Some(git)).map_err(|why| {
            // With what may be secret left out.
            let shown = remote.rsplit('@').next().unwrap_or_default();
            Error::new(ErrorKind::InvalidArgument, "read git source")
                .with("repository", shown)
                .with_message(why)
        })
    }

    /// Returns the place of the repository without a user and a password: for people, and for the repository's own configuration.
    #[must_use]
    pub fn shown_remote(&self) -> String {
        match self.remote.split_once("://") {
            Some(_) if is_http(&self.remote) => super::without_login(&self.remote),
            // ssh(1) asks for a password itself, and for no user it takes its own.
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let Some((login, host)) = authority.rsplit_once('@') else { return self.remote.clone() };
                let user = login.split(':').next().unwrap_or_default();
                format!("{scheme}://{user}@{host}{path}")
            }
            None => self.remote.clone(),
        }
    }

    /// Returns the user and the password of a repository behind http that names one.
    #[must_use]
    pub fn login(&self) -> Option<(String, String)> {
        let (_, rest) = self.remote.split_once("://").filter(|_| is_http(&self.remote))?;
        let (login, _) = rest.split('/').next()?.rsplit_once('@')?;
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decoded = super::add_source::percent_decoded;
        Some((decoded(user), decoded(password)))
    }

    fn read(&mut self, fragment: Option<&str>, query: Option<&str>) -> Result<(), String> {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if let Some((reference, directory)) = fragment.map(|text| text.split_once(':').unwrap_or((text, "")))
        {
            (self.reference, self.directory) = (filled(reference), filled(directory));
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = super::add_source::percent_decoded(value);
            let truth = match value.as_str() {
                "" | "1" | "true" => Some(true),
                "0" | "false" => Some(false),
                _ => None,
            };
            let slot = match key {
                "keep-git-dir" | "submodules" => {
                    let truth = truth.ok_or_else(|| format!("{key} is true or false, and no {value:?}"))?;
                    let slot =
                        if key == "submodules" { &mut self.submodules } else { &mut self.keep_git_dir };
                    *slot = Some(truth);
                    continue;
                }
                "ref" | "branch" | "tag" => &mut self.reference,
                "subdir" => &mut self.directory,
                "checksum" | "commit" => &mut self.commit,
                _ => return Err(format!("the query has {key:?}, which means nothing")),
            };
            let value = match key {
                _ if value.is_empty() => return Err(format!("{key} of the query lacks its value")),
                "branch" if !value.starts_with("refs/heads/") => format!("refs/heads/{value}"),
                "tag" if !value.starts_with("refs/tags/") => format!("refs/tags/{value}"),
                _ => value,
            };
            match slot {
                Some(known) if *known != value => {
                    return Err(format!("it says both {known:?} and {value:?}"));
                }
                slot => *slot = Some(value),
            }
        }
        if self.reference.is_none() {
            self.reference.clone_from(&self.commit);
        }
        Ok(())
    }

    /// git-check-ref-format(1), for what is to be no option, no pattern and one reference.
    fn check(&self) -> Result<(), String> {
        if self.remote.starts_with('-') || self.remote.contains(char::is_control) {
            return Err("its place cannot be".to_owned());
        }
        let authority = match self.remote.split_once("://") {
            Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
            None => self.remote.split(':').next().unwrap_or_default(),
        };
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with('-') || authority.starts_with('-') {
            return Err("its place names no host".to_owned());
        }
        let of_host = |c: char| c.is_alphanumeric() || ".-_:[]%".contains(c);
        if !host.chars().all(of_host) {
            return Err(format!("{host:?} is no name of a host"));
        }
        for text in self.reference.iter().chain(&self.commit) {
            let bad = text.starts_with(['-', '+', '/', '.'])
                || text.contains(['~', '^', ':', '?', '*', '[', '\\', ' '])
                || text.contains(char::is_control)
                || text.contains("..")
                || text.contains("@{")
                || text.ends_with(['/', '.']);
            if bad {
                return Err(format!("{text:?} is no name of a branch, a tag or a commit"));
            }
        }
        Ok(())
    }
}

/// Whether it is a URL of HTTP.
pub(super) fn is_http(text: &str) -> bool {
    starts(text, "http://") || starts(text, "https://")
}

fn starts(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
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
    fn repositories_have_references_and_directories() {
        for (source, remote, reference, directory) in [
            ("https://x/y.git", "https://x/y.git", None, None),
            ("https://x/y.git#v1:docs", "https://x/y.git", Some("v1"), Some("docs")),
            ("https://x/y.git#:docs", "https://x/y.git", None, Some("docs")),
            ("git://x/y#main", "git://x/y", Some("main"), None),
            ("ssh://git@x:22/y", "ssh://git@x:22/y", None, None),
            ("git@x.y:a/b.git#c", "git@x.y:a/b.git", Some("c"), None),
            ("https://x/y.git?branch=a%2Fb&subdir=d", "https://x/y.git", Some("refs/heads/a/b"), Some("d")),
            ("https://x/y.git?tag=v1", "https://x/y.git", Some("refs/tags/v1"), None),
            ("https://x/y.git?ref=z#z", "https://x/y.git", Some("z"), None),
            ("https://x/y.git?commit=0123456", "https://x/y.git", Some("0123456"), None),
        ] {
            let git = GitSource::parse(source).unwrap().unwrap();
            assert_eq!(git.remote, remote, "{source}");
            assert_eq!(git.reference.as_deref(), reference, "{source}");
            assert_eq!(git.directory.as_deref(), directory, "{source}");
        }
        let flags = GitSource::parse("https://x/y.git?keep-git-dir&submodules=false").unwrap().unwrap();
        assert_eq!((flags.keep_git_dir, flags.submodules), (Some(true), Some(false)));
        for source in [
            "a.git",
            "https://x/y",
            "https://x/y.git.tar?z",
            "ftp://x/y.git",
            "a@b",
            "c:\\x",
            "file:///x.git",
        ] {
            assert_eq!(GitSource::parse(source).unwrap(), None, "{source}");
        }
        assert_eq!(
            GitSource::parse("https://u:p@x/y.git").unwrap().unwrap().shown_remote(),
            "https://x/y.git"
        );
        assert_eq!(
            GitSource::parse("ssh://u:p@x:22/y.git").unwrap().unwrap().shown_remote(),
            "ssh://u@x:22/y.git"
        );
        let login = |source: &str| GitSource::parse(source).unwrap().unwrap().login();
        assert_eq!(login("https://u:p%40s@x/y.git"), Some(("u".to_owned(), "p@s".to_owned())));
        assert_eq!(login("https://token@x/y.git"), Some(("token".to_owned(), String::new())));
        for source in ["https://x/y@z.git", "ssh://git@x/y", "git@x:y.git"] {
            assert_eq!(login(source), None, "{source}");
        }
    }

    #[test]
    fn e3_nothing_is_an_option_or_a_pattern() {
        for source in [
            "git://x/y#--upload-pack=/bin/sh",
            "git://x/y#-x",
            "https://u:p@x.helper=!cmd;/y.git",
            "git://x y/z",
            "git://x/y#+main",
            "git://x/y#a b",
            "git://x/y#a*",
            "git://x/y#a^{tree}",
            "git://x/y#HEAD@{1}",
            "git://x/y#a..b",
            "git://x/y#a\nb",
            "ssh://-oProxyCommand=x/y",
            "ssh://a@-oProxyCommand=x/y",
            "ssh://-oProxyCommand=x@a/y",
            "a@-x:y",
            "git:///y",
            "https://x/y.git?what=1",
            "https://x/y.git?ref=a#b",
            "https://x/y.git?branch=a&tag=b",
            "https://x/y.git?branch",
            "https://x/y.git?submodules=maybe",
            "https://x/y.git?ref=-x",
        ] {
            assert!(GitSource::parse(source).is_err(), "{source}");
        }
    }
}
