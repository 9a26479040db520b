//! User namespaces with shifted ids: whose files are whose, inside and on disk, and the rows of SECURITY that could differ.

use engine_core::container_spec::UserNamespace;
use engine_core::engine::{CommitOptions, ForkOptions, RemoveOptions};
use engine_core::files::UnpackFiles;
use engine_core::io::AttachOptions;
use engine_core::oci_spec::runtime::{
    LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, RootBuilder,
};
use engine_core::{ContainerId, ContainerSpec, ErrorKind, LaunchSpec, Runtime as _};
use engine_testkit::image::LayerBuilder;
use engine_testkit::require;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

use crate::files::{World, collect, stream};
use crate::support::Bench;

/// Gives a container ids from `host` on.
fn shifted(host: u32) -> impl Fn(&mut LaunchSpec) {
    move |spec| in_user_namespace(spec, host, None)
}

fn in_user_namespace(spec: &mut LaunchSpec, host: u32, join: Option<u32>) {
    let mut linux = spec.oci.linux().clone().unwrap();
    let map =
        LinuxIdMappingBuilder::default().container_id(0_u32).host_id(host).size(65_536_u32).build().unwrap();
    let mut list = linux.namespaces().clone().unwrap();
    let namespace = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User);
    list.push(match join {
        Some(pid) => namespace.path(format!("/proc/{pid}/ns/user")).build().unwrap(),
        None => namespace.build().unwrap(),
    });
    linux.set_namespaces(Some(list));
    linux.set_uid_mappings(Some(vec![map]));
    linux.set_gid_mappings(Some(vec![map]));
    spec.oci.set_linux(Some(linux));
    // The builder's own default is a read-only one.
    spec.oci.set_root(Some(RootBuilder::default().path("rootfs").readonly(false).build().unwrap()));
}

const LOOK: &str = "stat -c '%u:%g %n' / /bin/sh /etc/passwd /home/user /dev/shm /dev/null /dev/pts/ptmx /proc/1 \
    /etc/hosts; echo new > /root/new; mkdir /tmp/d; rm /etc/group; chmod 700 /home/user; stat -c '%u:%g %n' /root/new";

#[tokio::test]
async fn where_layers_cannot_be_shifted_that_is_said() {
    require!(root, overlayfs, user_namespaces);
    if engine_testkit::Requirement::ShiftedLayers.is_met() {
        let check = engine_core::engine::Diagnosis::of_host("/".as_ref());
        let found = check.checks.iter().find(|check| check.subject == "shifted ids").unwrap();
        assert_eq!(found.verdict, engine_core::engine::Verdict::Works, "{found:?}");
        return;
    }
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["true"]);
    shifted(300_000)(&mut spec);
    let refused = bench.runtime.create(&id, &spec).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    assert!(refused.report().to_string().contains("6.15"), "{refused:?}");
}

#[tokio::test]
async fn files_are_roots_inside_and_unshifted_on_disk() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let bench = Bench::new().await;
    std::os::unix::fs::chown(bench.layer().join("home/user"), Some(1000), Some(1001)).unwrap();
    let id = ContainerId::random();
    let with = |host: u32, script: &str| {
        let mut spec = bench.spec(&id, &["sh", "-c", script]);
        shifted(host)(&mut spec);
        spec.files = vec![engine_core::launch::InjectedFile {
            path: "/etc/hosts".into(),
            content: b"127.0.0.1 localhost\n".to_vec(),
            mode: 0o644,
        }];
        spec
    };
    let outcome = bench.run_spec(&id, &with(300_000, LOOK)).await.unwrap();
    for line in outcome.out.lines() {
        let owner = if line.ends_with("/home/user") { "1000:1001 " } else { "0:0 " };
        assert!(line.starts_with(owner), "{line}: {outcome:?}");
    }
    assert_eq!((outcome.out.lines().count(), outcome.err.as_str()), (10, ""));
    // The writable layer: as root made it, a whiteout among it.
    let upper = bench.dir.path().join("writable").join(id.as_str()).join("upper");
    for (path, owner) in [("root/new", 0), ("tmp/d", 0), ("etc/group", 0), ("home/user", 1000)] {
        assert_eq!(upper.join(path).symlink_metadata().unwrap().uid(), owner, "{path}");
    }
    // Another range sees the same.
    let again =
        bench.run_spec(&id, &with(700_000, "cat /root/new; stat -c %u /root/new /home/user; ls /etc")).await;
    assert_eq!(again.unwrap().out, "new\n0\n1000\nhosts\npasswd\n");
}

#[tokio::test]
async fn standard_streams_can_be_opened_by_their_names() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let bench = Bench::new().await;
    let script = "echo out > /dev/stdout; echo err > /dev/stderr";
    let outcome = bench.run_with(&["sh", "-c", script], shifted(300_000)).await;
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\n", "err\n"));
    let id = bench.start(&["sleep", "1000"], shifted(300_000)).await;
    let outcome = bench.exec(&id, &["sh", "-c", script]).await;
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\n", "err\n"));
    let mut exec = engine_core::ExecSpec::new(["sh", "-c", "stat -c %u:%g $(tty)"]);
    exec.terminal = Some(engine_core::io::TerminalSize::default());
    assert_eq!(bench.exec_spec_terminal(&id, &exec).await.trim(), "0:5");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn another_containers_user_namespace_is_joined() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let bench = Bench::new().await;
    let id = bench.start(&["sleep", "1000"], shifted(300_000)).await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let own = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().display().to_string();
    let script = "readlink /proc/self/ns/user; id -u; stat -c %u /bin/sh; touch /tmp/x && stat -c %u /tmp/x; mount | grep -c ' /sys '";
    let joined =
        bench.run_with(&["sh", "-c", script], |spec| in_user_namespace(spec, 300_000, Some(pid))).await;
    assert_eq!(joined.out, format!("{own}\n0\n0\n0\n1\n"), "{joined:?}");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a3_b4_masked_and_read_only_paths_in_a_user_namespace() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let bench = Bench::new().await;
    let script = "for path in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do \
          [ ! -e $path ] || [ -z \"$(head -c 1 $path 2>/dev/null)\" ] || echo readable $path; done; \
        for path in /sys/firmware /proc/acpi /proc/scsi; do \
          [ ! -e $path ] || [ -z \"$(ls $path)\" ] || echo listable $path; touch $path/x 2>/dev/null && echo writable $path; done; \
        for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs; do \
          [ ! -e $path ] || { echo x 2>/dev/null > $path; } 2>/dev/null && [ -e $path ] && echo written $path; done; echo done";
    let outcome = bench.run_with(&["sh", "-c", script], shifted(300_000)).await;
    assert_eq!(outcome.out, "done\n", "{outcome:?}");
}

#[tokio::test]
async fn a6_b1_b2_descriptors_capabilities_and_groups_in_a_user_namespace() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let bench = Bench::new().await;
    let look = "ls /proc/self/fd | tr '\\n' ' '; grep -E 'Cap(Inh|Amb)|NoNewPrivs' /proc/self/status | tr -d '\\n\\t'; id -G";
    // 3 is the directory that ls reads.
    let root = "0 1 2 3 CapInh:0000000000000000CapAmb:0000000000000000NoNewPrivs:10\n";
    let outcome = bench.run_with(&["sh", "-c", look], shifted(300_000)).await;
    assert_eq!(outcome.out, root, "{outcome:?}");
    let user = |spec: &mut LaunchSpec| {
        shifted(300_000)(spec);
        spec.user = "user".to_owned();
    };
    let id = bench.start(&["sleep", "1000"], user).await;
    let outcome = bench
        .exec(&id, &["sh", "-c", "id -G; grep -E 'Cap(Eff|Prm)' /proc/self/status | tr -d '\\n\\t'"])
        .await;
    assert_eq!(outcome.out, "1001 2000\nCapPrm:0000000000000000CapEff:0000000000000000", "{outcome:?}");
    // Nothing of the host is the container's, by owner or by capability.
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t301000\t301000") && status.contains("Groups:\t301001 302000"), "{status}");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn binds_are_seen_through_the_maps_when_asked() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let bench = Bench::new().await;
    let shared = bench.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "x").unwrap();
    let bind = |mapped: bool| {
        let source = shared.clone();
        move |spec: &mut LaunchSpec| {
            shifted(300_000)(spec);
            let mut mount = engine_core::Mount::bind(source, "/shared");
            mount.options.id_mapped = mapped;
            spec.mounts = vec![mount];
        }
    };
    let script = "stat -c %u /shared/file; touch /shared/new 2>/dev/null && echo written";
    assert_eq!(bench.run_with(&["sh", "-c", script], bind(false)).await.out, "65534\n");
    assert_eq!(bench.run_with(&["sh", "-c", script], bind(true)).await.out, "0\nwritten\n");
    assert_eq!(shared.join("new").metadata().unwrap().uid(), 0);
    // Without a user namespace there is nothing to map by.
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["true"]);
    let mut mount = engine_core::Mount::bind(&shared, "/shared");
    mount.options.id_mapped = true;
    spec.mounts = vec![mount];
    assert_eq!(bench.runtime.create(&id, &spec).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// An archive with a directory, a file of user 5 and group 6 in it, and a link.
fn archive(name: &str) -> engine_core::io::ByteStream {
    let file = format!("{name}/file");
    let layer = LayerBuilder::new().owner(5, 6).dir(name, 0o750).file(&file, 0o640, b"copied in");
    stream(layer.owner(0, 0).symlink(&format!("{name}/link"), "file").build())
}

/// Names and owners in an archive, as another program reads them.
fn owners(archive: &[u8]) -> std::collections::BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    std::fs::write(&path, archive).unwrap();
    let script =
        "import sys,tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name, '%d:%d' % (m.uid, m.gid))";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| {
        let (name, owner) = line.rsplit_once(' ')?;
        Some((name.strip_prefix("./").unwrap_or(name).to_owned(), owner.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

#[tokio::test]
async fn copies_exports_and_images_have_the_ids_of_inside() {
    require!(root, overlayfs, user_namespaces, shifted_layers, "python3");
    let world = World::new().await;
    let volume: engine_core::Name = "shared".parse().unwrap();
    let script = "mkdir -p /made && echo x > /made/file && chown 7:8 /made/file; echo x > /data/own; \
        while ! test -e /stop; do sleep 0.05; done";
    let mut spec = ContainerSpec::command(["sh", "-c", script]).with_volume(volume.clone(), "/data");
    spec.user_namespace = Some(UserNamespace::Auto { size: Some(2000) });
    let container = world.create(spec).await;
    let upper = world.dir.path().join("root/containers").join(container.id().as_str()).join("upper");
    let mut own = UnpackFiles::default();
    own.owner = Some((0, 0));
    for (state, running) in [("new", false), ("running", true), ("stopped", false)] {
        if running {
            container.start().await.unwrap();
            while container.stat_path("/data/own").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if state == "stopped" {
            let stop = LayerBuilder::new().file("stop", 0o644, b"").build();
            container.copy_in("/", stream(stop), &own).await.unwrap();
            container.wait().await.unwrap();
        }
        // In: as the archive says, or root's. On disk, as ever, what they are inside.
        container.copy_in("/root", archive(state), &UnpackFiles::default()).await.unwrap();
        container.copy_in("/data", archive(state), &own).await.unwrap();
        let on_disk = |path: &str| {
            let stat = upper.join(path).symlink_metadata().unwrap();
            (stat.uid(), stat.gid())
        };
        assert_eq!(on_disk(&format!("root/{state}/file")), (5, 6), "{state}");
        assert_eq!(on_disk(&format!("root/{state}")), (5, 6), "{state}");
        assert_eq!(on_disk(&format!("root/{state}/link")), (0, 0), "{state}");
        let kept = world.dir.path().join("root/volumes/shared/_data").join(state).join("file");
        assert_eq!((kept.metadata().unwrap().uid(), kept.metadata().unwrap().gid()), (0, 0), "{state}");
        if running {
            let look = format!(
                "stat -c %u:%g /root/{state} /root/{state}/file /data/{state}/file; cat /root/{state}/link"
            );
            let exec = engine_core::ExecSpec::new(["sh", "-c", &look]);
            let mut process = container.exec(&exec, AttachOptions::piped(false)).await.unwrap();
            let mut said = String::new();
            process.streams.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "5:6\n5:6\n0:0\ncopied in");
        }
        // Out: the same.
        let (_, out) = container.copy_out(format!("/root/{state}")).await.unwrap();
        let out = owners(&collect(out).await.unwrap());
        assert_eq!((&*out[&format!("{state}/file")], &*out[&format!("{state}/link")]), ("5:6", "0:0"));
        if state != "new" {
            let (_, out) = container.copy_out("/made").await.unwrap();
            assert_eq!(owners(&collect(out).await.unwrap())["made/file"], "7:8", "{state}");
        }
        let whole = owners(&collect(container.export().await.unwrap()).await.unwrap());
        assert_eq!(
            (&*whole["bin/busybox"], &*whole[&format!("root/{state}/file")]),
            ("0:0", "5:6"),
            "{state}"
        );
        // An image, a fork and a snapshot are made of what is on disk.
        if state != "new" {
            let name: engine_core::Reference = format!("made:{state}").parse().unwrap();
            container.commit(&CommitOptions::default().with_name(name.clone())).await.unwrap();
            let made =
                world.engine.create(&name.to_string(), ContainerSpec::command(["true"])).await.unwrap();
            let whole = owners(&collect(made.export().await.unwrap()).await.unwrap());
            assert_eq!((&*whole["made/file"], &*whole[&format!("root/{state}/file")]), ("7:8", "5:6"));
            made.remove(RemoveOptions::default()).await.unwrap();
            let fork = container.fork(ForkOptions::default()).await.unwrap();
            let whole = owners(&collect(fork.export().await.unwrap()).await.unwrap());
            assert_eq!((&*whole["made/file"], &*whole[&format!("root/{state}/file")]), ("7:8", "5:6"));
            fork.remove(RemoveOptions::default()).await.unwrap();
        }
        let changes = container.changes().await.unwrap();
        assert!(
            changes.iter().any(|change| change.path.ends_with(format!("root/{state}/file"))),
            "{changes:?}"
        );
    }
    // What it has no number for is refused, and nothing is made of it.
    container.copy_in("/", stream(LayerBuilder::new().file("x", 0o644, b"").build()), &own).await.unwrap();
    container.remove(RemoveOptions::default().with_force(true)).await.unwrap();
    world.engine.remove_volume(&volume).await.unwrap();
}

#[tokio::test]
async fn owners_that_a_running_container_has_not_are_refused() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let world = World::new().await;
    let mut spec = ContainerSpec::command(["sleep", "1000"]);
    spec.user_namespace = Some(UserNamespace::Auto { size: Some(2000) });
    let container = world.create(spec).await;
    container.start().await.unwrap();
    let stranger = LayerBuilder::new().owner(2000, 0).file("stranger", 0o644, b"").build();
    let error = container.copy_in("/root", stream(stranger), &UnpackFiles::default()).await.unwrap_err();
    assert!(error.report().contains("user namespace"), "{}", error.report());
    assert_eq!(container.stat_path("/root/stranger").await.unwrap_err().kind(), ErrorKind::NotFound);
    container.remove(RemoveOptions::default().with_force(true)).await.unwrap();
}
