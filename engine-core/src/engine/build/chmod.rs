//! Modes as `--chmod` has them: octal, or chmod(1)'s words.

use crate::error::{Error, ErrorKind, Result};

/// A change of a mode.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Chmod {
    /// This mode.
    Exact(u32),
    /// Changes one after the other.
    Symbolic(Vec<Clause>),
}

/// `u+x`: whose bits, what becomes of them, and which.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Clause {
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Permissions {
    /// Bits of all three, special ones and `X`.
    Bits { bits: u32, set_id: bool, sticky: bool, conditional: bool },
    /// Those that somebody else has.
    CopiedFrom(char),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl Chmod {
    /// Parses `755`, `u=rwX,go=rX`, `+x`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is neither.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::InvalidArgument, "parse mode")
                .with("chmod", text)
                .with_message("it is no mode")
                .with_hint("give one such as 755 or u=rwX,go=rX")
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
            return if mode <= 0o7777 { Ok(Self::Exact(mode)) } else { Err(wrong()) };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let end = part.find(['+', '-', '=']).ok_or_else(wrong)?;
            let mut who = 0;
            for letter in part[..end].chars() {
                who |= match letter {
                    'u' => USER,
                    'g' => GROUP,
                    'o' => OTHER,
                    'a' => USER | GROUP | OTHER,
                    _ => return Err(wrong()),
                };
            }
            if end == 0 {
                who = USER | GROUP | OTHER;
            }
            let mut rest = &part[end..];
            while let Some(operator) = rest.chars().next() {
                let behind = &rest[1..];
                let end = behind.find(['+', '-', '=']).unwrap_or(behind.len());
                let permissions = Permissions::parse(&behind[..end]).ok_or_else(wrong)?;
                clauses.push(Clause { who, operator, permissions });
                rest = &behind[end..];
            }
        }
        Ok(Self::Symbolic(clauses))
    }

    /// Returns what becomes of `mode`.
    pub(super) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let clauses = match self {
            Self::Exact(mode) => return *mode,
            Self::Symbolic(clauses) => clauses,
        };
        clauses.iter().fold(mode & 0o7777, |mode, clause| {
            let bits = clause.permissions.bits(mode, is_dir) & clause.who;
            match clause.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                // A directory keeps its set-ID bits unless they are named, as with chmod(1).
                _ => {
                    let kept = if is_dir { 0o6000 } else { 0 };
                    mode & !(clause.who & !kept) | bits
                }
            }
        })
    }
}

impl Permissions {
    fn parse(text: &str) -> Option<Self> {
        if let "u" | "g" | "o" = text {
            return text.chars().next().map(Self::CopiedFrom);
        }
        let (mut bits, mut set_id, mut sticky, mut conditional) = (0, false, false, false);
        for letter in text.chars() {
            match letter {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'x' => bits |= 0o111,
                'X' => conditional = true,
                's' => set_id = true,
                't' => sticky = true,
                _ => return None,
            }
        }
        Some(Self::Bits { bits, set_id, sticky, conditional })
    }

    fn bits(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::CopiedFrom(whose) => {
                let shift = match whose {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                (mode >> shift & 7) * 0o111
            }
            Self::Bits { bits, set_id, sticky, conditional } => {
                let executable = *conditional && (is_dir || mode & 0o111 != 0);
                bits | if executable { 0o111 } else { 0 }
                    | if *set_id { 0o6000 } else { 0 }
                    | if *sticky { 0o1000 } else { 0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_with_chmod() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o644, false, 0o755),
            ("0600", 0o777, false, 0o600),
            ("4755", 0o644, false, 0o4755),
            ("+x", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o755, false, 0o700),
            ("a=r", 0o777, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o+t", 0o755, true, 0o3755),
            ("u=rw+x", 0o000, false, 0o700),
            ("o=", 0o757, false, 0o750),
        ] {
            let shown = Chmod::parse(text).unwrap().apply(mode, is_dir);
            assert_eq!(format!("{shown:o}"), format!("{expected:o}"), "{text} of {mode:o}");
        }
        for text in ["", "9", "77777", "u", "u+q", "x=r", "u+x,", "rwx"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
