//! The stages that can be built.

use serde::{Deserialize, Serialize};

use crate::dockerfile::file::Dockerfile;
use crate::dockerfile::source::Span;

/// A stage that can be built.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Target {
    /// Its name.
    pub name: Option<String>,
    /// Whether it is what is built if none is named.
    pub default: bool,
    /// What the comment above it says.
    pub description: Option<String>,
    /// What it is built on, unexpanded.
    pub base: String,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// Where its `FROM` stands.
    pub span: Span,
}

impl Dockerfile {
    /// Returns the stages that can be built, in the file's order.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let last = self.stages.len().saturating_sub(1);
        let target = |(index, stage): (usize, &super::super::Stage)| Target {
            name: stage.name.clone(),
            default: index == last,
            description: stage.description.clone(),
            base: stage.base.clone(),
            platform: stage.platform.clone(),
            span: stage.span,
        };
        self.stages.iter().enumerate().map(target).collect()
    }
}
