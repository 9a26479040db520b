//! The conformance suite of `RegistryClient`, on `OciRegistry` against Debian's `docker-registry`.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine_core::reference::Reference;
use engine_core::registry_client::Credentials;
use engine_core::testing::registry_client::{self, RegistrySubject};
use engine_registry::OciRegistry;
use engine_testkit::{LeakCheck, Registry, RegistryMode, require};

async fn start(mode: RegistryMode) -> Registry {
    tokio::task::spawn_blocking(move || Registry::start(mode)).await.unwrap()
}

/// What the client and the registry leave behind when both are gone. Whoever is alone in its process (cargo nextest) counts every
/// descriptor and child of it.
fn leak_check() -> LeakCheck {
    let nothing = std::env::temp_dir().join("engine-registry-without-a-root");
    let check = LeakCheck::begin(&nothing, &nothing);
    let alone = std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
    if alone { check.exclusive() } else { check }
}

/// Ends the registry off the test's own thread, then compares.
async fn finish(check: LeakCheck, registry: Registry) {
    tokio::task::spawn_blocking(move || drop(registry)).await.unwrap();
    check.finish_async().await;
}

fn login() -> Credentials {
    Credentials::Basic { username: Registry::USER.to_owned(), password: Registry::PASSWORD.to_owned() }
}

#[tokio::test]
async fn oci_registry_keeps_every_promise() {
    require!("docker-registry");
    let leaks = leak_check();
    let registry = start(RegistryMode::Plain).await;
    let client = Arc::new(OciRegistry::new());
    let number = AtomicUsize::new(0);
    registry_client::all(async || {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let reference: Reference = format!("{}/suite/repo-{number}:tag", registry.host()).parse().unwrap();
        RegistrySubject::new(Arc::clone(&client) as _, reference)
    })
    .await;
    drop(client);
    finish(leaks, registry).await;
}

#[tokio::test]
async fn oci_registry_keeps_every_promise_with_tls_and_a_password() {
    require!("docker-registry", "htpasswd");
    let leaks = leak_check();
    let registry = start(RegistryMode::TlsPassword).await;
    let ca = fs::read(registry.ca_file().unwrap()).unwrap();
    let stranger = OciRegistry::builder().with_ca_pem(ca.clone()).build().unwrap();
    let client = OciRegistry::builder().with_ca_pem(ca).with_credentials(&registry.host(), login()).build();
    let client = Arc::new(client.unwrap());
    let number = AtomicUsize::new(0);
    registry_client::all(async || {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let reference: Reference = format!("{}/suite/repo-{number}:tag", registry.host()).parse().unwrap();
        RegistrySubject::new(Arc::clone(&client) as _, reference)
    })
    .await;
    registry_client::credentials_are_checked(&stranger, &registry.host(), &login()).await;
    let reference = format!("{}/suite/repo-0:tag", registry.host()).parse().unwrap();
    registry_client::stranger_is_refused(&stranger, &reference).await;
    drop((client, stranger));
    finish(leaks, registry).await;
}
