//! Which things a prune may remove.

use engine_core::engine::{LabelFilter, PruneOptions};

use super::error::Result;
use super::filters::Filters;
use super::times;

/// Reads the filters that every prune has: `until`, `label`, `label!`.
pub(super) fn options(filters: &Filters) -> Result<PruneOptions> {
    let mut options = PruneOptions::default();
    for text in filters.get("until") {
        options = options.with_until(times::parse("until", text)?);
    }
    for (name, present) in [("label", true), ("label!", false)] {
        for text in filters.get(name) {
            options = options.with_label(LabelFilter::parse(text, present));
        }
    }
    Ok(options)
}
