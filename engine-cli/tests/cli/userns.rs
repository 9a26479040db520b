//! `--userns`, `--uidmap` and what a container in a user namespace shares with others.

use engine_testkit::require;

use crate::support::Cli;

/// Whether overlayfs takes layers seen through id maps; elsewhere the refusal is what is tested.
fn shifts() -> bool {
    engine_testkit::Requirement::ShiftedLayers.is_met()
}

#[test]
fn containers_have_ranges_of_their_own() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let cli = Cli::new();
    let first = |name: &str| {
        let map = cli.run(&["exec", name, "cat", "/proc/self/uid_map"]).ok();
        let fields: Vec<u32> = map.split_whitespace().map(|field| field.parse().unwrap()).collect();
        assert_eq!((fields[0], fields.len()), (0, 3), "{map}");
        (fields[1], fields[2])
    };
    cli.start(&["--name", "na", "--userns", "auto", "-v", "data:/data", "busybox", "sleep", "1000"]);
    cli.start(&[
        "--name",
        "nb",
        "--userns",
        "auto:size=1000",
        "-v",
        "data:/data",
        "busybox",
        "sleep",
        "1000",
    ]);
    let (a, b) = (first("na"), first("nb"));
    assert_eq!((a.1, b.1), (65_536, 1000));
    assert!(a.0 + a.1 <= b.0 || b.0 + b.1 <= a.0, "{a:?} and {b:?} overlap");
    // A volume is the same for both.
    cli.run(&["exec", "na", "sh", "-c", "echo hello > /data/file && chmod 600 /data/file"]).ok();
    assert_eq!(
        cli.run(&["exec", "nb", "sh", "-c", "cat /data/file; stat -c %u /data/file"]).ok(),
        "hello\n0\n"
    );
    // The same range at the next start, and what was written is still root's.
    cli.run(&["exec", "na", "touch", "/root/mine"]).ok();
    cli.run(&["stop", "-t", "0", "na"]).ok();
    cli.run(&["start", "na"]).ok();
    assert_eq!(first("na"), a);
    assert_eq!(cli.run(&["exec", "na", "stat", "-c", "%u", "/root/mine"]).ok(), "0\n");
    // A third joins the second's namespaces; the host's and those of others are out of reach.
    let share =
        ["run", "--rm", "--userns", "container:nb", "--network", "container:nb", "--pid", "container:nb"];
    let inside = cli.run(
        &[&share[..], &["busybox", "sh", "-c", "cat /proc/self/uid_map; touch /x && stat -c %u /x"]].concat(),
    );
    let said = inside.ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", &b.0.to_string(), "1000", "0"]);
    cli.run(&["run", "--rm", "--userns", "auto", "--network", "container:nb", "busybox", "true"])
        .fails(125, &["same user namespace"]);
    // A range is free again once its container is removed.
    cli.run(&["rm", "-f", "na"]).ok();
    cli.start(&["--name", "nc", "--userns", "auto", "busybox", "sleep", "1000"]);
    assert_eq!(first("nc"), a);
    cli.finish();
}

#[test]
fn explicit_maps_and_what_they_exclude() {
    require!(root, overlayfs, user_namespaces);
    let mut cli = Cli::new();
    let run = |flags: &[&str], script: &str| {
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", script]).copied().collect();
        cli.run(&args)
    };
    if !shifts() {
        run(&["--userns", "auto"], "true").fails(125, &["6.15"]);
    } else {
        let maps = ["--uidmap", "0:400000:1000", "--uidmap", "1000:500000:10", "--gidmap", "0:600000:2000"];
        let said = run(&maps, "cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /bin/busybox").ok();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words, ["0", "400000", "1000", "1000", "500000", "10", "0", "600000", "2000", "0:0"]);
        let user = run(
            &["--uidmap", "0:400000:2000", "-u", "worker"],
            "id -u; cat /proc/sys/net/ipv4/ping_group_range",
        );
        assert_eq!(user.ok(), "1000\n0\t1999\n");
        let shared = cli.path("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::write(shared.join("file"), "").unwrap();
        let bind = |options: &str| format!("{}:/shared{options}", shared.display());
        let look = "stat -c %u /shared/file";
        assert_eq!(run(&["--userns", "auto", "-v", &bind("")], look).ok(), "65534\n");
        assert_eq!(run(&["--userns", "auto", "-v", &bind(":idmap")], look).ok(), "0\n");
    }
    for (flags, word) in [
        (&["--userns", "keep-id"][..], "--userns"),
        (&["--userns", "auto", "--privileged"], "privileged"),
        (&["--userns", "auto", "--network", "host"], "network"),
        (&["--userns", "auto", "--pid", "host"], "processes"),
        (&["--uidmap", "1:400000:1000"], "from 0 on"),
        (&["--uidmap", "0:400000:1000", "--uidmap", "500:1:10"], "overlap"),
        (&["--uidmap", "0:4294967295:10"], "beyond"),
        (&["--uidmap", "x"], "id map"),
        (&["--userns", "auto:size=4000000000"], "free"),
        (&["--userns", "container:nobody"], "nobody"),
        (&["-v", "/tmp:/shared:idmap"], "user namespace"),
    ] {
        run(flags, "true").fails(125, &[word]);
    }
    cli.finish_clean();
}

#[test]
fn a_whole_engine_is_remapped() {
    require!(root, overlayfs, user_namespaces);
    let cli = Cli::new();
    cli.run(&["--userns-remap", "nobody-has-this", "ps"])
        .fails(1, &["/etc/subuid", "nobody-has-this:100000:65536"]);
    cli.run(&["--userns-remap", ":", "ps"]).fails(1, &["USER[:GROUP]"]);
    // Files of the test's own in place of the host's, for the program alone.
    let (users, groups) = (cli.path("subuid"), cli.path("subgid"));
    std::fs::write(&users, "dockremap:200000:1000\n0:500000:1000\n").unwrap();
    std::fs::write(&groups, "dockremap:300000:1000\nroot:600000:1000\n").unwrap();
    let script =
        "mount --bind \"$1\" /etc/subuid && mount --bind \"$2\" /etc/subgid && shift 2 && exec \"$@\"";
    let run = |args: &[&str]| -> crate::support::Said {
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).args([&users, &groups]);
        let inner = cli.command(args);
        command.arg(inner.get_program()).args(inner.get_args()).output().unwrap().into()
    };
    let look = ["run", "--rm", "busybox", "cat", "/proc/self/uid_map", "/proc/self/gid_map"];
    let with = |owner: &str, flags: &[&str]| {
        let mut args = vec!["--userns-remap", owner];
        args.extend(&look[..2]);
        args.extend(flags);
        args.extend(&look[2..]);
        run(&args)
    };
    let words =
        |said: crate::support::Said| said.ok().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(with("default", &["--userns", "host", "--privileged"]))[1], "0");
    // It is shown as Docker shows it, also without a default to opt out of.
    cli.run(&["create", "--name", "nh", "--userns", "host", "busybox"]).ok();
    cli.run(&["create", "--name", "nn", "busybox"]).ok();
    assert_eq!(cli.inspect("nh", "{{.HostConfig.UsernsMode}}"), "host");
    assert_eq!(cli.inspect("nn", "{{.HostConfig.UsernsMode}}"), "");
    with("default", &["--privileged"]).fails(125, &["privileged", "--userns=host"]);
    with("default", &["--network", "host"]).fails(125, &["network"]);
    with("default:nobody-has-this", &[]).fails(125, &["/etc/subuid", "default"]);
    if !shifts() {
        with("default", &[]).fails(125, &["6.15"]);
        return cli.finish();
    }
    assert_eq!(words(with("default", &[])), ["0", "200000", "1000", "0", "300000", "1000"]);
    // By name or by number, there and here.
    assert_eq!(words(with("root", &[])), ["0", "500000", "1000", "0", "600000", "1000"]);
    assert_eq!(words(with("0:0", &[])), ["0", "500000", "1000", "0", "600000", "1000"]);
    cli.finish();
}
