//! How an image was built, as others can check it: an in-toto statement with SLSA's provenance.
//!
//! Source: in-toto attestation v1, Statement; slsa.dev/spec/v1.0/provenance. Invariant: the same build gives the same bytes, but for
//! the times, which are left out of a build that has a time of its own. Secrets are not in it, nor, unless all is wanted, what
//! arguments are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::engine::image::Image;
use crate::engine::import::to_json;
use crate::error::Result;
use crate::reference::Reference;

use super::{Build, BuiltImage};

/// How much of a build its provenance tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProvenanceMode {
    /// What it was made of; of build arguments only the names.
    #[default]
    Min,
    /// What build arguments were, too.
    Max,
}

/// What came from elsewhere.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Material {
    uri: String,
    /// The kind of digest, as in-toto calls it, and the digest.
    digest: (String, String),
}

impl Material {
    /// An image by its manifest.
    pub(super) fn image(name: &str, image: &Image) -> Self {
        let name = name.parse::<Reference>().map_or_else(
            |_| name.to_owned(),
            |reference| match reference.tag() {
                Some(tag) => format!("{}@{tag}", reference.familiar_name()),
                None => reference.familiar_name(),
            },
        );
        let platform = image.platform().to_string().replace('/', "%2F");
        let uri = format!("pkg:docker/{name}?platform={platform}");
        Self { uri, digest: named(&image.manifest.digest) }
    }

    /// A repository by its commit.
    pub(super) fn repository(remote: String, commit: String) -> Self {
        // One of ssh's short form has no scheme.
        let uri = if remote.contains("://") { format!("git+{remote}") } else { remote };
        Self { uri, digest: ("gitCommit".to_owned(), commit) }
    }

    /// A file behind a URL, without what may be secret in that.
    pub(super) fn file(uri: String, digest: &str) -> Self {
        let (kind, digest) = digest.split_once(':').unwrap_or(("sha256", digest));
        Self { uri, digest: (kind.to_owned(), digest.to_owned()) }
    }

    fn document(&self) -> Value {
        json!({ "uri": self.uri, "digest": { &self.digest.0: self.digest.1 } })
    }
}

fn named(digest: &Digest) -> (String, String) {
    (digest.algorithm().as_str().to_owned(), digest.hex().to_owned())
}

/// What the provenance of a build is made of, beside its specification and its sources.
#[derive(Debug)]
pub(super) struct Origins {
    begun: SystemTime,
    dockerfile: Digest,
}

impl Origins {
    /// Begins a build by this Dockerfile.
    pub(super) fn of(dockerfile: &[u8]) -> Self {
        Self { begun: SystemTime::now(), dockerfile: Digest::sha256(dockerfile) }
    }
}

impl Build {
    /// Returns the statement about what was built.
    pub(super) fn provenance(&self, image: &BuiltImage, mode: ProvenanceMode) -> Result<String> {
        let (spec, origins) = (&self.spec, &self.origins);
        let subject = |name: String| {
            let (kind, hex) = named(&image.manifest.digest);
            json!({ "name": name, "digest": { kind: hex } })
        };
        let subjects: Vec<Value> = match &spec.names[..] {
            [] => vec![subject(String::new())],
            names => names.iter().map(|name| subject(name.to_string())).collect(),
        };
        let (kind, hex) = named(&origins.dockerfile);
        // Where it is on this host is nobody's business.
        let file = Path::new(self.file.name()).file_name().filter(|_| self.file.name().starts_with('/'));
        let file = file.map_or_else(|| self.file.name().into(), |name| name.to_string_lossy());
        let mut materials = vec![json!({ "uri": file, "digest": { kind: hex } })];
        materials.extend(self.sources.materials().iter().map(Material::document));
        let args: BTreeMap<&String, Option<&String>> = spec
            .args
            .iter()
            .map(|(name, value)| (name, Some(value).filter(|_| mode == ProvenanceMode::Max)))
            .collect();
        let platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
        let mut metadata = json!({});
        if spec.source_date_epoch.is_none() {
            metadata["startedOn"] = crate::time::rfc3339(origins.begun).into();
            metadata["finishedOn"] = crate::time::rfc3339(SystemTime::now()).into();
        }
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "urn:engine:build:dockerfile:v1",
                    "externalParameters": {
                        "dockerfile": file,
                        "target": spec.target,
                        "platforms": platforms,
                        "args": args,
                        "labels": spec.labels,
                    },
                    "resolvedDependencies": materials,
                },
                "runDetails": {
                    "builder": {
                        "id": "urn:engine:builder",
                        "version": { "engine-core": env!("CARGO_PKG_VERSION") },
                    },
                    "metadata": metadata,
                },
            },
        });
        Ok(String::from_utf8_lossy(&to_json(&statement)?).into_owned())
    }
}
