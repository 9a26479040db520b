//! `filters`: which things of a kind a request is about.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{ApiError, Result};

/// Values by the filter's name. Those of one name are alternatives, except labels, which all have to be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `{"name": ["a", "b"]}`, or Docker's older `{"name": {"a": true}}`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || ApiError::bad_request(format!("invalid filters {text:?}: not a JSON object of lists"));
        let Ok(Value::Object(all)) = serde_json::from_str(text) else { return Err(wrong()) };
        let mut filters = BTreeMap::new();
        for (name, values) in all {
            let values = match values {
                Value::Array(list) => list
                    .into_iter()
                    .map(|value| match value {
                        Value::String(value) => Ok(value),
                        _ => Err(wrong()),
                    })
                    .collect::<Result<Vec<_>>>()?,
                Value::Object(map) => map
                    .into_iter()
                    .filter(|(_, on)| on.as_bool() != Some(false))
                    .map(|(value, _)| value)
                    .collect(),
                Value::Null => Vec::new(),
                _ => return Err(wrong()),
            };
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    /// Refuses filters beyond those that are `known`.
    pub(super) fn only(self, known: &[&str]) -> Result<Self> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::bad_request(format!("invalid filter '{name}'"))),
            None => Ok(self),
        }
    }

    /// Returns the values of a filter.
    pub(super) fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns every filter with each of its values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())))
    }

    /// Returns whether a filter is not there, or has a value that `matches`.
    pub(super) fn any(&self, name: &str, matches: impl FnMut(&String) -> bool) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(matches)
    }

    /// Returns what a filter that is a flag says, if it is there.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            [] => Ok(None),
            [value] => match value.as_str() {
                "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(Some(true)),
                "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(Some(false)),
                _ => Err(ApiError::bad_request(format!("invalid filter '{name}={value}'"))),
            },
            values => Err(ApiError::bad_request(format!("invalid filter '{name}={values:?}'"))),
        }
    }

    /// Returns whether something's labels have all that the filter `label` asks for: `key`, or `key=value`.
    pub(super) fn labels<'a>(&self, label: impl Fn(&str) -> Option<&'a String>) -> bool {
        self.get("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => label(key).is_some_and(|has| has == value),
            None => label(wanted).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        for text in [r#"{"status":["running","exited"]}"#, r#"{"status":{"running":true,"exited":true}}"#] {
            let mut values = Filters::parse(text).unwrap().get("status").to_vec();
            values.sort();
            assert_eq!(values, ["exited", "running"]);
        }
        for text in ["[]", "{", r#"{"a":1}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(text).unwrap_err().status.as_u16(), 400, "{text}");
        }
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let filters = Filters::parse(r#"{"colour":["red"]}"#).unwrap();
        assert_eq!(filters.only(&["label"]).unwrap_err().message, "invalid filter 'colour'");
    }
}
