//! Heredocs: which words of a line begin one, and what its body is.
//!
//! The bodies are read by `lines`, which knows where they are.

use std::borrow::Cow;

use super::expand::{Lexer, Options};

/// A document in the Dockerfile: `RUN <<EOF`, `COPY <<-"hello.txt" /`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Heredoc {
    /// What ends it, which is the file's name for `COPY` and `ADD`.
    pub name: String,
    /// The lines as they stand in the file.
    pub content: String,
    /// Whether variables in it are expanded, by `COPY` and `ADD` or by the shell: no part of the name is quoted.
    pub expand: bool,
    /// Whether leading tabs of its lines are taken away: `<<-`.
    pub strip_tabs: bool,
    /// The descriptor in front of it, for the shell.
    pub descriptor: Option<u32>,
}

impl Heredoc {
    /// Returns the document: the content, without leading tabs if that is asked for.
    #[must_use]
    pub fn document(&self) -> Cow<'_, str> {
        if !self.strip_tabs {
            return Cow::Borrowed(&self.content);
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// Finds the heredocs that a joined line begins, without their bodies.
pub(super) fn in_line(line: &str) -> Vec<Heredoc> {
    let options = Options { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Options::default() };
    // What is no line of words for Docker has no heredocs; the shell may think so too.
    let words = Lexer::new(line, options, None).words().unwrap_or_default();
    words.iter().filter_map(|word| parse(word)).collect()
}

/// Reads one word: `<<EOF`, `3<<-"EOF"`.
pub(super) fn parse(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (descriptor, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let options = Options { keep_unset: true, ..Options::default() };
    let words = Lexer::new(rest, options, None).words().ok()?;
    let [name] = &words[..] else { return None };
    let raw = Lexer::new(rest, Options { raw_quotes: true, ..options }, None).words().ok()?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = raw.len() == 1 && raw.iter().all(|raw| quotes(raw) == quotes(name));
    let descriptor = descriptor.parse().ok();
    Some(Heredoc { name: name.clone(), content: String::new(), expand, strip_tabs, descriptor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_begin_heredocs() {
        for (word, expected) in [
            ("<<EOF", Some(("EOF", true, false))),
            ("<<-EOF", Some(("EOF", true, true))),
            ("<<\"EOF\"", Some(("EOF", false, false))),
            ("<<'a b'", Some(("a b", false, false))),
            ("<<e'o'f", Some(("eof", false, false))),
            ("3<<EOF", Some(("EOF", true, false))),
            ("<<$X", Some(("$X", true, false))),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("a<<EOF", None),
            ("<EOF", None),
        ] {
            let found = parse(word);
            let found = found.as_ref().map(|doc| (doc.name.as_str(), doc.expand, doc.strip_tabs));
            assert_eq!(found, expected, "{word}");
        }
        assert_eq!(parse("3<<EOF").and_then(|doc| doc.descriptor), Some(3));
    }

    #[test]
    fn lines_with_heredocs() {
        for (line, expected) in [
            ("RUN <<EOF", vec!["EOF"]),
            ("COPY <<a <<'b' /dest", vec!["a", "b"]),
            ("RUN cat <<A > /x && cat <<-B", vec!["A", "B"]),
            ("RUN echo $((1<<2)) \"<<no\" '<<no'", vec![]),
            ("RUN cat << EOF", vec![]),
            ("RUN it's <<EOF", vec![]),
            ("RUN 3<<EOF cat <&3", vec!["EOF"]),
            ("RUN <<<word cat", vec![]),
        ] {
            let names: Vec<String> = in_line(line).into_iter().map(|doc| doc.name).collect();
            assert_eq!(names, expected, "{line}");
        }
    }

    #[test]
    fn leading_tabs_are_taken_away_where_asked_for() {
        let mut doc = parse("<<-EOF").unwrap();
        doc.content = "\t\ta\n\t b\n\n c\t\n".to_owned();
        assert_eq!(doc.document(), "a\n b\n\n c\t\n");
        doc.strip_tabs = false;
        assert_eq!(doc.document(), doc.content);
    }
}
