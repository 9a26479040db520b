//! Credential helpers: `docker-credential-NAME`.
//!
//! Owns running one of them. Source: the protocol of docker-credential-helpers: the action is the argument,
//! JSON or a URL goes in by stdin, JSON comes out by stdout. Only a helper that Docker's config.json names is run.
//! Invariant: it ends within a deadline, its output is bounded, and none of it enters an error, since it may hold the secret.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use engine_core::error::{Error, ErrorKind, Result};
use engine_core::registry_client::Credentials;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

/// Long, since a helper may ask its user to unlock a key store.
const DEADLINE: Duration = Duration::from_secs(60);
const KILL_WAIT: Duration = Duration::from_secs(5);
const MAX_OUTPUT: u64 = 1 << 20;
/// What helpers print when they have nothing, as docker-credential-helpers defines it.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that marks the secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// A credential helper, by the name that follows `docker-credential-`.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    program: PathBuf,
    deadline: Duration,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: Zeroizing<String>,
}

impl Helper {
    /// Names a helper, in the first of `dirs` that has it, else on the `PATH`.
    ///
    /// # Errors
    /// If `name` could be anything but the rest of a file name.
    pub(crate) fn new(name: &str, dirs: &[PathBuf]) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(fits) {
            return Err(Error::new(ErrorKind::InvalidArgument, "run credential helper")
                .with("helper", name)
                .with_message("its name is not letters, digits, dots and dashes"));
        }
        let file = format!("docker-credential-{name}");
        let found = dirs.iter().map(|dir| dir.join(&file)).find(|path| path.exists());
        Ok(Self { program: found.unwrap_or_else(|| file.into()), deadline: DEADLINE })
    }

    /// Asks for the credentials of `server`.
    pub(crate) async fn get(&self, server: &str) -> Result<Option<Credentials>> {
        let (success, output) = self.run("get", server.as_bytes()).await?;
        if !success {
            let told = String::from_utf8_lossy(&output);
            return if told.trim() == NOT_FOUND { Ok(None) } else { Err(self.failed("get", "it failed")) };
        }
        // The parser's own message may quote the secret.
        let entry: Entry =
            serde_json::from_slice(&output).map_err(|_| self.failed("get", "its answer is malformed"))?;
        let secret = entry.secret.as_str().to_owned();
        Ok(match entry.username.as_str() {
            "" if secret.is_empty() => None,
            TOKEN_USER => Some(Credentials::IdentityToken(secret)),
            _ => Some(Credentials::Basic { username: entry.username, password: secret }),
        })
    }

    /// Hands over the credentials of `server` to be kept.
    pub(crate) async fn store(&self, server: &str, credentials: &Credentials) -> Result<()> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.clone(), password.clone()),
            Credentials::IdentityToken(token) => (TOKEN_USER.to_owned(), token.clone()),
            _ => return Err(self.failed("store", "this form of credentials cannot be kept")),
        };
        let entry = Entry { server_url: server.to_owned(), username, secret: Zeroizing::new(secret) };
        let input = Zeroizing::new(serde_json::to_vec(&entry).map_err(|_| self.failed("store", "not JSON"))?);
        let (success, _) = self.run("store", &input).await?;
        if success { Ok(()) } else { Err(self.failed("store", "it failed")) }
    }

    /// Has it forget the credentials of `server`; it is `Ok` if it had none.
    pub(crate) async fn erase(&self, server: &str) -> Result<()> {
        let (success, output) = self.run("erase", server.as_bytes()).await?;
        if success || String::from_utf8_lossy(&output).trim() == NOT_FOUND {
            return Ok(());
        }
        Err(self.failed("erase", "it failed"))
    }

    fn failed(&self, action: &'static str, message: &str) -> Error {
        Error::new(ErrorKind::Other, "run credential helper")
            .with("helper", self.program.display())
            .with("action", action)
            .with_message(message)
            .with_hint("run the helper by hand, or remove it from Docker's config.json")
    }

    /// Runs the helper in a task of its own, so that it is killed *and* waited for also when nobody waits for its
    /// answer any more: a dropped child would have tokio install a SIGCHLD handler in the program that embeds us.
    async fn run(&self, action: &'static str, input: &[u8]) -> Result<(bool, Zeroizing<Vec<u8>>)> {
        let (this, input) = (self.clone(), Zeroizing::new(input.to_vec()));
        let (waiting, nobody_waits) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut child = this.spawn(action)?;
            let late =
                || this.failed(action, "it did not end in time").with_kind(ErrorKind::DeadlineExceeded);
            let result = tokio::select! {
                result = this.talk(&mut child, action, &input) => result,
                () = sleep(this.deadline) => Err(late()),
                _ = nobody_waits => Err(this.failed(action, "nobody waits for it").with_kind(ErrorKind::Canceled)),
            };
            if result.is_err() {
                // It may have ended meanwhile; one that cannot be killed is left.
                let _ = timeout(KILL_WAIT, child.kill()).await;
            }
            result
        });
        let result = task.await.unwrap_or_else(|_| Err(self.failed(action, "it was interrupted")));
        drop(waiting);
        result
    }

    fn spawn(&self, action: &'static str) -> Result<Child> {
        Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| self.io(e))
    }

    async fn talk(
        &self,
        child: &mut Child,
        action: &'static str,
        input: &[u8],
    ) -> Result<(bool, Zeroizing<Vec<u8>>)> {
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input is judged by its answer.
            let _ = stdin.write_all(input).await;
        }
        let mut output = Zeroizing::new(Vec::new());
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await.map_err(|e| self.io(e))?;
        }
        if output.len() as u64 > MAX_OUTPUT {
            return Err(self.failed(action, "its answer is too long"));
        }
        Ok((child.wait().await.map_err(|e| self.io(e))?.success(), output))
    }

    fn io(&self, error: io::Error) -> Error {
        Error::from_io("run credential helper", error)
            .with("helper", self.program.display())
            .with_hint("Docker's config.json names this helper: install it, or remove its name there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d2_helper_names_are_names() {
        for wrong in ["", "../x", "a/b", "a b", "a;b", "a\0"] {
            assert!(Helper::new(wrong, &[]).is_err(), "{wrong:?}");
        }
        assert!(Helper::new("ecr-login", &[]).is_ok());
    }

    #[tokio::test]
    async fn d2_a_missing_helper_is_an_error_and_names_it() {
        let error = Helper::new("does-not-exist", &[]).unwrap().get("a.example").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.report().contains("docker-credential-does-not-exist"), "{error:?}");
    }

    #[tokio::test]
    async fn a_hanging_helper_is_ended_and_waited_for() {
        let helper = Helper { program: "/bin/sleep".into(), deadline: Duration::from_millis(100) };
        let error = helper.run("100", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        // And so is one that nobody waits for any more.
        let patient = Helper { deadline: Duration::from_secs(100), ..helper };
        assert!(timeout(Duration::from_millis(100), patient.run("101", b"")).await.is_err());
        let mut left = String::new();
        for _ in 0..100 {
            left = std::fs::read_dir("/proc/self/task")
                .unwrap()
                .flatten()
                .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default())
                .collect();
            if left.is_empty() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(left, "", "children stay");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        let sigchld = u64::from_str_radix(caught, 16).unwrap() & (1 << 16);
        assert_eq!(sigchld, 0, "a SIGCHLD handler was installed");
    }
}
