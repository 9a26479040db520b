//! Restart policies: what follows the end of a container's process.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Whether a container runs again after its process ended, in Docker's words.
///
/// The container is run again by what holds it, and no program of the caller's has to be alive for it. The first run
/// after a steady one comes at once; then the delay is 100 ms and doubles up to a minute, until a run lasted for ten
/// seconds. What somebody stopped or killed stays ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RestartPolicy {
    /// It stays ended.
    #[default]
    No,
    /// It runs again, and is started by [`Engine::start_all`](crate::Engine::start_all).
    Always,
    /// As `Always`, but `start_all` does not start one that somebody stopped.
    UnlessStopped,
    /// It runs again after an exit code other than 0.
    OnFailure {
        /// How often at most; 0 is no limit.
        max_retries: u32,
    },
}

impl RestartPolicy {
    /// Returns Docker's word for it, without the number of retries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure { .. } => "on-failure",
        }
    }

    /// Returns how often a failed container runs again at most; 0 is no limit.
    #[must_use]
    pub fn max_retries(self) -> u32 {
        match self {
            Self::OnFailure { max_retries } => max_retries,
            _ => 0,
        }
    }

    /// Returns whether any end is followed by another run.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Self::No
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max_retries() {
            0 => f.write_str(self.name()),
            retries => write!(f, "{}:{retries}", self.name()),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = Error;

    /// Parses `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidArgument, "parse restart policy")
                .with("policy", text)
                .with_message(why.to_owned())
        };
        let (name, retries) = match text.split_once(':') {
            Some((name, retries)) => (name, Some(retries)),
            None => (text, None),
        };
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure { max_retries: 0 },
            _ => {
                return Err(wrong("unknown restart policy")
                    .with_hint("use one of no, always, on-failure[:RETRIES] or unless-stopped"));
            }
        };
        match (policy, retries) {
            (policy, None) => Ok(policy),
            (Self::OnFailure { .. }, Some(retries)) => match retries.parse() {
                Ok(max_retries) => Ok(Self::OnFailure { max_retries }),
                Err(_) => Err(wrong("maximum retry count must be an integer that is not negative")),
            },
            _ => Err(wrong("maximum retry count can only be used with on-failure")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written_in_dockers_words() {
        for text in ["no", "always", "unless-stopped", "on-failure", "on-failure:3"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("".parse::<RestartPolicy>().unwrap(), RestartPolicy::No);
        for wrong in ["never", "always:3", "on-failure:-1", "on-failure:x", "no:1", "on-failure:"] {
            let error = wrong.parse::<RestartPolicy>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
