//! Options of a container's log: which are refused, and what goes with each entry by them (labels, variables, a tag).

use std::collections::BTreeMap;

use regex::Regex;

use crate::engine::records::Record;
use crate::error::Result;
use crate::launch::{LogDriver, LogOptions};

use super::invalid;

/// Refuses log options that contradict each other, or keep nothing where something is to be kept.
pub(super) fn check(log: &LogOptions) -> Result<()> {
    if log.driver == LogDriver::None {
        return Ok(());
    }
    if log.max_file == 0 || log.max_file > 1000 {
        return Err(invalid("the log option max-file is between 1 and 1000").with("max-file", log.max_file));
    }
    if log.compress && log.max_file == 1 {
        return Err(invalid(
            "the log option compress needs a max-file of at least 2: one file is never full",
        )
        .with("max-file", log.max_file)
        .with_hint("keep more files, or set compress to false"));
    }
    if log.compress && log.max_size == u64::MAX && log.driver == LogDriver::JsonFile {
        return Err(invalid("the log option compress needs a max-size").with_hint("set one"));
    }
    Ok(())
}

/// Returns the attributes that the log options of `record` ask for. `env` is the container's environment.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a tag with a field that is not known, and for what is no regular
/// expression.
pub(super) fn attributes(record: &Record, env: &[String]) -> Result<BTreeMap<String, String>> {
    let data = &record.data;
    let options = &data.spec.log;
    let mut attributes = BTreeMap::new();
    let label = wish("labels-regex", &options.labels, options.labels_regex.as_deref())?;
    for (key, value) in data.defaults.labels.iter().chain(&data.spec.labels) {
        if label(key) {
            attributes.insert(key.clone(), value.clone());
        }
    }
    let variable = wish("env-regex", &options.env, options.env_regex.as_deref())?;
    for (name, value) in env.iter().filter_map(|variable| variable.split_once('=')) {
        if variable(name) {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = &options.tag {
        attributes.insert("tag".to_owned(), expand(tag, record)?);
    }
    Ok(attributes)
}

/// Returns what tells whether a name is in `list` or matches `regex` anywhere, as Docker has it.
fn wish<'a>(
    option: &'static str,
    list: &'a [String],
    regex: Option<&str>,
) -> Result<impl Fn(&str) -> bool + use<'a>> {
    let regex = match regex {
        None => None,
        Some(text) => Some(Regex::new(text).map_err(|error| {
            invalid(format!("the log option {option} is no regular expression"))
                .with(option, text)
                .with_source(error)
        })?),
    };
    Ok(move |name: &str| {
        list.iter().any(|wanted| wanted == name) || regex.as_ref().is_some_and(|regex| regex.is_match(name))
    })
}

/// Replaces the fields of a tag.
fn expand(tag: &str, record: &Record) -> Result<String> {
    let image = record.data.config.hex();
    let mut text = String::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("{{") {
        let (field, behind) = after.split_once("}}").ok_or_else(|| {
            invalid("a field of the log option tag has no end").with("tag", tag).with_hint("close it by }}")
        })?;
        text.push_str(before);
        text.push_str(match field.trim() {
            ".ID" => record.id.short(),
            ".FullID" => record.id.as_str(),
            ".Name" => record.name.as_str(),
            ".ImageName" => &record.data.image,
            ".ImageID" => &image[..12],
            ".ImageFullID" => image,
            ".DaemonName" => "engine",
            other => {
                return Err(invalid("the log option tag has a field that is not known")
                    .with("field", other)
                    .with_hint("use .ID, .FullID, .Name, .ImageName, .ImageID or .ImageFullID"));
            }
        });
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}
