//! One script of Docker's command line, run against Debian's dockerd and against our daemon: each command ends with the same
//! code and says the same, names, times and sizes aside.
//!
//! The daemon there is older than the API we serve, so both are asked as of its version. What differs on purpose is in
//! [`ACCEPTED`] and [`FIELDS`], with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine_testkit::{image, require};
use regex::Regex;
use serde_json::Value;

use crate::dockerd::Dockerd;
use crate::support::{Daemon, Said, until};

/// The newest version that Debian's dockerd speaks.
const VERSION: &str = "1.41";

/// What a command may do in another way.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Other {
    Words,
    WordsAndCode,
}

/// Commands that say something else, or end in another way as well, and why.
const ACCEPTED: &[(&str, Other, &str)] = &[
    (
        "inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' broken",
        Other::Words,
        "what did not start has ended, with us",
    ),
    (
        "ps -a --filter name=broken --format '{{.Status}}'",
        Other::Words,
        "what did not start has ended, with us",
    ),
    (
        "exec long no-such-command",
        Other::WordsAndCode,
        "127, as Docker since 24 has it; the words are those of runc there",
    ),
    ("exec -w /nowhere long true", Other::Words, "words of one's own, where Docker has runc's"),
    ("exec -u nobody-known long true", Other::Words, "words of one's own, where Docker has its own"),
    (
        "history --no-trunc kept:1",
        Other::Words,
        "an image has no parents, as with Docker's store in containerd",
    ),
    ("load", Other::Words, "an archive that is none has a status, where Docker has a line"),
    (
        "rmi localhost:5000/team/app:1",
        Other::Words,
        "an image is not named by its digest as well, as with Docker's store in containerd",
    ),
    (
        "rmi localhost:5000/team/app:1 kept:1 flat:1",
        Other::Words,
        "an image is not named by its digest as well, as with Docker's store in containerd",
    ),
    (
        "pull localhost:5000/team/app:1",
        Other::Words,
        "layers are told that are there already, as with Docker's store in containerd",
    ),
    (
        "events --filter nothing=x --since 1m --until 0s",
        Other::WordsAndCode,
        "a filter that is not known is refused, as elsewhere",
    ),
];

/// Commands by how they begin, and fields of their documents that only one of both has, or has in another type, with what is in them; and
/// why.
const FIELDS: &[(&str, &str, &str)] = &[
    ("inspect", "[].HostConfig.KernelMemory", "Docker has it no more"),
    ("inspect", "[].HostConfig.KernelMemoryTCP", "Docker has it no more"),
    (
        "inspect",
        "[].HostConfig.MaskedPaths",
        "lists of one's own are refused, so the usual ones are not shown",
    ),
    (
        "inspect",
        "[].HostConfig.ReadonlyPaths",
        "lists of one's own are refused, so the usual ones are not shown",
    ),
    (
        "inspect",
        "[].HostConfig.OomKillDisable",
        "shown where it was asked for, as Docker does with cgroup v2",
    ),
    ("inspect", "[].HostConfig.LogConfig.Config", "a log has limits, which are shown"),
    ("inspect", "[].HostConfig.SecurityOpt", "whether privileges can grow is always shown"),
    ("inspect", "[].Config.Healthcheck", "what is carried out is shown, with its defaults"),
    ("inspect", "[].NetworkSettings.Networks", "names and priorities that newer versions have"),
    ("inspect", "[].GraphDriver.Data", "there it is vfs, which has none"),
    ("image inspect", "[].GraphDriver.Data", "there it is vfs, which has none"),
    ("image inspect", "[].Config", "an image's configuration is OCI's, as with newer Docker"),
    ("image inspect", "[].ContainerConfig", "newer versions have it no more"),
    (
        "image inspect",
        "[].RepoDigests[]",
        "the digest of a manifest is known from the beginning, as with Docker's store in containerd",
    ),
    ("network inspect", "[].IPAM", "the default network's gateway is shown, as with newer Docker"),
    ("version", ".BuildTime", "no build is stamped"),
    ("version", ".Components[].Details", "no build is stamped, and it is not written in Go"),
    ("info", ".ContainerdCommit", "there is no containerd"),
    ("info", ".RuncCommit", "there is no runc"),
    ("info", ".KernelMemory", "Docker has it no more"),
    ("info", ".KernelMemoryTCP", "Docker has it no more"),
    ("info", ".Runtimes", "it is another runtime"),
    ("info", ".CDISpecDirs", "newer than Debian's"),
    ("info", ".DriverStatus", "there it is vfs, which has none"),
    ("info", ".RegistryConfig.Mirrors", "an empty list or none"),
];

/// What a command printed and how it ended, without what is new each time.
#[derive(Debug, Eq, PartialEq)]
struct Step {
    command: String,
    code: i32,
    out: String,
    err: String,
}

/// One of both daemons, and what was said to it.
struct Side<'a> {
    client: &'a dyn Fn() -> Command,
    steps: Vec<Step>,
    rules: Vec<(Regex, &'static str)>,
}

impl<'a> Side<'a> {
    fn new(root: &Path, client: &'a dyn Fn() -> Command) -> Self {
        let rules = [
            (regex::escape(&root.display().to_string()), "ROOT"),
            (r"sha256:[0-9a-f]{64}".to_owned(), "DIGEST"),
            (r"\b[0-9a-f]{64}\b".to_owned(), "ID"),
            (r"\b[0-9a-f]{12}\b".to_owned(), "ID"),
            (r"\d{4}-\d\d-\d\d[T ][0-9:.]+ ?(Z|[+-]\d\d:?\d\d)( [A-Z]+)?".to_owned(), "TIME"),
            (r"(About |Less than )?(an?|\d+) (second|minute|hour|year)s?( ago)?".to_owned(), "AGO"),
            (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b".to_owned(), "MAC"),
            (r"\b\d+\.\d+\.\d+\.\d+\b".to_owned(), "IP"),
            (r"\b[0-9.]+ ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB)\b".to_owned(), "SIZE"),
            (r"\b[0-9.]+%".to_owned(), "PART"),
            (r"\b\d\d:\d\d(:\d\d)?\b".to_owned(), "CLOCK"),
            (r"\b\d{4,}\b".to_owned(), "NUMBER"),
            (r"[ \t]+".to_owned(), " "),
            (r"(?m) $".to_owned(), ""),
        ];
        let rules = rules.into_iter().map(|(rule, with)| (Regex::new(&rule).unwrap(), with)).collect();
        Self { client, steps: Vec::new(), rules }
    }

    /// Takes what is new each time out of a text.
    fn plain(&self, text: &str) -> String {
        self.rules
            .iter()
            .fold(text.to_owned(), |text, (rule, with)| rule.replace_all(&text, *with).into_owned())
    }

    fn ask(&self, command: &str, input: Option<&[u8]>) -> Said {
        let mut client = (self.client)();
        client.env("DOCKER_API_VERSION", VERSION).args(words(command));
        if input.is_some() {
            client.stdin(Stdio::piped());
        }
        let mut child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(input) = input {
            // One that does not read it all is no failure here.
            let _ = child.stdin.take().unwrap().write_all(input);
        }
        child.wait_with_output().unwrap().into()
    }

    fn keep(&mut self, command: &str, said: &Said, out: String) {
        // What was wrong is told in words of one's own; that it is an error, and whose, is not.
        let lines = said
            .err
            .lines()
            .map(|line| line.split_inclusive("Error response from daemon:").next().unwrap_or(line));
        let err = self.plain(&lines.collect::<Vec<_>>().join("\n"));
        self.steps.push(Step { command: command.to_owned(), code: said.code, out, err });
    }

    /// Runs a command and keeps what it said.
    fn run(&mut self, command: &str) -> Said {
        self.feed(command, None)
    }

    fn feed(&mut self, command: &str, input: Option<&[u8]>) -> Said {
        let said = self.ask(command, input);
        self.keep(command, &said, self.plain(&said.out));
        said
    }

    /// Runs a command that is to succeed: what fails on both sides compares nothing.
    #[track_caller]
    fn done(&mut self, command: &str) {
        self.run(command).ok();
    }

    /// Runs a command whose lines come in any order, and as often as there are things.
    fn sorted(&mut self, command: &str) {
        let said = self.ask(command, None);
        let out = self.plain(&said.out);
        let mut lines: Vec<_> = out.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        self.keep(command, &said, lines.join("\n"));
    }

    /// Runs a command that prints documents, and keeps which fields they have, of which types.
    fn document(&mut self, command: &str) {
        let said = self.ask(command, None);
        let mut fields = BTreeMap::new();
        for line in serde_json::Deserializer::from_str(&said.out).into_iter::<Value>() {
            shape(&line.expect("a document"), "", &mut fields);
        }
        let lines: Vec<_> = fields.iter().map(|(path, types)| format!("{path}: {types:?}")).collect();
        self.keep(command, &said, lines.join("\n"));
    }

    /// Waits until a command prints a text.
    fn until(&self, command: &str, text: &str) {
        until(command, || self.ask(command, None).out.contains(text));
    }
}

/// Takes a line apart at blanks; what is in single quotes stays together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Collects the paths in a document with the types of what is there. Names that are data are one.
fn shape(value: &Value, path: &str, fields: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    fields.entry(path.to_owned()).or_default().insert(kind);
    match value {
        // One that is null is one that is not there.
        Value::Null => {
            fields.remove(path);
        }
        Value::Array(list) => list.iter().for_each(|value| shape(value, &format!("{path}[]"), fields)),
        Value::Object(map) => {
            for (name, value) in map {
                let data = name.len() == 64 || name.contains(['/', '.', ':']) || path.ends_with("Labels");
                shape(value, &format!("{path}.{}", if data { "*" } else { name }), fields);
            }
        }
        _ => {}
    }
}

/// What differs in two steps, if it is not accepted.
fn difference(ours: &Step, theirs: &Step) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let accepted = ACCEPTED.iter().find(|(command, ..)| ours.command == *command).map(|(_, other, _)| *other);
    let known = |line: &&str| {
        FIELDS.iter().any(|(command, field, _)| {
            let rest = line.strip_prefix(field).filter(|_| ours.command.starts_with(command));
            rest.is_some_and(|rest| rest.starts_with(['.', '[', ':']))
        })
    };
    let lines = |step: &Step| {
        let out: Vec<_> = step.out.lines().filter(|line| !known(line)).map(str::to_owned).collect();
        out.into_iter().chain(step.err.lines().map(|line| format!("stderr: {line}"))).collect::<Vec<_>>()
    };
    let (our, their) = (lines(ours), lines(theirs));
    let same_words = our == their || accepted.is_some();
    if same_words && (ours.code == theirs.code || accepted == Some(Other::WordsAndCode)) {
        return None;
    }
    let missing = their.iter().filter(|line| !our.contains(line)).map(|line| format!("  docker: {line}\n"));
    let more = our.iter().filter(|line| !their.contains(line)).map(|line| format!("  ours:   {line}\n"));
    let lines: String = missing.chain(more).collect();
    Some(format!("docker {}: {} and {}\n{lines}", ours.command, theirs.code, ours.code))
}

/// What is asked of both: every command of containers, images, networks, volumes and the system that builds nothing.
fn script(side: &mut Side<'_>) {
    containers(side);
    processes(side);
    files(side);
    images(side);
    networks(side);
    volumes(side);
    system(side);
}

fn containers(side: &mut Side<'_>) {
    side.run("run --rm busybox sh -c 'echo out; echo err >&2; exit 5'");
    side.run("run --rm busybox no-such-command");
    side.run("run --rm busybox /etc");
    side.run("run --rm --memory 1 busybox true");
    side.run("run --rm --pull never nothing:1 true");
    side.run("run --rm --network nowhere busybox true");
    side.run("run --rm --volumes-from nobody busybox true");
    side.run("run --rm --cap-add NOTHING busybox true");
    side.run("run --rm -v relative/path:/x busybox true");
    side.run("run --rm --workdir relative busybox true");
    side.run("run --rm --user nobody-known busybox true");
    side.done(
        "run --rm -e A=b -w /tmp -u 3:4 -h there busybox sh -c 'echo $A $PWD $(id -u):$(id -g) $(hostname)'",
    );
    side.done("run -d --name web -p 127.0.0.1:8080:80 -l a=b --health-cmd true --health-interval 1h busybox busybox httpd -f");
    side.run("run -d --name web busybox true");
    side.done("create --name made -it -v data:/data --tmpfs /t --restart on-failure:2 --memory 64m --cap-add NET_ADMIN busybox");
    side.run("create --name x! busybox");
    side.run("ps -a --no-trunc");
    side.run("ps -aq --filter status=created");
    side.run("ps --filter nothing=x");
    side.run("ps -a --filter label=a --format '{{.Names}}|{{.Image}}|{{.State}}|{{.Ports}}|{{.Command}}|{{.Labels}}|{{.Networks}}'");
    side.run(
        "ps -a --filter name=made --format '{{.Names}}|{{.State}}|{{.Status}}|{{.Mounts}}|{{.LocalVolumes}}'",
    );
    side.done("port web");
    side.run("port web 80");
    side.run("port web 81");
    side.document("inspect web");
    side.document("inspect made");
    side.document("inspect -s web");
    side.run("inspect nobody");
    side.run("inspect -f '{{.State.Status}} {{.Config.Cmd}} {{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}' made");
    side.run("inspect -f '{{.Name}} {{.Path}} {{.Args}} {{.State.ExitCode}} {{.Config.Labels}}' web");
    for command in ["pause", "pause", "unpause", "unpause"] {
        side.run(&format!("{command} web"));
    }
    side.run("rename web site");
    side.run("rename site made");
    side.run("rename nobody other");
    side.run("update --memory 32m --memory-swap 64m site");
    side.run("update --memory 1 site");
    side.run("update --restart always nobody");
    side.done("restart -t 0 site");
    side.run("rm site");
    side.run("kill -s NOTHING site");
    side.run("kill -s USR1 made");
    side.done("kill site");
    side.run("wait site");
    side.run("kill site");
    side.run("ps -a --filter name=site --format '{{.Names}}|{{.State}}|{{.Status}}|{{.Ports}}'");
    side.run("stop site");
    side.run("stop nobody");
    side.run("start nobody");
    side.run("start site site");
    side.run("stop -t 0 site");
    side.run("rm site nobody");
    side.run("rm -f -v made");
    side.run("rm -f nobody");
    for command in
        ["attach", "restart", "pause", "unpause", "kill", "wait", "top", "port", "logs", "diff", "export"]
    {
        side.run(&format!("{command} nobody"));
    }
    side.run("container prune -f");
}

fn processes(side: &mut Side<'_>) {
    side.run("create --name one busybox sh -c 'echo started; echo more >&2; exit 3'");
    side.run("start -a one");
    side.run("logs one");
    side.run("logs -t one");
    side.run("logs --tail 0 one");
    side.run("logs --tail x one");
    side.run("inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.State.OOMKilled}} {{.State.Pid}}' one");
    side.run("attach one");
    side.run("exec one true");
    side.run("top one");
    side.run("create --name broken busybox no-such-command");
    side.run("start broken");
    side.run("inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' broken");
    side.run("ps -a --filter name=broken --format '{{.Status}}'");
    side.done("run -i --name reader busybox cat");
    side.feed("start -a -i reader", Some(b"typed\n"));
    side.feed("run -i --rm busybox cat", Some(b"through\n"));
    side.done("run -d --name long --stop-signal KILL busybox sh -c 'echo here; sleep 1000'");
    side.until("logs long", "here");
    side.run("exec long sh -c 'echo out; echo err >&2; exit 7'");
    side.done("exec -e A=b -w /tmp -u 3:4 long sh -c 'echo $A $PWD $(id -u):$(id -g)'");
    side.run("exec long no-such-command");
    side.run("exec -w /nowhere long true");
    side.run("exec -u nobody-known long true");
    side.done("exec -d long true");
    side.run("exec nobody true");
    side.feed("exec -i long cat", Some(b"typed\n"));
    side.run("top long -o pid,args");
    side.run("stats --no-stream --format '{{.Name}}|{{.ID}}' long");
    side.run("stats --no-stream nobody");
    side.done("pause long");
    side.run("exec long true");
    side.done("unpause long");
    side.done("stop long");
    side.run("rm one broken reader long");
}

fn files(side: &mut Side<'_>) {
    side.done("run --name changed busybox sh -c 'echo text > /tmp/made; rm /etc/passwd; mkdir /dir; ln -s made /tmp/link'");
    side.sorted("diff changed");
    side.done("cp changed:/tmp/made copied");
    side.done("cp copied changed:/tmp/again");
    side.run("cp copied changed:/nowhere/at/all");
    side.run("cp changed:/nowhere copied");
    side.run("cp nobody:/etc copied");
    side.run("cp copied nobody:/etc");
    side.run("cp changed:/tmp/link linked");
    side.done("export -o exported.tar changed");
    side.done("import exported.tar flat:1");
    side.done("run --rm flat:1 /bin/cat /tmp/again");
    side.done("commit -m note -a somebody -c 'ENV K=v' -c 'CMD [\"env\"]' changed kept:1");
    side.run("commit -c 'NOTHING x' changed kept:2");
    side.run("commit nobody kept:2");
    side.run("commit changed UPPER:2");
    side.run("inspect -f '{{.Config.Cmd}} {{.Comment}} {{.Author}}' kept:1");
    side.run("rm changed");
}

fn images(side: &mut Side<'_>) {
    side.run("image ls --format '{{.Repository}}:{{.Tag}}'");
    side.run("image ls nothing");
    side.run("image ls --filter nothing=x");
    side.done("tag busybox other:2");
    side.run("tag nothing other:2");
    side.run("tag busybox UPPER");
    side.document("image inspect busybox");
    side.run("image inspect nothing");
    side.run("history --no-trunc kept:1");
    side.run("history nothing");
    side.done("save -o saved.tar busybox other:2");
    side.run("save nothing");
    side.run("rmi other:2");
    side.run("rmi nothing");
    side.done("run -d --name holder kept:1 sleep 1000");
    side.run("rmi kept:1");
    side.run("rm -f holder");
    side.done("load -i saved.tar");
    side.feed("load", Some(b"no archive"));
    side.feed("import - broken:1", Some(b"no archive"));
    side.done("tag busybox localhost:5000/team/app:1");
    side.done("push -q localhost:5000/team/app:1");
    side.run("push localhost:5000/team/none:1");
    side.done("rmi localhost:5000/team/app:1");
    side.done("pull -q localhost:5000/team/app:1");
    side.done("pull localhost:5000/team/app:1");
    side.run("pull localhost:5000/team/app:2");
    side.run("pull localhost:5000/team/none");
    side.run("pull localhost:1/team/app");
    side.run("login -u somebody -p secret localhost:1");
    side.run("logout localhost:1");
    side.run("rmi localhost:5000/team/app:1 kept:1 flat:1");
    side.run("image prune -f");
}

fn networks(side: &mut Side<'_>) {
    side.done("network create --subnet 10.98.0.0/24 --gateway 10.98.0.1 --label a=b inner");
    side.run("network create inner");
    side.run("network create --subnet nonsense wrong");
    side.sorted("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'");
    side.run("network ls --filter nothing=x");
    side.done("run -d --name server --network inner --ip 10.98.0.9 --network-alias nick busybox sleep 1000");
    side.document("network inspect inner");
    side.document("network inspect bridge");
    side.document("inspect server");
    side.run("network inspect nothing");
    side.run("run --rm --network inner --ip 10.98.0.9 busybox true");
    side.run("run --rm --network inner --ip 192.0.2.1 busybox true");
    side.run("run --rm --network container:server busybox hostname");
    side.run("run --rm --network container:nobody busybox true");
    side.done(
        "run --rm --network inner busybox sh -c 'busybox nslookup nick | grep -o 10.98.0.9 | head -n 1'",
    );
    side.run("network rm inner");
    side.done("network connect bridge server");
    side.run("network connect bridge server");
    side.run("network connect nothing server");
    side.run("network connect bridge nobody");
    side.run("network disconnect bridge server");
    side.run("network disconnect bridge server");
    side.run("rm -f server");
    side.run("network rm inner");
    side.run("network rm inner bridge");
    side.run("network create pruned");
    side.run("network prune -f");
}

fn volumes(side: &mut Side<'_>) {
    side.done("volume create --label a=b data2");
    side.run("volume create data2");
    side.run("volume create x!");
    side.run("volume ls --filter label=a");
    side.run("volume ls -q --filter dangling=true --filter name=data2");
    side.run("volume ls --filter nothing=x");
    side.document("volume inspect data2");
    side.run("volume inspect nothing");
    side.done("run -d --name holder -v data2:/d busybox sleep 1000");
    side.run("volume rm data2");
    side.run("run --rm --volumes-from holder busybox sh -c 'echo x > /d/f; cat /d/f'");
    side.run("rm -f holder");
    side.run("volume rm data2 nothing");
    side.run("volume rm -f nothing");
    side.run("volume prune -f");
}

fn system(side: &mut Side<'_>) {
    side.document("version --format '{{json .Server}}'");
    side.document("info --format '{{json .}}'");
    side.run("system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'");
    side.done("run --name told --rm busybox true");
    // The client has times in whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let filter = "--filter container=told --filter type=container";
    side.sorted(&format!("events --since 1m --until 0s {filter} --format '{{{{.Type}}}} {{{{.Action}}}}'"));
    side.run("events --since nonsense --until 0s");
    side.run("events --filter nothing=x --since 1m --until 0s");
    side.run("system prune -f");
    side.sorted("system prune -a -f --volumes");
    side.run("image ls -q");
}

/// A registry of ours at the host's loopback.
struct Registry(Child);

impl Registry {
    fn start(mut command: Command, root: &Path) -> Self {
        command.arg("--root").arg(root).args(["registry", "serve", "--addr", "127.0.0.1:5000"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let registry = Self(child);
        assert!(line.starts_with("Serving "), "{line:?}");
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn theirs() -> Vec<Step> {
    let dockerd = Dockerd::start();
    let client = || dockerd.on_host("docker");
    let registry =
        Registry::start(dockerd.on_host(env!("CARGO_BIN_EXE_engine-cli")), &dockerd.path("registry"));
    let mut side = Side::new(&dockerd.path("root"), &client);
    side.ask("import -c 'CMD [\"sh\"]' - busybox", Some(&image::busybox_layer().build())).ok();
    script(&mut side);
    drop(registry);
    side.steps
}

#[test]
fn the_same_script_says_the_same() {
    require!(root, overlayfs, "docker", "dockerd", "iptables", "unshare", "nsenter", "ip");
    let daemon = Daemon::start();
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(theirs);
        let client = || daemon.on_host("docker");
        let registry =
            Registry::start(daemon.on_host(env!("CARGO_BIN_EXE_engine-cli")), &daemon.path("registry"));
        let mut side = Side::new(&daemon.path("root"), &client);
        script(&mut side);
        drop(registry);
        (side.steps, theirs.join().unwrap())
    });
    assert_eq!(ours.len(), theirs.len());
    let found: Vec<_> =
        ours.iter().zip(&theirs).filter_map(|(ours, theirs)| difference(ours, theirs)).collect();
    assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
    daemon.finish();
}
