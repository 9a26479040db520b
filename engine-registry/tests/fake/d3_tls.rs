//! SECURITY D3: no downgrade, no unproven certificate.

use std::fs;
use std::sync::Arc;

use engine_core::error::ErrorKind;
use engine_core::registry_client::{Credentials, RegistryClient as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::quick;
use crate::server::{Fake, Reply, Seen};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(names: &[&str], expired: bool) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    if expired {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    params
}

fn identity(params: CertificateParams, issuer: Option<&Authority>) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate, key)
}

fn config((certificate, key): &(rcgen::Certificate, KeyPair), clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
}

fn tags(seen: &Seen) -> Reply {
    match seen.header("authorization") {
        Some(_) => Reply::new(200).body(r#"{"name":"a","tags":["secret"]}"#),
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    }
}

fn login() -> Credentials {
    Credentials::Basic { username: "robot".to_owned(), password: "canary-9".to_owned() }
}

#[tokio::test]
async fn d3_certificates_that_prove_nothing_end_the_call() {
    let ca = authority();
    let names = ["127.0.0.1", "localhost"];
    let bad = [
        ("self-signed", identity(leaf(&names, false), None), "authority"),
        ("expired", identity(leaf(&names, true), Some(&ca)), "expired"),
        ("wrong name", identity(leaf(&["registry.example"], false), Some(&ca)), "another name"),
        ("wrong authority", identity(leaf(&names, false), Some(&authority())), "authority"),
    ];
    for (name, identity, word) in bad {
        let fake = Fake::tls(config(&identity, None), tags).await;
        // Loopback, where http would be allowed: a certificate that fails is no reason for it.
        let registry = quick().with_ca_pem(ca.pem()).with_credentials(&fake.host(), login()).build().unwrap();
        for _ in 0..2 {
            let error = registry.list_tags(&fake.reference("a")).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (ErrorKind::Unavailable, false),
                "{name}: {error:?}"
            );
            assert!(error.report().contains(word), "{name}: {error:?}");
        }
        assert!(fake.requests().is_empty(), "{name}: a request was sent");
        // Unless the user says so.
        let registry =
            quick().with_insecure(&fake.host()).with_credentials(&fake.host(), login()).build().unwrap();
        assert_eq!(registry.list_tags(&fake.reference("a")).await.unwrap(), ["secret"], "{name}");
    }
    // A guest in somebody's process: the program's own choice of a provider is left to it.
    assert!(tokio_rustls::rustls::crypto::CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn d3_a_host_that_speaks_no_tls_gets_no_request() {
    let fake = Fake::start(tags).await;
    // Not a loopback address by its name, though it leads here.
    let host = format!("0.0.0.0:{}", fake.port());
    let reference = format!("{host}/a").parse().unwrap();
    let registry = quick().with_credentials(&host, login()).build().unwrap();
    let error = registry.list_tags(&reference).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false), "{error:?}");
    assert!(error.report().contains("insecure"), "{error:?}");
    let error = registry.check_credentials(&host, &login()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(fake.requests().is_empty());
    let raw = fake.raw();
    assert!(!raw.is_empty() && !String::from_utf8_lossy(&raw).contains("HTTP/1.1"), "only TLS hellos");
    // Listed, by name or by network.
    for entry in [host.as_str(), "0.0.0.0/8"] {
        let registry = quick().with_insecure(entry).with_credentials(&host, login()).build().unwrap();
        assert_eq!(registry.list_tags(&reference).await.unwrap(), ["secret"]);
    }
}

#[tokio::test]
async fn d3_https_never_steps_down_to_http() {
    let ca = authority();
    let plain = Fake::start(|_| Reply::new(200).body("{}")).await;
    let to = plain.host();
    let identity = identity(leaf(&["127.0.0.1"], false), Some(&ca));
    let fake = Fake::tls(config(&identity, None), move |seen| match seen.method.as_str() {
        "POST" => Reply::new(202).header("Location", format!("http://{to}/u")),
        "HEAD" if seen.path().contains("/blobs/") => Reply::new(404),
        _ => Reply::new(307).header("Location", format!("http://{to}/x")),
    })
    .await;
    let registry = quick().with_ca_pem(ca.pem()).build().unwrap();
    let reference = fake.reference("a:b");
    let mut errors = vec![registry.resolve(&reference).await.unwrap_err()];
    errors.push(registry.fetch_manifest(&reference).await.unwrap_err());
    errors.push(registry.list_tags(&reference).await.unwrap_err());
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.report().contains("https to http"), "{error:?}");
    }
    assert!(plain.raw().is_empty());
    // Nor does a realm.
    let to = plain.host();
    let fake = Fake::tls(config(&identity, None), move |_| {
        Reply::new(401).header("WWW-Authenticate", format!("Bearer realm=\"http://{to}/token\""))
    })
    .await;
    let registry = quick()
        .with_ca_pem(ca.pem())
        .with_token_server(&fake.host(), &plain.host())
        .with_credentials(&fake.host(), login())
        .build()
        .unwrap();
    let error = registry.list_tags(&fake.reference("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(plain.raw().is_empty());
}

#[tokio::test]
async fn d3_authorities_and_client_certificates_come_from_a_directory() {
    let (ca, clients) = (authority(), authority());
    let server = identity(leaf(&["127.0.0.1"], false), Some(&ca));
    let fake = Fake::tls(config(&server, Some(&clients)), tags).await;
    let certs = tempfile::tempdir().unwrap();
    let dir = certs.path().join(fake.host());
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    let build =
        || quick().with_certs_dir(certs.path()).with_credentials(&fake.host(), login()).build().unwrap();
    let error = build().list_tags(&fake.reference("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "no client certificate yet: {error:?}");
    let mut params = leaf(&["client"], false);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let client = identity(params, Some(&clients));
    fs::write(dir.join("client.cert"), client.0.pem()).unwrap();
    fs::write(dir.join("client.key"), client.1.serialize_pem()).unwrap();
    assert_eq!(build().list_tags(&fake.reference("a")).await.unwrap(), ["secret"]);
    fs::write(dir.join("client.key"), "nonsense").unwrap();
    let error = build().list_tags(&fake.reference("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    // Another host gets neither.
    let other = Fake::tls(config(&server, None), tags).await;
    assert!(build().list_tags(&other.reference("a")).await.is_err());
    assert!(other.requests().is_empty());
}
