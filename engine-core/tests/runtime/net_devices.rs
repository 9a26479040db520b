//! Interfaces of the host in containers (`linux.netDevices`). Each test has a network namespace of its own for a host's.

use std::future::Future;
use std::process::Command;
use std::time::Instant;

use engine_core::oci_spec::runtime::{Linux, LinuxNamespaceType};
use engine_core::{ContainerId, ErrorKind, LaunchSpec, Runtime as _};
use engine_testkit::require;
use nix::sched::{CloneFlags, unshare};

use crate::support::{Bench, PATIENCE};

/// Runs a test whose threads, and so its containers' shims, are in a network namespace of their own.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("make a runtime").block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What `ip` writes, or `None` if it fails.
fn try_ip(arguments: &str) -> Option<String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap_or_else(|| panic!("ip {arguments} fails"))
}

/// Makes a pair whose first end has addresses of all kinds.
fn make(name: &str, peer: &str, net: u8) {
    ip(&format!("link add {name} mtu 1400 type veth peer name {peer}"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {peer} up"));
    ip(&format!("addr add 10.9.{net}.1/24 brd + dev {name} label {name}:x"));
    ip(&format!("addr add 10.9.{net}.2/24 dev {name} noprefixroute"));
    ip(&format!("addr add 10.10.{net}.1 peer 10.10.{net}.2 dev {name}"));
    ip(&format!("addr add 169.254.{net}.1/16 scope link dev {name}"));
    ip(&format!("addr add 10.11.{net}.1/24 dev {name} valid_lft 5000 preferred_lft 5000"));
    ip(&format!("addr add fd09:{net}::1/64 nodad dev {name}"));
}

/// What is to be as it was after a failure: state, bridge, addresses but the kernel's own, each with its flags.
fn picture(name: &str) -> Vec<String> {
    let link = ip(&format!("-o link show dev {name}"));
    let words: Vec<&str> = link.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|w| *w == word).map_or("none", |at| words[at + 1]);
    let mut lines = vec![format!("{} mtu {} master {}", words[1], after("mtu"), after("master"))];
    lines.push(format!("up {}", words[2].split(['<', ',', '>']).any(|flag| flag == "UP")));
    let addresses = ip(&format!("-o addr show dev {name}"));
    let ours = addresses.lines().filter(|line| !line.contains("inet6 fe80:"));
    lines.extend(ours.map(|line| {
        // Behind a backslash are lifetimes, which go by.
        let line = line.split('\\').next().unwrap_or(line);
        let line: Vec<&str> = line.split_whitespace().skip(1).collect();
        line.join(" ")
    }));
    lines
}

fn linux(spec: &mut LaunchSpec, change: impl FnOnce(&mut Linux)) {
    let mut linux = spec.oci.linux().clone().unwrap();
    change(&mut linux);
    spec.oci.set_linux(Some(linux));
}

fn wish(spec: &mut LaunchSpec, devices: &[(&str, &str)]) {
    let devices = devices.iter().map(|(host, inside)| {
        let device = serde_json::json!({ "name": inside });
        ((*host).to_owned(), serde_json::from_value(device).unwrap())
    });
    let devices = devices.collect();
    linux(spec, |linux| {
        linux.set_net_devices(Some(devices));
    });
}

async fn refused(bench: &Bench, change: impl FnOnce(&mut LaunchSpec)) -> engine_core::Error {
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["true"]);
    change(&mut spec);
    let error = bench.runtime.create(&id, &spec).await.unwrap_err();
    assert_eq!(bench.runtime.state(&id).await.unwrap_err().kind(), ErrorKind::NotFound, "after {error:?}");
    error
}

async fn gone(name: &str) {
    let end = Instant::now() + PATIENCE;
    while try_ip(&format!("link show dev {name}")).is_some() {
        assert!(Instant::now() < end, "{name} is still there");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn an_interface_moves_with_its_lasting_addresses_and_stays_for_every_run() {
    require!(root, overlayfs, network_namespaces, "ip");
    alone(|| async {
        let bench = Bench::new().await;
        make("host0", "peer0", 1);
        let show = ["sh", "-c", "busybox ip addr show dev data0"];
        // What the program itself sees when it begins.
        let id = bench
            .start(&["sh", "-c", "busybox ip addr show dev data0 > /seen; exec sleep 1000"], |spec| {
                wish(spec, &[("host0", "data0")]);
                spec.restart = engine_core::RestartPolicy::Always;
                spec.oci.set_root(None);
            })
            .await;
        assert_eq!(try_ip("link show dev host0"), None);
        let end = Instant::now() + PATIENCE;
        let seen = loop {
            let seen = bench.exec(&id, &["cat", "/seen"]).await.out;
            if seen.contains("fd09:1::1") {
                break seen;
            }
            assert!(Instant::now() < end, "{seen}");
        };
        for there in [
            ",UP",
            "mtu 1400",
            "inet 10.9.1.1/24 brd 10.9.1.255 scope global data0:x",
            "inet 10.9.1.2/24 scope global secondary",
            "inet 10.10.1.1 peer 10.10.1.2/32 scope global data0",
            "inet6 fd09:1::1/64 scope global",
        ] {
            assert!(seen.contains(there), "{there:?} is not in\n{seen}");
        }
        for not_there in ["169.254", "10.11.1.1", "tentative"] {
            assert!(!seen.lines().any(|line| line.contains(not_there) && !line.contains("fe80")), "{seen}");
        }
        for count in 1..3 {
            bench.runtime.signal(&id, 9).await.unwrap();
            let end = Instant::now() + PATIENCE;
            while bench.runtime.state(&id).await.unwrap().restart_count < count
                || bench.runtime.state(&id).await.unwrap().pid.is_none()
            {
                assert!(Instant::now() < end);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let outcome = bench.exec(&id, &show).await;
            assert!(outcome.out.contains("inet 10.9.1.1/24") && outcome.out.contains(",UP"), "{outcome:?}");
        }
        bench.runtime.delete(&id).await.unwrap();
        // A virtual interface ends with the namespace, and nothing of ours keeps that.
        gone("peer0").await;
        let error = refused(&bench, |spec| wish(spec, &[("host0", "data0")])).await;
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.report().contains("there is no such interface"), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("ends with it")), "{error:?}");
    });
}

#[test]
fn what_cannot_move_is_refused_and_stays_as_it_was() {
    require!(root, overlayfs, network_namespaces, "ip");
    alone(|| async {
        let bench = Bench::new().await;
        make("host0", "peer0", 1);
        make("host1", "peer1", 2);
        ip("link add bridge0 type bridge");
        ip("link set host0 master bridge0");
        ip("link set peer1 down");
        let before = ["host0", "host1", "peer0", "peer1"].map(picture);
        let kinds = [
            (vec![("none0", "data0")], ErrorKind::InvalidArgument, "there is no such interface"),
            (vec![("0123456789abcdef", "data0")], ErrorKind::InvalidArgument, "at most 15 bytes"),
            (vec![("host0", "a/b")], ErrorKind::InvalidArgument, "no slash"),
            (vec![("host0", "..")], ErrorKind::InvalidArgument, "cannot have this name"),
            (vec![("host0", "a%s")], ErrorKind::InvalidArgument, "one %d"),
            (vec![("host0", "a"), ("host1", "a")], ErrorKind::InvalidArgument, "the same name"),
            (vec![("host0", "lo")], ErrorKind::Conflict, "has an interface of this name"),
            // The second fails when the first has moved.
            (vec![("host0", "data0"), ("host1", "lo")], ErrorKind::Conflict, "has an interface of this name"),
            (vec![("host0", "data0"), ("host1", "data1"), ("lo", "lo0")], ErrorKind::InvalidArgument, "lo"),
        ];
        for (devices, kind, text) in kinds {
            let error = refused(&bench, |spec| wish(spec, &devices)).await;
            assert_eq!(error.kind(), kind, "{devices:?}: {error:?}");
            assert!(error.report().contains(text), "{devices:?}: {error:?}");
            assert!(error.suppressed().is_empty(), "{error:?}");
            assert_eq!(["host0", "host1", "peer0", "peer1"].map(picture), before, "{devices:?}: {error:?}");
        }
        let in_the_hosts = |path: Option<&str>| {
            let path = path.map(ToOwned::to_owned);
            move |spec: &mut LaunchSpec| {
                wish(spec, &[("host0", "data0")]);
                linux(spec, |linux| {
                    let mut json = serde_json::to_value(linux.namespaces().clone().unwrap()).unwrap();
                    let list = json.as_array_mut().unwrap();
                    list.retain(|namespace| namespace["type"] != "network");
                    list.extend(path.map(|path| serde_json::json!({ "type": "network", "path": path })));
                    linux.set_namespaces(serde_json::from_value(json).unwrap());
                    linux.set_sysctl(None);
                });
            }
        };
        let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
        for path in [None, Some(own.as_str())] {
            let error = refused(&bench, in_the_hosts(path)).await;
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{path:?}: {error:?}");
            assert!(error.to_string().contains("in the host's network namespace"), "{path:?}: {error:?}");
        }
        assert_eq!(["host0", "host1", "peer0", "peer1"].map(picture), before);
    });
}

#[test]
fn a_container_whose_program_never_ran_gives_its_interfaces_back() {
    require!(root, overlayfs, network_namespaces, "ip");
    alone(|| async {
        let bench = Bench::new().await;
        make("host0", "peer0", 1);
        let before = picture("host0");
        let id = ContainerId::random();
        let create = async |command: &str| {
            let mut spec = bench.spec(&id, &[command]);
            wish(&mut spec, &[("host0", "data0")]);
            bench.runtime.create(&id, &spec).await.unwrap();
            assert_eq!(try_ip("link show dev host0"), None);
        };
        create("no-such-command").await;
        let error = bench.runtime.start(&id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error:?}");
        assert_eq!(picture("host0"), before);
        // The same container once more, with what it had before.
        create("true").await;
        bench.runtime.stop(&id, 9).await.unwrap();
        bench.runtime.wait(&id).await.unwrap();
        assert_eq!(picture("host0"), before);
        create("true").await;
        bench.runtime.delete(&id).await.unwrap();
        assert_eq!(picture("host0"), before);
        // Started by another program, it has run: what it has stays its own.
        create("true").await;
        let other = bench.reopen().await;
        other.start(&id).await.unwrap();
        other.wait(&id).await.unwrap();
        bench.runtime.start(&id).await.unwrap_err();
        bench.runtime.delete(&id).await.unwrap();
        gone("peer0").await;
        assert_eq!(try_ip("link show dev host0"), None);
    });
}

#[test]
fn names_with_a_number_and_namespaces_of_others() {
    require!(root, overlayfs, network_namespaces, user_namespaces, "ip");
    alone(|| async {
        let bench = Bench::new().await;
        for (net, (name, peer)) in
            [("host0", "peer0"), ("host1", "peer1"), ("host2", "peer2")].iter().enumerate()
        {
            make(name, peer, u8::try_from(net).unwrap());
        }
        // In a user namespace, whose root owns the network namespace.
        let first = bench
            .start(&["sleep", "1000"], |spec| {
                wish(spec, &[("host0", "eth%d"), ("host1", "")]);
                linux(spec, |linux| {
                    let mut json = serde_json::to_value(&*linux).unwrap();
                    let map = serde_json::json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
                    (json["uidMappings"], json["gidMappings"]) = (map.clone(), map);
                    json["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
                    *linux = serde_json::from_value(json).unwrap();
                });
            })
            .await;
        let show = |name| ["busybox", "ip", "addr", "show", "dev", name];
        for (name, address) in [("eth0", "inet 10.9.0.1/24"), ("host1", "inet 10.9.1.1/24")] {
            let outcome = bench.exec(&first, &show(name)).await;
            assert!(outcome.out.contains(address) && outcome.out.contains(",UP"), "{outcome:?}");
        }
        let second = bench.start(&["sleep", "1000"], |_| ()).await;
        let pid = bench.runtime.state(&second).await.unwrap().pid.unwrap();
        let join = |spec: &mut LaunchSpec, inside: &str| {
            wish(spec, &[("host2", inside)]);
            linux(spec, |linux| {
                let mut list = linux.namespaces().clone().unwrap();
                for namespace in list.iter_mut().filter(|n| n.typ() == LinuxNamespaceType::Network) {
                    namespace.set_path(Some(format!("/proc/{pid}/ns/net").into()));
                }
                linux.set_namespaces(Some(list));
                linux.set_sysctl(None);
            });
        };
        let before = picture("host2");
        let error = refused(&bench, |spec| join(spec, "lo")).await;
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert_eq!(picture("host2"), before);
        assert_eq!(bench.run_with(&["true"], |spec| join(spec, "data0")).await.status.code, 0);
        // It is the namespace's now, which is another container's.
        let outcome = bench.exec(&second, &show("data0")).await;
        assert!(outcome.out.contains("inet 10.9.2.1/24"), "{outcome:?}");
        for id in [first, second] {
            bench.runtime.delete(&id).await.unwrap();
        }
        for name in ["peer0", "peer1", "peer2"] {
            gone(name).await;
        }
    });
}
