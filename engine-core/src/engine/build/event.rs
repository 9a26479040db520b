//! What a build reports.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dockerfile::Warning;
use crate::engine::PullEvent;
use crate::platform::Platform;

/// Tells the steps of a build apart.
pub type StepId = u32;

/// What a build reports. Steps of independent stages run at once, so what belongs to one comes between others'.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BuildEvent {
    /// The build begins.
    Planned {
        /// How many steps it has, as far as is known: a base image may add some.
        steps: u32,
    },
    /// A step begins.
    Started {
        /// The step.
        step: StepId,
        /// What it does.
        description: StepDescription,
    },
    /// Its result is in the cache, and it does nothing.
    Cached {
        /// The step.
        step: StepId,
    },
    /// The base image gets on.
    Pull {
        /// The step.
        step: StepId,
        /// How.
        event: Box<PullEvent>,
    },
    /// Its command wrote something.
    Output {
        /// The step.
        step: StepId,
        /// Where to.
        stream: OutputStream,
        /// What.
        #[serde(with = "crate::exact::bytes")]
        bytes: Bytes,
    },
    /// It is done.
    Finished {
        /// The step.
        step: StepId,
        /// How long it took.
        took: Duration,
        /// The size of the layer it made, as it is transferred; `None` if it made none.
        layer: Option<u64>,
    },
    /// It failed, and so does the build.
    Failed {
        /// The step.
        step: StepId,
        /// Why.
        message: String,
    },
    /// A cache elsewhere is asked for what the engine's own does not have.
    CacheFound {
        /// Where it is.
        source: String,
        /// How many steps it has.
        steps: usize,
    },
    /// A cache elsewhere, or a layer of it, is not used; what it may have had is made.
    CacheUnavailable {
        /// Where it is.
        source: String,
        /// Why.
        message: String,
    },
    /// The steps are in a cache elsewhere.
    CacheExported {
        /// Where it is.
        target: String,
        /// How many it has.
        steps: usize,
    },
    /// Something in the Dockerfile is not good.
    Warning(Warning),
}

/// Where a command writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a step does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepDescription {
    /// The platform, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its stage: the name, or its number.
    pub stage: String,
    /// Which of its stage's steps it is, from 1.
    pub number: u32,
    /// How many its stage has.
    pub count: u32,
    /// The instruction as it stands in the Dockerfile.
    pub text: String,
}
