//! Times in the type that the models have for them.
//!
//! It is text here, and another type where some dependency of the same program turns a feature of the models' crate on, which has no
//! name for it: so a time gets there as documents do.

use std::time::SystemTime;

use bollard_stubs::models::{BollardDate, HealthcheckResult};
use engine_core::time::rfc3339;
use serde_json::json;

/// A time.
pub(super) fn date(time: SystemTime) -> Option<BollardDate> {
    parsed(&rfc3339(time))
}

/// A time as somebody else wrote it (RFC 3339); `None` for an empty text, or one that the type cannot hold.
pub(super) fn parsed(text: &str) -> Option<BollardDate> {
    if text.is_empty() {
        return None;
    }
    serde_json::from_value::<HealthcheckResult>(json!({ "Start": text })).ok()?.start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_gets_into_the_models() {
        let text = |date: Option<BollardDate>| serde_json::to_value(date).unwrap();
        assert_eq!(text(date(SystemTime::UNIX_EPOCH)), rfc3339(SystemTime::UNIX_EPOCH));
        assert_eq!(parsed("2024-02-29T12:00:00.5Z"), Some("2024-02-29T12:00:00.5Z".to_owned()));
        assert_eq!(parsed(""), None);
    }
}
