//! Environment variables and labels: `--env`, `--env-file`, `--label`, `--label-file`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Returns the variables of files, then of flags. A flag without a value takes ours, or removes the image's.
pub(crate) fn variables(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(Failure::usage(format!(
                    "{}: {line:?} has no valid variable name",
                    file.display()
                )));
            }
            match (line.contains('='), std::env::var(&line)) {
                (true, _) => all.push(line),
                (false, Ok(value)) => all.push(format!("{line}={value}")),
                (false, Err(_)) => {}
            }
        }
    }
    for flag in flags {
        match (flag.contains('='), std::env::var(flag)) {
            (false, Ok(value)) => all.push(format!("{flag}={value}")),
            _ => all.push(flag.clone()),
        }
    }
    Ok(all)
}

/// Returns the labels of files, then of flags.
pub(crate) fn labels(files: &[PathBuf], flags: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let mut add = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        all.insert(key.to_owned(), value.to_owned());
    };
    for file in files {
        lines(file)?.iter().for_each(|line| add(line));
    }
    flags.iter().for_each(|flag| add(flag));
    Ok(all)
}

/// Returns the lines of a file without empty ones and comments.
fn lines(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_first_and_comments_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "# c\n\nA=1\n  B=x y\nNOT_SET_ANYWHERE\n").unwrap();
        let env = variables(std::slice::from_ref(&file), &["A=2".to_owned(), "GONE".to_owned()]).unwrap();
        assert_eq!(env, ["A=1", "B=x y", "A=2", "GONE"]);
        assert_eq!(labels(&[], &["k".to_owned(), "a=b=c".to_owned()]).unwrap()["a"], "b=c");
        std::fs::write(&file, "=x\n").unwrap();
        assert!(variables(&[file], &[]).is_err());
    }
}
