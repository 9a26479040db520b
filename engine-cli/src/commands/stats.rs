//! `stats`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use engine_core::stats::Stats;
use engine_core::{Container, ContainerInfo, Engine, ErrorKind};
use futures_util::future;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::table::Listing;
use crate::output::{self, human};

/// How often a live table is drawn, as Docker's.
const INTERVAL: Duration = Duration::from_millis(500);

/// `stats`'s flags.
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Show all containers, not only those running
    #[arg(short, long)]
    all: bool,
    /// Show one result and end
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Names or ids; all that run without one
    #[arg(value_name = "CONTAINER")]
    names: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    quiet: "ID",
};

/// Runs `stats`.
pub(crate) async fn stats(context: &Context, args: &StatsArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let memory = host_memory();
    let live = std::io::stdout().is_terminal()
        && args.format.as_deref().is_none_or(|format| format.starts_with("table"));
    if live && !args.no_stream {
        output::print("\u{1b}[2J")?;
    }
    let mut before = sample(&engine, args).await?;
    loop {
        // A share of CPU time is one between two looks.
        tokio::time::sleep(INTERVAL).await;
        let now = sample(&engine, args).await?;
        let earlier: HashMap<&str, &Stats> =
            before.iter().map(|(info, stats)| (info.id.as_str(), stats)).collect();
        let rows: Vec<Value> = now
            .iter()
            .map(|(info, stats)| {
                row(info, stats, earlier.get(info.id.as_str()).copied(), memory, args.no_trunc)
            })
            .collect();
        let text = LISTING.show(&rows, args.format.as_deref(), false)?;
        if live && !args.no_stream {
            // Home, each line to its end, and what is below: the table stays where it is without flicker.
            let lines = text.replace('\n', "\u{1b}[K\n");
            output::print(&format!("\u{1b}[H{lines}\u{1b}[J"))?;
        } else {
            output::print(&text)?;
        }
        if args.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

/// Looks at all that is asked for, at once.
async fn sample(engine: &Engine, args: &StatsArgs) -> Result<Vec<(ContainerInfo, Stats)>> {
    let wanted: Vec<(ContainerInfo, Container)> = if args.names.is_empty() {
        let list =
            engine.containers().await?.into_iter().filter(|info| args.all || info.state.status.is_running());
        let found = future::join_all(list.map(async |info| {
            let container = engine.container(info.id.as_str()).await?;
            Ok::<_, Failure>((info, container))
        }));
        // One removed meanwhile is not shown.
        found.await.into_iter().flatten().collect()
    } else {
        let mut list = Vec::new();
        for name in &args.names {
            let container = engine.container(name).await?;
            list.push((container.inspect().await?, container));
        }
        list
    };
    let read = wanted.into_iter().map(async |(info, container)| match container.stats().await {
        Ok(stats) => Ok(Some((info, stats))),
        // It does not run (any more): Docker shows zeroes of one that was named.
        Err(error) if error.kind() == ErrorKind::Conflict && (args.all || !args.names.is_empty()) => {
            Ok(Some((info, Stats::default())))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(Failure::from(error)),
    });
    let read: Result<Vec<_>> = future::join_all(read).await.into_iter().collect();
    Ok(read?.into_iter().flatten().collect())
}

fn row(info: &ContainerInfo, stats: &Stats, earlier: Option<&Stats>, host_memory: u64, full: bool) -> Value {
    let id = if full { info.id.as_str() } else { info.id.short() };
    let runs = stats.read_at.is_some();
    let shown = |text: String| if runs { text } else { "--".to_owned() };
    let pair = |a: String, b: String| if runs { format!("{a} / {b}") } else { "-- / --".to_owned() };
    let limit = stats.memory_limit.filter(|limit| *limit < host_memory).unwrap_or(host_memory);
    let percent = if limit == 0 { 0.0 } else { stats.memory as f64 / limit as f64 * 100.0 };
    let cpu = earlier.map_or(0.0, |earlier| stats.cpu_percent_since(earlier));
    let (received, sent) = stats
        .networks
        .values()
        .fold((0, 0), |(received, sent), network| (received + network.received, sent + network.sent));
    json!({
        "Container": id,
        "ID": id,
        "Name": info.name.as_str(),
        "CPUPerc": shown(format!("{cpu:.2}%")),
        "MemUsage": pair(human::binary_size(stats.memory), human::binary_size(limit)),
        "MemPerc": shown(format!("{percent:.2}%")),
        "NetIO": pair(human::size(received), human::size(sent)),
        "BlockIO": pair(human::size(stats.io_read), human::size(stats.io_written)),
        "PIDs": shown(stats.pids.to_string()),
    })
}

/// What a container without a limit can have: the host's memory, in bytes.
fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
