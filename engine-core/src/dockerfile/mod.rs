//! The Dockerfile language: a file's text in, stages of typed instructions out.
//!
//! This module owns what a Dockerfile says: its syntax ([`Dockerfile::parse`]), the expansion of variables ([`Expander`]),
//! which arguments are in scope ([`Scope`]), which stages, images and contexts are meant ([`Dockerfile::graph`]), which
//! files an ignore file leaves out ([`IgnorePatterns`]), the warnings of `# check=` ([`Warning`]), and what a file tells without being
//! built ([`Dockerfile::check`], [`Dockerfile::outline`], [`Dockerfile::targets`]). It reads no file and knows no engine; carrying instructions out is the caller's. Where a notation is Docker's, BuildKit's reading of it decides.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use engine_core::dockerfile::{Dockerfile, Expander, Instruction};
//!
//! # fn main() -> engine_core::Result<()> {
//! let file = Dockerfile::parse("Dockerfile", b"FROM scratch AS base\nCOPY ${what:-x} /\n")?;
//! let variables = BTreeMap::from([("what".to_owned(), "app".to_owned())]);
//! let mut expander = Expander::new(&variables, file.directives.escape);
//! for instruction in &file.stages[0].instructions {
//!     if let Instruction::Copy(copy) = instruction.expand(&mut expander)? {
//!         assert_eq!(copy.sources, ["app"]);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: whatever the text, parsing and expanding end soon, in memory linear in it ([`limits`]), and without a panic.

mod add_source;
mod directives;
mod error;
mod expand;
mod file;
mod git_source;
mod glob;
mod graph;
mod heredoc;
mod ignore;
mod inquiry;
mod instruction;
pub mod limits;
mod lines;
mod lint;
mod mode;
mod pattern;
mod scope;
mod source;
mod suggest;
mod words;

pub use add_source::AddSource;
pub(crate) use add_source::without_login;
pub use directives::{Directives, Escape, detect_syntax};
pub use error::{SyntaxError, SyntaxErrors};
pub use expand::{ExpandError, Expander, Variables};
pub use file::{Dockerfile, Stage};
pub use git_source::GitSource;
pub use glob::Glob;
pub use graph::{Origin, OriginUse, StageGraph, StageNode};
pub use heredoc::Heredoc;
pub use ignore::IgnorePatterns;
pub use inquiry::{BaseImage, CheckReport, Inquiry, Outline, OutlineArg, OutlineCache, OutlineMount, Target};
pub use instruction::{
    Add, Arg, ArgDefinition, BindMount, CacheMount, CacheSharing, Cmd, Command, Copy, Entrypoint, Env,
    Expose, Healthcheck, HealthcheckCommand, Instruction, KeyValue, Label, Maintainer, OnBuild, Run,
    RunDevice, RunMount, RunNetwork, RunScript, RunSecurity, SecretMount, Shell, SshMount, StopSignal,
    TmpfsMount, User, Volume, Workdir, parse_ports,
};
pub use lint::{Checks, Rule, Warning};
pub use mode::FileMode;
pub(crate) use scope::DEFAULT_PATH;
pub use scope::{GlobalScope, Scope, is_predefined_arg};
pub use source::{Span, Spanned};

#[cfg(test)]
mod corpus_tests;
