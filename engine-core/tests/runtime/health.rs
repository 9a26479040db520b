//! Health probes with real processes and sockets: what they may do, and where they come from.

use std::time::{Duration, Instant};

use engine_core::health::{Health, HealthProbe, HealthSpec, HealthStatus};
use engine_core::policy::CapabilitySet;
use engine_core::{ContainerId, LaunchSpec, Runtime as _};

use crate::support::{Bench, PATIENCE};

fn often(probe: HealthProbe) -> HealthSpec {
    let mut spec = HealthSpec::new(probe);
    (spec.interval, spec.retries) = (Duration::from_millis(50), 1);
    spec
}

fn command(args: &[&str]) -> HealthProbe {
    HealthProbe::Command(args.iter().map(|&text| text.to_owned()).collect())
}

async fn until(bench: &Bench, id: &ContainerId, wanted: impl Fn(&Health) -> bool) -> Health {
    let end = Instant::now() + PATIENCE;
    loop {
        let health = bench.runtime.state(id).await.unwrap().health.unwrap();
        if wanted(&health) {
            return health;
        }
        assert!(Instant::now() < end, "{health:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a probe by `args` writes in a container.
async fn output(bench: &Bench, args: &[&str], change: impl FnOnce(&mut LaunchSpec)) -> String {
    let with_probe = |spec: &mut LaunchSpec| {
        change(spec);
        spec.health = Some(often(command(args)));
    };
    let id = bench.start(&["sleep", "1000"], with_probe).await;
    let health = until(bench, &id, |health| !health.results.is_empty()).await;
    bench.runtime.delete(&id).await.unwrap();
    health.results[0].output.clone()
}

#[tokio::test]
async fn a6_a_probe_has_no_descriptor_of_ours() {
    let bench = Bench::new().await;
    // `ls` has one for the directory it lists.
    for (init, terminal) in [(false, None), (true, None), (false, Some((80, 24)))] {
        let change = |spec: &mut LaunchSpec| {
            spec.init = init;
            spec.terminal = terminal.map(|(columns, rows)| engine_core::io::TerminalSize { columns, rows });
        };
        assert_eq!(output(&bench, &["ls", "/proc/self/fd"], change).await, "0\n1\n2\n3\n");
        let stdin = output(&bench, &["sh", "-c", "readlink /proc/self/fd/0; wc -c"], change).await;
        assert_eq!(stdin, "/dev/null\n0\n");
    }
}

#[tokio::test]
async fn b1_a_probe_has_the_containers_user_and_capabilities() {
    let bench = Bench::new().await;
    let bits = CapabilitySet::default_set().intersection(CapabilitySet::available()).bits();
    for (user, ids, own) in [("", "0 0", bits), ("1000", "1000 1001", 0), ("user", "1000 1001", 0)] {
        let script =
            "echo $(id -u) $(id -g) $VARIABLE; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; pwd";
        let change = |spec: &mut LaunchSpec| {
            spec.user = user.to_owned();
            let mut process = spec.oci.process().clone().unwrap();
            process.set_env(Some(vec!["PATH=/bin".into(), "VARIABLE=seen".into()]));
            process.set_cwd("/home".into());
            spec.oci.set_process(Some(process));
        };
        let out = output(&bench, &["sh", "-c", script], change).await;
        let expected = format!(
            "{ids} seen\nCapInh:\t{none:016x}\nCapPrm:\t{own:016x}\nCapEff:\t{own:016x}\nCapBnd:\t{bits:016x}\n\
             CapAmb:\t{none:016x}\nNoNewPrivs:\t1\nSeccomp:\t2\n/home\n",
            none = 0
        );
        assert_eq!(out, expected, "{user:?}");
    }
}

#[tokio::test]
async fn b5_a_probe_is_in_the_containers_cgroup_and_namespaces() {
    let bench = Bench::new().await;
    let id =
        bench.start(&["sleep", "1000"], |spec| spec.health = Some(often(command(&["sleep", "777"])))).await;
    let init = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let end = Instant::now() + PATIENCE;
    let pid = loop {
        let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
            (command == b"sleep\x00777\0" && groups.contains(id.as_str())).then_some(pid)
        });
        if let Some(pid) = found {
            break pid;
        }
        assert!(Instant::now() < end, "no probe is seen in the container's cgroup");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let outside: Vec<_> = groups.lines().filter(|line| !line.contains(id.as_str())).collect();
    assert!(outside.is_empty(), "{outside:?}");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(of(pid), of(init), "{kind}");
    }
    bench.runtime.delete(&id).await.unwrap();
}

/// What a probe started goes with it when its time is over.
#[tokio::test]
async fn a_hanging_probe_is_ended_with_its_children() {
    let bench = Bench::new().await;
    let mut check = often(command(&["sh", "-c", "sleep 778 & sleep 778; true"]));
    (check.timeout, check.interval) = (Duration::from_millis(150), Duration::from_millis(20));
    let change = |spec: &mut LaunchSpec| (spec.health, spec.init) = (Some(check), true);
    let id = bench.start(&["sleep", "1000"], change).await;
    let health = until(&bench, &id, |health| health.results.len() == 5).await;
    assert!(health.results.iter().all(|result| result.exit_code == -1), "{health:?}");
    // The container's and its init, and those of two probes at most: one under way and one that is going, not five.
    let pids = bench.runtime.stats(&id).await.unwrap().pids;
    assert!(pids <= 10, "{pids}");
    bench.runtime.delete(&id).await.unwrap();
}

/// Wherever a probe is on its way when its time is up: before it is in the container, or as it begins there.
#[tokio::test]
async fn a_probe_that_is_ended_early_leaves_a_container_that_can_end() {
    let bench = Bench::new().await;
    for timeout in (1..=20).cycle().take(60) {
        let mut check = often(command(&["sleep", "778"]));
        (check.timeout, check.interval) = (Duration::from_millis(timeout), Duration::from_millis(1));
        let id = bench.start(&["sleep", "1000"], |spec| spec.health = Some(check)).await;
        let health = until(&bench, &id, |health| health.results.len() == 5).await;
        let ended = |text: &str| text.ends_with("the probe took too long and was ended");
        assert!(health.results.iter().all(|result| ended(&result.output)), "{health:?}");
        let deleted = tokio::time::timeout(PATIENCE, bench.runtime.delete(&id)).await;
        deleted.expect("the container ends").unwrap();
    }
}

#[tokio::test]
async fn connections_are_made_from_inside_the_containers_network() {
    let bench = Bench::new().await;
    std::fs::create_dir(bench.layer().join("www")).unwrap();
    std::fs::write(bench.layer().join("www/fine"), "all is well\n").unwrap();
    let server = "busybox httpd -p 127.0.0.1:8080 -h /www; exec sleep 1000";
    let http =
        |path: &str| HealthProbe::Http { address: "127.0.0.1:8080".parse().unwrap(), path: path.to_owned() };
    let tcp = |port: u16| HealthProbe::Tcp(([127, 0, 0, 1], port).into());
    for (probe, status, words) in [
        (tcp(8080), HealthStatus::Healthy, ""),
        (tcp(8081), HealthStatus::Unhealthy, "refused"),
        (http("/fine?x=1"), HealthStatus::Healthy, "200 OK"),
        (http("/missing"), HealthStatus::Unhealthy, "404 Not Found"),
    ] {
        let mut check = often(probe.clone());
        // The server may not listen yet.
        check.start_period = Duration::from_secs(if status == HealthStatus::Healthy { 1000 } else { 0 });
        check.start_interval = Duration::from_millis(50);
        let id = bench.start(&["sh", "-c", server], |spec| spec.health = Some(check)).await;
        let reached = |health: &Health| {
            health.status == status && health.results.last().unwrap().output.contains(words)
        };
        let health = until(&bench, &id, reached).await;
        let result = health.results.last().unwrap();
        assert_eq!(result.exit_code == 0, status == HealthStatus::Healthy, "{probe:?}: {result:?}");
        bench.runtime.delete(&id).await.unwrap();
    }
    // Nothing of this is reached from the host's network.
    assert!(std::net::TcpStream::connect("127.0.0.1:8080").is_err());
}

/// A server that accepts and says nothing, or nonsense, is not healthy.
#[tokio::test]
async fn an_answer_that_is_none_is_a_failure() {
    let bench = Bench::new().await;
    for (server, words) in [
        ("while :; do sleep 100 | busybox nc -l -p 8080; done", "too long"),
        ("while :; do echo nonsense that is long enough | busybox nc -l -p 8080; done", "not one of HTTP"),
    ] {
        let address = "127.0.0.1:8080".parse().unwrap();
        let mut check = often(HealthProbe::Http { address, path: "/".to_owned() });
        check.timeout = Duration::from_millis(300);
        let id = bench.start(&["sh", "-c", server], |spec| spec.health = Some(check)).await;
        // A result is there a moment before what follows from it.
        let said = |health: &Health| {
            health.status == HealthStatus::Unhealthy
                && health.results.iter().any(|result| result.output.contains(words))
        };
        until(&bench, &id, said).await;
        bench.runtime.delete(&id).await.unwrap();
    }
}

/// Results are small files of their owner only, and go with the container.
#[tokio::test]
async fn b9_results_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], |spec| spec.health = Some(often(command(&["true"])))).await;
    until(&bench, &id, |health| health.results.len() == 5).await;
    let dir = bench.dir.path().join("root/containers").join(id.as_str());
    let mut files = 0;
    for entry in std::fs::read_dir(&dir).unwrap().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("health.") && name != "health.new")
        {
            files += 1;
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    assert_eq!(files, 5);
    bench.runtime.delete(&id).await.unwrap();
    assert!(!dir.exists());
}
