//! Networks: starts with a published port, throughput and connections by each way to a container, names.
//!
//! Each engine is measured in a network namespace that is a host of its own, with its own daemon where it needs one. Servers and
//! clients are threads of this program in the namespaces of containers: the same for all, and none of it is the engine's.
//! This file owns the measurements and the tables, `traffic` what goes over the wire, `ours`, `docker` and `podman` the engines.

mod docker;
mod ours;
mod podman;
mod scale;
mod traffic;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use engine_benches::Samples;

use crate::host::{self, Host};
use crate::table::Table;

const NAMES: [&str; 3] = ["engine", "docker", "podman"];
/// How many ports are published beside the one that is measured.
const PORTS: [usize; 3] = [1, 100, 1000];
/// The first of these ports, and the one that is measured.
const FIRST_PORT: u16 = 20_000;
const PORT: u16 = 19_999;

/// An engine whose containers are on a network with names.
trait Subject {
    /// Runs the payload to its end, with a published port.
    fn run(&self, port: u16) -> Result<()>;

    /// Starts a container that stays, on a network of its own with names. The ports are the same on the host.
    fn start(&self, name: &str, ports: &[u16]) -> Result<Member>;

    /// Removes it.
    fn remove(&self, name: &str) -> Result<()>;

    /// Where a container asks for names.
    fn resolver(&self, member: &Member) -> SocketAddr;

    /// Measures what only this engine can be asked for.
    fn more(&self) -> Result<()> {
        Ok(())
    }
}

/// A running container.
#[derive(Debug)]
struct Member {
    namespace: File,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
}

impl Member {
    fn new(pid: &str, address: &str, gateway: &str) -> Result<Self> {
        let namespace = File::open(format!("/proc/{}/ns/net", pid.trim()))?;
        Ok(Self { namespace, address: address.trim().parse()?, gateway: gateway.trim().parse()? })
    }
}

/// Measures one engine: the body of the program's `network` subcommand, which runs in a namespace of its own.
pub(crate) fn measure(name: &str, rounds: usize, dir: &Path) -> Result<()> {
    host::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let subject: Box<dyn Subject> = match name {
        "engine" => Box::new(ours::Ours::open(dir)?),
        "docker" => Box::new(docker::Docker::start(dir)?),
        "podman" => Box::new(podman::Podman::prepare(dir)?),
        other => bail!("nothing is called {other}"),
    };
    start(&*subject, rounds)?;
    traffic::measure(&*subject)?;
    subject.more()
}

/// Prints a figure, to be read by [`run`].
fn print(key: &str, value: impl std::fmt::Display) {
    println!("{key}\t{value}");
}

/// Start to exit with a published port, while others are published.
fn start(subject: &dyn Subject, rounds: usize) -> Result<()> {
    // The bridge and what else is made once.
    subject.run(PORT)?;
    for count in PORTS {
        let ports: Vec<u16> = (FIRST_PORT..).take(count).collect();
        if count > 1 {
            let begun = Instant::now();
            if let Err(error) = subject.start("ports", &ports) {
                print(&format!("publish {count}"), format!("{error:#}"));
                continue;
            }
            print(&format!("publish {count}"), format!("{:.1}", begun.elapsed().as_secs_f64() * 1e3));
        }
        for _ in 0..rounds {
            let begun = Instant::now();
            subject.run(PORT)?;
            print(&format!("start {count}"), begun.elapsed().as_nanos());
        }
        if count > 1 {
            subject.remove("ports")?;
        }
    }
    Ok(())
}

/// What one engine printed.
#[derive(Debug, Default)]
struct Figures(BTreeMap<String, Vec<String>>);

impl Figures {
    fn of(host: &Host, name: &str, rounds: usize) -> Result<Self> {
        eprintln!("engine-bench:   networks of {name}");
        let mut command = Command::new("unshare");
        command.arg("-n").arg(std::env::current_exe()?).args(["network", name, &rounds.to_string()]);
        let text = host::output({
            command.arg(host.dir().join(format!("network-{name}")));
            command
        })?;
        let mut figures = Self::default();
        for line in text.lines() {
            let (key, value) = line.split_once('\t').context("a figure")?;
            figures.0.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(figures)
    }

    fn samples(&self, key: &str) -> Result<Vec<u64>> {
        let values = self.0.get(key).context("not measured")?;
        values.iter().map(|value| value.parse().map_err(|_| anyhow::anyhow!("{value}"))).collect()
    }

    /// The best of what was measured, or what was said instead.
    fn best(&self, key: &str) -> String {
        let Some(values) = self.0.get(key) else { return "–".to_owned() };
        let numbers = values.iter().filter_map(|value| value.parse::<f64>().ok());
        numbers.reduce(f64::max).map_or_else(|| values[0].clone(), |best| format!("{best:.0}"))
    }
}

/// Prints the tables.
pub(crate) fn run(host: &Host, rounds: usize) -> Result<()> {
    let mut table = Table::new("Start to exit on a bridge, with one published port", "engine (library)");
    table.samples("floor: namespaces, mounts, cgroups", host.floor(rounds, &[]));
    let all: Vec<(&str, Result<Figures>)> = NAMES
        .iter()
        .map(|name| (*name, Figures::of(host, name, if *name == "engine" { rounds } else { rounds.min(20) })))
        .collect();
    for (name, figures) in &all {
        for count in PORTS {
            let name = if *name == "engine" { "engine (library)" } else { name };
            let beside = if count == 1 { String::new() } else { format!(", {count} others published") };
            let samples = match figures {
                Ok(figures) => figures.samples(&format!("start {count}")),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            table.samples(&format!("{name}{beside}"), samples);
        }
    }
    table.print("floor: namespaces, mounts, cgroups");
    println!("### Traffic of containers\n\n| | {} |", NAMES.join(" | "));
    println!("| --- |{}", " ---: |".repeat(NAMES.len()));
    for (title, key) in traffic::ROWS {
        let cells = all.iter().map(|(_, figures)| match figures {
            Ok(figures) => figures.best(key),
            Err(_) => "–".to_owned(),
        });
        println!("| {title} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    println!("\n### Networks of the engine alone\n\n| figure | value |\n| --- | ---: |");
    if let Some((_, Ok(figures))) = all.first() {
        for (title, key) in scale::ROWS {
            let samples = figures.samples(key).map(Samples::new);
            let value =
                samples.map_or_else(|error| format!("{error:#}"), |all| format!("{:.2} ms", all.median()));
            println!("| {title} | {value} |");
        }
    }
    println!();
    Ok(())
}
