//! Patterns of names, as filters of images have them: Go's path.Match, but that a class never matches a slash.

/// What one place of a pattern matches.
enum Place {
    /// Any characters but slashes, also none.
    Many,
    /// One character that is no slash.
    One,
    /// One character of some, or of none of them. Never a slash.
    Of { ranges: Vec<(char, char)>, are_wanted: bool },
    /// This character.
    Char(char),
}

/// Returns whether `text` matches `pattern`, in which `*`, `?` and `[a-z]` match no slash. A pattern that is none matches nothing.
#[must_use]
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some(places) = places(pattern) else { return false };
    let text: Vec<char> = text.chars().collect();
    let (mut place, mut at) = (0, 0);
    // The last `*`, and where what follows it was tried last. Only that one can still give way, so nothing is tried twice as often.
    let mut last: Option<(usize, usize)> = None;
    while at < text.len() {
        match places.get(place) {
            Some(Place::Many) => {
                last = Some((place, at));
                place += 1;
            }
            Some(one) if one.matches(text[at]) => (place, at) = (place + 1, at + 1),
            _ => match &mut last {
                Some((many, tried)) if text[*tried] != '/' => {
                    *tried += 1;
                    (place, at) = (*many + 1, *tried);
                }
                _ => return false,
            },
        }
    }
    places[place..].iter().all(|place| matches!(place, Place::Many))
}

impl Place {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Many => false,
            Self::One => c != '/',
            Self::Of { ranges, are_wanted } => {
                c != '/' && ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) == *are_wanted
            }
            Self::Char(own) => *own == c,
        }
    }
}

fn places(pattern: &str) -> Option<Vec<Place>> {
    let mut chars = pattern.chars().peekable();
    let mut places = Vec::new();
    while let Some(c) = chars.next() {
        places.push(match c {
            '*' => Place::Many,
            '?' => Place::One,
            '[' => class(&mut chars)?,
            '\\' => Place::Char(chars.next()?),
            other => Place::Char(other),
        });
    }
    Some(places)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads what stands between brackets, and the last of them.
fn class(chars: &mut Chars<'_>) -> Option<Place> {
    let are_wanted = chars.next_if_eq(&'^').is_none();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let first = of_class(chars)?;
        let last = if chars.next_if_eq(&'-').is_some() { of_class(chars)? } else { first };
        ranges.push((first, last));
    }
    Some(Place::Of { ranges, are_wanted })
}

/// Reads a character of a class. One that has a meaning there is behind a backslash.
fn of_class(chars: &mut Chars<'_>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_gos() {
        for (pattern, text) in [
            ("busy*", "busybox"),
            ("*:lat?st", "busybox:latest"),
            ("*/*", "a/b"),
            ("b[a-u]sy*", "busybox"),
            ("*box*", "busybox"),
            ("a*b*c", "aXbXbXc"),
            ("*", ""),
            ("", ""),
            (r"a\*b", "a*b"),
            (r"[\-x\]]", "-"),
            (r"[\-x\]]", "]"),
            ("[a^]", "^"),
        ] {
            assert!(matches_glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*", "a/b"),
            ("busy", "busybox"),
            ("a?b", "a/b"),
            ("[^b]*", "busybox"),
            ("a*b", "a/b"),
            ("[", "["),
            ("[]", ""),
            ("[]a]", "]"),
            ("[a-]", "a"),
            ("[a-]", "-"),
            ("[-a]", "-"),
            (r"a\*b", "axb"),
            (r"a\", "a"),
            (r"[a\", "a"),
            ("a*c", "ab/c"),
            ("", "a"),
        ] {
            assert!(!matches_glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn e8_a_pattern_takes_no_time_to_speak_of() {
        let (pattern, text) = (format!("{}b", "*a".repeat(500)), "a".repeat(1000));
        assert!(!matches_glob(&pattern, &text));
    }
}
