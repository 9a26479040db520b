//! Layers on their way into the store, from wherever they come.
//!
//! `pull` and `load` say which blobs they want and where the bytes are; this module pairs layers with their diff IDs, and
//! takes a blob in.
//! Invariants: what the store has is not fetched again; an image that is in the store has no layer whose blob is another's
//! (SECURITY C6), of those that are unpacked.

use std::collections::HashSet;
use std::future::Future;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::limit::too_large;
use crate::manifest::ImageManifest;

use super::LocalEngine;

/// How many bytes arrive between two reports about a layer.
const REPORT_EVERY: u64 = 256 << 10;

/// A blob to take in: a layer to unpack if it has a diff ID.
pub(super) type Wanted = (Descriptor, Option<Digest>);

/// How far a layer got.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LayerProgress {
    /// It waits for its turn.
    Waiting,
    /// It is in the store already.
    Exists,
    /// So many bytes have arrived, and were unpacked as they came.
    Transferring {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All has arrived and is being checked, or a blob that was here is being unpacked.
    Unpacking,
    /// It is in the store.
    Done,
}

/// Pairs the layers of an image with the diff IDs of its configuration, or with none if they are not to be unpacked.
pub(super) fn paired(image: &ImageManifest, diff_ids: Vec<Digest>, unpack: bool) -> Result<Vec<Wanted>> {
    if diff_ids.len() != image.layers.len() {
        return Err(Error::new(ErrorKind::Corrupt, "read image config").with_message(format!(
            "it names {} layers and the manifest {}",
            diff_ids.len(),
            image.layers.len()
        )));
    }
    let layers = image.layers.iter().cloned().zip(diff_ids);
    Ok(layers.map(|(layer, diff_id)| (layer, Some(diff_id).filter(|_| unpack))).collect())
}

/// The layers of an image, none of them to be unpacked.
pub(super) fn unpaired(image: &ImageManifest) -> Vec<Wanted> {
    image.layers.iter().map(|layer| (layer.clone(), None)).collect()
}

/// Leaves each blob once, in the order of `wanted`. One image may want a blob for its files and another for its bytes
/// alone: what is there for its files is there for its bytes too.
pub(super) fn once(wanted: &mut Vec<Wanted>) {
    let unpacked: HashSet<_> =
        wanted.iter().filter(|(_, id)| id.is_some()).map(|(blob, _)| blob.digest.clone()).collect();
    let mut seen = HashSet::new();
    wanted.retain(|(blob, diff_id)| {
        (diff_id.is_some() || !unpacked.contains(&blob.digest))
            && seen.insert((blob.digest.clone(), diff_id.clone()))
    });
}

/// Takes a blob in, and unpacks it if it has a diff ID, or compares it with that where the layer is here; `fetch` is only awaited if its bytes are needed.
pub(super) async fn take_in(
    engine: &LocalEngine,
    (blob, diff_id): &Wanted,
    fetch: impl Future<Output = Result<ByteStream>> + Send,
    report: impl Fn(LayerProgress) + Send + Sync,
) -> Result<()> {
    let (store, max_bytes) = (&engine.inner.images, engine.inner.max_bytes);
    if store.blob_size(&blob.digest).await? == Some(blob.size) {
        match diff_id {
            // That the layer is here says nothing of this blob: it is whoever names the two who says that they belong together.
            Some(diff_id) if !store.has_layer_of(&blob.digest, diff_id).await? => {
                report(LayerProgress::Unpacking);
                store.unpack(blob, diff_id).await?;
                report(LayerProgress::Done);
            }
            _ => report(LayerProgress::Exists),
        }
        return Ok(());
    }
    // What it says of its size holds: a store takes no more.
    if blob.size > max_bytes {
        return Err(too_large("take blob in", max_bytes).with("digest", &blob.digest));
    }
    let mut chunks = fetch.await?;
    let mut ingest = store.ingest(blob, diff_id.as_ref()).await?;
    let (mut done, mut reported) = (0_u64, 0_u64);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        done += chunk.len() as u64;
        ingest.write(chunk).await?;
        if done >= reported + REPORT_EVERY || done == blob.size {
            reported = done;
            report(LayerProgress::Transferring { done, total: blob.size });
        }
    }
    report(LayerProgress::Unpacking);
    ingest.commit().await?;
    report(LayerProgress::Done);
    Ok(())
}

/// The error for a layer that may not be distributed, and that nothing here fetches from where its author says (D2).
pub(super) fn foreign(layer: &Descriptor) -> Error {
    Error::new(ErrorKind::Unsupported, "fetch layer")
        .with("digest", &layer.digest)
        .with("media type", &layer.media_type)
        .with_message("it is a foreign layer, whose content is elsewhere and is not fetched")
}
