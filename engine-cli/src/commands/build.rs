//! `build`.

mod annotations;
mod caches;
mod call;
mod metadata;
mod outputs;
mod provenance;
mod secrets;
mod source;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use engine_api::notation;
use engine_core::engine::{
    BuildContext, BuildEvent, BuildNetwork, BuildSpec, BuiltImage, Operation, Rebuild,
};
use engine_core::{Error, ErrorKind, Platform, Reference};
use futures_util::StreamExt as _;

use self::call::{Call, Question};
use self::outputs::{OutputArgs, Outputs};
use self::provenance::ProvenanceArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output;
use crate::output::build::{BuildView, say};
use crate::output::whole;

/// `build`'s flags.
#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The Dockerfile; - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE|-")]
    file: Option<PathBuf>,
    /// The image's name; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<Reference>,
    /// Set a build argument; without a value, the environment's
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Another context by a name: a directory, a URL, or docker-image://NAME
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    build_contexts: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Set a label of the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Set an annotation of the image's manifest
    #[arg(long = "annotation", value_name = "[manifest:]KEY=VALUE")]
    annotations: Vec<String>,
    /// Platform to build for, as linux/arm64; several, with commas or repeated, make one image of all. RUN for another architecture
    /// than this machine's needs an emulator that binfmt_misc knows
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Network of RUN
    #[arg(long, value_name = "NETWORK", default_value = "default", hide_default_value = true)]
    network: BuildNetwork,
    /// Ask the registry for base images, also for those that are here
    #[arg(long)]
    pull: bool,
    /// Run every step, whatever the cache has
    #[arg(long)]
    no_cache: bool,
    /// Build again without the cache, and fail if something else comes out
    #[arg(long)]
    verify: bool,
    /// Run every step of a stage, whatever the cache has
    #[arg(long = "no-cache-filter", value_name = "STAGE")]
    no_cache_stages: Vec<String>,
    /// A cache to ask for steps: an image or a cache in a registry, or type=registry,ref=NAME, type=local,src=DIR; may be repeated
    #[arg(long = "cache-from", value_name = "NAME|SPEC")]
    cache_from: Vec<String>,
    /// Where to write the steps for other builds: type=registry,ref=NAME or type=local,dest=DIR, with mode=min|max, or type=inline; may be repeated
    #[arg(long = "cache-to", value_name = "NAME|SPEC")]
    cache_to: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=NAME
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// An ssh agent for RUN --mount=type=ssh: ID, with the socket of SSH_AUTH_SOCK, or ID=SOCKET
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Add a line to /etc/hosts of RUN
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    extra_hosts: Vec<String>,
    /// Write the image's id to a file
    #[arg(long = "iidfile", value_name = "FILE")]
    id_file: Option<PathBuf>,
    /// Write what was built to a file, as JSON with BuildKit's keys
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    provenance: ProvenanceArgs,
    /// Build nothing, and say what is not good in the Dockerfile: --call=check
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// What to do with the Dockerfile: build it, check it, or tell what a target can be given (outline) or which targets there are;
    /// with format=json, and for check with ignorestatus=true to succeed in any case
    #[arg(
        long,
        value_name = "build|check|outline|targets[,format=json]",
        default_value = "build",
        hide_default_value = true
    )]
    call: Call,
    /// How to show the steps
    #[arg(long, value_enum, value_name = "KIND", default_value = "auto", hide_default_value = true)]
    progress: Kind,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Directory with the files that COPY and ADD find; the URL of a repository, an archive or a Dockerfile; - for an archive, or a
    /// Dockerfile alone, on standard input
    #[arg(value_name = "PATH|URL|-")]
    context: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    Auto,
    Plain,
    Tty,
    Quiet,
}

/// Runs `build`.
pub(crate) async fn build(context: &Context, args: &BuildArgs) -> Result<u8> {
    if let Some(question) = if args.check { Some(Question::CHECK) } else { args.call.0 } {
        return call::answer(context, args, question).await;
    }
    let outputs = Outputs::new(&args.output, &args.tags, &args.platforms)?;
    let mut spec = spec(args).await?;
    spec.names.extend(outputs.names().cloned());
    let names = spec.names.clone();
    spec.provenance = args.provenance.mode()?;
    if spec.provenance.is_some() && !outputs.push() && args.metadata_file.is_none() {
        return Err(Failure::usage(
            "provenance is attached to what is pushed, or written to a file: give --push or --metadata-file",
        ));
    }
    let view = view(args)?;
    // Whoever reads them is not to take what an earlier build wrote for this one's.
    [&args.id_file, &args.metadata_file].into_iter().flatten().try_for_each(|file| whole::remove(file))?;
    let engine = context.engine().await?;
    spec.credentials = context.all_credentials().await?;
    let quiet = matches!(view, BuildView::Nothing);
    let image = if args.verify {
        let local = engine.local().ok_or_else(elsewhere)?;
        same(watched(local.verify_rebuild(spec), view).await?)?
    } else {
        watched(engine.build(spec), view).await?
    };
    outputs.make(context, &engine, &image, &names, quiet).await?;
    if let Some(statement) = image.provenance.as_deref().filter(|_| outputs.push()) {
        for name in &names {
            provenance::attach(&engine, name, &image, statement).await?;
        }
    }
    if let Some(file) = &args.id_file {
        whole::text(file, &image.id.to_string()).await?;
    }
    if let Some(file) = &args.metadata_file {
        metadata::write(file, &image, &names).await?;
    }
    if quiet {
        if !outputs.takes_stdout() {
            output::line(&image.id)?;
        }
        return Ok(0);
    }
    let mut text = format!("built {}\n", image.id);
    names.iter().for_each(|name| text.push_str(&format!("named {name}\n")));
    say(&text)?;
    Ok(0)
}

/// How the steps are shown: as the flags say, or else the variable that BuildKit's clients have for it.
fn view(args: &BuildArgs) -> Result<BuildView> {
    let variable = || std::env::var("BUILDKIT_PROGRESS").ok().filter(|kind| !kind.is_empty());
    let kind = match args.progress {
        Kind::Auto => variable().map_or(Ok(Kind::Auto), |kind| {
            Kind::from_str(&kind, false).map_err(|_| {
                Failure::usage(format!("BUILDKIT_PROGRESS={kind}: it is auto, plain, tty or quiet"))
            })
        })?,
        kind => kind,
    };
    let terminal = std::io::stderr().is_terminal();
    Ok(match kind {
        _ if args.quiet => BuildView::Nothing,
        Kind::Quiet => BuildView::Nothing,
        Kind::Tty if !terminal => {
            return Err(Failure::usage("--progress=tty: standard error is no terminal (give plain or auto)"));
        }
        Kind::Auto | Kind::Tty if terminal => BuildView::live(),
        _ => BuildView::plain(),
    })
}

/// Shows a build's steps, and returns what it made.
async fn watched<T: Send + 'static>(
    mut operation: Operation<BuildEvent, T>,
    mut view: BuildView,
) -> Result<T> {
    while let Some(event) = operation.next().await {
        view.event(&event)?;
    }
    let made = operation.await;
    view.end();
    Ok(made?)
}

/// The image of a build that came out the same twice.
fn same(found: Rebuild) -> Result<BuiltImage> {
    if found.is_same() {
        return Ok(found.image);
    }
    let mut error = Error::new(ErrorKind::Other, "verify build")
        .with("built", &found.image.id)
        .with("again", &found.again.id)
        .with_message("something else came out the second time")
        .with_hint("take out what depends on the time, on chance or on the network");
    if let Some(instruction) = found.differs_at {
        error = error.with("instruction", instruction);
    }
    Err(error.into())
}

/// The error of an engine that is not in this program.
fn elsewhere() -> Failure {
    Error::new(ErrorKind::Unsupported, "verify build")
        .with_message("an engine elsewhere does not compare what it builds")
        .with_hint("leave --verify out, or name the engine's directory with --root")
        .into()
}

/// What says which Dockerfile is meant, and what it is given.
async fn asked(args: &BuildArgs) -> Result<BuildSpec> {
    let mut spec = BuildSpec::default();
    (spec.context, spec.dockerfile) = source::read(args).await?;
    spec.ignore = source::ignore_file(args, &spec.dockerfile)?;
    for arg in &args.build_args {
        match arg.split_once('=') {
            Some((name, value)) => drop(spec.args.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Ok(value) = std::env::var(arg) {
                    spec.args.insert(arg.clone(), value);
                }
            }
        }
    }
    for context in &args.build_contexts {
        let (name, source) = pair(context, "--build-context", "NAME=SOURCE")?;
        let source = match source.strip_prefix("docker-image://") {
            Some(image) => BuildContext::Image(image.to_owned()),
            None => source::local_or_remote(Path::new(source)),
        };
        spec.contexts.insert(name.to_owned(), source);
    }
    spec.target.clone_from(&args.target);
    spec.platforms.clone_from(&args.platforms);
    Ok(spec)
}

async fn spec(args: &BuildArgs) -> Result<BuildSpec> {
    let mut spec = asked(args).await?;
    spec.names.clone_from(&args.tags);
    // Docker's word for the time of what is built.
    let time = spec.args.get("SOURCE_DATE_EPOCH").cloned();
    let time = time.or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok());
    spec.source_date_epoch = time.filter(|text| !text.is_empty()).map(|text| epoch(&text)).transpose()?;
    for label in &args.labels {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        spec.labels.insert(key.to_owned(), value.to_owned());
    }
    spec.annotations = annotations::of_manifest(&args.annotations)?;
    spec.network.clone_from(&args.network);
    spec.allow_host_network = spec.network == BuildNetwork::Host;
    (spec.pull, spec.no_cache) = (args.pull, args.no_cache);
    spec.cache_from = args.cache_from.iter().map(|text| caches::source(text)).collect::<Result<_>>()?;
    spec.cache_to = args.cache_to.iter().map(|text| caches::target(text)).collect::<Result<_>>()?;
    spec.no_cache_stages.clone_from(&args.no_cache_stages);
    for secret in &args.secrets {
        let (id, content) = secrets::read(secret).await?;
        spec.secrets.insert(id, content);
    }
    spec.ssh = agents(args)?;
    for host in &args.extra_hosts {
        spec.extra_hosts.push(notation::extra_host(host)?);
    }
    Ok(spec)
}

/// Reads seconds since 1970, up to the year 9999: the last that an image's configuration can say.
fn epoch(text: &str) -> Result<std::time::SystemTime> {
    const LAST: u64 = 253_402_300_799;
    let seconds = text.parse().ok().filter(|seconds| *seconds <= LAST);
    let seconds = seconds.ok_or_else(|| {
        Failure::usage(format!("SOURCE_DATE_EPOCH is no number of seconds from 0 to {LAST}: {text}"))
    })?;
    Ok(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

fn pair<'a>(text: &'a str, flag: &str, form: &str) -> Result<(&'a str, &'a str)> {
    text.split_once('=').ok_or_else(|| Failure::usage(format!("{flag} {text}: give {form}")))
}

fn agents(args: &BuildArgs) -> Result<BTreeMap<String, PathBuf>> {
    args.ssh.iter().map(|agent| agent_of(agent)).collect()
}

/// Reads `ID` and `ID=SOCKET`.
fn agent_of(text: &str) -> Result<(String, PathBuf)> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, PathBuf::from(socket)),
        None => {
            let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
            let lacks = || Failure::usage(format!("--ssh {text}: the environment has no SSH_AUTH_SOCK"));
            (text, PathBuf::from(socket.ok_or_else(lacks)?))
        }
    };
    let fail = |e| Error::from_io("find ssh agent", e).with("socket", socket.display());
    let kind = std::fs::metadata(&socket).map_err(fail)?.file_type();
    if !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
        return Err(Failure::usage(format!(
            "--ssh {text}: it is no socket; keys are given by an agent that has them (ssh-agent, ssh-add)"
        )));
    }
    let socket = std::fs::canonicalize(&socket).map_err(fail)?;
    Ok((id.to_owned(), socket))
}
