//! Promises about descriptors that are kept open.

use std::io::{PipeReader, PipeWriter, Read as _};

use super::*;
use crate::restart::RestartPolicy;
use crate::runtime::{Kept, MAX_KEPT};
use crate::state::{ContainerStatus, RuntimeState};

/// A pipe whose reader does not wait.
fn pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("pipe");
    rustix::io::ioctl_fionbio(&reader, true).expect("do not wait");
    (reader, writer)
}

/// Whether somebody has the other end.
fn is_open(mut reader: &PipeReader) -> bool {
    match reader.read(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            true
        }
    }
}

/// Waits until nobody has the other end: a process that is being started has what its starter has for a moment.
async fn until_closed(reader: &PipeReader) {
    while is_open(reader) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Promise: what is kept stays open while the container runs and between its runs, until it is replaced, let go or the
/// container has ended for good; then it is closed before the end is told.
pub async fn kept_descriptors_last_as_long_as_the_container(bench: Bench<'_>) {
    let id = bench.create_with(FOREVER, |launch| launch.restart = RestartPolicy::Always).await;
    let (first, writer) = pipe();
    bench.runtime.keep(&id, "first", vec![Kept::new(writer)]).await.expect("keep");
    bench.runtime.start(&id).await.expect("start");
    let (second, writer) = pipe();
    bench.second.keep(&id, "second", vec![Kept::new(writer)]).await.expect("keep by another instance");
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    let runs_again =
        |state: &RuntimeState| state.restart_count == 1 && state.status == ContainerStatus::Running;
    bench.until(&id, runs_again).await;
    assert!(is_open(&first) && is_open(&second), "a run ended, and the container goes on");
    let (third, writer) = pipe();
    bench.runtime.keep(&id, "first", vec![Kept::new(writer)]).await.expect("keep in place of others");
    until_closed(&first).await;
    assert!(is_open(&second) && is_open(&third));
    bench.second.keep(&id, "second", Vec::new()).await.expect("let go");
    until_closed(&second).await;
    bench.runtime.keep(&id, "unknown", Vec::new()).await.expect("nothing to let go");
    assert!(is_open(&third));
    bench.runtime.stop(&id, SIGKILL).await.expect("stop");
    bench.wait(&id).await;
    assert!(!is_open(&third), "the container has ended");
    let (fourth, writer) = pipe();
    assert_kind(
        bench.runtime.keep(&id, "first", vec![Kept::new(writer)]).await,
        &[ErrorKind::Conflict],
        "keep after the end",
    );
    until_closed(&fourth).await;
    bench.runtime.keep(&id, "first", Vec::new()).await.expect("nothing to let go after the end");
}

/// Promise: hundreds of descriptors can be kept under a key, and a deletion lets go of them.
pub async fn many_descriptors_are_kept(bench: Bench<'_>) {
    let id = bench.create(FOREVER).await;
    let (reader, writer) = pipe();
    let copies = (0..600).map(|_| Kept::new(writer.try_clone().expect("duplicate"))).collect();
    drop(writer);
    bench.runtime.keep(&id, "ports", copies).await.expect("keep");
    bench.runtime.start(&id).await.expect("start");
    assert!(is_open(&reader));
    bench.runtime.delete(&id).await.expect("delete");
    assert!(!is_open(&reader), "the container is deleted");
    bench.harness.release(&id).await;
}

/// Promise: [`MAX_KEPT`] keys have descriptors, and no more.
pub async fn so_many_keys_are_kept(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let (reader, writer) = pipe();
    let copy = || vec![Kept::new(writer.try_clone().expect("duplicate"))];
    for number in 0..MAX_KEPT {
        bench.runtime.keep(&id, &format!("key {number}"), copy()).await.expect("keep");
    }
    let refused = bench.runtime.keep(&id, "one more", copy()).await;
    assert_kind(refused, &[ErrorKind::ResourceExhausted], "one key more");
    bench.runtime.keep(&id, "key 7", copy()).await.expect("replace");
    bench.runtime.keep(&id, "key 7", Vec::new()).await.expect("let go");
    bench.runtime.keep(&id, "one more", copy()).await.expect("keep in the place that is free");
    drop(writer);
    assert!(is_open(&reader));
}

/// Promise: nothing is kept for a container that is not there.
pub async fn only_what_is_there_keeps(bench: Bench<'_>) {
    let (reader, writer) = pipe();
    let id = ContainerId::random();
    let not_found = &[ErrorKind::NotFound];
    assert_kind(bench.runtime.keep(&id, "key", vec![Kept::new(writer)]).await, not_found, "keep");
    until_closed(&reader).await;
    assert_kind(bench.runtime.keep(&id, "key", Vec::new()).await, not_found, "let go");
}
