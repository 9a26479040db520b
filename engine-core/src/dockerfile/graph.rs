//! Stages as a graph: what `FROM`, `COPY --from` and `RUN --mount=from=` mean.
//!
//! A name is a stage's if one before has it; what else it is, a named context or an image, is for whoever has those to
//! find out. Stages only depend on stages before them, so there are no cycles.

use std::collections::BTreeSet;

use super::error::{SyntaxError, SyntaxErrors};
use super::expand::Expander;
use super::file::{Dockerfile, Stage};
use super::instruction::{Instruction, RunMount};
use super::limits::MAX_ERRORS;
use super::scope::GlobalScope;
use super::source::Span;
use super::suggest;
use crate::error::{Error, ErrorKind, Result};

/// The image without anything in it.
const SCRATCH: &str = "scratch";

/// Where files come from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// The image without anything in it.
    Scratch,
    /// A stage of this file, by its number.
    Stage(usize),
    /// A named context if there is one of this name, or an image.
    Named(String),
}

/// What a stage is built on and what it takes files from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StageNode {
    /// What it is built on.
    pub base: Origin,
    /// `FROM --platform`, expanded.
    pub platform: Option<String>,
    /// What its instructions take files from.
    pub uses: Vec<OriginUse>,
    /// The global arguments that its `FROM` has used.
    pub args: BTreeSet<String>,
}

/// An instruction that takes files from somewhere else than the build's context.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct OriginUse {
    /// Which instruction of the stage.
    pub instruction: usize,
    /// Which of the mounts of a `RUN`; none for `COPY`.
    pub mount: Option<usize>,
    /// Where it takes them from.
    pub origin: Origin,
}

/// The stages of a file as a graph.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StageGraph(Vec<StageNode>);

impl StageGraph {
    /// Returns the stages in the file's order.
    #[must_use]
    pub fn nodes(&self) -> &[StageNode] {
        &self.0
    }

    /// Returns the stages that `stage` needs directly, in the file's order.
    #[must_use]
    pub fn dependencies(&self, stage: usize) -> BTreeSet<usize> {
        let Some(node) = self.0.get(stage) else { return BTreeSet::new() };
        let origins = node.uses.iter().map(|used| &used.origin).chain([&node.base]);
        let stages = origins.filter_map(|origin| match origin {
            Origin::Stage(stage) => Some(*stage),
            _ => None,
        });
        stages.collect()
    }

    /// Returns `target` and all the stages that it needs, in the file's order: each comes after what it needs.
    #[must_use]
    pub fn needed(&self, target: usize) -> Vec<usize> {
        let mut needed = BTreeSet::from([target]);
        // Dependencies come before, so one pass from behind finds all.
        for stage in (0..=target.min(self.0.len().saturating_sub(1))).rev() {
            if needed.contains(&stage) {
                needed.extend(self.dependencies(stage));
            }
        }
        needed.into_iter().collect()
    }
}

impl Dockerfile {
    /// Returns the stage with a name, in any case, or a number. Of several with one name it is the last.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<usize> {
        let named = self.stages.iter().rposition(|stage| has_name(stage, name));
        named.or_else(|| name.parse().ok().filter(|number| *number < self.stages.len()))
    }

    /// Returns the stage that is to be built: the one named, or the last.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none of this name.
    pub fn target(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(self.stages.len().saturating_sub(1));
        };
        self.stage(name).ok_or_else(|| {
            let names = || self.stages.iter().filter_map(|stage| stage.name.as_deref());
            let error = Error::new(ErrorKind::NotFound, "find stage")
                .with("stage", name)
                .with("file", self.name())
                .with_message("the Dockerfile has no such stage");
            let known = || names().take(20).collect::<Vec<_>>().join(", ");
            match suggest::hint(name, names()) {
                Some(hint) => error.with_hint(hint),
                None if names().next().is_some() => error.with_hint(format!("it has {}", known())),
                None => error.with_hint("no stage of it has a name"),
            }
        })
    }

    /// Returns what `name` means to an instruction of stage `stage` that takes files from there.
    ///
    /// # Errors
    /// The stage itself, and stages that come later, at `span`.
    pub fn origin(&self, stage: usize, name: &str, span: Span) -> Result<Origin, SyntaxError> {
        if let Some(found) = self.stage_before(stage, name) {
            return Ok(Origin::Stage(found));
        }
        let number = name.parse::<usize>().ok();
        let found = self.stage(name);
        if found == Some(stage) {
            return Err(self.error_at(span, format!("stage {name:?} takes files from itself")));
        }
        if found.is_some() {
            return Err(self
                .error_at(span, format!("stage {name:?} comes later than the stage that uses it"))
                .with_hint("move it up"));
        }
        if let Some(number) = number {
            let message = format!("there is no stage {number}: the file has {}", self.stages.len());
            return Err(self.error_at(span, message).with_hint("the first stage is 0"));
        }
        Ok(if name == SCRATCH { Origin::Scratch } else { Origin::Named(name.to_owned()) })
    }

    /// Finds out what each stage is built on and takes files from.
    ///
    /// # Errors
    /// All that is wrong, at its line: arguments of a `FROM` that make no name, stages that use themselves or later ones.
    pub fn graph(&self, global: &GlobalScope) -> Result<StageGraph, SyntaxErrors> {
        let mut nodes = Vec::with_capacity(self.stages.len());
        let mut errors = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            match self.node(index, stage, global, &mut errors) {
                Ok(node) => nodes.push(node),
                Err(error) => errors.push(error),
            }
            if errors.len() >= MAX_ERRORS {
                break;
            }
        }
        if errors.is_empty() { Ok(StageGraph(nodes)) } else { Err(SyntaxErrors::new(errors)) }
    }

    fn node(
        &self,
        index: usize,
        stage: &Stage,
        global: &GlobalScope,
        errors: &mut Vec<SyntaxError>,
    ) -> Result<StageNode, SyntaxError> {
        let mut expander = Expander::new(global, self.directives.escape);
        let mut expand = |text: &str, what: &str| {
            let value = expander.word(text).map_err(|error| self.error_at(stage.span, error.to_string()))?;
            if !value.is_empty() {
                return Ok(value);
            }
            let error = self.error_at(stage.span, format!("{what} {text:?} is empty once it is expanded"));
            let unset = expander.unset().iter().next();
            let near = unset.and_then(|name| suggest::nearest(name, global.iter().map(|(name, _)| name)));
            Err(match (near, unset) {
                (Some(near), _) => error.with_hint(format!("did you mean ${near}?")),
                (None, Some(name)) => error.with_hint(format!("put ARG {name}=… in front of the first FROM")),
                (None, None) => error,
            })
        };
        let base = expand(&stage.base, "the base")?;
        let platform = stage.platform.as_deref().map(|text| expand(text, "the platform")).transpose()?;
        let args = expander.used().clone();
        let base = match self.stage_before(index, &base) {
            // A number is a name here: `FROM 0` is an image.
            Some(found) if has_name(&self.stages[found], &base) => Origin::Stage(found),
            _ if base == SCRATCH => Origin::Scratch,
            _ => Origin::Named(base),
        };
        let mut uses = Vec::new();
        for (instruction, spanned) in stage.instructions.iter().enumerate() {
            for (mount, from) in froms(&spanned.value) {
                match self.origin(index, from, spanned.span) {
                    Ok(origin) => uses.push(OriginUse { instruction, mount, origin }),
                    Err(error) => errors.push(error),
                }
            }
        }
        Ok(StageNode { base, platform, uses, args })
    }

    /// The stage before `stage` with a name or number.
    fn stage_before(&self, stage: usize, name: &str) -> Option<usize> {
        let before = &self.stages[..stage.min(self.stages.len())];
        let named = before.iter().rposition(|stage| has_name(stage, name));
        named.or_else(|| name.parse().ok().filter(|number| *number < before.len()))
    }
}

fn has_name(stage: &Stage, name: &str) -> bool {
    stage.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name))
}

/// What an instruction takes files from: which mount, and the name.
fn froms(instruction: &Instruction) -> Vec<(Option<usize>, &str)> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().map(|from| (None, from.as_str())).collect(),
        Instruction::Run(run) => {
            let mounts = run.mounts.iter().enumerate();
            mounts.filter_map(|(index, mount)| Some((Some(index), mount_from(mount)?))).collect()
        }
        _ => Vec::new(),
    }
}

fn mount_from(mount: &RunMount) -> Option<&str> {
    match mount {
        RunMount::Bind(bind) => bind.from.as_deref(),
        RunMount::Cache(cache) => cache.from.as_deref(),
        // It never has variables.
        RunMount::Unexpanded(fields) => {
            let from = fields.iter().rev().find(|(key, _)| key == "from");
            from.and_then(|(_, value)| value.as_deref()).filter(|value| !value.is_empty())
        }
        RunMount::Tmpfs(_) | RunMount::Secret(_) | RunMount::Ssh(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::Platform;

    fn graph(text: &str, given: &[(&str, &str)]) -> (Dockerfile, Result<StageGraph, SyntaxErrors>) {
        let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
        let given: BTreeMap<_, _> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let host = Platform::new("linux", "amd64", None);
        let global = GlobalScope::new(&file, given, &host, &host, None).unwrap();
        let graph = file.graph(&global);
        (file, graph)
    }

    #[test]
    fn names_are_stages_before_or_something_else() {
        let (file, graph) = graph(
            "ARG V=1\nFROM --platform=$BUILDPLATFORM image:$V AS Base\nFROM base AS mid\nCOPY --from=BASE a b\nCOPY --from=0 a b\n\
             COPY --from=other/image a b\nFROM scratch\nRUN --mount=from=mid,target=/m --mount=type=cache,target=/c,from=base \
             --mount=type=tmpfs,target=/t --mount=from=ctx,target=$x x\nCOPY . .\nFROM later AS last\nFROM 0\n",
            &[("V", "2")],
        );
        let graph = graph.unwrap();
        let nodes = graph.nodes();
        assert_eq!(nodes[0].base, Origin::Named("image:2".to_owned()));
        assert_eq!(nodes[0].platform.as_deref(), Some("linux/amd64"));
        assert_eq!(nodes[0].args.iter().collect::<Vec<_>>(), ["BUILDPLATFORM", "V"]);
        assert_eq!(nodes[1].base, Origin::Stage(0));
        let origins = |node: &StageNode| {
            node.uses.iter().map(|u| (u.instruction, u.mount, u.origin.clone())).collect::<Vec<_>>()
        };
        assert_eq!(
            origins(&nodes[1]),
            [
                (0, None, Origin::Stage(0)),
                (1, None, Origin::Stage(0)),
                (2, None, Origin::Named("other/image".to_owned())),
            ]
        );
        assert_eq!(nodes[2].base, Origin::Scratch);
        assert_eq!(
            origins(&nodes[2]),
            [
                (0, Some(0), Origin::Stage(1)),
                (0, Some(1), Origin::Stage(0)),
                (0, Some(3), Origin::Named("ctx".to_owned())),
            ]
        );
        assert_eq!(nodes[4].base, Origin::Named("0".to_owned()));
        assert_eq!(graph.needed(0), [0]);
        assert_eq!(graph.needed(1), [0, 1]);
        assert_eq!(graph.needed(2), [0, 1, 2]);
        assert_eq!(graph.needed(3), [3]);
        assert_eq!(
            (file.stage("MID"), file.stage("1"), file.stage("none"), file.stage("9")),
            (Some(1), Some(1), None, None)
        );
        assert_eq!((file.target(None).unwrap(), file.target(Some("last")).unwrap()), (4, 3));
        let error = file.target(Some("lats")).unwrap_err();
        assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, Some("did you mean last?")));
    }

    #[test]
    fn of_two_stages_with_one_name_the_one_before_counts() {
        let (file, graph) = graph("FROM a AS x\nFROM x AS x\nFROM x\nCOPY --from=x a b\n", &[]);
        let graph = graph.unwrap();
        assert_eq!(graph.nodes()[1].base, Origin::Stage(0));
        assert_eq!(graph.nodes()[2].base, Origin::Stage(1));
        assert_eq!(file.stage("x"), Some(1));
        // A stage may have its image's name.
        let (_, graph) = self::graph("FROM debian AS debian\n", &[]);
        assert_eq!(graph.unwrap().nodes()[0].base, Origin::Named("debian".to_owned()));
    }

    #[test]
    fn stages_that_cannot_be_used_are_errors_at_their_line() {
        let (_, found) = graph(
            "FROM a AS one\nCOPY --from=one a b\nCOPY --from=two a b\nRUN --mount=from=1,target=/x y\nCOPY --from=7 a b\nFROM b AS two\n",
            &[],
        );
        let errors = found.unwrap_err();
        let found: Vec<_> = errors.as_slice().iter().map(|error| (error.line(), error.message())).collect();
        assert_eq!(
            found,
            [
                (2, "stage \"one\" takes files from itself"),
                (3, "stage \"two\" comes later than the stage that uses it"),
                (4, "stage \"1\" comes later than the stage that uses it"),
                (5, "there is no stage 7: the file has 2"),
            ]
        );
    }

    #[test]
    fn a_from_that_makes_no_name_is_an_error() {
        for (text, hint) in [
            ("ARG VERSION\nFROM $VERSOIN", Some("put ARG VERSOIN=… in front of the first FROM")),
            ("ARG VERSION=1\nFROM ${VERSOIN}", Some("did you mean $VERSION?")),
            ("FROM --platform=$TARGETPLATFROM a", Some("did you mean $TARGETPLATFORM?")),
            ("ARG A=\nFROM $A", None),
        ] {
            let errors = graph(text, &[]).1.expect_err(text);
            assert_eq!(errors.as_slice()[0].hint(), hint, "{text}");
        }
        assert!(graph("FROM ${A", &[]).1.is_err());
    }
}
