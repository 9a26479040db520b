//! `inspect`: containers, images, networks and volumes as Docker-shaped JSON.

use clap::{Args, ValueEnum};
use engine_core::{Engine, ErrorKind, Platform};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::output::docker_json;
use crate::output::documents::Documents;

/// What a name may mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// A container
    Container,
    /// An image
    Image,
    /// A network
    Network,
    /// A volume
    Volume,
}

/// `inspect`'s flags.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// What the names are; the first that fits without it
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Platform of the images
    #[arg(skip)]
    platform: Option<Platform>,
    #[command(flatten)]
    rest: OneKindArgs,
}

/// The flags of `container inspect` and its like.
#[derive(Args, Debug)]
pub(crate) struct OneKindArgs {
    /// A Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Measure containers and volumes
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// `image inspect`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    /// Platform of the image, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    rest: OneKindArgs,
}

impl From<ImageArgs> for InspectArgs {
    fn from(args: ImageArgs) -> Self {
        Self { platform: args.platform, ..args.rest.of(Kind::Image) }
    }
}

impl OneKindArgs {
    /// Says what the names are.
    pub(crate) fn of(self, kind: Kind) -> InspectArgs {
        InspectArgs { kind: Some(kind), platform: None, rest: self }
    }
}

/// Runs `inspect`.
pub(crate) async fn inspect(context: &Context, args: &InspectArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let documents = Documents::new(args.rest.format.as_deref())?;
    let mut several = Several::default();
    let mut found = Vec::new();
    for name in &args.rest.names {
        found.extend(several.note(one(&engine, name, args).await));
    }
    documents.print(&found)?;
    several.finish()
}

async fn one(engine: &Engine, name: &str, args: &InspectArgs) -> Result<Value> {
    let (kind, size) = (args.kind, args.rest.size);
    let wants = |one: Kind| kind.is_none_or(|kind| kind == one);
    if wants(Kind::Container) {
        match engine.container(name).await {
            Ok(container) => {
                let info = container.inspect().await?;
                return docker_json::container(&container, &info, size).await;
            }
            Err(error) if kind.is_none() && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    if wants(Kind::Image) {
        let platform = args.platform.clone().unwrap_or_else(Platform::host);
        match engine.image_for(name, &platform).await {
            Ok(image) if args.platform.is_some() && platform.rank(&image.platform()).is_none() => {
                return Err(Failure::usage(format!(
                    "image {name} is for {}, not {platform}",
                    image.platform()
                )));
            }
            Ok(image) => return docker_json::image(&image),
            Err(error)
                if kind.is_none()
                    && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if wants(Kind::Network) {
        match engine.network(name).await {
            Ok(network) => return docker_json::network(&network),
            Err(error)
                if kind.is_none()
                    && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let volumes = engine.volumes().await?;
    match volumes.iter().find(|volume| volume.name.as_str() == name) {
        Some(volume) => {
            let usage = match size {
                true => {
                    let users = engine.volume_users().await?.get(&volume.name).copied().unwrap_or(0);
                    Some((engine.volume_usage(&volume.name).await?, users))
                }
                false => None,
            };
            docker_json::volume(volume, usage)
        }
        None if kind == Some(Kind::Volume) => Err(Failure::usage(format!("no such volume: {name}"))),
        None => Err(Failure::usage(format!(
            "no such object: {name} (\"ps -a\", \"images\", \"network ls\" and \"volume ls\" list what there is)"
        ))),
    }
}
