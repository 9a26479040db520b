//! `build`: images from Dockerfiles.

mod caches;
mod calls;
mod case;
mod checks;
mod corpus;
mod keys;
mod kills;
mod mounts;
mod outputs;
mod peer;
mod platforms;
mod remote;
mod repositories;
mod sizes;
mod sources;
mod tree;
mod wrong;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use engine_testkit::require;

use crate::support::{Cli, Said};

/// An engine with `busybox`, and a build context.
struct Builder {
    cli: Cli,
    context: String,
}

impl Builder {
    fn new(files: &[(&str, &str)]) -> Self {
        let cli = Cli::new();
        let context = cli.path("context");
        for (path, content) in files {
            write(&context, path, content);
        }
        Self { context: context.display().to_string(), cli }
    }

    fn write(&self, path: &str, content: &str) {
        write(Path::new(&self.context), path, content);
    }

    fn run(&self, args: &[&str]) -> Said {
        self.cli.command(args).output().expect("run engine-cli").into()
    }

    fn build(&self, args: &[&str]) -> Said {
        self.run(&[&["build"], args, &[&self.context]].concat())
    }

    /// Builds by a Dockerfile and returns the image's id.
    fn id(&self, dockerfile: &str, args: &[&str]) -> String {
        self.write("Dockerfile", dockerfile);
        self.build(&[&["-q"], args].concat()).ok().trim().to_owned()
    }

    /// How many steps a build takes from the cache.
    fn cached(&self) -> usize {
        let out = self.cli.command(&["build", "-t", "app", &self.context]).output().expect("run engine-cli");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{text}");
        text.lines().filter(|line| line.ends_with(" CACHED")).count()
    }

    /// What a command in a container of an image says.
    fn inside(&self, image: &str, script: &str) -> String {
        let args = ["run", "--rm", "--network", "none", "--entrypoint", "/bin/busybox"];
        self.run(&[&args, &[image, "sh", "-c", script][..]].concat()).ok()
    }

    fn config(&self, image: &str, format: &str) -> String {
        self.run(&["image", "inspect", "--format", format, image]).ok().trim().to_owned()
    }

    fn finish(self) {
        // No container is left of a build.
        assert_eq!(self.run(&["ps", "-aq"]).ok(), "");
        for volume in self.run(&["volume", "ls", "-q"]).ok().lines() {
            self.run(&["volume", "rm", volume]).ok();
        }
        self.cli.finish();
    }
}

fn write(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn instructions_make_the_files_and_the_configuration_that_they_say() {
    require!(root, overlayfs);
    let files = [("src/a", "a\n"), ("src/deep/b", "b\n"), ("one.txt", "1\n"), ("two.txt", "2\n")];
    let all = Builder::new(&files);
    symlink("a", format!("{}/src/link", all.context)).unwrap();
    let id = all.id(
        r#"ARG BASE=busybox
FROM $BASE
ARG WHO=world
ENV GREETING="hello $WHO" TWO=${NOTHING:-unset}
WORKDIR /app/data
RUN echo "$GREETING" > greeting && id -u > who
COPY src/ ./src/
COPY --parents src/deep src/./deep/b /parents/
COPY --exclude=deep src /excluded/
COPY --chmod=u=rwx,go=rx --chown=1000:2000 *.txt /files/
COPY <<-DOC /etc/motd
	welcome $WHO
	DOC
RUN <<EOF
set -e
pwd > /one
cat greeting >> /one
EOF
USER 7:8
RUN id -u > /tmp/me; id -g >> /tmp/me
LABEL a.b="c d" e=f
EXPOSE 80 90-91/udp
VOLUME ["/data", "/more"]
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-e", "-c"]
HEALTHCHECK --interval=5s --retries=2 CMD true
ONBUILD RUN touch /tmp/triggered
ENTRYPOINT ["/bin/sh", "-c"]
CMD echo shell
"#,
        &["-t", "app:1", "--build-arg", "WHO=you"],
    );
    assert_eq!(all.config("app:1", "{{.Id}}"), id);
    let text = all.inside("app:1", "cat /app/data/greeting /app/data/who /etc/motd /one /tmp/me");
    assert_eq!(text, "hello you\n0\nwelcome you\n/app/data\nhello you\n7\n8\n");
    assert_eq!(all.inside("app:1", "cd /app/data/src && cat a deep/b && readlink link"), "a\nb\na\n");
    let text = all.inside("app:1", "cd /parents && find . -type f | sort; ls /excluded");
    assert_eq!(text, "./deep/b\n./src/deep/b\na\nlink\n");
    let owners = all.inside("app:1", "cd /files && stat -c '%n %a %u:%g' * /app/data /etc/motd");
    assert_eq!(
        owners,
        "one.txt 755 1000:2000\ntwo.txt 755 1000:2000\n/app/data 755 0:0\n/etc/motd 644 0:0\n"
    );
    let config: serde_json::Value = serde_json::from_str(&all.config("app:1", "{{json .Config}}")).unwrap();
    for (field, expected) in [
        (
            "Env",
            r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","GREETING=hello you","TWO=unset"]"#,
        ),
        ("WorkingDir", r#""/app/data""#),
        ("User", r#""7:8""#),
        ("Labels", r#"{"a.b":"c d","e":"f"}"#),
        ("ExposedPorts", r#"{"80/tcp":{},"90/udp":{},"91/udp":{}}"#),
        ("Volumes", r#"{"/data":{},"/more":{}}"#),
        ("StopSignal", r#""SIGINT""#),
        ("Shell", r#"["/bin/sh","-e","-c"]"#),
        ("Entrypoint", r#"["/bin/sh","-c"]"#),
        ("Cmd", r#"["/bin/sh","-e","-c","echo shell"]"#),
        ("OnBuild", r#"["RUN touch /tmp/triggered"]"#),
    ] {
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(config[field], expected, "{field}");
    }
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "/bin/sh", "-e", "-c", "true"]));
    // A build on it does first what it asks for, and asks for nothing itself.
    all.id("FROM app:1\nUSER 0\n", &["-t", "next"]);
    assert_eq!(all.inside("next", "ls /tmp/triggered"), "/tmp/triggered\n");
    assert!(!all.config("next", "{{json .Config}}").contains("triggered"));
    all.finish();
}

#[test]
fn stages_are_built_when_they_are_needed_and_files_go_from_one_to_the_other() {
    require!(root, overlayfs);
    let all = Builder::new(&[("only", "x\n")]);
    all.run(&["tag", "busybox", "other:1"]).ok();
    let dockerfile = "FROM busybox AS first
RUN echo first > /out
FROM busybox AS unused
RUN exit 7
FROM busybox AS second
RUN echo second > /out && chown 5:6 /out
FROM scratch
COPY --from=first /out /a/first
COPY --from=2 /out /a/second
COPY --from=other:1 /bin/busybox /bin/
COPY --from=named only /a/
";
    let named = format!("named={}", all.context);
    all.id(dockerfile, &["-t", "app", "--build-context", &named]);
    assert_eq!(all.inside("app", "/bin/busybox cat /a/first /a/second /a/only"), "first\nsecond\nx\n");
    assert_eq!(all.inside("app", "/bin/busybox stat -c %u:%g /a/second"), "5:6\n");
    all.build(&["--target", "unused"]).fails(1, &["Dockerfile:4", "non-zero code: 7"]);
    let first = all.build(&["-q", "--target", "FIRST"]).ok();
    assert_eq!(all.inside(first.trim(), "cat /out"), "first\n");
    all.build(&["--target", "frist"]).fails(1, &["frist", "first"]);
    all.finish();
}

#[test]
fn the_same_input_gives_the_same_image_and_a_changed_byte_builds_what_comes_after_it() {
    require!(root, overlayfs);
    let files =
        [("a", "a\n"), ("b", "b\n"), ("ignored.log", "1\n"), (".dockerignore", "*.log\nDockerfile\n")];
    let dockerfile = "FROM busybox
RUN echo one > /one && mkdir /dir && touch /dir/file
COPY a /
RUN cat /a > /two && rm /one
COPY . /all/
RUN ls /all > /list
";
    let (one, other) = (Builder::new(&files), Builder::new(&files));
    // An import has a time of its own: both begin with one image.
    let base = one.cli.path("base.tar").display().to_string();
    one.run(&["save", "-o", &base, "busybox"]).ok();
    other.run(&["rmi", "busybox"]).ok();
    other.run(&["load", "-q", "-i", &base]).ok();
    // Files keep their times, so the times are the same, too.
    let times =
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000));
    for all in [&one, &other] {
        for name in ["a", "b", ".dockerignore", "ignored.log"] {
            fs::File::options()
                .append(true)
                .open(format!("{}/{name}", all.context))
                .unwrap()
                .set_times(times)
                .unwrap();
        }
    }
    let (first, second) = (one.id(dockerfile, &["-t", "app"]), other.id(dockerfile, &["-t", "app"]));
    assert_eq!(one.inside("app", "cat /list"), "a\nb\n");
    assert_eq!(first, second, "in two stores");
    assert_eq!(one.id(dockerfile, &["--no-cache"]), first, "without the cache");
    assert_eq!(one.cached(), 5);
    // What nobody copies changes nothing, nor does a time.
    one.write("ignored.log", "2\n");
    one.write("a", "a\n");
    assert_eq!(one.cached(), 5);
    one.write("b", "B\n");
    assert_eq!(one.cached(), 3);
    // A Dockerfile elsewhere brings its own ignore file.
    let (elsewhere, file) = (one.cli.path("elsewhere"), one.cli.path("elsewhere/own").display().to_string());
    write(&elsewhere, "own", "FROM busybox\nCOPY . /all/\n");
    write(&elsewhere, "own.dockerignore", "*\n!ignored.log\n");
    one.build(&["-q", "-f", &file, "-t", "own"]).ok();
    assert_eq!(one.inside("own", "ls -A /all"), "ignored.log\n");
    one.write("a", "A\n");
    assert_eq!(one.cached(), 1);
    assert_eq!(one.inside("app", "cat /two /all/b; ls /one 2>/dev/null | wc -l"), "A\nB\n0\n");
    let steps = || {
        let df = one.run(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
        df.lines().find_map(|line| line.strip_prefix("Build Cache ")).unwrap().parse::<usize>().unwrap()
    };
    // The oldest go first, and what an image has takes no place.
    let all = steps();
    one.run(&["builder", "prune", "-f", "--filter", "until=1h"]).ok();
    assert_eq!(steps(), all);
    one.run(&["builder", "prune", "-f", "--keep-storage", "1GB"]).ok();
    assert_eq!(steps(), all);
    one.run(&["image", "prune", "-f"]).ok();
    one.run(&["builder", "prune", "-f", "--keep-storage", "0"]).ok();
    assert!((1..all).contains(&steps()), "{}", steps());
    assert_eq!(one.cached(), 5);
    // Without the cache, the image is there and nothing else.
    let freed = one.run(&["builder", "prune", "-f"]).ok();
    assert!(freed.contains("Total reclaimed space: ") && !freed.ends_with(": 0B\n"), "{freed}");
    assert_eq!(steps(), 0);
    assert_eq!(one.inside("app", "cat /two"), "A\n");
    assert_eq!(one.cached(), 0);
    one.finish();
    other.finish();
}

#[test]
fn mounts_are_there_for_one_command_and_leave_nothing() {
    require!(root, overlayfs);
    let all = Builder::new(&[("src/a", "a\n")]);
    let token = all.cli.path("token");
    fs::write(&token, "s3cret").unwrap();
    let token = format!("id=tok,src={}", token.display());
    let dockerfile = "FROM busybox
RUN --mount=type=bind,source=src,target=/src cat /src/a > /copy
RUN --mount=type=cache,target=/var/cache/x echo x >> /var/cache/x/log; wc -l < /var/cache/x/log > /count
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x
RUN --mount=type=secret,id=tok wc -c < /run/secrets/tok > /length
RUN --mount=type=secret,id=tok,env=TOKEN,required test $(echo $TOKEN | wc -c) = 7
";
    all.id(dockerfile, &["-t", "app", "--secret", &token]);
    assert_eq!(all.inside("app", "cat /copy /count /length"), "a\n1\n6\n");
    assert_eq!(all.inside("app", "ls -d /src /var/cache /scratch /run/secrets 2>/dev/null | wc -l"), "0\n");
    all.id(dockerfile, &["-t", "app", "--secret", &token, "--no-cache"]);
    assert_eq!(all.inside("app", "cat /count"), "2\n");
    // D6: nowhere is the secret.
    let grep =
        std::process::Command::new("grep").args(["-rl", "s3cret"]).arg(all.cli.root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    all.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=tok,required true\n");
    all.build(&[]).fails(1, &["Dockerfile:2", "--secret id=tok"]);
    all.finish();
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_leaves_no_image() {
    require!(root, overlayfs);
    let all = Builder::new(&[("file", "x\n")]);
    let images = all.run(&["images", "-aq"]).ok();
    for (dockerfile, words) in [
        ("FROM busybox\nCOPI a b\n", &["Dockerfile:2", "COPI", "COPY"][..]),
        ("FROM busybox\nCOPY nothing /\n", &["Dockerfile:2", "nothing", "no such file"]),
        (
            "FROM busybox\nADD http://127.0.0.1:1/x /\n",
            &["Dockerfile:2", "127.0.0.1:1", "nothing listens there"],
        ),
        ("FROM busybox\nCOPY <<../x /dir/\ntext\n../x\n", &["Dockerfile:2", "../x", "no name of a file"]),
        ("FROM busybox\nCOPY *.none /\n", &["Dockerfile:2", "*.none"]),
        ("FROM busybox\nCOPY ../../etc/passwd /\n", &["Dockerfile:2", "out of the build context"]),
        ("FROM busybox\nCOPY file file /to\n", &["Dockerfile:2", "ends with /"]),
        ("FROM busybox\nCOPY file /bin/busybox/x\n", &["Dockerfile:2", "not a directory"]),
        ("FROM busybox\nRUN echo why >&2; exit 3\n", &["Dockerfile:2", "non-zero code: 3", "why"]),
        ("FROM busybox\nRUN [\"/no/such\"]\n", &["Dockerfile:2", "/no/such"]),
        ("FROM busybox\nSTOPSIGNAL nonsense\n", &["Dockerfile:2", "nonsense"]),
        ("FROM busybox\nUSER nobody-here\nRUN true\n", &["Dockerfile:3", "nobody-here"]),
        ("FROM busybox\nRUN --network=host true\n", &["Dockerfile:2", "not allowed"]),
        ("FROM busybox\nCOPY --from=later x /\nFROM busybox AS later\n", &["Dockerfile:2", "later"]),
        ("RUN true\n", &["Dockerfile:1", "FROM"]),
    ] {
        all.write("Dockerfile", dockerfile);
        all.build(&["-t", "app"]).fails(1, words);
    }
    all.run(&["build", "/no/such/dir"]).fails(1, &["/no/such/dir"]);
    all.run(&["build", "-f", "/no/such/file", &all.context]).fails(1, &["/no/such/file"]);
    assert_eq!(all.run(&["images", "-aq"]).ok(), images);
    all.finish();
}
