//! After a crash or somebody's hand: nothing of ours is lost, nothing of others' is touched, nothing stays.

use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use engine_core::Network as _;
use engine_core::network::{EndpointOptions, NetworkOptions, PortMapping};

use crate::support::{Container, Host, MOMENT, PATIENCE};

#[test]
fn e10_rules_come_back_and_others_stay() {
    let host = Host::new();
    let world = host.neighbour();
    host.space.command("nft", "add table inet others");
    host.space.command("nft", "add chain inet others mine { type filter hook input priority 0 ; }");
    let others = host.space.command("nft", "list table inet others");
    let network = host.open();
    let (server, later) = (Container::new(), Container::new());
    let (sandbox, second) = (server.sandbox.clone(), later.sandbox.clone());
    let opened = network.clone();
    let name: engine_core::Name = "bridge".parse().unwrap();
    let (attached, id) = (name.clone(), sandbox.id.clone());
    let kept = host.run(async move {
        let port = PortMapping::new(80).with_host_port(8080);
        opened.attach(&attached, &sandbox, &EndpointOptions::default().with_ports([port])).await.unwrap()
    });
    server.space.echo("0.0.0.0:80");
    world.ask("192.0.2.1:8080").unwrap();
    let tables = host.space.command("nft", "list tables");
    let ours = tables.lines().find(|line| line.contains("engine-")).unwrap();
    let rules = host.space.command("nft", &format!("list {ours}"));
    let (opened, attached) = (network.clone(), name.clone());
    host.run(async move {
        opened.attach(&attached, &second, &EndpointOptions::default()).await.unwrap();
    });
    let chain = ours.replacen("table", "flush chain", 1) + " forward";
    let element = ours.replacen("table", "flush map", 1) + " ports4";
    for damage in [&format!("delete {ours}"), &chain, &element] {
        host.space.command("nft", damage);
        // While a program has the networks open, at once.
        let end = Instant::now() + PATIENCE;
        let now = || {
            host.space
                .run(|| Command::new("nft").args(["list"]).args(ours.split(' ')).output().unwrap().stdout)
        };
        while String::from_utf8(now()).unwrap() != rules {
            assert!(Instant::now() < end, "{damage}");
            std::thread::sleep(Duration::from_millis(10));
        }
        world.ask("192.0.2.1:8080").unwrap();
    }
    // Else with the next that opens them.
    drop(network);
    host.space.command("nft", &format!("delete {ours}"));
    std::thread::sleep(MOMENT);
    assert!(world.is_refused("192.0.2.1:8080"));
    let network = host.open();
    let opened = network.clone();
    host.run(async move { opened.sweep(&[]).await.unwrap() });
    world.ask("192.0.2.1:8080").unwrap();
    drop(kept);
    host.run(async move {
        network.detach(&name, &id).await.unwrap();
        let info = network.inspect(&name).await.unwrap().unwrap();
        network.sweep(&info.endpoints).await.unwrap();
        network.remove(&name).await.unwrap();
    });
    assert_eq!(host.space.command("nft", "list table inet others"), others);
    host.space.command("nft", "delete table inet others");
    assert_eq!(host.left(), "");
}

#[test]
fn a_failed_attach_leaves_nothing() {
    let host = Host::new();
    let network = host.open();
    let container = Container::new();
    container.space.ip("link add eth0 type bridge");
    let sandbox = container.sandbox.clone();
    host.run(async move {
        let name = "net".parse().unwrap();
        network.create(&name, &NetworkOptions::default()).await.unwrap();
        let mut options = EndpointOptions::default().with_ports([PortMapping::new(80)]);
        options.interface = Some("eth0".into());
        network.attach(&name, &sandbox, &options).await.unwrap_err();
        let info = network.inspect(&name).await.unwrap().unwrap();
        assert!(info.endpoints.is_empty(), "{info:?}");
        network.remove(&name).await.unwrap();
    });
    assert_eq!(host.left(), "");
}

#[test]
fn what_no_record_knows_is_swept() {
    let host = Host::new();
    let network = host.open();
    let container = Container::new();
    let sandbox = container.sandbox.clone();
    host.run(async move {
        network.attach(&"bridge".parse().unwrap(), &sandbox, &EndpointOptions::default()).await.unwrap();
    });
    // As after the loss of the engine's files.
    for entry in std::fs::read_dir(host.dir.path().join("root")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let network = host.open();
    host.run(async move { network.sweep(&[]).await.unwrap() });
    assert_eq!(host.left(), "");
}

/// The rules with their numbers, which they have for as long as nobody makes them anew.
fn numbered(host: &Host) -> Vec<String> {
    let text = host.space.command("nft", "-a list ruleset");
    text.lines().filter(|line| line.contains("# handle")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn what_comes_and_goes_leaves_the_rules_alone() {
    let host = Host::new();
    let network = std::sync::Arc::new(host.open());
    let many = (20_000..20_300).map(|port| PortMapping::new(80).with_host_port(port));
    let many = EndpointOptions::default().with_ports(many);
    let one = EndpointOptions::default().with_ports([PortMapping::new(80).with_host_port(8080)]);
    let (stays, goes) = (Container::new(), Container::new());
    let (first, second) = (stays.sandbox.clone(), goes.sandbox.clone());
    let bridge: engine_core::Name = "bridge".parse().unwrap();
    let (driver, name) = (std::sync::Arc::clone(&network), bridge.clone());
    let kept = host.run(async move { driver.attach(&name, &first, &many).await.unwrap() });
    let before = numbered(&host);
    for swept in [false, true] {
        let (driver, name) = (std::sync::Arc::clone(&network), bridge.clone());
        let (second, one) = (second.clone(), one.clone());
        host.run(async move {
            let attachment = driver.attach(&name, &second, &one).await.unwrap();
            if swept {
                driver.sweep(&[attachment.endpoint]).await.unwrap();
            } else {
                driver.detach(&name, &second.id).await.unwrap();
            }
        });
        // Whoever watches over them has had the time to look.
        std::thread::sleep(MOMENT);
        assert_eq!(numbered(&host), before, "swept: {swept}");
    }
    drop(kept);
}

#[test]
fn who_has_ended_is_off_the_network_whoever_holds_its_namespace() {
    let host = Host::new();
    let network = host.open();
    let (old, new) = (Container::new(), Container::new());
    old.space.echo("0.0.0.0:80");
    new.space.echo("0.0.0.0:81");
    // The path by which the engine knows the first one ends before its namespace does.
    let process = std::fs::File::open(old.space.path()).unwrap();
    let mut first = old.sandbox.clone();
    first.network_namespace = Some(format!("/proc/self/fd/{}", process.as_raw_fd()).into());
    let second = new.sandbox.clone();
    let name: engine_core::Name = "bridge".parse().unwrap();
    let (driver, bridge) = (network.clone(), name.clone());
    let before = host.run(async move {
        driver.attach(&bridge, &first, &EndpointOptions::default()).await.unwrap().endpoint
    });
    let address = before.addresses[0];
    // The host knows now where the address is.
    assert!(host.space.ask(&format!("{address}:80")).is_ok());
    drop(process);
    let after = host.run(async move {
        network.sweep(&[before]).await.unwrap();
        network.attach(&name, &second, &EndpointOptions::default()).await.unwrap().endpoint
    });
    assert_eq!(after.addresses, [address]);
    assert!(host.space.ask(&format!("{address}:81")).is_ok());
    assert!(host.space.is_refused(&format!("{address}:80")));
}
