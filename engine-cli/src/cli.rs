//! The command line: global flags and the commands, in Docker's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    archive, artifact, attach, branch, build, context, daemon, df, events, exec, files, history, image,
    inspect, lifecycle, login, logs, network, port, prune, ps, registry, rename, run, secret, stats, system,
    top, transfer, update, volume,
};
use crate::options::Later;
use crate::remote::HostArgs;

/// Containers without a daemon.
#[derive(Debug, Parser)]
#[command(name = "engine-cli", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// Directory of images, containers and volumes
    #[arg(long, global = true, value_name = "DIR", env = "ENGINE_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// Directory of sockets [default: ROOT/run, or /run/engine-cli without --root]
    #[arg(long, global = true, value_name = "DIR", env = "ENGINE_RUN_ROOT", hide_env_values = true)]
    pub(crate) run_root: Option<PathBuf>,
    /// Show what the engine does
    #[arg(short = 'D', long, global = true)]
    pub(crate) debug: bool,
    /// Level of messages: error, warn, info, debug, trace, or a filter such as engine_core=debug
    #[arg(long, global = true, value_name = "LEVEL", env = "ENGINE_LOG", hide_env_values = true)]
    pub(crate) log_level: Option<String>,
    /// Give containers without --userns the ids that /etc/subuid and /etc/subgid give to a user and a group; default is dockremap
    #[arg(
        long,
        global = true,
        value_name = "default|USER[:GROUP]",
        env = "ENGINE_USERNS_REMAP",
        hide_env_values = true
    )]
    pub(crate) userns_remap: Option<String>,
    /// Who makes the cgroups of containers: cgroupfs (the engine itself) or systemd; default is cgroupfs
    #[arg(long, global = true, value_name = "DRIVER", env = "ENGINE_CGROUP_DRIVER", hide_env_values = true)]
    pub(crate) cgroup_driver: Option<String>,
    /// Make all cgroups beneath this one, which was delegated to the engine
    #[arg(long, global = true, value_name = "PATH", env = "ENGINE_CGROUP_ROOT", hide_env_values = true)]
    pub(crate) cgroup_root: Option<PathBuf>,
    /// Most bytes that a layer, an archive, a file behind a URL or a repository may take when it is unpacked; default is 256g
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        env = "ENGINE_MAX_BYTES",
        value_parser = engine_api::notation::parse_size,
        hide_env_values = true
    )]
    pub(crate) max_bytes: Option<u64>,
    /// Ask this registry first for images of Docker Hub, or of REGISTRY
    #[arg(
        long,
        global = true,
        value_name = "[REGISTRY=]URL",
        env = "ENGINE_REGISTRY_MIRROR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) registry_mirror: Vec<String>,
    /// Allow plain http and unverified certificates for this registry
    #[arg(
        long,
        global = true,
        value_name = "HOST",
        env = "ENGINE_INSECURE_REGISTRY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) insecure_registry: Vec<String>,
    /// File of certificate authorities (PEM) to trust for registries, besides the system's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ENGINE_REGISTRY_CA",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) registry_ca: Vec<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and start a container
    #[command(disable_help_flag = true)]
    Run(Later<Box<run::RunArgs>>),
    /// Create a container
    #[command(disable_help_flag = true)]
    Create(Later<Box<run::CreateArgs>>),
    /// Start containers
    Start(Later<lifecycle::StartArgs>),
    /// Stop containers
    Stop(Later<lifecycle::StopArgs>),
    /// Stop and start containers
    Restart(Later<lifecycle::StopArgs>),
    /// Send a signal to containers
    Kill(Later<lifecycle::KillArgs>),
    /// Freeze all processes of containers
    Pause(Later<lifecycle::Names>),
    /// Thaw all processes of containers
    Unpause(Later<lifecycle::Names>),
    /// Remove containers
    Rm(Later<lifecycle::RmArgs>),
    /// Change the restart policy of containers
    Update(Later<update::UpdateArgs>),
    /// Wait until containers end, and print their exit codes
    Wait(Later<lifecycle::Names>),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(Later<ps::PsArgs>),
    /// Show where the ports of a container are published
    Port(Later<port::PortArgs>),
    /// Give a container another name
    Rename(Later<rename::RenameArgs>),
    /// Show the processes of a container
    Top(Later<top::TopArgs>),
    /// Show what containers use, live
    Stats(Later<stats::StatsArgs>),
    /// Show the output of a container
    Logs(Later<logs::LogsArgs>),
    /// Show what happens to containers, images, networks and volumes
    Events(Later<events::EventsArgs>),
    /// Run a command in a running container
    #[command(disable_help_flag = true)]
    Exec(Later<exec::ExecArgs>),
    /// Attach to a running container
    Attach(Later<attach::AttachArgs>),
    /// Copy files between a container and the host
    Cp(Later<files::CpArgs>),
    /// Show what a container changed in its root file system
    Diff(Later<files::DiffArgs>),
    /// Write a container's root file system as a tar archive
    Export(Later<files::ExportArgs>),
    /// Make an image of a container
    Commit(Later<files::CommitArgs>),
    /// Show containers, images, networks or volumes as JSON
    Inspect(Later<inspect::InspectArgs>),
    /// Build an image from a Dockerfile
    Build(Later<Box<build::BuildArgs>>),
    /// Pull an image from a registry
    Pull(Later<transfer::PullArgs>),
    /// Push an image to a registry
    Push(Later<transfer::PushArgs>),
    /// List images
    Images(Later<image::ImagesArgs>),
    /// Give an image another name
    Tag(Later<image::TagArgs>),
    /// Remove images
    Rmi(Later<image::RmiArgs>),
    /// Save images to an archive
    Save(Later<archive::SaveArgs>),
    /// Load images from an archive
    Load(Later<archive::LoadArgs>),
    /// Make an image of a tar archive of a root file system
    Import(Later<archive::ImportArgs>),
    /// Show how an image was made
    History(Later<history::HistoryArgs>),
    /// Log in to a registry
    Login(Later<login::LoginArgs>),
    /// Log out of a registry
    Logout(Later<login::LogoutArgs>),
    /// Show this engine and what works on this host
    Info(Later<system::FormatArgs>),
    /// Show the version
    Version(Later<system::FormatArgs>),
    /// Print the completions of a shell
    Completion(Later<system::CompletionArgs>),
    /// Commands of containers
    #[command(subcommand)]
    Container(Later<ContainerCommand>),
    /// Commands of images
    #[command(subcommand)]
    Image(Later<ImageCommand>),
    /// Commands of artifacts
    #[command(subcommand)]
    Artifact(Later<artifact::ArtifactCommand>),
    /// Commands of volumes
    #[command(subcommand)]
    Volume(Later<volume::VolumeCommand>),
    /// Commands of networks
    #[command(subcommand)]
    Network(Later<network::NetworkCommand>),
    /// Commands of secrets
    #[command(subcommand)]
    Secret(Later<secret::SecretCommand>),
    /// Commands of builds
    #[command(subcommand)]
    Builder(Later<prune::BuilderCommand>),
    /// Names for engines elsewhere
    #[command(subcommand)]
    Context(Later<context::ContextCommand>),
    /// Serve Docker's API
    Daemon(Later<daemon::DaemonArgs>),
    /// Commands of a registry of one's own
    #[command(subcommand)]
    Registry(Later<registry::RegistryCommand>),
    /// Commands of the engine
    #[command(subcommand)]
    System(Later<SystemCommand>),
}

/// `engine-cli container …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Create and start a container
    #[command(disable_help_flag = true)]
    Run(Later<Box<run::RunArgs>>),
    /// Create a container
    #[command(disable_help_flag = true)]
    Create(Later<Box<run::CreateArgs>>),
    /// Start containers
    Start(Later<lifecycle::StartArgs>),
    /// Stop containers
    Stop(Later<lifecycle::StopArgs>),
    /// Stop and start containers
    Restart(Later<lifecycle::StopArgs>),
    /// Send a signal to containers
    Kill(Later<lifecycle::KillArgs>),
    /// Freeze all processes of containers
    Pause(Later<lifecycle::Names>),
    /// Thaw all processes of containers
    Unpause(Later<lifecycle::Names>),
    /// Remove containers
    Rm(Later<lifecycle::RmArgs>),
    /// Change the restart policy of containers
    Update(Later<update::UpdateArgs>),
    /// Wait until containers end, and print their exit codes
    Wait(Later<lifecycle::Names>),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Later<ps::PsArgs>),
    /// Show where the ports of a container are published
    Port(Later<port::PortArgs>),
    /// Give a container another name
    Rename(Later<rename::RenameArgs>),
    /// Show the processes of a container
    Top(Later<top::TopArgs>),
    /// Show what containers use, live
    Stats(Later<stats::StatsArgs>),
    /// Show the output of a container
    Logs(Later<logs::LogsArgs>),
    /// Run a command in a running container
    #[command(disable_help_flag = true)]
    Exec(Later<exec::ExecArgs>),
    /// Attach to a running container
    Attach(Later<attach::AttachArgs>),
    /// Copy files between a container and the host
    Cp(Later<files::CpArgs>),
    /// Show what a container changed in its root file system
    Diff(Later<files::DiffArgs>),
    /// Write a container's root file system as a tar archive
    Export(Later<files::ExportArgs>),
    /// Make an image of a container
    Commit(Later<files::CommitArgs>),
    /// Make a second container from the state of a first
    Fork(Later<branch::ForkArgs>),
    /// Keep states of a container's root file system
    #[command(subcommand)]
    Snapshot(Later<branch::SnapshotCommand>),
    /// Show containers as JSON
    Inspect(Later<inspect::OneKindArgs>),
    /// Remove stopped containers
    Prune(Later<prune::PruneArgs>),
}

impl From<ContainerCommand> for Command {
    fn from(command: ContainerCommand) -> Self {
        match command {
            ContainerCommand::Run(args) => Self::Run(args),
            ContainerCommand::Create(args) => Self::Create(args),
            ContainerCommand::Start(args) => Self::Start(args),
            ContainerCommand::Stop(args) => Self::Stop(args),
            ContainerCommand::Restart(args) => Self::Restart(args),
            ContainerCommand::Kill(args) => Self::Kill(args),
            ContainerCommand::Pause(args) => Self::Pause(args),
            ContainerCommand::Unpause(args) => Self::Unpause(args),
            ContainerCommand::Rm(args) => Self::Rm(args),
            ContainerCommand::Update(args) => Self::Update(args),
            ContainerCommand::Wait(args) => Self::Wait(args),
            ContainerCommand::Ls(args) => Self::Ps(args),
            ContainerCommand::Port(args) => Self::Port(args),
            ContainerCommand::Rename(args) => Self::Rename(args),
            ContainerCommand::Top(args) => Self::Top(args),
            ContainerCommand::Stats(args) => Self::Stats(args),
            ContainerCommand::Logs(args) => Self::Logs(args),
            ContainerCommand::Exec(args) => Self::Exec(args),
            ContainerCommand::Attach(args) => Self::Attach(args),
            ContainerCommand::Cp(args) => Self::Cp(args),
            ContainerCommand::Diff(args) => Self::Diff(args),
            ContainerCommand::Export(args) => Self::Export(args),
            ContainerCommand::Commit(args) => Self::Commit(args),
            // These have no short form.
            command @ (ContainerCommand::Fork(_)
            | ContainerCommand::Snapshot(_)
            | ContainerCommand::Prune(_)) => Self::Container(Later(command)),
            ContainerCommand::Inspect(args) => Self::Inspect(Later(args.0.of(inspect::Kind::Container))),
        }
    }
}

/// `engine-cli image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Later<image::ImagesArgs>),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(Later<image::RmiArgs>),
    /// Give an image another name
    Tag(Later<image::TagArgs>),
    /// Pull an image from a registry
    Pull(Later<transfer::PullArgs>),
    /// Push an image to a registry
    Push(Later<transfer::PushArgs>),
    /// Show images as JSON
    Inspect(Later<inspect::ImageArgs>),
    /// Show how an image was made
    History(Later<history::HistoryArgs>),
    /// Save images to an archive
    Save(Later<archive::SaveArgs>),
    /// Load images from an archive
    Load(Later<archive::LoadArgs>),
    /// Make an image of a tar archive of a root file system
    Import(Later<archive::ImportArgs>),
    /// Copy images into another engine on this host
    Copy(Later<archive::CopyArgs>),
    /// Remove images that nothing uses
    Prune(Later<history::PruneArgs>),
}

/// `engine-cli system …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Carry standard input and output to the daemon, as ssh:// needs at the other end
    #[command(hide = true)]
    DialStdio,
    /// Show this engine and what works on this host
    Info(Later<system::FormatArgs>),
    /// Start the containers whose restart policy wants them running: what a boot has to do
    StartAll,
    /// Show what happens to containers, images, networks and volumes
    Events(Later<events::EventsArgs>),
    /// Show what images, containers and volumes take on disk
    Df(Later<df::DfArgs>),
    /// Remove stopped containers, and networks, images and volumes that nothing needs
    Prune(Later<prune::SystemPruneArgs>),
}

impl Command {
    /// Returns whether the command serves others until it is told to end.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self, Self::Daemon(_))
    }

    /// Returns whether the command moves so many bytes that more threads pay.
    pub(crate) fn transfers(&self) -> bool {
        matches!(
            self,
            Self::Pull(_)
                | Self::Push(_)
                | Self::Save(_)
                | Self::Load(_)
                | Self::Import(_)
                | Self::Artifact(_)
                | Self::Daemon(_)
                | Self::Registry(_)
                | Self::Image(Later(
                    ImageCommand::Pull(_)
                        | ImageCommand::Push(_)
                        | ImageCommand::Save(_)
                        | ImageCommand::Load(_)
                        | ImageCommand::Copy(_)
                        | ImageCommand::Import(_)
                ))
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_is_sound_and_says_what_it_does() {
        Cli::command().debug_assert();
        let mut root = Cli::command();
        root.build();
        let mut todo: Vec<&clap::Command> = root.get_subcommands().collect();
        let mut seen = 0;
        while let Some(command) = todo.pop() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            // "`run`'s flags." is what the type says of itself, not what the command does.
            assert!(!about.is_empty() && !about.contains('`'), "{}: {about:?}", command.get_name());
            todo.extend(command.get_subcommands());
            seen += 1;
        }
        assert!(seen > 80, "{seen}");
    }
}
