//! `cp`, `diff`, `export`, `commit`; `volume export`, `volume import`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use engine_core::engine::{CommitOptions, CopyOptions};
use engine_core::files::{Change, UnpackFiles};
use engine_core::io::ByteStream;
use engine_core::{Name, Reference};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::whole;
use crate::output::{self, human};

/// `cp`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CpArgs {
    /// Keep owners, set-ID bits and capabilities
    #[arg(short, long)]
    archive: bool,
    /// Follow a link in the last component of SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, PATH, or - for a tar archive on standard input
    #[arg(value_name = "[CONTAINER:]SRC_PATH|-", allow_hyphen_values = true)]
    source: String,
    /// CONTAINER:PATH, PATH, or - for a tar archive on standard output
    #[arg(value_name = "[CONTAINER:]DEST_PATH|-", allow_hyphen_values = true)]
    destination: String,
}

/// `diff`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Name or id
    container: String,
}

/// `export`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    container: String,
}

/// `volume export`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ExportVolumeArgs {
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name
    volume: Name,
}

/// `volume import`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct ImportVolumeArgs {
    /// Name of a volume that is there
    volume: Name,
    /// A tar archive; - or nothing for standard input
    #[arg(value_name = "FILE|-", default_value = "-", hide_default_value = true)]
    source: PathBuf,
}

/// `commit`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CommitArgs {
    /// Who made the image
    #[arg(short, long, value_name = "NAME", default_value = "", hide_default_value = true)]
    author: String,
    /// A comment in its history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Apply an instruction of a Dockerfile to the image, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Pause the container meanwhile [default: true]
    #[arg(
        short,
        long,
        value_name = "BOOL",
        default_value_t = true,
        hide_default_value = true,
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pause: bool,
    /// As --pause=false
    #[arg(long, conflicts_with = "pause")]
    no_pause: bool,
    /// Name or id
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
}

/// A container's name and the path in it, or a path of the host.
fn split(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with('/') {
        return (None, argument);
    }
    match argument.split_once(':') {
        Some((container, path)) if !container.starts_with('.') => (Some(container), path),
        _ => (None, argument),
    }
}

/// Runs `cp`.
pub(crate) async fn cp(context: &Context, args: &CpArgs) -> Result<u8> {
    let options = CopyOptions::default().with_archive(args.archive).with_follow_link(args.follow_link);
    let (source, destination) = (split(&args.source), split(&args.destination));
    for (side, (container, path)) in [("source", source), ("destination", destination)] {
        if container == Some("") {
            return Err(Failure::usage(format!("the {side} names no container before its colon")));
        }
        if path.is_empty() {
            return Err(Failure::usage(format!("the {side} has no path")));
        }
    }
    let bytes = match (source, destination) {
        ((Some(_), _), (Some(_), _)) => {
            return Err(Failure::usage("copying between containers is not supported"));
        }
        ((None, _), (None, _)) => {
            return Err(Failure::usage(
                "must specify at least one container source or destination, as CONTAINER:PATH",
            ));
        }
        ((Some(container), path), (None, "-")) => {
            if std::io::stdout().is_terminal() {
                return Err(Failure::usage(
                    "an archive is not written to a terminal: redirect standard output",
                ));
            }
            let container = context.engine().await?.container(container).await?;
            write_all(container.copy_to_stream(path, options).await?, &mut std::io::stdout().lock()).await?;
            return Ok(0);
        }
        ((Some(container), path), (None, host)) => {
            context.engine().await?.container(container).await?.copy_to_host(path, host, options).await?
        }
        ((None, "-"), (Some(container), path)) => {
            let container = context.engine().await?.container(container).await?;
            container.copy_in(path, stdin(), &UnpackFiles::default().with_keep_kinds(true)).await?;
            return Ok(0);
        }
        ((None, host), (Some(container), path)) => {
            context.engine().await?.container(container).await?.copy_from_host(host, path, options).await?
        }
    };
    if !args.quiet && std::io::stdout().is_terminal() {
        eprintln!("Successfully copied {} to {}", human::size(bytes), args.destination);
    }
    Ok(0)
}

/// Standard input as a stream.
fn stdin() -> ByteStream {
    stream_of(tokio::io::stdin())
}

fn stream_of(input: impl AsyncRead + Send + Unpin + 'static) -> ByteStream {
    let read = stream::unfold(Some(input), async |input| {
        let mut input = input?;
        let mut buffer = vec![0; 1 << 17];
        match input.read(&mut buffer).await {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                Some((Ok(buffer.into()), Some(input)))
            }
            Err(error) => Some((Err(engine_core::Error::from_io("read archive", error)), None)),
        }
    });
    read.boxed()
}

async fn write_all(mut stream: ByteStream, to: &mut impl Write) -> Result<()> {
    while let Some(chunk) = stream.next().await {
        output::write(to, &chunk?)?;
    }
    Ok(())
}

/// Lists changes as Docker does.
pub(super) fn changes(list: &[Change]) -> Result<()> {
    let lines: String =
        list.iter().map(|change| format!("{} {}\n", change.kind.letter(), change.path.display())).collect();
    output::print(&lines)
}

/// Runs `diff`.
pub(crate) async fn diff(context: &Context, args: &DiffArgs) -> Result<u8> {
    changes(&context.engine().await?.container(&args.container).await?.changes().await?)?;
    Ok(0)
}

/// Runs `export`.
pub(crate) async fn export(context: &Context, args: &ExportArgs) -> Result<u8> {
    refuse_terminal(args.output.as_deref())?;
    let archive = context.engine().await?.container(&args.container).await?.export().await?;
    write_to(archive, args.output.as_deref()).await
}

/// Runs `volume export`.
pub(crate) async fn export_volume(context: &Context, args: &ExportVolumeArgs) -> Result<u8> {
    refuse_terminal(args.output.as_deref())?;
    let archive = context.engine().await?.export_volume(&args.volume).await?;
    write_to(archive, args.output.as_deref()).await
}

/// Runs `volume import`.
pub(crate) async fn import_volume(context: &Context, args: &ImportVolumeArgs) -> Result<u8> {
    let archive = if args.source == Path::new("-") {
        stdin()
    } else {
        let file = tokio::fs::File::open(&args.source).await;
        stream_of(
            file.map_err(|error| Failure::usage(format!("cannot read {}: {error}", args.source.display())))?,
        )
    };
    context.engine().await?.import_volume(&args.volume, archive).await?;
    Ok(0)
}

fn refuse_terminal(output: Option<&Path>) -> Result<()> {
    if output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an archive is not written to a terminal: use -o, or redirect standard output",
        ));
    }
    Ok(())
}

/// Writes an archive to a file or to standard output.
pub(super) async fn write_to(archive: ByteStream, output: Option<&Path>) -> Result<u8> {
    match output {
        None => write_all(archive, &mut std::io::stdout().lock()).await?,
        Some(path) => whole::write(path, async |mut file| write_all(archive, &mut file).await).await?,
    }
    Ok(0)
}

/// Runs `commit`.
pub(crate) async fn commit(context: &Context, args: &CommitArgs) -> Result<u8> {
    let mut options = CommitOptions::default();
    options.name.clone_from(&args.name);
    options.author.clone_from(&args.author);
    options.message.clone_from(&args.message);
    options.changes.clone_from(&args.change);
    options.no_pause = args.no_pause || !args.pause;
    let id = context.engine().await?.container(&args.container).await?.commit(&options).await?;
    output::line(id)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_names_a_container() {
        assert_eq!(split("web:/etc"), (Some("web"), "/etc"));
        assert_eq!(split("web:a:b"), (Some("web"), "a:b"));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("-"), (None, "-"));
    }
}
