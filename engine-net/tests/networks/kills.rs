//! Programs that are killed amid attach and detach: the next one finds everything they left.
//!
//! The program is this one, started again for [`a_program_that_is_killed`] alone. `ENGINE_NET_KILLS` is how many of them are
//! killed; 30 without it.

use std::env;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine_core::Network as _;
use engine_core::network::{EndpointOptions, NetworkOptions, PortMapping};
use engine_core::runtime::Sandbox;
use engine_net::LocalNetworks;

use crate::support::{Container, Host, PATIENCE};

const WORK: &str = "ENGINE_NET_KILLED";
const NETWORKS: [&str; 3] = ["names", "bridge", "macvlan"];

/// Attaches and detaches without end, where it is told to; else it has nothing to do.
#[test]
fn a_program_that_is_killed() {
    let Ok(work) = env::var(WORK) else { return };
    let mut words = work.split(' ');
    let dir = PathBuf::from(words.next().unwrap());
    let sandboxes: Vec<Sandbox> = words
        .map(|word| {
            let (id, path) = word.split_once('=').unwrap();
            Sandbox::new(id.parse().unwrap(), 1 << 23, Some(path.into()))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for sandbox in sandboxes {
        let dir = dir.clone();
        let work = async move {
            let network = LocalNetworks::new(dir.join("root"), dir.join("run"));
            let options =
                EndpointOptions::default().with_ports([PortMapping::new(80)]).with_aliases(["alias"]);
            loop {
                for name in NETWORKS {
                    let name = name.parse().unwrap();
                    network.attach(&name, &sandbox, &options).await.unwrap();
                }
                for name in NETWORKS {
                    network.detach(&name.parse().unwrap(), &sandbox.id).await.unwrap();
                }
            }
        };
        tasks.spawn_on(work, runtime.handle());
    }
    let ended: Option<Result<(), _>> = runtime.block_on(tasks.join_next());
    panic!("they have no end: {ended:?}");
}

fn begin(host: &Host, containers: &[Container]) -> Child {
    let mut work = host.dir.path().display().to_string();
    for container in containers {
        work += &format!(" {}={}", container.sandbox.id, container.space.path());
    }
    host.space.run(|| {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "kills::a_program_that_is_killed"])
            .env(WORK, &work)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    })
}

#[test]
fn what_killed_programs_left_is_found() {
    let rounds: u64 = env::var("ENGINE_NET_KILLS").map_or(30, |text| text.parse().unwrap());
    let host = Host::new();
    let network = host.open();
    let containers = [Container::new(), Container::new()];
    let (opened, sandbox) = (network.clone(), containers[0].sandbox.clone());
    host.run(async move {
        opened.create(&"names".parse().unwrap(), &NetworkOptions::default().with_ipv6(true)).await.unwrap();
        let mut macvlan = NetworkOptions::default();
        macvlan.driver = Some("macvlan".to_owned());
        opened.create(&"macvlan".parse().unwrap(), &macvlan).await.unwrap();
        // So that the bridges are there, which stay.
        for name in NETWORKS {
            let name = name.parse().unwrap();
            opened.attach(&name, &sandbox, &EndpointOptions::default()).await.unwrap();
            opened.detach(&name, &sandbox.id).await.unwrap();
        }
    });
    drop(network);
    let base = host.left();
    for round in 0..rounds {
        let mut child = begin(&host, &containers);
        // From before its first step to the middle of its many.
        std::thread::sleep(Duration::from_micros(5_000 + round * 7_919 % 150_000));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(ended.is_none(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        let network = host.open();
        let opened = network.clone();
        host.run(async move {
            let all = opened.list().await.unwrap().into_iter().flat_map(|network| network.endpoints);
            opened.sweep(&all.collect::<Vec<_>>()).await.unwrap();
        });
        drop(network);
        assert_eq!(host.left(), base, "round {round}");
        for container in &containers {
            let links = container.space.ip("-o link show");
            assert_eq!(links.lines().count(), 1, "round {round}: {links}");
        }
    }
    let network = host.open();
    host.run(async move {
        for name in NETWORKS {
            tokio::time::timeout(PATIENCE, network.remove(&name.parse().unwrap())).await.unwrap().unwrap();
        }
    });
    assert_eq!(host.left(), "");
}
