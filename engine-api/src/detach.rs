//! Detach keys: the sequence that leaves a container running and gives the user's shell back.
//!
//! A local command line looks for them itself; of a remote client, the daemon does.

use engine_core::{Error, ErrorKind, Result};

/// Watches the input of a terminal for the sequence.
#[derive(Clone, Debug)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Docker's default: ctrl-p ctrl-q.
    pub const DEFAULT: &str = "ctrl-p,ctrl-q";

    /// Parses keys: single characters, `ctrl-` and one of `a`-`z`, `@`, `[`, `\`, `]`, `^`, `_`. Empty is none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            Error::new(ErrorKind::InvalidArgument, "parse detach keys")
                .with("keys", text)
                .with_message("invalid detach keys")
                .with_hint("give keys such as ctrl-p,ctrl-q or a")
        };
        let mut sequence = Vec::new();
        for key in text.split(',') {
            sequence.push(match (key.strip_prefix("ctrl-"), key.as_bytes()) {
                // The control characters are the keys' codes without the upper bits, see ascii(7).
                (Some(name), _) => match name.as_bytes() {
                    [key @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => key & 0x1f,
                    _ => return Err(wrong()),
                },
                (None, [key]) => *key,
                _ => return Err(wrong()),
            });
        }
        Ok(Some(Self { sequence, matched: 0 }))
    }

    /// Returns what of `input` belongs to the process, and whether the sequence is complete. The beginning of a
    /// possible sequence is held back until the next key tells.
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len());
        for &byte in input {
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = 0;
            if byte == self.sequence[0] && self.sequence.len() > 1 {
                self.matched = 1;
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_found_across_reads_and_its_beginning_is_not_lost() {
        let mut keys = DetachKeys::parse(DetachKeys::DEFAULT).unwrap().unwrap();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn keys_are_parsed() {
        assert_eq!(DetachKeys::parse("ctrl-@,x,ctrl-]").unwrap().unwrap().sequence, [0, b'x', 0x1d]);
        assert!(DetachKeys::parse("").unwrap().is_none());
        assert!(DetachKeys::parse("ctrl-ü").is_err() && DetachKeys::parse("ab").is_err());
    }
}
