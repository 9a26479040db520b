//! Building images: this engine's command line, Docker's classic builder, buildah and podman, on the same contexts.
//!
//! Each has a root of its own with the same base image, and no network. Memory is the highest of the program that was called (`VmHWM`,
//! proc_pid_status(5)); Docker's work is done by its daemon, whose memory is not in the table.

mod contexts;
mod subjects;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::host::{self, BEST_OF, Host};
use crate::table::Table;
use contexts::Context;
use subjects::{NAMES, Subject};

const OURS: &str = "engine (CLI)";
const LIBRARY: &str = "engine (library)";

/// Prints the tables.
pub(crate) fn run(host: &Host) -> Result<()> {
    let subjects: Vec<(&str, Result<Subject>)> =
        NAMES.iter().map(|name| (*name, Subject::start(host, name))).collect();
    let table = |title: &str, work: &mut dyn FnMut(&Subject) -> Result<Vec<u64>>, library: Option<&Path>| {
        let mut table = Table::new(title, OURS);
        if let Some(context) = library {
            table.samples(LIBRARY, host.ours("build", 30, context.to_str()));
        }
        for (name, subject) in &subjects {
            match subject {
                Ok(subject) => table.samples(&subject.label, work(subject)),
                Err(error) => table.samples(name, Err(anyhow::anyhow!("{error:#}"))),
            }
        }
        table.print(OURS);
    };

    let ten = Context::ten_steps(host)?;
    let changed = |subject: &Subject, context: &Context| -> Result<Vec<u64>> {
        (0..BEST_OF)
            .map(|round| {
                context.change(&format!("{} {round}", subject.label))?;
                timed(|| subject.build(context.dir()))
            })
            .collect()
    };
    let unchanged = |subject: &Subject, context: &Context, rounds: usize| -> Result<Vec<u64>> {
        subject.build(context.dir())?;
        (0..rounds).map(|_| timed(|| subject.build(context.dir()))).collect()
    };
    table("Build of ten steps, all carried out", &mut |subject| changed(subject, &ten), None);
    table("Build of ten steps, unchanged", &mut |subject| unchanged(subject, &ten, 10), Some(ten.dir()));
    let many = Context::many_files(host)?;
    table(
        "Build with 10000 files of 1 KiB, unchanged",
        &mut |subject| unchanged(subject, &many, 5),
        Some(many.dir()),
    );
    table(
        "Build with 10000 files of 1 KiB, one of them changed",
        &mut |subject| changed(subject, &many),
        None,
    );
    let branches = Context::branches(host)?;
    table(
        "Build of four stages that each take half a second",
        &mut |subject| changed(subject, &branches),
        None,
    );
    let large = Context::large(host)?;
    let mut memory = Vec::new();
    table(
        "Build that copies a file of 1 GiB",
        &mut |subject| {
            (0..2)
                .map(|round| {
                    large.change(&format!("{} {round}", subject.label))?;
                    let begun = Instant::now();
                    let peak = subject.build_watched(large.dir())?;
                    memory.push(format!("{} {peak:.0} MiB", subject.label));
                    Ok(u64::try_from(begun.elapsed().as_nanos())?)
                })
                .collect()
        },
        None,
    );
    memory.dedup();
    println!("Peak memory of the program: {}.\n", memory.join(", "));
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let begun = Instant::now();
    work()?;
    Ok(u64::try_from(begun.elapsed().as_nanos())?)
}

/// Measures this engine in its own program: nothing has changed since the first build. Prints nanoseconds.
pub(crate) async fn ours(engine: &engine_core::Engine, rounds: usize, context: &str) -> Result<()> {
    use engine_core::engine::{BuildNetwork, BuildSpec};

    for round in 0..=rounds {
        let mut spec = BuildSpec::new(context);
        spec.network = BuildNetwork::None;
        let begun = Instant::now();
        engine.build(spec).await?;
        if round > 0 {
            println!("{}", begun.elapsed().as_nanos());
        }
    }
    Ok(())
}

/// What is called with these arguments, in the directory of a subject.
fn command(program: &str, arguments: &[&str]) -> Result<std::process::Command> {
    let mut command = match program {
        "engine-cli" => std::process::Command::new(host::sibling(program)?),
        program => std::process::Command::new(program),
    };
    command.args(arguments).stdin(std::process::Stdio::null());
    Ok(command)
}
