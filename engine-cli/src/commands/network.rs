//! `network ls`, `create`, `rm`, `inspect`, `prune`, `connect`, `disconnect`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};
use engine_core::engine::LabelFilter;
use engine_core::network::{EndpointOptions, Link, NetworkInfo, NetworkOptions, Subnet, SubnetOptions};
use engine_core::{Engine, ErrorKind, Name};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::options::filter::Filter;
use crate::options::list::ListArgs;
use crate::options::{env, network};
use crate::output::table::Listing;
use crate::output::{self, human};

use super::{inspect, prune};

/// `engine-cli network …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// List networks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Create a network
    Create(CreateArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove networks that no container is on
    Prune(prune::PruneArgs),
    /// Show networks as JSON
    Inspect(inspect::OneKindArgs),
    /// Put a container on a network
    Connect(ConnectArgs),
    /// Take a container off a network
    Disconnect(DisconnectArgs),
}

/// `network ls`'s flags.
#[derive(Args, Debug)]
#[command(mut_arg("filter", |arg| arg.help("Show only those that match: dangling, driver, id, label, name, scope, type")))]
pub(crate) struct LsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
}

/// `network create`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Driver: bridge, macvlan or ipvlan
    #[arg(short, long, value_name = "DRIVER")]
    driver: Option<String>,
    /// Subnet, as 172.28.0.0/16
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<Subnet>,
    /// Router's address in a subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// Part of a subnet that containers get addresses of
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<Subnet>,
    /// Address in a subnet that is another's
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Use IPv4
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Use IPv6
    #[arg(long, value_name = "BOOL", default_value_t = false, hide_default_value = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    ipv6: bool,
    /// Give it no way out
    #[arg(long)]
    internal: bool,
    /// Shown, and without a meaning on one host
    #[arg(long)]
    attachable: bool,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Who gives out addresses
    #[arg(long, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// Option of that one
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// The name
    #[arg(value_name = "NETWORK")]
    name: Name,
}

/// `network rm`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Say nothing about networks that are gone
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

/// `network connect`'s flags.
#[derive(Args, Debug)]
pub(crate) struct ConnectArgs {
    /// Another name of the container on this network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Option of the driver
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// Of its networks, the one of the highest priority has the default route
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true)]
    gw_priority: i32,
    /// Another container, under a name that this one alone knows
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<Link>,
    /// Not supported: said so, since Docker has it
    #[arg(long, value_name = "ADDRESS", hide = true)]
    link_local_ip: Vec<String>,
    /// Name or id
    network: String,
    /// Name or id
    container: String,
}

/// `network disconnect`'s flags.
#[derive(Args, Debug)]
pub(crate) struct DisconnectArgs {
    /// Take it off a network that its record does not name
    #[arg(short, long)]
    force: bool,
    /// Name or id
    network: String,
    /// Name or id
    container: String,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("LabelMap", ""),
        ("CreatedAt", "CREATED AT"),
    ],
    quiet: "ID",
};

/// Runs a command of networks.
pub(crate) async fn run(context: &Context, command: NetworkCommand) -> Result<u8> {
    match command {
        NetworkCommand::Ls(args) => ls(context, &args).await,
        NetworkCommand::Create(args) => {
            let (name, options) = (args.name.clone(), args.options()?);
            let made = context.engine().await?.create_network(&name, &options).await?;
            output::line(made.id)?;
            Ok(0)
        }
        NetworkCommand::Rm(args) => {
            let engine = context.engine().await?;
            let mut several = Several::default();
            for name in &args.names {
                let removed = async {
                    match engine.remove_network(name).await {
                        Err(error) if error.kind() == ErrorKind::NotFound && args.force => Ok(()),
                        removed => {
                            removed?;
                            output::line(name)
                        }
                    }
                };
                several.note(removed.await);
            }
            several.finish()
        }
        NetworkCommand::Prune(args) => prune::networks(context, &args).await,
        NetworkCommand::Inspect(args) => inspect::inspect(context, &args.of(inspect::Kind::Network)).await,
        NetworkCommand::Connect(args) => {
            let options = args.options()?;
            let engine = context.engine().await?;
            engine.container(&args.container).await?.connect(&args.network, options).await?;
            Ok(0)
        }
        NetworkCommand::Disconnect(args) => {
            let engine = context.engine().await?;
            engine.container(&args.container).await?.disconnect(&args.network, args.force).await?;
            Ok(0)
        }
    }
}

impl CreateArgs {
    fn options(&self) -> Result<NetworkOptions> {
        let mut options = NetworkOptions::default();
        options.driver.clone_from(&self.driver);
        options.subnets = self.subnets()?;
        (options.ipv4, options.ipv6) = (self.ipv4, self.ipv6);
        (options.internal, options.attachable) = (self.internal, self.attachable);
        options.labels = env::labels(&[], &self.label)?;
        options.driver_options = env::labels(&[], &self.options)?;
        options.ipam_driver.clone_from(&self.ipam_driver);
        options.ipam_options = env::labels(&[], &self.ipam_opt)?;
        Ok(options)
    }

    /// Puts gateways, ranges and addresses to the subnets they are of. The messages are Docker's.
    fn subnets(&self) -> Result<Vec<SubnetOptions>> {
        let wrong = |why: String| Failure::usage(why);
        let mut all: Vec<SubnetOptions> = Vec::new();
        for subnet in &self.subnet {
            if all.iter().any(|known| known.subnet.overlaps(subnet)) {
                return Err(wrong("multiple overlapping subnet configuration is not supported".to_owned()));
            }
            all.push((*subnet).into());
        }
        if all.is_empty() && !(self.gateway.is_empty() && self.ip_range.is_empty()) {
            return Err(wrong("every ip-range or gateway must have a corresponding subnet".to_owned()));
        }
        for range in &self.ip_range {
            let one = all
                .iter_mut()
                .find(|known| known.subnet.holds(range))
                .ok_or_else(|| wrong(format!("no matching subnet for range {range}")))?;
            if let Some(other) = one.ip_range.replace(*range) {
                return Err(wrong(format!(
                    "cannot configure multiple ranges ({range}, {other}) on the same subnet ({})",
                    one.subnet
                )));
            }
        }
        for gateway in &self.gateway {
            let one = all
                .iter_mut()
                .find(|known| known.subnet.contains(*gateway))
                .ok_or_else(|| wrong(format!("no matching subnet for gateway {gateway}")))?;
            if let Some(other) = one.gateway.replace(*gateway) {
                return Err(wrong(format!(
                    "cannot configure multiple gateways ({gateway}, {other}) on the same subnet ({})",
                    one.subnet
                )));
            }
        }
        for text in &self.aux_address {
            let given = text
                .split_once('=')
                .and_then(|(name, address)| Some((name, address.parse::<IpAddr>().ok()?)));
            let (name, address) =
                given.ok_or_else(|| wrong(format!("invalid aux-address {text:?}: give NAME=ADDRESS")))?;
            let one = all
                .iter_mut()
                .find(|known| known.subnet.contains(address))
                .ok_or_else(|| wrong(format!("no matching subnet for aux-address {address}")))?;
            one.aux_addresses.insert(name.to_owned(), address);
        }
        Ok(all)
    }
}

impl ConnectArgs {
    fn options(&self) -> Result<EndpointOptions> {
        network::refuse_addresses(&self.link_local_ip)?;
        let mut options = EndpointOptions::default()
            .with_aliases(self.alias.iter().cloned())
            .with_links(self.link.iter().cloned());
        (options.ipv4, options.ipv6) = (self.ip, self.ip6);
        options.gateway_priority = self.gw_priority;
        for text in &self.driver_opt {
            network::driver_option(&mut options, text)?;
        }
        Ok(options)
    }
}

async fn ls(context: &Context, args: &LsArgs) -> Result<u8> {
    let filters = Filters::parse(&args.list.filter)?;
    let engine = context.engine().await?;
    let networks = engine.networks().await?;
    let rows: Vec<Value> = networks
        .iter()
        .filter(|info| filters.matches(&engine, info))
        .map(|info| row(info, args.no_trunc))
        .collect();
    args.list.print(&LISTING, &rows)?;
    Ok(0)
}

fn row(info: &NetworkInfo, full: bool) -> Value {
    let options = &info.options;
    let labels: Vec<String> = options.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "ID": if full { &info.id } else { info.id.get(..12).unwrap_or(&info.id) },
        "Name": info.name.as_str(),
        "Driver": options.driver.as_deref().unwrap_or_default(),
        "Scope": "local",
        "IPv4": options.ipv4.to_string(),
        "IPv6": options.ipv6.to_string(),
        "Internal": options.internal.to_string(),
        "Labels": labels.join(","),
        "LabelMap": options.labels,
        "CreatedAt": human::listed(info.created_at),
    })
}

/// What `--filter` asks for. Values of one key are alternatives, except labels; keys must all match.
#[derive(Debug, Default)]
struct Filters {
    dangling: Option<bool>,
    labels: Vec<LabelFilter>,
    wishes: Vec<(String, String)>,
}

impl Filters {
    fn parse(texts: &[String]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let filter = Filter::parse(text)?;
            let Filter { key, value, .. } = filter;
            match key {
                "dangling" => filters.dangling = Some(filter.flag()?),
                "label" => filters.labels.push(LabelFilter::parse(value, true)),
                "label!" => filters.labels.push(LabelFilter::parse(value, false)),
                "type" if !matches!(value, "custom" | "builtin") => {
                    return Err(filter.wrong("the types are custom and builtin"));
                }
                "driver" | "id" | "name" | "scope" | "type" => {
                    filters.wishes.push((key.to_owned(), value.to_owned()));
                }
                _ => {
                    return Err(
                        filter.wrong("the keys are dangling, driver, id, label, name, scope and type")
                    );
                }
            }
        }
        Ok(filters)
    }

    fn matches(&self, engine: &Engine, info: &NetworkInfo) -> bool {
        let is_custom = !engine.is_predefined(&info.name);
        let one = |key: &str, value: &str| match key {
            "driver" => info.options.driver.as_deref() == Some(value),
            "id" => info.id.starts_with(value),
            "name" => info.name.as_str().contains(value),
            "scope" => value == "local",
            _ => (value == "custom") == is_custom,
        };
        let wished = |key: &str| self.wishes.iter().any(|(other, value)| other == key && one(key, value));
        // A network that nobody made is there whether or not it is used.
        self.dangling.is_none_or(|wish| is_custom && wish == info.endpoints.is_empty())
            && self.labels.iter().all(|label| label.matches(|key| info.options.labels.get(key)))
            && self.wishes.iter().all(|(key, _)| wished(key))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn create(words: &[&str]) -> Result<NetworkOptions> {
        let words = ["engine-cli", "network", "create"].iter().chain(words).chain(&["lan"]);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Network(command) => match command.0 {
                NetworkCommand::Create(args) => args.options(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_of_subnets_find_theirs() {
        let options = create(&[
            "--subnet",
            "10.1.0.0/16",
            "--subnet",
            "fd00:1::/64",
            "--gateway",
            "fd00:1::1",
            "--gateway",
            "10.1.0.254",
            "--ip-range",
            "10.1.4.0/24",
            "--aux-address",
            "router=10.1.4.9",
            "--internal",
            "--ipv4=false",
            "--label",
            "a=b",
            "-o",
            "k=v",
            "-d",
            "bridge",
        ])
        .unwrap();
        assert_eq!(options.subnets[0].gateway, Some("10.1.0.254".parse().unwrap()));
        assert_eq!(options.subnets[0].ip_range, Some("10.1.4.0/24".parse().unwrap()));
        assert_eq!(options.subnets[0].aux_addresses["router"], "10.1.4.9".parse::<IpAddr>().unwrap());
        assert_eq!(options.subnets[1].gateway, Some("fd00:1::1".parse().unwrap()));
        assert!(options.internal && !options.ipv4 && !options.ipv6);
        assert_eq!((&options.labels["a"], &options.driver_options["k"]), (&"b".to_owned(), &"v".to_owned()));
        assert_eq!(create(&[]).unwrap(), NetworkOptions::default());
    }

    #[test]
    fn parts_of_no_subnet_are_refused() {
        for (words, part) in [
            (&["--gateway", "10.1.0.1"][..], "must have a corresponding subnet"),
            (
                &["--subnet", "10.1.0.0/16", "--gateway", "10.2.0.1"],
                "no matching subnet for gateway 10.2.0.1",
            ),
            (&["--subnet", "10.1.0.0/24", "--ip-range", "10.1.0.0/16"], "no matching subnet for range"),
            (&["--subnet", "10.1.0.0/16", "--subnet", "10.1.2.0/24"], "multiple overlapping subnet"),
            (
                &["--subnet", "10.1.0.0/16", "--gateway", "10.1.0.1", "--gateway", "10.1.0.2"],
                "cannot configure multiple gateways",
            ),
            (&["--subnet", "10.1.0.0/16", "--aux-address", "x"], "NAME=ADDRESS"),
            (
                &["--subnet", "10.1.0.0/16", "--aux-address", "x=10.2.0.1"],
                "no matching subnet for aux-address",
            ),
        ] {
            let failure = create(words).unwrap_err().to_string();
            assert!(failure.contains(part), "{words:?}: {failure}");
        }
    }
}
