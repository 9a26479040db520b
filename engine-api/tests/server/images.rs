//! Images: list, inspect, history, tag, remove, save, load, import, commit, prune.

use engine_api::models::{ImageHistoryResponseItem, ImageInspect, ImageSummary};
use engine_core::ContainerSpec;
use engine_testkit::{image, require};
use serde_json::Value;

use crate::support::Host;

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// The documents of a stream of lines.
pub(crate) fn lines(body: &str) -> Vec<Value> {
    body.lines().filter(|line| !line.trim().is_empty()).map(json).collect()
}

impl Host {
    /// Asks for a document.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path).await;
        assert_eq!(status, 200, "{path}: {body}");
        json(&body)
    }

    /// Asks for what is refused, and returns why.
    pub(crate) async fn refused(&self, method: &str, path: &str, status: u16) -> String {
        let (got, body) = match method {
            "POST" => self.post(path, "").await,
            _ => self.ask(method, path).await,
        };
        assert_eq!(got, status, "{method} {path}: {body}");
        json(&body)["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_and_filtered() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.docker(&["tag", "busybox", "registry.example/team/app:1.0"]).await.ok();
    let shown = host.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).await.ok();
    let mut shown: Vec<_> = shown.lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, ["busybox:latest", "registry.example/team/app:1.0"]);
    let list = host.get("/v1.53/images/json?digests=1&shared-size=1&manifests=1").await;
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list[0]["RepoTags"].as_array().unwrap().len(), 2);
    assert_eq!(list[0]["Descriptor"]["digest"].as_str().unwrap().len(), 71);
    assert_eq!(list[0]["Containers"], 0);
    assert!(list[0]["SharedSize"].as_i64().unwrap() >= 0);
    assert_eq!(list[0]["Manifests"][0]["Available"], true);
    let typed: Vec<ImageSummary> = serde_json::from_value(list).unwrap();
    assert_eq!(typed[0].repo_digests.len(), 2);
    let old = host.get("/v1.41/images/json").await;
    assert_eq!((&old[0]["Containers"], &old[0]["SharedSize"]), (&(-1).into(), &(-1).into()));
    assert_eq!(old[0]["VirtualSize"], old[0]["Size"]);
    assert!(old[0].get("Descriptor").is_none());

    let count = async |filter: &str| {
        let said = host.docker(&["images", "-q", "--filter", filter]).await.ok();
        said.lines().count()
    };
    assert_eq!(count("reference=busy*").await, 1);
    assert_eq!(count("reference=registry.example/*/app").await, 1);
    assert_eq!(count("reference=nothing").await, 0);
    assert_eq!(count("dangling=true").await, 0);
    assert_eq!(count("label=nothing").await, 0);
    assert_eq!(count("before=busybox").await, 0);
    let some = host.docker(&["images", "registry.example/team/app", "--format", "{{.Tag}}"]).await.ok();
    assert_eq!(some.trim(), "1.0");
    assert_eq!(
        host.refused("GET", "/images/json?filters=%7B%22colour%22:%5B%22red%22%5D%7D", 400).await,
        "invalid filter 'colour'"
    );
    assert_eq!(
        host.refused("GET", "/images/json?filters=%7B%22before%22:%5B%22none%22%5D%7D", 404).await,
        "No such image: none:latest"
    );
    host.refused("GET", "/images/json?filters=%7B%22dangling%22:%5B%22maybe%22%5D%7D", 400).await;
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_inspected_in_each_version() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let new = host.get("/v1.53/images/busybox/json?manifests=1").await;
    let old = host.get("/v1.41/images/busybox:latest/json").await;
    assert_eq!(new["Id"], old["Id"]);
    assert_eq!(new["RepoTags"][0], "busybox:latest");
    assert_eq!(new["Os"], "linux");
    assert_eq!(new["RootFS"]["Type"], "layers");
    assert!(new["Descriptor"].is_object() && old.get("Descriptor").is_none());
    assert_eq!(new["Manifests"][0]["Kind"], "image");
    assert_eq!(old["VirtualSize"], old["Size"]);
    assert_eq!((&old["Parent"], &old["DockerVersion"]), (&"".into(), &"".into()));
    assert!(new.get("Parent").is_none() && new.get("VirtualSize").is_none());
    assert!(old["GraphDriver"]["Name"].is_string() && old["Metadata"]["LastTagTime"].is_string());
    let id = new["Id"].as_str().unwrap();
    for name in [id, &id[7..19], &id.replace(':', "%3A")] {
        assert_eq!(host.get(&format!("/images/{name}/json")).await["Id"], new["Id"], "{name}");
    }
    let said = host.docker(&["image", "inspect", "busybox", "-f", "{{.Id}} {{.Architecture}}"]).await.ok();
    assert_eq!(said.trim(), format!("{id} {}", image::host_architecture()));
    let history = host.get("/images/busybox/history").await;
    assert_eq!(history[0]["Id"], new["Id"]);
    let typed: Vec<ImageHistoryResponseItem> = serde_json::from_value(history).unwrap();
    assert_eq!(typed[0].tags, ["busybox:latest"]);
    let typed: ImageInspect = serde_json::from_value(new.clone()).unwrap();
    assert_eq!(typed.repo_tags, Some(vec!["busybox:latest".to_owned()]));
    assert!(host.docker(&["history", "busybox"]).await.ok().lines().count() >= 2);

    assert_eq!(host.refused("GET", "/images/none/json", 404).await, "No such image: none:latest");
    assert_eq!(
        host.refused("GET", "/v1.47/images/r.example/a/b:1/json", 404).await,
        "No such image: r.example/a/b:1"
    );
    host.refused("GET", "/images/none/history", 404).await;
    let why = host.refused("GET", "/images/UPPER/json", 400).await;
    assert!(why.contains("invalid reference format"), "{why}");
    host.refused("GET", "/v1.53/images/busybox/json?platform=a/b/c/d", 400).await;
    host.refused("GET", "/v1.53/images/busybox/json?platform=linux/s390x", 404).await;
    host.refused("GET", "/images/busybox/nothing", 404).await;
    let gone = host.docker(&["inspect", "--type", "image", "none"]).await;
    assert!(gone.code == 1 && gone.err.contains("No such image"), "{gone:?}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_tagged_and_removed_in_dockers_words() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    host.docker(&["tag", "busybox", "app:2"]).await.ok();
    assert_eq!(host.post("/images/busybox/tag?repo=r.example:5000/x/y&tag=3", "").await.0, 201);
    host.refused("POST", "/images/none/tag?repo=a&tag=b", 404).await;
    host.refused("POST", "/images/busybox/tag?repo=A&tag=b", 400).await;
    host.refused("POST", "/images/busybox/tag?repo=a&tag=-b", 400).await;
    host.refused("POST", "/images/busybox/tag?tag=b", 400).await;
    host.refused("POST", "/images/busybox/tag?repo=sha256&tag=b", 400).await;

    let id = host.get("/images/busybox/json").await["Id"].as_str().unwrap().to_owned();
    let why = host.refused("DELETE", &format!("/images/{id}"), 409).await;
    let short = &id[7..19];
    assert_eq!(
        why,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    let said = host.docker(&["rmi", "app:2"]).await.ok();
    assert_eq!(said.trim(), "Untagged: app:2");
    let (status, body) = host.ask("DELETE", "/images/r.example:5000/x/y:3").await;
    assert_eq!((status, json(&body)), (200, serde_json::json!([{ "Untagged": "r.example:5000/x/y:3" }])));

    let container = host.engine.create("busybox", ContainerSpec::default()).await.unwrap();
    let user = container.id().short();
    assert_eq!(
        host.refused("DELETE", "/images/busybox", 409).await,
        format!(
            "conflict: unable to remove repository reference \"busybox\" (must force) - container {user} is using its referenced image {short}"
        )
    );
    assert_eq!(
        host.refused("DELETE", &format!("/images/{short}"), 409).await,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {user}"
        )
    );
    container.remove(engine_core::engine::RemoveOptions::default()).await.unwrap();
    drop(container);
    let said = host.docker(&["rmi", "busybox"]).await.ok();
    assert!(said.starts_with(&format!("Untagged: busybox:latest\nDeleted: {id}\n")), "{said}");
    assert_eq!(host.refused("DELETE", "/images/busybox?force=1", 404).await, "No such image: busybox:latest");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_travel_as_archives() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let id = host.get("/images/busybox/json").await["Id"].clone();
    let (one, two) = (host.path("one.tar"), host.path("two.tar"));
    host.docker(&["tag", "busybox", "r.example/other:1"]).await.ok();
    host.docker(&["save", "-o", one.to_str().unwrap(), "busybox"]).await.ok();
    host.docker(&["save", "-o", two.to_str().unwrap(), "busybox", "r.example/other:1"]).await.ok();
    let missing = host.docker(&["save", "-o", host.path("none").to_str().unwrap(), "none"]).await;
    assert!(missing.code == 1 && missing.err.contains("No such image: none"), "{missing:?}");
    assert!(host.refused("GET", "/images/get?names=busybox&names=none", 404).await.contains("none:latest"));
    host.refused("GET", "/images/get", 400).await;

    host.docker(&["rmi", "busybox", "r.example/other:1"]).await.ok();
    let said = host.docker(&["load", "-i", two.to_str().unwrap()]).await.ok();
    let mut said: Vec<_> = said.lines().collect();
    said.sort_unstable();
    assert_eq!(said, ["Loaded image: busybox:latest", "Loaded image: r.example/other:1"]);
    assert_eq!(host.get("/images/r.example/other:1/json").await["Id"], id);
    let said = host.docker_with(&["load"], &std::fs::read(&one).unwrap()).await.ok();
    assert_eq!(said.trim(), "Loaded image: busybox:latest");

    // No archive, and one that breaks off.
    for bad in [&b"nothing of the kind"[..], &std::fs::read(&one).unwrap()[..2000]] {
        let said = host.docker_with(&["load"], bad).await;
        assert!(said.code == 1 && !said.err.is_empty(), "{said:?}");
    }
    for file in [one, two] {
        std::fs::remove_file(file).unwrap();
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_files_becomes_an_image() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let tar = image::busybox_layer().build();
    let args = ["import", "-c", "CMD [\"sh\"]", "-c", "ENV A=1 B=2", "-m", "made here", "-", "imported:1"];
    let id = host.docker_with(&args, &tar).await.ok();
    let shown = host.get("/images/imported:1/json").await;
    assert_eq!(shown["Id"], id.trim());
    assert_eq!(shown["Config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(shown["Config"]["Env"], serde_json::json!(["A=1", "B=2"]));
    assert_eq!(host.get("/images/imported:1/history").await[0]["Comment"], "made here");
    let nameless = host.docker_with(&["import", "-"], &tar).await.ok();
    assert_eq!(
        host.get(&format!("/images/{}/json", nameless.trim())).await["RepoTags"],
        serde_json::json!([])
    );
    let old = host.get("/v1.41/images/json?filters=%7B%22dangling%22:%7B%22true%22:true%7D%7D").await;
    assert_eq!(old[0]["RepoTags"][0], "<none>:<none>");

    let wrong = host.docker_with(&["import", "-c", "FROM x", "-"], &tar).await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    host.refused("POST", "/images/create?fromSrc=http://127.0.0.1/x.tar", 501).await;
    host.refused("POST", "/images/create", 400).await;
    host.refused("POST", "/images/create?fromSrc=-&repo=UPPER", 400).await;

    // What has no name goes, what has one stays.
    let said = host.docker(&["image", "prune", "-f"]).await.ok();
    assert!(said.contains(&format!("deleted: {}", nameless.trim())), "{said}");
    let until = "/images/prune?filters=%7B%22dangling%22:%5B%22false%22%5D,%22until%22:%5B%2224h%22%5D%7D";
    let (status, body) = host.post(until, "").await;
    assert_eq!((status, json(&body)["ImagesDeleted"].is_null()), (200, false), "{body}");
    assert!(host.get("/images/imported:1/json").await["Id"].is_string(), "it is younger");
    host.refused("POST", "/images/prune?filters=%7B%22until%22:%5B%22never%22%5D%7D", 400).await;
    host.refused("POST", "/images/prune?filters=%7B%22colour%22:%5B%22x%22%5D%7D", 400).await;
    let said = host.docker(&["image", "prune", "-af"]).await.ok();
    assert!(said.contains("untagged: imported:1") && said.contains("Total reclaimed space"), "{said}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_becomes_an_image() {
    require!(root, overlayfs, "docker");
    let host = Host::new().await;
    let spec = ContainerSpec::default().with_command(["sh", "-c", "echo kept > /kept"]);
    let container = host.engine.create("busybox", spec).await.unwrap();
    container.run().await.unwrap();
    let name = container.inspect().await.unwrap().name.to_string();
    let id = host
        .docker(&["commit", "-a", "me", "-m", "why", "-c", "ENV C=3", "-c", "LABEL x=y", &name, "made:1"])
        .await
        .ok();
    let shown = host.get("/v1.51/images/made:1/json").await;
    assert_eq!(
        (&shown["Id"], &shown["Author"], &shown["Comment"]),
        (&id.trim().into(), &"me".into(), &"why".into())
    );
    assert_eq!(shown["Config"]["Labels"]["x"], "y");
    let path = format!("/commit?container={name}&repo=made&tag=2&changes=CMD+%5B%22a%22%5D%0AUSER+web");
    let (status, body) =
        host.post(&path, r#"{"Env":["D=4"],"Labels":{"k":"v"},"WorkingDir":"/srv","Tty":null}"#).await;
    assert_eq!(status, 201, "{body}");
    let config = host.get("/images/made:2/json").await["Config"].clone();
    assert_eq!((&config["Cmd"][0], &config["User"]), (&"a".into(), &"web".into()));
    assert_eq!((&config["WorkingDir"], &config["Labels"]["k"]), (&"/srv".into(), &"v".into()));
    assert!(config["Env"].as_array().unwrap().contains(&"D=4".into()), "{config}");

    assert_eq!(host.refused("POST", "/commit?container=none", 404).await, "No such container: none");
    host.refused("POST", "/commit", 400).await;
    host.refused("POST", &format!("/commit?container={name}&repo=UPPER"), 400).await;
    host.refused("POST", &format!("/commit?container={name}&changes=FROM+x"), 400).await;
    assert_eq!(host.post(&format!("/commit?container={name}"), r#"{"Env":1}"#).await.0, 400);
    assert_eq!(host.post(&format!("/commit?container={name}"), "{").await.0, 400);
    drop(container);
    host.finish().await;
}
