//! `pull`, `push`, `login`, `logout` with a real registry.

use engine_testkit::{Registry, RegistryMode, image, require};

use crate::support::Cli;

#[test]
fn pull_run_tag_push_and_pull_again() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    let name = registry.push(&image::busybox(), "team/busybox", "1");
    let mut cli = Cli::empty();
    let said = cli.run(&["pull", &name]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("1: Pulling from team/busybox"), "{said:?}");
    assert!(said.out.contains(": Pull complete\nDigest: sha256:"), "{said:?}");
    assert!(said.out.contains("Status: Downloaded newer image"), "{said:?}");
    assert_eq!(lines.last(), Some(&name.as_str()));
    assert!(cli.run(&["pull", &name]).ok().contains("Status: Image is up to date"));
    assert_eq!(cli.run(&["pull", "-q", &name]).ok(), format!("{name}\n"));
    assert_eq!(cli.run(&["run", "--rm", &name, "echo", "pulled"]).ok(), "pulled\n");
    let copy = format!("{}/other/copy:2", registry.host());
    cli.run(&["tag", &name, &copy]).ok();
    let pushed = cli.run(&["push", &copy]).ok();
    assert!(
        pushed.contains("The push refers to repository") && pushed.contains("2: digest: sha256:"),
        "{pushed}"
    );
    cli.run(&["rmi", &copy]).ok();
    // `run` pulls what is missing, and tells so aside.
    let said = cli.run(&["run", "--rm", &copy, "echo", "again"]);
    assert_eq!((said.code, said.out.as_str()), (0, "again\n"), "{said:?}");
    assert!(said.err.contains("Unable to find image") && said.err.contains("Status: "), "{said:?}");
    let said = cli.run(&["run", "--rm", "-q", "--pull", "always", &copy, "true"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    cli.run(&["pull", &format!("{}/team/nothing:1", registry.host())])
        .fails(1, &["team/nothing", "manifest"]);
    cli.finish_clean();
}

#[test]
fn platforms_are_chosen() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    let name = registry.push(&image::busybox_multi_platform(), "multi", "1");
    let mut cli = Cli::empty();
    assert!(cli.run(&["run", "--rm", "-q", &name]).ok().starts_with("linux/"));
    cli.run(&["pull", "-q", "--platform", "linux/s390x", &name]).ok();
    let id = cli.run(&["create", "--platform", "linux/s390x", &name]).ok();
    cli.run(&["rm", id.trim()]).ok();
    cli.run(&["pull", "--platform", "linux/riscv64", &name]).fails(1, &["linux/riscv64"]);
    cli.finish_clean();
}

#[test]
fn a_login_is_checked_kept_and_forgotten() {
    require!(root, overlayfs, "docker-registry", "htpasswd");
    let registry = Registry::start(RegistryMode::Password);
    let name = registry.push(&image::busybox(), "private", "1");
    let host = registry.host();
    let mut cli = Cli::empty();
    cli.run(&["pull", &name]).fails(1, &[&host]);
    let login = ["login", "-u", Registry::USER, "--password-stdin", &host];
    cli.feed(&login, b"wrong\n").fails(1, &[&host]);
    assert!(!cli.path("docker/config.json").exists());
    assert_eq!(cli.feed(&login, format!("{}\n", Registry::PASSWORD).as_bytes()).ok(), "Login Succeeded\n");
    let config = std::fs::read_to_string(cli.path("docker/config.json")).unwrap();
    assert!(config.contains(&host) && !config.contains(Registry::PASSWORD), "{config}");
    cli.run(&["pull", "-q", &name]).ok();
    assert!(cli.run(&["logout", &host]).ok().contains("Removing login credentials"));
    assert!(cli.run(&["logout", &host]).ok().contains("Not logged in"));
    cli.run(&["rmi", &name]).ok();
    cli.run(&["pull", &name]).fails(1, &[&host]);
    cli.finish_clean();
}

#[test]
fn own_authorities_and_mirrors_are_flags() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Tls);
    let name = registry.push(&image::busybox(), "library/app", "1");
    let ca = registry.ca_file().unwrap().display().to_string();
    let mut cli = Cli::empty();
    cli.run(&["pull", &name]).fails(1, &["certificate"]);
    cli.run(&["--registry-ca", &ca, "pull", "-q", &name]).ok();
    // A Docker Hub name from the mirror, and nothing else can answer here.
    let mirror = registry.url();
    let said = cli.run(&[
        "--registry-ca",
        &ca,
        "--registry-mirror",
        &mirror,
        "run",
        "--rm",
        "app:1",
        "echo",
        "mirrored",
    ]);
    assert_eq!((said.code, said.out.as_str()), (0, "mirrored\n"), "{said:?}");
    // The same one for another registry, which there is not; a registry needs a mirror's URL or host.
    let other = format!("elsewhere.invalid={mirror}");
    cli.run(&[
        "--registry-ca",
        &ca,
        "--registry-mirror",
        &other,
        "pull",
        "-q",
        "elsewhere.invalid/library/app:1",
    ])
    .ok();
    let bad = ["--registry-mirror", "elsewhere.invalid=", "pull", "-q", "elsewhere.invalid/library/app:1"];
    cli.run(&bad).fails(1, &["configure registry client"]);
    cli.finish_clean();
}
