//! Created, started, waited for, asked, deleted.

use std::time::Instant;

use engine_core::{ContainerId, ErrorKind, Runtime as _};

use crate::support::Bench;

#[tokio::test]
async fn true_ends_with_zero() {
    let bench = Bench::new().await;
    assert_eq!(bench.run(&["true"]).await.status.code, 0);
    assert_eq!(bench.run(&["sh", "-c", "exit 7"]).await.status.code, 7);
}

#[tokio::test]
async fn output_arrives_whole() {
    let bench = Bench::new().await;
    let outcome = bench.run(&["sh", "-c", "echo out; echo err >&2; hostname; id -u; echo $$"]).await;
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\nbox\n0\n1\n", "err\n"));
}

#[tokio::test]
async fn a_missing_command_is_not_found_and_exits_127() {
    let bench = Bench::new().await;
    for (command, kind, code) in [
        ("nonesuch", ErrorKind::CommandNotFound, 127),
        ("/nonesuch", ErrorKind::CommandNotFound, 127),
        ("/etc", ErrorKind::CommandNotExecutable, 126),
        ("/etc/passwd", ErrorKind::CommandNotExecutable, 126),
    ] {
        let id = ContainerId::random();
        let spec = bench.spec(&id, &[command]);
        bench.runtime.create(&id, &spec).await.unwrap();
        let error = bench.runtime.start(&id).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(command), "{error}");
        assert_eq!(bench.runtime.wait(&id).await.unwrap().code, code);
        bench.runtime.delete(&id).await.unwrap();
    }
}

/// What joins the container's mount namespace starts in the topmost mount on "/": nothing may lie over the root.
#[tokio::test]
async fn a1_nothing_of_the_host_is_left_in_the_mount_namespace() {
    let bench = Bench::new().await;
    std::fs::write(bench.layer().join("only-in-the-container"), "").unwrap();
    let mut ids = Vec::new();
    let with_files = |spec: &mut engine_core::LaunchSpec| {
        let (path, content) = ("/etc/hosts".into(), b"127.0.0.1 localhost\n".to_vec());
        spec.files = vec![engine_core::launch::InjectedFile { path, content, mode: 0o644 }];
    };
    ids.push(bench.start(&["sleep", "100"], |_| ()).await);
    ids.push(bench.start(&["sleep", "100"], with_files).await);
    for id in ids {
        let inside = bench.exec(&id, &["cat", "/proc/1/mountinfo"]).await.out;
        let roots = inside.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
        assert_eq!(roots, 1, "{inside}");
        let outcome = bench.exec(&id, &["ls", "/only-in-the-container"]).await;
        assert_eq!(outcome.status.code, 0, "{}", outcome.err);
        bench.runtime.delete(&id).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "prints figures"]
async fn figures() {
    let bench = Bench::new().await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let id = ContainerId::random();
        let mut spec = bench.spec(&id, &["true"]);
        crate::support::scoped(&mut spec);
        let begin = Instant::now();
        bench.runtime.create(&id, &spec).await.unwrap();
        let created = begin.elapsed();
        bench.runtime.start(&id).await.unwrap();
        let started = begin.elapsed();
        bench.runtime.wait(&id).await.unwrap();
        let ended = begin.elapsed();
        bench.runtime.delete(&id).await.unwrap();
        times.push([created, started, ended, begin.elapsed()]);
    }
    for stage in 0..4 {
        let mut all: Vec<_> = times.iter().map(|time| time[stage].as_micros()).collect();
        all.sort_unstable();
        println!(
            "{}: min {} median {} µs",
            ["created", "started", "ended", "deleted"][stage],
            all[0],
            all[all.len() / 2]
        );
    }
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    let memory = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
    println!("shim: {:?}", memory.lines().filter(|line| line.starts_with("Private")).collect::<Vec<_>>());
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        let process = bench
            .runtime
            .exec(&id, &engine_core::ExecSpec::new(["true"]), engine_core::io::AttachOptions::default())
            .await
            .unwrap();
        bench.runtime.exec_wait(&id, &process.id).await.unwrap();
        times.push(begin.elapsed().as_micros());
    }
    times.sort_unstable();
    println!("exec: min {} median {} µs", times[0], times[times.len() / 2]);
    bench.runtime.delete(&id).await.unwrap();
}
