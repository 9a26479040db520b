//! `history` and `image prune`.

use std::time::SystemTime;

use clap::{ArgAction, Args};
use engine_core::Platform;
use engine_core::engine::{HistoryEntry, ImagePruneOptions};
use engine_core::time::{parse_rfc3339, rfc3339};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::filter::Filter;
use crate::output::table::Listing;
use crate::output::{self, human};

/// How much of a command is shown.
const SHORT: usize = 45;

/// `history`'s flags.
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show sizes and dates for people
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set
    )]
    human: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Platform of the image, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

/// `image prune`'s flags.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Only what matches: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    quiet: "ID",
};

/// Runs `history`.
pub(crate) async fn history(context: &Context, args: &HistoryArgs) -> Result<u8> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let entries = context.engine().await?.image_history(&args.image, &platform).await?;
    let rows: Vec<Value> = entries.iter().map(|entry| row(entry, args)).collect();
    output::print(&LISTING.show(&rows, args.format.as_deref(), args.quiet)?)?;
    Ok(0)
}

fn row(entry: &HistoryEntry, args: &HistoryArgs) -> Value {
    let created = entry.step.created.as_deref().and_then(parse_rfc3339);
    // 0001-01-01 is Go's way to say nothing.
    let created = created.filter(|time| *time > SystemTime::UNIX_EPOCH);
    let id = match &entry.id {
        Some(id) if args.no_trunc => id.to_string(),
        Some(id) => id.short().to_owned(),
        None => "<missing>".to_owned(),
    };
    let by = entry.step.created_by.as_deref().unwrap_or_default().replace('\t', " ");
    let by = match by.char_indices().nth(SHORT - 1) {
        Some((cut, _)) if !args.no_trunc && by.chars().count() > SHORT => format!("{}…", &by[..cut]),
        _ => by,
    };
    let at = created.map_or_else(|| "N/A".to_owned(), rfc3339);
    json!({
        "ID": id,
        "CreatedAt": at,
        "CreatedSince": match created {
            Some(created) if args.human => human::ago(created),
            _ => at.clone(),
        },
        "CreatedBy": by,
        "Size": if args.human { human::size(entry.size) } else { entry.size.to_string() },
        "Comment": entry.step.comment.as_deref().unwrap_or_default(),
    })
}

/// Runs `image prune`.
pub(crate) async fn prune(context: &Context, args: &PruneArgs) -> Result<u8> {
    let mut options = ImagePruneOptions::default().with_all(args.all);
    for filter in &args.filter {
        read_filter(&mut options, filter)?;
    }
    let what = if args.all { "all images without at least one container" } else { "all dangling images" };
    if !args.force && !confirmed(&format!("WARNING! This will remove {what}."))? {
        return Ok(0);
    }
    let pruned = context.engine().await?.prune_images(&options).await?;
    let mut text = String::new();
    if !pruned.untagged.is_empty() || !pruned.deleted.is_empty() {
        text.push_str("Deleted Images:\n");
        for name in &pruned.untagged {
            text.push_str(&format!("untagged: {}\n", name.familiar()));
        }
        for digest in &pruned.deleted {
            text.push_str(&format!("deleted: {digest}\n"));
        }
        text.push('\n');
    }
    output::print(&format!("{text}Total reclaimed space: {}\n", human::size(pruned.bytes)))?;
    Ok(0)
}

fn read_filter(options: &mut ImagePruneOptions, filter: &str) -> Result<()> {
    let filter = Filter::parse(filter)?;
    let Filter { key, value, .. } = filter;
    let label = || match value.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (value.to_owned(), None),
    };
    match key {
        "until" => options.until = Some(human::parse_time(value)?),
        "label" => options.labels.extend([label()]),
        "label!" => options.without_labels.extend([label()]),
        "dangling" => options.all = !filter.flag()?,
        _ => return Err(filter.wrong("there is no such key")),
    }
    Ok(())
}

/// Asks on standard error; anything but yes means no, and so does no answer.
fn confirmed(warning: &str) -> Result<bool> {
    eprint!("{warning}\nAre you sure you want to continue? [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
