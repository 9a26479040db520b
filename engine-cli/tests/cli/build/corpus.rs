//! The corpus: Dockerfiles with the files and the configuration that they make, in `corpus/`.
//!
//! Each is built in two stores, which have to agree on the digest, once more, when all has to come from the cache, and by buildah,
//! where that knows what is asked for. By default some are compared with buildah; `ENGINE_TEST_PEERS=1` compares all.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine_testkit::{image, require};
use serde_json::json;

use super::case::{self, Case};
use super::peer::Peer;
use super::repositories::repositories;
use super::sources::Web;
use super::tree::Image;
use crate::support::Cli;

/// What the base is called in its layout.
pub(super) const BASE: &str = "docker.io/library/busybox:latest";
/// What buildah leaves in an image for having mounted something there.
const MOUNT_POINTS: [&str; 4] = [" /etc/hostname ", " /etc/hosts ", " /etc/resolv.conf ", "dir 755 0:0 /run"];
/// How many are built at once.
const AT_ONCE: usize = 4;
/// One of so many is compared with buildah where not all are.
const COMPARED: usize = 10;

/// The base of all: busybox, with the variable that bases have.
fn base() -> image::Image {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let builder = image::ImageBuilder::new().layer(image::busybox_layer());
    builder.command(&["sh"]).config("Env", json!([path])).build()
}

struct Corpus {
    one: Cli,
    two: Cli,
    base: Image,
    peer: Peer,
}

impl Corpus {
    fn new() -> Self {
        let (one, two) = (Cli::empty(), Cli::empty());
        let layout = one.path("base");
        base().write_layout(&layout, BASE);
        for cli in [&one, &two] {
            run(cli, &["load", "-q", "-i", &layout.display().to_string()]);
            run(cli, &["tag", "busybox", "busybox:1.36"]);
        }
        Self { base: Image::read(&layout, None), peer: Peer::new(&layout), one, two }
    }

    /// Builds a case in all ways. Returns what is wrong.
    fn check(&self, case: &Case, with_peer: bool) -> Result<(), String> {
        let dir = self.one.path(&case.name);
        case.write(&dir);
        let (first, _) = build(&self.one, case, &dir)?;
        let (second, _) = build(&self.two, case, &dir)?;
        if first != second {
            return Err(format!("two stores: {first} and {second}"));
        }
        let (again, said) = build(&self.one, case, &dir)?;
        let steps = said.lines().filter(|line| is_step(line)).count();
        let cached = said.lines().filter(|line| line.ends_with(" CACHED")).count();
        if again != first || cached != steps {
            return Err(format!("{cached} of {steps} steps come from the cache, and it is {again}:\n{said}"));
        }
        let layout = dir.join("layout").display().to_string();
        run(&self.one, &["save", "--format", "oci-dir", "-o", &layout, &tag(case)]);
        let image = Image::read(Path::new(&layout), Some(&self.base));
        let (tree, config) = (image.tree(&self.base), image.config(&self.base));
        same("the tree", &case.tree, &tree)?;
        same("the configuration", &case.config, &config)?;
        if !with_peer {
            return Ok(());
        }
        let theirs = self.peer.build(case, &dir, &self.base).map_err(|said| format!("buildah: {said}"))?;
        let accepted = |lines: Vec<String>| -> Vec<String> {
            let other = |line: &String| {
                case.differs.iter().any(|word| line.contains(word))
                    || MOUNT_POINTS.iter().any(|path| line.contains(path))
            };
            lines.into_iter().filter(|line| !other(line)).collect()
        };
        same("buildah's tree", &accepted(theirs.tree(&self.base)), &accepted(tree))?;
        same("buildah's configuration", &accepted(theirs.config(&self.base)), &accepted(config))
    }
}

fn tag(case: &Case) -> String {
    format!("case-{}", case.name)
}

fn run(cli: &Cli, args: &[&str]) {
    engine_testkit::Said::from(cli.local(args).output().unwrap()).ok();
}

/// Whether a line of the plain output begins a step that makes a layer.
fn is_step(line: &str) -> bool {
    let text = line.split_once("] ").filter(|_| line.starts_with('#')).map_or("", |(_, text)| text);
    ["RUN", "COPY", "ADD", "WORKDIR"].iter().any(|name| {
        text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && text[name.len()..].starts_with([' ', '\t'])
    })
}

/// Builds a case with its bases. Returns the image's id and what was said.
fn build(cli: &Cli, case: &Case, dir: &Path) -> Result<(String, String), String> {
    let context = dir.join("context").display().to_string();
    let mut builds = Vec::new();
    for (name, text) in &case.bases {
        std::fs::write(dir.join(name), text).unwrap();
        builds.push(vec![
            "-f".to_owned(),
            dir.join(name).display().to_string(),
            "-t".to_owned(),
            name.clone(),
        ]);
    }
    let file =
        dir.join(format!("id-{}", cli.dir.path().file_name().unwrap().display())).display().to_string();
    builds.push(
        [case.args(dir), vec!["-t".to_owned(), tag(case), "--iidfile".to_owned(), file.clone()]].concat(),
    );
    let mut text = String::new();
    for args in builds {
        let out = cli.local(&["build"]).args(args).arg(&context).output().unwrap();
        text = String::from_utf8_lossy(&out.stderr).into_owned();
        if !out.status.success() {
            return Err(format!("the build fails: {text}"));
        }
    }
    Ok((std::fs::read_to_string(file).unwrap(), text))
}

/// Compares lines, and says which there are on one side alone.
fn same(what: &str, expected: &[String], found: &[String]) -> Result<(), String> {
    let only = |these: &[String], those: &[String], mark: &str| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).map(|line| format!("  {mark} {line}")).collect()
    };
    let other = [only(expected, found, "-"), only(found, expected, "+")].concat();
    if other.is_empty() { Ok(()) } else { Err(format!("{what}:\n{}", other.join("\n"))) }
}

#[test]
fn the_corpus_is_built_as_it_says_twice_the_same_and_as_buildah_does() {
    require!(root, overlayfs, "buildah", "busybox", "git");
    // There is no build by a daemon in these tests, so there is nothing to do once more.
    if std::env::var_os("ENGINE_TEST_HOST").is_some() {
        return;
    }
    let only = std::env::var("ENGINE_TEST_CASE").unwrap_or_default();
    let mut cases: Vec<Case> = case::all().into_iter().filter(|case| case.name.contains(&only)).collect();
    let all_peers = std::env::var_os("ENGINE_TEST_PEERS").is_some();
    let corpus = Corpus::new();
    let web = Web::new();
    web.put(
        "/dir/text?a=b",
        200,
        "ETag: \"1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        b"of the web\n",
    );
    let git = repositories(&corpus.one.path("repositories"));
    for case in &mut cases {
        case.places =
            vec![("{web}", web.url("").trim_end_matches('/').to_owned()), ("{git}", git.url("app"))];
    }
    let (next, compared, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let with_peer = case.peer == "yes"
                        && (all_peers
                            || compared.load(Ordering::Relaxed) * COMPARED <= next.load(Ordering::Relaxed));
                    compared.fetch_add(usize::from(with_peer), Ordering::Relaxed);
                    if let Err(wrong) = corpus.check(case, with_peer) {
                        failed.lock().unwrap().push(format!("{}: {wrong}", case.name));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
    eprintln!("{} cases, {} of them compared with buildah", cases.len(), compared.into_inner());
    let Corpus { one, two, .. } = corpus;
    for cli in [one, two] {
        for volume in
            engine_testkit::Said::from(cli.local(&["volume", "ls", "-q"]).output().unwrap()).ok().lines()
        {
            run(&cli, &["volume", "rm", volume]);
        }
        cli.finish();
    }
}

/// Each word of the language is in some case.
#[test]
fn the_corpus_has_all_of_the_language() {
    let cases = case::all();
    assert!(cases.len() >= 60, "{}", cases.len());
    let text: String = cases.iter().flat_map(Case::dockerfiles).map(String::from_utf8_lossy).collect();
    let missing: BTreeSet<&str> = WORDS.iter().copied().filter(|word| !text.contains(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// FEATURES of a Dockerfile, by how they are written.
const WORDS: [&str; 74] = [
    "# syntax=",
    "# escape=`",
    "# check=",
    "ADD ",
    "ARG ",
    "CMD ",
    "COPY ",
    "ENTRYPOINT ",
    "ENV ",
    "EXPOSE ",
    "FROM ",
    "HEALTHCHECK ",
    "HEALTHCHECK NONE",
    "LABEL ",
    "MAINTAINER ",
    "ONBUILD ",
    "ONBUILD COPY --from=",
    "RUN ",
    "SHELL ",
    "STOPSIGNAL ",
    "USER ",
    "VOLUME ",
    "WORKDIR ",
    "FROM scratch",
    " AS ",
    "--platform=$BUILDPLATFORM",
    "TARGETPLATFORM",
    "TARGETARCH",
    "BUILDOS",
    "--from=",
    "--chown=",
    "--chmod=0",
    "--chmod=u=",
    "--link",
    "--parents",
    "--exclude=",
    "/./",
    "COPY <<",
    "ADD <<",
    "<<-",
    "<<\"",
    "RUN <<",
    "#!/bin/sh",
    "HTTP_PROXY",
    ":-",
    ":+",
    ":?",
    "##",
    "%%",
    "//",
    "--mount=type=bind",
    "--mount=type=cache",
    "sharing=locked",
    "--mount=type=tmpfs",
    "--mount=type=secret",
    "--mount=type=ssh",
    ",rw",
    ",mode=0750",
    "from=made,source=/seed",
    "--checksum=",
    "#main:sub",
    "env=",
    "required",
    "--network=none",
    "--network=default",
    "--network=host",
    "--interval=",
    "--timeout=",
    "--start-period=",
    "--start-interval=",
    "--retries=",
    "readonly",
    "size=",
    ".tar.gz",
];
