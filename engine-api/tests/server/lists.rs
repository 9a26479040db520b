//! `GET /containers/json`.

use engine_testkit::require;
use serde_json::{Value, json};

use crate::support::Host;

async fn names(host: &Host, args: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["ps", "--format", "{{.Names}}"].iter().chain(args).copied().collect();
    host.docker(&args).await.ok().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_filters_ask_for() {
    require!(root, overlayfs);
    let host = Host::new().await;
    host.docker(&["run", "--name", "first", "--label", "tier=web", "busybox", "sh", "-c", "exit 3"]).await;
    host.docker(&[
        "create", "--name", "second", "--label", "tier=db", "-v", "data:/d", "--expose", "80", "busybox",
    ])
    .await
    .ok();
    let id = host.docker(&["run", "-d", "--name", "third", "busybox", "sleep", "1000"]).await.ok();
    let short = &id[..12];
    for (args, expected) in [
        (&[][..], &["third"][..]),
        (&["-a"], &["third", "second", "first"]),
        (&["-n", "2"], &["third", "second"]),
        (&["-l"], &["third"]),
        (&["-a", "-f", "name=s"], &["second", "first"]),
        (&["-a", "-f", "name=^/s"], &["second"]),
        (&["-a", "-f", "name=first", "-f", "name=third"], &["third", "first"]),
        (&["-a", "-f", "id", "x"], &[]),
        (&["-a", "-f", "label=tier"], &["second", "first"]),
        (&["-a", "-f", "label=tier=db"], &["second"]),
        (&["-a", "-f", "label=tier", "-f", "label=other"], &[]),
        (&["-f", "status=exited"], &["first"]),
        (&["-f", "status=created", "-f", "status=running"], &["third", "second"]),
        (&["-a", "-f", "exited=3"], &["first"]),
        (&["-a", "-f", "exited=0"], &[]),
        (&["-a", "-f", "ancestor=busybox"], &["third", "second", "first"]),
        (&["-a", "-f", "ancestor=other"], &[]),
        (&["-a", "-f", "before=second"], &["first"]),
        (&["-a", "-f", "since=second"], &["third"]),
        (&["-a", "-f", "volume=data"], &["second"]),
        (&["-a", "-f", "volume=/d"], &["second"]),
        (&["-a", "-f", "expose=80"], &["second"]),
        (&["-a", "-f", "publish=80"], &[]),
        (&["-a", "-f", "health=none"], &["third", "second", "first"]),
        (&["-a", "-f", "health=healthy"], &[]),
        (&["-a", "-f", "is-task=true"], &[]),
    ] {
        if args.contains(&"x") {
            let filter = format!("id={short}");
            assert_eq!(names(&host, &["-f", &filter]).await, ["third"]);
            continue;
        }
        assert_eq!(names(&host, args).await, expected, "{args:?}");
    }
    for (filters, status, words) in [
        (r#"{"colour":["red"]}"#, 400, "colour"),
        (r#"{"status":["happy"]}"#, 400, "status=happy"),
        (r#"{"health":["happy"]}"#, 400, "health=happy"),
        (r#"{"exited":["x"]}"#, 400, "exited=x"),
        (r#"{"publish":["x"]}"#, 400, "publish=x"),
        (r#"{"before":["nobody"]}"#, 404, "No such container: nobody"),
        ("[]", 400, "invalid filters"),
    ] {
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (got, body) = host.ask("GET", &format!("/containers/json?filters={encoded}")).await;
        assert!(got == status && body.contains(words), "{filters}: {got} {body}");
    }
    let (status, body) = host.ask("GET", "/containers/json?limit=x").await;
    assert!(status == 400 && body.contains("limit"), "{status} {body}");
    host.docker(&["rm", "-f", "second"]).await.ok();
    host.engine.remove_volume(&"data".parse().unwrap()).await.unwrap();
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_have_dockers_fields() {
    require!(root, overlayfs);
    let host = Host::new().await;
    host.docker(&["run", "-d", "--name", "web", "--label", "a=b", "busybox", "sh", "-c", "sleep 1000"])
        .await
        .ok();
    let (status, body) = host.ask("GET", "/v1.47/containers/json?size=1").await;
    assert_eq!(status, 200, "{body}");
    let list: Value = serde_json::from_str(&body).unwrap();
    let web = &list[0];
    assert_eq!(web["Names"], json!(["/web"]));
    assert_eq!(web["Image"], "busybox");
    assert!(web["ImageID"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(web["Command"], "sh -c 'sleep 1000'");
    assert_eq!((&web["State"], &web["Ports"]), (&json!("running"), &json!([])));
    assert!(web["Status"].as_str().unwrap().starts_with("Up "));
    assert_eq!((&web["Labels"]["a"], &web["HostConfig"]["NetworkMode"]), (&json!("b"), &json!("default")));
    assert!(web["Created"].as_i64().unwrap() > 1_600_000_000);
    assert!(web["SizeRootFs"].as_i64().unwrap() > web["SizeRw"].as_i64().unwrap());
    let table = host.docker(&["ps", "-s"]).await.ok();
    assert!(table.contains("\"sh -c 'sleep 1000'\"") && table.contains("virtual"), "{table}");
    let (_, body) = host.ask("GET", "/v1.47/containers/json").await;
    assert!(!body.contains("SizeRw"), "{body}");
    host.finish().await;
}
