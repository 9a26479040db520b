//! `POST /networks/create`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::network::{NetworkOptions, Subnet, SubnetOptions};
use engine_core::{Error, ErrorKind, Name};
use hyper::StatusCode;
use serde_json::json;

use crate::models::{Ipam, IpamConfig, NetworkCreateRequest};
use crate::server::api::Api;
use crate::server::body::Json;
use crate::server::error::{ApiError, Result};
use crate::server::reply;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/networks/create", post(create))
}

async fn create(
    State(api): State<Arc<Api>>,
    version: ApiVersion,
    Json(wanted): Json<NetworkCreateRequest>,
) -> Result<Response> {
    if wanted.name.trim().is_empty() {
        return Err(ApiError::bad_request("invalid network name: name is empty"));
    }
    let name: Name = wanted.name.parse().map_err(|error: Error| ApiError::bad_request(error.report()))?;
    if api.engine.is_predefined(&name) || name.as_str() == "default" {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            format!("operation is not permitted on predefined {name} network"),
        ));
    }
    let options = options(&wanted, version)?;
    let made = api.engine.create_network(&name, &options).await.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => ApiError::conflict(format!("network with name {name} already exists")),
        // Docker says so with 403.
        ErrorKind::Conflict if error.report().contains("overlaps") => ApiError::new(
            StatusCode::FORBIDDEN,
            format!(
                "invalid pool request: Pool overlaps with other one on this address space: {}",
                error.report()
            ),
        ),
        // The driver is looked up as a plugin, which is not there.
        ErrorKind::Unsupported => ApiError::not_found(error.report()),
        _ => error.into(),
    })?;
    Ok(reply::json_with(StatusCode::CREATED, &json!({ "Id": made.id, "Warning": "" })))
}

fn options(wanted: &NetworkCreateRequest, version: ApiVersion) -> Result<NetworkOptions> {
    let refused = [
        (wanted.ingress, "Ingress: there is no Swarm here"),
        (wanted.config_only, "ConfigOnly: networks that are configurations are not there"),
    ];
    if let Some((_, why)) = refused.iter().find(|(asked, _)| *asked == Some(true)) {
        return Err(ApiError::unsupported(*why));
    }
    let from = wanted.config_from.as_ref().and_then(|from| from.network.as_deref()).unwrap_or_default();
    if !from.is_empty() {
        return Err(ApiError::unsupported("ConfigFrom: networks that are configurations are not there"));
    }
    match wanted.scope.as_deref().unwrap_or_default() {
        "" | "local" => {}
        other => return Err(ApiError::unsupported(format!("Scope: there is no scope {other} here"))),
    }
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut options = NetworkOptions::default();
    // "default" stands for the bridge, as it does for containers.
    options.driver = text(&wanted.driver).filter(|driver| driver != "default");
    options.internal = wanted.internal.unwrap_or(false);
    options.attachable = wanted.attachable.unwrap_or(false);
    if version >= ApiVersion::v1(48) {
        options.ipv4 = wanted.enable_ipv4.unwrap_or(true);
    }
    options.ipv6 = wanted.enable_ipv6.unwrap_or(false);
    options.labels = wanted.labels.clone().unwrap_or_default().into_iter().collect();
    options.driver_options = wanted.options.clone().unwrap_or_default().into_iter().collect();
    let ipam = wanted.ipam.clone().unwrap_or_default();
    options.subnets = subnets(&ipam)?;
    options.ipam_driver = text(&ipam.driver).filter(|driver| driver != "default");
    options.ipam_options = ipam.options.unwrap_or_default().into_iter().collect();
    Ok(options)
}

fn subnets(ipam: &Ipam) -> Result<Vec<SubnetOptions>> {
    let configs = ipam.config.iter().flatten();
    // Clients send an empty one for "any".
    configs.filter(|config| **config != IpamConfig::default()).map(subnet).collect()
}

fn subnet(config: &IpamConfig) -> Result<SubnetOptions> {
    let wrong = |field: &str, value: &str| {
        ApiError::bad_request(format!("invalid network config: invalid {field} {value:?} in IPAM.Config"))
    };
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let subnet = text(&config.subnet).ok_or_else(|| {
        ApiError::bad_request("invalid network config: every part of IPAM.Config needs a Subnet")
    })?;
    let parsed: Subnet = subnet.parse().map_err(|_| wrong("Subnet", &subnet))?;
    let mut options = SubnetOptions::from(parsed);
    let address = |field: &str, value: &str| value.parse::<IpAddr>().map_err(|_| wrong(field, value));
    options.gateway = text(&config.gateway).map(|value| address("Gateway", &value)).transpose()?;
    options.ip_range = text(&config.ip_range)
        .map(|value| value.parse().map_err(|_| wrong("IPRange", &value)))
        .transpose()?;
    for (name, value) in config.auxiliary_addresses.iter().flatten() {
        options.aux_addresses.insert(name.clone(), address("AuxiliaryAddresses", value)?);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: serde_json::Value, version: u16) -> Result<NetworkOptions> {
        options(&serde_json::from_value(document).unwrap(), ApiVersion::v1(version))
    }

    #[test]
    fn every_field_is_read() {
        let document = json!({
            "Name": "lan", "Driver": "bridge", "Internal": true, "Attachable": true, "EnableIPv4": false,
            "EnableIPv6": true, "Labels": { "a": "b" }, "Options": { "k": "v" }, "CheckDuplicate": true,
            "IPAM": {
                "Driver": "default", "Options": { "x": "y" },
                "Config": [{}, {
                    "Subnet": "10.1.0.0/16", "Gateway": "10.1.0.254", "IPRange": "10.1.4.0/24",
                    "AuxiliaryAddresses": { "router": "10.1.4.9" },
                }],
            },
        });
        let made = read(document.clone(), 48).unwrap();
        assert_eq!(made.driver.as_deref(), Some("bridge"));
        assert!(made.internal && made.attachable && made.ipv6 && !made.ipv4);
        assert!(read(document, 47).unwrap().ipv4, "it had no such field");
        assert_eq!((&made.labels["a"], &made.driver_options["k"]), (&"b".to_owned(), &"v".to_owned()));
        assert_eq!((made.subnets.len(), made.ipam_driver.as_ref()), (1, None));
        assert_eq!(made.ipam_options["x"], "y");
        assert_eq!(made.subnets[0].gateway, Some("10.1.0.254".parse().unwrap()));
        assert_eq!(made.subnets[0].ip_range, Some("10.1.4.0/24".parse().unwrap()));
        assert_eq!(made.subnets[0].aux_addresses["router"], "10.1.4.9".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (document, status) in [
            (json!({ "Name": "a", "Ingress": true }), 501),
            (json!({ "Name": "a", "ConfigOnly": true }), 501),
            (json!({ "Name": "a", "Scope": "swarm" }), 501),
            (json!({ "Name": "a", "IPAM": { "Config": [{ "Gateway": "10.0.0.1" }] } }), 400),
            (json!({ "Name": "a", "IPAM": { "Config": [{ "Subnet": "10.0.0.0" }] } }), 400),
            (json!({ "Name": "a", "IPAM": { "Config": [{ "Subnet": "10.0.0.0/8", "Gateway": "x" }] } }), 400),
        ] {
            assert_eq!(read(document.clone(), 53).unwrap_err().status.as_u16(), status, "{document}");
        }
    }
}
