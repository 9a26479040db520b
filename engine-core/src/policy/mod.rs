//! What a container may do, as data and rules: capabilities, defaults, sysctls.
//!
//! The facade makes launch specifications with it; a runtime puts them in force. Nothing here makes a change.

pub mod capabilities;
pub mod defaults;
pub mod sysctl;

pub use capabilities::{CapabilitySet, ProcessCapabilities};
