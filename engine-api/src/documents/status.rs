//! A container's state in a sentence, as `docker ps` shows it.

use std::time::{Duration, SystemTime};

use engine_core::ContainerStatus;
use engine_core::state::RuntimeState;

use crate::notation::duration;

/// Returns Docker's sentence about a state: `Exited (0) 3 minutes ago`.
#[must_use]
pub fn status_text(state: &RuntimeState) -> String {
    let since = |time: Option<SystemTime>| {
        let past = time.and_then(|t| SystemTime::now().duration_since(t).ok());
        duration(past.unwrap_or(Duration::ZERO))
    };
    match state.status {
        ContainerStatus::Created => "Created".to_owned(),
        ContainerStatus::Running => {
            let health = match health_word(state) {
                "none" => String::new(),
                "starting" => " (health: starting)".to_owned(),
                other => format!(" ({other})"),
            };
            format!("Up {}{health}", since(state.started_at))
        }
        ContainerStatus::Paused => format!("Up {} (Paused)", since(state.started_at)),
        ContainerStatus::Exited => {
            format!("Exited ({}) {} ago", state.exit.map_or(0, |e| e.code), since(state.finished_at))
        }
        ContainerStatus::Restarting => {
            format!("Restarting ({}) {} ago", state.exit.map_or(0, |e| e.code), since(state.finished_at))
        }
        other => {
            let text = other.as_str();
            format!("{}{}", text[..1].to_uppercase(), &text[1..])
        }
    }
}

/// Returns Docker's word about a container's health.
#[must_use]
pub fn health_word(state: &RuntimeState) -> &'static str {
    state.health.as_ref().map_or("none", |health| health.status.as_str())
}
