//! `cp`, `diff`, `export`, `commit`.

use std::fs;

use engine_testkit::image::LayerBuilder;
use engine_testkit::require;

use crate::support::Cli;

#[test]
fn cp_goes_both_ways() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["create", "--name", "one", "busybox", "sleep", "1000"]).ok();
    let file = cli.path("file");
    fs::write(&file, "hello").unwrap();
    let (file, back) = (file.display().to_string(), cli.path("back").display().to_string());
    for _ in 0..2 {
        cli.run(&["cp", &file, "one:/tmp/copied"]).ok();
        cli.run(&["container", "cp", "-q", "one:/tmp/copied", &back]).ok();
        assert_eq!(fs::read(&back).unwrap(), b"hello");
        fs::remove_file(&back).unwrap();
        // Relative paths are from the root.
        cli.run(&["cp", "one:tmp/copied", &back]).ok();
        fs::remove_file(&back).unwrap();
        cli.run(&["start", "one"]).ok();
    }
    assert_eq!(cli.run(&["exec", "one", "cat", "/tmp/copied"]).ok(), "hello");
    // Archives on standard streams.
    let archive = LayerBuilder::new().owner(5, 6).file("streamed", 0o640, b"bytes").build();
    cli.feed(&["cp", "-", "one:/tmp"], &archive).ok();
    assert_eq!(cli.run(&["exec", "one", "stat", "-c", "%u %g %a %s", "/tmp/streamed"]).ok(), "5 6 640 5\n");
    let said = cli.run(&["cp", "one:/tmp/streamed", "-"]).ok();
    assert!(said.starts_with("streamed\0") && said.contains("bytes"), "{said:?}");
    cli.run(&["exec", "one", "ln", "-s", "/tmp/copied", "/tmp/link"]).ok();
    cli.run(&["cp", "-L", "one:/tmp/link", &back]).ok();
    assert_eq!(fs::read(&back).unwrap(), b"hello");
    cli.finish();
}

#[test]
fn wrong_copies_are_refused() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["create", "--name", "one", "--read-only", "busybox", "true"]).ok();
    let file = cli.path("file");
    fs::write(&file, "hello").unwrap();
    let file = file.display().to_string();
    cli.run(&["cp", "one:/etc", "one:/tmp"]).fails(1, &["copying between containers is not supported"]);
    cli.run(&["cp", &file, "/tmp/x"]).fails(1, &["must specify at least one container source"]);
    cli.run(&["cp", "one:", "/tmp/x"]).fails(1, &["no path"]);
    cli.run(&["cp", ":/etc", "/tmp/x"]).fails(1, &["names no container"]);
    cli.run(&["cp", "none:/etc", "/tmp/x"]).fails(1, &["none", "no such container"]);
    cli.run(&["cp", "one:/nowhere", "/tmp/x"]).fails(1, &["/nowhere"]);
    cli.run(&["cp", &format!("{file}.missing"), "one:/tmp"]).fails(1, &["file.missing"]);
    cli.run(&["cp", &file, "one:/tmp"]).fails(1, &["read-only"]);
    cli.feed(&["cp", "-", "one:/etc/passwd"], &[0; 1024]).fails(1, &["not a directory"]);
    cli.finish();
}

#[test]
fn e4_cp_executes_nothing() {
    require!(root, overlayfs, "strace");
    let cli = Cli::new();
    cli.start(&["--name", "runs", "busybox", "sleep", "1000"]);
    cli.run(&["create", "--name", "rests", "busybox", "true"]).ok();
    let (trace, back) = (cli.path("trace"), cli.path("back"));
    for (number, name) in ["runs", "rests"].iter().enumerate() {
        let from = format!("{name}:/etc");
        let to = format!("{back}{number}", back = back.display());
        let into = format!("{name}:/tmp");
        for args in
            [["cp", "-a", &from, &to], ["cp", "-a", &to, &into], ["export", "-o", &format!("{to}.tar"), name]]
        {
            let command = cli.command(&args);
            let traced = std::process::Command::new("strace")
                .args(["-f", "-qq", "-e", "trace=execve,execveat", "-o"])
                .arg(&trace)
                .arg(command.get_program())
                .args(command.get_args())
                .env("DOCKER_CONFIG", cli.path("docker"))
                .output()
                .unwrap();
            assert!(traced.status.success(), "{args:?}: {traced:?}");
            let text = fs::read_to_string(&trace).unwrap();
            let calls: Vec<&str> = text.lines().filter(|line| line.contains("exec")).collect();
            // The one is strace's, of the binary itself.
            assert_eq!(calls.len(), 1, "{args:?}: {text}");
        }
    }
    cli.finish();
}

#[test]
fn diff_export_and_commit_show_what_a_container_did() {
    require!(root, overlayfs, "tar");
    let cli = Cli::new();
    cli.run(&["run", "--name", "one", "busybox", "sh", "-c", "echo 1 > /new; rm /etc/group; mkdir /etc/d"])
        .ok();
    assert_eq!(cli.run(&["diff", "one"]).ok(), "C /etc\nA /etc/d\nD /etc/group\nA /new\n");
    let tar = cli.path("out.tar").display().to_string();
    cli.run(&["export", "-o", &tar, "one"]).ok();
    let listed = std::process::Command::new("tar").args(["-tf", &tar]).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|l| l == "./new") && !listed.contains("etc/group"), "{listed}");
    let id = cli
        .run(&[
            "commit",
            "-a",
            "me",
            "-m",
            "why",
            "-c",
            "CMD [\"cat\", \"/new\"]",
            "-c",
            "ENV A=b",
            "one",
            "made:1",
        ])
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(cli.run(&["run", "--rm", "made:1"]).ok(), "1\n");
    assert_eq!(
        cli.run(&["run", "--rm", "made:1", "sh", "-c", "echo $A; test -d /etc/d && ! test -e /etc/group"])
            .ok(),
        "b\n"
    );
    cli.run(&["run", "-d", "--name", "two", "busybox", "sleep", "1000"]).ok();
    for flag in ["--pause=false", "--no-pause", "-p"] {
        cli.run(&["commit", flag, "two", "made:2"]).ok();
        assert_eq!(cli.run(&["inspect", "-f", "{{.State.Status}}", "two"]).ok(), "running\n", "{flag}");
    }
    cli.run(&["commit", "--pause=false", "--no-pause", "two"]).fails(125, &["--no-pause"]);
    cli.run(&["rm", "-f", "two"]).ok();
    cli.run(&["commit", "-c", "FROM x", "one"]).fails(1, &["FROM x"]);
    cli.run(&["diff", "none"]).fails(1, &["no such container"]);
    cli.run(&["export", "none"]).fails(1, &["no such container"]);
    cli.run(&["commit", "none"]).fails(1, &["no such container"]);
    cli.finish();
}
