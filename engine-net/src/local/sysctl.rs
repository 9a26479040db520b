//! Settings of the kernel below /proc/sys/net that networks need (ip-sysctl.rst of the kernel).

use std::fs;
use std::io;

use engine_core::network::NetworkInfo;
use engine_core::{Error, Result};

/// Writes `value`, unless it is that already. Without `/proc/sys/net/ipv6` there is no IPv6 to set.
fn set(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{path}");
    let written = match fs::read_to_string(&path) {
        Ok(text) if text.trim_end() == value => Ok(()),
        Ok(_) => fs::write(&path, value),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.contains("/ipv6/") => Ok(()),
        Err(error) => Err(error),
    };
    written.map_err(|error| Error::from_io("set sysctl", error).with("path", path))
}

fn has_ipv6(network: &NetworkInfo) -> bool {
    network.options.subnets.iter().any(|subnet| subnet.subnet.is_ipv6())
}

/// Settings of a network's bridge that is not up yet.
pub(super) fn prepare_bridge(bridge: &str, network: &NetworkInfo) -> Result<()> {
    let v6 = has_ipv6(network);
    // What comes over a bridge of containers is no router of ours (CVE-2020-13401).
    set(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
    set(&format!("ipv6/conf/{bridge}/disable_ipv6"), if v6 { "0" } else { "1" })?;
    // Connections from 127.0.0.1 leave over the bridge, translated; what comes in for 127.0.0.0/8 is dropped by a rule.
    set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
    if network.options.internal {
        return Ok(());
    }
    set("ipv4/ip_forward", "1")?;
    if v6 {
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Keeps an interface of the host that is not up yet without addresses of its own making.
pub(super) fn without_ipv6(interface: &str) -> Result<()> {
    // A point in a name, as in eth0.10, is a slash in a path only to sysctl(8).
    set(&format!("ipv6/conf/{interface}/disable_ipv6"), "1")
}

/// Settings of a container's network namespace, for its interface that is not up yet. Called in that namespace.
pub(super) fn prepare_sandbox(interface: &str, network: &NetworkInfo) -> Result<()> {
    if has_ipv6(network) {
        for path in ["ipv6/conf/all/disable_ipv6", "ipv6/conf/lo/disable_ipv6"] {
            set(path, "0")?;
        }
        set(&format!("ipv6/conf/{interface}/disable_ipv6"), "0")?;
    } else {
        set(&format!("ipv6/conf/{interface}/disable_ipv6"), "1")?;
    }
    set(&format!("ipv6/conf/{interface}/accept_ra"), "0")
}
