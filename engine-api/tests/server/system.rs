//! The whole: info, events, disk usage.

use std::time::Duration;

use engine_api::models::{EventMessage, SystemDataUsageResponse, SystemInfo};
use engine_core::ContainerSpec;
use engine_testkit::require;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::images::lines;
use crate::support::{Host, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn info_tells_what_the_command_line_shows() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.create("one", ContainerSpec::default()).await;
    let info = host.get("/v1.53/info").await;
    let typed: SystemInfo = serde_json::from_value(info.clone()).unwrap();
    assert_eq!((typed.containers, typed.containers_stopped, typed.images), (Some(1), Some(1), Some(1)));
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(info["Plugins"]["Volume"][0], "local");
    assert_eq!(host.get("/v1.41/info").await["ID"], info["ID"], "it stays");
    assert_eq!(info["DockerRootDir"], host.engine.local().unwrap().root().unwrap().to_str().unwrap());
    let said = host.docker(&["info"]).await.ok();
    for line in [" Containers: 1", " Images: 1", " Logging Driver: json-file", " Swarm: inactive"] {
        assert!(said.lines().any(|shown| shown == line), "{line} in {said}");
    }
    let said = host.docker(&["info", "-f", "{{.CgroupVersion}} {{.OSType}}"]).await.ok();
    assert!(matches!(said.trim(), "1 linux" | "2 linux"), "{said}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_as_they_happen() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let mut stream = host.connect().await;
    let head =
        "GET /v1.51/events?filters=%7B%22type%22%3A%5B%22image%22%5D%7D HTTP/1.1\r\nHost: docker\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut until = async |wanted: &str| {
        tokio::time::timeout(PATIENCE, async {
            while !seen.contains(wanted) {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "it ended: {seen}");
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        })
        .await
        .expect("it is told");
        seen.clone()
    };
    // The head comes before there is anything to tell.
    let seen = until("\r\n\r\n").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK") && seen.contains("application/json"), "{seen}");
    host.docker(&["volume", "create", "data"]).await.ok();
    host.docker(&["tag", "busybox", "app:1"]).await.ok();
    let seen = until("\"Action\":\"tag\"").await;
    assert!(
        seen.contains("\"status\":\"tag\"") && seen.contains("app:1") && !seen.contains("data"),
        "{seen}"
    );
    host.docker(&["volume", "rm", "data"]).await.ok();

    let path = |version: &str, rest: &str| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        format!(
            "/v{version}/events?since=1&until={}.000000001{rest}",
            (now + Duration::from_secs(1)).as_secs()
        )
    };
    let (status, body) = host.ask("GET", &path("1.53", "")).await;
    let events = lines(&body);
    assert_eq!(status, 200);
    let typed: EventMessage = serde_json::from_value(events[0].clone()).unwrap();
    assert!(typed.action.is_some() && typed.time_nano.is_some());
    let tag = events.iter().find(|event| event["Action"] == "tag").unwrap();
    assert_eq!((&tag["Type"], &tag["scope"]), (&"image".into(), &"local".into()));
    assert_eq!(tag["Actor"]["Attributes"]["name"], "app:1");
    assert!(tag.get("status").is_none() && tag["timeNano"].is_u64() && tag["time"].is_u64());
    let volumes = "&filters=%7B%22volume%22:%5B%22data%22%5D,%22event%22:%7B%22create%22:true%7D%7D";
    let (_, body) = host.ask("GET", &path("1.51", volumes)).await;
    let events = lines(&body);
    assert!(
        matches!(&events[..], [one] if one["Actor"]["ID"] == "data" && one.get("status").is_none()),
        "{body}"
    );
    let (_, body) = host.ask("GET", &path("1.51", "&filters=%7B%22scope%22:%5B%22swarm%22%5D%7D")).await;
    assert_eq!(body, "");
    for wrong in ["since=x", "until=-1", "since=20&until=10", "filters=%7B%22colour%22:%5B%22x%22%5D%7D"] {
        host.refused("GET", &format!("/events?{wrong}"), 400).await;
    }
    let said = host
        .docker(&["events", "--since", "1h", "--until", "0s", "--format", "{{.Type}} {{.Action}}"])
        .await
        .ok();
    assert!(said.lines().any(|line| line == "image tag"), "{said}");
    host.finish().await;
}
#[tokio::test(flavor = "multi_thread")]
async fn disk_usage_has_the_shape_of_its_version() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.create("one", ContainerSpec::default()).await;
    host.docker(&["volume", "create", "data"]).await.ok();
    let old = host.get("/v1.51/system/df").await;
    for (key, length) in [("Images", 1), ("Containers", 1), ("Volumes", 1), ("BuildCache", 0)] {
        assert_eq!(old[key].as_array().unwrap().len(), length, "{key}: {old}");
    }
    assert!(old["LayersSize"].as_u64().unwrap() > 0 && old.get("ImageUsage").is_none());
    assert_eq!(old["Volumes"][0]["UsageData"]["RefCount"], 0);
    assert_eq!(old["Images"][0]["Containers"], 1);
    assert!(old["Containers"][0]["SizeRw"].is_u64() && old["Containers"][0]["Names"][0] == "/one");
    let new = host.get("/v1.53/system/df?verbose=1").await;
    assert_eq!(new["ImageUsage"]["Items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&new["VolumeUsage"]["TotalCount"], &new["VolumeUsage"]["ActiveCount"]),
        (&1.into(), &0.into())
    );
    assert!(new.get("Images").is_none());
    let typed: SystemDataUsageResponse = serde_json::from_value(new).unwrap();
    assert_eq!(typed.container_usage.unwrap().total_count, Some(1));
    let sums = host.get("/v1.53/system/df?verbose=0&type=container").await;
    assert_eq!(sums["ContainerUsage"]["TotalCount"], 1);
    assert!(sums["ContainerUsage"].get("Items").is_none() && sums.get("ImageUsage").is_none());
    host.refused("GET", "/system/df?type=x", 400).await;
    host.refused("GET", "/v1.53/system/df?verbose=x", 400).await;
    let said = host.docker(&["system", "df"]).await.ok();
    assert!(said.lines().any(|line| line.starts_with("Images") && line.contains(" 1 ")), "{said}");
    host.docker(&["system", "df", "-v"]).await.ok();
    let (status, body) = host.post("/build/prune", "").await;
    assert_eq!(
        (status, serde_json::from_str::<Value>(&body).unwrap()["SpaceReclaimed"].clone()),
        (200, 0.into())
    );
    host.docker(&["volume", "rm", "data"]).await.ok();
    host.finish().await;
}
