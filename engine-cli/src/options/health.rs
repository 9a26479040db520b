//! Health checks: `--health-cmd` and its like.

use std::time::Duration;

use clap::{Args, ValueEnum};
use engine_core::container_spec::ContainerSpec;
use engine_core::health::{HealthAction, HealthCheck, HealthProbe};

use crate::failure::{Failure, Result};
use crate::output::human::parse_duration;

/// What happens to an unhealthy container.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Action {
    None,
    Kill,
    Restart,
    Stop,
}

/// The health check of a container.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Health")]
pub(crate) struct HealthArgs {
    /// Command that checks the health, in the image's shell
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Check by a GET from inside the container: http://127.0.0.1:8080/healthz, :8080/healthz
    #[arg(long, value_name = "URL", conflicts_with = "health_cmd")]
    health_http: Option<String>,
    /// Check by a connection from inside the container: 8080, 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["health_cmd", "health_http"])]
    health_tcp: Option<String>,
    /// Time between checks (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_interval: Option<Duration>,
    /// Time a check may take (default 30s)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_timeout: Option<Duration>,
    /// Failures in a row until it is unhealthy (default 3)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    health_retries: Option<i64>,
    /// Time after the start in which failures do not count (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_period: Option<Duration>,
    /// Time between checks in the start period (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_interval: Option<Duration>,
    /// What happens to it when it is unhealthy
    #[arg(long, value_enum, value_name = "ACTION")]
    health_on_failure: Option<Action>,
    /// Leave the image's health check out
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// Adds these wishes to `spec`.
    pub(crate) fn apply(&self, spec: &mut ContainerSpec) -> Result<()> {
        let mut check = HealthCheck::default();
        check.probe = match (&self.health_cmd, &self.health_http, &self.health_tcp) {
            (Some(command), _, _) => Some(HealthProbe::Shell(command.clone())),
            (_, Some(url), _) => Some(HealthProbe::http(url)?),
            (_, _, Some(address)) => Some(HealthProbe::tcp(address)?),
            _ => None,
        };
        (check.interval, check.timeout) = (self.health_interval, self.health_timeout);
        if self.health_retries.is_some_and(|retries| retries < 0) {
            return Err(Failure::usage("--health-retries cannot be negative"));
        }
        check.retries = self.health_retries.map(|retries| u32::try_from(retries).unwrap_or(u32::MAX));
        (check.start_period, check.start_interval) = (self.health_start_period, self.health_start_interval);
        check.on_failure = match self.health_on_failure {
            None | Some(Action::None) => HealthAction::None,
            Some(Action::Kill) => HealthAction::Kill,
            Some(Action::Restart) => HealthAction::Restart,
            Some(Action::Stop) => HealthAction::Stop,
        };
        let said = check != HealthCheck::default();
        if self.no_healthcheck {
            if said {
                return Err(Failure::usage("--no-healthcheck conflicts with --health-* options"));
            }
            check.probe = Some(HealthProbe::None);
        }
        spec.health = (said || self.no_healthcheck).then_some(check);
        Ok(())
    }
}
