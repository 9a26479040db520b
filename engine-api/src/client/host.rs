//! Where an engine is: what people give as `--host`.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use engine_core::{Error, ErrorKind};

/// The port of an engine without TLS, and of one with it.
const PORTS: (u16, u16) = (2375, 2376);

/// Where an engine listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Host {
    /// `unix://PATH`: a socket of this machine.
    Unix(PathBuf),
    /// `tcp://HOST[:PORT]`: another machine, with certificates on both sides; without, only this machine by its loopback address.
    Tcp {
        /// Its name or address.
        host: String,
        /// The port: 2376 without it, and 2375 where there is no TLS.
        port: Option<u16>,
    },
    /// `ssh://[USER@]HOST[:PORT][/PATH]`: another machine, by the program `ssh`.
    Ssh {
        /// The user there; ssh's choice without it.
        user: Option<String>,
        /// Its name, as ssh knows it.
        host: String,
        /// The port of ssh.
        port: Option<u16>,
        /// The socket there; its own default without it.
        path: Option<PathBuf>,
    },
}

impl Host {
    pub(super) fn port(port: Option<u16>, tls: bool) -> u16 {
        port.unwrap_or(if tls { PORTS.1 } else { PORTS.0 })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &String| if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => {
                write!(f, "tcp://{}", bracketed(host))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Ssh { user, host, port, path } => {
                f.write_str("ssh://")?;
                user.iter().try_for_each(|user| write!(f, "{user}@"))?;
                f.write_str(&bracketed(host))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                path.as_ref().map_or(Ok(()), |path| f.write_str(&path.to_string_lossy()))
            }
        }
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidArgument, "parse host")
                .with("host", without_password(text))
                .with_message(why)
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("it is none of unix://PATH, tcp://HOST:PORT, ssh://USER@HOST"))?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(wrong("the path of a socket begins with a slash")),
            "tcp" => {
                let (host, port) = authority(rest.trim_end_matches('/')).map_err(wrong)?;
                Ok(Self::Tcp { host, port })
            }
            "ssh" => {
                let (place, path) = match rest.find('/') {
                    Some(at) => rest.split_at(at),
                    None => (rest, ""),
                };
                let (user, place) = match place.rsplit_once('@') {
                    Some((user, place)) => (Some(user), place),
                    None => (None, place),
                };
                if user.is_some_and(|user| user.contains(':')) {
                    return Err(wrong("a password has no place in it"));
                }
                let (host, port) = authority(place).map_err(wrong)?;
                // ssh would take such a name for an option.
                if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
                    return Err(wrong("a name does not begin with a dash"));
                }
                // ssh may hand it to a shell (ProxyCommand's %r), as the host.
                let usual = |c: char| c.is_ascii_alphanumeric() || "-._+@".contains(c);
                if user.is_some_and(|user| user.is_empty() || !user.chars().all(usual)) {
                    return Err(wrong("its user is none"));
                }
                let path = Some(path.trim_end_matches('/')).filter(|path| !path.is_empty());
                Ok(Self::Ssh { user: user.map(str::to_owned), host, port, path: path.map(Into::into) })
            }
            _ => Err(wrong("its scheme is none of unix, tcp and ssh")),
        }
    }
}

/// Returns what was given as errors may show it: of a user and a password, the password is nobody's to read.
fn without_password(text: &str) -> Cow<'_, str> {
    let shown = || {
        let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| *scheme != "unix")?;
        // There may be anything in a password.
        let (user, place) = rest.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:…@{place}"))
    };
    shown().map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Reads `HOST`, `HOST:PORT` and `[ADDRESS]:PORT`.
fn authority(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or("a bracket is open")?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':').ok_or("behind the bracket is no port")?)
                },
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let usual = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    if host.is_empty() || !host.chars().all(usual) {
        return Err("it names no host");
    }
    let port =
        port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("its port is no port"));
    Ok((host.to_owned(), port.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_shown_as_they_are_given() {
        for text in [
            "unix:///run/engine.sock",
            "tcp://127.0.0.1:2375",
            "tcp://host.example",
            "tcp://[::1]:9",
            "ssh://box",
            "ssh://me@box:2222/run/engine.sock",
            "ssh://me.too+x@example@box",
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "/run/engine.sock",
            "unix://relative",
            "fd://",
            "tcp://",
            "tcp://host:0",
            "tcp://host:70000",
            "tcp://[::1",
            "tcp://a b",
            "ssh://-oProxyCommand=x",
            "ssh://-l@box",
            "ssh://a:b@box",
            "ssh://@box",
            "ssh://box;id",
            "ssh://$(id)@box",
            "ssh://a b@box",
            "ssh://`id`@box",
            "ssh://a\nb@box",
        ] {
            assert_eq!(wrong.parse::<Host>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
        for wrong in
            ["ssh://me:s3cret@box", "ssh://me:s3cret@box;id", "tcp://me:s3cret/@box:9", "http://a:s3cret@b/c"]
        {
            let said = wrong.parse::<Host>().unwrap_err().report();
            assert!(!said.contains("s3cret") && said.contains("@b"), "{said}");
        }
    }
}
