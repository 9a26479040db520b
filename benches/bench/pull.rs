//! Pull and unpack of a real root file system from a registry on loopback: wall time, peak memory, the stages alone.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    net::TcpStream,
    process::Command,
};

use anyhow::{Context, Result};
use engine_testkit::{Registry, RegistryMode, debian, image};

use crate::host::{self, Host, best};

/// Prints the table.
pub(crate) fn run(host: &Host) -> Result<()> {
    eprintln!("engine-bench: pull");
    let registry = Registry::start(RegistryMode::Plain);
    let image = image::debian();
    let reference = registry.push(&image, "debian", "minbase");
    let layer = &image.layers[0];
    let (tar, gzip) = (debian::rootfs_tar(), debian::rootfs_tar_gz());
    println!("### Pull and unpack: Debian minbase, {} MB gzip, {} MB tar\n", mega(&gzip)?, mega(&tar)?);
    println!("| | min wall ms | peak memory MiB |\n| --- | ---: | ---: |");

    let path = format!("/v2/debian/blobs/{}", layer.digest);
    let download = best(|_| fetch(&registry.host(), &path).map(drop))?;
    println!("| stage: download alone (loopback) | {download:.0} | |");
    let hash = best(|_| {
        image::digest(&layer.data);
        Ok(())
    })?;
    println!("| stage: sha256 of the gzip file alone | {hash:.0} | |");
    let inflate = best(|_| {
        let mut reader = flate2::read::GzDecoder::new(BufReader::with_capacity(1 << 20, File::open(&gzip)?));
        io::copy(&mut reader, &mut io::sink())?;
        Ok(())
    })?;
    println!("| stage: inflate alone | {inflate:.0} | |");
    let files = best(|round| {
        let dir = host.dir().join(format!("files-{round}"));
        std::fs::create_dir(&dir)?;
        host::run(Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(&tar).arg("-C").arg(&dir))
    })?;
    println!("| stage: files alone (GNU tar from the page cache) | {files:.0} | |");
    for (name, what) in [("engine pull (unpacks)", "pull"), ("engine unpack alone", "unpack")] {
        match host.ours_text(what, host::BEST_OF, Some(&reference)) {
            Ok(text) => print_ours(name, &text),
            Err(error) => println!("| {name} | {error:#} | |"),
        }
    }
    println!("| podman pull | {} | |", cell(podman(host, &reference)));
    println!("| skopeo copy + umoci unpack | {} | |", cell(skopeo(host, &reference)));
    println!();
    Ok(())
}

/// The engine prints one line a round: nanoseconds and peak memory above idle in KiB.
pub(crate) fn print_ours(name: &str, text: &str) {
    let rows: Vec<Vec<u64>> =
        text.lines().map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect()).collect();
    let column = |index: usize| rows.iter().filter_map(move |row| row.get(index).copied());
    let wall = column(0).min().unwrap_or(0) as f64 / 1e6;
    let memory = column(1).max().unwrap_or(0) as f64 / 1024.0;
    println!("| {name} | {wall:.0} | {memory:.1} above idle |");
}

pub(crate) fn cell(result: Result<f64>) -> String {
    result.map_or_else(|error| format!("{error:#}"), |ms| format!("{ms:.0}"))
}

pub(crate) fn mega(path: &std::path::Path) -> Result<u64> {
    Ok(path.metadata()?.len() / 1_000_000)
}

fn fetch(host: &str, path: &str) -> Result<usize> {
    let mut stream = TcpStream::connect(host)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    io::Write::write_all(&mut stream, request.as_bytes())?;
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            n => total += n,
        }
    }
}

fn podman(host: &Host, reference: &str) -> Result<f64> {
    anyhow::ensure!(Command::new("podman").arg("--version").output().is_ok(), "not installed");
    best(|round| {
        let dir = host.dir().join(format!("podman-{round}"));
        let mut command = Command::new("podman");
        command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
        command.args(["--storage-driver", "overlay", "pull", "-q", "--tls-verify=false", reference]);
        host::run(&mut command)
    })
}

fn skopeo(host: &Host, reference: &str) -> Result<f64> {
    anyhow::ensure!(Command::new("umoci").arg("--version").output().is_ok(), "not installed");
    best(|round| {
        let dir = host.dir().join(format!("umoci-{round}"));
        std::fs::create_dir(&dir)?;
        let layout = format!("{}:1", dir.join("layout").display());
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "-q", "--src-tls-verify=false"]);
        host::run(copy.arg(format!("docker://{reference}")).arg(format!("oci:{layout}")))?;
        host::run(Command::new("umoci").args(["unpack", "--image", &layout]).arg(dir.join("bundle")))
            .context("umoci")
    })
}
