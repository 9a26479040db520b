//! `GET /containers/{id}/json`.

use engine_testkit::require;
use serde_json::{Value, json};

use crate::support::Host;

async fn at(host: &Host, path: &str) -> Value {
    let (status, body) = host.ask("GET", path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_what_clients_read() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let id = host
        .docker(&["run", "-d", "--name", "web", "-e", "A=b", "-v", "/v", "busybox", "sleep", "1000"])
        .await
        .ok();
    let web = at(&host, "/v1.47/containers/web/json").await;
    assert_eq!(web["Id"], id.trim());
    let state = &web["State"];
    assert_eq!((&state["Status"], &state["Running"]), (&json!("running"), &json!(true)));
    let pid = state["Pid"].as_u64().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
    assert!(web["Config"]["Env"].as_array().unwrap().contains(&json!("A=b")));
    assert_eq!(web["Config"]["Image"], "busybox");
    assert!(
        web["GraphDriver"]["Data"]["UpperDir"].as_str().is_some_and(|dir| std::path::Path::new(dir).is_dir())
    );
    assert_eq!(web["Driver"], web["GraphDriver"]["Name"]);
    assert_eq!((&web["Platform"], &web["ExecIDs"]), (&json!("linux"), &Value::Null));
    assert_eq!(web["HostConfig"]["Runtime"], "engine-shim");
    for key in [
        "ResolvConfPath",
        "HostnamePath",
        "HostsPath",
        "LogPath",
        "MountLabel",
        "ProcessLabel",
        "AppArmorProfile",
    ] {
        assert!(web[key].is_string(), "{key}");
    }
    assert_eq!(web["NetworkSettings"]["IPAddress"], "");
    assert!(web.get("SizeRw").is_none() && web.get("ImageManifestDescriptor").is_none());
    let newest = at(&host, "/containers/web/json?size=true").await;
    assert!(newest["NetworkSettings"].get("IPAddress").is_none());
    assert!(newest["SizeRootFs"].as_i64().unwrap() > 0);
    assert!(newest["ImageManifestDescriptor"]["digest"].as_str().unwrap().starts_with("sha256:"));
    let format = "{{.State.Status}} {{.Config.Image}} {{len .Mounts}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(host.docker(&["inspect", "-f", format, "web"]).await.ok(), "running busybox 1 no\n");
    host.docker(&["exec", "-d", "web", "sleep", "1000"]).await.ok();
    let web = at(&host, "/v1.47/containers/web/json").await;
    assert_eq!(web["ExecIDs"].as_array().unwrap().len(), 1);
    host.docker(&["rm", "-fv", "web"]).await.ok();
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_is_not_found_by_any_path() {
    require!(root, overlayfs);
    let host = Host::new().await;
    for (method, path) in [
        ("GET", "nobody/json"),
        ("GET", "nobody/top"),
        ("GET", "nobody/changes"),
        ("GET", "nobody/logs?stdout=1"),
        ("GET", "nobody/stats"),
        ("POST", "nobody/start"),
        ("POST", "nobody/stop"),
        ("POST", "nobody/restart"),
        ("POST", "nobody/kill"),
        ("POST", "nobody/pause"),
        ("POST", "nobody/unpause"),
        ("POST", "nobody/rename?name=other"),
        ("POST", "nobody/wait"),
        ("DELETE", "nobody"),
    ] {
        let answer = host.ask(method, &format!("/v1.47/containers/{path}")).await;
        assert_eq!(answer, (404, "{\"message\":\"No such container: nobody\"}\n".to_owned()), "{path}");
    }
    let (status, body) = host.post("/v1.47/containers/nobody/update", "{}").await;
    assert!(status == 404 && body.contains("No such container: nobody"), "{status} {body}");
    host.finish().await;
}
