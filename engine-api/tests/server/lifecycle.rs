//! From start to removal, by the real command line and by requests.

use engine_testkit::require;
use serde_json::Value;

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_stopped_killed_paused_and_removed() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let state =
        async || host.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web"]).await.ok();
    let id = host.docker(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await.ok();
    let id = id.trim();
    assert_eq!(host.ask("POST", "/containers/web/start").await.0, 304);
    host.docker(&["pause", "web"]).await.ok();
    assert_eq!(state().await, "paused 0\n");
    let (status, body) = host.ask("POST", "/containers/web/pause").await;
    assert!(status == 409 && body.contains("is already paused"), "{body}");
    let (status, body) = host.ask("DELETE", "/containers/web").await;
    assert!(status == 409 && body.contains("must be unpaused first"), "{body}");
    host.docker(&["unpause", "web"]).await.ok();
    let (status, body) = host.ask("POST", "/containers/web/unpause").await;
    assert!(status == 409 && body.contains("is not paused"), "{body}");
    let said = host.docker(&["rm", "web"]).await;
    let words = "cannot remove container \"/web\": container is running: stop the container before removing or force remove";
    assert!(said.code == 1 && said.err.to_lowercase().contains(words), "{said:?}");
    host.docker(&["stop", "-t", "0", "web"]).await.ok();
    assert_eq!(state().await, "exited 137\n");
    assert_eq!(host.ask("POST", "/containers/web/stop").await.0, 304);
    let (status, body) = host.ask("POST", "/containers/web/kill").await;
    let words = format!("Cannot kill container: web: container {id} is not running");
    assert!(status == 409 && body.contains(&words), "{body}");
    let (status, body) = host.ask("GET", "/containers/web/top").await;
    assert!(status == 409 && body.contains("is not running"), "{body}");
    host.docker(&["start", "web"]).await.ok();
    host.docker(&["restart", "-t", "0", "web"]).await.ok();
    host.docker(&["kill", "-s", "KILL", "web"]).await.ok();
    host.docker(&["wait", "web"]).await.ok();
    assert_eq!(state().await, "exited 137\n");
    let (status, body) = host.ask("POST", "/containers/web/kill?signal=FOO").await;
    assert!(status == 400 && body.contains("Invalid signal: FOO"), "{body}");
    let (status, body) = host.ask("POST", "/containers/web/stop?t=x").await;
    assert!(status == 400 && body.contains("invalid value for t"), "{body}");
    host.docker(&["start", "web"]).await.ok();
    assert_eq!(host.ask("DELETE", "/containers/web?force=1&v=1").await, (204, String::new()));
    assert_eq!(host.docker(&["ps", "-aq"]).await.ok(), "");
    assert_eq!(host.docker(&["inspect", "web"]).await.code, 1);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_limits_are_changed() {
    require!(root, overlayfs);
    let host = Host::new().await;
    host.docker(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).await.ok();
    host.docker(&["create", "--name", "taken", "busybox"]).await.ok();
    let said = host.docker(&["rename", "web", "taken"]).await;
    assert!(said.code == 1 && said.err.contains("already in use by container"), "{said:?}");
    let (status, body) = host.ask("POST", "/containers/web/rename").await;
    assert!(status == 400 && body.contains("names may be empty"), "{body}");
    let (status, body) = host.ask("POST", "/containers/web/rename?name=a%20b").await;
    assert!(status == 400 && body.contains("Invalid container name (a b)"), "{body}");
    host.docker(&["rename", "web", "site"]).await.ok();
    host.docker(&["update", "--memory", "64m", "--memory-swap", "128m", "--restart", "on-failure:2", "site"])
        .await
        .ok();
    let format = "{{.Name}} {{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(host.docker(&["inspect", "-f", format, "site"]).await.ok(), "/site 67108864 on-failure 2\n");
    for (document, words) in [
        (r#"{"Memory": "1g"}"#, "Memory"),
        (r#"{"Memory": 5}"#, "6 MiB"),
        (r#"{"RestartPolicy": {"Name": "never"}}"#, "RestartPolicy.Name"),
        (r#"{"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}]}"#, "Ulimits"),
        ("[", "invalid JSON"),
    ] {
        let (status, body) = host.post("/containers/site/update", document).await;
        assert!(status == 400 && body.contains(words), "{document}: {status} {body}");
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_and_changes_are_shown() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let command = "rm /etc/hosts; echo x >/new; exec sleep 1000";
    host.docker(&["run", "-d", "--name", "web", "busybox", "sh", "-c", command]).await.ok();
    let top = host.docker(&["top", "web", "-o", "pid,args"]).await.ok();
    let mut lines = top.lines();
    assert!(lines.next().unwrap().contains("COMMAND"), "{top}");
    assert!(host.docker(&["top", "web"]).await.ok().starts_with("UID"));
    let (status, body) = host.ask("GET", "/containers/web/top?ps_args=--bogus").await;
    assert!(status == 400 && body.contains("--bogus"), "{body}");
    // The shell may still be at it.
    let mut changes = String::new();
    for _ in 0..200 {
        changes = host.docker(&["diff", "web"]).await.ok();
        if changes.contains("A /new") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(changes.contains("A /new"), "{changes}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_pruned() {
    require!(root, overlayfs);
    let host = Host::new().await;
    host.docker(&["create", "--name", "kept", "--label", "keep", "busybox"]).await.ok();
    let gone = host.docker(&["create", "--name", "gone", "busybox"]).await.ok();
    host.docker(&["run", "-d", "--name", "runs", "busybox", "sleep", "1000"]).await.ok();
    for (filters, words) in [
        (r#"{"colour":["red"]}"#, "colour"),
        (r#"{"until":["yesterday"]}"#, "yesterday"),
        (r#"{"until":["1","2"]}"#, "until"),
    ] {
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = host.ask("POST", &format!("/containers/prune?filters={encoded}")).await;
        assert!(status == 400 && body.contains(words), "{filters}: {status} {body}");
    }
    let said = host.docker(&["container", "prune", "-f", "--filter", "label!=keep"]).await.ok();
    assert!(said.contains(gone.trim()), "{said}");
    let said = host.docker(&["container", "prune", "-f", "--filter", "until=24h"]).await.ok();
    assert!(said.contains("Total reclaimed space: 0B"), "{said}");
    let (status, body) = host.ask("POST", "/containers/prune").await;
    let pruned: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, pruned["ContainersDeleted"].as_array().unwrap().len()), (200, 1));
    assert_eq!(host.docker(&["ps", "-a", "--format", "{{.Names}}"]).await.ok(), "runs\n");
    host.finish().await;
}
