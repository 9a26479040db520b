//! Tests of how the shim answers names: its pure files, compiled here as well.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the shim's files; tests use them here"
)]

#[path = "../../shim/names/answer.rs"]
mod answer;
#[path = "../../shim/names/config.rs"]
mod config;
#[path = "../../shim/names/message.rs"]
mod message;
#[path = "../../shim/names/zone.rs"]
mod zone;

mod tests;
