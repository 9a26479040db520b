//! What goes wrong: in a Dockerfile, at the keyboard, on the disk, and with somebody else at the same time.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use engine_testkit::{LeakCheck, Said, require};
use rustix::process::{Pid, Signal, kill_process};

use super::{Builder, write};
use crate::support::until;

/// A Dockerfile beneath `FROM busybox`, unless it has one, and what is said about it, as a whole.
const TABLE: &[(&str, &str)] = &[
    (
        "COPI a b",
        r#"parse Dockerfile file "Dockerfile:2:1": unknown instruction COPI
   1 |     FROM busybox
   2 | >>> COPI a b
     |     ^ (did you mean COPY?)"#,
    ),
    (
        "COPY --form=x a b",
        r#"parse Dockerfile file "Dockerfile:2:6": unknown flag --form
   1 |     FROM busybox
   2 | >>> COPY --form=x a b
     |          ^ (did you mean --from?)"#,
    ),
    (
        "RUN true\nRUN --mount=type=cahce,target=/x true",
        r#"parse Dockerfile file "Dockerfile:3:5": unsupported type "cahce" of --mount
   1 |     FROM busybox
   2 |     RUN true
   3 | >>> RUN --mount=type=cahce,target=/x true
     |         ^ (did you mean cache?)"#,
    ),
    (
        "ENV A=1 B",
        r#"parse Dockerfile file "Dockerfile:2:9": "B" lacks =
   1 |     FROM busybox
   2 | >>> ENV A=1 B
     |             ^ (write name=value, with quotes around a value that has spaces: ENV name="a b")"#,
    ),
    (
        "COPY <<EOF /x\ntext",
        r#"parse Dockerfile file "Dockerfile:2:6": the heredoc "EOF" has no end
   1 |     FROM busybox
   2 | >>> COPY <<EOF /x
     |          ^
   3 | >>> text (a line with nothing but EOF ends it)"#,
    ),
    (
        "HEALTHCHECK --interval=1x CMD true",
        r#"parse Dockerfile file "Dockerfile:2:13": "1x" is no time
   1 |     FROM busybox
   2 | >>> HEALTHCHECK --interval=1x CMD true
     |                 ^ (give a time such as 30s or 1m30s)"#,
    ),
    (
        "ONBUILD FROM x",
        r#"parse Dockerfile file "Dockerfile:2:9": FROM is not allowed behind ONBUILD
   1 |     FROM busybox
   2 | >>> ONBUILD FROM x
     |             ^"#,
    ),
    (
        "FROM busybox AS a\nCOPY --from=a x /",
        r#"parse Dockerfile file "Dockerfile:2:1": stage "a" takes files from itself
   1 |     FROM busybox AS a
   2 | >>> COPY --from=a x /
     |     ^"#,
    ),
    (
        "FROM ${NOTHING}",
        r#"parse Dockerfile file "Dockerfile:1:1": the base "${NOTHING}" is empty once it is expanded
   1 | >>> FROM ${NOTHING}
     |     ^ (put ARG NOTHING=… in front of the first FROM)"#,
    ),
    (
        "# escape=x\nFROM busybox",
        r#"parse Dockerfile file "Dockerfile:1:10": "x" is no escape character
   1 | >>> # escape=x
     |              ^ (it is \ or `)"#,
    ),
    (
        "# nothing",
        "parse Dockerfile file \"Dockerfile:1:1\": the file has no instructions\n   1 | >>> # nothing\n     |     ^",
    ),
    (
        "EXPOSE 99999",
        r#"read port "99999", file "Dockerfile:2", instruction "EXPOSE 99999": it is no port and no range of ports (give something like 80, 53/udp or 8000-8010)"#,
    ),
    (
        "COPY --chmod=9 a /",
        r#"read mode "9", file "Dockerfile:2", instruction "COPY --chmod=9 a /": it is no mode of a file (give an octal number up to 7777, or something like u=rwX,go=rX)"#,
    ),
    (
        "COPY --chown=nobody-here a /",
        r#"resolve user "nobody-here", file "Dockerfile:2", instruction "COPY --chown=nobody-here a /": the image's /etc/passwd has no user "nobody-here" (a number needs no entry)"#,
    ),
    (
        "RUN --mount=type=cache true",
        r#"mount for command file "Dockerfile:2", instruction "RUN --mount=type=cache true": nothing can be mounted at / (say where with target=PATH)"#,
    ),
    (
        "RUN true && \\\n    echo out && echo why >&2 && exit 3",
        "run command exit code \"3\", file \"Dockerfile:2\", instruction \"RUN true &&     echo out && echo why >&2 && exit 3\": the command returned a non-zero code: 3, and last wrote:\nout\nwhy",
    ),
];

#[test]
fn a_wrong_dockerfile_is_explained() {
    require!(root, overlayfs);
    let all = Builder::new(&[("a", "a\n")]);
    let images = all.run(&["images", "-aq"]).ok();
    for (lines, expected) in TABLE {
        let begins = ["FROM", "#"].iter().any(|start| lines.starts_with(start));
        all.write(
            "Dockerfile",
            &if begins { format!("{lines}\n") } else { format!("FROM busybox\n{lines}\n") },
        );
        let said = all.build(&["-q", "-t", "app"]);
        assert_eq!((said.code, said.err.trim_end()), (1, &*format!("engine-cli: {expected}")), "{lines}");
    }
    assert_eq!(all.run(&["images", "-aq"]).ok(), images, "an image is left");
    all.finish();
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing() {
    require!(root, overlayfs);
    let all = Builder::new(&[]);
    all.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c echo begun; sleep 1000\nRUN exit 1\n",
    );
    for signal in [Signal::INT, Signal::TERM] {
        let leaks = LeakCheck::begin(&all.cli.root(), &all.cli.root().join("run"));
        let args = ["build", "-t", "app", &all.context];
        let build = all.cli.local(&args);
        // Whoever started this in the background has made it, and what it starts, deaf to SIGINT.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(build.get_program()).args(build.get_args());
        let mut child = Ends(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let child = &mut child.0;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(" begun")), "the command did not begin");
        kill_process(Pid::from_child(child), signal).unwrap();
        let code = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap());
        assert_eq!(code, Some(signal.as_raw()), "as a shell sees it: 128 and the signal, as of Docker's");
        // The command ends with the build, and the next one who opens the store finds nothing of it.
        let listed: Said = all.cli.local(&["ps", "-aq"]).output().unwrap().into();
        assert_eq!(listed.ok(), "");
        leaks.settle().unwrap();
        all.run(&["image", "inspect", "app"]).fails(1, &["app"]);
    }
    all.finish();
}

/// A disk of 16 MiB, gone when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        engine_testkit::command("mount", ["-t", "tmpfs", "-o", "size=16m", "none", path.to_str().unwrap()]);
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let said = Command::new("umount").arg(&self.0).status();
        assert!(std::thread::panicking() || said.is_ok_and(|said| said.success()), "the disk is in use");
    }
}

/// A program that ends when it is dropped.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_is_said_and_spoils_nothing() {
    require!(root, overlayfs);
    if std::env::var_os("ENGINE_TEST_HOST").is_some() {
        return;
    }
    let all = Builder::new(&[("small", "small\n")]);
    let (disk, base) = (all.cli.path("disk"), all.cli.path("base.tar").display().to_string());
    all.run(&["save", "-o", &base, "busybox"]).ok();
    let mounted = SmallDisk::new(disk.clone());
    let root = disk.join("root").display().to_string();
    let run = |args: &[&str]| -> Said {
        let args = [&["--root", &root], args].concat();
        let command = &mut Command::new(env!("CARGO_BIN_EXE_engine-cli"));
        command.args(args).stdin(Stdio::null()).output().unwrap().into()
    };
    run(&["load", "-q", "-i", &base]).ok();
    // What cannot be compressed.
    let mut noise = vec![0; 24 << 20];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    fs::write(format!("{}/big", all.context), &noise).unwrap();
    let good = "FROM busybox\nCOPY small /\nRUN --network=none cat small > other\n";
    all.write("Dockerfile", good);
    let first = run(&["build", "-q", "-t", "good", &all.context]).ok();
    for (line, words) in [
        ("COPY big /", &["Dockerfile:4", "No space left on device"][..]),
        (
            "RUN --network=none cat /dev/urandom > /big",
            &["Dockerfile:4", "non-zero code", "No space left on device"],
        ),
    ] {
        all.write("Dockerfile", &format!("{good}{line}\n"));
        run(&["build", "-q", "-t", "big", &all.context]).fails(1, words);
        run(&["image", "inspect", "big"]).fails(1, &["big"]);
    }
    // All that was there is good, and there is room again.
    all.write("Dockerfile", good);
    assert_eq!(run(&["build", "-q", "-t", "good", &all.context]).ok(), first);
    all.write(
        "Dockerfile",
        &format!("{good}RUN --network=none dd if=/dev/urandom of=/new bs=1M count=2 2>/dev/null\n"),
    );
    run(&["build", "-q", "-t", "new", &all.context]).ok();
    assert_eq!(run(&["ps", "-aq"]).ok(), "");
    drop(mounted);
    all.finish();
}

#[test]
fn builds_of_one_thing_at_once_come_out_the_same() {
    require!(root, overlayfs);
    let all = Builder::new(&[("a", "a\n")]);
    let text = "FROM busybox AS one\nCOPY a /\nRUN --mount=type=cache,target=/c,sharing=locked cat a > /b\nFROM busybox\nCOPY --from=one /b /\nWORKDIR /w\nRUN ls / > list\n";
    write(all.context.as_ref(), "Dockerfile", text);
    for flags in [&[][..], &["--no-cache"]] {
        let args = [&["build", "-q", "-t", "app"], flags, &[&*all.context]].concat();
        let command =
            || all.cli.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let children: Vec<_> = (0..4).map(|_| command()).collect();
        let ids: Vec<String> =
            children.into_iter().map(|child| Said::from(child.wait_with_output().unwrap()).ok()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(all.config("app", "{{.Id}}"), ids[0].trim());
    }
    until("nothing is left", || all.run(&["ps", "-aq"]).ok().is_empty());
    assert_eq!(all.cached(), 5);
    all.finish();
}
