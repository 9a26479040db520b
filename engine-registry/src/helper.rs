//! Credential helpers: `docker-credential-NAME`.
//!
//! Owns running one of them. Source: the protocol of docker-credential-helpers: the action is the argument,
//! JSON or a URL goes in by stdin, JSON comes out by stdout. Only a helper that Docker's config.json names is run.
//! Invariant: it ends within a deadline, its output is bounded, and none of it enters an error, since it may hold the secret.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use engine_core::error::{Error, ErrorKind, Result};
use engine_core::registry_client::Credentials;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Long, since a helper may ask its user to unlock a key store.
const DEADLINE: Duration = Duration::from_secs(60);
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

    async fn run(&self, action: &'static str, input: &[u8]) -> Result<(bool, Zeroizing<Vec<u8>>)> {
        let io = |e| {
            Error::from_io("run credential helper", e)
                .with("helper", self.program.display())
                .with_hint("Docker's config.json names this helper: install it, or remove its name there")
        };
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(io)?;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let talk = async {
            if let Some(stdin) = &mut stdin {
                // A helper that does not read its input is judged by its answer.
                let _ = stdin.write_all(input).await;
            }
            drop(stdin);
            let mut output = Zeroizing::new(Vec::new());
            if let Some(stdout) = stdout {
                stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await.map_err(io)?;
            }
            if output.len() as u64 > MAX_OUTPUT {
                return Err(self.failed(action, "its answer is too long"));
            }
            Ok((child.wait().await.map_err(io)?.success(), output))
        };
        // When time is up, dropping the child kills it.
        timeout(self.deadline, talk).await.unwrap_or_else(|_| {
            Err(self.failed(action, "it did not end in time").with_kind(ErrorKind::DeadlineExceeded))
        })
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
    async fn a_hanging_helper_is_ended() {
        let helper = Helper { program: "/bin/sleep".into(), deadline: Duration::from_millis(100) };
        // `sleep get` fails at once; `sleep 100` hangs.
        let error = helper.run("100", b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
}
