//! Cgroups of the container: opened for joining, read for out-of-memory kills, removed at the end.
//!
//! The library makes the directories and sets their limits; nothing is configured here.

use core::ffi::CStr;

use crate::plan::{MAX_CGROUPS, Plan, cgroup, tag};
use crate::sys::{self, Fd};
use crate::{Failure, fail, wire::step};

/// Open `tasks` files of v1 and the v2 directory, for the container's life: execs join them too.
pub(crate) struct Cgroups {
    procs: [Fd; MAX_CGROUPS],
    count: usize,
    /// Directory of the v2 cgroup, or -1.
    pub(crate) unified: Fd,
}

impl Cgroups {
    pub(crate) const fn new() -> Self {
        Cgroups { procs: [-1; MAX_CGROUPS], count: 0, unified: -1 }
    }

    /// Opens what the container joins.
    pub(crate) fn open(&mut self, plan: &Plan<'_>) -> Result<(), Failure> {
        for (index, record) in plan.all(tag::CGROUP).enumerate() {
            let Some((flags, path)) = record.number_and_text() else { continue };
            let wrong = fail(step::CGROUP_OPEN, index);
            if flags & cgroup::JOIN == 0 {
                continue;
            }
            let directory =
                sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY | sys::O_DIRECTORY, 0).map_err(wrong)?;
            if flags & cgroup::UNIFIED != 0 {
                self.unified = directory;
                continue;
            }
            // `tasks`, not `cgroup.procs`: a thread that moves itself needs no lock of all processes, which costs the
            // latter a grace period of several milliseconds. What joins has one thread.
            let procs = sys::openat(directory, c"tasks", sys::O_WRONLY, 0);
            sys::close(directory);
            self.procs[self.count] = procs.map_err(wrong)?;
            self.count += 1;
        }
        Ok(())
    }

    /// The v1 `tasks` files.
    pub(crate) fn procs(&self) -> &[Fd] {
        &self.procs[..self.count]
    }
}

/// Lets a paused container be killed.
pub(crate) fn thaw(plan: &Plan<'_>) {
    for (flags, path) in plan.all(tag::CGROUP).filter_map(|record| record.number_and_text()) {
        if flags & cgroup::FREEZER != 0
            && let Ok(directory) = sys::openat(sys::AT_FDCWD, path, sys::O_PATH | sys::O_DIRECTORY, 0)
        {
            if let Ok(state) = sys::openat(directory, c"freezer.state", sys::O_WRONLY, 0) {
                let _ = sys::write(state, b"THAWED");
                sys::close(state);
            }
            sys::close(directory);
        }
    }
}

/// Whether the container is paused, by the hierarchy that does that on this host.
pub(crate) fn frozen(plan: &Plan<'_>, unified: Fd) -> bool {
    let begins = |directory: Fd, name: &CStr, text: &[u8]| {
        let mut bytes = [0; 16];
        let Ok(fd) = sys::openat(directory, name, sys::O_RDONLY, 0) else { return None };
        let count = sys::read(fd, &mut bytes).unwrap_or(0);
        sys::close(fd);
        Some(bytes[..count].starts_with(text))
    };
    let v1 = plan.all(tag::CGROUP).filter_map(|record| record.number_and_text()).any(|(flags, path)| {
        if flags & cgroup::FREEZER == 0 {
            return false;
        }
        let Ok(directory) = sys::openat(sys::AT_FDCWD, path, sys::O_PATH | sys::O_DIRECTORY, 0) else {
            return false;
        };
        let thawed = begins(directory, c"freezer.state", b"THAWED");
        sys::close(directory);
        thawed == Some(false)
    });
    v1 || unified >= 0 && begins(unified, c"cgroup.freeze", b"1") == Some(true)
}

/// How often the kernel killed in the container's cgroups for want of memory, in all its runs.
pub(crate) fn out_of_memory(plan: &Plan<'_>) -> u64 {
    plan.all(tag::OOM_COUNTER).filter_map(|record| record.pair()).fold(0, |sum, (path, key)| {
        let mut bytes = [0; 1024];
        let Ok(fd) = sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0) else { return sum };
        let count = sys::read(fd, &mut bytes).unwrap_or(0);
        sys::close(fd);
        let mut lines = bytes[..count].split(|&byte| byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(key.to_bytes())?.strip_prefix(b" "));
        value.map_or(sum, |digits| sum + decimal(digits))
    })
}

fn decimal(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |value: u64, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))))
}

/// Kills what lives in the container's cgroup, and waits until nothing does.
pub(crate) fn empty(plan: &Plan<'_>) {
    let mut groups = plan.all(tag::CGROUP).filter_map(|record| record.number_and_text());
    let Some((_, path)) = groups.find(|(flags, _)| flags & cgroup::JOIN != 0) else { return };
    thaw(plan);
    for _ in 0..500 {
        if !kill_all(path) {
            break;
        }
        let _ = sys::poll(&mut [], 1);
    }
}

/// Removes the directories, killing what still lives in them (only without an own pid namespace).
pub(crate) fn remove(plan: &Plan<'_>) {
    for (flags, path) in plan.all(tag::CGROUP).filter_map(|record| record.number_and_text()) {
        if flags & cgroup::REMOVE == 0 {
            continue;
        }
        for _ in 0..500 {
            match sys::unlinkat(sys::AT_FDCWD, path, sys::AT_REMOVEDIR) {
                Err(sys::EBUSY) => {
                    let _ = kill_all(path);
                    let _ = sys::poll(&mut [], 1);
                }
                _ => break,
            }
        }
    }
}

/// Kills the processes of one cgroup; false when there was none.
fn kill_all(path: &CStr) -> bool {
    let Ok(directory) = sys::openat(sys::AT_FDCWD, path, sys::O_PATH | sys::O_DIRECTORY, 0) else {
        return false;
    };
    let mut found = false;
    if let Ok(procs) = sys::openat(directory, c"cgroup.procs", sys::O_RDONLY, 0) {
        let mut bytes = [0; 2048];
        let count = sys::read(procs, &mut bytes).unwrap_or(0);
        // Whole lines only; what is left comes with the next try.
        let whole = bytes[..count].iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        for line in bytes[..whole].split(|&byte| byte == b'\n') {
            let pid = decimal(line) as i32;
            if pid > 1 {
                found = true;
                let _ = sys::kill(pid, sys::SIGKILL);
            }
        }
        sys::close(procs);
    }
    sys::close(directory);
    found
}
