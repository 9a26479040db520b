//! Ways to an engine other than its socket.

use engine_api::client::{ClientTls, ConnectOptions, Host, RemoteEngine, relay};
use engine_api::server::{ApiServer, Listener, MutualTls};
use engine_core::{Engine, ErrorKind};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Pair;
use crate::support::PATIENCE;

/// Writes an authority, and a certificate and a key of it, as Docker names them.
fn certify(
    dir: &Path,
    authority: &CertifiedIssuer<'_, KeyPair>,
    usage: ExtendedKeyUsagePurpose,
) -> ClientTls {
    std::fs::create_dir_all(dir).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    ClientTls::in_directory(dir)
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Serves an engine by TCP. Returns where, what its clients need, which lies in `dir`, and what is to be aborted.
pub(super) async fn serve(engine: &Engine, dir: &Path) -> (Host, ClientTls, JoinHandle<()>) {
    let ours = authority();
    certify(&dir.join("server"), &ours, ExtendedKeyUsagePurpose::ServerAuth);
    let client = certify(&dir.join("client"), &ours, ExtendedKeyUsagePurpose::ClientAuth);
    let files = |name: &str| dir.join("server").join(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host: Host = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let tls = MutualTls::new(files("cert.pem"), files("key.pem"), files("ca.pem"));
    let listener = Listener::tcp(listener, &tls).unwrap();
    let server = ApiServer::new(engine.clone());
    let serving = tokio::spawn(async move { server.serve(listener).await.unwrap() });
    (host, client, serving)
}

#[tokio::test]
async fn tcp_takes_certificates_on_both_sides() {
    let pair = Pair::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (host, client, serving) = serve(&pair.near, dir.path()).await;
    let others = authority();
    let stranger = certify(&dir.path().join("stranger"), &others, ExtendedKeyUsagePurpose::ClientAuth);
    let with_tls = ConnectOptions::default().with_tls(client);
    let engine = RemoteEngine::connect(&host, with_tls.clone()).await.unwrap();
    assert_eq!(engine.host(), &host);
    assert_eq!(Engine::from(engine).images().await.unwrap().len(), 1);
    let error = RemoteEngine::connect(&host, ConnectOptions::default().with_tls(stranger)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(RemoteEngine::connect(&host, ConnectOptions::default()).await.is_err());
    // Nobody elsewhere is spoken to without them; nothing is sent to find out.
    let elsewhere: Host = "tcp://192.0.2.1:9".parse().unwrap();
    let error = RemoteEngine::connect(&elsewhere, ConnectOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    serving.abort();
    // One without TLS, and one that hangs up: the certificates have no part in that.
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host: Host = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        });
        let error = RemoteEngine::connect(&host, with_tls.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        plain.await.unwrap();
    }
}

#[tokio::test]
async fn one_that_takes_connections_and_never_answers_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("silent.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let host: Host = format!("unix://{}", socket.display()).parse().unwrap();
    let options = ConnectOptions::default().with_timeout(Duration::from_millis(50));
    let connecting = tokio::time::timeout(PATIENCE, RemoteEngine::connect(&host, options));
    let error = connecting.await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("it does not answer within 50ms"), "{}", error.report());
}

#[tokio::test]
async fn input_over_tcp_is_no_request() {
    let pair = Pair::new().await;
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    certify(&dir.path().join("server"), &ours, ExtendedKeyUsagePurpose::ServerAuth);
    let tls = certify(&dir.path().join("client"), &ours, ExtendedKeyUsagePurpose::ClientAuth);
    let files = |name: &str| dir.path().join("server").join(name);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host: Host = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let listener =
        Listener::tcp(listener, &MutualTls::new(files("cert.pem"), files("key.pem"), files("ca.pem")))
            .unwrap();
    let server = ApiServer::new(pair.near.clone());
    let serving = tokio::spawn(async move { server.serve(listener).await });
    let mut spec = engine_core::ContainerSpec::command(["cat"]);
    (spec.name, spec.open_stdin) = (Some("cat".parse().unwrap()), true);
    pair.near.create(super::IMAGE, spec).await.unwrap().start().await.unwrap();
    // What is written here goes out by TLS as it is.
    let (mut client, far) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(far);
    let carrying =
        tokio::spawn(
            async move { relay(&host, &ConnectOptions::default().with_tls(tls), input, output).await },
        );
    let attach = b"POST /containers/cat/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n\r\n";
    client.write_all(attach).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(PATIENCE, client.read_u8()).await.expect("it answers").unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let input = "POST /exec/1/start HTTP/1.1\r\n\r\nand no more\n";
    client.write_all(input.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while read.len() < input.len() {
        // A frame: the stream, and the length.
        let mut head = [0; 8];
        tokio::time::timeout(PATIENCE, client.read_exact(&mut head)).await.expect("it comes back").unwrap();
        let mut bytes = vec![0; usize::from(head[7])];
        client.read_exact(&mut bytes).await.unwrap();
        read.extend(bytes);
    }
    assert_eq!(String::from_utf8_lossy(&read), input);
    carrying.abort();
    serving.abort();
}

#[tokio::test]
async fn ssh_says_itself_what_is_wrong() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host: Host = format!("ssh://127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    // Nobody listens there any more.
    drop(listener);
    let error = RemoteEngine::connect(&host, ConnectOptions::default()).await.unwrap_err();
    match error.kind() {
        // There is no ssh here.
        ErrorKind::NotFound => assert!(error.hint().is_some(), "{error:?}"),
        kind => {
            assert_eq!(kind, ErrorKind::Unavailable);
            assert!(error.report().contains("Connection refused"), "{}", error.report());
        }
    }
}

#[tokio::test]
async fn a_connection_can_be_carried() {
    let pair = Pair::new().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("relay.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let host: Host = pair.server.docker_host().parse().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let carrying = tokio::spawn({
        let accepted = Arc::clone(&accepted);
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let host = host.clone();
                tokio::spawn(async move {
                    let (input, output) = stream.into_split();
                    relay(&host, &ConnectOptions::default(), input, output).await
                });
            }
        }
    });
    let engine = super::connect(&format!("unix://{}", socket.display())).await;
    assert_eq!(engine.images().await.unwrap().len(), 1);
    // By ssh, each is a handshake, and may be a password.
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    let container =
        engine.create(super::IMAGE, engine_core::ContainerSpec::command(["echo", "hi"])).await.unwrap();
    let mut streams = container.start_attached(engine_core::io::AttachOptions::piped(false)).await.unwrap();
    let mut out = String::new();
    let reading = tokio::io::AsyncReadExt::read_to_string(streams.stdout.as_mut().unwrap(), &mut out);
    tokio::time::timeout(PATIENCE, reading).await.expect("it ends").unwrap();
    assert_eq!(out, "hi\n");
    carrying.abort();
}
