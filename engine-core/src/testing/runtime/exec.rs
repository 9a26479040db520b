//! Promises about processes started in running containers.

use super::*;
use crate::id::ExecId;
use crate::launch::ExecSpec;
use crate::runtime::ExecProcess;

impl Bench<'_> {
    async fn exec(&self, id: &ContainerId, spec: &ExecSpec, io: AttachOptions) -> ExecProcess {
        self.runtime.exec(id, spec, io).await.expect("exec")
    }
}

/// Promise: a process runs beside the container's, and its exit code is its own.
pub async fn exec_runs_beside(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    for wanted in [0, 3] {
        let spec = ExecSpec::new(sh(&format!("exit {wanted}")));
        let exec = bench.exec(&id, &spec, AttachOptions::default()).await;
        for _ in 0..2 {
            assert_eq!(bench.runtime.exec_wait(&id, &exec.id).await.expect("wait").code, wanted);
        }
    }
    assert_eq!(bench.runtime.state(&id).await.expect("state").exit, None);
}

/// Promise: its streams are the caller's, apart from the container's.
pub async fn exec_streams_are_its_own(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let spec = ExecSpec::new(sh("echo out; echo err >&2; cat"));
    let mut exec = bench.exec(&id, &spec, AttachOptions::piped(true)).await;
    let sent = much();
    let write = async {
        let mut stdin = exec.streams.stdin.take().expect("stdin");
        stdin.write_all(&sent).await.expect("write");
        stdin.shutdown().await.expect("end of input");
    };
    let ((), out, err) = tokio::join!(write, read_all(exec.streams.stdout), read_text(exec.streams.stderr));
    assert!(out.strip_prefix(b"out\n") == Some(&sent), "{} of {} bytes", out.len(), sent.len() + 4);
    assert_eq!(err, "err\n");
    assert_eq!(bench.runtime.exec_wait(&id, &exec.id).await.expect("wait").code, 0);
    assert_eq!(log_text(bench.runtime, &id).await, "", "an exec does not write to the container's log");
}

/// Promise: environment variables replace or join the container's.
pub async fn exec_has_its_environment(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let spec = ExecSpec::new(sh("echo $CONFORMANCE")).with_env(["CONFORMANCE=yes"]);
    let exec = bench.exec(&id, &spec, AttachOptions::piped(false)).await;
    assert_eq!(read_text(exec.streams.stdout).await, "yes\n");
}

/// Promise: a command that is not there, or no command, fails the call and harms nothing.
pub async fn exec_of_missing_command_is_not_found(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    for (command, kind) in
        [("no-such-command", ErrorKind::CommandNotFound), ("/", ErrorKind::CommandNotExecutable)]
    {
        let exec = bench.runtime.exec(&id, &ExecSpec::new([command]), AttachOptions::default()).await;
        assert_kind(exec, &[kind], command);
    }
    let exec = bench.exec(&id, &ExecSpec::new(["true"]), AttachOptions::default()).await;
    assert_eq!(bench.runtime.exec_wait(&id, &exec.id).await.expect("wait").code, 0);
}

/// Promise: only a running container takes more processes.
pub async fn exec_needs_a_running_container(bench: Bench<'_>) {
    let (created, ended) = (bench.create(FOREVER).await, bench.start(&["true"]).await);
    bench.wait(&ended).await;
    for id in [&created, &ended] {
        let exec = bench.runtime.exec(id, &ExecSpec::new(["true"]), AttachOptions::default()).await;
        assert_kind(exec, &[ErrorKind::Conflict], "exec");
    }
    if bench.runtime.capabilities().pause {
        let paused = bench.start(FOREVER).await;
        bench.runtime.pause(&paused).await.expect("pause");
        let exec = bench.runtime.exec(&paused, &ExecSpec::new(["true"]), AttachOptions::default()).await;
        assert_kind(exec, &[ErrorKind::Conflict], "exec in a paused container");
    }
}

/// Promise: a signal reaches the process and no other; afterwards it is no error.
pub async fn exec_is_signalled(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let exec = bench.exec(&id, &ExecSpec::new(FOREVER.iter().copied()), AttachOptions::default()).await;
    bench.runtime.exec_signal(&id, &exec.id, SIGTERM).await.expect("signal");
    assert_eq!(bench.runtime.exec_wait(&id, &exec.id).await.expect("wait").code, 128 + 15);
    bench.runtime.exec_signal(&id, &exec.id, SIGKILL).await.expect("signal after the end");
    assert_eq!(bench.runtime.state(&id).await.expect("state").exit, None);
}

/// Promise: when the container ends, so do its processes, and who waits for them is told.
pub async fn exec_ends_with_the_container(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let exec = bench.exec(&id, &ExecSpec::new(FOREVER.iter().copied()), AttachOptions::piped(false)).await;
    let kill = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    };
    let (waited, out, ()) =
        tokio::join!(bench.runtime.exec_wait(&id, &exec.id), read_all(exec.streams.stdout), kill);
    assert_eq!(waited.expect("wait").code, 137);
    assert!(out.is_empty());
}

/// Promise: a process that was never started is not found.
pub async fn unknown_exec_is_not_found(bench: Bench<'_>) {
    let (id, exec, not_found) = (bench.start(FOREVER).await, ExecId::random(), &[ErrorKind::NotFound]);
    assert_kind(bench.runtime.exec_wait(&id, &exec).await, not_found, "wait");
    assert_kind(bench.runtime.exec_signal(&id, &exec, SIGTERM).await, not_found, "signal");
    let size = crate::io::TerminalSize { columns: 80, rows: 24 };
    assert_kind(bench.runtime.exec_resize(&id, &exec, size).await, not_found, "resize");
}

/// Promise: a process has the id its caller chose, and no second one gets it.
pub async fn exec_has_the_chosen_id(bench: Bench<'_>) {
    let (id, chosen) = (bench.start(FOREVER).await, ExecId::random());
    let spec = ExecSpec::new(["true"]).with_id(chosen.clone());
    let exec = bench.exec(&id, &spec, AttachOptions::default()).await;
    assert_eq!(exec.id, chosen);
    assert_eq!(bench.runtime.exec_wait(&id, &chosen).await.expect("wait").code, 0);
    let again = bench.runtime.exec(&id, &spec, AttachOptions::default()).await;
    assert_kind(again, &[ErrorKind::AlreadyExists], "exec of the same id");
}

/// Promise: processes of one container run at the same time.
pub async fn execs_run_at_once(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let one = async |n: u8| {
        let spec = ExecSpec::new(sh(&format!("echo {n}; exit {n}")));
        let exec = bench.exec(&id, &spec, AttachOptions::piped(false)).await;
        assert_eq!(read_text(exec.streams.stdout).await, format!("{n}\n"));
        assert_eq!(bench.runtime.exec_wait(&id, &exec.id).await.expect("wait").code, n);
    };
    futures_util::future::join_all((1..=6).map(one)).await;
}
