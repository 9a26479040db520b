//! Rules that need nothing but the file.

use super::{Rule, Warning};
use crate::dockerfile::file::Dockerfile;
use crate::dockerfile::instruction::Instruction;
use crate::dockerfile::lines::Joined;
use crate::dockerfile::source::{Span, Spanned};

/// What is noted while a file is read.
#[derive(Debug, Default)]
pub(in crate::dockerfile) struct Notes(Vec<Warning>);

impl Notes {
    /// Notes what an instruction's lines show.
    pub(in crate::dockerfile) fn lines(&mut self, joined: &Joined) {
        if let Some(line) = joined.empty_continuation {
            self.0.push(Warning::new(
                Rule::NoEmptyContinuation,
                Span::lines(line, line),
                "Empty continuation line",
            ));
        }
    }

    /// Notes what an instruction shows.
    pub(in crate::dockerfile) fn instruction(&mut self, instruction: &Spanned<Instruction>) {
        if let Instruction::Maintainer(_) = &instruction.value {
            let message = "Maintainer instruction is deprecated in favor of using label";
            self.0.push(Warning::new(Rule::MaintainerDeprecated, instruction.span, message));
        }
    }

    /// Returns all warnings that the file wants.
    pub(in crate::dockerfile) fn warnings(self, file: &Dockerfile) -> Vec<Warning> {
        let mut warnings = self.0;
        warnings.retain(|warning| file.checks.apply(warning.rule));
        warnings
    }
}
