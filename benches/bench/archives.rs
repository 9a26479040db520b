//! Push, save and load of a real root file system, beside podman, skopeo and docker where they are: wall time and peak memory.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use engine_core::{
    Engine, Reference,
    engine::{LoadOptions, PushOptions, SaveOptions},
};
use engine_registry::OciRegistry;
use engine_testkit::{Registry, RegistryMode, debian, image};

use crate::{
    host::{self, Host},
    ours::Peak,
    pull::{cell, mega, print_ours},
};

const ROUNDS: usize = 5;
const NAME: &str = "localhost/debian:minbase";

/// Prints the table.
pub(crate) fn run(host: &Host) -> Result<()> {
    eprintln!("engine-bench: archives");
    let registry = Registry::start(RegistryMode::Plain);
    let archive = host.dir().join("debian.tar");
    image::debian().write_layout_tar(&archive, NAME);
    let size = mega(&debian::rootfs_tar_gz())?;
    println!("### Push, save and load: Debian minbase, {size} MB gzip\n");
    println!("| | min wall ms | peak memory MiB |\n| --- | ---: | ---: |");
    let copy = best(|round| {
        host::run(Command::new("cp").arg(&archive).arg(host.dir().join(format!("copy-{round}"))))
    })?;
    println!("| `cp` of the archive | {copy:.0} | |");
    let argument = format!("{} {}", archive.display(), registry.host());
    for what in ["save", "load", "push"] {
        match host.ours_text(what, ROUNDS, Some(&argument)) {
            Ok(text) => print_ours(&format!("engine {what}"), &text),
            Err(error) => println!("| engine {what} | {error:#} | |"),
        }
        for peer in ["podman", "docker"] {
            println!(
                "| {peer} {what} | {} | |",
                cell(engine_like(host, peer, what, &archive, &registry.host()))
            );
        }
        println!("| skopeo {what} | {} | |", cell(skopeo(host, what, &archive, &registry.host())));
    }
    println!();
    Ok(())
}

fn best(mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for round in 0..ROUNDS {
        let start = Instant::now();
        work(round)?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

/// podman with a store of its own, docker with the daemon's.
fn engine_like(host: &Host, program: &str, what: &str, archive: &Path, registry: &str) -> Result<f64> {
    let probe = Command::new(program).arg("info").output();
    ensure!(probe.is_ok_and(|output| output.status.success()), "not installed, or does not run");
    let command = |name: &str| {
        let mut command = Command::new(program);
        if program == "podman" {
            let dir = host.dir().join(name);
            command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
            command.args(["--storage-driver", "overlay"]);
        }
        command
    };
    let load = |name: &str| host::run(command(name).arg("load").arg("-qi").arg(archive));
    load("podman-images")?;
    best(|round| match what {
        "save" => {
            let out = host.dir().join(format!("{program}-{round}.tar"));
            host::run(command("podman-images").args(["save", "-o"]).arg(out).arg(NAME))
        }
        "load" => {
            if program == "docker" {
                host::run(command("").args(["rmi", "-f", NAME]))?;
            }
            load(&format!("podman-load-{round}"))
        }
        _ => {
            let name = format!("{registry}/{program}-{round}:1");
            host::run(command("podman-images").args(["tag", NAME, &name]))?;
            let mut push = command("podman-images");
            push.args(["push", "-q"]);
            if program == "podman" {
                push.arg("--tls-verify=false");
            }
            host::run(push.arg(name))
        }
    })
}

/// skopeo between archives and layouts: it has no store to load into that it unpacks for.
fn skopeo(host: &Host, what: &str, archive: &Path, registry: &str) -> Result<f64> {
    ensure!(Command::new("skopeo").arg("--version").output().is_ok(), "not installed");
    let layout = format!("oci:{}:1", host.dir().join("skopeo-layout").display());
    let copy = |from: &str, to: &str| {
        host::run(Command::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", from, to]))
    };
    let source = format!("oci-archive:{}", archive.display());
    copy(&source, &layout)?;
    best(|round| match what {
        "save" => copy(
            &layout,
            &format!("oci-archive:{}:1", host.dir().join(format!("skopeo-{round}.tar")).display()),
        ),
        "load" => {
            copy(&source, &format!("oci:{}:1", host.dir().join(format!("skopeo-load-{round}")).display()))
        }
        _ => copy(&layout, &format!("docker://{registry}/skopeo-{round}:1")),
    })
}

/// Measures the engine; prints nanoseconds and peak memory above idle in KiB.
pub(crate) async fn ours(what: &str, rounds: usize, dir: &Path, argument: &str) -> Result<()> {
    let (archive, registry) = argument.split_once(' ').context("an archive and a registry")?;
    let open = async |name: &str| -> Result<Engine> {
        Ok(Engine::builder(dir.with_file_name(name)).registry(OciRegistry::new()).open().await?)
    };
    let engine = open("engine-images").await?;
    engine.load(Path::new(archive), LoadOptions::default()).await?;
    for round in 0..rounds {
        match what {
            "save" => {
                let out = dir.with_file_name(format!("engine-{round}.tar"));
                let file = tokio::fs::File::create(out).await?;
                let peak = Peak::begin()?;
                engine.save(&[NAME], file, SaveOptions::default()).await?;
                peak.print()?;
            }
            "load" => {
                let name = format!("engine-load-{round}");
                let fresh = open(&name).await?;
                let peak = Peak::begin()?;
                fresh.load(Path::new(archive), LoadOptions::default()).await?;
                peak.print()?;
                drop(fresh);
                std::fs::remove_dir_all(dir.with_file_name(name)).ok();
            }
            _ => {
                // A name that is gone again is no repository to mount from.
                let name: Reference = format!("{registry}/engine-{round}:1").parse()?;
                engine.tag(NAME, &name).await?;
                let peak = Peak::begin()?;
                engine.push(&name, PushOptions::default()).await?;
                peak.print()?;
                engine.remove_image(&name.to_string(), false).await?;
            }
        }
    }
    Ok(())
}
