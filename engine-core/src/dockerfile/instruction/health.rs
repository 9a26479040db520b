//! `HEALTHCHECK`.

use std::time::Duration;

use super::{Command, Line};
use crate::dockerfile::lines::Fail;
use crate::dockerfile::words::Word;
use crate::time::parse_duration;

/// Docker's least time of any kind; zero means its default.
const LEAST: Duration = Duration::from_millis(1);

/// `HEALTHCHECK`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Healthcheck {
    /// None, whatever the base image says.
    None,
    /// A command that tells.
    Command(HealthcheckCommand),
}

/// A command that tells whether a container is healthy. What is left out is the engine's default.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HealthcheckCommand {
    /// The command.
    pub command: Command,
    /// `--interval`.
    pub interval: Option<Duration>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--start-period`.
    pub start_period: Option<Duration>,
    /// `--start-interval`.
    pub start_interval: Option<Duration>,
    /// `--retries`.
    pub retries: Option<u32>,
}

impl Healthcheck {
    pub(super) fn parse(mut line: Line<'_>) -> Result<Self, Fail> {
        let rest = line.argument()?;
        let end = rest.text.find(char::is_whitespace).unwrap_or(rest.text.len());
        let (kind, behind) = rest.split_at(end);
        let behind = behind.trim();
        match kind.text.to_ascii_uppercase().as_str() {
            "NONE" => {
                line.no_flags()?;
                if !behind.is_empty() {
                    return Err(Fail::new(behind.offset, "HEALTHCHECK NONE takes no arguments"));
                }
                Ok(Self::None)
            }
            "CMD" => {
                let interval = time(line.flags.value("interval")?)?;
                let timeout = time(line.flags.value("timeout")?)?;
                let start_period = time(line.flags.value("start-period")?)?;
                let start_interval = time(line.flags.value("start-interval")?)?;
                let retries = line.flags.value("retries")?.map(|word| count(&word)).transpose()?;
                line.no_flags()?;
                let command = Command::parse(behind)?;
                let empty = match &command {
                    Command::Shell(line) => line.is_empty(),
                    Command::Exec(arguments) => arguments.is_empty(),
                };
                if empty {
                    return Err(Fail::new(kind.offset, "HEALTHCHECK CMD needs a command"));
                }
                let retries = retries.filter(|retries| *retries != 0);
                Ok(Self::Command(HealthcheckCommand {
                    command,
                    interval,
                    timeout,
                    start_period,
                    start_interval,
                    retries,
                }))
            }
            _ => Err(Fail::new(kind.offset, format!("unknown kind of health check {:?}", kind.text))
                .with_hint(Some("it is HEALTHCHECK CMD command or HEALTHCHECK NONE".to_owned()))),
        }
    }
}

fn time(word: Option<Word>) -> Result<Option<Duration>, Fail> {
    let Some(word) = word.filter(|word| !matches!(word.text.as_str(), "" | "0")) else { return Ok(None) };
    let wrong = |message: String| {
        Fail::new(word.offset, message).with_hint(Some("give a time such as 30s or 1m30s".to_owned()))
    };
    match parse_duration(&word.text) {
        None => Err(wrong(format!("{:?} is no time", word.text))),
        Some(time) if time.is_zero() => Ok(None),
        Some(time) if time < LEAST => Err(wrong(format!("{:?} is less than a millisecond", word.text))),
        Some(time) => Ok(Some(time)),
    }
}

fn count(word: &Word) -> Result<u32, Fail> {
    // As Docker's, it fits into 31 bits.
    let count = word.text.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok());
    count.ok_or_else(|| {
        Fail::new(word.offset, format!("{:?} is no number of retries", word.text))
            .with_hint(Some("give a number from 0".to_owned()))
    })
}
