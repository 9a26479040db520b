//! `--provenance` and `--attest`: a statement of how the image was built, which is attached to what is pushed.

use std::io::Write as _;

use clap::Args;
use engine_core::engine::{ArtifactFile, ArtifactOptions, BuiltImage, ProvenanceMode};
use engine_core::{Engine, Error, Reference};

use crate::failure::{Failure, Result};
use crate::options::mounts::fields;

/// The type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The flags.
#[derive(Args, Debug)]
pub(super) struct ProvenanceArgs {
    /// Attach a statement of how it was built (SLSA) to what is pushed: true, false, mode=min or mode=max, which has the values of build arguments
    #[arg(long, value_name = "BOOL|mode=MODE")]
    provenance: Option<String>,
    /// As --provenance: type=provenance[,mode=MODE]
    #[arg(long = "attest", value_name = "SPEC")]
    attestations: Vec<String>,
}

impl ProvenanceArgs {
    /// What is wanted, if anything is.
    pub(super) fn mode(&self) -> Result<Option<ProvenanceMode>> {
        let mut wanted = None;
        for text in &self.attestations {
            wanted = read(&format!("--attest {text}"), text, false)?;
        }
        match self.provenance.as_deref() {
            None => Ok(wanted),
            Some("true") => Ok(Some(ProvenanceMode::Min)),
            Some("false") => Ok(None),
            Some(text) => read(&format!("--provenance {text}"), text, true),
        }
    }
}

fn read(flag: &str, text: &str, mut known: bool) -> Result<Option<ProvenanceMode>> {
    let wrong = |why: String| Failure::usage(format!("{flag}: {why}"));
    let (mut mode, mut disabled) = (ProvenanceMode::Min, false);
    for field in fields(text).map_err(|why| wrong(why.to_owned()))? {
        match field.split_once('=').unwrap_or((&field, "true")) {
            ("type", "provenance") => known = true,
            ("type", other) => {
                return Err(wrong(format!("there is no attestation {other}: give provenance")));
            }
            ("mode", "min") => mode = ProvenanceMode::Min,
            ("mode", "max") => mode = ProvenanceMode::Max,
            ("disabled", "true") => disabled = true,
            ("disabled", "false") | ("version", "v1") => {}
            (key, value) => return Err(wrong(format!("{key}={value} is not supported"))),
        }
    }
    if !known {
        return Err(wrong("it has no type=provenance".to_owned()));
    }
    Ok((!disabled).then_some(mode))
}

/// Attaches a statement to an image that was pushed as `name`.
pub(super) async fn attach(
    engine: &Engine,
    name: &Reference,
    image: &BuiltImage,
    statement: &str,
) -> Result<()> {
    let fail = |e| Error::from_io("write provenance", e);
    let mut file = tempfile::tempfile().map_err(fail)?;
    file.write_all(statement.as_bytes()).map_err(fail)?;
    let file = ArtifactFile::of_open("provenance.json", file).with_media_type(IN_TOTO);
    let options = ArtifactOptions::default().with_artifact_type(IN_TOTO);
    // Whatever the tag leads to by now.
    let pinned = name.with_digest(image.manifest.digest.clone());
    engine.attach_artifact(&pinned, vec![file], options).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_is_asked_for_as_with_buildkit() {
        let mode = |provenance: Option<&str>, attestations: &[&str]| {
            let attestations = attestations.iter().map(ToString::to_string).collect();
            let args = ProvenanceArgs { provenance: provenance.map(str::to_owned), attestations };
            args.mode().map_err(|failure| failure.to_string())
        };
        assert_eq!(mode(None, &[]), Ok(None));
        assert_eq!(mode(Some("true"), &[]), Ok(Some(ProvenanceMode::Min)));
        assert_eq!(mode(Some("mode=max"), &[]), Ok(Some(ProvenanceMode::Max)));
        assert_eq!(mode(Some("false"), &["type=provenance"]), Ok(None));
        assert_eq!(mode(None, &["type=provenance,mode=max"]), Ok(Some(ProvenanceMode::Max)));
        assert_eq!(mode(None, &["type=provenance,disabled=true"]), Ok(None));
        for (attestation, word) in [("type=sbom", "no attestation sbom"), ("mode=max", "no type=")] {
            assert!(mode(None, &[attestation]).unwrap_err().contains(word));
        }
        assert!(mode(Some("perhaps"), &[]).unwrap_err().contains("perhaps"));
    }
}
