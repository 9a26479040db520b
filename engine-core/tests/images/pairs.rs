//! Which blob unpacks to which layer: what a manifest and a configuration say of it is not believed.

use engine_core::ErrorKind;
use engine_core::engine::{PullOptions, SaveOptions};
use engine_core::testing::content::{SampleImage, SampleLayer, tar};
use engine_testkit::require;

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
    // The blob is here, and so is the layer; then only the layer; then neither is, but for its blob in the registry.
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
    let _ = (SaveOptions::default(), reference("x"));
}
