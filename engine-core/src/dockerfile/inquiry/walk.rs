//! The instructions of stages one after the other, expanded as a build would expand them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BaseImage, Inquiry};
use crate::dockerfile::error::{SyntaxError, SyntaxErrors};
use crate::dockerfile::expand::Expander;
use crate::dockerfile::file::Dockerfile;
use crate::dockerfile::graph::{Origin, StageGraph};
use crate::dockerfile::instruction::Instruction;
use crate::dockerfile::limits::MAX_ERRORS;
use crate::dockerfile::scope::{DEFAULT_PATH, GlobalScope, Scope};
use crate::dockerfile::source::Spanned;
use crate::platform::Platform;
use crate::reference::Reference;

/// A file with the values that an inquiry has for it.
pub(super) struct Walk<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) inquiry: &'a Inquiry,
    pub(super) platform: Platform,
    pub(super) global: Arc<GlobalScope>,
    pub(super) graph: StageGraph,
}

/// An instruction that is come by.
pub(super) struct Passed<'a> {
    pub(super) stage: usize,
    pub(super) instruction: &'a Spanned<Instruction>,
    pub(super) expanded: &'a Instruction,
    /// What it saw; of an `ARG`, with what it defines.
    pub(super) scope: &'a Scope,
    /// The variables that it asked for and nobody set.
    pub(super) unset: &'a BTreeSet<String>,
    /// Whether all of the environment is known.
    pub(super) known: bool,
}

/// What stages that are built on a stage inherit.
#[derive(Clone)]
struct End {
    scope: Scope,
    known: bool,
    on_build: Vec<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a Dockerfile, inquiry: &'a Inquiry) -> Result<Self, SyntaxErrors> {
        let host = Platform::host();
        let platform = inquiry.platform.clone().unwrap_or_else(|| host.clone());
        let target = inquiry.target.as_deref();
        let global = GlobalScope::new(file, inquiry.args.clone(), &host, &platform, target)
            .map_err(|error| SyntaxErrors::new(vec![error]))?;
        let graph = file.graph(&global)?;
        Ok(Self { file, inquiry, platform, global: Arc::new(global), graph })
    }

    /// Goes through `stages`, which are in the file's order and have all that they need among them. What a build would fail with goes to
    /// `errors` and ends nothing.
    pub(super) fn stages(
        &self,
        stages: &[usize],
        errors: &mut Vec<SyntaxError>,
        mut visit: impl FnMut(&Passed<'_>),
    ) {
        let mut ends: BTreeMap<usize, End> = BTreeMap::new();
        for index in stages {
            let mut end = self.begin(*index, &ends);
            let span = self.file.stages[*index].span;
            let mut triggers = Vec::new();
            for text in std::mem::take(&mut end.on_build) {
                match Instruction::parse("ONBUILD", &text) {
                    // It stands in another file, and is carried out here.
                    Ok(trigger) => triggers.push(Spanned { span, ..trigger }),
                    Err(wrong) => {
                        let why = wrong.as_slice().first().map_or("", SyntaxError::message);
                        let message = format!("the base asks for {text:?} (ONBUILD): {why}");
                        errors.push(self.file.error_at(span, message));
                    }
                }
            }
            for instruction in triggers.iter().chain(&self.file.stages[*index].instructions) {
                if errors.len() >= MAX_ERRORS {
                    return;
                }
                if let Err(error) = pass(self, *index, instruction, &mut end, &mut visit) {
                    errors.push(error);
                }
            }
            ends.insert(*index, end);
        }
    }

    /// What is known of a base that is neither a stage nor empty.
    pub(super) fn image(&self, name: &str) -> Option<&BaseImage> {
        self.inquiry.images.get(name)
    }

    /// What is wrong with the name of something that is neither a stage nor empty.
    pub(super) fn wrong_name(&self, origin: &Origin) -> Option<String> {
        let Origin::Named(name) = origin else { return None };
        if self.image(name).is_some() {
            return None;
        }
        let error = name.parse::<Reference>().err()?;
        Some(format!("{name:?} is no stage, no context and no name of an image: {}", error.report()))
    }

    fn begin(&self, index: usize, ends: &BTreeMap<usize, End>) -> End {
        let image = match &self.graph.nodes()[index].base {
            Origin::Stage(base) => {
                if let Some(end) = ends.get(base) {
                    return End { scope: end.scope.inherit(), ..end.clone() };
                }
                None
            }
            Origin::Scratch => Some(BaseImage::default()),
            Origin::Named(name) => self.image(name).cloned(),
        };
        let known = image.is_some();
        let BaseImage { mut env, on_build, .. } = image.unwrap_or_default();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
        }
        let scope = Scope::new(Arc::clone(&self.global), env.iter().map(String::as_str));
        End { scope, known, on_build }
    }
}

fn pass(
    walk: &Walk<'_>,
    stage: usize,
    instruction: &Spanned<Instruction>,
    end: &mut End,
    visit: &mut impl FnMut(&Passed<'_>),
) -> Result<(), SyntaxError> {
    let at = |message: String| walk.file.error_at(instruction.span, message);
    let mut passed = |expanded: &Instruction, scope: &Scope, unset: &BTreeSet<String>| {
        visit(&Passed { stage, instruction, expanded, scope, unset, known: end.known });
    };
    if let Instruction::Arg(arg) = &instruction.value {
        end.scope.define(arg).map_err(|error| at(error.to_string()))?;
        passed(&instruction.value, &end.scope, &BTreeSet::new());
        return Ok(());
    }
    let mut expander = Expander::new(&end.scope, walk.file.directives.escape);
    let expanded = instruction.expand(&mut expander).map_err(|error| at(error.to_string()))?;
    let unset = expander.unset().clone();
    passed(&expanded, &end.scope, &unset);
    match &expanded {
        Instruction::Env(env) => env.pairs.iter().for_each(|pair| end.scope.set_env(&pair.key, &pair.value)),
        Instruction::OnBuild(trigger) => end.on_build.push(trigger.instruction.clone()),
        _ => {}
    }
    Ok(())
}
