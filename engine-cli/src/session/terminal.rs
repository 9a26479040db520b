//! The user's terminal and standard input.

use std::io;
use std::os::fd::AsFd;

use engine_core::io::TerminalSize;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};

/// Returns the size of the user's terminal, if there is one at any standard stream.
pub(crate) fn size() -> Option<TerminalSize> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    [output.as_fd(), input.as_fd(), error.as_fd()].into_iter().find_map(|fd| {
        let size = tcgetwinsize(fd).ok()?;
        Some(TerminalSize { columns: size.ws_col, rows: size.ws_row })
    })
}

/// Raw mode of the user's terminal: each key goes to the container. Dropping it restores the terminal.
#[derive(Debug)]
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// Enters raw mode, if standard input is a terminal.
    pub(crate) fn enter() -> Result<Option<Self>> {
        let input = io::stdin();
        if !isatty(&input) {
            return Ok(None);
        }
        let failed = |error: rustix::io::Errno| {
            Failure::usage(format!("cannot set up the terminal: {}", io::Error::from(error)))
        };
        let before = tcgetattr(&input).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Reads standard input on a thread of its own, which ends with the program: a read of a terminal cannot be
/// cancelled, and must not keep the program from ending.
pub(crate) fn stdin() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(4);
    std::thread::spawn(move || {
        let input = io::stdin();
        let mut buffer = [0_u8; 16 << 10];
        loop {
            match rustix::io::read(&input, &mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if send.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
    receive
}

/// Reads one line without showing it, for passwords.
pub(crate) fn read_secret(prompt: &str) -> io::Result<String> {
    use rustix::termios::LocalModes;
    let input = io::stdin();
    eprint!("{prompt}");
    let mut line = String::new();
    if isatty(&input) {
        let before = tcgetattr(&input)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO;
        tcsetattr(&input, OptionalActions::Now, &quiet)?;
        let guard = RawMode(before);
        let read = input.read_line(&mut line);
        drop(guard);
        eprintln!();
        read?;
    } else {
        input.read_line(&mut line)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
