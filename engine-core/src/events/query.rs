//! Which events somebody wants.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::event::{Action, Cursor, Event, ObjectKind};

/// Which events to read. The default is all that happen from now on, without an end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EventQuery {
    /// Begins with the events kept since this time.
    pub since: Option<SystemTime>,
    /// Ends at this time: at once if it is past.
    pub until: Option<SystemTime>,
    /// Begins after this event, and fails if events after it are no longer kept.
    pub after: Option<Cursor>,
    /// Leaves out what these do not match.
    pub filters: EventFilters,
}

impl EventQuery {
    /// Begins with the events kept since `time`.
    #[must_use]
    pub fn with_since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Ends at `time`.
    #[must_use]
    pub fn with_until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    /// Begins after the event at `cursor`.
    #[must_use]
    pub fn with_after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Leaves out what `filters` do not match.
    #[must_use]
    pub fn with_filters(mut self, filters: EventFilters) -> Self {
        self.filters = filters;
        self
    }
}

/// Filters of events, as Docker's: values of one kind are alternatives, different kinds must all match.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EventFilters {
    /// Kinds of objects.
    pub objects: Vec<ObjectKind>,
    /// Actions; one without a detail matches it with any: `exec_start`.
    pub actions: Vec<Action>,
    /// Containers, by name, id or the beginning of either.
    pub containers: Vec<String>,
    /// Images, by reference (with or without a tag) or id. A container's event matches by its image.
    pub images: Vec<String>,
    /// Volumes, by name or the beginning of one.
    pub volumes: Vec<String>,
    /// Networks, by name, id or the beginning of either.
    pub networks: Vec<String>,
    /// Labels, all of which must be there: a key, or a key and its value.
    pub labels: BTreeSet<(String, Option<String>)>,
}

impl EventFilters {
    /// Lets events of objects of this kind pass.
    #[must_use]
    pub fn with_object(mut self, object: ObjectKind) -> Self {
        self.objects.push(object);
        self
    }

    /// Lets events with this action pass.
    #[must_use]
    pub fn with_action(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// Lets events of this container pass.
    #[must_use]
    pub fn with_container(mut self, container: impl Into<String>) -> Self {
        self.containers.push(container.into());
        self
    }

    /// Returns whether `event` passes.
    #[must_use]
    pub fn match_event(&self, event: &Event) -> bool {
        let any =
            |list: &[String], test: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|v| test(v));
        let named = |object: ObjectKind| {
            let name = event.attributes.get("name").map_or("", String::as_str);
            move |wanted: &str| {
                event.object == object && (event.id.starts_with(wanted) || name.starts_with(wanted))
            }
        };
        let word = event.action.word();
        (self.objects.is_empty() || self.objects.contains(&event.object))
            && (self.actions.is_empty() || self.actions.iter().any(|a| *a == event.action || *a == word))
            && any(&self.containers, &named(ObjectKind::Container))
            && any(&self.volumes, &named(ObjectKind::Volume))
            && any(&self.networks, &named(ObjectKind::Network))
            && any(&self.images, &|wanted| is_of_image(event, wanted))
            && self.labels.iter().all(|(key, value)| match (event.attributes.get(key), value) {
                (Some(found), Some(value)) => found == value,
                (found, None) => found.is_some(),
                (None, Some(_)) => false,
            })
    }
}

fn is_of_image(event: &Event, wanted: &str) -> bool {
    let key = if event.object == ObjectKind::Image { "name" } else { "image" };
    let name = event.attributes.get(key).map_or("", String::as_str);
    let is = |text: &str| !text.is_empty() && (text == wanted || without_tag(text) == wanted);
    is(name) || (event.object == ObjectKind::Image && is(&event.id))
}

fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') && !before.contains('@') => before,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_dockers_do() {
        let start = Event::new(ObjectKind::Container, Action::Start, "abcdef")
            .with("name", "web")
            .with("image", "registry.example:5000/app:1.0")
            .with("tier", "front");
        let exec = Event::new(ObjectKind::Container, Action::ExecStart.with_detail("ls -l"), "abcdef");
        let pull = Event::new(ObjectKind::Image, Action::Pull, "busybox:1.36").with("name", "busybox");
        let check = |filters: EventFilters, expected: [bool; 3]| {
            let got = [&start, &exec, &pull].map(|event| filters.match_event(event));
            assert_eq!(got, expected, "{filters:?}");
        };
        let own = |text: &str| vec![text.to_owned()];
        check(EventFilters::default(), [true; 3]);
        check(EventFilters { objects: vec![ObjectKind::Image], ..Default::default() }, [false, false, true]);
        check(EventFilters { actions: vec![Action::ExecStart], ..Default::default() }, [false, true, false]);
        check(
            EventFilters { actions: vec!["exec_start: ls -l".into(), Action::Pull], ..Default::default() },
            [false, true, true],
        );
        check(EventFilters { containers: own("abc"), ..Default::default() }, [true, true, false]);
        check(EventFilters { containers: own("web"), ..Default::default() }, [true, false, false]);
        check(
            EventFilters { images: own("registry.example:5000/app"), ..Default::default() },
            [true, false, false],
        );
        check(EventFilters { images: own("busybox"), ..Default::default() }, [false, false, true]);
        check(EventFilters { images: own("busybox:1.36"), ..Default::default() }, [false, false, true]);
        let label = |value: Option<&str>| [("tier".to_owned(), value.map(str::to_owned))].into();
        check(EventFilters { labels: label(None), ..Default::default() }, [true, false, false]);
        check(EventFilters { labels: label(Some("back")), ..Default::default() }, [false; 3]);
    }
}
