//! Networks as a user has them: real traffic between containers, and from the host to published ports.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use engine_testkit::require;

use crate::support::{Cli, until};

/// A port of the host that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// What a web server says about its page, or nothing.
fn ask(port: u16) -> String {
    ask_at("127.0.0.1", port)
}

fn ask_at(address: &str, port: u16) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect((address, port)) {
        // A server that goes meanwhile has said nothing.
        let _ =
            stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut text));
    }
    text
}

const SERVER: [&str; 4] =
    ["busybox", "sh", "-c", "mkdir /www; echo from-the-container > /www/page; exec httpd -f -p 80 -h /www"];

#[test]
fn published_ports_are_reached_and_shown() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let args = ["--name", "web", "-p", &publish, "--expose", "53/udp"];
    cli.start(&args.iter().chain(&SERVER).copied().collect::<Vec<_>>());
    until("the server answers", || ask(port).contains("from-the-container"));
    // No rule of the kernel leads from there; and the container has no IPv6.
    assert!(ask_at("::1", port).contains("from-the-container"));
    let ports = cli.run(&["ps", "--format", "{{.Ports}}"]).ok();
    assert_eq!(ports, format!("53/udp, 0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp\n"));
    assert_eq!(cli.run(&["port", "web", "80"]).ok(), format!("0.0.0.0:{port}\n[::]:{port}\n"));
    assert_eq!(cli.run(&["port", "web"]).ok(), format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n"));
    cli.run(&["port", "web", "81/udp"]).fails(1, &["no public port '81/udp' published for web"]);
    for (filter, found) in [
        ("publish=80", true),
        ("publish=53/udp", false),
        ("expose=50-60/udp", true),
        ("network=bridge", true),
    ] {
        let names = cli.run(&["ps", "--filter", filter, "--format", "{{.Names}}"]).ok();
        assert_eq!(names == "web\n", found, "{filter}");
    }
    let document: serde_json::Value =
        serde_json::from_str(&cli.inspect("web", "{{json .NetworkSettings}}")).unwrap();
    assert_eq!(document["Ports"]["80/tcp"][0]["HostPort"], port.to_string(), "{document}");
    assert_eq!(document["IPAddress"], document["Networks"]["bridge"]["IPAddress"]);
    assert_ne!(document["IPAddress"], "");
    cli.run(&["run", "--rm", "-p", &publish, "busybox", "true"]).fails(125, &["port is already allocated"]);
    let said = cli.run(&["run", "--rm", "--network", "host", "-p", &publish, "busybox", "true"]);
    assert!(said.err.contains("Published ports are discarded when using host network mode"), "{said:?}");
    said.ok();
    // A stop frees the port and the address.
    cli.run(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(cli.inspect("web", "{{.NetworkSettings.IPAddress}}"), "");
    assert_eq!(cli.run(&["port", "web"]).ok(), "");
    TcpListener::bind(("0.0.0.0", port)).unwrap();
    cli.run(&["start", "web"]).ok();
    until("the server answers again", || ask(port).contains("from-the-container"));
    cli.finish();
}

#[test]
fn containers_find_each_other_by_name_and_follow_changes() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let id = cli.run(&["network", "create", "--label", "tier=web", "lan"]).ok();
    let web = ["--name", "web", "--network", "name=lan,alias=www"];
    cli.start(&web.iter().chain(&SERVER).copied().collect::<Vec<_>>());
    // Nothing is asked of the world: nobody answers there.
    cli.start(&["--name", "client", "--dns", "127.0.0.1", "busybox", "sleep", "1000"]);
    let get = |name: &str| {
        let url = format!("http://{name}/page");
        cli.run(&["exec", "client", "wget", "-qO-", &url])
    };
    let short = cli.inspect("client", "{{.Config.Hostname}}");
    let hosts = || cli.run(&["exec", "client", "cat", "/etc/hosts"]).ok();
    let lines = || hosts().lines().filter(|line| line.ends_with(&format!("\t{short}"))).count();
    assert_eq!(lines(), 1, "{}", hosts());
    assert_ne!(get("web").code, 0, "the default network has no names");
    cli.run(&["network", "connect", "--alias", "me", id.trim(), "client"]).ok();
    assert_eq!(lines(), 2, "{}", hosts());
    until("the server answers", || get("web").out == "from-the-container\n");
    for name in ["www", "web.lan"] {
        assert_eq!(get(name).ok(), "from-the-container\n", "{name}");
    }
    cli.run(&["rename", "web", "other"]).ok();
    assert_eq!(get("other").ok(), "from-the-container\n");
    let containers = cli.run(&["network", "inspect", "lan", "--format", "{{len .Containers}}"]).ok();
    assert_eq!(containers, "2\n");
    assert_eq!(cli.inspect("client", "{{json .NetworkSettings.Networks.lan.Aliases}}"), "[\"me\"]");
    cli.run(&["network", "rm", "lan"]).fails(1, &["has active endpoints", "name:\"client\""]);
    cli.run(&["network", "connect", "lan", "client"]).fails(1, &["already exists in network lan"]);
    cli.run(&["network", "disconnect", "lan", "client"]).ok();
    assert_eq!(lines(), 1, "{}", hosts());
    cli.run(&["network", "disconnect", "lan", "client"]).fails(1, &["is not connected to network lan"]);
    assert_ne!(get("other").code, 0);
    let told = cli.run(&["events", "--since", "1h", "--until", "0s", "--filter", "type=network"]).ok();
    assert!(told.contains("network connect") && told.contains("network disconnect"), "{told}");
    // What was asked of a stopped container holds at its next start.
    cli.run(&["stop", "-t", "0", "client"]).ok();
    cli.run(&["network", "connect", "--ip", "127.0.0.1", "lan", "client"]).ok();
    cli.run(&["start", "client"]).fails(1, &["127.0.0.1"]);
    cli.run(&["network", "disconnect", "lan", "client"]).ok();
    cli.run(&["start", "client"]).ok();
    cli.finish();
}

#[test]
fn links_on_the_default_network_are_lines_and_variables() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let server = ["--name", "data", "-h", "store", "-e", "SECRET=a=b", "--expose", "80"];
    cli.start(&server.iter().chain(&SERVER).copied().collect::<Vec<_>>());
    cli.start(&["--name", "web", "--link", "data:my-db", "busybox", "sleep", "1000"]);
    let inside = |words: &[&str]| cli.run(&[&["exec", "web"], words].concat());
    let address = cli.inspect("data", "{{.NetworkSettings.IPAddress}}");
    let hosts = inside(&["cat", "/etc/hosts"]).ok();
    assert!(hosts.contains(&format!("{address}\tmy-db store data\n")), "{hosts}");
    let env = inside(&["env"]).ok();
    for variable in [
        format!("MY_DB_PORT=tcp://{address}:80"),
        format!("MY_DB_PORT_80_TCP_ADDR={address}"),
        "MY_DB_NAME=/web/my-db".to_owned(),
        "MY_DB_ENV_SECRET=a=b".to_owned(),
    ] {
        assert!(env.lines().any(|line| line == variable), "{variable} is not in {env}");
    }
    let get = || inside(&["wget", "-qO-", "http://my-db/page"]);
    until("the server answers", || get().out == "from-the-container\n");
    assert_eq!(cli.inspect("web", "{{json .HostConfig.Links}}"), "[\"/data:/web/my-db\"]");
    // The other one has another address after a while, and another name.
    cli.run(&["stop", "-t", "0", "data"]).ok();
    cli.start(&["--name", "thief", "busybox", "sleep", "1000"]);
    assert_eq!(cli.inspect("thief", "{{.NetworkSettings.IPAddress}}"), address);
    cli.run(&["rename", "data", "moved"]).ok();
    cli.run(&["start", "moved"]).ok();
    until("the server answers at its new address", || get().out == "from-the-container\n");
    let hosts = inside(&["cat", "/etc/hosts"]).ok();
    assert_eq!(hosts.matches("my-db").count(), 1, "{hosts}");
    assert!(hosts.contains("\tmy-db store moved\n") && !hosts.contains(&format!("{address}\t")), "{hosts}");
    assert_eq!(cli.inspect("web", "{{json .HostConfig.Links}}"), "[\"/moved:/web/my-db\"]");
    // A start needs the other one, as long as there is one.
    cli.run(&["stop", "-t", "0", "moved", "web"]).ok();
    cli.run(&["start", "web"]).fails(1, &["Cannot link to a non running container: /moved AS /web/my-db"]);
    cli.run(&["rm", "moved"]).ok();
    cli.run(&["start", "web"]).ok();
    assert!(!cli.inspect("web", "{{json .HostConfig}}").contains("Links"));
    cli.start(&["--name", "hostly", "--network", "host", "busybox", "sleep", "1000"]);
    cli.run(&["create", "--link", "hostly", "busybox"]).fails(125, &["host type networking"]);
    cli.finish();
}

#[test]
fn links_on_other_networks_are_names_of_one_container() {
    require!(root, overlayfs);
    let cli = Cli::new();
    cli.run(&["network", "create", "lan"]).ok();
    // It need not be there before.
    cli.start(&["--name", "web", "--network", "lan", "--link", "data:db", "busybox", "sleep", "1000"]);
    cli.start(&["--name", "stranger", "busybox", "sleep", "1000"]);
    let server = ["--name", "data", "--network", "lan"];
    cli.start(&server.iter().chain(&SERVER).copied().collect::<Vec<_>>());
    let get = |from: &str, name: &str| {
        let url = format!("http://{name}/page");
        cli.run(&["exec", from, "wget", "-qO-", &url])
    };
    until("the server answers", || get("web", "db").out == "from-the-container\n");
    assert!(!cli.run(&["exec", "web", "env"]).ok().contains("DB_"));
    cli.run(&["network", "connect", "--link", "data:own", "bridge", "stranger"])
        .fails(1, &["made with the container"]);
    cli.run(&["network", "connect", "--link", "data:own", "lan", "stranger"]).ok();
    assert_eq!(get("stranger", "own").ok(), "from-the-container\n");
    for (from, name) in [("stranger", "db"), ("web", "own")] {
        assert_ne!(get(from, name).code, 0, "{from} knows {name}");
    }
    let links = |name: &str| cli.inspect(name, "{{json .NetworkSettings.Networks.lan.Links}}");
    assert_eq!((links("web"), links("stranger")), ("[\"data:db\"]".into(), "[\"data:own\"]".into()));
    assert!(!cli.inspect("web", "{{json .HostConfig}}").contains("Links"));
    cli.finish();
}

#[test]
fn containers_of_a_macvlan_network_have_each_other_and_no_ports() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let create = ["network", "create", "-d", "macvlan", "-o", "macvlan_mode=bridge", "--subnet"];
    cli.run(&create.iter().chain(&["10.213.66.0/24", "lan"]).copied().collect::<Vec<_>>()).ok();
    let port = free_port();
    let publish = format!("{port}:80");
    let web = ["--name", "web", "--network", "lan", "-p", &publish];
    cli.start(&web.iter().chain(&SERVER).copied().collect::<Vec<_>>());
    cli.start(&["--name", "client", "--network", "none", "busybox", "sleep", "1000"]);
    cli.run(&["network", "connect", "lan", "client"]).fails(1, &["private (none) mode"]);
    cli.start(&["--name", "other", "--network", "lan", "busybox", "sleep", "1000"]);
    let get = || cli.run(&["exec", "other", "wget", "-qO-", "http://web/page"]);
    until("the server answers", || get().out == "from-the-container\n");
    assert_eq!(cli.run(&["port", "web"]).ok(), "");
    TcpListener::bind(("0.0.0.0", port)).unwrap();
    let shown = cli.run(&["network", "inspect", "lan"]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown[0]["Driver"], &shown[0]["Internal"]), (&"macvlan".into(), &true.into()));
    assert_eq!(shown[0]["Options"]["macvlan_mode"], "bridge");
    // Live, and with the default route of a bridge beside it.
    cli.run(&["network", "connect", "bridge", "other"]).ok();
    assert!(cli.run(&["exec", "other", "ip", "route"]).ok().contains("dev eth1"));
    cli.run(&["network", "disconnect", "lan", "other"]).ok();
    assert_ne!(get().code, 0);
    cli.run(&["network", "connect", "lan", "other"]).ok();
    assert_eq!(get().ok(), "from-the-container\n");
    cli.run(&["restart", "-t", "0", "web"]).ok();
    until("the server answers again", || get().out == "from-the-container\n");
    for (options, part) in [
        (&["-d", "macvlan", "-o", "macvlan_mode=x"][..], "the modes are bridge, private, vepa and passthru"),
        (&["-d", "ipvlan", "-o", "ipvlan_mode=x"], "the modes are l2, l3 and l3s"),
        (&["-d", "macvlan", "-o", "parent=nosuch"], "no such interface"),
        (&["-d", "macvlan", "-o", "parent=lo"], "not a valid macvlan parent link"),
        (&["-d", "macvlan", "-o", "mtu=1400"], "does not know the option"),
    ] {
        let words: Vec<&str> = ["network", "create"].iter().chain(options).chain(&["bad"]).copied().collect();
        cli.run(&words).fails(1, &[part]);
    }
    cli.finish();
}

#[test]
fn networks_are_listed_inspected_and_removed() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let create =
        ["network", "create", "--subnet", "10.213.64.0/24", "--gateway", "10.213.64.7", "--ip-range"];
    let rest = ["10.213.64.128/25", "--aux-address", "router=10.213.64.129", "--label", "tier=db", "lan"];
    let id = cli.run(&create.iter().chain(&rest).copied().collect::<Vec<_>>()).ok().trim().to_owned();
    let table = cli.run(&["network", "ls"]).ok();
    let mut lines = table.lines();
    let heading: Vec<&str> =
        lines.next().unwrap().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(heading, ["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), ["bridge", "host", "lan", "none"]);
    assert_eq!(rows[2], [&id[..12], "lan", "bridge", "local"]);
    assert_eq!((rows[1][2], rows[3][2]), ("host", "null"));
    let names = |args: &[&str]| {
        let args: Vec<&str> =
            ["network", "ls", "--format", "{{.Name}}"].iter().chain(args).copied().collect();
        cli.run(&args).ok().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--filter", "type=custom"]), ["lan"]);
    assert_eq!(names(&["--filter", "type=builtin", "--filter", "driver=bridge"]), ["bridge"]);
    assert_eq!(names(&["--filter", "dangling=true"]), ["lan"]);
    assert_eq!(names(&["--filter", "label=tier=db", "--filter", "name=la"]), ["lan"]);
    assert_eq!(cli.run(&["network", "ls", "-q", "--no-trunc", "--filter", "name=lan"]).ok().trim(), id);
    cli.run(&["network", "ls", "--filter", "bogus=1"]).fails(1, &["bogus"]);
    let shown = cli.run(&["network", "inspect", &id[..12]]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let config = &shown[0]["IPAM"]["Config"][0];
    assert_eq!(config["Subnet"], "10.213.64.0/24");
    assert_eq!((&config["Gateway"], &config["IPRange"]), (&"10.213.64.7".into(), &"10.213.64.128/25".into()));
    assert_eq!(config["AuxiliaryAddresses"]["router"], "10.213.64.129");
    assert_eq!((&shown[0]["Labels"]["tier"], &shown[0]["Driver"]), (&"db".into(), &"bridge".into()));
    assert_eq!(cli.run(&["inspect", "lan", "--format", "{{.Scope}}"]).ok(), "local\n");
    let address = ["run", "--rm", "--network", "lan", "busybox", "hostname", "-i"];
    assert_eq!(cli.run(&address).ok(), "10.213.64.130\n");
    cli.run(&["network", "create", "lan"]).fails(1, &["network with name lan already exists"]);
    cli.run(&["network", "create", "--subnet", "10.213.64.0/26", "other"])
        .fails(1, &["Pool overlaps with other one on this address space"]);
    let wrong = cli.run(&["network", "create", "--subnet", "10.213.64.0/99", "other"]);
    assert!(wrong.code != 0 && wrong.err.contains("10.213.64.0/99"), "{wrong:?}");
    cli.run(&["network", "create", "-d", "overlay", "other"]).fails(1, &["overlay"]);
    cli.run(&["network", "create", "host"])
        .fails(1, &["operation is not permitted on predefined host network"]);
    cli.run(&["network", "rm", "bridge"])
        .fails(1, &["bridge is a pre-defined network and cannot be removed"]);
    cli.run(&["network", "rm", "nosuch"]).fails(1, &["network nosuch not found"]);
    cli.run(&["network", "inspect", "nosuch"]).fails(1, &["network nosuch not found"]);
    cli.run(&["network", "rm", "-f", "nosuch"]).ok();
    cli.run(&["run", "--rm", "--network", "nosuch", "busybox"]).fails(125, &["network nosuch not found"]);
    cli.run(&["run", "--link", "nosuch", "busybox"]).fails(125, &["could not get container for nosuch"]);
    let wrong = cli.run(&["run", "--link", "a b", "busybox"]);
    assert!(wrong.code != 0 && wrong.err.contains("bad format for links"), "{wrong:?}");
    assert!(!cli.run(&["network", "prune"]).ok().contains("Deleted Networks"));
    assert_eq!(cli.run(&["network", "rm", "lan"]).ok(), "lan\n");
    cli.run(&["network", "create", "idle"]).ok();
    assert_eq!(cli.run(&["network", "prune", "-f"]).ok(), "Deleted Networks:\nidle\n\n");
    cli.finish();
}

#[test]
fn a_container_in_a_user_namespace_has_a_network_and_its_names() {
    require!(root, overlayfs, user_namespaces, shifted_layers);
    let cli = Cli::new();
    cli.run(&["network", "create", "lan"]).ok();
    let script = "grep -c \"$(hostname)\" /etc/hosts; echo mine >> /etc/hosts && tail -1 /etc/hosts; grep -c 127.0.0.11 /etc/resolv.conf";
    let args =
        ["run", "--rm", "--userns", "0:200000:65536", "--network", "lan", "busybox", "sh", "-c", script];
    assert_eq!(cli.run(&args).ok(), "1\nmine\n1\n");
    cli.finish();
}

/// Runs the binary under strace, which ends when all that it started has.
fn traced(cli: &Cli, log: &Path, args: &[&str]) -> std::process::Child {
    let command = cli.local(args);
    std::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o"])
        .arg(log)
        .arg(command.get_program())
        .args(command.get_args())
        .env("DOCKER_CONFIG", cli.path("docker"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What was executed: paths, or the name of what was executed by its descriptor.
fn executed(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let calls = text.lines().filter(|line| line.contains(" execve(") || line.contains(" execveat("));
    let quoted = |line: &str| {
        let mut strings = line.split('"').skip(1).step_by(2).filter(|text| !text.is_empty());
        strings.next().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    calls.map(quoted).collect()
}

#[test]
fn a_container_on_a_network_is_run_without_any_other_program() {
    require!(root, overlayfs, "strace");
    let cli = Cli::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let binary = env!("CARGO_BIN_EXE_engine-cli");
    let (life, step) = (cli.path("life"), cli.path("step"));
    let create =
        ["create", "--name", "web", "-p", &publish, "--network", "traced", "--restart", "on-failure"];
    let server = ["busybox", "/bin/busybox", "httpd", "-f", "-p", "80"];
    let create: Vec<&str> = create.iter().chain(&server).copied().collect();
    let step_by_step = |args: &[&str]| {
        let ended = traced(&cli, &step, args).wait().unwrap();
        assert!(ended.success(), "{args:?}");
        assert_eq!(executed(&step), [binary], "{args:?}");
    };
    step_by_step(&["network", "create", "--ipv6", "traced"]);
    step_by_step(&create);
    let mut started = traced(&cli, &life, &["start", "web"]);
    until("the server answers", || ask(port).contains("404"));
    step_by_step(&["network", "connect", "bridge", "web"]);
    step_by_step(&["network", "disconnect", "bridge", "web"]);
    step_by_step(&["stop", "-t", "1", "web"]);
    assert!(started.wait().unwrap().success());
    let all = executed(&life);
    let [program, shim, own] = &all[..] else { panic!("{all:?}") };
    assert_eq!((program.as_str(), own.as_str()), (binary, "/bin/busybox"), "{all:?}");
    assert!(shim.starts_with("/proc/self/fd/"), "the shim is executed by its descriptor: {all:?}");
    step_by_step(&["rm", "web"]);
    step_by_step(&["network", "rm", "traced"]);
    cli.finish();
}

#[test]
fn the_port_of_a_container_that_ended_is_free_at_once() {
    require!(root, overlayfs);
    let cli = Cli::new();
    let port = free_port();
    let publish = format!("{port}:80");
    cli.run(&["network", "create", "--subnet", "172.29.0.0/24", "own"]).ok();
    for round in 0..5 {
        // Whoever waited knows that it has ended.
        cli.run(&["run", "-p", &publish, "busybox", "true"]).ok();
        let id = cli.start(&["-p", &publish, "busybox", "true"]);
        cli.run(&["wait", &id]).ok();
        // And whoever sees its process go.
        let id =
            cli.start(&["-p", &publish, "--ip", "172.29.0.9", "--network", "own", "busybox", "sleep", "0.1"]);
        let pid = cli.inspect(&id, "{{.State.Pid}}");
        until("the process ends", || pid == "0" || !Path::new("/proc").join(&pid).exists());
        let again = ["-p", &publish, "--ip", "172.29.0.9", "--network", "own", "busybox", "true"];
        let id = cli.start(&again);
        cli.run(&["wait", &id]).ok();
        assert_eq!(cli.run(&["ps", "-q"]).ok(), "", "round {round}");
    }
    let ids = cli.run(&["ps", "-aq"]).ok();
    cli.run(&["rm"].into_iter().chain(ids.split_whitespace()).collect::<Vec<_>>()).ok();
    cli.run(&["network", "rm", "own"]).ok();
    cli.finish();
}
