//! System calls: thin wrappers that return the kernel's error number.
//!
//! One file per topic; all of them are reached as `sys::name`. Descriptors are plain numbers: the shim runs one short
//! script per process and closes by `exit` or `close_range`.
//! Invariant: nothing here keeps a pointer after the call returned.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;
mod call;
mod datagram;
mod descriptor;
mod epoll;
mod errno;
mod limits;
mod memory;
mod mount;
mod namespace;
mod path;
mod process;
mod rights;
mod signal;
mod socket;
mod splice;
mod terminal;
mod time;

pub(crate) use datagram::*;
pub(crate) use descriptor::*;
pub(crate) use epoll::*;
pub(crate) use errno::*;
pub(crate) use limits::*;
pub(crate) use memory::*;
pub(crate) use mount::*;
pub(crate) use namespace::*;
pub(crate) use path::*;
pub(crate) use process::*;
pub(crate) use rights::*;
pub(crate) use signal::*;
pub(crate) use socket::*;
pub(crate) use splice::*;
pub(crate) use terminal::*;
pub(crate) use time::*;

pub(crate) type Fd = i32;
