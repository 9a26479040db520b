//! What every request passes: versions, paths, bodies, headers.

use engine_testkit::require;

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_served_and_others_refused() {
    require!(root, overlayfs);
    let host = Host::new().await;
    for path in ["/_ping", "/v1.24/_ping", "/v1.53/_ping"] {
        assert_eq!(host.ask("GET", path).await, (200, "OK".to_owned()), "{path}");
    }
    for (path, words) in [("/v1.23/_ping", "is too old"), ("/v1.99/_ping", "is too new")] {
        let (status, body) = host.ask("GET", path).await;
        assert!(status == 400 && body.contains(words), "{path}: {status} {body}");
    }
    assert_eq!(
        host.ask("GET", "/v1.47/nothing").await,
        (404, "{\"message\":\"page not found\"}\n".to_owned())
    );
    assert_eq!(host.ask("DELETE", "/version").await.0, 404);
    assert_eq!(host.ask("GET", "/v1.47/swarm").await.0, 503);
    host.finish().await;
}
