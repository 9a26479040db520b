//! Promises about health checks.

use super::*;
use crate::health::{Health, HealthAction, HealthProbe, HealthSpec, HealthStatus, MAX_OUTPUT, MAX_RESULTS};
use crate::restart::RestartPolicy;
use crate::state::ContainerStatus;

/// A check that probes often by `args`.
fn often(args: &[&str]) -> HealthSpec {
    let args = args.iter().map(|&text| text.to_owned()).collect();
    let mut spec = HealthSpec::new(HealthProbe::Command(args));
    spec.interval = Duration::from_millis(40);
    spec.timeout = Duration::from_secs(20);
    spec.retries = 2;
    spec
}

impl Bench<'_> {
    async fn start_checked(&self, args: &[&str], health: HealthSpec) -> ContainerId {
        let id = self.create_with(args, |launch| launch.health = Some(health)).await;
        self.runtime.start(&id).await.expect("start");
        id
    }

    async fn health(&self, id: &ContainerId) -> Health {
        self.runtime.state(id).await.expect("state").health.expect("it has a check")
    }

    /// Waits until the health is as wanted, and returns it.
    async fn until_health(&self, id: &ContainerId, wanted: impl Fn(&Health) -> bool) -> Health {
        loop {
            let health = self.health(id).await;
            if wanted(&health) {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Promise: a container is starting until a probe passed, then healthy; every instance sees that and what the probe wrote.
pub async fn passing_probe_makes_it_healthy(bench: Bench<'_>) {
    let mut check = often(&sh("echo fine; echo really >&2"));
    check.interval = Duration::from_millis(700);
    let id = bench.start_checked(FOREVER, check).await;
    let health = bench.health(&id).await;
    assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
    assert!(health.results.is_empty(), "{health:?}");
    let health = bench.until_health(&id, |health| health.status == HealthStatus::Healthy).await;
    let result = &health.results[0];
    assert_eq!((result.exit_code, health.failing_streak), (0, 0));
    assert!(result.output.contains("fine\n") && result.output.contains("really\n"), "{result:?}");
    assert!(result.start <= result.end, "{result:?}");
    let state = bench.second.state(&id).await.expect("state");
    assert_eq!(state.health.expect("health").status, HealthStatus::Healthy);
    assert_eq!(log_text(bench.runtime, &id).await, "", "a probe does not write to the container's log");
}

/// Promise: a container without a check has no health.
pub async fn health_needs_a_check(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    assert_eq!(bench.runtime.state(&id).await.expect("state").health, None);
}

/// Promise: as many failures in a row as the check says make it unhealthy; the last five results are kept, oldest first.
pub async fn failing_probes_make_it_unhealthy(bench: Bench<'_>) {
    let id = bench.start_checked(FOREVER, often(&sh("echo bad; exit 3"))).await;
    let health = bench.until_health(&id, |health| health.failing_streak >= 7).await;
    assert_eq!((health.status, health.results.len()), (HealthStatus::Unhealthy, MAX_RESULTS));
    for result in &health.results {
        assert_eq!((result.exit_code, result.output.as_str()), (3, "bad\n"));
    }
    assert!(health.results.windows(2).all(|pair| pair[0].end <= pair[1].start), "{health:?}");
    assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Running);
}

/// Promise: failures in the start period do not count until a probe has passed, and probes come as often as it says.
pub async fn start_period_forgives(bench: Bench<'_>) {
    let mut check = often(&sh("exit 1"));
    check.start_period = Duration::from_secs(1000);
    check.start_interval = Duration::from_millis(20);
    check.interval = Duration::from_secs(1000);
    let id = bench.start_checked(FOREVER, check).await;
    let health = bench.until_health(&id, |health| health.results.len() >= 3).await;
    assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
}

/// Promise: a probe that cannot be carried out is a failure that says why.
pub async fn missing_probe_is_a_failure(bench: Bench<'_>) {
    let id = bench.start_checked(FOREVER, often(&["no-such-command"])).await;
    let health = bench.until_health(&id, |health| health.status == HealthStatus::Unhealthy).await;
    let result = &health.results[0];
    assert!(result.exit_code == -1 && !result.output.is_empty(), "{result:?}");
}

/// Promise: a probe that hangs is ended at its timeout, and has failed.
pub async fn hanging_probe_is_ended(bench: Bench<'_>) {
    let mut check = often(&sh("echo waiting; sleep 1000"));
    check.timeout = Duration::from_millis(300);
    // With an init, which reaps what a probe that is ended leaves.
    let change = |launch: &mut LaunchSpec| (launch.health, launch.init) = (Some(check), true);
    let id = bench.create_with(FOREVER, change).await;
    bench.runtime.start(&id).await.expect("start");
    let health = bench.until_health(&id, |health| health.failing_streak >= 8).await;
    assert_eq!(health.status, HealthStatus::Unhealthy);
    let result = &health.results[0];
    assert!(result.exit_code == -1 && result.output.contains("long"), "{result:?}");
    // Ended, not left behind: those of two probes at most, besides the container's own.
    assert!(bench.runtime.stats(&id).await.expect("stats").pids <= 8);
}

/// Promise: of what a probe writes, a bounded part is kept, and the rest does not hold it up.
pub async fn probe_output_is_bounded(bench: Bench<'_>) {
    let much = "x".repeat(3 * MAX_OUTPUT);
    let id = bench.start_checked(FOREVER, often(&sh(&format!("echo {much}; echo {much}")))).await;
    let health = bench.until_health(&id, |health| health.status == HealthStatus::Healthy).await;
    assert_eq!(health.results[0].output.len(), MAX_OUTPUT);
}

/// Promise: a pause holds the probes.
pub async fn pause_holds_probes(bench: Bench<'_>) {
    if !bench.runtime.capabilities().pause {
        return;
    }
    let id = bench.start_checked(FOREVER, often(&["true"])).await;
    bench.until_health(&id, |health| health.status == HealthStatus::Healthy).await;
    bench.runtime.pause(&id).await.expect("pause");
    // One that was under way may have ended just then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = bench.health(&id).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(bench.health(&id).await, before);
    bench.runtime.resume(&id).await.expect("resume");
    let more = |health: &Health| health.results.last() != before.results.last();
    let after = bench.until_health(&id, more).await;
    assert_eq!(after.status, HealthStatus::Healthy);
}

/// Promise: an unhealthy container is killed if the check says so, and then its restart policy applies.
pub async fn unhealthy_container_is_killed(bench: Bench<'_>) {
    let mut check = often(&["false"]);
    check.on_failure = HealthAction::Kill;
    let id = bench.start_checked(FOREVER, check.clone()).await;
    assert_eq!(bench.wait(&id).await, 137);
    let state = bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    assert_eq!((state.restart_count, state.stopped), (0, false));
    assert_eq!(state.health.expect("health").status, HealthStatus::Unhealthy);
    let change = |launch: &mut LaunchSpec| {
        (launch.health, launch.restart) = (Some(check), RestartPolicy::Always);
    };
    let id = bench.create_with(FOREVER, change).await;
    bench.runtime.start(&id).await.expect("start");
    bench.until(&id, |state| state.restart_count >= 1).await;
}

/// Promise: an unhealthy container is stopped if the check says so, and stays so, whatever its restart policy.
pub async fn unhealthy_container_is_stopped(bench: Bench<'_>) {
    let mut check = often(&["false"]);
    check.on_failure = HealthAction::Stop;
    let change = |launch: &mut LaunchSpec| {
        (launch.health, launch.restart) = (Some(check), RestartPolicy::Always);
    };
    let id = bench.create_with(&sh(GRACEFUL), change).await;
    bench.runtime.start(&id).await.expect("start");
    assert_eq!(bench.wait(&id).await, 7);
    let state = bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    assert_eq!((state.restart_count, state.stopped), (0, true));
}

/// Promise: an unhealthy container that ignores its stop signal is killed, and runs again if the check says so, with a new
/// health.
pub async fn unhealthy_container_is_restarted(bench: Bench<'_>) {
    let mut check = often(&["false"]);
    (check.on_failure, check.stop_timeout) = (HealthAction::Restart, Duration::from_millis(100));
    check.interval = Duration::from_millis(300);
    let id = bench.start_checked(FOREVER, check).await;
    assert_eq!(bench.wait(&id).await, 137);
    let running = |state: &crate::state::RuntimeState| {
        state.restart_count == 1 && state.status == ContainerStatus::Running
    };
    let state = bench.until(&id, running).await;
    let health = state.health.expect("health");
    assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
    assert!(!health.results.is_empty(), "the log goes on");
}

/// Promise: each start begins without results.
pub async fn health_begins_anew_with_each_start(bench: Bench<'_>) {
    let id = bench.start_checked(FOREVER, often(&["true"])).await;
    bench.until_health(&id, |health| health.status == HealthStatus::Healthy).await;
    bench.runtime.stop(&id, SIGKILL).await.expect("stop");
    bench.wait(&id).await;
    let mut launch = bench.harness.launch(&id, FOREVER).await;
    let mut check = often(&["true"]);
    check.interval = Duration::from_secs(1000);
    launch.health = Some(check);
    bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    bench.runtime.create(&id, &launch).await.expect("create again");
    bench.runtime.start(&id).await.expect("start again");
    let health = bench.health(&id).await;
    assert_eq!((health.status, health.results.len()), (HealthStatus::Starting, 0));
}
