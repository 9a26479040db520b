//! Repositories of git, by way of git(1), as with Docker: which commit is meant, and its files as a layer.
//!
//! Nothing of the host's configuration has a part, nobody is asked for a password, no hook and no protocol but http, https, git and ssh is
//! used, by submodules neither (SECURITY E3). [`GitSource`] has checked what becomes an argument. The layer is kept by its commit: what is
//! here is not fetched again, and a repository is asked only where its reference leads. How large it becomes is watched (`growth`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::dockerfile::GitSource;
use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, ListFiles, Listed, PackedFile, PackedSource};

use super::cache::Entry;
use super::copy::Hasher;
use super::growth;
use super::scratch::Scratch;
use super::sources::Sources;
use super::spec::BuildSpec;
use super::steps::layer_of;
use super::url::directory;

const FETCH: &str = "fetch repository";
/// The most that git may say.
const MAX_SAID: u64 = 1 << 20;
/// What is told of it when it fails.
const SHOWN: usize = 2 << 10;
/// Configuration that no repository and no host decides.
const CONFIG: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "init.defaultBranch=master",
    "init.templateDir=",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];
/// The variables in which git finds who it is to the repository's server, and what tells it. No other server is told.
const USER: &str = "ENGINE_GIT_USER";
const PASSWORD: &str = "ENGINE_GIT_PASSWORD";
const HELPER: &str =
    r#"test "$1" != get || printf 'username=%s\npassword=%s\n' "$ENGINE_GIT_USER" "$ENGINE_GIT_PASSWORD""#;
/// The last second of the year 9999: no image can say a later one.
const LAST_SECOND: u64 = 253_402_300_799;
/// How long git may take for one thing, however fast its server is.
const PATIENCE: Duration = Duration::from_secs(3600);
/// And for saying where references lead.
const PATIENCE_TO_ASK: Duration = Duration::from_secs(120);
/// How submodules and redirects may be reached, whatever they say.
const PROTOCOLS: &str = "http:https:git:ssh";

/// Where a reference leads.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    commit: String,
    /// The tag's own object, where it has one.
    tag: Option<String>,
    /// The reference's whole name; none for a commit.
    reference: Option<String>,
}

/// git(1) in a directory of its own.
struct Git<'a> {
    source: &'a GitSource,
    scratch: &'a Scratch,
    proxies: Vec<(String, String)>,
    agent: Option<PathBuf>,
    /// The most bytes that all of it may take.
    max_bytes: u64,
}

impl LocalEngine {
    /// Returns the layer of a repository's files at a commit.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a reference or a directory that is not there; [`ErrorKind::Unsupported`] without git;
    /// [`ErrorKind::Unavailable`] with what git says; [`ErrorKind::ResourceExhausted`] if it becomes too large; [`ErrorKind::Corrupt`] if it is another commit than `checksum` says.
    pub(super) async fn repository(
        &self,
        spec: &BuildSpec,
        source: &GitSource,
        keep_git_dir: bool,
        checksum: Option<&str>,
        sources: &Sources,
    ) -> Result<(Entry, String)> {
        let about = |error: Error| error.with("repository", source.shown_remote());
        let scratch = self.scratch().await?;
        let proxies = spec.args.iter().filter(|(name, _)| is_proxy(name));
        let git = Git {
            source,
            scratch: &scratch,
            proxies: proxies.map(|(name, value)| (name.clone(), value.clone())).collect(),
            agent: spec.ssh.get("default").cloned(),
            max_bytes: self.inner.max_bytes,
        };
        // A branch may go on meanwhile: one build is of one commit.
        let asked = (source.remote.clone(), source.reference.clone());
        let resolved = sources.references.once(asked, git.resolve()).await.map_err(about)?;
        for wanted in checksum.into_iter().chain(source.commit.as_deref()) {
            git.check(&resolved, wanted).map_err(about)?;
        }
        // With a part of the tree, there is no repository to speak of.
        let keep = keep_git_dir && source.directory.is_none();
        let mut key = Hasher::new("git-1");
        key.texts([&source.shown_remote(), &resolved.commit]);
        key.texts([keep.to_string(), source.submodules.unwrap_or(true).to_string()]);
        key.text(source.directory.as_deref().unwrap_or_default());
        // A reference's name is in there.
        key.text(resolved.reference.as_deref().filter(|_| keep).unwrap_or_default());
        let key = key.finish();
        if let Some(known) = self.cached_step(&key).await? {
            return Ok((known, resolved.commit));
        }
        let (repository, time) = git.check_out(&resolved, keep).await.map_err(about)?;
        let (files, packed) = pack(&repository, source, keep, time).await.map_err(about)?;
        let layer = match packed.is_empty() {
            true => None,
            false => Some(layer_of(self, &*files, packed).await?),
        };
        let text = format!("git {} {}", source.shown_remote(), resolved.commit);
        let entry = self.keep_step(&key, layer.as_ref(), &text, BTreeMap::new()).await?;
        Ok((entry, resolved.commit))
    }
}

fn is_proxy(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "http_proxy" | "https_proxy" | "no_proxy" | "all_proxy")
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The files of a repository that was checked out, all of one time.
async fn pack(
    repository: &Path,
    source: &GitSource,
    keep: bool,
    time: SystemTime,
) -> Result<(Box<dyn ContainerFiles>, Vec<PackedFile>)> {
    let files = directory(repository)?;
    let filter = move |path: &[u8], _: bool| {
        let is_git = path.rsplit(|byte| *byte == b'/').next() == Some(b".git");
        if is_git && !keep { Listed::No } else { Listed::Yes }
    };
    let directory: PathBuf =
        super::tree::inside(source.directory.as_deref().unwrap_or_default())?.iter().collect();
    let options = ListFiles::default().with_filter(Arc::new(filter));
    let absent = |why: &str| {
        Error::new(ErrorKind::NotFound, FETCH).with("directory", directory.display()).with_message(why)
    };
    if directory.components().any(|part| part.as_os_str() == ".git") {
        return Err(absent("it is no part of the files"));
    }
    let list = match files.list(&Path::new("/").join(&directory), &options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(absent("the commit has no such directory"));
        }
        list => list?,
    };
    if !list.entries.first().is_some_and(crate::files::FileEntry::is_dir) {
        return Err(absent("it is no directory of the commit"));
    }
    let packed = list.entries.iter().skip(1).map(|entry| {
        // git knows but one bit of a mode; the rest was this program's umask.
        let mode = if entry.is_dir() || entry.mode & 0o111 != 0 { 0o755 } else { 0o644 };
        let from = PackedSource::Tree(list.path.join(&entry.path));
        let mut file = PackedFile::new(from, &entry.path, mode);
        (file.modified, file.plain) = (time, true);
        file
    });
    let packed = packed.collect();
    Ok((files, packed))
}

impl Git<'_> {
    fn repository(&self) -> PathBuf {
        self.scratch.path().join("repository")
    }

    /// Asks the repository where the reference leads. A whole commit is not asked for.
    async fn resolve(&self) -> Result<Resolved> {
        let wanted = self.source.reference.as_deref();
        if let Some(commit) = wanted.filter(|text| is_commit(text)) {
            return Ok(Resolved { commit: commit.to_owned(), tag: None, reference: None });
        }
        let remote = &*self.source.shown_remote();
        let said = match wanted {
            None => self.run(None, &["ls-remote", "--symref", "--", remote, "HEAD"]).await?,
            // The last one is where an annotated tag leads.
            Some(name) => self.run(None, &["ls-remote", "--", remote, name, &format!("{name}^{{}}")]).await?,
        };
        find(&said, wanted).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, FETCH)
                .with("reference", wanted.unwrap_or("HEAD"))
                .with_message("the repository has no such branch or tag")
                .with_hint("name a branch, a tag, or a commit by all 40 digits")
        })
    }

    fn check(&self, resolved: &Resolved, wanted: &str) -> Result<()> {
        let wanted = wanted.to_ascii_lowercase();
        let is_id = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(Error::new(ErrorKind::InvalidArgument, FETCH)
                .with("checksum", wanted)
                .with_message("it is no id of a commit"));
        }
        if resolved.commit.starts_with(&wanted) || resolved.tag.iter().any(|tag| tag.starts_with(&wanted)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, FETCH)
            .with("commit", &resolved.commit)
            .with("checksum", wanted)
            .with_message("the reference leads to another commit than the checksum says"))
    }

    /// Fetches a commit and writes its files. Returns where, and when it was made.
    async fn check_out(&self, resolved: &Resolved, keep: bool) -> Result<(PathBuf, SystemTime)> {
        let (repository, commit) = (self.repository(), resolved.commit.as_str());
        let dir = Some(repository.as_path());
        self.run(None, &["init", "--quiet", "--", &repository.display().to_string()]).await?;
        // Submodules may be given by their places relative to this one.
        self.run(dir, &["remote", "add", "origin", &self.source.shown_remote()]).await?;
        self.fetch(&repository, resolved).await?;
        growth::check(FETCH, self.scratch.path(), self.max_bytes).await?;
        self.run(dir, &["checkout", "--quiet", "--force", "--detach", commit, "--"]).await?;
        if self.source.submodules.unwrap_or(true) && repository.join(".gitmodules").exists() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            self.run(dir, &update).await?;
        }
        growth::check(FETCH, self.scratch.path(), self.max_bytes).await?;
        let said = self.run(dir, &["log", "-1", "--format=%ct", commit, "--"]).await?;
        // Whoever makes a commit gives it any number.
        let seconds = said.trim().parse().ok().filter(|seconds| *seconds <= LAST_SECOND).unwrap_or(0);
        if keep {
            self.forget_circumstances(&repository, commit).await?;
        }
        Ok((repository, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    /// Removes from `.git` what tells when and how it was fetched, so that a commit is the same files each time.
    async fn forget_circumstances(&self, repository: &Path, commit: &str) -> Result<()> {
        let git_dir = repository.join(".git");
        let forget = move || -> std::io::Result<()> {
            for name in ["FETCH_HEAD", "ORIG_HEAD", "index"] {
                match std::fs::remove_file(git_dir.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            match std::fs::remove_dir_all(git_dir.join("logs")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        crate::engine::blocking(move || forget().map_err(|e| Error::from_io(FETCH, e))).await?;
        // An index without the inodes and times of this machine's files.
        self.run(Some(repository), &["read-tree", commit]).await.map(drop)
    }

    /// Fetches as little as the server lets have.
    async fn fetch(&self, repository: &Path, resolved: &Resolved) -> Result<()> {
        let dir = Some(repository);
        let commit = resolved.commit.as_str();
        let refspec = match &resolved.reference {
            Some(name) => format!("+{name}:{name}"),
            None => commit.to_owned(),
        };
        let fetch = ["fetch", "--quiet", "--no-tags", "--update-head-ok", "--no-recurse-submodules"];
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        let tries: [&[&str]; 3] =
            [&["--depth=1", "origin", &refspec], &["origin", &refspec], &["origin", all[0], all[1]]];
        let mut outcome = Ok(String::new());
        for rest in tries {
            outcome = self.run(dir, &[&fetch[..], rest].concat()).await;
            let there = format!("{commit}^{{commit}}");
            if self.run(dir, &["cat-file", "-e", &there]).await.is_ok() {
                return Ok(());
            }
            // Only a server that does not give a commit by its id, or no part of a history, is asked for more.
            let refused =
                ["not our ref", "unadvertised", "shallow", "--depth", "not advertise", "couldn't find"];
            match &outcome {
                Err(error) => {
                    let told = error.report();
                    if !refused.iter().any(|word| told.contains(word)) {
                        break;
                    }
                }
                Ok(_) if resolved.reference.is_some() => break,
                Ok(_) => {}
            }
        }
        outcome?;
        Err(Error::new(ErrorKind::NotFound, FETCH)
            .with("commit", commit)
            .with_message("the repository has no such commit, or its reference moved meanwhile"))
    }

    /// Runs git to its end and returns what it wrote.
    async fn run(&self, dir: Option<&Path>, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.env_clear();
        // To be found, and nothing else of this program's environment.
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let home = self.scratch.path();
        let known_hosts = home.join("known_hosts");
        command
            .env("HOME", home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            // It may be kept in somebody's repository, whose configuration is not ours.
            .env("GIT_CEILING_DIRECTORIES", home.parent().unwrap_or(home))
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env(
                "GIT_SSH_COMMAND",
                format!(
                    "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30 \
                     -o IdentityFile=none \
                     -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='{}'",
                    known_hosts.display().to_string().replace('\'', "'\\''")
                ),
            )
            .envs(self.proxies.iter().map(|(name, value)| (name, value)));
        if let Some(agent) = &self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        for setting in CONFIG {
            command.args(["-c", setting]);
        }
        if let Some((user, password)) = self.source.login() {
            // Arguments are there for everybody to see, an environment is not.
            command.env(USER, user).env(PASSWORD, password);
            let server = self.source.shown_remote();
            let path = server.find("://").and_then(|at| server[at + 3..].find('/').map(|path| at + 3 + path));
            let server = &server[..path.unwrap_or(server.len())];
            command.args(["-c", &format!("credential.{server}.helper=!f() {{ {HELPER}; }}; f")]);
        }
        command.args(arguments).current_dir(dir.unwrap_or(home));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it starts itself ends with it.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(ErrorKind::Unsupported, FETCH)
                .with_message("there is no git on this machine")
                .with_hint("install git, or copy the files into the build context"),
            _ => Error::from_io("run git", error),
        })?;
        let mut group = Group(child.id());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let what = arguments.first().copied().unwrap_or_default();
        let patience = if what == "ls-remote" { PATIENCE_TO_ASK } else { PATIENCE };
        let ended = tokio::time::timeout(patience, async {
            let told = tokio::try_join!(said(out), said(err))?;
            let status = child.wait().await?;
            // Its number may be another's from now on.
            group.ended();
            Ok((told, status))
        });
        // The rest of it is killed with its group.
        let ended = tokio::select! {
            ended = ended => ended,
            error = growth::outgrown(FETCH, home, self.max_bytes) => return Err(error),
        };
        let ended = ended.map_err(|_| {
            let (minutes, message) = (patience.as_secs() / 60, "the server takes too long");
            Error::new(ErrorKind::DeadlineExceeded, FETCH)
                .with_message(format!("git {what} has not ended after {minutes} minutes: {message}"))
        })?;
        let ((out, err), status) = ended.map_err(|e: std::io::Error| Error::from_io("run git", e))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let told = String::from_utf8_lossy(&err[err.len().saturating_sub(SHOWN)..]).into_owned();
        Err(Error::new(ErrorKind::Unavailable, FETCH)
            .with_message(format!("git {what} failed: {}", told.trim())))
    }
}

/// Reads what a program writes, up to a limit.
async fn said(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_SAID + 1).read_to_end(&mut all).await?;
    }
    if all.len() as u64 > MAX_SAID {
        return Err(std::io::Error::other("it says too much"));
    }
    Ok(all)
}

/// The processes that git started. They are killed with this, unless it has ended by itself.
struct Group(Option<u32>);

impl Group {
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It was not waited for, so the number is still its own.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Finds where a reference leads in what `ls-remote` says. A branch goes before a tag, as with git-checkout(1).
fn find(said: &str, wanted: Option<&str>) -> Option<Resolved> {
    let mut known = BTreeMap::new();
    let mut head = None;
    for line in said.lines() {
        let (id, name) = line.split_once('\t')?;
        match id.strip_prefix("ref: ") {
            Some(target) => head = Some(target.to_owned()),
            None if is_commit(id) => drop(known.insert(name, id)),
            None => return None,
        }
    }
    let Some(wanted) = wanted else {
        let commit = (*known.get("HEAD")?).to_owned();
        return Some(Resolved {
            commit,
            tag: None,
            reference: head.filter(|head| head.starts_with("refs/heads/")),
        });
    };
    let names = match wanted.starts_with("refs/") {
        true => vec![wanted.to_owned()],
        false => ["heads/", "tags/", ""].map(|kind| format!("refs/{kind}{wanted}")).to_vec(),
    };
    names.into_iter().find_map(|name| {
        let id = (*known.get(name.as_str())?).to_owned();
        let peeled = known.get(format!("{name}^{{}}").as_str()).map(|id| (*id).to_owned());
        Some(match peeled {
            Some(commit) => Resolved { commit, tag: Some(id), reference: Some(name) },
            None => Resolved { commit: id, tag: None, reference: Some(name) },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_commits() {
        let id = |digit: char| digit.to_string().repeat(40);
        let line = |digit, name: &str| format!("{}\t{name}\n", id(digit));
        let said = [
            line('1', "refs/heads/main"),
            line('2', "refs/heads/other/main"),
            line('3', "refs/tags/v1"),
            line('4', "refs/tags/v1^{}"),
            line('5', "refs/tags/main"),
        ]
        .concat();
        let found =
            |wanted: &str| find(&said, Some(wanted)).map(|found| (found.commit, found.reference.unwrap()));
        assert_eq!(found("main"), Some((id('1'), "refs/heads/main".to_owned())));
        assert_eq!(found("refs/tags/main"), Some((id('5'), "refs/tags/main".to_owned())));
        assert_eq!(found("tags/main"), Some((id('5'), "refs/tags/main".to_owned())));
        assert_eq!(found("v1"), Some((id('4'), "refs/tags/v1".to_owned())));
        assert_eq!(found("v2"), None);
        let head = format!("ref: refs/heads/main\tHEAD\n{}", line('1', "HEAD"));
        let head = find(&head, None).unwrap();
        assert_eq!((head.commit, head.reference.as_deref()), (id('1'), Some("refs/heads/main")));
        assert!(find("nonsense", Some("x")).is_none() && find("", None).is_none());
    }
}
