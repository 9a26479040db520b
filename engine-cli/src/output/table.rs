//! Lists: `--format`, `-q`, `--no-trunc` and aligned columns.
//!
//! Owns how rows of named fields are shown; each command says which fields there are and which columns it shows
//! by default.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::failure::Result;

use super::template::Template;

/// A list to be shown.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// The columns shown without `--format`, as a template.
    pub(crate) columns: &'a str,
    /// The headings of all fields.
    pub(crate) headings: &'a [(&'a str, &'a str)],
    /// The field that `--quiet` shows.
    pub(crate) quiet: &'a str,
}

impl Listing<'_> {
    /// Shows `rows` as `--format` and `--quiet` ask.
    pub(crate) fn show(&self, rows: &[Value], format: Option<&str>, quiet: bool) -> Result<String> {
        let mut out = String::new();
        let source = match format {
            None if quiet => format!("{{{{.{}}}}}", self.quiet),
            None | Some("" | "table") => format!("table {}", self.columns),
            Some("json") => "{{json .}}".to_owned(),
            Some(format) => unescape(format),
        };
        match source.strip_prefix("table ") {
            None => {
                let template = Template::parse(&source)?;
                for row in rows {
                    out.push_str(&template.render(row)?);
                    out.push('\n');
                }
            }
            Some(source) => {
                let template = Template::parse(source)?;
                let headings: Map<String, Value> = self
                    .headings
                    .iter()
                    .map(|(field, text)| ((*field).to_owned(), Value::from(*text)))
                    .collect();
                let mut lines = vec![template.render(&Value::Object(headings))?];
                for row in rows {
                    lines.push(template.render(row)?);
                }
                out.push_str(&align(&lines));
            }
        }
        Ok(out)
    }
}

/// A shell passes `\t` and `\n` as they are typed.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Pads the tab-separated cells of each line, three spaces between columns, as Docker does.
pub(crate) fn align(lines: &[String]) -> String {
    align_with(lines, 3)
}

/// As [`align`], with `gap` spaces between columns.
pub(crate) fn align_with(lines: &[String], gap: usize) -> String {
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths = Vec::new();
    for row in &cells {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                None => widths.push(width),
                Some(known) => *known = width.max(*known),
            }
        }
    }
    let mut out = String::new();
    for row in &cells {
        let last = row.len() - 1;
        for (index, cell) in row.iter().enumerate() {
            let width = if index == last { 0 } else { widths[index] + gap };
            let _ = write!(out, "{cell:width$}");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LISTING: Listing<'_> = Listing {
        columns: "{{.ID}}\t{{.Name}}",
        headings: &[("ID", "THE ID"), ("Name", "NAME")],
        quiet: "ID",
    };

    #[test]
    fn columns_templates_json_and_quiet() {
        let rows = [json!({"ID": "1", "Name": "one"}), json!({"ID": "22222222", "Name": "two"})];
        let show = |format, quiet| LISTING.show(&rows, format, quiet).unwrap();
        assert_eq!(show(None, false), "THE ID     NAME\n1          one\n22222222   two\n");
        assert_eq!(show(None, true), "1\n22222222\n");
        assert_eq!(show(Some("{{.Name}}\\t{{.ID}}"), false), "one\t1\ntwo\t22222222\n");
        assert_eq!(show(Some("table {{.Name}}"), false), "NAME\none\ntwo\n");
        assert_eq!(show(Some("json"), false).lines().next(), Some("{\"ID\":\"1\",\"Name\":\"one\"}"));
    }
}
