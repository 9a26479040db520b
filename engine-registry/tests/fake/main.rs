//! `OciRegistry` against fake registries: what a hostile, broken or busy server may try.
//!
//! Needs nothing of the machine but loopback.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

mod d1_manifests;
mod d2_credentials;
mod d3_tls;
mod docker_config;
mod server;
mod tokens;
mod transfer;

use std::time::Duration;

use engine_core::error::Error;
use engine_registry::{OciRegistry, RegistryBuilder, RetryPolicy, Timeouts};

/// A client that does not make tests slow.
fn quick() -> RegistryBuilder {
    OciRegistry::builder()
        .with_retry(RetryPolicy::default().with_attempts(3).with_base_delay(Duration::from_millis(2)))
        .with_timeouts(
            Timeouts::default()
                .with_connect(Duration::from_secs(5))
                .with_answer(Duration::from_secs(5))
                .with_idle(Duration::from_millis(400)),
        )
}

/// All an error can be made to say.
fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {}", error.report());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    text
}
