//! Sessions whose two sides end at different times: nothing that was sent is lost by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine_api::client::{ConnectOptions, RemoteEngine, relay};
use engine_api::server::{ApiServer, Limits, Listener};
use engine_core::engine::{Exec, ProcessOperations as _};
use engine_core::io::{AttachOptions, Stdio, Writer};
use engine_core::memory::Process;
use engine_core::{Container, ContainerSpec, Engine, ExecSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::{IMAGE, Pair, transports};
use crate::support::PATIENCE;

/// Longer than anything takes that does not wait for it.
const A_WHILE: Duration = Duration::from_millis(200);

async fn until<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Writes until nobody reads.
async fn flood(mut stdin: Writer) {
    while stdin.write_all(&[b'y'; 4096]).await.is_ok() {}
}

/// Reads a request, and returns its first line.
async fn request(stream: &mut UnixStream) -> String {
    let (mut read, mut head_ends) = (Vec::new(), None);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        read.push(byte[0]);
        if head_ends.is_none() && read.ends_with(b"\r\n\r\n") {
            head_ends = Some(read.len());
        }
        let Some(end) = head_ends else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if read.len() - end == length.map_or(0, |length| length.parse().unwrap()) {
            return String::from_utf8_lossy(&read).lines().next().unwrap_or_default().to_owned();
        }
    }
}

#[tokio::test]
async fn output_that_has_come_is_read_whatever_becomes_of_the_input() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // A server that closes the connection as soon as it has said all.
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for body in ["OK", "{}"] {
            request(&mut stream).await;
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nengine-protocol: 1\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(head.as_bytes()).await.unwrap();
        }
        assert!(request(&mut stream).await.contains("/attach"));
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: engine-streams\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"\x01\0\0\0\x04null").await.unwrap();
        // There is input that nobody will read.
        stream.readable().await.unwrap();
        // As much as there is room for.
        for _ in 0..6 {
            stream.write_all(&[b"\x06\0\0\x75\x30", &[b'x'; 30_000][..]].concat()).await.unwrap();
        }
        stream.write_all(b"\x03\0\0\0\x04null").await.unwrap();
    });
    let host = format!("unix://{}", socket.display()).parse().unwrap();
    let engine = RemoteEngine::connect(&host, ConnectOptions::default()).await.unwrap();
    let id = "ab".repeat(32).parse().unwrap();
    let mut streams = engine.attach(&id, AttachOptions::piped(true)).await.unwrap();
    let flooding = tokio::spawn(flood(streams.stdin.take().unwrap()));
    until(serving).await.unwrap();
    // The reader is slow, and what it is to read is not all in its hand yet.
    tokio::time::sleep(A_WHILE).await;
    let mut output = Vec::new();
    until(streams.stdout.take().unwrap().read_to_end(&mut output)).await.unwrap();
    assert_eq!(output.len(), 180_000);
    flooding.abort();
}

#[tokio::test]
async fn a_carried_connection_ends_when_all_came_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
    });
    let host = format!("unix://{}", socket.display()).parse().unwrap();
    let (mut reader, output) = tokio::io::duplex(1024);
    let carrying = tokio::spawn(async move {
        // That the other side closed what it did not read is told, but not before the rest has come.
        let _ = relay(&host, &ConnectOptions::default(), tokio::io::repeat(b'y'), output).await;
    });
    tokio::time::sleep(A_WHILE).await;
    let mut came = Vec::new();
    until(reader.read_to_end(&mut came)).await.unwrap();
    assert_eq!(came.len(), 100_000);
    until(carrying).await.unwrap();
}

/// A container in which `program` can be executed.
async fn container(engine: &Engine) -> Container {
    let container = engine.create(IMAGE, ContainerSpec::command(["sleep", "1000"])).await.unwrap();
    container.start().await.unwrap();
    container
}

async fn exec(container: &Container, program: &str, io: AttachOptions) -> Exec {
    container.exec(&ExecSpec::new([program]), io).await.unwrap()
}

#[tokio::test]
async fn input_that_was_sent_arrives_when_its_sender_has_gone() {
    let pair = Pair::new().await;
    let counted = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&counted);
    pair.runtime.register("count", move |process: Process| {
        let counts = Arc::clone(&counts);
        async move {
            // With its output, which would end the session.
            let mut process = process;
            tokio::time::sleep(A_WHILE).await;
            loop {
                // So slow that some of it is on its way when its sender goes.
                tokio::time::sleep(Duration::from_millis(1)).await;
                match process.stdin.read().await.len() {
                    0 => return u8::from(process.args.is_empty()),
                    count => counts.fetch_add(count, Ordering::SeqCst),
                };
            }
        }
    });
    let container = container(&pair.far).await;
    let mut only_input = AttachOptions::default();
    only_input.stdin = Stdio::Piped;
    for (io, size) in
        [(only_input, 1 << 20), (AttachOptions::piped(true), 10), (AttachOptions::piped(true), 1 << 20)]
    {
        counted.store(0, Ordering::SeqCst);
        let process = exec(&container, "count", io).await;
        let (id, mut streams) = (process.id, process.streams);
        let mut stdin = streams.stdin.take().unwrap();
        drop(streams);
        until(stdin.write_all(&vec![b'x'; size])).await.unwrap();
        until(stdin.shutdown()).await.unwrap();
        drop(stdin);
        assert!(until(container.exec_wait(&id)).await.unwrap().success());
        assert_eq!(counted.load(Ordering::SeqCst), size);
    }
}

#[tokio::test]
async fn by_tcp_no_output_is_taken_back_for_input_that_was_not_read() {
    let pair = Pair::new().await;
    pair.runtime.register("tell", |mut process: Process| async move {
        process.stdin.read().await;
        process.stdout.write(vec![b'x'; 1 << 20]).await.map_or(1, |()| 0)
    });
    let dir = tempfile::tempdir().unwrap();
    let (host, tls, serving) = transports::serve(&pair.near, dir.path()).await;
    let far = RemoteEngine::connect(&host, ConnectOptions::default().with_tls(tls)).await.unwrap();
    let far = Engine::from(far);
    let container = container(&far).await;
    let process = exec(&container, "tell", AttachOptions::piped(true)).await;
    let mut streams = process.streams;
    let flooding = tokio::spawn(flood(streams.stdin.take().unwrap()));
    assert!(until(container.exec_wait(&process.id)).await.unwrap().success());
    tokio::time::sleep(A_WHILE).await;
    let mut output = Vec::new();
    until(streams.stdout.take().unwrap().read_to_end(&mut output)).await.unwrap();
    assert_eq!(output.len(), 1 << 20);
    flooding.abort();
    serving.abort();
}

/// A connection on which a session of the operation `attach` was asked for.
async fn attached(socket: &std::path::Path, container: &Container) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let wanted = "{\"stdin\":true,\"stdout\":true,\"stderr\":true,\"blocking\":true}";
    let arguments = format!("[\"{}\",{wanted}]\n", container.id());
    let request = format!(
        "POST /engine/v1/attach HTTP/1.1\r\nHost: e\r\nContent-Type: application/vnd.engine.v1\r\nConnection: Upgrade\r\n\
         Upgrade: engine-streams\r\nContent-Length: {}\r\n\r\n{arguments}",
        arguments.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Serves an engine with these limits until something is sent.
fn serve(
    engine: &Engine,
    socket: &std::path::Path,
    limits: Limits,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = Listener::unix(socket, 0o600, None).unwrap();
    let server = ApiServer::new(engine.clone()).with_limits(limits);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        server.serve_until(listener, stopped).await.unwrap();
    });
    (stop, serving)
}

#[tokio::test]
async fn a_client_that_never_reads_keeps_nothing_when_the_server_stops() {
    let pair = Pair::new().await;
    pair.runtime.register("yes", |process: Process| async move {
        while process.stdout.write([b'y'; 4096]).await.is_ok() {
            // There may be nobody whom it has to wait for.
            tokio::task::yield_now().await;
        }
        0
    });
    let container = pair.near.create(IMAGE, ContainerSpec::command(["yes"])).await.unwrap();
    container.start().await.unwrap();
    let operations = Arc::downgrade(pair.near.operations());
    let resting = operations.strong_count();
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::default().with_unread(Duration::from_millis(50));
    let (stop, serving) = serve(&pair.near, &dir.path().join("s.sock"), limits);
    let mut deaf = attached(&dir.path().join("s.sock"), &container).await;
    deaf.read_exact(&mut [0; 12]).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    stop.send(()).unwrap();
    until(serving).await.unwrap();
    let left = async {
        while operations.strong_count() > resting {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(left).await;
    drop(deaf);
}

#[tokio::test]
async fn e7_sessions_are_connections() {
    let pair = Pair::new().await;
    let container = container(&pair.near).await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let (stop, serving) = serve(&pair.near, &socket, Limits::default().with_connections(1));
    let mut session = attached(&socket, &container).await;
    session.read_exact(&mut [0; 12]).await.unwrap();
    let mut other = UnixStream::connect(&socket).await.unwrap();
    other.write_all(b"GET /_ping HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(A_WHILE, other.read_exact(&mut answer))
        .await
        .expect_err("there is room for one alone");
    drop(session);
    until(other.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stop.send(()).unwrap();
    until(serving).await.unwrap();
}

#[tokio::test]
async fn a_save_that_nobody_takes_ends() {
    let pair = Pair::new().await;
    let layer = vec![b'x'; 8 << 20];
    let layer = engine_core::testing::content::tar(&[("large", &layer[..])]);
    let layer = engine_core::testing::content::SampleLayer::plain(&layer);
    super::publish_image(
        &pair.registry,
        &engine_core::testing::content::SampleImage::of(vec![layer]),
        "registry.example/large:1",
    );
    pair.near.pull(&"registry.example/large:1".parse().unwrap(), Default::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let limits = Limits::default().with_unread(Duration::from_millis(50));
    let (stop, serving) = serve(&pair.near, &socket, limits);
    let arguments = "[[\"registry.example/large:1\"],{}]\n";
    let request = format!(
        "POST /engine/v1/save HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Type: application/vnd.engine.v1\r\n\
         Content-Length: {}\r\n\r\n{arguments}",
        arguments.len()
    );
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    let mut answer = Vec::new();
    until(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() < 8 << 20, "{} bytes", answer.len());
    let end = String::from_utf8_lossy(&answer[answer.len() - 300..]).into_owned();
    assert!(end.contains("the client took nothing of the answer for 50ms"), "{end}");
    stop.send(()).unwrap();
    until(serving).await.unwrap();
}
