//! Modes as `--chmod` has them: octal, or symbolic as chmod(1) reads it.

use crate::error::{Error, ErrorKind, Result};

/// What `--chmod` does to a mode.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileMode(Change);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Change {
    Octal(u32),
    Symbolic(Vec<Step>),
}

/// `u+rw`: whose bits, how, and which.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Step {
    /// Of user 4, of group 2, of others 1.
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Permissions {
    /// Bits of one of the three, whether `X` is among them, and whether `s` and `t` are.
    Bits { bits: u32, execute_if_any: bool, set_id: bool, sticky: bool },
    /// Those that user, group or others have: how far to the right they are.
    Of(u32),
}

impl FileMode {
    /// Reads a mode: `644`, `01777`, `u=rwX,go=rX`, `+x`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::InvalidArgument, "read mode")
                .with("mode", text)
                .with_message("it is no mode of a file")
                .with_hint("give an octal number up to 7777, or something like u=rwX,go=rX")
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = text.bytes().all(|digit| digit.is_ascii_digit());
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
            return mode.map(|mode| Self(Change::Octal(mode))).ok_or_else(wrong);
        }
        let mut steps = Vec::new();
        for clause in text.split(',') {
            clause_steps(clause, &mut steps).ok_or_else(wrong)?;
        }
        Ok(Self(Change::Symbolic(steps)))
    }

    /// Returns the mode of a file that has `mode` before; its type is not changed.
    #[must_use]
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let (kind, bits) = (mode & !0o7777, mode & 0o7777);
        match &self.0 {
            Change::Octal(mode) => kind | mode,
            Change::Symbolic(steps) => {
                kind | steps.iter().fold(bits, |bits, step| step.apply(bits, is_directory))
            }
        }
    }
}

impl Step {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let (bits, set_id, sticky) = match &self.permissions {
            Permissions::Of(shift) => ((mode >> shift) & 7, false, false),
            Permissions::Bits { bits, execute_if_any, set_id, sticky } => {
                let execute = *execute_if_any && (is_directory || mode & 0o111 != 0);
                (bits | u32::from(execute), *set_id, *sticky)
            }
        };
        let mut set = 0;
        let mut all = 0;
        for (who, shift, special) in [(4, 6, 0o4000), (2, 3, 0o2000), (1, 0, 0)] {
            if self.who & who != 0 {
                set |= bits << shift | if set_id { special } else { 0 };
                // What a directory has of these stays unless it is named.
                all |= 7 << shift | if is_directory && !set_id { 0 } else { special };
            }
        }
        if sticky {
            set |= 0o1000;
        }
        if self.who & 1 != 0 && (sticky || !is_directory) {
            all |= 0o1000;
        }
        match self.operator {
            '+' => mode | set,
            '-' => mode & !set,
            _ => mode & !all | set,
        }
    }
}

/// Reads one clause: whose bits, then operators with what they do.
fn clause_steps(clause: &str, steps: &mut Vec<Step>) -> Option<()> {
    let mut who = 0;
    let mut rest = clause;
    while let Some(c) = rest.chars().next() {
        who |= match c {
            'u' => 4,
            'g' => 2,
            'o' => 1,
            'a' => 7,
            _ => break,
        };
        rest = &rest[1..];
    }
    let who = if who == 0 { 7 } else { who };
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let operator = rest.chars().next().filter(|c| matches!(c, '+' | '-' | '='))?;
        let behind = &rest[1..];
        let end = behind.find(['+', '-', '=']).unwrap_or(behind.len());
        let (text, behind) = behind.split_at(end);
        let permissions = match text {
            "u" => Permissions::Of(6),
            "g" => Permissions::Of(3),
            "o" => Permissions::Of(0),
            text => {
                let (mut bits, mut execute_if_any, mut set_id, mut sticky) = (0, false, false, false);
                for c in text.chars() {
                    match c {
                        'r' => bits |= 4,
                        'w' => bits |= 2,
                        'x' => bits |= 1,
                        'X' => execute_if_any = true,
                        's' => set_id = true,
                        't' => sticky = true,
                        _ => return None,
                    }
                }
                Permissions::Bits { bits, execute_if_any, set_id, sticky }
            }
        };
        steps.push(Step { who, operator, permissions });
        rest = behind;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_chmod_does() {
        for (text, before, directory, after) in [
            ("644", 0o755, false, 0o644),
            ("0", 0o755, false, 0),
            ("01777", 0o755, true, 0o1777),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("o=g-w", 0o660, false, 0o664),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("ug-s", 0o6755, false, 0o755),
            ("u=rwx", 0o4755, false, 0o755),
            ("g=rx", 0o2755, true, 0o2755),
            ("u=rw+x", 0o000, false, 0o700),
            ("u+x", 0o100_644, false, 0o100_744),
        ] {
            let mode = FileMode::parse(text).unwrap();
            assert_eq!(mode.apply(before, directory), after, "{text} {before:o}");
        }
        for text in ["", "u", "8", "10000", "0x1", "u+q", "x+r", "u+r,", "u r", "+ugo", "1e3"] {
            assert_eq!(FileMode::parse(text).expect_err(text).kind(), ErrorKind::InvalidArgument);
        }
    }
}
