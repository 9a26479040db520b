//! An engine with a server for one test, and clients of it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use engine_api::server::{ApiServer, TempServer};
use engine_core::engine::{EngineBuilder, LoadOptions};
use engine_core::{Container, ContainerSpec, Engine};
pub(crate) use engine_testkit::Said;
use engine_testkit::{LeakCheck, image};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

/// Longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An engine of its own, served at a private socket.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) server: TempServer,
    leaks: Option<LeakCheck>,
    dir: tempfile::TempDir,
}

impl Host {
    /// Serves an engine that has the image `busybox`.
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    /// As [`new`](Self::new), with other parts in the engine.
    pub(crate) async fn with(parts: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-api-test").tempdir().unwrap();
        let root = dir.path().join("root");
        // What an empty engine consists of is no leak.
        drop(Engine::builder(&root).open().await.unwrap());
        let leaks = LeakCheck::begin(&root, &root.join("run"));
        let engine = parts(Engine::builder(&root)).open().await.unwrap();
        let archive = dir.path().join("busybox.tar");
        image::busybox().write_docker_archive(&archive, &["busybox:latest"]);

        engine.load(archive.as_path(), LoadOptions::default()).await.unwrap();
        std::fs::remove_file(archive).unwrap();
        let server = ApiServer::new(engine.clone()).serve_temp().await.unwrap();
        Self { engine, server, leaks: Some(leaks), dir }
    }

    /// Returns a path beside the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Creates a container without a client.
    pub(crate) async fn create(&self, name: &str, mut spec: ContainerSpec) -> Container {
        spec.name = Some(name.parse().unwrap());
        self.engine.create("busybox", spec).await.unwrap()
    }

    /// Creates and starts a container without a client.
    pub(crate) async fn start(&self, name: &str, spec: ContainerSpec) -> Container {
        let container = self.create(name, spec).await;
        container.start().await.unwrap();
        container
    }

    /// The real command line of Docker.
    pub(crate) fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(args)
            .env("DOCKER_HOST", self.server.docker_host())
            .env("DOCKER_CONFIG", self.dir.path().join("docker-config"))
            .env_remove("DOCKER_API_VERSION")
            .kill_on_drop(true);
        command
    }

    /// Runs the real command line of Docker.
    pub(crate) async fn docker(&self, args: &[&str]) -> Said {
        let mut command = self.docker_command(args);
        command.stdin(Stdio::null());
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap().into()
    }

    /// Runs it with something on its standard input.
    pub(crate) async fn docker_with(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.docker_command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        tokio::spawn(async move {
            // One that does not read it all is no failure here.
            let _ = stdin.write_all(&input).await;
        });
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap().into()
    }

    /// Connects to the socket.
    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.server.socket()).await.unwrap()
    }

    /// Sends a request without a body; returns the status and the body.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")).await
    }

    /// Sends a request with a document; returns the status and the body.
    pub(crate) async fn post(&self, path: &str, document: &str) -> (u16, String) {
        let length = document.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{document}"
        ))
        .await
    }

    /// Sends bytes as they are; returns the status and what comes after the head, without the sizes of chunks.
    pub(crate) async fn send(&self, request: &str) -> (u16, String) {
        let (status, answer) = self.send_whole(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunked(body) } else { body.to_owned() })
    }

    /// Sends bytes as they are; returns the status and the whole answer.
    pub(crate) async fn send_whole(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect().await;
        // One that is refused before it has sent everything may find the other side closed.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer)
    }

    /// Ends the test: everything is removed, and nothing of it is left.
    pub(crate) async fn finish(mut self) {
        for info in self.engine.containers().await.unwrap() {
            let container = self.engine.container(info.id.as_str()).await.unwrap();
            let options = engine_core::engine::RemoveOptions::default().with_force(true).with_volumes(true);
            container.remove(options).await.unwrap();
        }
        for image in self.engine.images().await.unwrap() {
            self.engine.remove_image(&image.reference.to_string(), true).await.unwrap();
        }
        let leaks = self.leaks.take().unwrap();
        let Self { engine, server, dir, .. } = self;
        drop((engine, server));
        leaks.finish_async().await;
        drop(dir);
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    whole
}
