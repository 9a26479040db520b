//! The embedded image `localhost/hello`: what `run` shows on a machine without a registry.
//!
//! One layer with one static program (`hello/`), made into a tar archive in memory and imported when its name is asked
//! for. Nothing of it is in the store before that.

use engine_core::engine::ImportOptions;
use engine_core::image_config::ProcessDefaults;
use engine_core::{Engine, Reference};

use crate::failure::{Failure, Result};

const NAME: &str = "localhost/hello:latest";
const PROGRAM: &[u8] = include_bytes!(env!("ENGINE_HELLO"));

/// Returns whether `name` is the embedded image's.
pub(crate) fn is_name(name: &str) -> bool {
    name.parse::<Reference>().is_ok_and(|reference| reference.to_string() == NAME)
}

/// Puts the image into the store.
pub(crate) async fn import(engine: &Engine) -> Result<()> {
    if PROGRAM.is_empty() {
        return Err(Failure::usage(format!("{NAME} is not available on {}", std::env::consts::ARCH)));
    }
    let mut config = ProcessDefaults::default();
    config.entrypoint = vec!["/hello".to_owned()];
    let options = ImportOptions::default().with_config(config);
    engine.import(&NAME.parse()?, archive(PROGRAM).into(), options).await?;
    Ok(())
}

/// Returns a tar archive of one executable file, see the ustar format of POSIX pax(1). The same bytes each time, so
/// that the image has the same digest everywhere.
fn archive(program: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "hello");
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", program.len()));
    put(136, "00000000000\0");
    // The checksum is taken with spaces in its place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(program);
    // Up to a whole block, and two empty ones as the end.
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_a_tar_archive() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, archive(b"#!/bin/sh\necho hi\n")).unwrap();
        let listed = std::process::Command::new("tar").arg("tvf").arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(
            listed.status.success() && text.starts_with("-rwxr-xr-x 0/0") && text.ends_with(" hello\n"),
            "{text}"
        );
    }

    #[test]
    fn its_name_is_known_in_every_spelling() {
        assert!(is_name("localhost/hello") && is_name("localhost/hello:latest"));
        assert!(!is_name("hello") && !is_name("localhost/hello:1") && !is_name("a b"));
    }
}
