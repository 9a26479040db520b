//! "Did you mean …?": the nearest of several words.

/// Longest word that is compared; what is longer is no slip of the fingers.
const LONGEST: usize = 64;
/// Most words that are compared.
const MOST: usize = 500;

/// Returns the word of `known` that is nearest to `word`, if one is near, without regard to case.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length == 0 || length > LONGEST {
        return None;
    }
    // A third of the word may be wrong, but never all of it.
    let most = (length / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known.into_iter().take(MOST) {
        if candidate.chars().count() > LONGEST {
            continue;
        }
        let distance = distance(&word, &candidate.to_lowercase());
        if distance <= most && distance < length && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Makes the hint of [`nearest`].
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|candidate| format!("did you mean {candidate}?"))
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    // Three rows of the table are enough for swaps.
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut now = vec![row + 1; right.len() + 1];
        for (column, b) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(a != b);
            let mut least = replaced.min(last[column + 1] + 1).min(now[column] + 1);
            if row > 0 && column > 0 && *a == right[column - 1] && left[row - 1] == *b {
                least = least.min(before[column - 1] + 1);
            }
            now[column + 1] = least;
        }
        before = std::mem::replace(&mut last, now);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["RUN", "COPY", "ENTRYPOINT", "ENV", "FROM"];
        for (word, expected) in [
            ("RUNN", Some("RUN")),
            ("CPOY", Some("COPY")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("form", Some("FROM")),
            ("ENVV", Some("ENV")),
            ("BANANA", None),
            ("", None),
            ("X", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(hint("RUNN", known).as_deref(), Some("did you mean RUN?"));
        assert_eq!(nearest(&"R".repeat(100_000), known), None);
    }
}
