//! Which containers a list shows: the filters of `docker ps`.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use engine_core::container_spec::{MountSpec, NetworkMode};
use engine_core::engine::ContainerNetwork;
use engine_core::mount::MountKind;
use engine_core::network::Protocol;
use engine_core::{ContainerInfo, ContainerStatus, Digest, Engine, ErrorKind, Platform, Reference, Result};

use regex::bytes::{Regex, RegexBuilder};

use crate::documents::{exposed_ports, health_word};
use crate::notation::wrong;

/// The filters there are.
pub const CONTAINER_FILTERS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
];

/// What filters ask for. Values of one filter are alternatives, except labels; filters must all match.
#[derive(Debug, Default)]
pub struct ContainerFilters {
    wishes: Vec<(String, String)>,
    /// Images that `ancestor` names.
    ancestors: Vec<(String, Digest)>,
    /// What names match, by the text it was read from.
    names: Vec<(String, Regex)>,
    /// Creation times that `before` and `since` refer to.
    before: Option<SystemTime>,
    since: Option<SystemTime>,
}

impl ContainerFilters {
    /// Reads filters, and looks up what they refer to.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for filters that there are not, and for what they cannot have as a value;
    /// [`ErrorKind::NotFound`] for a container that `before` or `since` names.
    pub async fn read(engine: &Engine, pairs: &[(&str, &str)]) -> Result<Self> {
        let mut filters = Self::default();
        for &(key, value) in pairs {
            let refuse = |why: &str| Err(wrong("filter", &format!("{key}={value}"), why));
            match key {
                "before" | "since" => {
                    let created = engine.container(value).await?.inspect().await?.created_at;
                    *(if key == "before" { &mut filters.before } else { &mut filters.since }) = Some(created);
                    continue;
                }
                "status" if !is_status(value) => return refuse("there is no such status"),
                "health" if !["starting", "healthy", "unhealthy", "none"].contains(&value) => {
                    return refuse("there is no such health");
                }
                "exited" if value.parse::<i32>().is_err() => return refuse("it is no exit code"),
                "is-task" if !matches!(value, "true" | "false" | "1" | "0") => {
                    return refuse("it is true or false");
                }
                "publish" | "expose" if ports_of(value).is_none() => {
                    return refuse("give PORT[-PORT][/PROTOCOL]");
                }
                "ancestor" => match engine.image_for(value, &Platform::host()).await {
                    Ok(image) => filters.ancestors.push((value.to_owned(), image.id().clone())),
                    // Images that are gone still have containers, and what is no image has none.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) => {}
                    Err(error) => return Err(error),
                },
                // What is no expression matches nothing, as with Docker.
                "name" => filters.names.extend(expression(value).map(|read| (value.to_owned(), read))),
                key if CONTAINER_FILTERS.contains(&key) => {}
                _ => return refuse("there is no such key"),
            }
            filters.wishes.push((key.to_owned(), value.to_owned()));
        }
        Ok(filters)
    }

    /// Returns whether they say in which state containers are, so that all are looked at.
    #[must_use]
    pub fn names_a_status(&self) -> bool {
        self.wishes.iter().any(|(key, _)| matches!(key.as_str(), "status" | "exited"))
    }

    /// Returns whether a container is one of those.
    #[must_use]
    pub fn matches(&self, info: &ContainerInfo) -> bool {
        self.wishes.iter().all(|(key, value)| match key.as_str() {
            "label" => self.one(info, key, value),
            key => self.wishes.iter().any(|(other, value)| other == key && self.one(info, key, value)),
        }) && self.before.is_none_or(|time| info.created_at < time)
            && self.since.is_none_or(|time| info.created_at > time)
    }

    fn one(&self, info: &ContainerInfo, key: &str, value: &str) -> bool {
        match key {
            "id" => info.id.as_str().starts_with(value),
            "name" => {
                let mut known = self.names.iter().filter(|(text, _)| text == value);
                known.any(|(_, expression)| is_named(info.name.as_str(), expression))
            }
            "label" => {
                let label = |key: &str| info.spec.labels.get(key).or_else(|| info.defaults.labels.get(key));
                match value.split_once('=') {
                    Some((k, v)) => label(k).is_some_and(|known| known == v),
                    None => label(value).is_some(),
                }
            }
            "ancestor" => {
                self.ancestors.iter().any(|(name, id)| name == value && *id == info.image_id)
                    || is_ancestor(info, value)
            }
            "health" => health_word(&info.state) == value,
            "status" => info.state.status.as_str() == value,
            "exited" => {
                info.state.status == ContainerStatus::Exited
                    && info.state.exit.is_some_and(|exit| exit.code.to_string() == value)
            }
            "volume" => {
                mount_sources(info).iter().any(|m| m == value)
                    || info.spec.mounts.iter().any(|mount| mount.target().as_os_str() == value)
            }
            "network" => is_on(info, value),
            "publish" => {
                let ports = info.spec.ports.iter().map(|port| (port.container_port, port.protocol));
                ports_of(value).is_some_and(|wanted| has_port(&wanted, ports))
            }
            "expose" => {
                ports_of(value).is_some_and(|wanted| has_port(&wanted, exposed_ports(info).into_iter()))
            }
            // There are no tasks of a swarm.
            "is-task" => matches!(value, "false" | "0"),
            _ => false,
        }
    }
}

fn is_status(value: &str) -> bool {
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"].contains(&value)
}

/// Returns what a container mounts: names of volumes, paths of the host, images.
#[must_use]
pub fn mount_sources(info: &ContainerInfo) -> Vec<String> {
    let name = |mount: &MountSpec| match mount {
        MountSpec::Volume { name, .. } => name.as_ref().map(ToString::to_string),
        MountSpec::Mount(mount) => match &mount.kind {
            MountKind::Bind { source, .. } => Some(source.display().to_string()),
            _ => None,
        },
        MountSpec::Image { image, .. } => Some(image.clone()),
        _ => None,
    };
    info.spec.mounts.iter().filter_map(name).collect()
}

/// Returns the names of a container's networks; of one without, its mode in the words of `--network`.
#[must_use]
pub fn network_names(info: &ContainerInfo) -> String {
    match &info.spec.network {
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(name) => format!("container:{name}"),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Default if info.networks.is_empty() => "default".to_owned(),
        _ => info.networks.iter().map(|used| used.name.to_string()).collect::<Vec<_>>().join(","),
    }
}

/// Whether a container is on the network of this name, or whose id begins so.
fn is_on(info: &ContainerInfo, network: &str) -> bool {
    let is = |used: &ContainerNetwork| {
        used.name.as_str() == network
            || used.network.as_ref().is_some_and(|known| known.id.starts_with(network))
    };
    if network.is_empty() {
        return false;
    }
    network_names(info) == network || info.networks.iter().any(is)
}

/// How large an expression may become: as large as one that a person writes, and far less than regex's own limit.
const EXPRESSION: usize = 1 << 20;

fn expression(text: &str) -> Option<Regex> {
    // As in Go, letters of a class and of `(?i)` are those that names have.
    RegexBuilder::new(text).unicode(false).size_limit(EXPRESSION).build().ok()
}

/// Whether an expression matches in `name`, or with the `/` before it that names have in Docker's API.
fn is_named(name: &str, expression: &Regex) -> bool {
    expression.is_match(name.as_bytes()) || expression.is_match(format!("/{name}").as_bytes())
}

/// Container ports that a filter asks for: a range, and their transport.
type Ports = (RangeInclusive<u16>, Protocol);

/// Reads `80`, `80/tcp` or `8000-8080/udp`.
fn ports_of(text: &str) -> Option<Ports> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first..=last, protocol.parse().ok()?))
}

fn has_port((range, protocol): &Ports, mut ports: impl Iterator<Item = (u16, Protocol)>) -> bool {
    ports.any(|(number, known)| known == *protocol && range.contains(&number))
}

fn is_ancestor(info: &ContainerInfo, value: &str) -> bool {
    let hex = value.strip_prefix("sha256:").unwrap_or(value);
    let same_name = value
        .parse::<Reference>()
        .ok()
        .zip(info.image.parse::<Reference>().ok())
        .is_some_and(|(a, b)| a == b);
    same_name || (hex.len() >= 4 && info.image_id.hex().starts_with(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_docker_lets_them() {
        let is_named = |pattern: &str| expression(pattern).is_some_and(|read| is_named("web1", &read));
        for pattern in [
            "web",
            "eb1",
            "^/web1$",
            "^web",
            "1$",
            "^web1$",
            "/web",
            "^/?web1$",
            "db|web1",
            "web[0-9]",
            "w.b",
            r"(?i)^WEB\d",
        ] {
            assert!(is_named(pattern), "{pattern}");
        }
        for pattern in ["^eb", "web$", "^web$", "^/eb", "web[2-9]", "db|x", "[", "a{1000}{1000}{1000}"] {
            assert!(!is_named(pattern), "{pattern}");
        }
        assert_eq!(ports_of("80-90/udp"), Some((80..=90, Protocol::Udp)));
        for wrong in ["90-80", "x", "80/x", "", "-1"] {
            assert_eq!(ports_of(wrong), None, "{wrong}");
        }
        assert!(has_port(&(80..=90, Protocol::Tcp), [(85, Protocol::Tcp)].into_iter()));
        assert!(!has_port(&(80..=90, Protocol::Tcp), [(85, Protocol::Udp)].into_iter()));
    }
}
