//! Volumes: create, list, inspect, remove, prune.

use engine_api::models::VolumeListResponse;
use engine_core::ContainerSpec;
use engine_core::container_spec::MountSpec;
use engine_testkit::require;
use serde_json::{Value, json};

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_listed_and_removed() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    assert_eq!(host.get("/volumes").await, json!({ "Volumes": [], "Warnings": null }));
    host.docker(&["volume", "create", "--label", "a=b", "-o", "type=tmpfs", "-o", "device=tmpfs", "ram"])
        .await
        .ok();
    host.docker(&["volume", "create", "data"]).await.ok();
    let (status, body) = host.post("/volumes/create", r#"{"Name":"","DriverOpts":null}"#).await;
    assert_eq!(status, 201, "{body}");
    let anonymous: Value = serde_json::from_str(&body).unwrap();
    let anonymous = anonymous["Name"].as_str().unwrap();
    assert_eq!(anonymous.len(), 64);

    let ram = host.get("/volumes/ram").await;
    assert_eq!((&ram["Driver"], &ram["Scope"]), (&"local".into(), &"local".into()));
    assert_eq!((&ram["Labels"]["a"], &ram["Options"]["type"]), (&"b".into(), &"tmpfs".into()));
    let data = host.get("/volumes/data").await;
    assert!(data["Mountpoint"].as_str().unwrap().starts_with('/'), "{data}");
    assert!(data["Labels"].is_null() && data["Options"].is_null(), "{data}");
    let said = host.docker(&["volume", "inspect", "data", "-f", "{{.Name}} {{.Driver}}"]).await.ok();
    assert_eq!(said.trim(), "data local");
    // What is there is returned, with other labels too; other storage is a conflict.
    let (status, body) = host.post("/volumes/create", r#"{"Name":"data","Labels":{"x":"y"}}"#).await;
    assert!(status == 201 && !body.contains("\"x\""), "{status} {body}");
    let (status, _) = host.post("/volumes/create", r#"{"Name":"data","DriverOpts":{"type":"tmpfs"}}"#).await;
    assert_eq!(status, 409);

    let typed: VolumeListResponse = serde_json::from_value(host.get("/volumes").await).unwrap();
    assert_eq!(typed.volumes.unwrap().len(), 3);

    let names = async |filter: &str| {
        let said = host.docker(&["volume", "ls", "-q", "--filter", filter]).await.ok();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("name=dat").await, ["data"]);
    assert_eq!(names("label=a").await, ["ram"]);
    assert_eq!(names("driver=other").await, [""; 0]);
    assert_eq!(names("dangling=true").await.len(), 3);
    let wrong = host.docker(&["volume", "ls", "--filter", "colour=red"]).await;
    assert!(wrong.code == 1 && wrong.err.contains("invalid filter"), "{wrong:?}");

    let mut spec = ContainerSpec::default();
    spec.mounts.push(MountSpec::volume(Some("data".parse().unwrap()), "/data"));
    let user = host.create("user", spec).await;
    let why = host.refused("DELETE", "/volumes/data?force=1", 409).await;
    assert_eq!(why, format!("remove data: volume is in use - [{}]", user.id()));
    drop(user);
    assert_eq!(names("dangling=false").await, ["data"]);

    assert_eq!(host.refused("GET", "/volumes/none", 404).await, "get none: no such volume");
    assert_eq!(host.refused("GET", "/volumes/a%2Fb", 404).await, "get a/b: no such volume");
    assert_eq!(host.refused("DELETE", "/volumes/none", 404).await, "get none: no such volume");
    assert_eq!(host.ask("DELETE", "/volumes/none?force=1").await.0, 204);
    assert_eq!(host.ask("PUT", "/volumes/data").await.0, 503);
    for (document, wanted) in [
        (r#"{"Name":"a/b"}"#, 400),
        (r#"{"Name":1}"#, 400),
        (r#"{"Name":"x","Driver":"nothing"}"#, 404),
        (r#"{"Name":"x","DriverOpts":{"colour":"red"}}"#, 400),
        (r#"{"Name":"x","ClusterVolumeSpec":{}}"#, 503),
        ("{", 400),
    ] {
        let (status, body) = host.post("/volumes/create", document).await;
        assert_eq!(status, wanted, "{document}: {body}");
    }

    // Anonymous ones by default; all where clients do not know the difference.
    let (status, body) = host.post("/v1.42/volumes/prune", "").await;
    let pruned: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &pruned["VolumesDeleted"]), (200, &json!([anonymous])), "{body}");
    host.docker(&["volume", "create", "late"]).await.ok();
    let (status, body) = host.post("/v1.41/volumes/prune?filters=%7B%22label%22:%5B%22a%22%5D%7D", "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["VolumesDeleted"], json!(["ram"]));
    host.refused("POST", "/volumes/prune?filters=%7B%22until%22:%5B%221h%22%5D%7D", 400).await;
    host.docker(&["volume", "rm", "late"]).await.ok();
    host.ask("DELETE", "/containers/user").await;
    for container in host.engine.containers().await.unwrap() {
        let container = host.engine.container(container.id.as_str()).await.unwrap();
        container.remove(engine_core::engine::RemoveOptions::default()).await.unwrap();
    }
    host.post("/volumes/prune?filters=%7B%22all%22:%5B%22true%22%5D%7D", "").await;
    host.docker(&["volume", "prune", "-f"]).await.ok();
    assert_eq!(host.get("/volumes").await["Volumes"], json!([]));
    host.finish().await;
}
