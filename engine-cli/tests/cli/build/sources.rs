//! Files that are not simply copied: archives, files behind URLs, repositories.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use engine_testkit::require;

use super::{Builder, write};

/// Answers by path: status, headers and body.
type Answers = BTreeMap<String, (u16, String, Vec<u8>)>;

/// A server of HTTP on loopback. Whoever knows the ETag of an answer is told that it is unchanged.
pub(super) struct Web {
    port: u16,
    answers: Arc<Mutex<Answers>>,
    /// Paths that were asked for, with the status of the answer.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answers, asked) = (Arc::new(Mutex::new(Answers::new())), Arc::default());
        let web = Self { port, answers: Arc::clone(&answers), asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    // Whoever goes in the middle is nobody's failure.
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let known = answers.lock().unwrap().get(path).cloned();
                let (mut status, headers, mut body) = known.unwrap_or((404, String::new(), Vec::new()));
                let etag = headers.lines().find_map(|line| line.strip_prefix("ETag: "));
                let wanted = etag.map(|etag| format!("if-none-match: {etag}"));
                if wanted.is_some_and(|wanted| head.lines().any(|line| line.eq_ignore_ascii_case(&wanted))) {
                    (status, body) = (304, Vec::new());
                }
                let login = headers.lines().find_map(|line| line.strip_prefix("X-Login: "));
                let login = login.map(|login| format!("authorization: basic {login}"));
                let mut headers = headers;
                if login.is_some_and(|login| !head.lines().any(|line| line.eq_ignore_ascii_case(&login))) {
                    (status, headers, body) =
                        (401, "WWW-Authenticate: Basic realm=x\r\n".to_owned(), Vec::new());
                }
                asked.lock().unwrap().push(format!("{path} {status}"));
                let length = if headers.contains("Content-Length") {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                let answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{headers}\r\n");
                // Whoever has seen enough goes.
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        web
    }

    pub(super) fn put(&self, path: &str, status: u16, headers: &str, body: &[u8]) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, headers.to_owned(), body.to_vec()));
    }

    /// What was asked for since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// Packs what is in `dir` as bsdtar does, which is told how by `flags`.
pub(super) fn pack(dir: &Path, archive: &str, flags: &[&str]) {
    let done = Command::new("bsdtar")
        .args(["-cf", archive, "--format=pax", "--uid=7", "--gid=8"])
        .args(flags)
        .arg("-C")
        .args([dir, Path::new(".")])
        .status()
        .expect("run bsdtar (Debian: libarchive-tools)");
    assert!(done.success(), "{archive}");
}

#[test]
fn archives_are_unpacked_and_what_is_none_is_not() {
    require!(root, overlayfs);
    let all = Builder::new(&[("file", "x\n")]);
    let at = |name: &str| format!("{}/{name}", all.context);
    let tree = all.cli.path("tree");
    for (kind, flag) in [("tar", "--no-xattrs"), ("gz", "-z"), ("bz2", "-j"), ("xz", "-J"), ("zst", "--zstd")]
    {
        let dir = tree.join(kind);
        write(&dir, &format!("{kind}/file"), kind);
        fs::hard_link(dir.join(kind).join("file"), dir.join(kind).join("hard")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join(kind).join("link")).unwrap();
        pack(&dir, &at(&format!("packed.{kind}")), &[flag]);
    }
    // Begins like gzip and is no archive; and one that ends too early.
    fs::write(at("empty.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0").unwrap();
    fs::write(at("short.tar"), &fs::read(at("packed.tar")).unwrap()[..2100]).unwrap();
    // What is behind a link of the image goes where that leads; and never out of it.
    let linked = tree.join("linked");
    write(&linked, "to/new", "new\n");
    for (archive, flags) in [("outside.tar", &["-P", "-s", ",^,../../../,"][..]), ("linked.tar", &[])] {
        let mut bsdtar = Command::new("bsdtar");
        bsdtar.current_dir(&linked).args(flags).args(["-cf", &at(archive), "to/new"]);
        assert!(bsdtar.status().unwrap().success());
    }
    all.id(
        "FROM busybox AS base
RUN mkdir /real && ln -s real /to && echo old > /real/old
ADD linked.tar /
ADD packed.* empty.gz file /all/
ADD --chown=5:6 --chmod=0777 packed.gz /owned
ADD --unpack=false packed.gz /kept/
COPY packed.gz /copied/
FROM scratch
ADD packed.xz /
COPY --from=base / /base/
",
        &["-t", "app"],
    );
    // A stage of nothing but an archive, and a copy of the rest: there is no program in there to ask.
    let name = all.run(&["create", "app", "x"]).ok();
    let out = all.cli.path("out");
    all.run(&["cp", &format!("{}:/", name.trim()), &out.display().to_string()]).ok();
    all.run(&["rm", name.trim()]).ok();
    use std::os::unix::fs::MetadataExt as _;
    let stat = |path: &str| fs::symlink_metadata(out.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(fs::read_to_string(out.join("xz/file")).unwrap(), "xz");
    for kind in ["tar", "gz", "bz2", "xz", "zst"] {
        let dir = format!("base/all/{kind}");
        assert_eq!(fs::read_to_string(out.join(&dir).join("file")).unwrap(), kind);
        assert_eq!(fs::read_link(out.join(&dir).join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(stat(&format!("{dir}/file")).ino(), stat(&format!("{dir}/hard")).ino(), "{kind}");
    }
    for (path, content) in [("base/real/new", "new\n"), ("base/real/old", "old\n"), ("base/all/file", "x\n")]
    {
        assert_eq!(fs::read_to_string(out.join(path)).unwrap(), content);
    }
    assert!(stat("base/to").is_symlink());
    for path in ["base/all/empty.gz", "base/kept/packed.gz", "base/copied/packed.gz"] {
        assert!(stat(path).is_file(), "{path}");
    }
    assert_eq!(all.cached(), 8);
    // Whose they are is looked up in an image with a program.
    all.write("Dockerfile", "FROM busybox\nADD packed.gz /\nADD --chown=5:6 --chmod=0777 packed.gz /owned\n");
    all.build(&["-t", "owners"]).ok();
    let said = all.inside("owners", "stat -c '%u:%g %a' /gz/file /owned/gz/file /owned");
    assert_eq!(said, "7:8 644\n5:6 644\n5:6 755\n");
    for (archive, words) in [("short.tar", "short.tar"), ("outside.tar", "outside.tar")] {
        all.write("Dockerfile", &format!("FROM busybox\nADD {archive} /dir/\n"));
        all.build(&["-t", "bad"]).fails(1, &["Dockerfile:2", words]);
    }
    all.finish();
}

#[test]
fn files_behind_urls_are_fetched_once_and_checked() {
    require!(root, overlayfs);
    let (all, web) = (Builder::new(&[]), Web::new());
    let time = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
    web.put("/dir/a%20b.txt?x=1", 200, &format!("ETag: \"one\"\r\n{time}"), b"one\n");
    web.put("/", 302, "Location: /real\r\n", b"");
    web.put("/real", 200, "Content-Disposition: attachment; filename=\"../named\"\r\n", b"named\n");
    let tree = all.cli.path("tree");
    write(&tree, "inside", "inside\n");
    let archive = all.cli.path("archive").display().to_string();
    pack(&tree, &archive, &["-z"]);
    web.put("/archive.tgz", 200, "", &fs::read(&archive).unwrap());
    let sum = "sha256:2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806";
    let dockerfile = format!(
        "FROM busybox
ADD {0} /dst/
ADD --chmod=0640 --chown=5:6 --checksum={sum} {0} /one
ADD {1} /dst/
ADD {2} /kept/
ADD --unpack=true {2} /unpacked/
",
        web.url("/dir/a%20b.txt?x=1"),
        web.url("/"),
        web.url("/archive.tgz"),
    );
    let id = all.id(&dockerfile, &["-t", "app"]);
    let said =
        all.inside("app", "cd /dst; stat -c '%n %a %u:%g %Y' * /one; cat * /unpacked/inside; ls /kept");
    assert_eq!(
        said,
        "a b.txt 600 0:0 1445412480\nnamed 600 0:0 0\n/one 640 5:6 1445412480\none\nnamed\ninside\narchive.tgz\n"
    );
    web.asked();
    // What has an ETag is not sent again, what has a checksum not even asked for; and nothing is done again.
    assert_eq!(all.cached(), 5);
    let asked = web.asked();
    assert_eq!(
        asked.iter().filter(|line| line.starts_with("/dir")).collect::<Vec<_>>(),
        ["/dir/a%20b.txt?x=1 304"]
    );
    assert_eq!(all.id(&dockerfile, &["--no-cache"]), id);
    web.put("/dir/a%20b.txt?x=1", 200, "ETag: \"two\"\r\n", b"two\n");
    let said = all.run(&["build", "-t", "app", &all.context]);
    said.fails(
        1,
        &["Dockerfile:3", sum, "sha256:27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a"],
    );
    all.id(
        &dockerfile.replace(sum, "sha256:27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a"),
        &["-t", "app"],
    );
    assert_eq!(all.inside("app", "cat '/dst/a b.txt' /one"), "two\ntwo\n");
    // A checksum of another kind than the one that is known.
    let sum = "9fef2458ee1a9277925614272adfe60872f4c1bf02eecce7276166957d1ab30f65cf5c8065a294bf1b13e3c3589ba936a3b5db911572e30dfcb200ef71ad33d5";
    let source = web.url("/dir/a%20b.txt?x=1");
    all.id(&format!("FROM busybox\nADD --checksum=sha512:{sum} {source} /three\n"), &["-t", "app"]);
    assert_eq!(all.inside("app", "cat /three"), "two\n");
    web.put("/out", 302, "Location: file:///etc/passwd\r\n", b"");
    web.put("/round", 302, "Location: /round\r\n", b"");
    web.put("/short", 200, "Content-Length: 100\r\n", b"short");
    for (source, words) in [
        (web.url("/none"), &["/none", "404"][..]),
        (web.url("/out"), &["/out", "neither http nor https"]),
        (web.url("/round"), &["/round", "redirects more than"]),
        (web.url("/short"), &["/short"]),
        (format!("--checksum=sha256:0 {}", web.url("/real")), &["--checksum=sha256:"]),
        ("--checksum=sha256:0 file".to_owned(), &["--checksum is for"]),
    ] {
        all.write("Dockerfile", &format!("FROM busybox\nADD {source} /x\n"));
        all.build(&["-t", "bad"]).fails(1, &[&["Dockerfile:2"], words].concat());
    }
    // What a program left behind that ended is gone with the next one.
    all.run(&["ps"]).ok();
    assert_eq!(fs::read_dir(all.cli.root().join("builds")).unwrap().count(), 0);
    all.finish();
}
