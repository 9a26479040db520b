//! Looking at the machine: what there is, and whose it is.
//!
//! Reads procfs, sysfs and the engine's directories and changes nothing. Races are expected: what vanishes while being read
//! is not there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use sha2::{Digest as _, Sha256};

use super::Finding;

/// What counts: see the module above.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    root: PathBuf,
    run_root: PathBuf,
    tokens: Vec<String>,
    /// Clock ticks since boot: a mount table of a process older than this shows others' mounts by propagation only.
    since: u64,
    pub(crate) exclusive: bool,
    pub(crate) whole: bool,
}

impl Scope {
    pub(crate) fn new(root: &Path, run_root: &Path) -> Self {
        // /proc shows resolved paths. The directories may not exist yet, their parents mostly do.
        let resolve = |path: &Path| {
            fs::canonicalize(path).unwrap_or_else(|_| match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    fs::canonicalize(parent).map_or_else(|_| path.to_path_buf(), |parent| parent.join(name))
                }
                _ => path.to_path_buf(),
            })
        };
        let (root, run_root) = (resolve(root), resolve(run_root));
        // Cgroups carry an owner id, which the runtime makes of its directory.
        let directory = root.join("containers");
        let owner = hex::encode(&Sha256::digest(directory.as_os_str().as_bytes())[..4]);
        let tokens = vec![root.display().to_string(), run_root.display().to_string(), format!("/{owner}-")];
        let uptime = text("/proc/uptime");
        // USER_HZ is 100 on every Linux architecture that matters, see proc_pid_stat(5).
        let since =
            uptime.split(['.', ' ']).next().and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(0)
                * 100;
        let mut scope = Self { root, run_root, tokens, since, exclusive: false, whole: false };
        scope.learn_containers();
        scope
    }

    pub(crate) fn add_token(&mut self, token: &str) {
        self.tokens.push(token.to_owned());
    }

    /// Adds the ids of the containers that exist: cgroups and links are named after them.
    pub(crate) fn learn_containers(&mut self) {
        for name in list(&self.root.join("containers")).into_iter().filter(|name| name.len() >= 32) {
            if !self.tokens.contains(&name) {
                self.tokens.push(name);
            }
        }
    }

    /// Returns the first line of `text` that is ours.
    fn line<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.lines().find(|line| self.owns(line))
    }

    fn owns(&self, text: &str) -> bool {
        self.tokens.iter().any(|token| {
            text.match_indices(token.as_str()).any(|(at, _)| {
                // "/tmp/x" must not own "/tmp/xy".
                !text[at + token.len()..].starts_with(|c: char| {
                    c.is_ascii_alphanumeric() && token.starts_with('/') && !token.ends_with('-')
                })
            })
        })
    }
}

/// Returns everything that counts, now.
pub(crate) fn look(scope: &Scope) -> BTreeSet<Finding> {
    let mut found = BTreeSet::new();
    processes(scope, &mut found);
    mounts(scope, &mut found);
    links(scope, &mut found);
    nftables(scope, &mut found);
    cgroups(scope, &mut found);
    loops(scope, &mut found);
    descriptors(scope, &mut found);
    files(scope, &mut found);
    found
}

fn add(found: &mut BTreeSet<Finding>, kind: &'static str, what: String) {
    add_with(found, kind, what, String::new());
}

fn add_with(found: &mut BTreeSet<Finding>, kind: &'static str, what: String, why: String) {
    found.insert(Finding { kind, what, why });
}

fn list(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn link(path: impl AsRef<Path>) -> String {
    fs::read_link(path).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).unwrap_or_default()
}

struct Process {
    pid: u32,
    name: String,
    zombie: bool,
    parent: u32,
    started: u64,
}

fn all_processes() -> Vec<Process> {
    let pids = list(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<u32>().ok());
    pids.filter_map(|pid| {
        // proc_pid_stat(5): the name is in parentheses and may hold any byte.
        let stat = text(format!("/proc/{pid}/stat"));
        let (name, rest) =
            (stat.get(stat.find('(')? + 1..stat.rfind(')')?)?, stat.get(stat.rfind(')')? + 2..)?);
        let fields: Vec<_> = rest.split(' ').collect();
        Some(Process {
            pid,
            name: name.to_owned(),
            zombie: fields.first() == Some(&"Z"),
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    })
    .collect()
}

fn processes(scope: &Scope, found: &mut BTreeSet<Finding>) {
    let own = process::id();
    let own_mounts = link("/proc/self/ns/mnt");
    let all = all_processes();
    let parents: HashMap<u32, u32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let mut mount_tables: HashMap<String, Option<String>> = HashMap::new();
    let mut ours = BTreeSet::new();
    for process in all.iter().filter(|p| p.pid != own && !p.zombie) {
        let is_kernel_thread = process.parent == 2 || process.pid == 2;
        if is_kernel_thread {
            continue;
        }
        let mut why = evidence(scope, process, &own_mounts, &mut mount_tables);
        if why.is_none() && scope.exclusive && descends(process.pid, own, &parents) {
            why = Some("a descendant".to_owned());
        }
        if why.is_none() && scope.whole {
            why = is_suspect(process.pid);
        }
        if let Some(why) = why {
            ours.insert(process.pid);
            let dir = format!("/proc/{}", process.pid);
            let line = text(format!("{dir}/cmdline"));
            let what =
                format!("{} {} (started {}) {}", process.pid, process.name, process.started, line.trim());
            add_with(found, "process", what, why.clone());
            let namespace = link(format!("{dir}/ns/net"));
            if namespace != link("/proc/self/ns/net") && !namespace.is_empty() {
                add_with(found, "netns", namespace, why);
            }
        }
    }
    for process in all.iter().filter(|p| p.zombie) {
        if process.parent == own || ours.contains(&process.parent) {
            add(found, "zombie", format!("{} {} of {}", process.pid, process.name, process.parent));
        }
    }
}

/// Returns what shows that a process belongs to the engine: its cgroup first, for that names the container.
fn evidence(
    scope: &Scope,
    process: &Process,
    own_mounts: &str,
    mount_tables: &mut HashMap<String, Option<String>>,
) -> Option<String> {
    let dir = format!("/proc/{}", process.pid);
    for file in ["cgroup", "cmdline", "environ"] {
        if let Some(line) = scope.line(&text(format!("{dir}/{file}"))) {
            return Some(line.chars().take(200).collect());
        }
    }
    for name in ["cwd", "root", "exe"] {
        let target = link(format!("{dir}/{name}"));
        if scope.owns(&target) {
            return Some(target);
        }
    }
    let mut targets: Vec<_> =
        list(Path::new(&format!("{dir}/fd"))).iter().map(|fd| link(format!("{dir}/fd/{fd}"))).collect();
    // The longest path says most: a container's own directory, not the directory of all.
    targets.retain(|target| scope.owns(target));
    targets.sort_by_key(|target| std::cmp::Reverse(target.len()));
    if let Some(target) = targets.into_iter().next() {
        return Some(target);
    }
    let namespace = link(format!("{dir}/ns/mnt"));
    if process.started < scope.since || namespace == own_mounts {
        return None;
    }
    let table = || scope.line(&text(format!("{dir}/mountinfo"))).map(str::to_owned);
    mount_tables.entry(namespace).or_insert_with(table).clone()
}

/// Returns why a process, on a machine where only tests run, can only come from an engine. Others come and go: a login, a cron job.
fn is_suspect(pid: u32) -> Option<String> {
    let exe = link(format!("/proc/{pid}/exe"));
    if exe.starts_with("/memfd:") {
        return Some(exe);
    }
    ["mnt", "pid", "net", "cgroup"].into_iter().find_map(|kind| {
        let namespace = link(format!("/proc/{pid}/ns/{kind}"));
        (!namespace.is_empty() && namespace != link(format!("/proc/self/ns/{kind}"))).then_some(namespace)
    })
}

fn descends(pid: u32, ancestor: u32, parents: &HashMap<u32, u32>) -> bool {
    let mut at = pid;
    for _ in 0..parents.len() {
        match parents.get(&at) {
            Some(parent) if *parent == ancestor => return true,
            Some(0) | None => return false,
            Some(parent) => at = *parent,
        }
    }
    false
}

fn mounts(scope: &Scope, found: &mut BTreeSet<Finding>) {
    for line in text("/proc/self/mountinfo").lines() {
        if scope.whole || scope.owns(line) {
            // proc_pid_mountinfo(5): the first two fields are ids of this moment.
            let what = line.splitn(3, ' ').nth(2).unwrap_or(line);
            add(found, "mount", what.to_owned());
        }
    }
}

fn links(scope: &Scope, found: &mut BTreeSet<Finding>) {
    for name in list(Path::new("/sys/class/net")) {
        let dir = Path::new("/sys/class/net").join(&name);
        let alias = text(dir.join("ifalias"));
        if scope.whole
            || scope.owns(&alias)
            || scope.tokens.iter().skip(3).any(|token| name.contains(token.as_str()))
        {
            add(found, "link", format!("{name} {} {}", text(dir.join("ifindex")).trim(), alias.trim()));
        }
    }
    for name in list(Path::new("/run/netns")) {
        if scope.whole || scope.owns(&name) {
            add(found, "netns", name);
        }
    }
}

fn nftables(scope: &Scope, found: &mut BTreeSet<Finding>) {
    let Some(nft) = crate::tools::find("nft") else { return };
    let listing = |args: &[&str]| {
        let output = Command::new(&nft).args(args).output();
        output.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
    };
    for table in listing(&["list", "tables"]).lines() {
        if !(scope.whole || scope.owns(table)) {
            continue;
        }
        add(found, "nftables", table.to_owned());
        let mut args = vec!["-s", "list"];
        args.extend(table.split(' '));
        for (number, rule) in listing(&args).lines().enumerate().filter(|(_, rule)| !rule.trim().is_empty()) {
            add(found, "nftables", format!("{table} line {number}: {}", rule.trim()));
        }
    }
}

/// Returns the mount points of all cgroup hierarchies.
pub(crate) fn cgroup_roots() -> Vec<PathBuf> {
    let table = text("/proc/self/mounts");
    let lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines
        .filter(|f| f.len() > 2 && matches!(f[2], "cgroup" | "cgroup2"))
        .map(|f| PathBuf::from(f[1]))
        .collect()
}

/// The engine's default parent of all cgroups, which several engines share and none removes.
const CGROUP_PARENT: &str = "engine";

fn cgroups(scope: &Scope, found: &mut BTreeSet<Finding>) {
    let mut todo = cgroup_roots();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                let name = path.display().to_string();
                let shared = entry.file_name() == CGROUP_PARENT;
                if scope.owns(&name) || (scope.whole && !shared) {
                    add(found, "cgroup", name);
                }
                todo.push(path);
            }
        }
    }
}

fn loops(scope: &Scope, found: &mut BTreeSet<Finding>) {
    for name in list(Path::new("/sys/block")).into_iter().filter(|name| name.starts_with("loop")) {
        let backing = text(format!("/sys/block/{name}/loop/backing_file"));
        if !backing.is_empty() && (scope.whole || scope.owns(&backing)) {
            add(found, "loop", format!("{name} {}", backing.trim()));
        }
    }
}

fn descriptors(scope: &Scope, found: &mut BTreeSet<Finding>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for fd in list(Path::new("/proc/self/fd")) {
        let target = link(format!("/proc/self/fd/{fd}"));
        // The directory being listed is gone by now. One sealed copy of the shim is kept for the process's life.
        if target.is_empty() || target.starts_with("/memfd:engine-shim") {
            continue;
        }
        if scope.owns(&target) || scope.exclusive || scope.whole {
            let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind).to_owned();
            let number = seen.entry(kind.clone()).or_default();
            *number += 1;
            add(found, "descriptor", format!("{kind}, number {number}"));
        }
    }
}

/// Names in temporary, ingest and state directories; contents of layers, volumes and containers are not looked at.
fn files(scope: &Scope, found: &mut BTreeSet<Finding>) {
    let temporary = |name: &str| {
        matches!(name, "ingest" | "tmp" | "temp" | ".new" | ".trash")
            || name.starts_with(".tmp")
            || name.starts_with("tmp-")
    };
    let half = |name: &str| {
        [".tmp", ".new", ".partial", ".part"].iter().any(|end| name.len() > end.len() && name.ends_with(end))
            || [".tmp", "tmp-", "tmp."].iter().any(|start| name.starts_with(start))
    };
    let mut todo: Vec<(PathBuf, usize)> = vec![(scope.root.clone(), 0), (scope.run_root.clone(), 0)];
    while let Some((dir, depth)) = todo.pop() {
        let dir_name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let state = depth == 1 && dir_name == "containers";
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if state || (depth > 0 && temporary(&dir_name)) || half(&name) {
                add(found, "file", entry.path().display().to_string());
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let content = dir_name == "layers" || (dir_name == "volumes" && !temporary(&name));
            if is_dir && depth < 2 && !state && !content {
                todo.push((entry.path(), depth + 1));
            }
        }
    }
}
