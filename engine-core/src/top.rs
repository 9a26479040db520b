//! Processes as ps(1) shows them: what Docker's `top` passes to it, understood here, without running it.
//!
//! Invariant: a table comes from the host's procfs alone; names of users are the host's (SECURITY E4).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, Result};
use crate::stats::ProcessInfo;

/// A table of processes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProcessTable {
    /// The headings.
    pub titles: Vec<String>,
    /// A row for each process, a cell for each heading.
    pub rows: Vec<Vec<String>>,
}

/// Columns of `ps -ef`.
const FULL: [&str; 8] = ["uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"];
/// Columns of `ps aux`.
const USER: [&str; 11] =
    ["user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "command"];
/// Columns of `ps` alone, and of `ps ax`.
const SHORT: [&str; 4] = ["pid", "tty", "time", "cmd"];
const SHORT_BSD: [&str; 5] = ["pid", "tty", "stat", "time", "command"];

impl ProcessTable {
    /// Shows `processes` with the columns that `options` of ps(1) ask for: `-ef` (Docker's default) if there are none,
    /// `aux` and their like, `-o pid,comm,args`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for options or columns that are not known.
    pub fn new(processes: &[ProcessInfo], options: &[String]) -> Result<Self> {
        let columns = columns(options)?;
        let host = Host::read(&columns);
        Ok(Self {
            titles: columns.iter().map(|column| title(column)).collect(),
            rows: processes
                .iter()
                .map(|process| columns.iter().map(|column| host.cell(column, process)).collect())
                .collect(),
        })
    }
}

fn invalid(why: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "list processes")
        .with("option", what)
        .with_message(why)
        .with_hint("give options of ps such as -ef, aux or -o pid,user,args")
}

fn columns(options: &[String]) -> Result<Vec<String>> {
    let mut chosen: Vec<String> = Vec::new();
    let (mut full, mut user, mut bsd) = (options.is_empty(), false, false);
    let mut words = options.iter().flat_map(|option| option.split_whitespace());
    while let Some(word) = words.next() {
        let dashed = word.starts_with('-');
        let letters = word.trim_start_matches('-');
        if let Some(list) = word.strip_prefix("--format=") {
            chosen.extend(list.split(',').map(str::to_ascii_lowercase));
            continue;
        }
        // An `o` takes what follows it, in the same word or the next.
        let (flags, list) = match letters.split_once('o') {
            Some((flags, "")) => {
                (flags, Some(words.next().ok_or_else(|| invalid("-o needs columns", word))?))
            }
            Some((flags, list)) => (flags, Some(list)),
            None => (letters, None),
        };
        chosen.extend(list.into_iter().flat_map(|list| list.split(',')).map(str::to_ascii_lowercase));
        for flag in flags.chars() {
            match (flag, dashed) {
                ('e' | 'A' | 'a' | 'w', true) | ('x' | 'w', _) | ('a', false) => bsd |= !dashed,
                ('f' | 'F', true) => full = true,
                ('u', false) => user = true,
                _ => return Err(invalid("this option of ps is not known here", word)),
            }
        }
    }
    let own = |list: &[&str]| list.iter().map(|column| (*column).to_owned()).collect();
    if chosen.is_empty() {
        return Ok(match (user, full, bsd) {
            (true, _, _) => own(&USER),
            (_, true, _) => own(&FULL),
            (_, _, true) => own(&SHORT_BSD),
            _ => own(&SHORT),
        });
    }
    match chosen.iter().find(|column| !is_known(column)) {
        Some(unknown) => Err(invalid("this column of ps is not known here", unknown)),
        None => Ok(chosen),
    }
}

fn is_known(column: &str) -> bool {
    const KNOWN: [&str; 43] = [
        "pid", "tgid", "ppid", "pgid", "pgrp", "sid", "sess", "uid", "euid", "user", "euser", "uname", "gid",
        "egid", "group", "egroup", "c", "cp", "pcpu", "%cpu", "pmem", "%mem", "vsz", "vsize", "rss",
        "rssize", "tty", "tt", "stat", "s", "state", "start", "stime", "lstart", "time", "cputime", "etime",
        "ni", "nice", "pri", "nlwp", "comm", "ucmd",
    ];
    KNOWN.contains(&column) || matches!(column, "args" | "cmd" | "command")
}

fn title(column: &str) -> String {
    match column {
        "pcpu" => "%CPU".to_owned(),
        "pmem" => "%MEM".to_owned(),
        "args" | "comm" => "COMMAND".to_owned(),
        "ucmd" => "CMD".to_owned(),
        "tt" => "TT".to_owned(),
        "lstart" => "STARTED".to_owned(),
        "etime" => "ELAPSED".to_owned(),
        "cputime" => "TIME".to_owned(),
        "nice" => "NI".to_owned(),
        "state" => "S".to_owned(),
        "uname" => "USER".to_owned(),
        "vsize" => "VSZ".to_owned(),
        "rssize" => "RSS".to_owned(),
        "sess" => "SESS".to_owned(),
        other => other.to_ascii_uppercase(),
    }
}

/// What cells need of the host.
struct Host {
    now: SystemTime,
    memory: u64,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Host {
    fn read(columns: &[String]) -> Self {
        let wanted = |names: &[&str]| columns.iter().any(|column| names.contains(&column.as_str()));
        let names = |file: &str, wanted: bool| {
            let text = if wanted { std::fs::read_to_string(file).unwrap_or_default() } else { String::new() };
            let entry = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                Some((fields.nth(1)?.parse().ok()?, name))
            };
            // The first name of an id counts (passwd(5)).
            text.lines().rev().filter_map(entry).collect()
        };
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let memory = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            now: SystemTime::now(),
            memory: memory.unwrap_or(0) * 1024,
            // Docker's default shows a name under the heading UID, as ps -f does.
            users: names("/etc/passwd", wanted(&["uid", "user", "euser", "uname"])),
            groups: names("/etc/group", wanted(&["group", "egroup"])),
        }
    }

    fn cell(&self, column: &str, process: &ProcessInfo) -> String {
        let age =
            process.started_at.and_then(|start| self.now.duration_since(start).ok()).unwrap_or_default();
        let cpu =
            if age.is_zero() { 0.0 } else { process.cpu_time.as_secs_f64() / age.as_secs_f64() * 100.0 };
        let name =
            |names: &HashMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        match column {
            "pid" | "tgid" => process.pid.to_string(),
            "ppid" => process.parent.to_string(),
            "pgid" | "pgrp" => process.group.to_string(),
            "sid" | "sess" => process.session.to_string(),
            "euid" => process.uid.to_string(),
            "uid" | "user" | "euser" | "uname" => name(&self.users, process.uid),
            "gid" | "egid" => process.gid.to_string(),
            "group" | "egroup" => name(&self.groups, process.gid),
            "c" | "cp" => format!("{:.0}", cpu.min(99.0)),
            "pcpu" | "%cpu" => format!("{cpu:.1}"),
            "pmem" | "%mem" if self.memory == 0 => "0.0".to_owned(),
            "pmem" | "%mem" => {
                format!("{:.1}", process.resident_memory as f64 / self.memory as f64 * 100.0)
            }
            "vsz" | "vsize" => (process.virtual_memory / 1024).to_string(),
            "rss" | "rssize" => (process.resident_memory / 1024).to_string(),
            "tty" | "tt" => terminal(process.terminal),
            "stat" => stat(process),
            "s" | "state" => process.state.to_string(),
            "start" | "stime" => {
                process.started_at.map_or_else(|| "?".to_owned(), |start| self.start(start, age))
            }
            "lstart" => process.started_at.map_or_else(|| "?".to_owned(), crate::time::rfc3339),
            "time" | "cputime" => clock(process.cpu_time),
            "etime" => elapsed(age),
            "ni" | "nice" => process.nice.to_string(),
            "pri" => (39 - (process.priority + 20)).to_string(),
            "nlwp" => process.threads.to_string(),
            "comm" | "ucmd" => process.name.clone(),
            _ if process.args.is_empty() => format!("[{}]", process.name),
            _ => process.args.join(" "),
        }
    }

    /// The time of day for what started today, else the month and day, as ps.
    fn start(&self, start: SystemTime, age: Duration) -> String {
        let text = crate::time::rfc3339(start);
        let same_day = crate::time::rfc3339(self.now).get(..10) == text.get(..10);
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = text.get(5..7).and_then(|month| month.parse::<usize>().ok());
        match (
            same_day || age < Duration::from_secs(60),
            month.and_then(|month| MONTHS.get(month.wrapping_sub(1))),
        ) {
            (false, Some(month)) => format!("{month}{}", text.get(8..10).unwrap_or_default()),
            _ => text.get(11..16).unwrap_or_default().to_owned(),
        }
    }
}

/// `pts/3`, `tty1`, `?`: the numbers are those of the kernel's devices.txt.
fn terminal(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

fn stat(process: &ProcessInfo) -> String {
    let mut text = process.state.to_string();
    if process.nice < 0 {
        text.push('<');
    } else if process.nice > 0 {
        text.push('N');
    }
    if process.session == process.pid {
        text.push('s');
    }
    if process.threads > 1 {
        text.push('l');
    }
    text
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(options: &[&str]) -> Result<String> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        ProcessTable::new(&[], &options).map(|table| table.titles.join(" "))
    }

    #[test]
    fn options_choose_columns() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        assert_eq!(titles(&[]).unwrap(), full);
        assert_eq!(titles(&["-ef"]).unwrap(), full);
        assert_eq!(titles(&["-e", "-f"]).unwrap(), full);
        assert_eq!(titles(&["aux"]).unwrap(), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(titles(&["ax"]).unwrap(), "PID TTY STAT TIME COMMAND");
        assert_eq!(titles(&["-e"]).unwrap(), "PID TTY TIME CMD");
        assert_eq!(titles(&["-o", "pid,args"]).unwrap(), "PID COMMAND");
        assert_eq!(titles(&["-eo", "pid,comm,pcpu"]).unwrap(), "PID COMMAND %CPU");
        assert_eq!(titles(&["-opid"]).unwrap(), "PID");
        for wrong in [&["-o"][..], &["-o", "pid,bogus"], &["-Z"], &["bogus"], &["--format=x"]] {
            assert_eq!(titles(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong:?}");
        }
    }

    #[test]
    fn cells_are_those_of_ps() {
        let process = ProcessInfo {
            pid: 7,
            session: 7,
            threads: 2,
            state: 'S',
            cpu_time: Duration::from_secs(3723),
            terminal: (136 << 8) | 3,
            args: vec!["sleep".to_owned(), "10".to_owned()],
            ..ProcessInfo::default()
        };
        let options = ["-o".to_owned(), "pid,tty,stat,time,args,uid".to_owned()];
        let table = ProcessTable::new(std::slice::from_ref(&process), &options).unwrap();
        assert_eq!(table.rows, [["7", "pts/3", "Ssl", "01:02:03", "sleep 10", "root"].map(str::to_owned)]);
        assert_eq!(elapsed(Duration::from_secs(90_061)), "1-01:01:01");
        let kernel = ProcessInfo { args: Vec::new(), name: "x".to_owned(), ..process };
        let table = ProcessTable::new(&[kernel], &["-o".to_owned(), "cmd".to_owned()]).unwrap();
        assert_eq!(table.rows, [["[x]".to_owned()]]);
    }
}
