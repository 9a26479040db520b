//! Ports as `EXPOSE` has them.

use crate::error::{Error, ErrorKind, Result};

/// Returns the image's ports, `80/tcp`, of expanded words: `80`, `8000-8010/udp`.
///
/// As in Docker, an address and a port of the host in front (`127.0.0.1:8080:80`) are read, and mean nothing.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for what is no port.
pub fn parse_ports(words: &[String]) -> Result<Vec<String>> {
    let mut ports = Vec::new();
    for word in words {
        let wrong = |message: &str| {
            Error::new(ErrorKind::InvalidArgument, "read port")
                .with("port", word)
                .with_message(message)
                .with_hint("give something like 80, 53/udp or 8000-8010")
        };
        let Parts { address, host, container, protocol } = Parts::of(word);
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(wrong("the protocol is not tcp, udp or sctp"));
        }
        let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
        if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(wrong("what is in front of the port of the host is no IP address"));
        }
        let (first, last) = range(container).ok_or_else(|| wrong("it is no port and no range of ports"))?;
        if !host.is_empty() {
            let (from, to) = range(host).ok_or_else(|| wrong("the port of the host is none"))?;
            if to - from != last - first && first != last {
                return Err(wrong("both ranges must have as many ports"));
            }
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

/// A port as it is written.
pub(in crate::dockerfile) struct Parts<'a> {
    pub(in crate::dockerfile) address: &'a str,
    pub(in crate::dockerfile) host: &'a str,
    pub(in crate::dockerfile) container: &'a str,
    pub(in crate::dockerfile) protocol: &'a str,
}

impl<'a> Parts<'a> {
    pub(in crate::dockerfile) fn of(text: &'a str) -> Self {
        let (front, container) = text.rsplit_once(':').unwrap_or(("", text));
        let (address, host) = front.rsplit_once(':').unwrap_or(("", front));
        let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        Self { address, host, container, protocol }
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        for (text, expected) in [
            ("80", Some(vec!["80/tcp"])),
            ("53/UDP", Some(vec!["53/udp"])),
            ("8000-8002/sctp", Some(vec!["8000/sctp", "8001/sctp", "8002/sctp"])),
            ("8080:80", Some(vec!["80/tcp"])),
            ("127.0.0.1:8080:80", Some(vec!["80/tcp"])),
            ("[::1]:8080:80", Some(vec!["80/tcp"])),
            ("8000-8001:80", Some(vec!["80/tcp"])),
            ("80/", Some(vec!["80/tcp"])),
            ("", None),
            ("/tcp", None),
            ("http", None),
            ("80/icmp", None),
            ("70000", None),
            ("90-80", None),
            ("80-", None),
            ("+80", None),
            ("nowhere:8080:80", None),
            ("8000-8001:80-83", None),
        ] {
            let found = parse_ports(&[text.to_owned()]).ok();
            assert_eq!(found, expected.map(|all| all.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }
}
