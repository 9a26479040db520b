//! What goes with each entry of a container's log: labels, variables, a tag.

use std::collections::BTreeMap;

use crate::engine::records::Record;
use crate::error::Result;

use super::invalid;

/// Returns the attributes that the log options of `record` ask for. `env` is the container's environment.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a tag with a field that is not known.
pub(super) fn attributes(record: &Record, env: &[String]) -> Result<BTreeMap<String, String>> {
    let data = &record.data;
    let options = &data.spec.log;
    let mut attributes = BTreeMap::new();
    for key in &options.labels {
        if let Some(value) = data.spec.labels.get(key).or_else(|| data.defaults.labels.get(key)) {
            attributes.insert(key.clone(), value.clone());
        }
    }
    for variable in env {
        if let Some((name, value)) = variable.split_once('=')
            && options.env.iter().any(|wanted| wanted == name)
        {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = &options.tag {
        attributes.insert("tag".to_owned(), expand(tag, record)?);
    }
    Ok(attributes)
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
