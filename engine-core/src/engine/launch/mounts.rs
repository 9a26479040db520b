//! The kernel's file systems in a container.

use oci_spec::runtime::{Mount as OciMount, MountBuilder};

use crate::container_spec::{ContainerSpec, NamespaceMode};
use crate::error::Result;
use crate::policy::defaults;

use super::{Joined, failed};

/// Returns /proc, /dev, /sys and what belongs to them.
pub(super) fn kernel_mounts(spec: &ContainerSpec, joined: &Joined) -> Result<Vec<OciMount>> {
    let sys_access = if spec.privileged { "rw" } else { "ro" };
    let shm_size = format!("size={}", spec.shm_size.unwrap_or(defaults::SHM_SIZE));
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys_access])?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys_access])?,
    ];
    // /dev/shm and the message queues belong to the IPC namespace.
    match (&spec.ipc_mode, &joined.ipc) {
        (NamespaceMode::Host, _) => {
            list.push(bind("/dev/mqueue", "/dev/mqueue")?);
            list.push(bind("/dev/shm", "/dev/shm")?);
        }
        (_, Some(peer)) => {
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
            list.push(bind("/dev/shm", &format!("/proc/{}/root/dev/shm", peer.pid))?);
        }
        // Zero is none at all.
        (_, None) if spec.shm_size == Some(0) => {
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        }
        (_, None) => {
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
            list.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &shm_size],
            )?);
        }
    }
    // The host has no message queue file system unless somebody mounted one.
    list.retain(|m| {
        m.typ().as_deref() != Some("bind") || m.source().as_ref().is_some_and(|source| source.exists())
    });
    Ok(list)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Result<OciMount> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(failed)
}

fn bind(target: &str, source: &str) -> Result<OciMount> {
    mount(target, "bind", source, &["bind", "nosuid", "noexec", "nodev"])
}
