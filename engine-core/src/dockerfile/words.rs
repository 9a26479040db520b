//! Words of a joined line: the keyword, flags, quoted words, JSON arrays, fields of mounts.
//!
//! Docker has several notations side by side; which one an instruction uses is the instruction's. Nothing is expanded here.

use super::directives::Escape;
use super::limits::MAX_WORDS;
use super::lines::Fail;
use super::suggest;

/// A word and where it begins in the joined line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) offset: usize,
}

/// A part of a joined line, and where it begins there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

impl<'a> Part<'a> {
    pub(super) fn whole(text: &'a str) -> Self {
        Self { text, offset: 0 }.trim()
    }

    pub(super) fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), offset: self.offset + self.text.len() - text.len() }
    }

    /// Splits before byte `at`.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = self.text.split_at(at);
        (Self { text: left, ..self }, Self { text: right, offset: self.offset + at })
    }

    pub(super) fn is_empty(self) -> bool {
        self.text.is_empty()
    }
}

/// An instruction's line in its parts.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) keyword: Part<'a>,
    pub(super) flags: Flags,
    pub(super) rest: Part<'a>,
}

/// What separates words: Go's `\s` without line feeds, which a joined line has none of.
fn is_separator(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Splits a line into keyword, flags and the rest.
pub(super) fn command(line: Part<'_>) -> Result<Command<'_>, Fail> {
    let line = line.trim();
    let (keyword, rest) = line.split_at(line.text.find(is_separator).unwrap_or(line.text.len()));
    let mut rest = rest.trim();
    let mut flags = Flags::default();
    // Flags end with the first word that is none, or with `--`.
    while rest.text.starts_with("--") {
        let (word, end) = flag_word(rest.text);
        let (flag, behind) = rest.split_at(end);
        rest = behind.trim();
        if word == "--" {
            break;
        }
        if flags.all.len() == MAX_WORDS {
            return Err(Fail::new(flag.offset, format!("the instruction has more than {MAX_WORDS} flags")));
        }
        flags.all.push(Flag::new(&word, flag.offset));
    }
    Ok(Command { keyword, flags, rest })
}

/// Returns whether an instruction's line can begin heredocs: of `RUN`, `COPY` and `ADD` not in the form of JSON.
pub(super) fn may_have_heredocs(line: &str) -> bool {
    let Ok(mut split) = command(Part::whole(line)) else { return false };
    if split.keyword.text.eq_ignore_ascii_case("ONBUILD") {
        let Ok(inner) = command(split.rest) else { return false };
        split = inner;
    }
    ["RUN", "COPY", "ADD"].iter().any(|known| known.eq_ignore_ascii_case(split.keyword.text))
        && !matches!(json(split.rest.text), Json::Strings(_))
}

/// Reads a flag's word without its quotes, and returns where it ends. Here a backslash escapes, whatever the directive says.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                if let Some((_, escaped)) = chars.next() {
                    word.push(escaped);
                }
            }
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => return (word, at),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Flag {
    name: String,
    value: Option<String>,
    offset: usize,
}

impl Flag {
    fn new(word: &str, offset: usize) -> Self {
        let word = word.strip_prefix("--").unwrap_or(word);
        match word.split_once('=') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()), offset },
            None => Self { name: word.to_owned(), value: None, offset },
        }
    }
}

/// The flags of an instruction, which takes those it knows; [`finish`](Self::finish) refuses the others.
#[derive(Debug, Default)]
pub(super) struct Flags {
    all: Vec<Flag>,
    known: Vec<&'static str>,
}

impl Flags {
    fn take(&mut self, name: &'static str) -> Vec<Flag> {
        self.known.push(name);
        let (found, others) = std::mem::take(&mut self.all).into_iter().partition(|flag| flag.name == name);
        self.all = others;
        found
    }

    fn once(&mut self, name: &'static str) -> Result<Option<Flag>, Fail> {
        let mut found = self.take(name).into_iter();
        let first = found.next();
        match found.next() {
            Some(again) => Err(Fail::new(again.offset, format!("the flag --{name} is there twice"))),
            None => Ok(first),
        }
    }

    /// Takes `--name=value`, which may be there once.
    pub(super) fn value(&mut self, name: &'static str) -> Result<Option<Word>, Fail> {
        self.once(name)?.map(with_value).transpose()
    }

    /// Takes `--name=value`, as often as it is there.
    pub(super) fn values(&mut self, name: &'static str) -> Result<Vec<Word>, Fail> {
        self.take(name).into_iter().map(with_value).collect()
    }

    /// Takes `--name`, `--name=true` or `--name=false`.
    pub(super) fn switch(&mut self, name: &'static str) -> Result<Option<bool>, Fail> {
        let Some(flag) = self.once(name)? else { return Ok(None) };
        match flag.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(Fail::new(flag.offset, format!("the flag --{name} lacks a value behind ="))),
            Some(other) => {
                Err(Fail::new(flag.offset, format!("the flag --{name} is true or false, not {other:?}")))
            }
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), Fail> {
        let Some(flag) = self.all.first() else { return Ok(()) };
        let near = suggest::nearest(&flag.name, self.known.iter().copied());
        Err(Fail::new(flag.offset, format!("unknown flag --{}", flag.name))
            .with_hint(near.map(|name| format!("did you mean --{name}?"))))
    }
}

fn with_value(flag: Flag) -> Result<Word, Fail> {
    match flag.value {
        Some(text) => Ok(Word { text, offset: flag.offset }),
        None => Err(Fail::new(flag.offset, format!("the flag --{} lacks a value", flag.name))),
    }
}

/// Splits at white space and nothing else: no quotes, no escapes.
pub(super) fn split(part: Part<'_>) -> Result<Vec<Word>, Fail> {
    let mut words = Vec::new();
    let mut start = None;
    let ends = part.text.char_indices().chain([(part.text.len(), ' ')]);
    for (at, c) in ends {
        match (is_separator(c), start) {
            (false, None) => start = Some(at),
            (true, Some(begin)) => {
                add(&mut words, part.text[begin..at].to_owned(), part.offset + begin)?;
                start = None;
            }
            _ => {}
        }
    }
    Ok(words)
}

/// Splits at white space outside of quotes; quotes and escapes stay for the expansion.
pub(super) fn quoted(part: Part<'_>, escape: Escape) -> Result<Vec<Word>, Fail> {
    let escape = escape.char();
    let mut words = Vec::new();
    let mut word = String::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = part.text.char_indices();
    while let Some((at, c)) = chars.next() {
        if start.is_none() {
            if c.is_whitespace() {
                continue;
            }
            start = Some(at);
        }
        match quote {
            None if c.is_whitespace() => {
                add(&mut words, std::mem::take(&mut word), part.offset + start.take().unwrap_or(at))?;
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // At the end it escapes nothing, and is dropped.
            let Some((_, escaped)) = chars.next() else { break };
            word.push(c);
            word.push(escaped);
        } else {
            word.push(c);
        }
    }
    if let Some(start) = start.filter(|_| !word.is_empty()) {
        add(&mut words, word, part.offset + start)?;
    }
    Ok(words)
}

fn add(words: &mut Vec<Word>, text: String, offset: usize) -> Result<(), Fail> {
    if words.len() == MAX_WORDS {
        return Err(Fail::new(offset, format!("the instruction has more than {MAX_WORDS} words")));
    }
    words.push(Word { text, offset });
    Ok(())
}

/// What a text is as JSON.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Json {
    /// No array: the shell's.
    Other,
    /// An array, but not of strings alone.
    Mixed,
    /// An array of strings.
    Strings(Vec<String>),
}

/// Reads a JSON array. What is no valid one is meant for the shell, as in Docker.
pub(super) fn json(text: &str) -> Json {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::Other;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Json::Other };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings.collect::<Option<_>>().map_or(Json::Mixed, Json::Strings)
}

/// Splits the value of a flag such as `--mount` at its commas, as CSV: a field in quotes may have commas.
pub(super) fn fields(word: &Word) -> Result<Vec<String>, Fail> {
    let mut fields = Vec::new();
    let mut rest = word.text.as_str();
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).ok_or_else(|| {
                Fail::new(word.offset, "a quoted field of the flag does not end, or goes on behind its quote")
            })?,
            None => match rest.split_once(',') {
                Some((field, behind)) => (field.to_owned(), Some(behind)),
                None => (rest.to_owned(), None),
            },
        };
        if fields.len() == MAX_WORDS {
            return Err(Fail::new(word.offset, format!("the flag has more than {MAX_WORDS} fields")));
        }
        fields.push(field);
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(fields),
        }
    }
}

/// Reads a field behind its first quote; two quotes are one.
fn quoted_field(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"')?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if behind.is_empty() => return Some((field, None)),
            None => return behind.strip_prefix(',').map(|behind| (field, Some(behind))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: Vec<Word>) -> Vec<String> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn flags_come_before_the_rest() {
        let line = "COPY --from=a  --link --chown='x y' --exclude=a\\ b --exclude=c -- --d e ";
        let mut command = command(Part::whole(line)).unwrap();
        assert_eq!(command.keyword.text, "COPY");
        assert_eq!((command.rest.text, command.rest.offset), ("--d e", line.find("--d").unwrap()));
        assert_eq!(command.flags.value("from").unwrap().unwrap().text, "a");
        assert_eq!(command.flags.switch("link").unwrap(), Some(true));
        assert_eq!(command.flags.value("chown").unwrap().unwrap().text, "x y");
        assert_eq!(texts(command.flags.values("exclude").unwrap()), ["a b", "c"]);
        assert_eq!(command.flags.switch("parents").unwrap(), None);
        command.flags.finish().unwrap();
    }

    #[test]
    fn wrong_flags_are_refused_at_their_place() {
        for (line, message, hint) in [
            ("X --form=a b", "unknown flag --form", Some("did you mean --from?")),
            ("X --from b", "the flag --from lacks a value", None),
            ("X --from=a --from=b c", "the flag --from is there twice", None),
            ("X --link=maybe b", "the flag --link is true or false, not \"maybe\"", None),
            ("X --link= b", "the flag --link lacks a value behind =", None),
        ] {
            let mut command = command(Part::whole(line)).unwrap();
            let result = (|| {
                command.flags.value("from")?;
                command.flags.switch("link")?;
                command.flags.finish()
            })();
            let fail = result.unwrap_err();
            assert_eq!((fail.message.as_str(), fail.hint.as_deref()), (message, hint), "{line}");
            assert!(line[fail.offset..].starts_with("--"), "{line}");
        }
    }

    #[test]
    fn quoted_words_keep_quotes_and_escapes() {
        for (text, expected) in [
            ("a b", vec!["a", "b"]),
            ("a=\"b c\" d='e f'", vec!["a=\"b c\"", "d='e f'"]),
            (r"a=b\ c d", vec![r"a=b\ c", "d"]),
            (r#"a="\"x y\"" b"#, vec![r#"a="\"x y\"""#, "b"]),
            (r"a='\' b", vec![r"a='\'", "b"]),
            (r"a\", vec!["a"]),
            ("a=\"b c", vec!["a=\"b c"]),
            ("  ", vec![]),
            ("a=''", vec!["a=''"]),
        ] {
            let words = quoted(Part { text, offset: 0 }, Escape::Backslash).unwrap();
            assert_eq!(texts(words), expected, "{text}");
        }
        let words = quoted(Part { text: "a` b c\\ d", offset: 0 }, Escape::Backquote).unwrap();
        assert_eq!(texts(words), ["a` b", "c\\", "d"]);
    }

    #[test]
    fn json_arrays_of_strings_and_nothing_else() {
        for (text, expected) in [
            (r#"["a", "b\n"]"#, Json::Strings(vec!["a".to_owned(), "b\n".to_owned()])),
            ("[]", Json::Strings(Vec::new())),
            (" [ \"a\" ] ", Json::Strings(vec!["a".to_owned()])),
            ("['a']", Json::Other),
            ("[\"a\"", Json::Other),
            ("[\"a\"] b", Json::Other),
            ("[ -f x ]", Json::Other),
            ("[1]", Json::Mixed),
            ("[\"a\", null]", Json::Mixed),
            ("{\"a\": 1}", Json::Other),
            ("", Json::Other),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_are_csv() {
        for (text, expected) in [
            ("type=bind,source=a", Some(vec!["type=bind", "source=a"])),
            ("\"id=a,b\",ro", Some(vec!["id=a,b", "ro"])),
            ("\"a\"\"b\"", Some(vec!["a\"b"])),
            ("a,,b", Some(vec!["a", "", "b"])),
            ("\"a", None),
            ("\"a\"b", None),
        ] {
            let found = fields(&Word { text: text.to_owned(), offset: 0 });
            assert_eq!(
                found.ok(),
                expected.map(|all| all.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
    }
}
