//! Promises about restart policies.

use super::*;
use crate::restart::RestartPolicy;
use crate::state::{ContainerStatus, RuntimeState};

impl Bench<'_> {
    async fn start_with(&self, args: &[&str], restart: RestartPolicy) -> ContainerId {
        let id = self.create_with(args, |launch| launch.restart = restart).await;
        self.runtime.start(&id).await.expect("start");
        id
    }

    /// Waits until the state is as wanted, and returns it.
    pub(super) async fn until(
        &self,
        id: &ContainerId,
        wanted: impl Fn(&RuntimeState) -> bool,
    ) -> RuntimeState {
        loop {
            let state = self.runtime.state(id).await.expect("state");
            if wanted(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Promise: a container whose policy is `always` runs again after any end, with its log going on, and counts that.
pub async fn policy_runs_it_again(bench: Bench<'_>) {
    for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
        let id = bench.start_with(&sh("echo run; exit 0"), policy).await;
        assert_eq!(bench.wait(&id).await, 0, "wait returns at an end");
        bench.until(&id, |state| state.restart_count >= 2).await;
        bench.runtime.stop(&id, SIGKILL).await.expect("stop");
        bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
        let log = log_text(bench.second, &id).await;
        assert!(log.starts_with("run\nrun\n") && log.lines().all(|line| line == "run"), "{log:?}");
    }
}

/// Promise: `on-failure` with a number of retries runs a failing process that often again, then leaves it ended.
pub async fn failures_are_retried_so_often(bench: Bench<'_>) {
    let policy = RestartPolicy::OnFailure { max_retries: 2 };
    let id = bench.start_with(&sh("echo run; exit 3"), policy).await;
    let state = bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    assert_eq!((state.restart_count, state.exit.map(code), state.stopped), (2, Some(3), false));
    assert_eq!(log_text(bench.runtime, &id).await, "run\nrun\nrun\n");
}

/// Promise: `on-failure` leaves a process ended that ended with 0.
pub async fn success_is_no_failure(bench: Bench<'_>) {
    let id = bench.start_with(&["true"], RestartPolicy::OnFailure { max_retries: 0 }).await;
    let state = bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    assert_eq!((state.restart_count, state.exit.map(code)), (0, Some(0)));
}

/// Promise: what `stop` has ended stays ended, whatever the policy, and its state says so.
pub async fn stopped_container_stays_ended(bench: Bench<'_>) {
    for signal in [SIGTERM, SIGKILL] {
        let change = |launch: &mut LaunchSpec| launch.restart = RestartPolicy::Always;
        let (id, mut streams) = bench.run(&sh(GRACEFUL), change, AttachOptions::piped(false)).await;
        read_until(streams.stdout.as_mut().expect("stdout"), "ready").await;
        assert!(!bench.runtime.state(&id).await.expect("state").stopped);
        bench.second.stop(&id, signal).await.expect("stop");
        assert_eq!(bench.wait(&id).await, if signal == SIGTERM { 7 } else { 137 });
        tokio::time::sleep(Duration::from_millis(250)).await;
        let state = bench.runtime.state(&id).await.expect("state");
        assert_eq!((state.status, state.restart_count, state.stopped), (ContainerStatus::Exited, 0, true));
        bench.second.stop(&id, signal).await.expect("stop again");
    }
}

/// Promise: what a signal has ended runs again, as another process.
pub async fn killed_container_runs_again(bench: Bench<'_>) {
    let id = bench.start_with(FOREVER, RestartPolicy::Always).await;
    let first = bench.runtime.state(&id).await.expect("state");
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    let running = |state: &RuntimeState| state.restart_count == 1 && state.status == ContainerStatus::Running;
    let state = bench.until(&id, running).await;
    assert!(state.pid.is_some() && state.pid != first.pid && state.exit.is_none(), "{state:?}");
    assert!(state.started_at > first.started_at, "{state:?}");
    let waiting = tokio::time::timeout(Duration::from_millis(100), bench.runtime.wait(&id)).await;
    assert!(waiting.is_err(), "it runs, and the wait for its end returned {waiting:?}");
}

/// Starts a container that waits longer and longer for its next run, and returns it while it waits.
async fn restarting(bench: &Bench<'_>) -> ContainerId {
    let id = bench.start_with(&sh("exit 9"), RestartPolicy::Always).await;
    // The fourth run comes after 400 ms.
    let waits =
        |state: &RuntimeState| state.restart_count >= 3 && state.status == ContainerStatus::Restarting;
    let state = bench.until(&id, waits).await;
    assert_eq!((state.pid, state.exit.map(code)), (None, Some(9)));
    id
}

/// Promise: between two runs there is no process, and `stop` ends the container at once.
pub async fn stop_ends_the_wait_for_the_next_run(bench: Bench<'_>) {
    let id = restarting(&bench).await;
    assert_kind(bench.runtime.start(&id).await, &[ErrorKind::Conflict], "start");
    bench.runtime.stop(&id, SIGTERM).await.expect("stop");
    let state = bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    assert_eq!((state.exit.map(code), state.stopped), (Some(9), true));
    assert_eq!(bench.wait(&id).await, 9);
    assert_kind(
        bench.runtime.set_restart_policy(&id, RestartPolicy::Always).await,
        &[ErrorKind::Conflict],
        "another policy after the end",
    );
}

/// Promise: a container that waits for its next run is deleted at once.
pub async fn deletion_ends_the_wait_for_the_next_run(bench: Bench<'_>) {
    let id = restarting(&bench).await;
    bench.second.delete(&id).await.expect("delete");
    assert_kind(bench.runtime.state(&id).await, &[ErrorKind::NotFound], "state");
    bench.harness.release(&id).await;
}

/// Promise: a command that cannot run at all is told once.
pub async fn command_that_is_not_there_is_not_retried(bench: Bench<'_>) {
    let id = bench.create_with(&["no-such-command"], |launch| launch.restart = RestartPolicy::Always).await;
    assert_kind(bench.runtime.start(&id).await, &[ErrorKind::CommandNotFound], "start");
    assert_eq!(bench.wait(&id).await, 127);
    let state = bench.runtime.state(&id).await.expect("state");
    assert_eq!((state.status, state.restart_count), (ContainerStatus::Exited, 0));
}

/// Promise: the streams of a client end with the run that it attached to; another can attach to the next one.
pub async fn streams_end_with_each_run(bench: Bench<'_>) {
    let change = |launch: &mut LaunchSpec| {
        launch.restart = RestartPolicy::Always;
        interactive(launch);
    };
    let (id, mut streams) =
        bench.run(&sh("echo begin; cat; exit 4"), change, AttachOptions::piped(true)).await;
    for round in 1..3 {
        write_all(&mut streams, b"some\n").await;
        drop(streams.stdin.take());
        let text = read_text(streams.stdout.take()).await;
        assert!(text == "begin\nsome\n" || (round > 1 && text == "some\n"), "{text:?}");
        let next =
            |state: &RuntimeState| state.restart_count == round && state.status == ContainerStatus::Running;
        bench.until(&id, next).await;
        streams = bench.runtime.attach(&id, AttachOptions::piped(true)).await.expect("attach");
    }
}

/// Promise: another policy is that of the next end.
pub async fn policy_is_changed_while_it_runs(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    bench.second.set_restart_policy(&id, RestartPolicy::Always).await.expect("always");
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    let running = |state: &RuntimeState| state.restart_count == 1 && state.status == ContainerStatus::Running;
    bench.until(&id, running).await;
    bench.second.set_restart_policy(&id, RestartPolicy::No).await.expect("no");
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    let state = bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    assert_eq!((state.restart_count, state.stopped), (1, false));
    let waits = restarting(&bench).await;
    bench.runtime.set_restart_policy(&waits, RestartPolicy::No).await.expect("no");
    bench.until(&waits, |state| state.status == ContainerStatus::Exited).await;
}
