//! What is not good in a file, and what a build would fail with.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Inquiry;
use super::walk::{Passed, Walk};
use crate::dockerfile::error::{SyntaxError, SyntaxErrors};
use crate::dockerfile::file::Dockerfile;
use crate::dockerfile::graph::Origin;
use crate::dockerfile::instruction::{Instruction, parse_ports};
use crate::dockerfile::limits::{MAX_ERRORS, MAX_WARNINGS};
use crate::dockerfile::lint::{Checks, Warning};
use crate::dockerfile::mode::FileMode;
use crate::error::Result;
use crate::platform::Platform;
use crate::signal;

/// What [`Dockerfile::check`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is not good, in the file's order.
    pub warnings: Vec<Warning>,
    /// What a build would fail with, in the file's order. A build finds more: commands that fail, files that are not there.
    pub errors: Vec<SyntaxError>,
    /// The images of which nothing is known. For stages that are built on them it is not told whether variables are defined, and
    /// whether the image is for the stage's platform.
    pub unknown_images: BTreeSet<String>,
}

impl CheckReport {
    /// Says what a build that finds this would fail with; `checks` are the file's.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for errors, and for warnings that are to be errors.
    pub fn verdict(&self, checks: &Checks) -> Result<()> {
        if !self.errors.is_empty() {
            return Err(SyntaxErrors::new(self.errors.clone()).into());
        }
        checks.verdict(&self.warnings)
    }

    /// Returns whether there is nothing to complain of.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.warnings.is_empty() && self.errors.is_empty()
    }
}

impl Dockerfile {
    /// Applies all rules of `# check=` without building anything, and looks for what a build would fail with.
    ///
    /// A target limits it to the stages that are needed for it; rules that need nothing but the file are applied to all of it.
    ///
    /// ```
    /// use engine_core::dockerfile::{Dockerfile, Inquiry, Rule};
    ///
    /// # fn main() -> engine_core::Result<()> {
    /// let file = Dockerfile::parse("Dockerfile", b"FROM scratch\nARG VERSION=1\nENV V=$VERSOIN\nCMD app\n")?;
    /// let report = file.check(&Inquiry::default())?;
    /// let rules: Vec<Rule> = report.warnings.iter().map(|warning| warning.rule).collect();
    /// assert_eq!(rules, [Rule::UndefinedVar, Rule::JsonArgsRecommended]);
    /// println!("{}", report.warnings[0]); // UndefinedVar: the variable $VERSOIN is not defined (did you mean $VERSION?) (line 3)
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such target.
    pub fn check(&self, inquiry: &Inquiry) -> Result<CheckReport> {
        let target = self.target(inquiry.target.as_deref())?;
        let mut report = CheckReport { warnings: self.warnings.clone(), ..CheckReport::default() };
        let walk = match Walk::new(self, inquiry) {
            Ok(walk) => walk,
            Err(errors) => {
                report.errors = errors.as_slice().to_vec();
                return Ok(report);
            }
        };
        let stages = match inquiry.target.as_deref() {
            None | Some("") => (0..self.stages.len()).collect(),
            Some(_) => walk.graph.needed(target),
        };
        let mut wrong = Vec::new();
        for stage in &stages {
            self.check_origins(&walk, *stage, &mut report, &mut wrong);
        }
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        walk.stages(&stages, &mut errors, |passed| {
            warnings.extend(self.warnings_of(inquiry, passed));
            if let Err(error) = check_values(passed.expanded) {
                wrong.push(self.error_at(passed.instruction.span, error.report()));
            }
        });
        for warning in warnings {
            if report.warnings.len() < MAX_WARNINGS && !report.warnings.contains(&warning) {
                report.warnings.push(warning);
            }
        }
        report.warnings.sort_by_key(|warning| warning.span.line);
        errors.append(&mut wrong);
        errors.sort_by_key(|error| (error.line(), error.column()));
        errors.truncate(MAX_ERRORS);
        report.errors = errors;
        Ok(report)
    }

    /// Looks at what a stage is built on and takes files from.
    fn check_origins(
        &self,
        walk: &Walk<'_>,
        stage: usize,
        report: &mut CheckReport,
        wrong: &mut Vec<SyntaxError>,
    ) {
        let (node, span) = (&walk.graph.nodes()[stage], self.stages[stage].span);
        let platform = match node.platform.as_deref().map(str::parse::<Platform>) {
            None => Some(&walk.platform),
            Some(Ok(_)) => None,
            Some(Err(error)) => {
                wrong.push(self.error_at(span, error.report()));
                None
            }
        };
        if let Some(message) = walk.wrong_name(&node.base) {
            wrong.push(self.error_at(span, message));
        } else if let Origin::Named(name) = &node.base {
            match walk.image(name) {
                None => drop(report.unknown_images.insert(name.clone())),
                Some(image) => {
                    if let (Some(wanted), Some(found)) = (platform, &image.platform) {
                        report.warnings.extend(self.checks.base_platform(name, wanted, found, span));
                    }
                }
            }
        }
        for used in &node.uses {
            if let Some(message) = walk.wrong_name(&used.origin) {
                let span = self.stages[stage].instructions[used.instruction].span;
                wrong.push(self.error_at(span, message));
            }
        }
    }

    fn warnings_of(&self, inquiry: &Inquiry, passed: &Passed<'_>) -> Vec<Warning> {
        let span = passed.instruction.span;
        let mut warnings = self.checks.expanded(passed.expanded, inquiry.ignore.as_ref(), span);
        if passed.known {
            warnings.extend(self.checks.undefined_variables(passed.unset, passed.scope, span));
        }
        warnings
    }
}

/// Values that are read when an instruction is carried out.
fn check_values(instruction: &Instruction) -> Result<()> {
    let chmod = match instruction {
        Instruction::Expose(expose) => return parse_ports(&expose.ports).map(drop),
        Instruction::StopSignal(stop) => return signal::parse(&stop.signal).map(drop),
        Instruction::Copy(copy) => &copy.chmod,
        Instruction::Add(add) => &add.chmod,
        _ => return Ok(()),
    };
    chmod.as_deref().map_or(Ok(()), |mode| FileMode::parse(mode).map(drop))
}
