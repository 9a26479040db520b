//! The error of every operation: a kind to branch on, the operation, the subject, the cause.
//!
//! Callers match [`Error::kind`], never the text. `Display` is one lowercase sentence fragment that names
//! the operation, the thing and what was wrong; the cause comes from `source()`. [`Error::report`] joins
//! the chain and the hint for a person.

mod document;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

pub use document::ErrorDocument;

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// The kind of a failure: what a caller can act on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing to be made exists already (a name is taken).
    AlreadyExists,
    /// The operation was cancelled by its caller.
    Canceled,
    /// The container's command was found but cannot be executed (Docker's exit code 126).
    CommandNotExecutable,
    /// The container's command does not exist in its image (Docker's exit code 127).
    CommandNotFound,
    /// The thing is in a state, or in a use, that forbids the operation.
    Conflict,
    /// Content does not match its digest, or is malformed where it must not be.
    Corrupt,
    /// A deadline passed.
    DeadlineExceeded,
    /// The caller's input is wrong.
    InvalidArgument,
    /// The named thing does not exist.
    NotFound,
    /// Anything else; see the cause.
    Other,
    /// The kernel, a file system or a registry refused access.
    PermissionDenied,
    /// Disk, memory, descriptors or a configured limit ran out.
    ResourceExhausted,
    /// A registry wants credentials, or refused those it got.
    Unauthenticated,
    /// A service cannot be reached now; trying again may help.
    Unavailable,
    /// This host or this implementation cannot do it.
    Unsupported,
}

impl ErrorKind {
    const ALL: [Self; 15] = [
        Self::AlreadyExists,
        Self::Canceled,
        Self::CommandNotExecutable,
        Self::CommandNotFound,
        Self::Conflict,
        Self::Corrupt,
        Self::DeadlineExceeded,
        Self::InvalidArgument,
        Self::NotFound,
        Self::Other,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::Unauthenticated,
        Self::Unavailable,
        Self::Unsupported,
    ];

    /// Returns the kind's stable name, as in logs and machine-readable output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::Canceled => "canceled",
            Self::CommandNotExecutable => "command_not_executable",
            Self::CommandNotFound => "command_not_found",
            Self::Conflict => "conflict",
            Self::Corrupt => "corrupt",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::Other => "other",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
        }
    }

    /// Returns the kind of a stable name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A failed operation.
///
/// One boxed word wide, so that `Result`s stay small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    message: Option<String>,
    context: Vec<(Cow<'static, str>, String)>,
    hint: Option<Cow<'static, str>>,
    retryable: Option<bool>,
    source: Option<Cause>,
    suppressed: Vec<Error>,
}

impl Error {
    /// Creates an error of `kind` that happened during `operation`, such as `"pull image"`.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: operation.into(),
            message: None,
            context: Vec::new(),
            hint: None,
            retryable: None,
            source: None,
            suppressed: Vec::new(),
        }))
    }

    /// Creates an error from an I/O failure, with the kind that its `errno` stands for.
    pub fn from_io(operation: impl Into<Cow<'static, str>>, error: io::Error) -> Self {
        Self::new(kind_of_io(&error), operation).with_source(error)
    }

    /// Says what was wrong, in a lowercase fragment: `"no such image"`.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Names a thing the operation was about: `.with("image", reference)`. The first one is the subject.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key.into(), value.to_string()));
        self
    }

    /// Says what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Cause>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// States whether trying again may help, where the kind alone does not tell.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = Some(retryable);
        self
    }

    /// Replaces the kind and keeps the rest.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Attaches a failure of the clean-up that followed this one.
    pub fn suppress(&mut self, later: Error) {
        self.0.suppressed.push(later);
    }

    /// Returns the kind: what a caller branches on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// Returns what the operation was about, as (key, value): `("image", "alpine:3")`.
    #[must_use]
    pub fn subject(&self) -> Option<(&str, &str)> {
        self.0.context.first().map(|(key, value)| (key.as_ref(), value.as_str()))
    }

    /// Returns what the operation was about by the name that [`with`](Self::with) gave it: of `("exit code", 3)`, `"3"`.
    #[must_use]
    pub fn detail(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Returns the advice to the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the failures of the clean-up that followed this one.
    #[must_use]
    pub fn suppressed(&self) -> &[Error] {
        &self.0.suppressed
    }

    /// Returns whether the same call may succeed later without a change by the caller.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0
            .retryable
            .unwrap_or(matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded))
    }

    /// Returns the whole story in one line: this error, its causes, and the hint.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Some libraries repeat their cause in their own text.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            text.push_str(" (");
            text.push_str(hint);
            text.push(')');
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.operation)?;
        for (index, (key, value)) in self.0.context.iter().enumerate() {
            f.write_str(if index == 0 { " " } else { ", " })?;
            // `find image "x"`, not `find image image "x"`.
            let said = index == 0 && self.0.operation.split(' ').next_back() == Some(key);
            if !said {
                write!(f, "{key} ")?;
            }
            write!(f, "{value:?}")?;
        }
        match (&self.0.message, &self.0.source) {
            (Some(message), _) => write!(f, ": {message}"),
            (None, None) => write!(f, ": {}", self.0.kind.as_str().replace('_', " ")),
            (None, Some(_)) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.as_str(), self.report())?;
        for later in &self.0.suppressed {
            write!(f, "; then {later:?}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// Returns the kind an I/O error stands for.
fn kind_of_io(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::PermissionDenied => ErrorKind::PermissionDenied,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::InvalidInput => ErrorKind::InvalidArgument,
        Io::InvalidData | Io::UnexpectedEof => ErrorKind::Corrupt,
        Io::TimedOut => ErrorKind::DeadlineExceeded,
        Io::StorageFull | Io::QuotaExceeded | Io::OutOfMemory => ErrorKind::ResourceExhausted,
        Io::Unsupported => ErrorKind::Unsupported,
        Io::ConnectionRefused
        | Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::NotConnected
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::BrokenPipe => ErrorKind::Unavailable,
        Io::ResourceBusy => ErrorKind::Conflict,
        _ => match error.raw_os_error() {
            // EMFILE, ENFILE: the process or the system is out of descriptors (errno(3)).
            Some(23 | 24) => ErrorKind::ResourceExhausted,
            _ => ErrorKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_operation_subject_cause_and_hint() {
        let error = Error::from_io("create bundle", io::Error::from_raw_os_error(28))
            .with("path", "/x")
            .with_hint("free some space");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(
            error.report(),
            "create bundle path \"/x\": No space left on device (os error 28) (free some space)"
        );
        assert_eq!(error.subject(), Some(("path", "/x")));
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_subject_that_the_operation_names_is_not_named_twice() {
        let error = Error::new(ErrorKind::NotFound, "find image").with("image", "x").with("image", "y");
        assert_eq!(error.to_string(), "find image \"x\", image \"y\": not found");
    }

    #[test]
    fn unavailable_is_retryable_unless_said() {
        assert!(Error::new(ErrorKind::Unavailable, "pull").is_retryable());
        assert!(!Error::new(ErrorKind::Unavailable, "pull").with_retryable(false).is_retryable());
    }
}
