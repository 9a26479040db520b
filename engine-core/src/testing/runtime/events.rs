//! Promises about the events of a container's life.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use futures_util::StreamExt as _;

use super::*;
use crate::events::{Action, Event, EventQuery, Journal, ObjectKind};
use crate::health::{HealthProbe, HealthSpec, HealthStatus};
use crate::launch::{ExecSpec, LifeEvents};
use crate::restart::RestartPolicy;
use crate::state::ContainerStatus;

/// A journal in a directory, where a helper process can append as well.
struct Told {
    journal: Journal,
    dir: PathBuf,
}

impl Told {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("engine-told-{}", ContainerId::random().short()));
        Self { journal: Journal::open(&dir).expect("open journal"), dir }
    }

    /// Asks for the events of a container whose volume `data` is mounted.
    fn by(&self, launch: &mut LaunchSpec) {
        let attributes = BTreeMap::from([("name".to_owned(), "a \"name\"".to_owned())]);
        let mut events = LifeEvents::new(self.journal.clone(), attributes);
        events.at_start.push(Event::new(ObjectKind::Volume, Action::Mount, "data"));
        events.at_end.push(Event::new(ObjectKind::Volume, Action::Unmount, "data"));
        launch.events = Some(events);
    }

    async fn events(&self) -> Vec<Event> {
        let query = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
        let events = self.journal.read(query).await.expect("read journal");
        events.map(|event| event.expect("event")).collect().await
    }

    async fn actions(&self) -> Vec<String> {
        self.events().await.iter().map(|event| event.action.to_string()).collect()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Promise: what happens to a container is told in order, and before anybody can know of it otherwise.
pub async fn life_is_told(bench: Bench<'_>) {
    let told = Told::new();
    let id = bench.create_with(FOREVER, |launch| told.by(launch)).await;
    assert!(told.events().await.is_empty(), "nothing has happened yet");
    bench.runtime.start(&id).await.expect("start");
    assert_eq!(told.actions().await, ["mount", "start"]);
    let exec = ExecSpec::new(sh("exit 3"));
    let exec = bench.runtime.exec(&id, &exec, AttachOptions::default()).await.expect("exec");
    bench.runtime.exec_wait(&id, &exec.id).await.expect("exec wait");
    let before = told.events().await;
    assert_eq!(
        told.actions().await[2..],
        ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]
    );
    bench.second.signal(&id, SIGKILL).await.expect("signal");
    bench.wait(&id).await;
    let events = told.events().await;
    let after: Vec<String> = events[before.len()..].iter().map(|event| event.action.to_string()).collect();
    assert_eq!(after, ["kill", "die", "unmount"]);
    let attribute = |action: &Action, key: &str| {
        let event = events.iter().find(|event| event.action == *action).expect("event");
        event.attributes.get(key).cloned().unwrap_or_default()
    };
    assert_eq!(attribute(&Action::Kill, "signal"), SIGKILL.to_string());
    assert_eq!(attribute(&Action::Die, "exitCode"), "137");
    assert!(attribute(&Action::Die, "execDuration").parse::<u64>().is_ok(), "{events:?}");
    assert_eq!(attribute(&Action::ExecDie, "exitCode"), "3");
    for event in events.iter().filter(|event| event.object == ObjectKind::Container) {
        assert_eq!(event.id, id.as_str());
        assert_eq!(event.attributes.get("name").map(String::as_str), Some("a \"name\""), "{event:?}");
        let is_of_exec = event.action.as_str().starts_with("exec_");
        let expected = is_of_exec.then(|| exec.id.as_str());
        assert_eq!(event.attributes.get("execID").map(String::as_str), expected, "{event:?}");
    }
    assert!(events.windows(2).all(|pair| pair[0].time < pair[1].time), "{events:?}");
}

/// Promise: each run by a restart policy has a beginning and an end.
pub async fn each_run_is_told(bench: Bench<'_>) {
    let told = Told::new();
    let id = bench
        .create_with(&sh("exit 4"), |launch| {
            told.by(launch);
            launch.restart = RestartPolicy::OnFailure { max_retries: 1 };
        })
        .await;
    bench.runtime.start(&id).await.expect("start");
    bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    let run = ["mount", "start", "die", "unmount"];
    assert_eq!(told.actions().await, [run, run].concat());
    bench.runtime.delete(&id).await.expect("delete");
    assert_eq!(told.events().await.len(), 8, "its removal is not the runtime's to tell");
    bench.harness.release(&id).await;
}

/// Promise: a change of health is told, and only a change.
pub async fn health_is_told(bench: Bench<'_>) {
    let told = Told::new();
    let mut check = HealthSpec::new(HealthProbe::Command(vec!["true".to_owned()]));
    (check.interval, check.timeout) = (Duration::from_millis(20), Duration::from_secs(60));
    let id = bench
        .create_with(FOREVER, |launch| {
            told.by(launch);
            launch.health = Some(check);
        })
        .await;
    bench.runtime.start(&id).await.expect("start");
    let state =
        bench.until(&id, |state| state.health.as_ref().is_some_and(|health| health.results.len() > 1)).await;
    assert_eq!(state.health.map(|health| health.status), Some(HealthStatus::Healthy));
    let actions = told.actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "health_status: healthy").count(), 1, "{actions:?}");
    assert!(
        actions.iter().all(|action| !action.starts_with("health") || action.ends_with(": healthy")),
        "{actions:?}"
    );
}
