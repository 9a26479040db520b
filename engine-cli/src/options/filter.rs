//! One `--filter KEY=VALUE`.

use crate::failure::{Failure, Result};

/// A filter as it was given, in two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter<'a> {
    text: &'a str,
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
}

impl<'a> Filter<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let (key, value) = text.split_once('=').ok_or_else(|| wrong(text, "give KEY=VALUE"))?;
        Ok(Self { text, key, value })
    }

    /// Says why it is wrong.
    pub(crate) fn wrong(&self, why: &str) -> Failure {
        wrong(self.text, why)
    }

    /// Reads a value that is true or false.
    pub(crate) fn flag(&self) -> Result<bool> {
        match self.value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.wrong("it is true or false")),
        }
    }
}

fn wrong(text: &str, why: &str) -> Failure {
    Failure::usage(format!("invalid filter {text:?}: {why}"))
}
