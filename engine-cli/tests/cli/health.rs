//! Health checks, which nothing carries out but the shim: no command of ours runs meanwhile.

use engine_testkit::require;

use crate::support::{Cli, until};

#[test]
fn a_health_changes_with_no_program_alive_but_the_shim() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.start(&[
        "--name",
        "checked",
        "--health-cmd",
        "cat /fine",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
        "busybox",
        "sh",
        "-c",
        "echo all is well > /fine; exec sleep 1000",
    ]);
    // The state file is the shim's; nothing of ours runs until it says so.
    let state = cli.root().join("containers").join(&id).join("state");
    let says = |line: &str| std::fs::read_to_string(&state).is_ok_and(|text| text.lines().any(|l| l == line));
    until("healthy", || says("health 1 0"));
    assert!(cli.run(&["ps"]).ok().contains(" (healthy)"));
    cli.run(&["exec", "checked", "rm", "/fine"]).ok();
    until("unhealthy", || says("health 2 2") || says("health 2 3"));
    assert_eq!(cli.inspect("checked", "{{.State.Health.Status}}"), "unhealthy");
    let log = cli.inspect("checked", "{{json .State.Health.Log}}");
    assert!(log.contains("can't open '/fine'") && log.contains("\"ExitCode\":1"), "{log}");
    assert!(log.contains("\"Start\":\"20") && log.contains("\"End\":\"20"), "{log}");
    let format = "{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}} {{.Config.Healthcheck.Timeout}}";
    assert_eq!(cli.inspect("checked", format), "[\"CMD-SHELL\",\"cat /fine\"] 100000000 2 30000000000");
    let events = cli.run(&["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"]).ok();
    let told: Vec<&str> = events.lines().filter(|line| line.starts_with("health_status")).collect();
    assert_eq!(told, ["health_status: healthy", "health_status: unhealthy"]);
    cli.run(&["pause", "checked"]).ok();
    assert!(cli.run(&["ps"]).ok().contains(" (Paused)"));
    cli.finish();
}

#[test]
fn ps_shows_and_filters_by_health() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let check = |name: &str, command: &str, retries: &str| {
        cli.start(&[
            "--name",
            name,
            "--health-cmd",
            command,
            "--health-interval",
            "50ms",
            "--health-retries",
            retries,
            "busybox",
            "sleep",
            "1000",
        ]);
    };
    check("good", "true", "1");
    check("bad", "exit 3", "1");
    check("young", "exit 3", "1000000");
    cli.start(&["--name", "plain", "busybox", "sleep", "1000"]);
    let names = |health: &str| {
        cli.run(&["ps", "--filter", &format!("health={health}"), "--format", "{{.Names}}: {{.Status}}"]).ok()
    };
    for (health, name, words) in [
        ("healthy", "good", " (healthy)"),
        ("unhealthy", "bad", " (unhealthy)"),
        ("starting", "young", " (health: starting)"),
    ] {
        until(health, || names(health).starts_with(&format!("{name}: Up ")));
        let line = names(health);
        assert!(line.trim_end().ends_with(words) && line.lines().count() == 1, "{line}");
    }
    assert!(names("none").starts_with("plain: Up ") && !names("none").contains('('));
    cli.run(&["ps", "--filter", "health=fine"]).fails(1, &["there is no such health"]);
    cli.finish();
}

#[test]
fn an_unhealthy_container_is_dealt_with() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let start = |name: &str, action: &str| {
        cli.start(&[
            "--name",
            name,
            "--health-cmd",
            "false",
            "--health-interval",
            "50ms",
            "--health-retries",
            "1",
            "--health-on-failure",
            action,
            "--stop-timeout",
            "0",
            "busybox",
            "sleep",
            "1000",
        ]);
    };
    for action in ["kill", "stop"] {
        start(action, action);
        until(action, || cli.inspect(action, "{{.State.Status}} {{.State.ExitCode}}") == "exited 137");
    }
    start("restart", "restart");
    until("restarted", || cli.inspect("restart", "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
    start("none", "none");
    until("unhealthy", || {
        cli.inspect("none", "{{.State.Status}} {{.State.Health.Status}}") == "running unhealthy"
    });
    cli.finish();
}

#[test]
fn checks_of_images_and_of_sockets_and_what_is_refused() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["create", "--name", "http", "--health-http", ":8080/healthz", "busybox"]).ok();
    let test = |name: &str| cli.inspect(name, "{{json .Config.Healthcheck.Test}}");
    assert_eq!(test("http"), "[\"HTTP\",\"http://127.0.0.1:8080/healthz\"]");
    cli.run(&["create", "--name", "tcp", "--health-tcp", "8080", "busybox"]).ok();
    assert_eq!(test("tcp"), "[\"TCP\",\"127.0.0.1:8080\"]");
    cli.run(&["create", "--name", "no", "--no-healthcheck", "busybox"]).ok();
    assert_eq!(test("no"), "[\"NONE\"]");
    for (flags, words) in [
        (
            &["--no-healthcheck", "--health-retries", "2"][..],
            "--no-healthcheck conflicts with --health-* options",
        ),
        (&["--health-cmd", "x", "--health-interval", "1us"], "cannot be less than 1ms"),
        (&["--health-cmd", "x", "--health-retries", "-1"], "cannot be negative"),
        (&["--health-cmd", "x", "--health-interval", "soon"], "soon"),
        (&["--health-cmd", "x", "--health-tcp", "80"], "cannot be used with"),
        (&["--health-tcp", "example.com:80"], "not an address"),
        (&["--health-http", "https://127.0.0.1/"], "not a URL"),
        (&["--health-cmd", "x", "--health-on-failure", "panic"], "panic"),
    ] {
        let args: Vec<&str> = ["create"].iter().chain(flags).chain(&["busybox"]).copied().collect();
        let said = cli.run(&args);
        assert!(said.code == 125 && said.err.contains(words), "{flags:?}: {said:?}");
    }
    cli.finish();
}
