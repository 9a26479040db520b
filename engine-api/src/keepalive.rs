//! Connections by TCP whose other side may vanish.
//!
//! A machine that loses its power says nothing, and neither does a network that forgets a connection: without being asked, the other side
//! waits for ever, and keeps what it has for a client that is no more.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// How long a connection may be silent before the other side is asked whether it is there, how long after that again, and how often.
const IDLE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Makes the kernel look whether the other side is there. See tcp(7).
pub(crate) fn enable(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, PROBES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        enable(&listener).unwrap();
        assert!(sockopt::socket_keepalive(&listener).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&listener).unwrap(), IDLE);
    }
}
