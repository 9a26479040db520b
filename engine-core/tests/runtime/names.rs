//! Names, asked for inside a container's network while the shim alone answers. What others answer is `forwarding`'s.

use std::net::IpAddr;
use std::path::PathBuf;

use engine_core::launch::Lifetime;
use engine_core::network::names::{ResolverConfig, ResolverZone, Zone};
use engine_core::{ContainerId, ErrorKind, LaunchSpec, RestartPolicy, Runtime as _};

use crate::dns::{Inside, NO_ERROR, NO_SUCH_NAME, SERVER_FAILURE};
use crate::support::{Bench, PATIENCE};

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;

pub fn zone_of(hosts: &[(&str, &[&str])]) -> Zone {
    let mut zone = Zone::new();
    for (name, addresses) in hosts {
        zone.add_host(name, addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()));
    }
    zone
}

impl Bench {
    fn zone_path(&self) -> PathBuf {
        self.dir.path().join("zone")
    }

    /// A configuration with one zone, of the network `net`.
    pub fn resolver(&self, hosts: &[(&str, &[&str])]) -> ResolverConfig {
        zone_of(hosts).write(&self.zone_path()).unwrap();
        let mut config = ResolverConfig::default();
        config.zones = vec![ResolverZone::new("net".parse().unwrap(), self.zone_path())];
        config
    }

    /// Starts a container with a resolver.
    pub async fn start_with_names(&self, config: ResolverConfig) -> (ContainerId, Inside) {
        let id = self.start(&["sleep", "1000"], |spec| spec.resolver = Some(config)).await;
        let inside = self.inside(&id).await;
        (id, inside)
    }

    pub async fn inside(&self, id: &ContainerId) -> Inside {
        Inside::new(self.runtime.state(id).await.unwrap().pid.unwrap())
    }

    /// A number of the shim's state file, from which the rest of its process is found.
    fn shim(&self, id: &ContainerId) -> PathBuf {
        let state = self.dir.path().join("root/containers").join(id.as_str()).join("state");
        let text = std::fs::read_to_string(state).unwrap();
        let pid = text.lines().find_map(|line| line.strip_prefix("shim ")?.split(' ').next()).unwrap();
        PathBuf::from("/proc").join(pid)
    }

    /// Kilobytes of memory that are the shim's alone, without its program's.
    fn private_memory(&self, id: &ContainerId) -> u32 {
        let text = std::fs::read_to_string(self.shim(id).join("smaps_rollup")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// How long the shim ran on a processor, in clock ticks.
    fn ticks(&self, id: &ContainerId) -> u64 {
        let text = std::fs::read_to_string(self.shim(id).join("stat")).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

#[tokio::test]
async fn names_are_answered_before_the_program_runs_and_in_every_run() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["sleep", "1000"]);
    spec.restart = RestartPolicy::Always;
    spec.resolver = Some(bench.resolver(&[("Web", &["172.18.0.2", "fd00::2"])]));
    let sandbox = bench.runtime.create(&id, &spec).await.unwrap();
    let before = Inside::new(sandbox.pid);
    assert_eq!(before.udp("web", A), (NO_ERROR, vec!["172.18.0.2".to_owned()]));
    bench.runtime.start(&id).await.unwrap();
    for run in 1..3 {
        bench.runtime.signal(&id, 9).await.unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        while bench.runtime.state(&id).await.unwrap().restart_count < run
            || bench.runtime.state(&id).await.unwrap().pid.is_none()
        {
            assert!(std::time::Instant::now() < end, "run {run} comes");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        for inside in [&before, &bench.inside(&id).await] {
            assert_eq!(inside.udp("web.net", AAAA).1, ["fd00::2"]);
            assert_eq!(inside.tcp("2.0.18.172.in-addr.arpa", PTR).1, ["Web.net"]);
        }
    }
    drop(before);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_change_holds_at_once() {
    let bench = Bench::new().await;
    let (id, inside) = bench.start_with_names(bench.resolver(&[("web", &["10.0.0.1"])])).await;
    assert_eq!(inside.udp("web", A).1, ["10.0.0.1"]);
    assert_eq!(inside.udp("db", A), (NO_SUCH_NAME, vec![]));
    for number in 2..20 {
        let address = format!("10.0.0.{number}");
        zone_of(&[("db", &[&address])]).write(&bench.zone_path()).unwrap();
        assert_eq!(inside.udp("web", A).0, NO_SUCH_NAME);
        assert_eq!(inside.udp("db", A).1, [address.as_str()]);
        assert_eq!(inside.tcp("db", A).1, [address.as_str()]);
    }
    std::fs::remove_file(bench.zone_path()).unwrap();
    assert_eq!(inside.udp("db", A).0, NO_SUCH_NAME);
    let other = bench.dir.path().join("other zone");
    zone_of(&[("db", &["10.0.1.1"])]).write(&other).unwrap();
    let mut config = ResolverConfig::default();
    config.zones = vec![ResolverZone::new("other".parse().unwrap(), other)];
    bench.reopen().await.set_resolver(&id, &config).await.unwrap();
    assert_eq!(inside.udp("db.other", A).1, ["10.0.1.1"]);
    bench.runtime.set_resolver(&id, &ResolverConfig::default()).await.unwrap();
    assert_eq!(inside.udp("db", A).0, NO_SUCH_NAME);
    assert_eq!(inside.udp("db.other", A).0, SERVER_FAILURE);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn busybox_finds_names() {
    let bench = Bench::new().await;
    let (id, _) = bench.start_with_names(bench.resolver(&[("web", &["172.18.0.2", "fd00::2"])])).await;
    let outcome = bench.exec(&id, &["busybox", "nslookup", "web", "127.0.0.11:41153"]).await;
    assert!(outcome.out.contains("172.18.0.2") && outcome.out.contains("fd00::2"), "{outcome:?}");
    let outcome = bench.exec(&id, &["busybox", "nslookup", "172.18.0.2", "127.0.0.11:41153"]).await;
    assert!(outcome.out.contains("web.net"), "{outcome:?}");
    let outcome = bench.exec(&id, &["busybox", "nslookup", "gone", "127.0.0.11:41153"]).await;
    assert!(outcome.out.contains("NXDOMAIN"), "{outcome:?}");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn names_are_answered_while_no_program_of_ours_runs() {
    let mut bench = Bench::new().await;
    let config = bench.resolver(&[("web", &["10.0.0.1"])]);
    let change = |spec: &mut LaunchSpec| {
        spec.lifetime = Lifetime::Detached;
        spec.resolver = Some(config);
    };
    let id = bench.start(&["sleep", "1000"], change).await;
    let inside = bench.inside(&id).await;
    // The last handle of the program that made it.
    bench.runtime = bench.reopen().await;
    assert_eq!(inside.udp("web", A).1, ["10.0.0.1"]);
    zone_of(&[("web", &["10.0.0.2"])]).write(&bench.zone_path()).unwrap();
    assert_eq!(inside.tcp("web", A).1, ["10.0.0.2"]);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_connection_carries_questions_one_after_the_other() {
    let bench = Bench::new().await;
    let many: Vec<String> =
        (0..1000).map(|number| format!("10.0.{}.{}", number / 250, number % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let config = bench.resolver(&[("one", &["10.1.0.1"]), ("two", &["10.1.0.2"]), ("many", &many)]);
    let (id, inside) = bench.start_with_names(config).await;
    let mut connection = inside.connect();
    // Both in one piece, then one in three.
    connection.send(&["one", "two"], A);
    assert_eq!(connection.receive().1, ["10.1.0.1"]);
    assert_eq!(connection.receive().1, ["10.1.0.2"]);
    connection.send_in_pieces("many", A);
    let mut all = connection.receive().1;
    all.sort();
    let mut wanted = many.clone();
    wanted.sort_unstable();
    assert_eq!(all, wanted);
    // By datagram, what fits.
    let (cut, records) = inside.udp_cut("many", A);
    assert!(cut && records.len() < 100, "{}", records.len());
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn e11_broken_connections_cost_nothing() {
    let bench = Bench::new().await;
    let (id, inside) = bench.start_with_names(bench.resolver(&[("web", &["10.0.0.1"])])).await;
    for round in 0..1500 {
        inside.break_connection(round);
    }
    assert_eq!(inside.tcp("web", A).1, ["10.0.0.1"]);
    assert_eq!(inside.udp("web", A).1, ["10.0.0.1"]);
    // Who says nothing keeps nobody out, and costs no time.
    let silent: Vec<_> = (0..64).map(|_| inside.connect()).collect();
    assert_eq!(inside.tcp("web", A).1, ["10.0.0.1"]);
    let before = bench.ticks(&id);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let spent = bench.ticks(&id) - before;
    assert!(spent < 50, "{spent} ticks of 100 while nobody asked anything");
    drop(silent);
    inside.nonsense();
    assert_eq!(inside.udp("web", A).1, ["10.0.0.1"]);
    bench.runtime.delete(&id).await.unwrap();
}

/// Without descriptors, questions fail, nothing spins, and all is well once there are some again.
#[tokio::test]
async fn e11_want_of_descriptors_is_a_failure_and_no_loop() {
    let bench = Bench::new().await;
    let (id, inside) = bench.start_with_names(bench.resolver(&[("web", &["10.0.0.1"])])).await;
    let pid = bench.shim(&id).file_name().unwrap().to_str().unwrap().parse().unwrap();
    let limit = |most| {
        let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(1024) };
        rustix::process::prlimit(
            rustix::process::Pid::from_raw(pid),
            rustix::process::Resource::Nofile,
            limit,
        )
        .unwrap();
    };
    // As many as it has, so that it cannot have one more. Fewer, and it could not wait for those (poll(2)).
    let fds = bench.shim(&id).join("fd");
    let free = (0..).find(|number| !fds.join(number.to_string()).is_symlink()).unwrap();
    limit(free);
    for name in ["web", "gone", "some.example"] {
        assert_eq!(inside.udp(name, A), (SERVER_FAILURE, vec![]));
    }
    let mut connection = inside.connect();
    connection.send(&["web"], A);
    let before = bench.ticks(&id);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let spent = bench.ticks(&id) - before;
    assert!(spent < 50, "{spent} ticks of 100 while no connection could be taken");
    limit(1024);
    assert_eq!(connection.receive().1, ["10.0.0.1"]);
    assert_eq!(inside.udp("gone", A).0, NO_SUCH_NAME);
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_resolver_that_nobody_asks_costs_no_memory() {
    let bench = Bench::new().await;
    let plain = bench.start(&["sleep", "1000"], |_| ()).await;
    let (named, inside) = bench.start_with_names(bench.resolver(&[("web", &["10.0.0.1"])])).await;
    for id in [&plain, &named] {
        let memory = bench.private_memory(id);
        assert!(memory <= 100, "{memory} KiB");
    }
    inside.udp("web", A);
    inside.tcp("web", A);
    let memory = bench.private_memory(&named);
    assert!(memory <= 200, "{memory} KiB after questions");
    for id in [&plain, &named] {
        bench.runtime.delete(id).await.unwrap();
    }
}

#[tokio::test]
async fn a_container_in_a_user_namespace_and_one_that_is_paused_have_names() {
    let bench = Bench::new().await;
    let config = bench.resolver(&[("web", &["10.0.0.1"])]);
    let change = |spec: &mut LaunchSpec| {
        let mut linux = serde_json::to_value(spec.oci.linux().clone().unwrap()).unwrap();
        let map = serde_json::json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
        linux["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
        spec.oci.set_linux(Some(serde_json::from_value(linux).unwrap()));
        spec.resolver = Some(config);
    };
    let id = bench.start(&["sleep", "1000"], change).await;
    let inside = bench.inside(&id).await;
    assert_eq!(inside.udp("web", A).1, ["10.0.0.1"]);
    bench.runtime.pause(&id).await.unwrap();
    assert_eq!(inside.tcp("web", A).1, ["10.0.0.1"]);
    bench.runtime.resume(&id).await.unwrap();
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn names_need_a_network_namespace_of_the_containers_own() {
    let bench = Bench::new().await;
    let other = bench.start(&["sleep", "1000"], |_| ()).await;
    let pid = bench.runtime.state(&other).await.unwrap().pid.unwrap();
    for path in [None, Some(format!("/proc/{pid}/ns/net"))] {
        let id = ContainerId::random();
        let mut spec = bench.spec(&id, &["true"]);
        spec.resolver = Some(ResolverConfig::default());
        let mut linux = serde_json::to_value(spec.oci.linux().clone().unwrap()).unwrap();
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.extend(path.map(|path| serde_json::json!({ "type": "network", "path": path })));
        spec.oci.set_linux(Some(serde_json::from_value(linux).unwrap()));
        let error = bench.runtime.create(&id, &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        bench.runtime.delete(&id).await.unwrap();
    }
    bench.runtime.delete(&other).await.unwrap();
}
