//! `artifact …`: files in registries that are no image.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use engine_core::engine::{ArtifactFile, ArtifactOptions};
use engine_core::{Descriptor, Reference};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::env;
use crate::output::progress::{Progress, Target};
use crate::output::table::Listing;
use crate::output::{self, human};

use super::{image, transfer};

/// `engine-cli artifact …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Make an artifact of files
    Add(AddArgs),
    /// Push files to a registry, attached to an image there
    Attach(AddArgs),
    /// List what is attached to an image in its registry
    Referrers(ReferrersArgs),
    /// Write an artifact's files to a directory
    Extract(ExtractArgs),
    /// Pull an artifact from a registry
    Pull(transfer::PullArgs),
    /// Push an artifact to a registry
    Push(transfer::PushArgs),
    /// Remove artifacts
    #[command(visible_alias = "remove")]
    Rm(image::RmiArgs),
}

/// `artifact add`'s and `artifact attach`'s flags.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// Type of the artifact, such as application/spdx+json
    #[arg(long = "type", value_name = "TYPE")]
    artifact_type: Option<String>,
    /// Type of the files
    #[arg(long, value_name = "TYPE")]
    file_type: Option<String>,
    /// Annotation
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// The artifact's name; for attach, the image in the registry
    name: Reference,
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// `artifact referrers`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ReferrersArgs {
    /// Only artifacts of this type
    #[arg(long = "type", value_name = "TYPE")]
    artifact_type: Option<String>,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show only digests
    #[arg(short, long)]
    quiet: bool,
    /// The image in the registry
    subject: Reference,
}

/// `artifact extract`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct ExtractArgs {
    /// The artifact
    name: String,
    /// The directory
    directory: PathBuf,
}

impl AddArgs {
    fn files(&self) -> Vec<ArtifactFile> {
        let file = |path: &PathBuf| match &self.file_type {
            Some(kind) => ArtifactFile::new(path).with_media_type(kind),
            None => ArtifactFile::new(path),
        };
        self.files.iter().map(file).collect()
    }

    fn options(&self) -> Result<ArtifactOptions> {
        let mut options = ArtifactOptions::default();
        options.artifact_type.clone_from(&self.artifact_type);
        options.annotations = env::labels(&[], &self.annotation)?.into_iter().collect::<BTreeMap<_, _>>();
        Ok(options)
    }
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.Digest}}\t{{.ArtifactType}}\t{{.Size}}",
    headings: &[
        ("Digest", "DIGEST"),
        ("ArtifactType", "ARTIFACT TYPE"),
        ("MediaType", "MEDIA TYPE"),
        ("Size", "SIZE"),
        ("Annotations", "ANNOTATIONS"),
    ],
    quiet: "Digest",
};

/// Runs a command of artifacts.
pub(crate) async fn run(context: &Context, command: ArtifactCommand) -> Result<u8> {
    match command {
        ArtifactCommand::Add(args) => {
            let engine = context.engine().await?;
            let made = engine.create_artifact(&args.name, &args.files(), &args.options()?).await?;
            output::line(made.digest)?;
            Ok(0)
        }
        ArtifactCommand::Attach(args) => attach(context, &args).await,
        ArtifactCommand::Referrers(args) => {
            let engine = context.engine().await?;
            let found = engine.referrers(&args.subject, args.artifact_type.as_deref()).await?;
            let rows: Vec<Value> = found.iter().map(row).collect();
            output::print(&LISTING.show(&rows, args.format.as_deref(), args.quiet)?)?;
            Ok(0)
        }
        ArtifactCommand::Extract(args) => extract(context, &args).await,
        ArtifactCommand::Pull(args) => transfer::pull(context, &args).await,
        ArtifactCommand::Push(args) => transfer::push(context, &args).await,
        ArtifactCommand::Rm(args) => image::rmi(context, &args).await,
    }
}

fn row(entry: &Descriptor) -> Value {
    json!({
        "Digest": entry.digest.to_string(),
        "ArtifactType": entry.artifact_type.as_deref().unwrap_or_default(),
        "MediaType": entry.media_type,
        "Size": human::size(entry.size),
        "Annotations": entry.annotations,
    })
}

async fn attach(context: &Context, args: &AddArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let terminal = io::stderr().is_terminal();
    let mut progress = Progress::new(if terminal { Target::Stderr } else { Target::Nowhere }, terminal);
    let mut operation = engine.attach_artifact(&args.name, args.files(), args.options()?);
    while let Some(event) = operation.next().await {
        progress.pushed(&args.name, &event)?;
    }
    progress.clear();
    output::line(operation.await?.digest)?;
    Ok(0)
}

async fn extract(context: &Context, args: &ExtractArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let files = engine.artifact_files(&args.name).await?;
    let fail = |path: &Path, e: io::Error| Failure::usage(format!("cannot write {}: {e}", path.display()));
    std::fs::create_dir_all(&args.directory).map_err(|e| fail(&args.directory, e))?;
    for mut file in files {
        let name = match &file.title {
            // A title comes from outside: it names a file in the directory or nothing.
            Some(title) if !matches!(title.as_str(), "" | "." | "..") && !title.contains(['/', '\0']) => {
                title.clone()
            }
            Some(title) => {
                return Err(Failure::usage(format!(
                    "the artifact calls a file {title:?}, which is no file name"
                )));
            }
            None => file.descriptor.digest.hex().to_owned(),
        };
        let path = args.directory.join(name);
        let made = tokio::fs::File::create_new(&path).await.map_err(|e| fail(&path, e))?;
        let mut made = tokio::io::BufWriter::new(made);
        while let Some(piece) = file.content.next().await {
            made.write_all(&piece?).await.map_err(|e| fail(&path, e))?;
        }
        made.flush().await.map_err(|e| fail(&path, e))?;
        output::line(path.display())?;
    }
    Ok(0)
}
