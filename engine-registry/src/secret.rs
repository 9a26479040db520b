//! Secrets that cannot be printed.
//!
//! Owns [`Secret`], the only form in which passwords and tokens lie in this crate's own state, and [`scrub`],
//! which keeps them out of text that a peer sent. Invariant: neither `Debug` nor `Display` shows a secret
//! (SECURITY D6); its memory is overwritten when it is dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A password or token. `Debug` and `Display` show `[redacted]`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the secret itself, to be sent to where it belongs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

const REDACTED: &str = "[redacted]";
/// Shorter secrets would blank out ordinary words; a server that echoes one tells nothing new.
const SHORTEST_SCRUBBED: usize = 4;
const LONGEST_TEXT: usize = 300;

/// Makes a peer's text fit for an error message: bounded, one line, no control characters, none of `secrets`.
pub(crate) fn scrub(text: &str, secrets: &[Secret]) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for secret in secrets {
        if secret.expose().len() >= SHORTEST_SCRUBBED {
            clean = clean.replace(secret.expose(), REDACTED);
        }
    }
    if let Some((end, _)) = clean.char_indices().nth(LONGEST_TEXT) {
        clean.truncate(end);
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_secrets_show_nothing() {
        let secret = Secret::new("canary-1");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "[redacted] [redacted] Some([redacted])"
        );
    }

    #[test]
    fn d6_echoed_secrets_are_scrubbed_and_text_is_bounded() {
        let secrets = [Secret::new("canary-1"), Secret::new("Y2FuYXJ5")];
        let text = scrub("no\ncanary-1, Basic Y2FuYXJ5\u{1b}[2J", &secrets);
        assert_eq!(text, "no [redacted], Basic [redacted] [2J");
        assert!(scrub(&"é".repeat(10_000), &[]).chars().count() <= LONGEST_TEXT + 1);
    }
}
