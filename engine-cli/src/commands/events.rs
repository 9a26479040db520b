//! `events`.

use clap::Args;
use engine_core::Event;
use engine_core::events::{EventFilters, EventQuery};
use futures_util::StreamExt;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::filter::Filter;
use crate::output::template::Template;
use crate::output::{self, human};

/// `events`'s flags.
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Show only those that match: type, event, container, image, volume, network, label, scope
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Begin with the events kept since a time, as 2026-11-23T10:00:00Z or 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Runs `events`.
pub(crate) async fn events(context: &Context, args: &EventsArgs) -> Result<u8> {
    let (filters, local) = filters(&args.filter)?;
    let mut query = EventQuery::default().with_filters(filters);
    if let Some(since) = &args.since {
        query = query.with_since(human::parse_time(since)?);
    }
    if let Some(until) = &args.until {
        query = query.with_until(human::parse_time(until)?);
    }
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let json = args.format.as_deref() == Some("json");
    let mut events = context.engine().await?.events(query).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        if !local {
            continue;
        }
        let document = || serde_json::to_value(&event).map_err(|error| Failure::usage(error.to_string()));
        match &template {
            Some(template) => output::line(template.render(&named(document()?))?)?,
            None if json => output::line(document()?)?,
            None => output::line(plain(&event))?,
        }
    }
    Ok(0)
}

/// A line in Docker's form: time, kind, action, id, and the attributes in parentheses.
fn plain(event: &Event) -> String {
    let attributes: Vec<String> =
        event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let time = engine_core::time::rfc3339(event.time);
    let line = format!("{time} {} {} {}", event.object, event.action, event.id);
    if attributes.is_empty() { line } else { format!("{line} ({})", attributes.join(", ")) }
}

/// The document under the names that Docker's templates know: `{{.TimeNano}}`.
fn named(mut document: Value) -> Value {
    for (key, name) in [("time", "Time"), ("timeNano", "TimeNano"), ("scope", "Scope")] {
        document[name] = document[key].take();
    }
    document
}

/// Returns what the filters ask for, and whether events of this host match at all.
fn filters(flags: &[String]) -> Result<(EventFilters, bool)> {
    let mut filters = EventFilters::default();
    let mut scopes = Vec::new();
    for flag in flags {
        let filter = Filter::parse(flag)?;
        let Filter { key, value, .. } = filter;
        let text = value.to_owned();
        match key.trim().to_lowercase().as_str() {
            "type" => filters.objects.push(value.into()),
            "event" => filters.actions.push(value.into()),
            "container" => filters.containers.push(text),
            "image" => filters.images.push(text),
            "volume" => filters.volumes.push(text),
            "network" => filters.networks.push(text),
            "scope" => scopes.push(text),
            "label" => {
                let (key, value) = match value.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (value, None),
                };
                filters.labels.insert((key.to_owned(), value));
            }
            _ => {
                return Err(filter
                    .wrong("the keys are type, event, container, image, volume, network, label and scope"));
            }
        }
    }
    let local = scopes.is_empty() || scopes.iter().any(|scope| scope == "local");
    Ok((filters, local))
}
