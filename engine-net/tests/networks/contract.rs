//! Networks of a host keep the contract.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use engine_core::network::Network;
use engine_core::runtime::Sandbox;
use engine_core::testing::Subject;
use engine_core::testing::network::{self, NetworkHarness};
use engine_net::LocalNetworks;

use crate::support::{Container, Host};

struct Harness {
    dir: tempfile::TempDir,
    roots: Mutex<u32>,
    containers: Mutex<Vec<Container>>,
}

#[async_trait]
impl NetworkHarness for Harness {
    async fn network(&self) -> Subject<dyn Network> {
        let number = {
            let mut roots = self.roots.lock().unwrap();
            *roots += 1;
            *roots
        };
        let root = self.dir.path().join(number.to_string());
        let open = || LocalNetworks::new(root.join("root"), root.join("run"));
        Subject::new(Arc::new(open()), Arc::new(open()))
    }

    async fn sandbox(&self) -> Sandbox {
        let container = Container::new();
        let sandbox = container.sandbox.clone();
        self.containers.lock().unwrap().push(container);
        sandbox
    }
}

#[test]
fn network_keeps_its_promises() {
    let host = Host::new();
    let dir = tempfile::tempdir().unwrap();
    host.run(async move {
        let harness = Harness { dir, roots: Mutex::new(0), containers: Mutex::new(Vec::new()) };
        network::all(&harness).await;
    });
    assert_eq!(host.left(), "");
}
