//! Docker's API: this engine's daemon, Docker's and Podman's service, each in a network namespace of its own.

mod crowd;
mod subjects;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use engine_benches::Samples;
use serde_json::Value;

use crate::host::Host;
use crate::ours::IMAGE;
use subjects::NAMES;
pub(crate) use subjects::Subject;
use wire::Wire;

/// How long requests are counted.
const MOMENT: Duration = Duration::from_secs(2);
/// How many clients ask at once.
const CLIENTS: usize = 4;
/// How many bytes an attached client gets, and how many lines of a log are read.
const ATTACHED: usize = 256 << 20;
const LINES: usize = 200_000;

const ROWS: [(&str, &str); 11] = [
    ("ping", "`/_ping` / s, 4 clients"),
    ("list 0", "`containers/json` / s, no container"),
    ("list many", "`containers/json?all=1` / s, 1,000 containers"),
    ("inspect", "`containers/{id}/json` / s"),
    ("create", "create, ms"),
    ("run", "create, start, wait, remove, ms"),
    ("crowd", "100 clients at once: pull, create, start, wait, remove, s"),
    ("attach", "MB/s to an attached client"),
    ("logs", "lines / s of a log"),
    ("idle", "memory when idle, MiB"),
    ("loaded", "memory after all this, MiB"),
];

/// What one daemon came to, by row.
type Figures = std::collections::BTreeMap<&'static str, String>;

/// Prints the table.
pub(crate) fn run(host: &Host, many: usize) -> Result<()> {
    eprintln!("engine-bench: Docker's API");
    println!("### Docker's API\n\n| | {} |", NAMES.join(" | "));
    println!("| --- |{}", " ---: |".repeat(NAMES.len()));
    let mut all = Vec::new();
    for name in NAMES {
        eprintln!("engine-bench:   {name}");
        let mut figures = Figures::new();
        if let Err(error) = measure(host, name, many, &mut figures) {
            eprintln!("engine-bench:   {name}: {error:#}");
        }
        all.push(figures);
    }
    for (key, title) in ROWS {
        let cells: Vec<_> = all.iter().map(|figures| figures.get(key).map_or("–", String::as_str)).collect();
        println!("| {title} | {} |", cells.join(" | "));
    }
    println!();
    Ok(())
}

fn measure(host: &Host, name: &str, many: usize, figures: &mut Figures) -> Result<()> {
    let subject = Subject::start(host, name)?;
    let socket = subject.socket();
    figures.insert("idle", format!("{:.1}", subject.memory()?));
    figures.insert("ping", rate(socket, "/_ping")?);
    figures.insert("list 0", rate(socket, "/containers/json")?);
    let mut wire = Wire::connect(socket)?;
    figures.insert("run", median(30, || run_one(&mut wire))?);
    let dir = host.dir().join(format!("api-{name}"));
    figures.insert("crowd", format!("{:.2}", crowd::seconds(&subject, &dir)?));
    figures.insert("attach", format!("{:.0}", attached(socket, &mut wire)?));
    figures.insert("logs", format!("{:.0}", logs(socket, &mut wire)?));
    let mut ids = Vec::new();
    let create = || {
        ids.push(create(&mut wire, IMAGE, &["/true"], "none")?);
        Ok(())
    };
    figures.insert("create", median(many, create)?);
    figures.insert("inspect", rate(socket, &format!("/containers/{}/json", ids[0]))?);
    figures.insert("list many", rate(socket, "/containers/json?all=1")?);
    figures.insert("loaded", format!("{:.1}", subject.memory()?));
    for id in ids {
        wire.done("DELETE", &format!("/containers/{id}"), "")?;
    }
    Ok(())
}

/// Requests per second.
fn rate(socket: &Path, path: &str) -> Result<String> {
    let counts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<u32> {
                    let mut wire = Wire::connect(socket)?;
                    wire.done("GET", path, "")?;
                    let (begun, mut count) = (Instant::now(), 0);
                    while begun.elapsed() < MOMENT {
                        wire.done("GET", path, "")?;
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Ok(0)))
            .collect::<Result<Vec<u32>>>()
    })?;
    Ok(format!("{:.0}", f64::from(counts.iter().sum::<u32>()) / MOMENT.as_secs_f64()))
}

fn median(rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<String> {
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        work()?;
        samples.push(u64::try_from(begun.elapsed().as_nanos())?);
    }
    Ok(format!("{:.2}", Samples::new(samples).median()))
}

fn create(wire: &mut Wire, image: &str, command: &[&str], log: &str) -> Result<String> {
    let document = serde_json::json!({
        "Image": image,
        "Cmd": command,
        "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": log } },
    });
    let answer: Value =
        serde_json::from_slice(&wire.done("POST", "/containers/create", &document.to_string())?)?;
    answer["Id"].as_str().map(str::to_owned).context("no id")
}

fn end(wire: &mut Wire, id: &str) -> Result<()> {
    wire.done("POST", &format!("/containers/{id}/wait"), "")?;
    Ok(())
}

fn run_one(wire: &mut Wire) -> Result<()> {
    let id = create(wire, IMAGE, &["/true"], "none")?;
    wire.done("POST", &format!("/containers/{id}/start"), "")?;
    end(wire, &id)?;
    wire.done("DELETE", &format!("/containers/{id}"), "")?;
    Ok(())
}

/// Megabytes per second from a container's output to a client that attached before its start.
fn attached(socket: &Path, wire: &mut Wire) -> Result<f64> {
    let count = format!("count={}", ATTACHED >> 16);
    let id = create(wire, IMAGE, &["/bin/busybox", "dd", "if=/dev/zero", "bs=64k", &count], "none")?;
    let stream = Wire::connect(socket)?.hijack(&format!("/containers/{id}/attach?stream=1&stdout=1"))?;
    let begun = Instant::now();
    wire.done("POST", &format!("/containers/{id}/start"), "")?;
    let bytes = stream.drain()?;
    let seconds = begun.elapsed().as_secs_f64();
    anyhow::ensure!(bytes >= ATTACHED, "only {bytes} bytes came");
    end(wire, &id)?;
    wire.done("DELETE", &format!("/containers/{id}"), "")?;
    Ok(ATTACHED as f64 / 1e6 / seconds)
}

/// Lines per second of a container's log.
fn logs(socket: &Path, wire: &mut Wire) -> Result<f64> {
    let id = create(wire, IMAGE, &["/bin/busybox", "seq", &LINES.to_string()], "json-file")?;
    wire.done("POST", &format!("/containers/{id}/start"), "")?;
    end(wire, &id)?;
    let mut reader = Wire::connect(socket)?;
    let begun = Instant::now();
    let body = reader.done("GET", &format!("/containers/{id}/logs?stdout=1"), "")?;
    let seconds = begun.elapsed().as_secs_f64();
    let last = format!("{LINES}\n");
    anyhow::ensure!(body.ends_with(last.as_bytes()), "the log is not whole");
    wire.done("DELETE", &format!("/containers/{id}"), "")?;
    Ok(LINES as f64 / seconds)
}
