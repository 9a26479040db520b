//! `save`, `load`, `import`, `history`, `image prune`, filters of `images`, `artifact`, whole repositories.

use std::fs;

use engine_testkit::{Registry, RegistryMode, command, image, require};

use crate::support::Cli;

#[test]
fn digests_survive_pull_save_load_and_push() {
    require!(root, overlayfs, "docker-registry", "skopeo");
    let registry = Registry::start(RegistryMode::Plain);
    let name = registry.push(&image::busybox_multi_platform(), "team/app", "1");
    let raw = |name: &str| {
        command("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
    };
    let (mut from, mut to) = (Cli::empty(), Cli::empty());
    from.run(&["pull", "-q", "--all-platforms", &name]).ok();
    let archive = from.path("app.tar").display().to_string();
    from.run(&["save", "-o", &archive, &name]).ok();
    assert_eq!(to.run(&["load", "-i", &archive]).ok(), format!("Loaded image: {name}\n"));
    assert_eq!(
        to.run(&["run", "--rm", &name, "cat", "/platform"]).ok(),
        from.run(&["run", "--rm", &name]).ok()
    );
    let copy = format!("{}/other/app:1", registry.host());
    to.run(&["tag", &name, &copy]).ok();
    to.run(&["push", "-q", &copy]).ok();
    assert_eq!(raw(&copy), raw(&name));
    // Through pipes, compressed, and as the other formats.
    let piped = fs::read(&archive).unwrap();
    let saved = from.command(&["save", &name]).output().unwrap();
    assert!(saved.status.success() && saved.stdout == piped);
    for (format, path) in [("oci-archive", "oci.tar"), ("oci-dir", "oci")] {
        let path = from.path(path).display().to_string();
        from.run(&["image", "save", "--format", format, "-o", &path, &name]).ok();
        assert_eq!(to.run(&["image", "load", "-q", "-i", &path]).ok(), format!("Loaded image: {name}\n"));
    }
    to.run(&["rmi", &name, &copy]).ok();
    assert_eq!(to.feed(&["load"], &piped).ok(), format!("Loaded image: {name}\n"));
    let one = from.path("one.tar").display().to_string();
    from.run(&["save", "--platform", "linux/s390x", "-o", &one, &name]).ok();
    to.run(&["load", "-q", "-i", &one]).ok();
    assert_eq!(
        to.run(&["image", "inspect", "--format", "{{.Architecture}}", "--platform", "linux/s390x", &name])
            .ok(),
        "s390x\n"
    );
    to.run(&["image", "inspect", "--platform", "linux/arm64", &name]).fails(1, &["s390x"]);
    // What is of one platform can go alone, as in Docker only by force: it goes from every image that has it.
    let sizes = || {
        let tree = from.run(&["images", "--tree"]).ok();
        let of = |platform: &str| {
            let line = tree.lines().find(|line| line.contains(platform)).unwrap().split_whitespace();
            line.last().unwrap().to_owned()
        };
        (of("linux/s390x"), of("linux/arm64"))
    };
    let whole = sizes();
    from.run(&["rmi", "--platform", "linux/s390x", &name]).fails(125, &["--force"]);
    from.run(&["rmi", "-f", "--platform", "linux/none/such/one", &name]).fails(125, &["linux/none/such/one"]);
    from.run(&["rmi", "-f", "--platform", "linux/sparc", &name]).fails(1, &["linux/sparc", "images --tree"]);
    assert_eq!(sizes(), whole);
    let said = from.run(&["image", "rm", "--force", "--platform", "linux/s390x", &name]).ok();
    assert!(said.contains("Deleted: sha256:") && !said.contains("Untagged"), "{said}");
    assert_eq!(sizes(), ("-".to_owned(), whole.1.clone()));
    from.run(&["image", "inspect", "--platform", "linux/s390x", &name]).fails(1, &["not"]);
    from.run(&["pull", "-q", "--platform", "linux/s390x", &name]).ok();
    assert_eq!(sizes(), whole);

    // Bad input leaves what was there.
    fs::write(from.path("kept.tar"), b"kept").unwrap();
    let kept = from.path("kept.tar").display().to_string();
    from.run(&["save", "-o", &kept, "nosuch"]).fails(1, &["nosuch"]);
    assert_eq!(fs::read(&kept).unwrap(), b"kept");
    from.run(&["save", "--format", "oci-dir", &name]).fails(1, &["--output"]);
    from.run(&["save"]).fails(125, &["IMAGE"]);
    from.run(&["load", "-i", &kept]).fails(1, &["kept.tar"]);
    from.run(&["load", "-i", "/nonexistent/file"]).fails(1, &["/nonexistent/file"]);
    from.feed(&["load"], b"").fails(1, &["manifest.json"]);
    let left: Vec<_> = fs::read_dir(from.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.display().to_string().contains(".part")), "{left:?}");
    from.finish_clean();
    to.finish_clean();
}

#[test]
fn whole_repositories_are_pulled_and_pushed() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    for tag in ["1", "2"] {
        registry.push(&image::busybox_layers(tag.parse().unwrap()), "team/app", tag);
    }
    let mut cli = Cli::empty();
    let repository = format!("{}/team/app", registry.host());
    let said = cli.run(&["pull", "-a", &repository]).ok();
    assert!(said.contains("1: Pulling from team/app") && said.contains("2: Pulling from"), "{said}");
    assert_eq!(cli.run(&["images", "-q", &repository]).ok().lines().count(), 2);
    cli.run(&["pull", "-a", &format!("{repository}:1")]).fails(1, &["tag can't be used"]);
    let copy = format!("{}/copy/app", registry.host());
    for tag in ["1", "2"] {
        cli.run(&["tag", &format!("{repository}:{tag}"), &format!("{copy}:{tag}")]).ok();
    }
    // The registry takes over what it has.
    let said = cli.run(&["push", "--all-tags", &copy]).ok();
    assert!(said.contains("Mounted") && !said.contains("Pushed"), "{said}");
    assert!(said.contains("1: digest: ") && said.contains("2: digest: "), "{said}");
    cli.run(&["push", "-a", &format!("{}/none", registry.host())]).fails(1, &["there is no image of"]);
    cli.run(&["push", "--platform", "linux/s390x", &format!("{copy}:1")]).fails(1, &["linux/s390x"]);
    cli.finish_clean();
}

#[test]
fn imports_take_changes_and_histories_tell() {
    require!(root, overlayfs);
    let mut cli = Cli::empty();
    let archive = image::busybox_layer().build();
    let changes = [
        "-c",
        "CMD [\"sh\", \"-c\", \"echo $A\"]",
        "-c",
        "ENV A=imported",
        "-c",
        "LABEL l=v",
        "-m",
        "by hand",
    ];
    let mut args = vec!["import"];
    args.extend(changes);
    args.extend(["-", "localhost/made:1"]);
    let id = cli.feed(&args, &archive).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(cli.run(&["run", "--rm", "localhost/made:1"]).ok(), "imported\n");
    let file = cli.path("root.tar");
    fs::write(&file, &archive).unwrap();
    command("gzip", ["-k".as_ref(), file.as_os_str()]);
    let compressed = format!("{}.gz", file.display());
    cli.run(&["image", "import", "--platform", "linux/s390x", &compressed, "localhost/other:1"]).ok();
    assert_eq!(
        cli.run(&["image", "inspect", "-f", "{{.Architecture}}", "localhost/other:1"]).ok(),
        "s390x\n"
    );

    let history = cli.run(&["history", "localhost/made:1"]).ok();
    assert!(history.starts_with("IMAGE") && history.contains("by hand"), "{history}");
    let full = cli.run(&["history", "--no-trunc", "-q", "localhost/made:1"]).ok();
    assert_eq!(full, id);
    let bytes = cli.run(&["history", "-H=false", "--format", "{{.Size}}", "localhost/made:1"]).ok();
    assert!(bytes.trim().parse::<u64>().unwrap() > 500_000, "{bytes}");
    cli.run(&["history", "nosuch"]).fails(1, &["nosuch"]);

    cli.run(&["import", "-c", "RUN x", &compressed]).fails(1, &["RUN x"]);
    cli.run(&["import", "/nonexistent"]).fails(1, &["/nonexistent"]);
    cli.run(&["import", "http://localhost/x.tar"]).fails(1, &["URL"]);
    cli.feed(&["import", "-"], b"no archive at all, and too short").fails(1, &["archive"]);
    cli.finish_clean();
}

#[test]
fn dangling_images_are_listed_filtered_and_pruned() {
    require!(root, overlayfs);
    let mut cli = Cli::empty();
    let layer = |text: &[u8]| image::busybox_layer().file("text", 0o644, text).build();
    let old = cli.feed(&["import", "-c", "LABEL a=1", "-", "localhost/app:1"], &layer(b"old")).ok();
    cli.feed(&["import", "-c", "LABEL a=2", "-", "localhost/app:1"], &layer(b"new")).ok();
    let short = &old[7..19];
    let list = |args: &[&str]| cli.run(&[&["images"], args].concat()).ok();
    assert_eq!(list(&["-q"]).lines().count(), 2);
    assert_eq!(list(&["-q", "-f", "dangling=true"]), format!("{short}\n"));
    assert!(list(&[]).contains("<none>"), "{}", list(&[]));
    assert_eq!(list(&["-q", "-f", "label=a=1"]), format!("{short}\n"));
    assert_eq!(list(&["--no-trunc", "-q", "-f", "before=localhost/app:1"]), old);
    assert_eq!(list(&["-q", "-f", &format!("since={short}")]).lines().count(), 1);
    assert_eq!(list(&["-q", "-f", "until=2020-01-01T00:00:00Z"]), "");
    assert_eq!(list(&["-q", "-f", "reference=localhost/*:1"]).lines().count(), 1);
    let tree = list(&["--tree"]);
    assert!(tree.starts_with("IMAGE") && tree.contains("└─ linux/"), "{tree}");
    cli.run(&["images", "-f", "dangling=maybe"]).fails(1, &["dangling=maybe"]);
    cli.run(&["images", "-f", "before=nosuch"]).fails(1, &["nosuch"]);

    // Nobody said yes.
    let said = cli.feed(&["image", "prune"], b"n\n");
    assert!(said.code == 0 && said.err.contains("dangling images") && said.out.is_empty(), "{said:?}");
    assert!(cli.run(&["image", "prune", "-f", "--filter", "label=a=2"]).ok().ends_with("space: 0B\n"));
    let pruned = cli.feed(&["image", "prune"], b"y\n").ok();
    assert!(
        pruned.starts_with("Deleted Images:\ndeleted: sha256:") && !pruned.ends_with(" 0B\n"),
        "{pruned}"
    );
    assert_eq!(cli.run(&["image", "prune", "-f"]).ok(), "Total reclaimed space: 0B\n");
    let id = cli.run(&["create", "localhost/app:1", "sh"]).ok();
    assert_eq!(cli.run(&["image", "prune", "-af"]).ok(), "Total reclaimed space: 0B\n");
    assert!(list(&["--tree"]).lines().any(|line| line.ends_with(" U")), "it is in use");
    cli.run(&["rmi", "localhost/app:1"]).fails(1, &["uses it"]);
    cli.run(&["rm", id.trim()]).ok();
    assert!(cli.run(&["image", "prune", "-af"]).ok().contains("untagged: localhost/app:1"));
    cli.run(&["image", "prune", "-f", "--filter", "nokey=1"]).fails(1, &["nokey"]);
    cli.finish_clean();
}

#[test]
fn artifacts_go_to_a_registry_and_come_back() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    let app = registry.push(&image::busybox(), "team/app", "1");
    let mut cli = Cli::empty();
    let file = cli.path("sbom.json");
    fs::write(&file, b"{}").unwrap();
    let file = file.display().to_string();
    let name = format!("{}/team/sbom:1", registry.host());
    let digest = cli.run(&["artifact", "add", "--type", "application/x-sbom", &name, &file]).ok();
    assert!(cli.run(&["artifact", "push", &name]).ok().contains(digest.trim()));
    cli.run(&["artifact", "rm", &name]).ok();
    cli.run(&["artifact", "pull", "-q", &name]).ok();
    let out = cli.path("out").display().to_string();
    assert_eq!(cli.run(&["artifact", "extract", &name, &out]).ok(), format!("{out}/sbom.json\n"));
    assert_eq!(fs::read(cli.path("out/sbom.json")).unwrap(), b"{}");
    cli.run(&["artifact", "extract", &name, &out]).fails(1, &["sbom.json"]);
    cli.run(&["create", &name]).fails(125, &["artifact"]);
    // This registry has no referrers API: a tag lists them.
    assert_eq!(cli.run(&["artifact", "referrers", "-q", &app]).ok(), "");
    let one = cli.run(&["artifact", "attach", "--type", "application/x-one", &app, &file]).ok();
    let two = cli.run(&["artifact", "attach", "--type", "application/x-two", &app, &file]).ok();
    assert_eq!(cli.run(&["artifact", "referrers", "-q", &app]).ok(), format!("{one}{two}"));
    assert_eq!(cli.run(&["artifact", "referrers", "-q", "--type", "application/x-two", &app]).ok(), two);
    let table = cli.run(&["artifact", "referrers", &app]).ok();
    assert!(table.starts_with("DIGEST") && table.contains("application/x-one"), "{table}");
    cli.run(&["artifact", "attach", &format!("{}/team/none:1", registry.host()), &file])
        .fails(1, &["team/none"]);
    cli.finish_clean();
}

#[test]
fn images_are_copied_into_another_engine() {
    require!(root, overlayfs, "busybox");
    let (mut from, mut to) = (Cli::new(), Cli::empty());
    let root = to.root().display().to_string();
    let id = |cli: &Cli, name: &str| cli.run(&["image", "inspect", "--format", "{{.Id}}", name]).ok();
    let said = from.run(&["image", "copy", "--to", &root, "busybox"]).ok();
    assert!(said.starts_with("busybox: sha256:"), "{said}");
    from.run(&["image", "copy", "-q", "--to", &root, "--name", "mine:2", "busybox"]).ok();
    assert_eq!(id(&to, "mine:2"), id(&from, "busybox"));
    assert_eq!(to.run(&["run", "--rm", "busybox", "echo", "here"]).ok(), "here\n");
    from.run(&["image", "copy", "--to", &root, "nosuch"]).fails(1, &["nosuch"]);
    from.run(&["image", "copy", "busybox"]).fails(125, &["--to"]);
    from.run(&["image", "copy", "--to", &root, "--name", "x", "busybox", "busybox"]).fails(1, &["--name"]);
    from.finish_clean();
    to.finish_clean();
}
