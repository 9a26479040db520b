//! The lines of the report, each from one file of the kernel.

use core::ffi::CStr;
use core::fmt::{self, Write};

use crate::sys;

/// Capabilities by number, see capabilities(7).
const CAPABILITIES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

const NAMESPACES: [(&str, &CStr); 7] = [
    ("cgroup", c"/proc/self/ns/cgroup"),
    ("ipc", c"/proc/self/ns/ipc"),
    ("mnt", c"/proc/self/ns/mnt"),
    ("net", c"/proc/self/ns/net"),
    ("pid", c"/proc/self/ns/pid"),
    ("user", c"/proc/self/ns/user"),
    ("uts", c"/proc/self/ns/uts"),
];

/// The rows of /proc/self/limits that people set, see proc_pid_limits(5).
const LIMITS: [(&str, &str); 5] = [
    ("nofile", "Max open files"),
    ("nproc", "Max processes"),
    ("core", "Max core file size"),
    ("stack", "Max stack size"),
    ("memlock", "Max locked memory"),
];

/// Writes the report.
pub(crate) fn write(out: &mut impl Write) -> fmt::Result {
    let mut buffer = [0; 8 << 10];
    out.write_str("Hello from inside a container.\n\n")?;

    writeln!(out, "kernel         Linux {}", read(c"/proc/sys/kernel/osrelease", &mut buffer))?;
    process(out)?;
    writeln!(out, "host name      {}", read(c"/proc/sys/kernel/hostname", &mut buffer))?;
    let status = read(c"/proc/self/status", &mut buffer);
    identity(out, status)?;
    capabilities(out, status)?;
    privileges(out, status)?;
    namespaces(out)?;
    cgroups(out)?;
    limits(out)?;
    mounts(out)?;
    network(out)
}

fn process(out: &mut impl Write) -> fmt::Result {
    let (mut stat, mut uptime) = ([0; 1024], [0; 128]);
    write!(out, "process        pid {}", sys::getpid())?;
    // Field 22 is the start in clock ticks of 10 ms since boot; the name in field 2 may hold spaces.
    let stat = read(c"/proc/self/stat", &mut stat);
    let start = stat.rfind(')').and_then(|at| stat[at + 1..].split_ascii_whitespace().nth(19)).and_then(number);
    let uptime = read(c"/proc/uptime", &mut uptime);
    let (seconds, rest) = uptime.split_once('.').unwrap_or((uptime, "0"));
    let now = number(seconds).zip(rest.split(' ').next().and_then(number)).map(|(s, h)| s * 100 + h);
    if let (Some(now), Some(start)) = (now, start) {
        let ticks = now.saturating_sub(start);
        write!(out, ", started {}.{:02} s ago", ticks / 100, ticks % 100)?;
    }
    out.write_str("\n")
}

fn identity(out: &mut impl Write, status: &str) -> fmt::Result {
    let ids = |key| field(status, key).split_ascii_whitespace().nth(1).unwrap_or("?");
    write!(out, "user           uid {}, gid {}, groups", ids("Uid:"), ids("Gid:"))?;
    let mut groups = field(status, "Groups:").split_ascii_whitespace().peekable();
    if groups.peek().is_none() {
        out.write_str(" none")?;
    }
    for group in groups {
        write!(out, " {group}")?;
    }
    out.write_str("\n")
}

fn capabilities(out: &mut impl Write, status: &str) -> fmt::Result {
    let sets = [
        ("effective", "CapEff:"),
        ("permitted", "CapPrm:"),
        ("bounding", "CapBnd:"),
        ("inheritable", "CapInh:"),
        ("ambient", "CapAmb:"),
    ];
    let mut before: Option<(&str, u64)> = None;
    for (index, (name, key)) in sets.into_iter().enumerate() {
        let label = if index == 0 { "capabilities" } else { "" };
        write!(out, "{label:<14} {name:<12}")?;
        let bits = u64::from_str_radix(field(status, key), 16).unwrap_or(0);
        let all = (1_u64 << CAPABILITIES.len()) - 1;
        match before {
            _ if bits == 0 => out.write_str("none")?,
            Some((other, same)) if same == bits => write!(out, "as {other}")?,
            _ if bits & all == all => out.write_str("all")?,
            _ => {
                let held = (0..64_usize).filter(|n| bits & (1 << n) != 0);
                for (index, number) in held.enumerate() {
                    let space = if index == 0 { "" } else { " " };
                    match CAPABILITIES.get(number) {
                        Some(name) => write!(out, "{space}{name}")?,
                        None => write!(out, "{space}{number}")?,
                    }
                }
            }
        }
        before = before.filter(|(_, same)| *same == bits).or(Some((name, bits)));
        out.write_str("\n")?;
    }
    Ok(())
}

fn privileges(out: &mut impl Write, status: &str) -> fmt::Result {
    let set = if field(status, "NoNewPrivs:") == "1" { "set: set-user-ID programs gain nothing" } else { "not set" };
    write!(out, "no_new_privs   {set}\nseccomp        ")?;
    match field(status, "Seccomp:") {
        "0" => out.write_str("off\n"),
        "2" => match field(status, "Seccomp_filters:") {
            "" => out.write_str("filter\n"),
            count => writeln!(out, "filter ({count})"),
        },
        other => writeln!(out, "mode {other}"),
    }
}

fn namespaces(out: &mut impl Write) -> fmt::Result {
    out.write_str("namespaces    ")?;
    for (name, path) in NAMESPACES {
        let mut buffer = [0; 64];
        // "net:[4026531992]"
        let id = sys::read_link(path, &mut buffer).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("?");
        let id = id.split_once('[').map_or(id, |(_, rest)| rest.trim_end_matches(']'));
        write!(out, " {name} {id}")?;
    }
    out.write_str("\n")
}

fn cgroups(out: &mut impl Write) -> fmt::Result {
    let mut buffer = [0; 4096];
    // Version 2 has one line, "0::/path"; version 1 one for each hierarchy, mostly with the same path.
    let text = read(c"/proc/self/cgroup", &mut buffer);
    out.write_str("cgroup         ")?;
    let mut shown: Option<&str> = None;
    for line in text.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap_or("?");
        if shown != Some(path) {
            let comma = if shown.is_none() { "" } else { ", " };
            write!(out, "{comma}{path}")?;
            shown = Some(path);
        }
    }
    let first = |paths: [&'static CStr; 2], buffer: &mut [u8; 64]| {
        paths.into_iter().find_map(|path| sys::read_file(path, buffer).map(|bytes| bytes.len()))
    };
    let mut value = [0; 64];
    out.write_str("\nlimits         memory ")?;
    match first([c"/sys/fs/cgroup/memory.max", c"/sys/fs/cgroup/memory/memory.limit_in_bytes"], &mut value) {
        None => out.write_str("unknown")?,
        Some(size) => match number(text_of(&value[..size])) {
            // Version 1 shows "no limit" as the largest multiple of a page.
            Some(bytes) if bytes < 1 << 60 => write!(out, "{bytes} bytes")?,
            _ => out.write_str("unlimited")?,
        },
    }
    out.write_str(", processes ")?;
    match first([c"/sys/fs/cgroup/pids.max", c"/sys/fs/cgroup/pids/pids.max"], &mut value) {
        None => out.write_str("unknown")?,
        Some(size) => match number(text_of(&value[..size])) {
            Some(count) => write!(out, "{count}")?,
            None => out.write_str("unlimited")?,
        },
    }
    out.write_str("\n")
}

fn limits(out: &mut impl Write) -> fmt::Result {
    let mut buffer = [0; 4096];
    let text = read(c"/proc/self/limits", &mut buffer);
    out.write_str("rlimits       ")?;
    for (name, row) in LIMITS {
        let Some(rest) = text.lines().find_map(|line| line.strip_prefix(row)) else { continue };
        let mut words = rest.split_ascii_whitespace();
        write!(out, " {name} {}:{}", words.next().unwrap_or("?"), words.next().unwrap_or("?"))?;
    }
    out.write_str("\n")
}

fn mounts(out: &mut impl Write) -> fmt::Result {
    let mut buffer = [0; 64 << 10];
    let text = read(c"/proc/self/mountinfo", &mut buffer);
    let mut root = ("?", "?");
    for line in text.lines() {
        // proc_pid_mountinfo(5): field 5 is the mount point, 6 its options, and the type follows the hyphen.
        let mut fields = line.split(' ').skip(4);
        if fields.next() == Some("/") {
            let options = fields.next().and_then(|o| o.split(',').next()).unwrap_or("?");
            let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("?");
            root = (kind, options);
        }
    }
    writeln!(out, "mounts         {}, root file system {} ({})", text.lines().count(), root.0, root.1)
}

fn network(out: &mut impl Write) -> fmt::Result {
    let mut buffer = [0; 8 << 10];
    out.write_str("network       ")?;
    // Two lines of headings, then "  name: counters".
    for line in read(c"/proc/self/net/dev", &mut buffer).lines().skip(2) {
        write!(out, " {}", line.split(':').next().unwrap_or("?").trim())?;
    }
    out.write_str("\n")
}

/// Returns a file's text without its last newline; empty if it cannot be read.
fn read<'a>(path: &CStr, buffer: &'a mut [u8]) -> &'a str {
    let size = sys::read_file(path, buffer).map_or(0, |bytes| bytes.len());
    text_of(&buffer[..size])
}

fn text_of(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("?").trim_end_matches('\n')
}

/// Returns what follows `key` on its line of /proc/self/status.
fn field<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("").trim()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}
