//! What a layer depends on: another one of it is another layer, whatever the cache has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use engine_testkit::require;
use rustix::fs::XattrFlags;

use super::{Builder, write};

/// CAP_NET_RAW, permitted and effective, as capabilities(7) stores it (version 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn what_a_layer_depends_on_is_in_its_key() {
    require!(root, overlayfs);
    let all = Builder::new(&[("a/b/c", "c\n"), ("tool", "t\n"), ("odd/[id]/f", "odd\n"), ("x", "s\n")]);
    let said = |dockerfile: &str, flags: &[&str], script: &str| {
        all.id(dockerfile, &[&["-t", "app"], flags].concat());
        all.inside("app", script)
    };
    // What --parents keeps.
    for (source, there) in [("a/b/c", "/d/a/b/c\n"), ("a/./b/c", "/d/b/c\n")] {
        let dockerfile = format!("FROM busybox\nCOPY --parents {source} /d/\n");
        assert_eq!(said(&dockerfile, &[], "find /d -type f"), there);
    }
    // Whom a name means, also where nothing else of the layers below counts.
    for id in ["1000", "2000"] {
        let dockerfile = format!(
            "FROM busybox\nRUN echo app:x:{id}:{id}::/:/bin/sh >> /etc/passwd; echo app:x:{id}: >> /etc/group\n\
             COPY --link --chown=app:app tool /\n"
        );
        assert_eq!(said(&dockerfile, &[], "stat -c %u:%g /tool"), format!("{id}:{id}\n"));
    }
    // What a file may do.
    let copy = "FROM busybox\nCOPY tool /\n";
    let plain = all.id(copy, &[]);
    let tool = format!("{}/tool", all.context);
    rustix::fs::setxattr(&tool, "security.capability", &CAPABILITY, XattrFlags::empty()).unwrap();
    let able = all.id(copy, &[]);
    assert_ne!(able, plain);
    assert_eq!(all.id(copy, &["--no-cache"]), able);
    rustix::fs::removexattr(&tool, "security.capability").unwrap();
    assert_eq!(all.id(copy, &[]), plain);
    // When it is said to be made.
    for time in ["1000", "2000"] {
        let flag = format!("SOURCE_DATE_EPOCH={time}");
        let dockerfile = "FROM busybox\nWORKDIR /made\nCOPY <<one /two/\n1\none\nRUN touch /three\n";
        let times = said(dockerfile, &["--build-arg", &flag], "stat -c %Y /made /two /two/one /three");
        assert_eq!(times, format!("{time}\n").repeat(4));
    }
    // What a command sees: of a secret, all but what it says; names; limits.
    let secret = format!("id=x,src={}/x", all.context);
    for (mode, shown) in [("0400", "400\n"), ("0444", "444\n")] {
        let dockerfile = format!(
            "FROM busybox\nRUN --mount=type=secret,id=x,mode={mode} stat -c %a /run/secrets/x > /mode\n"
        );
        assert_eq!(said(&dockerfile, &["--secret", &secret], "cat /mode"), shown);
    }
    for address in ["10.0.0.1", "10.0.0.2"] {
        let dockerfile = "FROM busybox\nRUN grep host.of.build /etc/hosts > /seen\n";
        let flag = format!("host.of.build:{address}");
        assert!(said(dockerfile, &["--add-host", &flag], "cat /seen").starts_with(address));
    }
    all.finish();
}

#[test]
fn paths_lead_where_the_image_and_the_command_say() {
    require!(root, overlayfs);
    let all = Builder::new(&[("odd/[id]/f", "odd\n"), ("one/two/f", "f\n")]);
    let base = all.cli.path("base");
    write(&base, "etc/own", "own\n");
    write(&base, ".dockerignore", "left\n");
    write(&base, "left", "left\n");
    fs::create_dir(base.join("bin")).unwrap();
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    fs::set_permissions(base.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let context = format!("base={}", base.display());
    // What an ignore file leaves out has no other name.
    all.write(".dockerignore", "hidden\n");
    all.write("hidden/f", "hidden\n");
    std::os::unix::fs::symlink("hidden", format!("{}/shown", all.context)).unwrap();
    for source in ["shown", "sho*", "shown/f"] {
        all.write("Dockerfile", &format!("FROM scratch\nCOPY {source} /x\n"));
        all.build(&[]).fails(1, &[source, ".dockerignore leaves it out"]);
    }
    all.id(
        "FROM busybox AS linked
RUN mkdir -p /real /d && ln -s /real /link && ln -s /real /d/one
WORKDIR /link/app
RUN pwd -P > /where
WORKDIR /link
RUN pwd -P >> /where
COPY --parents one/two /d/
RUN --mount=type=bind,source=odd/[id],target=/x cat /x/f >> /where
FROM base
RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox cat /etc/own > /seen\"]
COPY --from=linked /where /real/two/f /from/
",
        &["-t", "app", "--build-context", &context],
    );
    let script = "cat /from/where /from/f /seen; stat -c %u:%g /etc/own; ls -a / | grep -c left";
    let said = all.inside("app", &format!("{script}; true"));
    assert_eq!(said, "/real/app\n/real\nodd\nf\nown\n0:0\n0\n");
    all.finish();
}
