//! TLS, and users.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_core::digest::Digest;
use engine_registry::OciRegistry;
use engine_registry::server::{FileStorage, Htpasswd, MemoryStorage, RegistryServer, ServerTls};
use engine_testkit::{command, image, require};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::Client;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::{Server, client_tls, limits};

type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for loopback and its key.
pub(crate) fn certificate(issuer: &Issuer, dir: &Path, name: &str) -> ServerTls {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    fs::write(&cert_file, params.signed_by(&key, issuer).unwrap().pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    ServerTls::new(cert_file, key_file)
}

fn roots(issuer: &Issuer) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(issuer.pem().as_bytes()).unwrap()).unwrap();
    roots
}

fn client(config: rustls::ClientConfig) -> Client {
    Client::builder().tls_backend_preconfigured(config).build().unwrap()
}

async fn tls_server(tls: ServerTls) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::open(dir.path()).unwrap();
    let builder = RegistryServer::builder(storage).with_tls(tls).with_limits(limits());
    let mut server = Server::start(builder, Some(dir)).await;
    server.base = format!("https://{}", server.addr);
    server
}

#[tokio::test]
async fn tls_serves_images_and_takes_a_new_certificate_over() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    let mut server = tls_server(certificate(&old, dir.path(), "server")).await;
    server.client = client(client_tls(roots(&old)));
    let image = server.push_image("a", "v1").await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.is(200).body, image.text);
    // A blob of a file that the kernel would send without TLS.
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8 + 1).collect();
    let digest = server.push_blob("a", &bytes).await;
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body == bytes);
    // Plain http gets nothing.
    let plain =
        Client::builder().tls_backend_preconfigured(client_tls(RootCertStore::empty())).build().unwrap();
    assert!(plain.get(format!("http://{}/v2/", server.addr)).send().await.is_err());
    // A half-written file changes nothing.
    fs::write(dir.path().join("server.pem"), "-----BEGIN CERT").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client(client_tls(roots(&old))).get(format!("{}/v2/", server.base)).send().await.unwrap();
    certificate(&new, dir.path(), "server");
    let renewed = async {
        while client(client_tls(roots(&new))).get(format!("{}/v2/", server.base)).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("the new certificate is not used");
    assert!(client(client_tls(roots(&old))).get(format!("{}/v2/", server.base)).send().await.is_err());
}

#[tokio::test]
async fn tls_serves_http2_to_who_speaks_it() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = authority();
    let server = tls_server(certificate(&issuer, dir.path(), "server")).await;
    let mut config = client_tls(roots(&issuer));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = |method: &str, path: String, body: Vec<u8>| {
        let request = hyper::Request::builder().method(method).uri(format!("https://localhost{path}"));
        request.body(axum::body::Body::from(body)).unwrap()
    };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::sha256(&bytes);
    let push = request("POST", format!("/v2/a/blobs/uploads/?digest={digest}"), bytes.clone());
    let said = sender.send_request(push).await.unwrap();
    assert_eq!((said.status().as_u16(), said.version()), (201, hyper::Version::HTTP_2));
    // More at once than there are windows for.
    for said in futures_util::future::join_all((0..20).map(|_| {
        let mut sender = sender.clone();
        let answer = sender.send_request(request("GET", format!("/v2/a/blobs/{digest}"), Vec::new()));
        async {
            axum::body::to_bytes(axum::body::Body::new(answer.await.unwrap().into_body()), 1 << 24).await
        }
    }))
    .await
    {
        assert!(said.unwrap() == bytes);
    }
}

#[tokio::test]
async fn tls_asks_for_the_client_s_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients) = (authority(), authority());
    let file = dir.path().join("clients.pem");
    fs::write(&file, clients.pem()).unwrap();
    let server = tls_server(certificate(&servers, dir.path(), "server").with_client_authorities(file)).await;
    let url = format!("{}/v2/", server.base);
    assert!(client(client_tls(roots(&servers))).get(&url).send().await.is_err(), "nobody was let in");
    let with = |issuer: &Issuer, name: &str| {
        certificate(issuer, dir.path(), name);
        let read = |end: &str| fs::read(dir.path().join(format!("{name}.{end}"))).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(&read("pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&read("key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&servers))
            .with_client_auth_cert(chain, key)
            .unwrap();
        client(config)
    };
    assert!(with(&servers, "stranger").get(&url).send().await.is_err(), "a stranger was let in");
    assert_eq!(with(&clients, "friend").get(&url).send().await.unwrap().status(), 200);
}

#[test]
fn tls_files_that_cannot_be_used_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let build = |tls: ServerTls| RegistryServer::builder(MemoryStorage::new()).with_tls(tls).build();
    certificate(&authority(), dir.path(), "one");
    certificate(&authority(), dir.path(), "two");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), "").unwrap();
    assert!(build(ServerTls::new(path("one.pem"), path("one.key"))).is_ok());
    for (cert, key, named) in [
        ("one.pem", "two.key", "one.pem"),
        ("empty", "one.key", "empty"),
        ("one.pem", "empty", "empty"),
        ("none", "one.key", "none"),
    ] {
        let error = build(ServerTls::new(path(cert), path(key))).unwrap_err();
        assert_eq!(error.kind(), engine_core::ErrorKind::InvalidArgument, "{error:?}");
        assert!(error.report().contains(named), "{error:?}");
    }
    let clients = ServerTls::new(path("one.pem"), path("one.key")).with_client_authorities(path("empty"));
    assert!(build(clients).is_err());
}

fn htpasswd(user: &str, password: &str) -> String {
    command("htpasswd", ["-Bbn", "-C", "5", user, password])
}

async fn status(server: &Server, user: &str, password: &str) -> u16 {
    let request = server.client.get(format!("{}/v2/", server.base)).basic_auth(user, Some(password));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn users_are_those_of_the_file() {
    require!("htpasswd");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    fs::write(&file, htpasswd("alice", "pass:word")).unwrap();
    let users = Htpasswd::open(&file).unwrap();
    let server =
        Server::start(RegistryServer::builder(MemoryStorage::new()).with_authorizer(users), None).await;
    let said = server.get("/v2/").await.fails(401, "UNAUTHORIZED");
    assert!(said.header("www-authenticate").starts_with("Basic realm="), "{said:?}");
    for (user, password, wanted) in [
        ("alice", "pass:word", 200),
        ("alice", "pass:word", 200),
        ("alice", "pass:wor", 401),
        ("alice", "", 401),
        ("bob", "pass:word", 401),
        ("", "", 401),
    ] {
        assert_eq!(status(&server, user, password).await, wanted, "{user}:{password}");
    }
    for header in ["Basic", "Basic !!!", "Basic YWxpY2U=", "Bearer x", "Basic /////w==", &"x".repeat(5000)] {
        server.send("GET", "/v2/", &[("Authorization", header)], "").await.fails(401, "UNAUTHORIZED");
    }
    // Nothing goes past it.
    for (method, path) in [
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/a/tags/list"),
        ("GET", "/v2/a/manifests/x"),
        ("PUT", "/v2/a/manifests/x"),
        ("DELETE", "/v2/a/manifests/x"),
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", "/v2/a/blobs/uploads/x"),
        ("GET", "/v2/a/blobs/x"),
        ("GET", "/v2/a/referrers/x"),
    ] {
        server.send(method, path, &[], "").await.fails(401, "UNAUTHORIZED");
    }
    // A change of the file holds at once; one that cannot be read changes nothing.
    fs::write(&file, format!("{}{}", htpasswd("alice", "new"), htpasswd("bob", "bob"))).unwrap();
    assert_eq!(status(&server, "alice", "pass:word").await, 401);
    assert_eq!((status(&server, "alice", "new").await, status(&server, "bob", "bob").await), (200, 200));
    fs::write(&file, "nonsense").unwrap();
    assert_eq!((status(&server, "alice", "new").await, status(&server, "bob", "bob").await), (200, 200));
}

#[tokio::test]
async fn our_client_logs_in_over_tls() {
    require!("htpasswd");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    fs::write(&file, htpasswd("alice", "secret")).unwrap();
    let issuer = authority();
    let builder = RegistryServer::builder(MemoryStorage::new())
        .with_tls(certificate(&issuer, dir.path(), "server"))
        .with_authorizer(Htpasswd::open(&file).unwrap());
    let server = Server::start(builder, None).await;
    let stranger = OciRegistry::builder().with_system_roots(false).with_ca_pem(issuer.pem()).build().unwrap();
    let good = engine_core::registry_client::Credentials::Basic {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    };
    let host = server.addr.to_string();
    use engine_core::testing::registry_client;
    registry_client::credentials_are_checked(&stranger, &host, &good).await;
    let reference = format!("{host}/a:v1").parse().unwrap();
    registry_client::stranger_is_refused(&stranger, &reference).await;
    registry_client::credentials_are_lent(&stranger, &reference, &good).await;
    let friend = OciRegistry::builder().with_system_roots(false).with_ca_pem(issuer.pem());
    let friend = friend.with_credentials(&host, good).build().unwrap();
    registry_client::pushed_image_is_fetched(&friend, &reference).await;
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn d6_skopeo_logs_in_and_no_secret_is_logged() {
    require!("skopeo", "busybox", "htpasswd");
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone());
    // For the whole process, threads that block included: no other test logs anywhere.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("users"), htpasswd("canary-user", "canary secret")).unwrap();
    let issuer = authority();
    fs::create_dir(path("certs")).unwrap();
    fs::write(path("certs/ca.crt"), issuer.pem()).unwrap();
    let builder = RegistryServer::builder(MemoryStorage::new())
        .with_tls(certificate(&issuer, dir.path(), "server"))
        .with_authorizer(Htpasswd::open(path("users")).unwrap());
    let server = Server::start(builder, None).await;
    image::busybox().write_layout(&dir.path().join("layout"), "v1");
    let (source, target) = (format!("oci:{}:v1", path("layout")), format!("docker://{}/a:v1", server.addr));
    let certs = path("certs");
    let copy = move || {
        let creds = "canary-user:canary secret";
        command("skopeo", ["copy", "--dest-cert-dir", &certs, "--dest-creds", creds, &source, &target]);
    };
    tokio::task::spawn_blocking(copy).await.unwrap();
    let said = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(said.contains("method=PUT path=\"/v2/a/manifests/v1\""), "there is a log");
    for secret in ["canary secret", "Y2FuYXJ5LXVzZXI6Y2FuYXJ5IHNlY3JldA==", "$2y$"] {
        assert!(!said.contains(secret), "{secret} is in the log");
    }
}
