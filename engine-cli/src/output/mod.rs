//! What the commands print: text, tables, templates, Docker-shaped JSON.

pub(crate) mod build;
pub(crate) mod docker_json;
pub(crate) mod dockerfile;
pub(crate) mod documents;
pub(crate) mod human;
pub(crate) mod ports;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod whole;

use std::io::{self, Write};

use crate::failure::{Failure, Result};

/// Writes `text` to standard output. A reader that has gone ends the program quietly, as SIGPIPE would.
pub(crate) fn print(text: &str) -> Result<()> {
    write(&mut io::stdout().lock(), text.as_bytes())
}

/// Writes `text` and a newline to standard output.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Writes bytes and flushes.
pub(crate) fn write(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(141),
        _ => Failure::usage(format!("cannot write the output: {error}")),
    })
}
