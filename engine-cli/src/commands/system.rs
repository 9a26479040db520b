//! `info`, `version`, `completion`, `system start-all`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use engine_api::client::ConnectOptions;
use engine_core::engine::{Diagnosis, EngineInfo, HostInfo, Verdict};
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::output::template::Template;
use crate::remote::Remote;

use super::daemon::DEFAULT_HOST;
use crate::output::{self, human};

/// The flags of commands that show one thing.
#[derive(Args, Debug)]
pub(crate) struct FormatArgs {
    /// A Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

/// `completion`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Runs `version`.
pub(crate) fn version(args: &FormatArgs) -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({
        "Version": version,
        "Os": "linux",
        "Arch": engine_core::Platform::host().architecture,
        "Kernel": HostInfo::of_this().kernel,
    });
    // There is no server; scripts that ask Docker's for its version get the engine's.
    let both = json!({ "Client": value, "Server": value });
    shown(args, &both, || {
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        format!(
            "engine-cli {version}\n OS/Arch:  linux/{}\n Kernel:   {}\n Daemon:   none\n",
            field("Arch"),
            field("Kernel")
        )
    })
}

/// Runs `info`. It works without an engine too: then it says what is missing for one. Of a machine that cannot be reached it says nothing.
pub(crate) async fn info(context: &Context, args: &FormatArgs) -> Result<u8> {
    let opened = match context.remote()? {
        Some(remote) => Ok(remote.connect().await?),
        None => context.local_engine().await,
    };
    let (mut diagnosis, failure) = match &opened {
        Ok(engine) => (engine.diagnose().await?, None),
        Err(failure) => (Diagnosis::of_host(&context.root()), Some(failure.to_string())),
    };
    if opened.is_err() {
        diagnosis.checks.push(engine_net::LocalNetworks::look().await);
    }
    let mut counts = [0; 3];
    let mut images = 0;
    if let Ok(engine) = &opened {
        for container in engine.containers().await? {
            let status = container.state.status;
            let slot = match status {
                engine_core::ContainerStatus::Paused => 1,
                status if status.is_running() => 0,
                _ => 2,
            };
            counts[slot] += 1;
        }
        images = engine.images().await?.len();
    }
    let parts = match &opened {
        Ok(engine) => engine.info().await?,
        Err(_) => here(context),
    };
    let (runtime, host) = (&parts.runtime, &parts.host);
    let root = parts.root.clone().unwrap_or_default();
    // Docker's words: a hybrid host is one of version 1.
    let version = if runtime.cgroup == "v2" { "2" } else { "1" };
    let checks: Vec<Value> = diagnosis
        .checks
        .iter()
        .map(|c| json!({"Subject": c.subject, "Verdict": c.verdict.to_string(), "Detail": c.detail}))
        .collect();
    let [running, paused, stopped] = counts;
    let value = json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DockerRootDir": root,
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": images,
        "KernelVersion": host.kernel,
        "CgroupDriver": runtime.cgroup_driver,
        "CgroupVersion": version,
        "OSType": "linux",
        "Architecture": host.architecture,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "Plugins": { "Network": ["bridge", "host", "ipvlan", "macvlan", "null"], "Volume": ["local"] },
        "Checks": checks,
        "Error": failure,
    });
    let code = shown(args, &value, || {
        let mut text = format!(
            "Version: {}\nRoot: {}\nContainers: {}\n Running: {running}\n Paused: {paused}\n Stopped: {stopped}\nImages: {images}\nCgroup Driver: {}\nCgroup Version: {version}\nKernel: {}\nArchitecture: {}\nCPUs: {}\nMemory: {}\nHost:\n",
            env!("CARGO_PKG_VERSION"),
            root.display(),
            running + paused + stopped,
            runtime.cgroup_driver,
            host.kernel,
            host.architecture,
            host.cpus,
            human::size(host.memory),
        );
        for check in &diagnosis.checks {
            let mark = if check.verdict == Verdict::Works { "" } else { " <-" };
            text.push_str(&format!(" {}: {}: {}{mark}\n", check.subject, check.verdict, check.detail));
        }
        text
    })?;
    match opened {
        Ok(_) => Ok(code),
        Err(failure) => Err(failure),
    }
}

/// What is known without an engine.
fn here(context: &Context) -> EngineInfo {
    let mut parts = EngineInfo::default();
    parts.root = Some(context.root());
    parts.host = HostInfo::of_this();
    parts
}

fn shown(args: &FormatArgs, value: &Value, plain: impl FnOnce() -> String) -> Result<u8> {
    match args.format.as_deref() {
        None => output::print(&plain())?,
        Some("json") => output::line(value)?,
        Some(format) => output::line(Template::parse(format)?.render(value)?)?,
    }
    Ok(0)
}

/// Runs `completion`.
pub(crate) fn completion(args: &CompletionArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "engine-cli", &mut script);
    output::print(&String::from_utf8(script).map_err(|e| Failure::usage(e.to_string()))?)?;
    Ok(0)
}

/// Runs `system dial-stdio`.
pub(crate) async fn dial_stdio(context: &Context) -> Result<u8> {
    let remote = match context.remote()? {
        Some(remote) => remote,
        None => Remote { host: DEFAULT_HOST.parse()?, options: ConnectOptions::default() },
    };
    engine_api::client::relay(&remote.host, &remote.options, tokio::io::stdin(), tokio::io::stdout()).await?;
    Ok(0)
}

/// Runs `system start-all`: prints the name of each container that it started.
pub(crate) async fn start_all(context: &Context) -> Result<u8> {
    let engine = context.engine().await?;
    let mut several = Several::default();
    for started in engine.start_all().await? {
        let shown = async {
            started.result?;
            output::line(engine.container(started.id.as_str()).await?.inspect().await?.name)
        };
        several.note(shown.await);
    }
    several.finish()
}
