//! What a hostile file may cost.
//!
//! Everything the parser keeps is linear in the file; these bound the file, and what expansion may make of it.

/// Bytes of a Dockerfile, and of an ignore file.
pub const MAX_FILE: usize = 4 << 20;
/// Bytes of one instruction, without its heredocs.
pub const MAX_INSTRUCTION: usize = 1 << 20;
/// Instructions of a file.
pub const MAX_INSTRUCTIONS: usize = 20_000;
/// Stages of a file.
pub const MAX_STAGES: usize = 1_000;
/// Words, flags or elements of one instruction.
pub const MAX_WORDS: usize = 20_000;
/// Heredocs of one instruction.
pub const MAX_HEREDOCS: usize = 1_000;
/// Syntax errors that are reported at once.
pub const MAX_ERRORS: usize = 20;
/// Warnings that are kept.
pub const MAX_WARNINGS: usize = 1_000;
/// Bytes that the expansion of one text may have.
pub const MAX_EXPANSION: usize = 8 << 20;
/// Steps that the expansion of one text may take: characters written, and comparisons of patterns.
pub const MAX_EXPANSION_STEPS: usize = 32 << 20;
/// How deep substitutions may be nested: `${a:-${b:-${c}}}`.
pub const MAX_EXPANSION_DEPTH: usize = 64;
/// Patterns of an ignore file, or of an instruction.
pub const MAX_PATTERNS: usize = 10_000;
/// Bytes of one pattern of paths.
pub const MAX_PATTERN: usize = 4096;
