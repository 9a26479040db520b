//! Ways to an engine other than its socket.

use engine_api::client::{ClientTls, ConnectOptions, Host, RemoteEngine, relay};
use engine_api::server::{ApiServer, Listener, MutualTls};
use engine_core::{Engine, ErrorKind};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::path::Path;

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

#[tokio::test]
async fn tcp_takes_certificates_on_both_sides() {
    let pair = Pair::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(), authority());
    certify(&dir.path().join("server"), &ours, ExtendedKeyUsagePurpose::ServerAuth);
    let client = certify(&dir.path().join("client"), &ours, ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = certify(&dir.path().join("stranger"), &others, ExtendedKeyUsagePurpose::ClientAuth);
    let files = |name: &str| dir.path().join("server").join(name);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host: Host = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let listener =
        Listener::tcp(listener, &MutualTls::new(files("cert.pem"), files("key.pem"), files("ca.pem")))
            .unwrap();
    let serving = tokio::spawn({
        let server = ApiServer::new(pair.near.clone());
        async move { server.serve(listener).await }
    });
    let engine = RemoteEngine::connect(&host, ConnectOptions::default().with_tls(client)).await.unwrap();
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
    let carrying = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let host = host.clone();
            tokio::spawn(async move {
                let (input, output) = stream.into_split();
                relay(&host, &ConnectOptions::default(), input, output).await
            });
        }
    });
    let engine = super::connect(&format!("unix://{}", socket.display())).await;
    assert_eq!(engine.images().await.unwrap().len(), 1);
    let container =
        engine.create(super::IMAGE, engine_core::ContainerSpec::command(["echo", "hi"])).await.unwrap();
    let mut streams = container.start_attached(engine_core::io::AttachOptions::piped(false)).await.unwrap();
    let mut out = String::new();
    let reading = tokio::io::AsyncReadExt::read_to_string(streams.stdout.as_mut().unwrap(), &mut out);
    tokio::time::timeout(PATIENCE, reading).await.expect("it ends").unwrap();
    assert_eq!(out, "hi\n");
    carrying.abort();
}
