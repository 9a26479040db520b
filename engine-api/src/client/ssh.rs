//! A connection to another machine by the program `ssh`, which copies both directions to a socket there.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use engine_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::sys;

/// What is kept of what ssh says.
const KEPT: usize = 4 << 10;
/// How long its last words may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// What runs there: our own program, or Docker's where that is not. The socket, if one is given, is its first argument.
const REMOTE: &str = "if command -v engine-cli >/dev/null 2>&1; then p=engine-cli; else p=docker; fi; \
exec \"$p\" ${1:+--host \"$1\"} system dial-stdio";

/// What ssh, or the program behind it, wrote to its standard error.
#[derive(Debug, Default)]
pub(super) struct Said {
    text: Mutex<Vec<u8>>,
    /// Cancelled once it says nothing more.
    silent: CancellationToken,
}

impl Said {
    /// Returns it as a line.
    pub(super) fn text(&self) -> Option<String> {
        let said = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        line(&said)
    }

    /// Returns how much was said so far.
    pub(super) fn length(&self) -> usize {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// As [`text`](Self::text), of what was said since it was `length` long.
    pub(super) fn since(&self, length: usize) -> Option<String> {
        let said = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        line(said.get(length..)?)
    }

    /// Returns once it has said all, or after a moment: its end may be seen before its last words.
    pub(super) async fn settle(&self) {
        // What there is by then is told.
        let _ = tokio::time::timeout(PATIENCE, self.silent.cancelled()).await;
    }

    pub(super) fn add(&self, piece: &[u8]) {
        let mut said = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT - said.len().min(KEPT);
        said.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

/// Makes one line of what was said. It goes to people's terminals, which obey control characters.
fn line(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let lines: Vec<String> = said.lines().map(|line| line.trim().chars().map(plain).collect()).collect();
    Some(lines.join("; ")).filter(|text| !text.is_empty())
}

/// The connection; the program ends with it.
#[derive(Debug)]
pub(super) struct SshStream {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _child: Child,
}

/// Returns the arguments of ssh.
fn arguments(host: &Host) -> Vec<String> {
    let Host::Ssh { user, host, port, path } = host else { return Vec::new() };
    // A machine that is gone says nothing: ssh notices it after three times as long.
    let options = ["-T", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30"];
    let mut arguments: Vec<String> = options.map(str::to_owned).into();
    for (flag, value) in [("-l", user.clone()), ("-p", port.map(|port| port.to_string()))] {
        if let Some(value) = value {
            arguments.extend([flag.to_owned(), value]);
        }
    }
    let mut command = format!("sh -c {} sh", quoted(REMOTE));
    if let Some(path) = path {
        command = format!("{command} {}", quoted(&format!("unix://{}", path.display())));
    }
    arguments.extend(["--".to_owned(), host.clone(), command]);
    arguments
}

/// A word for the shell of the user there, which reads what ssh passes on.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Starts ssh.
pub(super) fn open(host: &Host) -> Result<(SshStream, Arc<Said>)> {
    let mut command = Command::new("ssh");
    command
        .args(arguments(host))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // It asks for passwords at the terminal, so it stays in our process group, to which the terminal sends these.
    sys::ignoring_interrupts(&mut command);
    let mut child = command.spawn().map_err(|error| {
        Error::from_io("run ssh", error)
            .with("host", host)
            .with_hint("install an ssh client, or give another host")
    })?;
    let said = Arc::new(Said::default());
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(listen(stderr, Arc::clone(&said)));
    }
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::from_io("run ssh", io::ErrorKind::BrokenPipe.into()));
    };
    Ok((SshStream { input: Some(input), output, _child: child }, said))
}

async fn listen(mut stderr: ChildStderr, said: Arc<Said>) {
    let mut piece = [0; 512];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        said.add(&piece[..read]);
    }
    said.silent.cancel();
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, into)
    }
}

impl SshStream {
    fn with_input<T>(
        &mut self,
        work: impl FnOnce(Pin<&mut ChildStdin>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.input {
            Some(input) => work(Pin::new(input)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with_input(|input| input.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_input(|input| input.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The end of its input is the end of that direction.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_shell_there() {
        let host: Host = "ssh://me@box:22/run/it's; id.sock".parse().unwrap();
        let arguments = arguments(&host);
        let (command, options) = arguments.split_last().unwrap();
        assert_eq!(
            options,
            [
                "-T",
                "-o",
                "ConnectTimeout=30",
                "-o",
                "ServerAliveInterval=30",
                "-l",
                "me",
                "-p",
                "22",
                "--",
                "box"
            ]
        );
        // As sshd does: the login shell gets it as one text.
        let shown = command.replace(REMOTE, "printf %s \"$1\"");
        let said = std::process::Command::new("sh").arg("-c").arg(shown).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "unix:///run/it's; id.sock");
    }

    #[test]
    fn what_is_said_there_is_no_order_to_the_terminal_here() {
        let said = Said::default();
        said.add(b"one\x1b]0;title\x07\r\n\x1b[2Jtwo\n");
        assert_eq!(said.text().unwrap(), "one\u{fffd}]0;title\u{fffd}; \u{fffd}[2Jtwo");
        let length = said.length();
        assert_eq!(said.since(length), None);
        said.add(b"three\n");
        assert_eq!(said.since(length).unwrap(), "three");
    }
}
