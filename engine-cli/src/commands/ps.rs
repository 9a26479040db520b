//! `ps`.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use clap::Args;
use engine_core::container_spec::{MountSpec, NetworkMode};
use engine_core::mount::MountKind;
use engine_core::network::Protocol;
use engine_core::state::RuntimeState;
use engine_core::{ContainerInfo, ContainerStatus, Engine};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Result;
use crate::options::filter::Filter;
use crate::options::list::ListArgs;
use crate::output::table::Listing;
use crate::output::{human, ports};

/// `ps`'s flags.
#[derive(Args, Debug)]
#[command(mut_arg("filter", |arg| arg.help("Show only those that match: id, name, label, status, health, ancestor, exited, before, since, volume, network, publish, expose")))]
pub(crate) struct PsArgs {
    /// Show all containers, not only those running
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    list: ListArgs,
    /// Show the last created, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = -1, hide_default_value = true, allow_hyphen_values = true)]
    last: i64,
    /// Show the latest created, running or not
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// Show what each has written, and with its image
    #[arg(short, long)]
    size: bool,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("LabelMap", ""),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Platform", "PLATFORM"),
    ],
    quiet: "ID",
};

const LISTING_WITH_SIZE: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..LISTING
};

/// Returns the size of a container's image, 0 if it has no name any more.
pub(crate) async fn image_size(engine: &Engine, info: &ContainerInfo) -> u64 {
    let platform = info.spec.platform.clone().unwrap_or_else(engine_core::Platform::host);
    engine.image_for(&info.image_id.to_string(), &platform).await.map_or(0, |image| image.size())
}

/// Runs `ps`.
pub(crate) async fn ps(context: &Context, args: &PsArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let filters = Filters::parse(&engine, &args.list.filter).await?;
    let mut list = engine.containers().await?;
    let last = if args.latest { 1 } else { args.last };
    let everything = args.all || last >= 0 || filters.names_a_status();
    list.retain(|info| everything || info.state.status.is_running());
    list.retain(|info| filters.matches(info));
    if let Ok(last) = usize::try_from(last) {
        list.truncate(last);
    }
    let mut rows: Vec<Value> = list.iter().map(|info| row(info, args.no_trunc)).collect();
    let wanted = args.size || args.list.format.as_ref().is_some_and(|format| format.contains(".Size"));
    for (row, info) in rows.iter_mut().zip(&list).filter(|_| wanted) {
        let written = engine.container_usage(&info.id).await?;
        let whole = human::size(written + image_size(&engine, info).await);
        row["Size"] = format!("{} (virtual {whole})", human::size(written)).into();
    }
    let listing = if args.size { LISTING_WITH_SIZE } else { LISTING };
    args.list.print(&listing, &rows)?;
    Ok(0)
}

/// Returns a container's fields. What must be measured is not.
pub(crate) fn row(info: &ContainerInfo, full: bool) -> Value {
    let command = info.command.join(" ");
    let command = match command.char_indices().nth(19) {
        Some((at, _)) if !full && command.chars().count() > 20 => format!("{}…", &command[..at]),
        _ => command,
    };
    let labels: Vec<String> = info.spec.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mounts = mounts(info);
    json!({
        "ID": if full { info.id.as_str() } else { info.id.short() },
        "Image": info.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": human::listed(info.created_at),
        "RunningFor": human::ago(info.created_at),
        "Ports": ports::column(&engine_api::port_summaries(info)),
        "State": info.state.status.as_str(),
        "Status": status(&info.state),
        "Size": "0B",
        "Names": info.name.as_str(),
        "Labels": labels.join(","),
        "LabelMap": info.spec.labels,
        "Mounts": mounts.join(","),
        "LocalVolumes": info.spec.mounts.iter().filter(|m| m.volume_name().is_some()).count().to_string(),
        "Networks": networks(info),
    })
}

/// Returns Docker's sentence about a state: `Exited (0) 3 minutes ago`.
pub(crate) fn status(state: &RuntimeState) -> String {
    let since = |time: Option<SystemTime>| {
        let past = time.and_then(|t| SystemTime::now().duration_since(t).ok());
        human::duration(past.unwrap_or(Duration::ZERO))
    };
    match state.status {
        ContainerStatus::Created => "Created".to_owned(),
        ContainerStatus::Running => {
            let health = match health(state) {
                "none" => String::new(),
                "starting" => " (health: starting)".to_owned(),
                other => format!(" ({other})"),
            };
            format!("Up {}{health}", since(state.started_at))
        }
        ContainerStatus::Paused => format!("Up {} (Paused)", since(state.started_at)),
        ContainerStatus::Exited => {
            format!("Exited ({}) {} ago", state.exit.map_or(0, |e| e.code), since(state.finished_at))
        }
        ContainerStatus::Restarting => {
            format!("Restarting ({}) {} ago", state.exit.map_or(0, |e| e.code), since(state.finished_at))
        }
        other => {
            let text = other.as_str();
            format!("{}{}", text[..1].to_uppercase(), &text[1..])
        }
    }
}

/// Returns Docker's word about a container's health.
fn health(state: &RuntimeState) -> &'static str {
    state.health.as_ref().map_or("none", |health| health.status.as_str())
}

fn mounts(info: &ContainerInfo) -> Vec<String> {
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
fn networks(info: &ContainerInfo) -> String {
    match &info.spec.network {
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(name) => format!("container:{name}"),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Default if info.networks.is_empty() => "default".to_owned(),
        _ => info.networks.iter().map(|used| used.name.to_string()).collect::<Vec<_>>().join(","),
    }
}

/// Whether a container is on the network of this name or id.
fn is_on(info: &ContainerInfo, network: &str) -> bool {
    let is = |used: &engine_core::engine::ContainerNetwork| {
        used.name.as_str() == network || used.network.as_ref().is_some_and(|known| known.id == network)
    };
    networks(info) == network || info.networks.iter().any(is)
}

/// What `--filter` asks for. Values of one key are alternatives, except labels; keys must all match.
struct Filters {
    wishes: Vec<(String, String)>,
    /// Creation times that `before` and `since` refer to.
    before: Option<SystemTime>,
    since: Option<SystemTime>,
}

impl Filters {
    async fn parse(engine: &Engine, texts: &[String]) -> Result<Self> {
        let mut filters = Self { wishes: Vec::new(), before: None, since: None };
        for text in texts {
            let filter = Filter::parse(text)?;
            let Filter { key, value, .. } = filter;
            match key {
                "before" | "since" => {
                    let created = engine.container(value).await?.inspect().await?.created_at;
                    *(if key == "before" { &mut filters.before } else { &mut filters.since }) = Some(created);
                }
                "status" => {
                    if !["created", "running", "paused", "restarting", "exited", "dead"].contains(&value) {
                        return Err(filter.wrong("there is no such status"));
                    }
                    filters.wishes.push((key.to_owned(), value.to_owned()));
                }
                "health" => {
                    if !["starting", "healthy", "unhealthy", "none"].contains(&value) {
                        return Err(filter.wrong("there is no such health"));
                    }
                    filters.wishes.push((key.to_owned(), value.to_owned()));
                }
                "exited" if value.parse::<u8>().is_err() => return Err(filter.wrong("it is no exit code")),
                "publish" | "expose" if ports_of(value).is_none() => {
                    return Err(filter.wrong("give PORT[-PORT][/PROTOCOL]"));
                }
                "id" | "name" | "label" | "ancestor" | "exited" | "volume" | "network" | "publish"
                | "expose" => {
                    filters.wishes.push((key.to_owned(), value.to_owned()));
                }
                _ => return Err(filter.wrong("there is no such key")),
            }
        }
        Ok(filters)
    }

    fn names_a_status(&self) -> bool {
        self.wishes.iter().any(|(key, _)| matches!(key.as_str(), "status" | "exited"))
    }

    fn matches(&self, info: &ContainerInfo) -> bool {
        let one = |key: &str, value: &str| match key {
            "id" => info.id.as_str().starts_with(value),
            "name" => is_named(info.name.as_str(), value),
            "label" => match value.split_once('=') {
                Some((k, v)) => info.spec.labels.get(k).is_some_and(|known| known == v),
                None => info.spec.labels.contains_key(value),
            },
            "ancestor" => is_ancestor(info, value),
            "health" => health(&info.state) == value,
            "status" => info.state.status.as_str() == value,
            "exited" => {
                info.state.status == ContainerStatus::Exited
                    && info.state.exit.is_some_and(|exit| exit.code.to_string() == value)
            }
            "volume" => mounts(info).iter().any(|m| m == value) || targets(info).any(|t| t == value),
            "network" => is_on(info, value),
            "publish" => {
                let ports = info.spec.ports.iter().map(|port| (port.container_port, port.protocol));
                ports_of(value).is_some_and(|wanted| has_port(&wanted, ports))
            }
            "expose" => ports_of(value)
                .is_some_and(|wanted| has_port(&wanted, engine_api::exposed_ports(info).into_iter())),
            _ => false,
        };
        self.wishes.iter().all(|(key, value)| match key.as_str() {
            "label" => one(key, value),
            key => self.wishes.iter().any(|(other, value)| other == key && one(key, value)),
        }) && self.before.is_none_or(|time| info.created_at < time)
            && self.since.is_none_or(|time| info.created_at > time)
    }
}

/// Whether `name` has `pattern` in it; `^` and `$` bind it to the ends, and a `/` before it is the one of Docker's API.
fn is_named(name: &str, pattern: &str) -> bool {
    let from_start = pattern.starts_with('^');
    let text = pattern.trim_start_matches('^').trim_start_matches('/');
    match (from_start, text.strip_suffix('$')) {
        (true, Some(text)) => name == text,
        (true, None) => name.starts_with(text),
        (false, Some(text)) => name.ends_with(text),
        (false, None) => name.contains(text),
    }
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

fn targets(info: &ContainerInfo) -> impl Iterator<Item = String> {
    info.spec.mounts.iter().map(|mount| mount.target().display().to_string())
}

fn is_ancestor(info: &ContainerInfo, value: &str) -> bool {
    let hex = value.strip_prefix("sha256:").unwrap_or(value);
    let same_name = value
        .parse::<engine_core::Reference>()
        .ok()
        .zip(info.image.parse::<engine_core::Reference>().ok())
        .is_some_and(|(a, b)| a == b);
    same_name || (hex.len() >= 4 && info.image_id.hex().starts_with(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_docker_lets_them() {
        assert!(is_named("web1", "web") && is_named("web1", "eb1") && is_named("web1", "^/web1$"));
        assert!(is_named("web1", "^web") && is_named("web1", "1$"));
        assert!(!is_named("web1", "^eb") && !is_named("web1", "web$") && !is_named("web1", "^web$"));
        assert_eq!(ports_of("80-90/udp"), Some((80..=90, Protocol::Udp)));
        for wrong in ["90-80", "x", "80/x", "", "-1"] {
            assert_eq!(ports_of(wrong), None, "{wrong}");
        }
        assert!(has_port(&(80..=90, Protocol::Tcp), [(85, Protocol::Tcp)].into_iter()));
        assert!(!has_port(&(80..=90, Protocol::Tcp), [(85, Protocol::Udp)].into_iter()));
    }
}
