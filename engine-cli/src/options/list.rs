//! The flags that all lists have: what to show, and how.
//!
//! A command flattens [`ListArgs`] into its own flags, and says in its `mut_arg` which filters it has.

use clap::Args;
use serde_json::Value;

use crate::failure::Result;
use crate::output;
use crate::output::table::Listing;

/// `--filter`, `--format` and `--quiet`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Show only those that match
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Show only what tells them apart: ids, or names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl ListArgs {
    /// Returns the text that the flags ask for.
    pub(crate) fn show(&self, listing: &Listing<'_>, rows: &[Value]) -> Result<String> {
        listing.show(rows, self.format.as_deref(), self.quiet)
    }

    /// Prints it.
    pub(crate) fn print(&self, listing: &Listing<'_>, rows: &[Value]) -> Result<()> {
        output::print(&self.show(listing, rows)?)
    }
}
