//! Users and rules of one readable file: who may pull, push and delete in which repositories.
//!
//! ```toml
//! [users]                                # bcrypt hashes
//! alice = "$2y$10$…"
//! ci    = "$2y$10$…"
//!
//! [groups]
//! team = ["alice"]
//!
//! [[rules]]
//! who = ["@team", "ci"]                  # users, @groups, "*" (every user), "anonymous" (who did not log in)
//! may = ["push", "delete"]               # pull; push, which includes it; delete
//! repositories = ["team/**", "base/*"]   # * within a component, ** for one or more
//!
//! [[rules]]
//! who = "*"
//! may = ["push", "delete"]
//! repositories = "{user}/**"             # the name of whoever asks
//! ```
//!
//! Owns the decision. What no rule allows is denied. The answer depends on names only, never on what there is, so it tells
//! nobody whether a repository exists. Invariant: a file that cannot be understood changes nothing.

mod edit;
mod parse;
mod pattern;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::request::Parts;
use engine_core::error::Result;
use zeroize::Zeroizing;

pub use self::edit::RulesFile;
use self::pattern::Pattern;
use super::access::{Access, Action, Authorizer, Decision, Scope};
use super::basic::{CHALLENGE, Credentials};
use super::names::RepositoryName;
use super::passwords::{Passwords, Verdict, usual};
use super::record::Caller;
use super::watched::Watched;

/// Authorizes by a file of users and rules, which is read again when it changes. Users send their password with each
/// request; with [`Tokens`](super::Tokens) they may have tokens instead.
pub struct Rules {
    file: Watched<RuleSet>,
    passwords: Passwords,
}

/// What the file says.
#[derive(Default)]
pub(super) struct RuleSet {
    users: BTreeMap<String, String>,
    rules: Vec<Rule>,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self.users.keys().collect();
        f.debug_struct("RuleSet").field("users", &users).field("rules", &self.rules).finish()
    }
}

#[derive(Debug)]
struct Rule {
    who: Vec<Who>,
    may: Vec<Action>,
    repositories: Vec<Pattern>,
}

#[derive(Debug, Eq, PartialEq)]
enum Who {
    User(String),
    EveryUser,
    Anonymous,
}

/// Whom a request is from, as its credentials say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Sender {
    /// It has no credentials.
    Anonymous,
    /// A user whose password was right.
    User(String),
    /// Credentials that are not right.
    Unknown,
    /// Nobody looks at the credentials for this long.
    TooMany(Duration),
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("path", &self.file.path()).finish_non_exhaustive()
    }
}

impl Rules {
    /// Reads the file. Blocks on it.
    ///
    /// # Errors
    /// [`InvalidArgument`](engine_core::ErrorKind::InvalidArgument) if it is not understood, with the line and the key; else
    /// what the file system says.
    ///
    /// # Panics
    /// If the kernel gives no random bytes, which Linux does not do after boot (getrandom(2)).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { file: Watched::open(path.into(), RuleSet::parse)?, passwords: Passwords::new() })
    }

    /// Returns what the file says now.
    pub(super) fn current(&self) -> std::sync::Arc<RuleSet> {
        self.file.current()
    }

    /// Finds out whose password this is.
    pub(super) async fn log_in(
        &self,
        request: &Parts,
        rules: &RuleSet,
        name: String,
        password: Zeroizing<Vec<u8>>,
    ) -> Sender {
        let (found, other) = (rules.hash_of(&name), usual(rules.users.values().map(String::as_str)));
        match self.passwords.check(request, &name, found, other, password).await {
            Verdict::Right => Sender::User(name),
            Verdict::Wrong => Sender::Unknown,
            Verdict::TooMany(wait) => Sender::TooMany(wait),
        }
    }

    /// Finds out whom a request without a token is from.
    pub(super) async fn sender(&self, request: &Parts, rules: &RuleSet) -> Sender {
        match Credentials::of(&request.headers) {
            Credentials::None => Sender::Anonymous,
            Credentials::Basic(name, password) => self.log_in(request, rules, name, password).await,
            Credentials::Bearer(_) | Credentials::Malformed => Sender::Unknown,
        }
    }
}

impl RuleSet {
    /// Returns the bcrypt hash of a user.
    pub(super) fn hash_of(&self, user: &str) -> Option<&str> {
        self.users.get(user).map(String::as_str)
    }

    /// Whether a rule lets `user`, or without one those who did not log in, do this.
    pub(super) fn allow(&self, user: Option<&str>, access: &Access) -> bool {
        // Who is not in the file any more is nobody's user.
        if user.is_some_and(|user| !self.users.contains_key(user)) {
            return false;
        }
        let mut rules =
            self.rules.iter().filter(|rule| rule.is_for(user) && rule.may.contains(&access.action));
        match &access.scope {
            Scope::Repository(name) => {
                rules.any(|rule| rule.repositories.iter().any(|pattern| pattern.matches(name, user)))
            }
            // What a user sees in it is another question, and may be nothing.
            Scope::Catalog => user.is_some() || rules.next().is_some(),
            Scope::Registry => rules.any(|rule| rule.repositories.iter().any(Pattern::is_everything)),
        }
    }

    /// Keeps those that `user` may pull from.
    pub(super) fn visible(
        &self,
        user: Option<&str>,
        mut repositories: Vec<RepositoryName>,
    ) -> Vec<RepositoryName> {
        repositories.retain(|name| {
            let scope = Scope::Repository(name.clone());
            self.allow(user, &Access { scope, action: Action::Pull })
        });
        repositories
    }
}

impl Rule {
    fn is_for(&self, user: Option<&str>) -> bool {
        self.who.iter().any(|who| match who {
            Who::User(name) => user == Some(name),
            Who::EveryUser => user.is_some(),
            Who::Anonymous => user.is_none(),
        })
    }
}

/// Decides about a sender whom `challenge` tells how to say who it is.
pub(super) fn decide(
    rules: &RuleSet,
    sender: &Sender,
    access: &[Access],
    challenge: impl FnOnce() -> String,
) -> Decision {
    let all = |user: Option<&str>| access.iter().all(|one| rules.allow(user, one));
    match sender {
        Sender::TooMany(wait) => Decision::TooMany(*wait),
        Sender::User(name) if all(Some(name)) => Decision::Allowed,
        Sender::User(_) => Decision::Denied,
        // A client that is not asked at the beginning would never log in.
        Sender::Anonymous if !access.is_empty() && all(None) => Decision::Allowed,
        Sender::Anonymous | Sender::Unknown => Decision::Unauthenticated(challenge()),
    }
}

#[async_trait]
impl Authorizer for Rules {
    async fn authorize(&self, request: &Parts, access: &[Access]) -> Result<Decision> {
        let rules = self.current();
        let sender = self.sender(request, &rules).await;
        if let Sender::User(name) = &sender {
            Caller::note(request, name);
        }
        Ok(decide(&rules, &sender, access, || CHALLENGE.to_owned()))
    }

    async fn visible(
        &self,
        request: &Parts,
        repositories: Vec<RepositoryName>,
    ) -> Result<Vec<RepositoryName>> {
        let rules = self.current();
        Ok(match self.sender(request, &rules).await {
            Sender::User(name) => rules.visible(Some(&name), repositories),
            Sender::Anonymous => rules.visible(None, repositories),
            Sender::Unknown | Sender::TooMany(_) => Vec::new(),
        })
    }
}
