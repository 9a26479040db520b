//! `POST /containers/create`, by the real command line and by documents.

use engine_testkit::require;
use serde_json::{Value, json};

use crate::support::Host;

/// What a container is shown as.
async fn shown(host: &Host, name: &str) -> Value {
    let (status, body) = host.ask("GET", &format!("/v1.47/containers/{name}/json")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_with_the_codes_of_docker() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let run = async |args: &[&str]| {
        let args: Vec<&str> = ["run", "--rm"].iter().chain(args).copied().collect();
        host.docker(&args).await
    };
    let said = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (3, "out\n", "err\n"));
    assert_eq!(run(&["busybox", "true"]).await.code, 0);
    let said = run(&["busybox", "no-such-command"]).await;
    assert!(said.code == 127 && said.err.contains("executable file not found in $PATH"), "{said:?}");
    let said = run(&["busybox", "/etc"]).await;
    assert_eq!(said.code, 126, "{said:?}");
    let said = run(&["--memory", "1k", "busybox", "true"]).await;
    assert_eq!(said.code, 125, "{said:?}");
    let said = run(&["--network", "container:nobody", "busybox", "true"]).await;
    assert_eq!(said.code, 125, "{said:?}");
    let said =
        run(&["-e", "A=b c", "-w", "/tmp", "-u", "7:8", "busybox", "sh", "-c", "echo $A; pwd; id -u"]).await;
    assert_eq!(said.ok(), "b c\n/tmp\n7\n");
    assert_eq!(host.docker(&["ps", "-aq"]).await.ok(), "");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_of_the_command_line_reach_the_container() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let dir = host.path("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "content\n").unwrap();
    let bind = format!("{}:/in:ro", dir.display());
    let mount = format!("type=bind,source={},target=/more", dir.display());
    let id = host
        .docker(&[
            "create",
            "--name",
            "all",
            "-v",
            &bind,
            "--mount",
            &mount,
            "-v",
            "data:/data",
            "-v",
            "/anonymous",
            "--tmpfs",
            "/fast:size=64k",
            "--memory",
            "64m",
            "--cpu-shares",
            "512",
            "--pids-limit",
            "50",
            "--restart",
            "on-failure:3",
            "--label",
            "a=b",
            "--stop-signal",
            "SIGINT",
            "--stop-timeout",
            "7",
            "--cap-add",
            "NET_ADMIN",
            "--cap-drop",
            "CHOWN",
            "--ulimit",
            "nofile=100:200",
            "--hostname",
            "box",
            "--expose",
            "81",
            "-p",
            "127.0.0.1:8080:80",
            "--log-opt",
            "max-size=1m",
            "--health-cmd",
            "true",
            "--health-interval",
            "5s",
            "--init",
            "--read-only",
            "--add-host",
            "other:10.0.0.1",
            "--dns",
            "10.0.0.2",
            "--group-add",
            "20",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "--oom-score-adj",
            "100",
            "--shm-size",
            "1m",
            "busybox",
            "sh",
            "-c",
            "cat /in/file",
        ])
        .await
        .ok();
    let all = shown(&host, "all").await;
    assert_eq!(all["Id"], id.trim());
    assert_eq!(all["Config"]["Cmd"], json!(["sh", "-c", "cat /in/file"]));
    assert_eq!(all["Config"]["Labels"]["a"], "b");
    assert_eq!(all["Config"]["Volumes"], json!({"/anonymous": {}}));
    assert_eq!(all["Config"]["ExposedPorts"], json!({"80/tcp": {}, "81/tcp": {}}));
    assert_eq!(all["Config"]["StopTimeout"], 7);
    assert_eq!(all["Config"]["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(all["Config"]["Healthcheck"]["Interval"], 5_000_000_000_i64);
    let wishes = &all["HostConfig"];
    let mut binds: Vec<_> =
        wishes["Binds"].as_array().unwrap().iter().map(|bind| bind.as_str().unwrap()).collect();
    // The command line has them in a map.
    binds.sort_by_key(|bind| bind.starts_with("data"));
    assert_eq!(binds, [bind.as_str(), "data:/data"]);
    assert_eq!(wishes["Mounts"][0]["Target"], "/more");
    assert!(wishes["Tmpfs"].get("/fast").is_some());
    assert_eq!((&wishes["Memory"], &wishes["CpuShares"]), (&json!(64 << 20), &json!(512)));
    assert_eq!(wishes["PidsLimit"], 50);
    assert_eq!(wishes["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    assert_eq!(wishes["PortBindings"]["80/tcp"], json!([{"HostIp": "127.0.0.1", "HostPort": "8080"}]));
    assert_eq!(wishes["ExtraHosts"], json!(["other:10.0.0.1"]));
    assert_eq!(wishes["SecurityOpt"], json!(["no-new-privileges=false"]));
    assert_eq!(wishes["NetworkMode"], "default");
    assert_eq!(wishes["LogConfig"]["Config"]["max-size"], "1048576");
    let mounts = all["Mounts"].as_array().unwrap();
    let of = |target: &str| mounts.iter().find(|mount| mount["Destination"] == target).unwrap();
    assert_eq!((&of("/in")["RW"], &of("/in")["Type"]), (&json!(false), &json!("bind")));
    assert_eq!((&of("/data")["Name"], &of("/data")["Driver"]), (&json!("data"), &json!("local")));
    assert!(std::path::Path::new(of("/data")["Source"].as_str().unwrap()).is_dir());
    assert_eq!(of("/anonymous")["Name"].as_str().unwrap().len(), 64);
    host.docker(&["rm", "-v", "all"]).await.ok();
    let left = host.engine.volumes().await.unwrap();
    assert_eq!(left.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(), ["data"]);
    host.engine.remove_volume(&"data".parse().unwrap()).await.unwrap();
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_read_as_go_reads_them() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let document = json!({
        "Image": "busybox", "Cmd": "true", "User": null, "Env": ["A=1"], "Unknown": 1,
        "ExposedPorts": {"80/tcp": null}, "Volumes": {"/v": null, "/t": {}},
        "NetworkingConfig": {"EndpointsConfig": {"default": null}},
        "HostConfig": {
            "NetworkMode": "default", "MemorySwappiness": -1, "PidsLimit": 0, "Memory": 0, "Tmpfs": {"/t": ""},
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}, "LogConfig": {"Type": "", "Config": null},
            "PortBindings": {"81/udp": null, "82": [{"HostPort": ""}]}, "ConsoleSize": [24, 80],
            "Mounts": [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 65536, "Mode": 448}}],
            "CpuCount": 3, "KernelMemory": 5, "Annotations": {"x": "y"}, "MaskedPaths": null, "Init": null,
        },
    });
    let (status, body) = host.post("/v1.47/containers/create?name=/go", &document.to_string()).await;
    assert_eq!(status, 201, "{body}");
    let made: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(made["Warnings"], json!([]));
    let go = shown(&host, "go").await;
    assert_eq!((&go["Id"], &go["Name"]), (&made["Id"], &json!("/go")));
    assert_eq!((&go["Path"], &go["Args"]), (&json!("true"), &json!([])));
    assert_eq!(go["Config"]["Volumes"], json!({"/v": {}}));
    assert_eq!(go["HostConfig"]["PortBindings"], json!({"82/tcp": [{"HostIp": "", "HostPort": ""}]}));
    let exposed = go["Config"]["ExposedPorts"].as_object().unwrap();
    assert_eq!(exposed.keys().collect::<Vec<_>>(), ["80/tcp", "81/udp", "82/tcp"]);
    assert_eq!(go["HostConfig"]["RestartPolicy"]["Name"], "no");
    assert_eq!(go["HostConfig"]["Annotations"], json!({"x": "y"}));
    assert_eq!(go["HostConfig"]["ConsoleSize"], json!([0, 0]));
    host.docker(&["rm", "-v", "go"]).await.ok();
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_taken_are_told_as_docker_does() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let (status, body) = host.post("/containers/create", r#"{"Image": "nothing"}"#).await;
    assert_eq!((status, body.as_str()), (404, "{\"message\":\"No such image: nothing:latest\"}\n"));
    let id = host.docker(&["create", "--name", "web", "busybox"]).await.ok();
    let said = host.docker(&["create", "--name", "web", "busybox"]).await;
    let words = format!(
        "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
        id.trim()
    );
    assert!(said.code != 0 && said.err.contains(&words), "{said:?}");
    // Another thing that is not there must not make clients pull the image.
    let document = r#"{"Image": "busybox", "HostConfig": {"VolumesFrom": ["nobody"]}}"#;
    let (status, body) = host.post("/containers/create", document).await;
    assert!(status == 400 && body.contains("No such container: nobody"), "{status} {body}");
    host.finish().await;
}

/// Whatever a client sends, it is told what is wrong with it, and it is not our fault.
#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_are_refused_by_field() {
    require!(root, overlayfs);
    let host = Host::new().await;
    let whole = [
        ("", "EOF"),
        ("{", "invalid JSON"),
        ("[]", "invalid JSON"),
        ("{}", "Image"),
        (r#"{"Image": 5}"#, "Image"),
        (r#"{"Image": "busybox", "Cmd": 5}"#, "Cmd"),
        (r#"{"Image": "BAD NAME"}"#, "BAD NAME"),
        (r#"{"Image": "busybox", "Env": ["=x"]}"#, "Env"),
        (r#"{"Image": "busybox", "Env": "A=b"}"#, "Env"),
        (r#"{"Image": "busybox", "WorkingDir": "tmp"}"#, "WorkingDir"),
        (r#"{"Image": "busybox", "StopSignal": "SIGFOO"}"#, "StopSignal"),
        (r#"{"Image": "busybox", "ExposedPorts": {"x": {}}}"#, "ExposedPorts"),
        (r#"{"Image": "busybox", "ExposedPorts": ["80"]}"#, "ExposedPorts"),
        (r#"{"Image": "busybox", "Healthcheck": {"Test": ["WHAT"]}}"#, "Healthcheck.Test"),
        (r#"{"Image": "busybox", "Healthcheck": {"Test": ["CMD"]}}"#, "health check"),
        (r#"{"Image": "busybox", "Healthcheck": {"Test": ["CMD", "a"], "Interval": 5}}"#, "Interval"),
        (r#"{"Image": "busybox", "Healthcheck": {"Test": ["CMD", "a"], "Retries": -5}}"#, "Retries"),
        (r#"{"Image": "busybox", "Hostname": "a b"}"#, "host name"),
        (r#"{"Image": "busybox", "Volumes": {"v": {}}}"#, "mount target"),
        (
            r#"{"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"a1": {"IPAMConfig": {"IPv4Address": "x"}}}},
               "HostConfig": {"NetworkMode": "a1"}}"#,
            "IPv4Address",
        ),
        (
            r#"{"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"a1": {"MacAddress": "x"}}},
               "HostConfig": {"NetworkMode": "a1"}}"#,
            "hardware address",
        ),
    ];
    let host_config = [
        (r#""Memory": "1g""#, "HostConfig.Memory"),
        (r#""Memory": -5"#, "HostConfig.Memory"),
        (r#""Memory": 1024"#, "6 MiB"),
        (r#""MemorySwap": -5"#, "HostConfig.MemorySwap"),
        (r#""MemorySwappiness": 101"#, "HostConfig.MemorySwappiness"),
        (r#""NanoCpus": -1"#, "HostConfig.NanoCpus"),
        (r#""NanoCpus": 99999000000000"#, "CPUs"),
        (r#""CpusetCpus": "x""#, "list of CPUs"),
        (r#""BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 5}]"#, "HostConfig.BlkioWeightDevice"),
        (r#""BlkioDeviceReadBps": [{"Path": "sda", "Rate": 5}]"#, "HostConfig.BlkioDeviceReadBps"),
        (r#""OomScoreAdj": 2000"#, "HostConfig.OomScoreAdj"),
        (r#""ShmSize": -1"#, "HostConfig.ShmSize"),
        (r#""Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 1}]"#, "HostConfig.Ulimits"),
        (r#""Ulimits": [{"Name": "nothing", "Soft": 1, "Hard": 1}]"#, "nothing"),
        (r#""RestartPolicy": {"Name": "never"}"#, "HostConfig.RestartPolicy.Name"),
        (r#""RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}"#, "HostConfig.RestartPolicy"),
        (r#""RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}"#, "HostConfig.RestartPolicy"),
        (r#""AutoRemove": true, "RestartPolicy": {"Name": "always"}"#, "AutoRemove"),
        (r#""LogConfig": {"Type": "syslog"}"#, "syslog"),
        (r#""LogConfig": {"Type": "json-file", "Config": {"max-size": "big"}}"#, "max-size"),
        (r#""LogConfig": {"Config": {"colour": "red"}}"#, "colour"),
        (r#""Binds": ["/a:/b:bogus"]"#, "/a:/b:bogus"),
        (r#""Binds": ["a/b:/c"]"#, "a/b"),
        (r#""Binds": ["./a:/c"]"#, "./a"),
        (r#""Binds": ["data:/"]"#, "mount target"),
        (r#""Binds": ["data:/a", "more:/a"]"#, "same target"),
        (r#""Mounts": [{"Type": "npipe", "Source": "/a", "Target": "/b"}]"#, "HostConfig.Mounts[0].Type"),
        (r#""Mounts": [{"Type": "what", "Source": "/a", "Target": "/b"}]"#, "HostConfig.Mounts"),
        (r#""Mounts": [{"Target": "/b"}]"#, "HostConfig.Mounts[0].Type"),
        (r#""Mounts": [{"Type": "volume"}]"#, "HostConfig.Mounts[0].Target"),
        (r#""Mounts": [{"Type": "bind", "Target": "/b"}]"#, "HostConfig.Mounts[0].Source"),
        (r#""Mounts": [{"Type": "tmpfs", "Target": "/b", "Source": "a"}]"#, "HostConfig.Mounts[0].Source"),
        (
            r#""Mounts": [{"Type": "bind", "Source": "/no/such/path", "Target": "/b"}]"#,
            "bind source path does not exist: /no/such/path",
        ),
        (
            r#""Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/b", "VolumeOptions": {"NoCopy": true}}]"#,
            "HostConfig.Mounts[0].VolumeOptions",
        ),
        (r#""Mounts": [{"Type": "volume", "Source": "a b", "Target": "/b"}]"#, "a b"),
        (
            r#""Mounts": [{"Type": "volume", "Target": "/b", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}]"#,
            "DriverConfig.Name",
        ),
        (r#""Tmpfs": {"/t": "bogus"}"#, "bogus"),
        (r#""VolumesFrom": [":ro"]"#, ":ro"),
        (r#""VolumeDriver": "nfs""#, "HostConfig.VolumeDriver"),
        (r#""PortBindings": {"x/tcp": []}"#, "HostConfig.PortBindings"),
        (r#""PortBindings": {"80/what": []}"#, "HostConfig.PortBindings"),
        (r#""PortBindings": {"80/tcp": [{"HostPort": "99999"}]}"#, "HostConfig.PortBindings"),
        (r#""PortBindings": {"80/tcp": [{"HostPort": "x"}]}"#, "HostConfig.PortBindings"),
        (r#""PortBindings": {"80/tcp": [{"HostIp": "x"}]}"#, "HostConfig.PortBindings"),
        (r#""NetworkMode": "a b""#, "HostConfig.NetworkMode"),
        (r#""NetworkMode": "host", "Links": ["a:b"]"#, "conflicting options"),
        (
            r#""NetworkMode": "container:a", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}"#,
            "conflicting options",
        ),
        (r#""NetworkMode": "container:a", "Dns": ["1.1.1.1"]"#, "conflicting options"),
        (r#""ExtraHosts": ["a"]"#, "NAME:ADDRESS"),
        (r#""Dns": ["x"]"#, "name server"),
        (r#""SecurityOpt": ["colour=red"]"#, "colour=red"),
        (r#""SecurityOpt": ["seccomp={"]"#, "seccomp"),
        (r#""CapAdd": ["FLY"]"#, "FLY"),
        (r#""PidMode": "yours""#, "HostConfig.PidMode"),
        (r#""IpcMode": "yours""#, "HostConfig.IpcMode"),
        (r#""UTSMode": "container:a""#, "HostConfig.UTSMode"),
        (r#""UsernsMode": "keep-id""#, "keep-id"),
        (r#""CgroupnsMode": "yours""#, "HostConfig.CgroupnsMode"),
        (r#""Cgroup": "container:a""#, "HostConfig.Cgroup"),
        (r#""Isolation": "hyperv""#, "HostConfig.Isolation"),
        (r#""Runtime": "kata""#, "HostConfig.Runtime"),
        (r#""StorageOpt": {"size": "1g"}"#, "HostConfig.StorageOpt"),
        (r#""MaskedPaths": ["/proc/x"]"#, "HostConfig.MaskedPaths"),
        (r#""Sysctls": {"kernel.hostname": "x"}"#, "kernel.hostname"),
        (r#""ConsoleSize": [-1, 2]"#, "HostConfig.ConsoleSize"),
        (r#""Devices": [{"PathOnHost": "null"}]"#, "HostConfig.Devices"),
        (r#""DeviceRequests": [{"Driver": "x", "Count": 1}]"#, "HostConfig.DeviceRequests"),
    ];
    let with_host = |fields: &str| format!(r#"{{"Image": "busybox", "HostConfig": {{{fields}}}}}"#);
    let all = whole
        .iter()
        .map(|(document, words)| ((*document).to_owned(), *words))
        .chain(host_config.iter().map(|(fields, words)| (with_host(fields), *words)));
    for (document, words) in all {
        let (status, body) = host.post("/v1.47/containers/create", &document).await;
        assert!(status == 400 && body.contains(words), "{document}: {status} {body}");
    }
    for (query, words) in [
        ("name=a%20b", "Invalid container name (a b)"),
        ("name=x", "Invalid container name (x)"),
        (&*format!("name={}", "x".repeat(300)), "Invalid container name"),
        ("platform=a/b/c/d", "platform"),
    ] {
        let (status, body) =
            host.post(&format!("/v1.47/containers/create?{query}"), r#"{"Image": "busybox"}"#).await;
        assert!(status == 400 && body.contains(words), "{query}: {status} {body}");
    }
    assert!(host.engine.containers().await.unwrap().is_empty());
    host.finish().await;
}
