//! `run` and `create`.

use std::path::Path;

use clap::Args;
use engine_core::engine::RemoveOptions;
use engine_core::io::TerminalSize;
use engine_core::{Container, Engine, ErrorKind, ExitStatus, Platform, Reference};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::hello;
use crate::options::container::{ContainerArgs, Pull};
use crate::output;
use crate::session::signals::Signals;
use crate::session::{self, Control, Wanted};
use engine_api::DetachKeys;

use super::transfer;

/// `run`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Leave the container running in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a terminal, and the container running
    #[arg(long, value_name = "KEYS", default_value = DetachKeys::DEFAULT)]
    detach_keys: String,
    /// Forward signals to the container's process
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// End the container with this command, however that ends
    #[arg(long, conflicts_with = "detach")]
    scoped: bool,
    #[command(flatten)]
    container: ContainerArgs,
}

/// `create`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    container: ContainerArgs,
}

/// Runs `create`.
pub(crate) async fn create(context: &Context, args: &CreateArgs) -> Result<u8> {
    let made = async {
        let engine = context.engine().await?;
        let args = &args.container;
        let cidfile = CidFile::reserve(args.cidfile.as_deref())?;
        let spec = args.spec(false)?;
        let image = find_image(context, &engine, args).await?;
        let container = engine.create(&image, spec).await?;
        cidfile.write(&container)?;
        output::line(container.id())
    };
    made.await.map_err(|failure| failure.or_code(125)).map(|()| 0)
}

/// Runs `run`.
pub(crate) async fn run(context: &Context, args: &RunArgs) -> Result<u8> {
    start(context, args).await.map_err(|failure| failure.or_code(125))
}

async fn start(context: &Context, args: &RunArgs) -> Result<u8> {
    let wanted = wanted(args).check()?;
    let keys = DetachKeys::parse(&args.detach_keys)?;
    let engine = context.engine().await?;
    let cidfile = CidFile::reserve(args.container.cidfile.as_deref())?;
    let spec = args.container.spec(args.detach)?;
    let image = find_image(context, &engine, &args.container).await?;
    let signals = Signals::new()?;
    if args.scoped {
        let container = engine.create_scoped(&image, spec).await?;
        cidfile.write(&container)?;
        let ended = match container.start_attached(wanted.options()).await {
            // Detaching would end it.
            Ok(streams) => {
                let control = ContainerControl { container: &container, proxy: args.sig_proxy };
                session::run(streams, wanted, None, signals, &control).await
            }
            Err(error) => Err(error.into()),
        };
        let closed = container.close().await;
        let ended = ended?;
        closed?;
        return Ok(ended.code());
    }
    let container = engine.create(&image, spec).await?;
    let started = async {
        cidfile.write(&container)?;
        Ok(if args.detach {
            container.start().await?;
            None
        } else {
            Some(container.start_attached(wanted.options()).await?)
        })
    };
    match started.await {
        Ok(None) => output::line(container.id()).map(|()| 0),
        Ok(Some(streams)) => {
            let control = ContainerControl { container: &container, proxy: args.sig_proxy };
            Ok(session::run(streams, wanted, keys, signals, &control).await?.code())
        }
        Err(failure) => {
            // The user got a sentence instead of a container: leave none behind.
            cidfile.remove();
            if let Err(later) =
                container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await
            {
                eprintln!("engine-cli: {}", later.report());
            }
            Err(failure)
        }
    }
}

fn wanted(args: &RunArgs) -> Wanted {
    let flags = &args.container;
    let asked = |name: &str| flags.attach.iter().any(|a| a.eq_ignore_ascii_case(name));
    let all = flags.attach.is_empty();
    Wanted {
        stdin: flags.interactive && (all || asked("stdin")) && !args.detach,
        stdout: all || asked("stdout"),
        stderr: all || asked("stderr"),
        tty: flags.tty,
    }
}

/// Makes sure the image is in the store, and returns what to call it.
async fn find_image(context: &Context, engine: &Engine, args: &ContainerArgs) -> Result<String> {
    let name = args.image();
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    if args.pull != Pull::Always || hello::is_name(name) {
        match engine.image_for(name, &platform).await {
            Ok(_) => return Ok(name.to_owned()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Err(_) if hello::is_name(name) => {
                hello::import(engine).await?;
                return Ok(name.to_owned());
            }
            Err(error) if args.pull == Pull::Never => return Err(error.into()),
            Err(_) => {}
        }
    }
    let reference: Reference = name.parse()?;
    if args.pull == Pull::Missing && !args.quiet {
        eprintln!("Unable to find image '{}' locally", reference.familiar());
    }
    transfer::fetch(context, engine, &reference, platform, args.quiet, true).await?;
    Ok(name.to_owned())
}

/// The file of `--cidfile`.
struct CidFile<'a>(Option<&'a Path>);

impl<'a> CidFile<'a> {
    /// Refuses a file that is there: it may hold the id of a container that somebody still needs.
    fn reserve(path: Option<&'a Path>) -> Result<Self> {
        match path {
            Some(path) if path.exists() => Err(Failure::usage(format!(
                "container ID file {} exists: another container may use it (delete the file, or name another)",
                path.display()
            ))),
            path => Ok(Self(path)),
        }
    }

    fn write(&self, container: &Container) -> Result<()> {
        let Some(path) = self.0 else { return Ok(()) };
        std::fs::write(path, container.id().as_str()).map_err(|error| {
            Failure::usage(format!("cannot write the container's id to {}: {error}", path.display()))
        })
    }

    fn remove(&self) {
        if let Some(path) = self.0 {
            // It names a container that is gone: nothing else can be wrong about it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A session with the process of a container.
pub(crate) struct ContainerControl<'a> {
    pub(crate) container: &'a Container,
    /// Whether signals are forwarded.
    pub(crate) proxy: bool,
}

#[async_trait::async_trait]
impl Control for ContainerControl<'_> {
    async fn wait(&self) -> engine_core::Result<ExitStatus> {
        self.container.wait().await
    }

    async fn resize(&self, size: TerminalSize) -> engine_core::Result<()> {
        self.container.resize(size).await
    }

    async fn signal(&self, number: i32) -> bool {
        if !self.proxy {
            return false;
        }
        if let Err(error) = self.container.kill(number).await {
            // It ended meanwhile.
            tracing::debug!(%error, number, "a signal was not forwarded");
        }
        true
    }

    async fn detached(&self) -> engine_core::Result<()> {
        self.container.detached().await
    }
}

/// Keeps the translation honest: a plain `run` asks for nothing.
#[cfg(test)]
mod tests {
    use clap::Parser;
    use engine_core::ContainerSpec;

    use super::*;
    use crate::cli::{Cli, Command};

    fn spec(line: &[&str]) -> (ContainerSpec, Wanted) {
        let words = ["engine-cli", "run"].iter().chain(line);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => (args.container.spec(args.detach).unwrap(), wanted(&args)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_run_asks_for_nothing() {
        assert_eq!(spec(&["busybox"]).0, ContainerSpec::default());
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        let (spec, wanted) = spec(&["-it", "-h", "box", "busybox", "ls", "-l", "--rm", "--help"]);
        assert_eq!(spec.command, ["ls", "-l", "--rm", "--help"]);
        assert_eq!(spec.hostname.as_deref(), Some("box"));
        assert!(!spec.auto_remove && spec.terminal.is_some() && spec.open_stdin && spec.stdin_once);
        assert!(wanted.stdin && wanted.tty);
    }

    #[test]
    fn attach_narrows_the_streams() {
        let wanted = spec(&["-i", "-a", "STDOUT", "busybox"]).1;
        assert!(wanted.stdout && !wanted.stderr && !wanted.stdin);
    }
}
