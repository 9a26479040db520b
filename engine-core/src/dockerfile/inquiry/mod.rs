//! What a Dockerfile tells without being built: its warnings and errors, its parameters, its stages.
//!
//! Nothing is read or fetched for it. What only a base image's configuration says, [`Inquiry::images`] can bring along; where it is not
//! there, what depends on it is left open rather than guessed.

mod check;
mod outline;
mod targets;
mod walk;

pub use check::CheckReport;
pub use outline::{Outline, OutlineArg, OutlineCache, OutlineMount};
pub use targets::Target;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ignore::IgnorePatterns;
use crate::image_config::ImageConfig;
use crate::platform::Platform;

/// What a Dockerfile is asked with: what a build would be given, as far as it matters here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Inquiry {
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage that is meant, by name or number. Without one, [`check`](super::Dockerfile::check) is about all of them, and
    /// [`outline`](super::Dockerfile::outline) about the last one and those that it needs.
    pub target: Option<String>,
    /// The platform that would be built for; the host's without one.
    pub platform: Option<Platform>,
    /// What is left out of the build's context.
    pub ignore: Option<IgnorePatterns>,
    /// What is known of base images and of contexts with names, by the names that `FROM` has for them, expanded.
    pub images: BTreeMap<String, BaseImage>,
}

impl Inquiry {
    /// Sets a build argument.
    #[must_use]
    pub fn with_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.insert(name.into(), value.into());
        self
    }

    /// Means this stage.
    #[must_use]
    pub fn with_target(mut self, stage: impl Into<String>) -> Self {
        self.target = Some(stage.into());
        self
    }

    /// Means a build for this platform.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Says what is left out of the build's context.
    #[must_use]
    pub fn with_ignore(mut self, patterns: IgnorePatterns) -> Self {
        self.ignore = Some(patterns);
        self
    }

    /// Says what `FROM name` is.
    #[must_use]
    pub fn with_image(mut self, name: impl Into<String>, image: BaseImage) -> Self {
        self.images.insert(name.into(), image);
        self
    }
}

/// What is known of what a stage is built on. The default is that of a context of files: there is nothing to know.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BaseImage {
    /// Its environment: `NAME=value`.
    pub env: Vec<String>,
    /// Instructions for images that are built on it.
    pub on_build: Vec<String>,
    /// The platform that it is for: of stages that name none of their own, it is to be the one that is built for.
    pub platform: Option<Platform>,
}

impl From<&ImageConfig> for BaseImage {
    fn from(config: &ImageConfig) -> Self {
        Self {
            env: config.config.env.clone(),
            on_build: config.config.on_build.clone(),
            platform: Some(config.platform()),
        }
    }
}

#[cfg(test)]
mod tests;
