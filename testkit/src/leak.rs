//! The leak check: nothing may stay behind.
//!
//! Owns the comparison of two looks at the machine; `leak::scan` owns the looking. By default only what belongs to one engine
//! counts (its root and run directory, its owner id or another token appear in a command line, environment, open descriptor, mount or
//! cgroup), so that tests may run in parallel. [`exclusive`](LeakCheck::exclusive) adds everything of this process,
//! [`whole_machine`](LeakCheck::whole_machine) everything there is.

mod scan;

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fmt,
    future::poll_fn,
    path::Path,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use scan::Scope;

/// How long things that end by themselves (a shim after its container, a killed child) may take.
const SETTLE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);

/// A look at the machine, to be compared with a later one.
///
/// ```
/// let root = std::env::temp_dir().join("engine-of-this-test");
/// let leaks = engine_testkit::LeakCheck::begin(&root, &root.join("run"));
/// // … open an engine there, use it, drop it …
/// leaks.finish();
/// ```
///
/// Start other helpers, a [`Registry`](crate::Registry) for one, before `begin`.
#[derive(Clone, Debug)]
#[must_use = "a leak check compares when it is finished"]
pub struct LeakCheck {
    scope: Scope,
    before: BTreeSet<Finding>,
    kept: Vec<String>,
}

/// One thing found on the machine: its kind and what tells it from others. Why it counts is no part of its identity.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Finding {
    fn key(&self) -> (&'static str, &str) {
        (self.kind, &self.what)
    }
}

impl PartialEq for Finding {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Finding {}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finding {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What stayed behind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaks(Vec<Finding>);

impl Leaks {
    /// Returns one line for each thing: its kind (`process`, `zombie`, `mount`, `netns`, `link`, `nftables`, `cgroup`,
    /// `loop`, `descriptor`, `file`), a colon, and what it is.
    pub fn lines(&self) -> Vec<String> {
        let line = |finding: &Finding| {
            let why = if finding.why.is_empty() { String::new() } else { format!(" ({})", finding.why) };
            format!("{}: {}{why}", finding.kind, finding.what)
        };
        self.0.iter().map(line).collect()
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl std::error::Error for Leaks {}

impl LeakCheck {
    /// Records what belongs to the engine with these two directories, which need not exist yet.
    pub fn begin(root: &Path, run_root: &Path) -> Self {
        Self::with_scope(Scope::new(root, run_root))
    }

    fn with_scope(scope: Scope) -> Self {
        let before = scan::look(&scope);
        Self { scope, before, kept: Vec::new() }
    }

    /// Also counts what carries `token`: an owner id, the prefix of a cgroup, a bridge's or table's name.
    pub fn owner(mut self, token: &str) -> Self {
        self.scope.add_token(token);
        Self::with_scope(self.scope)
    }

    /// Also counts all descriptors and descendants of this process. Only for a test that is alone in its process.
    pub fn exclusive(mut self) -> Self {
        self.scope.exclusive = true;
        Self::with_scope(self.scope)
    }

    /// Counts everything on this machine; of processes, those in other namespaces or with a program in a memfd. Only for a test
    /// that is alone on it.
    pub fn whole_machine(mut self) -> Self {
        self.scope.whole = true;
        Self::with_scope(self.scope)
    }

    /// Says that whatever carries `text` (the id of a container that is meant to stay, say) is no leak.
    pub fn keep(mut self, text: &str) -> Self {
        self.kept.push(text.to_owned());
        self
    }

    /// Returns the lines that would be leaks and carry `text`: what is there of a container, for example.
    pub fn found(&self, text: &str) -> Vec<String> {
        let all = Self { kept: Vec::new(), ..self.clone() };
        let lines = all.check().err().map(|leaks| leaks.lines()).unwrap_or_default();
        lines.into_iter().filter(|line| line.contains(text)).collect()
    }

    /// Compares now, without waiting.
    ///
    /// # Errors
    /// What is there and was not there at the beginning.
    pub fn check(&self) -> Result<(), Leaks> {
        let mut scope = self.scope.clone();
        scope.learn_containers();
        let after = scan::look(&scope);
        let new = after.into_iter().filter(|f| {
            !self.before.contains(f) && !self.kept.iter().any(|k| f.what.contains(k) || f.why.contains(k))
        });
        let leaks: Vec<_> = new.collect();
        if leaks.is_empty() { Ok(()) } else { Err(Leaks(leaks)) }
    }

    /// Compares until all is as at the beginning, for ten seconds at most.
    ///
    /// # Errors
    /// What still is there then.
    pub fn settle(&self) -> Result<(), Leaks> {
        let end = Instant::now() + SETTLE;
        loop {
            match self.check() {
                Err(leaks) if Instant::now() > end => return Err(leaks),
                Err(_) => thread::sleep(STEP),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Ends a test: compares until all is as at the beginning.
    ///
    /// # Panics
    /// With the list of what stayed, when that does not happen within ten seconds.
    pub fn finish(self) {
        if let Err(leaks) = self.settle() {
            panic!("left behind:\n{leaks}");
        }
    }

    /// As [`finish`](Self::finish), letting the other tasks of a single-threaded runtime go on meanwhile.
    ///
    /// # Panics
    /// As [`finish`](Self::finish).
    pub async fn finish_async(self) {
        let end = Instant::now() + SETTLE;
        while let Err(leaks) = self.check() {
            assert!(Instant::now() <= end, "left behind:\n{leaks}");
            for _ in 0..16 {
                yield_now().await;
            }
            thread::sleep(STEP);
        }
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsRawFd, process::Command};

    use super::*;

    fn dirs() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("images/ingest")).expect("mkdir");
        fs::create_dir_all(root.join("containers")).expect("mkdir");
        (dir, root)
    }

    fn kinds(check: &LeakCheck) -> Vec<&'static str> {
        let mut kinds: Vec<_> =
            check.check().err().map(|l| l.0).unwrap_or_default().iter().map(|f| f.kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn nothing_is_no_leak() {
        let (_dir, root) = dirs();
        LeakCheck::begin(&root, &root.join("run")).finish();
    }

    #[test]
    fn files_and_descriptors_are_seen() {
        let (_dir, root) = dirs();
        let check = LeakCheck::begin(&root, &root.join("run"));
        fs::write(root.join("images/ingest/half"), "x").expect("write");
        assert_eq!(kinds(&check), ["file"]);
        let open = fs::File::open(root.join("images/ingest/half")).expect("open");
        assert_eq!(kinds(&check), ["descriptor", "file"]);
        fs::remove_file(root.join("images/ingest/half")).expect("remove");
        assert_eq!(kinds(&check), ["descriptor"], "a deleted file that is still open, {}", open.as_raw_fd());
        drop(open);
        fs::create_dir(root.join("containers/abc")).expect("mkdir");
        assert_eq!(kinds(&check), ["file"]);
        let check = check.keep("abc");
        check.finish();
    }

    #[test]
    fn processes_are_seen_by_directory_and_descriptor() {
        let (_dir, root) = dirs();
        let check = LeakCheck::begin(&root, &root.join("run"));
        let mut child =
            Command::new("sleep").arg("1000").current_dir(root.join("containers")).spawn().expect("spawn");
        assert_eq!(kinds(&check), ["process"]);
        child.kill().expect("kill");
        // Not reaped: a zombie of ours.
        let end = Instant::now() + SETTLE;
        while kinds(&check) != ["zombie"] {
            assert!(Instant::now() < end, "{:?}", check.check());
            thread::sleep(STEP);
        }
        child.wait().expect("wait");
        check.finish();
    }

    #[test]
    fn mounts_and_cgroups_are_seen() {
        crate::require!(root);
        let (_dir, root) = dirs();
        let check = LeakCheck::begin(&root, &root.join("run")).owner("testkit-owner-7f3a");
        let target = root.join("containers");
        crate::command("mount", ["-t".as_ref(), "tmpfs".as_ref(), "none".as_ref(), target.as_os_str()]);
        assert_eq!(kinds(&check), ["mount"]);
        crate::command("umount", [&target]);
        if let Some(hierarchy) = scan::cgroup_roots().first() {
            let cgroup = hierarchy.join("testkit-owner-7f3a-group");
            fs::create_dir(&cgroup).expect("mkdir");
            assert_eq!(kinds(&check), ["cgroup"]);
            fs::remove_dir(&cgroup).expect("rmdir");
        }
        check.finish();
    }
}
