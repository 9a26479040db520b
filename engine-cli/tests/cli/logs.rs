//! `logs`, and the options of logs.

use engine_testkit::require;

use crate::support::{Cli, until};

#[test]
fn logs_choose_lines_by_time_and_number() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&[
        "run",
        "--name",
        "one",
        "busybox",
        "sh",
        "-c",
        "echo a; sleep 0.1; echo b >&2; sleep 0.1; echo c",
    ])
    .ok();
    let stamped = cli.run(&["logs", "-t", "one"]);
    let times: Vec<String> = [&stamped.out, &stamped.err]
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| line[..30].to_owned())
        .collect();
    assert_eq!(times.len(), 3, "{stamped:?}");
    let (a, c, b) = (&times[0], &times[1], &times[2]);
    assert!(a < b && b < c, "{times:?}");
    let said = |args: &[&str]| {
        let said = cli.run(&[&["logs"][..], args, &["one"]].concat());
        (said.out.clone(), said.err.clone())
    };
    let pair = |out: &str, err: &str| (out.to_owned(), err.to_owned());
    assert_eq!(said(&[]), pair("a\nc\n", "b\n"));
    assert_eq!(said(&["-n", "1"]), pair("c\n", ""));
    assert_eq!(said(&["--tail", "0"]), pair("", ""));
    assert_eq!(said(&["--since", b]), pair("c\n", "b\n"));
    assert_eq!(said(&["--until", b]), pair("a\n", "b\n"));
    assert_eq!(said(&["--since", b, "--until", b]), pair("", "b\n"));
    // An end that lies in the past ends the following too.
    assert_eq!(said(&["-f", "--until", a]), pair("a\n", ""));
    cli.run(&["logs", "--tail", "some", "one"]).fails(1, &["--tail", "some"]);
    cli.run(&["logs", "--since", "yesterday", "one"]).fails(1, &["yesterday"]);
    cli.run(&["logs", "nope"]).fails(1, &["nope"]);
    cli.finish();
}

#[test]
fn details_are_labels_variables_and_a_tag() {
    require!(root, overlayfs);
    let cli = Cli::new();
    for driver in ["json-file", "local"] {
        let options = [
            "--log-opt",
            "labels=tier,none",
            "--log-opt",
            "env=WHERE",
            "--log-opt",
            "tag={{.Name}}/{{.ImageName}}",
        ];
        let run =
            ["run", "--name", driver, "--label", "tier=front row", "-e", "WHERE=a,b", "--log-driver", driver];
        cli.run(&[&run[..], &options, &["busybox", "echo", "hello"]].concat()).ok();
        let details = cli.run(&["logs", "--details", driver]).ok();
        assert_eq!(details, format!("WHERE=a%2Cb,tag={driver}%2Fbusybox,tier=front+row hello\n"));
        assert_eq!(cli.run(&["logs", driver]).ok(), "hello\n");
        assert_eq!(cli.inspect(driver, "{{.HostConfig.LogConfig.Type}}"), driver);
    }
    let options = ["--log-opt", "labels-regex=^(tier|zone)$", "--log-opt", "env-regex=^WH"];
    let run = [
        "run", "--name", "regex", "--label", "tier=1", "--label", "tiers=2", "-e", "WHERE=a", "-e", "SOME=b",
    ];
    cli.run(&[&run[..], &options, &["busybox", "echo", "hello"]].concat()).ok();
    assert_eq!(cli.run(&["logs", "--details", "regex"]).ok(), "WHERE=a,tier=1 hello\n");
    let shown = cli.inspect("regex", "{{index .HostConfig.LogConfig.Config \"labels-regex\"}}");
    assert_eq!(shown, "^(tier|zone)$");
    cli.run(&["create", "--log-opt", "env-regex=(", "busybox"]).fails(125, &["env-regex", "("]);
    cli.run(&["create", "--log-opt", "compress=some", "busybox"]).fails(125, &["compress=some"]);
    cli.run(&["create", "--log-opt", "compress=true", "--log-opt", "max-file=1", "busybox"])
        .fails(125, &["compress", "max-file"]);
    cli.run(&["create", "--log-opt", "compress=true", "--log-opt", "max-size=-1", "busybox"])
        .fails(125, &["compress", "max-size"]);
    cli.run(&["create", "--log-driver", "local", "--log-opt", "max-file=1", "busybox"])
        .fails(125, &["compress"]);
    cli.run(&["create", "--log-opt", "tag={{.Nope}}", "busybox"]).fails(125, &["tag", ".Nope"]);
    cli.run(&["create", "--log-driver", "syslog", "busybox"]).fails(125, &["syslog", "json-file"]);
    cli.run(&["create", "--log-opt", "max-file=0", "busybox"]).fails(125, &["max-file=0"]);
    cli.run(&["create", "--log-opt", "max-buffer-size=1m", "busybox"]).fails(125, &["mode=non-blocking"]);
    cli.finish();
}

#[test]
fn a_rotated_log_is_followed_to_its_end() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let options = ["--log-opt", "max-size=64k", "--log-opt", "max-file=200"];
    let run = [&["run", "-d", "--name", "many"][..], &options, &["busybox", "seq", "1", "30000"]].concat();
    cli.run(&run).ok();
    let followed = cli.run(&["logs", "-f", "many"]).ok();
    let expected: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
    assert!(followed == expected, "{} bytes of {}", followed.len(), expected.len());
    until("it has exited", || cli.inspect("many", "{{.State.Status}}") == "exited");
    assert_eq!(cli.run(&["logs", "--tail", "2", "many"]).ok(), "29999\n30000\n");
    cli.finish();
}

#[test]
fn compressed_files_are_read_like_others() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let options = ["--log-driver", "local", "--log-opt", "max-size=64k", "--log-opt", "max-file=20"];
    let script = "for i in $(seq 1 2000); do echo $i; done; sleep 0.3; for i in $(seq 2001 4000); do echo $i; done; sleep 600";
    cli.run(&[&["run", "-d", "--name", "small"][..], &options, &["busybox", "sh", "-c", script]].concat())
        .ok();
    assert_eq!(cli.inspect("small", "{{.HostConfig.LogConfig.Config.compress}}"), "true");
    let expected: String = (1..=4000).map(|n| format!("{n}\n")).collect();
    until("all of it is there", || cli.run(&["logs", "small"]).ok() == expected);
    let dir = cli.root().join("containers").join(cli.inspect("small", "{{.Id}}"));
    let full = || -> Vec<String> {
        let names =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("container-json.log.")).collect()
    };
    until("all full files are compressed", || full().iter().all(|name| name.ends_with(".gz")));
    assert!(full().len() > 2, "{:?}", full());
    assert_eq!(cli.run(&["logs", "small"]).ok(), expected);
    assert_eq!(cli.run(&["logs", "-n", "3", "small"]).ok(), "3998\n3999\n4000\n");
    let stamped = cli.run(&["logs", "-t", "small"]).ok();
    let time = |line: usize| stamped.lines().nth(line - 1).unwrap().split(' ').next().unwrap();
    let some = cli.run(&["logs", "--since", time(1000), "--until", time(2000), "small"]).ok();
    assert!(some.contains("\n1500\n") && some.ends_with("2000\n") && !some.contains("\n2001\n"), "{some}");
    cli.run(&["stop", "-t", "0", "small"]).ok();
    assert_eq!(cli.run(&["logs", "-f", "small"]).ok(), expected);
    cli.finish();
}
