//! What a program says about registries.
//!
//! Owns the options of [`OciRegistry`] and checks them all in [`RegistryBuilder::build`].

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine_core::error::{Error, Result};
use engine_core::registry_client::Credentials;
use reqwest::Url;

use crate::auth::Authorizer;
use crate::client::OciRegistry;
use crate::credentials::CredentialSource;
use crate::docker_config::DockerConfig;
use crate::endpoint::{Endpoint, registry_key};
use crate::fault::Fault;
use crate::origin::PlainRules;
use crate::retry::RetryPolicy;
use crate::session::Session;
use crate::tls::{TlsOptions, certificates};
use crate::transport::{Timeouts, Transport};
use engine_core::error::ErrorKind;

/// Options of an [`OciRegistry`]. Everything is optional; without anything it is anonymous, trusts the
/// system's authorities, and speaks plain http with loopback registries alone.
#[must_use]
pub struct RegistryBuilder {
    credentials: Vec<(String, Credentials)>,
    docker_config: Option<DockerConfig>,
    authorities: Vec<Vec<u8>>,
    certs_dir: Option<PathBuf>,
    system_roots: bool,
    insecure: Vec<String>,
    mirrors: Vec<(String, String)>,
    token_servers: Vec<(String, String)>,
    proxy: Option<String>,
    no_proxy: String,
    retry: RetryPolicy,
    timeouts: Timeouts,
    user_agent: String,
}

impl Default for RegistryBuilder {
    fn default() -> Self {
        Self {
            credentials: Vec::new(),
            docker_config: None,
            authorities: Vec::new(),
            certs_dir: None,
            system_roots: true,
            insecure: Vec::new(),
            mirrors: Vec::new(),
            token_servers: Vec::new(),
            proxy: None,
            no_proxy: String::new(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            user_agent: concat!("engine-registry/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("docker_config", &self.docker_config)
            .field("insecure", &self.insecure.len())
            .field("mirrors", &self.mirrors.len())
            .finish_non_exhaustive()
    }
}

impl RegistryBuilder {
    /// Gives the credentials of `registry` (`docker.io`, `host:port`). They come before Docker's config.json.
    pub fn with_credentials(mut self, registry: &str, credentials: Credentials) -> Self {
        self.credentials.push((registry.to_owned(), credentials));
        self
    }

    /// Names a `config.json` of Docker's to find credentials in, and allows the helpers it names to be run.
    pub fn with_docker_config(mut self, config: impl Into<DockerConfig>) -> Self {
        self.docker_config = Some(config.into());
        self
    }

    /// Trusts the authorities in a PEM text too, for every registry.
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// Names a directory like `/etc/docker/certs.d`: in `HOST:PORT/`, `*.crt` are authorities trusted for that
    /// registry, `NAME.cert` and `NAME.key` the client certificate shown to it.
    pub fn with_certs_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.certs_dir = Some(path.into());
        self
    }

    /// Sets whether the system's authorities are trusted. Default: yes.
    pub fn with_system_roots(mut self, trust: bool) -> Self {
        self.system_roots = trust;
        self
    }

    /// Lists a registry (`host`, `host:port`) or a network (`10.0.0.0/8`) as insecure: its certificate is not
    /// verified, and if it speaks no TLS, plain http is used, passwords included.
    pub fn with_insecure(mut self, registry: &str) -> Self {
        self.insecure.push(registry.to_owned());
        self
    }

    /// Adds a mirror of `registry` to pull from first: a host, or an http(s) URL with an optional path. Mirrors are tried
    /// in the order they were added, then the registry itself. Credentials of a mirror are its own. An http URL lists the
    /// mirror's host as insecure. Requests to a mirror name the registry in the query (`ns=docker.io`), as containerd's do, so
    /// that one mirror may stand for several.
    pub fn with_mirror(mut self, registry: &str, mirror: &str) -> Self {
        self.mirrors.push((registry.to_owned(), mirror.to_owned()));
        self
    }

    /// Allows `registry` to have its tokens issued by `server` (`host`, `host:port`), which will see the credentials. By
    /// default a token server is at the registry's own host; Docker Hub's and GitLab's are known.
    pub fn with_token_server(mut self, registry: &str, server: &str) -> Self {
        self.token_servers.push((registry.to_owned(), server.to_owned()));
        self
    }

    /// Sends everything but loopback through an http proxy. The environment is not read.
    pub fn with_proxy(mut self, url: &str) -> Self {
        self.proxy = Some(url.to_owned());
        self
    }

    /// Excepts hosts from the proxy: a list as in `NO_PROXY`, with domains and networks.
    pub fn with_no_proxy(mut self, hosts: &str) -> Self {
        self.no_proxy = hosts.to_owned();
        self
    }

    /// Sets how often and when to try again.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long to wait for a registry.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets the `User-Agent`.
    pub fn with_user_agent(mut self, agent: &str) -> Self {
        self.user_agent = agent.to_owned();
        self
    }

    /// Checks the options. Files are read when they are needed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a host, URL, network or certificate is malformed.
    pub fn build(self) -> Result<OciRegistry> {
        self.checked().map_err(|fault| {
            Error::new(ErrorKind::InvalidArgument, "configure registry client").with_message(fault.message())
        })
    }

    fn checked(self) -> Result<OciRegistry, Fault> {
        let mut rules = PlainRules::default();
        for entry in &self.insecure {
            rules.add(entry)?;
        }
        let mut mirrors: HashMap<String, Vec<Endpoint>> = HashMap::new();
        for (registry, mirror) in &self.mirrors {
            let endpoint = Endpoint::mirror(mirror)?;
            if let Some(host) = endpoint.plain_host() {
                rules.add(host)?;
            }
            mirrors.entry(registry_key(registry)).or_default().push(endpoint);
        }
        let mut source = CredentialSource::default();
        for (registry, credentials) in self.credentials {
            Endpoint::registry(&registry)?;
            source.give(&registry, credentials);
        }
        if let Some(config) = self.docker_config {
            source.set_config(config);
        }
        let mut authorities = Vec::new();
        for pem in &self.authorities {
            authorities.extend(certificates(pem, Path::new("the given CA"))?);
        }
        let bad_proxy = |_| Fault::new(ErrorKind::InvalidArgument, "the proxy is no URL");
        let proxy = self
            .proxy
            .as_deref()
            .map(Url::parse)
            .transpose()
            .map_err(bad_proxy)?
            .map(|url| (url, self.no_proxy));
        for (registry, server) in &self.token_servers {
            Endpoint::registry(registry)?;
            crate::origin::registry_url(server, "https")?;
        }
        let tls = TlsOptions {
            authorities,
            system_roots: self.system_roots,
            certs_dir: self.certs_dir,
            system: OnceLock::new(),
        };
        let transport = Transport::new(rules, self.timeouts, tls, self.user_agent, proxy);
        let authorizer = Authorizer::new(source, self.token_servers);
        Ok(OciRegistry::from_parts(Session::new(transport, authorizer, self.retry), mirrors))
    }
}
