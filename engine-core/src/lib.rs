//! Core.

#[cfg(feature = "linux")]
pub mod linux;
