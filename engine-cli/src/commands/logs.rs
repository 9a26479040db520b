//! `logs`.

use std::io;

use clap::Args;
use engine_core::logs::{LogQuery, LogSource};
use futures_util::StreamExt;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{self, human};

/// `logs`'s flags.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on with new output until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Show only the last lines
    #[arg(short = 'n', long, value_name = "NUMBER|all", default_value = "all")]
    tail: String,
    /// Show output since a time, as 2026-11-23T10:00:00Z or 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show output before a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Show what goes with each line by the container's log options
    #[arg(long)]
    details: bool,
    /// Name or id
    container: String,
}

/// Runs `logs`.
pub(crate) async fn logs(context: &Context, args: &LogsArgs) -> Result<u8> {
    let mut query = if args.follow { LogQuery::follow() } else { LogQuery::default() };
    if args.tail != "all" {
        let wrong = |_| Failure::usage(format!("invalid --tail {:?}: give a number or all", args.tail));
        query = query.with_tail(args.tail.parse().map_err(wrong)?);
    }
    if let Some(since) = &args.since {
        query = query.with_since(human::parse_time(since)?);
    }
    if let Some(until) = &args.until {
        query = query.with_until(human::parse_time(until)?);
    }
    let container = context.engine().await?.container(&args.container).await?;
    let mut entries = container.logs(&query).await?;
    // A part of a long line gets no time of its own.
    let mut fresh = [true; 2];
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        let fresh = &mut fresh[usize::from(entry.stream == LogSource::Stderr)];
        let mut bytes = Vec::with_capacity(entry.message.len() + 32);
        if args.timestamps && *fresh {
            bytes.extend_from_slice(engine_core::time::rfc3339(entry.time).as_bytes());
            bytes.push(b' ');
        }
        if args.details && *fresh && !entry.attributes.is_empty() {
            let details: Vec<String> = entry.attributes.iter().map(detail).collect();
            bytes.extend_from_slice(format!("{} ", details.join(",")).as_bytes());
        }
        bytes.extend_from_slice(&entry.message);
        *fresh = entry.message.ends_with(b"\n");
        match entry.stream {
            LogSource::Stdout => output::write(&mut io::stdout().lock(), &bytes)?,
            LogSource::Stderr => output::write(&mut io::stderr().lock(), &bytes)?,
        }
    }
    Ok(0)
}

/// One of a line's details, escaped as Docker does, so that spaces and commas tell them apart.
fn detail((key, value): (&String, &String)) -> String {
    let escape = |text: &str| {
        text.bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect::<String>()
    };
    format!("{}={}", escape(key), escape(value))
}
