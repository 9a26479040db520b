//! A server of a test's own, and requests to it as the test writes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_registry::server::{
    FileStorage, Limits, MemoryStorage, Policy, RegistryServer, RegistryServerBuilder,
};
use reqwest::header::{HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Method};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Limits that do not make tests slow, on a machine that is.
pub(crate) fn limits() -> Limits {
    Limits::default().with_head(Duration::from_secs(10)).with_drain(Duration::from_secs(20))
}

/// A running server; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) client: Client,
    pub(crate) base: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    /// The directory of its storage, if it has one.
    pub(crate) dir: Option<TempDir>,
}

/// What a server said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Said {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that the request succeeded in this way.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("docker-distribution-api-version"), "registry/2.0");
        self
    }

    /// Checks that the request failed in this way, with the specification's body.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        let said = self.is(status);
        assert_eq!(said.header("content-type"), "application/json");
        let first = &said.json()["errors"][0];
        assert_eq!(first["code"], code, "{said:?}");
        assert!(!first["message"].as_str().unwrap().is_empty() && first.get("detail").is_some());
        said
    }

    /// Returns where a `Link` leads.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().unwrap();
        Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
    }
}

/// Returns a client's TLS: an own configuration, since the tests have no process-wide one either.
pub(crate) fn client_tls(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl Server {
    pub(crate) async fn memory() -> Self {
        Self::start(RegistryServer::builder(MemoryStorage::new()).with_limits(limits()), None).await
    }

    pub(crate) async fn files() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(dir.path()).unwrap();
        Self::start(RegistryServer::builder(storage).with_limits(limits()), Some(dir)).await
    }

    #[cfg(feature = "object-store")]
    pub(crate) async fn objects() -> Self {
        let storage = engine_registry::server::ObjectStorage::over(object_store::memory::InMemory::new(), "");
        Self::start(RegistryServer::builder(storage.await.unwrap()).with_limits(limits()), None).await
    }

    pub(crate) async fn with_policy(policy: Policy) -> Self {
        Self::start(RegistryServer::builder(MemoryStorage::new()).with_policy(policy), None).await
    }

    pub(crate) async fn start(builder: RegistryServerBuilder, dir: Option<TempDir>) -> Self {
        let server = builder.build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve_until(listener, stopped).await.unwrap();
        });
        let client =
            Client::builder().tls_backend_preconfigured(client_tls(RootCertStore::empty())).build().unwrap();
        Self { addr, client, base: format!("http://{addr}"), stop: Some(stop), task, dir }
    }

    /// Lets the server come to its end.
    pub(crate) async fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.task).await.unwrap();
    }

    /// Tells the server to stop and does not wait.
    pub(crate) fn begin_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn end(self) {
        self.task.await.unwrap();
    }

    /// Sends a request; headers are pairs.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Said {
        let url = if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url).body(body);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_str(value).unwrap());
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Said { status, headers, body: answer.bytes().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn head(&self, path: &str) -> Said {
        self.send("HEAD", path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Said {
        self.send("DELETE", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str) -> Said {
        self.send("POST", path, &[], "").await
    }

    /// Sends a request with this first line and no body, as it is, and returns the whole answer.
    pub(crate) async fn raw(&self, line: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.addr).await.unwrap();
        let head = format!("{line}\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    /// Begins an upload and returns its location.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        let said = self.post(&format!("/v2/{repository}/blobs/uploads/")).await.is(202);
        said.headers[LOCATION].to_str().unwrap().to_owned()
    }

    /// Pushes a blob in one request and returns its digest.
    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, &[], bytes.to_vec()).await.is(201);
        digest
    }

    /// Pushes a manifest under a tag or its digest.
    pub(crate) async fn put(&self, repository: &str, target: &str, kind: &str, text: &str) -> Said {
        let path = format!("/v2/{repository}/manifests/{target}");
        self.send("PUT", &path, &[("Content-Type", kind)], text.to_owned()).await
    }

    /// Pushes an image of one layer under a tag and returns its manifest.
    pub(crate) async fn push_image(&self, repository: &str, tag: &str) -> Image {
        let image = Image::new(tag);
        for blob in [&image.config, &image.layer] {
            self.push_blob(repository, blob).await;
        }
        self.put(repository, tag, media_type::OCI_MANIFEST, &image.text).await.is(201);
        image
    }
}

/// An image of one layer.
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) text: String,
    pub(crate) digest: Digest,
}

impl Image {
    pub(crate) fn new(seed: &str) -> Self {
        Self::with(seed, json!({}))
    }

    /// Makes an image whose manifest has these fields, too.
    pub(crate) fn with(seed: &str, more: Value) -> Self {
        let (config, layer) =
            (format!("{{\"seed\":\"{seed}\"}}").into_bytes(), format!("layer of {seed}").into_bytes());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, &config),
            "layers": [Descriptor::of(media_type::OCI_LAYER, &layer)],
        });
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // Spaces that a reader of JSON would lose.
        let text = format!("  {manifest:#}\n");
        let digest = Digest::sha256(text.as_bytes());
        Self { config, layer, text, digest }
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::of(media_type::OCI_MANIFEST, self.text.as_bytes())
    }
}

/// Runs each test against each storage.
macro_rules! on_each_storage {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::client::Server::memory().await).await;
            })*
        }
        mod files {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::client::Server::files().await).await;
            })*
        }
        #[cfg(feature = "object-store")]
        mod objects {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::client::Server::objects().await).await;
            })*
        }
    };
}
pub(crate) use on_each_storage;
