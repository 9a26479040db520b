//! Tests of `LinuxRuntime` with real namespaces, mounts and cgroups. They need root, overlayfs and busybox-static.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "linux")]

mod exec;
mod lifecycle;
mod support;
