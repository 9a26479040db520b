//! The commands, one file for each group.

pub(crate) mod archive;
pub(crate) mod artifact;
pub(crate) mod attach;
pub(crate) mod branch;
pub(crate) mod build;
pub(crate) mod context;
pub(crate) mod daemon;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod registry;
pub(crate) mod rename;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod top;
pub(crate) mod transfer;
pub(crate) mod update;
pub(crate) mod volume;

use crate::cli::{Cli, Command, ContainerCommand, ImageCommand, SystemCommand};
use crate::context::Context;
use crate::failure::Result;
use crate::options::Later;

/// Runs a command and returns its exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8> {
    let context = Context::new(cli.global);
    let context = &context;
    let command = match cli.command {
        Command::Container(Later(ContainerCommand::Prune(args))) => {
            return prune::containers(context, &args).await;
        }
        Command::Container(Later(command)) => command.into(),
        other => other,
    };
    match command {
        Command::Run(args) => run::run(context, &args).await,
        Command::Create(args) => run::create(context, &args).await,
        Command::Start(args) => lifecycle::start(context, &args).await,
        Command::Stop(args) => lifecycle::stop(context, &args).await,
        Command::Restart(args) => lifecycle::restart(context, &args).await,
        Command::Kill(args) => lifecycle::kill(context, &args).await,
        Command::Pause(args) => lifecycle::pause(context, &args, true).await,
        Command::Unpause(args) => lifecycle::pause(context, &args, false).await,
        Command::Rm(args) => lifecycle::rm(context, &args).await,
        Command::Update(args) => update::update(context, &args).await,
        Command::Wait(args) => lifecycle::wait(context, &args).await,
        Command::Rename(args) => rename::rename(context, &args).await,
        Command::Top(args) => top::top(context, &args).await,
        Command::Stats(args) => stats::stats(context, &args).await,
        Command::Port(args) => port::port(context, &args).await,
        Command::Ps(args) => ps::ps(context, &args).await,
        Command::Logs(args) => logs::logs(context, &args).await,
        Command::Events(args) | Command::System(Later(SystemCommand::Events(args))) => {
            events::events(context, &args).await
        }
        Command::Exec(args) => exec::exec(context, &args).await,
        Command::Attach(args) => attach::attach(context, &args).await,
        Command::Cp(args) => files::cp(context, &args).await,
        Command::Diff(args) => files::diff(context, &args).await,
        Command::Export(args) => files::export(context, &args).await,
        Command::Commit(args) => files::commit(context, &args).await,
        Command::Container(Later(ContainerCommand::Fork(args))) => branch::fork(context, &args).await,
        Command::Container(Later(ContainerCommand::Snapshot(command))) => {
            branch::snapshot(context, &command).await
        }
        Command::Inspect(args) => inspect::inspect(context, &args).await,
        Command::Build(args) => build::build(context, &args).await,
        Command::Builder(Later(prune::BuilderCommand::Build(args))) => build::build(context, &args).await,
        Command::Builder(Later(prune::BuilderCommand::Prune(args))) => prune::builder(context, &args).await,
        Command::Pull(args) | Command::Image(Later(ImageCommand::Pull(args))) => {
            transfer::pull(context, &args).await
        }
        Command::Push(args) | Command::Image(Later(ImageCommand::Push(args))) => {
            transfer::push(context, &args).await
        }
        Command::Images(args) | Command::Image(Later(ImageCommand::Ls(args))) => {
            image::images(context, &args).await
        }
        Command::Tag(args) | Command::Image(Later(ImageCommand::Tag(args))) => {
            image::tag(context, &args).await
        }
        Command::Rmi(args) | Command::Image(Later(ImageCommand::Rm(args))) => {
            image::rmi(context, &args).await
        }
        Command::Save(args) | Command::Image(Later(ImageCommand::Save(args))) => {
            archive::save(context, &args).await
        }
        Command::Load(args) | Command::Image(Later(ImageCommand::Load(args))) => {
            archive::load(context, &args).await
        }
        Command::Image(Later(ImageCommand::Copy(args))) => archive::copy(context, &args).await,
        Command::Import(args) | Command::Image(Later(ImageCommand::Import(args))) => {
            archive::import(context, &args).await
        }
        Command::History(args) | Command::Image(Later(ImageCommand::History(args))) => {
            history::history(context, &args).await
        }
        Command::Image(Later(ImageCommand::Prune(args))) => history::prune(context, &args).await,
        Command::Artifact(command) => artifact::run(context, command.0).await,
        Command::Image(Later(ImageCommand::Inspect(args))) => inspect::inspect(context, &args.0.into()).await,
        Command::Volume(command) => volume::run(context, command.0).await,
        Command::Network(command) => network::run(context, command.0).await,
        Command::Secret(command) => secret::run(context, command.0).await,
        Command::Context(command) => context::run(context, command.0),
        Command::Daemon(args) => daemon::daemon(context, &args).await,
        Command::Registry(command) => registry::run(context, command.0).await,
        Command::Login(args) => login::login(context, &args).await,
        Command::Logout(args) => login::logout(context, &args).await,
        Command::Info(args) | Command::System(Later(SystemCommand::Info(args))) => {
            system::info(context, &args).await
        }
        Command::System(Later(SystemCommand::DialStdio)) => system::dial_stdio(context).await,
        Command::System(Later(SystemCommand::StartAll)) => system::start_all(context).await,
        Command::System(Later(SystemCommand::Prune(args))) => prune::system(context, &args).await,
        Command::System(Later(SystemCommand::Df(args))) => df::df(context, &args).await,
        Command::Version(args) => system::version(&args),
        Command::Completion(args) => system::completion(&args),
        // Translated above.
        Command::Container(_) => Ok(1),
    }
}
