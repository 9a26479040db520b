//! Repositories of git as sources.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine_testkit::require;

use super::sources::Web;
use super::{Builder, write};

/// Repositories behind `git://` on loopback: each connection is a `git daemon` of its own.
pub(super) struct Repositories {
    dir: PathBuf,
    port: u16,
}

impl Repositories {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let base = dir.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let fd = OwnedFd::from(stream.unwrap());
                let mut daemon = Command::new("git");
                daemon.args(["-c", "safe.directory=*", "daemon", "--inetd", "--export-all"]);
                daemon.arg(format!("--base-path={}", base.display()));
                daemon
                    .stdin(Stdio::from(fd.try_clone().unwrap()))
                    .stdout(Stdio::from(fd))
                    .stderr(Stdio::null());
                let mut child = daemon.spawn().expect("run git");
                drop(daemon);
                std::thread::spawn(move || child.wait());
            }
        });
        Self { dir, port }
    }

    fn git(&self, repository: &str, args: &[&str]) -> String {
        let dir = self.dir.join(repository);
        fs::create_dir_all(&dir).unwrap();
        let mut git = Command::new("git");
        git.current_dir(&dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "Me").env(format!("GIT_{who}_EMAIL"), "me@example");
            git.env(format!("GIT_{who}_DATE"), "1000000000 +0000");
        }
        let out = git.args(args).output().expect("run git");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Commits what is in a repository, and returns the commit.
    pub(super) fn commit(&self, repository: &str) -> String {
        self.git(repository, &["add", "-A"]);
        self.git(repository, &["commit", "-q", "-m", "x"]);
        self.git(repository, &["rev-parse", "HEAD"])
    }

    pub(super) fn url(&self, repository: &str) -> String {
        format!("git://127.0.0.1:{}/{repository}", self.port)
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }
}

/// Repositories `app`, with a tag and a submodule `lib`, and `evil`, whose submodule is on this machine.
pub(super) fn repositories(dir: &Path) -> Repositories {
    let all = Repositories::new(dir.to_owned());
    for name in ["lib", "app", "evil"] {
        all.git(name, &["init", "-q", "-b", "main"]);
        write(&all.path(name), "file", name);
    }
    let lib = all.commit("lib");
    write(&all.path("app"), "sub/deep/a", "a\n");
    write(&all.path("app"), "run", "#!/bin/sh\n");
    fs::set_permissions(all.path("app/run"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("sub", all.path("app/link")).unwrap();
    for (name, url) in [("app", "../lib".to_owned()), ("evil", all.path("lib").display().to_string())] {
        write(&all.path(name), ".gitmodules", &format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {url}\n"));
        all.git(name, &["update-index", "--add", "--cacheinfo", &format!("160000,{lib},lib")]);
        // `add -A` would take the submodule for removed.
        fs::create_dir_all(all.path(name).join("lib")).unwrap();
        all.commit(name);
    }
    all.git("app", &["tag", "-a", "-m", "first", "v1"]);
    all
}

/// Serves the files of a directory to who has the password.
fn put_files(web: &Web, dir: &Path, path: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().display());
        if entry.file_type().unwrap().is_dir() {
            put_files(web, &entry.path(), &path);
            continue;
        }
        let content = fs::read(entry.path()).unwrap();
        for path in [path.clone(), format!("{path}?service=git-upload-pack")] {
            // me:p@ss
            web.put(&path, 200, "X-Login: bWU6cEBzcw==\r\n", &content);
        }
    }
}

#[test]
fn repositories_are_fetched_at_a_commit() {
    require!(root, overlayfs);
    let all = Builder::new(&[]);
    let git = repositories(&all.cli.path("repositories"));
    let (app, evil) = (git.url("app"), git.url("evil"));
    let first = git.git("app", &["rev-parse", "HEAD"]);
    let dockerfile = format!(
        "FROM busybox
ADD {app} /all/
ADD --chown=5:6 {app}#v1:link/deep /sub/
ADD {app}#{first} /by-id/
ADD --keep-git-dir --checksum={} {app}?tag=v1 /kept/
",
        &first[..12]
    );
    let id = all.id(&dockerfile, &["-t", "app"]);
    let said = all.inside(
        "app",
        "cd /all; ls -A; stat -c '%n %a %u:%g %Y' file run sub /sub/a; readlink link; cat lib/file; ls -A /by-id | wc -l; \
         cat /kept/.git/HEAD; ls /kept/.git/refs/tags; grep url /kept/.git/config; \
         ls -d /kept/.git/index /kept/.git/logs /kept/.git/FETCH_HEAD 2>/dev/null; true",
    );
    let expected = format!(
        ".gitmodules\nfile\nlib\nlink\nrun\nsub\nfile 644 0:0 1000000000\nrun 755 0:0 1000000000\nsub 755 0:0 1000000000\n\
         /sub/a 644 5:6 1000000000\nsub\nlib6\n{first}\nv1\n\turl = {app}\n\turl = {}\n/kept/.git/index\n",
        git.url("lib")
    );
    assert_eq!(said, expected);
    assert_eq!(all.cached(), 4);
    assert_eq!(
        all.id(&dockerfile.replace("ADD --keep", "#"), &["--no-cache"]),
        all.id(&dockerfile.replace("ADD --keep", "#"), &[])
    );
    assert_ne!(id, "");
    // A branch that went on is another commit; all else stays what it was.
    write(&git.path("app"), "file", "second");
    let second = git.commit("app");
    all.id(&dockerfile, &["-t", "app"]);
    assert_eq!(all.inside("app", "cat /all/file /by-id/file /kept/file"), "secondappapp");
    for (source, words) in [
        (format!("{app}#nothing"), &["nothing", "no such branch or tag"][..]),
        (format!("{app}#main:nowhere"), &["nowhere", "no such directory"]),
        (format!("{app}#main:../.."), &["../.."]),
        (format!("{app}#main:.git"), &[".git", "no part of the files"]),
        (format!("{app}#--upload-pack=/bin/false"), &["--upload-pack", "no name of a branch"]),
        (format!("--checksum={first} {app}"), &[&second[..], "another commit"]),
        (format!("{evil}#main"), &["submodule", "not allowed"]),
        (git.url("nothing"), &["nothing", "git ls-remote failed"]),
    ] {
        all.write("Dockerfile", &format!("FROM busybox\nADD {source} /x/\n"));
        all.build(&["-t", "bad"]).fails(1, &[&["Dockerfile:2"], words].concat());
    }
    // Behind HTTP, to who has the password.
    let web = Web::new();
    git.git("lib", &["update-server-info"]);
    put_files(&web, &git.path("lib/.git"), "/lib.git");
    let server = web.url("/lib.git");
    let with = |login: &str| server.replace("://", &format!("://{login}@"));
    all.id(&format!("FROM busybox\nADD {} /lib/\n", with("me:p%40ss")), &["-t", "app"]);
    assert_eq!(all.inside("app", "cat /lib/file"), "lib");
    for (source, why) in [(&server, "read Username"), (&with("me:wrong"), "Authentication failed")] {
        all.write("Dockerfile", &format!("FROM busybox\nADD {source} /lib/\n"));
        all.build(&["--no-cache", "-t", "bad"]).fails(1, &["git ls-remote failed", why]);
    }
    // What a program left behind that ended is gone with the next one.
    all.run(&["ps"]).ok();
    assert_eq!(fs::read_dir(all.cli.root().join("builds")).unwrap().count(), 0);
    all.finish();
}
