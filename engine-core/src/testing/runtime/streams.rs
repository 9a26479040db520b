//! Promises about standard streams and logs.

use std::os::fd::OwnedFd;

use futures_util::TryStreamExt as _;

use super::*;
use crate::io::{Stdio, TerminalSize};
use crate::launch::LogOptions;
use crate::logs::{LogEntry, LogQuery, LogSource};

/// Reads a container's whole log as text.
///
/// # Panics
/// If it cannot be read.
pub async fn log_text(runtime: &dyn Runtime, id: &ContainerId) -> String {
    text(&log(runtime, id, &LogQuery::default()).await)
}

async fn log(runtime: &dyn Runtime, id: &ContainerId, query: &LogQuery) -> Vec<LogEntry> {
    runtime.logs(id, query).await.expect("logs").try_collect().await.expect("read the log")
}

fn text(entries: &[LogEntry]) -> String {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.message).into_owned()).collect()
}

const BOTH: &str = "echo out; echo err >&2; echo more";

/// Promise: attached before the start, a client gets all of both streams, apart.
pub async fn output_is_whole_from_the_start(bench: Bench<'_>) {
    let (id, streams) = bench.run(&sh(BOTH), |_| {}, AttachOptions::piped(false)).await;
    let (out, err) = tokio::join!(read_text(streams.stdout), read_text(streams.stderr));
    assert_eq!((out.as_str(), err.as_str()), ("out\nmore\n", "err\n"));
    assert_eq!(bench.wait(&id).await, 0);
}

/// Promise: the output streams end when the process has ended, however it did.
pub async fn streams_end_with_the_process(bench: Bench<'_>) {
    let (id, streams) = bench.run(FOREVER, |_| {}, AttachOptions::piped(false)).await;
    bench.runtime.signal(&id, SIGKILL).await.expect("signal");
    let (out, err) = tokio::join!(read_all(streams.stdout), read_all(streams.stderr));
    assert!(out.is_empty() && err.is_empty());
}

/// Promise: what a client writes reaches the process, and its end too.
pub async fn input_reaches_the_process(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    let sent = much();
    let write = async {
        let mut stdin = streams.stdin.take().expect("stdin");
        stdin.write_all(&sent).await.expect("write");
        stdin.shutdown().await.expect("end of input");
    };
    let ((), out, err) = tokio::join!(write, read_all(streams.stdout), read_all(streams.stderr));
    assert!(out == sent && err.is_empty(), "{} of {} bytes", out.len(), sent.len());
    assert_eq!(bench.wait(&id).await, 0);
}

/// Promise: an input that ends before anything was written ends the process's input.
pub async fn input_may_be_empty(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    drop(streams.stdin.take());
    assert!(read_all(streams.stdout).await.is_empty());
    assert_eq!(bench.wait(&id).await, 0);
}

/// Promise: without an open input, the process finds it at its end.
pub async fn closed_input_is_at_its_end(bench: Bench<'_>) {
    let id = bench.start(&["cat"]).await;
    assert_eq!(bench.wait(&id).await, 0);
}

/// Promise: an input that is to stay open outlives the client that wrote to it.
pub async fn input_may_stay_open(bench: Bench<'_>) {
    let open = |launch: &mut LaunchSpec| launch.open_stdin = true;
    let (id, mut first) = bench.run(&["cat"], open, AttachOptions::piped(true)).await;
    write_all(&mut first, b"one\n").await;
    read_until(first.stdout.as_mut().expect("stdout"), "one\n").await;
    drop(first);
    let mut second = bench.runtime.attach(&id, AttachOptions::piped(true)).await.expect("attach again");
    write_all(&mut second, b"two\n").await;
    read_until(second.stdout.as_mut().expect("stdout"), "two\n").await;
}

/// Promise: every client that is attached gets the output.
pub async fn every_client_gets_the_output(bench: Bench<'_>) {
    let id = bench.create(&sh(BOTH)).await;
    let first = bench.runtime.attach(&id, AttachOptions::piped(false)).await.expect("attach");
    let second = bench.second.attach(&id, AttachOptions::piped(false)).await.expect("attach");
    bench.runtime.start(&id).await.expect("start");
    let (one, two) = tokio::join!(read_text(first.stdout), read_text(second.stdout));
    assert_eq!((one.as_str(), two.as_str()), ("out\nmore\n", "out\nmore\n"));
}

/// Promise: a client that attaches later gets what is written from then on.
pub async fn later_client_gets_what_comes(bench: Bench<'_>) {
    let (id, mut first) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    write_all(&mut first, b"one\n").await;
    read_until(first.stdout.as_mut().expect("stdout"), "one\n").await;
    let later = bench.runtime.attach(&id, AttachOptions::piped(false)).await.expect("attach");
    write_all(&mut first, b"two\n").await;
    drop(first.stdin.take());
    assert_eq!(read_text(later.stdout).await, "two\n");
}

/// Promise: a client that goes harms neither the process nor other clients.
pub async fn lost_client_harms_nothing(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    let lost = bench.runtime.attach(&id, AttachOptions::piped(false)).await.expect("attach");
    drop(lost);
    let sent = much();
    let write = async {
        let mut stdin = streams.stdin.take().expect("stdin");
        stdin.write_all(&sent).await.expect("write");
    };
    let ((), out) = tokio::join!(write, read_all(streams.stdout));
    assert!(out == sent, "{} of {} bytes", out.len(), sent.len());
    assert_eq!(bench.wait(&id).await, 0);
}

/// Promise: a blocking client that begins to read late gets everything.
pub async fn slow_blocking_client_loses_nothing(bench: Bench<'_>) {
    let (_, mut streams) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    let sent = much();
    let write = async {
        let mut stdin = streams.stdin.take().expect("stdin");
        stdin.write_all(&sent).await.expect("write");
    };
    let read = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        read_all(streams.stdout).await
    };
    let ((), out) = tokio::join!(write, read);
    assert!(out == sent, "{} of {} bytes", out.len(), sent.len());
}

/// Promise: a client that is slow and not blocking is cut off: it stops neither the process nor other clients.
pub async fn slow_client_is_cut_off(bench: Bench<'_>) {
    let id = bench.create_with(&["cat"], interactive).await;
    let options = AttachOptions { blocking: false, ..AttachOptions::piped(false) };
    let slow = bench.runtime.attach(&id, options).await.expect("attach a slow client");
    let mut quick = bench.runtime.attach(&id, AttachOptions::piped(true)).await.expect("attach");
    bench.runtime.start(&id).await.expect("start");
    let sent = much();
    let write = async {
        let mut stdin = quick.stdin.take().expect("stdin");
        stdin.write_all(&sent).await.expect("write");
    };
    let ((), out) = tokio::join!(write, read_all(quick.stdout));
    assert!(out == sent, "{} of {} bytes", out.len(), sent.len());
    assert_eq!(bench.wait(&id).await, 0);
    // What it has is a beginning of the output, and then its stream ends.
    let part = read_all(slow.stdout).await;
    assert!(sent.starts_with(&part) && part.len() < sent.len(), "{} of {} bytes", part.len(), sent.len());
}

/// Promise: there is no attaching to a process that has ended.
pub async fn attach_after_the_end_is_refused(bench: Bench<'_>) {
    let id = bench.start(&["true"]).await;
    bench.wait(&id).await;
    let attached = bench.runtime.attach(&id, AttachOptions::piped(false)).await;
    assert_kind(attached, &[ErrorKind::Conflict], "attach");
}

/// Promise: a caller may bring descriptors of its own.
pub async fn caller_may_bring_descriptors(bench: Bench<'_>) {
    let (input, mut writer) = std::io::pipe().expect("a pipe");
    let (mut reader, output) = std::io::pipe().expect("a pipe");
    let options = AttachOptions {
        stdin: Stdio::Fd(OwnedFd::from(input)),
        stdout: Stdio::Fd(OwnedFd::from(output)),
        stderr: Stdio::Null,
        blocking: true,
    };
    let (id, streams) = bench.run(&["cat"], interactive, options).await;
    assert!(streams.stdin.is_none() && streams.stdout.is_none() && streams.stderr.is_none());
    std::io::Write::write_all(&mut writer, b"through").expect("write");
    drop(writer);
    assert_eq!(bench.wait(&id).await, 0);
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).map(|_| text)
    });
    assert_eq!(read.await.expect("read").expect("read"), "through");
}

/// Promise: a process on a terminal has one stream for all, and its size can change.
pub async fn terminal_is_one_stream(bench: Bench<'_>) {
    let terminal = |launch: &mut LaunchSpec| {
        interactive(launch);
        launch.terminal = Some(TerminalSize { columns: 80, rows: 24 });
    };
    let (id, streams) = bench.run(&sh(BOTH), terminal, AttachOptions::piped(true)).await;
    assert_eq!(read_text(streams.stdout).await, "out\r\nerr\r\nmore\r\n");
    if streams.stderr.is_some() {
        assert_eq!(read_text(streams.stderr).await, "", "a terminal has no standard error of its own");
    }
    assert_eq!(bench.wait(&id).await, 0);
    let id = bench
        .create_with(FOREVER, |launch| launch.terminal = Some(TerminalSize { columns: 80, rows: 24 }))
        .await;
    bench.runtime.start(&id).await.expect("start");
    bench.runtime.resize(&id, TerminalSize { columns: 132, rows: 50 }).await.expect("resize");
}

/// Promise: what is no terminal has no size.
pub async fn resize_needs_a_terminal(bench: Bench<'_>) {
    let id = bench.start(FOREVER).await;
    let resized = bench.runtime.resize(&id, TerminalSize { columns: 80, rows: 24 }).await;
    assert_kind(resized, &[ErrorKind::Conflict], "resize");
}

/// Promise: the log has all output line by line, in time, until the container is deleted.
pub async fn log_has_all_output(bench: Bench<'_>) {
    let id = bench.start(&sh("echo out; echo err >&2; echo -n rest")).await;
    bench.wait(&id).await;
    let entries = log(bench.runtime, &id, &LogQuery::default()).await;
    let of = |source| {
        let list: Vec<_> = entries.iter().filter(|entry| entry.stream == source).cloned().collect();
        text(&list)
    };
    assert_eq!((of(LogSource::Stdout).as_str(), of(LogSource::Stderr).as_str()), ("out\nrest", "err\n"));
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert!(entries.is_sorted_by_key(|entry| entry.time), "{entries:?}");
    bench.runtime.delete(&id).await.expect("delete");
    let gone = bench.runtime.logs(&id, &LogQuery::default()).await;
    assert_kind(gone, &[ErrorKind::NotFound], "logs after delete");
    bench.harness.release(&id).await;
}

/// Promise: following a log gives what was there, what comes, and ends with the container.
pub async fn log_is_followed_to_the_end(bench: Bench<'_>) {
    let (id, mut streams) = bench.run(&["cat"], interactive, AttachOptions::piped(true)).await;
    write_all(&mut streams, b"one\n").await;
    read_until(streams.stdout.as_mut().expect("stdout"), "one\n").await;
    let mut follow = bench.runtime.logs(&id, &LogQuery::follow()).await.expect("logs");
    let first = follow.try_next().await.expect("read the log").expect("an entry");
    assert_eq!(first.message, "one\n");
    write_all(&mut streams, b"two\n").await;
    let next = follow.try_next().await.expect("read the log").expect("an entry");
    assert_eq!(next.message, "two\n");
    drop(streams.stdin.take());
    assert!(follow.try_next().await.expect("read the log").is_none(), "it ends with the container");
    let after: Vec<LogEntry> = bench
        .runtime
        .logs(&id, &LogQuery::follow())
        .await
        .expect("logs")
        .try_collect()
        .await
        .expect("following what has ended comes to an end");
    assert_eq!(text(&after), "one\ntwo\n");
}

/// Promise: a log is read from its last lines, or from a time, on.
pub async fn log_begins_where_asked(bench: Bench<'_>) {
    let id = bench.start(&sh("echo 1; echo 2; sleep 0.2; echo 3; echo 4")).await;
    bench.wait(&id).await;
    let all = log(bench.runtime, &id, &LogQuery::default()).await;
    assert_eq!(text(&all), "1\n2\n3\n4\n");
    for (tail, wanted) in [(0, ""), (1, "4\n"), (3, "2\n3\n4\n"), (9, "1\n2\n3\n4\n")] {
        let query = LogQuery::default().with_tail(tail);
        assert_eq!(text(&log(bench.runtime, &id, &query).await), wanted, "the last {tail}");
    }
    let (second, third) = (all[1].time, all[2].time);
    let since = LogQuery::default().with_since(second + Duration::from_millis(50));
    assert_eq!(text(&log(bench.runtime, &id, &since).await), "3\n4\n");
    let until = LogQuery::default().with_until(third - Duration::from_millis(50));
    assert_eq!(text(&log(bench.runtime, &id, &until).await), "1\n2\n");
}

/// Promise: where output is not kept, there is no log to read, and clients get it still.
pub async fn log_may_be_off(bench: Bench<'_>) {
    let off = |launch: &mut LaunchSpec| launch.log = LogOptions::none();
    let (id, streams) = bench.run(&["echo", "out"], off, AttachOptions::piped(false)).await;
    assert_eq!(read_text(streams.stdout).await, "out\n");
    bench.wait(&id).await;
    let read = bench.runtime.logs(&id, &LogQuery::default()).await;
    assert_kind(read, &[ErrorKind::Unsupported], "logs");
}
