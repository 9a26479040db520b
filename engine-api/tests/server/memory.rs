//! What the API decides itself, over an engine in memory: nothing of the machine is in the way, and faults come when they are asked for.

use std::time::Duration;

use engine_api::server::{ApiServer, TempServer};
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::engine::PullOptions;
use engine_core::memory::{
    Faults, MemoryImageStore, MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes,
};
use engine_core::testing::content::SampleImage;
use engine_core::{Container, ContainerSpec, Engine, ErrorKind, Platform};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::PATIENCE;

/// An image of two platforms, whose command is the architecture.
pub(crate) const IMAGE: &str = "registry.example/app:1";

struct Host {
    engine: Engine,
    server: TempServer,
    faults: Faults,
}

impl Host {
    async fn new() -> Self {
        let faults = Faults::new();
        let engine = Engine::in_memory()
            .image_store(MemoryImageStore::new())
            .runtime(MemoryRuntime::new().with_faults(faults.clone()))
            .registry(registry())
            .volume_driver(MemoryVolumes::new())
            .network(MemoryNetwork::new())
            .open()
            .await
            .unwrap();
        let all = PullOptions::default().with_all_platforms(true);
        engine.pull(&IMAGE.parse().unwrap(), all).await.unwrap();
        let server = ApiServer::new(engine.clone()).serve_temp().await.unwrap();
        Self { engine, server, faults }
    }

    async fn create(&self, name: &str, mut spec: ContainerSpec) -> Container {
        spec.name = Some(name.parse().unwrap());
        self.engine.create(IMAGE, spec).await.unwrap()
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.server.socket()).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.send(&format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, document: &Value) -> (u16, String) {
        let document = document.to_string();
        let length = document.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{document}"
        ))
        .await
    }

    async fn send(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }
}

/// Reads until the other side closes.
async fn rest(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.expect("it closes").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `end` has come.
async fn until(stream: &mut UnixStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            read.push(stream.read_u8().await.expect("it goes on"));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it comes");
    String::from_utf8_lossy(&read).into_owned()
}

pub(crate) fn registry() -> MemoryRegistry {
    let registry = MemoryRegistry::new();
    let reference = IMAGE.parse().unwrap();
    let host = Platform::host().architecture;
    let other = if host == "arm64" { "amd64" } else { "arm64" };
    let mut entries = Vec::new();
    for architecture in [host.as_str(), other] {
        let image = SampleImage::new(architecture);
        for layer in &image.layers {
            registry.add_blob(&reference, &layer.descriptor.media_type, layer.bytes.clone());
        }
        let mut config: Value = serde_json::from_slice(&image.config_bytes).unwrap();
        config["architecture"] = architecture.into();
        config["config"]["Cmd"] = json!([architecture]);
        let config = config.to_string();
        let described = Descriptor::of(media_type::OCI_CONFIG, config.as_bytes());
        registry.add_blob(&reference, media_type::OCI_CONFIG, config);
        let mut manifest: Value = serde_json::from_slice(&image.manifest_bytes).unwrap();
        manifest["config"] = serde_json::to_value(&described).unwrap();
        let added = registry.add_manifest(&reference, media_type::OCI_MANIFEST, manifest.to_string());
        let mut entry = serde_json::to_value(&added).unwrap();
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    registry.add_manifest(&reference, media_type::OCI_INDEX, index.to_string());
    registry
}

fn sleeps() -> ContainerSpec {
    ContainerSpec::command(["sleep", "1000"])
}

#[tokio::test]
async fn e8_no_request_comes_out_of_a_body() {
    let host = Host::new().await;
    let victim = host.create("db", sleeps()).await;
    // The name of a tar's first file is its author's choice.
    let looks_like_one = "POST /exec/1/start HTTP/1.1\r\n\r\n";
    // As long as the header that such a request is given, so that it would be what is behind the body.
    let smuggled = "DELETE /containers/db?force=1&v=1 HTTP/1.1\r\n\r\n";
    assert_eq!(smuggled.len(), 46);
    let body = format!("{looks_like_one}{smuggled}");
    let mut stream = host.connect().await;
    let head = format!(
        "POST /images/load HTTP/1.1\r\nExpect: 100-continue\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The body comes on its own, as that of http.client does.
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.write_all(b"GET /_ping HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let answers = rest(&mut stream).await;
    assert!(!answers.contains("HTTP/1.1 204"), "{answers}");
    assert!(answers.ends_with("\r\n\r\nOK"), "{answers}");
    victim.inspect().await.expect("nobody asked for its removal");
}

#[tokio::test]
async fn a_connection_is_taken_over_after_other_requests() {
    let host = Host::new().await;
    let container = host.create("web", sleeps()).await;
    container.start().await.unwrap();
    let mut stream = host.connect().await;
    // As Apache's client does with requests that take nothing over.
    let ping = b"GET /_ping HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n";
    stream.write_all(ping).await.unwrap();
    assert!(until(&mut stream, "\r\n\r\nOK").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let wish = json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true, "Tty": true }).to_string();
    let send = async |stream: &mut UnixStream, path: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(until(stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
        stream.write_all(body.as_bytes()).await.unwrap();
        until(stream, "\r\n\r\n").await
    };
    assert!(send(&mut stream, "/containers/web/exec", &wish).await.starts_with("HTTP/1.1 201"));
    let answer = until(&mut stream, "\n").await;
    let id = serde_json::from_str::<Value>(&answer).unwrap()["Id"].as_str().unwrap().to_owned();
    assert!(send(&mut stream, &format!("/exec/{id}/start"), "{}").await.starts_with("HTTP/1.1 200 OK\r\n"));
    stream.write_all(b"POST /exec/1/start HTTP/1.1\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.replace("\r\n", "\n"), "POST /exec/1/start HTTP/1.1\n\n");
}

#[tokio::test]
async fn a_start_that_is_asked_for_twice_is_one() {
    let host = Host::new().await;
    let mut spec = sleeps();
    spec.auto_remove = true;
    let container = host.create("brief", spec).await;
    let mut client = host.connect().await;
    let attach = "POST /containers/brief/attach?stream=1&stdout=1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(attach.as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    host.faults.delay("runtime.start", Duration::from_millis(200));
    let start = || host.ask("POST", "/containers/brief/start");
    let (a, b, c) = tokio::join!(start(), start(), start());
    let mut statuses = [a.0, b.0, c.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 304, 304]);
    assert!(container.inspect().await.unwrap().state.status.is_running());
    // Its client is with it until its end.
    host.faults.clear();
    container.stop(Some(Duration::ZERO)).await.unwrap();
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn a_start_by_another_program_is_no_failure() {
    let host = Host::new().await;
    let mut spec = ContainerSpec::command(["sh", "-c", "sleep 0.5; echo here; sleep 1000"]);
    spec.auto_remove = true;
    let container = host.create("brief", spec).await;
    let mut client = host.connect().await;
    let attach = "POST /containers/brief/attach?stream=1&stdout=1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(attach.as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    host.faults.delay("runtime.start", Duration::from_millis(200));
    let other = tokio::spawn({
        let container = container.clone();
        async move { container.start().await }
    });
    while host.faults.count("runtime.start") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(host.ask("POST", "/containers/brief/start").await, (304, String::new()));
    other.await.unwrap().unwrap();
    assert!(container.inspect().await.unwrap().state.status.is_running());
    assert!(until(&mut client, "here\n").await.ends_with("here\n"));
}

#[tokio::test]
async fn who_waits_for_a_container_that_is_removed_is_let_go() {
    let host = Host::new().await;
    for by_server in [true, false] {
        let container = host.create("never", sleeps()).await;
        let mut client = host.connect().await;
        let attach = "POST /containers/never/attach?stream=1&stdout=1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        client.write_all(attach.as_bytes()).await.unwrap();
        until(&mut client, "\r\n\r\n").await;
        match by_server {
            true => assert_eq!(host.ask("DELETE", "/containers/never").await.0, 204),
            false => container.remove(Default::default()).await.unwrap(),
        }
        assert_eq!(rest(&mut client).await, "");
    }
}

#[tokio::test]
async fn times_that_are_none_are_wrong_requests() {
    let host = Host::new().await;
    for until in ["1.1e300", "yesterday", "-1"] {
        let filters = format!("%7B%22until%22:%5B%22{until}%22%5D%7D");
        for path in ["/containers/prune", "/images/prune", "/networks/prune"] {
            let (status, body) = host.ask("POST", &format!("{path}?filters={filters}")).await;
            assert_eq!(status, 400, "{path} {until}: {body}");
        }
    }
    let two = "%7B%22until%22:%5B%221h%22,%222h%22%5D%7D";
    let (status, body) = host.ask("POST", &format!("/containers/prune?filters={two}")).await;
    assert!(status == 400 && body.contains("more than one until filter specified"), "{status} {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_out_of_a_range_are_chosen_once() {
    let host = Host::new().await;
    let document = json!({
        "Image": IMAGE,
        "HostConfig": { "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "20100-20200" }] } },
    });
    let creating = (0..8).map(|_| host.post("/containers/create", &document));
    for (status, body) in futures_util::future::join_all(creating).await {
        assert_eq!(status, 201, "{body}");
    }
    let containers = host.engine.containers().await.unwrap();
    let ports: std::collections::BTreeSet<u16> =
        containers.iter().flat_map(|info| &info.spec.ports).map(|port| port.host_port).collect();
    assert_eq!(ports.len(), 8, "{ports:?}");
}

#[tokio::test]
async fn a_command_is_that_of_the_platform_or_none() {
    let host = Host::new().await;
    let other = if Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    let path = format!("/containers/create?name=far&platform=linux/{other}");
    let (status, body) = host.post(&path, &json!({ "Image": IMAGE, "Entrypoint": [] })).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(host.engine.container("far").await.unwrap().inspect().await.unwrap().spec.command, [other]);
    let (status, body) =
        host.post("/containers/create", &json!({ "Image": IMAGE, "Entrypoint": [""] })).await;
    assert!(status == 400 && body.contains("no command specified"), "{status} {body}");
    let wish = json!({ "Image": IMAGE, "Entrypoint": [""], "Cmd": ["own"] });
    assert_eq!(host.post("/containers/create?name=own", &wish).await.0, 201);
    assert_eq!(host.engine.container("own").await.unwrap().inspect().await.unwrap().spec.command, ["own"]);
}

#[tokio::test]
async fn an_image_that_is_mounted_is_not_the_containers() {
    let host = Host::new().await;
    let with = |image: &str, mounted: &str| {
        let mount = json!({ "Type": "image", "Source": mounted, "Target": "/i" });
        json!({ "Image": image, "Cmd": ["sleep"], "HostConfig": { "Mounts": [mount] } })
    };
    // Clients pull on 404, and what they pull is the container's own image.
    let (status, body) = host.post("/containers/create", &with(IMAGE, "registry.example/missing:1")).await;
    assert!(status == 400 && body.contains("registry.example/missing:1"), "{status} {body}");
    let (status, _) = host.post("/containers/create", &with("registry.example/missing:1", IMAGE)).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn lists_take_expressions_and_the_beginning_of_an_id() {
    let host = Host::new().await;
    assert_eq!(host.post("/networks/create", &json!({ "Name": "net" })).await.0, 201);
    for name in ["web1", "db"] {
        let wish =
            json!({ "Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": "net" } });
        let (status, body) = host.post(&format!("/containers/create?name={name}"), &wish).await;
        assert_eq!(status, 201, "{body}");
        host.engine.container(name).await.unwrap().start().await.unwrap();
    }
    let names = async |key: &str, value: &str| {
        let filters = json!({ key: [value] }).to_string();
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = host.ask("GET", &format!("/containers/json?filters={encoded}")).await;
        assert_eq!(status, 200, "{body}");
        let list: Vec<Value> = serde_json::from_str(&body).unwrap();
        let mut names: Vec<String> = list.iter().map(|one| one["Names"][0].to_string()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("name", "^/?web[0-9]$").await, r#""/web1""#);
    assert_eq!(names("name", "web|db").await, r#""/db" "/web1""#);
    // Docker passes over what is no expression.
    assert_eq!(names("name", "web(").await, "");
    let info = host.engine.container("db").await.unwrap().inspect().await.unwrap();
    let network = info.networks.first().and_then(|used| used.network.clone()).expect("it is on a network");
    assert_eq!(names("network", &network.id[..8]).await, r#""/db" "/web1""#);
    assert_eq!(names("network", "").await, "");
}

#[tokio::test]
async fn an_update_is_whole_or_nothing() {
    let host = Host::new().await;
    let mut spec = sleeps();
    spec.auto_remove = true;
    let container = host.create("brief", spec).await;
    let wish = json!({ "Memory": 64 << 20, "RestartPolicy": { "Name": "always" } });
    let (status, body) = host.post("/containers/brief/update", &wish).await;
    assert!(status == 400 && body.contains("AutoRemove"), "{status} {body}");
    assert_eq!(container.inspect().await.unwrap().spec.resources.memory, None);
}

#[tokio::test]
async fn the_end_of_a_process_is_asked_for_again() {
    let host = Host::new().await;
    let container = host.create("web", sleeps()).await;
    container.start().await.unwrap();
    let wish = json!({ "Cmd": ["sh", "-c", "exit 3"] });
    let (_, body) = host.post("/containers/web/exec", &wish).await;
    let id = serde_json::from_str::<Value>(&body).unwrap()["Id"].as_str().unwrap().to_owned();
    host.faults.fail_nth("runtime.exec_wait", 1, ErrorKind::Unavailable);
    let started = host.post(&format!("/exec/{id}/start"), &json!({ "Detach": true })).await;
    assert_eq!(started.0, 200, "{}", started.1);
    let ended = async {
        loop {
            let (_, body) = host.ask("GET", &format!("/exec/{id}/json")).await;
            let document: Value = serde_json::from_str(&body).unwrap();
            if document["Running"] == false {
                return document["ExitCode"].clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.expect("it ends"), 3);
}

#[tokio::test]
async fn all_platforms_are_removed_or_none() {
    let host = Host::new().await;
    let platforms = |second: &str| {
        let of = |architecture: &str| {
            let platform = json!({ "os": "linux", "architecture": architecture }).to_string();
            platform.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
        };
        let first = of(&Platform::host().architecture);
        format!("/v1.50/images/{IMAGE}?platforms={first}&platforms={}", of(second))
    };
    let here = async || {
        let all = host.engine.image_platforms(IMAGE).await.unwrap();
        all.iter().filter(|platform| platform.size.is_some()).count()
    };
    assert_eq!(host.ask("DELETE", &platforms("s390x")).await.0, 404);
    assert_eq!(here().await, 2);
    let other = if Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    let (status, body) = host.ask("DELETE", &platforms(other)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(here().await, 0);
}
