use super::*;

fn ignored(patterns: &[&str], path: &str) -> bool {
    IgnorePatterns::new(patterns.iter().copied()).unwrap().is_ignored(path)
}

#[test]
fn patterns_match_paths_and_what_lies_beneath() {
    for (pattern, path, expected) in [
        ("a", "a", true),
        ("a", "a/b/c", true),
        ("a", "b/a", false),
        ("/a", "a", true),
        ("a/", "a", true),
        ("./a", "a", true),
        ("a/../b", "b", true),
        ("../a", "a", false),
        ("a//b", "a/b", true),
        ("*", "a/b", true),
        ("*.c", "x.c", true),
        ("*.c", "d/x.c", false),
        ("*/*.c", "d/x.c", true),
        ("*/*.c", "d/e/x.c", false),
        ("a?", "ab", true),
        ("a?", "a", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a b", "a b", true),
        (".git", ".gitignore", false),
        ("a.b", "axb", false),
        ("a+b", "a+b", true),
        ("(a|b)", "(a|b)", true),
    ] {
        assert_eq!(ignored(&[pattern], path), expected, "{pattern} {path}");
    }
}

#[test]
fn two_stars_cross_directories() {
    for (pattern, path, expected) in [
        ("**", "a", true),
        ("**", "a/b/c", true),
        ("**/", "a/b", true),
        ("**/a", "a", true),
        ("**/a", "x/y/a", true),
        ("**/a", "x/ya", false),
        ("**/a/b", "x/a/b", true),
        ("**a", "x/ya", true),
        ("**a*", "x/ya", false),
        ("**/*.c", "x/y/z.c", true),
        ("**/*.c", "z.c", true),
        ("a/**", "a", false),
        ("a/**", "a/b", true),
        ("a/**", "a/b/c", true),
        ("a**", "ab/c", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a/**/b", "c/a/b", false),
        ("**/**/b", "b", true),
        ("**/x/**/*.o", "a/x/b/c/d.o", true),
        ("**/x/**/*.o", "a/xx/b/c/d.o", false),
        ("***", "a/b", true),
        ("*/**", "a", false),
        ("*/**", "a/b", true),
    ] {
        assert_eq!(ignored(&[pattern], path), expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_pattern_that_matches_decides() {
    for (patterns, path, expected) in [
        (&["*", "!a"][..], "a", false),
        (&["*", "!a"], "a/b", false),
        (&["*", "!a"], "b", true),
        (&["!a", "*"], "a", true),
        (&["*.md", "!README*.md", "README-secret.md"], "README-secret.md", true),
        (&["*.md", "README-secret.md", "!README*.md"], "README-secret.md", false),
        (&["d", "!d/keep"], "d/keep", false),
        (&["d", "!d/keep"], "d/keep/x", false),
        (&["d", "!d/keep"], "d/other", true),
        (&["d/*", "!d/*.c", "d/x.c"], "d/x.c", true),
        (&["d/*", "!d/*.c", "d/x.c"], "d/y.c", false),
        (&["**", "!**/*.c"], "a/b.c", false),
        (&["!a"], "a", false),
        (&["a", "!a/b", "a"], "a/b", true),
        (&[], "a", false),
        (&["*"], ".", false),
        (&["."], "a", false),
        (&["**"], "", false),
    ] {
        assert_eq!(ignored(patterns, path), expected, "{patterns:?} {path}");
    }
}

#[test]
fn ignore_files_have_comments_and_empty_lines() {
    let file = b"\xef\xbb\xbf# comment\r\n\r\n  a  \r\n #b\n! c\n/d/\n";
    let patterns = IgnorePatterns::parse(file).unwrap();
    let texts: Vec<_> = patterns.patterns.iter().map(|p| (p.exception, p.text.as_str())).collect();
    assert_eq!(texts, [(false, "a"), (false, "#b"), (true, "c"), (false, "d")]);
    assert!(patterns.has_exceptions() && !patterns.is_empty());
    assert!(IgnorePatterns::parse(b"# nothing\n").unwrap().is_empty());
    for text in ["!", "! ", "a[", "[]", "a\\"] {
        let error = IgnorePatterns::parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.hint().is_some());
    }
    assert!(IgnorePatterns::parse(&vec![b'a'; MAX_FILE + 1]).is_err());
    assert!(IgnorePatterns::parse("a\n".repeat(MAX_PATTERNS + 1).as_bytes()).is_err());
}

#[test]
fn directories_without_exceptions_are_skipped() {
    for (patterns, directory, expected) in [
        (&["d"][..], "d", true),
        (&["d"], "d/e", true),
        (&["d"], "e", false),
        (&["d/*"], "d", false),
        (&["d/*"], "d/e", true),
        (&["d", "!d/keep"], "d", false),
        (&["d", "!d/keep"], "d/keep", false),
        (&["d", "!d/keep"], "d/other", true),
        (&["d", "!e"], "d", true),
        (&["d", "!**/*.c"], "d", false),
        (&["d", "!d/*.c"], "d/e", true),
        (&["!d/keep", "d"], "d", true),
        (&["*", "!d/e/f"], "d", false),
        (&["*", "!d/e/f"], "d/e", false),
        (&["*", "!d/e/f"], "d/x", true),
        (&["*", "!d"], "d", false),
        (&["*"], ".", false),
        // The later one leaves out again what was taken back.
        (&["d", "!d/keep", "d"], "d", true),
    ] {
        let patterns_read = IgnorePatterns::new(patterns.iter().copied()).unwrap();
        assert_eq!(patterns_read.can_skip_directory(directory), expected, "{patterns:?} {directory}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[a-c!*?/.\\[\\]^\\\\ #\n-]{0,30}", path in "[a-c/.*é]{0,12}") {
        if let Ok(patterns) = IgnorePatterns::parse(text.as_bytes()) {
            let _ = patterns.is_ignored(&path);
            let _ = patterns.can_skip_directory(&path);
        }
    }

    #[test]
    fn nothing_beneath_a_skipped_directory_is_kept(
        patterns in proptest::collection::vec("!?(a|b|\\*|\\*\\*)(/(a|b|\\*|\\*\\*|a\\*)){0,2}", 0..5),
        directory in "(a|b)(/(a|b)){0,2}",
        below in "(a|b|ab)(/(a|b|ab)){0,2}",
    ) {
        let patterns = IgnorePatterns::new(patterns.iter().map(String::as_str)).unwrap();
        if patterns.can_skip_directory(&directory) {
            proptest::prop_assert!(patterns.is_ignored(&directory));
            let path = format!("{directory}/{below}");
            proptest::prop_assert!(patterns.is_ignored(&path), "{} of {:?}", path, patterns);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 2000, ..Default::default() })]

    /// Fuzz: whatever the lines are, they are read or refused, and what they say of a directory holds for all beneath it.
    #[test]
    fn any_lines_are_read_or_refused_and_agree_with_themselves(
        text in "([!#/*?\\[\\]\\\\^a-c.é -]{0,12}\n){0,5}",
        // No component is . or ..: paths are clean when they come here.
        path in "\\.?[a-cé][a-c.é]{0,2}(/\\.?[a-c*é][a-c.*é]{0,2}){0,3}",
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
    ) {
        let _ = IgnorePatterns::parse(&bytes);
        if let Ok(patterns) = IgnorePatterns::parse(text.as_bytes()) {
            for (at, _) in path.match_indices('/') {
                let directory = &path[..at];
                if patterns.can_skip_directory(directory) {
                    proptest::prop_assert!(patterns.is_ignored(&path), "{directory} is skipped with it");
                }
                if patterns.is_ignored(directory) && !patterns.has_exceptions() {
                    proptest::prop_assert!(patterns.is_ignored(&path), "{directory} is left out, and it is not");
                }
            }
        }
    }
}
