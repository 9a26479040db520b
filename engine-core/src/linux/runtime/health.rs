//! Health checks: as steps of the launch plan, and what the shim found.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, Result};
use crate::health::{Health, HealthAction, HealthProbe, HealthResult, HealthSpec, MAX_OUTPUT, MAX_RESULTS};
use crate::linux::plan::format::{self, health, option};
use crate::linux::plan::{HealthPlan, ProcessPlan};
use crate::linux::shim::{Failure, Names, ShimState};

/// Files of results are `health.0` and so on.
pub(super) const FILE: &str = "health.";
/// Lines before the output, and the output.
const MAX_FILE: u64 = 512 + MAX_OUTPUT as u64;

/// Makes the plan of a health check in a container whose process is `process`.
pub(super) fn plan(spec: &HealthSpec, process: &ProcessPlan) -> Result<HealthPlan> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let kind = match &spec.probe {
        HealthProbe::Command(_) => health::COMMAND,
        HealthProbe::Tcp(_) => health::TCP,
        HealthProbe::Http { .. } => health::HTTP,
        other => {
            return Err(Error::new(ErrorKind::InvalidArgument, "prepare health check")
                .with_message(format!("a runtime cannot carry out {other:?}")));
        }
    };
    let rule = format::Health {
        kind,
        action: match spec.on_failure {
            HealthAction::None => health::NOTHING,
            HealthAction::Kill => health::KILL,
            HealthAction::Restart => health::RESTART,
            HealthAction::Stop => health::STOP,
        },
        interval_ms: millis(spec.interval).max(1),
        timeout_ms: millis(spec.timeout).max(1),
        start_period_ms: millis(spec.start_period),
        start_interval_ms: millis(spec.start_interval).max(1),
        retries: spec.retries,
        stop_signal: spec.stop_signal.cast_unsigned(),
        stop_timeout_ms: millis(spec.stop_timeout),
    };
    let mut made = HealthPlan { rule, command: Vec::new(), target: None };
    match &spec.probe {
        HealthProbe::Command(args) => made.command = command(args, process).encode_exec()?,
        HealthProbe::Tcp(address) => made.target = Some((socket_address(*address), Vec::new())),
        HealthProbe::Http { address, path } => {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: engine-health/1\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            );
            made.target = Some((socket_address(*address), request.into_bytes()));
        }
        _ => {}
    }
    Ok(made)
}

/// The container's process with another command: its user, environment, capabilities and filter (SECURITY A6, B1).
fn command(args: &[String], process: &ProcessPlan) -> ProcessPlan {
    ProcessPlan {
        argv: args.iter().map(|text| text.clone().into_bytes()).collect(),
        options: process.options & option::NO_NEW_PRIVS,
        terminal: None,
        ..process.clone()
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`, see ip(7) and ipv6(7).
fn socket_address(address: SocketAddr) -> Vec<u8> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(address) => {
            [&AF_INET.to_ne_bytes()[..], &port, &address.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(address) => {
            let (flow, scope) = (address.flowinfo().to_be_bytes(), address.scope_id().to_ne_bytes());
            [&AF_INET6.to_ne_bytes()[..], &port, &flow, &address.ip().octets(), &scope].concat()
        }
    }
}

/// The health that a state file in `dir` tells, with the results beside it.
pub(super) fn health(dir: &Path, state: &ShimState) -> Option<Health> {
    let (status, streak) = state.health?;
    let mut found = Health::new(status, streak);
    let files = (0..MAX_RESULTS).map(|number| dir.join(format!("{FILE}{number}")));
    found.results = files.filter_map(|path| read(&path)).collect();
    found.results.sort_by_key(|result| result.start);
    Some(found)
}

/// Removes the results of an earlier start.
pub(super) fn forget_results(dir: &Path) {
    for number in 0..MAX_RESULTS {
        let _ = fs::remove_file(dir.join(format!("{FILE}{number}")));
    }
}

/// Reads one result; `None` if there is none, or none that a shim wrote.
fn read(path: &Path) -> Option<HealthResult> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Option<HealthResult> {
    let marker = b"\noutput\n";
    let at = bytes.windows(marker.len()).position(|window| window == marker)?;
    let lines = std::str::from_utf8(&bytes[..at]).ok()?;
    let output = String::from_utf8_lossy(&bytes[at + marker.len()..]).into_owned();
    let (mut times, mut code, mut failure) = (None, None, None);
    for line in lines.lines() {
        let (key, value) = line.split_once(' ')?;
        let numbers: Vec<i64> =
            value.split(' ').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        match (key, &numbers[..]) {
            ("version", [1]) => {}
            ("version", _) => return None,
            ("times", &[start, end]) => times = Some((start, end)),
            ("code", &[number]) => code = i32::try_from(number).ok(),
            ("failure", &[step, index, errno]) => {
                let (step, index) = (u32::try_from(step).ok()?, u32::try_from(index).ok()?);
                failure = Some(Failure { step, index, errno: i32::try_from(errno).ok()? });
            }
            _ => {}
        }
    }
    let (start, end) = times?;
    let time = |ns: i64| SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    let output = match failure.map(|failure| Names::default().error("check health", failure).report()) {
        None => output,
        Some(why) if output.is_empty() => why,
        Some(why) => format!("{why}: {output}"),
    };
    Some(HealthResult::new(time(start), time(end), code?, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_read_back() {
        let result = parse(b"version 1\ntimes 5 7\ncode 3\noutput\nfine\noutput\n").unwrap();
        assert_eq!((result.exit_code, result.output.as_str()), (3, "fine\noutput\n"));
        assert_eq!(result.end.duration_since(result.start).unwrap(), Duration::from_nanos(2));
        let refused = parse(b"version 1\ntimes 5 7\ncode 1\nfailure 38 0 111\noutput\n").unwrap();
        assert!(refused.output.contains("refused"), "{}", refused.output);
        for bad in [
            "",
            "version 2\ntimes 5 7\ncode 1\noutput\n",
            "version 1\ncode 1\noutput\n",
            "version 1\ntimes 5 7\ncode 1",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn socket_addresses_have_the_kernels_form() {
        assert_eq!(
            socket_address("127.0.0.1:80".parse().unwrap()),
            [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let v6 = socket_address("[::1]:80".parse().unwrap());
        assert_eq!((v6.len(), &v6[..4], v6[23]), (28, &[10, 0, 0, 80][..], 1));
    }

    #[test]
    fn a_probe_is_the_containers_process_with_another_command() {
        let process = ProcessPlan {
            options: option::TTY | option::INIT | option::NO_NEW_PRIVS,
            uid: 1000,
            terminal: Some((24, 80)),
            env: crate::linux::plan::Environment(vec![b"A=1".to_vec()]),
            ..ProcessPlan::default()
        };
        let probe = command(&["check".to_owned()], &process);
        assert_eq!((probe.options, probe.uid, probe.terminal), (option::NO_NEW_PRIVS, 1000, None));
        assert_eq!((probe.argv, probe.env), (vec![b"check".to_vec()], process.env));
    }
}
