//! Kills the host program at random moments, opens the engine again and looks at what is left.
//!
//! `cargo run -p engine-chaos -- --rounds 1000`. Each round starts a worker process (this program again) that does random operations
//! through the facade in several lanes at once and says on a pipe what it begins and what was acknowledged; kills it
//! by SIGKILL; opens the engine and compares. Held to: every acknowledged change is there, whatever was under way
//! happened or did not, running containers are the same processes, and nothing else is left on the machine. All of it, registry
//! and containers, is in a network namespace of its own, whose interfaces, rules and ports are nobody else's.
//! This file owns the command line and the rounds; `worker` the operations, `journal` what passes between the two,
//! `model` what must be true, `check` the comparison, `places` that of networks.

mod check;
mod journal;
mod model;
mod places;
mod random;
mod worker;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use engine_testkit::{
    LeakCheck, Registry, RegistryMode,
    image::{self, LayerBuilder},
};

use check::Checker;
use model::Model;
use random::Random;

/// Kills the host program at random moments and looks at what is left.
#[derive(Debug, Parser)]
struct Options {
    /// How often the worker is killed.
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// The seed of all randomness; another one each time by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Compares only what belongs to this engine, for a machine where others work too.
    #[arg(long)]
    shared_machine: bool,
    /// Keeps the engine's directory for a look.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// Works until it is killed.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// What a worker needs to know.
#[derive(Args, Clone, Debug)]
pub(crate) struct WorkerArgs {
    /// The engine's directory.
    #[arg(long)]
    pub(crate) root: PathBuf,
    /// Its run directory.
    #[arg(long)]
    pub(crate) run_root: PathBuf,
    /// A registry's host and port.
    #[arg(long)]
    pub(crate) registry: String,
    /// The seed of its choices.
    #[arg(long)]
    pub(crate) seed: u64,
}

/// Lanes of a worker: each has its own containers and image names, one operation at a time.
pub(crate) const LANES: usize = 4;
/// Repositories that the registry holds for each lane: see [`push_images`].
pub(crate) const IMAGES: usize = 3;
/// Lane N publishes on this port of the host and N.
pub(crate) const PORT: u16 = 20_000;

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.inner {
        Some(Inner::Worker(args)) => worker::run(args),
        None => supervise(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engine-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(options: &Options) -> Result<()> {
    anyhow::ensure!(rustix_is_root(), "engine-chaos runs containers: run it as root");
    let seed = options.seed.unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64)
    });
    println!("engine-chaos: {} rounds, seed {seed}", options.rounds);
    // Before anything else runs here: threads and programs made from now on are there, too.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    places::output("ip", &["link", "set", "lo", "up"])?;
    let registry = Registry::start(RegistryMode::Plain);
    push_images(&registry);
    let temp = tempfile::Builder::new().prefix("engine-chaos-").tempdir()?;
    let args = WorkerArgs {
        root: temp.path().join("root"),
        run_root: temp.path().join("run"),
        registry: registry.host(),
        seed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut leaks = LeakCheck::begin(&args.root, &args.run_root);
    if !options.shared_machine {
        leaks = leaks.whole_machine();
    }
    let checker = Checker::new(&args, leaks);
    let result = rounds(options, &args, &runtime, &checker);
    if result.is_err() && options.keep {
        println!("engine-chaos: kept in {}", temp.keep().display());
        return result;
    }
    if result.is_err() {
        // Best effort: not to leave containers of a failed run behind.
        let _ = runtime.block_on(checker.remove_everything());
    }
    result
}

fn rounds(
    options: &Options,
    args: &WorkerArgs,
    runtime: &tokio::runtime::Runtime,
    checker: &Checker,
) -> Result<()> {
    let mut random = Random::new(args.seed);
    let mut model = Model::default();
    let started = Instant::now();
    let (mut acknowledged, mut interrupted) = (0, 0);
    for round in 1..=options.rounds {
        let args = WorkerArgs { seed: random.next(), ..args.clone() };
        let life = if random.below(8) == 0 {
            // Also kill amid opening.
            journal::Life::FromSpawn(Duration::from_micros(random.below(60_000)))
        } else {
            // Short and long lives alike: from a quarter of a millisecond to two seconds.
            journal::Life::FromReady(
                Duration::from_micros(250 << random.below(13)) * (8 + random.below(8) as u32) / 8,
            )
        };
        let lines = journal::run_worker(&args, life).with_context(|| format!("round {round}"))?;
        for line in &lines {
            model.apply(line);
            acknowledged += u64::from(line.is_acknowledged());
        }
        interrupted += model.under_way();
        runtime.block_on(checker.check(&mut model, &lines)).with_context(|| {
            format!("round {round} of seed {}; the last lines were {:#?}", args.seed, tail(&lines))
        })?;
        if round % 50 == 0 || round == options.rounds {
            println!(
                "engine-chaos: round {round}, {:.0} s, {acknowledged} operations acknowledged, {interrupted} interrupted, \
                 {} containers, {} images, {} networks",
                started.elapsed().as_secs_f64(),
                model.containers.len(),
                model.images.len(),
                model.networks.len(),
            );
        }
        // From time to time everything goes, and the machine must be as before.
        if round % 100 == 0 || round == options.rounds {
            runtime.block_on(checker.remove_everything()).with_context(|| format!("after round {round}"))?;
            model = Model::default();
            checker.check_base().with_context(|| format!("after round {round}"))?;
        }
    }
    println!("engine-chaos: {} rounds passed, leak check at base", options.rounds);
    Ok(())
}

fn tail(lines: &[journal::Line]) -> &[journal::Line] {
    &lines[lines.len().saturating_sub(12)..]
}

fn rustix_is_root() -> bool {
    engine_testkit::Requirement::Root.is_met()
}

/// Pushes images that share layers and differ in others.
fn push_images(registry: &Registry) {
    for lane in 0..LANES {
        for number in 0..IMAGES {
            let mut builder = image::ImageBuilder::new().layer(image::busybox_layer());
            for layer in 0..number * 2 {
                let text = format!("{layer} of {number}\n");
                builder = builder.layer(LayerBuilder::new().file(
                    &format!("layer-{layer}"),
                    0o644,
                    text.as_bytes(),
                ));
            }
            let own = vec![b'a' + lane as u8; 200_000];
            let image = builder.layer(LayerBuilder::new().file("lane", 0o644, &own)).command(&["sh"]).build();
            registry.push(&image, &format!("lane{lane}/image{number}"), "latest");
        }
    }
}
