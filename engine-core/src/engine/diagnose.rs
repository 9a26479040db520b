//! What works on this host, what does not, and why.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::LocalEngine;

/// The findings about a host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// One finding a subject.
    pub checks: Vec<Check>,
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at: `overlayfs`, `cgroups`.
    pub subject: String,
    /// Whether it works.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub detail: String,
}

impl Check {
    /// Creates a finding.
    pub fn new(subject: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict, detail: detail.into() }
    }
}

/// How well something works.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Verdict {
    /// Fully.
    Works,
    /// With less than it could be.
    Degraded,
    /// Not, and something that was asked for may fail; the engine runs.
    Missing,
    /// Not, and the engine does not run without it.
    Required,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works => "works",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
            Self::Required => "REQUIRED",
        })
    }
}

impl Diagnosis {
    /// Looks at this host, without opening an engine: works for any user.
    #[must_use]
    pub fn of_host(root: &Path) -> Self {
        #[cfg(feature = "linux")]
        let checks = crate::linux::diagnose(root);
        #[cfg(not(feature = "linux"))]
        let checks = {
            let _ = root;
            vec![Check::new("linux", Verdict::Missing, "built without engine-core's feature \"linux\"")]
        };
        Self { checks }
    }

    /// Returns the worst verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Works)
    }
}

impl LocalEngine {
    pub(super) async fn diagnose(&self) -> Diagnosis {
        let root = self.inner.root.clone().unwrap_or_default();
        let mut diagnosis = super::blocking(move || Ok(Diagnosis::of_host(&root))).await.unwrap_or_default();
        let images = self.inner.images.capabilities();
        let (verdict, detail) = match images.degraded {
            None => (Verdict::Works, format!("driver {}", images.driver)),
            Some(why) => (Verdict::Degraded, format!("driver {}: {why}", images.driver)),
        };
        diagnosis.checks.push(Check::new("image store", verdict, detail));
        let runtime = self.inner.runtime.capabilities();
        let verdict = if runtime.limits { Verdict::Works } else { Verdict::Missing };
        diagnosis.checks.push(Check::new("limits", verdict, format!("cgroups: {}", runtime.cgroup)));
        diagnosis.checks.extend(self.inner.network.diagnose().await);
        diagnosis
    }
}
