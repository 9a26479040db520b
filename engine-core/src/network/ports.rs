//! Published ports in Docker's notation: `[HOST-IP:][HOST-PORT[-LAST]:]PORT[-LAST][/PROTOCOL]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::error::{Error, ErrorKind, Result};

use super::{PortMapping, Protocol};

/// Parses one `-p` argument into the mappings it stands for: one for each port of a range.
///
/// A host port of 0 asks for any free one. IPv6 addresses stand in brackets.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], naming what is wrong.
pub fn parse_port(text: &str) -> Result<Vec<PortMapping>> {
    let wrong = |why: String| {
        Error::new(ErrorKind::InvalidArgument, "parse published port")
            .with("port", text)
            .with_message(why)
            .with_hint("for example 80, 8080:80, 127.0.0.1:8080:80/tcp or [::1]:53:53/udp")
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol: Protocol = protocol
        .parse()
        .map_err(|_| wrong(format!("the protocol {protocol:?} is none of tcp, udp, sctp")))?;
    let (host, container) = match ports.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, ports),
    };
    let (address, host_ports) = match host {
        None => (None, ""),
        Some(host) => match host.rsplit_once(':') {
            Some((address, ports)) => (Some(address), ports),
            None => (None, host),
        },
    };
    let host_ip = match address {
        None | Some("") => None,
        Some(address) => {
            let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            Some(bare.parse::<IpAddr>().map_err(|_| wrong(format!("{address:?} is no IP address")))?)
        }
    };
    let container = range(container).filter(|r| *r.start() > 0).ok_or_else(|| {
        wrong(format!("the container's port {container:?} is not a number from 1 to 65535 or a range"))
    })?;
    let host = match host_ports {
        "" => None,
        ports => Some(
            range(ports).ok_or_else(|| wrong(format!("the host's port {ports:?} is no port or range")))?,
        ),
    };
    if let Some(host) = &host
        && host.len() != container.len()
    {
        return Err(wrong("the ranges of the host's and the container's ports differ in length".to_owned()));
    }
    let first_host = host.map(|range| *range.start());
    Ok((0..container.len())
        .filter_map(|offset| u16::try_from(offset).ok())
        .map(|offset| {
            let mut mapping = PortMapping::new(container.start() + offset);
            mapping.host_ip = host_ip;
            mapping.host_port = first_host.map_or(0, |first| first + offset);
            mapping.protocol = protocol;
            mapping
        })
        .collect())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // "+80" would be a number to `parse`.
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let one = |m: PortMapping| {
            let ip = m.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            format!("{ip},{}->{}/{}", m.host_port, m.container_port, m.protocol)
        };
        parse_port(text).unwrap().into_iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn dockers_notations_are_read() {
        assert_eq!(show("80"), "*,0->80/tcp");
        assert_eq!(show("8080:80/UDP"), "*,8080->80/udp");
        assert_eq!(show("127.0.0.1::80"), "127.0.0.1,0->80/tcp");
        assert_eq!(show("[::1]:53:53/udp"), "::1,53->53/udp");
        assert_eq!(show("8000-8001:80-81"), "*,8000->80/tcp *,8001->81/tcp");
        assert_eq!(show("0:80"), "*,0->80/tcp");
    }

    #[test]
    fn malformed_ports_are_refused() {
        for text in [
            "",
            "x",
            "0",
            "65536",
            "80/x",
            "a:80",
            "1.2.3:80:80",
            "81-80",
            "1-2:80",
            "80:",
            ":",
            "+80",
            "-1",
            "1-:2-",
        ] {
            let error = parse_port(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }
}
