//! What comes from outside and is too large: refused in each place by the one limit, and nothing of it stays (SECURITY C4).

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use engine_testkit::require;

use super::repositories::repositories;
use super::sources::Web;
use super::{Builder, write};
use crate::support::until;

/// What is allowed, and more than that.
const LIMIT: &str = "1m";
const MORE: usize = 3 << 20;

/// Everything beneath the directories that content comes into.
fn content(root: &Path) -> Vec<String> {
    let out = Command::new("find").arg(".").current_dir(root.join("images")).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut paths: Vec<_> =
        text.lines().filter(|path| !path.starts_with("./ingest")).map(str::to_owned).collect();
    paths.sort();
    paths
}

/// Bytes that a compression makes no smaller.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..MORE).map(next).collect()
}

/// Packs one file by GNU tar.
fn gnu_tar(dir: &Path, name: &str, archive: &str, flags: &[&str]) {
    let done = Command::new("tar")
        .args(flags)
        .arg("-cf")
        .arg(archive)
        .arg("-C")
        .arg(dir)
        .arg(name)
        .status()
        .unwrap();
    assert!(done.success(), "{archive}");
}

#[test]
fn c4_what_takes_more_than_the_limit_is_refused_everywhere_and_leaves_nothing() {
    require!(root, overlayfs);
    let (all, web) = (Builder::new(&[("small", "s\n")]), Web::new());
    let git = repositories(&all.cli.path("repositories"));
    let at = |name: &str| format!("{}/{name}", all.context);
    let tree = all.cli.path("tree");
    write(&tree, "Dockerfile", "FROM busybox\nCOPY . /x/\n");
    // Small when it is compressed, and small because it is a hole.
    fs::write(tree.join("zeros"), vec![0; MORE]).unwrap();
    File::create(tree.join("hole")).unwrap().set_len(1 << 40).unwrap();
    gnu_tar(&tree, "zeros", &at("zeros.tgz"), &["-z"]);
    gnu_tar(&tree, "hole", &at("hole.tar"), &["-S"]);
    assert!(fs::metadata(at("hole.tar")).unwrap().len() < 1 << 20);
    let begin = content(&all.cli.root());
    let refused = |args: &[&str], stdin: Option<&str>, words: &[&str]| {
        let mut command = all.cli.command(&[&["--max-bytes", LIMIT], args].concat());
        if let Some(path) = stdin {
            command.stdin(File::open(path).unwrap());
        }
        let said = crate::support::Said::from(command.output().unwrap());
        said.fails(1, &[words, &["more than 1048576 bytes", "--max-bytes"]].concat());
        let root = all.cli.root();
        until(&format!("the directories of builds go after {args:?}"), || {
            fs::read_dir(root.join("builds")).map_or(0, |dirs| dirs.count()) == 0
        });
    };

    for archive in ["zeros.tgz", "hole.tar"] {
        refused(&["build", "-"], Some(&at(archive)), &["read build context"]);
        all.write("Dockerfile", &format!("FROM busybox\nADD {archive} /x/\n"));
        refused(&["build", &all.context], None, &["Dockerfile:2", archive]);
        web.put(&format!("/{archive}"), 200, "", &fs::read(at(archive)).unwrap());
        refused(&["build", &web.url(&format!("/{archive}"))], None, &[archive]);
        refused(&["import", &at(archive), "imported"], None, &["import image", &at(archive)]);
    }
    web.put("/file", 200, "", &vec![7; MORE]);
    all.write("Dockerfile", &format!("FROM busybox\nADD {} /x\n", web.url("/file")));
    refused(&["build", &all.context], None, &["/file"]);
    // Small as it comes, large as a tree; and large as it comes.
    for (name, bytes) in [("zeros", vec![0; MORE]), ("noise", noise())] {
        fs::write(git.path("app").join(name), bytes).unwrap();
        git.commit("app");
        refused(&["build", &git.url("app")], None, &["repository", &git.url("app")]);
    }
    gnu_tar(&tree, "zeros", &at("saved.tgz"), &["-z"]);
    refused(&["load", "-i", &at("saved.tgz")], None, &["saved.tgz"]);
    all.run(&["create", "--name", "box", "busybox"]).ok();
    refused(&["cp", "-", "box:/tmp"], Some(&at("zeros.tgz")), &["/tmp"]);
    refused(&["cp", "-", "box:/tmp"], Some(&at("hole.tar")), &["/tmp"]);
    refused(&["cp", &format!("{}/zeros", tree.display()), "box:/tmp"], None, &["/tmp"]);
    all.run(&["rm", "box"]).ok();

    // Nothing is there of all that, and what is small enough comes in.
    all.run(&["builder", "prune", "-af"]).ok();
    all.run(&["image", "prune", "-f"]).ok();
    assert_eq!(content(&all.cli.root()), begin);
    all.write("Dockerfile", "FROM busybox\nADD small.tgz small /x/\n");
    gnu_tar(Path::new(&all.context), "small", &at("small.tgz"), &["-z"]);
    all.run(&["--max-bytes", LIMIT, "build", "-t", "small", &all.context]).ok();
    // And whoever trusts it says so.
    all.run(&["--max-bytes", "4m", "import", &at("zeros.tgz"), "zeros"]).ok();
    all.finish();
}
