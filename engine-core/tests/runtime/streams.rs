//! Standard input, terminals, logs, lifetimes, init mode.

use std::time::Duration;

use engine_core::io::{AttachOptions, Stdio, TerminalSize};
use engine_core::launch::{Lifetime, LogOptions};
use engine_core::logs::LogQuery;
use engine_core::{ContainerId, ContainerStatus, ExecSpec, Runtime as _};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Bench, PATIENCE, scoped};

async fn log(bench: &Bench, id: &ContainerId, query: &LogQuery) -> String {
    let mut stream = bench.runtime.logs(id, query).await.unwrap();
    let mut text = String::new();
    while let Some(entry) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&entry.unwrap().message));
    }
    text
}

#[tokio::test]
async fn input_reaches_the_container_and_ends() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["sh", "-c", "wc -c; echo done"]);
    (spec.open_stdin, spec.stdin_once) = (true, true);
    bench.runtime.create(&id, &spec).await.unwrap();
    let mut streams = bench.runtime.attach(&id, AttachOptions::piped(true)).await.unwrap();
    bench.runtime.start(&id).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let big = vec![b'x'; 300_000];
    stdin.write_all(&big).await.unwrap();
    drop(stdin);
    let mut out = String::new();
    let read = streams.stdout.take().unwrap().read_to_string(&mut out).await;
    read.unwrap();
    assert_eq!(out, "300000\ndone\n");
    assert!(bench.runtime.wait(&id).await.unwrap().success());
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_one_with_its_size() {
    let bench = Bench::new().await;
    let outcome = {
        let id = ContainerId::random();
        let mut spec =
            bench.spec(&id, &["sh", "-c", "tty; stty size; test -t 1 && echo yes; ls -l /dev/console"]);
        spec.terminal = Some(TerminalSize { columns: 91, rows: 17 });
        bench.run_spec(&id, &spec).await.unwrap()
    };
    assert!(outcome.out.starts_with("/dev/pts/0\r\n17 91\r\nyes\r\ncrw"), "{outcome:?}");
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let spec = ExecSpec::new(["sh", "-c", "tty; read x; stty size; echo got $x"])
        .with_terminal(TerminalSize { columns: 50, rows: 10 });
    let mut process = bench.runtime.exec(&id, &spec, AttachOptions::piped(true)).await.unwrap();
    bench.runtime.exec_resize(&id, &process.id, TerminalSize { columns: 60, rows: 11 }).await.unwrap();
    process.streams.stdin.as_mut().unwrap().write_all(b"hi\n").await.unwrap();
    let mut out = String::new();
    process.streams.stdout.as_mut().unwrap().read_to_string(&mut out).await.unwrap();
    assert!(out.contains("11 60") && out.contains("got hi") && out.contains("/dev/pts/"), "{out}");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn logs_are_kept_rotated_and_followed() {
    let bench = Bench::new().await;
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done; printf 'a%.0s' $(seq 20000); echo; printf last";
    let id = bench.start(&["sh", "-c", script], |_| ()).await;
    let followed = tokio::time::timeout(PATIENCE, log(&bench, &id, &LogQuery::follow())).await.unwrap();
    bench.runtime.wait(&id).await.unwrap();
    let whole = log(&bench, &id, &LogQuery::default()).await;
    assert_eq!(whole, followed);
    assert!(whole.starts_with("line 0\nline 1\n") && whole.ends_with("aa\nlast"), "{}", whole.len());
    assert_eq!(log(&bench, &id, &LogQuery::default().with_tail(1)).await, "last");
    bench.runtime.delete(&id).await.unwrap();

    let small = |spec: &mut engine_core::LaunchSpec| (spec.log.max_size, spec.log.max_file) = (4096, 3);
    let id = bench
        .start(&["sh", "-c", "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done"], small)
        .await;
    bench.runtime.wait(&id).await.unwrap();
    let kept = log(&bench, &id, &LogQuery::default()).await;
    assert!(kept.ends_with("line 999\n") && !kept.contains("line 0\n"), "{kept}");
    let dir = bench.dir.path().join("root/containers").join(id.as_str());
    let sizes: Vec<u64> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().contains("json.log"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|size| *size <= 4096), "{sizes:?}");
    bench.runtime.delete(&id).await.unwrap();

    let quiet = |spec: &mut engine_core::LaunchSpec| spec.log = LogOptions::none();
    let id = bench.start(&["echo", "x"], quiet).await;
    bench.runtime.wait(&id).await.unwrap();
    assert!(bench.runtime.logs(&id, &LogQuery::default()).await.is_err());
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_stalls_nobody_else() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let spec = bench.spec(&id, &["sh", "-c", "yes | head -c 2000000; echo end >&2"]);
    bench.runtime.create(&id, &spec).await.unwrap();
    let mut lazy = AttachOptions::piped(false);
    lazy.blocking = false;
    let _never_read = bench.runtime.attach(&id, lazy).await.unwrap();
    let mut eager = bench.runtime.attach(&id, AttachOptions::piped(false)).await.unwrap();
    bench.runtime.start(&id).await.unwrap();
    let mut out = Vec::new();
    tokio::time::timeout(PATIENCE, eager.stdout.as_mut().unwrap().read_to_end(&mut out))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(out.len(), 2_000_000);
    assert!(bench.runtime.wait(&id).await.unwrap().success());
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_blocking_reader_misses_nothing_however_slow() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let spec = bench.spec(&id, &["sh", "-c", "yes | head -c 500000"]);
    bench.runtime.create(&id, &spec).await.unwrap();
    let mut streams = bench.runtime.attach(&id, AttachOptions::piped(false)).await.unwrap();
    bench.runtime.start(&id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut out = Vec::new();
    streams.stdout.as_mut().unwrap().read_to_end(&mut out).await.unwrap();
    assert_eq!(out.len(), 500_000);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn another_instance_sees_the_same_containers() {
    let bench = Bench::new().await;
    let id = bench.start(&["sh", "-c", "echo before; sleep 0.3; exit 9"], |_| ()).await;
    let other = bench.reopen().await;
    assert_eq!(other.list().await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(other.state(&id).await.unwrap().status, ContainerStatus::Running);
    let exec = other.exec(&id, &ExecSpec::new(["true"]), AttachOptions::default()).await.unwrap();
    assert!(other.exec_wait(&id, &exec.id).await.unwrap().success());
    assert_eq!(other.wait(&id).await.unwrap().code, 9);
    assert_eq!(bench.runtime.state(&id).await.unwrap().exit.unwrap().code, 9);
    other.delete(&id).await.unwrap();
    other.delete(&id).await.unwrap();
    assert!(other.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_scoped_container_ends_with_its_program_and_a_detached_one_does_not() {
    let bench = Bench::new().await;
    let detached = bench.start(&["sleep", "1000"], |spec| spec.lifetime = Lifetime::Detached).await;
    let other = bench.reopen().await;
    let ended = bench.start(&["sleep", "1000"], scoped).await;
    // The end of the program, as the kernel shows it to the shim: its descriptors are closed.
    let Bench { runtime, dir, .. } = bench;
    drop(runtime);
    let status = tokio::time::timeout(PATIENCE, other.wait(&ended)).await.unwrap().unwrap();
    assert_eq!(status.code, 137);
    assert_eq!(other.state(&detached).await.unwrap().status, ContainerStatus::Running);
    other.delete(&ended).await.unwrap();
    other.delete(&detached).await.unwrap();
    drop(dir);
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(format!("/proc/{shim}/comm")).unwrap(), "engine-shim\n");
    assert!(std::process::Command::new("kill").args(["-9", &shim]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, bench.runtime.wait(&id)).await.unwrap().unwrap();
    assert_eq!(status.code, 255);
    assert_eq!(bench.runtime.state(&id).await.unwrap().status, ContainerStatus::Exited);
    bench.runtime.delete(&id).await.unwrap();
    let alive = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(alive.is_err() || alive.unwrap().contains(") Z "));
}

#[tokio::test]
async fn init_mode_reaps_and_forwards() {
    let bench = Bench::new().await;
    let init = |spec: &mut engine_core::LaunchSpec| spec.init = true;
    let outcome = bench.run_with(&["sh", "-c", "echo $$; (sleep 0.1 &) ; exit 5"], init).await;
    assert_eq!((outcome.status.code, outcome.out.as_str()), (5, "2\n"), "{outcome:?}");
    let id = bench.start(&["sh", "-c", "trap 'exit 44' TERM; while :; do sleep 0.05; done"], init).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    bench.runtime.signal(&id, 15).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, bench.runtime.wait(&id)).await.unwrap().unwrap().code, 44);
    bench.runtime.delete(&id).await.unwrap();
    // The reaper shows nothing of the host's.
    let outcome = bench.run_with(&["sh", "-c", "ls -l /proc/1/fd | wc -l"], init).await;
    assert!(outcome.status.success(), "{outcome:?}");
}

#[tokio::test]
async fn pausing_stops_and_killing_a_paused_container_works() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    bench.runtime.pause(&id).await.unwrap();
    assert_eq!(bench.runtime.state(&id).await.unwrap().status, ContainerStatus::Paused);
    let refused = bench.runtime.exec(&id, &ExecSpec::new(["true"]), AttachOptions::default()).await;
    assert!(refused.unwrap_err().to_string().contains("paused"));
    bench.runtime.resume(&id).await.unwrap();
    assert_eq!(bench.runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
    assert!(bench.runtime.stats(&id).await.unwrap().pids >= 1);
    bench.runtime.pause(&id).await.unwrap();
    tokio::time::timeout(PATIENCE, bench.runtime.delete(&id)).await.unwrap().unwrap();
}

#[tokio::test]
async fn own_descriptors_are_used_and_left_as_they_were() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    bench.runtime.create(&id, &bench.spec(&id, &["echo", "to a file"])).await.unwrap();
    let path = bench.dir.path().join("out");
    let file = std::fs::File::create(&path).unwrap();
    let mut options = AttachOptions::default();
    options.stdout = Stdio::Fd(file.into());
    options.blocking = true;
    bench.runtime.attach(&id, options).await.unwrap();
    bench.runtime.start(&id).await.unwrap();
    bench.runtime.wait(&id).await.unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "to a file\n");
    bench.runtime.delete(&id).await.unwrap();
}
