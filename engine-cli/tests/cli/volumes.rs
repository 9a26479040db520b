//! Volumes and mounts as flags, `volume …`, `container prune`, `ps -s`: names, columns, filters, bad input.

use engine_testkit::{image::LayerBuilder, require};

use crate::support::Cli;

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn volumes_are_created_listed_filtered_and_inspected() {
    require!(root);
    let cli = Cli::empty();
    assert_eq!(cli.run(&["volume", "create", "-d", "local", "--label", "tier=web", "web"]).ok(), "web\n");
    assert_eq!(cli.run(&["volume", "create", "--label", "tier=web", "web"]).ok(), "web\n");
    let anonymous = cli.run(&["volume", "create"]).ok();
    assert_eq!(anonymous.trim().len(), 64);
    cli.run(&[
        "volume",
        "create",
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "-o",
        "o=size=1m",
        "memory",
    ])
    .ok();
    let table = cli.run(&["volume", "ls"]).ok();
    assert_eq!(lines(&table)[0], "DRIVER   VOLUME NAME");
    assert_eq!(lines(&table).len(), 4);
    let names = |filters: &[&str]| {
        let mut args = vec!["volume", "ls", "-q"];
        filters.iter().for_each(|filter| args.extend(["--filter", filter]));
        lines(&cli.run(&args).ok()).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["label=tier=web"]), ["web"]);
    assert_eq!(names(&["label=tier=db"]), [""; 0]);
    assert_eq!(names(&["label!=tier", "name=e"]).iter().filter(|name| name.len() < 64).count(), 1);
    assert_eq!(names(&["driver=nfs"]), [""; 0]);
    assert_eq!(names(&["driver=local", "name=mem", "name=we"]), ["memory", "web"]);
    assert_eq!(names(&["dangling=true"]).len(), 3);
    assert_eq!(names(&["dangling=0"]), [""; 0]);
    let format = "{{.Name}} {{.Label \"tier\"}} {{.Scope}} {{.Links}} {{.Size}}";
    let said = cli.run(&["volume", "ls", "--filter", "name=web", "--format", format]);
    assert_eq!(said.ok(), "web web local N/A N/A\n");
    let json = cli.run(&["volume", "inspect", "-s", "web", "memory"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json[0]["Name"], &json[0]["Driver"], &json[0]["Scope"]),
        (&"web".into(), &"local".into(), &"local".into())
    );
    assert_eq!((&json[0]["Labels"]["tier"], &json[0]["UsageData"]["Size"]), (&"web".into(), &0.into()));
    assert!(json[0]["Mountpoint"].as_str().unwrap().ends_with("volumes/web/_data"));
    assert!(json[0]["CreatedAt"].as_str().unwrap().starts_with("20"));
    assert_eq!((&json[1]["Options"]["o"], &json[1]["UsageData"]["Size"]), (&"size=1m".into(), &(-1).into()));
    for (args, words) in [
        (&["create", "--label", "tier=db", "web"][..], &["web", "other labels"][..]),
        (&["create", "-d", "nfs-plugin", "xx"], &["nfs-plugin", "local"]),
        (&["create", "-o", "size=1", "xx"], &["size", "type, device and o"]),
        (&["create", "-o", "type=nfs", "-o", "device=:/x", "xx"], &["addr"]),
        (&["create", "-o", "type=proc", "-o", "device=proc", "xx"], &["proc"]),
        (&["ls", "--filter", "bogus=1"], &["bogus"]),
        (&["ls", "--filter", "dangling=maybe"], &["maybe"]),
        (&["inspect", "nothing"], &["no such volume: nothing"]),
        (&["rm", "nothing"], &["no such volume: nothing"]),
    ] {
        let args: Vec<&str> = ["volume"].iter().chain(args).copied().collect();
        cli.run(&args).fails(1, words);
    }
    assert_eq!(cli.run(&["volume", "create", "../x"]).code, 125);
    assert_eq!(cli.run(&["volume", "rm", "-f", "nothing", "web"]).ok(), "nothing\nweb\n");
    assert_eq!(names(&["name=web"]), [""; 0]);
    cli.finish();
}

#[test]
fn volumes_in_use_are_kept_and_others_pruned() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "user", "-v", "used:/used", "-v", "/anonymous", "busybox", "sleep", "1000"]);
    cli.run(&["create", "--name", "idle", "--volumes-from", "user:ro", "-v", "held:/held", "busybox"]).ok();
    cli.run(&["volume", "rm", "used"])
        .fails(1, &["used", "user", "running", "idle", "created", "remove the container"]);
    cli.run(&["volume", "create", "free"]).ok();
    let left = cli.run(&["volume", "create"]).ok();
    // No answer is a no, and no failure.
    let said = cli.run(&["volume", "prune"]).ok();
    assert!(said.contains("anonymous local volumes") && said.contains("[y/N]"), "{said}");
    assert!(!cli.feed(&["volume", "prune"], b"no\n").ok().contains("reclaimed"));
    let said = cli.feed(&["volume", "prune"], b"y\n").ok();
    assert!(said.contains(&format!("Deleted Volumes:\n{left}\nTotal reclaimed space: 0B\n")), "{said}");
    assert_eq!(cli.run(&["volume", "prune", "-f"]).ok(), "Total reclaimed space: 0B\n");
    let said = cli.run(&["volume", "prune", "-a", "-f", "--filter", "label!=x"]).ok();
    assert_eq!(said, "Deleted Volumes:\nfree\n\nTotal reclaimed space: 0B\n");
    cli.run(&["volume", "prune", "--filter", "until=1h"]).fails(1, &["until"]);
    let kept = cli.run(&["volume", "ls", "-q", "--filter", "dangling=false"]).ok();
    assert_eq!(lines(&kept).len(), 3);
    assert_eq!(cli.inspect("idle", "{{index .HostConfig.VolumesFrom 0}} {{len .Mounts}}"), "user:ro 3");
    cli.run(&["rm", "-f", "-v", "user"]).ok();
    assert_eq!(lines(&cli.run(&["volume", "ls", "-q"]).ok()).len(), 3, "the other one uses them still");
    cli.run(&["rm", "idle"]).ok();
    assert_eq!(lines(&cli.run(&["volume", "prune", "-a", "-f"]).ok()).len(), 6);
    cli.finish();
}

#[test]
fn every_kind_of_mount_by_flag() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let host = cli.path("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "of the host\n").unwrap();
    let host = host.display().to_string();
    let inside = |flags: &[&str], script: &str| {
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "sh", "-c", script]).copied().collect();
        cli.run(&args).ok()
    };
    let bind = format!("type=bind,source={host},destination=/b,readonly,bind-propagation=rslave");
    assert_eq!(
        inside(&["--mount", &bind], "cat /b/file; touch /b/x 2>/dev/null || echo ro"),
        "of the host\nro\n"
    );
    let made = format!("{host}/made/here");
    inside(&["--mount", &format!("type=bind,src={made},dst=/b,bind-create-src")], "touch /b/x");
    assert!(std::path::Path::new(&made).join("x").exists());
    // The image's files come into a new volume, unless told otherwise.
    let volume = "type=volume,src=etc,dst=/etc,volume-label=a=b";
    assert!(inside(&["--mount", volume], "cat /etc/passwd").contains("root:x:0"));
    assert!(
        inside(&["--mount", "src=etc,dst=/mnt,ro,volume-subpath=passwd"], "cat /mnt").contains("root:x:0")
    );
    assert_eq!(cli.run(&["volume", "inspect", "-f", "{{.Labels.a}}", "etc"]).ok(), "b\n");
    assert_eq!(inside(&["-v", "bare:/etc:nocopy"], "ls /etc | grep -c passwd || true"), "0\n");
    let memory = "type=volume,src=memory,dst=/m,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=64k,mode=700\"";
    assert_eq!(
        inside(&["--mount", memory], "stat -c %a /m; df -k /m | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"),
        "700\n64\n"
    );
    assert_eq!(
        inside(&["--mount", "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=711"], "stat -c %a /m"),
        "711\n"
    );
    assert_eq!(inside(&["--tmpfs", "/m:size=64k,mode=1700,uid=3,exec"], "stat -c '%a %u' /m"), "1700 3\n");
    let image = "type=image,source=busybox,target=/i,image-subpath=etc";
    assert_eq!(
        inside(&["--mount", image], "grep -c root:x:0 /i/passwd; touch /i/x 2>/dev/null || echo ro"),
        "1\nro\n"
    );
    cli.run(&["create", "--name", "holds", "--mount", "type=image,src=busybox,dst=/i", "busybox"]).ok();
    assert_eq!(cli.inspect("holds", "{{range .Mounts}}{{.Type}} {{.Source}}{{end}}"), "image busybox");
    for (flags, words) in [
        (&["--mount", "type=image,src=nothing-here,dst=/i"][..], &["nothing-here", "pull it"][..]),
        (&["--mount", "src=etc,dst=/m,volume-subpath=no/such"], &["no/such", "does not exist"]),
        (&["--mount", "src=etc,dst=/m,volume-subpath=../x"], &["../x", "subpath"]),
        (&["--mount", "src=etc,dst=/m,volume-opt=type=tmpfs"], &["etc", "other options"]),
        (&["--mount", "type=bind,src=/etc,dst=/m,volume-subpath=x"], &["volume-subpath", "bind"]),
        (&["--volumes-from", "nobody"], &["nobody"]),
        (&["--volume-driver", "plugin", "-v", "xx:/x"], &["plugin"]),
        (&["-v", "aa:/x", "-v", "bb:/x"], &["/x", "same target"]),
        (&["-v", "/etc:/x:U"], &["U"]),
    ] {
        let args: Vec<&str> =
            ["run", "--rm"].iter().chain(flags).chain(&["busybox", "true"]).copied().collect();
        cli.run(&args).fails(125, words);
    }
    cli.finish();
}

#[test]
fn containers_are_measured_and_pruned() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&["--name", "runs", "busybox", "sleep", "1000"]);
    cli.run(&[
        "run",
        "--name",
        "wrote",
        "-l",
        "tier=web",
        "busybox",
        "sh",
        "-c",
        "head -c 5000 /dev/zero > /file",
    ])
    .ok();
    let made = cli.run(&["create", "--name", "made", "busybox"]).ok();
    let table = cli.run(&["ps", "-a", "-s"]).ok();
    assert!(lines(&table)[0].contains("NAMES ") && lines(&table)[0].ends_with("SIZE"), "{table}");
    let size = cli.run(&["ps", "-a", "--format", "{{.Names}} {{.Size}}"]).ok();
    assert!(size.contains("wrote 5kB (virtual ") && size.contains("made 0B (virtual "), "{size}");
    let said = cli.run(&["container", "inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "wrote"]).ok();
    let (own, whole) = said.trim().split_once(' ').unwrap();
    assert!(own == "5000" && whole.parse::<u64>().unwrap() > 100_000, "{said}");
    assert!(cli.run(&["container", "prune"]).ok().contains("all stopped containers"));
    cli.run(&["container", "prune", "-f", "--filter", "bogus=1"]).fails(1, &["bogus"]);
    cli.run(&["container", "prune", "-f", "--filter", "until=sometime"]).fails(1, &["sometime"]);
    let said = cli.run(&["container", "prune", "-f", "--filter", "until=24h"]).ok();
    assert_eq!(said, "Total reclaimed space: 0B\n");
    let said = cli.run(&["container", "prune", "-f", "--filter", "label!=tier"]).ok();
    assert_eq!(said, format!("Deleted Containers:\n{made}\nTotal reclaimed space: 0B\n"));
    let said = cli.run(&["container", "prune", "-f"]).ok();
    assert!(said.ends_with("Total reclaimed space: 5kB\n"), "{said}");
    assert_eq!(cli.run(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "runs\n");
    cli.finish();
}

#[test]
fn disk_usage_is_shown_and_reclaimed() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.start(&[
        "--name",
        "runs",
        "-v",
        "used:/used",
        "busybox",
        "sh",
        "-c",
        "head -c 3000 /dev/zero > /used/file; sleep 1000",
    ]);
    cli.run(&[
        "run",
        "--name",
        "ended",
        "-v",
        "/own",
        "busybox",
        "sh",
        "-c",
        "head -c 7000 /dev/zero > /file",
    ])
    .ok();
    cli.run(&["volume", "create", "free"]).ok();
    let spare = cli.path("spare.tar");
    std::fs::write(&spare, engine_testkit::image::LayerBuilder::new().file("x", 0o644, &[7; 9000]).build())
        .unwrap();
    cli.run(&["image", "import", spare.to_str().unwrap(), "spare"]).ok();
    crate::support::until("the container wrote", || {
        cli.run(&["exec", "runs", "cat", "/used/file"]).ok().len() == 3000
    });
    let table = cli.run(&["system", "df"]).ok();
    let words =
        |line: usize| table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(words(1)[..3], ["Images", "2", "1"]);
    assert_eq!(words(2), ["Containers", "2", "1", "7kB", "7kB", "(100%)"]);
    assert_eq!(words(3), ["Local", "Volumes", "3", "2", "3kB", "0B", "(0%)"]);
    assert_eq!(words(4), ["Build", "Cache", "0", "0", "0B", "0B"]);
    let json = cli.run(&["system", "df", "--format", "json"]).ok();
    let row: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&row["Type"], &row["TotalCount"]), (&"Images".into(), &"2".into()));
    assert_eq!(cli.run(&["system", "df", "--format", "{{.Type}}"]).ok().lines().last(), Some("Build Cache"));
    let verbose = cli.run(&["system", "df", "-v"]).ok();
    for word in [
        "Images space usage:",
        "SHARED SIZE",
        "spare",
        "Containers space usage:",
        "7kB",
        "Local Volumes space usage:",
        "VOLUME NAME",
        "Build cache usage: 0B",
    ] {
        assert!(verbose.contains(word), "{word:?} is not in\n{verbose}");
    }
    // No answer is a no.
    assert!(cli.run(&["system", "prune"]).ok().contains("all dangling images"));
    cli.run(&["system", "prune", "--volumes", "--filter", "until=1h"]).fails(1, &["until"]);
    cli.run(&["system", "prune", "--filter", "bogus=1"]).fails(1, &["bogus"]);
    let said = cli.run(&["system", "prune", "-f", "--filter", "label=nothing"]).ok();
    assert_eq!(said, "Total reclaimed space: 0B\n");
    let said = cli.run(&["system", "prune", "-f", "--volumes"]).ok();
    assert!(said.contains("Deleted Containers:") && said.contains("Deleted Volumes:"), "{said}");
    assert!(said.contains("Total reclaimed space: 7kB"), "{said}");
    let said = cli.run(&["system", "prune", "-a", "-f"]).ok();
    assert!(said.contains("untagged: spare:latest") && said.contains("deleted: sha256:"), "{said}");
    assert_eq!(cli.run(&["system", "prune", "-a", "-f", "--volumes"]).ok(), "Total reclaimed space: 0B\n");
    assert_eq!(cli.run(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "runs\n");
    assert_eq!(cli.run(&["volume", "ls", "-q"]).ok(), "free\nused\n");
    assert_eq!(cli.run(&["images", "--format", "{{.Repository}}"]).ok(), "busybox\n");
    cli.finish();
}

/// What an import puts into a volume stays in it (SECURITY C1), and is no device (C5).
#[test]
fn c1_c5_volumes_are_exported_and_imported() {
    require!(root);
    let cli = Cli::empty();
    cli.run(&["volume", "create", "from"]).ok();
    cli.run(&["volume", "create", "to"]).ok();
    let data = |name: &str| {
        std::path::PathBuf::from(
            cli.run(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).ok().trim(),
        )
    };
    let (from, to) = (data("from"), data("to"));
    std::fs::create_dir(from.join("dir")).unwrap();
    std::fs::write(from.join("dir/file"), "content").unwrap();
    std::fs::hard_link(from.join("dir/file"), from.join("hard")).unwrap();
    std::os::unix::fs::symlink("dir/file", from.join("soft")).unwrap();
    std::os::unix::fs::chown(from.join("dir/file"), Some(1234), Some(5678)).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("volume.tar");
    let archive = archive.to_str().unwrap();
    cli.run(&["volume", "export", "-o", archive, "from"]).ok();
    cli.run(&["volume", "import", "to", archive]).ok();
    use std::os::unix::fs::MetadataExt as _;
    let file = to.join("dir/file").metadata().unwrap();
    assert_eq!((file.uid(), file.gid(), file.nlink(), file.size()), (1234, 5678, 2, 7));
    assert_eq!(std::fs::read_link(to.join("soft")).unwrap(), std::path::Path::new("dir/file"));
    // Links of the archive and of the volume lead nowhere but into the volume.
    let outside = scratch.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let absolute = outside.to_str().unwrap();
    let hostile = LayerBuilder::new().symlink("out", absolute).file("out/escaped", 0o644, b"x").build();
    std::fs::write(archive, hostile).unwrap();
    let said = cli.run(&["volume", "import", "to", archive]);
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "{said:?}");
    std::fs::write(archive, LayerBuilder::new().char_device("null", 0o666, 1, 3).build()).unwrap();
    let said = cli.run(&["volume", "import", "to", archive]);
    assert!(!to.join("null").exists() && said.code != 0, "{said:?}");
    for (args, words) in [
        (&["volume", "export", "nothing"][..], "nothing"),
        (&["volume", "import", "nothing", archive], "nothing"),
        (&["volume", "import", "to", "/no/such/file"], "/no/such/file"),
    ] {
        let said = cli.run(args);
        assert!(said.code != 0 && said.err.contains(words), "{args:?}: {said:?}");
    }
    cli.run(&["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "memory"]).ok();
    let said = cli.run(&["volume", "export", "memory"]);
    assert!(said.code != 0 && said.err.contains("in containers only"), "{said:?}");
}

#[test]
fn volumes_are_renamed_unless_they_are_used() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["volume", "create", "--label", "tier=web", "old"]).ok();
    let write = ["run", "--rm", "-v", "old:/data", "busybox", "sh", "-c", "echo kept > /data/file"];
    cli.run(&write).ok();
    assert_eq!(cli.run(&["volume", "rename", "old", "new"]).ok(), "");
    assert_eq!(cli.run(&["volume", "ls", "-q", "--filter", "label=tier=web"]).ok(), "new\n");
    assert_eq!(cli.run(&["run", "--rm", "-v", "new:/data", "busybox", "cat", "/data/file"]).ok(), "kept\n");
    // Stopped containers use it too.
    cli.run(&["create", "--name", "user", "-v", "new:/data", "busybox", "true"]).ok();
    cli.run(&["volume", "rename", "new", "other"]).fails(1, &["container user", "uses it"]);
    cli.run(&["rm", "user"]).ok();
    cli.run(&["volume", "create", "taken"]).ok();
    for (args, word) in [
        (["new", "taken"], "there is a volume called taken"),
        (["new", "new"], "there is a volume called new"),
        (["none", "other"], "no such volume"),
        (["new", "../x"], "name"),
    ] {
        let said = cli.run(&["volume", "rename", args[0], args[1]]);
        assert!(said.code != 0 && said.err.contains(word), "{args:?}: {said:?}");
    }
    // Nobody prunes what has a name.
    let anonymous = cli.run(&["volume", "create"]).ok().trim().to_owned();
    cli.run(&["volume", "rename", &anonymous, "named"]).ok();
    cli.run(&["volume", "prune", "-f"]).ok();
    assert_eq!(cli.run(&["volume", "ls", "-q"]).ok(), "named\nnew\ntaken\n");
    let events = cli.run(&["events", "--since", "1", "--until", "0s", "--filter", "type=volume"]).ok();
    assert!(events.contains("volume rename new (driver=local, oldName=old)"), "{events}");
    cli.run(&["volume", "rm", "named", "new", "taken"]).ok();
    cli.finish();
}

#[test]
fn a9_a_tmpfs_gets_what_the_image_has_there_and_no_link_leads_out() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let outside = cli.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let link = outside.display().to_string();
    let up = format!("../../../../../..{link}");
    let layer = engine_testkit::image::busybox_layer()
        .dir("data", 0o755)
        .dir("data/deep", 0o755)
        .file("data/deep/file", 0o644, &vec![b'x'; 100_000])
        .owner(5, 6)
        .dir("data/own", 0o750)
        .file("data/own/suid", 0o4711, b"text")
        .owner(0, 0)
        .symlink("data/out", &link)
        .symlink("data/up", &up)
        .symlink("data/file", "deep/file")
        .fifo("data/fifo", 0o640)
        .char_device("data/null", 0o666, 1, 3)
        .symlink("leads-out", &up);
    let tar = cli.path("copied.tar");
    std::fs::write(&tar, layer.build()).unwrap();
    cli.run(&["image", "import", tar.to_str().unwrap(), "copied"]).ok();
    let run = |flags: &[&str], script: &str| {
        let all = [&["run", "--rm"][..], flags, &["copied", "sh", "-c", script]].concat();
        cli.run(&all)
    };
    let look = "stat -f -c %T /data; cd /data; ls | tr '\\n' ' '; wc -c < file; readlink out; readlink up; \
        stat -c %a:%u:%g own own/suid fifo; cat own/suid; cat out/secret 2>/dev/null; touch /data/x && echo written";
    let expected =
        format!("tmpfs\ndeep fifo file out own up 100000\n{link}\n{up}\n750:5:6\n4711:5:6\n640:0:0\ntext");
    let tmpfs = |options: &str| format!("/data:{options}");
    assert_eq!(run(&["--tmpfs", &tmpfs("tmpcopyup")], look).ok(), format!("{expected}written\n"));
    assert_eq!(run(&["--mount", "type=tmpfs,dst=/data,tmpcopyup,ro"], look).out, expected);
    assert_eq!(run(&["--tmpfs", &tmpfs("tmpcopyup,notmpcopyup")], "ls /data").ok(), "");
    assert_eq!(run(&["--tmpfs", "/new/dir:tmpcopyup"], "ls /new/dir").ok(), "");
    if engine_testkit::Requirement::ShiftedLayers.is_met() {
        let flags = ["--userns", "auto", "--mount", "type=tmpfs,dst=/data,tmpcopyup,ro"];
        assert_eq!(run(&flags, look).out, expected);
    }
    // A target that leads out is the root's own directory of that name: there is nothing in it.
    assert_eq!(run(&["--tmpfs", "/leads-out:tmpcopyup"], "ls /leads-out; touch /leads-out/x").ok(), "");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    run(&["--tmpfs", &tmpfs("tmpcopyup,size=16k")], "true").fails(125, &["/data"]);
    run(&["--mount", "type=bind,src=/tmp,dst=/data,tmpcopyup"], "true").fails(125, &["tmpcopyup"]);
    // Each run begins with it anew.
    let script = "ls /data/own; rm /data/own/suid; test -e /twice && exec sleep 1000; touch /twice; exit 1";
    let flags = ["--name", "again", "--restart", "always", "--tmpfs", "/data:tmpcopyup"];
    cli.start(&[&flags[..], &["copied", "sh", "-c", script]].concat());
    crate::support::until("two runs", || cli.run(&["logs", "again"]).ok() == "suid\nsuid\n");
    cli.finish();
}
