//! `images`, `tag`, `rmi`.

use std::time::SystemTime;

use clap::Args;
use engine_api::notation::matches_glob;
use engine_core::engine::{ImageSummary, RemovedImage};
use engine_core::time::parse_rfc3339;
use engine_core::{Engine, Platform, Reference};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Result, Several};
use crate::options::filter::Filter;
use crate::options::list::ListArgs;
use crate::output::table::{Listing, align};
use crate::output::{self, human};

/// `images`'s flags.
#[derive(Args, Debug)]
#[command(mut_arg("filter", |arg| arg.help("Show only those that match: reference, label, before, since, until, dangling")))]
pub(crate) struct ImagesArgs {
    /// Show all images (there are no hidden ones)
    #[arg(short, long)]
    all: bool,
    /// Show what the names point at
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    list: ListArgs,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Show the platforms of each image, and the space it takes
    #[arg(long, conflicts_with_all = ["format", "quiet"])]
    tree: bool,
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
    /// Remove only what it has for this platform, from all images that have the same; wants --force
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', requires = "force")]
    platform: Vec<Platform>,
    /// Keep parents without a name (there are none: an image is one, with all its layers)
    #[arg(long)]
    no_prune: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
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
    for filter in &args.list.filter {
        list = filtered(&engine, &list, filter).await?;
    }
    // Newest first, as Docker; an image that says nothing about its age comes last.
    list.sort_by_key(|image| std::cmp::Reverse(created(image)));
    if args.tree {
        return tree(&engine, &list, args.no_trunc).await;
    }
    let rows: Vec<Value> = list.iter().map(|image| row(image, args.no_trunc)).collect();
    let columns = if args.digests { WITH_DIGESTS } else { COLUMNS };
    let listing = Listing { columns, headings: HEADINGS, quiet: "ID" };
    args.list.print(&listing, &rows)?;
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
        "Repository": if image.dangling { "<none>".to_owned() } else { image.reference.familiar_name() },
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

/// Shows each image with its platforms below it.
async fn tree(engine: &Engine, list: &[ImageSummary], full: bool) -> Result<u8> {
    let usage = engine.image_usage().await?;
    let id = |digest: &engine_core::Digest| if full { digest.to_string() } else { digest.short().to_owned() };
    let mut lines = vec!["IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA".to_owned()];
    for image in list {
        let known = usage.images.iter().find(|known| known.target.digest == image.target.digest);
        let name = if image.dangling { "<none>".to_owned() } else { image.reference.familiar() };
        let platforms = engine.image_platforms(&image.reference.to_string()).await?;
        let content = platforms.iter().filter_map(|platform| platform.size).sum();
        lines.push(format!(
            "{name}\t{}\t{}\t{}\t{}",
            id(image.id.as_ref().unwrap_or(&image.target.digest)),
            human::size(known.map_or(0, |known| known.size)),
            human::size(content),
            if known.is_some_and(|known| known.containers > 0) { "U" } else { "" }
        ));
        for (index, platform) in platforms.iter().enumerate() {
            let branch = if index + 1 == platforms.len() { "└─" } else { "├─" };
            let size = platform.size.map_or_else(|| "-".to_owned(), human::size);
            lines.push(format!(
                "{branch} {}\t{}\t-\t{size}\t",
                platform.platform,
                id(&platform.manifest.digest)
            ));
        }
    }
    output::print(&align(&lines))?;
    Ok(0)
}

async fn filtered(engine: &Engine, list: &[ImageSummary], filter: &str) -> Result<Vec<ImageSummary>> {
    let filter = Filter::parse(filter)?;
    let Filter { key, value, .. } = filter;
    // Another image, by name or id.
    let other = match key {
        "before" | "since" => {
            let image = engine.image(value).await?;
            parse_rfc3339(&image.config.created).filter(|time| *time > SystemTime::UNIX_EPOCH)
        }
        _ => None,
    };
    let keep: Box<dyn Fn(&ImageSummary) -> bool> = match key {
        "reference" => Box::new(|image| {
            let (name, whole) = (image.reference.familiar_name(), image.reference.familiar());
            matches_glob(value, &name) || matches_glob(value, &whole)
        }),
        "label" => Box::new(|image| match value.split_once('=') {
            Some((k, v)) => image.labels.get(k).is_some_and(|known| known == v),
            None => image.labels.contains_key(value),
        }),
        "dangling" => {
            let wish = filter.flag()?;
            Box::new(move |image| image.dangling == wish)
        }
        "until" => {
            let time = human::parse_time(value)?;
            Box::new(move |image| created(image).is_none_or(|created| created < time))
        }
        "before" => Box::new(move |image| created(image) < other),
        "since" => Box::new(move |image| created(image) > other),
        _ => return Err(filter.wrong("there is no such key")),
    };
    Ok(list.iter().filter(|image| keep(image)).cloned().collect())
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
            let mut removed = RemovedImage::default();
            if args.platform.is_empty() {
                removed = engine.remove_image(name, args.force).await?;
            }
            for platform in &args.platform {
                removed.deleted.extend(engine.remove_image_platform(name, platform).await?.deleted);
            }
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
