//! Where a build's context and its Dockerfile come from: what the command line names, and standard input.

use std::io::Read as _;
use std::path::Path;

use engine_core::Error;
use engine_core::engine::{BuildContext, ContextArchive, DockerfileSource};

use super::super::archive;
use super::BuildArgs;
use crate::failure::{Failure, Result};

/// What tells an archive from a text.
const HEAD: u64 = 512;

/// What is built by which Dockerfile, as far as the command line says.
pub(super) async fn read(args: &BuildArgs) -> Result<(BuildContext, DockerfileSource)> {
    let text =
        |name: &str, text: Vec<u8>| DockerfileSource::Text { name: name.to_owned(), text: text.into() };
    let file_from_input = args.file.as_deref() == Some(Path::new("-"));
    if args.context == Path::new("-") {
        if file_from_input {
            return Err(Failure::usage("the context and the Dockerfile cannot both be standard input"));
        }
        let head = input(HEAD).await?;
        if is_archive(&head) {
            let archive = archive::pieces(std::io::Cursor::new(head).chain(std::io::stdin()));
            let path = args.file.as_ref().map_or(Ok("Dockerfile"), |file| {
                file.to_str().ok_or_else(|| Failure::usage("the name of the Dockerfile is no text"))
            })?;
            let dockerfile = DockerfileSource::InContext(path.to_owned());
            return Ok((BuildContext::Archive(ContextArchive::new(archive)), dockerfile));
        }
        let file = match &args.file {
            Some(file) => text(&file.display().to_string(), content(file).await?),
            None => text("Dockerfile", [head, input(u64::MAX).await?].concat()),
        };
        return Ok((BuildContext::Empty, file));
    }
    let context = local_or_remote(&args.context);
    let dockerfile = match &args.file {
        None => DockerfileSource::default(),
        Some(_) if file_from_input => text("Dockerfile", input(u64::MAX).await?),
        Some(file) if matches!(context, BuildContext::Remote(_)) => {
            let path =
                file.to_str().ok_or_else(|| Failure::usage("the name of the Dockerfile is no text"))?;
            DockerfileSource::InContext(path.to_owned())
        }
        Some(file) => {
            // One inside of the context has ignore patterns of its own beside it.
            match relative(file, &args.context) {
                Some(path) => DockerfileSource::InContext(path),
                None => text(&file.display().to_string(), content(file).await?),
            }
        }
    };
    Ok((context, dockerfile))
}

/// What a path or a URL means. A directory that is there is meant before `github.com/…`.
pub(super) fn local_or_remote(source: &Path) -> BuildContext {
    let remote = source.to_str().filter(|_| !source.exists()).and_then(BuildContext::remote);
    remote.unwrap_or_else(|| BuildContext::Directory(source.to_owned()))
}

/// The ignore file beside a Dockerfile that is not in the context.
pub(super) fn ignore_file(args: &BuildArgs, dockerfile: &DockerfileSource) -> Result<Option<String>> {
    let Some(file) = args.file.as_ref().filter(|file| *file != Path::new("-")) else { return Ok(None) };
    if dockerfile.in_context().is_some() {
        return Ok(None);
    }
    let mut path = file.clone().into_os_string();
    path.push(".dockerignore");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from_io("read ignore file", error).with("path", path.display()).into()),
    }
}

async fn content(file: &Path) -> Result<Vec<u8>> {
    let fail = |e| Error::from_io("read Dockerfile", e).with("path", file.display());
    Ok(tokio::fs::read(file).await.map_err(fail)?)
}

/// What is left of standard input, up to `most` bytes.
async fn input(most: u64) -> Result<Vec<u8>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        std::io::stdin().lock().take(most).read_to_end(&mut text).map(|_| text)
    });
    let read = read.await.map_err(std::io::Error::other).and_then(|read| read);
    Ok(read.map_err(|e| Error::from_io("read standard input", e))?)
}

/// Whether what begins with `head` is a tar archive, or compressed as one may be.
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}

/// The path of `file` in the directory `context`, if it is there.
fn relative(file: &Path, context: &Path) -> Option<String> {
    let (file, context) = (std::fs::canonicalize(file).ok()?, std::fs::canonicalize(context).ok()?);
    file.strip_prefix(context).ok()?.to_str().map(str::to_owned)
}
