//! Health checks: what is asked for, what is carried out, and what came of it.
//!
//! [`HealthCheck`] is a caller's wish, which may leave things to the image; [`HealthSpec`] is the whole of it, as a runtime
//! gets it; [`Health`] is what the runtime found.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::image_config::Healthcheck;

/// Bytes of output kept of one probe.
pub const MAX_OUTPUT: usize = 4096;
/// Results kept.
pub const MAX_RESULTS: usize = 5;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Docker's least time of any kind.
const LEAST: Duration = Duration::from_millis(1);
/// The least time that an image can ask for between two probes: what it says is nobody's wish, and the work of a probe is not
/// all under the container's limits.
const LEAST_OF_IMAGE: Duration = Duration::from_millis(100);
/// What a runtime can count with: about 49 days.
const MOST: Duration = Duration::from_millis(u32::MAX as u64);

/// A caller's wish. What is left out is the image's, or Docker's default.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HealthCheck {
    /// How to look; the image's way without one.
    pub probe: Option<HealthProbe>,
    /// Time between the end of a probe and the next; 30 seconds.
    pub interval: Option<Duration>,
    /// Time a probe may take; 30 seconds.
    pub timeout: Option<Duration>,
    /// Time after a start in which failures do not count; none.
    pub start_period: Option<Duration>,
    /// Time between probes in the start period, until one passed; 5 seconds.
    pub start_interval: Option<Duration>,
    /// Failures in a row until the container is unhealthy; 3.
    pub retries: Option<u32>,
    /// What happens to an unhealthy container.
    pub on_failure: HealthAction,
}

impl HealthCheck {
    /// Creates a check by `probe`, with defaults for everything else.
    #[must_use]
    pub fn new(probe: HealthProbe) -> Self {
        Self { probe: Some(probe), ..Self::default() }
    }

    /// Sets the time between probes.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the time a probe may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how many failures in a row make the container unhealthy.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Sets what happens to an unhealthy container.
    #[must_use]
    pub fn with_on_failure(mut self, action: HealthAction) -> Self {
        self.on_failure = action;
        self
    }
}

/// How to look whether a container is healthy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthProbe {
    /// Not at all, whatever the image says.
    None,
    /// By a command in the container, as its user and with its environment; it passes with exit code 0.
    Command(Vec<String>),
    /// By a command of the image's shell, else of `/bin/sh`.
    Shell(String),
    /// By a connection from inside the container's network namespace; it passes when it is accepted.
    Tcp(SocketAddr),
    /// By a `GET` of `path` from there; it passes with a status from 200 to 399.
    Http {
        /// Where to connect to.
        address: SocketAddr,
        /// The path with its query, beginning with `/`.
        path: String,
    },
}

impl HealthProbe {
    /// Parses where to connect to: `8080`, `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for anything else: names are not looked up.
    pub fn tcp(text: &str) -> Result<Self> {
        address(text, None).map(Self::Tcp).ok_or_else(|| {
            invalid("not an address of a health check")
                .with("address", text)
                .with_hint("give a port, or an IP address with one, such as 127.0.0.1:8080")
        })
    }

    /// Parses what to ask for: `http://127.0.0.1:8080/healthz`, `:8080/healthz` or `/healthz`; the host is 127.0.0.1 and
    /// the port 80 if left out.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for anything else: names are not looked up, and there is no TLS.
    pub fn http(text: &str) -> Result<Self> {
        let wrong = || {
            invalid("not a URL of a health check")
                .with("url", text)
                .with_hint("give something like http://127.0.0.1:8080/healthz")
        };
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = address(host, Some(80)).ok_or_else(wrong)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self::Http { address, path: path.to_owned() })
    }
}

fn address(text: &str, port: Option<u16>) -> Option<SocketAddr> {
    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if text.is_empty() {
        return port.map(|port| (LOCAL, port).into());
    }
    let rest = text.strip_prefix("localhost").unwrap_or(text);
    if let Ok(port) = rest.strip_prefix(':').unwrap_or(rest).parse::<u16>() {
        return Some((LOCAL, port).into());
    }
    if rest.is_empty() {
        return port.map(|port| (LOCAL, port).into());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| Some((bare.parse::<IpAddr>().ok()?, port?).into()))
}

/// What happens to a container that became unhealthy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthAction {
    /// Nothing.
    #[default]
    None,
    /// SIGKILL; its restart policy applies.
    Kill,
    /// It is stopped as by [`Container::stop`](crate::Container::stop), and runs again whatever its restart policy.
    Restart,
    /// It is stopped, and stays so.
    Stop,
}

impl HealthAction {
    /// Returns podman's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// A health check with nothing left open.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HealthSpec {
    /// How to look: not [`None`](HealthProbe::None), and no [`Shell`](HealthProbe::Shell).
    pub probe: HealthProbe,
    /// Time between the end of a probe and the next.
    pub interval: Duration,
    /// Time a probe may take.
    pub timeout: Duration,
    /// Time after a start in which failures do not count.
    pub start_period: Duration,
    /// Time between probes in the start period, until one passed.
    pub start_interval: Duration,
    /// Failures in a row until the container is unhealthy.
    pub retries: u32,
    /// What happens to an unhealthy container.
    pub on_failure: HealthAction,
    /// The signal by which an unhealthy container is asked to stop.
    pub stop_signal: i32,
    /// Time between that and SIGKILL.
    pub stop_timeout: Duration,
}

impl HealthSpec {
    /// Creates a check with Docker's defaults.
    #[must_use]
    pub fn new(probe: HealthProbe) -> Self {
        Self {
            probe,
            interval: INTERVAL,
            timeout: TIMEOUT,
            start_period: Duration::ZERO,
            start_interval: START_INTERVAL,
            retries: RETRIES,
            on_failure: HealthAction::None,
            stop_signal: crate::signal::SIGTERM,
            stop_timeout: Duration::from_secs(10),
        }
    }

    /// Merges a wish over what the image says; `None` without a check. `shell` is the image's, whose times are brought into
    /// the range from 100 ms to 49 days.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for an empty command, and for times that are too short or too long.
    pub fn merge(
        wish: Option<&HealthCheck>,
        image: Option<&Healthcheck>,
        shell: &[String],
    ) -> Result<Option<Self>> {
        let none = HealthCheck::default();
        let wish = wish.unwrap_or(&none);
        let probe = match (&wish.probe, image) {
            (Some(probe), _) => probe.clone(),
            (None, Some(image)) => of_image(image)?,
            (None, None) => return Ok(None),
        };
        let probe = match probe {
            HealthProbe::None => return Ok(None),
            HealthProbe::Shell(command) if shell.is_empty() => {
                HealthProbe::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), command])
            }
            HealthProbe::Shell(command) => {
                HealthProbe::Command(shell.iter().cloned().chain([command]).collect())
            }
            other => other,
        };
        check(&probe)?;
        let mut spec = Self::new(probe);
        // As in Docker, zero is "not said".
        let nanos = |time: Option<u64>| time.map(Duration::from_nanos);
        let times = [
            (&mut spec.interval, wish.interval, image.and_then(|image| nanos(image.interval)), "interval"),
            (&mut spec.timeout, wish.timeout, image.and_then(|image| nanos(image.timeout)), "timeout"),
            (
                &mut spec.start_period,
                wish.start_period,
                image.and_then(|image| nanos(image.start_period)),
                "start period",
            ),
            (
                &mut spec.start_interval,
                wish.start_interval,
                image.and_then(|image| nanos(image.start_interval)),
                "start interval",
            ),
        ];
        for (slot, own, image, what) in times {
            let said = |time: &Duration| !time.is_zero();
            let Some(time) = own.filter(said) else {
                if let Some(time) = image.filter(said) {
                    *slot = time.clamp(LEAST_OF_IMAGE, MOST);
                }
                continue;
            };
            if time < LEAST {
                return Err(invalid(format!("the {what} of a health check cannot be less than 1ms")));
            }
            if time > MOST {
                return Err(invalid(format!("the {what} of a health check cannot be more than 49 days")));
            }
            *slot = time;
        }
        let said = |count: &u32| *count > 0;
        let retries =
            wish.retries.filter(said).or_else(|| image.and_then(|image| image.retries).filter(said));
        spec.retries = retries.unwrap_or(RETRIES);
        spec.on_failure = wish.on_failure;
        Ok(Some(spec))
    }
}

fn of_image(image: &Healthcheck) -> Result<HealthProbe> {
    Ok(match image.test.split_first() {
        None => HealthProbe::None,
        Some((kind, arguments)) => match (kind.as_str(), arguments) {
            ("NONE", _) => HealthProbe::None,
            ("CMD", arguments) => HealthProbe::Command(arguments.to_vec()),
            ("CMD-SHELL", [command, ..]) => HealthProbe::Shell(command.clone()),
            _ => return Err(invalid("unknown type of health check in the image").with("type", kind)),
        },
    })
}

fn check(probe: &HealthProbe) -> Result<()> {
    match probe {
        HealthProbe::Command(args) if args.first().is_none_or(String::is_empty) => {
            Err(invalid("the command of the health check is empty"))
        }
        HealthProbe::Command(args) if args.iter().any(|text| text.contains('\0')) => {
            Err(invalid("the command of the health check contains a zero byte"))
        }
        HealthProbe::Tcp(address) | HealthProbe::Http { address, .. } if address.port() == 0 => {
            Err(invalid("a health check needs a port from 1 to 65535"))
        }
        HealthProbe::Http { path, .. } => {
            let good = path.starts_with('/')
                && path.len() <= 2048
                && path.bytes().all(|byte| byte.is_ascii_graphic());
            if good {
                return Ok(());
            }
            Err(invalid("the path of a health check begins with / and has no blanks").with("path", path))
        }
        _ => Ok(()),
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "prepare health check").with_message(why)
}

/// Where a container with a health check is, in Docker's words.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthStatus {
    /// No probe has passed since it was started, and not enough have failed.
    Starting,
    /// The last word of the probes.
    Healthy,
    /// So many probes in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// Returns Docker's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The health of a container.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// Where it is.
    pub status: HealthStatus,
    /// Failed probes in a row.
    pub failing_streak: u32,
    /// The last [`MAX_RESULTS`] results, oldest first.
    pub results: Vec<HealthResult>,
}

impl Health {
    /// Creates a health without results.
    #[must_use]
    pub fn new(status: HealthStatus, failing_streak: u32) -> Self {
        Self { status, failing_streak, results: Vec::new() }
    }
}

/// What one probe found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthResult {
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// 0 passed, anything else failed, -1 could not be carried out or took too long.
    pub exit_code: i32,
    /// What it wrote, up to [`MAX_OUTPUT`] bytes, or what went wrong.
    pub output: String,
}

impl HealthResult {
    /// Creates a result.
    #[must_use]
    pub fn new(start: SystemTime, end: SystemTime, exit_code: i32, output: impl Into<String>) -> Self {
        Self { start, end, exit_code, output: output.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: test.iter().map(|&text| text.to_owned()).collect(),
            interval: Some(5_000_000_000),
            retries: Some(7),
            ..Healthcheck::default()
        }
    }

    fn merge(wish: Option<HealthCheck>, image: Option<Healthcheck>) -> Result<Option<HealthSpec>> {
        HealthSpec::merge(wish.as_ref(), image.as_ref(), &[])
    }

    #[test]
    fn the_image_gives_what_the_wish_leaves_open() {
        let spec = merge(None, Some(image(&["CMD", "check", "it"]))).unwrap().unwrap();
        assert_eq!(spec.probe, HealthProbe::Command(vec!["check".into(), "it".into()]));
        assert_eq!((spec.interval, spec.retries, spec.timeout), (Duration::from_secs(5), 7, TIMEOUT));
        let wish = HealthCheck::default().with_interval(Duration::from_secs(1));
        let spec = merge(Some(wish), Some(image(&["CMD-SHELL", "a || b"]))).unwrap().unwrap();
        assert_eq!(spec.probe, HealthProbe::Command(vec!["/bin/sh".into(), "-c".into(), "a || b".into()]));
        assert_eq!((spec.interval, spec.retries), (Duration::from_secs(1), 7));
        let own = HealthCheck::new(HealthProbe::Shell("x".into()));
        let spec = HealthSpec::merge(Some(&own), None, &["/bin/ash".into(), "-ec".into()]).unwrap().unwrap();
        assert_eq!(spec.probe, HealthProbe::Command(vec!["/bin/ash".into(), "-ec".into(), "x".into()]));
    }

    #[test]
    fn there_may_be_none() {
        assert_eq!(merge(None, None).unwrap(), None);
        assert_eq!(merge(Some(HealthCheck::default().with_retries(2)), None).unwrap(), None);
        assert_eq!(merge(None, Some(image(&["NONE"]))).unwrap(), None);
        assert_eq!(
            merge(Some(HealthCheck::new(HealthProbe::None)), Some(image(&["CMD", "x"]))).unwrap(),
            None
        );
    }

    #[test]
    fn addresses_and_urls_are_read() {
        let http = |text: &str| match HealthProbe::http(text).unwrap() {
            HealthProbe::Http { address, path } => format!("{address}{path}"),
            other => panic!("{other:?}"),
        };
        for (text, read) in [
            ("/", "127.0.0.1:80/"),
            ("/healthz?x=1", "127.0.0.1:80/healthz?x=1"),
            (":8080/a", "127.0.0.1:8080/a"),
            ("8080/a", "127.0.0.1:8080/a"),
            ("http://localhost:8080/a", "127.0.0.1:8080/a"),
            ("http://localhost", "127.0.0.1:80/"),
            ("http://10.0.0.1/a/b", "10.0.0.1:80/a/b"),
            ("http://[::1]:9/", "[::1]:9/"),
            ("http://[::1]/", "[::1]:80/"),
        ] {
            assert_eq!(http(text), read, "{text}");
        }
        for text in ["https://x/", "http://example.com/", "ftp://127.0.0.1/", "127.0.0.1:99999/"] {
            assert_eq!(HealthProbe::http(text).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
        for (text, read) in
            [("8080", "127.0.0.1:8080"), ("localhost:1", "127.0.0.1:1"), ("[::1]:2", "[::1]:2")]
        {
            assert_eq!(HealthProbe::tcp(text).unwrap(), HealthProbe::Tcp(read.parse().unwrap()));
        }
        for text in ["", "localhost", "127.0.0.1", "example.com:80", "70000"] {
            assert_eq!(HealthProbe::tcp(text).unwrap_err().kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let address = "127.0.0.1:0".parse().unwrap();
        let good = "127.0.0.1:80".parse().unwrap();
        for probe in [
            HealthProbe::Command(Vec::new()),
            HealthProbe::Command(vec![String::new()]),
            HealthProbe::Command(vec!["a\0b".into()]),
            HealthProbe::Tcp(address),
            HealthProbe::Http { address: good, path: "no-slash".into() },
            HealthProbe::Http { address: good, path: "/a b".into() },
            HealthProbe::Http { address: good, path: "/\r\nX: y".into() },
        ] {
            let error = merge(Some(HealthCheck::new(probe.clone())), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{probe:?}");
        }
        let wish = HealthCheck::new(HealthProbe::Shell("x".into()));
        for time in [Duration::from_nanos(999_999), Duration::from_secs(1 << 40)] {
            assert!(merge(Some(wish.clone().with_interval(time)), None).is_err(), "{time:?}");
            assert!(merge(Some(wish.clone().with_timeout(time)), None).is_err(), "{time:?}");
        }
        assert!(merge(None, Some(image(&["PING", "x"]))).is_err());
        let hasty = Healthcheck { interval: Some(1), timeout: Some(u64::MAX), ..image(&["CMD", "x"]) };
        let spec = merge(None, Some(hasty)).unwrap().unwrap();
        assert_eq!((spec.interval, spec.timeout), (LEAST_OF_IMAGE, MOST));
    }
}
