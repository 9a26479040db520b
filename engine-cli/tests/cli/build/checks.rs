//! What a build says about its Dockerfile, and about itself.

use engine_testkit::require;

use super::Builder;
use crate::support::Said;

#[test]
fn a_build_is_done_again_and_compared_if_that_is_asked_for() {
    require!(root, overlayfs);
    let all = Builder::new(&[("src/a", "a\n")]);
    let same = "FROM busybox AS one\nRUN --mount=target=/c cat /c/src/a > /one\nFROM busybox\nCOPY --from=one /one /\nCOPY src /src\n";
    all.write("Dockerfile", same);
    // An engine elsewhere does not compare.
    let verified = || -> Said {
        all.cli.local(&["build", "-q", "--verify", "-t", "app", &all.context]).output().unwrap().into()
    };
    let id = verified().ok();
    assert_eq!(all.config("app", "{{.Id}}"), id.trim());
    // What was built to compare is in nobody's way: the cache has what it had.
    assert_eq!(all.cached(), 3);
    let removed = all.run(&["builder", "prune", "-f"]).ok();
    let steps = removed.lines().next().unwrap().to_owned();
    all.write(
        "Dockerfile",
        &format!("{same}RUN true\nRUN cat /proc/sys/kernel/random/uuid > /chance\nRUN true\n"),
    );
    verified().fails(1, &["something else came out", "RUN /bin/sh -c cat /proc/sys/kernel/random/uuid"]);
    let images = all.run(&["images", "-aq"]).ok();
    assert_eq!(
        images.lines().count(),
        3,
        "busybox, what was named before, and what it names now: {images}, {steps}"
    );
    all.finish();
}

#[test]
fn warnings_come_with_their_lines_and_fail_a_build_that_wants_it() {
    require!(root, overlayfs);
    let all = Builder::new(&[("x.log", "x\n"), (".dockerignore", "*.log\n"), ("a", "a\n")]);
    let dockerfile = "FROM busybox\nARG VERSION=1\nENV A=$VERSOIN B=$VERSION\nCMD echo $A\n";
    all.write("Dockerfile", dockerfile);
    let said = all.build(&["-t", "app"]);
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "warning: UndefinedVar: the variable $VERSOIN is not defined (did you mean $VERSION?) (line 3)",
        "warning: JSONArgsRecommended: ",
    ] {
        assert!(said.err.contains(words), "{words} is not in {}", said.err);
    }
    // Quiet, they are not shown; as errors, they come before anything is named.
    assert_eq!(all.build(&["-q"]).err, "");
    all.run(&["rmi", "app"]).ok();
    all.write("Dockerfile", &format!("# check=error=true;skip=JSONArgsRecommended\n{dockerfile}"));
    all.build(&["-t", "app"]).fails(1, &["the file breaks UndefinedVar"]);
    all.run(&["image", "inspect", "app"]).fails(1, &["app"]);
    // An argument stands for the directive.
    let check = |value: &str| all.build(&["--build-arg", &format!("BUILDKIT_DOCKERFILE_CHECK={value}")]);
    assert_eq!(check("skip=all").code, 0);
    all.write("Dockerfile", dockerfile);
    check("error=true;skip=JSONArgsRecommended").fails(1, &["the file breaks UndefinedVar"]);
    check("fast=true").fails(1, &["BUILDKIT_DOCKERFILE_CHECK", "fast=true"]);
    for wrong in ["18446744073709551615", "253402300800", "-1", "now"] {
        all.build(&["--build-arg", &format!("SOURCE_DATE_EPOCH={wrong}")])
            .fails(1, &["number of seconds", wrong]);
    }
    all.write("Dockerfile", "# check=experimental=all;error=true\nFROM busybox\nCOPY a x.lo[g] x.log /\n");
    all.build(&[]).fails(1, &["x.log"]);
    all.write("Dockerfile", "# check=experimental=all\nFROM busybox\nCOPY x.log /\n");
    all.build(&[]).fails(
        1,
        &["Dockerfile:3", "CopyIgnoredFile", "COPY of \"x.log\", which the ignore file leaves out"],
    );
    all.finish();
}
