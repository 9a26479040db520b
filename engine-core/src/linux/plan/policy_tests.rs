//! Tests of the shim's rules: restarts and health.

use super::format as plan;
use super::format::{Restart, restart};
use policy::{Condition, HEALTHY, Policy, STARTING, UNHEALTHY};

#[allow(dead_code, unreachable_pub, reason = "the shim's file")]
#[path = "../../../shim/policy.rs"]
mod policy;

fn policy(kind: u32, max_retries: u32) -> Policy {
    Policy::new(Restart { kind, max_retries, shortest_ms: 100, longest_ms: 60_000, steady_ms: 10_000 })
}

#[test]
fn the_back_off_is_dockers_after_a_first_run_at_once() {
    let mut policy = policy(restart::ALWAYS, 0);
    let delays: Vec<u64> = (0..12).map(|_| policy.delay(20)).collect();
    assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000]);
    assert_eq!(policy.delay(9_999), 60_000);
    assert_eq!((policy.delay(10_000), policy.delay(20)), (0, 100), "a steady run begins a new row");
}

#[test]
fn what_ended_runs_again_as_its_policy_says() {
    for (kind, max, code, restarts, wanted) in [
        (restart::NEVER, 0, 1, 0, false),
        (restart::ALWAYS, 0, 0, 1000, true),
        (restart::ON_FAILURE, 0, 0, 0, false),
        (restart::ON_FAILURE, 0, 1, 1000, true),
        (restart::ON_FAILURE, 3, 137, 2, true),
        (restart::ON_FAILURE, 3, 137, 3, false),
    ] {
        assert_eq!(policy(kind, max).wants(code, restarts), wanted, "{kind} {max} {code} {restarts}");
    }
    let mut changed = policy(restart::ALWAYS, 0);
    changed.change(restart::NEVER, 0);
    assert!(!changed.is_on() && !changed.wants(1, 0));
}

#[test]
fn an_unknown_policy_is_refused() {
    let plan = |kind| {
        let rule = Some(Restart { kind, ..Restart::NEVER });
        let process = super::ProcessPlan { argv: vec![b"x".to_vec()], ..super::ProcessPlan::default() };
        let bytes =
            super::LaunchPlan { restart: rule, process, ..super::LaunchPlan::default() }.encode().unwrap();
        plan::Plan::parse(&bytes, plan::KIND_LAUNCH)
            .map(|plan| plan.first(plan::tag::RESTART).unwrap().restart())
    };
    assert_eq!(plan(restart::ON_FAILURE).unwrap().unwrap().kind, restart::ON_FAILURE);
    assert_eq!(plan(3).unwrap_err(), plan::Malformed::Body(plan::tag::RESTART));
}

#[test]
fn probes_make_a_container_healthy_or_not_as_in_docker() {
    let mut condition = Condition::new();
    let mut judge = |passed, early| {
        condition.judge(passed, early, 3);
        (condition.status, condition.streak)
    };
    assert_eq!(judge(false, true), (STARTING, 0), "early failures do not count");
    assert_eq!(judge(false, false), (STARTING, 1));
    assert_eq!(judge(true, true), (HEALTHY, 0));
    assert_eq!(judge(false, true), (HEALTHY, 1), "once it was healthy, all failures count");
    assert_eq!(judge(false, false), (HEALTHY, 2));
    assert_eq!(judge(false, false), (UNHEALTHY, 3));
    assert_eq!(judge(false, false), (UNHEALTHY, 4));
    assert_eq!(judge(true, false), (HEALTHY, 0));
}

#[test]
fn a8_a_health_check_is_checked_as_everything_in_a_plan() {
    let rule = plan::Health {
        kind: plan::health::COMMAND,
        action: plan::health::STOP,
        interval_ms: 1,
        timeout_ms: 2,
        start_period_ms: 3,
        start_interval_ms: 4,
        retries: 5,
        stop_signal: 15,
        stop_timeout_ms: 6,
    };
    let process = super::ProcessPlan { argv: vec![b"x".to_vec()], ..super::ProcessPlan::default() };
    let exec = process.encode_exec().unwrap();
    let read = |health: super::HealthPlan| {
        let launch = super::LaunchPlan {
            health: Some(health),
            process: process.clone(),
            ..super::LaunchPlan::default()
        };
        plan::Plan::parse(&launch.encode().unwrap(), plan::KIND_LAUNCH).map(|plan| {
            let target = plan.first(plan::tag::HEALTH_TARGET).and_then(|record| record.target());
            (plan.first(plan::tag::HEALTH).unwrap().health().unwrap(), target.map(|(_, said)| said.to_vec()))
        })
    };
    let with = |rule, command: &[u8], target| super::HealthPlan { rule, command: command.to_vec(), target };
    assert_eq!(read(with(rule, &exec, None)).unwrap(), (rule, None));
    let target = Some((vec![2, 0, 0, 80], b"GET".to_vec()));
    assert_eq!(read(with(rule, &[], target)).unwrap().1, Some(b"GET".to_vec()));
    for wrong in [
        plan::Health { kind: 0, ..rule },
        plan::Health { kind: 4, ..rule },
        plan::Health { action: 4, ..rule },
        plan::Health { interval_ms: 0, ..rule },
        plan::Health { timeout_ms: 1 << 62, ..rule },
        plan::Health { stop_signal: 65, ..rule },
    ] {
        assert_eq!(read(with(wrong, &exec, None)).unwrap_err(), plan::Malformed::Body(plan::tag::HEALTH));
    }
    for command in [&exec[..exec.len() - 1], b"x"] {
        let error = read(with(rule, command, None)).unwrap_err();
        assert_eq!(error, plan::Malformed::Body(plan::tag::HEALTH_PLAN));
    }
    for address in [vec![2], vec![0; 129]] {
        let error = read(with(rule, &exec, Some((address, Vec::new())))).unwrap_err();
        assert_eq!(error, plan::Malformed::Body(plan::tag::HEALTH_TARGET));
    }
    // A plan of an exec holds no other, so nothing is nested without end.
    let mut inner = super::Encoder::new(plan::KIND_EXEC);
    process.encode(&mut inner, 0).unwrap();
    inner.record(plan::tag::HEALTH_PLAN, |body| body.bytes(&exec)).unwrap();
    let error = plan::Plan::parse(&inner.finish().unwrap(), plan::KIND_EXEC).map(drop).unwrap_err();
    assert_eq!(error, plan::Malformed::Tag(plan::tag::HEALTH_PLAN));
}
