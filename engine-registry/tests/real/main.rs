//! `OciRegistry` against a real registry: Debian's `docker-registry` on loopback.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

mod conformance;
mod docker_registry;
mod pull_and_run;

use std::fs;

use engine_core::registry_client::Credentials;
use engine_registry::{OciRegistry, RegistryBuilder};
use engine_testkit::{LeakCheck, Registry, RegistryMode};

fn login() -> Credentials {
    Credentials::Basic { username: Registry::USER.to_owned(), password: Registry::PASSWORD.to_owned() }
}

/// Starts a registry off the test's own thread, since it waits for it.
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

fn client_of(registry: &Registry, mode: RegistryMode) -> OciRegistry {
    let mut builder: RegistryBuilder = OciRegistry::builder().with_system_roots(false);
    if let Some(ca) = registry.ca_file() {
        builder = builder.with_ca_pem(fs::read(ca).unwrap());
    }
    if matches!(mode, RegistryMode::Password | RegistryMode::TlsPassword) {
        builder = builder.with_credentials(&registry.host(), login());
    }
    builder.build().unwrap()
}
