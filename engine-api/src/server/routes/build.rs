//! `POST /build`, as clients of the classic builder speak it. `POST /build/prune` is beside it.
//!
//! The context is the request's body; steps are told as lines, in Docker's words where clients look for them: the id and the names at the
//! end, and a command's exit code.

mod prune;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::{
    BuildContext, BuildEvent, BuildNetwork, BuildSpec, BuiltImage, ContextArchive, DockerfileSource,
};
use engine_core::io::ByteStream;
use engine_core::{ContainerSpec, Error, ErrorKind, Reference};
use hyper::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::containers::limits;
use super::images::{layer_lines, platform, reference};
use crate::models::{HostConfig, ResourcesUlimits};
use crate::notation;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::gone::Follower;
use crate::server::left::Left;
use crate::server::params::Params;
use crate::server::progress::{self, Listening, Told};
use crate::server::{body, registry_auth};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/build", post(build)).merge(prune::routes())
}

async fn build(
    State(api): State<Arc<Api>>,
    params: Params,
    follower: Follower,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let (context, left) = Left::of(body::stream(body), api.limits.body);
    match begin(&api, &params, follower, &headers, context).await {
        Ok(response) => Ok(left.answer(response)),
        Err(error) => {
            left.taken().await;
            Err(error)
        }
    }
}

async fn begin(
    api: &Api,
    params: &Params,
    follower: Follower,
    headers: &HeaderMap,
    context: ByteStream,
) -> Result<Response> {
    let mut spec = spec(params)?;
    spec.context = match params.text("remote").filter(|remote| !remote.is_empty()) {
        // The body has nothing then.
        Some(remote) => BuildContext::remote(remote).ok_or_else(|| {
            ApiError::bad_request("remote is neither a repository of git nor a URL of http or https")
        })?,
        None => BuildContext::Archive(ContextArchive::new(context)),
    };
    spec.credentials = registry_auth::all(headers);
    let names = spec.names.clone();
    let quiet = params.flag("q");
    let listening = Listening::new(api, follower);
    progress::answer(listening, api.engine.build(spec), told(names, quiet)).await
}

/// What the parameters ask for.
fn spec(params: &Params) -> Result<BuildSpec> {
    if params.text("version") == Some("2") {
        return Err(ApiError::bad_request(
            "BuildKit's protocol is not served here: build with the classic builder (DOCKER_BUILDKIT=0)",
        ));
    }
    if params.flag("squash") {
        return Err(ApiError::bad_request("squash is not carried out: leave it out"));
    }
    let mut spec = BuildSpec::default();
    spec.dockerfile =
        DockerfileSource::InContext(params.text("dockerfile").unwrap_or("Dockerfile").to_owned());
    for name in params.all("t").filter(|name| !name.is_empty()) {
        let name = reference(name)?;
        if name.digest().is_some() {
            return Err(ApiError::bad_request("build tag cannot contain a digest"));
        }
        if !spec.names.contains(&name) {
            spec.names.push(name);
        }
    }
    // One without a value is for the client to fill in.
    let args: BTreeMap<String, Option<String>> = document(params, "buildargs")?;
    spec.args = args.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    spec.labels = document(params, "labels")?;
    spec.target = params.text("target").map(str::to_owned);
    spec.platforms.extend(params.text("platform").map(platform).transpose()?);
    spec.network = match params.text("networkmode") {
        None | Some("bridge") => BuildNetwork::Default,
        Some(mode) => mode.parse()?,
    };
    spec.allow_host_network = spec.network == BuildNetwork::Host;
    (spec.pull, spec.no_cache) = (params.flag("pull"), params.flag("nocache"));
    for host in params.all("extrahosts").flat_map(|hosts| hosts.split(',')).filter(|host| !host.is_empty()) {
        spec.extra_hosts.push(notation::extra_host(host)?);
    }
    let mut limited = ContainerSpec::default();
    let host = host_config(params)?;
    limits::apply(&mut limited, &host)?;
    (spec.resources, spec.shm_size, spec.ulimits) =
        (limits::resources(&host)?, limited.shm_size, limited.ulimits);
    Ok(spec)
}

/// The limits among the parameters, in the document that has them for containers.
fn host_config(params: &Params) -> Result<HostConfig> {
    let ulimits: Vec<ResourcesUlimits> = document(params, "ulimits")?;
    Ok(HostConfig {
        memory: params.number("memory")?,
        memory_swap: params.number("memswap")?,
        cpu_shares: params.number("cpushares")?,
        cpu_period: params.number("cpuperiod")?,
        cpu_quota: params.number("cpuquota")?,
        cpuset_cpus: params.text("cpusetcpus").map(str::to_owned),
        cpuset_mems: params.text("cpusetmems").map(str::to_owned),
        shm_size: params.number("shmsize")?.filter(|size: &i64| *size != 0),
        ulimits: Some(ulimits),
        ..HostConfig::default()
    })
}

/// A parameter that is a document; without it, or for `null`, the default.
fn document<T: DeserializeOwned + Default>(params: &Params, name: &str) -> Result<T> {
    let Some(text) = params.text(name) else { return Ok(T::default()) };
    let read: Option<T> = serde_json::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("error reading {name}: {error}")))?;
    Ok(read.unwrap_or_default())
}

fn stream(text: impl Into<String>) -> Value {
    json!({ "stream": text.into() })
}

fn told(names: Vec<Reference>, quiet: bool) -> Told<BuildEvent, BuiltImage> {
    let mut lines = Lines::default();
    Told {
        event: Box::new(move |event| if quiet { Vec::new() } else { lines.of(event) }),
        end: Box::new(move |image| {
            if quiet {
                return vec![stream(format!("{}\n", image.id))];
            }
            let mut lines = vec![
                json!({ "aux": { "ID": image.id } }),
                stream(format!("Successfully built {}\n", image.id.short())),
            ];
            lines.extend(
                names.iter().map(|name| stream(format!("Successfully tagged {}\n", name.familiar()))),
            );
            lines
        }),
        error: Box::new(failed),
    }
}

/// A failure; that of a command in the words that clients know.
fn failed(error: Error) -> ApiError {
    let Some(code) = error.detail("exit code").and_then(|code| code.parse::<i32>().ok()) else {
        return match error.kind() {
            // What the context holds is the client's to mend.
            ErrorKind::Corrupt => ApiError::bad_request(error.report()),
            _ => error.into(),
        };
    };
    let instruction = error.detail("instruction").unwrap_or_default();
    let command = command(instruction);
    ApiError::bad_request(format!("The command '{command}' returned a non-zero code: {code}")).with_code(code)
}

/// What a `RUN` ran, in words.
fn command(instruction: &str) -> String {
    let (_, mut rest) = instruction.split_once(char::is_whitespace).unwrap_or_default();
    while let Some((flag, more)) = rest.trim_start().split_once(char::is_whitespace)
        && flag.starts_with("--")
    {
        rest = more;
    }
    let rest = rest.trim();
    match serde_json::from_str::<Vec<String>>(rest) {
        Ok(arguments) => arguments.join(" "),
        Err(_) => format!("/bin/sh -c {rest}"),
    }
}

/// The lines of a build on its way.
#[derive(Default)]
struct Lines {
    begun: u32,
    planned: u32,
    arriving: HashSet<String>,
}

impl Lines {
    fn of(&mut self, event: BuildEvent) -> Vec<Value> {
        match event {
            BuildEvent::Planned { steps } => {
                self.planned = steps;
                Vec::new()
            }
            BuildEvent::Started { description, .. } => {
                self.begun += 1;
                self.planned = self.planned.max(self.begun);
                vec![stream(format!("Step {}/{} : {}\n", self.begun, self.planned, description.text))]
            }
            BuildEvent::Cached { .. } => vec![stream(" ---> Using cache\n")],
            BuildEvent::Pull { event, .. } => layer_lines(*event, &mut self.arriving),
            BuildEvent::Output { bytes, .. } => vec![stream(String::from_utf8_lossy(&bytes))],
            BuildEvent::Warning(warning) => vec![stream(format!("[Warning] {warning}\n"))],
            _ => Vec::new(),
        }
    }
}
