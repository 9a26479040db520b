//! `RUN --mount`: agents, binds that are written to, caches that begin with something.

use std::os::unix::net::UnixListener;

use engine_testkit::require;

use super::{Builder, write};

#[test]
fn what_is_written_to_a_bind_is_dropped_and_caches_begin_as_they_are_told() {
    require!(root, overlayfs);
    let elsewhere = std::env::var_os("ENGINE_TEST_HOST").is_some();
    let all = Builder::new(&[("src/a", "a\n")]);
    let named = all.cli.path("named");
    for (path, content) in [("inside", "inside\n"), ("hidden", "hidden\n"), (".dockerignore", "hidden\n")] {
        write(&named, path, content);
    }
    let named = format!("named={}", named.display());
    let socket = all.cli.path("agent");
    let _agent = UnixListener::bind(&socket).unwrap();
    let ssh = format!("default={}", socket.display());
    let dockerfile = "FROM busybox AS first
RUN mkdir -p /seed/deep && echo seed > /seed/deep/file && chown 3:4 /seed
FROM busybox
RUN --mount=type=bind,source=src,target=/src,rw echo new > /src/new && rm /src/a && ls /src > /one
RUN --mount=type=bind,from=first,source=/seed,target=/seed,rw echo x >> /seed/deep/file; cat /seed/deep/file > /two
RUN --mount=type=bind,source=src/a,target=/file,rw echo more >> /file; cat /file > /three
RUN --mount=from=named,target=/named ls /named > /four
RUN --mount=type=cache,id=own,target=/c,uid=5,gid=6,mode=0710 stat -c '%u:%g %a' /c > /five
RUN --mount=type=cache,id=seeded,target=/c,from=first,source=/seed cat /c/deep/file > /six; stat -c %u:%g /c >> /six; echo more >> /c/deep/file
RUN --mount=type=cache,id=private,target=/c,sharing=private ls /c | wc -l > /seven; touch /c/x
RUN --mount=type=ssh,mode=0620,uid=7,gid=8 stat -c '%F %a %u:%g' $SSH_AUTH_SOCK > /eight; echo $SSH_AUTH_SOCK >> /eight
RUN --mount=type=ssh,id=none test -z \"$SSH_AUTH_SOCK\"
COPY src/a /nine
";
    let mut flags = vec!["-t", "app", "--build-context", &named, "--ssh", &ssh];
    let (mut dockerfile, mut files) =
        (dockerfile.to_owned(), "one two three four five six seven eight nine".to_owned());
    let mut first = "new\nseed\nx\na\nmore\ninside\n5:6 710\nseed\n3:4\n0\nsocket 620 7:8\n/run/buildkit/ssh_agent.0\na\n".to_owned();
    if elsewhere {
        // Agents are sockets of the engine's host.
        all.write("Dockerfile", "FROM busybox\n");
        all.build(&["--ssh", &ssh]).fails(1, &["agent", "elsewhere"]);
        flags.truncate(4);
        dockerfile = dockerfile
            .lines()
            .filter(|line| !line.contains("ssh,mode"))
            .map(|line| format!("{line}\n"))
            .collect();
        files = files.replace(" eight", "");
        first = first.replace("socket 620 7:8\n/run/buildkit/ssh_agent.0\n", "");
    }
    all.id(&dockerfile, &flags);
    let read = format!("cd /; cat {files}");
    assert_eq!(all.inside("app", &read), first);
    let left = "ls -d /src /seed /named /file /c /run/buildkit 2>/dev/null | wc -l";
    assert_eq!(all.inside("app", left), "0\n");
    // Caches go on as they were left; binds do not.
    all.id(&dockerfile, &[&flags[..], &["--no-cache"]].concat());
    let second = first.replace("seed\n3:4\n0\n", "seed\nmore\n3:4\n1\n");
    assert_eq!(all.inside("app", &read), second);
    for (mount, flags, words) in [
        ("type=ssh,required", &[][..], &["--ssh default"][..]),
        ("type=cache,target=/c,source=/x", &[], &["there is no from"]),
        ("type=bind,source=none,target=/x,rw", &[], &["none", "no such file"]),
    ] {
        all.write("Dockerfile", &format!("FROM busybox\nRUN --mount={mount} true\n"));
        all.build(flags).fails(1, &[&["Dockerfile:2"], words].concat());
    }
    if !elsewhere {
        let file = all.cli.path("context/Dockerfile").display().to_string();
        all.build(&["--ssh", &format!("key={file}")]).fails(1, &["no socket", "ssh-agent"]);
    }
    all.finish();
}
