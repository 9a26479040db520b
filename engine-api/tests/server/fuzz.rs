//! Requests made up by a generator, over every path, method and document: whatever comes, the answer is no failure of ours, it
//! comes, and the server goes on.
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
    "/engine/v1/*",
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

/// xorshift64*, by which a seed tells all requests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

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
    let mut stream = UnixStream::connect(server.socket()).await.unwrap();
    // One that is refused before it has sent everything may find the other side closed.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_a_failure_of_ours_or_stops_the_server() {
    let server = ApiServer::new(engine().await).serve_temp().await.unwrap();
    let mut random = Random(number("ENGINE_FUZZ_SEED", 0x9e37_79b9_7f4a_7c15));
    let documents = documents();
    let make = br#"{"Image": "registry.example/app:1", "Cmd": ["sleep", "1000"], "StopTimeout": 0}"#;
    let post = |path: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let (requests, mut done) = (number("ENGINE_FUZZ_REQUESTS", REQUESTS), 0);
    for count in 0..requests {
        if count % 50 == 0 {
            // What was removed meanwhile is there again.
            ask(&server, &post("/images/create?fromImage=registry.example/app&tag=1", b"")).await;
            ask(&server, &post("/containers/create?name=box", make)).await;
            ask(&server, &post("/containers/box/start", b"")).await;
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
    let alive = "GET /containers/json?all=1 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let answer = tokio::time::timeout(Duration::from_secs(30), ask(&server, alive.as_bytes())).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
