//! Bad input: a sentence that names the thing and says what to do, Docker's exit code, and nothing left behind.

use std::process::Command;

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn what_cannot_be_run_is_named() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    for (args, words) in [
        (
            &["--mount", "type=bind,src=/no/such/dir,dst=/x", "busybox"][..],
            &["/no/such/dir", "does not exist", "create it"][..],
        ),
        (&["-v", "relative/path:/x", "busybox"], &["relative/path"]),
        (&["-v", "/etc:/", "busybox"], &["/", "absolute path other than /"]),
        (&["-u", "nobody-here", "busybox"], &["nobody-here"]),
        (&["-u", "0:no-group", "busybox"], &["no-group"]),
        (&["--cap-add", "BOGUS", "busybox"], &["BOGUS"]),
        (&["--network", "container:nope", "busybox"], &["nope"]),
        (&["--network", "no-network", "busybox", "true"], &["network no-network not found"]),
        (&["--memory", "1k", "busybox", "true"], &["memory"]),
        (&["--ulimit", "bogus=1", "busybox"], &["bogus"]),
        (&["--sysctl", "kernel.panic=1", "busybox"], &["kernel.panic"]),
        (&["--hostname", "not a name", "busybox"], &["not a name"]),
        (&["--security-opt", "seccomp=/no/such/file", "busybox"], &["/no/such/file"]),
        (&["--device", "/dev/no-such-device", "busybox"], &["/dev/no-such-device"]),
        (&["--log-driver", "syslog", "busybox"], &["syslog", "json-file"]),
        (&["--name", "a/b", "busybox"], &["a/b"]),
        (&["-p", "80:x", "busybox"], &["80:x", "8080:80"]),
        (&["--restart", "always", "--rm", "busybox"], &["cannot specify both --restart and --rm"]),
        (&["UPPER/case"], &["UPPER/case"]),
    ] {
        let all: Vec<&str> = ["run"].iter().chain(args).copied().collect();
        let said = cli.run(&all);
        assert_eq!(said.code, 125, "{args:?}: {said:?}");
        for word in words {
            assert!(said.err.contains(word), "{word:?} is not in what {args:?} says: {}", said.err);
        }
        assert_eq!(cli.run(&["ps", "-aq"]).ok(), "", "{args:?}");
    }
    cli.finish_clean();
}

#[test]
fn a_name_that_is_taken() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.run(&["create", "--name", "taken", "busybox"]).ok();
    cli.run(&["run", "--name", "taken", "busybox"]).fails(125, &["taken", &id[..12], "remove"]);
    assert_eq!(cli.run(&["ps", "-aq"]).ok().lines().count(), 1);
    cli.finish();
}

#[test]
fn an_image_without_a_command_and_an_archive_that_is_none() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let tar = cli.path("x.tar");
    std::fs::write(&tar, engine_testkit::image::busybox_layer().build()).unwrap();
    cli.run(&["image", "import", tar.to_str().unwrap(), "plain"]).ok();
    cli.run(&["run", "plain"]).fails(125, &["no command specified", "such as sh"]);
    std::fs::write(&tar, vec![b'x'; 5000]).unwrap();
    let said = cli.run(&["image", "import", tar.to_str().unwrap(), "broken"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(!cli.run(&["images"]).ok().contains("broken"));
    cli.finish_clean();
}

#[test]
fn an_unprivileged_user_is_told_what_is_missing() {
    require!(root, "setpriv");
    let dir = tempfile::tempdir().unwrap();
    // A copy that this user may execute and a directory it owns.
    let binary = dir.path().join("engine-cli");
    std::fs::copy(env!("CARGO_BIN_EXE_engine-cli"), &binary).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.arg("--root").arg(dir.path().join("root")).args(args).env_remove("ENGINE_ROOT");
        crate::support::Said::from(command.output().unwrap())
    };
    run(&["run", "--rm", "localhost/hello"]).fails(125, &["root"]);
    run(&["ps"]).fails(1, &["root"]);
    // What it may do without: see what works.
    let info = run(&["info"]);
    assert!(info.out.contains("privileges: "), "{info:?}");
    assert!(run(&["version"]).ok().contains("engine-cli"));
}
