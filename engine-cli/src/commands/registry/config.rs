//! Flags that may also stand in a file or in the environment.
//!
//! Owns the order: what is on the command line counts, then `ENGINE_REGISTRY_FLAG`, then the file's key `flag`, then the default. It
//! knows no flag by name: whatever a command has may be given in all three ways. Invariant: a key that is no flag is an error, and
//! errors name the file, the line and the key.

use std::ffi::OsString;
use std::ops::Deref;
use std::path::Path;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use toml_edit::{Document, Item, Value};

const PREFIX: &str = "ENGINE_REGISTRY_";

/// The flags of a command that takes `--config`.
#[derive(Clone, Debug)]
pub(crate) struct Configured<T>(T);

impl<T> Deref for Configured<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Args> Args for Configured<T> {
    fn group_id() -> Option<clap::Id> {
        T::group_id()
    }

    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(ValueParser::path_buf())
            .help("File of flags (TOML): addr = \"…\", read-only = true; a flag may be in ENGINE_REGISTRY_FLAG as well");
        T::augment_args(command).arg(config)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Args> FromArgMatches for Configured<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let command = T::augment_args(Command::new("serve").no_binary_name(true));
        let path = matches.get_one::<std::path::PathBuf>("config").cloned();
        let path = path.or_else(|| env("config").map(Into::into));
        let file = path.as_deref().map(|path| read(path, &command)).transpose()?.unwrap_or_default();
        let mut words = Vec::new();
        for arg in command.get_arguments() {
            let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
            let given = match matches.value_source(id) {
                Some(ValueSource::CommandLine) if is_switch(arg) => vec![format!("--{long}").into()],
                Some(ValueSource::CommandLine) => {
                    let values = matches.get_raw(id).into_iter().flatten();
                    values.map(|value| flag(long, value)).collect()
                }
                _ => match (env(long), file.iter().find(|(key, ..)| key == long)) {
                    (Some(text), _) => {
                        let found = of_env(arg, long, &text)?;
                        check(&command, &found, || format!("{PREFIX}{}", name(long)))?;
                        found
                    }
                    (None, Some((key, line, found))) => {
                        check(&command, found, || place(path.as_deref(), *line, key))?;
                        found.clone()
                    }
                    (None, None) => continue,
                },
            };
            words.extend(given);
        }
        let matches = command.try_get_matches_from(words)?;
        T::from_arg_matches(&matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Checks one flag alone, so that an error can say where it is from.
fn check(command: &Command, words: &[OsString], place: impl Fn() -> String) -> Result<(), Error> {
    match command.clone().try_get_matches_from(words) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(wrong(format!("{}: {}", place(), first.strip_prefix("error: ").unwrap_or(first))))
        }
        // What a flag needs beside it may come from elsewhere.
        _ => Ok(()),
    }
}

fn of_env(arg: &Arg, long: &str, text: &str) -> Result<Vec<OsString>, Error> {
    if is_switch(arg) {
        return match text {
            "1" | "true" | "yes" => Ok(vec![format!("--{long}").into()]),
            "0" | "false" | "no" => Ok(Vec::new()),
            _ => Err(wrong(format!("{PREFIX}{}: has to be true or false", name(long)))),
        };
    }
    match is_list(arg) {
        true => Ok(text.split(',').map(|text| flag(long, text.as_ref())).collect()),
        false => Ok(vec![flag(long, text.as_ref())]),
    }
}

/// A key of a file, its line, and the flags it stands for.
type Entry = (String, usize, Vec<OsString>);

fn read(path: &Path, command: &Command) -> Result<Vec<Entry>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("cannot read --config {}: {error}", path.display())))?;
    let line = |at: Option<usize>| text.bytes().take(at.unwrap_or(0)).filter(|b| *b == b'\n').count() + 1;
    let document = Document::parse(text.as_str()).map_err(|error| {
        let why = error.message().lines().collect::<Vec<_>>().join(", ");
        wrong(format!("{} line {}: {why}", path.display(), line(error.span().map(|span| span.start))))
    })?;
    let mut entries = Vec::new();
    for (key, _) in document.as_table().iter() {
        let Some((place_of, item)) = document.as_table().get_key_value(key) else { continue };
        let line = line(place_of.span().map(|span| span.start));
        let wrong = |why: &str| wrong(format!("{}: {why}", place(Some(path), line, key)));
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(key));
        let arg = arg.ok_or_else(|| wrong("there is no such key; keys are called as the flags"))?;
        entries.push((key.to_owned(), line, words(arg, key, item).map_err(wrong)?));
    }
    Ok(entries)
}

fn words(arg: &Arg, key: &str, item: &Item) -> Result<Vec<OsString>, &'static str> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(flag(key, text.value().as_ref())),
        Value::Integer(number) => Ok(flag(key, number.value().to_string().as_ref())),
        _ => Err("has to be a text or a number"),
    };
    match (item.as_value(), is_switch(arg)) {
        (Some(Value::Boolean(on)), true) => {
            Ok(if *on.value() { vec![format!("--{key}").into()] } else { Vec::new() })
        }
        (_, true) => Err("has to be true or false"),
        (Some(Value::Array(list)), false) if is_list(arg) => list.iter().map(one).collect(),
        (Some(value), false) => one(value).map(|word| vec![word]),
        (None, false) => Err("has to be a text or a number"),
    }
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

fn flag(long: &str, value: &std::ffi::OsStr) -> OsString {
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    word
}

fn name(long: &str) -> String {
    long.to_ascii_uppercase().replace('-', "_")
}

/// An empty variable is none.
fn env(long: &str) -> Option<String> {
    std::env::var(format!("{PREFIX}{}", name(long))).ok().filter(|text| !text.is_empty())
}

fn place(path: Option<&Path>, line: usize, key: &str) -> String {
    format!("{} line {line}: {key}", path.unwrap_or(Path::new("")).display())
}

fn wrong(message: String) -> Error {
    Error::raw(ErrorKind::InvalidValue, format!("{message}\n"))
}
