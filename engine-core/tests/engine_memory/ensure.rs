//! What is to be there is made once, made anew when something else is asked for, and followed without a gap.

use engine_core::container_spec::NetworkMode;
use engine_core::engine::{Ensured, SPEC_HASH_LABEL};
use engine_core::events::EventQuery;
use engine_core::network::{EndpointOptions, NetworkOptions};
use futures_util::StreamExt as _;

use super::*;

fn wanted() -> ContainerSpec {
    let mut spec = ContainerSpec::command(["sleep", "1000"]).with_name("web".parse().unwrap());
    spec.stop_timeout = Some(0);
    spec
}

#[tokio::test]
async fn a_container_is_made_once_and_anew_for_another_spec_or_image() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let image = parts.publish("one", "registry.example/web:1");
    let name = image.to_string();
    let error = engine.ensure_container(&name, wanted()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let (_, did) = engine.ensure_image(&image, PullOptions::default()).await.unwrap();
    assert_eq!(did, Ensured::Created);
    assert_eq!(engine.ensure_image(&image, PullOptions::default()).await.unwrap().1, Ensured::Unchanged);

    let (first, did) = engine.ensure_container(&name, wanted()).await.unwrap();
    assert_eq!(did, Ensured::Created);
    first.start().await.unwrap();
    let (again, did) = engine.ensure_container(&name, wanted()).await.unwrap();
    assert_eq!((again.id(), did), (first.id(), Ensured::Unchanged));
    // A name that is the beginning of an id is no such name.
    let short = wanted().with_name(first.id().short().parse().unwrap());
    assert_eq!(engine.ensure_container(&name, short).await.unwrap().1, Ensured::Created);

    let changed = wanted().with_env(["COLOR=blue"]);
    let (second, did) = engine.ensure_container(&name, changed.clone()).await.unwrap();
    assert_eq!(did, Ensured::Replaced);
    assert_eq!(first.inspect().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(second.inspect().await.unwrap().spec.labels[SPEC_HASH_LABEL].len(), 64);

    // The same name of an image, and another image behind it.
    parts.publish("two", "registry.example/web:1");
    engine.pull(&image, PullOptions::default()).await.unwrap();
    let (third, did) = engine.ensure_container(&name, changed.clone()).await.unwrap();
    assert_eq!(did, Ensured::Replaced);
    assert_ne!(third.id(), second.id());
    assert_eq!(engine.ensure_container(&name, changed).await.unwrap().1, Ensured::Unchanged);

    let nameless = ContainerSpec::command(["true"]);
    let error = engine.ensure_container(&name, nameless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn programs_that_want_the_same_at_once_get_the_same() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let image = parts.publish("one", "registry.example/web:1");
    engine.pull(&image, PullOptions::default()).await.unwrap();
    let name = image.to_string();
    let made = futures_util::future::join_all((0..8).map(|_| engine.ensure_container(&name, wanted()))).await;
    let made: Vec<_> = made.into_iter().map(|made| made.unwrap()).collect();
    assert!(made.iter().all(|(container, _)| container.id() == made[0].0.id()));
    assert_eq!(made.iter().filter(|(_, did)| *did == Ensured::Created).count(), 1);
    assert_eq!(engine.containers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_network_is_made_once_and_anew_for_other_options() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let (name, options) = ("lan".parse().unwrap(), NetworkOptions::default());
    let (first, did) = engine.ensure_network(&name, options.clone()).await.unwrap();
    assert_eq!(did, Ensured::Created);
    let (again, did) = engine.ensure_network(&name, options.clone()).await.unwrap();
    assert_eq!((again.id, did), (first.id, Ensured::Unchanged));
    let mut other = options.clone();
    other.internal = true;
    let (second, did) = engine.ensure_network(&name, other.clone()).await.unwrap();
    assert_eq!((second.options.internal, did), (true, Ensured::Replaced));

    // While a container is on it, it stays.
    let image = parts.publish("one", "registry.example/web:1");
    engine.pull(&image, PullOptions::default()).await.unwrap();
    let on_it =
        wanted().with_network(NetworkMode::Networks(vec![(name.clone(), EndpointOptions::default())]));
    let container = engine.create(&image.to_string(), on_it).await.unwrap();
    container.start().await.unwrap();
    let error = engine.ensure_network(&name, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(engine.ensure_network(&name, other).await.unwrap().1, Ensured::Unchanged);
}

#[tokio::test]
async fn a_list_and_the_events_after_its_cursor_have_no_gap() {
    let parts = Parts::new();
    let engine = parts.open().await;
    let image = parts.publish("one", "registry.example/web:1");
    engine.pull(&image, PullOptions::default()).await.unwrap();
    let name = image.to_string();
    let before = engine.create(&name, ContainerSpec::command(["true"])).await.unwrap();
    let cursor = engine.event_cursor().await.unwrap();
    // Between the list and the watch.
    let between = engine.create(&name, ContainerSpec::command(["true"])).await.unwrap();
    let mut events = engine.events(EventQuery::default().with_after(cursor)).await.unwrap();
    let seen = events.next().await.unwrap().unwrap();
    assert_eq!(seen.id, between.id().as_str());
    assert_ne!(seen.id, before.id().as_str());
    // Whoever was away goes on after what it has seen.
    drop(events);
    let later = engine.create(&name, ContainerSpec::command(["true"])).await.unwrap();
    let mut events = engine.events(EventQuery::default().with_after(seen.cursor())).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().id, later.id().as_str());
}
