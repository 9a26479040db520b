//! Which things a prune may remove.

use std::time::SystemTime;

use engine_core::engine::{LabelFilter, PruneOptions};

use super::error::{ApiError, Result};
use super::filters::Filters;
use super::times;

/// Reads the filters that every prune has: `until`, `label`, `label!`.
pub(super) fn options(filters: &Filters) -> Result<PruneOptions> {
    let mut options = PruneOptions::default();
    options.until = until(filters)?;
    for (name, present) in [("label", true), ("label!", false)] {
        for text in filters.get(name) {
            options = options.with_label(LabelFilter::parse(text, present));
        }
    }
    Ok(options)
}

/// Reads up to when something may have been made that a prune removes.
pub(super) fn until(filters: &Filters) -> Result<Option<SystemTime>> {
    // The second is what it was called before, of the cache of builds.
    match [filters.get("until"), filters.get("unused-for")].concat().as_slice() {
        [] => Ok(None),
        [until] => times::parse("until", until).map(Some),
        _ => Err(ApiError::bad_request("more than one until filter specified")),
    }
}
