//! The library's side of the shim: its binary, starting it, talking to it, reading its state file.
//!
//! What a container is made of is decided in `runtime`; this module carries plans over and answers back.
//! Invariant: the host program never has a child of ours for longer than [`spawn`] runs.

mod connection;
mod failure;
mod spawn;
mod state_file;

#[allow(dead_code, unreachable_pub, reason = "both sides of the messages; the library uses one of each")]
#[path = "../../../shim/wire.rs"]
pub(crate) mod wire;

pub(crate) use connection::{Connection, is_gone};
pub(crate) use failure::{Failure, Names};
pub(crate) use spawn::{sealed, spawn};
pub(crate) use state_file::{ShimState, StateStatus, boot_id};
