//! `ps`, `images`, `inspect`, `info`, `version`, `completion`: columns, filters, formats.

use engine_testkit::require;

use crate::support::Cli;

#[test]
fn ps_has_dockers_columns_filters_and_formats() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.start(&["--name", "runs", "-l", "tier=web", "busybox", "sleep", "1000"]);
    cli.run(&["run", "--name", "done", "busybox", "sh", "-c", "exit 3"]);
    cli.run(&["create", "--name", "made", "busybox"]).ok();
    let table = cli.run(&["ps"]).ok();
    let mut lines = table.lines();
    let heading: Vec<&str> =
        lines.next().unwrap().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(heading, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    let row = lines.next().unwrap();
    assert!(
        row.starts_with(&id[..12])
            && row.contains("\"sleep 1000\"")
            && row.contains("Up ")
            && row.ends_with("runs")
    );
    assert_eq!(lines.next(), None);
    let all = cli.run(&["ps", "-a"]).ok();
    assert!(all.contains("Exited (3) ") && all.contains(" ago") && all.contains("Created"), "{all}");
    let names = |args: &[&str]| {
        let args: Vec<&str> = ["ps", "--format", "{{.Names}}"].iter().chain(args).copied().collect();
        cli.run(&args).ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["-a"]), ["made", "done", "runs"]);
    assert_eq!(names(&["--filter", "status=exited"]), ["done"]);
    assert_eq!(names(&["-a", "--filter", "exited=3"]), ["done"]);
    assert_eq!(names(&["-a", "--filter", "label=tier=web"]), ["runs"]);
    assert_eq!(names(&["-a", "--filter", "ancestor=busybox", "--filter", "name=ma"]), ["made"]);
    assert_eq!(names(&["-a", "--filter", "before=made", "--filter", "since=runs"]), ["done"]);
    assert_eq!(names(&["-n", "2"]), ["made", "done"]);
    assert_eq!(names(&["-l"]), ["made"]);
    assert_eq!(cli.run(&["ps", "-q", "--no-trunc"]).ok().trim(), id);
    assert_eq!(
        cli.run(&["container", "ls", "--format", "{{.Label \"tier\"}} {{.State}}"]).ok(),
        "web running\n"
    );
    let json = cli.run(&["ps", "--format", "json"]).ok();
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&row["Names"], &row["State"]), (&"runs".into(), &"running".into()));
    assert!(
        cli.run(&["ps", "--format", "table {{.ID}}\t{{.Names}}"]).ok().starts_with("CONTAINER ID   NAMES\n")
    );
    cli.run(&["ps", "--filter", "bogus=1"]).fails(1, &["bogus"]);
    cli.run(&["ps", "--format", "{{.Bogus}}"]).fails(1, &["Bogus"]);
    cli.finish();
}

#[test]
fn images_are_listed_tagged_and_removed() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["tag", "busybox", "localhost:5000/team/app:1.0"]).ok();
    let table = cli.run(&["images"]).ok();
    let heading: Vec<&str> =
        table.lines().next().unwrap().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(heading, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert!(
        table.contains("localhost:5000/team/app   1.0") && table.contains("busybox                   latest"),
        "{table}"
    );
    assert!(table.contains("second") && table.contains("MB"), "{table}");
    assert_eq!(
        cli.run(&["images", "busybox", "--format", "{{.Repository}}:{{.Tag}}"]).ok(),
        "busybox:latest\n"
    );
    assert_eq!(cli.run(&["images", "--filter", "reference=*/team/*", "-q"]).ok().lines().count(), 1);
    let id = cli.run(&["images", "-q", "--no-trunc", "busybox"]).ok();
    assert_eq!(
        cli.run(&["image", "inspect", "busybox", "--format", "{{.Id}} {{index .RepoTags 0}}"]).ok(),
        format!("{} busybox:latest\n", id.trim())
    );
    cli.run(&["create", "--name", "user", "busybox"]).ok();
    cli.run(&["rmi", id.trim()]).fails(1, &["several names"]);
    assert_eq!(
        cli.run(&["rmi", "localhost:5000/team/app:1.0"]).ok(),
        "Untagged: localhost:5000/team/app:1.0\n"
    );
    cli.run(&["image", "rm", "busybox"]).fails(1, &["uses it", "remove the container first"]);
    cli.run(&["rm", "user"]).ok();
    let removed = cli.run(&["rmi", id[7..19].trim()]).ok();
    assert!(
        removed.contains("Untagged: busybox:latest\n") && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    assert_eq!(cli.run(&["images", "-q"]).ok(), "");
    cli.run(&["tag", "busybox", "x"]).fails(1, &["busybox", "no such image"]);
    cli.finish();
}

#[test]
fn inspect_has_dockers_shape() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let args = [
        "--name",
        "shape",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-m",
        "32m",
        "-v",
        "/etc:/host-etc:ro",
        "--cap-add",
        "NET_ADMIN",
        "busybox",
        "sleep",
        "100",
    ];
    let id = cli.start(&args);
    let all: serde_json::Value = serde_json::from_str(&cli.run(&["inspect", "shape"]).ok()).unwrap();
    let one = &all[0];
    assert_eq!(one["Id"], id);
    assert_eq!(one["Name"], "/shape");
    assert_eq!(one["State"]["Running"], true);
    assert!(one["State"]["Pid"].as_u64().unwrap() > 1);
    assert_eq!(one["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    assert_eq!((&one["Path"], &one["Args"][0]), (&"sleep".into(), &"100".into()));
    assert_eq!((&one["Config"]["Env"][0], &one["Config"]["WorkingDir"]), (&"A=1".into(), &"/tmp".into()));
    assert_eq!(one["HostConfig"]["Memory"], 32 << 20);
    assert_eq!(one["HostConfig"]["CapAdd"][0], "NET_ADMIN");
    assert_eq!(one["HostConfig"]["Binds"][0], "/etc:/host-etc:ro");
    assert_eq!((&one["Mounts"][0]["Type"], &one["Mounts"][0]["RW"]), (&"bind".into(), &false.into()));
    assert_eq!(
        cli.inspect("shape", "{{range .Mounts}}{{.Destination}}{{end}} {{json .State.Paused}}"),
        "/host-etc false"
    );
    cli.run(&["inspect", "nothing"]).fails(1, &["no such object: nothing"]);
    cli.run(&["inspect", "--type", "image", "shape"]).fails(1, &["shape"]);
    cli.finish();
}

#[test]
fn volumes_outlive_containers() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file"]).ok();
    assert_eq!(
        cli.run(&["run", "--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/file"]).ok(),
        "kept\n"
    );
    assert_eq!(cli.run(&["volume", "ls", "-q"]).ok(), "data\n");
    assert!(
        cli.run(&["volume", "inspect", "data", "--format", "{{.Mountpoint}}"]).ok().contains("volumes/data")
    );
    cli.run(&["create", "--name", "user", "-v", "data:/data", "busybox"]).ok();
    cli.run(&["volume", "rm", "data"]).fails(1, &["uses it"]);
    cli.run(&["rm", "user"]).ok();
    cli.run(&["volume", "rm", "data"]).ok();
    cli.run(&["volume", "rm", "data"]).fails(1, &["no such volume: data"]);
    // Anonymous ones go with --rm.
    cli.run(&["run", "--rm", "-v", "/data", "busybox", "true"]).ok();
    assert_eq!(cli.run(&["volume", "ls", "-q"]).ok(), "");
    cli.finish();
}

#[test]
fn info_version_and_completions() {
    require!(root);
    let cli = Cli::empty();
    let info = cli.run(&["info"]).ok();
    for word in ["Root: ", "Containers: 0", "overlayfs: ", "cgroups: ", "seccomp: "] {
        assert!(info.contains(word), "{word:?} is not in\n{info}");
    }
    assert_eq!(cli.run(&["system", "info", "--format", "{{.Containers}} {{.OSType}}"]).ok(), "0 linux\n");
    assert_eq!(
        cli.run(&["version", "--format", "{{.Server.Version}}"]).ok().trim(),
        env!("CARGO_PKG_VERSION")
    );
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef engine-cli"), ("fish", "complete -c engine-cli")]
    {
        assert!(cli.run(&["completion", shell]).ok().contains(word), "{shell}");
    }
    assert_eq!(cli.run(&["completion", "tcsh"]).code, 125);
    assert!(cli.run(&["--help"]).ok().contains("Usage: engine-cli"));
    assert!(cli.run(&["run", "--help"]).ok().contains("--cap-drop"));
    cli.finish();
}

#[test]
fn a_reader_that_goes_is_no_error() {
    require!(root);
    let cli = Cli::empty();
    let mut child = cli.spawn(&mut cli.command(&["completion", "bash"]));
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(141), &b""[..]));
    cli.finish();
}
