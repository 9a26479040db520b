//! `/containers/{id}/exec`, `/exec/{id}/…`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use engine_core::io::{AttachOptions, TerminalSize};
use engine_core::{Container, ErrorKind, ExecId, ExecSpec};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::DetachKeys;
use crate::models::{ExecConfig, ExecInspectResponse, ProcessConfig};
use crate::server::api::Api;
use crate::server::body::{self, Json};
use crate::server::error::{ApiError, Result};
use crate::server::execs::{ExecEntry, ExecState};
use crate::server::hijack::{Framing, Hijack};
use crate::server::params::Params;
use crate::server::pump::{self, Ended, Wanted};
use crate::server::reply;
use crate::server::routes::containers::unrunnable;
use crate::server::version::ApiVersion;

/// The exit code of what was killed.
const KILLED: u8 = 137;
/// How long apart, in milliseconds, a process is asked for whose end could not be waited for.
const PAUSES: [u64; 6] = [100, 500, 2_000, 5_000, 15_000, 30_000];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Json(config): Json<ExecConfig>,
) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let state = container.inspect().await?.state.status;
    if !state.is_running() {
        return Err(ApiError::conflict(format!("container {} is not running", container.id())));
    }
    if state == engine_core::ContainerStatus::Paused {
        return Err(ApiError::conflict(format!(
            "Container {name} is paused, unpause the container before exec"
        )));
    }
    let command = config.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(ApiError::bad_request("no exec command specified"));
    }
    let mut spec = ExecSpec::new(command).with_env(config.env.unwrap_or_default());
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    (spec.user, spec.working_dir) = (given(config.user), given(config.working_dir));
    spec.privileged = config.privileged.unwrap_or(false);
    if config.tty.unwrap_or(false) {
        spec.terminal = Some(size_of(config.console_size.as_deref())?.unwrap_or_default());
    }
    let detach_keys = given(config.detach_keys);
    DetachKeys::parse(detach_keys.as_deref().unwrap_or_default())?;
    let entry = ExecEntry {
        container: container.id().clone(),
        spec,
        stdin: config.attach_stdin.unwrap_or(false),
        stdout: config.attach_stdout.unwrap_or(false),
        stderr: config.attach_stderr.unwrap_or(false),
        detach_keys,
        state: ExecState::Described,
    };
    let id = api.execs.add(entry)?;
    Ok(reply::json_with(StatusCode::CREATED, &json!({ "Id": id })))
}

/// What `POST /exec/{id}/start` sends. It may say again that there is a terminal.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: bool,
    console_size: Option<Vec<usize>>,
}

async fn start(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    version: ApiVersion,
    mut request: Request,
) -> Result<Response> {
    let hijack = Hijack::of(&mut request);
    let start: Start =
        body::document(request, &api).await?.map_or_else(|| Ok(Start::default()), body::parsed)?;
    let (id, entry) = api.execs.find(&id)?;
    let container = api.engine.container(entry.container.as_str()).await?;
    let mut spec = entry.spec.clone().with_id(id.clone());
    if spec.terminal.is_some()
        && let Some(size) = size_of(start.console_size.as_deref())?
    {
        spec.terminal = Some(size);
    }
    let keys = entry.detach_keys.as_deref().unwrap_or(DetachKeys::DEFAULT);
    let wanted = Wanted {
        stdin: entry.stdin,
        stdout: entry.stdout,
        stderr: entry.stderr,
        framing: Framing::of_terminal(spec.terminal.is_some()),
        keys: DetachKeys::parse(keys)?.filter(|_| spec.terminal.is_some()),
    };
    let hijack = if start.detach { None } else { Some(hijack?) };
    api.execs.begin(&id)?;
    let io = if start.detach { AttachOptions::default() } else { wanted.options() };
    let process = match container.exec(&spec, io).await {
        Ok(process) => process,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::CommandNotFound => 127,
                ErrorKind::CommandNotExecutable => 126,
                // A user or a working directory that is not there.
                ErrorKind::InvalidArgument => 126,
                _ => 128,
            };
            api.execs.set(&id, ExecState::Ended { code, pid: None });
            let Some(hijack) = hijack.filter(|_| code != 128) else { return Err(error.into()) };
            // As Docker: the connection is taken over all the same, and carries the reason.
            let text = unrunnable(&spec.args, &error)
                .map_or_else(|| error.report(), |why| format!("OCI runtime exec failed: exec failed: {why}"));
            let framing = wanted.framing;
            return Ok(hijack.answer(wanted.content_type(version), async move |connection| {
                pump::tell(connection, &text, framing).await;
            }));
        }
    };
    api.execs.set(&id, ExecState::Running { pid: process.pid });
    let ended = tokio::spawn({
        let (api, id, container, pid) = (Arc::clone(&api), id.clone(), container.clone(), process.pid);
        async move {
            let code = exit_code(&container, &id).await;
            api.execs.set(&id, ExecState::Ended { code, pid });
        }
    });
    let Some(hijack) = hijack else {
        return Ok(reply::with_status(StatusCode::OK));
    };
    let content_type = wanted.content_type(version);
    Ok(hijack.answer(content_type, async move |connection| {
        let over = pump::run(connection, process.streams, &wanted, &api, async {
            // The exit code is there before the client sees the end, and asks for it.
            let _ = ended.await;
        })
        .await;
        if over == Ended::Detached
            && let Err(error) = container.exec_detached(&id).await
        {
            tracing::debug!(%error, "nobody was told of the detaching");
        }
    }))
}

/// Waits for a process, as long as nothing says that it has ended.
async fn exit_code(container: &Container, id: &ExecId) -> u8 {
    for pause in PAUSES {
        match container.exec_wait(id).await {
            Ok(status) => return status.code,
            // The container was removed meanwhile, and the process killed with it.
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => tracing::warn!(exec = %id, error = %error.report(), "its end is not known yet"),
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    KILLED
}

async fn resize(State(api): State<Arc<Api>>, Path(id): Path<String>, params: Params) -> Result<Response> {
    let (id, entry) = api.execs.find(&id)?;
    let size = size(&params)?;
    let container = api.engine.container(entry.container.as_str()).await?;
    // As with Docker, one without a terminal has nothing to resize, and that is no failure.
    if entry.spec.terminal.is_some() || !matches!(entry.state, ExecState::Running { .. }) {
        container.exec_resize(&id, size).await?;
    }
    Ok(reply::with_status(StatusCode::OK))
}

/// Reads `h` and `w`.
pub(super) fn size(params: &Params) -> Result<TerminalSize> {
    let of = |name: &str| {
        params
            .number(name)?
            .ok_or_else(|| ApiError::bad_request(format!("invalid resize: no {name} is given")))
    };
    Ok(TerminalSize { rows: of("h")?, columns: of("w")? })
}

/// Reads `[height, width]`.
fn size_of(console_size: Option<&[usize]>) -> Result<Option<TerminalSize>> {
    let Some(size) = console_size else { return Ok(None) };
    let [rows, columns] = size else {
        return Err(ApiError::bad_request("invalid ConsoleSize: must be [height, width]"));
    };
    let number = |value: &usize| {
        u16::try_from(*value).map_err(|_| ApiError::bad_request(format!("invalid ConsoleSize: {value}")))
    };
    Ok(Some(TerminalSize { rows: number(rows)?, columns: number(columns)? }).filter(|size| size.rows > 0))
}

async fn inspect(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    match api.execs.find(&id) {
        Ok((id, entry)) => reply::json(&document(&id, &entry)),
        Err(error) => error.into_response(),
    }
}

fn document(id: &ExecId, entry: &ExecEntry) -> ExecInspectResponse {
    let mut command = entry.spec.args.iter().cloned();
    let (running, code, pid) = match entry.state {
        ExecState::Described => (false, None, None),
        ExecState::Running { pid } => (true, None, pid),
        ExecState::Ended { code, pid } => (false, Some(code.into()), pid),
    };
    ExecInspectResponse {
        id: Some(id.to_string()),
        running: Some(running),
        exit_code: code,
        process_config: Some(ProcessConfig {
            tty: Some(entry.spec.terminal.is_some()),
            entrypoint: command.next(),
            arguments: Some(command.collect()),
            privileged: Some(entry.spec.privileged),
            user: entry.spec.user.clone(),
        }),
        open_stdin: Some(entry.stdin),
        open_stdout: Some(entry.stdout),
        open_stderr: Some(entry.stderr),
        can_remove: Some(matches!(entry.state, ExecState::Ended { .. })),
        container_id: Some(entry.container.to_string()),
        detach_keys: Some(entry.detach_keys.clone().unwrap_or_default()),
        pid: Some(pid.unwrap_or(0).into()),
    }
}
