//! Changes to an image's configuration, as `import` and `commit` take them: instructions of a Dockerfile.
//!
//! Owns the syntax of the instructions that only set a default of the process. Source: the Dockerfile reference. Variables
//! are not expanded: there is no build they could come from.

use crate::error::{Error, ErrorKind, Result};
use crate::image_config::{Empty, Healthcheck, ProcessDefaults};

/// Applies `changes` in order, such as `CMD ["sh"]`, `ENV A=1 B=2`, `EXPOSE 80`, `LABEL a=b`, `USER web`, `WORKDIR /srv`,
/// `ENTRYPOINT`, `HEALTHCHECK`, `ONBUILD`, `SHELL`, `STOPSIGNAL`, `VOLUME`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if one is malformed or no instruction of these; then nothing is changed.
pub fn apply(defaults: &mut ProcessDefaults, changes: &[impl AsRef<str>]) -> Result<()> {
    let mut changed = defaults.clone();
    let mut has_command = false;
    for change in changes {
        let change = change.as_ref().trim();
        let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
        let instruction = instruction.to_ascii_uppercase();
        one(&mut changed, &instruction, rest.trim(), &mut has_command).map_err(|why| {
            Error::new(ErrorKind::InvalidArgument, "apply change")
                .with("change", change)
                .with_message(why)
                .with_hint("give an instruction of a Dockerfile, such as 'CMD [\"sh\"]' or 'ENV A=1'")
        })?;
    }
    *defaults = changed;
    Ok(())
}

fn one(
    config: &mut ProcessDefaults,
    instruction: &str,
    rest: &str,
    has_command: &mut bool,
) -> Result<(), String> {
    if rest.is_empty() {
        return Err("it has no value, or is no instruction".to_owned());
    }
    match instruction {
        "CMD" => {
            config.cmd = command(rest, &config.shell)?;
            *has_command = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = command(rest, &config.shell)?;
            // The image's command was meant for its own entrypoint.
            if !*has_command {
                config.cmd.clear();
            }
        }
        "ENV" => {
            for (name, value) in pairs(rest)? {
                let prefix = format!("{name}=");
                match config.env.iter_mut().find(|known| known.starts_with(&prefix)) {
                    Some(known) => *known = prefix + &value,
                    None => config.env.push(prefix + &value),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            for word in words(rest)? {
                config.exposed_ports.extend(ports(&word)?.into_iter().map(|port| (port, Empty {})));
            }
        }
        "VOLUME" => {
            let paths = if rest.starts_with('[') { list(rest)? } else { words(rest)? };
            config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = single(rest)?,
        "WORKDIR" => {
            let dir = single(rest)?;
            config.working_dir = match dir.starts_with('/') {
                true => dir,
                false => format!("{}/{dir}", config.working_dir.trim_end_matches('/')),
            };
            if !config.working_dir.starts_with('/') {
                config.working_dir.insert(0, '/');
            }
        }
        "STOPSIGNAL" => config.stop_signal = single(rest)?,
        "SHELL" => config.shell = list(rest)?,
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => return Err("there is no such instruction here".to_owned()),
    }
    Ok(())
}

/// The exec form is a JSON array; anything else is a line for the shell.
fn command(text: &str, shell: &[String]) -> Result<Vec<String>, String> {
    if text.starts_with('[')
        && let Ok(words) = serde_json::from_str(text)
    {
        return Ok(words);
    }
    let mut words = match shell {
        [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        shell => shell.to_vec(),
    };
    words.push(text.to_owned());
    Ok(words)
}

fn list(text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text).map_err(|e| format!("it is no JSON array of strings: {e}"))
}

fn single(text: &str) -> Result<String, String> {
    match words(text)?.as_slice() {
        [one] if !one.is_empty() => Ok(one.clone()),
        _ => Err("it takes exactly one value".to_owned()),
    }
}

/// `A=1 B="two words"`, or the old form `A the rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') && !text.starts_with(['"', '\'']) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("give NAME=VALUE")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{word:?} is not NAME=VALUE")),
    };
    words(text)?.into_iter().map(pair).collect()
}

/// Splits at white space, but not within quotes or behind a backslash.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `53/udp`, `8000-8010/tcp`.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{text:?} is no port");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = (port(first)?, port(last)?);
    if first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `NONE`, or options and `CMD …`.
fn healthcheck(text: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    if text.eq_ignore_ascii_case("none") {
        check.test = vec!["NONE".to_owned()];
        return Ok(check);
    }
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, behind) = option.split_once(char::is_whitespace).ok_or("it has no CMD")?;
        let (name, value) = option.split_once('=').ok_or_else(|| format!("--{option} has no value"))?;
        let time = || duration(value).ok_or_else(|| format!("{value:?} is no duration such as 30s"));
        match name {
            "interval" => check.interval = Some(time()?),
            "timeout" => check.timeout = Some(time()?),
            "start-period" => check.start_period = Some(time()?),
            "start-interval" => check.start_interval = Some(time()?),
            "retries" => check.retries = Some(value.parse().map_err(|_| format!("{value:?} is no number"))?),
            _ => return Err(format!("there is no option --{name}")),
        }
        rest = behind.trim_start();
    }
    let line = match rest.split_once(char::is_whitespace) {
        Some((word, line)) if word.eq_ignore_ascii_case("cmd") => line.trim(),
        _ => return Err("it has no CMD".to_owned()),
    };
    check.test = match line.starts_with('[') {
        true => std::iter::once("CMD".to_owned()).chain(list(line)?).collect(),
        false => vec!["CMD-SHELL".to_owned(), line.to_owned()],
    };
    Ok(check)
}

/// Reads a duration as Go writes it, `1m30s`, into nanoseconds.
fn duration(text: &str) -> Option<u64> {
    u64::try_from(crate::time::parse_duration(text)?.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_sets_its_field() {
        let mut config = ProcessDefaults {
            cmd: vec!["old".to_owned()],
            env: vec!["PATH=/bin".to_owned(), "A=0".to_owned()],
            ..ProcessDefaults::default()
        };
        apply(
            &mut config,
            &[
                "ENTRYPOINT [\"/run\", \"it\"]",
                "cmd echo  $HOME",
                "ENV A=1 B=\"two words\" C=x\\ y",
                "ENV D the rest",
                "LABEL org.example.a='b c'",
                "EXPOSE 80 53/UDP 8000-8001",
                "VOLUME /data",
                "VOLUME [\"/a b\"]",
                "USER web:web",
                "WORKDIR /srv",
                "WORKDIR app",
                "STOPSIGNAL SIGINT",
                "ONBUILD RUN make",
                "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f localhost",
            ],
        )
        .unwrap();
        assert_eq!(config.entrypoint, ["/run", "it"]);
        assert_eq!(config.cmd, ["/bin/sh", "-c", "echo  $HOME"]);
        assert_eq!(config.env, ["PATH=/bin", "A=1", "B=two words", "C=x y", "D=the rest"]);
        assert_eq!(config.labels["org.example.a"], "b c");
        let ports: Vec<&String> = config.exposed_ports.keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a b", "/data"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("web:web", "/srv/app"));
        assert_eq!((config.stop_signal.as_str(), config.on_build.len()), ("SIGINT", 1));
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (Some(90_000_000_000), Some(2)));
        assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
    }

    #[test]
    fn an_entrypoint_forgets_the_command_that_was_not_meant_for_it() {
        let mut config = ProcessDefaults { cmd: vec!["old".to_owned()], ..ProcessDefaults::default() };
        apply(&mut config, &["ENTRYPOINT /run"]).unwrap();
        assert_eq!((config.entrypoint.len(), config.cmd.len()), (3, 0));
    }

    #[test]
    fn malformed_changes_change_nothing() {
        for bad in [
            "",
            "CMD",
            "RUN make",
            "ENV =x",
            "ENV A",
            "ENV A=\"x",
            "EXPOSE 0",
            "EXPOSE 9-1",
            "EXPOSE 80/icmp",
            "USER a b",
            "VOLUME [1]",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=x CMD y",
            "HEALTHCHECK --nope=1 CMD y",
        ] {
            let mut config = ProcessDefaults::default();
            let error = apply(&mut config, &["USER web", bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
            assert_eq!(config, ProcessDefaults::default(), "{bad:?}");
        }
    }
}
