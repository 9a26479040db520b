use super::*;
use crate::dockerfile::{
    ArgDefinition, CacheSharing, Command, Escape, Healthcheck, RunMount, RunNetwork, RunScript, RunSecurity,
};
use std::time::Duration;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Parses one instruction of a stage.
fn one(text: &str) -> Instruction {
    let mut file = parse(&format!("FROM a\n{text}\n"));
    assert_eq!(file.stages.len(), 1, "{text}");
    let stage = &mut file.stages[0];
    assert_eq!(stage.instructions.len(), 1, "{text}");
    stage.instructions.remove(0).value
}

/// Returns line, column, message and hint of each error.
fn wrong(text: &str) -> Vec<(u32, u32, String, Option<String>)> {
    let errors = Dockerfile::parse("Dockerfile", text.as_bytes()).expect_err(text);
    let all = errors.as_slice().iter();
    all.map(|e| (e.line(), e.column(), e.message().to_owned(), e.hint().map(str::to_owned))).collect()
}

fn shell(text: &str) -> Command {
    Command::Shell(text.to_owned())
}

fn exec(arguments: &[&str]) -> Command {
    Command::Exec(arguments.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn stages_arguments_and_places() {
    let file = parse(
        "# syntax=docker/dockerfile:1\n\n# V which version\nARG V=1 W\nFROM --platform=$BUILDPLATFORM a:$V as Build\nRUN x\\\n  \
         y\n\nfrom scratch\nCOPY --from=build /a /b\n",
    );
    assert_eq!(file.directives.syntax.as_ref().unwrap().value, "docker/dockerfile:1");
    assert_eq!(
        file.args[0].definitions,
        [
            ArgDefinition {
                name: "V".to_owned(),
                default: Some("1".to_owned()),
                description: Some("which version".to_owned())
            },
            ArgDefinition { name: "W".to_owned(), default: None, description: None },
        ]
    );
    let [build, last] = &file.stages[..] else { panic!("{file:?}") };
    assert_eq!((build.name.as_deref(), build.base.as_str()), (Some("build"), "a:$V"));
    assert_eq!(build.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!((build.span.line, build.span.end_line), (5, 5));
    let run = &build.instructions[0];
    assert_eq!((run.span.line, run.span.end_line, run.text.as_str()), (6, 7, "RUN x  y"));
    assert_eq!((last.name.as_deref(), last.base.as_str(), last.instructions.len()), (None, "scratch", 1));
    assert_eq!(file.name(), "Dockerfile");
}

#[test]
fn lines_are_continued_over_comments_and_nothing() {
    for (text, expected) in [
        ("RUN a \\\n b", "a  b"),
        ("RUN a \\\n# comment\n  # another\n b", "a  b"),
        ("RUN a \\\n\n b", "a  b"),
        ("RUN a \\  \t\n b", "a  b"),
        ("RUN a \\\r\n b\r", "a  b"),
        ("  RUN a\\\nb", "ab"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a # b", "a # b"),
        ("RUN \\\n a", "a"),
        ("\\\nRUN a", "a"),
        ("RUN a \\\n", "a"),
        ("R\\\nUN a", "a"),
    ] {
        let Instruction::Run(run) = one(text) else { panic!("{text}") };
        assert_eq!(run.command, shell(expected), "{text:?}");
    }
}

#[test]
fn the_escape_character_can_be_chosen() {
    let file = parse("# escape=`\nFROM a\nRUN a `\n  c:\\\nENV A=b` c\n");
    assert_eq!(file.directives.escape, Escape::Backquote);
    let Instruction::Run(run) = &file.stages[0].instructions[0].value else { panic!() };
    assert_eq!(run.command, shell("a   c:\\"));
    let Instruction::Env(env) = &file.stages[0].instructions[1].value else { panic!() };
    assert_eq!(env.pairs[0].value, "b` c");
}

#[test]
fn directives_only_at_the_top() {
    let escape = |text: &str| parse(&format!("{text}FROM a\n")).directives.escape;
    for (text, expected) in [
        ("# escape=`\n", Escape::Backquote),
        ("#escape=`\r\n", Escape::Backquote),
        ("  #  EsCaPe =  `  \n", Escape::Backquote),
        ("\u{feff}# escape=`\n", Escape::Backquote),
        ("# syntax=x\n# escape=`\n", Escape::Backquote),
        ("#!/usr/bin/env docker\n# escape=`\n", Escape::Backquote),
        ("\n# escape=`\n", Escape::Backslash),
        ("# comment\n# escape=`\n", Escape::Backslash),
        ("# unknown=x\n# escape=`\n", Escape::Backslash),
        ("ARG x\n# escape=`\n", Escape::Backslash),
    ] {
        assert_eq!(escape(text), expected, "{text:?}");
    }
    let twice = wrong("# escape=`\n# escape=`\nFROM a\n");
    assert_eq!((twice[0].0, twice[0].2.as_str()), (2, "the directive escape is there twice"));
    let what = wrong("# escape=x\nFROM a\n");
    assert_eq!((what[0].0, what[0].1, what[0].2.as_str()), (1, 10, "\"x\" is no escape character"));
}

#[test]
fn syntax_is_found_in_any_notation() {
    use crate::dockerfile::detect_syntax;
    for (text, expected) in [
        ("# syntax=docker/dockerfile:1 x\nFROM a", Some("docker/dockerfile:1")),
        ("// syntax=a/b\n{}", Some("a/b")),
        ("{\"syntax\": \"a/b\"}", Some("a/b")),
        ("#!/bin/x\n# syntax=a", Some("a")),
        ("#!/bin/x\n{\"syntax\": \"a/b\"}", Some("a/b")),
        ("FROM a\n# syntax=b", None),
        ("", None),
    ] {
        assert_eq!(detect_syntax(text.as_bytes()).as_deref(), expected, "{text}");
    }
}

#[test]
fn commands_in_both_forms() {
    for (text, expected) in [
        ("CMD a b", shell("a b")),
        ("CMD [\"a\", \"b\"]", exec(&["a", "b"])),
        ("CMD ['a', 'b']", shell("['a', 'b']")),
        ("CMD [\"a\" \"b\"]", shell("[\"a\" \"b\"]")),
        ("CMD []", exec(&[])),
        ("CMD", shell("")),
        ("cmd [ \"a\" ]", exec(&["a"])),
        ("CMD [ \"a\",\\\n \"b\" ]", exec(&["a", "b"])),
    ] {
        let Instruction::Cmd(cmd) = one(text) else { panic!("{text}") };
        assert_eq!(cmd.command, expected, "{text}");
    }
    assert_eq!(shell("x y").arguments(&["sh".to_owned(), "-c".to_owned()]), ["sh", "-c", "x y"]);
    let Instruction::Shell(shell) = one("SHELL [\"bash\", \"-c\"]") else { panic!() };
    assert_eq!(shell.arguments, ["bash", "-c"]);
    let Instruction::Entrypoint(entrypoint) = one("ENTRYPOINT [\"a\"]") else { panic!() };
    assert_eq!(entrypoint.command, exec(&["a"]));
}

#[test]
fn variables_labels_and_arguments() {
    for (text, expected) in [
        ("ENV a=b", vec![("a", "b", false)]),
        (
            "ENV a=\"b c\" d='e f' g=h\\ i j=",
            vec![("a", "\"b c\"", false), ("d", "'e f'", false), ("g", "h\\ i", false), ("j", "", false)],
        ),
        ("ENV a b  c \"d\"", vec![("a", "b  c \"d\"", true)]),
        ("ENV a=b=c", vec![("a", "b=c", false)]),
        ("ENV a=1 \\\n    b=2", vec![("a", "1", false), ("b", "2", false)]),
    ] {
        let Instruction::Env(env) = one(text) else { panic!("{text}") };
        let found: Vec<_> = env.pairs.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.legacy)).collect();
        assert_eq!(found, expected, "{text}");
    }
    let Instruction::Label(label) = one("LABEL \"a.b\"=\"c\"") else { panic!() };
    assert_eq!((label.pairs[0].key.as_str(), label.pairs[0].value.as_str()), ("\"a.b\"", "\"c\""));
    let Instruction::Arg(arg) = one("ARG a b= c=\"d e\"") else { panic!() };
    let found: Vec<_> = arg.definitions.iter().map(|d| (d.name.as_str(), d.default.as_deref())).collect();
    assert_eq!(found, [("a", None), ("b", Some("")), ("c", Some("\"d e\""))]);
}

#[test]
fn files_and_their_flags() {
    let Instruction::Copy(copy) =
        one("COPY --from=b --chown=1:2 --chmod=u+x --link --parents --exclude=*.md --exclude=x a \"b\" c/")
    else {
        panic!()
    };
    assert_eq!(copy.sources, ["a", "\"b\""]);
    assert_eq!((copy.destination.as_str(), copy.from.as_deref()), ("c/", Some("b")));
    assert_eq!((copy.chown.as_deref(), copy.chmod.as_deref()), (Some("1:2"), Some("u+x")));
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, ["*.md", "x"]);
    let Instruction::Copy(copy) = one("COPY [\"a b\", \"c\"]") else { panic!() };
    assert_eq!((copy.sources.as_slice(), copy.destination.as_str()), (&["a b".to_owned()][..], "c"));
    let Instruction::Add(add) =
        one("ADD --checksum=sha256:1 --keep-git-dir=true --unpack=false --link=false https://x/y /")
    else {
        panic!()
    };
    assert_eq!(add.checksum.as_deref(), Some("sha256:1"));
    assert_eq!((add.keep_git_dir, add.unpack, add.link), (true, Some(false), false));
}

#[test]
fn heredocs_of_files() {
    let file =
        parse("FROM a\nCOPY <<one <<-\"two\" src /dest/\nfirst $x\none\n\tsecond $x\n\ttwo\nRUN after\n");
    let Instruction::Copy(copy) = &file.stages[0].instructions[0].value else { panic!() };
    assert_eq!((copy.sources.as_slice(), copy.destination.as_str()), (&["src".to_owned()][..], "/dest/"));
    let [one, two] = &copy.documents[..] else { panic!("{copy:?}") };
    assert_eq!((one.name.as_str(), one.content.as_str(), one.expand), ("one", "first $x\n", true));
    assert_eq!((two.name.as_str(), two.document().as_ref(), two.expand), ("two", "second $x\n", false));
    let span = file.stages[0].instructions[0].span;
    assert_eq!((span.line, span.end_line), (2, 6));
    assert_eq!(file.stages[0].instructions[1].span.line, 7);

    let variables = std::collections::BTreeMap::from([("x".to_owned(), "1".to_owned())]);
    let mut expander = Expander::new(&variables, Escape::Backslash);
    let Instruction::Copy(copy) = file.expand(&file.stages[0].instructions[0], &mut expander).unwrap() else {
        panic!()
    };
    assert_eq!(copy.documents[0].content, "first 1\n");
    assert_eq!(copy.documents[1].content, "second $x\n");
}

#[test]
fn heredocs_of_commands() {
    for (text, expected) in [
        ("RUN <<EOF\necho $a\necho b \\\nEOF", "echo $a\necho b \\\n"),
        ("RUN <<-EOF\n\techo a\n\tEOF", "echo a\n"),
        ("RUN cat <<EOF > /x && cat <<-E2\na\nEOF\n\tb\nE2", "cat <<EOF > /x && cat <<-E2\na\nEOF\n\tb\nE2"),
        ("RUN python3 <<\"EOF\"\n# no comment\n\nEOF", "python3 <<\"EOF\"\n# no comment\n\nEOF"),
        ("RUN --network=none <<EOF\r\na\r\nEOF\r", "a\r\n"),
        ("RUN echo \"<<EOF\"", "echo \"<<EOF\""),
    ] {
        let Instruction::Run(run) = one(text) else { panic!("{text}") };
        assert_eq!(run.script(), RunScript::Shell(expected.into()), "{text}");
    }
    let Instruction::Run(run) = one("RUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF") else { panic!() };
    let content = "#!/usr/bin/python3\nprint(1)\n".into();
    assert_eq!(run.script(), RunScript::File { name: "EOF", content });
    let Instruction::Run(run) = one("RUN [\"cat\", \"<<EOF\"]") else { panic!() };
    assert_eq!(run.script(), RunScript::Exec(&["cat".to_owned(), "<<EOF".to_owned()]));
    // No heredocs elsewhere.
    let Instruction::Cmd(cmd) = one("CMD cat <<EOF") else { panic!() };
    assert_eq!(cmd.command, shell("cat <<EOF"));
}

#[test]
fn mounts_and_their_keys() {
    let Instruction::Run(run) = one(
        "RUN --mount=target=/a --mount=type=cache,id=c,target=/b,sharing=LOCKED,mode=0700,uid=1,gid=2 \
         --mount=type=tmpfs,dst=/t,size=64m --mount=type=secret,id=s,env=S,required \
         --mount=type=secret,target=/x/tok,uid=3 --mount=type=ssh,required=false \
         --mount=type=bind,from=b,source=/s,target=/d,rw --network=host --security=insecure --device=v/c=d,required x",
    ) else {
        panic!()
    };
    let [bind, cache, tmpfs, env, secret, ssh, stage] = &run.mounts[..] else { panic!("{run:?}") };
    let RunMount::Bind(bind) = bind else { panic!() };
    assert!(bind.read_only && bind.from.is_none() && bind.target.as_deref() == Some("/a"));
    let RunMount::Cache(cache) = cache else { panic!() };
    assert_eq!((cache.name(), cache.sharing), ("c", CacheSharing::Locked));
    assert_eq!((cache.mode, cache.uid, cache.gid, cache.read_only), (Some(0o700), Some(1), Some(2), false));
    let RunMount::Tmpfs(tmpfs) = tmpfs else { panic!() };
    assert_eq!((tmpfs.target.as_deref(), tmpfs.size), (Some("/t"), Some(64 << 20)));
    let RunMount::Secret(env) = env else { panic!() };
    assert_eq!((env.id.as_str(), env.target.as_deref(), env.env.as_deref()), ("s", None, Some("S")));
    assert!(env.required);
    let RunMount::Secret(secret) = secret else { panic!() };
    assert_eq!((secret.id.as_str(), secret.target.as_deref()), ("tok", Some("/x/tok")));
    let RunMount::Ssh(ssh) = ssh else { panic!() };
    assert!(!ssh.required && ssh.id.is_none());
    let RunMount::Bind(stage) = stage else { panic!() };
    assert_eq!(
        (stage.from.as_deref(), stage.source.as_deref(), stage.read_only),
        (Some("b"), Some("/s"), false)
    );
    assert_eq!((run.network, run.security), (RunNetwork::Host, RunSecurity::Insecure));
    assert_eq!((run.devices[0].name.as_deref(), run.devices[0].required), (Some("v/c=d"), true));
    let Instruction::Run(run) = one("RUN --mount=type=secret,id=a/b x") else { panic!() };
    let RunMount::Secret(secret) = &run.mounts[0] else { panic!() };
    assert_eq!(secret.target.as_deref(), Some("/run/secrets/b"));
}

#[test]
fn mounts_with_variables_are_read_when_they_are_expanded() {
    let file = parse("FROM a\nRUN --mount=type=$t,id=$i,target=/x,uid=$u y\n");
    let instruction = &file.stages[0].instructions[0];
    let expand = |pairs: &[(&str, &str)]| {
        let variables: std::collections::BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut expander = Expander::new(&variables, Escape::Backslash);
        let result = file.expand(instruction, &mut expander);
        (result, expander.used().iter().cloned().collect::<Vec<_>>())
    };
    let (result, used) = expand(&[("t", "cache"), ("i", "c"), ("u", "5"), ("v", "no")]);
    let Instruction::Run(run) = result.unwrap() else { panic!() };
    let RunMount::Cache(cache) = &run.mounts[0] else { panic!() };
    assert_eq!((cache.name(), cache.uid), ("c", Some(5)));
    assert_eq!(used, ["i", "t", "u"]);
    let (result, _) = expand(&[("t", "cahce"), ("u", "1")]);
    let error = result.unwrap_err();
    assert_eq!(error.line(), 2);
    assert!(error.to_string().contains("did you mean cache?"), "{error}");
}

#[test]
fn health_checks() {
    assert_eq!(one("HEALTHCHECK none"), Instruction::Healthcheck(Healthcheck::None));
    let Instruction::Healthcheck(Healthcheck::Command(check)) = one(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=2s --retries=5 cmd curl x || exit 1",
    ) else {
        panic!()
    };
    assert_eq!(check.command, shell("curl x || exit 1"));
    assert_eq!(check.interval, Some(Duration::from_secs(90)));
    assert_eq!(check.timeout, Some(Duration::from_millis(500)));
    assert_eq!((check.start_period, check.start_interval), (None, Some(Duration::from_secs(2))));
    assert_eq!(check.retries, Some(5));
    let Instruction::Healthcheck(Healthcheck::Command(check)) = one("HEALTHCHECK CMD [\"a\"]") else {
        panic!()
    };
    assert_eq!((check.command, check.retries), (exec(&["a"]), None));
}

#[test]
fn triggers_keep_their_text() {
    let Instruction::OnBuild(trigger) = one("ONBUILD copy . /src") else { panic!() };
    assert_eq!(trigger.instruction, "copy . /src");
    let read = Instruction::parse("image", &trigger.instruction).unwrap();
    assert_eq!((read.name(), read.text.as_str()), ("COPY", "copy . /src"));
    let Instruction::OnBuild(trigger) = one("ONBUILD RUN <<-EOF\n\techo a\n\tEOF") else { panic!() };
    let read = Instruction::parse("image", &trigger.instruction).unwrap();
    let Instruction::Run(run) = &read.value else { panic!() };
    assert_eq!(run.script(), RunScript::Shell("echo a\n".into()));
    for text in ["", "FROM a", "RUN a\nRUN b", "NOTHING", "# only"] {
        Instruction::parse("image", text).expect_err(text);
    }
}

#[test]
fn other_instructions() {
    let Instruction::Expose(expose) = one("EXPOSE 80 53/udp $P") else { panic!() };
    assert_eq!(expose.ports, ["$P", "53/udp", "80"]);
    let Instruction::Volume(volume) = one("VOLUME [\"/a\", \"/b c\"]") else { panic!() };
    assert_eq!(volume.paths, ["/a", "/b c"]);
    let Instruction::Volume(volume) = one("VOLUME /a /b") else { panic!() };
    assert_eq!(volume.paths, ["/a", "/b"]);
    let Instruction::User(user) = one("USER a:b") else { panic!() };
    assert_eq!(user.user, "a:b");
    let Instruction::Workdir(workdir) = one("WORKDIR a b") else { panic!() };
    assert_eq!(workdir.path, "a b");
    let Instruction::StopSignal(signal) = one("STOPSIGNAL SIGTERM") else { panic!() };
    assert_eq!(signal.signal, "SIGTERM");
    let Instruction::Maintainer(maintainer) = one("MAINTAINER a <b@c>") else { panic!() };
    assert_eq!(maintainer.name, "a <b@c>");
}

#[test]
fn what_is_expanded_and_what_is_not() {
    let variables = std::collections::BTreeMap::from([
        ("v".to_owned(), "x y".to_owned()),
        ("k".to_owned(), "K".to_owned()),
    ]);
    for (text, expected) in [
        ("RUN echo $v", "RUN echo $v"),
        ("CMD [\"$v\"]", "CMD [\"$v\"]"),
        ("ENTRYPOINT $v", "ENTRYPOINT $v"),
        ("HEALTHCHECK CMD $v", "HEALTHCHECK CMD $v"),
        ("SHELL [\"$v\"]", "SHELL [\"$v\"]"),
        ("ONBUILD RUN $v", "ONBUILD RUN $v"),
        ("MAINTAINER $v", "MAINTAINER $v"),
        ("ARG a=$v", "ARG a=$v"),
        ("ENV $k=\"$v z\"", "ENV K=\"x y z\""),
        ("LABEL l=$v", "LABEL l=\"x y\""),
        ("EXPOSE $v", "EXPOSE x y"),
        ("USER $k", "USER K"),
        ("VOLUME /$k", "VOLUME /K"),
        ("WORKDIR /$v", "WORKDIR /x y"),
        ("STOPSIGNAL $k", "STOPSIGNAL K"),
        (
            "COPY --chown=$k --chmod=$k --exclude=$k [\"$v\", \"/$k\"]",
            "COPY --chown=K --chmod=K --exclude=K [\"x y\", \"/K\"]",
        ),
        ("ADD --checksum=$k $k /", "ADD --checksum=K K /"),
    ] {
        let mut expander = Expander::new(&variables, Escape::Backslash);
        let expanded = one(text).expand(&mut expander).unwrap();
        // Quotes go with the expansion.
        let unquoted = |mut instruction: Instruction| {
            if let Instruction::Env(super::super::Env { pairs })
            | Instruction::Label(super::super::Label { pairs }) = &mut instruction
            {
                for pair in pairs {
                    pair.value = pair.value.trim_matches('"').to_owned();
                }
            }
            instruction
        };
        assert_eq!(expanded, unquoted(one(expected)), "{text}");
    }
}

#[test]
fn errors_name_their_place_and_what_to_do() {
    for (text, line, column, message, hint) in [
        ("FROM a\nRUNN x", 2, 1, "unknown instruction RUNN", "did you mean RUN?"),
        ("FROM a\nRUN \\\n  --mont=x y", 3, 3, "unknown flag --mont", "did you mean --mount?"),
        (
            "FROM a\nRUN --mount=tpye=bind x",
            2,
            5,
            "unexpected key \"tpye\" in the flag --mount",
            "did you mean type?",
        ),
        ("FROM a\nRUN --mount=type=bnd x", 2, 5, "unsupported type \"bnd\" of --mount", "did you mean bind?"),
        (
            "FROM a\nRUN --mount=type=cache,sharing=loked x",
            2,
            5,
            "unsupported sharing \"loked\"",
            "did you mean locked?",
        ),
        (
            "FROM a\nRUN --mount=type=secret x",
            2,
            5,
            "a secret needs an id or a target",
            "such as --mount=type=secret,id=token",
        ),
        (
            "FROM a\nRUN --mount=from=$x,target=/a x",
            2,
            5,
            "from of --mount does not support variables",
            "begin a stage FROM the variable, and give its name here",
        ),
        (
            "FROM a\nCOPY --from=$x a b",
            2,
            6,
            "--from does not support variables",
            "begin a stage FROM the variable, and give its name here",
        ),
        ("FROM a\nRUN --network=hots x", 2, 5, "unknown network \"hots\"", "did you mean host?"),
        ("FROM a\nENV a", 2, 5, "ENV needs a name and a value", "write ENV a=value"),
        (
            "FROM a\nENV a=b c",
            2,
            9,
            "\"c\" lacks =",
            "write name=value, with quotes around a value that has spaces: ENV name=\"a b\"",
        ),
        (
            "FROM a\nSHELL bash -c",
            2,
            7,
            "SHELL needs an array of JSON",
            "such as SHELL [\"/bin/bash\", \"-c\"]",
        ),
        (
            "FROM a\nCMD [\"a\", 1]",
            2,
            5,
            "the array must have strings and nothing else",
            "put each element in double quotes",
        ),
        (
            "FROM a AS 1x",
            1,
            11,
            "invalid name of a stage \"1x\"",
            "it begins with a letter and has letters, digits, '-', '_' and '.'",
        ),
        ("FROM a AS", 1, 8, "FROM takes one argument, or three", "write FROM image, or FROM image AS name"),
        (
            "RUN x\nFROM a",
            1,
            1,
            "RUN is not allowed before the first FROM",
            "begin with FROM; nothing but ARG may come before it",
        ),
        (
            "FROM a\nHEALTHCHECK CDM x",
            2,
            13,
            "unknown kind of health check \"CDM\"",
            "it is HEALTHCHECK CMD command or HEALTHCHECK NONE",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=5 CMD x",
            2,
            13,
            "\"5\" is no time",
            "give a time such as 30s or 1m30s",
        ),
        (
            "FROM a\nHEALTHCHECK --retries=-1 CMD x",
            2,
            13,
            "\"-1\" is no number of retries",
            "give a number from 0",
        ),
        (
            "FROM a\nRUN <<EOF\nx\n",
            2,
            5,
            "the heredoc \"EOF\" has no end",
            "a line with nothing but EOF ends it",
        ),
    ] {
        assert_eq!(wrong(text)[0], (line, column, message.to_owned(), Some(hint.to_owned())), "{text}");
    }
    for (text, message) in [
        ("", "the file has no instructions"),
        ("# nothing\n", "the file has no instructions"),
        ("ARG a\n", "the file has no stage: there is no FROM"),
        ("FROM", "FROM needs the name of an image or a stage"),
        ("FROM a\nCOPY a", "COPY needs at least one source and a destination"),
        ("FROM a\nCOPY a <<EOF\nx\nEOF", "a heredoc cannot be the destination"),
        ("FROM a\nLABEL", "LABEL needs an argument"),
        ("FROM a\nENV =x", "ENV needs a name in front of ="),
        ("FROM a\nARG =x", "ARG needs a name in front of ="),
        ("FROM a\nUSER", "USER needs an argument"),
        ("FROM a\nEXPOSE", "EXPOSE needs an argument"),
        ("FROM a\nVOLUME [\"\"]", "the path of a VOLUME is empty"),
        ("FROM a\nVOLUME []", "VOLUME needs an argument"),
        ("FROM a\nRUN []", "RUN needs a command"),
        ("FROM a\nSHELL []", "SHELL needs an argument"),
        ("FROM a\nHEALTHCHECK CMD", "HEALTHCHECK CMD needs a command"),
        ("FROM a\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nONBUILD FROM b", "FROM is not allowed behind ONBUILD"),
        ("FROM a\nONBUILD maintainer b", "MAINTAINER is not allowed behind ONBUILD"),
        ("FROM a\nONBUILD ONBUILD RUN x", "ONBUILD ONBUILD is not allowed"),
        ("FROM a\nONBUILD RUNN x", "unknown instruction RUNN"),
        ("FROM a\nRUN --mount=type=bind,mode=0700 x", "a mount of type bind has no mode"),
        ("FROM a\nRUN --mount=type=cache,required x", "a mount of type cache has no required"),
        ("FROM a\nRUN --mount=type=tmpfs,size=x x", "invalid value \"x\" for size of --mount"),
        ("FROM a\nRUN --mount=type=secret,id=a,source=b x", "a secret has an id or a source, not both"),
        ("FROM a\nUSER --x a", "unknown flag --x"),
        ("FROM a\nCMD --x a", "unknown flag --x"),
        ("# check=skip\nFROM a", "invalid option of the checks \"skip\""),
    ] {
        assert_eq!(wrong(text)[0].2, message, "{text}");
    }
    let latin = Dockerfile::parse("f", b"FROM a\n# Jos\xe9\nRUN x \\\n  \xe9\n").unwrap_err();
    let place = |error: &SyntaxError| (error.line(), error.column());
    assert_eq!(latin.as_slice().iter().map(place).collect::<Vec<_>>(), [(4, 3)]);
}

#[test]
fn all_errors_are_told_at_once() {
    let found = wrong("FROM a\nRUNN x\nENV\nRUN ok\nUSER\n");
    assert_eq!(found.iter().map(|error| error.0).collect::<Vec<_>>(), [2, 3, 5]);
    let many = format!("FROM a\n{}", "NOTHING\n".repeat(1000));
    assert_eq!(wrong(&many).len(), MAX_ERRORS);
    // One wrong FROM does not make all that follows wrong.
    assert_eq!(wrong("FROM\nRUN x\nCOPY a b\n").len(), 1);
}

#[test]
fn hostile_files_end() {
    use crate::dockerfile::limits::{MAX_FILE, MAX_INSTRUCTION, MAX_WORDS};
    for text in [
        "a".repeat(MAX_FILE + 1),
        format!("FROM a\nRUN {}", "x".repeat(MAX_INSTRUCTION)),
        format!("FROM a\nCOPY {}", "x ".repeat(MAX_WORDS + 1)),
        format!("FROM a\nENV {}", "x=y ".repeat(MAX_WORDS + 1)),
        format!("FROM a\nRUN {}x", "--mount=type=tmpfs ".repeat(MAX_WORDS + 1)),
        format!("FROM a\n{}", "RUN x\n".repeat(MAX_INSTRUCTIONS)),
        format!("FROM a\nCMD {}", "[".repeat(100_000)).replace("CMD [", "CMDD ["),
    ] {
        let errors = Dockerfile::parse("f", text.as_bytes()).expect_err(&text[..20]);
        assert!(errors.to_string().len() < 8192, "{}", &text[..20]);
    }
    // Deep JSON is for the shell.
    parse(&format!("FROM a\nCMD {}", "[".repeat(100_000)));
    parse(&format!("FROM a\nRUN {}\n", "<<A ".repeat(10)).replace("\n\n", "\n").replace("<<A ", "x<<A "));
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "(FROM a|RUN|COPY|ENV|ONBUILD|HEALTHCHECK| |\n|\\\\\n|<<E|E\n|--from=|--mount=|type=|,|=|\"|'|#|\\[|\\]|\\$x|`|é|\\{|0){0,30}") {
        let _ = Dockerfile::parse("f", text.as_bytes());
        let _ = Instruction::parse("f", &text);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Dockerfile::parse("f", &bytes);
        let _ = crate::dockerfile::detect_syntax(&bytes);
    }

    #[test]
    fn places_are_within_the_file(text in "(FROM a\n)?((RUN|COPY|ENV|USER)[ a=\\\\\n\"]{0,10}\n){0,5}") {
        if let Err(errors) = Dockerfile::parse("f", text.as_bytes()) {
            let lines = text.lines().count().max(1);
            for error in errors.as_slice() {
                proptest::prop_assert!(error.line() >= 1 && error.line() as usize <= lines, "{error}");
            }
        }
    }
}
