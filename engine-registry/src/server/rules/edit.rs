//! Changes of a rules file by programs: users come, go and get other passwords, everything else stays as it was written.
//!
//! Invariant: the file is replaced by one rename, and only by what a server understands; two programs change it one after another.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use engine_core::error::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use super::RuleSet;
use super::parse::check_name;
use crate::server::access::Action;
use crate::server::passwords::hash_password;
use crate::server::watched::text;

const BEGIN: &str = "\
# Users of the registry and what they may do. A server reads this file again when it changes.
#   who           users, \"@GROUP\", \"*\" (every user), \"anonymous\" (who did not log in)
#   may           \"pull\"; \"push\", which includes it; \"delete\"
#   repositories  \"*\" within a component of a name, \"**\" for one or more, \"{user}\" for the name of whoever asks
# What no rule allows is denied.

[users]
";

/// A rules file that is being changed. See [`Rules`](super::Rules) for who reads it.
#[derive(Debug)]
pub struct RulesFile {
    path: PathBuf,
    document: DocumentMut,
}

impl RulesFile {
    /// Makes a file, changes it with `change`, and stores it if that succeeds. Blocks on files.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one; what `change` says; what the file system says.
    pub fn create<T>(path: impl Into<PathBuf>, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let path = path.into();
        let _turn = turn(&path)?;
        if path.exists() {
            return Err(Error::new(ErrorKind::AlreadyExists, "make rules file").with("path", path.display()));
        }
        Self::change(path, BEGIN, change)
    }

    /// Changes the file at `path` with `change`, and stores it if that succeeds. Blocks on files.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::InvalidArgument`] if it is not understood, before or after;
    /// what `change` says; what the file system says.
    pub fn edit<T>(path: impl Into<PathBuf>, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let path = path.into();
        // A link stays one.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let _turn = turn(&path)?;
        let text = text(&path)?;
        Self::change(path, &text, change)
    }

    fn change<T>(path: PathBuf, text: &str, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        // Its errors are better than those of the parser that keeps comments.
        RuleSet::parse(&path, text)?;
        let document = text.parse::<DocumentMut>().map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "read rules file")
                .with("path", path.display())
                .with_message(error.message())
        })?;
        let mut file = Self { path, document };
        let done = change(&mut file)?;
        let changed = file.document.to_string();
        if changed != text || !file.path.exists() {
            RuleSet::parse(&file.path, &changed)?;
            store(&file.path, &changed).map_err(|error| {
                Error::from_io("write rules file", error).with("path", file.path.display())
            })?;
        }
        Ok(done)
    }

    /// Returns the names of the users, in their order.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        let users = self.document.get("users").and_then(Item::as_table_like);
        let mut names: Vec<String> =
            users.into_iter().flat_map(|users| users.iter().map(|(name, _)| name.to_owned())).collect();
        names.sort();
        names
    }

    /// Adds a user. Hashing the password takes tens of milliseconds of a CPU.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one of this name; [`ErrorKind::InvalidArgument`] if it is no name, or
    /// [`hash_password`] takes no such password.
    pub fn add_user(&mut self, name: &str, password: &str) -> Result<()> {
        check_name(name).map_err(|why| {
            Error::new(ErrorKind::InvalidArgument, "add user").with("user", name).with_message(why)
        })?;
        if self.users().iter().any(|user| user == name) {
            return Err(Error::new(ErrorKind::AlreadyExists, "add user").with("user", name));
        }
        self.put(name, &hash_password(password)?)
    }

    /// Gives a user another password, which ends all tokens got with the one before.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such user; [`ErrorKind::InvalidArgument`] if [`hash_password`] takes no such
    /// password.
    pub fn set_password(&mut self, name: &str, password: &str) -> Result<()> {
        self.find("set password", name)?;
        self.put(name, &hash_password(password)?)
    }

    fn put(&mut self, name: &str, hash: &str) -> Result<()> {
        let users = self.document.entry("users").or_insert_with(toml_edit::table);
        let users = users.as_table_like_mut().ok_or_else(|| malformed(&self.path))?;
        match users.get_mut(name).and_then(Item::as_value_mut) {
            Some(there) => {
                let decor = there.decor().clone();
                *there = Value::from(hash);
                *there.decor_mut() = decor;
            }
            None => {
                users.insert(name, value(hash));
            }
        }
        Ok(())
    }

    /// Removes a user, also from groups and rules. A rule that was for nobody else goes as well.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such user.
    pub fn remove_user(&mut self, name: &str) -> Result<()> {
        self.find("remove user", name)?;
        if let Some(users) = self.document.get_mut("users").and_then(Item::as_table_like_mut) {
            users.remove(name);
        }
        if let Some(groups) = self.document.get_mut("groups").and_then(Item::as_table_like_mut) {
            for (_, members) in groups.iter_mut() {
                let _ = strike(members, name);
            }
        }
        let left = |rule: &mut dyn TableLike| !rule.get_mut("who").is_some_and(|who| strike(who, name));
        match self.document.get_mut("rules") {
            Some(Item::ArrayOfTables(rules)) => {
                let gone: Vec<usize> = rules
                    .iter_mut()
                    .enumerate()
                    .filter_map(|(at, rule)| (!left(rule)).then_some(at))
                    .collect();
                for at in gone.into_iter().rev() {
                    rules.remove(at);
                }
            }
            Some(Item::Value(Value::Array(rules))) => {
                let gone: Vec<usize> = rules
                    .iter_mut()
                    .enumerate()
                    .filter_map(|(at, rule)| {
                        rule.as_inline_table_mut().is_some_and(|rule| !left(rule)).then_some(at)
                    })
                    .collect();
                for at in gone.into_iter().rev() {
                    rules.remove(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds a rule: `who` (as the file has it) may do this in these repositories (patterns).
    ///
    /// # Errors
    /// None here: what the file cannot have is told when it is stored.
    pub fn add_rule(&mut self, who: &str, may: &[Action], repositories: &[String]) -> Result<()> {
        let may: Array = may.iter().map(|action| action.as_str()).collect();
        let repositories: Array = repositories.iter().map(String::as_str).collect();
        let parts = [("who", Value::from(who)), ("may", may.into()), ("repositories", repositories.into())];
        let rules = self.document.entry("rules").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        match rules {
            Item::ArrayOfTables(rules) => {
                rules.push(parts.into_iter().map(|(key, part)| (key, value(part))).collect::<Table>());
            }
            Item::Value(Value::Array(rules)) => rules.push(parts.into_iter().collect::<InlineTable>()),
            _ => return Err(malformed(&self.path)),
        }
        Ok(())
    }

    fn find(&self, operation: &'static str, name: &str) -> Result<()> {
        match self.users().iter().any(|user| user == name) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NotFound, operation).with("user", name)),
        }
    }
}

/// Removes a name from one text or a list of texts. Returns whether that leaves nothing.
fn strike(item: &mut Item, name: &str) -> bool {
    if item.as_str() == Some(name) {
        *item = value(Array::new());
        return true;
    }
    let Some(words) = item.as_array_mut() else { return false };
    let before = words.len();
    words.retain(|word| word.as_str() != Some(name));
    words.is_empty() && before > 0
}

fn malformed(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidArgument, "change rules file").with("path", path.display())
}

/// Waits for others that change the file. It is replaced, so the lock is its directory's.
fn turn(path: &Path) -> Result<File> {
    let failed = |error: io::Error| Error::from_io("lock rules file", error).with("path", path.display());
    let dir = File::open(directory(path)).map_err(failed)?;
    flock(&dir, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    Ok(dir)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn store(path: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(0o600, |found| found.permissions().mode() & 0o777);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    // Under the lock, it is what a killed program left.
    let _ = fs::remove_file(&temporary);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules.toml");
        assert_eq!(RulesFile::edit(&path, |_| Ok(())).unwrap_err().kind(), ErrorKind::NotFound);
        RulesFile::create(&path, |file| {
            file.add_user("alice", "one")?;
            file.add_rule("alice", &[Action::Push, Action::Delete], &["alice/**".to_owned()])
        })
        .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(RulesFile::create(&path, |_| Ok(())).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.starts_with(BEGIN), "{written}");
        assert!(
            written.ends_with(
                "\n[[rules]]\nwho = \"alice\"\nmay = [\"push\", \"delete\"]\nrepositories = [\"alice/**\"]\n"
            ),
            "{written}"
        );

        let more = "\n# a group\n[groups]\ndev = [\"alice\"] # only her\n\n[[rules]]\nwho = [\"@dev\", \"*\"]\nmay = 'pull'\nrepositories = \"x\"\n";
        fs::write(&path, format!("{written}{more}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        RulesFile::edit(&path, |file| {
            file.add_user("bob", "two")?;
            file.set_password("alice", "three")
        })
        .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with(more) && text.contains("\nbob = \"$2"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_ne!(
            text.lines().find(|l| l.starts_with("alice =")),
            written.lines().find(|l| l.starts_with("alice ="))
        );

        let users = RulesFile::edit(&path, |file| {
            file.remove_user("alice")?;
            Ok(file.users())
        });
        assert_eq!(users.unwrap(), ["bob"]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("alice") && text.contains("# a group") && text.contains("dev = []"), "{text}");
        assert_eq!(text.matches("[[rules]]").count(), 1, "{text}");

        let error =
            |change: fn(&mut RulesFile) -> Result<()>| RulesFile::edit(&path, change).unwrap_err().kind();
        assert_eq!(error(|file| file.add_user("bob", "x")), ErrorKind::AlreadyExists);
        assert_eq!(error(|file| file.add_user("a:b", "x")), ErrorKind::InvalidArgument);
        assert_eq!(error(|file| file.add_user("c", "")), ErrorKind::InvalidArgument);
        assert_eq!(error(|file| file.add_user("c", &"x".repeat(73))), ErrorKind::InvalidArgument);
        assert_eq!(error(|file| file.remove_user("c")), ErrorKind::NotFound);
        assert_eq!(error(|file| file.set_password("c", "x")), ErrorKind::NotFound);
        assert_eq!(
            error(|file| file.add_rule("bob", &[Action::Pull], &["BAD".to_owned()])),
            ErrorKind::InvalidArgument
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "a failed change changes nothing");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
