//! Tests of the shim's restart rule.

use super::format as plan;
use super::format::{Restart, restart};
use policy::Policy;

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
