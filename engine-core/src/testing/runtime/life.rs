//! Promises about states, signals, waiting and deleting.

use super::*;
use crate::resources::Resources;
use crate::state::ContainerStatus;

/// Promise: the exit code of the process is the container's.
pub async fn exit_code_is_reported(bench: Bench<'_>) {
    for wanted in [0, 1, 42, 255] {
        let id = bench.start(&sh(&format!("exit {wanted}"))).await;
        let status = bench.runtime.wait(&id).await.expect("wait");
        assert_eq!((status.code, status.oom_killed), (wanted, false));
    }
}

/// Promise: a container is created, running, exited, and its times say when.
pub async fn states_follow_each_other(bench: Bench<'_>) {
    let id = bench.create_with(&["cat"], interactive).await;
    let state = bench.runtime.state(&id).await.expect("state");
    assert_eq!((state.status, state.exit), (ContainerStatus::Created, None));
    assert!(state.pid.is_some_and(|pid| pid > 1) && state.started_at.is_none(), "{state:?}");
    let streams = bench.runtime.attach(&id, AttachOptions::piped(true)).await.expect("attach");
    bench.runtime.start(&id).await.expect("start");
    let state = bench.runtime.state(&id).await.expect("state");
    assert_eq!((state.status, state.exit), (ContainerStatus::Running, None));
    assert!(state.pid.is_some() && state.started_at.is_some() && state.finished_at.is_none(), "{state:?}");
    drop(streams);
    assert_eq!(bench.wait(&id).await, 0);
    let state = bench.runtime.state(&id).await.expect("state");
    assert_eq!((state.status, state.exit.map(code), state.pid), (ContainerStatus::Exited, Some(0), None));
    assert!(state.started_at <= state.finished_at && state.started_at.is_some(), "{state:?}");
}

/// Promise: nothing runs before `start`.
pub async fn created_container_does_not_run(bench: Bench<'_>) {
    let id = bench.create(&["true"]).await;
    let waited = tokio::time::timeout(Duration::from_millis(300), bench.runtime.wait(&id)).await;
    assert!(waited.is_err(), "it ended without being started: {waited:?}");
    assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Created);
}

/// Promise: a command that is not there is told from other failures, and ends the container with code 127.
pub async fn missing_command_is_not_found(bench: Bench<'_>) {
    for command in ["no-such-command", "/no/such/command"] {
        let id = bench.create(&[command]).await;
        assert_kind(bench.runtime.start(&id).await, &[ErrorKind::CommandNotFound], "start");
        assert_eq!(bench.wait(&id).await, 127);
        assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Exited);
    }
}

/// Promise: a command that cannot be executed ends the container with code 126.
pub async fn directory_is_not_executable(bench: Bench<'_>) {
    let id = bench.create(&["/"]).await;
    assert_kind(bench.runtime.start(&id).await, &[ErrorKind::CommandNotExecutable], "start");
    assert_eq!(bench.wait(&id).await, 126);
}

/// Promise: without a command there is no container.
pub async fn empty_command_is_refused(bench: Bench<'_>) {
    let id = ContainerId::random();
    let launch = bench.harness.launch(&id, &[]).await;
    assert_kind(bench.runtime.create(&id, &launch).await, &[ErrorKind::InvalidArgument], "create");
    assert!(bench.runtime.list().await.expect("list").is_empty());
    bench.harness.release(&id).await;
}

/// Promise: a container is started once.
pub async fn start_happens_once(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    assert_kind(bench.runtime.start(&id).await, &[ErrorKind::Conflict], "start while it runs");
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    bench.wait(&id).await;
    assert_kind(bench.runtime.start(&id).await, &[ErrorKind::Conflict], "start after its end");
}

/// Promise: every method says that it does not know a container; `delete` has nothing to do.
pub async fn unknown_container_is_not_found(bench: Bench<'_>) {
    let (id, runtime, not_found) = (ContainerId::random(), bench.runtime, &[ErrorKind::NotFound]);
    assert_kind(runtime.start(&id).await, not_found, "start");
    assert_kind(runtime.state(&id).await, not_found, "state");
    assert_kind(runtime.signal(&id, SIGTERM).await, not_found, "signal");
    assert_kind(runtime.wait(&id).await, not_found, "wait");
    assert_kind(runtime.attach(&id, AttachOptions::piped(false)).await, not_found, "attach");
    assert_kind(runtime.logs(&id, &crate::logs::LogQuery::default()).await, not_found, "logs");
    assert_kind(runtime.stats(&id).await, not_found, "stats");
    assert_kind(runtime.update(&id, &Resources::default()).await, not_found, "update");
    let exec = crate::launch::ExecSpec::new(["true"]);
    assert_kind(runtime.exec(&id, &exec, AttachOptions::default()).await, not_found, "exec");
    if runtime.capabilities().pause {
        assert_kind(runtime.pause(&id).await, not_found, "pause");
        assert_kind(runtime.resume(&id).await, not_found, "resume");
    }
    runtime.delete(&id).await.expect("delete");
}

/// Promise: two containers of one id do not exist at once, and the failed attempt harms the first one not.
pub async fn id_belongs_to_one_container(bench: Bench<'_>) {
    let id = bench.create(&sh("exit 5")).await;
    let launch = bench.harness.launch(&id, &["true"]).await;
    assert_kind(bench.runtime.create(&id, &launch).await, &[ErrorKind::AlreadyExists], "create again");
    bench.runtime.start(&id).await.expect("start the first one");
    assert_eq!(bench.wait(&id).await, 5);
}

/// Promise: a container that has ended is created again under its id, and its log goes on.
pub async fn ended_container_is_created_again(bench: Bench<'_>) {
    let id = bench.start(&["echo", "first"]).await;
    bench.wait(&id).await;
    let launch = bench.harness.launch(&id, &sh("echo second; exit 3")).await;
    bench.runtime.create(&id, &launch).await.expect("create again");
    assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Created);
    bench.runtime.start(&id).await.expect("start again");
    assert_eq!(bench.wait(&id).await, 3);
    assert_eq!(log_text(bench.runtime, &id).await, "first\nsecond\n");
}

/// Promise: SIGKILL ends a container, with code 137.
pub async fn sigkill_ends_a_container(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    let status = bench.runtime.wait(&id).await.expect("wait");
    assert_eq!((status.code, status.oom_killed), (137, false));
}

/// Promise: SIGKILL ends a container that was not started.
pub async fn sigkill_ends_a_created_container(bench: Bench<'_>) {
    let id = bench.create(FOREVER).await;
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    assert_eq!(bench.wait(&id).await, 137);
    assert_kind(bench.runtime.start(&id).await, &[ErrorKind::Conflict], "start after that");
}

/// Promise: a signal reaches a process that handles it.
pub async fn signal_reaches_its_handler(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&sh(GRACEFUL), |_| {}, AttachOptions::piped(false)).await;
    read_until(streams.stdout.as_mut().expect("stdout"), "ready").await;
    bench.runtime.signal(&id, SIGTERM).await.expect("signal");
    assert_eq!(bench.wait(&id).await, 7);
}

/// Promise: a signal for a process that has ended is no error.
pub async fn signal_after_the_end_is_ok(bench: Bench<'_>) {
    let id = bench.start(&["true"]).await;
    bench.wait(&id).await;
    for signal in [SIGTERM, SIGKILL] {
        bench.runtime.signal(&id, signal).await.expect("signal");
    }
    assert_eq!(bench.wait(&id).await, 0);
}

/// Promise: what is no signal is refused.
pub async fn unknown_signal_is_refused(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    for signal in [-1, 0, 65, i32::MAX] {
        let sent = bench.runtime.signal(&id, signal).await;
        assert_kind(sent, &[ErrorKind::InvalidArgument], &format!("signal {signal}"));
    }
    assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Running);
}

/// Promise: all who wait are told, before and after the end.
pub async fn everybody_who_waits_is_told(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&sh(GRACEFUL), |_| {}, AttachOptions::piped(false)).await;
    read_until(streams.stdout.as_mut().expect("stdout"), "ready").await;
    let end = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.runtime.signal(&id, SIGTERM).await.expect("signal");
    };
    let (a, b, c, ()) =
        tokio::join!(bench.runtime.wait(&id), bench.runtime.wait(&id), bench.second.wait(&id), end);
    for waited in [a, b, c] {
        assert_eq!(waited.expect("wait").code, 7);
    }
    assert_eq!(bench.wait(&id).await, 7);
}

/// Promise: dropping the future of `wait` ends the waiting and nothing else.
pub async fn dropped_wait_harms_nothing(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    for _ in 0..3 {
        let waited = tokio::time::timeout(Duration::from_millis(30), bench.runtime.wait(&id)).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Running);
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    assert_eq!(bench.wait(&id).await, 137);
}

/// Promise: `delete` ends what runs, tells who waits, and leaves nothing.
pub async fn delete_ends_and_removes(bench: Bench<'_>) {
    let (created, running) = (bench.create(FOREVER).await, bench.start(FOREVER).await);
    let delete = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.runtime.delete(&running).await.expect("delete a running container");
    };
    let (waited, ()) = tokio::join!(bench.runtime.wait(&running), delete);
    assert_eq!(waited.expect("wait").code, 137);
    bench.runtime.delete(&created).await.expect("delete a created container");
    for id in [&created, &running] {
        assert_kind(bench.runtime.state(id).await, &[ErrorKind::NotFound], "state");
        bench.harness.release(id).await;
    }
    assert!(bench.runtime.list().await.expect("list").is_empty());
}

/// Promise: deleting what is gone is no error, also at the same time.
pub async fn delete_is_idempotent(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let (a, b) = tokio::join!(bench.runtime.delete(&id), bench.second.delete(&id));
    a.expect("delete");
    b.expect("delete at the same time");
    bench.runtime.delete(&id).await.expect("delete again");
    bench.harness.release(&id).await;
}

/// Promise: all containers are listed until they are deleted.
pub async fn list_has_what_is_not_deleted(bench: Bench<'_>) {
    let ended = bench.start(&["true"]).await;
    bench.wait(&ended).await;
    let mut ids = vec![bench.create(FOREVER).await, bench.start(FOREVER).await, ended];
    ids.sort();
    let sorted = async || {
        let mut listed = bench.runtime.list().await.expect("list");
        listed.sort();
        listed
    };
    assert_eq!(sorted().await, ids);
    let gone = ids.remove(1);
    bench.runtime.delete(&gone).await.expect("delete");
    bench.harness.release(&gone).await;
    assert_eq!(sorted().await, ids);
}

/// Promise: different containers do not wait for each other.
pub async fn containers_run_at_once(bench: Bench<'_>) {
    let one = async |n: u8| {
        let id = bench.start(&sh(&format!("exit {n}"))).await;
        assert_eq!(bench.wait(&id).await, n);
        bench.runtime.delete(&id).await.expect("delete");
        bench.harness.release(&id).await;
    };
    futures_util::future::join_all((1..=8).map(one)).await;
}

/// Promise: another instance over the same state sees, signals, waits for and deletes the container.
pub async fn other_instances_see_containers(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&sh(GRACEFUL), |_| {}, AttachOptions::piped(false)).await;
    read_until(streams.stdout.as_mut().expect("stdout"), "ready").await;
    assert_eq!(bench.second.list().await.expect("list"), std::slice::from_ref(&id));
    assert_eq!(bench.second.state(&id).await.expect("state").status, ContainerStatus::Running);
    bench.second.signal(&id, SIGTERM).await.expect("signal");
    assert_eq!(bench.second.wait(&id).await.expect("wait").code, 7);
    assert_eq!(log_text(bench.second, &id).await, "ready\n");
    bench.second.delete(&id).await.expect("delete");
    assert_kind(bench.runtime.state(&id).await, &[ErrorKind::NotFound], "state after that");
    bench.harness.release(&id).await;
}

/// Promise: a paused container does nothing, a resumed one goes on; both may be asked twice. It can be deleted.
pub async fn pause_stops_and_resume_goes_on(bench: Bench<'_>) {
    if !bench.runtime.capabilities().pause {
        return;
    }
    let (id, mut streams) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    write_all(&mut streams, b"one\n").await;
    read_until(streams.stdout.as_mut().expect("stdout"), "one\n").await;
    for _ in 0..2 {
        bench.runtime.pause(&id).await.expect("pause");
        assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Paused);
    }
    write_all(&mut streams, b"two\n").await;
    let mut buffer = [0; 8];
    let stdout = streams.stdout.as_mut().expect("stdout");
    let read = tokio::time::timeout(Duration::from_millis(300), stdout.read(&mut buffer)).await;
    assert!(read.is_err(), "a paused process wrote something");
    for _ in 0..2 {
        bench.runtime.resume(&id).await.expect("resume");
        assert_eq!(bench.runtime.state(&id).await.expect("state").status, ContainerStatus::Running);
    }
    read_until(streams.stdout.as_mut().expect("stdout"), "two\n").await;
    bench.runtime.pause(&id).await.expect("pause");
    bench.runtime.delete(&id).await.expect("delete a paused container");
    assert_kind(bench.runtime.state(&id).await, &[ErrorKind::NotFound], "state");
    bench.harness.release(&id).await;
}

/// Promise: only what runs is paused.
pub async fn pause_needs_a_running_container(bench: Bench<'_>) {
    if !bench.runtime.capabilities().pause {
        return;
    }
    let created = bench.create(FOREVER).await;
    assert_kind(bench.runtime.pause(&created).await, &[ErrorKind::Conflict], "pause before the start");
    let id = bench.start(&["true"]).await;
    bench.wait(&id).await;
    assert_kind(bench.runtime.pause(&id).await, &[ErrorKind::Conflict], "pause after the end");
    assert_kind(bench.runtime.resume(&id).await, &[ErrorKind::Conflict], "resume after the end");
}

/// Promise: limits that were set are reported, on a container that runs, and nothing is used after its end.
pub async fn limits_are_kept(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    assert!(bench.runtime.stats(&id).await.expect("stats").pids >= 1);
    if bench.runtime.capabilities().limits {
        let resources = Resources { memory: Some(64 << 20), pids_limit: Some(50), ..Resources::default() };
        bench.runtime.update(&id, &resources).await.expect("update");
        let stats = bench.runtime.stats(&id).await.expect("stats");
        assert_eq!((stats.memory_limit, stats.pids_limit), (Some(64 << 20), Some(50)));
        let resources = Resources { memory: Some(96 << 20), ..Resources::default() };
        bench.runtime.update(&id, &resources).await.expect("update one limit");
        let stats = bench.runtime.stats(&id).await.expect("stats");
        assert_eq!((stats.memory_limit, stats.pids_limit), (Some(96 << 20), Some(50)), "the other is kept");
    }
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    bench.wait(&id).await;
    assert_eq!(bench.runtime.stats(&id).await.expect("stats after the end").pids, 0);
}

/// Promise: the processes of a container are listed, its own first, and none after its end.
pub async fn processes_are_listed(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let own = bench.runtime.state(&id).await.expect("state").pid;
    let list = bench.runtime.processes(&id).await.expect("list processes");
    assert_eq!(list.first().map(|process| process.pid), own);
    assert_eq!(list.first().map(|process| process.args.is_empty()), Some(false));
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    bench.wait(&id).await;
    assert_eq!(bench.runtime.processes(&id).await.expect("list after the end"), []);
    let nobody = ContainerId::random();
    assert_kind(bench.runtime.processes(&nobody).await, &[ErrorKind::NotFound], "processes of nobody");
}
