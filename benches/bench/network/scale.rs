//! Many networks, endpoints and ports, by the driver alone: a container is a network namespace.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use engine_core::network::{EndpointOptions, NetworkOptions, PortMapping};
use engine_core::runtime::Sandbox;
use engine_core::{ContainerId, Name, Network as _};
use engine_net::LocalNetworks;

use super::print;

const NETWORKS: usize = 200;
/// Endpoints of each.
const MEMBERS: usize = 5;
const ROUNDS: usize = 50;

pub(super) const ROWS: [(&str, &str); 9] = [
    ("attach with a published port, no other there", "attach 0"),
    ("the same beside 100 published ports", "attach 100"),
    ("the same beside 1,000 published ports", "attach 1000"),
    ("detach of a live container, no other port there", "detach 0"),
    ("the same beside 1,000 published ports", "detach 1000"),
    ("create, of 200 networks", "create"),
    ("attach, of 1,000 endpoints: each of the first 100", "attach first"),
    ("each of the last 100", "attach last"),
    ("list of 200 networks with 1,000 endpoints", "list"),
];

fn sandbox() -> Result<(File, Sandbox)> {
    let namespace = std::thread::spawn(|| {
        // Of this thread alone, which ends here.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        anyhow::Ok(File::open("/proc/thread-self/ns/net")?)
    });
    let namespace = namespace.join().map_err(|_| anyhow::anyhow!("a panic"))??;
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&namespace));
    Ok((namespace, Sandbox::new(ContainerId::random(), std::process::id(), Some(path.into()))))
}

pub(super) async fn measure(dir: &Path) -> Result<()> {
    let networks = LocalNetworks::new(dir.join("root"), dir.join("run"));
    ports(&networks).await?;
    many(&networks).await
}

/// What an endpoint with a port costs beside others.
async fn ports(networks: &LocalNetworks) -> Result<()> {
    let name: Name = "ports".parse()?;
    networks.create(&name, &NetworkOptions::default()).await?;
    let published = |first: u16, count: usize| {
        let ports = (first..).take(count).map(|port| PortMapping::new(port).with_host_port(port));
        EndpointOptions::default().with_ports(ports)
    };
    for others in [0, 100, 1000] {
        let (_namespace, holder) = sandbox()?;
        let held = networks.attach(&name, &holder, &published(20_000, others)).await?;
        for _ in 0..ROUNDS {
            let (_namespace, member) = sandbox()?;
            let begun = Instant::now();
            let attachment = networks.attach(&name, &member, &published(19_999, 1)).await?;
            print(&format!("attach {others}"), begun.elapsed().as_nanos());
            let begun = Instant::now();
            networks.detach(&name, &member.id).await?;
            print(&format!("detach {others}"), begun.elapsed().as_nanos());
            drop(attachment);
        }
        networks.detach(&name, &holder.id).await?;
        drop(held);
    }
    Ok(networks.remove(&name).await?)
}

async fn many(networks: &LocalNetworks) -> Result<()> {
    let names =
        (0..NETWORKS).map(|number| Ok(format!("net{number}").parse()?)).collect::<Result<Vec<Name>>>()?;
    for (subnet, name) in names.iter().enumerate() {
        // Docker's pools have room for fewer: small ones.
        let text = format!("10.77.{}.{}/28", subnet / 16, subnet % 16 * 16);
        let options = NetworkOptions::default().with_subnet(text.parse::<engine_core::network::Subnet>()?);
        let begun = Instant::now();
        networks.create(name, &options).await?;
        print("create", begun.elapsed().as_nanos());
    }
    let mut members = Vec::new();
    let mut times = Vec::new();
    for _ in 0..MEMBERS {
        for name in &names {
            let (namespace, member) = sandbox()?;
            let begun = Instant::now();
            networks.attach(name, &member, &EndpointOptions::default()).await?;
            times.push(begun.elapsed().as_nanos());
            members.push((namespace, name, member.id));
        }
    }
    // Those of the first round make a bridge each: the second is like all others.
    times[NETWORKS..NETWORKS + 100].iter().for_each(|time| print("attach first", time));
    times[times.len() - 100..].iter().for_each(|time| print("attach last", time));
    let begun = Instant::now();
    networks.list().await?;
    print("list", begun.elapsed().as_nanos());
    // What the namespaces take along need not be taken apart.
    drop(members);
    Ok(())
}
