//! A container's health as `docker inspect` shows it.

use bollard_stubs::models::{self, HealthConfig, HealthStatusEnum, HealthcheckResult};
use engine_core::ContainerInfo;
use engine_core::health::{Health, HealthProbe, HealthSpec, HealthStatus};

use super::dates::date;

/// Returns `State.Health`.
pub(crate) fn health(health: &Health) -> models::Health {
    let results = health.results.iter().map(|result| HealthcheckResult {
        start: date(result.start),
        end: date(result.end),
        exit_code: Some(result.exit_code.into()),
        output: Some(result.output.clone()),
    });
    models::Health {
        status: Some(match health.status {
            HealthStatus::Healthy => HealthStatusEnum::HEALTHY,
            HealthStatus::Unhealthy => HealthStatusEnum::UNHEALTHY,
            _ => HealthStatusEnum::STARTING,
        }),
        failing_streak: Some(health.failing_streak.into()),
        log: Some(results.collect()),
    }
}

/// Returns `Config.Healthcheck`: what is carried out, in Docker's terms and two of our own for what Docker has not.
pub(crate) fn config(info: &ContainerInfo) -> Option<HealthConfig> {
    let (wish, image) = (info.spec.health.as_ref(), info.defaults.healthcheck.as_ref());
    if wish.is_none() && image.is_none() {
        return None;
    }
    let none = || HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
    // What was created was checked.
    let Ok(Some(check)) = HealthSpec::merge(wish, image, &info.defaults.shell) else { return Some(none()) };
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    let test = match (wish.and_then(|wish| wish.probe.as_ref()), &check.probe) {
        (Some(HealthProbe::Shell(command)), _) => words(&["CMD-SHELL", command]),
        (Some(HealthProbe::Command(args)), _) => {
            std::iter::once("CMD".to_owned()).chain(args.clone()).collect()
        }
        (_, HealthProbe::Tcp(address)) => words(&["TCP", &address.to_string()]),
        (_, HealthProbe::Http { address, path }) => words(&["HTTP", &format!("http://{address}{path}")]),
        _ => image.map(|image| image.test.clone()).unwrap_or_default(),
    };
    let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).ok();
    Some(HealthConfig {
        test: Some(test),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: Some(check.retries.into()),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    })
}
