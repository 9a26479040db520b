//! The registry server beside distribution's: requests for manifests, large blobs, many pushes and pulls at once, a large start.
//!
//! The clients are threads of this program, the same for both; each server is a process of its own.
//! This file owns the measurements and the tables, `wire` a client that costs little, `large` a registry of many repositories.

mod large;
mod wire;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engine_registry::server::{FileStorage, RegistryServer};
use engine_testkit::{Registry, RegistryMode};
use tokio::signal::unix::{SignalKind, signal};

use self::wire::Connection;
use crate::host::{self, BEST_OF, Host};

/// Connections at once, and for how long they ask.
const CONNECTIONS: usize = 16;
const WHILE: Duration = Duration::from_secs(3);
/// Bytes of the large blob, and how many images come and go at once.
const LARGE: usize = 256 << 20;
const IMAGES: usize = 200;

/// Serves what is in `dir` until it is told to end: the body of the program's `registry-server` subcommand.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = RegistryServer::builder(FileStorage::open(dir)?).build()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let mut terminate = signal(SignalKind::terminate())?;
        server
            .serve_until(listener, async {
                terminate.recv().await;
            })
            .await?;
        Ok(())
    })
}

/// A server under measurement.
struct Subject {
    name: &'static str,
    address: String,
    pid: u32,
    _server: Server,
}

enum Server {
    Ours(Child),
    Theirs { _registry: Registry },
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Ours(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Subject {
    fn ours(dir: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("registry-server").arg(dir).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut address)?;
        let (address, pid) = (address.trim().to_owned(), child.id());
        Ok(Self { name: "engine", address, pid, _server: Server::Ours(child) })
    }

    fn theirs() -> Result<Self> {
        let registry = Registry::start(RegistryMode::Plain);
        let address = registry.host();
        let pid = run_by_child("docker-registry")?;
        Ok(Self { name: "distribution", address, pid, _server: Server::Theirs { _registry: registry } })
    }

    fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address)
    }

    /// Peak of resident memory so far, in MiB.
    fn peak(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(peak.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

/// Finds a program by its name that a child of this process, a shell, runs.
fn run_by_child(name: &str) -> Result<u32> {
    let parent_of = |pid: &str| -> Option<(String, String)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        Some((head.split_once('(')?.1.to_owned(), rest.split(' ').nth(1)?.to_owned()))
    };
    let own = std::process::id().to_string();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if let Some((found, parent)) = parent_of(&pid)
            && found == name
            && parent_of(&parent).is_some_and(|(_, grandparent)| grandparent == own)
        {
            return Ok(pid.parse()?);
        }
    }
    anyhow::bail!("no child runs {name}")
}

/// What was measured of one server.
struct Figures {
    head: f64,
    manifest: f64,
    small: f64,
    large: f64,
    push: f64,
    pushes: f64,
    pulls: f64,
    peak: f64,
}

/// Prints the tables.
pub(crate) fn run(host: &Host) -> Result<()> {
    eprintln!("engine-bench: registry");
    let floor = loopback(host)?;
    let data = host.dir().join("registry");
    let subjects = [Subject::ours(&data)?, Subject::theirs()?];
    println!(
        "### A registry: {CONNECTIONS} connections, blobs of {} MiB, {IMAGES} images at once\n",
        LARGE >> 20
    );
    println!(
        "| | HEAD/s | manifest GET/s | 1 MB blobs MB/s | large blob MB/s | ÷ loopback | push MB/s | {IMAGES} pushes s | \
         {IMAGES} pulls s | peak memory MiB |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    println!("| floor: a file over loopback TCP | | | | {floor:.0} | 1.00 | | | | |");
    for subject in &subjects {
        let f = figures(subject).with_context(|| subject.name)?;
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} | {:.2} | {:.0} |",
            subject.name,
            f.head,
            f.manifest,
            f.small,
            f.large,
            f.large / floor,
            f.push,
            f.pushes,
            f.pulls,
            f.peak
        );
    }
    println!();
    drop(subjects);
    large::run(host)
}

fn figures(subject: &Subject) -> Result<Figures> {
    let mut connection = subject.connect()?;
    wire::push_image(&mut connection, "bench/app", "v1", &vec![b'x'; 1_000_000])?;
    let layer = engine_testkit::image::digest(&vec![b'x'; 1_000_000]);
    let head = rate(subject, "HEAD", "/v2/bench/app/manifests/v1")?;
    let manifest = rate(subject, "GET", "/v2/bench/app/manifests/v1")?;
    let small = rate(subject, "GET", &format!("/v2/bench/app/blobs/{layer}"))?;

    let content = noise(LARGE);
    // A new one: servers end what was idle for as long as all that took on a busy machine.
    let mut connection = subject.connect()?;
    let mut push = f64::MAX;
    let mut digest = String::new();
    for round in 0..BEST_OF {
        let started = Instant::now();
        digest = wire::push_blob(&mut connection, &format!("bench/large-{round}"), &content)?;
        push = push.min(started.elapsed().as_secs_f64());
    }
    let mut read = f64::MAX;
    for _ in 0..BEST_OF {
        let started = Instant::now();
        connection.get(&format!("/v2/bench/large-0/blobs/{digest}"))?.success()?;
        read = read.min(started.elapsed().as_secs_f64());
    }
    let pushes = all_at_once(|number| {
        let layer = noise_of(number as u64, 1 << 20);
        wire::push_image(&mut subject.connect()?, &format!("many/app-{number}"), "v1", &layer)
    })?;
    let pulls =
        all_at_once(|number| wire::pull_image(&mut subject.connect()?, &format!("many/app-{number}"), "v1"))?;
    let mega = LARGE as f64 / 1e6;
    Ok(Figures {
        head: head.requests,
        manifest: manifest.requests,
        small: small.megabytes,
        large: mega / read,
        push: mega / push,
        pushes,
        pulls,
        peak: subject.peak()?,
    })
}

struct Rate {
    requests: f64,
    megabytes: f64,
}

/// Sends one request again and again by all connections.
fn rate(subject: &Subject, method: &str, path: &str) -> Result<Rate> {
    let (stop, requests, bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let work = || -> Result<()> {
            let mut connection = subject.connect()?;
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.request(method, path, &[], &[])?.success()?;
                requests.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(answer.body, Ordering::Relaxed);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(WHILE);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Rate {
        requests: requests.into_inner() as f64 / seconds,
        megabytes: bytes.into_inner() as f64 / 1e6 / seconds,
    })
}

/// Does something for each image at the same time; returns the seconds until the last is done.
fn all_at_once(work: impl Fn(usize) -> Result<()> + Sync) -> Result<f64> {
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let work = &work;
        let threads: Vec<_> = (0..IMAGES).map(|number| scope.spawn(move || work(number))).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    Ok(started.elapsed().as_secs_f64())
}

/// What loopback does at most: a file is sent by the kernel, and read into a buffer. MB/s.
fn loopback(host: &Host) -> Result<f64> {
    let file = host.dir().join("large");
    std::fs::write(&file, noise(LARGE))?;
    let best = host::best(|_| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let file = file.clone();
        let sender = std::thread::spawn(move || -> io::Result<u64> {
            let (mut stream, _) = listener.accept()?;
            io::copy(&mut File::open(file)?, &mut stream)
        });
        let mut stream = TcpStream::connect(address)?;
        let mut buffer = vec![0; wire::BUFFER];
        while stream.read(&mut buffer)? > 0 {}
        sender.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        Ok(())
    })?;
    Ok(LARGE as f64 / 1e6 / (best / 1e3))
}

fn noise(bytes: usize) -> Vec<u8> {
    noise_of(0, bytes)
}

/// Bytes that nothing compresses, the same for the same seed.
fn noise_of(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(bytes).collect()
}
