//! Contexts behind URLs.

use std::fs;

use engine_testkit::require;

use super::repositories::repositories;
use super::sources::{Web, pack};
use super::{Builder, write};

#[test]
fn repositories_archives_and_texts_are_contexts() {
    require!(root, overlayfs);
    let (all, web) = (Builder::new(&[]), Web::new());
    let git = repositories(&all.cli.path("repositories"));
    let dockerfile = "FROM busybox\nCOPY . /files/\nRUN --mount=type=bind,target=/m ls -A /m > /mounted\n";
    for (path, content) in
        [("Dockerfile", dockerfile), ("kept", "k\n"), ("left", "l\n"), (".dockerignore", "left\n")]
    {
        write(&git.path("app/ctx"), path, content);
    }
    git.commit("app");
    let app = git.url("app");
    let said = "ls -A /files; cat /mounted; stat -c %u:%g /files/kept";
    let expected = ".dockerignore\nDockerfile\nkept\n.dockerignore\nDockerfile\nkept\n0:0\n";
    all.run(&["build", "-t", "one", &format!("{app}#main:ctx")]).ok();
    assert_eq!(all.inside("one", said), expected);
    let archive = all.cli.path("context.tgz").display().to_string();
    pack(&git.path("app/ctx"), &archive, &["-z"]);
    web.put("/context.tgz", 200, "ETag: \"1\"\r\n", &fs::read(&archive).unwrap());
    let url = web.url("/context.tgz");
    for _ in 0..2 {
        all.run(&["build", "-t", "two", &url]).ok();
    }
    assert_eq!(web.asked(), ["/context.tgz 200", "/context.tgz 304"]);
    assert_eq!(all.inside("two", said), expected);
    let text =
        "FROM busybox\nCOPY --from=lib . /lib/\nCOPY --from=web /kept /kept\nCOPY --from=web /kept /again\n";
    web.put("/text", 200, "", text.as_bytes());
    let (lib, web_context) = (format!("lib={}", git.url("lib")), format!("web={url}"));
    let contexts = ["--build-context", &lib, "--build-context", &web_context];
    all.run(&[&["build", "-t", "three"], &contexts[..], &[&web.url("/text")]].concat()).ok();
    // One build asks once.
    assert_eq!(web.asked(), ["/text 200", "/context.tgz 304"]);
    assert_eq!(all.inside("three", "ls -A /lib; cat /lib/file /kept"), "file\nlibk\n");
    web.put("/copies", 200, "", b"FROM busybox\nCOPY file /\n");
    let nowhere = format!("{app}#nowhere");
    for (context, words) in [
        (&*web.url("/copies"), &["Dockerfile:2", "no such file"][..]),
        (&web.url("/nothing"), &["/nothing", "404"]),
        (&nowhere, &["nowhere", "no such branch or tag"]),
        (&app, &["Dockerfile", "no such file"]),
    ] {
        all.run(&["build", context]).fails(1, words);
    }
    all.finish();
}
