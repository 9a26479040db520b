//! Where output is kept: `--log-driver` and `--log-opt`, or `LogConfig`.

use engine_core::launch::{LogDriver, LogMode, LogOptions};
use engine_core::{Error, ErrorKind, Result};

use super::{parse_size, wrong};

/// Reads a driver and its options, each `KEY=VALUE`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for drivers and options that there are not.
pub fn log_options(driver: Option<&str>, options: &[String]) -> Result<LogOptions> {
    let mut log = match driver {
        None | Some("" | "json-file") => LogOptions::default(),
        Some("local") => LogOptions::local(),
        Some("none") => LogOptions::none(),
        Some(other) => {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("log driver {other:?}"))
                .with_message("it is not supported: give json-file, local or none"));
        }
    };
    let mut buffer = None;
    for option in options {
        let wrong = |why: &str| wrong("log option", option, why);
        if log.driver == LogDriver::None {
            return Err(wrong("the driver none takes no options"));
        }
        let (key, value) = option.split_once('=').ok_or_else(|| wrong("give KEY=VALUE"))?;
        let size = || match parse_size(value) {
            Ok(0) => Err(wrong("give a size above 0")),
            Ok(size) => Ok(size),
            Err(error) => Err(wrong(&error)),
        };
        let list = || value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        match key {
            "max-size" if value == "-1" => log.max_size = u64::MAX,
            "max-size" => log.max_size = size()?,
            "max-file" => {
                log.max_file = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=1000).contains(count))
                    .ok_or_else(|| wrong("give a number between 1 and 1000"))?;
            }
            "mode" => {
                log.mode = match value {
                    "blocking" => LogMode::Blocking,
                    "non-blocking" => LogMode::NonBlocking,
                    _ => return Err(wrong("give blocking or non-blocking")),
                };
            }
            "max-buffer-size" => buffer = Some(size()?),
            "labels" => log.labels = list(),
            "env" => log.env = list(),
            "tag" => log.tag = Some(value.to_owned()).filter(|tag| !tag.is_empty()),
            "labels-regex" => log.labels_regex = Some(value.to_owned()).filter(|regex| !regex.is_empty()),
            "env-regex" => log.env_regex = Some(value.to_owned()).filter(|regex| !regex.is_empty()),
            // As Go reads it, so as Docker does.
            "compress" => {
                log.compress = match value {
                    "1" | "t" | "T" | "true" | "True" | "TRUE" => true,
                    "0" | "f" | "F" | "false" | "False" | "FALSE" => false,
                    _ => return Err(wrong("give true or false")),
                };
            }
            _ => {
                return Err(wrong(
                    "give max-size, max-file, compress, labels, labels-regex, env, env-regex, tag, mode or \
                     max-buffer-size",
                ));
            }
        }
    }
    if let Some(size) = buffer {
        if log.mode != LogMode::NonBlocking {
            return Err(wrong("log option", "max-buffer-size", "it needs mode=non-blocking"));
        }
        log.max_buffer_size = size;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(driver: Option<&str>, list: &[&str]) -> std::result::Result<LogOptions, String> {
        let list: Vec<String> = list.iter().map(|option| (*option).to_owned()).collect();
        log_options(driver, &list).map_err(|error| error.report())
    }

    #[test]
    fn options_are_dockers() {
        assert_eq!(of(None, &[]).unwrap(), LogOptions::default());
        assert_eq!(of(Some("local"), &[]).unwrap(), LogOptions::local());
        let log = of(None, &["max-size=1k", "max-file=2", "labels=a,b", "env=X", "tag=t/{{.ID}}"]).unwrap();
        assert_eq!((log.max_size, log.max_file), (1024, 2));
        assert_eq!((log.labels.len(), log.env.len(), log.tag.as_deref()), (2, 1, Some("t/{{.ID}}")));
        let log = of(None, &["mode=non-blocking", "max-buffer-size=4m"]).unwrap();
        assert_eq!((log.mode, log.max_buffer_size), (LogMode::NonBlocking, 4 << 20));
        assert_eq!(of(None, &["max-size=-1"]).unwrap().max_size, u64::MAX);
        assert!(of(None, &["compress=true"]).unwrap().compress);
        assert!(!of(Some("local"), &["compress=0"]).unwrap().compress);
        let log = of(None, &["labels-regex=^a", "env-regex=X|Y"]).unwrap();
        assert_eq!((log.labels_regex.as_deref(), log.env_regex.as_deref()), (Some("^a"), Some("X|Y")));
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        for (driver, option) in [
            (None, "max-size=big"),
            (None, "max-size=0"),
            (None, "max-file=0"),
            (None, "max-file=1001"),
            (None, "mode=sometimes"),
            (None, "max-buffer-size=1m"),
            (None, "compress=some"),
            (None, "color=red"),
            (None, "max-size"),
            (Some("none"), "max-size=1m"),
        ] {
            let name = option.split('=').next().unwrap();
            assert!(of(driver, &[option]).unwrap_err().contains(name), "{option}");
        }
        assert!(of(Some("syslog"), &[]).unwrap_err().contains("syslog"));
    }
}
