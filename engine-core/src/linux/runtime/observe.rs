//! What runs in a container and what it uses: read from the host's procfs and the container's group.
//!
//! Nothing is executed in the container and nothing of it is mounted or entered (SECURITY E4): a process is what the
//! host's kernel says of it. What it says itself (its command line) is text of bounded length.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use super::Inner;
use crate::error::{ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::cgroup::Cgroup;
use crate::stats::{NetworkStats, ProcessInfo, Stats};

/// As much of a command line as is shown.
const COMMAND_LINE: u64 = 64 << 10;

impl Inner {
    pub(super) async fn stats(self: &Arc<Self>, id: &ContainerId) -> Result<Stats> {
        const OPERATION: &str = "read statistics";
        let init = self.state_file(OPERATION, id)?.init.pid;
        let read = move |group: &Cgroup| {
            let mut stats = group.stats()?;
            stats.read_at = Some(SystemTime::now());
            stats.online_cpus =
                std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
            stats.networks = networks(init);
            Ok(stats)
        };
        match self.with_group(OPERATION, id, read).await {
            // Nothing is used after the end.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                self.state_file(OPERATION, id).map(|_| Stats::default())
            }
            read => read,
        }
    }

    pub(super) async fn processes(self: &Arc<Self>, id: &ContainerId) -> Result<Vec<ProcessInfo>> {
        const OPERATION: &str = "list processes";
        let init = self.state_file(OPERATION, id)?.init.pid;
        let read = move |group: &Cgroup| {
            let mut list: Vec<ProcessInfo> = group.processes().into_iter().filter_map(process).collect();
            list.sort_by_key(|process| (process.pid != init, process.pid));
            Ok(list)
        };
        match self.with_group(OPERATION, id, read).await {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                self.state_file(OPERATION, id).map(|_| Vec::new())
            }
            read => read,
        }
    }
}

/// The interfaces that the process `pid` sees, unless it sees the host's.
fn networks(pid: u32) -> BTreeMap<String, NetworkStats> {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let theirs = namespace(&pid.to_string());
    if theirs.is_none() || theirs == namespace("self") {
        return BTreeMap::new();
    }
    interfaces(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

/// The lines of /proc/net/dev (proc_pid_net(5)), all but the loopback, as Docker has it.
fn interfaces(text: &str) -> BTreeMap<String, NetworkStats> {
    let mut found = BTreeMap::new();
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        let numbers: Vec<u64> = counters.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let (
            [
                received,
                packets,
                errors,
                dropped,
                _,
                _,
                _,
                _,
                sent,
                sent_packets,
                send_errors,
                send_dropped,
                ..,
            ],
            true,
        ) = (&numbers[..], name.trim() != "lo")
        {
            found.insert(
                name.trim().to_owned(),
                NetworkStats {
                    received: *received,
                    received_packets: *packets,
                    receive_errors: *errors,
                    receive_dropped: *dropped,
                    sent: *sent,
                    sent_packets: *sent_packets,
                    send_errors: *send_errors,
                    send_dropped: *send_dropped,
                },
            );
        }
    }
    found
}

/// What the host's procfs says of a process; `None` if it is gone.
fn process(pid: u32) -> Option<ProcessInfo> {
    use std::os::unix::fs::MetadataExt as _;
    let dir = format!("/proc/{pid}");
    let stat = std::fs::read(format!("{dir}/stat")).ok()?;
    let owner = std::fs::metadata(&dir).ok()?;
    let mut command = Vec::new();
    let file = std::fs::File::open(format!("{dir}/cmdline")).ok()?;
    file.take(COMMAND_LINE).read_to_end(&mut command).ok()?;
    let args = command.strip_suffix(b"\0").unwrap_or(&command).split(|byte| *byte == 0);
    let args = args.map(|arg| String::from_utf8_lossy(arg).into_owned()).filter(|_| !command.is_empty());
    let mut info = of_stat(&String::from_utf8_lossy(&stat), boot_time())?;
    (info.uid, info.gid) = effective_ids(&dir).unwrap_or((owner.uid(), owner.gid()));
    info.args = args.collect();
    Some(info)
}

/// Effective user and group, from /proc/PID/status: the owner of the directory is root for what cannot be traced.
fn effective_ids(dir: &str) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(format!("{dir}/status")).ok()?;
    let id = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some((id("Uid:")?, id("Gid:")?))
}

/// The fields of /proc/PID/stat (proc_pid_stat(5)). The name may hold anything, parentheses too.
fn of_stat(stat: &str, boot: Option<SystemTime>) -> Option<ProcessInfo> {
    let (start, end) = (stat.find('(')?, stat.rfind(')')?);
    let fields: Vec<&str> = stat.get(end + 2..)?.split_ascii_whitespace().collect();
    // The first of these is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    let unsigned = |field: usize| number(field).and_then(|n| u32::try_from(n).ok());
    let bytes = |field: usize| number(field).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let time = |ticks_used: u64| Duration::from_millis(ticks_used * 1000 / ticks);
    Some(ProcessInfo {
        pid: stat[..start].trim().parse().ok()?,
        name: stat.get(start + 1..end)?.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: unsigned(4)?,
        group: unsigned(5).unwrap_or(0),
        session: unsigned(6).unwrap_or(0),
        terminal: unsigned(7).unwrap_or(0),
        cpu_time: time(bytes(14) + bytes(15)),
        priority: number(18).and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
        nice: number(19).and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
        threads: unsigned(20).unwrap_or(1),
        started_at: boot.map(|boot| boot + time(bytes(22))),
        virtual_memory: bytes(23),
        resident_memory: bytes(24) * rustix::param::page_size() as u64,
        ..ProcessInfo::default()
    })
}

/// When the host was booted, from /proc/stat (proc_stat(5)).
fn boot_time() -> Option<SystemTime> {
    static BOOT: OnceLock<Option<SystemTime>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_fields() {
        let line = "42 (a) b (c) S 1 42 41 34816 42 4194560 1 0 0 0 150 50 0 0 20 5 3 0 1000 8192 2 1";
        let info = of_stat(line, Some(SystemTime::UNIX_EPOCH)).unwrap();
        assert_eq!((info.pid, info.parent, info.session, info.name.as_str()), (42, 1, 41, "a) b (c"));
        assert_eq!((info.nice, info.threads, info.virtual_memory, info.terminal), (5, 3, 8192, 34816));
        assert_eq!(info.cpu_time, Duration::from_secs(2));
        assert!(of_stat("", None).is_none() && of_stat("1 (x", None).is_none());
    }

    #[test]
    fn interfaces_are_read() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes\n\
                        lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n\
                      eth0:    2000      20    1    2    0     0          0         0     3000      30    3    4    0     0       0          0\n";
        let found = interfaces(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["eth0"]);
        let eth = found["eth0"];
        assert_eq!(
            (eth.received, eth.received_packets, eth.receive_errors, eth.receive_dropped),
            (2000, 20, 1, 2)
        );
        assert_eq!((eth.sent, eth.sent_packets, eth.send_errors, eth.send_dropped), (3000, 30, 3, 4));
    }
}
