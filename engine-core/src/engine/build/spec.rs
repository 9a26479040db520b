//! What is to be built, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::container_spec::Ulimit;
use crate::dockerfile::{AddSource, Checks};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Name;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry_client::Credentials;
use crate::resources::Resources;
use crate::secret::SecretData;

use super::archive::ContextArchive;
use super::cache_spec::{CacheSource, CacheTarget};
use super::provenance::ProvenanceMode;

/// The build argument that stands for the directive `check`.
const CHECKS: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What a build is made of and what becomes of it.
///
/// Its serialized form has neither contexts nor secrets nor credentials: what passes it on passes those on in a way of their own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BuildSpec {
    /// Where `COPY` and `ADD` find their files.
    #[serde(skip)]
    pub context: BuildContext,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// What is left out of the context, as the lines of an ignore file: instead of the one in there.
    pub ignore: Option<String>,
    /// More contexts, by the names that `COPY --from=NAME` and `FROM NAME` have for them.
    #[serde(skip)]
    pub contexts: BTreeMap<String, BuildContext>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to build, by name or number; the last one without it.
    pub target: Option<String>,
    /// The image's names. Without one, its id leads to it.
    pub names: Vec<Reference>,
    /// Labels beside those of the Dockerfile, which they replace.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the image's manifest, or of each one's if there are several.
    pub annotations: BTreeMap<String, String>,
    /// The platforms to build for; the host's alone without one. Several make an index of as many images.
    pub platforms: Vec<Platform>,
    /// The network of `RUN`.
    pub network: BuildNetwork,
    /// Whether `RUN --network=host` and a host network are allowed.
    pub allow_host_network: bool,
    /// Asks the registry for base images, also for those that are here.
    pub pull: bool,
    /// Runs every step, whatever the cache has.
    pub no_cache: bool,
    /// Stages whose steps are run whatever the cache has.
    pub no_cache_stages: Vec<String>,
    /// Caches of builds elsewhere, which are asked in this order for what the engine's own does not have. Whoever can write there
    /// decides what a step made: name none that you would not take an image from.
    pub cache_from: Vec<CacheSource>,
    /// Where the steps of this build go for builds elsewhere.
    pub cache_to: Vec<CacheTarget>,
    /// Tells how the image was built, in [`BuiltImage::provenance`](super::BuiltImage::provenance).
    pub provenance: Option<ProvenanceMode>,
    /// Secrets for `RUN --mount=type=secret`, by id. They are in no layer, no history and no cache key.
    #[serde(skip)]
    pub secrets: BTreeMap<String, SecretData>,
    /// What registries are to be told, by their names, instead of what the engine's client of them knows.
    #[serde(skip)]
    pub credentials: BTreeMap<String, Credentials>,
    /// Sockets of ssh agents on the engine's host for `RUN --mount=type=ssh`, by id. Repositories behind ssh are fetched with that of the id `default`.
    #[serde(skip)]
    pub ssh: BTreeMap<String, PathBuf>,
    /// The time that is said to be when the image and what `RUN` wrote were made. Without it, that is the time of the base
    /// image, so that the same input gives the same digest.
    pub source_date_epoch: Option<SystemTime>,
    /// Limits of each `RUN`.
    pub resources: Resources,
    /// The size of `/dev/shm` of each `RUN`.
    pub shm_size: Option<u64>,
    /// Process limits of each `RUN`.
    pub ulimits: Vec<Ulimit>,
    /// Lines of `/etc/hosts` of each `RUN`: a name and its address.
    pub extra_hosts: Vec<(String, String)>,
}

/// Where a build's files come from.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BuildContext {
    /// There are none.
    #[default]
    Empty,
    /// A directory of this host. Its `.dockerignore` leaves files out.
    Directory(PathBuf),
    /// An archive that arrives. As with a directory, its `.dockerignore` leaves files out.
    #[serde(skip)]
    Archive(ContextArchive),
    /// A repository of git, or an archive behind a URL of http, as [`BuildContext::remote`] tells. A text there is a Dockerfile, and
    /// there are no files.
    Remote(String),
    /// An image, by reference.
    Image(String),
}

impl BuildContext {
    /// Returns the context that `text` names, if that is a URL: of http or https, or of a repository as Docker has them, `github.com/…`
    /// among them.
    #[must_use]
    pub fn remote(text: &str) -> Option<Self> {
        let url = |url: String| Some(Self::Remote(url));
        if let Some(path) = text.strip_prefix("github.com/") {
            let end = path.find(['#', '?']).unwrap_or(path.len());
            let (path, rest) = path.split_at(end);
            let path = path.trim_end_matches('/').trim_end_matches(".git");
            return url(format!("https://github.com/{path}.git{rest}"));
        }
        // What is wrong with a repository is told by whoever fetches it.
        let is_remote = match AddSource::of(text) {
            Ok(source) => !matches!(source, AddSource::Path(_)),
            Err(_) => true,
        };
        is_remote.then(|| Self::Remote(text.to_owned()))
    }
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DockerfileSource {
    /// A file of the context, by its path there.
    InContext(String),
    /// The text itself.
    Text {
        /// What errors call it.
        name: String,
        /// The text.
        #[serde(with = "crate::exact::bytes")]
        text: Bytes,
    },
}

impl DockerfileSource {
    /// Returns its path in the context, if it is there.
    #[must_use]
    pub fn in_context(&self) -> Option<&str> {
        match self {
            Self::InContext(path) => Some(path),
            Self::Text { .. } => None,
        }
    }
}

impl Default for DockerfileSource {
    fn default() -> Self {
        Self::InContext("Dockerfile".to_owned())
    }
}

/// The network that `RUN` has.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BuildNetwork {
    /// The engine's default.
    #[default]
    Default,
    /// A loopback interface alone.
    None,
    /// The host's.
    Host,
    /// A network of this name.
    Named(Name),
}

impl BuildNetwork {
    /// Returns the word that Docker's `build --network` has for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Default => "default",
            Self::None => "none",
            Self::Host => "host",
            Self::Named(name) => name.as_str(),
        }
    }
}

impl fmt::Display for BuildNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BuildNetwork {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "default" => Self::Default,
            "none" => Self::None,
            "host" => Self::Host,
            name => Self::Named(name.parse()?),
        })
    }
}

impl BuildSpec {
    /// Describes the build of the directory `context` by the file `Dockerfile` in it.
    pub fn new(context: impl Into<PathBuf>) -> Self {
        Self { context: BuildContext::Directory(context.into()), ..Self::default() }
    }

    /// Describes a build without a context by a Dockerfile's text.
    pub fn of_text(text: impl Into<Bytes>) -> Self {
        let dockerfile = DockerfileSource::Text { name: "Dockerfile".to_owned(), text: text.into() };
        Self { dockerfile, ..Self::default() }
    }

    /// Returns how warnings are treated if a build argument says so, instead of the Dockerfile's directive `check`.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for what is no such value.
    pub fn checks(&self) -> Result<Option<Checks>> {
        let Some(text) = self.args.get(CHECKS) else { return Ok(None) };
        let wrong = |why| {
            Error::new(ErrorKind::InvalidArgument, "build image")
                .with("build argument", CHECKS)
                .with_message(why)
        };
        Checks::parse(text).map(Some).map_err(wrong)
    }

    /// Says where the Dockerfile is.
    #[must_use]
    pub fn with_dockerfile(mut self, dockerfile: DockerfileSource) -> Self {
        self.dockerfile = dockerfile;
        self
    }

    /// Gives the image a name.
    #[must_use]
    pub fn with_name(mut self, name: Reference) -> Self {
        self.names.push(name);
        self
    }

    /// Sets a build argument.
    #[must_use]
    pub fn with_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.insert(name.into(), value.into());
        self
    }

    /// Builds for this platform, besides others that are named so.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platforms.push(platform);
        self
    }

    /// Adds an annotation of the image's manifest.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Builds this stage instead of the last one.
    #[must_use]
    pub fn with_target(mut self, stage: impl Into<String>) -> Self {
        self.target = Some(stage.into());
        self
    }

    /// Adds a context by a name.
    #[must_use]
    pub fn with_context(mut self, name: impl Into<String>, context: BuildContext) -> Self {
        self.contexts.insert(name.into(), context);
        self
    }

    /// Adds a secret.
    #[must_use]
    pub fn with_secret(mut self, id: impl Into<String>, secret: SecretData) -> Self {
        self.secrets.insert(id.into(), secret);
        self
    }

    /// Gives `RUN --mount=type=ssh` the socket of an ssh agent.
    #[must_use]
    pub fn with_ssh(mut self, id: impl Into<String>, socket: impl Into<PathBuf>) -> Self {
        self.ssh.insert(id.into(), socket.into());
        self
    }

    /// Runs every step, whatever the cache has.
    #[must_use]
    pub fn with_no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache = no_cache;
        self
    }
}
