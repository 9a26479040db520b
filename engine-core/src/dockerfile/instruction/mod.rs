//! Instructions as types: what each line of a stage asks for.
//!
//! One file per kind, with its notation and what of it is expanded. Texts are as they were written until
//! [`Instruction::expand`]; carrying an instruction out is not this module's.

mod command;
mod files;
mod health;
mod mount;
mod ports;
mod run;
mod settings;

pub use command::{Cmd, Command, Entrypoint, Shell};
pub use files::{Add, Copy};
pub use health::{Healthcheck, HealthcheckCommand};
pub(super) use mount::boolean;
pub use mount::{BindMount, CacheMount, CacheSharing, RunMount, SecretMount, SshMount, TmpfsMount};
pub(super) use ports::Parts as PortParts;
pub use ports::parse_ports;
pub use run::{Run, RunDevice, RunNetwork, RunScript, RunSecurity};
pub use settings::{
    Arg, ArgDefinition, Env, Expose, KeyValue, Label, Maintainer, OnBuild, StopSignal, User, Volume, Workdir,
};

use super::directives::Escape;
use super::error::SyntaxErrors;
use super::expand::{ExpandError, Expander};
use super::heredoc::Heredoc;
use super::lines::{Fail, Joined, Lines};
use super::source::{Source, Spanned};
use super::suggest;
use super::words::{self, Flags, Part};

/// An instruction of a stage. `FROM` is none: it begins a [`Stage`](super::Stage).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Instruction {
    /// `ADD`: files, archives, and what is behind URLs.
    Add(Add),
    /// `ARG`: variables of the build.
    Arg(Arg),
    /// `CMD`: the default command.
    Cmd(Cmd),
    /// `COPY`: files.
    Copy(Copy),
    /// `ENTRYPOINT`: what is run with the command as arguments.
    Entrypoint(Entrypoint),
    /// `ENV`: environment variables.
    Env(Env),
    /// `EXPOSE`: ports that the image listens on.
    Expose(Expose),
    /// `HEALTHCHECK`: how to see whether a container is healthy.
    Healthcheck(Healthcheck),
    /// `LABEL`: labels of the image.
    Label(Label),
    /// `MAINTAINER`: who made it, long deprecated.
    Maintainer(Maintainer),
    /// `ONBUILD`: an instruction for images built on this one.
    OnBuild(OnBuild),
    /// `RUN`: a command that is run now.
    Run(Run),
    /// `SHELL`: what the shell forms are run by.
    Shell(Shell),
    /// `STOPSIGNAL`: the signal that stops a container.
    StopSignal(StopSignal),
    /// `USER`: who runs what follows.
    User(User),
    /// `VOLUME`: directories that outlive containers.
    Volume(Volume),
    /// `WORKDIR`: the working directory.
    Workdir(Workdir),
}

/// Keywords, `FROM` included.
pub(super) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl Instruction {
    /// Parses one instruction on its own: the text of an `ONBUILD`, `--change` of a commit or an import. `name` says in errors where
    /// it is from.
    ///
    /// # Errors
    /// What is wrong with it; also for `FROM`, and for more than one instruction.
    pub fn parse(name: &str, text: &str) -> Result<Spanned<Self>, SyntaxErrors> {
        let source = Source::new(name, text.as_bytes());
        let mut lines = Lines::new(&source);
        let mut errors = Vec::new();
        let Some(joined) = lines.next(&mut errors) else {
            if errors.is_empty() {
                let fail = Fail::new(0, "there is no instruction");
                errors.push(Joined::default().error(&source, fail));
            }
            return Err(SyntaxErrors::new(errors));
        };
        let parsed =
            Line::parse(&joined, lines.directives().escape).and_then(|line| Self::of_line(line, false));
        let value = match parsed {
            Ok(value) => Some(value),
            Err(fail) => {
                errors.push(joined.error(&source, fail));
                None
            }
        };
        if let Some(second) = lines.next(&mut errors) {
            errors.push(
                second.error(&source, Fail::new(0, "there must be one instruction, and here is another")),
            );
        }
        match value {
            Some(value) if errors.is_empty() => Ok(spanned(&joined, value)),
            _ => Err(SyntaxErrors::new(errors)),
        }
    }

    /// Reads a line that is no `FROM`; `trigger` for the text of an `ONBUILD`, which is only looked at.
    pub(super) fn of_line(line: Line<'_>, trigger: bool) -> Result<Self, Fail> {
        let keyword = line.keyword;
        Ok(match keyword.text.to_ascii_uppercase().as_str() {
            "ADD" => Self::Add(Add::parse(line)?),
            "ARG" => Self::Arg(Arg::parse(line)?),
            "CMD" => Self::Cmd(Cmd::parse(line)?),
            "COPY" => Self::Copy(Copy::parse(line)?),
            "ENTRYPOINT" => Self::Entrypoint(Entrypoint::parse(line)?),
            "ENV" => Self::Env(Env::parse(line)?),
            "EXPOSE" => Self::Expose(Expose::parse(line)?),
            "HEALTHCHECK" => Self::Healthcheck(Healthcheck::parse(line)?),
            "LABEL" => Self::Label(Label::parse(line)?),
            name @ ("MAINTAINER" | "FROM") if trigger => {
                return Err(Fail::new(keyword.offset, format!("{name} is not allowed behind ONBUILD")));
            }
            "ONBUILD" if trigger => {
                return Err(Fail::new(keyword.offset, "ONBUILD ONBUILD is not allowed"));
            }
            "FROM" => return Err(Fail::new(keyword.offset, "FROM begins a stage and is not allowed here")),
            "MAINTAINER" => Self::Maintainer(Maintainer::parse(line)?),
            "ONBUILD" => Self::OnBuild(OnBuild::parse(line)?),
            "RUN" => Self::Run(Run::parse(line)?),
            "SHELL" => Self::Shell(Shell::parse(line)?),
            "STOPSIGNAL" => Self::StopSignal(StopSignal::parse(line)?),
            "USER" => Self::User(User::parse(line)?),
            "VOLUME" => Self::Volume(Volume::parse(line)?),
            "WORKDIR" => Self::Workdir(Workdir::parse(line)?),
            _ => {
                let message = format!("unknown instruction {}", keyword.text);
                let hint = suggest::hint(keyword.text, KEYWORDS);
                return Err(Fail::new(keyword.offset, message).with_hint(hint));
            }
        })
    }

    /// Returns the keyword, in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::OnBuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }

    /// Expands what Docker expands. Commands, health checks, `SHELL`, `MAINTAINER` and `ONBUILD` stay as they are, and so do
    /// the values of `ARG`, which depend on the caller's ([`Scope::define`](super::Scope::define)).
    ///
    /// All texts of one instruction see the variables from before it.
    ///
    /// # Errors
    /// What cannot be expanded, and mounts that are wrong once their values are known.
    pub fn expand(&self, expander: &mut Expander<'_>) -> Result<Self, ExpandError> {
        Ok(match self {
            Self::Add(add) => Self::Add(add.expand(expander)?),
            Self::Copy(copy) => Self::Copy(copy.expand(expander)?),
            Self::Env(env) => Self::Env(Env { pairs: settings::expand_pairs(&env.pairs, expander)? }),
            Self::Expose(expose) => Self::Expose(expose.expand(expander)?),
            Self::Label(label) => {
                Self::Label(Label { pairs: settings::expand_pairs(&label.pairs, expander)? })
            }
            Self::Run(run) => Self::Run(run.expand(expander)?),
            Self::StopSignal(signal) => {
                Self::StopSignal(StopSignal { signal: expander.word(&signal.signal)? })
            }
            Self::User(user) => Self::User(User { user: expander.word(&user.user)? }),
            Self::Volume(volume) => {
                Self::Volume(Volume { paths: settings::expand_all(&volume.paths, expander)? })
            }
            Self::Workdir(workdir) => Self::Workdir(Workdir { path: expander.word(&workdir.path)? }),
            Self::Arg(_)
            | Self::Cmd(_)
            | Self::Entrypoint(_)
            | Self::Healthcheck(_)
            | Self::Maintainer(_)
            | Self::OnBuild(_)
            | Self::Shell(_) => self.clone(),
        })
    }
}

/// An instruction's line in its parts, with all that belongs to it.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) keyword: Part<'a>,
    pub(super) flags: Flags,
    pub(super) rest: Part<'a>,
    pub(super) escape: Escape,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) comments: &'a [String],
}

impl<'a> Line<'a> {
    pub(super) fn parse(joined: &'a Joined, escape: Escape) -> Result<Self, Fail> {
        let words::Command { keyword, flags, rest } = words::command(Part::whole(&joined.text))?;
        let heredocs = joined.heredocs.clone();
        Ok(Self { keyword, flags, rest, escape, heredocs, comments: &joined.comments })
    }

    /// Refuses flags; most instructions have none.
    fn no_flags(&mut self) -> Result<(), Fail> {
        std::mem::take(&mut self.flags).finish()
    }

    /// The rest, of which there must be something.
    fn argument(&self) -> Result<Part<'a>, Fail> {
        if self.rest.is_empty() { Err(self.lacks("an argument")) } else { Ok(self.rest) }
    }

    fn lacks(&self, what: &str) -> Fail {
        Fail::new(self.keyword.offset, format!("{} needs {what}", self.keyword.text.to_ascii_uppercase()))
    }

    /// The words of the rest, or the elements if it is an array.
    fn list(&self) -> Result<Vec<words::Word>, Fail> {
        match words::json(self.rest.text) {
            words::Json::Strings(texts) => {
                let offset = self.rest.offset;
                Ok(texts.into_iter().map(|text| words::Word { text, offset }).collect())
            }
            words::Json::Mixed => Err(command::not_strings(self.rest)),
            words::Json::Other => words::split(self.rest),
        }
    }

    /// What a comment above says about `name`: `# name and more`.
    fn description(&self, name: &str) -> Option<String> {
        describes(self.comments, name)
    }
}

pub(super) fn describes(comments: &[String], name: &str) -> Option<String> {
    let mut found = comments.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.next().map(|text| text.trim().to_owned())
}

pub(super) fn spanned<T>(joined: &Joined, value: T) -> Spanned<T> {
    Spanned { value, span: joined.span, text: joined.text.trim().to_owned() }
}

fn optional(flag: Option<words::Word>) -> Option<String> {
    flag.map(|word| word.text)
}
