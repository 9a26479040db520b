//! `POST /containers/create`.

mod devices;
mod health;
mod isolation;
pub(in crate::server::routes) mod limits;
mod mounts;
mod network;
mod normal;
mod ports;
mod process;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use engine_core::{ContainerSpec, Error, ErrorKind, Platform, Reference};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::documents::RUNTIME;
use crate::models::{ContainerCreateBody, HostConfig};
use crate::notation;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::params::Params;
use crate::server::{body, reply};

use super::names;

pub(in crate::server::routes) use network::options as endpoint_options;
pub(super) use process::restart_policy;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/create", post(create))
}

/// What a client asks for: the document, and what its type does not have.
#[derive(Debug)]
struct Wish {
    body: ContainerCreateBody,
    /// The hardware address as it was told before 1.44.
    mac: Option<String>,
}

impl Wish {
    fn read(mut value: Value) -> Result<Self> {
        normal::normalize(&mut value);
        let mac = value.get("MacAddress").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { body: body::parsed(value)?, mac })
    }
}

async fn create(State(api): State<Arc<Api>>, params: Params, request: Request) -> Result<Response> {
    let Some(value) = body::raw_document(request, &api).await? else {
        return Err(ApiError::bad_request("invalid JSON: got EOF while reading request body"));
    };
    let wish = Wish::read(value)?;
    let image = text(wish.body.image.as_ref()).ok_or_else(|| bad("Image", "no image specified"))?;
    let platform = params.text("platform").map(str::parse::<Platform>).transpose()?;
    // Until the engine knows of it, a port that was chosen is free for the next.
    let _choosing = match ports::are_chosen(&wish.body) {
        true => Some(api.choosing_ports.lock().await),
        false => None,
    };
    let mut spec = spec(&api, &wish, &image, platform).await?;
    spec.name = params.text("name").map(names::read).transpose()?;
    let warnings = warnings(&wish, &spec);
    let name = spec.name.clone();
    match api.engine.create(&image, spec).await {
        Ok(container) => Ok(reply::json_with(
            StatusCode::CREATED,
            &json!({ "Id": container.id().as_str(), "Warnings": warnings }),
        )),
        Err(error) => Err(match name {
            Some(name) if is_name_taken(&error) => names::taken(&api.engine, &name).await,
            _ => refused(error, &image),
        }),
    }
}

async fn spec(api: &Api, wish: &Wish, image: &str, platform: Option<Platform>) -> Result<ContainerSpec> {
    let engine = &api.engine;
    let host = wish.body.host_config.clone().unwrap_or_default();
    refuse_unknown(&host)?;
    let mut spec = ContainerSpec::default();
    spec.platform = platform;
    process::apply(&mut spec, &wish.body, &host)?;
    process::complete_command(&mut spec, &wish.body, engine, image).await?;
    isolation::apply(&mut spec, &host)?;
    devices::apply(&mut spec, &host)?;
    spec.resources = limits::resources(&host)?;
    limits::apply(&mut spec, &host)?;
    mounts::apply(&mut spec, engine, &wish.body, &host).await?;
    network::apply(&mut spec, engine, wish, &host).await?;
    spec.health = wish.body.healthcheck.as_ref().map(health::check).transpose()?.flatten();
    spec.log = api.defaults.log(host.log_config.unwrap_or_default())?;
    Ok(spec)
}

/// Refuses what there is not here. What Docker does not heed on Linux either (`CpuCount`, `CpuPercent`, `IOMaximumIOps`,
/// `IOMaximumBandwidth`, `ContainerIDFile`) is not looked at.
fn refuse_unknown(host: &HostConfig) -> Result<()> {
    if let Some(runtime) = text(host.runtime.as_ref()).filter(|name| name != RUNTIME) {
        return Err(bad("HostConfig.Runtime", format!("unknown or invalid runtime name: {runtime}")));
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(bad("HostConfig.StorageOpt", "a root file system has no options of its own here"));
    }
    if let Some(cgroup) = text(host.cgroup.as_ref()) {
        return Err(bad("HostConfig.Cgroup", format!("the cgroup {cgroup:?} cannot be shared")));
    }
    use crate::models::HostConfigIsolationEnum as Isolation;
    if let Some(isolation @ (Isolation::HYPERV | Isolation::PROCESS)) = host.isolation {
        return Err(bad("HostConfig.Isolation", format!("invalid isolation {isolation:?} on linux")));
    }
    match text(host.volume_driver.as_ref()) {
        Some(driver) => notation::volume_driver(&driver).map_err(|why| bad("HostConfig.VolumeDriver", why)),
        None => Ok(()),
    }
}

/// What of the wishes is not heeded, in Docker's words.
fn warnings(wish: &Wish, spec: &ContainerSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    let host = wish.body.host_config.as_ref();
    if spec.network == engine_core::container_spec::NetworkMode::Host
        && (spec.publish_all_ports || !spec.ports.is_empty())
    {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if host.and_then(|host| host.oom_kill_disable) == Some(true) && spec.resources.memory.is_none() {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .to_owned(),
        );
    }
    warnings
}

fn is_name_taken(error: &Error) -> bool {
    error.kind() == ErrorKind::AlreadyExists && error.subject().is_some_and(|(key, _)| key == "name")
}

/// Says why the engine did not create it, so that clients understand.
fn refused(error: Error, image: &str) -> ApiError {
    match (error.kind(), error.subject()) {
        (ErrorKind::NotFound, Some(("image", name))) if is_same(name, image) => {
            // Clients pull what is not there, by this name.
            let familiar = name.parse::<Reference>().map(|reference| reference.familiar());
            ApiError::not_found(format!("No such image: {}", familiar.unwrap_or_else(|_| image.to_owned())))
        }
        // Clients would pull the image, so another thing that is not there is told as a wrong wish.
        (ErrorKind::NotFound, _) => {
            let told = ApiError::from(error);
            ApiError::bad_request(told.message)
        }
        (ErrorKind::InvalidArgument, Some(("bind source", path)))
            if error.to_string().contains("does not exist") =>
        {
            ApiError::bad_request(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {path}"
            ))
        }
        // A setting that no container may have is a wrong wish; what a policy forbids stays forbidden.
        (ErrorKind::PermissionDenied, _) if error.operation() == "check sysctl" => {
            ApiError::bad_request(error.report())
        }
        // A limit of ours, and not of the host.
        (ErrorKind::ResourceExhausted, _) if std::error::Error::source(&error).is_none() => {
            ApiError::bad_request(error.report())
        }
        _ => error.into(),
    }
}

/// Whether two texts name the same image.
fn is_same(name: &str, image: &str) -> bool {
    let reference = |text: &str| text.parse::<Reference>().ok();
    name == image || reference(name).is_some_and(|name| reference(image) == Some(name))
}

/// A text that is not empty: Docker sends an empty one for none.
fn text(value: Option<&String>) -> Option<String> {
    value.filter(|text| !text.is_empty()).cloned()
}

/// Says what is wrong with a field.
pub(super) fn bad(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("invalid {field}: {why}"))
}
