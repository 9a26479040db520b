//! Push, save and load of a real root file system, beside podman, skopeo and docker where they are: wall time and peak memory.
//!
//! Each round pushes to a registry of its own: in one that has the layer already, all that is measured is its being asked for.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use engine_core::{
    Engine, Reference,
    engine::{LoadOptions, PushOptions, SaveOptions},
};
use engine_registry::OciRegistry;
use engine_testkit::{Registry, RegistryMode, debian, image};

use crate::{
    host::{self, Host, best, best_after},
    ours::Peak,
    pull::{cell, mega, print_ours},
};

const NAME: &str = "localhost/debian:minbase";

/// Prints the table.
pub(crate) fn run(host: &Host) -> Result<()> {
    eprintln!("engine-bench: archives");
    let archive = host.dir().join("debian.tar");
    image::debian().write_layout_tar(&archive, NAME);
    let size = mega(&debian::rootfs_tar_gz())?;
    println!("### Push, save and load: Debian minbase, {size} MB gzip\n");
    println!("| | min wall ms | peak memory MiB |\n| --- | ---: | ---: |");
    let copy = best(|round| {
        host::run(Command::new("cp").arg(&archive).arg(host.dir().join(format!("copy-{round}"))))
    })?;
    println!("| `cp` of the archive | {copy:.0} | |");
    let docker = docker_archive(host, &archive);
    for (name, what) in [
        ("engine save", "save"),
        ("engine load", "load"),
        ("engine push", "push"),
        ("engine push of what another repository has", "push-again"),
    ] {
        match host.ours_text(what, host::BEST_OF, Some(&archive.display().to_string())) {
            Ok(text) => print_ours(name, &text),
            Err(error) => println!("| {name} | {error:#} | |"),
        }
        if what == "push-again" {
            break;
        }
        println!("| podman {what} | {} | |", cell(engine_like(host, "podman", what, &archive)));
        let figure = docker.as_deref().map_err(|error| anyhow::anyhow!("{error:#}"));
        let figure = figure.and_then(|archive| engine_like(host, "docker", what, archive));
        println!("| docker {what} | {} | |", cell(figure));
        println!("| skopeo {what} | {} | |", cell(skopeo(host, what, &archive)));
    }
    println!();
    Ok(())
}

/// The image as every docker reads it: 20.10 knows no OCI archives.
fn docker_archive(host: &Host, archive: &Path) -> Result<PathBuf> {
    let made = host.dir().join("debian-docker.tar");
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "-q", &format!("oci-archive:{}", archive.display())]);
    host::run(copy.arg(format!("docker-archive:{}:{NAME}", made.display())))?;
    Ok(made)
}

/// podman with a store of its own, docker with the daemon's.
fn engine_like(host: &Host, program: &str, what: &str, archive: &Path) -> Result<f64> {
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
    if what == "push" {
        let prepare = |round| {
            let registry = Registry::start(RegistryMode::Plain);
            let name = format!("{}/{program}-{round}:1", registry.host());
            host::run(command("podman-images").args(["tag", NAME, &name]))?;
            Ok((registry, name))
        };
        return best_after(prepare, |_, (_, name)| {
            let mut push = command("podman-images");
            push.args(["push", "-q"]);
            if program == "podman" {
                push.arg("--tls-verify=false");
            }
            host::run(push.arg(name))
        });
    }
    let prepare = |_| {
        let gone = program != "docker" || what != "load";
        if gone { Ok(()) } else { host::run(command("").args(["rmi", "-f", NAME])) }
    };
    best_after(prepare, |round, ()| {
        if what == "load" {
            return load(&format!("podman-load-{round}"));
        }
        let out = host.dir().join(format!("{program}-{round}.tar"));
        host::run(command("podman-images").args(["save", "-o"]).arg(out).arg(NAME))
    })
}

/// skopeo between archives and layouts: it has no store to load into that it unpacks for.
fn skopeo(host: &Host, what: &str, archive: &Path) -> Result<f64> {
    ensure!(Command::new("skopeo").arg("--version").output().is_ok(), "not installed");
    let layout = format!("oci:{}:1", host.dir().join("skopeo-layout").display());
    let copy = |from: &str, to: &str| {
        host::run(Command::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", from, to]))
    };
    let source = format!("oci-archive:{}", archive.display());
    copy(&source, &layout)?;
    let beside = |name: String| host.dir().join(name).display().to_string();
    match what {
        "save" => best(|n| copy(&layout, &format!("oci-archive:{}:1", beside(format!("skopeo-{n}.tar"))))),
        "load" => best(|n| copy(&source, &format!("oci:{}:1", beside(format!("skopeo-load-{n}"))))),
        _ => best_after(
            |_| Ok(Registry::start(RegistryMode::Plain)),
            |_, registry| copy(&layout, &format!("docker://{}/skopeo:1", registry.host())),
        ),
    }
}

/// Measures the engine; prints nanoseconds and peak memory above idle in KiB.
pub(crate) async fn ours(what: &str, rounds: usize, dir: &Path, archive: &str) -> Result<()> {
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
                let registry = Registry::start(RegistryMode::Plain);
                let push = async |repository: &str, measured: bool| -> Result<()> {
                    let name: Reference = format!("{}/{repository}:{round}", registry.host()).parse()?;
                    engine.tag(NAME, &name).await?;
                    let peak = Peak::begin()?;
                    engine.push(&name, PushOptions::default()).await?;
                    if measured { peak.print() } else { Ok(()) }
                };
                push("first", what == "push").await?;
                if what == "push-again" {
                    push("second", true).await?;
                }
            }
        }
    }
    Ok(())
}
