use super::*;

fn variables() -> BTreeMap<String, String> {
    [
        ("HOME", "/root"),
        ("EMPTY", ""),
        ("A", "a b"),
        ("V", "foobarbar"),
        ("P", "/usr/local/bin/tool.tar.gz"),
        ("é", "accent"),
        ("QUOTED", "'x' \"y\" $HOME"),
        ("1", "one"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn word(text: &str) -> Result<String, String> {
    let variables = variables();
    Expander::new(&variables, Escape::Backslash).word(text).map_err(|error| error.message().to_owned())
}

#[test]
fn words_are_expanded() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$HOME/x", "/root/x"),
        ("${HOME}x", "/rootx"),
        ("$UNSET.", "."),
        ("a$", "a$"),
        ("$(x)", "$(x)"),
        ("$ x", "$ x"),
        ("\\$HOME", "$HOME"),
        ("\\\\$HOME", "\\/root"),
        ("a\\", "a"),
        ("a\\b", "ab"),
        ("'$HOME'", "$HOME"),
        ("\"$HOME\"", "/root"),
        ("\"\\$HOME \\\" \\\\ \\x\"", "$HOME \" \\ \\x"),
        ("'a'\"b\"c", "abc"),
        ("'\"'", "\""),
        ("\"'\"", "'"),
        // Values are not looked at again.
        ("$QUOTED", "'x' \"y\" $HOME"),
        ("\"${QUOTED}\"", "'x' \"y\" $HOME"),
        ("$é", "accent"),
        ("$1x", "onex"),
        ("${1}", "one"),
        ("$12", ""),
        ("a$$b", "ab"),
        ("$@$*", ""),
        ("$home", ""),
        ("$HOMEx", ""),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn operators_choose_between_value_and_word() {
    for (text, expected) in [
        ("${UNSET:-w}", "w"),
        ("${UNSET-w}", "w"),
        ("${EMPTY:-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${HOME:-w}", "/root"),
        ("${HOME-w}", "/root"),
        ("${UNSET:+w}", ""),
        ("${UNSET+w}", ""),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${HOME:+w}", "w"),
        ("${HOME?no}", "/root"),
        ("${HOME:?no}", "/root"),
        ("${EMPTY?no}", ""),
        ("${UNSET:-$HOME}", "/root"),
        ("${UNSET:-${UNSET2:-${HOME}}}", "/root"),
        ("${UNSET:-a b}", "a b"),
        ("${UNSET:-'$HOME'}", "$HOME"),
        ("${UNSET:-\"}\"}", "}"),
        ("${UNSET:-\\}}", "}"),
        ("${UNSET:-}", ""),
        ("${UNSET:-:}", ":"),
        ("${UNSET:-a-b}", "a-b"),
        ("${HOME:+${A}}", "a b"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn operators_with_patterns() {
    for (text, expected) in [
        ("${V#foo}", "barbar"),
        ("${V#*b}", "arbar"),
        ("${V##*b}", "ar"),
        ("${V%bar}", "foobar"),
        ("${V%b*}", "foobar"),
        ("${V%%b*}", "foo"),
        ("${P##*/}", "tool.tar.gz"),
        ("${P%/*}", "/usr/local/bin"),
        ("${P%%.*}", "/usr/local/bin/tool"),
        ("${P#/???/}", "local/bin/tool.tar.gz"),
        ("${V/bar/x}", "fooxbar"),
        ("${V//bar/x}", "fooxx"),
        ("${V/bar/}", "foobar"),
        ("${P//\\//-}", "-usr-local-bin-tool.tar.gz"),
        ("${V/$UNSET}/x}", "foobarbar"),
        ("${V/o/$HOME}", "f/rootobarbar"),
        ("${UNSET#a}", ""),
        ("${UNSET/a/b}", ""),
        ("${V#\\*}", "foobarbar"),
        ("${V/nothing/x}", "foobarbar"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_cannot_be_expanded_says_why() {
    for (text, part) in [
        ("${", "lacks its '}'"),
        ("${HOME", "lacks its '}'"),
        ("${HOME:", "lacks its '}'"),
        ("${HOME:-x", "lacks its '}'"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${{x}}", "bad substitution"),
        ("${HOME^}", "unsupported modifier (^)"),
        ("${HOME:1}", "unsupported modifier (:1)"),
        ("${#HOME}", "unsupported modifier (H)"),
        ("${.x}", "unsupported modifier (.)"),
        ("${UNSET?}", "UNSET: is not allowed to be unset"),
        ("${UNSET:?set it}", "UNSET: set it"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${V#\\d}", "invalid pattern"),
        ("${V/a}", "lacks its '/'"),
        ("${V/a/b", "lacks its '}'"),
        ("'a", "single quote"),
        ("\"a", "double quote"),
    ] {
        let message = word(text).expect_err(text);
        assert!(message.contains(part), "{text}: {message}");
    }
    let variables = variables();
    let error: Error = Expander::new(&variables, Escape::Backslash).word("${}").unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.subject(), Some(("text", "${}")));
}

#[test]
fn the_other_escape_character() {
    let variables = variables();
    let mut expander = Expander::new(&variables, Escape::Backquote);
    for (text, expected) in
        [("`$HOME", "$HOME"), ("c:\\dir\\$HOME", "c:\\dir\\/root"), ("\"`\"`x\"", "\"`x"), ("a`", "a")]
    {
        assert_eq!(expander.word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn values_are_split_into_words_unless_quoted() {
    let variables = variables();
    let mut expander = Expander::new(&variables, Escape::Backslash);
    for (text, expected) in [
        ("80 $A", vec!["80", "a", "b"]),
        ("\"$A\" x", vec!["a b", "x"]),
        ("x$A", vec!["xa", "b"]),
        ("a\\ b", vec!["a b"]),
        ("  a\t b ", vec!["a", "b"]),
        ("$UNSET \"\"", vec![]),
        ("'a b'c", vec!["a bc"]),
    ] {
        assert_eq!(expander.words(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn documents_keep_their_quotes() {
    let variables = variables();
    let mut expander = Expander::new(&variables, Escape::Backquote);
    for (text, expected) in [
        ("it's \"$HOME\"\n", "it's \"/root\"\n"),
        ("\\$HOME ${UNSET:-x}\n", "$HOME x\n"),
        ("`$HOME`\n", "`/root`\n"),
    ] {
        assert_eq!(expander.document(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn used_and_unset_variables_are_told() {
    let variables = variables();
    let mut expander = Expander::new(&variables, Escape::Backslash);
    expander.word("$HOME ${UNSET:-$A} '$V' ${EMPTY:+$P}").unwrap();
    expander.words("$X").unwrap();
    assert_eq!(expander.used().iter().collect::<Vec<_>>(), ["A", "EMPTY", "HOME", "P"]);
    assert_eq!(expander.unset().iter().collect::<Vec<_>>(), ["UNSET", "X"]);
    assert!(!format!("{expander:?}").contains("/root"));
}

#[test]
fn hostile_texts_end_with_an_error() {
    let mut variables = variables();
    variables.insert("BIG".to_owned(), "x".repeat(1 << 20));
    let mut expander = Expander::new(&variables, Escape::Backslash);
    for text in [
        "$BIG".repeat(100),
        format!("{}x{}", "${A:+".repeat(10_000), "}".repeat(10_000)),
        format!("${{BIG//{}/x}}", "*x".repeat(1000)),
        format!("${{BIG//x/{}}}", "y".repeat(1000)),
        "\"${A:-\"".repeat(1000),
    ] {
        expander.word(&text).unwrap_err();
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[${}:+\\-?#%/'\"\\\\`A-C*a 1é\n]{0,40}") {
        let variables = variables();
        for escape in [Escape::Backslash, Escape::Backquote] {
            let mut expander = Expander::new(&variables, escape);
            let word = expander.word(&text);
            let words = expander.words(&text);
            let _ = expander.document(&text);
            // Splitting changes what is between words alone.
            if let (Ok(word), Ok(words)) = (&word, &words) {
                let dense = |text: &str| text.split_whitespace().collect::<String>();
                proptest::prop_assert_eq!(dense(word), dense(&words.concat()));
            }
            proptest::prop_assert_eq!(word.is_ok(), words.is_ok());
        }
    }

    #[test]
    fn text_without_anything_special_is_itself(text in "[^$'\"\\\\]{0,40}") {
        let variables = variables();
        proptest::prop_assert_eq!(Expander::new(&variables, Escape::Backslash).word(&text).unwrap(), text);
    }
}
