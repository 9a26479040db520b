//! Building by others' clients: Docker's command line, both Composes, docker-py.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use engine_testkit::require;

use crate::support::{Daemon, Said, until};

const DOCKERFILE: &str = "\
FROM busybox AS made
ARG WHO=nobody
RUN echo for $WHO > /made
FROM busybox
LABEL from=file
COPY --from=made /made /made
COPY text dir/ /copied/
CMD [\"cat\", \"/made\", \"/copied/text\"]
";

/// A daemon, and a build context in its directory.
fn daemon() -> Daemon {
    let daemon = Daemon::start();
    let context = daemon.path("context");
    fs::create_dir_all(context.join("dir")).unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(context.join("text"), "of the context\n").unwrap();
    fs::write(context.join("dir/secret"), "ignored\n").unwrap();
    fs::write(context.join("dir/kept"), "kept\n").unwrap();
    fs::write(context.join(".dockerignore"), "**/secret\n").unwrap();
    daemon
}

/// Docker's command line with the builder that needs nothing but the daemon.
fn docker(daemon: &Daemon, args: &[&str]) -> Said {
    daemon.on_host("docker").env("DOCKER_BUILDKIT", "0").args(args).output().unwrap().into()
}

#[test]
fn docker_builds() {
    require!(root, overlayfs, "docker", "unshare", "nsenter", "ip");
    let daemon = daemon();
    let out = docker(
        &daemon,
        &[
            "build",
            "-t",
            "app",
            "-t",
            "app:2",
            "--build-arg",
            "WHO=docker",
            "--label",
            "given=yes",
            "context",
        ],
    )
    .ok();
    assert!(out.contains("Step 1/5 : FROM busybox"), "{out}");
    let id = docker(&daemon, &["image", "inspect", "-f", "{{.Id}}", "app:2"]).ok();
    let hex = id.trim().trim_start_matches("sha256:");
    assert!(
        out.contains(&format!("Successfully built {}\nSuccessfully tagged app:latest\n", &hex[..12])),
        "{out}"
    );
    let labels = docker(&daemon, &["image", "inspect", "-f", "{{json .Config.Labels}}", "app"]).ok();
    assert_eq!(labels.trim(), r#"{"from":"file","given":"yes"}"#);
    assert_eq!(daemon.docker(&["run", "--rm", "app"]).ok(), "for docker\nof the context\n");
    assert_eq!(daemon.docker(&["run", "--rm", "app", "ls", "/copied"]).ok(), "kept\ntext\n");
    // The same once more, and by our own command line without a daemon: all of it is there.
    let again =
        docker(&daemon, &["build", "-q", "--build-arg", "WHO=docker", "--label", "given=yes", "context"])
            .ok();
    assert_eq!(again, id);
    let ours =
        daemon.cli(&["build", "-q", "--build-arg", "WHO=docker", "--label", "given=yes", "context"]).ok();
    assert_eq!(ours, id);
    // A helper that is not there is no reason to fail for a build that does not need its registry.
    fs::create_dir(daemon.path("broken")).unwrap();
    let helpers = r#"{"credHelpers":{"broken.example":"not-there"}}"#;
    fs::write(daemon.path("broken/config.json"), helpers).unwrap();
    let mut remote = daemon.on_host(env!("CARGO_BIN_EXE_engine-cli"));
    remote.env("DOCKER_CONFIG", daemon.path("broken")).env("BUILDKIT_PROGRESS", "quiet");
    let said: Said = remote
        .args([
            "--host",
            &daemon.socket(),
            "build",
            "-q",
            "--build-arg",
            "WHO=docker",
            "--label",
            "given=yes",
            "context",
        ])
        .output()
        .unwrap()
        .into();
    assert!(said.err.starts_with("warning: no credentials for broken.example: "), "{said:?}");
    assert_eq!(said.ok(), id);
    let out = docker(&daemon, &["build", "--build-arg", "WHO=docker", "context"]).ok();
    assert!(out.contains(" ---> Using cache") && !out.contains("Running"), "{out}");

    // A file that is not in the context, standard input, a stage.
    fs::write(daemon.path("other"), "FROM busybox AS one\nENV A=b\nFROM one\nENV A=c\n").unwrap();
    docker(&daemon, &["build", "-f", "other", "--target", "one", "-t", "one", "context"]).ok();
    assert_eq!(docker(&daemon, &["image", "inspect", "-f", "{{index .Config.Env 1}}", "one"]).ok(), "A=b\n");
    let mut by_input = daemon.on_host("sh");
    by_input
        .env("DOCKER_BUILDKIT", "0")
        .args(["-c", "printf 'FROM busybox\\nUSER 7\\n' | docker build -q -t input -"]);
    assert!(by_input.status().unwrap().success());
    assert_eq!(docker(&daemon, &["image", "inspect", "-f", "{{.Config.User}}", "input"]).ok(), "7\n");
    let mut by_archive = daemon.on_host("sh");
    by_archive
        .env("DOCKER_BUILDKIT", "0")
        .args(["-c", "tar -C context -cz . | docker build -q -t archive -"]);
    assert!(by_archive.status().unwrap().success());
    assert_eq!(daemon.docker(&["run", "--rm", "archive"]).ok(), "for nobody\nof the context\n");

    // A command that fails tells its code; what is wrong in the file stands at its line.
    let failed = |text: &str| {
        fs::write(daemon.path("context/wrong"), text).unwrap();
        docker(&daemon, &["build", "-t", "failed", "-f", "context/wrong", "context"])
    };
    let said = failed("FROM busybox\nRUN echo last words; exit 3\n");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("last words"), "{said:?}");
    assert!(
        said.err.contains("The command '/bin/sh -c echo last words; exit 3' returned a non-zero code: 3"),
        "{said:?}"
    );
    let said = failed("FROM busybox\nRUN --network=none [\"sh\", \"-c\", \"exit 4\"]\n");
    assert!(said.err.contains("The command 'sh -c exit 4' returned a non-zero code: 4"), "{said:?}");
    let said = failed("FROM busybox\nRUM true\n");
    assert!(
        said.code == 1 && said.err.contains("wrong:2:1") && said.err.contains("unknown instruction RUM"),
        "{said:?}"
    );
    let said = failed("FROM busybox\nCOPY absent /\n");
    assert!(said.code == 1 && said.err.contains("absent"), "{said:?}");
    let said = docker(&daemon, &["build", "-t", "app", "--network", "none", "-f", "absent", "context"]);
    assert!(said.code == 1 && said.err.contains("absent"), "{said:?}");
    assert_eq!(docker(&daemon, &["images", "-q", "failed"]).ok(), "");

    // A client that goes takes its build with it, also amid a command that says nothing.
    let nap = format!("31{}", std::process::id());
    fs::write(daemon.path("silent"), format!("FROM busybox\nRUN echo begun; sleep {nap}\n")).unwrap();
    let mut command = daemon.on_host("docker");
    command.env("DOCKER_BUILDKIT", "0").args(["build", "-f", "silent", "context"]).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "begun"), "{}", daemon.log());
    let sleeps = || Command::new("pgrep").args(["-f", &format!("sleep {nap}$")]).output().unwrap();
    assert!(sleeps().status.success());
    client.kill().unwrap();
    client.wait().unwrap();
    until("the build ends", || !sleeps().status.success());
    assert_eq!(daemon.docker(&["ps", "-aq"]).ok(), "", "a build left a container");

    let df = docker(&daemon, &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    let steps: u32 = df.lines().find_map(|line| line.strip_prefix("Build Cache ")).unwrap().parse().unwrap();
    assert!(steps >= 3, "{df}");
    // What is to spare some spares it, and what is shown names it.
    let ids =
        docker(&daemon, &["system", "df", "-v", "--format", "{{range .BuildCache}}{{.ID}} {{end}}"]).ok();
    let one = ids.split_whitespace().next().unwrap();
    let left = |filter: &str| {
        docker(&daemon, &["builder", "prune", "-a", "-f", "--filter", filter]).ok();
        let df = docker(&daemon, &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
        df.lines().find_map(|line| line.strip_prefix("Build Cache ")).unwrap().parse::<u32>().unwrap()
    };
    for filter in
        ["unused-for=1h", "until=1h", "label=x", "label!=x", "inuse=true", "type=frontend", "id=abcdef0123"]
    {
        assert_eq!(left(filter), steps, "{filter}");
    }
    assert_eq!(left(&format!("id={}", &one[..12])), steps - 1);
    let said = docker(&daemon, &["builder", "prune", "-a", "-f", "--filter", "id=sha256:"]);
    assert!(said.code == 1 && said.err.contains("no id of a step"), "{said:?}");
    let pruned = docker(&daemon, &["builder", "prune", "-a", "-f"]);
    assert!(pruned.ok().contains("Total reclaimed space"));
    let df = docker(&daemon, &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    assert!(df.contains("Build Cache 0"), "{df}");
    assert_eq!(daemon.docker(&["run", "--rm", "app"]).ok(), "for docker\nof the context\n");
    assert_eq!(fs::read_dir(daemon.path("root/builds")).unwrap().count(), 0, "a context is left");
    daemon.finish();
}

const SERVICES: &str = "\
services:
  app:
    build:
      context: context
      args:
        WHO: compose
    image: composed
    # Compose asks for events while it starts, and does not learn of an end before that.
    command: sh -c 'cat /made; sleep 0.5'
";

#[test]
fn composes_and_docker_py_build() {
    require!(
        root,
        overlayfs,
        "unshare",
        "nsenter",
        "ip",
        "docker",
        "/usr/bin/docker-compose",
        "/opt/engine-tests/clients/bin/docker-compose",
        "/opt/engine-tests/clients/bin/python"
    );
    let daemon = daemon();
    fs::write(daemon.path("compose.yaml"), SERVICES).unwrap();
    for program in ["/opt/engine-tests/clients/bin/docker-compose", "/usr/bin/docker-compose"] {
        let compose = |args: &[&str]| -> Said {
            let mut command: Command = daemon.on_host(program);
            command.env("DOCKER_BUILDKIT", "0").env("COMPOSE_DOCKER_CLI_BUILD", "0");
            command
                .args(["--project-name", "shop", "--file", "compose.yaml"])
                .args(args)
                .output()
                .unwrap()
                .into()
        };
        let up = compose(&["up", "--build", "--abort-on-container-exit"]);
        assert_eq!(up.code, 0, "{program}: {up:?}");
        assert!(up.out.contains("for compose"), "{program}: {up:?}");
        compose(&["down", "--rmi", "local"]).ok();
        assert_eq!(daemon.docker(&["ps", "-aq"]).ok(), "");
    }
    let script = "
import docker, http.server, io, threading
client = docker.from_env(timeout=60)
image, lines = client.images.build(path='context', tag='python', buildargs={'WHO': 'python'}, rm=True)
assert image.tags == ['python:latest'], image.tags
assert any('Successfully built' in line.get('stream', '') for line in lines)
assert client.containers.run('python', remove=True) == b'for python\\nof the context\\n'
image, _ = client.images.build(fileobj=io.BytesIO(b'FROM busybox\\nENV A=b\\n'), labels={'a': 'b'})
assert image.labels == {'a': 'b'} and 'A=b' in image.attrs['Config']['Env'], image.attrs
try:
    client.images.build(fileobj=io.BytesIO(b'FROM busybox\\nRUN exit 4\\n'))
    raise AssertionError('it failed, and nobody said so')
except docker.errors.BuildError as error:
    assert 'returned a non-zero code: 4' in error.msg, error.msg
try:
    client.images.build(fileobj=io.BytesIO(b'FROM busybox\\nCOPPY a b\\n'))
    raise AssertionError('there is no such instruction')
except docker.errors.APIError as error:
    assert error.status_code == 400 and 'COPPY' in str(error), error
# A context that the daemon fetches: a Dockerfile behind a URL.
class Served(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = b'FROM busybox\\nENV FROM=url\\n'
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(('127.0.0.1', 0), Served)
threading.Thread(target=server.serve_forever, daemon=True).start()
image, _ = client.images.build(path=f'http://127.0.0.1:{server.server_port}/file')
assert 'FROM=url' in image.attrs['Config']['Env'], image.attrs
def prune(**limits):
    params = {name.replace('_', '-'): value for name, value in limits.items()}
    return client.api._post(client.api._url('/build/prune'), params=params)
assert prune(max_used_space=10**9).json()['CachesDeleted'] == []
assert prune(max_used_space=1, reserved_space=10**9).json()['CachesDeleted'] == []
answer = prune(min_free_space=1)
assert answer.status_code == 400 and 'max-used-space' in answer.text, answer.text
steps = {step['ID'] for step in client.df()['BuildCache']}
assert steps and set(client.api.prune_builds()['CachesDeleted']) == steps
";
    let said: Said = daemon.client("python").args(["-c", script]).output().unwrap().into();
    said.ok();
    daemon.finish();
}
