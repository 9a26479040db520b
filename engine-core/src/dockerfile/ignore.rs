//! Ignore files and `--exclude`: which files of a context are left out.
//!
//! Docker's rules: the last pattern that matches a path or one of its directories decides; `!` takes back.

use super::glob::Program;
use super::limits::{MAX_FILE, MAX_PATTERNS};
use crate::error::{Error, ErrorKind, Result};

/// Patterns in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IgnorePatterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    text: String,
    exception: bool,
    matcher: Matcher,
}

/// The common patterns are compared as they are.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Matcher {
    Path(String),
    /// `**/name`, with a slash in front.
    Name(String),
    Program(Program),
}

impl Matcher {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Path(wanted) => wanted == path,
            Self::Name(name) => path.ends_with(name.as_str()) || path == &name[1..],
            Self::Program(program) => program.matches(path),
        }
    }

    /// Whether something beneath `directory` can match.
    fn may_match_beneath(&self, directory: &str) -> bool {
        match self {
            Self::Path(wanted) => wanted.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')),
            Self::Name(_) => true,
            Self::Program(program) => program.may_match_behind(&format!("{directory}/")),
        }
    }
}

impl IgnorePatterns {
    /// Reads an ignore file: a pattern a line, `#` in front of comments.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a malformed pattern, which is named, and for a file that is too long.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.len() > MAX_FILE {
            return Err(Error::new(ErrorKind::InvalidArgument, "read ignore file")
                .with_message(format!("it has {} bytes, and at most {MAX_FILE} are read", text.len())));
        }
        let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        // Only a `#` right at the beginning of a line begins a comment.
        Self::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Takes patterns, such as the values of `--exclude`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a malformed pattern, which is named, and for too many.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut all = Vec::new();
        for text in patterns {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            if all.len() == MAX_PATTERNS {
                return Err(Error::new(ErrorKind::InvalidArgument, "read ignore patterns")
                    .with_message(format!("there are more than {MAX_PATTERNS}")));
            }
            let (exception, path) = match text.strip_prefix('!') {
                Some(path) => (true, path.trim()),
                None => (false, text),
            };
            if path.is_empty() {
                return Err(Error::new(ErrorKind::InvalidArgument, "read ignore pattern")
                    .with("pattern", text)
                    .with_message("! stands alone")
                    .with_hint("put a pattern behind it"));
            }
            let path = clean(path);
            let program = Program::deep(&path)?;
            let name = path.strip_prefix("**/").filter(|name| !name.contains(['*', '?', '[', '\\']));
            let matcher = match (program.literal(), name) {
                (Some(path), _) => Matcher::Path(path),
                (None, Some(name)) => Matcher::Name(format!("/{name}")),
                (None, None) => Matcher::Program(program),
            };
            all.push(Pattern { text: path, exception, matcher });
        }
        Ok(Self { patterns: all })
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns whether some take back what others leave out.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Returns whether some pattern leaves out all there is: `*`, `**` and their like.
    pub(super) fn ignores_everything(&self) -> bool {
        let all = |pattern: &Pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*");
        self.patterns.iter().any(|pattern| !pattern.exception && all(pattern))
    }

    /// Returns whether `path`, relative to the context, is left out. The context itself never is.
    #[must_use]
    pub fn is_ignored(&self, path: &str) -> bool {
        let path = clean(path);
        if path == "." {
            return false;
        }
        self.decide(&path).0
    }

    /// Returns whether `directory` is left out with all there is beneath it, so that nobody needs to look.
    ///
    /// A directory may be left out and some of its files not.
    #[must_use]
    pub fn can_skip_directory(&self, directory: &str) -> bool {
        let directory = clean(directory);
        if directory == "." {
            return false;
        }
        let (ignored, decided) = self.decide(&directory);
        // What leaves out the directory leaves out its files, unless a later pattern takes some back.
        ignored
            && !self.patterns[decided..]
                .iter()
                .any(|pattern| pattern.exception && pattern.matcher.may_match_beneath(&directory))
    }

    /// Decides about a clean path; also how many patterns there are up to the last that leaves it out.
    fn decide(&self, path: &str) -> (bool, usize) {
        let mut ignored = false;
        let mut decided = 0;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let directories = path.match_indices('/').map(|(at, _)| &path[..at]);
            // Of those that leave out, also the later ones count for what lies beneath.
            if pattern.exception && !ignored {
                continue;
            }
            if directories.chain([path]).any(|path| pattern.matcher.matches(path)) {
                ignored = !pattern.exception;
                if ignored {
                    decided = index + 1;
                }
            }
        }
        (ignored, decided)
    }
}

/// Go's `path.Clean`, and no slash in front.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
