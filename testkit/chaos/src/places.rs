//! Networks after a kill: which there are, who is on them, and what the kernel has of them.
//!
//! The network namespace is this run's own, so everything in it is the engine's.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use engine_core::engine::{ContainerInfo, PruneOptions};
use engine_core::network::NetworkInfo;
use engine_core::{Engine, state::ContainerStatus};

use crate::journal::Operation;
use crate::model::{Known, Model};
use crate::{LANES, PORT};

/// How long the kernel may take to remove what was in a namespace that has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a program to its end and returns what it prints.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Compares the networks there are, and returns their ids.
pub(crate) async fn networks(engine: &Engine, model: &mut Model) -> Result<Vec<String>> {
    let all = engine.networks().await?;
    let own = all.iter().filter(|info| !engine.is_predefined(&info.name));
    let found: BTreeSet<String> = own.map(|info| info.name.to_string()).collect();
    for name in model.networks.difference(&found) {
        let may_be_gone = model.open(name) == Some(Operation::RemoveNetwork);
        ensure!(may_be_gone, "network {name} was acknowledged and is gone");
    }
    for name in found.difference(&model.networks) {
        let may_be_there = model.open(name) == Some(Operation::CreateNetwork);
        ensure!(may_be_there, "network {name} was never acknowledged");
    }
    model.networks = found;
    Ok(all.into_iter().map(|info| info.id).collect())
}

/// Compares which networks containers are on.
pub(crate) fn containers(found: &[ContainerInfo], model: &mut Model) -> Result<()> {
    for container in found {
        let name = container.name.to_string();
        let now: BTreeSet<String> = container.networks.iter().map(|used| used.name.to_string()).collect();
        let open = model.open(&name);
        let is_moving = matches!(open, Some(Operation::Connect | Operation::Disconnect));
        if let Some(known) = model.on.get(&name).filter(|_| !is_moving) {
            ensure!(*known == now, "{name} was on {known:?} and is on {now:?}, under way: {open:?}");
        }
        if is_moving {
            model.loose.insert(name.clone());
        }
        let runs = container.state.status == ContainerStatus::Running
            && matches!(model.containers.get(&name), Some(Known::Running(_)))
            && !model.loose.contains(&name)
            && open.is_none();
        for used in container.networks.iter().filter(|_| runs) {
            let is_attached = used.network.is_none() || used.endpoint.is_some();
            ensure!(is_attached, "{name} runs and has no place on {}", used.name);
        }
        model.on.insert(name, now);
    }
    Ok(())
}

/// Compares interfaces and rules with the endpoints there are. What somebody was killed amid taking from a container may be half
/// gone: that is looked at only for what must not be there.
pub(crate) async fn kernel(engine: &Engine, found: &[ContainerInfo], model: &Model) -> Result<()> {
    let is_unsure = |container: &&ContainerInfo| {
        let name = container.name.as_str();
        model.open(name).is_some()
            || model.loose.contains(name)
            || matches!(model.containers.get(name), None | Some(Known::Unsure))
    };
    let unsure = found.iter().filter(is_unsure).map(|container| container.id.to_string()).collect();
    let end = Instant::now() + PATIENCE;
    loop {
        let wrong = differences(&engine.networks().await?, &unsure)?;
        if wrong.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{}", wrong.join("; "));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is not as these networks make it, but for what the containers `unsure` may lack.
fn differences(networks: &[NetworkInfo], unsure: &BTreeSet<String>) -> Result<Vec<String>> {
    let links = links()?;
    let mut allowed = BTreeSet::from(["lo".to_owned()]);
    let (mut wanted, mut least, mut most) = (BTreeSet::new(), 0, 0);
    for network in networks {
        for (prefix, length) in [("br", 12), ("dm", 12), ("new", 11)] {
            allowed.insert(format!("{prefix}-{}", &network.id[..length]));
        }
        // Those of a mode have no interface.
        for endpoint in network.endpoints.iter().filter(|one| !one.addresses.is_empty()) {
            let is_sure = !unsure.contains(endpoint.container.as_str());
            most += endpoint.ports.len();
            least += if is_sure { endpoint.ports.len() } else { 0 };
            if network.options.driver.as_deref() == Some("bridge") {
                let link = format!("veth{}", &endpoint.id[..11]);
                wanted.extend(is_sure.then(|| link.clone()));
                allowed.insert(link);
            }
        }
    }
    let mut wrong = Vec::new();
    wrong.extend(wanted.difference(&links).map(|link| format!("no interface {link}")));
    wrong.extend(links.difference(&allowed).map(|link| format!("interface {link} is nobody's")));
    // Elements are the only lines that name a protocol so.
    let published = output("nft", &["list", "ruleset"])?.matches("tcp . ").count();
    if !(least..=most).contains(&published) {
        wrong.push(format!("{published} ports are published instead of {least} to {most}"));
    }
    Ok(wrong)
}

/// The names of all interfaces.
fn links() -> Result<BTreeSet<String>> {
    let text = output("ip", &["-o", "link", "show"])?;
    let names = text.lines().filter_map(|line| line.split(": ").nth(1));
    Ok(names.map(|name| name.split('@').next().unwrap_or(name).to_owned()).collect())
}

/// Removes all networks, and the default one's bridge.
pub(crate) async fn remove(engine: &Engine) -> Result<()> {
    for network in engine.networks().await? {
        if !engine.is_predefined(&network.name) {
            engine.remove_network(&network.id).await?;
        }
    }
    engine.prune_networks(&PruneOptions::default()).await?;
    Ok(())
}

/// Looks that nothing is left: no interface, no rule, no port that is taken.
pub(crate) fn check_base() -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (links, rules) = (links()?, output("nft", &["list", "ruleset"])?);
        let ports = (0..LANES as u16).map(|lane| PORT + lane);
        let taken: Vec<_> = ports.filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_err()).collect();
        if links.len() == 1 && rules.is_empty() && taken.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("left behind: interfaces {links:?}, ports {taken:?}, rules {rules:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
