//! A request and all it takes to get its answer.
//!
//! Owns the scheme that is tried, the answer to a challenge, redirects and retries. Invariant: `Authorization` goes to the
//! endpoint's own origin alone, and after the first redirect to another origin to nobody (SECURITY D2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use engine_core::error::ErrorKind;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, LOCATION};
use reqwest::{Method, Request, Response, StatusCode, Url};
use tokio::time::sleep;

use crate::auth::{Authorization, Authorizer, apply};
use crate::challenge;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::origin::Origin;
use crate::retry::{RetryPolicy, retry_after};
use crate::secret::Secret;
use crate::transport::Transport;

const MAX_REDIRECTS: usize = 5;
pub(crate) const MAX_ERROR_BODY: u64 = 64 << 10;

/// Sends requests to endpoints.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) transport: Arc<Transport>,
    pub(crate) authorizer: Authorizer,
    pub(crate) retry: RetryPolicy,
    /// Whether an authority turned out to speak TLS.
    schemes: Mutex<HashMap<String, bool>>,
}

/// What to ask for.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target<'a>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// What a token must allow, as in `repository:library/alpine:pull`.
    pub(crate) scopes: &'a [String],
}

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// A path of the endpoint, beginning with a slash.
    Path(&'a str),
    /// A URL the endpoint gave, checked already.
    Url(&'a Url),
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// The endpoint's origin, as it was used.
    pub(crate) origin: Origin,
    /// What was sent and must not be quoted.
    secrets: Vec<Secret>,
    had_credentials: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, target: Target<'a>, scopes: &'a [String]) -> Self {
        Self { method, target, headers: HeaderMap::new(), body: None, scopes }
    }

    pub(crate) fn get(path: &'a str, scopes: &'a [String]) -> Self {
        Self::new(Method::GET, Target::Path(path), scopes)
    }
}

impl Answer {
    /// The answer to a request that carried `authorization`.
    pub(crate) fn new(response: Response, origin: Origin, authorization: Option<&Authorization>) -> Self {
        Self {
            response,
            origin,
            secrets: authorization.map(|sent| sent.secrets.clone()).unwrap_or_default(),
            had_credentials: authorization.is_some_and(|sent| sent.had_credentials),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }
}

impl Session {
    pub(crate) fn new(transport: Transport, authorizer: Authorizer, retry: RetryPolicy) -> Self {
        Self { transport: Arc::new(transport), authorizer, retry, schemes: Mutex::default() }
    }

    /// Returns one with the same connections and another authorizer.
    pub(crate) fn with_authorizer(&self, authorizer: Authorizer) -> Self {
        let transport = Arc::clone(&self.transport);
        Self { transport, authorizer, retry: self.retry.clone(), schemes: Mutex::default() }
    }

    /// Asks until there is an answer that is not a passing failure, or the tries run out.
    ///
    /// The answer may be any other failure: see [`expect`](Self::expect).
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        attempts: u32,
    ) -> Result<Answer, Fault> {
        let mut failed = 0;
        loop {
            let fault = match self.exchange(endpoint, ask).await {
                Ok(answer) if !is_passing(answer.status()) => return Ok(answer),
                Ok(answer) => self.fault(endpoint, answer).await,
                Err(fault) => fault,
            };
            failed += 1;
            if !fault.is_retryable() || failed >= attempts {
                return Err(fault);
            }
            let asked = fault.waits();
            let Some(wait) = self.retry.delay(failed, asked) else {
                let seconds = asked.unwrap_or_default().as_secs();
                return Err(fault.hint(format!("it asks to wait for {seconds} s: try again then, or log in")));
            };
            tracing::debug!(registry = endpoint.name, %fault, ?wait, "trying again");
            sleep(wait).await;
        }
    }

    /// Returns the answer if its status is one of `wanted`, else the failure it stands for.
    pub(crate) async fn expect(
        &self,
        endpoint: &Endpoint,
        answer: Answer,
        wanted: &[StatusCode],
    ) -> Result<Answer, Fault> {
        if wanted.contains(&answer.status()) { Ok(answer) } else { Err(self.fault(endpoint, answer).await) }
    }

    async fn fault(&self, endpoint: &Endpoint, answer: Answer) -> Fault {
        let (status, wait) = (answer.status(), retry_after(answer.headers()));
        // A failure to read the text of a failure says nothing new.
        let body = self.transport.body(answer.response, MAX_ERROR_BODY).await.unwrap_or_default();
        let fault = Fault::from_status(status, &body, &answer.secrets).wait(wait);
        if status != StatusCode::UNAUTHORIZED {
            return fault;
        }
        let told =
            fault.message().split_once("): ").map_or_else(String::new, |(_, told)| format!(": {told}"));
        Fault::unauthenticated(&endpoint.name, answer.had_credentials, &told)
    }

    /// One try: over the schemes that may be used, with one answer to a challenge.
    async fn exchange(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Answer, Fault> {
        let path = match ask.target {
            Target::Path(path) => path,
            Target::Url(url) => {
                let origin = self.own_origin(endpoint)?;
                return self.answered(endpoint, &origin, url.clone(), ask).await;
            }
        };
        let known = self.scheme(endpoint);
        let schemes = match known {
            Some(secure) => vec![secure],
            None => endpoint.schemes(&self.transport.rules)?,
        };
        let mut first = None;
        for secure in schemes {
            let url = endpoint.url(secure, path)?;
            let origin = origin_of(&url)?;
            match self.answered(endpoint, &origin, url, ask).await {
                Err(fault) if fault.may_be_plain() => {
                    self.set_scheme(endpoint, None);
                    // If nobody is there without TLS either, what https said is the better story.
                    first.get_or_insert(fault);
                }
                Err(fault) => return Err(fault),
                Ok(answer) => {
                    self.set_scheme(endpoint, Some(secure));
                    return Ok(answer);
                }
            }
        }
        Err(first.unwrap_or_else(|| Fault::new(ErrorKind::Unavailable, "it cannot be reached")))
    }

    fn scheme(&self, endpoint: &Endpoint) -> Option<bool> {
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint.authority()).copied()
    }

    fn set_scheme(&self, endpoint: &Endpoint, secure: Option<bool>) {
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        match secure {
            Some(secure) => schemes.insert(endpoint.authority().to_owned(), secure),
            None => schemes.remove(endpoint.authority()),
        };
    }

    /// Returns the origin of the endpoint with the scheme it was found to speak.
    pub(crate) fn own_origin(&self, endpoint: &Endpoint) -> Result<Origin, Fault> {
        origin_of(&endpoint.url(self.scheme(endpoint).unwrap_or(true), "/")?)
    }

    /// Sends, and answers one challenge.
    async fn answered(
        &self,
        endpoint: &Endpoint,
        origin: &Origin,
        url: Url,
        ask: &Ask<'_>,
    ) -> Result<Answer, Fault> {
        let authorization = self.authorization(endpoint, origin, &url, ask.scopes).await?;
        let answer = self.follow(origin, url.clone(), ask, authorization.as_ref()).await?;
        let asked = challenge::parse(answer.headers());
        let ours = origin_of(answer.response.url()).is_ok_and(|last| last == *origin);
        let (StatusCode::UNAUTHORIZED, true, Some(asked)) = (answer.status(), ours, asked) else {
            return Ok(answer);
        };
        self.authorizer.learn(origin, asked);
        if let Some(refused) = &authorization {
            self.authorizer.reject(endpoint, refused).await;
        }
        match self.authorization(endpoint, origin, &url, ask.scopes).await? {
            // The same again would be refused again.
            Some(next) if authorization.as_ref().is_none_or(|last| last.value != next.value) => {
                self.follow(origin, url, ask, Some(&next)).await
            }
            _ => Ok(answer),
        }
    }

    /// Returns what to send to `url`, which is nothing unless it is of the endpoint's own origin.
    pub(crate) async fn authorization(
        &self,
        endpoint: &Endpoint,
        own: &Origin,
        url: &Url,
        scopes: &[String],
    ) -> Result<Option<Authorization>, Fault> {
        if origin_of(url)? != *own {
            return Ok(None);
        }
        self.authorizer.authorization(&self.transport, endpoint, own, scopes).await
    }

    async fn follow(
        &self,
        own: &Origin,
        mut url: Url,
        ask: &Ask<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, Fault> {
        let mut left = false;
        for _ in 0..=MAX_REDIRECTS {
            left |= origin_of(&url)? != *own;
            let authorization = authorization.filter(|_| !left);
            let mut request = Request::new(ask.method.clone(), url.clone());
            *request.headers_mut() = ask.headers.clone();
            apply(request.headers_mut(), authorization);
            match &ask.body {
                Some(body) => *request.body_mut() = Some(body.clone().into()),
                None if ask.method != Method::GET && ask.method != Method::HEAD => {
                    request.headers_mut().insert(CONTENT_LENGTH, 0.into());
                }
                None => {}
            }
            let response = self.transport.execute(request).await?;
            let fetching = matches!(ask.method, Method::GET | Method::HEAD);
            if !fetching || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer::new(response, own.clone(), authorization));
            }
            url = self.location(&response, "redirect")?;
        }
        Err(Fault::new(ErrorKind::Unavailable, format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    /// Reads and checks the `Location` of an answer.
    pub(crate) fn location(&self, response: &Response, what: &str) -> Result<Url, Fault> {
        let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| Fault::corrupt(format!("its {what} has no Location")))?;
        let from = response.url();
        let url =
            from.join(text).map_err(|_| Fault::corrupt(format!("the Location of its {what} is no URL")))?;
        self.transport.rules.check(&origin_of(from)?, &url, what)?;
        Ok(url)
    }
}

fn origin_of(url: &Url) -> Result<Origin, Fault> {
    Origin::of(url).ok_or_else(|| Fault::new(ErrorKind::InvalidArgument, "its URL is neither http nor https"))
}

pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}
