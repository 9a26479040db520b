//! Faults on demand: which call fails, and a record of all calls.
//!
//! One handle may be shared by several implementations. Methods are named `part.method`, such as
//! `runtime.create`; a rule for `create` alone counts the calls of that method of every part.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock;
use crate::error::{Error, ErrorKind, Result};

/// A handle for faults, shared by its clones. The default has no rule, and records.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
}

struct Rule {
    method: String,
    action: Action,
}

enum Action {
    /// Fails when as many more calls have come; then the rule is spent.
    FailNth(usize, ErrorKind),
    FailAlways(ErrorKind),
    Delay(Duration),
    Hang,
}

/// A call of a method.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// The part and the method: `runtime.create`.
    pub method: String,
    /// What the call was about: an id, a name, a digest, a reference.
    pub subject: String,
}

impl Faults {
    /// Creates a handle without rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `n`-th call of `method` from now on fail with `kind`. The first is 1; 0 is taken as 1.
    pub fn fail_nth(&self, method: impl Into<String>, n: usize, kind: ErrorKind) {
        self.add(method, Action::FailNth(n.max(1), kind));
    }

    /// Makes each call of `method` fail with `kind`.
    pub fn fail_always(&self, method: impl Into<String>, kind: ErrorKind) {
        self.add(method, Action::FailAlways(kind));
    }

    /// Makes each call of `method` wait before it acts.
    pub fn delay(&self, method: impl Into<String>, time: Duration) {
        self.add(method, Action::Delay(time));
    }

    /// Makes each call of `method` wait for ever: until its future is dropped.
    pub fn hang(&self, method: impl Into<String>) {
        self.add(method, Action::Hang);
    }

    /// Removes all rules. The record stays.
    pub fn clear(&self) {
        lock(&self.0).rules.clear();
    }

    /// Returns all calls so far, in order, those that were made to fail too.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0).calls.clone()
    }

    /// Returns how often `method` was called.
    #[must_use]
    pub fn count(&self, method: &str) -> usize {
        lock(&self.0).calls.iter().filter(|call| matches(method, &call.method)).count()
    }

    fn add(&self, method: impl Into<String>, action: Action) {
        lock(&self.0).rules.push(Rule { method: method.into(), action });
    }

    /// Records a call and does what the rules say: waits, fails, or neither.
    pub(super) async fn check(&self, method: &'static str, subject: impl fmt::Display) -> Result<()> {
        let (wait, failure) = lock(&self.0).take(method, subject.to_string());
        match wait {
            Some(Duration::MAX) => std::future::pending().await,
            Some(time) => tokio::time::sleep(time).await,
            None => {}
        }
        match failure {
            Some(kind) => Err(Error::new(kind, "do what the test asked for")
                .with("method", method)
                .with("subject", subject)
                .with_message("an injected fault")),
            None => Ok(()),
        }
    }
}

impl State {
    fn take(&mut self, method: &str, subject: String) -> (Option<Duration>, Option<ErrorKind>) {
        self.calls.push(Call { method: method.to_owned(), subject });
        let (mut wait, mut failure) = (None::<Duration>, None);
        self.rules.retain_mut(|rule| {
            if !matches(&rule.method, method) {
                return true;
            }
            match &mut rule.action {
                Action::FailNth(1, kind) => {
                    failure.get_or_insert(*kind);
                    return false;
                }
                Action::FailNth(left, _) => *left -= 1,
                Action::FailAlways(kind) => {
                    failure.get_or_insert(*kind);
                }
                Action::Delay(time) => wait = Some(wait.unwrap_or_default().saturating_add(*time)),
                Action::Hang => wait = Some(Duration::MAX),
            }
            true
        });
        (wait, failure)
    }
}

/// Returns whether `wanted` names `method`, with or without the part.
fn matches(wanted: &str, method: &str) -> bool {
    wanted == method || method.split_once('.').is_some_and(|(_, bare)| bare == wanted)
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0);
        f.debug_struct("Faults")
            .field("rules", &state.rules.len())
            .field("calls", &state.calls.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_nth_call_fails_once() {
        let faults = Faults::new();
        faults.fail_nth("runtime.create", 2, ErrorKind::Unavailable);
        faults.check("runtime.create", "a").await.unwrap();
        faults.check("network.create", "a").await.unwrap();
        let error = faults.check("runtime.create", "b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        faults.check("runtime.create", "c").await.unwrap();
        assert_eq!((faults.count("create"), faults.count("runtime.create")), (4, 3));
        assert_eq!(faults.calls()[2].subject, "b");
    }

    #[tokio::test]
    async fn a_bare_name_counts_in_every_part() {
        let faults = Faults::new();
        faults.fail_nth("create", 2, ErrorKind::Other);
        faults.fail_always("list", ErrorKind::Conflict);
        faults.check("runtime.create", "").await.unwrap();
        assert!(faults.check("network.create", "").await.is_err());
        assert!(faults.check("volume.list", "").await.is_err());
        faults.clear();
        faults.check("volume.list", "").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn delays_add_up_and_hanging_calls_can_be_dropped() {
        let faults = Faults::new();
        faults.delay("runtime.wait", Duration::from_secs(1));
        faults.delay("wait", Duration::from_secs(2));
        let begin = tokio::time::Instant::now();
        faults.check("runtime.wait", "").await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
        faults.hang("wait");
        let hung = tokio::time::timeout(Duration::from_secs(60), faults.check("runtime.wait", "")).await;
        assert!(hung.is_err());
    }
}
