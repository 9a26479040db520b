//! `build --check` and `build --call`: what a Dockerfile tells without being built.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use engine_testkit::require;
use serde_json::Value;

use super::repositories::repositories;
use super::sources::{Web, pack};
use super::{Builder, write};
use crate::daemons::engine_cli;
use crate::support::{Cli, Said};

const DOCKERFILE: &str = "\
# check=experimental=all
ARG BASE=busybox
# made is made here
FROM $BASE AS made
# WHO is who is greeted
ARG WHO=world
RUN --mount=type=secret,id=token,required=true --mount=type=ssh \\
    --mount=type=cache,target=/cache greet $WHO
COPY x.log /

# all is what is shipped
FROM scratch AS all
COPY --from=made / /
ENV A=$NOWHERE
";

const CHECKED: &str = "\
Check complete, 2 warnings have been found!

WARNING: CopyIgnoredFile - https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/
COPY of \"x.log\", which the ignore file leaves out
Dockerfile:9
--------------------
   7 |     RUN --mount=type=secret,id=token,required=true --mount=type=ssh \\
   8 |         --mount=type=cache,target=/cache greet $WHO
   9 | >>> COPY x.log /
  10 |     
  11 |     # all is what is shipped
--------------------

WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/
the variable $NOWHERE is not defined
Dockerfile:14
--------------------
  12 |     FROM scratch AS all
  13 |     COPY --from=made / /
  14 | >>> ENV A=$NOWHERE
--------------------
";

const OUTLINE: &str = "\
TARGET:      all
DESCRIPTION: is what is shipped

BUILD ARG   VALUE     DESCRIPTION
BASE        busybox   
WHO         you       is who is greeted

SECRET   REQUIRED
token    true

SSH       REQUIRED
default   

CACHE
/cache

";

const TARGETS: &str = "\
TARGET        DESCRIPTION
made          is made here
all (default) is what is shipped
";

fn said(command: &mut Command) -> Said {
    command.output().expect("run engine-cli").into()
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// With the arguments that name a context, and what is standard input, the answers are those of [`DOCKERFILE`].
fn answers(cli: &Cli, input: Option<&Path>, context: &[&str]) {
    let ask = |args: &[&str]| {
        let mut command = cli.local(&[&["build"], args, context].concat());
        if let Some(input) = input {
            command.stdin(File::open(input).unwrap());
        }
        said(&mut command)
    };
    let checked = ask(&["--check"]);
    assert_eq!((checked.code, &*checked.out), (1, CHECKED), "{context:?} {checked:?}");
    assert!(checked.err.contains("note: busybox is not here"), "{checked:?}");
    assert_eq!(ask(&["--call=outline", "--build-arg", "WHO=you"]).ok(), OUTLINE, "{context:?}");
    assert_eq!(ask(&["--call=targets"]).ok(), TARGETS, "{context:?}");
}

#[test]
fn a_dockerfile_of_any_context_here_tells_without_an_engine() {
    require!(root, overlayfs, "bsdtar");
    let cli = Cli::empty();
    let context = cli.path("context");
    for (path, text) in
        [("Dockerfile", DOCKERFILE), (".dockerignore", "*.log\n"), ("x.log", ""), ("Link", "")]
    {
        write(&context, path, text);
    }
    let dir = context.display().to_string();
    // The engine's directory is not there, and is not made for it.
    let none = cli.path("none");
    let at = none.display().to_string();
    let checked = said(engine_cli().args(["--root", &at, "build", "--check", &dir]));
    assert_eq!((checked.code, &*checked.out), (1, CHECKED), "{checked:?}");
    assert!(!none.exists());
    answers(&cli, None, &[&dir]);
    let (tar, gz) = (cli.path("context.tar"), cli.path("context.tar.gz"));
    pack(&context, &tar.display().to_string(), &[]);
    pack(&context, &gz.display().to_string(), &["-z"]);
    answers(&cli, Some(&tar), &["-"]);
    answers(&cli, Some(&gz), &["-f", "Dockerfile", "-"]);
    answers(&cli, Some(&context.join("Dockerfile")), &["-f", "-", &dir]);
    // Another ignore file counts for a Dockerfile that has one of its own; a text alone has no context.
    write(&context, "Dockerfile.dockerignore", "!x.log\n");
    for (input, args) in [(None, &[&*dir][..]), (Some(context.join("Dockerfile")), &["-"])] {
        let mut command =
            cli.local(&[&["build", "--call=check,format=json,ignorestatus=true"], args].concat());
        if let Some(input) = input {
            command.stdin(File::open(input).unwrap());
        }
        let said = said(&mut command);
        let document: Value = serde_json::from_str(&said.ok()).unwrap();
        let rules: Vec<_> =
            document["warnings"].as_array().unwrap().iter().map(|one| &one["ruleName"]).collect();
        assert_eq!(rules, ["UndefinedVar"], "{args:?}");
    }
    fs::remove_file(context.join("Link")).unwrap();
    std::os::unix::fs::symlink("Dockerfile", context.join("Link")).unwrap();
    pack(&context, &tar.display().to_string(), &[]);
    said(cli.local(&["build", "--check", "-f", "Link", "-"]).stdin(File::open(&tar).unwrap()))
        .fails(1, &["Link", "link in an archive"]);
    said(cli.local(&["build", "--check", "-f", "None", "-"]).stdin(File::open(&tar).unwrap()))
        .fails(1, &["None", "no such file"]);
    cli.finish();
}

#[test]
fn a_check_says_how_it_went() {
    require!(root, overlayfs);
    let cli = Cli::empty();
    let context = cli.path("context");
    let dir = context.display().to_string();
    let check = |text: &str, args: &[&str]| {
        write(&context, "Dockerfile", text);
        said(&mut cli.local(&[&["build"], args, &[&dir]].concat()))
    };
    let clean = "FROM scratch\nCMD [\"x\"]\n";
    assert_eq!(check(clean, &["--check"]).ok(), "Check complete, no warnings found.\n");
    // Nothing of a build happens: there is no such secret, and nothing is written.
    let id = cli.path("id").display().to_string();
    check(clean, &["--check", "-t", "app", "--iidfile", &id, "--secret", "id=a,src=/none"]).ok();
    assert!(!Path::new(&id).exists());
    let bad = "FROM scratch\nCMD x\n";
    let one = check(bad, &["--call=lint"]);
    assert!(one.code == 1 && one.out.starts_with("Check complete, 1 warning has been found!\n"), "{one:?}");
    check(bad, &["--call=check,ignorestatus=true"]).ok();
    check(bad, &["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]).ok();
    // What fails a build fails its check, whatever of it is ignored.
    let error = format!("# check=error=true\n{bad}");
    check(&error, &["--call=check,ignorestatus=true"]).fails(1, &["the file breaks JSONArgsRecommended"]);
    let json_check = &["--call=check,format=json"][..];
    for (text, line, words) in [
        ("FROM scratch\nRUNN x\n", 2, "unknown instruction RUNN (did you mean RUN?)"),
        ("FROM scratch\nCMD x\nSTOPSIGNAL SIGNONE\n", 3, "SIGNONE"),
    ] {
        let said = check(text, json_check);
        let found = &json(&said)["buildError"];
        assert!(found["message"].as_str().unwrap().contains(words), "{said:?}");
        assert_eq!(found["location"]["ranges"][0]["start"]["line"], line, "{said:?}");
        assert!(said.code == 1 && said.err.contains(&format!("Dockerfile:{line}")), "{said:?}");
        check(text, &["--check"]).fails(1, &[&format!("Dockerfile:{line}")]);
    }
    // A target limits it, and has to be there.
    let two = "FROM scratch AS a\nENV A=$B\nFROM scratch AS b\n";
    check(two, &["--check", "--target", "b"]).ok();
    for call in ["check", "outline"] {
        check(two, &[&format!("--call={call}"), "--target", "bb"]).fails(1, &["bb", "no such stage"]);
    }
    let targets = json(&check(two, &["--call=targets,format=json"]));
    assert_eq!(targets["targets"][1]["default"], true, "{targets}");
    let outline = json(&check("FROM scratch\nARG A=1\n", &["--call=outline,format=json"]));
    assert_eq!(outline["args"][0]["value"], "1", "{outline}");
    for (args, words) in [
        (&["--call=test"][..], "none of build, check, outline and targets"),
        (&["--call=check,outline"], "more than one method"),
        (&["--call=check,format=xml"], "xml"),
        (&["--call=format=json"], "names no method"),
        (&["--call=check,ignorestatus=maybe"], "maybe"),
        (&["--check", "--call=outline"], "--call"),
    ] {
        check(clean, args).fails(125, &[words]);
    }
    // Whoever looks at a text needs no rights.
    if rustix::process::geteuid().is_root() {
        let mut command = engine_cli();
        write(&context, "Dockerfile", bad);
        let input = File::open(context.join("Dockerfile")).unwrap();
        command.args(["--root", "/nonexistent/engine", "build", "--check", "-"]).stdin(input);
        let one = said(command.uid(65534).gid(65534));
        assert!(one.code == 1 && one.out.contains("JSONArgsRecommended"), "{one:?}");
    }
    cli.finish();
}

#[test]
fn images_and_contexts_of_an_engine_are_known_here_and_elsewhere() {
    require!(root, overlayfs, "git");
    let (all, web) = (Builder::new(&[]), Web::new());
    let git = repositories(&all.cli.path("repositories"));
    let text = "FROM base\nENV A=$SET_THERE B=$NOWHERE\n";
    all.id("FROM busybox\nENV SET_THERE=1\nONBUILD ARG ASKED=1\n", &["-t", "base"]);
    all.write("Dockerfile", text);
    for (path, text) in [("ctx/Dockerfile", text), ("ctx/.dockerignore", "*.log\n")] {
        write(&git.path("app"), path, text);
    }
    git.commit("app");
    web.put("/text", 200, "", text.as_bytes());
    let host = all.cli.serve();
    let repository = format!("{}#main:ctx", git.url("app"));
    let root = all.cli.root().display().to_string();
    for place in [["--root", &root], ["--host", &host]] {
        let config = all.cli.path("docker");
        let engine = |args: &[&str]| said(engine_cli().args(place).args(args).env("DOCKER_CONFIG", &config));
        for context in [&*all.context, &repository, &web.url("/text")] {
            let checked = engine(&["build", "--check", context]);
            assert!(checked.code == 1 && checked.err.is_empty(), "{context} {checked:?}");
            assert!(
                checked.out.contains("$NOWHERE is") && !checked.out.contains("$SET_THERE is"),
                "{checked:?}"
            );
            assert!(
                engine(&["build", "--call=outline", context]).ok().contains("ASKED       1"),
                "{context}"
            );
        }
        // A context of this name is meant before the image.
        let files = format!("base={}", all.context);
        let checked = engine(&["build", "--check", "--build-context", &files, &all.context]);
        assert!(checked.out.contains("$SET_THERE is") && checked.err.is_empty(), "{checked:?}");
        let file = all.cli.path("Other").display().to_string();
        write(&all.cli.path("."), "Other", &text.replace("base", "other"));
        let other = "other=docker-image://base";
        let checked = engine(&["build", "--check", "-f", &file, "--build-context", other, &all.context]);
        assert!(checked.out.contains("$NOWHERE is") && !checked.out.contains("$SET_THERE is"), "{checked:?}");
        engine(&["build", "--check", &web.url("/none")]).fails(1, &["404"]);
    }
    all.finish();
}
