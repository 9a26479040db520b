//! The files of `tests/dockerfiles`: what is in them, what they make of hostile changes, and what another reader says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::platform::Platform;

/// Returns the files by name.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfiles");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.insert(name, std::fs::read(&path).unwrap());
    }
    assert!(files.len() >= 40, "{}", files.len());
    files
}

/// Returns the Dockerfiles among the parts of engine-cli's cases, which are built there.
fn built() -> BTreeMap<String, Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine-cli/tests/cli/build/corpus");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let case = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut part = None;
        for line in std::fs::read_to_string(&path).unwrap().split_inclusive('\n') {
            if let Some(head) = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --"))
            {
                let dockerfile = head == "Dockerfile" || head.starts_with("base ");
                part = dockerfile.then(|| format!("{case}/{head}"));
                continue;
            }
            if let Some(part) = &part {
                files.entry(part.clone()).or_insert_with(Vec::new).extend_from_slice(line.as_bytes());
            }
        }
    }
    assert!(files.len() >= 55, "{}", files.len());
    files
}

fn parse(name: &str, text: &[u8]) -> Dockerfile {
    Dockerfile::parse(name, text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Does with a file all that can be done without a build; returns how many instructions could be expanded.
fn use_all(file: &Dockerfile) -> usize {
    let platform = Platform::new("linux", "amd64", None);
    let Ok(global) = GlobalScope::new(file, BTreeMap::new(), &platform, &platform, None) else { return 0 };
    let global = Arc::new(global);
    let Ok(graph) = file.graph(&global) else { return 0 };
    let mut scopes: Vec<Scope> = Vec::new();
    let mut expanded = 0;
    for (stage, node) in file.stages.iter().zip(graph.nodes()) {
        let mut scope = match node.base {
            Origin::Stage(base) => scopes[base].inherit(),
            _ => Scope::new(Arc::clone(&global), ["PATH=/usr/bin:/bin", "HOME=/root"]),
        };
        for instruction in &stage.instructions {
            if let Instruction::Arg(arg) = &instruction.value {
                expanded += usize::from(scope.define(arg).is_ok());
                continue;
            }
            let result = {
                let mut expander = Expander::new(&scope, file.directives.escape);
                file.expand(instruction, &mut expander)
            };
            let Ok(instruction) = result else { continue };
            expanded += 1;
            match instruction {
                Instruction::Env(env) => env.pairs.iter().for_each(|p| scope.set_env(&p.key, &p.value)),
                Instruction::Expose(expose) => _ = parse_ports(&expose.ports),
                Instruction::Run(run) => {
                    assert!(!run.mounts.iter().any(|mount| matches!(mount, RunMount::Unexpanded(_))));
                    let _ = run.script();
                }
                Instruction::OnBuild(trigger) => _ = Instruction::parse("trigger", &trigger.instruction),
                _ => {}
            }
        }
        scopes.push(scope);
    }
    expanded
}

#[test]
fn every_file_is_read_and_can_be_expanded() {
    for (name, text) in corpus().into_iter().chain(built()) {
        let file = parse(&name, &text);
        let count: usize = file.stages.iter().map(|stage| stage.instructions.len()).sum();
        assert_eq!(use_all(&file), count, "{name}");
    }
}

/// The rules that files of the corpus break, on purpose.
#[test]
fn warnings_are_those_that_are_expected() {
    let mut found = BTreeMap::new();
    for (name, text) in corpus() {
        let rules: BTreeSet<&str> = parse(&name, &text).warnings.iter().map(|w| w.rule.as_str()).collect();
        if !rules.is_empty() {
            found.insert(name, rules.into_iter().collect::<Vec<_>>());
        }
    }
    let found: Vec<(&str, &[&str])> =
        found.iter().map(|(name, rules)| (name.as_str(), rules.as_slice())).collect();
    assert_eq!(
        found,
        [
            ("07-exec-that-is-none", &["JSONArgsRecommended"][..]),
            ("08-env-both-forms", &["LegacyKeyValueFormat"]),
            ("09-labels", &["LegacyKeyValueFormat"]),
            ("31-case-of-keywords", &["ConsistentInstructionCasing"]),
            ("32-maintainer", &["MaintainerDeprecated"]),
        ]
    );
}

/// Each row of the language is in some file.
#[test]
fn the_corpus_has_all_of_the_language() {
    let files: Vec<Dockerfile> = corpus().iter().map(|(name, text)| parse(name, text)).collect();
    let all: Vec<&Instruction> =
        files.iter().flat_map(|f| &f.stages).flat_map(|s| &s.instructions).map(|i| &i.value).collect();
    let names: BTreeSet<&str> = all.iter().map(|instruction| instruction.name()).collect();
    assert_eq!(names.len(), 17, "{names:?}");
    let any = |what: &str, test: &dyn Fn(&Instruction) -> bool| {
        assert!(all.iter().any(|instruction| test(instruction)), "no file has {what}");
    };
    let copy = |what: &str, test: &dyn Fn(&Copy) -> bool| {
        any(what, &|instruction| matches!(instruction, Instruction::Copy(copy) if test(copy)));
    };
    copy("--from", &|c| c.from.is_some());
    copy("--chown", &|c| c.chown.is_some());
    copy("octal --chmod", &|c| c.chmod.as_deref().is_some_and(|mode| mode.starts_with('0')));
    copy("symbolic --chmod", &|c| c.chmod.as_deref().is_some_and(|mode| mode.contains('=')));
    copy("--link", &|c| c.link);
    copy("--parents", &|c| c.parents);
    copy("--exclude", &|c| !c.exclude.is_empty());
    copy("two heredocs", &|c| c.documents.len() > 1);
    copy("a heredoc without tabs", &|c| c.documents.iter().any(|document| document.strip_tabs));
    let add = |what: &str, test: &dyn Fn(&Add) -> bool| {
        any(what, &|instruction| matches!(instruction, Instruction::Add(add) if test(add)));
    };
    add("--checksum", &|a| a.checksum.is_some());
    add("--keep-git-dir", &|a| a.keep_git_dir);
    add("--unpack", &|a| a.unpack.is_some());
    let run = |what: &str, test: &dyn Fn(&Run) -> bool| {
        any(what, &|instruction| matches!(instruction, Instruction::Run(run) if test(run)));
    };
    run("several heredocs", &|r| r.documents.len() > 1);
    run("a file that names its interpreter", &|r| matches!(r.script(), RunScript::File { .. }));
    run("the form of JSON", &|r| matches!(r.command, Command::Exec(_)));
    for network in [RunNetwork::None, RunNetwork::Host] {
        run("--network", &|r| r.network == network);
    }
    let mount = |what: &str, test: &dyn Fn(&RunMount) -> bool| run(what, &|r| r.mounts.iter().any(test));
    mount("type=bind", &|m| matches!(m, RunMount::Bind(bind) if bind.from.is_some()));
    mount("type=cache", &|m| matches!(m, RunMount::Cache(cache) if cache.sharing == CacheSharing::Locked));
    mount("type=tmpfs", &|m| matches!(m, RunMount::Tmpfs(tmpfs) if tmpfs.size.is_some()));
    mount("type=secret", &|m| matches!(m, RunMount::Secret(secret) if secret.env.is_some()));
    mount("type=ssh", &|m| matches!(m, RunMount::Ssh(_)));
    mount("variables", &|m| matches!(m, RunMount::Unexpanded(_)));
    any("HEALTHCHECK NONE", &|i| matches!(i, Instruction::Healthcheck(Healthcheck::None)));
    any(
        "--start-interval",
        &|i| matches!(i, Instruction::Healthcheck(Healthcheck::Command(check)) if check.start_interval.is_some()),
    );
    assert!(files.iter().any(|file| file.directives.syntax.is_some()));
    assert!(files.iter().any(|file| file.directives.check.is_some()));
    assert!(files.iter().any(|file| file.directives.escape == Escape::Backquote));
    assert!(files.iter().any(|file| !file.args.is_empty()));
    assert!(files.iter().flat_map(|file| &file.stages).any(|stage| stage.platform.is_some()));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 400, ..Default::default() })]

    /// Fuzz: files of the corpus with bytes changed, taken away and repeated.
    #[test]
    fn changed_files_neither_panic_nor_hang(
        which in proptest::sample::Index::arbitrary(),
        changes in proptest::collection::vec((proptest::sample::Index::arbitrary(), proptest::num::u8::ANY, 0..4_u8), 1..12),
    ) {
        static CORPUS: std::sync::LazyLock<Vec<Vec<u8>>> =
            std::sync::LazyLock::new(|| corpus().into_values().chain(built().into_values()).collect());
        let mut text = CORPUS[which.index(CORPUS.len())].clone();
        for (place, byte, kind) in changes {
            let at = place.index(text.len().max(1)).min(text.len());
            match kind {
                0 if at < text.len() => text[at] = byte,
                1 if at < text.len() => _ = text.remove(at),
                2 => text.insert(at, b"\\\n $\"'{}<#-=[,"[usize::from(byte) % 14]),
                _ => {
                    let part = text[at..(at + 40).min(text.len())].to_vec();
                    text.splice(at..at, part);
                }
            }
        }
        let start = Instant::now();
        if let Ok(file) = Dockerfile::parse("f", &text) {
            use_all(&file);
        }
        proptest::prop_assert!(start.elapsed() < Duration::from_secs(20));
    }
}

use proptest::arbitrary::Arbitrary as _;

/// An instruction as both readers can say it: line, keyword, flags, arguments.
type Said = (usize, String, BTreeMap<String, Vec<String>>, Vec<String>);

/// What the other reader does not know, and why.
const NOT_COMPARED: [&str; 2] = [
    // It takes the document of a heredoc that does not begin the command for instructions.
    "23-heredoc-run",
    "heredoc-forms/Dockerfile",
];

/// Issue 7: the parser agrees with `parse-dockerfile` on the corpus.
#[test]
fn agrees_with_parse_dockerfile() {
    let (mut compared, mut other) = (0, Vec::new());
    for (name, text) in corpus().into_iter().chain(built()) {
        let text = std::str::from_utf8(&text).unwrap();
        let ours = ours::said(&parse(&name, text.as_bytes()));
        let theirs = parse_dockerfile::parse(text);
        // Its places do not count the mark of UTF-8.
        let text = text.trim_start_matches('\u{feff}');
        let said = |file: &parse_dockerfile::Dockerfile<'_>| -> Vec<Said> {
            file.instructions.iter().map(|instruction| theirs::said(text, instruction)).collect()
        };
        if NOT_COMPARED.contains(&name.as_str()) {
            let same = theirs.is_ok_and(|theirs| said(&theirs) == ours);
            assert!(!same, "{name} can be compared");
            continue;
        }
        match theirs.map(|theirs| said(&theirs)) {
            Ok(theirs) if theirs == ours => compared += ours.len(),
            Ok(theirs) => {
                let pair = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
                other.push(format!("{name}: {} and {} instructions, {pair:?}", ours.len(), theirs.len()));
            }
            Err(error) => other.push(format!("{name}: {error}")),
        }
    }
    assert!(other.is_empty(), "{other:#?}");
    assert!(compared > 350, "{compared}");
}

/// Shell texts differ in how they keep white space, continuations and comments between lines.
fn dense(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let lines = lines.map(|line| line.trim_end().trim_end_matches(['\\', '`']));
    lines.flat_map(str::split_whitespace).collect()
}

mod ours {
    use super::*;

    pub(super) fn said(file: &Dockerfile) -> Vec<Said> {
        let args = file.args.iter().map(|arg| {
            (arg.span.line as usize, "ARG".to_owned(), BTreeMap::new(), vec![dense(&arg.text[3..])])
        });
        let mut all: Vec<Said> = args.collect();
        for stage in &file.stages {
            let mut flags = BTreeMap::new();
            flag(&mut flags, "platform", stage.platform.as_deref());
            let mut arguments = vec![stage.base.clone()];
            arguments.extend(stage.name.clone());
            all.push((stage.span.line as usize, "FROM".to_owned(), flags, arguments));
            for instruction in &stage.instructions {
                let (flags, arguments) = parts(&instruction.text, &instruction.value);
                let line = instruction.span.line as usize;
                all.push((line, instruction.name().to_owned(), flags, arguments));
            }
        }
        all
    }

    fn flag(flags: &mut BTreeMap<String, Vec<String>>, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            flags.entry(name.to_owned()).or_default().push(value.to_owned());
        }
    }

    fn command(command: &Command) -> Vec<String> {
        match command {
            Command::Shell(line) => vec![dense(line)],
            Command::Exec(arguments) => arguments.clone(),
        }
    }

    fn parts(text: &str, instruction: &Instruction) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
        let mut flags = BTreeMap::new();
        let rest = || vec![dense(text.split_once(char::is_whitespace).unwrap().1)];
        let truth = |value: bool| value.then_some("true");
        let arguments = match instruction {
            Instruction::Copy(copy) => {
                flag(&mut flags, "from", copy.from.as_deref());
                flag(&mut flags, "chown", copy.chown.as_deref());
                flag(&mut flags, "chmod", copy.chmod.as_deref());
                flag(&mut flags, "link", truth(copy.link));
                flag(&mut flags, "parents", truth(copy.parents));
                copy.exclude.iter().for_each(|exclude| flag(&mut flags, "exclude", Some(exclude)));
                files(&copy.sources, &copy.documents, &copy.destination)
            }
            Instruction::Add(add) => {
                flag(&mut flags, "checksum", add.checksum.as_deref());
                flag(&mut flags, "chown", add.chown.as_deref());
                flag(&mut flags, "chmod", add.chmod.as_deref());
                flag(&mut flags, "link", truth(add.link));
                flag(&mut flags, "keep-git-dir", truth(add.keep_git_dir));
                flag(&mut flags, "unpack", add.unpack.and_then(truth));
                files(&add.sources, &add.documents, &add.destination)
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    flag(&mut flags, "mount", Some(kind(mount)));
                }
                flag(
                    &mut flags,
                    "network",
                    match run.network {
                        RunNetwork::Default => None,
                        RunNetwork::None => Some("none"),
                        RunNetwork::Host => Some("host"),
                    },
                );
                match run.documents.first() {
                    Some(document) => vec![format!("{:?}", document.document()), document.expand.to_string()],
                    None => command(&run.command),
                }
            }
            Instruction::Cmd(cmd) => command(&cmd.command),
            Instruction::Entrypoint(entrypoint) => command(&entrypoint.command),
            Instruction::Shell(shell) => shell.arguments.clone(),
            Instruction::Healthcheck(Healthcheck::None) => vec!["NONE".to_owned()],
            Instruction::Healthcheck(Healthcheck::Command(check)) => {
                flag(&mut flags, "interval", check.interval.map(|_| "time"));
                flag(&mut flags, "timeout", check.timeout.map(|_| "time"));
                flag(&mut flags, "start-period", check.start_period.map(|_| "time"));
                flag(&mut flags, "start-interval", check.start_interval.map(|_| "time"));
                let retries = check.retries.map(|retries| retries.to_string());
                flag(&mut flags, "retries", retries.as_deref());
                command(&check.command)
            }
            Instruction::Expose(expose) => expose.ports.clone(),
            Instruction::Volume(volume) => volume.paths.clone(),
            Instruction::OnBuild(trigger) => {
                let inner = Instruction::parse("trigger", &trigger.instruction).unwrap();
                let (inner_flags, arguments) = parts(&inner.text, &inner.value);
                flags = inner_flags;
                [vec![inner.name().to_owned()], arguments].concat()
            }
            _ => rest(),
        };
        (flags, arguments)
    }

    fn files(sources: &[String], documents: &[Heredoc], destination: &str) -> Vec<String> {
        let mut all = sources.to_vec();
        all.extend(documents.iter().map(|d| format!("{:?} {}", d.document(), d.expand)));
        all.push(destination.to_owned());
        all
    }

    fn kind(mount: &RunMount) -> &str {
        match mount {
            RunMount::Bind(_) => "bind",
            RunMount::Cache(_) => "cache",
            RunMount::Tmpfs(_) => "tmpfs",
            RunMount::Secret(_) => "secret",
            RunMount::Ssh(_) => "ssh",
            RunMount::Unexpanded(fields) => {
                let kind = fields.iter().find(|(key, _)| key == "type");
                kind.and_then(|(_, value)| value.as_deref()).unwrap_or("bind")
            }
        }
    }
}

mod theirs {
    use parse_dockerfile::{
        Command, Flag, HealthcheckArguments, Instruction, JsonOrStringArray, Source, UnescapedString,
    };

    use super::*;

    pub(super) fn said(text: &str, instruction: &Instruction<'_>) -> Said {
        let (at, name, flags, arguments) = parts(instruction);
        (text[..at].matches('\n').count() + 1, name.to_owned(), flags, arguments)
    }

    type Parts = (usize, &'static str, BTreeMap<String, Vec<String>>, Vec<String>);

    fn parts(instruction: &Instruction<'_>) -> Parts {
        let none = BTreeMap::new;
        match instruction {
            Instruction::From(from) => {
                let name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
                let arguments = [Some(from.image.value.to_string()), name].into_iter().flatten().collect();
                (from.from.span.start, "FROM", flags(&from.options), arguments)
            }
            Instruction::Copy(copy) => {
                (copy.copy.span.start, "COPY", flags(&copy.options), files(&copy.src, &copy.dest))
            }
            Instruction::Add(add) => {
                (add.add.span.start, "ADD", flags(&add.options), files(&add.src, &add.dest))
            }
            Instruction::Run(run) => {
                let arguments = match run.here_docs.first() {
                    Some(document) => vec![format!("{:?}", document.value), document.expand.to_string()],
                    None => command(&run.arguments),
                };
                (run.run.span.start, "RUN", flags(&run.options), arguments)
            }
            Instruction::Cmd(cmd) => (cmd.cmd.span.start, "CMD", none(), command(&cmd.arguments)),
            Instruction::Entrypoint(e) => {
                (e.entrypoint.span.start, "ENTRYPOINT", none(), command(&e.arguments))
            }
            Instruction::Shell(shell) => (shell.shell.span.start, "SHELL", none(), list(&shell.arguments)),
            Instruction::Healthcheck(check) => {
                let arguments = match &check.arguments {
                    HealthcheckArguments::Cmd { arguments, .. } => command(arguments),
                    _ => vec!["NONE".to_owned()],
                };
                (check.healthcheck.span.start, "HEALTHCHECK", flags(&check.options), arguments)
            }
            Instruction::Expose(expose) => {
                let mut ports = list(&expose.arguments);
                ports.sort();
                (expose.expose.span.start, "EXPOSE", none(), ports)
            }
            Instruction::Volume(volume) => {
                let paths = match &volume.arguments {
                    JsonOrStringArray::Json(paths) => list(&paths.value),
                    JsonOrStringArray::String(paths) => list(paths),
                };
                (volume.volume.span.start, "VOLUME", none(), paths)
            }
            Instruction::Onbuild(trigger) => {
                let (_, name, flags, arguments) = parts(&trigger.instruction);
                let arguments = [vec![name.to_owned()], arguments].concat();
                (trigger.onbuild.span.start, "ONBUILD", flags, arguments)
            }
            Instruction::Arg(i) => (i.arg.span.start, "ARG", none(), vec![dense(&i.arguments.value)]),
            Instruction::Env(i) => (i.env.span.start, "ENV", none(), vec![dense(&i.arguments.value)]),
            Instruction::Label(i) => (i.label.span.start, "LABEL", none(), vec![dense(&i.arguments.value)]),
            Instruction::Maintainer(i) => {
                (i.maintainer.span.start, "MAINTAINER", none(), vec![dense(&i.name.value)])
            }
            Instruction::Stopsignal(i) => {
                (i.stopsignal.span.start, "STOPSIGNAL", none(), vec![dense(&i.arguments.value)])
            }
            Instruction::User(i) => (i.user.span.start, "USER", none(), vec![dense(&i.arguments.value)]),
            Instruction::Workdir(i) => {
                (i.workdir.span.start, "WORKDIR", none(), vec![dense(&i.arguments.value)])
            }
            other => panic!("{other:?}"),
        }
    }

    fn flags(all: &[Flag<'_>]) -> BTreeMap<String, Vec<String>> {
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for flag in all {
            let name = flag.name.value.to_string();
            let value = flag.value.as_ref().map_or("true", |value| value.value.as_ref());
            let value = match name.as_str() {
                "mount" => {
                    let kind = value.split(',').find_map(|field| field.strip_prefix("type="));
                    kind.unwrap_or("bind")
                }
                "interval" | "timeout" | "start-period" | "start-interval" => "time",
                "network" if value == "default" => continue,
                _ => value,
            };
            flags.entry(name).or_default().push(value.to_owned());
        }
        flags
    }

    fn command(command: &Command<'_>) -> Vec<String> {
        match command {
            Command::Exec(arguments) => list(&arguments.value),
            Command::Shell(line) => vec![dense(line.value)],
            other => panic!("{other:?}"),
        }
    }

    fn list(words: &[UnescapedString<'_>]) -> Vec<String> {
        words.iter().map(|word| word.value.to_string()).collect()
    }

    /// Documents come last in ours.
    fn files(sources: &[Source<'_>], destination: &UnescapedString<'_>) -> Vec<String> {
        let mut all = Vec::new();
        let mut documents = Vec::new();
        for source in sources {
            match source {
                Source::Path(path) => all.push(path.value.to_string()),
                Source::HereDoc(document) => {
                    documents.push(format!("{:?} {}", document.value, document.expand))
                }
                other => panic!("{other:?}"),
            }
        }
        all.extend(documents);
        all.push(destination.value.to_string());
        all
    }
}
