//! The conformance suite of `RegistryClient`, on `OciRegistry` against Debian's `docker-registry`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine_core::reference::Reference;
use engine_core::testing::registry_client::{self, RegistrySubject};
use engine_registry::OciRegistry;
use engine_testkit::{Registry, RegistryMode, require};

use crate::{finish, leak_check, login, start};

/// Runs the suite, each promise in a repository of its own.
async fn keeps_every_promise(client: &Arc<OciRegistry>, registry: &Registry) {
    let number = AtomicUsize::new(0);
    registry_client::all(async || {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let reference: Reference = format!("{}/suite/repo-{number}:tag", registry.host()).parse().unwrap();
        RegistrySubject::new(Arc::clone(client) as _, reference)
    })
    .await;
}

#[tokio::test]
async fn oci_registry_keeps_every_promise() {
    require!("docker-registry");
    let leaks = leak_check();
    let registry = start(RegistryMode::Plain).await;
    let client = Arc::new(OciRegistry::new());
    keeps_every_promise(&client, &registry).await;
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
    keeps_every_promise(&client, &registry).await;
    registry_client::credentials_are_checked(&stranger, &registry.host(), &login()).await;
    let reference = format!("{}/suite/repo-0:tag", registry.host()).parse().unwrap();
    registry_client::stranger_is_refused(&stranger, &reference).await;
    drop((client, stranger));
    finish(leaks, registry).await;
}
