//! Networks: list, inspect, create, connect, disconnect, remove, prune. They are records here: no packet moves.

use engine_api::models::{Network, NetworkInspect};
use engine_core::ContainerSpec;
use engine_core::memory::MemoryNetwork;
use engine_testkit::require;
use serde_json::json;

use crate::support::Host;

async fn host() -> Host {
    Host::with(|builder| builder.network(MemoryNetwork::new()).default_network("bridge".parse().unwrap()))
        .await
}

fn filters(text: &str) -> String {
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/networks?filters={encoded}")
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_made_listed_and_shown() {
    require!(root, overlayfs, "docker");
    let host = host().await;
    let shown = host.docker(&["network", "ls", "--format", "{{.Name}} {{.Scope}}"]).await.ok();
    assert_eq!(shown, "bridge local\nhost local\nnone local\n");
    let args = [
        "network",
        "create",
        "-d",
        "memory",
        "--subnet",
        "10.9.0.0/16",
        "--gateway",
        "10.9.0.254",
        "--ip-range",
        "10.9.4.0/24",
        "--label",
        "a=b",
        "--internal",
        "-o",
        "k=v",
        "lan",
    ];
    let id = host.docker(&args).await.ok();
    let id = id.trim();
    let lan = host.get("/v1.53/networks/lan").await;
    assert_eq!((&lan["Id"], &lan["Driver"], &lan["Scope"]), (&id.into(), &"memory".into(), &"local".into()));
    assert_eq!(
        lan["IPAM"]["Config"],
        json!([{ "Subnet": "10.9.0.0/16", "IPRange": "10.9.4.0/24", "Gateway": "10.9.0.254" }])
    );
    assert_eq!(
        (&lan["Internal"], &lan["EnableIPv4"], &lan["Ingress"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert_eq!((&lan["Labels"], &lan["Options"]["k"]), (&json!({ "a": "b" }), &"v".into()));
    assert!(host.get("/v1.47/networks/lan").await.get("EnableIPv4").is_none());
    for name in [id, &id[..12]] {
        assert_eq!(host.get(&format!("/networks/{name}")).await["Name"], "lan");
    }
    let typed: Vec<Network> = serde_json::from_value(host.get("/networks").await).unwrap();
    assert_eq!(typed.len(), 4);
    let typed: NetworkInspect = serde_json::from_value(lan).unwrap();
    assert_eq!(typed.id.as_deref(), Some(id));
    let said = host.docker(&["network", "inspect", "lan", "-f", "{{.Name}}"]).await.ok();
    assert_eq!(said.trim(), "lan");

    let count = async |text: &str| host.get(&filters(text)).await.as_array().unwrap().len();
    assert_eq!(count(r#"{"driver":["memory"]}"#).await, 2);
    assert_eq!(count(r#"{"label":["a=b"]}"#).await, 1);
    assert_eq!(count(r#"{"label":{"a=c":true}}"#).await, 0);
    assert_eq!(count(r#"{"name":["la"]}"#).await, 1);
    assert_eq!(count(&format!(r#"{{"id":["{}"]}}"#, &id[..5])).await, 1);
    assert_eq!(count(r#"{"type":["custom"]}"#).await, 1);
    assert_eq!(count(r#"{"type":["builtin"],"scope":["local"]}"#).await, 3);
    assert_eq!(count(r#"{"dangling":["true"]}"#).await, 1);
    assert_eq!(count(r#"{"scope":["swarm"]}"#).await, 0);
    for wrong in
        [r#"{"type":["x"]}"#, r#"{"scope":["x"]}"#, r#"{"colour":["x"]}"#, r#"{"dangling":["x"]}"#, "["]
    {
        host.refused("GET", &filters(wrong), 400).await;
    }
    assert_eq!(host.refused("GET", "/networks/none-such", 404).await, "network none-such not found");
    host.refused("GET", "/networks/lan?scope=swarm", 404).await;
    host.refused("GET", "/networks/lan?verbose=x", 400).await;

    let create = async |document: &str| host.post("/networks/create", document).await;
    let (status, body) = create(r#"{"Name":"lan","CheckDuplicate":true}"#).await;
    assert!(status == 409 && body.contains("network with name lan already exists"), "{status} {body}");
    let (status, body) = create(r#"{"Name":"other","IPAM":{"Config":[{"Subnet":"10.9.9.0/24"}]}}"#).await;
    assert!(status == 403 && body.contains("Pool overlaps with other one"), "{status} {body}");
    for (document, wanted) in [
        (r#"{"Name":"host"}"#, 403),
        (r#"{"Name":"bridge"}"#, 403),
        (r#"{"Name":""}"#, 400),
        (r#"{"Name":"a/b"}"#, 400),
        (r#"{"Name":1}"#, 400),
        ("{}", 400),
        ("", 400),
        ("[", 400),
        (r#"{"Name":"xx","Driver":"nothing"}"#, 404),
        (r#"{"Name":"xx","Ingress":true}"#, 501),
        (r#"{"Name":"xx","IPAM":{"Config":[{"Subnet":"x"}]}}"#, 400),
    ] {
        let (status, body) = create(document).await;
        assert_eq!(status, wanted, "{document}: {body}");
    }
    let (status, body) =
        create(r#"{"Name":"plain","Driver":"default","Options":null,"IPAM":{"Config":[{}]}}"#).await;
    assert!(status == 201 && body.contains("\"Warning\":\"\""), "{status} {body}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_come_and_go() {
    require!(root, overlayfs, "docker");
    let host = host().await;
    host.docker(&["network", "create", "-d", "memory", "--subnet", "10.9.0.0/16", "lan"]).await.ok();
    let spec = ContainerSpec::default().with_command(["sleep", "60"]);
    let web = host.start("web", spec).await;
    host.docker(&["network", "connect", "--ip", "10.9.0.7", "--alias", "www", "lan", "web"]).await.ok();
    let lan = host.get("/networks/lan").await;
    let endpoint = &lan["Containers"][web.id().as_str()];
    assert_eq!((&endpoint["Name"], &endpoint["IPv4Address"]), (&"web".into(), &"10.9.0.7/16".into()));
    let listed = host.get("/networks").await;
    assert!(listed.as_array().unwrap().iter().all(|network| network["Containers"] == json!({})));

    let connect = async |network: &str, document: &str| {
        host.post(&format!("/networks/{network}/connect"), document).await
    };
    let (status, body) = connect("lan", r#"{"Container":"web"}"#).await;
    assert!(status == 403 && body.contains("already exists in network lan"), "{status} {body}");
    for (network, document, wanted) in [
        ("none-such", r#"{"Container":"web"}"#, 404),
        ("lan", r#"{"Container":"none-such"}"#, 404),
        ("lan", r#"{"Container":"web","EndpointConfig":{"IPAMConfig":{"IPv4Address":"x"}}}"#, 400),
        ("lan", r#"{"Container":"web","EndpointConfig":{"MacAddress":"x"}}"#, 400),
        ("lan", r#"{"Container":1}"#, 400),
        ("lan", "{}", 400),
        ("host", r#"{"Container":"web"}"#, 400),
    ] {
        let (status, body) = connect(network, document).await;
        assert_eq!(status, wanted, "{network} {document}: {body}");
    }
    let why = host.refused("DELETE", "/networks/lan", 403).await;
    let id = web.id().short();
    assert_eq!(
        why,
        format!("error while removing network: network lan has active endpoints (name:\"web\" id:\"{id}\")")
    );
    host.docker(&["network", "disconnect", "lan", "web"]).await.ok();
    let again = host.post("/networks/lan/disconnect", r#"{"Container":"web"}"#).await;
    assert!(again.0 == 403 && again.1.contains("is not connected to network lan"), "{again:?}");
    assert_eq!(host.post("/networks/lan/disconnect", r#"{"Container":"none"}"#).await.0, 404);
    host.docker(&["network", "rm", "lan"]).await.ok();
    let gone = host.docker(&["network", "rm", "lan"]).await;
    assert_eq!(gone.code, 1, "{gone:?}");
    assert_eq!(host.refused("DELETE", "/networks/lan", 404).await, "network lan not found");
    assert_eq!(
        host.refused("DELETE", "/networks/host", 403).await,
        "host is a pre-defined network and cannot be removed"
    );

    host.docker(&["network", "create", "-d", "memory", "--label", "keep", "kept"]).await.ok();
    host.docker(&["network", "create", "-d", "memory", "idle"]).await.ok();
    let said = host.docker(&["network", "prune", "-f", "--filter", "label!=keep"]).await.ok();
    assert_eq!(said.trim(), "Deleted Networks:\nidle");
    host.refused("POST", "/networks/prune?filters=%7B%22until%22:%5B%22x%22%5D%7D", 400).await;
    assert!(host.docker(&["network", "prune", "-f"]).await.ok().contains("kept"));
    let (status, body) = host.post("/networks/prune", "").await;
    assert_eq!((status, body.trim()), (200, r#"{"NetworksDeleted":null}"#));
    assert_eq!(host.get("/networks").await.as_array().unwrap().len(), 3, "the default one stays");
    drop(web);
    host.finish().await;
}
