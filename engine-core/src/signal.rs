//! Signals by name and number, see signal(7).

use crate::error::{Error, ErrorKind, Result};

/// Names without `SIG`, by number; Linux's numbers, which all supported architectures share.
const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first and last real-time signals as programs see them: the C library keeps 32 and 33.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// SIGKILL.
pub const SIGKILL: i32 = 9;
/// SIGTERM.
pub const SIGTERM: i32 = 15;

/// Parses a signal: `SIGTERM`, `term`, `15`, `RTMIN+3`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if there is no such signal.
pub fn parse(text: &str) -> Result<i32> {
    let wrong = || {
        Error::new(ErrorKind::InvalidArgument, "parse signal")
            .with("signal", text)
            .with_message("no such signal")
            .with_hint("give a number from 1 to 64 or a name such as SIGTERM")
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: &str, base: i32, sign: i32| -> Result<i32> {
        let offset = match rest.split_at_checked(1) {
            None => 0,
            Some(("+", digits)) if sign > 0 => digits.parse::<i32>().map_err(|_| wrong())?,
            Some(("-", digits)) if sign < 0 => digits.parse::<i32>().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let number = base.checked_add(sign.checked_mul(offset).ok_or_else(wrong)?).ok_or_else(wrong)?;
        if (RTMIN..=RTMAX).contains(&number) { Ok(number) } else { Err(wrong()) }
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(rest, RTMIN, 1);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(rest, RTMAX, -1);
    }
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        other => other,
    };
    NAMES
        .iter()
        .position(|known| !known.is_empty() && *known == name)
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("POLL", 29),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "FOO", "RTMIN-1", "RTMAX+1", "RTMIN+99", "RTMIN+"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
