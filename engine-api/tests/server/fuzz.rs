//! Requests made up by a generator, over every path, method and document, and over every operation of the engine's own protocol:
//! whatever comes, the answer is no failure of ours, it comes, and the server goes on.
//!
//! The engine is in memory, so that nothing asked for here reaches the machine. The requests are the same each time;
//! `ENGINE_FUZZ_SEED` and `ENGINE_FUZZ_REQUESTS` try others, and more.

use std::fmt::Write as _;
use std::time::Duration;

use engine_api::server::{ApiServer, TempServer};
use engine_core::Engine;
use engine_core::engine::PullOptions;
use engine_core::memory::{MemoryImageStore, MemoryNetwork, MemoryRegistry, MemoryRuntime, MemoryVolumes};
use engine_core::testing::content::SampleImage;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::random::Random;
use crate::support::PATIENCE;

const REQUESTS: u64 = 3000;

/// Paths; `*` is a name.
const PATHS: &[&str] = &[
    "/_ping",
    "/version",
    "/info",
    "/events",
    "/system/df",
    "/auth",
    "/commit",
    "/build",
    "/build/prune",
    "/session",
    "/containers/json",
    "/containers/create",
    "/containers/prune",
    "/containers/*",
    "/containers/*/json",
    "/containers/*/archive",
    "/containers/*/attach",
    "/containers/*/attach/ws",
    "/containers/*/changes",
    "/containers/*/exec",
    "/containers/*/export",
    "/containers/*/kill",
    "/containers/*/logs",
    "/containers/*/pause",
    "/containers/*/rename",
    "/containers/*/resize",
    "/containers/*/restart",
    "/containers/*/start",
    "/containers/*/stats",
    "/containers/*/stop",
    "/containers/*/top",
    "/containers/*/unpause",
    "/containers/*/update",
    "/containers/*/wait",
    "/containers/*/checkpoints",
    "/exec/*/json",
    "/exec/*/resize",
    "/exec/*/start",
    "/images/json",
    "/images/create",
    "/images/get",
    "/images/load",
    "/images/prune",
    "/images/search",
    "/images/*",
    "/images/*/json",
    "/images/*/history",
    "/images/*/get",
    "/images/*/push",
    "/images/*/tag",
    "/distribution/*/json",
    "/networks",
    "/networks/create",
    "/networks/prune",
    "/networks/*",
    "/networks/*/connect",
    "/networks/*/disconnect",
    "/volumes",
    "/volumes/create",
    "/volumes/prune",
    "/volumes/*",
    "/plugins",
    "/plugins/*/json",
    "/swarm",
    "/nodes/*",
    "/services",
    "/secrets/*",
    "/configs",
    "/tasks",
    "/*",
    "/",
];
const METHODS: &[&str] = &["GET", "POST", "DELETE", "PUT", "HEAD", "PATCH", "OPTIONS", "get", "X"];
const NAMES: &[&str] = &[
    "box",
    "box",
    "box",
    "nobody",
    "registry.example/app:1",
    "registry.example%2Fapp:1",
    "bridge",
    "data",
    "net",
    "%00",
    "..",
    "..%2f..%2fetc",
    "sha256:00",
    "%ff%fe",
    "%F0%9F%90%B3",
    "%2e",
    "-",
    "a%20b",
    "none",
    "0123456789ab",
    "%",
    "%zz",
    "",
];
const PARAMS: &[&str] = &[
    "all",
    "limit",
    "size",
    "filters",
    "name",
    "platform",
    "t",
    "signal",
    "condition",
    "v",
    "force",
    "link",
    "h",
    "w",
    "follow",
    "stdout",
    "stderr",
    "stdin",
    "stream",
    "logs",
    "since",
    "until",
    "timestamps",
    "tail",
    "details",
    "one-shot",
    "path",
    "noOverwriteDirNonDir",
    "copyUIDGID",
    "detachKeys",
    "ps_args",
    "fromImage",
    "fromSrc",
    "repo",
    "tag",
    "message",
    "changes",
    "names",
    "quiet",
    "term",
    "container",
    "comment",
    "author",
    "pause",
    "type",
    "verbose",
    "digests",
    "manifests",
    "shared-size",
    "platforms",
    "noprune",
    "scope",
    "nothing",
];
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "true",
    "false",
    "-1",
    "x",
    "99999999999999999999",
    "1e309",
    "box",
    "busybox",
    "registry.example/app",
    "/",
    "/etc/passwd",
    "..",
    "%00",
    "%ff",
    "running",
    "not-running",
    "removed",
    "SIGKILL",
    "TERM",
    "1700000000.5",
    "10m",
    "all",
    "linux/amd64",
    "{\"os\":\"linux\"}",
    "{",
    "[]",
    "{\"label\":[\"a\"]}",
    "{\"label\":{\"a\":true}}",
    "{\"status\":[\"x\"]}",
    "{\"name\":[\"(\"]}",
    "{\"until\":[\"never\"]}",
    "{\"dangling\":[\"maybe\"]}",
    "CMD+[",
    "ENV%20a",
    "ctrl-p,ctrl-q",
    "-o+pid",
    "2006-01-02T15:04:05",
    "container",
    "latest",
    "UPPER",
    "%2e%2e%2f",
];

/// Documents as clients send them.
fn documents() -> Vec<Value> {
    vec![
        json!({}),
        json!({
            "Image": "registry.example/app:1", "Cmd": ["sleep", "1000"], "Env": ["A=b", "C"], "Labels": {"a": "b"}, "Tty": true,
            "User": "1:2", "WorkingDir": "/tmp", "ExposedPorts": {"80/tcp": {}, "1-3/udp": {}}, "Volumes": {"/v": {}},
            "StopSignal": "KILL", "StopTimeout": 0, "Entrypoint": ["/bin/sh"], "Hostname": "h",
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Retries": 2},
            "HostConfig": {
                "Memory": 67_108_864, "NanoCpus": 500_000_000, "PidsLimit": 10, "RestartPolicy": {"Name": "on-failure"},
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}, "CapAdd": ["NET_ADMIN"],
                "Mounts": [{"Type": "volume", "Source": "data", "Target": "/d"}, {"Type": "tmpfs", "Target": "/t"}],
                "Tmpfs": {"/x": "size=1m"}, "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "NetworkMode": "bridge",
                "ExtraHosts": ["a:192.0.2.1"], "Dns": ["192.0.2.1"], "SecurityOpt": ["no-new-privileges"], "Sysctls": {"a": "b"},
                "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}, "ShmSize": 1024, "ConsoleSize": [1, 2],
                "IpcMode": "private", "CgroupnsMode": "private", "GroupAdd": ["1"], "VolumesFrom": ["box"],
            },
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.1"}}}},
        }),
        json!({"Memory": 67_108_864, "CpuShares": 2, "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}),
        json!({"Cmd": ["true"], "AttachStdout": true, "Tty": false, "Env": ["A=b"], "User": "1", "DetachKeys": "ctrl-a"}),
        json!({"Detach": true, "Tty": false, "ConsoleSize": [24, 80]}),
        json!({
            "Name": "net", "Driver": "bridge", "Internal": true, "Labels": {"a": "b"}, "Options": {"x": "y"}, "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "IPRange": "10.9.0.0/25"}]},
        }),
        json!({"Container": "box", "EndpointConfig": {"Aliases": ["nick"], "GwPriority": 1}, "Force": true}),
        json!({"Name": "data", "Driver": "local", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b"}}),
        json!({"username": "somebody", "password": "secret", "serveraddress": "registry.example"}),
    ]
}

/// Arguments of operations as our client sends them, for the container `id`; those that are not here get some of another's.
fn arguments(id: &str) -> Vec<(&'static str, Value)> {
    let image = "registry.example/app:1";
    let spec = serde_json::to_value(engine_core::ContainerSpec::command(["cat"])).unwrap();
    let exec = serde_json::to_value(engine_core::ExecSpec::new(["cat"])).unwrap();
    let all = json!({"stdin": true, "stdout": true, "stderr": true, "blocking": true});
    let input = json!({"stdin": true, "stdout": false, "stderr": false, "blocking": false});
    let file = json!({"title": "a", "media_type": "text/plain", "size": 5});
    let soon = json!({"secs": 0, "nanos": 1});
    vec![
        ("containers", Value::Null),
        ("hello", Value::Null),
        ("find_container", json!(["box"])),
        ("inspect_container", json!([id])),
        ("create_container", json!([image, spec])),
        ("create_scoped_container", json!([image, spec])),
        ("start_container", json!([id])),
        ("stop_container", json!([id, null, soon])),
        ("restart_container", json!([id, 9, soon])),
        ("kill_container", json!([id, 28])),
        ("rename_container", json!([id, "box"])),
        ("update_container", json!([id, {"memory": 67_108_864}])),
        ("wait_container", json!([id])),
        ("container_stats_stream", json!([id, soon])),
        ("attach", json!([id, all])),
        ("attach", json!([id, input])),
        ("exec", json!([id, exec, all, {}])),
        ("exec", json!([id, exec, input, {"snapshot": "Never"}])),
        ("exec_unattached", json!([id, exec, all, {}])),
        ("start_attached", json!([id, all])),
        ("logs", json!([id, {"follow": true}])),
        ("resize", json!([id, {"columns": 80, "rows": 24}])),
        ("stat_path", json!([id, "/etc"])),
        ("copy_in", json!([id, "/", {}])),
        ("copy_out", json!([id, "/"])),
        ("export_container", json!([id])),
        ("commit_container", json!([id, {}])),
        ("fork_container", json!([id, {}])),
        ("image_for", json!([image, {"os": "linux", "architecture": "amd64"}])),
        ("images", Value::Null),
        ("tag_image", json!([image, "registry.example/app:2"])),
        ("remove_image", json!(["registry.example/app:2", true])),
        ("pull", json!([image, {}, null])),
        ("push", json!([image, {}, {"username": "a", "password": "b"}])),
        ("save", json!([[image], {"format": "Oci"}])),
        ("export_image", json!([image, {"os": "linux", "architecture": "amd64"}])),
        ("load", json!([{}, "name"])),
        ("import", json!(["registry.example/flat:1", {}])),
        ("create_artifact", json!(["registry.example/bits:1", [file], {}])),
        ("attach_artifact", json!([image, [file, file], {}])),
        ("artifact_content", json!([image, 0, format!("sha256:{}", "0".repeat(64))])),
        ("create_volume", json!(["data", {}])),
        ("export_volume", json!(["data"])),
        ("import_volume", json!(["data"])),
        ("create_network", json!(["net", {}])),
        ("connect_container", json!([id, "net", {}])),
        ("create_secret", json!(["key", "aGVsbG8=", {}])),
        ("events", json!([{}])),
    ]
}

/// Values and changes.
impl Random {
    /// A value that has no place anywhere.
    fn value(&mut self) -> Value {
        match self.below(14) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(i64::MIN),
            4 => json!(u64::MAX),
            5 => json!(1e300),
            6 => json!(""),
            7 => json!("x".repeat(20_000)),
            8 => json!([]),
            9 => json!({}),
            10 => json!([null, {"a": []}, "b", 1]),
            11 => json!({"": {"a": null}, "80/nothing": [], "\u{0}": 0}),
            12 => json!("\u{0}\u{1f433}/../:ro,=:"),
            _ => json!(self.pick(VALUES)),
        }
    }

    /// Changes something, somewhere in a document.
    fn mutate(&mut self, document: &mut Value) {
        match document {
            Value::Object(map) if !map.is_empty() && !self.one_in(4) => {
                let key = map.keys().nth(self.below(map.len())).cloned().unwrap();
                if self.one_in(8) {
                    map.remove(&key);
                } else if let Some(value) = map.get_mut(&key) {
                    self.mutate(value);
                }
            }
            Value::Object(map) if self.one_in(2) => {
                let name = self.pick(PARAMS).to_owned();
                map.insert(name, self.value());
            }
            Value::Array(list) if !list.is_empty() && !self.one_in(4) => {
                let at = self.below(list.len());
                self.mutate(&mut list[at]);
            }
            other => *other = self.value(),
        }
    }

    fn body(&mut self, documents: &[Value]) -> Vec<u8> {
        let mut document = documents[self.below(documents.len())].clone();
        for _ in 0..self.below(4) {
            self.mutate(&mut document);
        }
        let mut bytes = document.to_string().into_bytes();
        match self.below(12) {
            0 => bytes.truncate(self.below(bytes.len() + 1)),
            1 => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            2 => bytes.clear(),
            3 => bytes = vec![0; 1024],
            _ => {}
        }
        bytes
    }

    /// Bytes that are frames, or nearly.
    fn frames(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        for _ in 0..self.below(5) {
            let payload = vec![b'x'; if self.one_in(4) { self.below(100_000) } else { self.below(20) }];
            let length = if self.one_in(6) { self.next() as u32 } else { payload.len() as u32 };
            frames.push(if self.one_in(4) { self.next() as u8 } else { 4 + self.below(2) as u8 });
            frames.extend_from_slice(&length.to_be_bytes());
            frames.extend_from_slice(&payload);
        }
        frames
    }

    /// A request of the engine's own protocol, and whether it is whole.
    fn operation(&mut self, operations: &[String], known: &[(&'static str, Value)]) -> (Vec<u8>, bool) {
        let (mut operation, mut arguments) = known[self.below(known.len())].clone();
        if self.one_in(4) {
            operation = &operations[self.below(operations.len())];
        }
        for _ in 0..self.below(5).saturating_sub(2) {
            self.mutate(&mut arguments);
        }
        let mut body = arguments.to_string().into_bytes();
        if self.one_in(20) {
            let at = self.below(body.len());
            body[at] ^= 1 << self.below(8);
        }
        body.push(if self.one_in(40) { b' ' } else { b'\n' });
        let session = ["attach", "exec", "start_attached"].contains(&operation);
        match self.below(4) {
            0 if !session => body.extend_from_slice(b"helloworld and more"),
            1 if !session => body.extend(std::iter::repeat_n(0, self.below(2048))),
            _ => {}
        }
        let mut head = format!(
            "POST {}{operation} HTTP/1.1\r\nHost: e\r\nConnection: {}\r\n",
            "/engine/v1/",
            if session { "Upgrade" } else { "close" }
        );
        if session != self.one_in(10) {
            head.push_str("Upgrade: engine-streams\r\n");
        }
        let kind = if self.one_in(20) { "application/json" } else { "application/vnd.engine.v1" };
        let said = body.len() + if self.one_in(20) { 5 } else { 0 };
        let whole = said == body.len();
        let mut request =
            [format!("{head}Content-Type: {kind}\r\nContent-Length: {said}\r\n\r\n").as_bytes(), &body]
                .concat();
        if session && whole {
            request.extend(self.frames());
        }
        (request, whole)
    }

    /// A request, and whether it is whole.
    fn request(&mut self, documents: &[Value]) -> (Vec<u8>, bool) {
        let mut path = self.pick(PATHS).replace('*', self.pick(NAMES));
        if self.one_in(40) {
            path.push_str(&"x".repeat(5000));
        }
        let version = match self.below(6) {
            0 => format!("/v1.{}", self.below(60)),
            1 => self.pick(&["/v1.24", "/v1.53", "/v1.44", "/v0", "/v1.", "/v1.99999999999"]).to_owned(),
            _ => String::new(),
        };
        let mut target = format!("{version}{path}");
        for number in 0..self.below(5) {
            let sign = if number == 0 { '?' } else { '&' };
            let value = self.pick(VALUES).replace(['{', '"', '}', '[', ']'], "%7B");
            let value = if self.one_in(2) { encoded(self.pick(VALUES)) } else { value };
            let _ = write!(target, "{sign}{}={value}", self.pick(PARAMS));
        }
        let method = if self.one_in(10) { self.pick(METHODS) } else { self.pick(&METHODS[..4]) };
        let body = if method == "GET" && !self.one_in(10) { Vec::new() } else { self.body(documents) };
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
        if !self.one_in(10) {
            head.push_str("Content-Type: application/json\r\n");
        }
        if self.one_in(10) {
            let _ = write!(
                head,
                "X-Registry-Auth: {}\r\n",
                self.pick(&["e30=", "x", "", "bnVsbA==", "eyJ1c2VybmFtZSI6MX0="])
            );
        }
        if self.one_in(10) {
            head.push_str("Upgrade: tcp\r\n");
        }
        let kind = self.below(8);
        let mut request = match kind {
            0 => {
                let mut request =
                    format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).into_bytes();
                request.extend_from_slice(&body);
                request.extend_from_slice(b"\r\n0\r\n\r\n");
                request
            }
            // It says that there is more.
            1 => [format!("{head}Content-Length: {}\r\n\r\n", body.len() + 5).as_bytes(), &body].concat(),
            _ => [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
        };
        let cut = self.one_in(30);
        if cut {
            request.truncate(self.below(request.len()));
        }
        (request, !cut && kind != 1)
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "%{byte:02X}");
        all
    })
}

async fn engine() -> Engine {
    let registry = MemoryRegistry::new();
    let (image, reference) = (SampleImage::new("a"), "registry.example/app:1".parse().unwrap());
    for layer in &image.layers {
        registry.add_blob(&reference, &layer.descriptor.media_type, layer.bytes.clone());
    }
    registry.add_blob(&reference, &image.config.media_type, image.config_bytes.clone());
    registry.add_manifest(&reference, &image.manifest.media_type, image.manifest_bytes.clone());
    let builder = Engine::in_memory().image_store(MemoryImageStore::new()).runtime(MemoryRuntime::new());
    let builder =
        builder.registry(registry).volume_driver(MemoryVolumes::new()).network(MemoryNetwork::new());
    let engine = builder.open().await.unwrap();
    engine.pull(&reference, PullOptions::default()).await.unwrap();
    engine
}

/// Sends a request, ends this side, and returns the head of the answer, or nothing. What follows for ever is not waited for.
async fn ask(server: &TempServer, request: &[u8]) -> String {
    let mut stream = sent(server, request).await;
    let _ = stream.shutdown().await;
    head(&mut stream, &mut Vec::new()).await
}

/// As [`ask`], of the engine's own protocol, in which the end of this side is the end of the client: only what lasts gets to see it.
async fn call(server: &TempServer, request: &[u8]) -> String {
    let (mut stream, mut read) = (sent(server, request).await, Vec::new());
    let soon = tokio::time::timeout(Duration::from_millis(50), head(&mut stream, &mut read)).await;
    if soon.is_err() || read.starts_with(b"HTTP/1.1 5") {
        let _ = stream.shutdown().await;
        head(&mut stream, &mut read).await;
    }
    if read.starts_with(b"HTTP/1.1 5") {
        // What is wrong is told behind the head.
        let _ = stream.read_to_end(&mut read).await;
    }
    String::from_utf8_lossy(&read).into_owned()
}

async fn sent(server: &TempServer, request: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(server.socket()).await.unwrap();
    // One that is refused before it has sent everything may find the other side closed.
    let _ = stream.write_all(request).await;
    stream
}

async fn head(stream: &mut UnixStream, head: &mut Vec<u8>) -> String {
    let mut piece = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8_lossy(head).into_owned()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_a_failure_of_ours_or_stops_the_server() {
    let engine = engine().await;
    let server = ApiServer::new(engine.clone()).serve_temp().await.unwrap();
    let operations = crate::remote::hostile::operations();
    let mut known = Vec::new();
    let mut random = Random::new(number("ENGINE_FUZZ_SEED", 0x9e37_79b9_7f4a_7c15));
    let documents = documents();
    let make = br#"{"Image": "registry.example/app:1", "Cmd": ["sleep", "1000"], "StopTimeout": 0}"#;
    let post = |path: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let (requests, mut done, mut calls) = (number("ENGINE_FUZZ_REQUESTS", REQUESTS), 0, (0, 0));
    for count in 0..requests {
        if count % 50 == 0 {
            // What was removed meanwhile is there again.
            ask(&server, &post("/images/create?fromImage=registry.example/app&tag=1", b"")).await;
            ask(&server, &post("/containers/create?name=box", make)).await;
            ask(&server, &post("/containers/box/start", b"")).await;
            let found = engine.container("box").await;
            known = arguments(found.map_or_else(|_| "0".repeat(64), |found| found.id().to_string()).as_str());
        }
        if random.one_in(4) {
            let (request, whole) = random.operation(&operations, &known);
            let shown = || {
                format!("request {count}: {}", String::from_utf8_lossy(&request[..request.len().min(3000)]))
            };
            let answer = tokio::time::timeout(PATIENCE, call(&server, &request)).await;
            let answer = answer.unwrap_or_else(|_| panic!("no answer to {}", shown()));
            let status: u16 = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            calls = (calls.0 + 1, calls.1 + u64::from((101..300).contains(&status)));
            // Whoever goes is told so, and of an archive, what is wrong with it: neither is the server's fault, which HTTP knows no word for.
            let kinds = ["canceled", "corrupt", "resource_exhausted"];
            let told = status < 500
                || [501, 503].contains(&status)
                || kinds.iter().any(|kind| answer.contains(&format!("\"kind\":\"{kind}\"")));
            assert!(told && (status >= 100 || answer.is_empty() && !whole), "{answer:?} to {}", shown());
            continue;
        }
        let (request, whole) = random.request(&documents);
        let shown =
            || format!("request {count}: {}", String::from_utf8_lossy(&request[..request.len().min(3000)]));
        let answer = tokio::time::timeout(PATIENCE, ask(&server, &request)).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {}", shown()));
        let status: u16 = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        done += u64::from((200..300).contains(&status));
        // What is not there and never will be says so, and so does a swarm's.
        let told = status < 500 || [501, 503].contains(&status);
        // One that was cut off may be dropped.
        assert!(told && (status >= 100 || answer.is_empty() && !whole), "{answer:?} to {}", shown());
    }
    // They are not so wrong that nothing looks at them.
    assert!(done > requests / 50, "{done} of {requests}");
    assert!(calls.1 > calls.0 / 4, "{calls:?}");
    let alive = "GET /containers/json?all=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let answer = tokio::time::timeout(Duration::from_secs(30), ask(&server, alive.as_bytes())).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
