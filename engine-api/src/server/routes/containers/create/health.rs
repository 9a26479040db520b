//! The health check.

use std::time::Duration;

use engine_core::health::{HealthCheck, HealthProbe};

use crate::models::HealthConfig;
use crate::server::error::Result;

use super::bad;

/// Reads a health check; nothing, if it says nothing. Beside Docker's tests there are `HTTP` and `TCP`, as inspect shows them.
pub(super) fn check(config: &HealthConfig) -> Result<Option<HealthCheck>> {
    const TEST: &str = "Healthcheck.Test";
    let mut check = HealthCheck::default();
    let test = config.test.clone().unwrap_or_default();
    check.probe = match test.split_first().map(|(kind, arguments)| (kind.as_str(), arguments)) {
        None | Some(("", [])) => None,
        Some(("NONE", _)) => Some(HealthProbe::None),
        Some(("CMD", arguments)) => Some(HealthProbe::Command(arguments.to_vec())),
        Some(("CMD-SHELL", [command])) => Some(HealthProbe::Shell(command.clone())),
        Some(("CMD-SHELL", _)) => return Err(bad(TEST, "CMD-SHELL takes one command")),
        Some(("HTTP", [url])) => Some(HealthProbe::http(url)?),
        Some(("TCP", [address])) => Some(HealthProbe::tcp(address)?),
        Some((kind, _)) => {
            return Err(bad(TEST, format!("Unknown healthcheck type '{kind}' (expected 'CMD')")));
        }
    };
    check.interval = time("Healthcheck.Interval", config.interval)?;
    check.timeout = time("Healthcheck.Timeout", config.timeout)?;
    check.start_period = time("Healthcheck.StartPeriod", config.start_period)?;
    check.start_interval = time("Healthcheck.StartInterval", config.start_interval)?;
    check.retries = match config.retries.unwrap_or(0) {
        0 => None,
        retries => Some(
            u32::try_from(retries)
                .map_err(|_| bad("Healthcheck.Retries", format!("{retries} is not a count")))?,
        ),
    };
    Ok(Some(check).filter(|check| *check != HealthCheck::default()))
}

/// Nanoseconds; zero is the image's, or the default.
fn time(field: &str, nanos: Option<i64>) -> Result<Option<Duration>> {
    match u64::try_from(nanos.unwrap_or(0)) {
        Ok(0) => Ok(None),
        Ok(nanos) if nanos < 1_000_000 => Err(bad(field, "it cannot be less than 1ms")),
        Ok(nanos) => Ok(Some(Duration::from_nanos(nanos))),
        Err(_) => Err(bad(field, "it is negative")),
    }
}
