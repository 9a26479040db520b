//! Descriptors that a container's shim keeps: what they are for is a port that nobody else gets meanwhile.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use engine_core::launch::Lifetime;
use engine_core::runtime::Kept;
use engine_core::{RestartPolicy, Runtime as _};

use crate::support::{Bench, PATIENCE};

fn is_taken(address: SocketAddr) -> bool {
    match TcpListener::bind(address) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            true
        }
    }
}

#[tokio::test]
async fn a_port_stays_taken_until_the_container_has_ended() {
    let mut bench = Bench::new().await;
    let id = bench
        .start(&["sleep", "1000"], |spec| {
            spec.lifetime = Lifetime::Detached;
            spec.restart = RestartPolicy::Always;
        })
        .await;
    let sockets = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let [first, second] = [0, 1].map(|at: usize| sockets[at].local_addr().unwrap());
    let [one, two] = sockets;
    bench.runtime.keep(&id, "one", vec![Kept::new(one)]).await.unwrap();
    bench.runtime.keep(&id, "two", vec![Kept::new(two)]).await.unwrap();
    // The program that had them is gone.
    bench.runtime = bench.reopen().await;
    assert!(is_taken(first) && is_taken(second));
    bench.runtime.signal(&id, 9).await.unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while bench.runtime.state(&id).await.unwrap().restart_count == 0 {
        assert!(std::time::Instant::now() < end, "it runs again");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(is_taken(first) && is_taken(second));
    bench.runtime.keep(&id, "one", Vec::new()).await.unwrap();
    while is_taken(first) {
        // The process of the run that begins may have it until it executes.
        assert!(std::time::Instant::now() < end, "what is let go is free");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(is_taken(second));
    bench.runtime.stop(&id, 9).await.unwrap();
    bench.runtime.wait(&id).await.unwrap();
    assert!(!is_taken(second), "who learns of the end can have the port");
    bench.runtime.delete(&id).await.unwrap();
}
