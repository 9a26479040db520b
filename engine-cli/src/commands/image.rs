//! `images`, `tag`, `rmi`, `image import`.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use engine_core::Reference;
use engine_core::engine::{ImageSummary, ImportOptions};
use engine_core::image_config::ProcessDefaults;
use engine_core::time::parse_rfc3339;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::output::table::Listing;
use crate::output::{self, human};

/// `images`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    /// Show all images (there are no hidden ones)
    #[arg(short, long)]
    all: bool,
    /// Show what the names point at
    #[arg(long)]
    digests: bool,
    /// Show only those that match: reference, label, before, since, dangling
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show only images of this repository, with this tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `tag`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct TagArgs {
    /// The image
    source: String,
    /// Its new name
    target: Reference,
}

/// `rmi`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmiArgs {
    /// Remove names even of an image in use
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

/// `image import`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A comment in the history
    #[arg(short, long)]
    message: Option<String>,
    /// Default command, as words separated by spaces
    #[arg(long, value_name = "WORDS")]
    command: Option<String>,
    /// The archive (uncompressed tar), or - for standard input
    file: PathBuf,
    /// The image's name
    name: Reference,
}

const COLUMNS: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADINGS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("LabelMap", ""),
];

/// Runs `images`.
pub(crate) async fn images(context: &Context, args: &ImagesArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let mut list = engine.images().await?;
    if let Some(name) = &args.name {
        let wish: Reference = name.parse()?;
        // Without a tag, every tag of the repository.
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        list.retain(|image| {
            let known = &image.reference;
            let same = known.registry() == wish.registry() && known.repository() == wish.repository();
            same && (!tagged || known == &wish)
        });
    }
    for filter in &args.filter {
        list = filtered(&list, filter)?;
    }
    // Newest first, as Docker; an image that says nothing about its age comes last.
    list.sort_by_key(|image| std::cmp::Reverse(created(image)));
    let rows: Vec<Value> = list.iter().map(|image| row(image, args.no_trunc)).collect();
    let columns = if args.digests { WITH_DIGESTS } else { COLUMNS };
    let listing = Listing { columns, headings: HEADINGS, quiet: "ID" };
    output::print(&listing.show(&rows, args.format.as_deref(), args.quiet)?)?;
    Ok(0)
}

fn created(image: &ImageSummary) -> Option<SystemTime> {
    // 0001-01-01 is Go's way to say nothing.
    parse_rfc3339(&image.created).filter(|time| *time > SystemTime::UNIX_EPOCH)
}

fn row(image: &ImageSummary, full: bool) -> Value {
    let id = image.id.as_ref().unwrap_or(&image.target.digest);
    let labels: Vec<String> = image.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "Repository": image.reference.familiar_name(),
        "Tag": image.reference.tag().unwrap_or("<none>"),
        "Digest": image.target.digest.to_string(),
        "ID": if full { id.to_string() } else { id.hex()[..12].to_owned() },
        "CreatedAt": created(image).map_or_else(|| "N/A".to_owned(), human::listed),
        "CreatedSince": created(image).map_or_else(|| "N/A".to_owned(), human::ago),
        "Size": human::size(image.size),
        "Labels": labels.join(","),
        "LabelMap": image.labels,
    })
}

fn filtered(list: &[ImageSummary], filter: &str) -> Result<Vec<ImageSummary>> {
    let wrong = |why: &str| Failure::usage(format!("invalid filter {filter:?}: {why}"));
    let (key, value) = filter.split_once('=').ok_or_else(|| wrong("give KEY=VALUE"))?;
    let other = || -> Result<Option<SystemTime>> {
        let name: Reference = value.parse()?;
        let image =
            list.iter().find(|image| image.reference == name).ok_or_else(|| wrong("no such image"))?;
        Ok(created(image))
    };
    let keep: Box<dyn Fn(&ImageSummary) -> bool> = match key {
        "reference" => Box::new(|image| {
            let (name, whole) = (image.reference.familiar_name(), image.reference.familiar());
            glob(value, &name) || glob(value, &whole)
        }),
        "label" => Box::new(|image| match value.split_once('=') {
            Some((k, v)) => image.labels.get(k).is_some_and(|known| known == v),
            None => image.labels.contains_key(value),
        }),
        // Every image in the list has a name.
        "dangling" => Box::new(|_| matches!(value, "false" | "0")),
        "before" => {
            let time = other()?;
            Box::new(move |image| created(image) < time)
        }
        "since" => {
            let time = other()?;
            Box::new(move |image| created(image) > time)
        }
        _ => return Err(wrong("there is no such key")),
    };
    Ok(list.iter().filter(|image| keep(image)).cloned().collect())
}

/// Matches `*` and `?`, neither of which matches a slash.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut rest, mut chars) = (pattern.chars(), text.chars());
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            let end = text.find('/').unwrap_or(text.len());
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .filter(|at| *at <= end)
                .any(|at| glob(rest, &text[at..]))
        }
        Some(wish) => match chars.next() {
            Some(c) if wish == c || (wish == '?' && c != '/') => glob(rest.as_str(), chars.as_str()),
            _ => false,
        },
    }
}

/// Runs `tag`.
pub(crate) async fn tag(context: &Context, args: &TagArgs) -> Result<u8> {
    context.engine().await?.tag(&args.source, &args.target).await?;
    Ok(0)
}

/// Runs `rmi`.
pub(crate) async fn rmi(context: &Context, args: &RmiArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let mut several = Several::default();
    for name in &args.names {
        let removed = async {
            let removed = engine.remove_image(name, args.force).await?;
            let mut text = String::new();
            for name in &removed.untagged {
                text.push_str(&format!("Untagged: {}\n", name.familiar()));
            }
            for digest in &removed.deleted {
                text.push_str(&format!("Deleted: {digest}\n"));
            }
            output::print(&text)
        };
        several.note(removed.await);
    }
    several.finish()
}

/// Runs `image import`.
pub(crate) async fn import(context: &Context, args: &ImportArgs) -> Result<u8> {
    let read = || {
        if args.file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(&args.file)
        }
    };
    let archive =
        read().map_err(|error| Failure::usage(format!("cannot read {}: {error}", args.file.display())))?;
    let mut config = ProcessDefaults::default();
    if let Some(command) = &args.command {
        config.cmd = command.split_whitespace().map(str::to_owned).collect();
    }
    let mut options = ImportOptions::default().with_config(config);
    options.created = Some(SystemTime::now());
    options.comment.clone_from(&args.message);
    let image = context.engine().await?.import(&args.name, archive.into(), options).await?;
    output::line(image.id())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes() {
        assert!(glob("busy*", "busybox") && glob("*:lat?st", "busybox:latest") && glob("*/*", "a/b"));
        assert!(!glob("*", "a/b") && !glob("busy", "busybox") && !glob("a?b", "a/b"));
    }
}
