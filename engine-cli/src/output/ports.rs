//! Ports of a container, as `ps` and `port` show them.

use std::net::IpAddr;

use engine_api::models::PortSummary;

/// Returns the name of a port's transport.
pub(crate) fn protocol(port: &PortSummary) -> String {
    port.typ.as_ref().map_or_else(|| "tcp".to_owned(), ToString::to_string)
}

/// Returns where on the host a port is published, if it is: `0.0.0.0:8080`.
pub(crate) fn place(port: &PortSummary) -> Option<String> {
    Some(format!("{}:{}", host(port)?, port.public_port?))
}

fn host(port: &PortSummary) -> Option<String> {
    let address: IpAddr = port.ip.as_ref()?.parse().ok()?;
    Some(match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    })
}

/// A run of ports that follow each other, of one transport and one address, each published under its own number.
struct Run {
    host: Option<String>,
    protocol: String,
    first: u16,
    last: u16,
}

impl Run {
    fn show(&self) -> String {
        let range = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match &self.host {
            Some(host) => format!("{host}:{range}->{range}/{}", self.protocol),
            None => format!("{range}/{}", self.protocol),
        }
    }
}

/// Returns the column PORTS: runs first, then what is published under another number, as in Docker.
pub(crate) fn column(ports: &[PortSummary]) -> String {
    let mut shown = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    let mut moved = Vec::new();
    for port in ports {
        let (host, protocol) = (host(port), protocol(port));
        if let Some(place) = place(port)
            && port.public_port != Some(port.private_port)
        {
            moved.push(format!("{place}->{}/{protocol}", port.private_port));
            continue;
        }
        let number = port.private_port;
        match runs.iter_mut().find(|run| (&run.host, &run.protocol) == (&host, &protocol)) {
            Some(run) if run.last.checked_add(1) == Some(number) => run.last = number,
            Some(run) => {
                shown.push(run.show());
                (run.first, run.last) = (number, number);
            }
            None => runs.push(Run { host, protocol, first: number, last: number }),
        }
    }
    shown.extend(runs.iter().map(Run::show));
    shown.extend(moved);
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use engine_api::models::PortSummaryTypeEnum;

    use super::*;

    fn port(private: u16, host: Option<(&str, u16)>, typ: PortSummaryTypeEnum) -> PortSummary {
        PortSummary {
            ip: host.map(|(ip, _)| ip.to_owned()),
            private_port: private,
            public_port: host.map(|(_, public)| public),
            typ: Some(typ),
        }
    }

    #[test]
    fn runs_are_joined_and_what_is_moved_comes_last() {
        use PortSummaryTypeEnum::{TCP, UDP};
        let ports = [
            port(80, Some(("0.0.0.0", 8080)), TCP),
            port(80, Some(("::", 8080)), TCP),
            port(90, Some(("0.0.0.0", 90)), TCP),
            port(91, Some(("0.0.0.0", 91)), TCP),
            port(93, Some(("0.0.0.0", 93)), TCP),
            port(53, None, UDP),
            port(54, None, UDP),
        ];
        assert_eq!(
            column(&ports),
            "0.0.0.0:90-91->90-91/tcp, 0.0.0.0:93->93/tcp, 53-54/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(column(&[]), "");
    }
}
