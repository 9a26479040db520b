//! What comes after the `?`, read as Docker reads it.

use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;

use super::error::{ApiError, Result};
use super::filters::Filters;

/// The parameters of a request's query.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.query().unwrap_or_default()))
    }
}

impl Params {
    pub(super) fn of(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Returns the first value of `name`; one that is empty is none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// Returns every value of `name`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether `name` was given at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Returns whether `name` is set to something that Docker does not take for "no".
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// As [`flag`](Self::flag), or `default` if it was not given.
    pub(super) fn flag_or(&self, name: &str, default: bool) -> bool {
        let Some(value) = self.all(name).next() else { return default };
        !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Returns the number that `name` is, if it was given.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.text(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!("invalid value for {name}: {value:?} is not a number"))
        })
    }

    /// Returns the value of `name`, which cannot be left out.
    pub(super) fn required(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| ApiError::bad_request(format!("missing parameter: {name}")))
    }

    /// Returns the filters, of which Docker knows two notations.
    pub(super) fn filters(&self) -> Result<Filters> {
        self.text("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_dockers() {
        let params = Params::of("a=1&b=0&c=False&d=&e=yes&f");
        let set: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(|name| params.flag(name)).into();
        assert_eq!(set, [true, false, false, false, true, false, false]);
        assert!(params.flag_or("g", true));
    }

    #[test]
    fn numbers_are_checked() {
        let params = Params::of("t=5&w=5s");
        assert_eq!(params.number::<u32>("t").unwrap(), Some(5));
        assert_eq!(params.number::<u32>("w").unwrap_err().status.as_u16(), 400);
        assert_eq!(params.number::<u32>("x").unwrap(), None);
    }
}
