//! Bearer tokens, as Docker's clients ask for them, and who gives them.
//!
//! Source: the distribution project's token and OAuth2 specifications. A token is a JWT that this server signed; it grants what
//! was asked for as far as the [`Rules`] allow, for five minutes, and the rules are asked again when it is used: a right that was
//! taken away, a user who was removed and a password that was changed end it at once. A password with each request is as good.
//!
//! Owns what a token means; `api` has the end-point. Invariant: a token never allows what its user may not.

mod claims;
mod key;
mod scope;

use std::path::Path;

use async_trait::async_trait;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use engine_core::error::{Error, ErrorKind, Result};
use reqwest::Url;
use zeroize::Zeroizing;

use self::claims::{Claims, Use, fingerprint, now};
use self::key::SigningKey;
use self::scope::{Grant, asked, grants, has, text};
use super::access::{Access, Authorizer, Decision};
use super::basic::Credentials;
use super::names::RepositoryName;
use super::record::Caller;
use super::rules::{RuleSet, Rules, Sender, decide};

/// Scopes of one token; a token is a header of each request.
const MAX_SCOPES: usize = 32;
/// Where tokens are got.
const PATH: &str = "/token";
const DEFAULT_SERVICE: &str = "registry";

/// Authorizes by [`Rules`], with tokens that it gives, or passwords. Use it with
/// [`with_tokens`](super::RegistryServerBuilder::with_tokens).
#[derive(Debug)]
pub struct Tokens {
    rules: Rules,
    key: SigningKey,
    service: String,
    external: Option<Url>,
    https: bool,
}

/// A token that was given.
pub(super) struct Issued {
    pub(super) token: Zeroizing<String>,
    pub(super) refresh: Option<Zeroizing<String>>,
    pub(super) scope: String,
    pub(super) expires_in: u64,
}

/// Why no token is given.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is not known who asks.
    Unauthenticated,
    /// See [`Decision::TooMany`].
    TooMany(std::time::Duration),
    /// The request is no good.
    Invalid(&'static str),
}

impl Tokens {
    /// Gives tokens by `rules`, signed with the key in the file `key`, which is made if there is none. Servers that share the
    /// file take each other's tokens. Blocks on files.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the file holds no key, or others may read it; else what the file system says.
    pub fn open(rules: Rules, key: impl AsRef<Path>) -> Result<Self> {
        let key = SigningKey::open(key.as_ref())?;
        Ok(Self { rules, key, service: DEFAULT_SERVICE.to_owned(), external: None, https: false })
    }

    /// Sets the name of the registry in tokens: `registry` by default. Servers that share a key and not their tokens have
    /// different names.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is empty, or has other than letters, digits, `.`, `-`, `_`, `:` and `/`.
    pub fn with_service(mut self, service: &str) -> Result<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'/');
        if service.is_empty() || service.len() > 255 || !service.bytes().all(good) {
            return Err(Error::new(ErrorKind::InvalidArgument, "name the service of tokens")
                .with("service", service)
                .with_message("a name has letters, digits, '.', '-', '_', ':' and '/'"));
        }
        service.clone_into(&mut self.service);
        Ok(self)
    }

    /// Sets the URL at which clients find the registry, where something in between changes it. Without it, a client is sent
    /// to the host that it asked for itself.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is no http or https URL of a host.
    pub fn with_external_url(mut self, url: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::InvalidArgument, "set external URL")
                .with("url", url)
                .with_message("it has to be like https://registry.example")
        };
        let parsed = Url::parse(url).map_err(|error| wrong().with_source(error))?;
        let whole = parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty();
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() || !whole {
            return Err(wrong());
        }
        self.external = Some(parsed);
        Ok(self)
    }

    pub(super) fn served_by(mut self, https: bool) -> Self {
        self.https = https;
        self
    }

    /// Returns where tokens are got, as the sender of `request` sees it.
    fn realm(&self, request: &Parts) -> String {
        if let Some(url) = &self.external {
            return format!("{}{PATH}", url.as_str().trim_end_matches('/'));
        }
        let scheme = if self.https { "https" } else { "http" };
        let host =
            request.uri.authority().map(|authority| authority.as_str()).or_else(|| host(&request.headers));
        // What a client calls us comes back to it alone; what is no name of a host comes back to nobody.
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        let host = host.filter(|host| !host.is_empty() && host.len() <= 255 && host.bytes().all(good));
        format!("{scheme}://{}{PATH}", host.unwrap_or("localhost"))
    }

    fn challenge(&self, request: &Parts, access: &[Access], error: Option<&str>) -> String {
        let mut challenge = format!("Bearer realm=\"{}\",service=\"{}\"", self.realm(request), self.service);
        let scope = text(&grants(access));
        for (name, value) in
            [("scope", Some(scope.as_str()).filter(|scope| !scope.is_empty())), ("error", error)]
        {
            if let Some(value) = value {
                challenge.push_str(&format!(",{name}=\"{value}\""));
            }
        }
        challenge
    }

    /// Returns the challenge of the end-point itself, which takes passwords.
    pub(super) fn basic_challenge(&self) -> &'static str {
        super::basic::CHALLENGE
    }

    /// Returns the claims of a token that holds, and whose user has the same password still.
    fn claims(&self, rules: &RuleSet, token: &str, purpose: Use) -> Option<Claims> {
        let claims: Claims = serde_json::from_slice(&self.key.verify(token)?).ok()?;
        if !claims.hold(purpose, &self.service, now()) {
            return None;
        }
        let user = user_of(&claims);
        let hash = match user {
            Some(user) => rules.hash_of(user)?,
            None => "",
        };
        (claims.pwd == fingerprint(user, hash)).then_some(claims)
    }

    /// Gives a token to whoever's credentials are in the head of a request.
    pub(super) async fn issue_to_sender(
        &self,
        request: &Parts,
        service: Option<&str>,
        scopes: &[&str],
        offline: bool,
    ) -> Result<Issued, Refused> {
        let rules = self.rules.current();
        let sender = self.rules.sender(request, &rules).await;
        self.issue(&rules, &sender, service, scopes, offline)
    }

    /// Gives a token for a name and a password.
    pub(super) async fn issue_for_password(
        &self,
        request: &Parts,
        (name, password): (&str, &str),
        service: Option<&str>,
        scopes: &[&str],
        offline: bool,
    ) -> Result<Issued, Refused> {
        let rules = self.rules.current();
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let sender = self.rules.log_in(request, &rules, name.to_owned(), password).await;
        self.issue(&rules, &sender, service, scopes, offline)
    }

    /// Gives a token for one that was given to be used for this.
    pub(super) fn issue_for_refresh(
        &self,
        token: &str,
        service: Option<&str>,
        scopes: &[&str],
    ) -> Result<Issued, Refused> {
        let rules = self.rules.current();
        let claims = self.claims(&rules, token, Use::Refresh).ok_or(Refused::Unauthenticated)?;
        let sender = user_of(&claims).map_or(Sender::Unknown, |user| Sender::User(user.to_owned()));
        self.issue(&rules, &sender, service, scopes, false)
    }

    fn issue(
        &self,
        rules: &RuleSet,
        sender: &Sender,
        service: Option<&str>,
        scopes: &[&str],
        offline: bool,
    ) -> Result<Issued, Refused> {
        if service.is_some_and(|service| service != self.service) {
            return Err(Refused::Invalid("the service is another one"));
        }
        if scopes.len() > MAX_SCOPES {
            return Err(Refused::Invalid("there are too many scopes"));
        }
        let user = match sender {
            Sender::User(name) => Some(name.as_str()),
            Sender::Anonymous => None,
            Sender::Unknown => return Err(Refused::Unauthenticated),
            Sender::TooMany(wait) => return Err(Refused::TooMany(*wait)),
        };
        let wanted = scopes.iter().flat_map(|scope| asked(scope));
        let granted: Vec<Access> = wanted.filter(|access| rules.allow(user, access)).collect();
        let granted = grants(&granted);
        // Nobody gets nothing: better to say here that one has to log in.
        if user.is_none() && granted.is_empty() {
            return Err(Refused::Unauthenticated);
        }
        let hash = user.and_then(|user| rules.hash_of(user)).unwrap_or_default();
        let scope = text(&granted);
        let refresh = user.filter(|_| offline).map(|_| self.token(Use::Refresh, user, hash, Vec::new()));
        let token = self.token(Use::Access, user, hash, granted);
        Ok(Issued { token, refresh, scope, expires_in: claims::ACCESS_LIFE })
    }

    fn token(&self, purpose: Use, user: Option<&str>, hash: &str, granted: Vec<Grant>) -> Zeroizing<String> {
        let claims = Claims::new(purpose, &self.service, user, hash, granted);
        // Texts and numbers are JSON.
        Zeroizing::new(self.key.sign(&serde_json::to_vec(&claims).unwrap_or_default()))
    }
}

fn user_of(claims: &Claims) -> Option<&str> {
    Some(claims.sub.as_str()).filter(|user| !user.is_empty())
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

#[async_trait]
impl Authorizer for Tokens {
    async fn authorize(&self, request: &Parts, access: &[Access]) -> Result<Decision> {
        let rules = self.rules.current();
        let Credentials::Bearer(token) = Credentials::of(&request.headers) else {
            let sender = self.rules.sender(request, &rules).await;
            if let Sender::User(name) = &sender {
                Caller::note(request, name);
            }
            return Ok(decide(&rules, &sender, access, || self.challenge(request, access, None)));
        };
        let refuse = |error| Ok(Decision::Unauthenticated(self.challenge(request, access, Some(error))));
        let Some(claims) = self.claims(&rules, &token, Use::Access) else { return refuse("invalid_token") };
        let user = user_of(&claims);
        if let Some(name) = user {
            Caller::note(request, name);
        }
        if !access.iter().all(|one| rules.allow(user, one)) {
            return match user {
                Some(_) => Ok(Decision::Denied),
                None => refuse("insufficient_scope"),
            };
        }
        if !access.iter().all(|one| has(&claims.access, one)) {
            return refuse("insufficient_scope");
        }
        Ok(Decision::Allowed)
    }

    async fn visible(
        &self,
        request: &Parts,
        repositories: Vec<RepositoryName>,
    ) -> Result<Vec<RepositoryName>> {
        let Credentials::Bearer(token) = Credentials::of(&request.headers) else {
            return self.rules.visible(request, repositories).await;
        };
        let rules = self.rules.current();
        Ok(match self.claims(&rules, &token, Use::Access) {
            Some(claims) => rules.visible(user_of(&claims), repositories),
            None => Vec::new(),
        })
    }
}
