//! The process, its life and what is said of it.

use engine_core::container_spec::Terminal;
use engine_core::{ContainerSpec, Engine, Platform, RestartPolicy};

use crate::models::{self, ContainerCreateBody, HostConfig, RestartPolicyNameEnum as PolicyName};
use crate::server::error::{ApiError, Result};

use super::{bad, text};

/// Writes what the document says of the process into `spec`. `AttachStdin` and its like are the client's own, `OnBuild`,
/// `Shell` and `ArgsEscaped` an image's.
pub(super) fn apply(spec: &mut ContainerSpec, body: &ContainerCreateBody, host: &HostConfig) -> Result<()> {
    spec.hostname = text(body.hostname.as_ref());
    spec.domainname = text(body.domainname.as_ref());
    spec.user = text(body.user.as_ref());
    spec.working_dir = text(body.working_dir.as_ref());
    if let Some(dir) = spec.working_dir.as_ref().filter(|dir| !dir.starts_with('/')) {
        return Err(bad(
            "WorkingDir",
            format!("the working directory '{dir}' is invalid, it needs to be an absolute path"),
        ));
    }
    spec.env = body.env.clone().unwrap_or_default();
    if let Some(wrong) = spec.env.iter().find(|variable| variable.is_empty() || variable.starts_with('=')) {
        return Err(bad("Env", format!("invalid environment variable: {wrong}")));
    }
    // As Docker has it: one that is a single empty text removes the image's.
    spec.entrypoint = body.entrypoint.clone().map(|list| if list == [""] { Vec::new() } else { list });
    spec.command = body.cmd.clone().unwrap_or_default();
    spec.labels = body.labels.clone().unwrap_or_default().into_iter().collect();
    spec.annotations = host.annotations.clone().unwrap_or_default().into_iter().collect();
    if body.tty == Some(true) {
        let size = host.console_size.clone().unwrap_or_default();
        let side = |index: usize| {
            u16::try_from(size.get(index).copied().unwrap_or(0))
                .map_err(|_| bad("HostConfig.ConsoleSize", "a side is larger than 65535"))
        };
        spec.terminal = Some(Terminal { columns: side(1)?, rows: side(0)? });
    }
    spec.open_stdin = body.open_stdin.unwrap_or(false);
    spec.stdin_once = body.stdin_once.unwrap_or(false);
    spec.init = host.init.unwrap_or(false);
    spec.auto_remove = host.auto_remove.unwrap_or(false);
    spec.stop_signal = text(body.stop_signal.as_ref());
    if let Some(signal) = &spec.stop_signal {
        engine_core::signal::parse(signal).map_err(|error| bad("StopSignal", error.report()))?;
    }
    // A negative one is Docker's "as long as it takes".
    spec.stop_timeout = body.stop_timeout.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    spec.restart = host.restart_policy.as_ref().map(restart_policy).transpose()?.unwrap_or_default();
    Ok(())
}

/// An empty list for an entrypoint removes the image's, and leaves its command; a single empty text removes both.
pub(super) async fn complete_command(
    spec: &mut ContainerSpec,
    body: &ContainerCreateBody,
    engine: &Engine,
    image: &str,
) -> Result<()> {
    let Some(list) = body.entrypoint.as_ref().filter(|_| spec.command.is_empty()) else { return Ok(()) };
    if *list == [""] {
        return Err(ApiError::bad_request("no command specified"));
    }
    if !list.is_empty() {
        return Ok(());
    }
    // One that is not there is told of at the creation.
    let platform = spec.platform.clone().unwrap_or_else(Platform::host);
    if let Ok(image) = engine.image_for(image, &platform).await {
        spec.command.clone_from(&image.config.config.cmd);
    }
    Ok(())
}

/// Reads a restart policy.
pub(in crate::server::routes::containers) fn restart_policy(
    policy: &models::RestartPolicy,
) -> Result<RestartPolicy> {
    const FIELD: &str = "HostConfig.RestartPolicy";
    let retries = policy.maximum_retry_count.unwrap_or(0);
    let read = match policy.name {
        None | Some(PolicyName::EMPTY | PolicyName::NO) => RestartPolicy::No,
        Some(PolicyName::ALWAYS) => RestartPolicy::Always,
        Some(PolicyName::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(PolicyName::ON_FAILURE) => {
            let max_retries = u32::try_from(retries)
                .map_err(|_| bad(FIELD, "maximum retry count cannot be negative, nor above 4294967295"))?;
            return Ok(RestartPolicy::OnFailure { max_retries });
        }
    };
    if retries != 0 {
        return Err(bad(FIELD, "maximum retry count can only be used with 'on-failure'"));
    }
    Ok(read)
}
