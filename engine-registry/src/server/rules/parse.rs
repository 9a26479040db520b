//! The rules file: TOML with users, groups and rules.
//!
//! Owns its grammar. Invariant: whatever is not understood is an error that names the line and the key, never the value of a
//! password; a file is used as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use engine_core::error::{Error, ErrorKind, Result};
use toml_edit::{Document, Item, Key, TableLike, Value};

use super::pattern::Pattern;
use super::{Rule, RuleSet, Who};
use crate::server::access::Action;
use crate::server::passwords::is_bcrypt;

/// Reserved words for whom a rule is.
const ANONYMOUS: &str = "anonymous";
const EVERY_USER: &str = "*";

impl RuleSet {
    /// Reads the text of a rules file.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let file = File { path, text };
        let document = Document::parse(text).map_err(|error| {
            // The parser's own report quotes lines, which may have hashes.
            file.wrong(error.span(), None, error.message())
        })?;
        let mut set = Self::default();
        let root = document.as_table();
        for (name, _) in root.iter() {
            if !matches!(name, "users" | "groups" | "rules") {
                return Err(file.unknown(root, name, "users, groups and rules"));
            }
        }
        let mut groups = BTreeMap::new();
        if let Some((key, users)) = root.get_key_value("users") {
            for (name, hash) in file.table(key, users)?.iter() {
                let place = place(users, name);
                check_name(name).map_err(|why| file.wrong(place.clone(), Some(name), why))?;
                let Some(hash) = hash.as_str().filter(|hash| is_bcrypt(hash)) else {
                    return Err(file
                        .wrong(place, Some(name), "is no bcrypt hash")
                        .with_hint("make it with `engine-cli registry user passwd` or htpasswd -B"));
                };
                set.users.insert(name.to_owned(), hash.to_owned());
            }
        }
        if let Some((key, found)) = root.get_key_value("groups") {
            for (name, members) in file.table(key, found)?.iter() {
                let place = place(found, name);
                check_name(name).map_err(|why| file.wrong(place.clone(), Some(name), why))?;
                let mut users = BTreeSet::new();
                for (user, span) in file.words(name, place, members)? {
                    if !set.users.contains_key(&user) {
                        return Err(file.wrong(span, Some(name), &format!("there is no user {user:?}")));
                    }
                    users.insert(user);
                }
                groups.insert(name.to_owned(), users);
            }
        }
        if let Some((key, rules)) = root.get_key_value("rules") {
            for rule in file.tables(key, rules)? {
                set.rules.push(file.rule(rule, &set.users, &groups)?);
            }
        }
        Ok(set)
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn wrong(&self, place: Option<Range<usize>>, key: Option<&str>, why: &str) -> Error {
        let line = place.map(|place| {
            let before = &self.text.as_bytes()[..place.start.min(self.text.len())];
            format!("line {}: ", before.iter().filter(|byte| **byte == b'\n').count() + 1)
        });
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        // A parser may have several lines to say.
        let why = why.lines().collect::<Vec<_>>().join(", ");
        Error::new(ErrorKind::InvalidArgument, "read rules file")
            .with("path", self.path.display())
            .with_message(format!("{}{key}{why}", line.unwrap_or_default()))
    }

    fn unknown(&self, table: &dyn TableLike, name: &str, known: &str) -> Error {
        let place = table.get_key_value(name).and_then(|(key, _)| key.span());
        self.wrong(place, Some(name), &format!("there is no such key here, but {known}"))
    }

    fn table<'i>(&self, key: &Key, item: &'i Item) -> Result<&'i dyn TableLike> {
        item.as_table_like().ok_or_else(|| self.wrong(key.span(), Some(key.get()), "has to be a table"))
    }

    /// `[[rules]]`, or an array of tables in braces.
    fn tables<'i>(&self, key: &Key, item: &'i Item) -> Result<Vec<&'i dyn TableLike>> {
        let wrong = |span| self.wrong(span, Some(key.get()), "has to be a list of tables, each [[rules]]");
        match item {
            Item::ArrayOfTables(tables) => Ok(tables.iter().map(|table| table as &dyn TableLike).collect()),
            Item::Value(Value::Array(array)) => array
                .iter()
                .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
                .map(|table| table.ok_or_else(|| wrong(array.span())))
                .collect(),
            _ => Err(wrong(key.span())),
        }
    }

    /// One text, or a list of texts, each with its place.
    fn words(
        &self,
        key: &str,
        place: Option<Range<usize>>,
        item: &Item,
    ) -> Result<Vec<(String, Option<Range<usize>>)>> {
        let wrong = || self.wrong(place.clone(), Some(key), "has to be a list of texts");
        match item.as_value() {
            Some(Value::String(text)) => Ok(vec![(text.value().clone(), text.span())]),
            Some(Value::Array(array)) => array
                .iter()
                .map(|value| Ok((value.as_str().ok_or_else(wrong)?.to_owned(), value.span())))
                .collect(),
            _ => Err(wrong()),
        }
    }

    fn rule(
        &self,
        table: &dyn TableLike,
        users: &BTreeMap<String, String>,
        groups: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Rule> {
        let mut rule = Rule { who: Vec::new(), may: Vec::new(), repositories: Vec::new() };
        let mut at = None;
        for (name, item) in table.iter() {
            let span = table.get_key_value(name).and_then(|(key, _)| key.span());
            at = at.or(span.clone());
            if !matches!(name, "who" | "may" | "repositories") {
                return Err(self.unknown(table, name, "who, may and repositories"));
            }
            for (word, place) in self.words(name, span, item)? {
                let wrong = |why: &str| self.wrong(place.clone(), Some(name), &format!("{word:?}: {why}"));
                match name {
                    "who" => match word.as_str() {
                        ANONYMOUS => rule.who.push(Who::Anonymous),
                        EVERY_USER => rule.who.push(Who::EveryUser),
                        group if group.starts_with('@') => {
                            let members = groups.get(&group[1..]);
                            let members = members.ok_or_else(|| wrong("there is no such group"))?;
                            rule.who.extend(members.iter().cloned().map(Who::User));
                        }
                        user if users.contains_key(user) => rule.who.push(Who::User(word)),
                        _ => {
                            return Err(wrong(
                                "there is no such user (a group is \"@GROUP\", every user \"*\")",
                            ));
                        }
                    },
                    "may" => match word.as_str() {
                        "pull" => rule.may.push(Action::Pull),
                        // Who pushes asks first what is there.
                        "push" => rule.may.extend([Action::Pull, Action::Push]),
                        "delete" => rule.may.push(Action::Delete),
                        _ => return Err(wrong("is neither pull nor push nor delete")),
                    },
                    _ => rule.repositories.push(Pattern::parse(&word).map_err(wrong)?),
                }
            }
        }
        for name in ["who", "may", "repositories"] {
            if !table.contains_key(name) {
                return Err(self.wrong(at, Some("rules"), &format!("a rule has no {name}")));
            }
        }
        Ok(rule)
    }
}

fn place(table: &Item, name: &str) -> Option<Range<usize>> {
    table.as_table_like()?.get_key_value(name)?.0.span()
}

/// Whether somebody, or a group, may be called this: never what means something else in a rule, a header or a pattern.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric();
    let good = name.len() <= 128
        && name.bytes().next().is_some_and(word)
        && name.bytes().all(|b| word(b) || matches!(b, b'.' | b'_' | b'-' | b'@' | b'+'));
    match name {
        ANONYMOUS => Err("is the name of those who did not log in"),
        _ if good => Ok(()),
        _ => {
            Err("a name has letters and digits, and '.', '_', '-', '@' and '+' after the first, 128 at most")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuCLZ5Q5XTL2aNq2TEf6jU9CwCqzIAb3K";

    fn parse(text: &str) -> Result<RuleSet> {
        RuleSet::parse(Path::new("/etc/rules.toml"), &text.replace("HASH", HASH))
    }

    #[test]
    fn a_file_is_read_whole() {
        let set = parse(
            r#"
            rules = [{ who = "a", may = "pull", repositories = "x" }]
            [users]
            a = "HASH"
            "b.c@d" = "HASH"
            [groups]
            dev = ["a", "b.c@d"]
            "#,
        )
        .unwrap();
        assert_eq!((set.users.len(), set.rules.len()), (2, 1));
        let set = parse(
            "[users]\na = 'HASH'\n[groups]\ndev = ['a']\n\
             [[rules]]\nwho = ['@dev', '*', 'anonymous']\nmay = ['push', 'delete']\nrepositories = ['**']",
        )
        .unwrap();
        assert_eq!(set.rules[0].who, [Who::User("a".into()), Who::EveryUser, Who::Anonymous]);
        assert_eq!(set.rules[0].may, [Action::Pull, Action::Push, Action::Delete]);
        parse("").unwrap();
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_key() {
        let users = "[users]\na = 'HASH'\n";
        let rule = |text: &str| format!("{users}[[rules]]\nwho = 'a'\n{text}");
        for (text, line, words) in [
            ("x = 1".to_owned(), 1, "x"),
            ("[users]\na = 'secret'".to_owned(), 2, "a: is no bcrypt hash"),
            ("[users]\n\na = 3".to_owned(), 3, "a"),
            ("[users]\n'a b' = 'HASH'".to_owned(), 2, "a b"),
            ("[users]\nanonymous = 'HASH'".to_owned(), 2, "did not log in"),
            ("users = 3".to_owned(), 1, "users: has to be a table"),
            (format!("{users}a = 'HASH'"), 3, "duplicate"),
            (format!("{users}[groups]\ng = ['b']"), 4, "no user \"b\""),
            (format!("{users}[groups]\ng = 1"), 4, "g"),
            (rule("who = 'b'"), 5, "duplicate"),
            (rule("may = 'pull'"), 4, "no repositories"),
            (rule("may = 'read'\nrepositories = 'x'"), 5, "\"read\""),
            (rule("may = ['pull']\nrepositories = ['x', 'y',\n'Z']"), 7, "\"Z\""),
            (rule("may = 'pull'\nrepositories = 'x'\nuser = 'a'"), 7, "user"),
            (format!("{users}[[rules]]\nwho = '@g'"), 4, "no such group"),
            (format!("{users}[[rules]]\nwho = ['a', 'b']"), 4, "no such user"),
            (format!("{users}[rules]\nwho = 'a'"), 3, "[[rules]]"),
            ("[users\na = 1".to_owned(), 1, ""),
        ] {
            let error = parse(&text).unwrap_err();
            let report = error.report();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(report.contains("/etc/rules.toml"), "{report}");
            assert!(report.contains(&format!("line {line}: ")) && report.contains(words), "{text}: {report}");
            assert!(!report.contains("secret") && !report.contains("$2y$"), "{report}");
        }
    }
}
