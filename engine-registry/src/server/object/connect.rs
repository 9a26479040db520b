//! From a URL to a service: which one, with whose credentials, over which connections.
//!
//! Owns the clients. Invariant: nothing here reads the environment or sets process-wide state: what a program found in its
//! environment is given, and TLS is the project's, with the system's authorities. Plain http goes to this host only, unless it
//! is allowed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use engine_core::error::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientConfigKey, HttpClient, HttpConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreScheme, RetryConfig};
use reqwest::{Client, NoProxy, Proxy, Url};

use super::bucket::{Bucket, Service};
use crate::origin::{Origin, is_loopback};
use crate::tls::TlsOptions;

/// How long a connection may take, and how long nothing may come.
const CONNECT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

/// How long a request is repeated that the service, or the network, failed: clients of the registry wait meanwhile.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(40), ..RetryConfig::default() }
}

/// Makes HTTP clients as the rest of the crate has them.
struct Connector {
    plain: bool,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("plain", &self.plain).finish()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |text: String| object_store::Error::Generic { store: "HTTP", source: text.into() };
        let value = |key| options.get_config_value(&key).filter(|value| !value.is_empty());
        let tls = TlsOptions {
            authorities: Vec::new(),
            system_roots: true,
            certs_dir: None,
            system: std::sync::OnceLock::new(),
        };
        let tls = tls.client_config("", true).map_err(|fault| failed(fault.to_string()))?;
        // The machine's own service for credentials has no TLS, and its client is allowed to do without.
        let plain = self.plain || value(ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(!plain)
            .http1_only()
            .no_proxy()
            .referer(false)
            .user_agent(concat!("engine-registry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            // Bytes are to arrive as they are stored.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        if let Some(url) = value(ClientConfigKey::ProxyUrl) {
            let direct = value(ClientConfigKey::ProxyExcludes).and_then(|text| NoProxy::from_string(&text));
            let proxy = Proxy::all(url).map_err(|_| failed("the proxy's URL is none".to_owned()))?;
            builder = builder.proxy(proxy.no_proxy(direct));
        }
        let client = builder.build().map_err(|error| failed(error.without_url().to_string()))?;
        Ok(HttpClient::new(client))
    }
}

const HINT: &str = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, with the service's usual environment variables";

fn invalid(url: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "open bucket").with("url", url).with_message(why).with_hint(HINT)
}

/// Finds the options that a service knows: keys are those of its environment variables.
fn known<K: FromStr>(options: &[(String, String)], service: &str) -> Vec<(K, String)> {
    let own = options.iter().filter(|(key, _)| key.to_ascii_uppercase().starts_with(service));
    own.filter_map(|(key, value)| Some((key.to_ascii_lowercase().parse().ok()?, value.clone()))).collect()
}

/// Whether connections may be plain, since they stay on this host.
fn is_plain(options: &[(String, String)], service: &str) -> bool {
    let own = options.iter().filter(|(key, _)| key.to_ascii_uppercase().starts_with(service));
    own.filter(|(key, _)| key.to_ascii_lowercase().contains("endpoint")).any(|(_, value)| {
        let origin = Url::parse(value).ok().and_then(|url| Origin::of(&url));
        origin.is_some_and(|origin| is_loopback(&origin))
    })
}

/// Opens the place that a URL names.
pub(super) fn connect(url: &str, options: &[(String, String)]) -> Result<Bucket> {
    // Without the text, which may be anything.
    let parsed = Url::parse(url).map_err(|error| {
        let wrong = Error::new(ErrorKind::InvalidArgument, "open bucket").with_hint(HINT);
        wrong.with_message(format!("its place is no URL: {error}"))
    })?;
    let mut shown = parsed.clone();
    // Neither part belongs there; and what somebody put there is not to be seen.
    let _ = shown.set_password(None);
    shown.set_query(None);
    let shown = shown.to_string();
    if parsed.password().is_some() || parsed.query().is_some() {
        return Err(invalid(&shown, "credentials and queries do not belong into the URL"));
    }
    let (scheme, prefix) =
        ObjectStoreScheme::parse(&parsed).map_err(|_| invalid(&shown, "it names no object store"))?;
    let failed = |error: object_store::Error| {
        let kind = match super::fault::kind(&error) {
            ErrorKind::Other => ErrorKind::InvalidArgument,
            kind => kind,
        };
        super::fault::error("open bucket", &shown, "", &error).with_kind(kind)
    };
    let service: Arc<dyn Service> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::new()
                .with_url(url)
                .with_retry(retries())
                .with_http_connector(Connector { plain: is_plain(options, "AWS_") });
            let options = known::<AmazonS3ConfigKey>(options, "AWS_");
            let builder = options.into_iter().fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.build().map_err(failed)?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::new()
                .with_url(url)
                .with_retry(retries())
                .with_http_connector(Connector { plain: is_plain(options, "GOOGLE_") });
            let options = known::<GoogleConfigKey>(options, "GOOGLE_");
            let builder = options.into_iter().fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.build().map_err(failed)?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::new()
                .with_url(url)
                .with_retry(retries())
                .with_http_connector(Connector { plain: is_plain(options, "AZURE_") });
            let options = known::<AzureConfigKey>(options, "AZURE_");
            let builder = options.into_iter().fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.build().map_err(failed)?)
        }
        _ => return Err(invalid(&shown, "it names no object store")),
    };
    Ok(Bucket::new(service, Path::from(prefix.as_ref()), shown))
}
