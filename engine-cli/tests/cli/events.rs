//! `events`.

use std::io::{BufRead as _, BufReader};

use engine_testkit::require;
use serde_json::Value;

use crate::support::Cli;

/// The actions of the events so far that pass `args`.
fn told(cli: &Cli, args: &[&str]) -> Vec<String> {
    let all: Vec<&str> = ["events", "--since", "0", "--until", "0s", "--format", "{{.Type}} {{.Action}}"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    cli.run(&all).ok().lines().map(str::to_owned).collect()
}

#[test]
fn events_are_replayed_and_filtered() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    cli.run(&["run", "--rm", "--name", "one", "--label", "tier=front", "busybox", "sh", "-c", "exit 3"]);
    cli.run(&["volume", "create", "data"]).ok();
    let whole = [
        "image import",
        "container create",
        "network connect",
        "container start",
        "container die",
        "network disconnect",
        "container destroy",
        "volume create",
    ];
    let all = told(&cli, &[]);
    let known: Vec<&String> = all.iter().filter(|line| !line.ends_with("attach")).collect();
    assert_eq!(known, whole);
    assert_eq!(told(&cli, &["-f", "container=one", "-f", "event=die"]), [whole[4]]);
    assert_eq!(told(&cli, &["-f", "event=start", "-f", "event=die"]), whole[3..5]);
    assert_eq!(told(&cli, &["-f", "type=volume"]), [whole[7]]);
    assert_eq!(told(&cli, &["-f", "volume=data"]), [whole[7]]);
    assert_eq!(told(&cli, &["-f", "type=network"]), [whole[2], whole[5]]);
    assert_eq!(told(&cli, &["-f", "network=bridge", "-f", "event=connect"]), [whole[2]]);
    assert_eq!(told(&cli, &["-f", "label=tier=front"]).len(), all.len() - 4);
    assert_eq!(told(&cli, &["-f", "label=tier=back"]).len(), 0);
    assert_eq!(told(&cli, &["-f", "image=busybox", "-f", "event=create"]), [whole[1]]);
    assert_eq!(told(&cli, &["-f", "scope=swarm"]).len(), 0);
    // The line in Docker's form.
    let die = cli.run(&["system", "events", "--since", "0", "--until", "0s", "-f", "event=die"]).ok();
    let (time, rest) = die.split_once(" container die ").unwrap();
    assert_eq!(time.len(), "2026-11-23T22:13:38.000000001Z".len());
    assert!(rest.ends_with("(execDuration=0, exitCode=3, image=busybox, name=one, tier=front)\n"), "{die}");
    let json =
        cli.run(&["events", "--since", "0", "--until", "0s", "-f", "event=die", "--format", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Type"], &json["Action"]), (&"container".into(), &"die".into()));
    assert_eq!(json["Actor"]["Attributes"]["exitCode"], "3");
    assert!(json["timeNano"].is_u64());
    cli.run(&["volume", "rm", "data"]).ok();
    cli.finish_clean();
}

#[test]
fn events_follow_other_programs() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    let mut follower = cli.spawn(
        cli.command(&["events", "--format", "{{.Action}}", "-f", "type=container"]).args(["--since", "0"]),
    );
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    cli.run(&["run", "--rm", "busybox", "true"]).ok();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|line| line != "destroy") {
        seen.push(lines.next().unwrap().unwrap());
    }
    seen.retain(|line| line != "attach");
    assert_eq!(seen, ["create", "start", "die", "destroy"]);
    follower.kill().unwrap();
    follower.wait().unwrap();
    cli.finish_clean();
}

#[test]
fn each_command_tells_what_it_did() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    cli.start(&["--name", "one", "-v", "data:/data", "busybox", "sleep", "600"]);
    let mut seen = told(&cli, &[]).len();
    let mut next = |args: &[&str], expected: &[&str]| {
        cli.run(args).ok();
        let all = told(&cli, &[]);
        assert_eq!(all[seen..], *expected, "{args:?}");
        seen = all.len();
    };
    std::fs::write(cli.path("file"), "x").unwrap();
    let (file, archive) = (cli.path("file").display().to_string(), cli.path("a.tar").display().to_string());
    let restart = [
        "container kill",
        "container kill",
        "container die",
        "network disconnect",
        "volume unmount",
        "container stop",
        "network connect",
        "volume mount",
        "container start",
        "container restart",
    ];
    next(&["top", "one"], &["container top"]);
    next(&["restart", "-t", "0", "one"], &restart);
    next(&["cp", &file, "one:/"], &["container extract-to-dir"]);
    next(&["cp", "one:/file", &archive], &["container archive-path"]);
    next(&["export", "-o", &archive, "one"], &["container export"]);
    next(&["commit", "-m", "why", "one", "made:1"], &["container commit"]);
    next(&["rename", "one", "two"], &["container rename"]);
    next(&["update", "--pids-limit", "60", "two"], &["container update"]);
    next(&["save", "-o", &archive, "made:1"], &["image save"]);
    next(
        &["stop", "-t", "0", "two"],
        &[
            "container kill",
            "container kill",
            "container die",
            "network disconnect",
            "volume unmount",
            "container stop",
        ],
    );
    next(&["container", "prune", "-f"], &["container destroy", "container prune"]);
    next(&["volume", "prune", "-f"], &["volume prune"]);
    next(&["volume", "prune", "-a", "-f"], &["volume destroy", "volume prune"]);
    next(&["rmi", "made:1"], &["image untag", "image delete"]);
    next(&["load", "-i", &archive], &["image load"]);
    next(
        &["image", "prune", "-a", "-f"],
        &["image untag", "image untag", "image delete", "image delete", "image prune"],
    );
    let attribute = |event: &str, key: &str| {
        let format = format!("{{{{index .Actor.Attributes {key:?}}}}}");
        let filter = format!("event={event}");
        cli.run(&["events", "--since", "0", "--until", "0s", "-f", &filter, "--format", &format]).ok()
    };
    assert_eq!(attribute("rename", "oldName"), "/one\n");
    assert_eq!(attribute("commit", "imageRef"), "made:1\n");
    assert_eq!(attribute("commit", "comment"), "why\n");
    assert_eq!(attribute("kill", "signal").lines().next(), Some("15"));
    let reclaimed: Vec<u64> =
        attribute("prune", "reclaimed").lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        reclaimed.len() == 4 && reclaimed[0] > 0 && reclaimed[1] == 0 && reclaimed[3] > 0,
        "{reclaimed:?}"
    );
    cli.finish_clean();
}

#[test]
fn bad_questions_about_events_are_refused() {
    let cli = Cli::empty();
    cli.run(&["events", "-f", "color=red"]).fails(1, &["invalid filter", "color"]);
    cli.run(&["events", "-f", "type"]).fails(1, &["invalid filter", "KEY=VALUE"]);
    cli.run(&["events", "--since", "yesterday"]).fails(1, &["yesterday"]);
    cli.run(&["events", "--format", "{{.Nope"]).fails(1, &[]);
}
