//! Patterns of substitutions: `${v#p}`, `${v%p}`, `${v/p/r}`, with `*` and `?`.
//!
//! Matching follows all possibilities at once, so its cost is the product of both lengths and never more; each step is
//! paid for from the expansion's budget.

use super::limits::MAX_EXPANSION_STEPS;

/// What an expansion may still cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(MAX_EXPANSION_STEPS)
    }

    /// Pays for `steps`; `None` once it is spent.
    pub(super) fn pay(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(steps)?;
        Some(())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token {
    /// `*`.
    Many,
    /// `?`.
    One,
    Char(char),
}

/// A pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern; the error is the character that cannot be escaped.
    pub(super) fn parse(text: &str) -> Result<Self, char> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                // `}` and `/` would end the pattern; the others would mean something.
                '\\' => match chars.next() {
                    Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Token::Char(escaped),
                    other => return Err(other.unwrap_or('\\')),
                },
                c => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Returns `value` without the shortest or longest beginning that matches; `None` if the budget is spent.
    pub(super) fn without_prefix(&self, value: &str, longest: bool, budget: &mut Budget) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        let end = self.end(&chars, longest, budget)?.unwrap_or(0);
        Some(chars[end..].iter().collect())
    }

    /// Returns `value` without the shortest or longest end that matches; `None` if the budget is spent.
    pub(super) fn without_suffix(&self, value: &str, longest: bool, budget: &mut Budget) -> Option<String> {
        // The same from behind.
        let reversed = Self(self.0.iter().rev().copied().collect());
        let chars: Vec<char> = value.chars().rev().collect();
        let end = reversed.end(&chars, longest, budget)?.unwrap_or(0);
        Some(chars[end..].iter().rev().collect())
    }

    /// Returns `value` with the first match or all replaced, each as long as possible; `None` if the budget is spent.
    pub(super) fn replace(&self, value: &str, with: &str, all: bool, budget: &mut Budget) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        // Where the last match ended: an empty one right there is none.
        let mut matched = None;
        loop {
            let end = self.end(&chars[at..], true, budget)?.map(|length| at + length);
            let end = end.filter(|end| *end > at || matched != Some(at));
            if let Some(end) = end {
                budget.pay(with.len())?;
                out.push_str(with);
                matched = Some(end);
                if !all {
                    out.extend(&chars[end..]);
                    return Some(out);
                }
                if end > at {
                    at = end;
                    continue;
                }
            }
            let Some(c) = chars.get(at) else { return Some(out) };
            out.push(*c);
            at += 1;
        }
    }

    /// Returns where a match from the beginning of `chars` ends: `Some(None)` without one.
    fn end(&self, chars: &[char], longest: bool, budget: &mut Budget) -> Option<Option<usize>> {
        let last = self.0.len();
        // Which tokens may come next, each following all the others' possibilities.
        let mut states = vec![false; last + 1];
        states[0] = true;
        self.skip_stars(&mut states);
        let mut end = states[last].then_some(0);
        for (index, c) in chars.iter().enumerate() {
            if end.is_some() && !longest {
                break;
            }
            budget.pay(last + 1)?;
            let mut next = vec![false; last + 1];
            for (state, token) in self.0.iter().enumerate().filter(|(state, _)| states[*state]) {
                match token {
                    Token::Many => next[state] = true,
                    Token::One => next[state + 1] = true,
                    Token::Char(wanted) if wanted == c => next[state + 1] = true,
                    Token::Char(_) => {}
                }
            }
            states = next;
            self.skip_stars(&mut states);
            if states[last] {
                end = Some(index + 1);
            } else if !states.contains(&true) {
                break;
            }
        }
        Some(end)
    }

    /// A star may be nothing.
    fn skip_stars(&self, states: &mut [bool]) {
        for (state, token) in self.0.iter().enumerate() {
            if states[state] && *token == Token::Many {
                states[state + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn prefixes_and_suffixes() {
        for (value, text, longest, prefix, suffix) in [
            ("foobarbar", "foo", false, "barbar", "foobarbar"),
            ("abcabc", "*b", false, "cabc", "abcabc"),
            ("abcabc", "*b", true, "c", "abcabc"),
            ("abcabc", "b*", false, "abcabc", "abca"),
            ("abcabc", "b*", true, "abcabc", "a"),
            ("abc", "?", false, "bc", "ab"),
            ("abc", "*", false, "abc", "abc"),
            ("abc", "*", true, "", ""),
            ("a*c", "a\\*", false, "c", "a*c"),
            ("äöü", "?", false, "öü", "äö"),
            ("abc", "", true, "abc", "abc"),
        ] {
            let mut budget = Budget::new();
            let found = pattern(text).without_prefix(value, longest, &mut budget).unwrap();
            assert_eq!(found, prefix, "{value} # {text}");
            let found = pattern(text).without_suffix(value, longest, &mut budget).unwrap();
            assert_eq!(found, suffix, "{value} % {text}");
        }
    }

    #[test]
    fn replacements() {
        for (value, text, with, first, all) in [
            ("foobarbar", "bar", "x", "fooxbar", "fooxx"),
            ("a/b/c", "/", "-", "a-b/c", "a-b-c"),
            ("abc", "*", "x", "x", "x"),
            ("abc", "", "-", "-abc", "-a-b-c-"),
            ("aXbXc", "X*X", "-", "a-c", "a-c"),
            ("abc", "z", "x", "abc", "abc"),
            ("aaa", "a", "", "aa", ""),
        ] {
            let mut budget = Budget::new();
            assert_eq!(
                pattern(text).replace(value, with, false, &mut budget).unwrap(),
                first,
                "{value}/{text}"
            );
            assert_eq!(
                pattern(text).replace(value, with, true, &mut budget).unwrap(),
                all,
                "{value}//{text}"
            );
        }
    }

    #[test]
    fn escapes_that_mean_nothing_are_refused() {
        assert_eq!(Pattern::parse("a\\d"), Err('d'));
        assert_eq!(Pattern::parse("a\\"), Err('\\'));
    }

    #[test]
    fn hostile_patterns_end() {
        let mut budget = Budget::new();
        let value = "a".repeat(100_000);
        let stars = pattern(&"*a".repeat(20_000));
        assert_eq!(stars.replace(&value, "", true, &mut budget), None);
    }
}
