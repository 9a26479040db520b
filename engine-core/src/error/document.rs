//! Errors as documents: what passes between programs.
//!
//! A document has all that a person or a caller sees of an error: kind, operation, subject, texts of the causes, advice. What it
//! cannot have is the causes themselves: `source()` of an error that was read has their texts alone.
//! Invariant: an error that was written and read says the same, by every method of [`Error`] and by `Display` and `Debug`.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Error, ErrorKind, Inner};

/// The longest chain of causes that is written or read.
const DEPTH: usize = 32;

/// An [`Error`] as serde writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ErrorDocument {
    kind: String,
    operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    context: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    /// The texts of the causes, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suppressed: Vec<Self>,
}

impl From<&Error> for ErrorDocument {
    fn from(error: &Error) -> Self {
        let Inner { kind, operation, message, context, hint, retryable, suppressed, source: _ } = &*error.0;
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        Self {
            kind: kind.as_str().to_owned(),
            operation: operation.to_string(),
            message: message.clone(),
            context: context.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            hint: hint.as_ref().map(ToString::to_string),
            retryable: *retryable,
            causes: causes.take(DEPTH).map(ToString::to_string).collect(),
            suppressed: suppressed.iter().map(Self::from).collect(),
        }
    }
}

impl From<ErrorDocument> for Error {
    fn from(document: ErrorDocument) -> Self {
        let mut causes = document.causes;
        causes.truncate(DEPTH);
        let source = causes
            .into_iter()
            .rev()
            .fold(None, |next: Option<Box<Told>>, text| Some(Box::new(Told { text, next })));
        Self(Box::new(Inner {
            // One of a newer program.
            kind: ErrorKind::from_name(&document.kind).unwrap_or(ErrorKind::Other),
            operation: document.operation.into(),
            message: document.message,
            context: document.context.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            hint: document.hint.map(Into::into),
            retryable: document.retryable,
            source: source.map(|told| told as Box<dyn StdError + Send + Sync>),
            suppressed: document.suppressed.into_iter().map(Self::from).collect(),
        }))
    }
}

/// A cause of which the text is known.
#[derive(Debug)]
struct Told {
    text: String,
    next: Option<Box<Self>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Told {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next.as_deref().map(|next| next as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_says_the_same_after_a_journey() {
        let cause = || Error::from_io("open file", io::Error::from_raw_os_error(13)).with("path", "/x");
        let mut long = Error::new(ErrorKind::Conflict, "remove image")
            .with("image", "a\"b")
            .with("container", "web")
            .with_hint("remove it")
            .with_retryable(true)
            .with_source(cause());
        long.suppress(cause().with_message("later"));
        let errors = [
            long,
            cause(),
            Error::new(ErrorKind::Unavailable, "pull").with_source(io::Error::other(cause())),
            Error::new(ErrorKind::NotFound, "find image").with("image", "x").with_message("no such image"),
            Error::new(ErrorKind::DeadlineExceeded, ""),
        ];
        for error in errors {
            let text = serde_json::to_string(&ErrorDocument::from(&error)).unwrap();
            let read = Error::from(serde_json::from_str::<ErrorDocument>(&text).unwrap());
            let said = |error: &Error| {
                let subject = error.subject().map(|(key, value)| (key.to_owned(), value.to_owned()));
                let texts =
                    (error.to_string(), error.report(), format!("{error:?}"), error.operation().to_owned());
                (
                    texts,
                    error.kind(),
                    subject,
                    error.hint().map(str::to_owned),
                    error.is_retryable(),
                    error.suppressed().len(),
                )
            };
            assert_eq!(said(&read), said(&error), "{text}");
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_another() {
        let document = r#"{"kind":"tired","operation":"work","suppressed":[]}"#;
        let read = Error::from(serde_json::from_str::<ErrorDocument>(document).unwrap());
        assert_eq!((read.kind(), read.to_string().as_str()), (ErrorKind::Other, "work: other"));
    }
}
