//! `--metadata-file`: what was built, for programs, as BuildKit writes it.

use std::path::Path;

use engine_core::engine::BuiltImage;
use engine_core::{Error, ErrorKind, Reference};
use serde_json::json;

use crate::failure::Result;

/// Writes the file.
pub(super) fn write(file: &Path, image: &BuiltImage, names: &[Reference]) -> Result<()> {
    let mut document = json!({
        "containerimage.config.digest": image.id,
        "containerimage.descriptor": image.manifest,
        "containerimage.digest": image.manifest.digest,
    });
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(Reference::to_string).collect();
        document["image.name"] = names.join(",").into();
    }
    let text = serde_json::to_string_pretty(&document)
        .map_err(|e| Error::new(ErrorKind::Other, "write metadata").with_source(e))?;
    let fail = |e| Error::from_io("write metadata", e).with("path", file.display());
    Ok(std::fs::write(file, text + "\n").map_err(fail)?)
}
