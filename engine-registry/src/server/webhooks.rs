//! Events over http, in the envelope of distribution's notifications.
//!
//! Owns the queue, the retries and what an event looks like as JSON. Invariants: a queue has an end, and who does not listen loses
//! events, not requests; no header of an endpoint reaches a log (SECURITY D6).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use engine_core::error::{Error, ErrorKind, Result};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::events::{EventAction, EventListener, RegistryEvent};
use crate::tls::{TlsOptions, certificates};

const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";
/// Events of one request.
const BATCH: usize = 64;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One endpoint that events are sent to.
#[derive(Clone)]
#[non_exhaustive]
pub struct WebhookOptions {
    /// Where they are sent.
    pub url: String,
    /// Headers of each request, such as `Authorization`.
    pub headers: Vec<(String, String)>,
    /// What is told. By default everything but pulls.
    pub actions: Vec<EventAction>,
    /// How long an answer may take. 5 seconds by default.
    pub timeout: Duration,
    /// How often the same events are sent before they are given up, with ever longer waits. 10 by default.
    pub tries: u32,
    /// How many events may wait; more are lost. 4,096 by default.
    pub queue: usize,
    /// Authorities (PEM) beside the system's.
    pub authorities: Option<Vec<u8>>,
}

impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may have a password or a token, too.
        f.debug_struct("WebhookOptions").field("actions", &self.actions).finish_non_exhaustive()
    }
}

impl WebhookOptions {
    /// Sends everything but pulls to `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            actions: vec![EventAction::Push, EventAction::Mount, EventAction::Delete],
            timeout: Duration::from_secs(5),
            tries: 10,
            queue: 4096,
            authorities: None,
        }
    }

    /// Adds a header to each request.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets what is told.
    #[must_use]
    pub fn with_actions(mut self, actions: impl Into<Vec<EventAction>>) -> Self {
        self.actions = actions.into();
        self
    }

    /// Sets how long an answer may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often the same events are sent before they are given up.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Sets how many events may wait.
    #[must_use]
    pub fn with_queue(mut self, queue: usize) -> Self {
        self.queue = queue;
        self
    }

    /// Trusts these authorities (PEM), too.
    #[must_use]
    pub fn with_authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }
}

/// Sends events to an endpoint. It takes events within a tokio runtime.
#[derive(Debug)]
pub struct Webhook {
    actions: Vec<EventAction>,
    sender: Arc<Sender>,
    queue: mpsc::Sender<RegistryEvent>,
    /// Where events come out, until the first one starts the task that sends them.
    waiting: Mutex<Option<mpsc::Receiver<RegistryEvent>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    lost: AtomicU64,
}

struct Sender {
    client: Client,
    url: Url,
    headers: HeaderMap,
    tries: u32,
    /// What logs call the endpoint.
    name: String,
    ending: Notify,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Checks the options. Blocks on the files of the system's authorities.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the URL is none of http or https, a header is none, or there is no room to wait.
    pub fn new(options: WebhookOptions) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidArgument, "make webhook").with_message(why);
        let url = Url::parse(&options.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // Without the URL: it may be a secret.
        let url = url.ok_or_else(|| wrong("the URL is none of http or https"))?;
        if options.queue == 0 || options.tries == 0 || options.timeout.is_zero() {
            return Err(wrong("a limit is zero"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let parsed: Option<(HeaderName, HeaderValue)> = name.parse().ok().zip(value.parse().ok());
            let (name, mut value) = parsed.ok_or_else(|| wrong("a header is malformed"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        let name = url.origin().ascii_serialization();
        let authorities = match &options.authorities {
            Some(pem) => certificates(pem, "the webhook's authorities".as_ref())
                .map_err(|_| wrong("no PEM certificates"))?,
            None => Vec::new(),
        };
        let tls = TlsOptions {
            authorities,
            system_roots: true,
            certs_dir: None,
            system: std::sync::OnceLock::new(),
        };
        let config = tls.client_config(&name, true).map_err(|_| wrong("TLS cannot be set up"))?;
        let client = Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(Policy::none())
            .no_proxy()
            .timeout(options.timeout)
            .build()
            .map_err(|error| wrong("http cannot be set up").with_source(error.without_url()))?;
        let (queue, waiting) = mpsc::channel(options.queue);
        Ok(Self {
            actions: options.actions,
            sender: Arc::new(Sender {
                client,
                url,
                headers,
                tries: options.tries,
                name,
                ending: Notify::new(),
            }),
            queue,
            waiting: Mutex::new(Some(waiting)),
            task: Mutex::default(),
            lost: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl EventListener for Webhook {
    fn wants(&self, action: EventAction) -> bool {
        self.actions.contains(&action)
    }

    fn event(&self, event: &RegistryEvent) {
        if let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let task = tokio::spawn(Arc::clone(&self.sender).run(waiting));
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
        if self.queue.try_send(event.clone()).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // One line for each doubling: the log is not to suffer, too.
            if lost.is_power_of_two() {
                tracing::warn!(
                    endpoint = self.sender.name,
                    lost,
                    "events are lost: the endpoint does not keep up"
                );
            }
        }
    }

    async fn finish(&self, limit: Duration) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(task) = task else { return };
        self.sender.ending.notify_one();
        let abort = task.abort_handle();
        if timeout(limit, task).await.is_err() {
            abort.abort();
            tracing::warn!(endpoint = self.sender.name, "events are lost: there was no time left");
        }
    }
}

impl Sender {
    async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<RegistryEvent>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut ending = std::pin::pin!(self.ending.notified());
        loop {
            let taken = tokio::select! {
                taken = queue.recv_many(&mut batch, BATCH) => taken,
                () = &mut ending => {
                    // What waits is sent, and the queue ends there.
                    queue.close();
                    queue.recv_many(&mut batch, BATCH).await
                }
            };
            if taken == 0 {
                return;
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    async fn send(&self, batch: &[RegistryEvent]) {
        let scheme = |event: &RegistryEvent| envelope(event);
        let body = json!({ "events": batch.iter().map(scheme).collect::<Vec<_>>() }).to_string();
        let mut wait = FIRST_WAIT;
        for left in (0..self.tries).rev() {
            let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body.clone());
            let why = match request.send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => answer.status().to_string(),
                // The URL may be a secret, the cause is none.
                Err(error) => error.without_url().to_string(),
            };
            if left == 0 {
                tracing::warn!(endpoint = self.name, events = batch.len(), why, "events are lost: given up");
                return;
            }
            tracing::debug!(endpoint = self.name, why, "events were not taken; they are sent again");
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// An event as distribution's notifications have it.
fn envelope(event: &RegistryEvent) -> Value {
    let mut target = serde_json::Map::new();
    let mut set = |name: &str, value: Value| target.insert(name.to_owned(), value);
    if let Some(found) = &event.descriptor {
        set("mediaType", json!(found.media_type));
        set("size", json!(found.size));
        set("length", json!(found.size));
    }
    set("repository", json!(event.repository.as_str()));
    if let Some(digest) = &event.digest {
        set("digest", json!(digest));
        if event.action != EventAction::Delete {
            let kind = if event.is_manifest { "manifests" } else { "blobs" };
            let host = event.request.host.as_deref().map_or(String::new(), |host| format!("//{host}"));
            set("url", json!(format!("{host}/v2/{}/{kind}/{digest}", event.repository)));
        }
    }
    if let Some(tag) = &event.tag {
        set("tag", json!(tag.as_str()));
    }
    if let Some(from) = &event.from {
        set("fromRepository", json!(from.as_str()));
    }
    let request = &event.request;
    let actor = request.user.as_ref().map_or_else(|| json!({}), |name| json!({ "name": name }));
    json!({
        "id": event.id,
        "timestamp": engine_core::time::rfc3339(event.time),
        "action": event.action.as_str(),
        "target": target,
        "request": {
            "id": event.id,
            "addr": request.address,
            "host": request.host,
            "method": request.method,
            "useragent": request.user_agent,
        },
        "actor": actor,
        "source": {},
    })
}
