//! This engine, through its facade.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use engine_core::container_spec::NetworkMode;
use engine_core::engine::{ImportOptions, RemoveOptions};
use engine_core::network::{EndpointOptions, NetworkOptions, PortMapping};
use engine_core::{ContainerSpec, Engine, Name, Reference};
use engine_net::LocalNetworks;
use engine_testkit::image::Format;

use super::{Member, Subject, scale};
use crate::host::Host;
use crate::ours::IMAGE;

#[derive(Debug)]
pub(super) struct Ours {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    dir: PathBuf,
    network: Name,
}

impl Ours {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let network: Name = "bench".parse()?;
        let engine = runtime.block_on(async {
            let bridges = LocalNetworks::new(dir, dir.join("run"));
            let engine = Engine::builder(dir)
                .run_root(dir.join("run"))
                .network(bridges)
                .default_network(engine_net::DEFAULT_NETWORK.parse()?)
                .open()
                .await?;
            let image = Host::image(Format::Oci)?;
            let reference: Reference = IMAGE.parse()?;
            let layer = image.layers[0].data.to_vec();
            engine.import(&reference, layer.into(), ImportOptions::default()).await?;
            engine.create_network(&network, &NetworkOptions::default()).await?;
            anyhow::Ok(engine)
        })?;
        Ok(Self { runtime, engine, dir: dir.to_owned(), network })
    }

    /// As [`crate::ours::spec`], on a network.
    fn spec(program: &str, ports: &[u16]) -> ContainerSpec {
        let ports = ports.iter().map(|port| PortMapping::new(*port).with_host_port(*port));
        ContainerSpec::command([program]).with_ports(ports)
    }
}

impl Subject for Ours {
    fn run(&self, port: u16) -> Result<()> {
        self.runtime.block_on(async {
            let container = self.engine.create_scoped(IMAGE, Self::spec("/true", &[port])).await?;
            let status = container.run().await?;
            container.close().await?;
            ensure!(status.code == 0, "the payload ended with {status:?}");
            Ok(())
        })
    }

    fn start(&self, name: &str, ports: &[u16]) -> Result<Member> {
        self.runtime.block_on(async {
            let networks = vec![(self.network.clone(), EndpointOptions::default())];
            let mut spec = Self::spec("/pause", ports).with_network(NetworkMode::Networks(networks));
            spec.name = Some(name.parse()?);
            let container = self.engine.create(IMAGE, spec).await?;
            container.start().await?;
            let info = container.inspect().await?;
            let pid = info.state.pid.context("a running container has a pid")?;
            let endpoint =
                info.networks.iter().find_map(|used| used.endpoint.clone()).context("an endpoint")?;
            let show = |addresses: &[IpAddr]| addresses.first().map(IpAddr::to_string).context("an address");
            Member::new(&pid.to_string(), &show(&endpoint.addresses)?, &show(&endpoint.gateways)?)
        })
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.runtime.block_on(async {
            let container = self.engine.container(name).await?;
            container.remove(RemoveOptions::default().with_force(true)).await?;
            Ok(())
        })
    }

    fn resolver(&self, _: &Member) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, 11), 53).into()
    }

    fn more(&self) -> Result<()> {
        self.runtime.block_on(scale::measure(&self.dir.with_file_name("network-scale")))
    }
}
