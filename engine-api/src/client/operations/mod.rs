//! The operations of an engine, as calls. What they promise stands at the traits.

mod build;
mod containers;
mod files;
mod images;
mod networks;
mod processes;
mod secrets;
mod system;
mod transfers;
mod volumes;
