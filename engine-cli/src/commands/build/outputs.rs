//! What becomes of a build besides the image in the store: `--output`, `--push`, `--load`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use engine_core::engine::{ArchiveFormat, BuiltImage, PushOptions, SaveOptions};
use engine_core::{Engine, Error, ErrorKind, Platform, Reference};
use futures_util::StreamExt as _;

use super::super::{archive, files};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::mounts::fields;
use crate::output::progress::{Progress, Target};

/// The flags.
#[derive(Args, Debug)]
pub(super) struct OutputArgs {
    /// Where the result goes besides the store: a directory, - for a tar archive, or type=local|tar|oci|docker|image|registry with dest=, name=, push=; may be repeated
    #[arg(short, long = "output", value_name = "DIR|-|SPEC")]
    outputs: Vec<String>,
    /// Push the image under its names, as --output type=registry
    #[arg(long)]
    push: bool,
    /// Keep the image in the store, which it is in any case: as --output type=docker
    #[arg(long)]
    load: bool,
}

/// Where something goes.
#[derive(Debug, Eq, PartialEq)]
enum Place {
    Stdout,
    File(PathBuf),
}

/// One output.
#[derive(Debug, Eq, PartialEq)]
enum Output {
    /// The image in the store, under these names too.
    Store { names: Vec<Reference>, push: bool },
    /// The files in a directory.
    Directory(PathBuf),
    /// The files as an archive.
    Files(Place),
    /// The image as an archive.
    Archive(ArchiveFormat, Place),
    /// The image as an OCI layout.
    Layout(PathBuf),
}

/// All outputs of a build.
#[derive(Debug)]
pub(super) struct Outputs {
    all: Vec<Output>,
    /// The platforms that are built for, if they are several.
    platforms: Vec<Platform>,
}

impl Outputs {
    /// Reads the flags. `names` are those that the image has from `--tag`, `platforms` those of `--platform`.
    ///
    /// # Errors
    /// What cannot be done, before anything is.
    pub(super) fn new(args: &OutputArgs, names: &[Reference], platforms: &[Platform]) -> Result<Self> {
        let mut outputs = args.outputs.iter().map(|text| output(text)).collect::<Result<Vec<_>>>()?;
        if args.load {
            outputs.push(Output::Store { names: Vec::new(), push: false });
        }
        if args.push {
            outputs.push(Output::Store { names: Vec::new(), push: true });
        }
        let platforms = if platforms.len() > 1 { platforms.to_vec() } else { Vec::new() };
        if !platforms.is_empty() && outputs.iter().any(|output| matches!(output, Output::Files(_))) {
            return Err(Failure::usage(
                "--output type=tar has the files of one platform: give type=local, or build for each apart",
            ));
        }
        let outputs = Self { all: outputs, platforms };
        if outputs.to_stdout() > 1 {
            return Err(Failure::usage("only one --output can be standard output"));
        }
        if outputs.to_stdout() == 1 && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "an archive is not for a terminal: give --output a dest=FILE, or redirect standard output",
            ));
        }
        if outputs.push() && names.is_empty() && outputs.names().next().is_none() {
            return Err(Failure::usage(
                "a push needs a name: give --tag NAME, or --output type=image,name=NAME",
            ));
        }
        Ok(outputs)
    }

    /// The names that outputs give the image.
    pub(super) fn names(&self) -> impl Iterator<Item = &Reference> {
        self.all.iter().flat_map(|output| match output {
            Output::Store { names, .. } => &names[..],
            _ => &[],
        })
    }

    /// Whether standard output is taken.
    pub(super) fn takes_stdout(&self) -> bool {
        self.to_stdout() > 0
    }

    fn to_stdout(&self) -> usize {
        let is_stdout = |output: &&Output| {
            matches!(output, Output::Files(Place::Stdout) | Output::Archive(_, Place::Stdout))
        };
        self.all.iter().filter(is_stdout).count()
    }

    /// Whether the image is pushed.
    pub(super) fn push(&self) -> bool {
        self.all.iter().any(|output| matches!(output, Output::Store { push: true, .. }))
    }

    /// Makes them of what was built, which has `names`.
    pub(super) async fn make(
        &self,
        context: &Context,
        engine: &Engine,
        image: &BuiltImage,
        names: &[Reference],
        quiet: bool,
    ) -> Result<()> {
        let digest = image.manifest.digest.to_string();
        let host = Platform::host();
        let saved = match names {
            [] => vec![digest.clone()],
            names => names.iter().map(Reference::to_string).collect(),
        };
        if self.push()
            || self.all.iter().any(|output| matches!(output, Output::Archive(..) | Output::Layout(_)))
        {
            still_named(engine, image, names).await?;
        }
        for output in &self.all {
            match output {
                Output::Store { .. } => {}
                Output::Directory(dir) if self.platforms.is_empty() => {
                    engine.export_image_to_host(&digest, &host, dir).await?;
                }
                Output::Directory(dir) => {
                    for platform in &self.platforms {
                        // As BuildKit calls them: linux_arm64.
                        let dir = dir.join(platform.to_string().replace('/', "_"));
                        std::fs::create_dir_all(&dir)
                            .map_err(|e| Error::from_io("write files", e).with("path", dir.display()))?;
                        engine.export_image_to_host(&digest, platform, &dir).await?;
                    }
                }
                Output::Files(place) => {
                    files::write_to(engine.export_image(&digest, &host).await?, place.path()).await?;
                }
                Output::Archive(format, place) => {
                    let options = SaveOptions::default().with_format(*format);
                    archive::save_to(engine, &saved, place.path(), options).await?;
                }
                Output::Layout(dir) => {
                    let options = SaveOptions::default().with_format(ArchiveFormat::Oci);
                    engine.save_layout(&saved, dir, options).await?;
                }
            }
        }
        // At the end: what others see is the last to be there.
        if self.push() {
            for name in names {
                push(context, engine, name, quiet).await?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }
}

/// Refuses names that another build has taken meanwhile: its image would go where this one is to.
async fn still_named(engine: &Engine, image: &BuiltImage, names: &[Reference]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let known = engine.images().await?;
    for name in names {
        if !known.iter().any(|one| one.reference == *name && one.target.digest == image.manifest.digest) {
            return Err(Error::new(ErrorKind::Conflict, "write output")
                .with("name", name)
                .with("built", &image.manifest.digest)
                .with_message("the name is another image's by now")
                .with_hint("build again, or give builds at the same time names of their own")
                .into());
        }
    }
    Ok(())
}

async fn push(context: &Context, engine: &Engine, name: &Reference, quiet: bool) -> Result<()> {
    let mut options = PushOptions::default();
    if let Some(credentials) = context.credentials(name.registry()).await? {
        options = options.with_credentials(credentials);
    }
    let target = if quiet { Target::Nowhere } else { Target::Stderr };
    let mut progress = Progress::new(target, io::stderr().is_terminal());
    progress.line(&format!("pushing {name}"))?;
    let mut operation = engine.push(name, options);
    while let Some(event) = operation.next().await {
        progress.pushed(name, &event)?;
    }
    progress.clear();
    operation.await?;
    Ok(())
}

/// Reads one `--output`.
fn output(text: &str) -> Result<Output> {
    let wrong = |why: String| Failure::usage(format!("--output {text}: {why}"));
    if text == "-" {
        return Ok(Output::Files(Place::Stdout));
    }
    if !text.contains('=') {
        if text.is_empty() {
            return Err(wrong("give a directory, - or type=KIND".to_owned()));
        }
        return Ok(Output::Directory(text.into()));
    }
    let (mut kind, mut dest, mut names) = (None, None, Vec::new());
    let (mut push, mut tar) = (None, true);
    for field in fields(text).map_err(|why| wrong(why.to_owned()))? {
        let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
        let yes =
            || value.parse::<bool>().map_err(|_| wrong(format!("{key} is true or false, and not {value}")));
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_owned()),
            "dest" => dest = Some(value.to_owned()),
            "name" => {
                for name in value.split(',') {
                    names.push(name.parse::<Reference>()?);
                }
            }
            "push" => push = Some(yes()?),
            "tar" => tar = yes()?,
            // That is what there is.
            "oci-mediatypes" | "rewrite-timestamp" if yes()? => {}
            other => return Err(wrong(format!("{other} is not supported"))),
        }
    }
    let kind = kind.ok_or_else(|| wrong("it has no type=".to_owned()))?;
    let in_store = matches!(kind.as_str(), "image" | "registry");
    for (given, word) in [(push.is_some(), "push="), (!names.is_empty(), "name=")] {
        if given && !in_store {
            return Err(wrong(format!("{word} is for type=image and type=registry")));
        }
    }
    if !tar && kind != "oci" {
        return Err(wrong("tar=false is for type=oci".to_owned()));
    }
    let place = |dest: Option<String>| match dest.as_deref() {
        None | Some("" | "-") => Place::Stdout,
        Some(path) => Place::File(path.into()),
    };
    Ok(match kind.as_str() {
        "image" | "registry" if dest.is_some() => {
            return Err(wrong(format!("type={kind} has no dest=")));
        }
        "image" => Output::Store { names, push: push == Some(true) },
        "registry" => Output::Store { names, push: push != Some(false) },
        // Without a place, Docker has it in its store.
        "docker" if dest.is_none() => Output::Store { names, push: false },
        "docker" => Output::Archive(ArchiveFormat::Docker, place(dest)),
        "oci" if tar => Output::Archive(ArchiveFormat::Oci, place(dest)),
        "tar" => Output::Files(place(dest)),
        "local" | "oci" => match place(dest) {
            Place::File(dir) if kind == "oci" => Output::Layout(dir),
            Place::File(dir) => Output::Directory(dir),
            Place::Stdout => return Err(wrong("it has no dest=DIR".to_owned())),
        },
        other => {
            return Err(wrong(format!(
                "there is no type {other}: give local, tar, oci, docker, image or registry"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_buildkit_does() {
        let read = |text: &str| output(text).map_err(|failure| failure.to_string());
        let file = |path: &str| Place::File(path.into());
        assert_eq!(read("out/dir"), Ok(Output::Directory("out/dir".into())));
        assert_eq!(read("type=local,dest=a"), Ok(Output::Directory("a".into())));
        assert_eq!(read("-"), Ok(Output::Files(Place::Stdout)));
        assert_eq!(read("type=tar,dest=a.tar"), Ok(Output::Files(file("a.tar"))));
        assert_eq!(read("type=oci"), Ok(Output::Archive(ArchiveFormat::Oci, Place::Stdout)));
        assert_eq!(read("type=oci,tar=false,dest=a"), Ok(Output::Layout("a".into())));
        assert_eq!(read("type=docker,dest=-"), Ok(Output::Archive(ArchiveFormat::Docker, Place::Stdout)));
        assert_eq!(read("type=docker"), Ok(Output::Store { names: Vec::new(), push: false }));
        let names = ["a:1", "b:2"].map(|name| name.parse().unwrap()).to_vec();
        assert_eq!(
            read("type=image,\"name=a:1,b:2\",push=true"),
            Ok(Output::Store { names: names.clone(), push: true })
        );
        assert_eq!(read("type=registry,\"name=a:1,b:2\""), Ok(Output::Store { names, push: true }));
        for (text, word) in [
            ("", "give a directory"),
            ("dest=a", "no type="),
            ("type=local", "no dest="),
            ("type=oci,tar=false", "no dest="),
            ("type=tar,tar=false", "for type=oci"),
            ("type=image,dest=a", "no dest="),
            ("type=tar,push=true", "for type=image"),
            ("type=image,push=perhaps", "perhaps"),
            ("type=image,compression=zstd", "compression is not supported"),
            ("type=floppy", "floppy"),
        ] {
            assert!(read(text).unwrap_err().contains(word), "{text}: {:?}", read(text));
        }
    }
}
