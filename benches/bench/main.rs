//! Measures the engine, the floor and peers side by side in one run and prints Markdown tables.
//!
//! `cargo run --release -p engine-benches --bin engine-bench` runs all; `--only start,exec,…` some. Needs root. This file owns the command line
//! and the order; `host` what the runs share, `peers` other engines, `ours` this one, `table` the output.

mod api;
mod archives;
mod build;
mod files;
mod host;
mod network;
mod ours;
mod output;
mod peers;
mod pull;
mod registry;
mod restart;
mod table;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use host::Host;
use table::Table;

/// Measures the engine, the floor and peers side by side.
#[derive(Debug, Parser)]
struct Options {
    /// Repetitions of what takes milliseconds.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// How many containers run at once in the last part of `many`.
    #[arg(long, default_value_t = 1000)]
    many: usize,
    /// Only these parts: start, restart, exec, parallel, many, network, registry, api, build, pull, archives, files, output.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where everything is made; by default a fresh ext4 in a loop file.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

/// What the program calls itself for, to measure in a process of its own.
#[derive(Debug, Subcommand)]
enum Inner {
    /// Measures one peer: prints nanoseconds.
    #[command(hide = true)]
    Peer { name: String, what: String, rounds: usize, dir: PathBuf },
    /// Measures the engine: prints nanoseconds and other figures.
    #[command(hide = true)]
    Ours { what: String, rounds: usize, dir: PathBuf, argument: Option<String> },
    /// Measures the networks of this engine or of a peer, in a network namespace of its own: prints figures.
    #[command(hide = true)]
    Network { name: String, rounds: usize, dir: PathBuf },
    /// Serves a registry, to be measured from outside: prints its address.
    #[command(hide = true)]
    RegistryServer { dir: PathBuf },
}

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: it becomes a cell of a table. A backtrace would not.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<()> {
    let options = Options::parse();
    match options.inner {
        Some(Inner::Peer { name, what, rounds, dir }) => peers::measure(&name, &what, rounds, &dir),
        Some(Inner::Ours { what, rounds, dir, argument }) => {
            ours::measure(&what, rounds, &dir, argument.as_deref())
        }
        Some(Inner::Network { name, rounds, dir }) => network::measure(&name, rounds, &dir),
        Some(Inner::RegistryServer { dir }) => registry::serve(&dir),
        None => all(&options),
    }
}

fn all(options: &Options) -> Result<()> {
    let host = Host::prepare(options.dir.as_deref())?;
    println!("{}\n", host.describe());
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    if wanted("start") {
        start(&host, options.rounds)?;
    }
    if wanted("restart") {
        restart(&host, options.rounds)?;
    }
    if wanted("exec") {
        exec(&host, options.rounds)?;
    }
    if wanted("parallel") {
        parallel(&host)?;
    }
    if wanted("many") {
        many(&host, options.many)?;
    }
    if wanted("network") {
        network::run(&host, options.rounds)?;
    }
    if wanted("registry") {
        registry::run(&host)?;
    }
    if wanted("api") {
        api::run(&host, options.many)?;
    }
    if wanted("build") {
        build::run(&host)?;
    }
    if wanted("pull") {
        pull::run(&host)?;
    }
    if wanted("archives") {
        archives::run(&host)?;
    }
    if wanted("files") {
        files::run(&host, options.rounds)?;
    }
    if wanted("output") {
        output::run(&host)?;
    }
    Ok(())
}

fn start(host: &Host, rounds: usize) -> Result<()> {
    let mut table = Table::new("Start to exit: create, start, wait, remove", "engine (library)");
    let floor = |more: &[&str]| host.floor(rounds, more);
    table.samples("floor: namespaces, mounts, cgroups", floor(&[]));
    table.samples("floor without cgroups", floor(&["--no-cgroup"]));
    table.samples("floor without cgroups and network namespace", floor(&["--no-cgroup", "--no-net"]));
    table.samples("engine (library)", host.ours("start", rounds, None));
    table.samples("engine (library), kept container, durable", host.ours("start-kept", rounds, None));
    table.samples("engine (CLI, `run --rm --network none`)", host.ours("start-cli", rounds, None));
    for name in peers::NAMES {
        table.samples(&peers::label(name), host.peer(name, "start", rounds.min(50)));
    }
    table.print("floor: namespaces, mounts, cgroups");
    let mut table =
        Table::new("Stop and remove of a running container (SIGKILL as stop signal)", "engine (library)");
    table.samples("engine (library)", host.ours("stop", rounds.min(50), None));
    for name in peers::NAMES {
        table.samples(&peers::label(name), host.peer(name, "stop", rounds.min(20)));
    }
    table.print("engine (library)");
    Ok(())
}

fn restart(host: &Host, rounds: usize) -> Result<()> {
    let mut table = Table::new("Restart by policy: death of the process to its next run", "engine (library)");
    table.samples("engine (library)", host.ours("restart", rounds.min(50), None));
    for name in peers::NAMES {
        table.samples(&peers::label(name), host.peer(name, "restart", rounds.min(20)));
    }
    table.print("engine (library)");
    Ok(())
}

fn exec(host: &Host, rounds: usize) -> Result<()> {
    let mut table = Table::new("Exec of the payload in a running container", "engine (library)");
    table.samples("bare spawn of the payload", host.floor(rounds, &["--spawn"]));
    table.samples("bare spawn of busybox `true`", host.floor(rounds, &["--spawn", "--program", "/bin/true"]));
    table.samples("engine (library)", host.ours("exec", rounds, None));
    table.samples("engine (library), busybox `true`", host.ours("exec-busybox", rounds, None));
    for name in peers::NAMES {
        table.samples(&peers::label(name), host.peer(name, "exec", rounds.min(50)));
    }
    table.print("bare spawn of busybox `true`");
    Ok(())
}

fn parallel(host: &Host) -> Result<()> {
    let mut table = Table::new("100 starts to exit, 8 at once", "engine (library)");
    table.rate("floor, 8 processes at once", host.floor_parallel(100, 8), 100);
    table.rate("engine (library)", host.ours("parallel", 100, None), 100);
    for name in peers::NAMES {
        table.rate(&peers::label(name), host.peer(name, "parallel", 100), 100);
    }
    table.print_rates();
    Ok(())
}

fn many(host: &Host, many: usize) -> Result<()> {
    println!("### {many} running containers\n\n| figure | value |\n| --- | --- |");
    match host.ours_text("many", many, None) {
        Ok(text) => print!("{text}"),
        Err(error) => println!("| engine | not measured: {error:#} |"),
    }
    for name in peers::NAMES {
        match host.peer_text(name, "memory", 20) {
            Ok(text) => println!(
                "| {}, private memory of each monitor (of 20) | {} KiB |",
                peers::label(name),
                text.trim()
            ),
            Err(error) => println!("| {} | {error:#} |", peers::label(name)),
        }
    }
    println!();
    Ok(())
}
