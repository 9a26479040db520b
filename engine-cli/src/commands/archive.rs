//! `save`, `load`, `import`: archives in and out; `image copy`: without one.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use engine_core::engine::{
    ArchiveFormat, CopyImageOptions, ImportOptions, LoadOptions, LoadSource, SaveOptions,
};
use engine_core::image_config::ProcessDefaults;
use engine_core::io::ByteStream;
use engine_core::{Engine, Error, Platform, Reference, image_changes};
use futures_util::{StreamExt as _, stream};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output;
use crate::output::progress::{Progress, Target};
use crate::output::whole;

/// Bytes read from a file at once.
const PIECE: usize = 256 << 10;

/// `save`'s flags.
#[derive(Args, Debug)]
pub(crate) struct SaveArgs {
    /// Write to this file (or directory, for oci-dir) instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Platform to save, as linux/arm64; all there are without it
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Kind of archive
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// What `save` writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// As Docker's save: also an OCI archive
    #[default]
    DockerArchive,
    /// An OCI archive
    OciArchive,
    /// An OCI layout directory
    OciDir,
}

/// `load`'s flags.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// Read from this file (or OCI layout directory) instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Platform to load, as linux/arm64; all there are without it
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// `image copy`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CopyArgs {
    /// Root directory of the other engine, as its --root
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The image's name there, if one image is copied
    #[arg(long, value_name = "NAME")]
    name: Option<Reference>,
    /// Platform to copy, as linux/arm64; all there are without it
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `import`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Apply an instruction of a Dockerfile, such as CMD ["sh"] or ENV A=1
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// A comment in the history
    #[arg(short, long)]
    message: Option<String>,
    /// Platform of the image, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Default command, as words separated by spaces
    #[arg(long, value_name = "WORDS")]
    command: Option<String>,
    /// The archive (tar, plain or compressed by gzip or zstd), or - for standard input
    file: PathBuf,
    /// The image's name
    name: Option<Reference>,
}

/// Runs `save`.
pub(crate) async fn save(context: &Context, args: &SaveArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let mut options = SaveOptions::default();
    options.platform.clone_from(&args.platform);
    if args.format != Format::DockerArchive {
        options.format = ArchiveFormat::Oci;
    }
    match (&args.output, args.format) {
        (Some(dir), Format::OciDir) => engine.save_layout(&args.images, dir, options).await?,
        (None, Format::OciDir) => return Err(Failure::usage("give the directory with --output")),
        (None, _) if io::stdout().is_terminal() => {
            return Err(Failure::usage(
                "an archive is not for a terminal: give a file with --output, or redirect",
            ));
        }
        (output, _) => save_to(&engine, &args.images, output.as_deref(), options).await?,
    }
    Ok(0)
}

/// Writes an archive of images to a file or to standard output.
pub(super) async fn save_to(
    engine: &Engine,
    images: &[String],
    output: Option<&Path>,
    options: SaveOptions,
) -> Result<()> {
    let Some(path) = output else {
        engine.save(images, tokio::io::stdout(), options).await?;
        return Ok(());
    };
    whole::write(path, async |file| {
        engine.save(images, tokio::fs::File::from_std(file), options).await?;
        Ok(())
    })
    .await
}

/// Runs `load`.
pub(crate) async fn load(context: &Context, args: &LoadArgs) -> Result<u8> {
    let source = match &args.input {
        Some(path) => path.clone().into(),
        None if io::stdin().is_terminal() => {
            return Err(Failure::usage(
                "standard input is a terminal: give an archive with --input, or redirect",
            ));
        }
        None => stdin(),
    };
    let mut options = LoadOptions::default();
    options.platform.clone_from(&args.platform);
    let engine = context.engine().await?;
    let terminal = io::stdout().is_terminal();
    let target = if args.quiet || !terminal { Target::Nowhere } else { Target::Stdout };
    let mut progress = Progress::new(target, terminal);
    let mut operation = engine.load(source, options);
    while let Some(event) = operation.next().await {
        progress.loaded(&event)?;
    }
    progress.clear();
    for image in operation.await? {
        for name in &image.names {
            output::line(format!("Loaded image: {}", name.familiar()))?;
        }
        if image.names.is_empty() {
            output::line(format!("Loaded image ID: {}", image.id.as_ref().unwrap_or(&image.target.digest)))?;
        }
    }
    Ok(0)
}

/// Runs `image copy`.
pub(crate) async fn copy(context: &Context, args: &CopyArgs) -> Result<u8> {
    if args.name.is_some() && args.images.len() > 1 {
        return Err(Failure::usage("--name is for one image"));
    }
    let (from, to) = (context.engine().await?, context.at_root(&args.to).local_engine().await?);
    let mut options = CopyImageOptions::default();
    options.platform.clone_from(&args.platform);
    options.name.clone_from(&args.name);
    let terminal = io::stdout().is_terminal();
    let target = if args.quiet || !terminal { Target::Nowhere } else { Target::Stdout };
    for image in &args.images {
        let mut progress = Progress::new(target, terminal);
        let mut operation = from.copy_image(image, &to, options.clone());
        while let Some(event) = operation.next().await {
            progress.loaded(&event)?;
        }
        progress.clear();
        output::line(format!("{image}: {}", operation.await?.target.digest))?;
    }
    Ok(0)
}

/// Returns standard input: as a file, if it is one, which can be read in any order.
fn stdin() -> LoadSource {
    let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    match file.and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => LoadSource::Path("/proc/self/fd/0".into()),
        _ => LoadSource::stream(pieces(io::stdin())),
    }
}

/// Reads a blocking reader in pieces, off the async workers.
pub(crate) fn pieces(reader: impl Read + Send + 'static) -> ByteStream {
    stream::try_unfold(reader, |mut reader| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; PIECE];
            let count = loop {
                match reader.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    count => break count?,
                }
            };
            buffer.truncate(count);
            io::Result::Ok((buffer, reader))
        });
        let read = read.await.map_err(io::Error::other).and_then(|read| read);
        let (buffer, reader) = read.map_err(|e| Error::from_io("read archive", e))?;
        Ok((!buffer.is_empty()).then(|| (buffer.into(), reader)))
    })
    .boxed()
}

/// Runs `import`.
pub(crate) async fn import(context: &Context, args: &ImportArgs) -> Result<u8> {
    let archive = if args.file.as_os_str() == "-" {
        pieces(io::stdin())
    } else {
        let text = args.file.to_string_lossy();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(Failure::usage(
                "an archive is not fetched from a URL: download it, and import the file",
            ));
        }
        let file = File::open(&args.file)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", args.file.display())))?;
        pieces(file)
    };
    let mut config = ProcessDefaults::default();
    if let Some(command) = &args.command {
        config.cmd = command.split_whitespace().map(str::to_owned).collect();
    }
    image_changes::apply(&mut config, &args.changes)?;
    let mut options = ImportOptions::default().with_config(config);
    options.created = Some(SystemTime::now());
    options.comment.clone_from(&args.message);
    options.platform.clone_from(&args.platform);
    let imported = context.engine().await?.import_stream(args.name.as_ref(), archive, options).await;
    let image = imported.map_err(|error| error.with("archive", args.file.display()))?;
    output::line(image.id())?;
    Ok(0)
}
