//! A registry with a password: log in, push, pull, look, search, each with the credentials of that request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use engine_api::models::DistributionInspect;
use engine_registry::OciRegistry;
use engine_registry::server::{Htpasswd, MemoryStorage, RegistryServer, hash_password};
use engine_testkit::{image, require};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::images::lines;
use crate::support::Host;

const PASSWORD: &str = "s3cr3t-w0rd";

/// A registry on loopback that wants a password.
struct Registry {
    name: String,
    task: JoinHandle<()>,
}

impl Registry {
    async fn start(host: &Host) -> Self {
        let file = host.path("htpasswd");
        std::fs::write(&file, format!("me:{}\n", hash_password(PASSWORD).unwrap())).unwrap();
        let server = RegistryServer::builder(MemoryStorage::new())
            .with_authorizer(Htpasswd::open(&file).unwrap())
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            server.serve(listener).await.unwrap();
        });
        Self { name, task }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn header(document: &str) -> String {
    format!("X-Registry-Auth: {}\r\n", URL_SAFE.encode(document))
}

/// Sends a request with a header of its own.
async fn with_header(host: &Host, method: &str, path: &str, header: &str) -> (u16, String) {
    host.send(&format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 0\r\n{header}\r\n"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_logs_in_pushes_and_pulls() {
    require!(root, overlayfs, "docker");
    let host = Host::with(|builder| builder.registry(OciRegistry::new())).await;
    let registry = Registry::start(&host).await;
    let name = format!("{}/team/app:1", registry.name);
    host.docker(&["tag", "busybox", &name]).await.ok();

    let refused = host.docker(&["push", &name]).await;
    assert!(refused.code == 1 && refused.err.contains("unauthorized"), "{refused:?}");
    let login = ["login", "-u", "me", "--password-stdin", &registry.name];
    let wrong = host.docker_with(&login, b"wrong-word").await;
    assert!(wrong.code == 1 && wrong.err.contains("unauthorized"), "{wrong:?}");
    assert!(!wrong.err.contains("wrong-word"), "{wrong:?}");
    let said = host.docker_with(&login, PASSWORD.as_bytes()).await.ok();
    assert!(said.contains("Login Succeeded"), "{said}");

    let said = host.docker(&["push", &name]).await.ok();
    let digest = host.get(&format!("/v1.53/images/{name}/json")).await["Descriptor"]["digest"].clone();
    let digest = digest.as_str().unwrap();
    assert!(said.contains(&format!("The push refers to repository [{}/team/app]", registry.name)), "{said}");
    assert!(said.contains("Pushed") && said.contains(&format!("1: digest: {digest} size: ")), "{said}");
    let again = host.docker(&["push", &name]).await.ok();
    assert!(again.contains("Layer already exists"), "{again}");
    let missing = host.docker(&["push", &format!("{}/team/app:2", registry.name)]).await;
    assert!(missing.code == 1 && missing.err.contains("tag does not exist: "), "{missing:?}");
    let missing = host.docker(&["push", &format!("{}/none:1", registry.name)]).await;
    assert!(missing.err.contains("An image does not exist locally with the tag: "), "{missing:?}");

    host.docker(&["rmi", &name]).await.ok();
    host.docker(&["rmi", "busybox"]).await.ok();
    let said = host.docker(&["pull", &name]).await.ok();
    for line in [
        "1: Pulling from team/app".to_owned(),
        format!("Digest: {digest}"),
        format!("Status: Downloaded newer image for {name}"),
        name.clone(),
    ] {
        assert!(said.lines().any(|shown| shown == line), "{line} in {said}");
    }
    assert!(said.contains(": Pulling fs layer") && said.contains(": Pull complete"), "{said}");
    let again = host.docker(&["pull", &name]).await.ok();
    assert!(again.contains(&format!("Status: Image is up to date for {name}")), "{again}");
    let pinned = format!("{}/team/app@{digest}", registry.name);
    host.docker(&["pull", &pinned]).await.ok();

    let missing = host.docker(&["pull", &format!("{}/team/app:9", registry.name)]).await;
    assert!(missing.code == 1 && missing.err.contains("manifest unknown"), "{missing:?}");
    let found = host.docker(&["search", &format!("{}/app", registry.name), "--format", "{{.Name}}"]).await;
    assert_eq!(found.ok().trim(), format!("{}/team/app", registry.name));
    host.docker(&["tag", &name, &format!("{}/team/app:3", registry.name)]).await.ok();
    host.docker(&["push", "-a", &format!("{}/team/app", registry.name)]).await.ok();
    host.docker(&["rmi", "-f", &name, &format!("{}/team/app:3", registry.name)]).await.ok();
    host.docker(&["pull", "-a", &format!("{}/team/app", registry.name)]).await.ok();
    let tags =
        host.docker(&["images", &format!("{}/team/app", registry.name), "--format", "{{.Tag}}"]).await.ok();
    let mut tags: Vec<_> = tags.lines().filter(|tag| *tag != "<none>").collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "3"]);
    host.docker(&["logout", &registry.name]).await.ok();
    let refused = host.docker(&["pull", &name]).await;
    assert!(refused.code == 1 && refused.err.contains("pull access denied"), "{refused:?}");
    std::fs::remove_dir_all(host.path("docker-config")).unwrap();
    drop(registry);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_for_one_request() {
    require!(root, overlayfs);
    let host = Host::with(|builder| builder.registry(OciRegistry::new())).await;
    let registry = Registry::start(&host).await;
    let name = format!("{}/app", registry.name);
    assert_eq!(host.post(&format!("/images/busybox/tag?repo={name}&tag=1"), "").await.0, 201);
    let good = header(&format!(r#"{{"username":"me","password":"{PASSWORD}"}}"#));
    let bad = header(r#"{"username":"me","password":"wrong-word"}"#);

    let push = format!("/images/{name}/push?tag=1");
    for refused in [&bad, &header("{}"), &header("{"), &String::new()] {
        let (status, body) = with_header(&host, "POST", &push, refused).await;
        let last = lines(&body).pop().unwrap();
        assert_eq!(status, 200);
        assert!(last["error"].as_str().unwrap().contains("unauthorized"), "{body}");
        assert_eq!(last["error"], last["errorDetail"]["message"]);
        assert!(!body.contains("wrong-word"), "{body}");
    }
    let (_, body) = with_header(&host, "POST", &push, &good).await;
    let last = lines(&body).pop().unwrap();
    assert_eq!(last["aux"]["Tag"], "1", "{body}");
    assert!(last["aux"]["Digest"].is_string() && last["aux"]["Size"].is_u64());

    let pull = format!("/images/create?fromImage={name}&tag=1");
    for refused in [&bad, &String::new()] {
        let (status, body) = with_header(&host, "POST", &pull, refused).await;
        assert!(status == 404 && body.contains("pull access denied"), "{status} {body}");
        assert!(!body.contains("wrong-word"), "{body}");
    }
    let (status, body) = with_header(&host, "POST", &pull, &good).await;
    let shown = lines(&body);
    assert_eq!(
        (status, &shown[0]["status"], &shown[0]["id"]),
        (200, &"Pulling from app".into(), &"1".into())
    );
    let (status, _) = with_header(&host, "POST", &format!("{pull}&platform=linux/s390x"), &good).await;
    assert!(status == 200 || status == 404, "{status}");
    let (status, body) = with_header(&host, "POST", &format!("{pull}&platform=a/b/c/d"), &good).await;
    assert_eq!(status, 400, "{body}");

    let look = format!("/distribution/{name}:1/json");
    assert_eq!(with_header(&host, "GET", &look, &bad).await.0, 401);
    let (status, body) = with_header(&host, "GET", &look, &good).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(&format!("\"architecture\":\"{}\"", image::host_architecture())), "{body}");
    let typed: DistributionInspect = serde_json::from_str(&body).unwrap();
    assert_eq!(typed.platforms.len(), 1);
    assert_eq!(with_header(&host, "GET", &format!("/distribution/{name}:2/json"), &good).await.0, 404);
    assert_eq!(host.ask("GET", "/distribution/UPPER/json").await.0, 400);
    assert_eq!(host.ask("GET", "/distribution/a/b").await.0, 404);

    // A build has those of each registry, and asks for its base image with them.
    let dockerfile =
        image::LayerBuilder::new().file("Dockerfile", 0o644, format!("FROM {name}:1\nUSER 7\n").as_bytes());
    let context = String::from_utf8(dockerfile.build()).unwrap();
    let building = async |password: &str| {
        let known = format!(
            r#"{{"http://{}/":{{"Username":"me","Password":"{password}"}},"z":null}}"#,
            registry.name
        );
        let (header, length) = (URL_SAFE.encode(known), context.len());
        host.send(&format!(
            "POST /build?pull=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: {length}\r\nX-Registry-Config: {header}\r\n\r\n{context}"
        ))
        .await
    };
    let (_, body) = building("wrong-word").await;
    assert!(!body.contains("Successfully built") && !body.contains("wrong-word"), "{body}");
    let (status, body) = building(PASSWORD).await;
    assert!(status == 200 && body.contains("Successfully built"), "{status} {body}");

    let auth = |password: &str| {
        format!(r#"{{"username":"me","password":"{password}","serveraddress":"http://{}/"}}"#, registry.name)
    };
    let (status, body) = host.post("/auth", &auth(PASSWORD)).await;
    assert!(status == 200 && body.contains("Login Succeeded"), "{status} {body}");
    let (status, body) = host.post("/auth", &auth("wrong-word")).await;
    assert!(status == 401 && !body.contains("wrong-word"), "{status} {body}");
    assert_eq!(host.post("/auth", "{}").await.0, 401);
    assert_eq!(host.post("/auth", r#"{"username":1}"#).await.0, 400);
    assert_eq!(host.post("/auth", "[").await.0, 400);
    assert_eq!(host.ask("GET", "/images/search?term=busybox").await.0, 501);
    assert_eq!(host.ask("GET", "/images/search").await.0, 400);
    drop(registry);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_told() {
    require!(root, overlayfs);
    let host = Host::with(|builder| builder.registry(OciRegistry::new())).await;
    // Taken and given back: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let name = format!("127.0.0.1:{port}/app");
    let (status, body) = host.post(&format!("/images/create?fromImage={name}&tag=1"), "").await;
    assert!(status == 503 && body.contains("connection refused"), "{status} {body}");
    let (status, _) = host.ask("GET", &format!("/distribution/{name}/json")).await;
    assert_eq!(status, 503);
    host.finish().await;
}
