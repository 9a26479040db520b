//! What a registry has, and what a manifest and a configuration say of it: neither its size nor which blob is which layer is believed.

use std::io::Write as _;

use bytes::Bytes;
use engine_core::engine::{LayerProgress, PullEvent, PullOptions};
use engine_core::linux::image_store::LocalImageStoreOptions;
use engine_core::testing::content::{SampleImage, SampleLayer, tar};
use engine_core::{Descriptor, ErrorKind, media_type};
use engine_testkit::require;
use futures_util::StreamExt as _;

use super::support::{World, reference};

/// An image whose layer has the blob of one and the diff ID of another.
fn lie(blob: &SampleLayer, layer: &SampleLayer) -> SampleImage {
    let mut pair = blob.clone();
    pair.diff_id = layer.diff_id.clone();
    SampleImage::of(vec![pair])
}

#[tokio::test]
async fn c6_a_blob_is_not_taken_for_a_layer_that_it_is_not() {
    require!(root);
    let world = World::new().await;
    let layer = |text: &str| SampleLayer::gzip(&tar(&[("file", text.as_bytes())]));
    let (one, other, third) = (layer("one"), layer("other"), layer("third"));
    let pull = async |image: &SampleImage, name: &str| {
        let name = world.publish(image, name);
        world.engine.pull(&name, PullOptions::default()).await
    };
    pull(&SampleImage::of(vec![one.clone()]), "registry.example/one:1").await.unwrap();
    pull(&SampleImage::of(vec![other.clone()]), "registry.example/other:1").await.unwrap();
    let before = world.content();
    // The blob is here, and so is the layer; then the layer alone.
    for (blob, layer) in [(&one, &other), (&third, &other)] {
        let lie = lie(blob, layer);
        let error =
            pull(&lie, "registry.example/lie:1").await.map(|image| image.id().to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        let told = error.report();
        assert!(told.contains(blob.descriptor.digest.hex()) && told.contains(layer.diff_id.hex()), "{told}");
        world.engine.image("registry.example/lie:1").await.unwrap_err();
    }
    world.engine.collect_garbage().await.unwrap();
    assert_eq!(world.content(), before);
    // Another blob of a layer that is here is one of its, and is known to be one from then on.
    let plain = SampleLayer::plain(&tar(&[("file", b"one")]));
    let image = SampleImage::of(vec![plain.clone()]);
    pull(&image, "registry.example/plain:1").await.unwrap();
    assert!(
        world
            .engine
            .local()
            .unwrap()
            .image_store()
            .has_layer_of(&plain.descriptor.digest, &one.diff_id)
            .await
            .unwrap()
    );
    // What is known is not looked at again.
    let mut again = world.engine.pull(&reference("registry.example/plain:1"), PullOptions::default());
    while let Some(event) = again.next().await {
        assert!(!matches!(event, PullEvent::Layer { progress: LayerProgress::Unpacking, .. }), "{event:?}");
    }
    again.await.unwrap();
}

#[tokio::test]
async fn c4_what_a_registry_or_an_archive_has_is_taken_in_up_to_the_limit() {
    require!(root);
    // The size of a blob, and that of a layer, are two things: each is looked at.
    let world = World::built(LocalImageStoreOptions::default().with_max_bytes(1 << 20), |builder| {
        builder.max_bytes(1 << 20)
    })
    .await;
    let large = SampleLayer::gzip(&tar(&[("file", &vec![0; 2 << 20])]));
    let pull = async |layer: SampleLayer| {
        let name = world.publish(&SampleImage::of(vec![layer]), "registry.example/large:1");
        world.engine.pull(&name, PullOptions::default()).await.map(drop).unwrap_err()
    };
    let mut small = large.clone();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar(&[("file", &vec![0; 2 << 20])])).unwrap();
    let bytes = Bytes::from(encoder.finish().unwrap());
    (small.descriptor, small.bytes) = (Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes), bytes);
    for layer in [large, small] {
        let digest = layer.descriptor.digest.clone();
        let error = pull(layer).await;
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        let told = error.report();
        assert!(told.contains(digest.hex()) && told.contains("more than 1048576 bytes"), "{told}");
        assert!(told.contains("max_bytes"), "{told}");
    }
    world.engine.collect_garbage().await.unwrap();
    world.assert_empty("large").await;
}
