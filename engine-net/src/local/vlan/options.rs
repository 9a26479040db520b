//! The options of macvlan and ipvlan networks, by the names that Docker gives them.

use engine_core::linux::netlink::check_link_name;
use engine_core::linux::netlink::packet::link::{InfoData, InfoIpVlan, InfoKind, InfoMacVlan, MacVlanMode};
use engine_core::linux::netlink::packet::link::{IpVlanFlags, IpVlanMode};
use engine_core::network::NetworkOptions;
use engine_core::{Error, ErrorKind, Name, Result};

use crate::local::records::Way;

const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";

/// What the options say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::local) struct VlanOptions {
    /// The interface of the host that endpoints are made over.
    pub(in crate::local) parent: String,
    /// Whether none was given: it is made for this network, and nobody else is on it.
    pub(in crate::local) parent_is_own: bool,
    pub(in crate::local) mode: Mode,
}

/// What an endpoint's interface is, and whom it exchanges packets with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::local) enum Mode {
    MacVlan(MacVlanMode),
    IpVlan(IpVlanMode, IpVlanFlags),
}

impl Mode {
    /// Docker's name of the driver.
    pub(in crate::local) fn driver(self) -> &'static str {
        match self {
            Self::MacVlan(_) => "macvlan",
            Self::IpVlan(..) => "ipvlan",
        }
    }

    /// The kernel's kind of interface.
    pub(in crate::local) fn kind(self) -> InfoKind {
        match self {
            Self::MacVlan(_) => InfoKind::MacVlan,
            Self::IpVlan(..) => InfoKind::IpVlan,
        }
    }

    /// How an interface of this mode is asked for.
    pub(in crate::local) fn data(self) -> InfoData {
        match self {
            Self::MacVlan(mode) => InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]),
            Self::IpVlan(mode, flags) => {
                InfoData::IpVlan(vec![InfoIpVlan::Mode(mode), InfoIpVlan::Flags(flags)])
            }
        }
    }
}

impl VlanOptions {
    /// Reads the options of the network with this id and driver.
    pub(in crate::local) fn of(
        driver: &str,
        id: &str,
        name: &Name,
        options: &NetworkOptions,
    ) -> Result<Self> {
        let mut parent = None;
        let (mut macvlan, mut layer, mut flags) = (MacVlanMode::Bridge, IpVlanMode::L2, IpVlanFlags::empty());
        for (key, value) in &options.driver_options {
            let wrong = |why: &str| {
                Error::new(ErrorKind::InvalidArgument, "create network")
                    .with("network", name)
                    .with("option", key)
                    .with("value", value)
                    .with_message(why.to_owned())
            };
            match (driver, key.as_str()) {
                (_, PARENT) => {
                    check_link_name(value)?;
                    parent = Some(value.clone());
                }
                ("macvlan", MACVLAN_MODE) => {
                    macvlan = match value.as_str() {
                        "bridge" => MacVlanMode::Bridge,
                        "private" => MacVlanMode::Private,
                        "vepa" => MacVlanMode::Vepa,
                        "passthru" => MacVlanMode::Passthrough,
                        _ => return Err(wrong("the modes are bridge, private, vepa and passthru")),
                    };
                }
                ("ipvlan", IPVLAN_MODE) => {
                    layer = match value.as_str() {
                        "l2" => IpVlanMode::L2,
                        "l3" => IpVlanMode::L3,
                        "l3s" => IpVlanMode::L3S,
                        _ => return Err(wrong("the modes are l2, l3 and l3s")),
                    };
                }
                ("ipvlan", IPVLAN_FLAG) => {
                    flags = match value.as_str() {
                        "bridge" => IpVlanFlags::empty(),
                        "private" => IpVlanFlags::Private,
                        "vepa" => IpVlanFlags::Vepa,
                        _ => return Err(wrong("the flags are bridge, private and vepa")),
                    };
                }
                _ => {
                    let known = if driver == "macvlan" { MACVLAN_MODE } else { "ipvlan_mode, ipvlan_flag" };
                    return Err(wrong(&format!("the driver {driver} does not know the option"))
                        .with_hint(format!("it knows {PARENT}, {known}")));
                }
            }
        }
        Ok(Self {
            parent_is_own: parent.is_none(),
            // As Docker calls it.
            parent: parent.unwrap_or_else(|| format!("dm-{}", &id[..id.len().min(12)])),
            mode: if driver == "macvlan" { Mode::MacVlan(macvlan) } else { Mode::IpVlan(layer, flags) },
        })
    }

    /// The interface and the VLAN that the parent's name means, if it is of that form: `eth0.10`.
    pub(in crate::local) fn tag(&self) -> Option<(&str, u32)> {
        let (base, id) = self.parent.rsplit_once('.')?;
        let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        Some((base, id.parse().ok().filter(|_| is_number && !base.is_empty())?))
    }

    /// Whether the parent is made where it is not there.
    pub(in crate::local) fn can_make_parent(&self) -> bool {
        self.parent_is_own || self.tag().is_some()
    }

    /// Whether endpoints have the parent's hardware address: it is all that the parent lets in.
    pub(in crate::local) fn shares_hardware_address(&self) -> bool {
        matches!(self.mode, Mode::IpVlan(..) | Mode::MacVlan(MacVlanMode::Passthrough))
    }

    /// How packets leave: in the modes l3 and l3s, the host routes, and there is no router to ask for.
    pub(in crate::local) fn way(&self) -> Way {
        match self.mode {
            Mode::IpVlan(IpVlanMode::L3 | IpVlanMode::L3S, _) => Way::Interface,
            _ => Way::Routers,
        }
    }

    /// Why there cannot be a network with these options beside the network `name` with `other`, on the same parent.
    pub(in crate::local) fn conflict(&self, name: &Name, other: &Self) -> Option<String> {
        let parent = &self.parent;
        let passthrough = |options: &Self| options.mode == Mode::MacVlan(MacVlanMode::Passthrough);
        match (self.mode, other.mode) {
            (Mode::MacVlan(_), Mode::MacVlan(_)) if passthrough(self) || passthrough(other) => Some(format!(
                "macvlan network {name} is already using parent interface {parent}, and a network in mode passthru has \
                     its parent alone"
            )),
            (Mode::IpVlan(..), Mode::IpVlan(..)) => {
                Some(format!("network {name} is already using parent interface {parent}"))
            }
            // One of the two at a time, which is for the containers to say.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(driver: &str, list: &[(&str, &str)]) -> Result<VlanOptions> {
        let options = list.iter().fold(NetworkOptions::default(), |options, (key, value)| {
            options.with_driver_option(*key, *value)
        });
        VlanOptions::of(driver, "0123456789abcdef", &"net".parse().unwrap(), &options)
    }

    #[test]
    fn dockers_options_are_read() {
        let own = read("macvlan", &[]).unwrap();
        assert_eq!((own.parent.as_str(), own.parent_is_own), ("dm-0123456789ab", true));
        assert_eq!(own.mode, Mode::MacVlan(MacVlanMode::Bridge));
        let vepa = read("macvlan", &[(PARENT, "eth0"), (MACVLAN_MODE, "vepa")]).unwrap();
        assert_eq!((vepa.parent.as_str(), vepa.mode), ("eth0", Mode::MacVlan(MacVlanMode::Vepa)));
        let routed = read("ipvlan", &[(PARENT, "eth0.7"), (IPVLAN_MODE, "l3s"), (IPVLAN_FLAG, "private")]);
        let routed = routed.unwrap();
        assert_eq!(routed.mode, Mode::IpVlan(IpVlanMode::L3S, IpVlanFlags::Private));
        assert_eq!((routed.tag(), routed.way()), (Some(("eth0", 7)), Way::Interface));
        for (driver, key, value) in [
            ("macvlan", MACVLAN_MODE, "l2"),
            ("macvlan", IPVLAN_MODE, "l2"),
            ("ipvlan", IPVLAN_MODE, "l4"),
            ("ipvlan", IPVLAN_FLAG, "passthru"),
            ("ipvlan", PARENT, "a/b"),
            ("macvlan", "com.docker.network.bridge.name", "x"),
        ] {
            let error = read(driver, &[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{driver} {key}={value}");
        }
    }

    #[test]
    fn parents_are_shared_as_with_docker() {
        let net = "other".parse().unwrap();
        let of =
            |driver: &str, key: &str, value: &str| read(driver, &[(PARENT, "eth0"), (key, value)]).unwrap();
        let [bridge, private, alone] =
            ["bridge", "private", "passthru"].map(|m| of("macvlan", MACVLAN_MODE, m));
        let ipvlan = of("ipvlan", IPVLAN_MODE, "l2");
        assert_eq!(bridge.conflict(&net, &private), None);
        assert_eq!(bridge.conflict(&net, &ipvlan), None);
        for (one, two) in [(&bridge, &alone), (&alone, &private), (&ipvlan, &ipvlan)] {
            assert!(one.conflict(&net, two).unwrap().contains("already using parent interface eth0"));
        }
    }

    #[test]
    fn tags_are_the_last_word_of_a_name() {
        let tag = |parent: &str| {
            let options = read("macvlan", &[(PARENT, parent)]).unwrap();
            options.tag().map(|(base, id)| (base.to_owned(), id))
        };
        assert_eq!(tag("eth0.10"), Some(("eth0".to_owned(), 10)));
        assert_eq!(tag("eth0.10.20"), Some(("eth0.10".to_owned(), 20)));
        for none in ["eth0", "eth0.", ".10", "eth0.x", "eth0.+1"] {
            assert_eq!(tag(none), None, "{none}");
        }
    }
}
