//! Attach, exec, logs, stats, wait and archives, by the real command line and as bytes on a socket.

use std::time::Duration;

use engine_core::ContainerSpec;
use engine_core::container_spec::Terminal;
use engine_testkit::require;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Host, PATIENCE};

const SLEEP: [&str; 2] = ["sleep", "1000"];

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_its_streams_its_code_and_its_reasons() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.start("box", ContainerSpec::command(SLEEP)).await;
    let said = host.docker(&["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    let echoed = host.docker_with(&["exec", "-i", "box", "cat"], b"one\ntwo\n").await;
    assert_eq!(echoed.ok(), "one\ntwo\n");
    let environment =
        ["exec", "-e", "A=b", "-w", "/tmp", "-u", "5:6", "box", "sh", "-c", "echo $A $PWD $(id -u):$(id -g)"];
    assert_eq!(host.docker(&environment).await.ok(), "b /tmp 5:6\n");
    let missing = host.docker(&["exec", "box", "no-such-command"]).await;
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!((missing.out.clone() + &missing.err).contains("no-such-command"), "{missing:?}");
    assert_eq!(host.docker(&["exec", "box", "/etc"]).await.code, 126);
    assert_eq!(host.docker(&["exec", "-d", "box", "sh", "-c", "echo there > /tmp/detached"]).await.ok(), "");
    let there = "until grep there /tmp/detached 2>/dev/null; do sleep 0.01; done";
    assert_eq!(host.docker(&["exec", "box", "sh", "-c", there]).await.ok(), "there\n");
    let absent = host.docker(&["exec", "nobody", "true"]).await;
    assert!(absent.code == 1 && absent.err.contains("No such container: nobody"), "{absent:?}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_input_and_output_pass_at_once() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.start("box", ContainerSpec::command(SLEEP)).await;
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut command = host.docker_command(&["exec", "-i", "box", "cat"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sent = input.clone();
    let writing = tokio::spawn(async move { stdin.write_all(&sent).await.unwrap() });
    let mut output = Vec::new();
    tokio::time::timeout(PATIENCE, stdout.read_to_end(&mut output)).await.expect("it ends").unwrap();
    writing.await.unwrap();
    assert!(output == input, "{} of {} bytes", output.len(), input.len());
    assert!(child.wait().await.unwrap().success());
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_attached_before_the_start_misses_nothing() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let container = host
        .create("early", ContainerSpec::command(["sh", "-c", "echo first; echo second >&2; exit 3"]))
        .await;
    // Nothing tells when a client waits, but that its connection was taken over.
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut stream = host.connect().await;
        let request = "POST /containers/early/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("multiplexed-stream"), "{head}");
        clients.push(stream);
    }
    let waiting = host.ask("POST", "/containers/early/wait?condition=next-exit");
    let started = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        host.ask("POST", "/containers/early/start").await
    };
    let (waited, started) = tokio::join!(waiting, started);
    assert_eq!((started.0, waited.0), (204, 200));
    assert_eq!(waited.1.trim(), r#"{"StatusCode":3}"#);
    for mut client in clients {
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("it ends").unwrap();
        let frames = frames(&bytes);
        let of = |wanted| -> Vec<u8> {
            frames
                .iter()
                .filter(|(stream, _)| *stream == wanted)
                .flat_map(|(_, bytes)| bytes.clone())
                .collect()
        };
        assert_eq!((of(1), of(2)), (b"first\n".to_vec(), b"second\n".to_vec()));
    }
    assert_eq!(container.wait().await.unwrap().code, 3);
    drop(container);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_taken_over_without_being_asked_for() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let mut spec = ContainerSpec::command(["cat"]);
    (spec.open_stdin, spec.stdin_once) = (true, true);
    host.start("cat", spec).await;
    let mut stream = host.connect().await;
    let request = "POST /v1.41/containers/cat/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("raw-stream"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    stream.write_all(b"hello\n").await.unwrap();
    // The client's half of the connection ends, and the other goes on.
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends").unwrap();
    assert_eq!(frames(&bytes), [(1, b"hello\n".to_vec())]);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_leave_a_terminal_and_what_runs_in_it() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let mut spec = ContainerSpec::command(["cat"]);
    (spec.open_stdin, spec.terminal) = (true, Some(Terminal { columns: 80, rows: 24 }));
    let container = host.start("tty", spec).await;
    let mut stream = host.connect().await;
    let request = "POST /containers/tty/attach?stream=1&stdin=1&stdout=1&detachKeys=x,y HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.contains("raw-stream"));
    stream.write_all(b"ab\n").await.unwrap();
    let mut echo = [0; 4];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("it echoes").unwrap();
    assert_eq!(&echo, b"ab\r\n");
    stream.write_all(b"xy").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is left").unwrap();
    assert!(container.inspect().await.unwrap().state.status.is_running());
    drop(container);
    assert_eq!(host.ask("POST", "/containers/tty/resize?h=40&w=100").await.0, 200);
    assert_eq!(host.docker(&["exec", "tty", "stty", "-F", "/dev/console", "size"]).await.out, "40 100\n");
    assert_eq!(host.ask("POST", "/containers/tty/resize?h=40").await.0, 400);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_shown_followed_and_cut() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let lines = "for i in 1 2 3; do echo line $i; done; echo problem >&2";
    host.start("talk", ContainerSpec::command(["sh", "-c", lines])).await.wait().await.unwrap();
    let said = host.docker(&["logs", "talk"]).await;
    assert_eq!((said.out.as_str(), said.err.as_str()), ("line 1\nline 2\nline 3\n", "problem\n"));
    assert_eq!(host.docker(&["logs", "--tail", "2", "talk"]).await.out, "line 3\n");
    let stamped = host.docker(&["logs", "-t", "talk"]).await.ok();
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains("Z line ")), "{stamped}");
    assert_eq!(host.docker(&["logs", "--since", "1h", "-f", "talk"]).await.out.lines().count(), 3);
    assert_eq!(host.docker(&["logs", "--until", "2001-01-01T00:00:00Z", "talk"]).await.ok(), "");
    let (status, body) = host.ask("GET", "/containers/talk/logs").await;
    assert!(status == 400 && body.contains("you must choose at least one stream"), "{status} {body}");
    assert_eq!(host.ask("GET", "/containers/talk/logs?stdout=1&since=soon").await.0, 400);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_out() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let container = host.start("files", ContainerSpec::command(SLEEP)).await;
    std::fs::create_dir(host.path("tree")).unwrap();
    std::fs::write(host.path("tree/file"), "content").unwrap();
    let from = host.path("tree").display().to_string();
    host.docker(&["cp", &from, "files:/tmp"]).await.ok();
    assert_eq!(host.docker(&["exec", "files", "cat", "/tmp/tree/file"]).await.ok(), "content");
    let to = host.path("back").display().to_string();
    host.docker(&["cp", "files:/tmp/tree", &to]).await.ok();
    assert_eq!(std::fs::read_to_string(host.path("back/file")).unwrap(), "content");
    let absent = host.docker(&["cp", "files:/nowhere", &to]).await;
    assert!(absent.code == 1 && absent.err.contains("Could not find the file /nowhere"), "{absent:?}");
    let archive = host.path("root.tar").display().to_string();
    host.docker(&["export", "-o", &archive, "files"]).await.ok();
    let listed = std::process::Command::new("tar").args(["-tf", &archive]).output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.lines().any(|line| line.ends_with("tmp/tree/file")), "{listed}");
    assert_eq!(host.ask("HEAD", "/containers/files/archive").await.0, 400);
    assert_eq!(host.ask("GET", "/containers/nobody/archive?path=/").await.0, 404);
    container.stop(Some(Duration::ZERO)).await.unwrap();
    drop(container);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_sampled() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.start("busy", ContainerSpec::command(["sh", "-c", "while :; do :; done"])).await;
    let format = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}";
    let said = host.docker(&["stats", "--no-stream", "--format", format, "busy"]).await.ok();
    let fields: Vec<_> = said.split_whitespace().collect();
    assert_eq!((fields[0], fields.last()), ("busy", Some(&"1")), "{said}");
    let percent: f64 = fields[1].trim_end_matches('%').parse().unwrap();
    assert!(percent > 1.0 && percent < 200.0, "{said}");
    let (status, body) = host.ask("GET", "/containers/busy/stats?stream=0&one-shot=1").await;
    let sample: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &sample["name"]), (200, &"/busy".into()));
    assert!(sample["cpu_stats"]["cpu_usage"]["total_usage"].as_u64() > Some(0), "{body}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_end_for_what_they_wait() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let mut spec = ContainerSpec::command(["sh", "-c", "sleep 0.3; exit 4"]);
    spec.auto_remove = true;
    host.start("brief", spec).await;
    // The server removes it, since nobody else does.
    assert_eq!(
        host.ask("POST", "/containers/brief/wait?condition=removed").await.1.trim(),
        r#"{"StatusCode":4}"#
    );
    assert_eq!(host.ask("POST", "/containers/brief/wait").await.0, 404);
    let never = host.create("never", ContainerSpec::command(SLEEP)).await;
    assert_eq!(host.ask("POST", "/containers/never/wait").await.1.trim(), r#"{"StatusCode":0}"#);
    assert_eq!(host.ask("POST", "/containers/never/wait?condition=tired").await.0, 400);
    drop(never);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e7_clients_that_are_gone_are_let_go() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let mut spec = ContainerSpec::command(["cat"]);
    spec.open_stdin = true;
    host.start("silent", spec).await;
    drop(host.create("later", ContainerSpec::command(SLEEP)).await);
    // Connections that are open have the name of the server's socket at that end (unix(7)).
    let name = host.server.socket().parent().unwrap().display().to_string();
    let open = || std::fs::read_to_string("/proc/net/unix").unwrap().matches(&name).count();
    let before = open();
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut stream = host.connect().await;
        let asked = match number % 5 {
            0 => "POST /containers/silent/attach?stream=1&stdout=1",
            1 => "POST /containers/later/attach?stream=1&stdout=1",
            2 => "POST /containers/silent/wait",
            3 => "GET /containers/silent/logs?follow=1&stdout=1",
            _ => "GET /events?filters=%7B%22type%22:%5B%22plugin%22%5D%7D",
        };
        let upgrade = if number % 5 < 2 { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        let request = format!("{asked} HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_head(&mut stream).await;
        clients.push(stream);
    }
    assert_eq!(open(), before + 40);
    // Nothing is ever written to them, so nothing but a look tells.
    drop(clients);
    let end = std::time::Instant::now() + PATIENCE;
    while open() > before {
        assert!(std::time::Instant::now() < end, "{} are open, {before} before", open());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.finish().await;
}

/// Reads the head of an answer, and not one byte more.
async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it answers");
    String::from_utf8(head).unwrap()
}

/// Takes frames apart: the number of a stream, and its bytes.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        frames.push((head[0], rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "half a frame");
    frames
}
