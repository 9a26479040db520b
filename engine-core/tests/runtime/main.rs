//! Tests of `LinuxRuntime` with real namespaces, mounts and cgroups. They need root, overlayfs and busybox-static.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "modules of one test program")]
#![cfg(feature = "linux")]

mod branches;
mod cgroups;
mod dns;
mod exec;
mod exec_snapshots;
mod files;
mod forwarding;
mod health;
mod joining;
mod keep;
mod lifecycle;
mod names;
mod namespaces;
mod net_devices;
mod paths;
mod privileges;
mod relays;
mod restart;
mod scheduling;
mod streams;
mod support;
mod systemd;
mod userns;
mod users;
mod volumes;
