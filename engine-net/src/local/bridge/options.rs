//! The options of a bridge network, by the names that Docker gives them.

use engine_core::network::NetworkOptions;
use engine_core::{Error, ErrorKind, Name, Result};
use std::net::IpAddr;

const NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const DEFAULT: &str = "com.docker.network.bridge.default_bridge";
/// The others that Docker has, without a meaning here.
const IGNORED: [&str; 2] =
    ["com.docker.network.container_iface_prefix", "com.docker.network.bridge.inhibit_ipv4"];

/// What the options say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::local) struct BridgeOptions {
    /// Name of the bridge on the host.
    pub(in crate::local) bridge: String,
    pub(in crate::local) mtu: Option<u32>,
    /// Whether containers of the network reach each other.
    pub(in crate::local) icc: bool,
    /// Whether what leaves the network has the host's address.
    pub(in crate::local) masquerade: bool,
    /// Where ports are published that say nothing else.
    pub(in crate::local) host_binding: Option<IpAddr>,
    /// Whether it is the default network, which has no names.
    pub(in crate::local) default: bool,
}

impl BridgeOptions {
    /// Reads the options of the network with this id.
    pub(in crate::local) fn of(id: &str, name: &Name, options: &NetworkOptions) -> Result<Self> {
        let mut read = Self {
            bridge: format!("br-{}", &id[..id.len().min(12)]),
            mtu: None,
            icc: true,
            masquerade: true,
            host_binding: None,
            default: false,
        };
        for (key, value) in &options.driver_options {
            let wrong = |why: &str| {
                Error::new(ErrorKind::InvalidArgument, "create network")
                    .with("network", name)
                    .with("option", key)
                    .with("value", value)
                    .with_message(why.to_owned())
            };
            let truth = || value.parse::<bool>().map_err(|_| wrong("it is neither true nor false"));
            match key.as_str() {
                NAME => {
                    engine_core::linux::netlink::check_link_name(value)?;
                    read.bridge.clone_from(value);
                }
                MTU => {
                    // IPv6 needs 1280 (RFC 8200), IPv4 68 (RFC 791).
                    let least = if options.ipv6 { 1280 } else { 68 };
                    let mtu = value.parse().ok().filter(|mtu| (least..=65_535).contains(mtu));
                    read.mtu =
                        Some(mtu.ok_or_else(|| wrong("it is no MTU from 68 (with IPv6 1280) to 65535"))?);
                }
                ICC => read.icc = truth()?,
                MASQUERADE => read.masquerade = truth()?,
                HOST_BINDING => {
                    let address: IpAddr = value.parse().map_err(|_| wrong("it is no IP address"))?;
                    read.host_binding = Some(address).filter(|address| !address.is_unspecified());
                }
                DEFAULT => read.default = truth()?,
                key if IGNORED.contains(&key) => {}
                _ => {
                    return Err(wrong("the driver bridge does not know the option").with_hint(
                        "it knows com.docker.network.bridge.{name,enable_icc,enable_ip_masquerade,host_binding_ipv4} and \
                         com.docker.network.driver.mtu",
                    ));
                }
            }
        }
        Ok(read)
    }

    /// Says that the options are those of the default network.
    pub(in crate::local) fn mark_default(options: &mut NetworkOptions, bridge: &str) {
        for (key, value) in [(NAME, bridge), (DEFAULT, "true"), (ICC, "true"), (MASQUERADE, "true")] {
            options.driver_options.insert(key.to_owned(), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<BridgeOptions> {
        let options = NetworkOptions::default().with_driver_option(key, value);
        BridgeOptions::of("0123456789abcdef", &"net".parse().unwrap(), &options)
    }

    #[test]
    fn dockers_options_are_read() {
        assert_eq!(read(MTU, "1400").unwrap().mtu, Some(1400));
        assert_eq!(read(MTU, "1400").unwrap().bridge, "br-0123456789ab");
        assert_eq!(read(NAME, "lan").unwrap().bridge, "lan");
        assert!(!read(ICC, "false").unwrap().icc);
        assert_eq!(read(HOST_BINDING, "0.0.0.0").unwrap().host_binding, None);
        for (key, value) in [
            (MTU, "x"),
            (MTU, "67"),
            (ICC, "maybe"),
            (NAME, "a/b"),
            (HOST_BINDING, "lo"),
            ("com.example", "1"),
        ] {
            assert_eq!(read(key, value).unwrap_err().kind(), ErrorKind::InvalidArgument, "{key}={value}");
        }
    }
}
