//! More processes in a running container.

use engine_core::Runtime as _;

use crate::support::Bench;

#[tokio::test]
async fn exec_runs_inside() {
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |_| ()).await;
    let outcome = bench.exec(&id, &["sh", "-c", "hostname; cat /proc/1/comm; echo err >&2; exit 3"]).await;
    assert_eq!(
        (outcome.status.code, outcome.out.as_str(), outcome.err.as_str()),
        (3, "box\nsleep\n", "err\n")
    );
    bench.runtime.delete(&id).await.unwrap();
}
