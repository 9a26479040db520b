//! What is relied on of hyper, and what happens when it does something else.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Buf as _;
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::line::{Hole, Line, Next};
use super::socket::{send_file, send_read};
use super::{AnswerBody, FilePart, Socket};

const SIZE: usize = 5_000_000;

/// Bytes none of which is 0, as those of a hole are.
fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8 + 1).collect()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("write");
    file
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
    (client, listener.accept().await.expect("accept").0)
}

/// Lets hyper answer `/file` with a part of a file, and all else with a text, on what `wrap` makes of the socket.
fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: TcpStream,
    line: &Arc<Line>,
    part: &FilePart,
    wrap: impl FnOnce(Socket) -> S,
) -> JoinHandle<hyper::Result<()>> {
    let io = TokioIo::new(wrap(Socket::new(stream, Arc::clone(line))));
    let (line, part) = (Arc::clone(line), part.clone());
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut answer = Response::new(Body::from("a text"));
        if request.uri().path() == "/file" {
            answer = Response::new(Body::from_stream(part.stream()));
            answer.headers_mut().insert(CONTENT_LENGTH, part.size().into());
            answer.extensions_mut().insert(part.clone());
        }
        let answer = AnswerBody::of(answer, Some(&line));
        async move { Ok::<_, Infallible>(answer) }
    });
    tokio::spawn(http1::Builder::new().serve_connection(io, service))
}

async fn ask(client: &mut TcpStream, paths: &[&str]) -> Vec<u8> {
    let mut text: String =
        paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    text.insert_str(text.len() - 2, "Connection: close\r\n");
    client.write_all(text.as_bytes()).await.expect("ask");
    let mut said = Vec::new();
    // What was cut off may end with a reset.
    let _ = client.read_to_end(&mut said).await;
    said
}

/// Takes one answer off `said` and returns its body.
fn body<'a>(said: &mut &'a [u8]) -> &'a [u8] {
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&said[..end]).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (_, length) = head.split_once("content-length: ").expect("a length");
    let length: usize = length.split("\r\n").next().and_then(|text| text.parse().ok()).expect("a number");
    let (body, rest) = said[end..].split_at(length);
    *said = rest;
    body
}

#[tokio::test]
async fn hyper_hands_the_hole_to_the_socket() {
    let (content, sent, line) = (content(), Arc::new(AtomicU64::new(0)), Arc::default());
    let mut part = FilePart::new(file(&content), 7..SIZE as u64 - 9);
    part.count(&sent);
    let (mut client, server) = pair().await;
    let served = serve(server, &line, &part, |socket| socket);
    // All at once: what comes after the file waits in hyper's buffers with it.
    let said = ask(&mut client, &["/text", "/file", "/text", "/file", "/file", "/text"]).await;
    served.await.expect("hyper").expect("served");
    let mut said = &said[..];
    for is_file in [false, true, false, true, true, false] {
        let wanted: &[u8] = if is_file { &content[7..SIZE - 9] } else { b"a text" };
        assert!(body(&mut said) == wanted);
    }
    assert!(said.is_empty() && !line.is_broken());
    // The kernel has sent them, and not the stream beside the part.
    assert_eq!(sent.load(Ordering::Relaxed), 3 * part.size());
}

/// Says of a socket that it writes no lists: hyper then copies what it writes.
struct Flat(Socket);

impl AsyncRead for Flat {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Flat {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_hole_that_is_copied_is_not_sent() {
    let line = Arc::default();
    let part = FilePart::new(file(&content()), 0..SIZE as u64);
    let (mut client, server) = pair().await;
    let served = serve(server, &line, &part, Flat);
    let said = ask(&mut client, &["/file"]).await;
    assert!(said.is_empty(), "{:?}", String::from_utf8_lossy(&said[..said.len().min(500)]));
    served.await.expect("hyper").expect_err("it went well");
    assert!(line.is_broken());
}

#[tokio::test]
async fn a_file_that_lacks_bytes_ends_its_connection() {
    let (content, line) = (content(), Arc::default());
    let part = FilePart::new(file(&content), 0..SIZE as u64 + 1);
    let (mut client, server) = pair().await;
    let served = serve(server, &line, &part, |socket| socket);
    let said = ask(&mut client, &["/file", "/text"]).await;
    let head = said.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(content.starts_with(&said[head..]), "{} bytes", said.len() - head);
    served.await.expect("hyper").expect_err("it went well");
}

/// A line with the hole of a body of the first `size` bytes of a file under way.
fn under_way(size: usize) -> (Arc<Line>, Hole) {
    let line: Arc<Line> = Arc::default();
    let hole = line.begin(FilePart::new(file(b""), 0..size as u64), size, Body::empty());
    (line, hole)
}

fn slices(line: &Line, slices: &[&[u8]]) -> io::Result<Next> {
    let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    line.next(&slices)
}

/// What hyper writes of a hole.
fn memory(hole: &Hole) -> IoSlice<'_> {
    let mut first = [IoSlice::new(&[])];
    assert_eq!(hole.chunks_vectored(&mut first), 1);
    first[0]
}

fn is_file(next: io::Result<Next>, wanted: Range<u64>) {
    assert!(matches!(&next, Ok(Next::File(_, range)) if *range == wanted), "{next:?}");
}

#[test]
fn a_line_sends_a_hole_piece_by_piece() {
    let size = (1 << 20) + 50;
    let (line, mut hole) = under_way(size);
    let next = slices(&line, &[b"the head", &memory(&hole)]);
    assert!(matches!(next, Ok(Next::Memory(1))), "{next:?}");
    is_file(slices(&line, &[b"", &memory(&hole)]), 0..1 << 20);
    line.sent(100);
    hole.advance(100);
    // The rest fits the memory but for a bit.
    is_file(slices(&line, &[&memory(&hole)]), 100..100 + memory(&hole).len() as u64);
    line.sent(size - 100);
    hole.advance(size - 100);
    drop(hole);
    let next = slices(&line, &[b"the next", b"answer"]);
    assert!(matches!(next, Ok(Next::Memory(2))), "{next:?}");
}

#[test]
fn a_broken_line_writes_nothing() {
    type Harm = fn(&Arc<Line>, Hole);
    let breaks: [(&str, Harm); 8] = [
        ("memory alone", |line, hole| {
            slices(line, &[b"head"]).expect_err("memory was written");
            drop(hole);
        }),
        ("memory after the begin", |line, hole| {
            is_file(slices(line, &[&memory(&hole)]), 0..100);
            slices(line, &[b"x", &memory(&hole)]).expect_err("memory was written");
        }),
        ("too much", |line, mut hole| {
            line.sent(40);
            hole.advance(41);
            line.sent(60);
            hole.advance(59);
        }),
        ("skipped", |_, mut hole| hole.advance(100)),
        ("more than there is", |line, mut hole| {
            line.sent(100);
            hole.advance(100);
            hole.advance(1);
        }),
        ("dropped", |_, hole| drop(hole)),
        ("copied", |line, mut hole| {
            let copy = hole.copy_to_bytes(100);
            slices(line, &[&copy]).expect_err("the copy was written");
        }),
        ("two", |line, mut hole| {
            let mut second = line.begin(FilePart::new(file(b""), 0..100), 100, Body::empty());
            assert!(line.is_broken());
            line.sent(100);
            hole.advance(100);
            second.advance(100);
        }),
    ];
    for (what, harm) in breaks {
        let (line, hole) = under_way(100);
        harm(&line, hole);
        assert!(line.is_broken(), "{what}");
        slices(&line, &[b"x"]).expect_err(what);
        slices(&line, &[]).expect_err(what);
    }
    // A hole without a body.
    let (line, hole) = under_way(100);
    let other = Line::default();
    slices(&other, &[&memory(&hole)]).expect_err("a hole was written");
    assert!(other.is_broken() && !line.is_broken());
}

#[tokio::test]
async fn a_file_is_sent_in_either_way() {
    for send in [send_file, send_read] {
        let (content, (mut client, server)) = (content(), pair().await);
        let (server, file) = (server.into_std().expect("a socket"), file(&content));
        // It does not wait for the reader.
        let mut at = 0;
        let full = loop {
            match send(&server, &file, at..SIZE as u64) {
                Ok(count) => at += count as u64,
                Err(error) => break error,
            }
        };
        assert!(at > 0 && at < SIZE as u64, "the socket took {at}");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut got = vec![0; usize::try_from(at).expect("small")];
        client.read_exact(&mut got).await.expect("read");
        let last = SIZE as u64 - 5;
        assert_eq!(send(&server, &file, last..SIZE as u64 + 5).expect("send the end"), 5);
        let end = send(&server, &file, SIZE as u64..SIZE as u64 + 5).expect_err("there is nothing");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        server.shutdown(Shutdown::Write).expect("shutdown");
        client.read_to_end(&mut got).await.expect("read");
        let all = content[..usize::try_from(at).expect("small")].iter().chain(&content[SIZE - 5..]);
        assert!(got.iter().eq(all));
    }
}
