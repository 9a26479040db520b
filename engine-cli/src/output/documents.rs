//! What `inspect` prints: documents as one JSON list, or each by a template.

use serde_json::Value;

use super::template::Template;
use crate::failure::{Failure, Result};

/// How documents are printed.
pub(crate) struct Documents(Option<Template>);

impl Documents {
    /// Takes the value of `--format`: a template, or json for a line each.
    ///
    /// # Errors
    /// For a template that is none.
    pub(crate) fn new(format: Option<&str>) -> Result<Self> {
        Ok(Self(match format {
            None => None,
            Some("json") => Some(Template::parse("{{json .}}")?),
            Some(format) => Some(Template::parse(format)?),
        }))
    }

    /// Prints them.
    ///
    /// # Errors
    /// For a template that asks for what is not there.
    pub(crate) fn print(&self, documents: &[Value]) -> Result<()> {
        let Some(template) = &self.0 else {
            let pretty =
                serde_json::to_string_pretty(documents).map_err(|e| Failure::usage(e.to_string()))?;
            return super::line(pretty);
        };
        for document in documents {
            super::line(template.render(document)?)?;
        }
        Ok(())
    }
}
