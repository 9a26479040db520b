//! Patterns of repositories.
//!
//! A pattern is read component by component: `*` stands for any characters within one, `**` alone for one component or more,
//! and `{user}` alone for the name of whoever asks. Invariant: what a user is called is never read as a pattern.

use crate::server::names::RepositoryName;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pattern(Vec<Component>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Component {
    /// One or more components.
    Any,
    /// The name of the user.
    User,
    /// Text between stars.
    Text(Box<[String]>),
}

impl Pattern {
    /// Reads a pattern, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > 255 {
            return Err("a pattern has 255 characters at most");
        }
        text.split('/').map(Component::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the pattern stands for every repository.
    pub(super) fn is_everything(&self) -> bool {
        self.0 == [Component::Any]
    }

    /// Whether it stands for `repository` when `user` asks; nobody has no name.
    pub(super) fn matches(&self, repository: &RepositoryName, user: Option<&str>) -> bool {
        let words: Vec<&str> = repository.as_str().split('/').collect();
        // Which numbers of words the components until now can stand for: with two `**` there are several.
        let mut ends = vec![false; words.len() + 1];
        ends[0] = true;
        for component in &self.0 {
            let mut next = vec![false; words.len() + 1];
            for (at, word) in words.iter().enumerate() {
                next[at + 1] = match component {
                    Component::Any => ends[at] || next[at],
                    Component::User => ends[at] && user == Some(*word),
                    Component::Text(parts) => ends[at] && is_like(parts, word),
                };
            }
            ends = next;
        }
        ends[words.len()]
    }
}

impl Component {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "" => Err("a component is empty"),
            "**" => Ok(Self::Any),
            "{user}" => Ok(Self::User),
            _ if text.contains("**") => Err("** stands alone between slashes"),
            _ if text.contains(['{', '}']) => Err("{user} stands alone between slashes"),
            _ if text.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'*')
            }) =>
            {
                Ok(Self::Text(text.split('*').map(str::to_owned).collect()))
            }
            _ => Err("no repository has such a character (lowercase letters, digits, '.', '_' and '-')"),
        }
    }
}

/// Whether a word is these parts with anything in between.
fn is_like(parts: &[String], word: &str) -> bool {
    let [first, middle @ .., last] = parts else { return parts.first().is_some_and(|only| only == word) };
    let Some(mut rest) = word.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    // The earliest place of each leaves most to the others.
    middle.iter().all(|part| match rest.find(part.as_str()) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_what_they_say() {
        for (pattern, repository, wanted) in [
            ("team/app", "team/app", true),
            ("team/app", "team/app2", false),
            ("team/app", "team", false),
            ("team/app", "team/app/x", false),
            ("team/*", "team/app", true),
            ("team/*", "team/a/b", false),
            ("team/*", "team", false),
            ("team/*", "teams/app", false),
            ("team/**", "team/app", true),
            ("team/**", "team/a/b/c", true),
            ("team/**", "team", false),
            ("team/**", "team2/app", false),
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**/app", "x/app", true),
            ("**/app", "x/y/app", true),
            ("**/app", "app", false),
            ("**/mid/**", "a/mid/b/mid/c", true),
            ("**/mid/**", "mid/b", false),
            ("a*z", "az", true),
            ("a*z", "abcz", true),
            ("a*z", "a", false),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "acb", false),
            ("*-prod", "web-prod", true),
            ("*-prod", "web-prod2", false),
            ("{user}/*", "alice/app", true),
            ("{user}/*", "bob/app", false),
            ("x/{user}/**", "x/alice/a/b", true),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.matches(&repository.parse().unwrap(), Some("alice")),
                wanted,
                "{pattern} {repository}"
            );
        }
        let own = Pattern::parse("{user}/**").unwrap();
        let repository = "alice/app".parse().unwrap();
        for nobody in
            [None, Some(""), Some("*"), Some("**"), Some("Alice"), Some("alice/app"), Some("{user}")]
        {
            assert!(!own.matches(&repository, nobody), "{nobody:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for bad in ["", "/a", "a/", "a//b", "A/*", "a/***", "a**", "x-{user}", "{group}/*", "a b", "ä", "a:b"]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Pattern::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn d5_a_pattern_takes_no_time_to_speak_of() {
        let pattern = Pattern::parse(&["**"; 60].join("/")).unwrap();
        let repository = ["a"; 120].join("/").parse().unwrap();
        assert!(pattern.matches(&repository, None));
        let stars = Pattern::parse(&format!("{}b", "*a".repeat(100))).unwrap();
        assert!(!stars.matches(&"a".repeat(255).parse().unwrap(), None));
    }
}
