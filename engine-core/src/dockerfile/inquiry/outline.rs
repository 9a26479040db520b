//! What a target can be given: arguments, secrets, agents, and the caches that it keeps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Inquiry;
use super::walk::{Passed, Walk};
use crate::dockerfile::error::SyntaxErrors;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::file::Dockerfile;
use crate::dockerfile::graph::Origin;
use crate::dockerfile::instruction::{Instruction, RunMount};
use crate::dockerfile::source::Span;
use crate::error::Result;

/// The agent of a mount that names none.
const DEFAULT_AGENT: &str = "default";

/// What a target can be given, each in the order of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// The arguments that have a part in it.
    pub args: Vec<OutlineArg>,
    /// The secrets that its commands ask for.
    pub secrets: Vec<OutlineMount>,
    /// The ssh agents that its commands ask for.
    pub ssh: Vec<OutlineMount>,
    /// The caches that its commands use.
    pub caches: Vec<OutlineCache>,
}

/// A build argument.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value: what is given, or its default with all variables expanded.
    pub value: Option<String>,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Where its `ARG` stands.
    pub span: Span,
}

/// A secret or an agent that a command asks for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutlineMount {
    /// Its id.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where the first `RUN` stands that asks for it.
    pub span: Span,
}

/// A cache that a command uses.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutlineCache {
    /// Its id, or its target if it has none.
    pub id: String,
    /// Where the first `RUN` stands that uses it.
    pub span: Span,
}

/// An argument, and the others that its default has used.
#[derive(Clone)]
struct Defined {
    arg: OutlineArg,
    /// Which of its `ARG` it is.
    place: usize,
    uses: BTreeSet<String>,
}

/// The arguments of a stage: what it defines itself, and the names of all that have a part in it.
#[derive(Clone, Default)]
struct StageArgs {
    own: BTreeMap<String, Defined>,
    used: BTreeSet<String>,
}

impl Dockerfile {
    /// Tells what the target, or the last stage, can be given, by all stages that it needs: arguments with their values and descriptions,
    /// secrets, ssh agents and caches.
    ///
    /// ```
    /// use engine_core::dockerfile::{Dockerfile, Inquiry};
    ///
    /// # fn main() -> engine_core::Result<()> {
    /// let text = b"FROM scratch\n# VERSION is what is fetched\nARG VERSION=1\nRUN --mount=type=secret,id=token fetch $VERSION\n";
    /// let outline = Dockerfile::parse("Dockerfile", text)?.outline(&Inquiry::default().with_arg("VERSION", "2"))?;
    /// assert_eq!(outline.args[0].value.as_deref(), Some("2"));
    /// assert_eq!(outline.args[0].description.as_deref(), Some("is what is fetched"));
    /// assert_eq!(outline.secrets[0].id, "token");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such target;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for what a build would fail with, at its line.
    pub fn outline(&self, inquiry: &Inquiry) -> Result<Outline> {
        let target = self.target(inquiry.target.as_deref())?;
        let walk = Walk::new(self, inquiry)?;
        let stage = &self.stages[target];
        let mut outline = Outline {
            name: stage.name.clone(),
            description: stage.description.clone(),
            ..Outline::default()
        };
        let mut stages: BTreeMap<usize, StageArgs> = BTreeMap::new();
        let mut errors = Vec::new();
        walk.stages(&walk.graph.needed(target), &mut errors, |passed| match passed.expanded {
            Instruction::Arg(_) => stages.entry(passed.stage).or_default().define(inquiry, &walk, passed),
            Instruction::Run(run) => run.mounts.iter().for_each(|mount| outline.mount(mount, passed)),
            _ => {}
        });
        if !errors.is_empty() {
            return Err(SyntaxErrors::new(errors).into());
        }
        let global = self.global_args(&walk);
        let mut seen = (BTreeSet::new(), BTreeSet::new());
        let mut args = Vec::new();
        collect(&walk, target, &stages, &global, &mut seen, &mut args);
        args.sort_by_key(|defined| (defined.arg.span.line, defined.place));
        outline.args = args.into_iter().map(|defined| defined.arg).collect();
        for list in [&mut outline.secrets, &mut outline.ssh] {
            list.sort_by_key(|mount| mount.span.line);
        }
        outline.caches.sort_by_key(|cache| cache.span.line);
        Ok(outline)
    }

    /// The arguments in front of the first `FROM`.
    fn global_args(&self, walk: &Walk<'_>) -> BTreeMap<String, Defined> {
        let values: BTreeMap<&str, &str> = walk.global.iter().collect();
        let mut all = BTreeMap::new();
        for arg in &self.args {
            for (place, definition) in arg.definitions.iter().enumerate() {
                let mut uses = BTreeSet::new();
                if let Some(default) = &definition.default
                    && !walk.inquiry.args.contains_key(&definition.name)
                {
                    let mut expander = Expander::new(&*walk.global, self.directives.escape);
                    // It went well when the scope was made.
                    let _ = expander.word(default);
                    uses = expander.used().clone();
                }
                let arg = OutlineArg {
                    name: definition.name.clone(),
                    value: values.get(definition.name.as_str()).map(|value| (*value).to_owned()),
                    description: definition.description.clone(),
                    span: arg.span,
                };
                all.insert(definition.name.clone(), Defined { arg, place, uses });
            }
        }
        all
    }
}

impl StageArgs {
    /// Takes an `ARG`. One that has its value from an argument in front of the first `FROM`, or from the platform, is that one.
    fn define(&mut self, inquiry: &Inquiry, walk: &Walk<'_>, passed: &Passed<'_>) {
        let Instruction::Arg(arg) = passed.expanded else { return };
        for (place, definition) in arg.definitions.iter().enumerate() {
            let name = &definition.name;
            self.used.insert(name.clone());
            let given = definition.default.is_some() || inquiry.args.contains_key(name);
            if !given && walk.global.iter().any(|(known, _)| known == name) {
                continue;
            }
            let arg = OutlineArg {
                name: name.clone(),
                value: passed.scope.arg(name).map(str::to_owned),
                description: definition.description.clone(),
                span: passed.instruction.span,
            };
            self.own.insert(name.clone(), Defined { arg, place, uses: BTreeSet::new() });
        }
    }
}

impl Outline {
    fn mount(&mut self, mount: &RunMount, passed: &Passed<'_>) {
        let span = passed.instruction.span;
        let (list, id, required) = match mount {
            RunMount::Secret(secret) => (&mut self.secrets, secret.id.as_str(), secret.required),
            RunMount::Ssh(ssh) => (&mut self.ssh, ssh.id.as_deref().unwrap_or(DEFAULT_AGENT), ssh.required),
            RunMount::Cache(cache) => {
                if !self.caches.iter().any(|known| known.id == cache.name()) {
                    self.caches.push(OutlineCache { id: cache.name().to_owned(), span });
                }
                return;
            }
            _ => return,
        };
        match list.iter_mut().find(|known| known.id == id) {
            Some(known) => known.required |= required,
            None => list.push(OutlineMount { id: id.to_owned(), required, span }),
        }
    }
}

/// Collects the arguments that have a part in a stage: its own before those of what it needs. `seen` has names and stages.
fn collect(
    walk: &Walk<'_>,
    first: usize,
    stages: &BTreeMap<usize, StageArgs>,
    global: &BTreeMap<String, Defined>,
    seen: &mut (BTreeSet<String>, BTreeSet<usize>),
    out: &mut Vec<Defined>,
) {
    let mut next = vec![first];
    while let Some(stage) = next.pop() {
        if !seen.1.insert(stage) {
            continue;
        }
        let args = stages.get(&stage).cloned().unwrap_or_default();
        let node = &walk.graph.nodes()[stage];
        let mut names: Vec<String> = args.used.iter().chain(&node.args).cloned().collect();
        let mut asked = BTreeSet::new();
        while let Some(name) = names.pop() {
            let Some(found) = args.own.get(&name).or_else(|| global.get(&name)) else { continue };
            if !asked.insert(name.clone()) {
                continue;
            }
            names.extend(found.uses.iter().cloned());
            if seen.0.insert(name) {
                out.push(found.clone());
            }
        }
        // The base comes first, so it is the last to be put there.
        next.extend(walk.graph.dependencies(stage).into_iter().rev());
        if let Origin::Stage(base) = &node.base {
            next.push(*base);
        }
    }
}
