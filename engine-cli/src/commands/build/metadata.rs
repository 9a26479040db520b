//! `--metadata-file`: what was built, for programs, as BuildKit writes it.

use std::path::Path;

use engine_core::engine::BuiltImage;
use engine_core::{Error, ErrorKind, Reference};
use serde_json::json;

use crate::failure::Result;
use crate::output::whole;

/// Writes the file.
pub(super) async fn write(file: &Path, image: &BuiltImage, names: &[Reference]) -> Result<()> {
    let mut document = json!({
        "containerimage.config.digest": image.id,
        "containerimage.descriptor": image.manifest,
        "containerimage.digest": image.manifest.digest,
    });
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(Reference::to_string).collect();
        document["image.name"] = names.join(",").into();
    }
    let wrong = |e| Error::new(ErrorKind::Other, "write metadata").with_source(e);
    if let Some(statement) = &image.provenance {
        // The statement's predicate, as BuildKit has it there.
        let statement: serde_json::Value = serde_json::from_str(statement).map_err(wrong)?;
        document["buildx.build.provenance"] = statement["predicate"].clone();
    }
    let text = serde_json::to_string_pretty(&document).map_err(wrong)?;
    whole::text(file, &(text + "\n")).await
}
