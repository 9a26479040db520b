//! Rules that need nothing but the file.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Warning};
use crate::dockerfile::expand::{Expander, Variables as _};
use crate::dockerfile::file::{Dockerfile, Stage};
use crate::dockerfile::instruction::{Arg, Cmd, Command, Entrypoint, Instruction, KeyValue, PortParts};
use crate::dockerfile::limits::MAX_WARNINGS;
use crate::dockerfile::lines::Joined;
use crate::dockerfile::scope::GlobalScope;
use crate::dockerfile::source::{Span, Spanned};
use crate::dockerfile::suggest;
use crate::dockerfile::words::{self, Part};
use crate::platform::Platform;
use crate::reference::Reference;

/// Names of stages that mean something else.
const RESERVED: [&str; 2] = ["context", "scratch"];
/// Parts of names that sound like secrets, and parts that say it is none.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "passwd", "password", "pword", "secret", "token"];
const NO_SECRETS: [&str; 3] = ["file", "public", "version"];

/// What is noted while a file is read.
#[derive(Debug, Default)]
pub(in crate::dockerfile) struct Notes(Vec<Warning>);

impl Notes {
    fn add(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        if self.0.len() < MAX_WARNINGS {
            self.0.push(Warning::new(rule, span, message));
        }
    }

    /// Notes what an instruction's lines show.
    pub(in crate::dockerfile) fn lines(&mut self, joined: &Joined) {
        if let Some(line) = joined.empty_continuation {
            let message = "an empty line continues the instruction, which will be an error some day";
            self.add(Rule::NoEmptyContinuation, Span::lines(line, line), message);
        }
    }

    /// Notes what the comment above a `FROM` or an `ARG` shows.
    pub(in crate::dockerfile) fn comment(&mut self, joined: &Joined, what: &str, names: &[&str]) {
        let (Some(comment), Some(first)) = (joined.comments.last(), names.first()) else { return };
        let word = comment.split(' ').next().unwrap_or_default();
        if !names.contains(&word) {
            let name = if names.len() > 1 { "name" } else { first };
            let message = format!("the comment above {what} should be \"# {name} description\"");
            self.add(Rule::InvalidDefinitionDescription, joined.span, message);
        }
    }

    /// Returns all warnings that the file wants.
    pub(in crate::dockerfile) fn warnings(mut self, file: &Dockerfile) -> Vec<Warning> {
        self.casing(file);
        self.stage_names(file);
        self.froms(file);
        self.stages(file);
        self.0.retain(|warning| file.checks.apply(warning.rule));
        self.0.sort_by_key(|warning| warning.span.line);
        self.0
    }

    /// Keywords in the case of most of them.
    fn casing(&mut self, file: &Dockerfile) {
        let of_stage = |stage: &Stage| {
            let from = stage.text.split_whitespace().next().unwrap_or_default().to_owned();
            let others = stage.instructions.iter().map(|i| (i.keyword().to_owned(), i.span));
            std::iter::once((from, stage.span)).chain(others).collect::<Vec<_>>()
        };
        let all: Vec<(String, Span)> = file.stages.iter().flat_map(of_stage).collect();
        let is = |word: &str, lower: bool| {
            !word.contains(|c: char| if lower { c.is_uppercase() } else { c.is_lowercase() })
        };
        let count = |lower| all.iter().filter(|(word, _)| is(word, lower)).count();
        let lower = count(true) > count(false);
        let wanted = if lower { "lower case" } else { "capitals" };
        for (word, span) in &all {
            if !is(word, lower) {
                let message = format!("{word} should be in {wanted}, as most instructions are");
                self.add(Rule::ConsistentInstructionCasing, *span, message);
            }
        }
    }

    fn stage_names(&mut self, file: &Dockerfile) {
        let mut seen = BTreeSet::new();
        for stage in &file.stages {
            if let Ok(command) = words::command(Part::whole(&stage.text))
                && let Ok(words) = words::split(command.rest)
                && let [_, keyword, name] = &words[..]
            {
                if name.text.contains(char::is_uppercase) {
                    let message = format!("the stage's name {:?} should be in lower case", name.text);
                    self.add(Rule::StageNameCasing, stage.span, message);
                }
                let from = command.keyword.text;
                let upper = !from.contains(char::is_lowercase);
                let mixed = !upper && from.contains(char::is_uppercase);
                let wrong = |c: char| if upper { c.is_lowercase() } else { c.is_uppercase() };
                if !mixed && keyword.text.contains(wrong) {
                    let message = format!("{:?} should be written as {from:?} is", keyword.text);
                    self.add(Rule::FromAsCasing, stage.span, message);
                }
            }
            let Some(name) = stage.name.as_deref() else { continue };
            if RESERVED.contains(&name) {
                let message = format!("the stage's name {name:?} is reserved");
                self.add(Rule::ReservedStageName, stage.span, message);
            }
            if !seen.insert(name) {
                let message = format!("there is a stage {name:?} already");
                self.add(Rule::DuplicateStageName, stage.span, message);
            }
        }
    }

    /// Names of images and platforms.
    fn froms(&mut self, file: &Dockerfile) {
        let host = Platform::host();
        // With nothing from the caller. What cannot be expanded is an error when the file is built.
        let Ok(global) = GlobalScope::new(file, BTreeMap::new(), &host, &host, None) else { return };
        let mut known: BTreeSet<&str> = global.iter().map(|(name, _)| name).collect();
        known.extend(file.args.iter().flat_map(|arg| &arg.definitions).map(|arg| arg.name.as_str()));
        for stage in &file.stages {
            let mut expander = Expander::new(&global, file.directives.escape);
            if let Ok(base) = expander.word(&stage.base)
                && base != "scratch"
                && base.parse::<Reference>().is_err()
                && file.stage(&base).is_none()
            {
                let message =
                    format!("the defaults of its arguments make {:?} no name of an image", stage.base);
                self.add(Rule::InvalidDefaultArgInFrom, stage.span, message);
            }
            if let Some(platform) = &stage.platform {
                self.platform(file, stage, platform, &global);
                let _ = expander.word(platform);
            }
            let undefined = expander.unset().iter().filter(|name| !known.contains(name.as_str()));
            let undefined: Vec<&String> = undefined.take(super::MOST_VARIABLES).collect();
            for name in undefined {
                if self.0.len() >= MAX_WARNINGS {
                    break;
                }
                let near = suggest::nearest(name, known.iter().copied());
                let near = near.map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                let message =
                    format!("the argument {name:?} of FROM is not defined in front of the first FROM{near}");
                self.add(Rule::UndefinedArgInFrom, stage.span, message);
            }
        }
    }

    fn platform(&mut self, file: &Dockerfile, stage: &Stage, text: &str, global: &GlobalScope) {
        let mut expander = Expander::new(global, file.directives.escape);
        let Ok(value) = expander.word(text) else { return };
        let used = expander.used().iter().map(String::as_str).collect::<Vec<_>>();
        if used == ["TARGETPLATFORM"]
            && expander.unset().is_empty()
            && Some(value.as_str()) == global.value("TARGETPLATFORM")
        {
            let message = format!("--platform={text} is the default");
            self.add(Rule::RedundantTargetPlatform, stage.span, message);
        }
        if used.is_empty() && expander.unset().is_empty() {
            let Ok(platform) = value.parse::<Platform>() else { return };
            let name = stage.name.as_deref().unwrap_or_default();
            if !name.contains(platform.os.as_str()) && !name.contains(platform.architecture.as_str()) {
                let message = format!("--platform={value} is the same for every build");
                self.add(Rule::FromPlatformFlagConstDisallowed, stage.span, message);
            }
        }
    }

    /// Instructions of stages, which inherit from those that they are built on.
    fn stages(&mut self, file: &Dockerfile) {
        let mut ends: Vec<Inherited> = Vec::new();
        for (index, stage) in file.stages.iter().enumerate() {
            let before = file.stages[..index].iter().rposition(|other| {
                other.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&stage.base))
            });
            let mut state = before.map_or_else(Inherited::default, |base| ends[base]);
            let mut last: BTreeMap<&str, Span> = BTreeMap::new();
            for instruction in &stage.instructions {
                self.instruction(instruction, &mut state);
                if matches!(
                    instruction.value,
                    Instruction::Cmd(_) | Instruction::Entrypoint(_) | Instruction::Healthcheck(_)
                ) {
                    let name = instruction.name();
                    if let Some(earlier) = last.insert(name, instruction.span) {
                        let message = format!("a later {name} of the stage is used in the place of this one");
                        self.add(Rule::MultipleInstructionsDisallowed, earlier, message);
                    }
                }
            }
            ends.push(state);
        }
    }

    fn instruction(&mut self, instruction: &Spanned<Instruction>, state: &mut Inherited) {
        let (span, name) = (instruction.span, instruction.name());
        match &instruction.value {
            Instruction::Maintainer(_) => {
                self.add(Rule::MaintainerDeprecated, span, "MAINTAINER is deprecated: use a LABEL");
            }
            Instruction::Shell(_) => state.shell = true,
            Instruction::Cmd(Cmd { command }) | Instruction::Entrypoint(Entrypoint { command })
                if matches!(command, Command::Shell(_)) && !state.shell =>
            {
                let message =
                    format!("{name} should be an array of JSON: a shell keeps signals from the program");
                self.add(Rule::JsonArgsRecommended, span, message);
            }
            Instruction::Env(env) => {
                self.legacy(&env.pairs, name, span);
                for pair in &env.pairs {
                    self.secret(name, &pair.key, span);
                }
            }
            Instruction::Label(label) => self.legacy(&label.pairs, name, span),
            Instruction::Arg(Arg { definitions }) => {
                for definition in definitions {
                    self.secret(name, &definition.name, span);
                }
            }
            Instruction::Workdir(workdir) => {
                // A variable may be an absolute path.
                if !state.workdir && !workdir.path.starts_with(['/', '$', '"', '\'']) {
                    let message = format!("where WORKDIR {:?} is depends on the base image", workdir.path);
                    self.add(Rule::WorkdirRelativePath, span, message);
                }
                state.workdir = true;
            }
            Instruction::Expose(expose) => {
                let ports = expose.ports.iter().filter(|port| !port.contains('$'));
                for warning in ports.flat_map(|port| of_port(port, span)) {
                    self.add(warning.rule, span, warning.message);
                }
            }
            _ => {}
        }
    }

    fn legacy(&mut self, pairs: &[KeyValue], name: &str, span: Span) {
        if let Some(pair) = pairs.iter().find(|pair| pair.legacy) {
            let message = format!("write {name} {}=value, with = in place of the space", pair.key);
            self.add(Rule::LegacyKeyValueFormat, span, message);
        }
    }

    fn secret(&mut self, instruction: &str, name: &str, span: Span) {
        let lower = name.to_lowercase();
        let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
        if has(&SECRETS) && !has(&NO_SECRETS) {
            let message =
                format!("{instruction} {name:?} sounds like a secret, which would stay in the image");
            self.add(Rule::SecretsUsedInArgOrEnv, span, message);
        }
    }
}

/// What is not good in a port of `EXPOSE`.
pub(super) fn of_port(port: &str, span: Span) -> Vec<Warning> {
    let parts = PortParts::of(port);
    let mut warnings = Vec::new();
    if parts.protocol.contains(char::is_uppercase) {
        let message = format!("the protocol of {port:?} should be in lower case");
        warnings.push(Warning::new(Rule::ExposeProtoCasing, span, message));
    }
    if !parts.address.is_empty() || !parts.host.is_empty() {
        let message = format!("{port:?} has an address or a port of the host, which mean nothing here");
        warnings.push(Warning::new(Rule::ExposeInvalidFormat, span, message));
    }
    warnings
}

/// What a stage has from the one it is built on.
#[derive(Clone, Copy, Debug, Default)]
struct Inherited {
    shell: bool,
    workdir: bool,
}
