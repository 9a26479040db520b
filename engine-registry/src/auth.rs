//! Authorization: what to send to whom.
//!
//! Owns the challenges that origins made, the tokens, and the rule for token servers. Invariant: a credential of a
//! registry goes to that registry's origin and to a token server at the same host or on the list, and
//! nowhere else (SECURITY D2). Source: the distribution project's token and OAuth2 specifications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine_core::error::ErrorKind;
use engine_core::registry_client::Credentials;
use oci_distribution::token_cache::RegistryToken;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::CredentialSource;
use crate::endpoint::{Endpoint, registry_key};
use crate::fault::Fault;
use crate::origin::{Origin, registry_url};
use crate::retry::retry_after;
use crate::secret::{Secret, scrub};
use crate::transport::Transport;

/// Token servers that are not at their registry's host.
const KNOWN_TOKEN_SERVERS: [(&str, &str); 2] =
    [("docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// What the specification says a token lives if its answer does not, and the least that is assumed.
const SHORTEST_LIFE: u64 = 60;
const LONGEST_LIFE: u64 = 24 * 60 * 60;
/// A token this close to its end is not used any more.
const SLACK: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "container-engine";
const MAX_CACHED_TOKENS: usize = 1024;

/// A value for the `Authorization` header.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    /// Marked as sensitive, so that its `Debug` hides it.
    pub(crate) value: HeaderValue,
    /// What must not appear in any text.
    pub(crate) secrets: Vec<Secret>,
    /// Whether an account is behind it.
    pub(crate) had_credentials: bool,
    token: Option<TokenKey>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct TokenKey {
    origin: Origin,
    challenge: Challenge,
    scopes: Vec<String>,
}

#[derive(Clone, Debug)]
struct Token {
    secret: Secret,
    /// What it was got with, which an answer must not be quoted with either.
    spent: Vec<Secret>,
    ends: Instant,
    had_credentials: bool,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Finds out and remembers how to be let in.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    pub(crate) source: Arc<CredentialSource>,
    /// (registry, host or host:port of a token server it may send us to).
    token_servers: Vec<(String, String)>,
    challenges: Mutex<HashMap<Origin, Challenge>>,
    tokens: Mutex<HashMap<TokenKey, Slot>>,
}

#[derive(Deserialize)]
struct Life {
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Authorizer {
    pub(crate) fn new(source: CredentialSource, token_servers: Vec<(String, String)>) -> Self {
        Self { source: Arc::new(source), token_servers, ..Self::default() }
    }

    /// Returns one that knows the same token servers, with other credentials and nothing remembered.
    pub(crate) fn with_source(&self, source: CredentialSource) -> Self {
        Self::new(source, self.token_servers.clone())
    }

    /// Remembers what `origin` asked for.
    pub(crate) fn learn(&self, origin: &Origin, challenge: Challenge) {
        let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        challenges.insert(origin.clone(), challenge);
    }

    /// Drops what was refused, so that the next call fetches anew.
    pub(crate) async fn reject(&self, endpoint: &Endpoint, refused: &Authorization) {
        self.source.forget(&endpoint.name);
        if let Some(key) = &refused.token {
            let slot = self.slot(key);
            let mut held = slot.lock().await;
            // Another request may have replaced it already.
            let same = held.as_ref().is_some_and(|t| refused.secrets.contains(&t.secret));
            if same {
                *held = None;
            }
        }
    }

    /// Returns what to send to `origin` for `scopes`: nothing before it asked, or if there is nothing.
    pub(crate) async fn authorization(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        origin: &Origin,
        scopes: &[String],
    ) -> Result<Option<Authorization>, Fault> {
        let asked = self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned();
        match asked {
            None => Ok(None),
            Some(Challenge::Basic) => match self.source.find(&endpoint.name).await? {
                None => Ok(None),
                Some(Credentials::Basic { username, password }) => {
                    // Loopback and configured hosts alone are ever spoken to without TLS; kept here for whoever changes that.
                    if !origin.is_secure() && !transport.rules.allows(origin) {
                        return Err(Fault::new(
                            ErrorKind::PermissionDenied,
                            "no password is sent by plain http",
                        ));
                    }
                    basic(&username, &password).map(Some)
                }
                Some(_) => Err(Fault::new(
                    ErrorKind::Unauthenticated,
                    "it wants a user name and a password, and there is an identity token",
                )
                .hint(format!("log in with `engine-cli login {}`", endpoint.name))),
            },
            Some(challenge) => {
                let key = TokenKey { origin: origin.clone(), challenge, scopes: scopes.to_vec() };
                let slot = self.slot(&key);
                // Held while fetching: others that want the same token wait for this one.
                let mut held = slot.lock().await;
                let token = match held.as_ref().filter(|token| token.ends > Instant::now()) {
                    Some(token) => token.clone(),
                    None => match self.fetch(transport, endpoint, &key).await {
                        Ok(token) => held.insert(token).clone(),
                        Err(fault) => {
                            // A challenge that leads nowhere must not stand in the way of a better one.
                            self.challenges.lock().unwrap_or_else(PoisonError::into_inner).remove(origin);
                            return Err(fault);
                        }
                    },
                };
                let value = header(&format!("Bearer {}", token.secret.expose()))?;
                let had_credentials = token.had_credentials;
                let mut secrets = token.spent;
                secrets.push(token.secret);
                Ok(Some(Authorization { value, secrets, had_credentials, token: Some(key) }))
            }
        }
    }

    fn slot(&self, key: &TokenKey) -> Slot {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_CACHED_TOKENS {
            // Those in use are kept by their users.
            tokens.clear();
        }
        Arc::clone(tokens.entry(key.clone()).or_default())
    }

    /// Checks a realm and returns its URL.
    fn realm(&self, transport: &Transport, endpoint: &Endpoint, key: &TokenKey) -> Result<Url, Fault> {
        let Challenge::Bearer { realm, .. } = &key.challenge else {
            return Err(Fault::new(ErrorKind::Other, "it asked for no token"));
        };
        let url = Url::parse(realm).map_err(|_| Fault::corrupt("its token server is no URL"))?;
        let origin = transport.rules.check(&key.origin, &url, "token server")?;
        let same_host = origin.host() == key.origin.host();
        // Another port of the same address may be another user's; 443 is not.
        let same_owner = origin.port() == key.origin.port() || (origin.is_secure() && origin.port() == 443);
        let known = KNOWN_TOKEN_SERVERS.iter().map(|(registry, server)| (*registry, *server));
        let given = self.token_servers.iter().map(|(registry, server)| (registry.as_str(), server.as_str()));
        let listed = known.chain(given).any(|(registry, server)| {
            registry_key(registry) == endpoint.name
                && registry_url(server, if origin.is_secure() { "https" } else { "http" })
                    .ok()
                    .and_then(|url| Origin::of(&url))
                    .is_some_and(|listed| listed == origin)
        });
        if (same_host && same_owner) || listed {
            return Ok(url);
        }
        Err(Fault::new(
            ErrorKind::PermissionDenied,
            format!("it sends to a token server at another origin, {origin}, which was refused"),
        )
        .hint(format!(
            "if {} is this registry's token server, allow it by name (OciRegistry's with_token_server)",
            origin.authority()
        )))
    }

    async fn fetch(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        key: &TokenKey,
    ) -> Result<Token, Fault> {
        let mut url = self.realm(transport, endpoint, key)?;
        url.set_fragment(None);
        let Challenge::Bearer { service, .. } = &key.challenge else {
            return Err(Fault::corrupt("no realm"));
        };
        let credentials = self.source.find(&endpoint.name).await?;
        let asked = Instant::now();
        let mut secrets = Vec::new();
        let request = match &credentials {
            Some(Credentials::IdentityToken(token)) => {
                secrets.push(Secret::new(token.as_str()));
                let mut form = Url::parse("form:").map_err(|_| Fault::corrupt("form"))?;
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("service", service.as_deref().unwrap_or_default())
                    .append_pair("client_id", CLIENT_ID)
                    .append_pair("scope", &key.scopes.join(" "))
                    .append_pair("refresh_token", token);
                let mut request = Request::new(Method::POST, url);
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, kind);
                *request.body_mut() = form.query().map(|body| body.to_owned().into());
                request
            }
            other => {
                {
                    let mut query = url.query_pairs_mut();
                    if let Some(service) = service {
                        query.append_pair("service", service);
                    }
                    for scope in &key.scopes {
                        query.append_pair("scope", scope);
                    }
                    if let Some(Credentials::Basic { username, .. }) = other {
                        query.append_pair("account", username);
                    }
                }
                let mut request = Request::new(Method::GET, url);
                if let Some(Credentials::Basic { username, password }) = other {
                    let authorization = basic(username, password)?;
                    request.headers_mut().insert(AUTHORIZATION, authorization.value);
                    secrets.extend(authorization.secrets);
                }
                request
            }
        };
        let mut request = request;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let had_credentials = credentials.is_some();
        let (secret, life) = self.ask(transport, endpoint, request, had_credentials, &secrets).await?;
        let ends = asked + Duration::from_secs(life.clamp(SHORTEST_LIFE, LONGEST_LIFE)) - SLACK;
        Ok(Token { secret, spent: secrets, ends, had_credentials })
    }

    /// Sends a token request; redirects are not followed, since they would carry the credentials.
    async fn ask(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        request: Request,
        had_credentials: bool,
        secrets: &[Secret],
    ) -> Result<(Secret, u64), Fault> {
        let response = transport.execute(request).await?;
        let (status, wait) = (response.status(), retry_after(response.headers()));
        let body = transport.body(response, MAX_TOKEN_ANSWER).await?;
        if matches!(status.as_u16(), 400 | 401 | 403) {
            #[derive(Deserialize)]
            struct Told {
                #[serde(default, alias = "error_description")]
                details: String,
            }
            let told = serde_json::from_slice::<Told>(&body).map(|told| scrub(&told.details, secrets));
            let told = told
                .ok()
                .filter(|told| !told.is_empty())
                .map_or_else(String::new, |told| format!(": {told}"));
            return Err(Fault::unauthenticated(&endpoint.name, had_credentials, &told));
        }
        if !status.is_success() {
            let fault = Fault::from_status(status, &body, secrets);
            let message = format!("its token server failed: {}", fault.message());
            let outer = if fault.is_retryable() {
                Fault::passing(fault.kind(), message)
            } else {
                Fault::new(ErrorKind::Unavailable, message)
            };
            return Err(outer.wait(wait));
        }
        // The parser's own message may quote the token.
        let malformed = || Fault::corrupt("its token server's answer is malformed");
        let token: RegistryToken = serde_json::from_slice(&body).map_err(|_| malformed())?;
        let life: Life = serde_json::from_slice(&body).map_err(|_| malformed())?;
        if token.token().is_empty() {
            return Err(malformed());
        }
        Ok((Secret::new(token.token()), life.expires_in.unwrap_or(SHORTEST_LIFE)))
    }
}

fn basic(username: &str, password: &str) -> Result<Authorization, Fault> {
    if username.contains(':') {
        return Err(Fault::new(ErrorKind::InvalidArgument, "the user name has a colon"));
    }
    let encoded = Secret::new(BASE64.encode(format!("{username}:{password}")));
    let value = header(&format!("Basic {}", encoded.expose()))?;
    Ok(Authorization {
        value,
        secrets: vec![Secret::new(password), encoded],
        had_credentials: true,
        token: None,
    })
}

fn header(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Fault::corrupt("its token server sent a token that is no header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Adds `authorization` to `headers`.
pub(crate) fn apply(headers: &mut HeaderMap, authorization: Option<&Authorization>) {
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.value.clone());
    }
}
