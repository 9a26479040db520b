//! What a restart keeps and what it makes anew: namespaces, files, limits, processes left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use engine_core::io::AttachOptions;
use engine_core::launch::InjectedFile;
use engine_core::mount::Mount;
use engine_core::oci_spec::runtime::LinuxNamespaceType;
use engine_core::{
    ContainerId, ContainerStatus, ExecSpec, LaunchSpec, Resources, RestartPolicy, Runtime as _,
};

use crate::support::{Bench, PATIENCE};

const SIGKILL: i32 = 9;

fn always(spec: &mut LaunchSpec) {
    spec.restart = RestartPolicy::Always;
    // The default of oci-spec's builder is a read-only root.
    spec.oci.set_root(None);
}

/// Waits for run number `count` and returns its process.
async fn run_number(bench: &Bench, id: &ContainerId, count: u32) -> u32 {
    let end = Instant::now() + PATIENCE;
    loop {
        let state = bench.runtime.state(id).await.unwrap();
        if state.restart_count == count && state.status == ContainerStatus::Running {
            return state.pid.unwrap();
        }
        assert!(Instant::now() < end, "not running again: {state:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn kill(bench: &Bench, id: &ContainerId) {
    bench.runtime.signal(id, SIGKILL).await.unwrap();
}

fn namespace(pid: u32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

#[tokio::test]
async fn a_restart_keeps_network_files_and_limits() {
    let bench = Bench::new().await;
    let volume = bench.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let change = |spec: &mut LaunchSpec| {
        always(spec);
        spec.mounts = vec![Mount::bind(&volume, "/volume"), Mount::tmpfs("/memory")];
        let (path, content) = ("/etc/hosts".into(), b"127.0.0.1 localhost\n".to_vec());
        spec.files = vec![InjectedFile { path, content, mode: 0o644 }];
    };
    let id = bench.start(&["sleep", "1000"], change).await;
    let first = run_number(&bench, &id, 0).await;
    let script =
        "echo kept > /file; echo kept > /volume/file; echo lost > /memory/file; echo lost > /dev/shm/file";
    assert_eq!(bench.exec(&id, &["sh", "-c", script]).await.err, "");
    let mut limits = Resources::default();
    (limits.memory, limits.pids_limit) = (Some(48 << 20), Some(60));
    bench.runtime.update(&id, &limits).await.unwrap();
    let network = namespace(first, "net");
    for count in 1..4 {
        kill(&bench, &id).await;
        let pid = run_number(&bench, &id, count).await;
        assert_eq!(namespace(pid, "net"), network);
        let script = "cat /file /volume/file /etc/hosts; ls /memory /dev/shm; hostname; touch /file /etc/new";
        let outcome = bench.exec(&id, &["sh", "-c", script]).await;
        assert!(outcome.out.starts_with("kept\nkept\n127.0.0.1 localhost\n"), "{outcome:?}");
        assert!(outcome.out.ends_with("box\n") && !outcome.out.contains("file\n"), "{outcome:?}");
        assert_eq!(outcome.status.code, 0, "{outcome:?}");
        let stats = bench.runtime.stats(&id).await.unwrap();
        assert_eq!((stats.memory_limit, stats.pids_limit), (Some(48 << 20), Some(60)));
    }
    bench.runtime.delete(&id).await.unwrap();
}

/// The root's mount goes from run to run: nothing is stacked on it, and it is as read-only as it was.
#[tokio::test]
async fn a3_protection_is_the_same_in_every_run() {
    let bench = Bench::new().await;
    let change = |spec: &mut LaunchSpec| {
        always(spec);
        spec.rootfs[0].options.read_only = true;
    };
    let id = bench.start(&["sleep", "1000"], change).await;
    let script = "cut -d' ' -f4- /proc/1/mountinfo | sed 's/ [a-z_]*:[0-9]*//; s/ino=[0-9]*//g' | sort
                  touch /x 2>/dev/null || echo read-only; wc -c < /proc/keys; grep -E 'Cap|NoNew|Seccomp' /proc/1/status";
    let first = bench.exec(&id, &["sh", "-c", script]).await.out;
    assert!(first.contains("read-only\n0\n"), "{first}");
    for count in 1..3 {
        kill(&bench, &id).await;
        run_number(&bench, &id, count).await;
        assert_eq!(bench.exec(&id, &["sh", "-c", script]).await.out, first);
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn what_an_ended_process_left_in_the_hosts_pid_namespace_is_ended() {
    let bench = Bench::new().await;
    let change = |spec: &mut LaunchSpec| {
        always(spec);
        let mut linux = spec.oci.linux().clone().unwrap();
        let kept = linux.namespaces().clone().unwrap_or_default().into_iter();
        linux.set_namespaces(Some(kept.filter(|n| n.typ() != LinuxNamespaceType::Pid).collect()));
        spec.oci.set_linux(Some(linux));
    };
    let script = "sleep 4321 & echo $! >> /left; exec sleep 1000";
    let id = bench.start(&["sh", "-c", script], change).await;
    run_number(&bench, &id, 0).await;
    let left = async |lines: usize| loop {
        let out = bench.exec(&id, &["cat", "/left"]).await.out;
        if out.lines().count() == lines {
            return out.lines().last().unwrap().to_owned();
        }
    };
    let first = left(1).await;
    assert!(Path::new("/proc").join(&first).exists());
    kill(&bench, &id).await;
    run_number(&bench, &id, 1).await;
    let command = std::fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap_or_default();
    assert!(!command.contains("4321"), "{command:?} is left of the first run");
    left(2).await;
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_container_with_a_user_namespace_runs_again_in_it() {
    let bench = Bench::new().await;
    let change = |spec: &mut LaunchSpec| {
        always(spec);
        let mut linux = serde_json::to_value(spec.oci.linux().clone().unwrap()).unwrap();
        let map = serde_json::json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
        linux["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
        spec.oci.set_linux(Some(serde_json::from_value(linux).unwrap()));
    };
    let id = bench.start(&["sleep", "1000"], change).await;
    let first = run_number(&bench, &id, 0).await;
    let (user, net) = (namespace(first, "user"), namespace(first, "net"));
    assert_ne!(user, namespace(std::process::id(), "user"));
    for count in 1..3 {
        kill(&bench, &id).await;
        let pid = run_number(&bench, &id, count).await;
        assert_eq!((namespace(pid, "user"), namespace(pid, "net")), (user.clone(), net.clone()));
        let outcome =
            bench.exec(&id, &["sh", "-c", "id -u; touch /x && cat /proc/self/uid_map | tr -s ' '"]).await;
        assert_eq!(outcome.out, "0\n 0 0 65536\n", "{outcome:?}");
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_there_in_every_run() {
    let bench = Bench::new().await;
    let change = |spec: &mut LaunchSpec| {
        always(spec);
        spec.terminal = Some(engine_core::io::TerminalSize { columns: 80, rows: 24 });
    };
    let id = bench.start(&["sh", "-c", "tty; exec sleep 1000"], change).await;
    for count in 0..3 {
        run_number(&bench, &id, count).await;
        let spec =
            ExecSpec::new(["tty"]).with_terminal(engine_core::io::TerminalSize { columns: 80, rows: 24 });
        assert_eq!(bench.exec_spec_terminal(&id, &spec).await, "/dev/pts/1\r\n");
        kill(&bench, &id).await;
    }
    bench.runtime.delete(&id).await.unwrap();
}

/// A bind source that is gone at the next run ends the container, and its state says why.
#[tokio::test]
async fn a_run_that_cannot_be_set_up_is_the_end() {
    let bench = Bench::new().await;
    let volume = bench.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let change = |spec: &mut LaunchSpec| {
        always(spec);
        spec.mounts = vec![Mount::bind(&volume, "/volume")];
    };
    let id = bench.start(&["sleep", "1000"], change).await;
    run_number(&bench, &id, 0).await;
    std::fs::remove_dir(&volume).unwrap();
    kill(&bench, &id).await;
    let end = Instant::now() + PATIENCE;
    let state = loop {
        let state = bench.runtime.state(&id).await.unwrap();
        if state.status == ContainerStatus::Exited {
            break state;
        }
        assert!(Instant::now() < end, "{state:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!((state.exit.unwrap().code, state.restart_count), (128, 1));
    bench.runtime.delete(&id).await.unwrap();
}

/// A client that does not read its output can delay the next run for two seconds, and no longer.
#[tokio::test]
async fn a_client_that_does_not_read_does_not_keep_the_container_from_running() {
    let bench = Bench::new().await;
    let id = ContainerId::random();
    let mut spec = bench.spec(&id, &["sh", "-c", "yes | head -c 300000 & sleep 1; kill -9 $$"]);
    always(&mut spec);
    spec.init = true;
    bench.runtime.create(&id, &spec).await.unwrap();
    let streams = bench.runtime.attach(&id, AttachOptions::piped(false)).await.unwrap();
    bench.runtime.start(&id).await.unwrap();
    run_number(&bench, &id, 1).await;
    drop(streams);
    bench.runtime.delete(&id).await.unwrap();
}
