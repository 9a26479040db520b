//! How a command fails: a report for people and an exit code for programs.
//!
//! Docker's codes: 125 when the engine fails to run or create, 126 and 127 for a command that cannot be executed or
//! is not there, 1 for everything else.

use std::fmt;

use engine_core::{Error, ErrorKind};

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    report: Option<String>,
    code: u8,
}

impl Failure {
    /// Creates a failure by wrong use.
    pub(crate) fn usage(report: impl Into<String>) -> Self {
        Self { report: Some(report.into()), code: 1 }
    }

    /// Creates a failure that says nothing.
    pub(crate) fn quiet(code: u8) -> Self {
        Self { report: None, code }
    }

    /// Sets the exit code, unless the failure is about the command itself (126, 127).
    pub(crate) fn or_code(mut self, code: u8) -> Self {
        if self.code == 1 {
            self.code = code;
        }
        self
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Returns what to tell the user.
    pub(crate) fn report(&self) -> Option<&str> {
        self.report.as_deref()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::CommandNotExecutable => 126,
            ErrorKind::CommandNotFound => 127,
            _ => 1,
        };
        let mut report = error.report();
        let subject = error.subject().map(|(key, _)| key);
        if error.kind() == ErrorKind::NotFound && subject == Some("container") && error.hint().is_none() {
            report.push_str(" (\"ps -a\" lists those there are)");
        }
        for later in error.suppressed() {
            report.push_str("; then ");
            report.push_str(&later.report());
        }
        Self { report: Some(report), code }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.report().unwrap_or("failed"))
    }
}

/// Collects what fails in a command over several things, which goes on with the others.
#[derive(Debug, Default)]
pub(crate) struct Several(bool);

impl Several {
    /// Reports a failure at once and remembers that there was one.
    pub(crate) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                if let Some(report) = failure.report() {
                    eprintln!("engine-cli: {report}");
                }
                self.0 = true;
                None
            }
        }
    }

    /// Returns the exit code of the command.
    pub(crate) fn finish(self) -> Result<u8> {
        Ok(u8::from(self.0))
    }
}
