//! The streams of processes, and what follows something, over the wire.

use std::io::{Read as _, Seek as _};
use std::time::Duration;

use engine_core::events::{Action, EventQuery};
use engine_core::io::{AttachOptions, Stdio};
use engine_core::logs::{LogQuery, LogSource};
use engine_core::{ContainerSpec, ErrorKind, ExecSpec};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{IMAGE, Pair};
use crate::support::PATIENCE;

fn command(script: &str) -> ContainerSpec {
    ContainerSpec::command(["sh", "-c", script])
}

async fn until<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

#[tokio::test]
async fn output_comes_by_stream_and_the_log_has_it() {
    let Pair { far, server: _server, .. } = Pair::new().await;
    let container = far.create(IMAGE, command("echo out; echo err >&2; exit 3")).await.unwrap();
    let mut streams = container.start_attached(AttachOptions::piped(false)).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    // One after the other, as nobody should.
    until(streams.stderr.take().unwrap().read_to_string(&mut err)).await.unwrap();
    until(streams.stdout.take().unwrap().read_to_string(&mut out)).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!(until(container.wait()).await.unwrap().code, 3);
    let log: Vec<_> = container.logs(&LogQuery::default()).await.unwrap().collect().await;
    let log: Vec<_> = log.into_iter().map(Result::unwrap).collect();
    assert_eq!(log.len(), 2);
    assert!(log.iter().any(|entry| entry.stream == LogSource::Stderr && entry.message == "err\n"));
    let two = vec![AttachOptions::piped(false), AttachOptions::piped(false)];
    assert_eq!(container.start_attached_each(two).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn input_has_an_end_of_its_own() {
    let Pair { far, server: _server, .. } = Pair::new().await;
    let busy = far.create(IMAGE, command("sleep 1000")).await.unwrap();
    busy.start().await.unwrap();
    let exec = busy.exec(&ExecSpec::new(["cat"]), AttachOptions::piped(true)).await.unwrap();
    let mut streams = exec.streams;
    let input: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut stdin = streams.stdin.take().unwrap();
    let sent = input.clone();
    let sending = tokio::spawn(async move { stdin.write_all(&sent).await });
    let mut output = Vec::new();
    until(streams.stdout.take().unwrap().read_to_end(&mut output)).await.unwrap();
    sending.await.unwrap().unwrap();
    assert!(output == input, "{} of {} bytes", output.len(), input.len());
    assert!(until(busy.exec_wait(&exec.id)).await.unwrap().success());
    // Without streams, it is a call like others.
    let quiet = busy.exec(&ExecSpec::new(["false"]), AttachOptions::default()).await.unwrap();
    assert_eq!(until(busy.exec_wait(&quiet.id)).await.unwrap().code, 1);
}

#[tokio::test]
async fn descriptors_have_all_of_it_when_the_end_is_told() {
    let Pair { far, server: _server, .. } = Pair::new().await;
    let busy = far.create(IMAGE, command("sleep 1000")).await.unwrap();
    busy.start().await.unwrap();
    let mut input = tempfile::tempfile().unwrap();
    let text = vec![b'x'; 300_000];
    std::io::Write::write_all(&mut input, &text).unwrap();
    input.rewind().unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let mut io = AttachOptions::default();
    io.stdin = Stdio::Fd(input.into());
    io.stdout = Stdio::Fd(output.try_clone().unwrap().into());
    io.blocking = true;
    let exec = busy.exec(&ExecSpec::new(["cat"]), io).await.unwrap();
    assert!(exec.streams.stdin.is_none() && exec.streams.stdout.is_none());
    assert!(until(busy.exec_wait(&exec.id)).await.unwrap().success());
    let mut written = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut written).unwrap();
    assert!(written == text, "{} bytes", written.len());
    // What is in a pipe and was not asked for stays there.
    let (read, write) = std::io::pipe().unwrap();
    let mut io = AttachOptions::piped(false);
    io.stdin = Stdio::Fd(read.try_clone().unwrap().into());
    let exec = busy.exec(&ExecSpec::new(["echo", "hi"]), io).await.unwrap();
    let mut out = String::new();
    let mut streams = exec.streams;
    until(streams.stdout.take().unwrap().read_to_string(&mut out)).await.unwrap();
    assert_eq!(out, "hi\n");
    drop(streams);
    tokio::time::sleep(Duration::from_millis(100)).await;
    std::io::Write::write_all(&mut &write, b"mine").unwrap();
    let mut left = [0; 4];
    (&read).read_exact(&mut left).unwrap();
    assert_eq!(&left, b"mine");
}

#[tokio::test]
async fn who_leaves_leaves_the_process_alone() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    let mut spec = command("echo first; cat");
    (spec.open_stdin, spec.stdin_once) = (true, false);
    let container = far.create(IMAGE, spec).await.unwrap();
    let mut streams = container.start_attached(AttachOptions::piped(true)).await.unwrap();
    let mut first = [0; 6];
    until(streams.stdout.as_mut().unwrap().read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"first\n");
    drop(streams);
    // Another one comes, and gets what is written from then on.
    let mut streams = container.attach(AttachOptions::piped(true)).await.unwrap();
    let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
    stdin.write_all(b"again\n").await.unwrap();
    stdin.flush().await.unwrap();
    let mut again = [0; 6];
    until(stdout.read_exact(&mut again)).await.unwrap();
    assert_eq!(&again, b"again\n");
    let twin = near.container(container.id().as_str()).await.unwrap();
    assert!(twin.inspect().await.unwrap().state.status.is_running());
    container.kill(9).await.unwrap();
    let mut rest = Vec::new();
    until(stdout.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(until(container.wait()).await.unwrap().code, 137);
}

#[tokio::test]
async fn what_is_dropped_here_is_dropped_there() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    let mut events = far.events(EventQuery::default()).await.unwrap();
    let container = far.create(IMAGE, command("sleep 1000")).await.unwrap();
    let event = until(events.next()).await.unwrap().unwrap();
    assert_eq!((event.action, event.id.as_str()), (Action::Create, container.id().as_str()));
    container.start().await.unwrap();
    let operations = std::sync::Arc::downgrade(near.operations());
    let resting = operations.strong_count();
    // A wait, a log and a stream of statistics, each of which holds the engine there.
    let waiting = tokio::spawn({
        let container = container.clone();
        async move { container.wait().await }
    });
    let log = container.logs(&LogQuery::follow()).await.unwrap();
    let mut stats = container.stats_stream(Duration::from_millis(10)).await.unwrap();
    assert!(until(stats.next()).await.unwrap().unwrap().read_at.is_some());
    while operations.strong_count() <= resting {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    drop((log, stats, events));
    let dropped = async {
        while operations.strong_count() > resting {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(dropped).await;
    assert!(container.inspect().await.unwrap().state.status.is_running());
}
