//! A container as a list of containers shows it.

use std::time::SystemTime;

use bollard_stubs::models::{
    ContainerSummary, ContainerSummaryHealth, ContainerSummaryHealthStatusEnum as HealthStatus,
    ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, ContainerSummaryStateEnum as State,
};
use engine_core::container_spec::NetworkMode;
use engine_core::{ContainerInfo, ContainerStatus};

use super::status::{health_word, status_text};
use super::{container, host_config, network};

/// Returns one element of the answer of `GET /containers/json`. What must be measured is not.
#[must_use]
pub fn container_summary(info: &ContainerInfo) -> ContainerSummary {
    let state = &info.state;
    let created = info.created_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ContainerSummary {
        id: Some(info.id.to_string()),
        names: Some(vec![format!("/{}", info.name)]),
        image: Some(info.image.clone()),
        image_id: Some(info.image_id.to_string()),
        command: Some(command_text(&info.command)),
        created: i64::try_from(created.as_secs()).ok(),
        ports: Some(network::port_summaries(info)),
        labels: Some(container::labels(info)),
        state: Some(match state.status {
            ContainerStatus::Created => State::CREATED,
            ContainerStatus::Running => State::RUNNING,
            ContainerStatus::Paused => State::PAUSED,
            ContainerStatus::Restarting => State::RESTARTING,
            ContainerStatus::Exited => State::EXITED,
            _ => State::DEAD,
        }),
        status: Some(status_text(state)),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: Some(host_config::network_mode(&info.spec.network)),
            annotations: Some(info.spec.annotations.clone().into_iter().collect())
                .filter(|all: &std::collections::HashMap<_, _>| !all.is_empty()),
        }),
        network_settings: Some(ContainerSummaryNetworkSettings { networks: networks(info) }),
        mounts: Some(
            info.spec
                .mounts
                .iter()
                .filter(|mount| container::is_shown(mount))
                .map(container::mount_point)
                .collect(),
        ),
        health: Some(ContainerSummaryHealth {
            status: Some(match health_word(state) {
                "healthy" => HealthStatus::HEALTHY,
                "unhealthy" => HealthStatus::UNHEALTHY,
                "starting" => HealthStatus::STARTING,
                _ => HealthStatus::NONE,
            }),
            failing_streak: Some(state.health.as_ref().map_or(0, |health| health.failing_streak.into())),
        }),
        ..ContainerSummary::default()
    }
}

/// The networks of a container; one that shares another's has none.
fn networks(
    info: &ContainerInfo,
) -> Option<std::collections::HashMap<String, bollard_stubs::models::EndpointSettings>> {
    match info.spec.network {
        NetworkMode::Container(_) => Some(std::collections::HashMap::new()),
        _ => network::network_settings(info).networks,
    }
}

/// Returns a command as Docker lists it: arguments with a space in them stand in quotes.
#[must_use]
pub fn command_text(command: &[String]) -> String {
    let quoted = |(index, word): (usize, &String)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    command.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}
